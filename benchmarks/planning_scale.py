"""A plan of very many routes, from Parquet to the document: how long, and how much memory.

    python -m benchmarks planning_scale
    python -m benchmarks.planning_scale --routes 1000      a smaller one, with the parts' times

The load is made once, in a temporary folder: every route has its buckets in every window, a few
routes are far heavier than the rest. The plan is made in a process of its own, so that its peak
of resident memory is nobody else's; what it takes to start Python is in neither figure, what it
takes to open the catalog and to check the SHA-256 of every object is in both.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from workbench.catalog.catalog import Write
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, Limits
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import LOAD_WINDOW, TIME, routes_to_table
from workbench.model.times import from_us
from workbench.planner.detect import Rule
from workbench.session.cluster import open_cluster
from workbench.session.planning import plan
from workbench.session.registering import Claim, register_keys
from workbench.session.wiring import open_catalog, open_or_create_catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from workbench.session.cluster import ClusterView

ROUTES = 100_000
BUCKETS = 16
WINDOWS = 60
WINDOWS_PER_FILE = 5
WINDOW_US = 60_000_000
START_US = 1_790_000_000_000_000 // WINDOW_US * WINDOW_US
CLUSTER = "scale"
SPLITS = 256
HOT_ROUTES = 40
SECONDS_MAX = 10.0
MIB_MAX = 2_048


def make(folder: Path, routes: int, buckets: int, windows: int) -> int:
    """Write the catalog with its load and routes; return the rows of load."""
    cells = routes * buckets
    step = 2**64 // cells
    starts = [b"", *((number * step).to_bytes(8, "big") for number in range(1, cells))]
    ends: list[bytes | None] = [*starts[1:], None]
    rng = np.random.Generator(np.random.PCG64(5))
    weights = np.minimum(rng.pareto(1.5, cells), 20.0) * 20
    weights.reshape(routes, buckets)[rng.integers(0, routes, HOT_ROUTES)] *= 50
    (folder / "data").mkdir(parents=True)
    fixed = {
        "cluster": pa.repeat(pa.scalar(CLUSTER), cells),
        "route_id": pa.array(np.repeat(np.arange(1, routes + 1, dtype=np.uint64), buckets)),
        "group": pa.array(np.repeat(np.arange(routes, dtype=np.uint64) % 16 + 1, buckets)),
        "bucket_start": pa.array(starts, pa.binary()),
        "bucket_end": pa.array(ends, pa.binary()),
        "cpu_ns": pa.nulls(cells, pa.int64()),
        "coverage": pa.repeat(pa.scalar(1.0), cells),
        "error_bound": pa.repeat(pa.scalar(0.0), cells),
    }
    names = []
    for first in range(0, windows, WINDOWS_PER_FILE):
        names.append(f"data/load-{first:04d}.parquet")
        with pq.ParquetWriter(
            folder / names[-1], LOAD_WINDOW, compression="zstd", write_page_checksum=True
        ) as writer:
            for window in range(first, min(first + WINDOWS_PER_FILE, windows)):
                writer.write_table(_window(window, fixed, rng.poisson(weights)))
    catalog = open_or_create_catalog(str(folder))
    register_keys(catalog, Claim(f"{CLUSTER}/load_window"), names)
    spans = zip(starts[::buckets], [*starts[buckets::buckets], None], strict=True)
    descriptors = tuple(
        RouteDescriptor(number, Span(start, end), (number - 1) % 16 + 1)
        for number, (start, end) in enumerate(spans, 1)
    )
    snapshot = RouteSnapshot(1, descriptors, taken_at=from_us(START_US))
    catalog.commit([Write(f"{CLUSTER}/route", routes_to_table(snapshot))])
    return cells * windows


def _window(number: int, fixed: dict[str, pa.Array], counts: npt.NDArray[np.int64]) -> pa.Table:
    start = START_US + number * WINDOW_US
    reads = pa.array(counts)
    writes = pa.array(counts // 5)
    columns = {
        **fixed,
        "window_start": pa.repeat(pa.scalar(start).cast(TIME), len(counts)),
        "window_end": pa.repeat(pa.scalar(start + WINDOW_US).cast(TIME), len(counts)),
        "reads": reads,
        "writes": writes,
        "read_bytes": pa.array(counts * 100),
        "write_bytes": pa.array(counts // 5 * 100),
    }
    return pa.table([columns[name] for name in LOAD_WINDOW.names], schema=LOAD_WINDOW)


def measure(folder: str) -> dict[str, Any]:
    """Make the plan in this process; return seconds by part, peak memory, and what came."""
    parts: dict[str, float] = {}
    base_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, worked = time.perf_counter(), time.process_time()
    view = open_cluster(open_catalog(folder), CLUSTER)
    parts["open"] = time.perf_counter() - started
    _watch(view, parts)
    limits = Limits(max_splits=SPLITS, min_gain=0.1)
    begun = time.perf_counter()
    made = plan(
        view,
        since=view.extent.since,
        until=view.extent.until,
        objective=OBJECTIVES["score"],
        limits=limits,
        rule=Rule(),
    )
    parts["plan"] = time.perf_counter() - begun
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - worked,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "mib_at_start": base_mib,
        "parts": parts,
        "actions": len(made.actions),
        "content_hash": made.content_hash,
    }


def _watch(view: ClusterView, parts: dict[str, float]) -> None:
    """Time the questions that are put to the load; each is part of `plan`."""
    kind = type(view.load)
    for name in ("crossing_until", "atoms", "coarse_until", "span_load"):
        asked = getattr(kind, name)

        setattr(kind, name, _timed(asked, name, parts))


def _timed(asked: Callable[..., object], name: str, parts: dict[str, float]) -> object:
    def timed(*given: object, **named: object) -> object:
        begun = time.perf_counter()
        try:
            return asked(*given, **named)
        finally:
            parts[name] = parts.get(name, 0.0) + time.perf_counter() - begun

    return timed


def measured(folder: Path) -> dict[str, Any]:
    """Make the plan in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.planning_scale", "--measure", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def rows(routes: int = ROUTES, buckets: int = BUCKETS, windows: int = WINDOWS) -> Iterator[str]:
    """Yield the line of the table, and a note with the parts."""
    with tempfile.TemporaryDirectory(prefix="planning-scale-") as folder:
        place = Path(folder) / "catalog"
        place.mkdir()
        make(place, routes, buckets, windows)
        found = measured(place)
    size = f"{routes:,} routes × {buckets} buckets × {windows} windows"
    fast, small = found["seconds"] <= SECONDS_MAX, found["mib"] <= MIB_MAX
    yield (
        f"| plan of {size}, Parquet to plan | {found['seconds']:.1f} s, {found['mib']:,.0f} MiB "
        f"| – | – | – | 1 | ≤ {SECONDS_MAX:g} s: {_verdict(reached=fast)}; "
        f"≤ {MIB_MAX / 1024:g} GiB: {_verdict(reached=small)} |"
    )
    parts = ", ".join(f"{name} {took:.1f} s" for name, took in found["parts"].items())
    yield (
        f"Parts of the plan of {size}: {parts}; {found['actions']} actions; "
        f"{found['cpu']:.1f} s of processor time."
    )


def run() -> Iterator[str]:
    """Yield the lines of the table."""
    yield from rows()


def _verdict(*, reached: bool) -> str:
    return "met" if reached else "**MISSED**"


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning_scale")
    parser.add_argument("--measure", metavar="FOLDER", help="of a catalog made by --make")
    parser.add_argument("--make", metavar="FOLDER", help="only write the catalog there")
    parser.add_argument("--routes", type=int, default=ROUTES)
    parser.add_argument("--buckets", type=int, default=BUCKETS)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
    elif given.make:
        make(Path(given.make), given.routes, given.buckets, given.windows)
    else:
        for line in rows(given.routes, given.buckets, given.windows):
            print(line)


if __name__ == "__main__":
    main()
