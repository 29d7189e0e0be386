"""Rows in, the same rows out; what is refused, and objects that changed in the store."""

from __future__ import annotations

import decimal
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from unit.test_catalog_faults import create, numbers, reopen

from workbench.catalog import parquet, reading, uploads
from workbench.catalog.catalog import Registration, Write
from workbench.catalog.layout import FORMAT_KEY
from workbench.errors import (
    Corruption,
    FingerprintConflict,
    InvalidArgument,
    InvalidInput,
    NotFound,
)
from workbench.model.manifest import ObjectRef, dataset_id_of, schema_fingerprint
from workbench.stores.local import LocalStore
from workbench.stores.memory import MemoryStore

REF = ObjectRef("data/x/part.parquet", 10, "0123456789abcdef" * 4)


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return LocalStore(tmp_path / "root", create=True) if request.param == "local" else MemoryStore()


@pytest.fixture
def catalog(store):
    return create(store)


def keys(store, prefix=""):
    return store.list_after(prefix)


# --- rows


WIDE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary(), nullable=False),
        pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("reads", pa.uint64()),
        pa.field("small", pa.int8()),
        pa.field("share", pa.float64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("long", pa.large_string()),
        pa.field("hash", pa.binary(4)),
        pa.field("day", pa.date32()),
        pa.field("cost", pa.decimal128(12, 3)),
        pa.field("flag", pa.bool_()),
        pa.field("keys", pa.list_(pa.field("item", pa.binary(), nullable=False))),
        pa.field(
            "span", pa.struct([pa.field("start", pa.binary(), nullable=False), ("end", "i8")])
        ),
        pa.field("kind", pa.dictionary(pa.int32(), pa.string())),
    ],
    metadata={"source": "test"},
)


def wide_table() -> pa.Table:
    row = {
        "key": b"\0\xff",
        "at": datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
        "reads": 2**64 - 1,
        "small": -128,
        "share": 0.25,
        "label": "é\0",
        "long": "x",
        "hash": b"abcd",
        "day": datetime(2026, 5, 6, tzinfo=UTC).date(),
        "cost": decimal.Decimal("1.500"),
        "flag": True,
        "keys": [b"a", b""],
        "span": {"start": b"", "end": None},
        "kind": "hot",
    }
    empty = {f.name: None if f.nullable else row[f.name] for f in WIDE_SCHEMA}
    return pa.Table.from_pylist([row, empty, row], schema=WIDE_SCHEMA)


def test_rows_come_back_with_the_exact_schema_that_was_written(catalog, store):
    table = wide_table()
    catalog.commit([Write("wide", table)])
    for opened in (catalog, reopen(store)):
        for back in (opened.read("wide"), opened.dataset("wide").to_table()):
            assert back.equals(table)
            assert back.schema.equals(table.schema, check_metadata=True)
            assert schema_fingerprint(back.schema) == opened.get("wide").schema_fingerprint
    assert catalog.get("wide").row_count == 3


def test_what_was_read_can_be_written_again_as_the_same(catalog):
    catalog.commit([Write("wide", wide_table())])
    assert not catalog.commit([Write("wide", catalog.read("wide"))])[0].written


def test_table_without_rows_keeps_its_schema(catalog):
    catalog.commit([Write("empty", WIDE_SCHEMA.empty_table())])
    assert catalog.read("empty").equals(WIDE_SCHEMA.empty_table())
    assert catalog.dataset("empty").to_table().schema.equals(WIDE_SCHEMA)
    assert catalog.get("empty").row_count == 0


def test_same_rows_in_other_chunks_are_the_same_bytes():
    table = pa.table({"n": list(range(1000)), "s": [str(n) for n in range(1000)]})
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7, 500), table.slice(507)])
    assert parquet.encode_parts("a", table, {}) == parquet.encode_parts("a", chunked, {})


def test_collecting_the_same_twice_adds_no_record_and_no_object(catalog, store):
    writes = [Write("a", wide_table(), properties={"unit": "ms"}), Write("b", numbers(1))]
    assert [answer.written for answer in catalog.commit(writes)] == [True, True]
    before = keys(store)
    for again in (catalog, reopen(store)):
        assert [answer.written for answer in again.commit(writes)] == [False, False]
    assert keys(store) == before


def test_append_adds_rows_counts_them_and_lays_properties_over(catalog):
    catalog.commit([Write("a", numbers(1, 2), properties={"x": "1", "y": "1"})])
    [answer] = catalog.commit([Write("a", numbers(3), "append", {"y": "2"})])
    assert (answer.existing, answer.written) == (True, True)
    assert answer.manifest.row_count == 3
    assert answer.manifest.properties == {"x": "1", "y": "2"}
    assert catalog.read("a")["n"].to_pylist() == [1, 2, 3]
    assert catalog.dataset("a").to_table()["n"].to_pylist() == [1, 2, 3]


