"""Matrix: load by key range and time, to be drawn.

    LOAD_WINDOW table ──▶ heat_matrix ──▶ HeatMatrix ──▶ pool ──▶ quantise ──▶ bytes to paint

Rules:

- A row is an *elementary interval* of the key space: the key space is cut at every bound that
  any bucket has in any window, so that matrices stay right across splits. A bucket that covers
  several rows is spread over them evenly, in whole numbers: no count is lost or made.
- A cell is the load of one row in one window, as counted, never a rate; counts are exact up to
  2**53. NaN is *not measured*, which is not zero; windows without any rows are columns of NaN.
- Parent and children of a split may both have load in the window of the split: it adds up. The
  same route twice over the same keys in one window is double counting and is refused.
- `pool` keeps the hottest cell of what it joins, `pool_sum` the sum. A pooled cell is absent
  only when all of its cells are.

Nothing is drawn here: colours, labels and pixels belong to the report and the widgets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from workbench.errors import InvalidArgument, InvalidInput
from workbench.heat.grid import Grid, Layout, WindowRows, build_grid
from workbench.model.keys import Span, printable_key
from workbench.model.times import from_us, rfc3339_us

if TYPE_CHECKING:
    from datetime import datetime

    import numpy.typing as npt
    import pyarrow as pa

SERIES: Final = ("reads", "writes", "bytes", "score")
# Drawn where it is asked for; few sources tell it, so pages do not offer it.
CPU_SERIES: Final = "cpu_ns"
WRITE_WEIGHT: Final = 4
LEVEL_ABSENT: Final = 0
LEVEL_ZERO: Final = 1
LEVEL_LOAD: Final = 2
_SUM_MAX: Final = 1 << 62


@dataclass(frozen=True, slots=True, eq=False)
class HeatMatrix:
    """Load by key range and window.

    Attributes:
        values: float64, shape (rows, columns): rows are key ranges ascending, columns windows
            ascending; NaN is not measured.
        spans: The keys of each row; neighbours may leave a gap that no route holds.
        times: Start of each window, evenly spaced.
        window_ms: Length of a window.
        series: What the values are, one of SERIES or CPU_SERIES.
        route_ids: Per row, the route that held the keys in the last window with a row for them;
            of a pooled row, the route of its hottest row.
    """

    values: npt.NDArray[np.float64]
    spans: tuple[Span, ...]
    times: tuple[datetime, ...]
    window_ms: int
    series: str
    route_ids: tuple[int, ...]


def heat_matrix(load: pa.Table, series: str, *, write_weight: int = WRITE_WEIGHT) -> HeatMatrix:
    """Return the load of every bucket in every window.

    Args:
        load: LOAD_WINDOW schema, one cluster, windows of one length, rows in any order.
        series: `reads`, `writes`, `bytes` (read and written), `cpu_ns` or `score` (weighted
            writes and reads). A cell is absent where one of the counters that it needs is null.
        write_weight: Weight of a write in the score.

    Raises:
        InvalidArgument: code series_unknown.
        NotFound: code load_absent.
        InvalidInput: codes heat_clusters_mixed, heat_windows_uneven, heat_bucket_invalid,
            heat_buckets_overlap, heat_counters_too_large, heat_too_large.
    """
    weights = _weights(series, write_weight)
    grid = build_grid(load, tuple(weights))
    total, seen = _blank(grid)
    pairs = 0
    for window, layout in grid.layouts():
        load_of, measured = _weighed(grid.table, window, weights)
        interval = layout.interval
        if not layout.single:
            load_of, measured = _spread(load_of, layout), measured[layout.source]
        if not measured.all():
            interval, load_of = interval[measured], load_of[measured]
        np.add.at(total[window.column], interval, load_of.astype(np.float64))
        seen[window.column, interval] = True
        pairs += len(interval)
    if pairs != np.count_nonzero(seen):
        _check_no_route_twice(grid)
    return _matrix(grid, total, seen, series)


def route_matrix(load: pa.Table, series: str, *, write_weight: int = WRITE_WEIGHT) -> HeatMatrix:
    """Return the same rows and columns, where each cell is the load of its whole route.

    This shows how hot the route is that serves a key: it is what a split lowers. Columns do not
    add up to the load. Where two routes held a row in one window (a split), the hotter is shown.
    Arguments and errors are those of `heat_matrix`.
    """
    weights = _weights(series, write_weight)
    grid = build_grid(load, tuple(weights))
    total, seen = _blank(grid)
    routes = np.empty(0, dtype=np.uint64)
    route = np.empty(0, dtype=np.int64)
    for window, layout in grid.layouts():
        load_of, measured = _weighed(grid.table, window, weights)
        if not np.array_equal(mine := _routes(grid, window), routes):
            routes, (_, route) = mine, np.unique(mine, return_inverse=True)
        of_route = np.zeros(window.count)
        np.add.at(of_route, route, np.where(measured, load_of, 0).astype(np.float64))
        chosen = layout.source[measured[layout.source]]
        interval = layout.interval[measured[layout.source]]
        np.maximum.at(total[window.column], interval, of_route[route[chosen]])
        seen[window.column, interval] = True
    return _matrix(grid, total, seen, series)


def pool(matrix: HeatMatrix, rows_max: int, columns_max: int) -> HeatMatrix:
    """Join neighbouring cells until the matrix fits, keeping the hottest of those joined.

    Rows are joined into groups whose sizes differ by at most one, columns into groups of one
    size (the last may be shorter), so that the windows stay even.
    """
    return _pooled(matrix, rows_max, columns_max, _hottest)


def pool_sum(matrix: HeatMatrix, rows_max: int, columns_max: int) -> HeatMatrix:
    """Join neighbouring cells like `pool`, adding them up: the total stays the same."""
    return _pooled(matrix, rows_max, columns_max, _added)


def pool_values(
    values: npt.NDArray[np.float64], rows_max: int, columns_max: int
) -> tuple[npt.NDArray[np.float64], int]:
    """Return the cells that `pool` makes of bare values, and how many columns each joins.

    Of `rows` rows the joined row `i` of `n` begins at row `i * rows // n`.
    """
    _check_pool(rows_max, columns_max)
    rows, columns = values.shape
    factor = max(1, -(-columns // columns_max))
    if factor > 1:
        # Whole columns against each other: several times as fast as reducing along the rows.
        joined = values[:, ::factor].copy(order="K")
        for step in range(1, factor):
            more = values[:, step::factor]
            np.fmax(joined[:, : more.shape[1]], more, out=joined[:, : more.shape[1]])
        values = joined
    groups = min(rows, rows_max)
    if groups < rows:
        values = _hottest(values, np.arange(groups) * rows // groups, 0)
    return values, factor


def quantise(
    values: npt.NDArray[np.float64], *, levels: int = 256, top: float | None = None
) -> npt.NDArray[np.uint8]:
    """Return a byte per cell: 0 absent, 1 zero, from 2 up the load on a logarithmic scale.

    Args:
        values: Any shape; NaN is absent, others are not negative.
        levels: Number of levels, 3 to 256; the hottest cell gets `levels - 1`.
        top: The value of the highest level; those above get it, too. Two matrices quantised
            with one `top` can be compared. None takes the greatest value.
    """
    if not 3 <= levels <= 256:
        raise InvalidArgument(
            f"cannot quantise to {levels} levels",
            code="levels_invalid",
            hint="give a number from 3 to 256",
        )
    if top is None:
        top = float(np.fmax.reduce(values, axis=None, initial=0.0))
    reach = levels - 1 - LEVEL_LOAD
    scale = reach / np.log1p(top) if top > 0 else np.inf
    with np.errstate(invalid="ignore"):  # 0 × infinity, where nothing has load
        level = np.log1p(values) * scale
    # A hair more than the exact level, so that rounding never dims the hottest cell.
    level += LEVEL_LOAD + 1e-9
    np.minimum(level, levels - 1, out=level)
    level[values == 0] = LEVEL_ZERO
    level[np.isnan(values)] = LEVEL_ABSENT
    return level.astype(np.uint8)


def _weights(series: str, write_weight: int) -> dict[str, int]:
    """Return the counters that a series adds up, with their weights."""
    if series not in {*SERIES, CPU_SERIES} or write_weight < 0:
        raise InvalidArgument(
            f"there is no series {series!r} with a write weight of {write_weight}",
            code="series_unknown",
            hint=f"known are {', '.join((*SERIES, CPU_SERIES))}; the weight is a whole number "
            "from 0",
        )
    if series == "bytes":
        return {"read_bytes": 1, "write_bytes": 1}
    if series == "score":
        return {"reads": 1, "writes": write_weight}
    return {series: 1}


def _blank(grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return load and presence, one line per window: a window's cells lie side by side."""
    shape = (grid.columns, grid.intervals)
    return np.zeros(shape), np.zeros(shape, dtype=np.bool_)


