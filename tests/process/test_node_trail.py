"""What a real node's log tells an engineer on call, and how long the node takes to stop."""

from __future__ import annotations

import signal
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from process.node_process import NodeProcess, client_of, configs, free_ports, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STOP_S_MAX = 3.0


@contextmanager
def three(folder: Path) -> Iterator[list[NodeProcess]]:
    """Run three nodes that keep two groups and serve metrics."""
    plain = configs(folder, [(1, 2)] * 3)
    nodes = [
        NodeProcess(replace(config, metrics_listen=f"127.0.0.1:{port}"), folder)
        for config, port in zip(plain, free_ports(3), strict=True)
    ]
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            until(lambda node=node: bool(node.events("serving")), f"{node.address} serves")
        for node in nodes:
            until(lambda node=node: len(node.events("peer_connected")) == 2, "all are linked")
        yield nodes
    finally:
        for node in nodes:
            node.signal(signal.SIGCONT)
            node.kill()


def connected(node: NodeProcess) -> dict[str, str]:
    with urllib.request.urlopen(f"http://{node.config.metrics_listen}/metrics", timeout=5) as said:
        lines = said.read().decode().splitlines()
    pairs = (line.split(" ") for line in lines if line.startswith("workbench_peer_connected{"))
    return {name.split('"')[1]: value for name, value in pairs}


def test_a_node_stops_soon_and_its_log_ends_with_that(tmp_path: Path) -> None:
    with three(tmp_path) as nodes:
        began = time.perf_counter()
        nodes[0].signal(signal.SIGTERM)
        assert nodes[0].wait() == 0
        assert time.perf_counter() - began < STOP_S_MAX
        text = nodes[0].log.read_text()
        assert "Traceback" not in text
        assert len(nodes[0].events()) == len(text.splitlines())
        assert nodes[0].events()[-1]["event"] == "stopped"
        for other in nodes[1:]:
            until(
                lambda other=other: [e["peer"] for e in other.events("peer_lost")] == [1],
                "the others say that it has gone",
            )
            [lost] = other.events("peer_lost")
            assert lost["code"] == "node_stopping"
            assert lost["address"] == nodes[0].address


def test_a_new_leader_is_told_with_its_term(tmp_path: Path) -> None:
    with three(tmp_path) as nodes:
        with client_of(*nodes) as client:
            client.put(b"a", b"1")
            leads = {each.group: each.leader_node for each in client.status().groups}

        def told(node: NodeProcess) -> dict[object, object]:
            return {e["group"]: e["leader"] for e in node.events("leader_changed")}

        for node in nodes:
            until(lambda node=node: told(node) == leads, "it tells who leads")
        victim = next(node for node in nodes if node.config.node == leads[1])
        before = next(e for e in victim.events("leader_changed") if e["group"] == 1)
        victim.kill()
        for node in nodes:
            if node is victim:
                continue

            def newest(node: NodeProcess = node) -> dict[str, object]:
                return [e for e in node.events("leader_changed") if e["group"] == 1][-1]

            until(lambda n=newest: n()["leader"] not in {None, leads[1]}, "another leads")
            assert newest()["term"] > before["term"]


def test_a_peer_that_hangs_is_told_once_and_shows_in_the_metrics(tmp_path: Path) -> None:
    with three(tmp_path) as nodes:
        watcher = nodes[0]
        assert connected(watcher) == {"2": "1.0", "3": "1.0"}
        for node in nodes[1:]:
            node.signal(signal.SIGSTOP)
        until(lambda: connected(watcher) == {"2": "0.0", "3": "0.0"}, "both are silent")
        lost = watcher.events("peer_lost")
        assert sorted((e["peer"], e["code"]) for e in lost) == [
            (2, "peer_silent"),
            (3, "peer_silent"),
        ]
        for node in nodes[1:]:
            node.signal(signal.SIGCONT)
        until(lambda: connected(watcher) == {"2": "1.0", "3": "1.0"}, "both are back")
        assert len(watcher.events("peer_lost")) == 2
        assert not watcher.events("peer_refused")
