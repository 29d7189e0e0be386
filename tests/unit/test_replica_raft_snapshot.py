"""Pieces of a raft_snapshot: what they hold, what is refused, and how they are put in."""

from __future__ import annotations

import pytest
from engines import MemoryEngine
from hypothesis import given
from hypothesis import strategies as st
from unit.test_host_net import MemoryPieces

from workbench.errors import Corruption
from workbench.node.engine import RocksEngine
from workbench.ports.consensus import (
    ChunkReceived,
    Configuration,
    EntryKind,
    LogEntry,
    SnapshotMeta,
)
from workbench.raft.membership import encode_configuration
from workbench.replica import raft_snapshot
from workbench.replica.layout import (
    MEMBERS,
    META,
    PROGRESS,
    Progress,
    encode_members,
    encode_progress,
    family,
    group_range,
)
from workbench.replica.raft_snapshot import (
    EngineSnapshots,
    Piece,
    decode_piece,
    encode_piece,
    install_pieces,
    is_sound_piece,
    pieces_of,
)
from workbench.replica.replica import Replica

GROUP = 7
META_AT = SnapshotMeta(12, 3, Configuration(frozenset({1, 2, 3}), frozenset({4})))
PREFIX = GROUP.to_bytes(8, "big")

rows_of_a_group = st.dictionaries(
    st.binary(max_size=6).map(lambda rest: PREFIX + b"\x04" + rest), st.binary(max_size=300)
)


def state(rows: dict[bytes, bytes], meta: SnapshotMeta = META_AT) -> dict[bytes, bytes]:
    """The rows of a group that stands at `meta`."""
    meta_family = family(GROUP, META)
    return rows | {
        meta_family + PROGRESS: encode_progress(Progress(meta.index, 99, 98, meta.term)),
        meta_family + MEMBERS: encode_members(meta.configuration),
    }


def kept(rows: dict[bytes, bytes]) -> MemoryPieces:
    pieces, offset = MemoryPieces(), 0
    for data, _ in pieces_of(GROUP, META_AT, sorted(rows.items())):
        pieces.keep(offset, data)
        offset += len(data)
    return pieces


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_snapshot, "PIECE_BYTES", 100)


def test_a_piece_is_what_is_documented() -> None:
    piece = Piece(GROUP, 12, 3, 5, last=True, rows=((PREFIX + b"\x04k", b"val"),))
    written = encode_piece(piece)
    numbers = b"".join(n.to_bytes(8, "big") for n in (GROUP, 12, 3, 5))
    assert written[:-4] == b"\x01\x01" + numbers + bytes.fromhex("00000001 00000002 00000003") + (
        b"\x04kval"
    )
    assert decode_piece(written) == piece


@given(rows_of_a_group, rows_of_a_group, st.integers(1, 400))
def test_an_installed_state_is_the_one_that_was_taken(new, old, size) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raft_snapshot, "PIECE_BYTES", size)
        patch.setattr(raft_snapshot, "DELETES_PER_BATCH", 3)
        others = {b"\0" * 7 + b"\x06\x04a": b"1", b"\0" * 7 + b"\x08\x04a": b"2"}
        engine = MemoryEngine(state(old, SnapshotMeta(2, 1, META_AT.configuration)) | others)
        install_pieces(engine, GROUP, META_AT, kept(state(new)))
        assert engine.rows == state(new) | others
        assert engine.flushed == engine.rows


@given(st.data())
def test_every_changed_byte_of_a_piece_is_found(data) -> None:
    rows = data.draw(rows_of_a_group)
    [(piece, _)] = pieces_of(GROUP, META_AT, sorted(state(rows).items()))
    at = data.draw(st.integers(0, len(piece) - 1))
    changed = bytearray(piece)
    changed[at] ^= data.draw(st.integers(1, 255))
    assert not is_sound_piece(GROUP, META_AT, 0, bytes(changed), done=True)
    assert is_sound_piece(GROUP, META_AT, 0, piece, done=True)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_piece(junk: bytes) -> None:
    with pytest.raises(Corruption) as caught:
        decode_piece(junk)
    assert caught.value.code == "raft_snapshot_corrupt"


