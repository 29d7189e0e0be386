"""Heat matrix: nothing hot is lost, nothing is counted twice, absent is never zero."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workbench.heat.matrix import HeatMatrix, heat_matrix, pool, pool_sum, quantise, route_matrix
from workbench.model.keys import Span
from workbench.model.tables import LOAD_WINDOW
from workbench.model.times import from_us

COUNTS = st.none() | st.integers(0, 50) | st.integers(0, 2**40)
VALUES = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.one_of(st.just(float("nan")), st.integers(0, 2**45).map(float)),
)


@st.composite
def loads(draw: st.DrawFn) -> list[dict[str, object]]:
    """Draw windows, each with its own division of the key space, some of it not reported."""
    rows: list[dict[str, object]] = []
    for window in sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=5))):
        inner = draw(st.sets(st.binary(min_size=1, max_size=1), max_size=5))
        cuts: list[bytes | None] = [b"", *sorted(inner), None]
        for route, (start, end) in enumerate(pairwise(cuts), start=1):
            if draw(st.integers(0, 5)) == 0:
                continue
            rows.append(
                {
                    "cluster": "c",
                    "window_start": from_us(window * 1_000_000),
                    "window_end": from_us((window + 1) * 1_000_000),
                    "route_id": route * 100 + window,
                    "group": 1,
                    "bucket_start": start,
                    "bucket_end": end,
                    "reads": draw(COUNTS),
                    "writes": draw(COUNTS),
                    "read_bytes": None,
                    "write_bytes": None,
                    "cpu_ns": None,
                    "coverage": 1.0,
                    "error_bound": 0.0,
                }
            )
    return rows


def load_table(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=LOAD_WINDOW)


def as_matrix(values: np.ndarray) -> HeatMatrix:
    rows, columns = values.shape
    return HeatMatrix(
        values=values,
        spans=tuple(Span(bytes([i]), bytes([i + 1])) for i in range(rows)),
        times=tuple(from_us(c * 1_000_000) for c in range(columns)),
        window_ms=1_000,
        series="reads",
        route_ids=tuple(range(1, rows + 1)),
    )


def score(row: dict[str, object]) -> int | None:
    reads, writes = row["reads"], row["writes"]
    assert reads is None or isinstance(reads, int)
    assert writes is None or isinstance(writes, int)
    return None if reads is None or writes is None else reads + 4 * writes


@settings(deadline=None, max_examples=200)
@given(rows=loads(), chunk=st.integers(1, 9), seed=st.randoms())
def test_a_matrix_equals_a_plain_count_in_any_row_order(
    rows: list[dict[str, object]], chunk: int, seed: object
) -> None:
    if not rows:
        return
    heat = heat_matrix(load_table(rows), "score")
    shuffled = list(rows)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [load_table(shuffled[at : at + chunk]) for at in range(0, len(rows), chunk)]
    other = heat_matrix(pa.concat_tables(parts), "score")
    assert np.array_equal(heat.values, other.values, equal_nan=True)
    assert (heat.spans, heat.times, heat.route_ids) == (other.spans, other.times, other.route_ids)

    for column, start in enumerate(heat.times):
        mine = [row for row in rows if row["window_start"] == start]
        known = [value for row in mine if (value := score(row)) is not None]
        assert np.nansum(heat.values[:, column]) == sum(known)
        for span, value in zip(heat.spans, heat.values[:, column], strict=True):
            owners = [row for row in mine if span.start in _span(row)]
            assert len(owners) <= 1
            assert np.isnan(value) == (not owners or score(owners[0]) is None)
    for row in rows:
        column = heat.times.index(row["window_start"])  # type: ignore[arg-type]
        cells = [
            heat.values[index, column]
            for index, span in enumerate(heat.spans)
            if span.start in _span(row)
        ]
        if (value := score(row)) is not None:
            assert sum(cells) == value
            assert max(cells) - min(cells) <= 1


def _span(row: dict[str, object]) -> Span:
    return Span(row["bucket_start"], row["bucket_end"])  # type: ignore[arg-type]


@settings(deadline=None, max_examples=100)
@given(rows=loads())
def test_a_route_matrix_has_the_same_cells_with_route_loads(rows: list[dict[str, object]]) -> None:
    if not rows:
        return
    heat, routes = (make(load_table(rows), "score") for make in (heat_matrix, route_matrix))
    assert (heat.spans, heat.times) == (routes.spans, routes.times)
    assert np.array_equal(np.isnan(heat.values), np.isnan(routes.values))
    for row in rows:
        if (value := score(row)) is not None:
            column = heat.times.index(row["window_start"])  # type: ignore[arg-type]
            index = next(i for i, span in enumerate(heat.spans) if span.start in _span(row))
            assert routes.values[index, column] == value


@settings(deadline=None, max_examples=200)
@given(values=VALUES, rows_max=st.integers(1, 14), columns_max=st.integers(1, 14))
def test_pooling_loses_no_hot_cell_and_no_load(
    values: np.ndarray, rows_max: int, columns_max: int
) -> None:
    matrix = as_matrix(values)
    hottest, added = pool(matrix, rows_max, columns_max), pool_sum(matrix, rows_max, columns_max)
    assert hottest.values.shape[0] <= rows_max
    assert hottest.values.shape[1] <= columns_max
    assert hottest.values.shape == (len(hottest.spans), len(hottest.times))
    assert len(hottest.route_ids) == len(hottest.spans)
    assert np.nansum(added.values) == np.nansum(values)
    for (row, column), value in np.ndenumerate(values):
        key, moment = matrix.spans[row].start, matrix.times[column]
        pooled_row = next(i for i, span in enumerate(hottest.spans) if key in span)
        pooled_column = max(i for i, time in enumerate(hottest.times) if time <= moment)
        if not np.isnan(value):
            assert hottest.values[pooled_row, pooled_column] >= value
            assert added.values[pooled_row, pooled_column] >= value
    assert np.array_equal(np.isnan(hottest.values), np.isnan(added.values))
    # Every pooled value is one that was there.
    present = set(values[~np.isnan(values)].tolist())
    assert set(hottest.values[~np.isnan(hottest.values)].tolist()) <= present
    assert np.isnan(values).all() == np.isnan(hottest.values).all()


@settings(deadline=None, max_examples=200)
@given(values=VALUES, levels=st.integers(3, 256), top=st.none() | st.floats(0.1, 1e12))
def test_levels_keep_order_absence_and_zero(
    values: np.ndarray, levels: int, top: float | None
) -> None:
    out = quantise(values, levels=levels, top=top)
    assert out.shape == values.shape
    assert np.array_equal(out == 0, np.isnan(values))
    assert np.array_equal(out == 1, values == 0)
    flat, level = values[~np.isnan(values)], out[~np.isnan(values)]
    order = np.argsort(flat, kind="stable")
    assert (np.diff(level[order].astype(int)) >= 0).all()
    assert (out < levels).all()
    if top is not None:
        assert (out[values >= top] == levels - 1).all()
