"""Look: which routes are hot and why, and the heat matrix of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from workbench.errors import NotFound
from workbench.heat.matrix import HeatMatrix, heat_matrix
from workbench.model.times import rfc3339
from workbench.planner.detect import (
    THRESHOLD_PER_MINUTE,
    RouteVerdict,
    RouteWindow,
    Rule,
    closed_starts,
    detect,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from workbench.model.plan import Objective
    from workbench.session.cluster import ClusterView

SCORE: Final = "score"
# What detection falls back to where reads and writes were not measured, in this order.
FALLBACKS: Final = ("cpu_ns", "bytes")


@dataclass(frozen=True, slots=True)
class Unattributed:
    """Load that cannot be given to a route: its buckets cross a route's bound, or lie in none.

    Attributes:
        buckets: How many rows, a bucket in a window each.
        load: Their load in the objective's unit; None where it was not measured.
        share: `load` over all load that was measured; None where `load` is None.
    """

    buckets: int = 0
    load: int | None = 0
    share: float | None = 0.0


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
        verdicts: Every route as it is now, hottest first; load measured before a split is by
            key that of the children.
        unattributed: What the verdicts leave out.
    """

    cluster: str
    since: datetime
    until: datetime
    objective: str
    rule: Rule
    verdicts: tuple[RouteVerdict, ...]
    unattributed: Unattributed = Unattributed()


def hot(
    view: ClusterView,
    *,
    since: datetime,
    until: datetime,
    objective: Objective,
    rule: Rule,
) -> HotAnswer:
    """Judge every route of the cluster, as it is now, by the detection rules.

    Where the counters of `objective` were nowhere measured, falls back to cpu_ns, then bytes,
    and says so in `objective`.
    """
    table = view.load.route_windows(since, until, view.snapshot.routes)
    if table.num_rows == 0:
        raise NotFound(
            f"no window of cluster {view.name!r} starts between {rfc3339(since)} and "
            f"{rfc3339(until)}",
            code="load_absent",
            hint=f"windows are {view.extent.window_ms / 1_000:g} s long; ask for a longer time",
        )
    rows = table.to_pylist()
    used, windows = _windows([row for row in rows if row["route_id"] is not None], objective)
    if used != SCORE and rule.threshold_per_minute == THRESHOLD_PER_MINUTE:
        rule = replace(rule, threshold_per_minute=None)  # it counts reads and writes, not bytes
    verdicts = tuple(detect(view.snapshot.routes, windows, rule))
    last = max(closed_starts(windows), default=until)
    left_out = [row for row in rows if row["route_id"] is None and row["window_start"] <= last]
    return HotAnswer(
        cluster=view.name,
        since=since,
        until=until,
        objective=used,
        rule=rule,
        verdicts=verdicts,
        unattributed=_unattributed(left_out, verdicts, used, objective),
    )


def heat(view: ClusterView, *, since: datetime, until: datetime, series: str) -> HeatMatrix:
    """Return the heat matrix of the cluster: one row per bucket, one column per window."""
    return heat_matrix(view.load.load_windows(since, until), series)


def _unattributed(
    rows: Sequence[dict[str, Any]],
    verdicts: Sequence[RouteVerdict],
    name: str,
    objective: Objective,
) -> Unattributed:
    """Return what these rows of no route are of all load."""
    buckets = sum(row["row_count"] for row in rows)
    load = 0
    for row in rows:
        part = _load(row, name, objective)
        if part is None:
            return Unattributed(buckets, None, None)
        load += part
    total = load + sum(verdict.load or 0 for verdict in verdicts)
    return Unattributed(buckets, load, load / total if total else 0.0)


def _windows(rows: Sequence[dict[str, Any]], objective: Objective) -> tuple[str, list[RouteWindow]]:
    """Return the objective that was measured, and its windows."""
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


def _load(row: dict[str, Any], name: str, objective: Objective) -> int | None:
    """Return a window's load, None where a counter that it needs was not measured."""
    if name == "cpu_ns":
        cpu_ns: int | None = row["cpu_ns"]
        return cpu_ns
    if name == "bytes":
        read_bytes, write_bytes = row["read_bytes"], row["write_bytes"]
        if read_bytes is None or write_bytes is None:
            return None
        return int(read_bytes + write_bytes)
    load = 0
    for counter, weight in (("reads", objective.read_weight), ("writes", objective.write_weight)):
        count = row[counter]
        if weight and count is None:
            return None
        load += weight * (count or 0)
    return load
