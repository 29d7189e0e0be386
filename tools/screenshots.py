"""Take the pictures of README and docs from the real thing.

    python tools/screenshots.py [--trace FILE] [--only report|widgets|jobs]

    workbench demo ──▶ report.html ──────────────────────────────▶ report.png
    workbench collect trace:FILE ──▶ catalog ──▶ JupyterLab ─────▶ heatmap.png, routes.png,
                                                                    plan.png, workbench.png
    three nodes, clients, collect, approve, apply ──▶ JupyterLab ─▶ jobs.png

Everything is made in a temporary folder: a Jupyter and a cluster of its own, which end with it.
Without a trace a generated set is used; the jobs are always those of a generated set. A picture is
kept in as many colours as fit BYTES_MAX. Needs Playwright and JupyterLab (among the development
packages) and `chromium` on PATH.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.browser.jupyter import RUN, Jupyter
from tests.conftest import CHROMIUM_ARGUMENTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.browser.jupyter import Opened

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
WIDTH = 1200
HEIGHT = 1240
# Of the notebook's page: high enough that no widget is cut.
PAGE_WIDTH, PAGE_HEIGHT, PAGE_SCALE = 1180, 3_600, 1.5
BYTES_MAX = 300_000
DEMO_SECONDS_MAX = 600
COLLECT_SECONDS_MAX = 600
CELL_MS_MAX = 300_000
PARTS = ("report", "widgets", "jobs")
# As the widgets' own page does it; nothing of the pictures is made up.
LOOK = """
from workbench.model.plan import Limits
from workbench.report.heat_surface import surface_of
from workbench.session.wiring import open_catalog
from workbench.widgets.desk import Desk, DeskOptions
from workbench.widgets.job_monitor import JobMonitor
from workbench.widgets.plan_review import PlanReview
from workbench.widgets.route_table import RouteTable
from workbench.widgets.workbench import Workbench
options = DeskOptions(limits=Limits(4, 0.0))
desk = Desk(open_catalog({catalog!r}), who="anna", options=options)
desk.judge()
surface = surface_of(desk.view.load.load_windows(*desk.view.window(None, None)))
"""
HOTTEST = "[(hottest.column + 0.5) / surface.columns, (hottest.row + 0.5) / surface.rows]"
# The later half of the time, and two thirds of the keys.
SELECT = "w.heatmap.select(rows=(0, 2 * surface.rows // 3), since=desk.view.window('50%', None)[0])"
JOBS = """
import tempfile
import workbench as wb
scratch = tempfile.TemporaryDirectory(prefix="workbench-screenshots-")
cluster = wb.cluster_up(scratch.name + "/cluster", nodes=3, groups=4, window="1s")
trace = wb.datasets("hot-range", out=scratch.name, accesses=20_000).path("hot-range")
with cluster.clients(trace, seconds=8) as clients:
    clients.wait()
