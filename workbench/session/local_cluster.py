"""A cluster of bundled nodes on this machine: started, looked at and stopped by its directory.

    DIR/cluster.json        which nodes there are
    DIR/cluster.lock        held while somebody starts or stops nodes
    DIR/node-1/node.toml    its configuration        DIR/node-1/NODE.json, LOCK, log/, engine/
    DIR/node-1/node.log     what it wrote to stdout and stderr

Rules: group g is founded on `replicas` nodes in turn, from node ((g − 1) mod nodes) + 1. Whatever
`up` began it stops again where it fails; it never touches a node that ran before. Only the process
that holds a directory's lock is ever signalled. `up` on a directory that has a cluster starts what
is not running of it; there, a node that cannot start, be it for a damaged configuration, stops
nobody where every group has a majority without it: so it can be removed. `down` needs no
configuration at all.

Not here: what a node does, and nodes on other machines.
"""

from __future__ import annotations

import contextlib
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NoReturn, TypedDict, Unpack

from workbench.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    Unavailable,
    WorkbenchError,
)
from workbench.model.node import GroupStatus, Member, NodeStatus
from workbench.node.client import NodeClient
from workbench.node.config import (
    BUCKETS,
    VOTERS_MAX,
    WINDOW_MS,
    NodeConfig,
    check_config,
    write_config,
)
from workbench.node.directory import holder_of
from workbench.report.words import counted
from workbench.routing.rules import CATALOG_GROUP, SEED_GROUPS_MAX, even_seed_spans
from workbench.session.cluster_files import (
    CLUSTER_FILE,
    ClusterFiles,
    check_not_foreign,
    config_file,
    exclusive,
    look,
    make_folder,
    places,
    write_list,
)
from workbench.session.node_process import (
    HOST,
    POLL_SECONDS,
    NodeProcess,
    StoppedNode,
    check_port_free,
    choose_ports,
    last_line,
    stop,
    stop_started,
)
from workbench.session.progress import Progress, silent
from workbench.session.system import SystemRng

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from workbench.model.routes import RouteDescriptor

NODES: Final = 3
GROUPS: Final = 4
REPLICAS: Final = 3
NODES_MAX: Final = 64
START_SECONDS_MAX: Final = 30.0
STATUS_TIMEOUT_S: Final = 2.0


