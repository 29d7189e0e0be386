"""Kills, pauses, one-way partitions and delays, one after the other, under load.

    clients ──▶ three nodes × four groups ◀── kill -9, SIGSTOP, held and slowed wires

Clients are led over the wires like nodes, and harmed like them. No acknowledged write is lost and
no read is stale; half of the kills are over for clients within FAILOVER_S. A long run in which the
clients got less than OPERATIONS_MIN done a second shows nothing, and is void. `WORKBENCH_KILLS`
says how many kills it has.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from process.node_process import NodeProcess, configs, free_ports, until
from process.tcp_proxy import Wires
from process.test_replicated import addresses, await_leader, await_writes, leader_of
from process.writers import Writers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUPS = (1, 2, 3, 4)
# Keys of the groups, in their order.
PREFIXES = (b"\x10", b"\x50", b"\x90", b"\xd0")
KILLS = int(os.environ.get("WORKBENCH_KILLS", "20"))
OPERATIONS_MIN = 100
FAILOVER_S = 1.0
# Several times the longest election timeout.
HARM_S = 3.0


@contextmanager
def wired(folder: Path) -> Iterator[tuple[list[NodeProcess], Wires]]:
    """Run three nodes that reach each other over wires only."""
    plain = configs(folder, [GROUPS] * 3)
    pairs = [(one.node, other.node) for one in plain for other in plain if one is not other]
    port_of = {config.node: int(config.listen.rpartition(":")[2]) for config in plain}
    ports = dict(zip(pairs, free_ports(len(pairs)), strict=True))
    nodes = []
    for config in plain:
        members = tuple(
            member
            if member.node == config.node
            else replace(member, address=f"127.0.0.1:{ports[config.node, member.node]}")
            for member in config.members
        )
        nodes.append(NodeProcess(replace(config, members=members), folder))
    with Wires({pair: (port, port_of[pair[1]]) for pair, port in ports.items()}) as wires:
        try:
            for node in nodes:
                node.launch()
            for node in nodes:
                until(
                    lambda node=node: bool(node.events("serving")),
                    f"{node.address} serves",
                    deadline_s=60.0,
                )
            yield nodes, wires
        finally:
            for node in nodes:
                node.kill()


@dataclass
class Scene:
    """What harm is done to, and how long each took to be over for clients."""

    nodes: list[NodeProcess]
    wires: Wires
    writers: Writers
    waited: dict[str, list[float]] = field(default_factory=dict)

    def others(self, node: NodeProcess) -> list[NodeProcess]:
        return [each for each in self.nodes if each is not node]

    def await_new_leader(self, kind: str, group: int, victim: NodeProcess, since: float) -> None:
        """Wait until another node serves the group, and a client was told of a write there."""
        await_leader(self.others(victim), group)
        known = time.perf_counter()
        prefix = PREFIXES[group - 1]
        until(
            lambda: self.writers.acknowledged.get(prefix, 0.0) > known,
            f"writes of group {group} go on",
            deadline_s=60.0,
        )
        self.waited.setdefault(kind, []).append(self.writers.acknowledged[prefix] - since)

    def kill(self, group: int) -> None:
        victim = await_leader(self.nodes, group)
        since = time.perf_counter()
        victim.kill()
        self.await_new_leader("kill", group, victim, since)
        victim.start()

    def pause(self, group: int) -> None:
        victim = await_leader(self.nodes, group)
        since = time.perf_counter()
        victim.signal(signal.SIGSTOP)
        try:
            self.await_new_leader("pause", group, victim, since)
        finally:
            victim.signal(signal.SIGCONT)

    def partition(self, group: int) -> None:
        """Let nobody hear the leader, which still hears all."""
        victim = await_leader(self.nodes, group)
        since = time.perf_counter()
        for (sender, _), wire in self.wires.wires.items():
            wire.held = sender == victim.config.node
        try:
            self.await_new_leader("partition", group, victim, since)
        finally:
            self.wires.heal()

    def delay(self, group: int) -> None:
        """Slow down whatever the nodes say to each other."""
        for wire in self.wires.wires.values():
            wire.delay_s = 0.1
        end = time.perf_counter() + HARM_S
        until(lambda: time.perf_counter() > end, "some time", deadline_s=HARM_S + 1)
        self.wires.heal()
        until(lambda: leader_of(self.nodes, group) is not None, f"group {group} has a leader")


@pytest.mark.slow
def test_kills_pauses_partitions_and_delays_lose_nothing(tmp_path: Path) -> None:
    draw = random.Random(7)
    harms = ["kill"] * KILLS + ["pause", "partition", "delay"] * max(1, KILLS // 6)
    draw.shuffle(harms)
    rate, waited = harmed(tmp_path, harms)
    if rate < OPERATIONS_MIN:
        pytest.skip(f"void: {rate:.0f} operations a second, fewer than {OPERATIONS_MIN}")
    assert statistics.median(waited["kill"]) <= FAILOVER_S


def test_clients_find_their_way_around_a_partition_and_lose_nothing(tmp_path: Path) -> None:
    harmed(tmp_path, ["partition"])


def harmed(folder: Path, harms: list[str]) -> tuple[float, dict[str, list[float]]]:
    """Do harm, and check that nothing was lost or stale.

    Return the operations per second, and by kind of harm how long clients waited for each.
    """
    with wired(folder) as (nodes, wires):
        began = time.perf_counter()
        with Writers(addresses(nodes), clients=16, prefixes=PREFIXES) as writers:
            scene = Scene(nodes, wires, writers)
            for number, harm in enumerate(harms):
                await_writes(writers, 100)
                getattr(scene, harm)(GROUPS[number % len(GROUPS)])
            await_writes(writers, 100)
        seconds = time.perf_counter() - began
        lost = writers.check()
    told = writers.told
    rate = (told.writes + told.reads) / seconds
    figures = "; ".join(
        f"{kind}: {len(times)}, median {statistics.median(times):.2f} s, most {max(times):.2f} s"
        for kind, times in sorted(scene.waited.items())
    )
    sys.stderr.write(
        f"\n{len(harms)} harms in {seconds:.0f} s, {rate:.0f} operations/s; {figures}; "
        f"{told.writes} writes acknowledged, {told.unknown} unknown, {told.refused} refused, "
        f"{told.reads} reads; lost {len(lost)}, stale {len(told.stale)}\n"
    )
    assert lost == []
    assert told.stale == []
    return rate, scene.waited
