"""`workbench cluster add-node`, `remove-node`, `transfer-leader`: while the cluster serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from workbench.cli.cluster import cluster, directory_option
from workbench.cli.common import emit, json_option, progress_bar

if TYPE_CHECKING:
    from pathlib import Path


@cluster.command("add-node")
@directory_option
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Where it listens; default: a free one."
)
@json_option
def add_node_(directory: Path, port: int | None, as_json: bool) -> int:
    """Start another node, and return once it votes in every group.

    It learns each group first and votes once it has caught up, one group after the other, while
    clients write. Interrupted, the same command goes on. Four voters bear the loss of one, as
    three do: add a node to replace one (`cluster remove-node`), or add two.

    \b
    Examples:
      workbench cluster add-node
      workbench cluster add-node --dir ./small --port 7104 --json
    """
    from workbench.session.membership import add_node

    with progress_bar() as progress:
        added = add_node(directory, port=port, progress=progress)
    if as_json:
        emit(
            "cluster_add_node",
            {
                "node": added.node,
                "address": added.address,
                "metrics_address": added.metrics_address,
                "groups": list(added.groups),
            },
        )
        return 0
    groups = ", ".join(map(str, added.groups))
    click.echo(f"node {added.node} at {added.address} votes in groups {groups}")
    return 0


@cluster.command("remove-node")
@click.argument("node", type=click.IntRange(min=1))
@directory_option
@json_option
def remove_node_(node: int, directory: Path, as_json: bool) -> int:
    """Take NODE out of every group, then stop it; its files stay, and its id is not used again.

    What it leads is handed over first. A node that is down or lost its disk is removed likewise.
    Refused where a group would be left without a majority of running voters. Interrupted, the same
    command goes on.

    \b
    Examples:
      workbench cluster remove-node 2
      workbench cluster remove-node 2 --dir ./small --json
    """
    from workbench.session.membership import remove_node

    with progress_bar() as progress:
        removed = remove_node(directory, node, progress=progress)
    stopped = removed.stopped
    if as_json:
        emit(
            "cluster_remove_node",
            {
                "node": removed.node,
                "groups": list(removed.groups),
                "pid": None if stopped is None else stopped.pid,
                "killed": stopped is not None and stopped.killed,
            },
        )
        return 0
    how = "was not running" if stopped is None else f"(process {stopped.pid}) is stopped"
    click.echo(f"node {removed.node} {how}, and keeps no group any more")
    return 0


@cluster.command("transfer-leader")
@click.argument("group", type=click.IntRange(min=1))
@click.argument("node", type=click.IntRange(min=1))
@directory_option
@json_option
def transfer_leader_(group: int, node: int, directory: Path, as_json: bool) -> int:
    """Have NODE lead GROUP; it must be one of its voters, and have caught up.

    \b
    Examples:
      workbench cluster transfer-leader 1 3
      workbench cluster transfer-leader 1 3 --dir ./small --json
    """
    from workbench.session.membership import transfer_leader

    transfer_leader(directory, group, node)
    if as_json:
        emit("cluster_transfer_leader", {"group": group, "node": node})
        return 0
    click.echo(f"node {node} leads group {group}")
    return 0
