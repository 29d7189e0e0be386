"""Visibility: what a read and a scan show, how much of the engine they touch, what they refuse."""

from __future__ import annotations

from itertools import islice

import pytest
from engines import MemoryEngine

from workbench.errors import Corruption
from workbench.model.node import StoredVersion
from workbench.mvcc import versions
from workbench.mvcc.encoding import encode_value, version_key

PREFIX = b"v1"
HISTORY = [
    (b"a", 2, b"a2"),
    (b"a", 4, b"a4"),
    (b"a", 9, b"a9"),
    (b"b", 3, b"b3"),
    (b"b", 7, None),
    (b"c", 8, b""),
]


class CountingEngine(MemoryEngine):
    """Counts seeks, and the pairs that were taken from them."""

    def __init__(self, rows=None):
        super().__init__(rows)
        self.seeks = 0
        self.taken = 0

    def scan(self, start, end, *, reverse=False):
        self.seeks += 1
        return self._counted(super().scan(start, end, reverse=reverse))

    def _counted(self, pairs):
        for pair in pairs:
            self.taken += 1
            yield pair


def engine_of(history, prefix=PREFIX):
    engine = CountingEngine()
    engine.write([(version_key(prefix, k, ts), encode_value(value)) for k, ts, value in history])
    return engine


@pytest.fixture
def engine():
    return engine_of(HISTORY)


def scanned(engine, read_ts, start=b"", end=None, *, reverse=False):
    rows = versions.scan(engine, PREFIX, start, end, read_ts, reverse=reverse)
    return [(key, version.value) for key, version in rows]


def test_many_keys_are_read_as_each_by_itself(engine):
    keys = [b"c", b"a", b"nothing", b"b", b"a", b""]
    for read_ts in range(10):
        each = [versions.get(engine, PREFIX, key, read_ts) for key in keys]
        assert versions.get_many(engine, PREFIX, keys, read_ts) == each
    assert versions.get_many(engine, PREFIX, (), 9) == []


def test_get_shows_the_newest_version_at_or_below_read_ts(engine):
    seen = [
        versions.get(engine, PREFIX, b"a", read_ts) for read_ts in (1, 2, 3, 4, 8, 9, 2**64 - 1)
    ]
    a2, a4, a9 = StoredVersion(b"a2", 2), StoredVersion(b"a4", 4), StoredVersion(b"a9", 9)
    assert seen == [None, a2, a2, a4, a4, a9, a9]


def test_tombstone_hides_a_key_from_its_commit_ts_on(engine):
    assert versions.get(engine, PREFIX, b"b", 6) == StoredVersion(b"b3", 3)
    assert versions.get(engine, PREFIX, b"b", 7) is None
    assert scanned(engine, 6) == [(b"a", b"a4"), (b"b", b"b3")]
    assert scanned(engine, 7) == [(b"a", b"a4")]


def test_empty_value_is_a_value(engine):
    assert versions.get(engine, PREFIX, b"c", 8) == StoredVersion(b"", 8)
    assert scanned(engine, 9) == [(b"a", b"a9"), (b"c", b"")]


def test_latest_commit_ts_counts_tombstones(engine):
    keys = (b"a", b"b", b"c", b"", b"aa")
    assert [versions.latest_commit_ts(engine, PREFIX, key) for key in keys] == [9, 7, 8, None, None]


def test_keys_that_begin_alike_and_other_prefixes_do_not_mix():
    engine = engine_of([(b"a", 1, b"short"), (b"a\x00", 5, b"zero"), (b"a\x00\x01", 5, b"long")])
    other = engine_of([(b"a", 9, b"other")], prefix=b"v2").rows
    engine.write(list(other.items()))
    assert versions.get(engine, PREFIX, b"a", 9) == StoredVersion(b"short", 1)
    assert versions.get(engine, PREFIX, b"", 9) is None
    assert versions.latest_commit_ts(engine, PREFIX, b"a") == 1
    assert [value for _, value in scanned(engine, 9)] == [b"short", b"zero", b"long"]
    assert [value for _, value in scanned(engine, 9, reverse=True)] == [b"long", b"zero", b"short"]


