"""Collect: a trace into a catalog, as load windows, accesses and routes of one cluster.

    trace:FILE ──▶ reader ──▶ <cluster>/access, <cluster>/load_window, <cluster>/route

All three are registered in one record: a reader sees the whole collection or none of it. The
same trace with the same options is found to be there and writes nothing; another trace under
the same name is refused unless it is to replace the first.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path, PurePath
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal

import pyarrow.compute as pc

from workbench.catalog.catalog import Write
from workbench.errors import Conflict, InvalidArgument, InvalidInput, NotFound, Storage
from workbench.model.manifest import check_name, dataset_id_of
from workbench.model.routes import RouteDescriptor, RouteSnapshot, check_routes
from workbench.model.tables import routes_to_table
from workbench.report.words import counted
from workbench.session.plans import PLAN_PREFIX
from workbench.session.progress import Progress, silent
from workbench.session.wiring import (
    connectors,
    open_catalog,
    open_or_create_catalog,
    open_routes,
)
from workbench.traces.readers import TraceOptions, read_trace
from workbench.traces.windows import load_windows, trace_routes, unrouted_accesses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa

    from workbench.catalog.catalog import Catalog
    from workbench.traces.readers import Trace

TRACE_SCHEME: Final = "trace:"
WINDOW_MS: Final = 60_000
BUCKETS_PER_ROUTE: Final = 16
# A trace that starts with few routes still gets a picture worth looking at.
BUCKETS_MIN: Final = 128
TRACE_CATALOG_VERSION: Final = 1
TRACE_GROUP: Final = 1
NODE_SCHEME: Final = "node"
# By which a cluster's datasets are cut into days.
TIME_COLUMNS: Final = {"access": "time", "load_window": "window_start"}
# 127.0.0.1:7001, [::1]:7001, http://host:7001/
_HOST_AND_PORT: Final = re.compile(
    r"(\w+://)?(?P<address>(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5})/?"
)
# The first part of what the workbench keeps beside clusters.
RESERVED_CLUSTERS: Final = frozenset({"approval", "lease", "plan", "receipt"})


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """How to turn a trace into load.

    Attributes:
        cluster: Name under which it is kept; None takes it from the file.
        trace: How to read the file.
        window_ms: Length of a load window.
        buckets: Buckets per route; None means 16, or more where there are few routes.
        routes: Number of even routes, or the URL of a route source.
        replace: Whether another collection of the same name may be replaced.
    """

    cluster: str | None = None
    trace: TraceOptions = field(default_factory=TraceOptions)
    window_ms: int = WINDOW_MS
    buckets: int | None = None
    routes: str = "1"
    replace: bool = False


@dataclass(frozen=True, slots=True)
class CollectedDataset:
    """One dataset of a collection."""

    name: str
    dataset_id: str
    rows: int
    windows: int | None


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection brought.

    Attributes:
        cluster: Under which name.
        datasets: What was registered.
        accesses: Number of recorded accesses.
        writes: How many of them are writes.
        routes: Number of routes.
        since: First access.
        until: Last access.
        written: False where all of it was there already.
        seconds: How long it took.
        assumptions: What the reader assumed; stored with the datasets.
        warnings: What the user should know.
    """

    cluster: str
    datasets: tuple[CollectedDataset, ...]
    accesses: int
    writes: int
    routes: int
    since: datetime
    until: datetime
    written: bool
    seconds: float
    assumptions: dict[str, str]
    warnings: tuple[str, ...]


