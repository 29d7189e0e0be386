"""Load windows of several nodes as one table: checked, joined where a leader changed.

    node 1: route 7, buckets a | b | c, coverage 0.4 ┐
    node 2: route 7, buckets a |   d  , coverage 0.6 ┴▶ route 7, buckets a | b+c+d, coverage 1.0

Rules: a window is told only once every member that answers has closed it. A group whose leader
changed within a window is told of by both leaders, each for its part of the time: their counts add
up, on the bounds that both know. Parts that together are longer than the window are refused, and a
node that is told of twice. Heavy keys that both leaders tell of add up likewise, errors as counts;
one that only one tells of gets what the other says that it may have had, as count and error. Drawn
accesses of both stand side by side, each for its part.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from workbench.errors import InvalidInput
from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.model.load import WEIGHT_MAX
from workbench.model.node import LoadRow
from workbench.model.route_keys import Evidence, joined
from workbench.model.tables import HOT_KEY, KEY_SAMPLE, LOAD_WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workbench.model.node import ClosedWindow

# 9999-12-31: what lies beyond is no time that a table can hold.
TIME_US_MAX: Final = 253_402_214_400_000_000
INT64_MAX: Final = 2**63 - 1


def told_by_all(windows: Sequence[ClosedWindow], members: Iterable[int]) -> list[ClosedWindow]:
    """Return the windows up to the newest one that every member has closed."""
    newest: dict[int, int] = dict.fromkeys(members, -1)
    for window in windows:
        newest[window.node] = max(newest.get(window.node, -1), window.start_us)
    closed_by_all = min(newest.values(), default=-1)
    return [window for window in windows if window.start_us <= closed_by_all]


def check_windows(windows: Iterable[ClosedWindow], window_ms: int) -> None:
    """Check each window by itself, and that no node tells of one twice.

    Raises:
        InvalidInput: `load_malformed`, `load_told_twice`.
    """
    told: set[tuple[int, int]] = set()
    for window in windows:
        start_us = window.start_us
        if (
            not 0 <= start_us <= TIME_US_MAX
            or start_us % (window_ms * 1_000)
            or window.end_us - start_us != window_ms * 1_000
        ):
            raise malformed(
                f"a window from {start_us} to {window.end_us} µs, not of {window_ms} ms",
                "all nodes of a cluster need the same window_ms",
            )
        if (window.node, start_us) in told:
            raise _told_twice("node", window.node, start_us)
        told.add((window.node, start_us))
        _check_keys(window, _by_route(window.rows))


def load_table(cluster: str, windows: Iterable[ClosedWindow]) -> pa.Table:
    """Return the rows of checked windows, ordered by window start, bucket start, route.

    Raises:
        InvalidInput: `load_told_twice`: two nodes tell of one route with different keys or
            groups.
    """
    parts: dict[tuple[int, int], list[list[LoadRow]]] = defaultdict(list)
    ends: dict[int, int] = {}
    for window in windows:
        ends[window.start_us] = window.end_us
        for route_id, mine in _by_route(window.rows).items():
            parts[window.start_us, route_id].append(mine)
    rows: list[tuple[int, LoadRow]] = []
    for (start_us, _), told in parts.items():
        joined = told[0] if len(told) == 1 else _joined(told, start_us)
        rows += ((start_us, row) for row in joined)
    rows.sort(key=lambda pair: (pair[0], pair[1].bucket_start, pair[1].route_id))
    return _table(cluster, rows, ends)


def hot_key_table(windows: Iterable[ClosedWindow]) -> pa.Table:
    """Return the heavy keys of checked windows, by window start and route, heaviest first."""
    parts: dict[tuple[int, int], list[Evidence]] = defaultdict(list)
    ends: dict[int, int] = {}
    for window in windows:
        ends[window.start_us] = window.end_us
        told_of = {each.route_id: each for each in window.keys}
        for route_id, mine in _by_route(window.rows).items():
            accesses = sum(row.reads + row.writes for row in mine)
            part = Evidence(accesses, accesses)
            if (keys := told_of.get(route_id)) is not None:
                part = Evidence(accesses, keys.untold_max, keys.hot_keys)
            parts[window.start_us, route_id].append(part)
    rows = [
        {
            "window_start": start_us,
            "window_end": ends[start_us],
            "route_id": route_id,
            "key": each.key,
            "count": each.count,
            "error": each.error,
            "sample_rate": 1.0,
        }
        for (start_us, route_id), told in sorted(parts.items())
        if any(part.heavy for part in told)
        for each in joined(told).heavy
    ]
    return pa.Table.from_pylist(rows, schema=HOT_KEY)


def key_sample_table(windows: Iterable[ClosedWindow]) -> pa.Table:
    """Return the drawn accesses of checked windows, by window start and route."""
    rows = [
        {
            "window_start": window.start_us,
            "window_end": window.end_us,
            "route_id": keys.route_id,
            "key": each.key,
            "op": "write" if each.write else "read",
            "weight": each.weight,
        }
        for window in windows
        for keys in window.keys
        for each in keys.samples
    ]
    rows.sort(key=lambda row: (row["window_start"], row["route_id"]))
    return pa.Table.from_pylist(rows, schema=KEY_SAMPLE)


def _check_keys(window: ClosedWindow, buckets: Mapping[int, Sequence[LoadRow]]) -> None:
    """Check that heavy keys and drawn accesses are of routes that the window tells of."""
    routes = [each.route_id for each in window.keys]
    if len(set(routes)) < len(routes) or not buckets.keys() >= set(routes):
        raise malformed("keys of a route twice, or not of its load")
    for each in window.keys:
        mine = buckets[each.route_id]
        span = Span(mine[0].bucket_start, mine[-1].bucket_end)
        heavy = [hot.key for hot in each.hot_keys]
        keys = {*heavy, *(drawn.key for drawn in each.samples)}
        if len(set(heavy)) < len(heavy):
            raise malformed(f"a heavy key of route {each.route_id} twice")
        if any(key not in span or len(key) > KEY_BYTES_MAX for key in keys):
            raise malformed(f"a key of route {each.route_id} that is not in it")
        if not 0 <= each.untold_max <= INT64_MAX:
            raise malformed(f"{each.untold_max} accesses of other keys")
        for hot in each.hot_keys:
            if not 0 <= hot.error <= hot.count <= INT64_MAX or hot.count == 0:
                raise malformed(f"{hot.count} accesses of a key with an error of {hot.error}")
        for drawn in each.samples:
            if not isfinite(drawn.weight) or not 1 <= drawn.weight <= WEIGHT_MAX:
                raise malformed(f"an access that stands for {drawn.weight}")


def _joined(parts: list[list[LoadRow]], start_us: int) -> list[LoadRow]:
    """Return what several leaders told of a route in one window as if it were one."""
    first = parts[0][0]
    coverage = sum(rows[0].coverage for rows in parts)
    wholes = {(rows[0].bucket_start, rows[-1].bucket_end, rows[0].group) for rows in parts}
    if len(wholes) > 1:
        raise _told_twice("route", first.route_id, start_us)
    bounds = sorted(set.intersection(*({row.bucket_start for row in rows} for rows in parts)))
    ends: list[bytes | None] = [*bounds[1:], parts[0][-1].bucket_end]
    joined = []
    for start, end in zip(bounds, ends, strict=True):
        inside = [
            row
            for rows in parts
            for row in rows
            if row.bucket_start >= start and (end is None or row.bucket_start < end)
        ]
        joined.append(
            LoadRow(
                route_id=first.route_id,
                group=first.group,
                bucket_start=start,
                bucket_end=end,
                reads=sum(row.reads for row in inside),
                writes=sum(row.writes for row in inside),
                read_bytes=sum(row.read_bytes for row in inside),
                write_bytes=sum(row.write_bytes for row in inside),
                coverage=min(coverage, 1.0),
            )
        )
    return joined


def _by_route(rows: Iterable[LoadRow]) -> dict[int, list[LoadRow]]:
    """Return the buckets of each route in key order, checked not to overlap."""
    buckets: dict[int, list[LoadRow]] = {}
    for row in rows:
        if not 0 < row.coverage <= 1:
            raise malformed(f"a coverage of {row.coverage} of route {row.route_id}")
        if not 0 < row.route_id <= INT64_MAX or not 0 < row.group <= INT64_MAX:
            raise malformed(f"route {row.route_id} on group {row.group}")
        buckets.setdefault(row.route_id, []).append(row)
    for route_id, mine in buckets.items():
        mine.sort(key=lambda row: row.bucket_start)
        spans = [Span(row.bucket_start, row.bucket_end) for row in mine]
        for left, right in pairwise(spans):
            if left.end is None or left.end > right.start:
                raise malformed(f"two buckets of route {route_id} that overlap at {right}")
        if len({row.group for row in mine}) > 1:
            raise malformed(f"route {route_id} on two groups at once")
    return buckets


def _table(cluster: str, rows: Sequence[tuple[int, LoadRow]], ends: Mapping[int, int]) -> pa.Table:
    count = len(rows)
    columns: Mapping[str, pa.Array] = {
        "cluster": pa.repeat(pa.scalar(cluster, pa.string()), count),
        "window_start": pa.array([start_us for start_us, _ in rows], pa.int64()),
        "window_end": pa.array([ends[start_us] for start_us, _ in rows], pa.int64()),
        "bucket_start": pa.array([row.bucket_start for _, row in rows], pa.binary()),
        "bucket_end": pa.array([row.bucket_end for _, row in rows], pa.binary()),
        "cpu_ns": pa.nulls(count, pa.int64()),
        "error_bound": pa.repeat(pa.scalar(0.0), count),
        **{
            name: pa.array([getattr(row, name) for _, row in rows], LOAD_WINDOW.field(name).type)
            for name in (
                "route_id",
                "group",
                "reads",
                "writes",
                "read_bytes",
                "write_bytes",
                "coverage",
            )
        },
    }
    arrays = [columns[name].cast(LOAD_WINDOW.field(name).type) for name in LOAD_WINDOW.names]
    return pa.table(arrays, schema=LOAD_WINDOW)


def malformed(what: str, hint: str = "check which program serves the address") -> InvalidInput:
    """Return the error for windows that cannot be."""
    return InvalidInput(f"the node tells of {what}", code="load_malformed", hint=hint)


def _told_twice(what: str, number: int, start_us: int) -> InvalidInput:
    return InvalidInput(
        f"{what} {number} is told of twice for the window at {start_us} µs",
        code="load_told_twice",
        hint="two nodes with one id, or two leaders of one group: check the cluster",
    )
