"""One of three nodes with a failing disk, damaged files, or the wrong cluster: the others go on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from process.node_process import NodeProcess, cluster, configs, free_ports, until
from process.test_replicated import (
    GROUPS,
    addresses,
    await_leader,
    await_writes,
    leader_of,
    status_of,
)
from process.writers import Writers

if TYPE_CHECKING:
    from pathlib import Path

# A limit on the size of a file stands in for a full disk, a patch for a disk that fails to sync.
LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, 2**15))
runpy.run_module("workbench.node", run_name="__main__")
"""
UNSYNCED = """
import errno, os, runpy
from workbench.node import log
syncs, sync = [], log.LogFiles.sync
def failing(self, handle):
    syncs.append(handle)
    if len(syncs) > 30:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    sync(self, handle)
log.LogFiles.sync = failing
runpy.run_module("workbench.node", run_name="__main__")
"""


def start_with(node: NodeProcess, script: str) -> None:
    """Start a node under a script that does it harm."""
    with node.log.open("ab") as log:
        node.process = subprocess.Popen(
            [sys.executable, "-c", script, "--config", str(node.file)], stderr=log
        )


def follows_all(node: NodeProcess) -> bool:
    found = [status_of(node, group) for group in GROUPS]
    return all(each is not None and each.leader_node > 0 for each in found)


@pytest.mark.parametrize(
    ("script", "codes"),
    [(LIMITED, {"disk_full", "log_write_failed"}), (UNSYNCED, {"sync_failed"})],
    ids=["disk full", "sync fails"],
)
def test_a_disk_that_fails_ends_its_node_while_the_others_go_on(
    tmp_path: Path, script: str, codes: set[str]
) -> None:
    with cluster(tmp_path, [GROUPS] * 3) as nodes, Writers(addresses(nodes)) as writers:
        await_writes(writers, 20)
        harmed = nodes[1]
        harmed.kill()
        start_with(harmed, script)
        assert harmed.wait(60.0) == 1
        assert harmed.events("failed")[-1]["code"] in codes
        assert harmed.log.read_text().splitlines()[-1].startswith("error: ")
        for group in GROUPS:
            await_leader([nodes[0], nodes[2]], group)
        await_writes(writers, 50)
        harmed.start()
        until(lambda: follows_all(harmed), "it follows again")
        await_writes(writers, 20)
        writers.__exit__(None, None, None)
        assert writers.check() == []
    assert writers.told.stale == []


def test_a_damaged_segment_keeps_its_node_down_while_the_others_go_on(tmp_path: Path) -> None:
    with cluster(tmp_path, [GROUPS] * 3) as nodes, Writers(addresses(nodes)) as writers:
        await_writes(writers, 50)
        harmed = nodes[2]
        harmed.kill()
        [segment] = (harmed.config.dir / "log").glob("*.log")
        whole = segment.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 2] ^= 1
        segment.write_bytes(damaged)
        assert harmed.launch().wait(20) == 1
        assert harmed.events("failed")[-1]["code"] == "log_corrupt"
        last = harmed.log.read_text().splitlines()[-1]
        assert str(segment) in last
        assert "at offset" in last
        assert segment.read_bytes() == damaged, "nothing was cut"
        for group in GROUPS:
            await_leader(nodes[:2], group)
        await_writes(writers, 50)
        segment.write_bytes(whole)
        harmed.start()
        until(lambda: follows_all(harmed), "it follows again")
        writers.__exit__(None, None, None)
        assert writers.check() == []
    assert writers.told.stale == []


def test_pieces_of_no_raft_snapshot_are_dropped_at_the_start(tmp_path: Path) -> None:
    with cluster(tmp_path, [GROUPS] * 3) as nodes, Writers(addresses(nodes)) as writers:
        await_writes(writers, 20)
        nodes[0].kill()
        folder = nodes[0].config.dir / "snapshots"
        for left in (folder / "2.in", folder / "3.out-1", folder / "check"):
            left.mkdir(parents=True, exist_ok=True)
            (left / "0.sst").write_bytes(b"junk")
        (folder / "4").write_bytes(b"of another version")
        nodes[0].start()
        until(lambda: follows_all(nodes[0]), "it follows again")
        assert [path.name for path in folder.iterdir()] == ["check"]
        assert not (folder / "check/0.sst").exists()
        await_writes(writers, 20)
        writers.__exit__(None, None, None)
        assert writers.check() == []


@pytest.mark.slow
def test_damaged_pieces_that_the_log_counts_on_stop_the_node_with_their_name(
    tmp_path: Path,
) -> None:
    """A node is killed between the log's reset and the install; then its pieces are damaged."""
    stop_at_install = """
import os, runpy, signal
from workbench.node import sst_snapshots
sst_snapshots.SstSnapshots.begin_install = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
runpy.run_module("workbench.node", run_name="__main__")
"""
    with cluster(tmp_path, [GROUPS] * 3) as nodes:
        with Writers(addresses(nodes), clients=64, prefixes=(b"\x50",)) as writers:
            await_writes(writers, 10)
            away = nodes[2]
            away.kill()
            leader = await_leader(nodes[:2], 2)
            until(
                lambda: (found := status_of(leader, 2)) is not None and found.commit_index > 4_500,
                "the log went on",
                deadline_s=120.0,
            )
            start_with(away, stop_at_install)
            assert away.wait(60.0) < 0
            pieces = away.config.dir / "snapshots/2.in/0.sst"
            whole = pieces.read_bytes()
            pieces.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
            assert away.launch().wait(20) == 1
            failed = away.events("failed")[-1]
            assert failed["code"] == "raft_snapshot_corrupt"
            pieces.write_bytes(whole)
            away.start()
            until(lambda: follows_all(away), "the install was made again")
            assert away.events("raft_snapshot_installed")[-1]["group"] == 2
        assert writers.check() == []
    assert writers.told.stale == []


def test_a_node_of_another_cluster_is_refused_and_nothing_else_happens(tmp_path: Path) -> None:
    with cluster(tmp_path, [GROUPS] * 3) as nodes, Writers(addresses(nodes)) as writers:
        await_writes(writers, 20)
        [port] = free_ports(1)
        own = f"127.0.0.1:{port}"
        like = configs(tmp_path / "elsewhere", [GROUPS] * 3)[2]
        members = tuple(
            replace(member, address=own if member.node == 3 else nodes[member.node - 1].address)
            for member in like.members
        )
        (tmp_path / "elsewhere").mkdir()
        stranger = NodeProcess(
            replace(
                like,
                cluster_id="6f0f9a1e-0000-4000-8000-000000000001",
                listen=own,
                members=members,
            ),
            tmp_path / "elsewhere",
        )
        terms = {group: await_leader(nodes, group) for group in GROUPS}
        try:
            stranger.launch()
            until(
                lambda: all(
                    any(event["code"] == "peer_foreign" for event in node.events("peer_refused"))
                    for node in nodes[:2]
                ),
                "both refused it",
            )
            await_writes(writers, 20)
            assert {group: leader_of(nodes, group) for group in GROUPS} == terms
            assert any(
                event["code"] == "peer_foreign" for event in stranger.events("peer_unreachable")
            )
        finally:
            stranger.kill()
        writers.__exit__(None, None, None)
        assert writers.check() == []
    assert writers.told.stale == []
