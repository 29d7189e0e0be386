"""How rows of SQL are written: a table for the eye, JSON, JSON lines, CSV, Parquet, Arrow.

What a table or JSON shows of bytes, times and text cannot be mistaken for terminal control or
markup: bytes in a table go through `printable_key`, elsewhere they are lowercase hex; times are
RFC 3339; characters that cannot be printed are escaped in a table.
"""

from __future__ import annotations

import csv
import json
import math
from datetime import date, datetime, time
from decimal import Decimal
from io import RawIOBase, StringIO
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.errors import InvalidInput
from workbench.model.keys import printable_key
from workbench.model.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

CELL_CHARACTERS_MAX: Final = 200


class Sink(RawIOBase):
    """A file of bytes for pyarrow that only a function takes, such as one that writes to stdout."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any, /) -> int:
        """Hand the bytes on; errors of the function are the caller's."""
        content = bytes(data)
        self._write(content)
        return len(content)


def values_of(batch: pa.RecordBatch | pa.Table) -> list[tuple[Any, ...]]:
    """Return the rows as Python values; what Python has no value for as Arrow's text."""
    return list(zip(*(_column(each) for each in batch.columns), strict=True))


def cell(value: Any) -> str:
    """Return a value as a table shows it, on one line."""
    match value:
        case None:
            return "null"
        case bytes():
            return printable_key(value)
        case str():
            return _shortened(_printable(value))
        case list() | tuple() | dict():
            return _shortened(_printable(json.dumps(plain(value), ensure_ascii=False)))
        case _:
            found = plain(value)
            return found if isinstance(found, str) else json.dumps(found)


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: bytes as hex, times as RFC 3339, exact numbers exactly."""
    match value:
        case bool() | int() | str() | None:
            return value
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case float() | Decimal():
            return _number(value)
        case _:
            return _text(value)


def _number(value: float | Decimal) -> float | int | str:
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else str(value)
    return value if math.isfinite(value) else str(value)


def _text(value: Any) -> str:
    match value:
        case bytes():
            return value.hex()
        case datetime() if value.tzinfo is not None:
            return rfc3339(value)
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return str(value)


def is_number(type_: pa.DataType) -> bool:
    """Return whether values of this type stand on the right of a column."""
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(type_) for test in numeric)


def json_lines(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[str]:
    """Yield one object per row, a line each, batch by batch."""
    check_names(schema)
    for batch in batches:
        rows = (dict(zip(schema.names, map(plain, row), strict=True)) for row in values_of(batch))
        yield "".join(json.dumps(row) + "\n" for row in rows)


def csv_lines(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[str]:
    """Yield a header and the rows as CSV, batch by batch; null is an empty field."""
    yield _csv([schema.names])
    for batch in batches:
        yield _csv([_field(value) for value in row] for row in values_of(batch))


def write_parquet(path: Path | Sink, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Write Parquet to a file or sink; return how many rows."""
    return _write(
        batches,
        lambda: pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True),
        schema,
        "Parquet",
    )


def write_arrow(path: Path | Sink, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Write the Arrow IPC file format to a file or sink; return how many rows."""
    return _write(batches, lambda: pa.ipc.new_file(path, schema), schema, "Arrow")


def check_names(schema: pa.Schema) -> None:
    """Raise InvalidInput where two columns have one name."""
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise InvalidInput(
                f"two columns of the answer are named {name!r}",
                code="column_names_repeated",
                hint="give each its own name with AS; table, json and csv write them as they are",
            )


def _write(
    batches: Iterable[pa.RecordBatch],
    opener: Callable[[], Any],
    schema: pa.Schema,
    what: str,
) -> int:
    check_names(schema)
    count = 0
    try:
        with opener() as writer:
            for batch in batches:
                writer.write_batch(batch)
                count += batch.num_rows
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise InvalidInput(
            f"{what} cannot hold the answer: {str(error).splitlines()[0]}",
            code="table_type_unsupported",
            hint="cast the column in SQL, as in x::VARCHAR",
        ) from error
    return count


def _column(column: pa.Array) -> list[Any]:
    try:
        found: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        found = column.cast(pa.string()).to_pylist()  # a year that Python does not count to
    return found


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    page = StringIO()
    csv.writer(page, lineterminator="\n").writerows(rows)
    return page.getvalue()


def _field(value: Any) -> Any:
    found = plain(value)
    if isinstance(found, bool):
        return str(found).lower()
    return json.dumps(found) if isinstance(found, list | dict) else found


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shortened(text: str) -> str:
    if len(text) <= CELL_CHARACTERS_MAX:
        return text
    return f"{text[: CELL_CHARACTERS_MAX // 2]}… ({len(text):,} characters)"
