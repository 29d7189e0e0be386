"""The disk of one simulated node: log, engine and pieces of raft_snapshots, in memory.

    Host ── append, sync ──▶ SimLog ────┐
         ── write, flush ──▶ SimEngine ─┼── effect(kind) before each: the process may end here
         ── keep, sync ────▶ SimPieces ─┘

What a crash leaves:
- of the log every synced turn; of what was appended since, a part from the front. Where a turn
  stands behind that part it is torn: opening the log cuts it, as a turn counts wholly or not;
- of the engine everything flushed, and of the batches since, a part from the front;
- of the pieces every synced one, and of the others a part from the front.

The watcher is told of every effect: what was appended, what became durable, what was written.
Bytes on a real disk, and how torn ones are told from damaged ones, are the node's, and tested
there (`node.log`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from workbench.errors import Internal
from workbench.ports.consensus import HardState, LogEntry
from workbench.ports.storage import GroupLog

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workbench.ports.consensus import SnapshotMeta
    from workbench.ports.storage import Change, GroupWrite

GROUP_BYTES: Final = 8


class Crash(BaseException):  # not an Exception: no code under test may catch it
    """The process ends here; whoever plays it starts a new one."""


class Watcher(Protocol):
    """Is told of effects, before the next one."""

    def appended(self, node: int, write: GroupWrite, kept: Kept) -> None:
        """See what is about to be added to a group's log, as it stands on the disk."""
        ...

    def applied(self, node: int, group: int, changes: Sequence[Change], digest: int) -> None:
        """See a batch of the engine, and the digest of all the group's rows after it."""
        ...


@dataclass(slots=True)
class Kept:
    """One group's log, as far as it is on the disk.

    Attributes:
        hard_state: The newest.
        base: Index before the first entry that is kept.
        base_term: Its term.
        entries: Ascending from base + 1.
        reset: The newest raft_snapshot that it was reset to.
    """

    hard_state: HardState = field(default_factory=HardState)
    base: int = 0
    base_term: int = 0
    entries: list[LogEntry] = field(default_factory=list)
    reset: SnapshotMeta | None = None

    @property
    def last_index(self) -> int:
        """Of the newest entry, kept or not."""
        return self.base + len(self.entries)

    @property
    def last_term(self) -> int:
        """Its term."""
        return self.entries[-1].term if self.entries else self.base_term

    def term(self, index: int) -> int | None:
        """Return the term of an entry; None where it is not known."""
        if index == self.base:
            return self.base_term
        at = index - self.base - 1
        return self.entries[at].term if 0 <= at < len(self.entries) else None

    def add(self, write: GroupWrite) -> None:
        """Take a write in."""
        self.hard_state = write.hard_state or self.hard_state
        if write.reset is not None:
            self.entries = []
            self.base, self.base_term, self.reset = write.reset.index, write.reset.term, write.reset
        if write.entries:
            at = write.entries[0].index - self.base - 1
            if not 0 <= at <= len(self.entries):
                raise _misused(f"entry {write.entries[0].index} behind {self.last_index}")
            del self.entries[at:]
            self.entries += write.entries

    def compact(self, index: int) -> None:
        """Let go of entries up to `index`."""
        if index > self.base:
            term = self.term(index)
            if term is None:
                raise _misused(f"entries up to {index} are let go of, there is {self.last_index}")
            del self.entries[: index - self.base]
            self.base, self.base_term = index, term
        if self.reset is not None and self.reset.index <= index:
            self.reset = None

    def found(self) -> GroupLog:
        """Return it as the port has it."""
        return GroupLog(
            hard_state=self.hard_state,
            first_index=self.base + 1,
            last_index=self.last_index,
            last_term=self.last_term,
            entries=tuple(self.entries),
            base_term=self.base_term,
            reset=self.reset,
        )


class SimLog:
    """The `LogStorage` port.

    Args:
        node: Whose.
        groups: That it may hold.
        effect: Called before each effect, with its kind; may raise Crash.
        watcher: Told of what is appended.

    Attributes:
        kept: What is durable, by group.
    """

    def __init__(
        self,
        node: int,
        groups: Sequence[int],
        effect: Callable[[str], None],
        watcher: Watcher,
    ) -> None:
        self.kept: dict[int, Kept] = {group: Kept() for group in groups}
        self._node = node
        self._effect = effect
        self._watcher = watcher
        self._turns: list[Sequence[GroupWrite]] = []

    def groups(self) -> Mapping[int, GroupLog]:
        """Return what was found when the log was opened."""
        return {group: kept.found() for group, kept in self.kept.items()}

    def append(self, writes: Sequence[GroupWrite]) -> None:
        """Write one turn."""
        self._effect("append")
        for write in writes:
            self._watcher.appended(self._node, write, self.kept[write.group])
        self._turns.append(writes)

    def sync(self) -> None:
        """Make everything appended durable."""
        self._effect("sync")
        self._add(len(self._turns))
        self._turns.clear()

    def compact(self, flushed: Mapping[int, int]) -> None:
        """Let go of entries."""
        self._effect("compact")
        for group, index in flushed.items():
            self.kept[group].compact(index)

    def close(self) -> None:
        """Do nothing: memory has no files."""

    def crash(self, source: random.Random, faults: Counter[str]) -> None:
        """Lose what a crash loses."""
        survivors = source.randint(0, len(self._turns))
        if survivors < len(self._turns):
            faults["torn or lost turn"] += 1
        self._add(survivors)
        self._turns.clear()

    def _add(self, turns: int) -> None:
        for writes in self._turns[:turns]:
            for write in writes:
                self.kept[write.group].add(write)


