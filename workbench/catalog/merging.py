"""Rows of some objects of a dataset, written anew into few.

    objects ──read, hashed──▶ row groups ──buffer──sort, cut──▶ parts of about the target size

- Rows come out once each. With a time column they are sorted by it, stably, and cut at UTC days;
  without one they keep their order. What is more than `BUFFER_BYTES` is sorted by so much at a
  time: then an object holds several sorted runs.
- Memory: the buffer, the part that is being written, and one wave of small inputs.
- Inputs are checked against their SHA-256 before a row of them is used.

Nothing here commits. What is uploaded belongs to the transaction that is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.catalog.faults import corrupt
from workbench.catalog.layout import data_key
from workbench.catalog.parquet import WHOLE_BYTES_MAX, PartWriter
from workbench.catalog.partitions import TIME, cut, day_of, time_column_of
from workbench.catalog.reading import open_source, read_objects
from workbench.catalog.uploads import object_ref, upload
from workbench.errors import Conflict
from workbench.model.manifest import ObjectRef

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from workbench.catalog.partitions import Period
    from workbench.catalog.upkeep import Keeper
    from workbench.model.manifest import Manifest

BUFFER_BYTES: Final = 256 * 1024 * 1024  # of Arrow data


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of some objects.

    Attributes:
        objects: Uploaded; none where no row was left.
        rows_before: Of the objects that were read.
        rows: Of those that were written.
    """

    objects: tuple[ObjectRef, ...]
    rows_before: int
    rows: int


