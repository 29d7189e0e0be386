"""What the commands share: options, JSON, tables, progress.

Data go to stdout, progress and logs to stderr. rich is imported only where something is drawn.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from workbench.model.times import parse_duration_ms
from workbench.session.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workbench.model.keys import Span

F = TypeVar("F", bound="Callable[..., Any]")

DEFAULT_CATALOG: Final = "./.workbench/catalog"
PLAIN_WIDTH: Final = 160
PROGRESS_AFTER_SECONDS: Final = 0.5


class Duration(click.ParamType[int]):
    """A duration such as 60s, as milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return milliseconds; raises InvalidArgument, which is wrong usage too."""
        return value if isinstance(value, int) else parse_duration_ms(value)


def catalog_option(command: F) -> F:
    """Add `--catalog`."""
    return click.option(
        "--catalog",
        "catalog_url",
        metavar="URL",
        envvar="WORKBENCH_CATALOG",
        default=DEFAULT_CATALOG,
        show_default=True,
        help="Where the catalog is: a folder or file://…",
    )(command)


def cluster_option(command: F) -> F:
    """Add `--cluster` for commands that read one."""
    return click.option(
        "--cluster", metavar="NAME", help="Which cluster; needed where the catalog holds several."
    )(command)


def window_options(command: F) -> F:
    """Add `--since` and `--until`."""
    text = "RFC 3339, Unix seconds, or a percentage of the recorded time."
    until = click.option("--until", metavar="TIME", help=f"End of the load, exclusive: {text}")
    since = click.option("--since", metavar="TIME", help=f"Start of the load: {text}")
    return since(until(command))


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def emit(name: str, fields: Mapping[str, Any]) -> None:
    """Print one JSON answer with its versioned schema."""
    click.echo(json.dumps({"schema": f"workbench.{name}/1", **fields}, indent=2))


def span_json(span: Span) -> dict[str, str | None]:
    """Return a span's bounds as lowercase hex; null for no upper bound."""
    return {"start": span.start.hex(), "end": None if span.end is None else span.end.hex()}


def percent(share: float | None) -> str:
    """Return a share for a human."""
    return "not measured" if share is None else f"{share:.1%}"


def print_table(
    title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]
) -> None:
    """Print a table; columns are (name, "left" or "right")."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name, side in columns:
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
    console.print(table)


def warn(text: str) -> None:
    """Write a warning to stderr."""
    click.echo(f"warning: {text}", err=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Give a callback that draws a bar on stderr where that is a terminal.

    Nothing is drawn for what takes less than half a second.
    """
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
    bar = Bar(*columns, MofNCompleteColumn(), console=Console(stderr=True), transient=True)
    tasks: dict[str, Any] = {}
    started = time.perf_counter()

    def show(stage: str, done: int, total: int | None) -> None:
        if stage not in tasks:
            for name, task in tasks.items():
                bar.update(task, description=f"{name}: done", visible=False)
            tasks[stage] = bar.add_task(stage, total=total)
        bar.update(tasks[stage], completed=done, total=total)
        if not bar.live.is_started and time.perf_counter() - started > PROGRESS_AFTER_SECONDS:
            bar.start()

    try:
        yield show
    finally:
        bar.stop()
