"""`workbench catalog compact`, `expire`, `rm` and `gc`, as a user sees them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from workbench.catalog.catalog import Write
from workbench.model.routes import RouteSnapshot, seed_routes
from workbench.model.tables import LOAD_WINDOW, routes_to_table
from workbench.session import system
from workbench.session.cluster import open_cluster
from workbench.session.upkeep import SMALL_OBJECTS_MAX, compact_if_many
from workbench.session.wiring import create_catalog, open_catalog

CATALOG = ".workbench/catalog"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock(monkeypatch):
    """Let every process's clock stand at a time that a test moves; files keep real times."""

    class Moved:
        time = system.SystemClock().now()

    monkeypatch.setattr(system.SystemClock, "now", lambda _self: Moved.time)
    return Moved


def window(start: datetime, cluster: str = "c") -> pa.Table:
    row = {
        "cluster": cluster,
        "window_start": start,
        "window_end": start + MINUTE,
        "route_id": 1,
        "group": 1,
        "bucket_start": b"",
        "bucket_end": None,
        "reads": 1,
        "coverage": 1.0,
    }
    return pa.Table.from_pylist([row], schema=LOAD_WINDOW)


def append(catalog, start: datetime, name: str = "c/load_window", **properties: str) -> None:
    write = Write(name, window(start), "append", properties, time_column="window_start")
    catalog.commit([write])


@pytest.fixture
def catalog(workbench, tmp_path):
    """Windows of six minutes of today, and of as many of forty days ago."""
    made = create_catalog(str(tmp_path / CATALOG))
    now = system.SystemClock().now()
    for days in (40, 0):
        for minute in range(6):
            start = now - timedelta(days=days) + minute * MINUTE
            append(made, start, windows="12", collected_until="x", collected_from="y")
    return made


def test_compact_tells_then_merges_then_finds_nothing(workbench, catalog):
    told = workbench("catalog", "compact", "--dry-run", "--json").json
    [dataset] = told["datasets"]
    assert (told["applied"], dataset["merged"], dataset["made_bytes"]) == (False, 12, None)
    assert open_catalog(CATALOG).seq == 12
    done = workbench("catalog", "compact", "--json").json
    assert done["datasets"][0]["objects_before"] == 12
    assert done["datasets"][0]["objects"] in {2, 3, 4}  # days end while tests run
    assert "no dataset has small objects" in workbench("catalog", "compact").out
    assert open_catalog(CATALOG).read("c/load_window").num_rows == 12


def test_compact_takes_names_and_patterns_and_refuses_what_is_absent(workbench, catalog):
    assert workbench("catalog", "compact", "d/*", "--dry-run").out.startswith("no dataset")
    assert "12" in workbench("catalog", "compact", "c/*", "--dry-run").out
    outcome = workbench("catalog", "compact", "c/loadwindow", "--json")
    assert outcome.error["code"] == "dataset_absent"
    assert "c/load_window" in outcome.error["hint"]


def test_expire_tells_and_only_then_drops_with_yes(workbench, catalog):
    told = workbench("catalog", "expire", "--older-than", "30d")
    assert "nothing was changed; repeat with --yes" in told.out
    assert open_catalog(CATALOG).seq == 12
    done = workbench("catalog", "expire", "--older-than", "30d", "--yes", "--json").json
    [dataset] = done["datasets"]
    assert (dataset["rows"], dataset["rows_left"], done["applied"]) == (6, 6, True)
    manifest = open_catalog(CATALOG).get("c/load_window")
    assert manifest.row_count == 6
    assert manifest.properties["windows"] == "6"
    assert manifest.properties["collected_from"].endswith("Z")
    again = workbench("catalog", "expire", "--older-than", "30d", "--yes")
    assert again.out.startswith("no row is older than")