class ClusterOptions(TypedDict, total=False):
    """What a new cluster is made of; None is as good as left out.

    An existing one takes only what it was made with.

    Attributes:
        nodes: How many; default NODES.
        groups: How many; default GROUPS, or as many as `routes` name.
        replicas: Nodes that vote in each group; default REPLICAS, or 1 where there are fewer nodes:
            two voters would need each other, and bear no loss.
        routes: Of catalog version 1; default one even route per group.
        window_ms: Length of a load window; default one minute.
        buckets: Parts of a route in which load is counted; default 16.
        base_port: Node n listens on base_port + n − 1; default: ports that are free.
    """

    nodes: int | None
    groups: int | None
    replicas: int | None
    routes: Sequence[RouteDescriptor] | None
    window_ms: int | None
    buckets: int | None
    base_port: int | None


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node as it is found.

    Attributes:
        node: Its id.
        address: `HOST:PORT`.
        metrics_address: Likewise, of its metrics; None where it serves none.
        dir: Its directory.
        groups: Of which it keeps a replica.
        pid: Of the process that has its directory; None where there is none, or it has not
            said yet.
        status: What it answers; None where it does not.
        last_line: Of its log; None where it wrote none.
        joining: It is being added, and votes nowhere yet.
        problem: Why its configuration cannot be used; None where it can.
    """

    node: int
    address: str
    metrics_address: str | None
    dir: Path
    groups: tuple[int, ...]
    pid: int | None
    status: NodeStatus | None
    last_line: str | None
    joining: bool = False
    problem: str | None = None

    @property
    def up(self) -> bool:
        """Whether it answers, and knows who serves every group that it keeps."""
        return self.status is not None and all(
            _is_led(group, self.node) for group in self.status.groups
        )

    def group(self, group: int) -> GroupStatus | None:
        """Return what it says of one group, None where it says nothing."""
        known = () if self.status is None else self.status.groups
        return next((each for each in known if each.group == group), None)


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A local cluster as it is found; `catalog_version` is None where nobody knows it."""

    cluster_id: str
    dir: Path
    nodes: tuple[NodeState, ...]
    catalog_version: int | None

    @property
    def up(self) -> bool:
        """Whether all nodes are and could start again, and every group is served by one of them."""
        kept = {group for node in self.nodes for group in node.groups}
        sound = all(node.up and node.problem is None for node in self.nodes)
        return sound and kept <= set(self.served)

    @property
    def served(self) -> dict[int, int]:
        """By group, the node that serves it; groups that nobody serves are left out."""
        return {
            group.group: node.node
            for node in self.nodes
            if node.status is not None
            for group in node.status.groups
            if group.serving
        }

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of all nodes; any of them answers for the whole cluster."""
        return tuple(node.address for node in self.nodes)

    @property
    def url(self) -> str:
        """What other commands take as their source or target."""
        return "node://" + ",".join(self.addresses)


def up(
    directory: Path, *, progress: Progress = silent, **options: Unpack[ClusterOptions]
) -> ClusterStatus:
    """Start the cluster in a directory, a new one where there is none; return once it serves.

    Raises:
        AlreadyExists: `cluster_up`: all of it runs.
        Conflict: `cluster_differs`, `cluster_busy`, `directory_foreign`, `port_in_use`.
        Unavailable: `node_start_failed`, with the last line of the node's log.
        InvalidInput: the options are wrong, or a configuration was changed by hand.
    """
    started: list[NodeConfig] = []
    try:
        return _up(directory.resolve(), started, progress, options)
    except BaseException:
        stop(started)  # also where it came after the last node: nothing is left half up
        raise


def status(directory: Path) -> ClusterStatus:
    """Return how the nodes of a cluster are; nothing is changed.

    Raises:
        NotFound: `cluster_absent`.
    """
    directory = directory.resolve()
    files = look(directory)
    nodes = tuple(_state(config, files.problems.get(config.node)) for config in files.configs)
    versions = [node.status.catalog_version for node in nodes if node.status is not None]
    version = max(versions, default=0) or None
    return ClusterStatus(files.configs[0].cluster_id, directory, nodes, version)


def down(directory: Path) -> tuple[StoppedNode, ...]:
    """Stop all nodes of a cluster, and return those that were running; its data stay.

    Raises:
        NotFound: `cluster_absent`.
        Conflict: `cluster_busy`.
        Unavailable: `node_not_stopped`.
    """
    directory = directory.resolve()
    with exclusive(directory):
        return stop(places(directory))


@contextmanager
def running(
    directory: Path,
    *,
    keep: bool = False,
    progress: Progress = silent,
    **options: Unpack[ClusterOptions],
) -> Iterator[ClusterStatus]:
    """Run a cluster for the length of a `with` block; stop what it started unless `keep`.

    With `keep` too, nothing is left running where the cluster does not come up.
    """
    started: list[NodeConfig] = []
    found: ClusterStatus | None = None
    try:
        found = _up(directory.resolve(), started, progress, options)
        yield found
    finally:
        if found is None or not keep:
            stop(started)


def _up(
    directory: Path, started: list[NodeConfig], progress: Progress, options: ClusterOptions
) -> ClusterStatus:
    """Start what does not run, and put into `started` whose nodes that are, before they run."""
    with exclusive(directory, create=True):
        if (directory / CLUSTER_FILE).exists():
            files = look(directory)
            _check_same(directory, files.configs, options)
        else:
            files = ClusterFiles(_new(directory, options), {})
        # One that has no vote yet knows no leader either: whoever adds it starts it.
        voting = [config for config in files.configs if not _joins(config)]
        down_now = [config for config in voting if holder_of(config.dir) is None]
        if not down_now:
            raise AlreadyExists(
                f"the cluster in {directory} is up",
                code="cluster_up",
                hint=f"see `workbench cluster status --dir {directory}`",
            )
        begun = [config for config in down_now if config.node not in files.problems]
        for config in begun:
            check_port_free(config)
        for config in begun:
            if not config_file(config.dir).exists():
                make_folder(config.dir)
                write_config(config_file(config.dir), config)
        started += begun
        lost = {c: files.problems[c.node] for c in down_now if c.node in files.problems}
        missing = _start(voting, begun, lost, progress)
        for config in voting:
            if not config.founded and config.node not in {*missing, *files.problems}:
                write_config(config_file(config.dir), replace(config, founded=True))
    return status(directory)


def _state(config: NodeConfig, problem: WorkbenchError | None) -> NodeState:
    """Ask one node; one that another process serves on the same port is not it."""
    pid = holder_of(config.dir)
    answer: NodeStatus | None = None
    if pid is not None:
        with contextlib.suppress(WorkbenchError):
            answer = _ask(config)
    if answer is not None and answer.pid != pid:
        answer = None
    return NodeState(
        node=config.node,
        address=config.listen,
        metrics_address=config.metrics_listen,
        dir=config.dir,
        groups=config.groups,
        pid=pid or None,
        status=answer,
        last_line=last_line(config),
        joining=_joins(config),
        problem=None if problem is None else problem.message,
    )


def _ask(config: NodeConfig) -> NodeStatus | None:
    """Return a node's own status, None where another cluster's node answers."""
    with contextlib.closing(NodeClient([config.listen], timeout_s=STATUS_TIMEOUT_S)) as client:
        answer = client.status()
    mine = (answer.cluster_id, answer.node) == (config.cluster_id, config.node)
    return answer if mine else None


def _new(directory: Path, options: ClusterOptions) -> tuple[NodeConfig, ...]:
    """Write the configuration of a new cluster; its cluster.json comes last."""
    check_not_foreign(directory)
    nodes = _or_default(options.get("nodes"), NODES)
    if not 1 <= nodes <= NODES_MAX:
        raise InvalidArgument(
            f"{counted(nodes, 'node')} cannot be started",
            code="nodes_out_of_range",
            hint=f"choose 1 to {NODES_MAX} nodes",
        )
    named = [route.group for route in options.get("routes") or ()]
    groups = _or_default(options.get("groups"), max(named, default=GROUPS))
    if not 1 <= groups <= SEED_GROUPS_MAX:
        raise InvalidArgument(
            f"{counted(groups, 'group')} cannot be made",
            code="groups_out_of_range",
            hint=f"choose 1 to {SEED_GROUPS_MAX} groups, and routes on these",
        )
    routes = options.get("routes") or even_seed_spans(groups)
    replicas = _or_default(options.get("replicas"), REPLICAS if nodes >= REPLICAS else 1)
    if not 1 <= replicas <= min(nodes, VOTERS_MAX):
        raise InvalidArgument(
            f"{counted(replicas, 'replica')} of each group cannot be kept on "
            f"{counted(nodes, 'node')}",
            code="replicas_out_of_range",
            hint="choose "
            + ("1 replica" if nodes == 1 else f"1 to {min(nodes, VOTERS_MAX)} replicas")
            + ", or more nodes",
        )
    ports = choose_ports(nodes, options.get("base_port"))
    metrics = [port for port in choose_ports(2 * nodes, None) if port not in ports]
    members = tuple(
        Member(node, f"{HOST}:{ports[node - 1]}", _founded(node, nodes, groups, replicas))
        for node in range(1, nodes + 1)
    )
    cluster_id = str(SystemRng().uuid())
    configs = tuple(
        NodeConfig(
            cluster_id=cluster_id,
            node=member.node,
            dir=directory / f"node-{member.node}",
            listen=member.address,
            members=members,
            routes=_ascending(routes),
            window_ms=_or_default(options.get("window_ms"), WINDOW_MS),
            buckets=_or_default(options.get("buckets"), BUCKETS),
            metrics_listen=f"{HOST}:{metrics[member.node - 1]}",
        )
        for member in members
    )
    check_config(configs[0], "the new cluster")
    for config in configs:
        check_port_free(config, option="--base-port")
    for config in configs:
        make_folder(config.dir)
        write_config(config_file(config.dir), config)
    write_list(directory, configs)
    return configs


def _founded(node: int, nodes: int, groups: int, replicas: int) -> tuple[int, ...]:
    """Return the groups of which a node is one of the founders, ascending."""
    return tuple(g for g in range(1, groups + 1) if (node - g) % nodes < replicas)


def _check_same(directory: Path, configs: Sequence[NodeConfig], options: ClusterOptions) -> None:
    """Refuse options that an existing cluster does not have."""
    first = configs[0]
    has: dict[str, object] = {
        "nodes": len(configs),
        "groups": len({group for member in first.members for group in member.groups}),
        "replicas": len(first.voters_of(CATALOG_GROUP)),
        "routes": first.routes,
        "window_ms": first.window_ms,
        "buckets": first.buckets,
        "base_port": int(first.listen.rpartition(":")[2]),
    }
    asked: dict[str, object] = {**options}
    if routes := options.get("routes"):
        asked["routes"] = _ascending(routes)
    for name, value in has.items():
        wanted = asked.get(name)
        if wanted is not None and wanted != value:
            shown = "other routes" if name == "routes" else f"{name} = {value}, not {wanted}"
            change = "add or remove nodes while it runs" if name == "nodes" else ""
            raise Conflict(
                f"the cluster in {directory} has {shown}",
                code="cluster_differs",
                hint="leave the option out to start it as it is, "
                + (f"{change}, " if change else "")
                + "or choose another directory for a new one",
            )


def _start(
    configs: Sequence[NodeConfig],
    missing: Sequence[NodeConfig],
    lost: Mapping[NodeConfig, WorkbenchError],
    progress: Progress,
) -> frozenset[int]:
    """Start the missing nodes, and wait until all serve; stop them again where one does not.

    Those that are lost cannot be started, for a reason. Return these, and those that ended, where
    every group can do without.
    """
    starting = _Starting(configs, time.monotonic() + START_SECONDS_MAX)
    for config, problem in lost.items():
        starting.ended.add(config.node)
        if not starting.bear():
            _start_failed(config, problem.message)
    try:
        for config in missing:
            starting.started[config.node] = NodeProcess.start(config)
        for done, config in enumerate(configs):
            progress("starting nodes", done, len(configs))
            starting.await_led(config)
        progress("starting nodes", len(configs), len(configs))
        for config in configs:
            starting.await_catalog(config)
    except BaseException:
        stop_started(list(starting.started.values()))
        raise
    return frozenset(starting.ended)


def _is_led(group: GroupStatus, node: int) -> bool:
    return group.serving or group.leader_node not in {0, node}


@dataclass(slots=True)
class _Starting:
    """Nodes that are coming up.

    Attributes:
        configs: Of all nodes.
        deadline: Until when, by the monotonic clock.
        started: Processes of ours, by node.
        ended: Those that ended or could not be started, and that every group can do without.
    """

    configs: Sequence[NodeConfig]
    deadline: float
    started: dict[int, NodeProcess] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)

    def await_led(self, config: NodeConfig) -> None:
        """Return once every group of the node is served, by it or by a node that it knows."""
        while config.node not in self.ended:
            answer: NodeStatus | None = None
            with contextlib.suppress(Unavailable):
                answer = _ask(config)
            if answer is not None and all(_is_led(group, config.node) for group in answer.groups):
                return
            self._pause_or_fail(config, "had groups that nobody served")

    def await_catalog(self, config: NodeConfig) -> None:
        """Return once the node answers with the routes: it can be asked for any key then."""
        while config.node not in self.ended:
            try:
                with contextlib.closing(
                    NodeClient([config.listen], timeout_s=STATUS_TIMEOUT_S)
                ) as client:
                    client.list_routes()
            except Unavailable as error:
                what = f"did not answer with the routes ({error.message})"
                self._pause_or_fail(config, what)
            else:
                return

    def _pause_or_fail(self, config: NodeConfig, what: str) -> None:
        """Wait a moment; raise where a process that is needed has ended, or the time is up."""
        for node, process in self.started.items():
            if node not in self.ended and process.has_ended():
                self.ended.add(node)
                if not self.bear():
                    _start_failed(process.config, process.last_line())
        if time.monotonic() > self.deadline:
            own = self.started.get(config.node)
            last = f"; the last line of its log: {own.last_line()}" if own else ""
            _start_failed(config, f"it {what} within {START_SECONDS_MAX:g} s{last}")
        time.sleep(POLL_SECONDS)

    def bear(self) -> bool:
        """Tell whether every group of a cluster that has served has a majority left."""
        if not any(config.founded for config in self.configs):
            return False
        for group in {group for config in self.configs for group in config.groups}:
            keep = {config.node for config in self.configs if group in config.groups}
            if 2 * len(keep - self.ended) <= len(keep):
                return False
        return True


def _start_failed(config: NodeConfig, why: str) -> NoReturn:
    raise Unavailable(
        f"node {config.node} did not start: {why}",
        code="node_start_failed",
        hint=f"see {config.dir / 'node.log'}",
        retryable=False,
    )


def _joins(config: NodeConfig) -> bool:
    return bool(config.joins) and not config.founded


def _or_default(value: int | None, default: int) -> int:
    return default if value is None else value


def _ascending(routes: Sequence[RouteDescriptor]) -> tuple[RouteDescriptor, ...]:
    return tuple(sorted(routes, key=lambda route: route.span.start))
