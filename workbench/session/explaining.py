"""Explain: one action of a plan, its loads computed anew from the catalog by the package's SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import NotFound
from workbench.query.engine import sql_text
from workbench.session.cluster import open_cluster
from workbench.session.planning import source_of
from workbench.session.verify import other_routes_warning

if TYPE_CHECKING:
    from workbench.catalog.catalog import Catalog
    from workbench.model.keys import Span
    from workbench.model.plan import Action, Plan


@dataclass(frozen=True, slots=True)
class SpanLoads:
    """Load of a route that is split and of its children."""

    parent: int
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """One action and what its numbers rest on.

    Attributes:
        plan: The plan.
        action: The action.
        recomputed: Its loads by the load in the catalog now.
        sql: The text that computed them.
        warning: That the routes are not those that the plan was made for; None where they are.
    """

    plan: Plan
    action: Action
    recomputed: SpanLoads
    sql: str
    warning: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the catalog gives the loads that the plan states."""
        stated = self.action.evidence
        return self.recomputed == SpanLoads(stated.parent_load, stated.left_load, stated.right_load)


def explain(catalog: Catalog, plan: Plan, action_id: str) -> Explanation:
    """Return what stands behind one action.

    Raises:
        NotFound: the plan has no such action, or the catalog not its cluster.
    """
    action = next((each for each in plan.actions if each.action_id == action_id), None)
    if action is None:
        known = ", ".join(each.action_id for each in plan.actions[:4]) or "none"
        raise NotFound(
            f"plan {plan.plan_id} has no action {action_id!r}",
            code="action_unknown",
            hint=f"it has {known}{' …' if len(plan.actions) > 4 else ''}",
        )
    view, source = open_cluster(catalog, plan.cluster), source_of(plan)

    def load(span: Span) -> int:
        return view.load.span_load(source, plan.objective, plan.since, plan.until, span)

    *below, right = action.children
    warning = other_routes_warning(view, plan)
    loads = SpanLoads(
        parent=load(action.span),
        left=sum(load(span) for span in below),
        right=load(right),
    )
    return Explanation(plan, action, loads, sql_text("span_load", events=source.events), warning)
