"""All versions of a range, page by page: engine pairs in, a block and a cursor out.

    engine   a@9  a@4  a@2  b@7✝  b@3  c@8          read_ts = 7, ✝ tombstone
    page 1        a@4  a@2                           cursor a@2 emitted
    page 2                  b@7✝  b@3                cursor b@3 emitted
    page 3                              ·            cursor c@8 scanned, done

Rules:
- Every version with commit_ts ≤ read_ts is emitted once, tombstones too, in the engine's order:
  key ascending, commit_ts descending. Strictly behind a cursor lies exactly the rest.
- A page ends where the next row would exceed its bytes, where it has read as much as it may
  (then its cursor may name a version that was only scanned), or at the end. It always gets on
  by one version, so a range without any visible one cannot hold a caller.
- Versions at or below a read_ts that is served never change, so pages that are read at
  different moments agree.
- Pairs are decoded many at a time, with no step of Python per row but slices; what is not of
  the engine's form raises the same Corruption as `mvcc.encoding`, with the key.

Whether a read_ts may be served, and which ranges a group owns, is the replica's.
"""

from __future__ import annotations

import operator
import struct
from dataclasses import dataclass
from itertools import islice, repeat
from typing import TYPE_CHECKING, Final

from workbench.errors import Corruption
from workbench.model.node import CursorTag, ExportCursor
from workbench.mvcc.block import (
    PUT_KIND,
    ROW_BYTES,
    VersionBlock,
    pack_lengths,
)
from workbench.mvcc.encoding import (
    COMMIT_TS_BYTES,
    decode_value,
    split_version_key,
    version_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TAKE_ROWS_MIN: Final = 16
TAKE_ROWS_MAX: Final = 1_024
_TAIL_BYTES: Final = 2 + COMMIT_TS_BYTES
_INVERTED: Final = bytes(range(255, -1, -1))
_KIND: Final = operator.itemgetter(0)
_ZERO: Final = b"\x00"
_ONE: Final = b"\x01"
_ESCAPED_ZERO: Final = b"\x00\xff"


@dataclass(frozen=True, slots=True)
class ExportedPage:
    """One page of an export.

    Attributes:
        block: Its rows.
        scanned_bytes: Of engine keys and values up to the cursor.
        cursor: Of the last version that was passed; None where there was none.
        done: Whether nothing lies behind it.
    """

    block: VersionBlock
    scanned_bytes: int
    cursor: ExportCursor | None
    done: bool


class _Rows:
    """Rows of a page so far, column by column, of many rows each.

    Attributes:
        count: Of rows.
        size: Bytes that they take in a block.
    """

    __slots__ = ("_parts", "count", "size")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self._parts: list[tuple[bytes, bytes, bytes, bytes, bytes]] = []

    def add(self, times: bytes, escaped: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Add rows, whose commit_ts lie one behind the other in `times`."""
        keys, joined_values = b"".join(escaped), b"".join(values)
        key_lengths = [*map(len, escaped)]
        if _ZERO in keys:
            zeros = map(bytes.count, escaped, repeat(_ZERO))
            key_lengths = [*map(operator.sub, key_lengths, zeros)]
            keys = keys.replace(_ESCAPED_ZERO, _ZERO)
        lengths = pack_lengths(key_lengths), pack_lengths([*map(len, values)])
        self._parts.append((times, *lengths, keys, joined_values))
        self.count += len(values)
        self.size += len(keys) + len(joined_values) + ROW_BYTES * len(values)

    def block(self) -> VersionBlock:
        """Return them as a block."""
        times, key_lengths, value_lengths, keys, values = (
            b"".join([part[column] for part in self._parts]) for column in range(5)
        )
        return VersionBlock(self.count, times, key_lengths, value_lengths, keys, values)


def after_cursor(prefix: bytes, cursor: ExportCursor) -> bytes:
    """Return the least engine key that lies strictly behind a cursor."""
    return version_key(prefix, cursor.key, cursor.commit_ts) + b"\x00"


def export_page(
    pairs: Iterator[tuple[bytes, bytes]],
    prefix: bytes,
    read_ts: int,
    *,
    chunk_bytes: int,
    scanned_bytes_max: int,
) -> ExportedPage:
    """Return the first page of what `pairs` yields, in the engine's order.

    Args:
        pairs: Engine keys and values of versions below `prefix`; it is read a little further
            than the page goes.
        prefix: Of all the keys.
        read_ts: HLC; later versions are passed over.
        chunk_bytes: The page's rows have at most so many bytes in a block, or are one row.
        scanned_bytes_max: Nothing is read behind so many bytes of keys and values, but for
            one row.

    Raises:
        Corruption: `mvcc_key_invalid` or `mvcc_value_invalid`, with the engine key.
    """
    rows = _Rows()
    scanned = 0
    last = b""
    count = TAKE_ROWS_MIN
    done = False
    while not done:
        taken = list(islice(pairs, count))
        if not taken:
            done = True
            break
        data, stored = zip(*taken, strict=True)
        fitting, size = _fitting(data, stored, scanned_bytes_max - scanned, first=not last)
        if fitting < len(data):
            data, stored = data[:fitting], stored[:fitting]
        # Rows never take more in a block than this.
        fits = rows.size + size + ROW_BYTES * fitting <= chunk_bytes
        room = None if fits else chunk_bytes - rows.size
        passed = _add(rows, data, stored, prefix, read_ts, room) if data else 0
        if passed < len(data):
            size = sum(map(len, data[:passed])) + sum(map(len, stored[:passed]))
        scanned += size
        last = data[passed - 1] if passed else last
        if passed < len(taken):
            break
        done = len(taken) < count
        count = _next_count(count, len(taken), size, chunk_bytes - rows.size)
    return ExportedPage(rows.block(), scanned, _cursor(prefix, last, read_ts), done)


def _fitting(
    data: Sequence[bytes], stored: Sequence[bytes], bytes_max: int, *, first: bool
) -> tuple[int, int]:
    """Return how many pairs may be read, one at least of the first, and their bytes."""
    size = sum(map(len, data)) + sum(map(len, stored))
    if size <= bytes_max:
        return len(data), size
    total = fitting = 0
    for key, value in zip(data, stored, strict=True):
        size = len(key) + len(value)
        if total + size > bytes_max and (fitting or not first):
            break
        total += size
        fitting += 1
    return fitting, total


def _add(  # noqa: PLR0913, PLR0917  the loop's body, by itself so that it can be read
    rows: _Rows,
    data: Sequence[bytes],
    stored: Sequence[bytes],
    prefix: bytes,
    read_ts: int,
    room: int | None,
) -> int:
    """Add the visible versions that find room; return how many pairs were passed.

    A `room` of None has place for all; the first row of a page needs none.
    """
    escaped, times = _decode_keys(prefix, data)
    _check_values(data, stored)
    stamps: Sequence[int] = struct.unpack(f">{len(data)}Q", times)
    shown: Sequence[int] = range(len(data))
    if max(stamps) > read_ts:
        shown = [at for at, stamp in enumerate(stamps) if stamp <= read_ts]
    elif room is None:
        rows.add(times, escaped, stored)
        return len(data)
    taken = len(shown)
    if room is not None:
        size = 0
        for number, at in enumerate(shown):
            size += len(escaped[at]) - escaped[at].count(_ZERO) + len(stored[at]) + ROW_BYTES
            if size > room and (rows.count or number):
                taken = number
                break
    passed = shown[taken] if taken < len(shown) else len(data)
    shown = shown[:taken]
    rows.add(
        b"".join([times[8 * at : 8 * at + 8] for at in shown]),
        [escaped[at] for at in shown],
        [stored[at] for at in shown],
    )
    return passed


def _decode_keys(prefix: bytes, data: Sequence[bytes]) -> tuple[list[bytes], bytes]:
    """Return the user keys, still escaped, and their commit_ts one behind the other."""
    low, count = len(prefix), len(data)
    tails = b"".join([key[-_TAIL_BYTES:] for key in data])
    if (
        min(map(len, data)) < low + _TAIL_BYTES
        or tails[0::_TAIL_BYTES] != _ZERO * count
        or tails[1::_TAIL_BYTES] != _ONE * count
        # What lies between two keys with a prefix has it too.
        or not min(data).startswith(prefix)
        or not max(data).startswith(prefix)
    ):
        raise _bad_key(prefix, data)
    escaped = [key[low:-_TAIL_BYTES] for key in data]
    # Apart, so that a zero that ends a key is not taken together with what begins the next one.
    apart = _ONE.join(escaped)
    if apart.count(_ZERO) != apart.count(_ESCAPED_ZERO):
        raise _bad_key(prefix, data)
    times = bytearray(count * COMMIT_TS_BYTES)
    for at in range(COMMIT_TS_BYTES):
        times[at::COMMIT_TS_BYTES] = tails[at + 2 :: _TAIL_BYTES]
    return escaped, bytes(times.translate(_INVERTED))


def _check_values(data: Sequence[bytes], stored: Sequence[bytes]) -> None:
    """Refuse values that are not of the engine's form."""
    kinds = set(map(_KIND, stored)) if all(stored) else {0}
    if kinds == {PUT_KIND}:
        return
    for key, value in zip(data, stored, strict=True):
        try:
            decode_value(value)
        except Corruption as error:
            raise Corruption(
                f"{error.message}, under engine key {key.hex()}", code=error.code, hint=error.hint
            ) from error


def _next_count(count: int, rows: int, size: int, bytes_left: int) -> int:
    """Return how many pairs to take next: about what is left of the page, but not abruptly."""
    wanted = bytes_left * rows // max(size, 1) + 1
    return max(TAKE_ROWS_MIN, min(wanted, 4 * count, TAKE_ROWS_MAX))


def _cursor(prefix: bytes, last: bytes, read_ts: int) -> ExportCursor | None:
    if not last:
        return None
    key, commit_ts = split_version_key(prefix, last)
    tag = CursorTag.EMITTED if commit_ts <= read_ts else CursorTag.SCANNED
    return ExportCursor(key, commit_ts, tag)


def _bad_key(prefix: bytes, data: Sequence[bytes]) -> Corruption:
    """Return the error for the first of the keys that is not of the engine's form."""
    for key in data:
        try:
            split_version_key(prefix, key)
        except Corruption as error:
            return error
    raise AssertionError(data)
