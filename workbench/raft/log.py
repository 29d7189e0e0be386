"""The part of a group's log that is kept in memory, and what is known of it.

    compacted        stable                    last
        │ 4 5 6 7 8 9 │ 10 11 12                │        indexes
        └ term of 3   └ durable up to here      └ not yet durable behind it

Rules:
- Entries have no holes, and terms never fall along the log.
- Of what was compacted only the last index and its term are known; that is what the first entry
  that is kept is checked against.
- Truncation is never at or below the commit index: that is asserted by who calls it.

Nothing here decides what commits, and nothing is durable: the shell writes what `unstable` holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workbench.ports.consensus import LogEntry


@dataclass(slots=True)
class RaftLog:
    """Entries above `compacted`, of which those up to `stable` are durable.

    Attributes:
        compacted: Index of the newest entry that is no longer kept; 0 for none.
        compacted_term: Its term.
        entries: What is kept, ascending from compacted + 1.
        stable: Newest durable index.
        data_bytes: Of all that is kept.
    """

    compacted: int
    compacted_term: int
    entries: list[LogEntry] = field(default_factory=list)
    stable: int = 0
    data_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.data_bytes = sum(len(entry.data) for entry in self.entries)

    @property
    def last_index(self) -> int:
        """Index of the newest entry."""
        return self.compacted + len(self.entries)

    @property
    def last_term(self) -> int:
        """Term of the newest entry."""
        return self.entries[-1].term if self.entries else self.compacted_term

    def term(self, index: int) -> int | None:
        """Return the term of an entry; None where it is not known: compacted, or not there."""
        if index == self.compacted:
            return self.compacted_term
        at = index - self.compacted - 1
        return self.entries[at].term if 0 <= at < len(self.entries) else None

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Tell whether a log that ends there is at least as new as this one (paper, 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def from_index(self, start: int, bytes_max: int) -> tuple[LogEntry, ...]:
        """Return entries from `start` on: as many as fit, and at least one where there is one."""
        assert start > self.compacted
        chosen: list[LogEntry] = []
        room = bytes_max
        for at in range(start - self.compacted - 1, len(self.entries)):
            room -= len(self.entries[at].data)
            if chosen and room < 0:
                break
            chosen.append(self.entries[at])
        return tuple(chosen)

    def between(self, low: int, high: int) -> tuple[LogEntry, ...]:
        """Return the entries low < index <= high, all of which are kept."""
        assert self.compacted <= low <= high <= self.last_index
        return tuple(self.entries[low - self.compacted : high - self.compacted])

    def append(self, entry: LogEntry) -> None:
        """Add the next entry."""
        assert entry.index == self.last_index + 1
        assert entry.term >= self.last_term
        self.entries.append(entry)
        self.data_bytes += len(entry.data)

    def first_conflict(self, entries: Iterable[LogEntry]) -> int | None:
        """Return the index of the first entry that is not in the log as it is; None for none."""
        for entry in entries:
            if entry.index > self.compacted and self.term(entry.index) != entry.term:
                return entry.index
        return None

    def truncate_from(self, index: int) -> None:
        """Drop the entry at `index` and all after it."""
        assert index > self.compacted
        at = index - self.compacted - 1
        self.data_bytes -= sum(len(entry.data) for entry in self.entries[at:])
        del self.entries[at:]
        self.stable = min(self.stable, self.last_index)

    def newest_at_or_below(self, index: int, term: int) -> tuple[int, int]:
        """Return (index, term) of the newest entry up to `index` whose term is not above `term`.

        Where logs conflict, whole terms are skipped by it rather than one entry at a time
        (paper, end of 5.3). Ends at what was compacted.
        """
        at = min(index, self.last_index)
        while at > self.compacted:
            found = self.term(at)
            assert found is not None
            if found <= term:
                return at, found
            at -= 1
        return self.compacted, self.compacted_term

    def compact(self, index: int) -> None:
        """Let go of entries up to `index`."""
        if index <= self.compacted:
            return
        term = self.term(index)
        assert term is not None, "only what is there can be compacted"
        assert index <= self.stable, "what is not durable is not compacted"
        gone = index - self.compacted
        self.data_bytes -= sum(len(entry.data) for entry in self.entries[:gone])
        del self.entries[:gone]
        self.compacted, self.compacted_term = index, term

    def oldest_kept(self, applied: int, entries_max: int, bytes_max: int) -> int:
        """Return up to which index entries have to go, at most `applied`, to keep so much."""
        index, size = self.compacted, self.data_bytes
        while index < applied and (applied - index > entries_max or size > bytes_max):
            size -= len(self.entries[index - self.compacted].data)
            index += 1
        return index

    def reset(self, index: int, term: int) -> None:
        """Begin anew behind a raft_snapshot."""
        self.entries.clear()
        self.data_bytes = 0
        self.compacted = self.stable = index
        self.compacted_term = term

    def check_invariants(self) -> None:
        """Assert what must hold between calls."""
        assert self.compacted <= self.stable <= self.last_index
        terms = [self.compacted_term]
        for at, entry in enumerate(self.entries, start=self.compacted + 1):
            assert entry.index == at, "the log has no holes"
            terms.append(entry.term)
        assert terms == sorted(terms), "terms never fall along the log"
        assert self.data_bytes == sum(len(entry.data) for entry in self.entries)
