"""Defaults for options: `workbench.toml`, and variables named WORKBENCH_<COMMAND>_<OPTION>.

    flag  >  WORKBENCH_PLAN_MAX_SPLITS  >  [plan] max_splits  >  [workbench]  >  the option's own

Both are checked against the options of the command that runs, and of no other: the modules of
the others are not imported. Where only help will be shown, nothing is read. Values are handed to
click as if they stood on the command line, so its conversion accepts and refuses them.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from workbench.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

CONFIG_FILE: Final = "workbench.toml"
SHARED_TABLE: Final = "workbench"
SHARED_OPTIONS: Final = ("catalog", "cluster")
HELP_FLAGS: Final = frozenset({"-h", "--help"})
PREFIX: Final = "WORKBENCH_"
# What is read without belonging to one command; the last by the tests only.
CATALOG_VARIABLE: Final = "WORKBENCH_CATALOG"
OTHER_VARIABLES: Final = frozenset({CATALOG_VARIABLE, "WORKBENCH_USER", "WORKBENCH_REQUIRE"})


@dataclass(frozen=True, slots=True)
class Running:
    """The command that is about to run.

    Attributes:
        path: Its names, outermost first, as ("catalog", "ls").
        command: It, a leaf.
        siblings: Names in its group; empty where it stands in none.
    """

    path: tuple[str, ...]
    command: click.Command
    siblings: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """Return the name of its table in the file."""
        return f"[{'.'.join(self.path)}]"

    @property
    def options(self) -> dict[str, click.Option]:
        """Return its options by flag, with `_` for `-`."""
        return {
            _plain(flag): param
            for param in self.command.params
            if isinstance(param, click.Option)
            for flag in param.opts
            if flag.startswith("--")
        }


def running(
    ctx: click.Context, name: str, command: click.Command, rest: list[str]
) -> Running | None:
    """Return the command that the arguments run; None where only help or a complaint follows."""
    if not HELP_FLAGS.isdisjoint(takewhile(lambda each: each != "--", rest)):
        return None
    if not isinstance(command, click.Group):
        return Running((name,), command)
    below = command.get_command(ctx, rest[0]) if rest else None
    if below is None:
        return None
    return Running((name, rest[0]), below, tuple(command.list_commands(ctx)))


def configure(ctx: click.Context, found: Running, commands: Collection[str]) -> None:
    """Let file and environment give the defaults of the command that runs.

    Raises:
        InvalidInput: the file cannot be read, or names what does not exist.
    """
    bind_environment(found)
    warn_of_unknown_variables(found, commands)
    defaults = defaults_from(Path(CONFIG_FILE), found, commands)
    nested: dict[str, Any] = defaults
    for name in reversed(found.path):
        nested = {name: nested}
    ctx.default_map = nested


def bind_environment(found: Running) -> None:
    """Let every option answer to its variable, named as its flag is, before any other."""
    for flag, option in found.options.items():
        own = _variable(found, flag)
        if own not in (names := _variables(option)):
            option.envvar = [own, *names]


def warn_of_unknown_variables(found: Running, commands: Collection[str]) -> None:
    """Warn of variables that look like ours and are read by nobody.

    A variable of another command is that command's to check. One that belongs to no command may
    be another program's: it is named only where it comes close to one of ours.
    """
    from workbench.cli.common import warn

    known = OTHER_VARIABLES.union(*map(_variables, found.options.values()))
    own = (_scope(found.path[:1]), _scope(found.path))
    others = [_scope((name,)) for name in commands if name != found.path[0]]
    others += [_scope((found.path[0], name)) for name in found.siblings if name != found.path[-1]]
    for name in sorted(os.environ):
        if not name.startswith(PREFIX) or name in known or name.startswith(tuple(others)):
            continue
        # Compared without what all begin with, which would make any two alike.
        meant = _meant(name.removeprefix(PREFIX), {each.removeprefix(PREFIX) for each in known})
        meant = meant.replace("mean ", f"mean {PREFIX}")
        if meant or name.startswith(own):
            warn(f"{name} is set, and nothing reads it{meant}")


def defaults_from(path: Path, found: Running, commands: Collection[str]) -> dict[str, Any]:
    """Return the defaults that the file has for one command, by parameter."""
    content = _read(path)
    shared = _shared(path, content)
    _check_tables(path, content, commands)
    table: Any = content.get(found.path[0], {})
    if found.siblings:
        if unknown := [name for name in table if name not in found.siblings]:
            raise _invalid(
                path,
                f"[{found.path[0]}] has {unknown[0]!r}, which is none of its commands",
                _meant(unknown[0], found.siblings) or f"; they are {', '.join(found.siblings)}",
            )
        table = table.get(found.path[1], {})
        if not isinstance(table, dict):
            raise _invalid(path, f"{found.path[1]!r} is no table", f"; write {found.table}")
    return _of_shared(shared, found) | _of_table(path, table, found)


def origin(error: click.BadParameter) -> str:
    """Return where a refused value came from; empty for the command line."""
    if error.ctx is None or error.param is None or error.param.name is None:
        return ""
    match error.ctx.get_parameter_source(error.param.name):
        case ParameterSource.DEFAULT_MAP:
            return CONFIG_FILE
        case ParameterSource.ENVIRONMENT:
            return next((name for name in _variables(error.param) if os.environ.get(name)), "")
        case _:
            return ""


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(
            f"{path} cannot be read: {error}",
            code="configuration_invalid",
            hint="mend or remove it",
        ) from error


def _shared(path: Path, content: dict[str, Any]) -> dict[str, str]:
    """Take what holds for all commands out of the content: [workbench], or `catalog` on top."""
    shared = content.pop(SHARED_TABLE, {})
    if not isinstance(shared, dict):
        raise _invalid(path, f"{SHARED_TABLE!r} is no table", f"; write [{SHARED_TABLE}]")
    if isinstance(content.get("catalog"), str):
        shared = {"catalog": content.pop("catalog"), **shared}
    for name, value in shared.items():
        if name not in SHARED_OPTIONS:
            raise _invalid(
                path,
                f"[{SHARED_TABLE}] has no option {name!r}",
                _meant(name, SHARED_OPTIONS) or f"; it has {' and '.join(SHARED_OPTIONS)}",
            )
        if not isinstance(value, str):
            raise _invalid(path, f"[{SHARED_TABLE}] {name} is no text: {value!r}", "; quote it")
    return shared


def _check_tables(path: Path, content: Mapping[str, Any], commands: Collection[str]) -> None:
    """Refuse what is neither a command's table nor one for all."""
    for name, value in content.items():
        if name not in commands:
            raise _invalid(
                path,
                f"{name!r} is neither a command's table nor [{SHARED_TABLE}]",
                _meant(name, commands) or f"; tables are {', '.join(commands)}",
            )
        if not isinstance(value, dict):
            raise _invalid(path, f"{name!r} is no table", f"; write [{name}]")


