"""Claims about the detection rules."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.planner.detect import (
    Certainty,
    RouteVerdict,
    RouteWindow,
    Rule,
    Verdict,
    detect,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOT, COLD = 60_000, 10
ROUTE = RouteDescriptor(1, Span(b"", b"m"), 1)
OTHER = RouteDescriptor(2, Span(b"m", None), 1)


def window(number: int, load: int | None, **changes: float) -> RouteWindow:
    start = T0 + number * MINUTE
    return RouteWindow(1, start, start + MINUTE, load, **changes)


def judge(*windows: RouteWindow, route: RouteDescriptor = ROUTE) -> RouteVerdict:
    return detect([route], windows, Rule())[0]


def test_three_windows_over_the_threshold_are_hot_and_prove_it() -> None:
    verdict = judge(*(window(n, HOT) for n in range(3)))
    assert verdict.verdict is Verdict.HOT
    assert verdict.proof == (T0, T0 + MINUTE, T0 + 2 * MINUTE)
    assert "since 2026-01-01T00:00:00Z" in verdict.reasons[0]


def test_a_cold_route_is_proven_by_its_last_window_and_an_unknown_one_by_none() -> None:
    cold = judge(window(0, HOT), window(1, COLD))
    assert (cold.verdict, cold.proof) == (Verdict.COLD, (T0 + MINUTE,))
    assert judge(window(0, None)).proof == ()


def test_the_peak_is_the_earliest_of_the_highest_windows() -> None:
    verdict = judge(window(0, COLD), window(1, HOT), window(2, HOT), window(3, COLD))
    assert (verdict.peak_per_minute, verdict.peak_at) == (HOT, T0 + MINUTE)


def test_without_a_threshold_nothing_is_judged() -> None:
    rule = Rule(threshold_per_minute=None)
    [verdict] = detect([ROUTE], [window(n, HOT) for n in range(3)], rule)
    assert verdict.verdict is Verdict.UNKNOWN
    assert "--threshold" in verdict.reasons[0]


def test_exactly_the_threshold_counts_as_over() -> None:
    assert judge(*(window(n, 50_000) for n in range(3))).verdict is Verdict.HOT
    assert judge(*(window(n, 49_999) for n in range(3))).verdict is Verdict.COLD


def test_two_windows_are_only_warming() -> None:
    verdict = judge(window(0, COLD), window(1, HOT), window(2, HOT))
    assert (verdict.verdict, verdict.windows_over) == (Verdict.WARMING, 2)


@pytest.mark.parametrize(
    "gap",
    [
        pytest.param(window(1, None), id="not-measured"),
        pytest.param(window(1, HOT, error_bound=20_000), id="error-bound-reaches-below"),
        pytest.param(window(1, COLD), id="under"),
    ],
)
def test_a_window_that_proves_nothing_resets_the_streak(gap: RouteWindow) -> None:
    verdict = judge(window(0, HOT), gap, window(2, HOT), window(3, HOT))
    assert (verdict.verdict, verdict.windows_over) == (Verdict.WARMING, 2)


def test_a_missing_window_resets_the_streak() -> None:
    # Another route has the window, so time went on; this route was not measured in it.
    other = RouteWindow(2, T0 + MINUTE, T0 + 2 * MINUTE, COLD)
    windows = [window(0, HOT), other, window(2, HOT), window(3, HOT)]
    verdict = next(v for v in detect([ROUTE, OTHER], windows, Rule()) if v.route is ROUTE)
    assert verdict.windows_over == 2


def test_a_hole_in_time_resets_the_streak() -> None:
    windows = [window(0, HOT), window(1, HOT), window(5, HOT)]
    assert judge(*windows).windows_over == 1


def test_a_partly_measured_window_can_prove_hot_but_not_cold() -> None:
    full = [window(0, HOT), window(1, HOT)]
    other = RouteWindow(2, T0 + 2 * MINUTE, T0 + 3 * MINUTE, COLD)  # closes the third window
    hot = detect([ROUTE, OTHER], [*full, window(2, HOT, coverage=0.5), other], Rule())
    assert next(v for v in hot if v.route is ROUTE).verdict is Verdict.HOT
    unsure = detect([ROUTE, OTHER], [*full, window(2, COLD, coverage=0.5), other], Rule())
    verdict = next(v for v in unsure if v.route is ROUTE)
    assert verdict.verdict is Verdict.UNKNOWN
    assert "50%" in verdict.reasons[0]


def test_a_window_that_is_still_open_is_not_judged() -> None:
    verdict = judge(*(window(n, HOT) for n in range(3)), window(3, COLD, coverage=0.1))
    assert verdict.verdict is Verdict.HOT


def test_a_route_that_was_just_split_is_cooling() -> None:
    split_ms = int(T0.timestamp() * 1000)
    route = RouteDescriptor(1, ROUTE.span, 1, parent_route_id=9, split_at_hlc=split_ms << 16)
    assert judge(*(window(n, HOT) for n in range(3)), route=route).verdict is Verdict.COOLING
    later = [window(n, HOT) for n in range(8, 11)]
    assert judge(*later, route=route).verdict is Verdict.HOT


def test_a_route_without_windows_is_unknown_and_not_idle() -> None:
    verdict = judge()
    assert (verdict.verdict, verdict.share, verdict.per_minute) == (Verdict.UNKNOWN, None, None)


def test_earlier_heat_is_told_as_a_reason() -> None:
    verdict = judge(window(0, HOT), window(1, COLD))
    assert verdict.verdict is Verdict.COLD
    assert "earlier windows over the threshold: 1" in verdict.reasons[1]


def test_what_is_busy_now_comes_before_what_was() -> None:
    was = [RouteWindow(2, T0 + n * MINUTE, T0 + (n + 1) * MINUTE, 900 - 300 * n) for n in range(3)]
    verdicts = detect([OTHER, ROUTE], [*was, *(window(n, 100 * n + 200) for n in range(3))], Rule())
    assert [v.route.route_id for v in verdicts] == [1, 2]


def test_the_hottest_come_first_and_shares_add_up() -> None:
    windows = [
        *(window(n, HOT) for n in range(3)),
        *(RouteWindow(2, T0 + n * MINUTE, T0 + (n + 1) * MINUTE, HOT // 3) for n in range(3)),
    ]
    verdicts = detect([OTHER, ROUTE], windows, Rule())
    assert [v.route.route_id for v in verdicts] == [1, 2]
    assert [v.share for v in verdicts] == [0.75, 0.25]


def test_a_window_of_half_a_minute_counts_double() -> None:
    half = timedelta(seconds=30)
    windows = [RouteWindow(1, T0 + n * half, T0 + (n + 1) * half, 25_000) for n in range(3)]
    verdict = judge(*windows)
    assert (verdict.verdict, verdict.per_minute) == (Verdict.HOT, 50_000)


def test_counts_of_whole_windows_make_a_verdict_certain() -> None:
    hot = judge(*(window(n, HOT) for n in range(3)))
    assert (hot.certainty, hot.low_per_minute, hot.high_per_minute) == ("certain", HOT, HOT)
    assert judge(window(0, COLD)).certainty is Certainty.CERTAIN
    assert judge(window(0, None)).certainty is Certainty.OPEN


@pytest.mark.parametrize(
    ("samples", "coverage", "certainty"),
    [(1_537, 1.0, "certain"), (1_536, 1.0, "likely"), (90_000, 0.99, "likely"), (0, 1.0, "likely")],
)
def test_few_samples_or_drops_leave_a_verdict_likely(
    samples: int, coverage: float, certainty: str
) -> None:
    other = RouteWindow(2, T0 + MINUTE, T0 + 2 * MINUTE, COLD)  # closes the last window
    sampled = RouteWindow(1, T0 + MINUTE, T0 + 2 * MINUTE, HOT, coverage, 2_000.0, samples)
    rule = Rule(windows_hot=2)
    verdicts = detect([ROUTE, OTHER], [window(0, HOT), sampled, other], rule)
    found = next(v for v in verdicts if v.route is ROUTE)
    assert (found.verdict, found.certainty) == (Verdict.HOT, certainty)
    assert any("likely, not certain" in each for each in found.reasons) == (certainty == "likely")
    assert (found.low_per_minute, found.high_per_minute) == (HOT - 2_000, HOT + 2_000)


def test_sampled_load_is_judged_by_the_lower_end_of_its_interval() -> None:
    def sampled(number: int, error: float) -> RouteWindow:
        start = T0 + number * MINUTE
        return RouteWindow(1, start, start + MINUTE, 52_000, 1.0, error, 5_000)

    assert judge(*(sampled(n, 2_000) for n in range(3))).verdict is Verdict.HOT
    assert judge(*(sampled(n, 2_001) for n in range(3))).verdict is Verdict.UNKNOWN


def test_the_cooldown_outlasts_a_restart_because_it_comes_from_the_split_itself() -> None:
    # Nothing is kept between the calls: the same answer from the route alone.
    split_ms = int((T0 + 2 * MINUTE).timestamp() * 1000)
    route = RouteDescriptor(1, ROUTE.span, 1, parent_route_id=9, split_at_hlc=split_ms << 16)
    during = [window(n, HOT) for n in range(12)]
    verdict = judge(*during[:12], route=route)
    assert verdict.verdict is Verdict.HOT
    assert judge(*during[:11], route=route).verdict is Verdict.COOLING
    assert any("measured on route 9" in each for each in verdict.reasons)


def test_load_that_is_hot_for_two_windows_is_never_called_hot() -> None:
    chance = random.Random(5)
    for _ in range(400):
        loads = [
            chance.choice([HOT, 10 * HOT]) if chance.random() < 0.6 else COLD for _ in range(40)
        ]
        for n in range(2, len(loads)):
            if min(loads[n - 2 : n + 1]) >= HOT:
                loads[n] = COLD
        for until in range(1, len(loads) + 1):
            verdict = judge(*(window(n, load) for n, load in enumerate(loads[:until])))
            assert verdict.verdict in {Verdict.WARMING, Verdict.COLD}


def test_the_verdict_is_that_of_a_plain_count_of_windows() -> None:
    chance = random.Random(9)
    for _ in range(300):
        loads = [chance.choice([HOT, COLD, None]) for _ in range(chance.randrange(1, 9))]
        streak = 0
        for load in loads:
            streak = streak + 1 if load == HOT else 0
        expected = Verdict.HOT if streak >= 3 else Verdict.WARMING if streak else None
        if expected is None:
            expected = Verdict.UNKNOWN if loads[-1] is None else Verdict.COLD
        found = judge(*(window(n, load) for n, load in enumerate(loads)))
        assert (found.verdict, found.windows_over) == (expected, streak)
        assert len(found.proof) == (streak or (1 if expected is Verdict.COLD else 0))
