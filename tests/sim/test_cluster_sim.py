"""Seeded schedules of whole nodes: none breaks an invariant, all can be replayed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from replays import kept_seeds, traces

from workbench.host import lane
from workbench.replica.clock import Hlc
from workbench.sim import cluster as command
from workbench.sim.campaign import run_campaign
from workbench.sim.cluster_faults import KINDS
from workbench.sim.cluster_world import play

SCHEDULES = 250
SEEDS = Path(__file__).parent / "seeds/cluster.txt"


@pytest.fixture(scope="module")
def campaign():
    return run_campaign("cluster", play, range(SCHEDULES), jobs=1)


def test_no_schedule_breaks_an_invariant_and_every_cluster_comes_back(campaign):
    assert campaign.violations == {}
    assert campaign.schedules == SCHEDULES
    assert campaign.checks > 400 * SCHEDULES
    assert campaign.sums["entries applied"] > 15 * SCHEDULES


def test_schedules_meet_every_fault_and_crashes_before_every_kind_of_effect(campaign):
    faults = campaign.counts["faults"]
    assert {*KINDS} - {"crash"} <= set(faults)
    effects = ("append", "discard", "flush", "reply", "send", "sync", "write")
    assert all(faults[f"crash before {effect}"] for effect in effects)
    assert faults["torn or lost turn"] > SCHEDULES / 20
    assert faults["lost engine writes"] > SCHEDULES / 2


def test_schedules_get_to_what_is_rare(campaign):
    reached, operators = campaign.counts["reached"], campaign.counts["operators"]
    assert reached["leader elected"] > 2 * SCHEDULES
    assert min(reached["log truncated"], reached["members changed"]) > SCHEDULES / 20
    assert min(reached["raft_snapshot installed"], reached["log cut"]) > SCHEDULES / 5
    assert operators["transfer"] > SCHEDULES / 10
    ends = campaign.counts["clients"]
    assert min(ends["WriteBatch acknowledged"], ends["GetMany acknowledged"]) > 2 * SCHEDULES
    assert min(ends["WriteBatch unknown"], ends["WriteBatch failed"]) > SCHEDULES / 2
    assert min(ends["LatestCommitTs acknowledged"], ends["ScanPage acknowledged"]) > SCHEDULES
    assert min(ends["ListCatalog acknowledged"], ends["SplitRange acknowledged"]) > SCHEDULES / 20


@pytest.mark.parametrize("seed", kept_seeds(SEEDS))
def test_a_seed_that_once_failed_does_not_any_more(seed):
    assert play(seed).violation is None


def test_the_same_seed_gives_the_same_trace_in_two_processes():
    seeds = (1, 2, 3, 7, 9, 18)
    first, second = (traces("workbench.sim.cluster_world", seeds, each) for each in ("1", "2"))
    assert first == second
    assert len(set(first)) == len(seeds)


def test_a_seed_is_replayed_step_by_step_and_message_by_message(capsys):
    assert command.main(["--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 100
    assert any("AppendRequest(" in line for line in lines)
    assert lines[-1] == "python -m workbench.sim.cluster --seed 3: no violation"
    told = re.search(r"trace ([0-9a-f]{64})", lines[-2])
    assert told is not None
    assert told.group(1) == play(3).trace_sha256


def test_a_replay_tells_pieces_of_raft_snapshots_by_their_size():
    lines: list[str] = []
    play(next(seed for seed in range(40) if sends_pieces(seed)), lines.append)
    pieces = [line for line in lines if "SnapshotChunk(" in line]
    assert pieces
    assert all(re.search(r", \d+ bytes", line) and "data=" not in line for line in pieces)


def sends_pieces(seed):
    return play(seed).reached["raft_snapshot installed"] > 0


def test_a_violation_is_told_with_the_line_that_replays_it(capsys, monkeypatch):
    monkeypatch.setattr(lane, "Hlc", lambda _: Hlc(0))
    assert command.main(["--schedules", "20"]) == 1
    out, err = capsys.readouterr()
    told = [line.strip() for line in out.splitlines() if "--seed" in line]
    assert told == err.splitlines()
    assert len(told) == int(re.findall(r"(\d+) violations", out)[0])
    found = re.search(r"python -m workbench.sim.cluster --seed (\d+): ", out)
    assert found is not None
    assert command.main(["--seed", found.group(1)]) == 1
    assert "no violation" not in capsys.readouterr().out


def test_a_campaign_is_the_same_over_two_processes():
    one, two = (run_campaign("cluster", play, range(30), jobs=jobs) for jobs in (1, 2))
    assert (one.steps, one.sums, one.counts) == (two.steps, two.sums, two.counts)
    assert one.lines()[1:] == two.lines()[1:]


@pytest.mark.slow
def test_no_schedule_of_many_breaks_an_invariant():
    campaign = run_campaign("cluster", play, range(10_000, 12_000), jobs=2)
    assert campaign.violations == {}
