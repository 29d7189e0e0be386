"""A plan on live load starts where its buckets had settled."""

from __future__ import annotations

from datetime import timedelta

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
from workbench.model.routes import RouteSnapshot, seed_routes
from workbench.query.load import Source
from workbench.session.cluster import ClusterView
from workbench.session.planning import settled_since

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
