"""A catalog as a user holds it: what there is in it, now or as it was, and SQL over it.

    wb.open(place) ──▶ Catalog ── datasets, routes, load, plans, approvals, jobs, exports ──▶ Result
                          │ ── sql, query ─────────────────────────────────────────────────▶ Result
                          └─ at(point) ──▶ Catalog, read-only, as it was

Nouns are methods of the catalog; what is done to them (collect, hot, plan, …) are functions of
`wb`, which take it. A catalog is asked for what others committed before every answer, so a cell
that is run again sees what another process has collected meanwhile; one that was opened by `at`
never changes.

Use one Catalog from one thread at a time; several of the same place are fine.
"""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from workbench.api.places import Moment, catalog_url, moment_text
from workbench.api.results import Result
from workbench.api.show import counted, printable
from workbench.api.words import in_python, methods_in_python
from workbench.catalog.catalog import Catalog as OpenedCatalog
from workbench.errors import InvalidArgument, NotFound
from workbench.model.tables import APPROVAL, RECEIPT, routes_to_table, table_to_routes
from workbench.model.times import parse_time, rfc3339
from workbench.session.approval import APPROVAL_PREFIX
from workbench.session.cluster import ClusterView, cluster_names, open_cluster
from workbench.session.exporting_state import exports
from workbench.session.plans import PLAN_PREFIX, resolve_plan
from workbench.session.querying import (
    as_it_was,
    datasets_table,
    frame_of,
    named_question,
    rows_of,
    sql,
)
from workbench.session.receipts import list_jobs
from workbench.session.wiring import create_catalog, open_catalog

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from workbench.catalog.travel import CatalogAt

ROWS_MAX = 1_000_000


