"""The reader of the old layout: all manifests or none, and a reason for each that is bad."""

from __future__ import annotations

import hashlib
import io
import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.test_catalog_faults import START, create, reopen

from workbench.catalog.legacy import (
    LEGACY_SCHEMA,
    decode_legacy,
    encode_legacy,
    legacy_key,
    missing_objects,
    read_legacy,
    scan_legacy,
)
from workbench.errors import Conflict, Corruption, InvalidInput, NotFound
from workbench.model.manifest import Manifest, ObjectRef, dataset_id_of
from workbench.session import legacy as session
from workbench.stores.local import LocalStore
from workbench.stores.memory import MemoryStore


def manifest(name="sales/2026", **changes):
    fields = {
        "dataset_id": dataset_id_of(name),
        "name": name,
        "schema_fingerprint": "f",
        "objects": (ObjectRef(f"raw/{name}-1", 3), ObjectRef(f"raw/{name}-2", 0)),
        "created_at": START,
        "updated_at": START + timedelta(days=1),
        "row_count": 7,
    }
    return Manifest(**{**fields, **changes})


def old_store(*manifests, store=None):
    store = store or MemoryStore("old")
    for each in manifests:
        store.put_if_absent(legacy_key(each.name), encode_legacy(each))
        for ref in each.objects:
            store.put_if_absent(ref.key, b"x" * ref.size)
    return store


def file_of(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def changed(each=None, **columns):
    """Return a manifest's file with some columns replaced; None drops one."""
    table = pq.read_table(pa.BufferReader(encode_legacy(each or manifest())))
    for name, column in columns.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table if column is None else table.append_column(name, column)
    return file_of(table)


def reason_of(data, key=None):
    with pytest.raises(Corruption) as caught:
        decode_legacy(data, key or legacy_key("sales/2026"))
    assert caught.value.code == "legacy_manifest_corrupt"
    return caught.value.message


# --- one file


def test_a_manifest_comes_back_as_it_was():
    for each in (manifest(), manifest("a", objects=(), row_count=None)):
        assert decode_legacy(encode_legacy(each), legacy_key(each.name)) == (each, [])


def test_columns_are_found_by_name_and_unknown_ones_reported():
    table = pq.read_table(pa.BufferReader(encode_legacy(manifest())))
    table = table.select(list(reversed(table.column_names)))
    table = table.append_column("owner", pa.array(["me"])).append_column("v", pa.array([1]))
    found, unknown = decode_legacy(file_of(table), legacy_key("sales/2026"))
    assert (found, unknown) == (manifest(), ["owner", "v"])


def test_a_missing_row_count_is_not_counted_and_any_other_missing_column_is_named():
    found, _ = decode_legacy(changed(row_count=None), legacy_key("sales/2026"))
    assert found.row_count is None
    for name in LEGACY_SCHEMA.names:
        if name != "row_count":
            assert repr(name) in reason_of(changed(**{name: None}))


def test_wider_types_and_other_units_of_time_are_read():
    wide = pa.large_list(pa.struct([("size", pa.int32()), ("key", pa.large_string())]))
    data = changed(
        name=pa.array(["sales/2026"], pa.large_string()),
        objects=pa.array([[{"key": "k", "size": 4}]], wide),
        created_at=pa.array([START], pa.timestamp("ns", "Europe/Zurich")),
        updated_at=pa.array([datetime(2026, 3, 1)], pa.timestamp("ms")),  # noqa: DTZ001
        row_count=pa.array([5], pa.int32()),
    )
    found, _ = decode_legacy(data, legacy_key("sales/2026"))
    assert found.objects == (ObjectRef("k", 4),)
    assert (found.created_at, found.updated_at) == (START, datetime(2026, 3, 1, tzinfo=UTC))
    assert found.row_count == 5


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"name": pa.array(["../x"])}, "'../x' is not a dataset name"),
        ({"name": pa.array(["other"])}, "holds dataset 'other', whose file is"),
        ({"name": pa.array([None], pa.string())}, "null in name"),
        ({"name": pa.array([7])}, "column 'name' is int64"),
        ({"schema_fingerprint": pa.array([""])}, "empty schema fingerprint"),
        ({"objects": pa.array(["k"])}, "column 'objects' is string"),
        ({"objects": pa.array([[{"key": "k"}]])}, "column 'objects' is list"),
        ({"objects": pa.array([[{"key": "a/../b", "size": 1}]])}, "'a/../b' is not an object key"),
        ({"objects": pa.array([[{"key": "k", "size": -1}]])}, "'k' the size -1"),
        ({"objects": pa.array([[{"key": None, "size": 1}]], LEGACY_SCHEMA.field("objects").type)},
         "null in an object"),
        ({"objects": pa.array([[{"key": "_catalog/v1/FORMAT", "size": 1}]])}, "the catalog's own"),
        ({"updated_at": pa.array([START - timedelta(days=1)])}, "before it was created"),
        ({"updated_at": pa.array(["2026-01-01"])}, "column 'updated_at' is string"),
        ({"row_count": pa.array([-1])}, "row count -1"),
    ],
)  # fmt: skip
def test_a_manifest_that_makes_no_sense_is_refused_with_the_reason(columns, reason):
    assert reason in reason_of(changed(**columns))


