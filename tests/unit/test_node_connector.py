"""The node connector against a client that plays what a cluster can answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from workbench_connectors import node as module
from workbench_connectors.node import NodeConnector, connect

from workbench.errors import (
    Conflict,
    Internal,
    InvalidArgument,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from workbench.model.keys import Span
from workbench.model.node import (
    ClosedWindow,
    HotKeyCount,
    KeySample,
    LoadRow,
    Member,
    NodeStatus,
    RouteKeys,
)
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import HOT_KEY, KEY_SAMPLE, LOAD_WINDOW
from workbench.model.times import from_us
from workbench.node import wire
from workbench.node.client import Windows
from workbench.ports.connector import Executor, LoadSource, RouteSource, SplitCall, SplitReceipt

MINUTE_US = 60_000_000
NOW = datetime(2026, 11, 21, tzinfo=UTC)
PARENT = RouteDescriptor(7, Span(b"a", b"z"), 2)
LEFT = RouteDescriptor(8, Span(b"a", b"m"), 2, parent_route_id=7, split_at_hlc=5)
RIGHT = RouteDescriptor(9, Span(b"m", b"z"), 2, parent_route_id=7, split_at_hlc=5)
BEFORE = RouteSnapshot(3, (PARENT,), NOW, cluster_id="c")
AFTER = RouteSnapshot(4, (LEFT, RIGHT), NOW, cluster_id="c")
MADE = SplitReceipt(4, LEFT, RIGHT, repeated=False)
FOUND = replace(MADE, repeated=True)
SPLIT = SplitCall(PARENT, b"m", expected_version=3)

LOST = OutcomeUnknown("lost", code="connection_lost")
DOWN = Unavailable("down", code="node_unreachable")
STALE = Conflict("stale", code="catalog_version_mismatch")
ABSENT = NotFound("absent", code="route_absent")
BROKEN = Internal("conflict at commit", code="status_internal")


class FakeClient:
    """Answers calls from lists; the last answer of a list stays."""

    def __init__(self, *, splits=(), routes=(BEFORE,), windows=(), oldest_us=0, members=1):
        self.splits = list(splits)
        self.routes = list(routes)
        self.closed = list(windows)
        self.oldest_us = oldest_us
        self.missing = ()
        self.members = tuple(Member(n + 1, f"127.0.0.1:{n}", (1,)) for n in range(members))
        self.window_ms = 60_000
        self.calls = []
        self.open = True

    def status(self):
        return NodeStatus("c", 1, 1, "0", (), self.members, 3, self.window_ms)

    def list_routes(self):
        self.calls.append("routes")
        return self._next(self.routes)

    def split_range(self, **fields):
        self.calls.append(("split", fields))
        return self._next(self.splits)

    def windows(self, since_us=None):
        self.calls.append(("windows", since_us))
        return Windows(list(self.closed), self.oldest_us, self.missing)

    def close(self):
        self.open = False

    @staticmethod
    def _next(answers):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def opened(client, *, allow_write=True, naps=None):
    sleep = (lambda _: None) if naps is None else naps.append
    return NodeConnector(client, ["127.0.0.1:7001"], allow_write=allow_write, sleep=sleep)


def applied(client, **options):
    connector = opened(client, **options)
    return connector.apply(connector.prepare(SPLIT, "plan-1"))


def row(route_id=1, start=b"", end=None, **fields):
    return replace(LoadRow(route_id, 1, start, end, 5, 1, 50, 10, 1.0), **fields)


def window(number, *rows, node=1, window_us=MINUTE_US):
    return ClosedWindow(node, number * window_us, (number + 1) * window_us, rows)


# --- opening


def test_connector_is_all_three_kinds_of_source():
    connector = connect("node://127.0.0.1:7001")
    assert isinstance(connector, RouteSource)
    assert isinstance(connector, LoadSource)
    assert isinstance(connector, Executor)
    connector.close()


@pytest.mark.parametrize(
    "url", ["node://127.0.0.1:7001", "node://a.b:1,c-d:65535", "node://[::1]:7001", "node://h:1/"]
)
def test_address_lists_are_accepted(url):
    connect(url).close()


@pytest.mark.parametrize(
    "url",
    ["node://", "node:a:1", "node://a", "node://a:0", "node://a:65536", "node://a:1,", "node://a:x",
     "node://:1", "node://a b:1", "node://a/b:1", "node://a:1?x", "node://é:1", "node://::1:7001",
     "node://" + ",".join(["a:1"] * 65)],
)  # fmt: skip
def test_url_that_names_no_address_is_refused(url):
    with pytest.raises(InvalidArgument) as caught:
        connect(url)
    assert caught.value.code == "url_invalid"


def test_close_closes_the_connections():
    client = FakeClient()
    opened(client).close()
    assert not client.open


# --- load


def test_windows_of_all_members_become_one_checked_table():
    client = FakeClient(
        windows=[
            window(1, row(2, b"m", group=2), node=2),
            window(1, row(1, b"a", b"m"), row(1, b"", b"a")),
        ],
        members=2,
        oldest_us=MINUTE_US,
    )
    answer = opened(client, allow_write=False).load("c1", from_us(5))
    assert client.calls == [("windows", 5)]
    assert answer.windows.schema == LOAD_WINDOW
    assert answer.windows.column("bucket_start").to_pylist() == [b"", b"a", b"m"]
    assert answer.windows.column("bucket_end").to_pylist() == [b"a", b"m", None]
    assert answer.windows.to_pylist()[2] == {
        "cluster": "c1",
        "window_start": from_us(MINUTE_US),
        "window_end": from_us(2 * MINUTE_US),
        "route_id": 2,
        "group": 2,
        "bucket_start": b"m",
        "bucket_end": None,
        "reads": 5,
        "writes": 1,
        "read_bytes": 50,
        "write_bytes": 10,
        "cpu_ns": None,
        "coverage": 1.0,
        "error_bound": 0.0,
    }
    assert (answer.window_ms, answer.oldest) == (60_000, from_us(MINUTE_US))
    assert answer.notes["cpu_ns"] == "not measured"


def test_window_that_a_member_has_not_closed_yet_is_held_back():
    closed = [window(1, row()), window(2, row()), window(1, row(2, group=2), node=2)]
    answer = opened(FakeClient(windows=closed, members=2)).load("c1", None)
    assert set(answer.windows.column("window_start").to_pylist()) == {from_us(MINUTE_US)}


def test_member_that_has_told_no_window_holds_all_back():
    answer = opened(FakeClient(windows=[window(1, row())], members=2)).load("c1", None)
    assert answer.windows.num_rows == 0


def test_member_that_does_not_answer_holds_nothing_back_and_is_named():
    closed = [window(1, row()), window(2, row())]
    client = FakeClient(windows=closed, members=3)
    client.missing = (2, 3)
    answer = opened(client).load("c1", None)
    assert answer.missing == ("node 2", "node 3")
    assert len(set(answer.windows.column("window_start").to_pylist())) == 2
    assert opened(FakeClient(windows=closed)).load("c1", None).missing == ()


def test_cluster_that_has_closed_no_window_has_an_empty_table():
    answer = opened(FakeClient(oldest_us=None)).load("c1", None)
    assert (answer.windows.num_rows, answer.windows.schema) == (0, LOAD_WINDOW)
    assert answer.oldest is None


def test_what_two_leaders_counted_in_one_window_adds_up_on_the_bounds_that_both_know():
    before = [row(1, b"", b"c", coverage=0.4), row(1, b"c", b"m", coverage=0.4)]
    before.append(row(1, b"m", None, coverage=0.4))
    after = [row(1, b"", b"m", coverage=0.6), row(1, b"m", None, coverage=0.6)]
    windows = [window(1, *before), window(1, *after, node=2)]
    table = opened(FakeClient(windows=windows, members=2)).load("c1", None).windows
    assert table["bucket_start"].to_pylist() == [b"", b"m"]
    assert table["bucket_end"].to_pylist() == [b"m", None]
    one = row(1)
    assert table["reads"].to_pylist() == [3 * one.reads, 2 * one.reads]
    assert table["write_bytes"].to_pylist() == [3 * one.write_bytes, 2 * one.write_bytes]
    assert table["coverage"].to_pylist() == [1.0, 1.0]


def test_a_leader_that_learned_late_that_it_was_replaced_does_no_harm():
    windows = [window(1, row(1, coverage=1.0)), window(1, row(1, coverage=0.6), node=2)]
    table = opened(FakeClient(windows=windows, members=2)).load("c1", None).windows
    assert table["reads"].to_pylist() == [2 * row(1).reads]
    assert table["coverage"].to_pylist() == [1.0]


@pytest.mark.parametrize(
    "windows",
    [
        [window(1, row(1)), window(1, row(2, group=2))],  # a node twice
        [window(1, row(1, group=1)), window(1, row(1, group=2), node=2)],  # a route by two nodes
    ],
)
def test_what_is_told_of_twice_for_one_window_is_refused(windows):
    with pytest.raises(InvalidInput) as caught:
        opened(FakeClient(windows=windows)).load("c1", None)
    assert caught.value.code == "load_told_twice"


@pytest.mark.parametrize(
    "windows",
    [
        [window(1, row(1, b"", b"m"), row(1, b"l", None))],  # buckets that overlap
        [window(1, row(1, b"", b"m"), row(1, b"", b"m"))],  # a bucket twice
        [window(1, row(1, b"", b"m"), row(1, b"m", None, group=2))],  # a route on two groups
        [window(1, row(1, coverage=1.5))],
        [window(1, row(1, coverage=0.0))],
        [window(1, row(1, coverage=float("nan")))],
        [window(1, row(0))],
        [window(1, row(1, group=0))],
        [window(1, row(2**63))],
        [window(1, row(), window_us=1)],  # another length
        [replace(window(1, row()), start_us=MINUTE_US + 1, end_us=2 * MINUTE_US + 1)],
        [replace(window(1, row()), start_us=-MINUTE_US, end_us=0)],
        [window(10**13, row())],  # beyond the year 9999
    ],
)
def test_load_that_cannot_be_is_refused(windows):
    with pytest.raises(InvalidInput) as caught:
        opened(FakeClient(windows=windows)).load("c1", None)
    assert caught.value.code == "load_malformed"


def test_negative_counter_and_reversed_bucket_are_refused():
    for bad in (row(reads=-1), row(1, b"z", b"a")):
        with pytest.raises(InvalidInput):
            opened(FakeClient(windows=[window(1, bad)])).load("c1", None)


def test_window_length_of_zero_is_refused():
    client = FakeClient()
    client.window_ms = 0
    with pytest.raises(InvalidInput):
        opened(client).load("c1", None)


# --- heavy keys and drawn accesses


def keys_of(route_id, *heavy, untold_max=0, samples=()):
    told = tuple(HotKeyCount(*each) for each in heavy)
    return RouteKeys(route_id, untold_max, told, tuple(KeySample(*each) for each in samples))


def with_keys(closed, *keys):
    return replace(closed, keys=keys)


def test_heavy_keys_and_samples_of_all_members_become_checked_tables():
    low = keys_of(1, (b"a", 5, 0), (b"b", 3, 1), samples=[(b"a", False, 2.0), (b"c", True, 2.0)])
    high = keys_of(2, (b"m", 2, 0))
    windows = [
        with_keys(window(1, row(2, b"m", group=2), node=2), high),
        with_keys(window(1, row(1, b"", b"m")), low),
    ]
    answer = opened(FakeClient(windows=windows, members=2)).load("c1", None)
    assert (answer.hot_keys.schema, answer.key_samples.schema) == (HOT_KEY, KEY_SAMPLE)
    told = answer.hot_keys.to_pylist()
    assert [(t["route_id"], t["key"], t["count"], t["error"]) for t in told] == [
        (1, b"a", 5, 0),
        (1, b"b", 3, 1),
        (2, b"m", 2, 0),
    ]
    assert {t["sample_rate"] for t in told} == {1.0}
    assert {(t["window_start"], t["window_end"]) for t in told} == {
        (from_us(MINUTE_US), from_us(2 * MINUTE_US))
    }
    drawn = answer.key_samples.to_pylist()
    assert [(t["route_id"], t["key"], t["op"], t["weight"]) for t in drawn] == [
        (1, b"a", "read", 2.0),
        (1, b"c", "write", 2.0),
    ]


def test_heavy_keys_of_two_leaders_add_up_and_what_one_leaves_open_is_error():
    before = keys_of(1, (b"a", 4, 1), (b"b", 2, 0), samples=[(b"a", True, 3.0)])
    after = keys_of(1, (b"a", 3, 0), untold_max=1, samples=[(b"a", True, 2.0)])
    windows = [
        with_keys(window(1, row(1, coverage=0.4)), before),
        with_keys(window(1, row(1, coverage=0.6), node=2), after),
    ]
    answer = opened(FakeClient(windows=windows, members=2)).load("c1", None)
    told = [(t["key"], t["count"], t["error"]) for t in answer.hot_keys.to_pylist()]
    assert told == [(b"a", 7, 1), (b"b", 3, 1)]
    assert answer.key_samples.column("weight").to_pylist() == [3.0, 2.0]


def test_leader_that_tells_of_no_keys_leaves_all_its_accesses_open():
    windows = [
        with_keys(window(1, row(1, coverage=0.4)), keys_of(1, (b"a", 6, 0))),
        window(1, row(1, coverage=0.6), node=2),
    ]
    answer = opened(FakeClient(windows=windows, members=2)).load("c1", None)
    [told] = answer.hot_keys.to_pylist()
    assert (told["count"], told["error"]) == (6 + 6, 6)


def test_keys_of_a_window_that_is_held_back_are_held_back_too():
    closed = [with_keys(window(1, row()), keys_of(1, (b"a", 6, 0), samples=[(b"a", True, 6.0)]))]
    answer = opened(FakeClient(windows=closed, members=2)).load("c1", None)
    assert (answer.hot_keys.num_rows, answer.key_samples.num_rows) == (0, 0)


@pytest.mark.parametrize(
    "keys",
    [
        [keys_of(2, (b"a", 1, 0))],  # no load of that route
        [keys_of(1), keys_of(1)],
        [keys_of(1, (b"a", 1, 0), (b"a", 1, 0))],
        [keys_of(1, (b"z", 1, 0))],  # not in the route
        [keys_of(1, (b"a" * 4097, 1, 0))],
        [keys_of(1, (b"a", 0, 0))],
        [keys_of(1, (b"a", 1, 2))],
        [keys_of(1, (b"a", 1, -1))],
        [keys_of(1, untold_max=-1)],
        [keys_of(1, samples=[(b"z", True, 1.0)])],
        [keys_of(1, samples=[(b"a", True, 0.5)])],
        [keys_of(1, samples=[(b"a", True, float("nan"))])],
        [keys_of(1, samples=[(b"a", True, float("inf"))])],
    ],
)
def test_keys_that_cannot_be_are_refused(keys):
    windows = [with_keys(window(1, row(1, b"", b"m")), *keys)]
    with pytest.raises(InvalidInput) as caught:
        opened(FakeClient(windows=windows)).load("c1", None)
    assert caught.value.code == "load_malformed"


# --- splits


def test_prepared_call_is_the_literal_one():
    call = opened(FakeClient()).prepare(SPLIT, "plan-1")
    assert (call.address, call.method) == ("127.0.0.1:7001", wire.SPLIT_RANGE)
    assert call.fields == {"expected_catalog_version": 3, "route_id": 7, "split_key": "6d"}
    assert call.metadata == {wire.REQUEST_ID_KEY: "plan-1"}
    assert set(call.fields) == {field.name for field in module_fields("SplitRangeRequest")}, (
        "every request field is shown"
    )


def module_fields(name):
    from workbench.node.proto import distribution_pb2

    return distribution_pb2.DESCRIPTOR.message_types_by_name[name].fields


def test_split_is_made_once():
    client = FakeClient(splits=[MADE])
    assert applied(client) == MADE
    assert client.calls == [
        (
            "split",
            {"expected_version": 3, "route_id": 7, "split_key": b"m", "request_id": "plan-1"},
        )
    ]


def test_connector_that_was_opened_read_only_splits_nothing():
    client = FakeClient(splits=[MADE])
    with pytest.raises(InvalidArgument) as caught:
        applied(client, allow_write=False)
    assert caught.value.code == "connector_read_only"
    assert client.calls == []


def test_node_that_is_down_is_tried_again_under_the_same_request_id():
    naps = []
    client = FakeClient(splits=[DOWN, DOWN, MADE])
    assert applied(client, naps=naps) == MADE
    assert {fields["request_id"] for _, fields in client.calls} == {"plan-1"}
    assert naps == list(module.PAUSES_S[:2])


def test_node_that_stays_down_did_nothing():
    client = FakeClient(splits=[DOWN])
    with pytest.raises(Unavailable):
        applied(client)
    assert len(client.calls) == 1 + len(module.PAUSES_S)


def test_refusal_that_no_repetition_mends_is_not_repeated():
    client = FakeClient(splits=[Unavailable("x", code="x", retryable=False)])
    with pytest.raises(Unavailable):
        applied(client)
    assert len(client.calls) == 1


@pytest.mark.parametrize("error", [LOST, STALE, ABSENT, BROKEN])
def test_split_that_was_made_although_the_answer_says_otherwise_is_found(error):
    client = FakeClient(splits=[error], routes=[AFTER])
    assert applied(client) == FOUND


@pytest.mark.parametrize("error", [STALE, ABSENT, BROKEN])
def test_error_stands_where_the_children_are_not_there(error):
    client = FakeClient(splits=[error])
    with pytest.raises(type(error)) as caught:
        applied(client)
    assert caught.value is error
    assert [each if each == "routes" else each[0] for each in client.calls] == ["split", "routes"]


def test_children_of_another_parent_are_not_ours():
    other = [replace(route, parent_route_id=6) for route in (LEFT, RIGHT)]
    client = FakeClient(splits=[STALE], routes=[RouteSnapshot(9, tuple(other), NOW)])
    with pytest.raises(Conflict):
        applied(client)


def test_lost_call_is_looked_for_before_it_is_repeated():
    client = FakeClient(splits=[LOST, MADE])
    assert applied(client) == MADE
    assert [each if each == "routes" else each[0] for each in client.calls] == [
        "split",
        "routes",
        "split",
    ]


def test_lost_call_that_lands_late_is_found_after_the_conflict_it_causes():
    client = FakeClient(splits=[LOST, STALE], routes=[BEFORE, AFTER])
    assert applied(client) == FOUND


@pytest.mark.parametrize("then", [LOST, DOWN])
def test_outcome_that_nobody_can_tell_is_unknown(then):
    client = FakeClient(splits=[LOST, then])
    with pytest.raises(OutcomeUnknown) as caught:
        applied(client)
    assert caught.value.code == "split_outcome_unknown"


def test_outcome_is_unknown_where_the_routes_cannot_be_looked_at():
    client = FakeClient(splits=[STALE], routes=[DOWN])
    with pytest.raises(OutcomeUnknown):
        applied(client)


def test_wrong_split_key_is_not_repeated():
    client = FakeClient(splits=[InvalidInput("at bound", code="split_key_at_bound")])
    with pytest.raises(InvalidInput):
        applied(client)
    assert len(client.calls) == 1


# --- find


@pytest.mark.parametrize(
    ("routes", "found"),
    [
        ((PARENT,), None),
        ((LEFT, RIGHT), FOUND),
        ((LEFT,), None),
        ((LEFT, replace(RIGHT, parent_route_id=6)), None),
        ((replace(LEFT, parent_route_id=0), replace(RIGHT, parent_route_id=0)), None),
        ((LEFT, replace(RIGHT, span=Span(b"m", b"p"))), None),  # the right child was split again
        ((replace(LEFT, span=Span(b"c", b"m")), RIGHT), None),  # the left one was
    ],
)
def test_find_takes_only_both_children_of_one_parent(routes, found):
    client = FakeClient(routes=[RouteSnapshot(4, routes, NOW)])
    assert opened(client, allow_write=False).find(Span(b"a", b"z"), b"m") == found


@pytest.mark.parametrize("key", [b"a", b"z", b"0"])
def test_find_of_a_key_that_is_not_inside_the_span_is_none(key):
    assert opened(FakeClient()).find(Span(b"a", b"z"), key) is None
