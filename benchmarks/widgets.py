"""The heatmap widget in JupyterLab and a real browser: what a user waits for.

    python -m benchmarks widgets

    cell is run ──▶ kernel pools, sends ──▶ page paints      first paint, bytes
    mouse moves ──▶ frame by frame                           frame of hovering, of panning
    button is let go ──▶ kernel adds up ──▶ table in page    selection to table
                    └──▶ route table, plan in page           brush to table, to proposal
    Approve is pressed ──▶ first phase of a job in page      approve to first phase
                      └──▶ row in the catalog, told in page  approve to kept

The matrix is in the kernel before the clock starts; so are load and verdicts where the whole
workbench is measured, whose opening has rows of its own. Times are taken in the page, frames by
`requestAnimationFrame`, bytes at its web sockets. Processor time in the kernel stands beside them,
for machines that others use as well. The run stops where a hot cell is not painted
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
LOOP_SIZE = (1_000, 1_440)
LOOP_DRAGS = 20
LOOP_WAIT_MS = 300_000
# What appeared by a press takes no second one yet: see panel.js.
TOO_SOON_MS = 600
APPROVALS = 8
PHASE_MS_MAX = 100.0
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
# Every route has one bucket; a few are far heavier than the rest.
CATALOG = """
import tempfile, time
import numpy as np, pyarrow as pa
from workbench.catalog.catalog import Write
from workbench.model.keys import Span
from workbench.model.plan import Limits
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import LOAD_WINDOW, TIME, routes_to_table
from workbench.model.times import from_us
from workbench.session.wiring import open_catalog, open_or_create_catalog
from workbench.widgets.desk import Desk, DeskOptions
from workbench.widgets.workbench import Workbench
rows, columns, step = {rows}, {columns}, 60_000_000
buckets, first = 4 * rows, 1_772_600_400_000_000
starts = [b""] + [b"user/%08d" % r for r in range(1, buckets)]
ends = [*starts[1:], None]
rng = np.random.default_rng(6)
weight = np.minimum(rng.pareto(1.5, buckets), 20) * 50
weight.reshape(rows, 4)[rng.integers(0, rows, max(rows // 100, 2))] *= 40
reads = rng.poisson(np.tile(weight, columns)).astype(np.int64)
at = np.repeat(first + step * np.arange(columns), buckets)
cells = len(at)
keys = pa.array(np.tile(np.arange(buckets, dtype=np.int32), columns))
route = np.tile(np.repeat(np.arange(1, rows + 1, dtype=np.uint64), 4), columns)
load = pa.table({{
    "cluster": pa.repeat(pa.scalar("c"), cells), "window_start": pa.array(at).cast(TIME),
    "window_end": pa.array(at + step).cast(TIME), "route_id": route, "group": route % 16 + 1,
    "bucket_start": pa.array(starts, pa.binary()).take(keys),
    "bucket_end": pa.array(ends, pa.binary()).take(keys), "reads": reads, "writes": reads // 4,
    "read_bytes": reads * 100, "write_bytes": reads * 25, "cpu_ns": pa.nulls(cells, pa.int64()),
    "coverage": pa.repeat(pa.scalar(1.0), cells), "error_bound": pa.repeat(pa.scalar(0.0), cells),
}}).cast(LOAD_WINDOW)
routes = tuple(RouteDescriptor(r + 1, Span(starts[4 * r], ends[4 * r + 3]), (r + 1) % 16 + 1)
    for r in range(rows))
scratch = tempfile.TemporaryDirectory(prefix="workbench-bench-")
told = {{"source": "trace:made", "window_ms": "60000", "windows": str(columns)}}
open_or_create_catalog(scratch.name).commit([
    Write("c/load_window", load, mode="replace", properties=told),
    Write("c/route", routes_to_table(RouteSnapshot(1, routes, from_us(first + step * columns))),
        mode="replace")])
del load, at, keys, route, reads
"""
OPEN = """
spent = {{"brush": [], "approve": []}}
def clocked(name, method):
    def call(*given):
        begun = time.thread_time()
        try:
            return method(*given)
        finally:
            spent[name].append(1e3 * (time.thread_time() - begun))
    return call
Workbench._brushed = clocked("brush", Workbench._brushed)
Desk.approve = clocked("approve", Desk.approve)
clocks = [time.perf_counter(), time.process_time()]
desk = Desk(open_catalog(scratch.name), who="bench",
    options=DeskOptions(limits=Limits({splits}, 0.0)))
w = Workbench(desk)
opened = [time.perf_counter() - clocks[0], time.process_time() - clocks[1]]
desk.wait()
judged = [time.perf_counter() - clocks[0], time.process_time() - clocks[1]]
w
"""
# When the route table and the plan first changed after the button was let go; when a job's first
# phase first appeared after a press.
LOOP = """() => {
  const panel = (name) => [...document.querySelectorAll(".wb-panel")].find((each) =>
    each.querySelector(`section[aria-label^='${name}']`));
  window.table_ms = []; window.plan_ms = []; window.phase_ms = [];
  let from = 0, table = false, plan = false, press = 0;
  document.querySelector(".wb-heat").addEventListener("pointerup",
    () => { from = performance.now(); table = plan = true; }, true);
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-act='approve']")) press = performance.now(); }, true);
  const look = (element, then) => new MutationObserver(then)
    .observe(element, { childList: true, subtree: true, characterData: true, attributes: true });
  look(panel("Routes"), () => {
    if (table) { table = false; window.table_ms.push(performance.now() - from); } });
  const label = () => panel("Plan").querySelector("section").getAttribute("aria-label");
  let seen = label();
  look(panel("Plan"), () => {
    if (plan && label() !== seen) {
      seen = label(); plan = false; window.plan_ms.push(performance.now() - from); } });
  window.jobs_seen = window.kept_seen = 0;
  window.kept_ms = [];
  look(panel("Jobs"), () => {
    const kept = panel("Jobs").querySelectorAll("tr[data-state='waiting']").length;
    if (kept > window.kept_seen) {
      window.kept_seen = kept; window.kept_ms.push(performance.now() - press); }
    const jobs = panel("Jobs").querySelectorAll("tr[data-state]").length;
    if (jobs > window.jobs_seen) {
      window.jobs_seen = jobs; window.phase_ms.push(performance.now() - press); } });
}"""
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


def measure_loop(jupyter: Jupyter, browser: Browser) -> dict[str, Any]:
    """Return how long opening, brushing and approving take in the whole workbench."""
    rows, columns = LOOP_SIZE
    cells = [CATALOG.format(rows=rows, columns=columns), OPEN.format(splits=APPROVALS + 2)]
    opened = jupyter.open(cells, browser, height=2_400)
    page = opened.page
    page.set_default_timeout(LOOP_WAIT_MS)
    opened.run()
    page.wait_for_selector(".wb-heat[data-painted]")
    page.locator("section[aria-label='Routes'] tbody tr").first.wait_for()
    opened.value("[desk.propose(), None][1]")
    page.locator(".wb-actions > li").first.wait_for()
    page.evaluate(LOOP)
    _brush(page)
    brushed = page.evaluate("[window.table_ms, window.plan_ms]")
    opened.value("[desk.look(None), desk.propose(), None][2]")
    page.locator("[data-act='approve']").first.wait_for()
    page.evaluate("() => { window.jobs_seen = 0; window.phase_ms = []; window.kept_ms = []; }")
    names = page.locator("[data-act='approve']").evaluate_all(
        "all => all.map((e) => e.dataset.arg)"
    )
    for count, name in enumerate(names[:APPROVALS]):
        page.locator(f"[data-act='approve'][data-arg='{name}']").click()
        page.wait_for_function("count => window.phase_ms.length > count", arg=count)
        page.wait_for_timeout(TOO_SOON_MS)
    page.wait_for_function("count => window.kept_ms.length >= count", arg=len(names[:APPROVALS]))
    found = {
        "opened": opened.value("opened"),
        "judged": opened.value("judged"),
        "table": brushed[0],
        "plan": brushed[1],
        "phase": page.evaluate("window.phase_ms"),
        "kept": page.evaluate("window.kept_ms"),
        "spent": opened.value("spent"),
    }
    opened.check()
    opened.close()
    return found


def _brush(page: Page) -> None:
    """Select one part of the picture after the other, each time until table and plan followed."""
    left, top, width, height = page.locator(".wb-cells").evaluate(
        "e => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; }"
    )
    mouse = page.mouse
    for step in range(LOOP_DRAGS):
        low = 0.02 + 0.4 * step / LOOP_DRAGS
        mouse.move(left + low * width, top + low * height)
        mouse.down()
        mouse.move(left + (low + 0.5) * width, top + (low + 0.5) * height, steps=3)
        mouse.up()
        page.wait_for_function(
            "count => window.table_ms.length > count && window.plan_ms.length > count", arg=step
        )


def loop_rows(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the whole workbench."""
    what = f"workbench, {LOOP_SIZE[0]:,} routes × {LOOP_SIZE[1]:,}"
    for name, title in (("opened", "opened"), ("judged", "load in memory and verdicts shown")):
        wall, cpu = found[name]
        yield f"| {what}: {title} | {wall:.1f} s, {cpu:.1f} s of CPU | – | – | – | 1 | – |"
    for name, title, limit in (
        ("table", "brush to table, p95", BRUSH_MS_MAX),
        ("plan", "brush to proposal, p95", BRUSH_MS_MAX),
        ("phase", "approve to first phase, p95", PHASE_MS_MAX),
        ("kept", "approve to kept in the catalog, p95", None),
    ):
        value, middle = percentile(found[name], 0.95), percentile(found[name], 0.5)
        aim = "–" if limit is None else f"≤ {limit:g} ms: {_verdict(reached=value <= limit)}"
        yield (
            f"| {what}: {title} | {value:.0f} ms (median {middle:.0f}) | – | – | – "
            f"| {len(found[name])} | {aim} |"
        )
    for name, title in (("brush", "a selection's"), ("approve", "an approval's")):
        spent = found["spent"][name]
        value, middle = percentile(spent, 0.95), percentile(spent, 0.5)
        yield (
            f"| {what}: {title} processor time in the kernel, p95 | {value:.0f} ms "
            f"(median {middle:.0f}) | – | – | – | {len(spent)} | – |"
        )


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
                yield from loop_rows(measure_loop(jupyter, browser))
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
