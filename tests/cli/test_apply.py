"""`workbench apply` and `jobs` by their commands, against a cluster in memory."""

from __future__ import annotations

import json
import os
import re
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from fakes import FakeCluster, FakeConnector, Fault

from workbench.catalog.catalog import Write
from workbench.errors import InvalidArgument
from workbench.model.routes import RouteSnapshot
from workbench.model.tables import routes_to_table
from workbench.session import applying
from workbench.session.lease import acquire, this_machine
from workbench.session.wiring import open_catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CATALOG = "./.workbench/catalog"
TO = ("--to", "fake://cluster")


class Scene:
    """A plan from a trace, and the cluster in memory that it is applied to."""

    def __init__(self, workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = workbench
        assert workbench("collect", "trace:hot.parquet", "--routes", "1").status == 0
        made = workbench("plan", "--until", "50%", "--max-splits", "3", "--json").json
        self.plan_id = made["plan_id"]
        self.names = [action["id"] for action in made["actions"]]
        assert len(self.names) == 3
        self.cluster = FakeCluster(routes=one_route())
        self.connector = FakeConnector(self.cluster)
        monkeypatch.setattr(applying, "open_routes", self._open)

    def _open(self, url: str, *, allow_write: bool = False) -> FakeConnector:
        if not url.startswith("fake:"):
            raise InvalidArgument(f"{url!r} executes nothing", code="connector_unknown")
        return self.connector

    def approve(self) -> None:
        assert self.run("approve", self.plan_id, "--by", "anna").status == 0

    def fail_with(self, faults: Sequence[Fault | None]) -> None:
        self.connector.faults.extend(faults)

    def apply(self, *options: str) -> Any:
        return self.run("apply", self.plan_id[:8], *TO, *options)


def one_route() -> dict[Any, Any]:
    from workbench.model.routes import seed_routes

    return {route.span: route for route in seed_routes([])}


@pytest.fixture
def scene(workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, trace: Path) -> Scene:
    return Scene(workbench, monkeypatch)


def statuses(outcome: Any) -> list[str]:
    return [action["status"] for action in outcome.json["actions"]]


def test_apply_executes_what_is_approved_and_answers_in_its_schema(scene: Scene) -> None:
    scene.approve()
    outcome = scene.apply("--by", "anna", "--json")
    assert outcome.status == 0
    answer = outcome.json
    assert [(a["id"], a["status"]) for a in answer["actions"]] == [
        (name, "applied") for name in scene.names
    ]
    assert [a["catalog_version"] for a in answer["actions"]] == [2, 3, 4]
    assert [a["job_id"] for a in answer["actions"]] == [f"{scene.plan_id}/{n}" for n in scene.names]
    assert (answer["catalog_version"], answer["target"]) == (4, "fake://cluster")
    assert (answer["warnings"], outcome.err) == (["there is no undo of a split"], "")
    again = scene.apply("--json")
    assert (again.status, statuses(again)) == (0, ["already_applied"] * 3)
    assert all(action["seconds"] is None for action in again.json["actions"])
    assert "applied before" in scene.apply().out
    assert len(scene.cluster.splits) == 3


def test_the_table_shows_routes_children_and_versions(scene: Scene) -> None:
    scene.approve()
    outcome = scene.apply()
    out = outcome.out
    assert "warning: there is no undo of a split" in outcome.err
    assert re.search(r"split-001 +applied +1 +\S+ +2 and 3 +no +2 ", out)
    assert "3 of 3 actions applied to fake://cluster" in out
    assert f"workbench verify {scene.plan_id}" in out


def test_a_split_that_was_found_made_is_told_from_one_that_was_made(scene: Scene) -> None:
    scene.approve()
    scene.fail_with([Fault.UNKNOWN_AFTER])
    first = scene.apply("--json")
    assert [action["repeated"] for action in first.json["actions"]] == [None] * 3
    table = scene.apply().out
    assert re.search(r"children +found made +version", table)
    assert re.search(r"split-001 +already_applied +1 +\S+ +2 and 3 +yes +2\b", table)
    assert re.search(r"split-002 +applied .* no +3 ", table)
    again = scene.apply("--json").json["actions"]
    assert [action["repeated"] for action in again] == [True, False, False]
    listed = scene.run("jobs", "list").out
    assert re.search(r"children +found made +version", listed)
    assert re.search(r"split-001 .* 2 and 3 +yes +2 ", listed)
    assert re.search(r"split-002 .* no +3 ", listed)
    one = scene.run("jobs", "show", f"{scene.plan_id}/split-001").out
    assert "found made        yes" in one


def test_a_call_that_was_refused_for_its_version_is_a_job(scene: Scene) -> None:
    scene.approve()
    scene.fail_with([None, Fault.FOREIGN_SPLIT])
    assert scene.apply().status == 5
    jobs = scene.run("jobs", "list", "--json").json["jobs"]
    assert [(job["action_id"], job["status"]) for job in jobs] == [
        ("split-002", "stale"),
        ("split-001", "applied"),
    ]


def test_an_unapproved_plan_is_refused_with_the_command_to_run(scene: Scene) -> None:
    outcome = scene.apply("--json")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.error["code"] == "plan_not_approved"
    assert f"workbench approve {scene.plan_id}" in outcome.error["hint"]
    assert scene.cluster.splits == []


def test_a_changed_plan_is_refused(scene: Scene, tmp_path: Path) -> None:
    scene.approve()
    assert scene.run("plan", "--until", "50%", "--max-splits", "3", "--out", "p.json").status == 0
    document = json.loads((tmp_path / "p.json").read_text())
    document["actions"][0]["split_key"] += "00"
    (tmp_path / "p.json").write_text(json.dumps(document))
    outcome = scene.run("apply", "p.json", *TO, "--json")
    assert (outcome.status, outcome.error["code"]) == (1, "plan_hash_mismatch")
    assert scene.cluster.splits == []


def test_a_trace_is_nothing_to_apply_to(scene: Scene) -> None:
    scene.approve()
    outcome = scene.run("apply", scene.plan_id, "--json")
    assert (outcome.status, outcome.error["code"]) == (2, "target_missing")
    assert "--to" in outcome.error["hint"]


def test_dry_run_prints_the_literal_calls_and_changes_nothing(scene: Scene) -> None:
    before = scene.run("catalog", "ls", "--json").json["seq"]
    out = scene.apply("--dry-run").out
    assert "(not approved)" in out
    for line in (
        "split-001: /Distribution/SplitRange at fake:1",
        "expected_catalog_version: 1",
        "metadata x-workbench-request-id: ",
        "(predicted)",
        f"next: workbench approve {scene.plan_id}",
    ):
        assert line in out
    assert scene.run("catalog", "ls", "--json").json["seq"] == before
    scene.approve()
    answer = scene.apply("--dry-run", "--json").json
    assert answer["dry_run"] is True
    told = [action["call"]["fields"] for action in answer["actions"]]
    assert scene.cluster.splits == []
    scene.apply()
    assert told == [call.fields for call in scene.connector.calls]


def test_a_stale_version_is_status_5_with_the_answer_on_stdout(scene: Scene) -> None:
    scene.approve()
    scene.fail_with([None, Fault.FOREIGN_SPLIT])
    outcome = scene.apply("--json")
    assert (outcome.status, statuses(outcome)) == (5, ["applied", "stale", "stale"])
    assert outcome.error["code"] == "plan_stale_version"
    assert "plan again" in outcome.error["hint"]
    assert "1 of 3 actions are applied" in outcome.error["message"]
    shown = scene.apply()
    assert shown.status == 5
    assert "stale" in shown.out
    assert "plan again" in shown.err


def test_a_refused_call_is_status_4_and_a_failed_job(scene: Scene) -> None:
    scene.approve()
    scene.fail_with([None, Fault.REFUSED])
    outcome = scene.apply("--json")
    assert (outcome.status, statuses(outcome)) == (4, ["applied", "failed", "skipped"])
    assert (outcome.error["kind"], outcome.error["code"]) == ("invalid_input", "key_reserved")
    [failed] = scene.run("jobs", "show", f"{scene.plan_id[:6]}/split-002", "--json").json["jobs"]
    assert (failed["phase"], failed["catalog_version"], failed["children"]) == ("FAILED", None, [])
    assert "is reserved" in failed["last_error"]
    assert "\x1b" not in scene.run("jobs", "list").out
    assert statuses(scene.apply("--json")) == ["already_applied", "applied", "applied"]


@pytest.mark.parametrize(("done", "status"), [(0, 1), (1, 4)])
@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.UNKNOWN_AFTER])
def test_without_an_answer_the_status_tells_whether_something_was_applied(
    scene: Scene, fault: Fault, done: int, status: int
) -> None:
    scene.approve()
    scene.fail_with([None] * done + [fault])
    outcome = scene.apply()
    assert outcome.status == status
    assert "apply` again" in outcome.err
    assert scene.apply().status == 0
    assert len(scene.cluster.splits) == 3


