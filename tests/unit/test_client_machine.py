"""The client's machine by scripts: what it sends where, what it repeats, how every call ends."""

from __future__ import annotations

import pytest
from client_world import CLIENT_ID, Bench, Moved, World

from workbench.client.checks import check_put
from workbench.client.machine import WRITES_MAX, Client
from workbench.client.routes import BatchSpansGroups, RouteCache
from workbench.client.values import (
    Failure,
    Fate,
    Mutation,
    Page,
    Precondition,
    Read,
    ReadRequest,
    RoutesRequest,
    Scan,
    ScanRequest,
    Write,
    WriteRequest,
    failure_of,
)
from workbench.errors import (
    Conflict,
    Corruption,
    Internal,
    InvalidArgument,
    InvalidInput,
    OutcomeUnknown,
    Unavailable,
)
from workbench.model.keys import Span
from workbench.model.node import GotMany, StoredVersion, Written
from workbench.routing.table import RouteTable

LOW, HIGH = b"\x10", b"\xf0"  # of group 1, of group 2


def put(*keys, value=b"v", **how):
    return Write(tuple(Mutation(key, value) for key in keys), **how)


def requests(bench, kind):
    return [each for each in bench.sent if isinstance(each.request, kind)]


@pytest.fixture
def bench():
    return Bench()


def test_the_first_call_lists_the_routes_and_then_goes_to_the_leader_that_is_named(bench):
    call = bench.start(put(LOW))
    assert [type(each.request) for each in bench.sent] == [RoutesRequest]
    assert isinstance(bench.settle(call), Written)
    sent = requests(bench, WriteRequest)
    assert [each.address for each in sent] == ["n0", "n1"]  # group 1 is led by n1
    bench.sent.clear()
    assert isinstance(bench.settle(bench.start(put(LOW))), Written)
    assert [each.address for each in bench.sent] == ["n1"]


class CutOff(World):
    """Node n0 is cut off from n2, who leads group 1 now, and goes on to name n1, who is down."""

    def answer(self, address, request):
        if address == "n1":
            raise Unavailable("no connection", code="node_unreachable")
        if address == "n0" and not isinstance(request, RoutesRequest):
            raise Moved("n1")
        return super().answer(address, request)


def test_who_names_a_leader_that_does_not_answer_is_not_asked_again_and_again():
    world = CutOff()
    world.leaders[1] = "n2"
    bench = Bench(world)
    assert isinstance(bench.settle(bench.start(put(LOW))), Written)
    asked = [each.address for each in requests(bench, WriteRequest)]
    assert asked[-1] == "n2"
    assert len(asked) <= 4, asked


def test_writes_count_up_over_all_groups_and_carry_the_client(bench):
    for key in (LOW, LOW, HIGH, LOW):
        bench.settle(bench.start(put(key)))
    done = {(e.request.group, e.request.sequence) for e in requests(bench, WriteRequest)}
    assert done == {(1, 1), (1, 2), (2, 3), (1, 4)}
    assert {e.request.client_id for e in requests(bench, WriteRequest)} == {CLIENT_ID}


def test_a_lost_answer_is_asked_for_again_under_the_same_sequence_and_written_once(bench):
    bench.settle(bench.start(put(LOW)))
    call = bench.start(put(LOW, value=b"once"))
    bench.deliver(answer_lost=True)
    written = bench.settle(call)
    assert [each[1] for each in bench.world.applied] == [1, 2]
    assert written.commit_ts == bench.world.applied[1][3]


def test_an_at_least_once_write_is_never_repeated_after_it_was_sent(bench):
    bench.settle(bench.start(put(LOW)))
    call = bench.start(put(LOW, exactly_once=False))
    [send] = bench.wires
    assert (send.request.client_id, send.request.sequence) == (b"", 0)
    bench.lose()
    assert isinstance(bench.ends[call], OutcomeUnknown)
    assert bench.ends[call].code == "connection_lost"
    other = bench.start(put(LOW, exactly_once=False))
    bench.unreachable()
    assert isinstance(bench.settle(other), Written)


