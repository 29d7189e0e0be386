"""`workbench cluster`: bundled nodes on this machine, started, shown, loaded and stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from workbench.cli.collect import reading, reading_options
from workbench.cli.common import (
    Duration,
    Positive,
    emit,
    json_option,
    print_table,
    progress_bar,
    warn,
)
from workbench.errors import AlreadyExists
from workbench.model.recovery import DAMAGED_NODE_HINT
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workbench.model.routes import RouteDescriptor
    from workbench.session.loading import Loaded
    from workbench.session.local_cluster import ClusterStatus, NodeState
    from workbench.session.node_process import StoppedNode

F = TypeVar("F", bound="Callable[..., Any]")

EXIT_FAILURE: Final = 1
# What a node says last that starts with none of what it had promised (`directory_wiped`).
WIPED_NODE_HINT: Final = "remove the node from the cluster and add another"
DEFAULT_DIRECTORY: Final = "./.workbench/cluster"
COLUMNS: Final = (
    ("node", "right"),
    ("address", "left"),
    ("state", "left"),
    ("pid", "right"),
    ("group", "right"),
    ("role", "left"),
    ("term", "right"),
    ("commit", "right"),
    ("applied", "right"),
    ("metrics", "left"),
)


def directory_option(command: F) -> F:
    """Add `--dir`."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        default=DEFAULT_DIRECTORY,
        show_default=True,
        help="Where the cluster keeps its files.",
    )(command)


@click.group()
def cluster() -> None:
    """Run a cluster of bundled nodes on this machine.

    Real processes with their state on disk, on loopback. Each group is kept by three nodes, where
    there are so many: one of them may be down, and nothing waits for it. See docs/nodes.md.

    \b
    Examples:
      workbench cluster up --nodes 3 --groups 4
      workbench cluster load --seconds 120
      workbench cluster status
      workbench cluster down
    """


@cluster.command("up")
@directory_option
@click.option("--nodes", type=int, metavar="N", help="How many nodes; 3 for a new cluster.")
@click.option(
    "--groups",
    type=int,
    metavar="N",
    help="How many groups; 4 for a new cluster, or as many as --routes has.",
)
@click.option(
    "--replicas",
    type=int,
    metavar="N",
    help="Nodes that keep each group; 3 for a new cluster, or 1 where there are fewer nodes.",
)
@click.option(
    "--routes",
    metavar="FILE",
    help="Start with the routes in this file (docs/formats/routes.md); default: one per group.",
)
@click.option(
    "--window",
    "window_ms",
    type=Duration(),
    metavar="DURATION",
    help="Length of a load window; 60s for a new cluster.",
)
@click.option(
    "--buckets",
    type=int,
    metavar="N",
    help="Parts of a route in which load is counted; 16 for a new cluster.",
)
@click.option(
    "--base-port",
    type=int,
    metavar="PORT",
    help="Node n listens on PORT + n - 1; default: ports that are free.",
)
@json_option
def up_(directory: Path, routes: str | None, as_json: bool, **options: int | None) -> int:
    """Start a cluster and return when every group serves; one that exists is started again.

    Group g is kept by --replicas nodes in turn, from node ((g - 1) mod nodes) + 1. An existing
    cluster keeps its data, groups and ports; options that contradict it are refused. One that is
    up already is shown as `cluster status` does. Where a node of an existing cluster cannot start,
    be it for a damaged node.toml, and every group has a majority without it, the others serve, and
    the exit status is 1.

    \b
    Examples:
      workbench cluster up
      workbench cluster up --nodes 1 --groups 4 --window 5s --dir ./small
      workbench cluster up --routes routes.json --base-port 7101 --json
    """
    from workbench.session.local_cluster import status, up

    already = False
    with progress_bar() as progress:
        try:
            found = up(
                directory,
                progress=progress,
                routes=None if routes is None else _routes(routes),
                nodes=options["nodes"],
                groups=options["groups"],
                replicas=options["replicas"],
                window_ms=options["window_ms"],
                buckets=options["buckets"],
                base_port=options["base_port"],
            )
        except AlreadyExists as error:
            if error.code != "cluster_up":
                raise
            already, found = True, status(directory)
    if as_json:
        emit("cluster", _fields(found))
        return 0 if found.up else EXIT_FAILURE
    _print(found)
    if not found.up:
        _print_why(found)
        return EXIT_FAILURE
    if already:
        click.echo("nothing to do: already up")
    click.echo(f"next: workbench collect {found.url}")
    return 0


@cluster.command("status")
@directory_option
@json_option
def status_(directory: Path, as_json: bool) -> int:
    """Show the nodes and what each says of its groups; exit with 1 where a node is not up.

    Of a node that is not up, why, as far as its process and the last line of its node.log tell, and
    what to do next; of one whose node.toml is damaged, what is wrong with it, and the status is 1.
    Under metrics it serves /metrics, /healthz and /readyz. In JSON, what a node that does not
    answer would say is null.

    \b
    Examples:
      workbench cluster status
      workbench cluster status --dir ./small --json
    """
    from workbench.session.local_cluster import status

    found = status(directory)
    if as_json:
        emit("cluster", _fields(found))
    else:
        _print(found)
        _print_why(found)
    return 0 if found.up else EXIT_FAILURE


