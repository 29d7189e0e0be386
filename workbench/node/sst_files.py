"""The SST files of a raft_snapshot: written from rows, and looked into before they are believed.

    rows ──write_files──▶ 0.sst │ 1.sst │ …         Checker: files ──▶ an empty database beside
                                                             ──▶ every row in order, of one range

Rules:
- Each file is durable before it counts, and its hash is that of what was written.
- rocksdict reads no file by itself, and does not say what a file does beside its rows. So files
  are taken into a database that holds nothing else. It tells the bounds of each, deletions
  included; then all rows are read, which checks the checksum of each block. Files that overlap,
  delete anything, or leave the range by one key, are refused.
- The files themselves are not changed by that: the database gets links to them.
- rocksdict keeps the interpreter to itself while it opens a database, takes files in or finishes
  one. So the database of the Checker is opened once, before the node serves, and files are not
  small.

Not here: which files belong together, and where they go (`node.sst_snapshots`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import time
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import rocksdict

from workbench.errors import Storage, WorkbenchError
from workbench.replica.raft_snapshot import corrupt_snapshot
from workbench.replica.snapshot_files import SnapshotFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

# Of keys and values in one file, before compression; a row beyond goes into the next one.
FILE_BYTES: Final = 32 * 2**20
# Between two of them other threads get their turn.
ROWS_AT_ONCE: Final = 128
# Of a check for another one; then it looks whether it is still wanted.
WAIT_S: Final = 0.01
_READ_BYTES: Final = 2**20
_FULL: Final = ("No space left on device", "Disk quota exceeded")
_DAMAGED: Final = ("Corruption", "Invalid argument", "Not implemented")
_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT}
# Above every key that is not longer: what a database without an end ends with.
_ABOVE_ALL: Final = b"\xff" * 64


class Ended(Exception):  # noqa: N818 - no error: whoever wanted it wants it no more
    """What went on beside was ended by who had begun it."""


def sst_path(folder: Path, number: int) -> Path:
    """Return where the file of this number is."""
    return folder / f"{number}.sst"


def write_files(
    rows: Iterable[tuple[bytes, bytes]], folder: Path, ended: Callable[[], bool]
) -> Iterator[SnapshotFile]:
    """Write rows, ascending by key, into SST files, each told once it is durable.

    Args:
        rows: Keys and values.
        folder: Exists, and is empty.
        ended: Asked now and then whether to give up.

    Raises:
        Ended: `ended` said so.
        Storage: `disk_full`, `snapshot_files_failed`.
    """
    each = iter(rows)
    page = list(islice(each, ROWS_AT_ONCE))
    number = 0
    while page:
        path = sst_path(folder, number)
        count = size = 0
        with disk_told("write", path):
            writer = rocksdict.SstFileWriter(_options())
            writer.open(str(path))
        while page and size < FILE_BYTES:
            with disk_told("write", path):
                for key, value in page:
                    writer[key] = value
                    size += len(key) + len(value)
            count += len(page)
            if ended():
                raise Ended
            time.sleep(0)
            page = list(islice(each, ROWS_AT_ONCE))
        with disk_told("write", path):
            sync_file(path)  # or `finish` would keep the interpreter for as long as the disk takes
            writer.finish()
            file = file_at(path, count)
        yield file
        number += 1


def file_at(path: Path, rows: int) -> SnapshotFile:
    """Return the hash and size of a file; OSError where it cannot be read."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
            size += len(block)
    return SnapshotFile(rows, size, digest.digest())


