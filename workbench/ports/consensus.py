"""Consensus: how one group agrees on its log. Sans-IO, in the shape of etcd-io/raft.

    tick / propose / read_index ──▶ Consensus ──ready()──▶ Ready ──(make durable)──▶ advance()

One turn: take `ready()`, make its hard state and entries durable, apply what is committed,
then `advance()`. `ready()` called again before `advance` returns the same value. Nothing here
reads a clock, draws a random number or touches a disk.

An index counts log entries of one group from 1; a term counts its elections from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from workbench.ports.entries import Configuration, EntryKind, LogEntry, SnapshotMeta

if TYPE_CHECKING:
    from workbench.ports.peers import Message, SnapshotChunk

__all__ = [
    "ChunkReceived",
    "ChunkWanted",
    "Configuration",
    "Consensus",
    "EntryKind",
    "HardState",
    "LogEntry",
    "ReadState",
    "Ready",
    "Role",
    "SnapshotMeta",
    "SoftState",
]


class Role(StrEnum):
    """What a replica is in its term."""

    LEADER = "leader"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEARNER = "learner"


@dataclass(frozen=True, slots=True)
class ChunkWanted:
    """A piece of a raft_snapshot that the shell is to read, for one follower."""

    receiver: int
    meta: SnapshotMeta
    offset: int


@dataclass(frozen=True, slots=True)
class ChunkReceived:
    """A piece of a raft_snapshot that the shell is to keep, in order, until all are there."""

    meta: SnapshotMeta
    offset: int
    data: bytes
    done: bool


@dataclass(frozen=True, slots=True)
class HardState:
    """What must be durable before a message or reply that depends on it.

    Attributes:
        term: Newest term seen.
        vote: Node voted for in this term, 0 for none.
        commit: Highest index known to be committed.
    """

    term: int = 0
    vote: int = 0
    commit: int = 0


@dataclass(frozen=True, slots=True)
class SoftState:
    """What need not be kept: the role, and who leads (0: unknown)."""

    role: Role
    leader: int


@dataclass(frozen=True, slots=True)
class ReadState:
    """Leadership was confirmed for the read `context`; serve it once `index` has applied."""

    context: int
    index: int


@dataclass(frozen=True, slots=True)
class Ready:
    """What one turn has to carry out.

    Attributes:
        hard_state: To make durable; None where it did not change.
        entries: To append to the log and make durable, ascending.
        committed: To apply, ascending, each once. Contains only entries that were durable
            before this Ready was taken.
        read_states: Reads whose leadership check has succeeded.
        must_sync: Whether `hard_state`, `entries`, `chunks` or `snapshot` need an fsync (a
            commit index does not).
        early: Messages that may be sent at once: a leader's, which promise nothing of its own.
        messages: Messages to send only after everything above is durable.
        chunks: Pieces of a raft_snapshot to keep, before any message is sent.
        snapshot: The raft_snapshot, whose pieces are all there, that takes the place of the
            state and of the log; `committed` follows it.
        snapshots_wanted: Nodes that need a raft_snapshot: answer with `offer_snapshot`.
        chunks_wanted: Pieces to read: answer with `supply_chunk`.
    """

    hard_state: HardState | None = None
    entries: tuple[LogEntry, ...] = ()
    committed: tuple[LogEntry, ...] = ()
    read_states: tuple[ReadState, ...] = ()
    must_sync: bool = False
    early: tuple[Message, ...] = ()
    messages: tuple[Message, ...] = ()
    chunks: tuple[ChunkReceived, ...] = ()
    snapshot: SnapshotMeta | None = None
    snapshots_wanted: tuple[int, ...] = ()
    chunks_wanted: tuple[ChunkWanted, ...] = ()


class Consensus(Protocol):
    """One group's consensus, on one replica."""

    @property
    def soft_state(self) -> SoftState:
        """Role and leader now."""
        ...

    @property
    def hard_state(self) -> HardState:
        """Term, vote and commit now; durable only after the Ready that carries them."""
        ...

    @property
    def leading_term(self) -> int:
        """The term in which this replica leads now; 0 where it does not."""
        ...

    @property
    def last_index(self) -> int:
        """Index of the newest entry in the log, durable or not."""
        ...

    @property
    def configuration(self) -> Configuration:
        """The members now: of the newest configuration in the log."""
        ...

    @property
    def compacted(self) -> int:
        """Index of the newest entry that is no longer kept in memory; 0 for none."""
        ...

    @property
    def needs_sync(self) -> bool:
        """Whether the next Ready has anything that must be durable."""
        ...

    def tick(self) -> None:
        """Let one unit of election time pass."""
        ...

    def step(self, message: Message) -> None:
        """Take in a message of another replica; a stale or impossible one changes nothing."""
        ...

    def propose(self, data: bytes) -> int:
        """Append an entry as leader and return its index.

        Raises:
            Unavailable: `not_leader`, `log_full`.
        """
        ...

    def propose_configuration(self, wanted: Configuration) -> int:
        """Append a change of the members and return its index; it is in force from now on.

        Raises:
            InvalidInput: `configuration_change_invalid`.
            Unavailable: `not_leader`, `log_full`, `configuration_changing`.
        """
        ...

    def transfer_leader(self, to: int) -> None:
        """Hand leadership to a voter; given up after an election time without success.

        Raises:
            Unavailable: `not_leader`.
            InvalidInput: `transfer_target_invalid`.
        """
        ...

    def unreachable(self, node: int) -> None:
        """Note that messages to a node were probably lost."""
        ...

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        """Return what a raft_snapshot of the state as of `index` is called; it is applied."""
        ...

    def offer_snapshot(self, to: int, meta: SnapshotMeta) -> None:
        """Answer `snapshots_wanted`: pieces of this raft_snapshot can be read from now on."""
        ...

    def supply_chunk(self, wanted: ChunkWanted, data: bytes, *, done: bool) -> None:
        """Answer `chunks_wanted`; `done` where the raft_snapshot ends with this piece."""
        ...

    def snapshot_gone(self, wanted: ChunkWanted) -> None:
        """Answer `chunks_wanted`: that raft_snapshot can no longer be read."""
        ...

    def takes(self, chunk: SnapshotChunk) -> bool:
        """Tell whether `step` would now take this piece as the next of a raft_snapshot."""
        ...

    def refuse_snapshot(self, meta: SnapshotMeta) -> None:
        """Note that the pieces that came in cannot be used: have them sent from the first on."""
        ...

    def trim(self, entries_max: int, bytes_max: int) -> None:
        """Let go of the oldest applied entries, until at most so much is kept in memory."""
        ...

    def read_index(self, context: int) -> None:
        """Ask for confirmation of leadership; answered by a ReadState with this context.

        Raises:
            Unavailable: `not_leader`.
        """
        ...

    def has_ready(self) -> bool:
        """Tell whether `ready` would return anything to do."""
        ...

    def ready(self) -> Ready:
        """Return what has to be done next."""
        ...

    def advance(self, ready: Ready) -> None:
        """Note that all of `ready` is done: durable, and applied."""
        ...

    def check_invariants(self) -> None:
        """Assert what must hold between calls; for tests and the simulator."""
        ...
