"""Claims about the end of a script: whatever goes on in the background, it ends well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
# What is registered first is called last: after everything of the widgets has ended.
HEAD = f"""
import atexit, sys, threading
last = []
atexit.register(lambda: print([tell() for tell in last]))
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS / "widgets")!r}]
from stage import Stage
from workbench.widgets.workbench import Workbench
stage = Stage([b"user/%03d" % n for n in range(50, 400, 50)],
              keys=[b"user/%03d" % n for n in range(0, 400, 5)], windows=60, splits=6)
desk = stage.desk()
last.append(lambda: [t.name for t in threading.enumerate() if t.name.startswith("workbench-")])
"""
SHOWN = HEAD + "Workbench(desk)\n"
FOLLOWED = HEAD + "Workbench(desk)\nassert desk.attend(0.001)\n"
# The interpreter ends while a call is on its way; the call ends once the run was asked to stop.
APPLIED = f"""{HEAD}
begun = threading.Event()
def call(moment):
    if moment == "before":
        begun.set()
        assert desk._run._stopping.wait(60)
stage.connector.on_call = call
desk.propose()
desk.approve()
last.append(lambda: len(stage.cluster.splits))
last.append(lambda: desk.running)
last.append(lambda: desk._run.error.code)
assert desk.apply().ok
assert begun.wait(60)
"""


def end_of(script: str) -> tuple[int, str, str]:
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    return ended.returncode, ended.stderr, ended.stdout


@pytest.mark.parametrize("script", [SHOWN, FOLLOWED], ids=["shown", "followed"])
def test_a_script_that_leaves_a_workbench_open_ends_well(script: str) -> None:
    for _ in range(5 if script == SHOWN else 1):
        assert end_of(script) == (0, "", "[[]]\n")


def test_a_run_makes_no_further_call_once_its_interpreter_ends() -> None:
    assert end_of(APPLIED) == (0, "", "[[], 1, False, 'process_ends']\n")
