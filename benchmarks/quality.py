"""Measure what a policy's cuts are worth on load that it has not seen; print Markdown tables.

    trace ── first half of the accesses ──▶ Policy.cut, k routes
          └─ second half ──▶ counted on those routes ──▶ max route load / mean

    python -m benchmarks.quality

Every access counts 1. Recorded block-address traces are read where they lie beside the checkout
and left out with a message where they do not. Generated sets are reported beside, not counted.
Sampling policies run with SEEDS seeds, of which the geometric mean is taken. Nothing here is
tuned to a trace, and losses stay in the tables.
"""

from __future__ import annotations

import io
import lzma
from dataclasses import dataclass
from datetime import UTC, datetime
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from workbench.planner.atoms import Atoms, atoms_from_table
from workbench.planner.partition import optimum, stops
from workbench.planner.policies import POLICIES, replayed_loads, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
TRACES = ROOT.parent / "shared" / "data"
ROUTES = (6, 12, 20, 24, 48)
SEEDS = (1, 2, 3, 4, 5)
SAMPLING = {"cockroachdb", "tikv"}
OURS = "robust"
EXACT = "exact"
GREEDY = "greedy exact"
W106_ACCESSES = 1_000_000
# Aims of the design: against each rival, and against exact planning on raw counts.
WINS_MIN = 0.80
RATIO_MAX = 0.85
DRIFT_MAX = 0.95


@dataclass(frozen=True)
class Cell:
    """One trace cut into one number of routes: held-out max/mean by policy."""

    trace: str
    routes: int
    heldout: Mapping[str, float]


def cloudphysics(path: Path) -> pa.Array:
    """Block numbers of a CloudPhysics CSV, one access per row."""
    with pa.OSFile(str(path)) as raw, pa.CompressedInputStream(raw, "zstd") as stream:
        table = pa_csv.read_csv(io.BytesIO(stream.read()))
    return block_keys(table.column("lbn").to_numpy())


def arc(path: Path) -> pa.Array:
    """First block numbers of an ARC .lis trace, one access per request."""
    with pa.OSFile(str(path)) as raw, pa.CompressedInputStream(raw, "zstd") as stream:
        table = pa_csv.read_csv(
            io.BytesIO(stream.read()),
            read_options=pa_csv.ReadOptions(column_names=["start", "count", "a", "b"]),
            parse_options=pa_csv.ParseOptions(delimiter=" "),
        )
    return block_keys(table.column("start").to_numpy())


def u32(path: Path) -> pa.Array:
    """Block numbers of a little-endian u32 trace, the first million."""
    with lzma.open(path) as stream:
        content = stream.read(4 * W106_ACCESSES)
    return block_keys(np.frombuffer(content, dtype="<u4"))


def block_keys(numbers: npt.NDArray[np.integer]) -> pa.Array:
    """Return numbers as keys of 8 bytes, big-endian."""
    content = numbers.astype(">u8").tobytes()
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(8), len(numbers), [None, pa.py_buffer(content)]
    )
    return fixed.cast(pa.binary())


RECORDED: dict[str, tuple[str, Callable[[Path], pa.Array]]] = {
    "CloudPhysics": ("cloudphysics.csv.zst", cloudphysics),
    "ARC P3": ("arc-P3.lis.zst", arc),
    "w106, first 1 M": ("w106.trace.xz", u32),
}


def recorded() -> Iterable[tuple[str, pa.Array]]:
    """Keys in order of access of every recorded trace that is there."""
    for name, (file, reader) in RECORDED.items():
        path = TRACES / file
        if path.is_file():
            yield name, reader(path)
        else:
            print(f"left out: {name}, there is no ../shared/data/{file}\n")


def generated() -> Iterable[tuple[str, pa.Array]]:
    """Keys in order of access of every generated set."""
    for path in sorted((ROOT / "datasets").glob("*.parquet")):
        yield path.stem, pq.read_table(path, columns=["key"]).column("key").combine_chunks()


def atoms_of(keys: pa.Array) -> Atoms:
    """Return accesses per key."""
    counted = pa.table({"atom_start": keys}).group_by("atom_start").aggregate([([], "count_all")])
    return atoms_from_table(counted.rename_columns(["atom_start", "load"]), "key")


def greedy_cuts(atoms: Atoms, routes: int) -> list[int]:
    """Exact planning on raw counts: fill route after route to the optimum."""
    segments = whole(atoms)
    # No atom is heavier than the optimum, so the probe does not fail.
    found = stops(segments, 0, optimum(segments, routes - 1))
    return found or []


