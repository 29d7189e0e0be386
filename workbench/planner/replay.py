"""Replay: what later accesses would have loaded each route, before and after a plan.

    accesses (time, key, load) ──▶ owner by bisection ──▶ load per route and window

Nothing is estimated: every access is counted on the route that would have owned its key. The
plan was made without these accesses, so what comes out is a forecast put to the test.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import NotFound
from workbench.model.times import from_us, to_us
from workbench.planner.outcome import DRIFT_SHARE, Outcome, outcome_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import numpy.typing as npt

    from workbench.model.keys import Span
    from workbench.model.plan import Plan


@dataclass(frozen=True, slots=True)
class RouteSeries:
    """Load per route and window.

    Attributes:
        spans: One per row, ascending.
        times: Window starts, one per column.
        window_ms: Length of a window.
        loads: Shape (routes, windows), whole numbers in the objective's unit.
        unrouted: Load of keys that no span holds.
    """

    spans: tuple[Span, ...]
    times: tuple[datetime, ...]
    window_ms: int
    loads: npt.NDArray[np.int64]
    unrouted: int

    @property
    def totals(self) -> npt.NDArray[np.int64]:
        """Load per route over all windows."""
        totals: npt.NDArray[np.int64] = self.loads.sum(axis=1)
        return totals

    @property
    def max_share(self) -> float:
        """The heaviest route's share of the routed load; 0 where there is none."""
        total = int(self.loads.sum())
        return int(self.totals.max()) / total if total else 0.0

    @property
    def max_share_per_window(self) -> npt.NDArray[np.float64]:
        """The heaviest route's share in each window; NaN where a window has no load."""
        total = self.loads.sum(axis=0)
        heaviest = self.loads.max(axis=0)
        share: npt.NDArray[np.float64] = np.divide(
            heaviest, total, out=np.full(len(total), np.nan), where=total > 0
        )
        return share


@dataclass(frozen=True, slots=True)
class Verification:
    """A plan's forecast beside what came.

    Attributes:
        plan_id: Of the plan that was replayed.
        since: Start of the replayed time.
        until: End of it, exclusive.
        events: How many accesses, or buckets and windows, were counted.
        before: On the routes that the plan found.
        after: On the routes that the plan leaves.
        forecast_share: Heaviest route's share that the plan promised.
        drift: Share of the total that came on other routes than forecast, 0 to 1 (total
            variation distance between forecast and actual shares).
    """

    plan_id: str
    since: datetime
    until: datetime
    events: int
    before: RouteSeries
    after: RouteSeries
    forecast_share: float
    drift: float

    @property
    def drifted(self) -> bool:
        """Whether so much load moved that the plan should be made anew."""
        return self.drift > DRIFT_SHARE

    @property
    def outcome(self) -> Outcome:
        """What the replayed load said of the plan."""
        return outcome_of(
            forecast=self.forecast_share,
            came=self.after.max_share,
            without=self.before.max_share,
            drift=self.drift,
        )


def replay(loads: pa.Table, spans: Sequence[Span], window_ms: int) -> RouteSeries:
    """Count recorded loads on the routes that would have owned them.

    Args:
        loads: Columns time (timestamp[us]), key (binary), load (int64), in any order.
        spans: Ascending, not overlapping; gaps own nothing.
        window_ms: Length of a window; windows start at multiples of it since the epoch.

    Raises:
        NotFound: `loads` has no row.
    """
    if loads.num_rows == 0:
        raise NotFound(
            "there is no load to replay",
            code="load_absent",
            hint="collect a longer trace, or ask for a time that it covers",
        )
    window_us = window_ms * 1_000
    windows = loads.column("time").cast(pa.int64()).to_numpy() // window_us
    first = int(windows.min())
    columns = windows - first
    owners = _owners(loads.column("key").combine_chunks(), spans)
    load = loads.column("load").to_numpy()
    routed = owners >= 0
    shape = (len(spans), int(columns.max()) + 1)
    cells = np.zeros(shape[0] * shape[1], dtype=np.int64)
    # add.at keeps whole numbers; bincount's weights are floats and lose them above 2**53.
    np.add.at(cells, (owners * shape[1] + columns)[routed], load[routed])
    return RouteSeries(
        spans=tuple(spans),
        times=tuple(from_us((first + column) * window_us) for column in range(shape[1])),
        window_ms=window_ms,
        loads=cells.reshape(shape),
        unrouted=int(load[~routed].sum()),
    )


def verification(plan: Plan, loads: pa.Table, window_ms: int) -> Verification:
    """Replay `loads` on the plan's routes before and after, and compare with its forecast.

    Args:
        plan: The plan.
        loads: As for `replay`; only what the plan had not seen makes this a test.
        window_ms: As for `replay`.
    """
    before = replay(loads, [route.span for route in plan.routes_before], window_ms)
    after = replay(loads, [route.span for route in plan.routes_after], window_ms)
    times = loads.column("time")
    return Verification(
        plan_id=plan.plan_id,
        since=from_us(to_us(pc.min(times).as_py())),
        until=from_us(to_us(pc.max(times).as_py()) + 1),
        events=loads.num_rows,
        before=before,
        after=after,
        forecast_share=plan.max_share_after,
        drift=_drift([route.load for route in plan.routes_after], after.totals),
    )


def _owners(keys: pa.Array, spans: Sequence[Span]) -> npt.NDArray[np.int64]:
    """Return for each key the index of the span that holds it, -1 where none does."""
    encoded = keys.dictionary_encode()
    distinct = encoded.dictionary
    order = pc.array_sort_indices(distinct).to_numpy()
    ascending = distinct.take(pa.array(order)).to_pylist()
    owner_by_rank = np.full(len(ascending), -1, dtype=np.int64)
    for index, span in enumerate(spans):
        low = bisect_left(ascending, span.start)
        high = len(ascending) if span.end is None else bisect_left(ascending, span.end)
        owner_by_rank[low:high] = index
    owner_by_code = np.empty_like(owner_by_rank)
    owner_by_code[order] = owner_by_rank
    owners: npt.NDArray[np.int64] = owner_by_code[encoded.indices.to_numpy()]
    return owners


def _drift(forecast: Sequence[int], actual: npt.NDArray[np.int64]) -> float:
    """Return the total variation distance between two distributions of load over routes."""
    expected = np.asarray(forecast, dtype=np.float64)
    came = actual.astype(np.float64)
    if expected.sum() == 0 or came.sum() == 0:
        return 0.0
    return float(np.abs(expected / expected.sum() - came / came.sum()).sum() / 2)
