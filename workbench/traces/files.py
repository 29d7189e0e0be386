"""Files: the raw columns of a CSV or Parquet trace, before anything is interpreted.

    PlainStream ──▶ read_csv ──────┐
                                   ├──▶ Raw: columns by canonical name, as the file has them
    seekable source ──▶ read_parquet┘

Traces without columns (ARC, u32) are read in `blocks`, with the batches and limits of this module.

Canonical names are `time`, `key`, `op`, `size`; `Columns` says what each is called in the file.
CSV cells come back as bytes, Parquet columns with their own type. Rows are read in batches, and
limits are checked before memory is taken. What the values mean is decided in `columns`.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from workbench.errors import InvalidInput
from workbench.traces.streams import PARQUET_MAGIC, PlainStream, truncated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CANONICAL: Final = ("time", "key", "op", "size")
ROWS_MAX: Final = 500_000_000
RAW_BYTES_MAX: Final = 32 << 30
PARQUET_BATCH_ROWS: Final = 1 << 17
# A line of text is no longer than a block.
BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Raw:
    """The columns of a trace file as they stand there.

    Attributes:
        table: Columns by canonical name; those that the file lacks are absent.
        empty_is_missing: Whether an empty cell means that there is no value (CSV).
        cut_suspected: Whether the last line has no line end, so it may be cut.
        notes: What the format makes of the file, by name; goes into the assumptions.
    """

    table: pa.Table
    empty_is_missing: bool
    cut_suspected: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _BadRows:
    """The CSV rows whose number of cells is wrong: the first, and how many there are."""

    name: str
    rows_before: int = 0
    first: Any = None
    first_number: int = 0
    count: int = 0

    def __call__(self, row: Any) -> str:  # noqa: ANN401 - pyarrow's InvalidRow
        self.count += 1
        if self.first is None:
            self.first, self.first_number = row, self.rows_before + row.number
        # One bad row may be the cut last one; at the second the file is wrong.
        return "skip" if self.count == 1 else "error"

    def raise_for(self, rows_good: int) -> None:
        """Raise InvalidInput for the first bad row, told apart by whether it is the last."""
        row, number = self.first, self.first_number
        if self.count == 1 and number > rows_good and row.actual_columns < row.expected_columns:
            raise truncated(
                self.name,
                f"its last row {number} has {row.actual_columns} of {row.expected_columns} columns",
            )
        raise InvalidInput(
            f"trace {self.name!r}, row {number}: {row.actual_columns} columns instead of "
            f"{row.expected_columns}, {row.text[:48]!a}",
            code="trace_row_invalid",
            hint="mend or remove the row; a comma inside a key needs double quotes",
        )


@dataclass(slots=True)
class Batches:
    """What was read of a file so far, with its limits."""

    name: str
    progress: Callable[[int], None] | None
    parts: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep `batch` and report the rows so far."""
        self.parts.append(batch)
        self.rows += batch.num_rows
        self.size_bytes += batch.nbytes
        check_limits(self.name, self.rows, self.size_bytes)
        if self.progress is not None:
            self.progress(self.rows)


def check_limits(name: str, rows: int, size_bytes: int) -> None:
    """Raise InvalidInput where a trace has, or declares, more than fits."""
    if rows > ROWS_MAX or size_bytes > RAW_BYTES_MAX:
        raise InvalidInput(
            f"trace {name!r} has {rows} rows or more in {size_bytes} bytes; "
            f"the limits are {ROWS_MAX} rows and {RAW_BYTES_MAX} bytes",
            code="trace_too_large",
            hint="cut the trace into shorter times and collect them one by one",
        )


def csv_header(head: bytes) -> list[str] | None:
    """Return the names in the first line, or None where it is no line of CSV text."""
    line = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].rstrip(b"\r")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not text or not text.isprintable():
        return None
    return next(csv.reader([text]))


