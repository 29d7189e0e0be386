"""Claims about the decision what to do next with an approved plan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fakes import FakeCluster, plan_for

from workbench.model.keys import Span
from workbench.model.routes import seed_routes
from workbench.planner.execution import (
    Call,
    Done,
    Record,
    Stale,
    decide,
    forecast,
    request_id,
)

if TYPE_CHECKING:
    from workbench.model.plan import Plan

SEEDS = [b"g", b"p"]


def ids(plan: Plan) -> list[str]:
    return [action.action_id for action in plan.actions]


def make(cluster: FakeCluster, plan: Plan, index: int) -> None:
    """Make one of the plan's splits, as an earlier run did."""
    action = plan.actions[index]
    route = cluster.routes[action.span]
    cluster.split(route.route_id, action.split_key, cluster.version)


def test_actions_come_in_the_plans_order_each_at_the_version_before_it() -> None:
    cluster = FakeCluster()
    plan = plan_for(cluster)
    assert len(plan.actions) == 4
    applied: list[str] = []
    for index, action in enumerate(plan.actions):
        step = decide(plan, ids(plan), applied, cluster.snapshot())
        assert isinstance(step, Call)
        assert (step.action, step.split.expected_version) == (action, 1 + index)
        assert step.split.route == cluster.routes[action.span]
        make(cluster, plan, index)
        applied.append(action.action_id)
    assert decide(plan, ids(plan), applied, cluster.snapshot()) == Done()
    assert cluster.spans() == [route.span for route in plan.routes_after]


def test_the_route_is_found_by_its_span_where_ids_went_another_way() -> None:
    cluster = FakeCluster()
    plan = plan_for(cluster)
    cluster.next_id = 1_000
    make(cluster, plan, 0)
    child = next(i for i, a in enumerate(plan.actions) if a.route_id > 3)
    done = []
    for index in range(1, child):
        make(cluster, plan, index)
    done = ids(plan)[:child]
    step = decide(plan, ids(plan), done, cluster.snapshot())
    assert isinstance(step, Call)
    assert step.split.route.route_id >= 1_000
    assert step.split.route.span == plan.actions[child].span


def test_versions_count_only_what_was_applied() -> None:
    cluster = FakeCluster()
    plan = plan_for(cluster)
    # The first action that no other needs can be left out.
    made_from = {a.span for a in plan.actions}
    free = next(
        a.action_id
        for a in plan.actions
        if not {Span(a.span.start, a.split_key), Span(a.split_key, a.span.end)} & made_from
    )
    chosen = [each for each in ids(plan) if each != free]
    expected, applied = plan.catalog_version, []
    while not isinstance(step := decide(plan, chosen, applied, cluster.snapshot()), Done):
        assert isinstance(step, Call)
        assert step.split.expected_version == expected
        make(cluster, plan, ids(plan).index(step.action.action_id))
        applied.append(step.action.action_id)
        expected += 1
    assert applied == chosen
    # Approved later, it comes last, at the version that the others left.
    late = decide(plan, ids(plan), applied, cluster.snapshot())
    assert isinstance(late, Call)
    assert (late.action.action_id, late.split.expected_version) == (free, expected)


def test_an_action_without_the_one_that_makes_its_route_is_stale() -> None:
    cluster = FakeCluster()
    plan = plan_for(cluster)
    orphan = next(a for a in plan.actions if a.route_id > 3)
    step = decide(plan, [orphan.action_id], [], cluster.snapshot())
    assert isinstance(step, Stale)
    assert "no applied action makes" in step.reason


def test_a_split_without_its_receipt_is_recorded_not_repeated() -> None:
    cluster = FakeCluster()
    plan = plan_for(cluster)
    for index in range(len(plan.actions)):
        make(cluster, plan, index)
        step = decide(plan, ids(plan), ids(plan)[:index], cluster.snapshot())
        assert isinstance(step, Record)
        assert step.action == plan.actions[index]
        assert (step.expected_version, step.catalog_version) == (1 + index, 2 + index)
        assert step.left.span.end == step.right.span.start == step.action.split_key


