"""The bytes of data files: Arrow in, sealed row groups of Parquet out, and back.

- The same table gives the same bytes (with one version of pyarrow): rows are regrouped, so that
  the chunks of the table do not show; there is no time and no file name inside. So writing the
  same rows twice is found by their hash.
- What comes back has the very schema that went in: types, order, nullability, schema metadata.
  A type that Parquet would change (seconds become milliseconds) is refused, not changed.
- zstd, row groups of 128 k rows, a checksum in every page.
- A Layout adds what rows in a known order allow. The order is checked before a file declares it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.errors import InvalidInput
from workbench.model.manifest import schema_fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

# Objects up to this size are read whole, and so checked whole; of a larger one the pages carry
# checksums, and the catalog keeps a hash of what follows them.
WHOLE_BYTES_MAX: Final = 16 * 1024 * 1024
ROW_GROUP_ROWS: Final = 128 * 1024
PART_BYTES: Final = 256 * 1024 * 1024  # of Arrow data; a part holds whole row groups


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows lie in the data files of a write, where they come in a known order.

    Attributes:
        sorted_by: Columns with whether they descend; the rows are in this order, nulls nowhere
            in it. Each file declares it. Empty: no order is known.
        encodings: Parquet encoding by column, as DELTA_BYTE_ARRAY; all others get a dictionary.
        page_index: Whether each file has an index of its pages, for lookups.
    """

    sorted_by: tuple[tuple[str, bool], ...] = ()
    encodings: Mapping[str, str] = field(default_factory=dict)
    page_index: bool = False


def encode_parts(
    name: str,
    table: pa.Table,
    metadata: Mapping[str, str],
    *,
    part_bytes: int = PART_BYTES,
    layout: Layout | None = None,
) -> list[bytes]:
    """Return the table as Parquet files, at least one.

    Args:
        name: Of the dataset, for messages.
        table: Any number of rows.
        metadata: Laid over the table's own schema metadata.
        part_bytes: About how many bytes of Arrow data one file holds.
        layout: None where nothing is known of the rows' order.

    Raises:
        InvalidInput: `table_columns_invalid`, `table_type_unsupported`, `schema_not_kept`,
            `rows_not_sorted`.
    """
    _check_columns(name, table.schema)
    layout = layout or Layout()
    _check_sorted(name, table, layout.sorted_by)
    own = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    schema = table.schema.with_metadata(dict(sorted({**own, **metadata}.items())) or None)
    rows = _rows_per_part(table, part_bytes)
    starts = range(0, max(table.num_rows, 1), rows)
    try:
        parts = [_encode(table.slice(start, rows), schema, layout) for start in starts]
    except (pa.ArrowException, ValueError) as error:
        raise InvalidInput(
            f"dataset {name!r}: Parquet cannot hold this table ({error})",
            code="table_type_unsupported",
            hint="cast the columns that it names",
        ) from error
    _check_kept(name, schema, parts[0])
    return parts


def tail_size_of(data: bytes) -> int:
    """Return how many bytes at the end of a Parquet file are no pages: indexes and footer."""
    metadata = pq.read_metadata(pa.BufferReader(data))
    end = 0
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            end = max(end, start + chunk.total_compressed_size)
    return len(data) - end


def decode_table(data: bytes) -> pa.Table:
    """Return the rows of one file; raises what pyarrow raises."""
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    return file.read()


def row_count_of(data: bytes) -> int:
    """Return how many rows one of our own files has; raises what pyarrow raises."""
    rows: int = pq.read_metadata(pa.BufferReader(data)).num_rows
    return rows


