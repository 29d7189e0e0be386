"""One layout: load whose windows all have the same buckets is summed as it is read.

    window 1   | b1 | b2 | b3 |          sums    | Σ  | Σ  | Σ  |
    window 2   | b1 | b2 | b3 |   ──▶
    window 3   | b1 | b2 | b3 |

A GROUP BY hashes the key of every row. Where windows repeat their buckets in order, as every
trace and every settled cluster writes them, comparing a row with its place in the first window
is several times faster, and needs memory for one window only. Two readings: of the keys, most of
which `row_groups` knows before they are unpacked, and of the counters that are asked for.

What does not fit - another bucket, another order, buckets that overlap, sums near 64 bits, a
window cut by a bound of the time - gives None, and the SQL texts answer, which hold for any
load. Both give the same numbers; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from workbench.query.row_groups import Rows, StoredColumns, batches, bounds_of, merged, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    import numpy.typing as npt

    from workbench.model.plan import Objective

COUNTED: Final = ("reads", "writes", "read_bytes", "write_bytes")
_BUCKET: Final = ("bucket_start", "bucket_end")
_SUM_MAX: Final = 1 << 61
# A first window of more buckets is left to SQL: it would be held here whole.
BUCKETS_MAX: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class Counter:
    """What a counter came to in all windows.

    Attributes:
        sums: By bucket.
        unknown: The buckets of which some window was not measured.
        peak: An upper bound of every sum.
    """

    sums: npt.NDArray[np.int64]
    unknown: npt.NDArray[np.bool_]
    peak: int


@dataclass(frozen=True, slots=True, eq=False)
class OneLayout:
    """The buckets of every window, ascending and disjoint, and where to read what they carried.

    Attributes:
        starts: First key of each bucket.
        ends: First key after it; null for no upper bound.
        since: Start of the time asked for.
        until: End of it, exclusive.
        rows: What is read; window after window, each bucket in its place.
    """

    starts: pa.Array
    ends: pa.Array
    since: datetime
    until: datetime
    rows: tuple[Rows, ...]
    _counters: dict[str, Counter | None] = field(default_factory=dict, repr=False)

    def atoms(self, objective: Objective) -> pa.Table | None:
        """Return `atom_start` and `load` as `atoms_of_load_window.sql` does.

        None where a counter is negative or no whole number, and near 64 bits.
        """
        weights = {
            "reads": objective.read_weight,
            "writes": objective.write_weight,
            "read_bytes": objective.byte_weight,
            "write_bytes": objective.byte_weight,
            "cpu_ns": objective.cpu_weight,
        }
        weighed = [(weight, name) for name, weight in weights.items() if weight]
        counters = self.counters([name for _, name in weighed])
        if counters is None:
            return None
        if sum(weight * counters[name].peak for weight, name in weighed) > _SUM_MAX:
            return None
        load = np.zeros(len(self.starts), dtype=np.int64)
        unknown = np.zeros(len(self.starts), dtype=np.bool_)
        for weight, name in weighed:
            load += weight * counters[name].sums
            unknown |= counters[name].unknown
        return pa.table({"atom_start": self.starts, "load": pa.array(load, mask=unknown)})

    def counters(self, names: Sequence[str]) -> dict[str, Counter] | None:
        """Return the counters, each read once; None where one cannot be summed here."""
        missing = [name for name in names if name not in self._counters]
        if missing:
            self._counters.update(_summed(self, missing))
        found = {name: self._counters[name] for name in names}
        told = {name: counter for name, counter in found.items() if counter is not None}
        return told if len(told) == len(found) else None

    @property
    def bounds(self) -> pa.Table:
        """The buckets as a table."""
        return pa.table({"bucket_start": self.starts, "bucket_end": self.ends})


def one_layout(load: pa.Table | ds.Dataset, since: datetime, until: datetime) -> OneLayout | None:
    """Return the buckets of load whose windows in [since, until) repeat them; else None."""
    found = rows_of(load, since, until)
    first = _first_window(found, since, until)
    if first is None:
        return None
    starts, ends = first
    if not _is_disjoint(starts, ends):
        return None
    made = OneLayout(starts, ends, since, until, tuple(found))
    return made if _repeats(made) else None


def one_window_each(load: pa.Table | ds.Dataset) -> list[tuple[int, int]] | None:
    """Return start and end of the windows, in microseconds, where each row group is of one.

    It is read off the footers alone; None where they do not tell it.
    """
    if isinstance(load, pa.Table):
        return None
    found: set[tuple[int, int]] = set()
    for fragment in load.get_fragments():
        if not isinstance(fragment, ds.ParquetFileFragment):
            return None
        for group in range(fragment.metadata.num_row_groups):
            if not fragment.metadata.row_group(group).num_rows:
                continue
            bounds = bounds_of(fragment, group)
            if bounds is None or bounds.start_min != bounds.start_max:
                return None
            if bounds.end_min != bounds.end_max:
                return None
            found.add((bounds.start_min, bounds.end_min))
    return sorted(found)


def _first_window(
    found: Iterable[Rows], since: datetime, until: datetime
) -> tuple[pa.Array, pa.Array] | None:
    """Return start and end of the first window's buckets; None where it has too many, or none."""
    first: list[pa.RecordBatch] = []
    window = None
    count = 0
    for rows in found:
        for batch in batches(rows, ["window_start", *_BUCKET], since, until):
            window = batch["window_start"][0] if window is None else window
            run = _run(batch, window)
            first.append(batch.slice(0, run).select(list(_BUCKET)))
            count += run
            if count > BUCKETS_MAX:
                return None
            if run < len(batch):
                return _columns(first)
    return _columns(first) if first else None


