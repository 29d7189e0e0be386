"""The main job by its commands: collect, look, plan, approve, verify, report."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from workbench.cli.main import COMMANDS
from workbench.session.datasets import accesses_bytes
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORKBENCH = [sys.executable, "-m", "workbench"]


def planned(workbench: Callable[..., Any], *extra: str) -> dict[str, Any]:
    assert workbench("collect", "trace:hot.parquet", "--routes", "4").status == 0
    document: dict[str, Any] = workbench("plan", "--until", "50%", "--json", *extra).json
    return document


@pytest.mark.usefixtures("trace")
def test_collect_registers_three_datasets_and_answers_in_its_schema(
    workbench: Callable[..., Any],
) -> None:
    answer = workbench("collect", "trace:hot.parquet", "--routes", "4", "--json").json
    assert [d["name"] for d in answer["datasets"]] == ["hot/access", "hot/load_window", "hot/route"]
    assert answer["accesses"] == 20_000
    listed = workbench("catalog", "ls", "--json").json
    assert [d["name"] for d in listed["datasets"]] == [d["name"] for d in answer["datasets"]]
    shown = workbench("catalog", "show", "hot/access", "--json").json
    assert shown["properties"]["source"] == "trace:hot.parquet"


@pytest.mark.usefixtures("trace")
def test_collecting_the_same_trace_twice_writes_nothing(workbench: Callable[..., Any]) -> None:
    assert workbench("collect", "trace:hot.parquet", "--json").json["written"] is True
    before = workbench("catalog", "ls", "--json").out
    assert workbench("collect", "trace:hot.parquet", "--json").json["written"] is False
    assert workbench("catalog", "ls", "--json").out == before


@pytest.mark.usefixtures("trace")
def test_the_hottest_routes_share_falls_on_load_that_the_plan_had_not_seen(
    workbench: Callable[..., Any],
) -> None:
    plan = planned(workbench)
    assert plan["actions"]
    answer = workbench("verify", plan["plan_id"], "--json").json
    assert answer["max_share_before"] > 0.5
    assert answer["max_share_after"] < 0.25
    assert answer["false_claims"] == []
    assert answer["drift"]["drifted"] is False


@pytest.mark.usefixtures("trace")
def test_a_plan_is_the_same_bytes_from_another_process_and_another_catalog(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    plan = planned(workbench, "--out", "one.json")
    for command in (
        ["collect", "trace:hot.parquet", "--routes", "4", "--catalog", "other"],
        ["plan", "--until", "50%", "--catalog", "other", "--out", "two.json"],
        ["plan", "--until", "50%", "--catalog", "other", "--out", "two.parquet"],
    ):
        subprocess.run([*WORKBENCH, *command], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    answer = workbench("approve", "two.parquet", "--json").json
    assert answer["content_hash"] == plan["content_hash"]


@pytest.mark.usefixtures("trace")
def test_approval_names_the_hash_who_and_what_and_can_be_withdrawn(
    workbench: Callable[..., Any],
) -> None:
    plan = planned(workbench)
    everything = [action["id"] for action in plan["actions"]]
    answer = workbench("approve", plan["plan_id"][:6], "--by", "anna", "--json").json
    assert (answer["by"], answer["approved"]) == ("user:anna", everything)
    assert answer["content_hash"] == plan["content_hash"]
    last = everything[-1]
    answer = workbench("approve", plan["plan_id"], last, "--withdraw", "--json").json
    assert answer["approved"] == everything[:-1]


@pytest.mark.usefixtures("trace")
def test_a_policy_approves_as_a_whole_or_not_at_all_and_is_recorded_with_its_hash(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    plan = planned(workbench)
    policy = tmp_path / "p.toml"
    policy.write_text('name = "nightly"\nmax_splits = 1\n')
    refused = workbench("approve", plan["plan_id"], "--policy", "p.toml", "--json")
    assert (refused.status, refused.json["approved"]) == (1, [])
    assert "1 are allowed" in refused.json["broken"][0]
    policy.write_text('name = "nightly"\nmax_splits = 100\nmin_gain = 0.5\n')
    everything = [action["id"] for action in plan["actions"]]
    trial = workbench("approve", plan["plan_id"], "--policy", "p.toml", "--dry-run", "--json").json
    assert (trial["approved"], trial["would_approve"]) == ([], everything)
    assert workbench("catalog", "ls", "--prefix", "approval/", "--json").json["datasets"] == []
    answer = workbench("approve", plan["plan_id"], "--policy", "p.toml", "--json").json
    assert (answer["approved"], answer["by"]) == (everything, "policy:nightly")
    assert answer["policy_sha256"] == hashlib.sha256(policy.read_bytes()).hexdigest()
    assert (
        "policy nightly approved" in workbench("approve", plan["plan_id"], "--policy", "p.toml").out
    )


@pytest.mark.usefixtures("trace")
def test_an_action_is_not_approved_without_the_one_that_makes_its_route(
    workbench: Callable[..., Any],
) -> None:
    plan = planned(workbench)
    made = next(a for a in plan["actions"] if a["route_id"] > 4)
    outcome = workbench("approve", plan["plan_id"], made["id"], "--json")
    assert (outcome.status, outcome.error["code"]) == (2, "approval_incomplete")


@pytest.mark.usefixtures("trace")
def test_plan_exit_code_is_3_with_proposals_and_0_without(workbench: Callable[..., Any]) -> None:
    planned(workbench)
    assert workbench("plan", "--exit-code").status == 3
    assert workbench("plan").status == 0
    none = workbench("plan", "--exit-code", "--max-splits", "0", "--json")
    assert (none.status, none.json["actions"]) == (0, [])


@pytest.mark.usefixtures("trace")
def test_explain_computes_an_actions_numbers_anew(workbench: Callable[..., Any]) -> None:
    plan = planned(workbench)
    answer = workbench("explain", plan["plan_id"], "split-001", "--json").json
    assert answer["recomputed"] == answer["in_plan"]
    assert answer["in_plan"]["parent_load"] == plan["actions"][0]["evidence"]["parent_load"]
    assert "split route" in workbench("explain", plan["plan_id"], "split-002").out
    outcome = workbench("explain", plan["plan_id"], "split-999", "--json")
    assert (outcome.status, outcome.error["code"]) == (1, "action_unknown")


@pytest.mark.usefixtures("trace")
def test_explain_says_where_the_catalog_gives_other_numbers(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    planned(workbench, "--out", "p.json")
    (tmp_path / "hot.parquet").write_bytes(
        accesses_bytes(generate("hot-range", accesses=10_000, seed=4))
    )
    workbench("collect", "trace:hot.parquet", "--routes", "4", "--replace")
    outcome = workbench("explain", "p.json", "split-001")
    assert outcome.status == 1
    assert "DIFFERS" in outcome.out


@pytest.mark.usefixtures("trace")
def test_plan_as_markdown_fits_a_pull_request(workbench: Callable[..., Any]) -> None:
    planned(workbench)
    text = workbench("plan", "--until", "50%", "--format", "md").out
    assert text.startswith("## Split plan `")
    assert len(text) < 8_000


@pytest.mark.usefixtures("trace")
def test_plan_json_works_in_a_pipe(workbench: Callable[..., Any], tmp_path: Path) -> None:
    planned(workbench)
    command = f"{' '.join(WORKBENCH)} plan --json | {sys.executable} -m json.tool"
    outcome = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(outcome.stdout)["schema"] == "workbench.plan/2"
    assert outcome.stderr == ""


@pytest.mark.usefixtures("trace")
def test_a_reader_that_goes_away_is_no_traceback(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    planned(workbench)
    command = f"{' '.join(WORKBENCH)} plan --json --max-splits 400 | head -c 20"
    outcome = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert outcome.stderr == ""


@pytest.mark.usefixtures("trace")
def test_hot_gives_a_verdict_and_a_reason_for_every_route(workbench: Callable[..., Any]) -> None:
    workbench("collect", "trace:hot.parquet", "--routes", "4")
    answer = workbench("hot", "--threshold", "100", "--json").json
    assert len(answer["routes"]) == 4
    assert answer["routes"][0]["verdict"] == "hot"
    assert len(answer["routes"][0]["proof"]) >= 3
    assert sum(route["share"] for route in answer["routes"]) == pytest.approx(1)
    text = workbench("hot").out
    assert "(under 50,000 a minute)" in text
    assert "of 4 routes 0 hot, 4 cold" in text


@pytest.mark.usefixtures("trace")
def test_heatmap_and_report_write_files_that_open(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    plan = planned(workbench)
    answer = workbench("heatmap", "--plan", plan["plan_id"], "--json").json
    assert (tmp_path / "heat.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert answer["bytes"] == (tmp_path / "heat.png").stat().st_size
    workbench("approve", plan["plan_id"], "--by", "anna")
    assert workbench("report", plan["plan_id"], "--json").json["bytes"] < 3_000_000
    page = (tmp_path / "report.html").read_text()
    named = set(re.findall(r"workbench ([a-z]+)[ <]", page))
    assert named
    assert named <= set(COMMANDS)
    assert plan["plan_id"] in page
    assert "user:anna" in page


@pytest.mark.usefixtures("trace")
def test_demo_on_a_trace_lowers_the_share_and_leaves_only_the_report(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    answer = workbench("demo", "--offline", "--trace", "hot.parquet", "--json").json
    assert answer["max_share_after"] < answer["max_share_before"] / 2
    assert answer["max_share_forecast"] == pytest.approx(answer["max_share_after"], abs=0.05)
    assert (answer["nodes"], answer["groups"], answer["lost_writes"]) == (None, None, None)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["hot.parquet", "report.html"]


@pytest.mark.parametrize("option", ["--nodes=2", "--keep", "--seconds=5", "--dir=c"])
def test_options_of_a_live_cluster_are_refused_offline(
    workbench: Callable[..., Any], option: str
) -> None:
    outcome = workbench("demo", "--offline", option)
    assert outcome.status == 2
    assert option.partition("=")[0] in outcome.err


def test_demo_on_the_recorded_trace_lowers_the_share(
    workbench: Callable[..., Any], cloudphysics: Path
) -> None:
    answer = workbench("demo", "--offline", "--trace", str(cloudphysics), "--json").json
    assert answer["max_share_after"] < 0.12
    assert answer["max_share_before"] > 0.20


@pytest.mark.usefixtures("trace")
def test_routes_come_from_a_file_through_its_connector(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    routes = {
        "catalog_version": 9,
        "routes": [
            {"route_id": 4, "start": "", "end": "75736572", "group": 3},
            {"route_id": 6, "start": "75736572", "end": None, "group": 2, "state": "ACTIVE"},
        ],
    }
    (tmp_path / "routes.json").write_text(json.dumps(routes))
    assert workbench("collect", "trace:hot.parquet", "--routes", "file:routes.json").status == 0
    plan = workbench("plan", "--json").json
    assert plan["catalog_version"] == 1
    assert {route["group"] for route in plan["routes_before"]} == {1}
    assert plan["actions"][0]["route_id"] == 6


@pytest.mark.usefixtures("trace")
def test_accesses_outside_all_routes_are_warned_of(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    routes = [{"route_id": 1, "start": b"user/00005".hex(), "end": None, "group": 1}]
    (tmp_path / "r.json").write_text(json.dumps({"catalog_version": 1, "routes": routes}))
    answer = workbench("collect", "trace:hot.parquet", "--routes", "file:r.json", "--json")
    [warning] = answer.json["warnings"]
    assert "a key that no route holds" in warning
    assert warning in answer.err


def test_connectors_are_listed_by_entry_point(workbench: Callable[..., Any]) -> None:
    answer = workbench("connectors", "list", "--json").json
    assert {"scheme": "file", "module": "workbench_connectors.routes_file:connect"}.items() <= (
        answer["connectors"][0].items()
    )


def test_every_command_has_help_with_an_example(workbench: Callable[..., Any]) -> None:
    groups = {"catalog": ["init", "ls", "show", "verify"], "datasets": ["make"]}
    singles = [
        "demo",
        "collect",
        "hot",
        "heatmap",
        "plan",
        "approve",
        "verify",
        "report",
        "explain",
    ]
    commands = [[single] for single in singles]
    commands += [[group, each] for group, names in groups.items() for each in names]
    for command in [*commands, ["connectors", "list"]]:
        outcome = workbench(*command, "--help")
        assert outcome.status == 0
        examples = outcome.out.partition("Example")[2]
        assert re.search(rf"\n +workbench {' '.join(command)}", examples), command


def test_progress_is_silent_where_stderr_is_no_terminal(
    workbench: Callable[..., Any], trace: Path
) -> None:
    assert workbench("collect", f"trace:{trace}").err == ""


def test_progress_is_drawn_on_a_terminal_and_stdout_stays_clean(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*WORKBENCH, "demo", "--offline", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # the other end closes with EIO
            while part := os.read(ours, 65_536):
                drawn += part
        answer, _ = process.communicate()
    os.close(ours)
    assert json.loads(answer)["schema"] == "workbench.demo/1"
    assert b"planning" in drawn or b"replaying" in drawn or b"report" in drawn
