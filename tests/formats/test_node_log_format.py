"""docs/formats/log.md says what lies on the disk: its example is written and read."""

from __future__ import annotations

import re
from pathlib import Path

from workbench.node.log import SegmentLog
from workbench.ports.consensus import HardState, LogEntry
from workbench.ports.storage import GroupLog, GroupWrite

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/formats/log.md"
TURN = GroupWrite(1, HardState(2, 1, 0), (LogEntry(1, 2, b"hi"),))


def documented() -> bytes:
    example = DOCUMENT.read_text().split("## Example")[1]
    block = re.findall(r"```\n(.*?)```", example, re.DOTALL)[0]
    return bytes.fromhex(block)


def test_the_example_is_what_is_written(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log", mark=b"testmark")
    log.append([TURN])
    log.close()
    assert (tmp_path / "log/0000000001.log").read_bytes().hex() == documented().hex()


def test_the_example_is_read(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log/0000000001.log").write_bytes(documented())
    log = SegmentLog(tmp_path / "log")
    assert log.groups() == {1: GroupLog(HardState(2, 1, 0), 1, 1, 2, TURN.entries)}
    log.close()


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
