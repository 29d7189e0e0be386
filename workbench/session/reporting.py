"""Report: gather what is known of a plan and write one HTML file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._version import __version__
from workbench.errors import InvalidArgument, NotFound
from workbench.model.keys import printable_key
from workbench.planner.detect import Rule
from workbench.planner.words import heavy_sentence
from workbench.report.executed_view import ExecutedCall
from workbench.report.headline import Measured
from workbench.report.html import ReportInputs, report_html
from workbench.report.words import counted
from workbench.session.approval import approved_actions
from workbench.session.files import write_file
from workbench.session.look import heat, hot
from workbench.session.planning import false_claims
from workbench.session.receipts import applied_of, read_receipts
from workbench.session.system import SystemClock
from workbench.session.verify import Execution, VerifyAnswer, verify_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView


def write_report(  # noqa: PLR0913 - what the page is made of, named
    catalog: Catalog,
    view: ClusterView,
    plan: Plan,
    path: Path,
    *,
    later: ClusterView | None = None,
    facts: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the report of a plan; parts for which there are no data are left out.

    Args:
        catalog: Where approval and receipts are.
        view: The plan's cluster.
        plan: The plan.
        path: Of the page.
        later: A collection of the same cluster under another name, to check the forecast on.
        facts: More to say at the top, by name.

    Raises:
        Storage: the file cannot be written; an older one stays as it is.
    """
    check_report_path(path)
    answered = _verified(catalog, view, plan, later)
    verified = answered.replayed if answered else None
    claims = answered.false_claims if answered else tuple(false_claims(view, plan))
    answer = hot(view, since=plan.since, until=plan.until, objective=plan.objective, rule=Rule())
    series = plan.objective.name
    after = None
    if verified is not None:
        shown = later or view
        start = plan.until if later is None else later.extent.since
        after = heat(shown, since=start, until=shown.extent.until, series=series)
    page = report_html(
        ReportInputs(
            title=f"Hot ranges of {view.name}",
            cluster=view.name,
            source=view.properties.get("source", "unknown"),
            assumptions={
                name: value for name, value in view.properties.items() if name != "warnings"
            },
            warnings=(*(answered.warnings if answered else ()), *view.warnings, *_heavy(plan)),
            plan=plan,
            verdicts=answer.verdicts,
            heat=heat(view, since=plan.since, until=plan.until, series=series),
            heat_after=after,
            verification=verified,
            approval=_approval(catalog, plan),
            made_at=SystemClock().now(),
            version=__version__,
            false_claims=claims,
            facts=facts,
            executed=_executed(catalog, plan),
            measured=_measured(answered),
        )
    )
    write_file(path, page.encode())


def check_report_path(path: Path) -> None:
    """Raise InvalidArgument where the report's file is not named as one."""
    if path.suffix not in {".html", ".htm"}:
        raise InvalidArgument(
            f"{str(path)!r} does not end with .html",
            code="report_format_unknown",
            hint="name a .html file",
        )


def _heavy(plan: Plan) -> list[str]:
    return [
        heavy_sentence(printable_key(atom.key), atom.load, plan.total_load, plan.atom_kind)
        for atom in plan.unsplittable
    ]


def _executed(catalog: Catalog, plan: Plan) -> list[ExecutedCall]:
    """Return the calls that were made for a plan, in the order in which they were answered."""
    return [
        ExecutedCall(
            action_id=receipt.action_id,
            route_id=receipt.route_id,
            split_key=receipt.split_key,
            children=tuple(
                child for child in (receipt.left_route_id, receipt.right_route_id) if child
            ),
            catalog_version=receipt.catalog_version,
            status=receipt.status.value,
            at=receipt.updated_at,
            seconds=receipt.seconds,
            error=receipt.error,
        )
        for receipt in read_receipts(catalog, plan.plan_id)
    ]


def _verified(
    catalog: Catalog, view: ClusterView, plan: Plan, later: ClusterView | None
) -> VerifyAnswer | None:
    try:
        return verify_plan(view, plan, later=later, applied=applied_of(catalog, plan))
    except NotFound:
        return None  # nothing came after the plan's window: the page says so


def _measured(answer: VerifyAnswer | None) -> Measured | None:
    """Return what came on a live cluster; None for recorded load, and where nothing came."""
    if answer is None or answer.execution is Execution.REPLAYED:
        return None
    return Measured(
        share=answer.max_share_now,
        applied=answer.applied.actions,
        as_planned=not answer.execution.counterfactual,
    )


def _approval(catalog: Catalog, plan: Plan) -> Mapping[str, str] | None:
    approved = approved_actions(catalog, plan)
    if not approved:
        return None
    newest = catalog.read(f"approval/{plan.plan_id}").to_pylist()[-1]
    return {
        "by": newest["by"],
        "at": newest["at"].isoformat(),
        "actions": f"{len(approved)} of {counted(len(plan.actions), 'action')}",
    }
