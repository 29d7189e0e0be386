"""Pages of the documentation that are made from the code: every command's `--help`.

A hook of MkDocs (see mkdocs.yml). The page cannot grow old: it is made with each build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from mkdocs.structure.files import File

from workbench.cli.main import COMMANDS, cli

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

PAGE = "reference/commands.md"
WIDTH = 96


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the page of all commands."""
    text = "\n".join(["# Commands\n", "What `--help` says, of every command.\n", *sections()])
    files.append(File.generated(config, PAGE, content=text))
    return files


def sections() -> Iterator[str]:
    """Yield a heading and the help of every command, subcommands after their group."""
    with click.Context(cli, info_name="workbench") as top:
        for name in COMMANDS:
            yield from _section(cli, name, top)


def _section(group: click.Group, name: str, parent: click.Context) -> Iterator[str]:
    command = group.get_command(parent, name)
    if command is None:
        raise LookupError(name)
    with click.Context(command, info_name=name, parent=parent, max_content_width=WIDTH) as context:
        context.terminal_width = WIDTH
        yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            for each in command.list_commands(context):
                yield from _section(command, each, context)
