"""Errors in the words of Python: what the layers below say for the command line, said for `wb`.

    error from below ── in_python, methods_in_python ──▶ the same error, message and hint translated
    what is told beside an answer ── python_words ─────▶ the same; `Result` does it for all of them
                                         └── table of commands │ table of options

The layers below name what helps by command and option, which nobody has at hand in a notebook.
Here is the one place that knows both. Class, code, cause and traceback stay; a text that is
translated already stays too, so decorated functions may call one another. A command that Python
does not offer is named in full, with its options, so that it can be run in a terminal.
"""

from __future__ import annotations

import re
from functools import wraps
from inspect import isfunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_P = ParamSpec("_P")
_T = TypeVar("_T")
_C = TypeVar("_C", bound=type)

# The first that matches the whole command counts.
_COMMANDS: Final = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"catalog init", "wb.open(create=True)"),
        (r"catalog verify", "catalog.check()"),
        (r"catalog ls --prefix plan/", "catalog.plans()"),
        (r"catalog ls --at (\S+)", r"catalog.at(\1).datasets()"),
        (r"catalog (?:ls|show)", "catalog.datasets()"),
        (r"jobs list --plan (\S+)", r'catalog.jobs(plan="\1")'),
        (r"jobs list", "catalog.jobs()"),
        (r"connectors list", "wb.connectors()"),
        (r"cluster up --dir (\S+)", r'wb.cluster_up("\1")'),
        (r"cluster down --dir (\S+)", r'wb.cluster_down("\1")'),
        (r"cluster (up|down)", r"wb.cluster_\1()"),
        (r"cluster status.*", ".status() of what wb.cluster_up returned"),
        (r"collect (\S+) --cluster (\S+)", r'wb.collect("\1", cluster="\2")'),
        (r"collect ([^\s-]\S*)", r'wb.collect("\1")'),
        (r"collect", "wb.collect"),
        (r"plan --until (\S+)", r'wb.plan(until="\1")'),
        (r"plan --out (\S+)", r'plan.save("\1")'),
        (r"plan", "wb.plan"),
        (r"compare --until (\S+)", r'wb.compare(until="\1")'),
        (r"approve.* --withdraw.*", "plan.withdraw()"),
        (r"approve.*", "plan.approve()"),
        (r"apply.*", "plan.apply()"),
        (r"verify.*", "wb.verify(plan)"),
        (r"hot", "wb.hot"),
        (r"export --resume (\S+) --target (\S+)", r'wb.export("\2", resume="\1")'),
        (r"export --resume (\S+)", r'wb.export(…, resume="\1")'),
        (r"export", "wb.export"),
    )
)
_NAMED_OTHERWISE: Final = {"dir": "directory", "table": "tables", "query": "name"}
_SWITCHES: Final = frozenset({"dry-run", "new-groups", "only-hot", "replace", "sort"})
_VALUED: Final = (
    "base-port|boundaries|buckets|by|catalog|cluster|columns|dir|evidence|export|"
    "forbid|format|groups|key-encoding|map-group|max-bytes-moved|max-routes|"
    "max-splits|min-gain|min-span-load|name|objective|on|out|policy|query|rate|"
    "read-ts|resume|routes|since|speedup|table|target|threshold|time-unit|to|"
    "until|window|write-weight"
)
_OPTIONS: Final = "|".join((_VALUED, *sorted(_SWITCHES)))
_SAID: Final = re.compile(
    r"(?P<bug>run again with --debug and report it)"
    r"|(?P<ticks>`)workbench (?P<quoted>[^`]*)`"
    r"|(?<![\w/-])workbench (?P<bare>(?:plan|compare) --until [^\s;,]+|approve [^;,]*"
    r"|apply [^\s;,]+|collect(?: (?!or )[^\s;,]+(?: --cluster [^\s;,]+)?)?|plan(?![\w-])"
    r"|catalog init|catalog verify|cluster up --dir [^\s;,]+"
    r"|export --resume \S+ --target [^\s;,]+)"
    r"|(?P<queries>--list-queries)\b"
    r"|(?<![\w-])--(?P<export>abandon)(?![\w-])"
    rf"|(?<![\w-])--(?P<option>{_OPTIONS})(?![\w-])"
    r"(?: (?P<pair>\w+=\w+)| (?P<number>\d[\d_.]*(?![\w%:.-]))"
    r"| (?P<value>\d[\w%:.+-]*[\w%]|[A-Z][A-Z_]+\b|(?:utf8|hex|u64|exact)\b))?"
)
_CALLED_BY_SYNTAX: Final = frozenset({"__init__", "__enter__", "__exit__"})
_ONLY_CLUSTER: Final = re.compile(r"--cluster (\S+)")


def python_words(text: str) -> str:
    """Return a text with commands and options as Python has them.

    Examples:
        >>> python_words("choose another name with --cluster, or pass --replace")
        'choose another name with cluster=, or pass replace=True'
        >>> python_words("approve it first: `workbench approve 3f2a90c1`")
        'approve it first: `plan.approve()`'
    """
    if only := _ONLY_CLUSTER.fullmatch(text):
        return f'cluster="{only[1]}"'
    return _SAID.sub(_translated, text)


def in_python(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return the function so that its errors tell what to do in Python; a generator likewise."""
    if isgeneratorfunction(function):

        @wraps(function)
        def steps(*args: _P.args, **kwargs: _P.kwargs) -> Iterator[Any]:
            try:
                yield from cast("Iterator[Any]", function(*args, **kwargs))
            except WorkbenchError as error:
                say_in_python(error)
                raise

        return cast("Callable[_P, _T]", steps)

    @wraps(function)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except WorkbenchError as error:
            say_in_python(error)
            raise

    return told


def methods_in_python(found: _C) -> _C:
    """Return the class so that the errors of all its public methods and properties do so."""
    for name, value in list(vars(found).items()):
        if name.startswith("_") and name not in _CALLED_BY_SYNTAX:
            continue
        if isfunction(value):
            setattr(found, name, in_python(value))
        elif isinstance(value, property) and value.fget is not None:
            setattr(found, name, property(in_python(value.fget), doc=value.__doc__))
    return found


def say_in_python(error: WorkbenchError) -> None:
    """Translate an error's message, hint and notes where they are."""
    error.message, error.hint = python_words(error.message), python_words(error.hint)
    error.args = (error.message, *error.args[1:])
    if notes := getattr(error, "__notes__", []):
        error.__notes__ = [python_words(note) for note in notes]


def _translated(found: re.Match[str]) -> str:
    if found["bug"]:
        return "report it, with its traceback: `%tb`, or error.__cause__"
    if found["queries"]:
        return "catalog.queries()"
    if found["export"]:
        return "`workbench export --abandon`"
    if command := found["quoted"] or found["bare"]:
        return _call(command, found["ticks"] or "") or found[0]
    return _argument(found)


def _call(command: str, ticks: str) -> str | None:
    for pattern, words in _COMMANDS:
        if match := pattern.fullmatch(command):
            return f"{ticks}{match.expand(words)}{ticks}"
    return None


def _argument(found: re.Match[str]) -> str:
    option = found["option"]
    name = _NAMED_OTHERWISE.get(option, option.replace("-", "_"))
    if pair := found["pair"]:
        key, _, value = pair.partition("=")
        numbers = pair.replace("=", "").isdigit()
        given = f"{{{key}: {value}}}" if numbers else f'{{"{key}": "{value}"}}'
    elif value := found["value"]:
        given = f'"{value}"'
    else:
        given = found["number"] or ("True" if option in _SWITCHES else "")
    return f"{name}={given}"
