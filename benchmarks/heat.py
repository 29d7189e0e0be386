"""The heat matrix of 10,000 routes in 1,440 windows: how long, how much memory, and is it whole.

    python -m benchmarks heat

It is made in a process of its own, so that its peak of resident memory is nobody else's; the
load is made before the clock starts and is in the peak. The run stops where a count is lost or
made, or a hot cell does not come through pooling.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.heat.matrix import heat_matrix, pool, pool_sum, route_matrix
from workbench.model.tables import TIME

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTES = 10_000
WINDOWS = 1_440
WINDOW_US = 60_000_000
SECONDS_MAX = 2.0
MIB_MAX = 1_024
HOT_CELLS = 200
HOT = 10**9


def load_table(routes: int, windows: int) -> tuple[pa.Table, list[tuple[int, int]]]:
    """Return load of one bucket a route, and the hot cells in it as (route, window)."""
    rng = np.random.Generator(np.random.PCG64(9))
    keys = [b"", *(number.to_bytes(4, "big") for number in range(1, routes))]
    starts = pa.array(keys, pa.binary())
    ends = pa.array([*keys[1:], None], pa.binary())
    hot = [(int(rng.integers(routes)), int(rng.integers(windows))) for _ in range(HOT_CELLS)]
    ids = pa.array(np.arange(1, routes + 1, dtype=np.uint64))
    cluster = pa.repeat(pa.scalar("heat"), routes)
    batches = []
    for window in range(windows):
        reads = rng.poisson(40, routes)
        reads[[route for route, at in hot if at == window]] = HOT
        columns = {
            "cluster": cluster,
            "window_start": pa.repeat(pa.scalar(window * WINDOW_US).cast(TIME), routes),
            "window_end": pa.repeat(pa.scalar((window + 1) * WINDOW_US).cast(TIME), routes),
            "route_id": ids,
            "bucket_start": starts,
            "bucket_end": ends,
            "reads": pa.array(reads),
        }
        batches.append(pa.record_batch(columns))
    return pa.Table.from_batches(batches), sorted(set(hot))


def measure(routes: int, windows: int) -> dict[str, Any]:
    """Make the matrix in this process; stop where anything is lost."""
    load, hot = load_table(routes, windows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, worked = time.perf_counter(), time.process_time()
    heat = heat_matrix(load, "reads")
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    total = pc.sum(load.column("reads")).as_py()
    started = time.perf_counter()
    small, sums = pool(heat, 320, 720), pool_sum(heat, 320, 720)
    pooling = time.perf_counter() - started
    if int(heat.values.sum()) != total or int(sums.values.sum()) != total:
        raise SystemExit("heat: load was lost or made")
    tops = [span.start for span in small.spans]
    step = small.window_ms // heat.window_ms
    places = [(bisect_right(tops, heat.spans[row].start) - 1, at // step) for row, at in hot]
    if any(small.values[place] != HOT for place in places):
        raise SystemExit("heat: a hot cell was lost")
    started = time.perf_counter()
    route_matrix(load, "reads")
    whole = time.perf_counter() - started
    return {
        "seconds": seconds,
        "cpu": cpu,
        "pooling": pooling,
        "routes": whole,
        "mib": mib,
        "mib_before": before,
        "hot": len(hot),
    }


def rows(routes: int = ROUTES, windows: int = WINDOWS) -> Iterator[str]:
    """Yield the line of the table, and a note."""
    command = [sys.executable, "-m", "benchmarks.heat", "--measure"]
    command += ["--routes", str(routes), "--windows", str(windows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    found = json.loads(done.stdout)
    fast, light = found["seconds"] <= SECONDS_MAX, found["mib"] <= MIB_MAX
    yield (
        f"| heat matrix, {routes:,} routes × {windows:,} windows "
        f"| {found['seconds']:.2f} s, {found['mib']:,.0f} MiB | – | – | – | 1 "
        f"| ≤ {SECONDS_MAX:g} s: {_verdict(reached=fast)}; "
        f"≤ {MIB_MAX / 1024:g} GiB: {_verdict(reached=light)} |"
    )
    yield (
        f"Heat: {found['cpu']:.2f} s of processor time; every count is in the matrix, and each of "
        f"{found['hot']} hot cells in the pooled "
        f"one; pooling both ways took {found['pooling']:.2f} s, the matrix of whole routes "
        f"{found['routes']:.2f} s; {found['mib_before']:,.0f} MiB were there before."
    )


def run() -> Iterator[str]:
    """Yield the lines of the table."""
    yield from rows()


def _verdict(*, reached: bool) -> str:
    return "met" if reached else "**MISSED**"


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heat")
    parser.add_argument("--measure", action="store_true", help="in this process, as JSON")
    parser.add_argument("--routes", type=int, default=ROUTES)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.routes, given.windows)))
    else:
        for line in rows(given.routes, given.windows):
            print(line)


if __name__ == "__main__":
    main()
