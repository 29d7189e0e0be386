"""Export: all groups of a cluster as of one read_ts, into the catalog, resumable.

    cluster ── routes_at(read_ts) ──▶ export/<name>/route     ─┐ one record
                                      export/<name>/version   ─┘ status exporting, no rows
            ── export(group 1) ──▶ rows ─▶ part of 64 MiB ─┐
            ── export(group 2) ──▶ rows ─▶ part ───────────┼─▶ one record per part,
            ── …               ──▶                         ┘   with the cursor behind it
                                      count again ─▶ status complete

- One lane per group streams rows and gathers them; one thread encodes and commits the parts, in
  the order in which they come. A lane waits for its own last part before it hands over the next,
  so at most two parts per lane are in memory.
- The same export goes on after any end: at the same read_ts, behind the last committed cursor.
  Every part is bound to the number of rows that were there, so two that export under one name
  never store a row twice; the second is refused.
- What a cluster tells is checked before it is stored (`exporting_rows`).

Not here: restoring. Deduplication entries of clients are not exported: docs/export.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

import pyarrow as pa

from workbench.catalog.catalog import Write
from workbench.catalog.upkeep import remove
from workbench.errors import (
    Conflict,
    InvalidArgument,
    InvalidInput,
    OutcomeUnknown,
    Storage,
    Unavailable,
    WorkbenchError,
)
from workbench.model.tables import VERSION, check_table, routes_to_table
from workbench.model.times import rfc3339
from workbench.ports.connector import Exporter, RouteSource
from workbench.report.words import counted
from workbench.session.collect import check_cluster
from workbench.session.collect_live import cluster_of_url
from workbench.session.exporting_check import count_again
from workbench.session.exporting_lanes import (
    PAUSES_S,
    Counter,
    Lanes,
    Patience,
    silent_tally,
)
from workbench.session.exporting_rows import (
    LAYOUT,
    Place,
    first_place,
    last_place,
    owned_spans,
    problem_of,
)
from workbench.session.exporting_state import (
    COMPLETE,
    EXPORTING,
    FORMAT,
    Export,
    GroupState,
    check_export_name,
    default_name,
    exported_routes,
    exports,
    find_export,
    hlc_text,
    route_name,
    version_name,
)
from workbench.session.exporting_stream import stream
from workbench.session.exporting_target import telling_of_others, too_old
from workbench.session.system import SystemClock
from workbench.session.wiring import open_catalog, open_routes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from typing import Protocol

    from workbench.catalog.catalog import Catalog
    from workbench.model.keys import Span
    from workbench.ports.connector import VersionChunk
    from workbench.session.exporting_lanes import Tally

    class Source(RouteSource, Exporter, Protocol):
        """What is exported: it shows its routes and tells its versions."""

    TallyProgress = Callable[[str, Tally], None]


PART_BYTES: Final = 64 * 2**20
GOES_ON: Final = "`workbench export --resume {name}` goes on where this stopped"
# With these a cluster says that it keeps no history as far back as an export's read_ts.
TOO_OLD: Final = frozenset({"snapshot_too_old", "read_ts_too_old", "read_ts_below_safe_point"})
# With this, that it had no routes then.
NOT_BEGUN: Final = "catalog_not_begun"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to export, and how.

    Attributes:
        name: Of the export; None takes an unfinished one of the cluster, else makes one up.
        resume: Name of an export that must be there; not with `name`.
        cluster: Name of the cluster; None takes it from the URL.
        read_ts: As of when (HLC); None is now.
        check: Count the stored rows again at the end.
        threads: Groups at once; None: one per core.
        part_bytes: About how many bytes of rows one object holds.
        pauses_s: Between tries that gain nothing.
    """

    name: str | None = None
    resume: str | None = None
    cluster: str | None = None
    read_ts: int | None = None
    check: bool = True
    threads: int | None = None
    part_bytes: int = PART_BYTES
    pauses_s: Sequence[float] = PAUSES_S


@dataclass(frozen=True, slots=True)
class ExportAnswer:
    """What came of an export.

    Attributes:
        export: As it is in the catalog now.
        target: URL of the cluster; None where it was not asked.
        routes: Number of routes.
        new_rows: Rows that this run stored.
        resumed: An earlier run had begun it.
        existing: An earlier run had completed it; this one did nothing.
        checked: The rows were counted again by this run.
        seconds: How long this run took.
        warnings: What the user should know.
    """

    export: Export
    target: str | None
    routes: int
    new_rows: int
    resumed: bool
    existing: bool
    checked: bool
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def rows_per_second(self) -> float | None:
        """Rate of this run; None where it stored no row."""
        return self.new_rows / self.seconds if self.new_rows and self.seconds > 0 else None


