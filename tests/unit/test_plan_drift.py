"""Claims about planning for load that moves: the worst phase, and the tail cut of a front."""

from __future__ import annotations

import copy
import json
import random
from bisect import bisect_right
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, EvidenceQuery, Limits, plan_from_json, plan_to_json
from workbench.model.plan_parts import Boundaries, DriftKind, Finding
from workbench.model.routes import RouteSnapshot, seed_routes
from workbench.planner.atoms import Atoms
from workbench.planner.patterns import SLICES, Drift, Slice, drift_of
from workbench.planner.plan import PlanInput, make_plan
from workbench.planner.verifier import verify
from workbench.planner.words import drift_sentences
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.plan import Plan

T0 = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PART = HOUR / SLICES
LOADS = (0, 0, 1, 2, 3, 5, 8, 13)


def summed(slices: Sequence[Slice], kind: str = "key") -> Atoms:
    loads: dict[bytes, int] = {}
    for each in slices:
        for key, load in zip(each.atoms.keys, each.atoms.loads, strict=True):
            loads[key] = loads.get(key, 0) + load
    keys = sorted(loads)
    return Atoms(keys, [loads[key] for key in keys], kind)


def given_of(
    slices: Sequence[Slice],
    drift: Drift | None,
    limits: Limits,
    bounds: Sequence[bytes] = (),
    kind: str = "key",
) -> PlanInput:
    return PlanInput(
        cluster="c",
        snapshot=RouteSnapshot(7, seed_routes(bounds), T0),
        atoms=summed(slices, kind),
        objective=OBJECTIVES["score"],
        since=slices[0].start,
        until=slices[-1].start + PART,
        limits=limits,
        hot_routes=frozenset(),
        evidence=EvidenceQuery("atoms", "c/access", {}, "SELECT"),
        policy="robust",
        drift=drift,
    )


def rows_of(plan: Plan, slices: Sequence[Slice]) -> list[list[tuple[bytes, int]]]:
    named = {} if plan.drift is None else {part.since for part in plan.drift.parts}
    return [
        list(zip(each.atoms.keys, each.atoms.loads, strict=True))
        for each in slices
        if each.start in named
    ]


def false_claims(document: dict[str, Any], given: PlanInput, rows: Any) -> list[str]:
    return verify(document, given.atoms.keys, given.atoms.loads, None, rows)


def planned(given: PlanInput, slices: Sequence[Slice]) -> tuple[Plan, dict[str, Any]]:
    """The plan, which the verifier accepts and which survives JSON."""
    plan = make_plan(given)
    document = json.loads(json.dumps(plan_to_json(plan)))
    assert plan_from_json(document, "a test") == plan
    assert false_claims(document, given, rows_of(plan, slices)) == []
    return plan, document


def random_cycle(rng: random.Random) -> tuple[list[Slice], Drift, list[bytes], int]:
    keys = [b"k%02d" % n for n in range(rng.randint(2, 9))]
    period = rng.randint(2, 3)
    slices = []
    for number in range(3 * period):
        loads = [rng.choice(LOADS) for _ in keys]
        loads[rng.randrange(len(keys))] += 1  # a part without any load is no part
        slices.append(Slice(T0 + number * PART, Atoms(keys, loads, "key")))
    bounds = sorted(rng.sample(keys[1:], rng.randint(0, min(2, len(keys) - 1))))
    drift = Drift(DriftKind.CYCLIC, tuple(slices), Finding("cyclic", "a cycle"), period=period)
    return slices, drift, bounds, rng.randint(1, 4)


def least_by_trying(slices: Sequence[Slice], drift: Drift, bounds: list[bytes], most: int) -> int:
    keys = slices[0].atoms.keys
    phases = [slices[phase :: drift.period] for phase in range(drift.period)]
    rows = [[sum(each.atoms.loads[i] for each in of) for i in range(len(keys))] for of in phases]
    fixed = [list(keys).index(bound) for bound in bounds]
    places = [i for i in range(1, len(keys)) if i not in fixed]
    best = None
    for number in range(min(most, len(places)) + 1):
        for cuts in combinations(places, number):
            edges = sorted([0, *fixed, *cuts, len(keys)])
            worst = max(sum(row[a:b]) for row in rows for a, b in pairwise(edges))
            best = worst if best is None else min(best, worst)
    assert best is not None
    return best


