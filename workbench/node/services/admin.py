"""The Admin service: who keeps a group, and who leads it.

TransferLeader, GetMembers and ChangeMembers are the group leader's, and reach it from any node.
SetPeer is the asked node's own: where it finds another node. What it is told lasts until it ends;
its configuration file is whoever runs it to keep in step.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput, Unavailable
from workbench.model.node import Member
from workbench.node import admin_wire, wire
from workbench.node.config import check_address
from workbench.node.forwarding import Reply
from workbench.node.proto import admin_v1_pb2 as admin
from workbench.ports.consensus import Configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.node.forwarding import Call
    from workbench.node.peer_links import PeerLinks
    from workbench.node.services.calls import Desk, Handler

TRANSFER_S: Final = 2.0


class Admin:
    """Handlers of the service."""

    def __init__(self, desk: Desk, links: PeerLinks) -> None:
        self._desk = desk
        self._links = links

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by full method name."""
        return {
            admin_wire.TRANSFER_LEADER: self.transfer_leader,
            admin_wire.CHANGE_MEMBERS: self.change_members,
            admin_wire.GET_MEMBERS: self.get_members,
            admin_wire.SET_PEER: self.set_peer,
        }

    async def transfer_leader(self, call: Call) -> Reply:
        """Hand a group to another voter, and answer once that one leads."""
        request = wire.parse(admin.TransferLeaderRequest, call.data)
        group, node = request.group, request.node
        if not self._desk.peers.leads(group):
            return await self._desk.peers.forward(call, group, writes=False)
        runtime = self._desk.runtime
        if node != self._desk.config.node:
            runtime.transfer_leader(group, node)
            try:
                async with asyncio.timeout(min(TRANSFER_S, call.timeout_s)):
                    while runtime.leader(group) != node:
                        await runtime.turned()
            except TimeoutError as error:
                raise Unavailable(
                    f"node {node} did not take over group {group} within {TRANSFER_S:g} s",
                    code="transfer_timed_out",
                    hint="see whether it runs; the group goes on under whoever leads it",
                ) from error
        return Reply(admin.TransferLeaderResponse(leader=node).SerializeToString())

    async def get_members(self, call: Call) -> Reply:
        """Return the members of a group, as its leader has them."""
        request = wire.parse(admin.GetMembersRequest, call.data)
        if not self._desk.peers.leads(request.group):
            return await self._desk.peers.forward(call, request.group, writes=False)
        return _members(request.group, self._desk.runtime.members(request.group))

    async def change_members(self, call: Call) -> Reply:
        """Change the members of a group; in force when this is answered."""
        request = wire.parse(admin.ChangeMembersRequest, call.data)
        if not self._desk.peers.leads(request.group):
            return await self._desk.peers.forward(call, request.group, writes=True)
        wanted = Configuration(frozenset(request.voters), frozenset(request.learners))
        known = {member.node for member in self._desk.peers.members}
        if strangers := wanted.members - known:
            raise InvalidInput(
                f"node {min(strangers)} is not known to node {self._desk.config.node}",
                code="peer_unknown",
                hint="tell every node where it is first: `workbench cluster add-node` does",
            )
        if wanted != self._desk.runtime.members(request.group):
            wanted = await self._desk.runtime.change_members(request.group, wanted)
        return _members(request.group, wanted)

    async def set_peer(self, call: Call) -> Reply:
        """Take note of where another node is, or that it is gone."""
        request = wire.parse(admin.SetPeerRequest, call.data)
        if request.node in {0, self._desk.config.node}:
            raise InvalidInput(
                f"node {request.node} is no peer of node {self._desk.config.node}",
                code="peer_invalid",
                hint="name another node",
            )
        member = None
        if request.address:
            check_address(request.address, "address")
            member = Member(request.node, request.address, ())
        self._desk.peers.set(request.node, member)
        await self._links.set(request.node, member)
        return Reply(admin.SetPeerResponse().SerializeToString())


def _members(group: int, configuration: Configuration) -> Reply:
    answer = admin.Members(
        group=group,
        voters=sorted(configuration.voters),
        learners=sorted(configuration.learners),
    )
    return Reply(answer.SerializeToString())
