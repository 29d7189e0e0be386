"""Whole arrays give what loops over whole numbers give, also where 64 bits would not do."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from itertools import accumulate

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InvalidInput
from workbench.model.keys import Span
from workbench.model.plan import Limits
from workbench.model.plan_parts import Boundaries
from workbench.model.routes import RouteDescriptor, seed_routes
from workbench.planner import partition, robust
from workbench.planner.atoms import Atoms, atoms_from_table, routed
from workbench.planner.blocks import blocks_of
from workbench.planner.certificate import HASHED_AT_ONCE, atoms_sha256
from workbench.planner.partition import Segments, divisible_bound, least_fitting, segments_of
from workbench.planner.robust import shrunk

NEVER = 10**9


@st.composite
def many_loads(draw: st.DrawFn) -> list[int]:
    """More loads than a loop is taken for; their sum is at most 2**62."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    count = draw(st.sampled_from([257, 300, 600]))
    top = draw(st.sampled_from([1, 50, 2**40, 2**62 // count]))
    return [rng.randint(0, top) if rng.random() < 0.8 else 0 for _ in range(count)] + [1]


@settings(max_examples=60, deadline=None)
@given(many_loads(), st.data())
def test_arrays_and_loops_agree_on_atoms_and_shrunk_loads(
    loads: list[int], data: st.DataObject
) -> None:
    count = len(loads)
    bounds = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=9))})
    counts = [1 if load else 0 for load in loads]

    def answers() -> list[object]:
        segments = segments_of(loads, bounds)
        weights = shrunk(segments, counts)
        limits = [0, segments.heaviest_atom - 1, segments.heaviest_atom, 2**70]
        return [
            segments.heaviest_atom,
            [segments.first_heavier(limit) for limit in limits],
            segments.heaviest_first,
            list(weights.prefix),
            weights.heaviest_atom,
            [weights.first_heavier(limit) for limit in (0, weights.heaviest_atom - 1)],
        ]

    by_arrays = answers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "ARRAY_MIN", NEVER)
        patch.setattr(robust, "ARRAY_MIN", NEVER)
        assert by_arrays == answers()


def test_the_heaviest_segments_come_first_and_of_equal_ones_the_lowest() -> None:
    loads = [3, 7, 7, 0, 3, 9]
    segments = segments_of(loads, list(range(len(loads) + 1)))
    assert segments.heaviest_first == (5, 1, 2, 0, 4, 3)


def test_shrunk_loads_above_64_bits_are_exact() -> None:
    loads = [2**52 + number for number in range(600)]
    segments = segments_of(loads, [0, 600])
    weights = shrunk(segments, [1] * 600)
    total = sum(loads)
    assert weights.total == 10 * 600 * total > 2**63
    expected = [9 * 600 * seen + total * at for at, seen in enumerate(accumulate(loads, initial=0))]
    assert list(weights.prefix) == expected
    assert weights.heaviest_atom == 9 * 600 * loads[-1] + total
    assert weights.first_heavier(weights.heaviest_atom - 1) == 599


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=20), st.integers(0, 30))
def test_the_divisible_bound_is_the_least_limit_that_so_many_splits_meet(
    loads: list[int], splits: int
) -> None:
    def needed(limit: int) -> int:
        return sum(-(-load // limit) - 1 for load in loads if load) if limit else splits + 1

    expected = least_fitting(0, max(loads), lambda limit: needed(limit) <= splits)
    assert divisible_bound(loads, splits) == expected


@pytest.mark.parametrize("count", [0, 1, HASHED_AT_ONCE, HASHED_AT_ONCE + 1])
def test_the_hash_is_over_one_line_per_atom(count: int) -> None:
    keys = [number.to_bytes(3, "big") for number in range(count)]
    loads = [number**4 for number in range(count)]
    digest = hashlib.sha256()
    for key, load in zip(keys, loads, strict=True):
        digest.update(f"{key.hex()} {load}\n".encode())
    assert atoms_sha256(keys, loads) == digest.hexdigest()
    if count:
        with pytest.raises(ValueError, match="shorter"):
            atoms_sha256(keys, loads[:-1])


@settings(max_examples=60, deadline=None)
@given(st.sets(st.binary(max_size=3), max_size=30), st.integers(0, 2**32))
def test_atoms_come_in_order_whatever_order_and_chunks_the_rows_have(
    keys: set[bytes], seed: int
) -> None:
    rng = random.Random(seed)
    rows = [(key, rng.randint(0, 2**62)) for key in sorted(keys)]
    mixed = rng.sample(rows, len(rows))
    for told in (rows, mixed):
        cut = rng.randint(0, len(told))
        parts = [
            pa.table(
                {
                    "atom_start": pa.array([key for key, _ in part], pa.binary()),
                    "load": pa.array([load for _, load in part], pa.int64()),
                }
            )
            for part in (told[:cut], told[cut:])
        ]
        atoms = atoms_from_table(pa.concat_tables(parts), "key")
        assert list(zip(atoms.keys, atoms.loads, strict=True)) == rows
        assert all(type(load) is int for load in atoms.loads)


def test_a_key_that_comes_twice_is_refused_in_any_order() -> None:
    for keys in ([b"a", b"a", b"b"], [b"a", b"b", b"a"]):
        table = pa.table({"atom_start": pa.array(keys, pa.binary()), "load": pa.array([1, 2, 3])})
        with pytest.raises(InvalidInput) as refused:
            atoms_from_table(table, "key")
        assert refused.value.code == "atom_duplicate"


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 60), max_size=25), st.integers(0, 2**32))
def test_atoms_outside_all_routes_are_left_out(places: set[int], seed: int) -> None:
    rng = random.Random(seed)
    atoms = Atoms([bytes([n]) for n in sorted(places)], sorted(places), "key")
    bounds = sorted(rng.sample(range(61), 8))
    spans = [Span(bytes([a]), bytes([b])) for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
    if rng.random() < 0.5:
        spans.append(Span(spans[-1].end or b"", None))
    routes = [RouteDescriptor(number, span, 1) for number, span in enumerate(spans, 1)]
    kept = routed(atoms, routes)
    expected = [key for key in atoms.keys if any(key in span for span in spans)]
    assert list(kept.keys) == expected
    assert list(kept.loads) == [key[0] for key in expected]


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, 250), min_size=1, max_size=40), st.integers(0, 2**32))
def test_every_atom_is_a_block_by_both_ways(places: set[int], seed: int) -> None:
    rng = random.Random(seed)
    keys = [bytes([n]) for n in sorted(places)]
    atoms = Atoms(keys, [rng.choice([0, 1, 7]) for _ in keys], "key")
    cuts = [bytes([n]) for n in sorted(rng.sample(range(1, 255), rng.randint(0, 6)))]
    routes = seed_routes(cuts)
    free = Limits(4, 0.0)
    # No key is longer than a byte: boundaries of a byte forbid nothing, and take the other way.
    loose = replace(free, boundaries=Boundaries(prefix_bytes=1))
    direct, looped = (blocks_of(atoms, routes, limits, frozenset()) for limits in (free, loose))
    assert direct.keys == looped.keys
    assert direct.firsts == looped.firsts
    assert direct.counts == looped.counts
    assert isinstance(direct.segments, Segments)
    assert list(direct.segments.prefix) == list(looped.segments.prefix)
    assert direct.segments.bounds == looped.segments.bounds
