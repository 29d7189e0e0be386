"""The bytes of one log record: an atomic batch of manifests and tombstones.

A record is one Parquet file. Its rows are the batch, in order; its footer says which record of
which catalog it is:

    workbench.format          workbench.catalog.record/2; records of /1 are read for ever
    workbench.catalog_uuid    uuid of the FORMAT object
    workbench.seq             decimal
    workbench.parent_seq      seq − 1
    workbench.txn             uuid of the commit that wrote it
    workbench.writer          who that was, for people
    workbench.committed_at    RFC 3339, UTC, never before that of the record before (not in /1)
    workbench.parent_sha256   SHA-256 of all bytes of the record before; of FORMAT for record 1
    workbench.sha256          the seal: of these bytes, its own digits taken as zeros

The seal is the last pair of the footer. All rows, statistics and other pairs stand before it, so
nothing that a user chose can stand behind it; see `seal`.

`decode_record` checks size, seal, format, limits, columns and every row's own sense, in this
order. It does not know the records around it: that is `chain`'s.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa

from workbench.catalog.faults import corrupt
from workbench.catalog.sealed import (
    PARQUET_SEAL,
    Limits,
    check_format,
    check_sizes,
    encode_sealed,
    open_sealed,
    reading,
)
from workbench.catalog.values import is_object_ref, is_sha256
from workbench.errors import InvalidInput
from workbench.model.manifest import Manifest, ObjectRef, check_name, dataset_id_of
from workbench.ports.object_store import check_object_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RECORD_FORMAT: Final = "workbench.catalog.record/2"
RECORD_FORMAT_1: Final = "workbench.catalog.record/1"
WRITE_BYTES_MAX: Final = 1_000_000  # one plain put everywhere, never multipart
READ_BYTES_MAX: Final = 64 * 1024 * 1024
UNPACKED_BYTES_MAX: Final = 512 * 1024 * 1024  # declared sizes; stops decompression bombs
VALUES_MAX: Final = 16 * 1024 * 1024  # over all columns; stops run-length bombs

RECORD_SEAL: Final = PARQUET_SEAL

_TIME: Final = pa.timestamp("us", "UTC")


def _schema(*object_fields: pa.Field) -> pa.Schema:
    """Return the columns of a record whose objects carry these fields too."""
    reference = pa.struct(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("sha256", pa.string()),
            *object_fields,
        ]
    )
    element = pa.field("element", reference, nullable=False)
    value = pa.field("value", pa.string(), nullable=False)
    return pa.schema(
        [
            pa.field("op", pa.string(), nullable=False),
            pa.field("dataset_id", pa.string(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            pa.field("schema_fingerprint", pa.string(), nullable=False),
            pa.field("objects", pa.list_(element), nullable=False),
            pa.field("created_at", _TIME, nullable=False),
            pa.field("updated_at", _TIME, nullable=False),
            pa.field("row_count", pa.int64()),
            pa.field("properties", pa.map_(pa.string(), value), nullable=False),
        ]
    )


SCHEMA_1: Final = _schema()
SCHEMA: Final = _schema(
    pa.field("rows", pa.int64()),
    pa.field("time_min", _TIME),
    pa.field("time_max", _TIME),
    pa.field("tail_size", pa.int64()),
    pa.field("tail_sha256", pa.string()),
)
# Of a dataset, without what is done with it: the rows of a checkpoint.
MANIFEST_SCHEMA: Final = pa.schema(list(SCHEMA)[1:])
_UPKEEP_OPS: Final = frozenset({"floor", "condemn", "sweep"})
_TIME_BOUNDS: Final = ("time_min", "time_max")
_SCHEMAS: Final = {RECORD_FORMAT_1: SCHEMA_1, RECORD_FORMAT: SCHEMA}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row.

    Attributes:
        op: `put`: the dataset as it is from now on. `add`: likewise, but `objects` are only
            those that come to the ones it has. `delete`: the dataset as it was when it went,
            without its objects, of which there may be more than a record holds.
        manifest: Of the dataset.
    """

    op: Literal["put", "add", "delete"]
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What garbage collection decides in a record.

    Attributes:
        floor: The catalog can be read as of this sequence and later ones only; None leaves it.
        condemned: Objects that nothing refers to and nothing may refer to from here on.
        swept: Keys that were condemned before and are gone now.
    """

    floor: int | None = None
    condemned: tuple[ObjectRef, ...] = ()
    swept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One atomic batch, with its place in the chain.

    Attributes:
        catalog_uuid: Of the catalog that it belongs to.
        seq: From 1.
        txn: Of the commit; how a writer knows its own record again.
        writer: For people.
        parent_sha256: Of all bytes of record seq − 1, of FORMAT where seq is 1.
        committed_at: When, UTC; never before that of the record before.
        entries: No dataset twice.
        upkeep: Where garbage collection wrote it.
        version: Of its format. In format 1 `committed_at` is the newest update in it, which may
            lie before that of the record before.
    """

    catalog_uuid: uuid.UUID
    seq: int
    txn: uuid.UUID
    writer: str
    parent_sha256: str
    committed_at: datetime
    entries: tuple[Entry, ...]
    upkeep: Upkeep | None = None
    version: int = field(default=2, compare=False)

    @property
    def restarts(self) -> bool:
        """Whether what came before is not to be relied on: a checkpoint at `seq` says all."""
        return self.upkeep is not None and self.upkeep.floor == self.seq


