"""`python -m workbench.sim.catalog`: play one seed again, or many.

    --seed N                      one schedule, every step on stdout
    --schedules 10000 --jobs 2    seeds 0 … 9,999 over two processes, and the sums

Exit status 1 where an invariant was violated. A seed means the same schedule only for the same
code: it is kept together with the commit that it failed on.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from workbench.sim.campaign import replay_line, run_campaign
from workbench.sim.catalog_world import play

if TYPE_CHECKING:
    from collections.abc import Sequence

REPORT_EVERY: Final = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m workbench.sim.catalog", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, help="play this one, and print every step")
    parser.add_argument("--schedules", type=int, default=1_000, help="how many to play")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return _one(given.seed)
    seeds = range(given.first, given.first + given.schedules)
    campaign = run_campaign(seeds, jobs=max(given.jobs, 1), progress=_progress)
    _say(*campaign.lines())
    return 1 if campaign.violations else 0


def _one(seed: int) -> int:
    outcome = play(seed, _say)
    _say(
        f"seed {seed}: {outcome.records} records, {outcome.checks} checks, "
        f"trace {outcome.trace_sha256}",
        f"{replay_line(seed)}: {outcome.violation or 'no violation'}",
    )
    return 1 if outcome.violation else 0


def _progress(done: int) -> None:
    if done % REPORT_EVERY == 0 and sys.stderr.isatty():
        sys.stderr.write(f"{done:,} schedules\n")


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
