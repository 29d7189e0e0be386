"""The bytes of one log entry: a ceiling, and commands with the commit_ts of each.

    01 │ ceiling │ count │ kind commit_ts length body │ kind commit_ts length body │ ...

docs/formats/entry.md has it byte for byte. All integers are unsigned and big-endian.

Rules:
- A body does not carry its commit_ts, so a command is encoded once, when it is queued, and
  stamped when it is proposed.
- Every length is checked against what is left before anything is read or allocated.
- commit_ts strictly increase within an entry and lie below its ceiling.
- What is malformed raises Corruption with the offset. It is deterministic: every replica of the
  group comes to it at the same entry. So is a version or kind that this replica does not know
  (`command_version_unknown`): it stops, and never skips.

The empty entry that opens a leader's term has no bytes at all and is not decoded here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, assert_never

from workbench.errors import Corruption, InvalidInput, WorkbenchError
from workbench.model.keys import Span
from workbench.model.recovery import DAMAGED_NODE_HINT
from workbench.mvcc.block import decode_block, encode_block
from workbench.replica.commands import (
    BeginRestore,
    Bootstrap,
    CollectGarbage,
    EndRestore,
    ImportRows,
    Mutation,
    OwnedSpan,
    Pin,
    Precondition,
    SaveRoutes,
    SetSafePoint,
    SplitRange,
    Unpin,
    WriteBatch,
)
from workbench.routing.records import decode_route, encode_route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.routes import RouteDescriptor
    from workbench.replica.commands import Command

ENTRY_VERSION: Final = 1
WRITE_BATCH: Final = 1
SPLIT_RANGE: Final = 2
BOOTSTRAP: Final = 3
BEGIN_RESTORE: Final = 4
IMPORT_ROWS: Final = 5
SAVE_ROUTES: Final = 6
END_RESTORE: Final = 7
WRITE_BATCH_IF: Final = 8
SET_SAFE_POINT: Final = 9
PIN: Final = 10
UNPIN: Final = 11
COLLECT_GARBAGE: Final = 12
PUT: Final = 1
DELETE: Final = 2
PUT_EXPIRING: Final = 3
KEY_ABSENT: Final = 1
COMMIT_TS_IS: Final = 2

_HEAD: Final = struct.Struct(">BQI")
_COMMAND: Final = struct.Struct(">BQI")
_MUTATION: Final = struct.Struct(">BII")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
# Beside the bodies, an entry has so many bytes, and so many more per command.
ENTRY_HEAD_BYTES: Final = _HEAD.size
COMMAND_HEAD_BYTES: Final = _COMMAND.size
RESTORE_ID_BYTES: Final = 16
PIN_ID_BYTES: Final = 16
_PRECONDITION: Final = struct.Struct(">BIQ")
_IMPORT: Final = struct.Struct(">QQB")
_SAVE: Final = struct.Struct(">QQQ")
_OWNED_SPAN_BYTES_MIN: Final = _U64.size + _U32.size + 1


@dataclass(frozen=True, slots=True)
class EncodedCommand:
    """A command as bytes, not yet stamped.

    Attributes:
        kind: Its kind byte.
        body: Everything but kind, commit_ts and length.
    """

    kind: int
    body: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in an entry."""
        return COMMAND_HEAD_BYTES + len(self.body)


@dataclass(frozen=True, slots=True)
class Stamped:
    """A command with the commit_ts (HLC) that the leader gave it."""

    commit_ts: int
    command: Command


@dataclass(frozen=True, slots=True)
class Entry:
    """A decoded log entry; `ceiling` is HLC, exclusive."""

    ceiling: int
    commands: tuple[Stamped, ...]


def encode_command(command: Command) -> EncodedCommand:
    """Return the bytes of a command, to be stamped later."""
    match command:
        case WriteBatch():
            conditions = _preconditions_bytes(command.preconditions)
            kind = WRITE_BATCH_IF if conditions else WRITE_BATCH
            return EncodedCommand(kind, conditions + _write_batch_bytes(command))
        case SplitRange():
            parts = (
                _U64.pack(command.expected_version),
                _U64.pack(command.route_id),
                _prefixed(command.split_key),
                _prefixed(command.request_id),
            )
            return EncodedCommand(SPLIT_RANGE, b"".join(parts))
        case Bootstrap():
            body = _spans_bytes(command.spans) + _routes_bytes(command.routes)
            return EncodedCommand(BOOTSTRAP, body)
        case BeginRestore() | ImportRows() | SaveRoutes() | EndRestore():
            return _encode_restoring(command)
        case SetSafePoint() | Pin() | Unpin() | CollectGarbage():
            return _encode_garbage(command)
        case _:
            assert_never(command)