def export_cluster(
    target_url: str,
    catalog_url: str,
    options: ExportOptions,
    progress: TallyProgress = silent_tally,
) -> ExportAnswer:
    """Export a cluster, or go on with an export of it.

    Args:
        target_url: Of a system for whose scheme a connector is installed.
        catalog_url: Where the catalog is; there must be one.
        options: What, and how.
        progress: Is told how far it is.

    Raises:
        InvalidArgument: the URL, a name or the read_ts is not understood; the system exports
            nothing (`export_unsupported`).
        NotFound: `catalog_absent`; `export_absent` for an export to resume; `catalog_not_begun`
            for a read_ts before the cluster's routes, with when they begin.
        Conflict: `cluster_mismatch`, `export_exists`, `export_busy`, `export_ambiguous`.
        InvalidInput: `export_rows_invalid`: the cluster told something impossible.
        Unavailable: a group does not answer; what was committed stays, and it can go on.
        Storage: the store refused, as for a full disk; likewise.
        Corruption: `export_count_mismatch`: what is stored is not what was told.
    """
    started = monotonic()
    if options.name is not None and options.resume is not None:
        raise InvalidArgument(
            "an export is either made under a name or resumed",
            code="export_options_conflict",
            hint="give --name or --resume, not both",
        )
    for name in filter(None, (options.name, options.resume)):
        check_export_name(name)
    label = check_cluster(options.cluster or cluster_of_url(target_url))
    catalog = open_catalog(catalog_url)
    with telling_of_others(target_url):
        source = open_exporter(target_url)
    try:
        with telling_of_others(target_url):
            export, resumed = _choose(catalog, source, target_url, label, options)
        before, existing, checked = export.rows, export.complete, False
        if not existing:
            checked = _Run(catalog, source, export, options).work(progress)
            export = find_export(catalog, export.name)
    finally:
        source.close()
    warnings = (f"export {export.name!r} was complete before: nothing was exported",)
    return ExportAnswer(
        export=export,
        target=target_url,
        routes=len(exported_routes(catalog, export).routes),
        new_rows=export.rows - before,
        resumed=resumed,
        existing=existing,
        checked=checked,
        seconds=monotonic() - started,
        warnings=warnings if existing else (),
    )


def abandon(catalog_url: str, name: str) -> Export:
    """Remove an export that is not complete, and return what it was.

    Raises:
        NotFound: `catalog_absent`, `export_absent`.
        InvalidInput: `export_complete`: that one is removed as any dataset.
    """
    catalog = open_catalog(catalog_url)
    export = find_export(catalog, name)
    if export.complete:
        raise InvalidInput(
            f"export {name!r} is complete: it is not abandoned",
            code="export_complete",
            hint="remove it with "
            f"`workbench catalog rm {version_name(name)} {route_name(name)} --yes`",
        )
    there = {manifest.name for manifest in catalog.list(f"export/{name}/")}
    with catalog.keeping() as keeper:
        remove(keeper, [n for n in (version_name(name), route_name(name)) if n in there])
    return export


def open_exporter(url: str) -> Source:
    """Open a system that can be exported; InvalidArgument (`export_unsupported`) for another."""
    source = open_routes(url)
    if not isinstance(source, Exporter) or not source.capabilities().export:
        source.close()
        raise InvalidArgument(
            f"the connector for {url!r} cannot export",
            code="export_unsupported",
            hint="name a cluster of bundled nodes, as node://HOST:PORT; other systems bring "
            "backup tools of their own",
        )
    return cast("Source", source)


def _choose(
    catalog: Catalog, source: Source, target_url: str, label: str, options: ExportOptions
) -> tuple[Export, bool]:
    """Return the export to work on, and whether an earlier run had begun it."""
    cluster_id = source.snapshot().cluster_id
    name = options.resume or options.name
    known = exports(catalog)
    if name is None and options.read_ts is None:
        open_ones = [
            each.name
            for each in known
            if not each.complete and (each.cluster, each.cluster_id) == (label, cluster_id)
        ]
        if len(open_ones) > 1:
            raise Conflict(
                f"{len(open_ones)} exports of cluster {label!r} are not finished: "
                f"{', '.join(open_ones)}",
                code="export_ambiguous",
                hint="choose one with --resume, drop one with --abandon, or give a new --name",
            )
        name = next(iter(open_ones), None)
    if name is None and options.read_ts is not None:
        name = default_name(label, options.read_ts)
    if options.resume is not None or (name is not None and name in {e.name for e in known}):
        assert name is not None
        export = find_export(catalog, name)
        _check_same(export, cluster_id, target_url, options)
        return export, True
    return _begin(catalog, source, target_url, label, name, options), False


