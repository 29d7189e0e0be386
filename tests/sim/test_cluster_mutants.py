"""Planted faults in consensus, host and replica: the simulator finds each, by a kept seed.

`cluster_mutants` plants them; `seeds/cluster_planted.txt` keeps for each a seed that finds it. A
seed names the same schedule only for the same code: where a kept one finds nothing any more,
others are tried, and the failure says which one to keep. What nothing plants a fault for, nobody
knows to be checked.
"""

from __future__ import annotations

from pathlib import Path

import cluster_mutants
import pytest

from workbench.sim.campaign import replay_line
from workbench.sim.cluster_world import play

SEEDS = Path(__file__).parent / "seeds/cluster_planted.txt"
TRIED = 300
# What one schedule in several hundred finds is looked for longer.
RARE = {
    "read_without_a_round": 6_000,
    "skip_a_piece_of_a_snapshot": 3_000,
    "keep_members_of_a_truncated_change": 3_000,
}


def kept():
    lines = SEEDS.read_text().splitlines()
    return {
        name: int(seed) for name, seed in (line.split() for line in lines if line[:1].isalpha())
    }


def test_every_planted_fault_has_a_seed():
    names = [mutant.__name__ for mutant in cluster_mutants.MUTANTS]
    assert sorted(kept()) == sorted(names)
    assert len(names) >= 40


@pytest.mark.parametrize("mutant", cluster_mutants.MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_fault_is_found(mutant, monkeypatch, record_property):
    seed = kept()[mutant.__name__]
    assert play(seed).violation is None
    mutant(monkeypatch)
    most = RARE.get(mutant.__name__, TRIED)
    for tried in (seed, *range(most)):
        violation = play(tried).violation
        if violation is not None:
            record_property("found", f"{replay_line('cluster', tried)}: {violation}")
            return
    pytest.fail(f"not found by seed {seed}, nor by the first {most}")