def test_a_write_that_may_have_been_made_ends_as_unknown_and_one_that_was_not_as_unavailable(bench):
    bench.settle(bench.start(put(LOW)))
    call = bench.start(put(LOW), timeout_ms=100)
    bench.lose()
    while call not in bench.ends:
        while bench.wires:
            bench.unreachable()
        bench.pass_time()
    assert isinstance(bench.ends[call], OutcomeUnknown)
    assert bench.ends[call].code == "write_outcome_unknown"
    other = bench.start(put(LOW), timeout_ms=100)
    while other not in bench.ends:
        while bench.wires:
            bench.unreachable()
        bench.pass_time()
    assert isinstance(bench.ends[other], Unavailable)
    assert (bench.ends[other].code, "no connection" in bench.ends[other].message) == (
        "deadline_exceeded",
        True,
    )
    assert bench.now_ms == 200  # each at its own deadline


def test_a_write_in_flight_at_its_deadline_is_of_unknown_outcome(bench):
    bench.settle(bench.start(put(LOW)))
    call = bench.start(put(LOW), timeout_ms=50)
    bench.pass_time(by_ms=50)
    assert isinstance(bench.ends[call], OutcomeUnknown)
    assert len(bench.delayed) == 1  # cancelled


def test_a_call_without_any_answer_ends_by_its_deadline(bench):
    calls = [bench.start(each, timeout_ms=300) for each in (put(LOW), Read((LOW,)), Scan())]
    while bench.client.wake_at_ms is not None and bench.now_ms < 300:
        while bench.wires:
            bench.lose()
        bench.pass_time()
    assert all(isinstance(bench.ends[call], Unavailable) for call in calls)
    assert {bench.ends[call].code for call in calls} == {"deadline_exceeded"}


def test_calls_to_nobody_end_at_once_where_no_node_was_ever_reached(bench):
    calls = [bench.start(each, timeout_ms=10_000) for each in (put(LOW), Read((LOW,)), Scan())]
    while bench.wires or not bench.ends:
        if bench.wires:
            bench.unreachable()
        else:
            bench.pass_time()
    assert bench.now_ms < 1_000
    assert {bench.ends[call].code for call in calls} == {"node_unreachable"}
    assert sorted(each.address for each in bench.sent) == sorted(bench.world.addresses)
    assert isinstance(bench.settle(bench.start(put(LOW))), Written), "the next call tries again"


def test_a_cluster_that_was_reached_before_is_waited_for(bench):
    assert isinstance(bench.settle(bench.start(put(LOW))), Written)
    call = bench.start(put(LOW), timeout_ms=300)
    while call not in bench.ends:
        while bench.wires:
            bench.unreachable()
        bench.pass_time()
    assert bench.now_ms >= 300
    assert bench.ends[call].code == "deadline_exceeded"


def test_a_batch_that_spans_groups_is_refused_with_the_spans(bench):
    call = bench.start(put(LOW, HIGH, b"\x20"))
    error = bench.settle(call)
    assert isinstance(error, BatchSpansGroups)
    assert error.code == "batch_spans_groups"
    assert error.spans == {1: (Span(b"", b"\x80"),), 2: (Span(b"\x80", None),)}
    assert "2 groups at catalog version 1" in error.message
    assert not requests(bench, WriteRequest)


def test_a_refusal_is_told_as_it_came_and_its_sequence_is_given_up(bench):
    first = bench.settle(bench.start(put(LOW)))
    call = bench.start(Write((Mutation(LOW, b"w"),), (Precondition(LOW, None),)))
    error = bench.settle(call)
    assert isinstance(error, Conflict)
    assert error.code == "precondition_failed"
    good = Write((Mutation(LOW, b"w"),), (Precondition(LOW, first.commit_ts),))
    assert isinstance(bench.settle(bench.start(good)), Written)


def test_a_refusal_after_an_unknown_attempt_stays_unknown(bench):
    bench.settle(bench.start(put(LOW)))
    call = bench.start(put(LOW))
    bench.lose()
    bench.pass_time()
    [send] = bench.wires
    refused = InvalidInput("no", code="some_reason")
    bench.client.failed(send.attempt, failure_of(refused, writes=True), bench.now_ms)
    bench.take()
    assert isinstance(bench.ends[call], OutcomeUnknown)


def test_a_route_that_went_to_another_group_is_found_there_under_a_new_sequence(bench):
    bench.settle(bench.start(put(LOW)))
    bench.world.move(LOW, 2)
    call = bench.start(put(LOW))
    assert bench.wires[0].request.group == 1
    assert isinstance(bench.settle(call), Written)
    assert [each[0:2] for each in bench.world.applied] == [(CLIENT_ID, 1), (CLIENT_ID, 3)]
    assert bench.client.routes.version == 2


