"""Blocks of versions as Arrow tables of VERSION, and back; no step of Python per row.

    block   lengths 3 1 …  keys abcd…        ──adding up──▶   offsets 0 3 4 …  data abcd…
    table   offsets, data, of one batch      ──differences──▶ lengths, cut into blocks

Batches and blocks with values that expire are the exception: they go row by row.

A table that a caller gives is checked here; a block was checked when it was decoded. Imported
where it is needed only, because Arrow takes long to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import InvalidInput
from workbench.model.tables import VERSION, check_table
from workbench.mvcc.block import (
    BLOCK_HEAD_BYTES,
    EXPIRING_KIND,
    PUT_KIND,
    ROW_BYTES,
    TOMBSTONE_KIND,
    VersionBlock,
    block_of_stored,
)
from workbench.mvcc.encoding import decode_stored, encode_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# In the order of the kinds, from PUT_KIND on.
_KIND_NAMES: Final = pa.array(["put", "tombstone"], pa.string())


def table_of(block: VersionBlock, group: int) -> pa.Table:
    """Return the rows of a block of `group` as a table of VERSION, in their order."""
    count = block.count
    stored = np.frombuffer(block.values, np.uint8)
    ends = _offsets(block.value_lengths)
    kinds = stored[ends[:-1]]
    if count and int(kinds.max()) == EXPIRING_KIND:
        return _table_of_expiring(block, group)
    tombstones = bool(count) and int(kinds.max()) == TOMBSTONE_KIND
    validity = np.packbits(kinds == PUT_KIND, bitorder="little") if tombstones else None
    without_kinds = np.ones(len(stored), np.bool_)
    without_kinds[ends[:-1]] = False
    columns = [
        _binary(_offsets(block.key_lengths), block.keys, None),
        pa.array(np.frombuffer(block.commit_ts, ">u8").astype(np.uint64)),
        _KIND_NAMES.take(pa.array(kinds - PUT_KIND)),
        _binary(
            np.subtract(ends, np.arange(count + 1), dtype=np.int32), stored[without_kinds], validity
        ),
        pa.nulls(count, VERSION.field("expire_at").type),
        pa.array(np.full(count, group, np.uint64)),
    ]
    return pa.Table.from_arrays(columns, schema=VERSION)


def _table_of_expiring(block: VersionBlock, group: int) -> pa.Table:
    """Return the rows of a block of which some expire; row by row, as they are rare."""
    found = [decode_stored(value) for value in block.value_list()]
    columns = [
        pa.array(block.key_list(), pa.binary()),
        pa.array(block.commit_ts_list(), pa.uint64()),
        pa.array(["tombstone" if value is None else "put" for value, _ in found], pa.string()),
        pa.array([value for value, _ in found], pa.binary()),
        pa.array([at * 1_000 or None for _, at in found], VERSION.field("expire_at").type),
        pa.array([group] * block.count, pa.uint64()),
    ]
    return pa.Table.from_arrays(columns, schema=VERSION)


def ascends(table: pa.Table) -> bool:
    """Tell whether keys ascend, and commit_ts descend within a key, both strictly."""
    count = table.num_rows
    if count < 2:
        return True
    keys, times = (table.column(name).combine_chunks() for name in ("key", "commit_ts"))
    left, right = keys.slice(0, count - 1), keys.slice(1)
    later = pc.and_(pc.equal(left, right), pc.greater(times.slice(0, count - 1), times.slice(1)))
    return bool(pc.all(pc.or_(pc.less(left, right), later)).as_py())


def blocks_of(table: pa.Table, bytes_max: int) -> Iterator[VersionBlock]:
    """Yield the rows of a table of VERSION, in their order, cut into blocks.

    Each has at most `bytes_max` bytes, or one row. The column `group` is not looked at.

    Raises:
        InvalidInput: it does not fit the schema, or `version_row_invalid`.
    """
    checked = check_table(table, VERSION, "table of versions")
    for batch in checked.to_batches():
        if batch.column("expire_at").null_count == batch.num_rows:
            yield from _cut(batch, bytes_max)
        else:
            yield from _cut_expiring(batch, bytes_max)


def _cut_expiring(batch: pa.RecordBatch, bytes_max: int) -> Iterator[VersionBlock]:
    """Yield the blocks of rows of which some expire; row by row, as they are rare."""
    _kinds(batch)
    names = ("key", "commit_ts", "value", "expire_at")
    columns = [batch.column(name) for name in names[:3]]
    columns.append(batch.column("expire_at").cast(pa.int64()))
    part: list[tuple[bytes, int, bytes]] = []
    size = BLOCK_HEAD_BYTES
    for key, commit_ts, value, expire_us in zip(*(c.to_pylist() for c in columns), strict=True):
        # Whole milliseconds are what a node keeps; a part of one lasts to its end.
        expire_at_ms = 0 if expire_us is None else -(-expire_us // 1_000)
        stored = encode_value(value, expire_at_ms)
        row = len(key) + len(stored) + ROW_BYTES
        if part and size + row > bytes_max:
            yield block_of_stored(part)
            part, size = [], BLOCK_HEAD_BYTES
        part.append((key, commit_ts, stored))
        size += row
    yield block_of_stored(part)


def _cut(batch: pa.RecordBatch, bytes_max: int) -> Iterator[VersionBlock]:
    kinds = _kinds(batch)
    key_offsets, keys = _parts(batch.column("key"))
    value_offsets, values = _parts(batch.column("value").fill_null(b""))
    times = batch.column("commit_ts").to_numpy(zero_copy_only=False).astype(">u8")
    key_lengths, value_lengths = np.diff(key_offsets), np.diff(value_offsets) + 1
    ends = np.cumsum(key_lengths + value_lengths + ROW_BYTES)
    start = passed = 0
    while start < batch.num_rows:
        room = passed + bytes_max - BLOCK_HEAD_BYTES
        stop = max(int(np.searchsorted(ends, room, side="right")), start + 1)
        base = value_offsets[start]
        put = values[base : value_offsets[stop]]
        yield VersionBlock(
            count=stop - start,
            commit_ts=times[start:stop].tobytes(),
            key_lengths=key_lengths[start:stop].astype(">u4").tobytes(),
            value_lengths=value_lengths[start:stop].astype(">u4").tobytes(),
            keys=keys[key_offsets[start] : key_offsets[stop]].tobytes(),
            # Each kind goes in front of its value.
            values=np.insert(put, value_offsets[start:stop] - base, kinds[start:stop]).tobytes(),
        )
        start, passed = stop, int(ends[stop - 1])


def _kinds(batch: pa.RecordBatch) -> NDArray[np.uint8]:
    """Return the kinds of rows, after a look at what goes with them."""
    kind, value = batch.column("kind"), batch.column("value")
    tombstone = pc.equal(kind, "tombstone")
    strange = pc.invert(pc.or_(pc.equal(kind, "put"), tombstone))
    if pc.any(strange).as_py():
        raise _row_invalid(strange, "is neither put nor tombstone")
    strange = pc.not_equal(tombstone, pc.is_null(value))
    if pc.any(strange).as_py():
        raise _row_invalid(strange, "is a put without a value, or a tombstone with one")
    expires = pc.fill_null(batch.column("expire_at").cast(pa.int64()), 1)
    strange = pc.less_equal(expires, 0)
    if pc.any(strange).as_py():
        raise _row_invalid(strange, "expires before 1970, or at its very beginning")
    strange = pc.and_(tombstone, pc.is_valid(batch.column("expire_at")))
    if pc.any(strange).as_py():
        raise _row_invalid(strange, "is a tombstone that expires")
    flags = tombstone.to_numpy(zero_copy_only=False)
    return np.where(flags, TOMBSTONE_KIND, PUT_KIND).astype(np.uint8)


def _row_invalid(strange: pa.Array, why: str) -> InvalidInput:
    return InvalidInput(
        f"row {pc.index(strange, True).as_py()} of a batch of versions {why}",
        code="version_row_invalid",
        hint="docs/formats/tables.md has the table of versions",
    )


def _offsets(lengths: bytes) -> NDArray[np.int32]:
    """Return where rows begin, and behind them where the last ends."""
    offsets = np.zeros(len(lengths) // 4 + 1, np.int32)
    np.cumsum(np.frombuffer(lengths, ">u4"), out=offsets[1:])
    return offsets


def _binary(
    offsets: NDArray[np.int32], data: bytes | NDArray[np.uint8], validity: NDArray[np.uint8] | None
) -> pa.Array:
    bitmap = None if validity is None else pa.py_buffer(validity)
    buffers = [bitmap, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def _parts(column: pa.Array) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the offsets of a binary column, one more than rows, and what they point into."""
    _, offsets, data = column.buffers()
    low, count = column.offset, len(column)
    content = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    if not count:
        return np.zeros(1, np.int32), content
    return np.frombuffer(offsets, np.int32)[low : low + count + 1], content
