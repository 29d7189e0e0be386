"""`workbench jobs`: what was executed, newest first, in its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fakes import FakeCluster, FakeConnector

from workbench.model.routes import seed_routes
from workbench.session import applying

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def plan_id(workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, trace: Path) -> str:
    """A plan of two splits, approved and not yet applied; the cluster is in memory."""
    workbench("collect", "trace:hot.parquet")
    made: str = workbench("plan", "--until", "50%", "--max-splits", "2", "--json").json["plan_id"]
    workbench("approve", made)
    cluster = FakeCluster(routes={route.span: route for route in seed_routes([])})
    monkeypatch.setattr(applying, "open_routes", lambda _u, **_o: FakeConnector(cluster))
    return made


def test_without_jobs_a_list_is_empty_and_a_plan_has_none(
    workbench: Callable[..., Any], plan_id: str
) -> None:
    assert workbench("jobs", "list", "--json").json["jobs"] == []
    assert workbench("jobs", "list").out == "nothing was executed yet\n"
    outcome = workbench("jobs", "show", plan_id, "--json")
    assert (outcome.status, outcome.error["code"]) == (1, "job_absent")


def test_jobs_are_listed_newest_first_with_all_that_scripts_rely_on(
    workbench: Callable[..., Any], plan_id: str
) -> None:
    assert workbench("apply", plan_id, "--to", "fake://c", "--by", "anna").status == 0
    listed = workbench("jobs", "list", "--json").json["jobs"]
    assert [job["job_id"] for job in listed] == [f"{plan_id}/split-002", f"{plan_id}/split-001"]
    first = listed[1]
    assert first["phase"] == "DONE"
    assert (first["route_id"], first["children"], first["catalog_version"]) == (1, [2, 3], 2)
    # A split inside a group moves nothing, and fences nothing.
    assert (first["rows"], first["bytes"], first["target_group"]) == (0, 0, None)
    assert (first["fence_ms"], first["read_gap_ms"], first["last_error"]) == (None, None, None)
    assert (first["by"], first["cluster"], first["repeated"]) == ("user:anna", "hot", False)
    assert workbench("jobs", "list", "--plan", plan_id[:5], "--json").json["jobs"] == listed
    assert workbench("jobs", "list", "--cluster", "hot", "--json").json["jobs"] == listed
    assert workbench("jobs", "list", "--cluster", "cold", "--json").json["jobs"] == []
    assert workbench("jobs", "show", plan_id, "--json").json["jobs"] == listed
    shown = workbench("jobs", "show", f"{plan_id}/split-001", "--json").json["jobs"]
    assert shown == [first]


def test_jobs_are_shown_to_a_human(workbench: Callable[..., Any], plan_id: str) -> None:
    workbench("apply", plan_id, "--to", "fake://c")
    table = workbench("jobs", "list").out
    assert "2 jobs, newest first" in table
    assert table.index("split-002") < table.index("split-001")
    assert workbench("jobs", "show", plan_id).out.count("DONE") == 2
    one = workbench("jobs", "show", f"{plan_id}/split-001").out
    for line in ("phase             DONE (applied)", "children          2 and 3", "request id"):
        assert line in one


@pytest.mark.parametrize(
    ("reference", "status", "code"),
    [
        ("nothing", 2, "plan_reference_invalid"),
        ("ffff0000", 1, "plan_absent"),
        ("../../etc", 2, "plan_reference_invalid"),
    ],
)
def test_a_reference_that_names_nothing_is_refused(
    workbench: Callable[..., Any], plan_id: str, reference: str, status: int, code: str
) -> None:
    assert plan_id
    for command in (("show", reference), ("list", "--plan", reference)):
        outcome = workbench("jobs", *command, "--json")
        assert (outcome.status, outcome.error["code"]) == (status, code)


def test_watch_ends_when_nothing_is_left_and_tells_every_job_once(
    workbench: Callable[..., Any], plan_id: str
) -> None:
    assert workbench("apply", plan_id, "--to", "fake://c").status == 0
    seen = workbench("jobs", "watch", plan_id)
    assert seen.status == 0
    assert seen.out.count("DONE") == 2
    assert seen.out.endswith("nothing is left to do\n")


def test_watch_says_what_is_left_when_its_time_is_over(
    workbench: Callable[..., Any], plan_id: str
) -> None:
    seen = workbench("jobs", "watch", plan_id, "--every", "10ms", "--for", "50ms")
    assert (seen.status, seen.out) == (4, "left to apply: split-001 split-002\n")
    told = workbench("jobs", "watch", plan_id, "--every", "10ms", "--for", "20ms", "--json").json
    assert told["left"] == ["split-001", "split-002"]


def test_retry_goes_on_with_what_is_left(workbench: Callable[..., Any], plan_id: str) -> None:
    assert workbench("jobs", "retry", plan_id, "--to", "fake://c").status == 0
    assert len(workbench("jobs", "list", "--json").json["jobs"]) == 2


def test_abandon_is_told_first_and_then_done(workbench: Callable[..., Any], plan_id: str) -> None:
    told = workbench("jobs", "abandon", plan_id)
    assert told.out == "would withdraw: split-001 split-002; add --yes to do it\n"
    done = workbench("jobs", "abandon", plan_id, "--yes", "--json").json
    assert (done["actions"], done["done"]) == (["split-001", "split-002"], True)
    assert workbench("jobs", "abandon", plan_id).out == "nothing to do: nothing approved is left\n"
    assert workbench("apply", plan_id, "--to", "fake://c", "--json").error["code"] == (
        "plan_not_approved"
    )


def test_a_connector_is_checked_by_reading_it_once(
    workbench: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "routes.json"
    route = '{"route_id": 1, "start": "", "end": null, "group": 1}'
    file.write_text(f'{{"catalog_version": 3, "routes": [{route}]}}')
    found = workbench("connectors", "check", f"file:{file}", "--json").json
    assert [each["held"] for each in found["checks"]] == [True, True, None]
    assert found["checks"][0]["said"] == "routes: 1, groups: 1, version: 3"
