"""What a node tells a monitor: /metrics for Prometheus, /healthz and /readyz, over plain HTTP.

    Runtime ──synced, proposed──▶ histograms ┐
    status of groups, links, sampler ────────┴──at each scrape──▶ text ──▶ Answers (asyncio)

Rules:
- Answers are made in the node's own event loop: nothing that is told is read by another thread,
  so there are no locks and no copies. A scrape takes the loop 0.7 ms with four routes and 3 ms
  with a hundred and more; summing up a window, once, 1.5 ms per 1,000 of its rows.
- The number of series is bounded: of the routes the ROUTES_SHOWN_MAX with most accesses are told
  one by one, the others as one. Keys are never told.
- What was not measured has no sample: no load before the first window has closed.
- A request that is not one, too long or too slow ends its own connection and nothing else.

Not here: load windows in full (`services.observing`), and events (`node.events`).
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from workbench._version import __version__
from workbench.errors import AlreadyExists
from workbench.model.times import hlc_ms
from workbench.node.config import check_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from prometheus_client.core import Metric

    from workbench.model.node import ClosedWindow, GroupStatus, LoadRow
    from workbench.node.config import NodeConfig
    from workbench.node.peer_links import PeerLinks
    from workbench.node.runtime import Runtime
    from workbench.node.sampler import Sampler
    from workbench.node.upkeep import Upkeep

ROUTES_SHOWN_MAX: Final = 100
OTHER_ROUTES: Final = "other"
REQUEST_BYTES_MAX: Final = 8 * 2**10
REQUEST_S: Final = 5.0
CONNECTIONS_MAX: Final = 16
# From a fast disk's sync to one that does not come back.
_SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_GROUP_GAUGES: Final = (
    ("leading", "1 where this node leads the group, else 0."),
    ("serving", "1 where this node answers reads and writes of the group, else 0."),
    ("leader_node", "Id of the node that leads the group, 0 where this node knows of none."),
    ("term", "Term of the group on this node."),
    ("commit_index", "Highest index known to be committed."),
    ("applied_index", "Highest index that the state machine has applied."),
)
_ROUTE_GAUGES: Final = (
    ("reads", "Reads in the last closed load window."),
    ("writes", "Writes in the last closed load window."),
    ("read_bytes", "Bytes read in the last closed load window."),
    ("write_bytes", "Bytes written in the last closed load window."),
)


class Metrics:
    """The series of one node; made and used in its event loop.

    Args:
        config: Of the node.
    """

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._sync = Durations(
            "workbench_log_sync_seconds",
            "How long one sync of the log took; one for all groups that had something to write.",
        )
        self._propose = Durations(
            "workbench_propose_seconds",
            "From a command's arrival in the queue of its group to its answer.",
        )
        for each in (self._sync, self._propose):
            self._registry.register(each)

    def watch(self, runtime: Runtime, links: PeerLinks, sampler: Sampler, upkeep: Upkeep) -> None:
        """Tell of these parts of the node from now on."""
        runtime.synced = self._sync.observe
        runtime.proposed = self._propose.observe
        self._registry.register(_Parts(self._config, runtime, links, sampler, upkeep))

    def text(self) -> bytes:
        """Return all series in Prometheus' text format."""
        return generate_latest(self._registry)