def _weighed(
    table: pa.Table, window: WindowRows, weights: dict[str, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the load of each row of a window, and which of them were measured."""
    load = np.zeros(window.count, dtype=np.int64)
    measured = np.ones(window.count, dtype=np.bool_)
    reach = 0
    for name, weight in weights.items():
        column = table.column(name).slice(window.start, window.count)
        if column.null_count:
            measured &= column.is_valid().to_numpy()
            column = column.fill_null(0)
        values = column.to_numpy()
        reach += weight * int(values.max())
        if reach > _SUM_MAX:
            raise InvalidInput(
                f"{name} of {int(values.max())} in one window cannot be added up",
                code="heat_counters_too_large",
                hint="counters are per window, not since the start of the process",
            )
        load += values * weight
    return load, measured


def _spread(load: npt.NDArray[np.int64], layout: Layout) -> npt.NDArray[np.int64]:
    """Return each row's load divided over its intervals in whole numbers that add up to it."""
    part, parts = layout.part, layout.parts
    quotient, rest = np.divmod(load[layout.source], parts)
    share: npt.NDArray[np.int64] = quotient + (part + 1) * rest // parts - part * rest // parts
    return share


def _routes(grid: Grid, window: WindowRows) -> npt.NDArray[np.uint64]:
    """Return the route of each row of a window."""
    routes: npt.NDArray[np.uint64] = (
        grid.table.column("route_id").slice(window.start, window.count).to_numpy()
    )
    return routes


def _check_no_route_twice(grid: Grid) -> None:
    """Raise InvalidInput where one route has overlapping buckets in one window."""
    for window in grid.windows:
        route = _routes(grid, window)
        low = grid.low[window.layout_at : window.layout_at + window.count]
        high = grid.high[window.layout_at : window.layout_at + window.count]
        order = np.lexsort((low, route))
        before, after = order[:-1], order[1:]
        twice = (route[before] == route[after]) & (high[before] > low[after])
        if twice.any():
            row = after[int(np.argmax(twice))]
            start = grid.bounds[low[row]]
            assert start is not None
            moment = rfc3339_us(grid.first_us + window.column * grid.window_us)
            raise InvalidInput(
                f"route {route[row]} has load twice for {printable_key(start)} in the window "
                f"of {moment}",
                code="heat_buckets_overlap",
                hint="the same load was collected twice; read one of the two datasets",
            )


def _matrix(
    grid: Grid, total: npt.NDArray[np.float64], seen: npt.NDArray[np.bool_], series: str
) -> HeatMatrix:
    """Return the matrix of the intervals that some bucket covers."""
    total[~seen] = np.nan
    values = total.T
    routes = _last_routes(grid)
    kept = np.flatnonzero(routes)
    if len(kept) < grid.intervals:
        values, routes = values[kept], routes[kept]
    spans: list[Span] = []
    for index in kept:
        start = grid.bounds[index]
        assert start is not None
        spans.append(Span(start, grid.bounds[index + 1]))
    return HeatMatrix(
        values=values,
        spans=tuple(spans),
        times=tuple(from_us(grid.first_us + c * grid.window_us) for c in range(grid.columns)),
        window_ms=grid.window_us // 1_000,
        series=series,
        route_ids=tuple(int(route) for route in routes),
    )


def _last_routes(grid: Grid) -> npt.NDArray[np.uint64]:
    """Return for each interval the route of its last row in time, 0 where it has none.

    Of several routes in that window the greatest id is taken: ids grow, so it is the newest.
    """
    routes = np.zeros(grid.intervals, dtype=np.uint64)
    scanned = -1
    for window in reversed(grid.windows):
        if window.layout_at == scanned:
            continue  # the same intervals as in the window after
        scanned = window.layout_at
        layout = grid.layout(window)
        here = np.zeros(grid.intervals, dtype=np.uint64)
        np.maximum.at(here, layout.interval, _routes(grid, window)[layout.source])
        routes = np.where(routes == 0, here, routes)
        if routes.all():
            break
    return routes


def _pooled(matrix: HeatMatrix, rows_max: int, columns_max: int, join: Any) -> HeatMatrix:  # noqa: ANN401 - _hottest or _added
    _check_pool(rows_max, columns_max)
    rows, columns = matrix.values.shape
    if rows <= rows_max and columns <= columns_max:
        return matrix
    factor = max(1, -(-columns // columns_max))
    lows = np.arange(0, columns, factor)
    groups = min(rows, rows_max)
    tops = np.arange(groups) * rows // groups
    bottoms = [*tops[1:], rows]
    values = matrix.values if factor == 1 else join(matrix.values, lows, 1)
    values = values if groups == rows else join(values, tops, 0)
    hottest = np.fmax.reduce(matrix.values, axis=1, initial=-1.0)
    leads = [int(low + hottest[low:high].argmax()) for low, high in zip(tops, bottoms, strict=True)]
    return replace(
        matrix,
        values=values,
        spans=tuple(
            Span(matrix.spans[low].start, matrix.spans[high - 1].end)
            for low, high in zip(tops, bottoms, strict=True)
        ),
        times=tuple(matrix.times[low] for low in lows),
        window_ms=matrix.window_ms * factor,
        route_ids=tuple(matrix.route_ids[lead] for lead in leads),
    )


def _check_pool(rows_max: int, columns_max: int) -> None:
    if rows_max < 1 or columns_max < 1:
        raise InvalidArgument(
            f"cannot pool to {rows_max} × {columns_max} cells",
            code="pool_invalid",
            hint="both are at least 1",
        )


def _hottest(
    values: npt.NDArray[np.float64], starts: npt.NDArray[np.int64], axis: int
) -> npt.NDArray[np.float64]:
    # fmax passes over NaN unless both are.
    hottest: npt.NDArray[np.float64] = np.fmax.reduceat(values, starts, axis=axis)
    return hottest


def _added(
    values: npt.NDArray[np.float64], starts: npt.NDArray[np.int64], axis: int
) -> npt.NDArray[np.float64]:
    absent = np.isnan(values)
    sums: npt.NDArray[np.float64] = np.add.reduceat(
        np.where(absent, 0.0, values), starts, axis=axis
    )
    sums[np.logical_and.reduceat(absent, starts, axis=axis)] = np.nan
    return sums
