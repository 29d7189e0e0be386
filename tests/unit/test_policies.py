"""Claims about rival policies: the published rule by hand, no empty route, no lost load."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InvalidArgument, NotFound
from workbench.model.tables import TIME
from workbench.planner import finders
from workbench.planner.finders import Draws, RouteView, even_positions
from workbench.planner.plan import Atoms
from workbench.planner.policies import (
    POLICIES,
    Policy,
    Splitting,
    policies_named,
    replayed_loads,
    route_loads,
    whole,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = st.one_of(st.binary(max_size=4), st.integers(0, 40).map(lambda n: n.to_bytes(8, "big")))
LOADS = st.one_of(st.integers(0, 9), st.sampled_from([60, 1_000]))


def atoms_of(loads: dict[bytes, int]) -> Atoms:
    keys = sorted(loads)
    return Atoms(keys, [loads[key] for key in keys], "key")


def numbered(loads: list[int]) -> Atoms:
    """Atoms at one-byte keys 0, 1, 2, ..."""
    return Atoms([bytes([n]) for n in range(len(loads))], loads, "key")


ATOMS = st.dictionaries(KEYS, LOADS, min_size=1, max_size=30).map(atoms_of)


def one_cut(name: str, atoms: Atoms, seed: int = 1) -> list[int]:
    return POLICIES[name].cut(atoms, 2, seed)


# ---- each rule by hand


def test_elastickv_cuts_at_the_end_of_the_bucket_that_reaches_half() -> None:
    # Keys 0..16: bucket b holds key b alone, the last one 15 and 16. Running: 1 2 3 4 5 (of 10).
    loads = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]
    assert one_cut("elastickv", numbered(loads)) == [5]
    loads[4], loads[6] = 0, 1  # the fifth is now in bucket 6
    assert one_cut("elastickv", numbered(loads)) == [7]


def test_elastickv_cuts_at_the_start_of_the_last_bucket() -> None:
    loads = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 7]
    assert one_cut("elastickv", numbered(loads)) == [15]


def test_elastickv_buckets_lie_between_observed_keys_only() -> None:
    # Key 0 has no load; observed are 100, 116 and 132: buckets of 2, half in the first.
    atoms = atoms_of({b"\x00": 0, b"\x64": 6, b"\x74": 1, b"\x84": 1})
    assert one_cut("elastickv", atoms) == [2]


def test_elastickv_buckets_are_even_by_position_and_not_by_number_of_keys() -> None:
    # 0x00..0x03 share the first of 16 buckets of 0x00..0x80, whatever order 8 keys have.
    atoms = atoms_of({bytes([key]): 1 for key in (0, 1, 2, 3, 0x20, 0x40, 0x60, 0x80)})
    assert one_cut("elastickv", atoms) == [4]


def test_elastickv_refuses_keys_of_one_position() -> None:
    assert one_cut("elastickv", atoms_of({b"a": 5, b"a\0": 5, b"a\0\0": 5})) == []


def test_cockroachdb_takes_the_best_balanced_key_of_a_route_that_the_sample_covers() -> None:
    # Four keys and 20 draws of 400: all are sampled; the third halves the load.
    assert one_cut("cockroachdb", numbered([100, 100, 100, 100])) == [2]


def test_cockroachdb_refuses_a_balance_of_a_quarter_and_takes_less() -> None:
    # |L - R| / (L + R): 125 : 75 is 0.25 and refused, 124 : 76 is 0.24.
    assert one_cut("cockroachdb", numbered([125, 75])) == []
    assert one_cut("cockroachdb", numbered([124, 76])) == [1]


def test_cockroachdb_refuses_below_a_hundred_counts() -> None:
    assert one_cut("cockroachdb", numbered([50, 49])) == []
    assert one_cut("cockroachdb", numbered([50, 50])) == [1]


def test_tikv_refuses_a_balance_of_four_fifths_and_takes_less() -> None:
    # 9 : 1 is 0.8 and refused; 89 : 11 is 0.78. No least number of counts.
    assert one_cut("tikv", numbered([9, 1])) == []
    assert one_cut("tikv", numbered([89, 11])) == [1]
    assert one_cut("tikv", numbered([1, 1])) == [1]


def test_pd_cuts_at_the_start_of_the_bucket_that_reaches_half() -> None:
    # 32 keys, 16 buckets of two; half of 44 is reached at key 9, in the bucket of 8 and 9.
    loads = [1] * 32
    loads[9] += 12
    assert one_cut("pd", numbered(loads)) == [8]


def test_pd_cuts_behind_the_first_bucket_where_that_reaches_half() -> None:
    assert one_cut("pd", numbered([9, *[1] * 7])) == [1]
    assert one_cut("pd", numbered([9])) == []


def test_median_takes_the_nearer_side_of_the_middle() -> None:
    assert one_cut("median", numbered([1, 1, 5, 1])) == [2]
    assert one_cut("median", numbered([1, 5, 1, 1])) == [2]
    assert one_cut("median", numbered([0, 7, 0])) == []


def test_even_keys_counts_keys_and_not_load() -> None:
    assert POLICIES["even-keys"].cut(numbered([90, 1, 1, 1, 1, 1]), 3, 1) == [2, 4]
    assert POLICIES["even-keys"].cut(numbered([1, 1]), 9, 1) == [1]


def test_none_leaves_one_route_and_exact_finds_the_optimum() -> None:
    loads = numbered([3, 1, 4, 1, 5, 9, 2, 6])
    assert POLICIES["none"].cut(loads, 4, 1) == []
    assert max(route_loads(whole(loads), POLICIES["exact"].cut(loads, 3, 1))) == 14


def test_the_hottest_route_is_split_next() -> None:
    # 8 | 4 4 4 4 ... halves to 12 | 12, then the lower of equals: 8 4 at 1.
    atoms = numbered([8, 4, 4, 4, 4])
    assert POLICIES["median"].cut(atoms, 2, 1) == [2]
    assert POLICIES["median"].cut(atoms, 3, 1) == [1, 2]
    assert POLICIES["median"].cut(atoms, 4, 1) == [1, 2, 3]


def test_a_refused_route_stays_and_the_next_hottest_has_its_turn() -> None:
    # One key of 100 cannot be cut; what lies beside it still is.
    assert POLICIES["median"].cut(numbered([100, 3, 3, 3]), 4, 1) == [1, 2, 3]


# ---- key-space positions


def position(key: bytes, width: int) -> Fraction:
    return Fraction(int.from_bytes(key.ljust(width, b"\0"), "big"), 256**width)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.binary(max_size=5), min_size=3, max_size=3))
def test_even_positions_are_the_least_keys_at_or_above_each_bound(three: list[bytes]) -> None:
    low, key, high = sorted(three)
    for part, mark in enumerate(even_positions(low, high, 16), start=1):
        bound = position(low, 8) + (position(high, 8) - position(low, 8)) * part / 16
        assert position(mark, 8) == bound
        assert (key >= mark) == (position(key, 8) >= bound)


def test_positions_of_keys_behind_a_long_common_prefix_are_exact() -> None:
    prefix = b"tenant/" * 500
    marks = even_positions(prefix + b"\x00", prefix + b"\x01", 16)
    assert marks == [prefix + bytes([0, 16 * part]) for part in range(1, 16)]


# ---- what holds for all


def check_cuts(policy: Policy, atoms: Atoms, routes: int, seed: int) -> None:
    chosen = policy.cut(atoms, routes, seed)
    assert chosen == sorted(set(chosen))
    assert all(0 < at < len(atoms.keys) for at in chosen)
    assert len(chosen) < routes
    assert sum(route_loads(whole(atoms), chosen)) == sum(atoms.loads)


@settings(max_examples=80, deadline=None)
@given(ATOMS, st.integers(1, 12), st.integers(0, 2**63 - 1))
def test_no_policy_makes_an_empty_route_or_loses_load(atoms: Atoms, routes: int, seed: int) -> None:
    for policy in POLICIES.values():
        check_cuts(policy, atoms, routes, seed)
        assert policy.cut(atoms, routes, seed) == policy.cut(atoms, routes, seed)


def heaviest(policy: Policy, atoms: Atoms, routes: int, seed: int) -> int:
    return max(route_loads(whole(atoms), policy.cut(atoms, routes, seed)))


@settings(max_examples=80, deadline=None)
@given(ATOMS, st.integers(1, 12), st.integers(0, 99))
def test_exact_is_never_worse_than_a_rival_on_the_load_planned_on(
    atoms: Atoms, routes: int, seed: int
) -> None:
    best = heaviest(POLICIES["exact"], atoms, routes, seed)
    for rival in POLICIES.values():
        assert best <= heaviest(rival, atoms, routes, seed), rival.name


def test_a_rival_in_the_place_of_exact_is_caught() -> None:
    atoms = numbered([1] * 12)
    planted = POLICIES["median"]
    assert heaviest(planted, atoms, 3, 1) > heaviest(POLICIES["exact"], atoms, 3, 1)


@pytest.mark.parametrize("edge", ["low", "high"])
def test_a_planted_finder_that_leaves_an_empty_route_is_caught(edge: str) -> None:
    def planted(route: RouteView, _draws: Draws) -> int:
        return int(getattr(route, edge))

    with pytest.raises(AssertionError, match="empty route"):
        Splitting("planted", planted).cut(numbered([1, 1, 1]), 3, 1)


def test_samples_depend_on_the_seed_and_on_nothing_else() -> None:
    atoms = numbered([7 * n % 13 + 1 for n in range(200)])
    cuts = [POLICIES["cockroachdb"].cut(atoms, 8, seed) for seed in range(10)]
    assert cuts == [POLICIES["cockroachdb"].cut(atoms, 8, seed) for seed in range(10)]
    assert len({tuple(each) for each in cuts}) > 5
    # Of the same bits on every machine.
    assert Draws(1, 2).distinct(4, 1_000) == [92, 419, 447, 821]


def test_a_sample_holds_distinct_numbers_and_each_equally_often() -> None:
    draws, seen = Draws(9), [0] * 6
    for _ in range(3_000):
        chosen = draws.distinct(2, 6)
        assert len(set(chosen)) == 2
        for number in chosen:
            seen[number] += 1
    assert all(900 < count < 1_100 for count in seen)
    assert draws.distinct(20, 3) == [0, 1, 2]


def test_a_larger_sample_than_load_takes_every_key() -> None:
    view = RouteView([b"a", b"b"], [0, 1, 2], 0, 2)
    assert finders.tikv_cut(view, Draws(1)) == 1


# ---- names and replay


def test_names_are_found_once_each_and_all_means_all() -> None:
    assert [policy.name for policy in policies_named(["all"])] == list(POLICIES)
    named = policies_named(["median", "exact", "median"])
    assert [policy.name for policy in named] == ["median", "exact"]
    for wrong in (["median", "nosuch"], [""], []):
        with pytest.raises(InvalidArgument) as caught:
            policies_named(wrong)
        assert caught.value.code == "policy_unknown"
        assert "elastickv" in caught.value.hint


def events_of(keys: list[bytes]) -> pa.Table:
    schema = pa.schema([("time", TIME), ("key", pa.binary()), ("load", pa.int64())])
    rows = [{"time": T0, "key": key, "load": number + 1} for number, key in enumerate(keys)]
    return pa.Table.from_pylist(rows, schema=schema)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=2), min_size=1, max_size=20),
    st.lists(st.sets(st.binary(min_size=1, max_size=2), max_size=4), min_size=1, max_size=4),
)
def test_one_replay_for_all_equals_a_recount_of_each(
    keys: list[bytes], choices: list[set[bytes]]
) -> None:
    cuts = [sorted(choice) for choice in choices]
    for choice, loads in zip(cuts, replayed_loads(events_of(keys), cuts), strict=True):
        recount = [
            sum(
                number + 1
                for number, key in enumerate(keys)
                if low <= key and (high is None or key < high)
            )
            for low, high in pairwise([b"", *choice, None])
            if low is not None
        ]
        assert list(loads) == recount


def test_nothing_to_replay_is_an_error() -> None:
    with pytest.raises(NotFound):
        replayed_loads(events_of([]), [[]])
