"""What a desk looks at: its cluster, the routes with their loads, and the verdicts on them.

    catalog ──▶ view and its ground
    view, options ──▶ route windows ──┬─▶ loads by route ──▶ RouteBoard
                                      └─▶ session.look.hot ──▶ verdicts of it

Keeps nothing; what is read when, and by which thread, is the desk's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import NotFound
from workbench.report import words
from workbench.report.route_rows import RouteBoard, route_loads
from workbench.session.cluster import open_cluster
from workbench.session.look import hot
from workbench.session.proofs import ground_of

if TYPE_CHECKING:
    import pyarrow as pa

    from workbench.catalog.catalog import Catalog
    from workbench.session.cluster import ClusterView
    from workbench.session.look import HotAnswer
    from workbench.session.proofs import Ground
    from workbench.widgets.options import DeskOptions


def opened(catalog: Catalog, cluster: str | None) -> tuple[ClusterView | None, Ground | None, str]:
    """Return the cluster, its ground, and why there is none where there is none.

    View and ground are of the same state of the catalog, which is not refreshed in between.
    """
    try:
        view = open_cluster(catalog, cluster)
    except NotFound as error:
        return None, None, words.clean(str(error))
    return view, ground_of(catalog, view.name), ""


def route_windows(view: ClusterView, options: DeskOptions) -> pa.Table:
    """Return one row per route and window of the time that the options name."""
    since, until = view.window(options.since, options.until)
    return view.load.route_windows(since, until, view.snapshot.routes)


def judged(view: ClusterView, options: DeskOptions, table: pa.Table) -> HotAnswer:
    """Return the verdicts on the routes of `route_windows`."""
    since, until = view.window(options.since, options.until)
    objective, rule = options.objective, options.rule
    return hot(view, since=since, until=until, objective=objective, rule=rule, table=table)


def board_of(view: ClusterView, options: DeskOptions, table: pa.Table) -> RouteBoard:
    """Return the routes of `route_windows` with their loads, not judged yet."""
    objective, routes = options.objective, view.snapshot.routes
    since, until = view.window(options.since, options.until)
    window_ms = view.extent.window_ms
    loads = route_loads(table, routes, objective, since=since, until=until, window_ms=window_ms)
    return RouteBoard(routes, loads, objective=objective.name)


def with_verdicts(board: RouteBoard, answer: HotAnswer) -> RouteBoard:
    """Return the board with what was judged."""
    verdicts = {each.route.route_id: each for each in answer.verdicts}
    return RouteBoard(board.routes, board.loads, verdicts, board.objective)
