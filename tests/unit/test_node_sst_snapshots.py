"""raft_snapshots as SST files: the state arrives, nothing else does, and no crash loses it."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import rocksdict

from workbench.errors import Corruption, Storage
from workbench.node import sst_files, sst_snapshots
from workbench.node.engine import RocksEngine
from workbench.node.sst_files import Checker, Ended, file_at
from workbench.node.sst_snapshots import CHECK_FOLDER, SstSnapshots, remove_leftovers
from workbench.ports.consensus import ChunkReceived, Configuration, SnapshotMeta
from workbench.ports.storage import Waiting
from workbench.replica import snapshot_files
from workbench.replica.layout import (
    MEMBERS,
    META,
    PROGRESS,
    VERSIONS,
    Progress,
    encode_members,
    encode_progress,
    family,
    group_range,
    load_progress,
)
from workbench.replica.raft_snapshot import Piece, encode_piece
from workbench.replica.snapshot_files import FileBytes, FileList, encode_file_piece

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

GROUP = 2
VOTERS = Configuration(frozenset({1, 2, 3}))
NEW = SnapshotMeta(77, 3, VOTERS)
OLD = SnapshotMeta(7, 1, VOTERS)
PATIENCE_S = 20.0


def state(meta: SnapshotMeta, name: bytes, rows: int = 300) -> dict[bytes, bytes]:
    """The rows of the group as of `meta`."""
    return {
        family(GROUP, META) + PROGRESS: encode_progress(Progress(meta.index, 9, 8, meta.term)),
        family(GROUP, META) + MEMBERS: encode_members(meta.configuration),
    } | {family(GROUP, VERSIONS) + name + b"%06d" % n: os.urandom(40) for n in range(rows)}


def beside() -> dict[bytes, bytes]:
    """Rows of the neighbours, next to the group's range on both sides."""
    start, end = group_range(GROUP)
    assert end is not None
    return {
        family(1, VERSIONS) + b"\xff" * 9: b"one",
        start[:-1] + b"\x01\xff": b"one's last",
        end: b"three's first",
        family(3, META) + PROGRESS: b"three",
    }


def rows_of(engine: RocksEngine) -> dict[bytes, bytes]:
    return dict(engine.scan(b"", None))


class Place:
    """The engine and the raft_snapshots of one node."""

    def __init__(self, folder: Path, workers: Executor) -> None:
        self.folder = folder
        self.told: list[dict[str, object]] = []
        folder.mkdir(exist_ok=True)
        self.engine = RocksEngine(folder / "engine")
        self.checker = Checker(folder / "snapshots" / CHECK_FOLDER)
        self.snapshots = SstSnapshots(
            GROUP,
            self.engine,
            folder / "snapshots",
            checker=self.checker,
            workers=workers,
            tell=lambda event, **facts: self.told.append({"event": event, **facts}),
        )

    def holds(self, rows: dict[bytes, bytes]) -> Place:
        self.engine.write(list(rows.items()))
        self.engine.flush()
        return self

    def close(self) -> None:
        self.snapshots.close()
        self.engine.close()
        self.checker.close()

    def left(self) -> set[str]:
        folder = self.folder / "snapshots"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture(scope="module", autouse=True)
