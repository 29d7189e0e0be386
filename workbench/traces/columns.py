"""Columns: from raw cells to times, keys, operations and sizes; every error names its row.

| column | comes as                           | becomes                                 |
|--------|------------------------------------|-----------------------------------------|
| time   | number, timestamp, text of either  | int64 microseconds since the Unix epoch |
| key    | bytes, text by encoding, integer   | binary; u64 is 8 bytes big-endian       |
| op     | text                               | `read` or `write`                       |
| size   | whole number                       | int64 bytes, null where not told        |

Whole columns are converted at once. Only when that fails is the first offending row looked for,
by bisection: converting halves costs about two conversions more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import InvalidInput
from workbench.model.keys import KEY_BYTES_MAX, printable_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

UNIT_US: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}  # "ns" divides by 1,000
TIME_US_MAX: Final = 253_402_300_800_000_000  # the end of the year 9999
KEY_ENCODINGS: Final = ("utf8", "hex", "u64")

_READS: Final = ("read", "r", "get", "gets", "scan")
_WRITES: Final = ("write", "w", "put", "set", "add", "update", "insert", "replace", "delete")
OPERATIONS: Final = {**dict.fromkeys(_READS, "read"), **dict.fromkeys(_WRITES, "write")}
CLOUDPHYSICS_OPERATIONS: Final = {"2a": "write", "28": "read"}

_NUMBER: Final = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_ZONED: Final = r"(?i)[0-9](z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_KEY_CHUNK_ROWS: Final = 1 << 22


def decode_time(column: pa.ChunkedArray, unit: str, name: str) -> tuple[npt.NDArray[np.int64], str]:
    """Return times in microseconds since the Unix epoch, and how they were understood.

    Fractions of a microsecond are cut off in timestamps and whole numbers, and rounded to the
    nearest microsecond in numbers with a fraction, which double precision holds until 2200.

    Raises:
        InvalidInput: a time is missing, is neither number nor timestamp, or lies outside the
            years 1970 to 9999.
    """
    if column.null_count:
        raise _bad_time(name, _first(column.is_null()), "is missing")
    kind = column.type
    if pa.types.is_timestamp(kind):
        zone = "" if kind.tz else ", without zone read as UTC"
        ticks = column.cast(pa.int64()).to_numpy()
        return _scaled(ticks, kind.unit, name), f"timestamps of the file{zone}"
    if pa.types.is_integer(kind):
        try:
            ticks = column.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            row = first_failing(column, lambda part: part.cast(pa.int64()))
            raise _bad_time(name, row, f"is {column[row].as_py()}, out of range") from None
        return _scaled(ticks, unit, name), f"numbers, {unit} since the Unix epoch"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _rounded(column, unit, name), f"numbers, {unit} since the Unix epoch"
    if _is_bytes(kind):
        return _time_from_text(_text(column, "time", name), unit, name)
    raise InvalidInput(
        f"trace {name!r}: its time column has the type {kind}",
        code="trace_time_invalid",
        hint="give numbers or timestamps, or name another column with --columns time=NAME",
    )


def decode_key(
    column: pa.ChunkedArray, encoding: str | None, name: str, *, empty_is_missing: bool
) -> tuple[pa.ChunkedArray, str]:
    """Return keys as binary, and the encoding that was used.

    Args:
        column: Bytes, text or whole numbers.
        encoding: One of KEY_ENCODINGS; None takes bytes as they are, text as UTF-8, and whole
            numbers as u64.
        name: Of the trace, for messages.
        empty_is_missing: Whether an empty cell is a missing key.

    Raises:
        InvalidInput: a key is missing, does not decode, or is longer than KEY_BYTES_MAX.
    """
    if column.null_count:
        raise _bad_key(name, _first(column.is_null()), "is missing", encoding)
    kind = column.type
    if pa.types.is_integer(kind) and encoding in {None, "u64"}:
        return _keys_from_numbers(column, name), "u64"
    if not _is_bytes(kind):
        raise InvalidInput(
            f"trace {name!r}: its key column has the type {kind}, read as {encoding or 'bytes'}",
            code="trace_key_invalid",
            hint="keys are bytes, text with --key-encoding utf8 or hex, or whole numbers with u64",
        )
    cells = column.cast(pa.binary())
    if empty_is_missing and len(cells) and pc.min(pc.binary_length(cells)).as_py() == 0:
        row = _first(pc.equal(pc.binary_length(cells), 0))
        raise _bad_key(name, row, "is empty", encoding)
    used = encoding or ("bytes" if not _is_text(kind) and not empty_is_missing else "utf8")
    if used == "utf8":
        keys = _text(cells, "key", name).cast(pa.binary())
    elif used == "hex":
        keys = _keys_from_hex(cells, name)
    elif used == "u64":
        keys = _keys_from_numbers(_text(cells, "key", name), name)
    else:
        keys = cells
    return _checked_length(keys, name), used


def decode_op(
    column: pa.ChunkedArray, operations: Mapping[str, str], name: str
) -> tuple[pa.ChunkedArray, int]:
    """Return `read` or `write` per row, and how many rows had no operation (taken as reads).

    Raises:
        InvalidInput: a value is not in `operations`; case and outer blanks do not matter.
    """
    texts = column.cast(pa.string()) if not _is_bytes(column.type) else _text(column, "op", name)
    # Arrow gives all chunks of a column the one final dictionary, in order of appearance.
    encoded = pc.dictionary_encode(texts)
    if encoded.num_chunks == 0:
        return pa.chunked_array([], pa.string()), 0
    meanings: list[str] = []
    missing = encoded.null_count
    for code, value in enumerate(encoded.chunk(0).dictionary):
        text = value.as_py().strip().lower()
        meaning = "read" if not text else operations.get(text)
        if meaning is None:
            row = _first(pc.equal(texts, value))
            raise InvalidInput(
                f"trace {name!r}, row {row + 1}: unknown operation {value.as_py()[:32]!a}",
                code="trace_op_unknown",
                hint=f"known are {', '.join(operations)}; --columns op=NAME names another column",
            )
        if not text:
            missing += _count(encoded, code)
        meanings.append(meaning)
    table = pa.array(meanings, pa.string())
    chunks = [table.take(chunk.indices).fill_null("read") for chunk in encoded.chunks]
    return pa.chunked_array(chunks, pa.string()), missing


def decode_size(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Return sizes in bytes, null where a cell is null or empty.

    Raises:
        InvalidInput: a size is negative or not a whole number.
    """
    if _is_bytes(column.type):
        text = _text(column, "size", name)
        column = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    try:
        sizes = column.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row = first_failing(column, lambda part: part.cast(pa.int64()))
        raise _bad_size(name, row, column[row].as_py(), "not a whole number of bytes") from None
    if (pc.min(sizes).as_py() or 0) < 0:
        row = _first(pc.less(sizes, 0).fill_null(False))  # noqa: FBT003 - Arrow's signature
        raise _bad_size(name, row, sizes[row].as_py(), "negative")
    return sizes


