"""Run a named SQL text over Arrow data, in a DuckDB that can reach nothing else.

The connection has no external access and a locked configuration, so no text, whoever wrote it,
reads a file or loads an extension. Data come in as pyarrow datasets or tables under fixed
names; values come in as bound parameters, never as text.

A text that reads `event` (time, key, load) is completed by the text that makes events out of
the dataset at hand: `WITH event AS (event_of_access.sql) atoms.sql`. What that text reads in
turn comes before it, each relation from the file of its own name: `_RELATIONS`.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import duckdb

from workbench.errors import Corruption, Internal, InvalidInput, WorkbenchError
from workbench.query.interrupting import worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    import pyarrow.dataset as ds


# What a text reads beside datasets, in the order in which it is made.
_RELATIONS: Final = {
    "atoms_of_load_window": ("window_load", "bucket"),
    "event_of_load_window": ("window_load", "bucket"),
}


def sql_text(name: str, *, events: str | None = None) -> str:
    """Return the package's SQL text of that name.

    Args:
        name: File name in `sql/`, without `.sql`.
        events: The text that makes the relation `event`, for texts that read it.
    """
    # Not materialized: the rows of many windows are read twice rather than kept in memory.
    relations = [
        f"{relation} AS NOT MATERIALIZED (\n{_file(relation)})"
        for relation in _RELATIONS.get(events or name, ())
    ]
    if events is not None:
        relations.append(f"event AS (\n{_file(events)})")
    head = "WITH " + ",\n".join(relations) + "\n" if relations else ""
    return head + _file(name)


def run(
    text: str, data: Mapping[str, pa.Table | ds.Dataset], parameters: Mapping[str, Any]
) -> pa.Table:
    """Return the answer of one of the package's SQL texts.

    Args:
        text: From `sql_text`.
        data: What the text reads, by the name that it uses.
        parameters: Every `$name` of the text, and nothing else.

    Raises:
        Corruption: the data behind a dataset cannot be read.
        InvalidInput: a sum does not fit 64 bits.
        Internal: the text does not run; it is ours, so it is our bug.
    """
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table, content in data.items():
            connection.register(table, content)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            with worker(connection) as work:
                return work.call(_answer, connection, text, dict(parameters))
        except (duckdb.Error, OSError) as error:
            raise _translated(error) from error
        except RuntimeError as error:
            if "interrupted" in str(error).lower():
                raise KeyboardInterrupt from error  # Ctrl-C, as the engine reports it
            raise


def _answer(
    connection: duckdb.DuckDBPyConnection, text: str, parameters: dict[str, Any]
) -> pa.Table:
    return connection.sql(text, params=parameters).to_arrow_table()


def _file(name: str) -> str:
    return (resources.files("workbench.query") / "sql" / f"{name}.sql").read_text("utf-8")


def _translated(error: Exception) -> WorkbenchError:
    """Return what an error of the engine means for the caller."""
    reason = str(error).splitlines()[0]
    if isinstance(error, duckdb.OutOfRangeException | duckdb.ConversionException):
        return InvalidInput(
            f"the load cannot be summed: {reason}",
            code="load_overflow",
            hint="ask for a shorter time, or for another objective",
        )
    if isinstance(error, OSError) or "reading the stream" in reason:
        return Corruption(
            f"stored load cannot be read: {reason}",
            code="data_unreadable",
            hint="`workbench catalog verify` names the damaged object; collect it again",
        )
    return Internal(
        f"a query failed: {reason}",
        code="query_failed",
        hint="this is a bug; run again with --debug and report it",
    )
