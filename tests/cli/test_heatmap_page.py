"""`workbench heatmap` as a page, and `workbench hot` with all that it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from workbench.session.datasets import accesses_bytes
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def collected(workbench: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    (tmp_path / "t.parquet").write_bytes(
        accesses_bytes(generate("hot-key", accesses=4_000, seed=2))
    )
    assert workbench("collect", "trace:t.parquet", "--routes", "4").status == 0
    return workbench


def test_a_page_and_a_picture_of_buckets_and_of_routes(
    collected: Callable[..., Any], tmp_path: Path
) -> None:
    for out, of in (("a.html", "route"), ("b.html", "bucket"), ("c.png", "route")):
        answer = collected("heatmap", "--out", out, "--of", of, "--json")
        assert answer.status == 0
        assert answer.json["of"] == of
        assert (tmp_path / out).stat().st_size == answer.json["bytes"] < 3_000_000
    assert (tmp_path / "a.html").read_bytes() != (tmp_path / "b.html").read_bytes()
    refused = collected("heatmap", "--out", "d.pdf", "--json")
    assert refused.error["code"] == "heatmap_format_unknown"


def test_hot_tells_keys_certainty_evidence_and_what_the_plan_does(
    collected: Callable[..., Any],
) -> None:
    before = collected("hot", "--threshold", "1", "--json").json
    assert before["plan_id"] is None
    assert {route["planned"] for route in before["routes"]} == {None}
    assert "load_window" in before["evidence"]["sql"]
    assert before["hot_keys"][0]["share"] > 0.3
    assert collected("plan", "--max-splits", "1").status == 0
    after = collected("hot", "--threshold", "1", "--json").json
    assert after["plan_id"]
    told = {route["planned"]: route["declined"] for route in after["routes"]}
    assert told[False]
    assert {route["certainty"] for route in after["routes"]} <= {"certain", "likely", "open"}
    shown = collected("hot", "--threshold", "1", "--windows", "1")
    assert shown.status == 0
    assert "Keys that carry much of their route" in shown.out
