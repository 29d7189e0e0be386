"""`workbench hot` and `workbench heatmap`: what the load looks like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from workbench.cli.common import (
    Positive,
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
from workbench.model.keys import printable_key
from workbench.model.plan import OBJECTIVES, ActionKind, Objective
from workbench.model.times import rfc3339
from workbench.planner.detect import THRESHOLD_PER_MINUTE, WINDOWS_HOT, RouteVerdict, Rule, Verdict
from workbench.report.words import counted

if TYPE_CHECKING:
    from workbench.heat.matrix import HeatMatrix
    from workbench.session.look import HotAnswer, Planned

HOT_KEYS_SHOWN: Final = 20
HEATMAP_SUFFIXES: Final = (".png", ".html")

objective_option = click.option(
    "--objective",
    type=click.Choice(list(OBJECTIVES)),
    default="score",
    show_default=True,
    help="What counts as load; score is 4 x writes + reads, cpu is nanoseconds, where told.",
)
weight_option = click.option(
    "--write-weight",
    type=click.IntRange(0, 1_000),
    default=OBJECTIVES["score"].write_weight,
    show_default=True,
    help="How many reads a write counts for, in the score.",
)
threshold_option = click.option(
    "--threshold",
    type=Positive(),
    default=THRESHOLD_PER_MINUTE,
    show_default=True,
    help="Load a minute from which on a route is hot; the default is for the score alone.",
)


def objective_of(name: str, write_weight: int) -> Objective:
    """Return the objective that the options name."""
    objective = OBJECTIVES[name]
    return replace(objective, write_weight=write_weight) if name == "score" else objective


@click.command()
@catalog_option
@cluster_option
@window_options
@objective_option
@weight_option
@threshold_option
@click.option(
    "--windows",
    type=click.IntRange(min=1),
    default=WINDOWS_HOT,
    show_default=True,
    help="Consecutive windows over the threshold that make a route hot.",
)
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@json_option
def hot(
    catalog_url: str,
    cluster: str | None,
    since: str | None,
    until: str | None,
    objective: str,
    write_weight: int,
    threshold: float,
    windows: int,
    top: int,
    as_json: bool,
) -> None:
    """Show which routes are hot and since when, and why the others were not flagged.

    A route is hot when its load reaches the threshold in consecutive windows that end with the
    last one. This is the question "page me"; what is worth balancing is for `workbench plan`.
    Keys that carry much of their route are listed below, and what the newest plan of these
    routes does with the hot ones.

    \b
    Examples:
      workbench hot
      workbench hot --until 50% --threshold 1000 --json
    """
    from workbench.session.cluster import open_cluster
    from workbench.session.look import hot as run
    from workbench.session.wiring import open_catalog

    catalog = open_catalog(catalog_url)
    view = open_cluster(catalog, cluster)
    start, end = view.window(since, until)
    rule = Rule(threshold_per_minute=threshold, windows_hot=windows)
    chosen = objective_of(objective, write_weight)
    answer = run(view, since=start, until=end, objective=chosen, rule=rule, catalog=catalog)
    if as_json:
        emit("hot", hot_fields(answer))
        return
    print_verdicts(answer, top)


def hot_fields(answer: HotAnswer) -> dict[str, Any]:
    """Return the JSON of `workbench hot`."""
    return {
        "cluster": answer.cluster,
        "window": {"from": rfc3339(answer.since), "to": rfc3339(answer.until)},
        "objective": answer.objective,
        "objective_asked": answer.asked,
        "sampled": answer.sampled,
        "threshold_per_minute": answer.rule.threshold_per_minute,
        "routes": [_verdict_fields(verdict, answer.planned) for verdict in answer.verdicts],
        "hot_keys": [
            {
                "route_id": each.route_id,
                "key": each.key.hex(),
                "count": each.count,
                "count_low": each.low,
                "share": each.share,
            }
            for each in answer.hot_keys
        ],
        "plan_id": None if answer.planned is None else answer.planned.plan_id,
        "evidence": None
        if answer.evidence is None
        else {
            "sql": answer.evidence.sql,
            "parameters": dict(answer.evidence.parameters),
            "verdict_sql": answer.evidence.verdict_sql,
            "verdict_parameters": dict(answer.evidence.verdict_parameters),
        },
        "unattributed": {
            "buckets": answer.unattributed.buckets,
            "load": answer.unattributed.load,
            "share": answer.unattributed.share,
        },
    }


def _verdict_fields(verdict: RouteVerdict, planned: Planned | None) -> dict[str, Any]:
    route_id = verdict.route.route_id
    return {
        "route_id": route_id,
        **span_json(verdict.route.span),
        "group": verdict.route.group,
        "verdict": verdict.verdict.value,
        "certainty": verdict.certainty.value,
        "share": verdict.share,
        "score_per_minute": verdict.per_minute,
        "interval_per_minute": None
        if verdict.per_minute is None
        else [verdict.low_per_minute, verdict.high_per_minute],
        "windows_over": verdict.windows_over,
        "peak_per_minute": verdict.peak_per_minute,
        "peak_at": None if verdict.peak_at is None else rfc3339(verdict.peak_at),
        "proof": [rfc3339(start) for start in verdict.proof],
        "reasons": list(verdict.reasons),
        "planned": None if planned is None else route_id in planned.split,
        "declined": None if planned is None else planned.declined.get(route_id),
    }


def print_verdicts(answer: HotAnswer, top: int) -> None:
    """Print the verdicts as a table with one line of summary."""
    rows = [
        [
            str(v.route.route_id),
            str(v.route.span),
            str(v.route.group),
            v.verdict.value,
            percent(v.share),
            _rate(v.per_minute),
            _rate(v.peak_per_minute),
            _why(v, answer.planned),
        ]
        for v in answer.verdicts[:top]
    ]
    rates = ("share of all", "latest window, per minute", "peak")
    names = ["route", "span", "group", "verdict", *rates, "why"]
    if not any(row[-1] for row in rows):
        names, rows = names[:-1], [row[:-1] for row in rows]
    left = {"span", "verdict", "why"}
    columns = [(name, "left" if name in left else "right") for name in names]
    window = f"{rfc3339(answer.since)} to {rfc3339(answer.until)}"
    print_table(
        f"Routes of {answer.cluster} by {answer.objective} a minute, {window}", columns, rows
    )
    hidden = len(answer.verdicts) - len(rows)
    more = f"; {hidden} more with --top {len(answer.verdicts)}" if hidden > 0 else ""
    click.echo(f"{_counts(answer)}{more}")
    peaks = [
        (v.peak_per_minute, v.peak_at, v.route.route_id)
        for v in answer.verdicts
        if v.peak_per_minute is not None and v.peak_at is not None
    ]
    if not any(v.verdict == "hot" for v in answer.verdicts) and peaks:
        rate, moment, route_id = max(peaks)
        click.echo(
            f"the highest was {_rate(rate)} a minute, on route {route_id} at {rfc3339(moment)}; "
            "what is not hot may still be worth balancing: see `workbench plan`"
        )
    _print_hot_keys(answer)
    if answer.objective != answer.asked:
        warn(
            f"judged by {answer.objective}: what {answer.asked} counts was nowhere measured in "
            "that time"
        )
    _warn_of_unattributed(answer)


def _why(verdict: RouteVerdict, planned: Planned | None) -> str:
    """Return a verdict's reasons; of a cold route, none that the rate beside it gives already."""
    told = verdict.verdict is Verdict.COLD
    said = [*(verdict.reasons[1:] if told else verdict.reasons)]
    if planned is not None and verdict.verdict in {Verdict.HOT, Verdict.COOLING}:
        said.append(_plan_says(verdict.route.route_id, planned))
    return "; ".join(filter(None, said))


