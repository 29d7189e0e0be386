"""What a plan is made from besides load and limits, and how well the load of each route is known.

    view, time, rule ──▶ Given ──▶ the plan document

The certainty of a route's load is over the whole of the plan's window; that of a verdict
(`planner.detect`) is over the windows of its proof alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from workbench.model.keys import Span
from workbench.model.objective import OBJECTIVES
from workbench.model.plan_given import EvidenceCertainty, Given, GivenRoute
from workbench.model.routes import RouteDescriptor, RouteSnapshot, RouteState
from workbench.planner.intervals import ERROR_CERTAIN
from workbench.planner.window_arrays import COVERAGE_FULL
from workbench.query.load import Source
from workbench.session.look_arrays import windows_of

if TYPE_CHECKING:
    from datetime import datetime

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
) -> Given:
    """Return what a plan of these parts is made from; `asked` is the objective asked for."""
    known = certainties(view, since, until, source, objective)
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
    routes = view.snapshot.routes
    if source is Source.ACCESS:
        return [EvidenceCertainty.CERTAIN] * len(routes)
    table = view.load.route_windows(since, until, routes)
    owned = table.filter(table.column("route_id").is_valid())
    used, windows = windows_of(owned, None, objective)
    last = windows.last_closed_us()
    if used != objective.name or last is None:
        return [EvidenceCertainty.LIKELY] * len(routes)
    windows = windows.taken(windows.start_us <= last)
    number = len(np.unique(windows.start_us))
    load = windows.load.astype(np.float64)
    sure = windows.measured & (windows.coverage >= COVERAGE_FULL)
    sure &= windows.error_bound <= ERROR_CERTAIN * load
    ids, counts = np.unique(windows.route_ids[sure], return_counts=True)
    full = {int(i) for i, count in zip(ids, counts, strict=True) if count == number}
    return [
        EvidenceCertainty.CERTAIN if route.route_id in full else EvidenceCertainty.LIKELY
        for route in routes
    ]


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