@cluster.command("down")
@directory_option
@json_option
def down_(directory: Path, as_json: bool) -> int:
    """Stop the nodes of a cluster; their data stay, and `cluster up` starts them again.

    \b
    Examples:
      workbench cluster down
      workbench cluster down --dir ./small --json
    """
    from workbench.session.local_cluster import down, status

    with progress_bar() as progress:
        progress("stopping nodes", 0, None)
        stopped = down(directory)
    if as_json:
        emit("cluster", {**_fields(status(directory)), "stopped": _stopped(stopped)})
        return 0
    for node in stopped:
        how = "killed: it did not stop within 10 s" if node.killed else "stopped"
        click.echo(f"node {node.node} (process {node.pid}) {how}")
    if not stopped:
        click.echo("nothing to do: no node is running")
    return 0


@cluster.command("load")
@click.argument("url", required=False)
@directory_option
@click.option(
    "--trace",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Whose accesses to make; default: generated ones with a hot range.",
)
@click.option(
    "--seconds",
    type=Positive(),
    default=60.0,
    show_default=True,
    help="How long the recorded time shall take.",
)
@reading_options
@json_option
def load_(
    url: str | None,
    directory: Path,
    trace: Path | None,
    seconds: float,
    as_json: bool,
    **given: Any,
) -> int:
    """Put load on the cluster in DIR, or on that at URL: make the accesses of a trace.

    Every write is new and is made once. At the end, and after Ctrl-C, all acknowledged writes are
    read again, as of their own time and as of now; exit with 1 where one is lost.

    \b
    Examples:
      workbench cluster load --seconds 120 &
      workbench cluster load node://127.0.0.1:7001 --trace accesses.csv --columns key=path
      workbench cluster load --seconds 10 --json
    """
    from workbench.session.loading import LoadOptions, put_load
    from workbench.session.local_cluster import status

    where = status(directory).url if url is None else url
    with progress_bar() as progress:
        done = put_load(LoadOptions(where, trace, reading(given), seconds), progress)
    for warning in done.warnings:
        warn(warning)
    if as_json:
        emit("cluster_load", {"url": where, **_load_fields(done)})
    else:
        _print_load(done)
    if done.ended is not None:
        raise done.ended
    return EXIT_FAILURE if done.checked is not None and done.checked.lost else 0


def _print_load(done: Loaded) -> None:
    played, checked = done.played, done.checked
    made = f"made in {played.seconds:.0f} s"
    if done.ended is not None:
        made = f"of which {counted(played.accesses, 'access was', 'accesses were')} {made}"
    click.echo(f"trace     {done.trace}, {made}")
    click.echo(
        f"cluster   {counted(played.writes, 'write')} acknowledged, "
        f"{counted(played.reads, 'read')} answered, {counted(played.retries, 'request')} made again"
    )
    click.echo(f"stale     {stale_text(played.stale_reads)}")
    if checked is None:
        click.echo("lost      not known: the writes could not be read again")
        return
    click.echo(
        f"lost      {checked.lost} of {counted(checked.writes, 'acknowledged write')}, "
        "all read again"
    )
    for example in checked.examples:
        click.echo(f"          {example}")


def stale_text(reads: int) -> str:
    """Return how many reads did not see a write that was acknowledged before them."""
    many = "reads were older than a write before them"
    return counted(reads, "read was older than a write before it", many)


def _load_fields(done: Loaded) -> dict[str, Any]:
    played, checked = done.played, done.checked
    return {
        "trace": done.trace,
        "seconds": round(played.seconds, 3),
        "accesses": played.accesses,
        "writes": played.writes,
        "reads": played.reads,
        "retries": played.retries,
        "stale_reads": played.stale_reads,
        "lost_writes": None if checked is None else checked.lost,
        "examples": [] if checked is None else list(checked.examples),
        "interrupted": done.interrupted,
        "warnings": list(done.warnings),
    }


def _print_why(found: ClusterStatus) -> None:
    """Print what is wrong with each node that is not up, and what to do."""
    for line in why_texts(found):
        click.echo(line)


def why_texts(found: ClusterStatus) -> list[str]:
    """Return what is wrong with each node that is not up, what is damaged, and what to do."""
    lines = [f"node {node.node}: {_why(node)}" for node in found.nodes if not node.up]
    damaged = [node for node in found.nodes if node.problem is not None]
    lines += [f"node {node.node}, which runs: {node.problem}" for node in damaged if node.up]
    return lines + [f"next: {what}" for what in _next(found, damaged)]


