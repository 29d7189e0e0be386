"""The bytes of one checkpoint: all that is live at a record, so that opening need not read the log.

A checkpoint is one sealed Parquet file (`sealed`). Its rows are first the condemned objects, one
row without a name per time of condemning, then the datasets, sorted by name; its columns are those
of a record without `op`. Its footer:

    workbench.format          workbench.catalog.checkpoint/1
    workbench.catalog_uuid    uuid of the FORMAT object
    workbench.seq             decimal; the state is that after this record
    workbench.head_sha256     SHA-256 of all bytes of record seq: the next record's parent
    workbench.anchor_sha256   SHA-256 of all bytes of FORMAT, which need not be read then
    workbench.committed_at    of record seq
    workbench.floor           as of then
    workbench.condemned_rows  how many rows have no name
    workbench.writer          who wrote it, for people
    workbench.sha256          the seal

Checkpoints are put if absent, by whoever commits a record whose number is a multiple of 64. The
hint names the newest; it is overwritten in place, and nothing relies on it.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.catalog.faults import corrupt
from workbench.catalog.index import Index, Rows
from workbench.catalog.layout import CKPT_PREFIX, HINT_KEY, SEQ_DIGITS, ckpt_key
from workbench.catalog.record import MANIFEST_SCHEMA
from workbench.catalog.registry import State
from workbench.catalog.sealed import (
    PARQUET_SEAL,
    Limits,
    check_format,
    check_sizes,
    encode_sealed,
    open_sealed,
    reading,
)
from workbench.catalog.values import is_sha256
from workbench.errors import InvalidInput, NotFound
from workbench.ports.object_store import check_object_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.ports.object_store import ObjectStore

CHECKPOINT_FORMAT: Final = "workbench.catalog.checkpoint/1"
CHECKPOINT_RECORDS: Final = 64
CHECKPOINT_SEAL: Final = PARQUET_SEAL
CHECKPOINT_BYTES_MAX: Final = 1024 * 1024 * 1024  # about ten million datasets
UNPACKED_BYTES_MAX: Final = 8 * 1024 * 1024 * 1024
VALUES_MAX: Final = 1024 * 1024 * 1024
HINT_BYTES_MAX: Final = 64

# Ids, keys and hashes do not repeat: a dictionary of them costs time and space.
_REPEATING: Final = ["schema_fingerprint", "properties.key_value.key", "properties.key_value.value"]
_HINT = re.compile(rb"([0-9]{1,%d})\n?" % SEQ_DIGITS)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says: the state after a record, and who wrote it down."""

    state: State
    writer: str


def encode_checkpoint(state: State, *, writer: str) -> bytes:
    """Return the sealed bytes.

    Raises:
        InvalidInput: `checkpoint_too_large`.
    """
    assert state.seq > 0, "a checkpoint before the first record"
    assert state.committed_at is not None, "a record without a time"
    condemned = _condemned_rows(state.condemned)
    footer = {
        "workbench.format": CHECKPOINT_FORMAT,
        "workbench.catalog_uuid": str(state.catalog_uuid),
        "workbench.seq": str(state.seq),
        "workbench.head_sha256": state.head_sha256,
        "workbench.anchor_sha256": state.anchor_sha256,
        "workbench.committed_at": state.committed_at.astimezone(UTC).isoformat(),
        "workbench.floor": str(state.floor),
        "workbench.condemned_rows": str(len(condemned)),
        "workbench.writer": writer,
    }
    head = pa.Table.from_pylist(condemned, schema=MANIFEST_SCHEMA)
    table = pa.concat_tables([head, state.manifests.table()]).combine_chunks()
    data = encode_sealed(table, footer, seal=CHECKPOINT_SEAL, dictionary=_REPEATING)
    if len(data) > CHECKPOINT_BYTES_MAX:
        raise InvalidInput(
            f"a checkpoint of {len(state.manifests)} datasets takes {len(data)} bytes, "
            f"the most is {CHECKPOINT_BYTES_MAX}",
            code="checkpoint_too_large",
            hint="merge small objects with `workbench catalog compact`",
        )
    return data


def decode_checkpoint(data: bytes, seq: int) -> Checkpoint:
    """Return what `data`, which lies under `ckpt_key(seq)`, holds.

    Size, seal, format, columns, declared sizes and the order of the names are checked. Other
    columns than the names are unpacked when the first row is asked for, and a row is looked at
    when it is: the seal says that all are as they were written.

    Raises:
        Corruption: `checkpoint_corrupt`, `checkpoint_format_unsupported`.
    """
    key = ckpt_key(seq)
    limits = Limits(CHECKPOINT_BYTES_MAX, UNPACKED_BYTES_MAX, VALUES_MAX)
    with reading(key, "checkpoint"):
        file, footer = open_sealed(
            data, key, seal=CHECKPOINT_SEAL, limits=limits, kind="checkpoint"
        )
        check_format(footer, {CHECKPOINT_FORMAT: None}, key)
        check_sizes(file, MANIFEST_SCHEMA, key, limits=limits, kind="checkpoint")
        return _checkpoint(footer, file, seq, key)