def check_random_cycles(seeds: range) -> int:
    acted = 0
    for seed in seeds:
        rng = random.Random(seed)
        slices, drift, bounds, most = random_cycle(rng)
        given = given_of(slices, drift, Limits(most, 0.0), bounds)
        plan, document = planned(given, slices)
        if plan.drift is None:
            continue
        acted += 1
        least = least_by_trying(slices, drift, bounds, most)
        assert plan.drift.worst_after == document["certificate"]["phases"]["bottleneck"] == least
        assert plan.drift.worst_of_sum is not None
        assert plan.drift.worst_of_sum >= least
    return acted


def test_cuts_for_the_worst_phase_equal_brute_force_on_random_cases() -> None:
    assert check_random_cycles(range(600)) > 200


@pytest.mark.slow
def test_cuts_for_the_worst_phase_equal_brute_force_on_10000_random_cases() -> None:
    assert check_random_cycles(range(10_000)) > 4_000


def numbers(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, each in value.items() for leaf in numbers(each, (*path, key))]
    if isinstance(value, list):
        return [leaf for at, each in enumerate(value) for leaf in numbers(each, (*path, at))]
    return [path] if isinstance(value, int) and not isinstance(value, bool) else []


def test_the_verifier_rejects_every_wrong_number_of_a_plan_for_phases() -> None:
    rejected = 0
    for seed in range(150):
        rng = random.Random(seed)
        slices, drift, bounds, most = random_cycle(rng)
        given = given_of(slices, drift, Limits(most, 0.0), bounds)
        plan, document = planned(given, slices)
        if plan.drift is None:
            continue
        for path in numbers(document["drift"], ("drift",)):
            changed = copy.deepcopy(document)
            at: Any = changed
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] += 1
            assert false_claims(changed, given, rows_of(plan, slices)), path
            rejected += 1
        claim = copy.deepcopy(document)
        claim["certificate"]["phases"]["bottleneck"] += rng.choice([-1, 1])
        assert false_claims(claim, given, rows_of(plan, slices))
        assert false_claims(document, given, rows_of(plan, slices)[:-1])
        other = copy.deepcopy(document)
        del other["drift"]
        assert false_claims(other, given, ())
    assert rejected > 500


def slices_of(table: Any, *, part: timedelta, number: int = SLICES) -> list[Slice]:
    times, keys = table.column("time").to_pylist(), table.column("key").to_pylist()
    weights = [4 if op == "write" else 1 for op in table.column("op").to_pylist()]
    counts: list[dict[bytes, int]] = [{} for _ in range(number)]
    for time, key, weight in zip(times, keys, weights, strict=True):
        at = (time - T0) // part
        if at < number:
            counts[at][key] = counts[at].get(key, 0) + weight
    return [
        Slice(T0 + n * part, Atoms(sorted(c), [c[key] for key in sorted(c)], "key"))
        for n, c in enumerate(counts)
    ]


def heldout(plan: Plan, later: Sequence[Slice], period: int, routes: int) -> tuple[float, float]:
    """Hottest route over the mean: of the sum of what came later, and of its worst phase."""
    starts = [route.span.start for route in plan.routes_after]
    cells = np.zeros((period, len(starts)))
    for number, each in enumerate(later):
        at = [bisect_right(starts, key) - 1 for key in each.atoms.keys]
        np.add.at(cells[number % period], at, each.atoms.loads)
    total = cells.sum(axis=0)
    return total.max() / total.sum() * routes, cells.max() / cells.sum(axis=1).max() * routes


