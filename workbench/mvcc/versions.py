"""Which version a reader sees: the newest at or below its read_ts, unless that shows nothing.

    engine, ascending      a@9  a@4  a@2  b@7✝  b@3  c@8        ✝ tombstone
    read_ts = 5                 a@4             b@3
    read_ts = 7                 a@4       ✗                     b is hidden

- A tombstone shows nothing, and neither does a put whose expiry is not after read_ts: older
  versions stay hidden behind it. Expiry is judged by read_ts, never by a clock.
- A point read is one seek: the first pair at or after the version key of read_ts, among the
  versions of that key.
- A scan is one pass over the engine; it steps over versions that it does not show, once each, and
  never decodes a key that it does not yield. Of a key with many it passes RUN_MAX, and seeks the
  end of the others. Rows at or below a read_ts that may be served do not change, so all that it
  yields is of one moment.
- Versions that it does not show cost time and yield nothing: `Passed` bounds them, so that a scan
  over a range of deleted keys is cut into parts.
- The range of the scan is half open; a reverse scan yields the same rows, descending.

Waiting until a read_ts may be served, and limits on a page, are the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.errors import Corruption, InvalidInput
from workbench.model.limits import ANSWER_BYTES_MAX
from workbench.model.node import StoredVersion
from workbench.model.times import hlc_ms
from workbench.mvcc.encoding import (
    COMMIT_TS_BYTES,
    decode_stored,
    end_of_versions,
    inverted_ts,
    span_range,
    split_version_key,
    versions_range,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workbench.ports.storage import Engine

# Of many keys so many are read before it is asked how much their values have together: a value
# may have 1 MiB, and thousands of keys may be asked for.
KEYS_AT_ONCE: Final = 64
# A seek costs as much as passing about so many versions.
RUN_MAX: Final = 64


def get(engine: Engine, prefix: bytes, key: bytes, read_ts: int) -> StoredVersion | None:
    """Return the value of `key` as of `read_ts` (HLC), None where it had none.

    Raises:
        Corruption: `mvcc_key_invalid` or `mvcc_value_invalid`.
    """
    return get_many(engine, prefix, (key,), read_ts)[0]


def get_many(
    engine: Engine, prefix: bytes, keys: Sequence[bytes], read_ts: int
) -> list[StoredVersion | None]:
    """Return the values of `keys` as of `read_ts` (HLC), None for each that had none.

    Raises:
        InvalidInput: `answer_too_large`: the values have more than ANSWER_BYTES_MAX together.
        Corruption: `mvcc_key_invalid` or `mvcc_value_invalid`.
    """
    newest = inverted_ts(read_ts)
    found: list[StoredVersion | None] = []
    size = 0
    for first in range(0, len(keys), KEYS_AT_ONCE):
        ranges = [versions_range(prefix, key) for key in keys[first : first + KEYS_AT_ONCE]]
        pairs = engine.firsts([(start + newest, end) for start, end in ranges])
        size += sum(len(pair[1]) for pair in pairs if pair)
        if size > ANSWER_BYTES_MAX:
            raise InvalidInput(
                f"the values of {first + len(ranges)} of {len(keys)} keys have {size} bytes "
                f"together, the limit is {ANSWER_BYTES_MAX}",
                code="answer_too_large",
                hint="ask for fewer keys in one call",
            )
        found += [pair and _version(prefix, *pair, read_ts) for pair in pairs]
    return found


def _version(prefix: bytes, data: bytes, stored: bytes, read_ts: int) -> StoredVersion | None:
    _, commit_ts = split_version_key(prefix, data)
    value = _decode(data, stored, read_ts)
    return None if value is None else StoredVersion(value, commit_ts)


def latest_commit_ts(engine: Engine, prefix: bytes, key: bytes) -> int | None:
    """Return the commit_ts (HLC) of the newest version of `key`, also of a tombstone.

    Raises:
        Corruption: `mvcc_key_invalid`.
    """
    for data, _ in engine.scan(*versions_range(prefix, key)):
        return split_version_key(prefix, data)[1]
    return None


class Passed:
    """How many versions a scan went past without showing them, and how many it may at most.

    Attributes:
        count: So far.
        limit: Where a scan stops, at the next key; None for no bound.
    """

    __slots__ = ("count", "limit")

    def __init__(self, limit: int | None = None) -> None:
        self.count = 0
        self.limit = limit

    @property
    def over(self) -> bool:
        """Whether the scan has to stop."""
        return self.limit is not None and self.count >= self.limit


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

    Ascending by key, or descending. Time is linear in the stored keys passed.

    Raises:
        Corruption: `mvcc_key_invalid` or `mvcc_value_invalid`, when the pass reaches it.
    """
    rows = scan_some(engine, prefix, start, end, read_ts, passed=Passed(), reverse=reverse)
    for key, version in rows:
        assert version is not None, "there is no bound to stop at"
        yield key, version


