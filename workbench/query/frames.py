"""The answers of the package's SQL texts as Polars frames, over checked pyarrow datasets.

    as_of, key_history                     an export's versions
    owner_at_version, owner_at_time        the route versions on record
    route_bytes                            both
    load_per_route, load_heat              load windows

Each function answers as the text of its name in `sql/` does, the same rows in the same order; a
test compares them with each other and with plain Python. Data come in as pyarrow datasets or
tables, never through Polars' own Parquet reader, which does not verify page checksums. A page
that fails its checksum is pyarrow's OSError.

`as_of` and `route_bytes` read rows as they are stored, in one pass (`sorted_versions`). The other
functions read few rows, and leave the work to Polars.
"""

from __future__ import annotations

from bisect import bisect_left
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from workbench.errors import Corruption
from workbench.model.keys import printable_key
from workbench.model.tables import COUNTERS, VERSION
from workbench.model.times import HLC_LOGICAL_BITS, hlc_to_us
from workbench.query.sorted_versions import Marked, map_versions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import numpy.typing as npt

AS_OF_COLUMNS: Final = ("key", "commit_ts", "value", "expire_at", "group")
OWNER_COLUMNS: Final = (
    "route_id",
    "start",
    "end",
    "group",
    "state",
    "catalog_version",
    "recorded_at",
)
SUMS: Final = ("live_keys", "tombstones", "versions", "key_bytes", "value_bytes")
# Beyond so many turns from one chain to another, sorting is cheaper than merging.
MERGE_RUNS_MAX: Final = 20_000


def as_of(
    version: ds.Dataset | pa.Table,
    read_ts: int,
    *,
    start: bytes = b"",
    end: bytes | None = None,
    columns: Sequence[str] = AS_OF_COLUMNS,
) -> pl.DataFrame:
    """Return the value of every key of [start, end) as of `read_ts`, ascending by key.

    Args:
        version: VERSION rows. Fast where objects hold rows in the order of an export.
        read_ts: HLC. A value has expired where `expire_at` is not after its physical time.
        start: First key.
        end: First key after it; None for no upper bound.
        columns: Which of AS_OF_COLUMNS; `value` is most of the work.

    Raises:
        Corruption: `key_in_two_groups`.
    """
    names = list(dict.fromkeys(["key", *columns]))
    schema = pa.schema([VERSION.field(name) for name in names])

    def keep(marked: Marked) -> pa.RecordBatch:
        return marked.batch.select(names).filter(pa.array(marked.live))

    chains = map_versions(version, read_ts, keep, columns=names, start=start, end=end)
    tables = [pa.Table.from_batches(kept) for kept in chains if kept]
    return _frame((_merged(tables) if tables else schema.empty_table()).select(list(columns)))


def key_history(version: ds.Dataset | pa.Table, key: bytes) -> pl.DataFrame:
    """Return every version of `key`, newest first: commit_ts, kind, value, expire_at, group."""
    columns = [name for name in VERSION.names if name != "key"]
    wanted = pc.field("key") == pa.scalar(key, pa.binary())
    found = _table(_holding(version, wanted), columns, wanted)
    return _frame(found).sort("commit_ts", descending=True)


def owner_at_version(
    route: ds.Dataset | pa.Table, key: bytes, catalog_version: int
) -> pl.DataFrame:
    """Return the route that owned `key` at a catalog version; no row where none did.

    The rules are in `owner_at_version.sql`, also those of `is_certain`.
    """
    versions = _versions(route)
    below = max((each for each in versions if each <= catalog_version), default=None)
    above = min((each for each in versions if each >= catalog_version), default=None)
    holder = _holders(route, key)
    later = holder.filter(pl.col("catalog_version") == pl.lit(above, pl.UInt64))
    seen = {(row["route_id"], row["group"]) for row in later.iter_rows(named=True)}
    wanted = pl.col("catalog_version") == pl.lit(below, pl.UInt64)
    owner = holder.filter(wanted).sort("recorded_at").head(1)
    certain = [
        row["catalog_version"] == catalog_version or (row["route_id"], row["group"]) in seen
        for row in owner.iter_rows(named=True)
    ]
    return owner.with_columns(pl.Series("is_certain", certain, pl.Boolean))


