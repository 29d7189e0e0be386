"""Whatever was appended, and however it is merged and expired, the rows are the same ones."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.test_catalog_faults import create, reopen

from workbench.catalog import merging
from workbench.catalog.catalog import Write
from workbench.catalog.compact import compact, plan_bins
from workbench.catalog.expire import expire
from workbench.stores.memory import MemoryStore

TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [pa.field("at", TIME, nullable=False), pa.field("n", pa.int64()), pa.field("key", pa.binary())]
)
START = datetime(2026, 3, 4, 20, tzinfo=UTC)

ROWS = st.lists(
    st.tuples(
        st.integers(0, 80).map(lambda hours: START + timedelta(hours=hours)),
        st.none() | st.integers(-3, 3),
        st.none() | st.binary(max_size=3),
    ),
    max_size=6,
)
APPENDS = st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=8)


def table(rows) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA
    )


def content(catalog) -> Counter:
    return Counter(tuple(row.values()) for row in catalog.read("a").to_pylist())


def check(catalog, expected: Counter) -> None:
    manifest = catalog.get("a")
    assert content(catalog) == expected, "a row came, went or changed"
    assert manifest.row_count == sum(ref.rows or 0 for ref in manifest.objects)
    assert manifest.row_count == sum(expected.values())


def append_all(appends):
    store = MemoryStore()
    catalog = create(store)
    for rows, timed in appends:
        column = "at" if timed else None
        catalog.commit([Write("a", table(rows), "append", time_column=column)])
    return store, catalog


def check_merging(appends, target: int, buffer: int) -> None:
    store, catalog = append_all(appends)
    before, expected = catalog.read("a"), content(catalog)
    merging.Merger.__init__.__kwdefaults__["buffer_bytes"] = buffer
    with catalog.keeping() as keeper:
        compact(keeper, "a", target_bytes=target)
    check(catalog, expected)
    check(reopen(store), expected)
    manifest = catalog.get("a")
    assert plan_bins(manifest, target) == ()
    if "time_column" not in manifest.properties:
        assert catalog.read("a").equals(before), "the order of rows changed"
        return
    for ref in manifest.objects:
        if ref.rows and ref.time_min is not None:
            found = catalog.dataset("a", since=ref.time_min, until=ref.time_min + timedelta(1))
            assert found.count_rows() >= 1
            assert ref.time_min.date() == ref.time_max.date()


@given(
    appends=APPENDS,
    target=st.sampled_from([1, 4_000, 1_000_000]),
    buffer=st.sampled_from([1, 100, 1_000_000]),
)
@settings(deadline=None, max_examples=60)
def test_merging_changes_no_row(appends, target, buffer):
    default = merging.Merger.__init__.__kwdefaults__["buffer_bytes"]
    try:
        check_merging(appends, target, buffer)
    finally:
        merging.Merger.__init__.__kwdefaults__["buffer_bytes"] = default


@given(appends=APPENDS, hours=st.integers(-1, 81), first=st.booleans())
@settings(deadline=None, max_examples=30)
def test_expiring_drops_exactly_what_is_older(appends, hours, first):
    store, catalog = append_all(appends)
    catalog.commit([Write("a", table([]), "append", time_column="at")])
    cutoff = START + timedelta(hours=hours)
    expected = Counter({row: n for row, n in content(catalog).items() if row[0] >= cutoff})
    with catalog.keeping() as keeper:
        if first:
            compact(keeper, "a")
        expire(keeper, "a", cutoff)
    check(catalog, expected)
    check(reopen(store), expected)
    with catalog.keeping() as keeper:
        compact(keeper, "a")
        assert expire(keeper, "a", cutoff).empty
    check(catalog, expected)


def test_rows_of_a_day_stand_by_time_and_else_as_they_came():
    rows = [(START + timedelta(minutes=m), n, None) for n, m in enumerate([5, 1, 5, 0, 1])]
    _, catalog = append_all([([row], True) for row in rows])
    with catalog.keeping() as keeper:
        compact(keeper, "a")
    found = catalog.read("a").to_pylist()
    assert [row["n"] for row in found] == [3, 1, 4, 0, 2]
    assert all(a["at"] <= b["at"] for a, b in pairwise(found))


def test_planted_merger_that_loses_a_row_is_found(monkeypatch):
    original = merging._sorted
    monkeypatch.setattr(merging, "_sorted", lambda table, column: original(table, column)[1:])
    with pytest.raises(AssertionError, match="lost or doubled"):
        check_merging([([(START, 1, None)], True), ([(START, 2, None)], True)], 10**6, 10**6)


def test_planted_merger_that_changes_a_row_is_found(monkeypatch):
    def swapped(rows, column):
        return rows.set_column(1, SCHEMA.field(1), pa.array([7] * len(rows), pa.int64()))

    monkeypatch.setattr(merging, "_sorted", swapped)
    with pytest.raises(AssertionError, match="came, went or changed"):
        check_merging([([(START, 1, None)], True), ([(START, 2, None)], True)], 10**6, 10**6)
