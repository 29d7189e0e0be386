"""View models: everything the page shows, formatted and in order.

    ReportInputs ──report_view──▶ ReportView ──▶ the HTML page, the widgets

The answer comes first: the hottest route's share before, the forecast, what came or would have
come, and whether the forecast held. All text in a view is cleaned and formatted; templates only
place it. Pure: no clock, no file. Neither Pillow nor Jinja2 is imported here.

Whether the forecast held is `planner.replay.Outcome`, and beside it:

    open     nothing was replayed yet
    idle     the plan has no actions
    would    it was replayed on routes that the live cluster does not have
    void     the load in the catalog is not the load that the plan was made from
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from workbench.errors import WorkbenchError
from workbench.model.plan import ActionKind
from workbench.model.times import parse_time, rfc3339
from workbench.report import words
from workbench.report.charts import (
    Axis,
    Block,
    Line,
    LineChart,
    Mark,
    Skyline,
    axis,
)
from workbench.report.executed_view import ExecutedCall, executed_table
from workbench.report.group_view import GroupLoads, group_loads
from workbench.report.headline import Headline, Measured, headline
from workbench.report.heat_view import Cut, HeatFigure, load_figures, owner_figure
from workbench.report.plan_view import PlanView, objective_text, plan_view, share_of
from workbench.report.tables import Column, Table, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from workbench.heat.matrix import HeatMatrix
    from workbench.model.keys import Span
    from workbench.model.plan import Plan
    from workbench.planner.detect import RouteVerdict
    from workbench.planner.replay import Verification

# A forecast share of 10 % holds up to 11 %.
LINE_POINTS_MAX: Final = 360
SKYLINE_BLOCKS_MAX: Final = 400
HOT_RANGES_MAX: Final = 12
TIME_TICKS_MAX: Final = 5
REASONS_MAX: Final = 4
# In a legend, where the cluster does not have the routes that the plan leaves.
WOULD: Final = "after all of the plan, as it would be"


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """What a report is made of.

    Attributes:
        title: Heading of the page.
        cluster: Whose routes these are; untrusted text.
        source: Where the load came from; untrusted text.
        assumptions: What was assumed when the data were made.
        warnings: What the reader must know; sentences.
        plan: The plan.
        verdicts: Detection's answers, hottest first.
        heat: Load by key and time in the plan's window.
        heat_after: The same in the replayed window, with the same rows.
        verification: The forecast beside later load, replayed; None before that.
        approval: `by`, `at`, and `actions` (`1 of 2 actions`) where only some; None for none.
        made_at: When the report was made.
        version: Of the workbench.
        false_claims: What of the plan's own numbers the load behind it contradicts.
        facts: More to say of the run at the top, by name.
        executed: The calls that were made for the plan, in order.
        measured: What came on the routes of a live cluster; None for recorded load.
    """

    title: str
    cluster: str
    source: str
    assumptions: Mapping[str, str]
    warnings: Sequence[str]
    plan: Plan
    verdicts: Sequence[RouteVerdict]
    heat: HeatMatrix | None
    heat_after: HeatMatrix | None
    verification: Verification | None
    approval: Mapping[str, str] | None
    made_at: datetime
    version: str
    false_claims: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    executed: Sequence[ExecutedCall] = ()
    measured: Measured | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Before and after on one scale, from the replay."""

    heat: HeatFigure | None
    share: LineChart
    share_note: str
    share_table: Table


@dataclass(frozen=True, slots=True)
class RouteLoads:
    """Load per route before and after."""

    chart: Skyline
    note: str
    before: Table
    after: Table
    replayed: bool


@dataclass(frozen=True, slots=True)
class ReportView:
    """The page, part by part, in order."""

    title: str
    facts: tuple[tuple[str, str], ...]
    headline: Headline
    load: tuple[HeatFigure, ...]
    hot_ranges: Table | None
    compared: Compared | None
    groups: GroupLoads | None
    routes: RouteLoads
    plan: PlanView
    executed: Table | None
    replayed_text: str
    after_label: str
    verdicts: Table
    verdict_counts: str
    assumptions: Table
    warnings: tuple[str, ...]
    footer: tuple[tuple[str, str], ...]


