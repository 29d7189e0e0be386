"""docs/formats/log.md says what lies on the disk: its example is written and read."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from workbench.node.log import SegmentLog
from workbench.ports.consensus import (
    Configuration,
    EntryKind,
    HardState,
    LogEntry,
    SnapshotMeta,
)
from workbench.ports.storage import GroupLog, GroupWrite
from workbench.raft.membership import encode_configuration

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/formats/log.md"
TURN = GroupWrite(1, HardState(2, 1, 0), (LogEntry(1, 2, b"hi"),))
MEMBERS = Configuration(frozenset({1, 2}), frozenset({3}))
CHANGE = LogEntry(2, 2, encode_configuration(MEMBERS), EntryKind.CONFIGURATION)
TURNS = (
    GroupWrite(1, HardState(2, 1, 0), (*TURN.entries, CHANGE)),
    GroupWrite(7, HardState(5, 0, 0), (), SnapshotMeta(9, 4, MEMBERS)),
)


def documented(heading: str = "## Example") -> bytes:
    example = DOCUMENT.read_text().split(heading)[1]
    block = re.findall(r"```\n(.*?)```", example, re.DOTALL)[0]
    return bytes.fromhex(block)


def written(folder: Path, data: bytes) -> SegmentLog:
    folder.mkdir()
    (folder / "0000000001.log").write_bytes(data)
    return SegmentLog(folder)


def test_the_example_is_what_is_written(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log", mark=b"testmark")
    log.append(TURNS)
    log.close()
    assert (tmp_path / "log/0000000001.log").read_bytes().hex() == documented().hex()


def test_the_example_is_read(tmp_path: Path) -> None:
    log = written(tmp_path / "log", documented())
    assert log.groups() == {
        1: GroupLog(HardState(2, 1, 0), 1, 2, 2, TURNS[0].entries),
        7: GroupLog(HardState(5, 0, 0), 10, 9, 4, (), 4, TURNS[1].reset),
    }
    log.close()


def test_a_log_of_version_1_is_read_for_ever(tmp_path: Path) -> None:
    log = written(tmp_path / "log", documented("## Version 1"))
    assert log.groups() == {1: GroupLog(HardState(2, 1, 0), 1, 1, 2, TURN.entries)}
    log.close()


def test_a_segment_of_version_1_is_never_written_to(tmp_path: Path) -> None:
    old = documented("## Version 1")
    log = written(tmp_path / "log", old)
    log.append([GroupWrite(1, None, (CHANGE,))])
    log.close()
    assert (tmp_path / "log/0000000001.log").read_bytes() == old
    assert (tmp_path / "log/0000000002.log").read_bytes()[7] == 2
    again = SegmentLog(tmp_path / "log")
    assert again.groups()[1].entries == TURNS[0].entries
    again.close()


def test_a_base_is_what_is_documented(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log", mark=b"testmark", segment_bytes=100)
    for turn in (TURN, GroupWrite(1, HardState(2, 1, 1), ())):
        log.append([turn])
        log.sync()
    log.close()
    second = (tmp_path / "log/0000000002.log").read_bytes()
    base = second[28:]
    assert base[:20] == b"testmark" + bytes.fromhex("31000000 0300000000000000")
    numbers = [1, 2, 1, 0, 1, 2]  # group, term, vote, commit, newest index and term
    assert base[24:73] == b"\x03" + b"".join(n.to_bytes(8, "little") for n in numbers)


def test_how_far_it_is_durable_is_noted_as_documented(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log", mark=b"testmark")
    log.append([TURN])
    log.close()
    noted = (tmp_path / "log/SYNCED").read_bytes()
    body = bytes.fromhex("5742 5359 4e43 0001") + b"testmark" + (2).to_bytes(8, "little")
    assert noted == body + zlib.crc32(body).to_bytes(4, "little")
    assert "`57 42 53 59 4e 43 00 01`" in DOCUMENT.read_text()
