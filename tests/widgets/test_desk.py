"""Claims about the desk: decided once, applied once, rebuilt from what is kept, told to all."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fakes import NOON, Fault, Killed, MortalStore
from stage import URL, Stage

from workbench.errors import InvalidArgument, NotFound
from workbench.model.keys import Span
from workbench.model.plan import Limits
from workbench.report.job_rows import JobState
from workbench.report.plan_review import Standing
from workbench.report.route_rows import Brush
from workbench.session import approval, planning
from workbench.session.applying import Application
from workbench.session.plans import record_plan
from workbench.session.receipts import read_receipts
from workbench.session.remaking import remade_claims
from workbench.widgets import deciding
from workbench.widgets.desk import Desk, DeskOptions
from workbench.widgets.proposing import Proposer, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView

WAIT_S = 20.0


def planned(stage: Stage, **more: Any) -> Desk:
    """Return a desk with a plan that the catalog has; without a back-test, which takes time."""
    desk = stage.desk(**more)
    made = desk.propose()
    assert made is not None
    record_plan(stage.catalog(), made)
    return desk


def names(desk: Desk) -> list[str]:
    assert desk.current is not None
    return [action.action_id for action in desk.current.actions]


def stands(desk: Desk) -> list[Standing]:
    found = desk.standings()
    return [found[name].standing for name in names(desk)]


def states(desk: Desk) -> list[tuple[str, str]]:
    return [(job.state.value, job.phase) for job in desk.jobs()]


def decisions_kept(stage: Stage, desk: Desk) -> list[tuple[str, str, str]]:
    assert desk.current is not None
    rows = stage.catalog().read(f"approval/{desk.current.plan_id}").to_pylist()
    return [(row["action_id"], row["decision"], row["by"]) for row in rows]


def finish(desk: Desk) -> None:
    assert desk.apply().ok
    assert desk.wait(WAIT_S)


def test_on_an_empty_catalog_it_says_why_there_is_nothing_and_decides_nothing(
    make_stage: Callable[..., Stage],
) -> None:
    desk = make_stage(empty=True).desk()
    assert "collect" in desk.absent
    assert (desk.view, desk.board, desk.answer, desk.current, desk.stale) == (None,) * 4 + ("",)
    assert not desk.approve().ok
    assert not desk.apply().ok
    assert desk.propose() is None
    assert desk.plan_again() is None
    assert desk.verify() is None


def test_a_name_that_cannot_be_recorded_is_refused_at_once(stage: Stage) -> None:
    with pytest.raises(InvalidArgument):
        stage.desk("policy:x")


def test_approved_and_applied_the_routes_are_those_that_the_plan_leaves(stage: Stage) -> None:
    desk = planned(stage)
    assert stands(desk) == [Standing.PROPOSED] * 4
    assert desk.approve().text.startswith("approved split-001, split-002")
    assert stands(desk) == [Standing.APPROVED] * 4
    finish(desk)
    assert stands(desk) == [Standing.APPLIED] * 4
    assert desk.current is not None
    assert stage.cluster.spans() == [route.span for route in desk.current.routes_after]
    assert states(desk) == [("done", "DONE")] * 4
    assert desk.told.text == "applied: all that is approved is done"
    assert desk.stale == ""


def test_what_is_asked_for_twice_is_recorded_and_called_once(stage: Stage) -> None:
    desk = planned(stage)
    first, second = desk.approve("split-001"), desk.approve("split-001")
    assert first.ok
    assert "approved before, by anna" in second.text
    assert decisions_kept(stage, desk) == [("split-001", "approved", "user:anna")]
    stage.hold()
    assert desk.apply().ok
    assert stage.begun.wait(WAIT_S)
    again = desk.apply()
    assert (again.ok, again.text) == (False, "it is being applied already")
    stage.free()
    assert desk.wait(WAIT_S)
    assert len(stage.cluster.splits) == 1
    assert not desk.apply().ok
    assert len(stage.connector.calls) == 1


def test_who_decides_on_what_another_decided_meanwhile_is_told_who_was_first(stage: Stage) -> None:
    anna = planned(stage)
    bert = stage.desk("bert", pid=2)
    assert stands(bert) == [Standing.PROPOSED] * 4
    assert anna.approve("split-001", "split-002").ok
    told = bert.approve("split-001")
    assert not told.ok
    assert told.text.startswith("anna was first: approved split-001 at 2026-")
    assert stands(bert)[:3] == [Standing.APPROVED, Standing.APPROVED, Standing.PROPOSED]
    assert {by for _, _, by in decisions_kept(stage, anna)} == {"user:anna"}
    # Now it was seen, and the rest may be decided on.
    assert bert.approve().ok
    assert [by for _, _, by in decisions_kept(stage, anna)][2:] == ["user:bert", "user:bert"]


def test_a_rejection_that_was_not_seen_is_not_overridden(stage: Stage) -> None:
    anna = planned(stage)
    bert = stage.desk("bert", pid=2)
    bert.standings()
    assert anna.reject("split-004").ok
    told = bert.approve()
    assert not told.ok
    assert "anna was first: rejected split-004" in told.text
    assert bert.approve().ok
    assert stands(bert) == [*[Standing.APPROVED] * 3, Standing.REJECTED]
    assert bert.approve("split-004").ok
    assert stands(bert)[3] is Standing.APPROVED


def test_of_two_who_decide_in_the_same_moment_one_is_recorded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, bert = planned(stage), stage.desk("bert", pid=2)
    approve, first = deciding.approve, []

    def overtaken(*arguments: Any, **named: Any) -> Any:
        if not first:
            first.append(1)
            assert anna.approve("split-001").ok
        return approve(*arguments, **named)

    monkeypatch.setattr(deciding, "approve", overtaken)
    told = bert.approve("split-001")
    assert not told.ok
    assert told.text.startswith("anna was first")
    assert decisions_kept(stage, anna) == [("split-001", "approved", "user:anna")]


def test_rejecting_what_was_approved_withdraws_it_and_says_which_it_was(stage: Stage) -> None:
    desk = planned(stage)
    desk.approve()
    assert desk.reject("split-004").ok
    assert stands(desk)[3] is Standing.WITHDRAWN
    assert desk.reject().ok
    assert stands(desk) == [Standing.WITHDRAWN] * 4
    assert not desk.apply().ok


def test_an_action_that_needs_another_is_refused_with_its_name(stage: Stage) -> None:
    desk = planned(stage)
    plan = desk.current
    assert plan is not None
    makers = {span: a.action_id for a in plan.actions for span in a.children}
    needy = next(a for a in plan.actions if a.span in makers)
    told = desk.approve(needy.action_id)
    assert not told.ok
    assert makers[needy.span] in told.text


def test_a_plan_that_goes_stale_while_it_is_looked_at_says_so_and_planning_again_helps(
    stage: Stage,
) -> None:
    desk = planned(stage)
    assert desk.approve("split-001").ok
    stage.cluster.foreign_split(b"c")
    desk.collect()
    assert desk.stale == "the routes are at version 2, this plan was made at version 1"
    told = desk.approve()
    assert not told.ok
    assert "plan again" in told.text
    made = desk.plan_again()
    assert made is not None
    assert made.catalog_version == 2
    assert desk.stale == ""
    assert desk.approve().ok
    finish(desk)
    assert set(stands(desk)) == {Standing.APPLIED}


def test_routes_that_change_under_a_run_end_it_and_it_is_stale(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(faults=[None, Fault.FOREIGN_SPLIT])
    desk = planned(stage)
    desk.approve()
    finish(desk)
    assert not desk.told.ok
    assert "is stale" in desk.told.text
    assert "is stale" in desk.stale
    assert stands(desk)[0] is Standing.APPLIED
    assert [state for state, _ in states(desk)][:2] == ["done", "interrupted"]


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.UNKNOWN_BEFORE, Fault.UNKNOWN_AFTER])
def test_a_node_that_goes_away_during_a_job_is_told_and_the_job_goes_on_later(
    make_stage: Callable[..., Stage], fault: Fault
) -> None:
    stage = make_stage(faults=[None, fault])
    desk = planned(stage)
    desk.approve()
    finish(desk)
    assert not desk.told.ok
    jobs = desk.jobs()
    assert [job.state for job in jobs[:3]] == [
        JobState.DONE,
        JobState.INTERRUPTED,
        JobState.WAITING,
    ]
    assert jobs[1].error == desk.told.text
    finish(desk)
    assert states(desk) == [("done", "DONE")] * 4
    assert len(stage.cluster.splits) == 4


def test_a_refusal_is_kept_as_failed_and_can_be_retried(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(faults=[Fault.REFUSED])
    desk = planned(stage)
    desk.approve()
    finish(desk)
    assert stands(desk)[0] is Standing.FAILED
    first = desk.jobs()[0]
    assert (first.state, first.phase) == (JobState.FAILED, "CALL")
    assert first.error is not None
    assert "\x1b" not in first.error
    again = stage.desk("bert", pid=2)
    assert again.jobs()[0].state is JobState.FAILED
    finish(again)
    assert stands(again) == [Standing.APPLIED] * 4


def test_what_is_abandoned_while_it_runs_is_not_called(stage: Stage) -> None:
    desk = planned(stage)
    desk.approve()
    stage.hold()
    desk.apply()
    assert stage.begun.wait(WAIT_S)
    assert desk.abandon().ok
    stage.free()
    assert desk.wait(WAIT_S)
    assert len(stage.cluster.splits) == 1
    assert stands(desk) == [Standing.APPLIED, *[Standing.WITHDRAWN] * 3]
    assert not desk.abandon().ok


def test_every_phase_is_told_while_it_goes_on(stage: Stage) -> None:
    desk = planned(stage)
    desk.approve("split-001")
    seen: list[tuple[str, str]] = []
    called = threading.Event()

    def note(topic: str) -> None:
        if topic == "jobs":
            seen.append(states(desk)[0])
            if seen[-1] == ("running", "CALL"):
                called.set()

    desk.watch(note)
    stage.hold()
    desk.apply()
    assert called.wait(WAIT_S), "a call that takes long is not shown"
    stage.free()
    assert desk.wait(WAIT_S)
    assert seen[-1] == ("done", "DONE")
    order = ["LEASE", "CALL", "RECEIPT", "DONE"]
    told = [phase for at, (_, phase) in enumerate(seen) if at == 0 or seen[at - 1][1] != phase]
    assert told == [phase for phase in order if phase in told]


def test_a_listener_that_fails_harms_neither_the_run_nor_the_others(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    desk, told = planned(stage), []

    def broken(_topic: str) -> None:
        raise ValueError

    desk.watch(broken)
    stop = desk.watch(told.append)
    desk.approve()
    finish(desk)
    assert "jobs" in told
    assert "a listener failed" in caplog.text
    stop()
    told.clear()
    desk.look(None)
    assert told == []


def test_another_desk_shows_the_same_from_the_catalog_alone(stage: Stage) -> None:
    desk = planned(stage)
    desk.approve("split-001", "split-002")
    finish(desk)
    desk.reject("split-003")
    other = stage.desk("bert", pid=2)
    assert other.current == desk.current
    assert other.standings() == desk.standings()
    assert states(other) == states(desk)


def killed_in_a_call(stage: Stage, store: MortalStore) -> Desk:
    """Let a kernel die in its second call; return the desk of the next kernel."""
    desk = planned(stage)
    desk.approve()
    assert desk.current is not None

    def die(moment: str) -> None:
        if moment == "after" and stage.cluster.version == 3:
            store.dead = True
            raise Killed

    stage.connector.on_call = die
    work = Application(stage.catalog(), desk.current, by="anna", machine=stage.machine(1))
    with pytest.raises(Killed):
        work.run()
    store.dead = False
    stage.connector.on_call = lambda _moment: None
    return stage.desk("bert", pid=2)


def test_a_kernel_that_dies_in_a_job_is_seen_by_the_next_which_goes_on(
    make_stage: Callable[..., Stage],
) -> None:
    store = MortalStore()
    stage = make_stage(store=store)
    desk = killed_in_a_call(stage, store)
    # Nobody can know yet that it is gone: its lease holds.
    assert [s for s, _ in states(desk)] == ["done", "running", "waiting", "waiting"]
    told = desk.apply()
    assert not told.ok
    assert "anna applies this plan from host, process 1" in told.text
    stage.running.discard(1)
    jobs = desk.jobs()
    assert jobs[1].state is JobState.INTERRUPTED
    assert "which is gone; resume goes on" in str(jobs[1].error)
    finish(desk)
    assert states(desk) == [("done", "DONE")] * 4
    assert len(stage.cluster.splits) == 4, "the split that was made before is found, not repeated"


def test_a_run_elsewhere_is_followed_to_its_end(stage: Stage) -> None:
    anna = planned(stage)
    anna.approve()
    stage.hold()
    anna.apply()
    assert stage.begun.wait(WAIT_S)
    bert = stage.desk("bert", pid=2)
    told: list[str] = []
    bert.watch(told.append)
    assert bert.follow(0.01)
    assert states(bert)[0][0] == "running"
    stage.free()
    assert anna.wait(WAIT_S)
    assert bert.wait(WAIT_S)
    assert states(bert) == [("done", "DONE")] * 4
    assert "jobs" in told
    assert not bert.follow(0.01)


def test_it_works_inside_a_running_event_loop(stage: Stage) -> None:
    async def cell() -> list[Standing]:
        desk = planned(stage)
        desk.approve()
        desk.apply()
        assert await asyncio.to_thread(desk.wait, WAIT_S)
        return stands(desk)

    assert asyncio.run(cell()) == [Standing.APPLIED] * 4


def test_a_proposal_for_a_brush_is_the_plan_that_sql_gives(stage: Stage) -> None:
    desk = stage.desk()
    brush = Brush(NOON - timedelta(minutes=20), NOON - timedelta(minutes=5), Span(b"c", b"t"))
    desk.look(brush)
    made = desk.propose()
    assert made is not None
    assert desk.current is made
    view = desk.view
    assert view is not None
    assert desk.proposer is not None
    assert desk.proposer.prepare() is not None, "the load was not in memory"
    by_sql = planning.plan(
        view,
        since=made.since,
        until=made.until,
        objective=desk.options.objective,
        limits=within(desk.options.limits, brush.span),
        rule=desk.options.rule,
    )
    assert made == by_sql
    assert (made.since, made.until) == (brush.since, brush.until)
    assert made.actions
    assert all(b"c" <= action.split_key < b"t" for action in made.actions)
    assert planning.false_claims(view, made) == []
    assert desk.approve().ok


@pytest.fixture
def made_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the plans that were made again before something was decided on them."""
    found: list[str] = []

    def counting(view: ClusterView, plan: Plan) -> list[str]:
        found.append(plan.plan_id)
        return remade_claims(view, plan)

    monkeypatch.setattr(approval, "remade_claims", counting)
    return found


