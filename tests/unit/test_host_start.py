"""A start from every legal combination of what a crash can leave, and from illegal ones.

One history of a group is made once; then every combination of hard state, kept part of the log,
state of the engine, reset and pieces is put together from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import pytest
from engines import MemoryEngine
from unit.test_host_net import MemoryPieces
from unit.test_host_world import LosingEngine

from workbench.errors import Corruption
from workbench.host.host import Host
from workbench.host.start import start_group
from workbench.model.keys import Span
from workbench.model.times import hlc_of_ms
from workbench.ports.consensus import (
    Configuration,
    EntryKind,
    HardState,
    LogEntry,
    Role,
    SnapshotMeta,
)
from workbench.ports.peers import AppendRequest, GroupMessage, Heartbeat
from workbench.ports.storage import GroupLog
from workbench.raft.membership import encode_configuration
from workbench.replica import raft_snapshot
from workbench.replica.clock import ceiling_of
from workbench.replica.commands import Bootstrap, Mutation, OwnedSpan, WriteBatch
from workbench.replica.entry import encode_command, encode_entry
from workbench.replica.layout import group_range
from workbench.replica.raft_snapshot import EngineSnapshots, pieces_of
from workbench.replica.replica import Replica

if TYPE_CHECKING:
    from workbench.host.values import Group

NODE, LEADER = 2, 1
FIRST = Configuration(frozenset({1, 2, 3}))
CHANGED = Configuration(frozenset({1, 2, 3}), frozenset({4}))
LAST, SNAPSHOT = 6, 4
TERM = 3
TERMS = (0, 1, 1, 1, 2, 3, 3)


def stamped(index: int, command: object) -> bytes:
    return encode_entry(ceiling_of(index), [(hlc_of_ms(index), encode_command(command))])


@cache
def history() -> tuple[LogEntry, ...]:
    """Entries 1 to 6: a term's first, a bootstrap, a change of the members, and writes."""
    owned = Bootstrap((OwnedSpan(Span(b"", None), 1),))
    data = {
        index: stamped(index, WriteBatch((Mutation(b"k%d" % index, b"v"),))) for index in (4, 6)
    }
    data |= {1: b"", 2: stamped(2, owned), 3: encode_configuration(CHANGED), 5: b""}
    return tuple(
        LogEntry(
            index,
            TERMS[index],
            data[index],
            EntryKind.CONFIGURATION if index == 3 else EntryKind.COMMAND,
        )
        for index in range(1, LAST + 1)
    )


@cache
def states() -> tuple[dict[bytes, bytes], ...]:
    """The engine's rows after each entry; the first is of a group that has just been founded."""
    engine = MemoryEngine()
    replica = Replica(1, engine, is_catalog=False)
    replica.found(FIRST)
    made = [dict(engine.rows)]
    for entry in history():
        replica.apply(entry)
        made.append(dict(engine.rows))
    return tuple(made)


def members_at(index: int) -> Configuration:
    return CHANGED if index >= 3 else FIRST


def meta_at(index: int) -> SnapshotMeta:
    return SnapshotMeta(index, TERMS[index], members_at(index))


def pieces_at(index: int) -> list[bytes]:
    rows = MemoryEngine(states()[index]).scan(*group_range(1))
    return [data for data, _ in pieces_of(1, meta_at(index), rows)]


@dataclass(frozen=True)
class Left:
    """What a crash left: the log from behind `base` up to `last`, the engine, the pieces."""

    base: int
    last: int
    applied: int
    hard: HardState
    reset: int = 0
    pieces: str = "none"

    def log(self) -> GroupLog:
        return GroupLog(
            self.hard,
            self.base + 1,
            self.last,
            TERMS[self.last],
            history()[self.base : self.last],
            TERMS[self.base],
            meta_at(self.reset) if self.reset else None,
        )

    def start(self) -> tuple[Group, LosingEngine, MemoryPieces]:
        engine, pieces = LosingEngine(states()[self.applied]), MemoryPieces()
        whole = pieces_at(self.reset or SNAPSHOT)
        pieces.pieces = {"none": [], "part": whole[:-1], "whole": whole}[self.pieces]
        group = start_group(
            NODE,
            1,
            engine,
            self.log(),
            members=FIRST,
            is_catalog=False,
            bootstrap=None,
            snapshots=EngineSnapshots(1, engine, pieces),
            draw=lambda _: 0,
        )
        return group, engine, pieces


def legal() -> list[Left]:
    """Every combination that a crash can leave."""
    found = []
    for base, last in product(range(LAST + 1), repeat=2):
        if base > last:
            continue
        for applied, term, vote in product(range(base, last + 1), (TERMS[last], 7), (0, 2, 3)):
            for commit in range(last + 1):
                if TERMS[last] == 0 and term == 0 and vote:
                    continue
                hard = HardState(term, vote, commit)
                found += [
                    Left(base, last, applied, hard, pieces=pieces)
                    for pieces in ("none", "part", "whole")
                ]
        if base == SNAPSHOT:
            for applied, term, commit in product(
                range(last + 1), (TERMS[last], 7), range(last + 1)
            ):
                hard = HardState(term, 0, commit)
                waits = applied < SNAPSHOT
                # What has been installed is dropped after it; before, the pieces are whole.
                for pieces in ("whole",) if waits else ("none", "whole"):
                    found.append(Left(base, last, applied, hard, SNAPSHOT, pieces))
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_snapshot, "PIECE_BYTES", 120)


