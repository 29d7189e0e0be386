"""Claims about load tables at the door: every wrong row is refused with its reason."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from workbench.errors import InvalidInput
from workbench.model.keys import Span
from workbench.model.load import check_hot_keys, check_key_samples, check_load
from workbench.model.tables import HOT_KEY, KEY_SAMPLE, LOAD_WINDOW

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "cluster": "c",
        "window_start": T0 + number * MINUTE,
        "window_end": T0 + (number + 1) * MINUTE,
        "route_id": 1,
        "group": 1,
        "bucket_start": b"",
        "bucket_end": None,
        "reads": 5,
        "writes": 1,
        "read_bytes": None,
        "write_bytes": None,
        "cpu_ns": None,
        "coverage": 1.0,
        "error_bound": None,
        **changes,
    }


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=LOAD_WINDOW)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="no rows"),
        pytest.param([row()], id="one window"),
        pytest.param([row(n, reads=0, writes=0) for n in range(3)], id="all zero"),
        pytest.param([row(n, reads=None, writes=None) for n in range(3)], id="all null"),
        pytest.param([row(0), row(5)], id="a hole in time"),
        pytest.param(
            [row(bucket_end=b"m"), row(route_id=2, bucket_start=b"g")], id="parent and child"
        ),
        pytest.param([row(), row(group=2)], id="a route that moved"),
        pytest.param([row(bucket_start=b"m"), row(bucket_end=b"m")], id="keys descending"),
    ],
)
def test_load_that_makes_sense_is_taken_as_it_is(rows: list[dict[str, Any]]) -> None:
    given = table(*rows)
    assert check_load(given).equals(given)


def test_rows_in_any_order_are_the_same_load() -> None:
    rows = [
        row(n, bucket_start=start, bucket_end=end)
        for n in range(4)
        for start, end in ((b"", b"g"), (b"g", b"p"), (b"p", None))
    ]
    random.Random(3).shuffle(rows)
    assert check_load(table(*rows)).num_rows == 12


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([row(reads=-1)], "counter_negative"),
        ([row(), row(1, window_end=T0 + MINUTE)], "load_window_reversed"),
        ([row(window_end=T0 - MINUTE)], "load_window_reversed"),
        ([row(), row(window_end=T0 + 2 * MINUTE)], "load_windows_overlap"),
        ([row(bucket_start=b"m", bucket_end=b"m")], "load_bucket_reversed"),
        ([row(bucket_start=b"m", bucket_end=b"a")], "load_bucket_reversed"),
        ([row(bucket_end=b"m"), row(bucket_start=b"g")], "load_buckets_overlap"),
        ([row(), row(bucket_start=b"g", bucket_end=b"h")], "load_buckets_overlap"),
        ([row(), row()], "load_buckets_overlap"),
        ([row(coverage=1.01)], "load_coverage_invalid"),
        ([row(coverage=-0.1)], "load_coverage_invalid"),
        ([row(coverage=float("nan"))], "load_coverage_invalid"),
        ([row(error_bound=-1.0)], "load_error_bound_invalid"),
        ([row(error_bound=float("inf"))], "load_error_bound_invalid"),
        ([row(bucket_end=b"x" * 4_097)], "key_too_long"),
    ],
)
def test_load_that_makes_no_sense_is_refused(rows: list[dict[str, Any]], code: str) -> None:
    for order in (rows, rows[::-1]):
        with pytest.raises(InvalidInput) as caught:
            check_load(table(*order), "the load")
        assert caught.value.code == code
        assert "the load" in caught.value.message
        assert caught.value.hint


def test_the_first_wrong_row_is_named_with_its_route_and_window() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_load(table(row(), row(1), row(2, coverage=2.0), row(3, coverage=3.0)))
    assert "row 3 (route 1, window from 2026-01-01T00:02:00Z)" in caught.value.message


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"reads": pa.array([2**63], pa.uint64())}, "schema_mismatch"),
        ({"reads": pa.array(["many"])}, "schema_mismatch"),
        ({"reads": pa.array([1.5])}, "schema_mismatch"),
        ({"window_start": pa.array(["yesterday"])}, "schema_mismatch"),
        ({"route_id": pa.array([-1])}, "schema_mismatch"),
        ({"bucket_start": pa.array([None], pa.binary())}, "null_in_required_column"),
        ({"coverage": None}, "columns_missing"),
    ],
)
def test_columns_of_another_kind_are_refused(columns: dict[str, Any], code: str) -> None:
    given = table(row())
    for name, column in columns.items():
        at = given.column_names.index(name)
        given = given.drop(name) if column is None else given.set_column(at, name, column)
    with pytest.raises(InvalidInput) as caught:
        check_load(given)
    assert caught.value.code == code


def test_a_bucket_outside_its_route_is_refused_and_an_unknown_route_is_not() -> None:
    spans = {1: [Span(b"a", b"m"), Span(b"a", b"g")]}
    inside = [row(bucket_start=b"a", bucket_end=b"g"), row(bucket_start=b"g", bucket_end=b"m")]
    assert check_load(table(*inside, row(route_id=9)), spans=spans).num_rows == 3
    for bounds in ((b"", b"g"), (b"a", b"n"), (b"a", None)):
        with pytest.raises(InvalidInput) as caught:
            check_load(table(row(bucket_start=bounds[0], bucket_end=bounds[1])), spans=spans)
        assert caught.value.code == "load_bucket_outside_route"


def hot_key(**changes: Any) -> dict[str, Any]:
    window = {"window_start": T0, "window_end": T0 + MINUTE, "route_id": 1, "key": b"k"}
    return {**window, "count": 10, "error": 1, "sample_rate": 1.0, **changes}


def key_sample(**changes: Any) -> dict[str, Any]:
    window = {"window_start": T0, "window_end": T0 + MINUTE, "route_id": 1, "key": b"k"}
    return {**window, "op": "read", "weight": 100.0, **changes}


def test_hot_keys_and_samples_that_make_sense_are_taken() -> None:
    keys = pa.Table.from_pylist([hot_key(), hot_key(key=b"")], HOT_KEY)
    samples = pa.Table.from_pylist([key_sample(), key_sample(op="write")], KEY_SAMPLE)
    assert check_hot_keys(keys).equals(keys)
    assert check_key_samples(samples).equals(samples)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"count": -1}, "counter_negative"),
        ({"error": -1}, "counter_negative"),
        ({"sample_rate": 0.0}, "sample_rate_invalid"),
        ({"sample_rate": 1.1}, "sample_rate_invalid"),
        ({"sample_rate": float("nan")}, "sample_rate_invalid"),
        ({"window_end": T0}, "load_window_reversed"),
        ({"key": b"x" * 5_000}, "key_too_long"),
    ],
)
def test_hot_keys_that_make_no_sense_are_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_hot_keys(pa.Table.from_pylist([hot_key(**changes)], HOT_KEY))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"weight": 0.0}, "sample_weight_invalid"),
        ({"weight": 0.99}, "sample_weight_invalid"),
        ({"weight": float("nan")}, "sample_weight_invalid"),
        ({"weight": float("inf")}, "sample_weight_invalid"),
        ({"op": "scan"}, "operation_unknown"),
        ({"key": b"x" * 5_000}, "key_too_long"),
    ],
)
def test_samples_that_make_no_sense_are_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_key_samples(pa.Table.from_pylist([key_sample(**changes)], KEY_SAMPLE))
    assert caught.value.code == code
