"""Readers: a recorded trace as a table of accesses, and what was assumed on the way.

    bytes ──▶ streams (unpack) ──▶ files, blocks (raw columns) ──▶ columns (values) ──▶ Trace
                                          ▲
                  format: Parquet by magic │ CloudPhysics by its header │ CSV by column names │
                          ARC by name and first line │ u32 by name

A trace is input from outside: every row is checked where it enters, and an error names the
file, the row and the way out. Nothing is guessed in silence: format, units, encodings and
defaults that were used come back in `Trace.assumptions` and are stored with the dataset.
Columns and options are in docs/formats/traces.md. Routes and windows are not made here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.tables import ACCESS, TIME
from workbench.model.times import rfc3339_us
from workbench.traces import blocks, columns, files
from workbench.traces.streams import (
    PARQUET_MAGIC,
    PlainStream,
    describe_bytes,
    is_text,
    read_whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

FORMATS: Final = ("auto", "arc", "cloudphysics", "csv", "parquet", "u32")
TIME_UNITS: Final = ("s", "ms", "us", "ns")
CLOUDPHYSICS_HEADER: Final = ["version", "time", "op", "size", "lbn"]
# Formats without times and columns: what the number that becomes the key is called.
BLOCK_FORMATS: Final = {"arc": "start", "u32": "number"}
FORMAT_BY_ENDING: Final = {".lis": "arc", ".trace": "u32"}
CHECKED_BYTES_MAX: Final = 1 << 30
COMPRESSION_ENDINGS: Final = (".zst", ".zstd", ".gz", ".lz4", ".bz2", ".xz")

# A trace is called ordered by arrival when this share of its keys, each at its first access,
# is greater than every key before; fewer keys than the minimum prove nothing.
ARRIVAL_SHARE_MIN: Final = 0.9
ARRIVAL_KEYS_MIN: Final = 100


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What the user says about a trace; all have defaults that fit most files.

    Attributes:
        format: One of FORMATS; `auto` goes by the first bytes, and by the name for those that
            the bytes do not tell.
        columns: Canonical name (time, key, op, size) → name in the file.
        key_encoding: `utf8`, `hex` or `u64` (8 bytes big-endian); None goes by the file.
        time_unit: Unit of times that are numbers.
        rate: Accesses per second, for traces without a time column.
        speedup: By how much the replayed clock runs faster than the recorded one.
        sort: Whether to sort by time, stably, a trace that is not sorted.
    """

    format: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    key_encoding: str | None = None
    time_unit: str = "s"
    rate: float | None = None
    speedup: float = 1.0
    sort: bool = False

    def __post_init__(self) -> None:
        _check_choice("format", self.format, FORMATS)
        _check_choice("time-unit", self.time_unit, TIME_UNITS)
        if self.key_encoding is not None:
            _check_choice("key-encoding", self.key_encoding, columns.KEY_ENCODINGS)
        for name in self.columns:
            _check_choice("columns", name, files.CANONICAL)
        for option, value in (("rate", self.rate), ("speedup", self.speedup)):
            if value is not None and not 0 < value < float("inf"):
                raise InvalidArgument(
                    f"--{option} is {value}, it must be a positive number",
                    code="trace_option_invalid",
                    hint=f"leave --{option} out, or give a number above 0",
                )


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A trace that was read.

    Attributes:
        accesses: ACCESS schema, time ascending.
        assumptions: What was found or assumed, by name; stored with the dataset.
        warnings: Sentences for a human.
    """

    accesses: pa.Table
    assumptions: dict[str, str]
    warnings: tuple[str, ...]


def read_trace(
    source: BinaryIO,
    name: str,
    options: TraceOptions,
    progress: Callable[[int], None] | None = None,
) -> Trace:
    """Read a whole trace.

    Args:
        source: Its bytes, plain or compressed with zstd, gzip, lz4, bz2 or xz. Plain Parquet
            is read in place where `source` can seek and stands at its start.
        name: For messages; its ending tells ARC and u32 files.
        options: What the user says about the file.
        progress: Called now and then with the rows read so far.

    Raises:
        InvalidInput: codes trace_empty, trace_truncated, trace_damaged, trace_unreadable,
            trace_too_large, trace_format_unknown, trace_columns_missing,
            trace_columns_ambiguous, trace_row_invalid, trace_not_utf8, trace_time_invalid,
            trace_unsorted, trace_key_invalid, key_too_long, trace_op_unknown,
            trace_size_invalid.
        InvalidArgument: code trace_option_invalid.
    """
    in_place = source.seekable() and source.tell() == 0
    stream = PlainStream(source, name)
    if not stream.head:
        raise _empty(name, "no bytes")
    kind = _format(stream.head, options, name)
    if kind == "parquet":
        plain = in_place and stream.compression == "none"
        file = files.open_parquet(source if plain else read_whole(stream, name), name)
        found = _resolve(file.schema_arrow.names, options, {}, name)
        raw = files.read_parquet(file, found, name, progress)
    elif kind in BLOCK_FORMATS:
        if options.rate is None:
            _check_end(stream, kind, name)
        found = _resolve_blocks(kind, options, name)
        read = blocks.read_arc if kind == "arc" else blocks.read_u32
        raw = read(stream, name, progress)
    else:
        header = files.csv_header(stream.head)
        if header is None:
            raise _format_unknown(name, stream.head)
        defaults = {"key": "lbn"} if kind == "cloudphysics" else {}
        found = _resolve(header, options, defaults, name)
        raw = files.read_csv(stream, found, name, progress)
    if not raw.table.num_rows:
        raise _empty(name, "no rows")
    return _trace(raw, kind, stream.compression, found, options, name)


def _trace(  # noqa: PLR0913, PLR0917 - the second half of read_trace, one call
    raw: files.Raw,
    kind: str,
    compression: str,
    found: Mapping[str, str],
    options: TraceOptions,
    name: str,
) -> Trace:
    """Decode raw columns and put them together."""
    cloudphysics = kind == "cloudphysics"
    table = raw.table
    key, encoding = columns.decode_key(
        table.column("key"),
        options.key_encoding or ("u64" if cloudphysics else None),
        name,
        empty_is_missing=raw.empty_is_missing,
    )
    operations = columns.CLOUDPHYSICS_OPERATIONS if cloudphysics else columns.OPERATIONS
    rows = table.num_rows
    op, op_note = pa.repeat("read", rows), "no column, every access taken as a read"
    if "op" in found:
        op, missing = columns.decode_op(table.column("op"), operations, name)
        op_note = f"{missing} empty, taken as reads" if missing else "as recorded"
    size, size_note = pa.nulls(rows, pa.int64()), "no column, not measured"
    if "size" in found:
        size = columns.decode_size(table.column("size"), name)
        size_note = f"{size.null_count} of {rows} not measured" if size.null_count else "bytes"
    time_us, time_note = _times(table, options, name)
    order, sort_note = _order(time_us, options, name)
    time_us = _sped_up(time_us if order is None else time_us[order], options.speedup)
    accesses = pa.table([pa.array(time_us).cast(TIME), key, op, size], schema=ACCESS)
    if order is not None:
        others = accesses.select(["key", "op", "size"]).take(pa.array(order))
        accesses = pa.table([accesses.column("time"), *others.columns], schema=ACCESS)
    assumptions = {
        "format": kind,
        "compression": compression,
        "rows": str(rows),
        "columns": ",".join(f"{canonical}={actual}" for canonical, actual in found.items()),
        "time": time_note,
        "order": sort_note,
        "speedup": f"{options.speedup:g}",
        "key_encoding": encoding,
        "op": op_note,
        "size": size_note,
        **raw.notes,
    }
    return Trace(accesses, assumptions, tuple(_warnings(raw, accesses, encoding)))


def _format(head: bytes, options: TraceOptions, name: str) -> str:
    """Return the format to read by: what the user says, or what first bytes and name show.

    A format that the bytes plainly contradict is refused here, where both can be named. A name
    counts only where the bytes could be what it says: text is never read as u32, which would
    make numbers of it in silence.
    """
    is_parquet = head.startswith(PARQUET_MAGIC)
    if options.format != "auto":
        if is_parquet != (options.format == "parquet"):
            raise _format_unknown(name, head)
        return options.format
    if is_parquet:
        return "parquet"
    named = _format_by_name(name)
    if named == "arc" and blocks.looks_like_arc(head):
        return named
    if named == "u32" and not is_text(head):
        return named
    header = files.csv_header(head)
    if header is None:
        raise _format_unknown(name, head)
    if header == CLOUDPHYSICS_HEADER:
        return "cloudphysics"
    known = {*files.CANONICAL, *options.columns.values()} & set(header)
    is_header = len(header) > 1 and all(map(_is_name, header))
    if not known and not is_header:
        raise _format_unknown(name, head)
    return "csv"


def _format_by_name(name: str) -> str | None:
    """Return the format that a file's name ends in, before the ending of its compression."""
    lower = name.lower()
    for ending in COMPRESSION_ENDINGS:
        if lower.endswith(ending):
            lower = lower.removesuffix(ending)
            break
    return next((kind for ending, kind in FORMAT_BY_ENDING.items() if lower.endswith(ending)), None)


