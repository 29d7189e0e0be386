"""Where the time of our nodes goes under each workload of `benchmarks.cluster`.

    python -m benchmarks.cluster_profile

Runs three nodes that sample themselves by their own processor time: what the thread of the event
loop was doing each time another millisecond was spent. A function is listed with its own samples
and with all in which it was somewhere on the stack, of the leader and of the followers. Samples
in `select` are other threads' time: gRPC's and the disk's. Nothing here is in the product.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.catalog_sets import folder
from benchmarks.cluster import WORKLOADS, Bench, fill, pairs_of, turn
from benchmarks.cluster_sides import Ours, kill_all, run_all, until
from workbench.node.__main__ import main as run_node

if TYPE_CHECKING:
    from types import FrameType

# The kernel counts processor time in steps of its own, so samples may come less often.
SAMPLE_S: Final = 0.001
SHOWN: Final = 24
# Times the calls of a turn.
MORE: Final = 4
SHELL: Final = frozenset({"__main__", "runners", "base_events", "server", "cluster_profile"})
OWN: Final = "own"
BELOW: Final = "on the stack"


class Sampler:
    """Counts what runs, and writes it to a file when SIGUSR1 comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own: Counter[str] = Counter()
        self._below: Counter[str] = Counter()

    def begin(self) -> None:
        """Sample from now on."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._write)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        seen: set[str] = set()
        while frame is not None:
            code = frame.f_code
            module = code.co_filename.rpartition("/")[2].removesuffix(".py")
            name = f"{module}.{code.co_qualname}"
            if not seen:
                self._own[name] += 1
            seen.add(name)
            frame = frame.f_back
        self._below.update(seen)

    def _write(self, _: int, __: FrameType | None) -> None:
        written = self._path.with_suffix(".tmp")
        written.write_text(json.dumps({OWN: self._own, BELOW: self._below}))
        written.replace(self._path)
        self._own, self._below = Counter(), Counter()


def samples(side: Ours) -> list[dict[str, dict[str, int]]]:
    """Return what every node counted since it was asked last."""
    found = []
    for server in side.servers:
        path = Path(server.command[-1]).with_suffix(".samples")
        path.unlink(missing_ok=True)
        os.kill(server.pid, signal.SIGUSR1)
        until(path.exists, f"{path} is written")
        found.append(json.loads(path.read_text()))
    return found


def show(what: str, counted: dict[str, dict[str, int]], cpu_s: float, calls: int) -> None:
    """Print the dearest functions, as microseconds of processor time of a call."""
    own, below = counted[OWN], counted[BELOW]
    total = sum(own.values())
    unit = cpu_s * 1e6 / calls / total
    below = {
        name: count
        for name, count in below.items()
        if name.partition(".")[0] not in SHELL and "frozen" not in name
    }
    print(f"\n{what}: {total * unit:,.0f} µs a call\n")
    print("| function | own | with what it calls |\n|---|---|---|")
    dearest = sorted(below, key=lambda name: (-below[name], -own.get(name, 0)))
    for name in dearest[:SHOWN]:
        print(f"| `{name}` | {own.get(name, 0) * unit:,.1f} | {below[name] * unit:,.1f} |")
    print(
        "\nBy own time:",
        ", ".join(
            f"`{name}` {count / total:.0%}"
            for name, count in sorted(own.items(), key=lambda each: -each[1])[:SHOWN]
        ),
    )


def run(root: Path, checkout: Path | None = None) -> None:
    """Drive every workload once against sampled nodes, and print what they did."""
    side = Ours(root, module="benchmarks.cluster_profile", root=checkout)
    try:
        run_all(side)
        bench = Bench(side)
        most = MORE * max(each.calls * each.rows for each in WORKLOADS)
        fill(bench, "read", pairs_of("read", most))
        for load in WORKLOADS:
            more = replace(load, calls=MORE * load.calls)
            samples(side)
            before = [each.cpu_s() for each in side.servers]
            turn(bench, more, f"profile-{load.kind}-{load.in_flight}")
            spent = [each.cpu_s() - old for each, old in zip(side.servers, before, strict=True)]
            counted = samples(side)
            leader = side.servers.index(side.leader())
            for who, node in (("leader", leader), ("a follower", leader - 1)):
                show(f"{load.what}, {who}", counted[node], spent[node], more.calls)
    finally:
        kill_all(side)


def main() -> int:
    """Run a sampled node where a configuration is given, else the workloads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster_profile")
    parser.add_argument("--config", type=Path, help="run one node, sampled")
    given = parser.parse_args()
    if given.config is None:
        with folder() as root:
            run(root)
        return 0
    Sampler(given.config.with_suffix(".samples")).begin()
    return run_node(["--config", str(given.config)])


if __name__ == "__main__":
    sys.exit(main())
