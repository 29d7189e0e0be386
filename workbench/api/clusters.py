"""Clusters: a system that is reached by a URL, and bundled nodes on this machine.

    connect("node://…", "pd+http://…", …) ──▶ Cluster ── capabilities, routes, load
    cluster_up(folder) ──▶ LocalCluster, a Cluster ── status, down; stops at the end of `with`
                               └── clients(trace) ──▶ Clients: load on it, every write read again

What a system cannot do is never offered: `capabilities` says what its connector can. Nothing here
changes routes; splits are made by a plan that was approved.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from workbench.api.places import Length, length_ms, url_of
from workbench.api.results import Result
from workbench.api.show import counted, printable
from workbench.api.words import in_python, methods_in_python
from workbench.cli.cluster import state_text, why_texts
from workbench.errors import AlreadyExists, InvalidArgument, NotFound, WorkbenchError
from workbench.model.tables import routes_to_table
from workbench.node.kv_client import Kv
from workbench.ports.connector import LoadSource
from workbench.session import local_cluster
from workbench.session.collect import read_trace_file
from workbench.session.collect_live import cluster_of_url
from workbench.session.demo import generated_accesses
from workbench.session.wiring import connectors as installed
from workbench.session.wiring import open_routes
from workbench.session.workload import Workload
from workbench.traces.readers import TraceOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from workbench.model.routes import RouteDescriptor
    from workbench.ports.connector import Capabilities
    from workbench.session.local_cluster import ClusterStatus, NodeState
    from workbench.session.workload import Played

DEFAULT_DIRECTORY: Final = "./.workbench/cluster"
NODE_SCHEME: Final = "node://"


@methods_in_python
class Cluster:
    """A system that was connected to; a context manager that lets go of it at the end.

    Attributes:
        url: What names it; `wb.collect`, `plan.apply` and the like take it, or this object.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._source = open_routes(url)
        self._kv: Kv | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the system can do; advice that it cannot follow is never given."""
        return self._source.capabilities()

    def routes(self) -> Result:
        """Return the routes as they are now.

        Raises:
            Unavailable: It does not answer.
        """
        snapshot = self._source.snapshot()
        order = ["route_id", "start", "end", "group", "state", "parent_route_id"]
        table = routes_to_table(snapshot)
        rest = [each for each in table.column_names if each not in order]
        return Result(
            table.select(order + rest),
            f"{counted(table.num_rows, 'route')} at catalog version {snapshot.catalog_version}",
            shown=tuple(order),
        )

    def load(self, since: datetime | None = None) -> Result:
        """Return the closed load windows that the system still keeps; `wb.collect` stores them.

        Args:
            since: Only windows that start then or later; aware.

        Raises:
            InvalidArgument: `load_unsupported`: it tells no load by windows.
            Unavailable: A part of it does not answer; nothing is returned.
        """
        if not isinstance(self._source, LoadSource):
            raise InvalidArgument(
                f"{self.url} tells no load by windows",
                code="load_unsupported",
                hint="wb.collect turns the totals of such a system into windows",
            )
        answer = self._source.load(cluster_of_url(self.url), since)
        return Result(
            answer.windows,
            f"load in windows of {answer.window_ms / 1_000:g} s",
            notes=tuple(f"{name}: {note}" for name, note in answer.notes.items()),
        )

    def clients(
        self, trace: str | os.PathLike[str] | None = None, *, seconds: float = 60.0
    ) -> Clients:
        """Return clients that make a trace's accesses against it, while a `with` block runs.

        Only for bundled nodes. Leaving the block waits until they are done; by an error, it
        stops them.

        Args:
            trace: Whose accesses; None generates some with a hot range.
            seconds: How long the recorded time shall take.

        Raises:
            InvalidArgument: `load_not_for_source`.
            InvalidInput: The trace holds keys that no route or user may have.
        """
        kv = self._opened()
        return Clients(kv, self._source.snapshot().routes, trace, seconds=seconds)

    def close(self) -> None:
        """Let go of connections; the system itself goes on."""
        self._source.close()
        if self._kv is not None:
            self._kv.close()
            self._kv = None

    def _opened(self) -> Kv:
        if not self.url.startswith(NODE_SCHEME):
            raise InvalidArgument(
                f"no load can be put on {self.url!r}",
                code="load_not_for_source",
                hint=f"name a bundled cluster, as {NODE_SCHEME}127.0.0.1:7001",
            )
        if self._kv is None:
            self._kv = Kv(self.url.removeprefix(NODE_SCHEME).removesuffix("/").split(","))
        return self._kv

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of it."""
        self.close()

    def __repr__(self) -> str:
        """Return what names it."""
        return f"{type(self).__name__}({self.url!r})"


