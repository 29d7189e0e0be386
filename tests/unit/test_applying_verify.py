"""Claims about verifying a plan on a live cluster: what came is never what would have come."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from workbench.errors import NotFound
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, Limits
from workbench.model.routes import check_routes, seed_routes
from workbench.model.times import hlc_of_ms, rfc3339
from workbench.planner.detect import Rule
from workbench.planner.replay import replay
from workbench.query.load import LoadReader, Source
from workbench.session.cluster import open_cluster
from workbench.session.collect import CollectOptions, collect
from workbench.session.datasets import accesses_bytes
from workbench.session.planning import plan
from workbench.session.receipts import Applied
from workbench.session.verify import Execution, verify_plan
from workbench.session.wiring import open_catalog
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView
    from workbench.session.verify import VerifyAnswer


URL = "node://127.0.0.1:7001"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> ClusterView:
    folder: Path = tmp_path_factory.mktemp("verify")
    trace = folder / "t.parquet"
    trace.write_bytes(accesses_bytes(generate("hot-range", accesses=20_000, seed=5)))
    url = str(folder / "catalog")
    collect(f"trace:{trace}", url, CollectOptions(routes="4", buckets=64))
    return open_cluster(open_catalog(url), None)


@pytest.fixture(scope="module")
def view(trace: ClusterView) -> ClusterView:
    """The same load as a running cluster tells it: windows only."""
    windows = {Source.LOAD_WINDOW.value: trace.load.data[Source.LOAD_WINDOW.value]}
    return replace(trace, load=LoadReader(trace.name, windows), properties={"source": URL})


@pytest.fixture(scope="module")
def made(view: ClusterView) -> Plan:
    plan = planned(view, Source.LOAD_WINDOW)
    assert len(plan.actions) == 3
    return plan


def planned(view: ClusterView, source: Source) -> Plan:
    since, until = view.window(None, "50%")
    return plan(
        view,
        since=since,
        until=until,
        objective=OBJECTIVES["score"],
        limits=Limits(3, 0.1),
        rule=Rule(),
        source=source,
    )


def with_routes(
    view: ClusterView, spans: Iterable[Span], version: int, changed: datetime | None = None
) -> ClusterView:
    """Return the cluster with other newest routes, the first of them split at `changed`."""
    given = list(spans)
    seeds = seed_routes([bytes([n]) for n in range(1, len(given))])
    hlc = 0 if changed is None else hlc_of_ms(round(changed.timestamp() * 1_000))
    routes = check_routes(
        replace(route, span=span, split_at_hlc=hlc if number == 0 else 0)
        for number, (route, span) in enumerate(zip(seeds, given, strict=True))
    )
    return replace(view, snapshot=replace(view.snapshot, routes=routes, catalog_version=version))


def spans_after(plan: Plan, actions: int) -> list[Span]:
    """Return the spans that the first actions of a plan leave."""
    keys = sorted(
        {route.span.start for route in plan.routes_before}
        | {action.split_key for action in plan.actions[:actions]}
    )
    ends = [*keys[1:], None]
    return [Span(start, end) for start, end in zip(keys, ends, strict=True)]


def share_on(view: ClusterView, plan: Plan, answer: VerifyAnswer, spans: list[Span]) -> float:
    """Return the hottest route's share of the load of the answer's time, counted here."""
    until = view.extent.until
    events = view.load.events(Source.LOAD_WINDOW, plan.objective, answer.replayed.since, until)
    return replay(events, spans, view.extent.window_ms).max_share


def test_measured_load_counts_from_the_first_whole_window_after_the_last_call(
    view: ClusterView, made: Plan
) -> None:
    window = view.extent.window
    assert verify_plan(view, made).replayed.since == made.until
    for past, expected in (
        (timedelta(0), 0),
        (timedelta(microseconds=1), 1),
        (window, 1),
        (window * 2 + timedelta(seconds=1), 3),
        (-5 * window, 0),
    ):
        answer = verify_plan(view, made, applied=Applied(3, made.until + past))
        assert answer.replayed.since == made.until + expected * window
        assert answer.applied.at == made.until + past


@pytest.mark.parametrize("late", [timedelta(seconds=-1), timedelta(days=1)])
def test_where_no_whole_window_came_after_it_says_to_collect_again(
    view: ClusterView, made: Plan, late: timedelta
) -> None:
    with pytest.raises(NotFound, match="was applied at") as caught:
        verify_plan(view, made, applied=Applied(3, view.extent.until + late))
    assert caught.value.code == "load_absent"
    assert f"collect again: workbench collect {URL} --cluster t" in caught.value.hint
    named = replace(view, name="local")
    with pytest.raises(NotFound) as caught:
        verify_plan(view, made, later=named, applied=Applied(3, view.extent.until + late))
    assert caught.value.hint.endswith(f"collect again: workbench collect {URL}")


def test_right_after_a_plan_a_live_cluster_is_to_be_collected_again(
    view: ClusterView, trace: ClusterView
) -> None:
    since, until = view.window(None, None)
    for each, hint in ((view, f"workbench collect {URL}"), (trace, "pass --on NAME")):
        whole = plan(
            each,
            since=since,
            until=until,
            objective=OBJECTIVES["score"],
            limits=Limits(3, 0.1),
            rule=Rule(),
        )
        with pytest.raises(NotFound) as caught:
            verify_plan(each, whole)
        assert hint in caught.value.hint
        assert ("--on" in caught.value.hint) == (each is trace)


def test_a_time_that_is_asked_for_stays_what_it_is(view: ClusterView, made: Plan) -> None:
    asked = rfc3339(made.until)
    answer = verify_plan(view, made, since=asked, applied=Applied(3, view.extent.until))
    assert answer.replayed.since == made.until


def test_a_trace_is_replayed_whatever_was_applied(trace: ClusterView) -> None:
    for source in Source:
        made = planned(trace, source)
        late = Applied(len(made.actions), trace.extent.until + timedelta(days=1))
        plain, applied = verify_plan(trace, made), verify_plan(trace, made, applied=late)
        assert applied.replayed.events == plain.replayed.events
        assert applied.replayed.since == plain.replayed.since
        for answer in (plain, applied):
            assert answer.execution is Execution.REPLAYED
            assert (answer.max_share_now, answer.warnings) == (None, ())


@pytest.mark.parametrize(
    ("applied", "execution"),
    [
        (0, Execution.NOT_APPLIED),
        (1, Execution.PARTLY),
        (2, Execution.PARTLY),
        (3, Execution.APPLIED),
    ],
)
def test_what_came_is_counted_on_the_routes_that_there_are(
    view: ClusterView, made: Plan, applied: int, execution: Execution
) -> None:
    spans = spans_after(made, applied)
    seen = with_routes(view, spans, made.catalog_version + applied)
    at = made.until + timedelta(seconds=1) if applied else None
    answer = verify_plan(seen, made, applied=Applied(applied, at))
    assert answer.execution is execution
    assert answer.max_share_now == share_on(view, made, answer, spans)
    whole = answer.replayed.after.max_share
    assert (answer.max_share_now == whole) == (execution is Execution.APPLIED)
    assert answer.execution.counterfactual == bool(answer.warnings) == (applied < 3)
    if applied < 3:
        assert answer.max_share_now > 1.5 * whole
        [warning] = answer.warnings
        assert f"{applied} of 3 actions of plan {made.plan_id} are applied" in warning
        assert f"workbench apply {made.plan_id}" in warning
        assert "plan again" in warning


def test_an_unapplied_plan_whose_routes_changed_is_to_be_made_anew(
    view: ClusterView, made: Plan
) -> None:
    seen = with_routes(view, spans_after(made, 1), made.catalog_version + 1)
    [warning] = verify_plan(seen, made).warnings
    assert "routes were changed since it was made; plan again" in warning
    assert "apply" not in warning.replace("are applied", "")


def test_other_routes_than_the_plan_leaves_are_elsewhere(view: ClusterView, made: Plan) -> None:
    done = Applied(3, made.until)
    answer = verify_plan(view, made, applied=done)
    assert answer.execution is Execution.ELSEWHERE
    assert "collect again: workbench collect" in answer.warnings[0]
    version = made.catalog_version + 3
    seen = with_routes(view, spans_after(made, 3), version)
    assert verify_plan(seen, made, applied=done).warnings == ()
    changed = with_routes(view, spans_after(made, 3)[:-1], version)
    answer = verify_plan(changed, made, applied=done)
    assert answer.execution is Execution.ELSEWHERE
    assert "changed since" in answer.warnings[0]


def test_what_came_counts_from_the_last_change_of_the_routes(view: ClusterView, made: Plan) -> None:
    window = view.extent.window
    changed = made.until + 2 * window + timedelta(seconds=1)
    spans = spans_after(made, 3)
    seen = with_routes(view, spans, made.catalog_version + 3, changed)
    answer = verify_plan(seen, made, applied=Applied(3, made.until))
    assert answer.now is not None
    assert answer.now.times[0] >= made.until + 3 * window
    assert int(answer.now.loads.sum()) < int(answer.replayed.after.loads.sum())
    [warning] = answer.warnings
    assert f"changed at {rfc3339(changed.astimezone(UTC))}, after the start" in warning
    seen = with_routes(view, spans, made.catalog_version + 3, view.extent.until)
    answer = verify_plan(seen, made, applied=Applied(3, made.until))
    assert answer.max_share_now is None
    assert "no load that was counted came on them" in answer.warnings[0]


def test_a_bucket_across_a_bound_of_the_newest_routes_leaves_what_came_untold(
    view: ClusterView, made: Plan
) -> None:
    hottest = max(made.routes_after, key=lambda route: route.load).span
    cut = hottest.start + b"\x00"
    spans = spans_after(made, 3)
    at = spans.index(hottest)
    spans[at : at + 1] = [Span(hottest.start, cut), Span(cut, hottest.end)]
    seen = with_routes(view, spans, made.catalog_version + 4)
    answer = verify_plan(seen, made, applied=Applied(3, made.until))
    assert (answer.execution, answer.now) == (Execution.ELSEWHERE, None)
    assert any("cannot be told" in warning for warning in answer.warnings)
