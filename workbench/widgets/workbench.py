"""The workbench: heatmap, routes, plan and jobs of one desk, linked.

    brush in the heatmap ──▶ desk.look ──▶ route table
                         └─▶ desk.propose ──▶ plan review ── approve ──▶ job monitor

The four share one desk and nothing else; each works by itself as well.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import ipywidgets

from workbench.errors import WorkbenchError
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor, RouteState
from workbench.report import words
from workbench.report.heat_surface import HeatSurface, empty_surface, surface_of
from workbench.report.markup import Node, el
from workbench.report.plan_review import Standing
from workbench.report.route_rows import Brush
from workbench.widgets.heatmap import Heatmap
from workbench.widgets.job_monitor import JobMonitor
from workbench.widgets.panel import Panel, button
from workbench.widgets.plan_review import PlanReview
from workbench.widgets.route_table import RouteTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workbench.session.cluster import ClusterView
    from workbench.widgets.desk import Desk
    from workbench.widgets.panel import Handler

STEPS: Final = ("Look", "Plan", "Approve", "Apply", "Verify")
COLLECTING: Final = "collecting"


class Loop(Panel):
    """Where one is in the loop: look, plan, approve, apply, verify."""

    topics = ("plan", "jobs", "look")

    def handlers(self) -> Mapping[str, Handler]:
        """Return what the buttons do."""
        desk = self.desk
        return {
            "collect": lambda _arg, _value: self._collect(),
            "refresh": lambda _arg, _value: desk.refresh(),
        }

    def at(self) -> int:
        """Return the number of the step that is next, from 0."""
        desk = self.desk
        if desk.absent:
            return 0
        if desk.current is None or not desk.current.actions:
            return 1
        if desk.verified is not None:
            return len(STEPS)
        stands = [each.standing for each in desk.standings().values()]
        if all(each is Standing.APPLIED for each in stands):
            return 4
        todo = {Standing.APPROVED, Standing.RUNNING, Standing.FAILED}
        return 3 if any(each in todo for each in stands) else 2

    def view(self) -> Node:
        """Return the steps, what is looked at, and how to look anew."""
        desk, at = self.desk, self.at()
        target = desk.target
        where = "" if target is None else f", {words.clean(target)}"
        return el(
            "section",
            el(
                "div",
                el("h3", "Workbench", tabindex="-1"),
                el("span", desk.absent or f"{desk.cluster}{where}", class_="wb-soft"),
                el("span", f"as {words.clean(desk.who)}", class_="wb-soft"),
                el(
                    "span",
                    None if target is None else button("Collect now", "collect", kind="quiet"),
                    button("Refresh", "refresh", kind="quiet"),
                    class_="wb-right wb-row",
                ),
                class_="wb-head",
            ),
            el(
                "ol",
                [
                    el(
                        "li",
                        name,
                        class_="done" if number < at else "now" if number == at else "todo",
                        aria_current="step" if number == at else None,
                    )
                    for number, name in enumerate(STEPS)
                ],
                class_="wb-steps",
                aria_label="Steps",
            ),
            aria_label="Workbench",
        )

    def _collect(self) -> None:
        self.say("Collecting …")
        self.desk.later(COLLECTING, self.desk.collect, "collected")


class Workbench(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """See, brush, review, approve and watch, in one place.

    Attributes:
        desk: What all of it works on.
        loop: The steps.
        heatmap: Time × keys; its brush chooses what the others are about.
        routes: The route table.
        review: The plan.
        monitor: The jobs.
    """

    _stops: tuple[Callable[[], None], ...] = ()

    def __init__(self, desk: Desk, *, heatmap: Heatmap | None = None) -> None:
        """Show a desk.

        Args:
            desk: What to work on.
            heatmap: To link; None makes one from the desk's load.
        """
        self.desk = desk
        self._seen = desk.view
        self._own_heat = heatmap is None
        # Of two threads that tell of two views, the newer one's picture stays.
        self._drawing = threading.RLock()
        self.heatmap = Heatmap(_surface(desk)) if heatmap is None else heatmap
        self.loop = Loop(desk)
        self.routes = RouteTable(desk)
        self.review = PlanReview(desk)
        self.monitor = JobMonitor(desk)
        super().__init__(
            [self.loop, self.heatmap, self.routes, self.review, self.monitor],
            layout=ipywidgets.Layout(grid_gap="12px", overflow="visible"),
        )
        self._stops = (self.heatmap.on_brush(self._brushed), desk.watch(self._changed))
        if desk.view is not None:
            # So that the first brush finds the load in memory, and the first approval the proof.
            desk.later("reading the load", self._read_ahead)

    def close(self) -> None:
        """Take all of it off the page; a second time does nothing."""
        # ipywidgets closes a widget again when it is collected.
        stops, self._stops = self._stops, ()
        for stop in stops:
            stop()
        if stops:
            for each in (self.loop, self.routes, self.review, self.monitor):
                each.close()
        super().close()

    def _read_ahead(self) -> None:
        proposer = self.desk.proposer
        if proposer is not None:
            proposer.prepare()
        self.desk.look_ahead()

    def _brushed(self, brush: dict[str, Any] | None) -> None:
        """Look at what is brushed, and propose for it."""
        desk = self.desk
        if brush is None:
            desk.look(None)
            return
        times = self.heatmap.brushed_times()
        since, until = (None, None) if times is None else times
        desk.speaker = self.review
        desk.look(Brush(since, until, _span(brush)))
        desk.attempt(desk.propose, "proposed for what is brushed")

    def _changed(self, topic: str) -> None:
        if topic != "look" or not self._own_heat:
            return
        with self._drawing:
            if self.desk.view is not self._seen:
                self._seen = self.desk.view
                self.heatmap.update(_surface(self.desk))


def _surface(desk: Desk) -> HeatSurface:
    """Return the desk's load to look at; says why there is none."""
    view = desk.view
    if view is None:
        return empty_surface(desk.absent)
    try:
        since, until = view.window(desk.options.since, desk.options.until)
        load = view.load.load_windows(since, until)
        weight = desk.options.objective.write_weight or 4
        return surface_of(
            load, routes=_ever(view), write_weight=weight, title=words.clean(view.name)
        )
    except WorkbenchError as error:
        return empty_surface(words.clean(str(error)))


def _ever(view: ClusterView) -> list[RouteDescriptor]:
    """Return all routes that were ever collected, each as it was last, so that splits are drawn."""
    if view.catalog is None:
        return list(view.snapshot.routes)
    rows = view.catalog.read(f"{view.name}/route").to_pylist()
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


def _span(brush: Mapping[str, Any]) -> Span | None:
    """Return the brushed keys; None where all are."""
    start = bytes.fromhex(brush.get("span_start_hex") or "")
    end_hex = brush.get("span_end_hex")
    end = None if end_hex is None else bytes.fromhex(end_hex)
    return None if not start and end is None else Span(start, end)
