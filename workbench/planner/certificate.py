"""The proof that a plan's numbers are right, in a form that others can check.

A certificate claims optima, each with cuts that reach it and a witness that nothing lower can be
reached. All are about blocks: atoms that no permitted cut parts (`blocks`).

    incremental   recorded load, existing boundaries and isolated keys kept: of an exact plan the
                  least that all splits reach, of a robust one the least for as many as it makes
    optimum       recorded load, the same number of routes, cut wherever the limits permit:
                  what the plan is measured against
    robust        shrunk load, as `incremental` with all splits: what a robust plan minimises, and
                  what it spends further splits on
    phases        (`phase_certificate`) of a plan for cyclic load: the least that all splits reach
                  in the worst phase

Witnesses that a limit of `bottleneck - 1` fails:

    none      the bottleneck is 0
    average   routes · (bottleneck - 1) < total
    atom      the block `index` alone is heavier
    fixed     the segment `index` must not be cut and is heavier
    stops     in each listed segment, the blocks from one stop up to and with the next are
              heavier than the limit, so each stop forces a cut at or before it; together they
              force more cuts than there are
    search    where no route may be lighter than `min_span_load` there is no short witness: the
              verifier searches by itself

`verifier` checks all of it and shares no code with this module. Format: docs/formats/plan.md.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from workbench.planner.partition import Segments, cuts, floor_of, optimum, stops
from workbench.planner.phase_certificate import phase_claim
from workbench.planner.search import Rules, least_limit, places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.planner.atoms import Atoms
    from workbench.planner.blocks import Blocks
    from workbench.planner.decide import Decision
    from workbench.planner.phases import Phases

CERTIFICATE_SCHEMA: Final = "workbench.certificate/2"
# Lines that are put together before they are hashed.
HASHED_AT_ONCE: Final = 4_096


def certificate(
    atoms: Atoms,
    blocks: Blocks,
    decision: Decision,
    routes_after: int,
    phases: Phases | None = None,
) -> dict[str, Any]:
    """Return the proof as JSON values.

    Args:
        atoms: The load.
        blocks: The same by block.
        decision: What was chosen, and from what.
        routes_after: The optimum is for as many routes.
        phases: The load by phase where the cuts are best for the worst of them.
    """
    recorded, prefix = decision.recorded, blocks.segments.prefix
    least = decision.least
    whole = Rules(Segments(prefix, (0, len(blocks.keys))), prefix)
    incremental = _claim(Rules(recorded, prefix, least), decision.compared)
    robust = None
    if decision.choice is not None and decision.weights is not None:
        choice = decision.choice
        robust = {
            **_claim(Rules(decision.weights, prefix, least), decision.splits),
            "fewest": choice.fewest,
            "shared_fewest": choice.shared_fewest,
            "shared_all": choice.shared_all,
            "further": {
                "splits": max(decision.compared - choice.fewest, 0),
                "shared_from": choice.shared_fewest,
                "shared_to": choice.shared if decision.worth else choice.shared_fewest,
                "near": choice.near,
                **({} if choice.end is None else {"end": choice.end}),
            },
        }
    proof = {
        "schema": CERTIFICATE_SCHEMA,
        "atoms": len(atoms.keys),
        "atoms_sha256": atoms_sha256(atoms.keys, atoms.loads),
        "total": recorded.total,
        "blocks": len(blocks.keys),
        "incremental": {**incremental, "fixed": sorted(recorded.fixed)},
        "optimum": _claim(whole, routes_after - 1),
        "robust": robust,
    }
    if phases is not None:
        proof["phases"] = phase_claim(phases, decision.splits)
    return proof


def atoms_sha256(keys: Sequence[bytes], loads: Sequence[int]) -> str:
    """Return SHA-256 over one line `key-hex load` per atom: what the proof is about."""
    digest = hashlib.sha256()
    for at in range(0, len(keys), HASHED_AT_ONCE):
        here = slice(at, at + HASHED_AT_ONCE)
        pairs = zip(keys[here], loads[here], strict=True)
        digest.update("".join([f"{key.hex()} {load}\n" for key, load in pairs]).encode())
    return digest.hexdigest()


def _claim(rules: Rules, splits: int) -> dict[str, Any]:
    segments = rules.segments
    if rules.plain:
        bottleneck = optimum(segments, splits)
        reached = cuts(segments, bottleneck)
        witness = _witness(segments, splits, bottleneck)
    else:
        bottleneck = least_limit(rules, splits)
        reached = places(rules, bottleneck)
        witness = {"kind": "search"}
    return {"splits": splits, "bottleneck": bottleneck, "cuts": reached, "witness": witness}


def _witness(segments: Segments, splits: int, bottleneck: int) -> dict[str, Any]:
    """Return why `bottleneck - 1` cannot be reached with `splits` cuts."""
    limit = bottleneck - 1
    routes = len(segments.bounds) - 1 + splits
    if bottleneck == 0:
        return {"kind": "none"}
    if bottleneck == floor_of(segments, splits):
        if routes * limit < segments.total:
            return {"kind": "average"}
        loads = segments.loads
        heavy = [index for index in sorted(segments.fixed) if loads[index] > limit]
        if heavy:
            return {"kind": "fixed", "index": heavy[0]}
    heavy_atom = segments.first_heavier(limit)
    if heavy_atom is not None:
        return {"kind": "atom", "index": heavy_atom}
    return {"kind": "stops", "segments": _stop_lists(segments, splits, limit)}


def _stop_lists(segments: Segments, splits: int, limit: int) -> list[dict[str, Any]]:
    """Return stops of the segments that together force more than `splits` cuts."""
    listed: list[dict[str, Any]] = []
    forced_cuts = 0
    by_load = sorted(enumerate(segments.loads), key=lambda pair: (-pair[1], pair[0]))
    for index, load in by_load:
        if forced_cuts > splits or load <= limit:
            break
        forced = stops(segments, index, limit)
        assert forced is not None
        forced_cuts += len(forced)
        listed.append({"index": index, "stops": forced})
    assert forced_cuts > splits, "a bottleneck below the optimum was affordable"
    return listed
