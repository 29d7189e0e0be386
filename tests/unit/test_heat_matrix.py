"""Heat matrix: examples of shape, absence, splits, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from workbench.errors import InvalidArgument, InvalidInput, NotFound
from workbench.heat import grid
from workbench.heat.matrix import (
    HeatMatrix,
    heat_matrix,
    pool,
    pool_sum,
    quantise,
    route_matrix,
)
from workbench.model.keys import Span
from workbench.model.tables import LOAD_WINDOW
from workbench.model.times import EPOCH, from_us
from workbench.traces.generate import generate
from workbench.traces.windows import load_windows, trace_routes

NAN = float("nan")


def row(  # noqa: PLR0913, PLR0917 - a table row
    minute: int,
    route: int,
    start: bytes,
    end: bytes | None,
    reads: int | None = 0,
    writes: int | None = 0,
    *,
    minutes: int = 1,
    cluster: str = "c",
) -> dict[str, object]:
    return {
        "cluster": cluster,
        "window_start": from_us(minute * 60_000_000),
        "window_end": from_us((minute + minutes) * 60_000_000),
        "route_id": route,
        "group": 1,
        "bucket_start": start,
        "bucket_end": end,
        "reads": reads,
        "writes": writes,
        "read_bytes": reads,
        "write_bytes": writes,
        "cpu_ns": None,
        "coverage": 1.0,
        "error_bound": None,
    }


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=LOAD_WINDOW)


def matrix(values: list[list[float]]) -> HeatMatrix:
    """Return a matrix of these values over one-byte keys."""
    array = np.array(values, dtype=np.float64)
    rows, columns = array.shape
    return HeatMatrix(
        values=array,
        spans=tuple(Span(bytes([i]), bytes([i + 1])) for i in range(rows)),
        times=tuple(from_us(c * 60_000_000) for c in range(columns)),
        window_ms=60_000,
        series="reads",
        route_ids=tuple(range(1, rows + 1)),
    )


def same(left: np.ndarray, right: list[list[float]]) -> bool:
    return np.array_equal(left, np.array(right), equal_nan=True)


def test_rows_are_buckets_ascending_and_columns_windows_ascending() -> None:
    heat = heat_matrix(
        table(
            row(1, 2, b"m", None, 4),
            row(0, 2, b"m", None, 2),
            row(1, 1, b"", b"m", 3),
            row(0, 1, b"", b"m", 1),
        ),
        "reads",
    )
    assert same(heat.values, [[1, 3], [2, 4]])
    assert heat.spans == (Span(b"", b"m"), Span(b"m", None))
    assert heat.times == (EPOCH, datetime(1970, 1, 1, 0, 1, tzinfo=UTC))
    assert (heat.window_ms, heat.series, heat.route_ids) == (60_000, "reads", (1, 2))


def test_each_series_adds_up_its_counters() -> None:
    load = table(row(0, 1, b"", None, 10, 3))
    assert heat_matrix(load, "reads").values[0, 0] == 10
    assert heat_matrix(load, "writes").values[0, 0] == 3
    assert heat_matrix(load, "bytes").values[0, 0] == 13
    assert heat_matrix(load, "score").values[0, 0] == 22
    assert heat_matrix(load, "score", write_weight=1).values[0, 0] == 13


def test_null_is_absent_and_zero_is_zero() -> None:
    load = table(
        row(0, 1, b"", b"m", None, 5), row(0, 2, b"m", None, 0, 0), row(1, 1, b"", b"m", 0, None)
    )
    assert same(heat_matrix(load, "reads").values, [[NAN, 0], [0, NAN]])
    assert same(heat_matrix(load, "score").values, [[NAN, NAN], [0, NAN]])


def test_a_window_without_rows_is_a_column_of_absent_cells() -> None:
    heat = heat_matrix(table(row(0, 1, b"", None, 1), row(3, 1, b"", None, 2)), "reads")
    assert same(heat.values, [[1, NAN, NAN, 2]])
    assert len(heat.times) == 4


def test_a_split_cuts_rows_and_spreads_the_past_in_whole_numbers() -> None:
    heat = heat_matrix(
        table(
            row(0, 1, b"", None, 11),
            row(1, 2, b"", b"g", 4),
            row(1, 3, b"g", b"p", 5),
            row(1, 3, b"p", None, 6),
        ),
        "reads",
    )
    assert heat.spans == (Span(b"", b"g"), Span(b"g", b"p"), Span(b"p", None))
    assert same(heat.values, [[3, 4], [4, 5], [4, 6]])
    assert heat.route_ids == (2, 3, 3)


def test_parent_and_children_in_one_window_add_up() -> None:
    heat = heat_matrix(
        table(row(0, 1, b"", None, 10), row(0, 2, b"", b"m", 1), row(0, 3, b"m", None, 2)), "reads"
    )
    assert same(heat.values, [[6], [7]])
    assert heat.route_ids == (2, 3)


def test_the_same_load_twice_is_refused() -> None:
    load = table(row(0, 1, b"", b"m", 1), row(0, 1, b"g", None, 1))
    with pytest.raises(InvalidInput) as caught:
        heat_matrix(load, "reads")
    assert caught.value.code == "heat_buckets_overlap"
    assert "route 1" in caught.value.message
    assert "1970-01-01T00:00:00Z" in caught.value.message


def test_gaps_between_routes_are_no_rows() -> None:
    heat = heat_matrix(table(row(0, 1, b"a", b"c", 1), row(0, 2, b"x", b"z", 2)), "reads")
    assert heat.spans == (Span(b"a", b"c"), Span(b"x", b"z"))
    assert same(heat.values, [[1], [2]])


def test_rows_that_vanish_later_stay_with_their_last_route() -> None:
    heat = heat_matrix(
        table(row(0, 1, b"", b"m", 1), row(0, 2, b"m", None, 2), row(1, 2, b"m", None, 3)), "reads"
    )
    assert same(heat.values, [[1, NAN], [2, 3]])
    assert heat.route_ids == (1, 2)


def test_counts_near_the_limit_of_doubles_are_exact() -> None:
    heat = heat_matrix(table(row(0, 1, b"", None, 2**53 - 1)), "reads")
    assert int(heat.values[0, 0]) == 2**53 - 1


def test_route_matrix_shows_the_load_of_the_whole_route() -> None:
    load = table(
        row(0, 1, b"", b"g", 1),
        row(0, 1, b"g", b"m", 2),
        row(0, 2, b"m", None, 5),
        row(1, 1, b"", b"g", None),
        row(1, 1, b"g", b"m", 7),
        row(1, 2, b"m", None, 5),
    )
    heat = route_matrix(load, "reads")
    assert same(heat.values, [[3, NAN], [3, 7], [5, 5]])
    assert heat.spans == heat_matrix(load, "reads").spans


def test_a_collected_trace_keeps_every_access_in_its_matrix() -> None:
    trace = generate("hot-range", accesses=5_000, seed=3)
    load = load_windows(
        trace, trace_routes(trace, 4), cluster="c", window_ms=60_000, buckets_per_route=16
    )
    for series in ("reads", "writes"):
        heat = heat_matrix(load, series)
        total = sum(load.column(series).to_pylist())
        assert heat.values.sum() == total
        assert heat.values.shape == (64, 120)
        assert pool_sum(heat, 7, 11).values.sum() == total


def test_no_load_is_not_found() -> None:
    with pytest.raises(NotFound) as caught:
        heat_matrix(LOAD_WINDOW.empty_table(), "reads")
    assert caught.value.code == "load_absent"


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([row(0, 1, b"", None), row(0, 1, b"", None, cluster="d")], "heat_clusters_mixed"),
        ([row(0, 1, b"", None), row(1, 1, b"", None, minutes=2)], "heat_windows_uneven"),
        ([row(0, 1, b"", None, minutes=2), row(1, 1, b"", None, minutes=2)], "heat_windows_uneven"),
        ([row(0, 1, b"", None, minutes=0)], "heat_windows_uneven"),
        ([row(0, 1, b"m", b"m")], "heat_bucket_invalid"),
        ([row(0, 1, b"m", b"a")], "heat_bucket_invalid"),
        ([row(0, 1, b"", None, 2**62, 2**62)], "heat_counters_too_large"),
        ([row(0, 1, b"", None, -1)], "counter_negative"),
    ],
)
def test_load_that_forms_no_matrix_is_refused(rows: list[dict[str, object]], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        heat_matrix(table(*rows), "score")
    assert caught.value.code == code
    assert caught.value.hint


def test_too_many_cells_are_refused_before_memory_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    far = table(row(0, 1, b"", None), row(60_000_000, 1, b"", None))
    with pytest.raises(InvalidInput) as caught:
        heat_matrix(far, "reads")
    assert caught.value.code == "heat_too_large"
    monkeypatch.setattr(grid, "CELLS_MAX", 3)
    wide = table(*(row(m, 1, s, e) for m in (0, 1) for s, e in ((b"", b"m"), (b"m", None))))
    with pytest.raises(InvalidInput) as caught:
        heat_matrix(wide, "reads")
    assert caught.value.code == "heat_too_large"


@pytest.mark.parametrize(("series", "weight"), [("cpu", 4), ("score", -1)])
def test_an_unknown_series_is_refused(series: str, weight: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        heat_matrix(table(row(0, 1, b"", None)), series, write_weight=weight)
    assert caught.value.code == "series_unknown"


def test_pooling_keeps_the_hottest_cell_and_the_outer_keys() -> None:
    heat = matrix([[0, 1, 2], [3, 0, 0], [0, 0, NAN], [0, 9, NAN]])
    small = pool(heat, 2, 2)
    assert same(small.values, [[3, 2], [9, NAN]])
    assert small.spans == (Span(b"\x00", b"\x02"), Span(b"\x02", b"\x04"))
    assert small.times == (heat.times[0], heat.times[2])
    assert small.window_ms == 120_000
    assert small.route_ids == (2, 4)


def test_pooling_by_sum_keeps_the_total_and_absence() -> None:
    small = pool_sum(matrix([[0, 1, NAN], [3, NAN, NAN]]), 1, 2)
    assert same(small.values, [[4, NAN]])


def test_a_matrix_that_fits_is_not_pooled() -> None:
    heat = matrix([[1, 2], [3, 4]])
    assert pool(heat, 2, 2) is heat
    assert pool_sum(heat, 9, 9) is heat


def test_pooling_to_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        pool(matrix([[1]]), 0, 1)
    assert caught.value.code == "pool_invalid"


def test_levels_tell_absent_from_zero_from_load() -> None:
    levels = quantise(np.array([NAN, 0.0, 0.001, 1.0, 1e6]))
    assert levels.dtype == np.uint8
    assert levels[:2].tolist() == [0, 1]
    assert levels[2] == 2
    assert levels[2] < levels[3] < levels[4] == 255


def test_a_shared_top_gives_two_matrices_one_scale() -> None:
    assert quantise(np.array([10.0]), top=1_000.0)[0] == quantise(np.array([10.0, 1_000.0]))[0]
    assert quantise(np.array([5_000.0]), top=1_000.0)[0] == 255


@pytest.mark.parametrize("levels", [3, 4, 64, 256])
def test_the_hottest_cell_has_the_highest_level(levels: int) -> None:
    for hottest in (0.5, 1.0, 3.0, 7.3e5, 2.0**53):
        assert quantise(np.array([0.0, hottest]), levels=levels).tolist() == [1, levels - 1]


def test_a_matrix_without_load_has_no_level_of_load() -> None:
    assert quantise(np.array([[NAN, 0.0]])).tolist() == [[0, 1]]
    assert quantise(np.array([[NAN, 0.0, 3.0]]), top=0.0).tolist() == [[0, 1, 255]]
    assert quantise(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("levels", [2, 257])
def test_a_number_of_levels_out_of_range_is_refused(levels: int) -> None:
    with pytest.raises(InvalidArgument):
        quantise(np.array([1.0]), levels=levels)
