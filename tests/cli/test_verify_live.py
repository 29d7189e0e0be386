"""`workbench verify` and `report` on a live cluster in memory, by how much of a plan is applied."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from fakes import FakeCluster, FakeConnector

from workbench.model.routes import seed_routes
from workbench.ports.connector import Capabilities, LoadAnswer
from workbench.session import applying, collect_live
from workbench.session.system import SystemClock
from workbench.traces.generate import generate
from workbench.traces.windows import load_windows

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

URL = "fake://local"
WINDOW_MS = 600_000
# From here on, so that what came after is after every receipt of the test.
PAST, FUTURE = timedelta(days=-1), timedelta(days=1)


class LiveConnector(FakeConnector):
    """A cluster in memory that also tells of load: the same accesses, yesterday and tomorrow."""

    def __init__(self, accesses: pa.Table) -> None:
        super().__init__(
            FakeCluster(routes={route.span: route for route in seed_routes([])}),
            can=Capabilities(
                ordered=True, load=True, split=True, compare_and_set=True, idempotent=True
            ),
        )
        self.accesses = accesses
        self.windows = self._windows("local", PAST)

    def tomorrow(self) -> None:
        """Serve the accesses again, on the routes as they are now."""
        self.windows = self._windows("local", FUTURE)

    def load(self, cluster: str, since: datetime | None) -> LoadAnswer:
        del cluster, since
        oldest = self.windows.column("window_start")[0].as_py()
        return LoadAnswer(self.windows, WINDOW_MS, oldest, {})

    def _windows(self, cluster: str, shift: timedelta) -> pa.Table:
        times = self.accesses.column("time")
        start = SystemClock().now().replace(second=0, microsecond=0) + shift
        moved = [time - times[0].as_py() + start for time in times.to_pylist()]
        at = self.accesses.schema.get_field_index("time")
        field = self.accesses.schema.field(at)
        return load_windows(
            self.accesses.set_column(at, field, pa.array(moved, field.type)),
            self.cluster.snapshot().routes,
            cluster=cluster,
            window_ms=WINDOW_MS,
            # A bucket per key, so that none crosses a split key that was not applied.
            buckets_per_route=self.accesses.num_rows,
        )


class Live:
    """A collected cluster in memory and a plan for it."""

    def __init__(self, workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = workbench
        self.connector = LiveConnector(generate("hot-range", accesses=600, seed=3))
        for module in (applying, collect_live):
            monkeypatch.setattr(module, "open_routes", lambda *_, **__: self.connector)
        monkeypatch.setattr("workbench.session.wiring.has_connector", lambda _url: True)
        self.collect()
        self.plan = workbench("plan", "--max-splits", "3", "--since", "0%", "--json").json
        self.plan_id = self.plan["plan_id"]
        assert len(self.plan["actions"]) == 3

    def collect(self) -> None:
        outcome = self.run("collect", URL, "--cluster", "local")
        assert outcome.status == 0, outcome.err

    def apply(self, *actions: str) -> None:
        assert self.run("approve", self.plan_id, *actions, "--by", "anna").status == 0
        assert self.run("apply", self.plan_id).status == 0

    def later(self) -> None:
        self.connector.tomorrow()
        self.collect()


@pytest.fixture
def live(workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Live:
    return Live(workbench, monkeypatch)


def test_of_a_partly_applied_plan_the_replay_is_what_would_have_come(
    live: Live, tmp_path: Path
) -> None:
    live.apply("split-001")
    live.later()
    outcome = live.run("verify", live.plan_id, "--json")
    answer = outcome.json
    assert (answer["execution"], answer["applied_actions"]) == ("partly", 1)
    assert answer["max_share_now"] > 1.3 * answer["max_share_after"]
    [warning] = answer["warnings"]
    assert f"1 of 3 actions of plan {live.plan_id} are applied" in warning
    assert f"warning: {warning}" in outcome.err
    out = live.run("verify", live.plan_id).out
    now, would = (f"{answer[name]:.1%}" for name in ("max_share_now", "max_share_after"))
    assert re.search(rf"would have come, had all of the plan been applied +\S+ +{would}\n", out)
    assert re.search(rf"came, on the routes as they are +{now}\n", out)
    assert re.search(r"would have .*, had all of the plan been applied; ", out)
    assert "the forecast held" not in out
    assert "1 of 3 actions" in out
    assert live.run("report", live.plan_id).status == 0
    page = (tmp_path / "report.html").read_text()
    for name, value in (("came", now), ("would", would)):
        assert f'data-testid="figure-{name}">{value}<' in page
    assert 'data-outcome="would"' in page
    assert "1 of 3 actions of plan" in page
    assert "on the routes that it left" not in page


def test_of_a_plan_that_was_never_applied_nothing_held(live: Live) -> None:
    live.later()
    answer = live.run("verify", live.plan_id, "--json").json
    assert (answer["execution"], answer["applied_actions"]) == ("not_applied", 0)
    assert answer["max_share_now"] == answer["max_share_before"] == 1.0
    out = live.run("verify", live.plan_id)
    assert "the forecast held" not in out.out
    assert f"workbench approve {live.plan_id}" in out.err


def test_of_a_wholly_applied_plan_what_came_is_what_the_routes_carried(
    live: Live, tmp_path: Path
) -> None:
    live.apply()
    early = live.run("verify", live.plan_id, "--json")
    assert (early.status, early.error["code"]) == (1, "load_absent")
    assert f"collect again: workbench collect {URL}" in early.error["hint"]
    live.later()
    answer = live.run("verify", live.plan_id, "--json").json
    assert (answer["execution"], answer["applied_actions"]) == ("applied", 3)
    assert answer["max_share_now"] == answer["max_share_after"]
    assert answer["warnings"] == []
    out = live.run("verify", live.plan_id).out
    came = f"{answer['max_share_now']:.1%}"
    assert re.search(rf"^ ?came, on the routes that the plan left +{came}$", out, re.MULTILINE)
    assert "would have" not in out.replace("would have come, without the plan", "")
    assert live.run("report", live.plan_id).status == 0
    page = (tmp_path / "report.html").read_text()
    assert f'data-testid="figure-came">{came}<' in page
    assert "figure-would" not in page


def test_windows_without_load_since_the_plan_was_applied_are_nothing_to_compare(
    live: Live, tmp_path: Path
) -> None:
    live.apply()
    live.connector.tomorrow()
    windows = live.connector.windows
    for name in ("reads", "writes", "read_bytes", "write_bytes"):
        at = windows.schema.get_field_index(name)
        field = windows.schema.field(at)
        windows = windows.set_column(at, field, pa.array([0] * windows.num_rows, field.type))
    live.connector.windows = windows
    live.collect()
    outcome = live.run("verify", live.plan_id, "--json")
    assert (outcome.status, outcome.error["code"], outcome.out) == (1, "load_absent", "")
    assert f"load since plan {live.plan_id} was applied at" in outcome.error["message"]
    assert "nothing to compare" in outcome.error["message"]
    assert f"workbench collect {URL}" in outcome.error["hint"]
    assert "did not help" not in live.run("verify", live.plan_id).out
    assert live.run("report", live.plan_id).status == 0
    assert 'data-outcome="open"' in (tmp_path / "report.html").read_text()
