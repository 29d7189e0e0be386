"""How a client of the bundled node makes a call that is none of keys: the machine's other shell.

    _call, _stream ── Ask, time ──▶ client.machine ── Send ──▶ a channel, in the caller's thread
                        ◀── Told, or an error ──┘

- The machine decides whom to ask, what is asked again and how a call ends, as it does for keys
  (`kv_client`). Here are only connections and the clock.
- Each call is made in its caller's thread; what the machine wants of other calls meanwhile goes
  to theirs.

Which calls there are is `client`, `history` and `admin_client`.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, cast

import grpc
from google.protobuf.message import Message

from workbench.client.checks import checked_addresses
from workbench.client.machine import Client, Options
from workbench.client.values import Ask, Done, Failed, Send, Told
from workbench.client.values import failure_of as fate_of
from workbench.errors import Corruption, InvalidArgument, InvalidInput, WorkbenchError
from workbench.node import wire
from workbench.node.errors import error_of, failure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workbench.client.values import Failure

TIMEOUT_S: Final = 5.0

# What the statuses of SplitRange mean where the server sends no code of ours.
_SPLIT_CODES: Final = {
    grpc.StatusCode.ABORTED: "catalog_version_mismatch",
    grpc.StatusCode.NOT_FOUND: "route_absent",
    grpc.StatusCode.FAILED_PRECONDITION: "route_not_active",
    grpc.StatusCode.INVALID_ARGUMENT: "split_key_invalid",
}
M = TypeVar("M", bound=Message)
T = TypeVar("T")
Trailers = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    """What an Ask carries: how to make the call on a channel within so many seconds."""

    method: str
    once: Callable[[grpc.Channel, float], T]


class Caller:
    """The addresses of one cluster, and the connections to them.

    Args:
        addresses: `HOST:PORT` of one or more nodes.
        timeout_s: Of every call, all addresses together.
    """

    def __init__(self, addresses: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> None:
        addresses = checked_addresses(addresses)
        if not addresses or timeout_s <= 0:
            raise InvalidArgument(
                f"{len(addresses)} addresses and a timeout of {timeout_s} s",
                code="client_arguments",
                hint="give at least one HOST:PORT and a positive timeout",
            )
        self._timeout_s = timeout_s
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = threading.Lock()  # of the machine, the channels and the inboxes
        self._machine = Client(addresses, os.urandom(wire.CLIENT_ID_BYTES), Options(watch=False))
        # By call: what the machine wants of its thread.
        self._inboxes: dict[int, queue.SimpleQueue[Send | Done | Failed]] = {}

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

    def _call(  # noqa: PLR0913 - a call, and how it may be made
        self,
        method: str,
        request: Message,
        kind: type[M],
        *,
        group: int = 0,
        writes: bool = False,
        quick: bool = False,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> tuple[M, Trailers]:
        """Make a call that is answered by one message; as `_ask`."""
        once = unary(method, request, kind, metadata)
        return self._ask(method, once, group=group, writes=writes, quick=quick)

    def _stream(self, method: str, request: Message, kind: type[M]) -> tuple[list[M], Trailers]:
        """Make a call that is answered by a stream, and return all of it."""
        data = request.SerializeToString()

        def once(channel: grpc.Channel, timeout_s: float) -> tuple[list[M], Trailers]:
            call = channel.unary_stream(method)(data, timeout=timeout_s)
            messages = [parse_answer(kind, method, each) for each in call]
            return messages, tuple(call.trailing_metadata() or ())

        return self._ask(method, once)

    def _ask(  # noqa: PLR0913 - a call, and how it may be made
        self,
        method: str,
        once: Callable[[grpc.Channel, float], T],
        *,
        group: int = 0,
        writes: bool = False,
        quick: bool = False,
        only: str | None = None,
    ) -> T:
        """Make a call wherever it can be made.

        Args:
            method: Its full name.
            once: Makes it on a channel, within so many seconds.
            group: Whose leader should answer; 0: any node.
            writes: As of `Ask`.
            quick: Likewise.
            only: Address of the one node to ask.
        """
        ask = Ask(_Call(method, once), group, only, writes, quick)
        inbox: queue.SimpleQueue[Send | Done | Failed] = queue.SimpleQueue()
        with self._lock:
            number = self._machine.start(ask, _now_ms(), timeout_ms=int(self._timeout_s * 1_000))
            self._inboxes[number] = inbox
            self._deal()
        try:
            while True:
                effect = self._next(inbox)
                if isinstance(effect, Failed):
                    raise effect.error
                if isinstance(effect, Done):
                    assert isinstance(effect.result, Told)
                    return cast("T", effect.result.value)  # what `once` gave
                self._make(effect)
        finally:
            with self._lock:
                del self._inboxes[number]
                self._machine.cancel(number, _now_ms())
                self._deal()

    def _next(self, inbox: queue.SimpleQueue[Send | Done | Failed]) -> Send | Done | Failed:
        """Wait for what the machine wants, and let its time pass meanwhile."""
        while True:
            with self._lock:
                self._machine.tick(_now_ms())
                self._deal()
                due_ms = self._machine.wake_at_ms
            # Its own deadline is a timer of the machine's, unless it has come just now.
            left_ms = 0 if due_ms is None else max(0, due_ms - _now_ms())
            try:
                return inbox.get(timeout=left_ms / 1_000)
            except queue.Empty:
                continue

    def _deal(self) -> None:
        """Hand what the machine wants to the threads that it concerns; under the lock."""
        for effect in self._machine.effects():
            if isinstance(effect, Send | Done | Failed) and effect.call in self._inboxes:
                self._inboxes[effect.call].put(effect)

    def _make(self, send: Send) -> None:
        """Make one attempt and tell the machine how it ended."""
        ask = send.request
        assert isinstance(ask, Ask)
        assert isinstance(ask.what, _Call)
        failure: Failure
        try:
            value = ask.what.once(self._channel(send.address), send.timeout_ms / 1_000)
        except grpc.RpcError as error:
            codes = _SPLIT_CODES if ask.what.method == wire.SPLIT_RANGE else {}
            failure = refusal_of(error, send.address, writes=ask.writes, codes=codes)
            failure.error.__cause__ = error
        except WorkbenchError as error:
            failure = fate_of(error, writes=ask.writes)
        else:
            with self._lock:
                self._machine.answered(send.attempt, Told(value), _now_ms())
                self._deal()
            return
        with self._lock:
            self._machine.failed(send.attempt, failure, _now_ms())
            self._deal()

    def _channel(self, address: str) -> grpc.Channel:
        """Return the open channel to an address."""
        with self._lock:
            channel = self._channels.get(address)
            if channel is None:
                channel = grpc.insecure_channel(address, options=wire.CHANNEL_OPTIONS)
                self._channels[address] = channel
            return channel


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


def refusal_of(
    error: grpc.RpcError,
    peer: str,
    *,
    writes: bool,
    codes: Mapping[grpc.StatusCode, str] | None = None,
) -> Failure:
    """Return what the end of a call means, and where the server says that it goes instead.

    Args:
        error: As gRPC raised it.
        peer: Whom it called, for the text.
        writes: Whether it could change anything.
        codes: The method's own code per status, for a peer that sends none.
    """
    ended = failure_of(error)
    moved = wire.moved_of(ended.trailers)
    leader = moved.address if moved is not None else None
    leader = leader or wire.metadata_value(ended.trailers, wire.LEADER_KEY)
    refusal = error_of(ended, peer=peer, writes=writes, codes=codes)
    return fate_of(refusal, writes=writes, leader=leader)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
