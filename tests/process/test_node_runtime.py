"""The turn loop against disks that fail: nothing is answered that is not durable."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from tests.engines import MemoryEngine
from tests.process.node_process import client_of, cluster, until
from workbench.errors import InvalidInput, OutcomeUnknown, Storage, Unavailable
from workbench.host.host import Host
from workbench.host.start import start_group
from workbench.model.keys import Span
from workbench.model.node import GotMany, Written
from workbench.node import runtime as runtime_module
from workbench.node.runtime import Runtime
from workbench.ports.consensus import Configuration
from workbench.ports.peers import GroupMessage, Heartbeat
from workbench.replica.commands import Bootstrap, GetMany, Mutation, OwnedSpan, WriteBatch

# A limit on the size of a file stands in for a full disk: the log reaches it first.
LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
runpy.run_module("workbench.node", run_name="__main__")
"""


class FakeLog:
    """A log whose disk can be slow, stand still, or fail."""

    def __init__(self):
        self.appended = []
        self.durable = 0
        self.compacted = []
        self.closed = False
        self.fail_with = None
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.held = threading.Event()
        self.syncs = 0

    def append(self, writes):
        self.appended += writes

    def sync(self):
        if not self.may_sync.is_set():
            self.held.set()
        self.may_sync.wait(20)
        if self.fail_with is not None:
            raise self.fail_with
        self.durable = len(self.appended)
        self.syncs += 1

    def compact(self, flushed):
        self.compacted.append(dict(flushed))

    def close(self):
        self.closed = True


class FailingEngine(MemoryEngine):
    """An engine that refuses writes or flushes when told to."""

    fail_with = None
    flushes = 0

    def write(self, changes):
        if self.fail_with is not None:
            raise self.fail_with
        super().write(changes)

    def flush(self):
        self.flushes += 1
        super().flush()


def put(number, size=1):
    return WriteBatch((Mutation(b"k%d" % number, b"v" * size),))


class Rig:
    """A runtime over fakes, with one group that owns everything."""

    def __init__(self, **how):
        self.log = FakeLog()
        self.engine = FailingEngine()
        group = start_group(
            1,
            1,
            self.engine,
            None,
            members=Configuration(frozenset({1})),
            is_catalog=False,
            bootstrap=Bootstrap((OwnedSpan(Span(b"", None), 1),)),
            snapshots=None,
            draw=lambda _: 0,
        )
        host = Host({1: group})
        self.now_ms = 1_800_000_000_000
        self.steady_s = 0.0
        self.runtime = Runtime(
            1,
            host,
            self.log,
            self.engine,
            clock_ms=lambda: self.now_ms,
            steady_s=lambda: self.steady_s,
            **how,
        )
        self.turns = None

    async def start(self):
        self.turns = asyncio.create_task(self.runtime.run())
        while not self.runtime.status(1).serving:
            await self.runtime.turned()
        return self


def run(scenario):
    async def bounded():
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


def test_a_clock_that_is_a_little_behind_is_waited_for_and_callers_see_no_error():
    async def scenario():
        rig = await Rig().start()
        first = await rig.runtime.propose(1, put(0))
        rig.now_ms -= 400 + 250
        write = asyncio.create_task(rig.runtime.propose(1, put(1)))
        read = asyncio.create_task(rig.runtime.read(1, GetMany((b"k0",), 0)))
        await rig.runtime.turned()
        assert not write.done()
        rig.now_ms += 251
        assert (await write).commit_ts > first.commit_ts
        assert (await read).versions[0].commit_ts == first.commit_ts
        rig.now_ms -= 60_000
        with pytest.raises(Unavailable) as refused:
            await rig.runtime.propose(1, put(2))
        assert refused.value.code == "clock_behind"
        rig.runtime.stop()
        await rig.turns
        rig.runtime.close()

    run(scenario)


