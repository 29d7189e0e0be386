"""Opening the catalog: against a file per manifest, pyiceberg and deltalake; requests counted.

Ours is timed three ways, as opening leaves work for later that the rivals do at once:

| line | timed | rivals that do as much |
|---|---|---|
| `all columns` | `Catalog.open`, then one `get`: every column is in Arrow | all; judged |
| `names only` | `Catalog.open`: seal and chain checked, names known | none; not judged |
| `all as values` | `Catalog.open`, then `list`: manifests as Python values | pyiceberg |

The rivals verify no checksum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from benchmarks.catalog_rivals import NAMESPACE, delta_adds, delta_rows, iceberg
from benchmarks.catalog_sets import (
    folder,
    legacy_manifests,
    local_store,
    manifest_files,
    names_of,
    open_catalog,
    our_catalog,
    registrations_of,
)
from benchmarks.measure import Aims, Contestant, compete
from tests.s3_servers import moto, proxy
from workbench.catalog.layout import CATALOG_PREFIX, HINT_KEY
from workbench.catalog.legacy import read_legacy
from workbench.stores.memory import MemoryStore
from workbench.stores.s3 import S3Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyiceberg.table import Table

    from tests.s3_servers import Proxy, Server
    from workbench.catalog.catalog import Catalog
    from workbench.ports.object_store import ObjectStore

MANY, SOME = 10_000, 1_000
COUNTED = (100, 1_000, 10_000, 100_000)
COUNTED_FILES_MAX = 1_000  # of the rival, whose requests are as many as the datasets
TAIL_RECORDS = 5
# Each contestant's calls of some milliseconds are repeated within a turn.
REPEATS = 5
T = TypeVar("T")


def run() -> Iterator[str]:
    """Yield the lines of the table, and the table of requests."""
    with folder() as root:
        yield from open_many(root)
    with folder() as root:
        yield from open_some(root)
    yield requests()


def names_in(catalog: Catalog) -> list[str]:
    """Return the names that a catalog knows."""
    return [manifest.name for manifest in catalog.list()]


def open_many(root: Path) -> Iterator[str]:
    """10,000 datasets on a local disk, in the page cache: ours, and one file per manifest."""
    names = names_of(MANY)
    store = local_store(root / "ours")
    our_catalog(store, names)
    paths = manifest_files(root / "files", names)
    pattern = f"{root}/files/_catalog/manifests/*.parquet"
    ours, lazy = our_ways(store, names)

    def per_file() -> pa.Table:
        return pa.concat_tables([pq.read_table(path) for path in paths])

    def glob() -> pl.DataFrame:
        return pl.read_parquet(pattern)

    def sorted_names(frame: pa.Table | pl.DataFrame) -> list[str]:
        column = frame["name"]
        return sorted(column.to_pylist() if isinstance(frame, pa.Table) else column.to_list())

    what = f"open {MANY:,} datasets, local, all columns"
    by_file, by_glob = "pyarrow, file per manifest", "Polars glob, file per manifest"
    rival = Contestant(by_file, per_file, sorted_names)
    aims = Aims(ms_max=10, ratio_min={by_file: 200})
    yield from compete(what, [ours, rival], turns=3).lines(aims)
    rival = Contestant(by_glob, glob, sorted_names)
    yield from compete(what, [ours, rival]).lines()
    yield from compete(f"open {MANY:,} datasets, local, names only", [lazy]).lines()
    catalog = open_catalog(store)
    alone = Contestant("ours", repeated(catalog.refresh, 20), share=20)
    yield from compete(f"refresh with nothing new, {MANY:,} datasets", [alone]).lines()


def our_ways(store: ObjectStore, names: list[str]) -> tuple[Contestant, Contestant]:
    """Return opening with every column unpacked, as the rivals do, and opening alone."""

    def whole() -> Catalog:
        catalog = open_catalog(store)
        catalog.get(names[-1])  # the first row that is asked for unpacks all columns
        return catalog

    def alone() -> Catalog:
        return open_catalog(store)

    return (
        Contestant("ours", repeated(whole), names_in, share=REPEATS),
        Contestant("ours", repeated(alone), names_in, share=REPEATS),
    )


def open_some(root: Path) -> Iterator[str]:
    """1,000 datasets: ours, pyiceberg (list and load each) and checkpointed deltalake."""
    names = names_of(SOME)
    store = local_store(root / "ours")
    our_catalog(store, names)
    schema = pa.schema([("n", pa.int64())])
    maker = iceberg(root / "iceberg", create=True)
    for name in names:
        maker.create_table(f"{NAMESPACE}.{name}", schema=schema)
    adds, rows = delta_adds(root / "adds", names), delta_rows(root / "rows", names)

    def load_each() -> list[Table]:
        catalog = iceberg(root / "iceberg")
        return [catalog.load_table(name) for name in catalog.list_tables(NAMESPACE)]

    def load_adds() -> pa.Table:
        return pa.table(DeltaTable(adds).get_add_actions(flatten=True))

    def load_rows() -> pa.Table:
        return DeltaTable(rows).to_pyarrow_table()

    ours, lazy = our_ways(store, names)
    values = Contestant("ours", lambda: open_catalog(store).list(), lambda m: [x.name for x in m])
    by_iceberg, by_adds, by_rows = (
        "pyiceberg, list and load each",
        "deltalake, a file per dataset",
        "deltalake, a row per dataset",
    )
    slow = Contestant(by_iceberg, load_each, lambda tables: sorted(t.name()[1] for t in tables))
    delta = [
        Contestant(
            by_adds,
            repeated(load_adds),
            lambda t: sorted(t["partition.name"].to_pylist()),
            share=REPEATS,
        ),
        Contestant(
            by_rows, repeated(load_rows), lambda t: sorted(t["name"].to_pylist()), share=REPEATS
        ),
    ]
    what = f"open {SOME:,} datasets"
    aims = Aims(ratio_min={by_iceberg: 50, by_adds: 2, by_rows: 2})
    yield from compete(f"{what}, all columns", [ours, slow]).lines(aims)
    yield from compete(f"{what}, all columns", [ours, *delta]).lines(aims)
    yield from compete(f"{what}, names only", [lazy]).lines()
    yield from compete(f"{what}, all as values", [values, slow], turns=3).lines()


def repeated(call: Callable[[], T], times: int = REPEATS) -> Callable[[], T]:
    """Return a function that calls so many times, and returns the last result."""

    def calls() -> T:
        for _ in range(times - 1):
            call()
        return call()

    return calls


def requests() -> str:
    """Return a table of the requests that opening takes, counted at a proxy before moto."""
    tail_of = f"ours, {TAIL_RECORDS} records behind the checkpoint"
    lines = [
        "Requests to open, counted at a proxy before moto (a listing is one per 1,000 keys):\n",
        f"| datasets | ours | {tail_of} | one file per manifest |",
        "|---|---|---|---|",
    ]
    counts = set[int]()
    with moto() as server, proxy(server) as counting:
        for count in COUNTED:
            names = names_of(count)
            plain, tail = count_opens(server, counting, names)
            counts.add(plain)
            files = "–"
            if count <= COUNTED_FILES_MAX:
                files = f"{count_files(server, counting, names):,}"
            lines.append(f"| {count:,} | {plain} | {tail} | {files} |")
    reached = len(counts) == 1 and max(counts) <= 3
    lines.append(f"\nAim: ≤ 3 + tail, equal for all: {'met' if reached else '**MISSED**'}")
    return "\n".join(lines)


def count_opens(server: Server, counting: Proxy, names: list[str]) -> tuple[int, int]:
    """Return the requests to open a catalog of these datasets, without and with a tail."""
    made = MemoryStore()
    catalog = our_catalog(made, names)
    found = []
    bucket = server.make_bucket(f"ours-{len(names)}")
    direct = S3Store(f"s3://{bucket}/c", options=server.options())
    through = S3Store(f"s3://{bucket}/c", options=counting.options())
    copied = set[str]()
    for _ in ("plain", "tail"):
        keys = made.list_after(CATALOG_PREFIX)
        for key in keys:
            if key not in copied:
                copy(made, direct, key)
                copied.add(key)
        counting.reset()
        opened = open_catalog(through)
        found.append(len(counting.requests))
        if (opened.seq, opened.get(names[-1])) != (catalog.seq, catalog.get(names[-1])):
            raise SystemExit(f"{len(names)} datasets: what was opened is not what was written")
        for number in range(TAIL_RECORDS):
            catalog.register(registrations_of([f"tail_{number}"]))
    through.close()
    direct.close()
    return found[0], found[1]


def copy(source: ObjectStore, target: ObjectStore, key: str) -> None:
    """Copy one object; the hint is one that is overwritten."""
    data = source.get(key)
    if key == HINT_KEY:
        target.replace(key, data)
    elif not target.put_if_absent(key, data):
        raise SystemExit(f"{key} is there already")


def count_files(server: Server, counting: Proxy, names: list[str]) -> int:
    """Return the requests to read one manifest after the other."""
    bucket = server.make_bucket(f"files-{len(names)}")
    direct = S3Store(f"s3://{bucket}/c", options=server.options())
    through = S3Store(f"s3://{bucket}/c", options=counting.options())
    for key, data in legacy_manifests(names):
        direct.put_if_absent(key, data)
    counting.reset()
    found = read_legacy(through)
    count = len(counting.requests)
    if [manifest.name for manifest in found.manifests] != names:
        raise SystemExit(f"{len(names)} files: what was read is not what was written")
    through.close()
    direct.close()
    return count