def first_failing(column: pa.ChunkedArray, convert: Callable[[Any], object]) -> int:
    """Return the index of the first element that `convert` refuses; there must be one."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(column.slice(low, middle - low))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
        else:
            low = middle
    return low


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    return _is_text(kind) or bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _text(column: pa.ChunkedArray, what: str, name: str) -> pa.ChunkedArray:
    """Return bytes as text, or raise InvalidInput for the first row that is not UTF-8."""
    try:
        return column.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        cells = column.cast(pa.binary())
        row = first_failing(cells, lambda part: part.cast(pa.string()))
        raise InvalidInput(
            f"trace {name!r}, row {row + 1}: {what} {printable_key(cells[row].as_py())} "
            "is not UTF-8",
            code="trace_not_utf8",
            hint="write the file as UTF-8; keys of raw bytes go into Parquet, or into CSV as hex",
        ) from None


def _time_from_text(
    text: pa.ChunkedArray, unit: str, name: str
) -> tuple[npt.NDArray[np.int64], str]:
    if not len(text):
        return np.empty(0, dtype=np.int64), "no times"
    numbers = f"numbers, {unit} since the Unix epoch"
    for kind in (pa.int64(), pa.float64()):
        try:
            cells = text.cast(kind)
        except pa.ArrowInvalid:
            continue
        if kind == pa.int64():
            return _scaled(cells.to_numpy(), unit, name), numbers
        return _rounded(cells, unit, name), numbers
    # The first row decides what the column is; the first row that differs is the wrong one.
    if pc.any(pc.equal(text, "")).as_py():
        raise _bad_time(name, _first(pc.equal(text, "")), "is empty")
    if _NUMBER.fullmatch(text[0].as_py().encode()):
        row = first_failing(text, lambda part: part.cast(pa.float64()))
        raise _bad_time(name, row, f"{text[row].as_py()[:48]!a} is not a number")
    zoned = pc.match_substring_regex(text, _ZONED)
    utc = pc.if_else(zoned, text, pc.binary_join_element_wise(text, "Z", ""))
    try:
        ticks = utc.cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        row = first_failing(utc, lambda part: part.cast(pa.timestamp("ns", "UTC")))
        shown = ascii(text[row].as_py()[:48])
        raise _bad_time(name, row, f"{shown} is not a number or timestamp") from None
    zone = "" if pc.all(zoned).as_py() else ", without zone read as UTC"
    return _scaled(ticks, "ns", name), f"timestamps of the file{zone}"


def _scaled(ticks: npt.NDArray[np.int64], unit: str, name: str) -> npt.NDArray[np.int64]:
    """Return whole ticks of `unit` as microseconds, checked before they are multiplied."""
    factor = UNIT_US.get(unit)
    limit = TIME_US_MAX // factor if factor else np.iinfo(np.int64).max
    wrong = (ticks < 0) | (ticks > limit)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _bad_time(name, row, f"is {int(ticks[row])} {unit}, out of range")
    microseconds: npt.NDArray[np.int64] = ticks * factor if factor else ticks // 1_000
    return microseconds


def _rounded(column: pa.ChunkedArray, unit: str, name: str) -> npt.NDArray[np.int64]:
    values = column.cast(pa.float64()).to_numpy()
    scaled = values * UNIT_US[unit] if unit in UNIT_US else values / 1_000
    wrong = ~((scaled >= 0) & (scaled < TIME_US_MAX))  # catches NaN, too
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _bad_time(name, row, f"is {values[row]:g} {unit}, out of range")
    microseconds: npt.NDArray[np.int64] = np.rint(scaled).astype(np.int64)
    return microseconds


def _keys_from_numbers(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        numbers = column.cast(pa.uint64())
    except pa.ArrowInvalid:
        row = first_failing(column, lambda part: part.cast(pa.uint64()))
        value = ascii(str(column[row].as_py())[:48])
        raise _bad_key(name, row, f"{value} is not a whole number below 2**64", "u64") from None
    values = numbers.to_numpy().astype(">u8")
    chunks = [
        fixed_width_keys(values[at : at + _KEY_CHUNK_ROWS].view(np.uint8).reshape(-1, 8))
        for at in range(0, len(values), _KEY_CHUNK_ROWS)
    ]
    return pa.chunked_array(chunks, pa.binary())


def fixed_width_keys(rows: npt.NDArray[np.uint8]) -> pa.Array:
    """Return the rows of a byte matrix as one binary array, without a loop over rows."""
    count, width = rows.shape
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(width)
    data = np.ascontiguousarray(rows)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), count, buffers)


def _hex_values() -> npt.NDArray[np.uint8]:
    """Return the value of each byte as a hex digit, 255 for those that are none."""
    values = np.full(256, 255, dtype=np.uint8)
    for value, digit in enumerate(b"0123456789abcdef"):
        values[digit] = value
        values[ord(chr(digit).upper())] = value
    return values


_HEX: Final = _hex_values()


def _keys_from_hex(cells: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    chunks: list[pa.Array] = []
    row = 0
    for chunk in cells.chunks:
        # Concatenating brings offsets to 0 and drops what a slice does not show.
        flat = pa.concat_arrays([chunk, pa.array([b""], pa.binary())])
        offsets = np.frombuffer(flat.buffers()[1], dtype=np.int32, count=len(chunk) + 1)
        digits = np.frombuffer(flat.buffers()[2] or b"", dtype=np.uint8, count=int(offsets[-1]))
        values = _HEX[digits]
        wrong = np.flatnonzero(values == 255)
        odd = np.flatnonzero(np.diff(offsets) & 1)
        if len(wrong) or len(odd):
            at_wrong = np.searchsorted(offsets, wrong[:1], side="right") - 1
            at = int(min([*at_wrong, *odd[:1]]))
            shown = printable_key(chunk[at].as_py())
            raise _bad_key(name, row + at, f"{shown} is not pairs of hex digits", "hex")
        data = (values[0::2] << 4) | values[1::2]
        buffers = [None, pa.py_buffer(offsets // 2), pa.py_buffer(data)]
        chunks.append(pa.Array.from_buffers(pa.binary(), len(chunk), buffers))
        row += len(chunk)
    return pa.chunked_array(chunks, pa.binary())


def _checked_length(keys: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    lengths = pc.binary_length(keys)
    if len(keys) and pc.max(lengths).as_py() > KEY_BYTES_MAX:
        row = _first(pc.greater(lengths, KEY_BYTES_MAX))
        raise InvalidInput(
            f"trace {name!r}, row {row + 1}: key has {lengths[row].as_py()} bytes, "
            f"the limit is {KEY_BYTES_MAX}",
            code="key_too_long",
            hint="shorten the key, or name another column with --columns key=NAME",
        )
    return keys


def _count(encoded: pa.ChunkedArray, code: int) -> int:
    return sum(pc.sum(pc.equal(chunk.indices, code)).as_py() or 0 for chunk in encoded.chunks)


def _first(mask: pa.ChunkedArray) -> int:
    """Return the index of the first true element; there must be one."""
    return int(pc.index(mask, value=True).as_py())


def _bad_time(name: str, row: int, what: str) -> InvalidInput:
    return InvalidInput(
        f"trace {name!r}, row {row + 1}: time {what}",
        code="trace_time_invalid",
        hint="times are numbers since 1970 in the unit of --time-unit, or ISO 8601 timestamps",
    )


def _bad_key(name: str, row: int, what: str, encoding: str | None) -> InvalidInput:
    return InvalidInput(
        f"trace {name!r}, row {row + 1}: key {what}",
        code="trace_key_invalid",
        hint=f"keys were read as {encoding or 'utf8'}; "
        f"choose --key-encoding {'|'.join(KEY_ENCODINGS)}",
    )


def _bad_size(name: str, row: int, value: object, what: str) -> InvalidInput:
    return InvalidInput(
        f"trace {name!r}, row {row + 1}: size {ascii(value)[:48]} is {what}",
        code="trace_size_invalid",
        hint="sizes are whole numbers of bytes from 0, or empty",
    )
