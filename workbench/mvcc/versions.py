"""Which version a reader sees: the newest at or below its read_ts, unless that shows nothing.

    engine, ascending      a@9  a@4  a@2  b@7✝  b@3  c@8        ✝ tombstone
    read_ts = 5                 a@4             b@3
    read_ts = 7                 a@4       ✗                     b is hidden

- A tombstone shows nothing, and neither does a put whose expiry is not after read_ts: older
  versions stay hidden behind it. Expiry is judged by read_ts, never by a clock.
- A point read is one seek: the first pair at or after the version key of read_ts, among the
  versions of that key.
- A scan is one pass over the engine, so all its rows are of one moment; it steps over versions
  that it does not show, once each, and never decodes a key that it does not yield.
- The range of the scan is half open; a reverse scan yields the same rows, descending.

Waiting until a read_ts may be served, and limits on a page, are the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import Corruption
from workbench.model.node import StoredVersion
from workbench.model.times import hlc_ms
from workbench.mvcc.encoding import (
    COMMIT_TS_BYTES,
    decode_stored,
    inverted_ts,
    span_range,
    split_version_key,
    version_key,
    versions_range,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workbench.ports.storage import Change, Engine


def get(engine: Engine, prefix: bytes, key: bytes, read_ts: int) -> StoredVersion | None:
    """Return the value of `key` as of `read_ts` (HLC), None where it had none.

    Raises:
        Corruption: `mvcc_key_invalid` or `mvcc_value_invalid`.
    """
    _, end = versions_range(prefix, key)
    for data, stored in engine.scan(version_key(prefix, key, read_ts), end):
        _, commit_ts = split_version_key(prefix, data)
        value = _decode(data, stored, read_ts)
        return None if value is None else StoredVersion(value, commit_ts)
    return None


def latest_commit_ts(engine: Engine, prefix: bytes, key: bytes) -> int | None:
    """Return the commit_ts (HLC) of the newest version of `key`, also of a tombstone.

    Raises:
        Corruption: `mvcc_key_invalid`.
    """
    for data, _ in engine.scan(*versions_range(prefix, key)):
        return split_version_key(prefix, data)[1]
    return None


def scan(  # noqa: PLR0913  a span of an engine at a time, in a direction: all six belong together
    engine: Engine,
    prefix: bytes,
    start: bytes,
    end: bytes | None,
    read_ts: int,
    *,
    reverse: bool = False,
) -> Iterator[tuple[bytes, StoredVersion]]:
    """Yield (key, value) of the keys of [start, end) that had a value as of `read_ts` (HLC).

    Ascending by key, or descending. Time is linear in the stored versions of the keys passed.

    Raises:
        Corruption: `mvcc_key_invalid` or `mvcc_value_invalid`, when the pass reaches it.
    """
    if end is not None and start >= end:
        return
    low, high = span_range(prefix, start, end)
    pairs = engine.scan(low, high, reverse=reverse)
    # Inverted timestamps are compared as bytes, in the order opposite to that of commit_ts.
    newest = inverted_ts(read_ts)
    chosen = _newest_last(pairs, newest) if reverse else _newest_first(pairs, newest)
    for data, stored in chosen:
        key, commit_ts = split_version_key(prefix, data)
        value = _decode(data, stored, read_ts)
        if value is not None:
            yield key, StoredVersion(value, commit_ts)


def _newest_first(
    pairs: Iterator[tuple[bytes, bytes]], newest: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Yield per key the first pair that is not above read_ts; versions come newest first."""
    done: bytes | None = None  # the encoded key whose visible version has been yielded
    for pair in pairs:
        data = pair[0]
        if data[-COMMIT_TS_BYTES:] >= newest and data[:-COMMIT_TS_BYTES] != done:
            done = data[:-COMMIT_TS_BYTES]
            yield pair


def _newest_last(
    pairs: Iterator[tuple[bytes, bytes]], newest: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Yield per key the last pair that is not above read_ts; versions come oldest first."""
    held: tuple[bytes, bytes] | None = None
    encoded: bytes | None = None  # of the held pair
    for pair in pairs:
        data = pair[0]
        if data[-COMMIT_TS_BYTES:] < newest:
            continue
        if held is not None and data[:-COMMIT_TS_BYTES] != encoded:
            yield held
        held, encoded = pair, data[:-COMMIT_TS_BYTES]
    if held is not None:
        yield held


def newest(
    engine: Engine, prefix: bytes, key: bytes, pending: Sequence[Change] = ()
) -> tuple[int, bytes | None, int] | None:
    """Return commit_ts (HLC), value and expiry (Unix ms) of the newest version of `key`.

    Args:
        engine: Where versions are.
        prefix: Of their engine keys.
        key: Whose.
        pending: Changes that the engine will get before anything else.

    Raises:
        Corruption: `mvcc_key_invalid` or `mvcc_value_invalid`.
    """
    low, high = versions_range(prefix, key)
    found = min((each for each in pending if low <= each[0] < high), default=None)
    stored = found or next(engine.scan(low, high), None)
    if stored is None or stored[1] is None:
        return None
    _, commit_ts = split_version_key(prefix, stored[0])
    return commit_ts, *decode_stored(stored[1])


def _decode(data: bytes, stored: bytes, read_ts: int) -> bytes | None:
    """Return what a reader sees of a version; an error names its engine key."""
    try:
        value, expire_at_ms = decode_stored(stored)
        return None if expire_at_ms and expire_at_ms <= hlc_ms(read_ts) else value
    except Corruption as error:
        raise Corruption(
            f"{error.message}, under engine key {data.hex()}", code=error.code, hint=error.hint
        ) from error
