"""Claims about the proof: the independent verifier accepts every plan, and no false claim."""

from __future__ import annotations

import copy
import json
import random
from datetime import UTC, datetime
from itertools import combinations, pairwise
from typing import Any

import pytest

from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, EvidenceQuery, Limits, Plan, plan_to_json
from workbench.model.routes import RouteDescriptor, RouteSnapshot, seed_routes
from workbench.planner.plan import Atoms, PlanInput, make_plan
from workbench.planner.verifier import verify

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = datetime(2026, 1, 1, 1, tzinfo=UTC)


def key(number: int) -> bytes:
    return b"k%04d" % number


def plan_of(
    loads: list[int], bounds: list[int], splits: int, *, min_gain: float = 0.0
) -> tuple[Plan, list[bytes]]:
    keys = [key(number) for number in range(len(loads))]
    routes = seed_routes([keys[bound] for bound in bounds])
    plan = make_plan(
        PlanInput(
            cluster="c",
            snapshot=RouteSnapshot(7, routes, T0),
            atoms=Atoms(keys, loads, "key"),
            objective=OBJECTIVES["score"],
            since=T0,
            until=T1,
            limits=Limits(splits, min_gain),
            hot_routes=frozenset(),
            evidence=EvidenceQuery("atoms", "c/access", {}, "SELECT"),
        )
    )
    return plan, keys


def random_case(rng: random.Random) -> tuple[list[int], list[int], int]:
    count = rng.randint(1, 12)
    loads = [rng.choice([0, 1, 1, 2, 3, 5, 8, 13, 60]) for _ in range(count)]
    loads[rng.randrange(count)] += 1  # a plan needs some load
    bounds = sorted(rng.sample(range(1, count), rng.randint(0, min(2, count - 1))))
    return loads, bounds, rng.randint(0, 4)


def least_bottleneck(loads: list[int], bounds: list[int], cuts: int) -> int:
    """The least bottleneck by trying everything."""
    sums = [0]
    for load in loads:
        sums.append(sums[-1] + load)
    edges = {0, *bounds, len(loads)}
    places = [place for place in range(1, len(loads)) if place not in edges]
    return min(
        max(sums[b] - sums[a] for a, b in pairwise(sorted(edges | set(chosen))))
        for number in range(min(cuts, len(places)) + 1)
        for chosen in combinations(places, number)
    )


def test_certificate_equals_brute_force_on_10000_random_cases() -> None:
    rng = random.Random(20_260_101)
    for _ in range(10_000):
        loads, bounds, splits = random_case(rng)
        plan, keys = plan_of(loads, bounds, splits)
        proof = plan.certificate
        assert proof["incremental"]["bottleneck"] == least_bottleneck(loads, bounds, splits)
        free_cuts = len(plan.routes_after) - 1
        assert proof["optimum"]["bottleneck"] == least_bottleneck(loads, [], free_cuts)
        assert verify(plan_to_json(plan), keys, loads) == []


def number_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every number in the parts of a plan that make claims."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, str):
        return []
    return [found for name, each in items for found in number_paths(each, (*path, name))]


CLAIMS = (
    "bottleneck",
    "forecast",
    "unsplittable",
    "actions",
    "routes_before",
    "routes_after",
    "certificate",
)
# Moving these keeps every claim true or makes a weaker one, which brute force decides below.
EVIDENCE_ONLY = {"stops", "index", "group", "route_id", "rows_moved", "bytes_moved"}


def test_the_verifier_rejects_10000_mutations_that_make_a_claim_false() -> None:
    rng = random.Random(4_711)
    rejected = 0
    while rejected < 10_000:
        loads, bounds, splits = random_case(rng)
        plan, keys = plan_of(loads, bounds, splits)
        document = json.loads(json.dumps(plan_to_json(plan)))
        paths = [
            (part, *path)
            for part in CLAIMS
            for path in number_paths(document[part])
            if not EVIDENCE_ONLY & set(path) and path[-1:] != ("splits",) and "cuts" not in path
        ]
        for path in rng.sample(paths, min(6, len(paths))):
            mutant = copy.deepcopy(document)
            place = mutant
            for step in (*path[:-1],):
                place = place[step]
            place[path[-1]] += rng.choice([-2, -1, 1, 2])
            assert verify(mutant, keys, loads), f"{path} was changed and nobody noticed"
            rejected += 1


