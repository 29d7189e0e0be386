"""What the commands share: options, JSON, tables, progress.

Data go to stdout, progress and logs to stderr. rich is imported only where something is drawn.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from workbench.model.times import parse_duration_ms
from workbench.session.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn
    from rich.table import Table

    from workbench.model.keys import Span

F = TypeVar("F", bound="Callable[..., Any]")

DEFAULT_CATALOG: Final = "./.workbench/catalog"
TERMINAL_COLUMNS_MIN: Final = 100
FREE_TEXT_MIN: Final = 32
PROGRESS_AFTER_SECONDS: Final = 0.5


class Duration(click.ParamType[int]):
    """A duration such as 60s, as milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return milliseconds; raises InvalidArgument, which is wrong usage too."""
        return value if isinstance(value, int) else parse_duration_ms(value)


class FiniteRange(click.FloatRange):
    """A range of numbers that nan and inf are not in: nan is neither under nor over a bound."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; click refuses what is none or lies outside."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Fraction(FiniteRange):
    """A number from 0 to 1."""

    def __init__(self) -> None:
        super().__init__(min=0, max=1)


class Positive(FiniteRange):
    """A finite number over 0."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)


def catalog_option(command: F) -> F:
    """Add `--catalog`."""
    return click.option(
        "--catalog",
        "catalog_url",
        metavar="URL",
        envvar="WORKBENCH_CATALOG",
        default=DEFAULT_CATALOG,
        show_default=True,
        help="Where the catalog is: a folder, file://… or s3://BUCKET/PREFIX; see docs/stores.md.",
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
    """Print a table; columns are (name, "left" or "right").

    What stands in a cell stays on one line, so that it can be copied, also where the line runs
    over the edge of the terminal; so does the title, which may be wider than the table. Only a
    last column of free text is wrapped, between words and on a terminal; a file or pipe gets the
    width that it needs.
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.text import Text

    class Page(StringIO):
        # By this rich chooses lines that the output can show.
        encoding = sys.stdout.encoding

    terminal = sys.stdout.isatty()
    page = Page()
    table, spare = _table(columns, rows)
    unbounded = Console(file=page, width=sys.maxsize)
    width = Measurement.get(unbounded, unbounded.options, table).maximum
    if terminal:
        room = max(TERMINAL_COLUMNS_MIN, shutil.get_terminal_size().columns)
        width = max(width - spare, min(width, room))
    # rich would end the process itself where the reader has gone: click writes.
    console = Console(file=page, width=max(width, 1), force_terminal=terminal, highlight=False)
    # Not as the table's: rich cuts that to the table's width.
    console.print(Text(title, style="table.title"), soft_wrap=True)
    console.print(table)
    click.echo("\n".join(line.rstrip() for line in page.getvalue().splitlines()))


def _table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> tuple[Table, int]:
    """Return the table, and by how many columns wrapping could narrow it."""
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    last = [columns[-1][0], *(row[-1] for row in rows)]
    free = columns[-1][1] == "left" and any(" " in cell for cell in last)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, (name, side) in enumerate(columns, start=1):
        wraps = free and number == len(columns)
        table.add_column(
            name,
            justify="right" if side == "right" else "left",
            no_wrap=not wraps,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if not free:
        return table, 0
    words = max(cell_len(word) for cell in last for word in cell.split())
    return table, max(0, max(map(cell_len, last)) - max(words, FREE_TEXT_MIN))


def warn(text: str) -> None:
    """Write a warning to stderr."""
    click.echo(f"warning: {text}", err=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Give a callback that draws a bar on stderr where that is a terminal.

    Nothing is drawn for what takes less than half a second.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield silent
        return
    from rich.progress import BarColumn, MofNCompleteColumn

    tasks: dict[str, Any] = {}
    with late_bar(BarColumn(), MofNCompleteColumn()) as (bar, shown):

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                for name, task in tasks.items():
                    bar.update(task, description=f"{name}: done", visible=False)
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)
            shown()

        yield show


@contextmanager
def late_bar(*columns: ProgressColumn) -> Iterator[tuple[Bar, Callable[[], None]]]:
    """Give a bar on stderr, and what draws it from half a second on."""
    from rich.console import Console
    from rich.progress import Progress as RichBar
    from rich.progress import SpinnerColumn, TextColumn

    first = (SpinnerColumn(), TextColumn("{task.description}"))
    bar = RichBar(*first, *columns, console=Console(stderr=True), transient=True)
    started = time.perf_counter()

    def shown() -> None:
        if not bar.live.is_started and time.perf_counter() - started > PROGRESS_AFTER_SECONDS:
            bar.start()

    try:
        yield bar, shown
    finally:
        bar.stop()
