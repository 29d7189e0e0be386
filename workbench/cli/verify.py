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
    splits_text,
    warn,
    window_options,
)
from workbench.model.times import rfc3339
from workbench.planner.replay import Outcome

if TYPE_CHECKING:
    from workbench.session.verify import VerifyAnswer


OUTCOMES: Final = {
    Outcome.HELD: "the forecast held",
    Outcome.SHORT: "better, but short of the forecast",
    Outcome.FAILED: "the plan did not help on this load",
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
    made; where they do not hold, the exit status is 1. Of a plan that was applied, measured load
    counts from the first whole window after that.

    \b
    Examples:
      workbench verify 3f2a90c1
      workbench verify plan.json --since 75% --json
      workbench collect trace:tuesday.csv --cluster prod-tuesday
      workbench verify 3f2a90c1 --on prod-tuesday
    """
    from workbench.session.cluster import open_cluster
    from workbench.session.plans import resolve_plan
    from workbench.session.receipts import applied_at, wholly_applied
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
            applied_at=applied_at(catalog, found),
            wholly_applied=wholly_applied(catalog, found),
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
        "outcome": None if answer.false_claims else replayed.outcome.value,
        "drift": {"distance": replayed.drift, "drifted": replayed.drifted},
        "false_claims": list(answer.false_claims),
        "applied_at": None if answer.applied_at is None else rfc3339(answer.applied_at),
        "warnings": list(answer.warnings),
    }


def print_verification(answer: VerifyAnswer) -> None:
    """Print forecast and outcome for a human."""
    proposal, replayed = answer.plan, answer.replayed
    if answer.false_claims:
        click.echo(
            f"the load in the catalog is not what plan {proposal.plan_id} was made from: "
            f"{answer.false_claims[0]}; plan again"
        )
        return
    print_shares(answer)
    outcome = OUTCOMES[replayed.outcome] if proposal.actions else "nothing was proposed"
    click.echo(
        f"{outcome}; {percent(replayed.drift)} of the load came on other "
        f"routes than forecast{', plan again on newer load' if replayed.drifted else ''}"
    )
    kind = "accesses" if proposal.atom_kind == "key" else "buckets"
    window = f"{rfc3339(replayed.since)} to {rfc3339(replayed.until)}"
    click.echo(f"replayed: {replayed.events:,} {kind}, {window}")
    if answer.applied_at is not None:
        click.echo(f"applied: {rfc3339(answer.applied_at)}")
    click.echo(f"the proof of plan {proposal.plan_id} holds")


def print_shares(answer: VerifyAnswer) -> None:
    """Print the hottest route's share: before, forecast, after."""
    proposal, replayed = answer.plan, answer.replayed
    splits = len(proposal.actions)
    print_table(
        "The hottest route's share of the load",
        [("", "left"), ("before", "right"), (f"after {splits_text(splits)}", "right")],
        [
            [
                "forecast, from the load that was planned on",
                percent(proposal.max_share_before),
                percent(proposal.max_share_after),
            ],
            [
                "replayed, on the load that came next",
                percent(replayed.before.max_share),
                percent(replayed.after.max_share),
            ],
        ],
    )
