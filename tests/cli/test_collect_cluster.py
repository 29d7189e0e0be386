"""`workbench collect` on a running cluster: lines, JSON lines, options, status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cli.conftest import check_schema
from unit.test_collect_live import FakeCluster

from workbench.errors import InvalidArgument
from workbench.session import collect_live as module

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "node://127.0.0.1:7001"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster()
    made.numbers = [0, 1]
    monkeypatch.setattr(module, "open_routes", lambda _url: made)
    return made


def test_one_round_says_what_it_brought(cluster: FakeCluster, workbench: Callable[..., Any]):
    outcome = workbench("collect", URL)
    assert outcome.status == 0
    assert outcome.out.splitlines()[0] == (
        "cluster local: 2 windows, 10 accesses, up to 2026-11-21T12:02:00Z; "
        "1 route of version 1, new"
    )
    assert "local/load_window" in outcome.out
    again = workbench("collect", URL)
    assert again.out.startswith("cluster local: no new window; 1 route of version 1, known")


def test_json_of_one_round_fits_its_schema(cluster: FakeCluster, workbench: Callable[..., Any]):
    document = workbench("collect", URL, "--json").json
    assert document["added"] == {"windows": 2, "rows": 4}
    assert document["accesses"] == 10
    assert document["cluster_id"] == "id-1"
    assert document["datasets"][0]["windows"] == 2
    assert document["assumptions"] == {"note.load": "counted"}


def test_json_before_the_first_window_fits_its_schema(
    cluster: FakeCluster, workbench: Callable[..., Any]
):
    cluster.numbers = []
    document = workbench("collect", URL, "--json").json
    assert document["window"] is None
    assert document["written"]


def test_rounds_are_json_lines(cluster: FakeCluster, workbench: Callable[..., Any]):
    outcome = workbench("collect", URL, "--every", "1ms", "--times", "3", "--json")
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert [line["added"]["windows"] for line in lines] == [2, 0, 0]
    for line in lines:
        check_schema(line)
    assert outcome.err.splitlines()[-1] == "collected 2 windows in 3 rounds"


def test_rounds_outlast_a_cluster_that_does_not_answer(
    cluster: FakeCluster, workbench: Callable[..., Any]
):
    cluster.down = 1
    outcome = workbench("collect", URL, "--every", "1ms", "--times", "2")
    assert outcome.status == 0
    assert len(outcome.out.splitlines()) == 1
    assert "warning: not collected: no connection" in outcome.err
    assert outcome.err.splitlines()[-1] == "collected 2 windows in 1 round, 1 without an answer"


def test_rounds_that_all_failed_are_a_failure(cluster: FakeCluster, workbench: Callable[..., Any]):
    cluster.down = 5
    outcome = workbench("collect", URL, "--every", "1ms", "--times", "2")
    assert outcome.status == 1


def test_ctrl_c_ends_the_rounds_with_a_summary(
    cluster: FakeCluster, workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.follow, "__defaults__", (interrupted,))
    outcome = workbench("collect", URL, "--every", "60s")
    assert outcome.status == 130
    assert "collected 2 windows in 1 round" in outcome.err


def test_rounds_end_after_the_time_that_is_given(
    cluster: FakeCluster, workbench: Callable[..., Any]
):
    outcome = workbench("collect", URL, "--every", "60s", "--for", "1s")
    assert (outcome.status, len(outcome.out.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((URL, "--buckets", "4"), "option_not_for_source"),
        ((URL, "--routes", "4"), "option_not_for_source"),
        ((URL, "--times", "4"), "option_without_every"),
        (("trace:t.csv", "--every", "60s"), "option_not_for_source"),
        (("nothing://x",), "source_unknown"),
        (("t.csv",), "source_unknown"),
        (("node://x",), "url_invalid"),
        ((URL, "--every", "0s"), "duration_invalid"),
        ((URL, "--cluster", "a/b"), "cluster_name_invalid"),
    ],
)
def test_wrong_usage_is_status_2(
    workbench: Callable[..., Any], arguments: tuple[str, ...], code: str
):
    outcome = workbench("collect", *arguments, "--json")
    assert (outcome.status, outcome.error["code"]) == (2, code)


def test_another_cluster_under_the_name_is_status_5(
    cluster: FakeCluster, workbench: Callable[..., Any]
):
    workbench("collect", URL)
    cluster.cluster_id = "id-2"
    outcome = workbench("collect", URL, "--json")
    assert (outcome.status, outcome.error["code"]) == (5, "cluster_id_mismatch")
    assert "--cluster" in outcome.error["hint"]
    assert workbench("collect", URL, "--replace").status == 0


def test_node_that_does_not_run_is_status_1_and_leaves_no_load(workbench: Callable[..., Any]):
    outcome = workbench("collect", "node://127.0.0.1:1", "--json")
    assert (outcome.status, outcome.error["kind"]) == (1, "unavailable")
    assert InvalidArgument.kind != outcome.error["kind"]


def test_route_file_gives_routes_and_a_warning(workbench: Callable[..., Any], tmp_path: Any):
    (tmp_path / "r.json").write_text(
        '{"catalog_version": 3, "routes": [{"route_id": 1, "start": "", "end": null, "group": 1}]}'
    )
    outcome = workbench("collect", "file:r.json")
    assert outcome.status == 0
    assert "tells of no load" in outcome.err
