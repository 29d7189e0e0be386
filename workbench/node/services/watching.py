"""The part of the Distribution service that tells how the route catalog came to be, and goes on.

    after ──▶ deltas kept? ──yes──▶ delta, delta, … ──▶ wait for the next version ──▶ delta …
                   └────────no────▶ snapshot ───────────────┘

- A watcher gets every version from the one that it has seen on, in order and without a hole, or
  first a snapshot that takes the place of what it knows. A hole in what must be kept is an error
  of the node, and never hidden behind a snapshot.
- Versions are sent when they are committed: a watcher waits for the turn that applies one.
- A watch is answered by the leader of the catalog group alone; other nodes name it. A watch of a
  leader that is one no more ends, and its caller goes on at the next one.

Which version had which routes is answered from the ring of the newest tables, else from the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from workbench.errors import NotFound, Unavailable
from workbench.model.keys import check_key
from workbench.node import wire
from workbench.node.forwarding import Call, Reply
from workbench.node.proto import distribution_pb2 as distribution
from workbench.replica.commands import (
    CatalogDeltas,
    CatalogListing,
    ListCatalog,
    ListCatalogVersion,
    ReadDeltas,
)
from workbench.routing.rules import CATALOG_GROUP
from workbench.routing.table import RouteTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from workbench.node.services.calls import Desk, Handler, StreamHandler

# So often a quiet watch looks whether this node still leads and is not stopping.
LOOK_S: Final = 0.25


class Watching:
    """Handlers of the service's methods about versions of the route catalog."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of calls answered by one message, by full method name."""
        return {
            wire.CATALOG_CAPABILITIES: self.capabilities,
            wire.ROUTE_OWNERSHIP: self.ownership,
            wire.INTERSECTING_ROUTES: self.intersecting,
        }

    def stream_handlers(self) -> Mapping[str, StreamHandler]:
        """Return the handlers of calls answered by a stream, by full method name."""
        return {wire.WATCH_CATALOG: self.watch}

    async def capabilities(self, call: Call) -> Reply:
        """Return what a watcher may ask for."""
        if not self._desk.peers.leads(CATALOG_GROUP):
            return await self._desk.peers.forward(call, CATALOG_GROUP, writes=False)
        wire.parse(distribution.CatalogCapabilitiesRequest, call.data)
        found = await self._deltas(0, 1)
        answer = distribution.CatalogCapabilitiesResponse(
            supported_protocol_versions=[wire.WATCH_PROTOCOL],
            current_version=found.version,
            oldest_delta_version=found.floor + 1 if found.floor < found.version else 0,
            max_batch_size=wire.WATCH_BATCH_MAX,
        )
        return Reply(answer.SerializeToString())

    async def ownership(self, call: Call) -> Reply:
        """Return the route that held a key in a catalog version; 0 is the configuration's."""
        if not self._desk.peers.leads(CATALOG_GROUP):
            return await self._desk.peers.forward(call, CATALOG_GROUP, writes=False)
        request = wire.parse(distribution.GetRouteOwnershipRequest, call.data)
        table = await self._table(request.catalog_version)
        route = table.lookup(check_key(request.key))
        answer = distribution.GetRouteOwnershipResponse(
            route=None if route is None else wire.route_message(route),
            catalog_version=table.version,
            found=route is not None,
        )
        return Reply(answer.SerializeToString())

    async def intersecting(self, call: Call) -> Reply:
        """Return the routes of a catalog version that share a key with a range."""
        if not self._desk.peers.leads(CATALOG_GROUP):
            return await self._desk.peers.forward(call, CATALOG_GROUP, writes=False)
        request = wire.parse(distribution.GetIntersectingRoutesRequest, call.data)
        start, end = check_key(request.start, "start"), check_key(request.end, "end") or None
        table = await self._table(request.catalog_version)
        answer = distribution.GetIntersectingRoutesResponse(
            routes=[wire.route_message(route) for route in table.intersecting(start, end)],
            catalog_version=table.version,
        )
        return Reply(answer.SerializeToString())

    async def watch(self, call: Call) -> AsyncIterator[Reply]:
        """Yield what leads on from a catalog version, for as long as the caller listens."""
        request = wire.parse(distribution.CatalogWatchRequest, call.data)
        if request.protocol_version != wire.WATCH_PROTOCOL:
            raise Unavailable(
                f"protocol {request.protocol_version} of WatchCatalog is not served",
                code="watch_protocol_unknown",
                hint=f"ask for protocol {wire.WATCH_PROTOCOL}, or list the routes again and again",
                retryable=False,
            )
        batch = min(request.max_batch_size or wire.WATCH_BATCH, wire.WATCH_BATCH_MAX)
        after = request.after_version
        while True:
            self._check_leads()
            found = await self._deltas(after, batch)
            if after < found.floor:
                listing = await self._desk.runtime.read(CATALOG_GROUP, ListCatalog())
                assert isinstance(listing, CatalogListing)
                after = listing.version
                yield Reply(_snapshot(listing).SerializeToString())
            for delta in found.deltas:
                after = delta.version
                event = distribution.CatalogWatchEvent(delta=wire.delta_message(delta))
                yield Reply(event.SerializeToString())
            if after >= found.version:
                await self._until_newer(after)

    async def _until_newer(self, version: int) -> None:
        """Wait until a newer version than this has been applied here."""
        while (table := self._desk.runtime.routes()) is None or table.version <= version:
            # A node that leads no more goes on taking turns, whoever is connected to it.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._desk.runtime.turned(), LOOK_S)
            self._check_leads()

    def _check_leads(self) -> None:
        self._desk.runtime.check_open()
        self._desk.peers.check_leads(CATALOG_GROUP)

    async def _deltas(self, after: int, limit: int) -> CatalogDeltas:
        found = await self._desk.runtime.read(CATALOG_GROUP, ReadDeltas(after, limit))
        assert isinstance(found, CatalogDeltas)
        return found

    async def _table(self, version: int) -> RouteTable:
        """Return the routes of a catalog version; 0 stands for the configuration's."""
        self._desk.routes.take_applied()
        try:
            return self._desk.routes.table(version)
        except (NotFound, Unavailable):
            # Versions of one turn, or of before a restart, are in the rows only.
            listing = await self._desk.runtime.read(CATALOG_GROUP, ListCatalogVersion(version))
            assert isinstance(listing, CatalogListing)
            return RouteTable(listing.version, listing.routes)


def _snapshot(listing: CatalogListing) -> distribution.CatalogWatchEvent:
    return distribution.CatalogWatchEvent(
        snapshot=distribution.CatalogSnapshotReset(
            version=listing.version, routes=[wire.route_message(route) for route in listing.routes]
        )
    )
