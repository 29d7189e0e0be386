"""Which routes this node knows: where to send a key, and what the sampler counts by.

    configuration ──▶ version 0 ──catalog group here, or ListRoutes from its node──▶ newer ones

The node of the catalog group takes the table that the group applied last. Every other node asks
for it every REFRESH_S. A table is only ever replaced by a newer one. It is a hint for where to
send a call: the group that receives it decides.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from workbench.errors import Unavailable, WorkbenchError
from workbench.model.keys import printable_key
from workbench.node import wire
from workbench.node.forwarding import Call
from workbench.node.proto import distribution_pb2 as distribution
from workbench.routing.rules import CATALOG_GROUP
from workbench.routing.table import RouteHistory, RouteTable

if TYPE_CHECKING:
    from workbench.node.config import NodeConfig
    from workbench.node.events import Events
    from workbench.node.forwarding import Peers
    from workbench.node.runtime import Runtime
    from workbench.node.sampler import Sampler

REFRESH_S: Final = 0.25


class KnownRoutes:
    """The newest routes that this node knows; its sampler is told of every change."""

    def __init__(
        self,
        config: NodeConfig,
        runtime: Runtime,
        peers: Peers,
        sampler: Sampler,
        events: Events,
    ) -> None:
        self._runtime = runtime
        self._peers = peers
        self._sampler = sampler
        self._events = events
        self._groups = config.groups
        self._led: frozenset[int] = frozenset()
        self._history = RouteHistory(config.routes)
        self._silent = False
        sampler.follow_leaders = self.follow_leaders
        self._tell_sampler()

    @property
    def current(self) -> RouteTable:
        """The newest table; version 0 is the configuration's."""
        return self._history.current

    def table(self, version: int) -> RouteTable:
        """Return the routes of one of the newest versions; raises as `RouteHistory.owner_of`."""
        return self._history.table(version)

    def group_of(self, key: bytes) -> int:
        """Return the group that owns a key; Unavailable (`ownership_unknown`) where none does."""
        route = self._history.current.lookup(key)
        if route is None:
            raise Unavailable(
                f"no route holds the key {printable_key(key)}",
                code="ownership_unknown",
                hint="list the routes: there is a gap between them",
            )
        return route.group

    def take_applied(self) -> None:
        """Take what the catalog group applied last, where it is on this node."""
        table = self._runtime.routes()
        if table is not None:
            self._take(table)

    def follow_leaders(self) -> None:
        """Have the sampler count for the groups that this node leads now, and no others."""
        status = self._runtime.status
        led = frozenset(group for group in self._groups if status(group).serving)
        if led != self._led:
            self._led = led
            self._tell_sampler()

    async def refresh(self) -> None:
        """Take the newest routes from wherever the catalog group is."""
        if self._runtime.leader(CATALOG_GROUP) is not None:
            self.take_applied()
            return
        request = distribution.ListRoutesRequest().SerializeToString()
        call = Call(wire.LIST_ROUTES, request)
        try:
            reply = await self._peers.forward(call, CATALOG_GROUP, writes=False)
            answer = wire.parse(distribution.ListRoutesResponse, reply.data)
            if answer.catalog_version > self.current.version:
                routes = tuple(wire.route_of(each) for each in answer.routes)
                self._take(RouteTable(answer.catalog_version, routes))
        except WorkbenchError as error:
            if not self._silent:
                self._events.tell("routes_not_refreshed", code=error.code, error=str(error))
            self._silent = True
        else:
            if self._silent:
                self._events.tell("routes_refreshed", catalog_version=self.current.version)
            self._silent = False

    async def follow(self) -> None:
        """Refresh again and again, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S)

    def _take(self, table: RouteTable) -> None:
        if self._history.replace(table):
            self._tell_sampler()

    def _tell_sampler(self) -> None:
        self._sampler.set_routes(self._history.current, self._led, self._runtime.now_us())
