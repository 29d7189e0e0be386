"""Exact contiguous partition: the least bottleneck that a number of splits can buy.

Atoms (single keys, or buckets) lie in key order and are cut between, never through. Existing
route boundaries stay, because there is no merge, so the atoms fall into *segments*, one per
route, and a plan distributes at most `splits` cuts over them:

    atoms     │ 3 1 4 │ 1 5 9 2 6 │ 5 3 │        segments: 3
    splits=2  │ 3 1 4 │ 1 5 9│2 6 │ 5│3 │        bottleneck: 15

The least bottleneck is found by parametric search: a *probe* tells greedily how many cuts a
limit needs; the smallest limit that the splits afford is the optimum, by bisection over whole
numbers (chains-on-chains: Pinar and Aykanat 2004, "Fast optimal load balancing algorithms for
1D partitioning", section 3). A probe is O(cuts · log atoms), a search some 60 probes.

A probe that fails at optimum - 1 is the proof that nobody does better; `certificate` writes
it down. This module knows atoms by index only; keys and routes come in with `plan`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from workbench.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

TOTAL_MAX: Final = 2**62
INT64_MAX: Final = 2**63 - 1
# Up to so many numbers a loop is as fast as building an array.
ARRAY_MIN: Final = 256


@dataclass(frozen=True)
class Segments:
    """Atoms grouped by route.

    Attributes:
        prefix: prefix[i] is the load of all atoms before atom i; length atoms + 1.
        bounds: Segment s holds the atoms bounds[s] ≤ i < bounds[s + 1]; ascending, from 0 to
            the number of atoms; a segment may be empty.
        fixed: Segments that must not be cut.
    """

    prefix: Sequence[int]
    bounds: Sequence[int]
    fixed: frozenset[int] = frozenset()

    @property
    def total(self) -> int:
        """Load of all atoms."""
        return self.prefix[-1]

    @cached_property
    def loads(self) -> tuple[int, ...]:
        """Load of each segment."""
        return tuple(self.prefix[high] - self.prefix[low] for low, high in pairwise(self.bounds))

    @property
    def heaviest(self) -> int:
        """Load of the heaviest segment."""
        return self.loads[self.heaviest_first[0]]

    @cached_property
    def heaviest_first(self) -> tuple[int, ...]:
        """Indices of the segments, heaviest first; of equal ones the lowest first."""
        # A reversed sort leaves equal ones in their order too.
        loads = self.loads
        return tuple(sorted(range(len(loads)), key=loads.__getitem__, reverse=True))

    @cached_property
    def heaviest_atom(self) -> int:
        """Load of the heaviest atom; 0 where there is none."""
        if self._atom_loads is not None:
            return int(self._atom_loads.max())
        return max((high - low for low, high in pairwise(self.prefix)), default=0)

    def first_heavier(self, limit: int) -> int | None:
        """Return the first atom that alone is heavier than `limit`; None where none is."""
        if self._atom_loads is not None:
            heavier = self._atom_loads > limit
            return int(heavier.argmax()) if heavier.any() else None
        pairs = enumerate(pairwise(self.prefix))
        return next((index for index, (low, high) in pairs if high - low > limit), None)

    @cached_property
    def _atom_loads(self) -> npt.NDArray[np.int64] | None:
        """Load of each atom; None where they are few, or may not fit 64 bits."""
        if len(self.prefix) <= ARRAY_MIN or self.prefix[-1] > INT64_MAX:
            return None
        prefix = np.array(self.prefix, dtype=np.int64)
        return prefix[1:] - prefix[:-1]


def segments_of(
    loads: Sequence[int], bounds: Sequence[int], fixed: frozenset[int] = frozenset()
) -> Segments:
    """Return segments over atoms with these loads.

    Raises:
        InvalidInput: a load is negative, or the sum does not fit 62 bits.
    """
    worst = min(loads, default=0)
    if worst < 0:
        raise InvalidInput(
            f"an atom has the negative load {worst}",
            code="load_negative",
            hint="loads are counts per window and never negative",
        )
    prefix = list(accumulate(loads, initial=0))
    if prefix[-1] > TOTAL_MAX:
        raise InvalidInput(
            f"the loads sum to {prefix[-1]}, more than 2**62",
            code="load_overflow",
            hint="plan a shorter window, or choose another objective",
        )
    assert bounds[0] == 0
    assert bounds[-1] == len(loads)
    return Segments(prefix, tuple(bounds), fixed)


def stops(segments: Segments, index: int, limit: int, *, lone: bool = False) -> list[int] | None:
    """Probe one segment: cut as late as `limit` allows.

    Args:
        segments: Of all routes.
        index: The segment.
        limit: What no piece may be heavier than.
        lone: An atom that is heavier by itself may stand alone.

    Returns:
        The atoms before which a cut is forced, ascending; None where one atom alone is heavier
        than `limit`, and may not be.
    """
    prefix = segments.prefix
    at, high = segments.bounds[index], segments.bounds[index + 1]
    forced: list[int] = []
    while True:
        reach = bisect_right(prefix, prefix[at] + limit, at, high + 1) - 1
        if reach == at:
            if not lone:
                return None
            reach += 1
        if reach >= high:
            return forced
        forced.append(reach)
        at = reach


def cuts_needed(segments: Segments, limit: int, budget: int) -> int | None:
    """Return how many cuts bring every route to `limit` or below; None where > `budget`."""

    def forced(index: int) -> list[int] | None:
        return None if index in segments.fixed else stops(segments, index, limit)

    return count_cuts(segments, limit, budget, forced)


def count_cuts(
    segments: Segments, limit: int, budget: int, forced: Callable[[int], list[int] | None]
) -> int | None:
    """Return how many cuts the segments heavier than `limit` need; None where > `budget`.

    Args:
        segments: Of all routes.
        limit: What no route may be heavier than.
        budget: The most cuts.
        forced: The fewest cuts of one segment, None where none do.
    """
    needed = 0
    for index in segments.heaviest_first:
        if segments.loads[index] <= limit:
            break
        found = forced(index)
        if found is None:
            return None
        needed += len(found)
        if needed > budget:
            return None
    return needed


def least_fitting(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """Return the least number in [low, high] that fits; what is above one that fits, fits."""
    while low < high:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    return low


def floor_of(segments: Segments, splits: int) -> int:
    """Return a bottleneck below which nothing can fall, before any search.

    It is the largest of the mean over all routes, the heaviest atom, and the heaviest segment
    that must not be cut.
    """
    routes = len(segments.bounds) - 1 + splits
    fixed = max((segments.loads[index] for index in segments.fixed), default=0)
    return max(-(-segments.total // routes), segments.heaviest_atom, fixed)


def optimum(segments: Segments, splits: int) -> int:
    """Return the least bottleneck that at most `splits` cuts reach."""
    high = segments.heaviest
    low = min(floor_of(segments, splits), high)
    return least_fitting(low, high, lambda limit: cuts_needed(segments, limit, splits) is not None)


def cuts(segments: Segments, limit: int) -> list[int]:
    """Return the atoms before which to cut, fewest for `limit`, and as even as that allows.

    Greedy cuts alone would fill route after route to the limit and leave the last nearly
    empty, which the next shift of load punishes. So each cut aims at an even share and yields
    only as far as the limit asks: not below where the rest would need one cut more, not above
    what the route so far can hold.
    """
    chosen: list[int] = []
    for index, load in enumerate(segments.loads):
        if load <= limit:
            continue
        forced = stops(segments, index, limit)
        assert forced is not None
        chosen += even_cuts(segments, index, limit, len(forced))
    return chosen


def even_cuts(segments: Segments, index: int, limit: int, number: int) -> list[int]:
    """Return `number` cuts of a segment that keep every piece at or below `limit`."""
    prefix = segments.prefix
    low, high = segments.bounds[index], segments.bounds[index + 1]
    earliest = _earliest_cuts(segments, index, limit, number)
    total = prefix[high] - prefix[low]
    chosen: list[int] = []
    at = low
    for part, least in enumerate(earliest, start=1):
        goal = prefix[low] + total * part // (number + 1)
        near = bisect_right(prefix, goal, low, high + 1) - 1
        if near + 1 <= high and prefix[near + 1] - goal < goal - prefix[near]:
            near += 1
        furthest = bisect_right(prefix, prefix[at] + limit, at, high + 1) - 1
        at = min(max(near, least, at + 1), furthest, high - (number - part) - 1)
        chosen.append(at)
    return chosen


def _earliest_cuts(segments: Segments, index: int, limit: int, number: int) -> list[int]:
    """Return for each of `number` cuts the first atom from which the rest still fits."""
    prefix = segments.prefix
    low, at = segments.bounds[index], segments.bounds[index + 1]
    earliest: list[int] = []
    for _ in range(number):
        at = max(_first_at_least(prefix, prefix[at] - limit, low, at), low)
        earliest.append(at)
    return earliest[::-1]


def _first_at_least(prefix: Sequence[int], value: int, low: int, high: int) -> int:
    """Return the smallest index in [low, high] whose prefix is at least `value`."""
    return bisect_right(prefix, value - 1, low, high)


def divisible_bound(loads: Sequence[int], splits: int) -> int:
    """Return the least bottleneck if every atom could be cut anywhere, boundaries kept."""
    ordered = sorted(loads, reverse=True)

    def fits(limit: int) -> bool:
        needed = 0 if limit else splits + 1
        for load in ordered:
            if load <= limit or needed > splits:
                break
            needed += -(-load // limit) - 1
        return needed <= splits

    return least_fitting(0, ordered[0], fits)
