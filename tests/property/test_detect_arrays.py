"""Judging by columns is judging one window at a time: the rules as plain Python, compared.

The reference below is the first form of `workbench.planner.detect`, which looks at one window after
the other. Both must give equal verdicts, to the last bit of every rate and letter of every reason.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.model.times import from_us, hlc_of_ms, hlc_to_us, rfc3339, to_us
from workbench.planner import window_arrays
from workbench.planner.detect import (
    Certainty,
    RouteVerdict,
    RouteWindow,
    Rule,
    Verdict,
    detect,
)
from workbench.planner.intervals import SAMPLES_CERTAIN, is_certain
from workbench.planner.window_arrays import COVERAGE_FULL, MS_PER_MINUTE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[RouteDescriptor], list[RouteWindow], Rule]:
    """Routes, some just split; windows with gaps, doubles, parts, samples and huge loads."""
    routes = []
    for number in range(draw(st.integers(0, 4))):
        split_ms = to_us(T0) // 1_000 + draw(st.sampled_from([-900_000, 0, 180_000]))
        hlc = hlc_of_ms(split_ms, 0) if draw(st.booleans()) else 0
        span = Span(bytes([number]) if number else b"", bytes([number + 1]))
        routes.append(RouteDescriptor(7 - number, span, 1, split_at_hlc=hlc, parent_route_id=9))
    top = draw(st.sampled_from([300, 300, 300, 1 << 58, 1 << 64]))
    windows = []
    for _ in range(draw(st.integers(0, 40))):
        start = T0 + draw(st.sampled_from([0, 1, 2, 3, 4, 5, 7])) * MINUTE
        load = draw(st.one_of(st.none(), st.integers(0, 300), st.integers(0, top)))
        windows.append(
            RouteWindow(
                route_id=draw(st.integers(3, 8)),
                start=start,
                end=start + draw(st.sampled_from([1, 1, 1, 1, 0.5])) * MINUTE,
                load=load,
                coverage=draw(st.sampled_from([1.0, 1.0, 1.0, 0.5])),
                error_bound=draw(st.sampled_from([0.0, 0.0, 3.0, 7.25, 200.0])),
                samples=draw(st.sampled_from([None, None, None, 20, 1_537])),
            )
        )
    threshold = draw(st.sampled_from([100.0, 100.0, 0.0, None]))
    return routes, windows, Rule(threshold, draw(st.integers(1, 3)), 300_000)


@settings(max_examples=250, deadline=None)
@given(cases())
def test_columns_judge_as_one_window_at_a_time(
    case: tuple[list[RouteDescriptor], list[RouteWindow], Rule],
) -> None:
    routes, windows, rule = case
    assert detect(routes, windows, rule) == reference(routes, windows, rule)


def test_a_window_that_does_not_touch_the_next_is_caught_by_the_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    route = RouteDescriptor(1, Span(b"", None), 1)
    windows = [RouteWindow(1, T0 + n * MINUTE, T0 + (n + 1) * MINUTE, 900) for n in range(4)]
    windows[1] = replace(windows[1], end=windows[1].start + 0.5 * MINUTE)
    rule = Rule(100.0)
    assert detect([route], windows, rule) == reference([route], windows, rule)
    whole = window_arrays.runs_of

    def planted(ids, rows, threshold):  # type: ignore[no-untyped-def]
        return whole(ids, replace(rows, end_us=rows.start_us + 60_000_000), threshold)

    monkeypatch.setattr("workbench.planner.detect.runs_of", planted)
    assert detect([route], windows, rule) != reference([route], windows, rule)


def reference(
    routes: Sequence[RouteDescriptor], windows: Sequence[RouteWindow], rule: Rule
) -> list[RouteVerdict]:
    """Judge every route, hottest first, one window after the other."""
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