def resolve_columns(
    available: Sequence[str],
    mapping: Mapping[str, str],
    defaults: Mapping[str, str],
    name: str,
    *,
    timed: bool,
) -> dict[str, str]:
    """Return canonical name → name in the file, for the columns that the file has.

    Args:
        available: Names of the file's columns.
        mapping: What the user said; each of these must exist.
        defaults: What the format says; used where the user said nothing.
        name: Of the trace, for messages.
        timed: Whether a time column is needed.

    Raises:
        InvalidInput: a needed or mapped column does not exist, or occurs twice.
    """
    wanted = {**{column: column for column in CANONICAL}, **defaults, **mapping}
    listed = ", ".join(ascii(column)[1:-1] for column in available[:32]) or "none"
    found = {column: wanted[column] for column in CANONICAL if wanted[column] in available}
    needed = [*mapping, "key", *(["time"] if timed else [])]
    for column in needed:
        if column in found:
            continue
        other = ", or give --rate for a trace without times" if column == "time" else ""
        raise InvalidInput(
            f"trace {name!r} has no column {wanted[column]!r} for {column!r}; it has {listed}",
            code="trace_columns_missing",
            hint=f"name the column with --columns {column}=NAME{other}",
        )
    for column in found.values():
        if list(available).count(column) > 1:
            raise InvalidInput(
                f"trace {name!r} has the column {column!r} {list(available).count(column)} times",
                code="trace_columns_ambiguous",
                hint="rename all but one of them",
            )
    return found


def read_csv(
    stream: PlainStream,
    columns: Mapping[str, str],
    name: str,
    progress: Callable[[int], None] | None,
) -> Raw:
    """Return the cells of `columns` as bytes.

    Args:
        stream: CSV text with a header line, cells separated by commas; a quoted cell may hold
            commas but no line break.
        columns: Canonical name → name in the file.
        name: Of the trace, for messages.
        progress: Called with the rows read so far.

    Raises:
        InvalidInput: the file is cut, or a row has another number of cells than the header.
    """
    header = csv_header(stream.head)
    assert header is not None, "the caller has read the header"
    wanted = list(dict.fromkeys(columns.values()))
    bad = _BadRows(name)
    batches = Batches(name, progress)
    # Blocks are cut here and parsed from memory. Arrow's streaming reader would call back into
    # Python from a thread of its own, and can wait for ever when it is dropped after an error.
    for block in _rows(stream, name):
        bad.rows_before = batches.rows + bad.count
        table = _parse(block, header, wanted, bad, batches)
        for batch in table.to_batches():
            batches.add(batch)
    if bad.count:
        bad.raise_for(batches.rows)
    table = pa.Table.from_batches(
        batches.parts, pa.schema([(column, pa.binary()) for column in wanted])
    )
    return Raw(
        _canonical(table, columns),
        empty_is_missing=True,
        cut_suspected=lacks_line_end(stream),
    )


def lacks_line_end(stream: PlainStream) -> bool:
    """Tell whether a text that was read to its end lacks the last line end."""
    return stream.last_byte not in {b"\n", b"\r", b""}


def line_blocks(stream: PlainStream, name: str) -> Iterator[bytes]:
    """Yield a text in blocks of whole lines; only the last block may lack its line end."""
    rest = b""
    while part := stream.read(BLOCK_BYTES):
        lines, end, tail = part.rpartition(b"\n")
        if not end:
            rest += part
            if len(rest) > BLOCK_BYTES:
                raise InvalidInput(
                    f"trace {name!r} has a line of more than {BLOCK_BYTES} bytes",
                    code="trace_row_invalid",
                    hint="check that it is a text file with one access per line",
                )
            continue
        yield rest + lines + end
        rest = tail
    if rest:
        yield rest


def _rows(stream: PlainStream, name: str) -> Iterator[bytes]:
    """Yield the text after the header in blocks of whole lines, none of them blank."""
    is_header = True
    for block in line_blocks(stream, name):
        rows = block.partition(b"\n")[2] if is_header else block
        is_header = False
        if rows.strip(b"\r\n"):
            yield rows


