"""Real nodes for tests: configured on free ports, started, and always stopped.

`Hand` speaks gRPC with protobuf that is put together here by field number, from
docs/formats/wire.md and without generated code: what a stranger's client would do.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from process.raw_client import RawClient

from workbench.model.node import Member
from workbench.node.config import NodeConfig, write_config
from workbench.routing.rules import even_seed_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from workbench.model.routes import RouteDescriptor

CLUSTER_ID = "0b54ae4c-3a3f-4c5e-9d39-2d7c3c1b8a01"
DEADLINE_S = 20.0


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; all held at once, so that they differ."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until a condition holds; fail with `what` when it does not in time."""
    end = time.perf_counter() + deadline_s
    while not condition():
        assert time.perf_counter() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)


class NodeProcess:
    """One node as a process; may be started again after it ended."""

    def __init__(self, config: NodeConfig, folder: Path) -> None:
        self.config = config
        self.address = config.listen
        self.file = folder / f"node-{config.node}.toml"
        self.log = folder / f"node-{config.node}.log"
        write_config(self.file, config)
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process, and do not wait for anything."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workbench.node", "--config", str(self.file)],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        return self.process

    def start(self) -> NodeProcess:
        """Start the process and wait until it serves."""
        before = len(self.events("serving"))
        process = self.launch()
        until(
            lambda: process.poll() is not None or len(self.events("serving")) > before,
            f"{self.address} serves",
        )
        assert process.poll() is None, self.log.read_text()
        return self

    def events(self, name: str | None = None) -> list[dict[str, object]]:
        """Return what it logged so far, all events or those of one name."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in found if name in {None, event["event"]}]

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait for its end and return its status."""
        assert self.process is not None
        return self.process.wait(deadline_s)

    def kill(self) -> None:
        """Kill -9, and wait for the end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)


def configs(
    folder: Path,
    groups_of_nodes: Sequence[Sequence[int]],
    routes: Sequence[RouteDescriptor] | None = None,
    *,
    window_ms: int = 200,
) -> list[NodeConfig]:
    """Return one configuration per node; `groups_of_nodes[i]` are the groups of node i + 1."""
    ports = free_ports(len(groups_of_nodes))
    members = tuple(
        Member(node, f"127.0.0.1:{port}", tuple(groups))
        for node, (port, groups) in enumerate(zip(ports, groups_of_nodes, strict=True), start=1)
    )
    groups = {group for each in groups_of_nodes for group in each}
    seeds = routes or even_seed_spans(len(groups))
    return [
        NodeConfig(
            cluster_id=CLUSTER_ID,
            node=member.node,
            dir=folder / f"node-{member.node}",
            listen=member.address,
            members=members,
            routes=tuple(seeds),
            window_ms=window_ms,
        )
        for member in members
    ]


@contextmanager
def cluster(
    folder: Path,
    groups_of_nodes: Sequence[Sequence[int]],
    routes: Sequence[RouteDescriptor] | None = None,
    *,
    window_ms: int = 200,
) -> Iterator[list[NodeProcess]]:
    """Run nodes that serve; none of them is left behind, whatever happens."""
    nodes = [
        NodeProcess(config, folder)
        for config in configs(folder, groups_of_nodes, routes, window_ms=window_ms)
    ]
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            until(lambda node=node: bool(node.events("serving")), f"{node.address} serves")
        yield nodes
    finally:
        for node in nodes:
            node.kill()


@contextmanager
def client_of(*nodes: NodeProcess, timeout_s: float = 10.0) -> Iterator[RawClient]:
    """Return our own client of some nodes."""
    with RawClient([node.address for node in nodes], timeout_s=timeout_s) as client:
        yield client


def varint(value: int) -> bytes:
    """Return a protobuf varint."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def message(**fields: int | bytes | list[bytes]) -> bytes:
    """Return a protobuf message: `f1=3, f2=b"x"` are its fields by number."""
    data = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, int):
            data += varint(number << 3) + varint(value)
            continue
        for each in [value] if isinstance(value, bytes) else value:
            data += varint(number << 3 | 2) + varint(len(each)) + each
    return data


def fields_of(data: bytes) -> dict[int, list[int | bytes]]:
    """Return the fields of a protobuf message by number: varints, fixed64 and bytes."""
    fields: dict[int, list[int | bytes]] = {}
    place = 0

    def next_varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        tag = next_varint()
        found: int | bytes
        if tag & 7 == 0:
            found = next_varint()
        else:
            assert tag & 7 in {1, 2}
            length = 8 if tag & 7 == 1 else next_varint()
            found = data[place : place + length]
            assert len(found) == length
            place += length
        fields.setdefault(tag >> 3, []).append(found)
    return fields


class Refusal(Exception):  # noqa: N818 - it is the status that a test asked for
    """A call that ended with a status other than OK."""

    def __init__(self, status: str, code: str | None, text: str) -> None:
        super().__init__(f"{status} {code}: {text}")
        self.status = status
        self.code = code
        self.text = text


class Hand:
    """A client made by hand, of one address."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),))
        self.trailers: dict[str, str] = {}

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()

    def call(
        self,
        method: str,
        data: bytes = b"",
        *,
        metadata: Sequence[tuple[str, str]] = (),
        timeout_s: float = 10.0,
    ) -> dict[int, list[int | bytes]]:
        """Make a unary call and return the fields of its answer; raises Refusal."""
        try:
            answer, call = self.channel.unary_unary(method).with_call(
                data, timeout=timeout_s, metadata=tuple(metadata)
            )
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            code = trailers.get("x-workbench-code")
            raise Refusal(error.code().name, code, error.details()) from None
        self.trailers = dict(call.trailing_metadata() or ())
        return fields_of(answer)

    def answers(self, method: str, data: bytes = b"", **how: object) -> bool:
        """Make a call, and tell whether it was answered."""
        try:
            self.call(method, data, **how)
        except Refusal:
            return False
        return True

    def refused(self, method: str, data: bytes = b"", **how: object) -> Refusal:
        """Make a call that must fail, and return how."""
        try:
            answer = self.call(method, data, **how)
        except Refusal as refusal:
            return refusal
        raise AssertionError(f"{method} was answered with {answer}")
