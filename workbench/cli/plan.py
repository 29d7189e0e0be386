"""`workbench plan`: propose splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from workbench.cli.common import (
    catalog_option,
    cluster_option,
    json_option,
    percent,
    print_table,
    progress_bar,
    warn,
    window_options,
)
from workbench.cli.limits import limit_options, limits_of
from workbench.cli.look import objective_of, objective_option, threshold_option, weight_option
from workbench.model.keys import printable_key
from workbench.model.plan import ActionKind, plan_to_json
from workbench.model.times import rfc3339
from workbench.planner.detect import Rule
from workbench.planner.words import (
    caution_sentence,
    certainty_sentences,
    declined_by_reason,
    further_sentence,
    headline,
    heavy_sentence,
    isolated_sentence,
    nothing_reason,
    placement_sentences,
    robust_sentence,
    target_text,
)
from workbench.report.words import counted

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.model.plan import Action, Declined, Objective, Plan
    from workbench.session.cluster import ClusterView
    from workbench.session.coarse import CoarseWindows

EXIT_PROPOSALS: Final = 3
ACTIONS_MAX: Final = 50
DECLINED_MAX: Final = 10
HEAVY_MAX: Final = 3
PARETO_SHOWN: Final = 12
# How the planner's reasons begin to say what `_print_heavy` says already.
BUCKET_CLAUSE: Final = "; one bucket alone carries "
FINER_LIVE: Final = (
    "plan on windows that all have the finest buckets (--since, --until), or make a new cluster "
    "with more buckets per route (`workbench cluster up --buckets N --dir NEW`)"
)
FINER_TRACE: Final = (
    "plan on single accesses (`--evidence accesses`), or collect with more `--buckets`"
)


@click.command()
@catalog_option
@cluster_option
@click.option(
    "--target", metavar="URL", help="Collect from this cluster first, as node://HOST:PORT."
)
@window_options
@objective_option
@weight_option
@click.option(
    "--policy",
    type=click.Choice(["robust", "exact"]),
    default="robust",
    show_default=True,
    help="robust plans against drift, on load shrunk towards all keys seen; exact fits the load "
    "as recorded.",
)
@limit_options
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
    /,
    catalog_url: str,
    cluster: str | None,
    target: str | None,
    since: str | None,
    until: str | None,
    objective: str,
    write_weight: int,
    policy: str,
    backtest: bool,
    only_hot: bool,
    threshold: float,
    evidence: str,
    out: Path | None,
    exit_code: bool,
    output_format: str,
    as_json: bool,
    **limits: Any,
) -> int:
    """Propose splits that lower the hottest route's load the most, with evidence and a bound.

    No other choice of as many splits does better by what the policy minimises, and the plan
    carries the proof; of robust it also says what exact would reach on the recorded load, and
    how both fared in a back-test. With --groups it also proposes moves. It is recorded in the
    catalog; nothing is executed. The same load gives the same plan. There is no merge and no
    undo of a split.

    \b
    Examples:
      workbench plan --max-splits 6
      workbench plan --policy exact --boundaries prefix:8 --forbid user/1..user/2
      workbench plan --groups 1,2:2 --max-bytes-moved 1000000000
      workbench plan --until 50% --out plan.json
      workbench plan --exit-code --json | python -m json.tool
    """
    from workbench.query.load import Source
    from workbench.report.markdown import plan_markdown
    from workbench.session.cluster import open_cluster
    from workbench.session.planning import is_live, no_moves_on
    from workbench.session.planning import plan as run
    from workbench.session.plans import plan_to_file, record_plan
    from workbench.session.wiring import open_catalog

    _check_out(out)
    no_moves = ""
    if target is not None:
        cluster = _collect_first(target, catalog_url, cluster)
        no_moves = no_moves_on(target)
    catalog = open_catalog(catalog_url)
    view = open_cluster(catalog, cluster)
    chosen = objective_of(objective, write_weight)
    start, end = view.window(since, until)
    if not since and evidence != "accesses":
        start = _settled(view, start, end, chosen)
    sources = {"auto": None, "accesses": Source.ACCESS, "windows": Source.LOAD_WINDOW}
    with progress_bar() as progress:
        progress("planning", 0, None)
        proposal = run(
            view,
            since=start,
            until=end,
            objective=chosen,
            limits=limits_of(limits, view.snapshot, only_hot=only_hot, live=is_live(view)),
            rule=Rule(threshold_per_minute=threshold),
            source=sources[evidence],
            backtest=backtest,
            policy=policy,
            no_moves=no_moves,
        )
        if out is not None:
            plan_to_file(proposal, out)
        record_plan(catalog, proposal)
    _warn_of(proposal, view, end, chosen)
    if as_json or output_format == "json":
        click.echo(_plan_text(proposal))
    elif output_format == "md":
        click.echo(plan_markdown(proposal), nl=False)
    else:
        print_plan(proposal, live=is_live(view))
    if exit_code and proposal.actions:
        ctx.exit(EXIT_PROPOSALS)
    return 0


def _settled(view: ClusterView, start: datetime, end: datetime, objective: Objective) -> datetime:
    """Return from when on the load can be planned on, and say so where that is not the start."""
    from workbench.session.planning import settled_since

    settled = settled_since(view, start, end, objective)
    if settled > start:
        warn(
            f"planned on the load from {rfc3339(settled)} on: before, buckets were too coarse for "
            "the routes as they are, or for split keys (--since takes another start)"
        )
    return settled


def _warn_of(proposal: Plan, view: ClusterView, end: datetime, objective: Objective) -> None:
    """Say on stderr what the plan's reader has to know of its load and of its actions."""
    from workbench.session.approval import move_warning
    from workbench.session.coarse import coarse_windows
    from workbench.session.planning import is_live, quiet_since, to_get_load

    if proposal.objective.name != objective.name:
        warn(
            f"planned by {proposal.objective.name}: what {objective.name} counts was nowhere "
            "measured in that time"
        )
    changed = quiet_since(view, end, proposal.objective)
    if changed is not None:
        warn(
            f"no load window since the routes changed at {rfc3339(changed)} has load: planned on "
            f"earlier load; {to_get_load(view)}"
        )
    if (coarse := coarse_windows(view, proposal.since, end, proposal.objective)) is not None:
        warn(coarse_sentence(coarse))
    moving = move_warning(proposal, [action.action_id for action in proposal.actions])
    for warning in (*view.warnings, *([moving] if moving and is_live(view) else [])):
        warn(warning)


