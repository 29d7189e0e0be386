"""The client library against real nodes: leaders, routes, scans, kills, from loops and threads."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from tests.process.node_process import client_of, cluster, until
from workbench.client.routes import BatchSpansGroups
from workbench.errors import Conflict, InvalidInput, OutcomeUnknown, Unavailable
from workbench.node.kv_client import AsyncKv, Kv, Mutation, Precondition

KEYS = [bytes([first]) + b"/kv" for first in range(0x08, 0x100, 0x08)]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Node 1 has groups 1 and 3, node 2 has group 2."""
    with cluster(tmp_path_factory.mktemp("kv"), [[1, 3], [2]]) as nodes:
        yield nodes


@pytest.fixture(params=[0, 1], ids=["node-1", "node-2"])
def kv(nodes, request):
    with Kv([nodes[request.param].address]) as kv:
        yield kv


def test_keys_of_all_groups_are_written_read_scanned_and_deleted_from_any_node(kv):
    written = {key: kv.put(key, b"v" + key) for key in KEYS}
    got = kv.multi_get([*reversed(KEYS), b"never"])
    assert [each and each.value for each in got.versions] == [
        *(b"v" + key for key in reversed(KEYS)),
        None,
    ]
    assert got.versions[0].commit_ts == written[KEYS[-1]].commit_ts
    assert got.read_ts >= max(each.commit_ts for each in written.values())
    rows = [(key, row.value) for key, row in kv.scan(KEYS[0])]
    assert rows == [(key, b"v" + key) for key in KEYS]
    assert [key for key, _ in kv.scan(KEYS[0], reverse=True, limit=9)] == KEYS[:-10:-1]
    assert {row.value for _, row in kv.scan(KEYS[0], keys_only=True)} == {b""}
    gone = kv.delete(KEYS[3])
    assert kv.get(KEYS[3]) is None
    assert kv.get(KEYS[3], read_ts=gone.commit_ts - 1).value == b"v" + KEYS[3]


def test_a_batch_is_atomic_and_one_that_spans_groups_is_refused_with_the_spans(kv):
    written = kv.write([Mutation(KEYS[0], b"a"), Mutation(KEYS[1], b"b"), Mutation(KEYS[2], None)])
    got = kv.multi_get(KEYS[:3])
    assert [each and (each.value, each.commit_ts) for each in got.versions] == [
        (b"a", written.commit_ts),
        (b"b", written.commit_ts),
        None,
    ]
    with pytest.raises(BatchSpansGroups) as refused:
        kv.write([Mutation(KEYS[0], b"x"), Mutation(KEYS[-1], b"x")])
    assert sorted(refused.value.spans) == [1, 3]
    assert kv.get(KEYS[0]).value == b"a"


def test_what_a_node_refuses_comes_through(kv):
    for key, code in ((b"!dist|x", "key_reserved"), (b"k" * 5_000, "key_too_long")):
        with pytest.raises(InvalidInput) as refused:
            kv.put(key, b"v")
        assert refused.value.code == code
    with pytest.raises(InvalidInput) as ahead:
        kv.get(KEYS[0], read_ts=2**63)
    assert ahead.value.code == "read_ts_ahead"


def test_routes_are_followed_by_the_watch(nodes, kv):
    kv.put(KEYS[0], b"v")
    with client_of(nodes[0]) as client:
        for _ in range(3):
            snapshot = client.list_routes()
            route = max(snapshot.routes, key=lambda each: each.route_id)
            client.split_range(
                expected_version=snapshot.catalog_version,
                route_id=route.route_id,
                split_key=route.span.start + b"\x01" if route.span.start else b"\x02",
                request_id=f"kv-{snapshot.catalog_version}",
            )
        final = client.list_routes()

    def told():
        return kv.routes is not None and kv.routes.version == final.catalog_version

    until(told, "the client knows the new routes without any call")
    assert kv.routes.routes == final.routes