class Durations(Collector):
    """A histogram for one thread: noting a duration costs a tenth of what a locked one does."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Note a duration."""
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram as of now."""
        bounds = [*(str(bound) for bound in _SECONDS), "+Inf"]
        yield HistogramMetricFamily(
            self._name,
            self._text,
            buckets=list(zip(bounds, accumulate(self._counts), strict=True)),
            sum_value=self._sum,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Parts(Collector):
    """What stands somewhere in the node anyway, read when it is asked for."""

    config: NodeConfig
    runtime: Runtime
    links: PeerLinks
    sampler: Sampler
    upkeep: Upkeep
    # By the end of the newest window: it is summed up once, however often it is told.
    loads: dict[int, dict[tuple[str, str], tuple[int, ...]]] = field(default_factory=dict)

    def collect(self) -> Iterator[Metric]:
        """Yield the series as of now."""
        info = GaugeMetricFamily(
            "workbench_node_info",
            "Always 1; says what runs here.",
            labels=("node", "cluster_id", "version"),
        )
        info.add_metric((str(self.config.node), self.config.cluster_id, __version__), 1)
        yield info
        yield from self._groups()
        yield GaugeMetricFamily(
            "workbench_calls_waiting",
            "Reads and writes that wait for their answer.",
            value=self.runtime.waiting,
        )
        yield GaugeMetricFamily(
            "workbench_log_cut_bytes",
            "Torn end of the log, which no sync had confirmed, that was cut off at the start.",
            value=self.runtime.log_cut_bytes,
        )
        yield from self._messages()
        yield from self._garbage()
        yield from self._load()

    def _groups(self) -> Iterator[Metric]:
        found = [self.runtime.status(group) for group in self.config.groups]
        for name, text in _GROUP_GAUGES:
            family = GaugeMetricFamily(f"workbench_group_{name}", text, labels=("group",))
            for each in found:
                family.add_metric((str(each.group),), _of_group(each, name))
            yield family

    def _messages(self) -> Iterator[Metric]:
        dropped = CounterMetricFamily(
            "workbench_messages_dropped",
            "Messages of other nodes that came in and were not looked at, by reason.",
            labels=("reason",),
        )
        inside = self.runtime.dropped
        for reason, count in (
            ("unknown_group", inside.unknown_group),
            ("inbox_full", inside.overflow),
            ("malformed", inside.malformed),
        ):
            dropped.add_metric((reason,), count)
        yield dropped
        connected = GaugeMetricFamily(
            "workbench_peer_connected",
            "1 where a stream to the peer is open, else 0.",
            labels=("peer",),
        )
        queued = GaugeMetricFamily(
            "workbench_peer_queue_bytes",
            "Bytes of messages that wait to be sent to the peer.",
            labels=("peer",),
        )
        up = set(self.links.connected())
        for peer, waiting in self.links.waiting_bytes().items():
            connected.add_metric((str(peer),), peer in up)
            queued.add_metric((str(peer),), waiting)
        lost = CounterMetricFamily(
            "workbench_peer_frames_lost",
            "Frames of messages that were never written to a stream.",
            labels=("peer",),
        )
        for peer, count in self.links.lost_frames().items():
            lost.add_metric((str(peer),), count)
        yield connected
        yield queued
        yield lost
        yield CounterMetricFamily(
            "workbench_peer_streams_refused",
            "Streams of other nodes, or of strangers, that this node has refused.",
            value=self.links.refused(),
        )

    def _garbage(self) -> Iterator[Metric]:
        safe_point = GaugeMetricFamily(
            "workbench_safe_point_timestamp_seconds",
            "Below which nothing of the group is read any more, as of its last collection here.",
            labels=("group",),
        )
        pins = GaugeMetricFamily(
            "workbench_pins", "Pins that held the group's safe point then.", labels=("group",)
        )
        scanned = CounterMetricFamily(
            "workbench_garbage_scanned",
            "Versions of the group that this node has read to find those that may go.",
            labels=("group",),
        )
        dropped = CounterMetricFamily(
            "workbench_garbage_dropped",
            "Versions of the group that this node has collected.",
            labels=("group",),
        )
        for group, each in sorted(self.upkeep.tidied.items()):
            safe_point.add_metric((str(group),), hlc_ms(each.safe_point) / 1_000)
            pins.add_metric((str(group),), each.pins)
            scanned.add_metric((str(group),), each.scanned)
            dropped.add_metric((str(group),), each.dropped)
        yield from (safe_point, pins, scanned, dropped)

    def _load(self) -> Iterator[Metric]:
        windows = self.sampler.windows(0)
        if not windows:
            return
        window = windows[-1]
        yield GaugeMetricFamily(
            "workbench_load_window_end_timestamp_seconds",
            "When the last closed load window ended.",
            value=window.end_us / 1_000_000,
        )
        loads = self.loads.get(window.end_us)
        if loads is None:
            self.loads.clear()
            loads = self.loads[window.end_us] = load_of_routes(window)
        for place, (name, text) in enumerate(_ROUTE_GAUGES):
            family = GaugeMetricFamily(f"workbench_route_{name}", text, labels=("route", "group"))
            for (route, group), counts in loads.items():
                family.add_metric((route, group), counts[place])
            yield family


def load_of_routes(window: ClosedWindow) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return reads, writes, read bytes and write bytes by route and group.

    ROUTES_SHOWN_MAX with most accesses; all others as one, of route `other` and no group.
    """
    sums: dict[tuple[str, str], tuple[int, ...]] = {}
    for row in window.rows:
        key = (str(row.route_id), str(row.group))
        sums[key] = _plus(sums.get(key), _counts(row))
    ordered = sorted(sums.items(), key=lambda each: (-each[1][0] - each[1][1], each[0]))
    shown = dict(ordered[:ROUTES_SHOWN_MAX])
    for _, counts in ordered[ROUTES_SHOWN_MAX:]:
        shown[OTHER_ROUTES, ""] = _plus(shown.get((OTHER_ROUTES, "")), counts)
    return shown


