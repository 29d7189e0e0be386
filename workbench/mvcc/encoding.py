"""Versions as engine keys and values, byte for byte; docs/formats/mvcc.md is the format.

    engine key    prefix │ key, each 00 as 00 FF │ 00 01 │ 2**64 - 1 - commit_ts, u64 BE
    engine value  01 │ value                                             put
                  02                                                     tombstone
                  03 │ expire_at_ms, u64 BE │ value                      put that expires

- Engine keys sort as (key, newest commit_ts first) for all byte strings. The terminator 00 01
  sorts below every byte that can follow in a longer key: 00 FF for a zero byte, else 01 or more.
- No encoded key is a prefix of another one, so all versions of a key are one contiguous range.
- A prefix belongs to the caller; none may be a prefix of another one. Below it lies nothing but
  versions.

Bytes come from a disk: what is not of this form raises Corruption, never a wrong answer.
Nothing here decides which version a reader sees; that is `versions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.errors import Corruption

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMIT_TS_MAX: Final = 2**64 - 1
COMMIT_TS_BYTES: Final = 8

_ZERO: Final = b"\x00"
_ESCAPED_ZERO: Final = b"\x00\xff"
_TERMINATOR: Final = b"\x00\x01"
_TAIL_BYTES: Final = len(_TERMINATOR) + COMMIT_TS_BYTES
_PUT: Final = b"\x01"
_TOMBSTONE: Final = b"\x02"
_EXPIRING: Final = b"\x03"
# Of an engine value before what was put: its kind, and when it expires.
EXPIRING_BYTES: Final = 1 + 8


def encode_key(user_key: bytes) -> bytes:
    """Return `user_key` in its order-preserving, self-terminating form; at most 2 n + 2 bytes."""
    return user_key.replace(_ZERO, _ESCAPED_ZERO) + _TERMINATOR


def decode_key(encoded: bytes) -> bytes:
    """Return the key of which `encoded` is the whole encoding.

    Raises:
        Corruption: `mvcc_key_invalid`, with the offset in `encoded`.
    """
    high = max(0, len(encoded) - len(_TERMINATOR))
    if encoded[high:] != _TERMINATOR:
        raise _bad_key(encoded, high, "does not end with the terminator 00 01")
    return _unescape(encoded, 0, high)


def version_key(prefix: bytes, key: bytes, commit_ts: int) -> bytes:
    """Return the engine key of the version of `key` at `commit_ts` (HLC, u64)."""
    return prefix + encode_key(key) + inverted_ts(commit_ts)


def version_keys(prefix: bytes, keys: Iterable[bytes], commit_ts: int) -> list[bytes]:
    """Return the engine keys of versions of many keys at one `commit_ts` (HLC, u64)."""
    tail = _TERMINATOR + inverted_ts(commit_ts)
    return [prefix + key.replace(_ZERO, _ESCAPED_ZERO) + tail for key in keys]


def split_version_key(prefix: bytes, data: bytes) -> tuple[bytes, int]:
    """Return (key, commit_ts) of an engine key below `prefix`.

    Raises:
        Corruption: `mvcc_key_invalid`, with the offset in `data`.
    """
    if not data.startswith(prefix):
        raise _bad_key(data, 0, f"does not start with the prefix {prefix.hex()}")
    high = len(data) - _TAIL_BYTES
    if high < len(prefix):
        raise _bad_key(data, len(data), "ends before its terminator and commit_ts")
    if data[high:-COMMIT_TS_BYTES] != _TERMINATOR:
        raise _bad_key(data, high, "has no terminator 00 01 before its commit_ts")
    commit_ts = COMMIT_TS_MAX - int.from_bytes(data[-COMMIT_TS_BYTES:], "big")
    return _unescape(data, len(prefix), high), commit_ts


def inverted_ts(commit_ts: int) -> bytes:
    """Return the 8 bytes that end an engine key; a later commit_ts sorts before an earlier one."""
    assert 0 <= commit_ts <= COMMIT_TS_MAX
    return (COMMIT_TS_MAX - commit_ts).to_bytes(COMMIT_TS_BYTES, "big")


def versions_range(prefix: bytes, key: bytes) -> tuple[bytes, bytes]:
    """Return the engine range [start, end) of all versions of one key."""
    start = prefix + encode_key(key)
    return start, end_of_versions(start)


def end_of_versions(start: bytes) -> bytes:
    """Return what ends the range of a key's versions, of which `start` is the beginning."""
    # No encoded key holds 00 02, so nothing else lies between.
    return start[:-1] + b"\x02"


def span_range(prefix: bytes, start: bytes, end: bytes | None) -> tuple[bytes, bytes | None]:
    """Return the engine range [start, end) of all versions of all keys of a span."""
    low = prefix + encode_key(start)
    return low, after_prefix(prefix) if end is None else prefix + encode_key(end)


def after_prefix(prefix: bytes) -> bytes | None:
    """Return the least byte string above all that start with `prefix`; None where none is."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None


def encode_value(value: bytes | None, expire_at_ms: int = 0) -> bytes:
    """Return the engine value of a put, or of a tombstone where `value` is None.

    Args:
        value: What was put.
        expire_at_ms: Unix milliseconds, u64; 0 for never, and for a tombstone.
    """
    if not expire_at_ms:
        return _TOMBSTONE if value is None else _PUT + value
    assert value is not None
    return b"".join((_EXPIRING, expire_at_ms.to_bytes(8, "big"), value))


def decode_value(data: bytes) -> bytes | None:
    """Return the value that was put, also where it has expired, None for a tombstone.

    Raises:
        Corruption: `mvcc_value_invalid`, with the offset.
    """
    return decode_stored(data)[0]


def decode_stored(data: bytes) -> tuple[bytes | None, int]:
    """Return the value that was put, None for a tombstone, and when (Unix ms) it expires; 0: never.

    Raises:
        Corruption: `mvcc_value_invalid`, with the offset.
    """
    kind = data[:1]
    if kind == _PUT:
        return data[1:], 0
    if data == _TOMBSTONE:
        return None, 0
    if kind == _EXPIRING:
        expire_at_ms = int.from_bytes(data[1:EXPIRING_BYTES], "big")
        if len(data) < EXPIRING_BYTES or not expire_at_ms:
            raise _bad_value(1, "a put that expires does not say when")
        return data[EXPIRING_BYTES:], expire_at_ms
    if kind == _TOMBSTONE:
        raise _bad_value(1, f"a tombstone is followed by {len(data) - 1} bytes")
    raise _bad_value(0, f"the kind byte {kind.hex()} is unknown" if kind else "it is empty")


def _unescape(data: bytes, low: int, high: int) -> bytes:
    """Return the key whose escaped form is data[low:high]."""
    body = data[low:high]
    at = body.find(_ZERO)
    if at < 0:
        return body
    while at >= 0:
        if body[at : at + 2] != _ESCAPED_ZERO:
            raise _bad_key(data, low + at, "has a 00 that FF does not follow")
        at = body.find(_ZERO, at + 2)
    return body.replace(_ESCAPED_ZERO, _ZERO)


def _bad_key(data: bytes, offset: int, why: str) -> Corruption:
    return Corruption(
        f"engine key {data.hex()} {why}, at offset {offset}",
        code="mvcc_key_invalid",
        hint="the engine's files were damaged or written by another program",
    )


def _bad_value(offset: int, why: str) -> Corruption:
    return Corruption(
        f"stored version is malformed at offset {offset}: {why}",
        code="mvcc_value_invalid",
        hint="the engine's files were damaged or written by another program",
    )
