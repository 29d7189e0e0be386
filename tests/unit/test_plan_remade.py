"""Claims about forged plans in a catalog: `verify` tells of what the inputs do not give."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.plan_mutations import document_of, leaves, mutated, named, rehashed
from workbench.errors import InvalidInput
from workbench.model.plan import OBJECTIVES, Limits
from workbench.model.plan_parts import GroupWeight
from workbench.planner.detect import Rule
from workbench.session.cluster import open_cluster
from workbench.session.collect import CollectOptions, collect
from workbench.session.datasets import accesses_bytes
from workbench.session.figures import figure_claims
from workbench.session.planning import false_claims, source_of
from workbench.session.planning import plan as plan_load
from workbench.session.remaking import remade_claims
from workbench.session.wiring import open_catalog
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView

# Inputs: another one is true where it gives the same plan.
INPUTS = ("limits.", "given.rule.", "given.window_ms", "given.asked", "given.no_moves")


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> ClusterView:
    folder = tmp_path_factory.mktemp("remade")
    trace = folder / "t.parquet"
    trace.write_bytes(accesses_bytes(generate("hot-range", accesses=1_000, seed=1)))
    url = str(folder / "catalog")
    collect(f"trace:{trace}", url, CollectOptions(routes="3", cluster="c"))
    return open_cluster(open_catalog(url), "c")


def made(view: ClusterView, **changes: Any) -> Plan:
    since, until = view.window(None, "50%")
    asked: dict[str, Any] = {
        "since": since,
        "until": until,
        "objective": OBJECTIVES["score"],
        "limits": Limits(2, 0.1, groups=(GroupWeight(1), GroupWeight(2))),
        "rule": Rule(20.0),
        "backtest": True,
        **changes,
    }
    return plan_load(view, **asked)


@pytest.fixture(scope="module")
def plan(view: ClusterView) -> Plan:
    found = made(view)
    assert found.actions
    assert found.declined
    assert found.backtest is not None
    return found


def claims(view: ClusterView, plan: Plan) -> list[str]:
    """What `workbench verify` says, as far as it must to say anything."""
    return (
        false_claims(view, plan)
        or remade_claims(view, plan)
        or figure_claims(view, plan, source_of(plan))
    )


def test_a_plan_is_what_it_says_it_was_made_from(view: ClusterView, plan: Plan) -> None:
    assert claims(view, plan) == []
    assert remade_claims(view, made(view, policy="exact", backtest=False)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("actions", 0, "route_id"), 99),
        (("limits", "min_gain"), 0.99),
        (("limits", "only_hot"), True),
        (("threshold_per_minute",), 1.0),
        (("actions", 0, "reasons", 0), "route 1 carries 99.9% of the load"),
        (("declined", 0, "reason"), "it carries 0.1%, and no splits are allowed"),
        (("declined",), []),
        (("forecast", "backtest"), None),
        (("forecast", "backtest_exact"), None),
        (("given", "backtest"), False),
        (("given", "routes", 0, "certainty"), "likely"),
        (("given", "routes", 0, "route_id"), 77),
        (("placement", "pareto", 0, "weighted"), 1),
    ],
)
def test_what_a_review_could_forge_is_told(
    view: ClusterView, plan: Plan, path: tuple[Any, ...], value: object
) -> None:
    document = document_of(plan)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert claims(view, rehashed(document)) != []


def walk(view: ClusterView, plan: Plan, paths: list[tuple[Any, ...]], seed: int) -> int:
    document, rng, told = document_of(plan), random.Random(seed), 0
    for path in paths:
        try:
            forged = rehashed(mutated(document, path, rng))
        except InvalidInput:
            told += 1
            continue
        try:
            found = claims(view, forged)
        except InvalidInput as error:
            found = [error.message]
        assert found or named(path).startswith(INPUTS), path
        told += bool(found)
    return told


def test_leaves_of_a_plan_cannot_be_changed(view: ClusterView, plan: Plan) -> None:
    paths = random.Random(8).sample(list(leaves(document_of(plan))), 12)
    assert walk(view, plan, paths, 8) > 8


@pytest.mark.slow
def test_no_leaf_of_a_plan_can_be_changed(view: ClusterView, plan: Plan) -> None:
    paths = list(leaves(document_of(plan)))
    assert walk(view, plan, paths, 9) > len(paths) - 25


def test_a_plan_of_before_is_not_made_again(view: ClusterView, plan: Plan) -> None:
    assert remade_claims(view, replace(plan, given=None)) == []