def _is_name(cell: str) -> bool:
    """Tell whether a cell of the first line could be a column's name rather than a value."""
    return cell[:1].isalpha() or cell[:1] == "_"


def _resolve(
    available: Sequence[str], options: TraceOptions, defaults: Mapping[str, str], name: str
) -> dict[str, str]:
    """Return which columns to read; a trace has a time column or a rate, not both."""
    found = files.resolve_columns(
        available, options.columns, defaults, name, timed=options.rate is None
    )
    if "time" in found and options.rate is not None:
        raise InvalidArgument(
            f"trace {name!r} has the time column {found['time']!r}, and --rate is {options.rate:g}",
            code="trace_option_invalid",
            hint="leave --rate out; --speedup changes the pace of recorded times",
        )
    return found


def _check_end(stream: PlainStream, kind: str, name: str) -> None:
    """Raise where a file is cut off, before it is asked at what rate its accesses came.

    Whoever gives a rate for a damaged file only meets the next error. Of a file that is larger
    than CHECKED_BYTES_MAX the rest is left to the reader.
    """
    length = 0
    while length < CHECKED_BYTES_MAX:
        part = stream.read(files.BLOCK_BYTES)
        if not part:
            if kind == "u32":
                blocks.check_u32_length(length, name)
            return
        length += len(part)


