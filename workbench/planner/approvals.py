"""Unattended approval: may this plan be approved without a human, now?

An approval policy is a set of limits that a human wrote down beforehand. A plan is approved as a
whole or not at all, and every limit that it breaks is named: a half-approved plan would bring
less than its forecast, and a refusal without its reason cannot be mended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workbench.model.plan import ActionKind
from workbench.model.plan_given import EvidenceCertainty
from workbench.planner.words import backtest_doubt

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.model.keys import Span
    from workbench.model.plan import Plan
    from workbench.model.plan_parts import Backtest

_UNITS: Final = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000))


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """Limits for approving without a human; None means no limit.

    Attributes:
        name: Recorded as `policy:NAME`.
        sha256: Of the policy's text; recorded with every decision.
        max_splits: At most so many split actions.
        max_bytes_moved: At most so many bytes change group.
        min_gain: By which fraction the hottest route must fall.
        hours: Hours of the day, UTC, as [from, to); may pass midnight.
        forbidden: Spans in which no split key may lie.
        max_age_ms: How old the end of the plan's evidence may be.
        require_backtest: There must be a back-test, and by `outcome` its forecast held.
        certainty: How well the load of each route that is acted on must be known.
    """

    name: str
    sha256: str
    max_splits: int | None = None
    max_bytes_moved: int | None = None
    min_gain: float | None = None
    hours: tuple[int, int] | None = None
    forbidden: tuple[Span, ...] = ()
    max_age_ms: int | None = None
    require_backtest: bool = False
    certainty: EvidenceCertainty | None = None


def broken_limits(plan: Plan, policy: ApprovalPolicy, now: datetime) -> list[str]:
    """Return every limit that the plan breaks, as sentences; empty means approve."""
    return [*_size(plan, policy), *_certainty(plan, policy), *_time(plan, policy, now)]


def _size(plan: Plan, policy: ApprovalPolicy) -> list[str]:
    broken = []
    splits = sum(action.kind is not ActionKind.MOVE for action in plan.actions)
    known = [each.bytes_moved for each in plan.actions if each.bytes_moved is not None]
    moved = sum(known)
    if policy.max_splits is not None and splits > policy.max_splits:
        broken.append(f"it has {splits} splits, {policy.max_splits} are allowed")
    if policy.max_bytes_moved is not None and len(known) < len(plan.actions):
        broken.append(
            "it moves routes whose stored bytes are not known, and there is a limit on them"
        )
    if policy.max_bytes_moved is not None and moved > policy.max_bytes_moved:
        broken.append(f"it moves {moved} bytes, {policy.max_bytes_moved} are allowed")
    broken += [
        f"{action.action_id} cuts inside the forbidden span {span}"
        for action in plan.actions
        for span in policy.forbidden
        if action.kind is not ActionKind.MOVE and action.split_key in span
    ]
    return broken


def _certainty(plan: Plan, policy: ApprovalPolicy) -> list[str]:
    broken = []
    marks = plan.bottleneck
    gain = (marks.before - marks.after) / marks.before
    if policy.min_gain is not None and gain < policy.min_gain:
        broken.append(f"the hottest route falls by {gain:.1%}, {policy.min_gain:.1%} are asked for")
    if policy.certainty is not None:
        broken += _evidence(plan, policy.certainty)
    if policy.require_backtest:
        broken += _backtest(plan.backtest)
    return broken


def _backtest(seen: Backtest | None) -> list[str]:
    if seen is None:
        return ["it has no back-test, and one is asked for"]
    doubt = backtest_doubt(seen)
    return [] if doubt is None else [doubt]


def _evidence(plan: Plan, least: EvidenceCertainty) -> list[str]:
    """Return the acted routes whose load is known less well than is asked for."""
    if plan.given is None:
        return [f"it does not tell how certain its evidence is, {least} is asked for"]
    rank = list(EvidenceCertainty)
    acted = [action.span.start for action in plan.actions]
    return [
        f"the load of route {told.route_id} is {told.certainty}, {least} is asked for"
        for told, route in zip(plan.given.routes, plan.routes_before, strict=True)
        if rank.index(told.certainty) > rank.index(least)
        and any(start in route.span for start in acted)
    ]


def _time(plan: Plan, policy: ApprovalPolicy, now: datetime) -> list[str]:
    broken = []
    if policy.hours is not None and not _within(now.hour, policy.hours):
        first, last = policy.hours
        broken.append(f"it is {now:%H:%M} UTC, allowed are {first:02d}:00 to {last:02d}:00")
    if policy.max_age_ms is not None:
        age_ms = int((now - plan.until).total_seconds() * 1_000)
        if age_ms > policy.max_age_ms:
            broken.append(
                f"its evidence ends {_age_text(age_ms)} ago, "
                f"{_age_text(policy.max_age_ms)} are allowed"
            )
    return broken


def _age_text(age_ms: int) -> str:
    """Return an age in the largest unit of which it has two."""
    for unit, unit_ms in _UNITS:
        if age_ms >= 2 * unit_ms or age_ms == unit_ms:
            number = round(age_ms / unit_ms, 1)
            text = f"{number:,.0f}" if number.is_integer() else f"{number:,.1f}"
            return f"{text} {unit}{'' if number == 1 else 's'}"
    return f"{age_ms} ms"


def _within(hour: int, hours: tuple[int, int]) -> bool:
    """Tell whether `hour` lies in [from, to), which may pass midnight."""
    first, last = hours
    return first <= hour < last if first < last else hour >= first or hour < last
