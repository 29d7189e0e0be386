"""Engines: what the port promises, on RocksDB and in memory; then what is RocksDB's own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from engines import MemoryEngine

from workbench.errors import Corruption, Storage
from workbench.node.engine import RocksEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workbench.ports.storage import Change, Engine

ROWS: list[Change] = [
    (b"a", b"1"),
    (b"b", b""),
    (b"b\x00", b"2"),
    (b"c", b"3"),
    (b"\xff\xff", b"4"),
]


@pytest.fixture(params=["rocksdb", "memory"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made: Engine = RocksEngine(tmp_path / "e") if request.param == "rocksdb" else MemoryEngine()
    yield made
    made.close()


@pytest.fixture
def rocks(tmp_path: Path) -> Iterator[RocksEngine]:
    made = RocksEngine(tmp_path / "e")
    yield made
    made.close()


def test_a_value_is_bytes_as_they_are_and_an_absent_one_is_none(engine: Engine) -> None:
    engine.write(ROWS)
    assert [engine.get(key) for key, _ in ROWS] == [value for _, value in ROWS]
    assert engine.get(b"absent") is None


def test_changes_take_effect_in_order(engine: Engine) -> None:
    engine.write([(b"k", b"1"), (b"k", None), (b"k", b"2"), (b"gone", b"x"), (b"gone", None)])
    assert engine.get(b"k") == b"2"
    assert engine.get(b"gone") is None
    engine.write([(b"never there", None)])
    engine.write([])
    assert [key for key, _ in engine.scan(b"", None)] == [b"k"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (b"", None),
        (b"", b""),
        (b"a", b"b"),
        (b"a\x00", b"c"),
        (b"b", b"b\x00"),
        (b"b", b"b"),
        (b"c", b"a"),
        (b"d", b"e"),
        (b"c", None),
        (b"", b"\xff"),
        (b"\xff\xff\xff", None),
    ],
)
def test_a_scan_yields_its_half_open_range_in_order(
    engine: Engine, start: bytes, end: bytes | None, *, reverse: bool
) -> None:
    engine.write(ROWS)
    expected = [row for row in ROWS if row[0] >= start and (end is None or row[0] < end)]
    found = list(engine.scan(start, end, reverse=reverse))
    assert found == (expected[::-1] if reverse else expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_sees_the_moment_of_its_call(engine: Engine, *, reverse: bool) -> None:
    engine.write(ROWS)
    rows = engine.scan(b"", None, reverse=reverse)
    engine.write([(b"aa", b"new"), (b"c", None), (b"b", b"changed")])
    first = next(rows)
    engine.write([(b"bb", b"new"), (b"a", None)])
    assert sorted([first, *rows]) == ROWS
    assert next(rows, None) is None
    assert dict(engine.scan(b"", None))[b"b"] == b"changed"


def test_a_scan_of_an_empty_engine_is_empty(engine: Engine) -> None:
    assert list(engine.scan(b"", None)) == []
    assert list(engine.scan(b"", None, reverse=True)) == []


def test_of_many_ranges_each_is_told_its_first_row(engine: Engine) -> None:
    engine.write(ROWS)
    ranges = [
        (b"b", b"c"),
        (b"", b"a"),
        (b"a\x00", b"z"),
        (b"d", b"e"),
        (b"\xff\xff\xff", b"\xff\xff\xff\xff"),
        (b"c", b"c"),
    ]
    assert [*engine.firsts(ranges)] == [(b"b", b""), None, (b"b", b""), None, None, None]
    assert [*engine.firsts(())] == []


def test_both_engines_agree_over_random_work(tmp_path: Path, rocks: RocksEngine) -> None:
    memory = MemoryEngine()
    rng = random.Random(7)
    for _ in range(300):
        changes: list[Change] = [
            (rng.randbytes(rng.randrange(3)), rng.choice([None, rng.randbytes(4)]))
            for _ in range(rng.randrange(6))
        ]
        for engine in (memory, rocks):
            engine.write(changes)
        if not rng.randrange(20):
            rocks.flush()
        start, end = rng.randbytes(1), rng.choice([None, rng.randbytes(2)])
        for reverse in (False, True):
            assert list(rocks.scan(start, end, reverse=reverse)) == list(
                memory.scan(start, end, reverse=reverse)
            )
        ranges = [(rng.randbytes(1), rng.randbytes(2)) for _ in range(4)]
        assert [*rocks.firsts(ranges)] == [*memory.firsts(ranges)]


def test_what_was_flushed_outlives_a_kill_and_batches_survive_wholly(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from workbench.node.engine import RocksEngine\n"
        "engine = RocksEngine(Path(sys.argv[1]))\n"
        "engine.write([(b'a', b'1'), (b'b', b'1')])\n"
        "engine.flush()\n"
        "engine.write([(b'a', b'2'), (b'b', b'2')])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    outcome = subprocess.run([sys.executable, "-c", script, str(tmp_path / "e")], check=False)
    assert outcome.returncode == -9
    again = RocksEngine(tmp_path / "e")
    values = {again.get(b"a"), again.get(b"b")}
    assert values == {b"1"}, "writes are not logged: what was not flushed is gone, all of it"
    again.close()


def test_closing_ends_scans_that_nobody_finished_and_frees_the_folder(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path / "e")
    engine.write(ROWS)
    engine.flush()
    abandoned = engine.scan(b"", None)
    assert next(abandoned) == ROWS[0]
    untouched = engine.scan(b"", None, reverse=True)
    engine.close()
    engine.close()
    again = RocksEngine(tmp_path / "e")
    assert list(again.scan(b"", None)) == ROWS
    again.close()
    for rows in (abandoned, untouched):
        with pytest.raises(Storage) as caught:
            next(rows)
        assert caught.value.code == "engine_closed"


def test_a_disk_that_is_full_at_the_close_is_told_as_such(tmp_path: Path) -> None:
    made = RocksEngine(tmp_path / "full")

    class Full:
        def close(self) -> None:
            raise Exception("IO error: No space left on device: 000008.sst")  # noqa: TRY002 - its

    real, made._database = made._database, Full()
    real.close()
    with pytest.raises(Storage) as caught:
        made.close()
    assert caught.value.code == "disk_full"
    made.close()


def test_a_closed_engine_says_so(rocks: RocksEngine) -> None:
    rocks.close()
    for call in (
        lambda: rocks.get(b"a"),
        lambda: rocks.write(ROWS),
        lambda: rocks.scan(b"", None),
        lambda: rocks.firsts([(b"", b"a")]),
        rocks.flush,
    ):
        with pytest.raises(Storage) as caught:
            call()
        assert caught.value.code == "engine_closed"


def test_a_second_engine_on_the_folder_is_refused(rocks: RocksEngine, tmp_path: Path) -> None:
    with pytest.raises(Storage) as caught:
        RocksEngine(tmp_path / "e")
    assert caught.value.code == "engine_locked"
    assert rocks.get(b"a") is None


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "e").write_text("no folder")
    with pytest.raises(Storage) as caught:
        RocksEngine(tmp_path / "e")
    assert caught.value.code == "engine_failed"
    assert str(tmp_path / "e") in caught.value.message


def large(folder: Path) -> None:
    engine = RocksEngine(folder)
    engine.write([(b"%06d" % n, os.urandom(50)) for n in range(20_000)])
    engine.flush()
    engine.close()


def test_a_scan_over_a_damaged_block_raises_and_does_not_just_end(tmp_path: Path) -> None:
    large(tmp_path / "e")
    [table] = (tmp_path / "e").glob("*.sst")
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 0xFF
    table.write_bytes(data)
    engine = RocksEngine(tmp_path / "e")
    seen: list[object] = []
    with pytest.raises(Corruption) as caught:
        seen.extend(engine.scan(b"", None))
    assert 0 < len(seen) < 20_000
    assert caught.value.code == "engine_corrupt"
    assert str(tmp_path / "e") in caught.value.message
    assert "restore" in caught.value.hint
    with pytest.raises(Corruption):
        list(map(engine.get, (b"%06d" % n for n in range(20_000))))
    with pytest.raises(Corruption) as caught:
        engine.firsts([(b"%06d" % n, b"%06d" % (n + 1)) for n in range(20_000)])
    assert caught.value.code == "engine_corrupt"
    engine.close()
    RocksEngine(tmp_path / "e").close()


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        *((pattern, "gone") for pattern in ("CURRENT", "MANIFEST-*", "*.sst")),
        *((pattern, "changed") for pattern in ("CURRENT", "MANIFEST-*", "*.sst")),
        # A cut MANIFEST is a torn one to RocksDB: an older state, which the node must notice.
        *((pattern, "cut") for pattern in ("CURRENT", "*.sst")),
    ],
)
def test_a_damaged_database_is_refused_on_opening(
    tmp_path: Path, pattern: str, damage: str
) -> None:
    large(tmp_path / "e")
    [victim] = (tmp_path / "e").glob(pattern)
    data = bytearray(victim.read_bytes())
    if damage == "gone":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(data[: len(data) // 2])
    else:
        data[-60:] = bytes(byte ^ 0x5A for byte in data[-60:])
        victim.write_bytes(data)
    with pytest.raises(Corruption) as caught:
        RocksEngine(tmp_path / "e")
    assert caught.value.code == "engine_corrupt"
    assert str(tmp_path / "e") in caught.value.message


def test_an_engine_without_its_root_file_is_never_begun_anew(tmp_path: Path) -> None:
    large(tmp_path / "e")
    for path in (tmp_path / "e").iterdir():
        if path.suffix != ".sst":
            path.unlink()
    with pytest.raises(Corruption):
        RocksEngine(tmp_path / "e")


def test_writes_go_on_while_another_thread_flushes(rocks: RocksEngine) -> None:
    rocks.write([(b"%06d" % n, bytes(100)) for n in range(50_000)])
    flusher = threading.Thread(target=rocks.flush)
    flusher.start()
    rocks.write([(b"later", b"1")])
    flusher.join()
    assert rocks.get(b"later") == b"1"
    assert sum(1 for _ in rocks.scan(b"", None)) == 50_001
