"""Whatever finds a node's files damaged says what docs/nodes.md says, and never to copy them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workbench.errors import Corruption
from workbench.model.recovery import DAMAGED_NODE_HINT
from workbench.node.directory import Identity, NodeDirectory
from workbench.node.engine import RocksEngine
from workbench.node.log import SegmentLog
from workbench.ports.consensus import Configuration, HardState, SnapshotMeta
from workbench.ports.storage import GroupLog
from workbench.raft.state import check_start

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/nodes.md"


def log(folder: Path) -> None:
    SegmentLog(folder / "log").close()
    [segment] = (folder / "log").glob("*.log")
    segment.write_bytes(b"junk")
    SegmentLog(folder / "log")


def engine(folder: Path) -> None:
    (folder / "1.sst").touch()
    RocksEngine(folder)


def directory(folder: Path) -> None:
    (folder / "NODE.json").write_text("{")
    NodeDirectory.open(folder, Identity("c", 1))


def start(
    folder: Path, term: int = 1, last_index: int = 2, first: int = 1, applied: int = 3
) -> None:
    found = GroupLog(HardState(term, 0, 0), first, last_index, 1, (), 1)
    check_start(found, SnapshotMeta(applied, 1, Configuration(frozenset({1}))))


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (log, "log_corrupt"),
        (engine, "engine_corrupt"),
        (directory, "directory_corrupt"),
        (start, "log_behind_state"),
        (lambda folder: start(folder, last_index=9), "log_incomplete"),
        (lambda folder: start(folder, term=0, last_index=3, first=4), "log_term_ahead"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_every_finding_of_damage_says_what_helps(
    tmp_path: Path, harm: Callable[[Path], None], code: str
) -> None:
    with pytest.raises(Corruption) as caught:
        harm(tmp_path)
    assert caught.value.code == code
    assert caught.value.hint.endswith(DAMAGED_NODE_HINT)


def test_the_documents_say_the_same() -> None:
    text = DOCUMENT.read_text()
    for words in ("workbench cluster remove-node", "add-node", "workbench restore"):
        assert words in DAMAGED_NODE_HINT
        assert words in text
    assert "Never put back an older copy" in text
