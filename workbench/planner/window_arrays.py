"""Window arrays: the load of routes by window as columns, and what detection reads off them.

    rows (route, start) ──sort──▶ one run of rows per route, ascending by time
                                    ├─ sums, rates, peaks
                                    └─ streak at the end, windows over before it

Columns give exactly what one window at a time gives: whole numbers stay whole, however large, and
a rate is the same double. Which verdict follows from a streak is `detect`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from workbench.planner.intervals import ERROR_CERTAIN, SAMPLES_CERTAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

COVERAGE_FULL: Final = 0.999
MS_PER_MINUTE: Final = 60_000
# Beyond it a weighed sum might leave 64 bits: then whole numbers of any size are used.
_EXACT_MAX: Final = 1 << 61


@dataclass(frozen=True, slots=True, eq=False)
class WindowArrays:
    """Load by route and window; a row each, all columns of one length.

    Attributes:
        route_ids: uint64 or int64.
        start_us: int64, start of the window.
        end_us: int64, end of it.
        load: Whole numbers: int64, or of any size as objects; 0 where `measured` is false.
        measured: Whether `load` is known.
        coverage: float64, fraction of the window that was measured.
        error_bound: float64, by how much `load` may be too high; 0 where not measured.
        samples: int64; -1 where every access was counted.
    """

    route_ids: npt.NDArray[Any]
    start_us: npt.NDArray[np.int64]
    end_us: npt.NDArray[np.int64]
    load: npt.NDArray[Any]
    measured: npt.NDArray[np.bool_]
    coverage: npt.NDArray[np.float64]
    error_bound: npt.NDArray[np.float64]
    samples: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.start_us)

    def last_closed_us(self) -> int | None:
        """Return the start of the last window that some route measured in full; None for none."""
        full = self.start_us[self.coverage >= COVERAGE_FULL]
        return int(full.max()) if len(full) else None

    def taken(self, chosen: npt.NDArray[Any]) -> WindowArrays:
        """Return the chosen rows, by mask or by place."""
        return WindowArrays(
            self.route_ids[chosen],
            self.start_us[chosen],
            self.end_us[chosen],
            self.load[chosen],
            self.measured[chosen],
            self.coverage[chosen],
            self.error_bound[chosen],
            self.samples[chosen],
        )


@dataclass(frozen=True, slots=True, eq=False)
class RouteRuns:
    """The judged rows, ascending by route and start, and what follows for each route.

    All but `rows`, `rates` and `grid` have one entry per route, in the order asked for.

    Attributes:
        rows: The rows.
        rates: float64 per row; NaN where not measured.
        grid: int64, the judged starts, ascending.
        first: First row of the route.
        end: One past its last.
        loads: Its load over all rows; None where none was measured.
        last: Its row in the last judged window; -1 where it has none.
        streak: How many proven windows in a row end the judged time.
        earlier: How many windows before that are over the threshold.
        earlier_last: The last row of those; -1 for none.
        peak: The earliest row of the highest rate; -1 where nothing was measured.
        unsure: Running count of rows that prove nothing for certain; one more entry than rows.
    """

    rows: WindowArrays
    rates: npt.NDArray[np.float64]
    grid: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    loads: list[int | None]
    last: npt.NDArray[np.int64]
    streak: npt.NDArray[np.int64]
    earlier: npt.NDArray[np.int64]
    earlier_last: npt.NDArray[np.int64]
    peak: npt.NDArray[np.int64]
    unsure: npt.NDArray[np.int64]

    def is_sure(self, first: int, end: int) -> bool:
        """Tell whether each of the rows [first, end) is known well enough to prove."""
        return bool(self.unsure[end] == self.unsure[first])


def weighed(
    parts: Sequence[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]]], count: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return the weighed sum of counters, and where all of them were measured.

    Args:
        parts: Weight, values (0 where not measured) and where they were measured, of each.
        count: How many rows.
    """
    measured = np.ones(count, dtype=np.bool_)
    for _, _, known in parts:
        measured &= known
    reach = sum(weight * _greatest(values) for weight, values, _ in parts)
    load: npt.NDArray[Any] = np.zeros(count, np.int64 if reach <= _EXACT_MAX else object)
    for weight, values, _ in parts:
        load += weight * values.astype(load.dtype, copy=False)
    load[~measured] = 0
    return load, measured


