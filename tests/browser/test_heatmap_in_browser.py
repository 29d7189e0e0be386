"""The heatmap widget in JupyterLab 4 and Notebook 7: paint, point, select, keys, reload."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.browser.jupyter import APPLICATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator

    from tests.browser.jupyter import Jupyter, Opened

HOT, ZERO, ABSENT = [255, 234, 70, 255], [0, 32, 77, 255], [0, 0, 0, 0]
# 40 key ranges in 60 windows: row 10 is hottest, row 20 is zero, columns 30 to 34 not measured.
CELL = """
import numpy as np
from workbench.heat.matrix import HeatMatrix
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.model.times import from_us
from workbench.report.heat_surface import empty_surface, surface_of_matrices
from workbench.widgets.heatmap import Heatmap

T0 = 1_772_600_400_000_000

def made(values, starts, times=1.0):
    rows, columns = values.shape
    spans = tuple(Span(a, b) for a, b in zip(starts, [*starts[1:], None]))
    at = tuple(from_us(T0 + c * 60_000_000) for c in range(columns))
    return [HeatMatrix(np.round(values * k), spans, at, 60_000, name, tuple(range(1, rows + 1)))
            for name, k in (("score", 1), ("reads", 0.5), ("writes", 2), ("bytes", 1000))]

