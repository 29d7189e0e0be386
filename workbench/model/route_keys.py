"""What is known of the keys of one route in one window, and how parts of it add up.

    leader until 12:00:20: a 10, b 6 ± 1, others ≤ 1 ──┐
    leader from then on:   a 5 ± 2, c 4, others ≤ 2 ───┴▶ a 15 ± 2, b 8 ± 3, c 5 ± 1, others ≤ 3

The true count of a key that is told lies in [count - error, count], that of any other is at most
`untold_max`. Counts and errors add up. A key that one part does not tell may have had there what
that part's `untold_max` says: it becomes count and error alike. Drawn accesses stand side by side,
each with the weight of its part.

Not here: who counts, and windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workbench.model.node import HotKeyCount

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workbench.model.node import KeySample

HOT_KEYS_PER_ROUTE: Final = 8


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the keys of one route.

    Attributes:
        accesses: All of its accesses, told here or not.
        untold_max: No key that is not among `heavy` was accessed more often.
        heavy: Its heaviest keys, heaviest first.
        drawn: Of its accesses.
    """

    accesses: int
    untold_max: int
    heavy: tuple[HotKeyCount, ...] = ()
    drawn: tuple[KeySample, ...] = ()


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Return what is known of a route from what is known of parts of its accesses."""
    if len(parts) == 1:
        return parts[0]
    told = [{each.key: each for each in part.heavy} for part in parts]
    known = []
    for key in sorted(set().union(*told)):
        each = [
            mine.get(key) or HotKeyCount(key, part.untold_max, part.untold_max)
            for mine, part in zip(told, parts, strict=True)
        ]
        known.append(HotKeyCount(key, sum(h.count for h in each), sum(h.error for h in each)))
    return ranked(
        sum(part.accesses for part in parts),
        known,
        sum(part.untold_max for part in parts),
        tuple(drawn for part in parts for drawn in part.drawn),
    )


def ranked(
    accesses: int, known: Iterable[HotKeyCount], floor: int, drawn: tuple[KeySample, ...]
) -> Evidence:
    """Return the keys that are surely heaviest, heaviest first, and what the others can be.

    A key whose count is mostly error is not told: it may be anything.
    """
    order = sorted(known, key=lambda h: (2 * h.error > h.count, h.error - h.count, h.key))
    heavy = [h for h in order[:HOT_KEYS_PER_ROUTE] if 2 * h.error <= h.count]
    untold = max((h.count for h in order[len(heavy) :]), default=0)
    sure = sum(h.count - h.error for h in heavy)
    return Evidence(accesses, min(max(untold, floor), accesses - sure), tuple(heavy), drawn)
