"""`workbench plan`, `approve` and `verify`: propose, decide, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from workbench.cli.common import (
    Fraction,
    catalog_option,
    cluster_option,
    emit,
    json_option,
    percent,
    print_table,
    progress_bar,
    span_json,
    warn,
    window_options,
)
from workbench.cli.look import objective_of, objective_option, threshold_option, weight_option
from workbench.model.keys import printable_key
from workbench.model.plan import Limits, plan_to_json
from workbench.model.times import rfc3339
from workbench.planner.detect import Rule
from workbench.planner.replay import Outcome
from workbench.planner.words import backtest_sentence, declined_by_reason, heavy_sentence

if TYPE_CHECKING:
    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Plan
    from workbench.session.approval import Approval
    from workbench.session.verify import VerifyAnswer

EXIT_PROPOSALS: Final = 3
OUTCOMES: Final = {
    Outcome.HELD: "the forecast held",
    Outcome.SHORT: "better, but short of the forecast",
    Outcome.FAILED: "the plan did not help on this load",
}
SPLITS_MAX: Final = 100_000
DECLINED_MAX: Final = 10
PARETO_SHOWN: Final = 12


@click.command()
@catalog_option
@cluster_option
@window_options
@objective_option
@weight_option
@click.option(
    "--max-splits",
    type=click.IntRange(0, SPLITS_MAX),
    default=8,
    show_default=True,
    help="At most so many splits; fewer where they reach the same.",
)
@click.option(
    "--min-gain",
    type=Fraction(),
    default=0.10,
    show_default=True,
    help="Propose nothing unless the hottest route falls by this fraction.",
)
@click.option(
    "--backtest/--no-backtest",
    default=True,
    show_default=True,
    help="Also plan on the first half of the load and replay the second.",
)
@click.option("--only-hot", is_flag=True, help="Split only routes that `workbench hot` flags.")
@threshold_option
@click.option(
    "--evidence",
    type=click.Choice(["auto", "accesses", "windows"]),
    default="auto",
    show_default=True,
    help="Plan from single accesses or from load windows; auto takes the finer.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the plan to FILE: .json or .parquet.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 3 where there are proposals.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "md", "json"]),
    default="text",
    show_default=True,
    help="md is Markdown for a pull request.",
)
@json_option
@click.pass_context
def plan(
    ctx: click.Context,
    catalog_url: str,
    cluster: str | None,
    since: str | None,
    until: str | None,
    objective: str,
    write_weight: int,
    max_splits: int,
    min_gain: float,
    backtest: bool,
    only_hot: bool,
    threshold: float,
    evidence: str,
    out: Path | None,
    exit_code: bool,
    output_format: str,
    as_json: bool,
) -> int:
    """Propose splits that lower the hottest route's load the most, with evidence and a bound.

    The plan is exact: no other choice of as many splits does better, and it carries the proof.
    It is recorded in the catalog; nothing is executed. The same load gives the same plan.
    There is no merge and no undo of a split.

    \b
    Examples:
      workbench plan --max-splits 6
      workbench plan --until 50% --out plan.json
      workbench plan --exit-code --json | python -m json.tool
    """
    from workbench.errors import InvalidArgument
    from workbench.query.load import Source
    from workbench.report.markdown import plan_markdown
    from workbench.session.cluster import open_cluster
    from workbench.session.planning import plan as run
    from workbench.session.planning import settled_since
    from workbench.session.plans import plan_to_file, record_plan
    from workbench.session.wiring import open_catalog

    if out is not None and out.suffix not in {".json", ".parquet"}:
        raise InvalidArgument(
            f"--out {str(out)!r} ends neither with .json nor with .parquet",
            code="plan_format_unknown",
            hint="name a .json or a .parquet file",
        )
    catalog = open_catalog(catalog_url)
    view = open_cluster(catalog, cluster)
    start, end = view.window(since, until)
    settled = start if since or evidence == "accesses" else settled_since(view, start, end)
    if settled > start:
        warn(
            f"planned on the load from {rfc3339(settled)} on: buckets were coarser before, and a "
            "split key inside one has no evidence (--since takes another start)"
        )
    sources = {"auto": None, "accesses": Source.ACCESS, "windows": Source.LOAD_WINDOW}
    with progress_bar() as progress:
        progress("planning", 0, None)
        proposal = run(
            view,
            since=settled,
            until=end,
            objective=objective_of(objective, write_weight),
            limits=Limits(max_splits, min_gain, only_hot),
            rule=Rule(threshold_per_minute=threshold),
            source=sources[evidence],
            backtest=backtest,
        )
        if out is not None:
            plan_to_file(proposal, out)
        record_plan(catalog, proposal)
    for warning in view.warnings:
        warn(warning)
    if as_json or output_format == "json":
        click.echo(_plan_text(proposal))
    elif output_format == "md":
        click.echo(plan_markdown(proposal), nl=False)
    else:
        print_plan(proposal)
    if exit_code and proposal.actions:
        ctx.exit(EXIT_PROPOSALS)
    return 0


def _plan_text(proposal: Plan) -> str:
    import json

    return json.dumps(plan_to_json(proposal), indent=2)


def print_plan(proposal: Plan) -> None:
    """Print a plan for a human: the answer first, then the actions, then the proof."""
    click.echo(f"plan {proposal.plan_id} for {proposal.cluster}, {_window(proposal)}")
    if not proposal.actions:
        click.echo(f"nothing to do: the hottest route carries {percent(proposal.max_share_before)}")
        _print_heavy(proposal)
        _print_declined(proposal)
        return
    verb = "takes" if len(proposal.actions) == 1 else "take"
    click.echo(
        f"{_splits(len(proposal.actions))} {verb} the hottest route from "
        f"{percent(proposal.max_share_before)} to {percent(proposal.max_share_after)} of the load"
    )
    total = proposal.total_load
    rows = [
        [
            action.action_id,
            str(action.route_id),
            printable_key(action.split_key),
            percent(action.evidence.parent_load / total),
            percent(action.evidence.left_load / total),
            percent(action.evidence.right_load / total),
            percent(action.evidence.bottleneck_after / total),
        ]
        for action in proposal.actions
    ]
    names = ("action", "route", "split key", "parent", "left", "right", "hottest after")
    left = {"action", "split key"}
    columns = [(name, "left" if name in left else "right") for name in names]
    print_table(f"Actions, by share of {proposal.objective.name}", columns, rows)
    _print_bound(proposal)
    _print_declined(proposal)
    click.echo("there is no merge and no undo of a split")
    click.echo(f"next: workbench approve {proposal.plan_id}")


def _print_bound(proposal: Plan) -> None:
    """Print what fewer splits would reach, and what nobody can beat."""
    marks, total = proposal.bottleneck, proposal.total_load
    points = [f"{splits}: {percent(load / total)}" for splits, load in proposal.pareto]
    shown = (
        points if len(points) <= PARETO_SHOWN else [*points[: PARETO_SHOWN - 1], "…", points[-1]]
    )
    steps = ", ".join(shown)
    click.echo(f"hottest route by number of splits, each the least possible: {steps}")
    click.echo(
        f"the least that any {len(proposal.routes_after)} routes can reach, cut anywhere: "
        f"{percent(marks.optimum / total)}; the plan carries the proof of both"
    )
    _print_heavy(proposal)
    if proposal.backtest is not None:
        click.echo(backtest_sentence(proposal.backtest))
    source = "single keys" if proposal.atom_kind == "key" else "buckets"
    click.echo(f"evidence: {total:,} {proposal.objective.name} on {proposal.atoms:,} {source}")


def _print_heavy(proposal: Plan) -> None:
    """Print the keys that no split makes lighter."""
    for atom in proposal.unsplittable[:DECLINED_MAX]:
        key, total = printable_key(atom.key), proposal.total_load
        click.echo(f"unsplittable: {heavy_sentence(key, atom.load, total, proposal.atom_kind)}")


def _print_declined(proposal: Plan) -> None:
    """Print why routes are left alone, those with the same reason once."""
    reasons = declined_by_reason(proposal)
    if reasons:
        click.echo(f"left alone: {len(proposal.declined)} of {len(proposal.routes_before)} routes")
    for routes, reason in reasons[:DECLINED_MAX]:
        click.echo(f"  {routes}: {reason}")
    if len(reasons) > DECLINED_MAX:
        click.echo(f"  … {len(reasons) - DECLINED_MAX} more reasons with --json")


def _splits(number: int) -> str:
    return "1 split" if number == 1 else f"{number} splits"


def _window(proposal: Plan) -> str:
    return f"load of {rfc3339(proposal.since)} to {rfc3339(proposal.until)}"


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
    if as_json:
        emit("approve", approval_fields(decision))
        return 0
    if not decision.changed:
        state = "none of them was approved" if withdraw else "all of them were approved before"
        click.echo(f"nothing changed: {state}")
    else:
        verb = "withdrawn from" if withdraw else "approved of"
        names = ", ".join(decision.changed)
        click.echo(f"{verb} plan {decision.plan_id} by {decision.by}: {names}")
    click.echo(f"approved now: {', '.join(decision.approved) or 'nothing'}")
    return 0


def _approve_by_policy(
    catalog: Catalog, found: Plan, path: Path, *, dry_run: bool, as_json: bool
) -> int:
    """Let a policy decide, and say what it said."""
    from workbench.session.approval import approve_by_policy
    from workbench.session.policies import read_policy

    policy = read_policy(path)
    decision = approve_by_policy(catalog, found, policy, dry_run=dry_run)
    approval = decision.approval
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
        }
        emit("approve", fields)
    elif decision.broken:
        click.echo(f"policy {policy.name} does not approve plan {found.plan_id}:")
        for sentence in decision.broken:
            click.echo(f"  {sentence}")
    else:
        verb = "would approve" if dry_run else "approved"
        click.echo(
            f"policy {policy.name} {verb} {len(decision.actions)} actions of plan {found.plan_id}"
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
        [("", "left"), ("before", "right"), (f"after {_splits(splits)}", "right")],
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
