"""What both ends of a call share: method names, metadata, channel options, and conversions.

    RouteDescriptor (model) ──route_message──▶ protobuf ──route_of──▶ RouteDescriptor

Bytes that came over the network are checked here, once: `parse` turns what is no protobuf into
InvalidInput, and `route_of` checks a route. Nothing here opens a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message

from workbench.errors import InvalidInput
from workbench.model.keys import Span, check_key
from workbench.model.limits import FRAME_BYTES_MAX
from workbench.model.node import CursorTag, ExportCursor, RestoreStatus
from workbench.model.routes import RouteDescriptor, RouteState, check_routes
from workbench.node.proto import distribution_pb2
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.routing.records import MutationOp, RouteDelta, RouteMutation

if TYPE_CHECKING:
    from collections.abc import Iterable

GET_ROUTE: Final = "/Distribution/GetRoute"
GET_TIMESTAMP: Final = "/Distribution/GetTimestamp"
LIST_ROUTES: Final = "/Distribution/ListRoutes"
SPLIT_RANGE: Final = "/Distribution/SplitRange"
CATALOG_CAPABILITIES: Final = "/Distribution/GetCatalogCapabilities"
WATCH_CATALOG: Final = "/Distribution/WatchCatalog"
ROUTE_OWNERSHIP: Final = "/Distribution/GetRouteOwnership"
INTERSECTING_ROUTES: Final = "/Distribution/GetIntersectingRoutes"
RAW_PUT: Final = "/RawKV/RawPut"
RAW_GET: Final = "/RawKV/RawGet"
RAW_DELETE: Final = "/RawKV/RawDelete"
RAW_LATEST_COMMIT_TS: Final = "/RawKV/RawLatestCommitTS"
RAW_SCAN_AT: Final = "/RawKV/RawScanAt"
BATCH_WRITE: Final = "/workbench.v1.KV/BatchWrite"
KV_GET: Final = "/workbench.v1.KV/Get"
KV_GET_TIMESTAMP: Final = "/workbench.v1.KV/GetTimestamp"
MULTI_GET: Final = "/workbench.v1.KV/MultiGet"
SCAN: Final = "/workbench.v1.KV/Scan"
EXPORT: Final = "/workbench.v1.KV/Export"
RESTORE_BEGIN: Final = "/workbench.v1.Restore/Begin"
RESTORE_IMPORT: Final = "/workbench.v1.Restore/Import"
RESTORE_SAVE_ROUTES: Final = "/workbench.v1.Restore/SaveRoutes"
RESTORE_END: Final = "/workbench.v1.Restore/End"
RESTORE_STATUS: Final = "/workbench.v1.Restore/Status"
CATALOG_AT: Final = "/workbench.v1.Node/CatalogAt"
COLLECT_GARBAGE: Final = "/workbench.v1.Node/CollectGarbage"
PIN: Final = "/workbench.v1.Node/Pin"
UNPIN: Final = "/workbench.v1.Node/Unpin"
STREAM_WINDOWS: Final = "/workbench.v1.Load/StreamWindows"
STATUS: Final = "/workbench.v1.Node/Status"

# Of an answer, trailing. All values are ASCII.
CODE_KEY: Final = "x-workbench-code"
KIND_KEY: Final = "x-workbench-kind"
REPEATED_KEY: Final = "x-workbench-repeated"
CLUSTER_KEY: Final = "x-workbench-cluster-id"
MORE_KEY: Final = "x-workbench-more"
READ_TS_KEY: Final = "x-workbench-read-ts"
OLDEST_KEY: Final = "x-workbench-oldest-us"
MISSING_KEY: Final = "x-workbench-missing"
INDEX_KEY: Final = "x-workbench-applied-index"
LEADER_KEY: Final = "x-workbench-leader"
# google.rpc.Status, with details of what the status means.
DETAILS_KEY: Final = "grpc-status-details-bin"
# Of a request. HOP_KEY marks one that a node has forwarded, so that it is not forwarded again;
# REDIRECT_KEY asks to be told where to go instead.
REQUEST_ID_KEY: Final = "x-workbench-request-id"
HOP_KEY: Final = "x-workbench-hop"
REDIRECT_KEY: Final = "x-workbench-redirect"

REQUEST_ID_CHARS_MAX: Final = 128
CLIENT_ID_BYTES: Final = 16
RESTORE_ID_BYTES: Final = 16
PIN_ID_BYTES: Final = 16
GARBAGE_STEP_VERSIONS: Final = 4_096
EXPORT_CHUNK_BYTES: Final = 2**20
EXPORT_CHUNK_BYTES_MAX: Final = 8 * 2**20
EXPORT_SCANNED_BYTES_MAX: Final = 64 * 2**20
EXPORT_SCANNED_CHUNKS: Final = 4
IMPORT_BYTES_MAX: Final = 4 * 2**20
IMPORT_PARTS_MAX: Final = 64
U64_MAX: Final = 2**64 - 1
WATCH_PROTOCOL: Final = 1
WATCH_BATCH: Final = 128
WATCH_BATCH_MAX: Final = 1_024

# No proxy: nodes are named by address. The reconnect times keep a client of a restarted node
# from waiting out gRPC's default back-off of up to two minutes.
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", FRAME_BYTES_MAX),
    ("grpc.max_send_message_length", FRAME_BYTES_MAX),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Else a new client waits out the back-off of an older one that shares its connection.
    ("grpc.use_local_subchannel_pool", 1),
)
# Two servers must never share a port: the kernel would deal calls out between them.
SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", FRAME_BYTES_MAX),
    ("grpc.max_send_message_length", FRAME_BYTES_MAX),
    ("grpc.so_reuseport", 0),
)

_ABORTED: Final = 10
_STATES: Final = {
    distribution_pb2.RouteState.Value(f"ROUTE_STATE_{state.value}"): state for state in RouteState
}

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """Return `data` as a message of `kind`; InvalidInput (`request_malformed`) where it is none."""
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidInput(
            f"{len(data)} bytes are no {kind.DESCRIPTOR.full_name}",
            code="request_malformed",
            hint="docs/formats/wire.md lists fields and types",
        ) from error
    return message


def route_message(route: RouteDescriptor) -> distribution_pb2.RouteDescriptor:
    """Return a route as its message; an absent end is an empty one."""
    return distribution_pb2.RouteDescriptor(
        route_id=route.route_id,
        start=route.span.start,
        end=route.span.end or b"",
        raft_group_id=route.group,
        state=f"ROUTE_STATE_{route.state.value}",
        parent_route_id=route.parent_route_id,
        split_at_hlc=route.split_at_hlc,
    )


def route_of(message: distribution_pb2.RouteDescriptor) -> RouteDescriptor:
    """Return the route that a message describes; InvalidInput for a state or span of no route."""
    state = _STATES.get(message.state)
    if state is None:
        raise InvalidInput(
            f"route {message.route_id} has the unknown state number {message.state}",
            code="route_state_unknown",
            hint=f"known are {', '.join(f'{number} {each}' for number, each in _STATES.items())}",
        )
    return RouteDescriptor(
        route_id=message.route_id,
        span=Span(message.start, message.end or None),
        group=message.raft_group_id,
        state=state,
        parent_route_id=message.parent_route_id,
        split_at_hlc=message.split_at_hlc,
    )


def routes_of(messages: Iterable[distribution_pb2.RouteDescriptor]) -> tuple[RouteDescriptor, ...]:
    """Return routes, ascending; InvalidInput where they break a rule of routes."""
    return check_routes(route_of(each) for each in messages)


def delta_message(delta: RouteDelta) -> distribution_pb2.CatalogDeltaRecord:
    """Return a delta as its message."""
    return distribution_pb2.CatalogDeltaRecord(
        previous_version=delta.previous_version,
        version=delta.version,
        mutations=[
            distribution_pb2.CatalogDeltaMutation(
                op=f"CATALOG_DELTA_MUTATION_OP_{each.op.name}",
                route_id=each.route_id,
                route=None if each.route is None else route_message(each.route),
            )
            for each in delta.mutations
        ],
    )


def delta_of(message: distribution_pb2.CatalogDeltaRecord) -> RouteDelta:
    """Return the delta that a message describes; InvalidInput (`delta_invalid`) for none."""
    mutations: list[RouteMutation] = []
    for each in message.mutations:
        try:
            op = MutationOp(each.op)
        except ValueError as error:
            raise _delta_invalid(message, f"the unknown op {each.op}") from error
        upsert = op is MutationOp.UPSERT
        route = route_of(each.route) if upsert and each.HasField("route") else None
        if each.route_id == 0 or (route.route_id if route else 0) != (each.route_id * upsert):
            raise _delta_invalid(message, f"a route other than {each.route_id} beside its id")
        mutations.append(RouteMutation(op, each.route_id, route))
    if message.previous_version >= message.version:
        raise _delta_invalid(message, f"the previous version {message.previous_version}")
    if len({each.route_id for each in mutations}) < len(mutations):
        raise _delta_invalid(message, "two changes of one route")
    return RouteDelta(message.previous_version, message.version, tuple(mutations))


def _delta_invalid(message: distribution_pb2.CatalogDeltaRecord, what: str) -> InvalidInput:
    return InvalidInput(
        f"the delta of catalog version {message.version} has {what}",
        code="delta_invalid",
        hint="check which program serves the address",
    )


def moved_detail(group: int, address: str, message: str) -> bytes:
    """Return the status detail that says where calls for a group go; an empty address: unknown."""
    detail = any_pb2.Any()
    detail.Pack(v1.RouteMoved(group=group, address=address))
    return v1.RpcStatus(code=_ABORTED, message=message, details=[detail]).SerializeToString()


def moved_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> v1.RouteMoved | None:
    """Return where a status says that calls go, None where it does not."""
    for name, value in metadata or ():
        if name == DETAILS_KEY and isinstance(value, bytes):
            moved = v1.RouteMoved()
            try:
                for detail in v1.RpcStatus.FromString(value).details:
                    if detail.Unpack(moved):
                        return moved
            except DecodeError:
                return None
    return None


def cursor_message(cursor: ExportCursor) -> v1.Cursor:
    """Return a cursor as its message."""
    tag = v1.CURSOR_TAG_EMITTED if cursor.tag is CursorTag.EMITTED else v1.CURSOR_TAG_SCANNED
    return v1.Cursor(key=cursor.key, commit_ts=cursor.commit_ts, tag=tag)


def cursor_of(message: v1.Cursor) -> ExportCursor:
    """Return the cursor that a message describes; InvalidInput for an unknown tag."""
    if message.tag not in {v1.CURSOR_TAG_EMITTED, v1.CURSOR_TAG_SCANNED}:
        raise InvalidInput(
            f"a cursor has the unknown tag {message.tag}",
            code="cursor_invalid",
            hint="known are 0 and 1",
        )
    emitted = message.tag == v1.CURSOR_TAG_EMITTED
    tag = CursorTag.EMITTED if emitted else CursorTag.SCANNED
    return ExportCursor(check_key(message.key, "cursor"), message.commit_ts, tag)


def restore_message(status: RestoreStatus) -> v1.RestoreStatusResponse:
    """Return how far a restore has come as its message."""
    return v1.RestoreStatusResponse(
        group=status.group,
        restore_id=status.restore_id,
        restoring=status.restoring,
        seq=status.seq,
        rows=status.rows,
        max_commit_ts=status.max_commit_ts,
        offset=status.offset,
    )


def restore_of(message: v1.RestoreStatusResponse) -> RestoreStatus:
    """Return how far a restore has come."""
    return RestoreStatus(
        group=message.group,
        restore_id=message.restore_id,
        restoring=message.restoring,
        seq=message.seq,
        rows=message.rows,
        max_commit_ts=message.max_commit_ts,
        offset=message.offset,
    )


def metadata_value(metadata: Iterable[tuple[str, str | bytes]] | None, key: str) -> str | None:
    """Return the first text value under `key`, None where there is none."""
    for name, value in metadata or ():
        if name == key and isinstance(value, str):
            return value
    return None


def metadata_number(metadata: Iterable[tuple[str, str | bytes]] | None, key: str) -> int | None:
    """Return the first value under `key` that is a decimal number, None where there is none."""
    value = metadata_value(metadata, key)
    return int(value) if value is not None and value.isascii() and value.isdecimal() else None


def numbers_text(numbers: Iterable[int]) -> str:
    """Return numbers as one metadata value."""
    return ",".join(map(str, numbers))


def metadata_numbers(
    metadata: Iterable[tuple[str, str | bytes]] | None, key: str
) -> tuple[int, ...]:
    """Return the numbers of a value that `numbers_text` made; what is none is left out."""
    parts = (metadata_value(metadata, key) or "").split(",")
    return tuple(int(part) for part in parts if part.isascii() and part.isdecimal())
