"""`python -m workbench.sim.cluster`: play one seed of the cluster's simulator again, or many.

    --seed N                      one schedule, every step and message on stdout
    --schedules 10000 --jobs 2    seeds 0 … 9,999 over two processes, and the sums

Exit status 1 where an invariant was violated. A seed means the same schedule only for the same
code: it is kept together with the commit that it failed on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from workbench.sim.campaign import run_command
from workbench.sim.cluster_world import play

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME: Final = "cluster"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(NAME, play, __doc__ or "", arguments)


if __name__ == "__main__":
    sys.exit(main())
