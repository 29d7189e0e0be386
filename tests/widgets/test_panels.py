"""Claims about the widgets without a browser: what they show, what a press does, and what not."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fakes import NOON, Fault
from stage import HOSTILE, Stage

from workbench.model.keys import Span
from workbench.model.routes import seed_routes
from workbench.report.route_rows import Brush, RouteBoard
from workbench.session.plans import record_plan
from workbench.widgets.job_monitor import JobMonitor
from workbench.widgets.panel import _STATIC, Panel
from workbench.widgets.plan_review import PlanReview
from workbench.widgets.route_table import RouteTable
from workbench.widgets.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workbench.widgets.desk import Desk

WAIT_S = 20.0
MESSAGE_BYTES_MAX = 5_000_000
Tree = list[Any]


def planned(stage: Stage) -> Desk:
    desk = stage.desk()
    made = desk.propose()
    assert made is not None
    record_plan(stage.catalog(), made)
    return desk


def nodes(tree: Tree) -> Iterator[Tree]:
    yield tree
    for child in tree[2]:
        if isinstance(child, list):
            yield from nodes(child)


def text(tree: Tree) -> str:
    return " ".join(c if isinstance(c, str) else text(c) for c in tree[2])


def tagged(panel: Panel, tag: str) -> list[Tree]:
    return [node for node in nodes(panel.tree) if node[0] == tag]


def buttons(panel: Panel) -> dict[tuple[str, str], Tree]:
    found = [node for node in tagged(panel, "button") if "data-act" in node[1]]
    return {(node[1]["data-act"], node[1].get("data-arg", "")): node for node in found}


def enabled(panel: Panel, act: str, arg: str = "") -> bool:
    node = buttons(panel).get((act, arg))
    return node is not None and "aria-disabled" not in node[1]


def message(panel: Panel, **content: Any) -> None:
    """Let a message of the page arrive."""
    panel._pressed(panel, content, [])


def test_the_workbench_shows_all_four_and_goes_through_the_loop(stage: Stage) -> None:
    desk = stage.desk()
    made = Workbench(desk)
    assert desk.wait(WAIT_S)
    assert len(made.children) == 5
    assert made.loop.at() == 1
    made.review.press("propose")
    assert made.loop.at() == 2
    made.review.press("approve", "split-001")
    assert made.loop.at() == 3
    assert "1 waiting" in text(made.monitor.tree)
    made.review.press("approve-all")
    made.review.press("apply")
    made.review.press("apply-yes")
    assert desk.wait(WAIT_S)
    assert made.loop.at() == 4
    assert "4 jobs" in text(made.monitor.tree).replace("\u00a0", " ")
    assert "4 applied" in text(made.review.tree)
    assert made.monitor.said["text"] == "applied: all that is approved is done"
    made.close()


def test_a_brush_in_the_heatmap_narrows_the_table_and_the_proposal(stage: Stage) -> None:
    desk = stage.desk()
    made = Workbench(desk)
    assert desk.wait(WAIT_S)
    span = Span(b"c", b"f")
    made.heatmap.select(span=span, since=NOON - timedelta(minutes=10), until=NOON)
    page = made.routes.page()
    assert page is not None
    assert [row.route_id for row in page.rows] == [1]
    assert desk.brush.span == span
    assert "Brushed" in text(made.routes.tree)
    assert desk.current is not None
    assert all(action.split_key in span for action in desk.current.actions)
    assert desk.current.since == NOON - timedelta(minutes=10)
    made.routes.press("all")
    page = made.routes.page()
    assert page is not None
    assert page.matching == 3
    made.close()


def test_an_empty_catalog_is_said_by_every_widget(make_stage: Callable[..., Stage]) -> None:
    desk = make_stage(empty=True).desk()
    made = Workbench(desk)
    for panel in (made.loop, made.routes, made.review):
        assert "the catalog holds no load" in text(panel.tree)
    assert "nothing to execute yet" in text(made.monitor.tree)
    assert not any(enabled(made.review, act) for act in ("apply", "approve-all", "plan-again"))


def test_one_route_is_enough(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage([], splits=2)
    desk = planned(stage)
    made = Workbench(desk)
    assert desk.wait(WAIT_S)
    page = made.routes.page()
    assert page is not None
    assert [row.share for row in page.rows] == ["100.0%"]
    assert len(tagged(made.review, "li")) > 0


def test_nothing_is_applied_without_the_question(stage: Stage) -> None:
    desk = planned(stage)
    review = PlanReview(desk)
    message(review, act="approve-all", arg="", value="")
    message(review, act="apply-yes", arg="", value="")
    assert not desk.running
    assert stage.cluster.splits == []
    message(review, act="apply", arg="", value="")
    [ask] = [node for node in nodes(review.tree) if node[1].get("role") == "alertdialog"]
    assert "There is no undo of a split" in text(ask)
    assert "data-focus" in buttons(review)["cancel", ""][1]
    message(review, act="cancel", arg="", value="")
    message(review, act="apply-yes", arg="", value="")
    assert stage.cluster.splits == []


def test_a_double_press_is_answered_twice_and_done_once(stage: Stage) -> None:
    desk = planned(stage)
    review = PlanReview(desk)
    answered = review.answered
    message(review, act="approve", arg="split-001", value="")
    message(review, act="approve", arg="split-001", value="")
    assert review.answered == answered + 2
    rows = stage.catalog().read(f"approval/{desk.current.plan_id}").num_rows  # type: ignore[union-attr]
    assert rows == 1
    stage.hold()
    message(review, act="apply", arg="", value="")
    message(review, act="apply-yes", arg="", value="")
    message(review, act="apply-yes", arg="", value="")
    stage.free()
    assert desk.wait(WAIT_S)
    assert len(stage.connector.calls) == 1


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"act": "nonsense"},
        {"act": "approve", "arg": "split-999", "value": ""},
        {"act": ["approve"], "arg": "split-001"},
        {"act": "approve", "arg": "x" * 10_000},
        {"act": "page", "arg": "-1e9"},
        {"act": "approve", "arg": {"a": 1}},
    ],
)
def test_what_the_page_sends_is_input(stage: Stage, content: dict[str, Any]) -> None:
    desk = planned(stage)
    review = PlanReview(desk)
    message(review, **content)
    assert desk.known().decisions == {}


def test_a_stale_plan_offers_to_plan_again_and_nothing_else(stage: Stage) -> None:
    desk = planned(stage)
    review = PlanReview(desk)
    stage.cluster.foreign_split(b"c")
    desk.collect()
    assert "This plan is stale." in text(review.tree)
    assert enabled(review, "plan-again", "stale")
    assert not enabled(review, "approve-all")
    assert not enabled(review, "apply")
    [alert] = [node for node in nodes(review.tree) if node[1].get("role") == "alert"]
    assert "the routes are at version 2" in text(alert)
    review.press("plan-again", "stale")
    assert desk.wait(WAIT_S)
    assert "This plan is stale." not in text(review.tree)
    assert enabled(review, "approve-all")


def test_who_comes_second_reads_who_was_first(stage: Stage) -> None:
    anna = planned(stage)
    bert = stage.desk("bert", pid=2)
    review = PlanReview(bert)
    anna.approve()
    review.press("approve-all")
    assert review.said["ok"] is True or "anna" in review.said["text"]
    assert "by anna" in text(review.tree)
    review.press("approve", "split-001")
    assert "anna" in review.said["text"]


def test_an_interrupted_job_can_be_resumed_and_abandoned_with_a_question(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(faults=[None, Fault.UNAVAILABLE])
    desk = planned(stage)
    monitor = JobMonitor(desk)
    desk.approve()
    desk.apply()
    assert desk.wait(WAIT_S)
    assert "interrupted" in text(monitor.tree)
    assert monitor.said["ok"] is False
    assert enabled(monitor, "retry")
    message(monitor, act="retry-yes", arg="", value="")
    assert len(stage.cluster.splits) == 1
    message(monitor, act="abandon", arg="", value="")
    message(monitor, act="cancel", arg="", value="")
    message(monitor, act="retry", arg="", value="")
    message(monitor, act="retry-yes", arg="", value="")
    assert desk.wait(WAIT_S)
    assert len(stage.cluster.splits) == 4
    assert not enabled(monitor, "abandon")


def test_abandoning_withdraws_what_is_left(stage: Stage) -> None:
    desk = planned(stage)
    monitor = JobMonitor(desk)
    desk.approve()
    monitor.press("abandon")
    monitor.press("abandon-yes")
    assert desk.jobs() == []
    assert all(not each.approved for each in desk.known().decisions.values())


def test_the_first_phase_is_told_before_the_decision_is_kept(stage: Stage) -> None:
    desk = planned(stage)
    monitor = JobMonitor(desk)
    seen: list[str] = []
    monitor.observe(lambda change: seen.append(text(change["new"])), names="tree")
    desk.approve()
    assert "4 recording" in seen[0]
    assert "4 waiting" in seen[-1]


def test_sorting_filtering_and_paging_happen_in_the_kernel(stage: Stage) -> None:
    desk = stage.desk()
    table = RouteTable(desk)
    assert desk.wait(WAIT_S)
    message(table, act="sort", arg="route", value="")
    assert not table.question.descending
    message(table, act="sort", arg="route", value="")
    assert table.question.descending
    message(table, act="sort", arg="__class__", value="")
    assert table.question.sort == "route"
    message(table, act="filter", arg="", value="<b>nothing</b>")
    assert "none of 3\u00a0routes matches" in text(table.tree)
    message(table, act="filter", arg="", value="")
    message(table, act="verdict", arg="", value="cold")
    assert table.question.verdict == "cold"
    message(table, act="verdict", arg="", value="x")
    assert table.question.verdict == ""
    heads = [node for node in tagged(table, "th") if "aria-sort" in node[1]]
    assert [node[1]["aria-sort"] for node in heads] == ["descending"]


def test_every_table_has_scoped_headings_and_every_button_a_name(stage: Stage) -> None:
    desk = planned(stage)
    desk.approve("split-001")
    made = Workbench(desk)
    assert desk.wait(WAIT_S)
    made.review.press("apply")
    made.monitor.press("earlier")
    for panel in (made.loop, made.routes, made.review, made.monitor):
        for table in tagged(panel, "table"):
            assert any(node[0] == "caption" for node in nodes(table))
            assert all("scope" in node[1] for node in nodes(table) if node[0] == "th")
        for node in tagged(panel, "button"):
            assert node[1].get("aria-label") or text(node).strip()
        names = [node[1].get("aria-label") or text(node) for node in buttons(panel).values()]
        assert len(names) == len(set(names)), "two buttons have one name"


def test_keys_of_any_bytes_are_texts_in_every_widget(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage([HOSTILE[3]], keys=[*HOSTILE, b"m", b"zz"], splits=5)
    desk = planned(stage)
    desk.approve()
    made = Workbench(desk)
    assert desk.wait(WAIT_S)
    for panel in (made.routes, made.review, made.monitor):
        for node in nodes(panel.tree):
            for each in (*node[1].values(), *(c for c in node[2] if isinstance(c, str))):
                assert each.replace("\u00a0", " ").isprintable(), repr(each)
                assert len(each) < 3_000
    shown = text(made.review.tree) + text(made.routes.tree)
    assert "<img/src=x/onerror=alert(1)>" in shown


def test_no_message_is_large_whatever_there_is_to_show(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from workbench.report.route_rows import RouteLoads

    desk = stage.desk()
    table = RouteTable(desk)
    assert desk.wait(WAIT_S)
    routes = seed_routes([b"k" * 2_000 + b"%06d" % n for n in range(20_000)])
    loads = RouteLoads(np.ones((len(routes), 60)), 0, 60_000_000, 3_600_000_000)
    monkeypatch.setattr(desk, "_board", RouteBoard(routes, loads))
    table.draw()
    assert "20,001" in text(table.tree)
    assert len(json.dumps(table.tree)) < MESSAGE_BYTES_MAX / 20


def test_the_module_is_small_has_no_address_and_writes_no_markup() -> None:
    module = (_STATIC / "panel.js").read_text(encoding="utf-8")
    assert len(module) < 8_000
    assert module.count("http") == 1, "the name space of SVG is no address"
    for word in ("innerHTML", "insertAdjacent", "eval(", "import(", "fetch("):
        assert word not in module
    style = (_STATIC / "panel.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_the_tags_and_attributes_of_the_page_are_those_of_the_kernel() -> None:
    from workbench.report.markup import ATTRIBUTES, TAGS

    module = (_STATIC / "panel.js").read_text(encoding="utf-8").replace('" +\n    "', "")
    for name in TAGS | ATTRIBUTES:
        assert name in module, name


def test_a_brush_that_is_set_by_hand_reaches_the_table(stage: Stage) -> None:
    desk = stage.desk()
    table = RouteTable(desk)
    assert desk.wait(WAIT_S)
    table.press("page", "3")
    desk.look(Brush(span=Span(b"q", None)))
    page = table.page()
    assert page is not None
    assert [row.route_id for row in page.rows] == [3]
    assert table.question.page == 0
