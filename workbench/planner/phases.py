"""Cuts for the worst phase: the least bottleneck that holds in every phase of cyclic load.

Load that goes in circles is never as even as its sum. A range that is hot by day and one that is
hot by night may share a route in the sum and share none in time, or the other way round. So the
weight of a route is its weight in its worst phase:

    weight of blocks [i, j)  =  max over phases p of  prefix[p][j] - prefix[p][i]

A wider route is never lighter, so all that `partition` does with one row of prefix sums holds for
several: to cut as late as a limit allows is to go as far as every phase allows, the fewest cuts
come of it, and bisection over whole numbers finds the least limit.

    day      │ 9 1 1 9 1 1 │      cut for the sum           │ 9 1 1 │ 9 1 1 │   day: 11, night: 18
    night    │ 1 9 9 1 1 1 │      cut for the worst phase   │ 9 1 │ 1 9 1 1 │   day: 12, night: 12

Phases weigh as much as they carried: a quiet night bends no cut of a busy day. Loads are as they
were recorded; that each phase is the sum of its repetitions is what evens out their noise.
docs/adr/0015 has the figures.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from workbench.planner.partition import least_fitting

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Phases:
    """Blocks by segment, with one row of prefix sums per phase.

    Attributes:
        rows: By phase, the weight of all blocks before block i; length blocks + 1 each.
        bounds: As of `partition.Segments`.
        fixed: Segments that must not be cut.
    """

    rows: Sequence[Sequence[int]]
    bounds: Sequence[int]
    fixed: frozenset[int] = frozenset()

    def weight(self, low: int, high: int) -> int:
        """Return the weight of blocks [low, high) in their worst phase."""
        return max(row[high] - row[low] for row in self.rows)

    def heaviest(self, cuts: Sequence[int] = ()) -> int:
        """Return the weight of the heaviest route after these cuts, in its worst phase."""
        edges = sorted([*self.bounds, *cuts])
        return max(self.weight(low, high) for low, high in pairwise(edges))

    def reach(self, at: int, high: int, limit: int) -> int:
        """Return how far a route from block `at` may go: the end furthest up to `high`."""
        for row in self.rows:
            high = bisect_right(row, row[at] + limit, at, high + 1) - 1
        return high

    def earliest(self, low: int, at: int, limit: int) -> int:
        """Return the first block from `low` on from which a route may go to `at`."""
        for row in self.rows:
            low = bisect_left(row, row[at] - limit, low, at)
        return low


def floor_of_phases(phases: Phases, splits: int) -> int:
    """Return a bottleneck below which no phase can fall: its mean, a block, a fixed segment."""
    routes = len(phases.bounds) - 1 + splits
    means = [-(-row[-1] // routes) for row in phases.rows]
    blocks = [max((b - a for a, b in pairwise(row)), default=0) for row in phases.rows]
    fixed = [phases.weight(phases.bounds[i], phases.bounds[i + 1]) for i in phases.fixed]
    return max(*means, *blocks, *fixed, 0)


def forced_cuts(phases: Phases, index: int, limit: int) -> list[int] | None:
    """Return the fewest cuts of a segment, each as late as possible; None where none do."""
    at, high = phases.bounds[index], phases.bounds[index + 1]
    forced: list[int] = []
    while (to := phases.reach(at, high, limit)) < high:
        if to == at or index in phases.fixed:
            return None
        forced.append(to)
        at = to
    return forced


def phase_cuts_needed(phases: Phases, limit: int, budget: int) -> int | None:
    """Return how many cuts bring every route to `limit` in every phase; None where > `budget`."""
    needed = 0
    for index in range(len(phases.bounds) - 1):
        forced = forced_cuts(phases, index, limit)
        if forced is None:
            return None
        needed += len(forced)
        if needed > budget:
            return None
    return needed


def phase_optimum(phases: Phases, splits: int) -> int:
    """Return the least bottleneck of the worst phase that at most `splits` cuts reach."""
    high = phases.heaviest()
    low = min(floor_of_phases(phases, splits), high)
    return least_fitting(
        low, high, lambda limit: phase_cuts_needed(phases, limit, splits) is not None
    )


def phase_cuts(phases: Phases, limit: int) -> list[int]:
    """Return the blocks before which to cut: fewest for `limit`, and as even as that allows.

    Even is meant of the sum of the phases.
    """
    guide = [sum(column) for column in zip(*phases.rows, strict=True)]
    chosen: list[int] = []
    for index in range(len(phases.bounds) - 1):
        forced = forced_cuts(phases, index, limit)
        assert forced is not None
        if forced:
            chosen += _even(phases, guide, index, limit, len(forced))
    return chosen


def _even(phases: Phases, guide: Sequence[int], index: int, limit: int, number: int) -> list[int]:
    """Return `number` cuts of a segment, each as near to an even share as the limit allows."""
    low, high = phases.bounds[index], phases.bounds[index + 1]
    at = high
    firsts: list[int] = []
    for _ in range(number):
        at = phases.earliest(low, at, limit)
        firsts.append(at)
    total = guide[high] - guide[low]
    chosen: list[int] = []
    at = low
    for part, least in enumerate(reversed(firsts), start=1):
        goal = guide[low] + total * part // (number + 1)
        near = bisect_right(guide, goal, low, high + 1) - 1
        if near + 1 <= high and guide[near + 1] - goal < goal - guide[near]:
            near += 1
        furthest = min(phases.reach(at, high, limit), high - (number - part) - 1)
        at = min(max(near, least, at + 1), furthest)
        chosen.append(at)
    return chosen
