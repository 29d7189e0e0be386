"""The boundary of a node's services: every error is a status, and a bug of ours tells no secret."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest

from workbench.errors import Conflict
from workbench.model.node import Member
from workbench.node import wire
from workbench.node.admission import Admission
from workbench.node.errors import Redirected, status_of
from workbench.node.events import Events
from workbench.node.forwarding import Call, Peers, Reply
from workbench.node.proto import distribution_pb2
from workbench.node.services.calls import LEADERLESS, stream, unary
from workbench.node.services.distribution import Distribution
from workbench.node.services.watching import Watching
from workbench.replica.commands import CatalogDeltas

# What only the log may tell.
INSIDE = "the key of the safe"


def answered_by(handle, *, streamed=False, admission=None):
    """Serve a handler under /Test/Call, call it, and return status, text, trailers and log."""

    async def scenario():
        log = io.StringIO()
        desk = SimpleNamespace(
            runtime=SimpleNamespace(check_open=lambda: None),
            events=Events(1, log, lambda: 0),
            admission=admission or Admission(),
        )
        server = grpc.aio.server()
        made = stream(desk, "/Test/Call", handle) if streamed else unary(desk, "/Test/Call", handle)
        generic = grpc.method_handlers_generic_handler("Test", {"Call": made})
        server.add_generic_rpc_handlers((generic,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = (
                    channel.unary_stream("/Test/Call")(b"")
                    if streamed
                    else channel.unary_unary("/Test/Call")(b"")
                )
                if streamed:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        async for _ in call:
                            pass
                code, details = await call.code(), await call.details()
                trailers = dict(await call.trailing_metadata() or ())
        finally:
            await server.stop(None)
        return code, details, trailers, [json.loads(line) for line in log.getvalue().splitlines()]

    return asyncio.run(scenario())


async def bug(_):
    raise RuntimeError(INSIDE)


async def bug_in_a_stream(_):
    yield Reply(b"first")
    raise RuntimeError(INSIDE)


async def conflict_in_a_stream(_):
    raise Conflict("stale", code="stale_thing", hint="look again")
    yield


@pytest.mark.parametrize(("handle", "streamed"), [(bug, False), (bug_in_a_stream, True)])
def test_a_bug_is_internal_without_its_text_and_is_logged_with_its_trace(handle, streamed):
    status, text, trailers, log = answered_by(handle, streamed=streamed)
    assert status is grpc.StatusCode.INTERNAL
    assert trailers[wire.CODE_KEY] == "node_bug"
    assert INSIDE not in text
    assert "Traceback" not in text
    assert [event["event"] for event in log] == ["call_failed"]
    assert INSIDE in log[0]["trace"]


def test_a_call_beyond_what_a_node_holds_is_told_so_and_leaves_nothing_behind():
    full, free = Admission(node_max=1), Admission()
    status, text, trailers, log = answered_by(bug, admission=full)
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert trailers[wire.CODE_KEY] == "queue_full"
    assert "the limit is 1" in text
    assert log == []
    assert answered_by(bug, admission=free)[0] is grpc.StatusCode.INTERNAL
    assert full.held == free.held == 0


def test_an_error_of_a_stream_is_a_status_with_its_code():
    status, text, trailers, log = answered_by(conflict_in_a_stream, streamed=True)
    assert status is grpc.StatusCode.ABORTED
    assert text == "stale; look again"
    assert trailers[wire.CODE_KEY] == "stale_thing"
    assert log == []


@pytest.mark.parametrize(
    ("serving", "code"), [(False, "catalog_leader_unknown"), (True, "catalog_absent")]
)
@pytest.mark.parametrize("method", [wire.SPLIT_RANGE, wire.LIST_ROUTES, wire.GET_ROUTE])
def test_without_a_leader_or_a_catalog_nothing_else_is_looked_at(serving, code, method):
    desk = SimpleNamespace(
        peers=Peers([Member(1, "127.0.0.1:1", (1,))], 1, lambda _: 1),
        runtime=SimpleNamespace(
            status=lambda _: SimpleNamespace(serving=serving), routes=lambda: None
        ),
    )
    malformed = Call(method, b"\xff")
    with pytest.raises(Exception, match="catalog group 1") as refused:
        asyncio.run(Distribution(desk).handlers()[method](malformed))
    assert refused.value.code == code
    assert status_of(refused.value) is grpc.StatusCode.FAILED_PRECONDITION


def test_a_split_that_finds_no_leader_of_the_catalog_group_is_refused_as_the_table_says():
    members = [Member(1, "127.0.0.1:1", (1,)), Member(2, "127.0.0.1:2", (1,))]
    desk = SimpleNamespace(peers=Peers(members, 1, lambda _: 0))
    with pytest.raises(Exception, match="no leader of group 1") as refused:
        asyncio.run(Distribution(desk).handlers()[wire.SPLIT_RANGE](Call(wire.SPLIT_RANGE, b"")))
    assert refused.value.code == "catalog_leader_unknown"
    assert refused.value.code in LEADERLESS, "it is tried again, while the call has time"
    assert status_of(refused.value) is grpc.StatusCode.FAILED_PRECONDITION


def test_a_watch_of_a_leader_that_is_none_any_more_ends_although_turns_go_on():
    class Turning:
        """A runtime that takes turns all the time, with a catalog that never changes."""

        turns = 0

        def check_open(self):
            pass

        def routes(self):
            return SimpleNamespace(version=7)

        async def turned(self):
            self.turns += 1
            await asyncio.sleep(0)

        async def read(self, group, read):
            return CatalogDeltas(7, 3, ())

    async def scenario():
        runtime = Turning()
        members = [Member(1, "127.0.0.1:1", (1,)), Member(2, "127.0.0.1:2", (1,))]
        peers = Peers(members, 1, lambda _: 1 if runtime.turns < 3 else 2)
        desk = SimpleNamespace(peers=peers, runtime=runtime)
        asked = distribution_pb2.CatalogWatchRequest(protocol_version=1, after_version=7)
        watch = Watching(desk).stream_handlers()[wire.WATCH_CATALOG]
        events = watch(Call(wire.WATCH_CATALOG, asked.SerializeToString()))
        with pytest.raises(Redirected) as refused:
            await asyncio.wait_for(anext(events), 10)
        assert refused.value.leader_address == "127.0.0.1:2"

    asyncio.run(scenario())


def test_events_escape_what_came_from_outside():
    log = io.StringIO()
    Events(3, log, lambda: 1_800_000_000_000_000).tell("call_failed", error="\x1b[31mrot\nß")
    assert log.getvalue().count("\n") == 1
    assert log.getvalue().isascii()
    assert json.loads(log.getvalue()) == {
        "event": "call_failed",
        "time": "2027-01-15T08:00:00Z",
        "node": 3,
        "error": "\x1b[31mrot\nß",
    }
