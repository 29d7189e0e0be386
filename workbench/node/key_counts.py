"""Exact counts per key of the open window: kept as they come, counted many at once.

    add ──▶ keys' bytes, lengths, sizes ──ACCESSES_HELD_MAX──▶ one pass ──▶ counts per key
                                                                  │ too many different keys
            told of, with what was counted of each ◀──── spill ───┘

A call's keys are appended to plain buffers while they are still in the processor's cache; nothing
is looked up for them. Once there are enough, a pass over all of them counts them as arrays
(dictionary encoding, then sums by code). A dictionary of lists costs twice as much, since each
access fetches three places of memory that others have driven from the cache.

Every access is counted, in exactly one of two places: with its key, or, once there are too many
different ones, by `spill`. No key is added then until `clear`, so that no count lacks what came
before.

Bounded: accesses that wait and their key bytes (whichever comes first, and one call more),
different keys and their bytes. Not here: windows, routes, who owns a key: whoever changes those
calls `tally` first.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from workbench.model.keys import Span

# That wait to be counted. A pass costs as much again for the keys that are known already.
ACCESSES_HELD_MAX: Final = 65_536
KEY_BYTES_HELD_MAX: Final = 4 * 2**20


@dataclass(frozen=True)
class Counted:
    """Keys, ascending, and what was counted of each.

    Attributes:
        keys: All different.
        counts: One row per key: reads, writes, read bytes, write bytes.
    """

    keys: Sequence[bytes]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, counts: Mapping[bytes, Sequence[int]]) -> Counted:
        """Return counts that are given by key: four numbers each."""
        keys = sorted(counts)
        rows = [counts[key] for key in keys]
        return cls(keys, np.array(rows, np.int64).reshape(len(keys), 4))

    @cached_property
    def accesses(self) -> NDArray[np.int64]:
        """Reads and writes together, per key."""
        return self.counts[:, 0] + self.counts[:, 1]

    @property
    def total(self) -> int:
        """Reads and writes together."""
        return int(self.accesses.sum()) if self.keys else 0

    def inside(self, span: Span) -> Counted:
        """Return what lies in a span."""
        low = bisect_left(self.keys, span.start)
        high = len(self.keys) if span.end is None else bisect_left(self.keys, span.end)
        return Counted(self.keys[low:high], self.counts[low:high]) if low < high else NOTHING

    def sums(self, cuts: Sequence[bytes]) -> list[list[int]]:
        """Return the sums of the parts between ascending cuts, one more than there are cuts."""
        places = [0, *(bisect_left(self.keys, cut) for cut in cuts), len(self.keys)]
        upto = np.zeros((len(self.keys) + 1, 4), np.int64)
        np.cumsum(self.counts, axis=0, out=upto[1:])
        parts: list[list[int]] = np.diff(upto[places], axis=0).tolist()
        return parts


NOTHING: Final = Counted.of({})


class _Held:
    """Accesses of one kind that wait to be counted."""

    def __init__(self) -> None:
        self._keys = bytearray()
        self._lengths = array("i")
        self._sizes = array("q")

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def is_full(self) -> bool:
        """Whether it is time to count them."""
        return len(self) >= ACCESSES_HELD_MAX or len(self._keys) >= KEY_BYTES_HELD_MAX

    def add(self, pairs: Sequence[tuple[bytes, int]]) -> None:
        """Append keys and sizes."""
        keys = [key for key, _ in pairs]
        self._keys += b"".join(keys)
        # By way of lists: an array takes those much faster than what it must iterate over.
        self._lengths.fromlist(list(map(len, keys)))
        self._sizes.fromlist([size for _, size in pairs])

    def keys(self) -> pa.BinaryArray:
        """Return the key of each access; not to be added to any more."""
        offsets = np.zeros(len(self) + 1, np.int32)
        np.cumsum(np.frombuffer(self._lengths, np.int32), out=offsets[1:])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self._keys)]
        return pa.Array.from_buffers(pa.binary(), len(self), buffers)

    def sizes(self) -> NDArray[np.int64]:
        """Return the bytes of each access; not to be added to any more."""
        return np.frombuffer(self._sizes, np.int64)


class KeyCounts:
    """Counts accesses by key.

    Args:
        keys_max: Different keys that are counted one by one.
        key_bytes_max: Bytes that they may have together.
        spill: Given each other key with what was just counted of it: reads, writes, read bytes,
            write bytes. Called in `add` and `tally`.
    """

    def __init__(
        self, keys_max: int, key_bytes_max: int, spill: Callable[[bytes, list[int]], None]
    ) -> None:
        self._keys_max = keys_max
        self._key_bytes_max = key_bytes_max
        self._spill = spill
        self._reads, self._writes = _Held(), _Held()
        self._known: pa.BinaryArray = pa.array([], pa.binary())
        self._counts = NOTHING.counts  # one row per known key
        self._key_bytes = 0
        self._full = False

    def __len__(self) -> int:
        """Return how many different keys were counted one by one so far."""
        self.tally()
        return len(self._known)

    def add(self, pairs: Sequence[tuple[bytes, int]], *, write: bool) -> None:
        """Count one access per pair of key and bytes."""
        held = self._writes if write else self._reads
        held.add(pairs)
        if held.is_full:
            self.tally()

    def tally(self) -> None:
        """Count all that was added."""
        reads, writes = self._reads, self._writes
        if not reads and not writes:
            return
        self._reads, self._writes = _Held(), _Held()
        parts = [self._known, *(held.keys() for held in (reads, writes) if held)]
        encoded = pa.concat_arrays(parts).dictionary_encode()
        known, distinct = len(self._known), encoded.dictionary
        # What was known comes first, each key once: its codes are its places.
        codes = encoded.indices.to_numpy()[known:]
        sums = np.zeros((len(distinct), 4), np.int64)
        _count(sums, 0, codes[: len(reads)], reads)
        _count(sums, 1, codes[len(reads) :], writes)
        sums[:known] += self._counts
        end = known + self._admitted(distinct.slice(known))
        self._known, self._counts = distinct.slice(0, end), sums[:end].copy()
        rest = zip(distinct.slice(end).to_pylist(), sums[end:].tolist(), strict=True)
        for key, counts in rest:
            self._spill(key, counts)

    def counted(self) -> Counted:
        """Return all that was counted one by one."""
        self.tally()
        order = pc.array_sort_indices(self._known)
        return Counted(self._known.take(order).to_pylist(), self._counts[order.to_numpy()])

    def keep(self, parts: Sequence[Counted]) -> None:
        """Forget what was counted one by one, except these parts of it."""
        keys = [key for part in parts for key in part.keys]
        self._known = pa.array(keys, pa.binary())
        self._counts = np.concatenate([NOTHING.counts, *(part.counts for part in parts)])
        self._key_bytes = sum(map(len, keys))

    def clear(self) -> None:
        """Start anew."""
        self._reads, self._writes = _Held(), _Held()
        self.keep(())
        self._full = False

    def _admitted(self, new: pa.BinaryArray) -> int:
        """Return how many of the new keys are counted one by one from now on: the first ones."""
        if self._full:
            return 0
        upto = np.cumsum(pc.binary_length(new).to_numpy(), dtype=np.int64)
        fitting = int(np.searchsorted(upto, self._key_bytes_max - self._key_bytes, side="right"))
        count = min(fitting, self._keys_max - len(self._known))
        self._full = count < len(new)
        self._key_bytes += int(upto[count - 1]) if count else 0
        return count


def _count(sums: NDArray[np.int64], op: int, codes: NDArray[np.int32], held: _Held) -> None:
    """Add accesses to the columns of their kind, each in the row of its code."""
    if len(codes):
        sums[:, op] = np.bincount(codes, minlength=len(sums))
        # As floats, exact below 2**53: one call has at most 2 MiB, a pass less than 2**17 calls.
        sums[:, op + 2] = np.bincount(codes, held.sizes(), minlength=len(sums))
