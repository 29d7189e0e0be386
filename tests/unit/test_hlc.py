"""The leader's clock: increasing, below its ceiling, and honest about a clock set back."""

from __future__ import annotations

import pytest

from workbench.errors import Unavailable
from workbench.model.limits import CEILING_AHEAD_MS
from workbench.model.times import hlc_ms, hlc_of_ms
from workbench.replica.clock import ClockBehind, Hlc, ceiling_of

NOW = 1_700_000_000_000


def test_physical_time_leads_where_it_is_ahead() -> None:
    assert Hlc().issue(NOW, ceiling_of(NOW)) == hlc_of_ms(NOW)


def test_the_logical_part_counts_within_a_millisecond() -> None:
    clock = Hlc()
    issued = [clock.issue(NOW, ceiling_of(NOW)) for _ in range(3)]
    assert issued == [hlc_of_ms(NOW), hlc_of_ms(NOW, 1), hlc_of_ms(NOW, 2)]


def test_a_logical_overflow_carries_into_the_milliseconds() -> None:
    clock = Hlc(hlc_of_ms(NOW, 2**16 - 1))
    assert clock.issue(NOW, ceiling_of(NOW)) == hlc_of_ms(NOW + 1)


def test_a_clock_set_back_goes_on_until_the_ceiling() -> None:
    clock = Hlc()
    first = clock.issue(NOW, ceiling_of(NOW))
    back = NOW - CEILING_AHEAD_MS + 1
    assert clock.issue(back, ceiling_of(back)) == first + 1


def test_a_clock_set_back_too_far_issues_nothing() -> None:
    clock = Hlc()
    first = clock.issue(NOW, ceiling_of(NOW))
    back = NOW - CEILING_AHEAD_MS
    with pytest.raises(Unavailable) as caught:
        clock.issue(back, ceiling_of(back))
    assert caught.value.code == "clock_behind"
    assert f"{CEILING_AHEAD_MS} ms behind" in caught.value.message
    assert clock.last == first


def test_a_new_leader_whose_clock_agrees_with_the_old_ones_issues_at_once() -> None:
    old = ceiling_of(NOW)
    clock = Hlc(old)
    assert clock.issue(NOW + 1, ceiling_of(NOW + 1)) == old + 1


@pytest.mark.parametrize("behind_ms", [0, 1, 250, 5_000])
def test_a_new_leader_whose_clock_is_behind_waits_for_the_difference_and_no_longer(
    behind_ms: int,
) -> None:
    clock = Hlc(ceiling_of(NOW))
    with pytest.raises(ClockBehind) as caught:
        clock.issue(NOW - behind_ms, ceiling_of(NOW - behind_ms))
    assert caught.value.wait_ms == behind_ms + 1
    later = NOW - behind_ms + caught.value.wait_ms
    assert clock.issue(later, ceiling_of(later)) == ceiling_of(NOW) + 1


def test_a_clock_whose_last_millisecond_is_used_up_waits_one_longer() -> None:
    clock = Hlc(ceiling_of(NOW) + 2**16 - 1)
    with pytest.raises(ClockBehind) as caught:
        clock.issue(NOW, ceiling_of(NOW))
    later = NOW + caught.value.wait_ms
    assert clock.issue(later, ceiling_of(later)) == hlc_of_ms(NOW + CEILING_AHEAD_MS + 1)


def test_what_was_observed_is_never_issued_again() -> None:
    clock = Hlc()
    clock.observe(hlc_of_ms(NOW + 100))
    clock.observe(hlc_of_ms(NOW - 100))
    assert clock.now(NOW) == hlc_of_ms(NOW + 100)
    assert clock.issue(NOW, ceiling_of(NOW)) == hlc_of_ms(NOW + 100, 1)


def test_a_ceiling_comes_from_the_physical_clock_alone() -> None:
    assert hlc_ms(ceiling_of(NOW)) == NOW + CEILING_AHEAD_MS