def measure(name: str, keys: pa.Array) -> list[Cell]:
    """Cut by every policy on the first half, count on the second in one replay."""
    half = len(keys) // 2
    atoms, later = atoms_of(keys[:half]), keys[half:]
    runs: dict[tuple[int, str], list[list[bytes]]] = {}
    for routes in ROUTES:
        for policy in POLICIES.values():
            seeds = SEEDS if policy.name in SAMPLING else SEEDS[:1]
            found = [policy.cut(atoms, routes, seed) for seed in seeds]
            runs[routes, policy.name] = [[atoms.keys[at] for at in cuts] for cuts in found]
        runs[routes, GREEDY] = [[atoms.keys[at] for at in greedy_cuts(atoms, routes)]]
    moment = pa.scalar(datetime(2026, 1, 1, tzinfo=UTC), pa.timestamp("us", "UTC"))
    times = pa.repeat(moment, len(later))
    ones = pa.repeat(pa.scalar(1, pa.int64()), len(later))
    events = pa.table({"time": times, "key": later, "load": ones})
    flat = [cuts for found in runs.values() for cuts in found]
    loads = iter(replayed_loads(events, flat))
    heldout = {
        run: geometric_mean(max(next(loads)) * run[0] / len(later) for _ in found)
        for run, found in runs.items()
    }
    return [
        Cell(name, k, {policy: heldout[k, policy] for routes, policy in runs if routes == k})
        for k in ROUTES
    ]


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive numbers."""
    logs = [log(value) for value in values]
    return exp(sum(logs) / len(logs))


def print_cells(cells: Sequence[Cell]) -> None:
    """Print held-out max/mean per cell, the least in bold, and the geometric mean."""
    names = list(cells[0].heldout)
    print(f"| trace | k | {' | '.join(names)} |")
    print("|---|---" + "|---" * len(names) + "|")
    for cell in cells:
        print(f"| {cell.trace} | {cell.routes} | {bold_least(cell.heldout)} |")
    print(f"| *geometric mean* | | {bold_least(means(cells))} |\n")


def means(cells: Sequence[Cell]) -> dict[str, float]:
    """Return each policy's geometric mean over cells."""
    return {name: geometric_mean(c.heldout[name] for c in cells) for name in cells[0].heldout}


def bold_least(values: Mapping[str, float]) -> str:
    """Return the values as table cells."""
    shown = [f"{value:.2f}" for value in values.values()]
    least = f"{min(values.values()):.2f}"
    return " | ".join(f"**{text}**" if text == least else text for text in shown)


def print_rivals(cells: Sequence[Cell]) -> None:
    """Print per rival in how many cells ours is lower, the ratio, and whether the aim is met."""
    print("| against | robust lower | equal | robust higher | ratio robust / rival | aim |")
    print("|---|---|---|---|---|---|")
    for name in cells[0].heldout:
        if name == OURS:
            continue
        pairs = [(cell.heldout[OURS], cell.heldout[name]) for cell in cells]
        lower = sum(ours < theirs for ours, theirs in pairs)
        equal = sum(ours == theirs for ours, theirs in pairs)
        ratio = geometric_mean(ours / theirs for ours, theirs in pairs)
        if name in {GREEDY, EXACT}:
            aim, met = f"drift: ratio ≤ {DRIFT_MAX}", ratio <= DRIFT_MAX
        else:
            aim = f"≥ {WINS_MIN:.0%}, ratio ≤ {RATIO_MAX}"
            met = lower >= WINS_MIN * len(pairs) and ratio <= RATIO_MAX
        print(
            f"| {name} | {lower}/{len(pairs)} ({lower / len(pairs):.0%}) | {equal} "
            f"| {len(pairs) - lower - equal} | {ratio:.3f} | {aim}: {'met' if met else 'MISSED'} |"
        )
    print()


def main() -> None:
    """Print the tables."""
    counted = [cell for name, keys in recorded() for cell in measure(name, keys)]
    if counted:
        print("Recorded block-address traces, max route load over mean on the second half:\n")
        print_cells(counted)
        print_rivals(counted)
    beside = [measure(name, keys) for name, keys in generated()]
    print("Generated sets, beside and not counted (geometric mean over k):\n")
    names = list(beside[0][0].heldout)
    print(f"| set | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    for cells in beside:
        print(f"| {cells[0].trace} | {bold_least(means(cells))} |")


if __name__ == "__main__":
    main()
