"""The least bottleneck under rules that plain partition does not know.

Two rules, alone or together:

    least   no route that a cut makes carries less than this, in recorded load
    lone    a route of one atom may be heavier than the limit: no cut would make it lighter

Without `least` a probe is greedy, as in `partition`. With it, the number of cuts is no longer
found by going as far as possible (the last route may come out too light), so a probe is dynamic
programming over atoms: the fewest routes that end before atom i, over a window of places to
begin that only moves up (kept in a queue, so a probe is linear).

    limit ──probe──▶ fewest cuts          monotone: a higher limit never needs more of them
          ──bisection over whole numbers──▶ least limit for a number of cuts

Weights and recorded loads may differ: `robust` limits shrunk loads, `least` is recorded load.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workbench.planner.partition import (
    Segments,
    count_cuts,
    even_cuts,
    floor_of,
    least_fitting,
    stops,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


# Up to here every number of splits gets its point on the Pareto front; beyond, doublings do.
PARETO_DENSE_MAX: Final = 32


@dataclass(frozen=True)
class Rules:
    """What a cut must observe.

    Attributes:
        segments: The weights whose heaviest route is to be light.
        recorded: Prefix sums of the recorded load, by atom, for `least`.
        least: No route that a cut makes carries less recorded load; 0 for no such rule.
        lone: Whether a route of one atom, or one that must not be cut, may be heavier than the
            limit.
    """

    segments: Segments
    recorded: Sequence[int]
    least: int = 0
    lone: bool = False

    @property
    def plain(self) -> bool:
        """Whether `partition` alone answers."""
        return not (self.least or self.lone)


def fewest(rules: Rules, limit: int, budget: int) -> int | None:
    """Return how many cuts bring every route to `limit`; None where > `budget`, or none do."""
    return count_cuts(rules.segments, limit, budget, lambda index: _forced(rules, index, limit))


def least_limit(rules: Rules, splits: int) -> int:
    """Return the least limit that at most `splits` cuts reach."""
    segments = rules.segments
    high = segments.heaviest
    low = 0 if rules.lone else min(floor_of(segments, splits), high)
    return least_fitting(low, high, lambda limit: fewest(rules, limit, splits) is not None)


def places(rules: Rules, limit: int) -> list[int]:
    """Return the atoms before which to cut, fewest for `limit`, and even where that is free."""
    chosen: list[int] = []
    for index, load in enumerate(rules.segments.loads):
        if load <= limit:
            continue
        forced = _forced(rules, index, limit)
        assert forced is not None
        if not forced:
            continue
        even = _even(rules, index, limit)
        if len(even) == len(forced) and _heavy_enough(rules, index, even):
            chosen += even
        else:
            chosen += forced
    return chosen


def _forced(rules: Rules, index: int, limit: int) -> list[int] | None:
    """Return the fewest cuts of a segment that is heavier than `limit`; None where none do."""
    segments = rules.segments
    low, high = segments.bounds[index], segments.bounds[index + 1]
    if index in segments.fixed or high - low <= 1:
        return [] if rules.lone else None
    if rules.least:
        return _by_table(rules, low, high, limit)
    return stops(segments, index, limit, lone=rules.lone)


def _by_table(rules: Rules, low: int, high: int, limit: int) -> list[int] | None:
    """Return the fewest cuts of atoms [low, high) by dynamic programming."""
    weights, recorded = rules.segments.prefix, rules.recorded
    never = high - low + 1  # more routes than there are atoms: no way leads here
    routes = [0] + [never] * (high - low)
    came = [low] * (high - low + 1)
    window: deque[int] = deque()  # places to begin, ascending, with ever more routes before them
    begin = low
    for end in range(low + 1, high + 1):
        while begin < end and recorded[end] - recorded[begin] >= rules.least:
            while window and routes[window[-1] - low] >= routes[begin - low]:
                window.pop()
            window.append(begin)
            begin += 1
        while window and weights[end] - weights[window[0]] > limit:
            window.popleft()
        ways = [window[0]] if window else []
        if rules.lone and recorded[end] - recorded[end - 1] >= rules.least:
            ways.append(end - 1)
        if ways:
            best = min(ways, key=lambda way: routes[way - low])
            routes[end - low] = min(routes[best - low] + 1, never)
            came[end - low] = best
    if routes[high - low] == never:
        return None
    found: list[int] = []
    at = came[high - low]
    while at > low:
        found.append(at)
        at = came[at - low]
    return found[::-1]


def _even(rules: Rules, index: int, limit: int) -> list[int]:
    """Return even cuts of a segment: lone atoms by themselves, the rest in equal parts."""
    segments = rules.segments
    low, high = segments.bounds[index], segments.bounds[index + 1]
    prefix = segments.prefix
    edges = {low, high}
    for atom in range(low, high):
        if prefix[atom + 1] - prefix[atom] > limit:
            edges |= {atom, atom + 1}
    bounds = sorted(edges)
    chosen = [edge for edge in bounds if low < edge < high]
    for first, last in pairwise(bounds):
        if prefix[last] - prefix[first] <= limit or last - first == 1:
            continue
        # Bounds of a Segments start at 0; these are asked for one segment only.
        part = Segments(prefix, (first, last))
        forced = stops(part, 0, limit)
        assert forced is not None
        chosen += even_cuts(part, 0, limit, len(forced))
    return sorted(chosen)


def _heavy_enough(rules: Rules, index: int, chosen: Sequence[int]) -> bool:
    """Tell whether every route that the cuts make carries `least`."""
    segments, recorded = rules.segments, rules.recorded
    edges = [segments.bounds[index], *chosen, segments.bounds[index + 1]]
    return all(recorded[high] - recorded[low] >= rules.least for low, high in pairwise(edges))


def can_cut(rules: Rules, index: int) -> bool:
    """Tell whether `least` lets a segment be cut at all."""
    segments, recorded = rules.segments, rules.recorded
    low, high = segments.bounds[index], segments.bounds[index + 1]
    if index in segments.fixed or high - low <= 1:
        return False
    at = max(bisect_left(recorded, recorded[low] + rules.least, low, high), low + 1)
    return at < high and recorded[high] - recorded[at] >= rules.least


def pareto(rules: Rules, splits: int) -> list[tuple[int, int]]:
    """Return (splits, bottleneck) for each number of splits that lowers the bottleneck.

    Every number up to PARETO_DENSE_MAX is tried, beyond that its doublings and `splits`; where
    `least` makes a probe slow, doublings only.
    """
    dense = 1 if rules.least else PARETO_DENSE_MAX
    tried = {*range(min(splits, dense) + 1), splits}
    step = dense * 2
    while step < splits:
        tried.add(step)
        step *= 2
    front: list[tuple[int, int]] = []
    for number in sorted(tried):
        bottleneck = least_limit(rules, number)
        if not front or bottleneck < front[-1][1]:
            front.append((number, bottleneck))
    return front
