"""Nodes against etcd: three of ours and three of Debian's etcd-server, on one machine, in one run.

    python -m benchmarks cluster

Both sync to the same disk before they acknowledge, both are asked by the same asyncio gRPC client
over one channel to the leader, with requests that were made before the clock runs. They take
turns within every workload, so that a machine whose speed drifts slows both; while one works, the
other only keeps its heartbeats. All that was written is read back. Skipped where there is no
etcd. WORKBENCH_KILLS is how often each leader is killed (20).
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio
import pyarrow.compute as pc

from benchmarks.catalog_sets import folder
from benchmarks.cluster_sides import OPTIONS, Etcd, Ours, kill_all, run_all, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.cluster_sides import Pair, Request, Server, Side

TURNS: Final = 5
KILLS: Final = int(os.environ.get("WORKBENCH_KILLS", "20"))
CPU_HEAD: Final = (
    "Processor time of a call, three servers + the client:\n\n| what | ours | etcd |\n|---|---|---|"
)
VALUE: Final = bytes(range(100))
CALL_S: Final = 30.0
SCAN_ROWS: Final = 200_000
SCAN_TURNS: Final = 3
BATCH: Final = 100
FAILOVER_WRITERS: Final = 8
# One try of a write; a proposal that went to a leader that died is never answered.
TRY_S: Final = 0.5
PAUSE_S: Final = 0.005
# Acknowledged between two kills, so that each falls into a load that runs.
BETWEEN_KILLS: Final = 50
ATTEMPTS_MAX: Final = 5


@dataclass(frozen=True)
class Workload:
    """What is asked, and how much of it.

    Attributes:
        what: As the table shows it.
        calls: Of one turn.
        in_flight: How many clients ask at once, each one call after the other.
        rows: Of a call.
        kind: put, batch, get or many.
        ratio_min: The aim: this many times as fast as etcd.
        rows_s_min: The other aim.
    """

    what: str
    calls: int
    in_flight: int
    rows: int
    kind: str
    ratio_min: float
    rows_s_min: float | None = None


WORKLOADS: Final = (
    Workload("one client, sequential puts", 150, 1, 1, "put", 0.7),
    Workload("64 clients, unbatched puts", 1_920, 64, 1, "put", 1.0),
    Workload(f"batches of {BATCH} rows, 16 in flight", 320, 16, BATCH, "batch", 2.0, 50_000),
    Workload("linearizable gets, 64 clients", 1_920, 64, 1, "get", 0.5),
    Workload(f"MultiGet of {BATCH} keys, 16 in flight", 320, 16, BATCH, "many", 2.0),
)


def pairs_of(label: str, count: int) -> list[Pair]:
    """Return rows of 16-byte keys, spread over the key space, and 100-byte values."""
    return [
        (blake2b(b"%b%d" % (label.encode(), n), digest_size=8).hexdigest().encode(), VALUE)
        for n in range(count)
    ]


class Bench:
    """One side, its rows, and numbers for its clients that were not used before."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._clients = 0
        # Turns that were repeated because a leader was lost in them.
        self.repeated = 0

    def clients(self, count: int) -> int:
        """Return the first of so many numbers that no client had."""
        first, self._clients = self._clients, self._clients + count
        return first

    def requests(self, load: Workload, label: str) -> list[list[Request]]:
        """Return what each client asks, in order; reads are of the rows of the batches."""
        if load.kind in {"put", "batch"}:
            rows = pairs_of(label, load.calls * load.rows)
        else:
            rows = pairs_of("read", load.calls * load.rows)
        each = load.calls // load.in_flight
        first = self.clients(load.in_flight)
        return [
            [
                self._request(load, first + client, n, rows[at : at + load.rows])
                for n in range(each)
                for at in [(client * each + n) * load.rows]
            ]
            for client in range(load.in_flight)
        ]

    def _request(self, load: Workload, client: int, n: int, rows: Sequence[Pair]) -> Request:
        match load.kind:
            case "put":
                return self.side.put(client, n, rows[0])
            case "batch":
                return self.side.batch(client, n, rows)
            case "get":
                return self.side.get(rows[0][0])
            case _:
                return self.side.many([key for key, _ in rows])

    def cpu_s(self) -> float:
        """Return the processor time of all servers."""
        return sum(each.cpu_s() for each in self.side.servers)


