"""`workbench sql`: SELECT over the catalog's datasets, and the package's queries by name."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from workbench.cli.common import catalog_option, emit, json_option, print_table, warn
from workbench.errors import InvalidArgument
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from workbench.query.open_sql import SqlLimits, SqlRows
    from workbench.session.querying import Question, Readable

FORMATS: Final = ("table", "json", "jsonl", "csv", "parquet", "arrow")
BINARY: Final = ("parquet", "arrow")
# What is read by people or whole is bounded unless they say otherwise.
ROWS_SHOWN: Final = 1_000
DATASETS_SHOWN: Final = 20
TEXT_BYTES_MAX: Final = 1 << 20
EXAMPLES: Final = (
    "SELECT * FROM catalog.datasets ORDER BY bytes DESC",
    'SELECT route_id, sum(reads) FROM "CLUSTER/load_window" GROUP BY ALL ORDER BY 2 DESC',
    'SELECT max(catalog_version) FROM "CLUSTER/route"',
)


@dataclass(frozen=True, slots=True)
class Output:
    """How and where the rows are written.

    Attributes:
        format: One of FORMATS.
        out: The file; None for stdout.
        rows_max: After so many rows the query is stopped; None for all.
    """

    format: str
    out: Path | None
    rows_max: int | None


@click.command()
@click.argument("text", required=False)
@catalog_option
@click.option(
    "--file",
    "-f",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Read the SQL from this file.",
)
@click.option("--query", "query", metavar="NAME", help="Run a query of the package by its name.")
@click.option("--list-queries", is_flag=True, help="List these, with what they take.")
@click.option("--show-sql", is_flag=True, help="With --query: print its SQL, do not run it.")
@click.option(
    "--param",
    "-p",
    "given",
    multiple=True,
    metavar="NAME[:TYPE]=VALUE",
    help="Bind $NAME. TYPE: text (default), int, float, bool, time, hlc, key, hex, base64, null; "
    "for --query it is known. For ? write :TYPE=VALUE or =VALUE, in their order.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="NAME=DATASET",
    help="Let the SQL call this dataset NAME.",
)
@click.option("--cluster", metavar="NAME", help="With --query: whose routes and load it reads.")
@click.option("--export", metavar="NAME", help="With --query: which export it reads.")
@click.option("--at", metavar="SEQ|TIME", help="The catalog as it was.")
@click.option(
    "--engine",
    type=click.Choice(["duckdb", "polars"]),
    default="duckdb",
    show_default=True,
    help="With --query: polars answers the same, faster on a large export.",
)
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), help="Default: by --out, else table."
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="The same as --format csv.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Stop after N rows; {ROWS_SHOWN:,} for table and json, else all.",
)
@click.option(
    "--memory-mib",
    type=click.IntRange(min=64),
    default=2_048,
    show_default=True,
    help="How much memory DuckDB may use; it writes nothing to disk.",
)
@click.option("--threads", type=click.IntRange(min=1, max=256), help="Default: one per processor.")
def sql(
    text: str | None,
    catalog_url: str,
    file: Path | None,
    query: str | None,
    list_queries: bool,
    show_sql: bool,
    given: tuple[str, ...],
    tables: tuple[str, ...],
    cluster: str | None,
    export: str | None,
    at: str | None,
    engine: str,
    format_: str | None,
    as_json: bool,
    as_csv: bool,
    out: Path | None,
    limit: int | None,
    memory_mib: int,
    threads: int | None,
) -> None:
    """Ask the catalog by SQL: every dataset is a table, named in double quotes.

    TEXT is one SELECT, in DuckDB's SQL; - reads it from stdin. Nothing but the catalog's data can
    be read, and nothing written. catalog.datasets lists the datasets. Without TEXT, a few
    examples and the datasets are shown.

    \b
    Examples:
      workbench sql 'SELECT count(*) FROM "cp/load_window"'
      workbench sql 'SELECT * FROM "cp/access" WHERE key = $k' -p k:key=user/17
      workbench sql 'SELECT * FROM "cp/access" WHERE op = ? LIMIT ?' -p =get -p :int=5
      workbench sql --query load-per-route --cluster cp --json
      workbench sql --query as-of --export nightly --engine polars --out state.parquet
    """
    from workbench.query.open_sql import SqlLimits
    from workbench.session.querying import as_it_was
    from workbench.session.wiring import open_catalog

    chosen = _format(format_, out, as_json=as_json, as_csv=as_csv)
    _check_one(text=text, file=file, query=query, list_queries=list_queries)
    aliases = _aliases(tables)
    if list_queries:
        _list_queries(as_json=chosen.startswith("json"))
        return
    if show_sql:
        _show_sql(query)
        return
    catalog = as_it_was(open_catalog(catalog_url), at)
    if text is None and file is None and query is None:
        if chosen != "table":
            raise InvalidArgument(
                "there is no SQL to run", code="usage", hint="see `workbench sql --help`"
            )
        _introduce(catalog)
        return
    question = _question(catalog, _text(text, file), query, given, aliases, cluster, export)
    bounded = ROWS_SHOWN if chosen in {"table", "json"} else None
    output = Output(chosen, out, bounded if limit is None else limit)
    limits = SqlLimits(memory_bytes=memory_mib << 20, threads=threads)
    with _rows(catalog, question, engine, limits) as rows:
        _write(rows, output)


def _check_one(**ways: Any) -> None:
    """Refuse two ways to say what is to run."""
    used = [name for name, value in ways.items() if value]
    if len(used) > 1:
        shown = ["TEXT" if name == "text" else f"--{name.replace('_', '-')}" for name in used]
        raise InvalidArgument(
            f"{' and '.join(shown)} cannot be given together", code="usage", hint="choose one"
        )


def _format(chosen: str | None, out: Path | None, *, as_json: bool, as_csv: bool) -> str:
    """Return the format that the options name, alone or together."""
    named = {
        *([chosen] if chosen else []),
        *(["json"] if as_json else []),
        *(["csv"] if as_csv else []),
    }
    if len(named) > 1:
        raise InvalidArgument(
            f"the formats {', '.join(sorted(named))} cannot be given together",
            code="usage",
            hint="choose one",
        )
    by_name = out.suffix.removeprefix(".") if out else ""
    found = named.pop() if named else (by_name if by_name in FORMATS else "")
    if not found and out is not None:
        raise InvalidArgument(
            f"--out {str(out)!r} does not tell a format",
            code="sql_format_unknown",
            hint=f"end it with {', '.join(f'.{each}' for each in FORMATS[1:])}, or add --format",
        )
    if found == "table" and out is not None:
        raise InvalidArgument(
            "a table is for the terminal",
            code="sql_format_unknown",
            hint="leave --out out, or choose another --format",
        )
    if found in BINARY and out is None and sys.stdout is not None and sys.stdout.isatty():
        raise InvalidArgument(
            f"{found} is not for the terminal",
            code="sql_format_unknown",
            hint="add --out FILE, or lead it into a pipe",
        )
    if out is not None and by_name in FORMATS and by_name != found:
        raise InvalidArgument(
            f"--out {str(out)!r} is {by_name} by its name, and --format says {found}",
            code="sql_format_unknown",
            hint=f"leave one of them out, or end the name with .{found}",
        )
    return found or "table"


def _aliases(tables: Iterable[str]) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for each in tables:
        name, equals, dataset = each.partition("=")
        if not (name and equals and dataset) or name in aliases:
            raise InvalidArgument(
                f"--table {each[:64]!r} is not understood",
                code="table_alias_invalid",
                hint="write NAME=DATASET, each NAME once",
            )
        aliases[name] = dataset
    return aliases


def _text(text: str | None, file: Path | None) -> str | None:
    """Return the SQL from where it is."""
    from workbench.session.files import read_file

    if text != "-" and file is None:
        return text
    data = (
        sys.stdin.buffer.read(TEXT_BYTES_MAX + 1)
        if file is None
        else read_file(file, bytes_max=TEXT_BYTES_MAX)
    )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"{'stdin' if file is None else file} is no UTF-8 text: {error}",
            code="sql_invalid",
            hint="save it as UTF-8",
        ) from error


def _question(
    catalog: Readable,
    text: str | None,
    query: str | None,
    given: Sequence[str],
    aliases: Mapping[str, str],
    cluster: str | None,
    export: str | None,
) -> Question:
    from workbench.session.querying import named_question, user_question

    if query is not None:
        return named_question(catalog, query, given, cluster=cluster, export=export, tables=aliases)
    if cluster is not None or export is not None:
        raise InvalidArgument(
            "--cluster and --export are for --query",
            code="usage",
            hint="name datasets in the SQL, or with --table NAME=DATASET",
        )
    return user_question(text or "", given, tables=aliases)


def _rows(
    catalog: Readable, question: Question, engine: str, limits: SqlLimits
) -> AbstractContextManager[SqlRows]:
    from workbench.query.open_sql import SqlRows
    from workbench.session.querying import frame_of, rows_of

    if engine == "duckdb":
        return rows_of(catalog, question, limits=limits)
    table = frame_of(catalog, question).to_arrow()
    return nullcontext(SqlRows(table.schema, iter(table.to_batches()), is_plan=False))


def _write(rows: SqlRows, output: Output) -> None:
    """Write the rows where and how they are wanted."""
    from workbench.cli.sql_output import Sink, csv_lines, json_lines, write_arrow, write_parquet
    from workbench.session.files import replacing

    bound = Bound(rows.batches, output.rows_max)
    if output.out is not None:
        with replacing(output.out) as path:
            count = _write_file(rows, bound, output.format, path)
        click.echo(f"wrote {output.out}: {counted(count, 'row')}")
    elif output.format == "table":
        _print_rows(rows, bound)
        return
    elif output.format == "json":
        emit("sql", _fields(rows, bound))
        return
    elif output.format in BINARY:
        write = write_parquet if output.format == "parquet" else write_arrow
        write(Sink(_echo_bytes), bound, rows.schema)
    else:
        lines = csv_lines if output.format == "csv" else json_lines
        for piece in lines(bound, rows.schema):
            click.echo(piece, nl=False)
    if bound.truncated:
        first = (
            "this is the first row"
            if bound.count == 1
            else f"these are the first {counted(bound.count, 'row')}"
        )
        warn(f"{first}; there are more")


def _echo_bytes(content: bytes) -> None:
    """Write bytes to stdout; the errors of click.echo are known as those of the output."""
    click.echo(content, nl=False)


class Bound:
    """The first batches, and whether there was more.

    Attributes:
        count: Rows so far.
        truncated: Whether rows were left out.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], rows_max: int | None) -> None:
        self._batches = batches
        self._rows_max = rows_max
        self.count = 0
        self.truncated = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield them."""
        for batch in self._batches:
            room = batch.num_rows if self._rows_max is None else self._rows_max - self.count
            self.truncated = batch.num_rows > room
            self.count += min(batch.num_rows, room)
            if room:
                yield batch.slice(0, room)
            if self.truncated:
                return


def _write_file(rows: SqlRows, bound: Bound, format_: str, path: Path) -> int:
    """Write all rows to a file; return how many."""
    from workbench.cli.sql_output import csv_lines, json_lines, write_arrow, write_parquet

    if format_ == "parquet":
        return write_parquet(path, bound, rows.schema)
    if format_ == "arrow":
        return write_arrow(path, bound, rows.schema)
    with path.open("w", encoding="utf-8", newline="") as file:
        if format_ == "json":
            json.dump({"schema": "workbench.sql/1", **_fields(rows, bound)}, file, indent=2)
        else:
            lines = csv_lines if format_ == "csv" else json_lines
            for piece in lines(bound, rows.schema):
                file.write(piece)
    return bound.count


def _fields(rows: SqlRows, bound: Bound) -> dict[str, Any]:
    """Return the JSON of `workbench sql`; rows are lists, as two columns may have one name."""
    from workbench.cli.sql_output import plain, values_of

    found = [[plain(value) for value in row] for batch in bound for row in values_of(batch)]
    return {
        "columns": [{"name": each.name, "type": str(each.type)} for each in rows.schema],
        "rows": found,
        "row_count": len(found),
        "truncated": bound.truncated,
    }


def _print_rows(rows: SqlRows, bound: Bound) -> None:
    """Print the rows as a table, and say where they are not all."""
    from workbench.cli.sql_output import cell, is_number, values_of

    if rows.is_plan:
        for batch in bound:
            for row in values_of(batch):
                click.echo(row[-1])
        return
    shown = [[cell(value) for value in row] for batch in bound for row in values_of(batch)]
    sides = ["right" if is_number(each.type) else "left" for each in rows.schema]
    names = [cell(name) for name in rows.schema.names]
    print_table(counted(len(shown), "row"), list(zip(names, sides, strict=True)), shown)
    if bound.truncated:
        click.echo("these are not all: --limit takes more of them")


def _list_queries(*, as_json: bool) -> None:
    """List the package's queries with what they read and take."""
    from workbench.query.named import QUERIES

    if as_json:
        emit(
            "sql_queries",
            {
                "queries": [
                    {
                        "name": query.name,
                        "about": query.about,
                        "relations": list(query.relations),
                        "parameters": [
                            {
                                "name": name,
                                "type": each.kind.value,
                                "required": each.required,
                                "about": each.about,
                            }
                            for name, each in query.parameters.items()
                        ],
                        "sql": query.sql,
                    }
                    for query in QUERIES
                ]
            },
        )
        return
    print_table(
        "Queries; a parameter in brackets may be left out",
        [("name", "left"), ("reads", "left"), ("parameters", "left"), ("answers", "left")],
        [
            [
                query.name,
                ", ".join(query.relations),
                ", ".join(
                    name if each.required else f"[{name}]"
                    for name, each in query.parameters.items()
                ),
                query.about,
            ]
            for query in QUERIES
        ],
    )
    click.echo("workbench sql --query NAME --show-sql prints the SQL of one")


