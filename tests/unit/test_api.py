"""Claims about `import workbench as wb`: light, complete, the command line's defaults, no state."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

import workbench as wb
from tests.s3_servers import moto
from workbench.api import places, planning
from workbench.cli.limits import GROUPS_THERE
from workbench.cli.main import cli
from workbench.session import wiring

HEAVY = {
    "anywidget",
    "click",
    "duckdb",
    "grpc",
    "ipywidgets",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "s3fs",
    "scipy",
}


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    return wb.datasets("hot-range", out=folder, accesses=6_000, seed=5).path("hot-range")


@pytest.fixture(scope="module")
def place(trace: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = str(tmp_path_factory.mktemp("shop") / "catalog")
    wb.collect(trace, url, cluster="shop", routes=8)
    return url


@pytest.fixture
def catalog(place: str) -> wb.Catalog:
    return wb.open(place)


def planned(catalog: wb.Catalog, splits: int = 2, **options: Any) -> wb.Plan:
    """A plan on the first half, quickly made."""
    return wb.plan(catalog, until="50%", max_splits=splits, backtest=False, **options)


def test_importing_it_loads_nothing_heavy() -> None:
    script = (
        "import sys, workbench as wb\n"
        "assert dir(wb) and wb.__version__ and wb.WorkbenchError\n"
        f"print(sorted(set({sorted(HEAVY)!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_every_public_name_is_found_listed_and_documented() -> None:
    assert dir(wb) == sorted(wb.__all__)
    for name in wb.__all__:
        found = getattr(wb, name)
        assert name == "__version__" or inspect.getdoc(found), name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'hott'"):
        wb.hott  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(wb, "_nothing")


def test_report_is_the_package_and_the_function_in_any_order() -> None:
    script = (
        "import sys, workbench as wb\n"
        "if {first}: import workbench.report.html\n"
        "assert callable(wb.report)\n"
        "import inspect\n"
        "assert [*inspect.signature(wb.report).parameters][:2] == ['plan', 'path']\n"
        "import workbench.report.html as page\n"
        "from workbench.report import palette\n"
        "assert wb.report.html is page and callable(wb.report) and palette\n"
        "try:\n    wb.report('zz')\nexcept wb.InvalidArgument as e:\n    print(e.code)\n"
        "except wb.NotFound as e:\n    print(e.code)\n"
    )
    for first in ("True", "False"):
        done = subprocess.run(
            [sys.executable, "-c", script.replace("{first}", first)],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
        )
        assert done.stdout == "catalog_absent\n"


def test_the_catalog_is_the_argument_then_the_variable_then_the_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORKBENCH_CATALOG", raising=False)
    with pytest.raises(wb.NotFound) as caught:
        wb.open()
    assert caught.value.code == "catalog_absent"
    wb.open(create=True)
    assert Path(".workbench/catalog").is_dir()
    assert wb.open().clusters == []
    monkeypatch.setenv("WORKBENCH_CATALOG", place)
    assert wb.open().clusters == ["shop"]
    assert len(wb.hot()) == 8
    assert wb.open(tmp_path / ".workbench" / "catalog").clusters == []


def test_who_acts_is_the_argument_then_the_variable_then_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKBENCH_USER", "bert")
    assert (places.name_of("anna"), places.name_of(None)) == ("anna", "bert")
    monkeypatch.delenv("WORKBENCH_USER")
    assert places.name_of(None) == wiring.user_name()


def test_readers_create_no_catalog(tmp_path: Path) -> None:
    for call in (wb.open, wb.hot, wb.plan, wb.compare, wb.picture):
        with pytest.raises(wb.NotFound):
            call(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_defaults_are_those_of_the_command_line(place: str, catalog: wb.Catalog) -> None:
    run = CliRunner()
    told = json.loads(run.invoke(cli, ["plan", "--catalog", place, "--json"]).stdout)
    assert wb.plan(catalog).content_hash == told["content_hash"]
    told = json.loads(run.invoke(cli, ["hot", "--catalog", place, "--json"]).stdout)
    assert [(r["route_id"], r["verdict"]) for r in wb.hot(catalog)] == [
        (r["route_id"], r["verdict"]) for r in told["routes"]
    ]
    told = json.loads(
        run.invoke(cli, ["compare", "--catalog", place, "--until", "50%", "--json"]).stdout
    )
    assert [r["heldout_max_load"] for r in wb.compare(catalog)] == [
        r["heldout_max_load"] for r in told["policies"]
    ]


def test_collect_says_what_it_brought_and_writes_once(trace: Path) -> None:
    first = wb.collect(trace, "memory://once", window="120s", routes=4)
    assert (first.cluster, first.accesses, first.written) == ("hot-range", 6_000, True)
    assert {row["name"] for row in first} == {
        f"hot-range/{kind}" for kind in ("access", "load_window", "route")
    }
    again = wb.collect(f"trace:{trace}", "memory://once", window=timedelta(minutes=2), routes=4)
    assert not again.written
    with pytest.raises(wb.Conflict):
        wb.collect(trace, "memory://once", routes=2)
    assert wb.collect(trace, "memory://once", routes=2, replace=True).written


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("nowhere.csv", "source_unknown"),
        ("trace:absent.csv", "trace_absent"),
        ("x://y", "source_unknown"),
    ],
)
def test_a_source_that_is_none_is_refused_with_a_hint(source: str, code: str) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        wb.collect(source, "memory://refused")
    assert caught.value.code == code
    assert caught.value.hint


def test_times_are_texts_or_aware_datetimes(catalog: wb.Catalog) -> None:
    noon = datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert wb.hot(catalog, until=noon).until == noon
    assert wb.hot(catalog, until="2026-01-01T01:00:00Z").until == noon
    assert wb.hot(catalog, until="50%").until == noon
    with pytest.raises(wb.InvalidArgument) as caught:
        wb.hot(catalog, until=noon.replace(tzinfo=None))
    assert caught.value.code == "time_invalid"


@pytest.mark.parametrize("length", [0, -5, timedelta(0), "never"])
def test_a_length_of_time_is_over_zero(length: str | int | timedelta) -> None:
    with pytest.raises(wb.InvalidArgument) as caught:
        places.length_ms(length)
    assert caught.value.code == "duration_invalid"


def test_hot_tells_why_and_which_keys(catalog: wb.Catalog) -> None:
    found = wb.hot(catalog, threshold=10, windows=2)
    assert found.hot
    assert found[0]["share"] == max(row["share"] for row in found)
    assert found[0]["reasons"]
    assert abs(sum(row["share"] for row in found) - 1) < 1e-9
    assert found.keys.columns[1] == "key"
    cold = wb.hot(catalog)
    assert (cold.hot, cold.threshold_per_minute) == ((), 50_000)


def test_the_whole_loop_on_a_trace(catalog: wb.Catalog, tmp_path: Path) -> None:
    plan = planned(catalog, 4, forbid=[("user/1", b"user/2")])
    assert 0 < len(plan) <= 4
    assert plan.share_after < plan.share_before
    assert plan.approved == ()
    decision = plan.approve(by="anna")
    assert decision.approved == plan.approved == tuple(row["id"] for row in plan)
    assert [row["by"] for row in plan.approvals()] == ["user:anna"] * len(plan)
    assert plan.withdraw(plan[-1]["id"], by="bert").changed == (plan[-1]["id"],)
    assert len(plan.approved) == len(plan) - 1
    checked = wb.verify(plan.plan_id, catalog)
    assert checked.share_after == plan.replay().share_after < checked.share_before
    assert checked.false_claims == ()
    assert len(checked) == 8 + len(plan)
    windows = checked.by_window()
    assert len(windows) > 10
    assert set(windows[0]) == {"window_start", "share_before", "share_after"}
    explained = plan.explain(plan[0]["id"])
    assert all(row["holds"] for row in explained)
    assert plan.pareto[0]["splits"] == 0
    made = wb.report(plan, tmp_path / "r.html")
    assert made.bytes == len(made.html.encode()) < 3_000_000
    assert made.plan_id == plan.plan_id
    assert plan.report(tmp_path / "again.html").bytes > 10_000
    with pytest.raises(wb.WorkbenchError):
        plan.apply()
    assert len(plan.jobs()) == 0


def test_a_plan_is_found_by_its_digits_and_by_its_file(catalog: wb.Catalog, tmp_path: Path) -> None:
    plan = planned(catalog, 2)
    for suffix in (".json", ".parquet"):
        path = plan.save(tmp_path / f"plan{suffix}")
        assert wb.find_plan(path, catalog).content_hash == plan.content_hash
    assert wb.find_plan(plan.plan_id[:8], catalog).to_json() == plan.to_json()
    assert plan.plan_id in {row["plan_id"] for row in catalog.plans("shop")}
    assert len(catalog.plans("other")) == 0
    with pytest.raises(wb.InvalidArgument):
        plan.save(tmp_path / "plan.txt")
    with pytest.raises(wb.NotFound):
        wb.find_plan("0000000000", catalog)


def test_an_approval_policy_decides_on_the_whole(catalog: wb.Catalog, tmp_path: Path) -> None:
    plan = planned(catalog, 3)
    rules = tmp_path / "night.toml"
    rules.write_text('name = "night"\nmax_splits = 1\n')
    refused = plan.approve(policy=rules)
    assert (refused.approved, bool(refused.broken)) == ((), True)
    rules.write_text('name = "night"\nmax_splits = 8\n')
    assert plan.approve(policy=rules, dry_run=True).approved == ()
    assert plan.approve(policy=rules).by == "policy:night"
    for call in (
        lambda: plan.approve("split-001", policy=rules),
        lambda: plan.approve(dry_run=True),
    ):
        with pytest.raises(wb.InvalidArgument):
            call()


@pytest.mark.parametrize(
    "options",
    [
        {"max_splits": -1},
        {"min_gain": 2.0},
        {"policy": "fast"},
        {"objective": "speed"},
        {"evidence": "hearsay"},
        {"write_weight": -1},
        {"max_bytes_moved": 5},
        {"forbid": [("b", "a")]},
    ],
)
def test_an_option_that_cannot_be_is_refused_with_a_hint(
    catalog: wb.Catalog, options: dict[str, object]
) -> None:
    with pytest.raises(wb.InvalidArgument) as caught:
        wb.plan(catalog, **options)  # type: ignore[arg-type]
    assert caught.value.hint


def test_limits_shape_the_plan(catalog: wb.Catalog) -> None:
    free = planned(catalog, 4)
    keys = [row["split_key"] for row in free]
    bound = planned(catalog, 4, boundaries=[*keys[:2], "zzz"])
    assert {row["split_key"] for row in bound} <= set(keys[:2])
    prefix = planned(catalog, 4, boundaries=12)
    assert all(len(row["split_key"]) <= 12 for row in prefix)
    placed = planned(catalog, 4, groups={1: 1, 2: 3}, max_bytes_moved=10**9)
    assert {row["target_group"] for row in placed} <= {None, 1, 2}
    assert placed.model.placement is not None
    assert [(each.group, each.weight) for each in placed.model.limits.groups] == [(1, 1), (2, 3)]
    assert [planning._groups_text(each) for each in (None, "there", 3, [4, 1])] == [
        None, GROUPS_THERE, "3", "4:1,1:1"
    ]  # fmt: skip


def test_policies_are_compared_on_load_they_had_not_seen(catalog: wb.Catalog) -> None:
    found = wb.compare(catalog, policies=["robust", "none"], routes=[4, 2])
    assert [(r["routes"], r["name"]) for r in found] == [
        (2, "robust"), (2, "none"), (4, "robust"), (4, "none")
    ]  # fmt: skip
    assert found[1]["heldout_max_over_mean"] == 2.0
    assert found.until < found.heldout_until
    for wrong in ({"policies": "best"}, {"routes": []}, {"routes": 0}):
        with pytest.raises(wb.InvalidArgument):
            wb.compare(catalog, **wrong)  # type: ignore[arg-type]


def test_a_picture_is_a_png_and_a_page(catalog: wb.Catalog, tmp_path: Path) -> None:
    plan = planned(catalog, 2)
    drawn = wb.picture(catalog, plan=plan, of="route", out=tmp_path / "h.png")
    assert drawn._repr_png_() == (tmp_path / "h.png").read_bytes()
    assert drawn.png.startswith(b"\x89PNG")
    wb.picture(catalog, plan=plan.plan_id, out=tmp_path / "h.html")
    assert "<html" in (tmp_path / "h.html").read_text()
    for wrong in ({"series": "heat"}, {"of": "cell"}, {"out": "heat.gif"}):
        with pytest.raises(wb.InvalidArgument):
            wb.picture(catalog, **wrong)


def test_the_heatmap_shows_the_load_of_the_catalog(catalog: wb.Catalog) -> None:
    shown = wb.heatmap(catalog, series="writes", until="50%")
    assert shown.series == "writes"
    with pytest.raises(wb.InvalidArgument):
        wb.heatmap(catalog, series="heat")


def test_the_workbench_opens_with_a_plan(catalog: wb.Catalog) -> None:
    plan = planned(catalog, 2)
    joined = wb.workbench(catalog, plan=plan.plan_id, by="anna", until="50%")
    assert joined.desk.current.content_hash == plan.content_hash
    joined.desk.close()


def test_everything_works_where_an_event_loop_runs(place: str, trace: Path) -> None:
    async def cell() -> tuple[int, int, int]:
        catalog = wb.open(place)
        plan = planned(catalog, 2)
        wb.collect(trace, "memory://loop", routes=2)
        answer = catalog.sql('SELECT count(*) AS n FROM "shop/access"')
        return len(wb.hot(catalog)), len(plan.replay()), answer[0]["n"]

    assert asyncio.run(cell()) == (8, 10, 6_000)


def test_a_catalog_on_s3_works_where_an_event_loop_runs(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cell() -> list[str]:
        wb.collect(trace, "s3://shops/one", cluster="shop", routes=2)
        return wb.open("s3://shops/one").clusters

    with moto() as server:
        server.make_bucket("shops")
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert asyncio.run(cell()) == ["shop"]


def test_nothing_is_kept_between_calls(trace: Path) -> None:
    one, two = (wb.open(f"memory://apart-{name}", create=True) for name in "ab")
    wb.collect(trace, one, routes=2)
    assert (one.clusters, two.clusters) == (["hot-range"], [])
    public = {name: value for name, value in vars(wb).items() if not name.startswith("_")}
    assert all(isinstance(value, ModuleType | type) or callable(value) or name in {
        "TYPE_CHECKING", "annotations"
    } for name, value in public.items())  # fmt: skip


def test_a_file_of_routes_is_a_cluster_to_connect_to(tmp_path: Path) -> None:
    rows = [
        {"route_id": 1, "start": "", "end": "6d", "group": 1},
        {"route_id": 2, "start": "6d", "end": None, "group": 2},
    ]
    (tmp_path / "routes.json").write_text(json.dumps({"catalog_version": 4, "routes": rows}))
    with wb.connect(f"file:{tmp_path}/routes.json") as cluster:
        assert [row["group"] for row in cluster.routes()] == [1, 2]
        assert cluster.capabilities.split is False
        with pytest.raises(wb.InvalidArgument) as caught:
            cluster.load()
        assert caught.value.code == "load_unsupported"
        with pytest.raises(wb.InvalidArgument):
            cluster.clients()
    with pytest.raises(wb.InvalidArgument) as caught:
        wb.connect("nothing://x")
    assert caught.value.code == "connector_unknown"
    assert {"file", "node"} <= {row["scheme"] for row in wb.connectors()}


def test_a_set_that_was_not_made_is_named(tmp_path: Path) -> None:
    made = wb.datasets("uniform", out=tmp_path, accesses=100)
    assert pa.parquet.read_table(made.path("uniform")).num_rows == 100
    for call in (lambda: made.path("zipf"), lambda: wb.datasets("zip", out=tmp_path)):
        with pytest.raises(wb.InvalidArgument) as caught:
            call()
        assert caught.value.code == "dataset_unknown"
