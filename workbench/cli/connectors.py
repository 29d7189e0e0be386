"""`workbench connectors`: what other systems can be reached, and whether they answer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

import click

from workbench.cli.common import emit, json_option, print_table

EXIT_FAILURE: Final = 1


@click.group()
def connectors() -> None:
    """List what other systems can be reached, and check that one answers.

    \b
    Examples:
      workbench connectors list
      workbench connectors check node://127.0.0.1:7001
    """


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


@connectors.command("check")
@click.argument("url")
@json_option
def check(url: str, as_json: bool) -> int:
    """Read the system at URL once and say what it can do; nothing is changed there.

    Status 1 where something is not as its connector promises.

    \b
    Examples:
      workbench connectors check node://127.0.0.1:7001
      workbench connectors check file:routes.json --json
    """
    from workbench.session.checking import check_connector

    found, checks = check_connector(url)
    if as_json:
        fields = [asdict(each) for each in checks]
        emit("connectors_check", {"url": url, "capabilities": asdict(found), "checks": fields})
    else:
        can = [name for name, offered in asdict(found).items() if offered]
        click.echo(f"offers: {', '.join(can)}")
        words = {True: "held", False: "broken", None: "not offered"}
        print_table(
            "Checks",
            [("check", "left"), ("result", "left"), ("found", "left")],
            [[each.name, words[each.held], each.said] for each in checks],
        )
    return EXIT_FAILURE if any(each.held is False for each in checks) else 0
