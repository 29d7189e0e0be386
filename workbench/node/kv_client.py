"""Keys and values of a whole cluster, over gRPC: the shell of the client's machine.

    AsyncKv ── calls, answers, time ──▶ client.machine ── Send, WatchRoutes, Cancel ──▶ channels
    Kv ────── the same, from any thread, over an event loop of its own

- The machine decides where a call goes, what is tried again and how it ends; here are only
  connections, messages and the clock. Everything runs in one event loop, so there are no locks.
- Every call has a deadline. A write that may have been made and was not acknowledged is
  OutcomeUnknown, never a failure.
- The rows of a scan that nobody takes are not fetched: pages wait for their reader.

What one node tells of itself, routes as a snapshot, splits, load and history: `client`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Self, TypeVar

import grpc
import grpc.aio

from workbench.client.checks import check_put, checked_addresses
from workbench.client.machine import Client, Options
from workbench.client.values import (
    Ask,
    Cancel,
    Done,
    Failed,
    Failure,
    Fate,
    Mutation,
    Page,
    Precondition,
    Read,
    RoutesRequest,
    Rows,
    Scan,
    ScanRequest,
    Send,
    Told,
    WatchRoutes,
    Write,
    WriteRequest,
    failure_of,
)
from workbench.errors import InvalidInput, Unavailable, WorkbenchError
from workbench.model.node import GotMany, StoredVersion, Written
from workbench.node import wire
from workbench.node.calling import answer_refused, parse_answer, refusal_of
from workbench.node.kv_messages import answer_of, message_of
from workbench.node.proto import distribution_pb2 as distribution
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.routing.table import RouteTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence

    from workbench.client.values import Call, Effect

__all__ = ["AsyncKv", "Kv", "Mutation", "Options", "Precondition"]

TIMEOUT_S: Final = 10.0
SCAN_TIMEOUT_S: Final = 600.0
# Rows that may wait for a scan's reader before the next page is fetched.
ROWS_WAITING_MAX: Final = 4_096
# How long a client that is closed waits for what gRPC has left to do.
ENDING_S: Final = 1.0
_REDIRECT: Final = ((wire.REDIRECT_KEY, "1"),)

T = TypeVar("T")
Pair = tuple[bytes, StoredVersion]


class _Under:
    """A call that somebody waits for."""

    __slots__ = ("end", "room", "rows", "some")

    def __init__(self) -> None:
        self.rows: deque[Pair] = deque()
        self.some = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.end: asyncio.Future[Written | GotMany | int | Told] = (
            asyncio.get_running_loop().create_future()
        )
        self.end.add_done_callback(lambda _: self.some.set())


class AsyncKv:
    """The keys and values of one cluster; made and used in one event loop.

    Args:
        addresses: `HOST:PORT` of one or more nodes.
        client_id: 16 bytes that nobody else uses; None draws them.
        options: How patient it is.
        timeout_s: Of a call that names none of its own.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        client_id: bytes | None = None,
        options: Options | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        client_id = client_id or os.urandom(wire.CLIENT_ID_BYTES)
        self._machine = Client(checked_addresses(addresses), client_id, options)
        self._timeout_s = timeout_s
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._calls: dict[int, _Under] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def close(self) -> None:
        """Close all connections; calls under way end as cancelled."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for under in self._calls.values():
            under.end.cancel()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def routes(self) -> RouteTable | None:
        """The newest routes that have come; None before the first call."""
        return self._machine.routes

    @property
    def repeats(self) -> int:
        """How many requests were not answered, and have been or will be made again."""
        return self._machine.repeats

    def hurry(self, left_s: float) -> None:
        """Let every call that is under way end within so many seconds; later ones are not hurried.

        They end as they do when their own time has passed.
        """
        self._machine.hurry(_now_ms(), int(1_000 * left_s))
        self._pump()

    async def put(
        self, key: bytes, value: bytes, *, expire_at_ms: int = 0, timeout_s: float | None = None
    ) -> Written:
        """Write one key, exactly once; raises as `write`."""
        check_put(value)
        return await self.write([Mutation(key, value, expire_at_ms)], timeout_s=timeout_s)

    async def delete(self, key: bytes, *, timeout_s: float | None = None) -> Written:
        """Delete one key, exactly once; raises as `write`."""
        return await self.write([Mutation(key, None)], timeout_s=timeout_s)

    async def write(
        self,
        mutations: Sequence[Mutation],
        *,
        preconditions: Sequence[Precondition] = (),
        exactly_once: bool = True,
        timeout_s: float | None = None,
    ) -> Written:
        """Write keys of one group, all or none.

        Args:
            mutations: At least one; of several of one key the last one stays.
            preconditions: All must hold when it is committed.
            exactly_once: Repeated where its fate is not known; else sent at most once.
            timeout_s: Until it ends, whatever happens.

        Raises:
            BatchSpansGroups: keys of several groups; names the spans of each.
            Conflict: `precondition_failed`.
            InvalidInput: a key, a value or the batch is too long, or a key is reserved.
            Unavailable: nothing was written.
            OutcomeUnknown: it may have been written.
        """
        call = Write(tuple(mutations), tuple(preconditions), exactly_once)
        result = await self._start(call, timeout_s).end
        assert isinstance(result, Written)
        return result

    async def get(
        self, key: bytes, *, read_ts: int = 0, timeout_s: float | None = None
    ) -> StoredVersion | None:
        """Return the value of one key and when it was written, None where it has none."""
        return (await self.multi_get([key], read_ts=read_ts, timeout_s=timeout_s)).versions[0]

    async def multi_get(
        self, keys: Sequence[bytes], *, read_ts: int = 0, timeout_s: float | None = None
    ) -> GotMany:
        """Return the values of keys of any groups, all as of one moment.

        Raises:
            InvalidInput: a key is too long or reserved; `read_ts_ahead`.
            Unavailable: a group does not answer.
        """
        result = await self._start(Read(tuple(keys), read_ts), timeout_s).end
        assert isinstance(result, GotMany)
        return result

    async def scan(  # noqa: PLR0913 - a range, and what is asked of it
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        read_ts: int = 0,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = False,
        timeout_s: float | None = SCAN_TIMEOUT_S,
    ) -> AsyncIterator[Pair]:
        """Yield the rows of [start, end) of all groups in key order, all as of one moment.

        Raises:
            Unavailable: a group does not answer; rows that were yielded are right.
        """
        call = Scan(start, end, read_ts, limit, reverse, keys_only)
        number = self._begin(call, timeout_s)
        under = self._calls[number]
        self._pump()
        try:
            while True:
                while under.rows:
                    yield under.rows.popleft()
                under.room.set()
                if under.end.done():
                    under.end.result()
                    return
                under.some.clear()
                await under.some.wait()
        finally:
            under.room.set()
            if number in self._calls:
                self._machine.cancel(number, _now_ms())
                del self._calls[number]
                self._pump()

    def _start(self, call: Call, timeout_s: float | None) -> _Under:
        number = self._begin(call, timeout_s)
        under = self._calls[number]
        under.end.add_done_callback(lambda _: self._gone(number))
        self._pump()
        return under

    def _begin(self, call: Call, timeout_s: float | None) -> int:
        if self._closed:
            raise Unavailable("the client is closed", code="client_closed", retryable=False)
        timeout_ms = int(1_000 * (self._timeout_s if timeout_s is None else timeout_s))
        number = self._machine.start(call, _now_ms(), timeout_ms=timeout_ms)
        self._calls[number] = _Under()
        return number

    def _gone(self, number: int) -> None:
        """Forget a call whose caller does not wait any more."""
        if self._calls.pop(number, None) is not None and not self._closed:
            self._machine.cancel(number, _now_ms())
            self._pump()

    def _pump(self) -> None:
        """Carry out what the machine wants, and see to it that it is woken."""
        while effects := self._machine.effects():
            for effect in effects:
                self._carry_out(effect)
        due_ms = self._machine.wake_at_ms
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_ms is not None and not self._closed:
            left_s = max(0, due_ms - _now_ms()) / 1_000
            self._timer = asyncio.get_running_loop().call_later(left_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._machine.tick(_now_ms())
        self._pump()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._task(effect.attempt, self._send(effect))
            case WatchRoutes():
                self._task(effect.attempt, self._watch(effect))
            case Cancel():
                task = self._tasks.get(effect.attempt)
                if task is not None:
                    task.cancel()
            case Rows():
                under = self._calls.get(effect.call)
                if under is not None:
                    under.rows.extend(effect.rows)
                    under.some.set()
                    if len(under.rows) > ROWS_WAITING_MAX:
                        under.room.clear()
            case Done() | Failed():
                self._end(effect)

    def _end(self, effect: Done | Failed) -> None:
        under = self._calls.pop(effect.call, None)
        if under is None or under.end.done():
            return
        if isinstance(effect, Done):
            under.end.set_result(effect.result)
        else:
            under.end.set_exception(effect.error)
            # A scan whose reader has gone asks for it no more.
            under.end.exception()

    def _task(self, attempt: int, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[attempt] = task
        task.add_done_callback(lambda done: self._ended(attempt, done))

    def _ended(self, attempt: int, task: asyncio.Task[None]) -> None:
        del self._tasks[attempt]
        if task.cancelled() or (bug := task.exception()) is None:
            return
        # A bug of ours: whoever waits must not wait for ever.
        for under in list(self._calls.values()):
            if not under.end.done():
                under.end.set_exception(bug)

    async def _send(self, send: Send) -> None:
        """Make one call and tell the machine how it ended."""
        channel, timeout_s = self._channel(send.address), send.timeout_ms / 1_000
        request = send.request
        writes = isinstance(request, WriteRequest)
        try:
            if isinstance(request, ScanRequest):
                await self._stream(send, request)
                return
            assert not isinstance(request, Ask), "asked through `calling`"
            method, message = message_of(request)
            metadata = () if isinstance(request, RoutesRequest) else _REDIRECT
            call = channel.unary_unary(method)(
                message.SerializeToString(), timeout=timeout_s, metadata=metadata
            )
            data = await call
            answer = answer_of(request, data, tuple(await call.trailing_metadata() or ()))
        except grpc.aio.AioRpcError as error:
            self._failed(send.attempt, refusal_of(error, send.address, writes=writes))
        except WorkbenchError as error:
            self._failed(send.attempt, failure_of(error, writes=writes))
        else:
            self._machine.answered(send.attempt, answer, _now_ms())
            self._pump()

    async def _stream(self, send: Send, request: ScanRequest) -> None:
        message = v1.ScanRequest(
            group=request.group,
            start=request.start,
            end=request.end or b"",
            read_ts=request.read_ts,
            reverse=request.reverse,
            limit=request.limit or 0,
            keys_only=request.keys_only,
        )
        call = self._channel(send.address).unary_stream(wire.SCAN)(
            message.SerializeToString(), timeout=send.timeout_ms / 1_000
        )
        async for data in call:
            chunk = parse_answer(v1.ScanChunk, wire.SCAN, data)
            rows = tuple((r.key, StoredVersion(r.value, r.commit_ts)) for r in chunk.rows)
            page = Page(chunk.read_ts, rows, chunk.done, chunk.next_key)
            self._machine.answered(send.attempt, page, _now_ms())
            self._pump()
            if chunk.done:
                return
            under = self._calls.get(send.call)
            if under is not None:
                await under.room.wait()
        ended = Unavailable("the stream ended before its last page", code="scan_interrupted")
        self._failed(send.attempt, Failure(Fate.NOT_DONE, ended, send.address))

    async def _watch(self, watch: WatchRoutes) -> None:
        """Follow the routes and tell the machine every change."""
        request = distribution.CatalogWatchRequest(
            protocol_version=wire.WATCH_PROTOCOL, after_version=watch.after_version
        )
        call = self._channel(watch.address).unary_stream(wire.WATCH_CATALOG)(
            request.SerializeToString()
        )
        try:
            async for data in call:
                event = parse_answer(distribution.CatalogWatchEvent, wire.WATCH_CATALOG, data)
                try:
                    told = (
                        wire.delta_of(event.delta)
                        if event.WhichOneof("payload") == "delta"
                        else RouteTable(
                            event.snapshot.version, wire.routes_of(event.snapshot.routes)
                        )
                    )
                except InvalidInput as error:
                    raise answer_refused(wire.WATCH_CATALOG, error) from error
                self._machine.watched(watch.attempt, told, _now_ms())
                self._pump()
            ended: WorkbenchError = Unavailable("the watch ended", code="watch_ended")
            failure = failure_of(ended, writes=False)
        except grpc.aio.AioRpcError as error:
            failure = refusal_of(error, watch.address, writes=False)
        except WorkbenchError as error:
            failure = failure_of(error, writes=False)
        self._failed(watch.attempt, failure)

    def _failed(self, attempt: int, failure: Failure) -> None:
        self._machine.failed(attempt, failure, _now_ms())
        self._pump()

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = grpc.aio.insecure_channel(address, options=wire.CHANNEL_OPTIONS)
            self._channels[address] = channel
        return channel


class Kv:
    """The same from any thread; it runs an event loop in a thread of its own.

    Args:
        addresses: `HOST:PORT` of one or more nodes.
        client_id: As of AsyncKv.
        options: Likewise.
        timeout_s: Likewise.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        client_id: bytes | None = None,
        options: Options | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        # Made here, so that wrong arguments are told where they were given.
        self._kv = AsyncKv(addresses, client_id=client_id, options=options, timeout_s=timeout_s)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="kv-client", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Close all connections, and end the thread."""
        if self._loop.is_closed():
            return
        self._run(self._kv.close())
        self._run(_ended())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def routes(self) -> RouteTable | None:
        """The newest routes that have come; None before the first call."""
        return self._kv.routes

    @property
    def repeats(self) -> int:
        """How many requests were not answered, and have been or will be made again."""
        return self._kv.repeats

    def hurry(self, left_s: float) -> None:
        """Let every call that is under way end within so many seconds; as `AsyncKv.hurry`."""
        self._loop.call_soon_threadsafe(self._kv.hurry, left_s)

    def put(
        self, key: bytes, value: bytes, *, expire_at_ms: int = 0, timeout_s: float | None = None
    ) -> Written:
        """Write one key, exactly once; raises as `AsyncKv.write`."""
        return self._run(self._kv.put(key, value, expire_at_ms=expire_at_ms, timeout_s=timeout_s))

    def delete(self, key: bytes, *, timeout_s: float | None = None) -> Written:
        """Delete one key, exactly once; raises as `AsyncKv.write`."""
        return self._run(self._kv.delete(key, timeout_s=timeout_s))

    def write(
        self,
        mutations: Sequence[Mutation],
        *,
        preconditions: Sequence[Precondition] = (),
        exactly_once: bool = True,
        timeout_s: float | None = None,
    ) -> Written:
        """Write keys of one group, all or none; as `AsyncKv.write`."""
        return self._run(
            self._kv.write(
                mutations,
                preconditions=preconditions,
                exactly_once=exactly_once,
                timeout_s=timeout_s,
            )
        )

    def get(
        self, key: bytes, *, read_ts: int = 0, timeout_s: float | None = None
    ) -> StoredVersion | None:
        """Return the value of one key and when it was written, None where it has none."""
        return self._run(self._kv.get(key, read_ts=read_ts, timeout_s=timeout_s))

    def multi_get(
        self, keys: Sequence[bytes], *, read_ts: int = 0, timeout_s: float | None = None
    ) -> GotMany:
        """Return the values of keys of any groups, all as of one moment."""
        return self._run(self._kv.multi_get(keys, read_ts=read_ts, timeout_s=timeout_s))

    def scan(  # noqa: PLR0913 - a range, and what is asked of it
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        read_ts: int = 0,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = False,
        timeout_s: float | None = SCAN_TIMEOUT_S,
    ) -> Iterator[Pair]:
        """Yield the rows of [start, end) of all groups in key order; as `AsyncKv.scan`."""
        rows = self._kv.scan(
            start,
            end,
            read_ts=read_ts,
            limit=limit,
            reverse=reverse,
            keys_only=keys_only,
            timeout_s=timeout_s,
        )
        try:
            while block := self._run(_some(rows)):
                yield from block
        finally:
            self._run(_closed(rows))

    def _run(self, work: Coroutine[None, None, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise Unavailable("the client is closed", code="client_closed", retryable=False)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _ended() -> None:
    """Let what is left in this loop end: gRPC looks after its calls in tasks of its own."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    if not rest:
        return
    _, pending = await asyncio.wait(rest, timeout=ENDING_S)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


async def _some(rows: AsyncIterator[Pair]) -> list[Pair]:
    """Return the next rows of a scan, none at its end."""
    block: list[Pair] = []
    async for row in rows:
        block.append(row)
        if len(block) == ROWS_WAITING_MAX // 4:
            break
    return block


async def _closed(rows: AsyncIterator[Pair]) -> None:
    close = getattr(rows, "aclose", None)
    if close is not None:
        await close()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
