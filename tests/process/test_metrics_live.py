"""/metrics, /healthz and /readyz of real nodes: what they say is what the cluster does."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from process.node_process import until
from process.writers import Writers
from prometheus_client.parser import text_string_to_metric_families

from workbench._version import __version__
from workbench.errors import Conflict
from workbench.node.config import read_config, write_config
from workbench.node.directory import holder_of
from workbench.session.local_cluster import down, status, up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a test's cluster lies; whatever it left running is stopped."""
    path = tmp_path / "cluster"
    yield path
    for node in sorted(path.glob("node-*")):
        if pid := holder_of(node):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def ask(address: str | None, path: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(address: str | None) -> Samples:
    status_code, text = ask(address, "/metrics")
    assert status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_nodes_tell_what_they_do_and_whether_they_can_serve(folder: Path) -> None:
    cluster = up(folder, groups=2, window_ms=200)
    addresses = [node.metrics_address for node in cluster.nodes]
    assert len({*addresses, *cluster.addresses}) == 6
    with Writers(cluster.addresses, prefixes=(b"\x10", b"\xd0")) as writers:
        until(lambda: writers.told.writes > 100, "some writes")
        # Of windows while there was load: a route's is told by the node that leads its group.
        until(
            lambda: (
                sum(
                    value
                    for address in addresses
                    for (name, labels), value in samples(address).items()
                    if name == "workbench_route_writes" and dict(labels)["route"] in {"1", "2"}
                )
                > 0
            ),
            "a window with load",
        )
    found = [samples(address) for address in addresses]
    for number, (node, said) in enumerate(zip(cluster.nodes, found, strict=True), start=1):
        info = {"cluster_id": cluster.cluster_id, "node": str(number), "version": __version__}
        assert said["workbench_node_info", tuple(sorted(info.items()))] == 1
        for group in (1, 2):
            label = (("group", str(group)),)
            assert said["workbench_group_term", label] >= 1
            assert said["workbench_group_leader_node", label] in {1, 2, 3}
            assert (
                said["workbench_group_commit_index", label]
                >= said["workbench_group_applied_index", label]
                > 1
            )
        assert said["workbench_log_sync_seconds_count", ()] > 0
        assert said["workbench_calls_waiting", ()] >= 0
        peers = [value for (name, _), value in said.items() if name == "workbench_peer_connected"]
        assert peers == [1, 1]
        for reason in ("unknown_group", "inbox_full", "malformed"):
            assert said["workbench_messages_dropped_total", (("reason", reason),)] == 0
        assert said["process_resident_memory_bytes", ()] > 0
        assert ask(node.metrics_address, "/healthz") == (200, "ok\n")
        assert ask(node.metrics_address, "/readyz") == (200, "ok\n")
    for group in (1, 2):
        label = (("group", str(group)),)
        assert sum(said["workbench_group_leading", label] for said in found) == 1
    assert sum(said["workbench_propose_seconds_count", ()] for said in found) >= writers.told.writes

    for node in cluster.nodes[1:]:
        assert node.pid
        os.kill(node.pid, signal.SIGKILL)
        os.waitpid(node.pid, 0)
    alone = (503, "no leader is known of groups 1, 2\n")
    until(lambda: ask(addresses[0], "/readyz") == alone, "it cannot serve alone")
    assert ask(addresses[0], "/healthz") == (200, "ok\n")
    peers = [
        value
        for (name, _), value in samples(addresses[0]).items()
        if name == "workbench_peer_connected"
    ]
    assert peers == [0, 0]
    assert up(folder).up
    until(lambda: ask(addresses[0], "/readyz")[0] == 200, "it serves again")


def test_a_metrics_port_that_is_taken_is_named_before_anything_starts(folder: Path) -> None:
    import socket

    cluster = up(folder, nodes=1, groups=1)
    down(folder)
    taken = cluster.nodes[0].metrics_address
    assert taken is not None
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(taken.rpartition(":")[2])))
        other.listen()
        with pytest.raises(Conflict, match=taken) as caught:
            up(folder)
        assert caught.value.code == "port_in_use"
    assert up(folder).up


def test_a_node_without_an_address_for_metrics_serves_all_else(folder: Path) -> None:
    from dataclasses import replace

    up(folder, nodes=1, groups=1)
    down(folder)
    file = folder / "node-1/node.toml"
    write_config(file, replace(read_config(file), metrics_listen=None))
    assert up(folder).up
    assert status(folder).nodes[0].metrics_address is None
