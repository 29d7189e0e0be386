"""The `workbench` command: finds commands lazily, renders errors, decides the exit status.

| status | meaning                                                        |
|--------|----------------------------------------------------------------|
| 0      | done, or nothing to do                                         |
| 1      | failure                                                        |
| 2      | wrong usage                                                    |
| 3      | `plan --exit-code`, and there are proposals                    |
| 4      | partly applied, or a job failed                                |
| 5      | conflict: stale version, fingerprint, another's collection     |
| 129    | the terminal was closed (SIGHUP)                               |
| 130    | interrupted (Ctrl-C)                                           |
| 141    | whoever read the output went away                              |
| 143    | terminated (SIGTERM)                                           |

Only click is imported until a command runs: `workbench --help` must not pay for DuckDB.
"""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import sys
import traceback
from typing import Final, NoReturn

import click

from workbench._version import __version__
from workbench.cli.common import warn
from workbench.cli.configuration import configure, origin, running
from workbench.cli.interrupts import EXIT_SIGNAL, SIGNALS, Interrupt, collecting, interruption
from workbench.errors import (
    Conflict,
    Internal,
    InvalidArgument,
    InvalidInput,
    Storage,
    WorkbenchError,
)

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_CONFLICT: Final = 5
EXIT_BROKEN_PIPE: Final = 141
COMPLETE_VARIABLE: Final = "_WORKBENCH_COMPLETE"