def light() -> Iterator[None]:
    """Engines collect garbage when they close: not that of all other tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def workers() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.fixture
def places(tmp_path: Path, workers: Executor) -> Iterator[Callable[[str], Place]]:
    made: list[Place] = []

    def place(name: str) -> Place:
        made.append(Place(tmp_path / name, workers))
        return made[-1]

    yield place
    for each in made:
        each.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sst_files, "FILE_BYTES", 6_000)
    monkeypatch.setattr(sst_files, "ROWS_AT_ONCE", 32)
    for module in (sst_snapshots, snapshot_files):
        monkeypatch.setattr(module, "PIECE_BYTES", 1_500)


def waited(ask: Callable[[], object]) -> object:
    """Ask until the answer is another than to wait."""
    end = time.perf_counter() + PATIENCE_S
    while (answer := ask()) is Waiting.WAIT:
        assert time.perf_counter() < end
        time.sleep(0.001)
    return answer


def pieces_of(place: Place, meta: SnapshotMeta = NEW) -> list[bytes]:
    """Take the state, and return all pieces."""
    place.snapshots.take(meta)
    pieces: list[bytes] = []
    while True:
        offset = sum(map(len, pieces))
        found = waited(lambda offset=offset: place.snapshots.read(meta, offset))
        assert isinstance(found, tuple)
        pieces.append(found[0])
        if found[1]:
            return pieces


def files_as_pieces(folder: Path, rows: Sequence[int], meta: SnapshotMeta = NEW) -> list[bytes]:
    """Cut the files of a folder, whatever is in them, as a leader would."""
    pieces: list[bytes] = []
    files = []
    head = GROUP, meta.index, meta.term
    for number, count in enumerate(rows):
        data = (folder / f"{number}.sst").read_bytes()
        files.append(file_at(folder / f"{number}.sst", count))
        for at in range(0, len(data), 1_500):
            part = FileBytes(*head, sum(map(len, pieces)), number, data[at : at + 1_500])
            pieces.append(encode_file_piece(part))
    pieces.append(encode_file_piece(FileList(*head, sum(map(len, pieces)), tuple(files))))
    return pieces


def receive(place: Place, pieces: Sequence[bytes], meta: SnapshotMeta = NEW) -> bool:
    """Keep all pieces but the last one, and return what comes of the check of it."""
    offset = 0
    for data in pieces[:-1]:
        place.snapshots.keep(ChunkReceived(meta, offset, data, done=False))
        place.snapshots.sync()
        offset += len(data)
    return bool(waited(lambda: place.snapshots.check(meta, offset, pieces[-1])))


def end(place: Place, pieces: Sequence[bytes], meta: SnapshotMeta = NEW) -> None:
    """Keep the last piece: from here on the log may say that all are there."""
    offset = sum(map(len, pieces[:-1]))
    place.snapshots.keep(ChunkReceived(meta, offset, pieces[-1], done=True))
    place.snapshots.sync()


def install(place: Place, meta: SnapshotMeta = NEW) -> None:
    assert not place.snapshots.begin_install(meta)
    waited(lambda: place.snapshots.installed() or Waiting.WAIT)


def test_a_state_arrives_in_place_of_the_old_one_and_touches_no_other_group(places) -> None:
    new, others = state(NEW, b"new"), beside()
    source, target = places("a").holds(new), places("b").holds(state(OLD, b"old") | others)
    pieces = pieces_of(source)
    assert receive(target, pieces)
    assert load_progress(GROUP, target.engine).applied_index == OLD.index, "not before the log"
    end(target, pieces)
    install(target)
    assert rows_of(target.engine) == new | others
    assert target.left() == {CHECK_FOLDER}
    [sent], [installed] = source.told, target.told
    assert sent == installed | {"event": "raft_snapshot_sent"}
    assert installed["event"] == "raft_snapshot_installed"
    assert (installed["group"], installed["index"], installed["rows"]) == (2, 77, len(new))
    assert installed["files"] > 2


def test_an_empty_engine_gets_a_state_too_and_keeps_it(places, tmp_path, workers) -> None:
    new = state(NEW, b"new")
    pieces = pieces_of(places("a").holds(new))
    target = Place(tmp_path / "b", workers)
    assert receive(target, pieces)
    end(target, pieces)
    install(target)
    shutil.copytree(tmp_path / "b", tmp_path / "c")  # as a crash leaves it: nothing more is flushed
    target.close()
    assert rows_of(places("c").engine) == new


def test_what_is_taken_stays_as_it_was(places) -> None:
    new = state(NEW, b"new")
    source = places("a").holds(new)
    source.snapshots.take(NEW)
    source.engine.write([(key, b"later") for key in new] + [(family(GROUP, VERSIONS), b"more")])
    target = places("b")
    source_read, source.snapshots.take = source.snapshots.read, lambda _: None
    pieces = pieces_of(source)
    assert source_read
    assert receive(target, pieces)
    end(target, pieces)
    install(target)
    assert rows_of(target.engine) == new


def test_a_file_can_be_read_while_the_next_is_made(places, monkeypatch) -> None:
    source = places("a").holds(state(NEW, b"new"))
    gate, scan = threading.Event(), source.engine.scan

    def halting(start: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        for number, row in enumerate(scan(start, stop)):
            if number == 200:
                gate.wait(PATIENCE_S)
            yield row

    monkeypatch.setattr(source.engine, "scan", halting)
    source.snapshots.take(NEW)
    first = waited(lambda: source.snapshots.read(NEW, 0))
    assert isinstance(first, tuple)
    offset = len(first[0])
    while isinstance(found := source.snapshots.read(NEW, offset), tuple):
        offset += len(found[0])
    assert found is Waiting.WAIT
    gate.set()
    assert isinstance(waited(lambda: source.snapshots.read(NEW, offset)), tuple)


def test_what_is_not_taken_or_no_piece_is_gone(places) -> None:
    source = places("a").holds(state(NEW, b"new"))
    assert source.snapshots.read(NEW, 0) is None
    pieces = pieces_of(source)
    assert source.snapshots.read(OLD, 0) is None
    assert source.snapshots.read(NEW, 1) is None
    assert source.snapshots.read(NEW, sum(map(len, pieces))) is None
    assert source.snapshots.read(NEW, len(pieces[0])) == (pieces[1], False)


def test_what_was_taken_goes_with_its_release_also_while_it_is_made(places, workers) -> None:
    source = places("a").holds(state(NEW, b"new", rows=5_000))
    pieces_of(source)
    assert source.left() == {"2.out-1"}
    source.snapshots.take(NEW)  # in place of the first
    source.snapshots.release()
    source.snapshots.release()
    waited(lambda: Waiting.WAIT if source.left() else None)
    assert source.snapshots.read(NEW, 0) is None


def test_a_damaged_row_of_the_engine_ends_the_node_that_wanted_to_ship_it(places, monkeypatch):
    source = places("a").holds(state(NEW, b"new"))

    def damaged(*_: object) -> Iterator[tuple[bytes, bytes]]:
        yield family(GROUP, META), b""
        raise Corruption("planted", code="engine_corrupt")

    monkeypatch.setattr(source.engine, "scan", damaged)
    source.snapshots.take(NEW)
    with pytest.raises(Corruption):
        waited(lambda: source.snapshots.read(NEW, 0))


# -- what must not get in -----------------------------------------------------------------------


def write_sst(folder: Path, number: int, rows: Sequence[tuple[bytes, bytes | None]]) -> int:
    folder.mkdir(exist_ok=True)
    writer = rocksdict.SstFileWriter(rocksdict.Options(raw_mode=True))
    writer.open(str(folder / f"{number}.sst"))
    for key, value in rows:
        if value is None:
            del writer[key]
        else:
            writer[key] = value
    writer.finish()
    return len(rows)


def foreign_above(folder: Path) -> list[int]:
    return [write_sst(folder, 0, sorted((state(NEW, b"n") | {group_range(3)[0]: b"x"}).items()))]


def foreign_below(folder: Path) -> list[int]:
    return [write_sst(folder, 0, sorted((state(NEW, b"n") | {family(1, META): b"x"}).items()))]


def foreign_deleted(folder: Path) -> list[int]:
    rows: list[tuple[bytes, bytes | None]] = sorted(state(NEW, b"n").items())
    return [write_sst(folder, 0, [*rows, (family(3, META) + PROGRESS, None)])]


def deletes(folder: Path) -> list[int]:
    rows: list[tuple[bytes, bytes | None]] = sorted(state(NEW, b"n").items())
    rows[5] = rows[5][0], None
    return [write_sst(folder, 0, rows)]


def overlaps(folder: Path) -> list[int]:
    rows = sorted(state(NEW, b"n").items())
    return [write_sst(folder, 0, rows[:200]), write_sst(folder, 1, rows[100:])]


def in_another_order(folder: Path) -> list[int]:
    rows = sorted(state(NEW, b"n").items())
    return [write_sst(folder, 0, rows[200:]), write_sst(folder, 1, rows[:200])]


def miscounted(folder: Path) -> list[int]:
    return [write_sst(folder, 0, sorted(state(NEW, b"n").items())) + 1]


def of_an_older_state(folder: Path) -> list[int]:
    return [write_sst(folder, 0, sorted(state(OLD, b"n").items()))]


def without_members(folder: Path) -> list[int]:
    rows = state(NEW, b"n")
    del rows[family(GROUP, META) + MEMBERS]
    return [write_sst(folder, 0, sorted(rows.items()))]


def no_file(folder: Path) -> list[int]:
    folder.mkdir()
    (folder / "0.sst").write_bytes(os.urandom(4_000))
    return [1]


def cut(folder: Path) -> list[int]:
    count = write_sst(folder, 0, sorted(state(NEW, b"n").items()))
    (folder / "0.sst").write_bytes((folder / "0.sst").read_bytes()[:-9])
    return [count]


def damaged_within(folder: Path) -> list[int]:
    count = write_sst(folder, 0, sorted(state(NEW, b"n").items()))
    raw = bytearray((folder / "0.sst").read_bytes())
    raw[len(raw) // 2] ^= 1  # before its hash is taken: its own checksums are what is left
    (folder / "0.sst").write_bytes(bytes(raw))
    return [count]


HOSTILE = (
    foreign_above,
    foreign_below,
    foreign_deleted,
    deletes,
    overlaps,
    in_another_order,
    miscounted,
    of_an_older_state,
    without_members,
    no_file,
    cut,
    damaged_within,
)


def test_files_that_are_not_the_groups_state_change_nothing_and_can_come_again(
    places, tmp_path: Path
) -> None:
    before = state(OLD, b"old") | beside()
    target = places("b").holds(before)
    for plant in HOSTILE:
        folder = tmp_path / plant.__name__
        assert not receive(target, files_as_pieces(folder, plant(folder))), plant.__name__
        assert rows_of(target.engine) == before, plant.__name__
    assert {each["event"] for each in target.told} == {"raft_snapshot_refused"}
    assert {each["code"] for each in target.told} == {"raft_snapshot_corrupt"}
    assert len(target.told) == len(HOSTILE)
    new = state(NEW, b"new")
    pieces = pieces_of(places("a").holds(new))
    assert receive(target, pieces)
    end(target, pieces)
    install(target)
    assert rows_of(target.engine) == new | beside()


def test_an_install_that_nobody_checked_checks_first(places, tmp_path: Path) -> None:
    before = state(OLD, b"old") | beside()
    target = places("b").holds(before)
    pieces = files_as_pieces(tmp_path / "bad", foreign_above(tmp_path / "bad"))
    for number, data in enumerate(pieces[:-1]):
        at = sum(map(len, pieces[:number]))
        target.snapshots.keep(ChunkReceived(NEW, at, data, done=False))
    end(target, pieces)
    with pytest.raises(Corruption):
        install(target)
    with pytest.raises(Corruption):
        target.snapshots.install(NEW)
    assert rows_of(target.engine) == before


def test_pieces_that_make_no_sense_spoil_what_came_and_it_can_come_again(places) -> None:
    new = state(NEW, b"new")
    target, pieces = places("b"), pieces_of(places("a").holds(new))
    rows = encode_piece(Piece(GROUP, 77, 3, 0, last=False, rows=tuple(sorted(new.items()))[:3]))
    skipping = encode_file_piece(FileBytes(GROUP, 77, 3, 0, 1, b"bytes"))
    for bad in (rows, skipping):
        assert not receive(target, [bad, *pieces[1:-1], pieces[-1]])
    assert receive(target, pieces)
    end(target, pieces)
    install(target)
    assert rows_of(target.engine) == new


def test_a_file_is_the_one_that_was_listed(places) -> None:
    target, pieces = places("b"), pieces_of(places("a").holds(state(NEW, b"new")))
    middle = len(pieces) // 2
    before, those, after = pieces[:middle], pieces[middle : middle + 1], pieces[middle + 1 :]
    was = snapshot_files.decode_file_piece(those[0])
    assert isinstance(was, FileBytes)
    changed = encode_file_piece(FileBytes(GROUP, 77, 3, was.offset, was.file, was.data[::-1]))
    for instead in ([], those * 2, [changed]):
        assert not receive(target, [*before, *instead, *after])
        assert target.told[-1]["event"] == "raft_snapshot_refused"
    assert receive(target, pieces)


def test_a_last_piece_waits_until_those_before_are_kept(places) -> None:
    target, pieces = places("b"), pieces_of(places("a").holds(state(NEW, b"new")))
    offset = sum(map(len, pieces[:-1]))
    assert target.snapshots.check(NEW, offset, pieces[-1]) is Waiting.WAIT
    assert target.snapshots.check(NEW, 0, pieces[-1]) is False
    assert receive(target, pieces)


def test_another_leaders_pieces_take_the_place_of_those_that_are_being_checked(places) -> None:
    new = state(NEW, b"new")
    target, pieces = places("b"), pieces_of(places("a").holds(new))
    for number, data in enumerate(pieces[:-1]):
        at = sum(map(len, pieces[:number]))
        target.snapshots.keep(ChunkReceived(NEW, at, data, done=False))
    target.snapshots.check(NEW, sum(map(len, pieces[:-1])), pieces[-1])
    later = SnapshotMeta(78, 4, VOTERS)
    newer = state(later, b"newer")
    others = pieces_of(places("c").holds(newer), later)
    assert receive(target, others, later)
    end(target, others, later)
    install(target, later)
    assert rows_of(target.engine) == newer


# -- a crash at every step, a disk that is full -------------------------------------------------


STEPS = ("delete_range", "flush", "compact_range", "ingest")


def crashed(tmp_path: Path, workers: Executor, pieces: Sequence[bytes], steps: list[str]) -> None:
    """Install, and copy the node's directory before and after each step: `crash-N`."""
    target = Place(tmp_path / "b", workers)
    target.holds(state(OLD, b"old") | beside())
    assert receive(target, pieces)
    end(target, pieces)

    def copy(step: str) -> None:
        shutil.copytree(tmp_path / "b", tmp_path / f"crash-{len(steps)}")
        steps.append(step)

    def watched(name: str, original: Callable[..., None]) -> Callable[..., None]:
        def call(*given: object) -> None:
            copy(f"before {name}")
            original(*given)
            copy(f"after {name}")

        return call

    for name in STEPS:
        setattr(target.engine, name, watched(name, getattr(target.engine, name)))
    incoming = target.snapshots._incoming
    incoming.discard = watched("discard", incoming.discard)  # type: ignore[method-assign]
    install(target)
    del incoming.discard
    for name in STEPS:
        delattr(target.engine, name)
    target.close()


