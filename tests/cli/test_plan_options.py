"""Claims about `workbench plan`'s limits, policies, moves, and what it says."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import FakeCluster
from workbench.model.plan import ActionKind, plan_from_json
from workbench.session.cluster import open_cluster
from workbench.session.collect import CollectOptions, collect
from workbench.session.planning import false_claims
from workbench.session.wiring import open_catalog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def catalog_folder(tmp_path_factory: pytest.TempPathFactory, hot_range_bytes: bytes) -> Path:
    """A catalog with a trace on four routes, collected once."""
    folder: Path = tmp_path_factory.mktemp("collected")
    source = folder / "hot.parquet"
    source.write_bytes(hot_range_bytes)
    options = CollectOptions(cluster="c", routes="4")
    collect(f"trace:{source}", str(folder / "catalog"), options)
    return folder / "catalog"


@pytest.fixture
def collected(
    workbench: Callable[..., Any], tmp_path: Path, catalog_folder: Path
) -> Callable[..., Any]:
    """The command line beside a copy of that catalog."""
    shutil.copytree(catalog_folder, tmp_path / ".workbench/catalog")
    return workbench


def verified(document: dict[str, Any]) -> None:
    """Check that a plan holds by the package's own SQL."""
    view = open_cluster(open_catalog(".workbench/catalog"), "c")
    assert false_claims(view, plan_from_json(document, "a test")) == []


def test_robust_is_the_default_and_says_what_it_costs(collected: Callable[..., Any]) -> None:
    document = collected("plan", "--json").json
    assert document["policy"] == "robust"
    assert document["forecast"]["backtest_exact"] is not None
    verified(document)
    text = collected("plan").out
    assert "so robustness costs" in text
    assert "exact planning would have come to" in text
    exact = collected("plan", "--policy", "exact", "--json").json
    assert exact["robust"] is None
    assert exact["forecast"]["backtest_exact"] is None
    assert document["robust"]["optimum"] <= document["bottleneck"]["after"]
    verified(exact)


def test_limits_hold_and_are_part_of_the_document(collected: Callable[..., Any]) -> None:
    free = collected("plan", "--json").json
    key = free["actions"][0]["split_key"]
    options = ("--forbid", f"0x{key}..", "--max-routes", "6", "--min-span-load", "50")
    limited = collected("plan", *options, "--json").json
    assert limited["limits"]["forbidden"] == [{"start": key, "end": None}]
    assert limited["limits"]["max_routes"] == 6
    assert 1 <= len(limited["actions"]) <= 2
    assert all(action["split_key"] < key for action in limited["actions"])
    verified(limited)


def test_boundaries_of_a_file_are_the_only_split_keys(
    collected: Callable[..., Any], tmp_path: Path
) -> None:
    free = collected("plan", "--json").json
    keys = [action["split_key"] for action in free["actions"]][:3]
    (tmp_path / "keys.txt").write_text("".join(f"0x{key}\n" for key in keys))
    limited = collected("plan", "--boundaries", "keys.txt", "--min-gain", "0", "--json").json
    assert {action["split_key"] for action in limited["actions"]} <= set(keys)
    assert limited["limits"]["boundaries"]["keys"] == sorted(keys)
    verified(limited)


def test_moves_are_proposed_explained_and_in_the_markdown(collected: Callable[..., Any]) -> None:
    document = collected("plan", "--groups", "1,2:2", "--json").json
    kinds = {action["kind"] for action in document["actions"]}
    assert kinds & {"move", "split_and_move"}
    verified(document)
    moving = next(a for a in document["actions"] if a["kind"] != "split")
    explained = collected("explain", document["plan_id"], moving["id"], "--json").json
    assert explained["target_group"] == 2
    assert explained["holds"]
    assert "to group 2" in collected("explain", document["plan_id"], moving["id"]).out
    text = collected("plan", "--groups", "1,2:2", "--format", "md").out
    assert "Heaviest group, times its fair share" in text
    none = collected("plan", "--groups", "1,2:2", "--max-bytes-moved", "0", "--json").json
    assert {action["kind"] for action in none["actions"]} <= {"split"}
    there = collected("plan", "--groups", "--json").json
    assert there["limits"]["groups"] == [{"group": 1, "weight": 1}]


def test_a_plan_that_moves_is_approved_by_no_policy_beyond_its_bytes(
    collected: Callable[..., Any], tmp_path: Path
) -> None:
    document = collected("plan", "--groups", "1,2", "--json").json
    policy = tmp_path / "p.toml"
    policy.write_text('name = "nightly"\nmax_bytes_moved = 1\n')
    said = collected("approve", document["plan_id"], "--policy", str(policy))
    assert said.status != 0
    assert "stored bytes are not known" in said.out + said.err


