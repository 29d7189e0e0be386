"""How a client of the bundled node makes a call: one address after the other, where that is safe.

    call ──▶ the address that answered last ──no connection──▶ the next one ── … ──▶ Unavailable
                       └──"the leader is at …"──▶ there

- A call goes to the next address only where the last one certainly did not carry it out: no
  connection came about, the node said that it is stopping, or the call only reads.
- A node may say which address a call has to be made at; that is followed once.
- Every call has a deadline; it covers all addresses together.

Which calls there are is `client` and `history`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Self, TypeVar

import grpc
from google.protobuf.message import Message

from workbench.errors import Corruption, InvalidArgument, InvalidInput, Unavailable, WorkbenchError
from workbench.node import wire
from workbench.node.errors import error_of, failure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TIMEOUT_S: Final = 5.0

# What the statuses of SplitRange mean where the server sends no code of ours.
_SPLIT_CODES: Final = {
    grpc.StatusCode.ABORTED: "catalog_version_mismatch",
    grpc.StatusCode.NOT_FOUND: "route_absent",
    grpc.StatusCode.FAILED_PRECONDITION: "route_not_active",
    grpc.StatusCode.INVALID_ARGUMENT: "split_key_invalid",
}
# With these a node or gRPC says that nothing was done, and that another node may do it.
_TRY_NEXT: Final = frozenset({"node_unreachable", "node_stopping"})

M = TypeVar("M", bound=Message)
T = TypeVar("T")
Trailers = tuple[tuple[str, str | bytes], ...]


class Caller:
    """The addresses of one cluster, and the connections to them.

    Args:
        addresses: `HOST:PORT` of one or more nodes.
        timeout_s: Of every call, all addresses together.
    """

    def __init__(self, addresses: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> None:
        if not addresses or timeout_s <= 0:
            raise InvalidArgument(
                f"{len(addresses)} addresses and a timeout of {timeout_s} s",
                code="client_arguments",
                hint="give at least one HOST:PORT and a positive timeout",
            )
        self._timeout_s = timeout_s
        self._addresses = tuple(dict.fromkeys(addresses))
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = threading.Lock()
        # Which address answered last; a stale value costs one try, so it needs no lock.
        self._preferred = 0

    def close(self) -> None:
        """Close all connections; calls under way end with an error."""
        with self._lock:
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(
        self,
        method: str,
        request: Message,
        kind: type[M],
        *,
        writes: bool = False,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> tuple[M, Trailers]:
        """Make a call that is answered by one message, wherever it can be made."""
        return self._anywhere(method, unary(method, request, kind, metadata), writes=writes)

    def _stream(self, method: str, request: Message, kind: type[M]) -> tuple[list[M], Trailers]:
        """Make a call that is answered by a stream, and return all of it."""
        data = request.SerializeToString()

        def once(channel: grpc.Channel, timeout_s: float) -> tuple[list[M], Trailers]:
            call = channel.unary_stream(method)(data, timeout=timeout_s)
            messages = [parse_answer(kind, method, each) for each in call]
            return messages, tuple(call.trailing_metadata() or ())

        return self._anywhere(method, once)

    def _anywhere(
        self,
        method: str,
        once: Callable[[grpc.Channel, float], T],
        *,
        writes: bool = False,
        only: str | None = None,
    ) -> T:
        """Make a call at one address after the other, as long as that is safe."""
        deadline = time.monotonic() + self._timeout_s
        first = self._preferred
        order = [only] if only is not None else [*self._addresses[first:], *self._addresses[:first]]
        refusal: WorkbenchError | None = None
        followed = False
        while order and (left_s := deadline - time.monotonic()) > 0:
            address = order.pop(0)
            try:
                answer = once(self._channel(address), left_s)
            except grpc.RpcError as error:
                codes = _SPLIT_CODES if method == wire.SPLIT_RANGE else {}
                failure = failure_of(error)
                refusal = error_of(failure, peer=address, writes=writes, codes=codes)
                leader = wire.metadata_value(failure.trailers, wire.LEADER_KEY)
                if leader is not None and not followed:
                    order, followed = [leader], True
                elif not _may_try_next(refusal, writes=writes):
                    raise refusal from error
            else:
                if only is None and address in self._addresses:
                    self._preferred = self._addresses.index(address)
                return answer
        assert refusal is not None, "a positive timeout allows one try"
        raise refusal

    def _channel(self, address: str) -> grpc.Channel:
        """Return the open channel to an address."""
        with self._lock:
            channel = self._channels.get(address)
            if channel is None:
                channel = grpc.insecure_channel(address, options=wire.CHANNEL_OPTIONS)
                self._channels[address] = channel
            return channel


def _may_try_next(error: WorkbenchError, *, writes: bool) -> bool:
    if not isinstance(error, Unavailable):
        return False
    return error.code in _TRY_NEXT or (error.code == "connection_lost" and not writes)


def unary(
    method: str, request: Message, kind: type[M], metadata: tuple[tuple[str, str], ...] = ()
) -> Callable[[grpc.Channel, float], tuple[M, Trailers]]:
    """Return what makes the call on a channel, and gives the answer with trailing metadata."""
    data = request.SerializeToString()

    def once(channel: grpc.Channel, timeout_s: float) -> tuple[M, Trailers]:
        answer, call = channel.unary_unary(method).with_call(
            data, timeout=timeout_s, metadata=metadata
        )
        return parse_answer(kind, method, answer), tuple(call.trailing_metadata() or ())

    return once


def parse_answer(kind: type[M], method: str, data: bytes) -> M:
    """Return an answer as a message; Corruption (`answer_malformed`) where it is none."""
    try:
        return wire.parse(kind, data)
    except InvalidInput as error:
        raise answer_refused(method, error) from error


def answer_refused(method: str, error: WorkbenchError) -> Corruption:
    """Return the error for an answer that breaks a rule."""
    return Corruption(
        f"the answer to {method} cannot be read: {error.message}",
        code="answer_malformed",
        hint="check which program serves the address",
    )
