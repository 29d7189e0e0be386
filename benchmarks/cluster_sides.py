"""Three nodes of ours and three of etcd on loopback, and the same questions for both.

    Side ── put, batch, get, many ──▶ (method, bytes) ──▶ one gRPC channel to the leader
         ── start, kill, restart, leader, cpu_s ──▶ three processes

Both sides sync to the same disk before they acknowledge, and run as they come but for etcd's
--max-txn-ops. Requests are made before the clock runs; answers are parsed while it does.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import grpc
import pyarrow as pa

from benchmarks import etcd_wire as etcd
from workbench.errors import WorkbenchError
from workbench.model.node import Member
from workbench.node import wire
from workbench.node.client import NodeClient
from workbench.node.config import NodeConfig, write_config
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.routing.rules import even_seed_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NODES: Final = 3
GROUP: Final = 1
START_S: Final = 30.0
TXN_OPS_MAX: Final = 1_000
OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
)
RANGE_ROWS: Final = 10_000
_HERTZ: Final = os.sysconf("SC_CLK_TCK")

Pair = tuple[bytes, bytes]
Request = tuple[str, bytes]


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; ends the program where it does not within START_S."""
    end = time.perf_counter() + START_S
    while not condition():
        if time.perf_counter() > end:
            raise SystemExit(f"not within {START_S:.0f} s: {what}")
        time.sleep(0.01)


@dataclass
class Server:
    """One server as a process.

    Attributes:
        address: Where it serves clients.
        command: That starts it, as often as wanted.
        log: What it writes goes there.
        root: Where it is started.
    """

    address: str
    command: Sequence[str]
    log: Path
    root: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the process; it serves some time later."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own nodes, and etcd
                self.command, stdout=log, stderr=subprocess.STDOUT, cwd=self.root
            )

    def kill(self) -> None:
        """Kill -9, and wait for the end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def pid(self) -> int:
        """Of the process; the program ends where none was started."""
        if self.process is None:
            raise SystemExit(f"{self.address} was not started")
        return self.process.pid

    def cpu_s(self) -> float:
        """Return the processor time, user and system, of the running process."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _HERTZ


class Side(Protocol):
    """A cluster under test."""

    name: str
    servers: list[Server]

    def leader(self) -> Server:
        """Return who leads; waits until somebody does."""

    def serves(self, server: Server) -> bool:
        """Tell whether a server takes part again."""

    def put(self, client: int, number: int, pair: Pair) -> Request:
        """Return the request that writes one row, the `number`th of a client."""

    def batch(self, client: int, number: int, pairs: Sequence[Pair]) -> Request:
        """Return the request that writes rows, all or none."""

    def get(self, key: bytes) -> Request:
        """Return the linearizable read of one key."""

    def many(self, keys: Sequence[bytes]) -> Request:
        """Return the linearizable read of many keys at one moment."""

    def values(self, method: str, data: bytes) -> int:
        """Parse an answer; return how many bytes of values, or rows written, it is of."""

    def scan(self, start: bytes, end: bytes) -> pa.Table:
        """Return the keys and values of a range, as Arrow."""


def run_all(side: Side) -> None:
    """Start all servers and wait until they serve."""
    for server in side.servers:
        server.start()
    side.leader()
    for server in side.servers:
        until(lambda server=server: side.serves(server), f"{side.name} {server.address} serves")


def kill_all(side: Side) -> None:
    """Leave no process behind."""
    for server in side.servers:
        server.kill()


class Ours:
    """Three bundled nodes, one group of three voters.

    Args:
        folder: For data and logs.
        name: As the table shows it.
        module: What runs a node of a configuration.
        root: The checkout to run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "ours",
        module: str = "workbench.node",
        root: Path | None = None,
    ) -> None:
        self.name = name
        # Of this run, so that no client is taken for one of another.
        self._run = os.urandom(12)
        members = tuple(
            Member(node, f"127.0.0.1:{port}", (GROUP,))
            for node, port in enumerate(free_ports(NODES), start=1)
        )
        cluster_id = str(uuid.UUID(bytes=os.urandom(16), version=4))
        self.servers = []
        for each in members:
            config = NodeConfig(
                cluster_id=cluster_id,
                node=each.node,
                dir=folder / f"node-{each.node}",
                listen=each.address,
                members=members,
                routes=even_seed_spans(1),
            )
            path = folder / f"node-{each.node}.toml"
            write_config(path, config)
            command = [sys.executable, "-m", module, "--config", str(path)]
            self.servers.append(Server(each.address, command, path.with_suffix(".log"), root))

    def leader(self) -> Server:
        """Return who leads."""
        found: list[Server] = []

        def look() -> bool:
            found[:] = [each for each in self.servers if self._state(each)[0]]
            return bool(found)

        until(look, f"{self.name} has a leader")
        return found[0]

    def serves(self, server: Server) -> bool:
        """Tell whether a server follows a leader."""
        return self._state(server)[1]

    def _state(self, server: Server) -> tuple[bool, bool]:
        try:
            with closing(NodeClient([server.address], timeout_s=1.0)) as client:
                [group] = client.status().groups
        except WorkbenchError:
            return False, False
        return group.serving, group.leader_node > 0

    def put(self, client: int, number: int, pair: Pair) -> Request:
        """Return the request that writes one row, exactly once."""
        return self.batch(client, number, [pair])

    def batch(self, client: int, number: int, pairs: Sequence[Pair]) -> Request:
        """Return the request that writes rows, exactly once."""
        message = v1.BatchWriteRequest(
            group=GROUP,
            client_id=self._run + client.to_bytes(4, "big"),
            sequence=number + 1,
            mutations=[v1.Mutation(key=key, value=value) for key, value in pairs],
        )
        return wire.BATCH_WRITE, message.SerializeToString()

    def get(self, key: bytes) -> Request:
        """Return the linearizable read of one key."""
        return wire.KV_GET, v1.GetRequest(key=key).SerializeToString()

    def many(self, keys: Sequence[bytes]) -> Request:
        """Return the linearizable read of many keys."""
        return wire.MULTI_GET, v1.MultiGetRequest(group=GROUP, keys=keys).SerializeToString()

    def values(self, method: str, data: bytes) -> int:
        """Parse an answer; return how many bytes of values it has, 1 for a write."""
        match method:
            case wire.BATCH_WRITE:
                return int(v1.BatchWriteResponse.FromString(data).commit_ts > 0)
            case wire.KV_GET:
                return len(v1.GetResponse.FromString(data).version.value)
            case _:
                answer = v1.MultiGetResponse.FromString(data)
                return sum(len(each.value) for each in answer.versions)

    def scan(self, start: bytes, end: bytes) -> pa.Table:
        """Return the keys and values of a range: the export's stream of Arrow."""
        with closing(NodeClient([self.leader().address], timeout_s=60.0)) as client:
            chunks = client.export(GROUP, read_ts=0, start=start, end=end)
            return pa.concat_tables(chunk.table.select(["key", "value"]) for chunk in chunks)