def _resolve_blocks(kind: str, options: TraceOptions, name: str) -> dict[str, str]:
    """Return the only column of a format without columns; its times come from a rate."""
    if options.rate is None:
        raise InvalidInput(
            f"trace {name!r} has no times: it is read as {kind}, which records none",
            code="trace_columns_missing",
            hint="give the accesses per second with --rate OPS_PER_S",
        )
    if options.columns:
        raise InvalidArgument(
            f"trace {name!r} is read as {kind}, which has no columns to name",
            code="trace_option_invalid",
            hint="leave --columns out, or name another --format",
        )
    return {"key": BLOCK_FORMATS[kind]}


def _times(table: pa.Table, options: TraceOptions, name: str) -> tuple[npt.NDArray[np.int64], str]:
    """Return microseconds per row, from the time column or by the rate."""
    if options.rate is None:
        return columns.decode_time(table.column("time"), options.time_unit, name)
    offsets = np.arange(table.num_rows, dtype=np.float64) * (1_000_000 / options.rate)
    if offsets[-1] >= columns.TIME_US_MAX:
        raise InvalidArgument(
            f"--rate {options.rate:g} puts the last of {table.num_rows} accesses after the "
            "year 9999",
            code="trace_option_invalid",
            hint="give accesses per second",
        )
    note = f"no column, {options.rate:g} accesses per second from 1970-01-01T00:00:00Z"
    return np.rint(offsets).astype(np.int64), note


