"""Many processes commit to one catalog, some of them killed: is everything there, and once?

    python tools/catalog_soak.py --processes 8 --batches 10000 --kill 2
    python tools/catalog_soak.py --processes 8 --batches 2000 --kill 2 --moto
    python tools/catalog_soak.py --batches 2000 --url s3://bucket/empty-place

Each process appends batches of two rows, one to a dataset that all share and one to a dataset of
its own slot, and writes the number of each acknowledged batch to a journal of its own, with
fsync, before it counts it. With `--kill S`, every S seconds on average a random one dies by
SIGKILL, and another with a new identity goes on for it. At the end the catalog is read again:

- every journalled batch is in both datasets, exactly once;
- one that was under way when its process died is in both or in neither;
- every record of the log is of its own transaction, and holds one batch; the chain is verified.

Nothing is deleted but the folder that this program made. A `--url` of one's own must hold no
catalog, and is left as it is afterwards. Exit status 1 where something was lost or doubled.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from workbench.catalog.audit import audit
from workbench.catalog.catalog import Catalog, Write
from workbench.catalog.layout import LOG_PREFIX, seq_of
from workbench.catalog.record import decode_record
from workbench.errors import OutcomeUnknown, WorkbenchError
from workbench.session.system import SystemClock, SystemRng
from workbench.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
SHARED = "soak/shared"
LIVES = 1_000_000  # batches of one life; number = (slot * LIVES + life) * LIVES + count
WAVE = 256
POLL_SECONDS = 0.02


@dataclass
class Figures:
    """What a soak did."""

    url: str
    processes: int
    batches: int
    seconds: float = 0.0
    commits_per_second: float = 0.0
    kills: int = 0
    lost_races: int = 0
    busy: int = 0
    unknown: int = 0
    unknown_landed: int = 0
    records: int = 0
    problems: list[str] = field(default_factory=list)


# --- one process


class Counting:
    """A store that counts the races for a record that it lost; all else is the inner store's."""

    def __init__(self, inner: object) -> None:
        self.inner = inner
        self.lost_races = 0

    def __getattr__(self, name: str) -> object:
        """Return what the inner store has."""
        return getattr(self.inner, name)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Put, and count what another was first with."""
        won: bool = self.inner.put_if_absent(key, data)  # type: ignore[attr-defined]
        self.lost_races += not won and key.startswith(LOG_PREFIX)
        return won


def work(url: str, slot: int, life: int, target: int, journal: Path) -> None:
    """Commit batches until the slot has `target` acknowledged ones over all its lives."""
    store = Counting(open_store(url, create=False))
    catalog = Catalog.open(
        store, clock=SystemClock(), rng=SystemRng(), writer=f"soak-{slot}.{life}"
    )
    busy, unknown, count = 0, 0, 0
    acknowledged = len(read_journals(journal.parent, slot))
    with journal.open("a") as file:

        def note(line: str) -> None:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())

        while acknowledged < target:
            number = (slot * LIVES + life) * LIVES + count
            row = pa.table({"n": pa.array([number], pa.int64())})
            try:
                catalog.commit([Write(SHARED, row, "append"), Write(own(slot), row, "append")])
            except OutcomeUnknown:
                unknown, count = unknown + 1, count + 1
            except WorkbenchError as error:
                if not error.retryable:
                    raise
                busy += 1  # nothing was committed: the same batch again
            else:
                note(f"ack {number}")
                acknowledged, count = acknowledged + 1, count + 1
        note(f"end {store.lost_races} {busy} {unknown}")


def own(slot: int) -> str:
    """Return the dataset of a slot."""
    return f"soak/slot-{slot}"


def read_journals(folder: Path, slot: int | None = None) -> list[int]:
    """Return the batches that were acknowledged; a line that a kill cut short does not count."""
    pattern = "*.journal" if slot is None else f"{slot}.*.journal"
    lines = [
        line
        for path in sorted(folder.glob(pattern))
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
    return [int(line.split()[1]) for line in lines if line.startswith("ack ")]


# --- all of them


class Crew:
    """The processes of a soak; kills, replaces and awaits them."""

    def __init__(self, url: str, journals: Path, targets: list[int]) -> None:
        self.kills = 0
        self._url = url
        self._journals = journals
        self._targets = targets
        self._lives = [0] * len(targets)
        self._running = {slot: self._start(slot) for slot in range(len(targets))}

    def run(self, kill_seconds: float, source: random.Random) -> list[str]:
        """Await the end of all, killing one every so often; return what went wrong."""
        problems = []
        due = time.perf_counter() + _interval(kill_seconds, source)
        while self._running:
            time.sleep(POLL_SECONDS)
            for slot, process in list(self._running.items()):
                status = process.poll()
                if status is None:
                    continue
                del self._running[slot]
                if status:
                    problems.append(f"process {slot} ended with status {status}")
            if self._running and time.perf_counter() >= due:
                self._kill(source.choice(sorted(self._running)))
                due = time.perf_counter() + _interval(kill_seconds, source)
        return problems

    def stop(self) -> None:
        """Kill what still runs, as the soak itself is interrupted."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def _kill(self, slot: int) -> None:
        process = self._running[slot]
        if process.poll() is not None:
            return
        process.kill()
        process.wait()
        self.kills += 1
        self._lives[slot] += 1
        self._running[slot] = self._start(slot)

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        life = self._lives[slot]
        journal = self._journals / f"{slot}.{life}.journal"
        worker = [str(slot), str(life), str(self._targets[slot]), str(journal)]
        return subprocess.Popen(
            [sys.executable, __file__, "--url", self._url, "--worker", *worker], cwd=ROOT
        )


