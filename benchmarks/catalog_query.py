"""Questions to an export on disk: one key among 10 M rows, all keys as of a time.

Ours reads through the catalog's dataset, which checks sizes and page checksums. The rivals read
the same files with their own readers, which check neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import polars as pl

from benchmarks.catalog_sets import (
    EPOCH_MS,
    VERSION_SPREAD_MS,
    create_catalog,
    folder,
    local_store,
    versions,
)
from benchmarks.measure import Aims, Contestant, compete
from workbench.catalog.catalog import Write
from workbench.model.times import hlc_of_ms, hlc_to_us
from workbench.query.frames import as_of, key_history
from workbench.session.exporting_rows import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from workbench.catalog.catalog import Catalog

NAME = "export/bench/version"
LOOKUP_ROWS, LOOKUP_VALUE_BYTES = 10_000_000, 20
LOOKUPS = 20  # other keys, one after the other, per turn
AS_OF_KEYS, AS_OF_VERSIONS, AS_OF_VALUE_BYTES = 1_000_000, 4, 40


def run() -> Iterator[str]:
    """Yield the lines of the table."""
    with folder() as root:
        yield from lookup(root)
    with folder() as root:
        yield from state(root)


def exported(root: Path, table: pa.Table) -> tuple[Catalog, list[str]]:
    """Store rows as an export does; return the catalog and the paths of the files."""
    catalog = create_catalog(local_store(root))
    catalog.commit([Write(NAME, table, layout=LAYOUT)])
    return catalog, [str(root / ref.key) for ref in catalog.get(NAME).objects]


def lookup(root: Path) -> Iterator[str]:
    """All versions of one key, among 10 M rows; another key each time."""
    table = versions(LOOKUP_ROWS, 1, LOOKUP_VALUE_BYTES)
    at = range(LOOKUP_ROWS // (2 * LOOKUPS), LOOKUP_ROWS, LOOKUP_ROWS // LOOKUPS)
    keys: list[bytes] = [table["key"][row].as_py() for row in at]
    catalog, paths = exported(root, table)
    del table
    held = catalog.dataset(NAME)

    def each(one: Callable[[bytes], list[tuple[int, bytes]]]) -> Callable[[], object]:
        return lambda: [one(key) for key in keys]

    def opened(key: bytes) -> list[tuple[int, bytes]]:
        return key_history(catalog.dataset(NAME), key).select("commit_ts", "value").rows()

    def kept(key: bytes) -> list[tuple[int, bytes]]:
        return key_history(held, key).select("commit_ts", "value").rows()

    def by_polars(key: bytes) -> list[tuple[int, bytes]]:
        found = pl.scan_parquet(paths).filter(pl.col("key") == key)
        return found.select("commit_ts", "value").collect().rows()

    connection = duckdb.connect()

    def by_duckdb(key: bytes) -> list[tuple[int, bytes]]:
        return connection.execute(
            "SELECT commit_ts, value FROM read_parquet($paths) WHERE key = $key",
            {"paths": paths, "key": key},
        ).fetchall()

    rivals = [
        Contestant("Polars scan_parquet, no checks", each(by_polars), share=LOOKUPS),
        Contestant("DuckDB read_parquet, no checks", each(by_duckdb), share=LOOKUPS),
    ]
    rows = f"{LOOKUP_ROWS // 1_000_000} M rows, {len(paths)} files"
    for what, one in (("dataset opened each time", opened), ("dataset kept open", kept)):
        ours = Contestant("ours", each(one), share=LOOKUPS)
        contest = compete(f"point lookup in {rows}, {what}", [ours, *rivals])
        yield from contest.lines(Aims(ms_max=25))
    connection.close()


def state(root: Path) -> Iterator[str]:
    """The value of every key in the middle of the time that 4 M versions span."""
    table = versions(AS_OF_KEYS, AS_OF_VERSIONS, AS_OF_VALUE_BYTES)
    rows = table.num_rows
    catalog, paths = exported(root, table)
    del table
    read_ts = hlc_of_ms(EPOCH_MS + VERSION_SPREAD_MS // 2)
    connection = duckdb.connect()
    for columns, what in (
        (("key", "commit_ts"), "keys and times"),
        (("key", "commit_ts", "value"), "with values"),
    ):
        contest = compete(
            f"as-of over {rows // 1_000_000} M versions, {what}",
            [
                Contestant("ours", our_state(catalog, read_ts, columns), summed),
                Contestant("Polars group_by", polars_state(paths, read_ts, columns), summed),
                Contestant(
                    "DuckDB arg_max", duckdb_state(connection, paths, read_ts, columns), summed
                ),
            ],
            rows=rows,
        )
        yield from contest.lines(Aims(rows_s_min=8e6))
    connection.close()


def our_state(
    catalog: Catalog, read_ts: int, columns: tuple[str, ...]
) -> Callable[[], pl.DataFrame]:
    """Return our way."""
    return lambda: as_of(catalog.dataset(NAME), read_ts, columns=columns)


def polars_state(
    paths: list[str], read_ts: int, columns: tuple[str, ...]
) -> Callable[[], pl.DataFrame]:
    """Return the way of Polars, which is told that rows of a key stand newest first."""
    now = pl.lit(hlc_to_us(read_ts)).cast(pl.Datetime("us", "UTC"))
    newest = [pl.col(name).first() for name in (*columns[1:], "kind", "expire_at")]

    def ask() -> pl.DataFrame:
        return (
            pl.scan_parquet(paths)
            .filter(pl.col("commit_ts") <= read_ts)
            .group_by("key")
            .agg(newest)
            .filter(
                (pl.col("kind") == "put")
                & (pl.col("expire_at").is_null() | (pl.col("expire_at") > now))
            )
            .select(columns)
            .collect()
        )

    return ask


def duckdb_state(
    connection: duckdb.DuckDBPyConnection, paths: list[str], read_ts: int, columns: tuple[str, ...]
) -> Callable[[], pa.Table]:
    """Return the way of DuckDB."""
    fields = ", ".join(columns[1:])
    text = f"""
        SELECT key, {", ".join(f"newest.{name} AS {name}" for name in columns[1:])}
        FROM (
            SELECT key, arg_max(struct_pack(kind, expire_at, {fields}), commit_ts) AS newest
            FROM read_parquet($paths) WHERE commit_ts <= $read_ts GROUP BY key
        )
        WHERE newest.kind = 'put' AND (
            newest.expire_at IS NULL OR epoch_us(newest.expire_at) > $now_us
        )
    """  # noqa: S608  # of our own column names
    given = {"paths": paths, "read_ts": read_ts, "now_us": hlc_to_us(read_ts)}
    return lambda: connection.sql(text, params=given).to_arrow_table()


def summed(found: pl.DataFrame | pa.Table) -> tuple[int, int, bytes, bytes, int]:
    """Return what tells answers apart: rows, sum of times, extreme keys, sum of row hashes."""
    frame = found if isinstance(found, pl.DataFrame) else pl.DataFrame(pl.from_arrow(found))
    keys, hashes = frame["key"], frame.hash_rows(seed=1)
    total = int(hashes.cast(pl.Int128).sum())
    return (
        frame.height,
        int(frame["commit_ts"].cast(pl.Int128).sum()),
        keys.min(),
        keys.max(),
        total,
    )
