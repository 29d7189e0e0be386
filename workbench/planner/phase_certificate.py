"""The proof that nothing is better in the worst phase of cyclic load; part of a certificate.

The claim has a bottleneck, cuts that reach it in every phase, and a witness that one less cannot be
reached. Each witness holds in the phase that it names, and so for the worst one:

    none      the bottleneck is 0
    average   routes · (bottleneck - 1) < what the phase carried
    atom      the block `index` alone is heavier in that phase
    fixed     the segment `index` must not be cut and is heavier in that phase
    stops     in each listed segment, the blocks from one stop up to and with the next are heavier
              than the limit in some phase, so each stop forces a cut at or before it; together
              they force more cuts than there are
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from workbench.planner.phases import forced_cuts, phase_cuts, phase_optimum

if TYPE_CHECKING:
    from workbench.planner.phases import Phases


def phase_claim(phases: Phases, splits: int) -> dict[str, Any]:
    """Return the claim for at most `splits` cuts, as JSON values."""
    bottleneck = phase_optimum(phases, splits)
    return {
        "splits": splits,
        "bottleneck": bottleneck,
        "cuts": phase_cuts(phases, bottleneck),
        "witness": _witness(phases, splits, bottleneck - 1),
    }


def _witness(phases: Phases, splits: int, limit: int) -> dict[str, Any]:
    """Return why `limit` cannot be reached with `splits` cuts."""
    if limit < 0:
        return {"kind": "none"}
    for phase in range(len(phases.rows)):
        found = _in_one_phase(phases, phase, splits, limit)
        if found is not None:
            return found
    listed: list[dict[str, Any]] = []
    forced = 0
    for index in range(len(phases.bounds) - 1):
        stops = forced_cuts(phases, index, limit)
        assert stops is not None, "a block is heavier than the limit and was not found"
        if stops and forced <= splits:
            forced += len(stops)
            listed.append({"index": index, "stops": stops})
    assert forced > splits, "a bottleneck below the optimum was affordable"
    return {"kind": "stops", "segments": listed}


def _in_one_phase(phases: Phases, phase: int, splits: int, limit: int) -> dict[str, Any] | None:
    """Return the witness that one phase alone gives; None where it gives none."""
    row, bounds = phases.rows[phase], phases.bounds
    if (len(bounds) - 1 + splits) * limit < row[-1]:
        return {"kind": "average", "phase": phase}
    for index, (low, high) in enumerate(pairwise(row)):
        if high - low > limit:
            return {"kind": "atom", "phase": phase, "index": index}
    for index in sorted(phases.fixed):
        if row[bounds[index + 1]] - row[bounds[index]] > limit:
            return {"kind": "fixed", "phase": phase, "index": index}
    return None