@methods_in_python
class Catalog:
    """One catalog, opened; make it with `wb.open`.

    Examples:
        >>> catalog = wb.open()
        >>> catalog.clusters
        ['shop']
        >>> [row["name"] for row in catalog.datasets("shop/")]
        ['shop/access', 'shop/load_window', 'shop/route']
        >>> catalog.sql('SELECT count(*) AS accesses FROM "shop/access"')[0]
        {'accesses': 6000}

    Attributes:
        url: Where it is.
    """

    def __init__(self, url: str, opened: OpenedCatalog | CatalogAt) -> None:
        self.url = url
        self._opened = opened

    @property
    def seq(self) -> int:
        """The number of the newest record that is known here, 0 for none."""
        return self._opened.seq

    @property
    def committed_at(self) -> datetime | None:
        """When that record was committed, UTC; None before the first."""
        return self._opened.committed_at

    @property
    def read_only(self) -> bool:
        """Whether it is a catalog as it was."""
        return not isinstance(self._opened, OpenedCatalog)

    @property
    def clusters(self) -> list[str]:
        """Names of the clusters that have load here, ascending."""
        return cluster_names(self.readable())

    def refresh(self) -> int:
        """Read what others committed since, and return the newest record's number."""
        return self.readable().seq

    def at(self, point: int | str | datetime) -> Catalog:
        """Return the catalog as it was: after a record, or at a time; it can only be read.

        Examples:
            >>> catalog = wb.open()
            >>> catalog.at(0).datasets().rows.num_rows
            0

        Args:
            point: A sequence (from 0, before the first record), a time as text, or an aware
                datetime.

        Raises:
            NotFound: `history_trimmed`: so far back nothing is kept.
            InvalidInput: `point_invalid`, `time_invalid`.
        """
        if isinstance(point, datetime):
            point = parse_time(moment_text(point) or "")
        was: Any = as_it_was(self.writable(), point)
        return Catalog(self.url, was)

    def datasets(self, prefix: str = "") -> Result:
        """Return what is in the catalog: a row per dataset, by name.

        Args:
            prefix: Only names that start with it, as "plan/".
        """
        readable = self.readable()
        table = datasets_table(readable)
        if prefix:
            names = table.column("name").to_pylist()
            table = table.filter(pa.array([name.startswith(prefix) for name in names], pa.bool_()))
        title = f"{counted(table.num_rows, 'dataset')} of {self.url} at sequence {readable.seq}"
        return Result(table, title, shown=("name", "rows", "bytes", "updated_at"))

    def read(self, name: str) -> Result:
        """Return all rows of one dataset; the objects' hashes are checked first.

        Raises:
            NotFound: `dataset_absent`, with names that are close.
        """
        table = self.readable().read(name)
        return Result(table, f"{name}: {counted(table.num_rows, 'row')}")

    def properties(self, name: str) -> dict[str, str]:
        """Return what was recorded with a dataset: source, assumptions, time that it covers."""
        return dict(self.readable().get(name).properties)

    def check(self) -> Result:
        """Read every record and object and check hashes and chain; no row is good news.

        Examples:
            >>> len(wb.open().check())
            0
        """
        found = self.writable().verify()
        rows = [{"key": each.key, "reason": each.reason} for each in found]
        schema = pa.schema([pa.field("key", pa.string()), pa.field("reason", pa.string())])
        told = f"{counted(len(rows), 'problem')}; `workbench catalog repair` says what can be done"
        return Result(
            pa.Table.from_pylist(rows, schema=schema), told if rows else "no problem was found"
        )

    def routes(self, cluster: str | None = None, *, version: int | None = None) -> Result:
        """Return the routes of a cluster: the newest, or those of an older catalog version.

        Examples:
            >>> wb.open().routes().columns[:4]
            ['route_id', 'start', 'end', 'group']

        Args:
            cluster: Which; needed where the catalog holds several.
            version: The route catalog's version; every split raises it by one. Versions that
                were never collected are not there.

        Raises:
            NotFound: `cluster_absent`, `load_absent`, `catalog_version_absent`.
        """
        name = self.view(cluster).name
        table = self.readable().read(f"{name}/route")
        if version is not None:
            held = table.column("catalog_version").to_pylist()
            table = table.filter(pa.array([each == version for each in held], pa.bool_()))
            if table.num_rows == 0:
                known = ", ".join(map(str, sorted(set(held))))
                raise NotFound(
                    f"cluster {name!r} was never collected at catalog version {version}",
                    code="catalog_version_absent",
                    hint=f"there are {known}",
                )
        snapshot = table_to_routes(table)
        found = routes_to_table(snapshot)
        order = ["route_id", "start", "end", "group", "state", "parent_route_id"]
        rest = [each for each in found.column_names if each not in order]
        title = (
            f"{counted(found.num_rows, 'route')} of {name} at catalog version "
            f"{snapshot.catalog_version}, collected {rfc3339(snapshot.taken_at)}"
        )
        return Result(found.select(order + rest), title, shown=tuple(order))

    def load(
        self, cluster: str | None = None, *, since: Moment = None, until: Moment = None
    ) -> Result:
        """Return load windows: reads, writes and bytes by bucket of a route and by time.

        Examples:
            >>> wb.open().load(until="10%").columns[3:8]
            ['bucket_start', 'bucket_end', 'group', 'reads', 'writes']

        Null means not measured, never zero; a missing row is not an idle bucket.

        Args:
            cluster: Which; needed where the catalog holds several.
            since: From then on: RFC 3339, an aware datetime, or "25%" of the recorded time.
            until: Up to then.
        """
        view = self.view(cluster)
        start, end = view.window(moment_text(since), moment_text(until))
        table = view.load.load_windows(start, end)
        first = ("window_start", "window_end", "route_id", "bucket_start", "bucket_end")
        rest = tuple(name for name in table.column_names if name not in {*first, "cluster"})
        title = f"load of {view.name}, {rfc3339(start)} to {rfc3339(end)}"
        return Result(
            table.select(["window_start", "window_end", "route_id", *first[3:], *rest]),
            title,
            warnings=view.warnings,
        )

    def plans(self, cluster: str | None = None) -> Result:
        """Return the plans that were recorded, newest first; `wb.find_plan` opens one.

        Args:
            cluster: Only plans for this one.
        """
        rows = []
        for manifest in self.readable().list(PLAN_PREFIX):
            known = manifest.properties
            if cluster in {None, known.get("cluster")}:
                rows.append(
                    {
                        "plan_id": manifest.name.removeprefix(PLAN_PREFIX),
                        "cluster": known.get("cluster"),
                        "splits": int(known.get("splits", "0")),
                        "hottest_route": known.get("hottest_route"),
                        "window": known.get("window"),
                        "created_at": manifest.created_at,
                    }
                )
        rows.sort(key=lambda row: (row["created_at"], row["plan_id"]), reverse=True)
        return Result(pa.Table.from_pylist(rows, schema=_PLANS), _newest_first(len(rows), "plan"))

    def approvals(self, plan: str) -> Result:
        """Return who decided what about a plan, oldest first: the whole history.

        Args:
            plan: Its id, or enough of its first digits.
        """
        readable = self.readable()
        found = resolve_plan(readable, plan)
        name = APPROVAL_PREFIX + found.plan_id
        names = [manifest.name for manifest in readable.list(name)]
        table = readable.read(name) if name in names else APPROVAL.empty_table()
        return Result(
            table,
            f"decisions on plan {found.plan_id}",
            shown=("action_id", "decision", "by", "at"),
        )

    def jobs(self, cluster: str | None = None, *, plan: str | None = None) -> Result:
        """Return what was executed: the newest try of every action, newest first.

        Args:
            cluster: Only on this cluster.
            plan: Only of this plan: its id, or enough of its first digits.
        """
        readable = self.readable()
        plan_id = None if plan is None else resolve_plan(readable, plan).plan_id
        rows = [
            {
                **{field: getattr(job, field) for field in RECEIPT.names if hasattr(job, field)},
                "start": job.span.start,
                "end": job.span.end,
                "status": job.status.value,
                "job_id": job.job_id,
                "seconds": job.seconds,
            }
            for job in list_jobs(readable, cluster=cluster, plan_id=plan_id)
        ]
        extra = [pa.field("job_id", pa.string()), pa.field("seconds", pa.float64())]
        table = pa.Table.from_pylist(rows, schema=pa.schema([*RECEIPT, *extra]))
        shown = (
            "job_id,cluster,status,split_key,left_route_id,right_route_id,catalog_version,"
            "seconds,by,error"
        )
        return Result(table, _newest_first(len(rows), "job"), shown=tuple(shown.split(",")))

    def exports(self) -> Result:
        """Return the exports that there are; `wb.restore` brings one into an empty cluster."""
        readable = self.readable()
        rows = [
            {
                "name": each.name,
                "cluster": each.cluster,
                "read_at": each.read_at,
                "read_ts": each.read_ts,
                "catalog_version": each.catalog_version,
                "complete": each.complete,
                "rows": each.rows,
                "bytes": each.size,
            }
            for each in exports(readable)
        ]
        return Result(pa.Table.from_pylist(rows, schema=_EXPORTS), counted(len(rows), "export"))

    def sql(self, text: str, *given: Any, rows_max: int = ROWS_MAX, **named: Any) -> Result:  # noqa: ANN401 - whatever SQL can bind
        """Return the answer of one SELECT in DuckDB's SQL; a dataset is named in double quotes.

        Values are bound, never written into the text: `?` takes them in their order, `$name` by
        name. Nothing but the catalog's data can be read, and nothing is written. The table
        `catalog.datasets` lists the datasets.

        Examples:
            >>> catalog = wb.open()
            >>> catalog.sql('SELECT op, count(*) AS n FROM "shop/access" WHERE op = ? GROUP BY op',
            ...             "write").columns
            ['op', 'n']
            >>> catalog.sql('SELECT $k AS key', k=b"user/17")[0]
            {'key': b'user/17'}

        Args:
            text: The SELECT.
            given: Values for `?`.
            rows_max: After so many rows the query is stopped, with a warning.
            named: Values for `$name`.

        Raises:
            InvalidInput: The text does not run, or does more than read; with line and column.
            NotFound: A dataset that is not there, with names that are close.
        """
        if given and named:
            raise InvalidArgument(
                "some values have names and some have none",
                code="parameter_invalid",
                hint="use $name throughout, or ? throughout",
            )
        answer = sql(self.readable(), text, named or given, rows_max=rows_max)
        cut = f"these are the first {counted(rows_max, 'row')}; rows_max takes more of them"
        return Result(answer.table, "SQL", warnings=(cut,) if answer.truncated else ())

    def query(
        self,
        name: str,
        *,
        cluster: str | None = None,
        export: str | None = None,
        tables: Mapping[str, str] | None = None,
        engine: str = "duckdb",
        **parameters: Any,  # noqa: ANN401 - by the kind that the query says
    ) -> Result:
        """Return the answer of one of the package's own queries; `wb.Catalog.queries` lists them.

        Examples:
            >>> catalog = wb.open()
            >>> catalog.query("load-per-route", cluster="shop").columns[0]
            'route_id'

        Args:
            name: As "as-of", "key-history", "owner-at-version", "owner-at-time", "route-bytes".
            cluster: Whose routes and load it reads.
            export: Which export it reads; also tells read_ts and catalog_version.
            tables: Datasets by relation, in the place of those.
            engine: "duckdb", or "polars", which answers the same and is faster on much.
            parameters: What it takes: keys as bytes or text, times as text or aware datetimes.

        Raises:
            InvalidArgument: `query_unknown`, `parameter_missing`, `parameter_invalid`,
                `relation_missing`.
        """
        if engine not in {"duckdb", "polars"}:
            raise InvalidArgument(
                f"there is no engine {engine!r}",
                code="engine_unknown",
                hint='choose "duckdb" or "polars"',
            )
        readable = self.readable()
        texts = [f"{key}={_parameter(value)}" for key, value in parameters.items()]
        question = named_question(
            readable, name, texts, cluster=cluster, export=export, tables=tables
        )
        if engine == "polars":
            return Result(frame_of(readable, question).to_arrow(), name)
        with rows_of(readable, question) as rows:
            return Result(pa.Table.from_batches(list(rows.batches), rows.schema), name)

    @staticmethod
    def queries() -> Result:
        """Return the queries that `query` knows, with what each reads and takes."""
        from workbench.query.named import QUERIES  # noqa: PLC0415 - the list alone needs it

        rows = [
            {
                "name": each.name,
                "about": each.about,
                "reads": ", ".join(each.relations),
                "takes": ", ".join(each.parameters),
            }
            for each in QUERIES
        ]
        return Result(pa.Table.from_pylist(rows), "queries by name")

    def view(self, cluster: str | None = None) -> ClusterView:
        """Return a cluster as the layers below see it: routes, load, extent.

        Raises:
            NotFound: `cluster_absent`, or `load_absent` where there is none at all.
            InvalidArgument: `cluster_ambiguous`: there are several; name one.
        """
        readable = self.readable()
        return open_cluster(readable, cluster)

    def readable(self) -> OpenedCatalog:
        """Return the catalog of the layers below, fresh: for what this class does not offer.

        One that was opened by `at` can be read as others, and not be written.
        """
        if isinstance(self._opened, OpenedCatalog):
            self._opened.refresh()
        return cast("OpenedCatalog", self._opened)

    def writable(self) -> OpenedCatalog:
        """Return the same where it can be written.

        Raises:
            InvalidArgument: `catalog_read_only`: it is a catalog as it was.
        """
        if not isinstance(self._opened, OpenedCatalog):
            raise InvalidArgument(
                f"this is the catalog as it was at sequence {self.seq}: it can only be read",
                code="catalog_read_only",
                hint="use the one that wb.open returned",
            )
        self._opened.refresh()
        return self._opened

    def __repr__(self) -> str:
        """Return where it is and what it holds."""
        names = cluster_names(cast("OpenedCatalog", self._opened))
        was = " (read-only)" if self.read_only else ""
        return f"Catalog({self.url!r}, seq={self.seq}, clusters={names}){was}"

    def _repr_html_(self) -> str:
        return f"<p>catalog {escape(printable(self.url))}</p>{self.datasets()._repr_html_()}"


