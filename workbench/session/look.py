"""Look: which routes are hot and why, and the heat matrix of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from workbench.errors import NotFound
from workbench.heat.matrix import HeatMatrix, heat_matrix
from workbench.model.times import rfc3339
from workbench.planner.detect import (
    THRESHOLD_PER_MINUTE,
    RouteVerdict,
    RouteWindow,
    Rule,
    detect,
)

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from workbench.model.plan import Objective
    from workbench.session.cluster import ClusterView

SCORE: Final = "score"
# What detection falls back to where reads and writes were not measured, in this order.
FALLBACKS: Final = ("cpu_ns", "bytes")


@dataclass(frozen=True, slots=True)
class HotAnswer:
    """Which routes are hot.

    Attributes:
        cluster: Of the routes.
        since: Start of the time that was judged.
        until: End of it, exclusive.
        objective: What was measured against the threshold: a planning objective, or `cpu_ns`
            where nothing else was measured.
        rule: The thresholds.
        verdicts: Every route, hottest first.
    """

    cluster: str
    since: datetime
    until: datetime
    objective: str
    rule: Rule
    verdicts: tuple[RouteVerdict, ...]


def hot(
    view: ClusterView,
    *,
    since: datetime,
    until: datetime,
    objective: Objective,
    rule: Rule,
) -> HotAnswer:
    """Judge every route of the cluster by the detection rules.

    Where the counters of `objective` were nowhere measured, falls back to cpu_ns, then bytes,
    and says so in `objective`.
    """
    table = view.load.route_windows(since, until)
    if table.num_rows == 0:
        raise NotFound(
            f"no window of cluster {view.name!r} starts between {rfc3339(since)} and "
            f"{rfc3339(until)}",
            code="load_absent",
            hint=f"windows are {view.extent.window_ms / 1_000:g} s long; ask for a longer time",
        )
    used, windows = _windows(table, objective)
    if used != SCORE and rule.threshold_per_minute == THRESHOLD_PER_MINUTE:
        rule = replace(rule, threshold_per_minute=None)  # it counts reads and writes, not bytes
    return HotAnswer(
        cluster=view.name,
        since=since,
        until=until,
        objective=used,
        rule=rule,
        verdicts=tuple(detect(view.snapshot.routes, windows, rule)),
    )


def heat(view: ClusterView, *, since: datetime, until: datetime, series: str) -> HeatMatrix:
    """Return the heat matrix of the cluster: one row per bucket, one column per window."""
    return heat_matrix(view.load.load_windows(since, until), series)


def _windows(table: pa.Table, objective: Objective) -> tuple[str, list[RouteWindow]]:
    """Return the objective that was measured, and its windows."""
    rows = table.to_pylist()
    for name in (objective.name, *FALLBACKS):
        windows = [
            RouteWindow(
                route_id=row["route_id"],
                start=row["window_start"],
                end=row["window_end"],
                load=_load(row, name, objective),
                coverage=row["coverage"],
                error_bound=row["error_bound"],
            )
            for row in rows
        ]
        if any(window.load is not None for window in windows):
            return name, windows
    return objective.name, []


def _load(row: dict[str, int | None], name: str, objective: Objective) -> int | None:
    """Return a window's load, None where a counter that it needs was not measured."""
    if name == "cpu_ns":
        return row["cpu_ns"]
    if name == "bytes":
        read_bytes, write_bytes = row["read_bytes"], row["write_bytes"]
        if read_bytes is None or write_bytes is None:
            return None
        return read_bytes + write_bytes
    load = 0
    for counter, weight in (("reads", objective.read_weight), ("writes", objective.write_weight)):
        count = row[counter]
        if weight and count is None:
            return None
        load += weight * (count or 0)
    return load
