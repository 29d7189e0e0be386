"""Claims about the exact partition."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InvalidInput
from workbench.planner.partition import (
    Segments,
    cuts,
    cuts_needed,
    divisible_bound,
    optimum,
    segments_of,
)
from workbench.planner.search import Rules
from workbench.planner.search import pareto as front_of


def pareto(segments: Segments, splits: int) -> list[tuple[int, int]]:
    return front_of(Rules(segments, segments.prefix), splits)


LOADS = st.lists(st.one_of(st.integers(0, 9), st.sampled_from([40, 1_000])), min_size=1, max_size=9)


def bottleneck(segments: Segments, chosen: list[int]) -> int:
    edges = sorted({*segments.bounds, *chosen})
    return max(segments.prefix[b] - segments.prefix[a] for a, b in pairwise(edges))


def allowed_cuts(segments: Segments) -> list[int]:
    return [
        atom
        for index, (low, high) in enumerate(pairwise(segments.bounds))
        if index not in segments.fixed
        for atom in range(low + 1, high)
    ]


def brute_force(segments: Segments, splits: int) -> int:
    places = allowed_cuts(segments)
    return min(
        bottleneck(segments, list(chosen))
        for number in range(min(splits, len(places)) + 1)
        for chosen in combinations(places, number)
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Segments, int]:
    loads = draw(LOADS)
    inner = draw(st.lists(st.integers(0, len(loads)), max_size=3))
    bounds = [0, *sorted(inner), len(loads)]
    fixed = draw(st.frozensets(st.integers(0, len(bounds) - 2), max_size=2))
    return segments_of(loads, bounds, fixed), draw(st.integers(0, 5))


@settings(max_examples=600, deadline=None)
@given(cases())
def test_optimum_equals_brute_force(case: tuple[Segments, int]) -> None:
    segments, splits = case
    assert optimum(segments, splits) == brute_force(segments, splits)


@settings(max_examples=600, deadline=None)
@given(cases())
def test_cuts_reach_the_optimum_with_the_fewest_splits(case: tuple[Segments, int]) -> None:
    segments, splits = case
    best = optimum(segments, splits)
    chosen = cuts(segments, best)
    assert bottleneck(segments, chosen) == best
    assert set(chosen) <= set(allowed_cuts(segments))
    assert len(chosen) == len(set(chosen)) == cuts_needed(segments, best, splits)
    fewer = len(chosen) - 1
    assert fewer < 0 or brute_force(segments, fewer) > best


def test_cuts_are_even_where_the_limit_leaves_a_choice() -> None:
    segments = segments_of([1] * 9 + [5], [0, 10])
    chosen = cuts(segments, optimum(segments, 2))
    edges = [0, *chosen, 10]
    assert [segments.prefix[b] - segments.prefix[a] for a, b in pairwise(edges)] == [4, 5, 5]


def test_a_heavy_atom_is_never_cut_through() -> None:
    segments = segments_of([1, 1, 90, 1, 1], [0, 5])
    assert optimum(segments, 4) == 90


def test_a_fixed_segment_keeps_its_load() -> None:
    segments = segments_of([5, 5, 1, 1], [0, 2, 4], frozenset({0}))
    assert optimum(segments, 3) == 10
    assert cuts(segments, 10) == []


def test_the_pareto_front_falls_strictly_and_starts_with_no_split() -> None:
    segments = segments_of([3, 1, 4, 1, 5, 9, 2, 6], [0, 8])
    front = pareto(segments, 7)
    assert front[0] == (0, 31)
    assert front[-1] == (optimal_splits(segments, 9), 9)
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(front))


def optimal_splits(segments: Segments, limit: int) -> int:
    needed = cuts_needed(segments, limit, 99)
    assert needed is not None
    return needed


def test_the_pareto_front_skips_numbers_beyond_the_dense_part() -> None:
    segments = segments_of([1] * 500, [0, 500])
    tried = [splits for splits, _ in pareto(segments, 300)]
    assert {0, 1, 32, 64, 128, 256} >= set(tried) - set(range(33)) - {300}
    assert tried[-1] == 256  # 500 atoms on 257 and on 301 routes: the heaviest carries 2


def test_a_negative_load_is_refused() -> None:
    with pytest.raises(InvalidInput, match="negative load -1") as caught:
        segments_of([3, -1], [0, 2])
    assert caught.value.code == "load_negative"


def test_loads_beyond_62_bits_are_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        segments_of([2**61, 2**61, 2**61], [0, 3])
    assert caught.value.code == "load_overflow"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=5), st.integers(0, 6))
def test_divisible_bound_never_exceeds_what_atoms_reach(loads: list[int], splits: int) -> None:
    segments = segments_of(loads, list(range(len(loads) + 1)))
    assert divisible_bound(loads, splits) <= optimum(segments, splits)
    units = [1] * sum(loads)  # the same load, cut as finely as whole numbers go
    bounds = list(segments.prefix)
    assert divisible_bound(loads, splits) == optimum(segments_of(units, bounds), splits)
