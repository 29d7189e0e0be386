"""Many schedules over several processes, and what they add up to.

Each process plays every n-th seed, so that the result does not depend on how many there are. The
first failing seeds are named with the line that replays them.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from workbench.sim.catalog_world import Outcome, play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CHUNK_SEEDS: Final = 25
NAMED_MAX: Final = 20


@dataclass(slots=True)
class Campaign:
    """What some schedules did, summed up.

    Attributes:
        schedules: Played.
        violations: By seed.
        seconds: It took, all in all.
    """

    schedules: int = 0
    steps: int = 0
    calls: int = 0
    checks: int = 0
    records: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    violations: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Take one schedule in."""
        self.schedules += 1
        self.steps += outcome.steps
        self.calls += outcome.calls
        self.checks += outcome.checks
        self.records += outcome.records
        self.faults += outcome.faults
        self.ends += outcome.ends
        self.actions += outcome.actions
        self.reached += outcome.reached
        if outcome.violation is not None:
            self.violations[outcome.seed] = outcome.violation

    def lines(self) -> list[str]:
        """Return the summary for people."""
        rate = self.schedules / self.seconds if self.seconds else 0.0
        took = f"{self.schedules:,} schedules in {self.seconds:.1f} s ({rate:.0f}/s)"
        done = f"{self.steps:,} steps, {self.calls:,} store calls, {self.records:,} records"
        failed = sorted(self.violations.items())[:NAMED_MAX]
        return [
            f"{took}: {len(self.violations)} violations",
            f"  {done}, {self.checks:,} invariant checks",
            f"  commits: {_counted(self.ends)}",
            f"  actions: {_counted(self.actions)}",
            f"  reached: {_counted(self.reached)}",
            f"  {self.faults.total():,} faults: {_counted(self.faults)}",
            *(f"  {replay_line(seed)}: {reason}" for seed, reason in failed),
        ]


def replay_line(seed: int) -> str:
    """Return the command that plays a seed again, step by step."""
    return f"python -m workbench.sim.catalog --seed {seed}"


def run_campaign(
    seeds: range, *, jobs: int, progress: Callable[[int], None] = lambda _: None
) -> Campaign:
    """Play all seeds.

    Args:
        seeds: Which.
        jobs: Processes; 1 plays them in this one.
        progress: Told how many are done.
    """
    campaign, started = Campaign(), time.perf_counter()
    for outcome in _outcomes(seeds, jobs):
        campaign.add(outcome)
        progress(campaign.schedules)
    campaign.seconds = time.perf_counter() - started
    return campaign


def _outcomes(seeds: range, jobs: int) -> Iterable[Outcome]:
    if jobs == 1:
        yield from map(play, seeds)
        return
    context = multiprocessing.get_context("spawn")  # forking would copy pyarrow's locks
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(play, seeds, chunksize=CHUNK_SEEDS)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {number:,}" for kind, number in sorted(counts.items())) or "none"
