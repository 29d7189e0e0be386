"""The workbench in JupyterLab 4 and Notebook 7: brush, approve, apply, reload, keyboard only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.jupyter import APPLICATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Dialog, Locator, Page

    from tests.browser.jupyter import Jupyter, Opened

TESTS = Path(__file__).resolve().parents[1]
CELL = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS / "widgets")!r}]
import time
from pathlib import Path
from fakes import Fault
from stage import HOSTILE, Stage
from workbench.widgets import deciding
from workbench.model.keys import Span
from workbench.widgets.job_monitor import JobMonitor
from workbench.widgets.plan_review import PlanReview
from workbench.widgets.route_table import RouteTable
from workbench.widgets.workbench import Workbench
"""
STAGE = """Stage([b"user/%03d" % n for n in range(50, 400, 50)],
              keys=[b"user/%03d" % n for n in range(0, 400, 5)], windows=60, splits=6"""
SHOW = f"""
stage = {STAGE})
desk = stage.desk()
w = Workbench(desk)
w
"""
HOSTILE = """
stage = Stage([HOSTILE[3]], keys=[*HOSTILE, b"m", b"zz"], splits=5)
desk = stage.desk()
desk.propose()
desk.approve()
w = Workbench(desk)
w
"""
# The same cluster's catalog, in a folder, so that other processes can work on it.
SHARED = f"""
from workbench.stores.local import LocalStore
stage = {STAGE}, store=LocalStore({{folder!r}}, create=True))
desk = stage.desk()
desk.propose()
__import__("workbench.session.plans", fromlist=["x"]).record_plan(stage.catalog(), desk.current)
w = Workbench(desk)
w
"""
BERT = f"""{CELL}
from workbench.model.plan import Limits
from workbench.session.plans import record_plan
from workbench.stores.local import LocalStore
from workbench.widgets.options import DeskOptions
stage = {STAGE}, store=LocalStore({{folder!r}}, create=False), joined=True)
bert = stage.desk("bert", pid=2)
"""
ANOTHER_PLAN = """
made = stage.desk("bert", pid=2, options=DeskOptions(limits=Limits(3, 0.0))).propose()
record_plan(stage.catalog(), made)
bert.open_plan(made)
assert bert.approve().ok and bert.apply().ok and bert.wait(60), bert.told
stage.collect(stage.catalog())
"""
# Keeps no decision before a file is there; the kernel's thread of messages waits for it.
HELD = """[
    setattr(deciding, "kept", deciding.approve),
    setattr(deciding, "approve", lambda *a, **n: (
        [time.sleep(0.01) for _ in iter(Path({gate!r}).exists, True)], deciding.kept(*a, **n))[1]),
][0]"""
# What appeared by a press takes no second one yet: see panel.js.
TOO_SOON_MS = 600