def feed(group: Group, after: int) -> Host:
    """Have the leader send what is missing, commit it all, and take turns until it is applied."""
    term = max(TERM, group.consensus.hard_state.term)
    host = Host({1: group})
    request = AppendRequest(LEADER, NODE, term, after, TERMS[after], history()[after:], LAST)
    host.receive([GroupMessage(1, request), GroupMessage(1, Heartbeat(LEADER, NODE, term, LAST))])
    for _ in range(5):
        host.finish(host.begin(0), 0)
    host.check_invariants()
    return host


def test_every_legal_start_goes_on_to_the_same_state() -> None:
    starts = legal()
    assert len(starts) > 3_000
    for left in starts:
        group, engine, pieces = left.start()
        stands = max(left.applied, left.reset)
        assert group.replica.applied_index == stands, left
        assert engine.rows == states()[stands], left
        assert group.replica.members == members_at(stands), left
        assert pieces.pieces == [], left
        raft = group.consensus
        assert (raft.hard_state.term, raft.hard_state.vote) == (left.hard.term, left.hard.vote)
        assert raft.hard_state.commit == max(left.hard.commit, stands), left
        assert raft.soft_state.role is Role.FOLLOWER, left
        assert raft.configuration == members_at(left.last), left
        raft.check_invariants()
        if left.pieces == "none" or left.reset:
            host = feed(group, left.last)
            assert host.applied() == {1: LAST}, left
            assert engine.rows == states()[LAST], left


def test_a_new_group_starts_from_nothing() -> None:
    engine = LosingEngine()
    group = start_group(
        NODE,
        1,
        engine,
        None,
        members=FIRST,
        is_catalog=False,
        bootstrap=None,
        snapshots=EngineSnapshots(1, engine, MemoryPieces()),
        draw=lambda _: 0,
    )
    assert engine.rows == states()[0]
    assert feed(group, 0).applied() == {1: LAST}
    assert engine.rows == states()[LAST]


@pytest.mark.parametrize(
    ("left", "code"),
    [
        (Left(0, 2, 4, HardState(3, 0, 0)), "log_behind_state"),
        (Left(0, 2, 1, HardState(3, 0, 4)), "log_behind_state"),
        (Left(3, 5, 1, HardState(3, 0, 0)), "log_incomplete"),
        (Left(0, 5, 1, HardState(2, 0, 0)), "log_term_ahead"),
        (Left(4, 6, 1, HardState(3, 0, 0), 4, "part"), "raft_snapshot_corrupt"),
        (Left(4, 6, 1, HardState(3, 0, 0), 4, "none"), "raft_snapshot_corrupt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_crash_can_leave_is_refused(left: Left, code: str) -> None:
    with pytest.raises(Corruption) as caught:
        left.start()
    assert caught.value.code == code


def test_a_log_with_another_entry_than_the_state_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = Left(0, 5, 4, HardState(9, 0, 0))
    other = replace(left.log(), entries=tuple(replace(e, term=7) for e in left.log().entries))
    monkeypatch.setattr(Left, "log", lambda _: other)
    with pytest.raises(Corruption) as caught:
        left.start()
    assert caught.value.code == "log_differs"


def test_a_state_of_the_previous_version_starts_with_its_log() -> None:
    """Its `progress` row has no term, and there is no `members` row."""
    group = (1).to_bytes(8, "big")
    row = bytes.fromhex("01 0000000000000004 0000000001f80000 0000000000040000".replace(" ", ""))
    for base in range(5):
        engine = LosingEngine(
            {
                key: value
                for key, value in states()[4].items()
                if key not in {group + b"\x01progress", group + b"\x01members"}
            }
            | {group + b"\x01progress": row}
        )
        log = GroupLog(HardState(3, NODE, 3), base + 1, 6, 3, history()[base:], TERMS[base])
        started = start_group(
            NODE,
            1,
            engine,
            log,
            members=Configuration(frozenset({NODE})),
            is_catalog=False,
            bootstrap=None,
            snapshots=None,
            draw=lambda _: 0,
        )
        assert started.replica.applied_index == 4
        assert started.replica.applied_term is None
        assert started.replica.members == Configuration(frozenset({NODE}))
        host = Host({1: started})
        assert host.status(1).role == "leader", "it is the only voter: no time has to pass"
        while host.has_work():
            host.finish(host.begin(10**12), 10**12)
        assert host.applied() == {1: 7}
        assert host.status(1).serving
        assert Replica(1, engine, is_catalog=False).applied_term == 4


def test_a_group_of_one_voter_leads_before_any_time_has_passed() -> None:
    engine = LosingEngine()
    group = start_group(
        NODE,
        1,
        engine,
        None,
        members=Configuration(frozenset({NODE})),
        is_catalog=False,
        bootstrap=Bootstrap((OwnedSpan(Span(b"", None), 1),)),
        snapshots=None,
        draw=lambda _: 5,
    )
    host, turns = Host({1: group}), 0
    while not host.status(1).serving:
        host.finish(host.begin(10**12), 10**12)
        turns += 1
    assert turns == 2, "its first entry, then its first records"
