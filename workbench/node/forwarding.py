"""Calls from node to node: a call that another node has to answer goes there as it came.

    caller ──▶ this node ──raw bytes, our metadata, hop mark──▶ the node that leads the group
                    ◀── answer, or its status, code and text, unchanged ──

Rules:

- A forwarded call carries a hop mark and is never forwarded again, so that two nodes which
  disagree about who leads cannot play ball with it.
- One channel per peer, made when it is first needed, and kept as long as it connects. A call
  that found no connection tries a new channel once: gRPC would refuse to try for a while, also
  to a peer that has come back.
- A read that is not answered is Unavailable, a write OutcomeUnknown unless it certainly was not
  sent; both have the code `leader_unreachable` and name group, node and address.

- Who leads is what the replica here says. Where there is none, a voter is asked, and the next one
  after it, until one answers or tells who leads.
Not here: who owns a key, and how often a call is tried (`services.calls`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from workbench.errors import NotFound, OutcomeUnknown, Unavailable, WorkbenchError
from workbench.model.node import Member
from workbench.node import wire
from workbench.node.errors import Failure, Redirected, error_of, failure_of, never_sent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence


FORWARD_TIMEOUT_S: Final = 4.0
# Of what the caller still waits for us; the rest is for telling it what went wrong.
DEADLINE_SHARE: Final = 0.8
_UNANSWERED: Final = frozenset({"node_unreachable", "connection_lost", "deadline_exceeded"})

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it came in.

    Attributes:
        method: Full method name.
        data: Of the request, not parsed yet.
        metadata: Of the request.
        left_s: Until the caller gives up; None where it set no deadline.
    """

    method: str
    data: bytes
    metadata: Metadata = ()
    left_s: float | None = None

    @property
    def forwarded(self) -> bool:
        """Whether another node sent it on."""
        return wire.metadata_value(self.metadata, wire.HOP_KEY) is not None

    @property
    def timeout_s(self) -> float:
        """How long a peer may take to answer it."""
        if self.left_s is None:
            return FORWARD_TIMEOUT_S
        return min(FORWARD_TIMEOUT_S, self.left_s * DEADLINE_SHARE)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, serialized, and its trailing metadata."""

    data: bytes
    trailers: Metadata = ()


class RouteMoved(Redirected):
    """Another node leads the group, and the caller asked to be told so.

    It goes out as ABORTED with a `workbench.v1.RouteMoved` detail.
    """

    def __init__(self, node: int, group: int, leader_address: str) -> None:
        super().__init__(node, group, leader_address)
        self.group = group


class Peers:
    """The other nodes of the cluster.

    Args:
        members: All nodes, this one included.
        node: This one's id.
        leader_of: Returns who leads a group; 0: nobody knows, None: there is no replica here.
    """

    def __init__(
        self, members: Sequence[Member], node: int, leader_of: Callable[[int], int | None]
    ) -> None:
        self.members = tuple(members)
        self.node = node
        self._leader_of = leader_of
        self._by_node = {each.node: each for each in members}
        self._by_address = {each.address: each for each in members}
        self._voters: dict[int, list[Member]] = {}
        for each in members:
            for group in (*each.groups, *each.joins):
                self._voters.setdefault(group, []).append(each)
        # Who led a group of which no replica is here, when it was last asked.
        self._hints: dict[int, Member] = {}
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def set(self, node: int, member: Member | None) -> None:
        """Take note of where a node is that joins, or with None that it is gone."""
        known = self._by_node.pop(node, None)
        if known is not None:
            self._by_address.pop(known.address, None)
        if member is not None:
            # Who joins keeps every group; without it they would end with their founders.
            groups = tuple(sorted(self._voters)) if known is None else known.groups
            member = Member(node, member.address, groups)
            self._by_node[node] = self._by_address[member.address] = member
        self.members = tuple(self._by_node[each] for each in sorted(self._by_node))
        for group, voters in self._voters.items():
            kept = [each for each in voters if each.node != node]
            self._voters[group] = [*kept, member] if member and group in member.groups else kept
        self._hints = {g: each for g, each in self._hints.items() if each.node != node}

    def leads(self, group: int) -> bool:
        """Tell whether this node leads a group; NotFound (`group_absent`) where there is none."""
        self._check_exists(group)
        return self._leader_of(group) == self.node

    def leader(self, group: int) -> Member:
        """Return who leads a group, as far as this node knows.

        Raises:
            NotFound: `group_absent`: the cluster has no such group.
            Unavailable: `leader_unknown`: there is none at the moment.
        """
        self._check_exists(group)
        node = self._leader_of(group)
        if node is None:
            return self._hints.get(group) or self._voters[group][0]
        member = self._by_node.get(node)
        if member is None:
            raise Unavailable(
                f"node {self.node} knows of no leader of group {group}",
                code="leader_unknown",
                hint="nothing was done: try again in a moment, and see whether its nodes run",
            )
        return member

    def _check_exists(self, group: int) -> None:
        if group not in self._voters:
            raise NotFound(
                f"the cluster has no group {group}",
                code="group_absent",
                hint=f"it has {', '.join(map(str, sorted(self._voters)))}",
            )

    def check_leads(self, group: int) -> None:
        """Raise Redirected (`not_leader`) where another node leads a group.

        For calls that carry so much that they go to the leader directly.
        """
        leader = self.leader(group)
        if leader.node != self.node:
            raise Redirected(self.node, group, leader.address)

    async def forward(self, call: Call, group: int, *, writes: bool) -> Reply:
        """Send a call to the leader of `group` and return what it answers.

        Raises:
            WorkbenchError: what the leader answered, code and text unchanged.
            Unavailable: `leader_unreachable`; `not_leader` for a call that was forwarded.
            RouteMoved: the caller wants to go there itself.
            OutcomeUnknown: `leader_unreachable`, of a write.
        """
        member = self.leader(group)
        if wire.metadata_value(call.metadata, wire.REDIRECT_KEY) is not None:
            raise RouteMoved(self.node, group, member.address)
        self._check_hop(call, group)
        try:
            return await self._send(call, member)
        except grpc.aio.AioRpcError as error:
            refusal = error
        if never_sent(failure_of(refusal)):
            self._renew(member)
            try:
                return await self._send(call, member)
            except grpc.aio.AioRpcError as error:
                refusal = error
        self._ask_another(group, member, refusal)
        raise _refusal(refusal, member, f"group {group}", writes=writes) from refusal

    def _ask_another(self, group: int, member: Member, refusal: grpc.aio.AioRpcError) -> None:
        """Note that `member` did not answer for a group; raise where another may lead by now.

        Raises:
            Unavailable: `leader_unknown`: nothing was done.
        """
        voters = self._voters[group]
        told = wire.metadata_value(refusal.trailing_metadata() or (), wire.LEADER_KEY)
        following = voters[(voters.index(member) + 1) % len(voters)] if member in voters else None
        hint = self._by_address.get(told or "") or following
        if hint is not None:
            self._hints[group] = hint
        if len(voters) > 1 and never_sent(failure_of(refusal)):
            raise Unavailable(
                f"node {member.node} at {member.address}, which led group {group}, does not answer",
                code="leader_unknown",
                hint="nothing was done: try again in a moment, when another node leads",
            ) from refusal

    async def stream(self, call: Call, member: Member) -> AsyncIterator[Reply]:
        """Send a call to a node and yield its answers; the last has no data but the trailers.

        Raises:
            Unavailable: `leader_unreachable`.
        """
        try:
            sent = await self._open_stream(call, member)
            async for data in sent:
                yield Reply(data)
            trailers = tuple(await sent.trailing_metadata() or ())
        except grpc.aio.AioRpcError as error:
            groups = ", ".join(map(str, member.groups)) or "none"
            raise _refusal(error, member, f"groups {groups}", writes=False) from error
        yield Reply(b"", _ours(trailers))

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        await asyncio.gather(*self._closing)

    async def _send(self, call: Call, member: Member) -> Reply:
        sent = self._channel(member).unary_unary(call.method)(
            call.data, timeout=call.timeout_s, metadata=self._metadata(call)
        )
        data = await sent
        return Reply(data, _ours(tuple(await sent.trailing_metadata() or ())))

    async def _open_stream(self, call: Call, member: Member) -> grpc.aio.UnaryStreamCall:
        """Return a stream once its peer has answered the call, be it with nothing."""
        sent: grpc.aio.UnaryStreamCall = self._streamed(call, member)
        try:
            await sent.initial_metadata()
        except grpc.aio.AioRpcError as error:
            if not never_sent(failure_of(error)):
                raise
        else:
            if not (sent.done() and never_sent(Failure(await sent.code(), await sent.details()))):
                return sent
        self._renew(member)
        return self._streamed(call, member)

    def _streamed(self, call: Call, member: Member) -> grpc.aio.UnaryStreamCall:
        sent: grpc.aio.UnaryStreamCall = self._channel(member).unary_stream(call.method)(
            call.data, timeout=call.timeout_s, metadata=self._metadata(call)
        )
        return sent

    def _renew(self, member: Member) -> None:
        """Let go of a channel that does not connect; calls that are still on it may end."""
        channel = self._channels.pop(member.node, None)
        if channel is not None:
            closing = asyncio.get_running_loop().create_task(channel.close(FORWARD_TIMEOUT_S))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _check_hop(self, call: Call, group: int) -> None:
        if not call.forwarded and not self.leads(group):
            return
        leader = self._leader_of(group)
        if call.forwarded and leader not in {None, 0, self.node}:
            raise Redirected(self.node, group, self.leader(group).address)
        raise Unavailable(
            f"node {self.node} does not lead group {group}",
            code="not_leader",
            hint="try again; check that all nodes have the same configuration",
        )

    def _metadata(self, call: Call) -> Metadata:
        request_id = wire.metadata_value(call.metadata, wire.REQUEST_ID_KEY)
        kept = () if request_id is None else ((wire.REQUEST_ID_KEY, request_id),)
        return (*kept, (wire.HOP_KEY, str(self.node)))

    def _channel(self, member: Member) -> grpc.aio.Channel:
        channel = self._channels.get(member.node)
        if channel is None:
            channel = grpc.aio.insecure_channel(member.address, options=wire.CHANNEL_OPTIONS)
            self._channels[member.node] = channel
        return channel


def _ours(trailers: Metadata) -> Metadata:
    """Return the trailing metadata that belong to the answer, without the transport's own."""
    return tuple(each for each in trailers if each[0].startswith("x-workbench-"))


def _refusal(
    error: grpc.aio.AioRpcError, member: Member, what: str, *, writes: bool
) -> WorkbenchError:
    """Return what the peer refused with, or that it did not answer."""
    peer = f"node {member.node} at {member.address}"
    refusal = error_of(failure_of(error), peer=peer, writes=writes)
    if refusal.code not in _UNANSWERED:
        return refusal
    text = f"{peer}, which leads {what}, does not answer"
    if isinstance(refusal, OutcomeUnknown):
        return OutcomeUnknown(
            text,
            code="leader_unreachable",
            hint="the write may have taken effect: look before repeating it",
        )
    return Unavailable(
        text, code="leader_unreachable", hint="check that the node runs, then try again"
    )
