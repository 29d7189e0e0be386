"""A local cluster of real processes: started, killed, damaged, in each other's way, stopped."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from process.raw_client import RawClient

from workbench.errors import (
    AlreadyExists,
    Conflict,
    Corruption,
    InvalidArgument,
    InvalidInput,
    NotFound,
    WorkbenchError,
)
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.node.config import read_config, write_config
from workbench.node.directory import holder_of
from workbench.session.local_cluster import ClusterStatus, down, running, status, up

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


@contextmanager
def listening() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def pids(cluster: ClusterStatus) -> list[int]:
    found = [node.pid for node in cluster.nodes]
    assert all(found)
    return [pid for pid in found if pid is not None]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def nothing_runs(folder: Path) -> bool:
    return all(holder_of(node) is None for node in folder.glob("node-*"))


def test_a_cluster_serves_survives_a_kill_and_goes(folder: Path) -> None:
    cluster = up(folder, nodes=2, groups=3)
    assert cluster.up
    assert cluster.catalog_version == 1
    assert [node.groups for node in cluster.nodes] == [(1, 3), (2,)]
    before = pids(cluster)
    keys = [bytes([first]) + b"key" for first in range(0, 256, 16)]
    with client_of(cluster) as client:
        assert client.list_routes().cluster_id == cluster.cluster_id
        for key in keys:
            client.put(key, key * 2)
    with pytest.raises(AlreadyExists) as running_already:
        up(folder)
    assert running_already.value.code == "cluster_up"

    kill(before[1])
    seen = status(folder)
    assert [node.up for node in seen.nodes] == [True, False]
    assert seen.nodes[1].pid is None
    assert seen.nodes[1].status is None
    assert not seen.up

    again = up(folder)
    assert again.up
    assert again.addresses == cluster.addresses
    assert pids(again)[0] == before[0], "what ran was left alone"
    with client_of(again) as client:
        assert [client.get(key) for key in keys] == [key * 2 for key in keys]

    stopped = down(folder)
    assert [(node.node, node.killed) for node in stopped] == [(1, False), (2, False)]
    assert nothing_runs(folder)
    assert down(folder) == ()
    for pid in pids(again):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    gone = status(folder)
    assert not any(node.up for node in gone.nodes)
    assert gone.catalog_version is None


def test_data_outlive_a_stop_and_a_kill_of_all(folder: Path) -> None:
    with running(folder, nodes=2, groups=2) as cluster, client_of(cluster) as client:
        client.put(b"stopped", b"1")
    assert nothing_runs(folder)
    cluster = up(folder, nodes=2, groups=2)
    with client_of(cluster) as client:
        client.put(b"\xf0killed", b"2")
    for pid in pids(cluster):
        kill(pid)
    with running(folder) as cluster, client_of(cluster) as client:
        values = [client.get(key) for key in (b"stopped", b"\xf0killed")]
    assert values == [b"1", b"2"]


def test_more_nodes_than_groups_forward(folder: Path) -> None:
    with running(folder, nodes=2, groups=1) as cluster:
        assert cluster.nodes[1].groups == ()
        with closing(RawClient([cluster.addresses[1]])) as client:
            client.put(b"k", b"v")
            assert client.get(b"k") == b"v"


def test_groups_are_kept_by_nodes_in_turn(folder: Path) -> None:
    with running(folder, nodes=4, groups=4, replicas=3) as cluster:
        kept = [node.groups for node in cluster.nodes]
        assert kept == [(1, 3, 4), (1, 2, 4), (1, 2, 3), (2, 3, 4)]
        assert sorted(cluster.served) == [1, 2, 3, 4]
        with closing(RawClient([cluster.addresses[3]])) as client:
            for first in range(0, 256, 16):
                client.put(bytes([first]), b"v")
            assert client.get(b"\x00") == b"v"
        kill(pids(cluster)[0])
        with closing(RawClient([cluster.addresses[3]], timeout_s=20.0)) as client:
            assert [client.get(bytes([first])) for first in range(0, 256, 16)] == [b"v"] * 16
        again = up(folder)
        assert again.up
    with pytest.raises(Conflict, match="replicas = 3, not 1"):
        up(folder, replicas=1)


def test_a_failure_within_the_block_stops_the_cluster_too(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), running(folder, nodes=1, groups=1):
        _ = 1 // 0
    assert nothing_runs(folder)
    with running(folder, keep=True):
        pass
    assert not nothing_runs(folder)
    down(folder)


def test_given_routes_and_windows_are_what_the_nodes_serve(folder: Path) -> None:
    routes = [
        RouteDescriptor(8, Span(b"m", None), 2),
        RouteDescriptor(5, Span(b"", b"m"), 1),
    ]
    with running(folder, nodes=1, routes=routes, window_ms=250, buckets=4) as cluster:
        with client_of(cluster) as client:
            assert client.list_routes().routes == (routes[1], routes[0])
            assert client.status().window_ms == 250
        down(folder)
        for other in ({"groups": 3}, {"nodes": 2}, {"window_ms": 300}, {"buckets": 5}):
            with pytest.raises(Conflict) as caught:
                up(folder, **other)  # type: ignore[arg-type]
            assert caught.value.code == "cluster_differs"
        with pytest.raises(Conflict):
            up(folder, routes=routes[1:])
        up(folder, routes=routes[::-1], window_ms=250)


def test_a_taken_port_is_named_and_nothing_is_begun(folder: Path) -> None:
    with listening() as port:
        with pytest.raises(Conflict) as caught:
            up(folder, nodes=1, groups=1, base_port=port)
        assert caught.value.code == "port_in_use"
        assert str(port) in caught.value.message
        assert not folder.exists()
    up(folder, nodes=1, groups=1, base_port=port)
    down(folder)


def test_a_port_taken_meanwhile_keeps_the_whole_cluster_down(folder: Path) -> None:
    with running(folder, nodes=2, groups=2) as cluster:
        port = int(cluster.addresses[1].rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(Conflict) as caught:
            up(folder)
        assert caught.value.code == "port_in_use"
        assert "node 2" in caught.value.message
        assert nothing_runs(folder)
    up(folder)
    down(folder)


def test_what_is_no_cluster_is_left_alone(folder: Path, tmp_path: Path) -> None:
    for call in (down, status):
        with pytest.raises(NotFound) as absent:
            call(folder)
        assert absent.value.code == "cluster_absent"
        assert not folder.exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_text("")
    with pytest.raises(Conflict) as foreign:
        up(tmp_path / "photos")
    assert foreign.value.code == "directory_foreign"
    assert "cat.jpg" in foreign.value.message
    with pytest.raises(NotFound):
        down(tmp_path / "photos")
    assert not list((tmp_path / "photos").glob("node-*"))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"nodes": 0}, "nodes_out_of_range"),
        ({"nodes": 65}, "nodes_out_of_range"),
        ({"groups": 0}, "groups_out_of_range"),
        ({"groups": 257}, "groups_out_of_range"),
        ({"replicas": 0}, "replicas_out_of_range"),
        ({"replicas": 4}, "replicas_out_of_range"),
        ({"nodes": 9, "replicas": 8}, "replicas_out_of_range"),
        ({"base_port": 0}, "port_out_of_range"),
        ({"base_port": 65_535, "nodes": 2}, "port_out_of_range"),
        ({"window_ms": 1}, "config_invalid"),
        ({"buckets": 0}, "config_invalid"),
        ({"routes": [RouteDescriptor(1, Span(b"", None), 2)]}, "config_invalid"),
        ({"routes": [RouteDescriptor(1, Span(b"", None), 3)], "groups": 2}, "config_invalid"),
        ({"routes": [RouteDescriptor(1, Span(b"a", None), 1)]}, "config_invalid"),
        ({"routes": [RouteDescriptor(1, Span(b"", None), 2**40)]}, "groups_out_of_range"),
    ],
    ids=str,
)
def test_a_cluster_that_cannot_be_is_refused(
    folder: Path, options: dict[str, object], code: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        up(folder, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert list(folder.glob("node-*")) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "workbench.local_cluster/1", "nodes": []}', "[" * 100_000]
)
def test_a_damaged_cluster_file_is_told(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "cluster.json").write_text(text)
    for call in (up, status, down):
        with pytest.raises(WorkbenchError) as caught:
            call(folder)
        assert caught.value.code == "cluster_file_corrupt"


def test_a_cluster_file_cannot_name_other_places(folder: Path, tmp_path: Path) -> None:
    with running(folder, nodes=1, groups=1):
        pass
    file = folder / "cluster.json"
    file.write_text(file.read_text().replace('"node-1"', '"../elsewhere"'))
    with pytest.raises(Corruption):
        down(folder)
    config = read_config(folder / "node-1/node.toml")
    assert config.dir == folder / "node-1"
    write_config(tmp_path / "copy.toml", config)


def test_two_commands_at_once_do_not_interleave(folder: Path) -> None:
    import fcntl

    with running(folder, nodes=1, groups=1), (folder / "cluster.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for call in (up, down):
            with pytest.raises(Conflict) as caught:
                call(folder)
            assert caught.value.code == "cluster_busy"
        fcntl.flock(lock, fcntl.LOCK_UN)


def test_a_port_range_beyond_the_last_is_wrong_usage(folder: Path) -> None:
    with pytest.raises(InvalidArgument):
        up(folder, nodes=3, base_port=65_534)
