"""Exactly once: the first result of each write, kept by client and sequence.

    sequences of a client    … 11 12 │ 13 14 15 17      at most DEDUPE_SEQUENCES_MAX are kept
                              refused │ answered again   16: new

Rules:
- A kept (client, sequence) is answered with its first result; nothing is written again.
- A sequence older than those kept may have been written or not: it is refused as unknown, and
  never written. What makes it "older": it is not above the client's mark, or the client's
  window is full and begins above it.
- Entries expire by HLC: those whose commit_ts lies DEDUPE_EXPIRY_MS before the commit_ts of the
  command being applied. Expiry raises the client's mark, which stays for good: one small row
  per client is the price of never applying a late retry twice.
- Refusals are never stored.

All of it is a function of the log: changes go into the batch of the entry that causes them, and
a restart finds the same table in the engine. The smallest and largest key of each write are
kept on disk only; a move of a span to another group selects by them.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, insort
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from workbench.errors import OutcomeUnknown
from workbench.model.node import Written
from workbench.model.times import hlc_of_ms
from workbench.replica.layout import (
    DEDUPE,
    FORMAT,
    MARKS,
    check_format,
    corrupt,
    decode_integer,
    encode_integer,
    family,
    family_end,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workbench.ports.storage import Change, Engine

DEDUPE_SEQUENCES_MAX: Final = 128
DEDUPE_EXPIRY_MS: Final = 10 * 60 * 1_000

_EXPIRY: Final = hlc_of_ms(DEDUPE_EXPIRY_MS)
_RECORD: Final = struct.Struct(">BQQII")
_LENGTH: Final = struct.Struct(">I")
_SEQUENCE: Final = struct.Struct(">Q")


class _Client:
    """One client: its kept sequences, ascending, and the largest that expired (-1: none)."""

    __slots__ = ("mark", "sequences")

    def __init__(self, mark: int = -1) -> None:
        self.sequences: list[int] = []
        self.mark = mark


class Dedupe:
    """The dedupe table of one group, as found in the engine."""

    def __init__(self, group: int, engine: Engine) -> None:
        self._prefix = family(group, DEDUPE)
        self._marks_prefix = family(group, MARKS)
        # In the order of commit_ts, oldest first; as many as the clients' sequences together.
        self._kept: OrderedDict[tuple[bytes, int], Written] = OrderedDict()
        self._clients: dict[bytes, _Client] = {}
        self._load(group, engine)

    def find(self, client_id: bytes, sequence: int) -> Written | None:
        """Return the first result of a write, None for a new one.

        Raises:
            OutcomeUnknown: `dedupe_expired`, it is older than what is kept of its client.
        """
        written = self._kept.get((client_id, sequence))
        if written is not None:
            return written
        client = self._clients.get(client_id)
        if client is None:
            return None
        kept = client.sequences
        full = len(kept) == DEDUPE_SEQUENCES_MAX
        if sequence <= client.mark or (full and sequence < kept[0]):
            raise OutcomeUnknown(
                f"sequence {sequence} of client {client_id.hex()} is older than what is kept of it",
                code="dedupe_expired",
                hint="read what it would have written before sending it under a new sequence",
            )
        return None

    def store(
        self, client_id: bytes, sequence: int, written: Written, smallest: bytes, largest: bytes
    ) -> Iterator[Change]:
        """Keep a result that `find` did not know; yield the engine's changes."""
        client = self._clients.setdefault(client_id, _Client())
        self._kept[client_id, sequence] = written
        insort(client.sequences, sequence)
        record = _RECORD.pack(FORMAT, written.commit_ts, written.index, len(smallest), len(largest))
        yield self._key(client_id, sequence), record + smallest + largest
        if len(client.sequences) > DEDUPE_SEQUENCES_MAX:
            # No mark is needed: a full window refuses what lies below it, and the first of it
            # that expires raises the mark above all that were dropped before.
            oldest = client.sequences.pop(0)
            del self._kept[client_id, oldest]
            yield self._key(client_id, oldest), None

    def expire(self, commit_ts: int) -> Iterator[Change]:
        """Forget what has expired at `commit_ts`; yield the engine's changes."""
        while self._kept:
            (client_id, sequence), written = next(iter(self._kept.items()))
            if written.commit_ts + _EXPIRY > commit_ts:
                return
            self._kept.popitem(last=False)
            client = self._clients[client_id]
            del client.sequences[bisect_left(client.sequences, sequence)]
            yield self._key(client_id, sequence), None
            if sequence > client.mark:
                client.mark = sequence
                yield self._marks_prefix + client_id, encode_integer(sequence)

    def table(self) -> tuple[list[tuple[bytes, int, Written]], dict[bytes, int]]:
        """Return what is kept, oldest first, and the marks; to compare two tables."""
        kept = [(*at, written) for at, written in self._kept.items()]
        return kept, {each: client.mark for each, client in self._clients.items()}

    def _key(self, client_id: bytes, sequence: int) -> bytes:
        length = _LENGTH.pack(len(client_id))
        return b"".join((self._prefix, length, client_id, _SEQUENCE.pack(sequence)))

    def _load(self, group: int, engine: Engine) -> None:
        skip = len(self._prefix)
        rows = engine.scan(self._prefix, family_end(group, DEDUPE))
        found = [_decode(key, key[skip:], value) for key, value in rows]
        for written, client_id, sequence in sorted(found, key=lambda row: row[0].commit_ts):
            self._kept[client_id, sequence] = written
            insort(self._clients.setdefault(client_id, _Client()).sequences, sequence)
        for key, value in engine.scan(self._marks_prefix, family_end(group, MARKS)):
            client = self._clients.setdefault(key[skip:], _Client())
            client.mark = decode_integer(key, value)


def _decode(key: bytes, rest: bytes, value: bytes) -> tuple[Written, bytes, int]:
    """Return result, client and sequence of a stored row."""
    check_format(key, value, _RECORD.size)
    _, commit_ts, index, smallest_bytes, largest_bytes = _RECORD.unpack_from(value)
    if smallest_bytes + largest_bytes != len(value) - _RECORD.size:
        raise corrupt(key, f"keys of {smallest_bytes} and {largest_bytes} bytes in {len(value)}")
    if len(rest) < _LENGTH.size + _SEQUENCE.size:
        raise corrupt(key, "a dedupe entry, but names no client and sequence")
    client_id, sequence = rest[_LENGTH.size : -_SEQUENCE.size], rest[-_SEQUENCE.size :]
    if _LENGTH.unpack_from(rest)[0] != len(client_id):
        raise corrupt(key, "a dedupe entry, but the length of its client is wrong")
    return Written(commit_ts, index), client_id, _SEQUENCE.unpack(sequence)[0]
