"""`workbench demo`: the main job end to end, against a live cluster or offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from workbench.cli.cluster import stale_text
from workbench.cli.collect import collect_options, trace_options
from workbench.cli.common import (
    DEFAULT_CATALOG,
    Positive,
    emit,
    json_option,
    percent,
    progress_bar,
    warn,
)
from workbench.errors import InvalidArgument
from workbench.report.words import counted

if TYPE_CHECKING:
    from workbench.model.plan import Plan
    from workbench.session.demo import DemoAnswer
    from workbench.session.demo_live import LiveDemoAnswer
    from workbench.session.look import HotAnswer

LIVE_WINDOW_MS: Final = 1_000
LIVE_BUCKETS: Final = 64
LIVE_FOLDER: Final = "./.workbench/cluster"
# What only the live form understands, by parameter name.
LIVE_ONLY: Final = ("nodes", "groups", "seconds", "keep", "folder")
MIN_GAIN: Final = 0.10
EXIT_FAILURE: Final = 1


@click.command()
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A recorded trace; without it one with a hot range is generated.",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Start no cluster: plan on the trace's first half, replay its second.",
)
@click.option("--nodes", type=click.IntRange(1, 16), default=3, show_default=True)
@click.option("--groups", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option(
    "--seconds",
    type=Positive(),
    default=30.0,
    show_default=True,
    help="How long the trace's recorded time shall take.",
)
@click.option("--keep", is_flag=True, help="Leave the cluster running, and keep the catalog.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"The cluster's files; default a temporary folder, with --keep {LIVE_FOLDER}.",
)
@click.option(
    "--report",
    "report_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
)
@click.option(
    "--catalog",
    "catalog_url",
    metavar="URL",
    help="Keep the catalog here; without it a temporary folder is used.",
)
@click.option(
    "--routes",
    default="8",
    show_default=True,
    metavar="N|URL",
    help="Routes to start with; the live cluster takes a number.",
)
@click.option("--max-splits", type=click.IntRange(0), default=8, show_default=True)
@trace_options
@json_option
@click.pass_context
def demo(
    ctx: click.Context,
    /,
    trace: Path | None,
    offline: bool,
    report_path: Path,
    catalog_url: str | None,
    routes: str,
    max_splits: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Run the main job: a live cluster, clients that write, and a plan executed meanwhile.

    Starts a cluster of bundled nodes on this machine and makes a trace's accesses against it.
    At half-time it collects the load, plans, approves and applies the splits while the clients
    go on. At the end it collects again, checks the forecast, reads every acknowledged write
    again, writes a report that opens offline, and stops the cluster.

    With --offline there is no cluster: the plan is made on the trace's first half and its
    second half, which the plan never sees, is replayed.

    Live load windows are 1 s long, with 64 buckets per route, unless --window or --buckets say
    otherwise.

    \b
    Examples:
      workbench demo
      workbench demo --trace cloudphysics.csv.zst --report cloudphysics.html
      workbench demo --keep
      workbench demo --offline --catalog ./demo-catalog --json
    """
    limits = (max_splits, MIN_GAIN)
    if offline:
        _refuse_live_options(ctx)
        _offline(trace, report_path, catalog_url, routes, limits, given, as_json=as_json)
        return
    if ctx.get_parameter_source("window_ms") is ParameterSource.DEFAULT:
        given["window_ms"] = LIVE_WINDOW_MS
    given["buckets"] = given["buckets"] or LIVE_BUCKETS
    if _live(trace, report_path, catalog_url, routes, limits, given, as_json=as_json):
        ctx.exit(EXIT_FAILURE)


def _refuse_live_options(ctx: click.Context) -> None:
    for name in LIVE_ONLY:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "dir" if name == "folder" else name
            raise InvalidArgument(
                f"--{option} is for a live cluster, and --offline starts none",
                code="demo_options_contradict",
                hint="leave one of the two out",
            )


def _live(
    trace: Path | None,
    report: Path,
    catalog_url: str | None,
    routes: str,
    limits: tuple[int, float],
    given: dict[str, Any],
    *,
    as_json: bool,
) -> int:
    """Run against a cluster; return how many acknowledged writes were lost."""
    from workbench.model.plan import Limits
    from workbench.session.demo_live import LiveDemoOptions, demo_live

    if not routes.isdecimal() or int(routes) < 1:
        raise InvalidArgument(
            f"--routes {routes!r} is no number of routes",
            code="routes_invalid",
            hint="give a number; --offline also takes file:ROUTES.json",
        )
    keep = given["keep"]
    options = LiveDemoOptions(
        trace=trace,
        reading=collect_options(given, cluster=None, routes=routes).trace,
        catalog_url=catalog_url or (DEFAULT_CATALOG if keep else None),
        folder=given["folder"] or (Path(LIVE_FOLDER) if keep else None),
        keep=keep,
        nodes=given["nodes"],
        groups=given["groups"],
        routes=int(routes),
        seconds=given["seconds"],
        window_ms=given["window_ms"],
        buckets=given["buckets"],
        limits=Limits(*limits),
        report=report,
    )
    with progress_bar() as progress:
        answer = demo_live(options, progress)
    for warning in (*answer.warnings, *answer.verified.warnings):
        warn(warning)
    if as_json:
        emit("demo", _live_fields(answer, options))
    else:
        _print_live(answer, options)
    return answer.checked.lost


