"""The engine of one process: RocksDB through rocksdict, without its own write-ahead log.

    write ──▶ memtable ──flush──▶ SST files        durable only what is flushed; the rest comes
                  └── lost in a crash              again from the log of entries, `node.log`

Rules:

- Keys and values are bytes as they are (`raw_mode` on options and on every batch).
- A batch is applied wholly or not at all, also across a crash.
- A scan sees one moment, and says so where it meets a damaged block. rocksdict's `items()` is
  fast, but ends there as if there were no more rows: where it ends early, a bare iterator goes
  to the same place of the same moment, and is asked for its status.
- An iterator that lives keeps RocksDB's lock on the folder in this process. So the engine knows
  its scans, and ends them in `close`.

Not here: what keys mean, and when to flush.
"""

from __future__ import annotations

import gc
import time
import weakref
from abc import ABC, abstractmethod
from bisect import bisect_left
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import rocksdict

from workbench.errors import Corruption, Storage, WorkbenchError
from workbench.model.recovery import DAMAGED_NODE_HINT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from workbench.ports.storage import Change

# Most of a write is the search for its place in this table: a row takes 3 µs in one of 32 MiB,
# half of that in one of 8 MiB, and with the flushes and compaction that follow a quarter less.
MEMTABLE_BYTES: Final = 8 * 2**20
INFO_LOG_BYTES_MAX: Final = 4 * 2**20
INFO_LOGS_MAX: Final = 2
# Of a scan: a point read wants one row, a long one many at a time. Rows may have 1 MiB each.
PAGE_ROWS_MAX: Final = 128
PAGE_GROWTH: Final = 4
_FULL: Final = ("No space left on device", "Disk quota exceeded")
_LOCKED: Final = ("lock hold by current process", "While lock file")


class RocksEngine:
    """Engine in a folder, which is made where it does not exist; its parent must.

    Raises:
        Corruption: `engine_corrupt`, with the folder; also by reads that meet a damaged block.
        Storage: `engine_failed`, `engine_locked`, `disk_full`; the process must stop.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scans: weakref.WeakSet[_Scan] = weakref.WeakSet()
        # Not typed, as rocksdict's hints call disable_wal a method; it is a property.
        options: Any = rocksdict.WriteOptions()
        options.disable_wal = True
        self._write_options = options
        self._database: Any = None
        self._check_whole()
        try:
            self._database = rocksdict.Rdict(str(folder), _options())
        except Exception as error:
            raise self._as_known("open", error) from error

    def get(self, key: bytes) -> bytes | None:
        """Return the value, None where there is none."""
        try:
            value: bytes | None = self._database.get(key)
        except Exception as error:
            raise self._as_known("read", error) from error
        return value

    def firsts(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes] | None]:
        """Return the first pair of each range [start, end), all as of now; None for an empty one.

        One iterator for all of them: to open one takes longer than to move it.
        """
        self._check_open()
        found: list[tuple[bytes, bytes] | None] = []
        rows: Any = None
        try:
            rows = self._database.iter()
            for start, end in ranges:
                rows.seek(start)
                key: bytes | None = rows.key()
                if key is None:
                    rows.status()
                found.append(None if key is None or key >= end else (key, rows.value()))
        except Exception as error:
            raise self._as_known("read", error) from error
        finally:
            rows = None  # a traceback would keep it, and with it the lock on the folder
        return found

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Return the pairs of [start, end) as of now, ascending or descending."""
        self._check_open()
        pages = (_Backward if reverse else _Forward)(self._database, start, end, self._as_known)
        self._scans.add(pages)
        return chain.from_iterable(pages)

    def write(self, changes: Sequence[Change]) -> None:
        """Apply the changes in order, all or none; durable only after `flush`."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            self._database.write(batch, self._write_options)
        except Exception as error:
            raise self._as_known("write", error) from error

    def flush(self) -> None:
        """Make every write so far durable."""
        try:
            self._database.flush(wait=True)
        except Exception as error:
            raise self._as_known("flush", error) from error

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete all rows of [start, end) in one step; durable only after `flush`."""
        try:
            self._database.delete_range(start, end, self._write_options)
        except Exception as error:
            raise self._as_known("write", error) from error

    def compact_range(self, start: bytes, end: bytes) -> None:
        """Let go of what was deleted in [start, end), so that other files can take its place."""
        try:
            self._database.compact_range(start, end)
        except Exception as error:
            raise self._as_known("compact", error) from error

    def ingest(self, files: Sequence[Path]) -> None:
        """Take in SST files, all or none, durably; they are the engine's own from then on."""
        options = rocksdict.IngestExternalFileOptions()
        options.set_move_files(True)
        try:
            self._database.ingest_external_file([str(file) for file in files], options)
        except Exception as error:
            raise self._as_known("take files into", error) from error

    def close(self) -> None:
        """End all scans and close the files; what was not flushed may be lost.

        Raises:
            Storage: RocksDB flushes here too, and the disk refused; the files are let go of.
        """
        if self._database is None:
            return
        for scan in list(self._scans):
            scan.close()
        database, self._database = self._database, None
        try:
            database.close()
        except Exception as error:
            raise self._as_known("close", error) from error
        finally:
            del database
            gc.collect()  # an iterator in a reference cycle would keep the lock

    def _check_open(self) -> None:
        if self._database is None:
            raise _closed(self._folder)

    def _check_whole(self) -> None:
        """Refuse a database without its root file; RocksDB might begin an empty one over it."""
        if any(self._folder.glob("*.sst")) and not (self._folder / "CURRENT").exists():
            raise self._corrupt("its file CURRENT is missing")

    def _as_known(self, verb: str, error: Exception) -> WorkbenchError:
        """Return what rocksdict raised, a bare Exception with RocksDB's words, as one of ours."""
        if isinstance(error, WorkbenchError):
            return error
        if self._database is None and verb not in {"open", "close"}:
            return _closed(self._folder)
        text = " ".join(str(error).split())
        lost = "No such file or directory" in text and (self._folder / "CURRENT").exists()
        if "Corruption" in text or "checksum mismatch" in text or lost:
            return self._corrupt(text)
        what = f"cannot {verb} the database in {self._folder}: {text}"
        if any(words in text for words in _FULL):
            hint = "free some space and start the node again; nothing acknowledged is lost"
            return Storage(what, code="disk_full", hint=hint)
        if any(words in text for words in _LOCKED):
            hint = "stop the process that has it open"
            return Storage(what, code="engine_locked", hint=hint)
        hint = "check the disk and the permissions of the folder, then start the node again"
        return Storage(what, code="engine_failed", hint=hint)

    def _corrupt(self, what: str) -> Corruption:
        return Corruption(
            f"the database in {self._folder} is damaged: {what}",
            code="engine_corrupt",
            hint=DAMAGED_NODE_HINT,
        )