class SimEngine:
    """The `Engine` port over a dict and a sorted list of its keys.

    Args:
        node: Whose.
        effect: Called before each effect, with its kind; may raise Crash.
        watcher: Told of every batch.

    Attributes:
        rows: What is there now, durable or not.
    """

    def __init__(self, node: int, effect: Callable[[str], None], watcher: Watcher) -> None:
        self.rows: dict[bytes, bytes] = {}
        self._node = node
        self._effect = effect
        self._watcher = watcher
        self._keys: list[bytes] = []
        self._flushed: dict[bytes, bytes] = {}
        self._batches: list[Sequence[Change]] = []
        # Batches written, and batches flushed, so far.
        self._written = 0
        self._settled = 0
        # By group: the exclusive or of a hash of every row, whatever their order was.
        self._digests: dict[bytes, int] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value, None where there is none."""
        return self.rows.get(key)

    def firsts(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes] | None]:
        """Return the first pair of each range, None for none."""
        return [next(self.scan(start, end), None) for start, end in ranges]

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield pairs of [start, end), as they are at the call."""
        keys, rows = self._keys, self.rows
        low = bisect_left(keys, start)
        high = len(keys) if end is None else max(low, bisect_left(keys, end))
        pairs = [(key, rows[key]) for key in keys[low:high]]
        return reversed(pairs) if reverse else iter(pairs)

    def write(self, changes: Sequence[Change]) -> None:
        """Apply the changes, all or none."""
        if not changes:
            return
        self._effect("write")
        self._batches.append(tuple(changes))
        self._written += 1
        self._put(changes)
        group = changes[0][0][:GROUP_BYTES]
        number = int.from_bytes(group, "big")
        self._watcher.applied(self._node, number, changes, self._digests[group])

    def flush(self) -> None:
        """Make every write so far durable."""
        self._effect("flush")
        self._settle(len(self._batches))

    @property
    def mark(self) -> int:
        """Where a flush stands that begins now; for `end_flush`."""
        return self._written

    def end_flush(self, mark: int) -> None:
        """Make what was written before `mark` durable: a flush that went on beside other writes."""
        self._effect("flush")
        self._settle(max(mark - self._settled, 0))

    def close(self) -> None:
        """Do nothing: memory has no files."""

    def digest(self, group: int) -> int:
        """Return a number that is equal for equal rows of a group, in this process only."""
        return self._digests.get(group.to_bytes(GROUP_BYTES, "big"), 0)

    def crash(self, source: random.Random, faults: Counter[str]) -> None:
        """Lose what a crash loses."""
        survivors = source.randint(0, len(self._batches))
        if survivors < len(self._batches):
            faults["lost engine writes"] += 1
        self._settle(survivors)
        self._batches.clear()
        self._settled = self._written
        self.rows = dict(self._flushed)
        self._keys = sorted(self.rows)
        self._digests.clear()
        for row in self.rows.items():
            group = row[0][:GROUP_BYTES]
            self._digests[group] = self._digests.get(group, 0) ^ hash(row)

    def _settle(self, batches: int) -> None:
        for changes in self._batches[:batches]:
            _change(self._flushed, changes)
        del self._batches[:batches]
        self._settled += batches

    def _put(self, changes: Sequence[Change]) -> None:
        rows, keys, digests = self.rows, self._keys, self._digests
        for key, value in changes:
            group = key[:GROUP_BYTES]
            digest = digests.get(group, 0)
            before = rows.get(key)
            if before is not None:
                digest ^= hash((key, before))
            if value is not None:
                digest ^= hash((key, value))
                if before is None:
                    insort(keys, key)
                rows[key] = value
            elif before is not None:
                del rows[key]
                del keys[bisect_left(keys, key)]
            digests[group] = digest


class SimPieces:
    """The `SnapshotPieces` port, of one group."""

    def __init__(self, effect: Callable[[str], None]) -> None:
        self._effect = effect
        self._durable: list[tuple[int, bytes]] = []
        self._fresh: list[tuple[int, bytes]] = []

    def keep(self, offset: int, data: bytes) -> None:
        """Keep a piece; one at offset 0 drops all others first."""
        self._effect("keep")
        self._fresh.append((offset, data))

    def sync(self) -> None:
        """Make every piece so far durable."""
        self._effect("sync pieces")
        self._settle(len(self._fresh))

    def kept(self) -> Iterator[bytes]:
        """Yield the pieces in the order of their offsets."""
        return iter([data for _, data in sorted(_pieces(self._durable, self._fresh))])

    def discard(self) -> None:
        """Drop all pieces."""
        self._effect("discard")
        self._durable = []
        self._fresh = []

    def crash(self, source: random.Random) -> None:
        """Lose what a crash loses."""
        self._settle(source.randint(0, len(self._fresh)))

    def _settle(self, survivors: int) -> None:
        self._durable = _pieces(self._durable, self._fresh[:survivors])
        self._fresh = []


def _misused(what: str) -> Internal:
    return Internal(f"the log is misused: {what}", code="simulator_log_misused")


def _pieces(
    durable: Sequence[tuple[int, bytes]], fresh: Sequence[tuple[int, bytes]]
) -> list[tuple[int, bytes]]:
    pieces = dict(durable)
    for offset, data in fresh:
        if offset == 0:
            pieces.clear()
        pieces[offset] = data
    return sorted(pieces.items())


def _change(rows: dict[bytes, bytes], changes: Sequence[Change]) -> None:
    for key, value in changes:
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