def _show_sql(query: str | None) -> None:
    from workbench.query.named import named_query

    if query is None:
        raise InvalidArgument(
            "--show-sql shows the SQL of a --query", code="usage", hint="add --query NAME"
        )
    click.echo(named_query(query).sql, nl=False)


def _introduce(catalog: Readable) -> None:
    """Show examples and the datasets that there are."""
    from workbench.cli.sql_output import cell
    from workbench.query.open_sql import quoted

    manifests = catalog.list()
    suffix = "/load_window"
    clusters = [m.name.removesuffix(suffix) for m in manifests if m.name.endswith(suffix)]
    click.echo("Examples:")
    for each in EXAMPLES:
        click.echo(f"  workbench sql '{each.replace('CLUSTER', (clusters or ['CLUSTER'])[0])}'")
    click.echo("  workbench sql --list-queries")
    click.echo("\nTEXT of - reads stdin. See also `workbench sql --help` and docs/queries.md.\n")
    shown = manifests[:DATASETS_SHOWN]
    left = len(manifests) - len(shown)
    more = f"; {left:,} more in catalog.datasets" if left else ""
    print_table(
        f"{counted(len(manifests), 'dataset')}{more}",
        [("name in SQL", "left"), ("rows", "right")],
        [[quoted(each.name), cell(each.row_count)] for each in shown],
    )
