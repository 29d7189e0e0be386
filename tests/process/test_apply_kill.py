"""`workbench apply` as a process against a real node: killed, overtaken, left alone by the node.

Kills here hit wherever the machine happens to be; that every step is hit is tested in memory, in
tests/unit/test_applying.py.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import FakeCluster, catalog_with, plan_for
from tests.process.node_process import client_of, cluster, until
from workbench.session.wiring import open_catalog
from workbench.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.process.node_process import NodeProcess
    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Plan
    from workbench.node.client import NodeClient


class Scene:
    """A running node, and for each plan a catalog in which it is approved."""

    def __init__(self, node: NodeProcess, client: NodeClient, folder: Path) -> None:
        self.node = node
        self.client = client
        self.folder = folder
        self.rounds = 0

    def plan(self, splits: int = 4) -> Applied:
        """Return an approved plan for the routes as they are now."""
        self.rounds += 1
        routes = self.client.list_routes()
        here = FakeCluster(
            {route.span: route for route in routes.routes},
            version=routes.catalog_version,
            cluster_id=routes.cluster_id,
        )
        # All keys of a round lie in one route of its own, so that there is something to split.
        keys = [b"%d/%02d" % (self.rounds, n) for n in range(40)]
        plan = plan_for(here, keys, splits=splits)
        assert len(plan.actions) == splits
        url = str(self.folder / f"catalog-{self.rounds}")
        properties = {"source": f"node://{self.node.address}"}
        if routes.cluster_id is not None:
            properties["cluster_id"] = routes.cluster_id
        catalog_with(open_store(url, create=True), plan, **properties)
        return Applied(self, plan, url)


class Applied:
    """One plan that is being applied by processes."""

    def __init__(self, scene: Scene, plan: Plan, url: str) -> None:
        self.scene = scene
        self.plan = plan
        self.url = url
        self.catalog: Catalog = open_catalog(url)
        self.running: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        command = ["apply", self.plan.plan_id, "--catalog", self.url, "--by", "anna", "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "workbench", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, list[str], dict[str, Any]]:
        """Wait for the end; return status, statuses of the actions, and the error."""
        out, err = process.communicate(timeout=60)
        actions = [action["status"] for action in json.loads(out)["actions"]] if out else []
        return process.returncode, actions, json.loads(err)["error"] if err else {}

    def kill_when(self, condition: Callable[[], bool], what: str) -> None:
        """Start a process and kill -9 it once the condition holds."""
        process = self.start()
        until(lambda: condition() or process.poll() is not None, what)
        process.kill()
        process.communicate(timeout=60)

    def calls(self) -> int:
        """How many splits the node has made."""
        version = self.scene.client.list_routes().catalog_version
        return version - self.plan.catalog_version

    def receipts(self) -> int:
        """How many receipts there are."""
        self.catalog.refresh()
        name = f"receipt/{self.plan.plan_id}"
        return sum(each.row_count or 0 for each in self.catalog.list(name) if each.name == name)

    def check_finished(self) -> None:
        """Every split made once, one receipt each, and the routes that the plan leaves."""
        routes = self.scene.client.list_routes()
        assert [r.span for r in routes.routes] == [r.span for r in self.plan.routes_after]
        assert self.calls() == len(self.plan.actions)
        self.catalog.refresh()
        receipts = self.catalog.read(f"receipt/{self.plan.plan_id}").to_pylist()
        assert [each["action_id"] for each in receipts] == [a.action_id for a in self.plan.actions]
        assert {each["status"] for each in receipts} == {"applied"}

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.communicate(timeout=60)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("apply")
    with cluster(folder, [[1, 2]]) as [node], client_of(node) as client:
        yield Scene(node, client, folder)


@pytest.fixture
def applied(scene: Scene) -> Iterator[Applied]:
    made = scene.plan()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def long(scene: Scene) -> Iterator[Applied]:
    """A plan that takes long enough to be stopped in its middle."""
    made = scene.plan(splits=12)
    try:
        yield made
    finally:
        made.close()


def test_killed_after_each_call_it_ends_with_the_routes_of_an_undisturbed_run(
    applied: Applied,
) -> None:
    for number in range(1, 5):
        applied.kill_when(lambda n=number: applied.calls() >= n, f"call {number}")  # type: ignore[misc]
    status, actions, _ = applied.finish(applied.start())
    assert status == 0
    assert set(actions) <= {"applied", "already_applied"}
    applied.check_finished()


def test_killed_after_each_receipt_it_ends_with_the_routes_of_an_undisturbed_run(
    applied: Applied,
) -> None:
    for number in range(1, 5):
        applied.kill_when(lambda n=number: applied.receipts() >= n, f"receipt {number}")  # type: ignore[misc]
    status, actions, _ = applied.finish(applied.start())
    assert (status, actions) == (0, ["already_applied"] * 4)
    applied.check_finished()


def test_of_two_at_once_one_works_and_the_other_says_who_holds_the_lease(
    long: Applied,
) -> None:
    first = long.start()
    until(lambda: long.receipts() >= 1, "the first receipt")
    first.send_signal(signal.SIGSTOP)
    status, actions, error = long.finish(long.start())
    assert (status, actions, error["code"]) == (5, [], "lease_held")
    assert f"process {first.pid}" in error["message"]
    assert "user:anna" in error["message"]
    first.send_signal(signal.SIGCONT)
    status, actions, _ = long.finish(first)
    assert (status, actions) == (0, ["applied"] * 12)
    long.check_finished()


def test_a_node_that_goes_away_ends_it_with_status_4_and_it_resumes_when_the_node_is_back(
    long: Applied,
) -> None:
    process = long.start()
    until(lambda: long.receipts() >= 1, "the first receipt")
    process.send_signal(signal.SIGSTOP)
    long.scene.node.kill()
    process.send_signal(signal.SIGCONT)
    status, actions, error = long.finish(process)
    assert status == 4
    assert actions[0] == "applied"
    assert actions[-1] == "skipped"
    assert error["kind"] in {"unavailable", "outcome_unknown"}
    assert "apply` again" in error["hint"]
    long.scene.node.start()
    status, actions, _ = long.finish(long.start())
    assert status == 0
    assert actions[0] == "already_applied"
    long.check_finished()


def test_another_change_of_the_routes_is_status_5(applied: Applied) -> None:
    route = applied.scene.client.list_routes().routes[0]
    applied.scene.client.split_range(
        expected_version=applied.plan.catalog_version,
        route_id=route.route_id,
        split_key=route.span.start + b"\x00\x01",
        request_id="",
    )
    status, actions, error = applied.finish(applied.start())
    assert (status, actions) == (5, ["stale"] * 4)
    assert error["code"] == "plan_stale_version"
    assert applied.calls() == 1
