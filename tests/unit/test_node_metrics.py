"""What a monitor is told is bounded, is nothing where nothing was measured, and hangs no node."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from workbench.errors import AlreadyExists, InvalidInput
from workbench.model.node import ClosedWindow, LoadRow
from workbench.node import metrics
from workbench.node.metrics import (
    CONNECTIONS_MAX,
    OTHER_ROUTES,
    REQUEST_BYTES_MAX,
    ROUTES_SHOWN_MAX,
    Answers,
    Durations,
    load_of_routes,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def row(route: int, reads: int, writes: int = 0, start: bytes = b"") -> LoadRow:
    return LoadRow(route, 1, start, None, reads, writes, 10 * reads, 20 * writes, 1.0)


def window(*rows: LoadRow) -> ClosedWindow:
    return ClosedWindow(1, 0, 60_000_000, rows)


def test_the_buckets_of_a_route_are_summed() -> None:
    found = load_of_routes(window(row(7, 1), row(7, 2, 5, b"m"), row(8, 0)))
    assert found == {("7", "1"): (3, 5, 30, 100), ("8", "1"): (0, 0, 0, 0)}


def test_of_many_routes_the_busiest_are_shown_and_nothing_is_left_out_of_the_sum() -> None:
    many = [row(number, number) for number in range(1, ROUTES_SHOWN_MAX + 51)]
    found = load_of_routes(window(*many))
    assert len(found) == ROUTES_SHOWN_MAX + 1
    assert ("51", "1") in found
    assert ("50", "1") not in found
    assert found[OTHER_ROUTES, ""][0] == sum(range(1, 51))
    assert sum(counts[0] for counts in found.values()) == sum(row.reads for row in many)


def test_durations_fall_into_the_buckets_that_hold_them() -> None:
    registry = CollectorRegistry()
    took = Durations("took_seconds", "How long.")
    registry.register(took)
    for seconds in (0.0001, 0.0002, 0.2, 99.0):
        took.observe(seconds)

    def count(bound: str) -> float | None:
        return registry.get_sample_value("took_seconds_bucket", {"le": bound})

    found = [count(bound) for bound in ("0.0001", "0.00025", "0.1", "0.25", "10.0", "+Inf")]
    assert found == [1, 2, 2, 3, 3, 4]
    assert registry.get_sample_value("took_seconds_count") == 4
    assert registry.get_sample_value("took_seconds_sum") == pytest.approx(99.2003)


class Port:
    """A port under test, and what it says."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.failed = self.waiting = ""
        self.answers = Answers(
            address,
            text=lambda: b"workbench_x 1\n",
            failed=lambda: self.failed,
            waiting=lambda: self.waiting,
        )

    async def say(self, request: bytes) -> bytes:
        """Send bytes and return everything that comes back."""
        reader, writer = await asyncio.open_connection(*self.address.split(":"))
        writer.write(request)
        writer.write_eof()
        data = await reader.read()
        writer.close()
        return data

    async def get(self, path: str, method: str = "GET") -> tuple[str, bytes]:
        data = await self.say(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = data.partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0].decode().partition(" ")[2], body


def serve(scenario: Callable[[Port], Awaitable[None]]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = Port(f"127.0.0.1:{probe.getsockname()[1]}")

    async def run() -> None:
        async with asyncio.timeout(20), port.answers:
            await scenario(port)

    asyncio.run(run())


def test_each_path_says_what_it_is_for() -> None:
    async def scenario(port: Port) -> None:
        assert await port.get("/metrics?x=1") == ("200 OK", b"workbench_x 1\n")
        assert await port.get("/metrics", "HEAD") == ("200 OK", b"")
        assert await port.get("/healthz") == ("200 OK", b"ok\n")
        assert await port.get("/readyz") == ("200 OK", b"ok\n")
        port.waiting = "no leader"
        assert await port.get("/healthz") == ("200 OK", b"ok\n")
        assert await port.get("/readyz") == ("503 Service Unavailable", b"no leader\n")
        port.failed = "it ended"
        for path in ("/healthz", "/readyz"):
            assert await port.get(path) == ("503 Service Unavailable", b"it ended\n")
        assert (await port.get("/"))[0] == "404 Not Found"
        assert (await port.get("/metrics", "POST"))[0] == "405 Method Not Allowed"

    serve(scenario)


@pytest.mark.parametrize(
    "request_",
    [b"", b"\r\n\r\n", b"\x16\x03\x01garbage\r\n\r\n", b"GET /metrics", b"x" * 100_000],
    ids=["nothing", "no words", "tls", "no end", "too long"],
)
def test_what_is_no_request_ends_its_own_connection_only(request_: bytes) -> None:
    async def scenario(port: Port) -> None:
        try:
            answer = await port.say(request_)
        except ConnectionError:
            answer = b"HTTP/1.1 400 reset before it was read"
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert (await port.get("/healthz"))[0] == "200 OK"

    assert REQUEST_BYTES_MAX < 100_000
    serve(scenario)


def test_who_says_nothing_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "REQUEST_S", 0.2)

    async def scenario(port: Port) -> None:
        silent = [
            await asyncio.open_connection(*port.address.split(":")) for _ in range(CONNECTIONS_MAX)
        ]
        for reader, _ in silent:
            assert await reader.read() == b""
        assert (await port.get("/healthz"))[0] == "200 OK"
        for _, writer in silent:
            writer.close()

    serve(scenario)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"

        async def run() -> None:
            async with Port(address).answers:
                raise AssertionError

        with pytest.raises(AlreadyExists, match=address) as caught:
            asyncio.run(run())
        assert caught.value.code == "port_in_use"


def test_only_loopback_is_listened_on() -> None:
    async def run() -> None:
        async with Port("0.0.0.0:9100").answers:
            raise AssertionError

    with pytest.raises(InvalidInput) as caught:
        asyncio.run(run())
    assert caught.value.code == "address_not_loopback"
