"""What the replicas of one group say to each other, as values; how bytes are made is the shell's.

    candidate ── VoteRequest ──────▶ ◀── VoteResponse ────────── everybody
    leader ───── AppendRequest ────▶ ◀── AppendResponse ──────── follower
    leader ───── Heartbeat ────────▶ ◀── HeartbeatResponse ───── follower
    leader ───── SnapshotChunk ────▶ ◀── SnapshotResponse ────── follower that is too far behind
    leader ───── CampaignNow ──────▶                             who is to lead next

Every message names sender, receiver and the sender's term. Messages may be lost, doubled,
delayed and reordered; each is safe to receive at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from workbench.ports.entries import LogEntry, SnapshotMeta


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """Asks for a vote; with `pre` only whether one would be given.

    Attributes:
        sender: The candidate.
        receiver: Who is asked.
        term: The term to be elected in; with `pre` one that nobody has entered yet.
        last_index: Of the candidate's log.
        last_term: Of the entry there.
        pre: Nothing is promised by the answer, and no term changes.
        transfer: The leader asked for this election: the leader's lease does not count.
    """

    sender: int
    receiver: int
    term: int
    last_index: int
    last_term: int
    pre: bool = False
    transfer: bool = False


@dataclass(frozen=True, slots=True)
class VoteResponse:
    """Gives or refuses a vote.

    Attributes:
        sender: The voter.
        receiver: The candidate.
        term: Of the vote where it is granted, else the voter's own.
        granted: Whether it is.
        pre: Answers a `pre` request.
    """

    sender: int
    receiver: int
    term: int
    granted: bool
    pre: bool = False


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """Entries that follow (prev_index, prev_term), and how far the leader has committed."""

    sender: int
    receiver: int
    term: int
    prev_index: int
    prev_term: int
    entries: tuple[LogEntry, ...]
    commit: int


@dataclass(frozen=True, slots=True)
class AppendResponse:
    """Tells how far the follower's log equals the leader's, or where it cannot.

    Attributes:
        sender: The follower.
        receiver: The leader.
        term: The follower's.
        index: Accepted: everything up to here is durable and equal. Rejected: the prev_index.
        rejected: Whether prev_index and prev_term were not found.
        hint_index: Rejected: the newest index at which the two logs may be equal.
        hint_term: Rejected: the follower's term there.
    """

    sender: int
    receiver: int
    term: int
    index: int
    rejected: bool = False
    hint_index: int = 0
    hint_term: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Keeps followers from campaigning, and asks them to confirm a round of reads.

    Attributes:
        sender: The leader.
        receiver: The follower.
        term: The leader's.
        commit: What the follower may take as committed: never beyond what it is known to hold.
        round: The newest round of reads; 0 for none.
    """

    sender: int
    receiver: int
    term: int
    commit: int
    round: int = 0


@dataclass(frozen=True, slots=True)
class HeartbeatResponse:
    """Confirms that the sender of the heartbeat led when this round was asked."""

    sender: int
    receiver: int
    term: int
    round: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """A piece of a raft_snapshot, from `offset` on; the last one says so."""

    sender: int
    receiver: int
    term: int
    meta: SnapshotMeta
    offset: int
    data: bytes
    done: bool


@dataclass(frozen=True, slots=True)
class SnapshotResponse:
    """Tells which offset of the raft_snapshot at `index` the follower expects next."""

    sender: int
    receiver: int
    term: int
    index: int
    offset: int


@dataclass(frozen=True, slots=True)
class CampaignNow:
    """Asks the receiver, whose log is complete, to take over without waiting."""

    sender: int
    receiver: int
    term: int


Message: TypeAlias = (
    VoteRequest
    | VoteResponse
    | AppendRequest
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | SnapshotChunk
    | SnapshotResponse
    | CampaignNow
)


@dataclass(frozen=True, slots=True)
class GroupMessage:
    """A message between the replicas of one of many groups."""

    group: int
    message: Message
