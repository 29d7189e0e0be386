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
- What was proposed since the last Ready goes to each follower in one request. How far the group
  has committed is told with the next entries or heartbeat: a follower serves nobody.
- Reads wait for a round of heartbeats, and for the first commit of the term (`reads`).
- One voter more or less at a time, in force from the log on, and not before the term's first
  commit (`membership`; the mend of 2015 to single-server changes).

`state` holds what a replica is; `election` the votes, `leading` what a leader does, `following`
what a follower does; this module time, calls, and the Ready. Nothing here reads a clock, draws a
number by itself, or touches a disk or socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput, Unavailable
from workbench.ports.consensus import ChunkWanted, EntryKind, LogEntry, Ready, Role
from workbench.ports.entries import SnapshotMeta
from workbench.ports.peers import SnapshotChunk
from workbench.raft import election, following, leading
from workbench.raft.membership import check_change, encode_configuration
from workbench.raft.state import ELECTION_TICKS, HEARTBEAT_TICKS, RaftState

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.ports.consensus import Configuration
    from workbench.ports.peers import Message
    from workbench.ports.storage import GroupLog

UNCOMMITTED_BYTES_MAX: Final = 64 * 2**20


class Raft(RaftState):
    """One group's consensus, on one replica; made as `RaftState` is.

    The only voter of a group has nobody to ask: it leads from the start on.
    """

    def __init__(  # noqa: PLR0913 - as RaftState's
        self,
        node: int,
        log: GroupLog,
        *,
        applied: SnapshotMeta,
        draw: Callable[[int], int],
        election_ticks: int = ELECTION_TICKS,
        heartbeat_ticks: int = HEARTBEAT_TICKS,
    ) -> None:
        super().__init__(
            node,
            log,
            applied=applied,
            draw=draw,
            election_ticks=election_ticks,
            heartbeat_ticks=heartbeat_ticks,
        )
        if self.configuration.voters == {node}:
            election.campaign(self, pre=False)

    def tick(self) -> None:
        """Let one unit of time pass."""
        self.elapsed += 1
        if self.role is Role.LEADER:
            leading.tick(self)
        elif self.elapsed >= self.timeout and self.may_campaign and self.installing is None:
            # Who may not campaign waits on, so that its lease ends and it votes for others.
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
        leading.broadcast_entries(self)  # who leaves is told so
        leading.follow_members(self, index)
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

    def snapshot_gone(self, wanted: ChunkWanted) -> None:
        """Answer `chunks_wanted`: that raft_snapshot can no longer be read."""
        progress = self.progress.get(wanted.receiver)
        if progress is not None and progress.meta == wanted.meta:
            progress.behind()

    def takes(self, chunk: SnapshotChunk) -> bool:
        """Tell whether `step` would now take this piece as the next of a raft_snapshot."""
        return following.takes(self, chunk)

    def refuse_snapshot(self, meta: SnapshotMeta) -> None:
        """Note that the pieces that came in cannot be used: have them sent from the first on."""
        following.refuse(self, meta)

    def trim(self, entries_max: int, bytes_max: int) -> None:
        """Let go of the oldest applied entries, until at most so much is kept in memory."""
        self.compact(self.log.oldest_kept(self.applied, entries_max, bytes_max))

    def compact(self, index: int) -> None:
        """Let go of entries in memory up to `index`, all of them applied."""
        assert index <= self.applied, "what is not applied is still needed"
        if index > self.log.compacted:
            self.memberships.compact(index)
            self.log.compact(index)

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        """Return what a raft_snapshot of the state as of `index` is called.

        It is applied, and not below what was applied at start.
        """
        assert self.log.compacted <= index <= self.applied
        term = self.log.term(index)
        assert term is not None
        return SnapshotMeta(index, term, self.memberships.as_of(index))

    @property
    def needs_sync(self) -> bool:
        """Whether the next Ready has anything that must be durable."""
        if self.taken is not None:
            return self.taken.must_sync
        log, durable = self.log, self.durable
        return (
            log.compacted + len(log.entries) > log.stable
            or self.term != durable.term
            or self.vote != durable.vote
            or bool(self.chunks)
            or self.snapshot_ready is not None
        )

    def has_ready(self) -> bool:
        """Tell whether `ready` would return anything to do."""
        return (
            self.taken is not None
            or self.durable.commit != self.commit
            or self.needs_sync
            or bool(self.messages or self.early or self.read_states)
            or bool(self.reads.fresh or self.snapshots_wanted or self.chunks_wanted)
            or self._committable() > self.handed
        )

    def ready(self) -> Ready:
        """Return what has to be done next; the same value until it is advanced."""
        if self.taken is not None:
            return self.taken
        leading.send_rounds(self)
        hard_state, must_sync = self.hard_state, self.needs_sync
        entries = self.log.between(self.log.stable, self.log.last_index)
        if entries:
            leading.broadcast_entries(self)
        snapshot = self.snapshot_ready
        committed: tuple[LogEntry, ...] = ()
        if snapshot is None and self._committable() > self.handed:
            committed = self.log.between(self.handed, self._committable())
        self.taken = Ready(
            hard_state=None if hard_state == self.durable else hard_state,
            entries=entries,
            committed=committed,
            read_states=tuple(self.read_states),
            must_sync=must_sync,
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
        return self.taken

    def advance(self, ready: Ready) -> None:
        """Note that all of `ready` is done: durable, sent and applied.

        Messages that were stepped in meanwhile may have truncated what it made durable.
        """
        assert ready is self.taken, "advance follows the Ready that was taken"
        self.taken = None
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
        return self.append(data, kind)

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
