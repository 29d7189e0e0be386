"""The Restore service: a group is closed, filled with history, and opened again.

    Begin ─▶ Import, Import, … ─▶ SaveRoutes (catalog group) ─▶ End          Status at any time

Every call may be repeated: the group's own log decides what has happened already. The node that
leads the group carries a call out; every other node forwards to it. The parts of one Import are
proposed together, each as a command of its own, so that one sync covers several of them.

What a restore may do, and in which order, is decided in `replica.restore`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from workbench.errors import InvalidInput
from workbench.model.keys import Span, check_key
from workbench.model.limits import ENTRY_BYTES_TARGET
from workbench.model.node import RestoreStatus
from workbench.mvcc.block import VersionBlock, decode_block
from workbench.node import wire
from workbench.node.forwarding import Call, Reply
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.replica.commands import (
    BeginRestore,
    EndRestore,
    ImportRows,
    OwnedSpan,
    ReadRestore,
    RoutesSaved,
    SaveRoutes,
)
from workbench.routing.rules import CATALOG_GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.node.services.calls import Desk, Handler


class Restoring:
    """Handlers of the service's methods."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by full method name."""
        return {
            wire.RESTORE_BEGIN: self.begin,
            wire.RESTORE_IMPORT: self.import_rows,
            wire.RESTORE_SAVE_ROUTES: self.save_routes,
            wire.RESTORE_END: self.end,
            wire.RESTORE_STATUS: self.status,
        }

    async def begin(self, call: Call) -> Reply:
        """Close an empty group, and give it the spans that it will own."""
        request = wire.parse(v1.RestoreBeginRequest, call.data)
        command = BeginRestore(
            _check_id(request.restore_id),
            tuple(
                OwnedSpan(
                    Span(check_key(each.start, "start"), check_key(each.end, "end") or None),
                    each.generation,
                )
                for each in request.spans
            ),
        )
        return await self._propose(call, request.group, command)

    async def import_rows(self, call: Call) -> Reply:
        """Store parts of imports, in their order."""
        request = wire.parse(v1.RestoreImportRequest, call.data)
        restore_id = _check_id(request.restore_id)
        _check_import(call, request)
        if not self._desk.peers.leads(request.group):
            return await self._desk.peers.forward(call, request.group, writes=False)
        commands = [
            ImportRows(restore_id, part.seq, part.offset, part.last, _block(part.block))
            for part in request.parts
        ]
        # Tasks begin in their order, and so do the commands queue.
        done = await asyncio.gather(
            *(self._desk.runtime.propose(request.group, command) for command in commands),
            return_exceptions=True,
        )
        for each in done:
            if isinstance(each, BaseException):
                raise each
        status = done[-1]
        assert isinstance(status, RestoreStatus)
        return Reply(wire.restore_message(status).SerializeToString())

    async def save_routes(self, call: Call) -> Reply:
        """Put a whole set of routes in place of those that are there."""
        request = wire.parse(v1.RestoreSaveRoutesRequest, call.data)
        routes = tuple(wire.route_of(each) for each in request.routes)
        for route in routes:
            self._desk.peers.leader(route.group)
        command = SaveRoutes(
            restore_id=_check_id(request.restore_id),
            expected_version=request.expected_version,
            version=request.version,
            next_route_id=request.next_route_id,
            routes=routes,
        )
        if not self._desk.peers.leads(CATALOG_GROUP):
            return await self._desk.peers.forward(call, CATALOG_GROUP, writes=False)
        saved = await self._desk.runtime.propose(CATALOG_GROUP, command)
        assert isinstance(saved, RoutesSaved)
        self._desk.routes.take_applied()
        answer = v1.RestoreSaveRoutesResponse(catalog_version=saved.catalog_version)
        return Reply(answer.SerializeToString())

    async def end(self, call: Call) -> Reply:
        """Open a group again."""
        request = wire.parse(v1.RestoreEndRequest, call.data)
        return await self._propose(call, request.group, EndRestore(_check_id(request.restore_id)))

    async def status(self, call: Call) -> Reply:
        """Return how far the restore of a group has come."""
        request = wire.parse(v1.RestoreStatusRequest, call.data)
        if not self._desk.peers.leads(request.group):
            return await self._desk.peers.forward(call, request.group, writes=False)
        status = await self._desk.runtime.read(request.group, ReadRestore())
        assert isinstance(status, RestoreStatus)
        return Reply(wire.restore_message(status).SerializeToString())

    async def _propose(self, call: Call, group: int, command: BeginRestore | EndRestore) -> Reply:
        if not self._desk.peers.leads(group):
            return await self._desk.peers.forward(call, group, writes=False)
        status = await self._desk.runtime.propose(group, command)
        assert isinstance(status, RestoreStatus)
        return Reply(wire.restore_message(status).SerializeToString())


def _check_id(restore_id: bytes) -> bytes:
    if len(restore_id) != wire.RESTORE_ID_BYTES:
        raise InvalidInput(
            f"restore_id has {len(restore_id)} bytes, not {wire.RESTORE_ID_BYTES}",
            code="restore_id_invalid",
            hint="take 16 random bytes, and the same in every call of the restore",
        )
    return restore_id


def _check_import(call: Call, request: v1.RestoreImportRequest) -> None:
    """Refuse an Import that is too large, or has no parts or no number."""
    if len(call.data) > wire.IMPORT_BYTES_MAX or len(request.parts) > wire.IMPORT_PARTS_MAX:
        raise InvalidInput(
            f"the import has {len(call.data)} bytes in {len(request.parts)} parts, the limits "
            f"are {wire.IMPORT_BYTES_MAX} and {wire.IMPORT_PARTS_MAX}",
            code="batch_too_large",
            hint="send it as several calls",
        )
    if not request.parts or not all(part.seq for part in request.parts):
        raise InvalidInput(
            f"an import of {len(request.parts)} parts, of which one may have the number 0",
            code="import_numbers_invalid",
            hint="send at least one part, and count imports from 1",
        )


def _block(data: bytes) -> VersionBlock:
    """Return a block that fits into one entry; one row fits always."""
    block = decode_block(data)
    if block.count > 1 and len(data) > ENTRY_BYTES_TARGET:
        raise InvalidInput(
            f"a block of {block.count} rows has {len(data)} bytes, "
            f"the limit is {ENTRY_BYTES_TARGET}, or one row",
            code="import_block_too_large",
            hint="cut it into several blocks",
        )
    return block