def both_ways(name: str, seed: int, routes: int, period: int) -> list[tuple[float, float, int]]:
    """Held-out figures and splits of the plan with drift taken into account, and without."""
    # Three of the four half-hours of `diurnal` are twelve parts; of others the first hour is.
    part, number = (PART * 3 / 2, 16) if name == "diurnal" else (PART, 24)
    slices = slices_of(generate(name, accesses=20_000, seed=seed), part=part, number=number)
    past, later = slices[:SLICES], slices[SLICES:]
    drift = drift_of(past)
    assert drift is not None
    made = []
    for used in (drift, None):
        given = replace(given_of(past, used, Limits(routes - 1, 0.1)), until=past[-1].start + part)
        plan, _ = planned(given, past)
        assert (plan.drift is None) is (used is None)
        made.append((*heldout(plan, later, period, routes), len(plan.actions)))
    return made


def mean_of(values: Sequence[float]) -> float:
    return float(prod(values) ** (1 / len(values)))


def figures(name: str, period: int) -> dict[str, float]:
    runs = [both_ways(name, seed, k, period) for seed in (1,) for k in (6, 12, 20, 24, 48)]
    return {
        f"{what} {how}": mean_of([run[way][column] for run in runs])
        for way, how in enumerate(("with", "without"))
        for column, what in enumerate(("sum", "worst", "splits"))
    }


def test_later_the_worst_phase_of_the_diurnal_set_is_lighter_and_the_sum_heavier() -> None:
    seen = figures("diurnal", 4)
    assert seen["worst with"] < 0.9 * seen["worst without"]
    # What it costs, on load whose sum never drifts.
    assert seen["sum without"] < seen["sum with"] < 1.35 * seen["sum without"]


def test_a_cycle_that_was_seen_only_twice_is_told_and_not_planned_for() -> None:
    table = generate("diurnal", accesses=20_000, seed=1)
    slices = slices_of(table, part=PART)
    drift = drift_of(slices)
    assert drift is not None
    assert (drift.kind, drift.period) == (DriftKind.CYCLIC, 6)
    plan, document = planned(given_of(slices, drift, Limits(11, 0.1)), slices)
    assert plan.drift is None
    assert "drift" not in document
    assert any("fewer than 3 cycles" in finding.text for finding in plan.findings)


def test_a_front_gets_no_split_for_nothing_and_loses_little_against_all_splits() -> None:
    seen = figures("moving-front", 1)
    assert seen["splits with"] == pytest.approx(0)
    assert seen["splits without"] > 10
    # Whoever cuts what was seen, what comes lands on the last route: nobody is much better.
    assert seen["sum with"] < 1.02 * seen["sum without"]


def front_slices(keys_each: int = 20, kind: str = "key") -> list[Slice]:
    """Sequential appends after a quiet start, beside a little steady load below."""
    made = []
    for number in range(SLICES):
        loads = {b"a%02d" % n: 1 for n in range(10)}
        loads |= {b"m%04d" % (number * keys_each + n): 10 for n in range(keys_each)}
        made.append(
            Slice(T0 + number * PART, Atoms(sorted(loads), [loads[k] for k in sorted(loads)], kind))
        )
    return made


def front_plan(
    limits: Limits, bounds: Sequence[bytes] = (), kind: str = "key"
) -> tuple[Plan, dict[str, Any]]:
    slices = front_slices(kind=kind)
    drift = drift_of(slices)
    assert drift is not None
    assert drift.kind is DriftKind.MOVING_FRONT
    return planned(given_of(slices, drift, limits, bounds, kind), slices)


def test_a_moving_front_gets_one_cut_above_what_was_seen_and_says_what_it_is_based_on() -> None:
    plan, document = front_plan(Limits(8, 0.04))
    [action] = plan.actions
    assert action.split_key == b"m0239\x00"
    assert action.evidence.right_load == 0
    assert document["drift"]["tail"] == action.split_key.hex()
    assert document["drift"]["beyond"] == [200, 200, 200]
    assert [part["load"] for part in document["drift"]["parts"]] == [210] * SLICES
    assert "95%" in action.reasons[1]
    assert "from 100.0% to 95.2%" in action.reasons[2]
    assert "route of its own" in drift_sentences(plan)[0]