def _offline(
    trace: Path | None,
    report: Path,
    catalog_url: str | None,
    routes: str,
    limits: tuple[int, float],
    given: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    from workbench.model.plan import Limits
    from workbench.session.demo import DemoOptions
    from workbench.session.demo import demo as run

    options = DemoOptions(
        trace=trace,
        collect=collect_options(given, cluster=None, routes=routes),
        catalog_url=catalog_url,
        limits=Limits(*limits),
        report=report,
    )
    with progress_bar() as progress:
        answer = run(options, progress)
    for warning in answer.collected.warnings:
        warn(warning)
    if as_json:
        emit("demo", _offline_fields(answer))
    else:
        _print_offline(answer)


def _live_fields(answer: LiveDemoAnswer, options: Any) -> dict[str, Any]:
    return {
        "trace": answer.trace,
        "nodes": options.nodes,
        "groups": options.groups,
        "writes": answer.checked.writes,
        "reads": answer.played.reads,
        "stale_reads": answer.played.stale_reads,
        "lost_writes": answer.checked.lost,
        "writes_during_apply": answer.writes_during,
        "cluster": answer.url if options.keep else None,
        **_shared_fields(answer),
    }


def _offline_fields(answer: DemoAnswer) -> dict[str, Any]:
    return {
        "trace": answer.trace,
        "nodes": None,
        "groups": None,
        "writes": answer.collected.writes,
        "lost_writes": None,
        **_shared_fields(answer),
    }


def _shared_fields(answer: DemoAnswer | LiveDemoAnswer) -> dict[str, Any]:
    replayed = answer.verified.replayed
    return {
        "splits": len(answer.plan.actions),
        "moves": 0,
        "plan_id": answer.plan.plan_id,
        "max_share_before": replayed.before.max_share,
        "max_share_forecast": answer.plan.max_share_after,
        "max_share_after": replayed.after.max_share,
        "false_claims": list(answer.verified.false_claims),
        "seconds": round(answer.seconds, 3),
        "report": str(answer.report),
    }


def _print_live(answer: LiveDemoAnswer, options: Any) -> None:
    from workbench.cli.verify import print_verification
    from workbench.session.applying import ActionStatus

    played, checked = answer.played, answer.checked
    click.echo(f"trace     {answer.trace}, played in {played.seconds:.0f} s")
    click.echo(
        f"cluster   {counted(options.nodes, 'node')}, {counted(options.groups, 'group')}: "
        f"{counted(played.writes, 'write')} acknowledged, {counted(played.reads, 'read')} answered"
    )
    _print_look(answer.hot, "the load before half-time")
    _print_plan(answer.plan)
    if answer.applied is not None:
        executed = len(answer.applied.having(ActionStatus.APPLIED))
        click.echo(
            f"apply     {counted(executed, 'split')} executed, "
            f"{counted(answer.writes_during, 'write')} acknowledged meanwhile; "
            f"the routes are now at version {answer.applied.catalog_version}"
        )
    print_verification(answer.verified)
    click.echo(
        f"lost      {checked.lost} of {counted(checked.writes, 'acknowledged write')}, "
        "all read again"
    )
    for example in checked.examples:
        click.echo(f"          {example}")
    if played.stale_reads:
        click.echo(f"stale     {stale_text(played.stale_reads)}")
    click.echo(f"report    {answer.report} ({answer.seconds:.1f} s in all)")
    if options.keep:
        click.echo(
            f"kept      {answer.url}; stop it: workbench cluster down --dir {options.folder}"
        )


def _print_offline(answer: DemoAnswer) -> None:
    from workbench.cli.verify import print_verification

    accesses = counted(answer.collected.accesses, "access", "accesses")
    click.echo(f"trace     {answer.trace}: {accesses}")
    _print_look(answer.hot, "the first half")
    _print_plan(answer.plan)
    print_verification(answer.verified)
    click.echo(f"report    {answer.report} ({answer.seconds:.1f} s in all)")


def _print_look(answer: HotAnswer, when: str) -> None:
    flagged = sum(verdict.verdict == "hot" for verdict in answer.verdicts)
    routes = counted(len(answer.verdicts), "route is", "routes are")
    hottest = max(answer.verdicts, key=lambda verdict: verdict.share or 0)
    click.echo(
        f"look      {flagged} of {routes} hot by the paging rule; the "
        f"busiest (route {hottest.route.route_id}) carries {percent(hottest.share)} of {when}"
    )


def _print_plan(plan: Plan) -> None:
    marks = plan.bottleneck
    click.echo(
        f"plan      {plan.plan_id}: {counted(len(plan.actions), 'split')}; "
        f"hottest route {marks.before:,} → {marks.after:,}, {_how_good(plan)}"
    )


def _how_good(plan: Plan) -> str:
    """Return how the plan's bottleneck stands to the least that as many splits reach."""
    if plan.robust is None or not plan.robust.price:
        return "the least that as many can reach"
    return f"made to last: as many could reach {plan.robust.optimum:,} on the recorded load"
