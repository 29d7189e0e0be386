"""Links between nodes over real sockets: messages arrive, losses are told, strangers refused."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from workbench.model.node import Member
from workbench.node import peer_links, wire
from workbench.node.events import Events, libraries_told
from workbench.node.peer_codec import encode_frames, encode_hello
from workbench.node.peer_links import STREAM, PeerLinks
from workbench.ports.entries import LogEntry
from workbench.ports.peers import AppendRequest, GroupMessage, Heartbeat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

CLUSTER = str(uuid.UUID(int=5))
DEADLINE_S = 20.0


@dataclass
class Node:
    """One end: its links, its server, and what it was told."""

    node: int
    links: PeerLinks
    server: grpc.aio.Server
    log: io.StringIO
    received: list[GroupMessage] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)

    def told(self, event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


def served() -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=peer_links.SERVER_OPTIONS)
    return server, server.add_insecure_port("127.0.0.1:0")


def node_of(
    number: int, members: list[Member], server: grpc.aio.Server, cluster: str = CLUSTER
) -> Node:
    log = io.StringIO()
    received: list[GroupMessage] = []
    lost: list[int] = []

    def receive(messages: Iterable[GroupMessage]) -> None:
        received.extend(messages)

    links = PeerLinks(
        cluster,
        number,
        members,
        receive=receive,
        unreachable=lost.append,
        events=Events(number, log, lambda: 0),
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "workbench.peers.v1.Peers", {"Stream": links.handler()}
            ),
        )
    )
    return Node(number, links, server, log, received, lost)


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    tasks = []
    for each in nodes:
        await each.server.start()
        tasks.append(asyncio.create_task(each.links.run()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in nodes:
            await each.server.stop(None)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is no event of ours
            await asyncio.sleep(0.01)


def pair(cluster_of_2: str = CLUSTER) -> tuple[Node, Node]:
    servers = [served(), served()]
    members = [Member(i + 1, f"127.0.0.1:{port}", (1,)) for i, (_, port) in enumerate(servers)]
    return (
        node_of(1, members, servers[0][0]),
        node_of(2, members, servers[1][0], cluster_of_2),
    )


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 3 * DEADLINE_S))


def beat(number: int, sender: int = 1, receiver: int = 2) -> GroupMessage:
    return GroupMessage(number, Heartbeat(sender, receiver, 3, number))


def test_messages_arrive_in_order_both_ways() -> None:
    async def body() -> None:
        one, two = pair()
        async with running(one, two):
            sent = [beat(number) for number in range(1, 200)]
            for message in sent:
                one.links.send({2: [message]})
            two.links.send({1: [beat(7, 2, 1)]})
            await until(lambda: len(two.received) >= len(sent) and one.received)
            assert two.received == sent
            assert one.received == [beat(7, 2, 1)]
            assert one.links.connected() == (2,)

    run(body)


def test_a_peer_that_comes_back_is_found_again_and_the_loss_is_told() -> None:
    async def body() -> None:
        one, two = pair()
        port = int(one.links._links[2].member.address.rsplit(":", 1)[1])
        async with running(one, two):
            one.links.send({2: [beat(1)]})
            await until(lambda: two.received)
            await two.server.stop(None)
            await until(lambda: 2 in one.lost)
            server = grpc.aio.server(options=peer_links.SERVER_OPTIONS)
            assert server.add_insecure_port(f"127.0.0.1:{port}") == port
            again = node_of(2, [one.links._links[2].member, two.links._links[1].member], server)
            async with running(again):

                def found() -> bool:
                    one.links.send({2: [beat(2)]})
                    return bool(again.received)

                await until(found)
            assert again.received[0] == beat(2)

    run(body)


def test_a_peer_of_another_cluster_is_refused_and_told_once() -> None:
    async def body() -> None:
        one, two = pair(str(uuid.UUID(int=6)))
        async with running(one, two):

            def refused() -> int:
                one.links.send({2: [beat(1)]})
                return two.links.refused() >= 3

            await until(refused)
            assert two.received == []
            [line] = two.told("peer_refused")
            assert (line["peer"], line["code"]) == (1, "peer_foreign")
            assert str(line["remote"]).startswith("ipv4:127.0.0.1:")
            assert [line["code"] for line in one.told("peer_unreachable")] == ["peer_foreign"]
            assert one.links.connected() == ()

    run(body)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b"\xff\xff"], "peer_frame_malformed"),
        ([encode_hello(CLUSTER, 1, 9)], "peer_foreign"),
        ([encode_hello(CLUSTER, 9, 2)], "peer_foreign"),
        ([encode_hello(CLUSTER, 2, 2)], "peer_foreign"),
        ([*encode_frames([beat(1)])], "peer_frame_malformed"),
        ([encode_hello(CLUSTER, 1, 2), encode_hello(CLUSTER, 1, 2)], "peer_frame_malformed"),
        ([encode_hello(CLUSTER, 1, 2), b"garbage"], "peer_frame_malformed"),
    ],
)
def test_garbage_and_strangers_end_their_stream_and_nothing_else(
    frames: list[bytes], code: str
) -> None:
    async def body() -> None:
        one, two = pair()
        address = one.links._links[2].member.address
        async with running(one, two):
            async with grpc.aio.insecure_channel(address) as channel:

                async def spoken() -> AsyncIterator[bytes]:
                    for frame in frames:
                        yield frame

                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.stream_unary(STREAM)(spoken(), timeout=DEADLINE_S)
            trailers = caught.value.trailing_metadata() or ()
            assert wire.metadata_value(trailers, wire.CODE_KEY) == code
            assert two.received == []
            one.links.send({2: [beat(4)]})
            await until(lambda: two.received)
            assert two.received == [beat(4)]

    run(body)


def test_the_log_tells_when_a_link_stands_and_when_it_is_lost() -> None:
    async def body() -> None:
        one, two = pair()
        member = one.links._links[2].member
        async with running(one, two):
            await until(lambda: one.links.connected() and two.links.connected())
            [line] = one.told("peer_connected")
            assert (line["peer"], line["address"]) == (2, member.address)
            await two.server.stop(None)
            await until(lambda: one.told("peer_lost"))
            assert [line["peer"] for line in one.told("peer_lost")] == [2]
            assert one.links.connected() == ()

    run(body)


def test_a_link_that_comes_and_goes_is_told_once() -> None:
    async def body() -> None:
        one, _ = pair()
        server, port = served()
        address = f"127.0.0.1:{port}"
        # It accepts every stream, and ends it at the first message.
        streams = []

        async def serve(frames: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
            streams.append(1)
            async for _ in frames:
                await context.send_initial_metadata(((wire.CLUSTER_KEY, CLUSTER),))
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
            return b""

        handler = grpc.stream_unary_rpc_method_handler(serve)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("workbench.peers.v1.Peers", {"Stream": handler}),)
        )
        await server.start()
        await one.links.set(2, Member(2, address, (1,)))
        async with running(one):
            await until(lambda: len(streams) >= 5)
            assert len(one.told("peer_connected")) <= 1
            assert len(one.told("peer_lost")) + len(one.told("peer_unreachable")) == 1
        await server.stop(None)

    run(body)


def test_a_node_that_stops_ends_the_streams_of_its_peers_at_once() -> None:
    async def body() -> None:
        one, two = pair()
        async with running(one, two):
            await until(lambda: one.links.connected() and two.links.connected())
            began = asyncio.get_running_loop().time()
            two.links.close()
            await two.server.stop(DEADLINE_S)
            assert asyncio.get_running_loop().time() - began < DEADLINE_S / 2
            await until(lambda: one.told("peer_lost"))
            [line] = one.told("peer_lost")
            assert line["code"] == "node_stopping"

    run(body)


def test_a_frame_above_the_limit_is_refused_by_the_transport_and_told() -> None:
    async def body() -> None:
        one, two = pair()
        address = one.links._links[2].member.address
        async with running(one, two):
            async with grpc.aio.insecure_channel(address) as channel:

                async def spoken() -> AsyncIterator[bytes]:
                    yield encode_hello(CLUSTER, 1, 2)
                    yield b"x" * (17 * 2**20)

                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.stream_unary(STREAM)(spoken(), timeout=DEADLINE_S)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert two.received == []
            await until(lambda: two.told("peer_left"))
            [line] = two.told("peer_left")
            assert (line["peer"], line["code"]) == (1, "peer_stream_ended")
            assert two.links.refused() == 0
            assert "above 16777216 bytes" in str(line["error"])

    run(body)


def test_what_libraries_log_is_an_event_and_cancelled_calls_are_none() -> None:
    text = io.StringIO()
    library = logging.getLogger("some.library")
    with libraries_told(Events(1, text, lambda: 0)):
        library.debug("not told")
        for error in (ValueError("why"), asyncio.CancelledError()):
            library.error("it failed\n%s", "here", exc_info=error)
    library.handlers = [logging.NullHandler()]
    library.warning("not told either")
    [line] = [json.loads(each) for each in text.getvalue().splitlines()]
    assert line["event"] == "library_said"
    assert (line["library"], line["error"]) == ("some.library", "it failed\nhere")
    assert "ValueError: why" in line["trace"]


def test_a_queue_that_is_full_loses_what_it_holds_and_says_so(monkeypatch) -> None:
    monkeypatch.setattr(peer_links, "QUEUE_AWAY_BYTES_MAX", 10_000)

    async def body() -> None:
        one, _ = pair()
        entry = LogEntry(1, 1, b"x" * 3_000)
        message = GroupMessage(1, AppendRequest(1, 2, 1, 0, 0, (entry,), 0))
        for _ in range(3):
            one.links.send({2: [message]})
        assert one.lost == []
        one.links.send({2: [message]})
        assert one.lost == [2]
        assert one.links._links[2].waiting_bytes == 0

    run(body)
