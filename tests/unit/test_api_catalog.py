"""Claims about a catalog in hand: SQL, named queries, time travel, what others commit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import workbench as wb

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    made = wb.datasets("hot-range", "zipf", out=folder, accesses=3_000, seed=5)
    wb.collect(made.path("hot-range"), folder / "catalog", cluster="shop", routes=4)
    wb.collect(made.path("zipf"), folder / "catalog", cluster="stock", routes=2)
    return folder / "catalog"


@pytest.fixture
def catalog(place: Path) -> wb.Catalog:
    return wb.open(place)


def test_sql_binds_values_in_their_order_and_by_name(catalog: wb.Catalog) -> None:
    key = catalog.sql('SELECT key FROM "shop/access" LIMIT 1')[0]["key"]
    by_place = catalog.sql('SELECT count(*) AS n FROM "shop/access" WHERE key = ?', key)
    by_name = catalog.sql('SELECT count(*) AS n FROM "shop/access" WHERE key = $k', k=key)
    assert by_place[0] == by_name[0]
    assert by_place[0]["n"] > 0
    with pytest.raises(wb.InvalidArgument):
        catalog.sql("SELECT ?, $k", 1, k=2)


@pytest.mark.parametrize(
    "text",
    [
        "COPY (SELECT 1) TO '/tmp/x'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "CREATE TABLE t (a INT)",
        "SELECT 1; SELECT 2",
        "SELEC 1",
        'SELECT * FROM "shop/acces"',
    ],
)
def test_sql_only_reads_the_catalog(catalog: wb.Catalog, text: str) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        catalog.sql(text)
    assert caught.value.kind in {"invalid_input", "not_found"}


def test_sql_that_is_cut_says_so(catalog: wb.Catalog) -> None:
    cut = catalog.sql('SELECT * FROM "shop/access"', rows_max=10)
    assert (len(cut), bool(cut.warnings)) == (10, True)
    assert not catalog.sql('SELECT * FROM "shop/access"').warnings


def test_named_queries_answer_alike_by_both_engines(catalog: wb.Catalog) -> None:
    names = {row["name"] for row in catalog.queries()}
    assert {"as-of", "owner-at-version", "load-per-route"} <= names
    one, other = (
        catalog.query("load-per-route", cluster="shop", engine=engine)
        for engine in ("duckdb", "polars")
    )
    assert [*one] == [*other]
    owner = catalog.query("owner-at-version", cluster="shop", key=b"\xff", catalog_version=1)
    assert owner[0]["group"] == 1
    since = datetime(2026, 1, 1, 1, tzinfo=UTC)
    later = catalog.query("load-per-route", cluster="shop", since=since)
    assert 0 < sum(row["reads"] for row in later) < sum(row["reads"] for row in one)
    for wrong in ({"name": "as-off"}, {"name": "as-of"}, {"name": "load-heat", "engine": "pandas"}):
        with pytest.raises(wb.InvalidArgument):
            catalog.query(**wrong)


def test_several_clusters_must_be_told_apart(catalog: wb.Catalog) -> None:
    assert catalog.clusters == ["shop", "stock"]
    with pytest.raises(wb.InvalidArgument) as caught:
        wb.hot(catalog)
    assert caught.value.code == "cluster_ambiguous"
    assert len(catalog.routes("shop")) == 4
    assert wb.hot(catalog, cluster="stock").cluster == "stock"
    assert catalog.properties("shop/route")["source"] == "trace:hot-range.parquet"


def test_load_is_cut_by_time_and_has_its_windows_first(catalog: wb.Catalog) -> None:
    whole, half = catalog.load("shop"), catalog.load("shop", until="50%")
    assert whole.columns[:3] == ["window_start", "window_end", "route_id"]
    assert 0 < len(half) < len(whole)


def test_routes_of_a_version_that_was_not_collected_are_named(catalog: wb.Catalog) -> None:
    assert catalog.routes("shop", version=1).to_arrow() == catalog.routes("shop").to_arrow()
    with pytest.raises(wb.NotFound) as caught:
        catalog.routes("shop", version=7)
    assert caught.value.code == "catalog_version_absent"
    assert "1" in caught.value.hint


def test_the_catalog_as_it_was_can_be_read_and_not_written(catalog: wb.Catalog) -> None:
    then = catalog.at(1)
    assert (then.seq, then.read_only, then.clusters) == (1, True, ["shop"])
    assert catalog.at("1").clusters == ["shop"]
    assert catalog.at(0).clusters == []
    assert then.committed_at is not None
    assert catalog.at(then.committed_at).seq == 1
    assert len(wb.hot(then)) == 4
    assert then.sql('SELECT count(*) AS n FROM "shop/access"')[0]["n"] == 3_000
    with pytest.raises(wb.NotFound):
        then.read("stock/access")
    for call in (
        lambda: wb.plan(then),
        lambda: then.at(0),
        lambda: wb.collect("trace:x.csv", then),
        lambda: wb.export("node://127.0.0.1:1", then),
    ):
        with pytest.raises(wb.InvalidArgument) as caught:
            call()
        assert caught.value.code == "catalog_read_only"


def test_what_another_process_commits_is_seen_by_the_next_question(place: Path) -> None:
    mine, theirs = wb.open(place), wb.open(place)
    before = mine.seq
    plan = wb.plan(theirs, cluster="stock", until="50%", max_splits=2, backtest=False)
    assert plan.plan_id in {row["plan_id"] for row in mine.plans()}
    assert mine.seq > before
    assert mine.refresh() == mine.seq


def test_datasets_are_listed_and_read_whole(catalog: wb.Catalog) -> None:
    names = [row["name"] for row in catalog.datasets("shop/")]
    assert names == ["shop/access", "shop/load_window", "shop/route"]
    assert len(catalog.read("shop/access")) == 3_000
    with pytest.raises(wb.NotFound) as caught:
        catalog.read("shop/acces")
    assert "shop/access" in caught.value.hint


def test_a_damaged_object_is_found_by_a_check(tmp_path: Path) -> None:
    made = wb.datasets("zipf", out=tmp_path, accesses=500)
    wb.collect(made.path("zipf"), tmp_path / "catalog")
    catalog = wb.open(tmp_path / "catalog")
    assert len(catalog.check()) == 0
    damaged = next(tmp_path.glob("catalog/**/*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"X")
    assert len(catalog.check()) == 1
