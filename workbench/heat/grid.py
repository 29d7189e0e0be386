"""Grid: where each row of a load table lies in a matrix of key intervals and windows.

Buckets may change between windows (a route was split), so the rows of the matrix are the
*elementary intervals*: the key space cut at every bound that any bucket has.

    window 1   |------- bucket -------|---- bucket ----|
    window 2   |--- b ---|---- b -----|---- bucket ----|        after a split
    intervals  |    0    |     1      |       2        |

A row of the table covers the intervals `low` up to `high`, in one column of windows. Windows
mostly repeat the buckets of the one before; such a *layout* is placed once. Nothing is added up
here; `matrix` does that, and drops the intervals that no bucket ever covers (gaps between
routes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import InvalidInput, NotFound
from workbench.model.keys import printable_key
from workbench.model.tables import LOAD_WINDOW, check_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

CELLS_MAX: Final = 50_000_000
# Rows that are worked on at a time, so that temporaries stay small.
STEP_ROWS: Final = 1 << 20
_AXES: Final = ("cluster", "window_start", "window_end", "route_id", "bucket_start", "bucket_end")


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The intervals that the rows of a window cover; a row comes once for each of its own.

    Attributes:
        source: Which row of the window.
        interval: Which interval it covers.
        part: Which of its row's intervals this is, from 0.
        parts: How many intervals its row covers.
        single: Whether every row covers one interval, so that `source` counts up.
    """

    source: npt.NDArray[np.int64]
    interval: npt.NDArray[np.int64]
    part: npt.NDArray[np.int64]
    parts: npt.NDArray[np.int64]
    single: bool