def sync_file(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, durable; OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Checker:
    """Looks into SST files with a database of its own; for one group at a time.

    Args:
        folder: For that database; what is there is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._links = folder / "links"
        self._opened = 0
        self._database: Any = None
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Open the database, so that no check has to.

        Raises:
            Storage: `disk_full`, `snapshot_files_failed`.
        """
        if self._database is None:
            with disk_told("write", self._folder):
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.mkdir(mode=0o700, parents=True)
                # An iterator of an earlier one may live on in a traceback, and with it a lock.
                self._opened += 1
                folder = self._folder / str(self._opened)
                self._database = rocksdict.Rdict(str(folder), _options())

    def check(
        self,
        paths: Sequence[Path],
        files: Sequence[SnapshotFile],
        within: tuple[bytes, bytes | None],
        wanted: Collection[bytes],
        ended: Callable[[], bool],
    ) -> Mapping[bytes, bytes]:
        """Return the rows of the keys `wanted`, if the files are nothing but rows of a range.

        Args:
            paths: One or more SST files, in the order of their keys.
            files: What they are said to be.
            within: Start and end (exclusive) of the range.
            wanted: Keys.
            ended: Asked now and then whether to give up.

        Raises:
            Corruption: `raft_snapshot_corrupt`, with what is wrong.
            Storage: `disk_full`, `snapshot_files_failed`.
            Ended: `ended` said so.
        """
        with self._alone(ended):
            self.prepare()
            clean = False
            try:
                self._take_in(paths)
                self._check_bounds(files, within)
                found = self._read(files, wanted, ended)
                self._empty()
                clean = True
            finally:
                if not clean:
                    self.close()  # whatever is in it now: the next check begins with a new one
            return found

    def close(self) -> None:
        """Let go of the database and what is in it."""
        database, self._database = self._database, None
        if database is not None:
            with disk_told("close", self._folder):
                database.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _alone(self, ended: Callable[[], bool]) -> Iterator[None]:
        """Wait until no other check goes on; Ended (`ended` said so)."""
        while not self._lock.acquire(timeout=WAIT_S):
            if ended():
                raise Ended
        try:
            yield
        finally:
            self._lock.release()

    def _take_in(self, paths: Sequence[Path]) -> None:
        with disk_told("write", self._links):
            self._links.mkdir(mode=0o700)
            links = [self._links / path.name for path in paths]
            for path, link in zip(paths, links, strict=True):
                os.link(path, link)
        options = rocksdict.IngestExternalFileOptions()
        options.set_move_files(True)
        with disk_told("read", self._links, foreign=_DAMAGED):
            self._database.ingest_external_file([str(link) for link in links], options)

    def _check_bounds(
        self, files: Sequence[SnapshotFile], within: tuple[bytes, bytes | None]
    ) -> None:
        start, end = within
        with disk_told("read", self._folder, foreign=_DAMAGED):
            found = sorted(self._database.live_files(), key=lambda each: each["start_key"])
        if len(found) != len(files):
            raise corrupt_snapshot(f"{len(files)} files are {len(found)}")
        before: bytes | None = None
        for number, (each, file) in enumerate(zip(found, files, strict=True)):
            first, last = each["start_key"], each["end_key"]
            if each["num_deletions"] or each["num_entries"] != file.rows:
                raise corrupt_snapshot(
                    f"file {number} has {each['num_entries']} entries, of which "
                    f"{each['num_deletions']} delete, not {file.rows} rows"
                )
            if first < start or (end is not None and last >= end):
                raise corrupt_snapshot(
                    f"file {number} has keys from {first.hex()} to {last.hex()}: not the group's"
                )
            if before is not None and first <= before:
                raise corrupt_snapshot(f"file {number} overlaps the one before")
            before = last

    def _read(
        self, files: Sequence[SnapshotFile], wanted: Collection[bytes], ended: Callable[[], bool]
    ) -> Mapping[bytes, bytes]:
        """Read all rows; the bounds are known, so that they are in order is what is left."""
        found: dict[bytes, bytes] = {}
        count, before = 0, b""
        with disk_told("read", self._folder, foreign=_DAMAGED):
            rows = self._database.items()
        while True:
            with disk_told("read", self._folder, foreign=_DAMAGED):
                page = list(islice(rows, ROWS_AT_ONCE))
            if not page:
                break
            keys = [before, *(key for key, _ in page)]
            if keys != sorted(set(keys)):
                raise corrupt_snapshot(f"its keys are not in order after {before.hex()}")
            found |= {key: value for key, value in page if key in wanted}
            count, before = count + len(page), keys[-1]
            if ended():
                raise Ended
            time.sleep(0)
        # rocksdict ends at a damaged block as if there were no more rows.
        if count != sum(file.rows for file in files):
            raise corrupt_snapshot(f"only {count} of its rows can be read")
        return found

    def _empty(self) -> None:
        """Have nothing in the database; its files go with what is in them."""
        with disk_told("write", self._folder):
            options: Any = rocksdict.WriteOptions()
            options.disable_wal = True
            self._database.delete_range(b"", _ABOVE_ALL, options)
            self._database.flush(wait=True)
            self._database.compact_range(None, None)
            left = self._database.live_files()
        shutil.rmtree(self._links, ignore_errors=True)
        if left:
            self.close()


@contextmanager
def disk_told(verb: str, path: Path, *, foreign: Collection[str] = ()) -> Iterator[None]:
    """Raise what rocksdict and the system raise as one of our errors.

    Args:
        verb: What is being done.
        path: Where.
        foreign: Words that say that the bytes are to blame, which came from elsewhere.

    Raises:
        Corruption: `raft_snapshot_corrupt`.
        Storage: `disk_full`, `snapshot_files_failed`.
    """
    try:
        yield
    except (WorkbenchError, Ended):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if any(word in text for word in foreign):
            raise corrupt_snapshot(text) from error
        what = f"cannot {verb} the raft_snapshot in {path}: {text}"
        if getattr(error, "errno", None) in _NO_SPACE or any(words in text for words in _FULL):
            raise Storage(
                what,
                code="disk_full",
                hint="free some space and start the node again; nothing was lost",
            ) from error
        raise Storage(
            what,
            code="snapshot_files_failed",
            hint="check the disk and start the node again; nothing was lost",
        ) from error


def _options() -> rocksdict.Options:
    options = rocksdict.Options(raw_mode=True)
    options.set_compression_type(rocksdict.DBCompressionType.lz4())
    options.set_max_log_file_size(_READ_BYTES)
    options.set_keep_log_file_num(1)
    return options