wb.collect(cluster, wb.open(scratch.name + "/catalog", create=True), cluster="shop")
"""
APPLY = """
desk = Desk(open_catalog(scratch.name + "/catalog"), who="anna", options=options)
desk.propose()
desk.approve()
desk.apply()
desk.wait()
"""
DOWN = """
cluster.down()
scratch.cleanup()
"""


def main() -> int:
    """Take the pictures, and return the exit status."""
    parser = argparse.ArgumentParser(description="Take the pictures of README and docs.")
    parser.add_argument("--trace", type=Path, help="trace to look at; else a generated one")
    parser.add_argument("--only", choices=PARTS, help="take these alone")
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("there is no `chromium` on PATH; install it first", file=sys.stderr)
        return 1
    wanted = PARTS if options.only is None else (options.only,)
    with (
        tempfile.TemporaryDirectory(prefix="workbench-screenshots-") as name,
        sync_playwright() as playwright,
    ):
        folder = Path(name)
        browser = playwright.chromium.launch(
            executable_path=chromium, args=list(CHROMIUM_ARGUMENTS)
        )
        if "report" in wanted:
            report = folder / "report.html"
            run_demo(report, options.trace)
            keep("report", photograph(report, browser))
        if {"widgets", "jobs"} & set(wanted):
            with closing(Jupyter(folder / "jupyter")) as jupyter:
                if "widgets" in wanted:
                    widgets(jupyter, browser, collected(folder, options.trace))
                if "jobs" in wanted:
                    jobs(jupyter, browser)
        browser.close()
    return 0


def keep(name: str, png: bytes) -> None:
    """Write one picture to docs/images."""
    small = quantised(png)
    IMAGES.mkdir(parents=True, exist_ok=True)
    target = IMAGES / f"{name}.png"
    target.write_bytes(small)
    print(f"{target.relative_to(ROOT)}: {len(small):,} bytes")


def collected(folder: Path, trace: Path | None) -> Path:
    """Return a catalog with the load of the trace, or of a generated set."""
    made = folder / "catalog"
    command = [sys.executable, "-m", "workbench"]
    if trace is None:
        subprocess.run(
            [*command, "datasets", "make", "hot-range", "--out", str(folder)],
            check=True,
            timeout=COLLECT_SECONDS_MAX,
        )
        trace = next(folder.glob("hot-range*.parquet"))
    where = ["--catalog", str(made), "--cluster", "shop", "--routes", "8"]
    subprocess.run(
        [*command, "collect", f"trace:{trace.resolve()}", *where],
        check=True,
        timeout=COLLECT_SECONDS_MAX,
    )
    return made


def widgets(jupyter: Jupyter, browser: Browser, catalog: Path) -> None:
    """Take the heatmap, the route table, the plan, and all of it together."""
    cells = [
        LOOK.format(catalog=str(catalog)),
        "w = Workbench(desk)\nhottest = surface.exact('score', surface.whole)\nw",
        "RouteTable(desk)",
        "PlanReview(desk)",
    ]
    opened = jupyter.open(cells, browser, width=PAGE_WIDTH, height=PAGE_HEIGHT, scale=PAGE_SCALE)
    page = opened.page
    page.set_default_timeout(CELL_MS_MAX)
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    run(opened)
    page.wait_for_selector(".wb-heat[data-painted]")
    area = page.locator(".jp-OutputArea-output")
    area.nth(1).locator("tbody tr .wb-tag").first.wait_for()
    left, top, width, height = page.locator(".wb-cells").evaluate(
        "e => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; }"
    )
    x, y = opened.value(HOTTEST)
    page.mouse.move(left + x * width, top + y * height)
    page.locator(".wb-tip").filter(has_text="group").wait_for()
    keep("heatmap", page.locator(".wb-heat").screenshot())
    page.mouse.move(2, 2)
    opened.value(SELECT)
    page.get_by_text("Brushed:").first.wait_for()
    page.locator(".wb-actions > li").first.wait_for()
    keep("workbench", page.locator(".widget-vbox").first.screenshot())
    keep("routes", area.nth(1).locator(".wb-panel").screenshot())
    keep("plan", area.nth(2).locator(".wb-panel").screenshot())
    opened.check()
    opened.close()


def run(opened: Opened) -> None:
    """Run all cells; say what was raised where one failed."""
    told = opened.page.evaluate(RUN)
    if told:
        raise SystemExit(f"a cell failed: {told}")


def jobs(jupyter: Jupyter, browser: Browser) -> None:
    """Take the jobs of a plan that was applied to a running cluster."""
    look = LOOK.partition("desk = ")[0]
    cells = [look, JOBS, APPLY, "JobMonitor(desk)", DOWN]
    opened = jupyter.open(cells, browser, width=PAGE_WIDTH, height=PAGE_HEIGHT, scale=PAGE_SCALE)
    page = opened.page
    page.set_default_timeout(CELL_MS_MAX)
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    run(opened)
    page.locator(".wb-panel tr[data-state='done']").first.wait_for()
    keep("jobs", page.locator(".wb-panel").screenshot())
    opened.check()
    opened.close()


def run_demo(report: Path, trace: Path | None) -> None:
    """Run the real `workbench demo`; its report goes to `report`."""
    command = [sys.executable, "-m", "workbench", "demo", "--report", str(report)]
    if trace is not None:
        command += ["--trace", str(trace.resolve())]
    subprocess.run(command, cwd=report.parent, check=True, timeout=DEMO_SECONDS_MAX)


def photograph(report: Path, browser: Browser) -> bytes:
    """Return the top of the page as a PNG."""
    page: Page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page.goto(report.as_uri(), wait_until="networkidle")
    png = page.screenshot()
    page.close()
    return png


def quantised(png: bytes) -> bytes:
    """Return the picture in the most colours with which it stays under BYTES_MAX."""
    if len(png) <= BYTES_MAX:
        return png
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= BYTES_MAX:
            return buffer.getvalue()
    raise SystemExit(f"the picture has over {BYTES_MAX:,} bytes even in 32 colours")


if __name__ == "__main__":
    sys.exit(main())
