"""Versions against a dict of histories: every read_ts, every range, both directions."""

from __future__ import annotations

import pytest
from engines import MemoryEngine
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import Corruption
from workbench.mvcc import encoding, versions

# Few different bytes, all of them special somewhere, so that keys often begin alike.
KEYS = st.lists(st.sampled_from([0x00, 0x01, 0x02, 0x61, 0xFE, 0xFF]), max_size=4).map(bytes)
ANY_KEYS = KEYS | st.binary(max_size=20)
STAMPS = st.integers(1, 12)
PREFIXES = st.sampled_from([b"", b"v", b"v\xff", b"\xff\xff", b"g\x00\x01"])
HISTORIES = st.dictionaries(
    KEYS, st.dictionaries(STAMPS, st.none() | st.binary(max_size=3), max_size=5), max_size=8
)


def engine_of(prefix, histories):
    engine = MemoryEngine()
    engine.write(
        [
            (encoding.version_key(prefix, key, ts), encoding.encode_value(value))
            for key, history in histories.items()
            for ts, value in history.items()
        ]
    )
    return engine


def visible(history, read_ts):
    """Return (value, commit_ts) as of `read_ts`, None where there is none: the model."""
    newest = max((ts for ts in history if ts <= read_ts), default=None)
    return None if newest is None or history[newest] is None else (history[newest], newest)


@given(ANY_KEYS)
def test_decoding_undoes_encoding(key):
    assert encoding.decode_key(encoding.encode_key(key)) == key


@given(ANY_KEYS, ANY_KEYS, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), PREFIXES)
def test_engine_keys_sort_by_key_then_newest_first(left, right, left_ts, right_ts, prefix):
    encoded = (
        encoding.version_key(prefix, left, left_ts),
        encoding.version_key(prefix, right, right_ts),
    )
    assert (encoded[0] < encoded[1]) == ((left, -left_ts) < (right, -right_ts))
    assert encoding.split_version_key(prefix, encoded[0]) == (left, left_ts)


@given(ANY_KEYS, ANY_KEYS)
def test_no_encoded_key_begins_with_another(left, right):
    one, other = encoding.encode_key(left), encoding.encode_key(right)
    assert left == right or not one.startswith(other)


@given(st.lists(st.sampled_from([0x00, 0x01, 0x02, 0x61, 0xFF]), max_size=14).map(bytes), PREFIXES)
def test_bytes_are_refused_or_are_the_one_encoding_of_what_they_say(data, prefix):
    for each in (data, prefix + data):
        try:
            key, commit_ts = encoding.split_version_key(prefix, each)
        except Corruption:
            continue
        assert encoding.version_key(prefix, key, commit_ts) == each


@given(st.binary(max_size=6))
def test_value_bytes_are_refused_or_are_the_one_encoding_of_what_they_say(data):
    try:
        value = encoding.decode_value(data)
    except Corruption:
        return
    assert encoding.encode_value(value) == data


@given(HISTORIES, KEYS, PREFIXES)
def test_get_and_latest_commit_ts_are_those_of_the_model(histories, absent, prefix):
    engine = engine_of(prefix, histories)
    for key in {*histories, absent}:
        history = histories.get(key, {})
        assert versions.latest_commit_ts(engine, prefix, key) == max(history, default=None)
        for read_ts in range(14):
            found = versions.get(engine, prefix, key, read_ts)
            seen = None if found is None else (found.value, found.commit_ts)
            assert seen == visible(history, read_ts)


@given(HISTORIES, KEYS, st.none() | KEYS, PREFIXES)
def test_scan_is_that_of_the_model_at_every_read_ts_in_both_directions(
    histories, start, end, prefix
):
    engine = engine_of(prefix, histories)
    for read_ts in range(14):
        expected = [
            (key, seen)
            for key in sorted(histories)
            if start <= key and (end is None or key < end)
            if (seen := visible(histories[key], read_ts)) is not None
        ]
        for reverse in (False, True):
            rows = versions.scan(engine, prefix, start, end, read_ts, reverse=reverse)
            found = [(key, (each.value, each.commit_ts)) for key, each in rows]
            assert found == (expected[::-1] if reverse else expected)