def test_a_piece_is_what_its_message_says_or_nothing() -> None:
    data = encode_piece(Piece(GROUP, 12, 3, 5, last=False, rows=()))
    assert is_sound_piece(GROUP, META_AT, 5, data, done=False)
    other = SnapshotMeta(13, 3, META_AT.configuration)
    for group, meta, offset, done in (
        (8, META_AT, 5, False),
        (GROUP, other, 5, False),
        (GROUP, META_AT, 6, False),
        (GROUP, META_AT, 5, True),
    ):
        assert not is_sound_piece(group, meta, offset, data, done=done)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", ["last", "first", "middle", "twice", "byte"])
def test_pieces_that_are_not_whole_change_nothing(damage: str) -> None:
    pieces = kept(state({PREFIX + b"\x04%d" % n: b"v" * 50 for n in range(9)}))
    whole = pieces.pieces
    assert len(whole) > 3
    pieces.pieces = {
        "last": whole[:-1],
        "first": whole[1:],
        "middle": whole[:1] + whole[2:],
        "twice": [*whole, whole[-1]],
        "byte": [whole[0][:-1] + b"?", *whole[1:]],
    }[damage]
    engine = MemoryEngine(before := state({PREFIX + b"\x04x": b"old"}))
    with pytest.raises(Corruption) as caught:
        install_pieces(engine, GROUP, META_AT, pieces)
    assert caught.value.code == "raft_snapshot_corrupt"
    assert engine.rows == before


@pytest.mark.parametrize(
    "says",
    [
        SnapshotMeta(11, 3, META_AT.configuration),
        SnapshotMeta(12, 2, META_AT.configuration),
        SnapshotMeta(12, 3, Configuration(frozenset({1}))),
    ],
)
def test_rows_of_another_state_than_their_name_are_refused(says: SnapshotMeta) -> None:
    rows = state({}, says)
    pieces = MemoryPieces()
    for data, _ in pieces_of(GROUP, META_AT, sorted(rows.items())):
        pieces.keep(0, data)
    with pytest.raises(Corruption) as caught:
        install_pieces(MemoryEngine(), GROUP, META_AT, pieces)
    assert caught.value.code == "raft_snapshot_corrupt"


@pytest.mark.usefixtures("small")
def test_what_was_taken_stays_as_it_was_while_the_state_goes_on() -> None:
    rows = state({PREFIX + b"\x04%d" % n: b"v" * 50 for n in range(9)})
    engine = MemoryEngine(rows)
    snapshots = EngineSnapshots(GROUP, engine, MemoryPieces())
    snapshots.take(META_AT)
    read, offset, last = [], 0, False
    while not last:
        engine.write([(PREFIX + b"\x04%d" % len(read), None)])
        data, last = snapshots.read(META_AT, offset)
        assert snapshots.read(META_AT, offset) == (data, last), "a piece may be asked for again"
        read.append(data)
        offset += len(data)
    assert dict(row for data in read for row in decode_piece(data).rows) == rows
    assert snapshots.read(META_AT, offset) is None
    assert snapshots.read(META_AT, 1) is None
    assert snapshots.read(SnapshotMeta(13, 3, META_AT.configuration), 0) is None
    assert snapshots.read(META_AT, 0) == (read[0], False)
    snapshots.take(SnapshotMeta(13, 3, META_AT.configuration))
    assert snapshots.read(META_AT, 0) is None


@pytest.mark.usefixtures("small")
def test_a_state_that_is_taken_again_has_the_same_pieces_and_goes_on_anywhere() -> None:
    engine = MemoryEngine(state({PREFIX + b"\x04%d" % n: b"v" * 50 for n in range(9)}))
    first, second = (EngineSnapshots(GROUP, engine, MemoryPieces()) for _ in range(2))
    first.take(META_AT)
    second.take(META_AT)
    one, _ = first.read(META_AT, 0)
    two, _ = first.read(META_AT, len(one))
    assert second.read(META_AT, len(one) + len(two)) == first.read(META_AT, len(one) + len(two))


