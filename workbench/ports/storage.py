"""What a node keeps on its disk: one log for all its groups, and one ordered key-value engine.

The log is the truth. The engine may lose its newest writes in a crash and gets them again from
the log: every applied entry writes its index in the same batch as its effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workbench.ports.consensus import ChunkReceived, HardState, LogEntry, SnapshotMeta


@dataclass(frozen=True, slots=True)
class GroupWrite:
    """What one group adds to the log in one turn.

    Attributes:
        group: Its id.
        hard_state: The newest; None where it did not change.
        entries: Ascending, without holes.
        reset: A raft_snapshot is to take the place of the state: the log holds nothing any more
            and goes on behind it. With it come no entries.
    """

    group: int
    hard_state: HardState | None
    entries: tuple[LogEntry, ...]
    reset: SnapshotMeta | None = None


@dataclass(frozen=True, slots=True)
class GroupLog:
    """One group's part of a log, as found at start.

    Attributes:
        hard_state: The newest durable one.
        first_index: Of the oldest entry kept; last_index + 1 where none is.
        last_index: Of the newest entry ever appended and not truncated; 0 for none.
        last_term: Its term; 0 for none.
        entries: All that are kept, ascending and without holes.
        base_term: Of the entry at first_index - 1; 0 where that is 0.
        reset: The newest raft_snapshot that the log was reset to; None for none, or where what
            the engine has flushed is behind it.
    """

    hard_state: HardState
    first_index: int
    last_index: int
    last_term: int
    entries: tuple[LogEntry, ...]
    base_term: int = 0
    reset: SnapshotMeta | None = None


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

    def firsts(self, ranges: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes] | None]:
        """Return the first pair of each range [start, end), all of one moment; None for none."""
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


class SnapshotPieces(Protocol):
    """Where the pieces of the one raft_snapshot that comes in for a group are kept."""

    def keep(self, offset: int, data: bytes) -> None:
        """Keep a piece; one at offset 0 drops all others first. Durable only after `sync`."""
        ...

    def sync(self) -> None:
        """Make every piece so far durable; Storage: the process must stop."""
        ...

    def kept(self) -> Iterator[bytes]:
        """Yield the pieces in the order of their offsets; may be called again."""
        ...

    def discard(self) -> None:
        """Drop all pieces."""
        ...


class Waiting(Enum):
    """Says that something is still being made, beside the caller: ask again at a later tick."""

    WAIT = "wait"


class RaftSnapshots(Protocol):
    """The raft_snapshots of one group: the one that is sent, and the one that comes in.

        leader     take ─▶ read, read, … ─▶ release
        follower   keep, sync, keep, sync, … ─▶ check ─▶ keep, sync, log reset ─▶ begin_install
        start      install, or discard (see `host.start`)

    Nothing here takes long: what does, goes on beside the caller, who asks again whether it is
    done. An implementation that does all at once never answers WAIT.
    """

    def take(self, meta: SnapshotMeta) -> None:
        """Freeze the group's state as it is now, in place of what was taken before."""
        ...

    def read(self, meta: SnapshotMeta, offset: int) -> tuple[bytes, bool] | Waiting | None:
        """Return the piece at `offset`, and whether it is the last; None where it is gone.

        Raises:
            Corruption, Storage: the state cannot be taken; the process must stop.
        """
        ...

    def release(self) -> None:
        """Let go of what was taken: nobody has read of it for long."""
        ...

    def keep(self, chunk: ChunkReceived) -> None:
        """Keep a piece that came in; one at offset 0 drops what was there."""
        ...

    def sync(self) -> None:
        """Make the kept pieces durable; Storage: the process must stop."""
        ...

    def check(self, meta: SnapshotMeta, offset: int, data: bytes) -> bool | Waiting:
        """Tell whether the kept pieces and this last one are the state that `meta` names.

        Asked before the last piece counts for anything. Where they are not, nothing has changed
        but that they are dropped: they can come again.

        Raises:
            Storage: the process must stop.
        """
        ...

    def begin_install(self, meta: SnapshotMeta) -> bool:
        """Begin what `install` does; tell whether it is done already. Raises what that does."""
        ...

    def installed(self) -> bool:
        """Tell whether the install that was begun is done. Raises what `install` does."""
        ...

    def install(self, meta: SnapshotMeta) -> None:
        """Replace the group's rows by the kept pieces, durably, and drop the pieces.

        Idempotent until it has returned: a crash in it is mended by calling it again.

        Raises:
            Corruption: `raft_snapshot_corrupt`: the pieces do not decode, or are of another
                state than `meta`. Nothing was changed then.
            Storage: the process must stop.
        """
        ...

    def discard(self) -> None:
        """Drop the kept pieces."""
        ...

    def close(self) -> None:
        """End what goes on beside; an install is over when this returns, or will be done again."""
        ...
