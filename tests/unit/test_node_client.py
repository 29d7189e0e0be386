"""The client against servers that are strange, silent or gone: what it repeats, and what not."""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent import futures

import grpc
import pytest
from process.raw_client import RawClient

from workbench.errors import (
    Conflict,
    Corruption,
    InvalidArgument,
    InvalidInput,
    OutcomeUnknown,
    Unavailable,
)
from workbench.model.keys import Span
from workbench.node import wire
from workbench.node.client import NodeClient
from workbench.node.proto import distribution_pb2 as distribution
from workbench.node.proto import rawkv_pb2 as rawkv
from workbench.node.proto import workbench_v1_pb2 as v1

NOBODY = "127.0.0.1:1"


class Stranger:
    """A server that answers each method with a function of the raw request and the context."""

    def __init__(self, **answers):
        self.answers = answers
        self.calls = []
        self.server = grpc.server(
            futures.ThreadPoolExecutor(4), handlers=[self], options=wire.SERVER_OPTIONS
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(self, details):
        name = details.method.rpartition("/")[2]
        if name not in self.answers:
            return None

        def answer(data, context):
            self.calls.append((name, data, dict(context.invocation_metadata())))
            return self.answers[name](data, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    def close(self):
        self.server.stop(None).wait()


@pytest.fixture
def stranger():
    """Return a function that starts a stranger; all are stopped at the end."""
    started = []

    def start(**answers):
        started.append(Stranger(**answers))
        return started[-1]

    yield start
    for each in started:
        each.close()


def answering(message, trailers=()):
    def answer(_, context):
        context.set_trailing_metadata(trailers)
        return message.SerializeToString()

    return answer


def ending(status, details="", trailers=()):
    def answer(_, context):
        context.set_trailing_metadata(trailers)
        context.abort(status, details)

    return answer


def hanging_up(server):
    """End the connection in the middle of a call."""

    def answer(_, context):
        server[0].server.stop(None)
        while context.is_active():
            pass
        return b""

    return answer


PUT = rawkv.RawPutResponse(commit_index=7, success=True)
ROUTE = distribution.RouteDescriptor(route_id=1, raft_group_id=1, state="ROUTE_STATE_ACTIVE")


def test_the_next_address_is_asked_where_nobody_answers_and_is_asked_first_from_then_on(stranger):
    server = stranger(RawPut=answering(PUT))
    with RawClient([NOBODY, server.address]) as client:
        assert client.put(b"k", b"v") == 7
        assert client.put(b"k", b"v") == 7
    assert len(server.calls) == 2


def test_a_node_that_stops_passes_even_a_write_on(stranger):
    stopping = (("x-workbench-code", "node_stopping"), ("x-workbench-kind", "unavailable"))
    first = stranger(RawPut=ending(grpc.StatusCode.UNAVAILABLE, "stopping", stopping))
    second = stranger(RawPut=answering(PUT))
    with RawClient([first.address, second.address]) as client:
        assert client.put(b"k", b"v") == 7


def test_a_write_that_was_cut_off_is_unknown_and_never_sent_again(stranger):
    holder = []
    first = stranger(RawPut=hanging_up(holder))
    holder.append(first)
    second = stranger(RawPut=answering(PUT))
    with RawClient([first.address, second.address]) as client, pytest.raises(OutcomeUnknown):
        client.put(b"k", b"v")
    assert second.calls == []


def test_a_read_that_was_cut_off_is_asked_elsewhere(stranger):
    holder = []
    first = stranger(RawGet=hanging_up(holder))
    holder.append(first)
    second = stranger(RawGet=answering(rawkv.RawGetResponse(value=b"v", exists=True)))
    with RawClient([first.address, second.address]) as client:
        assert client.get(b"k") == b"v"


def test_a_write_that_times_out_is_unknown_and_a_read_unavailable():
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with RawClient([address], timeout_s=0.3) as client:
            with pytest.raises(OutcomeUnknown) as write:
                client.put(b"k", b"v")
            with pytest.raises(Unavailable) as read:
                client.get(b"k")
    assert write.value.code == read.value.code == "deadline_exceeded"


def test_nobody_there_is_unavailable_and_names_an_address():
    with RawClient([NOBODY]) as client, pytest.raises(Unavailable) as refused:
        client.put(b"k", b"v")
    assert refused.value.code == "node_unreachable"
    assert NOBODY in str(refused.value)


def test_a_server_without_our_metadata_is_understood(stranger):
    pages = [[b"a", b"b"], [b"c"], []]

    def scan(*_):
        pairs = [rawkv.RawKVPair(key=key, value=b"v") for key in pages.pop(0)]
        return rawkv.RawScanAtResponse(kv=pairs).SerializeToString()

    server = stranger(
        ListRoutes=answering(distribution.ListRoutesResponse(catalog_version=4, routes=[ROUTE])),
        SplitRange=ending(grpc.StatusCode.ABORTED, "catalog version mismatch"),
        RawScanAt=scan,
    )
    with RawClient([server.address]) as client:
        snapshot = client.list_routes()
        assert snapshot.catalog_version == 4
        assert snapshot.cluster_id is None
        assert snapshot.routes[0].span == Span(b"", None)
        with pytest.raises(Conflict) as stale:
            client.split_range(expected_version=1, route_id=1, split_key=b"k", request_id="r")
        assert stale.value.code == "catalog_version_mismatch"
        assert [key for key, _ in client.scan()] == [b"a", b"b", b"c"]
        with pytest.raises(InvalidInput) as unimplemented:
            client.status()
        assert unimplemented.value.code == "status_unimplemented"
    asked = [
        rawkv.RawScanAtRequest.FromString(data) for name, data, _ in server.calls if "Scan" in name
    ]
    assert [each.start_key for each in asked] == [b"", b"b\x00", b"c\x00"]
    assert {each.ts for each in asked} == {0}


def test_the_pages_of_a_scan_are_as_of_the_moment_of_the_first(stranger):
    pages = [[b"a"], [b"b"]]

    def scan(_, context):
        keys = pages.pop(0)
        more = (("x-workbench-more", "1" if pages else "0"), ("x-workbench-read-ts", "77"))
        context.set_trailing_metadata(more)
        pairs = [rawkv.RawKVPair(key=key, value=b"v") for key in keys]
        return rawkv.RawScanAtResponse(kv=pairs).SerializeToString()

    server = stranger(RawScanAt=scan)
    with RawClient([server.address]) as client:
        assert [key for key, _ in client.scan()] == [b"a", b"b"]
    asked = [rawkv.RawScanAtRequest.FromString(data) for _, data, _ in server.calls]
    assert [each.ts for each in asked] == [0, 77]


def test_a_split_sends_its_request_id_and_tells_of_a_repeat(stranger):
    children = {
        "left": distribution.RouteDescriptor(
            route_id=2, end=b"k", raft_group_id=1, state="ROUTE_STATE_ACTIVE", parent_route_id=1
        ),
        "right": distribution.RouteDescriptor(
            route_id=3, start=b"k", raft_group_id=1, state="ROUTE_STATE_ACTIVE", parent_route_id=1
        ),
    }
    done = distribution.SplitRangeResponse(catalog_version=2, **children)
    server = stranger(SplitRange=answering(done, (("x-workbench-repeated", "1"),)))
    with RawClient([server.address]) as client:
        receipt = client.split_range(
            expected_version=1, route_id=1, split_key=b"k", request_id="plan-1/a"
        )
    assert receipt.repeated
    assert (receipt.left.span, receipt.right.span) == (Span(b"", b"k"), Span(b"k", None))
    assert server.calls[0][2]["x-workbench-request-id"] == "plan-1/a"


OVERLAPPING = [ROUTE, distribution.RouteDescriptor(route_id=2, raft_group_id=1, state=1)]
REVERSED = distribution.RouteDescriptor(
    route_id=1, start=b"b", end=b"a", raft_group_id=1, state="ROUTE_STATE_ACTIVE"
)
STATELESS = distribution.RouteDescriptor(route_id=1, raft_group_id=1)


@pytest.mark.parametrize("routes", [OVERLAPPING, [REVERSED], [STATELESS]])
def test_routes_that_break_a_rule_are_not_believed(stranger, routes):
    server = stranger(ListRoutes=answering(distribution.ListRoutesResponse(routes=routes)))
    with RawClient([server.address]) as client, pytest.raises(Corruption) as refused:
        client.list_routes()
    assert refused.value.code == "answer_malformed"


def test_an_answer_that_is_no_protobuf_or_lacks_keys_is_not_believed(stranger):
    server = stranger(
        RawGet=lambda *_: b"\x0a\xff", MultiGet=answering(v1.MultiGetResponse(read_ts=1))
    )
    with RawClient([server.address]) as client:
        for call in (lambda: client.get(b"k"), lambda: client.multi_get(1, [b"a", b"b"])):
            with pytest.raises(Corruption) as refused:
                call()
            assert refused.value.code == "answer_malformed"


@pytest.mark.parametrize("request_id", ["läuft", "two\nlines"])
def test_a_request_id_that_no_header_carries_is_refused_before_the_call(request_id):
    with RawClient([NOBODY]) as client, pytest.raises(InvalidArgument) as refused:
        client.split_range(expected_version=1, route_id=1, split_key=b"k", request_id=request_id)
    assert refused.value.code == "request_id_invalid"


@pytest.mark.parametrize(("addresses", "timeout_s"), [([], 5.0), ([NOBODY], 0.0)])
def test_a_client_needs_an_address_and_a_timeout(addresses, timeout_s):
    with pytest.raises(InvalidArgument):
        RawClient(addresses, timeout_s=timeout_s)


def test_a_port_of_metrics_is_told_from_one_where_nobody_listens():
    def answer(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(1_024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        with NodeClient([address], timeout_s=5.0) as client, pytest.raises(Unavailable) as refused:
            client.status()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5.0)
    assert refused.value.code == "node_unreachable"
    assert "does not speak gRPC" in refused.value.message
    assert "metrics" in refused.value.hint
