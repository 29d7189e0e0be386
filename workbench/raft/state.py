"""What a replica is: term, vote, log, role, and what goes out with the next Ready.

    election ─┐
    leading  ─┼──▶ RaftState ◀── core (time, calls, Ready)
    following ┘

The invariants stand beside the fields, and `check_invariants` asserts them. Which message changes
what is decided in the modules around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.errors import Corruption
from workbench.model.recovery import DAMAGED_NODE_HINT
from workbench.ports.consensus import (
    ChunkReceived,
    ChunkWanted,
    HardState,
    ReadState,
    Ready,
    Role,
    SoftState,
)
from workbench.ports.entries import Configuration, EntryKind, LogEntry, SnapshotMeta
from workbench.ports.peers import AppendRequest, Heartbeat, SnapshotChunk
from workbench.raft.log import RaftLog
from workbench.raft.membership import Memberships
from workbench.raft.reads import ReadRounds

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.ports.peers import Message
    from workbench.ports.storage import GroupLog
    from workbench.raft.progress import Progress

ELECTION_TICKS: Final = 10
HEARTBEAT_TICKS: Final = 1
REQUESTS: Final = (AppendRequest, Heartbeat, SnapshotChunk)


class RaftState:
    """What one replica of a group is, and the two changes that everything makes of it.

    Args:
        node: Id of this node, not zero.
        log: What the log holds of the group, all of it durable. It may begin before `applied`,
            so that a leader can still feed others after its restart.
        applied: What the state machine stands for, and will not need again: the index, its term
            and the members there. For a new group index 0, term 0 and the first members.
        draw: Returns a number from 0 up to its argument; decides how long to wait.
        election_ticks: How long to wait for a leader, at least; at most twice that.
        heartbeat_ticks: How often a leader is heard of.

    Raises:
        Corruption: as `check_start`.
    """

    def __init__(  # noqa: PLR0913 - what a replica is made of, named
        self,
        node: int,
        log: GroupLog,
        *,
        applied: SnapshotMeta,
        draw: Callable[[int], int],
        election_ticks: int = ELECTION_TICKS,
        heartbeat_ticks: int = HEARTBEAT_TICKS,
    ) -> None:
        assert node > 0
        assert 0 < heartbeat_ticks < election_ticks
        check_start(log, applied)
        self.node: Final = node
        self.draw: Final = draw
        self.election_ticks: Final = election_ticks
        self.heartbeat_ticks: Final = heartbeat_ticks
        self.log = RaftLog(log.first_index - 1, log.base_term, [*log.entries], log.last_index)
        self.memberships = Memberships(applied.index, applied.configuration)
        for entry in log.entries[applied.index - self.log.compacted :]:
            self.memberships.append(entry)
        self.term = log.hard_state.term
        self.vote = log.hard_state.vote
        # Invariant: applied <= commit <= last index. `handed` is what `ready` has handed out.
        self.commit = max(log.hard_state.commit, applied.index)
        self.applied = self.handed = applied.index
        self.durable = log.hard_state
        self.role = Role.FOLLOWER
        self.leader = 0
        # A candidate that asks whether it would be elected, before it enters a term.
        self.pre = False
        self.elapsed = 0
        self.heartbeat_elapsed = 0
        self.timeout = 0
        self.votes: dict[int, bool] = {}
        # Of a leader: one per other member.
        self.progress: dict[int, Progress] = {}
        self.reads = ReadRounds()
        self.first_own = 0
        self.transferee = 0
        self.uncommitted_bytes = 0
        # Of a follower: the raft_snapshot that comes in, of which term and leader, and what of it
        # is there.
        self.incoming: SnapshotMeta | None = None
        self.incoming_from = (0, 0)
        self.incoming_offset = 0
        self.installing: SnapshotMeta | None = None
        self.chunks: list[ChunkReceived] = []
        # What goes out with the next Ready.
        self.early: list[Message] = []
        self.messages: list[Message] = []
        self.read_states: list[ReadState] = []
        self.chunks_wanted: list[ChunkWanted] = []
        self.snapshots_wanted: list[int] = []
        self.snapshot_ready: SnapshotMeta | None = None
        self.taken: Ready | None = None
        self.reset_timeout()

    @property
    def configuration(self) -> Configuration:
        """The members now: the newest configuration in the log."""
        return self.memberships.current

    @property
    def soft_state(self) -> SoftState:
        """Role and leader now."""
        learner = self.role is Role.FOLLOWER and self.node in self.configuration.learners
        return SoftState(Role.LEARNER if learner else self.role, self.leader)

    @property
    def hard_state(self) -> HardState:
        """Term, vote and commit now; durable only after the Ready that carries them."""
        return HardState(self.term, self.vote, self.commit)

    @property
    def leading_term(self) -> int:
        """The term in which this replica leads now; 0 where it does not."""
        return self.term if self.role is Role.LEADER else 0

    @property
    def last_index(self) -> int:
        """Index of the newest entry in the log, durable or not."""
        return self.log.last_index

    @property
    def compacted(self) -> int:
        """Index of the newest entry that is no longer kept in memory; 0 for none."""
        return self.log.compacted

    @property
    def may_campaign(self) -> bool:
        """Whether this node may be elected.

        One that is removed may, until that has committed: without its longer log the others may
        be unable to elect anybody (dissertation, 4.2.2).
        """
        committed = self.memberships.as_of(self.commit)
        return self.node in self.configuration.voters | committed.voters

    def become_follower(self, term: int, leader: int) -> None:
        """Follow `leader`, 0 for unknown, in `term`."""
        if term > self.term:
            self.term, self.vote = term, 0
        if self.role is not Role.FOLLOWER or leader != self.leader:
            self.elapsed = 0
            self.reset_timeout()
        self.role, self.leader, self.pre = Role.FOLLOWER, leader, False
        self.votes.clear()
        self.progress.clear()
        self.reads = ReadRounds()
        self.transferee = self.uncommitted_bytes = 0
        self.snapshots_wanted.clear()
        self.chunks_wanted.clear()
        # What was to be said in an earlier term is of no use to anybody.
        self.early = [each for each in self.early if each.term >= self.term]
        self.messages = [each for each in self.messages if each.term >= self.term]

    def reset_timeout(self) -> None:
        """Draw anew how long to wait for a leader."""
        self.timeout = self.election_ticks + self.draw(self.election_ticks)

    def append(self, data: bytes, kind: EntryKind) -> int:
        """Append an entry of the own term and return its index."""
        entry = LogEntry(self.log.last_index + 1, self.term, data, kind)
        self.log.append(entry)
        self.memberships.append(entry)
        self.uncommitted_bytes += len(data)
        return entry.index

    def check_invariants(self) -> None:
        """Assert what must hold between calls."""
        self.log.check_invariants()
        assert self.applied <= self.handed <= self.commit <= self.log.last_index or (
            self.installing is not None
        )
        assert self.durable.term <= self.term
        assert self.log.last_term <= self.term
        assert self.role is not Role.LEADER or self.leader == self.node
        assert (self.role is Role.LEADER) == bool(self.first_own and self.leader == self.node)
        assert self.role is not Role.CANDIDATE or self.pre or self.vote == self.node
        others = self.configuration.members - {self.node}
        assert self.role is not Role.LEADER or set(self.progress) == others
        assert self.role is Role.LEADER or not self.progress
        for each in self.progress.values():
            each.check_invariants()
            assert each.match <= self.log.last_index
            assert each.next <= self.log.last_index + 1
        assert self.role is Role.LEADER or not (self.reads.fresh or self.reads.waiting)
        promising = [each for each in self.early if not isinstance(each, REQUESTS)]
        assert not promising, "only a leader's requests promise nothing"


def check_start(log: GroupLog, applied: SnapshotMeta) -> None:
    """Refuse a log that cannot be continued from what the state machine stands for.

    Raises:
        Corruption: `log_behind_state`, `log_incomplete`, `log_differs`, `log_term_ahead`.
    """
    kept = [entry.index for entry in log.entries]
    if max(applied.index, log.hard_state.commit) > log.last_index:
        raise Corruption(
            f"the state has applied index {applied.index}, {log.hard_state.commit} are "
            f"committed, the log ends at {log.last_index}",
            code="log_behind_state",
            hint=f"the log has lost its end, or is older than the state: {DAMAGED_NODE_HINT}",
        )
    if applied.index < log.first_index - 1 or kept != list(
        range(log.first_index, log.last_index + 1)
    ):
        raise Corruption(
            f"the state has applied index {applied.index}, the log keeps {len(kept)} entries "
            f"from {log.first_index} on and ends at {log.last_index}",
            code="log_incomplete",
            hint=f"log and state come from different moments: {DAMAGED_NODE_HINT}",
        )
    term = term_in(log, applied.index)
    if term != applied.term:
        raise Corruption(
            f"the state has applied entry {applied.index} of term {applied.term}, in the log it "
            f"is of term {term}",
            code="log_differs",
            hint=f"log and state come from different moments: {DAMAGED_NODE_HINT}",
        )
    if log.last_term > log.hard_state.term:
        raise Corruption(
            f"the log ends in term {log.last_term}, its hard state is of {log.hard_state.term}",
            code="log_term_ahead",
            hint=f"a record of the log was lost: {DAMAGED_NODE_HINT}",
        )


def term_in(log: GroupLog, index: int) -> int | None:
    """Return the term of an entry; None where the log as found does not tell it."""
    if index == log.first_index - 1:
        return log.base_term
    at = index - log.first_index
    return log.entries[at].term if 0 <= at < len(log.entries) else None
