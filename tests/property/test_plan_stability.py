"""Claims about stability: the same bytes from the same load, and no storm of splits."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, EvidenceQuery, Limits, plan_to_json
from workbench.model.plan_parts import GroupWeight
from workbench.model.routes import RouteDescriptor, RouteSnapshot, seed_routes
from workbench.planner.atoms import atoms_from_table
from workbench.planner.detect import RouteWindow, Rule, Verdict, detect
from workbench.planner.plan import PlanInput, make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.plan import Plan

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SCHEMA = pa.schema([("atom_start", pa.binary()), ("load", pa.int64())])
Rows = list[tuple[bytes, int]]


def plan_of(  # noqa: PLR0913 - the parts of a question
    rows: Sequence[tuple[bytes, int]],
    routes: tuple[RouteDescriptor, ...] | None = None,
    *,
    policy: str = "robust",
    limits: Limits | None = None,
    hot: frozenset[int] = frozenset(),
    version: int = 7,
) -> Plan:
    """A plan from rows in the order given."""
    table = pa.Table.from_pylist([{"atom_start": k, "load": n} for k, n in rows], schema=SCHEMA)
    return make_plan(
        PlanInput(
            cluster="c",
            snapshot=RouteSnapshot(version, routes or seed_routes([b"k05"]), T0),
            atoms=atoms_from_table(table, "key"),
            objective=OBJECTIVES["score"],
            since=T0,
            until=T0 + 60 * MINUTE,
            limits=limits or Limits(4, 0.1, groups=(GroupWeight(1), GroupWeight(2, 2))),
            hot_routes=hot,
            evidence=EvidenceQuery("atoms", "c/access", {}, "SELECT"),
            policy=policy,
            threshold_per_minute=1.0,
        )
    )


def text_of(plan: Plan) -> str:
    return json.dumps(plan_to_json(plan))


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.integers(0, 30), st.integers(0, 90), min_size=2, max_size=20).filter(
        lambda loads: sum(loads.values()) > 0
    ),
    st.randoms(use_true_random=False),
    st.sampled_from(["robust", "exact"]),
)
def test_the_same_load_in_any_order_gives_the_same_bytes(
    loads: dict[int, int], random: object, policy: str
) -> None:
    rows = [(b"k%02d" % key, load) for key, load in loads.items()]
    first = text_of(plan_of(rows, policy=policy))
    random.shuffle(rows)  # type: ignore[attr-defined]
    assert text_of(plan_of(rows, policy=policy)) == first


PROGRAM = """
from tests.property.test_plan_stability import plan_of, text_of
print(text_of(plan_of([(b"k%02d" % n, n * 7919 % 31) for n in range(30)])))
"""


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_another_process_with_another_hash_seed_gives_the_same_bytes(seed: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert told.strip() == text_of(plan_of([(b"k%02d" % n, n * 7919 % 31) for n in range(30)]))


def after(plan: Plan, routes: Sequence[RouteDescriptor], version: int) -> RouteSnapshot:
    """The routes once the plan's splits are made."""
    next_id = max(route.route_id for route in routes) + 1
    kept = {route.span: route for route in routes}
    made = []
    for number, route in enumerate(plan.routes_after):
        known = kept.get(route.span)
        made.append(known or RouteDescriptor(next_id + number, route.span, route.group))
    return RouteSnapshot(version + len(plan.actions), tuple(made), T0)


def test_oscillating_load_gives_no_storm_of_splits() -> None:
    # Half of the load changes sides with every plan. Each plan may split; soon none does.
    snapshot = RouteSnapshot(1, seed_routes([]), T0)
    limits = Limits(4, 0.1)
    made: list[int] = []
    for turn in range(24):
        hot = range(10, 14) if turn % 2 else range(40, 44)
        rows = [(b"k%02d" % n, 200 if n in hot else 10) for n in range(60)]
        plan = plan_of(rows, snapshot.routes, limits=limits, version=snapshot.catalog_version)
        made.append(len(plan.actions))
        snapshot = after(plan, snapshot.routes, snapshot.catalog_version)
    assert sum(made[8:]) == 0
    assert sum(made) <= 16
    assert len(snapshot.routes) == 1 + sum(made)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(20, 30), min_size=60, max_size=60), st.integers(1, 6))
def test_a_plan_on_the_same_load_again_splits_again_only_for_another_gain(
    loads: list[int], splits: int
) -> None:
    rows = [(b"k%02d" % n, load) for n, load in enumerate(loads)]
    limits = Limits(splits, 0.1)
    snapshot = RouteSnapshot(1, seed_routes([]), T0)
    marks = []
    for _ in range(4):
        plan = plan_of(rows, snapshot.routes, limits=limits)
        marks.append((plan.bottleneck.before, plan.bottleneck.after, len(plan.actions)))
        snapshot = after(plan, snapshot.routes, snapshot.catalog_version)
    for before, left, actions in marks:
        assert actions == 0 or before - left >= 0.1 * before


def hot_routes(windows: Sequence[int], *, split_at_hlc: int = 0) -> frozenset[int]:
    """What detection calls hot at the end of these windows of load, for one route."""
    route = RouteDescriptor(1, Span(b"", None), 1, split_at_hlc=split_at_hlc)
    measured = [
        RouteWindow(1, T0 + n * MINUTE, T0 + (n + 1) * MINUTE, load)
        for n, load in enumerate(windows)
    ]
    verdicts = detect([route], measured, Rule())
    return frozenset(v.route.route_id for v in verdicts if v.verdict is Verdict.HOT)


@pytest.mark.parametrize(
    ("windows", "splits"),
    [([1, 1, 90_000], 0), ([1, 90_000, 90_000], 0), ([90_000, 1, 90_000, 90_000], 0)],
)
def test_load_that_is_hot_for_two_windows_is_not_split(windows: list[int], splits: int) -> None:
    rows = [(b"k%02d" % n, 10) for n in range(20)]
    only_hot = Limits(4, 0.1, only_hot=True)
    routes = (RouteDescriptor(1, Span(b"", None), 1),)
    assert len(plan_of(rows, routes, limits=only_hot, hot=hot_routes(windows)).actions) == splits


def test_load_that_is_hot_for_three_windows_is_split_unless_it_was_just_split() -> None:
    rows = [(b"k%02d" % n, 10) for n in range(20)]
    only_hot = Limits(4, 0.1, only_hot=True)
    routes = (RouteDescriptor(1, Span(b"", None), 1),)
    windows = [90_000] * 3
    assert plan_of(rows, routes, limits=only_hot, hot=hot_routes(windows)).actions
    just_now = int(T0.timestamp() * 1_000) << 16
    cooling = hot_routes(windows, split_at_hlc=just_now)
    cooled = tuple(replace(route, split_at_hlc=just_now) for route in routes)
    assert plan_of(rows, cooled, limits=only_hot, hot=cooling).actions == ()