def test_an_id_of_another_name_is_named_beside_the_right_one():
    other = uuid.UUID(int=5)
    message = reason_of(changed(dataset_id=pa.array([str(other)])))
    assert str(other) in message
    assert str(dataset_id_of("sales/2026")) in message


def test_two_rows_and_no_parquet_at_all_are_refused():
    table = pq.read_table(pa.BufferReader(encode_legacy(manifest())))
    assert "has 2 rows" in reason_of(file_of(pa.concat_tables([table, table])))
    assert "has 0 rows" in reason_of(file_of(table.slice(0, 0)))
    assert "cannot be read" in reason_of(b"PAR1 is not enough")
    assert "cannot be read" in reason_of(b"")


def test_a_damaged_file_is_refused_or_says_something_and_never_fails_otherwise():
    data = encode_legacy(manifest())
    source = random.Random(7)
    refused = 0
    for _ in range(400):
        at = source.randrange(len(data))
        damaged = data[:at] + bytes([data[at] ^ (1 << source.randrange(8))]) + data[at + 1 :]
        try:
            decode_legacy(damaged, legacy_key("sales/2026"))
        except Corruption:
            refused += 1
    for length in range(0, len(data), 7):
        reason_of(data[:length])
    assert refused > 100


# --- a whole store


def test_all_manifests_come_sorted_by_name():
    manifests = [manifest(name) for name in ("b", "a/b", "a", "z.y-x_1")]
    found = read_legacy(old_store(*manifests))
    assert found.manifests == tuple(sorted(manifests, key=lambda each: each.name))


def test_one_corrupt_manifest_and_nothing_comes_but_the_list_of_all_that_are():
    store = old_store(manifest("a"), manifest("b"), manifest("c"))
    for name in ("b", "c"):
        store.replace(legacy_key(name), b"junk")
    with pytest.raises(Corruption) as caught:
        read_legacy(store)
    assert all(legacy_key(name) in caught.value.message for name in ("b", "c"))
    assert legacy_key("a") not in caught.value.message
    assert caught.value.message.startswith("2 of 3 manifests")
    assert [problem.key for problem in scan_legacy(store).problems] == [
        legacy_key("b"),
        legacy_key("c"),
    ]


def test_what_is_no_manifest_is_reported_and_an_empty_store_is_absent():
    store = old_store(manifest("a"))
    store.put_if_absent("_catalog/manifests/_SUCCESS", b"")
    assert read_legacy(store).unknown_keys == ("_catalog/manifests/_SUCCESS",)
    with pytest.raises(NotFound) as caught:
        read_legacy(MemoryStore())
    assert caught.value.code == "legacy_catalog_absent"


def test_missing_longer_and_shorter_objects_are_all_found_without_reading_them():
    store = old_store(manifest("a"), manifest("b"), manifest("c"))
    store.delete("raw/a-1")
    store.replace("raw/b-1", b"longer")
    store.replace("raw/b-2", b"no longer empty")
    store.replace("raw/c-1", b"s")
    found = missing_objects(store, read_legacy(store).manifests)
    assert [problem.key for problem in found] == ["raw/a-1", "raw/b-1", "raw/b-2", "raw/c-1"]
    assert found[0].reason == "is missing"
    assert found[1].reason == "has 6 bytes, its manifest says 3"


def test_an_object_that_the_listing_does_not_show_is_asked_for():
    class Stale(MemoryStore):
        def list_entries(self, prefix, after=""):
            return []

    store = old_store(manifest("a"), store=Stale())
    assert missing_objects(store, read_legacy(store).manifests) == []
    store.replace("raw/a-1", b"1234")
    [problem] = missing_objects(store, read_legacy(store).manifests)
    assert problem.reason == "has another size, its manifest says 3"


# --- the import


def target():
    store = MemoryStore("new")
    return create(store), store


def test_objects_of_another_store_are_copied_and_hashed_and_the_second_import_writes_nothing():
    source = old_store(manifest("a"), manifest("b", row_count=None))
    catalog, store = target()
    done = session.import_from(source, catalog)
    assert (done.names, done.written) == (("a", "b"), ("a", "b"))
    assert (done.copied, done.copied_bytes, done.found, done.referenced) == (4, 6, 0, 0)
    assert (done.records, catalog.seq) == (1, 1)
    found = catalog.get("a")
    assert (found.dataset_id, found.schema_fingerprint, found.row_count) == (
        dataset_id_of("a"), "f", 7,
    )  # fmt: skip
    assert found.properties["legacy_created_at"] == "2026-01-02T03:04:05.678901Z"
    assert found.properties["legacy_updated_at"] == "2026-01-03T03:04:05.678901Z"
    assert [store.get(ref.key) for ref in found.objects] == [b"xxx", b""]
    assert all(ref.sha256 for ref in found.objects)
    assert catalog.verify() == []
    before = store.list_after("")
    again = session.import_from(source, reopen(store))
    assert (again.written, again.records, again.copied) == ((), 0, 0)
    assert store.list_after("") == before