def test_a_lease_that_is_held_is_status_5_and_names_the_holder(scene: Scene) -> None:
    scene.approve()
    lease = acquire(
        open_catalog(CATALOG),
        "hot",
        by="user:bert",
        plan_id="f" * 16,
        machine=this_machine(),
        cluster_id=scene.cluster.cluster_id,
    )
    outcome = scene.apply("--json")
    assert (outcome.status, outcome.out) == (5, "")
    assert outcome.error["code"] == "lease_held"
    for part in ("user:bert", socket.gethostname(), str(os.getpid()), "f" * 16):
        assert part in outcome.error["message"]
    assert lease.release() is None
    assert scene.apply().status == 0


def test_another_cluster_is_status_5(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.approve()
    monkeypatch.setattr(applying, "_properties", lambda *_: {"cluster_id": "another"})
    outcome = scene.apply("--json")
    assert (outcome.status, outcome.error["code"]) == (5, "cluster_mismatch")


def test_an_interrupt_is_130_releases_the_lease_and_can_be_resumed(scene: Scene) -> None:
    scene.approve()

    def interrupt(_moment: str) -> None:
        scene.connector.on_call = lambda _moment: None
        raise KeyboardInterrupt

    scene.connector.on_call = interrupt
    outcome = scene.apply("--json")
    assert (outcome.status, outcome.out, outcome.err.strip()) == (130, "", "workbench: interrupted")
    assert scene.apply().status == 0
    assert len(scene.cluster.splits) == 3


def test_a_trace_is_replayed_as_it_is_whatever_was_applied(scene: Scene) -> None:
    answer = scene.run("verify", scene.plan_id, "--json").json
    assert (answer["execution"], answer["applied_at"]) == ("replayed", None)
    scene.approve()
    scene.apply()
    outcome = scene.run("verify", scene.plan_id, "--json")
    [last, *_] = scene.run("jobs", "list", "--json").json["jobs"]
    assert outcome.json["actual"] == answer["actual"]
    assert outcome.json["applied_at"] == last["updated_at"]
    assert (outcome.json["execution"], outcome.json["applied_actions"]) == ("replayed", 3)
    assert (outcome.json["max_share_now"], outcome.json["warnings"]) == (None, [])
    out = scene.run("verify", scene.plan_id).out
    assert "replayed, on the load that came next" in out
    assert f"applied: {last['updated_at']}, 3 of 3 actions" in out


def test_approving_a_plan_that_was_executed_says_so(scene: Scene) -> None:
    scene.approve()
    assert scene.apply().status == 0
    collected = RouteSnapshot(
        4, tuple(scene.cluster.routes.values()), datetime(2026, 1, 2, tzinfo=UTC)
    )
    catalog = open_catalog(CATALOG)
    catalog.commit([Write("hot/route", routes_to_table(collected), mode="append")])
    outcome = scene.run("approve", scene.plan_id, "--json")
    assert (outcome.status, outcome.error["code"]) == (5, "plan_executed")
    assert "3 of 3 actions are applied" in outcome.error["message"]