def _of_shared(shared: Mapping[str, str], found: Running) -> dict[str, Any]:
    """Return the shared defaults for the options of one command.

    `catalog` stands for WORKBENCH_CATALOG and holds where that does: `demo --catalog` means
    another thing, to keep what is otherwise thrown away.
    """
    options = found.options
    return {
        option.name: value
        for name, value in shared.items()
        if (option := options.get(name)) is not None and option.name is not None
        if name != "catalog" or CATALOG_VARIABLE in _variables(option)
    }


def _of_table(path: Path, table: Mapping[str, Any], found: Running) -> dict[str, Any]:
    """Return a command's table by parameter."""
    options, defaults = found.options, {}
    for name, value in table.items():
        option = options.get(_plain(name))
        if option is None or option.name is None:
            see = f"; see `workbench {' '.join(found.path)} --help`"
            meant = _meant(_plain(name), options)
            raise _invalid(path, f"{found.table} has no option {name!r}", meant or see)
        several = option.multiple or option.nargs != 1
        if isinstance(value, dict) or (isinstance(value, list) and not several):
            raise _invalid(path, f"{found.table} {name} takes one value, not {value!r}", "")
        as_list = isinstance(value, list)
        defaults[option.name] = [_written(v) for v in value] if as_list else _written(value)
    return defaults


def _written(value: Any) -> str:
    """Return a TOML value as on the command line: click would take 3.7 for the integer 3."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _variables(option: click.Parameter) -> list[str]:
    """Return the variables to which an option answers."""
    given = option.envvar or []
    return [given] if isinstance(given, str) else list(given)


def _variable(found: Running, flag: str) -> str:
    return f"{_scope(found.path)}{flag.upper()}"


def _scope(path: Iterable[str]) -> str:
    return f"{PREFIX}{'_'.join(path).upper().replace('-', '_')}_"


def _plain(name: str) -> str:
    """Return an option's name as this module compares it: `--max-splits` is `max_splits`."""
    return name.lstrip("-").replace("-", "_")


def _meant(name: str, known: Iterable[str]) -> str:
    """Return what may have been meant, as the end of a sentence; empty where nothing is close."""
    from difflib import get_close_matches

    close = get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


def _invalid(path: Path, message: str, way_out: str) -> InvalidInput:
    return InvalidInput(
        f"{path}: {message}",
        code="configuration_invalid",
        hint=way_out.removeprefix("; ") or "mend or remove it",
    )
