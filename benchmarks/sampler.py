"""What load sampling costs a node: processor time per operation, on against off.

    python -m benchmarks sampler

One real node of one group whose sampler counts or counts nothing, as it is told by writes of two
keys (this module starts it so, the product has no such switch). Turns take turns: the same
operations while it counts and while it does not, in an order drawn by lot. Two nodes beside each
other would not do: two that both count nothing were seen to differ by 5 %, whichever came first.

Two figures, both of processor time by the kernel's own clock:

- pairs: what a turn cost the node, of all its threads, over the operations. One pair of turns gives
  one ratio. What both do the same, gRPC and the log's sync too, is in both. Counting happens many
  accesses at a time, so the median turn has less of it than the totals.
- own: what the node's one counting thread spent in the sampler's two methods over all turns that
  counted, passes over what waited included, less what asking the clock took. It knows nothing of
  what sampling costs others, by memory that it drives from the cache, and varies far less.

The pairs of key and size that the sampler is handed are made in either case.

Turns are short and many, since what else runs on the machine comes and goes. Windows have their
usual length; the few that close during a turn are in the totals, not in the median.
"""

from __future__ import annotations

import random
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
from workbench.node.kv_client import Kv, Mutation
from workbench.node.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PAIRS = 300
UNCOUNTED = 20
WINDOW_MS = 60_000
KEYS = 20_000
AT_ONCE = 100
AIM = 0.03
START_S = 60.0
# Not one of the workbench's own ports.
PORT = 17_411
# Keys whose write tells the node to count nothing, and to count.
SWITCHES = (b"switch-off", b"switch-on")


class Switchable(Sampler):
    """A sampler that can be told to count nothing, and that times itself."""

    counts = True
    own_ns = 0
    clock_ns = 0
    keys = 0
    told = Path()

    def count_reads(self, sized: Sequence[tuple[bytes, int]]) -> None:
        """Count, where it is to."""
        if self.counts:
            self._timed(super().count_reads, sized)

    def count_writes(self, sized: Sequence[tuple[bytes, int]]) -> None:
        """Count, where it is to; a write of a switch is none."""
        if sized[0][0] in SWITCHES:
            self.counts = bool(SWITCHES.index(sized[0][0]))
            self.told.write_text(f"{self.own_ns - self.clock_ns} {self.keys}")
        elif self.counts:
            self._timed(super().count_writes, sized)

    def _timed(
        self,
        count: Callable[[Sequence[tuple[bytes, int]]], None],
        sized: Sequence[tuple[bytes, int]],
    ) -> None:
        # Asking this clock takes microseconds on a virtual machine, so that is timed too.
        idle_ns = time.thread_time_ns()
        began_ns = time.thread_time_ns()
        count(sized)
        self.own_ns += time.thread_time_ns() - began_ns
        self.clock_ns += began_ns - idle_ns
        self.keys += len(sized)