def _check_same(
    export: Export, cluster_id: str | None, target_url: str, options: ExportOptions
) -> None:
    """Raise Conflict where an export is of another cluster or moment than what is asked for."""
    if export.cluster_id != cluster_id:
        raise Conflict(
            f"export {export.name!r} is of cluster {export.cluster_id}, {target_url} is "
            f"{cluster_id}",
            code="cluster_mismatch",
            hint="name the same cluster with --target, or choose another --name",
        )
    if options.read_ts is not None and options.read_ts != export.read_ts:
        raise Conflict(
            f"export {export.name!r} is as of {export.read_ts} ({export.read_at}), not "
            f"{options.read_ts}",
            code="export_exists",
            hint="leave --read-ts out to go on with it, or choose another --name",
        )


def _begin(  # noqa: PLR0913, PLR0917 - one step of export_cluster
    catalog: Catalog,
    source: Source,
    target_url: str,
    label: str,
    name: str | None,
    options: ExportOptions,
) -> Export:
    """Choose the read_ts, and keep it with the routes in one record, before any row."""
    now = source.timestamp()
    read_ts = now if options.read_ts is None else options.read_ts
    if read_ts > now:
        raise InvalidArgument(
            f"the read_ts {hlc_text(read_ts)} ({read_ts}) lies in the cluster's future: it is at "
            f"{hlc_text(now)} ({now})",
            code="read_ts_in_future",
            hint="leave --read-ts out for now; a time without a zone is read as UTC",
        )
    try:
        routes = source.routes_at(read_ts)
    except WorkbenchError as error:
        if error.code not in TOO_OLD | {NOT_BEGUN}:
            raise
        raise too_old(source, target_url, read_ts, now, error) from error
    if not routes.routes:
        raise InvalidInput(
            f"{target_url} had no routes at {hlc_text(read_ts)}",
            code="routes_empty",
            hint="choose a later --read-ts",
        )
    name = check_export_name(name or default_name(label, read_ts))
    properties = {
        "format": FORMAT,
        "read_ts": str(read_ts),
        "read_at": hlc_text(read_ts),
        "cluster": label,
        "source": target_url,
        "catalog_version": str(routes.catalog_version),
        "groups": ",".join(map(str, sorted({route.group for route in routes.routes}))),
        **({} if routes.cluster_id is None else {"cluster_id": routes.cluster_id}),
    }
    empty, table = VERSION.empty_table(), routes_to_table(routes)
    own = {**properties, "status": EXPORTING}
    try:
        catalog.commit(
            [
                Write(version_name(name), empty, "create", own, layout=LAYOUT),
                Write(route_name(name), table, "create", properties),
            ]
        )
    except Conflict as error:
        if error.code != "dataset_exists":
            raise
        raise _busy(name) from error
    return find_export(catalog, name)


@dataclass(slots=True)
class _Lane:
    """What one lane holds: rows that are in no part yet, and the part that is being committed."""

    group: int
    spans: tuple[Span, ...]
    state: GroupState
    tables: list[pa.Table] = field(default_factory=list)
    size: int = 0
    last: Place | None = None
    part: Future[None] | None = None