def test_append_of_the_same_rows_is_an_append(catalog):
    for _ in range(3):
        assert catalog.commit([Write("a", numbers(1), "append")])[0].written
    assert catalog.read("a")["n"].to_pylist() == [1, 1, 1]


def test_append_of_no_rows_writes_nothing(catalog, store):
    catalog.commit([Write("a", numbers(1))])
    before = keys(store)
    assert not catalog.commit([Write("a", numbers(), "append")])[0].written
    assert keys(store) == before


def test_append_to_a_dataset_of_unknown_count_leaves_it_unknown(catalog):
    fingerprint = schema_fingerprint(numbers(1).schema)
    catalog.register([Registration("a", fingerprint, (REF,))])
    [answer] = catalog.commit([Write("a", numbers(1), "append")])
    assert answer.manifest.row_count is None


def test_append_uploads_parts_that_differ_in_metadata_and_reads_them(catalog):
    catalog.commit([Write("a", numbers(1), parquet_metadata={"at": "1"})])
    catalog.commit([Write("a", numbers(2), "append", parquet_metadata={"at": "2"})])
    assert catalog.read("a")["n"].to_pylist() == [1, 2]
    assert catalog.dataset("a").to_table()["n"].to_pylist() == [1, 2]


def test_replace_puts_rows_in_the_place_of_the_old_ones(catalog):
    catalog.commit([Write("a", numbers(1, 2))])
    catalog.commit([Write("a", numbers(3))])
    assert catalog.read("a")["n"].to_pylist() == [3]


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_rows_of_another_schema_conflict_and_nothing_is_uploaded(catalog, store, mode):
    catalog.commit([Write("a", numbers(1))])
    before = keys(store)
    with pytest.raises(FingerprintConflict):
        catalog.commit([Write("b", numbers(1)), Write("a", pa.table({"n": ["x"]}), mode)])
    assert keys(store) == before
    assert [m.name for m in catalog.list()] == ["a"]


def test_unknown_mode_is_refused(catalog):
    with pytest.raises(InvalidArgument) as caught:
        catalog.commit([Write("a", numbers(1), "merge")])
    assert caught.value.code == "write_mode_unknown"


@pytest.mark.parametrize(
    ("table", "code"),
    [
        (pa.table({}), "table_columns_invalid"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), "table_columns_invalid"),
        (pa.table({"t": pa.array([1], pa.timestamp("s"))}), "schema_not_kept"),
        (pa.table({"d": pa.array([1], pa.date64())}), "schema_not_kept"),
        (pa.table({"m": pa.array([[]], pa.map_(pa.string(), pa.int8()))}), "schema_not_kept"),
        (
            pa.table({"i": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}),
            "table_type_unsupported",
        ),
    ],
)
def test_table_that_would_not_come_back_as_it_is_is_refused(catalog, store, table, code):
    with pytest.raises(InvalidInput) as caught:
        catalog.commit([Write("bad", table)])
    assert caught.value.code == code
    assert "'bad'" in caught.value.message
    assert keys(store) == [FORMAT_KEY]


def test_data_files_are_zstd_checksummed_and_in_row_groups_of_128k(catalog, store):
    rows = 300_000
    catalog.commit([Write("a", pa.table({"n": pa.array(range(rows), pa.int32())}))])
    [ref] = catalog.get("a").objects
    assert ref.key.startswith(f"data/{dataset_id_of('a')}/")
    assert ref.key.endswith("/part-00000.parquet")
    metadata = pq.read_metadata(pa.BufferReader(store.get(ref.key)))
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sizes == [131_072, 131_072, rows - 262_144]