def scan_some(  # noqa: PLR0913  as `scan`, and where it may stop
    engine: Engine,
    prefix: bytes,
    start: bytes,
    end: bytes | None,
    read_ts: int,
    *,
    passed: Passed,
    reverse: bool = False,
) -> Iterator[tuple[bytes, StoredVersion | None]]:
    """Yield what `scan` does; where it passed too much, at last a key with None: go on there.

    Ascending, that is the first key not looked at; descending, the last one that was, which what
    follows lies below.

    Raises:
        Corruption: `mvcc_key_invalid` or `mvcc_value_invalid`, when the pass reaches it.
    """
    if end is not None and start >= end:
        return
    low, high = span_range(prefix, start, end)
    # Inverted timestamps are compared as bytes, in the order opposite to that of commit_ts.
    newest = inverted_ts(read_ts)
    walk = _newest_last if reverse else _newest_first
    for data, stored in walk(engine, low, high, newest, passed):
        key, commit_ts = split_version_key(prefix, data)
        if stored is None:
            yield key, None
            return
        value = _decode(data, stored, read_ts)
        if value is None:
            passed.count += 1
        else:
            yield key, StoredVersion(value, commit_ts)


def _newest_first(
    engine: Engine, low: bytes, high: bytes | None, newest: bytes, passed: Passed
) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield per key the first pair that is not above read_ts; versions come newest first."""
    current: bytes | None = None  # the encoded key that is being passed
    found, going = False, True
    while going:
        run, going = 0, False
        for pair in engine.scan(low, high):
            data = pair[0]
            encoded = data[:-COMMIT_TS_BYTES]
            if encoded != current:
                if passed.over:
                    yield data, None
                    return
                current, found, run = encoded, False, 0
            if not found and data[-COMMIT_TS_BYTES:] >= newest:
                found = True
                yield pair
                continue
            passed.count += 1
            run += 1
            if run == RUN_MAX:
                low = end_of_versions(encoded) if found else encoded + newest
                going = True
                break


def _newest_last(
    engine: Engine, low: bytes, high: bytes | None, newest: bytes, passed: Passed
) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield per key the last pair that is not above read_ts; versions come oldest first."""
    held: tuple[bytes, bytes] | None = None
    current: bytes | None = None  # the encoded key that is being passed
    before = b""  # the pair before this one
    going = True
    while going:
        run, going = 0, False
        for pair in engine.scan(low, high, reverse=True):
            data = pair[0]
            encoded = data[:-COMMIT_TS_BYTES]
            if encoded != current:
                if held is not None:
                    yield held
                    held = None
                if passed.over:
                    yield before, None
                    return
                current, run = encoded, 0
            before = data
            if data[-COMMIT_TS_BYTES:] >= newest:
                passed.count += held is not None
                held = pair
            else:
                passed.count += 1
            run += 1
            if run == RUN_MAX:
                [held] = engine.firsts([(encoded + newest, end_of_versions(encoded))])
                high, going = encoded, True
                break
    if held is not None:
        yield held


def _decode(data: bytes, stored: bytes, read_ts: int) -> bytes | None:
    """Return what a reader sees of a version; an error names its engine key."""
    try:
        value, expire_at_ms = decode_stored(stored)
        return None if expire_at_ms and expire_at_ms <= hlc_ms(read_ts) else value
    except Corruption as error:
        raise Corruption(
            f"{error.message}, under engine key {data.hex()}", code=error.code, hint=error.hint
        ) from error