def _encode_garbage(command: SetSafePoint | Pin | Unpin | CollectGarbage) -> EncodedCommand:
    match command:
        case SetSafePoint():
            return EncodedCommand(SET_SAFE_POINT, _U64.pack(command.safe_point))
        case Pin():
            return EncodedCommand(PIN, command.pin_id + _U64.pack(command.read_ts))
        case Unpin():
            return EncodedCommand(UNPIN, command.pin_id)
        case CollectGarbage():
            return EncodedCommand(COLLECT_GARBAGE, _U32.pack(command.versions_max))
        case _:
            assert_never(command)


def _encode_restoring(
    command: BeginRestore | ImportRows | SaveRoutes | EndRestore,
) -> EncodedCommand:
    assert len(command.restore_id) == RESTORE_ID_BYTES
    match command:
        case BeginRestore():
            body = command.restore_id + _spans_bytes(command.spans)
            return EncodedCommand(BEGIN_RESTORE, body)
        case ImportRows():
            head = command.restore_id + _IMPORT.pack(command.seq, command.offset, command.last)
            return EncodedCommand(IMPORT_ROWS, head + encode_block(command.rows))
        case SaveRoutes():
            numbers = _SAVE.pack(command.expected_version, command.version, command.next_route_id)
            body = command.restore_id + numbers + _routes_bytes(command.routes)
            return EncodedCommand(SAVE_ROUTES, body)
        case EndRestore():
            return EncodedCommand(END_RESTORE, command.restore_id)
        case _:
            assert_never(command)


def encode_entry(ceiling: int, commands: Sequence[tuple[int, EncodedCommand]]) -> bytes:
    """Return the bytes of an entry of `(commit_ts, command)`, ascending and below `ceiling`."""
    parts = [_HEAD.pack(ENTRY_VERSION, ceiling, len(commands))]
    for commit_ts, command in commands:
        parts.append(_COMMAND.pack(command.kind, commit_ts, len(command.body)))
        parts.append(command.body)
    return b"".join(parts)


def decode_entry(data: bytes) -> Entry:
    """Return the entry that `data` holds.

    Raises:
        Corruption: `entry_malformed` with the offset, or `command_version_unknown`.
    """
    ceiling, parts = _split(data)
    return Entry(
        ceiling,
        tuple(Stamped(commit_ts, _command(kind, body, at)) for kind, commit_ts, body, at in parts),
    )


def check_entry(data: bytes) -> None:
    """Refuse what is no entry by its heads: version, order of commit_ts, kinds and lengths.

    It leaves the bodies of commands alone, which take a hundred times as long to look at.

    Raises:
        Corruption: as `decode_entry`.
    """
    for kind, _, _, at in _split(data)[1]:
        if not WRITE_BATCH <= kind <= COLLECT_GARBAGE:
            raise _unknown(f"command kind {kind}", at)


def _split(data: bytes) -> tuple[int, list[tuple[int, int, _Reader, int]]]:
    """Return an entry's ceiling, and of each command kind, commit_ts, body, and where it begins."""
    reader = _Reader(data, len(data))
    version, ceiling, count = reader.unpack(_HEAD, "head")
    if version != ENTRY_VERSION:
        raise _unknown(f"entry version {version}", 0)
    reader.check_count(count, COMMAND_HEAD_BYTES, "commands")
    parts: list[tuple[int, int, _Reader, int]] = []
    newest = 0
    for _ in range(count):
        at = reader.at
        kind, commit_ts, length = reader.unpack(_COMMAND, "command")
        if not newest < commit_ts < ceiling:
            raise _malformed(f"commit_ts {commit_ts} not in ({newest}, {ceiling})", at)
        newest = commit_ts
        parts.append((kind, commit_ts, reader.part(length, "command body"), at))
    reader.finish()
    return ceiling, parts


