"""What to cut: the policy's choice around what is isolated, and whether it is worth it.

    blocks ──isolate──▶ boundaries that come first ──policy──▶ cuts ──min_gain──▶ Decision

`exact`   the least bottleneck on the recorded load, with no more splits than it takes
`robust`  the same on load shrunk towards the footprint, and further splits where drift could make
          another route the hottest

Either proposes nothing but isolation where the heaviest route does not fall by `min_gain` on the
recorded load.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidArgument
from workbench.planner.partition import Segments
from workbench.planner.robust import Choice, choose, shrunk
from workbench.planner.search import Rules, least_limit, places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.plan import Limits
    from workbench.planner.blocks import Blocks
    from workbench.planner.isolation import Isolation

EXACT: Final = "exact"
ROBUST: Final = "robust"
PLAN_POLICIES: Final = (ROBUST, EXACT)


@dataclass(frozen=True)
class Decision:
    """What is cut, and what it was chosen from.

    Attributes:
        isolation: Keys that get a route of their own.
        recorded: Recorded loads by block; the isolation's cuts are boundaries.
        weights: Shrunk loads in the same segments; None for `exact`.
        least: No route that a cut makes carries less.
        splits: How many splits are left after isolation.
        choice: What `robust` chose; None for `exact`.
        reached: Heaviest route on the recorded load with all that the policy would cut.
        worth: Whether that is enough of a gain.
        cuts: Blocks before which to cut, isolation included, ascending.
        made: How many splits drift made it, isolation left out; None where it changed nothing.
    """

    isolation: Isolation
    recorded: Segments
    weights: Segments | None
    least: int
    splits: int
    choice: Choice | None
    reached: int
    worth: bool
    cuts: tuple[int, ...]
    made: int | None = None

    @property
    def compared(self) -> int:
        """For how many splits the least bottleneck on the recorded load is told."""
        if self.made is not None:
            return self.made
        return self.splits if self.choice is None else len(self.cuts) - len(self.isolation.cuts)


def decide_cuts(
    policy: str, blocks: Blocks, limits: Limits, isolation: Isolation, splits: int
) -> Decision:
    """Return what `policy` cuts.

    Args:
        policy: `robust` or `exact`.
        blocks: The load; total over 0.
        limits: What the planner may do.
        isolation: Keys to isolate, whose cuts are among `splits`.
        splits: How many there may be in all.

    Raises:
        InvalidArgument: `policy_unknown`.
    """
    left = splits - len(isolation.cuts)
    recorded = with_bounds(blocks.segments, isolation.cuts)
    least = limits.min_span_load
    choice: Choice | None = None
    weights: Segments | None = None
    if policy == EXACT:
        rules = Rules(recorded, recorded.prefix, least)
        found: Sequence[int] = places(rules, least_limit(rules, left))
    elif policy == ROBUST:
        weights = with_bounds(shrunk(blocks.segments, blocks.counts), isolation.cuts)
        choice = choose(weights, recorded.prefix, left, least, limits.min_gain)
        found = choice.cuts
    else:
        raise InvalidArgument(
            f"there is no planning policy {policy!r}",
            code="policy_unknown",
            hint=f"known are {', '.join(PLAN_POLICIES)}",
        )
    reached = heaviest(recorded, found)
    before = max(blocks.segments.loads)
    worth = reached < before and before - reached >= limits.min_gain * before
    cuts = tuple(sorted([*isolation.cuts, *(found if worth else ())]))
    return Decision(isolation, recorded, weights, least, left, choice, reached, worth, cuts)


def with_bounds(segments: Segments, cuts: Sequence[int]) -> Segments:
    """Return the segments with further boundaries, all inside segments that may be cut."""
    if not cuts:
        return segments
    bounds = sorted([*segments.bounds, *cuts])
    fixed = frozenset(index + bisect_left(cuts, segments.bounds[index]) for index in segments.fixed)
    return Segments(segments.prefix, tuple(bounds), fixed)


def heaviest(segments: Segments, cuts: Sequence[int]) -> int:
    """Return the load of the heaviest route after these cuts."""
    prefix = segments.prefix
    edges = sorted([*segments.bounds, *cuts])
    return max(prefix[high] - prefix[low] for low, high in pairwise(edges))
