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
