"""Seeded schedules of writers on a failing store: none breaks an invariant, all can be replayed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from replays import kept_seeds, traces

from workbench.catalog import commit
from workbench.sim import catalog as command
from workbench.sim.campaign import run_campaign
from workbench.sim.catalog_actions import ACTIONS
from workbench.sim.catalog_upkeep import UPKEEP
from workbench.sim.catalog_world import World, play
from workbench.sim.faults import KINDS

SCHEDULES = 120
SEEDS = Path(__file__).parent / "seeds/catalog.txt"
WITHOUT_COMMIT = {"read", "refresh", "reopen", "look_back"}


@pytest.fixture(scope="module")
def campaign():
    return run_campaign("catalog", play, range(SCHEDULES), jobs=1)


def test_no_schedule_breaks_an_invariant(campaign):
    assert campaign.violations == {}
    assert campaign.schedules == SCHEDULES
    assert campaign.checks > 200 * SCHEDULES


def test_schedules_reach_every_fault_action_and_end(campaign):
    assert set(campaign.counts["faults"]) == {*KINDS, "clock_jump"}
    assert set(campaign.counts["actions"]) - {"gc"} >= {*ACTIONS, *UPKEEP} - WITHOUT_COMMIT - {"gc"}
    ends = campaign.counts["commits"]
    assert all(ends[end] > SCHEDULES / 5 for end in ("acknowledged", "unknown", "failed"))
    assert ends["running"] == 0
    assert set(campaign.counts["reached"]) >= {
        "checkpoint",
        "floor raised",
        "object condemned",
        "condemned object deleted",
        "record trimmed",
        "swept clean",
    }


@pytest.mark.parametrize("seed", kept_seeds(SEEDS))
def test_a_seed_that_once_failed_does_not_any_more(seed):
    assert play(seed).violation is None


def test_the_same_seed_gives_the_same_trace_in_two_processes():
    seeds = (1, 2, 3, 7, 9)
    first, second = (traces("workbench.sim.catalog_world", seeds, each) for each in ("1", "2"))
    assert first == second
    assert len(set(first)) == len(seeds)


def test_seeds_differ_in_what_is_kept_up():
    assert {World(seed).upkeep for seed in range(20)} == {True, False}


def test_a_seed_is_replayed_step_by_step(capsys):
    assert command.main(["--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 50
    assert all(re.match(r"\d+ w\d\.\d+ |\d+ ", line) for line in lines[:-2])
    assert lines[-1] == "python -m workbench.sim.catalog --seed 3: no violation"


def test_a_violation_is_told_with_the_line_that_replays_it(capsys, monkeypatch):
    original = commit.Transaction._put

    def put(self):
        return original(self) or self._offer.batch

    monkeypatch.setattr(commit.Transaction, "_put", put)
    assert command.main(["--schedules", "20"]) == 1
    out = capsys.readouterr().out
    seed = int(re.search(r"python -m workbench.sim.catalog --seed (\d+): ", out).group(1))
    assert play(seed).violation is not None
    assert command.main(["--seed", str(seed)]) == 1
    assert "was acknowledged, its records are []" in capsys.readouterr().out


def test_a_campaign_is_the_same_over_two_processes():
    one, two = (run_campaign("catalog", play, range(6), jobs=jobs) for jobs in (1, 2))
    assert (one.steps, one.sums, one.counts) == (two.steps, two.sums, two.counts)
    assert one.lines()[1:] == two.lines()[1:]
