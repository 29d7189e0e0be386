"""Claims about counts in words: one is not many, and only one function knows how to say it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workbench.report.words import NBSP, counted, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2] / "workbench"
PLACES = ("api", "cli", "report", "session", "widgets")
NOUNS = (
    "accesses|actions|buckets|bytes|calls|checkpoints|clusters|datasets|events|exports"
    "|files|groups|imports|jobs|keys|manifests|nodes|objects|partitions|plans|problems|ranges"
    "|reads|reasons|records|replicas|rounds|routes|rows|splits|versions|windows|writes"
)
FOLLOWS = re.compile(rf"(?: |\u00a0)(?:[a-z]+ )?(?:{NOUNS})\b(?!/)")
# More than one by the condition above the text or by what it is; or no count, but a name.
MANY = {
    "cli/routes.py": {"len(names)"},
    "report/view.py": {"step"},
    "session/approval.py": {"first"},
    "session/cluster.py": {"len(names)"},
    "session/exporting.py": {"len(open_ones)"},
    "session/load_content.py": {"rows"},
    "session/local_cluster.py": {"min(nodes, VOTERS_MAX)"},
    "session/plans.py": {"len(names)", "checked.num_rows"},
    "session/querying.py": {"query.name"},
    "session/planning.py": {"len(atoms.keys)"},
    "api/looking.py": {"len(self.png)"},
    "api/show.py": {"rows"},
    "api/verification.py": {"self.bytes"},
}
# What only looks like a count: a name, an id, a whole phrase.
OTHERWISE = re.compile(r"counted\(|plural\(|address|_url|url$|label|group$|reference|rate|rfc3339")


def bare_counts(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and expression of each number that a plural noun follows as it stands."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, after in zip(node.values, node.values[1:], strict=False):
            if (
                isinstance(value, ast.FormattedValue)
                and value.conversion == -1
                and isinstance(after, ast.Constant)
                and FOLLOWS.match(str(after.value))
            ):
                said = ast.unparse(value.value)
                if not said.isupper() and not OTHERWISE.search(said):
                    yield value.lineno, said


def test_one_is_not_many() -> None:
    assert [counted(n, "split") for n in (0, 1, 2_000)] == ["0 splits", "1 split", "2,000 splits"]
    assert [counted(n, "access", "accesses") for n in (1, 2)] == ["1 access", "2 accesses"]
    assert [counted(n, "object is", "objects are") for n in (1, 3)] == [
        "1 object is",
        "3 objects are",
    ]
    assert plural(1, "route") == f"1{NBSP}route"
    assert plural(2, "route").replace(NBSP, " ") == counted(2, "route")


@pytest.mark.parametrize("place", PLACES)
def test_no_text_puts_a_plural_behind_a_number_by_itself(place: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {said}"
        for path in sorted((ROOT / place).glob("*.py"))
        for line, said in bare_counts(path.read_text(encoding="utf-8"))
        if said not in MANY.get(f"{place}/{path.name}", ())
    ]
    assert found == []


def test_the_search_finds_what_was_there() -> None:
    planted = 'f"{len(calls)} calls, none is made"\nf"{rows:,} new rows"\nf"{rate:.0f} rows/s"\n'
    assert [said for _, said in bare_counts(planted)] == ["len(calls)", "rows"]
    assert list(bare_counts("f\"{counted(3, 'route is', 'routes are')} hot\"")) == []
