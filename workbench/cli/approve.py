"""`workbench approve`: decide on a plan's actions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.common import (
    catalog_option,
    emit,
    json_option,
    warn,
)
from workbench.model.times import rfc3339
from workbench.report.words import counted

if TYPE_CHECKING:
    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Plan
    from workbench.session.approval import Approval


@click.command()
@click.argument("plan_reference", metavar="PLAN")
@click.argument("actions", nargs=-1, metavar="[ACTION]...")
@catalog_option
@click.option("--by", metavar="NAME", envvar="WORKBENCH_USER", help="Who decides; default: you.")
@click.option("--withdraw", is_flag=True, help="Take an approval back.")
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Approve unattended where PLAN keeps this policy's limits (docs/approvals.md).",
)
@click.option("--dry-run", is_flag=True, help="With --policy: say what it would do.")
@json_option
def approve(
    plan_reference: str,
    actions: tuple[str, ...],
    catalog_url: str,
    by: str | None,
    withdraw: bool,
    policy_file: Path | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Approve the ACTIONs of PLAN, all where none is named; recorded with who, when and the hash.

    With --policy a plan is approved as a whole or not at all; the exit status is 1 where it
    breaks a limit.

    \b
    Examples:
      workbench approve 3f2a90c1
      workbench approve plan.json split-001 split-002 --by anna
      workbench approve 3f2a90c1 --withdraw
      workbench approve 3f2a90c1 --policy nightly.toml --dry-run
    """
    from workbench.session.approval import approve as run
    from workbench.session.approval import user
    from workbench.session.plans import resolve_plan
    from workbench.session.wiring import open_catalog, user_name

    if policy_file is not None and (actions or withdraw):
        raise click.UsageError("--policy decides on the whole plan: name no ACTION, no --withdraw")
    if dry_run and policy_file is None:
        raise click.UsageError("--dry-run goes with --policy")
    catalog = open_catalog(catalog_url)
    found = resolve_plan(catalog, plan_reference)
    if policy_file is not None:
        return _approve_by_policy(catalog, found, policy_file, dry_run=dry_run, as_json=as_json)
    approver = user(user_name() if by is None else by)
    decision = run(catalog, found, actions, approver=approver, withdraw=withdraw)
    warnings = [*_warned_of_doubt(found, decision.approved)]
    warnings += _warned_of_moves(catalog, found, decision.approved)
    if as_json:
        emit("approve", {**approval_fields(decision), "warnings": warnings})
        return 0
    if not decision.changed:
        state = "none of them was approved" if withdraw else "all of them were approved before"
        click.echo(f"nothing changed: {state}")
    else:
        verb = "withdrawn from" if withdraw else "approved of"
        names = ", ".join(decision.changed)
        click.echo(f"{verb} plan {decision.plan_id} by {decision.by}: {names}")
    click.echo(f"approved now: {', '.join(decision.approved) or 'nothing'}")
    _print_next(catalog, found, decision)
    return 0


def _print_next(catalog: Catalog, found: Plan, decision: Approval) -> None:
    """Say what to do with what is approved: a trace has no cluster to execute it on."""
    if not decision.approved:
        return
    step = "verify" if _is_trace(catalog, found) else "apply"
    option = "" if step == "verify" else " --dry-run"
    click.echo(f"next: workbench {step} {found.plan_id}{option}")


def _is_trace(catalog: Catalog, found: Plan) -> bool:
    """Tell whether a plan is for a trace: then there is no cluster to apply it to."""
    source = catalog.get(f"{found.cluster}/load_window").properties.get("source", "")
    return source.startswith("trace:")


def _warned_of_doubt(found: Plan, approved: tuple[str, ...]) -> list[str]:
    """Warn where the plan's own back-test speaks against what is approved; return what was said."""
    from workbench.planner.words import caution_sentence

    doubt = caution_sentence(found) if approved else None
    if doubt is None:
        return []
    warn(doubt)
    return [doubt]


def _warned_of_moves(catalog: Catalog, found: Plan, approved: tuple[str, ...]) -> list[str]:
    """Warn where `workbench apply` could not execute what is approved, and return what was said."""
    from workbench.session.approval import move_warning

    warning = None if _is_trace(catalog, found) else move_warning(found, approved)
    if warning is None:
        return []
    warn(warning)
    return [warning]


def _approve_by_policy(
    catalog: Catalog, found: Plan, path: Path, *, dry_run: bool, as_json: bool
) -> int:
    """Let a policy decide, and say what it said."""
    from workbench.session.approval import approve_by_policy
    from workbench.session.policies import read_policy

    policy = read_policy(path)
    decision = approve_by_policy(catalog, found, policy, dry_run=dry_run)
    approval = decision.approval
    warnings = [] if decision.broken else _warned_of_moves(catalog, found, decision.actions)
    if as_json:
        fields = {
            "plan_id": found.plan_id,
            "content_hash": found.content_hash,
            "approved": list(approval.approved) if approval else [],
            "by": f"policy:{policy.name}",
            "at": rfc3339(approval.at) if approval else None,
            "policy_sha256": policy.sha256,
            "dry_run": dry_run,
            "would_approve": [] if decision.broken else list(decision.actions),
            "broken": list(decision.broken),
            "warnings": warnings,
        }
        emit("approve", fields)
    elif decision.broken:
        click.echo(f"policy {policy.name} does not approve plan {found.plan_id}:")
        for sentence in decision.broken:
            click.echo(f"  {sentence}")
    else:
        verb = "would approve" if dry_run else "approved"
        click.echo(
            f"policy {policy.name} {verb} {counted(len(decision.actions), 'action')} "
            f"of plan {found.plan_id}"
        )
    return 1 if decision.broken else 0


def approval_fields(decision: Approval) -> dict[str, Any]:
    """Return the JSON of `workbench approve`."""
    return {
        "plan_id": decision.plan_id,
        "content_hash": decision.content_hash,
        "approved": list(decision.approved),
        "changed": list(decision.changed),
        "by": decision.by,
        "at": rfc3339(decision.at),
    }
