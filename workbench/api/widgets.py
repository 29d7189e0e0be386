"""The widgets, made from a catalog: the heatmap alone, or all four joined.

What they show and decide is in `workbench.widgets` and below; here is only how they are asked
for. Each is the last line of a notebook's cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.api.catalog import Catalog
from workbench.api.catalog import open as open_catalog
from workbench.api.looking import check_series, objective_named
from workbench.api.places import HasUrl, Moment, count_of, moment_text, name_of, number_of, url_of
from workbench.api.plans import Plan, find_plan
from workbench.api.words import in_python
from workbench.model.keys import Span
from workbench.model.plan import Limits
from workbench.model.routes import RouteDescriptor, RouteState
from workbench.model.times import rfc3339
from workbench.planner.detect import THRESHOLD_PER_MINUTE, Rule
from workbench.report.heat_surface import surface_of
from workbench.session.planning import DEFAULT_POLICY
from workbench.widgets.desk import Desk, DeskOptions
from workbench.widgets.heatmap import Heatmap
from workbench.widgets.workbench import Workbench

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from typing import Any


@in_python
def heatmap(  # noqa: PLR0913 - as the command's options, all named
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    cluster: str | None = None,
    since: Moment = None,
    until: Moment = None,
    series: str = "score",
    height: int = 420,
) -> Heatmap:
    """Show load over time and key range, to point at, zoom and brush.

    Hover tells route, span and exact load; what is brushed can be asked for with
    `brushed_spans()` and `brushed_times()`. `wb.picture` draws the same without a kernel.

    Examples:
        >>> wb.heatmap(series="writes").series
        'writes'

    Args:
        catalog: Where the load is.
        cluster: Which; needed where the catalog holds several.
        since: Start of the load: RFC 3339, an aware datetime, "25%".
        until: End of it.
        series: Shown first: score, reads, writes or bytes.
        height: Of the widget, in pixels.

    Raises:
        NotFound: `load_absent`, `cluster_absent`.
        InvalidArgument: `series_unknown`.
    """
    check_series(series)
    opened = open_catalog(catalog)
    view = opened.view(cluster)
    start, end = view.window(moment_text(since), moment_text(until))
    surface = surface_of(
        view.load.load_windows(start, end),
        routes=_ever(opened.read(f"{view.name}/route")),
        series=series,
        title=f"{view.name}, {rfc3339(start)} to {rfc3339(end)}",
    )
    return Heatmap(surface, height=height)


@in_python
def workbench(  # noqa: PLR0913 - as the commands' options, all named
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    cluster: str | None = None,
    target: str | HasUrl | None = None,
    by: str | None = None,
    plan: Plan | str | None = None,
    since: Moment = None,
    until: Moment = None,
    objective: str = "score",
    policy: str = DEFAULT_POLICY,
    max_splits: int = 8,
    min_gain: float = 0.10,
    threshold: float = THRESHOLD_PER_MINUTE,
) -> Workbench:
    """Show heatmap, routes, plan and jobs together: brush, review, approve, apply, watch.

    What is approved and executed is in the catalog, so the widget shows the same after a reload
    or in another kernel.

    Args:
        catalog: Where the load is, and where plans, approvals and receipts go.
        cluster: Which; needed where the catalog holds several.
        target: The system to apply to; None is where the cluster was collected from. A trace has
            none, so there nothing can be applied.
        by: Who decides; None is WORKBENCH_USER, else you.
        plan: Open with this plan; None takes the newest of the routes as they are.
        since: Start of the load to look at and to plan on.
        until: End of it.
        objective: What counts as load: score, reads, writes or bytes.
        policy: "robust" or "exact".
        max_splits: A plan has at most so many.
        min_gain: Nothing is proposed unless the hottest route falls by this fraction.
        threshold: Load a minute from which on a route is hot.

    Raises:
        NotFound: `load_absent`, `cluster_absent`, `plan_absent`.
    """
    opened = open_catalog(catalog)
    found = find_plan(plan, opened) if isinstance(plan, str) else plan
    options = DeskOptions(
        since=moment_text(since),
        until=moment_text(until),
        objective=objective_named(objective, None),
        rule=Rule(threshold_per_minute=number_of("threshold", threshold)),
        limits=Limits(count_of("max_splits", max_splits), number_of("min_gain", min_gain)),
        policy=policy,
    )
    desk = Desk(
        opened.writable(),
        None if target is None else url_of(target),
        name_of(by),
        cluster=cluster,
        plan=None if found is None else found.model,
        options=options,
    )
    return Workbench(desk)


def _ever(rows: Iterable[Mapping[str, Any]]) -> list[RouteDescriptor]:
    """Return all routes that were ever collected, each once, as it was last."""
    found = {
        row["route_id"]: RouteDescriptor(
            route_id=row["route_id"],
            span=Span(row["start"], row["end"]),
            group=row["group"],
            state=RouteState(row["state"]),
            parent_route_id=row["parent_route_id"],
            split_at_hlc=row["split_at_hlc"],
        )
        for row in rows
    }
    return list(found.values())
