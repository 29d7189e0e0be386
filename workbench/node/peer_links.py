"""The streams between the nodes of one cluster: one to each peer, one from each.

    Finished.messages ──send──▶ queue of the peer ──frames──▶ stream ──▶ its `receive`

Rules:
- A stream begins with hello: cluster, sender, receiver. A peer of another cluster, or one that
  takes this node for another, is refused.
- The log tells what changes, once: a link that comes and goes at the same cause is not told again
  before it has held for SETTLED_S, nor the end of a stream of the same peer for the same cause.
- A peer whose process hangs keeps its connection open: one that answers no ping of HTTP/2 for
  SILENT_S counts as lost.
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
from urllib.parse import unquote

import grpc
import grpc.aio

from workbench.errors import InvalidInput, Unavailable, WorkbenchError
from workbench.model.limits import FRAME_BYTES_MAX
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
SETTLED_S: Final = 5.0
PING_S: Final = 2.0
SILENT_S: Final = 4.0
# Of endings that were told: what strangers say of themselves must not fill the memory.
ENDINGS_MAX: Final = 256
STREAM: Final = "/workbench.peers.v1.Peers/Stream"
# Pings go on while nothing is sent: two followers may have nothing to say to each other.
_CHANNEL_OPTIONS: Final = (
    *wire.CHANNEL_OPTIONS,
    ("grpc.keepalive_time_ms", int(PING_S * 1_000)),
    # The second is what an unanswered ping waits for; else a minute.
    ("grpc.keepalive_timeout_ms", int(SILENT_S * 1_000)),
    ("grpc.http2.ping_timeout_ms", int(SILENT_S * 1_000)),
    ("grpc.http2.max_pings_without_data", 0),
)
# Else a server takes the pings for an attack, and ends the connection.
SERVER_OPTIONS: Final = (
    *wire.SERVER_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", int(PING_S * 500)),
)
# How gRPC says that a ping was not answered: by its reason, or where its own end of a connection
# that is being given up was asked at that moment, in these words.
_SILENT_WORDS: Final = ("keepalive", "ping timeout", "Internal error from Core")


@dataclass(slots=True)
class _Link:
    """The way to one peer.

    Attributes:
        member: Who it is.
        frames: What waits to be written.
        waiting_bytes: Of `frames`.
        filled: Set while there are any.
        connected: Whether the peer has accepted this node's hello.
        since_s: When it last did, by the loop's clock.
        settled: Tells that the link stands, once it has for SETTLED_S; None where that is told.
        told: What the log said last: why there is no stream, or nothing.
        lost: Frames that were never written to a stream.
    """

    member: Member
    frames: list[bytes] = field(default_factory=list)
    waiting_bytes: int = 0
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    connected: bool = False
    since_s: float = float("-inf")
    settled: asyncio.TimerHandle | None = None
    told: str = ""
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
        self._closing = asyncio.Event()
        # By claimed sender and host, why the last stream that came in ended.
        self._endings: dict[tuple[int, str], str] = {}
        self._refused = 0

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

    def refused(self) -> int:
        """Return how many streams that came in were refused, since the start."""
        return self._refused

    def close(self) -> None:
        """End the streams that come in, and refuse others; for a node that is stopping."""
        self._closing.set()

    async def set(self, node: int, member: Member | None) -> None:
        """Begin to speak with a node that joins or moved, or with None let go of one."""
        old = self._links.get(node)
        if old is not None and member is not None and old.member.address == member.address:
            return
        self._links.pop(node, None)
        if old is not None and old.settled is not None:
            old.settled.cancel()
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
                    link.member.address, options=_CHANNEL_OPTIONS
                ) as channel:
                    await self._pump(link, channel)
            except grpc.aio.AioRpcError as error:
                if link.connected:
                    pause = RETRY_S
                self._complain(link, error)
            self._disconnected(link)
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
        self._connected(link)
        while not call.done():
            await link.filled.wait()
            for frame in link.take():
                await call.write(frame)

    def _connected(self, link: _Link) -> None:
        """Note a stream that the peer has accepted; one that has just broken has to hold first."""
        loop = asyncio.get_running_loop()
        flaps = loop.time() - link.since_s < SETTLED_S and bool(link.told)
        link.connected, link.since_s = True, loop.time()
        if flaps:
            link.settled = loop.call_later(SETTLED_S, self._tell_connected, link)
        else:
            self._tell_connected(link)

    def _tell_connected(self, link: _Link) -> None:
        link.settled, link.told = None, ""
        self._events.tell("peer_connected", peer=link.member.node, address=link.member.address)

    def _disconnected(self, link: _Link) -> None:
        link.connected = False
        if link.settled is not None:
            link.settled.cancel()
            link.settled = None

    def _complain(self, link: _Link, error: grpc.aio.AioRpcError) -> None:
        """Tell why there is no stream, once for each reason."""
        code = wire.metadata_value(error.trailing_metadata() or (), wire.CODE_KEY)
        details = error.details() or ""
        reason = str(code or error.code().name.lower())
        if code is None and any(words in details for words in _SILENT_WORDS):
            reason = "peer_silent"
        if reason != link.told:
            link.told = reason
            self._events.tell(
                "peer_lost" if link.connected else "peer_unreachable",
                peer=link.member.node,
                address=link.member.address,
                code=reason,
                error=details,
            )

    async def _serve(
        self, frames: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> bytes:
        reading = asyncio.create_task(self._read(frames, context))
        # A stream that is cancelled leaves nobody who asks how it ended.
        reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise _stopping()
            reading.result()
        except WorkbenchError as error:
            await context.abort(status_of(error), message_of(error), trailers_of(error))
        finally:
            for task in (reading, closing):
                task.cancel()
        return peers_v1_pb2.Closed().SerializeToString()

    async def _read(self, frames: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        """Take in what one stream says, until it ends."""
        sender, remote = 0, unquote(context.peer())
        began_s = asyncio.get_running_loop().time()
        try:
            async for data in frames:
                if sender and sender not in self._links:
                    raise _stranger(f"node {sender} is no member any more")
                if sender:
                    self._receive(decode_frame(data, sender, self._node))
                else:
                    cluster_id, sender, receiver = decode_hello(data)
                    self._check(cluster_id, sender, receiver)
                    await context.send_initial_metadata(((wire.CLUSTER_KEY, self._cluster_id),))
        except WorkbenchError as error:
            self._refused += 1
            self._tell_ended("peer_refused", sender, remote, began_s, error)
            raise
        if sender:
            self._tell_ended("peer_left", sender, remote, began_s, _left())

    def _tell_ended(
        self, event: str, sender: int, remote: str, began_s: float, error: WorkbenchError
    ) -> None:
        """Tell how a stream that came in ended; once for each peer and cause, if it was short."""
        key = (sender, remote.rpartition(":")[0])
        held = asyncio.get_running_loop().time() - began_s >= SETTLED_S
        if self._endings.pop(key, None) != error.code or held:
            self._events.tell(
                event, peer=sender, remote=remote, code=error.code, error=error.message
            )
        self._endings[key] = error.code
        if len(self._endings) > ENDINGS_MAX:
            del self._endings[next(iter(self._endings))]

    def _check(self, cluster_id: str, sender: int, receiver: int) -> None:
        """Refuse a stream that is none of a peer of this node."""
        if cluster_id != self._cluster_id:
            raise _stranger(f"it is of cluster {cluster_id[:64]!r}, this is {self._cluster_id}")
        if receiver != self._node:
            raise _stranger(f"it takes this node for node {receiver}, this is node {self._node}")
        if sender not in self._links:
            raise _stranger(f"it says that it is node {sender}, which is no member")


def _stranger(what: str) -> InvalidInput:
    return InvalidInput(
        f"a peer is refused: {what}",
        code="peer_foreign",
        hint="give all nodes of a cluster the same cluster_id and members",
    )


def _stopping() -> Unavailable:
    return Unavailable("this node is stopping", code="node_stopping")


def _left() -> Unavailable:
    """Return why a stream ended that was not refused.

    gRPC drops a message that is too large, and tells why only to who sent it.
    """
    return Unavailable(
        f"its stream ended: its process has, or it sent a frame above {FRAME_BYTES_MAX} bytes",
        code="peer_stream_ended",
    )
