"""Rows of the route catalog, byte for byte; docs/formats/route_catalog.md is the format.

    !dist|meta|version …        01 │ u64
    !dist|route| + u64 id       01 or 02 │ id │ group │ state │ parent │ start │ end │ (02: hlc)
    !dist|delta| + u64 version  01 │ previous │ version │ count │ mutations

- All integers are u64 big-endian. Decoding and encoding under the same record version gives
  the same bytes: other clusters' backups are read with them, so no field is ever added here.
- Whatever is not exactly of this form raises Corruption naming the offset: short or trailing
  bytes, an unknown version, flag, state or op, and what breaks a rule of routes.

Rules of whole sets (unique ids, no overlap) are `rules` and `model.routes`; no row is looked up
or written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from workbench.errors import Corruption, InvalidArgument
from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.model.routes import RESERVED_PREFIX, RouteDescriptor, RouteState

U64_BYTES: Final = 8
U64_MAX: Final = 2**64 - 1

META_VERSION: Final = RESERVED_PREFIX + b"meta|version"
META_NEXT_ROUTE_ID: Final = RESERVED_PREFIX + b"meta|next_route_id"
META_DELTA_FLOOR: Final = RESERVED_PREFIX + b"meta|delta_floor"
META_NEXT_JOB_ID: Final = RESERVED_PREFIX + b"meta|next_job_id"
ROUTE_PREFIX: Final = RESERVED_PREFIX + b"route|"
DELTA_PREFIX: Final = RESERVED_PREFIX + b"delta|"

ROUTE_RECORD_VERSIONS: Final = (1, 2)
_COUNTER_VERSION: Final = 1
_DELTA_VERSION: Final = 1
_COUNTER_BYTES: Final = 1 + U64_BYTES
# The state byte is the position here: the number of the wire's enum, less one.
_STATES: Final = (
    RouteState.ACTIVE,
    RouteState.WRITE_FENCED,
    RouteState.MIGRATING_SOURCE,
    RouteState.MIGRATING_TARGET,
)


class MutationOp(IntEnum):
    """What a delta does to a row; the numbers are stored and sent."""

    UPSERT = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class RouteMutation:
    """One row that a catalog version changed.

    Attributes:
        op: Whether the row is there now, or gone.
        route_id: Of the row; never zero.
        route: The row as it is now; None on DELETE, and only there.
    """

    op: MutationOp
    route_id: int
    route: RouteDescriptor | None

    def __post_init__(self) -> None:
        assert (self.route is None) == (self.op is MutationOp.DELETE)
        assert self.route is None or self.route.route_id == self.route_id


@dataclass(frozen=True, slots=True)
class RouteDelta:
    """What leads from one catalog version to the next.

    Attributes:
        previous_version: The version that it applies to.
        version: The version that it gives; above `previous_version`.
        mutations: Rows that changed, each once, in the order of the commit.
    """

    previous_version: int
    version: int
    mutations: tuple[RouteMutation, ...]


def route_key(route_id: int) -> bytes:
    """Return the key of a route's row."""
    return ROUTE_PREFIX + _u64(route_id)


def delta_key(version: int) -> bytes:
    """Return the key of the delta that gave `version`."""
    return DELTA_PREFIX + _u64(version)


def decode_row_id(key: bytes) -> int:
    """Return the route id, or the delta's version, that a row's key ends with; never zero.

    Raises:
        Corruption: `catalog_key_invalid`: another prefix, not 8 bytes behind it, or zero.
    """
    for prefix in (ROUTE_PREFIX, DELTA_PREFIX):
        number = key.removeprefix(prefix)
        if key.startswith(prefix) and len(number) == U64_BYTES and any(number):
            return int.from_bytes(number, "big")
    raise Corruption(
        f"catalog row key {key.hex()} is no route or delta prefix with a u64 above zero",
        code="catalog_key_invalid",
        hint="the catalog's rows were damaged or written by another program",
    )


def encode_counter(value: int) -> bytes:
    """Return a counter's row: 9 bytes."""
    return bytes([_COUNTER_VERSION]) + _u64(value)


def decode_counter(data: bytes, *, what: str, zero_allowed: bool = False) -> int:
    """Return the value of the counter named `what`.

    An absent row means 0 and never comes here; a stored 0 is corrupt for all but the version.

    Raises:
        Corruption: `catalog_counter_invalid`, with the offset.
    """
    reader = _Reader(data, f"counter {what}", "catalog_counter_invalid")
    reader.version((_COUNTER_VERSION,))
    value = reader.u64("value")
    if value == 0 and not zero_allowed:
        raise reader.bad(1, "zero is never stored")
    reader.finish()
    assert len(data) == _COUNTER_BYTES
    return value


