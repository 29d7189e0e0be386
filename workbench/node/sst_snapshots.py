"""The raft_snapshots of one group as SST files: made, sent, kept, checked and installed.

    engine ──scan of one moment──▶ DIR/snapshots/GROUP.out-N/0.sst, 1.sst, … ──pieces──▶ follower
    leader ──pieces──▶ DIR/snapshots/GROUP.in/0.sst, …, list ──▶ checked ──▶ range deleted, flushed,
                                                                              files taken in

Rules:
- What takes long is done by `workers`, and the event loop asks whether it is done: writing files,
  checking what came, installing. One of each kind goes on at a time.
- A file can be read as soon as it is written, while the next one is. The list of all comes last.
- Files are checked before the log is reset, and again where a crash came between that and the
  end of the install.
- An install deletes the range, progress included, and flushes; then it takes in all files in one
  step. A crash before the flush leaves the old state, one after it no progress, one after the
  files all of the new state. In the first two cases the log's reset tells the start to do it
  again, and the files are still there: they are let go of last.
- What does not check out is told, and dropped: its sender is asked to begin anew.

docs/formats/entry.md has the pieces. Not here: when to take, send and install (`host`).
"""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import wait
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from workbench.errors import Corruption
from workbench.node.sst_files import Ended, disk_told, sst_path, write_files
from workbench.node.sst_incoming import Incoming
from workbench.ports.storage import Waiting
from workbench.replica.layout import group_range
from workbench.replica.raft_snapshot import PIECE_BYTES
from workbench.replica.snapshot_files import (
    FileBytes,
    FileList,
    SnapshotFile,
    decode_file_piece,
    encode_file_piece,
    place_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from workbench.node.engine import RocksEngine
    from workbench.node.sst_files import Checker
    from workbench.ports.consensus import ChunkReceived, SnapshotMeta

    Tell: TypeAlias = Callable[..., None]

CHECK_FOLDER: Final = "check"
# Above every engine key: the end of a group's range that has none.
_ABOVE_ALL: Final = b"\xff" * 64


def remove_leftovers(folder: Path) -> None:
    """Remove what other lives of the node left of raft_snapshots, once its groups have started.

    Raises:
        Storage: `snapshot_files_failed`.
    """
    with disk_told("remove", folder):
        for path in folder.iterdir() if folder.exists() else ():
            if path.name == CHECK_FOLDER:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


class SstSnapshots:
    """`RaftSnapshots` of a group over an engine that takes in SST files.

    Args:
        group: Its id.
        engine: Where its rows are.
        folder: Of the snapshots of all groups of the node; made where it does not exist.
        checker: Looks into files that came; may be shared by groups.
        workers: Does what takes long; two threads or more; outlives this.
        tell: Is told of what was sent, installed or refused, in the caller's thread.
    """

    def __init__(  # noqa: PLR0913 - what it joins, named
        self,
        group: int,
        engine: RocksEngine,
        folder: Path,
        *,
        checker: Checker,
        workers: Executor,
        tell: Tell = lambda *_, **__: None,
    ) -> None:
        self._group = group
        self._engine = engine
        self._folder = folder
        self._workers = workers
        self._tell = tell
        self._taken: _Taken | None = None
        self._takes = 0
        self._incoming = Incoming(group, folder / f"{group}.in", checker)
        self._checking: _Check | None = None
        self._install: tuple[SnapshotMeta, Future[Sequence[SnapshotFile]]] | None = None

    def take(self, meta: SnapshotMeta) -> None:
        """Freeze the group's state as it is now, in place of what was taken before."""
        self.release()
        self._takes += 1
        rows = self._engine.scan(*group_range(self._group))
        taken = _Taken(self._group, meta, self._folder / f"{self._group}.out-{self._takes}")
        taken.made = self._workers.submit(taken.make, rows)
        self._taken = taken

    def read(self, meta: SnapshotMeta, offset: int) -> tuple[bytes, bool] | Waiting | None:
        """Return the piece at `offset`, and whether it is the last; None where it is gone.

        Raises:
            Corruption: `engine_corrupt`: the state cannot be read.
            Storage: `disk_full`, `snapshot_files_failed`, `engine_failed`; the process must stop.
        """
        taken = self._taken
        if taken is None or taken.meta != meta:
            return None
        found = taken.read(offset)
        if isinstance(found, tuple) and found[1] and not taken.told:
            taken.told = True
            self._told("raft_snapshot_sent", meta, taken.files)
        return found

    def release(self) -> None:
        """Let go of what was taken, also while it is being made."""
        taken, self._taken = self._taken, None
        if taken is not None:
            taken.ended.set()
            assert taken.made is not None
            taken.made.cancel()
            self._workers.submit(_remove_after, taken.made, taken.folder)

    def keep(self, chunk: ChunkReceived) -> None:
        """Keep a piece that came in; one at offset 0 drops what was there.

        Raises:
            Storage: `disk_full`, `snapshot_files_failed`; the process must stop.
        """
        if chunk.offset == 0:
            self._end_check()
        self._incoming.keep(chunk)

    def sync(self) -> None:
        """Make the kept pieces durable; Storage: the process must stop."""
        self._incoming.sync()

    def check(self, meta: SnapshotMeta, offset: int, data: bytes) -> bool | Waiting:
        """Tell whether the kept files and this list are the state that `meta` names.

        Raises:
            Storage: the process must stop.
        """
        if offset == 0:
            return False
        if not self._incoming.goes_on(meta, offset):
            return Waiting.WAIT
        if self._checking is None or self._checking.asked != (meta, data):
            if self._checking is not None:
                self._checking.ended.set()  # it only reads: nobody has to wait for its end
            self._checking = _Check(meta, data)
            self._checking.done = self._workers.submit(
                self._incoming.verify, meta, data, self._checking.ended.is_set
            )
        done = self._checking.done
        assert done is not None
        if not done.done():
            return Waiting.WAIT
        try:
            done.result()
        except Corruption as error:
            self._checking = None
            self._tell(
                "raft_snapshot_refused",
                group=self._group,
                index=meta.index,
                code=error.code,
                error=error.message,
            )
            return False
        return True

    def begin_install(self, meta: SnapshotMeta) -> bool:
        """Begin what `install` does, beside the caller; it is not done yet."""
        checking, self._checking = self._checking, None
        paths = None
        if checking is not None and checking.asked == (meta, self._incoming.listed()):
            paths = checking.found()
        self._install = meta, self._workers.submit(self._put_in, meta, paths)
        return False

    def installed(self) -> bool:
        """Tell whether the install that was begun is done.

        Raises:
            Corruption, Storage: as `install`.
        """
        assert self._install is not None
        meta, done = self._install
        if not done.done():
            return False
        self._install = None
        self._told("raft_snapshot_installed", meta, done.result())
        return True

    def install(self, meta: SnapshotMeta) -> None:
        """Replace the group's rows by the kept files, durably, and drop what is left of them.

        Raises:
            Corruption: `raft_snapshot_corrupt`, `state_malformed`; nothing was changed then.
            Storage: the process must stop.
        """
        self._told("raft_snapshot_installed", meta, self._put_in(meta, None))

    def discard(self) -> None:
        """Drop the kept pieces."""
        self._end_check()
        self._incoming.discard()

    def close(self) -> None:
        """End what goes on; an install is over when this returns, or will be done again."""
        if self._install is not None:
            wait([self._install[1]])
        self._end_check()
        taken = self._taken
        self.release()
        if taken is not None and taken.made is not None:
            wait([taken.made])
        self._incoming.close()

    def _put_in(self, meta: SnapshotMeta, paths: Sequence[Path] | None) -> Sequence[SnapshotFile]:
        """Have the kept files take the place of the group's rows; verify them where not given."""
        listed = self._incoming.listed()
        if paths is None:
            paths = self._incoming.verify(meta, listed, lambda: False)
        assert listed is not None, "verified"
        start, end = group_range(self._group)
        end = _ABOVE_ALL if end is None else end
        self._engine.delete_range(start, end)
        self._engine.flush()
        # Else each file would lie above what was deleted, where RocksDB bears only so many.
        self._engine.compact_range(start, end)
        self._engine.ingest(paths)
        self._incoming.discard()
        piece = decode_file_piece(listed)
        assert isinstance(piece, FileList)
        return piece.files

    def _end_check(self) -> None:
        checking, self._checking = self._checking, None
        if checking is not None:
            checking.ended.set()
            assert checking.done is not None
            # One that waits for a worker never begins; one that began is over in a moment.
            checking.done.cancel()
            wait([checking.done])

    def _told(self, event: str, meta: SnapshotMeta, files: Sequence[SnapshotFile]) -> None:
        self._tell(
            event,
            group=self._group,
            index=meta.index,
            files=len(files),
            rows=sum(file.rows for file in files),
            bytes=sum(file.size for file in files),
        )


class _Check:
    """A check that goes on, or is done.

    Attributes:
        asked: What the raft_snapshot is called, and the list of its files.
        ended: Set where nobody wants it any more.
        done: What comes of it.
    """

    def __init__(self, meta: SnapshotMeta, listed: bytes) -> None:
        self.asked = meta, listed
        self.ended = threading.Event()
        self.done: Future[Sequence[Path]] | None = None

    def found(self) -> Sequence[Path] | None:
        """Return the files that were found to be sound; None where they were not, or not yet."""
        if self.done is None or not self.done.done() or self.done.exception() is not None:
            return None
        return self.done.result()


class _Taken:
    """A raft_snapshot that can be read, while it is still being made.

    Attributes:
        meta: What it is called.
        folder: Where its files are.
        files: Those that are there; the maker appends, the reader looks.
        ended: Set where nobody wants it any more.
        made: Done with the last file, or what went wrong.
        told: Whether it was told that all of it was read.
    """

    def __init__(self, group: int, meta: SnapshotMeta, folder: Path) -> None:
        self._group = group
        self.meta = meta
        self.folder = folder
        self.files: list[SnapshotFile] = []
        self.ended = threading.Event()
        self.made: Future[None] | None = None
        self.told = False

    def make(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Write the files; in a thread of its own."""
        with suppress(Ended):
            with disk_told("write", self.folder):
                self.folder.mkdir(mode=0o700, parents=True)
            for file in write_files(rows, self.folder, self.ended.is_set):
                self.files.append(file)

    def read(self, offset: int) -> tuple[bytes, bool] | Waiting | None:
        """Return a piece, WAIT while it is not there yet, None where none begins at `offset`.

        Raises:
            WorkbenchError: what making it came to.
        """
        assert self.made is not None
        made = self.made.done()  # before the files are looked at: then there are no more
        if made:
            self.made.result()
        files = tuple(self.files)
        place = place_of(offset, files)
        if place is None or place[0] == len(files):
            if not made:
                return Waiting.WAIT
            if place is None:
                return None
            piece = FileList(self._group, self.meta.index, self.meta.term, offset, files)
            return encode_file_piece(piece), True
        number, at = place
        path = sst_path(self.folder, number)
        with disk_told("read", path), path.open("rb") as file:
            file.seek(at)
            data = file.read(PIECE_BYTES)
        bytes_of = FileBytes(self._group, self.meta.index, self.meta.term, offset, number, data)
        return encode_file_piece(bytes_of), False


def _remove_after(made: Future[None], folder: Path) -> None:
    """Remove files once nobody writes them any more."""
    wait([made])
    shutil.rmtree(folder, ignore_errors=True)