class _Reader:
    """Reads `data` from `at` up to `end`, and never beyond."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, end: int, at: int = 0) -> None:
        self.data, self.end, self.at = data, end, at

    def unpack(self, shape: struct.Struct, what: str) -> tuple[int, ...]:
        """Read integers of a fixed shape."""
        start = self.at
        if shape.size > self.end - start:
            raise _malformed(f"{what} is cut", start)
        self.at = start + shape.size
        return shape.unpack_from(self.data, start)

    def integer(self, shape: struct.Struct, what: str) -> int:
        """Read one integer."""
        return self.unpack(shape, what)[0]

    def prefixed(self, what: str) -> bytes:
        """Read bytes behind their length."""
        length = self.integer(_U32, f"length of {what}")
        return self.take(length, what)

    def take(self, length: int, what: str) -> bytes:
        """Read `length` bytes."""
        start = self.at
        if length > self.end - start:
            raise _malformed(f"{what} of {length} bytes is cut", start)
        self.at = start + length
        return self.data[start : self.at]

    def part(self, length: int, what: str) -> _Reader:
        """Return a reader of the next `length` bytes, and go on behind them."""
        start = self.at
        if length > self.end - start:
            raise _malformed(f"{what} of {length} bytes is cut", start)
        self.at = start + length
        return _Reader(self.data, self.at, start)

    def check_count(self, count: int, bytes_min: int, what: str) -> None:
        """Refuse a count for which there cannot be enough bytes."""
        if count * bytes_min > self.end - self.at:
            raise _malformed(f"{count} {what} do not fit", self.at)

    def finish(self) -> None:
        """Refuse bytes that nobody read."""
        if self.at != self.end:
            raise _malformed(f"{self.end - self.at} bytes too many", self.at)


def _command(kind: int, body: _Reader, at: int) -> Command:
    """Read a command of this kind, which began at offset `at`."""
    command: Command
    if kind == WRITE_BATCH:
        command = _read_write_batch(body)
    elif kind == SPLIT_RANGE:
        version, route_id = body.integer(_U64, "version"), body.integer(_U64, "route id")
        command = SplitRange(
            version, route_id, body.prefixed("split key"), body.prefixed("request id")
        )
    elif kind == BOOTSTRAP:
        command = Bootstrap(_read_spans(body), _read_routes(body))
    elif kind == WRITE_BATCH_IF:
        preconditions = _read_preconditions(body)
        command = replace(_read_write_batch(body), preconditions=preconditions)
    elif SET_SAFE_POINT <= kind <= COLLECT_GARBAGE:
        command = _garbage_command(kind, body)
    else:
        command = _restoring_command(kind, body, at)
    body.finish()
    return command


def _restoring_command(kind: int, body: _Reader, at: int) -> Command:
    """Read one of the commands of a restore, which began at offset `at`."""
    if not BEGIN_RESTORE <= kind <= END_RESTORE:
        raise _unknown(f"command kind {kind}", at)
    restore_id = body.take(RESTORE_ID_BYTES, "restore id")
    if kind == BEGIN_RESTORE:
        return BeginRestore(restore_id, _read_spans(body))
    if kind == IMPORT_ROWS:
        at = body.at
        seq, offset, last = body.unpack(_IMPORT, "number of the import")
        if last not in {0, 1}:
            raise _malformed(f"flag of the last part {last}", at)
        at = body.at
        try:
            rows = decode_block(body.take(body.end - at, "rows"))
        except InvalidInput as error:
            raise _malformed(error.message, at) from error
        return ImportRows(restore_id, seq, offset, bool(last), rows)
    if kind == SAVE_ROUTES:
        expected_version, version, next_route_id = body.unpack(_SAVE, "versions")
        return SaveRoutes(restore_id, expected_version, version, next_route_id, _read_routes(body))
    return EndRestore(restore_id)


def _garbage_command(kind: int, body: _Reader) -> Command:
    """Read one of the commands of garbage collection."""
    if kind == SET_SAFE_POINT:
        return SetSafePoint(body.integer(_U64, "safe point"))
    if kind == COLLECT_GARBAGE:
        return CollectGarbage(body.integer(_U32, "number of versions"))
    pin_id = body.take(PIN_ID_BYTES, "pin id")
    return Unpin(pin_id) if kind == UNPIN else Pin(pin_id, body.integer(_U64, "read_ts"))


def _preconditions_bytes(preconditions: Sequence[Precondition]) -> bytes:
    """Return the bytes of preconditions, none for none."""
    if not preconditions:
        return b""
    parts = [_U32.pack(len(preconditions))]
    for each in preconditions:
        condition = KEY_ABSENT if each.commit_ts is None else COMMIT_TS_IS
        parts += (_PRECONDITION.pack(condition, len(each.key), each.commit_ts or 0), each.key)
    return b"".join(parts)


def _read_preconditions(body: _Reader) -> tuple[Precondition, ...]:
    at = body.at
    count = body.integer(_U32, "number of preconditions")
    body.check_count(count, _PRECONDITION.size, "preconditions")
    if not count:
        raise _malformed("a batch with preconditions has none", at)
    preconditions: list[Precondition] = []
    for _ in range(count):
        at = body.at
        condition, key_bytes, commit_ts = body.unpack(_PRECONDITION, "precondition")
        key = body.take(key_bytes, "key of a precondition")
        if condition not in {KEY_ABSENT, COMMIT_TS_IS} or (condition == KEY_ABSENT and commit_ts):
            raise _malformed(f"precondition {condition} with commit_ts {commit_ts}", at)
        preconditions.append(Precondition(key, None if condition == KEY_ABSENT else commit_ts))
    return tuple(preconditions)


def _write_batch_bytes(command: WriteBatch) -> bytes:
    parts = [
        _prefixed(command.client_id),
        _U64.pack(command.sequence),
        _U32.pack(len(command.mutations)),
    ]
    for mutation in command.mutations:
        key, value = mutation.key, mutation.value
        if value is None:
            parts += (_MUTATION.pack(DELETE, len(key), 0), key)
        elif mutation.expire_at_ms:
            size = _U64.size + len(value)
            expires = _U64.pack(mutation.expire_at_ms)
            parts += (_MUTATION.pack(PUT_EXPIRING, len(key), size), key, expires, value)
        else:
            parts += (_MUTATION.pack(PUT, len(key), len(value)), key, value)
    return b"".join(parts)


def _read_write_batch(body: _Reader) -> WriteBatch:
    client_id = body.prefixed("client id")
    sequence = body.integer(_U64, "sequence")
    count = body.integer(_U32, "number of mutations")
    body.check_count(count, _MUTATION.size, "mutations")
    # The one loop that sees every key of the log: no call per field.
    data, at, end = body.data, body.at, body.end
    unpack, size = _MUTATION.unpack_from, _MUTATION.size
    mutations: list[Mutation] = []
    for _ in range(count):
        start = at + size
        if start > end:
            raise _malformed("mutation is cut", at)
        operation, key_bytes, value_bytes = unpack(data, at)
        value_at = start + key_bytes
        following = value_at + value_bytes
        if following > end:
            raise _malformed(f"key and value of {following - start} bytes are cut", at)
        if operation == PUT:
            mutations.append(Mutation(data[start:value_at], data[value_at:following]))
        elif operation == DELETE and not value_bytes:
            mutations.append(Mutation(data[start:value_at], None))
        elif operation == PUT_EXPIRING and value_bytes >= _U64.size:
            mutations.append(_expiring(data, start, value_at, following))
        else:
            raise _malformed(f"mutation {operation} with a value of {value_bytes} bytes", at)
        at = following
    body.at = at
    return WriteBatch(tuple(mutations), client_id, sequence)


def _expiring(data: bytes, start: int, value_at: int, following: int) -> Mutation:
    (expire_at_ms,) = _U64.unpack_from(data, value_at)
    if not expire_at_ms:
        raise _malformed("a put that expires does not say when", value_at)
    return Mutation(data[start:value_at], data[value_at + _U64.size : following], expire_at_ms)


def _spans_bytes(spans: Sequence[OwnedSpan]) -> bytes:
    parts = [_U32.pack(len(spans))]
    for owned in spans:
        span = owned.span
        end = b"\x00" if span.end is None else b"\x01" + _prefixed(span.end)
        parts += (_U64.pack(owned.generation), _prefixed(span.start), end)
    return b"".join(parts)


def _routes_bytes(routes: Sequence[RouteDescriptor]) -> bytes:
    parts = [_U32.pack(len(routes))]
    parts += (_prefixed(encode_route(route)) for route in routes)
    return b"".join(parts)


def _read_spans(body: _Reader) -> tuple[OwnedSpan, ...]:
    count = body.integer(_U32, "number of spans")
    body.check_count(count, _OWNED_SPAN_BYTES_MIN, "spans")
    return tuple(_read_owned_span(body) for _ in range(count))


def _read_routes(body: _Reader) -> tuple[RouteDescriptor, ...]:
    count = body.integer(_U32, "number of routes")
    body.check_count(count, _U32.size, "routes")
    return tuple(_read_route(body) for _ in range(count))


def _read_owned_span(body: _Reader) -> OwnedSpan:
    at = body.at
    generation = body.integer(_U64, "generation")
    start = body.prefixed("start")
    flag = body.take(1, "end flag")
    if flag not in {b"\x00", b"\x01"}:
        raise _malformed(f"end flag {flag.hex()}", body.at - 1)
    end = None if flag == b"\x00" else body.prefixed("end")
    if end is not None and start >= end:
        raise _malformed("span is empty or reversed", at)
    return OwnedSpan(Span(start, end), generation)


def _read_route(body: _Reader) -> RouteDescriptor:
    at = body.at + _U32.size
    record = body.prefixed("route record")
    try:
        return decode_route(record)
    except WorkbenchError as error:
        raise _malformed(f"route record: {error.message}", at) from error


def _prefixed(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data


def _malformed(what: str, offset: int) -> Corruption:
    return Corruption(
        f"log entry: {what}, at offset {offset}",
        code="entry_malformed",
        hint=f"the log is damaged, or was written by another version: {DAMAGED_NODE_HINT}",
    )


def _unknown(what: str, offset: int) -> Corruption:
    return Corruption(
        f"log entry: unknown {what}, at offset {offset}",
        code="command_version_unknown",
        hint="start a version of the workbench that knows it; nothing was skipped",
    )