def test_what_moves_is_not_applied_and_a_dry_run_shows_the_calls_of_the_rest(
    collected: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fakes import FakeConnector
    from workbench.session import applying

    document = collected("plan", "--groups", "1,2", "--json").json
    kinds = {a["id"]: a["kind"] for a in document["actions"]}
    assert set(kinds.values()) - {ActionKind.SPLIT.value}
    plan_id = document["plan_id"]
    assert collected("approve", plan_id).status == 0
    view = open_cluster(open_catalog(".workbench/catalog"), "c")
    routes = {route.span: route for route in view.snapshot.routes}
    connector = FakeConnector(FakeCluster(routes, version=document["catalog_version"]))
    monkeypatch.setattr(applying, "open_routes", lambda _url, allow_write=False: connector)
    said = collected("apply", plan_id, "--to", "fake://x", "--json")
    assert (said.status, said.error["code"]) == (1, "action_not_executable")
    assert f"workbench approve {plan_id} split-" in said.error["hint"]
    assert connector.calls == []
    tried = collected("apply", plan_id, "--to", "fake://x", "--dry-run", "--json")
    assert tried.status == 1
    called = [each["id"] for each in tried.json["actions"] if each["call"]]
    left = [each for each in tried.json["actions"] if not each["call"]]
    assert called
    assert {kinds[each] for each in called} == {"split"}
    assert all("cannot be executed: " in each["reason"] for each in left)
    text = collected("apply", plan_id, "--to", "fake://x", "--dry-run").out
    assert "apply refuses while one of these is approved" in text
    assert f"plan {plan_id}: {len(called)} calls, none is made" in text
    withdrawn = [each["id"] for each in left]
    assert collected("approve", plan_id, *withdrawn, "--withdraw").status == 0
    assert collected("apply", plan_id, "--to", "fake://x", "--dry-run").status == 0
    assert collected("apply", plan_id, "--to", "fake://x").status == 0
    assert len(connector.calls) == len(called)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--forbid", "a"), "is no START..END"),
        (("--forbid", "b..a"), "--forbid 'b..a' is reversed: b is not below a"),
        (("--forbid", "z..z"), "--forbid 'z..z' is empty"),
        (("--new-groups",), "there is no --groups"),
        (("--forbid", "a..b..c"), "--forbid 'a..b..c' has two dots more than once"),
        (("--forbid", "0xzz..b"), "which is no key"),
        (("--forbid", ".."), "--forbid cannot be met"),
        (("--boundaries", "prefix:0"), "no number of bytes from 1"),
        (("--boundaries", "prefix:x"), "no number of bytes from 1"),
        (("--boundaries", "absent.txt"), "absent.txt"),
        (("--boundaries", "empty.txt"), "has 0 keys"),
        (("--boundaries", "binary.txt"), "not UTF-8"),
        (("--boundaries", "prefix:2"), "--boundaries cannot be met"),
        (("--max-routes", "3"), "--max-routes 3 cannot be met"),
        (("--min-span-load", "9999999"), "--min-span-load 9999999 cannot be met"),
        (("--groups", "0"), "no number from 1"),
        (("--groups", "1:0"), "no number from 1"),
        (("--groups", "1,1"), "twice"),
        (("--groups", "2:1,3", "--max-bytes-moved", "1"), "--max-bytes-moved cannot be checked"),
        (("--max-bytes-moved", "1"), "without --groups nothing moves"),
        (("--policy", "best"), "--policy"),
        (("--target", "gopher://x"), "gopher"),
        (("--max-splits", "-1"), "--max-splits"),
        (("--min-gain", "nan"), "--min-gain"),
    ],
)
def test_what_cannot_be_planned_is_refused_and_named(
    collected: Callable[..., Any], tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\n")
    outcome = collected("plan", *options)
    assert outcome.status != 0
    assert said in outcome.err
    if options[0] == "--forbid" and "cannot be met" not in said:
        assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") <= 4


def test_exit_code_and_files_tell_of_proposals(
    collected: Callable[..., Any], tmp_path: Path
) -> None:
    assert collected("plan", "--exit-code", "--out", "p.json").status == 3
    written = json.loads((tmp_path / "p.json").read_text())
    assert written == collected("plan", "--json").json
    assert collected("plan", "--exit-code", "--max-splits", "0").status == 0
