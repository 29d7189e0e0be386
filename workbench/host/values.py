"""What goes into a host and what comes out of it, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.errors import WorkbenchError
    from workbench.ports.consensus import ChunkReceived, Configuration, Consensus
    from workbench.ports.peers import GroupMessage
    from workbench.ports.storage import GroupWrite, RaftSnapshots
    from workbench.replica.commands import Answer, Bootstrap, Result
    from workbench.replica.replica import Replica


@dataclass(frozen=True, slots=True)
class Group:
    """One group on this node.

    Attributes:
        consensus: Its consensus, which hands out what `replica` has not applied.
        replica: Its state machine.
        bootstrap: First records for a group that has none yet; None to wait for another's.
        snapshots: Its raft_snapshots; None where it has no other members, and gets none.
    """

    consensus: Consensus
    replica: Replica
    bootstrap: Bootstrap | None
    snapshots: RaftSnapshots | None = None


@dataclass(frozen=True, slots=True)
class GroupChunk:
    """A piece of a raft_snapshot that came in for a group."""

    group: int
    chunk: ChunkReceived


@dataclass(frozen=True, slots=True)
class Turn:
    """What has to be done before a turn may be finished, in this order.

    Attributes:
        writes: To append to the log, one per group that has any.
        must_sync: Whether they must be durable before `finish`; `chunks` must be at any rate.
        early: Messages by receiving node that may be sent at once.
        chunks: To keep and make durable, each in its group's RaftSnapshots, before any of
            `writes` is durable: a write may say that all pieces are there.
    """

    writes: tuple[GroupWrite, ...]
    must_sync: bool
    early: Mapping[int, tuple[GroupMessage, ...]] = field(default_factory=dict)
    chunks: tuple[GroupChunk, ...] = ()


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """A change of a group's members has committed, and was applied here.

    Attributes:
        index: Of its entry.
        configuration: The members since.
    """

    index: int
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of one call.

    Attributes:
        token: As given with the call.
        result: What came of it. An error other than inside Refused was met outside the log: the
            command was not proposed, but for OutcomeUnknown; a read was not answered.
    """

    token: int
    result: Result | Answer | MembersChanged | WorkbenchError


@dataclass(frozen=True, slots=True)
class Finished:
    """What a finished turn has to say.

    Attributes:
        replies: The ends of calls.
        messages: By receiving node, to be sent now.
    """

    replies: tuple[Reply, ...]
    messages: Mapping[int, tuple[GroupMessage, ...]]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Messages that came in and were not looked at, since the host was made.

    Attributes:
        unknown_group: Of groups that this node does not have.
        overflow: The oldest ones, when more waited than may.
        malformed: Pieces of a raft_snapshot that do not decode.
    """

    unknown_group: int = 0
    overflow: int = 0
    malformed: int = 0
