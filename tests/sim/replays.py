"""What the tests of both simulators ask of a schedule that is played again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def kept_seeds(file: Path) -> list[int]:
    """Return the seeds of a file that lists one a line, before what it is of."""
    return [int(line.split()[0]) for line in file.read_text().splitlines() if line[:1].isdigit()]


def traces(world: str, seeds: Sequence[int], hash_seed: str) -> list[str]:
    """Return the trace hashes of schedules that another process plays; `world` is its module."""
    script = (
        f"from {world} import play\n"
        f"for seed in {list(seeds)}:\n    print(seed, play(seed).trace_sha256)"
    )
    played = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return re.findall(r"[0-9a-f]{64}", played.stdout)
