"""Two real nodes, three groups: every call is answered by either; a silent peer is told of."""

from __future__ import annotations

import signal

import pytest
from process.raw_client import RawClient

from tests.process.node_process import Hand, client_of, cluster, message, until
from workbench.errors import OutcomeUnknown, Unavailable

KEYS = {1: b"\x10", 2: b"\x60", 3: b"\xd0"}  # one key of each group


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Node 1 has groups 1 and 3, node 2 has group 2."""
    with cluster(tmp_path_factory.mktemp("cluster"), [[1, 3], [2]]) as nodes:
        yield nodes


@pytest.fixture(params=[0, 1], ids=["node-1", "node-2"])
def client(nodes, request):
    with client_of(nodes[request.param]) as client:
        yield client


def test_every_write_and_read_is_answered_by_either_node(client):
    for group, key in KEYS.items():
        index = client.put(key + b"put", b"v%d" % group)
        assert index > 0
        assert client.get(key + b"put") == b"v%d" % group
        written = client.batch_write(
            group, [(key + b"batch", b"w"), (key + b"gone", None)], client_id=b"", sequence=0
        )
        got = client.multi_get(group, [key + b"batch", key + b"gone"])
        assert [each and each.value for each in got.versions] == [b"w", None]
        assert got.index >= written.index
        assert client.latest_commit_ts(key + b"batch") == written.commit_ts
        client.delete(key + b"put")
        assert client.get(key + b"put") is None


def test_a_scan_over_all_groups_is_the_same_from_either_node(nodes):
    with client_of(nodes[0]) as one, client_of(nodes[1]) as two:
        expected = []
        for number in range(30):
            key = bytes([number * 8]) + b"scan"
            one.put(key, b"%d" % number)
            expected.append((key, b"%d" % number))
        for client in (one, two):
            found = [pair for pair in client.scan() if pair[0].endswith(b"scan")]
            assert found == expected
            back = [pair for pair in client.scan(reverse=True) if pair[0].endswith(b"scan")]
            assert back == expected[::-1]
            assert len(list(client.scan(limit=7))) == 7


def test_a_scan_misses_no_write_that_was_acknowledged_before_it(nodes):
    with client_of(nodes[0]) as one, client_of(nodes[1]) as two:
        for number in range(120):
            key = KEYS[1 + number % 3] + b"fresh%d" % number
            one.put(key, b"v")
            assert (key, b"v") in set(two.scan(b"\x0f", b"\xd1"))


def test_a_split_through_either_node_is_seen_by_both(nodes):
    for place, client in enumerate([client_of(nodes[0]), client_of(nodes[1])]):
        with client as through:
            snapshot = through.list_routes()
            route = max(snapshot.routes, key=lambda each: each.route_id)
            key = route.span.start + b"\x01" if route.span.start else b"\x05"
            receipt = through.split_range(
                expected_version=snapshot.catalog_version,
                route_id=route.route_id,
                split_key=key,
                request_id=f"split-{place}",
            )
            assert not receipt.repeated
            again = through.split_range(
                expected_version=snapshot.catalog_version,
                route_id=route.route_id,
                split_key=key,
                request_id=f"split-{place}",
            )
            assert again.repeated
            assert (again.left, again.right) == (receipt.left, receipt.right)
        for node in nodes:
            with client_of(node) as other:
                assert other.list_routes().catalog_version == receipt.catalog_version

                def known(other=other, receipt=receipt):
                    return other.status().catalog_version >= receipt.catalog_version

                until(known, "the node knows the new routes")


def test_a_refusal_of_the_leader_comes_through_unchanged(nodes):
    answers = []
    for node in nodes:
        hand = Hand(node.address)
        refusals = (
            hand.refused("/Distribution/SplitRange", message(f1=999, f2=1, f3=b"x")),
            hand.refused("/RawKV/RawPut", message(f1=KEYS[2] + b"k" * 5_000)),
            hand.refused("/workbench.v1.KV/MultiGet", message(f1=2, f2=KEYS[1])),
            hand.refused("/workbench.v1.KV/MultiGet", message(f1=1, f2=KEYS[2])),
        )
        answers.append([(each.status, each.code, each.text) for each in refusals])
        hand.close()
    assert answers[0] == answers[1]
    assert answers[0][0][:2] == ("ABORTED", "catalog_version_mismatch")


def test_a_forwarded_call_is_never_forwarded_again(nodes):
    hand = Hand(nodes[0].address)
    hop = [("x-workbench-hop", "2")]
    refusal = hand.refused("/RawKV/RawGet", message(f1=KEYS[2]), metadata=hop)
    assert (refusal.status, refusal.code) == ("UNAVAILABLE", "not_leader")
    assert hand.call("/RawKV/RawGet", message(f1=KEYS[2])) is not None
    hand.close()


def test_load_windows_of_all_members_come_from_either_node_and_add_up(nodes):
    with client_of(nodes[0]) as client:
        for group, key in KEYS.items():
            for _ in range(group):
                client.put(key + b"load", b"v" * 10)

    def counted(client):
        windows = client.windows()
        rows = [row for window in windows.closed for row in window.rows]
        return {group: sum(row.writes for row in rows if row.group == group) for group in KEYS}

    with client_of(nodes[0]) as one, client_of(nodes[1]) as two:
        until(lambda: all(counted(one)[group] >= group for group in KEYS), "windows closed")
        until(lambda: counted(one) == counted(two), "both nodes tell the same")
        windows = two.windows()
        assert {window.node for window in windows.closed} == {1, 2}
        assert windows.oldest_us is not None
        later = two.windows(windows.closed[-1].start_us)
        assert all(each.start_us >= windows.closed[-1].start_us for each in later.closed)
        starts = [(window.start_us, window.node) for window in windows.closed]
        assert starts == sorted(starts)


def test_a_stopped_peer_is_unavailable_by_name_and_its_writes_are_of_unknown_outcome(nodes):
    # A share of it is what the node has left to say what became of the call.
    with RawClient([nodes[0].address], timeout_s=3.0) as client:
        client.put(KEYS[2] + b"before", b"v")
        nodes[1].signal(signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable) as read:
                client.get(KEYS[2] + b"before")
            with pytest.raises(OutcomeUnknown) as write:
                client.put(KEYS[2] + b"during", b"v")
            assert client.windows().missing == (2,)
            assert client.get(KEYS[1]) is None
        finally:
            nodes[1].signal(signal.SIGCONT)
        for error in (read, write):
            assert error.value.code == "leader_unreachable"
            assert f"node 2 at {nodes[1].address}" in str(error.value)
        assert "group 2" in str(read.value)
        hand = Hand(nodes[0].address)
        until(lambda: hand.answers("/RawKV/RawGet", message(f1=KEYS[2])), "the peer answers")
        hand.close()
        assert client.get(KEYS[2] + b"before") == b"v"


def test_a_dead_peer_is_unavailable_and_nothing_was_written(nodes):
    with client_of(*nodes) as client:
        client.put(KEYS[2] + b"dead", b"before")
        nodes[1].kill()
        hand = Hand(nodes[0].address)
        for method in ("/RawKV/RawGet", "/RawKV/RawPut"):
            until(
                lambda method=method: (
                    hand.refused(method, message(f1=KEYS[2] + b"dead")).code == "leader_unreachable"
                ),
                "the loss is noticed",
            )
        with pytest.raises(Unavailable) as refused:
            client.put(KEYS[2] + b"dead", b"during")
        # From the peer that is left, or from the one that is gone.
        assert refused.value.code in {"leader_unreachable", "node_unreachable"}
        hand.close()
        nodes[1].start()
        # At once: no back-off of the time when it was gone is in the way.
        with client_of(nodes[0]) as through:
            assert through.windows().closed
            assert through.get(KEYS[2] + b"dead") == b"before"
