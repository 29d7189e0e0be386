"""Which routes this node knows: where to send a key, and what the sampler counts by.

    configuration ──▶ version 0 ──catalog group here, or ListRoutes from its node──▶ newer ones
    closed windows of the other nodes ──▶ bounds of the buckets of routes that they lead

The node of the catalog group takes the table that the group applied last. Every other node asks
for it every REFRESH_S. A table is only ever replaced by a newer one. It is a hint for where to
send a call: the group that receives it decides.

Several times per window every node asks the others what they told of their routes, and has its
sampler learn the bounds of their buckets: who leads a route next goes on with them. Bounds of the
window in which a leader first chose them are not known elsewhere before that window closed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from workbench.errors import Unavailable, WorkbenchError
from workbench.model.keys import Span, printable_key
from workbench.node import wire
from workbench.node.forwarding import Call
from workbench.node.proto import distribution_pb2 as distribution
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.routing.rules import CATALOG_GROUP
from workbench.routing.table import RouteHistory, RouteTable

if TYPE_CHECKING:
    from workbench.model.node import Member
    from workbench.node.config import NodeConfig
    from workbench.node.events import Events
    from workbench.node.forwarding import Peers
    from workbench.node.runtime import Runtime
    from workbench.node.sampler import Sampler

REFRESH_S: Final = 0.25
# Bounds change once in many windows: asking often only makes them known soon after a window.
LEARN_S_MAX: Final = 5.0
LEARNINGS_PER_WINDOW: Final = 4
LEARN_TIMEOUT_S: Final = 1.0
# Whoever led a route until a moment ago told of it in one of these.
WINDOWS_LEARNED: Final = 3


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
        self._window_us = config.window_ms * 1_000
        self._learned_us: dict[int, int] = {}  # by node: start of the newest window it told of
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

    async def learn_buckets(self) -> None:
        """Have the sampler learn the buckets that other nodes told of since they were asked."""
        others = [each for each in self._peers.members if each.node != self._peers.node]
        await asyncio.gather(*(self._learn_from(each) for each in others))

    async def follow_buckets(self) -> None:
        """Learn buckets again and again, until cancelled."""
        pause_s = self._window_us / 1e6 / LEARNINGS_PER_WINDOW
        while True:
            await self.learn_buckets()
            await asyncio.sleep(min(max(pause_s, REFRESH_S), LEARN_S_MAX))

    async def _learn_from(self, member: Member) -> None:
        """Learn from one node; one that does not answer is asked again next time."""
        recent_us = self._runtime.now_us() - WINDOWS_LEARNED * self._window_us
        since_us = max(0, recent_us, self._learned_us.get(member.node, 0))
        request = v1.StreamWindowsRequest(since_us=since_us, local_only=True)
        call = Call(wire.STREAM_WINDOWS, request.SerializeToString(), left_s=LEARN_TIMEOUT_S)
        try:
            async for reply in self._peers.stream(call, member):
                if not reply.data:
                    continue
                window = wire.parse(v1.LoadWindows, reply.data)
                buckets: dict[int, list[Span]] = {}
                for row in window.rows:
                    span = Span(row.bucket_start, row.bucket_end or None)
                    buckets.setdefault(row.route_id, []).append(span)
                self._sampler.learn(window.window_start_us, buckets)
                self._learned_us[member.node] = window.window_start_us + 1
        except WorkbenchError:
            return

    def _take(self, table: RouteTable) -> None:
        if self._history.replace(table):
            self._tell_sampler()

    def _tell_sampler(self) -> None:
        self._sampler.set_routes(self._history.current, self._led, self._runtime.now_us())
