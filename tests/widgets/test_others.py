"""Claims about what others do in the catalog: it is noticed while one looks, and at decisions."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from workbench.catalog.layout import CATALOG_PREFIX
from workbench.errors import Unavailable
from workbench.model.plan import Limits
from workbench.report.plan_review import Standing
from workbench.session.cluster import open_cluster
from workbench.session.plans import record_plan
from workbench.widgets import board
from workbench.widgets.options import DeskOptions
from workbench.widgets.panel import GLANCE_MS, SPARE_MS
from workbench.widgets.plan_review import PlanReview
from workbench.widgets.route_table import RouteTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage import Stage

    from workbench.widgets.desk import Desk
    from workbench.widgets.panel import Panel

WAIT_S = 20.0
STALE = "the routes are at version 4, this plan was made at version 1"


@pytest.fixture
def anna(stage: Stage) -> Desk:
    desk = stage.desk()
    made = desk.propose()
    assert made is not None
    record_plan(stage.catalog(), made)
    desk.standings()
    return desk


def another_plan_is_applied(stage: Stage) -> Desk:
    """Let somebody else plan, approve, apply and collect, with a catalog handle of their own."""
    bert = stage.desk("bert", pid=2, options=DeskOptions(limits=Limits(3, 0.0)))
    made = bert.propose()
    assert made is not None
    assert made.actions
    record_plan(stage.catalog(), made)
    bert.open_plan(made)
    assert bert.approve().ok
    assert bert.apply().ok
    assert bert.wait(WAIT_S)
    stage.collect(stage.catalog())
    return bert


def text(panel: Panel) -> str:
    def words(tree: list[Any]) -> str:
        return " ".join(c if isinstance(c, str) else words(c) for c in tree[2])

    return words(panel.tree)


def until(desk: Desk, seen: Callable[[], bool], act: Callable[[], object]) -> None:
    """Act, and wait until the desk told of what is to be seen."""
    found = threading.Event()

    def note(_topic: str) -> None:
        if seen():
            found.set()

    stop = desk.watch(note)
    act()
    assert found.wait(WAIT_S)
    stop()


def test_a_decision_on_a_plan_that_others_made_stale_says_so_and_offers_to_plan_again(
    stage: Stage, anna: Desk
) -> None:
    another_plan_is_applied(stage)
    review = PlanReview(anna)
    assert anna.stale == "", "nobody looked yet"
    told = anna.approve("split-001")
    assert not told.ok
    assert told.text == f"this plan is stale, nothing was recorded: {STALE}; plan again"
    assert "--catalog" not in told.text
    assert anna.stale == STALE
    assert "This plan is stale." in text(review)
    assert anna.plan_again() is not None
    assert anna.stale == ""
    assert anna.approve().ok


def test_what_is_drawn_because_of_a_press_was_not_seen_by_who_pressed(
    stage: Stage, anna: Desk
) -> None:
    bert = stage.desk("bert", pid=2)
    # As the steps of a workbench do, at every change.
    anna.watch(lambda _topic: anna.standings())
    assert bert.reject("split-004").ok
    told = anna.approve("split-004")
    assert not told.ok
    assert told.text.startswith("bert was first: rejected split-004")
    assert anna.standings()["split-004"].standing is Standing.REJECTED


def test_who_draws_while_the_cluster_is_read_anew_never_reads_that_there_is_none(
    stage: Stage, anna: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def opening(*arguments: Any) -> Any:
        seen.append(anna.view)
        return open_cluster(*arguments)

    monkeypatch.setattr(board, "open_cluster", opening)
    stage.cluster.foreign_split(b"c")
    stage.collect(stage.catalog())
    assert anna.glance()
    assert len(seen) == 1
    assert None not in seen


def test_a_plan_that_goes_stale_is_noticed_by_who_attends_without_a_press(
    stage: Stage, anna: Desk
) -> None:
    review = PlanReview(anna)
    assert anna.attend(0.01)
    assert not anna.attend(0.01), "two would look"
    until(
        anna, lambda: "This plan is stale." in text(review), lambda: another_plan_is_applied(stage)
    )
    assert anna.stale == STALE
    anna.close()


def test_what_others_decide_and_apply_appears_without_a_refresh(stage: Stage, anna: Desk) -> None:
    bert = stage.desk("bert", pid=2)
    anna.attend(0.01)

    def are(standing: Standing) -> Callable[[], bool]:
        return lambda: {each.standing for each in anna.standings().values()} == {standing}

    until(anna, are(Standing.APPROVED), bert.approve)
    assert {each.by for each in anna.standings().values()} == {"user:bert"}
    until(anna, are(Standing.APPLIED), bert.apply)
    assert [job.state.value for job in anna.jobs()] == ["done"] * 4
    assert bert.wait(WAIT_S)
    anna.close()


def test_a_plan_that_others_make_is_shown_where_there_was_none(stage: Stage) -> None:
    anna = stage.desk()
    assert anna.current is None
    bert = stage.desk("bert", pid=2)
    made = bert.propose()
    assert made is not None
    record_plan(stage.catalog(), made)
    assert anna.glance()
    assert anna.current == made


def test_a_glance_at_what_did_not_change_tells_nobody_and_reads_nothing(
    stage: Stage, anna: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna.glance()
    view, told = anna.view, []
    anna.watch(told.append)
    asked: list[str] = []
    get = type(stage.store).get

    def counted(store: object, key: str, *more: Any) -> bytes:
        asked.append(key)
        return get(store, key, *more)

    monkeypatch.setattr(type(stage.store), "get", counted)
    assert not anna.glance()
    assert len(asked) <= 2
    assert all(key.startswith(CATALOG_PREFIX) for key in asked), "data were read"
    assert told == []
    assert anna.view is view


def test_decisions_of_others_leave_the_load_as_it_was_read(stage: Stage, anna: Desk) -> None:
    board, told = anna.board, []
    anna.watch(told.append)
    assert stage.desk("bert", pid=2).approve("split-001").ok
    assert anna.glance()
    assert told == ["plan", "jobs"]
    assert anna.board is board


def test_load_that_others_collect_is_read_into_an_open_table(stage: Stage) -> None:
    desk = stage.desk()
    table = RouteTable(desk)
    assert desk.wait(WAIT_S)
    stage.cluster.foreign_split(b"c")
    stage.collect(stage.catalog())
    assert desk.glance()
    assert desk.wait(WAIT_S)
    page = table.page()
    assert page is not None
    assert page.total == 4
    desk.refresh()
    assert desk.wait(WAIT_S)
    assert table.page() is not None


def test_a_catalog_that_is_away_is_told_once_and_its_return_too(
    anna: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    anna.watch(lambda topic: told.append(anna.told.text) if topic == "told" else None)

    def away(*_arguments: object, **_named: object) -> None:
        raise Unavailable("nobody answers", code="store_unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(anna._records.catalog, "refresh", away)
        anna._lookout.look()
        anna._lookout.look()
    anna._lookout.look()
    assert told == [
        "what others do is not seen now: nobody answers",
        "the catalog can be read again",
    ]


def test_of_many_panels_that_ask_one_has_the_desk_look(stage: Stage, anna: Desk) -> None:
    panels = [PlanReview(anna), PlanReview(anna), RouteTable(anna)]
    assert anna.wait(WAIT_S)
    sent: list[Any] = []
    for panel in panels:
        panel.send = sent.append
    bert = stage.desk("bert", pid=2)
    assert bert.approve("split-001").ok
    answered, speaker = panels[0].answered, anna.speaker
    for panel in panels:
        panel._pressed(panel, {"act": "glance"}, [])
    assert sent == [{"again_ms": GLANCE_MS}, {"again_ms": SPARE_MS}, {"again_ms": SPARE_MS}]
    assert anna.wait(WAIT_S)
    assert "by bert" in text(panels[1])
    assert (panels[0].answered, anna.speaker) == (answered, speaker), "nobody pressed"


def test_attending_ends_with_close_and_takes_no_thread_along(stage: Stage) -> None:
    desk = stage.desk()
    assert desk.attend(0.01)
    [thread] = [each for each in threading.enumerate() if each.name == "workbench-attend"]
    desk.close()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert not desk.attend(0.01)
