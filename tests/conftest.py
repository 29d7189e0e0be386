"""Fixtures that all tests share, and the rule for what a machine lacks.

A test that needs a program or data that this machine lacks is skipped with a message. Where
WORKBENCH_REQUIRE names it (`chromium`, `traces`, comma-separated), the skip is a failure: CI
sets it, so that no test passes there by not running.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

# How long an example takes says how busy the machine is, and nothing about the claim.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent
TRACES = ROOT.parent / "shared" / "data"
CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Whoever starts the tests in the background may have these ignored, which every program that a
# test starts would inherit; tests of interruptions need them as a terminal gives them.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


def require(name: str, reason: str) -> None:
    """Skip for what this machine lacks, or fail where WORKBENCH_REQUIRE names it."""
    required = {each.strip() for each in os.environ.get("WORKBENCH_REQUIRE", "").split(",")}
    if name in required:
        pytest.fail(f"WORKBENCH_REQUIRE names {name!r}, but {reason}")
    pytest.skip(reason)


def recorded(name: str) -> Path:
    """Return a recorded block-address trace, where this checkout has it beside it."""
    trace = TRACES / name
    if not trace.is_file():
        require("traces", f"there is no ../shared/data/{name}")
    return trace


@pytest.fixture
def cloudphysics() -> Path:
    """A trace with times, operations and sizes."""
    return recorded("cloudphysics.csv.zst")


@pytest.fixture
def arc() -> Path:
    """A trace of starts and counts, without times."""
    return recorded("arc-P3.lis.zst")


@pytest.fixture
def w106() -> Path:
    """A trace of 4-byte block numbers, without times."""
    return recorded("w106.trace.xz")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium, driven by Playwright.

    Of one module: while Playwright is there it runs an event loop in this thread, and tests of
    other modules could not run one of their own.
    """
    executable = shutil.which("chromium")
    if executable is None:
        require("chromium", "there is no `chromium` on PATH; install Debian's package")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
