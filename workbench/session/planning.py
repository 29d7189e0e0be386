"""Plan: from a cluster's load in the catalog to a plan document, and the check of its proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.model.plan import plan_to_json
from workbench.planner.plan import PlanInput, atoms_from_table, make_plan
from workbench.planner.verifier import verify
from workbench.query.load import Source
from workbench.session.look import hot

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.model.plan import Limits, Objective, Plan
    from workbench.planner.detect import Rule
    from workbench.session.cluster import ClusterView


def plan(  # noqa: PLR0913 - the question's own parts, named
    view: ClusterView,
    *,
    since: datetime,
    until: datetime,
    objective: Objective,
    limits: Limits,
    rule: Rule,
    source: Source | None = None,
) -> Plan:
    """Return a plan for the cluster's newest routes from its load in [since, until).

    Args:
        view: The cluster.
        since: Start of the evidence.
        until: End of it, exclusive.
        objective: What to balance.
        limits: What the planner may do.
        rule: Detection's thresholds, for `limits.only_hot`.
        source: The evidence; None takes the finest there is.
    """
    chosen = source or view.load.finest
    hot_routes: frozenset[int] = frozenset()
    if limits.only_hot:
        answer = hot(view, since=since, until=until, objective=objective, rule=rule)
        hot_routes = frozenset(v.route.route_id for v in answer.verdicts if v.verdict == "hot")
    atoms = view.load.atoms(chosen, objective, since, until)
    return make_plan(
        PlanInput(
            cluster=view.name,
            snapshot=view.snapshot,
            atoms=atoms_from_table(atoms, chosen.atom_kind),
            objective=objective,
            since=since,
            until=until,
            limits=limits,
            hot_routes=hot_routes,
            evidence=view.load.evidence(chosen, objective, since, until),
        )
    )


def false_claims(view: ClusterView, given: Plan) -> list[str]:
    """Return what the independent verifier finds false in a plan, by the package's own SQL.

    The loads are computed anew from the catalog; the text that the plan carries is for reading
    and is only compared.
    """
    source = source_of(given)
    atoms = view.load.atoms(source, given.objective, given.since, given.until)
    found = verify(
        plan_to_json(given),
        atoms.column("atom_start").to_pylist(),
        atoms.column("load").to_pylist(),
    )
    expected = view.load.evidence(source, given.objective, given.since, given.until)
    if given.evidence != expected:
        found.append("the evidence query differs from the package's own")
    return found


def source_of(given: Plan) -> Source:
    """Return the dataset that a plan's loads come from."""
    return Source.ACCESS if given.atom_kind == Source.ACCESS.atom_kind else Source.LOAD_WINDOW
