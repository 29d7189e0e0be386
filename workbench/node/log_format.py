"""Frames and records of the log, bytes to values and back; docs/formats/log.md is the reference.

    segment = header, frame, frame, …      frame = mark, length, number, crc32, payload
                                           payload = record, record, …

A frame is valid where its mark and crc32 hold; records are checked for their form only.

Not here: files, and what a frame that is not valid means (`node.log`).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workbench.errors import Corruption
from workbench.ports.consensus import EntryKind, HardState, LogEntry, SnapshotMeta
from workbench.ports.storage import GroupWrite
from workbench.raft.membership import decode_configuration, encode_configuration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT_VERSION: Final = 2
# Version 1 lacks the kinds 4 and 5; nothing else differs.
READ_VERSIONS: Final = frozenset({1, 2})
MAGIC: Final = b"WBLOG\0\0"

_HEADER: Final = struct.Struct("<7sBQ8s")  # magic, format version, segment number, mark
_FRAME: Final = struct.Struct("<8sIQ")  # mark, payload length, frame number
_CRC: Final = struct.Struct("<I")
_HARD_STATE: Final = struct.Struct("<BQQQQ")  # kind, group, term, vote, commit
_ENTRY: Final = struct.Struct("<BQQQI")  # kind, group, index, term, length of the data
_RESET: Final = _ENTRY  # with the members as its data
_BASE: Final = struct.Struct("<BQQQQQQ")  # kind, group, term, vote, commit, last index and term
HEADER_BYTES: Final = _HEADER.size + _CRC.size
FRAME_HEADER_BYTES: Final = _FRAME.size + _CRC.size
# Where the fields of a frame's header lie.
MARK_AT: Final = range(8)
LENGTH_AT: Final = range(8, 12)
NUMBER_AT: Final = range(12, 20)
CRC_AT: Final = range(20, 24)
# Of one record, its data aside.
RECORD_BYTES_MAX: Final = _BASE.size

KIND_HARD_STATE: Final = 1
KIND_ENTRY: Final = 2
KIND_BASE: Final = 3
KIND_CONFIGURATION: Final = 4
KIND_RESET: Final = 5
_KIND_OF: Final = {
    EntryKind.COMMAND: KIND_ENTRY,
    EntryKind.CONFIGURATION: KIND_CONFIGURATION,
}
_ENTRY_KINDS: Final = {number: kind for kind, number in _KIND_OF.items()}


@dataclass(frozen=True, slots=True)
class Header:
    """How a segment starts: format version, its number, and the log's mark."""

    version: int
    number: int
    mark: bytes


@dataclass(frozen=True, slots=True)
class Base:
    """Where one group stands at the start of a segment."""

    group: int
    hard_state: HardState
    last_index: int
    last_term: int


def encode_header(number: int, mark: bytes) -> bytes:
    """Return the first bytes of segment `number`."""
    raw = _HEADER.pack(MAGIC, FORMAT_VERSION, number, mark)
    return raw + _CRC.pack(zlib.crc32(raw))


def decode_header(data: bytes) -> Header | None:
    """Return the header at the start of a segment, None where there is no whole one."""
    raw, crc = data[: _HEADER.size], data[_HEADER.size : HEADER_BYTES]
    if len(crc) < _CRC.size or _CRC.pack(zlib.crc32(raw)) != crc:
        return None
    magic, version, number, mark = _HEADER.unpack(raw)
    return Header(version, number, mark) if magic == MAGIC else None


def encode_frame(mark: bytes, number: int, payload: bytes) -> bytes:
    """Return a frame; its crc covers all of it but itself."""
    raw = _FRAME.pack(mark, len(payload), number)
    return raw + _CRC.pack(zlib.crc32(payload, zlib.crc32(raw))) + payload


def encode_writes(writes: Sequence[GroupWrite]) -> bytes:
    """Return the payload of a turn: per write its hard state, its reset, then its entries."""
    parts: list[bytes] = []
    for write in writes:
        state = write.hard_state
        if state is not None:
            parts.append(
                _HARD_STATE.pack(KIND_HARD_STATE, write.group, state.term, state.vote, state.commit)
            )
        if write.reset is not None:
            meta, members = write.reset, encode_configuration(write.reset.configuration)
            parts.append(_RESET.pack(KIND_RESET, write.group, meta.index, meta.term, len(members)))
            parts.append(members)
        for entry in write.entries:
            kind = _KIND_OF[entry.kind]
            parts.append(_ENTRY.pack(kind, write.group, entry.index, entry.term, len(entry.data)))
            parts.append(entry.data)
    return b"".join(parts)


def encode_bases(bases: Sequence[Base]) -> bytes:
    """Return the payload of a base frame."""
    return b"".join(
        _BASE.pack(
            KIND_BASE,
            base.group,
            base.hard_state.term,
            base.hard_state.vote,
            base.hard_state.commit,
            base.last_index,
            base.last_term,
        )
        for base in bases
    )


def decode_records(payload: bytes) -> Iterator[GroupWrite | Base]:
    """Yield the records of a payload, each but a base as a write of its own.

    Raises:
        ValueError, struct.error: the payload is not a sequence of records.
    """
    at = 0
    while at < len(payload):
        kind = payload[at]
        if kind == KIND_HARD_STATE:
            _, group, term, vote, commit = _HARD_STATE.unpack_from(payload, at)
            at += _HARD_STATE.size
            yield GroupWrite(group, HardState(term, vote, commit), ())
        elif kind in _ENTRY_KINDS or kind == KIND_RESET:
            _, group, index, term, length = _ENTRY.unpack_from(payload, at)
            at += _ENTRY.size
            data = payload[at : at + length]
            if len(data) != length:
                raise ValueError(f"record {index} of group {group} is cut")
            at += length
            if kind == KIND_RESET:
                yield GroupWrite(group, None, (), _meta(index, term, data))
            else:
                entry = LogEntry(index, term, data, _ENTRY_KINDS[kind])
                yield GroupWrite(group, None, (entry,))
        elif kind == KIND_BASE:
            _, group, term, vote, commit, last_index, last_term = _BASE.unpack_from(payload, at)
            at += _BASE.size
            yield Base(group, HardState(term, vote, commit), last_index, last_term)
        else:
            raise ValueError(f"unknown kind {kind}")


def frame_length(data: bytes, offset: int) -> int:
    """Return how long the payload is by the header at `offset`, valid or not."""
    return int.from_bytes(data[offset + LENGTH_AT.start : offset + LENGTH_AT.stop], "little")


def valid_frame(data: bytes, offset: int, mark: bytes) -> tuple[int, bytes] | None:
    """Return number and payload of the frame at `offset`, None where it is no valid one."""
    if len(data) - offset < FRAME_HEADER_BYTES or data[offset : offset + len(mark)] != mark:
        return None
    raw = data[offset : offset + _FRAME.size]
    _, length, number = _FRAME.unpack(raw)
    start = offset + FRAME_HEADER_BYTES
    if length > len(data) - start:
        return None
    payload = data[start : start + length]
    crc = _CRC.pack(zlib.crc32(payload, zlib.crc32(raw)))
    return (number, payload) if data[start - _CRC.size : start] == crc else None


def _meta(index: int, term: int, members: bytes) -> SnapshotMeta:
    try:
        return SnapshotMeta(index, term, decode_configuration(members))
    except Corruption as error:
        raise ValueError(error.message) from error
