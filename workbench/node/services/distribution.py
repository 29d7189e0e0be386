"""The Distribution service: routes, timestamps and splits.

The node that leads the catalog group answers; every other node forwards to it. The order of the
checks of a split is that of docs/formats/wire.md: the leader here, all that depends on the
catalog in the group's own state machine. Older versions, and watches, are `watching`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput, Unavailable
from workbench.model.keys import check_key
from workbench.model.node import GotMany
from workbench.node import wire
from workbench.node.forwarding import Call, Reply
from workbench.node.proto import distribution_pb2 as distribution
from workbench.node.services.calls import check_user_key
from workbench.node.services.watching import Watching
from workbench.replica.commands import CatalogListing, GetMany, ListCatalog, SplitDone, SplitRange
from workbench.routing.rules import CATALOG_GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.node.services.calls import Desk, Handler
    from workbench.routing.table import RouteTable

REQUEST_ID_BYTES: Final = 16


class Distribution:
    """Handlers of the service's methods."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        # Encoding all routes is most of what ListRoutes costs; they change with the version only.
        self._encoded: tuple[int, bytes] = (0, b"")

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by full method name."""
        return {
            wire.GET_ROUTE: self.get_route,
            wire.GET_TIMESTAMP: self.get_timestamp,
            wire.LIST_ROUTES: self.list_routes,
            wire.SPLIT_RANGE: self.split_range,
            **Watching(self._desk).handlers(),
        }

    async def get_route(self, call: Call) -> Reply:
        """Return the route that holds a key; an empty answer where none does."""
        if not self._desk.peers.leads(CATALOG_GROUP):
            return await self._desk.peers.forward(call, CATALOG_GROUP, writes=False)
        table = self._catalog()
        request = wire.parse(distribution.GetRouteRequest, call.data)
        route = table.lookup(check_key(request.key))
        if route is None:
            return Reply(distribution.GetRouteResponse().SerializeToString())
        answer = distribution.GetRouteResponse(
            start=route.span.start, end=route.span.end or b"", raft_group_id=route.group
        )
        return Reply(answer.SerializeToString())

    async def get_timestamp(self, call: Call) -> Reply:
        """Return a timestamp (HLC) at or below which nothing new will be written."""
        if not self._desk.peers.leads(CATALOG_GROUP):
            return await self._desk.peers.forward(call, CATALOG_GROUP, writes=False)
        wire.parse(distribution.GetTimestampRequest, call.data)
        answer = await self._desk.runtime.read(CATALOG_GROUP, GetMany(()))
        assert isinstance(answer, GotMany)
        response = distribution.GetTimestampResponse(timestamp=answer.read_ts)
        return Reply(response.SerializeToString())

    async def list_routes(self, call: Call) -> Reply:
        """Return all routes of the newest catalog version."""
        if not self._desk.peers.leads(CATALOG_GROUP):
            return await self._desk.peers.forward(call, CATALOG_GROUP, writes=False)
        self._catalog()
        wire.parse(distribution.ListRoutesRequest, call.data)
        listing = await self._desk.runtime.read(CATALOG_GROUP, ListCatalog())
        assert isinstance(listing, CatalogListing)
        if self._encoded[0] != listing.version:
            response = distribution.ListRoutesResponse(
                catalog_version=listing.version,
                routes=[wire.route_message(route) for route in listing.routes],
            )
            self._encoded = listing.version, response.SerializeToString()
        return Reply(self._encoded[1], ((wire.CLUSTER_KEY, self._desk.config.cluster_id),))

    async def split_range(self, call: Call) -> Reply:
        """Split a route in two on its own group."""
        if not self._desk.peers.leads(CATALOG_GROUP):
            return await self._forward_split(call)
        self._catalog()
        request = wire.parse(distribution.SplitRangeRequest, call.data)
        command = SplitRange(
            expected_version=request.expected_catalog_version,
            route_id=request.route_id,
            split_key=check_user_key(request.split_key, "split key"),
            request_id=_request_id(call),
        )
        done = await self._desk.runtime.propose(CATALOG_GROUP, command)
        assert isinstance(done, SplitDone)
        self._desk.routes.take_applied()
        response = distribution.SplitRangeResponse(
            catalog_version=done.catalog_version,
            left=wire.route_message(done.left),
            right=wire.route_message(done.right),
        )
        return Reply(
            response.SerializeToString(),
            ((wire.REPEATED_KEY, "1"),) if done.repeated else (),
        )

    async def _forward_split(self, call: Call) -> Reply:
        """Send a split to the leader; a cluster without one is what the caller is told first."""
        try:
            return await self._desk.peers.forward(call, CATALOG_GROUP, writes=True)
        except Unavailable as error:
            if error.code != "leader_unknown":
                raise
            raise Unavailable(
                error.message, code="catalog_leader_unknown", hint=error.hint
            ) from error

    def _catalog(self) -> RouteTable:
        """Return the applied catalog, or raise what says that there is none to ask.

        Raises:
            Unavailable: `catalog_leader_unknown`, `catalog_absent`.
        """
        if not self._desk.runtime.status(CATALOG_GROUP).serving:
            raise Unavailable(
                f"the catalog group {CATALOG_GROUP} has no leader that serves",
                code="catalog_leader_unknown",
                hint="try again; see `workbench cluster status`",
            )
        table = self._desk.runtime.routes()
        if table is None:
            raise Unavailable(
                f"the catalog group {CATALOG_GROUP} has no catalog yet",
                code="catalog_absent",
                hint="try again",
            )
        return table


def _request_id(call: Call) -> bytes:
    """Return the caller's request id as the 16 bytes that the group keeps, b"" for none."""
    text = wire.metadata_value(call.metadata, wire.REQUEST_ID_KEY)
    if not text:
        return b""
    if len(text) > wire.REQUEST_ID_CHARS_MAX:
        raise InvalidInput(
            f"{wire.REQUEST_ID_KEY} has {len(text)} characters, "
            f"the limit is {wire.REQUEST_ID_CHARS_MAX}",
            code="request_id_invalid",
            hint="use a UUID, or another short text of your own",
        )
    return hashlib.sha256(text.encode()).digest()[:REQUEST_ID_BYTES]
