"""Small objects become few; no row more or less, no append lost, and one compaction wins."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.test_catalog_faults import Crash, FaultyStore, create, numbers, once, reopen

from workbench.catalog import compact as module
from workbench.catalog import merging
from workbench.catalog.catalog import Registration, Write
from workbench.catalog.compact import compact, plan_bins, preview, small_objects
from workbench.catalog.parquet import Layout
from workbench.errors import Conflict, Corruption, NotFound, Unavailable
from workbench.model.manifest import ObjectRef, schema_fingerprint
from workbench.model.tables import VERSION
from workbench.stores.memory import MemoryStore

TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema([pa.field("at", TIME, nullable=False), pa.field("n", pa.int64())])
DAY = datetime(2026, 3, 4, tzinfo=UTC)


def at(day: int, minute: int, n: int = 0) -> pa.Table:
    time = DAY + timedelta(days=day, minutes=minute)
    return pa.table({"at": pa.array([time], TIME), "n": [n]}, schema=SCHEMA)


@pytest.fixture
def store():
    return FaultyStore(MemoryStore())


@pytest.fixture
def catalog(store):
    return create(store)


def append(catalog, table, name="a", column="at"):
    catalog.commit([Write(name, table, "append", time_column=column)])


def run(catalog, name="a", **options):
    with catalog.keeping() as keeper:
        return compact(keeper, name, **options)


def content(catalog, name="a") -> Counter:
    return Counter(tuple(row.values()) for row in catalog.read(name).to_pylist())


# --- what is merged


def test_objects_of_one_day_become_one_sorted_object_with_its_bounds(catalog, store):
    for minute in (3, 1, 2):
        append(catalog, at(0, minute, minute))
    before = content(catalog)
    done = run(catalog)
    [ref] = catalog.get("a").objects
    assert catalog.read("a")["n"].to_pylist() == [1, 2, 3]
    assert (ref.rows, ref.time_min, ref.time_max) == (
        3,
        DAY + timedelta(minutes=1),
        DAY + timedelta(minutes=3),
    )
    assert (done.objects_before, done.merged, done.objects, done.records) == (3, 3, 1, 1)
    assert content(catalog) == before
    assert catalog.get("a").row_count == 3
    assert reopen(store).verify() == []


def test_rows_of_the_same_time_stay_as_they_came(catalog):
    for n in (5, 4, 9, 1):
        append(catalog, at(0, 0, n))
    run(catalog)
    assert catalog.read("a")["n"].to_pylist() == [5, 4, 9, 1]


def test_days_stay_apart_and_keep_their_order(catalog):
    for day in (1, 0, 1, 0):
        append(catalog, at(day, 0, day))
    run(catalog)
    assert [ref.rows for ref in catalog.get("a").objects] == [2, 2]
    assert catalog.read("a")["n"].to_pylist() == [1, 1, 0, 0]
    assert catalog.dataset("a", since=DAY + timedelta(days=1)).count_rows() == 2


def test_without_a_time_column_the_newest_row_stays_the_last(catalog):
    for n in (7, 3, 5):
        append(catalog, numbers(n), "lease/a", None)
    run(catalog, "lease/a")
    [ref] = catalog.get("lease/a").objects
    assert catalog.read("lease/a")["n"].to_pylist() == [7, 3, 5]
    assert (ref.rows, ref.time_min) == (3, None)
    with pytest.raises(Conflict):
        catalog.commit([Write("lease/a", numbers(1), "append", expected_rows=2)])
    catalog.commit([Write("lease/a", numbers(1), "append", expected_rows=3)])


def test_runs_of_small_objects_are_merged_around_a_large_one(catalog):
    large = numbers(*range(3_000))
    for table in (numbers(1), numbers(2), large, numbers(3), numbers(4), numbers(5)):
        append(catalog, table, column=None)
    order = catalog.read("a")
    target = max(ref.size for ref in catalog.get("a").objects)
    kept = catalog.get("a").objects[2]
    run(catalog, target_bytes=target)
    assert [ref.rows for ref in catalog.get("a").objects] == [2, 3_000, 3]
    assert catalog.get("a").objects[1] == kept
    assert catalog.read("a").equals(order)


def test_merging_stops_at_the_target_size_and_what_is_made_is_not_merged_again(catalog):
    for day in range(2):
        for minute in range(12):
            append(catalog, at(day, minute, minute))
    size = catalog.get("a").objects[0].size
    done = run(catalog, target_bytes=4 * size)
    assert done.objects_before == 24
    assert done.objects == len(catalog.get("a").objects) < 24
    assert sum(content(catalog).values()) == 24
    assert run(catalog, target_bytes=4 * size).records == 0


def test_a_full_buffer_is_sorted_and_written_before_the_rest_is_read(catalog, monkeypatch):
    monkeypatch.setattr(merging.Merger.__init__, "__kwdefaults__", {"buffer_bytes": 40})
    for minute in (4, 3, 2, 1, 0):
        append(catalog, at(0, minute, minute))
    before = content(catalog)
    run(catalog)
    [ref] = catalog.get("a").objects
    assert content(catalog) == before
    assert (ref.time_min, ref.time_max) == (DAY, DAY + timedelta(minutes=4))


def test_objects_without_bounds_are_cut_into_days(catalog):
    catalog.commit([Write("a", pa.concat_tables([at(1, 0, 1), at(0, 0, 0), at(1, 5, 2)]))])
    append(catalog, at(0, 1, 3))
    run(catalog)
    found = [(ref.rows, ref.time_min) for ref in catalog.get("a").objects]
    assert found == [(2, DAY), (2, DAY + timedelta(days=1))]
    assert catalog.read("a")["n"].to_pylist() == [0, 3, 1, 2]


def test_one_object_without_bounds_whose_bytes_stay_the_same_gets_bounds(catalog):
    catalog.commit([Write("a", at(0, 0))])
    catalog.commit([Write("a", at(0, 0).slice(0, 0), "append", time_column="at")])
    run(catalog)
    [ref] = catalog.get("a").objects
    assert ref.time_min == DAY
    assert run(catalog).records == 0


def test_objects_without_any_row_leave_one_that_keeps_the_columns(catalog):
    empty = at(0, 0).slice(0, 0)
    catalog.commit([Write("a", empty, time_column="at")])
    [ref] = catalog.get("a").objects
    twice = Registration("b", schema_fingerprint(SCHEMA), (ref, ref), 0)
    catalog.commit([Write("c", empty)])
    other = catalog.get("c").objects[0]
    both = Registration("d", schema_fingerprint(SCHEMA), (ref, other), 0)
    catalog.register([twice, both])
    assert plan_bins(catalog.get("b")) == ()  # one key twice: not ours to understand
    run(catalog, "d")
    assert [each.rows for each in catalog.get("d").objects] == [0]
    assert catalog.read("d").equals(empty)


def test_exports_declared_orders_and_objects_of_others_stay(catalog, store):
    version = VERSION.empty_table()
    for _ in range(2):
        [made] = catalog.commit([Write("x", version, "append")])
    refs = (made.manifest.objects[0], ObjectRef("elsewhere/b.parquet", 10))
    catalog.register(
        [
            Registration("export", schema_fingerprint(VERSION), refs, 0),
            Registration("foreign", "f", tuple(ObjectRef(f"x/{i}", 1) for i in range(9))),
        ]
    )
    assert plan_bins(catalog.get("export")) == ()
    assert plan_bins(catalog.get("foreign")) == ()
    layout = Layout(sorted_by=(("n", False),))
    for n in range(2):
        catalog.commit([Write("sorted", numbers(n), "append", layout=layout)])
    with pytest.raises(Conflict) as caught:
        run(catalog, "sorted")
    assert caught.value.code == "dataset_laid_out"
    assert len(catalog.get("sorted").objects) == 2
    assert reopen(store).read("sorted")["n"].to_pylist() == [0, 1]


def test_a_preview_says_what_would_be_read_and_writes_nothing(catalog, store):
    for minute in range(3):
        append(catalog, at(0, minute))
    store.calls.clear()
    found = preview(catalog.get("a"))
    assert (found.merged, found.made_bytes, found.objects) == (3, None, 3)
    assert found.merged_bytes == sum(ref.size for ref in catalog.get("a").objects)
    assert small_objects(catalog.get("a")) == 3
    assert store.calls == []


def test_an_absent_dataset_is_not_found(catalog):
    with pytest.raises(NotFound) as caught:
        run(catalog)
    assert caught.value.code == "dataset_absent"


def test_schema_metadata_types_and_nulls_come_through(catalog):
    schema = pa.schema(
        [
            pa.field("at", TIME, nullable=False),
            pa.field("keys", pa.list_(pa.field("item", pa.binary(), nullable=False))),
            pa.field("kind", pa.dictionary(pa.int32(), pa.string())),
            pa.field("cost", pa.decimal128(12, 3)),
        ],
        metadata={"source": "test"},
    )
    for minute in range(3):
        row = {"at": DAY + timedelta(minutes=minute), "keys": [b"a"], "kind": f"k{minute}"}
        append(catalog, pa.Table.from_pylist([row | {"cost": None}], schema=schema))
    before = catalog.read("a").to_pylist()
    run(catalog)
    after = catalog.read("a")
    assert after.to_pylist() == before
    assert after.schema.equals(schema, check_metadata=True)


def test_what_is_made_has_page_checksums(catalog, store):
    for minute in range(2):
        append(catalog, at(0, minute))
    run(catalog)
    data = store.inner.get(catalog.get("a").objects[0].key)
    column = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(1)
    end = column.dictionary_page_offset + column.total_compressed_size
    changed = data[: end - 1] + bytes([data[end - 1] ^ 1]) + data[end:]
    with pytest.raises(OSError, match="CRC checksum verification failed"):
        pq.ParquetFile(pa.BufferReader(changed), page_checksum_verification=True).read()


# --- others at work


def interleave(store, action, operation="put", part="/log/"):
    """Run `action` once, just before the first such call."""
    done = []

    def fault(called, key):
        if called == operation and part in key and not done:
            done.append(True)
            action()

    store.fault = fault


def test_what_is_appended_meanwhile_stays(catalog, store):
    for minute in range(3):
        append(catalog, at(0, minute, minute))
    other = reopen(store.inner, seed=9)
    interleave(store, lambda: append(other, at(0, 9, 9)))
    done = run(catalog)
    assert [ref.rows for ref in catalog.get("a").objects] in ([4], [3, 1])
    assert sorted(catalog.read("a")["n"].to_pylist()) == [0, 1, 2, 9]
    assert catalog.get("a").row_count == 4
    assert done.merged >= 3


def test_of_two_compactions_one_wins_and_the_other_plans_anew(catalog, store):
    for minute in range(4):
        append(catalog, at(0, minute, minute))
    other = reopen(store.inner, seed=9)
    interleave(store, lambda: run(other))
    done = run(catalog)
    assert (done.merged, done.records) == (0, 0)
    assert len(catalog.get("a").objects) == 1
    assert catalog.read("a")["n"].to_pylist() == [0, 1, 2, 3]
    kept = {ref.key for ref in catalog.get("a").objects}
    uploads = set(store.inner.list_after("data/"))
    assert len(uploads - kept) == 4, "the loser's upload is gone, the old objects are not"


def test_a_dataset_that_is_replaced_meanwhile_is_not_brought_back(catalog, store):
    for minute in range(3):
        append(catalog, at(0, minute))
    other = reopen(store.inner, seed=9)
    interleave(store, lambda: other.commit([Write("a", at(5, 5, 5), time_column="at")]))
    run(catalog)
    assert catalog.read("a")["n"].to_pylist() == [5]


def test_one_that_loses_again_and_again_leaves_it(catalog, store):
    append(catalog, at(0, 0))
    append(catalog, at(0, 1))
    other = reopen(store.inner, seed=9)
    minute = iter(range(2, 100))

    def meddle(called, key):
        if called == "put" and "/log/" in key:
            run(other)
            append(other, at(0, next(minute)))

    store.fault = meddle
    with pytest.raises(Unavailable) as caught:
        run(catalog)
    assert caught.value.code == "catalog_busy"
    assert sum(content(reopen(store.inner)).values()) == next(minute)


# --- faults


def test_a_changed_input_is_found_and_nothing_is_merged(catalog, store):
    for minute in range(3):
        append(catalog, at(0, minute))
    ref = catalog.get("a").objects[1]
    data = bytearray(store.inner.get(ref.key))
    data[20] ^= 1
    store.inner.delete(ref.key)
    store.inner.put_if_absent(ref.key, bytes(data))
    before = catalog.get("a")
    with pytest.raises(Corruption, match=ref.key):
        run(catalog)
    assert reopen(store).get("a") == before
    assert len(store.inner.list_after("data/")) == 3


def test_objects_with_other_rows_than_registered_are_not_merged(catalog, store):
    for minute in range(2):
        append(catalog, at(0, minute))
    one, two = catalog.get("a").objects
    fields = (one.key, one.size, one.sha256, 7, one.time_min, one.time_max)
    catalog.register(
        [
            Registration(
                "a", schema_fingerprint(SCHEMA), (ObjectRef(*fields), two), 8, {"time_column": "at"}
            )
        ]
    )
    with pytest.raises(Corruption) as caught:
        run(catalog)
    assert caught.value.code == "object_rows_mismatch"


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        *((part, fault) for part in ("data/", "/log/") for fault in ("landed", "lost")),
        ("data/", "landed_false"),
        ("/log/", "landed_false"),
        ("/log/", "landed_storage"),
    ],
)
def test_lost_answers_merge_once(catalog, store, part, fault):
    for minute in range(3):
        append(catalog, at(0, minute, minute))
    store.fault = once("put", part, fault)
    run(catalog)
    again = reopen(store.inner)
    assert again.read("a")["n"].to_pylist() == [0, 1, 2]
    assert len(again.get("a").objects) == 1
    assert again.verify() == []


def test_killed_at_any_store_call_all_rows_are_there_and_the_next_run_goes_on():
    for number in range(40):
        store = FaultyStore(MemoryStore())
        catalog = create(store)
        for minute in range(3):
            append(catalog, at(0, minute, minute))
        calls = []

        def fault(operation, key, number=number, calls=calls):
            calls.append(operation)
            return "crash_after" if len(calls) > number else None

        store.fault = fault
        try:
            run(catalog)
        except Crash:
            ended = False
        else:
            ended = True
        again = reopen(store.inner, seed=5)
        assert again.verify() == []
        assert again.read("a")["n"].to_pylist() == [0, 1, 2]
        run(again)
        assert len(again.get("a").objects) == 1
        if ended:
            assert number > 4
            return
    pytest.fail("it never ran through")


def test_work_is_committed_in_pieces_and_told(catalog, monkeypatch):
    for day in range(3):
        for minute in range(2):
            append(catalog, at(day, minute))
    monkeypatch.setattr(module, "RECORD_BYTES", 1)
    told = []
    done = run(catalog, told=lambda *numbers: told.append(numbers))
    assert (done.records, done.merged, done.objects) == (3, 6, 3)
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] == done.merged_bytes