class Node:
    """A node process, and a client of it."""

    def __init__(self, folder: Path) -> None:
        address = f"127.0.0.1:{PORT}"
        config = NodeConfig(
            cluster_id="5a3b1f0e-0000-4000-8000-000000000000",
            node=1,
            dir=folder / "node",
            listen=address,
            members=(Member(1, address, (1,)),),
            routes=tuple(seed_routes([b"k%08d" % (KEYS // 2)])),
            window_ms=WINDOW_MS,
        )
        config = replace(config, routes=tuple(replace(r, group=1) for r in config.routes))
        file = folder / "node.toml"
        write_config(file, config)
        self._told = _told_by(file)
        command = [sys.executable, "-m", "benchmarks.sampler", str(file)]
        with (folder / "node.log").open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - this module, by our own interpreter
                command, stdout=subprocess.DEVNULL, stderr=log
            )
        self.client = NodeClient([address])
        self.kv = Kv([address])

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

    def switch(self, *, counting: bool) -> None:
        """Have it count from now on, or not."""
        self.kv.put(SWITCHES[counting], b"")

    def own(self) -> tuple[int, int]:
        """Return ns of processor time spent on counting, and keys, up to the last switch."""
        spent_ns, keys = map(int, self._told.read_text().split())
        return spent_ns, keys

    def put(self, number: int) -> None:
        """Write one key in a call of its own."""
        self.kv.put(b"k%08d" % (number * 7_919 % KEYS), b"v" * 100)

    def write(self, number: int) -> None:
        """Write many keys in one call."""
        self.kv.write([Mutation(key, b"v" * 100) for key in _keys(number)])

    def read(self, number: int) -> None:
        """Read many keys in one call."""
        self.kv.multi_get(list(_keys(number)))


# What one turn does, how many calls of it, how many keys a call.
WORK: dict[str, tuple[Callable[[Node, int], None], int, int]] = {
    "single puts of 100 bytes": (Node.put, 40, 1),
    f"writes of {AT_ONCE} keys of 100 bytes": (Node.write, 10, AT_ONCE),
    f"MultiGet of {AT_ONCE} keys": (Node.read, 10, AT_ONCE),
}


def _keys(number: int) -> Iterator[bytes]:
    return (b"k%08d" % ((number * AT_ONCE + i) * 7_919 % KEYS) for i in range(AT_ONCE))


@contextmanager
def node() -> Iterator[Node]:
    """Run a node, and leave it not behind."""
    with tempfile.TemporaryDirectory(prefix="sampler-") as folder:
        started = Node(Path(folder))
        try:
            started.wait()
            yield started
        finally:
            started.kv.close()
            started.client.close()
            started.process.kill()
            started.process.wait()


def cost(node: Node, work: str, turn: int) -> float:
    """Return the processor time of one turn, in ns per operation."""
    call, calls, keys = WORK[work]
    before = node.cpu_ns()
    for i in range(calls):
        call(node, turn * calls + i)
    return (node.cpu_ns() - before) / (calls * keys)


def pairs(node: Node, work: str) -> tuple[list[tuple[float, float]], float]:
    """Return what turns cost with and without counting, and what counting took, in ns per key."""
    figures = []
    order = random.Random(work)  # noqa: S311 - an order of turns, no secret
    began_ns = began_keys = 0
    for turn in range(PAIRS + UNCOUNTED):
        if turn == UNCOUNTED:
            node.switch(counting=False)
            began_ns, began_keys = node.own()
        costs = {}
        for counting in order.sample([True, False], 2):
            node.switch(counting=counting)
            costs[counting] = cost(node, work, turn)
        figures.append((costs[True], costs[False]))
    node.switch(counting=False)
    ended_ns, ended_keys = node.own()
    return figures[UNCOUNTED:], (ended_ns - began_ns) / (ended_keys - began_keys)


def run() -> Iterator[str]:
    """Yield the table's lines, then notes."""
    spread = []
    with node() as started:
        for work in WORK:
            figures, own = pairs(started, work)
            ours, theirs = (statistics.median(side) for side in zip(*figures, strict=True))
            extra = sorted(sampled / without - 1 for sampled, without in figures)
            middle = statistics.median(extra)
            low, _, high = statistics.quantiles(extra, n=4)
            # Of the median, by order statistics: 1.96 standard deviations of a fair coin's count.
            aside = round(0.98 * PAIRS**0.5)
            least, most = extra[PAIRS // 2 - aside], extra[PAIRS // 2 + aside]
            total = sum(one for one, _ in figures) / sum(other for _, other in figures) - 1
            met = max(middle, own / theirs) < AIM
            yield (
                f"| {work}, sampled, processor time per key | {ours / 1e3:.2f} µs | not sampled "
                f"| {theirs / 1e3:.2f} µs | {1 / (1 + middle):.3f} ({1 / (1 + high):.3f} – "
                f"{1 / (1 + low):.3f}, half of the pairs) | {PAIRS} "
                f"| < {AIM:.0%}: {'met' if met else '**MISSED**'} |"
            )
            spread.append(
                f"- {work}: {middle:+.1%} in the median of {PAIRS} pairs (95 % interval "
                f"{least:+.1%} to {most:+.1%}), half of the pairs from {low:+.1%} to {high:+.1%}; "
                f"over the totals {total:+.1%}; own time {own:,.0f} ns per key, {own / theirs:.1%}"
            )
        closed = len(started.client.windows().closed)
    yield (
        "What load sampling adds, sampled against not sampled; the aim is met where both the "
        f"median and the own time are below it; {closed} windows were closed meanwhile:\n\n"
        + "\n".join(spread)
    )


def serve() -> int:
    """Run a node as `python -m benchmarks.sampler CONFIG`."""
    file = Path(sys.argv[1])
    Switchable.told = _told_by(file)
    server.Sampler = Switchable
    return server.serve(file)


def _told_by(config: Path) -> Path:
    return config.with_suffix(".own")


if __name__ == "__main__":
    sys.exit(serve())
