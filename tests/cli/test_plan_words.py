"""Claims about what a newcomer reads: one story in every command, reasons where they are asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from unit.test_plan import T1, make

from workbench.cli.plan import ACTIONS_MAX, print_plan
from workbench.model.plan import Declined
from workbench.model.plan_parts import Backtest
from workbench.planner.approvals import ApprovalPolicy, broken_limits
from workbench.planner.words import backtest_sentence, caution_sentence, declined_by_reason
from workbench.report.headline import headline as page_headline
from workbench.report.markdown import plan_markdown
from workbench.session.datasets import accesses_bytes
from workbench.session.plans import plan_to_file
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAILED = Backtest(
    T1, 3, max_share_without=0.173, max_share_forecast=0.094, max_share_came=0.173, drift=0.1
)
HELD = replace(FAILED, max_share_without=0.650, max_share_forecast=0.074, max_share_came=0.082)
DOUBT = "in the back-test the splits did not help"


@pytest.fixture
def collected(workbench: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    trace = tmp_path / "t.parquet"
    trace.write_bytes(accesses_bytes(generate("hot-range", accesses=3_000, seed=5)))
    assert workbench("collect", f"trace:{trace}", "--cluster", "c", "--routes", "4").status == 0
    return workbench


def test_a_failed_back_test_stands_beside_the_headline(capfd: pytest.CaptureFixture[str]) -> None:
    plan = replace(make(), backtest=FAILED)
    print_plan(plan)
    assert capfd.readouterr().out.splitlines()[2].startswith(DOUBT)
    assert DOUBT[1:] in plan_markdown(plan).split("\n\n")[1]
    assert DOUBT[1:] in page_headline(plan, None, "c", ()).sentence


def test_a_back_test_that_held_is_said_to_have_held_and_satisfies_a_policy() -> None:
    plan = replace(make(), backtest=HELD)
    assert caution_sentence(plan) is None
    assert backtest_sentence(HELD).endswith(": the forecast held")
    assert broken_limits(plan, ApprovalPolicy("p", "0" * 64, require_backtest=True), T1) == []


def test_a_back_test_without_splits_tested_nothing() -> None:
    plan = replace(make(), backtest=replace(FAILED, splits=0))
    said = broken_limits(plan, ApprovalPolicy("p", "0" * 64, require_backtest=True), T1)
    assert said == ["in the back-test nothing was split, so no forecast of splits was tested"]


def test_a_person_who_approves_against_the_back_test_is_warned(
    collected: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_id = collected("plan", "--json").json["plan_id"]
    monkeypatch.setattr("workbench.planner.words.caution_sentence", lambda _plan: DOUBT)
    answer = collected("approve", plan_id, "--by", "anna", "--json")
    assert answer.json["warnings"] == [DOUBT]
    assert DOUBT in answer.err
    assert DOUBT not in collected("approve", plan_id, "--by", "anna", "--withdraw").err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--max-splits", "0"), "no splits are allowed (--max-splits 0)"),
        (("--max-routes", "4"), "no more routes are allowed (--max-routes 4)"),
        (("--only-hot",), "no route is hot, and only hot ones were asked for (--only-hot)"),
        (("--min-gain", "0.99"), "8 splits do not lower it by 99% (--min-gain)"),
    ],
)
def test_nothing_to_do_says_why_in_the_same_line(
    collected: Callable[..., Any], options: tuple[str, ...], reason: str
) -> None:
    line = collected("plan", *options).out.splitlines()[1]
    assert line.startswith("nothing to do: the hottest route carries ")
    assert line.endswith(f", and {reason}")
    assert reason in collected("plan", *options, "--format", "md").out


def test_routes_left_alone_for_one_reason_share_a_line_with_the_range_of_their_shares() -> None:
    reasons = ["it carries 4.9% of the load, and so on", "it carries <0.1% of the load, and so on"]
    reasons += ["it carries 12.0% of the load, and so on", "it has no load"]
    plan = replace(make(), declined=tuple(Declined(n, text) for n, text in enumerate(reasons)))
    assert declined_by_reason(plan) == [
        ("routes 0, 1, 2", "each carries <0.1% to 12.0% of the load, and so on"),
        ("route 3", "it has no load"),
    ]


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (timedelta(minutes=467_711), "324.8 days"),
        (timedelta(hours=30), "30 hours"),
        (timedelta(seconds=90), "90 seconds"),
        (timedelta(days=1), "1 day"),
    ],
)
def test_an_age_is_said_in_a_unit_that_a_person_would_take(age: timedelta, said: str) -> None:
    plan = make()
    [broken] = broken_limits(plan, ApprovalPolicy("p", "0" * 64, max_age_ms=0), plan.until + age)
    assert broken == f"its evidence ends {said} ago, 0 ms are allowed"


def test_a_long_plan_prints_its_first_actions_and_where_the_rest_is(
    capfd: pytest.CaptureFixture[str],
) -> None:
    plan = make()
    actions = [replace(plan.actions[0], action_id=f"split-{n:04d}") for n in range(3_446)]
    print_plan(replace(plan, actions=tuple(actions)))
    out = capfd.readouterr().out
    assert out.count("split-") == ACTIONS_MAX
    assert "… 3,396 more actions: all of them with --json or --out FILE" in out


def test_collect_verify_explain_and_approve_tell_one_story_of_replaced_routes(
    collected: Callable[..., Any], tmp_path: Path
) -> None:
    plan_id = collected("plan", "--until", "50%", "--json").json["plan_id"]
    source = f"trace:{tmp_path / 't.parquet'}"
    again = collected("collect", source, "--cluster", "c", "--routes", "2", "--replace")
    assert "the routes or windows behind 1 plan" in again.err
    assert "for other routes can no longer be verified or approved" in again.err
    for command, status in ((("verify", plan_id), 1), (("explain", plan_id, "split-001"), 0)):
        answer = collected(*command)
        assert answer.status == status
        assert "it can no longer be approved" in answer.err
    assert collected("approve", plan_id, "--by", "anna").status == 5


def test_collect_tells_other_load_from_other_routes(
    collected: Callable[..., Any], tmp_path: Path
) -> None:
    collected("plan", "--json")
    other = tmp_path / "other.parquet"
    other.write_bytes(accesses_bytes(generate("hot-range", accesses=3_000, seed=6)))
    again = collected("collect", f"trace:{other}", "--cluster", "c", "--routes", "4", "--replace")
    assert "the load behind 1 plan" in again.err
    assert "can no longer be verified or approved" in again.err


def test_the_only_access_of_a_trace_is_not_a_share_of_what_was_not_measured(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "one.csv").write_text("time,key\n0,a\n")
    assert workbench("collect", f"trace:{tmp_path / 'one.csv'}").status == 0
    out = workbench("hot").out
    assert "of 1 route " in out
    assert "of accesses in no whole load window" in out


def test_a_plan_by_file_is_as_long_as_it_is(tmp_path: Path) -> None:
    plan = make()
    plan_to_file(plan, tmp_path / "p.json")
    assert (tmp_path / "p.json").read_text().count('"split_key"') == len(plan.actions)