@dataclass(frozen=True, slots=True)
class WindowRows:
    """The table rows of one window.

    Attributes:
        column: Which window, counted from the first.
        start: First row of the table.
        count: How many.
        layout_at: Where its buckets begin among those of all layouts.
    """

    column: int
    start: int
    count: int
    layout_at: int


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The axes of a matrix, and each table row's place on them.

    Attributes:
        table: The checked columns of the load table, ascending by window.
        bounds: Ascending; interval i is [bounds[i], bounds[i + 1]), None is no upper bound.
        columns: Number of windows, those without rows included.
        first_us: Start of the first window.
        window_us: Length of each.
        windows: The windows that have rows, ascending.
        low: First interval of each bucket of each layout.
        high: One past its last interval.
    """

    table: pa.Table
    bounds: tuple[bytes | None, ...]
    columns: int
    first_us: int
    window_us: int
    windows: tuple[WindowRows, ...]
    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]

    @property
    def intervals(self) -> int:
        """Number of elementary intervals."""
        return len(self.bounds) - 1

    def layouts(self) -> Iterator[tuple[WindowRows, Layout]]:
        """Yield each window with its layout, ascending; the same object where it repeats."""
        at, layout = -1, None
        for window in self.windows:
            if layout is None or window.layout_at != at:
                at, layout = window.layout_at, self.layout(window)
            yield window, layout

    def layout(self, window: WindowRows) -> Layout:
        """Return the intervals that the rows of `window` cover."""
        chosen = slice(window.layout_at, window.layout_at + window.count)
        low, parts = self.low[chosen], self.high[chosen] - self.low[chosen]
        source = np.arange(len(low), dtype=np.int64)
        if parts.max() == 1:
            return Layout(source, low, np.zeros_like(source), parts, single=True)
        source = np.repeat(source, parts)
        before = np.repeat(np.cumsum(parts) - parts, parts)
        part = np.arange(len(source), dtype=np.int64) - before
        return Layout(source, low[source] + part, part, parts[source], single=False)


def build_grid(load: pa.Table, counters: Sequence[str]) -> Grid:
    """Place the rows of `load`.

    Args:
        load: Columns of the LOAD_WINDOW schema; those that are not needed may be absent.
        counters: The counters that are needed.

    Raises:
        NotFound: code load_absent.
        InvalidInput: codes heat_clusters_mixed, heat_windows_uneven, heat_bucket_invalid,
            heat_too_large, and those of `check_table`.
    """
    schema = pa.schema([LOAD_WINDOW.field(name) for name in (*_AXES, *counters)])
    table = check_table(load, schema, "load table")
    if not table.num_rows:
        raise NotFound(
            "there is no load to draw",
            code="load_absent",
            hint="collect load first, or ask for a time that it covers",
        )
    _check_one_cluster(table)
    first_us, window_us, columns = _windows(table)
    _check_cells(1, columns)
    column = _columns(table, first_us, window_us)
    if (np.diff(column) < 0).any():
        order = np.argsort(column, kind="stable")
        table, column = table.take(pa.array(order)), column[order]
    windows, starts, ends = _distinct_layouts(table, column)
    bounds, low, high = _intervals(starts, ends)
    parts = high - low
    covered = sum(
        int(parts[window.layout_at : window.layout_at + window.count].sum()) for window in windows
    )
    _check_cells(len(bounds) - 1, columns)
    # Rows may also lie one over the other; twice the limit bounds the work.
    _check_cells(covered // 2, 1)
    return Grid(table, bounds, columns, first_us, window_us, windows, low, high)


def _check_cells(intervals: int, columns: int) -> None:
    if intervals * columns > CELLS_MAX:
        raise InvalidInput(
            f"{intervals} key ranges × {columns} windows exceed {CELLS_MAX} cells",
            code="heat_too_large",
            hint="ask for a shorter time with --since and --until",
        )


def _check_one_cluster(table: pa.Table) -> None:
    names = pc.unique(table.column("cluster"))
    if len(names) > 1:
        listed = ", ".join(ascii(name.as_py())[:32] for name in names[:4])
        raise InvalidInput(
            f"the load is of {len(names)} clusters: {listed}",
            code="heat_clusters_mixed",
            hint="draw one cluster at a time",
        )


def _windows(table: pa.Table) -> tuple[int, int, int]:
    """Return start of the first window, length of each, and how many there are, gaps included."""
    lengths: set[int] = set()
    for batch in table.select(["window_start", "window_end"]).to_batches(STEP_ROWS):
        start, end = (column.cast(pa.int64()).to_numpy() for column in batch.columns)
        if len(start):
            lengths |= {int((end - start).min()), int((end - start).max())}
    if len(lengths) > 1 or min(lengths) < 1:
        shown = " and ".join(f"{length // 1_000} ms" for length in sorted(lengths)[:2])
        raise _uneven(f"windows have lengths of {shown}")
    outer = pc.min_max(table.column("window_start").cast(pa.int64())).as_py()
    window_us = lengths.pop()
    if window_us % 1_000:
        raise _uneven(f"windows of {window_us} µs are not whole milliseconds")
    return outer["min"], window_us, (outer["max"] - outer["min"]) // window_us + 1


def _columns(table: pa.Table, first_us: int, window_us: int) -> npt.NDArray[np.int32]:
    """Return the window of each table row."""
    column = np.empty(table.num_rows, dtype=np.int32)
    at = 0
    for batch in table.select(["window_start"]).to_batches(STEP_ROWS):
        offset = batch.column(0).cast(pa.int64()).to_numpy() - first_us
        index = offset // window_us
        if not np.array_equal(index * window_us, offset):
            raise _uneven("windows do not start at multiples of their length from the first")
        column[at : at + len(index)] = index
        at += len(index)
    return column


def _distinct_layouts(
    table: pa.Table, column: npt.NDArray[np.int32]
) -> tuple[tuple[WindowRows, ...], pa.ChunkedArray, pa.ChunkedArray]:
    """Return the windows, and the bucket bounds of those that differ from the window before."""
    firsts = np.flatnonzero(np.diff(column, prepend=-1))
    counts = np.diff(firsts, append=len(column))
    columns = [table.column("bucket_start"), table.column("bucket_end")]
    windows: list[WindowRows] = []
    chunks: tuple[list[pa.Array], list[pa.Array]] = ([], [])
    layout: list[pa.ChunkedArray] = []
    at = placed = 0
    for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
        mine = [bounds.slice(first, count) for bounds in columns]
        if not layout or not all(new.equals(old) for new, old in zip(mine, layout, strict=True)):
            layout = mine
            for kept, new in zip(chunks, mine, strict=True):
                kept.extend(new.chunks)
            at, placed = placed, placed + count
        windows.append(WindowRows(int(column[first]), first, count, at))
    starts, ends = (pa.chunked_array(kept, pa.binary()) for kept in chunks)
    return tuple(windows), starts, ends


def _intervals(
    bucket_start: pa.ChunkedArray, bucket_end: pa.ChunkedArray
) -> tuple[tuple[bytes | None, ...], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the bounds of the elementary intervals, and each bucket's first and past-last one."""
    starts, start_codes = _coded(bucket_start)
    ends, end_codes = _coded(bucket_end)
    keys = {key for key in (*starts, *ends) if key is not None}
    bounds: list[bytes | None] = [*sorted(keys), *([None] if None in ends else [])]
    rank = {key: index for index, key in enumerate(bounds)}
    low = np.array([rank[key] for key in starts], dtype=np.int64)[start_codes]
    high = np.array([rank[key] for key in ends], dtype=np.int64)[end_codes]
    if (high <= low).any():
        row = int(np.argmax(high <= low))
        start, end = bounds[low[row]], bounds[high[row]]
        assert start is not None
        assert end is not None
        raise InvalidInput(
            f"bucket {printable_key(start)} → {printable_key(end)} is empty or reversed",
            code="heat_bucket_invalid",
            hint="bucket_start must be smaller than bucket_end",
        )
    return tuple(bounds), low, high


def _coded(column: pa.ChunkedArray) -> tuple[list[bytes | None], npt.NDArray[np.int32]]:
    """Return the distinct values of a column, null included, and the index of each row's value."""
    # Arrow gives all chunks of a column the one final dictionary, in order of appearance.
    encoded = pc.dictionary_encode(column)
    values: list[bytes | None] = encoded.chunk(0).dictionary.to_pylist()
    codes = np.empty(len(column), dtype=np.int32)
    at = 0
    for chunk in encoded.chunks:
        codes[at : at + len(chunk)] = chunk.indices.fill_null(len(values)).to_numpy()
        at += len(chunk)
    return [*values, *([None] if column.null_count else [])], codes


def _uneven(what: str) -> InvalidInput:
    return InvalidInput(
        f"the load does not form one time axis: {what}",
        code="heat_windows_uneven",
        hint="collect with one --window, or ask for a time with windows of one length",
    )
