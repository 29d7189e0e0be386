"""Queries over a catalog: users' SQL, the package's texts by name, and the same as frames.

    catalog (now, or `at`) ── relations_of ──▶ open_sql ──▶ rows, a table, or a file
              └── data of a named query ──▶ frames ──▶ Polars

A table in a text is a dataset of that name, unless `tables` gives the name another meaning; the
table `catalog.datasets` lists the datasets. Nothing is opened but what a text reads, so a catalog
may hold any number of datasets.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa

from workbench.errors import Corruption, InvalidArgument
from workbench.model.tables import TIME
from workbench.model.times import parse_time
from workbench.query import frames
from workbench.query.named import (
    LOAD_RELATION,
    ROUTE_RELATION,
    VERSION_RELATION,
    NamedQuery,
    named_query,
)
from workbench.query.open_sql import (
    Relations,
    SqlAnswer,
    SqlLimits,
    SqlRows,
    open_sql,
    quoted,
    run_sql,
)
from workbench.query.parameters import parse_parameters
from workbench.session.exporting_state import find_export, parse_read_ts, route_name, version_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    import polars as pl
    import pyarrow.dataset as ds

    from workbench.catalog.catalog import Catalog
    from workbench.model.manifest import Manifest

DATASETS_TABLE: Final = "datasets"
DATASETS: Final = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("objects", pa.int64(), nullable=False),
        pa.field("created_at", TIME, nullable=False),
        pa.field("updated_at", TIME, nullable=False),
        pa.field("dataset_id", pa.string(), nullable=False),
    ]
)


class Readable(Protocol):
    """A catalog as queries need it: as it is now, or as it was."""

    def list(self, prefix: str = "") -> list[Manifest]:
        """Return the datasets whose name starts with `prefix`, by name."""

    def dataset(self, name: str) -> ds.Dataset:
        """Return one as a pyarrow dataset whose pages are checked."""


@dataclass(frozen=True, slots=True)
class Question:
    """A text with all that it takes, ready to run.

    Attributes:
        text: One statement that reads.
        parameters: By name, or in their order.
        tables: Datasets by the name that the text uses, where that is another.
        query: Whose text it is; None for a user's own.
    """

    text: str
    parameters: dict[str, Any] | list[Any] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    query: NamedQuery | None = None


def sql(  # noqa: PLR0913 - a query and its bounds: each has a default
    catalog: Readable,
    text: str,
    parameters: Mapping[str, Any] | Sequence[Any] = (),
    *,
    tables: Mapping[str, str] | None = None,
    rows_max: int | None = None,
    limits: SqlLimits | None = None,
) -> SqlAnswer:
    """Return the answer of one SELECT over the catalog's datasets.

    Args:
        catalog: As it is, or `as_it_was`.
        text: The SELECT; a dataset is named in double quotes.
        parameters: By name for `$name`, in their order for `?`.
        tables: Datasets by other names that the text uses for them.
        rows_max: After so many rows the query is stopped; None for all.
        limits: None for the defaults.

    Raises:
        InvalidInput: The text does not run, or does more than read.
        NotFound: A dataset that is not there.
        Corruption: Data that are not what was written.
    """
    relations = relations_of(catalog, tables or {})
    return run_sql(text, relations, parameters, rows_max=rows_max, limits=limits)


@contextmanager
def rows_of(
    catalog: Readable, question: Question, *, limits: SqlLimits | None = None
) -> Iterator[SqlRows]:
    """Run a question and give its rows as they come; errors as of `sql`."""
    relations = relations_of(catalog, question.tables)
    with open_sql(question.text, relations, question.parameters, limits=limits) as rows:
        yield rows


def frame_of(catalog: Readable, question: Question) -> pl.DataFrame:
    """Return the answer of a named query by Polars and pyarrow instead of SQL.

    Raises:
        InvalidArgument: `engine_needs_query`: a text of a user's own.
    """
    if question.query is None:
        raise InvalidArgument(
            "only named queries are answered without DuckDB",
            code="engine_needs_query",
            hint="name one with --query; --list-queries lists them",
        )
    names = [question.tables[name] for name in question.query.relations]
    data = [catalog.dataset(name) for name in names]
    try:
        return _FRAMES[question.query.name](*data, **dict(question.parameters))
    except OSError as error:
        raise Corruption(
            f"stored data of {' or '.join(map(quoted, names))} cannot be read: {error}",
            code="data_unreadable",
            hint="`workbench catalog verify` names the damaged object",
        ) from error


def as_it_was(catalog: Catalog, at: str | int | datetime | None) -> Readable:
    """Return the catalog as of a sequence or time; as it is where `at` is None.

    Args:
        catalog: Opened.
        at: A sequence (also as digits), a time, or RFC 3339.
    """
    if at is None:
        return catalog
    if isinstance(at, str):
        at = int(at) if at.isascii() and at.isdecimal() else parse_time(at)
    return catalog.at(at)


def named_question(  # noqa: PLR0913 - where its relations come from: each has a default
    catalog: Readable,
    name: str,
    given: Iterable[str] = (),
    *,
    cluster: str | None = None,
    export: str | None = None,
    tables: Mapping[str, str] | None = None,
) -> Question:
    """Return the package's query of that name with its parameters and datasets.

    Args:
        catalog: Where the export is looked up.
        name: Of the query.
        given: Parameters as users write them; types are known.
        cluster: Whose routes and load windows are read.
        export: Which export's versions and routes; also gives read_ts and catalog_version.
        tables: Datasets by relation, before any other.

    Raises:
        InvalidArgument: `query_unknown`, `parameter_invalid`, `parameter_missing`,
            `relation_missing`.
        NotFound: `export_absent`.
    """
    query = named_query(name)
    kinds = {key: each.kind.value for key, each in query.parameters.items()}
    parsed = parse_parameters(given, kinds, parse_hlc=parse_read_ts)
    if not isinstance(parsed, dict):
        if parsed:
            raise InvalidArgument(
                f"the parameters of {name} have names",
                code="parameter_invalid",
                hint=f"they are {', '.join(query.parameters)}",
            )
        parsed = {}
    chosen: dict[str, str] = {}
    values = {key: each.default for key, each in query.parameters.items() if not each.required}
    if cluster is not None:
        chosen |= {each: f"{cluster}/{each}" for each in (ROUTE_RELATION, LOAD_RELATION)}
    if export is not None:
        found = find_export(catalog, export)  # type: ignore[arg-type]  # lists and gets, no more
        chosen |= {VERSION_RELATION: version_name(export), ROUTE_RELATION: route_name(export)}
        told = {"read_ts": found.read_ts, "catalog_version": found.catalog_version}
        values |= {key: value for key, value in told.items() if key in query.parameters}
    chosen |= tables or {}
    values |= parsed
    _check_given(query, values, set(tables or {}))
    _check_relations(query, chosen)
    used = {relation: chosen[relation] for relation in query.relations}
    return Question(query.sql, values, used, query)


def user_question(
    text: str, given: Iterable[str] = (), *, tables: Mapping[str, str] | None = None
) -> Question:
    """Return a user's text with its parameters as users write them."""
    return Question(text, parse_parameters(given, parse_hlc=parse_read_ts), tables or {})