def _columns(first: list[pa.RecordBatch]) -> tuple[pa.Array, pa.Array]:
    table = pa.Table.from_batches(first)
    starts, ends = (pa.concat_arrays(table.column(name).chunks) for name in _BUCKET)
    return starts, ends


def _run(batch: pa.RecordBatch, window: pa.Scalar) -> int:
    """Return how many rows from the first on are of `window`."""
    other = pc.index(pc.equal(batch["window_start"], window), value=False).as_py()
    return len(batch) if other < 0 else int(other)


def _repeats(made: OneLayout) -> bool:
    """Tell whether each window has the buckets of the first, in their order, and all of them.

    Rows whose keys are stored as some that were looked at are not unpacked.
    """
    stored = StoredColumns(_BUCKET)
    place, count = 0, len(made.starts)
    waiting: list[Rows] = []
    for rows in made.rows:
        ahead = sum(each.count for each in waiting)
        if rows.inside and not stored.is_known(rows, (place + ahead) % count):
            waiting.append(rows)
            continue
        after = _place_after(made, waiting if rows.inside else [*waiting, rows], place)
        if after is None:
            return False
        place = (after + rows.count) % count if rows.inside else after
        waiting = []
    return _place_after(made, waiting, place) == 0


def _place_after(made: OneLayout, found: Iterable[Rows], place: int) -> int | None:
    """Return the place behind these rows; None where one of them is not of its place."""
    count = len(made.starts)
    for rows in merged(found):
        for batch in batches(rows, _BUCKET, made.since, made.until):
            at = 0
            while at < len(batch):
                length = min(len(batch) - at, count - place)
                if not _fits(made, batch.slice(at, length), place):
                    return None
                at, place = at + length, (place + length) % count
    return place


def _fits(made: OneLayout, rows: pa.RecordBatch, place: int) -> bool:
    """Tell whether rows are of the buckets from `place` on, and end in the time asked for."""
    length = len(rows)
    if not rows["bucket_start"].equals(made.starts.slice(place, length)):
        return False
    if not rows["bucket_end"].equals(made.ends.slice(place, length)):
        return False
    if "window_end" not in rows.schema.names:
        return True  # the footer told it
    end = rows["window_end"]
    return end.null_count == 0 and bool(pc.max(end).as_py() <= made.until)


def _summed(made: OneLayout, names: Sequence[str]) -> dict[str, Counter | None]:
    """Return counters by bucket; None for one with a value that cannot be summed here."""
    count = len(made.starts)
    found: dict[str, Counter | None] = {
        name: Counter(np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_), 0)
        for name in names
    }
    place = 0
    for rows in merged(made.rows):
        for batch in batches(rows, names, made.since, made.until):
            at = 0
            while at < len(batch):
                length = min(len(batch) - at, count - place)
                for name, counter in found.items():
                    if counter is not None:
                        values = batch[name].slice(at, length)
                        found[name] = _with_values(counter, values, place)
                at, place = at + length, (place + length) % count
    assert place == 0, "rows went or came between two readings"
    return found


def _with_values(counter: Counter, values: pa.Array, place: int) -> Counter | None:
    """Add values to the places from `place` on; None where they cannot be added."""
    here = slice(place, place + len(values))
    if values.type != pa.int64():
        try:
            values = values.cast(pa.int64())
        except pa.ArrowInvalid:
            return None
    if values.null_count:
        counter.unknown[here] |= np.asarray(values.is_null())
        values = values.fill_null(0)
    numbers = values.to_numpy(zero_copy_only=False)
    peak = counter.peak + int(numbers.max(initial=0))
    if peak > _SUM_MAX or int(numbers.min(initial=0)) < 0:
        return None
    counter.sums[here] += numbers
    return Counter(counter.sums, counter.unknown, peak)


def _is_disjoint(starts: pa.Array, ends: pa.Array) -> bool:
    if ends.slice(0, len(ends) - 1).null_count:
        return False
    here = pc.all(pc.less_equal(ends.slice(0, len(ends) - 1), starts.slice(1))).as_py()
    whole = pc.all(pc.fill_null(pc.less(starts, ends), fill_value=True)).as_py()
    return bool(here is not False and whole)
