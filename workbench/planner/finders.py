"""Finders: where other systems would cut one hot route. Re-implementations of published rules.

A finder sees one route's atoms in key order and answers with the atom before which to cut, or
refuses with None. It looks at the route alone; which route is split next, and when to stop, is
`policies`' part.

    atoms       low │ 3  1  4 │ 1  5  9  2  6 │ high        both sides hold load,
    cut = 3               ▲ before atom 3                    or the finder refuses

Nothing here is anybody's code, and nothing is their system: thresholds of load that start a
split, cooldowns, sizes, moves and merges are left out, and a counter sees the route's whole load
where the original sees a part of it. docs/policies.md says for each rule what that means.

Shares are compared in whole numbers, so no rounding decides a tie.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ELASTICKV_BUCKETS: Final = 16
PD_BUCKETS: Final = 16
SAMPLE_KEYS: Final = 20
SAMPLES_MAX: Final = 5
COCKROACHDB_COUNTS_MIN: Final = 100
# |L - R| / (L + R) must be below numerator / denominator.
COCKROACHDB_BALANCE: Final = (1, 4)
TIKV_BALANCE: Final = (4, 5)


@dataclass(frozen=True, slots=True)
class RouteView:
    """One route as a finder sees it.

    Attributes:
        keys: First key of every atom, of all routes.
        prefix: prefix[i] is the load of all atoms before atom i.
        low: The route's first atom.
        high: The atom behind its last; low < high, and the route has load.
    """

    keys: Sequence[bytes]
    prefix: Sequence[int]
    low: int
    high: int

    @property
    def load(self) -> int:
        """Load of the route."""
        return self.prefix[self.high] - self.prefix[self.low]

    @property
    def first(self) -> int:
        """The first atom that has load."""
        return bisect_right(self.prefix, self.prefix[self.low], self.low, self.high + 1) - 1

    @property
    def last(self) -> int:
        """The last atom that has load."""
        return bisect_left(self.prefix, self.prefix[self.high], self.low, self.high + 1) - 1

    def below(self, atom: int) -> int:
        """Return the load of the route's atoms before `atom`."""
        return self.prefix[atom] - self.prefix[self.low]

    def reaching(self, load: int) -> int:
        """Return the atom with which the running load reaches `load`, from 1 up to the whole."""
        return bisect_left(self.prefix, self.prefix[self.low] + load, self.low, self.high + 1) - 1


class Draws:
    """Whole numbers from a seed: the raw bits of PCG64, which NumPy promises to keep."""

    def __init__(self, *entropy: int) -> None:
        self._bits = np.random.PCG64(entropy)

    def below(self, limit: int) -> int:
        """Return a number from 0 up to `limit`, at most 2**62; uneven by less than 2**-64."""
        raw = (int(self._bits.random_raw()) << 64) | int(self._bits.random_raw())
        return (raw * limit) >> 128

    def distinct(self, count: int, limit: int) -> list[int]:
        """Return `count` different numbers below `limit`, ascending; all where there are fewer.

        Every set of them is equally likely (Floyd's method, one draw per number).
        """
        chosen: set[int] = set()
        for top in range(max(limit - count, 0), limit):
            drawn = self.below(top + 1)
            chosen.add(top if drawn in chosen else drawn)
        return sorted(chosen)


Finder: TypeAlias = "Callable[[RouteView, Draws], int | None]"