def test_expire_leaves_records_of_decisions_unless_named_in_full(workbench, catalog):
    append(catalog, NOW - timedelta(days=900), "plan/x")
    catalog.commit([Write("receipt/y", pa.table({"n": [1]}))])
    assert "plan/x" not in workbench("catalog", "expire", "--older-than", "30d").out
    outcome = workbench("catalog", "expire", "--older-than", "30d", "--dataset", "plan/*", "--json")
    assert outcome.error["code"] == "dataset_protected"
    told = workbench("catalog", "expire", "--older-than", "30d", "--dataset", "plan/x")
    assert "plan/x" in told.out
    outcome = workbench(
        "catalog", "expire", "--older-than", "30d", "--dataset", "receipt/y", "--json"
    )
    assert outcome.error["code"] == "dataset_without_time"
    assert "workbench catalog rm receipt/y" in outcome.error["hint"]


def test_expire_warns_of_plans_whose_load_goes(workbench, catalog):
    since = "2020-01-01T00:00:00Z to 2020-01-02T00:00:00Z"
    properties = {"cluster": "c", "window": since}
    catalog.commit([Write("plan/abcd", pa.table({"n": [1]}), properties=properties)])
    outcome = workbench("catalog", "expire", "--older-than", "30d")
    assert "1 plan (abcd), made from load that goes," in outcome.err


@pytest.mark.parametrize("duration", ["30", "-1d", "0d", "d", "1y"])
def test_durations_that_are_none_are_wrong_usage(workbench, catalog, duration):
    outcome = workbench("catalog", "expire", f"--older-than={duration}")
    assert outcome.status == 2
    assert "duration" in outcome.err


def test_rm_tells_and_only_then_removes_with_yes(workbench, catalog):
    told = workbench("catalog", "rm", "c/load_window")
    assert told.out.startswith("to remove: c/load_window, 12 rows")
    assert "repeat with --yes" in told.out
    done = workbench("catalog", "rm", "c/load_window", "--yes", "--json").json
    assert done["datasets"][0]["row_count"] == 12
    assert open_catalog(CATALOG).list() == []
    assert open_catalog(CATALOG).at(12).read("c/load_window").num_rows == 12
    outcome = workbench("catalog", "rm", "c/load_window", "--yes", "--json")
    assert outcome.error["code"] == "dataset_absent"


def leave_behind(catalog) -> Path:
    """Put an object that nothing refers to, as a killed writer does."""
    used = catalog.get("c/load_window").objects[0].key
    folder = Path(CATALOG, used).parent.parent
    path = folder / "01234567-89ab-4cde-8f01-23456789abcd" / "part-00000.parquet"
    path.parent.mkdir()
    path.write_bytes(b"left behind")
    two_days_ago = system.SystemClock().now().timestamp() - 2 * 86_400
    os.utime(path, (two_days_ago, two_days_ago))
    return path


def test_gc_tells_condemns_and_after_the_grace_deletes(workbench, catalog, clock, monkeypatch):
    path = leave_behind(catalog)
    told = workbench("catalog", "gc", "--json").json
    assert (told["applied"], told["condemn"]["objects"], told["live"]["objects"]) == (False, 1, 12)
    assert "repeat with --yes" in workbench("catalog", "gc").out
    done = workbench("catalog", "gc", "--yes", "--json").json
    assert done["condemn"] == {"objects": 1, "bytes": 11}
    waiting = workbench("catalog", "gc", "--json").json
    assert waiting["waiting"]["objects"] == 1
    assert waiting["waiting_until"].endswith("Z")
    assert path.exists()
    clock.time += timedelta(hours=25)
    outcome = workbench("catalog", "gc", "--yes", "--json")
    assert outcome.error["code"] == "clock_skewed", "the files' times are the disk's"
    monkeypatch.setattr("workbench.catalog.gc.SKEW_MAX", timedelta(days=2))
    done = workbench("catalog", "gc", "--yes")
    assert "deleted" in done.out
    assert not path.exists()
    assert workbench("catalog", "gc", "--json").json["waiting"]["objects"] == 0
    assert workbench("catalog", "verify").status == 0