def report_view(inputs: ReportInputs) -> ReportView:
    """Return the view models of a report; the same inputs give the same view."""
    plan, verification = inputs.plan, inputs.verification
    cuts = [
        Cut(number, action.split_key)
        for number, action in enumerate(plan.actions, start=1)
        if action.kind is not ActionKind.MOVE
    ]
    return ReportView(
        title=words.clean(inputs.title),
        facts=_facts(inputs),
        headline=headline(
            plan, verification, words.clean(inputs.cluster), inputs.false_claims, inputs.measured
        ),
        load=load_figures(inputs.heat, inputs.heat_after, cuts),
        hot_ranges=None if inputs.heat is None else _hot_ranges(inputs.heat),
        compared=None if verification is None else _compared(plan, verification, cuts),
        groups=None if verification is None else group_loads(plan, verification),
        routes=_route_loads(plan, verification),
        plan=plan_view(plan),
        executed=executed_table(inputs.executed),
        replayed_text=_replayed_text(plan, inputs.measured),
        after_label="after" if inputs.measured is None or inputs.measured.as_planned else WOULD,
        verdicts=_verdict_table(inputs.verdicts),
        verdict_counts=_verdict_counts(inputs.verdicts),
        assumptions=table(
            "assumptions",
            "What was assumed when the data were made",
            (Column("What"), Column("Value")),
            ((words.clean(name), words.clean(value)) for name, value in inputs.assumptions.items()),
        ),
        warnings=tuple(words.clean(warning) for warning in inputs.warnings),
        footer=(
            ("Plan", plan.plan_id),
            ("Content hash", plan.content_hash),
            ("Policy", words.clean(plan.policy)),
            ("Catalog version", str(plan.catalog_version)),
            ("Made", words.instant(inputs.made_at)),
            ("Workbench", words.clean(inputs.version)),
        ),
    )


def _facts(inputs: ReportInputs) -> tuple[tuple[str, str], ...]:
    plan, approval = inputs.plan, inputs.approval
    facts = [
        ("Cluster", words.clean(inputs.cluster)),
        ("Source", words.clean(inputs.source)),
        ("Planned on", words.time_range(plan.since, plan.until)),
    ]
    if inputs.verification is not None:
        seen = inputs.verification
        facts.append(("Checked on", words.time_range(seen.since, seen.until)))
    facts += [
        ("Load", objective_text(plan.objective)),
        ("Plan", plan.plan_id),
        (
            "Approval",
            "not approved" if approval is None else ", ".join(_approval_words(approval)),
        ),
    ]
    facts += [(words.clean(name), words.clean(value)) for name, value in inputs.facts]
    return tuple(facts)


def _replayed_text(plan: Plan, measured: Measured | None) -> str:
    """Return what was compared, in a sentence."""
    if measured is None:
        what = "accesses" if plan.atom_kind == "key" else "load windows"
        return (
            f"The same recorded {what}, counted on the routes as they were and on the routes that "
            "the plan leaves. The plan had not seen them."
        )
    if not measured.as_planned:
        return (
            "The load windows that came later, counted on the routes that the plan found and on "
            "those that all of it would leave. The newest collected routes are not those "
            f"({measured.applied_text(plan)})."
        )
    if not plan.actions:
        return (
            "The load windows that came later, counted on the routes that the plan found, which "
            "it leaves as they are."
        )
    return (
        "The load windows that came after the plan was executed, counted on the routes as they "
        "would still be without it, and on the routes that it left."
    )


def _approval_words(approval: Mapping[str, str]) -> list[str]:
    """Return who approved, when, and how much of the plan where that was recorded."""
    at = approval.get("at", "time unknown")
    with suppress(WorkbenchError):
        at = words.instant(parse_time(at))
    said = [approval.get("by", "unknown"), at]
    if "actions" in approval:
        said.append(approval["actions"])
    return [words.clean(each) for each in said]


def _hot_ranges(heat: HeatMatrix) -> Table | None:
    """Return the heaviest key ranges: the heat picture in words."""
    if not heat.values.size:
        return None
    totals = np.nansum(heat.values, axis=1)
    total = float(totals.sum())
    order = sorted(range(len(totals)), key=lambda row: (-totals[row], row))
    peaks = [
        (row, int(np.nan_to_num(heat.values[row], nan=-1.0).argmax()))
        for row in order[:HOT_RANGES_MAX]
    ]
    return table(
        "hot-ranges",
        f"The heaviest {min(HOT_RANGES_MAX, len(totals))} of "
        f"{words.plural(len(totals), 'key range')}",
        (
            Column("Keys", "key"),
            Column("Load", "number"),
            Column("Share", "number"),
            Column("Busiest window"),
            Column("Load in it", "number"),
        ),
        (
            (
                words.span_text(heat.spans[row]),
                words.whole(float(totals[row])),
                share_of(float(totals[row]), total),
                words.instant(heat.times[peak]),
                words.whole(float(np.nan_to_num(heat.values[row, peak]))),
            )
            for row, peak in peaks
        ),
    )