def coarse_sentence(coarse: CoarseWindows) -> str:
    """Return which windows keep a plan from cutting, and how to plan without them."""
    first, end = coarse.windows[0][0], coarse.windows[-1][1]
    told = counted(len(coarse.windows), "window tells", "windows tell")
    listed = ", ".join(map(str, coarse.routes[:DECLINED_MAX]))
    if len(coarse.routes) > DECLINED_MAX:
        listed += ", …"
    what = "route" if len(coarse.routes) == 1 else "routes"
    if coarse.since is None or coarse.until is None:
        cure = "collect again once it has run on with the same buckets"
    elif coarse.since > first:
        cure = f"plan without: --since {rfc3339(coarse.since)}"
    else:
        cure = f"plan without: --until {rfc3339(coarse.until)}"
    return (
        f"{told} the load in buckets that other windows cut further, between {rfc3339(first)} and "
        f"{rfc3339(end)}, and no split key can lie inside those ({what} {listed}): {cure}"
    )


def _check_out(out: Path | None) -> None:
    """Raise where the name of the file says no format."""
    from workbench.errors import InvalidArgument

    if out is not None and out.suffix not in {".json", ".parquet"}:
        raise InvalidArgument(
            f"--out {str(out)!r} ends neither with .json nor with .parquet",
            code="plan_format_unknown",
            hint="name a .json or a .parquet file",
        )


def _collect_first(target: str, catalog_url: str, cluster: str | None) -> str:
    """Collect from a running cluster, and return the name under which it is kept."""
    from workbench.session.collect_live import LiveOptions, collect_live

    with progress_bar() as progress:
        collected = collect_live(target, catalog_url, LiveOptions(cluster=cluster), progress)
    for warning in collected.warnings:
        warn(warning)
    return collected.cluster


def _plan_text(proposal: Plan) -> str:
    import json

    return json.dumps(plan_to_json(proposal), indent=2)


def print_plan(proposal: Plan, *, live: bool = False) -> None:
    """Print a plan for a human: the answer first, then the actions, then the proof.

    Args:
        proposal: The plan.
        live: Whether its load is a running cluster's: finer evidence is had in another way.
    """
    click.echo(f"plan {proposal.plan_id} for {proposal.cluster}, {_window(proposal)}")
    if not proposal.actions:
        share = percent(proposal.max_share_before)
        reason = nothing_reason(proposal)
        click.echo(f"nothing to do: the hottest route carries {share}, and {reason}")
        _print_heavy(proposal, live=live)
        for sentence in (*placement_sentences(proposal), *certainty_sentences(proposal)):
            click.echo(sentence)
        _print_declined(proposal)
        return
    click.echo(headline(proposal))
    if (caution := caution_sentence(proposal)) is not None:
        click.echo(caution)
    if (further := further_sentence(proposal)) is not None:
        click.echo(further)
    total = proposal.total_load
    rows = [
        [
            action.action_id,
            str(action.route_id),
            target_text(action),
            printable_key(action.split_key),
            percent(action.evidence.parent_load / total),
            *_parts(action, total),
            percent(action.evidence.bottleneck_after / total),
        ]
        for action in proposal.actions[:ACTIONS_MAX]
    ]
    names = ("action", "route", "group", "split key", "parent", "left", "right", "hottest after")
    left = {"action", "group", "split key"}
    columns = [(name, "left" if name in left else "right") for name in names]
    print_table(f"Actions, by share of {proposal.objective.name}", columns, rows)
    if (hidden := len(proposal.actions) - len(rows)) > 0:
        click.echo(
            f"… {counted(hidden, 'more action')}: all of them with --json or --out FILE, each with "
            f"`workbench explain {proposal.plan_id} ACTION`"
        )
    _print_bound(proposal, live=live)
    for sentence in placement_sentences(proposal):
        click.echo(sentence)
    _print_declined(proposal)
    click.echo("there is no merge and no undo of a split")
    click.echo(f"next: workbench approve {proposal.plan_id}")


