"""Pooling: no hot cell is lost, no load is lost or made, absent stays apart from zero."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.heat.matrix import HeatMatrix, heat_matrix, pool, pool_sum
from workbench.model.keys import Span
from workbench.model.tables import LOAD_WINDOW
from workbench.model.times import from_us


def matrix(values: np.ndarray) -> HeatMatrix:
    rows, columns = values.shape
    return HeatMatrix(
        values=values,
        spans=tuple(
            Span(number.to_bytes(3, "big"), (number + 1).to_bytes(3, "big"))
            for number in range(rows)
        ),
        times=tuple(from_us(c * 60_000_000) for c in range(columns)),
        window_ms=60_000,
        series="reads",
        route_ids=tuple(range(1, rows + 1)),
    )


def test_each_of_200_random_single_hot_cells_survives_pooling_in_its_place() -> None:
    rng = np.random.Generator(np.random.PCG64(200))
    for _ in range(200):
        rows, columns = int(rng.integers(1, 900)), int(rng.integers(1, 900))
        row, column = int(rng.integers(rows)), int(rng.integers(columns))
        values = rng.integers(0, 50, (rows, columns)).astype(np.float64)
        values[row, column] = 1e6
        small = pool(matrix(values), int(rng.integers(1, 300)), int(rng.integers(1, 300)))
        [(at_row, at_column)] = np.argwhere(small.values == 1e6).tolist()
        key = row.to_bytes(3, "big")
        assert key in small.spans[at_row]
        starts = [int(moment.timestamp()) // 60 for moment in small.times]
        assert starts[at_column] <= column < [*starts[1:], columns][at_column]
        assert small.route_ids[at_row] == row + 1


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 30), st.integers(1, 30), st.data())
def test_sums_are_conserved_exactly_and_absence_too(
    rows: int, columns: int, rows_max: int, columns_max: int, data: st.DataObject
) -> None:
    rng = np.random.Generator(np.random.PCG64(data.draw(st.integers(0, 2**32))))
    values = rng.integers(0, 2**40, (rows, columns)).astype(np.float64)
    values[rng.random((rows, columns)) < data.draw(st.sampled_from([0.0, 0.3, 0.95]))] = np.nan
    small = pool_sum(matrix(values), rows_max, columns_max)
    assert int(np.nansum(small.values)) == int(np.nansum(values))
    hottest = pool(matrix(values), rows_max, columns_max)
    assert np.array_equal(np.isnan(hottest.values), np.isnan(small.values))
    assert np.isnan(small.values).all() == np.isnan(values).all()
    assert small.spans == hottest.spans
    assert (small.spans[0].start, small.spans[-1].end) == (
        b"\0\0\0",
        rows.to_bytes(3, "big"),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 2**32))
def test_a_matrix_holds_every_count_of_the_table_to_the_last_one(
    buckets: int, windows: int, seed: int
) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    rows = []
    for window in range(windows):
        cuts = sorted({0, *rng.integers(1, 250, int(rng.integers(0, buckets + 1))).tolist()})
        bounds = [b"" if cut == 0 else bytes([cut]) for cut in cuts]
        for start, end in zip(bounds, [*bounds[1:], None], strict=True):
            rows.append(
                {
                    "cluster": "c",
                    "window_start": from_us(window * 60_000_000),
                    "window_end": from_us((window + 1) * 60_000_000),
                    "route_id": 1,
                    "group": 1,
                    "bucket_start": start,
                    "bucket_end": end,
                    "reads": int(rng.integers(0, 2**40)),
                    "writes": 0,
                    "read_bytes": 0,
                    "write_bytes": 0,
                    "cpu_ns": None,
                    "coverage": 1.0,
                    "error_bound": None,
                }
            )
    order = rng.permutation(len(rows))
    table = pa.Table.from_pylist([rows[i] for i in order], schema=LOAD_WINDOW)
    heat = heat_matrix(table, "reads")
    total = sum(row["reads"] for row in rows)
    assert int(np.nansum(heat.values)) == total
    assert int(np.nansum(pool_sum(heat, 3, 2).values)) == total
