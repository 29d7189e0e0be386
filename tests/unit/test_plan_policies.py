"""Claims about planning against drift, hot keys, limits, and groups, in examples."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.planner_cases import Case
from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.keys import Span
from workbench.model.plan import ActionKind, Limits, Plan, plan_from_json, plan_to_json
from workbench.model.plan_parts import Boundaries, GroupWeight, PlacementProof
from workbench.model.routes import RouteState
from workbench.planner.assign import Assignment, front, is_small, lower_bound, try_all, walk
from workbench.planner.assign_solver import is_installed, solve
from workbench.planner.atoms import Atoms
from workbench.planner.patterns import SLICES, Slice, patterns
from workbench.planner.plan import make_plan
from workbench.planner.verifier import verify
from workbench.planner.words import (
    actions_text,
    declined_by_reason,
    further_sentence,
    headline,
    robust_sentence,
)
from workbench.report.markdown import plan_markdown
from workbench.report.plan_review import summarise
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from collections.abc import Sequence

OLD_PLAN = Path(__file__).resolve().parents[1] / "formats/test_plan_v1/plan.json"
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def keys_of(number: int) -> list[bytes]:
    return [b"k%03d" % n for n in range(number)]


def planned(case: Case) -> Plan:
    """The plan, which the verifier accepts."""
    plan = make_plan(case.given)
    document = json.loads(json.dumps(plan_to_json(plan)))
    assert verify(document, case.keys, case.loads, case.byte_rows) == []
    return plan


def case_of(loads: Sequence[int], splits: int = 4, **fields: Any) -> Case:
    case = Case(keys_of(len(loads)), list(loads), [], Limits(splits, 0.1))
    for name, value in fields.items():
        setattr(case, name, value)
    return case


def test_robust_cuts_give_more_room_to_keys_that_were_seen_often_than_exact_ones() -> None:
    # A burst on few keys beside many quiet ones: shrunk, the quiet ones count for more.
    loads = [4] * 30 + [1] * 100
    exact = planned(case_of(loads, 1, policy="exact"))
    robust = planned(case_of(loads, 1, policy="robust"))
    assert robust.robust is not None
    assert robust.actions[0].split_key >= exact.actions[0].split_key
    assert robust.robust.optimum == exact.bottleneck.after
    assert robust.robust.price == robust.bottleneck.after - exact.bottleneck.after > 0


def test_robust_spends_splits_on_a_route_that_is_near_a_key_that_none_makes_lighter() -> None:
    loads = [10] * 2 + [300] + [10] * 29
    exact, robust = (planned(case_of(loads, 6, policy=p)) for p in ("exact", "robust"))
    assert len(exact.actions) < len(robust.actions) == 4
    assert exact.bottleneck.after == robust.bottleneck.after == 300
    others = [max(r.load for r in p.routes_after if r.load != 300) for p in (exact, robust)]
    assert others[1] < others[0]
    assert "drift could make the hottest" in robust.actions[-1].reasons[-1]
    proof = robust.certificate["robust"]
    assert proof["further"]["splits"] == 4 - proof["fewest"]
    assert proof["further"]["shared_to"] >= robust_shared(robust)
    said = further_sentence(robust)
    assert said is not None
    before, after = (
        f"{load / proof_total(robust):.1%}"
        for load in (proof["shared_fewest"], robust_shared(robust))
    )
    assert "of the 4 splits 3 lower the hottest route; the other brings" in said
    assert f"brings the heaviest route that can be split further from {before} to {after}" in said
    assert said[1:] in plan_markdown(robust)
    assert further_sentence(exact) is None


# One key of 150 beside 620 that can be parted: f splits leave it near the key.
NEAR_A_KEY = [10] * 2 + [150] + [10] * 60


def test_further_splits_end_where_what_can_be_split_carries_half_of_the_hottest() -> None:
    ended = planned(case_of(NEAR_A_KEY, 30, policy="robust"))
    proof = ended.certificate["robust"]
    assert proof["further"]["end"] == (proof["bottleneck"] + 1) // 2
    assert proof["shared_all"] < robust_shared(ended) <= proof["further"]["end"]
    assert proof["fewest"] < len(ended.actions) < 15
    # However many more are allowed, the same splits are made.
    for allowed in (20, 60):
        more = planned(case_of(NEAR_A_KEY, allowed, policy="robust"))
        assert [a.split_key for a in more.actions] == [a.split_key for a in ended.actions]


def test_further_splits_that_come_to_no_end_are_all_spent() -> None:
    plan = planned(case_of(NEAR_A_KEY, 7, policy="robust"))
    proof = plan.certificate["robust"]
    assert proof["further"]["near"]
    assert proof["fewest"] < len(plan.actions) == 7
    assert "end" not in proof["further"]


def test_many_splits_allowed_become_no_more_than_thrice_the_routes() -> None:
    rng = random.Random(20_261_121)
    ends = 0
    for _ in range(60):
        loads = [rng.choice((1, 1, 2, 5, 30, 200)) for _ in range(rng.randint(20, 60))]
        plan = planned(case_of(loads, len(loads), policy="robust"))
        proof = plan.certificate["robust"]
        assert len(plan.routes_after) <= 3 * (proof["fewest"] + 1)
        ends += "end" in proof["further"]
    assert ends > 10


def proof_total(plan: Plan) -> int:
    assert plan.robust is not None
    return plan.robust.total


def robust_shared(plan: Plan) -> int:
    assert plan.robust is not None
    return plan.robust.shared


def test_robust_spends_no_split_where_all_but_the_heavy_key_is_below_the_mean() -> None:
    # As with --forbid over a hot range: two splits leave 300 of 700 on what nobody may cut.
    plan = planned(case_of([10] * 20 + [300] + [10] * 20, 8, policy="robust"))
    assert len(plan.actions) == 2
    assert plan.certificate["robust"]["further"]["near"] is False
    assert further_sentence(plan) is None


def test_a_plan_by_the_earlier_rule_is_still_verified_by_that_rule() -> None:
    case = case_of(NEAR_A_KEY, 7, policy="robust")
    document = json.loads(json.dumps(plan_to_json(planned(case))))
    del document["certificate"]["robust"]["further"]
    false = verify(document, case.keys, case.loads, None)
    assert [each for each in false if "robust" in each] == []


def test_what_further_splits_are_said_to_bring_is_verified() -> None:
    case = case_of([10] * 2 + [300] + [10] * 29, 6, policy="robust")
    for name, value in (
        ("splits", 2),
        ("shared_from", 7),
        ("shared_to", 7),
        ("near", False),
        ("end", 7),
    ):
        document = json.loads(json.dumps(plan_to_json(planned(case))))
        document["certificate"]["robust"]["further"][name] = value
        false = verify(document, case.keys, case.loads, None)
        assert any("robust.further" in each for each in false), name


def test_robust_spends_no_split_that_brings_too_little() -> None:
    loads = [300, 10, 10]  # beside the heavy key there is next to nothing to divide
    spent = planned(case_of(loads, 4, policy="robust"))
    kept = planned(case_of(loads, 4, policy="robust", limits=Limits(4, 0.02)))
    assert len(spent.actions) <= len(kept.actions) <= 2


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        make_plan(case_of([1, 2, 3], policy="best").given)
    assert caught.value.code == "policy_unknown"


def test_a_key_that_is_hot_by_itself_gets_a_route_of_its_own() -> None:
    # 9,000 in an hour are 150 a minute; half of the threshold is 100.
    case = case_of([100, 9_000, 100], threshold=200.0)
    plan = planned(case)
    [isolated] = plan.isolated
    assert (isolated.key, isolated.load, isolated.route_load) == (b"k001", 9_000, 9_200)
    assert Span(b"k001", b"k001\x00") in {route.span for route in plan.routes_after}
    assert plan.bottleneck.after == 9_000
    assert plan.unsplittable[0].key == b"k001"


@pytest.mark.parametrize(
    ("loads", "threshold", "kind"),
    [
        ([100, 9_000, 100], 301.0, "key"),  # not over half the threshold
        ([2_000, 7_000, 1_000], 200.0, "key"),  # under four fifths of its route
        ([100, 9_000, 100], None, "key"),
        ([100, 9_000, 100], 200.0, "bucket"),
    ],
)
def test_what_is_not_a_hot_key_is_not_isolated(
    loads: list[int], threshold: float | None, kind: str
) -> None:
    assert planned(case_of(loads, threshold=threshold, kind=kind)).isolated == ()


@pytest.mark.parametrize(
    ("loads", "changes", "reason"),
    [
        ([100, 9_000, 100], {"limits": Limits(1, 0.1)}, "it would take 2 splits, 1 are left"),
        ([9_000], {}, "nothing else on its route carries load"),
        (
            [100, 9_000, 100],
            {"limits": Limits(4, 0.1, min_span_load=100), "keys": keys_of(3)},
            "",
        ),
        (
            [99, 9_000, 100],
            {"limits": Limits(4, 0.1, min_span_load=100)},
            "its neighbours carry less than --min-span-load",
        ),
        ([100, 9_000, 100], {"states": {0: RouteState.WRITE_FENCED}}, "must not be split"),
    ],
)
def test_a_hot_key_that_stays_is_told_with_the_reason(
    loads: list[int], changes: dict[str, Any], reason: str
) -> None:
    plan = planned(case_of(loads, threshold=200.0, **changes))
    told = [each.text for each in plan.findings if each.kind == "hot_key"]
    assert (plan.isolated == ()) is bool(reason)
    assert [reason in text for text in told] == ([True] if reason else [])


@pytest.mark.parametrize(
    ("loads", "length", "threshold", "reason"),
    [
        ([4], timedelta(microseconds=1), 50_000.0, "1e-06 s of load are too short to tell"),
        ([100, 90_000, 100], timedelta(seconds=59), 50_000.0, "59 s of load are too short to tell"),
        ([100, 90_000, 100], timedelta(seconds=60), 50_000.0, ""),
        # Half the threshold is 25,000 a minute: by chance a count of weight 4 strays by some 620.
        ([100, 25_600, 100], timedelta(seconds=60), 50_000.0, "a load of 25,600 is too little"),
        ([100, 25_700, 100], timedelta(seconds=60), 50_000.0, ""),
        ([0, 4, 0], timedelta(minutes=2), 2.0, "a load of 4 is too little"),
    ],
)
def test_a_key_is_not_called_hot_on_too_little_load(
    loads: list[int], length: timedelta, threshold: float, reason: str
) -> None:
    given = case_of(loads, 4, threshold=threshold).given
    plan = make_plan(replace(given, until=given.since + length))
    told = [each.text for each in plan.findings if each.kind == "hot_key"]
    assert (plan.isolated == ()) is bool(reason)
    assert [reason in text for text in told] == ([True] if reason else [])
    assert all("may be hot by itself" in text for text in told)


def test_no_key_is_cut_in_a_forbidden_span_and_rows_stay_whole() -> None:
    keys = [b"row%d/col%d" % divmod(n, 4) for n in range(20)]
    rows = Limits(3, 0.0, boundaries=Boundaries(prefix_bytes=4))
    plan = planned(case_of([3] * 20, keys=keys, limits=rows))
    assert [len(action.split_key) for action in plan.actions] == [4] * len(plan.actions)
    assert plan.actions
    inside = Span(b"row1", b"row4")
    plan = planned(case_of([3] * 20, keys=keys, limits=replace(rows, forbidden=(inside,))))
    assert {action.split_key for action in plan.actions} == {b"row4"}


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(3, 0.0, max_routes=1), "--max-routes 1"),
        (Limits(3, 0.0, forbidden=(Span(b"", None),)), "--forbid"),
        (Limits(3, 0.0, boundaries=Boundaries(prefix_bytes=1)), "--boundaries"),
        (Limits(3, 0.0, boundaries=Boundaries(None, (b"zzz",))), "--boundaries"),
        (Limits(3, 0.0, min_span_load=7), "--min-span-load 7"),
        (
            Limits(0, 0.0, groups=(GroupWeight(2),), max_bytes_moved=1),
            "--max-bytes-moved 1",
        ),
    ],
)
def test_a_limit_that_cannot_be_met_is_named(limits: Limits, name: str) -> None:
    case = Case(keys_of(4), [3, 3, 3, 3], [2], limits, sizes=[1, 1, 1, 1])
    with pytest.raises(InvalidInput) as caught:
        make_plan(case.given)
    assert caught.value.code == "limit_unmeetable"
    assert name in caught.value.message


def test_a_limit_on_bytes_that_nobody_can_check_moves_nothing_and_says_so() -> None:
    groups = (GroupWeight(1), GroupWeight(2))
    limits = Limits(1, 0.0, groups=groups, max_bytes_moved=10**12)
    plan = planned(case_of([3, 3], 1, limits=limits))
    assert {action.kind for action in plan.actions} == {ActionKind.SPLIT}
    assert plan.placement is not None
    assert (plan.placement.unit, plan.placement.moved) == ("load", 0)
    assert [each.kind for each in plan.findings] == ["moves_declined"]
    assert "--max-bytes-moved cannot be checked" in plan.findings[0].text
    whole = planned(case_of([3, 3], 0, limits=replace(limits, max_splits=0)))
    assert all("--max-bytes-moved cannot be checked" in each.reason for each in whole.declined)
    # With sizes the same limit is kept, and the route moves.
    known = planned(case_of([3, 3], 1, limits=limits, sizes=[50, 60]))
    assert sum(action.bytes_moved or 0 for action in known.actions) in {50, 60}


def test_a_group_is_not_left_under_a_limit_on_bytes_that_nobody_can_check() -> None:
    case = Case(keys_of(2), [3, 3], [], Limits(1, 0.0, groups=(GroupWeight(2),), max_bytes_moved=5))
    with pytest.raises(InvalidInput) as caught:
        make_plan(case.given)
    assert caught.value.code == "limit_unmeasured"


def test_moves_put_the_least_on_the_heaviest_group_and_say_what_they_cost() -> None:
    groups = (GroupWeight(1), GroupWeight(2))
    case = Case(
        keys_of(4), [8, 4, 2, 2], [1, 2, 3], Limits(0, 0.0, groups=groups), sizes=[90, 7, 1, 1]
    )
    plan = planned(case)
    assert plan.placement is not None
    assert (plan.placement.before, plan.placement.after, plan.placement.moved) == (16, 8, 9)
    assert plan.placement.proof is PlacementProof.SEARCH
    assert {action.kind for action in plan.actions} == {ActionKind.MOVE}
    assert [action.bytes_moved for action in plan.actions] == [7, 1, 1]
    assert [action.split_key for action in plan.actions] == [a.span.start for a in plan.actions]
    assert plan.placement.pareto[0] == (0, 16)
    # What moves is not left alone, and no route gets lighter by it.
    assert {a.route_id for a in plan.actions} == {2, 3, 4}
    assert [each.route_id for each in plan.declined] == [1]
    assert headline(plan) == (
        "3 moves take the heaviest group from 2.00 to 1.00 times its fair share"
    )
    assert f"**{headline(plan)}** (" in plan_markdown(plan)
    assert summarise(plan).headline == headline(plan)
    row = next(line for line in plan_markdown(plan).splitlines() if line.startswith("| move-001"))
    assert "| 25.0% |  |  | 50.0% |" in row
    assert actions_text(plan) == "3 moves"


def test_leaving_a_group_is_said_as_such() -> None:
    case = Case(keys_of(2), [10, 9], [1], Limits(0, 0.0, groups=(GroupWeight(2),)))
    assert headline(planned(case)) == (
        "2 moves leave the groups that are not named, and the heaviest group at 1.00 times its "
        "fair share"
    )


def test_a_reason_of_several_routes_is_said_of_several() -> None:
    plan = planned(Case(keys_of(4), [90, 90, 5, 5], [2, 3], Limits(1, 0.0), policy="robust"))
    said = dict(declined_by_reason(plan))
    assert said["routes 2, 3"].startswith("each carries 2.6% of the load, and the splits do more")
    one = robust_sentence(plan)
    assert "1 split reaches 47.4% at the least" in one


def test_a_right_child_goes_to_its_group_with_the_split() -> None:
    groups = (GroupWeight(1), GroupWeight(2))
    plan = planned(case_of([5, 5], 1, limits=Limits(1, 0.1, groups=groups)))
    [action] = plan.actions
    assert action.kind is ActionKind.SPLIT_AND_MOVE
    assert (action.target_group, action.bytes_moved, action.rows_moved) == (2, None, None)
    assert [route.group for route in plan.routes_after] == [1, 2]
    assert plan.placement is not None
    assert plan.placement.unit == "load"


def test_nothing_moves_for_too_small_a_gain_and_every_route_is_told() -> None:
    groups = (GroupWeight(1), GroupWeight(2))
    case = Case(keys_of(2), [10, 9], [1], Limits(0, 0.5, groups=groups), groups=[1, 2])
    plan = planned(case)
    assert plan.actions == ()
    assert all("no move" in each.reason or "moves would" in each.reason for each in plan.declined)


def problem(rng: random.Random, routes: int, groups: int, cap: int | None) -> Assignment:
    return Assignment(
        tuple(rng.randint(0, 50) for _ in range(routes)),
        tuple(rng.randint(0, 20) for _ in range(routes)),
        tuple(rng.randrange(groups) for _ in range(routes)),
        frozenset({0}),
        tuple(rng.choice([1, 1, 2]) for _ in range(groups)),
        2,
        cap,
    )


@pytest.mark.parametrize(("cap", "near_least"), [(None, 50), (15, 40)])
def test_walking_is_never_below_the_bound_and_often_near_the_least(
    cap: int | None, near_least: int
) -> None:
    rng = random.Random(5)
    near = 0
    for _ in range(60):
        given = problem(rng, 9, 3, cap)
        assert is_small(given)
        best, found = try_all(given), front(walk(given))
        assert lower_bound(given) <= best[-1].weighted <= found[-1].weighted
        near += found[-1].weighted <= 1.1 * best[-1].weighted
    assert near >= near_least


def test_many_routes_are_placed_near_the_bound() -> None:
    given = problem(random.Random(6), 3_000, 8, None)
    assert not is_small(given)
    assert front(walk(given))[-1].weighted <= 1.01 * lower_bound(given)


@pytest.mark.skipif(not is_installed(), reason="SciPy is not installed (extra placement)")
def test_the_solver_finds_what_trying_all_finds() -> None:
    rng = random.Random(7)
    for cap in (None, 25):
        for _ in range(20):
            given = problem(rng, 8, 3, cap)
            best, solved = try_all(given)[-1], solve(given)
            assert solved is not None
            point, optimal = solved
            assert optimal
            assert (point.weighted, point.moved) == (best.weighted, best.moved)


def slices_of(name: str) -> list[Slice]:
    table = generate(name, accesses=40_000, seed=3)
    times, keys = table.column("time").to_pylist(), table.column("key").to_pylist()
    length = timedelta(minutes=10)
    counts: list[dict[bytes, int]] = [{} for _ in range(SLICES)]
    for time, key in zip(times, keys, strict=True):
        part = counts[min((time - times[0]) // length, SLICES - 1)]
        part[key] = part.get(key, 0) + 1
    return [
        Slice(T0 + n * length, Atoms(sorted(part), [part[key] for key in sorted(part)], "key"))
        for n, part in enumerate(counts)
    ]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("moving-front", ["moving_front"]),
        ("diurnal", ["cyclic"]),
        ("zipf", []),
        ("uniform", []),
        ("hot-range", []),
        ("hot-key", []),
        ("renumbered", []),
    ],
)
def test_a_moving_front_and_cycles_are_told_with_their_windows(name: str, kinds: list[str]) -> None:
    found = patterns(slices_of(name))
    assert [each.kind for each in found] == kinds
    assert all(each.windows for each in found)
    assert patterns(slices_of(name)[:5]) == ()


def test_a_plan_document_of_version_1_is_read_with_its_hash_and_verified() -> None:
    document = json.loads(OLD_PLAN.read_text())
    plan = plan_from_json(document, "a test")
    assert plan_to_json(plan) == document
    assert plan.content_hash == document["content_hash"]
    keys = [b"k%02d" % number for number in range(12)]
    loads = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
    assert verify(document, keys, loads) == []
    document["bottleneck"]["after"] += 1
    assert verify(document, keys, loads)
