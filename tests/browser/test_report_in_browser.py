"""Claims about the report in a real browser: offline, decoded, readable, no script."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.browser.report_inputs import sample_inputs
from workbench.report.html import report_html

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

# Reads the colour at a place of a picture, in fractions of its size.
PIXEL = """([id, x, y]) => {
  const img = document.querySelector(`[data-testid="${id}"]`);
  const canvas = document.createElement("canvas");
  canvas.width = img.naturalWidth; canvas.height = img.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(img, 0, 0);
  const at = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
  return Array.from(context.getImageData(at[0], at[1], 1, 1).data);
}"""
YELLOW = [255, 234, 70, 255]
DARKEST = [0, 32, 77, 255]


@dataclass
class Seen:
    """What the browser did while the page was open."""

    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)


Opened = tuple["Page", Seen]


@pytest.fixture(scope="module")
def report(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_html(sample_inputs()), encoding="utf-8")
    context = chromium.new_context(viewport={"width": 1000, "height": 800})
    page = context.new_page()
    seen = Seen()
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.console.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.console.append(str(error)))
    page.goto(path.as_uri(), wait_until="networkidle")
    yield page, seen
    context.close()


def brightness(page: Page, name: str, x: float, y: float) -> float:
    red, green, blue, _ = page.evaluate(PIXEL, [name, x, y])
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_page_asks_nobody_for_anything_and_reports_no_error(report: Opened):
    _, seen = report
    assert seen.requests
    assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
    assert seen.console == []


def test_key_figures_are_on_the_first_screen(report: Opened):
    page, _ = report
    for name, value in (("before", "60.0%"), ("forecast", "21.0%"), ("came", "20.7%")):
        figure = page.get_by_test_id(f"figure-{name}")
        assert figure.inner_text() == value
        assert figure.bounding_box()["y"] < 500
    assert page.get_by_test_id("outcome").get_attribute("data-outcome") == "held"


def test_every_picture_is_decoded(report: Opened):
    page, _ = report
    sizes = page.eval_on_selector_all(
        "img", "all => all.map(img => [img.complete, img.naturalWidth, img.naturalHeight])"
    )
    assert len(sizes) == 4
    assert all(complete and width > 0 and height > 0 for complete, width, height in sizes)


def test_load_gives_bright_pixels_zero_dark_ones_and_absence_none(report: Opened):
    page, _ = report
    hot, zero = (4 + 0.5) / 12, (6 + 0.5) / 12
    assert page.evaluate(PIXEL, ["heat-load", 0.25, hot]) == YELLOW
    assert page.evaluate(PIXEL, ["heat-load", 0.25, zero]) == DARKEST
    assert page.evaluate(PIXEL, ["heat-load", 30.5 / 60, hot])[3] == 0


def test_hot_route_is_a_bright_band_before_and_dark_after(report: Opened):
    page, _ = report
    for row in (1.5, 2.5, 3.5):
        before = brightness(page, "heat-before", 0.5, row / 6)
        after = brightness(page, "heat-after", 0.5, row / 6)
        assert before > after + 60


def test_untouched_route_has_the_same_colour_before_and_after(report: Opened):
    page, _ = report
    place = [0.5, 5.5 / 6]
    assert page.evaluate(PIXEL, ["heat-before", *place]) == page.evaluate(
        PIXEL, ["heat-after", *place]
    )


def test_cut_labels_stand_beside_the_picture_and_apart(report: Opened):
    page, _ = report
    boxes = [box.bounding_box() for box in page.locator("#load .cuts .name").all()]
    picture = page.get_by_test_id("heat-came").bounding_box()
    assert len(boxes) == 2
    assert all(box["x"] > picture["x"] + picture["width"] for box in boxes)
    assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"] * 0.9


def test_tables_behind_pictures_open_without_script(report: Opened):
    page, _ = report
    table = page.get_by_test_id("table-hot-ranges")
    assert not table.is_visible()
    page.get_by_text("The heaviest key ranges as a table").click()
    assert table.is_visible()


@pytest.mark.parametrize("width", [1000, 390])
def test_page_is_never_wider_than_the_screen(report: Opened, width: int):
    page, _ = report
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_theme_darkens_the_page_and_keeps_the_pictures(report: Opened):
    page, _ = report
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (light, dark) == ("rgb(251, 251, 249)", "rgb(20, 23, 27)")
    assert page.evaluate(PIXEL, ["heat-load", 0.25, 4.5 / 12]) == YELLOW
    page.emulate_media(color_scheme="light")


def test_a_script_in_the_page_would_not_run(chromium: Browser, tmp_path: Path):
    html = report_html(sample_inputs(verification=None))
    planted = tmp_path / "planted.html"
    planted.write_text(
        html.replace("<main>", "<main><script>document.title = 'ran'</script>"), encoding="utf-8"
    )
    page = chromium.new_page()
    page.goto(planted.as_uri())
    assert page.title() == "Hotspot report: orders"
    page.close()
