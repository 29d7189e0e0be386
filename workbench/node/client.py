"""A client of the bundled node: one cluster, several addresses, answers as values of the model.

    NodeClient ── calls of today (here) ── HistoryCalls ── Caller: addresses, deadlines, retries

Any node serves any call, so one address that answers is enough.

- A write that was sent and not answered is OutcomeUnknown. This client never repeats it.
- Errors are those of `workbench.errors`; the code is the one that the node gave.

It drives any server of the compatible services too, for which there is no cluster id, status,
load or history.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from workbench.errors import Corruption, InvalidArgument, InvalidInput
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
from workbench.node.calling import TIMEOUT_S, answer_refused, unary
from workbench.node.history import ExportChunk, HistoryCalls
from workbench.node.proto import distribution_pb2 as distribution
from workbench.node.proto import rawkv_pb2 as rawkv
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.ports.connector import SplitReceipt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["TIMEOUT_S", "ExportChunk", "NodeClient", "Windows"]


class Windows(NamedTuple):
    """Closed load windows of all members.

    Attributes:
        closed: Ascending by start, then node.
        oldest_us: Start of the oldest window that every member still keeps; None where there
            is none.
    """

    closed: list[ClosedWindow]
    oldest_us: int | None


class NodeClient(HistoryCalls):
    """One cluster of bundled nodes; safe to use from several threads.

    Args:
        addresses: `HOST:PORT` of one or more nodes.
        timeout_s: Of every call, all addresses together.
    """

    def status(self, address: str | None = None) -> NodeStatus:
        """Return how one node is: the one at `address`, or the first that answers."""
        once = unary(wire.STATUS, v1.StatusRequest(), v1.StatusResponse)
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
            raise answer_refused(wire.LIST_ROUTES, error) from error
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

    def timestamp(self) -> int:
        """Return one read_ts (HLC) for all groups: no write acknowledged before lies above it.

        Each group's own present may lag behind what another has acknowledged; the highest of
        them does not.
        """
        groups = sorted({group for member in self.members() for group in member.groups})
        return max(self.multi_get(group, ()).read_ts for group in groups)

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
            raise answer_refused(wire.SPLIT_RANGE, error) from error
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
