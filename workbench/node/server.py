"""One node as a process: composed here from its parts, started, served and stopped.

    config ──▶ directory (lock) ──▶ log ──▶ engine ──▶ Host ──▶ Runtime ──▶ services ──▶ port

    SIGTERM, SIGINT ──▶ hand over what is led ──▶ refuse new calls ──▶ answer what waits
                    ──▶ flush ──▶ close ──▶ exit 0
    failing disk, damaged state ──▶ event `failed`, last line on stderr ──▶ exit 1

Everything is checked before the port is served: configuration, lock, identity, log, state, and
that the ports are free. Not here: what calls do (`node.services`), and turns (`node.runtime`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import signal
import socket
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from workbench._version import __version__
from workbench.errors import AlreadyExists, Conflict, Unavailable, WorkbenchError
from workbench.host.host import Host
from workbench.host.start import start_group
from workbench.node.admission import Admission
from workbench.node.config import check_address, read_config
from workbench.node.directory import Identity, NodeDirectory
from workbench.node.engine import RocksEngine
from workbench.node.events import Events, libraries_told
from workbench.node.forwarding import FORWARD_TIMEOUT_S, Peers
from workbench.node.known_routes import KnownRoutes
from workbench.node.log import SegmentLog
from workbench.node.metrics import Answers, Metrics
from workbench.node.peer_links import SERVER_OPTIONS, STREAM, PeerLinks
from workbench.node.runtime import Runtime, wall_ms
from workbench.node.sampler import Sampler
from workbench.node.services.admin import Admin
from workbench.node.services.calls import Desk, stream, unary
from workbench.node.services.distribution import Distribution
from workbench.node.services.exporting import Exporting
from workbench.node.services.kv import Kv
from workbench.node.services.observing import Observing
from workbench.node.services.rawkv import RawKv
from workbench.node.services.restoring import Restoring
from workbench.node.sst_files import Checker
from workbench.node.sst_snapshots import CHECK_FOLDER, SstSnapshots, remove_leftovers
from workbench.node.trail import Trail
from workbench.node.upkeep import Holds, Upkeep
from workbench.ports.consensus import Configuration
from workbench.replica.commands import Bootstrap, OwnedSpan
from workbench.replica.layout import load_progress
from workbench.routing.rules import CATALOG_GROUP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable
    from concurrent.futures import Executor
    from pathlib import Path

    from workbench.model.node import Member
    from workbench.node.config import NodeConfig
    from workbench.ports.storage import Engine

# How long answers under way may take once the node stops; forwarded ones take the longest.
GRACE_S: Final = FORWARD_TIMEOUT_S + 1.0
# gRPC cancels calls that it has received and not handed out when it stops, and their callers
# cannot know that nothing was done. So calls are refused one by one until none came for a while.
QUIET_S: Final = 0.05
QUIET_ROUNDS_MAX: Final = 20
# Groups that cannot serve yet (a clock set back) keep nobody else waiting longer than this.
SERVING_TIMEOUT_S: Final = 5.0
SAMPLE_S: Final = 0.1
# One group's raft_snapshot is made while another's is checked or installed.
SNAPSHOT_WORKERS: Final = 3
# Handing a group over takes a round trip; a voter that is down costs one attempt.
HAND_OVER_S: Final = 1.5
HAND_OVER_ATTEMPTS: Final = 3
# Elections need no secret, only that nodes differ.
_DRAW: Final = random.SystemRandom().randrange


def serve(config_path: Path) -> int:
    """Run a node until it is told to stop, and return the exit status: 0, or 1 for a failure.

    What went wrong is the last line on stderr.
    """
    try:
        config = read_config(config_path)
    except WorkbenchError as error:
        _say(error)
        return 1
    events = Events(config.node, sys.stderr, lambda: wall_ms() * 1_000)
    try:
        with libraries_told(events):
            asyncio.run(_serve(config, events))
    except WorkbenchError as error:
        events.tell("failed", code=error.code, error=error.message, hint=error.hint)
        _say(error)
        return 1
    except Exception as error:  # noqa: BLE001 - the last boundary: a bug of ours ends the process
        trace = "".join(traceback.format_exception(error))
        events.tell("failed", code="node_bug", error=str(error), trace=trace)
        _say(f"the node failed: {type(error).__name__}: {error}")
        return 1
    return 0


async def _serve(config: NodeConfig, events: Events) -> None:
    """Open everything, serve until a signal or a failure, and close everything."""
    events.tell("starting", version=__version__, pid=os.getpid(), dir=str(config.dir))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ExitStack() as opened:
        directory = opened.enter_context(
            NodeDirectory.open(config.dir, Identity(config.cluster_id, config.node))
        )
        server = grpc.aio.server(options=SERVER_OPTIONS)
        _bind(server, config.listen)
        # Ended after the runtime, which first ends what it has them do.
        workers = opened.enter_context(
            ThreadPoolExecutor(SNAPSHOT_WORKERS, thread_name_prefix="raft-snapshot")
        )
        checker = Checker(directory.snapshots / CHECK_FOLDER)
        opened.callback(checker.close)
        runtime = _open_runtime(config, directory, checker, workers, events)
        opened.callback(runtime.close)
        links = PeerLinks(
            config.cluster_id,
            config.node,
            config.present,
            receive=runtime.receive,
            unreachable=runtime.unreachable,
            events=events,
        )
        runtime.send = links.send
        peers = Peers(_keepers(config), config.node, runtime.leader)
        sampler = Sampler(config.node, window_ms=config.window_ms, buckets_per_route=config.buckets)
        routes = KnownRoutes(config, runtime, peers, sampler, events)
        desk = Desk(config, runtime, peers, routes, sampler, events, Holds(), Admission())
        upkeep = Upkeep(config, runtime, desk.holds, events)
        _register(server, desk, links)
        try:
            async with _monitored(desk, links, upkeep):
                await _run(server, desk, links, upkeep, stop)
        finally:
            await peers.close()
    events.tell("stopped")


@contextlib.asynccontextmanager
async def _monitored(desk: Desk, links: PeerLinks, upkeep: Upkeep) -> AsyncIterator[None]:
    """Tell monitors how the node is, where it has an address for them."""
    address = desk.config.metrics_listen
    if address is None:
        yield
        return
    metrics = Metrics(desk.config)
    metrics.watch(desk.runtime, links, desk.sampler, upkeep)
    answers = Answers(
        address,
        text=metrics.text,
        failed=lambda: "the turns have ended: see the node's log" if desk.runtime.failed else "",
        waiting=lambda: _why_not_ready(desk),
    )
    async with answers:
        yield


def _why_not_ready(desk: Desk) -> str:
    if desk.runtime.stopping:
        return "the node is stopping"
    waiting = _not_led(desk)
    return f"no leader is known of groups {', '.join(map(str, waiting))}" if waiting else ""


async def _run(
    server: grpc.aio.Server, desk: Desk, links: PeerLinks, upkeep: Upkeep, stop: asyncio.Event
) -> None:
    """Take turns and serve until `stop` is set; raises what ended the turns before."""
    turns = asyncio.create_task(desk.runtime.run())
    stopping = asyncio.create_task(stop.wait())
    background = [
        asyncio.create_task(links.run()),
        asyncio.create_task(desk.routes.follow()),
        asyncio.create_task(desk.routes.follow_buckets()),
        asyncio.create_task(_sample(desk)),
        asyncio.create_task(upkeep.run()),
    ]
    try:
        if not desk.config.alone:
            await server.start()  # a leader is elected only over the port
        waiting = await _until_led(desk, turns, stopping)
        if desk.config.alone:
            await server.start()
        desk.events.tell(
            "serving",
            address=desk.config.listen,
            groups=list(desk.config.groups),
            not_serving=waiting,
        )
        await asyncio.wait({turns, stopping, *background}, return_when=asyncio.FIRST_COMPLETED)
        for loop in background:
            if loop.done():
                loop.result()
        if not turns.done():
            desk.events.tell("stopping")
            await hand_over(desk.runtime, desk.config.groups, turns)
            desk.runtime.stop()
        try:
            await turns
        finally:
            await _until_quiet(desk.runtime)
    finally:
        for task in (stopping, *background):
            task.cancel()
        await asyncio.gather(stopping, *background, return_exceptions=True)
        # A turn under way is never cut in two: its replies depend on a sync that may have begun.
        desk.runtime.stop()
        with contextlib.suppress(BaseException):
            await turns
        # Peers never end their streams: only calls of clients get the grace.
        links.close()
        await server.stop(GRACE_S)


async def _until_led(
    desk: Desk, turns: asyncio.Task[None], stopping: asyncio.Task[bool]
) -> list[int]:
    """Wait until all groups have a leader that serves, but not for ever; return the others."""

    async def wait() -> None:
        while _not_led(desk):
            await desk.runtime.turned()

    ready = asyncio.create_task(wait())
    await asyncio.wait(
        {ready, turns, stopping}, timeout=SERVING_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
    )
    ready.cancel()
    if turns.done():
        turns.result()
    desk.routes.take_applied()
    return _not_led(desk)


async def hand_over(runtime: Runtime, groups: Iterable[int], turns: asyncio.Task[None]) -> None:
    """Give away the leadership of groups that others can lead, before this node stops.

    Whom: the voters in turn, since one of them may be down. Not for ever: a group whose other
    voters are away has nobody to go to.
    """
    node = runtime.node
    loop = asyncio.get_running_loop()
    end = loop.time() + HAND_OVER_S
    for attempt in range(HAND_OVER_ATTEMPTS):
        led = {
            group: sorted(runtime.members(group).voters - {node})
            for group in groups
            if runtime.leader(group) == node
        }
        led = {group: others for group, others in led.items() if others}
        if not led:
            return
        for group, others in led.items():
            with contextlib.suppress(Unavailable):  # it is being handed over already
                runtime.transfer_leader(group, others[(group + attempt) % len(others)])
        until = min(end, loop.time() + HAND_OVER_S / HAND_OVER_ATTEMPTS)
        while any(runtime.leader(group) == node for group in led):
            if turns.done() or loop.time() > until:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(runtime.turned(), until - loop.time() + QUIET_S)


async def _until_quiet(runtime: Runtime) -> None:
    """Refuse calls until none comes any more, but not for ever."""
    for _ in range(QUIET_ROUNDS_MAX):
        refused = runtime.refused
        await asyncio.sleep(QUIET_S)
        if runtime.refused == refused:
            return


def _not_led(desk: Desk) -> list[int]:
    """Return the groups of this node that nobody serves, as far as it knows."""
    status = desk.runtime.status
    return [
        group
        for group in desk.config.groups
        if not status(group).serving and status(group).leader_node in {0, desk.config.node}
    ]


async def _sample(desk: Desk) -> None:
    """Close load windows and tell of what has changed as time passes, until cancelled."""
    trail = Trail(desk.config.groups, desk.runtime, desk.events)
    while True:
        trail.look()
        desk.routes.take_applied()
        desk.routes.follow_leaders()
        desk.sampler.advance(desk.runtime.now_us())
        await asyncio.sleep(SAMPLE_S)


def _open_runtime(
    config: NodeConfig,
    directory: NodeDirectory,
    checker: Checker,
    workers: Executor,
    events: Events,
) -> Runtime:
    """Open log and engine, and put the groups of this node on top of them."""
    log = SegmentLog(directory.log)
    cut = log.torn_tail
    if cut is not None:
        events.tell(
            "log_cut",
            file=str(cut.file),
            offset=cut.offset,
            bytes_cut=cut.bytes_cut,
            copy=str(cut.copy),
        )
    try:
        engine = RocksEngine(directory.engine)
    except BaseException:
        log.close()
        raise
    try:
        found = log.groups()
        _check_not_wiped(config, found, engine)
        snapshots = {
            group: SstSnapshots(
                group,
                engine,
                directory.snapshots,
                checker=checker,
                workers=workers,
                tell=events.tell,
            )
            for group in config.groups
        }
        groups = {
            group: start_group(
                config.node,
                group,
                engine,
                found.get(group),
                members=Configuration(config.voters_of(group)),
                is_catalog=group == CATALOG_GROUP,
                bootstrap=_bootstrap(config, group),
                snapshots=snapshots[group],
                draw=_DRAW,
            )
            for group in config.groups
        }
        remove_leftovers(directory.snapshots)
        if not config.alone:
            checker.prepare()
        return Runtime(
            config.node,
            Host(groups),
            log,
            engine,
            snapshots=snapshots,
            log_cut_bytes=cut.bytes_cut if cut is not None else 0,
        )
    except BaseException:
        for close in (log.close, engine.close):
            with contextlib.suppress(WorkbenchError):  # the first failure is what is told
                close()
        raise


def _keepers(config: NodeConfig) -> tuple[Member, ...]:
    """Return the nodes with the groups that they keep, founded or joined."""
    return tuple(
        replace(member, groups=tuple(sorted({*member.groups, *member.joins})), joins=())
        for member in config.present
    )


def _bootstrap(config: NodeConfig, group: int) -> Bootstrap:
    """Return the first records of a group, from the configured routes."""
    spans = tuple(
        OwnedSpan(route.span, route.route_id) for route in config.routes if route.group == group
    )
    return Bootstrap(spans, config.routes if group == CATALOG_GROUP else ())


def _bind(server: grpc.aio.Server, address: str) -> None:
    """Take the port.

    Raises:
        AlreadyExists: `port_in_use`.
        Unavailable: `address_refused`, for all else that the system has against it.
    """
    try:
        _probe(address)
        server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        # gRPC's own error is a RuntimeError without a reason; the probe found none just before.
        if isinstance(error, OSError) and error.errno != errno.EADDRINUSE:
            raise Unavailable(
                f"cannot listen on {address}: {error.strerror or error}",
                code="address_refused",
                hint="configure another address",
                retryable=False,
            ) from error
        raise AlreadyExists(
            f"cannot listen on {address}: the port is in use",
            code="port_in_use",
            hint="stop the program that listens there, or configure another port",
        ) from error


def _probe(address: str) -> None:
    """Bind to every address that a name stands for, and let go again; OSError where one fails.

    gRPC is content with one of them, and so would share `localhost` with another program.
    """
    host, port = check_address(address, "listen")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    missing: OSError | None = None
    bound = 0
    for family, kind, protocol, _, where in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
                bound += 1
        except OSError as error:
            # A machine without IPv6 still has a name for it.
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                raise
            missing = error
    if missing is not None and not bound:
        raise missing


def _register(server: grpc.aio.Server, desk: Desk, links: PeerLinks) -> None:
    """Add all services."""
    observing = Observing(desk)
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for handlers in (
        Distribution(desk).handlers(),
        RawKv(desk).handlers(),
        Kv(desk).handlers(),
        Restoring(desk).handlers(),
        Admin(desk, links).handlers(),
        observing.handlers(),
    ):
        for method, handle in handlers.items():
            _, service, name = method.split("/")
            services.setdefault(service, {})[name] = unary(desk, method, handle)
    for streams in (Exporting(desk).stream_handlers(), observing.stream_handlers()):
        for method, handle_stream in streams.items():
            _, service, name = method.split("/")
            services.setdefault(service, {})[name] = stream(desk, method, handle_stream)
    _, service, name = STREAM.split("/")
    services[service] = {name: links.handler()}
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(service, methods)
            for service, methods in services.items()
        )
    )


def _check_not_wiped(config: NodeConfig, found: Collection[int], engine: Engine) -> None:
    """Refuse to start without what this node has promised: it would vote from amnesia.

    Raises:
        Conflict: `directory_wiped`, `founded_unsaid`.
    """
    known = {*found, *(g for g in config.groups if load_progress(g, engine).applied_index)}
    whole = known.issuperset(config.groups)
    if config.founded is None and not whole and not config.alone:
        raise Conflict(
            f"{config.dir} holds nothing of what node {config.node} may have promised the other "
            "nodes, and its configuration does not say whether it has",
            code="founded_unsaid",
            hint="write `founded = false` into it for the first start of a new cluster, "
            "`founded = true` where the node was part of one before",
        )
    if config.founded and not whole:
        raise Conflict(
            f"{config.dir} lacks what node {config.node} promised its cluster to keep, of which it "
            "has been part before",
            code="directory_wiped",
            hint="bring the directory back, or remove the node from the cluster and add another",
        )


def _say(what: object) -> None:
    """Write the last line; where even that finds no room, the exit status still tells."""
    try:
        sys.stderr.write(f"error: {what}\n")
        sys.stderr.flush()
    except OSError:
        # What is left in the buffer would make the interpreter end with a status of its own.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)
