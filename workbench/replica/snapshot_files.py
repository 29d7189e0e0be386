"""A raft_snapshot as files: the pieces in which they travel, and the list that ends them.

    file 0 │ file 0 │ … │ file 1 │ … │ list of all files: rows, bytes, SHA-256

Rules:
- A piece has bytes of one file. Files follow each other without a hole, and so do the pieces of
  one, all of PIECE_BYTES but its last. So an offset, which counts the bytes of the pieces
  before, tells which bytes of which file come next.
- The last piece is the list, which names what came. Files can be sent before all are made.
- A piece repeats group, index, term and offset, so that pieces of two raft_snapshots never mix; a
  checksum covers it.

docs/formats/entry.md has the bytes. What is in a file, and that it is of this group alone, is not
looked at here (`workbench.node.sst_files`).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from workbench.errors import Corruption
from workbench.replica.raft_snapshot import PIECE_BYTES, corrupt_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.ports.entries import SnapshotMeta

FILES_FORMAT: Final = 2
HASH_BYTES: Final = 32

_HEAD: Final = struct.Struct(">BBQQQQI")  # format, last, group, index, term, offset, file or files
_FILE: Final = struct.Struct(f">QQ{HASH_BYTES}s")
_CRC: Final = struct.Struct(">I")
_AROUND_BYTES: Final = _HEAD.size + _CRC.size


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file of a raft_snapshot.

    Attributes:
        rows: How many it has.
        size: In bytes.
        sha256: Of its bytes.
    """

    rows: int
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A piece with bytes of a file.

    Attributes:
        group: Whose state.
        index: Of the last entry applied to it.
        term: Of that entry.
        offset: Bytes of the pieces before.
        file: Its number, from 0.
        data: Its next bytes.
    """

    group: int
    index: int
    term: int
    offset: int
    file: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FileList:
    """The last piece; group, index, term and offset as in the others, and all files."""

    group: int
    index: int
    term: int
    offset: int
    files: tuple[SnapshotFile, ...]


FilePiece: TypeAlias = FileBytes | FileList


def encode_file_piece(piece: FilePiece) -> bytes:
    """Return a piece as bytes."""
    if isinstance(piece, FileList):
        last, number = True, len(piece.files)
        body = b"".join(_FILE.pack(each.rows, each.size, each.sha256) for each in piece.files)
    else:
        last, number, body = False, piece.file, piece.data
    head = _HEAD.pack(
        FILES_FORMAT, last, piece.group, piece.index, piece.term, piece.offset, number
    )
    return b"".join((head, body, _CRC.pack(zlib.crc32(body, zlib.crc32(head)))))


def decode_file_piece(data: bytes) -> FilePiece:
    """Return what `encode_file_piece` was given; Corruption (`raft_snapshot_corrupt`)."""
    body = data[_HEAD.size : -_CRC.size]
    if (
        len(data) < _AROUND_BYTES
        or _CRC.pack(zlib.crc32(body, zlib.crc32(data[: _HEAD.size]))) != (data[-_CRC.size :])
    ):
        raise corrupt_snapshot(f"a piece of {len(data)} bytes fails its checksum")
    version, last, group, index, term, offset, number = _HEAD.unpack_from(data)
    if version != FILES_FORMAT or last > 1:
        raise corrupt_snapshot(f"a piece has format {version}, flag {last}")
    if not last:
        if not 0 < len(body) <= PIECE_BYTES:
            raise corrupt_snapshot(f"the piece at {offset} has {len(body)} bytes of a file")
        return FileBytes(group, index, term, offset, number, body)
    if not number or len(body) != number * _FILE.size:
        raise corrupt_snapshot(f"a list of {number} files has {len(body)} bytes")
    files = tuple(SnapshotFile(*fields) for fields in _FILE.iter_unpack(body))
    return FileList(group, index, term, offset, files)


def is_sound_file_piece(
    group: int, meta: SnapshotMeta, offset: int, data: bytes, *, done: bool
) -> bool:
    """Tell whether bytes that came in are the piece that their message says."""
    try:
        piece = decode_file_piece(data)
    except Corruption:
        return False
    said = (piece.group, piece.index, piece.term, piece.offset)
    return said == (group, meta.index, meta.term, offset) and done == isinstance(piece, FileList)


def travel_bytes(size: int) -> int:
    """Return how many bytes the pieces of a file of `size` bytes have."""
    return size + -(-size // PIECE_BYTES) * _AROUND_BYTES


def place_of(offset: int, files: Sequence[SnapshotFile]) -> tuple[int, int] | None:
    """Return the file, and where in it, that the piece at `offset` begins with.

    Returns:
        (number of files, 0) behind all of them; None where no piece begins.
    """
    for number, file in enumerate(files):
        if offset < travel_bytes(file.size):
            pieces, rest = divmod(offset, PIECE_BYTES + _AROUND_BYTES)
            return None if rest else (number, pieces * PIECE_BYTES)
        offset -= travel_bytes(file.size)
    return None if offset else (len(files), 0)
