"""Rows before the cutoff go, exactly these; others appending meanwhile lose nothing."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import islice

import pyarrow as pa
import pytest
from unit.test_catalog_faults import Crash, FaultyStore, create, numbers, reopen

from workbench.catalog.catalog import Registration, Write
from workbench.catalog.expire import expire, preview
from workbench.catalog.registry import Change
from workbench.catalog.upkeep import remove
from workbench.errors import Corruption, InvalidArgument, InvalidInput, NotFound, Unavailable
from workbench.model.manifest import ObjectRef
from workbench.stores.memory import MemoryStore

TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema([pa.field("at", TIME, nullable=False), pa.field("n", pa.int64())])
DAY = datetime(2026, 3, 4, tzinfo=UTC)
NOON = timedelta(hours=12)


def days(first: int, last: int) -> pa.Table:
    """Return two rows a day, at midnight and at noon, numbered from 2 · first on."""
    times = [DAY + timedelta(days=d) + NOON * h for d in range(first, last) for h in range(2)]
    return pa.table({"at": pa.array(times, TIME), "n": range(2 * first, 2 * last)}, schema=SCHEMA)


@pytest.fixture
def store():
    return FaultyStore(MemoryStore())


@pytest.fixture
def catalog(store):
    catalog = create(store)
    catalog.commit([Write("a", days(0, 4), properties={"keep": "x"}, time_column="at")])
    return catalog


def run(catalog, cutoff, name="a", **options):
    with catalog.keeping() as keeper:
        return expire(keeper, name, cutoff, **options)


def values(catalog, name="a"):
    return sorted(catalog.read(name)["n"].to_pylist())


def test_whole_days_go_without_being_read(catalog, store):
    store.calls.clear()
    done = run(catalog, DAY + timedelta(days=2))
    assert (done.objects, done.rewritten, done.rows, done.rows_left) == (2, 0, 4, 4)
    opened = {key for operation, key in store.calls if operation == "get" and "data/" in key}
    assert opened <= {ref.key for ref in catalog.get("a").objects}
    assert values(catalog) == [4, 5, 6, 7]
    assert catalog.get("a").row_count == 4
    assert catalog.get("a").properties == {"keep": "x", "time_column": "at"}
    assert reopen(store).verify() == []


def test_the_object_across_the_cutoff_keeps_what_is_not_older(catalog):
    cutoff = DAY + timedelta(days=1) + NOON
    done = run(catalog, cutoff)
    assert (done.objects, done.rewritten, done.rows) == (1, 1, 3)
    assert values(catalog) == [3, 4, 5, 6, 7]
    assert catalog.get("a").objects[0].time_min == cutoff
    assert run(catalog, cutoff).empty


def test_a_row_at_the_cutoff_stays(catalog):
    cutoff = DAY + timedelta(microseconds=1)
    run(catalog, cutoff)
    assert values(catalog) == list(range(1, 8))
    assert run(catalog, DAY + NOON).empty


def test_where_nothing_is_old_nothing_is_written(catalog):
    seq = catalog.seq
    assert run(catalog, DAY).empty
    assert catalog.seq == seq


def test_where_all_is_old_one_empty_object_keeps_the_columns(catalog, store):
    done = run(catalog, DAY + timedelta(days=99))
    assert (done.rows, done.rows_left) == (8, 0)
    assert catalog.read("a").equals(SCHEMA.empty_table())
    assert run(catalog, DAY + timedelta(days=99)).empty
    catalog.commit([Write("a", days(9, 10), "append", time_column="at", expected_rows=0)])
    assert values(reopen(store)) == [18, 19]


def test_objects_without_bounds_are_read_and_get_some(catalog):
    catalog.commit([Write("b", days(0, 3))])
    catalog.commit([Write("b", days(3, 4), "append", time_column="at")])
    done = run(catalog, DAY + NOON, "b")
    assert (done.objects, done.rewritten, done.rows) == (0, 1, 1)
    assert values(catalog, "b") == list(range(1, 8))
    assert all(ref.time_min for ref in catalog.get("b").objects)


def test_objects_without_bounds_and_without_old_rows_leave_nothing_behind(catalog, store):
    catalog.commit([Write("b", days(5, 6))])
    catalog.commit([Write("b", days(6, 7), "append", time_column="at")])
    before = store.inner.list_after("data/"), catalog.seq
    assert run(catalog, DAY + timedelta(days=1), "b").empty
    assert (store.inner.list_after("data/"), catalog.seq) == before


def test_a_preview_says_what_goes_and_writes_nothing(catalog, store):
    store.calls.clear()
    found = preview(catalog.get("a"), DAY + timedelta(days=2))
    assert (found.objects, found.rewritten, found.rows, found.rows_left) == (2, 0, 4, 4)
    found = preview(catalog.get("a"), DAY + timedelta(days=2) + NOON)
    assert (found.objects, found.rewritten, found.rows, found.rows_left) == (2, 1, None, None)
    assert store.calls == []


def test_a_dataset_without_a_time_column_is_refused(catalog):
    catalog.commit([Write("plan/x", numbers(1))])
    with pytest.raises(InvalidArgument, match="no time column") as caught:
        run(catalog, DAY, "plan/x")
    assert caught.value.code == "dataset_without_time"
    with pytest.raises(NotFound):
        run(catalog, DAY, "absent")


def test_properties_are_counted_anew_on_what_stays(catalog):
    run(
        catalog,
        DAY + timedelta(days=3) + NOON,
        properties_of=lambda data: {"rows": str(data.count_rows())},
    )
    assert catalog.get("a").properties == {"keep": "x", "time_column": "at", "rows": "1"}


def interleave(store, action):
    done = []

    def fault(called, key):
        if called == "put" and "/log/" in key and not done:
            done.append(True)
            action()

    store.fault = fault


def test_an_append_meanwhile_stays_and_is_counted(catalog, store):
    other = reopen(store.inner, seed=9)
    table = days(4, 5)
    interleave(store, lambda: other.commit([Write("a", table, "append", time_column="at")]))
    run(
        catalog,
        DAY + timedelta(days=3) + NOON,
        properties_of=lambda data: {"rows": str(data.count_rows())},
    )
    assert values(catalog) == [7, 8, 9]
    assert catalog.get("a").row_count == 3
    assert catalog.get("a").properties["rows"] == "3"


def test_one_whose_dataset_changes_again_and_again_leaves_it(catalog, store):
    other = reopen(store.inner, seed=9)

    def meddle(called, key):
        if called == "put" and "/log/" in key:
            other.commit([Write("a", days(4, 5), "append", time_column="at")])

    store.fault = meddle
    with pytest.raises(Unavailable) as caught:
        run(catalog, DAY + timedelta(days=1))
    assert caught.value.code == "catalog_busy"
    assert set(range(8)) <= set(values(reopen(store.inner)))


def test_a_changed_object_across_the_cutoff_is_found(catalog, store):
    ref = catalog.get("a").objects[0]
    data = bytearray(store.inner.get(ref.key))
    data[20] ^= 1
    store.inner.delete(ref.key)
    store.inner.put_if_absent(ref.key, bytes(data))
    with pytest.raises(Corruption, match=ref.key):
        run(catalog, DAY + NOON)
    assert catalog.get("a").row_count == 8


def test_killed_at_any_store_call_the_old_rows_are_all_there_or_all_gone(store):
    cutoff = DAY + timedelta(days=1) + NOON
    for number in range(40):
        store = FaultyStore(MemoryStore())
        catalog = create(store)
        catalog.commit([Write("a", days(0, 4), time_column="at")])
        calls = []

        def fault(operation, key, number=number, calls=calls):
            calls.append(operation)
            return "crash_after" if len(calls) > number else None

        store.fault = fault
        try:
            run(catalog, cutoff)
        except Crash:
            ended = False
        else:
            ended = True
        again = reopen(store.inner, seed=5)
        assert again.verify() == []
        assert values(again) in (list(range(8)), [3, 4, 5, 6, 7])
        run(again, cutoff)
        assert values(again) == [3, 4, 5, 6, 7]
        if ended:
            assert number > 3
            return
    pytest.fail("it never ran through")


# --- removal


def test_removed_datasets_are_gone_whole_and_their_name_is_free(catalog, store):
    catalog.commit([Write("b", numbers(1))])
    with catalog.keeping() as keeper:
        gone = remove(keeper, ["a", "b"])
    assert [manifest.row_count for manifest in gone] == [8, 1]
    assert catalog.list() == reopen(store).list() == []
    catalog.commit([Write("a", numbers(7), "create")])
    assert reopen(store).read("a")["n"].to_pylist() == [7]
    assert reopen(store).verify() == []


def test_one_absent_dataset_and_none_is_removed(catalog):
    with catalog.keeping() as keeper, pytest.raises(NotFound) as caught:
        remove(keeper, ["a", "absent"])
    assert caught.value.code == "dataset_absent"
    assert values(catalog) == list(range(8))


def test_a_dataset_of_very_many_objects_can_be_removed(catalog):
    names = (hashlib.sha256(b"%d" % n).hexdigest() for n in range(30_000))
    for _ in range(6):
        refs = tuple(ObjectRef(f"x/{name}", 1) for name in islice(names, 5_000))
        with catalog.keeping() as keeper:
            keeper.change(keeper.begin(), [Change(Registration("many", "f", refs), append=True)])
    assert len(catalog.get("many").objects) == 30_000
    with pytest.raises(InvalidInput, match="compact"):
        catalog.register([Registration("many", "f", catalog.get("many").objects, 1)])
    with catalog.keeping() as keeper:
        remove(keeper, ["many"])
    assert [m.name for m in catalog.list()] == ["a"]
