"""Windows and routes of a trace: examples at the edges."""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor, seed_routes
from workbench.model.tables import ACCESS, LOAD_WINDOW, check_table
from workbench.model.times import EPOCH
from workbench.traces import windows
from workbench.traces.generate import generate
from workbench.traces.windows import load_windows, trace_routes, unrouted_accesses


def accesses(*rows: tuple[float, bytes, str, int | None]) -> pa.Table:
    """Return accesses at so many seconds after the epoch."""
    return pa.Table.from_pylist(
        [
            {"time": EPOCH + timedelta(seconds=seconds), "key": key, "op": op, "size": size}
            for seconds, key, op, size in rows
        ],
        schema=ACCESS,
    )


def load(table: pa.Table, routes: tuple[RouteDescriptor, ...], **options: int) -> pa.Table:
    merged = {"window_ms": 60_000, "buckets_per_route": 1, **options}
    return load_windows(table, routes, cluster="c", **merged)


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def test_one_part_is_one_route_over_everything() -> None:
    (route,) = trace_routes(accesses((0, b"a", "read", 1)), 1)
    assert (route.route_id, route.span, route.group) == (1, Span(b"", None), 1)


def test_parts_hold_equally_many_keys_however_often_they_were_accessed() -> None:
    keys = [b"a", b"a", b"a", b"b", b"c", b"d", b"e", b"z"]
    table = accesses(*((second, key, "read", 1) for second, key in enumerate(keys)))
    assert [route.span.start for route in trace_routes(table, 3)] == [b"", b"c", b"e"]
    assert trace_routes(table, 3)[-1].span.end is None


def test_fewer_routes_come_back_where_there_are_fewer_keys() -> None:
    assert len(trace_routes(accesses((0, b"a", "read", 1)), 8)) == 1


