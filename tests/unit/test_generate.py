"""Generated sets: the same bytes for ever, and the shape that each promises."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.tables import ACCESS, check_table
from workbench.traces import generate as module
from workbench.traces.generate import (
    BASE_US,
    GENERATORS,
    HOT_KEY,
    HOT_RANGE,
    KEY_STEP,
    KEYS,
    SMALL,
    SPAN_US,
    content_checksum,
    generate,
)
from workbench.traces.readers import ARRIVAL_SHARE_MIN, arrival_share

# Of 2,000 accesses from seed 7. These never change: datasets in use are proven by them.
CHECKSUMS = {
    "zipf": "4710f49407c729bb5232a0092405ef093557cb0f07ad64fbc4460f07372a6706",
    "hot-key": "595a05058a989256e9fa15b15c60443b94d0f865f7c0251c6042d9fb080ff8da",
    "hot-range": "d4c473703119cd729b603f0f09d2d04e6739d73dce460f50a679830dec01a52c",
    "moving-front": "a33bd6a79aa2f0ab6634397c916615236f7ebb5d3d8024ccf758ae2fc9f1998a",
    "diurnal": "6a5c6e0dbacdb6008db1627060d6061b2b8974f0b0d2792c1005dbc328e10119",
    "oscillating": "abc5bc1c5b223430cbd36785dda55eba94d34f6596f5f173f972c88d31d3dfc6",
    "uniform": "19aac0e8d96834261fe28f11049d867ebe834bc5eded4ec4b11a18b7b5bc6c69",
    "renumbered": "8da9665e9c571e3c2e946cc4bb2e58df47363438c1f06f55ac4188caabc93a3e",
}


def times(table: pa.Table) -> np.ndarray:
    return np.asarray(table.column("time").cast(pa.int64()).to_numpy()) - BASE_US


def numbers(table: pa.Table) -> np.ndarray:
    """Return the number that each key ends with."""
    return np.array([int(key.split(b"/")[1]) for key in table.column("key").to_pylist()])


def half_shares(table: pa.Table, low: int, high: int) -> list[float]:
    """Return the share of the keys with an index in [low, high), in either half of the time."""
    index, late = numbers(table) // KEY_STEP, times(table) >= SPAN_US // 2
    inside = (index >= low) & (index < high)
    return [float(inside[~late].mean()), float(inside[late].mean())]


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_seed_gives_the_same_accesses_for_ever(name: str) -> None:
    assert content_checksum(generate(name, accesses=2_000, seed=7)) == CHECKSUMS[name]


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_set_fits_its_schema_and_its_two_hours(name: str) -> None:
    table = generate(name, accesses=SMALL, seed=1)
    assert check_table(table, ACCESS, "accesses").num_rows == SMALL
    time = times(table)
    assert time[0] == 0
    assert SPAN_US * 0.99 < time[-1] < SPAN_US
    assert (np.diff(time) >= 0).all()
    writes = pc.sum(pc.equal(table.column("op"), "write")).as_py() / SMALL
    assert 0.28 < writes < 0.72
    assert pc.min(table.column("size")).as_py() >= 64
    assert pc.max(table.column("size")).as_py() <= 4096
    assert len({len(key) for key in table.column("key").to_pylist()}) == 1


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_another_seed_is_another_sample(name: str) -> None:
    one, other = (generate(name, accesses=500, seed=seed) for seed in (1, 2))
    assert not one.equals(other)


def test_sets_of_one_seed_do_not_share_their_chance() -> None:
    one, other = (generate(name, accesses=500, seed=1) for name in ("uniform", "hot-range"))
    assert one.column("size") != other.column("size")


@pytest.mark.parametrize("accesses", [1, 2, 3])
@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_tiny_sets_are_made(name: str, accesses: int) -> None:
    assert generate(name, accesses=accesses, seed=0).num_rows == accesses


def test_hot_key_takes_two_fifths_in_both_halves() -> None:
    table = generate("hot-key", accesses=SMALL, seed=1)
    for share in half_shares(table, HOT_KEY, HOT_KEY + 1):
        assert 0.38 < share < 0.42
    counts = pc.value_counts(table.column("key")).field("counts").to_numpy()
    assert np.sort(counts)[-2] < SMALL * 0.002


def test_hot_range_takes_three_fifths_over_hundreds_of_keys_in_both_halves() -> None:
    table = generate("hot-range", accesses=SMALL, seed=1)
    low, high = HOT_RANGE
    assert (high - low) / KEYS == 0.04
    for share in half_shares(table, low, high):
        assert 0.59 < share < 0.65
    index = numbers(table) // KEY_STEP
    hot = np.bincount(index[(index >= low) & (index < high)] - low)
    assert (hot > 0).all()
    assert hot.max() < 3 * hot.mean()


def test_zipf_has_a_heavy_head_scattered_over_the_keys() -> None:
    table = generate("zipf", accesses=SMALL, seed=1)
    counts = np.bincount(numbers(table) // KEY_STEP, minlength=KEYS)
    head = np.argsort(counts)[::-1][:10]
    assert 0.08 < counts.max() / SMALL < 0.13
    assert 0.25 < counts[head].sum() / SMALL < 0.4
    assert np.ptp(head) > KEYS / 2


def test_moving_front_writes_new_keys_in_order_and_reads_near_them() -> None:
    table = generate("moving-front", accesses=SMALL, seed=1)
    number = numbers(table)
    writes = np.asarray(pc.equal(table.column("op"), "write").to_numpy())
    assert (number[writes] == np.arange(writes.sum())).all()
    back = np.cumsum(writes) - 1 - number
    assert (back >= 0).all()
    assert back.max() < 1_000
    late = times(table) >= SPAN_US // 2
    assert number[late & writes].min() > number[~late].max() - 1


def test_diurnal_peaks_thrice_as_high_as_its_trough_in_another_place() -> None:
    table = generate("diurnal", accesses=SMALL, seed=1)
    minute = times(table) // 60_000_000
    per_minute = np.bincount(minute, minlength=120)
    noon, night = per_minute[[14, 15, 44, 45]].sum(), per_minute[[0, 29, 30, 59]].sum()
    assert 2.2 < noon / night < 3.2
    index = numbers(table) // KEY_STEP
    day_range = (index >= 1_500) & (index < 2_500)
    at_noon, at_night = np.isin(minute, [14, 15, 44, 45]), np.isin(minute, [0, 29, 30, 59])
    assert day_range[at_noon].mean() > 0.55
    assert day_range[at_night].mean() < 0.15


def test_oscillating_changes_sides_every_two_minutes() -> None:
    table = generate("oscillating", accesses=SMALL, seed=1)
    index = numbers(table) // KEY_STEP
    left = (index >= 2_000) & (index < 2_400)
    minute = times(table) // 60_000_000
    shares = [float(left[minute == m].mean()) for m in range(12)]
    sides = [share > 0.25 for share in shares]
    assert sides == [True, True, False, False] * 3


def test_uniform_has_no_hot_tenth() -> None:
    counts = np.bincount(numbers(generate("uniform", accesses=SMALL, seed=1)) // KEY_STEP // 1_000)
    assert counts.max() < counts.mean() * 1.1


def test_renumbered_keys_come_in_key_order_and_the_others_do_not() -> None:
    for name in GENERATORS:
        table = generate(name, accesses=SMALL, seed=1)
        share = arrival_share(pc.unique(table.column("key")))
        assert (share >= ARRIVAL_SHARE_MIN) == (name in {"renumbered", "moving-front"}), name


def test_every_set_says_what_it_models_and_what_a_planner_must_do() -> None:
    for name, make in GENERATORS.items():
        text = make.__doc__ or ""
        assert "odels" in text or "Control" in text, name
        assert "planner" in text or "detection" in text or "plan " in text, name


@pytest.mark.parametrize(
    ("name", "accesses", "seed", "code"),
    [
        ("zip", 10, 1, "dataset_unknown"),
        ("zipf", 0, 1, "dataset_argument_invalid"),
        ("zipf", module.ACCESSES_MAX + 1, 1, "dataset_argument_invalid"),
        ("zipf", 10, -1, "dataset_argument_invalid"),
    ],
)
def test_arguments_out_of_range_are_refused(name: str, accesses: int, seed: int, code: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        generate(name, accesses=accesses, seed=seed)
    assert caught.value.code == code
    assert caught.value.hint


def test_a_checksum_does_not_depend_on_chunks_or_offsets() -> None:
    table = generate("zipf", accesses=1_000, seed=1)
    cuts = [0, 1, 1, 400, 999, 1_000]
    parts = pa.concat_tables([table.slice(low, high - low) for low, high in pairwise(cuts)])
    assert content_checksum(parts) == content_checksum(table)
    padded = pa.concat_tables([table.slice(0, 5), table]).slice(5)
    assert content_checksum(padded) == content_checksum(table)


def test_a_checksum_sees_every_value() -> None:
    rows = [
        {"time": 1, "key": b"ab", "op": "read", "size": 0},
        {"time": 2, "key": b"c", "op": "write", "size": None},
    ]
    changes = [
        (0, "time", 0),
        (0, "key", b"a"),
        (0, "op", "write"),
        (0, "size", None),
        (1, "size", 0),
    ]
    sums = {content_checksum(pa.Table.from_pylist(rows, ACCESS))}
    for row, name, value in changes:
        changed = [dict(each) for each in rows]
        changed[row][name] = value
        sums.add(content_checksum(pa.Table.from_pylist(changed, ACCESS)))
    # The same bytes, cut into keys elsewhere.
    shifted = [{**rows[0], "key": b"a"}, {**rows[1], "key": b"bc"}]
    sums.add(content_checksum(pa.Table.from_pylist(shifted, ACCESS)))
    assert len(sums) == 2 + len(changes)


def test_a_checksum_of_another_table_is_refused() -> None:
    with pytest.raises(InvalidInput):
        content_checksum(pa.table({"a": [1]}))