@dataclass(frozen=True)
class Driven:
    """What came of asking.

    Attributes:
        seconds: From the first call to the last answer.
        got: What all answers have, as `Side.values` counts it.
        again: Calls that were tried again, because a leader was lost.
    """

    seconds: float
    got: int
    again: int


async def drive(
    address: str, asked: Sequence[Sequence[Request]], values: Callable[[str, bytes], int]
) -> Driven:
    """Ask, every client one call after the other; all of them may be repeated without harm."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        await channel.channel_ready()
        methods = {method for each in asked for method, _ in each}
        calls = {method: channel.unary_unary(method) for method in methods}
        again = 0

        async def call(method: str, data: bytes) -> bytes:
            nonlocal again
            while True:
                try:
                    answer: bytes = await calls[method](data, timeout=CALL_S)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    again += 1
                    await asyncio.sleep(PAUSE_S)
                else:
                    return answer

        async def client(requests: Sequence[Request]) -> int:
            return sum([values(method, await call(method, data)) for method, data in requests])

        gc.collect()
        began = time.perf_counter()
        totals = await asyncio.gather(*(client(each) for each in asked))
        return Driven(time.perf_counter() - began, sum(totals), again)


def expected(load: Workload) -> int:
    """Return what the answers of a turn must have: bytes of values, or writes."""
    return load.calls * (1 if load.kind in {"put", "batch"} else load.rows * len(VALUE))


def turn(bench: Bench, load: Workload, label: str) -> tuple[float, float, float]:
    """Let one side do a workload once; return seconds, and processor seconds: servers, client.

    A turn in which a leader was lost is no figure: another takes its place.
    """
    for attempt in range(ATTEMPTS_MAX):
        asked = bench.requests(load, f"{label}-{attempt}")
        leader = bench.side.leader().address
        servers, client = bench.cpu_s(), time.process_time()
        driven = asyncio.run(drive(leader, asked, bench.side.values))
        if driven.got != expected(load):
            raise SystemExit(f"{load.what}: {bench.side.name}: {driven} for {expected(load)}")
        if not driven.again:
            return driven.seconds, bench.cpu_s() - servers, time.process_time() - client
        bench.repeated += 1
    raise SystemExit(f"{load.what}: {bench.side.name} lost its leader {ATTEMPTS_MAX} times")


def contest(load: Workload, benches: Sequence[Bench], turns: int = TURNS) -> tuple[str, str]:
    """Return the table's line of a workload, and one of processor time."""
    figures: list[list[tuple[float, float, float]]] = [[] for _ in benches]
    for number in range(turns + 1):
        for bench, own in zip(benches, figures, strict=True):
            own.append(turn(bench, load, f"{load.kind}-{load.in_flight}-{number}"))
    ours, theirs = ([took for took, _, _ in each[1:]] for each in figures)
    spent = [statistics.median(cpu for _, cpu, _ in each[1:]) / load.calls for each in figures]
    asking = [statistics.median(cpu for _, _, cpu in each[1:]) / load.calls for each in figures]
    rows = load.calls * load.rows
    aims = [verdict(f"≥ {load.ratio_min:g} ×", ratio_of(ours, theirs)[0] >= load.ratio_min)]
    if load.rows_s_min is not None:
        reached = rows / statistics.median(ours) >= load.rows_s_min
        aims.append(verdict(f"≥ {load.rows_s_min:,.0f} rows/s", reached))
    spending = (
        f"| {load.what} | {spent[0] * 1e6:,.0f} + {asking[0] * 1e6:,.0f} µs "
        f"| {spent[1] * 1e6:,.0f} + {asking[1] * 1e6:,.0f} µs |"
    )
    unit = "rows/s" if load.rows > 1 else "/s"
    return line(load.what, rows, unit, ours, theirs, "; ".join(aims)), spending


