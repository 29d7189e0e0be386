"""The leader's clock: increasing, below its ceiling, and honest about a clock set back."""

from __future__ import annotations

import pytest

from workbench.errors import Unavailable
from workbench.model.limits import CEILING_AHEAD_MS
from workbench.model.times import hlc_ms, hlc_of_ms
from workbench.replica.clock import Hlc, ceiling_of

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


def test_what_was_observed_is_never_issued_again() -> None:
    clock = Hlc()
    clock.observe(hlc_of_ms(NOW + 100))
    clock.observe(hlc_of_ms(NOW - 100))
    assert clock.now(NOW) == hlc_of_ms(NOW + 100)
    assert clock.issue(NOW, ceiling_of(NOW)) == hlc_of_ms(NOW + 100, 1)


def test_a_ceiling_comes_from_the_physical_clock_alone() -> None:
    assert hlc_ms(ceiling_of(NOW)) == NOW + CEILING_AHEAD_MS
