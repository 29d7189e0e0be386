"""Reads of a leader: what comes while a round of heartbeats is under way shares the next one."""

from __future__ import annotations

import pytest
from unit.test_host_net import Net
from unit.test_host_voters import others, read

from workbench.model.node import GotMany
from workbench.ports.peers import Heartbeat


@pytest.fixture
def net() -> Net:
    net = Net()
    net.elect()
    return net


def rounds(net: Net) -> list[int]:
    """Return the rounds that heartbeats carried, as they were sent."""
    found: list[int] = []
    send = net.send

    def watched(sender: int, batches) -> None:
        for batch in batches.values():
            found.extend(
                each.message.round for each in batch if isinstance(each.message, Heartbeat)
            )
        send(sender, batches)

    net.send = watched
    return found


def test_reads_that_come_during_a_round_share_the_next(net: Net) -> None:
    leader = net.elect()
    net.write(1)
    net.tick(2)
    seen = rounds(net)
    tokens = [read(net, leader, b"k0")]
    leader.turn()
    for _ in range(10):
        tokens.append(read(net, leader, b"k0"))
        leader.turn()
    net.settle()
    assert all(isinstance(leader.replies[token], GotMany) for token in tokens)
    assert len(set(seen)) == 2


def test_a_lost_round_is_asked_again_with_the_next_heartbeat(net: Net) -> None:
    leader = net.elect()
    net.write(1)
    net.tick(2)
    net.cut = {node.number for node in others(net, leader)}
    first = read(net, leader, b"k0")
    net.settle()
    second = read(net, leader, b"k0")
    net.settle()
    assert first not in leader.replies
    assert second not in leader.replies
    net.cut = set()
    net.tick(2)
    assert isinstance(leader.replies[first], GotMany)
    assert isinstance(leader.replies[second], GotMany)
