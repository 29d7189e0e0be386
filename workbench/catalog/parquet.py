"""The bytes of data files: Arrow in, sealed row groups of Parquet out, and back.

- The same table gives the same bytes (with one version of pyarrow): rows are regrouped, so that
  the chunks of the table do not show; there is no time and no file name inside. So writing the
  same rows twice is found by their hash.
- What comes back has the very schema that went in: types, order, nullability, schema metadata.
  A type that Parquet would change (seconds become milliseconds) is refused, not changed.
- zstd, row groups of 128 k rows, a checksum in every page.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.errors import InvalidInput
from workbench.model.manifest import schema_fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

ROW_GROUP_ROWS: Final = 128 * 1024
PART_BYTES: Final = 256 * 1024 * 1024  # of Arrow data; a part holds whole row groups


def encode_parts(
    name: str, table: pa.Table, metadata: Mapping[str, str], *, part_bytes: int = PART_BYTES
) -> list[bytes]:
    """Return the table as Parquet files, at least one.

    Args:
        name: Of the dataset, for messages.
        table: Any number of rows.
        metadata: Laid over the table's own schema metadata.
        part_bytes: About how many bytes of Arrow data one file holds.

    Raises:
        InvalidInput: `table_columns_invalid`, `table_type_unsupported`, `schema_not_kept`.
    """
    _check_columns(name, table.schema)
    own = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    schema = table.schema.with_metadata(dict(sorted({**own, **metadata}.items())) or None)
    rows = _rows_per_part(table, part_bytes)
    starts = range(0, max(table.num_rows, 1), rows)
    try:
        parts = [_encode(table.slice(start, rows), schema) for start in starts]
    except (pa.ArrowException, ValueError) as error:
        raise InvalidInput(
            f"dataset {name!r}: Parquet cannot hold this table ({error})",
            code="table_type_unsupported",
            hint="cast the columns that it names",
        ) from error
    _check_kept(name, schema, parts[0])
    return parts


def decode_table(data: bytes) -> pa.Table:
    """Return the rows of one file; raises what pyarrow raises."""
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    return file.read()


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


def _encode(table: pa.Table, schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        write_page_checksum=True,
        use_compliant_nested_type=False,  # else the item fields of lists are renamed
    ) as writer:
        for start in range(0, max(table.num_rows, 1), ROW_GROUP_ROWS):
            group = table.slice(start, ROW_GROUP_ROWS).combine_chunks()
            writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


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