def _plan_says(route_id: int, planned: Planned) -> str:
    if route_id in planned.split:
        return f"plan {planned.plan_id[:8]} acts on it"
    reason = planned.declined.get(route_id)
    return "" if reason is None else f"plan {planned.plan_id[:8]} declines it: {reason}"


def _print_hot_keys(answer: HotAnswer) -> None:
    """Print the keys that carry much of a route that is not cold."""
    warm = {v.route.route_id for v in answer.verdicts if v.verdict is not Verdict.COLD}
    rows = [
        [
            str(each.route_id),
            printable_key(each.key) if each.key else "(empty)",
            f"{each.count:,}",
            percent(each.share),
        ]
        for each in answer.hot_keys
        if each.route_id in warm
    ]
    if rows:
        names = (("route", "right"), ("key", "left"), ("accesses", "right"), ("share", "right"))
        shown = rows[:HOT_KEYS_SHOWN]
        told = {v.route.route_id for v in answer.verdicts if v.share is not None}
        # Such keys beside a route whose share is not measured would read as a contradiction.
        where = (
            ""
            if any(each.route_id in told for each in answer.hot_keys)
            else ", of accesses in no whole load window"
        )
        title = f"Keys that carry much of their route, at the least{where}"
        print_table(title, list(names), shown)
        if len(rows) > len(shown):
            click.echo(f"{counted(len(rows) - len(shown), 'more key')} with --json")


