"""What `cluster status` says of a node that is not up: why, and a next step that leads on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workbench.cli.cluster import why_texts
from workbench.model.node import GroupStatus, NodeStatus
from workbench.model.recovery import DAMAGED_NODE_HINT
from workbench.session.local_cluster import ClusterStatus, NodeState

SERVING = '{"event": "serving", "time": "2026-01-31T12:00:00Z", "node": 2}'
STOPPED = SERVING.replace("serving", "stopped")
WIPED = (
    "/c/node-2 lacks what node 2 promised its cluster to keep; bring the directory back, or "
    "remove the node from the cluster and add another"
)
UP = "workbench cluster up --dir /c"
REPLACE = "workbench cluster remove-node 2 --dir /c, then workbench cluster add-node --dir /c"


def state(node: int, said: str | None = SERVING, **more: Any) -> NodeState:
    folder = Path(f"/c/node-{node}")
    return replace(NodeState(node, "a:1", None, folder, (1, 2), None, None, said), **more)


def answer(node: int, *led: tuple[int, int]) -> NodeStatus:
    """A node's own status; `led` are groups and who leads each, 0 for nobody."""
    groups = tuple(
        GroupStatus(group, "follower", 1, 1, 1, leader, serving=leader == node)
        for group, leader in led
    )
    return NodeStatus("c", node, 1, "1", groups, (), 1, 1_000)


def texts(*nodes: NodeState) -> list[str]:
    return why_texts(ClusterStatus("c", Path("/c"), nodes, 1))


WELL = state(1, pid=11, status=answer(1, (1, 3), (2, 1)))


@pytest.mark.parametrize(
    ("node", "why", "step"),
    [
        pytest.param(
            state(2),
            "its process ended without a word (killed?); "
            "its last event: serving at 2026-01-31T12:00:00Z",
            UP,
            id="killed",
        ),
        pytest.param(state(2, STOPPED), "it was stopped at 2026-01-31T12:00:00Z", UP, id="down"),
        pytest.param(
            state(2, pid=7),
            "process 7 holds its directory and does not answer: it starts, or hangs",
            f"where that goes on, kill -9 7, then {UP}",
            id="hangs",
        ),
        pytest.param(state(2, WIPED), WIPED, REPLACE, id="wiped"),
        pytest.param(state(2, f"x; {DAMAGED_NODE_HINT}"), f"x; {DAMAGED_NODE_HINT}", REPLACE),
        pytest.param(
            state(2, pid=7, status=answer(2, (1, 3), (2, 0))),
            "it knows of no leader of group 2",
            "workbench cluster status --dir /c, in a moment",
            id="no leader",
        ),
        pytest.param(state(2, None), "nothing in its node.log", UP, id="never ran"),
        pytest.param(state(2, "out of memory"), "out of memory", UP, id="plain text"),
        pytest.param(state(2, "[1]"), "[1]", UP, id="JSON that is no event"),
        pytest.param(
            state(2, joining=True),
            "it is being added, and has no vote yet",
            "workbench cluster add-node --dir /c",
            id="joining",
        ),
        pytest.param(
            state(2, problem="it is not TOML"),
            "it is not TOML",
            "restore /c/node-2/node.toml, or workbench cluster remove-node 2 --dir /c",
            id="damaged",
        ),
    ],
)
def test_a_node_that_is_not_up_is_told_why_and_what_helps(
    node: NodeState, why: str, step: str
) -> None:
    assert texts(WELL, node) == [f"node 2: {why}", f"next: {step}"]


def test_nothing_is_said_of_nodes_that_are_up() -> None:
    assert texts(WELL) == []


def test_the_only_keeper_of_a_group_is_not_removed() -> None:
    other = state(1, pid=11, groups=(1,), status=answer(1, (1, 1)))
    found = texts(other, state(2, WIPED, groups=(2,)))
    assert found[-1] == "next: bring /c/node-2 back, or make a new cluster and restore an export"


def test_a_hung_and_a_stopped_node_take_one_step() -> None:
    found = texts(WELL, state(2, pid=7), state(3))
    assert found[2:] == [f"next: where that goes on, kill -9 7, then {UP}"]
