"""The heat page in a real browser: what pointing at a cell tells, and that nobody is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.heat.matrix import HeatMatrix
from workbench.model.keys import Span
from workbench.model.times import from_us
from workbench.report.heat_html import heat_html

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

HOSTILE = b"</script><img/src=x/onerror=alert(1)>"


def matrix() -> HeatMatrix:
    values = np.array([[0, 1_234_567, np.nan], [5, 2**53 - 1, 7]], dtype=np.float64)
    return HeatMatrix(
        values=values,
        spans=(Span(b"", HOSTILE), Span(HOSTILE, None)),
        times=tuple(from_us(c * 60_000_000) for c in range(3)),
        window_ms=60_000,
        series="reads",
        route_ids=(4, 9),
    )


def test_pointing_tells_exact_values_absent_apart_from_zero_and_hostile_keys_are_text(
    chromium: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "heat.html"
    path.write_text(heat_html(matrix(), title="<b>t</b>", cut_keys=[HOSTILE]), encoding="utf-8")
    page = chromium.new_page(viewport={"width": 900, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri(), wait_until="networkidle")
    box = page.locator("#cells").bounding_box()
    assert box is not None
    loads = []
    for row in range(2):
        for column in range(3):
            page.mouse.move(
                box["x"] + box["width"] * (column + 0.5) / 3,
                box["y"] + box["height"] * (row + 0.5) / 2,
            )
            loads.append(page.locator("#load").inner_text())
    assert loads == ["0", "1,234,567", "not measured", "5", "9,007,199,254,740,991", "7"]
    assert page.locator("#route").inner_text() == "9"
    assert "<img/src=x/onerror=alert(1)>" in page.locator("#keys").inner_text()
    assert "1970-01-01T00:02:00.000Z" in page.locator("#time").inner_text()
    page.locator("#cells").focus()
    page.keyboard.press("ArrowUp")
    assert page.locator("#load").inner_text() == "not measured"
    assert page.locator("img").count() == 0
    assert page.locator("#cuts li").count() == 1
    assert said == []
    assert [url for url in asked if not url.startswith("file:")] == []
    page.close()
