"""`workbench apply` as a process against a real node: killed, overtaken, left alone by the node.

Kills hit at exact moments of a call, because apply talks to the node through a proxy that
kills. Kills between any two writes to the catalog are tested in memory, in
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
from tests.process.node_process import Hand, Refusal, client_of, cluster, until
from tests.process.split_proxy import Moment, SplitProxy
from workbench.errors import Conflict
from workbench.node.client import NodeClient
from workbench.session.applying import ActionStatus, apply_plan
from workbench.session.wiring import open_catalog
from workbench.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.node_process import NodeProcess
    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Plan
    from workbench.model.routes import RouteDescriptor

SPLITS = 3


class Scene:
    """A running node, and for each plan a catalog in which it is approved."""

    def __init__(self, node: NodeProcess, client: NodeClient, folder: Path) -> None:
        self.node = node
        self.client = client
        self.folder = folder
        self.rounds = 0

    def plan(self, splits: int = SPLITS) -> Applied:
        """Return an approved plan for the routes as they are now."""
        self.rounds += 1
        routes = self.client.list_routes()
        here = FakeCluster(
            {route.span: route for route in routes.routes},
            version=routes.catalog_version,
            cluster_id=routes.cluster_id,
        )
        # All keys of a round lie in one route of its own, so that there is something to split.
        keys = [b"%03d/%02d" % (self.rounds, n) for n in range(40)]
        plan = plan_for(here, keys, splits=splits)
        assert len(plan.actions) == splits
        url = str(self.folder / f"catalog-{self.rounds}")
        properties = {"source": f"node://{self.node.address}"}
        if routes.cluster_id is not None:
            properties["cluster_id"] = routes.cluster_id
        catalog_with(open_store(url, create=True), plan, **properties)
        return Applied(self, plan, url, here)


class Applied:
    """One plan that is being applied by processes."""

    def __init__(self, scene: Scene, plan: Plan, url: str, model: FakeCluster) -> None:
        self.scene = scene
        self.plan = plan
        self.url = url
        self.model = model
        self.catalog: Catalog = open_catalog(url)
        self.running: list[subprocess.Popen[str]] = []

    def start(self, to: str | None = None) -> subprocess.Popen[str]:
        command = ["apply", self.plan.plan_id, "--catalog", self.url, "--by", "anna", "--json"]
        command += [] if to is None else ["--to", f"node://{to}"]
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

    def check_undisturbed(self) -> None:
        """As `check_finished`, and every route and the version as if nobody had been killed."""
        self.check_finished()
        for action in self.plan.actions:
            parent = self.model.routes[action.span]
            self.model.split(parent.route_id, action.split_key, self.model.version)
        found, expected = self.scene.client.list_routes(), self.model.snapshot()
        assert found.catalog_version == expected.catalog_version
        assert [row(route) for route in found.routes] == [row(route) for route in expected.routes]

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.communicate(timeout=60)


def row(route: RouteDescriptor) -> tuple[object, ...]:
    """All of a route but the time of its split."""
    return (route.route_id, route.span, route.group, route.state, route.parent_route_id)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("apply")
    with cluster(folder, [[1, 2]]) as [node], client_of(node) as client:
        yield Scene(node, client, folder)


@pytest.fixture(scope="module")
def proxy(scene: Scene) -> Iterator[SplitProxy]:
    with SplitProxy(scene.node.address) as running:
        yield running


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


def test_an_undisturbed_run_leaves_the_routes_of_the_model(
    applied: Applied, proxy: SplitProxy
) -> None:
    proxy.disarm()
    status, actions, _ = applied.finish(applied.start(proxy.address))
    assert (status, actions) == (0, ["applied"] * SPLITS)
    applied.check_undisturbed()


@pytest.mark.parametrize("call", range(1, SPLITS + 1))
@pytest.mark.parametrize("moment", Moment)
def test_killed_at_any_moment_of_any_call_it_ends_like_an_undisturbed_run(
    applied: Applied, proxy: SplitProxy, moment: Moment, call: int
) -> None:
    process = proxy.kill_at(call, moment, lambda: applied.start(proxy.address))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signal.SIGKILL, "", "")
    made = call - 1 if moment is Moment.BEFORE else call
    kept = {
        Moment.BEFORE: {call - 1},
        Moment.COMMITTED: {call - 1},
        Moment.ANSWERED: {call - 1, call},
        Moment.NEXT: {call},
    }
    assert applied.calls() == made
    assert applied.receipts() in kept[moment]
    proxy.disarm()
    to = f"node://{proxy.address}"
    answer = apply_plan(applied.catalog, applied.plan, to, by="anna")
    before, now = [ActionStatus.ALREADY_APPLIED] * made, [ActionStatus.APPLIED] * (SPLITS - made)
    assert [outcome.status for outcome in answer.outcomes] == before + now
    applied.check_undisturbed()


def test_the_proxy_passes_refusals_metadata_and_streams_on(scene: Scene, proxy: SplitProxy) -> None:
    proxy.disarm()
    with NodeClient([proxy.address]) as through:
        assert through.list_routes().cluster_id == scene.client.list_routes().cluster_id
        with pytest.raises(Conflict) as caught:
            through.split_range(expected_version=9999, route_id=1, split_key=b"a", request_id="")
        assert caught.value.code == "catalog_version_mismatch"
        until(lambda: bool(through.windows().closed), "a window through the proxy")
        assert through.windows().oldest_us is not None
    hand = Hand(proxy.address)
    with pytest.raises(Refusal, match="UNIMPLEMENTED"):
        hand.call("/no/Method")
    hand.close()


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
    assert (status, actions) == (5, ["stale"] * SPLITS)
    assert error["code"] == "plan_stale_version"
    assert applied.calls() == 1