def test_many_calls_at_once_are_answered_and_each_written_once(nodes):
    async def scenario():
        async with AsyncKv([node.address for node in nodes]) as kv:
            writes = [kv.put(KEYS[n % len(KEYS)], b"%d" % n) for n in range(600)]
            written = await asyncio.gather(*writes)
            got = await kv.multi_get(KEYS)
            return written, got

    written, got = asyncio.run(scenario())
    newest = {}
    for number, each in enumerate(written):
        key = KEYS[number % len(KEYS)]
        newest[key] = max(newest.get(key, (0, b"")), (each.commit_ts, b"%d" % number))
    assert [(each.commit_ts, each.value) for each in got.versions] == [newest[k] for k in KEYS]
    by_group = {}
    for number, each in enumerate(written):
        by_group.setdefault(KEYS[number % len(KEYS)][0] * 3 // 256, []).append(each.commit_ts)
    assert all(len(set(each)) == len(each) for each in by_group.values())


def test_a_large_scan_waits_for_its_reader_and_a_reader_may_leave_it(nodes):
    async def scenario():
        async with AsyncKv([nodes[0].address]) as kv:
            keys = [b"\x07scan%05d" % n for n in range(6_000)]
            for at in range(0, len(keys), 500):
                await kv.write([Mutation(key, b"v" * 400) for key in keys[at : at + 500]])
            found = []
            async for key, _ in kv.scan(b"\x07scan", b"\x07t"):
                found.append(key)
                if len(found) == 10:
                    # Other calls go on while nobody takes rows.
                    await kv.put(KEYS[0], b"w")
            assert found == keys
            rows = kv.scan(b"\x07scan", b"\x07t", reverse=True)
            assert (await anext(rows))[0] == keys[-1]
            await rows.aclose()
            return (await kv.get(KEYS[0])).value

    assert asyncio.run(scenario()) == b"w"


def test_threads_share_a_client_and_a_closed_one_refuses(nodes):
    kv = Kv([nodes[1].address])
    ends = []

    def work(number):
        for step in range(20):
            kv.put(b"\x06t%d" % number, b"%d" % step)
        ends.append(kv.get(b"\x06t%d" % number).value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [b"19"] * 4
    kv.close()
    kv.close()
    with pytest.raises(Unavailable) as closed:
        kv.get(b"k")
    assert closed.value.code == "client_closed"


def test_a_stopped_node_makes_writes_unknown_and_the_same_write_goes_on_when_it_is_back(nodes):
    with Kv([nodes[0].address]) as kv:
        key = b"\x60stop"  # of group 2, on node 2
        kv.put(key, b"before")
        nodes[1].signal(signal.SIGSTOP)
        try:
            with pytest.raises(OutcomeUnknown) as unknown:
                kv.put(key, b"during", timeout_s=0.5)
            assert unknown.value.code == "write_outcome_unknown"
            with pytest.raises(Unavailable):
                kv.get(key, timeout_s=0.5)
            waiting = threading.Thread(target=kv.put, args=(key, b"after"))
            waiting.start()
        finally:
            nodes[1].signal(signal.SIGCONT)
        waiting.join(10)
        assert not waiting.is_alive()
        assert kv.get(key).value == b"after"


def test_a_killed_node_is_gone_on_with_after_its_restart_and_nothing_is_lost(nodes):
    key = b"\x60kill"

    async def scenario():
        async with AsyncKv([node.address for node in nodes], timeout_s=20) as kv:
            await kv.put(key, b"0")
            first = [asyncio.create_task(kv.put(key + b"%d" % n, b"v")) for n in range(50)]
            await asyncio.sleep(0)
            nodes[1].kill()
            second = [asyncio.create_task(kv.put(key + b"%d" % n, b"v")) for n in range(50, 100)]
            await asyncio.to_thread(nodes[1].start)
            written = await asyncio.gather(*first, *second)
            got = await kv.multi_get([key + b"%d" % n for n in range(100)])
            return written, got

    written, got = asyncio.run(scenario())
    assert [each.commit_ts for each in got.versions] == [each.commit_ts for each in written]


@pytest.mark.parametrize("addresses", [[], ["127.0.0.1:1"]])
def test_without_addresses_or_anybody_there_a_call_ends_in_time(addresses):
    if not addresses:
        with pytest.raises(InvalidInput):
            Kv(addresses)
        return
    with Kv(addresses) as kv, pytest.raises(Unavailable) as refused:
        kv.put(b"k", b"v", timeout_s=600.0)
    assert refused.value.code == "node_unreachable"
    assert "no connection to 127.0.0.1:1" in refused.value.message


def test_old_versions_are_collected_from_any_node_and_a_pin_keeps_a_moment_readable(nodes):
    key = b"\x62old"  # of group 2, on node 2
    with Kv([nodes[0].address]) as kv, client_of(nodes[0]) as client:
        written = [kv.put(key, b"%d" % number) for number in range(30)]
        pin = b"p" * 16
        moment = written[10].commit_ts
        assert client.pin(2, pin, moment).pins == 1
        assert client.pin(2, pin, moment).pins == 1
        now = written[-1].commit_ts
        held = client.collect_garbage(2, safe_point=now)
        assert held.safe_point == moment
        assert kv.get(key, read_ts=moment).value == b"10"
        assert kv.get(key, read_ts=written[20].commit_ts).value == b"20"
        assert client.unpin(2, pin).pins == 0
        steps, status = 1, client.collect_garbage(2, safe_point=now, versions_max=5)
        while not status.done:
            steps, status = steps + 1, client.collect_garbage(2, versions_max=5)
        assert steps > 3
        assert status.dropped >= 29
        assert kv.get(key).value == b"29"
        with pytest.raises(InvalidInput) as below:
            kv.get(key, read_ts=written[20].commit_ts)
        assert below.value.code == "read_ts_below_safe_point"
        with pytest.raises(InvalidInput) as ahead:
            client.collect_garbage(2, safe_point=2**63)
        assert ahead.value.code == "safe_point_ahead"
        with pytest.raises(InvalidInput) as nameless:
            client.pin(2, b"short", moment)
        assert nameless.value.code == "pin_id_invalid"


def test_a_write_bound_to_what_was_read_is_refused_once_that_changed(kv):
    first = kv.put(b"\x05cas", b"1")
    bound = [Precondition(b"\x05cas", first.commit_ts)]
    second = kv.write([Mutation(b"\x05cas", b"2")], preconditions=bound)
    with pytest.raises(Conflict) as changed:
        kv.write([Mutation(b"\x05cas", b"3")], preconditions=bound)
    assert changed.value.code == "precondition_failed"
    assert kv.get(b"\x05cas").commit_ts == second.commit_ts
    with pytest.raises(Conflict):
        kv.write([Mutation(b"\x05cas", b"4")], preconditions=[Precondition(b"\x05cas")])
    kv.delete(b"\x05cas")
    kv.write([Mutation(b"\x05cas", b"5")], preconditions=[Precondition(b"\x05cas")])


def test_a_value_that_expires_is_seen_before_and_not_after(kv):
    written = kv.put(b"\x05soon", b"v", expire_at_ms=2_000)  # long ago
    assert kv.get(b"\x05soon") is None
    assert [key for key, _ in kv.scan(b"\x05soon", b"\x05sooo")] == []
    later = kv.put(b"\x05soon", b"w", expire_at_ms=(written.commit_ts >> 16) + 600_000)
    assert kv.get(b"\x05soon").commit_ts == later.commit_ts
    with pytest.raises(InvalidInput) as long:
        kv.put(b"\x05soon", b"v" * (2**20 - 7), expire_at_ms=2_000)
    assert long.value.code == "value_too_long"
