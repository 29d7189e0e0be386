"""One layout: load whose windows all have the same buckets is summed as it is read.

    window 1   | b1 | b2 | b3 |          sums    | Σ  | Σ  | Σ  |
    window 2   | b1 | b2 | b3 |   ──▶
    window 3   | b1 | b2 | b3 |

A GROUP BY hashes the key of every row. Where windows repeat their buckets in order, as every
trace and every settled cluster writes them, comparing a row with its place in the first window
is several times faster, and needs memory for one window only.

What does not fit - another bucket, another order, buckets that overlap, sums near 64 bits, a
window cut by a bound of the time - gives None, and the SQL texts answer, which hold for any
load. Both give the same numbers; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import numpy.typing as npt

    from workbench.model.plan import Objective

COUNTED: Final = ("reads", "writes", "read_bytes", "write_bytes")
# Enough to decode ahead on every core, and little enough not to hold a file.
READAHEAD_BATCHES: Final = 8
_AXES: Final = ("window_start", "window_end", "bucket_start", "bucket_end")
_SUM_MAX: Final = 1 << 61
# A first window of more buckets is left to SQL: it would be held here whole.
BUCKETS_MAX: Final = 20_000_000


@dataclass(frozen=True, slots=True, eq=False)
class OneLayout:
    """The buckets of every window, ascending and disjoint, and what they carried in all.

    Attributes:
        starts: First key of each bucket.
        ends: First key after it; null for no upper bound.
        sums: Of each counter, by bucket.
        nulls: Of each counter, the buckets of which some window was not measured.
        peaks: Of each counter, an upper bound of every sum.
    """

    starts: pa.Array
    ends: pa.Array
    sums: dict[str, npt.NDArray[np.int64]]
    nulls: dict[str, npt.NDArray[np.bool_]]
    peaks: dict[str, int]

    def atoms(self, objective: Objective) -> pa.Table | None:
        """Return `atom_start` and `load` as `atoms_of_load_window.sql` does; None near 64 bits."""
        weights = {
            "reads": objective.read_weight,
            "writes": objective.write_weight,
            "read_bytes": objective.byte_weight,
            "write_bytes": objective.byte_weight,
        }
        if sum(weight * self.peaks[name] for name, weight in weights.items()) > _SUM_MAX:
            return None
        load = np.zeros(len(self.starts), dtype=np.int64)
        unknown = np.zeros(len(self.starts), dtype=np.bool_)
        for name, weight in weights.items():
            if weight:
                load += weight * self.sums[name]
                unknown |= self.nulls[name]
        return pa.table({"atom_start": self.starts, "load": pa.array(load, mask=unknown)})

    @property
    def bounds(self) -> pa.Table:
        """The buckets as a table."""
        return pa.table({"bucket_start": self.starts, "bucket_end": self.ends})


def one_layout(load: pa.Table | ds.Dataset, since: datetime, until: datetime) -> OneLayout | None:
    """Return the sums of load whose windows in [since, until) repeat their buckets; else None."""
    batches = _rows(load, since, until)
    first: list[pa.RecordBatch] = []
    window = None
    rows = 0
    for batch in batches:
        cut = 0
        while cut < len(batch):
            window = batch["window_start"][cut] if window is None else window
            run = _run(batch, cut, window)
            first.append(batch.slice(cut, run))
            rows += run
            cut += run
            if cut < len(batch) or rows > BUCKETS_MAX:
                break
        if cut < len(batch) or rows > BUCKETS_MAX:
            return _summed(first, batch.slice(cut), batches, until)
    return _summed(first, None, batches, until) if first else None


def _rows(
    load: pa.Table | ds.Dataset, since: datetime, until: datetime
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of windows that start in [since, until), in their order."""
    time = pa.timestamp("us", tz="UTC")
    low, high = pa.scalar(since, time), pa.scalar(until, time)
    names = [*_AXES, *COUNTED]
    for batch in _batches(load, names, low, high):
        if not len(batch):
            continue
        start = batch["window_start"]
        outer = pc.min_max(start)
        # Rows are copied only where some of them are outside.
        if pc.less(outer["min"], low).as_py() or pc.greater_equal(outer["max"], high).as_py():
            kept = batch.filter(pc.and_(pc.greater_equal(start, low), pc.less(start, high)))
        else:
            kept = batch
        if len(kept):
            yield kept


def _batches(
    load: pa.Table | ds.Dataset, names: list[str], low: pa.Scalar, high: pa.Scalar
) -> Iterator[pa.RecordBatch]:
    if isinstance(load, pa.Table):
        yield from load.select(names).to_batches()
        return
    start = ds.field("window_start")
    for fragment in load.get_fragments(filter=(start >= low) & (start < high)):
        yield from fragment.to_batches(columns=names, batch_readahead=READAHEAD_BATCHES)


def _run(batch: pa.RecordBatch, at: int, window: pa.Scalar) -> int:
    """Return how many rows from `at` on are of `window`."""
    other = pc.index(pc.equal(batch["window_start"].slice(at), window), value=False).as_py()
    return len(batch) - at if other < 0 else int(other)


def _summed(
    first: list[pa.RecordBatch],
    rest: pa.RecordBatch | None,
    batches: Iterator[pa.RecordBatch],
    until: datetime,
) -> OneLayout | None:
    """Add the rows of later windows to those of the first, place by place."""
    layout = pa.Table.from_batches(first).combine_chunks()
    count = layout.num_rows
    starts, ends = (layout[name].combine_chunks() for name in ("bucket_start", "bucket_end"))
    starts, ends = (
        each.chunk(0) if isinstance(each, pa.ChunkedArray) else each for each in (starts, ends)
    )
    if count > BUCKETS_MAX or not _is_disjoint(starts, ends):
        return None
    made = OneLayout(
        starts,
        ends,
        {name: np.zeros(count, dtype=np.int64) for name in COUNTED},
        {name: np.zeros(count, dtype=np.bool_) for name in COUNTED},
        dict.fromkeys(COUNTED, 0),
    )
    place = 0
    pending = [*first, *([] if rest is None else [rest])]
    for source in (iter(pending), batches):
        for batch in source:
            at = 0
            while at < len(batch):
                length = min(len(batch) - at, count - place)
                if not _add(made, batch.slice(at, length), place, until):
                    return None
                at, place = at + length, (place + length) % count
    return made if place == 0 else None


def _add(made: OneLayout, rows: pa.RecordBatch, place: int, until: datetime) -> bool:
    """Add rows to the places from `place` on; False where they are other buckets."""
    length = len(rows)
    if not rows["bucket_start"].equals(made.starts.slice(place, length)):
        return False
    if not rows["bucket_end"].equals(made.ends.slice(place, length)):
        return False
    if pc.max(rows["window_end"]).as_py() > until:
        return False
    here = slice(place, place + length)
    for name in COUNTED:
        column = rows[name]
        if column.null_count:
            made.nulls[name][here] |= np.asarray(column.is_null())
            column = column.fill_null(0)
        values = column.to_numpy(zero_copy_only=False)
        made.peaks[name] += int(values.max(initial=0))
        if made.peaks[name] > _SUM_MAX or int(values.min(initial=0)) < 0:
            return False
        made.sums[name][here] += values
    return True


def _is_disjoint(starts: pa.Array, ends: pa.Array) -> bool:
    if ends.slice(0, len(ends) - 1).null_count:
        return False
    here = pc.all(pc.less_equal(ends.slice(0, len(ends) - 1), starts.slice(1))).as_py()
    whole = pc.all(pc.fill_null(pc.less(starts, ends), fill_value=True)).as_py()
    return bool(here is not False and whole)