def elastickv_cut(route: RouteView, _draws: Draws) -> int | None:
    """Cut at the end of the first of 16 buckets in which the running share reaches half.

    The buckets are even by key-space position between the smallest and the largest key that has
    load; where it is the last bucket, the cut is at its start. Refuses where both have one place.
    """
    first, last = route.first, route.last
    marks = even_positions(route.keys[first], route.keys[last], ELASTICKV_BUCKETS)
    ends = [bisect_left(route.keys, mark, first, last + 1) for mark in marks]
    half = -(-route.load // 2)
    bucket = next((i for i, end in enumerate(ends) if route.below(end) >= half), len(ends) - 1)
    # One place for all keys puts every mark at the first of them.
    return ends[bucket] if first < ends[bucket] <= last else None


def even_positions(smallest: bytes, largest: bytes, parts: int) -> list[bytes]:
    r"""Return the least keys at or above each inner bound of `parts` even parts of a key range.

    A key's position is its big-endian fraction behind the common prefix: `a`, `a\0` and `a\0\0`
    have one position. Exact: 256 parts are one more byte, so a bound of 16 parts is a key itself.
    """
    assert 256 % parts == 0
    shared = next(
        (i for i, (a, b) in enumerate(zip(smallest, largest, strict=False)) if a != b),
        min(len(smallest), len(largest)),
    )
    prefix, width = smallest[:shared], max(len(smallest), len(largest)) - shared
    low, high = (
        int.from_bytes(key[shared:].ljust(width, b"\0"), "big") for key in (smallest, largest)
    )
    bounds = [(low * parts + (high - low) * part) * (256 // parts) for part in range(1, parts)]
    # Trailing zeros do not change a position, and without them the bound is the least such key.
    return [prefix + bound.to_bytes(width + 1, "big").rstrip(b"\0") for bound in bounds]


def pd_cut(route: RouteView, _draws: Draws) -> int | None:
    """Cut at the start of the bucket in which the running load reaches half.

    A region's buckets divide it by size; keys stand for size here, so the up to 16 buckets hold
    equally many atoms. Where it is the first bucket, its end is the only bound left.
    """
    first, atoms = route.first, route.last + 1 - route.first
    buckets = min(PD_BUCKETS, atoms)
    if buckets < 2:
        return None
    edges = [first + atoms * bucket // buckets for bucket in range(buckets + 1)]
    middle = route.reaching(-(-route.load // 2))
    start, end = next((low, high) for low, high in pairwise(edges) if low <= middle < high)
    return start if start > first else end


def cockroachdb_cut(route: RouteView, draws: Draws) -> int | None:
    """Cut at the best balanced of 20 sampled keys, if |L - R| / (L + R) < 0.25.

    Refuses below 100 counts, and where five samples in a row have no such key.
    """
    if route.load < COCKROACHDB_COUNTS_MIN:
        return None
    return _best_sampled(route, draws, COCKROACHDB_BALANCE)


def tikv_cut(route: RouteView, draws: Draws) -> int | None:
    """Cut at the best balanced of at most 20 sampled keys, if |L - R| / (L + R) < 0.8.

    The second condition, contained < 0.5, is about ranges that span the key. Accesses here are
    to points, none spans anything, contained is 0, and the condition always holds.
    """
    return _best_sampled(route, draws, TIKV_BALANCE)


def median_cut(route: RouteView, _draws: Draws) -> int | None:
    """Cut where the heavier side is lightest; refuses where one atom has all load."""
    if route.first == route.last:
        return None
    middle = route.reaching(-(-route.load // 2))
    return min(
        (at for at in (middle, middle + 1) if 0 < route.below(at) < route.load),
        key=lambda at: max(route.below(at), route.load - route.below(at)),
    )


def _best_sampled(route: RouteView, draws: Draws, balance: tuple[int, int]) -> int | None:
    """Return the best balanced of the sampled atoms, the lowest of equals; None below the limit.

    Every unit of load is equally likely to be in the sample, as every access is in a reservoir.
    A route that stays hot is sampled again, so an unlucky sample alone refuses nothing.
    """
    numerator, denominator = balance
    for _ in range(SAMPLES_MAX):
        sampled = draws.distinct(SAMPLE_KEYS, route.load)
        atoms = {route.reaching(position + 1) for position in sampled}
        apart, best = min((abs(2 * route.below(atom) - route.load), atom) for atom in atoms)
        if apart * denominator < numerator * route.load:
            return best
    return None
