"""What `hot`, `plan` and `collect` say of a cluster whose routes were split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from tests.unit.test_route_windows import T0, history, row
from workbench.catalog.catalog import Write
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import LOAD_WINDOW, routes_to_table
from workbench.session.wiring import create_catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LIVE = {"collected_until": "2026-01-01T00:05:00Z", "source": "node://n1:7001"}
COLD_AGAIN = "a minute is under"


def kept(folder: Path, rows: Sequence[dict[str, Any]], bounds: Sequence[bytes] = (b"m",)) -> None:
    """Keep a live cluster's load and its routes, cut at the bounds, in the default catalog."""
    starts, ends = [b"", *bounds], [*bounds, None]
    routes = tuple(
        RouteDescriptor(number, Span(start, end), 1)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), start=2)
    )
    windows = pa.Table.from_pylist(list(rows), schema=LOAD_WINDOW)
    table = routes_to_table(RouteSnapshot(2, routes, T0))
    create_catalog(str(folder / ".workbench/catalog")).commit(
        [
            Write("c/load_window", windows, "create", LIVE),
            Write("c/route", table, "create", LIVE),
        ]
    )


def test_hot_gives_the_children_what_the_parent_carried(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    kept(tmp_path, history())
    answer = workbench("hot", "--json").json
    assert [each["windows_over"] for each in answer["routes"]] == [5, 0]
    assert answer["unattributed"] == {"buckets": 0, "load": 0, "share": 0.0}
    assert COLD_AGAIN in answer["routes"][1]["reasons"][0]
    text = workbench("hot")
    assert "latest window, per minute" in text.out
    assert "for 5 windows" in text.out
    assert COLD_AGAIN not in text.out
    assert "1 hot, 1 cold (under 50,000 a minute)" in text.out
    assert text.err == ""


def test_where_all_are_cold_there_is_no_column_of_reasons(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    kept(tmp_path, history())
    assert "why" not in workbench("hot", "--threshold", "1000000").out
    earlier = workbench("hot", "--threshold", "25000", "--windows", "9").out
    assert "why" in earlier


def test_hot_warns_of_what_no_route_can_be_given(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    kept(tmp_path, history(before=[Span(b"", None)]))
    answer = workbench("hot", "--json").json
    assert answer["unattributed"]["buckets"] == 3
    assert answer["unattributed"]["share"] == pytest.approx(0.6)
    assert "warning: 60.0% of the load is left out" in workbench("hot").err


def test_heavy_buckets_are_capped_and_said_once(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    # Every route has one bucket that carries all but nothing of it.
    bounds = [b"b", b"c", b"d", b"e", b"f"]
    starts = [b"", *bounds]
    rows = []
    for number in range(4):
        for place, (start, end) in enumerate(zip(starts, [*bounds, None], strict=True)):
            half = start + b"A"
            rows += [
                row(number, place + 2, Span(start, half), reads=1_000 - place),
                row(number, place + 2, Span(half, end), reads=1),
            ]
    kept(tmp_path, rows, bounds)
    answer = workbench("plan", "--max-splits", "20", "--min-gain", "0")
    assert answer.status == 0
    assert answer.out.count("unsplittable: ") == 3
    assert "more such buckets with" in answer.out
    assert answer.out.count("finer evidence: ") == 1
    assert "cluster up --buckets" in answer.out
    assert "one bucket alone" not in answer.out.partition("left alone")[2]


def test_a_quiet_cluster_is_told_what_to_do(workbench: Callable[..., Any], tmp_path: Path) -> None:
    kept(tmp_path, [row(number, 2, Span(b"", None)) for number in range(3)])
    outcome = workbench("plan", "--json")
    assert (outcome.status, outcome.error["code"]) == (1, "load_absent")
    assert "put load on the cluster" in outcome.error["hint"]
    assert "workbench collect node://n1:7001" in outcome.error["hint"]


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("http://127.0.0.1:17001", "node://127.0.0.1:17001"),
        ("127.0.0.1:17001", "node://127.0.0.1:17001"),
        ("[::1]:17001", "node://[::1]:17001"),
        ("NODE://127.0.0.1:17001", "node://127.0.0.1:17001"),
        ("nodes://x", "node://x"),
        ("nope.csv", "trace:nope.csv"),
        ("traces:nope.csv", "trace:nope.csv"),
        ("nothing://x", None),
        ("trace:", None),
    ],
)
def test_a_source_that_is_not_understood_says_what_was_meant(
    workbench: Callable[..., Any], source: str, meant: str | None
) -> None:
    # Also with an option that only a running cluster has: the source is what is wrong.
    for options in ((), ("--every", "5s")):
        outcome = workbench("collect", source, *options, "--json")
        assert (outcome.status, outcome.error["code"]) == (2, "source_unknown")
        hint = outcome.error["hint"]
        assert "trace:FILE" in hint
        assert "file, node" in hint
        assert hint.startswith(f"did you mean {meant}? ") if meant else "did you" not in hint


@pytest.mark.parametrize("options", [("1,9",), ("2",)])
def test_a_group_that_the_cluster_does_not_name_is_refused_unless_it_is_said_to_be_new(
    workbench: Callable[..., Any], tmp_path: Path, options: tuple[str, ...]
) -> None:
    kept(tmp_path, history())
    refused = workbench("plan", "--groups", *options, "--json")
    assert (refused.status, refused.error["code"]) == (2, "group_unknown")
    assert "there are routes on 1" in refused.error["message"]
    assert "--new-groups" in refused.error["hint"]
    given = ("plan", "--groups", *options, "--new-groups", "--min-gain", "0")
    planned = workbench(*given, "--json")
    assert planned.status == 0
    moving = [a["id"] for a in planned.json["actions"] if a["kind"] != "split"]
    assert moving
    assert f"executes splits inside a group and no moves: {moving[0]}" in planned.err
    approved = workbench("approve", planned.json["plan_id"], "--by", "anna")
    assert approved.status == 0
    assert f"executes splits inside a group and no moves: {moving[0]}" in approved.err


def test_a_second_half_without_load_is_told_and_not_a_test(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    whole = Span(b"", None)
    loaded = [
        row(number, 2 + place, span, reads=reads)
        for number in range(2)
        for place, (span, reads) in enumerate(
            [(Span(b"", b"f"), 60), (Span(b"f", b"m"), 50), (Span(b"m", None), 1)]
        )
    ]
    kept(tmp_path, [*loaded, *(row(number, 2, whole) for number in range(2, 5))])
    document = workbench("plan", "--since", "0%", "--json").json
    assert document["forecast"]["backtest"] is None
    assert any("no load in the second half" in each["text"] for each in document["findings"])
    text = workbench("plan", "--since", "0%").out
    assert "back-test: there was no load in the second half" in text
    assert "came to 0.0%" not in text
