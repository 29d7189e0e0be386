"""`workbench apply`: execute an approved plan."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from workbench.cli.common import (
    catalog_option,
    emit,
    json_option,
    print_table,
    progress_bar,
    warn,
)
from workbench.model.keys import printable_key
from workbench.report.words import counted

if TYPE_CHECKING:
    from workbench.errors import WorkbenchError
    from workbench.ports.connector import PreparedCall
    from workbench.session.applying import ActionOutcome, Application, ApplyAnswer

EXIT_REFUSED: Final = 1
EXIT_PARTLY: Final = 4


@click.command()
@click.argument("plan_reference", metavar="PLAN")
@catalog_option
@click.option(
    "--to",
    "--target",
    "target",
    metavar="URL",
    help="The system, as node://HOST:PORT; default: where the routes were collected.",
)
@click.option("--dry-run", is_flag=True, help="Print the literal calls; make none.")
@click.option("--by", metavar="NAME", envvar="WORKBENCH_USER", help="Who applies; default: you.")
@json_option
def apply(
    plan_reference: str,
    catalog_url: str,
    target: str | None,
    dry_run: bool,
    by: str | None,
    as_json: bool,
) -> int:
    """Execute the approved actions of PLAN, in order, each bound to the version it was planned on.

    Killed at any point, the same command goes on where it stopped; nothing is split twice. Where
    somebody else changed the routes it stops with status 5: collect and plan again. Status 4 is
    a plan of whose approved actions only a part is applied. Moves cannot be executed: while one
    is approved nothing is, and --dry-run ends with status 1 after the calls of the splits.
    docs/applying.md tells what happens call by call. There is no merge and no undo of a split.

    \b
    Examples:
      workbench apply 3f2a90c1 --dry-run
      workbench apply 3f2a90c1
      workbench apply plan.json --to node://127.0.0.1:7001 --json
    """
    from workbench.session.applying import Application
    from workbench.session.plans import resolve_plan
    from workbench.session.wiring import open_catalog, user_name

    catalog = open_catalog(catalog_url)
    found = resolve_plan(catalog, plan_reference)
    work = Application(catalog, found, target, by=user_name() if by is None else by)
    if dry_run:
        answer = work.preview()
        _show(answer, as_json=as_json)
        return EXIT_REFUSED if answer.not_executable else 0
    return _run(work, as_json=as_json)


def _run(work: Application, *, as_json: bool) -> int:
    """Execute; where it stops on the way, print first what came of it so far."""
    from workbench.errors import Conflict, WorkbenchError
    from workbench.session.applying import ActionStatus

    try:
        with progress_bar() as progress:
            work.run(progress)
    except WorkbenchError as error:
        if not work.started:
            raise
        answer = work.answer()
        _show(answer, as_json=as_json)
        done = (ActionStatus.APPLIED, ActionStatus.ALREADY_APPLIED, ActionStatus.FAILED)
        if isinstance(error, Conflict) or not answer.having(*done):
            raise
        _complain(error, as_json=as_json)
        return EXIT_PARTLY
    _show(work.answer(), as_json=as_json)
    return 0


def _show(answer: ApplyAnswer, *, as_json: bool) -> None:
    if as_json:
        # Warnings are in the answer; stderr is left to the error object alone.
        emit("apply", apply_fields(answer))
        return
    for warning in answer.warnings:
        warn(warning)
    if answer.dry_run:
        print_calls(answer)
    else:
        print_outcomes(answer)


def _complain(error: WorkbenchError, *, as_json: bool) -> None:
    """Write an error as the command line does where it ends the command with another status."""
    if not as_json:
        click.echo(f"workbench: {' '.join(str(error).split())}", err=True)
        return
    names = ("kind", "code", "message", "retryable", "hint")
    fields = {name: getattr(error, name) for name in names}
    click.echo(json.dumps({"schema": "workbench.error/1", "error": fields}), err=True)


def apply_fields(answer: ApplyAnswer) -> dict[str, Any]:
    """Return the JSON of `workbench apply`."""
    return {
        "plan_id": answer.plan.plan_id,
        "cluster": answer.plan.cluster,
        "target": answer.target,
        "dry_run": answer.dry_run,
        "actions": [_action_fields(outcome) for outcome in answer.outcomes],
        "catalog_version": answer.catalog_version,
        "warnings": list(answer.warnings),
    }


def _action_fields(outcome: ActionOutcome) -> dict[str, Any]:
    receipt, call = outcome.receipt, outcome.call
    return {
        "id": outcome.action.action_id,
        "status": outcome.status.value,
        "approved": outcome.approved,
        "reason": outcome.reason,
        "split_key": outcome.action.split_key.hex(),
        "route_id": receipt.route_id if receipt else None,
        "left_route_id": receipt.left_route_id if receipt else None,
        "right_route_id": receipt.right_route_id if receipt else None,
        "catalog_version": receipt.catalog_version if receipt else None,
        "job_id": receipt.job_id if receipt else None,
        "repeated": receipt.repeated if receipt and receipt.catalog_version is not None else None,
        "seconds": outcome.seconds,
        "call": call_fields(call, predicted=outcome.predicted) if call else None,
    }


def call_fields(call: PreparedCall, *, predicted: bool) -> dict[str, Any]:
    """Return the JSON of one literal call."""
    return {
        "address": call.address,
        "method": call.method,
        "fields": dict(call.fields),
        "metadata": dict(call.metadata),
        "predicted": predicted,
    }


def print_calls(answer: ApplyAnswer) -> None:
    """Print the calls that would be made, as they would be made."""
    calls = [outcome for outcome in answer.outcomes if outcome.call]
    click.echo(f"plan {answer.plan.plan_id}: {counted(len(calls), 'call')}, none is made")
    for outcome in answer.outcomes:
        name = outcome.action.action_id
        if outcome.call is None:
            reason = f" ({outcome.reason})" if outcome.reason else ""
            click.echo(f"{name}: {outcome.status.value}{reason}")
            continue
        mark = "" if outcome.approved else "  (not approved)"
        click.echo(f"{name}: {outcome.call.method} at {outcome.call.address}{mark}")
        for field, value in outcome.call.fields.items():
            note = "  (predicted)" if outcome.predicted and field == "route_id" else ""
            click.echo(f"  {field}: {value}{note}")
        for field, value in outcome.call.metadata.items():
            click.echo(f"  metadata {field}: {value}")
    if blocked := answer.not_executable:
        names = " ".join(blocked)
        click.echo(
            f"apply refuses while one of these is approved: {names}; leave them to the system's "
            "own tools, and approve the others"
        )
        return
    if any(not outcome.approved for outcome in calls):
        click.echo(f"next: workbench approve {answer.plan.plan_id}")


def print_outcomes(answer: ApplyAnswer) -> None:
    """Print what came of each action, and what to do next."""
    from workbench.session.applying import ActionStatus

    plan_id, now = answer.plan.plan_id, len(answer.having(ActionStatus.APPLIED))
    before = len(answer.having(ActionStatus.ALREADY_APPLIED))
    if not answer.outcomes:
        click.echo(f"plan {plan_id} proposes nothing: there is nothing to apply")
        return
    names = "action,status,route,split key,children,found made,version,seconds,reason"
    left = {"action", "status", "split key", "children", "found made", "reason"}
    print_table(
        f"Plan {plan_id} on {answer.plan.cluster}",
        [(name, "left" if name in left else "right") for name in names.split(",")],
        [_row(outcome) for outcome in answer.outcomes],
    )
    if answer.target is None:
        click.echo("all that is approved was applied before")
        return
    earlier = f", {before} were before" if before else ""
    click.echo(
        f"{now} of {counted(len(answer.outcomes), 'action')} applied to {answer.target}{earlier}; "
        f"the routes are at version {answer.catalog_version}"
    )
    if now + before == len(answer.outcomes):
        click.echo(f"next: collect again, then workbench verify {plan_id}")


def _row(outcome: ActionOutcome) -> list[str]:
    receipt = outcome.receipt
    children = () if receipt is None else (receipt.left_route_id, receipt.right_route_id)
    version = receipt.catalog_version if receipt else None
    return [
        outcome.action.action_id,
        outcome.status.value,
        str(receipt.route_id) if receipt else "",
        printable_key(outcome.action.split_key),
        " and ".join(str(child) for child in children if child is not None),
        "" if version is None else "yes" if receipt and receipt.repeated else "no",
        "" if version is None else str(version),
        "" if outcome.seconds is None else f"{outcome.seconds:.3f}",
        outcome.reason or "",
    ]
