"""One real node, spoken to by a client that knows nothing but the documented field numbers."""

from __future__ import annotations

import threading

import pytest

from tests.process.node_process import Hand, client_of, cluster, fields_of, message
from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.model.limits import BATCH_BYTES_MAX, SCAN_PAGE_BYTES_MAX, VALUE_BYTES_MAX
from workbench.model.routes import RouteDescriptor, RouteState

LIST_ROUTES = "/Distribution/ListRoutes"
GET_ROUTE = "/Distribution/GetRoute"
SPLIT = "/Distribution/SplitRange"
PUT, GET, DELETE = "/RawKV/RawPut", "/RawKV/RawGet", "/RawKV/RawDelete"
SCAN, LATEST = "/RawKV/RawScanAt", "/RawKV/RawLatestCommitTS"
BATCH, MULTI_GET = "/workbench.v1.KV/BatchWrite", "/workbench.v1.KV/MultiGet"
EVERY_METHOD = [
    GET_ROUTE,
    "/Distribution/GetTimestamp",
    LIST_ROUTES,
    SPLIT,
    PUT,
    GET,
    DELETE,
    SCAN,
    LATEST,
    BATCH,
    MULTI_GET,
    "/workbench.v1.Node/Status",
]
CLIENT = b"c" * 16


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """One node with two groups: group 1 below 0x80, group 2 from there on."""
    with cluster(tmp_path_factory.mktemp("node"), [[1, 2]]) as [node]:
        yield node


@pytest.fixture
def hand(node):
    hand = Hand(node.address)
    yield hand
    hand.close()


def routes(hand):
    """Return the catalog version, and the routes as fields by number."""
    answer = hand.call(LIST_ROUTES)
    return answer[1][0], [fields_of(each) for each in answer[2]]


def route_at(hand, key):
    """Return the route whose span holds a key."""
    for route in routes(hand)[1]:
        start, end = route.get(2, [b""])[0], route.get(3, [b""])[0]
        if start <= key and (not end or key < end):
            return route
    raise AssertionError(key)


def split(hand, route_id, split_key, *, version=None, request_id=None):
    version = routes(hand)[0] if version is None else version
    metadata = [("x-workbench-request-id", request_id)] if request_id else []
    data = message(f1=version, f2=route_id, f3=split_key)
    return hand.call(SPLIT, data, metadata=metadata)


def split_refused(hand, route_id, split_key, *, version=None, **how):
    version = routes(hand)[0] if version is None else version
    return hand.refused(SPLIT, message(f1=version, f2=route_id, f3=split_key), **how)


def test_seed_routes_cover_the_key_space_and_lie_on_their_groups(node):
    with client_of(node) as client:
        snapshot = client.list_routes()
        assert snapshot.cluster_id == node.config.cluster_id
        assert client.status().catalog_version == snapshot.catalog_version
    hand = Hand(node.address)
    first = fields_of(message(f2=b""))
    assert first == {2: [b""]}
    low, high = route_at(hand, b"\x00"), route_at(hand, b"\xff")
    assert (low[4], high[4]) == ([1], [2])
    assert 3 not in high  # proto3: an empty end is not sent, and means no upper bound
    hand.close()


def test_what_was_put_is_got_deleted_and_dated(hand):
    index = hand.call(PUT, message(f1=b"k1", f2=b"v1"))
    assert index[1][0] > 0
    assert index[2] == [1]
    got = hand.call(GET, message(f1=b"k1"))
    assert (got[2], got[3]) == ([b"v1"], [1])
    assert got[1][0] >= index[1][0]
    written = hand.call(LATEST, message(f1=b"k1"))[1][0]
    assert hand.call(DELETE, message(f1=b"k1"))[2] == [1]
    assert 3 not in hand.call(GET, message(f1=b"k1"))
    assert hand.call(GET, message(f1=b"k1", f3=written))[2] == [b"v1"]
    assert hand.call(LATEST, message(f1=b"k1"))[1][0] > written
    assert hand.call(LATEST, message(f1=b"never")) == {}


def test_an_empty_key_and_an_empty_value_are_legal(hand):
    hand.call(PUT, message(f1=b"", f2=b""))
    assert hand.call(GET, message(f1=b""))[3] == [1]
    hand.call(DELETE, message(f1=b""))
    assert 3 not in hand.call(GET, message(f1=b""))


