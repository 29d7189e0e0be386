"""Claims about the composition: evidence by SQL, stale evidence, drift, broken connectors."""

from __future__ import annotations

import json
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from workbench.errors import Conflict, InvalidArgument, InvalidInput, NotFound, WorkbenchError
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, Limits, Plan, plan_from_json, plan_to_json
from workbench.planner.detect import Rule, Verdict
from workbench.planner.outcome import Outcome
from workbench.query.load import Source
from workbench.session import collect as collecting
from workbench.session import wiring
from workbench.session.approval import approve, approved_actions, user
from workbench.session.cluster import ClusterView, open_cluster
from workbench.session.collect import CollectOptions, cluster_of, collect
from workbench.session.datasets import accesses_bytes
from workbench.session.look import hot
from workbench.session.planning import false_claims, plan
from workbench.session.plans import record_plan, resolve_plan
from workbench.session.verify import verify_plan
from workbench.session.wiring import open_catalog
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from workbench.catalog.catalog import Catalog


def collected(folder: Path, name: str, *, seed: int = 5, **options: object) -> ClusterView:
    trace = folder / "t.parquet"
    trace.write_bytes(accesses_bytes(generate(name, accesses=6_000, seed=seed)))
    url = str(folder / "catalog")
    collect(f"trace:{trace}", url, CollectOptions(**{"routes": "4", **options}))  # type: ignore[arg-type]
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


def test_a_plan_over_routes_with_gaps_holds(tmp_path: Path) -> None:
    rows = [
        {"route_id": 1, "start": "", "end": b"item/00003".hex(), "group": 1},
        {"route_id": 2, "start": b"item/00006".hex(), "end": None, "group": 1},
    ]
    routes = tmp_path / "routes.json"
    routes.write_text(json.dumps({"catalog_version": 4, "routes": rows}))
    view = collected(tmp_path, "zipf", routes=f"file:{routes}")
    assert any("a key that no route holds" in warning for warning in view.warnings)
    given = first_half(view)
    assert given.actions
    assert false_claims(view, given) == []


def test_routes_of_a_file_keep_state_parent_and_time_of_split(tmp_path: Path) -> None:
    hlc = 1_767_232_500_000 << 16  # 01:55, minutes before the trace ends
    rows = [
        {"route_id": 8, "start": "", "end": b"item/00009".hex(), "group": 3, "state": "ACTIVE",
         "parent_route_id": 2, "split_at_hlc": hlc},
        {"route_id": 9, "start": b"item/00009".hex(), "end": None, "group": 3,
         "state": "WRITE_FENCED", "parent_route_id": 2, "split_at_hlc": hlc},
    ]  # fmt: skip
    routes = tmp_path / "routes.json"
    routes.write_text(json.dumps({"catalog_version": 4, "routes": rows}))
    view = collected(tmp_path, "zipf", routes=f"file:{routes}")
    assert view.snapshot.catalog_version == 1
    assert [route.split_at_hlc for route in view.snapshot.routes] == [hlc, hlc]
    assert {route.group for route in view.snapshot.routes} == {1}
    given = first_half(view)
    assert {action.span.start < b"item/00009" for action in given.actions} == {True}
    assert "WRITE_FENCED" in given.declined[-1].reason
    rule = Rule(threshold_per_minute=1)
    since, until = view.window(None, None)
    answer = hot(view, since=since, until=until, objective=OBJECTIVES["score"], rule=rule)
    assert {verdict.verdict for verdict in answer.verdicts} == {Verdict.COOLING}


def test_a_collection_that_lands_in_between_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other writer commits after this one has opened the catalog and before it commits.
    url = str(tmp_path / "catalog")
    for name, seed in (("mine", 1), ("theirs", 2)):
        table = generate("zipf", accesses=500, seed=seed)
        (tmp_path / f"{name}.parquet").write_bytes(accesses_bytes(table))
    options = CollectOptions(cluster="c")
    opened = collecting.open_or_create_catalog

    def late(catalog_url: str) -> Catalog:
        catalog = opened(catalog_url)
        monkeypatch.setattr(collecting, "open_or_create_catalog", opened)
        collect(f"trace:{tmp_path / 'theirs.parquet'}", url, options)
        return catalog

    monkeypatch.setattr(collecting, "open_or_create_catalog", late)
    with pytest.raises(Conflict) as caught:
        collect(f"trace:{tmp_path / 'mine.parquet'}", url, options)
    assert caught.value.code == "cluster_exists"
    assert open_catalog(url).get("c/access").properties["source"] == "trace:theirs.parquet"


