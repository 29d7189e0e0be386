"""Collect: a trace or a running cluster into the catalog; and sets to try it with.

datasets("hot-range") ──▶ Datasets ── path ──┐
a trace's file ──────────────────────────────┼── collect ──▶ Collection
node://…, pd+http://…, a Cluster ────────────┘     └── follow: again and again
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workbench.api.catalog import Catalog
from workbench.api.places import HasUrl, Length, catalog_url, length_ms, url_of
from workbench.api.results import Result
from workbench.api.show import counted
from workbench.api.words import in_python, say_in_python
from workbench.errors import InvalidArgument, Unavailable
from workbench.model.times import rfc3339
from workbench.session.collect import TRACE_SCHEME, CollectOptions, trace_path
from workbench.session.collect import collect as collect_trace
from workbench.session.collect_live import LiveOptions, Rounds, collect_live
from workbench.session.collect_live import follow as follow_live
from workbench.session.datasets import make_datasets
from workbench.session.wiring import has_connector
from workbench.traces.readers import TraceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from workbench.session.collect import Collected, CollectedDataset
    from workbench.session.collect_live import LiveCollected


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Collection(Result):
    """What a collection brought: a row per dataset.

    Attributes:
        cluster: Name under which it is kept.
        since: Start of what was ever collected of it; None for none.
        until: End of it.
        written: False where all of it was there already.
        accesses: New reads and writes; None where a counter was not measured.
        windows: New load windows of a running cluster; None for a trace.
        catalog_version: Of the newest routes; None for a trace.
        assumptions: What was assumed on the way; stored with the data.
    """

    cluster: str
    since: datetime | None
    until: datetime | None
    written: bool
    accesses: int | None
    windows: int | None = None
    catalog_version: int | None = None
    assumptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Datasets(Result):
    """Generated sets: a row each, with seed and checksum.

    Attributes:
        folder: Where the files are.
    """

    folder: Path

    def path(self, name: str) -> Path:
        """Return the file of one set, to collect from.

        Raises:
            InvalidArgument: `dataset_unknown`: it was not made.
        """
        files = {row["name"]: row["file"] for row in self}
        if name not in files:
            raise InvalidArgument(
                f"the set {name!r} was not made",
                code="dataset_unknown",
                hint=f"there are {', '.join(files)}",
            )
        return self.folder / str(files[name])


@in_python
def datasets(
    *names: str,
    out: str | os.PathLike[str] | None = None,
    accesses: int = 20_000,
    seed: int = 1,
) -> Datasets:
    """Write generated sets of accesses as Parquet: loads of known shape, to try things with.

    zipf, hot-key, hot-range, moving-front, diurnal, oscillating, uniform, renumbered. The same
    seed gives the same accesses on any machine. A set is two hours long however many accesses it
    has.

    Examples:
        >>> made = wb.datasets("hot-range", accesses=2_000, seed=7)
        >>> made.path("hot-range").name
        'hot-range.parquet'

    Args:
        names: Which; all where none is named.
        out: The folder; None makes a temporary one, which stays.
        accesses: How many rows each gets.
        seed: From 0; another seed is another sample of the same shape.

    Raises:
        InvalidArgument: `dataset_unknown`, `dataset_argument_invalid`.
    """
    for name in names:
        if not isinstance(name, str):
            raise InvalidArgument(
                f"{name!r} is no name of a set",
                code="dataset_unknown",
                hint='give names one by one, as wb.datasets("zipf", "hot-range")',
            )
    folder = Path(tempfile.mkdtemp(prefix="workbench-sets-") if out is None else out)
    made = make_datasets(folder, names, accesses=accesses, seed=seed)
    fields = ("name", "file", "accesses", "seed", "checksum", "bytes")
    rows = [{name: getattr(each, name) for name in fields} for each in made]
    return Datasets(
        pa.Table.from_pylist(rows), f"generated sets in {folder}", shown=fields[:4], folder=folder
    )


@in_python
def collect(  # noqa: PLR0913 - as the command's options, all named
    source: str | os.PathLike[str] | HasUrl,
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    cluster: str | None = None,
    replace: bool = False,
    routes: int | str = 1,
    window: Length = "60s",
    buckets: int | None = None,
    format: str = "auto",  # noqa: A002 - named as on the command line
    columns: Mapping[str, str] | None = None,
    key_encoding: str | None = None,
    time_unit: str = "s",
    rate: float | None = None,
    speedup: float = 1.0,
    sort: bool = False,
) -> Collection:
    """Read routes and load into the catalog; it is created where there is none.

    A trace is a file of recorded accesses: CSV, Parquet, CloudPhysics, ARC, u32. A running
    cluster is a URL, or what `wb.connect` returned; of it, what is new is added to what was
    collected before, and nothing is ever made up for a gap.

    Examples:
        >>> trace = wb.datasets("zipf", accesses=2_000).path("zipf")
        >>> found = wb.collect(trace, "memory://collected", routes=4)
        >>> found.cluster, found.written
        ('zipf', True)
        >>> wb.collect(trace, "memory://collected", routes=4).written
        False

    Args:
        source: "trace:FILE", or the path of a file that there is, for a trace, else a URL as
            "node://127.0.0.1:7001".
        catalog: Where to keep it; None is the catalog of `wb.open()`.
        cluster: Name to keep it under; None takes it from the file or host.
        replace: Replace another collection of the same name.
        routes: For a trace: so many even routes, or "file:ROUTES.json".
        window: For a trace: length of a load window.
        buckets: For a trace: parts of a route in which load is counted.
        format: Of the trace: auto, arc, cloudphysics, csv, parquet or u32.
        columns: Names of its columns time, key, op, size where they differ.
        key_encoding: How keys in text are written: utf8, hex or u64.
        time_unit: Of times that are numbers: s, ms, us or ns.
        rate: Accesses a second, for traces without times.
        speedup: Divide all time spans by this.
        sort: Sort a trace whose times go back.

    Raises:
        InvalidArgument: `source_unknown`, with what was perhaps meant; or an option.
        InvalidInput: The source cannot be accepted; nothing was written.
        Conflict: The name holds something else; choose another, or `replace`.
        Unavailable: A part of the cluster does not answer; nothing was written.
    """
    text, place = _source(source), _place(catalog)
    if not text.startswith(TRACE_SCHEME) and has_connector(text):
        return _live(collect_live(text, place, LiveOptions(cluster=cluster, replace=replace)))
    trace_path(text)
    reading = TraceOptions(
        format=format,
        columns=dict(columns or {}),
        key_encoding=key_encoding,
        time_unit=time_unit,
        rate=rate,
        speedup=speedup,
        sort=sort,
    )
    options = CollectOptions(
        cluster=cluster,
        trace=reading,
        window_ms=length_ms(window),
        buckets=buckets,
        routes=str(routes),
        replace=replace,
    )
    return _trace(collect_trace(text, place, options))


@in_python
def follow(  # noqa: PLR0913 - as the command's options, all named
    source: str | HasUrl,
    catalog: Catalog | str | os.PathLike[str] | None = None,
    *,
    every: Length = "60s",
    times: int | None = None,
    duration: Length | None = None,
    cluster: str | None = None,
) -> Iterator[Collection | Unavailable]:
    """Collect from a running cluster again and again; yields what each round brought.

    A cluster that does not answer is no end: its error is yielded, and the next round tries
    again. Stop by leaving the loop.

    Args:
        source: URL of the cluster, or what `wb.connect` returned.
        catalog: Where to keep it.
        every: From the start of one round to that of the next.
        times: End after so many rounds; None never ends.
        duration: Start no round later than this after the first.
        cluster: Name to keep it under.
    """
    rounds = Rounds(
        every_s=length_ms(every) / 1_000,
        rounds_max=times,
        duration_s=None if duration is None else length_ms(duration) / 1_000,
    )
    options = LiveOptions(cluster=cluster)
    for answer in follow_live(_source(source), _place(catalog), options, rounds):
        if isinstance(answer, Unavailable):
            say_in_python(answer)
            yield answer
        else:
            yield _live(answer)


def _source(source: str | os.PathLike[str] | HasUrl) -> str:
    if isinstance(source, os.PathLike):
        return f"{TRACE_SCHEME}{os.fspath(source)}"
    if isinstance(source, str) and ":" not in source and os.path.isfile(source):  # noqa: PTH113 - any text
        return f"{TRACE_SCHEME}{source}"
    return url_of(source)


def _place(catalog: Catalog | str | os.PathLike[str] | None) -> str:
    if not isinstance(catalog, Catalog):
        return catalog_url(catalog)
    catalog.writable()
    return catalog.url


def _trace(answer: Collected) -> Collection:
    state = "collected" if answer.written else "already collected"
    return Collection(
        _rows(answer.datasets),
        f"{state}: {_accesses(answer.accesses)} of cluster {answer.cluster} on "
        f"{counted(answer.routes, 'route')}, {rfc3339(answer.since)} to {rfc3339(answer.until)}",
        warnings=answer.warnings,
        shown=("name", "rows", "windows"),
        cluster=answer.cluster,
        since=answer.since,
        until=answer.until,
        written=answer.written,
        accesses=answer.accesses,
        assumptions=answer.assumptions,
    )


def _live(answer: LiveCollected) -> Collection:
    accesses = "" if answer.accesses is None else f", {_accesses(answer.accesses)}"
    new = counted(answer.new_windows, "new window") + (accesses if answer.new_windows else "")
    return Collection(
        _rows(answer.datasets),
        f"cluster {answer.cluster}: {new}; {counted(answer.routes, 'route')} of "
        f"version {answer.catalog_version}",
        warnings=answer.warnings,
        shown=("name", "rows", "windows"),
        cluster=answer.cluster,
        since=answer.since,
        until=answer.until,
        written=answer.written,
        accesses=answer.accesses,
        windows=answer.new_windows,
        catalog_version=answer.catalog_version,
        assumptions=answer.assumptions,
    )


def _accesses(count: int) -> str:
    return counted(count, "access", "accesses")


def _rows(found: tuple[CollectedDataset, ...]) -> pa.Table:
    names = ("name", "rows", "windows", "dataset_id")
    rows: list[dict[str, Any]] = [{name: getattr(each, name) for name in names} for each in found]
    types = (pa.string(), pa.int64(), pa.int64(), pa.string())
    schema = pa.schema([pa.field(*each) for each in zip(names, types, strict=True)])
    return pa.Table.from_pylist(rows, schema=schema)
