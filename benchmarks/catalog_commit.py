"""Writing to the catalog: four processes at once, one writer alone, a thousand registers, upkeep.

Ours syncs data, record and folders to the disk before a commit counts. deltalake leaves that to
the system, pyiceberg to SQLite, which syncs the pointer to the metadata but not the metadata.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake

from benchmarks.catalog_rivals import NAMESPACE, iceberg
from benchmarks.catalog_sets import (
    create_catalog,
    folder,
    local_store,
    names_of,
    open_catalog,
    registrations_of,
)
from benchmarks.catalog_writers import ROWS, TABLE, rows_of
from benchmarks.measure import Aims, Contestant, compete
from workbench.catalog.catalog import Write
from workbench.catalog.compact import compact
from workbench.catalog.layout import LOG_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyiceberg.table import Table

ROOT = Path(__file__).resolve().parent.parent
PROCESSES, APPENDS = 4, 48
DEADLINE_S = 120.0
REGISTERS, REGISTERS_OF_RIVAL = 1_000, 50
COMMITS = 20
SMALL_OBJECTS, SMALL_ROWS = 200, 5_000


def run() -> Iterator[str]:
    """Yield the lines of the table."""
    with folder() as root:
        yield from writers(root)
    with folder() as root:
        yield from alone(root)
    with folder() as root:
        yield from registers(root)
    with folder() as root:
        yield from compaction(root)


class Places:
    """A fresh folder for every turn of one contestant."""

    def __init__(self, root: Path, make: Callable[[Path], object]) -> None:
        self._root = root
        self._make = make
        self._count = 0
        self.now = root

    def fresh(self) -> None:
        """Make the next one."""
        self._count += 1
        self.now = self._root.with_name(f"{self._root.name}-{self._count}")
        self._make(self.now)


@dataclass(frozen=True)
class Race:
    """What some processes did: from the common start to the last end, and where."""

    seconds: float
    place: Path


def writers(root: Path) -> Iterator[str]:
    """Let four processes commit 48 appends to one table; every row must be there, once."""
    ways = {
        "ours": (make_ours, lambda at: open_catalog(local_store(at)).read(TABLE)),
        "deltalake": (make_delta, lambda at: DeltaTable(at).to_pyarrow_table()),
        "pyiceberg": (make_iceberg, lambda at: iceberg_table(at).scan().to_arrow()),
    }
    contest = compete(
        f"{PROCESSES} processes, {APPENDS} appends in all, none lost",
        [racer(system, Places(root / system, make), read) for system, (make, read) in ways.items()],
        every_turn=True,
    )
    yield from contest.lines(Aims(ratio_min={"deltalake": 2, "pyiceberg": 5}))


def racer(system: str, places: Places, read: Callable[[Path], pa.Table]) -> Contestant:
    """Return a contestant that runs the processes of one system, each time in a fresh place."""

    def answer(done: Race) -> int:
        numbers = sorted(read(done.place)["n"].to_pylist())
        if numbers != list(range(APPENDS * ROWS)):
            raise SystemExit(f"{system}: {len(numbers)} rows of {APPENDS * ROWS}, or other ones")
        return len(numbers)

    def run_race() -> Race:
        return race(system, places.now)

    def seconds(done: Race) -> float:
        return done.seconds

    return Contestant(system, run_race, answer, places.fresh, seconds)


def make_ours(place: Path) -> None:
    """Make a catalog."""
    create_catalog(local_store(place))


def make_delta(place: Path) -> None:
    """Make an empty Delta table."""
    DeltaTable.create(str(place), schema=rows_of(0).schema)


def make_iceberg(place: Path) -> None:
    """Make an Iceberg catalog with an empty table."""
    iceberg(place, create=True).create_table(f"{NAMESPACE}.{TABLE}", schema=rows_of(0).schema)


def iceberg_table(place: Path) -> Table:
    """Open the Iceberg table."""
    return iceberg(place).load_table(f"{NAMESPACE}.{TABLE}")


def race(system: str, place: Path) -> Race:
    """Run the processes; their own start is not timed."""
    command = [sys.executable, "-m", "benchmarks.catalog_writers", system, str(place)]
    processes = [
        subprocess.Popen(  # noqa: S603  # this interpreter, our own module
            [*command, str(slot), str(APPENDS // PROCESSES)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for slot in range(PROCESSES)
    ]
    try:
        for process in processes:
            expect(process, "ready")
        started = time.clock_gettime(time.CLOCK_MONOTONIC)
        for process in processes:
            if process.stdin is not None:
                process.stdin.write("go\n")
                process.stdin.flush()
        ends = [float(expect(process, "done").split()[1]) for process in processes]
        for process in processes:
            process.communicate(timeout=DEADLINE_S)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return Race(max(ends) - started, place)


def expect(process: subprocess.Popen[str], word: str) -> str:
    """Return the next line of a process, which must begin with `word`."""
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line.startswith(word):
        raise SystemExit(f"a writer said {line!r} instead of {word!r}; see above")
    return line


def alone(root: Path) -> Iterator[str]:
    """One writer, one append after the other: how long a commit takes."""
    make_ours(root / "ours")
    make_delta(root / "delta")
    make_iceberg(root / "iceberg")
    catalog = open_catalog(local_store(root / "ours"))
    table = iceberg_table(root / "iceberg")
    numbers = iter(range(1_000_000))

    def ours() -> int:
        return len(catalog.commit([Write(TABLE, rows_of(next(numbers)), "append")]))

    def delta() -> int:
        write_deltalake(str(root / "delta"), rows_of(next(numbers)), mode="append")
        return 1

    def berg() -> int:
        table.append(rows_of(next(numbers)))
        return 1

    contestants = [
        Contestant("ours", ours),
        Contestant("deltalake, no fsync", delta),
        Contestant("pyiceberg", berg),
    ]
    yield from compete("commit of one append, local", contestants, turns=COMMITS).lines()


def registers(root: Path) -> Iterator[str]:
    """Register 1,000 datasets at once; the rival creates tables one by one, fewer of them.

    Both times are per dataset.
    """
    names = names_of(REGISTERS)
    batch = registrations_of(names)
    schema = rows_of(0).schema
    places = Places(root / "ours", make_ours)
    tables = Places(root / "iceberg", lambda place: iceberg(place, create=True))

    def ours() -> list[str]:
        answers = open_catalog(local_store(places.now)).register(batch)
        return [answer.manifest.name for answer in answers]

    def theirs() -> list[str]:
        catalog = iceberg(tables.now)
        for name in names[:REGISTERS_OF_RIVAL]:
            catalog.create_table(f"{NAMESPACE}.{name}", schema=schema)
        return names[:REGISTERS_OF_RIVAL]

    def first_few(found: list[str]) -> list[str]:
        if found == names:
            store = local_store(places.now)
            records = store.list_after(LOG_PREFIX)
            if len(records) != 1 or len(open_catalog(store).list()) != REGISTERS:
                raise SystemExit(f"{REGISTERS} registers gave {len(records)} records")
        return found[:REGISTERS_OF_RIVAL]

    rival = "pyiceberg, create_table each"
    contest = compete(
        f"register, per dataset: {REGISTERS:,} in one put",
        [
            Contestant("ours", ours, first_few, places.fresh, share=REGISTERS),
            Contestant(rival, theirs, first_few, tables.fresh, share=REGISTERS_OF_RIVAL),
        ],
        every_turn=True,
    )
    yield from contest.lines(Aims(ratio_min={rival: 100}))


def compaction(root: Path) -> Iterator[str]:
    """Merge 200 small objects of a dataset into one; the rival does it in a Delta table."""

    def fill_ours(place: Path) -> None:
        catalog = create_catalog(local_store(place))
        for number in range(SMALL_OBJECTS):
            catalog.commit([Write(TABLE, small(number), "append")])

    def fill_delta(place: Path) -> None:
        for number in range(SMALL_OBJECTS):
            write_deltalake(str(place), small(number), mode="append")

    places, tables = (
        Places(root / "ours", copied(root / "full", fill_ours)),
        Places(root / "delta", copied(root / "full-delta", fill_delta)),
    )

    def ours() -> tuple[int, int]:
        catalog = open_catalog(local_store(places.now))
        with catalog.keeping() as keeper:
            compact(keeper, TABLE)
        manifest = catalog.get(TABLE)
        return len(manifest.objects), manifest.row_count or 0

    def theirs() -> tuple[int, int]:
        table = DeltaTable(str(tables.now))
        table.optimize.compact()
        adds = pa.table(table.get_add_actions(flatten=True))
        return adds.num_rows, pc.sum(adds["num_records"]).as_py()

    contestants = [
        Contestant("ours", ours, before=places.fresh),
        Contestant("deltalake optimize, no fsync", theirs, before=tables.fresh),
    ]
    what = f"compact {SMALL_OBJECTS} objects of {SMALL_ROWS:,} rows into one"
    rows = SMALL_OBJECTS * SMALL_ROWS
    yield from compete(what, contestants, rows=rows).lines()


def small(number: int) -> pa.Table:
    """Return the rows of one small object, as load windows are: times, ids, counters."""
    rng = np.random.Generator(np.random.PCG64(number))
    start = number * SMALL_ROWS
    return pa.table(
        {
            "n": np.arange(start, start + SMALL_ROWS),
            "route_id": rng.integers(0, 64, SMALL_ROWS),
            "reads": rng.integers(0, 10_000, SMALL_ROWS),
            "coverage": rng.random(SMALL_ROWS),
        }
    )


def copied(template: Path, fill: Callable[[Path], None]) -> Callable[[Path], object]:
    """Return a function that makes a copy of what `fill` makes once."""

    def make(place: Path) -> None:
        if not template.exists():
            fill(template)
        shutil.copytree(template, place)

    return make