values = np.tile(1.0 + np.arange(40)[:, None] % 7, (1, 60))
values[10] = 123_456
values[20] = 0
values[:, 30:35] = np.nan
starts = [b""] + [b"user/%03d" % r for r in range(1, 40)]
matrices = made(values, starts)
routes = [RouteDescriptor(r + 1, span, 1 + r // 20, parent_route_id=99 if r in (10, 11) else 0,
                          split_at_hlc=((T0 // 1000 + 600_000) << 16) if r in (10, 11) else 0)
          for r, span in enumerate(matrices[0].spans)]
surface = surface_of_matrices(matrices, routes=routes, leaders={1: "node-a", 2: "node-b"})
heard = []
w = Heatmap(surface, height=400)
w.on_brush(heard.append)
w
"""
PAINT_S = 20.0
LARGE = """
import numpy as np
from workbench.heat.matrix import HeatMatrix
from workbench.model.keys import Span
from workbench.model.times import from_us
from workbench.report.heat_surface import surface_of_matrices
from workbench.widgets.heatmap import Heatmap

ROWS, COLUMNS = 5_000, 2_880
starts = [b""] + [b"%06d" % r for r in range(1, ROWS)]
spans = tuple(Span(a, b) for a, b in zip(starts, [*starts[1:], None]))
times = tuple(from_us(1_772_600_400_000_000 + c * 60_000_000) for c in range(COLUMNS))
rng = np.random.Generator(np.random.PCG64(7))
base = rng.integers(0, 9, (COLUMNS, ROWS)).astype(np.float64).T

def heated(cells):
    values = base.copy()
    for cell in cells:
        values[tuple(cell)] = 1e9
    return surface_of_matrices(
        [HeatMatrix(values, spans, times, 60_000, "score", tuple(range(1, ROWS + 1)))])

w = Heatmap(heated([]), height=500)
w
"""
# How many of these cells show this colour where they lie, and how many pixels have it at all.
LIT = """(canvas, [cells, rows, columns, colour]) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const pixels = new Uint32Array(data.buffer);
  const [wanted] = new Uint32Array(Uint8Array.from(colour).buffer);
  const lit = cells.filter(([row, column]) => {
    const y = Math.floor((row + 0.5) / rows * height);
    const x = Math.floor((column + 0.5) / columns * width);
    return pixels[y * width + x] === wanted;
  });
  return [lit.length, pixels.reduce((count, pixel) => count + (pixel === wanted), 0)];
}"""
HOSTILE_KEYS = [
    b"",
    b"\x00\x00nul",
    b"<img/src=x/onerror=document.title=`owned`>",
    b"<script>document.title=`owned`</script>",
    "\u202egnirts\u2066".encode(),
    b"z" * 4096,
]
RESTART = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
PIXEL = """(canvas, [x, y]) => Array.from(canvas.getContext("2d").getImageData(
  Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data)"""


class Widget:
    """A heatmap on a page: places are fractions of the picture."""

    def __init__(self, opened: Opened, at: int = 0) -> None:
        self.opened = opened
        self.page = opened.page
        self.root: Locator = self.page.locator(".wb-heat").nth(at)
        self.page.wait_for_function(
            "at => document.querySelectorAll('.wb-heat')[at]?.dataset.painted", arg=at
        )

    def pixel(self, x: float, y: float) -> list[int]:
        return self.root.locator(".wb-cells").evaluate(PIXEL, [x, y])

    def place(self, x: float, y: float) -> tuple[float, float]:
        cells = self.root.locator(".wb-cells")
        cells.scroll_into_view_if_needed()
        box = cells.bounding_box()
        assert box is not None
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def at(self, row: float, column: float, rows: int = 40, columns: int = 60) -> Any:
        """Return the middle of a cell, as fractions."""
        return (column + 0.5) / columns, (row + 0.5) / rows

    def hover(self, x: float, y: float) -> dict[str, str]:
        self.page.mouse.move(*self.place(x, y))
        self.root.locator('.wb-tip[data-exact="true"]').wait_for()
        lines = self.root.locator(".wb-tip div").all()
        return {line.get_attribute("data-tell") or "": line.inner_text() for line in lines}

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.place(*start))
        mouse.down()
        mouse.move(*self.place(*[(a + b) / 2 for a, b in zip(start, end, strict=True)]))
        mouse.move(*self.place(*end))
        mouse.up()

    def data(self, name: str) -> Any:
        return self.root.evaluate("(root, name) => root.dataset[name]", name)

    def wait(self, name: str, value: str) -> None:
        self.page.wait_for_function(
            "([root, name, value]) => root.dataset[name] === value",
            arg=[self.root.element_handle(), name, value],
        )

    def moved(self, was: str) -> list[str]:
        """Wait until another part is shown, and return which."""
        self.page.wait_for_function(
            "([root, was]) => root.dataset.view !== was", arg=[self.root.element_handle(), was]
        )
        return self.data("view").split(",")

    def focus(self) -> None:
        self.root.locator(".wb-over").focus()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def said(self) -> str:
        return self.root.locator(".wb-said").inner_text().replace("\u00a0", " ")


@pytest.fixture(scope="module", params=APPLICATIONS)
def opened(request: pytest.FixtureRequest, jupyter: Jupyter, chromium: Browser) -> Iterator[Opened]:
    """One notebook of an application; every test resets the widget that it shows."""
    made = jupyter.open([CELL], chromium, notebook=request.param == "notebook", height=1_400)
    made.run()
    yield made
    made.check()
    made.close()


@pytest.fixture
def shown(opened: Opened) -> Widget:
    opened.value(
        "[setattr(w, n, v) for n, v in dict(brush=None, cursor=None, view=None, series='score',"
        " colour_by='load', brightness=1.0).items()] and heard.clear()"
    )
    widget = Widget(opened)
    widget.root.locator("button[data-do=fit]").click()
    opened.until("w.view is None", expected=True)
    widget.wait("table", "all")
    widget.wait("series", "score")
    widget.wait("view", "0,40,0,60")
    opened.page.mouse.move(2, 2)
    return widget


def test_load_is_bright_zero_is_dark_and_what_was_not_measured_is_hatched(shown: Widget):
    assert shown.pixel(*shown.at(10, 5)) == HOT
    assert shown.pixel(*shown.at(20, 5)) == ZERO
    assert shown.pixel(*shown.at(5, 32)) == ABSENT
    picture = shown.root.locator(".wb-cells").evaluate("e => getComputedStyle(e).backgroundImage")
    assert "repeating-linear-gradient" in picture
    assert shown.pixel(*shown.at(3, 5)) not in (HOT, ZERO, ABSENT)


def test_pointing_tells_the_exact_value_route_span_and_group(shown: Widget):
    told = shown.hover(*shown.at(10, 5))
    assert told["load"] == "123,456 score"
    assert told["span"] == "user/010 → user/011"
    assert told["time"] == "2026-03-04 05:05 – 05:06 UTC"
    assert told["who"] == "route 11 · group 1 · leader node-a"
    assert shown.hover(*shown.at(20, 5))["load"] == "0 score"
    assert shown.hover(*shown.at(20, 32))["load"] == "not measured"
    assert shown.hover(*shown.at(39, 59))["span"] == "user/039 → highest key"


def test_a_drag_reaches_the_kernel_as_keys_and_times_and_comes_back_as_a_table(shown: Widget):
    shown.drag(shown.at(9, 4), shown.at(12, 13))
    shown.wait("table", "9 13 4 14")
    brush = shown.opened.value("w.brush")
    assert (brush["row_first"], brush["row_last"]) == (9, 12)
    assert bytes.fromhex(brush["span_start_hex"]) == b"user/009"
    assert bytes.fromhex(brush["span_end_hex"]) == b"user/013"
    assert brush["end_us"] - brush["start_us"] == 10 * 60_000_000
    assert shown.opened.value("len(heard), heard[-1] == w.brush") == [1, True]
    assert shown.opened.value("[str(s) for s in w.brushed_spans()]") == ["user/009 → user/013"]
    total = 10 * (3 + 123_456 + 5 + 6)
    assert f"Selected: {total:,} score in 4 key ranges of 4 routes in 10 windows" in shown.said()
    shown.root.locator("summary").click()
    rows = shown.root.locator("tbody tr").all_inner_texts()
    assert rows[0].split("\t")[:5] == ["user/010 → user/011", "11", "1", "node-a", "1,234,560"]
    assert len(rows) == 4
    shown.root.locator("summary").click()
    assert shown.opened.value("w.cursor is None and w.view is None")


def test_a_shift_drag_pans_and_does_not_select(shown: Widget):
    shown.focus()
    shown.press("+")
    before = shown.moved("0,40,0,60")
    shown.page.keyboard.down("Shift")
    shown.drag((0.5, 0.5), (0.3, 0.4))
    shown.page.keyboard.up("Shift")
    after = shown.moved(",".join(before))
    assert float(after[0]) > float(before[0])
    assert float(after[2]) > float(before[2])
    assert shown.opened.value("w.brush is None")
    shown.opened.until("w.view is not None", expected=True)


def test_the_wheel_zooms_only_after_a_click(shown: Widget):
    shown.page.locator(".jp-InputArea-editor").first.click()
    shown.page.mouse.move(*shown.place(0.5, 0.5))
    shown.page.mouse.wheel(0, -200)
    shown.page.wait_for_timeout(100)
    assert shown.data("view") == "0,40,0,60"
    shown.page.mouse.click(*shown.place(*shown.at(20, 30)))
    shown.page.mouse.wheel(0, -200)
    shown.moved("0,40,0,60")
    shown.opened.until("w.cursor", {"row": 20, "column": 30})


def test_series_switch_colour_and_brightness_reach_the_kernel(shown: Widget):
    dim = shown.pixel(*shown.at(3, 5))
    shown.root.get_by_text("writes", exact=True).click()
    shown.wait("series", "writes")
    assert shown.hover(*shown.at(10, 5))["load"] == "246,912 writes"
    shown.root.locator("select").select_option("group")
    shown.opened.until("[w.series, w.colour_by]", ["writes", "group"])
    first, second = shown.pixel(*shown.at(10, 5)), shown.pixel(*shown.at(30, 5))
    assert first == [255, 176, 59, 255]
    assert second[2] > second[0]
    assert "group 2" in shown.root.locator(".wb-legend").inner_text()
    shown.root.locator("select").select_option("load")
    shown.root.get_by_text("score", exact=True).click()
    shown.wait("series", "score")
    shown.root.locator("input[type=range]").fill("2")
    shown.opened.until("w.brightness", 4.0)
    assert sum(shown.pixel(*shown.at(3, 5))) > sum(dim)
    assert shown.pixel(*shown.at(10, 5)) == HOT


def test_everything_can_be_done_with_keys_alone(shown: Widget):
    shown.focus()
    shown.press("ArrowDown", "Home", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowRight")
    shown.press("Shift+ArrowUp")
    assert shown.opened.value("w.brush is None")
    shown.press("Enter")
    shown.wait("table", "18 20 0 3")
    assert "Selected" in shown.said()
    assert shown.opened.value("[w.brush['row_first'], w.brush['row_last']]") == [18, 19]
    shown.press("End")
    shown.page.wait_for_function(
        "r => r.querySelector('.wb-said').textContent.includes('05:59 – 06:00')",
        arg=shown.root.element_handle(),
    )
    shown.press("Escape")
    shown.wait("table", "all")
    shown.press("+")
    assert shown.opened.value("w.brush is None")
    shown.press("0")
    shown.wait("view", "0,40,0,60")
    assert shown.page.locator(".jp-Cell").count() == 1  # no command of the notebook was taken
    shown.root.locator("input[value=score]").focus()
    shown.press("ArrowRight")
    shown.wait("series", "reads")


def test_reload_shows_the_same_picture_selection_and_zoom(shown: Widget, opened: Opened):
    opened.value(
        "[w.select(rows=(9, 12)), setattr(w, 'series', 'bytes'),"
        " setattr(w, 'view', [5, 25, 0, 30])]"
    )
    shown.wait("view", "5,25,0,30")
    opened.save()
    opened.reload()
    again = Widget(opened)
    again.wait("series", "bytes")
    again.wait("view", "5,25,0,30")
    again.wait("table", "9 13 0 60")
    assert json.loads(again.data("brush"))["row_last"] == 12
    assert again.hover(*again.at(5, 5, 20, 30))["load"] == "123,456,000 bytes"


def test_the_picture_can_be_saved(shown: Widget):
    with shown.page.expect_download() as saved:
        shown.root.locator("button[data-do=png]").click()
    assert saved.value.suggested_filename == "heatmap-score.png"
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")


def test_a_new_surface_keeps_the_selection_by_its_keys(shown: Widget, opened: Opened):
    opened.value("w.select(rows=(10, 11))")
    shown.wait("table", "10 12 0 60")
    opened.value("w.update(surface_of_matrices(made(values[5:], starts[5:])))")
    shown.wait("table", "5 7 0 60")
    assert shown.pixel(*shown.at(5, 5, 35, 60)) == HOT
    opened.value("w.update(surface)")
    shown.wait("table", "10 12 0 60")


def test_hostile_keys_empty_one_route_and_gaps(opened: Opened):
    hostile = (
        CELL
        + f"""
hostile = {HOSTILE_KEYS!r}
h = Heatmap(surface_of_matrices(made(np.arange(6.0)[:, None] * np.ones((1, 3)), sorted(hostile)),
    leaders={{}}, title="<img src=x onerror=document.title='owned'> \\u202e"))
one = Heatmap(surface_of_matrices(made(np.full((1, 1), 5.0), [b""])))
gap = np.full((2, 50), np.nan); gap[:, :3] = 1; gap[:, 45:] = 2
gaps = Heatmap(surface_of_matrices(made(gap, [b"", b"m"])))
none = Heatmap()
from IPython.display import display
display(h, one, gaps, none)
"""
    )
    with opened.showing(0, hostile, instead_of=CELL, height=3_400):
        first = Widget(opened, 0)
        rows = [first.hover(0.5, (row + 0.5) / 6)["span"] for row in range(6)]
        assert any("<img" in row for row in rows)
        assert any(row.startswith("0x00006e756c") for row in rows)
        assert any("(4096 bytes)" in row for row in rows)
        assert not any("\u202e" in row for row in rows)
        first.root.locator("summary").click()
        assert "<script>" in first.root.locator("tbody").inner_text()
        assert opened.page.locator(".wb-heat img, .wb-heat script").count() == 0
        assert opened.page.title() != "owned"
        one = Widget(opened, 1)
        assert one.pixel(0.5, 0.5) == HOT
        assert one.hover(0.5, 0.5)["span"] == "lowest key → highest key"
        gaps = Widget(opened, 2)
        assert gaps.pixel(0.5, 0.5) == ABSENT
        assert gaps.pixel(0.98, 0.5) == HOT
        empty = opened.page.locator(".wb-heat").nth(3)
        assert "No load to show yet" in empty.inner_text()
        opened.value("none.update(surface)")
        assert Widget(opened, 3).pixel((5.5) / 60, 10.5 / 40) == HOT
    opened.check()


@pytest.fixture(scope="module")
def large(jupyter: Jupyter, chromium: Browser) -> Iterator[Opened]:
    opened = jupyter.open([LARGE], chromium, height=1_400)
    opened.run()
    yield opened
    opened.check()
    opened.close()


def lit(large: Opened, cells: list[list[int]]) -> list[int]:
    """Show a surface on which only these cells are hot; return what `LIT` tells of the canvas."""
    canvas = Widget(large).root.locator(".wb-cells")
    large.value(f"w.update(heated({cells}))")
    deadline = time.perf_counter() + PAINT_S
    while True:
        told: list[int] = canvas.evaluate(LIT, [cells, 5_000, 2_880, HOT])
        if told[0] == len(cells) or time.perf_counter() > deadline:
            return told
        large.page.wait_for_timeout(20)


def random_cells(count: int) -> list[list[int]]:
    rng = np.random.Generator(np.random.PCG64(count))
    return [[int(rng.integers(5_000)), int(rng.integers(2_880))] for _ in range(count)]


def test_each_of_200_hot_cells_of_14_million_is_bright_on_the_canvas(large: Opened):
    cells = random_cells(200)
    shown, pixels = lit(large, cells)
    assert shown == 200
    # Nothing else is: a cell in a block of 5 x 2 is at most a few pixels.
    assert pixels <= 200 * 4
    single = cells[0]
    assert lit(large, [single])[0] == 1


@pytest.mark.slow
def test_a_hot_cell_is_bright_on_the_canvas_also_where_it_is_the_only_one(large: Opened):
    for cell in random_cells(40):
        shown, pixels = lit(large, [cell])
        assert shown == 1, cell
        assert 1 <= pixels <= 4


def test_a_restarted_kernel_is_told_of_and_running_the_cell_again_helps(
    shown: Widget, opened: Opened
):
    shown.focus()
    opened.page.evaluate(RESTART)
    shown.press("ArrowDown", "ArrowDown")
    opened.page.wait_for_function(
        "r => r.querySelector('.wb-said').textContent.includes('run the cell again')",
        arg=shown.root.element_handle(),
    )
    opened.run()
    assert Widget(opened).hover(*shown.at(10, 5))["load"] == "123,456 score"
    opened.check()
