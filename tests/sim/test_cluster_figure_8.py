"""Figure 8 of the Raft paper, played on simulated nodes: an old entry at a majority is no commit.

    1  A leads, appends X and is cut off: nobody else has it
    2  C is elected, appends its own entry in X's place, and is cut off at once
    3  A is elected again and brings X to B: a majority has it, of an old term
    4  A is cut off; C comes back, and may be elected by B: then X is overwritten

What random schedules did not bring up in 1,237 tries is set up here step by step; random delays,
ticks and elections are the world's.
"""

from __future__ import annotations

import cluster_mutants
import pytest

from workbench.replica.commands import Mutation, WriteBatch
from workbench.sim.cluster_faults import ClusterProfile
from workbench.sim.cluster_history import Violation
from workbench.sim.cluster_nemesis import leader_of
from workbench.sim.cluster_world import World, tuned

CALM = ClusterProfile(nodes=3, clients=0, request_bytes=1, keep_entries=100, election_ticks=3)
NODES = {1, 2, 3}


class Deaf:
    """A client that hears nothing."""

    def hear(self, epoch, result):
        """Nothing."""


def until(world, condition, steps=4_000):
    for _ in range(steps):
        if condition():
            return
        world.agenda.step()
    raise AssertionError("that never came")


def cut(world, *nodes):
    """Cut these nodes off from everybody; heal all others."""
    world.network.cuts = {(a, b) for a in NODES for b in NODES if {a, b} & {*nodes}}


def figure_8(seed):
    """Play it; return the world and the index of X. Raises Violation."""
    world = World(seed, profile=CALM)
    with tuned(CALM):
        for _ in NODES:
            world.add_node()
        audit = world.auditor.groups[1]
        until(world, lambda: (led := leader_of(world, 1)) and led.host.status(1).serving)
        a = leader_of(world, 1)
        until(world, lambda: all(n.rafts[1].applied == audit.newest for n in world.nodes.values()))
        cut(world, a.node)
        write = WriteBatch((Mutation(b"0", b"x"),))
        a.call(1, write, world.expect(Deaf(), world.history.begin(1, write), 0))
        index = audit.newest + 1
        until(world, lambda: a.log.kept[1].last_index == index)
        until(world, lambda: (led := leader_of(world, 1)) and led is not a)
        c = leader_of(world, 1)
        cut(world, a.node, c.node)
        until(world, lambda: c.log.kept[1].last_index == index)
        until(world, lambda: not c.rafts[1].leader and not a.rafts[1].leader)
        cut(world, c.node)
        until(world, lambda: audit.newest >= index)
        cut(world, a.node)
        until(world, lambda: (led := leader_of(world, 1)) and led is not a)
        until(world, lambda: leader_of(world, 1).host.status(1).serving)
    return world, index


@pytest.mark.parametrize("seed", range(6))
def test_an_old_entry_that_a_leader_committed_is_never_overwritten(seed):
    world, index = figure_8(seed)
    assert world.auditor.groups[1].committed[index].term < world.auditor.groups[1].newest_term
    assert world.auditor.reached["log truncated"]


@pytest.mark.parametrize("seed", range(16))
def test_a_commit_of_old_entries_by_count_is_found(seed, monkeypatch):
    cluster_mutants.commit_entries_of_old_terms_by_count(monkeypatch)
    with pytest.raises(Violation, match=r"without LogEntry|replaces the committed|applies another"):
        figure_8(seed)