def read_checkpoint(store: ObjectStore, seq: int) -> Checkpoint:
    """Return the checkpoint at `seq`; NotFound where there is none."""
    return decode_checkpoint(store.get(ckpt_key(seq)), seq)


def write_checkpoint(store: ObjectStore, state: State, *, writer: str) -> bool:
    """Put the checkpoint of `state` if there is none, and the hint; True where it is ours.

    Raises:
        WorkbenchError: What the store raises. The checkpoint may be there, or not: both are fine.
    """
    put = store.put_if_absent(ckpt_key(state.seq), encode_checkpoint(state, writer=writer))
    write_hint(store, state.seq)
    return put


def write_hint(store: ObjectStore, seq: int) -> None:
    """Let the hint name the checkpoint at `seq`, unless it names a later one that is there."""
    named = read_hint(store) or 0
    if named <= seq or not store.list_after(CKPT_PREFIX, ckpt_key(named - 1)):
        store.replace(HINT_KEY, b"%0*d\n" % (SEQ_DIGITS, seq))


def read_hint(store: ObjectStore) -> int | None:
    """Return the sequence that the hint names; None where it is absent or makes no sense."""
    try:
        data = store.get(HINT_KEY)
    except NotFound:
        return None
    return parse_hint(data)


def parse_hint(data: bytes) -> int | None:
    """Return the sequence that a hint names, None where it makes no sense."""
    found = _HINT.fullmatch(data) if len(data) <= HINT_BYTES_MAX else None
    return (int(found.group(1)) or None) if found else None


def _checkpoint(footer: Mapping[str, str], file: pq.ParquetFile, seq: int, key: str) -> Checkpoint:
    if int(footer["workbench.seq"]) != seq:
        reason = f"says that it is the checkpoint at {footer['workbench.seq']}"
        raise corrupt(key, reason, "checkpoint_corrupt")
    hashes = (footer["workbench.head_sha256"], footer["workbench.anchor_sha256"])
    floor, unnamed = int(footer["workbench.floor"]), int(footer["workbench.condemned_rows"])
    if not all(map(is_sha256, hashes)) or not 0 <= floor <= seq:
        raise corrupt(key, f"has no place in a chain (floor {floor})", "checkpoint_corrupt")
    if not 0 <= unnamed <= file.metadata.num_rows:
        raise corrupt(key, f"has {unnamed} rows without a name", "checkpoint_corrupt")

    def unpack() -> pa.Table:
        with reading(key, "checkpoint"):
            return file.read(use_threads=False)

    names = file.read(columns=["name"], use_threads=False).column("name").slice(unnamed)
    # Strictly ascending from something that is not empty: sorted, and no name twice.
    ascending = len(names) < 2 or pc.all(pc.less(names[:-1], names[1:])).as_py()
    if not ascending or (len(names) and not names[0].as_py()):
        raise corrupt(key, "has datasets out of order", "checkpoint_corrupt")
    state = State(
        catalog_uuid=uuid.UUID(footer["workbench.catalog_uuid"]),
        seq=seq,
        head_sha256=hashes[0],
        manifests=Index.over(Rows(names, lambda: unpack().slice(unnamed), key)),
        committed_at=datetime.fromisoformat(footer["workbench.committed_at"]).astimezone(UTC),
        floor=floor,
        condemned=_condemned(unpack().slice(0, unnamed).to_pylist(), key) if unnamed else {},
        anchor_sha256=hashes[1],
        proven=False,
    )
    return Checkpoint(state, footer["workbench.writer"])


def _condemned_rows(condemned: Mapping[str, datetime]) -> list[dict[str, Any]]:
    """Return one row per time, with the keys that were condemned then."""
    by_time = sorted((at, key) for key, at in condemned.items())
    blank = dict.fromkeys(
        ("rows", "time_min", "time_max", "sha256", "tail_size", "tail_sha256")
    ) | {"size": 0}
    return [
        {
            "dataset_id": "",
            "name": "",
            "schema_fingerprint": "",
            "objects": [{"key": key, **blank} for _, key in group],
            "created_at": at,
            "updated_at": at,
            "row_count": None,
            "properties": [],
        }
        for at, group in groupby(by_time, itemgetter(0))
    ]


def _condemned(rows: list[dict[str, Any]], key: str) -> dict[str, datetime]:
    condemned: dict[str, datetime] = {}
    for row in rows:
        if row["name"] or row["dataset_id"]:
            raise corrupt(key, "names a dataset among condemned objects", "checkpoint_corrupt")
        at = row["created_at"].astimezone(UTC)
        for item in row["objects"]:
            try:
                condemned[check_object_key(item["key"])] = at
            except InvalidInput as error:
                raise corrupt(key, error.message, "checkpoint_corrupt") from error
    return condemned
