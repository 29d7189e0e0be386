"""Engines for tests: an ordered map in memory that can lose what was not flushed."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workbench.ports.storage import Change


class MemoryEngine:
    """The `Engine` port over a dict and a sorted list of its keys.

    Attributes:
        rows: What is stored now; for tests to look at, not to change.
        flushed: What was stored at the last flush; see `after_crash`.
    """

    def __init__(self, rows: Mapping[bytes, bytes] | None = None) -> None:
        self.rows: dict[bytes, bytes] = dict(rows or {})
        self.flushed: dict[bytes, bytes] = dict(self.rows)
        self._keys: list[bytes] = sorted(self.rows)
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """Return the value, None where there is none."""
        assert not self._closed
        return self.rows.get(key)

    def firsts(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes] | None]:
        """Return the first pair of each range, None for none."""
        return [next(self.scan(start, end), None) for start, end in ranges]

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield pairs of [start, end), as they are at the call, not at the first step."""
        assert not self._closed
        low = bisect_left(self._keys, start)
        high = len(self._keys) if end is None else max(low, bisect_left(self._keys, end))
        pairs = [(key, self.rows[key]) for key in self._keys[low:high]]
        return reversed(pairs) if reverse else iter(pairs)

    def write(self, changes: Sequence[Change]) -> None:
        """Apply the changes in order."""
        assert not self._closed
        for key, value in changes:
            if value is None:
                if self.rows.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self.rows:
                    insort(self._keys, key)
                self.rows[key] = value

    def flush(self) -> None:
        """Keep everything so far, also over `after_crash`."""
        assert not self._closed
        self.flushed = dict(self.rows)

    def close(self) -> None:
        """Refuse every later call."""
        self._closed = True

    def after_crash(self) -> MemoryEngine:
        """Return the engine that a new process finds: what was flushed, nothing else."""
        return MemoryEngine(self.flushed)
