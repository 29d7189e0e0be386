"""Claims about reasons: a route that is left alone, or stays on its group, says why wherever it
is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from unit.test_collect_live import FakeCluster

from workbench.session import collect_live, planning
from workbench.session.datasets import accesses_bytes
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

URL = "node://127.0.0.1:7001"


@pytest.fixture
def collected(workbench: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    trace = tmp_path / "t.parquet"
    trace.write_bytes(accesses_bytes(generate("hot-range", accesses=3_000, seed=5)))
    assert workbench("collect", f"trace:{trace}", "--cluster", "c", "--routes", "2").status == 0
    return workbench


def test_a_hot_route_that_was_declined_shows_the_reason_in_hot_and_in_the_plan(
    collected: Callable[..., Any],
) -> None:
    document = collected("plan", "--max-splits", "1", "--min-gain", "0.9", "--json").json
    assert document["actions"] == []
    reasons = {each["route_id"]: each["reason"] for each in document["declined"]}
    assert all("less than the 90% asked for" in reason for reason in reasons.values())
    answer = collected("hot", "--threshold", "10", "--json").json
    hot = [route for route in answer["routes"] if route["verdict"] == "hot"]
    assert hot
    for route in hot:
        assert route["declined"] == reasons[route["route_id"]]
    assert "less than the 90% asked for" in collected("hot", "--threshold", "10").out
    assert "less than the 90% asked for" in collected("plan", "--min-gain", "0.9").out
    markdown = collected("plan", "--min-gain", "0.9", "--format", "md").out
    assert "less than the 90% asked for" in markdown


def test_hot_tells_the_sql_of_its_verdicts(collected: Callable[..., Any]) -> None:
    evidence = collected("hot", "--threshold", "10", "--json").json["evidence"]
    assert "windows_over" in evidence["verdict_sql"]
    assert evidence["verdict_parameters"]["threshold"] == 10


@pytest.fixture
def running(workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster()
    made.numbers = [0, 1]
    for module in (collect_live, planning):
        monkeypatch.setattr(module, "open_routes", lambda _url: made)
    return made


def test_moves_are_declined_where_the_target_cannot_move(
    running: FakeCluster, workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not running.capabilities().move
    options = ("--target", URL, "--groups", "1,2", "--new-groups", "--min-gain", "0", "--json")
    document = workbench("plan", *options).json
    assert {action["kind"] for action in document["actions"]} <= {"split"}
    assert [each["kind"] for each in document["findings"]] == ["moves_declined"]
    assert f"{URL} executes no moves" in document["findings"][0]["text"]
    assert all("executes no moves" in each["reason"] for each in document["declined"])
    assert document["placement"]["moved"] == 0
    text = workbench("plan", *options[:-1])
    assert "executes no moves" in text.out
    leaving = workbench("plan", "--target", URL, "--groups", "2:1", "--new-groups", "--json")
    assert '"code": "limit_unmeetable"' in leaving.err
    can = replace(running.capabilities(), move=True)
    monkeypatch.setattr(running, "capabilities", lambda: can, raising=False)
    able = workbench("plan", *options).json
    assert able["findings"] == []


def test_approving_moves_tells_in_json_what_cannot_be_executed(
    running: FakeCluster, workbench: Callable[..., Any], tmp_path: Path
) -> None:
    assert workbench("collect", URL).status == 0
    options = ("--groups", "1,2", "--new-groups", "--min-gain", "0", "--json")
    document = workbench("plan", *options).json
    if not any(action["kind"] != "split" for action in document["actions"]):
        pytest.skip("the fake cluster's load gives nothing to move")
    policy = tmp_path / "p.toml"
    policy.write_text('name = "nightly"\n')
    asked = workbench(
        "approve", document["plan_id"], "--policy", str(policy), "--dry-run", "--json"
    )
    for said in (asked, workbench("approve", document["plan_id"], "--json")):
        [warning] = said.json["warnings"]
        assert "executes splits inside a group and no moves" in warning
        assert warning in said.err
    splits = [a["id"] for a in document["actions"] if a["kind"] == "split"]
    if splits:
        moves = [a["id"] for a in document["actions"] if a["kind"] != "split"]
        workbench("approve", document["plan_id"], "--withdraw", *moves)
        assert workbench("approve", document["plan_id"], *splits, "--json").json["warnings"] == []


def test_hot_cites_the_plan_that_was_asked_for_last_also_where_it_was_made_before(
    collected: Callable[..., Any],
) -> None:
    one, other = (("plan", "--max-splits", n, "--no-backtest", "--json") for n in ("1", "2"))
    first, second = collected(*one).json, collected(*other).json
    assert first["plan_id"] != second["plan_id"]
    assert collected("hot", "--json").json["plan_id"] == second["plan_id"]
    assert collected(*one).json == first
    assert collected("hot", "--json").json["plan_id"] == first["plan_id"]
    assert collected(*other).json == second
    assert collected("hot", "--json").json["plan_id"] == second["plan_id"]


def test_routes_that_a_plan_moves_are_neither_left_alone_nor_declined(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    trace = tmp_path / "t.parquet"
    trace.write_bytes(accesses_bytes(generate("hot-range", accesses=2_000, seed=5)))
    assert workbench("collect", f"trace:{trace}", "--cluster", "c", "--routes", "8").status == 0
    asked = ("plan", "--groups", "1,2,3", "--new-groups", "--max-splits", "0")
    asked = (*asked, "--min-gain", "0", "--no-backtest")
    document = workbench(*asked, "--json").json
    moved = {each["route_id"] for each in document["actions"]}
    assert {each["kind"] for each in document["actions"]} == {"move"}
    assert moved.isdisjoint(each["route_id"] for each in document["declined"])
    assert len(moved) + len(document["declined"]) == len(document["routes_before"])
    text = workbench(*asked).out
    assert f"left alone: {len(document['declined'])} of" in text
    assert "times its fair share" in text.splitlines()[1]
    for route in workbench("hot", "--json").json["routes"]:
        assert route["planned"] is (route["route_id"] in moved)
        assert (route["declined"] is None) is route["planned"]
    half = workbench(*asked, "--until", "50%", "--json").json
    moved = {each["route_id"] for each in half["actions"]}
    said = workbench("verify", half["plan_id"])
    moves = "1 move" if len(moved) == 1 else f"{len(moved)} moves"
    assert f"after {moves}" in " ".join(said.out.split())
