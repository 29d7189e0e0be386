"""`workbench explain`: one action of a plan, with the numbers and where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli.common import catalog_option, emit, json_option, percent, span_json, warn
from workbench.model.keys import printable_key
from workbench.model.plan import ActionKind
from workbench.model.times import rfc3339
from workbench.report.words import counted

if TYPE_CHECKING:
    from workbench.model.plan import Action
    from workbench.session.explaining import Explanation


@click.command()
@click.argument("plan_reference", metavar="PLAN")
@click.argument("action_id", metavar="ACTION")
@catalog_option
@json_option
def explain(plan_reference: str, action_id: str, catalog_url: str, as_json: bool) -> int:
    """Explain one ACTION of PLAN: its numbers, computed anew by SQL, and the SQL.

    The exit status is 1 where the load in the catalog gives other numbers than the plan.

    \b
    Examples:
      workbench explain 3f2a90c1 split-001
      workbench explain plan.json split-003 --json
    """
    from workbench.session.explaining import explain as run
    from workbench.session.plans import resolve_plan
    from workbench.session.wiring import open_catalog

    catalog = open_catalog(catalog_url)
    answer = run(catalog, resolve_plan(catalog, plan_reference), action_id)
    if answer.warning is not None:
        warn(answer.warning)
    if as_json:
        emit("explain", _fields(answer))
    else:
        _print(answer)
    return 0 if answer.holds else 1


def _fields(answer: Explanation) -> dict[str, Any]:
    action, found = answer.action, answer.recomputed
    return {
        "plan_id": answer.plan.plan_id,
        "action": action.action_id,
        "kind": action.kind.value,
        "route_id": action.route_id,
        **span_json(action.span),
        "split_key": action.split_key.hex(),
        "target_group": action.target_group,
        "bytes_moved": action.bytes_moved,
        "expected_version": action.expected_version,
        "reasons": list(action.reasons),
        "in_plan": {
            "parent_load": action.evidence.parent_load,
            "left_load": action.evidence.left_load,
            "right_load": action.evidence.right_load,
        },
        "recomputed": {
            "parent_load": found.parent,
            "left_load": found.left,
            "right_load": found.right,
        },
        "holds": answer.holds,
        "sql": answer.sql,
        "parameters": dict(answer.plan.evidence.parameters),
    }


def _what(action: Action) -> str:
    """Return what an action does."""
    route = f"route {action.route_id} ({action.span})"
    if action.kind is ActionKind.MOVE:
        return f"move {route} to group {action.target_group}{_cost(action)}"
    split = f"split {route} at {printable_key(action.split_key)}"
    if action.kind is ActionKind.SPLIT:
        return split
    return f"{split}, right part to group {action.target_group}{_cost(action)}"


def _cost(action: Action) -> str:
    if action.bytes_moved is None:
        return ": bytes not measured"
    return f": {counted(action.bytes_moved, 'byte')} read and written in the time planned on"


def _print(answer: Explanation) -> None:
    plan, action, found = answer.plan, answer.action, answer.recomputed
    evidence, total, unit = action.evidence, plan.total_load, plan.objective.name
    click.echo(f"{action.action_id} of plan {plan.plan_id}, cluster {plan.cluster}")
    click.echo(_what(action))
    click.echo(f"expects catalog version {action.expected_version}")
    for reason in action.reasons:
        click.echo(f"  {reason}")
    window = f"{rfc3339(plan.since)} to {rfc3339(plan.until)}"
    click.echo(f"load ({unit}, {window}): in the plan, and computed anew")
    for name, stated, now in (
        ("route", evidence.parent_load, found.parent),
        ("left", evidence.left_load, found.left),
        ("right", evidence.right_load, found.right),
    ):
        state = "" if stated == now else "   DIFFERS"
        click.echo(f"  {name:<6} {stated:>14,} {now:>14,}   {percent(stated / total)}{state}")
    before, after = evidence.bottleneck_before, evidence.bottleneck_after
    click.echo(f"hottest route: {before:,} before this action, {after:,} after")
    click.echo("computed by (span_start and span_end bound to each span):")
    click.echo(answer.sql)
