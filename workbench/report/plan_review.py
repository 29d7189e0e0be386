"""A plan as it is reviewed: each action with its evidence, and what was decided about it.

    plan ──summarise──▶ PlanSummary                 once per plan
    plan, standings ──review_page──▶ ReviewPage     one page of actions, at every change

Rules:

- Before and after have one scale: colours and bars of all actions are shares of the load that
  the hottest route has now.
- A standing comes from what the catalog keeps, never from what was pressed.

Not here: deciding (`session.approval`), executing, drawing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from workbench.model.plan import ActionKind
from workbench.planner.words import declined_by_reason, is_placing_only
from workbench.planner.words import headline as what_it_brings
from workbench.report import words
from workbench.report.palette import cividis, linear_levels
from workbench.report.plan_view import NO_UNDO, Level, objective_text, plan_view, share_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from workbench.model.plan import Action, Plan, RouteLoad

PAGE_ROWS: Final = 8
STRIP_CELLS_MAX: Final = 240
REASONS_MAX: Final = 6
DECLINED_MAX: Final = 20


class Standing(StrEnum):
    """Where an action stands.

    proposed   nobody decided
    approved   it may be applied
    rejected   somebody decided against it
    withdrawn  it was approved, and that was taken back
    running    it is being applied now
    applied    it is made
    failed     the system refused it for good
    stale      it cannot be made any more: the routes are others
    """

    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    RUNNING = "running"
    APPLIED = "applied"
    FAILED = "failed"
    STALE = "stale"

    @property
    def open(self) -> bool:
        """Whether a decision can still change anything."""
        return self not in {Standing.RUNNING, Standing.APPLIED, Standing.STALE}


@dataclass(frozen=True, slots=True)
class ActionStanding:
    """Where an action stands, by whom and since when; `note` says why."""

    standing: Standing
    by: str = ""
    at: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A route in a strip: where, how wide, its colour, and the load in words."""

    low_percent: float
    width_percent: float
    colour: str
    label: str


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """One action as it is shown.

    Attributes:
        number: Place in the order, from 1.
        action_id: As in the plan, for buttons.
        title: What it does.
        key: The split key.
        where: The route and its span.
        parent: Load of the route before.
        left: Load below the split key, with its share of the parent.
        right: Load from it on, likewise.
        hottest: The hottest route before and after this action, as shares.
        before: The route as it is.
        after: Its children, as wide as their load.
        reasons: Sentences.
        standing: Where it stands.
        told: The same with who and when.
        who: Who and when alone; empty where nobody did.
        note: Why, or what stands in the way; may be empty.
        can_approve: Whether approving would change anything.
        can_reject: Likewise.
    """

    number: int
    action_id: str
    title: str
    key: str
    where: str
    parent: str
    left: str
    right: str
    hottest: str
    before: tuple[Cell, ...]
    after: tuple[Cell, ...]
    reasons: tuple[str, ...]
    standing: Standing
    told: str
    who: str
    note: str
    can_approve: bool
    can_reject: bool


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What is the same on every page.

    Attributes:
        plan_id: Of the plan.
        content_hash: To which approvals bind.
        headline: What the plan brings, in a sentence.
        facts: Names and texts.
        levels: Now, after, and the bounds, on one scale.
        sentences: Bound, forecast and certainty.
        before: All routes as they are.
        after: All routes as the plan leaves them, in the same colours.
        strip_label: Both strips in words.
        declined: (routes, reason).
        declined_more: How many reasons are not shown.
        no_undo: That a split stays.
    """

    plan_id: str
    content_hash: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    levels: tuple[Level, ...]
    sentences: tuple[str, ...]
    before: tuple[Cell, ...]
    after: tuple[Cell, ...]
    strip_label: str
    declined: tuple[tuple[str, str], ...]
    declined_more: int
    no_undo: str = NO_UNDO


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """One page of a plan's actions.

    Attributes:
        rows: At most as many as were asked for.
        page: From 0; one beyond the last is the last.
        pages: At least 1.
        total: How many actions the plan has.
        counts: How many actions stand how.
        approvable: How many actions nobody decided on: what `approve all` approves.
        rejectable: How many `reject all` would reject.
        applicable: How many approved actions are not applied.
        stale: Why the plan cannot be applied any more; empty where it can.
    """

    rows: tuple[ReviewRow, ...]
    page: int
    pages: int
    total: int
    counts: tuple[tuple[str, int], ...]
    approvable: int
    rejectable: int
    applicable: int
    stale: str


def summarise(plan: Plan) -> PlanSummary:
    """Return what all pages of a plan's review share; pure."""
    # The page's view cleans every declined route; the review shows each reason once.
    seen = plan_view(replace(plan, declined=()))
    declined = declined_by_reason(plan)
    top = _top(plan)
    before, after = words.percent(plan.max_share_before), words.percent(plan.max_share_after)
    routes = len(plan.routes_before), len(plan.routes_after)
    headline = (
        f"The hottest route's share of the load falls from {before} to {after}"
        if plan.actions
        else seen.nothing
    )
    if is_placing_only(plan):
        headline = what_it_brings(plan)
    return PlanSummary(
        plan_id=plan.plan_id,
        content_hash=plan.content_hash,
        headline=headline,
        facts=(
            ("Cluster", words.clean(plan.cluster)),
            ("Evidence", words.time_range(plan.since, plan.until)),
            ("Balances", objective_text(plan.objective)),
            ("Policy", words.clean(plan.policy)),
            ("Catalog version", str(plan.catalog_version)),
            ("Routes", f"{routes[0]:,} → {routes[1]:,}"),
            ("Hash", plan.content_hash[:16]),
        ),
        levels=seen.bound.levels,
        sentences=seen.bound.sentences,
        before=_strip(plan.routes_before, plan, top),
        after=_strip(plan.routes_after, plan, top),
        strip_label=f"Load per route in key order, on one colour scale: before, the hottest of "
        f"{words.plural(routes[0], 'route')} has {before}; after, the hottest of "
        f"{words.plural(routes[1], 'route')} has {after}.",
        declined=tuple(
            (words.clean(which), words.clean(why)) for which, why in declined[:DECLINED_MAX]
        ),
        declined_more=max(len(declined) - DECLINED_MAX, 0),
    )