def test_objects_of_the_same_root_stay_where_they_are():
    store = old_store(manifest("a"))
    catalog = create(store)
    done = session.import_from(store, catalog)
    assert (done.referenced, done.copied) == (2, 0)
    assert [ref.key for ref in catalog.get("a").objects] == ["raw/a-1", "raw/a-2"]
    assert catalog.verify() == []


def test_an_interrupted_import_goes_on_where_it_was():
    source = old_store(*(manifest(f"d/{n}") for n in range(6)))
    catalog, store = target()
    left = 5

    class Breaks(MemoryStore):
        """Another handle on the same objects, which fails after some puts."""

        def __init__(self):
            super().__init__("new")
            self.__dict__.update(store.__dict__)

        def put_if_absent(self, key, data):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return super().put_if_absent(key, data)

    with pytest.raises(KeyboardInterrupt):
        session.import_from(source, reopen(Breaks()))
    assert reopen(store).list() == []
    done = session.import_from(source, catalog)
    assert (done.found, done.copied) == (5, 7)
    assert len(reopen(store).list()) == 6
    assert catalog.verify() == []


def test_a_dry_run_says_what_would_come_and_writes_nothing():
    source = old_store(manifest("a"))
    catalog, store = target()
    before = store.list_after("")
    done = session.import_from(source, catalog, dry_run=True)
    assert (done.written, done.records, done.copied) == (("a",), 0, 0)
    assert store.list_after("") == before


@pytest.mark.parametrize("check", [True, False])
def test_one_missing_object_and_nothing_is_registered(check):
    source = old_store(manifest("a"), manifest("b"))
    source.delete("raw/b-1")
    source.replace("raw/a-1", b"longer")
    catalog, _ = target()
    with pytest.raises(Corruption) as caught:
        session.import_from(source, catalog, check=check)
    assert "raw/b-1: is missing" in caught.value.message
    assert "raw/a-1: has 6 bytes" in caught.value.message
    assert catalog.list() == []


def test_a_dataset_that_holds_something_else_is_never_overwritten():
    source = old_store(manifest("a"), manifest("b"))
    catalog, store = target()
    session.import_from(source, catalog)
    newer = replace(manifest("a"), row_count=8)
    source.replace(legacy_key("a"), encode_legacy(newer))
    before = store.list_after("")
    with pytest.raises(Conflict) as caught:
        session.import_from(source, catalog)
    assert caught.value.code == "import_dataset_differs"
    assert "holds a with" in caught.value.message
    assert store.list_after("") == before


def test_a_copy_that_holds_other_bytes_than_the_source_is_found():
    source = old_store(manifest("a"))
    catalog, store = target()
    other = MemoryStore("old")
    for key in source.list_after(""):
        other.put_if_absent(key, source.get(key))
    other.replace("raw/a-1", b"yyy")
    session.import_from(source, reopen(store))
    fresh = create(MemoryStore("third"))
    for key in store.list_after("data/"):
        fresh.store.put_if_absent(key, store.get(key))
    with pytest.raises(Corruption, match="as other bytes"):
        session.import_from(other, fresh)
    assert fresh.list() == []
    assert catalog.seq == 0


def test_thousands_of_datasets_go_in_few_records_and_one_that_no_record_holds_fails_first(
    monkeypatch,
):
    monkeypatch.setattr(session, "RECORD_BYTES", 2_000)
    source = old_store(*(manifest(f"d/{n:02}") for n in range(12)))
    catalog, _ = target()
    done = session.import_from(source, catalog)
    assert 2 <= done.records == catalog.seq <= 12
    assert len(catalog.list()) == 12
    monkeypatch.undo()
    keys = (hashlib.sha256(b"%d" % n).hexdigest() for n in range(36_000))
    huge = manifest("huge", objects=tuple(ObjectRef(key, 0) for key in keys))
    store = MemoryStore("huge")
    store.put_if_absent(legacy_key("huge"), encode_legacy(huge))
    store.put_if_absent(legacy_key("a"), encode_legacy(manifest("a", objects=())))
    empty = create(store)
    with pytest.raises(InvalidInput) as caught:
        session.import_from(store, empty, check=False)
    assert caught.value.code == "record_too_large"
    assert empty.list() == []


def test_a_name_with_slashes_reads_from_a_folder(tmp_path):
    store = old_store(manifest("a/b.c/d"), manifest("a/b"), store=LocalStore(tmp_path, create=True))
    assert [each.name for each in read_legacy(store).manifests] == ["a/b", "a/b.c/d"]


def test_faults_of_manifests_and_of_objects_come_in_one_run():
    source = old_store(manifest("a"), manifest("b"), manifest("c"))
    source.replace(legacy_key("c"), b"junk")
    source.delete("raw/b-1")
    catalog, _ = target()
    with pytest.raises(Corruption) as caught:
        session.import_from(source, catalog)
    assert caught.value.code == "legacy_manifest_corrupt"
    assert legacy_key("c") in caught.value.message
    assert "raw/b-1: is missing" in caught.value.message
    assert "1 of 3 manifests, 1 of their objects" in caught.value.message
    assert catalog.list() == []
