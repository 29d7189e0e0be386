"""Detection: which routes are hot, since when, and why the others were not flagged.

A route is *hot* when its rate stays at or over the threshold for WINDOWS_HOT consecutive
windows. Null means not measured, so only what was measured proves anything:

    over      the count alone, less its error bound, reaches the threshold
    under     the window was measured in full and does not reach it
    unproven  anything else; it resets the streak, as a missing window does

    verdict   streak at the end   and
    hot       ≥ WINDOWS_HOT
    cooling   ≥ WINDOWS_HOT       the route was split less than COOLDOWN_MS ago
    warming   1 … WINDOWS_HOT-1
    cold      0                   the last window is proven under
    unknown   0                   the last window is missing or unproven

A window that is still open (no route measured it in full) is not judged.

A verdict is *certain* where every window of its proof was measured in full, and counted or told
by 1,537 samples or more (`intervals`); else it is *likely*, and one of unknown is *open*.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from workbench.model.times import from_us, hlc_to_us, rfc3339, to_us
from workbench.planner.intervals import SAMPLES_CERTAIN, is_certain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from workbench.model.routes import RouteDescriptor

THRESHOLD_PER_MINUTE: Final = 50_000
WINDOWS_HOT: Final = 3
COOLDOWN_MS: Final = 600_000
COVERAGE_FULL: Final = 0.999
MS_PER_MINUTE: Final = 60_000


class Verdict(StrEnum):
    """What the rules say of a route; see the module's table."""

    HOT = "hot"
    COOLING = "cooling"
    WARMING = "warming"
    COLD = "cold"
    UNKNOWN = "unknown"


class Certainty(StrEnum):
    """How sure a verdict is; see the module's last rule."""

    CERTAIN = "certain"
    LIKELY = "likely"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class RouteWindow:
    """Load of one route in one window.

    Attributes:
        route_id: The route.
        start: Start of the window.
        end: End of it.
        load: In the objective's unit; None where not measured.
        coverage: Fraction of the window that was measured, 0 to 1.
        error_bound: By how much `load` may be too high, in the same unit; of sampled load also
            by how much too low.
        samples: How many samples tell of it; None where every access was counted.
    """

    route_id: int
    start: datetime
    end: datetime
    load: int | None
    coverage: float = 1.0
    error_bound: float = 0.0
    samples: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """The thresholds, as the caller set them.

    Attributes:
        threshold_per_minute: Load from which on a window counts; None where none is known,
            as for bytes: then every route is `unknown`.
        windows_hot: Consecutive windows that make a route hot.
        cooldown_ms: How long after a split a route is `cooling` instead of `hot`.
    """

    threshold_per_minute: float | None = THRESHOLD_PER_MINUTE
    windows_hot: int = WINDOWS_HOT
    cooldown_ms: int = COOLDOWN_MS


@dataclass(frozen=True, slots=True)
class RouteVerdict:
    """The answer for one route.

    Attributes:
        route: The route.
        verdict: By the rules.
        load: Measured load over all judged windows; None where nothing was measured.
        share: `load` over that of all routes; None where nothing was measured.
        per_minute: Rate in the last judged window; None where not measured.
        windows_over: Length of the streak at the end.
        proof: Starts of the windows that prove the verdict: the streak, or the last window of
            a cold route; none for an unknown one.
        peak_per_minute: The highest measured rate of a window; None where not measured.
        peak_at: Start of that window.
        reasons: Sentences for a human.
        certainty: How sure the verdict is.
        low_per_minute: Lower end of the 95 % interval of `per_minute`: what was decided by.
        high_per_minute: Upper end; equal to the rate where every access was counted.
    """

    route: RouteDescriptor
    verdict: Verdict
    load: int | None
    share: float | None
    per_minute: float | None
    windows_over: int
    proof: tuple[datetime, ...]
    peak_per_minute: float | None
    peak_at: datetime | None
    reasons: tuple[str, ...]
    certainty: Certainty = Certainty.OPEN
    low_per_minute: float | None = None
    high_per_minute: float | None = None


