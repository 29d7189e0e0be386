"""The log on disk: what was synced is found again, what was damaged is said, and where."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from workbench.errors import Corruption, InvalidInput, Storage
from workbench.node.log import LogFiles, SegmentLog
from workbench.node.log_format import (
    HEADER_BYTES,
    Base,
    encode_bases,
    encode_frame,
    encode_header,
    encode_writes,
)
from workbench.node.log_synced import SYNCED_FILE
from workbench.ports.consensus import Configuration, EntryKind, HardState, LogEntry, SnapshotMeta
from workbench.ports.storage import GroupLog, GroupWrite
from workbench.raft.membership import encode_configuration

if TYPE_CHECKING:
    from pathlib import Path

MARK = b"testmark"


def entries(first: int, last: int, *, term: int = 1, size: int = 10) -> tuple[LogEntry, ...]:
    return tuple(LogEntry(i, term, bytes([i % 256]) * size) for i in range(first, last + 1))


def write(group: int, first: int, last: int, *, term: int = 1, size: int = 10) -> GroupWrite:
    state = HardState(term, 1, last)
    return GroupWrite(group, state, entries(first, last, term=term, size=size))


def filled(folder: Path, turns: int, **options: int) -> SegmentLog:
    """A log with one entry per turn of group 1."""
    log = SegmentLog(folder, **options)
    for index in range(1, turns + 1):
        log.append([write(1, index, index)])
        log.sync()
    return log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_a_new_log_is_empty(folder: Path) -> None:
    log = SegmentLog(folder)
    assert log.groups() == {}
    assert log.torn_tail is None
    log.close()
    again = SegmentLog(folder)
    assert again.groups() == {}
    assert folder.stat().st_mode & 0o777 == 0o700
    again.close()


def test_synced_turns_of_several_groups_are_found_again(folder: Path) -> None:
    log = SegmentLog(folder)
    log.append([write(1, 1, 3), write(7, 1, 1)])
    log.sync()
    log.append([GroupWrite(7, HardState(2, 3, 1), ())])
    log.sync()
    log.close()
    again = SegmentLog(folder)
    assert again.groups() == {
        1: GroupLog(HardState(1, 1, 3), 1, 3, 1, entries(1, 3)),
        7: GroupLog(HardState(2, 3, 1), 1, 1, 1, entries(1, 1)),
    }
    again.close()


def test_an_entry_with_a_known_index_replaces_it_and_all_after(folder: Path) -> None:
    log = SegmentLog(folder)
    log.append([write(1, 1, 5)])
    log.sync()
    log.append([write(1, 3, 4, term=2)])
    log.sync()
    log.close()
    again = SegmentLog(folder)
    found = again.groups()[1]
    assert [(e.index, e.term) for e in found.entries] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert (found.last_index, found.last_term) == (4, 2)
    again.close()


def test_a_replacement_within_one_turn_holds_too(folder: Path) -> None:
    log = SegmentLog(folder)
    log.append([write(1, 1, 5)])
    log.append([write(1, 2, 2, term=2)])
    log.append([write(1, 3, 3, term=2)])
    log.sync()
    log.close()
    again = SegmentLog(folder)
    assert [(e.index, e.term) for e in again.groups()[1].entries] == [(1, 1), (2, 2), (3, 2)]
    again.close()


def test_a_hole_between_entries_is_a_bug_of_the_caller(folder: Path) -> None:
    log = filled(folder, 2)
    for bad in ([write(1, 4, 4)], [GroupWrite(1, None, (*entries(3, 3), *entries(5, 5)))]):
        with pytest.raises(AssertionError):
            log.append(bad)
    log.append([write(1, 3, 3)])
    log.close()


def test_an_append_without_a_sync_costs_no_write(folder: Path) -> None:
    class Counting(LogFiles):
        writes = syncs = 0

        def write(self, handle: int, data: bytes) -> None:
            self.writes += 1
            super().write(handle, data)

        def sync(self, handle: int) -> None:
            self.syncs += 1
            super().sync(handle)

    files = Counting()
    log = SegmentLog(folder, files=files)
    before = (files.writes, files.syncs)
    for commit in range(100):
        log.append([GroupWrite(1, HardState(1, 1, commit), ())])
    assert (files.writes, files.syncs) == before
    log.sync()
    log.sync()
    assert (files.writes, files.syncs) == (before[0] + 1, before[1] + 1)
    log.close()


def test_what_waits_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.node.log.PENDING_BYTES_MAX", 1000)
    log = SegmentLog(folder)
    size = log.segments[0].stat().st_size
    log.append([write(1, 1, 1, size=2000)])
    assert log.segments[0].stat().st_size > size + 2000
    log.close()


def test_closing_keeps_what_waited(folder: Path) -> None:
    log = SegmentLog(folder)
    log.append([write(1, 1, 1)])
    log.close()
    log.close()
    again = SegmentLog(folder)
    assert again.groups()[1].last_index == 1
    again.close()


def test_full_segments_are_followed_by_new_ones(folder: Path) -> None:
    log = filled(folder, 20, segment_bytes=400)
    names = [path.name for path in log.segments]
    assert names == [f"{n:010}.log" for n in range(1, len(names) + 1)]
    assert len(names) > 3
    log.close()
    again = SegmentLog(folder, segment_bytes=400)
    assert again.groups()[1].entries == entries(1, 20)
    again.append([write(1, 21, 21)])
    again.close()
    last = SegmentLog(folder)
    assert last.groups()[1].last_index == 21
    last.close()


def test_compaction_drops_segments_only_below_what_is_flushed(folder: Path) -> None:
    log = SegmentLog(folder, segment_bytes=1)
    for index in range(1, 7):
        log.append([write(1, index, index), write(2, index, index)])
        log.sync()
    log.compact({})  # the first one has no entries: it was full from the start
    assert len(log.segments) == 6
    log.compact({1: 6})
    assert len(log.segments) == 6, "group 2 was not flushed"
    log.compact({1: 3, 2: 6})
    log.close()
    again = SegmentLog(folder, segment_bytes=1)
    for group in (1, 2):
        found = again.groups()[group]
        assert (found.first_index, found.last_index) == (4, 6)
        assert found.entries == entries(4, 6)
    again.compact({1: 6, 2: 6})
    again.append([write(1, 7, 7)])
    again.sync()
    again.compact({1: 6, 2: 6})
    again.close()
    last = SegmentLog(folder)
    assert len(last.segments) == 1
    assert last.groups() == {
        1: GroupLog(HardState(1, 1, 7), 7, 7, 1, entries(7, 7), 1),
        2: GroupLog(HardState(1, 1, 6), 7, 6, 1, (), 1),
    }
    last.close()


def test_compaction_never_takes_the_newest_segment(folder: Path) -> None:
    log = filled(folder, 3)
    log.compact({1: 3})
    log.close()
    again = SegmentLog(folder)
    assert again.groups()[1].entries == entries(1, 3)
    again.close()


def test_a_replaced_entry_survives_the_loss_of_what_it_replaced(folder: Path) -> None:
    log = SegmentLog(folder, segment_bytes=1)
    log.append([write(1, 1, 8)])
    log.sync()
    log.append([write(1, 5, 9, term=2)])
    log.sync()
    log.compact({1: 8})
    log.close()
    again = SegmentLog(folder)
    found = again.groups()[1]
    # The term of entry 4 went with the first segment, so entry 5 says what the others follow on.
    assert (found.first_index, found.last_index, found.last_term) == (6, 9, 2)
    assert found.base_term == 2
    assert found.entries == entries(6, 9, term=2)
    again.close()


def test_a_reset_drops_the_entries_and_goes_on_behind_it(folder: Path) -> None:
    meta = SnapshotMeta(20, 3, Configuration(frozenset({1, 2, 3}), frozenset({4})))
    log = SegmentLog(folder)
    log.append([write(1, 1, 8)])
    log.append([GroupWrite(1, HardState(3, 0, 2), (), meta)])
    log.append([write(1, 21, 21, term=3)])
    log.close()
    again = SegmentLog(folder)
    found = GroupLog(HardState(3, 1, 21), 21, 21, 3, entries(21, 21, term=3), 3, meta)
    assert again.groups() == {1: found}
    with pytest.raises(AssertionError):
        again.append([write(1, 23, 23, term=3)])
    again.close()


def test_a_reset_may_lie_below_what_the_log_had(folder: Path) -> None:
    meta = SnapshotMeta(6, 4, Configuration(frozenset({1, 2, 3})))
    log = SegmentLog(folder, segment_bytes=1)
    log.append([write(1, 1, 8)])
    log.sync()
    log.append([GroupWrite(1, HardState(4, 0, 2), (), meta)])
    log.sync()
    log.close()
    again = SegmentLog(folder)
    assert again.groups() == {1: GroupLog(HardState(4, 0, 2), 7, 6, 4, (), 4, meta)}
    again.close()


def test_a_changed_configuration_is_found_as_one(folder: Path) -> None:
    members = encode_configuration(Configuration(frozenset({1, 2})))
    log = SegmentLog(folder)
    entry = LogEntry(1, 1, members, EntryKind.CONFIGURATION)
    log.append([GroupWrite(1, HardState(1, 1, 1), (entry,))])
    log.close()
    again = SegmentLog(folder)
    assert again.groups()[1].entries == (entry,)
    again.close()


def cut_power(folder: Path, *, keep: bytes = b"") -> None:
    """Have SYNCED as it was earlier: it is not synced by itself."""
    (folder / SYNCED_FILE).write_bytes(keep)


def test_a_torn_tail_is_cut_and_told(folder: Path) -> None:
    log = filled(folder, 2)
    synced = (folder / SYNCED_FILE).read_bytes()
    log.append([write(1, 3, 3)])
    [path] = log.segments
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    cut_power(folder, keep=synced)
    again = SegmentLog(folder)
    assert again.groups()[1].last_index == 2
    tail = again.torn_tail
    assert tail is not None
    assert tail.file == path
    assert path.stat().st_size == tail.offset
    assert tail.offset + tail.bytes_cut == len(whole) - 5
    assert tail.copy.parent == folder
    assert tail.copy.read_bytes() == whole[tail.offset : -5]
    again.append([write(1, 3, 3)])
    again.close()
    last = SegmentLog(folder)
    assert last.torn_tail is None
    assert last.groups()[1].last_index == 3
    last.close()


def test_copies_of_torn_ends_are_few_and_none_is_lost_to_a_start_that_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.node.log_tail.TORN_FILES_MAX", 2)
    monkeypatch.setattr("workbench.node.log_tail.TORN_BYTES_MAX", 40)
    cut = []
    for index in range(1, 5):
        log = filled(folder, 0)
        log.append([write(1, index, index)])
        log.append([write(2, index, index)])
        log.close()
        [path] = log.segments
        path.write_bytes(path.read_bytes() + encode_frame(log._mark, index + 2, bytes(99))[:50])
        files = Failing("sync_folder", errno.EIO)
        files.armed = True
        with pytest.raises(Storage):
            SegmentLog(folder, files=files)
        again = SegmentLog(folder)
        assert again.torn_tail is not None
        assert again.torn_tail.bytes_cut == 50
        cut.append(again.torn_tail.copy)
        again.close()
    assert sorted(folder.glob("*.torn")) == cut[-2:]
    assert [len(path.read_bytes()) for path in cut[-2:]] == [40, 40]


def test_a_torn_turn_that_holds_a_forged_frame_is_still_torn(folder: Path) -> None:
    """A user who stores what looks like a later frame cannot make a torn tail look damaged."""
    log = SegmentLog(folder, mark=MARK)
    forged = encode_frame(b"guessed!", 99, encode_writes([write(1, 1, 1)]))
    log.append([GroupWrite(1, None, (LogEntry(1, 1, forged + bytes(100)),))])
    log.sync()
    [path] = log.segments
    log.close()
    path.write_bytes(path.read_bytes()[:-50])
    cut_power(folder)
    again = SegmentLog(folder)
    assert again.groups() == {}
    assert again.torn_tail is not None
    again.close()


def test_marks_of_two_logs_differ(tmp_path: Path) -> None:
    for name in ("a", "b"):
        SegmentLog(tmp_path / name).close()
    heads = [next((tmp_path / n).glob("*.log")).read_bytes()[:HEADER_BYTES] for n in "ab"]
    assert heads[0] != heads[1]


def corrupt(folder: Path) -> Corruption:
    with pytest.raises(Corruption) as caught:
        SegmentLog(folder)
    assert caught.value.code == "log_corrupt"
    return caught.value


def test_a_damaged_frame_before_the_tail_is_told_with_file_and_offset(folder: Path) -> None:
    log = filled(folder, 3)
    [path] = log.segments
    log.close()
    data = bytearray(path.read_bytes())
    at = data.index(bytes([2]) * 10)
    data[at] ^= 1
    path.write_bytes(data)
    message = corrupt(folder).message
    assert str(path) in message
    offset = int(message.partition("at offset ")[2].partition(":")[0])
    assert offset < at < offset + 120
    assert path.read_bytes() == data, "nothing was cut"


def test_acknowledged_turns_that_are_damaged_up_to_the_last_one_are_never_cut(
    folder: Path,
) -> None:
    """One turn at most is not durable: that five are bad is no crash."""
    log = SegmentLog(folder)
    ends = []
    for index in range(1, 21):
        log.append([write(1, index, index, size=100)])
        log.sync()
        ends.append(log.segments[0].stat().st_size)
    [path] = log.segments
    log.close()
    data = bytearray(path.read_bytes())
    for end in ends[-5:]:
        data[end - 50] ^= 1
    path.write_bytes(data)
    assert f"at offset {ends[-6]}: " in corrupt(folder).message
    assert path.read_bytes() == data
    data[ends[-2] :] = bytes(ends[-1] - ends[-2])
    data[ends[-6] + 40 : ends[-2]] = bytes(ends[-2] - ends[-6] - 40)
    path.write_bytes(data)
    assert f"at offset {ends[-6]}: " in corrupt(folder).message, "zeros to the end"
    assert path.read_bytes() == data


@pytest.mark.parametrize("turns_lost", [1, 2, 3])
@pytest.mark.parametrize("how", ["cut", "half", "zeros", "bit"])
def test_after_kill_9_nothing_that_was_acknowledged_is_taken_for_torn(
    folder: Path, turns_lost: int, how: str
) -> None:
    """The page cache outlives the process, and with it how far the log was durable."""
    log = filled(folder, 3)
    [path] = log.segments
    log._release()
    data = path.read_bytes()
    length = (len(data) - len(encode_header(1, MARK)) - len(encode_frame(MARK, 1, b""))) // 3
    end = len(data) - turns_lost * length
    left = {
        "cut": data[:end],
        "half": data[: end + length // 2],
        "zeros": data[:end] + bytes(turns_lost * length),
        "bit": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    }[how]
    path.write_bytes(left)
    message = corrupt(folder).message
    assert str(path) in message
    assert how == "bit" or f"at offset {end}: " in message
    assert path.read_bytes() == left
    assert not list(folder.glob("*.torn"))


def test_segments_that_are_all_gone_or_of_another_log_are_told(
    folder: Path, tmp_path: Path
) -> None:
    filled(folder, 3).close()
    other = filled(tmp_path / "other", 9)
    other.close()
    [path] = folder.glob("*.log")
    path.unlink()
    assert "no segment any more" in corrupt(folder).message
    path.write_bytes(other.segments[0].read_bytes())
    assert "another log" in corrupt(folder).message


@pytest.mark.parametrize("left", [b"", bytes(28), b"junk" * 7, b"\xff" * 99])
def test_a_log_without_a_readable_note_of_its_syncs_opens_as_it_is(
    folder: Path, left: bytes
) -> None:
    filled(folder, 3).close()
    cut_power(folder, keep=left)
    again = SegmentLog(folder)
    assert again.groups()[1].last_index == 3
    again.close()
    assert len((folder / SYNCED_FILE).read_bytes()[:28]) == 28
    cut_power(folder)
    (folder / SYNCED_FILE).unlink()
    SegmentLog(folder).close()


def test_a_damaged_last_turn_is_refused_where_no_crash_explains_it(folder: Path) -> None:
    log = filled(folder, 3)
    [path] = log.segments
    log.close()
    cut_power(folder)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert "no part of it is missing" in corrupt(folder).message


def test_what_helps_a_damaged_node_is_told_as_the_documents_say(folder: Path) -> None:
    log = filled(folder, 20, segment_bytes=400)
    log.close()
    log.segments[1].unlink()
    hint = corrupt(folder).hint
    for words in ("no older copy", "cluster remove-node", "add-node", "workbench restore"):
        assert words in hint


def test_a_damaged_tail_of_an_older_segment_is_no_torn_tail(folder: Path) -> None:
    log = filled(folder, 20, segment_bytes=400)
    first = log.segments[0]
    log.close()
    first.write_bytes(first.read_bytes()[:-1])
    assert str(first) in corrupt(folder).message


def test_an_older_segment_cut_between_two_frames_is_found(folder: Path) -> None:
    log = SegmentLog(folder, segment_bytes=400)
    sizes = []
    for index in range(1, 21):
        log.append([write(1, index, index)])
        log.sync()
        sizes.append(log.segments[0].stat().st_size)
    first, second = log.segments[:2]
    log.close()
    assert sizes[2] < max(sizes)
    first.write_bytes(first.read_bytes()[: sizes[2]])
    assert str(second) in corrupt(folder).message


def test_a_missing_segment_in_the_middle_is_found(folder: Path) -> None:
    log = filled(folder, 20, segment_bytes=400)
    middle = log.segments[1]
    log.close()
    middle.unlink()
    assert middle.name in corrupt(folder).message


@pytest.mark.parametrize("at", [0, 8, 16, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 20])
def test_a_damaged_start_of_the_only_segment_is_never_taken_for_a_torn_tail(
    folder: Path, at: int
) -> None:
    log = filled(folder, 1)
    [path] = log.segments
    log.close()
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)
    corrupt(folder)


def test_a_segment_of_another_log_is_refused(folder: Path, tmp_path: Path) -> None:
    log = filled(folder, 20, segment_bytes=400)
    victim = log.segments[1]
    log.close()
    other = filled(tmp_path / "other", 20, segment_bytes=400)
    stranger = other.segments[1]
    other.close()
    victim.write_bytes(stranger.read_bytes())
    assert "another log" in corrupt(folder).message


def test_a_renamed_segment_is_refused(folder: Path) -> None:
    log = filled(folder, 20, segment_bytes=400)
    first, second = log.segments[:2]
    log.close()
    second.write_bytes(first.read_bytes())
    assert "name" in corrupt(folder).message


def test_a_later_format_is_refused_by_name(folder: Path) -> None:
    import zlib

    folder.mkdir()
    header = bytearray(encode_header(1, MARK))
    header[7] = 3
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
    (folder / "0000000001.log").write_bytes(header)
    with pytest.raises(InvalidInput) as caught:
        SegmentLog(folder)
    assert caught.value.code == "log_format_unknown"
    assert "format 3" in caught.value.message


@pytest.mark.parametrize(
    "payload",
    [
        b"\x09",
        b"\x01short",
        encode_writes([write(1, 1, 1)])[:-1],
        encode_writes([write(1, 3, 3)]),
        encode_bases([Base(1, HardState(), 0, 0)]),
        encode_writes([write(1, 1, 1)]).replace(b"\x02", b"\x05", 1),
    ],
    ids=["unknown kind", "short", "cut entry", "hole", "base in a turn", "reset without members"],
)
def test_a_valid_frame_with_a_senseless_content_is_refused(folder: Path, payload: bytes) -> None:
    folder.mkdir()
    base = encode_frame(MARK, 1, b"")
    data = encode_header(1, MARK) + base + encode_frame(MARK, 2, payload)
    (folder / "0000000001.log").write_bytes(data)
    assert f"offset {HEADER_BYTES + len(base)}" in corrupt(folder).message


def test_a_base_that_contradicts_what_came_before_is_refused(folder: Path) -> None:
    folder.mkdir()
    first = encode_header(1, MARK) + encode_frame(MARK, 1, b"")
    first += encode_frame(MARK, 2, encode_writes([write(1, 1, 1)]))
    (folder / "0000000001.log").write_bytes(first)
    wrong = encode_bases([Base(1, HardState(1, 1, 1), 2, 1)])
    second = encode_header(2, MARK) + encode_frame(MARK, 3, wrong)
    (folder / "0000000002.log").write_bytes(second)
    assert "0000000002.log" in corrupt(folder).message


def test_a_segment_that_never_came_to_be_is_removed(folder: Path) -> None:
    filled(folder, 1).close()
    half = folder / "0000000002.log.tmp"
    half.write_bytes(b"half")
    again = SegmentLog(folder)
    assert not half.exists()
    assert again.groups()[1].last_index == 1
    again.close()


class Failing(LogFiles):
    """Fails once armed, as a disk would: a write may have landed in part."""

    def __init__(self, call: str, number: int) -> None:
        self.call = call
        self.number = number
        self.armed = False

    def _fail(self, call: str) -> None:
        if self.armed and call == self.call:
            raise OSError(self.number, os.strerror(self.number))

    def write(self, handle: int, data: bytes) -> None:
        if self.armed and self.call == "write":
            super().write(handle, data[: len(data) // 2])
        self._fail("write")
        super().write(handle, data)

    def sync(self, handle: int) -> None:
        self._fail("sync")
        super().sync(handle)

    def sync_folder(self, folder: Path) -> None:
        self._fail("sync_folder")
        super().sync_folder(folder)


@pytest.mark.parametrize(
    ("call", "number", "code"),
    [
        ("write", errno.ENOSPC, "disk_full"),
        ("write", errno.EDQUOT, "disk_full"),
        ("write", errno.EIO, "log_write_failed"),
        ("sync", errno.EIO, "sync_failed"),
        ("sync", errno.ENOSPC, "disk_full"),
    ],
)
def test_after_a_failure_everything_is_refused_and_nothing_synced_is_lost(
    folder: Path, call: str, number: int, code: str
) -> None:
    files = Failing(call, number)
    log = SegmentLog(folder, files=files)
    log.append([write(1, 1, 2)])
    log.sync()
    files.armed = True
    log.append([write(1, 3, 3)])
    with pytest.raises(Storage) as caught:
        log.sync()
    assert caught.value.code == code
    assert str(folder) in caught.value.message
    files.armed = False
    for refused in (log.sync, lambda: log.append([write(1, 3, 3)]), lambda: log.compact({1: 2})):
        with pytest.raises(Storage) as again:
            refused()
        assert again.value.code == code
        assert "failed before" in again.value.message
    log.close()
    reopened = SegmentLog(folder)
    found = reopened.groups()[1]
    assert found.entries[:2] == entries(1, 2)
    assert found.last_index in {2, 3}
    assert (call, found.last_index) != ("write", 3), "half of a turn was taken"
    reopened.close()


@pytest.mark.parametrize("call", ["write", "sync", "sync_folder"])
def test_a_failure_while_a_segment_begins_loses_nothing(folder: Path, call: str) -> None:
    files = Failing(call, errno.ENOSPC)
    log = SegmentLog(folder, files=files, segment_bytes=1)
    log.append([write(1, 1, 2)])
    log.sync()
    files.armed = True
    log.append([write(1, 3, 3)])
    with pytest.raises(Storage) as caught:
        log.sync()
    assert caught.value.code == "disk_full"
    log.close()
    reopened = SegmentLog(folder, segment_bytes=1)
    assert reopened.groups()[1].entries == entries(1, 2)
    reopened.append([write(1, 3, 3)])
    reopened.close()


def test_a_log_cannot_be_made_on_a_full_disk(folder: Path) -> None:
    files = Failing("write", errno.ENOSPC)
    files.armed = True
    with pytest.raises(Storage) as caught:
        SegmentLog(folder, files=files)
    assert caught.value.code == "disk_full"
    SegmentLog(folder).close()


def test_an_unreadable_log_is_told(folder: Path) -> None:
    filled(folder, 1).close()
    next(folder.glob("*.log")).unlink()
    (folder / "0000000001.log").mkdir()
    with pytest.raises(Storage) as caught:
        SegmentLog(folder)
    assert caught.value.code == "log_unreadable"


def test_what_is_found_is_durable_before_it_is_handed_out(folder: Path) -> None:
    """After kill -9 between write and sync, a found frame is in the page cache alone."""

    class Counting(LogFiles):
        syncs = 0

        def sync(self, handle: int) -> None:
            self.syncs += 1
            super().sync(handle)

    SegmentLog(folder).close()
    files = Counting()
    log = SegmentLog(folder, files=files)
    assert files.syncs == 1
    log.close()


def test_a_disk_that_cannot_sync_what_was_found_stops_the_start(folder: Path) -> None:
    SegmentLog(folder).close()
    files = Failing("sync", errno.EIO)
    files.armed = True
    with pytest.raises(Storage) as caught:
        SegmentLog(folder, files=files)
    assert caught.value.code == "sync_failed"