def runs_of(
    route_ids: Sequence[int], windows: WindowArrays, threshold_per_minute: float | None
) -> RouteRuns:
    """Return the judged rows of these routes, and what they tell.

    Args:
        route_ids: The routes, each once.
        windows: In any order; of several for one route and start the last counts.
        threshold_per_minute: None where none is known: then no window is over it.
    """
    closed_us = windows.last_closed_us()
    is_closed = np.zeros(len(windows), dtype=np.bool_)
    if closed_us is not None:
        is_closed = windows.start_us <= closed_us
    grid = np.unique(windows.start_us[is_closed])
    place, rows = _sorted(route_ids, windows, is_closed)
    count = len(rows)
    first = np.searchsorted(place, np.arange(len(route_ids)), side="left")
    end = np.searchsorted(place, np.arange(len(route_ids)), side="right")
    length_ms = (rows.end_us - rows.start_us) / 1_000
    rates = _rates(rows, length_ms)
    is_over = np.zeros(count, dtype=np.bool_)
    if threshold_per_minute is not None:
        low = rows.load.astype(np.float64) - rows.error_bound
        is_over = rows.measured & (low * MS_PER_MINUTE / length_ms >= threshold_per_minute)
    index = np.arange(count)
    # A window goes on where the next of the grid is there and touches it.
    goes_on = np.zeros(count, dtype=np.bool_)
    at = np.searchsorted(grid, rows.start_us)
    goes_on[:-1] = (
        (place[1:] == place[:-1])
        & (at[1:] == at[:-1] + 1)
        & (rows.end_us[:-1] == rows.start_us[1:])
    )
    goes_on |= at == len(grid) - 1
    stops = np.where(is_over & goes_on, -1, index)
    streak = end - 1 - np.maximum(_greatest_of(stops, first, end, -1), first - 1)
    before = is_over & (index < np.repeat(end - streak, end - first))
    counted = np.concatenate([[0], np.cumsum(before)])
    sure = rows.measured & (rows.coverage >= COVERAGE_FULL)
    told = rows.error_bound <= ERROR_CERTAIN * rows.load.astype(np.float64)
    sure &= np.where(rows.samples >= 0, rows.samples >= SAMPLES_CERTAIN, told)
    has_last = (end > first) & (at[end - 1] == len(grid) - 1) if count else end > first
    return RouteRuns(
        rows=rows,
        rates=rates,
        grid=grid,
        first=first,
        end=end,
        loads=_sums(rows, first, end),
        last=np.where(has_last, end - 1, -1),
        streak=streak,
        earlier=counted[end] - counted[first],
        earlier_last=_greatest_of(np.where(before, index, -1), first, end, -1),
        peak=_peaks(rates, first, end),
        unsure=np.concatenate([[0], np.cumsum(~sure)]),
    )


def _sorted(
    route_ids: Sequence[int], windows: WindowArrays, is_closed: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], WindowArrays]:
    """Return the closed rows of these routes, ascending, with the place of each one's route."""
    ids = np.array(route_ids, dtype=np.uint64)
    order = ids.argsort()
    told = windows.route_ids.astype(np.uint64, copy=False)
    found = np.minimum(np.searchsorted(ids[order], told), max(len(ids) - 1, 0))
    known = is_closed & (ids[order][found] == told) if len(ids) else is_closed & False
    place = order[found] if len(ids) else found
    if not known.all():
        place, windows = place[known], windows.taken(known)
    step, same = np.diff(place), np.diff(windows.start_us)
    if not ((step > 0) | ((step == 0) & (same > 0))).all():
        sorting = np.lexsort((windows.start_us, place))
        place, windows = place[sorting], windows.taken(sorting)
        is_last = np.ones(len(place), dtype=np.bool_)
        is_last[:-1] = (np.diff(place) != 0) | (np.diff(windows.start_us) != 0)
        place, windows = place[is_last], windows.taken(is_last)
    return place, windows


def _rates(rows: WindowArrays, length_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rate of each row a minute; NaN where not measured."""
    load: npt.NDArray[Any] = rows.load
    if load.dtype == object or _greatest(load) > _EXACT_MAX // MS_PER_MINUTE:
        load, length_ms = load.astype(object), length_ms.astype(object)
    rates: npt.NDArray[np.float64] = (load * MS_PER_MINUTE / length_ms).astype(np.float64)
    rates[~rows.measured] = np.nan
    return rates


def _sums(
    rows: WindowArrays, first: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> list[int | None]:
    load = rows.load
    if load.dtype != object and _greatest(load) * max(len(load), 1) > _EXACT_MAX:
        load = load.astype(object)
    sums = np.concatenate([np.zeros(1, load.dtype), np.cumsum(load)])
    known = np.concatenate([[0], np.cumsum(rows.measured)])
    # One list each: an array's numbers are none of Python's.
    totals = (sums[end] - sums[first]).tolist()
    counts = (known[end] - known[first]).tolist()
    return [total if count else None for total, count in zip(totals, counts, strict=True)]


def _peaks(
    rates: npt.NDArray[np.float64], first: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the earliest row of the highest rate per run; -1 where none was measured."""
    known = np.where(np.isnan(rates), -np.inf, rates)
    highest = _greatest_of(known, first, end, -np.inf)
    is_top = (known == np.repeat(highest, end - first)) & ~np.isnan(rates)
    places = np.append(np.flatnonzero(is_top), len(rates))
    found = places[np.searchsorted(places, first)]
    return np.where(found < end, found, -1)


def _greatest_of(
    values: npt.NDArray[Any],
    first: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    absent: float,
) -> npt.NDArray[Any]:
    """Return the greatest value of each run; `absent` for a run without rows."""
    found = np.full(len(first), absent, dtype=values.dtype)
    some = end > first
    # Runs without rows lie between the others and take nothing from them.
    if some.any():
        found[some] = np.maximum.reduceat(values, first[some])
    return found


def _greatest(values: npt.NDArray[Any]) -> int:
    return max(abs(int(values.max())), abs(int(values.min()))) if len(values) else 0
