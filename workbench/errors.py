"""The one exception tree.

Errors are grouped by what the caller does about them, not by where they arise:

    WorkbenchError
    ├── InvalidInput      the input is wrong: mend it (InvalidArgument: the call itself is wrong)
    ├── NotFound          what was named does not exist
    ├── AlreadyExists     what was to be created exists
    ├── Conflict          somebody else changed it first, or it means something else: look again
    ├── Unavailable       try again later
    ├── OutcomeUnknown    it may have happened: look before trying again
    ├── Corruption        stored or received bytes are not what was written
    ├── Storage           the store refused (disk full, permission, no such bucket)
    └── Internal          our own bug

Every error has a stable `code`, one per condition, append-only; a `message` that says what was
wrong and with which value; and a `hint` that says what to do. Nothing here formats for a
terminal or maps to an exit status: that is the command line's.
"""

from __future__ import annotations

from typing import ClassVar


class WorkbenchError(Exception):
    """Base of every error that the workbench raises on purpose.

    Attributes:
        kind: What the caller does about it; one word per subclass.
        code: Stable identifier of the condition, snake_case.
        message: What was wrong, with the value.
        hint: What to do about it; empty where the message says it all.
        retryable: Whether the same call may succeed later, unchanged.
    """

    kind: ClassVar[str] = "internal"
    retryable_by_default: ClassVar[bool] = False

    def __init__(
        self, message: str, *, code: str, hint: str = "", retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.retryable = self.retryable_by_default if retryable is None else retryable

    def __str__(self) -> str:
        """Return message and hint on one line."""
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of a traceback: one line, where, and the notes."""
        notes: list[str] = getattr(self, "__notes__", [])
        return [f"{type(self).__name__} ({self.code}): {self}", *self._cell_line(), *notes]

    def _cell_line(self) -> list[str]:
        """Return in which line of the notebook's cell it happened, where that is known."""
        trace, line = self.__traceback__, 0
        while trace is not None:
            if "ipykernel" in trace.tb_frame.f_code.co_filename or (
                trace.tb_frame.f_code.co_filename.startswith("<ipython-input")
            ):
                line = trace.tb_lineno
            trace = trace.tb_next
        return [f"in line {line} of the cell"] if line else []


class InvalidInput(WorkbenchError):
    """The content of an input (file, record, answer) cannot be accepted."""

    kind = "invalid_input"


class InvalidArgument(InvalidInput):
    """An argument of the call itself is wrong; on the command line this is wrong usage."""


class NotFound(WorkbenchError):
    """What was named does not exist."""

    kind = "not_found"


class AlreadyExists(WorkbenchError):
    """What was to be created exists already."""

    kind = "already_exists"


class Conflict(WorkbenchError):
    """Another writer was first, or the same name means something else."""

    kind = "conflict"


class FingerprintConflict(Conflict):
    """A dataset of this name is registered with another schema fingerprint."""

    def __init__(self, name: str, registered: str, offered: str) -> None:
        super().__init__(
            f"dataset {name!r} is registered with schema fingerprint {registered!r}, "
            f"the new data have {offered!r}",
            code="fingerprint_conflict",
            hint="register under another name, or write data of the registered schema",
        )
        self.name = name
        self.registered = registered
        self.offered = offered


class Unavailable(WorkbenchError):
    """The other side cannot answer now."""

    kind = "unavailable"
    retryable_by_default = True


class OutcomeUnknown(WorkbenchError):
    """The call may or may not have taken effect."""

    kind = "outcome_unknown"


class Corruption(WorkbenchError):
    """Stored or received bytes are not what was written."""

    kind = "corruption"


class Storage(WorkbenchError):
    """The store refused or failed."""

    kind = "storage"


class Internal(WorkbenchError):
    """An invariant of ours does not hold."""

    kind = "internal"