def test_gc_refuses_a_grace_that_writers_may_outlast(workbench, catalog):
    outcome = workbench("catalog", "gc", "--grace", "1h", "--json")
    assert outcome.error["code"] == "grace_too_short"
    assert outcome.status == 2


@pytest.mark.parametrize("command", [["compact"], ["expire", "--older-than", "1d"], ["gc"]])
def test_where_there_is_no_catalog_none_is_made(workbench, command):
    outcome = workbench("catalog", *command, "--json")
    assert outcome.error["code"] == "catalog_absent"
    assert not Path(CATALOG).exists()


def test_the_same_trace_is_still_known_after_its_objects_were_merged(workbench, trace):
    assert workbench("collect", f"trace:{trace}").status == 0
    catalog = open_catalog(CATALOG)
    [name] = [m.name for m in catalog.list() if m.name.endswith("/access")]
    table = catalog.read(name)
    properties = {k: v for k, v in catalog.get(name).properties.items() if k != "time_column"}
    half = table.num_rows // 2
    for mode, part in (("replace", table.slice(0, half)), ("append", table.slice(half))):
        catalog.commit([Write(name, part, mode, properties, time_column="time")])
    assert workbench("catalog", "compact", name).status == 0
    again = workbench("collect", f"trace:{trace}", "--json")
    assert again.status == 0
    assert again.json["written"] is False
    other = catalog.read(name).slice(1)
    catalog.commit([Write(name, other, properties=properties, time_column="time")])
    assert workbench("collect", f"trace:{trace}", "--json").error["code"] == "cluster_exists"


def test_who_appends_often_merges_what_came_together(workbench, tmp_path):
    catalog = create_catalog(str(tmp_path / CATALOG))
    for minute in range(SMALL_OBJECTS_MAX):
        append(catalog, NOW + minute * MINUTE)
    assert compact_if_many(catalog, "c/load_window") is None
    assert len(catalog.get("c/load_window").objects) == SMALL_OBJECTS_MAX
    append(catalog, NOW + SMALL_OBJECTS_MAX * MINUTE)
    assert compact_if_many(catalog, "c/load_window") is None
    assert len(catalog.get("c/load_window").objects) == 1
    assert catalog.read("c/load_window").num_rows == SMALL_OBJECTS_MAX + 1
    assert "were not merged" in (compact_if_many(catalog, "c/absent") or "")


def test_what_the_manifest_tells_of_the_load_is_what_its_rows_tell(workbench, tmp_path):
    catalog = create_catalog(str(tmp_path / CATALOG))
    started = system.SystemClock().now().replace(microsecond=0, second=0)
    for number in range(6):
        start = started - timedelta(days=number)
        append(catalog, start, windows=str(number + 1), window_ms="60000")
    catalog.commit([Write("c/route", routes_to_table(RouteSnapshot(1, seed_routes([]), NOW)))])

    def check(windows: int) -> None:
        opened = open_catalog(CATALOG)
        view = open_cluster(opened, "c")
        assert view.extent == view.load.extent()
        assert view.extent.windows == windows
        known = view.load.data["load_window"]
        assert view.extent.until == started + MINUTE
        assert known.count_rows() == windows

    check(6)
    assert workbench("catalog", "expire", "--older-than", "60h", "--yes").status == 0
    check(3)
    assert workbench("catalog", "compact").status == 0
    check(3)


def test_expire_says_of_a_pattern_that_no_dataset_matches_it(workbench, catalog):
    told = workbench("catalog", "expire", "--older-than", "30d", "--dataset", "nope*")
    assert told.status == 0
    assert told.out.startswith("no dataset matches 'nope*'")
    expire = ("catalog", "expire", "--older-than", "900d", "--dataset", "c/*", "--dataset", "n*")
    some = workbench(*expire)
    assert "no dataset matches 'n*'" in some.err
    assert some.out.startswith("no row is older than")
    assert workbench(*expire, "--json").json["unmatched"] == ["n*"]