def test_a_repetition_stays_with_the_group_that_got_the_first_until_that_refuses():
    """The answer was lost, the routes changed: only the first group knows whether it wrote."""
    world = World(groups=3)
    bench = Bench(world)
    bench.settle(bench.start(put(LOW)))
    call = bench.start(put(LOW, value=b"x"))
    bench.deliver(answer_lost=True)
    world.move(LOW, 3)
    bench.watch()
    assert isinstance(bench.settle(call), Written)
    assert [each[2][0].value for each in world.applied] == [b"v", b"x"]


def test_a_late_copy_finds_what_was_made_elsewhere_also_where_the_span_came_back():
    world = World(groups=3)
    bench = Bench(world)
    bench.settle(bench.start(put(LOW)))
    call = bench.start(put(LOW, value=b"x"))
    bench.lose()
    world.move(LOW, 3)
    assert isinstance(bench.settle(call), Written)
    sent = [each.request for each in requests(bench, WriteRequest)]
    assert [(each.group, each.sequence) for each in sent if each.group == 3][-1] == (3, 2)
    world.move(LOW, 1)
    bench.arrive_late()
    assert [each[2][0].value for each in world.applied] == [b"v", b"x"]


def test_not_more_writes_are_under_way_than_a_group_remembers(bench):
    bench.settle(bench.start(put(LOW)))
    calls = [bench.start(put(LOW)) for _ in range(WRITES_MAX + 10)]
    assert len(bench.wires) == WRITES_MAX
    oldest = bench.wires[0]
    while len(bench.wires) > 1:
        bench.deliver(1)
    assert bench.wires == [oldest]  # the window begins at the oldest, so nothing goes past it
    bench.deliver()
    assert len(bench.wires) == 10
    assert all(isinstance(bench.settle(call), Written) for call in calls)
    assert [each[1] for each in bench.world.applied][1:] != []
    assert len(bench.world.applied) == len(calls) + 1


def test_a_caller_that_has_gone_lets_the_next_one_in(bench):
    bench.settle(bench.start(put(LOW)))
    calls = [bench.start(put(LOW)) for _ in range(WRITES_MAX + 1)]
    assert len(bench.wires) == WRITES_MAX
    bench.client.cancel(calls[0], bench.now_ms)
    bench.take()
    assert len(bench.wires) == WRITES_MAX
    assert calls[0] not in bench.ends


def test_a_read_of_one_group_is_one_request_and_of_several_as_of_the_latest_of_them(bench):
    for key in (LOW, HIGH):
        bench.settle(bench.start(put(key, value=b"v" + key)))
    bench.sent.clear()
    got = bench.settle(bench.start(Read((LOW, b"\x11"))))
    assert [each and each.value for each in got.versions] == [b"v" + LOW, None]
    assert (len(bench.sent), got.index > 0) == (1, True)
    bench.sent.clear()
    got = bench.settle(bench.start(Read((HIGH, LOW, HIGH))))
    assert [each.value for each in got.versions] == [b"v" + HIGH, b"v" + LOW, b"v" + HIGH]
    stamps = [each.request for each in bench.sent if not each.request.keys]
    reads = [each.request for each in bench.sent if each.request.keys]
    assert [each.group for each in stamps] == [2, 1] or [each.group for each in stamps] == [1, 2]
    assert {each.read_ts for each in reads} == {got.read_ts}


def test_many_keys_of_one_group_are_read_in_parts_of_one_moment(bench):
    keys = tuple(b"\x01%06d" % each for each in range(5_000))
    got = bench.settle(bench.start(Read(keys)))
    assert len(got.versions) == 5_000
    assert len({e.request.read_ts for e in requests(bench, ReadRequest) if e.request.keys}) == 1


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_goes_through_the_groups_in_order_as_of_one_moment(bench, reverse):
    keys = [bytes([each]) for each in range(0x70, 0x90, 3)]
    for key in keys:
        bench.settle(bench.start(put(key)))
    call = bench.start(Scan(b"\x70", b"\x90", reverse=reverse))
    read_ts = bench.settle(call)
    assert [key for key, _ in bench.rows[call]] == (keys[::-1] if reverse else keys)
    scans = [each.request for each in requests(bench, ScanRequest)]
    assert [each.group for each in scans] == ([2, 1] if reverse else [1, 2])
    assert {each.read_ts for each in scans} == {read_ts}


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 8, 100])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_gives_no_more_rows_than_asked_for(bench, limit, reverse):
    keys = [bytes([each]) for each in (0x10, 0x20, 0x30, 0x90, 0xA0)]
    for key in keys:
        bench.settle(bench.start(put(key)))
    call = bench.start(Scan(limit=limit, reverse=reverse))
    bench.settle(call)
    expected = (keys[::-1] if reverse else keys)[:limit]
    assert [key for key, _ in bench.rows[call]] == expected


