"""A raft_snapshot: all rows of a group's engine key range, in pieces; bytes and rows, both ways.

    take ──▶ rows of one moment ──▶ piece │ piece │ … │ last piece      a leader's side
    keep ──▶ piece │ piece │ … ──install──▶ rows deleted, rows written  a follower's side

This is the model, over any engine: nodes of the simulator and of tests ship rows, and install
them at once. A node on a disk ships SST files (`snapshot_files`, `workbench.node.sst_snapshots`).

Rules:
- What a raft_snapshot stands for is in its rows: applied index and term (`progress`), and the
  members (`members`). A piece repeats group, index, term and its offset, so that pieces of two
  raft_snapshots never mix; a checksum covers it.
- `install` looks at all pieces before it changes anything. It deletes the group's progress in
  its first batch and writes it in its last one. The engine loses only its newest batches, so a
  crash leaves either the progress of the raft_snapshot and all its rows, or no progress at all.
- An offset counts the bytes of the pieces before.

docs/formats/entry.md has the bytes. Where pieces are kept is the shell's (`SnapshotPieces`).
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from workbench.errors import Corruption
from workbench.replica.layout import (
    MEMBERS,
    META,
    PROGRESS,
    decode_members,
    decode_progress,
    family,
    group_range,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from workbench.ports.consensus import ChunkReceived
    from workbench.ports.entries import SnapshotMeta
    from workbench.ports.storage import Change, Engine, SnapshotPieces

# Of rows in one piece; a row that is larger is a piece of its own.
PIECE_BYTES: Final = 256 * 2**10
# Pieces that were read stay readable, for another follower or a lost message, up to here.
KEPT_BYTES_MAX: Final = 64 * 2**20
DELETES_PER_BATCH: Final = 4_096

_FORMAT: Final = 1
_HEAD: Final = struct.Struct(">BBQQQQI")  # format, last, group, index, term, offset, rows
_ROW: Final = struct.Struct(">II")  # length of the key without its group, of the value
_CRC: Final = struct.Struct(">I")
_GROUP_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a raft_snapshot.

    Attributes:
        group: Whose state.
        index: Of the last entry applied to it.
        term: Of that entry.
        offset: Bytes of the pieces before.
        last: Whether no more follow.
        rows: Engine keys and values, ascending.
    """

    group: int
    index: int
    term: int
    offset: int
    last: bool
    rows: tuple[tuple[bytes, bytes], ...]


def encode_piece(piece: Piece) -> bytes:
    """Return a piece as bytes."""
    parts = [
        _HEAD.pack(
            _FORMAT,
            piece.last,
            piece.group,
            piece.index,
            piece.term,
            piece.offset,
            len(piece.rows),
        )
    ]
    for key, value in piece.rows:
        parts += (_ROW.pack(len(key) - _GROUP_BYTES, len(value)), key[_GROUP_BYTES:], value)
    raw = b"".join(parts)
    return raw + _CRC.pack(zlib.crc32(raw))


def decode_piece(data: bytes) -> Piece:
    """Return what `encode_piece` was given; Corruption (`raft_snapshot_corrupt`)."""
    raw = data[: -_CRC.size]
    if len(raw) < _HEAD.size or _CRC.pack(zlib.crc32(raw)) != data[len(raw) :]:
        raise corrupt_snapshot(f"a piece of {len(data)} bytes fails its checksum")
    version, last, group, index, term, offset, count = _HEAD.unpack_from(raw)
    if version != _FORMAT or last > 1:
        raise corrupt_snapshot(f"a piece has format {version}, flag {last}")
    prefix = group.to_bytes(_GROUP_BYTES, "big")
    rows: list[tuple[bytes, bytes]] = []
    at = _HEAD.size
    while at < len(raw):
        if at + _ROW.size > len(raw):
            raise corrupt_snapshot(f"the piece at {offset} is cut")
        key_bytes, value_bytes = _ROW.unpack_from(raw, at)
        start = at + _ROW.size
        at = start + key_bytes + value_bytes
        if at > len(raw):
            raise corrupt_snapshot(f"the piece at {offset} is cut")
        rows.append((prefix + raw[start : start + key_bytes], raw[start + key_bytes : at]))
    if len(rows) != count:
        raise corrupt_snapshot(
            f"the piece at {offset} has {len(rows)} rows, it should have {count}"
        )
    return Piece(group, index, term, offset, bool(last), tuple(rows))