class PartWriter:
    """One data file, written piece by piece; the rows that it holds decide when it is full.

    Args:
        schema: With the metadata that the file carries.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = io.BytesIO()
        self._writer = _open_writer(self._sink, schema, Layout())
        self._schema = schema

    @property
    def size(self) -> int:
        """Bytes so far, without the footer."""
        return self._sink.tell()

    def write(self, table: pa.Table) -> None:
        """Add rows, in row groups of at most `ROW_GROUP_ROWS`."""
        for start in range(0, table.num_rows, ROW_GROUP_ROWS):
            group = table.slice(start, ROW_GROUP_ROWS).combine_chunks()
            group = group.replace_schema_metadata(self._schema.metadata)
            self._writer.write_table(group, row_group_size=ROW_GROUP_ROWS)

    def finish(self) -> bytes:
        """Return the whole file; it may have no rows."""
        self._writer.close()
        return self._sink.getvalue()


def _check_columns(name: str, schema: pa.Schema) -> None:
    if not schema.names or len(set(schema.names)) != len(schema.names):
        raise InvalidInput(
            f"dataset {name!r}: columns {schema.names} cannot be stored",
            code="table_columns_invalid",
            hint="a table needs at least one column, and no two of one name",
        )


def _rows_per_part(table: pa.Table, part_bytes: int) -> int:
    """Return a multiple of the row group that holds about `part_bytes`."""
    groups = max(-(-table.num_rows // ROW_GROUP_ROWS), 1)
    size: int = table.nbytes
    parts = max(-(-size // part_bytes), 1)
    groups_per_part: int = max(-(-groups // parts), 1)
    return groups_per_part * ROW_GROUP_ROWS


def _check_sorted(name: str, table: pa.Table, sorted_by: tuple[tuple[str, bool], ...]) -> None:
    """Raise InvalidInput where a row comes before one that the order puts first."""
    if not sorted_by or table.num_rows == 0:
        return
    in_order: Any = all(table.column(column).null_count == 0 for column, _ in sorted_by)
    for column, descends in reversed(sorted_by if in_order else ()):
        values = table.column(column).combine_chunks()
        one, other = values.slice(0, len(values) - 1), values.slice(1)
        before = pc.greater(one, other) if descends else pc.less(one, other)
        in_order = pc.or_(before, pc.and_(pc.equal(one, other), in_order))
    if in_order is False or not pc.all(in_order, min_count=0).as_py():
        raise InvalidInput(
            f"dataset {name!r}: the rows are not sorted by "
            + ", ".join(f"{column}{' descending' * descends}" for column, descends in sorted_by),
            code="rows_not_sorted",
            hint="sort them first, or write them without a layout",
        )


def _encode(table: pa.Table, schema: pa.Schema, layout: Layout) -> bytes:
    sink = io.BytesIO()
    with _open_writer(sink, schema, layout) as writer:
        for start in range(0, max(table.num_rows, 1), ROW_GROUP_ROWS):
            group = table.slice(start, ROW_GROUP_ROWS).combine_chunks()
            writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def _open_writer(sink: io.BytesIO, schema: pa.Schema, layout: Layout) -> pq.ParquetWriter:
    options: dict[str, Any] = {"write_page_index": layout.page_index}
    if layout.encodings:
        options["column_encoding"] = dict(layout.encodings)
        options["use_dictionary"] = [n for n in schema.names if n not in layout.encodings]
    if layout.sorted_by:
        options["sorting_columns"] = [
            pq.SortingColumn(schema.get_field_index(column), descending=descends)
            for column, descends in layout.sorted_by
        ]
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        write_page_checksum=True,
        use_compliant_nested_type=False,  # else the item fields of lists are renamed
        **options,
    )


def _check_kept(name: str, schema: pa.Schema, data: bytes) -> None:
    kept = pq.read_schema(pa.BufferReader(data))
    if schema_fingerprint(kept) == schema_fingerprint(schema) and kept.equals(schema):
        return
    changed = [
        f"{field.name}: {field.type} would come back as {kept.field(i).type}"
        for i, field in enumerate(schema)
        if str(kept.field(i)) != str(field)
    ]
    raise InvalidInput(
        f"dataset {name!r}: Parquet does not keep {'; '.join(changed)}",
        code="schema_not_kept",
        hint="cast these columns to types that Parquet keeps",
    )
