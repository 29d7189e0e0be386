"""Where a group keeps what in the engine: eight bytes of group, one of family, then the rest.

    group u64 │ 01 meta │ 02 spans │ 03 dedupe │ 04 versions │ 05 split requests │ 06 marks

docs/formats/entry.md has the keys and values of each family byte for byte. All rows of a group
are adjacent, so that its state can be taken, shipped and dropped as one key range; the spans,
dedupe entries and versions of a key range are what a move to another group takes along.

Every value begins with a format byte. What cannot be decoded raises Corruption with the engine
key: the log, from which it can be made anew, is the truth.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from workbench.errors import Corruption

META: Final = 1
SPANS: Final = 2
DEDUPE: Final = 3
VERSIONS: Final = 4
REQUESTS: Final = 5
MARKS: Final = 6

FORMAT: Final = 1
PROGRESS: Final = b"progress"
BOOTSTRAPPED: Final = b"bootstrapped"
RESTORE: Final = b"restore"

_PREFIX: Final = struct.Struct(">QB")
_PROGRESS: Final = struct.Struct(">BQQQ")
_INTEGER: Final = struct.Struct(">BQ")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a group has applied its log.

    Attributes:
        applied_index: Of the newest entry applied.
        ceiling: The largest ceiling (HLC) of all entries applied.
        last_commit_ts: Of the newest command applied, refused ones included; 0 for none.
    """

    applied_index: int = 0
    ceiling: int = 0
    last_commit_ts: int = 0


def family(group: int, number: int) -> bytes:
    """Return the prefix of all engine keys of a family of a group."""
    return _PREFIX.pack(group, number)


def family_end(group: int, number: int) -> bytes:
    """Return the end (exclusive) of the engine keys of a family of a group."""
    return _PREFIX.pack(group, number + 1)


def encode_progress(progress: Progress) -> bytes:
    """Return the bytes of the row that every applied entry writes."""
    return _PROGRESS.pack(FORMAT, progress.applied_index, progress.ceiling, progress.last_commit_ts)


def decode_progress(key: bytes, value: bytes) -> Progress:
    """Return the progress stored under `key`; Corruption where it is not one."""
    check_format(key, value, _PROGRESS.size, exactly=True)
    _, applied_index, ceiling, last_commit_ts = _PROGRESS.unpack(value)
    return Progress(applied_index, ceiling, last_commit_ts)


def encode_integer(number: int) -> bytes:
    """Return the bytes of a row that is one integer."""
    return _INTEGER.pack(FORMAT, number)


def decode_integer(key: bytes, value: bytes) -> int:
    """Return the integer stored under `key`; Corruption where it is not one."""
    check_format(key, value, _INTEGER.size, exactly=True)
    number: int = _INTEGER.unpack(value)[1]
    return number


def check_format(key: bytes, value: bytes, bytes_min: int, *, exactly: bool = False) -> None:
    """Refuse a stored value of another format, or one that is too short (or, if exact, long)."""
    if len(value) < bytes_min or (exactly and len(value) != bytes_min) or value[0] != FORMAT:
        raise corrupt(key, f"{len(value)} bytes that begin {value[:1].hex() or 'with nothing'}")


def corrupt(key: bytes, what: str) -> Corruption:
    """Return the error for what is stored under an engine key and is not what was written."""
    return Corruption(
        f"engine key {key.hex()} holds {what}",
        code="state_malformed",
        hint="the state is damaged: restore the node",
    )


def under(key: bytes, error: Corruption) -> Corruption:
    """Return `error` with the engine key under which the bytes lie."""
    return Corruption(
        f"{error.message}, under engine key {key.hex()}", code=error.code, hint=error.hint
    )
