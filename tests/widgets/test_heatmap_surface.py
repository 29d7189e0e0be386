"""Claims about what the heatmap widget is sent, without a browser."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InvalidArgument, InvalidInput
from workbench.heat.matrix import HeatMatrix, heat_matrix, pool
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.model.tables import LOAD_WINDOW, TIME
from workbench.model.times import from_us, to_us
from workbench.report.heat_pieces import Box
from workbench.report.heat_surface import (
    CELLS_MAX,
    OVERVIEW_COLUMNS_MAX,
    OVERVIEW_ROWS_MAX,
    HeatSurface,
    empty_surface,
    exact_json,
    surface_of,
    surface_of_matrices,
    table_json,
)

T0 = 1_772_600_400_000_000
ROWS, COLUMNS = 5_000, 2_880
FULL = 255


def matrix(values: Any, *, prefix: bytes = b"k", series: str = "score") -> HeatMatrix:
    values = np.asarray(values, dtype=np.float64)
    rows, columns = values.shape
    starts = [b"", *(prefix + b"%06d" % row for row in range(1, rows))]
    return HeatMatrix(
        values=values,
        spans=tuple(Span(a, b) for a, b in zip(starts, [*starts[1:], None], strict=True)),
        times=tuple(from_us(T0 + column * 60_000_000) for column in range(columns)),
        window_ms=60_000,
        series=series,
        route_ids=tuple(range(1, rows + 1)),
    )


def surface(values: Any, **more: Any) -> HeatSurface:
    return surface_of_matrices([matrix(values)], **more)


def levels(tile: Any) -> Any:
    return np.frombuffer(tile.levels, dtype=np.uint8).reshape(tile.down, tile.across)


def test_every_one_of_200_single_hot_cells_is_at_full_brightness_in_overview_and_tiles():
    rng = np.random.Generator(np.random.PCG64(200))
    values = rng.integers(0, 9, (COLUMNS, ROWS), dtype=np.uint8).astype(np.float64).T
    hot = {(int(rng.integers(ROWS)), int(rng.integers(COLUMNS))) for _ in range(200)}
    for place in hot:
        values[place] = 10**9
    made = surface(values)
    tile = made.overview("score")
    seen = levels(tile)
    assert (tile.down, tile.across) == (1_000, 1_440)
    assert all(seen[row * 1_000 // ROWS, column // tile.factor] == FULL for row, column in hot)
    assert np.count_nonzero(seen == FULL) == len({(r // 5, c // 2) for r, c in hot})
    first = min(hot)
    box = Box(max(first[0] - 40, 0), first[0] + 40, max(first[1] - 30, 0), first[1] + 30)
    near = made.tile("score", box, rows_max=900, columns_max=900)
    assert levels(near)[first[0] - box.row, first[1] - box.column] == FULL
    found = made.exact("score", Box(first[0], first[0] + 1, first[1], first[1] + 1))
    assert (found.load, found.row, found.column) == (10**9, *first)
    assert made.table("score").load == int(values.sum())


def test_the_first_message_is_under_two_megabytes_even_with_long_hostile_keys():
    values = np.ones((ROWS, COLUMNS))
    full = matrix(values, prefix=b"\x00" * 3_000)
    made = surface_of_matrices([full])
    tile = made.overview("score")
    said = json.dumps(tile.header()) + json.dumps(made.frame("score"))
    assert tile.down <= OVERVIEW_ROWS_MAX
    assert tile.across <= OVERVIEW_COLUMNS_MAX
    assert len(tile.levels) + len(said) <= 2_000_000


def test_no_tile_is_larger_than_the_limit_whatever_is_asked_for():
    made = surface(np.ones((3_000, 2_000)))
    tile = made.tile("score", made.whole, rows_max=10**9, columns_max=10**9)
    assert len(tile.levels) == tile.down * tile.across <= CELLS_MAX


def test_zero_absent_and_least_load_have_levels_of_their_own():
    tile = surface([[np.nan, 0, 1, 10**6]]).overview("score")
    assert levels(tile).tolist() == [[0, 1, levels(tile)[0, 2], FULL]]
    assert 2 <= levels(tile)[0, 2] < FULL


def test_tiles_have_one_colour_scale():
    values = np.ones((4, 4))
    values[3, 3] = 10**6
    made = surface(values)
    corner = made.tile("score", Box(0, 2, 0, 2), rows_max=9, columns_max=9)
    assert levels(corner).max() == levels(made.overview("score"))[0, 0] < FULL


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tables_and_hover_agree_with_a_plain_sum(data: st.DataObject):
    rows, columns = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 150))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.Generator(np.random.PCG64(seed))
    values = rng.integers(0, 2**53, (rows, columns)).astype(np.float64) // 2**9
    values[rng.random((rows, columns)) < 0.3] = np.nan
    made = surface(values)
    row = data.draw(st.integers(0, rows - 1))
    column = data.draw(st.integers(0, columns - 1))
    box = Box(
        row,
        data.draw(st.integers(row + 1, rows)),
        column,
        data.draw(st.integers(column + 1, columns)),
    )
    part = values[box.rows, box.columns]
    known = [int(each) for each in part.ravel() if not np.isnan(each)]
    told, under = made.table("score", box), made.exact("score", box)
    assert told.load == under.total == (sum(known) if known else None)
    assert told.absent == under.absent == part.size - len(known)
    assert under.load == (max(known) if known else None)
    for each in told.rows:
        cells = [int(cell) for cell in values[each.row, box.columns] if not np.isnan(cell)]
        assert each.load == (sum(cells) if cells else None)
        assert each.peak == (max(cells) if cells else None)
    loads = [each.load for each in told.rows]
    measured = [load for load in loads if load is not None]
    assert measured == sorted(measured, reverse=True)
    assert loads == measured + [None] * (len(loads) - len(measured))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 45), st.integers(1, 45))
def test_tiles_are_what_pooling_the_matrix_gives(rows: int, columns: int, down: int, across: int):
    rng = np.random.Generator(np.random.PCG64(rows * 41 + columns))
    values = rng.poisson(2, (rows, columns)).astype(np.float64)
    values[rng.random((rows, columns)) < 0.4] = np.nan
    full = matrix(values)
    tile = surface_of_matrices([full]).tile(
        "score", Box(0, rows, 0, columns), rows_max=down, columns_max=across
    )
    pooled = pool(full, down, across)
    assert (tile.down, tile.across) == pooled.values.shape
    assert np.array_equal(levels(tile) == 0, np.isnan(pooled.values))
    assert np.array_equal(levels(tile) == 1, pooled.values == 0)
    assert tile.facts["route"] == [str(each) for each in pooled.route_ids]


def test_totals_beyond_64_bits_are_exact():
    values = np.full((3_000, 3), float(2**52))
    values[0, 0] = 7
    assert surface(values).table("score").load == (9_000 - 1) * 2**52 + 7


def test_counts_that_cannot_be_added_up_are_refused():
    with pytest.raises(InvalidInput) as refused:
        surface([[2.0**62]])
    assert refused.value.code == "heat_counters_too_large"


def routes_of(full: HeatMatrix, cut: int, split_us: int) -> list[RouteDescriptor]:
    spans = full.spans
    hlc = (split_us // 1_000) << 16
    return [
        RouteDescriptor(row + 1, span, 1 + row % 2, parent_route_id=p, split_at_hlc=hlc if p else 0)
        for row, span in enumerate(spans)
        for p in [90 if row in (cut - 1, cut) else 0]
    ]


def test_splits_within_the_time_are_lines_at_their_time_and_key():
    full = matrix(np.ones((6, 10)))
    made = surface_of_matrices([full], routes=routes_of(full, 3, T0 + 150_000_000))
    (line,) = made.lineage
    assert (line.column, line.row, line.row_first, line.row_end) == (2.5, 3, 2, 4)
    assert (line.route_id, line.key) == (90, "k000003")
    early = surface_of_matrices([full], routes=routes_of(full, 3, T0 - 1_000_000))
    assert early.lineage == ()


def test_groups_and_leaders_of_rows_are_told_and_unknown_is_not_a_group():
    full = matrix(np.ones((3, 2)))
    routes = [RouteDescriptor(1, full.spans[0], 7), RouteDescriptor(2, full.spans[1], 9)]
    made = surface_of_matrices([full], routes=routes, leaders={7: "b\u202ead", 9: "n2"})
    facts = made.overview("score").facts
    assert [made.groups[at] for at in facts["group"]] == ["group 7", "group 9", "not known"]
    assert [made.leaders[at] for at in facts["leader"]] == ["b\\u202ead", "n2", "not known"]
    assert [made.group(row) for row in range(3)] == [7, 9, None]


def test_keys_of_any_bytes_become_printable_text():
    keys = [b"", b"\x00", b"<img/src=x/onerror=alert(1)>", "\u202eevil".encode(), b"z" * 4_096]
    keys.sort()
    full = HeatMatrix(
        values=np.ones((5, 1)),
        spans=tuple(Span(a, b) for a, b in zip(keys, [*keys[1:], None], strict=True)),
        times=(from_us(T0),),
        window_ms=60_000,
        series="score",
        route_ids=(1, 2, 3, 4, 5),
    )
    made = surface_of_matrices([full], title="\u202e<b>")
    shown = json.dumps(
        [
            made.overview("score").header(),
            table_json(made.table("score")),
            [exact_json(made, "score", Box(row, row + 1, 0, 1)) for row in range(5)],
            made.title,
        ],
        ensure_ascii=False,
    )
    assert "\u202e" not in shown
    assert "\\u0000" not in shown
    assert max(len(label) for label in made.overview("score").facts["labels"]) < 90


def test_a_shared_beginning_is_left_out_of_labels_once():
    made = surface_of_matrices([matrix(np.ones((30, 1)), prefix=b"tenant/")])
    assert made.frame("score")["prefix"] == "tenant/0000"
    assert made.overview("score").facts["labels"][:3] == ["lowest key", "…01", "…02"]


def test_spans_and_times_find_their_rows_and_columns():
    made = surface(np.ones((5, 10)))
    assert made.rows_of(Span(b"k000001", b"k000003")) == (1, 2)
    assert made.rows_of(Span(b"k0000015", b"k0000016")) == (1, 1)
    assert made.rows_of(Span(b"", None)) == (0, 4)
    assert made.columns_of(T0 + 1, T0 + 60_000_001) == (0, 1)
    assert made.columns_of(T0 - 5, T0) is None
    assert made.columns_of(T0 + 600_000_000, T0 + 700_000_000) is None


def test_an_empty_surface_answers_with_nothing():
    made = empty_surface("nothing")
    assert made.is_empty
    assert made.overview("score").levels == b""
    assert made.table("score").load is None
    assert made.rows_of(Span(b"", None)) is None
    assert surface_of_matrices([]).is_empty


def test_boxes_outside_and_unknown_series_are_refused():
    made = surface(np.ones((2, 2)))
    for box in (Box(0, 3, 0, 1), Box(1, 1, 0, 1), Box(-1, 1, 0, 1), Box(0, 1, 0, 9)):
        with pytest.raises(InvalidInput):
            made.exact("score", box)
        with pytest.raises(InvalidInput):
            made.tile("score", box, rows_max=5, columns_max=5)
    with pytest.raises(InvalidArgument):
        made.overview("reads")


def test_series_of_other_rows_are_refused():
    made = surface_of_matrices([matrix(np.ones((2, 2))), matrix(np.ones((3, 2)), series="reads")])
    with pytest.raises(InvalidInput) as refused:
        made.overview("reads")
    assert refused.value.code == "heat_series_differ"


def test_a_load_table_gives_every_series_and_null_is_not_zero():
    at = from_us(T0)
    rows = [
        {
            "cluster": "c",
            "window_start": at,
            "window_end": at + timedelta(minutes=1),
            "route_id": 1,
            "bucket_start": b"",
            "bucket_end": None,
            "reads": 10,
            "writes": 5,
            "read_bytes": None,
            "write_bytes": 3,
        }
    ]
    wanted = set(rows[0])
    schema = pa.schema([field for field in LOAD_WINDOW if field.name in wanted])
    load = pa.Table.from_pylist(rows, schema=schema)
    assert schema.field("window_start").type == TIME
    made = surface_of(load, series="reads")
    assert made.series == ("reads", "writes", "bytes", "score")
    loads = {name: made.table(name).load for name in made.series}
    assert loads == {"reads": 10, "writes": 5, "bytes": None, "score": 30}
    assert made.matrix("score").values.tolist() == heat_matrix(load, "score").values.tolist()
    assert made.first_us == to_us(at)
