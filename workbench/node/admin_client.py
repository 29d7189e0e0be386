"""Calls of the Admin service; see `services.admin`."""

from __future__ import annotations

from workbench.node import admin_wire
from workbench.node.calling import unary
from workbench.node.client import NodeClient
from workbench.node.proto import admin_v1_pb2 as admin
from workbench.ports.entries import Configuration


class AdminClient(NodeClient):
    """One cluster of bundled nodes, for operators; arguments as NodeClient."""

    def transfer_leader(self, group: int, node: int) -> None:
        """Hand a group to another of its voters; returns once that one leads.

        Raises:
            InvalidInput: `transfer_target_invalid`.
            NotFound: `group_absent`.
            Unavailable: `transfer_timed_out`, or the group has no leader.
        """
        request = admin.TransferLeaderRequest(group=group, node=node)
        self._call(admin_wire.TRANSFER_LEADER, request, admin.TransferLeaderResponse, group=group)

    def group_members(self, group: int) -> Configuration:
        """Return the members of a group."""
        request = admin.GetMembersRequest(group=group)
        answer, _ = self._call(admin_wire.GET_MEMBERS, request, admin.Members, group=group)
        return Configuration(frozenset(answer.voters), frozenset(answer.learners))

    def change_members(self, group: int, wanted: Configuration) -> None:
        """Change the members of a group by one voter; in force when this returns.

        Raises:
            InvalidInput: `configuration_change_invalid`, `peer_unknown`.
            Unavailable: `configuration_changing`, or the group has no leader; nothing was done.
            OutcomeUnknown: look at `group_members`; the same call again is safe.
        """
        request = admin.ChangeMembersRequest(
            group=group, voters=sorted(wanted.voters), learners=sorted(wanted.learners)
        )
        self._call(admin_wire.CHANGE_MEMBERS, request, admin.Members, group=group, writes=True)

    def set_peer(self, node: int, address: str | None, *, at: str) -> None:
        """Tell the node at `at` where another one is; None: it is gone."""
        request = admin.SetPeerRequest(node=node, address=address or "")
        once = unary(admin_wire.SET_PEER, request, admin.SetPeerResponse)
        self._ask(admin_wire.SET_PEER, once, only=at)
