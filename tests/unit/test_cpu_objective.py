"""Claims about CPU as an objective: planned by where it is told, and in place of what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.test_hot_answer import T0, ask, load_row, view_of
from workbench.errors import InvalidInput
from workbench.model.plan import OBJECTIVES, Limits, plan_from_json, plan_to_json
from workbench.model.plan_given import EvidenceCertainty
from workbench.planner.detect import Rule
from workbench.query.load import Source
from workbench.session.figures import figure_claims
from workbench.session.given import certainties
from workbench.session.look import heat
from workbench.session.planning import false_claims
from workbench.session.planning import plan as plan_load
from workbench.session.remaking import remade_claims

if TYPE_CHECKING:
    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView

CPU = (50, 900, 30, 20, 10)


def cpu_view(**changes: Any) -> ClusterView:
    rows = [
        load_row(number, bucket, cpu_ns=CPU[bucket], **changes)
        for number in range(4)
        for bucket in range(5)
    ]
    return view_of(rows)


def planned(view: ClusterView, objective: str, **changes: Any) -> Plan:
    asked: dict[str, Any] = {
        "since": view.extent.since,
        "until": view.extent.until,
        "objective": OBJECTIVES[objective],
        "limits": Limits(2, 0.01),
        "rule": Rule(),
        "policy": "exact",
        **changes,
    }
    return plan_load(view, **asked)


def test_a_plan_by_cpu_balances_what_windows_tell_of_it() -> None:
    view = cpu_view(reads=1, writes=0)
    plan = planned(view, "cpu")
    document = plan_to_json(plan)
    assert (document["objective"], document["weights"]["cpu_ns"]) == ("cpu_ns", 1)
    assert plan.total_load == 4 * sum(CPU)
    assert [action.split_key for action in plan.actions] == [b"d"]
    assert plan_from_json(document, "a test") == plan
    claims = [false_claims(view, plan), figure_claims(view, plan, Source.LOAD_WINDOW)]
    assert [*claims, remade_claims(view, plan)] == [[], [], []]


def test_bytes_in_the_weights_of_other_plans_stay_as_they_were() -> None:
    assert "cpu_ns" not in plan_to_json(planned(cpu_view(reads=1, writes=0), "score"))["weights"]


@pytest.mark.parametrize("objective", ["score", "reads", "bytes"])
def test_a_plan_falls_back_to_cpu_as_hot_does_and_says_so(objective: str) -> None:
    view = cpu_view()
    plan = planned(view, objective)
    assert ask(view, objective).objective == plan.objective.name == "cpu_ns"
    assert plan.given is not None
    assert plan.given.asked == objective
    assert plan.total_load == 4 * sum(CPU)
    assert remade_claims(view, plan) == []


def test_without_cpu_a_plan_falls_back_to_bytes() -> None:
    rows = [load_row(n, b, read_bytes=9 + b, write_bytes=0) for n in range(3) for b in range(5)]
    assert planned(view_of(rows), "cpu").objective.name == "bytes"


def test_what_was_measured_in_part_is_refused_and_not_replaced() -> None:
    rows = [
        load_row(0, bucket, cpu_ns=1, reads=None if bucket else 3, writes=0) for bucket in range(5)
    ]
    with pytest.raises(InvalidInput, match="no measured load"):
        planned(view_of(rows), "score")


def test_routes_are_judged_and_drawn_by_cpu_where_it_is_asked_for() -> None:
    view = cpu_view(reads=1, writes=0)
    answer = ask(view, "cpu", threshold_per_minute=100)
    assert (answer.objective, answer.asked) == ("cpu_ns", "cpu_ns")
    loads = {each.route.route_id: each.load for each in answer.verdicts}
    assert loads == {1: 4 * 950, 2: 4 * 30, 3: 4 * 30}
    matrix = heat(view, since=T0, until=view.extent.until, series="cpu_ns")
    assert matrix.values.sum() == 4 * sum(CPU)


def known(rows: list[dict[str, Any]]) -> list[str]:
    view = view_of(rows)
    time = (view.extent.since, view.extent.until)
    return [str(c) for c in certainties(view, *time, Source.LOAD_WINDOW, OBJECTIVES["reads"])]


def test_load_is_certain_where_every_window_was_measured_in_full_and_counted() -> None:
    sure, unsure = EvidenceCertainty.CERTAIN.value, EvidenceCertainty.LIKELY.value
    rows = [load_row(n, b, reads=100, writes=0) for n in range(3) for b in range(5)]
    assert known(rows) == [sure] * 3
    assert known([*rows[:4], {**rows[4], "coverage": 0.5}, *rows[5:]]) == [sure, sure, unsure]
    assert known([*rows[:2], {**rows[2], "error_bound": 6.0}, *rows[3:]]) == [sure, unsure, sure]
    assert known([*rows[:2], {**rows[2], "error_bound": 5.0}, *rows[3:]]) == [sure] * 3
    without = [row for row in rows if row["route_id"] != 2 or row["window_start"] != T0]
    assert known(without) == [sure, unsure, sure]


def test_a_last_window_that_is_still_open_makes_nothing_less_certain() -> None:
    rows = [load_row(n, b, reads=100, writes=0) for n in range(3) for b in range(5)]
    still = [load_row(3, b, reads=1, writes=0, coverage=0.2) for b in range(5)]
    assert known([*rows, *still]) == ["certain"] * 3
