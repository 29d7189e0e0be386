"""Raft for a group of many voters, sans-IO: messages and ticks in, one Ready out.

    step(message), tick(), propose ─▶ Raft ─ready()─▶ Ready ─(durable, sent, applied)─▶ advance()

The rules are those of the Raft dissertation (Ongaro 2014); the shape is that of etcd-io/raft.

    follower ──time──▶ pre-candidate ──majority would──▶ candidate ──majority did──▶ leader
        ▲                                                                              │
        └──────────── a higher term, or no majority heard of for a while ──────────────┘

Rules, each with its place:
- A term and a vote are durable before any message that rests on them (3.4): such messages are in
  `Ready.messages`; only a leader's requests, which promise nothing of its own, are in `early`.
- Nobody is asked to vote, and nobody votes, while a leader is heard of (4.2.3, 9.6): pre-vote
  and the lease keep a node that comes back from a partition from disturbing.
- A leader commits by counting only for entries of its own term (3.6.2).
- A follower truncates only where terms conflict, and never at or below its commit index.
- A leader that has not heard of a majority for an election time steps down.
- Reads wait for a round of heartbeats, and for the first commit of the term (`reads`).
- One voter more or less at a time, in force from the log on, and not before the term's first
  commit (`membership`; the mend of 2015 to single-server changes).

`election` holds the votes, `leading` what a leader does, `following` what a follower does; this
module holds their state, time, and the Ready. Nothing here reads a clock, draws a number by
itself, or touches a disk or socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput, Unavailable
from workbench.ports.consensus import (
    ChunkReceived,
    ChunkWanted,
    Configuration,
    EntryKind,
    HardState,
    LogEntry,
    ReadState,
    Ready,
    Role,
    SnapshotMeta,
    SoftState,
)
from workbench.ports.peers import AppendRequest, Heartbeat, SnapshotChunk
from workbench.raft import election, following, leading
from workbench.raft.log import RaftLog
from workbench.raft.membership import Memberships, check_change, encode_configuration
from workbench.raft.reads import ReadRounds

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.ports.peers import Message
    from workbench.ports.storage import GroupLog
    from workbench.raft.progress import Progress

ELECTION_TICKS: Final = 10
HEARTBEAT_TICKS: Final = 1
UNCOMMITTED_BYTES_MAX: Final = 64 * 2**20
REQUESTS: Final = (AppendRequest, Heartbeat, SnapshotChunk)


class Raft:
    """One group's consensus, on one replica.

    Args:
        node: Id of this node, not zero.
        log: What the log holds of the group, all of it durable.
        applied_index: What the state machine has applied, and will not need again.
        snapshot: As of what the log begins: its index, term and the members there. For a new
            group index 0, term 0 and the first members.
        draw: Returns a number from 0 up to its argument; decides how long to wait.
        election_ticks: How long to wait for a leader, at least; at most twice that.
        heartbeat_ticks: How often a leader is heard of.
    """

    def __init__(  # noqa: PLR0913 - what a replica is made of, named
        self,
        node: int,
        log: GroupLog,
        applied_index: int,
        *,
        snapshot: SnapshotMeta,
        draw: Callable[[int], int],
        election_ticks: int = ELECTION_TICKS,
        heartbeat_ticks: int = HEARTBEAT_TICKS,
    ) -> None:
        assert node > 0
        assert 0 < heartbeat_ticks < election_ticks
        following.check_start(log, snapshot, applied_index)
        self.node: Final = node
        self.draw: Final = draw
        self.election_ticks: Final = election_ticks
        self.heartbeat_ticks: Final = heartbeat_ticks
        entries = [entry for entry in log.entries if entry.index > snapshot.index]
        stable = max(log.last_index, snapshot.index)
        self.log = RaftLog(snapshot.index, snapshot.term, entries, stable)
        self.memberships = Memberships(snapshot.index, snapshot.configuration)
        for entry in entries:
            self.memberships.append(entry)
        self.term = log.hard_state.term
        self.vote = log.hard_state.vote
        # Invariant: applied <= commit <= last index. `handed` is what `ready` has handed out.
        self.commit = max(log.hard_state.commit, applied_index, snapshot.index)
        self.applied = self.handed = applied_index
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
        # Of a follower: the raft_snapshot that comes in, and what of it is there.
        self.incoming: SnapshotMeta | None = None
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
        self._taken: Ready | None = None
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
    def last_index(self) -> int:
        """Index of the newest entry in the log, durable or not."""
        return self.log.last_index

    @property
    def may_campaign(self) -> bool:
        """Whether this node may be elected.

        One that is removed may, until that has committed: without its longer log the others may
        be unable to elect anybody (dissertation, 4.2.2).
        """
        committed = self.memberships.as_of(self.commit)
        return self.node in self.configuration.voters | committed.voters

    def tick(self) -> None:
        """Let one unit of time pass."""
        self.elapsed += 1
        if self.role is Role.LEADER:
            leading.tick(self)
        elif self.elapsed >= self.timeout:
            self.elapsed = 0
            self.reset_timeout()
            if self.may_campaign and self.installing is None:
                election.campaign(self, pre=True)

    def step(self, message: Message) -> None:
        """Take in a message of another replica; a stale or impossible one changes nothing."""
        if message.receiver != self.node or not following.is_sound(message):
            return
        if message.term > self.term and not election.enters(self, message):
            return
        if message.term < self.term:
            following.answer_stale(self, message)
            return
        if election.step(self, message):
            return
        if self.role is Role.LEADER:
            leading.step(self, message)
        else:
            following.step(self, message)

    def propose(self, data: bytes) -> int:
        """Append an entry as leader and return its index.

        Raises:
            Unavailable: `not_leader`, also while leadership is handed over; `log_full`, where
                too much waits for the other replicas.
        """
        assert data, "the empty entry opens a term"
        return self._propose(data, EntryKind.COMMAND)

    def propose_configuration(self, wanted: Configuration) -> int:
        """Append a change of the members and return its index; it is in force from now on.

        Raises:
            InvalidInput: `configuration_change_invalid`.
            Unavailable: `not_leader`, `log_full`; `configuration_changing`, where another change
                has not committed yet or the term has no commit of its own.
        """
        self._check_leads()
        check_change(self.configuration, wanted)
        if max(self.memberships.changed_at, self.first_own) > self.commit:
            raise Unavailable(
                "another change of the members, or the leader's first entry, has not committed",
                code="configuration_changing",
                hint="nothing was done: try again in a moment",
            )
        index = self._propose(encode_configuration(wanted), EntryKind.CONFIGURATION)
        leading.follow_members(self)
        return index

    def transfer_leader(self, to: int) -> None:
        """Hand leadership to a voter; given up after an election time without success.

        Raises:
            Unavailable: `not_leader`.
            InvalidInput: `transfer_target_invalid`, where `to` is no other voter.
        """
        self._check_leads()
        if to == self.node or to not in self.configuration.voters:
            raise InvalidInput(
                f"node {to} cannot take over from node {self.node}: it is no other voter",
                code="transfer_target_invalid",
                hint=f"voters are {sorted(self.configuration.voters)}",
            )
        leading.transfer(self, to)

    def read_index(self, context: int) -> None:
        """Ask for confirmation of leadership; answered by a ReadState with this context.

        Raises:
            Unavailable: `not_leader`.
        """
        if self.role is not Role.LEADER:
            raise self._not_leader()
        self.reads.ask(context, self.commit if self.commit >= self.first_own else None)
        leading.confirm_alone(self)

    def offer_snapshot(self, to: int, meta: SnapshotMeta) -> None:
        """Answer `snapshots_wanted`: pieces of this raft_snapshot can be read from now on."""
        leading.offer_snapshot(self, to, meta)

    def supply_chunk(self, wanted: ChunkWanted, data: bytes, *, done: bool) -> None:
        """Answer `chunks_wanted`; `done` where the raft_snapshot ends with this piece."""
        to, meta, offset = wanted.receiver, wanted.meta, wanted.offset
        leading.supply_chunk(
            self, SnapshotChunk(self.node, to, self.term, meta, offset, data, done)
        )

    def unreachable(self, node: int) -> None:
        """Note that messages to a node were probably lost."""
        if node in self.progress:
            self.progress[node].lost()

    def compact(self, index: int) -> None:
        """Let go of entries up to `index`, all of them applied."""
        assert index <= self.applied, "what is not applied is still needed"
        if index > self.log.compacted:
            self.memberships.compact(index)
            self.log.compact(index)

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        """Return what a raft_snapshot of the state as of `index` is called; it is applied."""
        assert self.log.compacted <= index <= self.applied
        term = self.log.term(index)
        assert term is not None
        return SnapshotMeta(index, term, self.memberships.as_of(index))

    def has_ready(self) -> bool:
        """Tell whether `ready` would return anything to do."""
        return (
            self._taken is not None
            or bool(self.messages or self.early or self.read_states or self.chunks)
            or bool(self.reads.fresh or self.snapshots_wanted or self.chunks_wanted)
            or self.log.last_index > self.log.stable
            or self._committable() > self.handed
            or self.snapshot_ready is not None
            or self.durable != self.hard_state
        )

    def ready(self) -> Ready:
        """Return what has to be done next; the same value until it is advanced."""
        if self._taken is not None:
            return self._taken
        leading.send_rounds(self)
        hard_state = self.hard_state
        entries = self.log.between(self.log.stable, self.log.last_index)
        voted = (self.term, self.vote) != (self.durable.term, self.durable.vote)
        snapshot = self.snapshot_ready
        committed: tuple[LogEntry, ...] = ()
        if snapshot is None and self._committable() > self.handed:
            committed = self.log.between(self.handed, self._committable())
        self._taken = Ready(
            hard_state=None if hard_state == self.durable else hard_state,
            entries=entries,
            committed=committed,
            read_states=tuple(self.read_states),
            must_sync=voted or bool(entries or self.chunks) or snapshot is not None,
            early=tuple(self.early),
            messages=tuple(self.messages),
            chunks=tuple(self.chunks),
            snapshot=snapshot,
            snapshots_wanted=tuple(self.snapshots_wanted),
            chunks_wanted=tuple(self.chunks_wanted),
        )
        for queue in (self.read_states, self.early, self.messages, self.chunks):
            queue.clear()
        self.snapshots_wanted.clear()
        self.chunks_wanted.clear()
        if committed:
            self.handed = committed[-1].index
        return self._taken

    def advance(self, ready: Ready) -> None:
        """Note that all of `ready` is done: durable, sent and applied.

        Messages that were stepped in meanwhile may have truncated what it made durable.
        """
        assert ready is self._taken, "advance follows the Ready that was taken"
        self._taken = None
        if ready.hard_state is not None:
            self.durable = ready.hard_state
        if ready.snapshot is not None:
            following.installed(self, ready.snapshot)
        if ready.committed:
            self.applied = max(self.applied, ready.committed[-1].index)
        if ready.entries:
            last = ready.entries[-1]
            if self.log.term(last.index) == last.term:
                self.log.stable = max(self.log.stable, last.index)
            leading.persisted(self)

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

    def _committable(self) -> int:
        """Return how far entries may be applied: committed, and durable here."""
        return min(self.commit, self.log.stable)

    def _propose(self, data: bytes, kind: EntryKind) -> int:
        self._check_leads()
        if self.uncommitted_bytes and self.uncommitted_bytes + len(data) > UNCOMMITTED_BYTES_MAX:
            raise Unavailable(
                f"{self.uncommitted_bytes} bytes wait for a majority of the replicas",
                code="log_full",
                hint="nothing was done: try again, and see whether the other nodes run",
            )
        index = self.append(data, kind)
        leading.broadcast_entries(self)
        return index

    def _check_leads(self) -> None:
        if self.role is not Role.LEADER or self.transferee:
            raise self._not_leader()

    def _not_leader(self) -> Unavailable:
        handing = self.role is Role.LEADER
        return Unavailable(
            f"node {self.node} is handing the leadership to node {self.transferee}"
            if handing
            else f"node {self.node} does not lead; node {self.leader or 'unknown'} does",
            code="not_leader",
            hint="nothing was done: ask the group's leader",
        )

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