def _next(found: ClusterStatus, damaged: Sequence[NodeState]) -> list[str]:
    """Return what helps the nodes that are not up, in the order in which to do it."""
    place = f"--dir {found.dir}"
    steps = [
        f"restore {node.dir / 'node.toml'}, or workbench cluster remove-node {node.node} {place}"
        for node in damaged
    ]
    away = [node for node in found.nodes if not node.up and node.problem is None]
    if away and all(node.joining for node in away):
        return [*steps, f"workbench cluster add-node {place}"]
    lost = [node for node in away if _is_lost(node)]
    for node in lost:
        others = {group for each in found.nodes if each is not node for group in each.groups}
        if others.issuperset(node.groups):
            steps.append(
                f"workbench cluster remove-node {node.node} {place}, "
                f"then workbench cluster add-node {place}"
            )
        else:
            steps.append(f"bring {node.dir} back, or make a new cluster and restore an export")
    rest = [node for node in away if node not in lost]
    hung = [str(node.pid) for node in rest if node.pid is not None and node.status is None]
    if hung:
        steps.append(
            f"where that goes on, kill -9 {' '.join(hung)}, then workbench cluster up {place}"
        )
    elif any(node.pid is None for node in rest) and not damaged:
        steps.append(f"workbench cluster up {place}")
    elif rest and not damaged:
        steps.append(f"workbench cluster status {place}, in a moment")
    return steps


def _why(node: NodeState) -> str:
    """Return why a node is not up, as far as that shows from here."""
    if node.problem is not None:
        return node.problem
    if node.joining:
        return "it is being added, and has no vote yet"
    if node.status is not None:
        idle = [
            str(group.group)
            for group in node.status.groups
            if not group.serving and group.leader_node in {0, node.node}
        ]
        return f"it knows of no leader of group {', '.join(idle)}"
    if node.pid is not None:
        return f"process {node.pid} holds its directory and does not answer: it starts, or hangs"
    return "nothing in its node.log" if node.last_line is None else _end_text(node.last_line)


def _end_text(line: str) -> str:
    """Return how a process ended that wrote `line` last."""
    event, at = _event(line)
    if event is None:
        return line
    if event == "stopped":
        return f"it was stopped at {at}"
    return f"its process ended without a word (killed?); its last event: {event} at {at}"


def _event(line: str) -> tuple[str | None, str]:
    """Return the name and the time of an event of node.log; None where the line is none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None, ""
    if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
        return None, ""
    return fields["event"], str(fields.get("time"))


def _is_lost(node: NodeState) -> bool:
    """Tell whether a node ended because its files are gone or damaged: no start helps it."""
    said = node.last_line or ""
    return node.pid is None and any(hint in said for hint in (DAMAGED_NODE_HINT, WIPED_NODE_HINT))


def state_text(node: NodeState) -> str:
    """Return how a node is, in a word or two."""
    return "up" if node.up else "down" if node.pid is None else "not serving"


def _routes(text: str) -> tuple[RouteDescriptor, ...]:
    """Return the routes in a file; `file:FILE` means the same as FILE."""
    from workbench.session.wiring import open_routes

    source = open_routes(text if text.startswith("file:") else f"file:{text}")
    try:
        return source.snapshot().routes
    finally:
        source.close()


def _print(found: ClusterStatus) -> None:
    """Print a row per node and group, then what holds for all."""
    rows = [row for node in found.nodes for row in _rows(node)]
    print_table(f"Cluster {found.cluster_id} in {found.dir}", COLUMNS, rows)
    version = "not known" if found.catalog_version is None else str(found.catalog_version)
    click.echo(f"catalog version: {version}")
    click.echo(f"url: {found.url}")


def _rows(node: NodeState) -> list[list[str]]:
    pid = "" if node.pid is None else str(node.pid)
    head = [str(node.node), node.address, state_text(node), pid]
    metrics = "" if node.metrics_address is None else node.metrics_address
    rows = []
    for group in node.groups:
        known = node.group(group)
        tail = ["", "", "", ""]
        if known is not None:
            counts = (known.term, known.commit_index, known.applied_index)
            tail = [known.role, *(f"{count:,}" for count in counts)]
        rows.append([*head, str(group), *tail, metrics])
    return rows or [[*head, "", "", "", "", "", metrics]]


def _fields(found: ClusterStatus) -> dict[str, Any]:
    return {
        "cluster_id": found.cluster_id,
        "dir": str(found.dir),
        "url": found.url,
        "nodes": [_node_fields(node) for node in found.nodes],
        "catalog_version": found.catalog_version,
    }


def _node_fields(node: NodeState) -> dict[str, Any]:
    return {
        "id": node.node,
        "address": node.address,
        "metrics_address": node.metrics_address,
        "pid": node.pid,
        "dir": str(node.dir),
        "up": node.up,
        "last_line": None if node.up else node.last_line,
        "problem": node.problem,
        "groups": [_group_fields(node, group) for group in node.groups],
    }


def _group_fields(node: NodeState, group: int) -> dict[str, Any]:
    known = node.group(group)
    return {
        "id": group,
        "role": None if known is None else known.role,
        "term": None if known is None else known.term,
        "commit_index": None if known is None else known.commit_index,
        "applied_index": None if known is None else known.applied_index,
        "serving": known is not None and known.serving,
    }


def _stopped(nodes: tuple[StoppedNode, ...]) -> list[dict[str, Any]]:
    return [{"id": node.node, "pid": node.pid, "killed": node.killed} for node in nodes]