@in_python
def open(  # noqa: A001 - called as wb.open
    catalog: str | Path | os.PathLike[str] | Catalog | None = None, *, create: bool = False
) -> Catalog:
    """Open a catalog: a folder, file://…, s3://BUCKET/PREFIX and the like, or memory://NAME.

    Where none is named it is that of the command line: WORKBENCH_CATALOG, else
    ./.workbench/catalog. Opening takes three requests and the newest records, however much is in
    it. For s3:// the usual AWS_… variables tell credentials and endpoint.

    Examples:
        >>> wb.open().url
        './.workbench/catalog'
        >>> wb.open("memory://example", create=True).clusters
        []

    Args:
        catalog: Where it is; a Catalog comes back as it is.
        create: Make it where there is none; otherwise that is an error, since readers never
            create one. `wb.collect` makes one by itself.

    Raises:
        NotFound: `catalog_absent`.
        Corruption: A record is damaged; nothing is loaded.
        Storage: The store cannot be reached, or cannot hold a catalog.
    """
    if isinstance(catalog, Catalog):
        return catalog
    url = catalog_url(catalog)
    try:
        return Catalog(url, open_catalog(url))
    except NotFound as error:
        if not create or error.code != "catalog_absent":
            raise
    return Catalog(url, create_catalog(url))


def _newest_first(count: int, noun: str) -> str:
    return counted(count, noun) + (", newest first" if count > 1 else "")


def _parameter(value: Any) -> str:  # noqa: ANN401 - whatever a query takes
    """Return a value as users write it on a command line."""
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, datetime):
        return moment_text(value) or ""
    return str(value)


_TIME = pa.timestamp("us", tz="UTC")
_PLANS = pa.schema(
    [
        pa.field("plan_id", pa.string()),
        pa.field("cluster", pa.string()),
        pa.field("splits", pa.int64()),
        pa.field("hottest_route", pa.string()),
        pa.field("window", pa.string()),
        pa.field("created_at", _TIME),
    ]
)
_EXPORTS = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("cluster", pa.string()),
        pa.field("read_at", pa.string()),
        pa.field("read_ts", pa.uint64()),
        pa.field("catalog_version", pa.uint64()),
        pa.field("complete", pa.bool_()),
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64()),
    ]
)
