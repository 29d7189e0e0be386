"""The route table: load, share, verdict and a sparkline per route, for a part of time and keys.

    routes, verdicts ──┐
    load per window ───┼──▶ RouteBoard ── page(question, brush) ──▶ RoutePage (one page of texts)
    what is planned ───┘

Rules:

- Sums, order and filter work on arrays of numbers; texts are made for the rows of one page only,
  so that 100,000 routes cost what one page costs and two passes over numbers.
- Load that was not measured is no zero: it sorts last, and has no share.
- A brush of keys chooses the routes that touch them; their load is that of the whole route.

Not here: judging (`planner.detect`), planning, drawing.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from workbench.model.times import from_us, to_us
from workbench.report import words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import numpy.typing as npt
    import pyarrow as pa

    from workbench.model.keys import Span
    from workbench.model.plan import Objective
    from workbench.model.routes import RouteDescriptor
    from workbench.planner.detect import RouteVerdict

PAGE_ROWS: Final = 20
SPARK_POINTS: Final = 60
SPARK_WIDTH: Final = 120
SPARK_HEIGHT: Final = 22
CELLS_MAX: Final = 40_000_000
FILTER_CHARS_MAX: Final = 256
SORTS: Final = ("load", "share", "route", "keys", "group", "verdict", "rate", "peak")
_HEAT: Final = {"hot": 4, "cooling": 3, "warming": 2, "unknown": 1, "cold": 0}


@dataclass(frozen=True, slots=True)
class Brush:
    """A part of the picture; None means all of that axis.

    Attributes:
        since: Start of the time.
        until: End of it, exclusive.
        span: The keys.
    """

    since: datetime | None = None
    until: datetime | None = None
    span: Span | None = None


EVERYTHING: Final = Brush()


@dataclass(frozen=True, slots=True, eq=False)
class RouteLoads:
    """Load of every route in every window.

    Attributes:
        values: float64, shape (routes, columns), in the order of the routes; NaN not measured.
        first_us: Start of the first column.
        column_us: Length of a column: of a window, or of several where there are very many.
        until_us: End of the last.
    """

    values: npt.NDArray[np.float64]
    first_us: int
    column_us: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Question:
    """What to show of the routes.

    Attributes:
        sort: One of SORTS.
        descending: The largest first.
        text: Part of a key (`0x…` for bytes), or a route id; empty shows all.
        verdict: Only routes of this verdict; empty shows all.
        page: From 0.
        page_rows: At least 1.
    """

    sort: str = "load"
    descending: bool = True
    text: str = ""
    verdict: str = ""
    page: int = 0
    page_rows: int = PAGE_ROWS


@dataclass(frozen=True, slots=True)
class Spark:
    """A line of load over all of the time, as a path in SPARK_WIDTH × SPARK_HEIGHT.

    Attributes:
        path: Steps; gaps where nothing was measured.
        low: Left edge of the brushed part.
        width: Its width; 0 where all time is shown.
        label: The line in words.
    """

    path: str
    low: float
    width: float
    label: str


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One route as it is shown; texts, but for what is drawn."""

    route_id: int
    keys: str
    group: str
    state: str
    verdict: str
    certainty: str
    load: str
    share: str
    share_percent: float | None
    rate: str
    peak: str
    reason: str
    planned: str
    spark: Spark


@dataclass(frozen=True, slots=True)
class RoutePage:
    """One page of the table.

    Attributes:
        rows: At most `question.page_rows`.
        question: As it was answered: a page beyond the last is the last.
        first: Number of the first row, from 1; 0 where there is none.
        matching: How many routes pass filter and brush.
        total: How many routes there are.
        pages: How many pages; at least 1.
        brushed: The brush in words; empty where all is shown.
        load: All load of the brushed time, in words.
        objective: What load counts.
        counts: How many matching routes have which verdict.
    """

    rows: tuple[RouteRow, ...]
    question: Question
    first: int
    matching: int
    total: int
    pages: int
    brushed: str
    load: str
    objective: str
    counts: tuple[tuple[str, int], ...]