def test_a_scan_merges_groups_in_key_order_both_ways(hand):
    keys = [bytes([first]) + b"/scan" for first in (0x10, 0x7F, 0x80, 0xF0)]
    for key in keys:
        hand.call(PUT, message(f1=key, f2=b"v" + key))

    def found(**fields):
        pairs = [fields_of(each) for each in hand.call(SCAN, message(**fields)).get(1, [])]
        return [pair[1][0] for pair in pairs if pair[1][0].endswith(b"/scan")]

    assert found() == keys
    assert found(f5=1) == keys[::-1]
    assert found(f1=b"\x20", f2=b"\x90") == keys[1:3]
    assert found(f1=keys[1], f2=keys[3], f5=1) == keys[2:0:-1]
    assert found(f1=b"\x7f", f3=2) == keys[1:3]
    assert found(f1=b"\x10", f2=b"\x11") == keys[:1]
    assert found(f1=b"\x50", f2=b"\x20") == []
    assert found(f6=2) == keys[2:]
    with_limit = hand.call(SCAN, message(f1=b"\x7f/", f2=b"\x81", f3=1))
    assert len(with_limit[1]) == 1
    assert hand.trailers["x-workbench-more"] == "1"
    only_keys = fields_of(hand.call(SCAN, message(f1=keys[3], f7=1))[1][0])
    assert only_keys == {1: [keys[3]]}


