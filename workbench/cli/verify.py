"""`workbench verify`: check a plan's forecast and its proof."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from workbench.cli.common import (
    catalog_option,
    emit,
    json_option,
    percent,
    print_table,
    progress_bar,
    span_json,
    warn,
    window_options,
)
from workbench.model.times import rfc3339
from workbench.planner.outcome import Outcome
from workbench.planner.words import actions_text
from workbench.report.words import counted

if TYPE_CHECKING:
    from workbench.session.verify import VerifyAnswer


OUTCOMES: Final = {
    Outcome.HELD: "the forecast held",
    Outcome.SHORT: "better, but short of the forecast",
    Outcome.FAILED: "the plan did not help on this load",
}
# Where the replay is on routes that the cluster does not have.
OUTCOMES_WOULD: Final = {
    Outcome.HELD: "the forecast would have held",
    Outcome.SHORT: "it would have been better, but short of the forecast",
    Outcome.FAILED: "the plan would not have helped on this load",
}

on_option = click.option(
    "--on", "later", metavar="CLUSTER", help="Replay this later collection of the same cluster."
)


@click.command()
@click.argument("plan_reference", metavar="PLAN")
@catalog_option
@on_option
@window_options
@json_option
def verify(
    plan_reference: str,
    catalog_url: str,
    later: str | None,
    since: str | None,
    until: str | None,
    as_json: bool,
) -> int:
    """Replay the load that came after PLAN's window on its routes, and compare with the forecast.

    What came later may be the rest of the same collection, or one of its own under another
    name (--on). Also checks the plan's numbers and proof against the load from which it was
    made; where they do not hold, the exit status is 1.

    On a live cluster it tells what came on the routes as they are, from the first whole window
    after the plan's last call. Where those are not the routes that the plan leaves, its replay
    is told as what would have come.

    \b
    Examples:
      workbench verify 3f2a90c1
      workbench verify plan.json --since 75% --json
      workbench collect trace:tuesday.csv --cluster prod-tuesday
      workbench verify 3f2a90c1 --on prod-tuesday
    """
    from workbench.session.cluster import open_cluster
    from workbench.session.plans import resolve_plan
    from workbench.session.receipts import applied_of
    from workbench.session.verify import verify_plan
    from workbench.session.wiring import open_catalog

    catalog = open_catalog(catalog_url)
    found = resolve_plan(catalog, plan_reference)
    with progress_bar() as progress:
        progress("replaying", 0, None)
        view = open_cluster(catalog, found.cluster)
        after = None if later is None else open_cluster(catalog, later)
        answer = verify_plan(
            view,
            found,
            since=since,
            until=until,
            later=after,
            applied=applied_of(catalog, found),
        )
    for warning in answer.warnings:
        warn(warning)
    if as_json:
        emit("verify", verify_fields(answer))
    else:
        print_verification(answer)
    return 1 if answer.false_claims else 0


def verify_fields(answer: VerifyAnswer) -> dict[str, Any]:
    """Return the JSON of `workbench verify`."""
    proposal, replayed = answer.plan, answer.replayed
    totals = replayed.after.totals
    total = int(totals.sum())
    return {
        "plan_id": proposal.plan_id,
        "forecast": {
            "max_share_before": proposal.max_share_before,
            "max_share_after": proposal.max_share_after,
        },
        "actual": {
            "window": {"from": rfc3339(replayed.since), "to": rfc3339(replayed.until)},
            "events": replayed.events,
            "total_load": total,
            "unrouted_load": replayed.after.unrouted,
            "routes_after": [
                {**span_json(span), "load": int(load), "share": int(load) / total if total else 0.0}
                for span, load in zip(replayed.after.spans, totals, strict=True)
            ],
        },
        "max_share_before": replayed.before.max_share,
        "max_share_after": replayed.after.max_share,
        "max_share_now": answer.max_share_now,
        "execution": answer.execution.value,
        "applied_actions": answer.applied.actions,
        "outcome": None if answer.false_claims else replayed.outcome.value,
        "drift": {"distance": replayed.drift, "drifted": replayed.drifted},
        "false_claims": list(answer.false_claims),
        "applied_at": None if answer.applied.at is None else rfc3339(answer.applied.at),
        "warnings": list(answer.warnings),
    }


def print_verification(answer: VerifyAnswer) -> None:
    """Print forecast and outcome for a human."""
    from workbench.session.verify import Execution

    proposal, replayed = answer.plan, answer.replayed
    if answer.false_claims:
        click.echo(
            f"the load in the catalog is not what plan {proposal.plan_id} was made from: "
            f"{answer.false_claims[0]}; plan again"
        )
        return
    print_shares(answer)
    click.echo(verdict_text(answer))
    recorded = answer.execution is Execution.REPLAYED
    kind = "accesses" if recorded and proposal.atom_kind == "key" else "buckets"
    window = f"{rfc3339(replayed.since)} to {rfc3339(replayed.until)}"
    kind = {"accesses": "access", "buckets": "bucket"}[kind] if replayed.events == 1 else kind
    click.echo(f"replayed: {replayed.events:,} {kind}, {window}")
    if answer.applied.at is not None:
        count = f"{answer.applied.actions} of {counted(len(proposal.actions), 'action')}"
        click.echo(f"applied: {rfc3339(answer.applied.at)}, {count}")
    click.echo(f"the proof of plan {proposal.plan_id} holds")


def verdict_text(answer: VerifyAnswer) -> str:
    """Return whether the forecast held, or would have, in a sentence."""
    replayed, would = answer.replayed, answer.execution.counterfactual
    if not answer.plan.actions:
        outcome = "nothing was proposed"
    elif would:
        outcome = f"{OUTCOMES_WOULD[replayed.outcome]}, {_condition(answer)}"
    else:
        outcome = OUTCOMES[replayed.outcome]
    came = "would have come" if would else "came"
    again = ", plan again on newer load" if replayed.drifted else ""
    drift = f"{percent(replayed.drift)} of the load {came} on other routes than forecast"
    return f"{outcome}; {drift}{again}"


def print_shares(answer: VerifyAnswer) -> None:
    """Print the hottest route's share: before, forecast, and what came or would have come."""
    from workbench.session.verify import Execution

    proposal, replayed = answer.plan, answer.replayed
    before, after = percent(replayed.before.max_share), percent(replayed.after.max_share)
    now = percent(answer.max_share_now)
    columns = [("", "left"), ("before", "right")]
    columns.append((f"after {actions_text(proposal)}", "right"))
    rows = [
        [
            "forecast, from the load that was planned on",
            percent(proposal.max_share_before),
            percent(proposal.max_share_after),
        ]
    ]
    if answer.execution is Execution.REPLAYED:
        rows.append(["replayed, on the load that came next", before, after])
    elif answer.execution is Execution.APPLIED:
        rows += [
            ["came, on the routes that the plan left", "", now],
            ["would have come, without the plan", before, ""],
        ]
    else:
        columns.append(("routes as they are", "right"))
        rows = [
            *([*row, ""] for row in rows),
            [f"would have come, {_condition(answer)}", before, after, ""],
            ["came, on the routes as they are", "", "", now],
        ]
    print_table("The hottest route's share of the load", columns, rows)


def _condition(answer: VerifyAnswer) -> str:
    """Return under which condition the replay would be what came."""
    from workbench.session.verify import Execution

    if answer.execution is Execution.ELSEWHERE:
        return "on the routes that the plan leaves"
    return "had all of the plan been applied"
