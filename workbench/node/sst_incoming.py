"""The raft_snapshot that comes in for a group: its files on disk, until they are installed.

    DIR/snapshots/GROUP.in/0.sst, 1.sst, …, list

Rules:
- A piece at offset 0 begins anew. Pieces count once `sync` has returned; the last one, the list
  of the files, is kept as it came.
- Pieces that make no sense spoil all that came, and nothing more is written: `verify` says so.
- Files are numbered here; nothing that came from outside becomes part of a path.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from workbench.errors import Corruption
from workbench.node.sst_files import Ended, disk_told, file_at, sst_path, sync_file
from workbench.replica.layout import MEMBERS, META, PROGRESS, family, group_range
from workbench.replica.raft_snapshot import check_told, corrupt_snapshot
from workbench.replica.snapshot_files import FileList, decode_file_piece

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from workbench.node.sst_files import Checker
    from workbench.ports.consensus import ChunkReceived, SnapshotMeta

LIST_FILE: Final = "list"


class Incoming:
    """Pieces of one group; `keep` and `sync` in one thread, `verify` in any while those rest.

    Args:
        group: Whose.
        folder: Theirs alone; its parent is made where it does not exist.
        checker: Looks into files.
    """

    def __init__(self, group: int, folder: Path, checker: Checker) -> None:
        self._group = group
        self._folder = folder
        self._checker = checker
        self._meta: SnapshotMeta | None = None
        self._end = 0
        self._spoiled: Corruption | None = None
        # The file that is being written, and its number.
        self._handle = self._number = -1
        self._fresh_names = False

    def keep(self, chunk: ChunkReceived) -> None:
        """Keep a piece; one at offset 0 drops all others first. Durable only after `sync`.

        Raises:
            Storage: `disk_full`, `snapshot_files_failed`; the process must stop.
        """
        with disk_told("write", self._folder):
            if chunk.offset == 0:
                self.discard()
                self._folder.mkdir(mode=0o700, parents=True)
                self._meta = chunk.meta
            assert (self._meta, self._end) == (chunk.meta, chunk.offset), "pieces without a hole"
            self._end += len(chunk.data)
            if self._spoiled is None:
                try:
                    self._write(chunk.data)
                except Corruption as error:
                    self._spoiled = error

    def sync(self) -> None:
        """Make every piece so far durable.

        Raises:
            Storage: `snapshot_files_failed`; the process must stop.
        """
        with disk_told("write", self._folder):
            if self._handle >= 0:
                os.fdatasync(self._handle)
            if self._fresh_names:
                sync_file(self._folder)
                sync_file(self._folder.parent)
                self._fresh_names = False

    def goes_on(self, meta: SnapshotMeta, offset: int) -> bool:
        """Tell whether the piece at `offset` is the next one."""
        return (self._meta, self._end) == (meta, offset)

    def listed(self) -> bytes | None:
        """Return the list as it came; None where it has not."""
        with disk_told("read", self._folder):
            try:
                return (self._folder / LIST_FILE).read_bytes()
            except FileNotFoundError:
                return None

    def verify(
        self, meta: SnapshotMeta, listed: bytes | None, ended: Callable[[], bool]
    ) -> Sequence[Path]:
        """Return the files, if they are the state that `meta` names and nothing else.

        Args:
            meta: What the raft_snapshot is called.
            listed: The last piece.
            ended: Asked now and then whether to give up.

        Raises:
            Corruption: `raft_snapshot_corrupt`, `state_malformed`.
            Storage: `disk_full`, `snapshot_files_failed`.
            Ended: `ended` said so.
        """
        if self._spoiled is not None:
            raise self._spoiled
        if listed is None:
            raise corrupt_snapshot(f"{self._folder} has no list of its files")
        piece = decode_file_piece(listed)
        said = (piece.group, piece.index, piece.term)
        if not isinstance(piece, FileList) or said != (self._group, meta.index, meta.term):
            raise corrupt_snapshot(f"the list in {self._folder} is of {said}")
        paths = [sst_path(self._folder, number) for number in range(len(piece.files))]
        for path, file in zip(paths, piece.files, strict=True):
            if ended():
                raise Ended
            with disk_told("read", path):
                found = file_at(path, file.rows) if path.exists() else None
            if found != file:
                raise corrupt_snapshot(f"{path} is not what its sender made")
        wanted = {family(self._group, META) + name for name in (PROGRESS, MEMBERS)}
        told = self._checker.check(paths, piece.files, group_range(self._group), wanted, ended)
        check_told(self._group, meta, told)
        return paths

    def discard(self) -> None:
        """Drop all pieces; a crash may bring them back, and the start drops them again."""
        self.close()
        self._meta, self._end, self._spoiled, self._number = None, 0, None, -1
        with disk_told("remove", self._folder):
            if self._folder.exists():
                shutil.rmtree(self._folder)

    def close(self) -> None:
        """Close the file that is being written."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write(self, data: bytes) -> None:
        """Write a piece to where it belongs; Corruption, OSError."""
        piece = decode_file_piece(data)
        if isinstance(piece, FileList):
            self._open(self._folder / LIST_FILE)
            rest = memoryview(data)
        else:
            if piece.file == self._number + 1:
                self._open(sst_path(self._folder, piece.file))
                self._number = piece.file
            if piece.file != self._number:
                raise corrupt_snapshot(f"file {piece.file} follows file {self._number}")
            rest = memoryview(piece.data)
        while rest:
            rest = rest[os.write(self._handle, rest) :]

    def _open(self, path: Path) -> None:
        """Begin a file, once the one before is durable."""
        if self._handle >= 0:
            os.fdatasync(self._handle)
        self.close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._handle = os.open(path, flags, 0o600)
        self._fresh_names = True
