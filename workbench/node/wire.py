"""What both ends of a call share: method names, metadata, channel options, and conversions.

    RouteDescriptor (model) ──route_message──▶ protobuf ──route_of──▶ RouteDescriptor

Bytes that came over the network are checked here, once: `parse` turns what is no protobuf into
InvalidInput, and `route_of` checks a route. Nothing here opens a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from workbench.errors import InvalidInput
from workbench.model.keys import Span
from workbench.model.limits import FRAME_BYTES_MAX
from workbench.model.routes import RouteDescriptor, RouteState
from workbench.node.proto import distribution_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

GET_ROUTE: Final = "/Distribution/GetRoute"
GET_TIMESTAMP: Final = "/Distribution/GetTimestamp"
LIST_ROUTES: Final = "/Distribution/ListRoutes"
SPLIT_RANGE: Final = "/Distribution/SplitRange"
RAW_PUT: Final = "/RawKV/RawPut"
RAW_GET: Final = "/RawKV/RawGet"
RAW_DELETE: Final = "/RawKV/RawDelete"
RAW_LATEST_COMMIT_TS: Final = "/RawKV/RawLatestCommitTS"
RAW_SCAN_AT: Final = "/RawKV/RawScanAt"
BATCH_WRITE: Final = "/workbench.v1.KV/BatchWrite"
MULTI_GET: Final = "/workbench.v1.KV/MultiGet"
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
INDEX_KEY: Final = "x-workbench-applied-index"
# Of a request. HOP_KEY marks one that a node has forwarded, so that it is not forwarded again.
REQUEST_ID_KEY: Final = "x-workbench-request-id"
HOP_KEY: Final = "x-workbench-hop"

REQUEST_ID_CHARS_MAX: Final = 128
CLIENT_ID_BYTES: Final = 16
U64_MAX: Final = 2**64 - 1

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
