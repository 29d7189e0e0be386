"""Windows: from recorded accesses to the load of every bucket of every route in every window.

    key space   |---- route 1 ----|-------- route 2 --------|
    buckets     |  b1 |  b2 |  b3 | b1  |    b2   |   b3    |
    window 1       ·     ·     ·     ·        ·        ·       one row each, zeros included
    window 2       ·     ·     ·     ·        ·        ·

A trace is a complete recording, so a bucket without accesses in a window is *measured zero*:
every bucket has a row in every window between the first and the last access. Windows start at
multiples of their length since the epoch, so the first and last are recorded only in part.
Their `coverage` is the recorded fraction (from the first access to the last, its microsecond
included) and their counts stay as counted, never scaled up: they prove a load that was reached,
never that one was not. Windows between have coverage 1, and `error_bound` is 0 everywhere.

Bytes are null in a cell where one of its accesses has no size, and everywhere where no access of
the trace has one. Routes may leave gaps; accesses that no route holds are in no window, and
`unrouted_accesses` counts them for the caller to report.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.routes import RouteDescriptor, check_routes, seed_routes
from workbench.model.tables import LOAD_WINDOW, TIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

CELLS_MAX: Final = 20_000_000
ROUTES_MAX: Final = 100_000
_CHUNK_CELLS: Final = 1 << 20
_CHUNK_KEY_BYTES: Final = 1 << 30
_BYTES_TOTAL_MAX: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Keyspace:
    """The keys of a trace: distinct ones ascending, and each access's rank among them."""

    distinct: list[bytes]
    ranks: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Bucket:
    """A part of a route's span."""

    route: RouteDescriptor
    start: bytes
    end: bytes | None


def trace_routes(accesses: pa.Table, parts: int) -> tuple[RouteDescriptor, ...]:
    """Return `parts` seed routes on group 1 that hold equally many of the trace's keys.

    The first route starts at the empty key, the last has no upper bound; one part is one route
    over everything. Fewer come back where the trace has fewer keys. Only which keys there are
    counts, not how often they were accessed: load does not choose its own routes.

    Args:
        accesses: ACCESS schema.
        parts: From 1 to ROUTES_MAX.

    Raises:
        InvalidArgument: code routes_count_invalid.
        InvalidInput: code trace_empty.
    """
    if not 1 <= parts <= ROUTES_MAX:
        raise InvalidArgument(
            f"cannot make {parts} routes",
            code="routes_count_invalid",
            hint=f"give a number from 1 to {ROUTES_MAX}",
        )
    _check_not_empty(accesses)
    distinct = pc.unique(accesses.column("key"))
    ascending = distinct.take(pc.array_sort_indices(distinct))
    return seed_routes(_even_cuts(ascending.to_pylist(), parts))


def unrouted_accesses(accesses: pa.Table, routes: Iterable[RouteDescriptor]) -> int:
    """Return how many accesses have a key that no route holds."""
    buckets = [_Bucket(r, r.span.start, r.span.end) for r in check_routes(routes)]
    keyspace = _keyspace(accesses)
    return int(np.count_nonzero(_owners(keyspace, buckets) < 0))