def worse_cuts(loads: list[int], bounds: list[int], splits: int, least: int) -> list[int]:
    """Honest cuts with the smallest bottleneck above the least."""
    edges = {0, *bounds, len(loads)}
    places = [place for place in range(1, len(loads)) if place not in edges]

    def heaviest(chosen: tuple[int, ...]) -> int:
        return max(sum(loads[a:b]) for a, b in pairwise(sorted(edges | set(chosen))))

    options = [
        chosen
        for number in range(splits + 1)
        for chosen in combinations(places, number)
        if heaviest(chosen) > least
    ]
    return list(min(options, key=heaviest))


@pytest.mark.parametrize("claim", ["incremental", "optimum"])
def test_a_bottleneck_that_is_not_the_least_is_never_proven(claim: str) -> None:
    # The strongest forgery: claim a worse bottleneck with honest cuts for it, and try every
    # witness there is. None may convince.
    loads = [4, 1, 3, 6, 2, 5, 1, 2]
    plan, keys = plan_of(loads, [3], 3)
    document = json.loads(json.dumps(plan_to_json(plan)))
    forged = document["certificate"][claim]
    bounds = [3] if claim == "incremental" else []
    cuts = worse_cuts(loads, bounds, forged["splits"], forged["bottleneck"])
    edges = sorted({0, *bounds, *cuts, len(loads)})
    forged["cuts"] = cuts
    forged["bottleneck"] = max(sum(loads[a:b]) for a, b in pairwise(edges))
    segments = len(bounds) + 1
    witnesses: list[dict[str, Any]] = [{"kind": "none"}, {"kind": "average"}]
    witnesses += [{"kind": "atom", "index": index} for index in range(len(loads))]
    witnesses += [{"kind": "fixed", "index": index} for index in range(segments)]
    lists = [
        list(stops) for number in range(7) for stops in combinations(range(1, len(loads)), number)
    ]
    for stops in lists:
        below = [stop for stop in stops if not bounds or stop < bounds[0]]
        above = [stop for stop in stops if bounds and stop > bounds[0]]
        listed = [{"index": 0, "stops": below}, {"index": 1, "stops": above}][:segments]
        witnesses.append({"kind": "stops", "segments": listed})
    for witness in witnesses:
        forged["witness"] = witness
        found = verify(document, keys, loads)
        assert f"{claim}: the witness does not prove the bottleneck least" in found, witness
        assert not any(each.startswith(f"{claim}: bottleneck") for each in found)


def test_a_repeated_segment_in_a_witness_proves_nothing() -> None:
    loads = [5, 5, 5, 5]
    plan, keys = plan_of(loads, [], 1)
    document = json.loads(json.dumps(plan_to_json(plan)))
    document["certificate"]["incremental"]["witness"] = {
        "kind": "stops",
        "segments": [{"index": 0, "stops": [1]}, {"index": 0, "stops": [1]}],
    }
    assert verify(document, keys, loads)


def test_other_load_than_the_proof_is_about_is_noticed() -> None:
    plan, keys = plan_of([4, 1, 3], [], 1)
    assert "atoms_sha256" in verify(plan_to_json(plan), keys, [4, 1, 4])[0]


def test_an_action_outside_its_route_is_noticed() -> None:
    plan, keys = plan_of([4, 1, 3, 5], [2], 2)
    document = json.loads(json.dumps(plan_to_json(plan)))
    document["actions"][0]["split_key"] = document["actions"][0]["start"]
    assert any("does not split a route" in found for found in verify(document, keys, [4, 1, 3, 5]))


def test_a_malformed_document_is_a_finding_and_not_a_crash() -> None:
    plan, keys = plan_of([4, 1, 3], [], 1)
    document = plan_to_json(plan)
    del document["routes_after"]
    assert "malformed" in verify(document, keys, [4, 1, 3])[0]


def test_fixed_routes_must_be_those_of_the_limits() -> None:
    keys = [key(number) for number in range(4)]
    routes = (
        RouteDescriptor(1, Span(b"", keys[2]), 1),
        RouteDescriptor(2, Span(keys[2], None), 1),
    )
    plan = make_plan(
        PlanInput(
            cluster="c",
            snapshot=RouteSnapshot(1, routes, T0),
            atoms=Atoms(keys, [9, 9, 1, 1], "key"),
            objective=OBJECTIVES["score"],
            since=T0,
            until=T1,
            limits=Limits(2, 0.0, only_hot=True),
            hot_routes=frozenset({2}),
            evidence=EvidenceQuery("atoms", "c/access", {}, "SELECT"),
        )
    )
    document = json.loads(json.dumps(plan_to_json(plan)))
    assert verify(document, keys, [9, 9, 1, 1]) == []
    document["certificate"]["incremental"]["fixed"] = [0, 1]
    assert any("fixed" in found for found in verify(document, keys, [9, 9, 1, 1]))