def test_a_crash_at_any_step_of_an_install_leaves_what_can_be_done_again(
    places, workers, tmp_path: Path
) -> None:
    new, steps = state(NEW, b"new"), []
    crashed(tmp_path, workers, pieces_of(places("a").holds(new)), steps)
    assert len(steps) == 2 * len(STEPS) + 2
    again = []
    for number, step in enumerate(steps):
        place = places(f"crash-{number}")
        if step == "before ingest":
            # What a crash within leaves of it: a file that the database does not know.
            incoming = place.folder / "snapshots" / "2.in"
            os.link(incoming / "0.sst", place.folder / "engine" / "000777.sst")
        applied = load_progress(GROUP, place.engine).applied_index
        if applied < NEW.index:  # as `host.start` does
            again.append(step)
            assert applied == 0 or rows_of(place.engine).keys() > beside().keys()
            place.snapshots.install(NEW)
        else:
            assert rows_of(place.engine) == new | beside(), step
            place.snapshots.discard()
        assert rows_of(place.engine) == new | beside(), step
        remove_leftovers(place.folder / "snapshots")
        assert place.left() <= {CHECK_FOLDER}
    assert again == [step for step in steps if step not in {"after ingest", *steps[-2:]}]


def test_an_install_that_drops_its_files_too_early_is_found(
    places, workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checker's own test: with the steps in another order a crash loses the state."""

    def put_in(self: SstSnapshots, meta: SnapshotMeta, paths: Sequence[Path]) -> object:
        self._engine.delete_range(*group_range(GROUP))
        self._engine.flush()
        links = [path.parent.parent / path.name for path in paths]
        for path, link in zip(paths, links, strict=True):
            os.link(path, link)
        self._incoming.discard()
        self._engine.compact_range(*group_range(GROUP))
        self._engine.ingest(links)
        return ()

    monkeypatch.setattr(SstSnapshots, "_put_in", put_in)
    steps: list[str] = []
    crashed(tmp_path, workers, pieces_of(places("a").holds(state(NEW, b"new"))), steps)
    monkeypatch.undo()
    place = places(f"crash-{steps.index('before ingest')}")
    assert load_progress(GROUP, place.engine).applied_index < NEW.index
    with pytest.raises(Corruption):
        place.snapshots.install(NEW)


def test_an_engine_that_fails_in_an_install_ends_the_node_and_loses_nothing(
    places, workers, tmp_path: Path
) -> None:
    new = state(NEW, b"new")
    pieces = pieces_of(places("a").holds(new))
    target = Place(tmp_path / "b", workers)
    target.holds(state(OLD, b"old") | beside())
    assert receive(target, pieces)
    end(target, pieces)

    def full(*_: object) -> None:
        raise Storage("planted", code="disk_full")

    for step in STEPS:
        setattr(target.engine, step, full)
        with pytest.raises(Storage):
            install(target)
        delattr(target.engine, step)
    target.close()
    again = places("b")
    assert load_progress(GROUP, again.engine).applied_index < NEW.index
    again.snapshots.install(NEW)
    assert rows_of(again.engine) == new | beside()


def test_a_disk_that_is_full_is_told_by_who_keeps_and_by_who_takes(
    places, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = places("a").holds(state(NEW, b"new")), places("b")
    pieces = pieces_of(source)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(Storage) as caught:
            target.snapshots.keep(ChunkReceived(NEW, 0, pieces[0], done=False))
    assert caught.value.code == "disk_full"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        source.snapshots.take(NEW)
        with pytest.raises(Storage) as caught:
            waited(lambda: source.snapshots.read(NEW, 0))
    assert caught.value.code == "disk_full"
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        with pytest.raises(Storage) as caught:
            receive(target, pieces)
    assert caught.value.code == "disk_full"
    assert receive(target, pieces), "nothing was lost"


def test_what_other_lives_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    remove_leftovers(folder)
    for name in ("2.in", "3.out-1", CHECK_FOLDER):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.sst").write_bytes(b"x")
    (folder / "7").write_bytes(b"of another version")
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    remove_leftovers(folder)
    assert [path.name for path in folder.iterdir()] == [CHECK_FOLDER]
    assert (tmp_path / "elsewhere").exists()


def test_a_node_that_stops_ends_what_goes_on(tmp_path: Path, workers: Executor) -> None:
    place = Place(tmp_path / "a", workers).holds(state(NEW, b"new", rows=20_000))
    place.snapshots.take(NEW)
    place.close()
    workers.shutdown()
    assert place.left() == set()


def test_a_check_that_waits_for_another_ones_end_can_be_ended(tmp_path: Path) -> None:
    checker = Checker(tmp_path / CHECK_FOLDER)
    with checker._lock, pytest.raises(Ended):
        checker.check([], [], group_range(GROUP), (), lambda: True)
    checker.close()


def test_a_group_without_an_end_of_its_range_is_replaced_too(tmp_path: Path, workers) -> None:
    engine = RocksEngine(tmp_path / "engine")
    last = 2**64 - 1
    prefix = last.to_bytes(8, "big")
    engine.write([(prefix + b"\x04k", b"v"), (b"\x01", b"other")])
    engine.delete_range(prefix, sst_snapshots._ABOVE_ALL)
    assert dict(engine.scan(b"", None)) == {b"\x01": b"other"}
    engine.close()