def soak(url: str, journals: Path, given: argparse.Namespace) -> Figures:
    """Run all processes to their end, and check what they left.

    Args:
        url: Of a place that holds no catalog.
        journals: An empty folder.
        given: The command's own arguments.
    """
    processes, batches = given.processes, given.batches
    store = open_store(url, create=True)
    Catalog.create(store, clock=SystemClock(), rng=SystemRng(), writer="soak")
    targets = [batches // processes + (n < batches % processes) for n in range(processes)]
    figures = Figures(url, processes, batches)
    started = time.perf_counter()
    crew = Crew(url, journals, targets)
    try:
        figures.problems = crew.run(given.kill, random.Random(given.seed))  # noqa: S311
    finally:
        crew.stop()
    figures.seconds = time.perf_counter() - started
    figures.commits_per_second = batches / figures.seconds
    figures.kills = crew.kills
    for path in journals.glob("*.journal"):
        for line in path.read_text().splitlines():
            if line.startswith("end "):
                lost, busy, unknown = map(int, line.split()[1:])
                figures.lost_races += lost
                figures.busy += busy
                figures.unknown += unknown
    check(url, journals, figures)
    return figures


def check(url: str, journals: Path, figures: Figures) -> None:
    """Compare the catalog with the journals; add to `figures.problems`."""
    store = open_store(url, create=False)
    catalog = Catalog.open(store, clock=SystemClock(), rng=SystemRng(), writer="soak")
    acknowledged = read_journals(journals)
    problems = figures.problems
    present = Counter(catalog.read(SHARED)["n"].to_pylist())
    apart = Counter[int]()
    for slot in range(figures.processes):
        apart.update(catalog.read(own(slot))["n"].to_pylist())
    twice = [number for number, times in present.items() if times > 1]
    lost = sorted(set(acknowledged) - set(present))
    landed = set(present) - set(acknowledged)
    figures.unknown_landed = len(landed)
    if len(acknowledged) != figures.batches:
        problems.append(f"{len(acknowledged)} batches are journalled, not {figures.batches}")
    if lost:
        problems.append(f"{len(lost)} acknowledged batches are lost, as {lost[:3]}")
    if twice:
        problems.append(f"{len(twice)} batches are there twice, as {twice[:3]}")
    if present != apart:
        problems.append("there is half of a batch")
    if len(landed) > figures.kills + figures.unknown:
        problems.append(f"{len(landed)} batches landed that nobody acknowledged")
    problems += check_log(store, catalog, figures, len(present))
    problems += [f"{each.key}: {each.reason}" for each in audit(store).problems]


def check_log(store: object, catalog: Catalog, figures: Figures, batches: int) -> list[str]:
    """Return what is wrong with the log: one record per batch, each of its own transaction."""
    keys = [key for key in store.list_after(LOG_PREFIX) if seq_of(key)]  # type: ignore[attr-defined]
    txns = Counter(
        decode_record(data, key).txn
        for start in range(0, len(keys), WAVE)
        for key, data in zip(
            keys[start : start + WAVE],
            store.get_many(keys[start : start + WAVE]),  # type: ignore[attr-defined]
            strict=True,
        )
    )
    figures.records = len(keys)
    problems = []
    if len(txns) != len(keys):
        problems.append("a transaction has two records")
    if not len(keys) == catalog.seq == batches:
        problems.append(f"{len(keys)} records, sequence {catalog.seq}, {batches} batches")
    return problems


def _interval(kill_seconds: float, source: random.Random) -> float:
    return source.expovariate(1 / kill_seconds) if kill_seconds else float("inf")


@contextlib.contextmanager
def place(given: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Give a URL and a folder for journals; remove what was made for it."""
    folder = Path(tempfile.mkdtemp(prefix="catalog-soak-"))
    journals = folder / "journals"
    journals.mkdir()
    try:
        if given.moto:
            sys.path.insert(0, str(ROOT / "tests"))
            servers = importlib.import_module("s3_servers")
            with servers.moto() as server:
                os.environ.update(server.environment())
                yield f"s3://{server.make_bucket('soak')}/catalog", journals
        else:
            yield given.url or str(folder / "catalog"), journals
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Run the soak, or one process of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--url", help="where; a temporary folder where none is given")
    parser.add_argument("--moto", action="store_true", help="on a moto server of its own")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--batches", type=int, default=10_000, help="in all")
    parser.add_argument("--kill", type=float, default=0.0, help="seconds between kills, on average")
    parser.add_argument("--seed", type=int, default=1, help="of the kills")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        slot, life, target = map(int, given.worker[:3])
        work(given.url, slot, life, target, Path(given.worker[3]))
        return 0
    with place(given) as (url, journals):
        figures = soak(url, journals, given)
    if given.json:
        print(json.dumps(asdict(figures)))
    else:
        report(figures)
    return 1 if figures.problems else 0


def report(figures: Figures) -> None:
    """Print the figures for people."""
    print(
        f"{figures.batches:,} batches by {figures.processes} processes to {figures.url} "
        f"in {figures.seconds:.1f} s: {figures.commits_per_second:.0f} commits/s"
    )
    print(
        f"  {figures.kills} kills, {figures.lost_races:,} lost races, {figures.busy} times busy, "
        f"{figures.unknown} unknown outcomes, {figures.unknown_landed} landed unacknowledged"
    )
    print(f"  {figures.records:,} records, chain and objects verified")
    for problem in figures.problems:
        print(f"  PROBLEM: {problem}")
    print("  none lost, none twice" if not figures.problems else "  FAILED")


if __name__ == "__main__":
    sys.exit(main())
