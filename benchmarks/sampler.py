"""What load sampling costs a node: processor time per operation, on against off.

    python -m benchmarks sampler

Two real nodes of one group, each a process of its own, that do the same; the sampler of one of
them counts nothing (this module starts that one, the product has no such switch). They take turns:
the same operations to one and then to the other, in the order that the turn before did not have. A
figure is what a turn cost the node in processor time, of all its threads and by the kernel's own
clock, over the operations; elapsed time would say how busy the machine is. One pair of figures
gives one ratio. What both do the same, gRPC and the log's sync too, is in both figures.

Turns are short and many, since what else runs on the machine comes and goes. Windows have their
usual length; the few that close during a turn are in the totals, not in the median.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.model.node import Member
from workbench.model.routes import seed_routes
from workbench.node import server
from workbench.node.client import NodeClient
from workbench.node.config import NodeConfig, write_config
from workbench.node.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAIRS = 300
UNCOUNTED = 20
WINDOW_MS = 60_000
KEYS = 20_000
AT_ONCE = 100
AIM = 0.03
START_S = 60.0
# Not one of the workbench's own ports; two in a row.
PORT = 17_411


class Deaf(Sampler):
    """A sampler that counts nothing."""

    def count_reads(self, sized: object) -> None:
        """Count nothing."""

    def count_writes(self, sized: object) -> None:
        """Count nothing."""


class Node:
    """A node process, and a client of it."""

    def __init__(self, folder: Path, number: int, *, sampling: bool) -> None:
        address = f"127.0.0.1:{PORT + number}"
        config = NodeConfig(
            cluster_id="5a3b1f0e-0000-4000-8000-00000000000" + str(number),
            node=1,
            dir=folder / f"node-{number}",
            listen=address,
            members=(Member(1, address, (1,)),),
            routes=tuple(seed_routes([b"k%08d" % (KEYS // 2)])),
            window_ms=WINDOW_MS,
        )
        config = replace(config, routes=tuple(replace(r, group=1) for r in config.routes))
        file = folder / f"node-{number}.toml"
        write_config(file, config)
        command = [sys.executable, "-m", "benchmarks.sampler", str(file)]
        with (folder / f"node-{number}.log").open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - this module, by our own interpreter
                [*command, "on" if sampling else "off"], stdout=subprocess.DEVNULL, stderr=log
            )
        self.client = NodeClient([address])
        self._sequence = 0

    def wait(self) -> None:
        """Return once it answers for its group."""
        end = time.perf_counter() + START_S
        while True:
            try:
                if all(group.serving for group in self.client.status().groups):
                    return
            except Exception:
                if self.process.poll() is not None or time.perf_counter() > end:
                    raise
            time.sleep(0.05)

    def cpu_ns(self) -> int:
        """Return the processor time of all threads so far."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())

    def put(self, number: int) -> None:
        """Write one key in a call of its own."""
        self.client.put(b"k%08d" % (number * 7_919 % KEYS), b"v" * 100)

    def write(self, number: int) -> None:
        """Write many keys in one call."""
        self._sequence += 1
        rows = [(key, b"v" * 100) for key in _keys(number)]
        self.client.batch_write(1, rows, client_id=b"c" * 16, sequence=self._sequence)

    def read(self, number: int) -> None:
        """Read many keys in one call."""
        self.client.multi_get(1, list(_keys(number)))


# What one turn does, how many calls of it, how many keys a call.
WORK: dict[str, tuple[Callable[[Node, int], None], int, int]] = {
    "single puts of 100 bytes": (Node.put, 40, 1),
    f"writes of {AT_ONCE} keys of 100 bytes": (Node.write, 10, AT_ONCE),
    f"MultiGet of {AT_ONCE} keys": (Node.read, 10, AT_ONCE),
}


def _keys(number: int) -> Iterator[bytes]:
    return (b"k%08d" % ((number * AT_ONCE + i) * 7_919 % KEYS) for i in range(AT_ONCE))


@contextmanager
def nodes() -> Iterator[tuple[Node, Node]]:
    """Run a node with a sampler and one without; neither is left behind."""
    with tempfile.TemporaryDirectory(prefix="sampler-") as folder:
        both = [Node(Path(folder), i, sampling=not i) for i in range(2)]
        try:
            for node in both:
                node.wait()
            yield both[0], both[1]
        finally:
            for node in both:
                node.client.close()
                node.process.kill()
                node.process.wait()


def cost(node: Node, work: str, turn: int) -> float:
    """Return the processor time of one turn, in ns per operation."""
    call, calls, keys = WORK[work]
    before = node.cpu_ns()
    for i in range(calls):
        call(node, turn * calls + i)
    return (node.cpu_ns() - before) / (calls * keys)


def pairs(on: Node, off: Node, work: str) -> list[tuple[float, float]]:
    """Return what each turn cost with a sampler and without, in ns per operation."""
    figures = []
    for turn in range(PAIRS + UNCOUNTED):
        if turn % 2:
            without = cost(off, work, turn)
            figures.append((cost(on, work, turn), without))
        else:
            sampled = cost(on, work, turn)
            figures.append((sampled, cost(off, work, turn)))
    return figures[UNCOUNTED:]


def run() -> Iterator[str]:
    """Yield the table's lines, then notes."""
    spread = []
    with nodes() as (on, off):
        for work in WORK:
            figures = pairs(on, off, work)
            ours, theirs = (statistics.median(side) for side in zip(*figures, strict=True))
            extra = sorted(sampled / without - 1 for sampled, without in figures)
            middle = statistics.median(extra)
            low, _, high = statistics.quantiles(extra, n=4)
            # Of the median, by order statistics: 1.96 standard deviations of a fair coin's count.
            aside = round(0.98 * PAIRS**0.5)
            least, most = extra[PAIRS // 2 - aside], extra[PAIRS // 2 + aside]
            total = sum(one for one, _ in figures) / sum(other for _, other in figures) - 1
            yield (
                f"| {work}, sampled, processor time per key | {ours / 1e3:.2f} µs | not sampled "
                f"| {theirs / 1e3:.2f} µs | {1 / (1 + middle):.3f} ({1 / (1 + high):.3f} – "
                f"{1 / (1 + low):.3f}, half of the pairs) | {PAIRS} "
                f"| < {AIM:.0%}: {'met' if middle < AIM else '**MISSED**'} |"
            )
            spread.append(
                f"- {work}: {middle:+.1%} in the median of {PAIRS} pairs (95 % interval "
                f"{least:+.1%} to {most:+.1%}), half of the pairs from {low:+.1%} to {high:+.1%}; "
                f"over the totals {total:+.1%}"
            )
        closed = len(on.client.windows().closed)
    yield (
        "What load sampling adds, sampled against not sampled; "
        f"{closed} windows were closed meanwhile:\n\n" + "\n".join(spread)
    )


def serve() -> int:
    """Run a node as `python -m benchmarks.sampler CONFIG on|off`."""
    config, sampling = sys.argv[1:]
    if sampling == "off":
        server.Sampler = Deaf
    return server.serve(Path(config))


if __name__ == "__main__":
    sys.exit(serve())
