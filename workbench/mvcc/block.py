"""Versions in columns, packed into bytes: what an export sends, an import brings and a log keeps.

    01 │ count │ commit_ts … │ key lengths … │ value lengths … │ keys │ engine values
    u8   u32     u64 each      u32 each        u32 each

docs/formats/mvcc.md has it byte for byte; all integers are big-endian. A value is as in the
engine: its kind, then what was put.

Rules:
- Columns, so that neither end needs a call per row: an Arrow column is made of a block by
  adding up its lengths, and engine pairs become a block by joining them.
- Bytes come from the network: `decode_block` checks every length and kind, and that nothing is
  left over, before anything is cut. After that no reader can run past its end.
- The order of rows is the sender's; an export's ascend by key and descend by commit_ts.

What rows mean, and whether they may be stored, is decided elsewhere.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput
from workbench.mvcc.encoding import COMMIT_TS_BYTES, EXPIRING_BYTES, encode_value

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK_FORMAT: Final = 1
PUT_KIND: Final = 1
TOMBSTONE_KIND: Final = 2
EXPIRING_KIND: Final = 3
KIND_BYTES: Final = 1
# Of a row beside its key and engine value: commit_ts and two lengths.
ROW_BYTES: Final = COMMIT_TS_BYTES + 4 + 4
BLOCK_HEAD_BYTES: Final = 5

_HEAD: Final = struct.Struct(">BI")
_INVERTED: Final = bytes(range(255, -1, -1))
_ZERO: Final = b"\x00"
_ESCAPED_ZERO: Final = b"\x00\xff"
_TERMINATOR: Final = b"\x00\x01"


@dataclass(frozen=True, slots=True)
class VersionBlock:
    """Versions of keys, column by column, each as in the packed form.

    Attributes:
        count: Of rows.
        commit_ts: HLC.
        key_lengths: In bytes.
        value_lengths: In bytes; 1 for a tombstone.
        keys: One behind the other.
        values: Engine values, likewise.
    """

    count: int
    commit_ts: bytes
    key_lengths: bytes
    value_lengths: bytes
    keys: bytes
    values: bytes

    @property
    def size(self) -> int:
        """Bytes of its packed form."""
        return BLOCK_HEAD_BYTES + self.count * ROW_BYTES + len(self.keys) + len(self.values)

    def key_list(self) -> list[bytes]:
        """Return the keys, one by one."""
        return _cut(self.keys, unpack_lengths(self.key_lengths))

    def value_list(self) -> list[bytes]:
        """Return the engine values, one by one."""
        return _cut(self.values, unpack_lengths(self.value_lengths))

    def value_length_list(self) -> Sequence[int]:
        """Return the lengths of the engine values, one by one."""
        return unpack_lengths(self.value_lengths)

    def commit_ts_list(self) -> Sequence[int]:
        """Return the commit_ts (HLC), one by one."""
        return struct.unpack(f">{self.count}Q", self.commit_ts)


def block_of(rows: Sequence[tuple[bytes, int, bytes | None]]) -> VersionBlock:
    """Return rows of (key, commit_ts, value or None for a tombstone) as a block."""
    return block_of_stored([(key, at, encode_value(value)) for key, at, value in rows])


def block_of_stored(rows: Sequence[tuple[bytes, int, bytes]]) -> VersionBlock:
    """Return rows of (key, commit_ts, engine value) as a block."""
    values = [value for _, _, value in rows]
    return VersionBlock(
        count=len(rows),
        commit_ts=struct.pack(f">{len(rows)}Q", *(commit_ts for _, commit_ts, _ in rows)),
        key_lengths=pack_lengths([len(key) for key, _, _ in rows]),
        value_lengths=pack_lengths([len(value) for value in values]),
        keys=b"".join(key for key, _, _ in rows),
        values=b"".join(values),
    )


def encode_block(block: VersionBlock) -> bytes:
    """Return the packed form of a block."""
    return b"".join(
        (
            _HEAD.pack(BLOCK_FORMAT, block.count),
            block.commit_ts,
            block.key_lengths,
            block.value_lengths,
            block.keys,
            block.values,
        )
    )


def decode_block(data: bytes) -> VersionBlock:
    """Return the block that `data` is the packed form of.

    Raises:
        InvalidInput: `version_block_malformed`, with the offset.
    """
    if len(data) < BLOCK_HEAD_BYTES:
        raise _malformed(f"{len(data)} bytes are no head", 0)
    form, count = _HEAD.unpack_from(data)
    if form != BLOCK_FORMAT:
        raise _malformed(f"format {form} is unknown", 0)
    left = len(data) - BLOCK_HEAD_BYTES
    if count * ROW_BYTES > left:
        raise _malformed(f"{count} rows do not fit into {left} bytes", 1)
    keys_at = BLOCK_HEAD_BYTES + count * COMMIT_TS_BYTES
    values_at = keys_at + 4 * count
    body_at = values_at + 4 * count
    middle = body_at + sum(unpack_lengths(data[keys_at:values_at]))
    lengths = unpack_lengths(data[values_at:body_at])
    if middle + sum(lengths) != len(data):
        raise _malformed(f"keys and values do not fill {len(data) - body_at} bytes", keys_at)
    at = middle
    for length in lengths:
        # An empty one would have the kind of the value behind it.
        kind = data[at] if length else 0
        tombstone = kind == TOMBSTONE_KIND and length == KIND_BYTES
        expiring = kind == EXPIRING_KIND and length >= EXPIRING_BYTES
        if expiring and not any(data[at + 1 : at + EXPIRING_BYTES]):
            raise _malformed("an engine value that expires and does not say when", at)
        if kind != PUT_KIND and not tombstone and not expiring:
            raise _malformed(f"an engine value of kind {kind} and {length} bytes", at)
        at += length
    return VersionBlock(
        count=count,
        commit_ts=data[BLOCK_HEAD_BYTES:keys_at],
        key_lengths=data[keys_at:values_at],
        value_lengths=data[values_at:body_at],
        keys=data[body_at:middle],
        values=data[middle:],
    )


def engine_pairs(prefix: bytes, block: VersionBlock) -> list[tuple[bytes, bytes]]:
    """Return the engine pairs of a block's versions, in its order; see `mvcc.encoding`."""
    inverted = block.commit_ts.translate(_INVERTED)
    keys = [key.replace(_ZERO, _ESCAPED_ZERO) for key in block.key_list()]
    return [
        (b"".join((prefix, key, _TERMINATOR, inverted[8 * at : 8 * at + 8])), value)
        for at, (key, value) in enumerate(zip(keys, block.value_list(), strict=True))
    ]


def pack_lengths(lengths: Sequence[int]) -> bytes:
    """Return lengths as a column of a block."""
    return struct.pack(f">{len(lengths)}I", *lengths)


def unpack_lengths(column: bytes) -> tuple[int, ...]:
    """Return the lengths in a column of a block."""
    return struct.unpack(f">{len(column) // 4}I", column)


def _cut(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    return [data[low:high] for low, high in pairwise(accumulate(lengths, initial=0))]


def _malformed(what: str, offset: int) -> InvalidInput:
    return InvalidInput(
        f"block of versions: {what}, at offset {offset}",
        code="version_block_malformed",
        hint="docs/formats/mvcc.md describes it",
    )
