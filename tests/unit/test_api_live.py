"""Claims about a cluster in hand: what was started is stopped, what is applied is what came."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import workbench as wb
from workbench.cli.main import cli
from workbench.session import local_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def trace(folder: Path) -> Path:
    return wb.datasets("hot-range", out=folder, accesses=4_000, seed=3).path("hot-range")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[wb.LocalCluster]:
    with wb.cluster_up(folder / "one", nodes=1, groups=2, window="500ms") as found:
        yield found
    assert not local_cluster.status(folder / "one").up


@pytest.fixture(scope="module")
def collected(cluster: wb.LocalCluster, trace: Path, folder: Path) -> wb.Catalog:
    catalog = wb.open(folder / "catalog", create=True)
    with cluster.clients(trace, seconds=2.5) as clients:
        rounds = list(wb.follow(cluster, catalog, cluster="shop", every="400ms", times=7))
    assert all(isinstance(each, wb.Collection) for each in rounds)
    assert clients.made()[0]["accesses"] == 4_000
    last = wb.collect(cluster, catalog, cluster="shop")
    assert last.cluster == "shop"
    return catalog


def test_a_cluster_shows_its_nodes_its_routes_and_its_load(
    cluster: wb.LocalCluster, collected: wb.Catalog
) -> None:
    assert all(row["up"] and row["role"] == "leader" for row in cluster.status())
    assert cluster.capabilities.split
    with wb.connect(cluster.url) as other:
        assert len(other.routes()) >= 2
        assert len(other.load()) >= len(collected.clusters)


def test_a_local_cluster_is_shown_as_the_command_shows_it(
    cluster: wb.LocalCluster, folder: Path, tmp_path: Path
) -> None:
    shown, html = repr(cluster), cluster._repr_html_()
    told = CliRunner().invoke(cli, ["cluster", "status", "--dir", str(folder / "one")]).output
    for word in ("127.0.0.1", "leader", "up", "catalog version: ", f"url: {cluster.url}"):
        assert word in shown
        assert word in told
    assert shown.splitlines()[0].endswith(": up")
    assert "node 1 leads groups 1, 2" in shown
    assert html.count("<tr>") == 3
    assert '<td style="text-align:left">leader</td>' in html
    gone = wb.cluster_up(tmp_path / "<b>gone", nodes=2, groups=1, replicas=1)
    gone.down()
    found = gone.status()
    assert [row["state"] for row in found] == ["down", "down"]
    assert [row["role"] for row in found] == [None, None]
    assert "nobody leads group 1" in repr(gone)
    assert "wb.cluster_up(" in repr(gone)
    assert "--" not in repr(gone)
    (tmp_path / "<b>gone" / "cluster.json").unlink()
    assert repr(gone).startswith("LocalCluster('node://")
    assert "there is no cluster in" in gone._repr_html_()
    assert "<b>" not in gone._repr_html_()


def test_the_whole_loop_on_a_live_cluster_in_a_running_loop(
    cluster: wb.LocalCluster, collected: wb.Catalog, trace: Path
) -> None:
    async def cell() -> None:
        plan = wb.plan(collected, cluster="shop", max_splits=3, backtest=False)
        with pytest.raises(wb.InvalidInput) as caught:
            plan.apply()
        assert caught.value.code == "plan_not_approved"
        dry = plan.apply(dry_run=True)
        assert all(row["method"].endswith("SplitRange") for row in dry)
        plan.approve(by="anna")
        with cluster.clients(trace, seconds=2.5) as clients:
            done = plan.apply(cluster, by="anna")
        assert done.applied == plan.approved
        assert [*plan.apply(by="bert").applied] == [*done.applied]
        assert {row["by"] for row in plan.jobs()} == {"user:anna"}
        assert clients.check()[0]["lost"] == 0
        wb.collect(cluster, collected, cluster="shop")
        assert wb.verify(plan).execution == "applied"
        routes = collected.routes("shop")
        assert len(routes) == 2 + len(plan)
        assert len(collected.routes("shop", version=1)) == 2

    asyncio.run(cell())


def test_a_plan_that_another_overtook_is_refused_and_says_how_far_it_came(
    cluster: wb.LocalCluster, collected: wb.Catalog
) -> None:
    stale = wb.plan(collected, cluster="shop", max_splits=1, min_gain=0.0, backtest=False)
    stale.approve(by="anna")
    fresh = wb.plan(collected, cluster="shop", max_splits=2, min_gain=0.0, backtest=False)
    fresh.approve(by="bert")
    assert fresh.apply(by="bert").applied
    if stale.content_hash == fresh.content_hash or len(stale) == 0:
        pytest.fail("the two plans must differ for this to show anything")
    with pytest.raises(wb.Conflict) as caught:
        stale.apply(by="anna")
    assert caught.value.code == "plan_stale_version"
    assert any("0 of 1 action " in note for note in caught.value.__notes__)


def test_an_export_restores_into_an_empty_cluster(
    cluster: wb.LocalCluster, collected: wb.Catalog, folder: Path
) -> None:
    made = wb.export(cluster, collected, name="now", cluster="shop")
    assert made.complete
    assert [row["name"] for row in collected.exports()] == ["now"]
    state = collected.query("as-of", export="now")
    with wb.cluster_up(folder / "two", nodes=1, groups=2) as empty:
        assert wb.restore("now", empty, collected, dry_run=True).new_rows == 0
        restored = wb.restore("now", empty, collected, check=True)
        assert restored.new_rows == sum(row["rows"] for row in made)
        again = wb.export(empty, collected, name="again", cluster="copy")
        assert [*collected.query("as-of", export=again.name)] == [*state]
        with pytest.raises(wb.Conflict):
            wb.restore("again", empty, collected)


def test_a_cluster_that_is_up_already_goes_on_after_the_with(
    cluster: wb.LocalCluster, folder: Path
) -> None:
    with wb.cluster_up(folder / "one") as same:
        assert (same.url, same.started) == (cluster.url, False)
    assert local_cluster.status(folder / "one").up
    with pytest.raises(wb.Conflict) as caught:
        wb.cluster_up(folder / "one", nodes=2)
    assert caught.value.code == "cluster_differs"


def test_clients_are_stopped_by_an_error(cluster: wb.LocalCluster) -> None:
    def fail() -> None:
        with cluster.clients(seconds=600):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_a_cluster_that_is_none_cannot_be_stopped(tmp_path: Path) -> None:
    with pytest.raises(wb.NotFound) as caught:
        wb.cluster_down(tmp_path)
    assert caught.value.code == "cluster_absent"
