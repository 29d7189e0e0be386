"""Users' SQL over datasets: one statement that reads, in a DuckDB that can reach nothing else.

    text ──parse──▶ one SELECT? ──▶ names of tables ──▶ open these datasets, no others
                        │                                      │
                     refused                        plan ──▶ run ──▶ record batches

Rules:

- Whatever the text says, the connection has no file system, no network, no extension to load, no
  Python variable to look up, a bound on memory, no temporary files, and a locked configuration.
- What is refused is named before anything runs: statements that do not read, several statements,
  table functions that read files. The engine's own refusal stands behind that.
- Values are bound. Nothing of the caller's is formatted into SQL but names, by `quoted`.
- A table in the text is a dataset of exactly that name. DuckDB does not tell `a` from `A`; the
  catalog does, so a text that names both is refused.
- An error in the text says where: line and column, from 1.

What the engine makes of the text is its parser's tree, never a search in the text. Not here:
where datasets come from, and how values are written on a command line.
"""

from __future__ import annotations

import difflib
import json
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa

from workbench.errors import Corruption, Internal, InvalidInput, NotFound, WorkbenchError
from workbench.query.interrupting import Worker, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow.dataset as ds

TEXT_BYTES_MAX: Final = 1 << 20
MEMORY_BYTES: Final = 2 << 30
BATCH_ROWS: Final = 64 * 1024
# The schema of tables about the catalog itself.
ABOUT_SCHEMA: Final = "catalog"
# They make rows of nothing, or of what they are given.
TABLE_FUNCTIONS: Final = frozenset(
    {
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_types",
        "generate_series",
        "json_each",
        "json_tree",
        "range",
        "repeat",
        "repeat_row",
        "unnest",
    }
)
_FILE: Final = re.compile(r"[./:*?]")
_INTERRUPTED: Final = re.compile(r"failed: (?:KeyboardInterrupt|Interrupt): ")
_PLAN: Final = "EXPLAIN "
_CHANGES: Final = re.compile(r"(?:INSERT|UPDATE|DELETE|MERGE_INTO|MERGE)_QUERY_NODE")
# DESCRIBE and SUMMARIZE; the others list the engine's own tables, which are no datasets.
_SHOWS: Final = frozenset({"DESCRIBE", "SUMMARY"})
_ENGINE_SCHEMAS: Final = frozenset({"information_schema", "pg_catalog"})
_DATASETS_HINT: Final = "SELECT * FROM catalog.datasets lists what there is"
_COMMENT: Final = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_EXPLAIN: Final = tuple(
    re.compile(
        rf"{_COMMENT}explain\b{_COMMENT}(?:analy[sz]e\b)?{options}", re.DOTALL | re.IGNORECASE
    )
    for options in (rf"{_COMMENT}\([^()]*\)", "")
)


