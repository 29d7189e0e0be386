"""Which keys of a route are heavy, and a fair draw of its accesses. Pure, drawn from a seed.

    counted one by one: {b"a": 90, b"b": 2} ──┐
    more keys than that: SpaceSaving, 1,024 ──┴▶ Evidence: heaviest keys, each with count and error
    positions 0 … accesses − 1, some drawn ────▶           drawn accesses, each with its weight

- The true count of a told key lies in [count - error, count]. A key that was counted one by one
  has error 0. One of the crowd, which came when no more could be counted so, has the error of
  Space-Saving (Metwally, Agrawal, El Abbadi 2005): at most accesses of the crowd / capacity, as
  long as no key was taken out. It is told only where its count is at most twice what is sure.
- Every access of a route has the same chance to be drawn. What was counted one by one is drawn
  from the counts when the window closes, which costs its accesses nothing; the crowd goes through
  a reservoir with jumps (Li 1994, algorithm L).

Not here: windows, routes, who owns a key; how parts of a window add up (`model.route_keys`).
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from math import exp, log, log1p
from typing import TYPE_CHECKING, Final

import numpy as np

from workbench.model.node import HotKeyCount, KeySample
from workbench.model.route_keys import HOT_KEYS_PER_ROUTE, Evidence, ranked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workbench.model.keys import Span
    from workbench.node.key_counts import Counted

SAMPLES_PER_ROUTE: Final = 16
CROWD_KEYS_MAX: Final = 1_024
_MASK: Final = 2**64 - 1
_STEP: Final = 0x9E3779B97F4A7C15
_BELOW_ONE: Final = 1 - 2**-53


class Draws:
    """Numbers that look random and follow from a seed alone (splitmix64)."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1, which is at most 2**63."""
        assert 0 < bound <= 2**63, bound
        return self._next() * bound >> 64

    def fraction(self) -> float:
        """Return a number strictly between 0 and 1."""
        return ((self._next() >> 12) + 0.5) / 2**52

    def distinct(self, count: int, bound: int) -> set[int]:
        """Return `count` different numbers below `bound`; each such set is as likely."""
        assert count <= bound, (count, bound)
        found: set[int] = set()
        for top in range(bound - count, bound):
            number = self.below(top + 1)
            found.add(top if number in found else number)
        return found

    def _next(self) -> int:
        self._state = mixed = (self._state + _STEP) & _MASK
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & _MASK
        return mixed ^ (mixed >> 31)


class SpaceSaving:
    """The heaviest of more keys than can be held.

    Invariant: for a key that is held, its true count lies in [count - error, count]; for any
    other it is at most `floor`.

    Args:
        capacity: Keys that are held, from 1.
    """

    def __init__(self, capacity: int) -> None:
        assert capacity >= 1, capacity
        self._capacity = capacity
        self._held: dict[bytes, list[int]] = {}  # count, error
        # A count as it was when it was pushed: never above the present one.
        self._heap: list[tuple[int, bytes]] = []
        self.floor = 0

    def add(self, key: bytes, times: int = 1) -> None:
        """Count accesses, from 1."""
        held = self._held.get(key)
        if held is not None:
            held[0] += times
            return
        if len(self._held) == self._capacity:
            self._give_up_least()
        self._held[key] = [self.floor + times, self.floor]
        heappush(self._heap, (self.floor + times, key))

    def take(self, span: Span) -> list[HotKeyCount]:
        """Return the keys that lie in a span, and hold them no more."""
        taken = [HotKeyCount(key, *self._held[key]) for key in self._held if key in span]
        for each in taken:
            del self._held[each.key]
        self._heap = [(held[0], key) for key, held in self._held.items()]
        heapify(self._heap)
        return taken

    def keys(self) -> list[HotKeyCount]:
        """Return all keys that are held."""
        return [HotKeyCount(key, count, error) for key, (count, error) in self._held.items()]

    def _give_up_least(self) -> None:
        while True:
            count, key = self._heap[0]
            now = self._held[key][0]
            if now == count:
                break
            heapreplace(self._heap, (now, key))
        heappop(self._heap)
        del self._held[key]
        self.floor = max(self.floor, count)


class Reservoir:
    """A fair draw of accesses that come one by one; most of them cost one comparison.

    Args:
        size: How many are kept, from 1.
        draws: Where chance comes from.
    """

    def __init__(self, size: int, draws: Draws) -> None:
        self._size = size
        self._draws = draws
        self.seen = 0
        self.held: list[tuple[bytes, bool]] = []
        self._next = 0
        self._least = 1.0

    def offer(self, key: bytes, *, write: bool, times: int = 1) -> None:
        """Let accesses take part, one after the other."""
        end = self.seen + times
        while self.seen < end and len(self.held) < self._size:
            self.seen += 1
            self.held.append((key, write))
            if len(self.held) == self._size:
                self._jump()
        while self.seen < self._next <= end:
            self.seen = self._next
            self.held[self._draws.below(self._size)] = key, write
            self._jump()
        self.seen = end

    def _jump(self) -> None:
        """Choose which access comes in next."""
        self._least *= exp(log(self._draws.fraction()) / self._size)
        self._least = min(self._least, _BELOW_ONE)
        self._next = self.seen + 1 + int(log(self._draws.fraction()) / log1p(-self._least))


def evidence_of(
    counted: Counted,
    draws: Draws,
    *,
    crowd: Iterable[HotKeyCount] = (),
    floor: int = 0,
    reservoir: Reservoir | None = None,
) -> Evidence:
    """Return what is known of a route's keys.

    Args:
        counted: Keys that were counted one by one.
        draws: Where chance comes from.
        crowd: Other keys.
        floor: How often a key was accessed at most that is neither.
        reservoir: Of all accesses of other keys, of SAMPLES_PER_ROUTE; None for none.
    """
    totals = counted.accesses
    # Of equal ones the last keys. One more than is told: the heaviest that is not.
    most = np.argsort(totals, kind="stable")[-HOT_KEYS_PER_ROUTE - 1 :].tolist()
    known = [HotKeyCount(counted.keys[i], int(totals[i]), 0) for i in reversed(most)]
    known += crowd
    single = counted.total
    accesses = single + (reservoir.seen if reservoir else 0)
    if not accesses:
        return Evidence(0, 0)
    size = min(SAMPLES_PER_ROUTE, accesses)
    places = sorted(draws.distinct(size, accesses))
    chosen = _at_places([place for place in places if place < single], counted)
    if reservoir is not None and len(chosen) < size:
        which = draws.distinct(size - len(chosen), len(reservoir.held))
        chosen += [reservoir.held[place] for place in sorted(which)]
    weight = accesses / size
    drawn = tuple(KeySample(key, write, weight) for key, write in chosen)
    return ranked(accesses, known, floor if reservoir else 0, drawn)


def _at_places(places: Sequence[int], counted: Counted) -> list[tuple[bytes, bool]]:
    """Return the accesses at these places, where each key's reads come before its writes."""
    upto = np.cumsum(counted.accesses)
    chosen = []
    for place, i in zip(places, np.searchsorted(upto, places, side="right").tolist(), strict=True):
        writes_from = int(upto[i]) - int(counted.counts[i, 1])
        chosen.append((counted.keys[i], place >= writes_from))
    return chosen
