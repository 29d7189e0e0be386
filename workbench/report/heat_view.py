"""Geometry of the heat pictures: which row is which key, where a cut lies, what to label.

    lowest key  ┌──────────────┐ ┌──────────────┐
                │   panel 1    │ │   panel 2    │ ◀─ cut 1
     key axis   │              │ │              │ ◀─ cut 2
                └──────────────┘ └──────────────┘
                 time axis (UTC)   time axis

Two figures use it. *Load by key* shows a measured heat matrix on a log scale. *Load of the
owner* shows, at each key and window, the load of the whole route that owns the key, on a linear
scale (on a root scale where bursts would leave the rest dark). Its rows are the finest ranges
that any of the two sets of routes tells apart, drawn equally high, so that a heavy route is a
broad bright band and its parts are dark ones.

Places are percentages from the top left. All panels of a figure share rows, cuts and colours.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, assert_never

import numpy as np

from workbench.model.keys import Span, printable_key
from workbench.report import palette, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from workbench.heat.matrix import HeatMatrix
    from workbench.planner.replay import RouteSeries, Verification

ROWS_MAX: Final = 320
COLUMNS_MAX: Final = 720
KEY_TICKS_MAX: Final = 9
TIME_TICKS_MAX: Final = 5
# Cut labels closer than this overlap; they are pushed apart.
CUT_LABEL_PERCENT: Final = 4.6
CUT_LABELS_MAX: Final = 20
# A beginning that all keys share is left out of labels from this length on.
PREFIX_BYTES_MIN: Final = 3
LABEL_CHARS_MAX: Final = 20
ROUTE_LINES_MAX: Final = 100
LEGEND_TICKS_MAX: Final = 6
# Labels of the colour scale that would touch the last one are left out.
LEGEND_GAP_PERCENT: Final = 13
# A load this many times that of a busy window is a burst.
BURST_FACTOR: Final = 3

Scale = Literal["log", "linear", "root"]


@dataclass(frozen=True, slots=True)
class Tick:
    """A label on an axis: where, as a percentage, the text shown, and all of the text."""

    at: float
    text: str
    full: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """A proposed cut: the number of its action, and the split key."""

    number: int
    key: bytes


@dataclass(frozen=True, slots=True)
class CutMark:
    """A proposed cut.

    Attributes:
        at: Where it lies.
        label_at: Where its label found room.
        number: Of the action.
        key: The split key.
        text: The split key, without the beginning that all keys of the figure share.
    """

    at: float
    label_at: float
    number: int
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class HeatPanel:
    """One picture; `matrix` is pooled to the size that is drawn.

    Attributes:
        name: Stable, for tests and links.
        title: What it shows.
        note: When.
        alt: The picture in words.
        matrix: What is drawn.
        times: Labels of the time axis.
        route_lines: Where one route ends and the next begins.
    """

    name: str
    title: str
    note: str
    alt: str
    matrix: HeatMatrix
    times: tuple[Tick, ...]
    route_lines: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class HeatFigure:
    """Panels side by side on one key axis and one colour scale.

    Attributes:
        panels: Left to right.
        keys: Labels of the key axis.
        key_prefix: Beginning that all keys share and labels leave out; empty where short.
        cuts: Proposed cuts, top to bottom.
        cuts_more: How many cuts have no label.
        scale: How load becomes colour.
        top: The load that has the brightest colour.
        legend: Labels of the colour scale.
        legend_title: What the colours mean.
        absent: Whether any cell was not measured.
    """

    panels: tuple[HeatPanel, ...]
    keys: tuple[Tick, ...]
    key_prefix: str
    cuts: tuple[CutMark, ...]
    cuts_more: int
    scale: Scale
    top: float
    legend: tuple[Tick, ...]
    legend_title: str
    absent: bool


def place(spans: Sequence[Span], key: bytes) -> float:
    """Return where `key` lies on an axis of equally high rows, in rows from the first.

    Inside a row the place is that of the key in the key space, kept off the row's edges.
    """
    row = bisect_right([span.start for span in spans], key) - 1
    if row < 0:
        return 0.0
    span = spans[row]
    if key == span.start:
        return float(row)
    if span.end is not None and key >= span.end:
        return row + 1.0
    return row + min(max(_fraction(key, span), 0.08), 0.92)


def load_figures(
    heat: HeatMatrix | None, heat_after: HeatMatrix | None, cuts: Sequence[Cut]
) -> tuple[HeatFigure, ...]:
    """Return the figures of measured load: one where both matrices share rows, else one each."""
    from workbench.heat.matrix import pool  # noqa: PLC0415 - keeps the view models light

    given = [
        (name, title, pool(matrix, ROWS_MAX, COLUMNS_MAX), matrix)
        for name, title, matrix in (
            ("heat-load", "Planned on", heat),
            ("heat-came", "What came next", heat_after),
        )
        if matrix is not None and matrix.values.size
    ]
    if not given:
        return ()
    top = max(_top(matrix) for *_, matrix in given)
    shared = len({matrix.spans for *_, matrix in given}) == 1
    panels = [_load_panel(name, title, drawn, full) for name, title, drawn, full in given]
    groups = [panels] if shared else [[panel] for panel in panels]
    return tuple(
        _figure(
            group,
            scale="log",
            top=top,
            cuts=cuts,
            title=f"{words.clean(group[0].matrix.series)} per key range in "
            f"windows of {words.length(group[0].matrix.window_ms)}, log scale",
        )
        for group in groups
    )


def owner_figure(verification: Verification, cuts: Sequence[Cut]) -> HeatFigure | None:
    """Return before and after on one scale, or None where nothing was replayed."""
    from workbench.heat.matrix import pool  # noqa: PLC0415

    before, after = verification.before, verification.after
    if not before.loads.size or not after.loads.size:
        return None
    spans = _finest(before.spans, after.spans)
    top = float(max(before.loads.max(), after.loads.max()))
    scale: Scale = "root" if _is_bursty(before, top) else "linear"
    panels: list[HeatPanel] = []
    for name, title, series in (
        ("heat-before", "Before: routes as they were", before),
        ("heat-after", "After: routes of the plan", after),
    ):
        full = _owner_matrix(series, spans)
        drawn = pool(full, ROWS_MAX, COLUMNS_MAX)
        lines = sorted({place(drawn.spans, span.start) for span in series.spans} - {0.0})
        panels.append(
            HeatPanel(
                name=name,
                title=title,
                note=words.plural(len(series.spans), "route"),
                alt=f"{title}. {words.plural(len(series.spans), 'route')}; the heaviest carries "
                f"{words.percent(series.max_share)} of the load, and at most "
                f"{words.whole(float(series.loads.max()))} in one window.",
                matrix=drawn,
                times=_time_axis(drawn),
                route_lines=tuple(100 * line / len(drawn.spans) for line in lines)
                if len(lines) <= ROUTE_LINES_MAX
                else (),
            )
        )
    return _figure(
        panels,
        scale=scale,
        top=top,
        cuts=cuts,
        title=f"load of the route that owns the key, in windows of "
        f"{words.length(before.window_ms)}, {scale} scale",
    )


def legend_ticks(scale: Scale, top: float) -> tuple[Tick, ...]:
    """Return round loads and their places on the colour bar, from the very function that colours.

    The first is the least load of the scale, the last is `top`.
    """
    if top <= 0:
        return ()
    if scale == "log":
        decades = 10.0 ** np.arange(0, max(int(np.floor(np.log10(max(top, 1)))), 0) + 1)
        values = np.array([*decades[:: -(-len(decades) // (LEGEND_TICKS_MAX - 1))], top])
    else:
        parts = np.arange(1, 5) / 4
        values = top * (parts if scale == "linear" else parts**2)
    levels = _levels(values.reshape(1, -1), scale, top)[0]
    reach = palette.LEVELS - 1 - palette.LEVEL_LOAD
    places = [
        100 * (max(int(level), palette.LEVEL_LOAD) - palette.LEVEL_LOAD) / reach for level in levels
    ]
    return tuple(
        Tick(at, words.compact(float(value)))
        for index, (value, at) in enumerate(zip(values, places, strict=True))
        if index == len(values) - 1 or at <= 100 - LEGEND_GAP_PERCENT
    )


def levels_of(matrix: HeatMatrix, scale: Scale, top: float) -> npt.NDArray[np.uint8]:
    """Return the colour level of every cell, in the matrix's shape."""
    return _levels(matrix.values, scale, top)


