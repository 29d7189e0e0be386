"""The log of all groups of one process: segment files to which whole turns are appended.

    0000000001.log    0000000002.log        0000000003.log  ◀── writes go here
    ┌────────────┐    ┌─────────────────┐   ┌─────────────────┬───────┬───────┬──────┐
    │   dropped  │    │ header │ base │…│   │ header │ base 41│ turn 42│ turn 43│ torn │
    └────────────┘    └─────────────────┘   └─────────────────┴───────┴───────┴──────┘

Rules, byte for byte in docs/formats/log.md:

- What was appended since the last `sync` becomes one *frame*: one write, one fdatasync. So at
  most one frame is ever not durable, and nothing can stand behind it. A bad frame at the end is
  torn, and cut, only where a crash can have left it so (`node.log_tail`); else it was damaged.
- Frames count up without a hole, over all segments.
- A frame starts with the log's *mark*, eight random bytes that users never see. Bytes which a
  user stores cannot pass for a frame that follows a torn one.
- A segment comes to be under a temporary name and is renamed once its header and its first
  frame are durable. That first frame, the base, says where each group stands, so that all older
  segments can go once the engine has flushed their entries.
- A segment of an older format is read, and never written to: a new one follows it.
- How far it is durable is noted beside it (`node.log_synced`): it is never taken for less.
- After one failed write or fsync nobody knows what the disk holds: everything is refused.

Not here: when to sync, and what entries mean. A loss of whole segments at either end leaves an
intact, shorter log; only the engine's applied indexes tell.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from workbench.errors import Corruption, InvalidInput, Storage
from workbench.model.recovery import DAMAGED_NODE_HINT
from workbench.node.log_format import (
    FORMAT_VERSION,
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    READ_VERSIONS,
    RECORD_BYTES_MAX,
    Base,
    decode_header,
    decode_records,
    encode_bases,
    encode_frame,
    encode_header,
    encode_writes,
    valid_frame,
)
from workbench.node.log_synced import note_synced, what_is_lost
from workbench.node.log_tail import TornTail, keep_copy, why_damaged
from workbench.ports.consensus import HardState, LogEntry, SnapshotMeta
from workbench.ports.storage import GroupLog, GroupWrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

SEGMENT_BYTES: Final = 64 * 2**20
# What waits for a sync is written anyway beyond this, so that memory stays bounded.
PENDING_BYTES_MAX: Final = 64 * 2**20
_NAME: Final = re.compile(r"(\d{10})\.log")
_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


class LogFiles:
    """How the log reaches the disk; a test puts faults in its place."""

    def write(self, handle: int, data: bytes) -> None:
        """Write all of `data` at the end of the file."""
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]

    def sync(self, handle: int) -> None:
        """Make the content of a file durable."""
        os.fdatasync(handle)

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(slots=True)
class _Segment:
    """One file.

    Attributes:
        number: From 1, without holes.
        path: Its file.
        size: In bytes.
        highest: Of each group that has entries in it, the highest index.
        version: Of its format.
    """

    number: int
    path: Path
    size: int
    highest: dict[int, int] = field(default_factory=dict)
    version: int = FORMAT_VERSION


@dataclass(slots=True)
class _Group:
    """Where one group stands, and during replay the entries that were found.

    Invariant: `entries` are ascending without holes, and the last one is `last_index`.

    Attributes:
        base_index: During replay, of the entry before the first one that is kept.
        base_term: Its term; None where only that of the entry behind it is known.
        reset: The newest raft_snapshot that the log was reset to.
    """

    hard_state: HardState = field(default_factory=HardState)
    last_index: int = 0
    last_term: int = 0
    entries: list[LogEntry] = field(default_factory=list)
    base_index: int = 0
    base_term: int | None = 0
    reset: SnapshotMeta | None = None

    def stand_at(self, index: int, term: int) -> None:
        """Take note of the newest entry."""
        self.last_index, self.last_term = index, term

    def stand_behind(self, meta: SnapshotMeta) -> None:
        """Have no entries any more, and go on behind a raft_snapshot."""
        self.entries = []
        self.reset = meta
        self.base_index, self.base_term = meta.index, meta.term
        self.stand_at(meta.index, meta.term)

    def replay(self, entry: LogEntry) -> None:
        """Take an entry in; one with a known index replaces it and all after it."""
        if self.entries and entry.index <= self.entries[-1].index:
            del self.entries[max(0, entry.index - self.entries[0].index) :]
        if not self.entries and entry.index <= self.base_index:
            # It replaces entries of a segment that is gone, and so is what was known before it.
            self.base_index, self.base_term = entry.index - 1, None
        self.entries.append(entry)
        self.stand_at(entry.index, entry.term)


class SegmentLog:
    """LogStorage in a folder of segment files; one owner at a time (see NodeDirectory).

    Args:
        folder: Made where it does not exist; its parent must.
        segment_bytes: A turn that finds the newest segment this long starts another.
        files: How to reach the disk.
        mark: Eight bytes for a new log; random where not given.

    Raises:
        Corruption: `log_corrupt`, with the file and the offset.
        InvalidInput: `log_format_unknown`: a later version of the workbench wrote it.
        Storage: `disk_full`, `sync_failed`, `log_unreadable`, `log_write_failed`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        files: LogFiles | None = None,
        mark: bytes | None = None,
    ) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._files = files or LogFiles()
        self._failure: Storage | None = None
        self._handle = -1
        self._pending: list[GroupWrite] = []
        self._pending_bytes = 0
        self.torn_tail: TornTail | None = None
        self._segments: list[_Segment] = []
        self._groups: dict[int, _Group] = {}
        self._frame = 0
        self._mark = b""
        try:
            self._found = self._begin(mark or secrets.token_bytes(8))
        except BaseException:
            self._release()
            raise

    @property
    def segments(self) -> tuple[Path, ...]:
        """The files, oldest first."""
        return tuple(segment.path for segment in self._segments)

    def groups(self) -> Mapping[int, GroupLog]:
        """Return what was found when the log was opened."""
        return self._found

    def append(self, writes: Sequence[GroupWrite]) -> None:
        """Add one turn; it counts only once `sync` has returned, and then wholly.

        An entry with an index that exists replaces it and all after it (a term conflict).

        Raises:
            Storage: the disk failed, now or before; the process must stop.
        """
        self._check_usable()
        for write in writes:
            self._check_continues(write)
            self._pending.append(write)
            self._pending_bytes += RECORD_BYTES_MAX
            self._pending_bytes += sum(RECORD_BYTES_MAX + len(e.data) for e in write.entries)
        if self._pending_bytes > PENDING_BYTES_MAX:
            self.sync()

    def sync(self) -> None:
        """Make everything appended durable.

        Raises:
            Storage: `sync_failed`, `disk_full` or `log_write_failed`; the process must stop.
        """
        self._check_usable()
        if not self._pending:
            return
        newest = self._segments[-1]
        if newest.size >= self._segment_bytes or newest.version != FORMAT_VERSION:
            self._start_segment(self._segments[-1].number + 1)
        newest = self._segments[-1]
        frame = encode_frame(self._mark, self._frame + 1, encode_writes(self._pending))
        self._writing("write", lambda: self._files.write(self._handle, frame))
        self._writing("sync", lambda: self._files.sync(self._handle))
        self._frame += 1
        self._note_synced()
        newest.size += len(frame)
        for write in self._pending:
            self._take_note(newest, write)
        self._pending = []
        self._pending_bytes = 0

    def compact(self, flushed: Mapping[int, int]) -> None:
        """Delete the oldest segments, as far as the engine has flushed all their entries.

        Args:
            flushed: For each group, up to which index; 0 where a group is not named.

        Raises:
            Storage: `log_write_failed` and others; the process must stop.
        """
        self._check_usable()
        gone = 0
        for segment in self._segments[:-1]:
            if any(index > flushed.get(group, 0) for group, index in segment.highest.items()):
                break
            self._writing("delete", segment.path.unlink)
            gone += 1
        if gone:
            del self._segments[:gone]
            self._writing("sync", lambda: self._files.sync_folder(self._folder))

    def close(self) -> None:
        """Make durable what is appended, unless the disk has failed, and close the files."""
        if self._handle < 0:
            return
        try:
            if self._failure is None:
                self.sync()
        finally:
            self._release()

    def _begin(self, mark: bytes) -> dict[int, GroupLog]:
        """Read what is there, make it writable, and return what was found."""
        self._prepare_folder()
        replay = _Replay(self._folder)
        self._segments = self._reading(replay.run)
        lost = self._reading(lambda: what_is_lost(self._folder, replay.mark, replay.frame))
        if lost is not None:
            raise _corrupt(*replay.end, lost)
        self._frame = replay.frame
        self._groups = replay.groups
        self._mark = replay.mark or mark
        if self._segments:
            self._handle = self._writing("open", self._open_newest)
            self._cut(replay.bad_from)
            # A process killed between write and sync leaves a frame in the page cache alone.
            # Whoever gets it here may act on it, so it is made durable first.
            self._writing("sync", lambda: self._files.sync(self._handle))
            self._note_synced()
        else:
            self._start_segment(1)
        found = {group: _as_found(state) for group, state in self._groups.items()}
        for state in self._groups.values():
            state.entries = []
        return found

    def _note_synced(self) -> None:
        self._writing("write", lambda: note_synced(self._folder, self._mark, self._frame))

    def _release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _check_usable(self) -> None:
        assert self._handle >= 0, "the log is closed"
        if self._failure is not None:
            raise Storage(
                f"the log in {self._folder} has failed before: {self._failure.message}",
                code=self._failure.code,
                hint="stop the process; the next start finds out what is durable",
            )

    def _check_continues(self, write: GroupWrite) -> None:
        """Assert that entries follow on what the group has."""
        assert write.reset is None or not write.entries, "behind a reset comes nothing at once"
        if not write.entries:
            return
        last = self._last_index(write.group)
        first = write.entries[0].index
        assert 1 <= first <= last + 1, f"entry {first} of group {write.group} after {last}"
        for index, entry in enumerate(write.entries, start=first):
            assert entry.index == index, f"entry {entry.index} where {index} was due"

    def _last_index(self, group: int) -> int:
        """Return the newest index of a group, durable or not."""
        for write in reversed(self._pending):
            if write.group == group and write.entries:
                return write.entries[-1].index
            if write.group == group and write.reset is not None:
                return write.reset.index
        state = self._groups.get(group)
        return state.last_index if state else 0

    def _take_note(self, segment: _Segment, write: GroupWrite) -> None:
        """Keep where the group stands now; base frames need it."""
        group = self._groups.setdefault(write.group, _Group())
        if write.hard_state is not None:
            group.hard_state = write.hard_state
        if write.reset is not None:
            group.stand_behind(write.reset)
            _raise_highest(segment, write.group, write.reset.index)
        if write.entries:
            newest = write.entries[-1]
            group.stand_at(newest.index, newest.term)
            _raise_highest(segment, write.group, newest.index)

    def _prepare_folder(self) -> None:
        """Make the folder, and remove a segment that never came to be."""

        def prepare() -> None:
            if not self._folder.is_dir():
                self._folder.mkdir(mode=0o700)
                self._files.sync_folder(self._folder.parent)
            for path in self._folder.glob("*.log.tmp"):
                path.unlink()

        self._writing("prepare", prepare)

    def _open_newest(self) -> int:
        return os.open(self._segments[-1].path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _cut(self, offset: int | None) -> None:
        """Cut the newest segment at `offset`, durably, once what is cut is kept elsewhere."""
        if offset is None:
            return
        newest = self._segments[-1]
        self.torn_tail = self._writing("copy", lambda: keep_copy(newest.path, offset))
        self._writing("sync", lambda: self._files.sync_folder(self._folder))

        def cut() -> None:
            os.ftruncate(self._handle, offset)
            os.fsync(self._handle)

        self._writing("sync", cut)
        newest.size = offset

    def _start_segment(self, number: int) -> None:
        """Make a segment with its base frame, durable before it gets its name."""
        path = self._folder / f"{number:010}.log"
        temporary = path.with_suffix(".log.tmp")
        bases = [
            Base(group, state.hard_state, state.last_index, state.last_term)
            for group, state in sorted(self._groups.items())
        ]
        base = encode_frame(self._mark, self._frame + 1, encode_bases(bases))
        data = encode_header(number, self._mark) + base
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        handle = self._writing("create", lambda: os.open(temporary, flags, 0o600))
        self._release()
        self._handle = handle
        self._writing("write", lambda: self._files.write(handle, data))
        self._writing("sync", lambda: self._files.sync(handle))
        self._writing("rename", lambda: temporary.rename(path))
        self._writing("sync", lambda: self._files.sync_folder(self._folder))
        self._frame += 1
        self._note_synced()
        self._segments.append(_Segment(number, path, len(data)))

    def _reading(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except OSError as error:
            raise Storage(
                f"cannot read the log in {self._folder}: {error.strerror or error}",
                code="log_unreadable",
                hint="check the disk and the permissions of the folder",
            ) from error

    def _writing(self, verb: str, action: Callable[[], T]) -> T:
        """Do what changes the disk; its first failure is the last thing that the log does."""
        try:
            return action()
        except OSError as error:
            self._failure = self._as_storage(verb, error)
            raise self._failure from error

    def _as_storage(self, verb: str, error: OSError) -> Storage:
        reason = error.strerror or str(error)
        what = f"cannot {verb} the log in {self._folder}: {reason}"
        if error.errno in _DISK_FULL:
            hint = "free some space and start the node again; nothing acknowledged is lost"
            return Storage(what, code="disk_full", hint=hint)
        if verb == "sync":
            hint = "what was not confirmed may be lost: check the disk, then start the node again"
            return Storage(what, code="sync_failed", hint=hint)
        hint = "check the disk and the permissions of the folder, then start the node again"
        return Storage(what, code="log_write_failed", hint=hint)


class _Replay:
    """Reads all segments, oldest first.

    Attributes:
        groups: Where each group stands, with the entries that are kept.
        frame: Number of the last good frame.
        mark: The log's; None where there is no segment.
        end: File and offset behind the last good frame.
        bad_from: Where the newest segment's torn tail starts; None where it has none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.groups: dict[int, _Group] = {}
        self.frame = 0
        self.mark: bytes | None = None
        self.end = folder / f"{1:010}.log", 0
        self.bad_from: int | None = None

    def run(self) -> list[_Segment]:
        """Return the segments; raises Corruption where they are not what was written."""
        names = sorted(p.name for p in self._folder.iterdir() if _NAME.fullmatch(p.name))
        segments: list[_Segment] = []
        for position, name in enumerate(names):
            path = self._folder / name
            number = int(name.removesuffix(".log"))
            if segments and number != segments[-1].number + 1:
                missing = self._folder / f"{segments[-1].number + 1:010}.log"
                raise _corrupt(missing, 0, "the file is missing between two others")
            data = path.read_bytes()
            segment = _Segment(number, path, len(data))
            self._segment(segment, data, oldest=not segments, newest=position == len(names) - 1)
            segments.append(segment)
        return segments

    def _segment(self, segment: _Segment, data: bytes, *, oldest: bool, newest: bool) -> None:
        self._header(segment, data)
        offset = HEADER_BYTES
        base = True
        while offset < len(data):
            payload = self._frame_at(data, offset, segment.path, first=base and oldest)
            if payload is None:
                break
            for record in self._records(payload, segment.path, offset):
                self._take(record, segment, offset, base=base, oldest=oldest)
            base = False
            offset += FRAME_HEADER_BYTES + len(payload)
        if base:
            raise _corrupt(segment.path, HEADER_BYTES, "its first frame is damaged or missing")
        self.end = segment.path, offset
        if offset == len(data):
            return
        assert self.mark is not None
        why: str | None = "the frame is damaged and other segments follow it"
        if newest:
            why = why_damaged(data, offset, self.mark, self.frame + 1)
        if why is not None:
            raise _corrupt(segment.path, offset, why)
        self.bad_from = offset

    def _header(self, segment: _Segment, data: bytes) -> None:
        """Check the header, and take the log's mark from the first one."""
        header = decode_header(data)
        if header is None:
            raise _corrupt(segment.path, 0, "its header is damaged")
        if header.version not in READ_VERSIONS:
            raise InvalidInput(
                f"{segment.path} has log format {header.version}, "
                f"this workbench reads {' and '.join(map(str, sorted(READ_VERSIONS)))}",
                code="log_format_unknown",
                hint="use the version of the workbench that wrote it",
            )
        segment.version = header.version
        if header.number != segment.number:
            raise _corrupt(segment.path, 0, "it is not the segment that its name says")
        if self.mark not in {None, header.mark}:
            raise _corrupt(segment.path, 0, "it belongs to another log")
        self.mark = header.mark

    def _frame_at(self, data: bytes, offset: int, path: Path, *, first: bool) -> bytes | None:
        """Return the payload of the frame at `offset`, None where there is no valid one."""
        assert self.mark is not None
        found = valid_frame(data, offset, self.mark)
        if found is None:
            return None
        number, payload = found
        if not first and number != self.frame + 1:
            raise _corrupt(path, offset, f"frame {number} where {self.frame + 1} was due")
        self.frame = number
        return payload

    @staticmethod
    def _records(payload: bytes, path: Path, offset: int) -> Iterator[GroupWrite | Base]:
        try:
            yield from decode_records(payload)
        except (struct.error, ValueError) as error:
            raise _corrupt(path, offset, f"a record in the frame is malformed: {error}") from error

    def _take(
        self, record: GroupWrite | Base, segment: _Segment, offset: int, *, base: bool, oldest: bool
    ) -> None:
        """Take one record in; a base that others precede must agree with them."""
        if isinstance(record, Base) != base:
            raise _corrupt(segment.path, offset, "a record stands in the wrong kind of frame")
        known = record.group in self.groups
        group = self.groups.setdefault(record.group, _Group())
        if isinstance(record, Base):
            if not oldest and (not known or _base_of(record.group, group) != record):
                raise _corrupt(segment.path, offset, "it does not continue the one before it")
            group.hard_state = record.hard_state
            group.stand_at(record.last_index, record.last_term)
            if oldest:
                group.base_index, group.base_term = record.last_index, record.last_term
            return
        if record.hard_state is not None:
            group.hard_state = record.hard_state
        if record.reset is not None:
            group.stand_behind(record.reset)
            _raise_highest(segment, record.group, record.reset.index)
        for entry in record.entries:
            if not 1 <= entry.index <= group.last_index + 1:
                what = f"entry {entry.index} of group {record.group} after {group.last_index}"
                raise _corrupt(segment.path, offset, what)
            group.replay(entry)
            _raise_highest(segment, record.group, entry.index)


def _base_of(group: int, state: _Group) -> Base:
    return Base(group, state.hard_state, state.last_index, state.last_term)


def _raise_highest(segment: _Segment, group: int, index: int) -> None:
    segment.highest[group] = max(index, segment.highest.get(group, 0))


def _as_found(state: _Group) -> GroupLog:
    """Return the log of a group; its first entry stands for what is before it if need be."""
    entries, base_index, base_term = tuple(state.entries), state.base_index, state.base_term
    if base_term is None:
        first, *rest = entries
        entries, base_index, base_term = tuple(rest), first.index, first.term
    return GroupLog(
        state.hard_state,
        base_index + 1,
        state.last_index,
        state.last_term,
        entries,
        base_term,
        state.reset,
    )


def _corrupt(path: Path, offset: int, what: str) -> Corruption:
    return Corruption(
        f"{path} at offset {offset}: {what}",
        code="log_corrupt",
        hint=f"the log is damaged: {DAMAGED_NODE_HINT}",
    )
