"""`workbench connectors`: what other systems can be reached."""

from __future__ import annotations

import click

from workbench.cli.common import emit, json_option, print_table


@click.group()
def connectors() -> None:
    """List what other systems can be reached."""


@connectors.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the installed connectors; one that cannot be loaded is shown with its problem.

    \b
    Example:
      workbench connectors list --json
    """
    from workbench.session.wiring import connectors as installed

    found = installed()
    if as_json:
        fields = [{"scheme": c.scheme, "module": c.module, "problem": c.problem} for c in found]
        emit("connectors_list", {"connectors": fields})
        return
    print_table(
        "Connectors",
        [("scheme", "left"), ("module", "left"), ("state", "left")],
        [[c.scheme, c.module, c.problem or "ready"] for c in found],
    )
