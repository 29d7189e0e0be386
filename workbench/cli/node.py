"""`workbench node`: one bundled node in the foreground."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def node() -> None:
    """Run one bundled node.

    \b
    Example:
      workbench node start --config ./.workbench/cluster/node-1/node.toml
    """


@node.command()
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The node's configuration (docs/formats/node_config.md).",
)
def start(config: Path) -> int:
    """Run a node in the foreground until Ctrl-C or SIGTERM; `cluster up` does so for several.

    Events go to stderr as one JSON object per line; where the node fails, the last line says
    why, and the exit status is 1.

    \b
    Examples:
      workbench node start --config node.toml
      workbench node start --config node.toml 2>> node.log
    """
    from workbench.node.server import serve

    return serve(config)