def _compared(plan: Plan, seen: Verification, cuts: Sequence[Cut]) -> Compared:
    before, after = seen.before.max_share_per_window, seen.after.max_share_per_window
    step = max(-(-max(len(before), len(after)) // LINE_POINTS_MAX), 1)
    lines = (
        Line("before", _pooled(before, step)),
        Line("after", _pooled(after, step)),
    )
    top = max((value for line in lines for value in line.values if value is not None), default=0.0)
    top = max(top, plan.max_share_after)
    columns = max(len(line.values) for line in lines)
    ticks = words.time_ticks(seen.before.times[::step], TIME_TICKS_MAX)
    length = words.length(seen.before.window_ms)
    pooled = "" if step == 1 else f"; each step is the highest of {step} windows"
    return Compared(
        heat=owner_figure(seen, cuts),
        share=LineChart(
            name="share",
            label="Hottest route's share of the load in each window. Over all windows: before "
            f"{words.percent(seen.before.max_share)}, after {words.percent(seen.after.max_share)}, "
            f"forecast {words.percent(seen.forecast_share)}.",
            x=Axis(float(max(columns, 1)), tuple(ticks), "time, UTC"),
            y=axis(top, "share", lambda share: f"{share * 100:.3g}%"),
            lines=lines,
            marks=(Mark(seen.forecast_share, "forecast"),),
        ),
        share_note=f"Windows of {length}{pooled}. Of each window's load, the part on the route "
        "that was hottest in it: before, on the routes as they were; after, on those that the plan "
        "leaves. The forecast is about the whole time, in which it is "
        f"{words.percent(seen.before.max_share)} before and "
        f"{words.percent(seen.after.max_share)} after; bursts lift the share of single windows.",
        share_table=_share_table(seen),
    )


def _pooled(values: np.ndarray, step: int) -> tuple[float | None, ...]:
    """Return the largest of every `step` values; None where none of them is a number."""
    groups = (values[at : at + step] for at in range(0, len(values), step))
    return tuple(None if np.isnan(group).all() else float(np.nanmax(group)) for group in groups)


def _share_table(seen: Verification) -> Table:
    shares = zip(
        seen.before.times,
        seen.before.max_share_per_window,
        seen.after.max_share_per_window,
        strict=True,
    )
    return table(
        "share",
        "Hottest route's share of the load in each window",
        (Column("Window"), Column("Before", "number"), Column("After", "number")),
        (
            (
                words.instant(start),
                *("no load" if np.isnan(share) else words.percent(share) for share in pair),
            )
            for start, *pair in shares
        ),
    )


def _route_loads(plan: Plan, seen: Verification | None) -> RouteLoads:
    """Return load per route: what came where it was replayed, else what the plan was made on."""
    spans = [route.span for route in plan.routes_before]
    spans_after = [route.span for route in plan.routes_after]
    before = [route.load for route in plan.routes_before]
    forecast = [route.load for route in plan.routes_after]
    after = forecast
    if seen is not None:
        before, after = seen.before.totals.tolist(), seen.after.totals.tolist()
    total = sum(after) or 1
    scale = total / (sum(forecast) or 1)
    edges = sorted({span.start for span in (*spans, *spans_after)})
    forecast_blocks = _blocks(spans_after, [load * scale for load in forecast], edges)
    top = max((*before, *after, *(block.value for block in forecast_blocks)), default=0)
    step = max(-(-len(edges) // SKYLINE_BLOCKS_MAX), 1)
    mean = total / max(len(after), 1)
    chart = Skyline(
        name="routes",
        label=f"Load per route in key order. Before, the heaviest of "
        f"{words.plural(len(before), 'route')} has {share_of(max(before, default=0), total)}; "
        f"after, the heaviest of {words.plural(len(after), 'route')} has "
        f"{share_of(max(after, default=0), total)}. The mean after is {share_of(mean, total)}.",
        x=Axis(float(max(len(edges), 1)), (), "routes in key order, lowest key left"),
        y=axis(top / total, "share of the load", lambda share: f"{share * 100:.3g}%"),
        before=_relative(_thinned(_blocks(spans, before, edges), step), total),
        after=_relative(_thinned(_blocks(spans_after, after, edges), step), total),
        expected=_relative(_thinned(forecast_blocks, step), total) if seen is not None else (),
        marks=(Mark(mean / total, "bound"),),
    )
    thinned = f" Each bar is the heaviest of {step} neighbouring routes." if step > 1 else ""
    return RouteLoads(
        chart=chart,
        note="The outline is a route as it was, the bars below it are its parts." + thinned,
        before=_load_table("routes-before", "Routes before", spans, before, None),
        after=_load_table(
            "routes-after",
            "Routes after",
            spans_after,
            after,
            [load * scale for load in forecast] if seen is not None else None,
        ),
        replayed=seen is not None,
    )


def _blocks(spans: Sequence[Span], loads: Sequence[float], edges: Sequence[bytes]) -> list[Block]:
    """Return a bar per route, as wide as the number of finest ranges that it holds."""
    return [
        Block(
            float(bisect_left(edges, span.start)),
            float(len(edges) if span.end is None else bisect_left(edges, span.end)),
            float(load),
        )
        for span, load in zip(spans, loads, strict=True)
    ]


def _thinned(blocks: Sequence[Block], step: int) -> list[Block]:
    """Return the heaviest of every `step` neighbours, as wide as all of them."""
    groups = [blocks[at : at + step] for at in range(0, len(blocks), step)]
    return [
        Block(group[0].low, group[-1].high, max(block.value for block in group)) for group in groups
    ]


def _relative(blocks: Sequence[Block], total: float) -> tuple[Block, ...]:
    return tuple(Block(block.low, block.high, block.value / total) for block in blocks)


def _load_table(
    name: str,
    caption: str,
    spans: Sequence[Span],
    loads: Sequence[int],
    forecast: Sequence[float] | None,
) -> Table:
    total = sum(loads)
    columns = [Column("Keys", "key"), Column("Load", "number"), Column("Share", "number")]
    if forecast is not None:
        columns.append(Column("Forecast share", "number"))
    return table(
        name,
        f"{caption}, in key order",
        columns,
        (
            (
                words.span_text(span),
                words.whole(load),
                share_of(load, total),
                *(() if forecast is None else (share_of(forecast[row], sum(forecast)),)),
            )
            for row, (span, load) in enumerate(zip(spans, loads, strict=True))
        ),
    )


def _verdict_table(verdicts: Sequence[RouteVerdict]) -> Table:
    return table(
        "verdicts",
        "Verdict of the paging rule for every route, hottest first",
        (
            Column("Route", "id"),
            Column("Keys", "key"),
            Column("Group", "number"),
            Column("Verdict", "verdict"),
            Column("Load", "number"),
            Column("Share", "number"),
            Column("Per minute", "number"),
            Column("Why"),
        ),
        (
            (
                str(each.route.route_id),
                words.span_text(each.route.span),
                str(each.route.group),
                words.clean(str(each.verdict)),
                "not measured" if each.load is None else words.whole(each.load),
                "not measured" if each.share is None else words.percent(each.share),
                "not measured" if each.per_minute is None else words.whole(each.per_minute),
                "; ".join(words.clean(reason) for reason in _reasons(each)),
            )
            for each in verdicts
        ),
    )


def _reasons(verdict: RouteVerdict) -> tuple[str, ...]:
    """Return the reasons, and the windows that prove a streak."""
    given = verdict.reasons[:REASONS_MAX]
    if not verdict.proof:
        return given
    last = rfc3339(verdict.proof[-1])
    return (*given, f"windows that prove it: {len(verdict.proof)}, the last at {last}")


def _verdict_counts(verdicts: Sequence[RouteVerdict]) -> str:
    if not verdicts:
        return "No route was judged."
    counts = Counter(str(each.verdict) for each in verdicts)
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    judged = f"{words.plural(len(verdicts), 'route')} judged: {listed}."
    if counts["hot"]:
        return judged
    return f"{judged} No route is hot by the paging rule; a plan can be worth it all the same."