def test_a_scan_over_a_span_that_moves_misses_nothing_and_repeats_nothing(bench):
    keys = [bytes([each]) for each in range(0x10, 0xF0, 0x10)]
    for key in keys:
        bench.settle(bench.start(put(key)))
    call = bench.start(Scan())
    while not bench.rows[call]:
        bench.deliver()
    bench.world.split(b"\x40")
    bench.world.move(b"\x40", 2)
    bench.world.move(b"\x20", 2)
    bench.settle(call)
    assert [key for key, _ in bench.rows[call]] == keys


@pytest.mark.parametrize(("reverse", "on"), [(False, b"\x74"), (True, b"\x7a")])
def test_a_stream_that_ends_among_keys_that_are_not_shown_is_gone_on_with_there(bench, reverse, on):
    bench.settle(bench.start(put(b"\x75")))
    call = bench.start(Scan(b"\x70", b"\x7f", reverse=reverse))
    while not requests(bench, ScanRequest):
        bench.deliver()
    [send] = [each for each in bench.wires if isinstance(each.request, ScanRequest)]
    bench.wires.remove(send)
    bench.client.answered(
        send.attempt, Page(bench.world.clock, (), done=False, next_key=on), bench.now_ms
    )
    ended = Unavailable("the stream ended before its last page", code="scan_interrupted")
    bench.client.failed(send.attempt, Failure(Fate.NOT_DONE, ended, send.address), bench.now_ms)
    bench.take()
    bench.settle(call)
    following = requests(bench, ScanRequest)[-1].request
    assert (following.end if reverse else following.start) == on
    assert [key for key, _ in bench.rows[call]] == [b"\x75"]


def test_an_empty_range_has_no_rows_but_a_moment(bench):
    call = bench.start(Scan(b"b", b"a"))
    assert bench.settle(call) > 0
    assert bench.rows[call] == []


def test_routes_follow_the_watch_and_a_hole_lists_them_again(bench):
    bench.settle(bench.start(put(LOW)))
    bench.watch()
    bench.pass_time()
    bench.world.split(b"\x40")
    bench.watch()
    assert bench.client.routes == bench.world.table
    lists = len(requests(bench, RoutesRequest))
    bench.world.split(b"\x20")
    bench.world.split(b"\x30")
    [(attempt, _)] = bench.watches.items()
    bench.client.watched(attempt, bench.world.deltas[-1], bench.now_ms)
    bench.take()
    assert bench.watches == {}
    assert len(requests(bench, RoutesRequest)) == lists + 1
    bench.deliver()
    assert bench.client.routes == bench.world.table
    assert [version for _, version in bench.watches.values()] == [bench.world.table.version]


def test_a_server_without_a_watch_is_polled(bench):
    bench = Bench(poll_ms=700)
    bench.settle(bench.start(put(LOW)))
    [(attempt, _)] = bench.watches.items()
    bench.watches.clear()
    unknown = InvalidInput("no such method", code="status_unimplemented")
    bench.client.failed(attempt, failure_of(unknown, writes=False), bench.now_ms)
    for _ in range(3):
        lists, before = len(requests(bench, RoutesRequest)), bench.now_ms
        bench.world.split(bytes([0x20 + lists]))
        while len(requests(bench, RoutesRequest)) == lists:
            bench.pass_time()
        assert bench.now_ms == before + 700
        bench.deliver()
        assert bench.client.routes == bench.world.table
    assert bench.watches == {}


def test_a_watch_beyond_what_the_server_has_lists_the_routes(bench):
    bench.settle(bench.start(put(LOW)))
    [(attempt, _)] = bench.watches.items()
    ahead = InvalidInput("ahead", code="watch_cursor_ahead")
    lists = len(requests(bench, RoutesRequest))
    bench.client.failed(attempt, failure_of(ahead, writes=False), bench.now_ms)
    bench.pass_time(by_ms=250)
    assert len(requests(bench, RoutesRequest)) == lists + 1