def test_a_proposal_that_was_made_here_is_approved_without_making_it_again(
    stage: Stage, made_again: list[str]
) -> None:
    desk = stage.desk()
    desk.propose()
    assert [desk.approve(name).ok for name in names(desk)] == [True] * 4
    assert made_again == []
    finish(desk)
    assert stands(desk) == [Standing.APPLIED] * 4


def test_what_another_collected_after_the_proposal_makes_it_stale_all_the_same(
    stage: Stage, made_again: list[str]
) -> None:
    desk = stage.desk()
    desk.propose()
    assert desk.approve("split-001").ok
    stage.windows -= 1
    stage.collect(stage.catalog())
    told = desk.approve("split-002")
    assert (told.ok, "plan again" in told.text) == (False, True)
    assert [kept[0] for kept in decisions_kept(stage, desk)] == ["split-001"]


def test_a_plan_that_the_catalog_has_is_made_again_once_ahead_or_when_it_is_approved(
    stage: Stage, made_again: list[str]
) -> None:
    first = planned(stage)
    assert first.current is not None
    ahead, later = stage.desk("ben"), stage.desk("cleo")
    ahead.look_ahead()
    assert made_again == [first.current.plan_id]
    assert ahead.approve("split-001").ok
    assert ahead.approve("split-002").ok
    assert made_again == [first.current.plan_id]
    assert later.approve("split-003").ok
    assert made_again == [first.current.plan_id] * 2


