"""The verifier's own reading of limits, shrunk loads and probes; shares no code with the planner.

Where the planner bisects and cuts as late as it can, this walks block by block; where it keeps a
table of the fewest routes, this keeps the set of places at which the n-th route can end.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from heapq import heapify, heapreplace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Every number of splits up to this one, and its doublings: docs/formats/plan.md.
TRIED_DENSE: Final = 32


class KeyLimits:
    """Where the limits of a plan document permit a cut."""

    def __init__(self, limits: Mapping[str, Any]) -> None:
        self.forbidden = [
            (bytes.fromhex(span["start"]), None if span["end"] is None else span["end"])
            for span in limits["forbidden"]
        ]
        boundaries = limits["boundaries"]
        self.prefix_bytes = None if boundaries is None else boundaries["prefix_bytes"]
        self.listed: list[bytes] | None = None
        if boundaries is not None and self.prefix_bytes is None:
            self.listed = sorted(bytes.fromhex(key) for key in boundaries["keys"])

    def permit(self, key: bytes) -> bool:
        """Tell whether a cut may be at `key`."""
        for start, end in self.forbidden:
            if start <= key and (end is None or key < bytes.fromhex(end)):
                return False
        if self.prefix_bytes is not None:
            return bool(len(key) <= self.prefix_bytes)
        if self.listed is None:
            return True
        at = bisect_left(self.listed, key)
        return at < len(self.listed) and self.listed[at] == key

    def part(self, below: bytes, above: bytes, kind: str) -> bool:
        """Tell whether a cut is possible between two neighbouring atoms."""
        if kind == "key" and self.prefix_bytes is not None:
            candidate = above[: self.prefix_bytes]
            return candidate > below and self.permit(candidate)
        if kind == "key" and self.listed is not None:
            low, high = bisect_right(self.listed, below), bisect_right(self.listed, above)
            return any(self.permit(key) for key in self.listed[low:high])
        return self.permit(above)


def block_firsts(
    keys: Sequence[bytes], kind: str, ranges: Sequence[tuple[int, int]], limits: KeyLimits
) -> list[int]:
    """Return the index of the first atom of each block, by docs/formats/plan.md.

    Args:
        keys: Of the atoms, ascending.
        kind: `key` or `bucket`.
        ranges: Atoms of each route, as [low, high).
        limits: Of the plan document.
    """
    return [
        index
        for low, high in ranges
        for index in range(low, high)
        if index == low or limits.part(keys[index - 1], keys[index], kind)
    ]


def shrunk_sums(
    sums: Sequence[int], loads: Sequence[int], firsts: Sequence[int], shrink: Sequence[int]
) -> list[int]:
    """Return prefix sums of shrunk loads by block.

    Args:
        sums: Prefix sums of the recorded load by block.
        loads: Recorded load by atom.
        firsts: First atom of each block.
        shrink: n and d of the footprint's share.
    """
    part, whole = shrink
    edges = [*firsts, len(loads)]
    seen = [sum(1 for load in loads[a:b] if load) for a, b in pairwise(edges)]
    keys, total = sum(seen), sums[-1]
    counted = list(accumulate(seen, initial=0))
    return [
        (whole - part) * keys * load + part * total * count
        for load, count in zip(sums, counted, strict=True)
    ]


def finest(loads: Sequence[int], splits: int) -> int:
    """Return the least bottleneck that so many splits could reach if load could be cut anywhere."""
    heap = [(-Fraction(load), load, 1) for load in loads]
    heapify(heap)
    for _ in range(splits):
        # Whoever is heaviest per part gets the next one.
        _, load, parts = heap[0]
        heapreplace(heap, (-Fraction(load, parts + 1), load, parts + 1))
    return max(-(-load // parts) for _, load, parts in heap)


def pareto_tried(allowed: int, *, is_slow: bool) -> list[int]:
    """Return for which numbers of splits a front tells the least: docs/formats/plan.md."""
    dense = 1 if is_slow else TRIED_DENSE
    tried = {*range(min(allowed, dense) + 1), allowed}
    step = 2 * dense
    while step < allowed:
        tried.add(step)
        step *= 2
    return sorted(each for each in tried if each >= 0)


@dataclass(frozen=True)
class Ground:
    """What cuts are made in.

    Attributes:
        sums: Prefix sums by block of what is limited.
        recorded: Prefix sums by block of the recorded load.
        bounds: Blocks at which segments begin, and their number at the end.
        fixed: Segments that must not be cut.
        least: Recorded load that a new route must carry.
    """

    sums: Sequence[int]
    recorded: Sequence[int]
    bounds: Sequence[int]
    fixed: frozenset[int]
    least: int

    def cuts_needed(self, limit: int, *, lone: bool, most: int) -> int | None:
        """Return how many cuts bring every route to `limit`; None where more than `most`.

        Args:
            limit: For each route.
            lone: Whether a route of one block, or a fixed one, may be heavier.
            most: Where to stop looking.
        """
        needed = 0
        for index in range(len(self.bounds) - 1):
            low, high = self.bounds[index], self.bounds[index + 1]
            if self.sums[high] - self.sums[low] <= limit:
                continue
            if index in self.fixed or high - low == 1:
                if not lone:
                    return None
                continue
            found = (
                self._layers(low, high, limit, lone=lone, most=most - needed)
                if self.least
                else self._greedy(low, high, limit, lone=lone)
            )
            if found is None or needed + found > most:
                return None
            needed += found
        return needed

    def _greedy(self, low: int, high: int, limit: int, *, lone: bool) -> int | None:
        cuts, begin = 0, low
        for block in range(low, high):
            if not lone and self.sums[block + 1] - self.sums[block] > limit:
                return None
            if block > begin and self.sums[block + 1] - self.sums[begin] > limit:
                cuts, begin = cuts + 1, block
        return cuts

    def _layers(self, low: int, high: int, limit: int, *, lone: bool, most: int) -> int | None:
        ends = {low}
        for cuts in range(most + 1):
            within = list(accumulate((at in ends for at in range(low, high + 1)), initial=0))
            reached = set()
            first = last = low  # places to begin, [first, last)
            for end in range(low + 1, high + 1):
                while last < end and self.recorded[end] - self.recorded[last] >= self.least:
                    last += 1
                while first < last and self.sums[end] - self.sums[first] > limit:
                    first += 1
                alone = lone and end - 1 in ends and last == end
                if within[last - low] > within[first - low] or alone:
                    reached.add(end)
            if high in reached:
                return cuts
            ends = reached
        return None

    def is_least(self, limit: int, splits: int, *, lone: bool) -> bool:
        """Tell whether `splits` cuts reach `limit` and nothing lower."""
        if self.cuts_needed(limit, lone=lone, most=splits) is None:
            return False
        return limit == 0 or self.cuts_needed(limit - 1, lone=lone, most=splits) is None