def is_sound_piece(group: int, meta: SnapshotMeta, offset: int, data: bytes, *, done: bool) -> bool:
    """Tell whether bytes that came in are the piece that their message says."""
    try:
        piece = decode_piece(data)
    except Corruption:
        return False
    said = (piece.group, piece.index, piece.term, piece.offset, piece.last)
    return said == (group, meta.index, meta.term, offset, done)


def pieces_of(
    group: int, meta: SnapshotMeta, rows: Iterable[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bool]]:
    """Yield the pieces of a group's rows, ascending, and of each whether it is the last."""
    offset, size = 0, 0
    chosen: list[tuple[bytes, bytes]] = []
    for key, value in rows:
        if chosen and size + len(key) + len(value) > PIECE_BYTES:
            data = encode_piece(
                Piece(group, meta.index, meta.term, offset, last=False, rows=tuple(chosen))
            )
            yield data, False
            offset, size = offset + len(data), 0
            chosen.clear()
        chosen.append((key, value))
        size += len(key) + len(value)
    yield (
        encode_piece(Piece(group, meta.index, meta.term, offset, last=True, rows=tuple(chosen))),
        True,
    )


def install_pieces(engine: Engine, group: int, meta: SnapshotMeta, pieces: SnapshotPieces) -> None:
    """Replace a group's rows by those of the kept pieces, durably; may be done again.

    Raises:
        Corruption: `raft_snapshot_corrupt`; nothing was changed.
        Storage: the engine failed.
    """
    _check_whole(group, meta, pieces)
    progress_key = family(group, META) + PROGRESS
    engine.write([(progress_key, None)])
    old = engine.scan(*group_range(group))
    while batch := [(key, None) for key, _ in islice(old, DELETES_PER_BATCH)]:
        engine.write(batch)
    progress: Change | None = None
    for data in pieces.kept():
        rows: list[Change] = []
        for key, value in decode_piece(data).rows:
            if key == progress_key:
                progress = key, value
            else:
                rows.append((key, value))
        if rows:
            engine.write(rows)
    assert progress is not None, "checked before"
    engine.write([progress])
    engine.flush()


