"""Claims about forged plans: no leaf can be changed unless the plan of those inputs says so too."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from tests.unit.plan_mutations import document_of, leaves, mutated, named, rehashed
from tests.unit.planner_cases import Case, random_case
from workbench.errors import WorkbenchError
from workbench.model.keys import Span
from workbench.model.plan import Plan, plan_content
from workbench.model.plan_given import EvidenceCertainty, Given, GivenRoute
from workbench.model.routes import RouteDescriptor, RouteState
from workbench.planner.plan import make_plan
from workbench.planner.verifier import verify
from workbench.session.remaking import SENSELESS, differences

# Sentences, texts and inputs that bind nothing: what is made again tells, not the verifier.
REMADE = {
    "cluster",
    "objective",
    "weights",
    "window",
    "evidence",
    "findings",
    "given",
    "limits",
    "policy",
    "threshold_per_minute",
    "schema",
    "atom_kind",
}
REMADE_PATHS = {
    "actions.id",
    "actions.reasons",
    "declined.reason",
    "placement.stored.export",
    "placement.stored.read_ts",
}
# Another witness of the same bottleneck is as good for the verifier.
WITNESS = {"cuts", "witness"}


def with_given(case: Case, plan: Plan) -> Plan:
    routes = case.given.snapshot.routes
    given = Given(
        routes=tuple(
            GivenRoute(r.route_id, r.state.value, r.split_at_hlc, EvidenceCertainty.CERTAIN)
            for r in routes
        ),
        threshold_per_minute=case.threshold,
        windows_hot=3,
        cooldown_ms=600_000,
        window_ms=60_000,
        backtest=False,
        no_moves="",
        asked="score",
    )
    return replace(plan, given=given)


def remade(case: Case, stated: Plan) -> Plan:
    """The plan of the case's load and of the inputs that a document states."""
    told = stated.given
    assert told is not None
    routes = tuple(
        RouteDescriptor(
            each.route_id,
            Span(found.span.start, found.span.end),
            found.group,
            RouteState(each.state),
            split_at_hlc=each.split_at_hlc,
        )
        for each, found in zip(told.routes, stated.routes_before, strict=True)
    )
    given = case.given
    made = make_plan(
        replace(
            given,
            snapshot=replace(given.snapshot, routes=routes, catalog_version=stated.catalog_version),
            limits=replace(stated.limits, fixed_routes=()),
            policy=stated.policy,
            threshold_per_minute=told.threshold_per_minute,
        )
    )
    return replace(made, given=_as_told(told, case))


def _as_told(told: Given, case: Case) -> Given:
    """What the case's own world gives, with the inputs that were told."""
    return replace(
        told,
        windows_hot=3,
        cooldown_ms=600_000,
        window_ms=60_000,
        backtest=False,
        no_moves="",
        asked="score",
        routes=tuple(
            GivenRoute(r.route_id, r.state.value, r.split_at_hlc, EvidenceCertainty.CERTAIN)
            for r in case.given.snapshot.routes
        ),
    )


def is_verifiers(path: tuple[object, ...]) -> bool:
    """Whether the independent verifier alone has to notice a change."""
    return path[0] not in REMADE and named(path) not in REMADE_PATHS and not WITNESS & set(path)


def reject(number: int, seed: int) -> tuple[Counter[str], Counter[str]]:
    """Change one thing at a time; return how often by path, and how often the verifier saw it."""
    rng = random.Random(seed)
    changed: Counter[str] = Counter()
    verified: Counter[str] = Counter()
    while changed.total() < number:
        case = random_case(rng)
        plan = case.plan()
        if plan is None:
            continue
        document = document_of(with_given(case, plan))
        paths = list(leaves(document))
        for path in rng.sample(paths, min(12, len(paths))):
            mutant = mutated(document, path, rng)
            found = verify(mutant, case.keys, case.loads, case.byte_rows)
            try:
                stated = rehashed(mutant)
                content = plan_content(remade(case, stated))
                again = list(differences(plan_content(stated), content))
            except (WorkbenchError, *SENSELESS) as error:
                again = [str(error)]
            if not again:
                # Another true plan: of other limits that bind nothing, say. Nobody may object.
                assert found == [], (path, case, found)
                continue
            assert found or not is_verifiers(path), f"{path} of {case}: the verifier saw nothing"
            changed[named(path)] += 1
            verified[named(path)] += bool(found)
    return changed, verified


CLAIMS = {
    "actions.route_id",
    "actions.reasons",
    "actions.evidence.left_load",
    "actions.expected_version",
    "certificate.incremental.bottleneck",
    "certificate.incremental.witness.kind",
    "declined",
    "declined.reason",
    "declined.route_id",
    "given.routes.route_id",
    "limits.fixed_routes",
    "limits.max_splits",
    "limits.min_gain",
    "limits.only_hot",
    "pareto",
    "pareto.bottleneck",
    "placement.pareto.weighted",
    "robust.shared",
    "total_load",
}


def test_no_leaf_of_a_plan_can_be_changed() -> None:
    changed, verified = reject(1_500, 21)
    assert changed.keys() >= CLAIMS
    assert verified.total() > changed.total() / 2


@pytest.mark.slow
def test_no_leaf_of_a_plan_can_be_changed_in_10000_mutations() -> None:
    changed, verified = reject(10_000, 22)
    assert verified.total() > changed.total() / 2, (changed.total(), verified.total())
    assert changed.keys() >= CLAIMS