def test_what_arrives_during_a_sync_shares_the_next_one():
    async def scenario():
        rig = await Rig().start()
        rig.log.may_sync.clear()
        first = asyncio.create_task(rig.runtime.propose(1, put(0)))
        before = rig.log.syncs
        assert await asyncio.to_thread(rig.log.held.wait, 20)
        others = [asyncio.create_task(rig.runtime.propose(1, put(n))) for n in range(1, 101)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert not first.done()
        rig.log.may_sync.set()
        written = await asyncio.gather(first, *others)
        assert rig.log.syncs == before + 2
        assert len({each.commit_ts for each in written}) == 101
        assert {each.index for each in written[1:]} == {written[0].index + 1}
        rig.runtime.stop()
        await rig.turns
        rig.runtime.close()

    run(scenario)


def test_nothing_is_answered_while_the_disk_stands_still():
    async def scenario():
        rig = await Rig().start()
        rig.log.may_sync.clear()
        write = asyncio.create_task(rig.runtime.propose(1, put(1)))
        done, _ = await asyncio.wait({write}, timeout=0.3)
        assert not done
        rig.log.may_sync.set()
        assert isinstance(await write, Written)
        rig.runtime.stop()
        await rig.turns
        rig.runtime.close()

    run(scenario)


def failing_sync(rig):
    rig.log.fail_with = Storage("the disk is full", code="disk_full")


def failing_engine(rig):
    rig.engine.fail_with = Storage("the engine failed", code="engine_failed")


@pytest.mark.parametrize("fault", [failing_sync, failing_engine])
def test_a_failing_disk_ends_the_turns_and_no_write_is_acknowledged(fault):
    async def scenario():
        rig = await Rig().start()
        await rig.runtime.propose(1, put(0))
        fault(rig)
        writes = [asyncio.create_task(rig.runtime.propose(1, put(n))) for n in range(1, 5)]
        with pytest.raises(Storage):
            await rig.turns
        for ended in await asyncio.gather(*writes, return_exceptions=True):
            assert isinstance(ended, OutcomeUnknown)
            assert ended.code == "node_failed"
        with pytest.raises(Unavailable) as refused:
            await rig.runtime.propose(1, put(9))
        assert refused.value.code == "node_stopping"
        flushes = rig.engine.flushes
        rig.runtime.close()
        assert rig.engine.flushes == flushes
        assert rig.log.compacted == []
        assert rig.log.closed

    run(scenario)


@pytest.mark.parametrize("part", ["log", "engine"])
def test_what_fails_at_closing_does_not_hide_why_the_node_failed(part):
    """On a full disk RocksDB flushes while it closes, and fails once more."""

    async def scenario():
        rig = await Rig().start()
        failing_sync(rig)
        closed = []

        def close():
            closed.append(part)
            raise Storage("the disk is full still", code="engine_failed")

        getattr(rig, part).close = close
        write = asyncio.create_task(rig.runtime.propose(1, put(1)))
        with pytest.raises(Storage) as first:
            await rig.turns
        with pytest.raises(OutcomeUnknown):
            await write
        rig.runtime.close()
        assert closed == [part]
        assert first.value.code != "engine_failed"

    run(scenario)


def test_a_write_that_the_disk_never_finishes_is_of_unknown_outcome(monkeypatch):
    async def scenario():
        rig = await Rig().start()
        rig.log.may_sync.clear()
        write = asyncio.create_task(rig.runtime.propose(1, put(1)))
        await asyncio.sleep(0)
        rig.steady_s += runtime_module.ANSWER_TIMEOUT_MS / 1_000 + 0.001
        with pytest.raises(OutcomeUnknown) as unknown:
            await write
        assert unknown.value.code == "commit_timed_out"
        rig.log.may_sync.set()
        rig.runtime.stop()
        await rig.turns
        rig.runtime.close()

    run(scenario)


def test_a_step_of_the_wall_clock_ends_no_call():
    async def scenario():
        rig = await Rig().start()
        rig.log.may_sync.clear()
        write = asyncio.create_task(rig.runtime.propose(1, put(1)))
        await asyncio.sleep(0)
        rig.now_ms += 2 * runtime_module.ANSWER_TIMEOUT_MS
        looked = asyncio.Event()
        end = rig.runtime._end_overdue
        rig.runtime._end_overdue = lambda now: (end(now), looked.set())
        await looked.wait()
        assert not write.done()
        rig.log.may_sync.set()
        assert (await write).commit_ts
        rig.runtime.stop()
        await rig.turns
        rig.runtime.close()

    run(scenario)


def test_a_term_that_no_campaigns_lead_to_is_refused_as_no_message():
    async def scenario():
        rig = await Rig().start()
        term = rig.runtime.status(1).term
        bound = term + runtime_module.TERM_JUMP_MAX
        rig.runtime.receive([GroupMessage(7, Heartbeat(2, 1, bound + 1, 0))])  # no group of it
        with pytest.raises(InvalidInput) as refused:
            rig.runtime.receive([GroupMessage(1, Heartbeat(2, 1, bound + 1, 0))])
        assert refused.value.code == "peer_frame_malformed"
        rig.runtime.receive([GroupMessage(1, Heartbeat(2, 1, bound, 0))])
        while rig.runtime.status(1).term < bound or not rig.runtime.status(1).serving:
            await rig.runtime.turned()
        assert rig.runtime.status(1).term == bound + 1, "it goes on from there"
        rig.runtime.stop()
        await rig.turns
        rig.runtime.close()

    run(scenario)


def test_a_caller_that_has_gone_leaves_its_write_in_place():
    async def scenario():
        rig = await Rig().start()
        rig.log.may_sync.clear()
        write = asyncio.create_task(rig.runtime.propose(1, put(1)))
        await asyncio.sleep(0)
        write.cancel()
        rig.log.may_sync.set()
        got = await rig.runtime.read(1, GetMany((b"k1",)))
        assert isinstance(got, GotMany)
        assert got.versions[0] is not None
        rig.runtime.stop()
        await rig.turns
        rig.runtime.close()

    run(scenario)


def test_a_stop_answers_what_waits_then_flushes_and_cuts_the_log():
    async def scenario():
        rig = await Rig().start()
        rig.log.may_sync.clear()
        write = asyncio.create_task(rig.runtime.propose(1, put(1)))
        assert await asyncio.to_thread(rig.log.held.wait, 20)
        rig.runtime.stop()
        with pytest.raises(Unavailable):
            await rig.runtime.read(1, GetMany((b"k",)))
        rig.log.may_sync.set()
        written = await write
        await rig.turns
        rig.runtime.close()
        assert rig.log.compacted == [{1: written.index}]
        assert rig.engine.flushed == rig.engine.rows
        assert rig.runtime.refused == 1

    run(scenario)


def test_a_log_that_has_grown_is_cut_below_what_was_applied_before_the_flush():
    async def scenario():
        rig = await Rig(flush_after_bytes=10_000).start()
        indexes = [(await rig.runtime.propose(1, put(n, size=1_000))).index for n in range(35)]
        while len(rig.log.compacted) < 3:
            await rig.runtime.turned()
        assert rig.engine.flushes == 3
        cuts = [cut[1] for cut in rig.log.compacted]
        assert cuts == sorted(cuts)
        assert indexes[0] < cuts[0] < cuts[-1] <= indexes[-1]
        rig.runtime.stop()
        await rig.turns
        rig.runtime.close()

    run(scenario)


def test_a_node_whose_disk_is_full_ends_with_status_1_and_keeps_what_it_acknowledged(tmp_path):
    with cluster(tmp_path, [[1]]) as [node]:
        node.kill()
        with node.log.open("ab") as log:
            node.process = subprocess.Popen(
                [sys.executable, "-c", LIMITED, "--config", str(node.file)], stderr=log
            )
        until(lambda: len(node.events("serving")) == 2, "it serves")
        acknowledged = []
        with client_of(node) as client:

            def write_on():
                for number in range(100):
                    client.put(b"k%d" % number, bytes([number]) * 50_000)
                    acknowledged.append(number)

            with pytest.raises(OutcomeUnknown):
                write_on()
        assert 0 < len(acknowledged) < 25
        assert node.wait() == 1
        assert node.log.read_text().splitlines()[-1].startswith("error: ")
        assert node.events("failed")[0]["code"] in {"disk_full", "log_write_failed"}
        node.start()
        with client_of(node) as client:
            for number in acknowledged:
                assert client.get(b"k%d" % number) == bytes([number]) * 50_000