# command: (module, attribute, one line for `workbench --help`)
COMMANDS: Final = {
    "demo": ("demo", "demo", "Run the main job end to end and write a report."),
    "collect": ("collect", "collect", "Read routes and load from a source into the catalog."),
    "hot": ("look", "hot", "Show which routes are hot, and why the others are not."),
    "heatmap": ("look", "heatmap", "Draw load over time and key range as a PNG."),
    "plan": ("plan", "plan", "Propose splits, with evidence and a proven bound."),
    "compare": ("compare", "compare", "Replay rival policies on load they have not seen."),
    "explain": ("explain", "explain", "Explain one action of a plan by its numbers."),
    "approve": ("approve", "approve", "Approve a plan's actions, or withdraw an approval."),
    "apply": ("apply", "apply", "Execute a plan's approved splits on the live cluster."),
    "jobs": ("jobs", "jobs", "List what was executed, and what came of it."),
    "verify": ("verify", "verify", "Compare a plan's forecast with the load that came."),
    "report": ("report", "report", "Write a plan's report as one HTML file."),
    "export": ("export", "export", "Export a cluster's data into the catalog, as of one moment."),
    "restore": ("restore", "restore", "Bring an empty cluster to the history of an export."),
    "cluster": ("cluster_members", "cluster", "Run a cluster of bundled nodes on this machine."),
    "node": ("node", "node", "Run one bundled node in the foreground."),
    "routes": ("routes", "routes", "Show who owns which keys, now and in earlier versions."),
    "kv": ("kv", "kv", "Write and read keys of a running cluster, to try things."),
    "catalog": ("catalog", "catalog", "Create, list and check the catalog."),
    "sql": ("sql", "sql", "Ask the catalog by SQL, or by a query's name."),
    "datasets": ("datasets", "datasets", "Make the generated sets."),
    "connectors": ("connectors", "connectors", "List what other systems can be reached."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(
            importlib.import_module(f"workbench.cli.{module}"), attribute
        )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and give it the defaults of file and environment."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None and not ctx.resilient_parsing:
            found = running(ctx, name, command, rest)
            if found is not None:
                configure(ctx, found, COMMANDS)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="workbench", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show a traceback where something fails.")
def cli(debug: bool) -> None:
    """Find hot key ranges, plan splits with a proven bound, execute them, check the forecast.

    A first look, against a cluster on this machine that is started for it:

        workbench demo

    The steps of it, on a live cluster:

    \b
        workbench cluster up                  bundled nodes; prints their URL
        workbench collect node://HOST:PORT    --every 60s goes on until Ctrl-C
        workbench hot
        workbench plan
        workbench approve PLAN
        workbench apply PLAN                  --dry-run shows the literal calls
        workbench collect node://HOST:PORT
        workbench verify PLAN
        workbench report PLAN

    On a recorded trace, collect trace:FILE and plan on a part of it: plan --until 50%.

    PLAN is a plan's id, or enough of its first digits, or a file. The catalog is --catalog, else
    WORKBENCH_CATALOG, else ./.workbench/catalog. Every option can be set in workbench.toml
    (a table per command) or as WORKBENCH_<COMMAND>_<OPTION>. There is no merge and no undo of a
    split.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in given
    debug = "--debug" in given
    logger = logging.getLogger("workbench")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))
        logger.propagate = False
    sys.exit(_run([each for each in given if each != "--debug"], as_json=as_json, debug=debug))


class _Warnings(logging.Handler):
    """Shows what the library warns of, as commands show their own warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to stderr."""
        warn(record.getMessage())


def _run(given: list[str], *, as_json: bool, debug: bool) -> int:
    """Run, and turn every way to end into an exit status."""
    interrupts: list[Interrupt] = []
    try:
        with collecting(interrupts):
            status = _command_line(given)
        if not interrupts:
            return status
        failure: BaseException = interrupts[0]
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a bug ends in one line too
        failure = interrupts[0] if interrupts else error
    try:
        return _end(failure, as_json=as_json, debug=debug)
    except OSError:
        # Nobody reads stderr, or it is full: the status is all that is left to say.
        _discard_output()
        return EXIT_FAILURE


def _command_line(given: list[str]) -> int:
    """Run the command line, or complete it, and return its status.

    Not by click's own `main`: that takes a broken pipe for a failure, and answers an interrupt
    with an empty line.
    """
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "workbench", COMPLETE_VARIABLE, instruction)
    if sys.stdout is None:
        raise _output_failed(os.strerror(errno.EBADF))
    try:
        with cli.make_context("workbench", list(given)) as ctx:
            status = cli.invoke(ctx)
    except click.exceptions.Exit as end:
        status = end.exit_code
    return status if isinstance(status, int) else 0


def _end(failure: BaseException, *, as_json: bool, debug: bool) -> int:
    """Say why the command did not finish, and return the status."""
    if debug:
        traceback.print_exception(failure)
    if (number := interruption(failure)) is not None:
        click.echo(f"workbench: {SIGNALS[number]}", err=True)
        return EXIT_SIGNAL + number
    if isinstance(failure, OSError) and _came_from_output(failure):
        _discard_output()
        if isinstance(failure, BrokenPipeError):
            return EXIT_BROKEN_PIPE
    if isinstance(failure, click.exceptions.NoArgsIsHelpError) and not as_json:
        click.echo(failure.format_message(), err=True)
        return EXIT_USAGE
    known = _as_known(failure)
    _show(known, as_json=as_json)
    return _status_of(known)


def _came_from_output(error: OSError) -> bool:
    """Return whether writing to stdout or stderr failed: all of ours is written by click.echo."""
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code is click.echo.__code__:
            return True
        frame = frame.tb_next
    return False


def _discard_output() -> None:
    """Lead stdout and stderr nowhere where they fail, else the interpreter complains at exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _output_failed(reason: str) -> Storage:
    return Storage(
        f"the output could not be written: {reason}",
        code="output_failed",
        hint="check where the output goes",
    )


def _as_known(error: BaseException) -> WorkbenchError:
    """Return the error as one of ours."""
    match error:
        case WorkbenchError():
            return error
        case click.ClickException():
            return _of_click(error)
        case OSError():
            return _of_system(error)
        case _:
            return Internal(
                f"{type(error).__name__}: {error}",
                code="internal",
                hint="this is a bug; run again with --debug and report it",
            )


def _of_click(error: click.ClickException) -> InvalidInput:
    """Return what click found; a refused value names the file or variable that it came from."""
    message = error.format_message().removesuffix(".")
    if isinstance(error, click.BadParameter) and (source := origin(error)):
        hint = "mend or remove it"
        return InvalidInput(f"{source}: {message}", code="configuration_invalid", hint=hint)
    if not isinstance(error, click.UsageError):
        return InvalidInput(message, code="usage")
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        message = "a command is missing"
    hint = f"see `{error.ctx.command_path} --help`" if error.ctx else ""
    return InvalidArgument(message, code="usage", hint=hint)


def _of_system(error: OSError) -> Storage:
    """Return what the system refused; that is no bug of ours."""
    reason = error.strerror or str(error) or type(error).__name__
    if _came_from_output(error):
        return _output_failed(reason)
    place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return Storage(
        f"{place}{reason}",
        code="system_refused",
        hint="check the file, its permissions and the free space; --debug shows where it failed",
    )


def _status_of(error: WorkbenchError) -> int:
    match error:
        case InvalidArgument():
            return EXIT_USAGE
        case Conflict():
            return EXIT_CONFLICT
        case _:
            return EXIT_FAILURE


def _show(error: WorkbenchError, *, as_json: bool) -> None:
    """Write one error to stderr, as one line or as JSON."""
    if not as_json:
        click.echo(f"workbench: {' '.join(str(error).split())}", err=True)
        return
    fields = {
        "kind": error.kind,
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "hint": error.hint,
    }
    click.echo(json.dumps({"schema": "workbench.error/1", "error": fields}), err=True)