def detect(
    routes: Sequence[RouteDescriptor], windows: Sequence[RouteWindow], rule: Rule
) -> list[RouteVerdict]:
    """Judge every route, hottest first.

    Args:
        routes: The routes to judge; one without any window is `unknown`.
        windows: In any order; at most one per route and start. Those from before a split are
            windows of the children, with what was measured of their keys: a hot parent's streak
            goes on in its hot child.
        rule: The thresholds.
    """
    closed = closed_starts(windows)
    by_route: dict[int, dict[datetime, RouteWindow]] = {route.route_id: {} for route in routes}
    for window in windows:
        if window.start in closed and window.route_id in by_route:
            by_route[window.route_id][window.start] = window
    loads = {
        route_id: sum(w.load for w in mine.values() if w.load is not None)
        for route_id, mine in by_route.items()
        if any(w.load is not None for w in mine.values())
    }
    total = sum(loads.values())
    grid = sorted(closed)
    verdicts = [
        _judge(route, by_route[route.route_id], grid, rule, loads.get(route.route_id), total)
        for route in routes
    ]
    rank = list(Verdict)
    return sorted(
        verdicts,
        key=lambda v: (
            rank.index(v.verdict),
            -(v.per_minute or 0),
            -(v.load or 0),
            v.route.span.start,
        ),
    )


def closed_starts(windows: Sequence[RouteWindow]) -> set[datetime]:
    """Return the windows to judge: all up to the last that some route measured in full."""
    full = [window.start for window in windows if window.coverage >= COVERAGE_FULL]
    last = max(full, default=None)
    return {window.start for window in windows if last is not None and window.start <= last}


def _judge(  # noqa: PLR0913, PLR0917 - leaf of detect, one call
    route: RouteDescriptor,
    mine: Mapping[datetime, RouteWindow],
    grid: Sequence[datetime],
    rule: Rule,
    load: int | None,
    total: int,
) -> RouteVerdict:
    streak = _streak_at_end(mine, grid, rule)
    last = mine.get(grid[-1]) if grid else None
    rate = None if last is None or last.load is None else _per_minute(last, last.load)
    verdict, reason = _verdict(route, last, streak, rate, rule)
    proof = tuple(window.start for window in streak)
    if verdict is Verdict.COLD:
        proof = (grid[-1],)
    rates = [
        (_per_minute(mine[start], mine[start].load or 0), start)
        for start in grid
        if start in mine and mine[start].load is not None
    ]
    low = high = None
    if last is not None and last.load is not None:
        low = _per_minute(last, max(last.load - last.error_bound, 0.0))
        # A count may only be too high; an estimate from samples may be off either way.
        over = last.error_bound if last.samples is not None else 0.0
        high = _per_minute(last, last.load + over)
    certainty = _certainty(verdict, mine, proof)
    reasons = (
        reason,
        *_unsure(certainty, mine, proof),
        *_carried(route, streak),
        *_earlier(mine, grid, rule, len(streak)),
    )
    # The earliest of the highest.
    peak = max(rates, key=lambda pair: (pair[0], -to_us(pair[1])), default=(None, None))
    return RouteVerdict(
        route=route,
        verdict=verdict,
        load=load,
        share=None if load is None else (load / total if total else 0.0),
        per_minute=rate,
        windows_over=len(streak),
        proof=proof,
        peak_per_minute=peak[0],
        peak_at=peak[1],
        reasons=reasons,
        certainty=certainty,
        low_per_minute=low,
        high_per_minute=high,
    )


def _certainty(
    verdict: Verdict, mine: Mapping[datetime, RouteWindow], proof: Sequence[datetime]
) -> Certainty:
    """Return how sure a verdict is that these windows prove."""
    if verdict is Verdict.UNKNOWN:
        return Certainty.OPEN
    return Certainty.CERTAIN if all(_is_sure(mine[start]) for start in proof) else Certainty.LIKELY


def _is_sure(window: RouteWindow) -> bool:
    if window.load is None or window.coverage < COVERAGE_FULL:
        return False
    return is_certain(window.load, window.error_bound, window.samples)


def _unsure(
    certainty: Certainty, mine: Mapping[datetime, RouteWindow], proof: Sequence[datetime]
) -> tuple[str, ...]:
    """Return a sentence on what keeps a verdict from being certain."""
    if certainty is not Certainty.LIKELY:
        return ()
    windows = [mine[start] for start in proof]
    samples = [window.samples for window in windows if window.samples is not None]
    coverage = min(window.coverage for window in windows)
    if samples and min(samples) < SAMPLES_CERTAIN:
        what = f"a window of the proof has {min(samples):,} samples, {SAMPLES_CERTAIN:,} are needed"
    elif coverage < COVERAGE_FULL:
        what = f"of a window of the proof only {coverage:.1%} was measured"
    else:
        what = "a window of the proof has a wide error bound"
    return (f"likely, not certain: {what}",)


