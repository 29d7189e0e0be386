"""Claims about plans under every limit: proven least, verified, and no false claim accepted."""

from __future__ import annotations

import copy
import json
import random
from itertools import accumulate, pairwise
from typing import Any

import pytest

from tests.unit.planner_cases import Case, least, random_case
from workbench.model.plan import Plan, plan_from_json, plan_to_json
from workbench.planner.verifier import verify

# Numbers that are no claims of the verifier's, or that brute force decides below: a weaker
# witness, other cuts of the same bottleneck, what is only for reading, and whose sizes were told.
NO_CLAIM = {"stops", "index", "route_id", "cuts", "windows", "backtest", "read_ts"}
CLAIMS = (
    "bottleneck",
    "forecast",
    "unsplittable",
    "actions",
    "routes_before",
    "routes_after",
    "certificate",
    "pareto",
    "robust",
    "isolated",
    "placement",
)


def document_of(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(plan_to_json(plan)))
    return found


def check_by_brute_force(case: Case, plan: Plan) -> None:
    """Compare every optimum of a plan that isolates nothing with trying everything."""
    limits, proof = case.limits, plan.certificate
    raw = [0, *accumulate(case.loads)]
    kept = set(case.bounds)
    starts = [0, *case.bounds]
    fixed = {starts[index] for index in plan.limits.fixed_routes}
    splits = limits.max_splits
    if limits.max_routes is not None:
        splits = min(splits, limits.max_routes - len(starts))
    after = len(plan.routes_after)
    compared = splits if case.policy == "exact" else after - len(starts)
    assert proof["incremental"]["bottleneck"] == least(case, raw, kept, fixed, compared)
    for number, bottleneck in plan.pareto:
        assert bottleneck == least(case, raw, kept, fixed, number)
    if case.policy == "exact":
        assert plan.robust is None
        return
    keys = sum(1 for load in case.loads if load)
    shrunk = [9 * keys * load + raw[-1] * (1 if load else 0) for load in case.loads]
    sums = [0, *accumulate(shrunk)]
    assert proof["robust"]["bottleneck"] == least(case, sums, kept, fixed, splits)
    shared = least(case, sums, kept, fixed, splits, lone=True)
    assert proof["robust"]["shared_all"] == shared
    assert plan.robust is not None
    assert plan.robust.price == plan.bottleneck.after - plan.robust.optimum >= 0


def run_cases(number: int, seed: int) -> tuple[int, int]:
    rng = random.Random(seed)
    planned = isolated = 0
    while planned < number:
        case = random_case(rng)
        plan = case.plan()
        if plan is None:
            continue
        planned += 1
        document = document_of(plan)
        assert verify(document, case.keys, case.loads, case.byte_rows) == [], case
        assert plan_from_json(document, "a test") == plan
        if plan.isolated:
            isolated += 1
        else:
            check_by_brute_force(case, plan)
    return planned, isolated


def test_certificates_equal_brute_force_on_random_cases_with_every_limit() -> None:
    planned, isolated = run_cases(1_000, 20_261_121)
    assert isolated < planned / 2


@pytest.mark.slow
def test_certificates_equal_brute_force_on_10000_random_cases_with_every_limit() -> None:
    run_cases(10_000, 4_712)


def number_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every number in the parts of a plan that make claims."""
    if isinstance(value, bool | str) or value is None:
        return []
    if isinstance(value, int | float):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [found for name, each in items for found in number_paths(each, (*path, name))]


def reject_mutations(number: int, seed: int) -> set[str]:
    """Change one number of a document at a time; return the parts that were changed."""
    rng = random.Random(seed)
    rejected, parts = 0, set()
    while rejected < number:
        case = random_case(rng)
        plan = case.plan()
        if plan is None:
            continue
        document = document_of(plan)
        paths = [
            (part, *path)
            for part in CLAIMS
            for path in number_paths(document[part])
            if not NO_CLAIM & set(path)
        ]
        for path in rng.sample(paths, min(8, len(paths))):
            mutant = copy.deepcopy(document)
            place = mutant
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] += rng.choice([-2, -1, 1, 2])
            if is_still_true(path, mutant, case, document):
                continue
            found = verify(mutant, case.keys, case.loads, case.byte_rows)
            assert found, f"{path} of {case} was changed and nobody noticed"
            rejected += 1
            parts.add(path[0])
    return parts


def is_still_true(
    path: tuple[Any, ...], mutant: dict[str, Any], case: Case, document: dict[str, Any]
) -> bool:
    """Tell whether a change left another true claim: a point of a front at another number."""
    if path[0] != "pareto" or path[-1] != "splits":
        return False
    front = [(each["splits"], each["bottleneck"]) for each in mutant["pareto"]]
    if not all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(front)):
        return False
    changed = mutant["pareto"][path[1]]
    raw = [0, *accumulate(case.loads)]
    starts = [0, *case.bounds]
    fixed = {starts[index] for index in document["limits"]["fixed_routes"]}
    splits = case.limits.max_splits
    if case.limits.max_routes is not None:
        splits = min(splits, case.limits.max_routes - len(starts))
    if not 0 <= changed["splits"] <= splits:
        return False
    found = least(case, raw, set(case.bounds), fixed, changed["splits"])
    return bool(found == changed["bottleneck"])


def test_the_verifier_rejects_mutations_of_every_part() -> None:
    assert reject_mutations(1_500, 99) == set(CLAIMS)


@pytest.mark.slow
def test_the_verifier_rejects_10000_mutations_of_plans_with_every_limit() -> None:
    assert reject_mutations(10_000, 100) == set(CLAIMS)


def case_with(**fixed: Any) -> tuple[Case, dict[str, Any]]:
    """The first random case of these fields that has a plan with actions."""
    rng = random.Random(3)
    while True:
        case = random_case(rng, **fixed)
        plan = case.plan()
        if plan is not None and plan.actions:
            return case, document_of(plan)


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("forbidden", [{"start": "", "end": None}]),
        ("boundaries", {"prefix_bytes": 0, "keys": []}),
        ("boundaries", {"prefix_bytes": None, "keys": []}),
        ("max_routes", 1),
        ("max_splits", 0),
        ("min_span_load", 10**6),
    ],
)
def test_a_plan_that_breaks_a_limit_is_noticed(limit: str, value: object) -> None:
    case, document = case_with()
    document["limits"][limit] = value
    assert verify(document, case.keys, case.loads, case.byte_rows)


def test_a_key_that_is_not_hot_is_not_accepted_as_isolated() -> None:
    case, document = case_with(threshold=None, policy="exact")
    heaviest = max(range(len(case.keys)), key=lambda i: case.loads[i])
    document["isolated"] = [
        {
            "key": case.keys[heaviest].hex(),
            "load": case.loads[heaviest],
            "route_load": case.loads[heaviest],
        }
    ]
    assert any("not hot by itself" in f for f in verify(document, case.keys, case.loads))


def test_a_plan_of_one_policy_is_not_accepted_as_one_of_the_other() -> None:
    case, document = case_with(policy="robust")
    document["policy"] = "exact"
    assert verify(document, case.keys, case.loads, case.byte_rows)


def test_a_search_is_no_witness_in_a_document_of_version_1() -> None:
    case, document = case_with(policy="exact")
    document["certificate"]["incremental"]["witness"] = {"kind": "search"}
    document["certificate"]["incremental"]["bottleneck"] += 1
    assert verify(document, case.keys, case.loads, case.byte_rows)
