"""Pieces of a raft_snapshot on disk: whole ones come back in order, torn ones never."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from workbench.errors import Storage
from workbench.node.pieces import FilePieces

if TYPE_CHECKING:
    from pathlib import Path


def test_pieces_come_back_in_order_also_after_a_restart(tmp_path: Path) -> None:
    pieces = FilePieces(tmp_path / "snapshots", 4)
    pieces.keep(0, b"first")
    pieces.keep(5, b"")
    pieces.keep(5, b"second")
    pieces.sync()
    assert list(pieces.kept()) == [b"first", b"", b"second"]
    assert list(FilePieces(tmp_path / "snapshots", 4).kept()) == [b"first", b"", b"second"]
    assert list(FilePieces(tmp_path / "snapshots", 5).kept()) == []
    pieces.close()


def test_offset_zero_begins_anew(tmp_path: Path) -> None:
    pieces = FilePieces(tmp_path, 4)
    pieces.keep(0, b"old")
    pieces.keep(3, b"older")
    pieces.keep(0, b"new")
    assert list(pieces.kept()) == [b"new"]
    pieces.close()


def test_of_a_torn_file_only_whole_pieces_come_back(tmp_path: Path) -> None:
    pieces = FilePieces(tmp_path, 4)
    pieces.keep(0, b"first")
    pieces.keep(5, b"second")
    pieces.close()
    whole = (tmp_path / "4").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "4").write_bytes(whole[:length])
        expected = [] if length < 9 else [b"first"]
        assert list(FilePieces(tmp_path, 4).kept()) == expected, length


def test_discarded_pieces_are_gone_and_new_ones_can_come(tmp_path: Path) -> None:
    pieces = FilePieces(tmp_path, 4)
    pieces.discard()
    pieces.keep(0, b"first")
    pieces.discard()
    assert list(pieces.kept()) == []
    assert list(tmp_path.iterdir()) == []
    pieces.keep(0, b"again")
    assert list(pieces.kept()) == [b"again"]
    pieces.close()


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    pieces = FilePieces(tmp_path, 4)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Storage) as caught:
        pieces.keep(0, b"x")
    assert caught.value.code == "disk_full"
    pieces.close()


def test_a_file_that_cannot_grow_is_refused_for_real(tmp_path: Path) -> None:
    # The limit is the kernel's: nothing of the write is ours to pretend.

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    pieces = FilePieces(tmp_path, 4)
    pieces.keep(0, b"small")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, old[1]))
        with pytest.raises(Storage) as caught:
            pieces.keep(5, b"x" * 1_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, before)
        pieces.close()
    assert caught.value.code == "pieces_not_written"
    assert list(pieces.kept()) == [b"small"]