def test_replacing_load_warns_of_the_plans_that_were_made_from_it(tmp_path: Path) -> None:
    view = collected(tmp_path, "zipf")
    given = first_half(view)
    record_plan(open_catalog(str(tmp_path / "catalog")), given)
    again = collected(tmp_path, "zipf", seed=6, replace=True)
    assert again.warnings == ()  # about the plans, not about the load
    trace = tmp_path / "t.parquet"
    trace.write_bytes(accesses_bytes(generate("zipf", accesses=6_000, seed=7)))
    options = CollectOptions(routes="4", replace=True)
    answer = collect(f"trace:{trace}", str(tmp_path / "catalog"), options)
    assert given.plan_id in answer.warnings[-1]


def test_a_warning_of_the_trace_stays_with_its_load(tmp_path: Path) -> None:
    view = collected(tmp_path, "renumbered")
    assert any("split planning means nothing" in warning for warning in view.warnings)


def test_a_plan_is_verified_on_a_later_collection_of_its_own(tmp_path: Path) -> None:
    view = collected(tmp_path, "hot-range")
    whole = plan(
        view,
        since=view.extent.since,
        until=view.extent.until,
        objective=OBJECTIVES["score"],
        limits=Limits(5, 0.1),
        rule=Rule(),
    )
    with pytest.raises(NotFound, match="--on"):
        verify_plan(view, whole)
    url = str(tmp_path / "catalog")
    for name, hours in (("earlier", -24), ("same", 0), ("later", 24)):
        table = generate("hot-range", accesses=6_000, seed=5 if name == "same" else 9)
        moved = pc.add(table.column("time"), pa.scalar(timedelta(hours=hours)))
        table = table.set_column(0, table.schema.field(0), moved)
        (tmp_path / f"{name}.parquet").write_bytes(accesses_bytes(table))
        collect(f"trace:{tmp_path / name}.parquet", url, CollectOptions(routes="4"))
    catalog = open_catalog(url)
    for seen in ("earlier", "same", "t"):
        with pytest.raises(NotFound, match="came after"):
            verify_plan(view, whole, later=open_cluster(catalog, seen))
    answer = verify_plan(view, whole, later=open_cluster(catalog, "later"))
    assert answer.false_claims == ()
    assert answer.replayed.events == 6_000
    assert answer.replayed.outcome is Outcome.HELD


@pytest.mark.parametrize("source", list(Source))
def test_a_backtest_is_the_plan_of_the_first_half_verified_on_the_second(
    tmp_path: Path, source: Source
) -> None:
    view = collected(tmp_path, "hot-range")
    trial = first_half(view, source)
    seen = verify_plan(view, trial).replayed
    whole = plan(
        view,
        since=view.extent.since,
        until=view.extent.until,
        objective=OBJECTIVES["score"],
        limits=Limits(5, 0.1),
        rule=Rule(),
        source=source,
        backtest=True,
    )
    assert whole.backtest is not None
    assert whole.backtest.split_at == trial.until
    assert whole.backtest.splits == len(trial.actions)
    assert whole.backtest.max_share_forecast == trial.max_share_after
    assert whole.backtest.max_share_came == seen.after.max_share
    assert whole.backtest.max_share_without == seen.before.max_share
    assert whole.backtest.drift == seen.drift
    assert plan_from_json(plan_to_json(whole), "a test") == whole


def test_load_that_the_plan_was_made_from_is_no_test_of_it(tmp_path: Path) -> None:
    view = collected(tmp_path, "zipf")
    with pytest.raises(InvalidArgument) as caught:
        verify_plan(view, first_half(view), since="10%")
    assert caught.value.code == "window_seen"


def test_the_extent_of_a_trace_ends_with_its_last_access(tmp_path: Path) -> None:
    view = collected(tmp_path, "zipf")
    last = view.load.data["access"].to_table().column("time").to_pylist()[-1]
    assert view.extent.until == last + timedelta(microseconds=1)
    assert view.window("1970-01-01", "2100-01-01") == (view.extent.since, view.extent.until)


def test_percentages_fall_on_starts_of_windows(tmp_path: Path) -> None:
    view = collected(tmp_path, "zipf")
    for percentage in ("0%", "33.3%", "50%", "99%"):
        moment = view.window(percentage, None)[0]
        assert (moment - view.extent.since) % view.extent.window == timedelta(0)


def test_bytes_need_a_threshold_of_their_own(tmp_path: Path) -> None:
    view = collected(tmp_path, "hot-range")
    since, until = view.window(None, None)
    bytes_ = OBJECTIVES["bytes"]
    answer = hot(view, since=since, until=until, objective=bytes_, rule=Rule())
    assert {verdict.verdict for verdict in answer.verdicts} == {Verdict.UNKNOWN}
    rule = Rule(threshold_per_minute=100)
    answer = hot(view, since=since, until=until, objective=bytes_, rule=rule)
    assert answer.verdicts[0].verdict is Verdict.HOT


