"""What a cluster of bundled nodes tells of itself, and what is done to it, as values of the model.

    NodeClient ── status, routes, splits, load, garbage (here) ── HistoryCalls ── Caller ── machine

Any node serves any call, so one address that answers is enough. Whom to ask, what is asked again
and how a call ends is decided by the client's machine (`client.machine`), as it is for keys:

- A call that changes something and was not answered is OutcomeUnknown, and is never repeated here.
- Errors are those of `workbench.errors`; the code is the one that the node gave.

It drives any server of the compatible services too, for which there is no cluster id, status,
load or history. Keys and values: `kv_client`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from workbench.client.routes import RouteCache
from workbench.errors import Corruption, InvalidArgument, InvalidInput, NotFound
from workbench.model.node import (
    ClosedWindow,
    GroupStatus,
    HotKeyCount,
    KeySample,
    LoadRow,
    Member,
    NodeStatus,
    RouteKeys,
)
from workbench.model.routes import RouteSnapshot
from workbench.node import wire
from workbench.node.calling import TIMEOUT_S, answer_refused, parse_answer, unary
from workbench.node.history import ExportChunk, HistoryCalls
from workbench.node.proto import distribution_pb2 as distribution
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.ports.connector import SplitReceipt
from workbench.routing.table import RouteTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

    from workbench.model.routes import RouteDescriptor
    from workbench.routing.records import RouteDelta

__all__ = ["TIMEOUT_S", "ExportChunk", "NodeClient", "Windows"]


class Windows(NamedTuple):
    """Closed load windows of all members.

    Attributes:
        closed: Ascending by start, then node.
        oldest_us: Start of the oldest window that every member still keeps; None where there
            is none.
        missing: Nodes that did not answer: theirs are not among them.
    """

    closed: list[ClosedWindow]
    oldest_us: int | None
    missing: tuple[int, ...] = ()


class CatalogCapabilities(NamedTuple):
    """What a watcher of the route catalog may ask for.

    Attributes:
        protocols: That the server speaks.
        current_version: The newest.
        oldest_delta_version: The oldest of which the delta is kept; None where none is.
    """

    protocols: tuple[int, ...]
    current_version: int
    oldest_delta_version: int | None


class GarbageStatus(NamedTuple):
    """Where the garbage collection of a group stands.

    Attributes:
        group: Its id.
        safe_point: HLC; 0 for none yet.
        pins: How many hold it.
        dropped: Versions collected since the group began.
        scanned: Versions that this call has read.
        done: Whether the next step begins at the start of the data.
    """

    group: int
    safe_point: int
    pins: int
    dropped: int
    scanned: int
    done: bool


class NodeClient(HistoryCalls):
    """One cluster of bundled nodes; safe to use from several threads.

    Args:
        addresses: `HOST:PORT` of one or more nodes.
        timeout_s: Of every call, all addresses together.
    """

    def status(self, address: str | None = None) -> NodeStatus:
        """Return how one node is: the one at `address`, or the first that answers."""
        once = unary(wire.STATUS, v1.StatusRequest(), v1.StatusResponse)
        answer, _ = self._ask(wire.STATUS, once, quick=True, only=address)
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
        answer, trailers = self._call(
            wire.LIST_ROUTES, request, distribution.ListRoutesResponse, quick=True
        )
        snapshot = _snapshot(wire.LIST_ROUTES, answer.catalog_version, answer.routes)
        return replace(snapshot, cluster_id=wire.metadata_value(trailers, wire.CLUSTER_KEY))

    def catalog_capabilities(self) -> CatalogCapabilities:
        """Return which catalog version is the newest, and from which on deltas are kept.

        A server of the compatible services that has no watch answers `status_unimplemented`.
        """
        request = distribution.CatalogCapabilitiesRequest()
        answer, _ = self._call(
            wire.CATALOG_CAPABILITIES, request, distribution.CatalogCapabilitiesResponse
        )
        return CatalogCapabilities(
            tuple(answer.supported_protocol_versions),
            answer.current_version,
            answer.oldest_delta_version or None,
        )

    def routes_of_version(self, version: int) -> RouteSnapshot:
        """Return the routes of a catalog version that the cluster still keeps.

        Raises:
            NotFound: `catalog_version_not_kept`.
            Unavailable: `catalog_version_ahead`.
        """
        request = distribution.GetIntersectingRoutesRequest(catalog_version=version)
        answer, _ = self._call(
            wire.INTERSECTING_ROUTES, request, distribution.GetIntersectingRoutesResponse
        )
        return _snapshot(wire.INTERSECTING_ROUTES, answer.catalog_version, answer.routes)

    def owner(self, key: bytes, version: int) -> RouteDescriptor | None:
        """Return the route that held `key` in a catalog version, None where it lay in a gap.

        Version 0 stands for the routes of the configuration; raises as `routes_of_version`.
        """
        request = distribution.GetRouteOwnershipRequest(key=key, catalog_version=version)
        answer, _ = self._call(
            wire.ROUTE_OWNERSHIP, request, distribution.GetRouteOwnershipResponse
        )
        if not answer.found:
            return None
        try:
            return wire.route_of(answer.route)
        except InvalidInput as error:
            raise answer_refused(wire.ROUTE_OWNERSHIP, error) from error

    def deltas(self, after: int) -> list[RouteDelta] | None:
        """Return what leads from a catalog version to the newest, None where it is too old.

        Raises:
            InvalidInput: `watch_cursor_ahead`; `status_unimplemented`: the server has no watch.
            Corruption: the deltas leave a hole, or cannot be read.
        """
        newest = self.catalog_capabilities().current_version
        if newest == after:
            return []
        request = distribution.CatalogWatchRequest(
            protocol_version=wire.WATCH_PROTOCOL, after_version=after
        )
        data = request.SerializeToString()

        def once(channel: grpc.Channel, timeout_s: float) -> list[RouteDelta] | None:
            call = channel.unary_stream(wire.WATCH_CATALOG)(data, timeout=timeout_s)
            try:
                return _contiguous(call, after, newest)
            finally:
                call.cancel()

        return self._ask(wire.WATCH_CATALOG, once)

    def versions_since(self, after: int) -> list[RouteSnapshot]:
        """Return the routes of every catalog version above `after`, ascending.

        What the cluster no longer keeps is left out; the newest is always there, unless it is
        `after` itself. A server without a watch tells of the newest alone. Raises as `deltas`.
        """
        try:
            deltas = self.deltas(after) if after else None
            before = self.routes_of_version(after) if deltas else None
        except (InvalidInput, NotFound) as error:
            if error.code not in {"status_unimplemented", "catalog_version_not_kept"}:
                raise
            deltas, before = None, None
        if deltas is None or (deltas and before is None):
            newest = self.list_routes()
            return [newest] if newest.catalog_version > after else []
        cache = RouteCache()
        if before is not None:
            cache.replace(RouteTable(before.catalog_version, before.routes))
        snapshots: list[RouteSnapshot] = []
        for delta in deltas:
            if not cache.apply(delta):
                raise Corruption(
                    f"the delta to catalog version {delta.version} does not fit its routes",
                    code="answer_malformed",
                    hint="check which program serves the address",
                )
            assert cache.table is not None
            snapshots.append(
                RouteSnapshot(delta.version, cache.table.routes, taken_at=datetime.now(UTC))
            )
        return snapshots

    def get_timestamp(self) -> int:
        """Return a timestamp (HLC) above all that the catalog group has issued."""
        request = distribution.GetTimestampRequest()
        answer, _ = self._call(
            wire.GET_TIMESTAMP, request, distribution.GetTimestampResponse, quick=True
        )
        return answer.timestamp

    def timestamp(self) -> int:
        """Return one read_ts (HLC) for all groups: no write acknowledged before lies above it.

        Each group's own present may lag behind what another has acknowledged; the highest of
        them does not.
        """
        groups = sorted({group for member in self.members() for group in member.groups})
        return max(self._present_of(group) for group in groups)

    def _present_of(self, group: int) -> int:
        """Return the read_ts (HLC) that a group calls its present."""
        request = v1.MultiGetRequest(group=group)
        answer, _ = self._call(
            wire.MULTI_GET, request, v1.MultiGetResponse, group=group, quick=True
        )
        return answer.read_ts

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

    def windows(self, since_us: int | None = None) -> Windows:
        """Return the closed load windows that start at `since_us` or later, of who answers.

        Raises:
            Unavailable: nobody does.
        """
        request = v1.StreamWindowsRequest(since_us=since_us or 0)
        messages, trailers = self._stream(wire.STREAM_WINDOWS, request, v1.LoadWindows)
        return Windows(
            sorted(
                (_window(each) for each in messages), key=lambda each: (each.start_us, each.node)
            ),
            wire.metadata_number(trailers, wire.OLDEST_KEY),
            wire.metadata_numbers(trailers, wire.MISSING_KEY),
        )

    def collect_garbage(
        self, group: int, *, safe_point: int = 0, versions_max: int = 0
    ) -> GarbageStatus:
        """Take one step of garbage collection in a group; it may be repeated.

        Args:
            group: Its id.
            safe_point: HLC below which nothing will be read any more; 0 leaves it as it is.
            versions_max: To be read in this step; 0 for the server's choice.

        Raises:
            InvalidInput: `safe_point_ahead`, `garbage_step_invalid`.
        """
        request = v1.CollectGarbageRequest(
            group=group, safe_point=safe_point, versions_max=versions_max
        )
        return _garbage(self._call(wire.COLLECT_GARBAGE, request, v1.GarbageStatus, group=group)[0])

    def pin(self, group: int, pin_id: bytes, read_ts: int) -> GarbageStatus:
        """Keep `read_ts` readable in a group until `unpin`; it may be repeated.

        Raises:
            InvalidInput: `read_ts_below_safe_point`, `pin_ahead`, `pin_id_invalid`.
            Unavailable: `pins_exhausted`.
        """
        request = v1.PinRequest(group=group, pin_id=pin_id, read_ts=read_ts)
        return _garbage(self._call(wire.PIN, request, v1.GarbageStatus, group=group)[0])

    def unpin(self, group: int, pin_id: bytes) -> GarbageStatus:
        """Let go of a pin; nothing happens where there is none."""
        request = v1.UnpinRequest(group=group, pin_id=pin_id)
        return _garbage(self._call(wire.UNPIN, request, v1.GarbageStatus, group=group)[0])


def _garbage(message: v1.GarbageStatus) -> GarbageStatus:
    return GarbageStatus(
        message.group,
        message.safe_point,
        message.pins,
        message.dropped,
        message.scanned,
        message.done,
    )


def _snapshot(
    method: str, version: int, routes: Iterable[distribution.RouteDescriptor]
) -> RouteSnapshot:
    try:
        checked = wire.routes_of(routes)
    except InvalidInput as error:
        raise answer_refused(method, error) from error
    return RouteSnapshot(version, checked, taken_at=datetime.now(UTC))


def _contiguous(events: Iterable[bytes], after: int, newest: int) -> list[RouteDelta] | None:
    """Return the deltas from `after` to `newest`; None where a snapshot comes instead."""
    deltas: list[RouteDelta] = []
    for data in events:
        event = parse_answer(distribution.CatalogWatchEvent, wire.WATCH_CATALOG, data)
        if event.WhichOneof("payload") != "delta":
            return None
        try:
            delta = wire.delta_of(event.delta)
        except InvalidInput as error:
            raise answer_refused(wire.WATCH_CATALOG, error) from error
        if delta.previous_version != after:
            raise Corruption(
                f"after catalog version {after} comes the delta from {delta.previous_version} "
                f"to {delta.version}",
                code="answer_malformed",
                hint="check which program serves the address",
            )
        deltas.append(delta)
        after = delta.version
        if after >= newest:
            break
    return deltas


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
        keys=tuple(
            RouteKeys(
                each.route_id,
                each.untold_max,
                tuple(HotKeyCount(h.key, h.count, h.error) for h in each.hot_keys),
                tuple(KeySample(drawn.key, drawn.write, drawn.weight) for drawn in each.samples),
            )
            for each in message.keys
        ),
    )
