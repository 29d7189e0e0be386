"""Claims about the heat pictures."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.browser.report_inputs import SINCE, WINDOW_MS, sample_heat, spans_of
from workbench.heat import matrix as heat
from workbench.heat.matrix import HeatMatrix, pool
from workbench.report import palette
from workbench.report.heat_view import Scale, legend_ticks, levels_of
from workbench.report.png import CUT, bare_png, data_uri, heat_png

BRIGHTEST = palette.cividis()[-1]


def matrix_of(values: np.ndarray) -> HeatMatrix:
    rows, columns = values.shape
    return HeatMatrix(
        values=values.astype(np.float64),
        spans=spans_of([b"", *(b"k%06d" % row for row in range(1, rows))]),
        times=tuple(SINCE + timedelta(milliseconds=WINDOW_MS * c) for c in range(columns)),
        window_ms=WINDOW_MS,
        series="score",
        route_ids=(1,) * rows,
    )


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def bare(matrix: HeatMatrix, top: float | None = None) -> Image.Image:
    top = float(np.nanmax(matrix.values)) if top is None else top
    return Image.open(io.BytesIO(bare_png(levels_of(matrix, "log", top))))


def is_colour(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (image == np.array(colour, dtype=np.uint8)).all(axis=2)


def test_no_single_hot_cell_of_2000_by_2880_is_lost():
    values = np.ones((2_000, 2_880))
    rng = np.random.default_rng(11)
    rows, columns = rng.integers(0, 2_000, 50), rng.integers(0, 2_880, 50)
    values[rows, columns] = 5_000.0
    matrix = matrix_of(values)

    drawn = pool(matrix, 320, 720)
    picture = np.asarray(bare(drawn).convert("RGB"))
    bright = is_colour(picture, BRIGHTEST)
    for row, column in zip(rows, columns, strict=True):
        at = next(i for i, span in enumerate(drawn.spans) if matrix.spans[row].start in span)
        assert bright[at, column // 4]

    with_axes = pixels(heat_png(matrix, title="hot", cut_keys=[b"k000777", b"k001000"]))
    drawn = pool(matrix, 512, 960)
    lit = is_colour(with_axes, BRIGHTEST)[: 16 + 22 + 16 + 19 + 520]
    assert lit.sum() == (drawn.values == 5_000.0).sum()


def test_a_hot_cell_is_alone_in_its_place():
    values = np.zeros((40, 30))
    values[7, 21] = 9.0
    bright = is_colour(np.asarray(bare(matrix_of(values)).convert("RGB")), BRIGHTEST)
    assert np.argwhere(bright).tolist() == [[7, 21]]


def test_not_measured_is_see_through_and_zero_is_not():
    values = np.array([[np.nan, 0.0, 1.0]])
    alpha = np.asarray(bare(matrix_of(values)).convert("RGBA"))[0, :, 3]
    assert alpha.tolist() == [0, 255, 255]


def test_colours_of_what_was_not_measured_are_never_those_of_load():
    loaded = set(palette.cividis()[palette.LEVEL_ZERO :])
    assert palette.ABSENT not in loaded
    assert palette.ABSENT_HATCH not in loaded


def test_not_measured_is_hatched_in_the_picture_with_axes():
    values = np.full((8, 8), np.nan)
    values[0, 0] = 1.0
    image = pixels(heat_png(matrix_of(values), title="gap"))
    assert is_colour(image, palette.ABSENT_HATCH).sum() > 1_000
    assert is_colour(image, palette.ABSENT).sum() > 1_000


def test_levels_are_those_of_the_heat_layer():
    assert (palette.LEVEL_ABSENT, palette.LEVEL_ZERO, palette.LEVEL_LOAD) == (
        heat.LEVEL_ABSENT,
        heat.LEVEL_ZERO,
        heat.LEVEL_LOAD,
    )


def test_more_load_is_never_darker():
    shades = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in palette.cividis()[1:]]
    assert shades == sorted(shades)
    assert shades[-1] - shades[0] > 150


def test_cut_lines_cover_no_cell_and_name_their_keys():
    matrix = sample_heat(rows=40, windows=50)
    plain = pixels(heat_png(matrix, title="t", labels=False))
    cut = pixels(heat_png(matrix, title="t", cut_keys=[b"user/500000", b"user/505000"]))
    assert is_colour(cut, CUT).sum() > 2 * 50
    assert is_colour(cut, BRIGHTEST).sum() >= is_colour(plain, BRIGHTEST).sum()
    assert cut.shape[1] > plain.shape[1]


def test_without_labels_no_key_is_written():
    matrix = sample_heat(rows=12)
    other = replace(matrix, spans=sample_heat(rows=12, prefix=b"secret").spans)
    assert heat_png(matrix, title="t", labels=False) == heat_png(other, title="t", labels=False)
    assert heat_png(matrix, title="t") != heat_png(other, title="t")


def test_one_top_for_two_pictures_makes_them_comparable():
    quiet, busy = matrix_of(np.full((4, 4), 10.0)), matrix_of(np.full((4, 4), 1_000.0))
    assert not is_colour(np.asarray(bare(quiet, 1_000.0).convert("RGB")), BRIGHTEST).any()
    assert is_colour(np.asarray(bare(busy, 1_000.0).convert("RGB")), BRIGHTEST).all()
    assert heat_png(quiet, title="t", top=1_000.0) != heat_png(quiet, title="t")


def test_linear_scale_shows_half_the_load_as_half():
    levels = palette.linear_levels(np.array([[np.nan, 0.0, 1.0, 50.0, 100.0, 900.0]]), 100.0)
    assert levels[0, :2].tolist() == [palette.LEVEL_ABSENT, palette.LEVEL_ZERO]
    assert levels[0, 3] == pytest.approx((2 + 255) / 2, abs=1)
    assert levels[0, 4:].tolist() == [255, 255]


@settings(deadline=None, max_examples=60)
@given(
    top=st.one_of(st.just(0.0), st.floats(1, 1e15)),
    scale=st.sampled_from(["log", "linear", "root"]),
)
def test_ticks_of_the_scale_ascend_and_end_at_the_top(top: float, scale: Scale):
    ticks = legend_ticks(scale, top)
    places = [tick.at for tick in ticks]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert not ticks or top == 0 or places[-1] == 100


@pytest.mark.parametrize(
    "values",
    [np.zeros((1, 1)), np.full((3, 2), np.nan), np.ones((1, 3_000)), np.ones((3_000, 1))],
    ids=["one zero", "nothing measured", "one row", "one column"],
)
def test_extreme_shapes_are_drawn(values: np.ndarray):
    image = pixels(heat_png(matrix_of(values), title="x", cut_keys=[b"k000001"]))
    assert image.shape[0] < 900
    assert image.shape[1] < 1_600


@pytest.mark.parametrize(
    "title",
    ["<script>alert(1)</script>", "\u202eevil", "a\0b\nc", "x" * 5_000, "日本語", "\udc80"],
)
def test_hostile_titles_are_drawn_within_the_picture(title: str):
    image = pixels(heat_png(sample_heat(), title=title))
    assert image.shape[1] < 1_600
    # The right margin stays paper, whatever the title.
    assert (image[:, -8:] == 255).all()


def test_hostile_keys_are_drawn_as_printable_text():
    keys = [b"", b"\0\x1b[31m", "k\u202e".encode(), b"z" * 4_096]
    matrix = replace(matrix_of(np.ones((4, 4))), spans=spans_of(keys))
    assert pixels(heat_png(matrix, title="t", cut_keys=keys[1:])).shape[1] < 1_600


def test_the_same_matrix_gives_the_same_bytes():
    assert heat_png(sample_heat(), title="t") == heat_png(sample_heat(), title="t")


def test_data_uri_is_a_png():
    assert data_uri(bare_png(np.zeros((2, 2), dtype=np.uint8))).startswith(
        "data:image/png;base64,iVBOR"
    )