def test_withdrawing_names_all_that_depends_on_it(tmp_path: Path) -> None:
    view = collected(tmp_path, "hot-range")
    catalog = open_catalog(str(tmp_path / "catalog"))
    given = first_half(view, splits=6)
    approve(catalog, given, [], approver=user("anna"))
    with pytest.raises(InvalidArgument, match="withdraw what depends on it too: ") as caught:
        approve(catalog, given, ["split-001"], approver=user("anna"), withdraw=True)
    named = caught.value.hint.partition(": ")[2].split()
    left = approve(catalog, given, ["split-001", *named], approver=user("anna"), withdraw=True)
    assert not set(left.approved) & {"split-001", *named}
    last = given.actions[-1].action_id
    with pytest.raises(InvalidArgument, match="approve what it depends on too: ") as caught:
        approve(catalog, given, [named[-1]], approver=user("anna"))
    needed = caught.value.hint.partition(": ")[2].split()
    assert approve(catalog, given, [*needed, named[-1]], approver=user("anna")).approved
    assert last


def test_an_approval_in_a_catalog_without_the_cluster_is_refused(tmp_path: Path) -> None:
    given = first_half(collected(tmp_path, "zipf"))
    other = tmp_path / "other"
    other.mkdir()
    collected(other, "zipf", cluster="other")
    with pytest.raises(NotFound) as caught:
        approve(open_catalog(str(other / "catalog")), given, [], approver=user("anna"))
    assert caught.value.code == "cluster_absent"


def test_a_plan_that_was_made_from_other_load_or_routes_is_not_approved(tmp_path: Path) -> None:
    given = first_half(collected(tmp_path, "zipf"))
    for options in ({"seed": 6}, {"routes": "5"}):
        collected(tmp_path, "zipf", replace=True, **options)
        catalog = open_catalog(str(tmp_path / "catalog"))
        with pytest.raises(Conflict) as caught:
            approve(catalog, given, [], approver=user("anna"))
        assert caught.value.code == "plan_stale"
        assert catalog.list("approval/") == []


def test_whoever_loses_the_race_to_create_a_catalog_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "catalog")
    create = wiring.create_catalog

    def late(place: str) -> Catalog:
        create(place)
        return create(place)

    monkeypatch.setattr(wiring, "create_catalog", late)
    assert wiring.open_or_create_catalog(url).seq == 0


def test_a_decision_says_what_it_changed(tmp_path: Path) -> None:
    given = first_half(collected(tmp_path, "zipf"))
    catalog = open_catalog(str(tmp_path / "catalog"))
    everything = tuple(action.action_id for action in given.actions)
    for withdraw, changed in ((True, ()), (False, everything), (False, ()), (True, everything)):
        decision = approve(catalog, given, [], approver=user("anna"), withdraw=withdraw)
        assert decision.changed == changed


def test_only_hot_needs_a_threshold(tmp_path: Path) -> None:
    view = collected(tmp_path, "zipf")
    since, until = view.window(None, None)
    with pytest.raises(InvalidArgument) as caught:
        plan(
            view,
            since=since,
            until=until,
            objective=OBJECTIVES["bytes"],
            limits=Limits(3, 0.1, only_hot=True),
            rule=Rule(),
        )
    assert caught.value.code == "threshold_missing"


def test_a_plan_and_its_approval_come_in_one_record(tmp_path: Path) -> None:
    given = first_half(collected(tmp_path, "zipf"))
    catalog = open_catalog(str(tmp_path / "catalog"))
    before = catalog.seq
    approve(catalog, given, [], approver=user("anna"))
    assert catalog.seq == before + 1


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
    approve(catalog, one, [], approver=user("anna"))
    assert approved_actions(catalog, one) == tuple(a.action_id for a in one.actions)
    assert approved_actions(catalog, other) == ()


@pytest.mark.parametrize(
    "by", ["", "  ", "a\nb", "x" * 300, "\x1b[31m", "policy:nightly", "user:x"]
)
def test_an_approver_needs_a_printable_name(tmp_path: Path, by: str) -> None:
    view = collected(tmp_path, "zipf")
    catalog = open_catalog(str(tmp_path / "catalog"))
    with pytest.raises(InvalidArgument) as caught:
        approve(catalog, first_half(view), [], approver=user(by))
    assert caught.value.code == "approver_invalid"
    assert catalog.list("approval/") == []


def test_a_plan_is_found_by_a_prefix_of_its_id_and_by_its_whole_hash(tmp_path: Path) -> None:
    given = first_half(collected(tmp_path, "zipf"))
    catalog = open_catalog(str(tmp_path / "catalog"))
    assert record_plan(catalog, given) is True
    assert record_plan(catalog, given) is False
    assert catalog.get(f"plan/{given.plan_id}").properties["splits"] == str(len(given.actions))
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