def _parts(action: Action, total: int) -> tuple[str, str]:
    """Return the shares of what a split leaves left and right; a move leaves its route whole."""
    if action.kind is ActionKind.MOVE:
        return "", ""
    return percent(action.evidence.left_load / total), percent(action.evidence.right_load / total)


def _print_bound(proposal: Plan, *, live: bool) -> None:
    """Print what fewer splits would reach, and what nobody can beat."""
    marks, total = proposal.bottleneck, proposal.total_load
    points = [f"{splits}: {percent(load / total)}" for splits, load in proposal.pareto]
    shown = (
        points if len(points) <= PARETO_SHOWN else [*points[: PARETO_SHOWN - 1], "…", points[-1]]
    )
    steps = ", ".join(shown)
    tail = proposal.drift is not None and proposal.drift.tail is not None
    of = " of the load so far, which a front has left behind" if tail else ""
    click.echo(f"hottest route by number of splits, each the least possible{of}: {steps}")
    click.echo(
        f"the least that any {counted(len(proposal.routes_after), 'route')} can reach, "
        f"cut anywhere: {percent(marks.optimum / total)}; the plan carries the proof of both"
    )
    if proposal.robust is not None:
        click.echo(robust_sentence(proposal))
    for isolated in proposal.isolated:
        click.echo(isolated_sentence(isolated, printable_key(isolated.key), total))
    _print_heavy(proposal, live=live)
    for sentence in certainty_sentences(proposal):
        click.echo(sentence)
    source = "single keys" if proposal.atom_kind == "key" else "buckets"
    click.echo(f"evidence: {total:,} {proposal.objective.name} on {proposal.atoms:,} {source}")


def _print_heavy(proposal: Plan, *, live: bool) -> None:
    """Print the keys that no split makes lighter, or how to see into the buckets."""
    for atom in proposal.unsplittable[:HEAVY_MAX]:
        key, total = printable_key(atom.key), proposal.total_load
        click.echo(f"unsplittable: {heavy_sentence(key, atom.load, total, proposal.atom_kind)}")
    hidden = proposal.unsplittable[HEAVY_MAX:]
    if hidden:
        share = percent(sum(atom.load for atom in hidden) / proposal.total_load)
        what = "keys" if proposal.atom_kind == "key" else "buckets"
        what = what if len(hidden) > 1 else what.removesuffix("s")
        click.echo(f"  … {len(hidden)} more such {what} with {share} in all: see --json")
    if proposal.unsplittable and proposal.atom_kind != "key":
        click.echo(f"finer evidence: {FINER_LIVE if live else FINER_TRACE}")


def _print_declined(proposal: Plan) -> None:
    """Print why routes are left alone, those with the same reason once."""
    reasons = declined_by_reason(replace(proposal, declined=_without_buckets(proposal)))
    if reasons:
        what = counted(len(proposal.routes_before), "route")
        click.echo(f"left alone: {len(proposal.declined)} of {what}")
    for routes, reason in reasons[:DECLINED_MAX]:
        click.echo(f"  {routes}: {reason}")
    if len(reasons) > DECLINED_MAX:
        click.echo(f"  … {counted(len(reasons) - DECLINED_MAX, 'more reason')} with --json")


def _without_buckets(proposal: Plan) -> tuple[Declined, ...]:
    """Return what is left alone, without each route's heaviest bucket: `_print_heavy` has them."""
    if not proposal.unsplittable:
        return proposal.declined
    return tuple(
        replace(declined, reason=declined.reason.partition(BUCKET_CLAUSE)[0])
        for declined in proposal.declined
    )


def _window(proposal: Plan) -> str:
    return f"load of {rfc3339(proposal.since)} to {rfc3339(proposal.until)}"
