"""Planning and traces: the optimum, the replay, the trace reader, load windows, a small catalog.

Each against the plain way to do the same with numpy, DuckDB or Python itself.
"""

from __future__ import annotations

import csv
import io
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.measure import Contest, Contestant, compete
from workbench.catalog.catalog import Catalog, Registration
from workbench.model.manifest import ObjectRef
from workbench.planner.partition import optimum, segments_of
from workbench.planner.replay import replay
from workbench.session.system import SystemClock, SystemRng
from workbench.stores.memory import MemoryStore
from workbench.traces.generate import generate
from workbench.traces.readers import TraceOptions, read_trace
from workbench.traces.windows import load_windows, trace_routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pair(what: str, rival: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> Contest:
    """Let two functions take turns."""
    return compete(what, [Contestant("ours", ours), Contestant(rival, theirs)])


def contest_of_optimum() -> Contest:
    """Least bottleneck of 1 M atoms on 1,024 routes, against the same search in numpy."""
    loads = np.random.Generator(np.random.PCG64(1)).integers(0, 1_000, 1_000_000)
    listed = loads.tolist()

    def ours() -> int:
        return optimum(segments_of(listed, [0, len(listed)]), 1_023)

    def theirs() -> int:
        prefix = np.concatenate([[0], np.cumsum(loads)])
        low, high = max(int(loads.max()), -(-int(prefix[-1]) // 1_024)), int(prefix[-1])
        while low < high:
            middle = (low + high) // 2
            at = 0
            for _ in range(1_024):
                at = int(np.searchsorted(prefix, prefix[at] + middle, side="right")) - 1
                if at >= len(listed):
                    break
            low, high = (low, middle) if at >= len(listed) else (middle + 1, high)
        return low

    return pair("optimum, 1 M atoms, k = 1,024", "numpy searchsorted", ours, theirs)


def contest_of_replay() -> Contest:
    """Replay of 1 M accesses on 64 routes, against an ASOF join in DuckDB."""
    accesses = generate("zipf", accesses=1_000_000, seed=1)
    routes = trace_routes(accesses, 64)
    load = pa.array(np.ones(accesses.num_rows, dtype=np.int64))
    events = accesses.select(["time", "key"]).append_column("load", load)
    spans = [route.span for route in routes]
    starts = pa.table({"start": [span.start for span in spans], "id": range(len(spans))})

    def ours() -> list[int]:
        return [int(total) for total in replay(events, spans, 60_000).totals]

    def theirs() -> list[int]:
        with duckdb.connect() as connection:
            connection.register("events", events)
            connection.register("starts", starts)
            rows = connection.execute(
                "SELECT id, CAST(coalesce(sum(n), 0) AS BIGINT) FROM starts LEFT JOIN ("
                "SELECT id AS i, time_bucket(INTERVAL 1 MINUTE, time) AS w, sum(load) AS n "
                "FROM events ASOF JOIN starts ON events.key >= starts.start GROUP BY i, w"
                ") ON id = i GROUP BY id ORDER BY id"
            ).fetchall()
        return [total for _, total in rows]

    return pair("replay, 1 M accesses, 64 routes, by minute", "DuckDB ASOF join", ours, theirs)


def contest_of_reader() -> Contest:
    """A CSV trace of 200,000 rows into accesses, against Python's csv module."""
    count = 200_000
    rng = np.random.Generator(np.random.PCG64(2))
    table = pa.table(
        {
            "version": np.ones(count, dtype=np.int64),
            "time": np.arange(count) // 50,
            "op": np.where(rng.random(count) < 0.5, "2a", "28"),
            "size": np.full(count, 4096),
            "lbn": rng.integers(0, 2**26, count),
        }
    )
    sink = io.BytesIO()
    pa_csv.write_csv(table, sink, pa_csv.WriteOptions(quoting_style="none"))
    content = sink.getvalue()

    def ours() -> tuple[int, bytes]:
        accesses = read_trace(io.BytesIO(content), "bench.csv", TraceOptions()).accesses
        return accesses.num_rows, accesses.column("key")[-1].as_py()

    def theirs() -> tuple[int, bytes]:
        rows = csv.DictReader(io.StringIO(content.decode()))
        keys = [
            (
                int(row["lbn"]).to_bytes(8, "big"),
                int(row["time"]),
                row["op"] == "2a",
                int(row["size"]),
            )
            for row in rows
        ]
        return len(keys), keys[-1][0]

    return pair("read 200,000 CloudPhysics rows", "Python csv", ours, theirs)


def contest_of_windows() -> Contest:
    """Load windows of 1 M accesses in 128 buckets, against bisection per access."""
    accesses = generate("hot-range", accesses=1_000_000, seed=1)
    routes = trace_routes(accesses, 8)

    def ours() -> int:
        windows = load_windows(
            accesses, routes, cluster="c", window_ms=60_000, buckets_per_route=16
        )
        return int(pa.compute.sum(windows.column("reads")).as_py())

    def theirs() -> int:
        starts = [route.span.start for route in routes]
        cells: dict[tuple[int, int], int] = {}
        times = accesses.column("time").cast(pa.int64()).to_pylist()
        keys, ops = accesses.column("key").to_pylist(), accesses.column("op").to_pylist()
        for moment, key, op in zip(times, keys, ops, strict=True):
            cell = (moment // 60_000_000, bisect_right(starts, key))
            cells[cell] = cells.get(cell, 0) + (op == "read")
        return sum(cells.values())

    return pair("load windows of 1 M accesses", "bisection in Python", ours, theirs)


def contest_of_open() -> Contest:
    """Open a catalog of 1,000 datasets, against one Parquet manifest per dataset."""
    store = MemoryStore("bench")
    catalog = Catalog.create(store, clock=SystemClock(), rng=SystemRng(), writer="bench")
    names = [f"cluster-{number:04d}/load_window" for number in range(1_000)]
    catalog.register([Registration(n, "f" * 64, (ObjectRef(f"data/{n}", 1),)) for n in names])
    files = []
    for name in names:
        sink = io.BytesIO()
        pq.write_table(pa.table({"name": [name], "row_count": [1]}), sink)
        files.append(sink.getvalue())

    def ours() -> int:
        opened = Catalog.open(store, clock=SystemClock(), rng=SystemRng(), writer="bench")
        return len(opened.list())

    def theirs() -> int:
        return sum(pq.read_table(pa.BufferReader(each)).num_rows for each in files)

    return pair(
        "open 1,000 datasets of one record, in memory", "pyarrow, a file per manifest", ours, theirs
    )


def run() -> Iterator[str]:
    """Yield the lines of the table."""
    contests = (
        contest_of_optimum,
        contest_of_replay,
        contest_of_reader,
        contest_of_windows,
        contest_of_open,
    )
    for contest in contests:
        yield from contest().lines()