def _levels(values: npt.NDArray[np.float64], scale: Scale, top: float) -> npt.NDArray[np.uint8]:
    from workbench.heat.matrix import quantise  # noqa: PLC0415

    match scale:
        case "linear":
            return palette.linear_levels(values, top)
        case "root":
            return palette.linear_levels(np.sqrt(values), np.sqrt(top))
        case "log":
            return quantise(values, levels=palette.LEVELS, top=top)
        case _:
            assert_never(scale)


def _load_panel(name: str, title: str, drawn: HeatMatrix, full: HeatMatrix) -> HeatPanel:
    totals = np.nansum(full.values, axis=1)
    hottest = int(totals.argmax())
    share = float(totals[hottest] / totals.sum()) if totals.sum() else 0.0
    return HeatPanel(
        name=name,
        title=title,
        note=words.time_range(
            full.times[0], full.times[-1] + timedelta(milliseconds=full.window_ms)
        ),
        alt=f"{title}: heat picture of {words.clean(full.series)}, "
        f"{words.plural(len(full.spans), 'key range')} "
        f"in {words.plural(len(full.times), 'window')}. The hottest range, "
        f"{words.span_text(full.spans[hottest])}, has {words.percent(share)} of the load.",
        matrix=drawn,
        times=_time_axis(drawn),
    )