def _parse(
    block: bytes, header: list[str], wanted: list[str], bad: _BadRows, batches: Batches
) -> pa.Table:
    """Return the wanted cells of a block of whole lines."""
    bad_before = bad.count
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(block),
            # Rows are numbered for error messages only when one thread parses.
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=len(block) + 1, column_names=header
            ),
            parse_options=pa_csv.ParseOptions(invalid_row_handler=bad),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pa.binary()),
                include_columns=wanted,
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        if bad.count > 1:
            bad.raise_for(batches.rows)
        raise _unreadable(bad.name, batches.rows, error) from error
    _check_quotes(block, table, table.num_rows + bad.count - bad_before, bad)
    return table


def _check_quotes(block: bytes, table: pa.Table, rows: int, bad: _BadRows) -> None:
    """Raise InvalidInput where a quote joined lines, so that no row is swallowed unseen."""
    if b'"' not in block:
        return  # a row is a line
    lines = sum(map(bool, block.splitlines()))
    last = table.slice(table.num_rows - 1).to_pylist() if table.num_rows else []
    if rows != lines or any(b"\n" in cell for row in last for cell in row.values()):
        raise InvalidInput(
            f"trace {bad.name!r}, after row {bad.rows_before}: a quote is not closed, or a cell "
            "has a line break",
            code="trace_row_invalid",
            hint="close the quotes; keys with line breaks go into CSV as hex, or into Parquet",
        )


def open_parquet(source: BinaryIO | bytes, name: str) -> pq.ParquetFile:
    """Open a Parquet file whose first bytes are its magic.

    Raises:
        InvalidInput: the footer is missing or damaged, or declares more than the limits.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    stream.seek(-len(PARQUET_MAGIC), io.SEEK_END)
    if stream.tell() < len(PARQUET_MAGIC) or stream.read() != PARQUET_MAGIC:
        raise truncated(name, "a Parquet file ends with PAR1, this one does not")
    stream.seek(0)
    try:
        file = pq.ParquetFile(stream, page_checksum_verification=True)
        check_limits(name, file.metadata.num_rows, 0)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(name, 0, error) from error
    return file


def read_parquet(
    file: pq.ParquetFile,
    columns: Mapping[str, str],
    name: str,
    progress: Callable[[int], None] | None,
) -> Raw:
    """Return `columns` with the types of the file; arguments as for `read_csv`.

    Raises:
        InvalidInput: a page does not decode, or the columns exceed the limits.
    """
    metadata = file.metadata
    wanted = set(columns.values())
    declared = 0
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            if chunk.path_in_schema.split(".", 1)[0] in wanted:
                declared += chunk.total_uncompressed_size
    check_limits(name, metadata.num_rows, declared)
    batches = Batches(name, progress)
    schema = pa.schema([file.schema_arrow.field(column) for column in columns.values()])
    try:
        # One thread: others would wait for Python to read from `source` anyway.
        for batch in file.iter_batches(
            PARQUET_BATCH_ROWS, columns=sorted(wanted), use_threads=False
        ):
            batches.add(batch)
        table = pa.Table.from_batches(batches.parts) if batches.parts else schema.empty_table()
        return Raw(_canonical(table, columns), empty_is_missing=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(name, batches.rows, error) from error


def _canonical(table: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    return pa.table({name: table.column(actual) for name, actual in columns.items()})


def _unreadable(name: str, rows: int, error: Exception) -> Exception:
    """Return the error for bytes that do not decode; failures of the machine stay as they are."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    reason = str(error).splitlines()[0][:120]
    return InvalidInput(
        f"trace {name!r} does not decode after row {rows}: {reason!a}",
        code="trace_unreadable",
        hint="check that the file is whole, and that --format fits it",
    )
