"""Claims about what a move costs: the bytes that a route stores, by an export, or not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from workbench.catalog.catalog import Write
from workbench.errors import NotFound
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, Limits, plan_from_json, plan_to_json
from workbench.model.plan_parts import GroupWeight, Stored
from workbench.model.tables import VERSION
from workbench.planner.detect import Rule
from workbench.planner.words import placement_sentences
from workbench.session.cluster import open_cluster
from workbench.session.collect import CollectOptions, collect
from workbench.session.datasets import accesses_bytes
from workbench.session.planning import false_claims
from workbench.session.planning import plan as plan_load
from workbench.session.stored import newest_stored, sizes_of
from workbench.session.wiring import open_catalog
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Plan

READ_TS = 1_767_225_600_000 << 16


def version(key: bytes, value: bytes | None, commit_ts: int = READ_TS) -> dict[str, object]:
    kind = "tombstone" if value is None else "put"
    return {"key": key, "commit_ts": commit_ts, "kind": kind, "value": value, "group": 1}


def put_export(
    catalog: Catalog,
    rows: list[dict[str, object]],
    *,
    name: str = "nightly",
    read_ts: int = READ_TS,
    **properties: str,
) -> None:
    told = {
        "format": "workbench.export/1",
        "read_ts": str(read_ts),
        "cluster": "c",
        "source": "node://127.0.0.1:1",
        "catalog_version": "1",
        "groups": "1",
        "status": "complete",
        **properties,
    }
    table = pa.Table.from_pylist(rows, schema=VERSION)
    catalog.commit([Write(f"export/{name}/version", table, properties=told)])


def catalog_of(folder: Path) -> Catalog:
    trace = folder / "t.parquet"
    trace.write_bytes(accesses_bytes(generate("hot-range", accesses=3_000, seed=5)))
    url = str(folder / "catalog")
    collect(f"trace:{trace}", url, CollectOptions(routes="4", cluster="c"))
    return open_catalog(url)


def placed(catalog: Catalog, cap: int | None = None) -> Plan:
    view = open_cluster(catalog, "c")
    since, until = view.window(None, None)
    groups = (GroupWeight(1), GroupWeight(2))
    return plan_load(
        view,
        since=since,
        until=until,
        objective=OBJECTIVES["score"],
        limits=Limits(3, 0.1, groups=groups, max_bytes_moved=cap),
        rule=Rule(),
    )


def test_bytes_of_spans_are_those_of_keys_and_values_of_all_versions_up_to_read_ts(
    tmp_path: Path,
) -> None:
    catalog = catalog_of(tmp_path)
    rows = [
        version(b"a", b"12345"),
        version(b"a", b"123", READ_TS - 5),
        version(b"a", b"too late", READ_TS + 1),
        version(b"b", None),
        version(b"m", b""),
        version(b"z", b"1"),
    ]
    put_export(catalog, rows)
    stored = newest_stored(catalog, "c")
    assert stored == Stored("nightly", READ_TS)
    spans = [Span(b"", b"b"), Span(b"b", b"k"), Span(b"k", b"n"), Span(b"o", None)]
    assert sizes_of(catalog, stored)(spans) == [10, 1, 1, 2]
    assert sizes_of(catalog, stored)([Span(b"p", b"q")]) == [0]
    with pytest.raises(NotFound):
        sizes_of(catalog, Stored("other", READ_TS))(spans)


def test_the_newest_complete_export_of_the_cluster_counts(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path)
    assert newest_stored(catalog, "c") is None
    put_export(catalog, [version(b"a", b"1")], name="old", read_ts=READ_TS - 1)
    put_export(catalog, [version(b"a", b"1")], name="half", read_ts=READ_TS + 2, status="exporting")
    put_export(catalog, [version(b"a", b"1")], name="other", read_ts=READ_TS + 3, cluster="d")
    assert newest_stored(catalog, "c") == Stored("old", READ_TS - 1)


def test_without_an_export_what_moves_is_not_known_and_load_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    catalog = catalog_of(tmp_path)
    plan = placed(catalog)
    assert plan.placement is not None
    assert plan.placement.unit == "load"
    moves = [action for action in plan.actions if action.target_group is not None]
    assert moves
    assert all(action.bytes_moved is None for action in moves)
    assert "what the routes store is not known" in placement_sentences(plan)[1]
    assert false_claims(open_cluster(catalog, "c"), plan) == []


def test_with_an_export_moves_cost_what_their_keys_store_and_the_limit_is_kept(
    tmp_path: Path,
) -> None:
    catalog = catalog_of(tmp_path)
    rows = [version(b"user/%010d" % (number * 100), b"v" * 90) for number in range(10_000)]
    put_export(catalog, rows)
    plan = placed(catalog)
    assert plan.placement is not None
    assert (plan.placement.unit, plan.placement.stored) == (
        "stored_bytes",
        Stored("nightly", READ_TS),
    )
    for action in plan.actions:
        if action.target_group is not None:
            goes = action.children[-1]
            assert action.bytes_moved == 105 * sum(row["key"] in goes for row in rows)
    assert plan.placement.moved == sum(action.bytes_moved or 0 for action in plan.actions) > 0
    view = open_cluster(catalog, "c")
    assert false_claims(view, plan) == []
    assert plan_from_json(plan_to_json(plan), "a test") == plan
    capped = placed(catalog, cap=plan.placement.moved // 4)
    assert capped.placement is not None
    assert capped.placement.moved <= plan.placement.moved // 4
    assert false_claims(view, capped) == []


def test_verify_tells_where_the_export_that_a_plan_counted_by_is_another(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path)
    rows = [version(b"user/%010d" % (number * 100), b"v" * 90) for number in range(10_000)]
    put_export(catalog, rows)
    plan = placed(catalog)
    catalog.commit(
        [Write("export/nightly/version", pa.Table.from_pylist(rows[:10], schema=VERSION))]
    )
    assert false_claims(open_cluster(catalog, "c"), plan)
