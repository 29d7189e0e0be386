"""Export, a stream of the KV service: all versions of a group as of one read_ts, in blocks.

    fence at read_ts ──▶ page ──▶ page ──▶ page … done
         │                 └─ pairs taken in a turn, decoded in a thread, sent while the next
         │                    one is read
         └─ a read of nothing: from its answer on, nothing is written at or below read_ts

Every page is a linearizable read of its own, of what the group owns then; versions at or below
read_ts do not change, so pages of different moments make one read_snapshot. A stream holds
neither a snapshot of the engine nor the event loop from page to page. Where its caller set a
deadline it ends, without `done`, when half of that has passed: its caller goes on with another
stream behind the last cursor.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.errors import InvalidInput
from workbench.model.keys import check_key
from workbench.model.node import GotMany
from workbench.mvcc.block import encode_block
from workbench.mvcc.export import ExportedPage, export_page
from workbench.node import wire
from workbench.node.forwarding import Call, Reply
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.node.services.scanning import Scanning
from workbench.replica.commands import EnginePairs, ExportRange, GetMany

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from workbench.model.node import ExportCursor
    from workbench.node.services.calls import Desk, StreamHandler


@dataclass(frozen=True, slots=True)
class _Limits:
    """What one message may carry, and what may be read for it, in bytes."""

    chunk_bytes: int
    scanned_bytes: int


class Exporting:
    """Handlers of the service's method."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def stream_handlers(self) -> Mapping[str, StreamHandler]:
        """Return the handlers of calls answered by a stream, Scan too, by full method name."""
        return {wire.EXPORT: self.export, **Scanning(self._desk).stream_handlers()}

    async def export(self, call: Call) -> AsyncIterator[Reply]:
        """Yield the versions of a group behind a cursor, page by page."""
        request = wire.parse(v1.ExportRequest, call.data)
        group = request.group
        limits = _limits(request)
        asked = ExportRange(
            start=check_key(request.start, "start"),
            end=check_key(request.end, "end") or None,
            read_ts=request.read_ts,
            after=wire.cursor_of(request.cursor) if request.HasField("cursor") else None,
        )
        self._desk.peers.check_leads(group)
        fence = await self._desk.runtime.read(group, GetMany((), request.read_ts))
        assert isinstance(fence, GotMany)
        asked = replace(asked, read_ts=fence.read_ts)
        loop = asyncio.get_running_loop()
        end_s = None if call.left_s is None else loop.time() + call.left_s / 2
        page = await self._page(group, asked, limits)
        self._desk.holds.keep(asked.read_ts)
        while not page.done and (end_s is None or loop.time() < end_s):
            asked = replace(asked, after=page.cursor)
            following = loop.create_task(self._page(group, asked, limits))
            # Nobody asks for it where the caller has gone.
            following.add_done_callback(lambda task: task.cancelled() or task.exception())
            try:
                yield Reply(_message(group, asked.read_ts, page, asked.after))
                page = await following
                self._desk.holds.keep(asked.read_ts)
            finally:
                following.cancel()
        yield Reply(_message(group, asked.read_ts, page, page.cursor or asked.after))

    async def _page(self, group: int, asked: ExportRange, limits: _Limits) -> ExportedPage:
        found = await self._desk.runtime.read(group, asked)
        assert isinstance(found, EnginePairs)
        return await self._desk.runtime.aside(
            lambda: export_page(
                found.pairs,
                found.prefix,
                asked.read_ts,
                chunk_bytes=limits.chunk_bytes,
                scanned_bytes_max=limits.scanned_bytes,
            )
        )


def _message(group: int, read_ts: int, page: ExportedPage, cursor: ExportCursor | None) -> bytes:
    return v1.ExportChunk(
        group=group,
        read_ts=read_ts,
        block=encode_block(page.block),
        rows=page.block.count,
        scanned_bytes=page.scanned_bytes,
        cursor=None if cursor is None else wire.cursor_message(cursor),
        done=page.done,
    ).SerializeToString()


def _limits(request: v1.ExportRequest) -> _Limits:
    """Return the limits of a request; InvalidInput (`export_limit_invalid`) beyond ours."""
    chunk_bytes = request.chunk_bytes or wire.EXPORT_CHUNK_BYTES
    scanned_bytes = request.max_scanned_bytes or wire.EXPORT_SCANNED_CHUNKS * chunk_bytes
    if chunk_bytes > wire.EXPORT_CHUNK_BYTES_MAX or scanned_bytes > wire.EXPORT_SCANNED_BYTES_MAX:
        raise InvalidInput(
            f"chunk_bytes {chunk_bytes} and max_scanned_bytes {scanned_bytes}, the limits are "
            f"{wire.EXPORT_CHUNK_BYTES_MAX} and {wire.EXPORT_SCANNED_BYTES_MAX}",
            code="export_limit_invalid",
            hint="ask for less in one message",
        )
    return _Limits(chunk_bytes, scanned_bytes)
