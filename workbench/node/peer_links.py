"""The streams between the nodes of one cluster: one to each peer, one from each.

    Finished.messages ──send──▶ queue of the peer ──frames──▶ stream ──▶ its `receive`

Rules:
- A stream begins with hello: cluster, sender, receiver. A peer of another cluster, or one that
  takes this node for another, is refused, and told so in the log once.
- Messages may be lost: Raft sends again what matters. A queue that is full, and a stream that
  ends, lose what they hold, and `unreachable` is called, so that no leader waits in vain.
- A peer that does not answer is tried again after RETRY_S, doubled up to RETRY_S_MAX.
- Frames that cannot be messages end the stream, not the node.

Not here: what messages mean, and how a client's call reaches its leader (`forwarding`).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from workbench.errors import InvalidInput, WorkbenchError
from workbench.node import wire
from workbench.node.errors import message_of, status_of, trailers_of
from workbench.node.peer_codec import decode_frame, decode_hello, encode_frames, encode_hello
from workbench.node.proto import peers_v1_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from workbench.model.node import Member
    from workbench.node.events import Events
    from workbench.ports.peers import GroupMessage

QUEUE_BYTES_MAX: Final = 32 * 2**20
# While there is no stream: enough for an election, and no hours of heartbeats for who comes back.
QUEUE_AWAY_BYTES_MAX: Final = 256 * 2**10
RETRY_S: Final = 0.05
RETRY_S_MAX: Final = 1.0
STREAM: Final = "/workbench.peers.v1.Peers/Stream"


@dataclass(slots=True)
class _Link:
    """The way to one peer.

    Attributes:
        member: Who it is.
        frames: What waits to be written.
        waiting_bytes: Of `frames`.
        filled: Set while there are any.
        connected: Whether the peer has accepted this node's hello.
        complained: Why the last stream ended, where that was told.
        lost: Frames that were never written to a stream.
    """

    member: Member
    frames: list[bytes] = field(default_factory=list)
    waiting_bytes: int = 0
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    connected: bool = False
    complained: str = ""
    lost: int = 0

    def take(self) -> list[bytes]:
        """Return what waits, and forget it."""
        frames, self.frames, self.waiting_bytes = self.frames, [], 0
        self.filled.clear()
        return frames

    def drop(self) -> None:
        """Lose what waits."""
        self.lost += len(self.take())


class PeerLinks:
    """All links of one node; made and used in one event loop.

    Args:
        cluster_id: Of the cluster.
        node: This node.
        members: All nodes, this one included.
        receive: Takes the messages that come in.
        unreachable: Is told of a node to which messages were lost.
        events: The node's log.
    """

    def __init__(  # noqa: PLR0913 - what it joins, named
        self,
        cluster_id: str,
        node: int,
        members: Sequence[Member],
        *,
        receive: Callable[[Iterable[GroupMessage]], None],
        unreachable: Callable[[int], None],
        events: Events,
    ) -> None:
        self._cluster_id = cluster_id
        self._node = node
        self._receive = receive
        self._unreachable = unreachable
        self._events = events
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._links = {each.node: _Link(each) for each in members if each.node != node}

    def send(self, messages: Mapping[int, Sequence[GroupMessage]]) -> None:
        """Queue messages by receiver; those to nodes that are not members are dropped."""
        for node, those in messages.items():
            link = self._links.get(node)
            if link is None:
                continue
            limit = QUEUE_BYTES_MAX if link.connected else QUEUE_AWAY_BYTES_MAX
            for frame in encode_frames(those):
                if link.waiting_bytes + len(frame) > limit:
                    link.drop()
                    link.lost += 1
                    self._unreachable(node)
                    break
                link.frames.append(frame)
                link.waiting_bytes += len(frame)
                link.filled.set()

    def connected(self) -> tuple[int, ...]:
        """Return the nodes to which a stream is open, ascending."""
        return tuple(sorted(node for node, link in self._links.items() if link.connected))

    def waiting_bytes(self) -> Mapping[int, int]:
        """Return by node how much waits to be written to its stream."""
        return {node: self._links[node].waiting_bytes for node in sorted(self._links)}

    def lost_frames(self) -> Mapping[int, int]:
        """Return by node how many frames were never written to a stream, since the start."""
        return {node: self._links[node].lost for node in sorted(self._links)}

    async def set(self, node: int, member: Member | None) -> None:
        """Begin to speak with a node that joins or moved, or with None let go of one."""
        old = self._links.get(node)
        if old is not None and member is not None and old.member.address == member.address:
            return
        self._links.pop(node, None)
        task = self._tasks.pop(node, None)
        if task is not None:
            task.cancel()
        if member is not None:
            self._links[node] = _Link(member)
            if self._group is not None:
                self._begin(self._links[node])

    async def run(self) -> None:
        """Keep a stream to every peer, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for link in self._links.values():
                self._begin(link)
            # Members may come while there is no other: a lone node waits for them.
            await asyncio.Event().wait()

    def _begin(self, link: _Link) -> None:
        assert self._group is not None
        self._tasks[link.member.node] = self._group.create_task(self._keep(link))

    def handler(self) -> grpc.RpcMethodHandler:
        """Return the gRPC handler of streams that come in."""
        return grpc.stream_unary_rpc_method_handler(self._serve)

    async def _keep(self, link: _Link) -> None:
        pause = RETRY_S
        while True:
            try:
                async with grpc.aio.insecure_channel(
                    link.member.address, options=wire.CHANNEL_OPTIONS
                ) as channel:
                    await self._pump(link, channel)
            except grpc.aio.AioRpcError as error:
                if link.connected:
                    pause = RETRY_S
                self._complain(link, error)
            link.connected = False
            link.drop()
            self._unreachable(link.member.node)
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_S_MAX)

    async def _pump(self, link: _Link, channel: grpc.aio.Channel) -> None:
        """Write what comes; returns or raises when the stream ends."""
        await channel.channel_ready()
        call = channel.stream_unary(STREAM)()
        # Else a stream that ends while nothing is to be sent would not be noticed.
        call.add_done_callback(lambda _: link.filled.set())
        try:
            # A stream that has ended takes no frame; why it did, `await call` raises.
            with contextlib.suppress(asyncio.InvalidStateError):
                await self._write(link, call)
            await call
        finally:
            call.cancel()

    async def _write(self, link: _Link, call: grpc.aio.StreamUnaryCall) -> None:
        """Say hello, then write what comes until the stream has ended."""
        await call.write(encode_hello(self._cluster_id, self._node, link.member.node))
        # Sent once the peer has accepted the hello; one that refuses it sends nothing before.
        greeting = await call.initial_metadata()
        if wire.metadata_value(greeting, wire.CLUSTER_KEY) is None:
            return  # the stream ends, and says why; a write would say something else
        link.connected, link.complained = True, ""
        while not call.done():
            await link.filled.wait()
            for frame in link.take():
                await call.write(frame)

    def _complain(self, link: _Link, error: grpc.aio.AioRpcError) -> None:
        """Tell why a stream ended, once for each reason."""
        code = wire.metadata_value(error.trailing_metadata() or (), wire.CODE_KEY)
        reason = str(code or error.code().name.lower())
        if reason != link.complained:
            link.complained = reason
            self._events.tell(
                "peer_unreachable",
                peer=link.member.node,
                address=link.member.address,
                code=reason,
                error=error.details() or "",
            )

    async def _serve(
        self, frames: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> bytes:
        sender = 0
        try:
            async for data in frames:
                if sender and sender not in self._links:
                    raise _stranger(f"node {sender} is no member any more")
                if sender:
                    self._receive(decode_frame(data, sender, self._node))
                else:
                    sender = self._greet(data)
                    await context.send_initial_metadata(((wire.CLUSTER_KEY, self._cluster_id),))
        except WorkbenchError as error:
            self._events.tell("peer_refused", peer=sender, code=error.code, error=error.message)
            await context.abort(status_of(error), message_of(error), trailers_of(error))
        return peers_v1_pb2.Closed().SerializeToString()

    def _greet(self, data: bytes) -> int:
        """Return who speaks on a stream that begins so."""
        cluster_id, sender, receiver = decode_hello(data)
        if cluster_id != self._cluster_id:
            raise _stranger(f"it is of cluster {cluster_id[:64]!r}, this is {self._cluster_id}")
        if receiver != self._node:
            raise _stranger(f"it takes this node for node {receiver}, this is node {self._node}")
        if sender not in self._links:
            raise _stranger(f"it says that it is node {sender}, which is no member")
        return sender


def _stranger(what: str) -> InvalidInput:
    return InvalidInput(
        f"a peer is refused: {what}",
        code="peer_foreign",
        hint="give all nodes of a cluster the same cluster_id and members",
    )
