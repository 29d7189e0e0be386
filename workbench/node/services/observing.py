"""The Load and Node services: what this node carried, how it is, how routes were and change.

Load windows come from the samplers of all nodes: a caller that asks one node gets the windows
of every member that answers, and is told which do not. With `local_only` a node tells of itself
alone; that is how nodes ask one another.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from workbench._version import __version__
from workbench.errors import Unavailable
from workbench.model.node import GotMany
from workbench.node import wire
from workbench.node.forwarding import Call, Metadata, Reply
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.node.services.tidying import Tidying
from workbench.node.services.watching import Watching
from workbench.replica.commands import CatalogListing, GetMany, ListCatalogAt
from workbench.routing.rules import CATALOG_GROUP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from workbench.model.node import ClosedWindow, Member
    from workbench.node.services.calls import Desk, Handler, StreamHandler


class Observing:
    """Handlers of the methods of both services."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of calls answered by one message, by full method name."""
        return {
            wire.STATUS: self.status,
            wire.CATALOG_AT: self.catalog_at,
            **Tidying(self._desk).handlers(),
        }

    def stream_handlers(self) -> Mapping[str, StreamHandler]:
        """Return the handlers of calls answered by a stream, by full method name."""
        return {
            wire.STREAM_WINDOWS: self.stream_windows,
            **Watching(self._desk).stream_handlers(),
        }

    async def status(self, call: Call) -> Reply:
        """Return how this node is; never forwarded."""
        wire.parse(v1.StatusRequest, call.data)
        config = self._desk.config
        statuses = [self._desk.runtime.status(group) for group in config.groups]
        answer = v1.StatusResponse(
            cluster_id=config.cluster_id,
            node=config.node,
            pid=os.getpid(),
            version=__version__,
            groups=[
                v1.GroupStatus(
                    id=each.group,
                    role=each.role,
                    term=each.term,
                    commit_index=each.commit_index,
                    applied_index=each.applied_index,
                    leader_node=each.leader_node,
                    serving=each.serving,
                )
                for each in statuses
            ],
            members=[
                v1.Member(node=each.node, address=each.address, groups=each.groups)
                for each in self._desk.peers.members
            ],
            catalog_version=self._desk.routes.current.version,
            window_ms=config.window_ms,
        )
        return Reply(answer.SerializeToString())

    async def catalog_at(self, call: Call) -> Reply:
        """Return the route catalog as of a read_ts; 0 is now."""
        if not self._desk.peers.leads(CATALOG_GROUP):
            return await self._desk.peers.forward(call, CATALOG_GROUP, writes=False)
        request = wire.parse(v1.CatalogAtRequest, call.data)
        # Answered, nothing is written at or below its read_ts any more.
        fence = await self._desk.runtime.read(CATALOG_GROUP, GetMany((), request.read_ts))
        assert isinstance(fence, GotMany)
        listing = await self._desk.runtime.read(CATALOG_GROUP, ListCatalogAt(fence.read_ts))
        assert isinstance(listing, CatalogListing)
        answer = v1.CatalogAtResponse(
            read_ts=fence.read_ts,
            catalog_version=listing.version,
            routes=[wire.route_message(route) for route in listing.routes],
        )
        cluster_id = self._desk.config.cluster_id
        return Reply(answer.SerializeToString(), ((wire.CLUSTER_KEY, cluster_id),))

    async def stream_windows(self, call: Call) -> AsyncIterator[Reply]:
        """Yield the closed windows of all members, or of this one, ascending by start.

        Beside them it is told since when all of them keep theirs, and who did not answer.
        """
        request = wire.parse(v1.StreamWindowsRequest, call.data)
        self._desk.sampler.advance(self._desk.runtime.now_us())
        oldest_us = self._desk.sampler.oldest_us or 0
        messages = [
            _message(window, oldest_us) for window in self._desk.sampler.windows(request.since_us)
        ]
        oldest = [oldest_us] if oldest_us else []
        missing: list[int] = []
        if not request.local_only and not call.forwarded:
            others = [
                each for each in self._desk.peers.members if each.node != self._desk.peers.node
            ]
            told = await asyncio.gather(
                *(self._windows_of(call, request.since_us, each) for each in others)
            )
            for member, answer in zip(others, told, strict=True):
                if answer is None:
                    missing.append(member.node)
                    continue
                found, since_us = answer
                messages += found
                oldest += [since_us] if since_us is not None else []
            # Before that, a member that started later lacks its part.
            oldest_us = max(oldest, default=0)
        messages.sort(key=lambda each: (each.window_start_us, each.node))
        for message in messages:
            yield Reply(message.SerializeToString())
        trailers = ((wire.OLDEST_KEY, str(oldest_us)),) if oldest_us else ()
        if missing:
            trailers = (*trailers, (wire.MISSING_KEY, wire.numbers_text(missing)))
        yield Reply(b"", trailers)

    async def _windows_of(
        self, call: Call, since_us: int, member: Member
    ) -> tuple[list[v1.LoadWindows], int | None] | None:
        """Return another member's windows, and since when it keeps them; None: no answer."""
        request = v1.StreamWindowsRequest(since_us=since_us, local_only=True)
        asked = Call(call.method, request.SerializeToString(), (), call.left_s)
        messages: list[v1.LoadWindows] = []
        trailers: Metadata = ()
        try:
            async for reply in self._desk.peers.stream(asked, member):
                if reply.data:
                    messages.append(wire.parse(v1.LoadWindows, reply.data))
                else:
                    trailers = reply.trailers
        except Unavailable:
            return None
        return messages, wire.metadata_number(trailers, wire.OLDEST_KEY)


def _message(window: ClosedWindow, oldest_us: int) -> v1.LoadWindows:
    return v1.LoadWindows(
        node=window.node,
        window_start_us=window.start_us,
        window_end_us=window.end_us,
        oldest_us=oldest_us,
        rows=[
            v1.LoadRow(
                route_id=row.route_id,
                group=row.group,
                bucket_start=row.bucket_start,
                bucket_end=row.bucket_end or b"",
                reads=row.reads,
                writes=row.writes,
                read_bytes=row.read_bytes,
                write_bytes=row.write_bytes,
                coverage=row.coverage,
            )
            for row in window.rows
        ],
        keys=[
            v1.RouteKeys(
                route_id=each.route_id,
                untold_max=each.untold_max,
                hot_keys=[
                    v1.HotKey(key=h.key, count=h.count, error=h.error) for h in each.hot_keys
                ],
                samples=[
                    v1.KeySample(key=drawn.key, write=drawn.write, weight=drawn.weight)
                    for drawn in each.samples
                ],
            )
            for each in window.keys
        ],
    )