def review_page(
    plan: Plan,
    standings: Mapping[str, ActionStanding],
    *,
    page: int = 0,
    page_rows: int = PAGE_ROWS,
    stale: str = "",
) -> ReviewPage:
    """Return one page of actions with where they stand.

    Args:
        plan: The plan.
        standings: By action id; an action that is missing is proposed.
        page: From 0.
        page_rows: At least 1.
        stale: Why nothing of it can be applied any more.
    """
    total = len(plan.actions)
    pages = max(-(-total // page_rows), 1)
    at = min(max(page, 0), pages - 1)
    proposed = ActionStanding(Standing.PROPOSED)
    stands = [standings.get(action.action_id, proposed) for action in plan.actions]
    first = at * page_rows
    top = _top(plan)
    counts = Counter(each.standing.value for each in stands)
    return ReviewPage(
        rows=tuple(
            _row(number, plan.actions[number - 1], stands[number - 1], plan, top, stale)
            for number in range(first + 1, min(first + page_rows, total) + 1)
        ),
        page=at,
        pages=pages,
        total=total,
        counts=tuple((each.value, counts[each.value]) for each in Standing if counts[each.value]),
        approvable=0 if stale else counts[Standing.PROPOSED.value],
        rejectable=sum(_can_reject(each.standing) for each in stands),
        applicable=sum(
            each.standing in {Standing.APPROVED, Standing.FAILED, Standing.RUNNING}
            for each in stands
        ),
        stale=words.clean(stale),
    )


def _row(  # noqa: PLR0913, PLR0917 - one call
    number: int, action: Action, stand: ActionStanding, plan: Plan, top: float, stale: str
) -> ReviewRow:
    seen, total = action.evidence, plan.total_load
    parent = seen.parent_load
    children = (("left", seen.left_load), ("right", seen.right_load))
    hottest = share_of(seen.bottleneck_before, total), share_of(seen.bottleneck_after, total)
    return ReviewRow(
        number=number,
        action_id=action.action_id,
        title=_title(action),
        key=words.key_text(action.split_key),
        where=f"route {action.route_id}: {words.span_text(action.span)}",
        parent=f"{words.whole(parent)} ({share_of(parent, total)} of all)",
        left=f"{words.whole(seen.left_load)} ({share_of(seen.left_load, parent)})",
        right=f"{words.whole(seen.right_load)} ({share_of(seen.right_load, parent)})",
        hottest=f"{hottest[0]} → {hottest[1]}",
        before=(Cell(0.0, 100.0, _colour(parent, top), f"before {words.whole(parent)}"),),
        after=_children(children, parent, top),
        reasons=tuple(words.clean(reason) for reason in action.reasons[:REASONS_MAX]),
        standing=stand.standing,
        told=f"{stand.standing.value} {_who(stand)}".strip(),
        who=_who(stand),
        note=words.clean(stand.note),
        can_approve=not stale and _can_approve(stand.standing),
        can_reject=_can_reject(stand.standing),
    )


def _title(action: Action) -> str:
    if action.kind is ActionKind.SPLIT:
        return "Split"
    rows = "rows not known" if action.rows_moved is None else words.plural(action.rows_moved, "row")
    size = action.bytes_moved
    moved = f"{rows}, {'bytes not measured' if size is None else words.plural(size, 'byte')}"
    if action.kind is ActionKind.MOVE:
        return f"Move to group {action.target_group} ({moved})"
    return f"Split, right part to group {action.target_group} ({moved})"


def _who(stand: ActionStanding) -> str:
    by = words.clean(stand.by.removeprefix("user:"))
    when = "" if stand.at is None else words.instant(stand.at)
    return ", ".join(filter(None, (f"by {by}" if by else "", when)))


def _can_approve(standing: Standing) -> bool:
    return standing in {Standing.PROPOSED, Standing.REJECTED, Standing.WITHDRAWN}


def _can_reject(standing: Standing) -> bool:
    return standing in {Standing.PROPOSED, Standing.APPROVED, Standing.FAILED}


def _children(children: Sequence[tuple[str, int]], parent: float, top: float) -> tuple[Cell, ...]:
    cells, at = [], 0.0
    for side, load in children:
        width = 100 * load / parent if parent else 50.0
        width = min(max(width, 0.0), 100.0 - at)
        cells.append(Cell(at, width, _colour(load, top), f"{side} part {words.whole(load)}"))
        at += width
    return tuple(cells)


def _strip(routes: Sequence[RouteLoad], plan: Plan, top: float) -> tuple[Cell, ...]:
    """Return the routes side by side in key order, each as wide as the ranges that it holds.

    Of more than STRIP_CELLS_MAX routes, neighbours are joined and the hottest of them is shown.
    """
    spans = (*plan.routes_before, *plan.routes_after)
    edges = sorted({route.span.start for route in spans})
    step = max(-(-len(routes) // STRIP_CELLS_MAX), 1)
    cells = []
    for at in range(0, len(routes), step):
        group = routes[at : at + step]
        end = group[-1].span.end
        low = bisect_left(edges, group[0].span.start)
        high = len(edges) if end is None else bisect_left(edges, end)
        load = max(route.load for route in group)
        one = len(group) == 1
        label = words.span_text(group[0].span) if one else words.plural(len(group), "route")
        cells.append(
            Cell(
                100 * low / len(edges),
                100 * (high - low) / len(edges),
                _colour(load, top),
                f"{label}: {share_of(load, plan.total_load)}",
            )
        )
    return tuple(cells)


def _top(plan: Plan) -> float:
    """Return the load of the brightest colour: the hottest route's, before or after."""
    return float(max(plan.bottleneck.before, plan.bottleneck.after, 1))


def _colour(load: float, top: float) -> str:
    [level] = linear_levels(np.array([load], dtype=np.float64), top).tolist()
    return "#{:02x}{:02x}{:02x}".format(*cividis()[level])
