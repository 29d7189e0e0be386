"""A stranger's client, made of documented field numbers alone, lists, splits, watches, puts, gets.

Many callers split at once, and the deltas alone tell what came of it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.process.node_process import Hand, Refusal, cluster, fields_of, message

LIST_ROUTES, SPLIT = "/Distribution/ListRoutes", "/Distribution/SplitRange"
CAPABILITIES, WATCH = "/Distribution/GetCatalogCapabilities", "/Distribution/WatchCatalog"
OWNERSHIP, INTERSECTING = (
    "/Distribution/GetRouteOwnership",
    "/Distribution/GetIntersectingRoutes",
)
PUT, GET, SCAN = "/RawKV/RawPut", "/RawKV/RawGet", "/workbench.v1.KV/Scan"
UPSERT, DELETE = 1, 2


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Node 1 has groups 1 and 3, node 2 has group 2."""
    with cluster(tmp_path_factory.mktemp("watch"), [[1, 3], [2]]) as nodes:
        yield nodes


@pytest.fixture
def hand(nodes):
    hand = Hand(nodes[0].address)
    yield hand
    hand.close()


class Watch:
    """A stream of events of one node, read as asked for."""

    def __init__(self, hand, after, *, protocol=1, batch=0, timeout_s=10.0):
        data = message(f1=protocol, f2=after, f3=batch)
        self.call = hand.channel.unary_stream(WATCH)(data, timeout=timeout_s)

    def next(self):
        """Return ("snapshot" or "delta", fields by number)."""
        [(number, [payload])] = fields_of(next(self.call)).items()
        return {1: "snapshot", 2: "delta"}[number], fields_of(payload)

    def refused(self):
        with pytest.raises(grpc.RpcError) as caught:
            next(self.call)
        trailers = dict(caught.value.trailing_metadata() or ())
        return caught.value.code().name, trailers.get("x-workbench-code"), trailers

    def close(self):
        self.call.cancel()


def number(fields, key):
    return fields.get(key, [0])[0]


def route_of(data):
    """Return a route as (id, start, end, group, parent)."""
    fields = fields_of(data)
    start, end = fields.get(2, [b""])[0], fields.get(3, [b""])[0]
    return number(fields, 1), start, end, number(fields, 4), number(fields, 6)


def routes(hand):
    answer = hand.call(LIST_ROUTES)
    return number(answer, 1), {route_of(each)[0]: route_of(each) for each in answer[2]}


def applied(table, delta):
    """Return a table of routes by id after a delta, and the ids that came."""
    table, came = dict(table), []
    for each in delta.get(3, []):
        mutation = fields_of(each)
        op, route_id = number(mutation, 1), number(mutation, 2)
        if op == DELETE:
            assert 3 not in mutation
            del table[route_id]
        else:
            assert op == UPSERT
            table[route_id] = route_of(mutation[3][0])
            assert table[route_id][0] == route_id
            came.append(route_id)
    return table, came


def check_partition(table):
    """Assert that the spans leave no gap and share no key."""
    covered = b""
    for _, start, end, _, _ in sorted(table.values(), key=lambda route: route[1]):
        assert start == covered
        covered = end
    assert covered == b""


def split(hand, version, route_id, key, request_id=None):
    metadata = [("x-workbench-request-id", request_id)] if request_id else []
    return hand.call(SPLIT, message(f1=version, f2=route_id, f3=key), metadata=metadata)


def route_at(table, key):
    return next(
        each for each in table.values() if each[1] <= key and (not each[2] or key < each[2])
    )


def test_a_stranger_lists_splits_watches_puts_and_gets(hand):
    version, table = routes(hand)
    told = hand.call(CAPABILITIES)
    assert (told[1], told[2], told[4]) == ([b"\x01"], [version], [1024])  # packed: protocol 1
    watch = Watch(hand, version)
    parent = route_at(table, b"\x05")
    answer = split(hand, version, parent[0], b"\x05")
    kind, delta = watch.next()
    assert kind == "delta"
    assert (number(delta, 1), number(delta, 2)) == (version, version + 1)
    table, came = applied(table, delta)
    assert came == [route_of(answer[2][0])[0], route_of(answer[3][0])[0]]
    assert [table[each][4] for each in came] == [parent[0]] * 2
    assert routes(hand) == (version + 1, table)
    assert number(hand.call(CAPABILITIES), 3) <= version + 1
    for key in (b"\x04k", b"\x06k"):
        hand.call(PUT, message(f1=key, f2=b"v" + key))
        assert hand.call(GET, message(f1=key))[2] == [b"v" + key]
    watch.close()