class Answers:
    """The HTTP port; a context manager of one event loop.

    Args:
        address: `HOST:PORT`, loopback.
        text: Of /metrics.
        failed: Says what keeps the node from being well; empty where nothing does.
        waiting: Says what keeps it from being ready; empty where nothing does.
    """

    def __init__(
        self,
        address: str,
        *,
        text: Callable[[], bytes],
        failed: Callable[[], str],
        waiting: Callable[[], str],
    ) -> None:
        self._address = address
        self._text = text
        self._failed = failed
        self._waiting = waiting
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> None:
        """Listen; AlreadyExists (`port_in_use`) where another program does."""
        host, port = check_address(self._address, "metrics_listen")
        try:
            self._server = await asyncio.start_server(
                self._serve, host, port, limit=REQUEST_BYTES_MAX
            )
        except OSError as error:
            raise AlreadyExists(
                f"cannot listen on {self._address} for metrics: {error.strerror or error}",
                code="port_in_use",
                hint="stop the program that listens there, or configure another metrics_listen",
            ) from error

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the port, and of who is still being answered."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close."""
        if len(self._open) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._open.add(writer)
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(REQUEST_S):
                    writer.write(self._answer(await _head(reader)))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            self._open.discard(writer)
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", b"not a request\n")
        method, target = words[0], words[1].partition(b"?")[0]
        if method not in {b"GET", b"HEAD"}:
            return _response("405 Method Not Allowed", b"GET or HEAD only\n")
        answer = {
            b"/metrics": lambda: _response("200 OK", self._text(), CONTENT_TYPE_PLAIN_0_0_4),
            b"/healthz": lambda: _said(self._failed()),
            b"/readyz": lambda: _said(self._failed() or self._waiting()),
        }.get(target, lambda: _response("404 Not Found", b"/metrics, /healthz or /readyz\n"))()
        return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == b"HEAD" else answer


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Return the head of a request; what is none is returned as far as it came."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError:
        return b""


def _said(what: str) -> bytes:
    if what:
        return _response("503 Service Unavailable", f"{what}\n".encode())
    return _response("200 OK", b"ok\n")


def _response(status: str, body: bytes, kind: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _of_group(status: GroupStatus, name: str) -> int:
    if name == "leading":
        return int(status.role == "leader")
    return int(getattr(status, name))


def _counts(row: LoadRow) -> tuple[int, ...]:
    return (row.reads, row.writes, row.read_bytes, row.write_bytes)


def _plus(left: tuple[int, ...] | None, right: tuple[int, ...]) -> tuple[int, ...]:
    return right if left is None else tuple(a + b for a, b in zip(left, right, strict=True))
