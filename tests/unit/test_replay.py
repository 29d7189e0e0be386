"""Claims about replay: it is a recount, nothing is estimated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import NotFound
from workbench.model.keys import Span
from workbench.model.tables import TIME
from workbench.planner.outcome import DRIFT_SHARE, Outcome, outcome_of
from workbench.planner.replay import RouteSeries, Verification, _drift, replay

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema([("time", TIME), ("key", pa.binary()), ("load", pa.int64())])
KEYS = st.binary(max_size=3)
EVENTS = st.lists(st.tuples(st.integers(0, 200), KEYS, st.integers(0, 9)), min_size=1, max_size=40)


def table(events: list[tuple[int, bytes, int]]) -> pa.Table:
    rows = [
        {"time": T0 + timedelta(seconds=second), "key": key, "load": load}
        for second, key, load in events
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def spans_at(keys: list[bytes]) -> list[Span]:
    starts = [b"", *keys]
    return [Span(a, b) for a, b in zip(starts, [*keys, None], strict=True)]


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.lists(st.binary(min_size=1, max_size=2), max_size=4, unique=True))
def test_replay_equals_a_recount(events: list[tuple[int, bytes, int]], cuts: list[bytes]) -> None:
    spans = spans_at(sorted(cuts))
    series = replay(table(events), spans, 60_000)
    for row, span in enumerate(spans):
        for column, start in enumerate(series.times):
            recount = sum(
                load
                for second, key, load in events
                if key in span
                and start <= T0 + timedelta(seconds=second) < start + timedelta(0, 60)
            )
            assert series.loads[row, column] == recount
    assert series.unrouted == 0


def test_keys_in_a_gap_are_unrouted_and_not_lost() -> None:
    events = [(0, b"a", 1), (0, b"m", 2), (0, b"z", 4)]
    series = replay(table(events), [Span(b"a", b"b"), Span(b"x", None)], 60_000)
    assert (series.totals.tolist(), series.unrouted) == ([1, 4], 2)


def test_trailing_nul_bytes_make_another_key() -> None:
    series = replay(table([(0, b"a", 1), (0, b"a\0", 2)]), spans_at([b"a\0"]), 60_000)
    assert series.totals.tolist() == [1, 2]


def test_loads_beyond_float_precision_are_counted_exactly() -> None:
    series = replay(table([(0, b"a", 2**53), (0, b"a", 1)]), spans_at([]), 60_000)
    assert series.totals.tolist() == [2**53 + 1]


def test_a_window_without_load_has_no_share() -> None:
    series = replay(table([(0, b"a", 3), (130, b"b", 1)]), spans_at([b"b"]), 60_000)
    shares = series.max_share_per_window
    assert shares[0] == 1.0
    assert np.isnan(shares[1])
    assert series.max_share == 0.75


def test_nothing_to_replay_is_an_error() -> None:
    with pytest.raises(NotFound) as caught:
        replay(table([]), spans_at([]), 60_000)
    assert caught.value.code == "load_absent"


@pytest.mark.parametrize(
    ("before", "after", "forecast", "drift", "outcome"),
    [
        ([80, 20], [50, 30, 20], 0.50, 0.0, Outcome.HELD),
        ([80, 20], [54, 26, 20], 0.50, 0.0, Outcome.HELD),
        ([80, 20], [56, 24, 20], 0.50, 0.0, Outcome.SHORT),
        ([80, 20], [54, 26, 20], 0.50, 0.3, Outcome.SHORT),
        ([80, 20], [50, 30, 20], 0.50, 0.3, Outcome.HELD),
        ([80, 20], [80, 0, 20], 0.50, 0.0, Outcome.FAILED),
    ],
)
def test_the_outcome_follows_forecast_drift_and_what_would_have_been(
    before: list[int], after: list[int], forecast: float, drift: float, outcome: Outcome
) -> None:
    def series(loads: list[int]) -> RouteSeries:
        spans = spans_at([b"%d" % number for number in range(1, len(loads))])
        return RouteSeries(tuple(spans), (T0,), 60_000, np.array([[n] for n in loads]), 0)

    seen = Verification("p", T0, T0, 1, series(before), series(after), forecast, drift)
    assert seen.outcome is outcome


def test_a_fall_that_came_but_for_a_fiftieth_kept_its_promise() -> None:
    told = {"forecast": 0.074, "without": 0.650, "drift": 0.038}
    assert outcome_of(came=0.082, **told) is Outcome.HELD
    assert outcome_of(came=0.086, **told) is Outcome.SHORT


def test_what_beats_its_forecast_is_not_short_of_it_however_much_moved() -> None:
    assert outcome_of(forecast=1.0, came=0.992, without=1.0, drift=0.99) is Outcome.HELD


def test_drift_is_the_share_of_load_that_came_elsewhere() -> None:
    assert _drift([50, 50], np.array([100, 100])) == 0.0
    assert _drift([50, 50], np.array([100, 0])) == 0.5
    assert _drift([100, 0], np.array([0, 7])) == 1.0
    assert _drift([60, 40], np.array([40, 60])) == pytest.approx(DRIFT_SHARE)
