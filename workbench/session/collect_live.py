"""Collect from a running cluster: what is new of its load windows and routes, into the catalog.

    connector ──load(since)──▶ windows newer than the newest collected,
                               with their heavy keys and key samples ────┐
              ──snapshot()───▶ routes, where their version is new ───────┼─▶ one record
              ──versions()───▶ routes of every version in between ───────┘

- Every catalog version since the one collected last is recorded, where the source tells of them;
  versions that the cluster no longer keeps are told as a gap.
- Appended, never rewritten: rows of every catalog version stay, and a window is stored once. The
  record is bound to the number of rows that was read before; where another collector was first,
  what is new is worked out again.
- A cluster's name belongs to one cluster, by its own id, and to one window length.
- One object per round; where many small ones have come together, they are merged.
- Where a part of the cluster does not answer, what the others measured is collected, and who is
  missing is told and kept as a warning: of a route that nobody tells of, nothing was measured. What
  that part has measured is not collected later, since a window is stored once.
- Between the newest window collected and the oldest that the cluster still keeps, nothing was
  measured. Such a gap is told, and kept as a warning with the data; no row is made up for it.

`follow` does it again and again. Not here: traces (`collect`), and what is done with the load.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from workbench.catalog.catalog import Write
from workbench.errors import Conflict, Corruption, InvalidArgument, NotFound, Unavailable
from workbench.model.load import check_hot_keys, check_key_samples, check_load
from workbench.model.tables import HOT_KEY, KEY_SAMPLE, LOAD_WINDOW, routes_to_table
from workbench.model.times import parse_time, rfc3339
from workbench.ports.connector import LoadSource, VersionSource
from workbench.ports.counters import CounterSource, counter_answer
from workbench.report.words import counted
from workbench.session.collect import (
    TIME_COLUMNS,
    CollectedDataset,
    check_cluster,
    cluster_of,
)
from workbench.session.progress import Progress, silent
from workbench.session.upkeep import compact_if_many
from workbench.session.wiring import open_or_create_catalog, open_routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from workbench.catalog.catalog import Catalog
    from workbench.model.manifest import Manifest
    from workbench.model.routes import RouteSnapshot
    from workbench.ports.connector import LoadAnswer, RouteSource

LOOPBACK_CLUSTER: Final = "local"
WARNINGS_KEPT: Final = 20
# Beside the windows, by dataset; of the same time.
KEY_KINDS: Final = ("hot_key", "key_sample")
# Other collectors may be first so often before this one says that it is too busy.
ATTEMPTS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How to collect from a running cluster.

    Attributes:
        cluster: Name under which it is kept; None takes it from the URL.
        replace: Whether what was collected of another cluster under that name may be replaced.
        require_all: Whether nothing is collected where a part of the cluster does not answer.
    """

    cluster: str | None = None
    replace: bool = False
    require_all: bool = False


@dataclass(frozen=True, slots=True)
class Rounds:
    """When to collect again.

    Attributes:
        every_s: Seconds from the start of one round to that of the next, over 0.
        rounds_max: End after so many; None: no limit.
        duration_s: Start no round later than this after the first; None: no limit.
    """

    every_s: float
    rounds_max: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class LiveCollected:
    """What one round of collecting brought.

    Attributes:
        cluster: Under which name.
        source: URL of the cluster.
        cluster_id: What the cluster calls itself; None where it has no such name.
        datasets: As they are now, whole.
        new_windows: Windows that this round added.
        new_rows: Their rows.
        accesses: Reads and writes in them; None where a counter was not measured.
        routes: Number of routes now.
        catalog_version: Of those routes.
        new_routes: Whether that version was new.
        since: Start of the first window ever collected; None for none.
        until: End of the newest.
        window_ms: Length of a window; None where the cluster tells of no load.
        seconds: How long it took.
        assumptions: What the connector assumed; stored with the datasets.
        warnings: What the user should know.
        missing: Parts of the cluster that did not answer.
    """

    cluster: str
    source: str
    cluster_id: str | None
    datasets: tuple[CollectedDataset, ...]
    new_windows: int
    new_rows: int
    accesses: int | None
    routes: int
    catalog_version: int
    new_routes: bool
    since: datetime | None
    until: datetime | None
    window_ms: int | None
    seconds: float
    assumptions: dict[str, str]
    warnings: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def written(self) -> bool:
        """Whether anything was new."""
        return bool(self.new_windows) or self.new_routes


