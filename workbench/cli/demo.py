"""`workbench demo`: the main job end to end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.collect import collect_options, trace_options
from workbench.cli.common import emit, json_option, percent, progress_bar, warn

if TYPE_CHECKING:
    from workbench.session.demo import DemoAnswer


@click.command()
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A recorded trace; without it one with a hot range is generated.",
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
@click.option("--routes", default="8", show_default=True, metavar="N|URL", help="As for collect.")
@click.option("--max-splits", type=click.IntRange(0), default=8, show_default=True)
@trace_options
@json_option
def demo(
    trace: Path | None,
    report_path: Path,
    catalog_url: str | None,
    routes: str,
    max_splits: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Run the main job: collect a trace, look, plan on its first half, replay its second half.

    The plan never sees the second half. Writes a report that opens offline.

    \b
    Examples:
      workbench demo
      workbench demo --trace cloudphysics.csv.zst --report cloudphysics.html
      workbench demo --catalog ./demo-catalog --json
    """
    from workbench.model.plan import Limits
    from workbench.session.demo import DemoOptions
    from workbench.session.demo import demo as run

    options = DemoOptions(
        trace=trace,
        collect=collect_options(given, cluster=None, routes=routes),
        catalog_url=catalog_url,
        limits=Limits(max_splits=max_splits, min_gain=0.10),
        report=report_path,
    )
    with progress_bar() as progress:
        answer = run(options, progress)
    for warning in answer.collected.warnings:
        warn(warning)
    if as_json:
        emit("demo", _fields(answer))
        return
    _print(answer)


def _fields(answer: DemoAnswer) -> dict[str, Any]:
    replayed = answer.verified.replayed
    return {
        "trace": answer.trace,
        "nodes": None,
        "groups": None,
        "writes": answer.collected.writes,
        "lost_writes": None,
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


def _print(answer: DemoAnswer) -> None:
    from workbench.cli.plan import print_verification

    collected = answer.collected
    click.echo(f"trace     {answer.trace}: {collected.accesses:,} accesses")
    flagged = sum(verdict.verdict == "hot" for verdict in answer.hot.verdicts)
    hottest = max(answer.hot.verdicts, key=lambda verdict: verdict.share or 0)
    click.echo(
        f"look      {flagged} of {collected.routes} routes are hot by the paging rule; the busiest "
        f"(route {hottest.route.route_id}) carries {percent(hottest.share)} of the first half"
    )
    marks = answer.plan.bottleneck
    click.echo(
        f"plan      {answer.plan.plan_id}: {len(answer.plan.actions)} splits; "
        f"hottest route {marks.before:,} → {marks.after:,}, the least that as many can reach"
    )
    print_verification(answer.verified)
    click.echo(f"report    {answer.report} ({answer.seconds:.1f} s in all)")
