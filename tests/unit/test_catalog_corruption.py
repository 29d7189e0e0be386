"""Broken, missing, swapped or foreign records: an error with key and reason, no half load."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.test_catalog_faults import START, create, numbers, reopen

from workbench.catalog import record as record_module
from workbench.catalog.anchor import FORMAT_SEAL, decode_anchor, encode_anchor
from workbench.catalog.audit import audit
from workbench.catalog.catalog import Registration, Write
from workbench.catalog.layout import FORMAT_KEY, LOG_PREFIX, data_key, log_key, seq_of
from workbench.catalog.record import RECORD_SEAL, Entry, Record, decode_record, encode_record
from workbench.errors import Corruption, InvalidInput
from workbench.model.manifest import Manifest, ObjectRef, dataset_id_of
from workbench.stores.memory import MemoryStore

RECORDS = 4


@pytest.fixture
def store():
    store = MemoryStore()
    catalog = create(store)
    for count in range(RECORDS):
        catalog.commit([Write(f"d/{count}", numbers(count))])
    return store


def put(store, key, data):
    store.delete(key)
    if data is not None:
        store.put_if_absent(key, data)


def manifest(name="a", **changes):
    values = {
        "dataset_id": dataset_id_of(name),
        "name": name,
        "schema_fingerprint": "f",
        "objects": (ObjectRef("data/k", 3, "a" * 64),),
        "created_at": START,
        "updated_at": START,
    }
    return Manifest(**{**values, **changes})


def next_record(store, *entries, **changes):
    """Return a record that would follow, changed as asked."""
    last = max(map(seq_of, store.list_after(LOG_PREFIX)))
    values = {
        "catalog_uuid": decode_anchor(store.get(FORMAT_KEY)).catalog_uuid,
        "seq": last + 1,
        "txn": uuid.UUID(int=99),
        "writer": "by hand",
        "parent_sha256": hashlib.sha256(store.get(log_key(last))).hexdigest(),
        "committed_at": reopen(store)._state.committed_at,
        "entries": entries or (Entry("put", manifest()),),
    }
    return Record(**{**values, **changes})


def expect(store, key, code, reason, *, opened=None):
    """Opening, refreshing an opened catalog, and auditing all name key and reason."""
    with pytest.raises(Corruption) as caught:
        reopen(store)
    assert caught.value.code == code
    assert key in caught.value.message
    assert reason in caught.value.message
    assert caught.value.hint
    if opened is not None:
        before, seq = opened.list(), opened.seq
        with pytest.raises(Corruption) as caught:
            opened.refresh()
        assert caught.value.code == code
        assert key in caught.value.message
        assert (opened.list(), opened.seq) == (before, seq), "the old state keeps being served"
    problems = audit(store).problems
    assert any(problem.key == key and reason in problem.reason for problem in problems), problems


def opened_at(store, seq):
    """Return a catalog that has read the first `seq` records only."""
    later = {key: store.get(key) for key in store.list_after(LOG_PREFIX, log_key(seq))}
    for key in later:
        store.delete(key)
    catalog = reopen(store)
    for key, data in later.items():
        store.put_if_absent(key, data)
    return catalog


# --- one broken object of the log


@pytest.mark.parametrize("seq", range(1, RECORDS + 1))
def test_flipped_byte_of_any_record_is_found_and_nothing_loads(store, seq):
    opened = opened_at(store, seq - 1)
    data = bytearray(store.get(log_key(seq)))
    data[40] ^= 4
    put(store, log_key(seq), bytes(data))
    expect(store, log_key(seq), "record_corrupt", "SHA-256", opened=opened)
    assert [p.key for p in audit(store).problems] == [log_key(seq)], "one cause, one problem"


@pytest.mark.parametrize("seq", range(1, RECORDS))
def test_missing_middle_record_is_a_gap(store, seq):
    opened = opened_at(store, seq - 1)
    put(store, log_key(seq), None)
    expect(store, log_key(seq), "record_missing", f"record {RECORDS} is there", opened=opened)
    assert [p.key for p in audit(store).problems] == [log_key(seq)]


def test_swapped_records_are_found(store):
    opened = opened_at(store, 1)
    two, three = store.get(log_key(2)), store.get(log_key(3))
    put(store, log_key(2), three)
    put(store, log_key(3), two)
    expect(store, log_key(2), "record_chain_broken", "says that it is record 3", opened=opened)
    assert [p.key for p in audit(store).problems] == [log_key(2), log_key(3)]


def test_record_copied_under_the_next_number_is_found(store):
    opened = reopen(store)
    put(store, log_key(RECORDS + 1), store.get(log_key(RECORDS)))
    expect(store, log_key(RECORDS + 1), "record_chain_broken", f"record {RECORDS}", opened=opened)


def test_rewritten_record_breaks_the_chain_at_its_successor(store):
    opened = opened_at(store, 2)
    original = decode_record(store.get(log_key(2)), log_key(2))
    put(store, log_key(2), encode_record(replace(original, writer="somebody else")))
    expect(store, log_key(3), "record_chain_broken", "follows a record of SHA-256")
    assert opened.refresh() == RECORDS, "who read the original has its hash"


def test_other_format_object_breaks_the_chain_at_record_one(store):
    put(store, FORMAT_KEY, FORMAT_SEAL.stamp(_blanked(store.get(FORMAT_KEY)) + b" "))
    expect(store, log_key(1), "record_chain_broken", "follows a record of SHA-256")


def _blanked(data):
    start = data.rfind(FORMAT_SEAL.marker) + len(FORMAT_SEAL.marker)
    return data[:start] + b"0" * 64 + data[start + 64 :]


def test_record_of_another_catalog_is_foreign(store):
    opened = reopen(store)
    other = next_record(store, catalog_uuid=uuid.UUID(int=5))
    put(store, log_key(RECORDS + 1), encode_record(other))
    expect(store, log_key(RECORDS + 1), "record_foreign", str(uuid.UUID(int=5)), opened=opened)


def test_lost_tail_looks_like_a_shorter_catalog_except_to_who_had_read_it(store):
    opened = reopen(store)
    put(store, log_key(RECORDS), None)
    shorter = reopen(store)
    assert shorter.seq == RECORDS - 1
    assert shorter.verify() == []
    with pytest.raises(Corruption) as caught:
        opened.refresh()
    assert caught.value.code == "record_missing"
    assert log_key(RECORDS) in caught.value.message
    assert opened.seq == RECORDS


def test_newer_record_format_is_named_with_both_formats(store, monkeypatch):
    opened = reopen(store)
    monkeypatch.setattr(record_module, "RECORD_FORMAT", "workbench.catalog.record/3")
    put(store, log_key(RECORDS + 1), encode_record(next_record(store)))
    monkeypatch.undo()
    expect(
        store,
        log_key(RECORDS + 1),
        "record_format_unsupported",
        "'workbench.catalog.record/3', this workbench reads 'workbench.catalog.record/2'",
        opened=opened,
    )


def test_commit_on_top_of_a_broken_record_is_refused(store):
    opened = reopen(store)
    put(store, log_key(RECORDS + 1), b"junk")
    with pytest.raises(Corruption):
        opened.register([Registration("x", "f", ())])
    assert opened.seq == RECORDS
    assert store.get(log_key(RECORDS + 1)) == b"junk"


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1PAR1", b"x" * 5000])
def test_object_that_is_no_record_is_corruption(store, data):
    put(store, log_key(2), data)
    expect(store, log_key(2), "record_corrupt", "carries no hash of itself")


def test_record_over_the_read_limit_is_refused_before_it_is_parsed(store, monkeypatch):
    monkeypatch.setattr(record_module, "READ_BYTES_MAX", 100)
    monkeypatch.setattr(pq, "ParquetFile", None)
    expect(store, log_key(1), "record_corrupt", "the most is 100")


def test_seal_is_checked_before_the_record_is_parsed(store, monkeypatch):
    data = bytearray(store.get(log_key(1)))
    data[20] ^= 1
    monkeypatch.setattr(pq, "ParquetFile", None)
    with pytest.raises(Corruption, match="does not fit the SHA-256"):
        decode_record(bytes(data), "k")


@pytest.mark.parametrize("limit", ["UNPACKED_BYTES_MAX", "VALUES_MAX"])
def test_record_that_declares_too_much_is_refused_before_it_is_unpacked(store, monkeypatch, limit):
    monkeypatch.setattr(record_module, limit, 5)
    expect(store, log_key(1), "record_corrupt", "declares")


# --- rows that make no sense, in records that are sealed well


def reseal(data, change):
    """Return a sealed record with the same footer and changed rows."""
    table = pq.read_table(pa.BufferReader(data))
    pairs = pq.read_metadata(pa.BufferReader(data)).metadata
    order = sorted(pairs, key=lambda k: data.rfind(b"\x18" + bytes([len(k)]) + k))
    footer = {k.decode(): pairs[k].decode() for k in order}
    footer["workbench.sha256"] = "0" * 64
    rows = table.to_pylist()
    schema = change(rows, footer) or record_module.SCHEMA
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, store_schema=False) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        writer.add_key_value_metadata(footer)
    return RECORD_SEAL.stamp(sink.getvalue())


def row_change(**values):
    def change(rows, _footer):
        rows[0].update(values)

    return change


def footer_change(**values):
    def change(_rows, footer):
        own = footer.pop("workbench.sha256")
        footer.update({f"workbench.{key}": value for key, value in values.items()})
        footer["workbench.sha256"] = own

    return change


def twice(rows, _footer):
    rows.append(dict(rows[0]))


def nothing(rows, _footer):
    rows.clear()


def extra_column(rows, _footer):
    return record_module.SCHEMA.append(pa.field("extra", pa.int64()))


EARLIER = START.replace(year=2020)
OBJECT = {"key": "x", "size": 1, "sha256": None}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (row_change(dataset_id=str(uuid.UUID(int=1))), "its name has the id"),
        (row_change(dataset_id="junk"), "its name has the id"),
        (row_change(name="../x"), "is not a dataset name"),
        (row_change(name=""), "is not a dataset name"),
        (row_change(op="merge"), "unknown operation"),
        (row_change(schema_fingerprint=""), "no schema fingerprint"),
        (row_change(updated_at=EARLIER), "updated before it was created"),
        (row_change(row_count=-1), "row count -1"),
        (row_change(objects=[{"key": "../x", "size": 1, "sha256": None}]), "not an object key"),
        (row_change(objects=[{"key": "x", "size": -1, "sha256": None}]), "size=-1"),
        (row_change(objects=[{"key": "x", "size": 1, "sha256": "A" * 64}]), "sha256='AAA"),
        (row_change(properties=[("a", "1"), ("a", "2")]), "property twice"),
        (twice, "names a dataset twice"),
        (nothing, "has no rows"),
        (footer_change(committed_at="yesterday"), "cannot be read"),
        (row_change(op="floor", dataset_id="", name="", row_count=0), "has floor 0"),
        (row_change(op="floor"), "names a dataset in it"),
        (row_change(objects=[OBJECT | {"time_min": START}]), "impossible values"),
        (row_change(objects=[OBJECT | {"rows": -1}]), "impossible values"),
        (extra_column, "has other columns"),
        (footer_change(seq="0", parent_seq="-1"), "no place in a chain"),
        (footer_change(parent_seq="7"), "no place in a chain"),
        (footer_change(parent_sha256="x"), "no place in a chain"),
        (footer_change(seq="many"), "cannot be read"),
        (footer_change(txn="x"), "cannot be read"),
    ],
)
def test_sealed_record_that_makes_no_sense_is_corruption(store, change, reason):
    opened = reopen(store)
    data = reseal(encode_record(next_record(store)), change)
    put(store, log_key(RECORDS + 1), data)
    expect(store, log_key(RECORDS + 1), "record_corrupt", reason, opened=opened)


def test_reseal_itself_makes_records_that_load(store):
    data = reseal(encode_record(next_record(store)), lambda _rows, _footer: None)
    put(store, log_key(RECORDS + 1), data)
    assert reopen(store).get("a") == manifest()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry("delete", manifest("never-registered")), "which is absent"),
        (Entry("put", manifest("d/0", schema_fingerprint="other")), "schema fingerprint of 'd/0'"),
        (Entry("put", manifest("d/0", created_at=EARLIER)), "created_at of 'd/0'"),
    ],
)
def test_record_that_breaks_a_rule_of_the_registry_is_corruption(store, entry, reason):
    opened = reopen(store)
    if "created_at" in reason:
        fingerprint = opened.get("d/0").schema_fingerprint
        entry = replace(entry, manifest=replace(entry.manifest, schema_fingerprint=fingerprint))
    put(store, log_key(RECORDS + 1), encode_record(next_record(store, entry)))
    expect(store, log_key(RECORDS + 1), "record_rule_broken", reason, opened=opened)


def test_tombstone_removes_the_dataset_and_its_name_is_free_for_another_fingerprint(store):
    gone = reopen(store).get("d/0")
    put(store, log_key(RECORDS + 1), encode_record(next_record(store, Entry("delete", gone))))
    catalog = reopen(store)
    assert [m.name for m in catalog.list()] == ["d/1", "d/2", "d/3"]
    assert catalog.verify() == []
    [answer] = catalog.register([Registration("d/0", "other", ())])
    assert not answer.existing
    assert answer.manifest.dataset_id == gone.dataset_id
    assert reopen(store).list() == catalog.list()


# --- FORMAT


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"sha256": "', b"\xff" * 100, b"x" * 100_000], ids=len
)
def test_format_object_that_is_none_is_corruption(store, data):
    put(store, FORMAT_KEY, data)
    with pytest.raises(Corruption) as caught:
        reopen(store)
    assert caught.value.code == "format_corrupt"
    assert FORMAT_KEY in caught.value.message
    assert [p.key for p in audit(store).problems] == [FORMAT_KEY]


@pytest.mark.parametrize(
    "change", [lambda f: f.pop("catalog_uuid"), lambda f: f.update(catalog_uuid="x")]
)
def test_sealed_format_object_without_a_uuid_is_corruption(store, change):
    fields = json.loads(store.get(FORMAT_KEY))
    change(fields)
    fields["sha256"] = fields.pop("sha256")
    put(store, FORMAT_KEY, FORMAT_SEAL.stamp(_blanked(json.dumps(fields).encode())))
    with pytest.raises(Corruption) as caught:
        reopen(store)
    assert caught.value.code == "format_corrupt"


def test_missing_format_beside_records_is_not_an_absent_catalog(store):
    put(store, FORMAT_KEY, None)
    with pytest.raises(Corruption, match="is missing, its records are there"):
        reopen(store)


def test_audit_of_another_format_version_is_refused(store):
    put(store, FORMAT_KEY, encode_anchor(uuid.UUID(int=1), version=2))
    with pytest.raises(InvalidInput):
        audit(store)


# --- audit


def test_audit_counts_what_it_looked_at(store):
    result = audit(store)
    assert (result.seq, result.records, result.objects) == (RECORDS, RECORDS, RECORDS)
    assert result.problems == ()


def test_audit_lists_every_problem_in_one_pass(store):
    refs = [m.objects[0].key for m in reopen(store).list()]
    put(store, log_key(2), b"junk")
    put(store, f"{LOG_PREFIX}notes.txt", b"?")
    put(store, refs[0], b"junk")
    put(store, refs[3], None)
    found = {problem.key: problem.reason for problem in audit(store).problems}
    assert set(found) == {log_key(2), f"{LOG_PREFIX}notes.txt", refs[0], refs[3]}
    assert found[refs[3]] == "is missing"
    assert "registered are" in found[refs[0]]


def test_audit_reads_large_objects_in_pieces(store, monkeypatch):
    monkeypatch.setattr("workbench.catalog.reading.CHECK_BYTES", 100)
    assert audit(store).problems == ()
    key = reopen(store).get("d/0").objects[0].key
    put(store, key, store.get(key) + b"x")
    [problem] = audit(store).problems
    assert problem.key == key
    assert "more than" in problem.reason


def test_object_of_unknown_hash_is_checked_by_size_alone(store):
    store.put_if_absent("data/plain", b"12345")
    reopen(store).register([Registration("plain", "f", (ObjectRef("data/plain", 5),))])
    assert audit(store).problems == ()
    put(store, "data/plain", b"123")
    assert [p.key for p in audit(store).problems] == ["data/plain"]


# --- keys


def test_log_keys_sort_as_numbers_do_and_read_back():
    seqs = [1, 9, 10, 99, 10**6, 10**19]
    assert sorted(map(log_key, seqs)) == [log_key(seq) for seq in seqs]
    assert [seq_of(log_key(seq)) for seq in seqs] == seqs
    for other in (log_key(0), LOG_PREFIX, log_key(1) + "x", f"{LOG_PREFIX}1.parquet", FORMAT_KEY):
        assert seq_of(other) is None


def test_data_keys_hold_ids_and_numbers_only():
    key = data_key(dataset_id_of("a'; x"), uuid.UUID(int=7), 3)
    assert key == (
        f"data/{dataset_id_of(chr(97) + chr(39) + '; x')}/00000000-0000-0000-0000-000000000007/"
        "part-00003.parquet"
    )
