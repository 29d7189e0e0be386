"""How far the log is known to be durable: a lower bound, noted after every sync.

    sync of frame 41 returned ──▶ SYNCED: 41        in the page cache, never synced by itself
    start: the log ends at 40 ──▶ refused: 41 was durable, so that is damage and no torn end

- It is written after the sync that it speaks of, so it never says too much.
- A process that is killed leaves it exact: the page cache outlives it. After a power cut it may
  be older than the log, or not readable, and then says less; the log decides alone what is torn.
- It is smaller than a sector and written in place, so no write is in two parts.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

SYNCED_FILE: Final = "SYNCED"
_MAGIC: Final = b"WBSYNC\0\1"
_BODY: Final = struct.Struct("<8s8sQ")  # magic, the log's mark, frame number
_CRC: Final = struct.Struct("<I")
_SIZE: Final = _BODY.size + _CRC.size


def note_synced(folder: Path, mark: bytes, frame: int) -> None:
    """Say that all frames up to this one are durable; OSError."""
    body = _BODY.pack(_MAGIC, mark, frame)
    handle = os.open(folder / SYNCED_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(handle, body + _CRC.pack(zlib.crc32(body)), 0)
    finally:
        os.close(handle)


def what_is_lost(folder: Path, mark: bytes | None, frame: int) -> str | None:
    """Return what a log lacks that was durable, None where nothing says that it does; OSError.

    Args:
        folder: Of the log.
        mark: Of the log that was found there; None where there is no segment.
        frame: The last good one of it.
    """
    try:
        with (folder / SYNCED_FILE).open("rb") as file:
            data = file.read(_SIZE)
    except FileNotFoundError:
        return None
    body, crc = data[: _BODY.size], data[_BODY.size :]
    if len(data) != _SIZE or _CRC.pack(zlib.crc32(body)) != crc:
        return None
    magic, noted, durable = _BODY.unpack(body)
    if magic != _MAGIC:
        return None
    if mark is None:
        return f"frame {durable} was durable, and there is no segment any more"
    if noted != mark:
        return f"{SYNCED_FILE} beside it belongs to another log"
    return f"its last whole frame is {frame}, {durable} was durable" if durable > frame else None
