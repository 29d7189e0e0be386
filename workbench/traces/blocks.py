"""Blocks: traces of bare block numbers, which have no header, no columns and no times.

    PlainStream ──▶ read_arc: lines of `start count unused unused` ─┐
                                                                    ├──▶ Raw: column `key`, uint64
    PlainStream ──▶ read_u32: 4-byte numbers, little-endian ────────┘

Both are read in batches, whole batches at once. A batch of lines that is not as it should be is
read again line by line, only to name the first wrong one: the fast way says whether, the slow
way says where. Times come from `--rate`, which is decided in `readers`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np
import pyarrow as pa

from workbench.errors import InvalidInput
from workbench.traces.files import BLOCK_BYTES, Batches, Raw, lacks_line_end, line_blocks
from workbench.traces.streams import truncated

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from workbench.traces.streams import PlainStream

ARC_FIELDS: Final = ("start", "count", "unused", "unused")
U32_BYTES: Final = 4

_U64_MAX: Final = 2**64 - 1
_U64_DIGITS: Final = 20
_ARC_SCHEMA: Final = pa.schema([("key", pa.uint64())])
_U32_SCHEMA: Final = pa.schema([("key", pa.uint32())])
_FIELD: Final = re.compile(rb"[^ \t\r]+")
_DIGITS: Final = re.compile(rb"[0-9]+")
# A line that is wrong is taken for ARC too, so that it is named with its number.
_ARC_FIRST_LINE: Final = re.compile(rb"[+-]?[0-9][^,]*")

_DIGIT, _OTHER, _BLANK, _LINE_END = range(4)


def _byte_classes() -> npt.NDArray[np.uint8]:
    classes = np.full(256, _OTHER, dtype=np.uint8)
    classes[list(b"0123456789")] = _DIGIT
    classes[list(b" \t\r")] = _BLANK
    classes[list(b"\n")] = _LINE_END
    return classes


_CLASSES: Final = _byte_classes()


def looks_like_arc(head: bytes) -> bool:
    """Tell whether the first line that is not blank could be one of an ARC file."""
    first = next(filter(None, map(bytes.strip, head.split(b"\n"))), None)
    return first is None or _ARC_FIRST_LINE.fullmatch(first) is not None


def read_arc(stream: PlainStream, name: str, progress: Callable[[int], None] | None) -> Raw:
    """Return the start blocks of an ARC `.lis` file, one per line.

    Args:
        stream: Lines of four whole numbers: start, count, and two that nobody uses. Blank lines
            do not count as accesses.
        name: Of the trace, for messages.
        progress: Called with the rows read so far.

    Raises:
        InvalidInput: a line is not four whole numbers below 2**64, or the last one is cut.
    """
    batches = Batches(name, progress)
    lines_before = 0
    longer, count_max = 0, 0
    for block in line_blocks(stream, name):
        numbers = _four_per_line(block)
        if numbers is None:
            _refuse(block, lines_before, name)
        lines_before += block.count(b"\n")
        if not len(numbers):
            continue
        batches.add(pa.record_batch([pa.array(numbers[:, 0])], schema=_ARC_SCHEMA))
        counts = numbers[:, 1]
        longer += int(np.count_nonzero(counts > 1))
        count_max = max(count_max, int(counts.max()))
    notes = {
        "access": f"one per line, at its start block; {longer} of {batches.rows} lines count "
        f"more than one block, up to {count_max}",
        "size": "not measured; count is a number of blocks, and the size of a block is not told",
    }
    table = pa.Table.from_batches(batches.parts, _ARC_SCHEMA)
    return Raw(table, empty_is_missing=True, cut_suspected=lacks_line_end(stream), notes=notes)


def read_u32(stream: PlainStream, name: str, progress: Callable[[int], None] | None) -> Raw:
    """Return the numbers of a `.trace` file; arguments as for `read_arc`.

    Raises:
        InvalidInput: the length is no multiple of four bytes.
    """
    batches = Batches(name, progress)
    rest = b""
    while part := stream.read(BLOCK_BYTES):
        data = rest + part
        count = len(data) // U32_BYTES
        rest = data[count * U32_BYTES :]
        if count:
            numbers = np.frombuffer(data, "<u4", count).astype(np.uint32, copy=False)
            batches.add(pa.record_batch([pa.array(numbers)], schema=_U32_SCHEMA))
    check_u32_length(batches.rows * U32_BYTES + len(rest), name)
    return Raw(pa.Table.from_batches(batches.parts, _U32_SCHEMA), empty_is_missing=True)


def check_u32_length(length: int, name: str) -> None:
    """Raise InvalidInput where so many bytes are not whole numbers of four bytes each."""
    if length % U32_BYTES:
        raise truncated(name, f"its {length} bytes are no multiple of {U32_BYTES}")


def _four_per_line(block: bytes) -> npt.NDArray[np.uint64] | None:
    """Return the numbers of whole lines as rows of four, or None where a line is wrong."""
    data = np.frombuffer(block, dtype=np.uint8)
    classes = _CLASSES[data]
    if (classes == _OTHER).any():
        return None
    inside = np.zeros(len(data) + 2, dtype=np.int8)
    inside[1:-1] = classes == _DIGIT
    edges = np.diff(inside)
    starts = np.flatnonzero(edges == 1)
    lengths = np.flatnonzero(edges == -1) - starts
    line_of = np.searchsorted(np.flatnonzero(classes == _LINE_END), starts)
    per_line = np.bincount(line_of)
    if not np.isin(per_line, (0, len(ARC_FIELDS))).all():
        return None
    offsets = np.zeros(len(starts) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    digits = data[classes == _DIGIT]
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(digits)]
    try:
        numbers = pa.Array.from_buffers(pa.string(), len(starts), buffers).cast(pa.uint64())
    except pa.ArrowInvalid:
        return None
    rows: npt.NDArray[np.uint64] = numbers.to_numpy().reshape(-1, len(ARC_FIELDS))
    return rows


def _refuse(block: bytes, lines_before: int, name: str) -> NoReturn:
    """Raise InvalidInput for the first wrong line of `block`; there must be one."""
    *lines, unended = block.split(b"\n")
    for number, line in enumerate([*lines, unended], lines_before + 1):
        fields = _FIELD.findall(line)
        is_short = 0 < len(fields) < len(ARC_FIELDS)
        if is_short and number == lines_before + len(lines) + 1:
            raise truncated(
                name, f"its last line {number} has {len(fields)} of {len(ARC_FIELDS)} fields"
            )
        wrong = _wrong_in(fields)
        if wrong is not None:
            raise InvalidInput(
                f"trace {name!r}, line {number}: {wrong}",
                code="trace_row_invalid",
                hint="mend or remove the line; a line of an ARC file is four whole numbers below "
                "2**64: start, count, and two that are not used",
            )
    raise AssertionError("the block was refused, but each of its lines is right")


def _wrong_in(fields: list[bytes]) -> str | None:
    """Return what is wrong with the fields of a line, None where nothing is."""
    if len(fields) not in {0, len(ARC_FIELDS)}:
        return f"{len(fields)} fields instead of {len(ARC_FIELDS)}"
    for number, (field, meaning) in enumerate(zip(fields, ARC_FIELDS, strict=False), 1):
        if not _is_u64(field):
            shown = ascii(field[:48].decode("utf-8", "backslashreplace"))
            return f"field {number} ({meaning}) is {shown}, not a whole number below 2**64"
    return None


def _is_u64(field: bytes) -> bool:
    # The length goes first: int() refuses texts of thousands of digits.
    significant = field.lstrip(b"0") or b"0"
    return (
        _DIGITS.fullmatch(field) is not None
        and len(significant) <= _U64_DIGITS
        and int(significant) <= _U64_MAX
    )
