"""Links in the documentation lead to files, and to headings, that are there."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]\n]*\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")


def links(text: str) -> list[str]:
    """Return the targets of a page's links within the repository, without code."""
    found = LINK.findall(CODE.sub("`code`", FENCE.sub("", text)))
    return [each for each in found if not re.match(r"[a-z][a-z0-9+.-]*:", each)]


def anchors(text: str) -> set[str]:
    """Return the names of a page's headings, as they are linked to."""
    headings = re.findall(r"^#+\s+(.*?)\s*$", FENCE.sub("", text), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", each.lower()) for each in headings)
    return {each.replace(" ", "-") for each in plain}


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        if not target.exists() or not target.is_relative_to(ROOT):
            found.append(link)
        elif anchor and target.suffix == ".md":
            text = target.read_text(encoding="utf-8")
            if anchor not in anchors(text):
                found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_all_links_of_a_page_lead_to_what_is_there(page: Path) -> None:
    assert broken(page) == []


def test_there_are_pages_with_links_to_look_at() -> None:
    assert ROOT / "README.md" in PAGES
    assert sum(len(links(page.read_text(encoding="utf-8"))) for page in PAGES) > 20


def test_a_link_that_leads_nowhere_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "a.md"
    page.write_text(
        "# One `two`\n[x](a.md) [x](#one-two) [x](gone.md) [x](#gone) [x](https://example.org) "
        "`[x](code.md)`\n```\n[x](fenced.md)\n```\n"
    )
    assert broken(page) == ["gone.md", "#gone"]