def test_a_scan_page_ends_at_its_limit_of_bytes_and_says_that_more_follows(node, hand):
    value = b"x" * (SCAN_PAGE_BYTES_MAX // 4)
    keys = [b"\x90page/%d" % number for number in range(6)]
    for key in keys:
        hand.call(PUT, message(f1=key, f2=value))
    page = hand.call(SCAN, message(f1=b"\x90page/", f2=b"\x90page0"))
    assert 1 <= len(page[1]) < 6
    assert hand.trailers["x-workbench-more"] == "1"
    with client_of(node) as client:
        assert [key for key, _ in client.scan(b"\x90page/", b"\x90page0")] == keys
        back = client.scan(b"\x90page/", b"\x90page0", reverse=True, limit=5)
        assert [key for key, _ in back] == keys[:0:-1]


def test_a_split_makes_two_children_and_everybody_sees_them(hand):
    parent = route_at(hand, b"\x30")
    version = routes(hand)[0]
    done = split(hand, parent[1][0], b"\x30")
    left, right = fields_of(done[2][0]), fields_of(done[3][0])
    assert done[1] == [version + 1]
    assert (left[3], right[2]) == ([b"\x30"], [b"\x30"])
    assert left[6] == right[6] == parent[1]
    assert left[7] == right[7]
    assert right[1][0] == left[1][0] + 1 > parent[1][0]
    assert left[4] == right[4] == parent[4]
    assert left[5] == right[5] == [1]
    assert routes(hand)[0] == version + 1
    ids = [route[1] for route in routes(hand)[1]]
    assert parent[1] not in ids
    answer = hand.call(GET_ROUTE, message(f1=b"\x30"))
    assert answer[1] == [b"\x30"]
    assert answer[3] == parent[4]


def test_splits_are_refused_in_the_documented_order(hand):
    route = route_at(hand, b"\xc0")
    route_id, start = route[1][0], route[2][0]
    version = routes(hand)[0]
    # Each call breaks all the later rules as well; the first in the order is what it hears.
    stale = split_refused(hand, 9_999, start, version=version + 7)
    assert (stale.status, stale.code) == ("ABORTED", "catalog_version_mismatch")
    absent = split_refused(hand, 9_999, start)
    assert (absent.status, absent.code) == ("NOT_FOUND", "route_absent")
    bound = split_refused(hand, route_id, start)
    assert (bound.status, bound.code) == ("INVALID_ARGUMENT", "split_key_at_bound")
    outside = split_refused(hand, route_id, b"\x01")
    assert (outside.status, outside.code) == ("INVALID_ARGUMENT", "split_key_outside")
    assert bound.text != outside.text
    reserved = split_refused(hand, route_at(hand, b"!")[1][0], b"!dist|meta")
    assert (reserved.status, reserved.code) == ("INVALID_ARGUMENT", "key_reserved")
    long = split_refused(hand, route_id, b"\xc0" * (KEY_BYTES_MAX + 1))
    assert (long.status, long.code) == ("INVALID_ARGUMENT", "key_too_long")
    assert routes(hand)[0] == version


def test_a_route_that_is_not_active_is_not_split(tmp_path):
    fenced = RouteDescriptor(2, Span(b"m", None), 1, RouteState.WRITE_FENCED)
    seeds = [RouteDescriptor(1, Span(b"", b"m"), 1), fenced]
    with cluster(tmp_path, [[1]], seeds) as [node]:
        hand = Hand(node.address)
        refusal = split_refused(hand, 2, b"m")  # at the bound as well, which comes later
        assert (refusal.status, refusal.code) == ("FAILED_PRECONDITION", "route_not_active")
        assert route_at(hand, b"z")[5] == [2]
        hand.close()


def test_a_split_repeated_under_its_request_id_is_made_once(hand):
    route_id = route_at(hand, b"\xe0")[1][0]
    version = routes(hand)[0]
    first = split(hand, route_id, b"\xe0", version=version, request_id="plan-1/a-1")
    assert "x-workbench-repeated" not in hand.trailers
    again = split(hand, route_id, b"\xe0", version=version, request_id="plan-1/a-1")
    assert hand.trailers["x-workbench-repeated"] == "1"
    assert again == first
    assert routes(hand)[0] == version + 1
    other = split_refused(
        hand, route_id, b"\xe0", version=version, metadata=[("x-workbench-request-id", "other")]
    )
    assert other.status == "ABORTED"
    long = split_refused(hand, 1, b"\xe0", metadata=[("x-workbench-request-id", "x" * 129)])
    assert (long.status, long.code) == ("INVALID_ARGUMENT", "request_id_invalid")


def test_of_two_splits_at_once_on_one_version_one_is_made(node, hand):
    route_id = route_at(hand, b"\xa0")[1][0]
    version = routes(hand)[0]
    ended = []

    def try_at(key):
        mine = Hand(node.address)
        try:
            split(mine, route_id, key, version=version)
            ended.append("made")
        except Exception as refusal:  # noqa: BLE001 - compared below
            ended.append(refusal.status)
        finally:
            mine.close()

    threads = [threading.Thread(target=try_at, args=(bytes([0xA0 + n]),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["ABORTED", "ABORTED", "ABORTED", "made"]
    assert routes(hand)[0] == version + 1


@pytest.mark.parametrize("method", EVERY_METHOD)
@pytest.mark.parametrize("data", [b"\x0a", b"\xff\xff", b"\x0a\x05ab", b"\x0f\x01"])
def test_what_is_no_protobuf_is_an_invalid_argument(hand, method, data):
    refusal = hand.refused(method, data)
    assert (refusal.status, refusal.code) == ("INVALID_ARGUMENT", "request_malformed")


def test_a_method_that_does_not_exist_is_unimplemented(hand):
    assert hand.refused("/Distribution/Nothing").status == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    ("method", "fields", "code"),
    [
        (PUT, {"f1": b"k" * (KEY_BYTES_MAX + 1), "f2": b"v"}, "key_too_long"),
        (PUT, {"f1": b"k", "f2": b"v" * (VALUE_BYTES_MAX + 1)}, "value_too_long"),
        (PUT, {"f1": b"!dist|meta|version", "f2": b"v"}, "key_reserved"),
        (GET, {"f1": b"!dist|meta|version"}, "key_reserved"),
        (GET, {"f1": b"k" * (KEY_BYTES_MAX + 1)}, "key_too_long"),
        (DELETE, {"f1": b"!dist|"}, "key_reserved"),
        (LATEST, {"f1": b"!dist|x"}, "key_reserved"),
        (SCAN, {"f1": b"!dist|", "f2": b"!dist|z"}, "key_reserved"),
        (SCAN, {"f1": b"k" * (KEY_BYTES_MAX + 1)}, "key_too_long"),
        (GET_ROUTE, {"f1": b"k" * (KEY_BYTES_MAX + 1)}, "key_too_long"),
        (MULTI_GET, {"f1": 1, "f2": [b"a", b"!dist|x"]}, "key_reserved"),
        (MULTI_GET, {"f1": 1, "f2": [b""] * 10_001}, "keys_too_many"),
        (BATCH, {"f1": 1}, "batch_empty"),
        (BATCH, {"f1": 1, "f4": message(f1=b"!dist|x", f2=b"v")}, "key_reserved"),
        (BATCH, {"f1": 1, "f4": message(f1=b"k", f2=b"v", f3=1)}, "mutation_invalid"),
        (BATCH, {"f1": 1, "f2": b"short", "f3": 1, "f4": message(f1=b"k")}, "client_invalid"),
        (BATCH, {"f1": 1, "f2": CLIENT, "f4": message(f1=b"k")}, "client_invalid"),
        (BATCH, {"f1": 1, "f3": 5, "f4": message(f1=b"k")}, "client_invalid"),
        (
            BATCH,
            {"f1": 1, "f4": [message(f1=b"k", f2=b"v" * 2**20)] * 2},
            "batch_too_large",
        ),
    ],
)
def test_limits_are_invalid_arguments_with_a_code(hand, method, fields, code):
    refusal = hand.refused(method, message(**fields))
    assert (refusal.status, refusal.code) == ("INVALID_ARGUMENT", code)
    assert ";" in refusal.text  # what was wrong; what to do


def test_the_longest_key_value_and_batch_are_taken(hand):
    key = b"\x60" * KEY_BYTES_MAX
    hand.call(PUT, message(f1=key, f2=b"v" * VALUE_BYTES_MAX))
    assert len(hand.call(GET, message(f1=key))[2][0]) == VALUE_BYTES_MAX
    one = message(f1=b"\x61one", f2=b"v" * 2**20)
    two = message(f1=b"\x61two", f2=b"")
    room = BATCH_BYTES_MAX - len(message(f1=1, f4=[one, two])) - 6
    two = message(f1=b"\x61two", f2=b"v" * room)
    batch = message(f1=1, f4=[one, two])
    assert BATCH_BYTES_MAX - 8 <= len(batch) <= BATCH_BYTES_MAX
    assert hand.call(BATCH, batch)[1][0] > 0


def test_more_than_a_frame_is_refused_before_it_is_read(hand):
    assert hand.refused(PUT, b"\x00" * (17 * 2**20)).status == "RESOURCE_EXHAUSTED"


def test_a_scan_of_everything_shows_no_record_of_the_cluster(node):
    with client_of(node) as client:
        client.put(b"!dis", b"below")
        client.put(b"!dist}", b"above")
        keys = [key for key, _ in client.scan(b"!", b'"')]
    assert keys == [b"!dis", b"!dist}"]


def test_a_batch_repeated_with_its_sequence_is_written_once(node):
    with client_of(node) as client:
        first = client.batch_write(1, [(b"\x40a", b"1")], client_id=CLIENT, sequence=1)
        client.put(b"\x40a", b"2")
        again = client.batch_write(1, [(b"\x40a", b"1")], client_id=CLIENT, sequence=1)
        assert again == first
        assert client.get(b"\x40a") == b"2"


def test_a_batch_is_atomic_and_a_read_of_many_keys_is_of_one_moment(node):
    with client_of(node) as client:
        written = client.batch_write(
            1, [(b"\x41a", b"1"), (b"\x41b", b"2")], client_id=b"", sequence=0
        )
        got = client.multi_get(1, [b"\x41b", b"\x41none", b"\x41a"])
        assert [each and each.value for each in got.versions] == [b"2", None, b"1"]
        assert {each.commit_ts for each in got.versions if each} == {written.commit_ts}
        assert got.read_ts >= written.commit_ts
        assert got.index >= written.index
        before = client.multi_get(1, [b"\x41a"], read_ts=written.commit_ts - 1)
        assert before.versions == (None,)


def test_a_call_that_spans_groups_is_refused_whole(hand):
    batch = message(f1=1, f4=[message(f1=b"\x42in", f2=b"v"), message(f1=b"\x92out", f2=b"v")])
    refusal = hand.refused(BATCH, batch)
    assert (refusal.status, refusal.code) == ("INVALID_ARGUMENT", "batch_spans_groups")
    assert "group 1: " in refusal.text
    assert "group 2: " in refusal.text
    assert 3 not in hand.call(GET, message(f1=b"\x42in"))
    spanning = hand.refused(MULTI_GET, message(f1=2, f2=[b"\x92", b"\x42"]))
    assert (spanning.status, spanning.code) == ("INVALID_ARGUMENT", "batch_spans_groups")
    elsewhere = hand.refused(MULTI_GET, message(f1=2, f2=[b"\x42"]))
    assert (elsewhere.status, elsewhere.code) == ("UNAVAILABLE", "ownership_unknown")


def test_a_group_that_there_is_not_is_not_found(hand):
    refusal = hand.refused(MULTI_GET, message(f1=77, f2=b"k"))
    assert (refusal.status, refusal.code) == ("NOT_FOUND", "group_absent")


def test_a_timestamp_lies_above_what_was_written_before_it(node):
    with client_of(node) as client:
        client.put(b"\x43", b"v")
        before = client.latest_commit_ts(b"\x43")
        assert before is not None
        assert client.get_timestamp() >= before


def test_a_read_far_in_the_future_is_refused(hand):
    refusal = hand.refused(GET, message(f1=b"k", f3=2**62))
    assert (refusal.status, refusal.code) == ("INVALID_ARGUMENT", "read_ts_ahead")
