"""Claims about the plan document."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from workbench.errors import Corruption, InvalidInput, NotFound
from workbench.model.keys import Span
from workbench.model.plan import (
    OBJECTIVES,
    EvidenceQuery,
    Limits,
    Plan,
    plan_from_json,
    plan_to_json,
)
from workbench.model.routes import RouteDescriptor, RouteSnapshot, RouteState, seed_routes
from workbench.planner.plan import Atoms, PlanInput, atoms_from_table, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = datetime(2026, 1, 1, 1, tzinfo=UTC)
KEYS = [b"k%02d" % number for number in range(12)]
LOADS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]


def make(
    loads: list[int] | None = None,
    *,
    routes: tuple[RouteDescriptor, ...] | None = None,
    limits: Limits | None = None,
    kind: str = "key",
    hot: frozenset[int] = frozenset(),
) -> Plan:
    given = LOADS if loads is None else loads
    return make_plan(
        PlanInput(
            cluster="c",
            snapshot=RouteSnapshot(7, routes or seed_routes([KEYS[4]]), T0),
            atoms=Atoms(KEYS[: len(given)], given, kind),
            objective=OBJECTIVES["score"],
            since=T0,
            until=T1,
            limits=limits or Limits(3, 0.0),
            hot_routes=hot,
            evidence=EvidenceQuery("atoms", "c/access", {"since": "x"}, "SELECT 1"),
        )
    )


def test_versions_and_route_ids_chain_from_the_snapshot() -> None:
    plan = make()
    assert [action.expected_version for action in plan.actions] == [7, 8, 9]
    made = {1: Span(b"", KEYS[4]), 2: Span(KEYS[4], None)}
    for number, action in enumerate(plan.actions):
        assert made.pop(action.route_id) == action.span
        made[3 + 2 * number] = Span(action.span.start, action.split_key)
        made[4 + 2 * number] = Span(action.split_key, action.span.end)
    assert {route.span for route in plan.routes_after} == set(made.values())


def test_the_first_action_splits_the_hottest_route_and_the_bottleneck_never_rises() -> None:
    plan = make()
    assert plan.actions[0].span == Span(KEYS[4], None)
    steps = [plan.bottleneck.before, *(a.evidence.bottleneck_after for a in plan.actions)]
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] == plan.bottleneck.after < plan.bottleneck.before


def test_existing_boundaries_stay() -> None:
    starts = {route.span.start for route in make().routes_after}
    assert KEYS[4] in starts


def test_routes_after_carry_all_of_the_load() -> None:
    plan = make()
    assert sum(route.load for route in plan.routes_after) == plan.total_load == sum(LOADS)


def test_too_small_a_gain_proposes_nothing_and_says_so() -> None:
    plan = make(limits=Limits(3, 0.99))
    assert plan.actions == ()
    assert plan.bottleneck.after == plan.bottleneck.before
    assert "less than the 99% asked for" in plan.declined[-1].reason


def test_no_splits_allowed_proposes_nothing_and_says_so() -> None:
    plan = make(limits=Limits(0, 0.1))
    assert plan.actions == ()
    assert all("no splits are allowed" in each.reason for each in plan.declined)


def test_a_route_that_others_outweigh_is_told_what_the_splits_were_needed_for() -> None:
    plan = make(limits=Limits(1, 0.0))
    [declined] = plan.declined
    assert declined.route_id == 1
    assert "which 1 split can bring to" in declined.reason


def test_one_hot_key_is_named_as_what_cannot_be_split() -> None:
    plan = make([1, 90, 1], routes=seed_routes([KEYS[1], KEYS[2]]))
    declined = {each.route_id: each.reason for each in plan.declined}
    assert plan.actions == ()
    assert "one key alone carries 97.8% and cannot be split" in declined[2]


def test_keys_heavier_than_an_even_share_are_named_unsplittable() -> None:
    plan = make([1, 90, 1, 40, 1], limits=Limits(3, 0.0))
    assert [(atom.key, atom.load) for atom in plan.unsplittable] == [(KEYS[1], 90), (KEYS[3], 40)]
    assert make([5] * 12, limits=Limits(2, 0.0)).unsplittable == ()


def test_a_route_that_is_not_active_is_left_alone() -> None:
    routes = (
        RouteDescriptor(1, Span(b"", KEYS[4]), 1),
        RouteDescriptor(2, Span(KEYS[4], None), 1, RouteState.MIGRATING_SOURCE),
    )
    plan = make(routes=routes)
    assert all(action.span.start < KEYS[4] for action in plan.actions)
    assert "only ACTIVE routes are split" in plan.declined[-1].reason


def test_only_hot_routes_are_split_where_only_they_were_asked_for() -> None:
    plan = make(limits=Limits(3, 0.0, only_hot=True), hot=frozenset({2}))
    assert plan.actions
    assert all(action.span.start >= KEYS[4] for action in plan.actions)
    assert "not hot" in plan.declined[0].reason


def test_the_same_input_in_any_order_gives_the_same_document() -> None:
    rows = [{"atom_start": k, "load": n} for k, n in zip(KEYS, LOADS, strict=True)]
    documents = set()
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        schema = pa.schema([("atom_start", pa.binary()), ("load", pa.int64())])
        atoms = atoms_from_table(pa.Table.from_pylist(rows, schema=schema), "key")
        assert list(atoms.keys) == KEYS
        documents.add(json.dumps(plan_to_json(make(list(atoms.loads)))))
    assert len(documents) == 1


def test_a_plan_survives_json_byte_for_byte() -> None:
    plan = make()
    text = json.dumps(plan_to_json(plan))
    again = plan_from_json(json.loads(text), "a test")
    assert again == plan
    assert json.dumps(plan_to_json(again)) == text
    assert plan.plan_id == plan.content_hash[:16]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["actions"][0].update(split_key="00"),
        lambda d: d.update(total_load=1),
        lambda d: d["actions"].pop(),
        lambda d: d.update(plan_id="0" * 16),
        lambda d: d.update(content_hash="0" * 64),
        lambda d: d.update(note="a field that was not there"),
    ],
)
def test_a_changed_document_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(json.dumps(plan_to_json(make())))
    change(document)
    with pytest.raises(Corruption, match=r"content gives") as caught:
        plan_from_json(document, "plan.json")
    assert caught.value.code == "plan_hash_mismatch"


@pytest.mark.parametrize("document", [[], {}, {"schema": "workbench.plan/3"}, "text", None])
def test_what_is_no_plan_is_refused(document: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan_from_json(document, "plan.json")  # type: ignore[arg-type]
    assert caught.value.code == "plan_schema_unknown"


def test_no_load_is_an_error_that_names_the_window() -> None:
    with pytest.raises(NotFound, match="2026-01-01") as caught:
        make([0, 0, 0])
    assert caught.value.code == "load_absent"


def test_load_that_was_not_measured_is_refused() -> None:
    table = pa.table({"atom_start": [b"a", b"b"], "load": pa.array([1, None], pa.int64())})
    with pytest.raises(InvalidInput) as caught:
        atoms_from_table(table, "bucket")
    assert caught.value.code == "load_not_measured"


def test_buckets_leave_an_interval_and_keys_do_not() -> None:
    exact, coarse = make().bottleneck, make(kind="bucket").bottleneck
    assert exact.resolution_low == exact.resolution_high == exact.after
    assert coarse.resolution_low < coarse.resolution_high == coarse.after


def test_load_outside_all_routes_is_not_planned() -> None:
    routes = (RouteDescriptor(5, Span(KEYS[2], KEYS[6]), 1),)
    plan = make(routes=routes)
    assert plan.total_load == sum(LOADS[2:6])
    assert plan.atoms == 4
