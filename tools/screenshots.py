"""Take the pictures of README and docs from the real thing.

    python tools/screenshots.py [--trace FILE]

Runs `workbench demo` in a temporary folder, opens its report in Chromium, and writes the top of
the page to docs/images/report.png, in fewer colours where it would get too large. Needs
Playwright (among the development packages) and `chromium` on PATH.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
WIDTH = 1200
HEIGHT = 1240
BYTES_MAX = 300_000
DEMO_SECONDS_MAX = 600
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


def main() -> int:
    """Run the demo, take the pictures, and return the exit status."""
    parser = argparse.ArgumentParser(description="Take the pictures of README and docs.")
    parser.add_argument("--trace", type=Path, help="trace to run the demo on; else its own")
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("there is no `chromium` on PATH; install it first", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="workbench-screenshots-") as folder:
        report = Path(folder) / "report.html"
        run_demo(report, options.trace)
        png = photograph(report, chromium)
    small = quantised(png)
    IMAGES.mkdir(parents=True, exist_ok=True)
    target = IMAGES / "report.png"
    target.write_bytes(small)
    print(f"{target.relative_to(ROOT)}: {len(small):,} bytes")
    return 0


def run_demo(report: Path, trace: Path | None) -> None:
    """Run the real `workbench demo`; its report goes to `report`."""
    command = [sys.executable, "-m", "workbench", "demo", "--report", str(report)]
    if trace is not None:
        command += ["--trace", str(trace.resolve())]
    subprocess.run(command, cwd=report.parent, check=True, timeout=DEMO_SECONDS_MAX)


def photograph(report: Path, chromium: str) -> bytes:
    """Return the top of the page as a PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(report.as_uri(), wait_until="networkidle")
        png = page.screenshot()
        browser.close()
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
