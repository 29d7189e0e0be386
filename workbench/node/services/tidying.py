"""The part of the Node service that lets old versions go, and holds those that are still needed.

    CollectGarbage ──▶ SetSafePoint, one step       Pin, Unpin ──▶ what the safe point may not pass

Every call may be repeated: the group's own log decides what has happened already. The node that
leads the group carries a call out; every other node forwards to it. Which versions go is decided
in `replica.garbage`; when, and how far back to keep, by the caller, or by the node itself
(`node.upkeep`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import InvalidInput
from workbench.node import wire
from workbench.node.forwarding import Call, Reply
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.replica.commands import CollectGarbage, GarbageStatus, Pin, SetSafePoint, Unpin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.node.services.calls import Desk, Handler


class Tidying:
    """Handlers of the service's methods."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by full method name."""
        return {
            wire.COLLECT_GARBAGE: self.collect,
            wire.PIN: self.pin,
            wire.UNPIN: self.unpin,
        }

    async def collect(self, call: Call) -> Reply:
        """Raise the safe point of a group, if asked to, and take one step."""
        request = wire.parse(v1.CollectGarbageRequest, call.data)
        group = request.group
        if not self._desk.peers.leads(group):
            return await self._desk.peers.forward(call, group, writes=False)
        if request.safe_point:
            await self._desk.runtime.propose(group, SetSafePoint(request.safe_point))
        step = CollectGarbage(request.versions_max or wire.GARBAGE_STEP_VERSIONS)
        return await self._propose(call, group, step)

    async def pin(self, call: Call) -> Reply:
        """Keep a read_ts readable."""
        request = wire.parse(v1.PinRequest, call.data)
        command = Pin(_check_id(request.pin_id), request.read_ts)
        return await self._propose(call, request.group, command)

    async def unpin(self, call: Call) -> Reply:
        """Let go of a pin."""
        request = wire.parse(v1.UnpinRequest, call.data)
        return await self._propose(call, request.group, Unpin(_check_id(request.pin_id)))

    async def _propose(
        self, call: Call, group: int, command: CollectGarbage | Pin | Unpin
    ) -> Reply:
        if not self._desk.peers.leads(group):
            return await self._desk.peers.forward(call, group, writes=False)
        status = await self._desk.runtime.propose(group, command)
        assert isinstance(status, GarbageStatus)
        answer = v1.GarbageStatus(
            group=status.group,
            safe_point=status.safe_point,
            pins=status.pins,
            dropped=status.dropped,
            scanned=status.scanned,
            done=status.done,
        )
        return Reply(answer.SerializeToString())


def _check_id(pin_id: bytes) -> bytes:
    if len(pin_id) != wire.PIN_ID_BYTES:
        raise InvalidInput(
            f"pin_id has {len(pin_id)} bytes, not {wire.PIN_ID_BYTES}",
            code="pin_id_invalid",
            hint="take 16 random bytes, and the same in every call about this pin",
        )
    return pin_id
