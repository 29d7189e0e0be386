"""What goes into a host and what comes out of it, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.errors import WorkbenchError
    from workbench.ports.consensus import Consensus
    from workbench.ports.storage import GroupWrite
    from workbench.replica.commands import Answer, Bootstrap, Result
    from workbench.replica.replica import Replica


@dataclass(frozen=True, slots=True)
class Group:
    """One group on this node.

    Attributes:
        consensus: Its consensus, which hands out what `replica` has not applied.
        replica: Its state machine.
        bootstrap: First records for a group that has none yet; None to wait for another's.
    """

    consensus: Consensus
    replica: Replica
    bootstrap: Bootstrap | None


@dataclass(frozen=True, slots=True)
class Turn:
    """What has to be written before a turn may be finished.

    Attributes:
        writes: To append to the log, one per group that has any.
        must_sync: Whether they must be durable before `finish`.
    """

    writes: tuple[GroupWrite, ...]
    must_sync: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of one call.

    Attributes:
        token: As given with the call.
        result: What came of it. An error other than inside Refused was met outside the log: the
            command was not proposed, but for OutcomeUnknown; a read was not answered.
    """

    token: int
    result: Result | Answer | WorkbenchError
