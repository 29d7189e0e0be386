"""A process of several groups on a log and an engine that lose what was not made durable.

Shared by the tests of the host; the tests here are of the losing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engines import MemoryEngine

from workbench.host.host import Host, Reply
from workbench.host.start import start_group
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.ports.consensus import Configuration, HardState, LogEntry, SnapshotMeta
from workbench.ports.storage import Change, GroupLog, GroupWrite
from workbench.replica.commands import Bootstrap, OwnedSpan
from workbench.replica.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BOUNDS = (b"", b"h", b"q", None)
GROUPS = (1, 2, 3)
SPANS = {group: Span(BOUNDS[group - 1] or b"", BOUNDS[group]) for group in GROUPS}
SEEDS = tuple(RouteDescriptor(group, SPANS[group], group) for group in GROUPS)
START_MS = 1_700_000_000_000


@dataclass
class Kept:
    """One group's durable log: all entries since a reset, of which some are let go of."""

    hard_state: HardState = field(default_factory=HardState)
    entries: list[LogEntry] = field(default_factory=list)
    reset: SnapshotMeta | None = None
    compacted: int = 0

    @property
    def base(self) -> tuple[int, int]:
        """Index and term that the entries follow on."""
        return (0, 0) if self.reset is None else (self.reset.index, self.reset.term)

    def take(self, write: GroupWrite) -> None:
        self.hard_state = write.hard_state or self.hard_state
        if write.reset is not None:
            assert not write.entries
            self.reset, self.entries = write.reset, []
        for entry in write.entries:
            at = entry.index - self.base[0] - 1
            assert 0 <= at <= len(self.entries)
            self.entries[at:] = [entry]

    def found(self) -> GroupLog:
        """What a start finds."""
        index, term = self.base
        gone = max(0, min(self.compacted - index, len(self.entries)))
        whole = [(index, term), *((entry.index, entry.term) for entry in self.entries)]
        first, last = whole[gone], whole[-1]
        return GroupLog(
            self.hard_state,
            first[0] + 1,
            *last,
            tuple(self.entries[gone:]),
            first[1],
            self.reset,
        )


class MemoryLog:
    """The `LogStorage` port; what was appended after the last sync may be lost in a crash."""

    def __init__(self, groups: Sequence[int] = GROUPS) -> None:
        self.kept = {group: Kept() for group in groups}
        self.unsynced: list[Sequence[GroupWrite]] = []

    def groups(self) -> Mapping[int, GroupLog]:
        return {group: kept.found() for group, kept in self.kept.items()}

    def append(self, writes: Sequence[GroupWrite]) -> None:
        self.unsynced.append(writes)

    def sync(self) -> None:
        for writes in self.unsynced:
            for write in writes:
                self.kept[write.group].take(write)
        self.unsynced.clear()

    def compact(self, flushed: Mapping[int, int]) -> None:
        for group, index in flushed.items():
            self.kept[group].compacted = max(self.kept[group].compacted, index)

    def close(self) -> None:
        pass

    def after_crash(self, keep: int = 0) -> MemoryLog:
        """Return the log that a new process finds: `keep` unsynced turns made it to the disk."""
        self.unsynced = self.unsynced[:keep]
        self.sync()
        return self


class LosingEngine(MemoryEngine):
    """An engine that can lose any number of its newest batches that were not flushed."""

    def __init__(self, rows: Mapping[bytes, bytes] | None = None) -> None:
        super().__init__(rows)
        self.unflushed: list[Sequence[Change]] = []

    def write(self, changes: Sequence[Change]) -> None:
        self.unflushed.append(tuple(changes))
        super().write(changes)

    def flush(self) -> None:
        super().flush()
        self.unflushed.clear()

    def after_crash(self, keep: int = 0) -> LosingEngine:
        engine = type(self)(self.flushed)
        for changes in self.unflushed[:keep]:
            MemoryEngine.write(engine, changes)
        engine.flush()
        return engine


def bootstrap_of(group: int) -> Bootstrap:
    return Bootstrap((OwnedSpan(SPANS[group], group),), SEEDS if group == 1 else ())


class Process:
    """One run of a node, from its start to its crash."""

    def __init__(self, log: MemoryLog, engine: LosingEngine, replica_class=Replica) -> None:
        self.log, self.engine = log, engine
        self.replicas: dict[int, Replica] = {}
        groups = {}
        for group, found in log.groups().items():
            groups[group] = start_group(
                1,
                group,
                engine,
                found,
                members=Configuration(frozenset({1})),
                is_catalog=group == 1,
                bootstrap=bootstrap_of(group),
                snapshots=None,
                draw=lambda _: 0,
                make=replica_class,
            )
            self.replicas[group] = groups[group].replica
        self.host = Host(groups)

    def turn(self, now_ms: int) -> tuple[Reply, ...]:
        turn = self.host.begin(now_ms)
        self.log.append(turn.writes)
        if turn.must_sync:
            self.log.sync()
        return self.host.finish(turn, now_ms).replies

    def settle(self, now_ms: int) -> list[Reply]:
        """Take turns until there is nothing to do."""
        replies: list[Reply] = []
        for _ in range(50):
            if not self.host.has_work():
                return replies
            replies += self.turn(now_ms)
        raise AssertionError("the host never rests")


def fresh() -> Process:
    return Process(MemoryLog(), LosingEngine())


def test_an_unsynced_turn_is_lost_and_a_synced_one_is_not() -> None:
    log = MemoryLog()
    log.append([GroupWrite(1, HardState(1, 1, 0), (LogEntry(1, 1, b"a"),))])
    log.sync()
    log.append([GroupWrite(1, None, (LogEntry(2, 1, b"b"),))])
    log.append([GroupWrite(1, None, (LogEntry(3, 1, b"c"),))])
    found = log.after_crash(keep=1).groups()[1]
    assert [entry.data for entry in found.entries] == [b"a", b"b"]
    assert (found.hard_state.term, found.last_index, found.first_index) == (1, 2, 1)


def test_an_engine_falls_back_to_any_batch_after_its_flush() -> None:
    engine = LosingEngine()
    for value in (b"1", b"2", b"3", b"4"):
        engine.write([(b"k", value)])
        if value == b"2":
            engine.flush()
    assert [engine.after_crash(keep=n).get(b"k") for n in range(3)] == [b"2", b"3", b"4"]
    assert engine.after_crash().unflushed == []


def test_a_process_rests_once_its_groups_have_their_first_records() -> None:
    process = fresh()
    assert process.settle(START_MS) == []
    assert all(process.host.status(group).serving for group in GROUPS)
    assert process.log.unsynced == []