def _figure(
    panels: Sequence[HeatPanel], *, scale: Scale, top: float, cuts: Sequence[Cut], title: str
) -> HeatFigure:
    spans = panels[0].matrix.spans
    prefix = _shared_prefix([*(span.start for span in spans), *(cut.key for cut in cuts)])
    marks = _cut_marks(spans, cuts, prefix)
    values = [panel.matrix.values for panel in panels]
    return HeatFigure(
        panels=tuple(panels),
        keys=_key_axis(spans, prefix),
        key_prefix=printable_key(prefix) if prefix else "",
        cuts=marks[:CUT_LABELS_MAX],
        cuts_more=max(len(marks) - CUT_LABELS_MAX, 0),
        scale=scale,
        top=top,
        legend=legend_ticks(scale, top),
        legend_title=title,
        absent=any(bool(np.isnan(each).any()) for each in values),
    )


def _shared_prefix(keys: Sequence[bytes]) -> bytes:
    """Return the bytes with which all keys begin, where leaving them out is worth it."""
    shown = [key for key in keys if key]
    low, high = min(shown, default=b""), max(shown, default=b"")
    shared = 0
    while shared < min(len(low), len(high)) and low[shared] == high[shared]:
        shared += 1
    return low[:shared] if len(shown) > 1 and shared >= PREFIX_BYTES_MIN else b""


def _label(key: bytes, prefix: bytes) -> str:
    """Return a key for a label: without the shared prefix, and cut where still long."""
    rest = key.removeprefix(prefix)
    text = f"…{printable_key(rest)}" if prefix and key and rest else words.key_text(key)
    return words.short(text, LABEL_CHARS_MAX)


