"""A catalog written by the first version must still be read, byte for byte as it lies here.

`test_catalog_v1/` was written once, with a fixed clock and fixed uuids. Never write it anew: a
reader that cannot read it breaks every catalog that exists.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.test_catalog_faults import ManualClock, SeededRng, numbers

from workbench.catalog.anchor import Anchor, decode_anchor, encode_anchor
from workbench.catalog.audit import audit
from workbench.catalog.catalog import Catalog, Write
from workbench.catalog.layout import FORMAT_KEY, log_key
from workbench.catalog.record import decode_record, encode_record
from workbench.model.manifest import Manifest, ObjectRef
from workbench.stores.local import LocalStore

GOLDEN = Path(__file__).parent / "test_catalog_v1"
SHA256 = {
    FORMAT_KEY: "16f6d916a7ee6245af49d7733c6aa027044b4c68ce8f6411f787ae145522005b",
    log_key(1): "bfe8a429bc3ab2204f592a238c7a0d865f4a39db2e0330997b9a6cc86035c7e7",
    log_key(2): "f81774a085912ab3ed4a9d28b2d04b57d71c03b7c55cd330306e89af35f4894a",
}
CATALOG_UUID = uuid.UUID("00000000-0000-4000-8000-000000000001")
FIRST = datetime(2026, 1, 2, 3, 4, 6, 678901, tzinfo=UTC)
SECOND = FIRST.replace(second=7)
ROWS = pa.table(
    {"n": [1, 2, None], "k": [b"\0", b"\xff", b""]},
    schema=pa.schema([pa.field("n", pa.uint64()), pa.field("k", pa.binary(), nullable=False)]),
)
MANIFESTS = [
    Manifest(
        dataset_id=uuid.UUID("294c63f6-bf10-5484-a801-6d8ffe2d1d03"),
        name="legacy/plain",
        schema_fingerprint="fingerprint-1",
        objects=(ObjectRef("data/legacy/a.parquet", 10, None),),
        created_at=FIRST,
        updated_at=FIRST,
    ),
    Manifest(
        dataset_id=uuid.UUID("3496f233-1c8b-5d8e-b3d3-a88b7ecb847b"),
        name="load/windows",
        schema_fingerprint="f" * 64,
        objects=(
            ObjectRef("data/x/part-00000.parquet", 123, "0123456789abcdef" * 4),
            ObjectRef("data/x/part-00001.parquet", 0, hashlib.sha256(b"").hexdigest()),
        ),
        created_at=FIRST,
        updated_at=FIRST,
        row_count=7,
        properties={"time_unit": "ms", "ü": "\u2603"},
    ),
    Manifest(
        dataset_id=uuid.UUID("585d4f8c-1023-54be-9d83-3783dd91939f"),
        name="rows",
        schema_fingerprint="45d44db9b41b3f5bf85146cb5bf1a978e5e71cb2a4a3b2e79277546e1bf97857",
        objects=(
            ObjectRef(
                "data/585d4f8c-1023-54be-9d83-3783dd91939f/"
                "00000000-0000-4000-8000-000000000003/part-00000.parquet",
                738,
                "20eb807e24dc5b25b66d8767d86ff3f110766f63246fd3ec3fec9e4475edf902",
            ),
        ),
        created_at=SECOND,
        updated_at=SECOND,
        row_count=3,
        properties={"source": "golden"},
    ),
]


def golden(key: str) -> bytes:
    return (GOLDEN / key).read_bytes()


def opened(root: Path) -> Catalog:
    store = LocalStore(root, create=False)
    return Catalog.open(store, clock=ManualClock(), rng=SeededRng(9), writer="test")


@pytest.mark.parametrize("key", SHA256)
def test_golden_bytes_are_those_that_were_written_once(key):
    assert hashlib.sha256(golden(key)).hexdigest() == SHA256[key]


def test_golden_catalog_opens_with_all_its_manifests():
    catalog = opened(GOLDEN)
    assert (catalog.uuid, catalog.seq) == (CATALOG_UUID, 2)
    assert catalog.list() == MANIFESTS


def test_golden_rows_are_still_read():
    catalog = opened(GOLDEN)
    for table in (catalog.read("rows"), catalog.dataset("rows").to_table()):
        assert table.equals(ROWS)
        assert table.schema.equals(ROWS.schema)


def test_golden_catalog_can_be_carried_on(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "copy")
    opened(tmp_path / "copy").commit([Write("new", numbers(1))])
    catalog = opened(tmp_path / "copy")
    assert catalog.seq == 3
    assert [m for m in catalog.list() if m.name != "new"] == MANIFESTS
    # The two sets of foreign objects were never written.
    assert {p.key for p in audit(catalog.store).problems} == {
        "data/legacy/a.parquet",
        "data/x/part-00000.parquet",
        "data/x/part-00001.parquet",
    }


def test_format_object_is_written_as_it_was():
    assert decode_anchor(golden(FORMAT_KEY)) == Anchor(CATALOG_UUID, SHA256[FORMAT_KEY])
    assert encode_anchor(CATALOG_UUID) == golden(FORMAT_KEY)


def test_records_carry_the_documented_footer_and_chain():
    parents = {1: SHA256[FORMAT_KEY], 2: SHA256[log_key(1)]}
    for seq, parent in parents.items():
        data = golden(log_key(seq))
        pairs = pq.read_metadata(pa.BufferReader(data)).metadata
        blank = data.replace(pairs[b"workbench.sha256"], b"0" * 64)
        assert pairs == {
            b"workbench.format": b"workbench.catalog.record/1",
            b"workbench.catalog_uuid": str(CATALOG_UUID).encode(),
            b"workbench.seq": str(seq).encode(),
            b"workbench.parent_seq": str(seq - 1).encode(),
            b"workbench.txn": str(uuid.UUID(int=seq + 1, version=4)).encode(),
            b"workbench.writer": b"golden",
            b"workbench.parent_sha256": parent.encode(),
            b"workbench.sha256": hashlib.sha256(blank).hexdigest().encode(),
        }


def test_records_read_by_a_plain_parquet_reader_have_the_documented_columns():
    schema = pq.read_table(GOLDEN / log_key(1)).schema
    assert [f"{f.name} {f.type} {'null' if f.nullable else 'required'}" for f in schema] == [
        "op string required",
        "dataset_id string required",
        "name string required",
        "schema_fingerprint string required",
        (
            "objects list<element: struct<key: string not null, size: int64 not null, "
            "sha256: string> not null> required"
        ),
        "created_at timestamp[us, tz=UTC] required",
        "updated_at timestamp[us, tz=UTC] required",
        "row_count int64 null",
        "properties map<string, string ('properties')> required",
    ]


def test_record_decoded_and_encoded_again_says_the_same():
    for seq in (1, 2):
        record = decode_record(golden(log_key(seq)), "k")
        assert decode_record(encode_record(record), "k") == record
