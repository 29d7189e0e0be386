"""What went wrong with a call so far, and the error that it ends with when its time has passed.

    note(address, error) ──▶ what the last node that answered said │ where nobody answers
                                                └──▶ overdue(op, trouble) ──▶ the error

A node that refuses knows more than one that is not there: what it said stays in the error until
nobody answers at its address either. The others are named beside it, so that who reads it sees
which nodes to look after. Whether anything was written is said of writes alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.client.operations import AskOp, Operation, WriteOp
from workbench.errors import OutcomeUnknown, Unavailable, WorkbenchError


@dataclass(slots=True)
class Trouble:
    """What went wrong with a call so far.

    Attributes:
        error: The last one that a node told of; where none did, that nobody answers. None: nothing.
    """

    error: WorkbenchError | None = None
    _at: str = ""
    _silent: set[str] = field(default_factory=set)

    def note(self, error: WorkbenchError, address: str = "") -> None:
        """Take an error, of the node at an address; "" where it is the client's own."""
        nobody = error.code == "node_unreachable"
        if nobody:
            self._silent.add(address)
        else:
            self._silent.discard(address)
        told = self.error is not None and self._at not in self._silent
        if not nobody or not told:
            self.error, self._at = error, address

    def heard(self, address: str) -> None:
        """Notice that somebody answers at an address."""
        self._silent.discard(address)

    @property
    def message(self) -> str:
        """What is known of it, on one line; "" where nothing is."""
        if self.error is None:
            return ""
        others = sorted(self._silent - {self._at})
        beside = f"nobody answers at {', '.join(others)}; " if others else ""
        return beside + self.error.message

    def whole(self, error: WorkbenchError) -> WorkbenchError:
        """Return an error that the call ends with, naming all addresses at which nobody answers."""
        named = error is self.error and self.message != error.message
        if not named or type(error) is not Unavailable:
            return error
        told = Unavailable(self.message, code=error.code, hint=error.hint)
        told.__cause__ = error.__cause__
        return told


def overdue(op: Operation, trouble: Trouble) -> WorkbenchError:
    """Return the error of a call whose time has passed."""
    why = f": {trouble.message}" if trouble.error is not None else ""
    if isinstance(op, WriteOp) and (op.unknown or op.in_flight):
        return OutcomeUnknown(
            f"the write was not acknowledged in time{why}",
            code="write_outcome_unknown",
            hint="it may have been made: read before writing again",
        )
    if isinstance(op, AskOp):
        if op.call.writes and op.in_flight:
            return OutcomeUnknown(
                f"the call was not answered in time{why}",
                code="deadline_exceeded",
                hint="it may have taken effect: look before repeating it",
            )
        if trouble.error is not None:
            return trouble.whole(trouble.error)
    certain = "nothing was written; " if isinstance(op, WriteOp) else ""
    return Unavailable(
        f"the call was not answered in time{why}",
        code="deadline_exceeded",
        hint=f"{certain}try again; see `workbench cluster status`",
    )
