"""Claims about counters that become load windows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.counters import CounterWindows, windows_from_counters
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.model.tables import COUNTER, LOAD_WINDOW
from workbench.ports.counters import counter_answer

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def sample(
    second: float, reads: int | None, writes: int | None = 0, **changes: Any
) -> dict[str, Any]:
    return {
        "at": T0 + second * SECOND,
        "route_id": 1,
        "group": 1,
        "bucket_start": b"",
        "bucket_end": None,
        "reads": reads,
        "writes": writes,
        "read_bytes": None,
        "write_bytes": None,
        "cpu_ns": None,
        **changes,
    }


def table(*samples: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(samples), schema=COUNTER)


def told(*samples: dict[str, Any], **options: Any) -> CounterWindows:
    return windows_from_counters(table(*samples), cluster="c", window_ms=60_000, **options)


def column(found: CounterWindows, name: str) -> list[Any]:
    return found.windows.column(name).to_pylist()


def test_differences_of_totals_are_the_load_of_windows() -> None:
    found = told(sample(0, 100, 7), sample(60, 130, 9), sample(120, 190, 9))
    assert column(found, "reads") == [30, 60]
    assert column(found, "writes") == [2, 0]
    assert column(found, "coverage") == [1.0, 1.0]
    assert column(found, "error_bound") == [0.0, 0.0]
    assert column(found, "cpu_ns") == [None, None]
    assert found.windows.schema.equals(LOAD_WINDOW)
    assert (found.resets, found.gaps) == ((), ())


def test_a_counter_that_falls_was_reset_and_its_time_is_not_covered() -> None:
    found = told(sample(0, 100), sample(20, 140), sample(40, 5), sample(60, 25))
    assert column(found, "reads") == [40 + 5 + 20]
    assert column(found, "coverage") == [pytest.approx(40 / 60)]
    [reset] = found.resets
    assert (reset.since, reset.until) == (T0 + 20 * SECOND, T0 + 40 * SECOND)


def test_where_one_counter_fell_the_others_began_again_too() -> None:
    found = told(sample(0, 100, 10), sample(60, 3, 12))
    assert (column(found, "reads"), column(found, "writes")) == ([3], [12])


def test_samples_far_apart_leave_a_gap_and_no_made_up_load() -> None:
    found = told(sample(0, 0), sample(60, 10), sample(360, 1_000), sample(420, 1_007))
    assert column(found, "reads") == [10, 7]
    [gap] = found.gaps
    assert (gap.since, gap.until) == (T0 + 60 * SECOND, T0 + 360 * SECOND)
    assert gap.counted["reads"] == 990


def test_a_gap_with_a_reset_in_it_says_nothing_of_what_was_counted() -> None:
    [gap] = told(sample(0, 50), sample(600, 10)).gaps
    assert gap.counted["reads"] is None


def test_an_interval_across_a_bound_is_divided_and_its_error_is_told() -> None:
    found = told(sample(50, 0), sample(70, 11))
    assert column(found, "reads") == [5, 6]
    assert column(found, "error_bound") == [5.0, 6.0]
    assert column(found, "coverage") == [pytest.approx(1 / 6)] * 2


def test_null_is_not_measured_and_never_zero() -> None:
    found = told(sample(0, 0, None), sample(30, None, 3), sample(60, 9, 5))
    assert (column(found, "reads"), column(found, "writes")) == ([None], [None])


def test_a_child_counts_from_its_split_where_the_routes_are_told() -> None:
    split = T0 + 30 * SECOND
    child = RouteDescriptor(
        2, Span(b"m", None), 1, 1, split_at_hlc=int(split.timestamp() * 1e3) << 16
    )
    mine = {"route_id": 2, "bucket_start": b"m"}
    given = [sample(60, 40, **mine), sample(120, 100, **mine)]
    assert column(told(*given), "reads") == [60]
    found = told(*given, routes=[child])
    assert (column(found, "reads"), column(found, "coverage")) == ([40, 60], [0.5, 1.0])


def test_rows_in_any_order_give_the_same_windows() -> None:
    given = [
        sample(20 * n, 7 * n, n, route_id=route, bucket_start=start)
        for n in range(12)
        for route, start in ((1, b""), (2, b"m"))
    ]
    ordered = told(*given)
    random.Random(2).shuffle(given)
    assert told(*given).windows.equals(ordered.windows)


def test_no_count_is_lost_or_made_whatever_the_moments() -> None:
    chance = random.Random(11)
    for _ in range(200):
        moments = sorted(chance.sample(range(600), chance.randrange(2, 12)))
        totals = [0]
        for _ in moments[1:]:
            totals.append(totals[-1] + chance.randrange(1_000))
        found = told(*(sample(m, n) for m, n in zip(moments, totals, strict=True)))
        counted = sum(gap.counted["reads"] or 0 for gap in found.gaps)
        assert sum(column(found, "reads")) + counted == totals[-1]
        assert all(0 <= each <= 1 for each in column(found, "coverage"))


def test_one_sample_and_none_tell_nothing() -> None:
    assert told(sample(0, 5)).windows.num_rows == 0
    assert told().windows.num_rows == 0


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        ([sample(0, 1), sample(0, 2)], "counter_sampled_twice"),
        ([sample(0, -1)], "counter_negative"),
        ([sample(0, 0, bucket_end=b""), sample(1, 0, bucket_end=b"")], "load_bucket_reversed"),
    ],
)
def test_samples_that_make_no_sense_are_refused(samples: list[dict[str, Any]], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        told(*samples)
    assert caught.value.code == code


def test_a_clock_that_jumps_for_years_makes_no_million_windows() -> None:
    with pytest.raises(InvalidInput) as caught:
        told(sample(0, 0), sample(3e8, 5), gap_ms=10**12)
    assert caught.value.code == "counter_clock_wrong"
    with pytest.raises(InvalidArgument):
        windows_from_counters(table(), cluster="c", window_ms=0)


def test_a_connector_tells_only_windows_that_have_closed() -> None:
    given = table(sample(0, 0), sample(60, 6), sample(110, 20), sample(115, 3))
    answer = counter_answer(given, cluster="c", window_ms=60_000)
    assert answer.windows.column("reads").to_pylist() == [6]
    assert (answer.oldest, answer.window_ms) == (T0, 60_000)
    assert "resets" in answer.notes
    later = table(sample(0, 0), sample(60, 6), sample(120, 20))
    again = counter_answer(later, cluster="c", window_ms=60_000, since=T0 + 60 * SECOND)
    assert again.windows.column("reads").to_pylist() == [14]
