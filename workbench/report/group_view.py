"""Load per group over time, from the replay: whom the plan relieves, and when.

    loads per route and window ──summed by the routes' groups──▶ one line a group, before and after

Only where the routes lie on more than one group. The busiest SHOWN_MAX groups are drawn, all are in
the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from workbench.report import words
from workbench.report.charts import Axis, Line, LineChart, axis
from workbench.report.plan_view import share_of
from workbench.report.tables import Column, Table, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from workbench.model.plan import Plan, RouteLoad
    from workbench.planner.replay import RouteSeries, Verification

SHOWN_MAX: Final = 6
POINTS_MAX: Final = 300
TIME_TICKS_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class GroupLoads:
    """Load per group over time.

    Attributes:
        chart: A line per group, of the routes that the plan leaves.
        legend: Pairs of a line's class and its group, in the order of the lines.
        note: What is drawn.
        table: All groups, before and after.
    """

    chart: LineChart
    legend: tuple[tuple[str, str], ...]
    note: str
    table: Table


def group_loads(plan: Plan, seen: Verification) -> GroupLoads | None:
    """Return load per group over time, None where all routes lie on one group."""
    before = _by_group(seen.before, plan.routes_before)
    after = _by_group(seen.after, plan.routes_after)
    groups = sorted({*before, *after})
    if len(groups) < 2:
        return None
    windows = max(len(seen.before.times), len(seen.after.times))
    nothing = np.zeros(windows, dtype=np.int64)
    busiest = sorted(groups, key=lambda g: (-int(after.get(g, nothing).sum()), g))[:SHOWN_MAX]
    step = max(-(-windows // POINTS_MAX), 1)
    lines = tuple(
        Line(f"group-{place}", _summed(after.get(group, nothing), step))
        for place, group in enumerate(busiest)
    )
    top = max((value or 0.0 for line in lines for value in line.values), default=0.0)
    columns = max(len(line.values) for line in lines)
    length = words.length(seen.after.window_ms * step)
    left = len(groups) - len(busiest)
    others = words.plural(left, "more group is", "more groups are")
    more = f" {others} in the table." if left else ""
    return GroupLoads(
        chart=LineChart(
            name="groups",
            label="Load of each group in each window, on the routes that the plan leaves; the "
            "table beside it has the sums.",
            x=Axis(
                float(max(columns, 1)),
                tuple(words.time_ticks(seen.after.times[::step], TIME_TICKS_MAX)),
                "time, UTC",
            ),
            y=axis(top, "load", words.whole),
            lines=lines,
        ),
        legend=tuple((f"group-{place}", f"group {group}") for place, group in enumerate(busiest)),
        note=f"Windows of {length}, on the routes that the plan leaves.{more}",
        table=_table(groups, before, after),
    )


def _by_group(series: RouteSeries, routes: Sequence[RouteLoad]) -> dict[int, npt.NDArray[np.int64]]:
    """Return load per window of each group; rows of the series are the routes, in order."""
    assert len(routes) == len(series.spans)
    sums: dict[int, npt.NDArray[np.int64]] = {}
    for route, loads in zip(routes, series.loads, strict=True):
        sums[route.group] = sums.get(route.group, 0) + loads
    return sums


def _summed(loads: npt.NDArray[np.int64], step: int) -> tuple[float | None, ...]:
    return tuple(float(loads[at : at + step].sum()) for at in range(0, len(loads), step))


def _table(
    groups: Sequence[int],
    before: dict[int, npt.NDArray[np.int64]],
    after: dict[int, npt.NDArray[np.int64]],
) -> Table:
    totals = [sum(int(loads.sum()) for loads in side.values()) for side in (before, after)]
    rows = []
    for group in groups:
        cells = [f"group {group}"]
        for side, total in zip((before, after), totals, strict=True):
            load = int(side[group].sum()) if group in side else 0
            cells += [words.whole(load), share_of(load, total)]
        rows.append(cells)
    columns = (
        Column("Group"),
        Column("Before", "number"),
        Column("Share", "number"),
        Column("After", "number"),
        Column("Share", "number"),
    )
    return table("groups", "Load per group over the whole time", columns, rows)