def encode_record(record: Record) -> bytes:
    """Return the sealed bytes.

    Raises:
        InvalidInput: `record_too_large`, over `WRITE_BYTES_MAX`.
    """
    data = _sealed_parquet(record)
    if len(data) > WRITE_BYTES_MAX:
        objects = sum(len(entry.manifest.objects) for entry in record.entries)
        raise InvalidInput(
            f"a record of {len(record.entries)} datasets with {objects} objects takes "
            f"{len(data)} bytes, the most is {WRITE_BYTES_MAX}",
            code="record_too_large",
            hint="commit fewer datasets at once; `workbench catalog compact` makes few objects of "
            "many small ones",
        )
    return data


def _sealed_parquet(record: Record) -> bytes:
    footer = {
        "workbench.format": RECORD_FORMAT,
        "workbench.catalog_uuid": str(record.catalog_uuid),
        "workbench.seq": str(record.seq),
        "workbench.parent_seq": str(record.seq - 1),
        "workbench.txn": str(record.txn),
        "workbench.writer": record.writer,
        "workbench.committed_at": record.committed_at.astimezone(UTC).isoformat(),
        "workbench.parent_sha256": record.parent_sha256,
    }
    rows = [*map(_row, record.entries), *_upkeep_rows(record)]
    return encode_sealed(pa.Table.from_pylist(rows, schema=SCHEMA), footer, seal=RECORD_SEAL)


def decode_record(data: bytes, key: str) -> Record:
    """Return the record that `data` holds.

    Args:
        data: All bytes of the object.
        key: For the message.

    Raises:
        Corruption: With the key and the reason.
    """
    limits = Limits(READ_BYTES_MAX, UNPACKED_BYTES_MAX, VALUES_MAX)
    with reading(key, "record"):
        file, footer = open_sealed(data, key, seal=RECORD_SEAL, limits=limits, kind="record")
        schema = _SCHEMAS[check_format(footer, _SCHEMAS, key)]
        check_sizes(file, schema, key, limits=limits, kind="record")
        return _record(footer, file.read(use_threads=False).to_pylist(), key)


def _row(entry: Entry) -> dict[str, Any]:
    return {"op": entry.op, **manifest_row(entry.manifest)}


def manifest_row(manifest: Manifest) -> dict[str, Any]:
    """Return the columns of a manifest, as records and checkpoints hold them."""
    return {
        "dataset_id": str(manifest.dataset_id),
        "name": manifest.name,
        "schema_fingerprint": manifest.schema_fingerprint,
        "objects": [_object_row(ref) for ref in manifest.objects],
        "created_at": manifest.created_at,
        "updated_at": manifest.updated_at,
        "row_count": manifest.row_count,
        "properties": sorted(manifest.properties.items()),
    }


def _object_row(ref: ObjectRef) -> dict[str, Any]:
    return {
        "key": ref.key,
        "size": ref.size,
        "sha256": ref.sha256,
        "rows": ref.rows,
        "time_min": ref.time_min,
        "time_max": ref.time_max,
        "tail_size": ref.tail_size,
        "tail_sha256": ref.tail_sha256,
    }


def _upkeep_rows(record: Record) -> Iterator[dict[str, Any]]:
    """Yield one row per decision: `floor` (as its row count), `condemn`, `sweep`."""
    upkeep = record.upkeep
    if upkeep is None:
        return
    empty = {
        "dataset_id": "",
        "name": "",
        "schema_fingerprint": "",
        "objects": [],
        "created_at": record.committed_at,
        "updated_at": record.committed_at,
        "properties": [],
    }
    if upkeep.floor is not None:
        yield {**empty, "op": "floor", "row_count": upkeep.floor}
    if upkeep.condemned:
        yield {**empty, "op": "condemn", "objects": [*map(_object_row, upkeep.condemned)]}
    if upkeep.swept:
        gone = [_object_row(ObjectRef(key, 0)) for key in upkeep.swept]
        yield {**empty, "op": "sweep", "objects": gone}


