"""Row groups: what footers tell of load windows, so that rows need not be unpacked to know it.

    file │ group 1 │ group 2 │ …        footer:  first and last time, where each column lies
              │
              ├─ all of it in the time asked for?   by its least and greatest time
              └─ the keys of that one again?        by the bytes of its columns as they are stored

Keys are most of the work in unpacking load, and windows that repeat their buckets store the same
bytes for them again: what is equal before unpacking is equal after it. That holds where windows
begin with a row group, as in what a live collection appends, and costs nothing elsewhere: bytes
are compared only where place, size and format agree.

What is not told - no least and greatest, another type, a table in memory - is no error: such rows
are read, and their times looked at one by one. Nothing here knows what a bucket is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from workbench.model.tables import TIME
from workbench.model.times import to_us

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    import pyarrow.parquet as pq

WINDOW: Final = ("window_start", "window_end")
# Enough to decode ahead on every core, and little enough not to hold a file.
READAHEAD_BATCHES: Final = 8
# What is kept of stored columns to compare with; a window of a million buckets has some 15 MiB.
STORED_BYTES_MAX: Final = 256 * 1024 * 1024


class Bounds(NamedTuple):
    """Least and greatest start and end of a row group's windows, in microseconds."""

    start_min: int
    start_max: int
    end_min: int
    end_max: int


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some of the load that is read in one go.

    Attributes:
        source: A table, or a fragment of a dataset.
        groups: Which of its row groups; empty for all.
        count: How many rows.
        inside: Whether every row is known to lie in the time asked for.
    """

    source: pa.Table | ds.Fragment
    groups: tuple[int, ...]
    count: int
    inside: bool

    def with_next(self, other: Rows) -> Rows | None:
        """Return both as one, where they can be read in one go and are alike."""
        if other.source is not self.source or other.inside != self.inside:
            return None
        return Rows(self.source, self.groups + other.groups, self.count + other.count, self.inside)


def bounds_of(fragment: ds.Fragment, group: int) -> Bounds | None:
    """Return what the footer tells of the times in one row group; None where it does not."""
    schema = fragment.physical_schema
    metadata = fragment.metadata
    told = metadata.row_group(group)
    found: list[int] = []
    for name in WINDOW:
        at = _column_at(metadata, name)
        if at is None or schema.field(name).type != TIME:
            return None
        if metadata.schema.column(at).converted_type != "TIMESTAMP_MICROS":
            return None
        statistics = told.column(at).statistics
        if statistics is None or not (statistics.has_min_max and statistics.has_null_count):
            return None
        if statistics.null_count or statistics.physical_type != "INT64":
            return None
        found += [statistics.min_raw, statistics.max_raw]
    return Bounds(*found)


def rows_of(load: pa.Table | ds.Dataset, since: datetime, until: datetime) -> list[Rows]:
    """Return the rows that may be of windows that start in [since, until), in their order."""
    if isinstance(load, pa.Table):
        return [Rows(load, (), load.num_rows, inside=False)]
    low, high = to_us(since), to_us(until)
    start = ds.field("window_start")
    wanted = (start >= pa.scalar(since, TIME)) & (start < pa.scalar(until, TIME))
    found: list[Rows] = []
    for fragment in load.get_fragments(filter=wanted):
        if not isinstance(fragment, ds.ParquetFileFragment):
            found.append(Rows(fragment, (), fragment.count_rows(), inside=False))
            continue
        for group in range(fragment.metadata.num_row_groups):
            count = fragment.metadata.row_group(group).num_rows
            bounds = bounds_of(fragment, group)
            if bounds is None:
                found.append(Rows(fragment, (group,), count, inside=False))
            elif bounds.start_max >= low and bounds.start_min < high:
                is_inside = (
                    bounds.start_min >= low and bounds.start_max < high and bounds.end_max <= high
                )
                found.append(Rows(fragment, (group,), count, inside=is_inside))
    return found


def merged(found: Iterable[Rows]) -> Iterator[Rows]:
    """Yield the same rows in as few goes as can be."""
    waiting: Rows | None = None
    for rows in found:
        both = None if waiting is None else waiting.with_next(rows)
        if both is None and waiting is not None:
            yield waiting
        waiting = both or rows
    if waiting is not None:
        yield waiting


def batches(
    rows: Rows, names: Sequence[str], since: datetime, until: datetime
) -> Iterator[pa.RecordBatch]:
    """Yield the columns `names`, and the times where needed, of rows in the time asked for.

    A row is in it where its window starts in [since, until).
    """
    low, high = pa.scalar(since, TIME), pa.scalar(until, TIME)
    columns = list(names) if rows.inside else list(dict.fromkeys([*WINDOW, *names]))
    for batch in _read(rows, columns):
        if rows.inside or not len(batch):
            kept = batch
        else:
            start = batch["window_start"]
            outer = pc.min_max(start)
            # Rows are copied only where some of them are outside.
            is_whole = start.null_count == 0 and (
                pc.greater_equal(outer["min"], low).as_py() and pc.less(outer["max"], high).as_py()
            )
            wanted = pc.and_(pc.greater_equal(start, low), pc.less(start, high))
            kept = batch if is_whole else batch.filter(wanted)
        if len(kept):
            yield kept


def _read(rows: Rows, columns: list[str]) -> Iterator[pa.RecordBatch]:
    source = rows.source
    if isinstance(source, pa.Table):
        yield from source.select(columns).to_batches()
        return
    if rows.groups:
        source = source.subset(row_group_ids=list(rows.groups))
    yield from source.to_batches(columns=columns, batch_readahead=READAHEAD_BATCHES)


class StoredColumns:
    """Columns as they are stored, by the place at which they were seen first.

    Args:
        names: The columns that are compared.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._seen: dict[int, tuple[tuple[Any, ...], tuple[bytes, ...]]] = {}
        self._bytes = 0

    def is_known(self, rows: Rows, place: int) -> bool:
        """Tell whether the same bytes were seen at `place`; remember them where none were.

        The caller must look at rows that are not known, and trust nothing where it finds one
        that does not fit.
        """
        fragment = rows.source
        if not isinstance(fragment, ds.ParquetFileFragment) or len(rows.groups) != 1:
            return False
        shape = self._shape(fragment, rows.groups[0])
        if shape is None:
            return False
        before = self._seen.get(place)
        if before is not None:
            return before[0] == shape and before[1] == self._stored(fragment, rows.groups[0])
        size = self._size(fragment, rows.groups[0])
        if self._bytes + size <= STORED_BYTES_MAX:
            self._bytes += size
            self._seen[place] = shape, self._stored(fragment, rows.groups[0])
        return False

    def _shape(self, fragment: ds.ParquetFileFragment, group: int) -> tuple[Any, ...] | None:
        """Return all that unpacking depends on beside the bytes; None where it cannot be told."""
        metadata = fragment.metadata
        told = metadata.row_group(group)
        shape: list[Any] = [told.num_rows]
        for name in self._names:
            at = _column_at(metadata, name)
            if at is None:
                return None
            column, schema = told.column(at), metadata.schema.column(at)
            if column.file_path:
                return None
            shape += [
                fragment.physical_schema.field(name).type,
                column.physical_type,
                column.compression,
                column.encodings,
                column.num_values,
                column.total_compressed_size,
                column.total_uncompressed_size,
                schema.max_definition_level,
                schema.max_repetition_level,
            ]
        return tuple(shape)

    def _places(self, fragment: ds.ParquetFileFragment, group: int) -> Iterator[tuple[int, int]]:
        """Yield where each column lies in the file, and how long it is."""
        told = fragment.metadata.row_group(group)
        for name in self._names:
            at = _column_at(fragment.metadata, name)
            assert at is not None, "a column without a shape was looked up"
            column = told.column(at)
            offset = column.data_page_offset
            if column.dictionary_page_offset is not None:
                offset = min(offset, column.dictionary_page_offset)
            yield offset, column.total_compressed_size

    def _size(self, fragment: ds.ParquetFileFragment, group: int) -> int:
        return sum(size for _, size in self._places(fragment, group))

    def _stored(self, fragment: ds.ParquetFileFragment, group: int) -> tuple[bytes, ...]:
        file = fragment.open()
        return tuple(file.read_at(size, offset) for offset, size in self._places(fragment, group))


def _column_at(metadata: pq.FileMetaData, name: str) -> int | None:
    """Return the index of a flat column; None where there is none, or several."""
    found = [at for at in range(metadata.num_columns) if metadata.schema.column(at).path == name]
    return found[0] if len(found) == 1 else None
