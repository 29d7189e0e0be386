"""Proposals for a brushed part of the picture, fast enough to follow the hand.

    brush ──▶ time and keys ──▶ session.planning.plan ── asks ──▶ load in memory
                                                              └── or SQL, where it fits no cube

The load is read once and kept; a proposal then costs what the planner costs. It is the very plan
that the command line makes of the load windows, but for the back-test, which `planned_anew`
adds.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from workbench.model.keys import Span
from workbench.query.load import LoadReader, Source
from workbench.report.load_cube import CELLS_MAX, LoadCube, load_cube
from workbench.session.planning import plan, settled_since

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pyarrow as pa

    from workbench.model.plan import Limits, Objective, Plan
    from workbench.model.routes import RouteDescriptor
    from workbench.report.route_rows import Brush
    from workbench.session.cluster import ClusterView
    from workbench.widgets.options import DeskOptions

NOT_READ: Final = object()


@dataclass(frozen=True, slots=True)
class MemoryReader(LoadReader):
    """A cluster's load that tells atoms of one objective from memory, all else by SQL.

    The cube tells the routes apart, so no bucket crosses a bound of them.
    """

    cube: LoadCube = field(kw_only=True, repr=False)
    objective: Objective = field(kw_only=True)

    def atoms(
        self, source: Source, objective: Objective, since: datetime, until: datetime
    ) -> pa.Table:
        """Return `atom_start` and `load`, as `LoadReader.atoms` does."""
        if source is Source.LOAD_WINDOW and objective == self.objective:
            return self.cube.table(since, until)
        return LoadReader.atoms(self, source, objective, since, until)

    def crossing_until(
        self, since: datetime, until: datetime, routes: Sequence[RouteDescriptor]
    ) -> datetime | None:
        """Return None: no bucket crosses a bound."""
        if self.cube.tells_apart(routes):
            return None
        return LoadReader.crossing_until(self, since, until, routes)


class Proposer:
    """Plans for parts of one cluster's load."""

    def __init__(self, view: ClusterView, options: DeskOptions) -> None:
        self._view = view
        self._options = options
        self._lock = threading.Lock()
        self._cube: LoadCube | object | None = NOT_READ
        self._settled: datetime | None = None

    def prepare(self) -> LoadCube | None:
        """Read the load into memory, once; None where it does not fit a cube."""
        with self._lock:
            if self._cube is NOT_READ:
                self._cube = self._read()
            return self._cube if isinstance(self._cube, LoadCube) else None

    def propose(self, brush: Brush) -> Plan:
        """Return the plan for a brush; splits lie in its keys only.

        Raises:
            NotFound: `load_absent`: nothing came in that time.
            WorkbenchError: as `session.planning.plan`.
        """
        view, options = self._view, self._options
        cube = self.prepare()
        source = None
        if cube is not None:
            source = Source.LOAD_WINDOW
            load = view.load
            reader = MemoryReader(load.cluster, load.data, cube=cube, objective=options.objective)
            view = replace(view, load=reader)
        since, until = self.times(brush)
        return plan(
            view,
            since=since,
            until=until,
            objective=options.objective,
            limits=within(options.limits, brush.span),
            rule=options.rule,
            source=source,
            policy=options.policy,
        )

    def times(self, brush: Brush) -> tuple[datetime, datetime]:
        """Return the time to plan on: the brush's, or all that live load can be planned on."""
        options = self._options
        since, until = self._view.window(options.since, options.until)
        if brush.since is None and brush.until is None:
            if self._settled is None:
                self._settled = settled_since(self._view, since, until, options.objective)
            return self._settled, until
        low, high = max(since, brush.since or since), min(until, brush.until or until)
        return (low, high) if low < high else (since, until)

    def _read(self) -> LoadCube | None:
        view = self._view
        if view.extent.windows * len(view.snapshot.routes) > CELLS_MAX:
            return None
        since, until = view.window(self._options.since, self._options.until)
        cube = load_cube(view.load.load_windows(since, until), self._options.objective)
        return cube if cube is not None and cube.tells_apart(view.snapshot.routes) else None


def planned_anew(view: ClusterView, options: DeskOptions, brush: Brush) -> Plan:
    """Return the plan for a brush with its back-test, by SQL.

    Raises:
        WorkbenchError: as `session.planning.plan`.
    """
    since, until = view.window(options.since, options.until)
    since, until = max(since, brush.since or since), min(until, brush.until or until)
    return plan(
        view,
        since=settled_since(view, since, until, options.objective),
        until=until,
        objective=options.objective,
        limits=within(options.limits, brush.span),
        rule=options.rule,
        backtest=True,
        policy=options.policy,
    )


def within(limits: Limits, span: Span | None) -> Limits:
    """Return the limits, and that no split key may lie outside of the span."""
    if span is None:
        return limits
    outside = []
    if span.start:
        outside.append(Span(b"", span.start))
    if span.end is not None:
        outside.append(Span(span.end, None))
    return replace(limits, forbidden=(*limits.forbidden, *outside))
