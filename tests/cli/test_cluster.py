"""`workbench cluster` and `workbench node`: answers, exit statuses, and one line per error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from workbench.node.directory import holder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The default directory of the cluster; whatever a test left running there is stopped."""
    path = tmp_path / ".workbench/cluster"
    yield path
    for node in sorted(path.glob("node-*")):
        if pid := holder_of(node):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_a_cluster_goes_up_is_shown_and_goes_down(
    workbench: Callable[..., Any], folder: Path
) -> None:
    answer = workbench("cluster", "up", "--nodes", "2", "--groups", "3", "--json").json
    assert answer["catalog_version"] == 1
    assert [node["up"] for node in answer["nodes"]] == [True, True]
    assert [[g["id"] for g in node["groups"]] for node in answer["nodes"]] == [[1, 3], [2]]
    assert all(group["serving"] for node in answer["nodes"] for group in node["groups"])
    metrics = {node["metrics_address"] for node in answer["nodes"]}
    assert len(metrics | {node["address"] for node in answer["nodes"]}) == 4
    assert answer["url"] == "node://" + ",".join(node["address"] for node in answer["nodes"])

    shown = workbench("cluster", "status")
    assert shown.status == 0
    assert answer["url"] in shown.out
    rows = [line.split() for line in shown.out.splitlines() if "127.0.0.1" in line]
    assert [(r[0], r[2], r[4], r[5]) for r in rows[:3]] == [
        ("1", "up", "1", "leader"),
        ("1", "up", "3", "leader"),
        ("2", "up", "2", "leader"),
    ]
    again = workbench("cluster", "up", "--json")
    assert (again.status, again.json["nodes"]) == (0, answer["nodes"])
    assert "nothing to do: already up" in workbench("cluster", "up").out
    differs = workbench("cluster", "up", "--nodes", "3", "--json")
    assert (differs.status, differs.error["code"]) == (5, "cluster_differs")
    assert "has nodes = 2, not 3" in differs.error["message"]

    killed = answer["nodes"][1]["pid"]
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    partly = workbench("cluster", "status", "--json")
    assert partly.status == 1
    node = partly.json["nodes"][1]
    assert (node["up"], node["pid"]) == (False, None)
    assert node["groups"] == [
        {
            "id": 2,
            "role": None,
            "term": None,
            "commit_index": None,
            "applied_index": None,
            "serving": False,
        }
    ]
    away = workbench("cluster", "status").out
    assert "node 2: its process ended without a word (killed?); its last event: " in away
    assert node["last_line"] not in away
    assert answer["nodes"][1]["metrics_address"] in away
    assert away.splitlines()[-1] == f"next: workbench cluster up --dir {folder}"

    stopped = workbench("cluster", "down", "--json").json
    assert stopped["stopped"] == [
        {"id": 1, "pid": answer["nodes"][0]["pid"], "killed": False},
    ]
    assert not any(node["up"] for node in stopped["nodes"])
    assert stopped["catalog_version"] is None
    nothing = workbench("cluster", "down")
    assert (nothing.status, nothing.out) == (0, "nothing to do: no node is running\n")


def test_routes_of_a_file_and_options_of_the_configuration_hold(
    workbench: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    routes = [
        {"route_id": 2, "start": "", "end": "6d", "group": 1},
        {"route_id": 7, "start": "6d", "end": None, "group": 2},
    ]
    document = {"catalog_version": 9, "routes": routes}
    (tmp_path / "routes.json").write_text(json.dumps(document))
    (tmp_path / "workbench.toml").write_text('[cluster.up]\nnodes = 1\nwindow = "250ms"\n')
    outcome = workbench("cluster", "up", "--routes", "routes.json")
    assert outcome.status == 0
    url = next(w for w in outcome.out.split() if w.startswith("node://"))
    assert outcome.out.splitlines()[-1] == f"next: workbench collect {url}"
    [node] = workbench("cluster", "status", "--json").json["nodes"]
    assert [group["id"] for group in node["groups"]] == [1, 2]
    text = (folder / "node-1/node.toml").read_text()
    assert "window_ms = 250" in text
    assert 'start = "6d"' in text
    assert workbench("cluster", "down").out.startswith("node 1 (process ")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["status"], 1, "cluster_absent"),
        (["down"], 1, "cluster_absent"),
        (["up", "--nodes", "0"], 2, "nodes_out_of_range"),
        (["up", "--nodes", "two"], 2, "usage"),
        (["up", "--groups", "1000"], 2, "groups_out_of_range"),
        (["up", "--base-port", "65535"], 2, "port_out_of_range"),
        (["up", "--window", "soon"], 2, "duration_invalid"),
        (["up", "--window", "7"], 2, "duration_invalid"),
        (["up", "--routes", "absent.json"], 1, "file_absent"),
        (["up", "--dir", "taken"], 5, "directory_foreign"),
        (["status", "--dir", "file"], 2, "usage"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    workbench: Callable[..., Any],
    tmp_path: Path,
    arguments: list[str],
    status: int,
    code: str,
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/thesis.tex").write_text("")
    (tmp_path / "file").write_text("")
    outcome = workbench("cluster", *arguments)
    assert (outcome.status, outcome.out) == (status, "")
    assert len(outcome.err.splitlines()) == 1
    assert workbench("cluster", *arguments, "--json").error["code"] == code
    assert not list(tmp_path.rglob("node-*"))


def test_a_node_in_the_foreground_stops_when_told(
    workbench: Callable[..., Any], folder: Path
) -> None:
    assert workbench("cluster", "up", "--nodes", "1", "--groups", "1").status == 0
    assert workbench("cluster", "down").status == 0
    config = folder / "node-1/node.toml"
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench", "node", "start", "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    events = [""]
    while events[-1] != "serving":
        events.append(json.loads(process.stderr.readline())["event"])
    assert workbench("cluster", "status").status == 0
    assert holder_of(folder / "node-1") == process.pid
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    events += [json.loads(line)["event"] for line in process.stderr]
    process.stderr.close()
    assert events[-1] == "stopped"
    assert workbench("cluster", "status").status == 1


def test_a_node_that_cannot_start_says_why_in_its_last_line(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "node.toml").write_text("nodes = 1\n")
    outcome = workbench("node", "start", "--config", "node.toml")
    assert outcome.status == 1
    last = outcome.err.splitlines()[-1]
    assert "node.toml: the key nodes is unknown; did you mean 'node'?" in last
    assert workbench("node", "start").status == 2