@methods_in_python
class LocalCluster(Cluster):
    """Bundled nodes on this machine, which serve; made by `wb.cluster_up`.

    As the last line of a cell it shows its nodes, what each says of its groups, and who leads
    them, asked anew each time. Left by the end of `with`, it is stopped if it was started here.

    Examples:
        >>> with wb.cluster_up("./tried", nodes=1, groups=2, window="1s") as cluster:
        ...     found = cluster.status()
        ...     len(cluster.routes())
        2
        >>> [(row["group"], row["state"], row["role"]) for row in found]
        [(1, 'up', 'leader'), (2, 'up', 'leader')]
        >>> cluster.status()[0]["state"]
        'down'

    Attributes:
        directory: Where it keeps its files.
        started: Whether this object started all of its nodes; then `with` stops them.
    """

    def __init__(self, found: ClusterStatus, *, started: bool) -> None:
        super().__init__(found.url)
        self.directory = found.dir
        self.started = started

    def status(self) -> Result:
        """Return how the nodes are: a row per node and group, as `cluster status` shows them.

        `state` is up, down or not serving: a node is up when it answers and knows who leads each
        of its groups. A group is served by the node whose row says `serving`. Null is what nobody
        says. The notes tell which groups nobody leads, and why a node is not up.

        Raises:
            NotFound: `cluster_absent`: its files are gone.
        """
        found = local_cluster.status(self.directory)
        rows = [row for node in found.nodes for row in _node_rows(node)]
        state = "up" if found.up else "not up"
        version = found.catalog_version
        return Result(
            pa.Table.from_pylist(rows, schema=_STATUS),
            f"cluster {found.cluster_id} in {found.dir}: {state}",
            notes=(
                _led_text(found),
                f"catalog version: {'not known' if version is None else version}",
                f"url: {found.url}",
                *why_texts(found),
            ),
            shown=_STATUS_SHOWN,
        )

    def down(self) -> int:
        """Stop the nodes and return how many ran; their data stay.

        Raises:
            Unavailable: `node_not_stopped`.
        """
        self.close()
        return len(local_cluster.down(self.directory))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop what was started here; let go of what was not."""
        if self.started:
            self.down()
        else:
            self.close()

    def __repr__(self) -> str:
        """Return its status as text; where that cannot be read, what names it, and why."""
        try:
            return repr(self.status())
        except WorkbenchError as error:
            return f"{super().__repr__()}: {printable(str(error))}"

    def _repr_html_(self) -> str:
        try:
            return self.status()._repr_html_()
        except WorkbenchError:
            return f"<p>{escape(repr(self))}</p>"


@methods_in_python
class Clients:
    """Clients that write and read in the background; made by `Cluster.clients`.

    Every write is new, and is made once. `check` reads all acknowledged ones again, as of their
    own time and as of now: what does not come back is lost.
    """

    def __init__(
        self,
        kv: Kv,
        routes: Sequence[RouteDescriptor],
        trace: str | os.PathLike[str] | None,
        *,
        seconds: float,
    ) -> None:
        self._work = Workload(
            generated_accesses()
            if trace is None
            else read_trace_file(Path(trace), TraceOptions()).accesses,
            routes,
            kv,
            seconds=seconds,
        )
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="clients")
        self._playing: Future[Played] | None = None

    def made(self) -> Result:
        """Return what was done so far."""
        row = asdict(self._work.played())
        return Result(pa.Table.from_pylist([row]), "made by the clients")

    def wait(self) -> None:
        """Wait until all accesses are made.

        Raises:
            Unavailable: A batch found no answer for too long; the rest is left out.
        """
        if self._playing is not None:
            self._playing.result()

    def check(self) -> Result:
        """Read every acknowledged write again; `lost` is how many did not come back.

        These reads are load too, and show in the windows after them.
        """
        found = self._work.check()
        return Result(
            pa.Table.from_pylist([{"writes": found.writes, "lost": found.lost}]),
            "acknowledged writes, all read again",
            warnings=found.examples,
        )

    def __enter__(self) -> Self:
        """Start them."""
        self._playing = self._pool.submit(self._work.play)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for them; after an error, stop them first."""
        try:
            if error is not None:
                self._work.stop()
            else:
                self.wait()
        except BaseException:
            self._work.stop()
            raise
        finally:
            self._pool.shutdown()


@in_python
def connect(url: str) -> Cluster:
    """Connect to a running system by its URL; which schemes there are, `wb.connectors()` tells.

    Reads only: splits are made by `plan.apply`, which opens a connection of its own.

    Examples:
        >>> with wb.connect("file:routes.json") as cluster:
        ...     len(cluster.routes())
        2

    Args:
        url: As "node://127.0.0.1:7001" or "file:ROUTES.json".

    Raises:
        InvalidArgument: `source_unknown`, `connector_unknown`, or the connector cannot read it.
        WorkbenchError: `connector_broken`: its package cannot be loaded.
    """
    return Cluster(url_of(url))


@in_python
def connectors() -> Result:
    """Return the systems that can be reached, with the problem where a connector is broken."""
    rows = [asdict(each) for each in installed()]
    names = ("scheme", "module", "problem")
    schema = pa.schema([pa.field(name, pa.string()) for name in names])
    return Result(pa.Table.from_pylist(rows, schema=schema), counted(len(rows), "connector"))


