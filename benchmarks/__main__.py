"""Run benchmarks and print their tables, ready to be pasted into benchmarks/README.md.

    python -m benchmarks            all
    python -m benchmarks NAME ...   those
    python -m benchmarks --list     their names

`python -m benchmarks.quality` measures plans, not speed, and is run by itself.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version

from benchmarks.measure import HEAD

# Module, and what it measures. Each has a `run` that yields lines: table rows, and other Markdown.
BENCHMARKS = {
    "planning": "optimum, replay, trace reader, load windows",
    "planning_scale": "a plan of very many routes: time and memory",
    "raft_core": "the consensus core alone: proposals a second, time per function",
    "cluster": "three nodes against three of etcd: puts, gets, batches, failover, scan",
    "sampler": "what load sampling costs a node: processor time, on against off",
    "heat": "the heat matrix of 10,000 routes: time and memory",
    "widgets": "the heatmap in JupyterLab: first paint, bytes, hover, selection to table",
    "catalog_open": "opening a catalog, requests to open, refresh",
    "catalog_commit": "writers at once, commits, registering, compaction",
    "catalog_export": "rows into an export, from Arrow and from a live cluster",
    "catalog_query": "point lookup and as-of over an export",
}
PACKAGES = (
    ("pyarrow", "duckdb", "polars", "numpy"),
    ("pyiceberg", "deltalake", "s3fs", "moto"),
)


def machine() -> str:
    """Return what the figures depend on."""
    packages = []
    for name in (name for line in PACKAGES for name in line):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"{name} absent")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}, load average {load:.1f} at the start. "
        f"Python {platform.python_version()}, {', '.join(packages)}."
    )


def main() -> None:
    """Print the tables of what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help="as --list says; default: all")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and run none")
    given = parser.parse_args()
    if given.list:
        for name, what in BENCHMARKS.items():
            print(f"{name:16}{what}")
        return
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; known are {', '.join(BENCHMARKS)}")
    started = time.perf_counter()
    print(f"Machine: {machine()}\n\n{HEAD}", flush=True)
    notes: list[str] = []
    for name in given.names or BENCHMARKS:
        for line in importlib.import_module(f"benchmarks.{name}").run():
            if line.startswith("| "):
                print(line, flush=True)
            else:
                notes.append(line)  # a table must not be torn apart
    for note in notes:
        print(f"\n{note}")
    took = time.perf_counter() - started
    command = " ".join(["python -m benchmarks", *given.names])
    print(f"\n`{command}` on {time.strftime('%Y-%m-%d')}, {took:.0f} s.")


if __name__ == "__main__":
    main()