def _carried(route: RouteDescriptor, streak: Sequence[RouteWindow]) -> tuple[str, ...]:
    """Return a sentence where the streak began on the route that this one was split off."""
    split_us = hlc_to_us(route.split_at_hlc)
    if not streak or not route.split_at_hlc or to_us(streak[0].start) >= split_us:
        return ()
    moment = rfc3339(from_us(split_us))
    return (f"up to the split at {moment} measured on route {route.parent_route_id}, by key",)


def _verdict(
    route: RouteDescriptor,
    last: RouteWindow | None,
    streak: Sequence[RouteWindow],
    rate: float | None,
    rule: Rule,
) -> tuple[Verdict, str]:
    """Return the verdict and the sentence that gives its reason."""
    if rule.threshold_per_minute is None:
        return Verdict.UNKNOWN, "no threshold is known for this objective; give --threshold"
    limit = f"{rule.threshold_per_minute:,.0f} a minute"
    if len(streak) >= rule.windows_hot:
        assert last is not None
        since = rfc3339(streak[0].start)
        cooled_us = hlc_to_us(route.split_at_hlc) + rule.cooldown_ms * 1_000
        if route.split_at_hlc and to_us(last.end) < cooled_us:
            return Verdict.COOLING, (
                f"over {limit} since {since}, but split less than "
                f"{rule.cooldown_ms // MS_PER_MINUTE} minutes ago"
            )
        return Verdict.HOT, f"over {limit} for {len(streak)} windows, since {since}"
    if streak:
        return Verdict.WARMING, (
            f"over {limit} for {len(streak)} of the {rule.windows_hot} windows that make it hot"
        )
    return _verdict_without_streak(last, rate, rule)


def _verdict_without_streak(
    last: RouteWindow | None, rate: float | None, rule: Rule
) -> tuple[Verdict, str]:
    """Return cold where the last window proves it, unknown with what is missing otherwise."""
    assert rule.threshold_per_minute is not None
    limit = f"{rule.threshold_per_minute:,.0f} a minute"
    if last is None:
        return Verdict.UNKNOWN, "not measured in the last window"
    if rate is None:
        return Verdict.UNKNOWN, "reads and writes were not measured in the last window"
    if last.coverage < COVERAGE_FULL:
        return Verdict.UNKNOWN, (
            f"only {last.coverage:.0%} of the last window was measured; "
            f"{rate:,.0f} a minute is a lower limit"
        )
    if rate >= rule.threshold_per_minute:
        return Verdict.UNKNOWN, f"{rate:,.0f} a minute less its error bound is not over {limit}"
    return Verdict.COLD, f"{rate:,.0f} a minute is under {limit}"


def _streak_at_end(
    mine: Mapping[datetime, RouteWindow], grid: Sequence[datetime], rule: Rule
) -> list[RouteWindow]:
    """Return the proven windows at the end of the grid that touch each other, ascending."""
    streak: list[RouteWindow] = []
    for start in reversed(grid):
        window = mine.get(start)
        if window is None or not _is_over(window, rule):
            break
        if streak and window.end != streak[-1].start:
            break
        streak.append(window)
    return streak[::-1]


def _earlier(
    mine: Mapping[datetime, RouteWindow], grid: Sequence[datetime], rule: Rule, streak: int
) -> tuple[str, ...]:
    """Return a sentence on windows over the threshold before the streak at the end."""
    over = [
        start
        for start in grid[: len(grid) - streak]
        if start in mine and _is_over(mine[start], rule)
    ]
    if not over:
        return ()
    return (f"earlier windows over the threshold: {len(over)}, last {rfc3339(over[-1])}",)


def _is_over(window: RouteWindow, rule: Rule) -> bool:
    """Tell whether the measured count alone, less its error, reaches the threshold."""
    if window.load is None or rule.threshold_per_minute is None:
        return False
    return _per_minute(window, window.load - window.error_bound) >= rule.threshold_per_minute


def _per_minute(window: RouteWindow, load: float) -> float:
    """Return a window's load as a rate; what was not measured adds nothing."""
    length_ms = (to_us(window.end) - to_us(window.start)) / 1_000
    return load * MS_PER_MINUTE / length_ms