class EngineSnapshots:
    """`RaftSnapshots` of a group over its engine.

    Args:
        group: Its id.
        engine: Where its rows are.
        pieces: Where those are kept that come in.
    """

    def __init__(self, group: int, engine: Engine, pieces: SnapshotPieces) -> None:
        self._group = group
        self._engine = engine
        self._incoming = pieces
        self._meta: SnapshotMeta | None = None
        self._outgoing: Iterator[tuple[bytes, bool]] = iter(())
        # What was read: offset, bytes and whether it is the last; ascending, without holes.
        self._read: deque[tuple[int, bytes, bool]] = deque()
        self._read_bytes = 0
        self._end = 0

    def take(self, meta: SnapshotMeta) -> None:
        """Freeze the group's state as it is now, in place of what was taken before."""
        self._meta = meta
        self._outgoing = pieces_of(self._group, meta, self._engine.scan(*group_range(self._group)))
        self._read.clear()
        self._read_bytes = self._end = 0

    def read(self, meta: SnapshotMeta, offset: int) -> tuple[bytes, bool] | None:
        """Return the piece at `offset`, and whether it is the last; None where it is gone."""
        if meta != self._meta:
            return None
        # A follower may have more pieces than were read here: it got them from what was taken
        # before, of the same state.
        while offset >= self._end and self._read_on():
            pass
        for at, data, last in reversed(self._read):
            if at == offset:
                return data, last
        return None

    def release(self) -> None:
        """Let go of what was taken."""
        self._meta = None
        self._outgoing = iter(())
        self._read.clear()
        self._read_bytes = self._end = 0

    def keep(self, chunk: ChunkReceived) -> None:
        """Keep a piece that came in; one at offset 0 drops what was there."""
        self._incoming.keep(chunk.offset, chunk.data)

    def sync(self) -> None:
        """Make the kept pieces durable."""
        self._incoming.sync()

    def check(self, meta: SnapshotMeta, offset: int, data: bytes) -> bool:
        """Tell that the last piece may count: each piece has shown its checksum when it came in."""
        del meta, offset, data
        return True

    def begin_install(self, meta: SnapshotMeta) -> bool:
        """Do at once what `install` does."""
        self.install(meta)
        return True

    def installed(self) -> bool:
        """Tell that no install goes on."""
        return True

    def install(self, meta: SnapshotMeta) -> None:
        """Replace the group's rows by the kept pieces, durably, and drop the pieces."""
        install_pieces(self._engine, self._group, meta, self._incoming)
        self._incoming.discard()

    def discard(self) -> None:
        """Drop the kept pieces."""
        self._incoming.discard()

    def close(self) -> None:
        """Do nothing: nothing goes on beside."""

    def _read_on(self) -> bool:
        """Make the next piece, and let go of the oldest ones; tell whether there was one."""
        following = next(self._outgoing, None)
        if following is None:
            return False
        data, last = following
        self._read.append((self._end, data, last))
        self._read_bytes += len(data)
        self._end += len(data)
        while self._read_bytes > KEPT_BYTES_MAX and len(self._read) > 1:
            self._read_bytes -= len(self._read.popleft()[1])
        return True


def _check_whole(group: int, meta: SnapshotMeta, pieces: SnapshotPieces) -> None:
    """Refuse pieces that are not all of the state that `meta` names."""
    progress_key, members_key = (family(group, META) + name for name in (PROGRESS, MEMBERS))
    offset, ended = 0, False
    told: dict[bytes, bytes] = {}
    for data in pieces.kept():
        piece = decode_piece(data)
        said = (piece.group, piece.index, piece.term, piece.offset)
        if said != (group, meta.index, meta.term, offset) or ended:
            raise corrupt_snapshot(f"the piece at {offset} is of {said}, or others follow the last")
        told |= {key: value for key, value in piece.rows if key in {progress_key, members_key}}
        offset += len(data)
        ended = piece.last
    if not ended:
        raise corrupt_snapshot(f"the pieces end after {offset} bytes, before the state does")
    check_told(group, meta, told)


def check_told(group: int, meta: SnapshotMeta, told: Mapping[bytes, bytes]) -> None:
    """Refuse rows whose progress and members are of another state than `meta` names.

    Args:
        group: Whose rows.
        meta: What the raft_snapshot is called.
        told: Of its rows at least those two, as far as it has them.

    Raises:
        Corruption: `raft_snapshot_corrupt`, `state_malformed`.
    """
    progress_key, members_key = (family(group, META) + name for name in (PROGRESS, MEMBERS))
    if not {progress_key, members_key} <= told.keys():
        raise corrupt_snapshot("it has no progress, or no members")
    progress = decode_progress(progress_key, told[progress_key])
    members = decode_members(members_key, told[members_key])
    if (progress.applied_index, progress.applied_term, members) != (
        meta.index,
        meta.term,
        meta.configuration,
    ):
        raise corrupt_snapshot(
            f"its rows are as of entry {progress.applied_index} of term {progress.applied_term}, "
            f"it is called {meta.index} of term {meta.term}"
        )


def corrupt_snapshot(what: str) -> Corruption:
    """Return the error for a raft_snapshot that is not what it is called."""
    return Corruption(
        f"a raft_snapshot cannot be used: {what}",
        code="raft_snapshot_corrupt",
        hint="stop the node, and let it begin anew from an empty directory",
    )
