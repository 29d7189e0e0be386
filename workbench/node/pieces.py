"""The raft_snapshot that comes in for a group, on disk until it is installed: one file a group.

    DIR/snapshots/GROUP    length u32 │ piece │ length u32 │ piece │ …

Rules: a piece at offset 0 begins the file anew. A piece counts once `sync` has returned. What a
crash left behind a whole piece is not yielded; whether all are there is for the reader of the
pieces to say, which have checksums and say which is the last. A group's id is its file's name, and
nothing else that came from outside.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from workbench.errors import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LENGTH: Final = struct.Struct(">I")
_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


class FilePieces:
    """SnapshotPieces in a file.

    Args:
        folder: Of all groups; made where it does not exist.
        group: Whose pieces.
    """

    def __init__(self, folder: Path, group: int) -> None:
        self._folder = folder
        self._path = folder / str(group)
        self._handle = -1

    def keep(self, offset: int, data: bytes) -> None:
        """Keep a piece; one at offset 0 drops all others first. Durable only after `sync`.

        Raises:
            Storage: `disk_full`, `pieces_not_written`; the process must stop.
        """
        try:
            if self._handle < 0:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._handle = os.open(self._path, flags, 0o600)
            if offset == 0:
                os.ftruncate(self._handle, 0)
            rest = memoryview(_LENGTH.pack(len(data)) + data)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as error:
            raise _refused(self._path, error) from error

    def sync(self) -> None:
        """Make every piece so far durable.

        Raises:
            Storage: `pieces_not_written`; the process must stop.
        """
        if self._handle < 0:
            return
        try:
            os.fdatasync(self._handle)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _refused(self._path, error) from error

    def kept(self) -> Iterator[bytes]:
        """Yield the whole pieces in the order in which they came.

        Raises:
            Storage: `pieces_unreadable`.
        """
        try:
            with self._path.open("rb") as file:
                while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
                    (length,) = _LENGTH.unpack(head)
                    data = file.read(length)
                    if len(data) < length:
                        return
                    yield data
        except FileNotFoundError:
            return
        except OSError as error:
            raise Storage(
                f"cannot read {self._path}: {error.strerror or error}",
                code="pieces_unreadable",
                hint="check the disk; a node that is added anew gets its state again",
            ) from error

    def discard(self) -> None:
        """Drop all pieces; a crash may bring them back, and the start drops them again."""
        self.close()
        with suppress(FileNotFoundError):
            self._path.unlink()

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _refused(path: Path, error: OSError) -> Storage:
    if error.errno in _DISK_FULL:
        return Storage(
            f"no space left for the raft_snapshot {path}",
            code="disk_full",
            hint="free some space and start the node again; nothing was lost",
        )
    return Storage(
        f"cannot write {path}: {error.strerror or error}",
        code="pieces_not_written",
        hint="check the disk and start the node again; nothing was lost",
    )
