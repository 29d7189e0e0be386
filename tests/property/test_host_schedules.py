"""Random schedules of clients, crashes, restarts and clock jumps over several groups.

What must hold after any schedule: an acknowledged write is there, once, at its commit_ts; a
refused one is nowhere; one whose outcome is unknown is there once or nowhere, however often it
was sent; a read answers the same for ever, and includes what was acknowledged before it was
asked; catalog versions are contiguous and every one of them partitions the key space; and the
log alone gives the same state and the same results again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.test_host_world import GROUPS, SEEDS, SPANS, START_MS, LosingEngine, MemoryLog, Process

from workbench.errors import WorkbenchError
from workbench.host import lane
from workbench.model.node import GotMany, Written
from workbench.model.times import hlc_of_ms
from workbench.mvcc.encoding import decode_value, split_version_key
from workbench.mvcc.versions import scan
from workbench.ports.consensus import Configuration
from workbench.replica.clock import Hlc
from workbench.replica.commands import (
    CatalogListing,
    GetMany,
    LatestCommitTs,
    LatestTs,
    ListCatalog,
    Mutation,
    Page,
    Refused,
    ScanPage,
    SplitDone,
    SplitRange,
    WriteBatch,
)
from workbench.replica.dedupe import Dedupe
from workbench.replica.layout import DEDUPE, META, PROGRESS, VERSIONS, family, family_end
from workbench.replica.replica import Replica
from workbench.routing.records import DELTA_PREFIX, MutationOp, decode_delta

KEYS = {1: [b"a", b"b\x00", b"c", b"g"], 2: [b"h", b"i", b"p\xff"], 3: [b"q", b"z", b"\xff\xff"]}
FOREVER = 2**64 - 1


@dataclass
class Sent:
    """A write that a client sent, once or more often."""

    group: int
    batch: WriteBatch
    attempts: int = 0
    refused: int = 0
    results: set[Written] = field(default_factory=set)


@dataclass
class Asked:
    """A read that a client sent; `floor` is the newest commit_ts acknowledged before."""

    group: int
    read: object
    floor: int
    answer: object = None


class World:
    """Clients and one node, which may die at any step."""

    replies_before_sync = False
    engine_class: type[LosingEngine] = LosingEngine

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_ms = START_MS
        self.log, self.engine = MemoryLog(), self.engine_class()
        self.applied: dict[tuple[int, int], str] = {}
        self.calls: dict[int, Sent | Asked | SplitRange] = {}
        self.token = self.value = 0
        self.writes: list[Sent] = []
        self.reads: list[Asked] = []
        self.splits: dict[int, SplitDone] = {}
        self.acknowledged = dict.fromkeys(GROUPS, 0)
        self.sequences = dict.fromkeys((b"x", b"y"), 0)
        self.answered = self.crashes = 0
        self.start()

    def start(self) -> None:
        applied = self.applied

        class Recording(Replica):
            """Compares what an entry gives with what it gave before."""

            def apply(self, entry):
                results = super().apply(entry)
                if entry.index > 0 and results:
                    said = repr(results)
                    assert applied.setdefault((self.group, entry.index), said) == said
                return results

        self.process = Process(self.log, self.engine, Recording)

    def run(self, steps: int) -> None:
        actions = [self.write] * 6 + [self.retry] * 3 + [self.read] * 4 + [self.turn] * 6
        actions += [self.split, self.split, self.passes, self.tick, self.flush, self.crash]
        for _ in range(steps):
            self.random.choice(actions)()
        self.settle()
        self.check()

    def write(self) -> None:
        group = self.random.choice(GROUPS)
        owner = group if self.random.random() < 0.9 else self.random.choice(GROUPS)
        keys = self.random.sample(KEYS[owner], self.random.randint(1, 3))
        self.value += 1
        value = b"%d" % self.value
        mutations = tuple(Mutation(key, value) for key in keys)
        client = self.random.choice([b"", b"x", b"y"])
        sequence = 0
        if client:
            self.sequences[client] += 1
            sequence = self.sequences[client]
        sent = Sent(group, WriteBatch(mutations, client, sequence))
        self.writes.append(sent)
        self.send(sent)

    def retry(self) -> None:
        known = [sent for sent in self.writes[-40:] if sent.batch.client_id]
        if known:
            self.send(self.random.choice(known))

    def send(self, sent: Sent) -> None:
        sent.attempts += 1
        self.token += 1
        self.calls[self.token] = sent
        self.process.host.propose(sent.group, sent.batch, self.token)

    def split(self) -> None:
        table = self.process.host.catalog_routes()
        if table is None:
            return
        repeated = self.random.random() < 0.3 and self.splits
        if repeated:
            done = self.random.choice([*self.splits.values()])
            request = b"s%d" % done.catalog_version
            command = SplitRange(
                done.catalog_version - 1, done.left.parent_route_id, done.right.span.start, request
            )
        else:
            route = self.random.choice(table.routes)
            key = bytes([self.random.randrange(256), self.random.randrange(256)])
            request = b"s%d" % (table.version + 1)
            command = SplitRange(table.version, route.route_id, key, request)
        self.token += 1
        self.calls[self.token] = command
        self.process.host.propose(1, command, self.token)

    def read(self) -> None:
        group = self.random.choice(GROUPS)
        keys = KEYS[group]
        read_ts = 0
        if self.random.random() < 0.4:
            read_ts = hlc_of_ms(self.now_ms + self.random.randint(-600, 550))
        page = ScanPage(b"", None, read_ts, 3, 50, reverse=self.random.random() < 0.5)
        got = GetMany(tuple(self.random.sample(keys, 2)), read_ts)
        read = self.random.choice([got, got, page, LatestCommitTs(keys[0]), ListCatalog()])
        asked = Asked(group, read, self.acknowledged[group])
        self.token += 1
        self.calls[self.token] = asked
        self.process.host.read(group, read, self.token)

    def passes(self) -> None:
        self.now_ms += self.random.choice([1, 5, 50, 200, 200, 900, -5_000, 5_000, 700_000])

    def tick(self) -> None:
        self.process.host.tick()

    def flush(self) -> None:
        applied = dict(self.process.host.applied())
        self.engine.flush()
        if self.random.random() < 0.5:
            self.log.compact(self.process.host.flushed(applied))

    def turn(self) -> None:
        self.now_ms += self.random.randint(0, 3)
        turn = self.process.host.begin(self.now_ms)
        if self.random.random() < 0.05:
            return self.crash()
        self.log.append(turn.writes)
        if turn.must_sync and not self.replies_before_sync:
            if self.random.random() < 0.05:
                return self.crash()
            self.log.sync()
        # Calls may come while the disk is busy.
        if self.random.random() < 0.3:
            self.read()
        later = self.now_ms + self.random.randint(0, 30)
        for reply in self.process.host.finish(turn, later).replies:
            self.take(reply.token, reply.result)
        if self.replies_before_sync and self.random.random() < 0.5:
            self.log.sync()
        if self.random.random() < 0.2:
            self.process.host.check_invariants()
        return None

    def crash(self) -> None:
        """Lose what is not durable, and every call under way."""
        self.crashes += 1
        self.calls.clear()
        self.log = self.log.after_crash(self.random.randint(0, len(self.log.unsynced)))
        batches = len(self.engine.unflushed)
        self.engine = self.engine.after_crash(self.random.randint(0, batches))
        self.start()

    def settle(self) -> None:
        self.now_ms = max(self.now_ms, START_MS) + 10**9
        for _ in range(30):
            self.tick()
            if not self.process.host.has_work():
                break
            for reply in self.process.turn(self.now_ms):
                self.take(reply.token, reply.result)
        assert not self.process.host.has_work()
        assert not self.calls, "every call is answered, unless the process died"
        self.process.host.check_invariants()

    def take(self, token: int, result: object) -> None:
        call = self.calls.pop(token)
        self.answered += 1
        if isinstance(call, Asked):
            if not isinstance(result, WorkbenchError):
                call.answer = result
                self.reads.append(call)
            return
        refused = isinstance(result, WorkbenchError | Refused)
        if isinstance(call, SplitRange):
            if isinstance(result, SplitDone):
                first = self.splits.setdefault(result.catalog_version, result)
                assert replace(result, repeated=first.repeated) == first
            return
        if refused:
            error = result.error if isinstance(result, Refused) else result
            call.refused += error.kind != "outcome_unknown"
            return
        assert isinstance(result, Written)
        call.results.add(result)
        self.acknowledged[call.group] = max(self.acknowledged[call.group], result.commit_ts)

    def check(self) -> None:
        stored = {group: self.versions(group) for group in GROUPS}
        for sent in self.writes:
            self.check_write(sent, stored[sent.group])
        for asked in self.reads:
            self.check_read(asked)
        self.check_catalog()
        self.check_replay()

    def versions(self, group: int) -> dict[bytes, list[tuple[bytes, int]]]:
        """Return by value the keys and commit_ts under which it is stored."""
        found: dict[bytes, list[tuple[bytes, int]]] = {}
        prefix = family(group, VERSIONS)
        for data, value in self.engine.scan(prefix, family_end(group, VERSIONS)):
            found.setdefault(decode_value(value), []).append(split_version_key(prefix, data))
        return found

    def check_write(self, sent: Sent, stored) -> None:
        assert len(sent.results) <= 1, "one result, however often it was sent"
        there = sorted(stored.get(sent.batch.mutations[0].value, []))
        keys = sorted(mutation.key for mutation in sent.batch.mutations)
        if there:
            assert [key for key, _ in there] == keys, "once, and whole"
            assert len({commit_ts for _, commit_ts in there}) == 1
            assert all(key in SPANS[sent.group] for key in keys)
        for written in sent.results:
            assert there, "an acknowledged write is lost"
            assert there[0][1] == written.commit_ts
        if sent.refused == sent.attempts:
            assert not there, "a refused write has an effect"

    def check_read(self, asked: Asked) -> None:
        """Assert that the answer is still the same, and was not too old."""
        replica, answer = self.process.replicas[asked.group], asked.answer
        if isinstance(answer, CatalogListing):
            assert answer.version <= self.process.host.catalog_routes().version
            return
        if isinstance(answer, LatestTs):
            return
        assert isinstance(answer, GotMany | Page)
        assert asked.read.read_ts in {0, answer.read_ts}
        if asked.read.read_ts == 0:
            assert answer.read_ts >= asked.floor, "latest includes what was acknowledged"
        again = replica.read(replace(asked.read, read_ts=answer.read_ts))
        if isinstance(answer, GotMany):
            assert again.versions == answer.versions, "written at or below a read_ts served"
        else:
            assert again == answer, "written at or below a read_ts served"

    def check_catalog(self) -> None:
        """Assert that the deltas lead from the seeds to now, through partitions only."""
        routes = {route.route_id: route for route in SEEDS}
        version, seen = 1, set(routes)
        end = DELTA_PREFIX[:-1] + b"\x7d"
        for _, stored in scan(self.engine, family(1, VERSIONS), DELTA_PREFIX, end, FOREVER):
            delta = decode_delta(stored.value)
            assert (delta.previous_version, delta.version) == (version, version + 1)
            version += 1
            for mutation in delta.mutations:
                if mutation.op is MutationOp.DELETE:
                    del routes[mutation.route_id]
                else:
                    assert mutation.route_id not in seen, "ids are never reused"
                    seen.add(mutation.route_id)
                    routes[mutation.route_id] = mutation.route
            ordered = sorted(routes.values(), key=lambda route: route.span.start)
            ends = [b"", *(route.span.end for route in ordered)]
            assert [route.span.start for route in ordered] == ends[:-1]
            assert ends[-1] is None
            if version in self.splits:
                done = self.splits[version]
                assert routes[done.left.route_id] == done.left
        table = self.process.host.catalog_routes()
        assert table.version == version
        assert {route.route_id: route for route in table.routes} == routes
        assert all(each <= version for each in self.splits)

    def check_replay(self) -> None:
        """Assert that the log from its beginning gives the same rows."""
        engine = LosingEngine()
        for group in GROUPS:
            replica = Replica(group, engine, is_catalog=group == 1)
            replica.found(Configuration(frozenset({1})))
            for entry in self.log.kept[group].entries:
                replica.apply(entry)
        assert engine.rows == self.engine.rows


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_nothing_acknowledged_is_lost_and_nothing_happens_twice(seed):
    World(seed).run(150)


def test_the_schedules_reach_what_they_are_about() -> None:
    worlds = [World(seed) for seed in range(10)]
    for world in worlds:
        world.run(200)
    assert sum(world.crashes for world in worlds) > 50
    assert sum(len(world.splits) for world in worlds) > 10
    assert sum(len(world.reads) for world in worlds) > 100
    writes = [sent for world in worlds for sent in world.writes]
    acknowledged = [sent for sent in writes if sent.results]
    assert len(acknowledged) > 100
    assert sum(sent.attempts > 1 for sent in acknowledged) > 50
    assert sum(sent.refused > 0 for sent in writes) > 20
    assert sum(not sent.results and not sent.refused for sent in writes) > 20


class DedupeApart(LosingEngine):
    """Writes the dedupe table in a batch of its own."""

    def write(self, changes):
        apart = [each for each in changes if each[0][8] == DEDUPE]
        super().write([each for each in changes if each[0][8] != DEDUPE])
        if apart:
            super().write(apart)


class ProgressApart(LosingEngine):
    """Writes the applied index in a batch of its own, before the effect."""

    def write(self, changes):
        progress = [each for each in changes if each[0][8:] == bytes([META]) + PROGRESS]
        super().write(progress)
        super().write([each for each in changes if each not in progress])


class ProgressLater(LosingEngine):
    """Writes the applied index in a batch of its own, behind the effect."""

    def write(self, changes):
        progress = [each for each in changes if each[0][8:] == bytes([META]) + PROGRESS]
        super().write([each for each in changes if each not in progress])
        super().write(progress)


class RepliesBeforeSync(World):
    replies_before_sync = True


class Unlogged(World):
    """Forgets to append the turn of one group."""

    def turn(self) -> None:
        append = self.log.append
        self.log.append = lambda writes: append([each for each in writes if each.group != 2])
        super().turn()


def on(engine: type[LosingEngine]) -> type[World]:
    return type(engine.__name__, (World,), {"engine_class": engine})


def no_clock_inherited(patch: pytest.MonkeyPatch) -> type[World]:
    patch.setattr(lane, "Hlc", lambda _: Hlc())
    return World


def reads_leave_the_clock_alone(patch: pytest.MonkeyPatch) -> type[World]:
    patch.setattr(Hlc, "observe", lambda *_: None)
    return World


def no_dedupe(patch: pytest.MonkeyPatch) -> type[World]:
    patch.setattr(Dedupe, "find", lambda *_: None)
    return World


def dedupe_without_expiry(patch: pytest.MonkeyPatch) -> type[World]:
    """Expires in memory alone."""
    expire = Dedupe.expire
    patch.setattr(Dedupe, "expire", lambda *args: [*expire(*args)][:0])
    return World


FAULTS = {
    "dedupe not in the batch": lambda _: on(DedupeApart),
    "applied index before the effect": lambda _: on(ProgressApart),
    "applied index behind the effect": lambda _: on(ProgressLater),
    "reply before sync": lambda _: RepliesBeforeSync,
    "a group's entries not logged": lambda _: Unlogged,
    "a new leader trusts its own clock": no_clock_inherited,
    "a read does not raise the clock": reads_leave_the_clock_alone,
    "no dedupe": no_dedupe,
    "expiry not in the batch": dedupe_without_expiry,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = FAULTS[fault](monkeypatch)
    for seed in range(40):
        try:
            world(seed).run(150)
        except (AssertionError, WorkbenchError):
            return
    pytest.fail(f"{fault}: not caught")
