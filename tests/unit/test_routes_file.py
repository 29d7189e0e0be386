"""Claims about the connector that reads routes from a file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from workbench_connectors.routes_file import connect

from workbench.errors import InvalidArgument, InvalidInput, NotFound
from workbench.model.keys import Span
from workbench.model.routes import RouteState

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/formats/routes.md"


def written(folder: Path, document: Any) -> str:
    path = folder / "routes.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return f"file:{path}"


def test_both_documented_forms_give_the_same_spans(tmp_path: Path) -> None:
    blocks = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        snapshot = connect(written(tmp_path, block)).snapshot()
        assert snapshot.catalog_version == 12
        assert [r.span for r in snapshot.routes] == [Span(b"", b"user/5"), Span(b"user/5", None)]
        assert [r.group for r in snapshot.routes] == [1, 2]
        assert {r.state for r in snapshot.routes} == {RouteState.ACTIVE}


def test_a_file_is_ordered_and_can_do_nothing_else(tmp_path: Path) -> None:
    able = connect(written(tmp_path, {})).capabilities()
    assert able.ordered
    assert not any([able.split, able.move, able.watch, able.compare_and_set])


GOOD = {"route_id": 1, "start": "", "end": None, "group": 1}


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ("[]", "catalog_version"),
        ({"routes": [GOOD]}, "catalog_version"),
        ({"catalog_version": 1, "routes": {}}, "list of routes"),
        ({"catalog_version": 1, "routes": [7]}, "route 1 is no object"),
        ({"catalog_version": 1, "routes": [{**GOOD, "start": "xyz"}]}, "route 1 has a field"),
        ({"catalog_version": 1, "routes": [{**GOOD, "state": "ASLEEP"}]}, "ASLEEP"),
        ({"catalog_version": 1, "routes": [{"route_id": 1, "start": ""}]}, "lacks the field"),
        ({"catalog_version": 1, "routes": [{**GOOD, "raft_group_id": 1, "start": "?"}]}, "route 1"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({"catalog_version": 1, "routes": []}, "lists no routes"),
        ({"catalog_version": 1, "routes": [GOOD, {**GOOD, "route_id": 2}]}, "overlap"),
    ],
)
def test_a_file_that_is_no_route_list_is_refused_in_words(
    tmp_path: Path, document: Any, part: str
) -> None:
    with pytest.raises(InvalidInput, match=part) as caught:
        connect(written(tmp_path, document)).snapshot()
    assert "Error(" not in str(caught.value)


def test_an_absent_file_and_a_url_without_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        connect(f"file:{tmp_path}/none.json").snapshot()
    for url in ("file:", "other:routes.json"):
        with pytest.raises(InvalidArgument):
            connect(url)
