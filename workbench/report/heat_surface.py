"""Heat surface: what the heatmap widget shows, cut into pieces that are small enough to send.

    LOAD_WINDOW ──▶ HeatMatrix per series ──┬─ overview, tile ──▶ one byte a cell, to be painted
                                            ├─ exact ──────────▶ what lies under the pointer
    routes, leaders ──▶ facts of each row ──┴─ table, lineage ─▶ text and lines

Rules:

- A byte is 0 where nothing was measured, 1 for zero, 2 to 255 for load on a log scale whose top
  is that of the whole series, so that pieces fit each other. Joined cells are as bright as the
  hottest of them: a single hot cell is never lost.
- A piece has at most CELLS_MAX cells. Rows and columns are counted in the whole matrix;
  joined row `i` of `down` begins at `first + i * rows // down`, a joined column has `factor`.
- Loads that are told, in `exact` and `table`, are added up in whole numbers from the matrix, never
  from bytes. None is *not measured*.
- Keys become text through `words.key_text` only, and every other foreign text through
  `words.clean`. The pieces are JSON and bytes; nothing in them is markup.
- A series is computed when it is first asked for.

Nothing is sent from here, and no colour is chosen: that is the widget's part.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from workbench.errors import InvalidArgument, InvalidInput
from workbench.heat.matrix import (
    SERIES,
    WRITE_WEIGHT,
    HeatMatrix,
    heat_matrix,
    pool_values,
    quantise,
)
from workbench.model.times import from_us, hlc_to_us, to_us
from workbench.report import words
from workbench.report.heat_pieces import (
    Box,
    Exact,
    HeatTable,
    LoadedSeries,
    SplitLine,
    TableRow,
    Tile,
    added,
    whole_sum,
)
from workbench.report.heat_view import legend_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from workbench.model.keys import Span
    from workbench.model.routes import RouteDescriptor

# 1,000 × 1,440 goes whole; with labels the first message stays under 2 MB.
OVERVIEW_ROWS_MAX: Final = 1_000
OVERVIEW_COLUMNS_MAX: Final = 1_440
CELLS_MAX: Final = 2_000_000
TABLE_ROWS_MAX: Final = 50
LINEAGE_MAX: Final = 500
PREFIX_BYTES_MIN: Final = 3


class HeatSurface:
    """All series of one cluster over one time, as pieces to send.

    Attributes:
        series: The names that can be asked for, the first one to show first.
        title: What it is of, cleaned.
        spans: The keys of each row, ascending.
        first_us: Start of the first window.
        window_us: Length of a window.
        columns: How many windows.
        route_ids: Per row, the route.
        group_of: Per row, its group, 0 where not known.
        groups: Names of the groups, in the order of their indices in `facts`.
        leaders: Names of the leading nodes, likewise.
    """

    def __init__(
        self,
        series_of: Callable[[str], HeatMatrix],
        names: Sequence[str],
        *,
        routes: Iterable[RouteDescriptor] = (),
        leaders: Mapping[int, str] | None = None,
        title: str = "",
    ) -> None:
        """Take the series from `series_of`; use `surface_of` or its sisters to make one."""
        assert names
        self._series_of = series_of
        self._loaded: dict[str, LoadedSeries] = {}
        self.series = tuple(names)
        self.title = words.clean(title)
        first = series_of(names[0])
        self.spans = first.spans
        self.columns = len(first.times)
        self.first_us = to_us(first.times[0]) if first.times else 0
        self.window_us = first.window_ms * 1_000
        self.route_ids = first.route_ids
        self._starts = [span.start for span in first.spans]
        self._loaded[names[0]] = LoadedSeries(first)
        routes = tuple(routes)
        group_of = {route.route_id: route.group for route in routes}
        self.group_of = tuple(group_of.get(each, 0) for each in self.route_ids)
        self._leader_of = {group: words.clean(name) for group, name in (leaders or {}).items()}
        known = sorted(set(self.group_of))
        self.groups = tuple(f"group {group}" if group else "not known" for group in known)
        self._group_at = {group: index for index, group in enumerate(known)}
        names_of = sorted({self._leader_of.get(group, "") for group in known})
        self.leaders = tuple(name or "not known" for name in names_of)
        self._leader_at = {name: index for index, name in enumerate(names_of)}
        self._prefix = _shared_prefix(self._starts)
        lines = split_lines(routes, self)
        self.lineage, self.lineage_more = lines[:LINEAGE_MAX], len(lines[LINEAGE_MAX:])

    @property
    def rows(self) -> int:
        """Number of key ranges."""
        return len(self.spans)

    @property
    def whole(self) -> Box:
        """All cells."""
        return Box(0, self.rows, 0, self.columns)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not self.rows or not self.columns

    def matrix(self, series: str) -> HeatMatrix:
        """Return a series whole."""
        return self._load(series).matrix

    def overview(self, series: str) -> Tile:
        """Return all of a series, joined until it fits the first message."""
        return self.tile(
            series, self.whole, rows_max=OVERVIEW_ROWS_MAX, columns_max=OVERVIEW_COLUMNS_MAX
        )

    def tile(self, series: str, box: Box, *, rows_max: int, columns_max: int) -> Tile:
        """Return a piece of a series in at most so many joined rows and columns.

        Both limits are lowered where together they exceed CELLS_MAX.

        Raises:
            InvalidInput: code heat_box_invalid.
        """
        loaded = self._load(series)
        if self.is_empty:
            return Tile(box, b"", 0, 0, 1, self._facts(np.empty(0, dtype=np.int64), ()))
        self._check(box)
        rows_max = max(min(rows_max, CELLS_MAX), 1)
        columns_max = max(min(columns_max, CELLS_MAX // min(rows_max, box.row_end - box.row)), 1)
        values, factor = pool_values(loaded.values[box.rows, box.columns], rows_max, columns_max)
        down, across = values.shape
        levels = np.ascontiguousarray(quantise(values, top=loaded.top)).tobytes()
        rows = box.row_end - box.row
        tops = box.row + np.arange(down) * rows // down
        ends = [*tops[1:].tolist(), box.row_end]
        leads = [
            low if high - low == 1 else low + int(loaded.hottest[low:high].argmax())
            for low, high in zip(tops.tolist(), ends, strict=True)
        ]
        return Tile(box, levels, down, across, factor, self._facts(tops, leads))

    def frame(self, series: str) -> dict[str, Any]:
        """Return what is to be known of a series beside its cells, as JSON."""
        loaded = self._load(series)
        lines = self.lineage
        return {
            "title": self.title,
            "series": series,
            "all": list(self.series),
            "rows": self.rows,
            "columns": self.columns,
            "first_us": self.first_us,
            "window_us": self.window_us,
            "window": words.length(self.window_us / 1_000),
            "prefix": words.key_text(self._prefix) if self._prefix else "",
            "legend": [[tick.at / 100, tick.text] for tick in legend_ticks("log", loaded.top)],
            "groups": list(self.groups),
            "leaders": list(self.leaders),
            "lineage": [[each.column, each.row, each.row_first, each.row_end] for each in lines],
            "lineage_more": self.lineage_more,
        }

    def exact(self, series: str, box: Box) -> Exact:
        """Return the hottest cell of a box, and its sum.

        Raises:
            InvalidInput: code heat_box_invalid.
        """
        self._check(box)
        values = self._load(series).values[box.rows, box.columns]
        sums, measured = added(values)
        known = int(measured.sum())
        if not known:
            return Exact(box.row, box.column, None, None, values.size, values.size)
        at = int(np.nanargmax(values))
        row, column = divmod(at, values.shape[1])
        return Exact(
            row=box.row + row,
            column=box.column + column,
            load=int(values[row, column]),
            total=whole_sum(sums),
            cells=values.size,
            absent=values.size - known,
        )

    def table(self, series: str, box: Box | None = None) -> HeatTable:
        """Return the heaviest key ranges of a box, or of everything, and exact sums over it.

        Raises:
            InvalidInput: code heat_box_invalid.
        """
        if self.is_empty:
            return HeatTable((), 0, 0, 0, None, None, 0, self.first_us, self.first_us)
        box = box or self.whole
        self._check(box)
        loaded = self._load(series)
        sums, measured = loaded.of_rows(box)
        cells = len(sums) * (box.column_end - box.column)
        known = int(measured.sum())
        load = whole_sum(sums) if known else None
        # Rows without a measured cell come last, after those with zero.
        order = np.argsort(np.where(measured > 0, -sums, 1), kind="stable")[:TABLE_ROWS_MAX]
        return HeatTable(
            rows=tuple(
                self._table_row(loaded, box, int(at), int(sums[at]) if measured[at] else None, load)
                for at in order
            ),
            ranges=len(sums),
            routes=len(set(self.route_ids[box.rows])),
            windows=box.column_end - box.column,
            load=load,
            share=_share(load, loaded.total),
            absent=cells - known,
            since_us=self.window_start_us(box.column),
            until_us=self.window_start_us(box.column_end),
        )

    def window_start_us(self, column: int) -> int:
        """Return when the window of a column starts, in microseconds since the epoch."""
        return self.first_us + column * self.window_us

    def group(self, row: int) -> int | None:
        """Return the group of a row, None where it is not known."""
        return self.group_of[row] or None

    def leader(self, row: int) -> str:
        """Return the node that leads the group of a row; empty where not known."""
        return self._leader_of.get(self.group_of[row], "")

    def rows_of(self, span: Span) -> tuple[int, int] | None:
        """Return the first and last row that `span` overlaps, None where it meets none."""
        first = max(bisect_right(self._starts, span.start) - 1, 0)
        while first < self.rows and not _reaches(self.spans[first], span.start):
            first += 1
        end = self.rows if span.end is None else bisect_left(self._starts, span.end)
        return (first, end - 1) if first < end else None

    def columns_of(self, since_us: int, until_us: int) -> tuple[int, int] | None:
        """Return the first and last column of a time, end exclusive; None where it meets none."""
        if self.is_empty:
            return None
        first = max((since_us - self.first_us) // self.window_us, 0)
        last = min(-(-(until_us - self.first_us) // self.window_us), self.columns) - 1
        return (first, last) if first <= last else None

    def row_place(self, key: bytes) -> int:
        """Return the first row that starts at or after `key`."""
        return bisect_left(self._starts, key)

    def _load(self, series: str) -> LoadedSeries:
        found = self._loaded.get(series)
        if found is not None:
            return found
        if series not in self.series:
            raise InvalidArgument(
                f"there is no series {series!r:.40}",
                code="series_unknown",
                hint=f"known are {', '.join(self.series)}",
            )
        matrix = self._series_of(series)
        if matrix.spans != self.spans or len(matrix.times) != self.columns:
            raise InvalidInput(
                f"series {series} has other key ranges or windows than {self.series[0]}",
                code="heat_series_differ",
                hint="make all series of one load table",
            )
        self._loaded[series] = found = LoadedSeries(matrix)
        return found

    def _check(self, box: Box) -> None:
        if not (
            0 <= box.row < box.row_end <= self.rows
            and 0 <= box.column < box.column_end <= self.columns
        ):
            raise InvalidInput(
                f"rows {box.row} to {box.row_end} and columns {box.column} to {box.column_end} "
                f"are not in {self.rows} × {self.columns} cells",
                code="heat_box_invalid",
                hint="give a part of the matrix, first before end",
            )

    def _facts(self, tops: npt.NDArray[np.int64], leads: Sequence[int]) -> dict[str, list[Any]]:
        prefix = self._prefix
        groups = [self.group_of[lead] for lead in leads]
        return {
            "labels": [_label(self._starts[top], prefix) for top in tops],
            # As text: an id may exceed what a script counts exactly.
            "route": [str(self.route_ids[lead]) for lead in leads],
            "group": [self._group_at[group] for group in groups],
            "leader": [self._leader_at[self._leader_of.get(group, "")] for group in groups],
        }

    def _table_row(
        self, loaded: LoadedSeries, box: Box, at: int, load: int | None, total: int | None
    ) -> TableRow:
        row = box.row + at
        cells = loaded.values[row, box.columns]
        column = None if load is None else int(np.nanargmax(cells))
        return TableRow(
            row=row,
            span=words.span_text(self.spans[row]),
            route_id=self.route_ids[row],
            group=self.group(row),
            leader=self.leader(row),
            load=load,
            share=_share(load, total),
            peak=None if column is None else int(cells[column]),
            peak_us=None if column is None else self.window_start_us(box.column + column),
        )


def surface_of(  # noqa: PLR0913 - the parts of a picture, named
    load: pa.Table,
    *,
    routes: Iterable[RouteDescriptor] = (),
    leaders: Mapping[int, str] | None = None,
    series: str = "score",
    write_weight: int = WRITE_WEIGHT,
    title: str = "",
) -> HeatSurface:
    """Return the surface of a load table with all SERIES, each computed when first shown.

    Args:
        load: LOAD_WINDOW schema, one cluster, windows of one length.
        routes: Those of now and of before: they give groups, and the splits that are drawn.
        leaders: By group, the name of the node that leads it.
        series: The one to show first.
        write_weight: Weight of a write in the score.
        title: Untrusted text.

    Raises:
        NotFound: code load_absent.
        InvalidInput: as `heat_matrix`.
    """
    names = [series, *(name for name in SERIES if name != series)]

    def series_of(name: str) -> HeatMatrix:
        return heat_matrix(load, name, write_weight=write_weight)

    return HeatSurface(series_of, names, routes=routes, leaders=leaders, title=title)


def surface_of_matrices(
    matrices: Iterable[HeatMatrix],
    *,
    routes: Iterable[RouteDescriptor] = (),
    leaders: Mapping[int, str] | None = None,
    title: str = "",
) -> HeatSurface:
    """Return the surface of matrices that share rows and windows, one per series.

    Raises:
        InvalidInput: code heat_series_differ, when a series is first shown.
    """
    by_name = {matrix.series: matrix for matrix in matrices}
    if not by_name:
        return empty_surface(title)
    return HeatSurface(
        by_name.__getitem__, tuple(by_name), routes=routes, leaders=leaders, title=title
    )


def empty_surface(title: str = "") -> HeatSurface:
    """Return a surface without rows: there is no load to show yet."""
    nothing = HeatMatrix(np.empty((0, 0)), (), (), 60_000, "score", ())
    return surface_of_matrices([nothing], title=title)


def split_lines(routes: Iterable[RouteDescriptor], surface: HeatSurface) -> tuple[SplitLine, ...]:
    """Return the splits that lie within a surface's time and keys, newest first."""
    if surface.is_empty:
        return ()
    children: dict[tuple[int, int], dict[int, Span]] = {}
    for route in routes:
        if route.parent_route_id and route.split_at_hlc:
            family = (route.parent_route_id, route.split_at_hlc)
            children.setdefault(family, {})[route.route_id] = route.span
    lines = []
    for (parent, hlc), found in children.items():
        column = (hlc_to_us(hlc) - surface.first_us) / surface.window_us
        spans = sorted(found.values(), key=lambda span: span.start)
        if not 0 <= column <= surface.columns or len(spans) < 2:
            continue
        first, last = surface.row_place(spans[0].start), spans[-1].end
        end = surface.rows if last is None else surface.row_place(last)
        lines += [
            SplitLine(column, row, first, end, parent, words.key_text(span.start))
            for span in spans[1:]
            if first < (row := surface.row_place(span.start)) < end
        ]
    return tuple(sorted(lines, key=lambda line: (-line.column, line.row)))


