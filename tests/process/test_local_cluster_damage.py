"""Nodes of a local cluster in each other's way, damaged, and hung: refused, told, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from process.raw_client import RawClient

from workbench.errors import Corruption, InvalidInput, Unavailable
from workbench.node.config import read_config
from workbench.node.directory import holder_of
from workbench.session import node_process
from workbench.session.local_cluster import ClusterStatus, down, running, status, up
from workbench.session.membership import add_node, remove_node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a test's cluster lies; whatever it left running is stopped."""
    path = tmp_path / "cluster"
    yield path
    for node in sorted(path.glob("node-*")):
        if pid := holder_of(node):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@contextmanager
def client_of(cluster: ClusterStatus) -> Iterator[RawClient]:
    with closing(RawClient(cluster.addresses)) as client:
        yield client


def pids(cluster: ClusterStatus) -> list[int]:
    found = [node.pid for node in cluster.nodes]
    assert all(found)
    return [pid for pid in found if pid is not None]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def nothing_runs(folder: Path) -> bool:
    return all(holder_of(node) is None for node in folder.glob("node-*"))


def run_node(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workbench.node", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_second_process_on_a_directory_is_refused(folder: Path) -> None:
    with running(folder, nodes=1, groups=1) as cluster:
        [pid] = pids(cluster)
        outcome = run_node(folder / "node-1/node.toml")
        assert outcome.returncode == 1
        last = outcome.stderr.splitlines()[-1]
        assert f"in use by process {pid}" in last
        assert status(folder).up


def test_the_directory_of_another_cluster_is_refused(folder: Path) -> None:
    with running(folder, nodes=1, groups=1):
        pass
    file = folder / "node-1/node.toml"
    text = file.read_text()
    own = read_config(file).cluster_id
    file.write_text(text.replace(own, "6f0f9a1e-0000-4000-8000-000000000001"))
    outcome = run_node(file)
    assert outcome.returncode == 1
    assert f"belongs to node 1 of cluster {own}" in outcome.stderr.splitlines()[-1]
    with pytest.raises(Corruption) as caught:
        up(folder)
    assert caught.value.code == "cluster_file_corrupt"


def test_a_damaged_log_keeps_the_cluster_down_and_says_where(folder: Path) -> None:
    with running(folder, nodes=2, groups=2) as cluster, client_of(cluster) as client:
        for number in range(20):
            client.put(b"\xf0%d" % number, b"x" * 50)
    [log] = (folder / "node-2/log").glob("*.log")
    whole = log.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    log.write_bytes(damaged)
    with pytest.raises(Unavailable) as caught:
        up(folder)
    assert caught.value.code == "node_start_failed"
    for part in ("node 2", str(log), "at offset"):
        assert part in caught.value.message
    assert "\n" not in str(caught.value)
    assert nothing_runs(folder)
    assert log.read_bytes() == damaged, "nothing was cut"
    log.write_bytes(whole)
    with running(folder) as cluster, client_of(cluster) as client:
        assert client.get(b"\xf019") == b"x" * 50


def test_a_lost_engine_is_built_again_from_the_log(folder: Path) -> None:
    import shutil

    with running(folder, nodes=1, groups=1) as cluster, client_of(cluster) as client:
        client.put(b"k", b"v")
    shutil.rmtree(folder / "node-1/engine")
    with running(folder) as cluster, client_of(cluster) as client:
        assert client.get(b"k") == b"v"


def test_a_lost_log_is_noticed(folder: Path) -> None:
    with running(folder, nodes=1, groups=1) as cluster, client_of(cluster) as client:
        client.put(b"k", b"v")
    for path in (folder / "node-1/log").iterdir():
        path.unlink()
    with pytest.raises(Unavailable) as caught:
        up(folder)
    assert caught.value.code == "node_start_failed"
    assert "log" in caught.value.message


def test_only_the_holder_of_a_lock_is_signalled(folder: Path) -> None:
    with running(folder, nodes=1, groups=1) as cluster:
        kill(pids(cluster)[0])
        with subprocess.Popen(["sleep", "60"]) as bystander:
            (folder / "node-1/LOCK").write_text(f"{bystander.pid}\n")
            assert down(folder) == ()
            assert bystander.poll() is None
            bystander.kill()


def cut(file: Path) -> str:
    """Truncate a configuration in the middle of a line, and return what it was."""
    text = file.read_text()
    file.write_text(text[: text.index("[[members]]") - 4])
    return text


def test_one_damaged_configuration_keeps_no_command_from_the_others(folder: Path) -> None:
    cluster = up(folder, nodes=3, groups=1)
    running_pids = pids(cluster)
    file = folder / "node-2/node.toml"
    whole = cut(file)
    damaged = file.read_text()

    seen = status(folder)
    assert [node.up for node in seen.nodes] == [True, True, True]
    assert not seen.up
    assert [node.problem is None for node in seen.nodes] == [True, False, True]
    assert str(file) in (seen.nodes[1].problem or "")
    assert seen.addresses == cluster.addresses

    assert sorted(each.pid for each in down(folder)) == sorted(running_pids)
    assert nothing_runs(folder)

    partly = up(folder)
    assert [node.up for node in partly.nodes] == [True, False, True]
    assert not partly.up
    assert partly.nodes[1].problem == seen.nodes[1].problem
    with client_of(partly) as client:
        client.put(b"k", b"v")
    assert file.read_text() == damaged, "what a user may mend is not written over"

    for change in (lambda: remove_node(folder, 1), lambda: add_node(folder)):
        with pytest.raises(InvalidInput) as caught:
            change()
        assert caught.value.code == "config_invalid"
        assert "`workbench cluster remove-node 2` first" in caught.value.hint
    file.write_text(whole)
    assert up(folder).up
    cut(file)
    removed = remove_node(folder, 2)
    assert removed.stopped is not None
    assert [node.node for node in status(folder).nodes] == [1, 3]
    assert status(folder).up


def test_where_all_configurations_are_damaged_down_still_stops(folder: Path) -> None:
    cluster = up(folder, nodes=1, groups=1)
    cut(folder / "node-1/node.toml")
    with pytest.raises(Corruption) as caught:
        status(folder)
    assert "node.toml" in caught.value.message
    assert [each.pid for each in down(folder)] == pids(cluster)


def test_a_group_that_needs_the_damaged_node_keeps_the_cluster_down(folder: Path) -> None:
    up(folder, nodes=2, groups=2)
    down(folder)
    file = folder / "node-2/node.toml"
    cut(file)
    with pytest.raises(Unavailable) as caught:
        up(folder)
    assert caught.value.code == "node_start_failed"
    assert "node 2 did not start" in caught.value.message
    assert str(file) in caught.value.message
    assert nothing_runs(folder)


def test_an_output_that_has_grown_too_long_is_cut_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_process, "OUTPUT_BYTES_MAX", 10_000)
    monkeypatch.setattr(node_process, "OUTPUT_KEPT_BYTES", 5_000)
    with running(folder, nodes=1, groups=1):
        pass
    log = folder / "node-1/node.log"
    mode = log.stat().st_mode
    log.write_text("".join(f"line {number}\n" for number in range(2_000)))
    with running(folder) as cluster:
        lines = log.read_text().splitlines()
        assert lines[0] == f"line {lines[0].split()[1]}"
        assert "line 1999" in lines
        assert 4_900 < len("\n".join(line for line in lines if line.startswith("line"))) < 5_000
        assert any('"serving"' in line for line in lines)
        assert cluster.up
    assert log.stat().st_mode == mode


def test_a_node_that_does_not_stop_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_process, "STOP_SECONDS_MAX", 0.3)
    cluster = up(folder, nodes=1, groups=1)
    [pid] = pids(cluster)
    os.kill(pid, signal.SIGSTOP)
    [stopped] = down(folder)
    assert (stopped.pid, stopped.killed) == (pid, True)
    assert nothing_runs(folder)