@pytest.mark.parametrize("versions", [-1, 2, 7])
def test_any_other_version_is_stale(versions: int) -> None:
    cluster = FakeCluster(version=10)
    plan = plan_for(cluster)
    moved = replace(cluster.snapshot(), catalog_version=10 + versions)
    step = decide(plan, ids(plan), [], moved)
    assert isinstance(step, Stale)
    assert f"version {10 + versions}" in step.reason
    assert "plan again" in step.advice


def test_a_foreign_split_is_stale_whether_or_not_it_hits_our_route() -> None:
    for key in (b"a\xff", b"z\xff"):
        cluster = FakeCluster()
        plan = plan_for(cluster)
        cluster.foreign_split(key)
        assert isinstance(decide(plan, ids(plan), [], cluster.snapshot()), Stale)


def test_a_foreign_split_after_ours_without_receipt_is_stale() -> None:
    cluster = FakeCluster()
    plan = plan_for(cluster)
    make(cluster, plan, 0)
    cluster.foreign_split(b"z\xff")
    assert isinstance(decide(plan, ids(plan), [], cluster.snapshot()), Stale)


def test_children_that_name_no_common_parent_are_not_taken_for_ours() -> None:
    cluster = FakeCluster()
    plan = plan_for(cluster)
    make(cluster, plan, 0)
    action = plan.actions[0]
    right = Span(action.split_key, action.span.end)
    for parent in (0, 99):
        cluster.routes[right] = replace(cluster.routes[right], parent_route_id=parent)
        assert isinstance(decide(plan, ids(plan), [], cluster.snapshot()), Stale)


def test_the_right_version_of_another_cluster_is_stale() -> None:
    plan = plan_for(FakeCluster())
    other = FakeCluster(routes={r.span: r for r in seed_routes([b"h", b"p"])})
    step = decide(plan, ids(plan), [], other.snapshot())
    assert isinstance(step, Stale)
    assert "not those of the plan" in step.reason
    assert "plan's cluster" in step.advice


def test_a_plan_that_is_done_is_done_whatever_came_after() -> None:
    cluster = FakeCluster()
    plan = plan_for(cluster)
    cluster.version = 99
    assert decide(plan, ids(plan), ids(plan), cluster.snapshot()) == Done()
    assert decide(plan, [], [], cluster.snapshot()) == Done()


def test_a_request_id_is_the_same_for_every_try_and_another_for_every_action_and_plan() -> None:
    one, other = plan_for(FakeCluster()), plan_for(FakeCluster(), splits=3)
    names = ids(one)
    seen = {request_id(plan, name) for plan in (one, other) for name in names}
    assert len(seen) == 2 * len(names)
    assert request_id(one, "split-001") == request_id(one, "split-001")


def test_a_forecast_is_what_will_be_called() -> None:
    cluster = FakeCluster()
    plan = plan_for(cluster)
    steps = forecast(plan, ids(plan), [], cluster.snapshot())
    calls = [step for step in steps if isinstance(step, Call)]
    assert len(calls) == len(plan.actions)
    assert any(call.predicted for call in calls)
    for index, call in enumerate(calls):
        route = cluster.routes[call.split.route.span]
        assert (call.split.route.route_id, call.split.route.group) == (route.route_id, route.group)
        assert call.split.expected_version == cluster.version
        assert call.predicted == (route.route_id > 3)
        make(cluster, plan, index)


def test_a_forecast_goes_on_after_a_missing_receipt_and_ends_where_it_is_stale() -> None:
    cluster = FakeCluster()
    plan = plan_for(cluster)
    make(cluster, plan, 0)
    kinds = [type(step) for step in forecast(plan, ids(plan), [], cluster.snapshot())]
    assert kinds == [Record, Call, Call, Call]
    cluster.foreign_split(b"z\xff")
    kinds = [type(step) for step in forecast(plan, ids(plan), [], cluster.snapshot())]
    assert kinds == [Stale]
