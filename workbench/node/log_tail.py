"""The end of a log that is no valid frame: torn by a crash, or damaged after it was durable?

    … │ frame 41 │ frame 42 │ ? ? ?        torn     ─▶ nobody was told that it counts: cut
                            ▲ offset       damaged  ─▶ acknowledged writes: refused

What a crash can leave there, and nothing else:

- At most one frame is not durable, and nothing was written behind it.
- Of that frame each sector of the disk is there as it was written, or reads as zeros, or lies
  beyond the end of the file. Disks write sectors wholly or not at all, and file systems give
  zeros for what was not written. Where one gives bytes of other files instead (ext4 with
  `data=writeback`), a torn end is refused too: that is the safe side.

So a byte that no missing sector explains was durable once. What this cannot tell is listed in
docs/formats/log.md. Not here: files; the log keeps a copy of what it cuts.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workbench.node.log_format import (
    CRC_AT,
    FRAME_HEADER_BYTES,
    LENGTH_AT,
    MARK_AT,
    NUMBER_AT,
    encode_frame,
    frame_length,
)

if TYPE_CHECKING:
    from pathlib import Path

SECTOR_BYTES: Final = 512
# Copies of torn ends: so many of them, each of the first so many bytes.
TORN_FILES_MAX: Final = 4
TORN_BYTES_MAX: Final = 64 * 2**20
_TORN_NAME: Final = re.compile(r"\d{10}-\d{12}\.torn")


@dataclass(frozen=True, slots=True)
class TornTail:
    """What was cut off when the log was opened: a turn that no sync had confirmed.

    Attributes:
        file: The segment.
        offset: Its length now.
        bytes_cut: What was behind that.
        copy: The file that holds it, or the first TORN_BYTES_MAX of it.
    """

    file: Path
    offset: int
    bytes_cut: int
    copy: Path


def keep_copy(segment: Path, offset: int) -> TornTail:
    """Write what a segment holds from `offset` on to a file beside it, durably; OSError."""
    with segment.open("rb") as source:
        source.seek(offset)
        torn = source.read(TORN_BYTES_MAX)
        cut = os.fstat(source.fileno()).st_size - offset
    copy = segment.with_name(f"{segment.stem}-{offset:012}.torn")
    handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as target:
        target.write(torn)
        target.flush()
        os.fsync(target.fileno())
    kept = sorted(each for each in segment.parent.iterdir() if _TORN_NAME.fullmatch(each.name))
    for old in kept[:-TORN_FILES_MAX]:
        old.unlink()
    return TornTail(segment, offset, cut, copy)


def why_damaged(data: bytes, offset: int, mark: bytes, number: int) -> str | None:
    """Return why the end of a segment was not torn by a crash, None where it may have been.

    Args:
        data: The newest segment.
        offset: Where its last valid frame ends, before the end of `data`.
        mark: The log's.
        number: That the next frame would have.
    """
    if data.find(mark, offset + 1) >= 0:
        return "the frame is damaged and others follow it"
    sectors = _sectors(offset, len(data))
    written = [each for each in sectors if data.count(0, each.start, each.stop) < len(each)]
    expected = encode_frame(mark, number, b"")
    for at in (*MARK_AT, *NUMBER_AT):
        if _is_there(offset + at, written) and data[offset + at] != expected[at]:
            return "the header of the frame is damaged"
    if not all(_is_there(offset + at, written) for at in LENGTH_AT):
        return None
    start = offset + FRAME_HEADER_BYTES
    end = start + frame_length(data, offset)
    if end < len(data):
        return "the frame is damaged and there is more behind it"
    if end > len(data):
        whole = encode_frame(mark, number, data[start:])
        same = data[offset + CRC_AT.start : start] == whole[CRC_AT.start : FRAME_HEADER_BYTES]
        return "the length of the frame is damaged" if same else None
    return "the frame is damaged and no part of it is missing" if written == sectors else None


def _sectors(start: int, end: int) -> list[range]:
    """Return start .. end in the parts that are written wholly or not at all."""
    first = start - start % SECTOR_BYTES + SECTOR_BYTES
    bounds = [start, *range(first, end, SECTOR_BYTES), end]
    return [range(*each) for each in pairwise(bounds)]


def _is_there(at: int, written: list[range]) -> bool:
    """Tell whether a byte of the header lies in a sector that was written."""
    return any(at in sector for sector in written[:2])
