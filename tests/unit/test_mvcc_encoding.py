"""Engine keys and values of versions: vectors written by hand, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workbench.errors import Corruption
from workbench.mvcc import encoding

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/formats/mvcc.md"
PREFIX = b"v\x00\x07"
# user key, commit_ts, escaped key, inverted commit_ts
VECTORS = [
    ("", 0, "0001", "ffffffffffffffff"),
    ("61", 1, "610001", "fffffffffffffffe"),
    ("6100", 258, "6100ff0001", "fffffffffffffefd"),
    ("610001", 258, "6100ff010001", "fffffffffffffefd"),
    ("00ff", 2**64 - 1, "00ffff0001", "0000000000000000"),
]


def offset_of(error: Corruption) -> int:
    found = re.search(r"at offset (\d+)", error.message)
    assert found, error.message
    return int(found[1])


def refused(data: bytes) -> int:
    with pytest.raises(Corruption) as caught:
        encoding.split_version_key(PREFIX, data)
    assert caught.value.code == "mvcc_key_invalid"
    assert data.hex() in caught.value.message
    return offset_of(caught.value)


@pytest.mark.parametrize(("key", "commit_ts", "escaped", "inverted"), VECTORS)
def test_engine_key_is_as_documented(key, commit_ts, escaped, inverted):
    user_key, data = bytes.fromhex(key), PREFIX + bytes.fromhex(escaped + inverted)
    assert encoding.version_key(PREFIX, user_key, commit_ts) == data
    assert encoding.split_version_key(PREFIX, data) == (user_key, commit_ts)
    assert encoding.encode_key(user_key) == bytes.fromhex(escaped)
    assert encoding.decode_key(bytes.fromhex(escaped)) == user_key


def test_document_shows_the_vectors():
    rows = re.findall(
        r"^\| (\S+) \| (\d+) \| `(\w+)` `(\w+)` \|$", DOCUMENT.read_text(), re.MULTILINE
    )
    shown = [("" if k == "(empty)" else k.strip("`"), int(ts), e, i) for k, ts, e, i in rows]
    assert shown == VECTORS


def test_every_truncation_of_an_engine_key_is_refused():
    data = encoding.version_key(PREFIX, b"a\x00b", 2**63 + 5)
    for size in range(len(data)):
        assert refused(data[:size]) <= size


@pytest.mark.parametrize(
    ("escaped", "offset"),
    [
        ("0001", None),
        ("61", 3),
        ("6100", 3),
        ("000001", 3),
        ("61000001", 4),
        ("6100010001", 4),
        ("61000061 0001", 4),
        ("00ff00 0001", 5),
        ("00ff 00fe 0001", 5),
        ("0000ffff 0001", 3),
        ("00ff 0002", 5),
    ],
)
def test_malformed_escaped_key_is_refused_at_the_byte_that_is_wrong(escaped, offset):
    data = PREFIX + bytes.fromhex(escaped) + b"\xff" * 8
    if offset is None:
        assert encoding.split_version_key(PREFIX, data) == (b"", 0)
    else:
        assert refused(data) == (offset if len(data) > len(PREFIX) + 9 else len(data))


def test_engine_key_of_another_prefix_is_refused():
    data = encoding.version_key(b"v\x00\x08", b"a", 5)
    assert refused(data) == 0


@pytest.mark.parametrize("encoded", [b"", b"\x01", b"a", b"a\x00", b"a\x00\x02", b"\x00\x00\x01"])
def test_decode_key_refuses_what_encode_key_never_gives(encoded):
    with pytest.raises(Corruption) as caught:
        encoding.decode_key(encoded)
    assert caught.value.code == "mvcc_key_invalid"


def test_value_that_expires_says_when_before_what_was_put():
    stored = encoding.encode_value(b"v", 258)
    assert stored == b"\x03" + bytes.fromhex("0000000000000102") + b"v"
    assert encoding.decode_stored(stored) == (b"v", 258)
    assert encoding.decode_value(stored) == b"v"
    for size in range(9):
        with pytest.raises(Corruption):
            encoding.decode_stored(stored[:size])


def test_value_is_a_kind_byte_and_what_was_put():
    assert encoding.encode_value(b"") == b"\x01"
    assert encoding.encode_value(b"\x02x") == b"\x01\x02x"
    assert encoding.encode_value(None) == b"\x02"
    for value in (b"", b"\x02x", None):
        assert encoding.decode_value(encoding.encode_value(value)) == value


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"", 0),
        (b"\x00", 0),
        (b"\x04abc", 0),
        (b"\x03abc", 1),
        (b"\x03" + bytes(8) + b"v", 1),
        (b"\xff", 0),
        (b"\x02\x00", 1),
        (b"\x02\x02", 1),
    ],
)
def test_unknown_kind_and_bytes_behind_a_tombstone_are_refused(data, offset):
    with pytest.raises(Corruption) as caught:
        encoding.decode_value(data)
    assert caught.value.code == "mvcc_value_invalid"
    assert offset_of(caught.value) == offset


@pytest.mark.parametrize(
    ("prefix", "after"),
    [(b"a", b"b"), (b"a\xff", b"b"), (b"a\xff\x00", b"a\xff\x01"), (b"\xff", None), (b"", None)],
)
def test_range_without_an_upper_bound_ends_behind_the_prefix(prefix, after):
    assert encoding.after_prefix(prefix) == after
    assert encoding.span_range(prefix, b"k", None) == (prefix + b"k\x00\x01", after)