def owner_at_time(route: ds.Dataset | pa.Table, key: bytes, read_ts: int) -> pl.DataFrame:
    """Return the route that owned `key` as of `read_ts` (HLC); no row where none is known.

    The rules are in `owner_at_time.sql`, also those of `is_certain`.
    """
    first_version = min(_versions(route), default=None)
    moment = pl.lit(hlc_to_us(read_ts)).cast(pl.Datetime("us", "UTC"))
    hlc = pl.lit(read_ts, pl.UInt64)
    seen_at = pl.col("recorded_at")
    first_seen = seen_at.min().over("route_id")
    holder = _holders(route, key, "parent_route_id", "split_at_hlc").with_columns(
        first_seen_at=first_seen,
        last_seen_at=seen_at.max().over("route_id"),
        begins_at=pl.when(pl.col("split_at_hlc") > 0)
        .then(pl.col("split_at_hlc"))
        .when(pl.col("catalog_version").min().over("route_id") == pl.lit(first_version, pl.UInt64))
        .then(pl.lit(0, pl.UInt64))
        .otherwise(
            first_seen.dt.epoch("ms").cast(pl.UInt64) * pl.lit(1 << HLC_LOGICAL_BITS, pl.UInt64)
        ),
    )
    later = holder.filter(pl.col("begins_at") > hlc).sort("begins_at", "route_id")
    parent = later["parent_route_id"][0] if later.height else None
    is_told = (pl.col("split_at_hlc") > 0) | (pl.col("first_seen_at") <= moment)
    is_seen = (pl.col("last_seen_at") >= moment) | (
        pl.col("route_id") == pl.lit(parent, pl.UInt64)
    ).fill_null(value=False)
    return (
        holder.filter(pl.col("begins_at") <= hlc)
        .with_columns(
            is_before=seen_at <= moment,
            distance=(seen_at - moment).abs(),
            is_certain=is_told & is_seen,
        )
        .sort(
            ["begins_at", "route_id", "is_before", "distance", "catalog_version"],
            descending=[True, True, True, False, True],
        )
        .head(1)
        .select(*OWNER_COLUMNS, "is_certain")
    )


def route_bytes(
    version: ds.Dataset | pa.Table,
    route: ds.Dataset | pa.Table,
    *,
    catalog_version: int,
    read_ts: int,
) -> pl.DataFrame:
    """Return what every route of a catalog version holds as of `read_ts` (HLC).

    One row per route, and one of route null for versions in no route's span; counts and bytes of
    keys and values over all versions up to `read_ts`, and of keys that have a value.
    """
    below = max((each for each in _versions(route) if each <= catalog_version), default=None)
    columns = ["catalog_version", "route_id", "start", "end", "group"]
    wanted = pc.field("catalog_version") == pa.scalar(below, pa.uint64())
    spans = _frame(_table(route, columns, wanted)).unique().sort("start")
    bounds, owners = _segments(spans)

    def keep(marked: Marked) -> npt.NDArray[np.int64]:
        return _sums_by_segment(marked, bounds)

    chains = map_versions(version, read_ts, keep, columns=("value",))
    total = sum((part for each in chains for part in each), np.zeros((len(bounds), 5), np.int64))
    sums = np.zeros((spans.height + 1, len(SUMS)), dtype=np.int64)
    np.add.at(sums, owners, total)
    rows = spans.with_columns(pl.Series(n, sums[:-1, i]) for i, n in enumerate(SUMS))
    if not sums[-1].any():
        return rows
    nobody = pl.DataFrame({n: [int(sums[-1, i])] for i, n in enumerate(SUMS)})
    return pl.concat([rows, nobody], how="diagonal")


