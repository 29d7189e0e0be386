"""A client of the bundled node: one cluster, several addresses, answers as values of the model.

    call ──▶ the address that answered last ──no connection──▶ the next one ── … ──▶ Unavailable

Any node serves any call, so one address that answers is enough. The rules of trying again:

- A call goes to the next address only where the last one certainly did not carry it out: no
  connection came about, the node said that it is stopping, or the call only reads.
- A write that was sent and not answered is OutcomeUnknown. This client never repeats it.
- Every call has a deadline; it covers all addresses together.

Errors are those of `workbench.errors`; the code is the one that the node gave. It drives any
server of the compatible services too, for which there is no cluster id, status or load.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeVar

import grpc
from google.protobuf.message import Message

from workbench.errors import Corruption, InvalidArgument, InvalidInput, Unavailable, WorkbenchError
from workbench.model.limits import SCAN_PAGE_ROWS_MAX
from workbench.model.node import (
    ClosedWindow,
    GotMany,
    GroupStatus,
    LoadRow,
    Member,
    NodeStatus,
    StoredVersion,
    Written,
)
from workbench.model.routes import RouteSnapshot, check_routes
from workbench.node import wire
from workbench.node.errors import error_of, failure_of
from workbench.node.proto import distribution_pb2 as distribution
from workbench.node.proto import rawkv_pb2 as rawkv
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.ports.connector import SplitReceipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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


class Windows(NamedTuple):
    """Closed load windows of all members.

    Attributes:
        closed: Ascending by start, then node.
        oldest_us: Start of the oldest window that every member still keeps; None where there
            is none.
    """

    closed: list[ClosedWindow]
    oldest_us: int | None


class NodeClient:
    """One cluster of bundled nodes; safe to use from several threads.

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

    def status(self, address: str | None = None) -> NodeStatus:
        """Return how one node is: the one at `address`, or the first that answers."""
        once = _unary(wire.STATUS, v1.StatusRequest(), v1.StatusResponse)
        answer, _ = self._anywhere(wire.STATUS, once, only=address)
        return NodeStatus(
            cluster_id=answer.cluster_id,
            node=answer.node,
            pid=answer.pid,
            version=answer.version,
            groups=tuple(
                GroupStatus(
                    group=each.id,
                    role=each.role,
                    term=each.term,
                    commit_index=each.commit_index,
                    applied_index=each.applied_index,
                    leader_node=each.leader_node,
                    serving=each.serving,
                )
                for each in answer.groups
            ),
            members=tuple(
                Member(each.node, each.address, tuple(each.groups)) for each in answer.members
            ),
            catalog_version=answer.catalog_version,
            window_ms=answer.window_ms,
        )

    def members(self) -> tuple[Member, ...]:
        """Return all nodes of the cluster."""
        return self.status().members

    def list_routes(self) -> RouteSnapshot:
        """Return the newest routes.

        Raises:
            Corruption: the answer breaks a rule of routes.
        """
        request = distribution.ListRoutesRequest()
        answer, trailers = self._call(wire.LIST_ROUTES, request, distribution.ListRoutesResponse)
        try:
            routes = check_routes(wire.route_of(each) for each in answer.routes)
        except InvalidInput as error:
            raise _answer_refused(wire.LIST_ROUTES, error) from error
        return RouteSnapshot(
            catalog_version=answer.catalog_version,
            routes=routes,
            taken_at=datetime.now(UTC),
            cluster_id=wire.metadata_value(trailers, wire.CLUSTER_KEY),
        )

    def get_timestamp(self) -> int:
        """Return a timestamp (HLC) above all that the catalog group has issued."""
        request = distribution.GetTimestampRequest()
        answer, _ = self._call(wire.GET_TIMESTAMP, request, distribution.GetTimestampResponse)
        return answer.timestamp

    def split_range(
        self, *, expected_version: int, route_id: int, split_key: bytes, request_id: str
    ) -> SplitReceipt:
        """Split a route at a key, if the catalog is at `expected_version`.

        Args:
            expected_version: Of the catalog, as the caller saw it.
            route_id: Of the route to split.
            split_key: Inside its span; the right child begins with it.
            request_id: ASCII; a node of ours answers a repeat of it with the first result.

        Raises:
            Conflict: `catalog_version_mismatch`: another change came first.
            NotFound: `route_absent`.
            InvalidInput: `split_key_at_bound` or `split_key_outside`.
            Unavailable: nothing was done.
            OutcomeUnknown: it may have been done: look for the children first.
        """
        if not request_id.isascii() or not request_id.isprintable():
            raise InvalidArgument(
                f"request id {request_id!r} is not printable ASCII",
                code="request_id_invalid",
                hint="use letters, digits and hyphens",
            )
        request = distribution.SplitRangeRequest(
            expected_catalog_version=expected_version, route_id=route_id, split_key=split_key
        )
        answer, trailers = self._call(
            wire.SPLIT_RANGE,
            request,
            distribution.SplitRangeResponse,
            writes=True,
            metadata=((wire.REQUEST_ID_KEY, request_id),),
        )
        try:
            left, right = wire.route_of(answer.left), wire.route_of(answer.right)
        except InvalidInput as error:
            raise _answer_refused(wire.SPLIT_RANGE, error) from error
        return SplitReceipt(
            catalog_version=answer.catalog_version,
            left=left,
            right=right,
            repeated=wire.metadata_value(trailers, wire.REPEATED_KEY) == "1",
        )

    def batch_write(
        self,
        group: int,
        mutations: Sequence[tuple[bytes, bytes | None]],
        *,
        client_id: bytes,
        sequence: int,
    ) -> Written:
        """Write many keys of one group at once, all or none, exactly once.

        Args:
            group: That owns all the keys.
            mutations: Pairs of key and value; None deletes.
            client_id: 16 bytes that name the writer, or b"" for at-least-once.
            sequence: From 1, ascending per client and group; a repeat of one is answered with
                its first result. 0 with an empty client id.

        Raises:
            InvalidInput: a key, a value or the batch is too long, or a key is reserved.
            Unavailable: nothing was written.
            OutcomeUnknown: it may have been written; the same call again is safe.
        """
        request = v1.BatchWriteRequest(
            group=group,
            client_id=client_id,
            sequence=sequence,
            mutations=[
                v1.Mutation(key=key, delete=True)
                if value is None
                else v1.Mutation(key=key, value=value)
                for key, value in mutations
            ],
        )
        answer, _ = self._call(wire.BATCH_WRITE, request, v1.BatchWriteResponse, writes=True)
        return Written(commit_ts=answer.commit_ts, index=answer.index)

    def multi_get(self, group: int, keys: Sequence[bytes], *, read_ts: int = 0) -> GotMany:
        """Return the values of many keys of one group, all as of one moment; 0 is the newest."""
        request = v1.MultiGetRequest(group=group, keys=keys, read_ts=read_ts)
        answer, trailers = self._call(wire.MULTI_GET, request, v1.MultiGetResponse)
        if len(answer.versions) != len(keys):
            raise Corruption(
                f"asked for {len(keys)} keys, the answer has {len(answer.versions)}",
                code="answer_malformed",
                hint="check which program serves the address",
            )
        return GotMany(
            read_ts=answer.read_ts,
            index=wire.metadata_number(trailers, wire.INDEX_KEY) or 0,
            versions=tuple(
                StoredVersion(each.value, each.commit_ts) if each.exists else None
                for each in answer.versions
            ),
        )

    def windows(self, since_us: int | None = None) -> Windows:
        """Return the closed load windows of all members that start at `since_us` or later.

        Raises:
            Unavailable: a member does not answer; then nothing is returned.
        """
        request = v1.StreamWindowsRequest(since_us=since_us or 0)
        messages, trailers = self._stream(wire.STREAM_WINDOWS, request, v1.LoadWindows)
        return Windows(
            sorted(
                (_window(each) for each in messages), key=lambda each: (each.start_us, each.node)
            ),
            wire.metadata_number(trailers, wire.OLDEST_KEY),
        )

    def put(self, key: bytes, value: bytes) -> int:
        """Write one key and return its log index; at-least-once."""
        request = rawkv.RawPutRequest(key=key, value=value)
        answer, _ = self._call(wire.RAW_PUT, request, rawkv.RawPutResponse, writes=True)
        return answer.commit_index

    def get(self, key: bytes, *, read_ts: int = 0) -> bytes | None:
        """Return the value of one key, None where it has none."""
        request = rawkv.RawGetRequest(key=key, ts=read_ts)
        answer, _ = self._call(wire.RAW_GET, request, rawkv.RawGetResponse)
        return answer.value if answer.exists else None

    def delete(self, key: bytes) -> int:
        """Delete one key and return the log index; at-least-once."""
        request = rawkv.RawDeleteRequest(key=key)
        answer, _ = self._call(wire.RAW_DELETE, request, rawkv.RawDeleteResponse, writes=True)
        return answer.commit_index

    def latest_commit_ts(self, key: bytes) -> int | None:
        """Return when (HLC) the key was last written or deleted, None for never."""
        request = rawkv.RawLatestCommitTSRequest(key=key)
        answer, _ = self._call(wire.RAW_LATEST_COMMIT_TS, request, rawkv.RawLatestCommitTSResponse)
        return answer.ts if answer.exists else None

    def scan(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        limit: int | None = None,
        read_ts: int = 0,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield pairs of `[start, end)` in key order, or in reverse, page by page.

        A `limit` of None means all. All pages are as of one moment, unless the server does not
        say as of which its first one is.
        """
        left = limit
        while left is None or left > 0:
            request = rawkv.RawScanAtRequest(
                start_key=start,
                end_key=end or b"",
                limit=min(left or SCAN_PAGE_ROWS_MAX, SCAN_PAGE_ROWS_MAX),
                ts=read_ts,
                reverse=reverse,
            )
            answer, trailers = self._call(wire.RAW_SCAN_AT, request, rawkv.RawScanAtResponse)
            yield from ((pair.key, pair.value) for pair in answer.kv)
            read_ts = read_ts or wire.metadata_number(trailers, wire.READ_TS_KEY) or 0
            # A server that does not tell whether more follows is asked until nothing comes.
            if not answer.kv or wire.metadata_value(trailers, wire.MORE_KEY) == "0":
                return
            last = answer.kv[-1].key
            if reverse:
                end = last
                if end <= start:
                    return
            else:
                start = last + b"\x00"
                if end is not None and start >= end:
                    return
            left = None if left is None else left - len(answer.kv)

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
        return self._anywhere(method, _unary(method, request, kind, metadata), writes=writes)

    def _stream(self, method: str, request: Message, kind: type[M]) -> tuple[list[M], Trailers]:
        """Make a call that is answered by a stream, and return all of it."""
        data = request.SerializeToString()

        def once(channel: grpc.Channel, timeout_s: float) -> tuple[list[M], Trailers]:
            call = channel.unary_stream(method)(data, timeout=timeout_s)
            messages = [_parse_answer(kind, method, each) for each in call]
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
        for address in order:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            try:
                answer = once(self._channel(address), left_s)
            except grpc.RpcError as error:
                codes = _SPLIT_CODES if method == wire.SPLIT_RANGE else {}
                refusal = error_of(failure_of(error), peer=address, writes=writes, codes=codes)
                if not _may_try_next(refusal, writes=writes):
                    raise refusal from error
            else:
                if only is None:
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


def _unary(
    method: str, request: Message, kind: type[M], metadata: tuple[tuple[str, str], ...] = ()
) -> Callable[[grpc.Channel, float], tuple[M, Trailers]]:
    """Return what makes the call on a channel, and gives the answer with trailing metadata."""
    data = request.SerializeToString()

    def once(channel: grpc.Channel, timeout_s: float) -> tuple[M, Trailers]:
        answer, call = channel.unary_unary(method).with_call(
            data, timeout=timeout_s, metadata=metadata
        )
        return _parse_answer(kind, method, answer), tuple(call.trailing_metadata() or ())

    return once


def _parse_answer(kind: type[M], method: str, data: bytes) -> M:
    try:
        return wire.parse(kind, data)
    except InvalidInput as error:
        raise _answer_refused(method, error) from error


def _answer_refused(method: str, error: WorkbenchError) -> Corruption:
    return Corruption(
        f"the answer to {method} cannot be read: {error.message}",
        code="answer_malformed",
        hint="check which program serves the address",
    )


def _window(message: v1.LoadWindows) -> ClosedWindow:
    return ClosedWindow(
        node=message.node,
        start_us=message.window_start_us,
        end_us=message.window_end_us,
        rows=tuple(
            LoadRow(
                route_id=row.route_id,
                group=row.group,
                bucket_start=row.bucket_start,
                bucket_end=row.bucket_end or None,
                reads=row.reads,
                writes=row.writes,
                read_bytes=row.read_bytes,
                write_bytes=row.write_bytes,
                coverage=row.coverage,
            )
            for row in message.rows
        ),
    )
