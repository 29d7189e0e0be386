"""Windows against a plain-Python oracle."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.model.tables import ACCESS, LOAD_WINDOW, check_table
from workbench.model.times import EPOCH, to_us
from workbench.traces.windows import load_windows, trace_routes, unrouted_accesses

KEYS = st.binary(max_size=3)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 400),
        KEYS,
        st.sampled_from(["read", "write"]),
        st.none() | st.integers(0, 2**55),
    ),
    min_size=1,
    max_size=40,
)


@st.composite
def route_sets(draw: st.DrawFn) -> tuple[RouteDescriptor, ...]:
    """Draw routes that do not overlap, with gaps, in any order of ids."""
    cuts: list[bytes | None] = [b"", *sorted(draw(st.sets(KEYS.filter(bool), max_size=5))), None]
    spans = [
        Span(start, end)
        for start, end in pairwise(cuts)
        if start is not None and draw(st.integers(0, 4)) > 0
    ]
    ids = draw(st.permutations(range(1, len(spans) + 1)))
    return tuple(
        RouteDescriptor(route_id, span, group=route_id % 3 + 1)
        for route_id, span in zip(ids, spans, strict=True)
    )


def chunked(rows: list[tuple[int, bytes, str, int | None]], chunk: int) -> pa.Table:
    """Return the accesses, 100 ms apart at least, in chunks of `chunk` rows."""
    columns = list(zip(*rows, strict=True))
    times = [EPOCH + timedelta(milliseconds=100 * tick) for tick in columns[0]]
    table = pa.table([times, *map(list, columns[1:])], schema=ACCESS)
    return pa.concat_tables([table.slice(at, chunk) for at in range(0, len(rows), chunk)])


def oracle(
    rows: list[tuple[int, bytes, str, int | None]],
    routes: tuple[RouteDescriptor, ...],
    window_ms: int,
    parts: int,
) -> list[tuple[object, ...]]:
    """Return (window in ms, route, group, start, end, reads, writes, read and write bytes)."""
    first, last = min(r[0] for r in rows) * 100, max(r[0] for r in rows) * 100
    sized = any(row[3] is not None for row in rows)
    out: list[tuple[object, ...]] = []
    for window in range(first // window_ms * window_ms, last + 1, window_ms):
        for route in sorted(routes, key=lambda r: r.span.start):
            mine = sorted({row[1] for row in rows if row[1] in route.span})
            places = {len(mine) * part // parts for part in range(1, parts)}
            cuts = [mine[place] for place in sorted(places) if 0 < place < len(mine)]
            ends = [*cuts, route.span.end]
            for start, end in zip([route.span.start, *cuts], ends, strict=True):
                cell = [
                    row
                    for row in rows
                    if window <= row[0] * 100 < window + window_ms and row[1] in Span(start, end)
                ]
                ops = [row[2] for row in cell]
                counters: list[object] = [ops.count("read"), ops.count("write")]
                for op in ("read", "write"):
                    sizes = [row[3] for row in cell if row[2] == op]
                    known = [size for size in sizes if size is not None]
                    complete = sized and len(known) == len(sizes)
                    counters.append(sum(known) if complete else None)
                out.append((window, route.route_id, route.group, start, end, *counters))
    return out


@settings(deadline=None, max_examples=200)
@given(
    rows=ROWS,
    routes=route_sets(),
    window_ms=st.sampled_from([100, 700, 5_000, 60_000]),
    parts=st.integers(1, 6),
    chunk=st.integers(1, 40),
)
def test_windows_equal_a_plain_recount(
    rows: list[tuple[int, bytes, str, int | None]],
    routes: tuple[RouteDescriptor, ...],
    window_ms: int,
    parts: int,
    chunk: int,
) -> None:
    outside = sum(1 for row in rows if not any(row[1] in route.span for route in routes))
    accesses = chunked(rows, chunk)
    assert unrouted_accesses(accesses, routes) == outside
    assume(outside < len(rows))
    table = load_windows(
        accesses, routes, cluster="c", window_ms=window_ms, buckets_per_route=parts
    )
    check_table(table, LOAD_WINDOW, "load")
    names = ("reads", "writes", "read_bytes", "write_bytes")
    assert [
        (
            to_us(row["window_start"]) // 1_000,
            row["route_id"],
            row["group"],
            row["bucket_start"],
            row["bucket_end"],
            *(row[name] for name in names),
        )
        for row in table.to_pylist()
    ] == oracle(rows, routes, window_ms, parts)
    counted = pc.sum(table.column("reads")).as_py() + pc.sum(table.column("writes")).as_py()
    assert counted == len(rows) - outside


@settings(deadline=None, max_examples=100)
@given(rows=ROWS, parts=st.integers(1, 9), window_ms=st.sampled_from([100, 1_000, 9_000]))
def test_routes_of_a_trace_hold_every_access_and_lose_none(
    rows: list[tuple[int, bytes, str, int | None]], parts: int, window_ms: int
) -> None:
    accesses = chunked(rows, 7)
    routes = trace_routes(accesses, parts)
    assert 1 <= len(routes) <= parts
    assert unrouted_accesses(accesses, routes) == 0
    table = load_windows(accesses, routes, cluster="c", window_ms=window_ms, buckets_per_route=3)
    for op in ("read", "write"):
        chosen = [row for row in rows if row[2] == op]
        assert pc.sum(table.column(f"{op}s")).as_py() == len(chosen)
    # The recorded time is from the first access to the last, its microsecond included.
    per_window = dict(
        zip(
            table.column("window_start").to_pylist(),
            table.column("coverage").to_pylist(),
            strict=True,
        )
    )
    ticks = [row[0] for row in rows]
    recorded_us = (max(ticks) - min(ticks)) * 100_000 + 1
    assert abs(sum(per_window.values()) * window_ms * 1_000 - recorded_us) < 1e-3
    assert all(0 < coverage <= 1 for coverage in per_window.values())