@dataclass(frozen=True, slots=True)
class SqlLimits:
    """What a query may take.

    Attributes:
        memory_bytes: For the engine's own work; what pyarrow reads ahead comes on top.
        threads: None for one per processor.
    """

    memory_bytes: int = MEMORY_BYTES
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Relations:
    """Where the tables of a text come from.

    Attributes:
        open: Gives a dataset by its exact name, None where there is none.
        names: All names there are; asked for only where one is not found.
        about: Tables of the schema `catalog`, by name; made only where they are read.
        aliases: Datasets by the name that a text uses, where that is another; for messages.
    """

    open: Callable[[str], pa.Table | ds.Dataset | None]
    names: Callable[[], Sequence[str]]
    about: Mapping[str, Callable[[], pa.Table]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SqlRows:
    """The rows of an answer, as they come.

    Attributes:
        schema: Of the batches. Two columns may have one name.
        batches: Empty ones left out.
        is_plan: Whether they are the answer of an EXPLAIN.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    is_plan: bool


@dataclass(frozen=True, slots=True)
class SqlAnswer:
    """A whole answer, or its first rows.

    Attributes:
        table: The rows.
        truncated: Whether there were more.
        is_plan: Whether they are the answer of an EXPLAIN.
    """

    table: pa.Table
    truncated: bool
    is_plan: bool


@dataclass(frozen=True, slots=True)
class _Statement:
    """A text that was found to do nothing but read.

    Attributes:
        text: As it was given.
        tables: (schema, name) of what it reads, its own relations among them.
        local: Names of its own relations (WITH).
        is_plan: Whether it is an EXPLAIN.
    """

    text: str
    tables: tuple[tuple[str, str], ...]
    local: frozenset[str]
    is_plan: bool


def quoted(name: str) -> str:
    """Return `name` as an identifier of SQL; the only way for a name into a text."""
    return '"' + name.replace('"', '""') + '"'


def run_sql(
    text: str,
    relations: Relations,
    parameters: Mapping[str, Any] | Sequence[Any] = (),
    *,
    rows_max: int | None = None,
    limits: SqlLimits | None = None,
) -> SqlAnswer:
    """Return the answer of `text` as a table; see `open_sql`.

    Args:
        text: One statement that reads.
        relations: Where its tables come from.
        parameters: By name for `$name`, in their order for `?`.
        rows_max: After so many rows the query is stopped; None for all.
        limits: None for the defaults.
    """
    with open_sql(text, relations, parameters, limits=limits) as rows:
        kept, count, truncated = [], 0, False
        for batch in rows.batches:
            room = batch.num_rows if rows_max is None else rows_max - count
            kept.append(batch.slice(0, room))
            count += kept[-1].num_rows
            if batch.num_rows > room:
                truncated = True
                break
        return SqlAnswer(pa.Table.from_batches(kept, rows.schema), truncated, rows.is_plan)


@contextmanager
def open_sql(
    text: str,
    relations: Relations,
    parameters: Mapping[str, Any] | Sequence[Any] = (),
    *,
    limits: SqlLimits | None = None,
) -> Iterator[SqlRows]:
    """Run `text` and give its rows as they come; leaving stops the query.

    Raises:
        InvalidInput: `sql_refused`, `sql_invalid`, `sql_empty`, `sql_too_long`,
            `sql_too_deep`, `sql_parameters_differ`, `sql_names_differ_in_case`,
            `sql_memory_exceeded`.
        NotFound: `dataset_absent`: a table that is no dataset.
        Corruption: `data_unreadable`: a page does not match its checksum.
        KeyboardInterrupt: Ctrl-C.
    """
    _check_text(text)
    with duckdb.connect(":memory:") as connection, worker(connection) as work:
        with _translating(text, relations):
            rows = _opened(connection, work, text, relations, parameters, limits or SqlLimits())
        # What fails from here on, but in the batches, is the caller's: it is not translated.
        yield rows


def _opened(  # noqa: PLR0913, PLR0917 - all of a query
    connection: duckdb.DuckDBPyConnection,
    work: Worker,
    text: str,
    relations: Relations,
    parameters: Mapping[str, Any] | Sequence[Any],
    limits: SqlLimits,
) -> SqlRows:
    """Check and start the query; its batches raise our errors."""
    _confine(connection, limits)
    statement = _checked(connection, text, parameters)
    read = _register(connection, statement, relations)
    given = dict(parameters) if _is_mapping(parameters) else list(parameters)
    with _translating(text, relations, read=read):
        if statement.is_plan:
            plan = work.call(_fetched, connection, text, given)
            table = pa.table({"plan": [str(row[-1]) for row in plan]})
            return SqlRows(table.schema, iter(table.to_batches()), is_plan=True)
        # Planned first for its errors: they tell where, which those of a relation do not.
        with _translating(text, relations, shift=len(_PLAN), read=read):
            work.call(_fetched, connection, _PLAN + text, given)
        reader = work.call(_reader, connection, text, given)
    return SqlRows(reader.schema, _batches(work, reader, text, relations, read), is_plan=False)


def _fetched(connection: duckdb.DuckDBPyConnection, text: str, given: Any) -> list[Any]:  # noqa: ANN401
    return connection.execute(text, given or None).fetchall()


def _reader(connection: duckdb.DuckDBPyConnection, text: str, given: Any) -> Any:  # noqa: ANN401
    return connection.sql(text, params=given or None).to_arrow_reader(BATCH_ROWS)


def _confine(connection: duckdb.DuckDBPyConnection, limits: SqlLimits) -> None:
    """Leave the connection nothing but memory, and lock that."""
    for setting, value in (
        ("memory_limit", f"'{limits.memory_bytes}B'"),
        ("threads", limits.threads),
        ("temp_directory", "''"),
        ("secret_directory", "''"),  # else it tells where the user's home is
        ("allow_persistent_secrets", "false"),
        ("autoinstall_known_extensions", "false"),
        ("autoload_known_extensions", "false"),
        ("allow_community_extensions", "false"),
        ("python_enable_replacements", "false"),
        ("errors_as_json", "true"),
        ("TimeZone", "'UTC'"),
        ("enable_external_access", "false"),
        ("lock_configuration", "true"),
    ):
        if value is not None:
            connection.execute(f"SET {setting} = {value}")


def _check_text(text: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
        raise InvalidInput(
            f"the SQL text has {len(text):,} characters",
            code="sql_too_long",
            hint=f"the limit is {TEXT_BYTES_MAX:,} bytes; join with a dataset instead",
        )
    for number, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise InvalidInput(
                f"character {number + 1} of the SQL text is {character!a}, which no text can hold",
                code="sql_invalid",
                hint="bind bytes as a parameter",
            )


def _checked(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    parameters: Mapping[str, Any] | Sequence[Any],
) -> _Statement:
    """Return what the text reads, or raise InvalidInput where it does anything else."""
    statements = connection.extract_statements(text)
    if not statements:
        raise InvalidInput("there is no SQL in the text", code="sql_empty", hint="write SELECT …")
    if len(statements) > 1:
        raise _refused(f"the text holds {len(statements)} statements", "give them one by one")
    [found] = statements
    kind = found.type.name
    if kind not in {"SELECT", "EXPLAIN"}:
        what = text.split(maxsplit=1)[0].rstrip(";(").upper()
        if kind == "MULTI":
            raise _refused(
                f"{what} without the values of its columns is refused",
                "name them: FROM (PIVOT t ON c IN (1, 2) USING sum(x))",
            )
        raise _refused(f"{what[:32]} is refused", "only SELECT and EXPLAIN of a SELECT are run")
    is_plan = kind == "EXPLAIN"
    tree = _tree_of_explained(connection, text) if is_plan else _tree(connection, text)
    tables, local = _relations_in(tree)
    _check_parameters(found.named_parameters, parameters)
    return _Statement(text, tuple(tables), frozenset(local), is_plan)


def _tree_of_explained(connection: duckdb.DuckDBPyConnection, text: str) -> Any:  # noqa: ANN401
    """Return the tree of what an EXPLAIN explains: only a SELECT, as ANALYZE would run it."""
    for pattern in _EXPLAIN:
        match = pattern.match(text)
        rest = text[match.end() :] if match else ""
        with suppress(InvalidInput, duckdb.Error):
            if [each.type.name for each in connection.extract_statements(rest)] == ["SELECT"]:
                return _tree(connection, rest)
    raise _refused("EXPLAIN of what is no SELECT is refused", "explain a SELECT")


def _tree(connection: duckdb.DuckDBPyConnection, text: str) -> Any:  # noqa: ANN401 - JSON
    """Return the parser's tree of a SELECT."""
    row = connection.execute("SELECT json_serialize_sql($text)", {"text": text}).fetchall()[0]
    try:
        tree = json.loads(row[0])
    except RecursionError as error:
        raise InvalidInput(
            "the SQL text is nested too deeply",
            code="sql_too_deep",
            hint="bind a list, or join with a dataset, instead of long chains of operators",
        ) from error
    if tree["error"]:
        raise _refused(str(tree.get("error_message", "the statement"))[:200], "write a SELECT")
    return tree


def _relations_in(tree: Any) -> tuple[list[tuple[str, str]], list[str]]:  # noqa: ANN401 - JSON
    """Return (schema, name) of every table in a tree, and the names that it defines.

    Raises:
        InvalidInput: `sql_refused`, for what is no reading of tables.
    """
    tables, local, waiting = [], [], [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        if not isinstance(node, dict):
            continue
        waiting += node.values()
        kind = node.get("type")
        if kind == "BASE_TABLE":
            schema = node["schema_name"] or node["catalog_name"]
            tables.append((str(schema), str(node["table_name"])))
        elif kind == "SHOW_REF" and node["show_type"] not in _SHOWS:
            raise _refused("SHOW of anything but one table is refused", _DATASETS_HINT)
        elif kind == "TABLE_FUNCTION":
            _check_table_function(str(node["function"]["function_name"]).lower())
        elif isinstance(kind, str) and _CHANGES.fullmatch(kind):
            raise _refused(f"{kind.partition('_')[0]} is refused", "only SELECT is run")
        if isinstance(defined := node.get("cte_map"), dict):
            local += [str(each["key"]) for each in defined["map"]]
    return tables, local


def _check_table_function(name: str) -> None:
    if name not in TABLE_FUNCTIONS:
        raise _refused(
            f"the table function {name[:64]} is refused",
            f"data come from the catalog: FROM {quoted('name of a dataset')}",
        )


def _check_parameters(names: set[str], parameters: Mapping[str, Any] | Sequence[Any]) -> None:
    """Raise InvalidInput unless the text takes exactly these parameters."""
    by_order = not _is_mapping(parameters)
    given = {str(n + 1) for n in range(len(parameters))} if by_order else set(parameters)
    if names == given:
        return
    told = []
    if missing := ", ".join(f"${name}" for name in sorted(names - given)):
        told.append(f"{missing} of the SQL text not given")
    if excess := ", ".join(f"${name}" for name in sorted(given - names)):
        told.append(f"{excess} not in the SQL text")
    raise InvalidInput(
        f"parameters: {'; '.join(told)}",
        code="sql_parameters_differ",
        hint="give every $name of the text, and nothing else; values for ? in their order",
    )


def _register(
    connection: duckdb.DuckDBPyConnection, statement: _Statement, relations: Relations
) -> tuple[str, ...]:
    """Open what the statement reads, under its names; return the datasets' own."""
    for schema, name in statement.tables:
        _check_schema(schema, name, relations)
    names = {name for schema, name in statement.tables if not schema}
    data = {name: found for name in sorted(names) if (found := relations.open(name)) is not None}
    for name in sorted(names - data.keys() - statement.local):
        if _FILE.search(name):  # DuckDB would look for a file of this name
            raise _absent(name, relations)
    by_fold: dict[str, str] = {}
    for name in sorted(names):
        other = by_fold.setdefault(name.lower(), name)
        if other != name and (other in data or name in data):
            raise InvalidInput(
                f"the SQL text names {quoted(other)} and {quoted(name)}, which differ only in "
                "case: SQL takes them for one",
                code="sql_names_differ_in_case",
                hint="give one of them another name with --table",
            )
    for name, found in data.items():
        connection.register(name, found)
    wanted = {name.lower() for schema, name in statement.tables if schema.lower() == ABOUT_SCHEMA}
    connection.execute(f"CREATE SCHEMA {quoted(ABOUT_SCHEMA)}")
    for name in sorted(wanted & relations.about.keys()):
        # No dataset has a space in its name.
        hidden = f"{ABOUT_SCHEMA} {name}"
        connection.register(hidden, relations.about[name]())
        view = f"{quoted(ABOUT_SCHEMA)}.{quoted(name)}"
        connection.execute(f"CREATE VIEW {view} AS SELECT * FROM {quoted(hidden)}")  # noqa: S608 - both are ours, and quoted
    return tuple(relations.aliases.get(name, name) for name in data)


def _check_schema(schema: str, name: str, relations: Relations) -> None:
    """Raise NotFound for a table of a schema in which there are none."""
    folded = schema.lower()
    if not schema or folded in _ENGINE_SCHEMAS:
        return
    shown = f"{schema}.{name}" if len(schema) + len(name) <= 64 else f"{schema[:64]}…"
    if folded == ABOUT_SCHEMA:
        if name.lower() not in relations.about:
            raise NotFound(f"there is no table {shown}", code="dataset_absent", hint=_DATASETS_HINT)
        return
    names = set(relations.names())
    meant = [each for each in (f"{schema}/{name}", name) if each in names]
    hint = f"write FROM {quoted(meant[0])}" if meant else _DATASETS_HINT
    raise NotFound(
        f"there is no table {shown}: datasets are in no schema, and a name with a slash stands "
        "in double quotes",
        code="dataset_absent",
        hint=hint,
    )


def _batches(
    work: Worker,
    reader: Any,  # noqa: ANN401 - pyarrow's
    text: str,
    relations: Relations,
    read: Sequence[str],
) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a reader, with our errors for its."""
    while True:
        with _translating(text, relations, read=read):
            batch = work.call(next, reader, None)
        if batch is None:
            return
        if batch.num_rows:
            yield batch


@contextmanager
def _translating(
    text: str, relations: Relations, *, shift: int = 0, read: Sequence[str] = ()
) -> Iterator[None]:
    """Turn the engine's errors into ours; those of pyarrow carry its words.

    Args:
        text: What the user wrote.
        relations: For names that are close.
        shift: How many bytes the engine was given before it.
        read: Names of the datasets that are read.
    """
    try:
        yield
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        if _INTERRUPTED.search(str(error)):
            raise KeyboardInterrupt from error  # came while the engine asked for a schema
        raise _translated(error, text, relations, shift, read) from error
    except RuntimeError as error:
        if "interrupted" in str(error).lower():
            raise KeyboardInterrupt from error  # Ctrl-C, as the engine reports it
        raise
    except RecursionError as error:
        raise Internal(str(error), code="query_failed", hint="simplify the SQL text") from error


def _translated(
    error: Exception, text: str, relations: Relations, shift: int, read: Sequence[str]
) -> WorkbenchError:
    """Return what an error of the engine means for whoever wrote the text."""
    told = _told(error)
    kind, reason = told.get("exception_type", ""), told["exception_message"].splitlines()[0]
    if kind in {"", "IO"} or "reading the stream" in reason:
        of = f" of {' or '.join(map(quoted, read[:8]))}" if read else ""
        return Corruption(
            f"stored data{of} cannot be read: {reason}",
            code="data_unreadable",
            hint="`workbench catalog verify` names the damaged object",
        )
    if kind in {"INTERNAL", "FATAL"}:
        return Internal(
            f"the query engine failed: {reason}",
            code="query_failed",
            hint="this is a bug; run again with --debug and report it",
        )
    if kind == "Out of Memory":
        return InvalidInput(
            f"the query needs more memory than it may have: {reason}",
            code="sql_memory_exceeded",
            hint="read fewer columns or rows, leave ORDER BY out, or give it more memory",
        )
    if kind == "Permission":
        return _refused(reason, "data come from the catalog, by the names of datasets")
    if told.get("type") == "Table":
        return _absent(told["name"], relations)
    place = _place(text, told.get("position"), shift)
    hint = _hint_for(text, told)
    return InvalidInput(f"SQL{place}: {reason}", code="sql_invalid", hint=hint)


def _told(error: Exception) -> dict[str, str]:
    """Return the fields of an error of the engine: it was told to write JSON."""
    message = str(error)
    with suppress(ValueError):
        fields = json.loads(message[message.index("{") :])
        if isinstance(fields, dict) and "exception_message" in fields:
            return {str(name): str(value) for name, value in fields.items()}
    kind = type(error).__name__.removesuffix("Exception") if isinstance(error, duckdb.Error) else ""
    return {"exception_type": kind, "exception_message": message or type(error).__name__}


def _place(text: str, position: str | None, shift: int) -> str:
    """Return where in the text a byte is, in words."""
    if position is None or not position.isdecimal():
        return ""
    before = text.encode()[: max(int(position) - shift, 0)].decode(errors="ignore")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return f", line {line}, column {column}"


def _hint_for(text: str, told: Mapping[str, str]) -> str:
    if told.get("candidates") and told.get("error_subtype") == "COLUMN_NOT_FOUND":
        return f"close: {told['candidates']}"
    if told.get("exception_type") == "Parser" and re.search(
        r"\bfrom\s+[\w.-]+[/-]", text, re.IGNORECASE
    ):
        return 'names of datasets stand in double quotes: FROM "cluster/load_window"'
    lines = told["exception_message"].splitlines()[1:]
    return " ".join(line.strip() for line in lines if line.strip())[:200]


def _absent(name: str, relations: Relations) -> NotFound:
    shown = name if len(name) <= 64 else f"{name[:64]}…"
    close = difflib.get_close_matches(name[:256], relations.names(), n=3)
    return NotFound(
        f"there is no dataset {shown!r}",
        code="dataset_absent",
        hint=f"close: {', '.join(map(quoted, close))}"
        if close
        else "`workbench catalog ls` lists all",
    )


def _refused(what: str, hint: str) -> InvalidInput:
    return InvalidInput(what, code="sql_refused", hint=hint)


def _is_mapping(parameters: Mapping[str, Any] | Sequence[Any]) -> bool:
    return hasattr(parameters, "keys")