def _key_axis(spans: Sequence[Span], prefix: bytes) -> tuple[Tick, ...]:
    """Return labels at the upper edge of evenly chosen rows, the first row's included."""
    step = max(-(-len(spans) // KEY_TICKS_MAX), 1)
    starts = [span.start for span in spans[::step]]
    return tuple(
        Tick(100 * index * step / len(spans), _label(start, prefix), words.key_text(start))
        for index, start in enumerate(starts)
    )


def _time_axis(matrix: HeatMatrix) -> tuple[Tick, ...]:
    return tuple(
        Tick(100 * column / len(matrix.times), text)
        for column, text in words.time_ticks(matrix.times, TIME_TICKS_MAX)
    )


def _cut_marks(spans: Sequence[Span], cuts: Sequence[Cut], prefix: bytes) -> tuple[CutMark, ...]:
    """Return the cuts top to bottom, numbered as the plan's actions, with labels kept apart."""
    numbered = sorted(
        (100 * place(spans, cut.key) / len(spans), cut.key, cut.number) for cut in cuts
    )
    shown = numbered[:CUT_LABELS_MAX]
    places = _apart([at for at, *_ in shown])
    labels = [*places, *(at for at, *_ in numbered[CUT_LABELS_MAX:])]
    return tuple(
        CutMark(at, label_at, number, printable_key(key), _label(key, prefix))
        for (at, key, number), label_at in zip(numbered, labels, strict=True)
    )


def _apart(places: Sequence[float]) -> list[float]:
    """Return ascending places moved as little as a sweep down and a sweep up need to."""
    moved: list[float] = []
    for at in places:
        moved.append(max(at, moved[-1] + CUT_LABEL_PERCENT) if moved else at)
    floor = 100.0
    for index in range(len(moved) - 1, -1, -1):
        moved[index] = min(moved[index], floor)
        floor = moved[index] - CUT_LABEL_PERCENT
    return moved


def _finest(before: Sequence[Span], after: Sequence[Span]) -> tuple[Span, ...]:
    """Return the ranges between any two neighbouring boundaries that some route owns."""
    edges = sorted(
        {span.start for span in (*before, *after)}
        | {span.end for span in (*before, *after) if span.end is not None}
    )
    spans = [Span(start, end) for start, end in zip(edges, [*edges[1:], None], strict=True)]
    return tuple(
        span for span in spans if _owner(before, span.start) >= 0 or _owner(after, span.start) >= 0
    )


def _owner(spans: Sequence[Span], key: bytes) -> int:
    index = bisect_right(spans, key, key=lambda span: span.start) - 1
    return index if index >= 0 and key in spans[index] else -1


def _owner_matrix(series: RouteSeries, spans: Sequence[Span]) -> HeatMatrix:
    from workbench.heat.matrix import HeatMatrix  # noqa: PLC0415

    owners = [_owner(series.spans, span.start) for span in spans]
    values = np.full((len(spans), len(series.times)), np.nan)
    for row, owner in enumerate(owners):
        if owner >= 0:
            values[row] = series.loads[owner]
    return HeatMatrix(
        values=values,
        spans=tuple(spans),
        times=series.times,
        window_ms=series.window_ms,
        series="load",
        route_ids=tuple(owner + 1 for owner in owners),
    )


def _is_bursty(before: RouteSeries, top: float) -> bool:
    """Tell whether a few windows are so wild that a linear scale leaves all others dark."""
    heaviest = before.loads.max(axis=0)
    busy = heaviest[heaviest > 0]
    return bool(busy.size) and top > BURST_FACTOR * float(np.percentile(busy, 90))


def _top(matrix: HeatMatrix) -> float:
    return float(np.nanmax(np.nan_to_num(matrix.values)))


def _fraction(key: bytes, span: Span) -> float:
    """Return where `key` lies in `span`, 0 to 1, reading keys as big-endian fractions."""
    end = b"\xff" * (len(span.start) + 1) if span.end is None else span.end
    prefix = 0
    while prefix < min(len(span.start), len(end)) and span.start[prefix] == end[prefix]:
        prefix += 1
    low, high, at = (
        int.from_bytes(each[prefix : prefix + 8].ljust(8, b"\0"), "big")
        for each in (span.start, end, key)
    )
    return (at - low) / (high - low) if high > low else 0.5
