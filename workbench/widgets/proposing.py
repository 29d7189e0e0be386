"""Proposals for a brushed part of the picture, fast enough to follow the hand.

    brush ──▶ time and keys ──▶ session.planning.plan ── asks ──▶ load in memory
                                                              └── or SQL, where it fits no cube

The load is read once and kept as sums from the first window on, as is how well each route's load is
known; a proposal then costs what the planner costs. It is the very plan that the command line makes
of the load windows, but for the back-test, which `planned_anew` adds.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.model.keys import Span
from workbench.query.load import LoadReader, Source
from workbench.report.load_cube import CELLS_MAX, LoadCube, load_cube
from workbench.session.given import KnownWindows, known_windows
from workbench.session.planning import plan, settled_since
from workbench.session.proofs import Proofs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pyarrow as pa

    from workbench.model.plan import Limits, Objective, Plan
    from workbench.model.routes import RouteDescriptor
    from workbench.report.route_rows import Brush
    from workbench.session.cluster import ClusterView
    from workbench.session.proofs import Ground
    from workbench.widgets.options import DeskOptions


@dataclass(frozen=True, slots=True)
class MemoryReader(LoadReader):
    """A cluster's load that tells atoms of one objective from memory, all else by SQL.

    The cube tells `routes` apart, so no bucket crosses a bound of them.
    """

    cube: LoadCube = field(kw_only=True, repr=False)
    objective: Objective = field(kw_only=True)
    routes: Sequence[RouteDescriptor] = field(kw_only=True, repr=False)

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
        if routes is self.routes or self.cube.tells_apart(routes):
            return None
        return LoadReader.crossing_until(self, since, until, routes)


@dataclass(frozen=True, slots=True)
class Memory:
    """A cluster whose load is in memory.

    Attributes:
        view: The cluster; its load is a `MemoryReader`.
        windows: How well the load of its routes is known, in each window.
    """

    view: ClusterView
    windows: KnownWindows


class Proposer:
    """Plans for parts of one cluster's load."""

    def __init__(
        self,
        view: ClusterView,
        options: DeskOptions,
        proofs: Proofs | None = None,
        ground: Ground | None = None,
    ) -> None:
        """Plan from a view.

        Args:
            view: The cluster.
            options: How to plan.
            proofs: Where to keep what was made; None keeps it nowhere.
            ground: Of the view, as the catalog had it when it was opened.
        """
        self._view = view
        self._options = options
        self._proofs = Proofs() if proofs is None else proofs
        self._ground = ground
        self._lock = threading.Lock()
        self._is_read = False
        self._memory: Memory | None = None
        self._settled: datetime | None = None

    def prepare(self) -> Memory | None:
        """Read the load into memory, once; None where it does not fit a cube.

        A first plan is made and forgotten: what the planner sets up on its first call is there then
        when the first brush comes.
        """
        with self._lock:
            if not self._is_read:
                self._memory = self._read()
                self._is_read = True
                if self._memory is not None:
                    options = self._options
                    since, until = self._view.window(options.since, options.until)
                    with suppress(WorkbenchError):
                        self._plan(self._memory, since, until, options.limits)
            return self._memory

    def propose(self, brush: Brush) -> Plan:
        """Return the plan for a brush; splits lie in its keys only.

        Raises:
            NotFound: `load_absent`: nothing came in that time.
            WorkbenchError: as `session.planning.plan`.
        """
        memory = self.prepare()
        since, until = self.times(brush)
        made = self._plan(memory, since, until, within(self._options.limits, brush.span))
        view = self._view if memory is None else memory.view
        self._proofs.make(made, view, self._ground)
        return made

    def _plan(
        self, memory: Memory | None, since: datetime, until: datetime, limits: Limits
    ) -> Plan:
        return plan(
            self._view if memory is None else memory.view,
            since=since,
            until=until,
            objective=self._options.objective,
            limits=limits,
            rule=self._options.rule,
            source=None if memory is None else Source.LOAD_WINDOW,
            policy=self._options.policy,
            windows=None if memory is None else memory.windows,
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

    def _read(self) -> Memory | None:
        view, objective = self._view, self._options.objective
        load, routes = view.load, view.snapshot.routes
        if view.extent.windows * len(routes) > CELLS_MAX:
            return None
        since, until = view.window(self._options.since, self._options.until)
        cube = load_cube(load.load_windows(since, until), objective)
        if cube is None or not cube.tells_apart(routes):
            return None
        cube.sums.setflags(write=False)
        windows = known_windows(view, since, until, objective)
        reader = MemoryReader(
            load.cluster, load.data, cube=cube, objective=objective, routes=routes
        )
        return Memory(replace(view, load=reader), windows)


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
