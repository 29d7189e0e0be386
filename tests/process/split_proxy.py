"""A gRPC proxy between `workbench apply` and a node, that kills at an exact moment of a call.

    apply ──▶ SplitProxy ──▶ node       every method, as raw bytes, with metadata and statuses
                  └── kills apply at a Moment of its n-th SplitRange, and forwards nothing more

It knows no message: what it does not look at, it cannot change.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn, Self

import grpc

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

SPLIT_RANGE = "/Distribution/SplitRange"
STREAMS = frozenset({"/workbench.v1.Load/StreamWindows"})
# As for every connection to a node by address: no proxy of the environment, no shared port.
CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
DEADLINE_S = 20.0
SERVER_OPTIONS = (("grpc.so_reuseport", 0),)


class Moment(Enum):
    """When in a call to kill.

    BEFORE     the call arrived here, and is never forwarded
    COMMITTED  the node answered, so the split is made; nothing of the answer is passed on
    ANSWERED   the answer was handed to the connection; whether it was read, and its receipt
               kept, is open; nothing that follows is forwarded
    NEXT       the first request after it arrived here, so its receipt is kept; not forwarded
    """

    BEFORE = "before"
    COMMITTED = "committed"
    ANSWERED = "answered"
    NEXT = "next"


class SplitProxy(grpc.GenericRpcHandler):
    """Forwards everything to `upstream`; a context manager.

    Attributes:
        address: Where it listens.
    """

    def __init__(self, upstream: str) -> None:
        self._channel = grpc.insecure_channel(upstream, options=CHANNEL_OPTIONS)
        self._workers = ThreadPoolExecutor(max_workers=4)
        self._server = grpc.server(self._workers, handlers=(self,), options=SERVER_OPTIONS)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._lock = threading.Lock()
        self._victim: subprocess.Popen[str] | None = None
        self._at: tuple[int, Moment] | None = None
        self._calls = 0
        # The call was answered; what comes now comes from the victim, after it.
        self._passed = False

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=None).wait()
        self._channel.close()
        self._workers.shutdown()

    def kill_at(
        self, call: int, moment: Moment, start: Callable[[], subprocess.Popen[str]]
    ) -> subprocess.Popen[str]:
        """Start a process, and kill it at `moment` of its n-th SplitRange, the first is 1."""
        # Until the lock is free, no request of the process gets further than to it.
        with self._lock:
            self._at, self._calls, self._passed = (call, moment), 0, False
            self._victim = start()
            return self._victim

    def disarm(self) -> None:
        """Only forward from now on."""
        with self._lock:
            self._at, self._victim, self._passed = None, None, False

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Answer any method by asking the node."""
        method = details.method
        if method in STREAMS:
            return grpc.unary_stream_rpc_method_handler(
                lambda data, context: self._stream(method, data, context)
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda data, context: self._unary(method, data, context)
        )

    def _unary(self, method: str, data: bytes, context: grpc.ServicerContext) -> bytes:
        number = self._enter(method, context)
        self._kill_if(number, Moment.BEFORE, context)
        try:
            answer, call = self._channel.unary_unary(method).with_call(data, **_request(context))
        except grpc.RpcError as error:
            _refuse(context, error)
        self._kill_if(number, Moment.COMMITTED, context)
        context.send_initial_metadata(_own(call.initial_metadata()))
        context.set_trailing_metadata(_own(call.trailing_metadata()))
        with self._lock:
            self._passed = self._at in {(number, Moment.ANSWERED), (number, Moment.NEXT)}
            if self._at == (number, Moment.ANSWERED):
                # Runs when the call is over: then the answer is with the connection.
                assert context.add_callback(self._kill)
        return bytes(answer)

    def _stream(self, method: str, data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._enter(method, context)
        call = self._channel.unary_stream(method)(data, **_request(context))
        try:
            yield from call
        except grpc.RpcError as error:
            _refuse(context, error)
        context.set_trailing_metadata(_own(call.trailing_metadata()))

    def _enter(self, method: str, context: grpc.ServicerContext) -> int:
        """Return which SplitRange this is, 0 for none; end what comes after the moment."""
        with self._lock:
            if not self._passed:
                self._calls += method == SPLIT_RANGE
                return self._calls if method == SPLIT_RANGE else 0
        self._kill()
        context.abort(grpc.StatusCode.UNAVAILABLE, "too late")
        raise AssertionError

    def _kill_if(self, number: int, moment: Moment, context: grpc.ServicerContext) -> None:
        with self._lock:
            if self._at != (number, moment):
                return
            self._passed = True
        self._kill()
        context.abort(grpc.StatusCode.UNAVAILABLE, "the caller is dead")

    def _kill(self) -> None:
        """Return when the victim is dead."""
        with self._lock:
            victim = self._victim
        assert victim is not None
        victim.kill()
        victim.wait(DEADLINE_S)


def _request(context: grpc.ServicerContext) -> dict[str, Any]:
    return {"metadata": _own(context.invocation_metadata()), "timeout": context.time_remaining()}


def _own(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    """Return what a program said itself; the rest is each connection's own."""
    return tuple((key, value) for key, value in metadata or () if key.startswith("x-"))


def _refuse(context: grpc.ServicerContext, error: grpc.RpcError) -> NoReturn:
    context.set_trailing_metadata(_own(error.trailing_metadata()))
    context.abort(error.code(), error.details() or "")
    raise AssertionError