def test_looking_ahead_at_a_plan_that_is_wrong_raises_nothing_and_approving_refuses_it(
    stage: Stage,
) -> None:
    made = stage.desk().propose()
    assert made is not None
    declined = (replace(made.declined[0], reason="it is no route"), *made.declined[1:])
    desk = stage.desk(plan=replace(made, declined=declined))
    desk.look_ahead()
    assert not desk.approve().ok
    assert stands(desk) == [Standing.PROPOSED] * 4


def test_load_that_fits_no_cube_is_planned_by_sql(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Proposer, "_read", lambda _self: None)
    desk = stage.desk()
    made = desk.propose()
    assert made is not None
    assert made.actions
    assert planning.false_claims(desk.view, made) == []  # type: ignore[arg-type]


def test_a_proposal_never_takes_the_place_of_a_plan_that_is_decided_on(stage: Stage) -> None:
    desk = planned(stage)
    desk.approve("split-001")
    before = desk.current
    desk.look(Brush(span=Span(b"", b"h")))
    made = desk.propose()
    assert desk.current is before
    assert desk.suggestion is made
    assert desk.take_suggestion().ok
    assert desk.current is made
    assert desk.suggestion is None
    assert not desk.take_suggestion().ok


def test_a_brush_without_load_is_told(stage: Stage) -> None:
    desk = stage.desk(options=DeskOptions(limits=Limits(4, 0.0)))
    # A span that no key lies in can be cut nowhere.
    desk.look(Brush(span=Span(b"zz", None)))
    told = desk.attempt(desk.propose)
    assert desk.current is None or desk.current.actions == ()
    assert told.ok or told.text


