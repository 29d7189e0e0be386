"""A plan on live load starts where its buckets had settled."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings

from tests.unit.test_query_islands import (
    MINUTE,
    SCORE,
    T0,
    Bucket,
    reader,
    row,
    rows_of_windows,
)
from workbench.errors import InvalidInput, NotFound
from workbench.model.plan import OBJECTIVES, Limits
from workbench.model.routes import RouteSnapshot, seed_routes
from workbench.planner.detect import Rule
from workbench.query.load import Source
from workbench.session.cluster import ClusterView
from workbench.session.planning import plan, quiet_since, settled_since

END = T0 + 6 * MINUTE
WHOLE: list[Bucket] = [(b"", None)]
FINE: list[Bucket] = [(b"", b"g"), (b"g", b"p"), (b"p", None)]


def view_of(windows: list[tuple[list[Bucket], int]]) -> ClusterView:
    """Return a cluster whose n-th window tells these buckets, each with so many reads."""
    rows = [
        row(number, bucket, 1, reads, 0)
        for number, (buckets, reads) in enumerate(windows)
        for bucket in buckets
    ]
    load = reader(rows)
    snapshot = RouteSnapshot(1, seed_routes([]), T0)
    return ClusterView("c", snapshot, load, load.extent(), {})


def settled(windows: list[tuple[list[Bucket], int]]):
    view = view_of(windows)
    return settled_since(view, view.extent.since, view.extent.until)


def test_windows_told_by_one_bucket_are_left_out_once_there_are_finer_ones() -> None:
    assert settled([(WHOLE, 9), (WHOLE, 9), (FINE, 9), (FINE, 9), (FINE, 9)]) == T0 + 2 * MINUTE


def test_a_coarse_bucket_without_load_hides_nothing() -> None:
    assert settled([(WHOLE, 0), (FINE, 9), (FINE, 9)]) == T0


def test_the_same_buckets_all_along_leave_the_start_as_it_is() -> None:
    assert settled([(FINE, 9)] * 3) == T0


def test_where_too_little_time_is_left_all_of_it_is_kept() -> None:
    assert settled([(WHOLE, 9)] * 7 + [(FINE, 9)]) == T0


def test_where_the_settled_part_has_no_load_the_whole_time_is_kept() -> None:
    quiet = [(WHOLE, 9), (WHOLE, 9), (FINE, 0), (FINE, 0), (FINE, 0)]
    assert settled(quiet) == T0
    view = view_of([(WHOLE, 9), (FINE, 9), (FINE, 9)])
    since, until = view.extent.since, view.extent.until
    assert settled_since(view, since, until, OBJECTIVES["reads"]) == T0 + MINUTE
    assert settled_since(view, since, until, OBJECTIVES["writes"]) == T0


def test_a_cluster_without_load_since_its_last_split_is_known() -> None:
    view = view_of([(FINE, 9), (FINE, 9), (FINE, 0)])
    split_ms = 1_767_225_600_000 + 100_000  # in the second window
    routes = (replace(view.snapshot.routes[0], split_at_hlc=split_ms << 16),)
    split = replace(view, snapshot=RouteSnapshot(2, routes, T0))
    live = replace(split, properties={"collected_until": "2026-01-01T00:03:00Z"})
    until = view.extent.until
    assert quiet_since(live, until, SCORE) == T0 + timedelta(seconds=100)
    assert quiet_since(split, until, SCORE) is None, "a trace"
    unsplit = replace(live, snapshot=view.snapshot)
    assert quiet_since(unsplit, until, SCORE) is None
    busy = replace(live, load=view_of([(FINE, 9)] * 3).load)
    assert quiet_since(busy, until, SCORE) is None


def test_a_quiet_cluster_is_told_how_to_get_load_for_a_plan() -> None:
    view = view_of([(FINE, 0)] * 3)
    since, until = view.extent.since, view.extent.until
    routes = (replace(view.snapshot.routes[0], split_at_hlc=1_767_232_500_000 << 16),)
    live = {"collected_until": "2026-01-01T00:03:00Z", "source": "node://n1:7001"}
    question = {"objective": SCORE, "limits": Limits(4, 0.1), "rule": Rule()}
    for properties, hint in ((live, "workbench collect node://n1:7001"), ({}, "--since")):
        asked = replace(view, properties=properties, snapshot=RouteSnapshot(2, routes, T0))
        with pytest.raises(NotFound) as caught:
            plan(asked, since=since, until=until, **question)
        assert caught.value.code == "load_absent"
        assert hint in caught.value.hint
        assert ("last changed at 2026-01-01T01:55:00Z" in caught.value.message) == bool(properties)


def test_children_of_a_split_with_their_parents_bounds_are_no_change() -> None:
    children: list[Bucket] = [(b"", b"g"), (b"g", b"p"), (b"p", None)]
    assert settled([(FINE, 9), (children, 9)]) == T0


@settings(max_examples=60, deadline=None)
@given(rows_of_windows)
def test_after_the_coarse_part_every_loaded_bucket_is_an_atom_of_its_own(drawn) -> None:
    rows = [row(*each) for each in drawn]
    load = reader(rows)
    coarse = load.coarse_until(T0, END)
    after = [each for each in rows if coarse is None or each["window_start"] >= coarse]
    starts = {each["bucket_start"] for each in rows}
    for each in after:
        if each["reads"] or each["writes"]:
            end = each["bucket_end"]
            inside = [s for s in starts if s > each["bucket_start"] and (end is None or s < end)]
            assert inside == []
    if coarse is not None:
        last = [r for r in rows if r["window_end"] == coarse and (r["reads"] or r["writes"])]
        assert last, "the coarse part ends with a window that carried load"
        atoms = load.atoms(Source.LOAD_WINDOW, SCORE, coarse, END).to_pylist()
        told = {r["bucket_start"] for r in after}
        assert {a["atom_start"] for a in atoms} <= told
    assert coarse is None or (coarse - T0) % timedelta(minutes=1) == timedelta(0)


def test_load_across_a_bound_that_the_routes_have_now_is_never_planned_on() -> None:
    """However short the rest is: giving such load to one of the routes would be a guess."""
    whole: list[Bucket] = [(b"", b"g"), (b"g", b"p"), (b"p", None)]
    split: list[Bucket] = [(b"", b"g"), (b"g", b"k"), (b"k", b"p"), (b"p", None)]
    view = view_of([(whole, 9)] * 9 + [(split, 9)])
    cut = replace(view, snapshot=RouteSnapshot(2, seed_routes([b"k"]), T0))
    since, until = view.extent.since, view.extent.until
    assert settled_since(view, since, until) == T0
    assert settled_since(cut, since, until) == T0 + 9 * MINUTE
    question = {"objective": SCORE, "limits": Limits(2, 0.1), "rule": Rule()}
    made = plan(cut, since=T0 + 9 * MINUTE, until=until, **question)
    assert made.total_load == 9 * 4
    with pytest.raises(InvalidInput) as caught:
        plan(cut, since=since, until=until, **question)
    assert caught.value.code == "bucket_crosses_route"
    assert "--since 2026-01-01T00:09:00Z" in caught.value.hint


def test_buckets_coarser_than_the_newest_are_planned_on_where_no_route_bound_cuts_them() -> None:
    whole: list[Bucket] = [(b"", b"g"), (b"g", b"p"), (b"p", None)]
    finer: list[Bucket] = [(b"", b"g"), (b"g", b"k"), (b"k", b"p"), (b"p", None)]
    view = view_of([(WHOLE, 9)] * 2 + [(whole, 9)] * 8 + [(finer, 9)])
    cut = replace(view, snapshot=RouteSnapshot(2, seed_routes([b"g"]), T0))
    # Only the first two windows cross a route's bound; the newest alone is too short to plan on.
    assert settled_since(cut, view.extent.since, view.extent.until) == T0 + 2 * MINUTE


def test_where_all_of_the_load_crosses_a_bound_the_plan_says_so() -> None:
    view = view_of([(WHOLE, 9)] * 3)
    cut = replace(view, snapshot=RouteSnapshot(2, seed_routes([b"k"]), T0))
    with pytest.raises(InvalidInput) as caught:
        plan(
            cut,
            since=settled_since(cut, view.extent.since, view.extent.until),
            until=view.extent.until,
            objective=SCORE,
            limits=Limits(2, 0.1),
            rule=Rule(),
        )
    assert caught.value.code == "bucket_crosses_route"
