"""The heatmap widget in JupyterLab and a real browser: what a user waits for.

    python -m benchmarks widgets

    cell is run ──▶ kernel pools, sends ──▶ page paints      first paint, bytes
    mouse moves ──▶ frame by frame                           frame of hovering, of panning
    button is let go ──▶ kernel adds up ──▶ table in page    selection to table

The matrix is in the kernel before the clock starts. Times are taken in the page, frames by
`requestAnimationFrame`, bytes at its web sockets. The run stops where a hot cell is not painted
at full brightness.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

from tests.browser.jupyter import Jupyter
from tests.conftest import CHROMIUM_ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from playwright.sync_api import Browser, Page

SIZES = ((1_000, 1_440, 500.0), (5_000, 2_880, 1_000.0))
MESSAGE_MAX = 2_000_000
FRAME_MS_MAX = 20.0
BRUSH_MS_MAX = 150.0
PAINTS = 5
MOVES = 240
DRAGS = 24
HOT = [255, 234, 70, 255]
MADE = """
import numpy as np
from workbench.heat.matrix import HeatMatrix
from workbench.model.keys import Span
from workbench.model.times import from_us
from workbench.report.heat_surface import surface_of_matrices
from workbench.widgets.heatmap import Heatmap
rows, columns = {rows}, {columns}
values = np.random.default_rng(6).integers(0, 400, (columns, rows)).astype(float).T
values[rows // 3, columns // 3] = 10**9
starts = [b""] + [b"user/%08d" % r for r in range(1, rows)]
matrix = HeatMatrix(values, tuple(Span(a, b) for a, b in zip(starts, [*starts[1:], None])),
    tuple(from_us(1_772_600_400_000_000 + c * 60_000_000) for c in range(columns)), 60_000, "score",
    tuple(range(1, rows + 1)))
surface = surface_of_matrices([matrix])
"""
SHOW = "w = Heatmap(surface)\nw"
# Runs the cell that is active; tells how long until its widget was painted and put on screen.
PAINT = """() => new Promise((done) => {
  const from = performance.now();
  const look = () => {
    const all = [...document.querySelectorAll(".wb-heat")], root = all.at(-1);
    if (!root || root.dataset.timed || !root.dataset.painted) return requestAnimationFrame(look);
    root.dataset.timed = "yes";
    requestAnimationFrame(() => done(performance.now() - from));
  };
  requestAnimationFrame(look);
  window.jupyterapp.commands.execute("notebook:run-cell");
})"""
FRAMES = """() => {
  window.frames_ms = [];
  let last = performance.now();
  const tick = (now) => { window.frames_ms.push(now - last); last = now;
    window.ticking = requestAnimationFrame(tick); };
  window.ticking = requestAnimationFrame(tick);
}"""
FRAMED = "() => { cancelAnimationFrame(window.ticking); return window.frames_ms.slice(2); }"
BRUSHES = """() => {
  const root = document.querySelector(".wb-heat");
  window.brushes_ms = [];
  let from = 0;
  root.addEventListener("pointerup", () => { from = performance.now(); }, true);
  new MutationObserver(() => window.brushes_ms.push(performance.now() - from))
    .observe(root, { attributes: true, attributeFilter: ["data-table"] });
}"""
PIXEL = """([x, y]) => {
  const canvas = document.querySelector(".wb-cells");
  return Array.from(canvas.getContext("2d").getImageData(
    Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data);
}"""


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that `part` of the others do not exceed."""
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]


def measure(jupyter: Jupyter, browser: Browser, rows: int, columns: int) -> dict[str, Any]:
    """Return the figures of one size."""
    received: list[int] = []
    opened = jupyter.open([MADE.format(rows=rows, columns=columns), SHOW], browser)
    page = opened.page
    page.on(
        "websocket",
        lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))),
    )
    page.reload()
    opened.ready()
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell-and-select-next')")
    opened.until("'surface' in globals()", expected=True)
    paints, sent, largest = [], 0, 0
    for _ in range(PAINTS):
        received.clear()
        paints.append(page.evaluate(PAINT))
        sent, largest = sum(received), max(received)
    pixel = page.evaluate(PIXEL, [(columns // 3 + 0.5) / columns, (rows // 3 + 0.5) / rows])
    if pixel != HOT:
        raise SystemExit(f"widgets: the hot cell is painted as {pixel}")
    found = {"paints": paints, "sent": sent, "largest": largest, **_handled(page)}
    opened.check()
    opened.close()
    return found


def _handled(page: Page) -> dict[str, Any]:
    """Return what pointing, panning and selecting took."""
    left, top, width, height = page.locator(".wb-cells").evaluate(
        "e => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; }"
    )
    mouse = page.mouse

    def move(x: float, y: float) -> None:
        mouse.move(left + x * width, top + y * height)

    page.evaluate(FRAMES)
    for step in range(MOVES):
        move(0.05 + 0.9 * step / MOVES, 0.1 + 0.8 * ((step * 7) % MOVES) / MOVES)
    hover = page.evaluate(FRAMED)
    page.evaluate(BRUSHES)
    for step in range(DRAGS):
        low = 0.02 + 0.4 * step / DRAGS
        move(low, low)
        mouse.down()
        move(low + 0.2, low + 0.3)
        move(low + 0.5, low + 0.5)
        mouse.up()
        page.wait_for_function("count => window.brushes_ms.length > count", arg=step)
    page.locator(".wb-over").focus()
    for _ in range(3):
        page.keyboard.press("+")
    page.evaluate(FRAMES)
    page.keyboard.down("Shift")
    move(0.9, 0.9)
    mouse.down()
    for step in range(MOVES // 2):
        move(0.9 - 0.8 * step / MOVES, 0.9 - 0.8 * step / MOVES)
    mouse.up()
    page.keyboard.up("Shift")
    pan = page.evaluate(FRAMED)
    return {"hover": hover, "pan": pan, "brush": page.evaluate("window.brushes_ms")}


def rows_of(rows: int, columns: int, paint_ms_max: float, found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of one size."""
    what = f"heatmap, {rows:,} × {columns:,}"
    first, again = found["paints"][0], percentile(found["paints"][1:], 0.5)
    yield (
        f"| {what}: first paint | {first:,.0f} ms, {again:,.0f} ms again | – | – | – | {PAINTS} "
        f"| ≤ {paint_ms_max:g} ms: {_verdict(reached=first <= paint_ms_max)} |"
    )
    yield (
        f"| {what}: bytes of the first message | {found['largest'] / 1e6:.2f} MB of "
        f"{found['sent'] / 1e6:.2f} MB | – | – | – | 1 "
        f"| ≤ 2 MB: {_verdict(reached=found['largest'] <= MESSAGE_MAX)} |"
    )
    for name, title, limit in (
        ("hover", "frame while pointing, p95", FRAME_MS_MAX),
        ("pan", "frame while panning, p95", None),
        ("brush", "selection to table, p95", BRUSH_MS_MAX),
    ):
        value, middle = percentile(found[name], 0.95), percentile(found[name], 0.5)
        aim = "–" if limit is None else f"≤ {limit:g} ms: {_verdict(reached=value <= limit)}"
        yield (
            f"| {what}: {title} | {value:.1f} ms (median {middle:.1f}) | – | – | – "
            f"| {len(found[name])} | {aim} |"
        )


def run() -> Iterator[str]:
    """Yield the lines of the table."""
    executable = shutil.which("chromium")
    if executable is None:
        yield "Widgets: not measured, there is no `chromium` on PATH."
        return
    with tempfile.TemporaryDirectory() as home:
        jupyter = Jupyter(Path(home) / "jupyter")
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=executable, args=CHROMIUM_ARGUMENTS
                )
                for rows, columns, paint_ms_max in SIZES:
                    found = measure(jupyter, browser, rows, columns)
                    yield from rows_of(rows, columns, paint_ms_max, found)
                browser.close()
        finally:
            jupyter.close()
    yield (
        "Widgets: JupyterLab and Chromium (software rendering) share the machine's cores with the "
        "kernel; first paint counts from running the cell, with the matrix in the kernel."
    )


def _verdict(*, reached: bool) -> str:
    return "met" if reached else "**MISSED**"


if __name__ == "__main__":
    for line in run():
        print(line)
