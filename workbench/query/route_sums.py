"""Route sums: what `route_windows.sql` answers, from load whose windows repeat their buckets.

    OneLayout ── counters ──▶ windows × buckets ── add up each route's buckets ──▶ one row per
                                                                             route and window

It fits where every bucket lies in one route, and the buckets of a route were measured on one route
in each window. Anything else - a bucket across a bound, two sources at once, sums near 64 bits -
gives None, and the SQL text answers. Both give the same rows in the same order; a test compares
them. The same holds of the rows as they are, `load_windows_of`, whose keys are kept once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.model.tables import COUNTERS, TIME
from workbench.query.row_groups import batches, merged

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from workbench.model.routes import RouteDescriptor
    from workbench.query.layouts import OneLayout

# Above, a column is held here too often at once.
CELLS_MAX: Final = 40_000_000
_SUM_MAX: Final = 1 << 61


def route_windows_of(layout: OneLayout, routes: Sequence[RouteDescriptor]) -> pa.Table | None:
    """Return the rows of `route_windows.sql`; None where the load does not fit.

    Args:
        layout: The load of the time asked for.
        routes: As they are now.
    """
    buckets = len(layout.starts)
    times, owner = _times(layout), _owners(layout, routes)
    if owner is None or times is None:
        return None
    first = np.flatnonzero(np.diff(owner, prepend=-1))  # where each route's buckets begin
    counts = np.diff(first, append=buckets)
    if not _is_measured_on_one(layout, first, counts):
        return None
    windows = len(times[0])
    ids = np.array([routes[at].route_id for at in owner[first].tolist()], dtype=np.uint64)
    order = ids.argsort(kind="stable")
    columns = {
        "route_id": np.repeat(ids[order], windows),
        "window_start": pa.array(np.tile(times[0], len(ids))).cast(TIME),
        "window_end": pa.array(np.tile(times[1], len(ids))).cast(TIME),
        "row_count": np.repeat(counts[order], windows),
    }
    for name in COUNTERS:
        summed = _summed(_column(layout, name), windows, first, counts, order)
        if summed is None:
            return None
        columns[name] = summed
    coverage = _column(layout, "coverage")
    error = _column(layout, "error_bound").fill_null(0.0)
    if coverage.null_count or coverage.type != pa.float64() or error.type != pa.float64():
        return None
    least = np.minimum.reduceat(coverage.to_numpy().reshape(windows, buckets), first, axis=1)
    bound = np.add.reduceat(error.to_numpy().reshape(windows, buckets), first, axis=1)
    columns["coverage"] = np.minimum(1.0, least.T[order]).reshape(-1)
    columns["error_bound"] = bound.T[order].reshape(-1)
    return pa.table(columns)


def load_windows_of(layout: OneLayout, names: Sequence[str]) -> pa.Table | None:
    """Return the columns of the load ascending by window and bucket; None where it does not fit.

    Args:
        layout: The load of the time asked for.
        names: The columns.
    """
    times = _times(layout)
    if times is None:
        return None
    keys = {"bucket_start": layout.starts, "bucket_end": layout.ends}
    return pa.table({
        name: pa.chunked_array([keys[name]] * len(times[0]))
        if name in keys
        else _column(layout, name)
        for name in names
    })  # fmt: skip


def _times(layout: OneLayout) -> list[npt.NDArray[np.int64]] | None:
    """Return start and end of each window; None where they are not ascending, or too many."""
    buckets = len(layout.starts)
    found: list[npt.NDArray[np.int64]] = []
    for name in ("window_start", "window_end"):
        column = _column(layout, name)
        if not buckets or len(column) > CELLS_MAX or len(column) % buckets:
            return None
        times = _per_window(column.cast(pa.int64()), buckets)
        if times is None:
            return None
        found.append(times)
    return None if (np.diff(found[0]) <= 0).any() else found


def _owners(layout: OneLayout, routes: Sequence[RouteDescriptor]) -> npt.NDArray[np.int64] | None:
    """Return the place of each bucket's route; None where one lies in none, or in several."""
    spans = sorted(range(len(routes)), key=lambda at: routes[at].span.start)
    starts = [routes[at].span.start for at in spans]
    found: list[int] = []
    at = -1
    for start, end in zip(layout.starts.to_pylist(), layout.ends.to_pylist(), strict=True):
        while at + 1 < len(starts) and starts[at + 1] <= start:
            at += 1
        if at < 0:
            return None
        bound = routes[spans[at]].span.end
        if bound is not None and (end is None or end > bound):
            return None
        found.append(spans[at])
    return np.array(found, dtype=np.int64)


def _is_measured_on_one(
    layout: OneLayout, first: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> bool:
    """Tell whether in each window one route told of all the buckets of a route."""
    if (counts == 1).all():
        return True
    told = _column(layout, "route_id")
    if told.null_count:
        return False
    cells = told.to_numpy().reshape(-1, len(layout.starts))
    return bool((cells == np.repeat(cells[:, first], counts, axis=1)).all())


def _summed(
    column: pa.ChunkedArray,
    windows: int,
    first: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
) -> pa.Array | None:
    """Return a counter by route and window, null where a bucket lacks it; None where too large."""
    rows = windows * len(order)
    if column.null_count == len(column):
        return pa.nulls(rows, pa.int64())
    if column.type != pa.int64():
        return None
    outer = pc.min_max(column).as_py()
    if max(abs(outer["min"]), abs(outer["max"])) * int(counts.max()) > _SUM_MAX:
        return None
    cells = column.fill_null(0).to_numpy().reshape(windows, -1)
    sums = np.add.reduceat(cells, first, axis=1).T[order].reshape(-1)
    if not column.null_count:
        return pa.array(sums)
    lacks = np.asarray(column.is_null()).reshape(windows, -1)
    return pa.array(sums, mask=np.logical_or.reduceat(lacks, first, axis=1).T[order].reshape(-1))


def _per_window(column: pa.ChunkedArray, buckets: int) -> npt.NDArray[np.int64] | None:
    """Return a value per window; None where the rows of a window differ."""
    if column.null_count:
        return None
    cells = column.to_numpy().reshape(-1, buckets)
    return cells[:, 0].copy() if (cells == cells[:, :1]).all() else None


def _column(layout: OneLayout, name: str) -> pa.ChunkedArray:
    """Return a column of all windows, each bucket in its place."""
    chunks = [
        batch[name]
        for rows in merged(layout.rows)
        for batch in batches(rows, [name], layout.since, layout.until)
    ]
    return pa.chunked_array(chunks)
