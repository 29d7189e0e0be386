"""Atoms of load windows whose buckets differ: merged where a bound would cut through load."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.model.plan import OBJECTIVES, Limits, Objective
from workbench.model.routes import RouteSnapshot, seed_routes
from workbench.model.tables import LOAD_WINDOW
from workbench.planner.plan import PlanInput, atoms_from_table, make_plan
from workbench.query.engine import run, sql_text
from workbench.query.load import LoadReader, Source

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SINCE, UNTIL = T0 + MINUTE, T0 + 4 * MINUTE
SCORE = OBJECTIVES["score"]
PARAMETERS = {
    "read_weight": SCORE.read_weight,
    "write_weight": SCORE.write_weight,
    "byte_weight": 0,
    "cpu_weight": 0,
    "since": SINCE,
    "until": UNTIL,
}
KEYS = [b"", b"a", b"a\0", b"b", b"ba", b"m", b"m\xff", b"z", b"\xff\xff"]

Bucket = tuple[bytes, bytes | None]
counts = st.sampled_from([None, 0, 0, 0, 1, 7])


@st.composite
def buckets(draw: st.DrawFn) -> Bucket:
    """Draw a bucket; nested and crossing ones come of themselves."""
    start = draw(st.integers(0, len(KEYS) - 1))
    end = draw(st.integers(start + 1, len(KEYS)))
    return KEYS[start], KEYS[end] if end < len(KEYS) else None


rows_of_windows = st.lists(
    st.tuples(st.integers(0, 5), buckets(), st.integers(1, 3), counts, counts), max_size=14
)


def row(window: int, bucket: Bucket, route: int, reads: int | None, writes: int | None):
    return {
        "cluster": "c",
        "window_start": T0 + window * MINUTE,
        "window_end": T0 + (window + 1) * MINUTE,
        "route_id": route,
        "group": 1,
        "bucket_start": bucket[0],
        "bucket_end": bucket[1],
        "reads": reads,
        "writes": writes,
        "read_bytes": 0,
        "write_bytes": 0,
        "coverage": 1.0,
        "error_bound": 0.0,
    }


def reader(rows: list[dict[str, Any]]) -> LoadReader:
    return LoadReader("c", {"load_window": pa.Table.from_pylist(rows, schema=LOAD_WINDOW)})


def atoms(rows: list[dict[str, Any]]) -> list[tuple[bytes, int | None]]:
    answer = reader(rows).atoms(Source.LOAD_WINDOW, SCORE, SINCE, UNTIL).to_pylist()
    return [(each["atom_start"], each["load"]) for each in answer]


def load_of(each: dict[str, Any], objective: Objective = SCORE) -> int | None:
    if each["reads"] is None or each["writes"] is None:
        return None
    return objective.read_weight * each["reads"] + objective.write_weight * each["writes"]


def inside(key: bytes, each: dict[str, Any]) -> bool:
    """Tell whether a cut at `key` would go through this bucket."""
    end = each["bucket_end"]
    return each["bucket_start"] < key and (end is None or key < end)


def oracle(rows: list[dict[str, Any]]) -> list[tuple[bytes, int | None]]:
    mine = [each for each in rows if SINCE <= each["window_start"] < UNTIL]
    loaded = [each for each in mine if load_of(each) != 0]
    starts = sorted({each["bucket_start"] for each in mine})
    legal = [start for start in starts if not any(inside(start, each) for each in loaded)]
    sums: dict[bytes, int | None] = {}
    for each in mine:
        island = max(start for start in legal if start <= each["bucket_start"])
        load, so_far = load_of(each), sums.get(island, 0)
        sums[island] = None if load is None or so_far is None else so_far + load
    return sorted(sums.items())


@settings(max_examples=100, deadline=None)
@given(rows_of_windows)
def test_atoms_are_islands_of_buckets_with_load_and_every_one_is_a_legal_cut(drawn):
    rows = [row(*each) for each in drawn]
    mine = [each for each in rows if SINCE <= each["window_start"] < UNTIL]
    found = atoms(rows)
    assert found == oracle(rows)
    for key, _ in found:
        assert not any(inside(key, each) for each in mine if load_of(each) != 0)
    if all(load_of(each) is not None for each in mine):
        assert sum(load for _, load in found) == sum(load_of(each) for each in mine)


@settings(max_examples=40, deadline=None)
@given(rows_of_windows)
def test_events_and_atoms_tell_the_same(drawn):
    rows = [row(*each) for each in drawn if None not in each]
    sums: dict[bytes, int] = {}
    for event in reader(rows).events(Source.LOAD_WINDOW, SCORE, SINCE, UNTIL).to_pylist():
        sums[event["key"]] = sums.get(event["key"], 0) + event["load"]
    assert sorted(sums.items()) == atoms(rows)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(KEYS[1:]), max_size=6), st.data())
def test_windows_with_the_same_buckets_give_the_atoms_that_each_bucket_gave(cuts, data):
    bounds = [b"", *sorted(cuts), None]
    rows = [
        row(window, (start, end), 1, data.draw(counts), data.draw(counts))
        for window in range(4)
        for start, end in pairwise(bounds)
    ]
    plain = """
        SELECT bucket_start AS atom_start,
            CASE WHEN count(load) = count(*) THEN CAST(sum(load) AS BIGINT) END AS load
        FROM (
            SELECT bucket_start, $read_weight * reads + $write_weight * writes AS load
            FROM load_window WHERE window_start >= $since AND window_end <= $until
        ) GROUP BY bucket_start ORDER BY bucket_start
    """
    before = run(
        plain,
        reader(rows).data,
        {
            name: value
            for name, value in PARAMETERS.items()
            if name not in {"byte_weight", "cpu_weight"}
        },
    )
    now = reader(rows).atoms(Source.LOAD_WINDOW, SCORE, SINCE, UNTIL)
    assert now.equals(before)


FINE = [(b"", b"b"), (b"b", b"m"), (b"m", None)]


def test_coarse_bucket_with_load_joins_the_fine_ones_below_it():
    rows = [row(1, (b"", None), 1, 5, 0), *(row(2, each, 1, 10, 0) for each in FINE)]
    assert atoms(rows) == [(b"", 35)]


def test_coarse_bucket_without_load_joins_nothing():
    rows = [row(1, (b"", None), 1, 0, 0), *(row(2, each, 1, 10, 0) for each in FINE)]
    assert atoms(rows) == [(b"", 10), (b"b", 10), (b"m", 10)]


def test_coarse_bucket_outside_the_window_joins_nothing():
    rows = [row(0, (b"", None), 1, 5, 0), *(row(2, each, 1, 10, 0) for each in FINE)]
    assert atoms(rows) == [(b"", 10), (b"b", 10), (b"m", 10)]


def test_coarse_bucket_that_was_not_measured_joins_what_it_covers():
    rows = [row(1, (b"a", b"ba"), 1, None, 0), *(row(2, each, 1, 10, 0) for each in FINE)]
    assert atoms(rows) == [(b"", None), (b"m", 10)]


def test_parent_and_children_of_a_split_share_the_parents_bounds():
    parent = [row(1, (b"a", b"b"), 1, 4, 0), row(1, (b"b", b"c"), 1, 6, 0)]
    children = [row(1, (b"a", b"b"), 2, 1, 0), row(1, (b"b", b"c"), 3, 2, 0)]
    assert atoms(parent + children) == [(b"a", 5), (b"b", 8)]


def test_no_split_key_of_a_plan_lies_inside_a_bucket_with_load():
    fine = [(bytes([n]), bytes([n + 1])) for n in range(1, 30)] + [(bytes([30]), None)]
    crossing = (bytes([14]), bytes([18]))
    rows = [row(1, each, 1, 100, 0) for each in fine] + [row(2, crossing, 1, 1, 0)]
    mine = reader(rows)
    given_ = PlanInput(
        cluster="c",
        snapshot=RouteSnapshot(1, seed_routes([]), T0),
        atoms=atoms_from_table(mine.atoms(Source.LOAD_WINDOW, SCORE, SINCE, UNTIL), "bucket"),
        objective=SCORE,
        since=SINCE,
        until=UNTIL,
        limits=Limits(15, 0.0),
        hot_routes=frozenset(),
        evidence=mine.evidence(Source.LOAD_WINDOW, SCORE, SINCE, UNTIL),
    )
    keys = [action.split_key for action in make_plan(given_).actions]
    assert len(keys) >= 7
    assert not any(inside(key, each) for key in keys for each in rows)


def test_replayed_events_lie_at_the_start_of_their_island():
    rows = [row(1, (b"", None), 1, 5, 0), row(2, (b"b", b"m"), 1, 10, 0)]
    events = reader(rows).events(Source.LOAD_WINDOW, SCORE, SINCE, UNTIL).to_pylist()
    assert {each["key"] for each in events} == {b""}


def test_oracle_notices_atoms_that_are_not_merged():
    rows = [row(1, (b"", None), 1, 5, 0), *(row(2, each, 1, 10, 0) for each in FINE)]
    text = sql_text("atoms_of_load_window")
    unmerged = text.replace("max(CASE WHEN is_island THEN bucket_start END)", "max(bucket_start)")
    assert unmerged != text
    answer = run(unmerged, reader(rows).data, PARAMETERS).to_pylist()
    assert [(each["atom_start"], each["load"]) for each in answer] != oracle(rows)
