"""One key that no split makes lighter, where load is told by bucket and some keys by themselves.

    bucket   │ a … k … z │   A accesses, load L          told of k: count c, error e
                             least load of k: what c - e of the A accesses weigh at the least
                             most:            L

A source that counts by bucket may tell its heaviest keys too (`hot_key`): the true count lies in
[c - e, c]. What they weigh is known between bounds: of A accesses with load L so many were reads
and so many writes, and of those of k as many as can be were of the lighter kind. In a bucket of
its own a key's load is exact.

A key is told of where it alone carries what all splits that are permitted could reach, or so much
of it that to be rid of the rest would not bring `min_gain`: then the key is the bottleneck, and no
evidence, however fine, shows a cut that helps. Evidence only: what the plan does and proves rests
on buckets alone, and no key is cut out by what is told here.

Not here: counts that were sampled, which bound nothing; objectives that count bytes or CPU, of
which nothing is told per key; single keys as evidence (`isolation`).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workbench.model.keys import printable_key
from workbench.model.plan_parts import Finding
from workbench.planner.words import share_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workbench.model.plan import Limits, Objective
    from workbench.planner.atoms import Atoms


@dataclass(frozen=True, slots=True)
class ToldKeys:
    """What a source tells of single keys beside its buckets.

    Attributes:
        keys: Key, count and error of each; accesses in the plan's window, every one looked at.
        accesses: Reads and writes of each atom that holds one, by its first key; None where they
            were not measured.
    """

    keys: Sequence[tuple[bytes, int, int]] = ()
    accesses: Mapping[bytes, int | None] = field(default_factory=dict)


def heavy_findings(  # noqa: PLR0913 - the question's own parts, named
    told: ToldKeys,
    atoms: Atoms,
    objective: Objective,
    *,
    reachable: int,
    total: int,
    min_gain: float,
) -> tuple[Finding, ...]:
    """Return what is to be said of keys that are the bottleneck, heaviest first.

    Args:
        told: Of single keys.
        atoms: The load, by bucket.
        objective: What `atoms` counts.
        reachable: The least bottleneck of as many splits as are permitted.
        total: Load of all routes.
        min_gain: By which fraction a bottleneck must fall to be worth a split.
    """
    found: list[tuple[int, bytes, int, int]] = []
    for key, count, error in told.keys:
        at = bisect_right(atoms.keys, key) - 1
        accesses = told.accesses.get(atoms.keys[at]) if at >= 0 else None
        sure = count - error
        # More than its bucket has: told of other accesses than those that are planned on.
        if accesses is None or not 0 < sure <= accesses:
            continue
        least = _least(sure, accesses, atoms.loads[at], objective)
        if reachable - least < min_gain * reachable:
            found.append((-least, key, sure, atoms.loads[at]))
    return tuple(
        Finding("hot_key", _sentence(key, sure, (-negated, most), total))
        for negated, key, sure, most in sorted(found)
    )


def least_worth_telling(total: int | None, routes: int, limits: Limits) -> float:
    """Return what a key carries at the least that is told of.

    Args:
        total: Load of all routes; None where there is none.
        routes: How many there are before the plan.
        limits: What the planner may do.
    """
    return (1 - limits.min_gain) * (total or 0) / (routes + limits.max_splits)


def weighs_accesses(objective: Objective) -> bool:
    """Tell whether an objective counts reads and writes, and nothing else."""
    return not objective.byte_weight and not objective.cpu_weight


def _least(sure: int, accesses: int, load: int, objective: Objective) -> int:
    """Return what `sure` of so many accesses with this load weigh at the least."""
    light, heavy = sorted((objective.read_weight, objective.write_weight))
    if light == heavy:
        return sure * light
    heavies = (load - light * accesses) // (heavy - light)
    lights = accesses - heavies
    return min(sure, lights) * light + max(0, sure - lights) * heavy


def _sentence(key: bytes, sure: int, load: tuple[int, int], total: int) -> str:
    least, most = load
    share = share_text(least, total)
    if least == most:
        known = f"{share} of the load ({sure:,} accesses, nothing else in its bucket)"
    else:
        known = (
            f"at least {share} of the load ({sure:,} accesses or more; its bucket carries "
            f"{share_text(most, total)})"
        )
    return (
        f"key {printable_key(key)} alone carries {known}: no split makes its route lighter than "
        "that, and no finer evidence shows one. What helps is in the application: spread it over "
        "several keys, or keep its reads in a cache"
    )
