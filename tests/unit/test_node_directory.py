"""A node's directory has one owner at a time, and never changes hands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from workbench.errors import Conflict, Corruption, InvalidInput, Storage, WorkbenchError
from workbench.node.directory import Identity, NodeDirectory, holder_of, read_identity

if TYPE_CHECKING:
    from pathlib import Path

MINE = Identity("6f0f9a1e-0000-4000-8000-000000000001", 1)
HOLD = """
import sys, time
from pathlib import Path
from workbench.node.directory import Identity, NodeDirectory
NodeDirectory.open(Path(sys.argv[1]), Identity(sys.argv[2], 1))
print("open", flush=True)
sys.stdin.read()
"""


def error_of(path: Path, identity: Identity = MINE) -> WorkbenchError:
    with pytest.raises(WorkbenchError) as caught:
        NodeDirectory.open(path, identity)
    return caught.value


def test_a_directory_is_made_and_knows_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "node-1"
    with NodeDirectory.open(path, MINE) as directory:
        assert directory.created
        assert path.stat().st_mode & 0o777 == 0o700
        assert directory.log.parent == directory.engine.parent == path
    assert json.loads((path / "NODE.json").read_text()) == {
        "format": "workbench.node/1",
        "cluster_id": MINE.cluster_id,
        "node": 1,
    }
    with NodeDirectory.open(path, MINE) as again:
        assert not again.created
    assert read_identity(path) == MINE
    assert read_identity(tmp_path / "absent") is None


def test_a_second_owner_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    with NodeDirectory.open(tmp_path, MINE):
        error = error_of(tmp_path)
        assert isinstance(error, Conflict)
        assert error.code == "directory_in_use"
        assert str(os.getpid()) in error.message
        assert holder_of(tmp_path) == os.getpid()
    assert holder_of(tmp_path) is None
    NodeDirectory.open(tmp_path, MINE).close()


def test_a_directory_nobody_ever_had_has_no_holder(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    assert holder_of(tmp_path / "absent") is None


def test_a_killed_owner_leaves_the_directory_free(tmp_path: Path) -> None:
    path = tmp_path / "node"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), MINE.cluster_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"open\n"
    assert holder_of(path) == process.pid
    assert str(process.pid) in error_of(path).message
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert (path / "LOCK").read_text() == f"{process.pid}\n", "its name stays, but says nothing"
    assert holder_of(path) is None
    with NodeDirectory.open(path, MINE):
        assert holder_of(path) == os.getpid()


def test_a_holder_that_has_not_written_its_pid_yet_has_no_name(tmp_path: Path) -> None:
    with NodeDirectory.open(tmp_path, MINE):
        (tmp_path / "LOCK").write_text("")
        assert holder_of(tmp_path) == 0
        assert "unknown" in error_of(tmp_path).message


@pytest.mark.parametrize(
    "identity", [Identity(MINE.cluster_id, 2), Identity("6f0f9a1e-0000-4000-8000-000000000002", 1)]
)
def test_the_directory_of_another_node_or_cluster_is_refused(
    tmp_path: Path, identity: Identity
) -> None:
    NodeDirectory.open(tmp_path, identity).close()
    before = (tmp_path / "NODE.json").read_bytes()
    error = error_of(tmp_path)
    assert isinstance(error, Conflict)
    assert error.code == "directory_of_another"
    assert identity.cluster_id in error.message
    assert (tmp_path / "NODE.json").read_bytes() == before
    assert holder_of(tmp_path) is None


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"format": "workbench.node/2", "cluster_id": MINE.cluster_id, "node": 1})
    (tmp_path / "NODE.json").write_text(text)
    error = error_of(tmp_path)
    assert isinstance(error, InvalidInput)
    assert error.code == "directory_format_unknown"
    assert "workbench.node/2" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        '{"format": "workbench.node/1"}',
        '{"format": "workbench.node/1", "cluster_id": 1, "node": 1}',
        '{"format": "workbench.node/1", "cluster_id": "x", "node": 0}',
        '{"format": "workbench.node/1", "cluster_id": "x", "node": "1"}',
        '{"format": "workbench.node/1", "cluster_id": "x", "node": true}',
        "\xff\xfe",
    ],
    ids=str,
)
def test_a_damaged_identity_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "NODE.json").write_bytes(text.encode("latin-1"))
    error = error_of(tmp_path)
    assert isinstance(error, Corruption)
    assert error.code == "directory_corrupt"


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not touch")
    error = error_of(tmp_path)
    assert isinstance(error, Conflict)
    assert error.code == "directory_foreign"
    assert "thesis.tex" in error.message
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_data_without_an_identity_are_foreign_too(tmp_path: Path) -> None:
    NodeDirectory.open(tmp_path, MINE).close()
    (tmp_path / "log").mkdir()
    (tmp_path / "NODE.json").unlink()
    assert error_of(tmp_path).code == "directory_foreign"


def test_what_cluster_up_keeps_beside_the_data_is_no_foreign_content(tmp_path: Path) -> None:
    for name in ("node.toml", "node.log", "NODE.json.tmp"):
        (tmp_path / name).write_text("")
    with NodeDirectory.open(tmp_path, MINE) as directory:
        assert directory.created


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node").write_text("")
    error = error_of(tmp_path / "node")
    assert isinstance(error, Storage)
    assert error.code == "directory_refused"
    assert holder_of(tmp_path / "node") is None


def test_a_folder_that_refuses_writes_is_told(tmp_path: Path) -> None:
    error = error_of(_unwritable())
    assert isinstance(error, Storage)
    assert error.code == "directory_refused"


def _unwritable() -> Path:
    """A place that refuses writes of the superuser, too."""
    from pathlib import Path

    return Path("/proc/self/node-1")


def test_looking_who_has_it_never_keeps_an_owner_out(tmp_path: Path) -> None:
    looker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import sys\nfrom pathlib import Path\n"
                "from workbench.node.directory import _look\n"
                "print('looking', flush=True)\n"
                "while True: _look(Path(sys.argv[1]))\n"
            ),
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert looker.stdout is not None
        looker.stdout.readline()
        for _ in range(50):
            NodeDirectory.open(tmp_path, MINE).close()
    finally:
        looker.kill()
        looker.wait()
        assert looker.stdout is not None
        looker.stdout.close()
