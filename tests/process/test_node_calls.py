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
from workbench.node.errors import status_of
from workbench.node.events import Events
from workbench.node.forwarding import Call, Peers, Reply
from workbench.node.services.calls import stream, unary
from workbench.node.services.distribution import Distribution

# What only the log may tell.
INSIDE = "the key of the safe"


def answered_by(handle, *, streamed=False):
    """Serve a handler under /Test/Call, call it, and return status, text, trailers and log."""

    async def scenario():
        log = io.StringIO()
        desk = SimpleNamespace(
            runtime=SimpleNamespace(check_open=lambda: None),
            events=Events(1, log, lambda: 0),
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