class _Run:
    """One run of one export."""

    def __init__(
        self, catalog: Catalog, source: Source, export: Export, options: ExportOptions
    ) -> None:
        self._catalog = catalog
        self._source = source
        self._export = export
        self._options = options
        self._routes = exported_routes(catalog, export)
        self._rows = export.rows
        self._lanes = Lanes(options.threads)
        done = sum(state.done for state in export.groups.values())
        self._counter = Counter(len(export.groups), groups_done=done)

    def work(self, progress: TallyProgress) -> bool:
        """Bring every group to its end; return whether the rows were counted again."""
        try:
            self._stream(progress)
            return self._finish(progress)
        except WorkbenchError as error:
            if isinstance(error, Unavailable | Storage | OutcomeUnknown) or error.code in TOO_OLD:
                self._explain(error)
            raise

    def _stream(self, progress: TallyProgress) -> None:
        left = [state for state in self._export.groups.values() if not state.done]

        def tick() -> None:
            progress("exporting", self._counter.tally())

        with ThreadPoolExecutor(1, "commit") as committer:
            jobs = [partial(self._group, committer, state) for state in left]
            self._lanes.run(jobs, tick, self._source.close)
        tick()

    def _finish(self, progress: TallyProgress) -> bool:
        """Count again what is stored, and say that the export is complete."""
        export = find_export(self._catalog, self._export.name)
        if self._options.check:
            tally = self._counter.tally()
            progress("checking", replace(tally, groups_done=len(export.groups)))
            count_again(self._catalog.store, export, self._options.threads)
        checked = "yes" if self._options.check else "no"
        self._append(
            VERSION.empty_table(),
            {
                "status": COMPLETE,
                "checked": checked,
                "completed_at": rfc3339(SystemClock().now()),
            },
        )
        return self._options.check

    def _group(self, committer: ThreadPoolExecutor, state: GroupState) -> None:
        """Stream one group to its end, through whatever passes."""
        lane = _Lane(state.group, owned_spans(self._routes.routes, state.group), state)
        if state.cursor is not None:
            lane.last = Place(state.cursor.key, state.cursor.commit_ts)
        told = stream(
            self._source,
            lane.group,
            self._export.read_ts,
            lanes=self._lanes,
            patience=Patience(self._lanes, self._options.pauses_s),
            after=state.cursor,
        )
        for chunk in told:
            self._take(committer, lane, chunk)
        if lane.part is not None:
            lane.part.result()
        self._counter.add(groups_done=1)

    def _take(self, committer: ThreadPoolExecutor, lane: _Lane, chunk: VersionChunk) -> None:
        """Add a chunk to what the lane gathers; hand over a part where it is large enough."""
        state, table = lane.state, check_table(chunk.table, VERSION, _what(lane))
        if table.num_rows:
            lane.tables.append(table)
            lane.size += table.nbytes
            state = replace(state, rows=state.rows + table.num_rows)
        lane.state = replace(state, cursor=chunk.cursor or state.cursor, done=chunk.done)
        if lane.size < self._options.part_bytes and not chunk.done:
            return
        rows = pa.concat_tables(lane.tables or [VERSION.empty_table()]).combine_chunks()
        self._check(lane, rows)
        lane.state = replace(lane.state, parts=lane.state.parts + bool(rows.num_rows))
        if lane.part is not None:
            lane.part.result()
        lane.part = committer.submit(self._commit, lane.state, rows)
        lane.tables, lane.size = [], 0

    def _check(self, lane: _Lane, rows: pa.Table) -> None:
        """Raise InvalidInput where what the group told breaks a rule."""
        problem = problem_of(rows, lane.group, lane.spans, self._export.read_ts)
        if problem is None and rows.num_rows:
            if lane.last is not None and not lane.last.before(first_place(rows)):
                problem = "it begins before the cursor that it was asked to go on from"
            lane.last = last_place(rows)
        if problem is not None:
            raise InvalidInput(
                f"{_what(lane)} cannot be accepted: {problem}",
                code="export_rows_invalid",
                hint="check which program serves the address",
            )

    def _commit(self, state: GroupState, rows: pa.Table) -> None:
        """Store a part and the cursor behind it; in the committer's thread, and in order."""
        self._lanes.look()
        try:
            self._append(rows, dict([state.property()]))
        except BaseException as error:
            self._lanes.stop(error)  # at once: how many rows there are now is not known
            raise
        self._rows += rows.num_rows
        self._counter.add(rows.num_rows, rows.nbytes)

    def _append(self, rows: pa.Table, properties: dict[str, str]) -> None:
        name = version_name(self._export.name)
        write = Write(name, rows, "append", properties, expected_rows=self._rows, layout=LAYOUT)
        try:
            self._catalog.commit([write])
        except Conflict as error:
            if error.code != "dataset_changed":
                raise
            raise _busy(self._export.name) from error

    def _explain(self, error: WorkbenchError) -> None:
        """Add to an error how far the export is, and how to go on."""
        name = self._export.name
        export = self._export
        with suppress(WorkbenchError):
            self._catalog.refresh()
            export = find_export(self._catalog, name)
        done = sum(state.done for state in export.groups.values())
        error.message = (
            f"{error.message}; {counted(export.rows, 'row')} and {done} of "
            f"{counted(len(export.groups), 'group')} of export {name!r} are stored"
        )
        if error.code in TOO_OLD:
            error.hint = (
                f"the cluster keeps no history of {export.read_at} any more: drop it with "
                f"`workbench export --abandon {name}`, and export anew"
            )
        else:
            hint = f"{error.hint}; " if error.hint and isinstance(error, Storage) else ""
            error.hint = hint + GOES_ON.format(name=name)


def _what(lane: _Lane) -> str:
    return f"the export of group {lane.group}"


def _busy(name: str) -> Conflict:
    return Conflict(
        f"another process writes export {name!r}",
        code="export_busy",
        hint="wait for it, or choose another --name",
    )