def test_scan_is_half_open_in_both_directions(engine):
    assert scanned(engine, 6, b"a", b"b") == [(b"a", b"a4")]
    assert scanned(engine, 6, b"a\x00", None) == [(b"b", b"b3")]
    assert scanned(engine, 6, b"a", b"b\x00", reverse=True) == [(b"b", b"b3"), (b"a", b"a4")]


@pytest.mark.parametrize("span", [(b"b", b"b"), (b"c", b"a"), (b"a", b"")])
def test_empty_range_shows_nothing_and_asks_nothing(engine, span):
    assert scanned(engine, 9, *span) == scanned(engine, 9, *span, reverse=True) == []
    assert engine.seeks == 0


def test_point_reads_are_one_seek_and_one_pair_however_many_versions_there_are():
    engine = engine_of([(b"k", ts, b"x") for ts in range(1, 2001)])
    assert versions.get(engine, PREFIX, b"k", 1000) == StoredVersion(b"x", 1000)
    assert versions.latest_commit_ts(engine, PREFIX, b"k") == 2000
    assert (engine.seeks, engine.taken) == (2, 2)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("read_ts", [0, 1, 500, 1000])
def test_scan_seeks_past_keys_with_many_versions(read_ts, reverse):
    history = [(key, ts, b"x") for key in (b"a", b"b", b"c") for ts in range(1, 1001)]
    engine = engine_of(history)
    rows = scanned(engine, read_ts, reverse=reverse)
    assert len(rows) == (3 if read_ts else 0)
    # Per key: versions up to the bound, a seek; a look for the one, or versions behind it, a seek.
    assert engine.seeks <= 1 + 3 * 2
    assert engine.taken <= 3 * 2 * (versions.RUN_MAX + 1)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_of_keys_with_few_versions_is_one_seek_and_passes_each_once(reverse):
    history = [(b"%02d" % number, ts, b"x") for number in range(50) for ts in range(1, 41)]
    engine = engine_of(history)
    assert len(scanned(engine, 20, reverse=reverse)) == 50
    assert (engine.seeks, engine.taken) == (1, len(history))


def test_scan_that_is_left_early_has_not_read_the_rest():
    engine = engine_of([(b"%04d" % number, 1, b"x") for number in range(1000)])
    assert len(list(islice(versions.scan(engine, PREFIX, b"", None, 1), 10))) == 10
    assert engine.taken == 10


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_shows_one_moment_while_writes_go_on(engine, reverse):
    rows = versions.scan(engine, PREFIX, b"", None, 9, reverse=reverse)
    first = next(rows)
    engine.write([(version_key(PREFIX, b"b", 9), encode_value(b"late"))])
    assert [first[0], *(key for key, _ in rows)] == ([b"c", b"a"] if reverse else [b"a", b"c"])


# --- damage


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("stored", [b"", b"\x03x", b"\x02x"])
def test_damaged_value_is_corruption_under_its_key_never_absence(engine, stored, reverse):
    damaged = version_key(PREFIX, b"b", 3)
    engine.write([(damaged, stored)])
    with pytest.raises(Corruption, match=damaged.hex()) as caught:
        versions.get(engine, PREFIX, b"b", 5)
    assert caught.value.code == "mvcc_value_invalid"
    with pytest.raises(Corruption, match=damaged.hex()):
        scanned(engine, 5, reverse=reverse)
    assert scanned(engine, 8, reverse=False) == [(b"a", b"a4"), (b"c", b"")], "it is not shown"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("data", [b"a", b"ab\x00\x01", b"b\x00\x02" + b"\xff" * 8])
def test_row_that_is_no_version_is_corruption_in_a_scan(engine, data, reverse):
    engine.write([(PREFIX + data, b"\x01")])
    with pytest.raises(Corruption) as caught:
        scanned(engine, 2**64 - 1, reverse=reverse)
    assert caught.value.code == "mvcc_key_invalid"


def test_longer_row_among_the_versions_of_a_key_is_corruption(engine):
    engine.write([(PREFIX + b"a\x00\x01\x00", b"\x01")])
    with pytest.raises(Corruption):
        versions.latest_commit_ts(engine, PREFIX, b"a")