class _Scan(ABC):
    """Pages of one range at one moment; lets go of RocksDB at its end, or by `close`."""

    def __init__(
        self,
        database: Any,  # noqa: ANN401 - rocksdict types little, and mypy does not see it
        start: bytes,
        end: bytes | None,
        as_known: Callable[[str, Exception], WorkbenchError],
    ) -> None:
        self._start = start
        self._end = end
        self._as_known = as_known
        self._ended = False
        self._closed = False
        self._snapshot: Any = None
        self._rows: Any = None
        self._bare: Any = None
        try:
            # Each keeps the database open by itself: both are let go of at the end.
            self._snapshot = database.snapshot()
            self._rows = self._open()
        except Exception as error:
            self._release()
            raise as_known("read", error) from error

    def __iter__(self) -> Iterator[Sequence[tuple[bytes, bytes]]]:
        return self

    def __next__(self) -> Sequence[tuple[bytes, bytes]]:
        if self._closed and not self._ended:
            raise Storage(
                "the database was closed during a scan",
                code="engine_closed",
                hint="the node is stopping: ask again once it runs",
            )
        if self._ended:
            raise StopIteration
        try:
            page, ended = self._page()
        except Exception as error:
            self.close()
            raise self._as_known("read", error) from error
        if ended:
            self._ended = True
            self.close()
        if not page:
            raise StopIteration
        return page

    def close(self) -> None:
        """Let go of the database; a scan that had not ended says so when asked for more."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        self._rows = None
        self._bare = None
        self._snapshot = None

    @abstractmethod
    def _open(self) -> Any:  # noqa: ANN401
        """Return rocksdict's iterator at the range's first row."""

    @abstractmethod
    def _page(self) -> tuple[Sequence[tuple[bytes, bytes]], bool]:
        """Return the next rows, none only at the end, and whether this is the end."""


class _Forward(_Scan):
    """Ascending, many rows at a time."""

    _count = 1
    _last: bytes | None = None

    def _open(self) -> Any:  # noqa: ANN401
        return self._snapshot.items(from_key=self._start)

    def _page(self) -> tuple[Sequence[tuple[bytes, bytes]], bool]:
        if self._count == PAGE_ROWS_MAX:
            # A long scan may run beside the event loop, which else gets its turn every 5 ms only.
            time.sleep(0)
        page: list[tuple[bytes, bytes]] = list(islice(self._rows, self._count))
        short = len(page) < self._count
        self._count = min(PAGE_GROWTH * self._count, PAGE_ROWS_MAX)
        if page:
            self._last = page[-1][0]
            if self._end is not None and self._last >= self._end:
                return page[: bisect_left(page, (self._end,))], True
        if short:
            self._check_end()
        return page, short

    def _check_end(self) -> None:
        """Raise what ended the rows early, if it was not the end of the range."""
        # Not a local: a traceback would keep it, and with it the lock on the folder.
        self._bare = self._snapshot.iter()
        self._bare.seek(self._start if self._last is None else self._last)
        if self._last is not None and self._bare.valid():
            self._bare.next()
        if not self._bare.valid():
            self._bare.status()
            return
        key = self._bare.key()
        if self._end is None or key < self._end:
            raise Corruption(
                f"a scan of the database ended before the row {key.hex()}",
                code="engine_corrupt",
                hint=DAMAGED_NODE_HINT,
            )


class _Backward(_Scan):
    """Descending, row by row."""

    def _open(self) -> Any:  # noqa: ANN401
        rows: Any = self._snapshot.iter()
        if self._end is None:
            rows.seek_to_last()
            return rows
        rows.seek_for_prev(self._end)
        if rows.valid() and rows.key() == self._end:
            rows.prev()
        return rows

    def _page(self) -> tuple[Sequence[tuple[bytes, bytes]], bool]:
        if self._rows.valid():
            key: bytes = self._rows.key()
            if key >= self._start:
                value: bytes = self._rows.value()
                self._rows.prev()
                return [(key, value)], False
        self._rows.status()
        return (), True


def _options() -> rocksdict.Options:
    options = rocksdict.Options(raw_mode=True)
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_compression_type(rocksdict.DBCompressionType.lz4())
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX)
    options.set_keep_log_file_num(INFO_LOGS_MAX)
    return options


def _closed(folder: Path) -> Storage:
    return Storage(
        f"the database in {folder} is closed",
        code="engine_closed",
        hint="the node is stopping: ask again once it runs",
    )