def test_large_table_is_split_at_row_groups_and_reads_back_in_order(catalog, store, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 10)
    table = pa.table({"n": pa.array(range(95), pa.int64())})
    parts = parquet.encode_parts("a", table, {}, part_bytes=table.nbytes // 3)
    assert [pq.read_metadata(pa.BufferReader(part)).num_rows for part in parts] == [30, 30, 30, 5]
    monkeypatch.setattr(parquet.encode_parts, "__kwdefaults__", {"part_bytes": table.nbytes // 3})
    catalog.commit([Write("a", table)])
    refs = catalog.get("a").objects
    assert [ref.key[-18:] for ref in refs] == [f"part-{n:05d}.parquet" for n in range(4)]
    assert catalog.read("a").equals(table)
    assert catalog.dataset("a").to_table().equals(table)
    assert not catalog.commit([Write("a", table)])[0].written


def test_parquet_metadata_travels_in_the_data_file(catalog):
    catalog.commit([Write("a", numbers(1), parquet_metadata={"unit": "µs"})])
    assert catalog.read("a").schema.metadata == {b"unit": "µs".encode()}
    assert catalog.dataset("a").schema.metadata == {b"unit": "µs".encode()}


def test_dataset_pushes_filters_and_projections_down(catalog):
    catalog.commit([Write("a", pa.table({"n": list(range(100)), "m": list(range(100))}))])
    found = catalog.dataset("a").to_table(columns=["m"], filter=ds.field("n") == 42)
    assert found.to_pydict() == {"m": [42]}


def test_dataset_registered_without_objects_has_nothing_to_read(catalog):
    catalog.register([Registration("a", "f", ())])
    for read in (catalog.read, catalog.dataset):
        with pytest.raises(InvalidInput) as caught:
            read("a")
        assert caught.value.code == "dataset_without_objects"
    with pytest.raises(NotFound):
        catalog.read("b")


# --- objects that changed


def replace_object(store, key, data):
    store.delete(key)
    if data is not None:
        store.put_if_absent(key, data)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda _: None, "object_missing"),
        (lambda data: data[:-1], "object_size_mismatch"),
        (lambda data: data + b"x", "object_size_mismatch"),
        (lambda data: data[:-9] + b"\xff" + data[-8:], "object_hash_mismatch"),
        (lambda data: bytes(len(data)), "object_hash_mismatch"),
    ],
)
def test_changed_object_is_corruption_with_its_key(catalog, store, change, code):
    catalog.commit([Write("a", numbers(*range(100)))])
    [ref] = catalog.get("a").objects
    replace_object(store, ref.key, change(store.get(ref.key)))
    for read in (catalog.read, catalog.dataset):
        with pytest.raises(Corruption) as caught:
            read("a")
        assert caught.value.code == code
        assert ref.key in caught.value.message
    [problem] = catalog.verify()
    assert problem.key == ref.key
    assert problem.reason


@pytest.fixture
def large(catalog, monkeypatch):
    """A dataset whose one object is read page by page, as those over 16 MiB are."""
    monkeypatch.setattr(uploads, "WHOLE_BYTES_MAX", 0)
    monkeypatch.setattr(reading, "WHOLE_BYTES_MAX", 0)
    table = pa.table({"n": pa.array([n * 2654435761 % 2**32 for n in range(5000)], pa.uint32())})
    catalog.commit([Write("a", table)])
    [ref] = catalog.get("a").objects
    assert 0 < ref.tail_size < ref.size // 2
    return ref


def test_flipped_page_byte_fails_the_scan_of_a_large_object(catalog, store, large):
    data = bytearray(store.get(large.key))
    data[len(data) // 2] ^= 1
    replace_object(store, large.key, bytes(data))
    with pytest.raises(OSError, match="CRC checksum"):
        catalog.dataset("a").to_table()


def test_every_flipped_byte_behind_the_pages_of_a_large_object_is_found(catalog, store, large):
    sound = store.get(large.key)
    assert catalog.dataset("a").count_rows() == 5000
    for at in range(large.size - large.tail_size, large.size):
        data = bytearray(sound)
        data[at] ^= 1 << at % 8
        replace_object(store, large.key, bytes(data))
        with pytest.raises(Corruption) as caught:
            catalog.dataset("a")
        assert caught.value.code == "object_hash_mismatch"


def test_a_large_object_without_a_known_tail_is_hashed_whole(catalog, store, large):
    known = replace(large, tail_size=None, tail_sha256=None)
    fingerprint = catalog.get("a").schema_fingerprint
    catalog.register([Registration("by/hand", fingerprint, (known,))])
    assert catalog.dataset("by/hand").count_rows() == 5000
    data = bytearray(store.get(large.key))
    data[-20] ^= 1
    replace_object(store, large.key, bytes(data))
    with pytest.raises(Corruption) as caught:
        catalog.dataset("by/hand")
    assert caught.value.code == "object_hash_mismatch"


def test_object_that_is_no_parquet_is_unreadable(catalog, store):
    store.put_if_absent("data/junk", b"junk")
    catalog.register([Registration("a", "f", (ObjectRef("data/junk", 4),))])
    for read in (catalog.read, catalog.dataset):
        with pytest.raises(Corruption) as caught:
            read("a")
        assert caught.value.code == "object_unreadable"
        assert "data/junk" in caught.value.message