def test_a_watch_goes_on_from_every_version_that_is_kept(hand):
    version, table = routes(hand)
    for step in range(4):
        parent = route_at(table, bytes([8, step]))
        split(hand, version, parent[0], bytes([8, step]))
        version, table = routes(hand)
    for after in range(1, version + 1):
        watch = Watch(hand, after, batch=2)
        told = [watch.next() for _ in range(version - after)]
        assert [(kind, number(delta, 1)) for kind, delta in told] == [
            ("delta", each) for each in range(after, version)
        ]
        watch.close()
    watch = Watch(hand, 0)  # before the first version there are no routes to go on from
    kind, snapshot = watch.next()
    assert (kind, number(snapshot, 1)) == ("snapshot", version)
    assert {route_of(each)[0]: route_of(each) for each in snapshot[2]} == table
    watch.close()


def test_a_cursor_ahead_another_protocol_and_another_node_are_refused(nodes, hand):
    version, _ = routes(hand)
    ahead = Watch(hand, version + 1).refused()
    assert ahead[:2] == ("INVALID_ARGUMENT", "watch_cursor_ahead")
    for protocol in (0, 2):
        unknown = Watch(hand, version, protocol=protocol).refused()
        assert unknown[:2] == ("FAILED_PRECONDITION", "watch_protocol_unknown")
    other = Hand(nodes[1].address)
    status, code, trailers = Watch(other, version).refused()
    assert (status, code) == ("UNAVAILABLE", "not_leader")
    assert trailers["x-workbench-leader"] == nodes[0].address
    other.close()
    with pytest.raises(grpc.RpcError) as malformed:
        next(hand.channel.unary_stream(WATCH)(b"\xff", timeout=5))
    assert malformed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_owner_of_a_key_is_known_for_every_version_kept(nodes, hand):
    version, table = routes(hand)
    before = version
    for step in range(3):
        parent = route_at(table, bytes([9, step]))
        split(hand, version, parent[0], bytes([9, step]))
        version, table = routes(hand)
    for node in nodes:
        asked = Hand(node.address)
        now = asked.call(OWNERSHIP, message(f1=b"\x09\x01", f2=version))
        assert route_of(now[1][0]) == route_at(table, b"\x09\x01")
        assert (now[2], now[3]) == ([version], [1])
        old = asked.call(OWNERSHIP, message(f1=b"\x09\x01", f2=before + 1))
        assert number(old, 2) == before + 1
        assert route_of(old[1][0])[1] == b"\x09\x00"
        seed = asked.call(OWNERSHIP, message(f1=b"\x09\x01"))
        assert route_of(seed[1][0])[0] == 1
        inside = asked.call(INTERSECTING, message(f1=b"\x09\x00", f2=b"\x09\x02", f3=version))
        assert [route_of(each)[1] for each in inside[1]] == [b"\x09\x00", b"\x09\x01"]
        ahead = asked.refused(OWNERSHIP, message(f1=b"\x09", f2=version + 1))
        assert (ahead.status, ahead.code) == ("UNAVAILABLE", "catalog_version_ahead")
        asked.close()


def test_fifty_splits_at_once_are_made_once_each_and_partition_the_keys_at_every_version(nodes):
    """8 callers, 50 calls, any of them may lose its race; the deltas tell which were made."""
    hands = [Hand(nodes[each % 2].address) for each in range(8)]
    version, first = routes(hands[0])
    made: dict[int, tuple[int, bytes]] = {}
    conflicts = []
    lock = threading.Lock()
    keys = iter([bytes([0x11, step]) for step in range(50)])

    def work(hand):
        while True:
            with lock:
                key = next(keys, None)
            if key is None:
                return
            for _ in range(40):
                seen, table = routes(hand)
                try:
                    answer = split(hand, seen, route_at(table, key)[0], key)
                except Refusal as refusal:
                    with lock:
                        conflicts.append((refusal.status, refusal.code))
                    continue
                with lock:
                    made[number(answer, 1)] = (route_of(answer[3][0])[0], key)
                break

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, hand) for hand in hands]:
            done.result()
    last, final = routes(hands[0])
    watch, table = Watch(hands[0], version), dict(first)
    ids = set(first)
    for following in range(version + 1, last + 1):
        kind, delta = watch.next()
        assert (kind, number(delta, 1), number(delta, 2)) == ("delta", following - 1, following)
        table, came = applied(table, delta)
        check_partition(table)
        assert made.pop(following) == (came[1], table[came[1]][1])
        assert not ids & set(came)
        ids |= set(came)
    assert made == {}
    assert table == final
    assert last > version
    # Calls lost races, else this shows less than it says; nothing else went wrong with them.
    assert set(conflicts) == {("ABORTED", "catalog_version_mismatch")}
    watch.close()
    for hand in hands:
        hand.close()


