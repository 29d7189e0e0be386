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
from typing import TYPE_CHECKING, Final

from workbench.errors import Corruption
from workbench.model.recovery import DAMAGED_NODE_HINT
from workbench.raft.membership import decode_configuration, encode_configuration

if TYPE_CHECKING:
    from workbench.ports.entries import Configuration
    from workbench.ports.storage import Engine

META: Final = 1
SPANS: Final = 2
DEDUPE: Final = 3
VERSIONS: Final = 4
REQUESTS: Final = 5
MARKS: Final = 6

FORMAT: Final = 1
PROGRESS_FORMAT: Final = 2
PROGRESS: Final = b"progress"
MEMBERS: Final = b"members"
BOOTSTRAPPED: Final = b"bootstrapped"
RESTORE: Final = b"restore"

_PREFIX: Final = struct.Struct(">QB")
_PROGRESS: Final = struct.Struct(">BQQQQ")
# As format 1 had it: without the term.
_PROGRESS_1: Final = struct.Struct(">BQQQ")
_GROUP: Final = struct.Struct(">Q")
_INTEGER: Final = struct.Struct(">BQ")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a group has applied its log.

    Attributes:
        applied_index: Of the newest entry applied.
        ceiling: The largest ceiling (HLC) of all entries applied.
        last_commit_ts: Of the newest command applied, refused ones included; 0 for none.
        applied_term: Of the entry at applied_index; None where an earlier version applied it.
    """

    applied_index: int = 0
    ceiling: int = 0
    last_commit_ts: int = 0
    applied_term: int | None = 0


def group_range(group: int) -> tuple[bytes, bytes | None]:
    """Return start and end (exclusive) of all engine keys of a group; None: no end."""
    end = _GROUP.pack(group + 1) if group + 1 < 2**64 else None
    return _GROUP.pack(group), end


def family(group: int, number: int) -> bytes:
    """Return the prefix of all engine keys of a family of a group."""
    return _PREFIX.pack(group, number)


def family_end(group: int, number: int) -> bytes:
    """Return the end (exclusive) of the engine keys of a family of a group."""
    return _PREFIX.pack(group, number + 1)


def encode_progress(progress: Progress) -> bytes:
    """Return the bytes of the row that every applied entry writes."""
    assert progress.applied_term is not None, "what is applied now tells its term"
    return _PROGRESS.pack(
        PROGRESS_FORMAT,
        progress.applied_index,
        progress.ceiling,
        progress.last_commit_ts,
        progress.applied_term,
    )


def decode_progress(key: bytes, value: bytes) -> Progress:
    """Return the progress stored under `key`; Corruption where it is not one."""
    if value[:1] == bytes([PROGRESS_FORMAT]) and len(value) == _PROGRESS.size:
        return Progress(*_PROGRESS.unpack(value)[1:])
    check_format(key, value, _PROGRESS_1.size, exactly=True)
    _, applied_index, ceiling, last_commit_ts = _PROGRESS_1.unpack(value)
    return Progress(applied_index, ceiling, last_commit_ts, applied_term=None)


def load_progress(group: int, engine: Engine) -> Progress:
    """Return how far a group has come in this engine; Corruption (`state_malformed`)."""
    key = family(group, META) + PROGRESS
    stored = engine.get(key)
    return Progress() if stored is None else decode_progress(key, stored)


def encode_members(members: Configuration) -> bytes:
    """Return the bytes of the row that keeps the members as of the applied index."""
    return bytes([FORMAT]) + encode_configuration(members)


def decode_members(key: bytes, value: bytes) -> Configuration:
    """Return the members stored under `key`; Corruption where they are none."""
    check_format(key, value, 1)
    try:
        return decode_configuration(value[1:])
    except Corruption as error:
        raise under(key, error) from error


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
        hint=DAMAGED_NODE_HINT,
    )


def under(key: bytes, error: Corruption) -> Corruption:
    """Return `error` with the engine key under which the bytes lie."""
    return Corruption(
        f"{error.message}, under engine key {key.hex()}", code=error.code, hint=error.hint
    )
