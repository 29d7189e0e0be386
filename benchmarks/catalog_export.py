"""Rows into an export: from Arrow, and from a live cluster.

The layout of an export is DELTA_BYTE_ARRAY keys, row groups of 128 k rows, page index, page
checksums, declared order and zstd. *Encoded* is that alone, written to a file; *committed* is all
that the catalog does: order checked, SHA-256, fsync, record. The rivals write zstd with row groups
of the same size and leave the rest out, and nothing is synced but by the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow.parquet as pq

from benchmarks.catalog_sets import (
    KEY_PREFIX,
    create_catalog,
    folder,
    local_store,
    open_catalog,
    versions,
)
from benchmarks.measure import Aims, Contestant, compete
from workbench.catalog.catalog import Write
from workbench.catalog.parquet import ROW_GROUP_ROWS, encode_parts
from workbench.node.client import NodeClient
from workbench.node.kv_client import Kv, Mutation
from workbench.session.exporting import ExportOptions, export_cluster
from workbench.session.exporting_rows import LAYOUT
from workbench.session.local_cluster import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from workbench.session.exporting import ExportAnswer

ROWS = 2_000_000
VALUE_BYTES = 100
TURNS = 3
LIVE_ROWS = 400_000
LIVE_BATCH = 2_000
LIVE_GROUPS, LIVE_NODES = 2, 2


def run() -> Iterator[str]:
    """Yield the lines of the table."""
    with folder() as root:
        yield from from_arrow(root)
    with folder() as root:
        yield from from_live(root)


def from_arrow(root: Path) -> Iterator[str]:
    """Write 2 M rows of 16-byte keys and 100-byte values."""
    table = versions(ROWS, 1, VALUE_BYTES)
    catalog = create_catalog(local_store(root / "catalog"))
    numbers = iter(range(1_000_000))

    def encoded() -> list[str]:
        paths = []
        for number, data in enumerate(encode_parts("bench", table, {}, layout=LAYOUT)):
            path = root / f"encoded-{number}.parquet"
            path.write_bytes(data)
            paths.append(str(path))
        return paths

    def committed() -> list[str]:
        name = f"export/{next(numbers)}/version"
        catalog.commit([Write(name, table, layout=LAYOUT)])
        return [str(root / "catalog" / ref.key) for ref in catalog.get(name).objects]

    def by_pyarrow() -> list[str]:
        path = str(root / "pyarrow.parquet")
        pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP_ROWS)
        return [path]

    def by_duckdb() -> list[str]:
        path = str(root / "duckdb.parquet")
        with duckdb.connect() as connection:
            connection.register("version", table)
            connection.execute(
                f"COPY version TO '{path}' (FORMAT parquet, COMPRESSION zstd, "
                f"ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
            )
        return [path]

    frame = pl.from_arrow(table)

    def by_polars() -> list[str]:
        path = str(root / "polars.parquet")
        frame.write_parquet(path, compression="zstd", row_group_size=ROW_GROUP_ROWS)
        return [path]

    rivals = [
        Contestant("pyarrow", by_pyarrow, told),
        Contestant("DuckDB COPY", by_duckdb, told),
        Contestant("Polars", by_polars, told),
    ]
    size = f"{ROWS // 1_000_000} M rows of 16 + {VALUE_BYTES} bytes"
    aims = Aims(rows_s_min=1.5e6)
    for name, way in (("encoded", encoded), ("committed", committed)):
        contest = compete(
            f"export {size}, {name}",
            [Contestant("ours", way, told), *rivals],
            rows=ROWS,
            turns=TURNS,
        )
        yield from contest.lines(aims)


def told(paths: list[str]) -> tuple[int, bytes, bytes, int]:
    """Return what the files hold: rows, first and last key, bytes of all values."""
    files = [pq.ParquetFile(path) for path in paths]
    first = files[0].read_row_group(0, columns=["key"])["key"][0].as_py()
    last_file = files[-1]
    last = last_file.read_row_group(last_file.num_row_groups - 1, columns=["key"])["key"][-1]
    text = "SELECT sum(octet_length(value)) FROM read_parquet($paths)"
    total = duckdb.sql(text, params={"paths": paths}).fetchall()
    return sum(file.metadata.num_rows for file in files), first, last.as_py(), int(total[0][0])


def from_live(root: Path) -> Iterator[str]:
    """Export a cluster of real nodes on this machine into a catalog on the same disk."""
    create_catalog(local_store(root / "catalog"))
    numbers = iter(range(1_000_000))
    with running(root / "cluster", nodes=LIVE_NODES, groups=LIVE_GROUPS) as cluster:
        fill(list(cluster.addresses))

        def ours() -> ExportAnswer:
            options = ExportOptions(name=f"bench-{next(numbers)}", cluster="bench")
            return export_cluster(cluster.url, str(root / "catalog"), options)

        def rows(answer: ExportAnswer) -> int:
            stored = open_catalog(local_store(root / "catalog")).dataset(
                f"export/{answer.export.name}/version"
            )
            return int(stored.count_rows())

        def expected(_: object) -> int:
            return LIVE_ROWS

        contest = compete(
            f"export {LIVE_ROWS:,} rows from {LIVE_NODES} live nodes, {LIVE_GROUPS} groups",
            [Contestant("ours", ours, rows), Contestant("rows put", lambda: None, expected)],
            rows=LIVE_ROWS,
            turns=TURNS,
            every_turn=True,
        )
    yield from contest.without("rows put").lines(Aims(rows_s_min=0.4e6))


def fill(addresses: list[str]) -> None:
    """Put the rows into the cluster, spread over all routes."""
    table = versions(LIVE_ROWS, 1, VALUE_BYTES)
    with NodeClient(addresses) as client:
        routes = client.list_routes().routes
    with Kv(addresses) as kv:
        for number, route in enumerate(routes):
            # Keys of a route begin with its start, so that they lie in it.
            rows = table.slice(number * LIVE_ROWS // LIVE_GROUPS, LIVE_ROWS // LIVE_GROUPS)
            put(kv, route.span.start, rows)


def put(kv: Kv, start: bytes, rows: pa.Table) -> None:
    """Write rows under keys that begin with `start`, all as values."""
    keys, values = rows["key"].to_pylist(), rows["value"].to_pylist()
    lead = (start or b"\x01").ljust(len(KEY_PREFIX), b"/")
    pairs = [
        Mutation(lead + key.removeprefix(KEY_PREFIX), value or bytes(VALUE_BYTES))
        for key, value in zip(keys, values, strict=True)
    ]
    for at in range(0, len(pairs), LIVE_BATCH):
        kv.write(pairs[at : at + LIVE_BATCH])