def relations_of(catalog: Readable, tables: Mapping[str, str]) -> Relations:
    """Return what a text can read of a catalog.

    Args:
        catalog: As it is, or as it was.
        tables: Datasets by other names.
    """

    def open_dataset(name: str) -> ds.Dataset | None:
        if name in tables:
            return catalog.dataset(tables[name])
        # Sorted by name, so the name itself comes first.
        found = catalog.list(name)[:1]
        return catalog.dataset(name) if found and found[0].name == name else None

    def names() -> list[str]:
        return [*tables, *(manifest.name for manifest in catalog.list())]

    about = {DATASETS_TABLE: lambda: datasets_table(catalog)}
    return Relations(open_dataset, names, about, tables)


def datasets_table(catalog: Readable) -> pa.Table:
    """Return one row per dataset: the table `catalog.datasets`."""
    manifests = catalog.list()
    columns = {
        "name": [manifest.name for manifest in manifests],
        "rows": [manifest.row_count for manifest in manifests],
        "bytes": [sum(ref.size for ref in manifest.objects) for manifest in manifests],
        "objects": [len(manifest.objects) for manifest in manifests],
        "created_at": [manifest.created_at for manifest in manifests],
        "updated_at": [manifest.updated_at for manifest in manifests],
        "dataset_id": [str(manifest.dataset_id) for manifest in manifests],
    }
    return pa.table(columns, schema=DATASETS)


def _check_given(query: NamedQuery, values: Mapping[str, Any], tables: set[str]) -> None:
    """Raise InvalidArgument unless a named query is given what it takes, and nothing else."""
    for name in values:
        if name not in query.parameters:
            raise InvalidArgument(
                f"{query.name} has no parameter {name!r}",
                code="parameter_invalid",
                hint=f"it has {', '.join(query.parameters)}",
            )
    for name, parameter in query.parameters.items():
        if name not in values:
            export = " or --export NAME" if name in {"read_ts", "catalog_version"} else ""
            raise InvalidArgument(
                f"{query.name} needs {name}: {parameter.about}",
                code="parameter_missing",
                hint=f"add -p {name}=…{export}",
            )
    if unknown := sorted(tables - set(query.relations)):
        raise InvalidArgument(
            f"{query.name} reads no {unknown[0]!r}",
            code="relation_missing",
            hint=f"it reads {', '.join(query.relations)}",
        )


def _check_relations(query: NamedQuery, tables: Mapping[str, str]) -> None:
    ways = {
        VERSION_RELATION: "--export NAME",
        ROUTE_RELATION: "--cluster NAME or --export NAME",
        LOAD_RELATION: "--cluster NAME",
    }
    for relation in query.relations:
        if relation not in tables:
            raise InvalidArgument(
                f"{query.name} reads {relation}, and nothing says which",
                code="relation_missing",
                hint=f"add {ways[relation]}, or --table {relation}=DATASET",
            )


# By the name of the query, over its relations in their order.
_FRAMES: Final[Mapping[str, Callable[..., pl.DataFrame]]] = {
    "as-of": frames.as_of,
    "key-history": frames.key_history,
    "owner-at-version": frames.owner_at_version,
    "owner-at-time": frames.owner_at_time,
    "route-bytes": frames.route_bytes,
    "load-per-route": frames.load_per_route,
    "load-heat": frames.load_heat,
}
