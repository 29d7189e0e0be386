"""Arrays of a look: the answer of `route_windows` as the columns that detection judges.

    reads, writes, bytes, cpu ──weights──▶ load ─┐
    error bound of the counts ───────────────────┼──▶ WindowArrays ──▶ planner.detect
    samples, where it was not counted ───────────┘

What was counted goes before what was sampled; an objective that was nowhere measured gives way
to the next of FALLBACKS. Null means not measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from workbench.planner.intervals import interval_of
from workbench.planner.window_arrays import WindowArrays, weighed

if TYPE_CHECKING:
    import numpy.typing as npt

    from workbench.model.plan import Objective

# What detection falls back to where reads and writes were not measured, in this order.
FALLBACKS: Final = ("cpu_ns", "bytes")


def windows_of(
    routed: pa.Table, samples: pa.Table | None, objective: Objective
) -> tuple[str, WindowArrays]:
    """Return the objective that was measured, and the windows of the routes.

    Args:
        routed: Rows of `LoadReader.route_windows` that have a route.
        samples: `LoadReader.sample_windows`; None where nothing was sampled.
        objective: What was asked for.
    """
    for name in (objective.name, *FALLBACKS):
        windows = _counted(routed, name, objective)
        if samples is not None and name == objective.name and name not in FALLBACKS:
            windows = _sampled(windows, samples)
        if windows.measured.any():
            return name, windows
    return objective.name, _counted(routed.slice(0, 0), objective.name, objective)


def loads_of(
    rows: pa.Table, name: str, objective: Objective
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return the load of each row, and where every counter that it needs was measured."""
    if name == "cpu_ns":
        weights = {"cpu_ns": 1}
    elif name == "bytes":
        weights = {"read_bytes": 1, "write_bytes": 1}
    else:
        weights = {"reads": objective.read_weight, "writes": objective.write_weight}
    parts = [(weight, *_known(rows, each)) for each, weight in weights.items() if weight]
    return weighed(parts, rows.num_rows)


def _counted(rows: pa.Table, name: str, objective: Objective) -> WindowArrays:
    load, measured = loads_of(rows, name, objective)
    return WindowArrays(
        route_ids=_numbers(rows, "route_id", np.uint64),
        start_us=_times(rows, "window_start"),
        end_us=_times(rows, "window_end"),
        load=load,
        measured=measured,
        coverage=_numbers(rows, "coverage", np.float64),
        error_bound=np.where(measured, _errors(rows, load, name, objective), 0.0),
        samples=np.full(rows.num_rows, -1, dtype=np.int64),
    )


def _errors(
    rows: pa.Table, load: npt.NDArray[Any], name: str, objective: Objective
) -> npt.NDArray[np.float64]:
    """Return by how much loads may be too high, where their counts may be by the error bound.

    In the worst case all that was counted too much is of the kind that weighs most. What it was
    in bytes or time nobody told: it is taken in proportion, and as everything without counts.
    """
    bound = _numbers(rows, "error_bound", np.float64)
    if not bound.any():
        return bound
    loads = load.astype(np.float64)
    if name not in FALLBACKS:
        heaviest = max(objective.read_weight, objective.write_weight)
        return np.asarray(np.minimum(bound * heaviest, loads))
    counts, counted = weighed([(1, *_known(rows, each)) for each in ("reads", "writes")], len(load))
    accesses = counts.astype(np.float64)
    is_part = counted & (accesses > bound)
    part = loads * bound / np.where(is_part, accesses, 1.0)
    return np.where(bound == 0, 0.0, np.where(is_part, part, loads))


def _sampled(windows: WindowArrays, samples: pa.Table) -> WindowArrays:
    """Return the windows, with what samples tell where nothing was counted."""
    absent = np.flatnonzero(~windows.measured)
    if not len(absent) or not samples.num_rows:
        return windows
    told_ids = _numbers(samples, "route_id", np.uint64)
    told_us = _times(samples, "window_start")
    order = np.lexsort((told_us, told_ids))
    starts = np.unique(told_us)
    ids = np.unique(told_ids)
    key = np.searchsorted(ids, told_ids[order]) * len(starts) + np.searchsorted(
        starts, told_us[order]
    )
    route, start = windows.route_ids[absent], windows.start_us[absent]
    at_id = np.minimum(np.searchsorted(ids, route), len(ids) - 1)
    at_start = np.minimum(np.searchsorted(starts, start), len(starts) - 1)
    is_there = (ids[at_id] == route) & (starts[at_start] == start)
    wanted = at_id * len(starts) + at_start
    # The last of several, as everywhere.
    place = np.searchsorted(key, wanted, side="right") - 1
    is_there &= (place >= 0) & (key[place] == wanted)
    rows, taken = absent[is_there], order[place[is_there]]
    chosen = samples.take(pa.array(taken))
    load, measured = windows.load.astype(object), windows.measured.copy()
    error, count = windows.error_bound.copy(), windows.samples.copy()
    totals, variances = chosen.column("load").to_pylist(), chosen.column("variance").to_pylist()
    for row, total, variance in zip(rows.tolist(), totals, variances, strict=True):
        estimate = interval_of(total, variance)
        load[row], error[row] = round(estimate.estimate), estimate.error
    measured[rows] = True
    count[rows] = _numbers(chosen, "samples", np.int64)
    if not any(abs(each) >> 61 for each in load[rows]):
        load = load.astype(windows.load.dtype)
    return replace(windows, load=load, measured=measured, error_bound=error, samples=count)


def _known(rows: pa.Table, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return a counter, 0 where it is null, and where it is not."""
    column = rows.column(name)
    known = column.is_valid().to_numpy()
    return column.fill_null(0).to_numpy().astype(np.int64, copy=False), known


def _numbers(rows: pa.Table, name: str, kind: type) -> npt.NDArray[Any]:
    numbers: npt.NDArray[Any] = rows.column(name).to_numpy().astype(kind, copy=False)
    return numbers


def _times(rows: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """Return moments in microseconds since the epoch."""
    numbers: npt.NDArray[np.int64] = rows.column(name).cast(pa.int64()).to_numpy()
    return numbers