def encode_route(route: RouteDescriptor, *, version: int = 2) -> bytes:
    """Return the record of a route that keeps the rules of routes.

    Args:
        route: Its id and group are not zero, its keys at most KEY_BYTES_MAX long.
        version: Of the record, 1 or 2.

    Raises:
        InvalidArgument: `route_record_version_lossy`: version 1 cannot hold a split_at_hlc.
    """
    assert version in ROUTE_RECORD_VERSIONS
    assert route.route_id > 0
    assert route.group > 0
    assert max(len(route.span.start), len(route.span.end or b"")) <= KEY_BYTES_MAX
    if version == 1 and route.split_at_hlc:
        raise InvalidArgument(
            f"route {route.route_id} was split at {route.split_at_hlc}, "
            "which a route record of version 1 cannot hold",
            code="route_record_version_lossy",
            hint="write version 2",
        )
    parts = [
        bytes([version]),
        _u64(route.route_id),
        _u64(route.group),
        bytes([_STATES.index(route.state)]),
        _u64(route.parent_route_id),
        _sized(route.span.start),
        b"\x00" if route.span.end is None else b"\x01" + _sized(route.span.end),
        _u64(route.split_at_hlc) if version == 2 else b"",
    ]
    return b"".join(parts)


def decode_route(data: bytes) -> RouteDescriptor:
    """Return the route of a record of version 1 or 2 (see `route_record_version`).

    Raises:
        Corruption: `route_record_invalid`, with the offset.
    """
    reader = _Reader(data, "route record", "route_record_invalid")
    route = _read_route(reader)
    reader.finish()
    return route


def route_record_version(data: bytes) -> int:
    """Return the version of a route record, with which `encode_route` gives the same bytes.

    Raises:
        Corruption: `route_record_invalid`.
    """
    return _Reader(data, "route record", "route_record_invalid").version(ROUTE_RECORD_VERSIONS)


def decode_route_row(key: bytes, value: bytes) -> RouteDescriptor:
    """Return the route of a catalog row, of which key and record name the same id.

    Raises:
        Corruption: `catalog_key_invalid` or `route_record_invalid`.
    """
    route_id = _row_id_below(ROUTE_PREFIX, key)
    route = decode_route(value)
    if route.route_id != route_id:
        raise _Reader(value, "route record", "route_record_invalid").bad(
            1, f"it holds route {route.route_id} under the key of route {route_id}"
        )
    return route


def encode_delta(delta: RouteDelta) -> bytes:
    """Return the record of a delta; its routes are records of version 2."""
    assert delta.previous_version < delta.version
    parts = [
        bytes([_DELTA_VERSION]),
        _u64(delta.previous_version),
        _u64(delta.version),
        _u64(len(delta.mutations)),
    ]
    for mutation in delta.mutations:
        payload = b"" if mutation.route is None else encode_route(mutation.route)
        parts += [bytes([mutation.op]), _u64(mutation.route_id), _sized(payload)]
    return b"".join(parts)


def decode_delta(data: bytes) -> RouteDelta:
    """Return the delta of a record; its routes may be records of version 1 or 2.

    Raises:
        Corruption: `delta_record_invalid`, with the offset in the whole record.
    """
    reader = _Reader(data, "delta record", "delta_record_invalid")
    reader.version((_DELTA_VERSION,))
    previous = reader.u64("previous version")
    at = reader.offset
    version = reader.u64("version")
    if version <= previous:
        raise reader.bad(at, f"version {version} is not above the previous {previous}")
    count = reader.u64("count of mutations")
    mutations: dict[int, RouteMutation] = {}
    # An absurd count fails at the first mutation that the record is too short for.
    for _ in range(count):
        at = reader.offset
        mutation = _read_mutation(reader)
        if mutation.route_id in mutations:
            raise reader.bad(at, f"route {mutation.route_id} is changed twice")
        mutations[mutation.route_id] = mutation
    reader.finish()
    return RouteDelta(previous, version, tuple(mutations.values()))


def decode_delta_row(key: bytes, value: bytes) -> RouteDelta:
    """Return the delta of a catalog row, of which key and record name the same version.

    Raises:
        Corruption: `catalog_key_invalid` or `delta_record_invalid`.
    """
    version = _row_id_below(DELTA_PREFIX, key)
    delta = decode_delta(value)
    if delta.version != version:
        raise _Reader(value, "delta record", "delta_record_invalid").bad(
            1 + U64_BYTES, f"it gives version {delta.version} under the key of version {version}"
        )
    return delta