class _Known(NamedTuple):
    """What the catalog has of the cluster already."""

    load: Manifest | None
    route: Manifest | None
    keys: Mapping[str, Manifest] = {}

    def text(self, name: str) -> str | None:
        """Return a property of the load, else of the routes."""
        for manifest in (self.load, self.route):
            if manifest is not None and name in manifest.properties:
                return manifest.properties[name]
        return None

    @property
    def since(self) -> datetime | None:
        """Start of the first window."""
        text = self.load and self.load.properties.get("collected_from")
        return parse_time(text) if text else None

    @property
    def until(self) -> datetime | None:
        """End of the newest window."""
        text = self.load and self.load.properties.get("collected_until")
        return parse_time(text) if text else None

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return int(self.load.properties.get("windows", "0")) if self.load else 0

    @property
    def catalog_version(self) -> int:
        """Newest catalog version of the routes, 0 for none."""
        return int(self.route.properties.get("catalog_version", "0")) if self.route else 0


class _Told(NamedTuple):
    """What the cluster told in this round."""

    load: LoadAnswer | None
    snapshot: RouteSnapshot
    between: tuple[RouteSnapshot, ...] = ()  # versions after the one collected and before it
    missing: int = 0  # of those, versions that the cluster tells no more


def collect_live(
    source_url: str, catalog_url: str, options: LiveOptions, progress: Progress = silent
) -> LiveCollected:
    """Collect once; creates the catalog where there is none.

    Args:
        source_url: Of a system for whose scheme a connector is installed.
        catalog_url: Where the catalog is.
        options: Under which name.
        progress: Is told how far it is.

    Raises:
        InvalidArgument: the URL or the name is not understood.
        InvalidInput: the cluster told something that cannot be accepted; nothing was written.
        Unavailable: the cluster does not answer, or not all of it and that was asked for, or
            `--replace` with no window yet; nothing was written.
        Conflict: the name holds a trace, or windows of another cluster or length.
    """
    started = monotonic()
    cluster = check_cluster(options.cluster or cluster_of_url(source_url))
    source = open_routes(source_url)
    try:
        catalog = open_or_create_catalog(catalog_url)
        for _ in range(ATTEMPTS_MAX):
            known = _known(catalog, cluster)
            progress("asking the cluster", 0, None)
            load = _load_of(source, cluster, None if options.replace else known.until)
            if options.require_all and load is not None and load.missing:
                raise _not_all(source_url, load.missing)
            # After the load, so that no window tells of a route that the catalog does not have.
            told = _versions(source, load, 0 if options.replace else known.catalog_version)
            if not options.replace:
                _check_same(cluster, known, told)
            progress("writing to the catalog", 0, None)
            try:
                answer = _store(catalog, cluster, source_url, known, told, options)
            except Conflict as error:
                if error.code != "dataset_changed":
                    raise
                catalog.refresh()
            else:
                tidied = [compact_if_many(catalog, each.name) for each in answer.datasets]
                warnings = (*answer.warnings, *filter(None, tidied))
                return replace(answer, seconds=monotonic() - started, warnings=warnings)
    finally:
        source.close()
    raise Unavailable(
        f"other collectors of cluster {cluster!r} were first {ATTEMPTS_MAX} times",
        code="catalog_busy",
        hint="one collector per cluster is enough",
    )