def exact_json(surface: HeatSurface, series: str, box: Box) -> dict[str, Any]:
    """Return what lies under the pointer, as text to be shown."""
    found = surface.exact(series, box)
    group = surface.group(found.row)
    start = from_us(surface.window_start_us(found.column))
    end = from_us(surface.window_start_us(found.column + 1))
    return {
        "row": found.row,
        "column": found.column,
        "load": "not measured" if found.load is None else f"{found.load:,}",
        "total": None if found.total is None else f"{found.total:,}",
        "cells": found.cells,
        "absent": found.absent,
        "span": words.span_text(surface.spans[found.row]),
        "route": str(surface.route_ids[found.row]),
        "group": "not known" if group is None else str(group),
        "leader": surface.leader(found.row),
        "time": words.time_range(start, end),
    }


def table_json(table: HeatTable) -> dict[str, Any]:
    """Return the table as text to be shown."""

    def number(value: int | None) -> str:
        return "–" if value is None else f"{value:,}"

    def share(value: float | None) -> str:
        return "–" if value is None else words.percent(value)

    return {
        "rows": [
            [
                each.span,
                str(each.route_id),
                "–" if each.group is None else str(each.group),
                each.leader or "–",
                number(each.load),
                share(each.share),
                number(each.peak),
                "–" if each.peak_us is None else words.instant(from_us(each.peak_us)),
            ]
            for each in table.rows
        ],
        "at": [each.row for each in table.rows],
        "ranges": table.ranges,
        "routes": table.routes,
        "windows": table.windows,
        "load": "not measured" if table.load is None else f"{table.load:,}",
        "share": share(table.share),
        "absent": table.absent,
        "time": words.time_range(from_us(table.since_us), from_us(table.until_us))
        if table.windows
        else "",
    }


def _share(part: int | None, total: int | None) -> float | None:
    if part is None or total is None:
        return None
    return part / total if total else 0.0


def _reaches(span: Span, key: bytes) -> bool:
    return span.end is None or span.end > key


def _shared_prefix(starts: Sequence[bytes]) -> bytes:
    """Return the bytes with which all keys but the lowest begin; none where they are few."""
    shown = [key for key in starts if key]
    if len(shown) < 2:
        return b""
    low, high = shown[0], shown[-1]
    shared = 0
    while shared < min(len(low), len(high)) and low[shared] == high[shared]:
        shared += 1
    return low[:shared] if shared >= PREFIX_BYTES_MIN else b""


def _label(key: bytes, prefix: bytes) -> str:
    rest = key.removeprefix(prefix)
    return f"…{words.key_text(rest)}" if prefix and key and rest else words.key_text(key)
