"""Three nodes, four groups, three voters each: what a lost, paused or late node may cost.

The short form of `make nemesis`, which does the same for longer. No acknowledged write is lost,
and no read is stale; a node that was away comes back by itself.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from typing import TYPE_CHECKING

import pytest
from process.node_process import client_of, cluster, until
from process.writers import Kept, Writers, allowed

from workbench.errors import WorkbenchError
from workbench.node.client import NodeClient

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from process.node_process import NodeProcess

    from workbench.model.node import GroupStatus

GROUPS = (1, 2, 3, 4)
KILLS = int(os.environ.get("WORKBENCH_KILLS", "3"))


def status_of(node: NodeProcess, group: int) -> GroupStatus | None:
    """Return what a node says of a group, None where it does not answer."""
    try:
        with NodeClient([node.address], timeout_s=1.0) as client:
            return next(each for each in client.status().groups if each.group == group)
    except WorkbenchError:
        return None


def leader_of(nodes: Sequence[NodeProcess], group: int) -> NodeProcess | None:
    """Return the node that serves a group, None where none says so."""
    for node in nodes:
        status = status_of(node, group)
        if status is not None and status.serving:
            return node
    return None


def await_leader(nodes: Sequence[NodeProcess], group: int) -> NodeProcess:
    """Wait until one of these nodes serves a group."""
    until(lambda: leader_of(nodes, group) is not None, f"group {group} has a leader")
    found = leader_of(nodes, group)
    assert found is not None
    return found


def addresses(nodes: Sequence[NodeProcess]) -> list[str]:
    return [node.address for node in nodes]


def await_writes(writers: Writers, more: int) -> None:
    """Wait until so many more writes were acknowledged."""
    before = writers.told.writes
    until(lambda: writers.told.writes >= before + more, f"{more} writes", deadline_s=60.0)


def test_the_check_finds_a_lost_and_a_stale_value() -> None:
    kept = Kept(b"2", {b"3"})
    assert allowed(kept, b"2")
    assert allowed(kept, b"3")
    assert not allowed(kept, b"1")
    assert not allowed(kept, None)


def test_a_leader_killed_again_and_again_loses_no_acknowledged_write(tmp_path: Path) -> None:
    waited = []
    with cluster(tmp_path, [GROUPS] * 3) as nodes, Writers(addresses(nodes)) as writers:
        for number in range(KILLS):
            await_writes(writers, 50)
            group = GROUPS[number % len(GROUPS)]
            victim = await_leader(nodes, group)
            others = [node for node in nodes if node is not victim]
            began = time.perf_counter()
            victim.kill()
            await_leader(others, group)
            waited.append(time.perf_counter() - began)
            await_writes(writers, 50)
            victim.start()
        await_writes(writers, 50)
        writers.__exit__(None, None, None)
        assert writers.check() == []
    assert writers.told.stale == []
    assert writers.told.reads > 0
    # For whoever reads the log of a long run.
    sys.stderr.write(
        f"\n{KILLS} kills, {writers.told}; failover median {statistics.median(waited):.3f} s, "
        f"{min(waited):.3f} to {max(waited):.3f} s\n"
    )


def test_a_leader_paused_beyond_the_election_timeout_serves_nothing_stale(tmp_path: Path) -> None:
    with cluster(tmp_path, [GROUPS] * 3) as nodes:
        paused = await_leader(nodes, 4)
        others = [node for node in nodes if node is not paused]
        with Writers(addresses(nodes), read_every=1) as writers:
            await_writes(writers, 50)
            paused.signal(signal.SIGSTOP)
            try:
                await_leader(others, 4)
                await_writes(writers, 100)
            finally:
                paused.signal(signal.SIGCONT)
            await_writes(writers, 200)
        assert writers.told.stale == []
        assert writers.check() == []
        # Asked by itself, the node that woke up knows that it leads no more, or asks who does.
        with client_of(paused) as alone:
            for key, kept in list(writers.keys.items())[:20]:
                found = alone.get(key)
                assert allowed(kept, found)


def test_a_node_that_is_stopped_hands_over_and_no_write_fails(tmp_path: Path) -> None:
    with cluster(tmp_path, [GROUPS] * 3) as nodes:
        with Writers(addresses(nodes)) as writers:
            for node in nodes:
                await_writes(writers, 30)
                node.signal(signal.SIGTERM)
                assert node.wait() == 0
                node.start()
                until(
                    lambda node=node: all(
                        (found := status_of(node, group)) is not None and found.leader_node > 0
                        for group in GROUPS
                    ),
                    "the node follows again",
                )
        assert (writers.told.refused, writers.told.unknown) == (0, 0)
        assert writers.told.stale == []
        assert writers.check() == []


@pytest.mark.slow
def test_a_node_that_was_away_catches_up_by_a_snapshot_while_writes_go_on(tmp_path: Path) -> None:
    with cluster(tmp_path, [GROUPS] * 3) as nodes:
        away = nodes[2]
        with Writers(addresses(nodes), clients=64, prefixes=(b"\x50",)) as writers:
            await_writes(writers, 10)
            away.kill()
            leader = await_leader(nodes[:2], 2)

            def written() -> int:
                found = status_of(leader, 2) or status_of(leader, 2)
                return 0 if found is None else found.commit_index

            until(lambda: written() > 4_500, "the log went on", deadline_s=120.0)
            away.start()

            def caught_up() -> bool:
                found = status_of(away, 2)
                return found is not None and found.applied_index >= written() - 200

            until(caught_up, "it caught up", deadline_s=60.0)
            [installed, *_] = away.events("raft_snapshot_installed")
            sent = [each for node in nodes for each in node.events("raft_snapshot_sent")]
            assert {key: installed[key] for key in ("group", "index", "files", "rows")} in [
                {key: each[key] for key in ("group", "index", "files", "rows")} for each in sent
            ]
            assert installed["group"] == 2
            assert installed["files"] >= 1
            assert not any(node.events("raft_snapshot_refused") for node in nodes)
        assert writers.check() == []
        assert writers.told.stale == []
