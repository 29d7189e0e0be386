"""The proof that a plan's numbers are right, in a form that others can check.

A certificate claims two optima, each with cuts that reach it and a witness that nothing lower
can be reached:

    incremental   existing boundaries kept, at most `splits` cuts: the plan's own bottleneck
    optimum       the same number of routes, cut anywhere: what the plan is measured against

Witnesses that a limit of `bottleneck - 1` fails:

    none      the bottleneck is 0
    average   routes · (bottleneck - 1) < total
    atom      the atom `index` alone is heavier
    fixed     the segment `index` must not be cut and is heavier
    stops     in each listed segment, the atoms from one stop up to and with the next are
              heavier than the limit, so each stop forces a cut at or before it; together they
              force more cuts than there are

`verifier` checks all of it and shares no code with this module. Format: docs/formats/plan.md.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from workbench.planner.partition import Segments, cuts, floor_of, optimum, stops

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CERTIFICATE_SCHEMA: Final = "workbench.certificate/1"


def certificate(
    segments: Segments, keys: Sequence[bytes], splits: int, splits_used: int
) -> dict[str, Any]:
    """Return the proof as JSON values.

    Args:
        segments: The atoms by route.
        keys: First key of each atom.
        splits: How many the planner was allowed.
        splits_used: How many it proposes; the optimum is for as many routes as that leaves.
    """
    loads = [high - low for low, high in pairwise(segments.prefix)]
    whole = Segments(segments.prefix, (0, len(loads)))
    free_cuts = len(segments.bounds) - 2 + splits_used
    return {
        "schema": CERTIFICATE_SCHEMA,
        "atoms": len(loads),
        "atoms_sha256": atoms_sha256(keys, loads),
        "total": segments.total,
        "incremental": {**_claim(segments, splits), "fixed": sorted(segments.fixed)},
        "optimum": _claim(whole, free_cuts),
    }


def atoms_sha256(keys: Iterable[bytes], loads: Iterable[int]) -> str:
    """Return SHA-256 over one line `key-hex load` per atom: what the proof is about."""
    digest = hashlib.sha256()
    for key, load in zip(keys, loads, strict=True):
        digest.update(f"{key.hex()} {load}\n".encode())
    return digest.hexdigest()


def _claim(segments: Segments, splits: int) -> dict[str, Any]:
    bottleneck = optimum(segments, splits)
    return {
        "splits": splits,
        "bottleneck": bottleneck,
        "cuts": cuts(segments, bottleneck),
        "witness": _witness(segments, splits, bottleneck),
    }


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
    for index, (low, high) in enumerate(pairwise(segments.prefix)):
        if high - low > limit:
            return {"kind": "atom", "index": index}
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