def test_of_a_trace_nothing_can_be_applied_but_all_else_works(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(source="trace:t.csv")
    desk = stage.desk(options=DeskOptions(until="50%", limits=Limits(4, 0.0)))
    assert desk.target is None
    assert desk.plan_again() is not None
    assert desk.approve().ok
    answer = desk.verify()
    assert answer is not None
    assert answer.replayed.after.max_share < answer.replayed.before.max_share
    assert desk.verified is answer
    with pytest.raises(NotFound):
        desk.collect()


def test_what_fails_in_the_background_is_told_and_the_same_is_not_begun_twice(
    stage: Stage,
) -> None:
    desk = planned(stage)
    stage.connector.down = True
    assert desk.later("planning", desk.plan_again)
    assert desk.wait(WAIT_S)
    assert not desk.told.ok
    assert "nobody answers" in desk.told.text
    stage.connector.down = False
    gate = stage.begun
    assert desk.later("waiting", lambda: gate.wait(WAIT_S), "done")
    assert not desk.later("waiting", lambda: None)
    assert desk.busy == ("waiting",)
    gate.set()
    assert desk.wait(WAIT_S)
    assert desk.told.text == "done"


def test_earlier_jobs_are_those_of_other_plans(stage: Stage) -> None:
    desk = planned(stage)
    desk.approve("split-001")
    finish(desk)
    first = desk.current
    assert desk.earlier_jobs() == []
    assert desk.plan_again() is not None
    assert first is not None
    assert [job.plan_id for job in desk.earlier_jobs()] == [first.plan_id]
    assert stage.opened[0] == URL
    assert read_receipts(stage.catalog(), first.plan_id)
    assert desk.open_plan(first.plan_id) == first


def test_an_action_that_the_plan_does_not_have_is_refused_and_nothing_is_recorded(
    stage: Stage,
) -> None:
    desk = planned(stage)
    told = desk.approve(names(desk)[0], "split-999")
    assert (told.ok, told.text) == (
        False,
        "the plan has no action split-999; nothing was recorded",
    )
    assert Standing.APPROVED not in stands(desk)


def test_an_attempt_that_says_nothing_does_not_repeat_what_was_said_before(stage: Stage) -> None:
    desk = planned(stage)
    before = desk.reject(names(desk)[0])
    assert desk.attempt(lambda: None) == desk.told
    assert desk.told.text == "done" != before.text