class Merger:
    """Writes rows of one dataset anew, for one transaction.

    Args:
        keeper: Where from and to.
        manifest: Of the dataset.
        txn: Of the transaction that will refer to what is written.
        target_bytes: About how large an object becomes.
        buffer_bytes: How much Arrow data is sorted at a time.

    Attributes:
        uploaded: Keys of all that was uploaded, or tried.
    """

    def __init__(
        self,
        keeper: Keeper,
        manifest: Manifest,
        txn: uuid.UUID,
        *,
        target_bytes: int,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self.uploaded: list[str] = []
        self._keeper = keeper
        self._manifest = manifest
        self._txn = txn
        self._target_bytes = target_bytes
        self._buffer_bytes = buffer_bytes
        self._column = time_column_of(manifest)

    def merge(self, refs: Sequence[ObjectRef], *, keep_from: datetime | None = None) -> Merged:
        """Write the rows of these objects anew.

        Args:
            refs: Of the dataset.
            keep_from: Leave out rows before it, by the time column.

        Raises:
            Corruption: An object is missing, or is not what is registered.
            Conflict: `dataset_laid_out`, where they declare an order of their own.
        """
        column = self._column
        out = _Output(
            lambda table: cut(self._manifest.name, table, column),
            column,
            self._buffer_bytes,
            self._target_bytes,
            self._put,
        )
        rows_before = 0
        for ref, table in self._tables(refs):
            rows_before += table.num_rows
            try:
                out.add(self._from(table, keep_from))
            except (pa.ArrowException, ValueError) as error:
                raise corrupt(ref.key, f"cannot be merged ({error})", "object_unreadable") from (
                    error
                )
        return Merged(tuple(out.finish()), rows_before, out.rows)

    def empty(self, ref: ObjectRef) -> ObjectRef:
        """Write an object without rows and with the columns of another one."""
        file = _file(ref, self._source(ref))
        return self._put(PartWriter(file.schema_arrow).finish(), 0, file.schema_arrow.empty_table())

    def _from(self, table: pa.Table, keep_from: datetime | None) -> pa.Table:
        if keep_from is None:
            return table
        return table.filter(
            pc.greater_equal(table.column(self._column), pa.scalar(keep_from, TIME))
        )

    def _source(self, ref: ObjectRef) -> pa.Buffer | pa.NativeFile:
        return open_source(self._keeper.store, ref)

    def _sources(
        self, refs: Sequence[ObjectRef]
    ) -> Iterator[tuple[ObjectRef, pa.Buffer | pa.NativeFile]]:
        small: Iterable[ObjectRef] = (ref for ref in refs if ref.size <= WHOLE_BYTES_MAX)
        ahead = read_objects(self._keeper.store, small)
        for ref in refs:
            if ref.size <= WHOLE_BYTES_MAX:
                yield ref, pa.py_buffer(next(ahead)[1])
            else:
                yield ref, self._source(ref)

    def _tables(self, refs: Sequence[ObjectRef]) -> Iterator[tuple[ObjectRef, pa.Table]]:
        schema: pa.Schema | None = None
        for ref, source in self._sources(refs):
            file = _file(ref, source)
            schema = schema or file.schema_arrow
            if not file.schema_arrow.equals(schema):
                reason = "has other columns than the first object"
                raise corrupt(ref.key, reason, "object_unreadable")
            if not file.num_row_groups:
                yield ref, schema.empty_table()
            for number in range(file.num_row_groups):
                if file.metadata.row_group(number).sorting_columns:
                    raise Conflict(
                        f"dataset {self._manifest.name!r} declares an order of its rows",
                        code="dataset_laid_out",
                        hint="it was written in few objects; leave it as it is",
                    )
                try:
                    table = file.read_row_group(number, use_threads=False)
                except (pa.ArrowException, OSError, ValueError) as error:
                    reason = f"cannot be read ({error})"
                    raise corrupt(ref.key, reason, "object_unreadable") from error
                yield ref, table.replace_schema_metadata(schema.metadata)

    def _put(self, data: bytes, rows: int, table: pa.Table) -> ObjectRef:
        key = data_key(self._manifest.dataset_id, self._txn, len(self.uploaded))
        self.uploaded.append(key)  # before the put: an unknown outcome counts as there
        upload(self._keeper.store, key, data, clock=self._keeper.clock, rng=self._keeper.rng)
        return object_ref(key, data, rows, table, self._column if rows else None)


class _Output:
    """Rows in, uploaded objects out.

    Args:
        cut_rows: Cuts a table into periods.
        column: The time column, if there is one.
        buffer_bytes: How much Arrow data is sorted at a time.
        target_bytes: About how large an object becomes.
        put: Uploads one.
    """

    def __init__(
        self,
        cut_rows: Callable[[pa.Table], list[Period]],
        column: str | None,
        buffer_bytes: int,
        target_bytes: int,
        put: Callable[[bytes, int, pa.Table], ObjectRef],
    ) -> None:
        self.rows = 0
        self._cut = cut_rows
        self._column = column
        self._buffer_bytes = buffer_bytes
        self._target_bytes = target_bytes
        self._put = put
        self._refs: list[ObjectRef] = []
        self._buffer: list[pa.Table] = []
        self._buffered = 0
        self._writer: PartWriter | None = None
        self._written = 0
        self._day: int | None = None  # of what is in the writer
        self._times: list[pa.Table] = []  # the first and last of what is in the writer

    def add(self, table: pa.Table) -> None:
        """Take rows of the schema that all others have."""
        if not table.num_rows:
            return
        self._buffer.append(table)
        self._buffered += table.nbytes
        if self._buffered >= self._buffer_bytes:
            self._flush()

    def finish(self) -> list[ObjectRef]:
        """Write what is left; return all objects."""
        self._flush()
        self._close()
        return self._refs

    def _flush(self) -> None:
        if not self._buffer:
            return
        table = pa.concat_tables(self._buffer)
        self._buffer, self._buffered = [], 0
        if self._column is not None:
            table = _sorted(table, self._column)
        for period in self._cut(table):
            bound = ObjectRef("", 0, time_min=period.time_min, time_max=period.time_max)
            self._write(period.table, day_of(bound))

    def _write(self, table: pa.Table, day: int | None) -> None:
        if self._column is not None and (day is None or day != self._day):
            self._close()
        self._day = day
        if self._writer is None:
            self._writer = PartWriter(table.schema)
        self._writer.write(table)
        self._written += table.num_rows
        if self._column is not None:
            times = table.select([self._column])
            self._times += [times.slice(0, 1), times.slice(table.num_rows - 1)]
        if self._writer.size >= self._target_bytes:
            self._close()

    def _close(self) -> None:
        if self._writer is None:
            return
        data, rows = self._writer.finish(), self._written
        times = pa.concat_tables(self._times) if self._times else pa.table({})
        self._writer, self._times, self._written = None, [], 0
        self._refs.append(self._put(data, rows, times))
        self.rows += rows


def _file(ref: ObjectRef, source: pa.Buffer | pa.NativeFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise corrupt(ref.key, f"cannot be read ({error})", "object_unreadable") from error


def _sorted(table: pa.Table, column: str) -> pa.Table:
    """Return the rows by time; those of the same time stay as they came."""
    times = table.column(column).cast(pa.int64()).to_numpy()
    if np.all(times[:-1] <= times[1:]):
        return table
    return table.take(pa.array(np.argsort(times, kind="stable")))