def load_windows(
    accesses: pa.Table,
    routes: Iterable[RouteDescriptor],
    *,
    cluster: str,
    window_ms: int,
    buckets_per_route: int,
) -> pa.Table:
    """Count accesses per bucket and window.

    The buckets of a route hold equally many of the keys that the trace has in it; the first
    starts where the route starts, the last ends where it ends. A route without keys has one
    bucket.

    Args:
        accesses: ACCESS schema, in any order.
        routes: Not overlapping; gaps are legal.
        cluster: Name to put into each row.
        window_ms: Length of a window, from 1.
        buckets_per_route: From 1; fewer where a route has fewer keys.

    Returns:
        LOAD_WINDOW schema, ordered by window_start, then bucket_start.

    Raises:
        InvalidArgument: codes window_invalid, window_too_fine (more than CELLS_MAX rows).
        InvalidInput: codes trace_empty, trace_unrouted (no access falls in a route).
    """
    if window_ms < 1 or buckets_per_route < 1:
        raise InvalidArgument(
            f"cannot divide into windows of {window_ms} ms and {buckets_per_route} buckets",
            code="window_invalid",
            hint="both are at least 1",
        )
    _check_not_empty(accesses)
    time_us = accesses.column("time").cast(pa.int64()).to_numpy()
    first_us, last_us = int(time_us.min()), int(time_us.max())
    window_us = window_ms * 1_000
    first_window = first_us // window_us
    windows = last_us // window_us - first_window + 1
    ordered = check_routes(routes)
    # Checked twice: before buckets are made, as far as it is known, and after.
    _check_cells(windows, len(ordered), window_ms)
    keyspace = _keyspace(accesses)
    buckets = _buckets(keyspace, ordered, buckets_per_route)
    _check_cells(windows, len(buckets), window_ms)
    owners = _owners(keyspace, buckets)
    routed = owners >= 0
    if not routed.any():
        raise InvalidInput(
            f"none of {accesses.num_rows} accesses has a key that a route holds",
            code="trace_unrouted",
            hint="give the routes of this trace's key space, or leave --routes out",
        )
    cells = np.where(routed, (time_us // window_us - first_window) * len(buckets) + owners, -1)
    counters = _counters(accesses, cells, windows * len(buckets))
    starts_us = (np.arange(windows, dtype=np.int64) + first_window) * window_us
    covered_us = np.minimum(starts_us + window_us, last_us + 1) - np.maximum(starts_us, first_us)
    return _table(cluster, starts_us, window_us, covered_us / window_us, buckets, counters)


def _check_not_empty(accesses: pa.Table) -> None:
    if not accesses.num_rows:
        raise InvalidInput(
            "the trace has no accesses", code="trace_empty", hint="collect a trace with accesses"
        )


def _check_cells(windows: int, buckets: int, window_ms: int) -> None:
    if windows * buckets > CELLS_MAX:
        raise InvalidArgument(
            f"{windows} windows of {window_ms} ms × {buckets} buckets are "
            f"{windows * buckets} cells, the limit is {CELLS_MAX}",
            code="window_too_fine",
            hint="give a larger --window, or fewer buckets or routes",
        )


def _keyspace(accesses: pa.Table) -> _Keyspace:
    # Arrow gives all chunks of a column the one final dictionary, in order of appearance.
    encoded = pc.dictionary_encode(accesses.column("key"))
    if not encoded.num_chunks:
        return _Keyspace([], np.empty(0, dtype=np.int64))
    distinct = encoded.chunk(0).dictionary
    order = pc.array_sort_indices(distinct)
    ranks = np.empty(len(distinct), dtype=np.int64)
    ranks[order.to_numpy()] = np.arange(len(distinct))
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    return _Keyspace(distinct.take(order).to_pylist(), ranks[codes])


def _buckets(keyspace: _Keyspace, routes: Sequence[RouteDescriptor], parts: int) -> list[_Bucket]:
    """Return the buckets of all routes, ascending."""
    keys = keyspace.distinct
    buckets: list[_Bucket] = []
    for route in routes:
        low = bisect_left(keys, route.span.start)
        high = len(keys) if route.span.end is None else bisect_left(keys, route.span.end)
        cuts = _even_cuts(keys[low:high], parts)
        starts: list[bytes] = [route.span.start, *cuts]
        ends: list[bytes | None] = [*cuts, route.span.end]
        buckets += [_Bucket(route, s, e) for s, e in zip(starts, ends, strict=True)]
    return buckets


def _even_cuts(keys: Sequence[bytes], parts: int) -> list[bytes]:
    """Return keys that cut ascending distinct `keys` into `parts` of equal number.

    Cuts are observed keys: even by position in the key space they would leave most parts
    empty wherever keys share an alphabet (decimal digits use 10 of 256 byte values).
    """
    places = sorted({len(keys) * part // parts for part in range(1, parts)} - {0, len(keys)})
    return [keys[place] for place in places]


def _owners(keyspace: _Keyspace, buckets: Sequence[_Bucket]) -> npt.NDArray[np.int64]:
    """Return for each access the index of its bucket, -1 where none holds its key."""
    keys = keyspace.distinct
    if not buckets:
        return np.full(len(keyspace.ranks), -1, dtype=np.int64)
    lows = np.array([bisect_left(keys, bucket.start) for bucket in buckets], dtype=np.int64)
    highs = np.array(
        [len(keys) if b.end is None else bisect_left(keys, b.end) for b in buckets],
        dtype=np.int64,
    )
    rank = np.arange(len(keys), dtype=np.int64)
    # Of buckets with the same low only the last can hold a key: the others are empty.
    owner = np.searchsorted(lows, rank, side="right") - 1
    owner[(owner < 0) | (rank >= highs[owner])] = -1
    owners: npt.NDArray[np.int64] = owner[keyspace.ranks]
    return owners


def _counters(
    accesses: pa.Table, cells: npt.NDArray[np.int64], count: int
) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Return per counter the values of all cells, and which of them were not measured."""
    sizes = accesses.column("size")
    measured = sizes.is_valid().to_numpy()
    size = sizes.fill_null(0).to_numpy()
    if float(size.sum(dtype=np.float64)) >= _BYTES_TOTAL_MAX:
        raise InvalidInput(
            f"the sizes of the trace add up to more than {_BYTES_TOTAL_MAX} bytes",
            code="trace_size_invalid",
            hint="name the column of sizes with --columns size=NAME",
        )
    writes = pc.equal(accesses.column("op"), "write").to_numpy()
    nowhere = not measured.any()
    counters: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]] = {}
    for what, chosen in (("read", ~writes & (cells >= 0)), ("write", writes & (cells >= 0))):
        mine = cells[chosen]
        counts = np.bincount(mine, minlength=count).astype(np.int64, copy=False)
        volume = np.zeros(count, dtype=np.int64)
        # add.at keeps whole numbers; bincount's weights are floats and lose them above 2**53.
        np.add.at(volume, mine, size[chosen])
        unknown = np.full(count, nowhere)
        unknown[cells[chosen & ~measured]] = True
        counters[f"{what}s"] = counts, np.zeros(count, dtype=np.bool_)
        counters[f"{what}_bytes"] = volume, unknown
    return counters


def _table(  # noqa: PLR0913, PLR0917 - leaf of load_windows, one call
    cluster: str,
    starts_us: npt.NDArray[np.int64],
    window_us: int,
    coverage: npt.NDArray[np.float64],
    buckets: Sequence[_Bucket],
    counters: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]],
) -> pa.Table:
    """Put the rows together, in chunks of whole windows whose keys fit one Arrow array."""
    width = len(buckets)
    keys = {
        "bucket_start": pa.array([b.start for b in buckets], pa.binary()),
        "bucket_end": pa.array([b.end for b in buckets], pa.binary()),
    }
    route_ids = np.array([b.route.route_id for b in buckets], dtype=np.uint64)
    groups = np.array([b.route.group for b in buckets], dtype=np.uint64)
    window_key_bytes = 1 + sum(len(b.start) + len(b.end or b"") for b in buckets)
    step = max(1, min(_CHUNK_CELLS // width, _CHUNK_KEY_BYTES // window_key_bytes))
    chunks: list[pa.RecordBatch] = []
    for low in range(0, len(starts_us), step):
        starts = np.repeat(starts_us[low : low + step], width)
        times = len(starts) // width
        cells = slice(low * width, low * width + len(starts))
        index = pa.array(np.tile(np.arange(width), times))
        columns = {
            "cluster": pa.repeat(pa.scalar(cluster, pa.string()), len(starts)),
            "window_start": pa.array(starts).cast(TIME),
            "window_end": pa.array(starts + window_us).cast(TIME),
            "route_id": pa.array(np.tile(route_ids, times)),
            "group": pa.array(np.tile(groups, times)),
            **{name: values.take(index) for name, values in keys.items()},
            **{
                name: pa.array(values[cells], mask=unknown[cells])
                for name, (values, unknown) in counters.items()
            },
            "cpu_ns": pa.nulls(len(starts), pa.int64()),
            "coverage": pa.array(np.repeat(coverage[low : low + step], width)),
            "error_bound": pa.repeat(pa.scalar(0.0), len(starts)),
        }
        chunks.append(pa.record_batch([columns[n] for n in LOAD_WINDOW.names], LOAD_WINDOW))
    return pa.Table.from_batches(chunks, LOAD_WINDOW)