@in_python
def cluster_up(  # noqa: PLR0913 - as the command's options, all named
    directory: str | os.PathLike[str] = DEFAULT_DIRECTORY,
    *,
    nodes: int | None = None,
    groups: int | None = None,
    replicas: int | None = None,
    routes: str | os.PathLike[str] | None = None,
    window: Length | None = None,
    buckets: int | None = None,
    base_port: int | None = None,
) -> LocalCluster:
    """Start a cluster of bundled nodes on this machine; returns when every group serves.

    Real processes with their state on disk, on loopback: to try everything without another
    system. They outlive this process, unless they were started by a `with` statement:

        with wb.cluster_up("./try", nodes=1, window="1s") as cluster:
            ...

    One that exists is started again with what it was made with; one that is up is connected to,
    and goes on after the `with`.

    Args:
        directory: Where it keeps its files.
        nodes: How many; 3 for a new cluster.
        groups: How many; 4 for a new cluster, or as many as `routes` has.
        replicas: Nodes that keep each group; 3 for a new cluster, or 1 where there are fewer.
        routes: A file with the routes to start with; None makes one per group.
        window: Length of a load window; 60 s for a new cluster. A window has to close before
            `wb.collect` finds it.
        buckets: Parts of a route in which load is counted; 16 for a new cluster.
        base_port: Node n listens on base_port + n - 1; None takes ports that are free.

    Raises:
        Conflict: `cluster_differs`, `port_in_use`, `directory_foreign`.
        Unavailable: `node_start_failed`, with the last line of the node's log.
    """
    place = Path(directory)
    ran = _running(place)
    try:
        found = local_cluster.up(
            place,
            nodes=nodes,
            groups=groups,
            replicas=replicas,
            routes=None if routes is None else _routes(routes),
            window_ms=None if window is None else length_ms(window),
            buckets=buckets,
            base_port=base_port,
        )
    except AlreadyExists as error:
        if error.code != "cluster_up":
            raise
        found = local_cluster.status(place)
    return LocalCluster(found, started=not ran)


@in_python
def cluster_down(directory: str | os.PathLike[str] = DEFAULT_DIRECTORY) -> int:
    """Stop the nodes of a cluster on this machine and return how many ran; their data stay.

    Raises:
        NotFound: `cluster_absent`.
        Unavailable: `node_not_stopped`.
    """
    return len(local_cluster.down(Path(directory)))


def _running(place: Path) -> bool:
    """Return whether any node of the cluster has a process."""
    try:
        return any(node.pid is not None for node in local_cluster.status(place).nodes)
    except NotFound:
        return False


def _routes(path: str | os.PathLike[str]) -> Sequence[RouteDescriptor]:
    text = os.fspath(path)
    source = open_routes(text if text.startswith("file:") else f"file:{text}")
    try:
        return source.snapshot().routes
    finally:
        source.close()


def _led_text(found: ClusterStatus) -> str:
    """Return by node which groups it serves, and which ones nobody does."""
    kept = {group for node in found.nodes for group in node.groups}
    led: dict[int, list[int]] = {}
    for group, node in sorted(found.served.items()):
        led.setdefault(node, []).append(group)
    said = [f"node {node} leads {_groups_text(groups)}" for node, groups in sorted(led.items())]
    if idle := sorted(kept - set(found.served)):
        said.append(f"nobody leads {_groups_text(idle)}")
    return "; ".join(said)


def _groups_text(groups: Sequence[int]) -> str:
    return f"group{'' if len(groups) == 1 else 's'} {', '.join(map(str, groups))}"


def _node_rows(node: NodeState) -> list[dict[str, Any]]:
    head = {
        "node": node.node,
        "address": node.address,
        "state": state_text(node),
        "up": node.up,
        "pid": node.pid,
        "last_line": None if node.up else node.last_line,
    }
    rows = []
    for group in node.groups:
        known = node.group(group)
        fields = ("role", "term", "commit_index", "applied_index", "serving")
        told = {name: None if known is None else getattr(known, name) for name in fields}
        rows.append({**head, "group": group, **told})
    return rows or [head]


_STATUS: Final = pa.schema(
    [
        pa.field("node", pa.int64()),
        pa.field("address", pa.string()),
        pa.field("state", pa.string()),
        pa.field("up", pa.bool_()),
        pa.field("pid", pa.int64()),
        pa.field("group", pa.uint64()),
        pa.field("role", pa.string()),
        pa.field("term", pa.int64()),
        pa.field("commit_index", pa.int64()),
        pa.field("applied_index", pa.int64()),
        pa.field("serving", pa.bool_()),
        pa.field("last_line", pa.string()),
    ]
)
# What `cluster status` shows.
_STATUS_SHOWN: Final = (
    "node",
    "address",
    "state",
    "pid",
    "group",
    "role",
    "term",
    "commit_index",
    "applied_index",
)