def follow(
    source_url: str,
    catalog_url: str,
    options: LiveOptions,
    rounds: Rounds,
    wait: Callable[[float], None] = sleep,
) -> Iterator[LiveCollected | Unavailable]:
    """Collect every so often; yield what each round brought, or why it could not be done.

    Rounds start at multiples of `every_s` after the first; one that takes longer skips those
    that it overran. An error other than Unavailable ends it. What is to be replaced is replaced
    in the first round that succeeds.

    Args:
        source_url: As for `collect_live`.
        catalog_url: Likewise.
        options: Likewise.
        rounds: When, and how often.
        wait: Waits for so many seconds.
    """
    started = monotonic()
    number, slot = 0, 0
    while True:
        number += 1
        try:
            answer = collect_live(source_url, catalog_url, options)
        except Unavailable as error:
            yield error
        else:
            options = replace(options, replace=False)
            yield answer
        if number == rounds.rounds_max:
            return
        slot = max(slot, int((monotonic() - started) // rounds.every_s)) + 1
        if rounds.duration_s is not None and slot * rounds.every_s > rounds.duration_s:
            return
        wait(max(0.0, started + slot * rounds.every_s - monotonic()))


def cluster_of_url(url: str) -> str:
    """Return the cluster name that a URL suggests: its first host, `local` for this machine.

    Ports are left out; where two clusters share a host, the second needs a name of its own.
    """
    scheme, _, rest = url.partition(":")
    if not rest.startswith("//"):
        return cluster_of(Path(rest))
    host = re.split(r"[/?#]", rest.removeprefix("//"))[0].split(",")[0].rpartition("@")[2]
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if host in {"localhost", "::1"} or re.fullmatch(r"127(\.\d{1,3}){3}", host):
        return LOOPBACK_CLUSTER
    return re.sub(r"[^A-Za-z0-9_-]+", "-", host).strip("-") or scheme


def _versions(source: RouteSource, load: LoadAnswer | None, after: int) -> _Told:
    """Return the newest routes, and those of versions that came since `after`."""
    snapshot = source.snapshot()
    if not isinstance(source, VersionSource) or not 0 < after < snapshot.catalog_version:
        return _Told(load, snapshot)
    told = source.versions(after)
    between = tuple(each for each in told if each.catalog_version < snapshot.catalog_version)
    missing = snapshot.catalog_version - after - 1 - len(between)
    return _Told(load, snapshot, between, missing)


def _load_of(source: RouteSource, cluster: str, since: datetime | None) -> LoadAnswer | None:
    """Return the load that a source tells, as windows or as totals; None where it tells none."""
    if not source.capabilities().load:
        return None
    if isinstance(source, CounterSource):
        told = source.counters(since)
        routes = source.snapshot().routes if told.from_zero else ()
        return counter_answer(
            told.samples, cluster=cluster, window_ms=told.window_ms, since=since, routes=routes
        )
    return source.load(cluster, since) if isinstance(source, LoadSource) else None


def _known(catalog: Catalog, cluster: str) -> _Known:
    """Return what is collected; Conflict where the name holds a trace."""
    there = {manifest.name.partition("/")[2]: manifest for manifest in catalog.list(f"{cluster}/")}
    keys: dict[str, Manifest] = {kind: there[kind] for kind in KEY_KINDS if kind in there}
    known = _Known(there.get("load_window"), there.get("route"), keys)
    try:
        _ = known.since, known.until, known.windows, known.catalog_version
    except (ValueError, InvalidArgument) as error:
        raise Corruption(
            f"the properties of cluster {cluster!r} cannot be read: {error}",
            code="properties_invalid",
            hint="choose another name with --cluster",
        ) from error
    is_trace = "access" in there or (known.text("source") or "").startswith("trace:")
    if is_trace or (known.load and "collected_until" not in known.load.properties):
        raise Conflict(
            f"cluster {cluster!r} holds a trace, not what was collected of a running cluster",
            code="cluster_exists",
            hint="choose another name with --cluster",
        )
    return known


def _check_same(cluster: str, known: _Known, told: _Told) -> None:
    """Raise Conflict where the collected data are another cluster's, or of another length."""
    before, now = known.text("cluster_id"), told.snapshot.cluster_id
    if before is not None and now is not None and before != now:
        raise Conflict(
            f"cluster {cluster!r} was collected from the cluster with id {before}, this one is "
            f"{now}",
            code="cluster_id_mismatch",
            hint="choose another name with --cluster, or pass --replace",
        )
    window_ms = known.load and known.load.properties.get("window_ms")
    if told.load is not None and window_ms and int(window_ms) != told.load.window_ms:
        raise Conflict(
            f"cluster {cluster!r} has windows of {window_ms} ms, the cluster now makes them "
            f"{told.load.window_ms} ms long",
            code="window_ms_mismatch",
            hint="choose another name with --cluster, or pass --replace",
        )


def _store(  # noqa: PLR0913, PLR0917 - one step of collect_live, one call
    catalog: Catalog,
    cluster: str,
    source_url: str,
    known: _Known,
    told: _Told,
    options: LiveOptions,
) -> LiveCollected:
    """Commit what is new in one record; Conflict `dataset_changed` where another was first."""
    before = _Known(None, None) if options.replace else known
    windows = _new_windows(told.load, before.until)
    starts = sorted(pc.unique(windows.column("window_start")).to_pylist())
    version = told.snapshot.catalog_version
    new_routes = version > before.catalog_version
    warnings = _warnings(source_url, before, told, starts)
    since = before.since or min(starts, default=None)
    until = max(pc.unique(windows.column("window_end")).to_pylist(), default=before.until)
    properties = {"source": source_url, **_notes(told.load)}
    if told.snapshot.cluster_id is not None:
        properties["cluster_id"] = told.snapshot.cluster_id
    writes: list[Write] = []
    if starts:
        assert told.load is not None
        assert since is not None
        assert until is not None
        own = {
            "window_ms": str(told.load.window_ms),
            "collected_from": rfc3339(since),
            "collected_until": rfc3339(until),
            "windows": str(before.windows + len(starts)),
            **_kept_warnings(before, warnings),
        }
        writes.append(
            _write(f"{cluster}/load_window", windows, properties | own, known.load, options)
        )
        writes += _key_writes(cluster, before.until, known, told.load, properties, options)
    elif options.replace and told.load is not None:
        raise Unavailable(
            f"{source_url} has closed no load window yet, so nothing can be replaced",
            code="load_absent",
            hint=f"its windows are {told.load.window_ms} ms long: try again later",
        )
    if new_routes:
        table = pa.concat_tables(routes_to_table(each) for each in (*told.between, told.snapshot))
        own = {"catalog_version": str(version)}
        writes.append(_write(f"{cluster}/route", table, properties | own, known.route, options))
    if writes:
        catalog.commit(writes)
    else:
        catalog.refresh()
    return LiveCollected(
        cluster=cluster,
        source=source_url,
        cluster_id=told.snapshot.cluster_id,
        datasets=_datasets(catalog, cluster),
        new_windows=len(starts),
        new_rows=windows.num_rows,
        accesses=_accesses(windows),
        routes=len(told.snapshot.routes),
        catalog_version=version,
        new_routes=new_routes,
        since=since,
        until=until,
        window_ms=told.load.window_ms if told.load else None,
        seconds=0.0,
        assumptions=_notes(told.load),
        warnings=tuple(warnings),
        missing=told.load.missing if told.load else (),
    )


def _not_all(source_url: str, missing: Sequence[str]) -> Unavailable:
    return Unavailable(
        f"{', '.join(missing)} of {source_url} did not answer: nothing was collected",
        code="load_incomplete",
        hint="start it again, or collect what the others tell, without --require-all",
    )


def _write(
    name: str,
    table: pa.Table,
    properties: Mapping[str, str],
    known: Manifest | None,
    options: LiveOptions,
) -> Write:
    """Return the write of one dataset, bound to what was read of it unless it replaces it."""
    kind = name.rpartition("/")[2]
    column = "window_start" if kind in KEY_KINDS else TIME_COLUMNS.get(kind)
    if options.replace:
        return Write(name, table, "replace", properties, time_column=column)
    rows = known.row_count if known else 0
    return Write(name, table, "append", properties, expected_rows=rows, time_column=column)


def _new_windows(load: LoadAnswer | None, newer_than: datetime | None) -> pa.Table:
    """Return the rows of windows that end later than those collected, also from a lax source."""
    if load is None:
        return LOAD_WINDOW.empty_table()
    return _newer(check_load(load.windows, "load of the cluster"), newer_than)


def _newer(windows: pa.Table, than: datetime | None) -> pa.Table:
    if than is None:
        return windows
    start = pa.scalar(than, LOAD_WINDOW.field("window_start").type)
    return windows.filter(pc.greater_equal(windows.column("window_start"), start))


def _key_writes(  # noqa: PLR0913, PLR0917 - a part of _store
    cluster: str,
    newer_than: datetime | None,
    known: _Known,
    load: LoadAnswer,
    properties: Mapping[str, str],
    options: LiveOptions,
) -> Iterator[Write]:
    """Yield the writes of what is told of keys; of what another cluster told, nothing stays."""
    hot_keys, samples = load.hot_keys, load.key_samples
    tables = (
        HOT_KEY.empty_table() if hot_keys is None else check_hot_keys(hot_keys),
        KEY_SAMPLE.empty_table() if samples is None else check_key_samples(samples),
    )
    for kind, told in zip(KEY_KINDS, tables, strict=True):
        new, held = _newer(told, newer_than), known.keys.get(kind)
        if new.num_rows or (options.replace and held is not None):
            yield _write(f"{cluster}/{kind}", new, properties, held, options)


def _warnings(source_url: str, before: _Known, told: _Told, starts: list[datetime]) -> list[str]:
    warnings = []
    if told.load is None:
        warnings.append(f"{source_url} tells of no load: only its routes were collected")
    else:
        if told.load.missing and starts:
            warnings.append(
                f"{', '.join(told.load.missing)} did not answer: what it alone measured from "
                f"{rfc3339(min(starts))} on is not in the windows up to "
                f"{rfc3339(max(starts) + timedelta(milliseconds=told.load.window_ms))}"
            )
        elif told.load.missing:
            warnings.append(f"{', '.join(told.load.missing)} did not answer")
        length = timedelta(milliseconds=told.load.window_ms)
        ends = [before.until or min(starts, default=None), *(start + length for start in starts)]
        warnings += [
            f"nothing was measured from {rfc3339(end)} to {rfc3339(start)}: the cluster did not "
            "run then, or no longer kept those windows"
            for end, start in zip(ends, starts, strict=False)
            if end is not None and end < start
        ]
    if told.missing:
        were = "was" if told.missing == 1 else "were"
        warnings.append(
            f"{counted(told.missing, 'catalog version')} between {before.catalog_version} and "
            f"{told.snapshot.catalog_version} {were} not recorded: the cluster no longer tells them"
        )
    if told.snapshot.catalog_version < before.catalog_version:
        warnings.append(
            f"the routes are at version {told.snapshot.catalog_version}, version "
            f"{before.catalog_version} was collected before: was the cluster restored?"
        )
    return warnings


def _kept_warnings(before: _Known, warnings: list[str]) -> dict[str, str]:
    """Return the property that keeps the newest warnings with the data; empty for none."""
    earlier = (before.load.properties.get("warnings", "") if before.load else "").split("\n")
    lines = [*filter(None, earlier), *warnings][-WARNINGS_KEPT:]
    return {"warnings": "\n".join(lines)} if lines else {}


def _notes(load: LoadAnswer | None) -> dict[str, str]:
    return {f"note.{name}": text for name, text in load.notes.items()} if load else {}


def _accesses(windows: pa.Table) -> int | None:
    reads, writes = windows.column("reads"), windows.column("writes")
    if reads.null_count or writes.null_count:
        return None
    return (pc.sum(reads).as_py() or 0) + (pc.sum(writes).as_py() or 0)


def _datasets(catalog: Catalog, cluster: str) -> tuple[CollectedDataset, ...]:
    found = []
    for kind in ("load_window", *KEY_KINDS, "route"):
        try:
            manifest = catalog.get(f"{cluster}/{kind}")
        except NotFound:
            continue
        windows = int(manifest.properties["windows"]) if kind == "load_window" else None
        rows = manifest.row_count or 0
        found.append(CollectedDataset(manifest.name, str(manifest.dataset_id), rows, windows))
    return tuple(found)