@pytest.mark.parametrize("parts", [0, -1, windows.ROUTES_MAX + 1])
def test_a_number_of_routes_out_of_range_is_refused(parts: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        trace_routes(accesses((0, b"a", "read", 1)), parts)
    assert caught.value.code == "routes_count_invalid"


def test_an_empty_trace_has_no_routes_and_no_windows() -> None:
    for act in (
        lambda: trace_routes(ACCESS.empty_table(), 2),
        lambda: load(ACCESS.empty_table(), seed_routes([])),
    ):
        with pytest.raises(InvalidInput) as caught:
            act()
        assert caught.value.code == "trace_empty"


def test_a_bucket_without_accesses_is_measured_zero() -> None:
    table = load(accesses((0, b"a", "read", 1), (200, b"z", "write", 2)), seed_routes([b"m", b"n"]))
    check_table(table, LOAD_WINDOW, "load")
    assert table.num_rows == 4 * 3
    idle = table.slice(4, 1).to_pylist()[0]
    assert (idle["bucket_start"], idle["bucket_end"]) == (b"m", b"n")
    assert (idle["reads"], idle["writes"], idle["read_bytes"], idle["write_bytes"]) == (0, 0, 0, 0)
    assert idle["cpu_ns"] is None
    assert (idle["coverage"], idle["error_bound"]) == (1.0, 0.0)


def test_windows_start_at_multiples_of_their_length() -> None:
    table = load(accesses((90, b"a", "read", 1), (130, b"a", "read", 1)), seed_routes([]))
    assert table.column("window_start").to_pylist() == [at(60), at(120)]
    assert table.column("window_end").to_pylist() == [at(120), at(180)]


def test_first_and_last_window_are_covered_in_part() -> None:
    table = load(accesses((75, b"a", "read", 1), (190, b"a", "read", 1)), seed_routes([]))
    first, middle, last = table.column("coverage").to_pylist()
    assert (first, middle) == (0.75, 1.0)
    assert last == pytest.approx((10 + 1e-6) / 60)


def test_a_single_access_covers_a_microsecond() -> None:
    table = load(accesses((60, b"a", "read", 1)), seed_routes([]))
    assert table.column("coverage").to_pylist() == [pytest.approx(1 / 60_000_000)]


def test_counts_of_a_partly_covered_window_are_not_scaled_up() -> None:
    table = load(accesses((119, b"a", "read", 1), (120, b"a", "read", 1)), seed_routes([]))
    assert table.column("reads").to_pylist() == [1, 1]


def test_buckets_hold_equally_many_of_the_keys_of_their_route() -> None:
    keys = [b"\x10", b"\x11", b"\x12", b"\x13", b"\x90"]
    table = load(
        accesses(*((second, key, "read", 1) for second, key in enumerate(keys))),
        seed_routes([b"\x80"]),
        buckets_per_route=2,
    )
    starts = table.column("bucket_start").to_pylist()
    ends = table.column("bucket_end").to_pylist()
    assert starts == [b"", b"\x12", b"\x80"]
    assert ends == [b"\x12", b"\x80", None]


def test_bytes_are_unknown_where_one_access_has_no_size() -> None:
    table = load(
        accesses(
            (0, b"a", "read", 5),
            (1, b"a", "read", None),
            (2, b"a", "write", 7),
            (60, b"a", "read", 3),
        ),
        seed_routes([]),
    )
    assert table.column("read_bytes").to_pylist() == [None, 3]
    assert table.column("write_bytes").to_pylist() == [7, 0]


def test_bytes_are_unknown_everywhere_in_a_trace_without_sizes() -> None:
    table = load(accesses((0, b"a", "read", None)), seed_routes([b"m"]))
    assert table.column("read_bytes").to_pylist() == [None, None]
    assert table.column("write_bytes").to_pylist() == [None, None]


def test_accesses_in_gaps_are_counted_apart() -> None:
    routes = (
        RouteDescriptor(3, Span(b"m", b"p"), 2),
        RouteDescriptor(7, Span(b"c", b"f"), 1),
    )
    table = accesses(*((n, key, "read", 1) for n, key in enumerate([b"a", b"d", b"f", b"n", b"z"])))
    assert unrouted_accesses(table, routes) == 3
    rows = load(table, routes).to_pylist()
    assert [(row["route_id"], row["group"], row["reads"]) for row in rows] == [(7, 1, 1), (3, 2, 1)]


def test_a_trace_that_no_route_holds_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        load(accesses((0, b"a", "read", 1)), (RouteDescriptor(1, Span(b"m", None), 1),))
    assert caught.value.code == "trace_unrouted"
    assert unrouted_accesses(accesses((0, b"a", "read", 1)), ()) == 1


def test_too_many_cells_are_refused_before_memory_is_taken() -> None:
    table = accesses((0, b"a", "read", 1), (10**9, b"a", "read", 1))
    with pytest.raises(InvalidArgument) as caught:
        load(table, seed_routes([]), window_ms=1)
    assert caught.value.code == "window_too_fine"
    assert "1000000000001 cells" in caught.value.message
    assert "--window" in caught.value.hint


def test_too_many_buckets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "CELLS_MAX", 100)
    table = accesses(*((0, b"%03d" % number, "read", 1) for number in range(101)))
    with pytest.raises(InvalidArgument) as caught:
        load(table, seed_routes([]), buckets_per_route=101)
    assert caught.value.code == "window_too_fine"


@pytest.mark.parametrize("option", ["window_ms", "buckets_per_route"])
def test_windows_and_buckets_of_no_size_are_refused(option: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        load(accesses((0, b"a", "read", 1)), seed_routes([]), **{option: 0})
    assert caught.value.code == "window_invalid"


def test_sizes_that_cannot_be_added_up_are_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        load(accesses((0, b"a", "read", 1 << 62), (1, b"a", "read", 1 << 62)), seed_routes([]))
    assert caught.value.code == "trace_size_invalid"


def test_chunks_of_the_answer_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    table = generate("uniform", accesses=2_000, seed=1)
    routes = trace_routes(table, 5)
    whole = load(table, routes, buckets_per_route=7)
    monkeypatch.setattr(windows, "_CHUNK_CELLS", 100)
    parts = load(table, routes, buckets_per_route=7)
    assert parts.column(0).num_chunks > whole.column(0).num_chunks
    assert parts.equals(whole)
    assert whole.schema == LOAD_WINDOW