def test_buckets_are_cut_at_the_start_of_the_last_one_with_load() -> None:
    plan, _ = front_plan(Limits(8, 0.0), kind="bucket")
    assert [action.split_key for action in plan.actions] == [b"m0239"]


@pytest.mark.parametrize(
    ("limits", "bounds", "key"),
    [
        (Limits(8, 0.0, boundaries=Boundaries(prefix_bytes=2)), [], b"m1"),
        (Limits(8, 0.0, boundaries=Boundaries(prefix_bytes=9)), [], b"m0239\x00"),
        (Limits(8, 0.0, boundaries=Boundaries(keys=(b"b", b"m0300", b"z"))), [], b"m0300"),
        (Limits(8, 0.0), [b"a05"], b"m0239\x00"),
    ],
)
def test_a_tail_cut_keeps_the_limits(limits: Limits, bounds: list[bytes], key: bytes) -> None:
    plan, _ = front_plan(limits, bounds)
    assert [action.split_key for action in plan.actions] == [key]


@pytest.mark.parametrize(
    ("limits", "bounds", "why"),
    [
        (Limits(0, 0.1), [], "no splits are left"),
        (Limits(8, 0.1, min_span_load=5), [], "--min-span-load"),
        (Limits(8, 0.1, forbidden=(Span(b"m02", None),)), [], "--forbid"),
        (Limits(8, 0.1), [], "from 100.0% to 95.2%, less than the 10% asked for"),
        (Limits(8, 0.0), [b"m"], "from 95.2% to 95.2%"),
        (Limits(8, 0.1), [b"m0180"], "a route of its own already"),
        (Limits(8, 0.1), [b"m", b"m0239\x00"], "no key above"),
        (Limits(8, 0.1, boundaries=Boundaries(keys=(b"b", b"m01"))), [], "no key above"),
    ],
)
def test_where_there_is_no_tail_cut_the_plan_says_why_and_cuts_nothing_in_the_past(
    limits: Limits, bounds: list[bytes], why: str
) -> None:
    plan, document = front_plan(limits, bounds)
    assert plan.actions == ()
    assert document["drift"]["tail"] is None
    assert any(why in finding.text for finding in plan.findings)
    reasons = {each.reason for each in plan.declined if "no load" not in each.reason}
    assert all("moving front" in each or "no splits are allowed" in each for each in reasons)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["drift"].update(tail=b"m0200\x00".hex()),
        lambda d: d["drift"].update(tail=None),
        lambda d: d["drift"].update(kind="cyclic"),
        lambda d: d["drift"]["parts"].pop(),
        lambda d: d["drift"]["beyond"].__setitem__(0, 201),
        lambda d: d["drift"]["parts"][3].update(load=1),
        lambda d: d["drift"]["parts"][3].update(to="2026-01-01T00:21:00Z"),
    ],
)
def test_the_verifier_rejects_a_front_that_is_not_there(change: Any) -> None:
    slices = front_slices()
    given = given_of(slices, drift_of(slices), Limits(8, 0.0))
    plan, document = planned(given, slices)
    change(document)
    assert false_claims(document, given, rows_of(plan, slices))


def test_exact_fits_the_recorded_load_whatever_moves() -> None:
    slices = front_slices()
    given = replace(given_of(slices, drift_of(slices), Limits(8, 0.1)), policy="exact")
    plan, document = planned(given, slices)
    assert plan.drift is None
    assert "drift" not in document
    assert len(plan.actions) > 1


def test_idle_buckets_above_the_front_do_not_hide_it() -> None:
    slices = [
        Slice(each.start, Atoms([*each.atoms.keys, b"z"], [*each.atoms.loads, 0], "key"))
        for each in front_slices()
    ]
    drift = drift_of(slices)
    assert drift is not None
    assert drift.kind is DriftKind.MOVING_FRONT