@pytest.mark.usefixtures("small")
def test_only_so_much_of_what_was_read_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_snapshot, "KEPT_BYTES_MAX", 300)
    engine = MemoryEngine(state({PREFIX + b"\x04%d" % n: b"v" * 50 for n in range(9)}))
    snapshots = EngineSnapshots(GROUP, engine, MemoryPieces())
    snapshots.take(META_AT)
    offset = 0
    while (found := snapshots.read(META_AT, offset)) is not None:
        newest, offset = offset, offset + len(found[0])
    assert snapshots.read(META_AT, 0) is None
    assert snapshots.read(META_AT, newest) is not None


def test_an_install_drops_the_pieces_and_a_first_piece_drops_older_ones() -> None:
    rows = state({})
    pieces = kept(rows)
    engine = MemoryEngine()
    snapshots = EngineSnapshots(GROUP, engine, pieces)
    [data] = pieces.pieces
    snapshots.keep(ChunkReceived(META_AT, 0, data, done=True))
    snapshots.sync()
    assert pieces.durable == [data]
    snapshots.install(META_AT)
    assert pieces.pieces == []
    assert dict(engine.scan(*group_range(GROUP))) == rows


def test_a_state_moves_from_one_database_to_another(tmp_path, small) -> None:
    rows = state({PREFIX + b"\x04%d" % n: b"new" for n in range(50)})
    source, target = RocksEngine(tmp_path / "source"), RocksEngine(tmp_path / "target")
    source.write([*rows.items(), (b"\0" * 7 + b"\x08", b"another group's")])
    target.write([(PREFIX + b"\x04old%d" % n, b"old") for n in range(50)])
    sending = EngineSnapshots(GROUP, source, MemoryPieces())
    receiving = EngineSnapshots(GROUP, target, MemoryPieces())
    sending.take(META_AT)
    offset, last = 0, False
    while not last:
        data, last = sending.read(META_AT, offset)
        receiving.keep(ChunkReceived(META_AT, offset, data, last))
        offset += len(data)
    receiving.install(META_AT)
    assert dict(target.scan(b"", None)) == rows
    source.close()
    target.close()


def test_the_members_as_of_the_applied_index_are_kept() -> None:
    first, wanted = Configuration(frozenset({1, 2, 3})), META_AT.configuration
    engine = MemoryEngine()
    replica = Replica(GROUP, engine, is_catalog=False)
    assert replica.members is None
    replica.found(first)
    replica.found(wanted)
    assert replica.members == first, "a group is founded once"
    change = LogEntry(1, 5, encode_configuration(wanted), EntryKind.CONFIGURATION)
    assert replica.apply(change) == ()
    assert (replica.applied_index, replica.applied_term, replica.members) == (1, 5, wanted)
    replica.check_invariants()
    again = Replica(GROUP, engine, is_catalog=False)
    assert (again.applied_term, again.members) == (5, wanted)
    ids = b"".join(node.to_bytes(8, "big") for node in (1, 2, 3, 4))
    stored = engine.get(family(GROUP, META) + MEMBERS)
    assert stored == b"\x01" + bytes.fromhex("01 0003 0001") + ids


def test_a_change_of_members_that_cannot_be_read_stops_the_replica() -> None:
    replica = Replica(GROUP, MemoryEngine(), is_catalog=False)
    with pytest.raises(Corruption) as caught:
        replica.apply(LogEntry(1, 1, b"junk", EntryKind.CONFIGURATION))
    assert caught.value.code == "configuration_invalid"
    engine = MemoryEngine({family(GROUP, META) + MEMBERS: b"\x01junk"})
    with pytest.raises(Corruption) as caught:
        Replica(GROUP, engine, is_catalog=False)
    assert "engine key" in caught.value.message


def test_the_range_of_the_last_group_has_no_end() -> None:
    assert group_range(2**64 - 1) == (b"\xff" * 8, None)
