"""Claims about the composition: evidence by SQL, stale evidence, drift, broken connectors."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from workbench.errors import InvalidArgument, InvalidInput, NotFound, WorkbenchError
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, Limits, Plan
from workbench.planner.detect import Rule
from workbench.query.load import Source
from workbench.session import wiring
from workbench.session.approval import approve, approved_actions
from workbench.session.cluster import ClusterView, open_cluster
from workbench.session.collect import CollectOptions, cluster_of, collect
from workbench.session.datasets import accesses_bytes
from workbench.session.planning import false_claims, plan
from workbench.session.plans import record_plan, resolve_plan
from workbench.session.verify import verify_plan
from workbench.session.wiring import open_catalog
from workbench.traces.generate import generate


def collected(folder: Path, name: str, *, seed: int = 5, **options: object) -> ClusterView:
    trace = folder / "t.parquet"
    trace.write_bytes(accesses_bytes(generate(name, accesses=6_000, seed=seed)))
    url = str(folder / "catalog")
    collect(f"trace:{trace}", url, CollectOptions(routes="4", **options))  # type: ignore[arg-type]
    return open_cluster(open_catalog(url), None)


def first_half(view: ClusterView, source: Source | None = None, splits: int = 5) -> Plan:
    """A plan with the default gain from the first half of the load."""
    since, until = view.window(None, "50%")
    return plan(
        view,
        since=since,
        until=until,
        objective=OBJECTIVES["score"],
        limits=Limits(splits, 0.10),
        rule=Rule(),
        source=source,
    )


@pytest.mark.parametrize("source", list(Source))
def test_every_load_in_a_plan_is_what_sql_computes_from_the_parquet(
    tmp_path: Path, source: Source
) -> None:
    view = collected(tmp_path, "zipf")
    given = first_half(view, source)
    assert given.actions

    def load(span: Span) -> int:
        return view.load.span_load(source, given.objective, given.since, given.until, span)

    assert given.total_load == load(Span(b"", None))
    for route in (*given.routes_before, *given.routes_after):
        assert route.load == load(route.span)
    for action in given.actions:
        assert action.evidence.parent_load == load(action.span)
        assert action.evidence.left_load == load(Span(action.span.start, action.split_key))
        assert action.evidence.right_load == load(Span(action.split_key, action.span.end))


@pytest.mark.parametrize("source", list(Source))
def test_a_plan_from_either_evidence_is_verified_on_later_load(
    tmp_path: Path, source: Source
) -> None:
    view = collected(tmp_path, "hot-range")
    answer = verify_plan(view, first_half(view, source))
    assert answer.false_claims == ()
    assert answer.replayed.after.max_share < answer.replayed.before.max_share
    assert answer.replayed.since >= answer.plan.until


def test_both_kinds_of_evidence_count_the_same_load(tmp_path: Path) -> None:
    view = collected(tmp_path, "zipf")
    totals = {first_half(view, source).total_load for source in Source}
    assert len(totals) == 1


def test_a_moving_front_is_reported_as_drift(tmp_path: Path) -> None:
    view = collected(tmp_path, "moving-front")
    answer = verify_plan(view, first_half(view))
    assert answer.replayed.drifted


def test_a_uniform_load_is_left_alone(tmp_path: Path) -> None:
    given = first_half(collected(tmp_path, "uniform"), splits=3)
    assert given.actions == ()
    assert len(given.declined) == 4


def test_a_plan_whose_load_was_replaced_no_longer_holds(tmp_path: Path) -> None:
    given = first_half(collected(tmp_path, "zipf"))
    replaced = collected(tmp_path, "zipf", seed=6, replace=True)
    claims = false_claims(replaced, given)
    assert any("atoms_sha256" in claim for claim in claims)


def test_a_plan_cannot_be_verified_on_another_cluster(tmp_path: Path) -> None:
    given = first_half(collected(tmp_path, "zipf"))
    other = tmp_path / "other"
    other.mkdir()
    view = collected(other, "zipf", cluster="other")
    with pytest.raises(InvalidArgument) as caught:
        verify_plan(view, given)
    assert caught.value.code == "cluster_mismatch"


def test_buckets_that_cross_a_split_key_cannot_be_verified(tmp_path: Path) -> None:
    view = collected(tmp_path, "zipf", buckets=64)
    given = first_half(view, Source.LOAD_WINDOW)
    coarse = collected(tmp_path, "zipf", buckets=2, replace=True)
    with pytest.raises(InvalidInput) as caught:
        verify_plan(coarse, given)
    assert caught.value.code == "bucket_crosses_split"


def test_several_clusters_must_be_told_apart(tmp_path: Path) -> None:
    collected(tmp_path, "zipf")
    collect(
        f"trace:{tmp_path / 't.parquet'}", str(tmp_path / "catalog"), CollectOptions(cluster="b")
    )
    catalog = open_catalog(str(tmp_path / "catalog"))
    with pytest.raises(InvalidArgument, match="b, t"):
        open_cluster(catalog, None)
    assert open_cluster(catalog, "b").snapshot.routes[0].span == Span(b"", None)


def test_approvals_of_one_plan_say_nothing_of_another(tmp_path: Path) -> None:
    view = collected(tmp_path, "zipf")
    catalog = open_catalog(str(tmp_path / "catalog"))
    one, other = first_half(view, splits=2), first_half(view, splits=5)
    approve(catalog, one, [], by="anna")
    assert approved_actions(catalog, one) == tuple(a.action_id for a in one.actions)
    assert approved_actions(catalog, other) == ()


@pytest.mark.parametrize("by", ["", "  ", "a\nb", "x" * 300, "\x1b[31m"])
def test_an_approver_needs_a_printable_name(tmp_path: Path, by: str) -> None:
    view = collected(tmp_path, "zipf")
    catalog = open_catalog(str(tmp_path / "catalog"))
    with pytest.raises(InvalidArgument) as caught:
        approve(catalog, first_half(view), [], by=by)
    assert caught.value.code == "approver_invalid"
    assert catalog.list("approval/") == []


def test_a_plan_is_found_by_a_prefix_of_its_id_and_by_its_whole_hash(tmp_path: Path) -> None:
    given = first_half(collected(tmp_path, "zipf"))
    catalog = open_catalog(str(tmp_path / "catalog"))
    assert record_plan(catalog, given) is True
    assert record_plan(catalog, given) is False
    for reference in (given.plan_id[:4], given.plan_id, given.content_hash):
        assert resolve_plan(catalog, reference) == given
    wrong = given.plan_id + ("0" if given.content_hash[16] != "0" else "1")
    with pytest.raises(NotFound):
        resolve_plan(catalog, wrong)


@pytest.mark.parametrize(
    ("file", "cluster"),
    [
        ("a.csv.zst", "a"),
        ("my trace (1).csv", "my-trace-1"),
        (".hidden", "trace"),
        ("ü.csv", "trace"),
    ],
)
def test_a_file_name_suggests_a_cluster_name(file: str, cluster: str) -> None:
    assert cluster_of(Path(file)) == cluster


def test_a_connector_that_cannot_be_loaded_is_reported_and_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = EntryPoint("file", "workbench_connectors.routes_file:connect", "workbench.connectors")
    bad = EntryPoint("bad", "no_such_package:connect", "workbench.connectors")
    monkeypatch.setattr(wiring, "entry_points", lambda group: [good, bad])
    listed = {info.scheme: info.problem for info in wiring.connectors()}
    assert listed["file"] is None
    assert "no_such_package" in (listed["bad"] or "")
    with pytest.raises(WorkbenchError) as caught:
        wiring.open_routes("bad://x")
    assert caught.value.code == "connector_broken"