def test_deltas_apply_only_where_they_fit():
    world = World()
    world.split(b"\x40")
    world.split(b"\x20")
    cache = RouteCache()
    assert not cache.apply(world.deltas[0])
    cache.replace(world.tables[0])
    assert not cache.apply(world.deltas[1])
    assert cache.apply(world.deltas[0])
    assert cache.apply(world.deltas[0])  # known already
    assert cache.table == world.tables[1]
    assert not cache.replace(world.tables[0])
    other = RouteTable(2, world.tables[0].routes[:1])
    cache.table = other
    assert not cache.apply(world.deltas[1])  # deletes what is not there
    assert cache.table is other


@pytest.mark.parametrize(
    ("error", "writes", "fate"),
    [
        (Unavailable("", code="node_unreachable"), True, Fate.NOT_DONE),
        (Unavailable("", code="not_leader"), False, Fate.NOT_DONE),
        (Unavailable("", code="x", retryable=False), True, Fate.REFUSED),
        (Unavailable("", code="ownership_unknown"), True, Fate.STALE_ROUTES),
        (OutcomeUnknown("", code="connection_lost"), True, Fate.UNKNOWN),
        (OutcomeUnknown("", code="dedupe_expired"), True, Fate.REFUSED),
        (Internal("", code="node_bug"), True, Fate.UNKNOWN),
        (Internal("", code="node_bug"), False, Fate.REFUSED),
        (Conflict("", code="precondition_failed"), True, Fate.REFUSED),
        (InvalidInput("", code="status_unimplemented"), False, Fate.UNIMPLEMENTED),
    ],
)
def test_what_an_error_means_for_the_next_attempt(error, writes, fate):
    assert failure_of(error, writes=writes) == Failure(fate, error)


def test_an_answer_to_something_else_is_corrupt(bench):
    bench.settle(bench.start(put(LOW)))
    call = bench.start(Read((LOW,)))
    [send] = bench.wires
    bench.client.answered(send.attempt, GotMany(1, 1, ()), bench.now_ms)
    bench.take()
    assert isinstance(bench.ends[call], Corruption)
    bench.client.answered(send.attempt, GotMany(1, 1, (StoredVersion(b"", 1),)), bench.now_ms)
    bench.take()  # nobody waits for it any more


@pytest.mark.parametrize("call", [Write(()), Read(()), Scan(limit=0), Scan(limit=-1)])
def test_a_call_that_asks_for_nothing_is_refused_at_once(bench, call):
    with pytest.raises(InvalidArgument) as refused:
        bench.start(call)
    assert refused.value.code == "call_invalid"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Read((b"k",), -1), "timestamp -1"),
        (Read((b"k",), 2**64), "no 64-bit number"),
        (Read(("k",)), "a key of type str"),
        (Scan("a"), "a bound of type str"),
        (Scan(b"a", 7), "a bound of type int"),
        (Scan(read_ts=-5), "timestamp -5"),
        (Write((Mutation("k", b"v"),)), "a key of type str"),
        (Write((Mutation(b"k", 7),)), "a value of type int"),
        (Write((Mutation(b"k", b"v", -1),)), "an expiry at -1 ms"),
        (Write((Mutation(b"k", b"v"),), (Precondition(b"k", 2**64),)), "no 64-bit number"),
        (Write((Mutation(b"k", b"v"),), (Precondition(None),)), "a key of type NoneType"),
    ],
)
def test_a_call_of_other_types_or_out_of_range_is_refused_before_it_is_sent(bench, call, said):
    with pytest.raises(InvalidArgument, match=said) as refused:
        bench.start(call)
    assert refused.value.code == "call_invalid"
    assert bench.wires == []


@pytest.mark.parametrize("value", [None, "v", 7])
def test_what_is_put_is_bytes_and_none_is_no_deletion(value):
    with pytest.raises(InvalidArgument, match="not bytes"):
        check_put(value)
    check_put(b"")


def test_a_client_needs_addresses_an_id_and_calls_a_timeout(bench):
    for addresses, client_id in (([], CLIENT_ID), (["a"], b"short")):
        with pytest.raises(InvalidArgument):
            Client(addresses, client_id)
    with pytest.raises(InvalidArgument):
        bench.start(Read((LOW,)), timeout_ms=0)