def verdict(aim: str, reached: bool) -> str:  # noqa: FBT001 - a sentence and whether it is true
    """Return an aim and whether it was met."""
    return f"{aim}: {'met' if reached else '**MISSED**'}"


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return median, least and largest of etcd's time over ours, turn by turn."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def line(  # noqa: PLR0913, PLR0917 - the columns
    what: str, count: int, unit: str, ours: Sequence[float], theirs: Sequence[float], aim: str
) -> str:
    """Return a line of the table, of seconds by turn."""
    shown = [f"{count / statistics.median(each):,.0f} {unit}" for each in (ours, theirs)]
    middle, least, most = ratio_of(ours, theirs)
    return (
        f"| {what} | {shown[0]} | etcd | {shown[1]} | {middle:.2f} ({least:.2f} – {most:.2f}) "
        f"| {len(ours)} | {aim} |"
    )


def fill(bench: Bench, label: str, rows: Sequence[Pair]) -> None:
    """Write rows in batches."""
    load = Workload(label, len(rows) // BATCH, 16, BATCH, "batch", 0)
    each = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
    first = bench.clients(load.in_flight)
    asked = [
        [
            bench.side.batch(first + client, n, batch)
            for n, batch in enumerate(each[client :: load.in_flight])
        ]
        for client in range(load.in_flight)
    ]
    asyncio.run(drive(bench.side.leader().address, asked, bench.side.values))


def scan(benches: Sequence[Bench]) -> str:
    """Return the line of a scan to Arrow; both must find the same rows."""
    rows = sorted((b"scan" + key, value) for key, value in pairs_of("scan", SCAN_ROWS))
    for bench in benches:
        fill(bench, "scan", rows)
    seconds: list[list[float]] = [[] for _ in benches]
    for _ in range(SCAN_TURNS + 1):
        for bench, own in zip(benches, seconds, strict=True):
            gc.collect()
            began = time.perf_counter()
            table = bench.side.scan(b"scan", b"scao")
            own.append(time.perf_counter() - began)
            size = pc.sum(pc.binary_length(table["value"])).as_py()
            if (table.num_rows, size) != (SCAN_ROWS, SCAN_ROWS * len(VALUE)):
                raise SystemExit(f"scan: {bench.side.name} found {table.num_rows} rows")
    ours, theirs = (each[1:] for each in seconds)
    aim = verdict("≥ 500,000 rows/s", SCAN_ROWS / statistics.median(ours) >= 500_000)
    what = f"scan of {SCAN_ROWS:,} rows to Arrow: ours by Export, etcd by pages of Range"
    return line(what, SCAN_ROWS, "rows/s", ours, theirs, aim)


class Writers:
    """Clients that write new keys without a pause, through whichever server answers."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._stop = False
        self._number = 0
        self.acknowledged: list[Pair] = []
        self.unknown = 0
        # When the newest acknowledged write began.
        self.newest_began = 0.0

    async def run(self) -> None:
        """Write until `stop`."""
        servers = self._bench.side.servers
        channels = [grpc.aio.insecure_channel(each.address, options=OPTIONS) for each in servers]
        try:
            first = self._bench.clients(FAILOVER_WRITERS)
            await asyncio.gather(
                *(self._write(first + n, channels, n) for n in range(FAILOVER_WRITERS))
            )
        finally:
            for channel in channels:
                await channel.close()

    def stop(self) -> None:
        """End with the calls under way."""
        self._stop = True

    async def _write(self, client: int, channels: Sequence[grpc.aio.Channel], at: int) -> None:
        number = 0
        while not self._stop:
            number += 1
            self._number += 1
            pair = (b"fail%012d" % self._number, b"%d-%d" % (client, number))
            method, data = self._bench.side.put(client, number, pair)
            began = time.perf_counter()
            try:
                await channels[at % len(channels)].unary_unary(method)(data, timeout=TRY_S)
            except grpc.aio.AioRpcError:
                self.unknown += 1
                at += 1
                await asyncio.sleep(PAUSE_S)
            else:
                self.acknowledged.append(pair)
                self.newest_began = max(self.newest_began, began)


async def kill_leaders(bench: Bench) -> tuple[list[float], Writers]:
    """Kill the leader again and again under load; return seconds to the next write each time.

    That is from the kill to the acknowledgement of a write that began after it.
    """
    side, writers, waited = bench.side, Writers(bench), []
    loop = asyncio.get_running_loop()
    writing = asyncio.create_task(writers.run())

    async def acknowledged(more: int) -> None:
        goal, end = len(writers.acknowledged) + more, time.perf_counter() + CALL_S
        while len(writers.acknowledged) < goal:
            if writing.done():
                await writing
            if time.perf_counter() > end:
                raise SystemExit(f"{side.name} acknowledges no writes any more")
            await asyncio.sleep(0.002)

    for _ in range(KILLS):
        await acknowledged(BETWEEN_KILLS)
        victim: Server = await loop.run_in_executor(None, side.leader)
        victim.kill()
        began = time.perf_counter()
        while writers.newest_began < began:
            if time.perf_counter() > began + CALL_S:
                raise SystemExit(f"{side.name} does not come back after a kill")
            await asyncio.sleep(0.001)
        waited.append(time.perf_counter() - began)
        await acknowledged(BETWEEN_KILLS)
        victim.start()
        await loop.run_in_executor(
            None, until, lambda victim=victim: side.serves(victim), f"{victim.address} serves"
        )
    await acknowledged(BETWEEN_KILLS)
    writers.stop()
    await writing
    return waited, writers


def lost(bench: Bench, acknowledged: Sequence[Pair]) -> int:
    """Read everything back that was acknowledged; return how many bytes are missing."""
    wanted = sum(len(value) for _, value in acknowledged)
    asked = [
        [bench.side.many([key for key, _ in acknowledged[at : at + BATCH]])]
        for at in range(0, len(acknowledged), BATCH)
    ]
    driven = asyncio.run(drive(bench.side.leader().address, asked, bench.side.values))
    return wanted - driven.got


def failover(benches: Sequence[Bench]) -> Iterator[str]:
    """Yield the line of the killed leaders, and a note."""
    shown, waits = [], []
    for bench in benches:
        waited, writers = asyncio.run(kill_leaders(bench))
        missing = lost(bench, writers.acknowledged)
        if missing:
            raise SystemExit(f"{bench.side.name} lost {missing} bytes of acknowledged writes")
        waits.append(statistics.median(waited))
        shown.append(f"{waits[-1]:.2f} s ({min(waited):.2f} – {max(waited):.2f})")
        yield (
            f"Failover, {bench.side.name}: {KILLS} kills, {len(writers.acknowledged):,} writes "
            f"acknowledged and found again, {writers.unknown:,} tries of unknown outcome."
        )
    yield (
        f"| kill -9 of the leader to the next write, median (range) | {shown[0]} | etcd "
        f"| {shown[1]} | {waits[1] / waits[0]:.2f} | {KILLS} "
        f"| {verdict('≤ 1 s, no acknowledged write lost', waits[0] <= 1)} |"
    )


def run() -> Iterator[str]:
    """Yield the table's lines, then notes."""
    if shutil.which("etcd") is None:
        yield "cluster: skipped, there is no `etcd` on the path (Debian: `etcd-server`)."
        return
    with folder() as root:
        for name in ("ours", "etcd"):
            (root / name).mkdir()
        sides: list[Side] = [Ours(root / "ours"), Etcd(root / "etcd")]
        try:
            for side in sides:
                run_all(side)
            benches = [Bench(side) for side in sides]
            most = max(each.calls * each.rows for each in WORKLOADS)
            for bench in benches:
                fill(bench, "read", pairs_of("read", most))
            spending = [CPU_HEAD]
            for load in WORKLOADS:
                shown, spent = contest(load, benches)
                spending.append(spent)
                yield shown
            yield scan(benches)
            yield "\n".join(spending)
            repeated = ", ".join(f"{each.side.name} {each.repeated}" for each in benches)
            yield f"Turns repeated, since a busy machine made a leader step down: {repeated}."
            yield from failover(benches)
        finally:
            for side in sides:
                kill_all(side)
