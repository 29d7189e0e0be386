"""What a plan is made from besides load and limits, and how well the load of each route is known.

    view, time, rule ──▶ Given ──▶ the plan document

The certainty of a route's load is over the whole of the plan's window; that of a verdict
(`planner.detect`) is over the windows of its proof alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from workbench.model.keys import Span
from workbench.model.objective import OBJECTIVES
from workbench.model.plan_given import EvidenceCertainty, Given, GivenRoute
from workbench.model.routes import RouteDescriptor, RouteSnapshot, RouteState
from workbench.model.times import to_us
from workbench.planner.intervals import ERROR_CERTAIN
from workbench.planner.window_arrays import COVERAGE_FULL
from workbench.query.load import Source
from workbench.session.look_arrays import windows_of

if TYPE_CHECKING:
    from datetime import datetime

    import numpy.typing as npt

    from workbench.model.plan import Objective, Plan
    from workbench.planner.detect import Rule
    from workbench.session.cluster import ClusterView


def given_of(  # noqa: PLR0913 - the question's own parts, named
    view: ClusterView,
    since: datetime,
    until: datetime,
    source: Source,
    objective: Objective,
    *,
    asked: Objective,
    rule: Rule,
    backtest: bool,
    no_moves: str,
    windows: KnownWindows | None = None,
) -> Given:
    """Return what a plan of these parts is made from; `asked` is the objective asked for.

    `windows` are those of this objective and of these routes, over this time or more; None reads
    them.
    """
    if windows is None:
        known = certainties(view, since, until, source, objective)
    else:
        known = windows.over(since, until)
    return Given(
        routes=tuple(
            GivenRoute(route.route_id, route.state.value, route.split_at_hlc, certainty)
            for route, certainty in zip(view.snapshot.routes, known, strict=True)
        ),
        threshold_per_minute=rule.threshold_per_minute,
        windows_hot=rule.windows_hot,
        cooldown_ms=rule.cooldown_ms,
        window_ms=view.extent.window_ms,
        backtest=backtest,
        no_moves=no_moves,
        asked=next(name for name, each in OBJECTIVES.items() if each.name == asked.name),
    )


def certainties(
    view: ClusterView, since: datetime, until: datetime, source: Source, objective: Objective
) -> list[EvidenceCertainty]:
    """Return how well the load of each route is known, in the order of the view's routes.

    Windows after the last that some route measured in full are still open, and not judged.
    """
    if source is Source.ACCESS:
        return [EvidenceCertainty.CERTAIN] * len(view.snapshot.routes)
    return known_windows(view, since, until, objective).over(since, until)


@dataclass(frozen=True, slots=True, eq=False)
class KnownWindows:
    """How well each route's load is known, so that a part of the time costs one subtraction.

    Attributes:
        starts_us: int64, start of each window, ascending.
        is_closed: Per window, whether some route measured it in full.
        is_measured: Per window, whether some route measured the objective.
        sure: int32, shape (windows + 1, routes): in how many windows before each the load is
            certain; routes in the order of the view's.
    """

    starts_us: npt.NDArray[np.int64]
    is_closed: npt.NDArray[np.bool_]
    is_measured: npt.NDArray[np.bool_]
    sure: npt.NDArray[np.int32]

    def over(self, since: datetime, until: datetime) -> list[EvidenceCertainty]:
        """Return how well the load of each route is known in windows that start in that time."""
        low, high = np.searchsorted(self.starts_us, (to_us(since), to_us(until)))
        closed = np.flatnonzero(self.is_closed[low:high])
        if not len(closed) or not self.is_measured[low:high].any():
            return [EvidenceCertainty.LIKELY] * self.sure.shape[1]
        end = low + int(closed[-1]) + 1
        full = self.sure[end] - self.sure[low] == end - low
        return [
            EvidenceCertainty.CERTAIN if each else EvidenceCertainty.LIKELY
            for each in full.tolist()
        ]


def known_windows(
    view: ClusterView, since: datetime, until: datetime, objective: Objective
) -> KnownWindows:
    """Return how well the load of each route is known in each window that starts in that time."""
    routes = view.snapshot.routes
    table = view.load.route_windows(since, until, routes)
    owned = table.filter(table.column("route_id").is_valid())
    used, windows = windows_of(owned, None, objective)
    starts, at = np.unique(windows.start_us, return_inverse=True)
    closed, measured = np.zeros(len(starts), np.bool_), np.zeros(len(starts), np.bool_)
    closed[at[windows.coverage >= COVERAGE_FULL]] = True
    if used == objective.name:
        measured[at[windows.measured]] = True
    load = windows.load.astype(np.float64)
    certain = windows.measured & (windows.coverage >= COVERAGE_FULL)
    certain &= windows.error_bound <= ERROR_CERTAIN * load
    ids = np.array([route.route_id for route in routes], dtype=np.uint64)
    order = ids.argsort()
    column = order[np.searchsorted(ids, windows.route_ids[certain], sorter=order)]
    sure = np.zeros((len(starts) + 1, len(routes)), dtype=np.int32)
    np.add.at(sure, (at[certain] + 1, column), 1)
    np.cumsum(sure, axis=0, out=sure)
    sure.setflags(write=False)
    return KnownWindows(starts, closed, measured, sure)


def view_as_given(view: ClusterView, plan: Plan) -> ClusterView:
    """Return the view with the routes and the length of windows that a plan found.

    Raises:
        ValueError: the document names no such routes.
    """
    given = plan.given
    assert given is not None
    routes = tuple(
        RouteDescriptor(
            told.route_id,
            Span(found.span.start, found.span.end),
            found.group,
            RouteState(told.state),
            split_at_hlc=told.split_at_hlc,
        )
        for told, found in zip(given.routes, plan.routes_before, strict=True)
    )
    snapshot = RouteSnapshot(plan.catalog_version, routes, view.snapshot.taken_at)
    return replace(view, snapshot=snapshot, extent=replace(view.extent, window_ms=given.window_ms))
