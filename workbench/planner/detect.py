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

import numpy as np

from workbench.model.times import from_us, hlc_to_us, rfc3339, to_us
from workbench.planner.intervals import SAMPLES_CERTAIN
from workbench.planner.window_arrays import (
    COVERAGE_FULL,
    MS_PER_MINUTE,
    RouteRuns,
    WindowArrays,
    runs_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from workbench.model.routes import RouteDescriptor

THRESHOLD_PER_MINUTE: Final = 50_000
WINDOWS_HOT: Final = 3
COOLDOWN_MS: Final = 600_000


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
    return detect_arrays(routes, arrays_of(windows), rule)


def detect_arrays(
    routes: Sequence[RouteDescriptor], windows: WindowArrays, rule: Rule
) -> list[RouteVerdict]:
    """Judge every route as `detect` does, by columns."""
    runs = runs_of([route.route_id for route in routes], windows, rule.threshold_per_minute)
    total = sum(load for load in runs.loads if load is not None)
    times = [from_us(start) for start in runs.grid.tolist()]
    verdicts = [_judge(route, at, runs, times, rule, total) for at, route in enumerate(routes)]
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


def arrays_of(windows: Sequence[RouteWindow]) -> WindowArrays:
    """Return the same windows by column."""
    loads = [window.load for window in windows]
    large = any(load is not None and abs(load) >> 61 for load in loads)
    samples = [-1 if window.samples is None else window.samples for window in windows]
    errors = [0.0 if window.load is None else window.error_bound for window in windows]
    return WindowArrays(
        route_ids=np.array([window.route_id for window in windows], dtype=np.uint64),
        start_us=np.array([to_us(window.start) for window in windows], dtype=np.int64),
        end_us=np.array([to_us(window.end) for window in windows], dtype=np.int64),
        load=np.array([load or 0 for load in loads], dtype=object if large else np.int64),
        measured=np.array([load is not None for load in loads], dtype=np.bool_),
        coverage=np.array([window.coverage for window in windows], dtype=np.float64),
        error_bound=np.array(errors, dtype=np.float64),
        samples=np.array(samples, dtype=np.int64),
    )


def _judge(  # noqa: PLR0913, PLR0917 - leaf of detect, one call
    route: RouteDescriptor,
    at: int,
    runs: RouteRuns,
    times: Sequence[datetime],
    rule: Rule,
    total: int,
) -> RouteVerdict:
    rows, end, streak = runs.rows, int(runs.end[at]), int(runs.streak[at])
    last = _window(runs, int(runs.last[at]))
    verdict, reason = _verdict(route, last, streak, times, rule)
    proven = 1 if verdict is Verdict.COLD else streak
    certainty = Certainty.OPEN
    if verdict is not Verdict.UNKNOWN:
        sure = runs.is_sure(end - proven, end)
        certainty = Certainty.CERTAIN if sure else Certainty.LIKELY
    reasons = [reason]
    if certainty is Certainty.LIKELY:
        reasons.append(_unsure(rows, end - proven, end))
    if streak:
        reasons += _carried(route, times[-streak])
    if earlier := int(runs.earlier[at]):
        moment = rfc3339(from_us(int(rows.start_us[runs.earlier_last[at]])))
        reasons.append(f"earlier windows over the threshold: {earlier}, last {moment}")
    load, peak = runs.loads[at], int(runs.peak[at])
    return RouteVerdict(
        route=route,
        verdict=verdict,
        load=load,
        share=None if load is None else (load / total if total else 0.0),
        per_minute=None if last is None else last.rate,
        windows_over=streak,
        proof=tuple(times[len(times) - proven :]),
        peak_per_minute=None if peak < 0 else float(runs.rates[peak]),
        peak_at=None if peak < 0 else from_us(int(rows.start_us[peak])),
        reasons=tuple(reasons),
        certainty=certainty,
        low_per_minute=None if last is None else last.low,
        high_per_minute=None if last is None else last.high,
    )


@dataclass(frozen=True, slots=True)
class _Last:
    """A route's last judged window: rates are None where its load was not measured."""

    end_us: int
    coverage: float
    rate: float | None
    low: float | None
    high: float | None


def _window(runs: RouteRuns, row: int) -> _Last | None:
    """Return the window of a row; None where there is none."""
    if row < 0:
        return None
    rows = runs.rows
    end_us, coverage = int(rows.end_us[row]), float(rows.coverage[row])
    if not rows.measured[row]:
        return _Last(end_us, coverage, None, None, None)
    load, error = int(rows.load[row]), float(rows.error_bound[row])
    length_ms = (end_us - int(rows.start_us[row])) / 1_000
    # A count may only be too high; an estimate from samples may be off either way.
    over = error if rows.samples[row] >= 0 else 0.0
    return _Last(
        end_us,
        coverage,
        rate=float(runs.rates[row]),
        low=max(load - error, 0.0) * MS_PER_MINUTE / length_ms,
        high=(load + over) * MS_PER_MINUTE / length_ms,
    )


def _unsure(rows: WindowArrays, first: int, end: int) -> str:
    """Return a sentence on what keeps a verdict from being certain that these rows prove."""
    told = rows.samples[first:end]
    samples = int(told[told >= 0].min(initial=SAMPLES_CERTAIN))
    coverage = float(rows.coverage[first:end].min())
    if samples < SAMPLES_CERTAIN:
        what = f"a window of the proof has {samples:,} samples, {SAMPLES_CERTAIN:,} are needed"
    elif coverage < COVERAGE_FULL:
        what = f"of a window of the proof only {coverage:.1%} was measured"
    else:
        what = "a window of the proof has a wide error bound"
    return f"likely, not certain: {what}"


def _carried(route: RouteDescriptor, began: datetime) -> tuple[str, ...]:
    """Return a sentence where the streak began on the route that this one was split off."""
    split_us = hlc_to_us(route.split_at_hlc)
    if not route.split_at_hlc or to_us(began) >= split_us:
        return ()
    moment = rfc3339(from_us(split_us))
    return (f"up to the split at {moment} measured on route {route.parent_route_id}, by key",)


def _verdict(
    route: RouteDescriptor,
    last: _Last | None,
    streak: int,
    times: Sequence[datetime],
    rule: Rule,
) -> tuple[Verdict, str]:
    """Return the verdict and the sentence that gives its reason."""
    if rule.threshold_per_minute is None:
        return Verdict.UNKNOWN, "no threshold is known for this objective; give --threshold"
    limit = f"{rule.threshold_per_minute:,.0f} a minute"
    if streak >= rule.windows_hot:
        assert last is not None
        since = rfc3339(times[-streak])
        cooled_us = hlc_to_us(route.split_at_hlc) + rule.cooldown_ms * 1_000
        if route.split_at_hlc and last.end_us < cooled_us:
            return Verdict.COOLING, (
                f"over {limit} since {since}, but split less than "
                f"{rule.cooldown_ms // MS_PER_MINUTE} minutes ago"
            )
        return Verdict.HOT, f"over {limit} for {streak} windows, since {since}"
    if streak:
        return Verdict.WARMING, (
            f"over {limit} for {streak} of the {rule.windows_hot} windows that make it hot"
        )
    return _verdict_without_streak(last, rule)


def _verdict_without_streak(last: _Last | None, rule: Rule) -> tuple[Verdict, str]:
    """Return cold where the last window proves it, unknown with what is missing otherwise."""
    assert rule.threshold_per_minute is not None
    limit = f"{rule.threshold_per_minute:,.0f} a minute"
    if last is None:
        return Verdict.UNKNOWN, "not measured in the last window"
    rate = last.rate
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