def in_parts(engine, prefix, read_ts, limit, *, reverse):
    """Scan the whole prefix, in parts that pass `limit` versions each; return rows and parts."""
    start, end, rows, parts = b"", None, [], 0
    while True:
        parts += 1
        passed = versions.Passed(limit)
        stopped = None
        for key, version in versions.scan_some(
            engine, prefix, start, end, read_ts, passed=passed, reverse=reverse
        ):
            if version is None:
                stopped = key
            else:
                assert stopped is None
                rows.append((key, (version.value, version.commit_ts)))
        if stopped is None:
            return rows, parts
        if reverse:
            assert end is None or stopped < end
            end = stopped
        else:
            assert stopped > start
            start = stopped


@given(HISTORIES, PREFIXES, st.integers(1, 4), st.integers(1, 3))
def test_a_scan_in_parts_that_seeks_past_long_histories_is_that_of_the_model(
    histories, prefix, limit, run_max
):
    engine = engine_of(prefix, histories)
    usual, versions.RUN_MAX = versions.RUN_MAX, run_max
    try:
        for read_ts in range(14):
            seen = [(key, visible(histories[key], read_ts)) for key in sorted(histories)]
            expected = [row for row in seen if row[1] is not None]
            assert in_parts(engine, prefix, read_ts, limit, reverse=False)[0] == expected
            assert in_parts(engine, prefix, read_ts, limit, reverse=True)[0] == expected[::-1]
    finally:
        versions.RUN_MAX = usual


@pytest.mark.parametrize("reverse", [False, True])
def test_a_thousand_tombstones_take_parts_and_a_key_written_a_thousand_times_does_not(reverse):
    gone = {b"g%04d" % number: {1: b"v", 2: None} for number in range(1_000)}
    engine = engine_of(b"v", gone | {b"z": {3: b"last"}})
    rows, parts = in_parts(engine, b"v", 9, 100, reverse=reverse)
    assert rows == [(b"z", (b"last", 3))]
    assert parts >= 10
    often = {b"k": dict.fromkeys(range(1, 1000), b"v")}
    for read_ts in (0, 500, 2_000):
        passed = versions.Passed(1_000)
        engine = engine_of(b"v", often | {b"a": {1: b"v"}, b"z": {1: b"v"}})
        found = [
            key
            for key, _ in versions.scan_some(
                engine, b"v", b"", None, read_ts, passed=passed, reverse=reverse
            )
        ]
        expected = sorted([b"a", b"k", b"z"], reverse=reverse) if read_ts else []
        assert found == expected
        assert passed.count <= 2 * versions.RUN_MAX + 2


@given(HISTORIES, PREFIXES)
def test_ranges_hold_exactly_the_versions_of_their_keys(histories, prefix):
    engine = engine_of(prefix, histories)
    for key, history in histories.items():
        assert len(list(engine.scan(*encoding.versions_range(prefix, key)))) == len(history)
    below = [key for key in histories if key < b"a"]
    held = engine.scan(*encoding.span_range(prefix, b"", b"a"))
    assert len(list(held)) == sum(len(histories[key]) for key in below)


@pytest.mark.parametrize(
    ("encode", "witness"),
    [
        (lambda key: key + b"\x00", (b"a", b"a\x00b")),
        (lambda key: key.replace(b"\x00", b"\x00\x01") + b"\x00\x01", (b"a", b"a\x00")),
        (lambda key: len(key).to_bytes(2, "big") + key, (b"aa", b"b")),
    ],
    ids=["no escape", "escape like the terminator", "length first"],
)
def test_unsound_encodings_are_caught_by_the_witnesses_of_order(encode, witness):
    """The usual mistakes break order or versions; ours keeps both on the same keys."""
    left, right = witness

    def sound(encoded):
        pairs = [(encoded(left) + b"\xff" * 8, left), (encoded(right) + b"\x00" * 8, right)]
        return [key for _, key in sorted(pairs)] == [left, right] and not encoded(right).startswith(
            encoded(left)
        )

    assert not sound(encode)
    assert sound(encoding.encode_key)