def test_a_scan_streams_pages_of_one_moment_and_refuses_what_the_group_does_not_own(hand):
    keys = [b"\x20scan%03d" % each for each in range(40)]
    for key in keys:
        hand.call(PUT, message(f1=key, f2=b"v"))

    def scanned(**fields):
        call = hand.channel.unary_stream(SCAN)(message(**fields), timeout=10)
        chunks = [fields_of(each) for each in call]
        assert [3 in each for each in chunks] == [False] * (len(chunks) - 1) + [True]
        rows = [fields_of(row) for chunk in chunks for row in chunk.get(2, [])]
        return chunks, [row[1][0] for row in rows]

    chunks, found = scanned(f1=1, f2=keys[0], f3=b"\x20t", f7=64)
    assert found == keys
    assert len(chunks) > 5
    assert len({number(chunk, 1) for chunk in chunks}) == 1
    assert scanned(f1=1, f2=keys[0], f3=b"\x20t", f5=1)[1] == keys[::-1]
    assert scanned(f1=1, f2=keys[0], f3=b"\x20t", f6=7, f7=64)[1] == keys[:7]
    assert scanned(f1=1, f2=keys[0], f3=b"\x20t", f5=1, f6=3)[1] == keys[:-4:-1]
    for group, status in ((1, "UNAVAILABLE"), (2, "UNAVAILABLE"), (9, "NOT_FOUND")):
        call = hand.channel.unary_stream(SCAN)(message(f1=group, f2=keys[0]), timeout=5)
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
        assert refused.value.code().name == status


def test_a_caller_that_asks_for_it_is_told_where_to_go_instead_of_being_sent_on(nodes, hand):
    asked = [("x-workbench-redirect", "1")]
    key = b"\x60moved"
    hand.call(PUT, message(f1=key, f2=b"v"))
    with pytest.raises(grpc.RpcError) as moved:
        hand.channel.unary_unary("/workbench.v1.KV/MultiGet")(
            message(f1=2, f2=key), timeout=5, metadata=asked
        )
    assert moved.value.code() is grpc.StatusCode.ABORTED
    trailers = dict(moved.value.trailing_metadata())
    status = fields_of(trailers["grpc-status-details-bin"])
    detail = fields_of(status[3][0])
    assert (status[1], detail[1]) == ([10], [b"type.googleapis.com/workbench.v1.RouteMoved"])
    told = fields_of(detail[2][0])
    assert (told[1], told[3]) == ([2], [nodes[1].address.encode()])
    there = Hand(nodes[1].address)
    answer = there.call("/workbench.v1.KV/MultiGet", message(f1=2, f2=key), metadata=asked)
    assert fields_of(answer[2][0])[2] == [b"v"]
    there.close()


def test_a_single_key_and_a_timestamp_of_all_groups_come_from_any_node(nodes, hand):
    other = Hand(nodes[1].address)
    for key in (b"\x21one", b"\x61two"):
        hand.call(PUT, message(f1=key, f2=b"v" + key))
        for asked in (hand, other):
            answer = asked.call("/workbench.v1.KV/Get", message(f1=key))
            assert fields_of(answer[2][0])[2] == [b"v" + key]
            now = number(asked.call("/workbench.v1.KV/GetTimestamp"), 1)
            assert now >= number(fields_of(answer[2][0]), 3)
            old = asked.call("/workbench.v1.KV/Get", message(f1=key, f2=now))
            assert old[1] == [now]
    assert number(hand.call("/workbench.v1.KV/GetTimestamp", message(f1=2)), 1) > 0
    assert hand.refused("/workbench.v1.KV/GetTimestamp", message(f1=9)).code == "group_absent"
    other.close()
