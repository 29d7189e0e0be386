"""The Parquet parts of one commit: encoded and hashed once, uploaded only when needed.

Hashing comes first, so that rows that are there already cost no upload and no record. Keys hold
the transaction uuid, so nobody else's object is ever under them, and `discard` may remove them
for as long as no record can refer to them.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from workbench.catalog.commit import pause
from workbench.catalog.faults import corrupt
from workbench.catalog.layout import data_key
from workbench.catalog.parquet import (
    WHOLE_BYTES_MAX,
    encode_parts,
    row_count_of,
    tail_size_of,
)
from workbench.catalog.partitions import bounds, cut
from workbench.catalog.registry import Batch, Change
from workbench.catalog.values import (
    TIME_COLUMN,
    Registration,
    Write,
    check_distinct,
    check_properties,
)
from workbench.errors import InvalidArgument, OutcomeUnknown, Unavailable, WorkbenchError
from workbench.model.manifest import ObjectRef, dataset_id_of, schema_fingerprint

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    import pyarrow as pa

    from workbench.ports.object_store import ObjectStore
    from workbench.ports.system import Clock, Rng

UPLOAD_ATTEMPTS_MAX: Final = 8


class Uploads:
    """What one commit has to store.

    Args:
        store: Where to.
        txn: Of the commit.
        writes: No name twice.

    Attributes:
        changes: One per write, in order, with the objects as they will be.

    Raises:
        InvalidInput: For a name, mode or table that cannot be stored.
    """

    def __init__(
        self, store: ObjectStore, txn: uuid.UUID, writes: Sequence[Write], *, clock: Clock, rng: Rng
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._parts: dict[str, bytes] = {}
        self._uploaded: set[str] = set()
        check_distinct([write.name for write in writes])
        for write in writes:
            _check_write(write)
        self.changes = [self._encode(write, txn) for write in writes]

    def ensure(self, batch: Batch) -> None:
        """Upload what the batch refers to and is not there yet.

        Raises:
            Unavailable: The store did not take it in `UPLOAD_ATTEMPTS_MAX` attempts. Nothing
                refers to what did arrive.
        """
        for key in self._referred(batch):
            if key not in self._uploaded:
                self._uploaded.add(key)  # before the put: an unknown outcome counts as there
                upload(self._store, key, self._parts[key], clock=self._clock, rng=self._rng)

    def discard(self, batch: Batch | None = None) -> None:
        """Remove what was uploaded and `batch` does not refer to, as far as the store lets us.

        What stays is an object that nothing refers to; garbage collection finds it.
        """
        kept = set(self._referred(batch)) if batch else set()
        for key in sorted(self._uploaded - kept):
            with contextlib.suppress(WorkbenchError):
                self._store.delete(key)

    def _encode(self, write: Write, txn: uuid.UUID) -> Change:
        refs: list[ObjectRef] = []
        column = write.time_column
        for period in cut(write.name, write.table, column):
            start = 0
            for data in encode_parts(
                write.name, period.table, write.parquet_metadata, layout=write.layout
            ):
                rows = row_count_of(data)
                part = period.table.slice(start, rows)
                start += rows
                key = data_key(dataset_id_of(write.name), txn, len(refs))
                self._parts[key] = data
                refs.append(object_ref(key, data, rows, part, column))
        registration = Registration(
            name=write.name,
            schema_fingerprint=schema_fingerprint(write.table.schema),
            objects=tuple(refs),
            row_count=write.table.num_rows,
            properties=dict(write.properties) | ({TIME_COLUMN: column} if column else {}),
        )
        return Change(
            registration,
            append=write.mode == "append",
            create=write.mode == "create",
            expected_rows=write.expected_rows,
        )

    def _referred(self, batch: Batch) -> list[str]:
        refs = (ref for entry in batch.entries for ref in entry.manifest.objects)
        return [ref.key for ref in refs if ref.key in self._parts]


def object_ref(
    key: str, data: bytes, rows: int, table: pa.Table, time_column: str | None
) -> ObjectRef:
    """Return what a manifest says of an object: hashes, rows, and the bounds of its time column."""
    limits = (None, None) if time_column is None else bounds(table, time_column)
    ref = ObjectRef(key, len(data), hashlib.sha256(data).hexdigest(), rows, *limits)
    if len(data) <= WHOLE_BYTES_MAX:
        return ref
    tail = tail_size_of(data)
    digest = hashlib.sha256(memoryview(data)[len(data) - tail :]).hexdigest()
    return replace(ref, tail_size=tail, tail_sha256=digest)


def upload(store: ObjectStore, key: str, data: bytes, *, clock: Clock, rng: Rng) -> None:
    """Put an object under a key that is nobody else's, so often as it takes.

    Raises:
        Unavailable: `upload_failed`; the object may be there or not.
    """
    failure: WorkbenchError | None = None
    for attempt in range(UPLOAD_ATTEMPTS_MAX):
        if attempt:
            pause(attempt, clock, rng)
        try:
            if store.put_if_absent(key, data) or store.get(key) == data:
                return  # taken: only by an earlier attempt of ours
            failure = corrupt(key, "reads back as other bytes", "object_hash_mismatch")
        except (Unavailable, OutcomeUnknown) as error:
            failure = error
    raise Unavailable(
        f"could not upload {key!r} to {store.url} in {UPLOAD_ATTEMPTS_MAX} attempts",
        code="upload_failed",
        hint="nothing was committed; run the same command again",
    ) from failure


def _check_write(write: Write) -> None:
    if write.mode not in {"replace", "append", "create"}:
        raise InvalidArgument(
            f"dataset {write.name!r}: unknown mode {write.mode!r}",
            code="write_mode_unknown",
            hint="use 'replace', 'append' or 'create'",
        )
    named = write.properties.get(TIME_COLUMN)
    if named is not None and named != write.time_column:
        raise InvalidArgument(
            f"dataset {write.name!r}: the property {TIME_COLUMN} says {named!r}, the write is cut "
            f"by {write.time_column!r}",
            code="time_column_invalid",
            hint=f"leave the property out and give {TIME_COLUMN}",
        )
    if write.expected_rows is not None and (write.mode != "append" or write.expected_rows < 0):
        raise InvalidArgument(
            f"dataset {write.name!r}: {write.expected_rows} expected rows with mode {write.mode!r}",
            code="expected_rows_invalid",
            hint="give zero or more, and only with 'append'",
        )
    check_properties(write.name, "property", write.properties)
    check_properties(write.name, "Parquet metadata", write.parquet_metadata)
