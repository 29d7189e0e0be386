"""Claims about verifying a plan that was applied: only load on the new routes counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from workbench.errors import NotFound
from workbench.model.plan import OBJECTIVES, Limits
from workbench.model.routes import check_routes, seed_routes
from workbench.model.times import rfc3339
from workbench.planner.detect import Rule
from workbench.query.load import Source
from workbench.session.cluster import open_cluster
from workbench.session.collect import CollectOptions, collect
from workbench.session.datasets import accesses_bytes
from workbench.session.planning import plan
from workbench.session.verify import verify_plan
from workbench.session.wiring import open_catalog
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> ClusterView:
    folder: Path = tmp_path_factory.mktemp("verify")
    trace = folder / "t.parquet"
    trace.write_bytes(accesses_bytes(generate("hot-range", accesses=20_000, seed=5)))
    url = str(folder / "catalog")
    collect(f"trace:{trace}", url, CollectOptions(routes="4", buckets=64))
    return open_cluster(open_catalog(url), None)


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


def test_measured_load_counts_from_the_first_whole_window_after_the_last_call(
    view: ClusterView,
) -> None:
    made = planned(view, Source.LOAD_WINDOW)
    window = view.extent.window
    assert verify_plan(view, made).replayed.since == made.until
    for past, expected in (
        (timedelta(0), 0),
        (timedelta(microseconds=1), 1),
        (window, 1),
        (window * 2 + timedelta(seconds=1), 3),
        (-5 * window, 0),
    ):
        answer = verify_plan(view, made, applied_at=made.until + past)
        assert answer.replayed.since == made.until + expected * window
        assert answer.applied_at == made.until + past


def test_where_no_whole_window_came_after_it_says_so(view: ClusterView) -> None:
    made = planned(view, Source.LOAD_WINDOW)
    late = view.extent.until - timedelta(seconds=1)
    with pytest.raises(NotFound, match="was applied at") as caught:
        verify_plan(view, made, applied_at=late)
    assert caught.value.code == "load_absent"
    assert "collect again" in caught.value.hint


def test_a_time_that_is_asked_for_stays_what_it_is(view: ClusterView) -> None:
    made = planned(view, Source.LOAD_WINDOW)
    asked = rfc3339(made.until)
    answer = verify_plan(view, made, since=asked, applied_at=view.extent.until)
    assert answer.replayed.since == made.until


def test_single_accesses_are_replayed_whatever_routes_they_ran_on(view: ClusterView) -> None:
    made = planned(view, Source.ACCESS)
    late = view.extent.until + timedelta(days=1)
    plain, applied = verify_plan(view, made), verify_plan(view, made, applied_at=late)
    assert applied.replayed.events == plain.replayed.events
    assert applied.replayed.since == plain.replayed.since


def test_other_routes_than_the_plan_leaves_are_warned_of(view: ClusterView) -> None:
    made = planned(view, Source.LOAD_WINDOW)
    assert verify_plan(view, made).warnings == ()
    [warning] = verify_plan(view, made, wholly_applied=True).warnings
    assert "collect again to see them" in warning
    after = check_routes(
        replace(route, span=each.span)
        for route, each in zip(
            seed_routes([bytes([n]) for n in range(1, len(made.routes_after))]),
            made.routes_after,
            strict=True,
        )
    )
    version = made.catalog_version + len(made.actions)
    seen = replace(view, snapshot=replace(view.snapshot, routes=after, catalog_version=version))
    assert verify_plan(seen, made, wholly_applied=True).warnings == ()
    changed = replace(seen, snapshot=replace(seen.snapshot, routes=after[:-1]))
    [warning] = verify_plan(changed, made, wholly_applied=True).warnings
    assert "changed since" in warning