@dataclass(eq=False)
class RouteBoard:
    """The routes of a cluster with all that is known of them; answers pages.

    Attributes:
        routes: Ascending by start.
        loads: In their order.
        verdicts: By route id; empty while nobody judged.
        objective: What load counts.
        planned: By route id, what the plan in view does with it or why not.
    """

    routes: Sequence[RouteDescriptor]
    loads: RouteLoads
    verdicts: Mapping[int, RouteVerdict] = field(default_factory=dict)
    objective: str = "load"
    planned: Mapping[int, str] = field(default_factory=dict)
    _sums: dict[tuple[int, int], npt.NDArray[np.float64]] = field(default_factory=dict, repr=False)
    _orders: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict, repr=False)

    def page(self, question: Question, brush: Brush = EVERYTHING) -> RoutePage:
        """Return one page of the routes that the brush touches and the filter lets through."""
        low, high = self._columns(brush)
        loads = self._loads(low, high)
        total = float(np.nansum(loads))
        chosen = self._chosen(question, brush)
        ordered = chosen[self._order(question, loads)[chosen].argsort(kind="stable")]
        pages = max(-(-len(ordered) // question.page_rows), 1)
        at = min(max(question.page, 0), pages - 1)
        shown = ordered[at * question.page_rows : (at + 1) * question.page_rows]
        window = (low, high) if brush.since or brush.until else None
        return RoutePage(
            rows=tuple(self._row(int(index), loads, total, window) for index in shown),
            question=Question(
                question.sort,
                question.descending,
                question.text,
                question.verdict,
                at,
                question.page_rows,
            ),
            first=at * question.page_rows + 1 if len(shown) else 0,
            matching=len(ordered),
            total=len(self.routes),
            pages=pages,
            brushed=self._brushed(brush, low, high),
            load=words.whole(total) if np.isfinite(loads).any() else "not measured",
            objective=words.clean(self.objective),
            counts=self._counts(chosen),
        )

    def _columns(self, brush: Brush) -> tuple[int, int]:
        """Return the columns that lie in the brushed time, at least in part."""
        columns = self.loads.values.shape[1]
        low, high = 0, columns
        if brush.since is not None:
            low = (to_us(brush.since) - self.loads.first_us) // self.loads.column_us
        if brush.until is not None:
            high = -(-(to_us(brush.until) - self.loads.first_us) // self.loads.column_us)
        return min(max(low, 0), columns), min(max(high, 0), columns)

    def _loads(self, low: int, high: int) -> npt.NDArray[np.float64]:
        """Return the load of every route in these columns; NaN where none was measured."""
        if (low, high) not in self._sums:
            part = self.loads.values[:, low:high]
            sums = np.nansum(part, axis=1)
            sums[np.isnan(part).all(axis=1)] = np.nan
            if len(self._sums) > 8:
                self._sums.clear()
            self._sums[low, high] = sums
        return self._sums[low, high]

    def _chosen(self, question: Question, brush: Brush) -> npt.NDArray[np.int64]:
        low, high = 0, len(self.routes)
        if brush.span is not None:
            low = bisect_right(self.routes, brush.span.start, key=lambda r: r.span.start) - 1
            low = max(low, 0)
            if low < high and not _touches(self.routes[low], brush.span):
                low += 1
            if brush.span.end is not None:
                high = bisect_left(self.routes, brush.span.end, key=lambda r: r.span.start)
        rows = np.arange(low, max(low, high), dtype=np.int64)
        if question.verdict:
            wanted = _HEAT.get(question.verdict, math.nan)
            rows = rows[self._column("verdict")[rows] == wanted]
        if question.text:
            part, number = _needle(question.text[:FILTER_CHARS_MAX])
            kept = [row for row in rows.tolist() if _matches(self.routes[row], part, number)]
            rows = np.array(kept, dtype=np.int64)
        return rows

    def _order(self, question: Question, loads: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return what to sort by, ascending; what is not known comes last either way."""
        values = loads if question.sort in {"load", "share"} else self._column(question.sort)
        signed = -values if question.descending else values
        return np.where(np.isnan(values), np.inf, signed)

    def _column(self, name: str) -> npt.NDArray[np.float64]:
        if name not in self._orders:
            self._orders[name] = np.array(
                [self._value(name, index) for index in range(len(self.routes))], dtype=np.float64
            )
        return self._orders[name]

    def _value(self, name: str, index: int) -> float:
        route = self.routes[index]
        told = self.verdicts.get(route.route_id)
        match name:
            case "route":
                return float(route.route_id)
            case "group":
                return float(route.group)
            case "verdict":
                return np.nan if told is None else float(_HEAT.get(told.verdict, 0))
            case "rate":
                known = None if told is None else told.per_minute
                return np.nan if known is None else known
            case "peak":
                known = None if told is None else told.peak_per_minute
                return np.nan if known is None else known
            case _:
                return float(index)

    def _counts(self, chosen: npt.NDArray[np.int64]) -> tuple[tuple[str, int], ...]:
        if not self.verdicts:
            return ()
        codes = self._column("verdict")[chosen]
        counts = ((name, int(np.count_nonzero(codes == code))) for name, code in _HEAT.items())
        return tuple((name, count) for name, count in counts if count)

    def _row(
        self,
        index: int,
        loads: npt.NDArray[np.float64],
        total: float,
        window: tuple[int, int] | None,
    ) -> RouteRow:
        route, load = self.routes[index], float(loads[index])
        told = self.verdicts.get(route.route_id)
        measured = not np.isnan(load)
        share = load / total if measured and total else (0.0 if measured else None)
        reasons = () if told is None else told.reasons
        return RouteRow(
            route_id=route.route_id,
            keys=words.span_text(route.span),
            group=str(route.group),
            state=words.clean(str(route.state)).lower(),
            verdict="" if told is None else str(told.verdict),
            certainty="" if told is None else str(told.certainty),
            load=words.whole(load) if measured else "not measured",
            share="not measured" if share is None else words.percent(share),
            share_percent=None if share is None else 100 * share,
            rate=_rate(None if told is None else told.per_minute),
            peak=_rate(None if told is None else told.peak_per_minute),
            reason="; ".join(words.clean(each) for each in reasons),
            planned=words.clean(self.planned.get(route.route_id, "")),
            spark=spark(self.loads.values[index], window),
        )

    def _brushed(self, brush: Brush, low: int, high: int) -> str:
        parts = []
        if brush.since is not None or brush.until is not None:
            first, step = self.loads.first_us, self.loads.column_us
            end = min(first + high * step, self.loads.until_us)
            parts.append(words.time_range(from_us(first + low * step), from_us(end)))
        if brush.span is not None:
            parts.append(words.span_text(brush.span))
        return ", ".join(parts)


def spark(values: npt.NDArray[np.float64], window: tuple[int, int] | None) -> Spark:
    """Return load over time as a line of at most SPARK_POINTS steps, each the highest it joins.

    Args:
        values: One per column; NaN not measured.
        window: Columns of the brushed part; None for all.
    """
    columns = len(values)
    step = max(-(-columns // SPARK_POINTS), 1)
    padded = np.full(-(-columns // step) * step, np.nan)
    padded[:columns] = values
    groups = padded.reshape(-1, step)
    absent = np.isnan(groups).all(axis=1)
    points = np.where(np.isnan(groups), -np.inf, groups).max(axis=1, initial=-np.inf)
    top = float(np.nanmax(values)) if columns and not absent.all() else 0.0
    wide = SPARK_WIDTH / max(columns / step, 1)
    path, down = "", False
    for at, point in enumerate(points):
        if absent[at]:
            down = False
            continue
        y = SPARK_HEIGHT - 1 - (SPARK_HEIGHT - 2) * (float(point) / top if top > 0 else 0.0)
        path += f"V{y:.1f}" if down else f"M{at * wide:.1f} {y:.1f}"
        path += f"H{min((at + 1) * wide, SPARK_WIDTH):.1f}"
        down = True
    low, high = (0, 0) if window is None else window
    scale = SPARK_WIDTH / max(columns, 1)
    label = "not measured" if absent.all() else f"load over time, highest window {words.whole(top)}"
    return Spark(path, low * scale, max((high - low) * scale, 0.0), label)


def route_loads(  # noqa: PLR0913 - what the query was asked, named
    table: pa.Table,
    routes: Sequence[RouteDescriptor],
    objective: Objective,
    *,
    since: datetime,
    until: datetime,
    window_ms: int,
) -> RouteLoads:
    """Return the load per route and window.

    Args:
        table: Rows of the query `route_windows`: `route_id` (null is nobody's, and left out),
            `window_start`, `reads`, `writes`, `read_bytes`, `write_bytes`.
        routes: Ascending by start.
        objective: What counts as load.
        since: Start of the first window.
        until: End of the last.
        window_ms: Length of a window.
    """
    first, end, window_us = to_us(since), to_us(until), window_ms * 1_000
    windows = max(-(-(end - first) // window_us), 1)
    step = max(-(-windows * max(len(routes), 1) // CELLS_MAX), 1)
    values = np.full((len(routes), -(-windows // step)), np.nan)
    if table.num_rows and len(routes):
        ids = np.array([route.route_id for route in routes], dtype=np.int64)
        order = ids.argsort()
        rows = table.filter(table.column("route_id").is_valid())
        told = rows.column("route_id").to_numpy().astype(np.int64)
        place = order[np.searchsorted(ids[order], told)]
        starts = rows.column("window_start").cast("int64").to_numpy()
        column = np.clip((starts - first) // (window_us * step), 0, values.shape[1] - 1)
        load = _weighed(rows, objective)
        known = ~np.isnan(load)
        sums = np.zeros_like(values)
        np.add.at(sums, (place[known], column[known]), load[known])
        values[place[known], column[known]] = sums[place[known], column[known]]
    return RouteLoads(values, first, window_us * step, end)


def _weighed(rows: pa.Table, objective: Objective) -> npt.NDArray[np.float64]:
    """Return the load of each row; NaN where a counter that it needs is null."""
    load = np.zeros(rows.num_rows)
    for name, weight in (
        ("reads", objective.read_weight),
        ("writes", objective.write_weight),
        ("read_bytes", objective.byte_weight),
        ("write_bytes", objective.byte_weight),
        ("cpu_ns", objective.cpu_weight),
    ):
        if weight:
            load += weight * rows.column(name).cast("float64").to_numpy()
    return load


def _touches(route: RouteDescriptor, span: Span) -> bool:
    return (route.span.end is None or route.span.end > span.start) and (
        span.end is None or route.span.start < span.end
    )


def _needle(text: str) -> tuple[bytes, int | None]:
    """Return what a filter's text may stand for: bytes of a key, and a route id."""
    text = text.strip()
    if text.startswith("0x"):
        digits = text[2:]
        try:
            return bytes.fromhex(digits[: len(digits) // 2 * 2]), None
        except ValueError:
            return text.encode(), None
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
    return text.encode("utf-8", "surrogatepass"), number


def _matches(route: RouteDescriptor, part: bytes, number: int | None) -> bool:
    if number == route.route_id:
        return True
    end = route.span.end
    return part in route.span.start or (end is not None and part in end)


def _rate(per_minute: float | None) -> str:
    return "not measured" if per_minute is None else words.whole(per_minute)
