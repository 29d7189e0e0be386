"""What a node keeps on its disk: one log for all its groups, and one ordered key-value engine.

The log is the truth. The engine may lose its newest writes in a crash and gets them again from
the log: every applied entry writes its index in the same batch as its effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workbench.ports.consensus import HardState, LogEntry


@dataclass(frozen=True, slots=True)
class GroupWrite:
    """What one group adds to the log in one turn."""

    group: int
    hard_state: HardState | None
    entries: tuple[LogEntry, ...]


@dataclass(frozen=True, slots=True)
class GroupLog:
    """One group's part of a log, as found at start.

    Attributes:
        hard_state: The newest durable one.
        first_index: Of the oldest entry kept; last_index + 1 where none is.
        last_index: Of the newest entry ever appended and not truncated; 0 for none.
        last_term: Its term; 0 for none.
        entries: All that are kept, ascending and without holes.
    """

    hard_state: HardState
    first_index: int
    last_index: int
    last_term: int
    entries: tuple[LogEntry, ...]


class LogStorage(Protocol):
    """The log of all groups of one process."""

    def groups(self) -> Mapping[int, GroupLog]:
        """Return what was found when the log was opened."""
        ...

    def append(self, writes: Sequence[GroupWrite]) -> None:
        """Write one turn; it counts only once `sync` has returned, and then wholly.

        An entry with an index that exists replaces it and all after it (a term conflict).

        Raises:
            Storage: disk full (`disk_full`) or a failing disk; the process must stop.
        """
        ...

    def sync(self) -> None:
        """Make everything appended durable; Storage (`sync_failed`): the process must stop."""
        ...

    def compact(self, flushed: Mapping[int, int]) -> None:
        """Let go of entries at or below each group's index, which the engine has flushed."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...


# One change of an engine: a key with its value, or with None to delete it.
Change: TypeAlias = tuple[bytes, bytes | None]


class Engine(Protocol):
    """An ordered map of bytes on disk."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value, None where there is none."""
        ...

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield pairs of [start, end), ascending or descending, of one moment."""
        ...

    def write(self, changes: Sequence[Change]) -> None:
        """Apply the changes in order, all or none; need not be durable (see `flush`)."""
        ...

    def flush(self) -> None:
        """Make every write so far durable."""
        ...

    def close(self) -> None:
        """Close the files; what was not flushed may be lost."""
        ...
