"""Cuts that hold up when load drifts: planned on counts shrunk towards the footprint.

What came once may come again elsewhere: planning exactly for the recorded counts fits their
noise. So each block counts for a mixture of its recorded share and of its share of the keys that
were seen at all, one tenth of the latter:

    shrunk(block) = (d - n) * keys * load + n * total * keys_in_block          n / d = 1 / 10

which is (1 - a) * load / total + a * keys_in_block / keys in whole numbers, so that sums, proofs
and bytes stay exact. docs/adr/0012 has the figures, and what did not help.

How many splits are spent (`choose`), S being the number allowed:

1. B, the least bottleneck that S splits reach, is reached whatever else is done.
2. One key may hold B up, and more splits than the f that B needs then lower nothing of it. They
   lower the *shared* bottleneck: the heaviest route of those that have more than one block. They
   are spent only where with f splits it is above the mean of the routes, so that drift could make
   it the hottest, and where S splits together lower it by `min_gain` against f splits.
3. Never more splits than the shared bottleneck that is reached needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import numpy as np

from workbench.planner.partition import ARRAY_MIN, INT64_MAX, Segments
from workbench.planner.search import Rules, fewest, least_limit, places

if TYPE_CHECKING:
    from collections.abc import Sequence

# a = 1 / 10: of 0, 0.05, 0.1, 0.15, 0.2 and 0.5 the best on each choice of two traces for the
# third; 0.05 to 0.2 differ by 2 %.
SHRINK: Final = (1, 10)
# Further splits end at B over so much. Ending at B / 3 leaves the held-out figures of the three
# traces the same too, for half as many splits more; docs/adr/0012.
ENDS_AT: Final = 2


@dataclass(frozen=True, slots=True)
class Choice:
    """What to cut, and what it reaches by shrunk load.

    Attributes:
        cuts: Blocks before which to cut, ascending.
        bottleneck: The least that the splits reach.
        fewest: How many of them that takes.
        shared_fewest: The least shared bottleneck with as many.
        shared_all: The least shared bottleneck with all splits.
        shared: The shared bottleneck that `cuts` reach.
        near: Whether `shared_fewest` is above the mean of the routes that as many splits leave.
        end: Where further splits end; None where all splits do not come so far, or it is not near.
    """

    cuts: tuple[int, ...]
    bottleneck: int
    fewest: int
    shared_fewest: int
    shared_all: int
    shared: int
    near: bool
    end: int | None = None


def shrunk(segments: Segments, counts: Sequence[int]) -> Segments:
    """Return the segments with shrunk loads.

    Args:
        segments: Recorded loads of blocks, total over 0.
        counts: How many atoms with load each block has.
    """
    n, d = SHRINK
    total, keys = segments.total, sum(counts)
    if len(counts) > ARRAY_MIN and d * keys * total <= INT64_MAX:
        # No part of a sum is above the last one: (d - n) * keys * total + n * total * keys.
        loads = np.array(segments.prefix, dtype=np.int64)
        seen_before = np.concatenate([[0], np.cumsum(np.array(counts, dtype=np.int64))])
        mixed = (d - n) * keys * loads + n * total * seen_before
        return Segments(mixed.tolist(), segments.bounds, segments.fixed)
    seen = list(accumulate(counts, initial=0))
    prefix = [
        (d - n) * keys * load + n * total * count
        for load, count in zip(segments.prefix, seen, strict=True)
    ]
    return Segments(prefix, segments.bounds, segments.fixed)


def choose(
    weights: Segments, recorded: Sequence[int], splits: int, least: int, min_gain: float
) -> Choice:
    """Return the cuts by the rule in the module's head.

    Args:
        weights: Shrunk loads.
        recorded: Prefix sums of the recorded load.
        splits: At most so many.
        least: No route that a cut makes carries less recorded load.
        min_gain: By which fraction further splits must lower the shared bottleneck.
    """
    whole = Rules(weights, recorded, least)
    bottleneck = least_limit(whole, splits)
    enough = fewest(whole, bottleneck, splits)
    assert enough is not None
    shared = Rules(weights, recorded, least, lone=True)
    at_fewest, at_all = least_limit(shared, enough), least_limit(shared, splits)
    near = at_fewest * (len(weights.loads) + enough) > weights.total
    half = -(-bottleneck // ENDS_AT)
    end = half if near and half > at_all else None
    aim = at_all if end is None else end
    gains = near and aim < at_fewest and at_fewest - aim >= min_gain * at_fewest
    reached = aim if gains else at_fewest
    found = tuple(places(shared, reached))
    return Choice(found, bottleneck, enough, at_fewest, at_all, reached, near, end)
