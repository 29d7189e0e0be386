"""`workbench cluster add-node`, `remove-node`, `transfer-leader`: answers and exit statuses."""

from __future__ import annotations

import os
import signal
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


@pytest.mark.usefixtures("folder")
def test_a_node_joins_leads_and_another_leaves(workbench: Callable[..., Any]) -> None:
    assert workbench("cluster", "up", "--groups", "2", "--json").status == 0
    added = workbench("cluster", "add-node", "--json")
    assert added.status == 0
    assert (added.json["node"], added.json["groups"]) == (4, [1, 2])

    moved = workbench("cluster", "transfer-leader", "2", "4", "--json")
    assert (moved.status, moved.json["group"], moved.json["node"]) == (0, 2, 4)
    shown = workbench("cluster", "status", "--json").json
    newest = shown["nodes"][3]
    assert (newest["address"], newest["metrics_address"]) == (
        added.json["address"],
        added.json["metrics_address"],
    )
    leads = {group["id"]: group["serving"] for group in newest["groups"]}
    assert leads[2]
    # One that leads already is no mistake.
    said = workbench("cluster", "transfer-leader", "2", "4")
    assert (said.status, said.out) == (0, "node 4 leads group 2\n")

    pid = shown["nodes"][1]["pid"]
    removed = workbench("cluster", "remove-node", "2", "--json")
    assert removed.status == 0
    assert {name: removed.json[name] for name in ("node", "groups", "pid", "killed")} == {
        "node": 2,
        "groups": [1, 2],
        "pid": pid,
        "killed": False,
    }
    left = workbench("cluster", "status", "--json")
    assert left.status == 0
    assert [node["id"] for node in left.json["nodes"]] == [1, 3, 4]

    gone = left.json["nodes"][0]["pid"]
    os.kill(gone, signal.SIGKILL)
    os.waitpid(gone, 0)
    said = workbench("cluster", "remove-node", "1")
    assert (said.status, said.out) == (
        0,
        "node 1 was not running, and keeps no group any more\n",
    )
    said = workbench("cluster", "add-node")
    assert said.out.startswith("node 5 at 127.0.0.1:")
    assert said.out.endswith(" votes in groups 1, 2\n")


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_is_refused_in_one_line(workbench: Callable[..., Any]) -> None:
    for arguments in (["add-node"], ["remove-node", "1"], ["transfer-leader", "1", "1"]):
        absent = workbench("cluster", *arguments, "--json")
        assert (absent.status, absent.error["code"]) == (1, "cluster_absent")
    assert workbench("cluster", "up", "--nodes", "2", "--groups", "2").status == 0
    for arguments, status, code in (
        (["remove-node", "3"], 1, "node_absent"),
        (["remove-node", "0"], 2, "usage"),
        (["remove-node"], 2, "usage"),
        (["remove-node", "2"], 2, "node_last"),
        (["transfer-leader", "1", "7"], 1, "node_absent"),
        (["transfer-leader", "9", "1"], 1, "group_absent"),
        (["transfer-leader", "1", "2"], 1, "transfer_target_invalid"),
        (["add-node", "--port", "0"], 2, "usage"),
    ):
        outcome = workbench("cluster", *arguments)
        assert (outcome.status, outcome.out, len(outcome.err.splitlines())) == (status, "", 1)
        assert workbench("cluster", *arguments, "--json").error["code"] == code
    taken = workbench("cluster", "status", "--json").json["nodes"][0]["address"]
    port = taken.rpartition(":")[2]
    outcome = workbench("cluster", "add-node", "--port", port, "--json")
    assert (outcome.status, outcome.error["code"]) == (5, "port_in_use")
    assert outcome.error["hint"] == "stop what listens on that port, or choose another with --port"
    assert workbench("cluster", "status").status == 0


def test_a_wiped_node_is_told_and_the_others_serve(
    workbench: Callable[..., Any], folder: Path
) -> None:
    import shutil

    assert workbench("cluster", "up", "--groups", "1").status == 0
    assert workbench("cluster", "down").status == 0
    shutil.rmtree(folder / "node-3")
    partly = workbench("cluster", "up")
    assert partly.status == 1
    assert "node 3: " in partly.out
    assert "lacks what node 3 promised its cluster to keep" in partly.out
    place = f"--dir {folder}"
    assert partly.out.splitlines()[-1] == (
        f"next: workbench cluster remove-node 3 {place}, then workbench cluster add-node {place}"
    )
    assert workbench("kv", "put", "k", "v", "--target", _url(workbench)).status == 0
    assert workbench("cluster", "remove-node", "3").status == 0
    assert workbench("cluster", "add-node").status == 0
    assert workbench("cluster", "status").status == 0


def _url(workbench: Callable[..., Any]) -> str:
    found: str = workbench("cluster", "status", "--json").json["url"]
    return found
