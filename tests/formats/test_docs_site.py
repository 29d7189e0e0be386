"""The documentation builds strictly, offline, and its pages ask nobody but themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
# What a browser fetches by itself when it opens a page.
FETCHED = re.compile(
    r"<(?:link|script|img|iframe|source)\b[^>]*?(?:src|href)=\"?(https?:)?//", re.IGNORECASE
)
FETCHED_BY_STYLE = re.compile(
    r"url\(\s*['\"]?(https?:)?//|@import\s+['\"](https?:)?//", re.IGNORECASE
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        assert not FETCHED.search(page.read_text()), page
    for style in site.rglob("*.css"):
        assert not FETCHED_BY_STYLE.search(style.read_text()), style


def test_the_check_would_find_a_foreign_script() -> None:
    assert FETCHED.search('<script defer src="https://cdn.example/x.js">')
    assert FETCHED_BY_STYLE.search("src: url('//fonts.example/a.woff2')")


def test_every_command_is_in_the_reference(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text()
    for name in COMMANDS:
        assert f"workbench {name}" in page
    assert "workbench catalog gc" in page


def test_every_page_is_in_the_navigation(site: Path) -> None:
    home = (site / "index.html").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        place = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        if not place.startswith("adr/") and place != "index.html":
            assert f'href="{place}"' in home, place