class Etcd:
    """Three members of etcd, as Debian packages it; fsync is on, as it is by default."""

    name = "etcd"

    def __init__(self, folder: Path) -> None:
        ports = free_ports(2 * NODES)
        clients, peers = ports[:NODES], ports[NODES:]
        names = [f"n{number}" for number in range(1, NODES + 1)]
        binary = shutil.which("etcd") or "etcd"
        found = ",".join(
            f"{name}=http://127.0.0.1:{port}" for name, port in zip(names, peers, strict=True)
        )
        self.servers = []
        for name, client, peer in zip(names, clients, peers, strict=True):
            options = {
                "name": name,
                "data-dir": str(folder / name),
                "listen-client-urls": f"http://127.0.0.1:{client}",
                "advertise-client-urls": f"http://127.0.0.1:{client}",
                "listen-peer-urls": f"http://127.0.0.1:{peer}",
                "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
                "initial-cluster": found,
                "initial-cluster-state": "new",
                "max-txn-ops": str(TXN_OPS_MAX),
                "logger": "zap",
                "log-level": "error",
            }
            command = [binary, *(f"--{key}={value}" for key, value in options.items())]
            self.servers.append(Server(f"127.0.0.1:{client}", command, folder / f"{name}.log"))

    def leader(self) -> Server:
        """Return who leads."""
        found: list[Server] = []

        def look() -> bool:
            found[:] = [each for each in self.servers if self._state(each)[0]]
            return bool(found)

        until(look, "etcd has a leader")
        return found[0]

    def serves(self, server: Server) -> bool:
        """Tell whether a member follows a leader."""
        return self._state(server)[1]

    def _state(self, server: Server) -> tuple[bool, bool]:
        with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
            try:
                data = channel.unary_unary(etcd.STATUS)(b"", timeout=1.0)
            except grpc.RpcError:
                return False, False
        status = etcd.parse("StatusResponse", data)
        return status.leader == status.header.member_id, status.leader > 0

    def put(self, client: int, number: int, pair: Pair) -> Request:
        """Return the request that writes one row; etcd knows of no clients."""
        del client, number
        return etcd.PUT, etcd.make("PutRequest", key=pair[0], value=pair[1]).SerializeToString()

    def batch(self, client: int, number: int, pairs: Sequence[Pair]) -> Request:
        """Return a transaction of puts."""
        del client, number
        puts = [{"request_put": {"key": key, "value": value}} for key, value in pairs]
        return etcd.TXN, etcd.make("TxnRequest", success=puts).SerializeToString()

    def get(self, key: bytes) -> Request:
        """Return the linearizable read of one key."""
        return etcd.RANGE, etcd.make("RangeRequest", key=key).SerializeToString()

    def many(self, keys: Sequence[bytes]) -> Request:
        """Return a transaction of gets, linearizable as all of them."""
        gets = [{"request_range": {"key": key}} for key in keys]
        return etcd.TXN, etcd.make("TxnRequest", success=gets).SerializeToString()

    def values(self, method: str, data: bytes) -> int:
        """Parse an answer; return how many bytes of values it has, 1 for a write."""
        match method:
            case etcd.PUT:
                return int(etcd.parse("PutResponse", data).header.revision > 0)
            case etcd.RANGE:
                return sum(len(each.value) for each in etcd.parse("RangeResponse", data).kvs)
            case _:
                answer = etcd.parse("TxnResponse", data)
                read = sum(
                    len(kv.value) for each in answer.responses for kv in each.response_range.kvs
                )
                return read or int(answer.succeeded)

    def scan(self, start: bytes, end: bytes) -> pa.Table:
        """Return the keys and values of a range, page by page as of the first one's revision."""
        keys: list[bytes] = []
        values: list[bytes] = []
        revision, more = 0, True
        with grpc.insecure_channel(self.leader().address, options=OPTIONS) as channel:
            ask = channel.unary_unary(etcd.RANGE)
            while more:
                request = etcd.make(
                    "RangeRequest",
                    key=keys[-1] + b"\0" if keys else start,
                    range_end=end,
                    limit=RANGE_ROWS,
                    revision=revision,
                )
                answer = etcd.parse("RangeResponse", ask(request.SerializeToString(), timeout=60))
                keys += [each.key for each in answer.kvs]
                values += [each.value for each in answer.kvs]
                revision, more = answer.header.revision, answer.more
        return pa.table(
            {"key": pa.array(keys, pa.binary()), "value": pa.array(values, pa.binary())}
        )
