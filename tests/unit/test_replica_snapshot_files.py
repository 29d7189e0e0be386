"""Pieces of files: what they hold, what is refused, and where each begins."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import Corruption
from workbench.ports.consensus import Configuration, SnapshotMeta
from workbench.replica import snapshot_files
from workbench.replica.snapshot_files import (
    FileBytes,
    FileList,
    SnapshotFile,
    decode_file_piece,
    encode_file_piece,
    is_sound_file_piece,
    place_of,
    travel_bytes,
)

META = SnapshotMeta(12, 3, Configuration(frozenset({1, 2, 3})))
HASH = hashlib.sha256(b"").digest()

files = st.builds(
    SnapshotFile,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32),
)
pieces = st.one_of(
    st.builds(
        FileBytes,
        st.just(7),
        st.just(12),
        st.just(3),
        st.just(5),
        st.integers(0, 2**32 - 1),
        st.binary(min_size=1, max_size=300),
    ),
    st.builds(
        FileList,
        st.just(7),
        st.just(12),
        st.just(3),
        st.just(5),
        st.lists(files, min_size=1, max_size=5).map(tuple),
    ),
)


def is_sound(data: bytes, *, done: bool) -> bool:
    return is_sound_file_piece(7, META, 5, data, done=done)


def test_a_piece_of_a_file_is_what_is_documented() -> None:
    written = encode_file_piece(FileBytes(7, 12, 3, 5, 2, b"bytes"))
    numbers = b"".join(n.to_bytes(8, "big") for n in (7, 12, 3, 5))
    assert written[:-4] == b"\x02\x00" + numbers + bytes.fromhex("00000002") + b"bytes"


def test_the_list_of_files_is_what_is_documented() -> None:
    written = encode_file_piece(FileList(7, 12, 3, 5, (SnapshotFile(9, 800, HASH),)))
    numbers = b"".join(n.to_bytes(8, "big") for n in (7, 12, 3, 5))
    body = (9).to_bytes(8, "big") + (800).to_bytes(8, "big") + HASH
    assert written[:-4] == b"\x02\x01" + numbers + bytes.fromhex("00000001") + body


@given(pieces)
def test_a_piece_comes_back_as_it_was(piece) -> None:
    written = encode_file_piece(piece)
    assert decode_file_piece(written) == piece
    last = isinstance(piece, FileList)
    assert is_sound(written, done=last)
    assert not is_sound(written, done=not last)
    assert not is_sound_file_piece(8, META, 5, written, done=last)
    assert not is_sound_file_piece(7, META, 6, written, done=last)


@given(pieces, st.data())
def test_every_changed_or_missing_byte_of_a_piece_is_found(piece, data) -> None:
    written = encode_file_piece(piece)
    at = data.draw(st.integers(0, len(written) - 1))
    changed = bytearray(written)
    changed[at] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(changed), written[:at], written + b"\0"):
        with pytest.raises(Corruption) as caught:
            decode_file_piece(bad)
        assert caught.value.code == "raft_snapshot_corrupt"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_piece(junk: bytes) -> None:
    with pytest.raises(Corruption):
        decode_file_piece(junk)


@pytest.mark.parametrize(
    "piece",
    [FileList(7, 12, 3, 5, ()), FileBytes(7, 12, 3, 5, 0, b"")],
    ids=["no files", "no bytes"],
)
def test_a_piece_of_nothing_is_refused_although_its_checksum_is_right(piece) -> None:
    with pytest.raises(Corruption):
        decode_file_piece(encode_file_piece(piece))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 12))
def test_every_piece_begins_where_the_ones_before_end(sizes, piece_bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_files, "PIECE_BYTES", piece_bytes)
        those = [SnapshotFile(1, size, HASH) for size in sizes]
        offset, begins = 0, set()
        for number, size in enumerate(sizes):
            for at in range(0, size, piece_bytes):
                assert place_of(offset, those) == (number, at)
                begins.add(offset)
                data = bytes(min(piece_bytes, size - at))
                offset += len(encode_file_piece(FileBytes(7, 12, 3, offset, number, data)))
        assert offset == sum(travel_bytes(size) for size in sizes)
        assert place_of(offset, those) == (len(those), 0)
        for other in set(range(offset + 3)) - begins - {offset}:
            assert place_of(other, those) is None
