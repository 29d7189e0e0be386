"""Rows are cut at days, and what cannot hold the time asked for is not opened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from unit.test_catalog_faults import FaultyStore, create, numbers, reopen

from workbench.catalog.catalog import Registration, Write
from workbench.catalog.partitions import PERIODS_MAX, cut
from workbench.errors import Conflict, Corruption, InvalidArgument, InvalidInput
from workbench.model.manifest import schema_fingerprint
from workbench.model.times import from_us
from workbench.stores.memory import MemoryStore

TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema([pa.field("at", TIME, nullable=False), pa.field("n", pa.int64())])
DAY = datetime(2026, 3, 4, tzinfo=UTC)


def rows(*times: datetime) -> pa.Table:
    return pa.table({"at": pa.array(times, TIME), "n": range(len(times))}, schema=SCHEMA)


def days(number: int, per_day: int = 2) -> pa.Table:
    return rows(*(DAY + timedelta(days=d, hours=h) for d in range(number) for h in range(per_day)))


@pytest.fixture
def store():
    return FaultyStore(MemoryStore())


@pytest.fixture
def catalog(store):
    return create(store)


def write(catalog, table, name="a", **options):
    [answer] = catalog.commit([Write(name, table, time_column="at", **options)])
    return answer.manifest


def test_rows_become_one_object_per_utc_day_with_rows_and_inclusive_bounds(catalog):
    manifest = write(catalog, days(3))
    hour = timedelta(hours=1)
    assert [(o.rows, o.time_min, o.time_max) for o in manifest.objects] == [
        (2, DAY + timedelta(days=d), DAY + timedelta(days=d) + hour) for d in range(3)
    ]
    assert manifest.row_count == 6
    assert manifest.properties["time_column"] == "at"
    assert catalog.read("a").equals(days(3))


def test_midnight_belongs_to_the_day_that_begins_and_its_eve_to_the_other(catalog):
    eve = DAY - timedelta(microseconds=1)
    manifest = write(catalog, rows(eve, DAY))
    assert [(o.time_min, o.time_max) for o in manifest.objects] == [(eve, eve), (DAY, DAY)]


def test_days_before_1970_are_days_too(catalog):
    before, after = from_us(-1), from_us(0)
    manifest = write(catalog, rows(after, before))
    assert [o.time_min for o in manifest.objects] == [before, after]


def test_rows_out_of_order_are_put_into_days_and_stay_in_order_within_one(catalog):
    late, noon = DAY + timedelta(days=1), DAY + timedelta(hours=12)
    write(catalog, rows(late, noon, DAY, late))
    assert catalog.read("a")["n"].to_pylist() == [1, 2, 0, 3]


def test_very_many_days_share_objects():
    length = 10 * PERIODS_MAX
    table = rows(*(DAY + timedelta(days=d) for d in range(length)))
    periods = cut("a", table, "at")
    assert PERIODS_MAX // 2 < len(periods) <= PERIODS_MAX + 1
    assert sum(p.table.num_rows for p in periods) == length
    assert all(p.time_min <= p.time_max for p in periods)
    assert all(a.time_max < b.time_min for a, b in pairwise(periods))


def test_no_rows_become_one_object_without_bounds(catalog):
    manifest = write(catalog, rows())
    assert [(o.rows, o.time_min) for o in manifest.objects] == [(0, None)]
    assert catalog.dataset("a", since=DAY).count_rows() == 0


def test_without_a_time_column_rows_stay_together_and_are_counted(catalog):
    [answer] = catalog.commit([Write("a", days(3))])
    [ref] = answer.manifest.objects
    assert (ref.rows, ref.time_min, ref.time_max) == (6, None, None)
    assert "time_column" not in answer.manifest.properties


def test_the_same_rows_written_again_are_there_already(catalog):
    write(catalog, days(3))
    [again] = catalog.commit([Write("a", days(3), time_column="at")])
    assert not again.written


@pytest.mark.parametrize(
    ("table", "column", "reason"),
    [
        (days(1), "when", "there is none; the table has at, n"),
        (days(1), "n", "of type int64"),
        (pa.table({"at": pa.array([0], pa.timestamp("ms", "UTC"))}), "at", "timestamp"),
        (pa.table({"at": pa.array([0], pa.timestamp("us"))}), "at", "timestamp"),
        (pa.table({"at": pa.array([0, None], TIME)}), "at", "1 nulls"),
        (pa.table({"at": pa.array([2**62], TIME)}), "at", "no calendar"),
    ],
)
def test_a_column_that_cannot_cut_is_refused_and_nothing_is_written(catalog, table, column, reason):
    with pytest.raises(InvalidInput, match=reason) as caught:
        catalog.commit([Write("a", table, time_column=column)])
    assert caught.value.code == "time_column_invalid"
    assert catalog.list() == []


def test_a_property_that_names_another_column_is_refused(catalog):
    with pytest.raises(InvalidArgument, match="time_column"):
        write(catalog, days(1), properties={"time_column": "n"})


def test_an_append_that_is_cut_by_another_column_is_refused(catalog):
    table = days(1).append_column(pa.field("other", TIME), days(1)["at"])
    write(catalog, table)
    with pytest.raises(Conflict) as caught:
        catalog.commit([Write("a", table, "append", time_column="other")])
    assert caught.value.code == "time_column_changed"
    catalog.commit([Write("a", table, "replace", time_column="other")])


def read_keys(store) -> set[str]:
    return {key for operation, key in store.calls if operation == "get" and "data/" in key}


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (0, None, [0, 1, 2]),
        (None, None, [0, 1, 2]),
        (1, None, [1, 2]),
        (None, 1, [0]),
        (1, 2, [1]),
        (5, None, []),
        (None, 0, []),
    ],
)
def test_only_objects_of_the_time_asked_for_are_opened(catalog, store, since, until, expected):
    manifest = write(catalog, days(3))
    store.calls.clear()
    times = [None if day is None else DAY + timedelta(days=day) for day in (since, until)]
    dataset = catalog.dataset("a", since=times[0], until=times[1])
    opened = read_keys(store)
    if expected:
        assert opened == {manifest.objects[day].key for day in expected}
    assert len(dataset.to_table()) == 2 * len(expected)
    assert dataset.schema.equals(SCHEMA)


def test_bounds_are_inclusive_and_until_is_not(catalog):
    write(catalog, days(1))
    last = DAY + timedelta(hours=1)
    instant = timedelta(microseconds=1)
    assert catalog.dataset("a", since=last).count_rows() == 2
    assert catalog.dataset("a", since=last + instant).count_rows() == 0
    assert catalog.dataset("a", until=DAY).count_rows() == 0
    assert catalog.dataset("a", until=DAY + instant).count_rows() == 2


def test_a_filter_that_comes_later_leaves_objects_out_too(catalog):
    write(catalog, days(30))
    dataset = catalog.dataset("a")
    wanted = ds.field("at") >= pa.scalar(DAY + timedelta(days=29), TIME)
    assert len(list(dataset.get_fragments(filter=wanted))) == 1
    assert dataset.to_table(filter=wanted).num_rows == 2
    assert dataset.count_rows() == 60


def test_objects_without_bounds_are_always_opened(catalog):
    catalog.commit([Write("a", days(1))])  # as a format 1 catalog has them
    write(catalog, days(1), mode="append")
    assert len(catalog.get("a").objects) == 2
    assert catalog.dataset("a", since=DAY + timedelta(days=9)).count_rows() == 2


def test_datasets_without_a_time_column_are_never_pruned(catalog):
    catalog.commit([Write("a", numbers(1, 2))])
    assert catalog.dataset("a", since=DAY, until=DAY).count_rows() == 2


def test_bounds_of_registered_objects_count_for_the_column_that_they_name(catalog, store):
    manifest = write(catalog, days(2), name="source")
    fingerprint = schema_fingerprint(SCHEMA)
    catalog.register(
        [
            Registration("plain", fingerprint, manifest.objects, 4),
            Registration("timed", fingerprint, manifest.objects, 4, {"time_column": "at"}),
        ]
    )
    later = DAY + timedelta(days=1)
    assert reopen(store).dataset("plain", since=later).count_rows() == 4
    assert reopen(store).dataset("timed", since=later).count_rows() == 2


def test_thousands_of_small_objects_are_read_in_waves_and_a_missing_one_is_named(catalog, store):
    manifest = write(catalog, days(PERIODS_MAX, per_day=1))
    waves = []
    get_many = store.get_many
    store.get_many = lambda keys: waves.append(len(keys)) or get_many(keys)
    assert catalog.dataset("a", hashed=True).count_rows() == PERIODS_MAX
    assert waves == [256, PERIODS_MAX - 256]
    store.inner.delete(manifest.objects[300].key)
    with pytest.raises(Corruption, match=manifest.objects[300].key) as caught:
        catalog.dataset("a")
    assert caught.value.code == "object_missing"


def test_an_object_changed_behind_a_wave_is_found_by_size_and_by_hash(catalog, store):
    [ref] = write(catalog, days(1)).objects
    data = store.inner.get(ref.key)
    store.inner.delete(ref.key)
    store.inner.put_if_absent(ref.key, data[:-1])
    with pytest.raises(Corruption, match="bytes, registered are"):
        catalog.dataset("a")
    store.inner.delete(ref.key)
    store.inner.put_if_absent(ref.key, data[:40] + bytes([data[40] ^ 1]) + data[41:])
    with pytest.raises(Corruption, match="SHA-256"):
        catalog.dataset("a", hashed=True)
    with pytest.raises(Corruption, match="SHA-256"):
        catalog.read("a")