def _order(
    time_us: npt.NDArray[np.int64], options: TraceOptions, name: str
) -> tuple[npt.NDArray[np.int64] | None, str]:
    """Return the order that sorts the rows by time, or None where they are sorted."""
    falls = np.diff(time_us) < 0
    if not falls.any():
        return None, "ascending by time as recorded"
    if options.sort:
        note = f"sorted by time; {int(falls.sum())} rows were earlier than the one before"
        return np.argsort(time_us, kind="stable"), note
    row = int(np.argmax(falls)) + 1
    raise InvalidInput(
        f"trace {name!r}, row {row + 1}: time {rfc3339_us(int(time_us[row]))} is before "
        f"{rfc3339_us(int(time_us[row - 1]))} of row {row}",
        code="trace_unsorted",
        hint="sort the file by time, or pass --sort",
    )


def _sped_up(time_us: npt.NDArray[np.int64], speedup: float) -> npt.NDArray[np.int64]:
    """Return ascending times whose distance to the first is divided by `speedup`."""
    if speedup == 1.0:
        return time_us
    start = int(time_us[0])
    offsets = (time_us - start) / speedup
    if start + offsets[-1] >= columns.TIME_US_MAX:
        raise InvalidArgument(
            f"--speedup {speedup:g} puts the last access after the year 9999",
            code="trace_option_invalid",
            hint="give a number nearer to 1",
        )
    return start + np.rint(offsets).astype(np.int64)


def _warnings(raw: files.Raw, accesses: pa.Table, encoding: str) -> list[str]:
    """Return what a human should know before believing plans made from this trace."""
    warnings: list[str] = []
    if raw.cut_suspected:
        warnings.append("the last line has no line end; if the file was cut, its last row is wrong")
    distinct = pc.unique(accesses.column("key"))
    share = arrival_share(distinct)
    if len(distinct) >= ARRIVAL_KEYS_MIN and share >= ARRIVAL_SHARE_MIN:
        warnings.append(
            f"key order follows first-arrival order ({share:.0%} of {len(distinct)} keys): either "
            "the keys were renumbered as they came, then split planning means nothing there; "
            "or the application appends in key order, then the load moves on with the last key "
            "and only a cut at the tail helps"
        )
    if encoding == "utf8" and _numbers_of_uneven_length(distinct):
        warnings.append(
            "all keys are numbers of different lengths, compared as text (10 sorts before 9); "
            "--key-encoding u64 compares them as numbers"
        )
    return warnings


def arrival_share(distinct: pa.Array) -> float:
    """Return the share of keys that are greater than all before them; 0 for less than two.

    Args:
        distinct: Distinct keys in the order of their first access. Keys in random order give
            about ln(n)/n, renumbered keys 1.
    """
    if len(distinct) < 2:
        return 0.0
    ranks = np.empty(len(distinct), dtype=np.int64)
    ranks[pc.array_sort_indices(distinct).to_numpy()] = np.arange(len(distinct))
    greatest = np.maximum.accumulate(ranks)
    return float(np.mean(ranks[1:] > greatest[:-1]))


def _numbers_of_uneven_length(distinct: pa.Array) -> bool:
    lengths = pc.min_max(pc.binary_length(distinct)).as_py()
    if lengths["min"] == lengths["max"] or lengths["max"] > 20:
        return False
    digits = pc.match_substring_regex(distinct.cast(pa.string()), "^[0-9]+$")
    return bool(pc.all(digits).as_py())


def _check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidArgument(
            f"--{option} has the unknown value {value!r}",
            code="trace_option_invalid",
            hint=f"known are {', '.join(allowed)}",
        )


def _empty(name: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"trace {name!r} is empty: it has {what}",
        code="trace_empty",
        hint="give a file with at least one access",
    )


def _format_unknown(name: str, head: bytes) -> InvalidInput:
    looks = "a Parquet file" if head.startswith(PARQUET_MAGIC) else describe_bytes(head)
    return InvalidInput(
        f"trace {name!r} is in no format known here: it looks like {looks}",
        code="trace_format_unknown",
        hint=f"name it with --format {'|'.join(FORMATS[1:])}, or convert it to one of them",
    )