def load_per_route(
    load_window: ds.Dataset | pa.Table,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pl.DataFrame:
    """Return the load of every route as it was measured, in windows that start in the time.

    A parent and its children each have their own. A counter is null where any bucket lacks it.
    """
    columns = ["route_id", "group", "window_start", "window_end", *COUNTERS, "coverage"]
    rows = _windows(load_window, columns, since, until)
    return (
        rows.group_by("route_id", "group")
        .agg(
            pl.col("window_start").min().alias("since"),
            pl.col("window_end").max().alias("until"),
            pl.col("window_start").n_unique().cast(pl.Int64).alias("windows"),
            *map(_sum_of_measured, COUNTERS),
            pl.col("coverage").min(),
        )
        .sort("route_id", "group")
    )


def load_heat(
    load_window: ds.Dataset | pa.Table,
    *,
    column_ms: int,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pl.DataFrame:
    """Return load by bucket and time, in columns of `column_ms` that begin at multiples of it.

    A counter is null where any window of bucket and column lacks it.
    """
    columns = ["window_start", "bucket_start", "bucket_end", *COUNTERS]
    rows = _windows(load_window, columns, since, until)
    start_ms = pl.col("window_start").dt.epoch("ms") // column_ms * column_ms
    moment = (start_ms * 1_000).cast(pl.Datetime("us", "UTC")).alias("column_start")
    return (
        rows.group_by(moment, "bucket_start", "bucket_end")
        .agg(
            pl.col("window_start").n_unique().cast(pl.Int64).alias("windows"),
            *map(_sum_of_measured, COUNTERS),
        )
        .sort("column_start", "bucket_start", "bucket_end", nulls_last=True)
    )


def _holding(version: ds.Dataset | pa.Table, wanted: pc.Expression) -> ds.Dataset | pa.Table:
    """Return the row groups with rows that are wanted, by the columns that `wanted` names.

    Where a group has many spans, statistics leave several row groups for one key. To read their
    keys first costs less than half of reading them whole.
    """
    if not isinstance(version, ds.FileSystemDataset):
        return version
    parts = [
        fragment.subset(row_group_ids=[group.id])
        for fragment in version.get_fragments(filter=wanted)
        for group in fragment.subset(filter=wanted, schema=version.schema).row_groups
    ]
    if len(parts) > 1:
        parts = [part for part in parts if part.count_rows(filter=wanted)]
    return ds.FileSystemDataset(parts, version.schema, version.format)


def _windows(
    load_window: ds.Dataset | pa.Table,
    columns: Sequence[str],
    since: datetime | None,
    until: datetime | None,
) -> pl.DataFrame:
    wanted: pc.Expression = pc.scalar(True)  # noqa: FBT003 - pyarrow's signature
    if since is not None:
        wanted &= pc.field("window_start") >= pa.scalar(since, pa.timestamp("us", "UTC"))
    if until is not None:
        wanted &= pc.field("window_start") < pa.scalar(until, pa.timestamp("us", "UTC"))
    return _frame(_table(load_window, columns, wanted))


def _sum_of_measured(name: str) -> pl.Expr:
    """Return the sum of a counter, null where any row lacks it."""
    return pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name)


def _versions(route: ds.Dataset | pa.Table) -> list[int]:
    """Return the catalog versions on record."""
    found = _table(route, ["catalog_version"], None)
    return cast("list[int]", pc.unique(found.column(0)).to_pylist())


def _holders(route: ds.Dataset | pa.Table, key: bytes, *more: str) -> pl.DataFrame:
    """Return the recorded routes whose span has `key`, of all catalog versions."""
    bound = pa.scalar(key, pa.binary())
    end = pc.field("end")
    wanted = (pc.field("start") <= bound) & (end.is_null() | (end > bound))
    return _frame(_table(route, [*OWNER_COLUMNS, *more], wanted))


def _segments(spans: pl.DataFrame) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """Return where the owner of keys changes, and who owns from there on: a row of `spans`.

    The first bound is the lowest key. Nobody is the number after the last row.
    """
    nobody = spans.height
    bounds, owners = [b""], [nobody]
    for row, (start, end) in enumerate(spans.select("start", "end").iter_rows()):
        if start == bounds[-1]:
            owners[-1] = row
        else:
            bounds.append(start)
            owners.append(row)
        if end is not None:
            bounds.append(end)
            owners.append(nobody)
    return bounds, np.array(owners, dtype=np.int64)


def _sums_by_segment(marked: Marked, bounds: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """Return the sums of the rows per segment of the keys, in the order of SUMS."""
    keys = marked.batch.column("key")
    count = len(keys)
    low = bisect_left(bounds, keys[0].as_py())
    high = bisect_left(bounds, keys[count - 1].as_py(), lo=low)
    # Segment low - 1 goes on into these rows where no bound is their first key.
    cuts = [_position(keys, bound, 0) for bound in bounds[low : high + 1]]
    visible = marked.visible
    tombstone = pc.equal(marked.batch.column("kind"), "tombstone").to_numpy(zero_copy_only=False)
    value_bytes = pc.fill_null(pc.binary_length(marked.batch.column("value")), 0).to_numpy()
    columns = (
        marked.live,
        tombstone & visible,
        visible,
        pc.binary_length(keys).to_numpy() * visible,
        value_bytes * visible,
    )
    sums = np.zeros((len(bounds), len(columns)), dtype=np.int64)
    for number, column in enumerate(columns):
        running = np.concatenate([[0], np.cumsum(column, dtype=np.int64)])
        edges = running[[0, *cuts, count]]
        parts = np.diff(edges)
        # Below the first bound, which is the lowest key, there is nothing.
        parts, first = (parts, low - 1) if low else (parts[1:], 0)
        sums[first : first + len(parts), number] = parts
    return sums


def _position(keys: pa.Array, bound: bytes, low: int) -> int:
    """Return the first row whose key is not below `bound`."""
    return bisect_left(range(len(keys)), bound, lo=low, key=lambda row: keys[row].as_py())


def _merged(tables: list[pa.Table]) -> pa.Table:
    """Return the rows of tables that each ascend by key as one that does.

    Whole runs are taken from one table at a time: groups have few spans, and rows are many.
    """
    empty = tables[0].slice(0, 0)
    tables = [table for table in tables if table.num_rows]
    if len(tables) <= 1:
        return tables[0] if tables else empty
    tables = [table.combine_chunks() for table in tables]
    keys = [table.column("key").combine_chunks() for table in tables]
    heads = [(column[0].as_py(), number, 0) for number, column in enumerate(keys)]
    heapify(heads)
    runs: list[pa.Table] = []
    while heads:
        if len(runs) > MERGE_RUNS_MAX:
            whole = pa.concat_tables(tables).sort_by("key")
            _check_distinct(whole)
            return whole
        first, number, row = heappop(heads)
        column = keys[number]
        stop = len(column)
        if heads:
            if heads[0][0] == first:
                raise _in_two_groups(first)
            stop = _position(column, heads[0][0], row)
        runs.append(tables[number].slice(row, stop - row))
        if stop < len(column):
            heappush(heads, (column[stop].as_py(), number, stop))
    return pa.concat_tables(runs)


def _check_distinct(table: pa.Table) -> None:
    keys = table.column("key").combine_chunks()
    twice = pc.equal(keys[1:], keys[:-1])
    if pc.any(twice).as_py():
        raise _in_two_groups(keys[pc.index(twice, value=True).as_py()].as_py())


def _in_two_groups(key: bytes) -> Corruption:
    return Corruption(
        f"key {printable_key(key)} has versions in objects of two groups",
        code="key_in_two_groups",
        hint="these are rows of two exports, or of none; export again under another name",
    )


def _table(
    data: ds.Dataset | pa.Table, columns: Sequence[str], wanted: pc.Expression | None
) -> pa.Table:
    dataset = data if isinstance(data, ds.Dataset) else ds.dataset(data)
    return dataset.to_table(columns=list(columns), filter=wanted)


def _frame(table: pa.Table) -> pl.DataFrame:
    return cast("pl.DataFrame", pl.from_arrow(table, rechunk=False))