class _Reader:
    """A cursor over one record; every complaint names the offset in the whole record."""

    def __init__(self, data: bytes, what: str, code: str) -> None:
        self.offset = 0
        self.end = len(data)  # of the part that may be read; below len(data) in a payload
        self._data = data
        self._what = what
        self._code = code

    def bad(self, offset: int, why: str) -> Corruption:
        return Corruption(
            f"{self._what} of {len(self._data)} bytes is malformed at offset {offset}: {why}",
            code=self._code,
            hint="the catalog's rows were damaged or written by another program",
        )

    def take(self, size: int, field: str) -> bytes:
        left = self.end - self.offset
        if left < size:
            raise self.bad(self.offset, f"{field} takes {size} bytes, {left} are left")
        start, self.offset = self.offset, self.offset + size
        return self._data[start : self.offset]

    def byte(self, field: str) -> int:
        return self.take(1, field)[0]

    def u64(self, field: str) -> int:
        return int.from_bytes(self.take(U64_BYTES, field), "big")

    def positive(self, field: str) -> int:
        at = self.offset
        value = self.u64(field)
        if value == 0:
            raise self.bad(at, f"{field} is zero")
        return value

    def version(self, known: tuple[int, ...]) -> int:
        at = self.offset
        version = self.byte("record version")
        if version not in known:
            raise self.bad(at, f"record version {version} is unknown")
        return version

    def key(self, field: str) -> bytes:
        at = self.offset
        size = self.u64(f"length of {field}")
        if size > KEY_BYTES_MAX:
            raise self.bad(at, f"{field} has {size} bytes, the limit is {KEY_BYTES_MAX}")
        return self.take(size, field)

    def finish(self) -> None:
        if self.offset < self.end:
            raise self.bad(self.offset, f"{self.end - self.offset} bytes too many")


def _read_route(reader: _Reader) -> RouteDescriptor:
    version = reader.version(ROUTE_RECORD_VERSIONS)
    route_id = reader.positive("route id")
    group = reader.positive("group")
    state = reader.byte("state")
    if state >= len(_STATES):
        raise reader.bad(reader.offset - 1, f"state byte {state} is unknown")
    parent_route_id = reader.u64("parent route id")
    start = reader.key("start")
    end = _read_end(reader, start)
    split_at_hlc = reader.u64("split_at_hlc") if version == 2 else 0
    return RouteDescriptor(
        route_id, Span(start, end), group, _STATES[state], parent_route_id, split_at_hlc
    )


def _read_end(reader: _Reader, start: bytes) -> bytes | None:
    at = reader.offset
    flag = reader.byte("end flag")
    if flag > 1:
        raise reader.bad(at, f"end flag {flag} is unknown")
    if flag == 0:
        return None
    at = reader.offset
    end = reader.key("end")
    if start >= end:
        raise reader.bad(at, f"start {start.hex()} is not below end {end.hex()}")
    return end


def _read_mutation(reader: _Reader) -> RouteMutation:
    at = reader.offset
    op = reader.byte("op")
    if op not in tuple(MutationOp):
        raise reader.bad(at, f"op {op} is unknown")
    route_id = reader.positive("route id")
    at = reader.offset
    size = reader.u64("length of payload")
    if op == MutationOp.DELETE:
        if size:
            raise reader.bad(at, f"a delete carries {size} bytes")
        return RouteMutation(MutationOp.DELETE, route_id, None)
    whole, payload_at = reader.end, reader.offset
    if size > whole - payload_at:
        raise reader.bad(at, f"payload takes {size} bytes, {whole - payload_at} are left")
    reader.end = payload_at + size
    route = _read_route(reader)
    reader.finish()
    reader.end = whole
    if route.route_id != route_id:
        raise reader.bad(payload_at + 1, f"route {route.route_id} in a mutation of {route_id}")
    return RouteMutation(MutationOp.UPSERT, route_id, route)


def _row_id_below(prefix: bytes, key: bytes) -> int:
    if not key.startswith(prefix):
        raise Corruption(
            f"catalog row key {key.hex()} does not start with {prefix.hex()}",
            code="catalog_key_invalid",
            hint="the catalog's rows were damaged or written by another program",
        )
    return decode_row_id(key)


def _u64(value: int) -> bytes:
    assert 0 <= value <= U64_MAX
    return value.to_bytes(U64_BYTES, "big")


def _sized(data: bytes) -> bytes:
    return _u64(len(data)) + data
