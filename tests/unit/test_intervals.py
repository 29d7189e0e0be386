"""Claims about the intervals of sampled load."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import InvalidArgument
from workbench.planner.intervals import (
    SAMPLES_CERTAIN,
    Interval,
    interval_of,
    is_certain,
    share_interval,
    total_interval,
)

TRIALS = 20_000


def test_a_total_lies_in_its_interval_in_94_to_96_percent_of_20000_trials() -> None:
    rng = np.random.Generator(np.random.PCG64(20_261_121))
    within = 0
    for _ in range(TRIALS):
        true = int(rng.integers(5_000, 2_000_000))
        rate = float(rng.uniform(0.002, 0.5)) * min(1.0, 20_000 / true)
        rate = max(rate, 30 / true)
        taken = int(rng.binomial(true, rate))
        found = interval_of(taken / rate, taken * (1 - rate) / rate**2)
        within += found.low <= true <= found.high
    assert 0.94 <= within / TRIALS <= 0.96


def test_a_weighted_score_lies_in_its_interval_in_94_to_96_percent_of_20000_trials() -> None:
    # Reads and writes are sampled at different rates, and a write counts for four.
    rng = np.random.Generator(np.random.PCG64(4))
    reads, writes = 60_000, 9_000
    read_rates = rng.uniform(0.005, 0.2, TRIALS)
    write_rates = rng.uniform(0.02, 0.3, TRIALS)
    read_hits = rng.binomial(reads, read_rates)
    write_hits = rng.binomial(writes, write_rates)
    true = reads + 4 * writes
    within = 0
    for taken in zip(read_hits, read_rates, write_hits, write_rates, strict=True):
        seen_reads, read_rate, seen_writes, write_rate = taken
        total = seen_reads / read_rate + 4 * seen_writes / write_rate
        variance = seen_reads * (1 - read_rate) / read_rate**2
        variance += 16 * seen_writes * (1 - write_rate) / write_rate**2
        found = interval_of(total, variance)
        within += found.low <= true <= found.high
    assert 0.94 <= within / TRIALS <= 0.96


def test_a_share_lies_in_its_interval_in_94_to_96_percent_of_20000_trials() -> None:
    rng = np.random.Generator(np.random.PCG64(7))
    samples = rng.integers(100, 5_000, TRIALS)
    shares = rng.uniform(0.02, 0.98, TRIALS)
    hits = rng.binomial(samples, shares)
    found = [share_interval(int(h), int(n)) for h, n in zip(hits, samples, strict=True)]
    within = [each.low <= share <= each.high for each, share in zip(found, shares, strict=True)]
    assert 0.94 <= np.mean(within) <= 0.96


def test_the_plain_interval_that_forgets_the_weights_is_caught_by_such_trials() -> None:
    # The planted fault: a variance as if each sample stood for itself alone.
    rng = np.random.Generator(np.random.PCG64(1))
    taken = rng.binomial(100_000, 0.02, 2_000)
    found = [interval_of(float(n) / 0.02, float(n)) for n in taken]
    within = np.mean([each.low <= 100_000 <= each.high for each in found])
    assert within < 0.5


def test_a_total_of_samples_is_that_of_their_weights() -> None:
    weights, counts = np.array([10.0, 10.0, 2.0]), np.array([1.0, 4.0, 1.0])
    found = total_interval(weights, counts)
    assert found.estimate == 52
    variance = 100 * 0.9 + 1_600 * 0.9 + 4 * 0.5
    assert found == interval_of(52.0, variance)
    assert 0 < found.low < 52 < found.high


def test_what_was_counted_whole_has_no_interval() -> None:
    assert total_interval(np.ones(7)) == Interval(7, 7, 7)
    assert total_interval(np.ones(7)).error == 0


def test_few_samples_never_reach_below_zero() -> None:
    found = total_interval(np.array([1_000.0]))
    assert 0 < found.low < 1_000 < found.high
    assert share_interval(0, 5).low == 0
    assert share_interval(0, 0) == Interval(0, 0, 1)


@pytest.mark.parametrize(
    ("weights", "counts"), [([0.5], [1]), ([2], [-1]), ([float("nan")], [1]), ([float("inf")], [1])]
)
def test_samples_that_cannot_be_are_refused(weights: list[float], counts: list[float]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        total_interval(np.array(weights), np.array(counts, dtype=np.float64))
    assert caught.value.code == "samples_invalid"


@pytest.mark.parametrize("hits", [-1, 6])
def test_more_hits_than_samples_are_refused(hits: int) -> None:
    with pytest.raises(InvalidArgument):
        share_interval(hits, 5)


def test_1537_samples_tell_any_share_to_two_and_a_half_points() -> None:
    found = share_interval(SAMPLES_CERTAIN // 2, SAMPLES_CERTAIN)
    assert (found.high - found.low) / 2 <= 0.025
    wider = share_interval(SAMPLES_CERTAIN // 2 - 25, SAMPLES_CERTAIN - 50)
    assert (wider.high - wider.low) / 2 > 0.025


def test_below_1537_samples_nothing_is_certain() -> None:
    assert is_certain(1_000_000, 0, SAMPLES_CERTAIN)
    assert not is_certain(1_000_000, 0, SAMPLES_CERTAIN - 1)
    assert is_certain(1_000, 0, None)
    assert is_certain(1_000, 50, None)
    assert not is_certain(1_000, 51, None)
