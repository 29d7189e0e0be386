"""The `workbench` command: finds commands lazily, renders errors, decides the exit status.

| status | meaning                                                        |
|--------|----------------------------------------------------------------|
| 0      | done, or nothing to do                                         |
| 1      | failure                                                        |
| 2      | wrong usage                                                    |
| 3      | `plan --exit-code`, and there are proposals                    |
| 4      | partly applied, or a job failed                                |
| 5      | conflict: stale version, fingerprint, another's collection     |
| 130    | interrupted                                                    |

Only click is imported until a command runs: `workbench --help` must not pay for DuckDB.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tomllib
import traceback
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from workbench._version import __version__
from workbench.errors import Conflict, Internal, InvalidArgument, InvalidInput, WorkbenchError

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_CONFLICT: Final = 5
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141
CONFIG_FILE: Final = "workbench.toml"

# command: (module, attribute, one line for `workbench --help`)
COMMANDS: Final = {
    "demo": ("demo", "demo", "Run the main job end to end and write a report."),
    "collect": ("collect", "collect", "Read routes and load from a source into the catalog."),
    "hot": ("look", "hot", "Show which routes are hot, and why the others are not."),
    "heatmap": ("look", "heatmap", "Draw load over time and key range as a PNG."),
    "plan": ("plan", "plan", "Propose splits, with evidence and a proven bound."),
    "compare": ("compare", "compare", "Replay rival policies on load they have not seen."),
    "explain": ("explain", "explain", "Explain one action of a plan by its numbers."),
    "approve": ("plan", "approve", "Approve a plan's actions, or withdraw an approval."),
    "verify": ("plan", "verify", "Compare a plan's forecast with the load that came."),
    "report": ("report", "report", "Write a plan's report as one HTML file."),
    "catalog": ("catalog", "catalog", "Create, list and check the catalog."),
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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="workbench", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show a traceback where something fails.")
def cli(debug: bool) -> None:
    """Find hot key ranges, plan splits with a proven bound, approve them, check the forecast.

    A first look, on a generated trace:

        workbench demo

    The steps of it, on a trace of your own:

    \b
        workbench collect trace:accesses.csv
        workbench hot
        workbench plan --until 50%
        workbench approve PLAN
        workbench verify PLAN
        workbench report PLAN

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
    sys.exit(_run([each for each in given if each != "--debug"], as_json=as_json, debug=debug))


def _run(given: list[str], *, as_json: bool, debug: bool) -> int:
    """Run, and turn every way to end into an exit status."""
    try:
        status = cli.main(
            args=given,
            prog_name="workbench",
            standalone_mode=False,
            default_map=_configuration(Path(CONFIG_FILE)),
            auto_envvar_prefix="WORKBENCH",
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (click.Abort, KeyboardInterrupt):
        click.echo("workbench: interrupted", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a bug of ours still ends in one line
        if debug:
            traceback.print_exc()
        known = _as_known(error)
        _show(known, as_json=as_json)
        return _status_of(known)
    return status if isinstance(status, int) else 0


def _as_known(error: Exception) -> WorkbenchError:
    """Return the error as one of ours."""
    match error:
        case WorkbenchError():
            return error
        case click.UsageError():
            hint = f"see `{error.ctx.command_path} --help`" if error.ctx else ""
            return InvalidArgument(error.format_message(), code="usage", hint=hint)
        case click.ClickException():
            return InvalidInput(error.format_message(), code="usage")
        case _:
            return Internal(
                f"{type(error).__name__}: {error}",
                code="internal",
                hint="this is a bug; run again with --debug and report it",
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


def _configuration(path: Path) -> dict[str, Any]:
    """Return the defaults in `workbench.toml`; a top-level `catalog` counts for all commands."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(
            f"{path} cannot be read: {error}",
            code="configuration_invalid",
            hint="mend or remove it",
        ) from error
    unknown = [name for name in content if name not in COMMANDS and name != "catalog"]
    tables = [name for name, value in content.items() if not isinstance(value, dict)]
    if unknown or any(name != "catalog" for name in tables):
        wrong = (unknown or tables)[0]
        raise InvalidInput(
            f"{path} has {wrong!r}, which is neither a command's table nor `catalog`",
            code="configuration_invalid",
            hint=f"tables are {', '.join(COMMANDS)}",
        )
    shared = content.pop("catalog", None)
    if shared is not None:
        os.environ.setdefault("WORKBENCH_CATALOG", str(shared))
    return content
