"""Many schedules over several processes, what they add up to, and the command that plays them.

    play(seed) ──▶ Outcome ─┐
    play(seed) ──▶ Outcome ─┼──add──▶ Campaign ──▶ lines for people
    play(seed) ──▶ Outcome ─┘

Rules:
- Each process plays every n-th batch of seeds, so the result does not depend on how many there
  are.
- Every failing seed is named with the line that replays it: as it comes, and in the summary.
- What is simulated is not known here: a schedule is a function of a seed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

CHUNK_SEEDS: Final = 25
REPORT_EVERY: Final = 500


class Outcome(Protocol):
    """What one schedule did."""

    @property
    def seed(self) -> int:
        """Which."""
        ...

    @property
    def trace_sha256(self) -> str:
        """Over every step; equal for equal seeds and code."""
        ...

    @property
    def steps(self) -> int:
        """Taken."""
        ...

    @property
    def checks(self) -> int:
        """Of invariants."""
        ...

    @property
    def violation(self) -> str | None:
        """What broke; None where nothing did."""
        ...

    def sums(self) -> Mapping[str, int]:
        """Return what else is counted, by what it is called in the summary."""
        ...

    def counts(self) -> Mapping[str, Counter[str]]:
        """Return what is counted by kind, `faults` among them, by what it is called."""
        ...


class Play(Protocol):
    """Plays the schedule of a seed; a module's own function, as processes are given it by name."""

    def __call__(self, seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
        """Play it, and tell every step."""
        ...


@dataclass(slots=True)
class Campaign:
    """What some schedules did, summed up.

    Attributes:
        name: Of the module whose command plays them, without `workbench.sim.`.
        schedules: Played.
        sums: As the outcomes call them.
        counts: By kind, as the outcomes call them.
        violations: By seed.
        seconds: It took, all in all.
    """

    name: str
    schedules: int = 0
    steps: int = 0
    checks: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    violations: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Take one schedule in."""
        self.schedules += 1
        self.steps += outcome.steps
        self.checks += outcome.checks
        self.sums.update(outcome.sums())
        for what, counted in outcome.counts().items():
            self.counts.setdefault(what, Counter()).update(counted)
        if outcome.violation is not None:
            self.violations[outcome.seed] = outcome.violation

    def lines(self) -> list[str]:
        """Return the summary for people."""
        rate = self.schedules / self.seconds if self.seconds else 0.0
        took = f"{self.schedules:,} schedules in {self.seconds:.1f} s ({rate:.0f}/s)"
        sums = "".join(f"{number:,} {what}, " for what, number in self.sums.items())
        faults = self.counts.get("faults", Counter())
        failed = sorted(self.violations.items())
        return [
            f"{took}: {len(self.violations)} violations",
            f"  {self.steps:,} steps, {sums}{self.checks:,} invariant checks",
            *(
                f"  {what}: {_counted(counted)}"
                for what, counted in self.counts.items()
                if what != "faults"
            ),
            f"  {faults.total():,} faults: {_counted(faults)}",
            *(f"  {replay_line(self.name, seed)}: {reason}" for seed, reason in failed),
        ]


def replay_line(name: str, seed: int) -> str:
    """Return the command that plays a seed again, step by step."""
    return f"python -m workbench.sim.{name} --seed {seed}"


def run_campaign(
    name: str,
    play: Play,
    seeds: range,
    *,
    jobs: int,
    played: Callable[[str, Outcome, int], None] = lambda *_: None,
) -> Campaign:
    """Play all seeds.

    Args:
        name: Of the module whose command plays them.
        play: Plays one.
        seeds: Which.
        jobs: Processes; 1 plays them in this one.
        played: Told of every outcome as it comes: the name, it, and how many there are by now.
    """
    campaign, started = Campaign(name), time.perf_counter()
    for outcome in _outcomes(play, seeds, jobs):
        campaign.add(outcome)
        played(name, outcome, campaign.schedules)
    campaign.seconds = time.perf_counter() - started
    return campaign


def run_command(name: str, play: Play, usage: str, arguments: Sequence[str] | None) -> int:
    """Run the command of a simulator; return its exit status: 1 where an invariant was violated.

    Args:
        name: Of its module.
        play: Plays one seed.
        usage: For `--help`.
        arguments: As given by the shell, None to ask it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m workbench.sim.{name}", description=usage)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, help="play this one, and print every step")
    parser.add_argument("--schedules", type=int, default=1_000, help="how many to play")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return _one(name, play, given.seed)
    seeds = range(given.first, given.first + given.schedules)
    campaign = run_campaign(name, play, seeds, jobs=max(given.jobs, 1), played=_report)
    _say(*campaign.lines())
    return 1 if campaign.violations else 0


def _one(name: str, play: Play, seed: int) -> int:
    outcome = play(seed, _say)
    sums = "".join(f"{number} {what}, " for what, number in outcome.sums().items())
    _say(
        f"seed {seed}: {sums}{outcome.checks} checks, trace {outcome.trace_sha256}",
        f"{replay_line(name, seed)}: {outcome.violation or 'no violation'}",
    )
    return 1 if outcome.violation else 0


def _outcomes(play: Play, seeds: range, jobs: int) -> Iterable[Outcome]:
    if jobs == 1:
        yield from map(play, seeds)
        return
    context = multiprocessing.get_context("spawn")  # forking would copy pyarrow's locks
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(play, seeds, chunksize=CHUNK_SEEDS)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {number:,}" for kind, number in sorted(counts.items())) or "none"


def _report(name: str, outcome: Outcome, done: int) -> None:
    if outcome.violation is not None:
        sys.stderr.write(f"{replay_line(name, outcome.seed)}: {outcome.violation}\n")
        sys.stderr.flush()
    if done % REPORT_EVERY == 0 and sys.stderr.isatty():
        sys.stderr.write(f"{done:,} schedules\n")


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
