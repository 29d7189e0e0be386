"""`workbench cluster`: bundled nodes on this machine, started, shown and stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from workbench.cli.common import Duration, emit, json_option, print_table, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.model.routes import RouteDescriptor
    from workbench.session.local_cluster import ClusterStatus, NodeState
    from workbench.session.node_process import StoppedNode

F = TypeVar("F", bound="Callable[..., Any]")

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

    Real processes with their state on disk, on loopback. Each group has one voter: a node that
    is down takes its groups with it until it is up again. See docs/nodes.md.

    \b
    Examples:
      workbench cluster up --nodes 3 --groups 4
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

    A new cluster gets its groups in turn: group g on node ((g - 1) mod nodes) + 1. An existing
    one keeps its data, groups and ports; options that contradict it are refused.

    \b
    Examples:
      workbench cluster up
      workbench cluster up --nodes 1 --groups 4 --window 5s --dir ./small
      workbench cluster up --routes routes.json --base-port 7101 --json
    """
    from workbench.session.local_cluster import up

    with progress_bar() as progress:
        found = up(
            directory,
            progress=progress,
            routes=None if routes is None else _routes(routes),
            nodes=options["nodes"],
            groups=options["groups"],
            window_ms=options["window_ms"],
            buckets=options["buckets"],
            base_port=options["base_port"],
        )
    if as_json:
        emit("cluster", _fields(found))
        return 0
    _print(found)
    click.echo(f"next: workbench collect {found.url}")
    return 0


@cluster.command("status")
@directory_option
@json_option
def status_(directory: Path, as_json: bool) -> int:
    """Show the nodes and what each says of its groups; exit with 1 where a node is not up.

    In JSON, metrics_address is null: nodes do not serve metrics yet. What a node that does not
    answer would say is null, too.

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
    return 0 if found.up else 1


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
    state = "up" if node.up else "down" if node.pid is None else "not serving"
    head = [str(node.node), node.address, state, "" if node.pid is None else str(node.pid)]
    rows = []
    for group in node.groups:
        known = node.group(group)
        tail = ["", "", "", ""]
        if known is not None:
            counts = (known.term, known.commit_index, known.applied_index)
            tail = [known.role, *(f"{count:,}" for count in counts)]
        rows.append([*head, str(group), *tail])
    return rows or [[*head, "", "", "", "", ""]]


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
        "metrics_address": None,
        "pid": node.pid,
        "dir": str(node.dir),
        "up": node.up,
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