def _warn_of_unattributed(answer: HotAnswer) -> None:
    """Say what the shares leave out."""
    lost = answer.unattributed
    if lost.buckets == 0:
        return
    buckets = counted(lost.buckets, "bucket")
    part = "load of unknown size" if lost.share is None else f"{percent(lost.share)} of the load"
    warn(
        f"{part} is left out: it was measured in {buckets} across a bound of the routes as they "
        "are now (--since takes a later start)"
    )


def _counts(answer: HotAnswer) -> str:
    """Return how many routes got which verdict, the gravest first."""
    kinds = [v.verdict.value for v in answer.verdicts]
    numbers = {kind: kinds.count(kind) for kind in ("hot", *dict.fromkeys(kinds))}
    limit = answer.rule.threshold_per_minute
    under = "" if limit is None else f" (under {limit:,.0f} a minute)"
    return f"of {counted(len(kinds), 'route')} " + ", ".join(
        f"{n} {kind}{under if kind == Verdict.COLD else ''}" for kind, n in numbers.items()
    )


def _rate(per_minute: float | None) -> str:
    return "not measured" if per_minute is None else f"{per_minute:,.0f}"


@click.command()
@catalog_option
@cluster_option
@window_options
@click.option(
    "--series",
    type=click.Choice(list(OBJECTIVES)),
    default="score",
    show_default=True,
)
@click.option(
    "--of",
    "cells",
    type=click.Choice(["bucket", "route"]),
    default="bucket",
    show_default=True,
    help="Whose load a cell shows: its key range's own, or that of the whole route.",
)
@click.option("--plan", "plan_reference", metavar="PLAN", help="Draw this plan's split keys.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("heat.png"),
    show_default=True,
    help="A .png picture, or a .html page that tells the exact load of each cell.",
)
@json_option
def heatmap(
    catalog_url: str,
    cluster: str | None,
    since: str | None,
    until: str | None,
    series: str,
    cells: str,
    plan_reference: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Draw load over time and key range as a picture, or as a page to point at.

    The page is one file: it opens offline and asks nobody for anything.

    \b
    Examples:
      workbench heatmap --out heat.png
      workbench heatmap --out heat.html --of route
      workbench heatmap --series writes --plan 3f2a --out writes.png
    """
    from workbench.errors import InvalidArgument
    from workbench.session.cluster import open_cluster
    from workbench.session.files import write_file
    from workbench.session.look import heat
    from workbench.session.plans import resolve_plan
    from workbench.session.wiring import open_catalog

    if out.suffix not in HEATMAP_SUFFIXES:
        raise InvalidArgument(
            f"--out {str(out)!r} does not end with {' or '.join(HEATMAP_SUFFIXES)}",
            code="heatmap_format_unknown",
            hint="name a .png or a .html file",
        )
    catalog = open_catalog(catalog_url)
    view = open_cluster(catalog, cluster)
    start, end = view.window(since, until)
    cuts: tuple[bytes, ...] = ()
    if plan_reference is not None:
        found = resolve_plan(catalog, plan_reference)
        cuts = tuple(
            sorted(each.split_key for each in found.actions if each.kind is not ActionKind.MOVE)
        )
    with progress_bar() as progress:
        progress("drawing", 0, None)
        series = OBJECTIVES[series].name
        matrix = heat(view, since=start, until=end, series=series, whole_routes=cells == "route")
        of = "" if cells == "bucket" else " of the whole route"
        title = f"{view.name}: {series}{of}, {rfc3339(start)} to {rfc3339(end)}"
        content = _drawn(matrix, out, title, cuts)
        write_file(out, content)
    rows, columns = matrix.values.shape
    if as_json:
        fields = {"out": str(out), "bytes": len(content), "buckets": rows, "windows": columns}
        emit("heatmap", {"cluster": view.name, "series": series, "of": cells, **fields})
        return
    cells = f"{counted(rows, 'bucket')} x {counted(columns, 'window')}"
    click.echo(f"wrote {out}: {cells}, {counted(len(content), 'byte')}")


def _drawn(matrix: HeatMatrix, out: Path, title: str, cuts: tuple[bytes, ...]) -> bytes:
    """Return the picture or the page, by the name of the file."""
    if out.suffix == ".html":
        from workbench.report.heat_html import heat_html

        return heat_html(matrix, title=title, cut_keys=cuts).encode()
    from workbench.report.png import heat_png

    return heat_png(matrix, title=title, cut_keys=cuts)
