"""The consensus core alone, driven in a loop: proposals a second, and where the time goes.

    python -m benchmarks raft_core

Replicas of one group in one process; their messages are handed over as they are, every Ready
counts as durable at once. So nothing is measured but the core: no encoding, no disk, no network.
One loop: the leader proposes so many entries of 100 bytes, then every replica is advanced until
nobody has anything to do, and everything that was proposed has been handed out as committed by
every replica; the run stops where it was not. The share of each function is taken under a
profiler, which makes calls dearer than they are; the figures of the table are taken without.
Time is the CPU's: the core waits for nothing.
"""

from __future__ import annotations

import cProfile
import pstats
import random
import statistics
import time
from collections import deque
from typing import TYPE_CHECKING

from workbench.ports.consensus import Configuration, HardState, Role, SnapshotMeta
from workbench.ports.storage import GroupLog
from workbench.raft.core import Raft

if TYPE_CHECKING:
    from collections.abc import Iterator

TURNS = 5
PROPOSALS = 6_400
DATA = b"x" * 100
KEPT_ENTRIES = 1_024
FUNCTIONS_SHOWN = 12
# Voters, and how many proposals share a loop.
SHAPES = ((1, 1), (1, 64), (3, 1), (3, 64), (5, 1), (5, 64))
PROFILED = ((3, 1), (3, 64))


class Cluster:
    """Replicas of one group, one of which leads."""

    def __init__(self, voters: int) -> None:
        members = Configuration(frozenset(range(1, voters + 1)))
        source = random.Random(1)  # noqa: S311 - election timeouts, not a secret
        self.rafts = {
            node: Raft(
                node,
                GroupLog(HardState(), 1, 0, 0, ()),
                applied=SnapshotMeta(0, 0, members),
                draw=source.randrange,
            )
            for node in sorted(members.voters)
        }
        self.committed = dict.fromkeys(self.rafts, 0)
        self.settle()
        while all(raft.role is not Role.LEADER for raft in self.rafts.values()):
            for raft in self.rafts.values():
                raft.tick()
            self.settle()
        self.leader = next(raft for raft in self.rafts.values() if raft.role is Role.LEADER)

    def settle(self) -> None:
        """Advance everybody until nobody has anything to do."""
        busy = True
        messages = deque()
        while busy:
            busy = False
            for node, raft in self.rafts.items():
                if not raft.has_ready():
                    continue
                busy = True
                ready = raft.ready()
                messages += ready.early
                messages += ready.messages
                if ready.committed:
                    self.committed[node] = ready.committed[-1].index
                raft.advance(ready)
            while messages:
                message = messages.popleft()
                self.rafts[message.receiver].step(message)

    def drive(self, proposals: int, at_once: int) -> None:
        """Propose, and have everybody commit it."""
        last = 0
        for _ in range(proposals // at_once):
            for _ in range(at_once):
                last = self.leader.propose(DATA)
            self.settle()
            for raft in self.rafts.values():
                raft.trim(KEPT_ENTRIES, 2**30)
        # Followers hear of the last commit with the next heartbeat.
        for raft in self.rafts.values():
            raft.tick()
        self.settle()
        if set(self.committed.values()) != {last}:
            raise SystemExit(f"raft_core: proposed up to {last}, committed {self.committed}")


def rate(voters: int, at_once: int) -> list[float]:
    """Return proposals a second, one figure per turn."""
    figures = []
    for _ in range(TURNS + 1):
        cluster = Cluster(voters)
        started = time.process_time()
        cluster.drive(PROPOSALS, at_once)
        figures.append(PROPOSALS / (time.process_time() - started))
    return figures[1:]


def profile(voters: int, at_once: int) -> Iterator[str]:
    """Yield a line per function: its own share of the time, calls and time per proposal."""
    cluster, profiler = Cluster(voters), cProfile.Profile(time.process_time)
    profiler.runcall(cluster.drive, PROPOSALS, at_once)
    rows = []
    for (path, _, name), (_, calls, own, _, _) in pstats.Stats(profiler).stats.items():
        module = path.rpartition("/")[2].removesuffix(".py")
        rows.append((own, calls, f"{module}.{name}" if "/workbench/" in path else name))
    total = sum(own for own, _, _ in rows)
    yield f"Own time per function, {voters} voters, {at_once} at once, under the profiler:\n"
    for own, calls, name in sorted(rows, reverse=True)[:FUNCTIONS_SHOWN]:
        yield (
            f"- `{name}` {own / total:.0%}, {calls / PROPOSALS:.2f} calls and "
            f"{own / PROPOSALS * 1e6:.2f} µs a proposal"
        )


def run() -> Iterator[str]:
    """Yield the table's lines, then notes."""
    for voters, at_once in SHAPES:
        figures = rate(voters, at_once)
        what = f"raft core, {voters} voters, {at_once} proposals at once"
        ours = f"{statistics.median(figures):,.0f}/s ({min(figures):,.0f} – {max(figures):,.0f})"
        yield f"| {what} | {ours} | – | – | – | {TURNS} | – |"
    for voters, at_once in PROFILED:
        yield "\n".join(profile(voters, at_once))