def collect(
    source: str, catalog_url: str, options: CollectOptions, progress: Progress = silent
) -> Collected:
    """Read `source` and register it; creates the catalog where there is none.

    Args:
        source: `trace:FILE`.
        catalog_url: Where the catalog is.
        options: How to read and divide it.
        progress: Is told how far it is.

    Raises:
        InvalidArgument: the source or an option is not understood.
        InvalidInput: the trace cannot be accepted; nothing was written.
        Conflict: the cluster's name holds another collection.
    """
    started = monotonic()
    path = trace_path(source)
    cluster = check_cluster(options.cluster or cluster_of(path))
    trace = read_trace_file(path, options.trace, progress)
    routes = _routes(options.routes, trace)
    buckets = options.buckets or max(BUCKETS_PER_ROUTE, -(-BUCKETS_MIN // len(routes)))
    progress("dividing into windows", 0, None)
    windows = load_windows(
        trace.accesses,
        routes,
        cluster=cluster,
        window_ms=options.window_ms,
        buckets_per_route=buckets,
    )
    warnings = [*trace.warnings]
    if outside := unrouted_accesses(trace.accesses, routes):
        warnings.append(
            f"{outside:,} of {counted(trace.accesses.num_rows, 'access has', 'accesses have')} "
            "a key that no route holds: kept for replay, and in no load window"
        )
    first = pc.min(trace.accesses.column("time")).as_py()
    last = pc.max(trace.accesses.column("time")).as_py()
    snapshot = RouteSnapshot(TRACE_CATALOG_VERSION, routes, taken_at=first)
    properties = {
        **trace.assumptions,
        "source": f"{TRACE_SCHEME}{path.name}",
        "source_sha256": _sha256(path),
        "routes": options.routes,
        "window_ms": str(options.window_ms),
        "buckets_per_route": str(buckets),
    }
    if warnings:
        properties["warnings"] = "\n".join(warnings)
    tables = {
        "access": trace.accesses,
        "load_window": windows,
        "route": routes_to_table(snapshot),
    }
    load = {**trace.assumptions, "source_sha256": properties["source_sha256"]}
    plans, same = _orphaned_plans(catalog_url, cluster, load) if options.replace else ([], False)
    written = _register(catalog_url, cluster, tables, properties, options, progress)
    if plans and written[0]:
        warnings.append(_replaced_text(plans, same_load=same))
    starts = pc.count_distinct(windows.column("window_start")).as_py()
    return Collected(
        cluster=cluster,
        datasets=tuple(
            CollectedDataset(
                name=name,
                dataset_id=dataset_id,
                rows=tables[kind].num_rows,
                windows=starts if kind == "load_window" else None,
            )
            for kind, (name, dataset_id) in written[1].items()
        ),
        accesses=trace.accesses.num_rows,
        writes=pc.sum(pc.equal(trace.accesses.column("op"), "write")).as_py() or 0,
        routes=len(routes),
        since=first,
        until=last,
        written=written[0],
        seconds=monotonic() - started,
        assumptions=dict(trace.assumptions),
        warnings=tuple(warnings),
    )


def cluster_of(path: Path) -> str:
    """Return the cluster name that a trace's file name suggests."""
    stem = path.name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "trace"


def check_cluster(name: str) -> str:
    """Return `name`, or raise InvalidArgument where it cannot name a cluster."""
    try:
        check_name(name)
    except InvalidInput as error:
        raise InvalidArgument(error.message, code=error.code, hint=error.hint) from error
    if "/" in name or name in RESERVED_CLUSTERS:
        raise InvalidArgument(
            f"{name!r} cannot name a cluster",
            code="cluster_name_invalid",
            hint="choose a name without '/' with --cluster, other than "
            + ", ".join(sorted(RESERVED_CLUSTERS)),
        )
    return name


def trace_path(source: str) -> Path:
    """Return the FILE of `trace:FILE`; InvalidArgument says what was perhaps meant."""
    if source.startswith(TRACE_SCHEME) and source != TRACE_SCHEME:
        return Path(source.removeprefix(TRACE_SCHEME))
    schemes = sorted(each.scheme for each in connectors() if each.problem is None)
    likely = _likely_source(source, schemes)
    listed = ", ".join(schemes) or "none"
    raise InvalidArgument(
        f"source {source!r} is not understood",
        code="source_unknown",
        hint=(f"did you mean {likely}? " if likely else "")
        + f"write trace:FILE, or the URL of a running cluster (connectors installed: {listed})",
    )


def _likely_source(source: str, schemes: Sequence[str]) -> str | None:
    """Return what a source that is not understood may have been meant to be."""
    scheme, colon, rest = source.partition(":")
    if not colon:
        return f"{TRACE_SCHEME}{source}" if _is_file_like(source) else None
    near = get_close_matches(scheme.lower(), [*schemes, TRACE_SCHEME[:-1]], n=1, cutoff=0.75)
    if near and rest:
        return f"{near[0]}:{rest}"
    found = _HOST_AND_PORT.fullmatch(source)
    if found and NODE_SCHEME in schemes:
        return f"{NODE_SCHEME}://{found['address']}"
    return f"{TRACE_SCHEME}{source}" if "://" not in source and _is_file_like(source) else None


def _is_file_like(source: str) -> bool:
    return bool(PurePath(source).suffix) or Path(source).is_file()


def read_trace_file(path: Path, options: TraceOptions, progress: Progress = silent) -> Trace:
    """Return the accesses that a file recorded.

    Raises:
        NotFound: there is no such file.
        Storage: it cannot be read.
        InvalidInput: it is no trace that can be accepted.
    """
    try:
        with path.open("rb") as file:
            return read_trace(
                file, path.name, options, lambda rows: progress("reading accesses", rows, None)
            )
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no trace {path}", code="trace_absent", hint="check the name"
        ) from error
    except OSError as error:
        raise Storage(
            f"cannot read {path}: {error.strerror or error}",
            code="trace_unreadable",
            hint="check that it is a file, and its permissions",
        ) from error


def _routes(text: str, trace: Trace) -> tuple[RouteDescriptor, ...]:
    """Return the routes that a trace starts with: all of version 1, on group 1."""
    if text.isdecimal():
        if int(text) < 1:
            raise InvalidArgument(
                "a trace needs at least one route", code="routes_invalid", hint="--routes 1"
            )
        return trace_routes(trace.accesses, int(text))
    routes = open_routes(text).snapshot().routes
    return check_routes(replace(route, group=TRACE_GROUP) for route in routes)


def _register(  # noqa: PLR0913, PLR0917 - the last step of collect, one call
    catalog_url: str,
    cluster: str,
    tables: dict[str, pa.Table],
    properties: dict[str, str],
    options: CollectOptions,
    progress: Progress,
) -> tuple[bool, dict[str, tuple[str, str]]]:
    """Write the tables in one record; return whether anything was new, and names and ids."""
    progress("writing to the catalog", 0, None)
    catalog = open_or_create_catalog(catalog_url)
    mode: Literal["create", "replace"] = "replace" if options.replace else "create"
    writes = [
        Write(
            name=f"{cluster}/{kind}",
            table=table,
            mode=mode,
            properties=properties,
            time_column=TIME_COLUMNS.get(kind),
        )
        for kind, table in tables.items()
    ]
    try:
        registered = catalog.commit(writes)
    except Conflict as error:
        if error.code != "dataset_exists":
            raise
        progress("comparing with what is there", 0, None)
        if _is_held(catalog, writes):
            return False, {
                kind: (write.name, str(dataset_id_of(write.name)))
                for kind, write in zip(tables, writes, strict=True)
            }
        raise Conflict(
            f"cluster {cluster!r} holds a collection of another file or with other options",
            code="cluster_exists",
            hint="choose another name with --cluster, or pass --replace",
        ) from error
    ids = {
        kind: (each.manifest.name, str(each.manifest.dataset_id))
        for kind, each in zip(tables, registered, strict=True)
    }
    return any(each.written for each in registered), ids


def _is_held(catalog: Catalog, writes: Sequence[Write]) -> bool:
    """Tell whether these rows are there already, in other objects, as once they were merged."""
    for write in writes:
        try:
            manifest = catalog.get(write.name)
        except NotFound:
            return False
        said = {name: manifest.properties.get(name) for name in write.properties}
        if said != write.properties or manifest.row_count != write.table.num_rows:
            return False
    return all(_same_rows(catalog.read(write.name), write.table) for write in writes)


def _same_rows(one: pa.Table, other: pa.Table) -> bool:
    """Tell whether two tables have the same rows, in any order."""
    if not one.schema.equals(other.schema):
        return False
    order = [(name, "ascending") for name in one.schema.names]
    return bool(one.sort_by(order).equals(other.sort_by(order)))


def _replaced_text(plans: Sequence[str], *, same_load: bool) -> str:
    """Return what plans are good for whose load or routes were replaced, as the commands see it."""
    shown = f"{', '.join(plans[:3])}{', …' if len(plans) > 3 else ''}"
    count = counted(len(plans), "plan")
    what = "routes or windows" if same_load else "load"
    made = "for other routes" if same_load else "on other load or for other routes"
    return (
        f"the {what} behind {count} ({shown}) {'were' if same_load else 'was'} replaced: what was "
        f"planned {made} can no longer be verified or approved"
    )


def _orphaned_plans(
    catalog_url: str, cluster: str, load: Mapping[str, str]
) -> tuple[list[str], bool]:
    """Return the ids of plans for this cluster, and whether its accesses are these already.

    Args:
        catalog_url: Where it is.
        cluster: Its name.
        load: By which properties accesses are the same: of the file, and how it was read.
    """
    try:
        catalog = open_catalog(catalog_url)
    except NotFound:
        return [], False
    held = [m for m in catalog.list(f"{cluster}/access") if m.name == f"{cluster}/access"]
    same = bool(held) and all(held[0].properties.get(k) == v for k, v in load.items())
    plans = [
        manifest.name.removeprefix(PLAN_PREFIX)
        for manifest in catalog.list(PLAN_PREFIX)
        if manifest.properties.get("cluster") == cluster
    ]
    return plans, same


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
