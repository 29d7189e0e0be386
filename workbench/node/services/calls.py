"""How a call becomes an answer or a status, and the checks that several services share.

    bytes ──Call──▶ handler ──Reply──▶ bytes, trailing metadata
                       └── WorkbenchError ──▶ status, text, code

A handler raises errors of ours; whatever else it raises is a bug of ours, is told as INTERNAL
without its text, and is logged with its trace. Limits of one request are checked here; what
depends on state is the group's to decide.
"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc

from workbench.errors import Internal, InvalidInput, Unavailable, WorkbenchError
from workbench.model.keys import KEY_BYTES_MAX, check_key, printable_key
from workbench.model.limits import BATCH_BYTES_MAX, VALUE_BYTES_MAX
from workbench.model.routes import RESERVED_PREFIX
from workbench.node import wire
from workbench.node.errors import Redirected, message_of, status_of, trailers_of
from workbench.node.forwarding import DEADLINE_SHARE, Call, Reply, RouteMoved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from workbench.node.admission import Admission
    from workbench.node.config import NodeConfig
    from workbench.node.events import Events
    from workbench.node.forwarding import Metadata, Peers
    from workbench.node.known_routes import KnownRoutes
    from workbench.node.runtime import Runtime
    from workbench.node.sampler import Sampler
    from workbench.node.upkeep import Holds

KEYS_PER_CALL_MAX: Final = 10_000
# Of errors that say that nothing was done, and that a leader may be found a moment later.
LEADERLESS: Final = frozenset({"not_leader", "leader_unknown", "catalog_leader_unknown"})
LEADER_PAUSE_S: Final = 0.05
# Beside those that stand for this status wherever they are raised.
_PRECONDITIONS: Final = frozenset({"watch_protocol_unknown"})


@dataclass(frozen=True, slots=True)
class Desk:
    """What all services of a node work with."""

    config: NodeConfig
    runtime: Runtime
    peers: Peers
    routes: KnownRoutes
    sampler: Sampler
    events: Events
    holds: Holds
    admission: Admission


if TYPE_CHECKING:
    Handler = Callable[[Call], Awaitable[Reply]]
    # The last Reply of a stream carries no data, but the trailing metadata.
    StreamHandler = Callable[[Call], AsyncIterator[Reply]]


def unary(desk: Desk, method: str, handle: Handler) -> grpc.RpcMethodHandler:
    """Return the gRPC handler of a method that is answered by one message."""

    async def serve(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            call = _call(desk, method, data, context)
            caller = None if call.forwarded else context.peer()
            desk.admission.enter(caller, len(data))
            try:
                reply = await _answered(handle, call)
            finally:
                desk.admission.leave(caller, len(data))
        except Exception as error:  # noqa: BLE001 - the boundary: every error becomes a status
            await _abort(desk, method, error, context)
        if reply.trailers:
            context.set_trailing_metadata(reply.trailers)
        return reply.data

    return grpc.unary_unary_rpc_method_handler(serve)


async def _answered(handle: Handler, call: Call) -> Reply:
    """Answer a call; while a group has no leader, or another than was thought, try it again.

    Only what says that nothing was done is tried again, and not for the node that sent it on.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + call.timeout_s
    while True:
        try:
            return await handle(call)
        except Unavailable as error:
            again = error.code in LEADERLESS and not isinstance(error, Redirected)
            if call.forwarded or not again or loop.time() + LEADER_PAUSE_S >= end:
                raise
        await asyncio.sleep(LEADER_PAUSE_S)
        call = replace(call, left_s=(end - loop.time()) / DEADLINE_SHARE)


def stream(desk: Desk, method: str, handle: StreamHandler) -> grpc.RpcMethodHandler:
    """Return the gRPC handler of a method that is answered by a stream of messages."""

    async def serve(data: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        try:
            async for reply in handle(_call(desk, method, data, context)):
                if reply.trailers:
                    context.set_trailing_metadata(reply.trailers)
                if reply.data:
                    yield reply.data
        except Exception as error:  # noqa: BLE001 - the boundary: every error becomes a status
            await _abort(desk, method, error, context)

    return grpc.unary_stream_rpc_method_handler(serve)


def check_user_key(key: bytes, what: str = "key") -> bytes:
    """Return `key`; InvalidInput (`key_too_long`, `key_reserved`) where users may not use it."""
    check_key(key, what)
    if key.startswith(RESERVED_PREFIX):
        raise InvalidInput(
            f"{what} {printable_key(key)} begins with {printable_key(RESERVED_PREFIX)}",
            code="key_reserved",
            hint="the cluster keeps its own records there: choose another key",
        )
    return key


def check_user_keys(keys: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return `keys`; InvalidInput as `check_user_key` where users may not use one of them."""
    given = tuple(keys)
    # Which one it is, is only asked where there is one: a call may name thousands.
    longest = max(map(len, given), default=0)
    if longest > KEY_BYTES_MAX or any(map(bytes.startswith, given, repeat(RESERVED_PREFIX))):
        for key in given:
            check_user_key(key)
    return given


def check_value(value: bytes) -> bytes:
    """Return `value`; InvalidInput (`value_too_long`) where it is longer than a value may be."""
    if len(value) > VALUE_BYTES_MAX:
        raise InvalidInput(
            f"value has {len(value)} bytes, the limit is {VALUE_BYTES_MAX}",
            code="value_too_long",
            hint="store it in parts, under several keys",
        )
    return value


def check_batch(data: bytes, keys: int) -> None:
    """Raise InvalidInput where a request is longer than one may be, or has too many keys.

    The codes are `batch_too_large`, `keys_too_many` and `batch_empty`.
    """
    if len(data) > BATCH_BYTES_MAX:
        raise InvalidInput(
            f"the request has {len(data)} bytes, the limit is {BATCH_BYTES_MAX}",
            code="batch_too_large",
            hint="send it as several batches",
        )
    if keys > KEYS_PER_CALL_MAX:
        raise InvalidInput(
            f"the request has {keys} keys, the limit is {KEYS_PER_CALL_MAX}",
            code="keys_too_many",
            hint="send it as several calls",
        )
    if keys == 0:
        raise InvalidInput(
            "the request names no key", code="batch_empty", hint="send at least one key"
        )


def _call(desk: Desk, method: str, data: bytes, context: grpc.aio.ServicerContext) -> Call:
    desk.runtime.check_open()
    return Call(method, data, context.invocation_metadata() or (), context.time_remaining())


async def _abort(
    desk: Desk, method: str, error: Exception, context: grpc.aio.ServicerContext
) -> NoReturn:
    """End the call with the status of an error."""
    if not isinstance(error, WorkbenchError):
        trace = "".join(traceback.format_exception(error))
        desk.events.tell("call_failed", method=method, error=type(error).__name__, trace=trace)
        error = Internal(
            f"{method} failed inside the node ({type(error).__name__})",
            code="node_bug",
            hint="the node's log has the trace: please report it",
        )
    status = status_of(error)
    trailers: Metadata = trailers_of(error)
    if isinstance(error, RouteMoved):
        status = grpc.StatusCode.ABORTED
        moved = wire.moved_detail(error.group, error.leader_address, message_of(error))
        trailers = (*trailers, (wire.DETAILS_KEY, moved))
    elif error.code in _PRECONDITIONS:
        status = grpc.StatusCode.FAILED_PRECONDITION
    done: Any = await context.abort(status, message_of(error), trailers)
    raise AssertionError(done)
