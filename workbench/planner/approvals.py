"""Unattended approval: may this plan be approved without a human, now?

An approval policy is a set of limits that a human wrote down beforehand. A plan is approved as a
whole or not at all, and every limit that it breaks is named: a half-approved plan would bring
less than its forecast, and a refusal without its reason cannot be mended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.model.plan import ActionKind
from workbench.planner.replay import FORECAST_SLACK

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.model.keys import Span
    from workbench.model.plan import Plan
    from workbench.model.plan_parts import Backtest


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
        require_backtest: The back-test must have held: the hottest route within the forecast's
            slack, and lighter than without the splits.
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
    if policy.require_backtest:
        broken += _backtest(plan.backtest)
    return broken


def _backtest(seen: Backtest | None) -> list[str]:
    if seen is None:
        return ["it has no back-test, and one is asked for"]
    if seen.max_share_came >= seen.max_share_without:
        return ["in the back-test the splits did not help"]
    if seen.max_share_came > seen.max_share_forecast * (1 + FORECAST_SLACK):
        came, promised = f"{seen.max_share_came:.1%}", f"{seen.max_share_forecast:.1%}"
        return [f"in the back-test the hottest route came to {came}, {promised} were forecast"]
    return []


def _time(plan: Plan, policy: ApprovalPolicy, now: datetime) -> list[str]:
    broken = []
    if policy.hours is not None and not _within(now.hour, policy.hours):
        first, last = policy.hours
        broken.append(f"it is {now:%H:%M} UTC, allowed are {first:02d}:00 to {last:02d}:00")
    if policy.max_age_ms is not None:
        age_ms = int((now - plan.until).total_seconds() * 1_000)
        if age_ms > policy.max_age_ms:
            broken.append(
                f"its evidence ends {age_ms // 60_000} minutes ago, "
                f"{policy.max_age_ms // 60_000} are allowed"
            )
    return broken


def _within(hour: int, hours: tuple[int, int]) -> bool:
    """Tell whether `hour` lies in [from, to), which may pass midnight."""
    first, last = hours
    return first <= hour < last if first < last else hour >= first or hour < last