class Panels:
    """The panels of a workbench on a page."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.page: Page = opened.page
        self.page.wait_for_selector(".wb-panel")
        self.loop = self.panel("Workbench")
        self.routes = self.panel("Routes")
        self.jobs = self.panel("Jobs")

    def panel(self, name: str) -> Locator:
        return self.page.locator(
            ".wb-panel", has=self.page.locator(f"section[aria-label='{name}']")
        )

    @property
    def plan(self) -> Locator:
        return self.page.locator(".wb-panel", has=self.page.locator(".wb-actions"))

    def button(self, act: str, arg: str = "") -> Locator:
        return self.page.locator(f".wb-panel button[data-act='{act}'][data-arg='{arg}']")

    def state(self, state: str) -> Locator:
        return self.jobs.locator(f"tr[data-state='{state}']")

    def wait(self, state: str, count: int) -> None:
        self.page.wait_for_function(
            "([state, count]) => document.querySelectorAll(`tr[data-state='${state}']`).length "
            "=== count",
            arg=[state, count],
        )


def bert(folder: Path, does: str) -> None:
    """Let somebody else, in a process of their own, work on a shared catalog."""
    script = BERT.format(folder=str(folder)) + does
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module", params=APPLICATIONS)
def opened(request: pytest.FixtureRequest, jupyter: Jupyter, chromium: Browser) -> Iterator[Opened]:
    """One notebook of an application; each test shows a stage of its own in it."""
    made = jupyter.open([CELL, SHOW], chromium, notebook=request.param == "notebook", height=2_400)
    yield made
    made.close()


@pytest.fixture
def panels(opened: Opened) -> Panels:
    opened.run()
    shown = Panels(opened)
    shown.page.wait_for_selector(".wb-heat[data-painted]")
    shown.routes.locator("tbody tr").first.wait_for()
    return shown


def test_a_brush_reaches_the_table_and_the_proposal(panels: Panels) -> None:
    page = panels.page
    box = page.locator(".wb-cells").bounding_box()
    assert box is not None
    assert panels.routes.locator("tbody tr").count() == 8
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.80 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.97 * box["height"], steps=5)
    page.mouse.up()
    panels.routes.get_by_text("Brushed:").wait_for()
    assert panels.routes.locator("tbody tr").count() == 2
    panels.plan.locator(".wb-actions > li").first.wait_for()
    opened = panels.opened
    assert opened.value("[a.split_key.hex() for a in desk.current.actions]")
    assert opened.value("all(a.split_key in desk.brush.span for a in desk.current.actions)")
    assert opened.value("desk.current.since == desk.brush.since")
    panels.routes.get_by_role("button", name="Show all").click()
    page.wait_for_function("() => !document.body.innerText.includes('Brushed:')")
    assert panels.routes.locator("tbody tr").count() == 8
    opened.check()


def test_approved_one_and_all_applied_live_and_reloaded_in_the_middle(
    panels: Panels, tmp_path: Path
) -> None:
    opened, page, gate = panels.opened, panels.page, tmp_path / "gate"
    opened.value("[desk.propose(), None][1]")
    opened.value("[__import__('workbench.session.plans', fromlist=['x']).record_plan("
                 "stage.catalog(), desk.current)][0]")  # fmt: skip
    opened.value(HELD.format(gate=str(gate)))
    panels.button("approve", "split-001").click()
    # The first phase is there before anything is kept: the call has not come back.
    panels.wait("recording", 1)
    assert panels.state("waiting").count() == 0
    gate.touch()
    panels.wait("waiting", 1)
    # Twice in a row, as an impatient hand does.
    panels.button("approve", "split-002").dblclick()
    panels.wait("waiting", 2)
    rows = "stage.catalog().read('approval/' + desk.current.plan_id).num_rows"
    assert opened.value(rows) == 2
    panels.button("approve-all").click()
    panels.wait("waiting", 6)
    assert opened.value(rows) == 6
    assert panels.plan.locator(".wb-actions").get_by_text("by anna").count() == 6

    opened.value("stage.hold()")
    panels.button("apply").click()
    panels.button("apply-yes").wait_for()
    page.wait_for_timeout(TOO_SOON_MS)
    panels.button("apply-yes").dblclick()
    panels.wait("running", 1)
    page.wait_for_selector("tr[data-state='running'] li[aria-current='step'] >> text=Call")
    opened.save()
    opened.reload()
    again = Panels(opened)
    again.wait("running", 1)
    opened.value("stage.let_go()")
    again.wait("done", 1)
    again.wait("running", 1)
    opened.value("stage.free()")
    again.wait("done", 6)
    assert opened.value("len(stage.connector.calls)") == 6
    # The last row is done a moment before the whole is said to be.
    again.jobs.get_by_text("applied: all that is approved is done", exact=True).first.wait_for()
    steps = again.loop.locator(".wb-steps .done").all_inner_texts()
    assert steps == ["Look", "Plan", "Approve", "Apply"]
    opened.check()


def test_a_stale_plan_says_so_while_it_is_looked_at_and_is_planned_anew(panels: Panels) -> None:
    opened = panels.opened
    opened.value("[desk.propose(), None][1]")
    opened.value("[stage.cluster.foreign_split(b'user/120'), desk.collect()][1]")
    panels.plan.get_by_text("This plan is stale.").wait_for()
    assert panels.button("approve-all").get_attribute("aria-disabled") == "true"
    panels.button("plan-again", "stale").click()
    panels.page.wait_for_function("() => !document.body.innerText.includes('This plan is stale')")
    assert opened.value("desk.current.catalog_version") == 2
    assert panels.button("approve-all").get_attribute("aria-disabled") is None
    opened.check()


def test_all_of_it_can_be_done_by_keyboard_alone(panels: Panels) -> None:
    opened, page = panels.opened, panels.page
    opened.value("[desk.propose(), None][1]")
    panels.plan.locator("h3").focus()

    def tab_to(act: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("() => document.activeElement?.dataset?.act") == act:
                return
        raise AssertionError(act)

    tab_to("approve-all")
    page.keyboard.press("Enter")
    panels.wait("waiting", 6)
    # It can still be reached, and is where the focus stays.
    assert page.evaluate("() => document.activeElement.dataset.act") == "approve-all"
    tab_to("apply")
    page.keyboard.press("Space")
    page.wait_for_function("() => document.activeElement?.dataset?.act === 'cancel'")
    page.keyboard.press("Escape")
    page.wait_for_selector("[role=alertdialog]", state="detached")
    assert opened.value("stage.cluster.splits") == []
    panels.plan.locator("h3").focus()
    tab_to("apply")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement?.dataset?.act === 'cancel'")
    tab_to("apply-yes")
    page.keyboard.press("Enter")
    panels.wait("done", 6)
    assert len(opened.value("[s[0] for s in stage.cluster.splits]")) == 6
    panels.routes.locator("h3").focus()
    tab_to("filter")
    page.keyboard.type("user/2")
    page.wait_for_function("() => document.body.innerText.includes(', 8 in all · ')")
    assert page.evaluate("() => document.activeElement.value") == "user/2"
    tab_to("sort")
    page.keyboard.press("Enter")
    page.wait_for_selector("th[aria-sort='ascending']")
    opened.check()


def test_what_others_do_appears_and_who_comes_second_reads_who_was_first(
    jupyter: Jupyter, chromium: Browser, tmp_path: Path
) -> None:
    opened = jupyter.open([CELL, SHARED.format(folder=str(tmp_path))], chromium, height=2_400)
    opened.run()
    panels = Panels(opened)
    panels.plan.locator(".wb-actions > li").first.wait_for()
    bert(tmp_path, "assert bert.approve('split-001').ok")
    # Nobody pressed anything in here.
    panels.wait("waiting", 1)
    assert panels.plan.locator(".wb-actions").get_by_text("by bert").count() == 1
    # Both decide in the same moment: this page has not looked since.
    opened.value("setattr(desk, 'heed', lambda: False)")
    bert(tmp_path, "assert bert.approve('split-002').ok")
    panels.button("approve", "split-002").click()
    panels.plan.locator(".wb-status", has_text="bert was first: approved split-002").wait_for()
    panels.wait("waiting", 2)
    assert opened.value("stage.catalog().read('approval/' + desk.current.plan_id).num_rows") == 2
    opened.value("delattr(desk, 'heed')")
    assert panels.page.get_by_text("This plan is stale.").count() == 0
    bert(tmp_path, ANOTHER_PLAN)
    panels.plan.get_by_text("This plan is stale.").wait_for()
    assert "the routes are at version 4" in panels.plan.locator("[role=alert]").inner_text()
    assert panels.button("plan-again", "stale").is_visible()
    assert panels.button("approve-all").get_attribute("aria-disabled") == "true"
    opened.until("desk.board.routes[-1].route_id > 8", expected=True)
    opened.check()
    opened.close()


def test_a_node_that_goes_away_in_a_job_is_told_and_the_job_is_resumed(panels: Panels) -> None:
    opened = panels.opened
    opened.value("[desk.propose(), None][1]")
    opened.value("stage.connector.faults.extend([None, Fault.UNAVAILABLE])")
    panels.button("approve-all").click()
    panels.wait("waiting", 6)
    panels.button("apply").click()
    panels.page.wait_for_timeout(TOO_SOON_MS)
    panels.button("apply-yes").click()
    panels.wait("interrupted", 1)
    panels.wait("done", 1)
    status = panels.jobs.locator(".wb-status[data-ok='false']")
    status.wait_for()
    assert panels.state("interrupted").locator(".wb-error").inner_text() == status.inner_text()
    panels.button("retry").click()
    panels.page.wait_for_timeout(TOO_SOON_MS)
    panels.button("retry-yes").click()
    panels.wait("done", 6)
    assert opened.value("len(stage.cluster.splits)") == 6
    opened.check()


def test_hostile_keys_are_text_wherever_they_are_shown(opened: Opened) -> None:
    page = opened.page
    asked: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    with opened.showing(1, HOSTILE, instead_of=SHOW, height=2_400):
        shown = Panels(opened)
        shown.routes.locator("tbody tr").first.wait_for()
        panels = page.locator(".wb-panel")
        assert panels.count() == 4
        assert panels.locator("img, script, iframe, a, style").count() == 0
        assert "<img/src=x/onerror=alert(1)>" in shown.plan.inner_text()
        assert page.locator(".wb-panel > [role=status][aria-live=polite]").count() == 4
        assert page.locator(".wb-panel table th:not([scope])").count() == 0
    assert asked == []
    page.remove_listener("dialog", dismiss)
    opened.check()