def _record(footer: Mapping[str, str], rows: list[dict[str, Any]], key: str) -> Record:
    seq = int(footer["workbench.seq"])
    parent_sha256 = footer["workbench.parent_sha256"]
    if seq < 1 or int(footer["workbench.parent_seq"]) != seq - 1 or not is_sha256(parent_sha256):
        raise corrupt(key, f"has no place in a chain (seq {seq})")
    entries = tuple(_entry(row, key) for row in rows if row["op"] not in _UPKEEP_OPS)
    upkeep = _upkeep([row for row in rows if row["op"] in _UPKEEP_OPS], key)
    names = [entry.manifest.name for entry in entries]
    if not rows or len(set(names)) != len(names):
        raise corrupt(key, "names a dataset twice" if rows else "has no rows")
    if footer["workbench.format"] == RECORD_FORMAT_1:
        committed_at = max(entry.manifest.updated_at for entry in entries)
    else:
        committed_at = _utc(datetime.fromisoformat(footer["workbench.committed_at"]))
    return Record(
        catalog_uuid=uuid.UUID(footer["workbench.catalog_uuid"]),
        seq=seq,
        txn=uuid.UUID(footer["workbench.txn"]),
        writer=footer["workbench.writer"],
        parent_sha256=parent_sha256,
        committed_at=committed_at,
        entries=entries,
        upkeep=upkeep,
        version=1 if footer["workbench.format"] == RECORD_FORMAT_1 else 2,
    )


def _upkeep(rows: list[dict[str, Any]], key: str) -> Upkeep | None:
    by_op = {row["op"]: row for row in rows}
    if len(by_op) != len(rows) or any(row["name"] or row["dataset_id"] for row in rows):
        raise corrupt(key, "decides twice on what is collected, or names a dataset in it")
    if not rows:
        return None
    floor = by_op["floor"]["row_count"] if "floor" in by_op else None
    if floor is not None and floor < 1:
        raise corrupt(key, f"has floor {floor}")
    condemned, swept = (
        tuple(_object(item, key) for item in by_op.get(op, {"objects": ()})["objects"])
        for op in ("condemn", "sweep")
    )
    return Upkeep(floor, condemned, tuple(ref.key for ref in swept))


def _entry(row: dict[str, Any], key: str) -> Entry:
    if row["op"] not in {"put", "add", "delete"}:
        raise corrupt(key, f"has an unknown operation {row['op']!r}")
    return Entry(op=row["op"], manifest=manifest_of(row, key))


def manifest_of(row: Mapping[str, Any], key: str) -> Manifest:
    """Return the manifest that a row holds.

    Args:
        row: Its columns.
        key: Of the record or checkpoint, for the message.

    Raises:
        Corruption: It makes no sense, or its id does not fit its name.
    """
    try:
        name = check_name(row["name"])
        objects = tuple(_object(item, key) for item in row["objects"])
    except InvalidInput as error:
        raise corrupt(key, error.message) from error
    dataset_id = dataset_id_of(name)
    if row["dataset_id"] != str(dataset_id):
        raise corrupt(
            key,
            f"gives dataset {name!r} the id {row['dataset_id']!r}, its name has the id "
            f"{dataset_id}",
        )
    properties = dict(row["properties"])
    if len(properties) != len(row["properties"]):
        raise corrupt(key, f"dataset {name!r} has a property twice")
    manifest = Manifest(
        dataset_id=dataset_id,
        name=name,
        schema_fingerprint=row["schema_fingerprint"],
        objects=objects,
        created_at=_utc(row["created_at"]),
        updated_at=_utc(row["updated_at"]),
        row_count=row["row_count"],
        properties=properties,
    )
    if not manifest.schema_fingerprint:
        raise corrupt(key, f"dataset {name!r} has no schema fingerprint")
    if manifest.updated_at < manifest.created_at:
        raise corrupt(key, f"dataset {name!r} was updated before it was created")
    if manifest.row_count is not None and manifest.row_count < 0:
        raise corrupt(key, f"dataset {name!r} has row count {manifest.row_count}")
    return manifest


def _object(item: dict[str, Any], key: str) -> ObjectRef:
    times = [None if item.get(name) is None else _utc(item[name]) for name in _TIME_BOUNDS]
    ref = ObjectRef(
        check_object_key(item["key"]),
        item["size"],
        item["sha256"],
        item.get("rows"),
        time_min=times[0],
        time_max=times[1],
        tail_size=item.get("tail_size"),
        tail_sha256=item.get("tail_sha256"),
    )
    if not is_object_ref(ref):
        raise corrupt(key, f"object {ref.key!r} is described by impossible values: {ref}")
    return ref


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
