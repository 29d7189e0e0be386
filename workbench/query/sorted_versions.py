"""Which versions of an export a reader of one read_ts sees, in one pass over rows as they lie.

    key, commit_ts          a@9  a@4  a@2 │ b@7✝  b@3 │ c@8        ✝ tombstone
    read_ts = 5, visible         a@4  a@2 │       b@3 │
    newest of its key            a@4      │       b@3 │            live: a, b
    read_ts = 7, visible         a@4  a@2 │ b@7✝  b@3 │
    newest of its key            a@4      │ b@7✝      │            live: a

Rules:

- Versions of a key lie side by side, newest first, so a row is the newest that a reader sees
  where it is visible and the row before it is of another key or not visible: one comparison of
  neighbours instead of a hash table of all keys.
- Objects of an export hold one group's rows each, in the order in which they were told; those of
  one group, one after another, are a *chain*. A key has one group, so its versions lie in one
  chain. Row group statistics tell the group, and which row groups need not be read.
- The order is checked on the way, row by row. Where it does not hold (a compacted dataset, rows
  of another writer) all rows are sorted in memory, and the answer is the same, later.

Nothing is merged here: chains of groups with many spans interleave.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from workbench.model.times import hlc_to_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

T = TypeVar("T")

# What it takes to say which version is seen.
NEEDED: Final = ("key", "commit_ts", "kind", "expire_at")
# A row group of an export; smaller batches cost more calls than they save memory.
BATCH_ROWS: Final = 128 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """Some rows, with what a reader sees of them.

    Attributes:
        batch: The rows, at least one.
        visible: Per row, whether its commit_ts is not above read_ts.
        live: Per row, whether it is the value of its key as of read_ts.
    """

    batch: pa.RecordBatch
    visible: npt.NDArray[np.bool_]
    live: npt.NDArray[np.bool_]


class _UnsortedError(Exception):
    """Rows of a chain are not in the order of an export."""


def map_versions(  # noqa: PLR0913 - a question about a span as of a time: all belong together
    version: ds.Dataset | pa.Table,
    read_ts: int,
    keep: Callable[[Marked], T],
    *,
    columns: Iterable[str] = (),
    start: bytes = b"",
    end: bytes | None = None,
) -> list[list[T]]:
    """Return what `keep` makes of all rows of [start, end), per chain, in key order in each.

    Rows that no reader of `read_ts` sees may be left out.

    Args:
        version: VERSION rows.
        read_ts: HLC.
        keep: Called once per batch, or twice where the rows are not in order.
        columns: What `keep` reads beside NEEDED.
        start: First key.
        end: First key after it; None for no upper bound.
    """
    dataset = version if isinstance(version, ds.Dataset) else ds.dataset(version)
    names = list(dict.fromkeys([*NEEDED, *columns]))
    visible = pc.field("commit_ts") <= pa.scalar(read_ts, pa.uint64())
    span = key_range(start, end)
    try:
        return [
            [keep(marked) for marked in _mark(_batches(part, names, span), read_ts)]
            for part in _chains(dataset, visible if span is None else visible & span)
        ]
    except _UnsortedError:
        filtered = visible if span is None else visible & span
        table = dataset.to_table(columns=names, filter=filtered)
        order = [("key", "ascending"), ("commit_ts", "descending")]
        batches = table.sort_by(order).to_batches(max_chunksize=BATCH_ROWS)
        return [[keep(marked) for marked in _mark(batches, read_ts, strict=False)]]


def key_range(start: bytes, end: bytes | None) -> pc.Expression | None:
    """Return the filter for the keys of [start, end), None for all keys."""
    parts = []
    if start:
        parts.append(pc.field("key") >= pa.scalar(start, pa.binary()))
    if end is not None:
        parts.append(pc.field("key") < pa.scalar(end, pa.binary()))
    return None if not parts else parts[0] if len(parts) == 1 else parts[0] & parts[1]


def _chains(dataset: ds.Dataset, needed: pc.Expression) -> list[ds.Dataset]:
    """Return the rows as one dataset per group, without row groups that nobody sees."""
    if not isinstance(dataset, ds.FileSystemDataset):
        return [dataset]
    parts: dict[int | None, list[Any]] = {}
    for fragment in dataset.get_fragments(filter=needed):
        part = fragment.subset(filter=needed, schema=dataset.schema)
        if part.row_groups:
            parts.setdefault(_sole_group(part.row_groups), []).append(part)
    # Where one object holds rows of several groups, only their order as stored is known.
    runs = [list(chain.from_iterable(parts.values()))] if None in parts else list(parts.values())
    return [ds.FileSystemDataset(run, dataset.schema, dataset.format) for run in runs]


def _sole_group(row_groups: Sequence[Any]) -> int | None:
    """Return the group of all rows, None where there are several or nobody says."""
    bounds = set()
    for each in row_groups:
        told = (each.statistics or {}).get("group")
        bounds |= {None} if told is None else {told["min"], told["max"]}
    return bounds.pop() if len(bounds) == 1 else None


def _batches(
    dataset: ds.Dataset, names: list[str], span: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    scanner = dataset.scanner(columns=names, filter=span, batch_size=BATCH_ROWS)
    batches: Iterator[pa.RecordBatch] = scanner.to_batches()
    return batches


def _mark(
    batches: Iterable[pa.RecordBatch], read_ts: int, *, strict: bool = True
) -> Iterator[Marked]:
    """Yield the batches of one chain with what a reader sees.

    Args:
        batches: Ascending by key, then descending by commit_ts.
        read_ts: HLC.
        strict: Whether a commit_ts that comes twice for one key is out of order.
    """
    last: tuple[bytes, int] | None = None
    for batch in batches:
        count = batch.num_rows
        if count == 0:
            continue
        keys, commit_ts = batch.column("key"), batch.column("commit_ts").to_numpy()
        first = (keys[0].as_py(), int(commit_ts[0]))
        other = np.empty(count, dtype=np.bool_)  # than the row before: another key
        other[0] = last is None or last[0] != first[0]
        if count > 1:
            other[1:] = pc.greater(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
            _check_order(keys, commit_ts, other, strict=strict)
        if last is not None and (first[0] < last[0] or not (other[0] or first[1] < last[1])):
            raise _UnsortedError
        visible = commit_ts <= np.uint64(read_ts)
        newest = visible.copy()
        newest[1:] &= other[1:] | ~visible[:-1]
        newest[0] &= bool(other[0] or (last is not None and last[1] > read_ts))
        yield Marked(batch, visible, newest & _has_value(batch, read_ts))
        last = (keys[count - 1].as_py(), int(commit_ts[-1]))


def _check_order(
    keys: pa.Array, commit_ts: npt.NDArray[np.uint64], other: npt.NDArray[np.bool_], *, strict: bool
) -> None:
    """Raise _UnsortedError where a row does not belong behind the one before it."""
    if not strict:
        return
    same = ~other[1:]
    equal = pc.equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
    if not np.array_equal(same, equal) or (commit_ts[1:][same] >= commit_ts[:-1][same]).any():
        raise _UnsortedError


def _has_value(batch: pa.RecordBatch, read_ts: int) -> npt.NDArray[np.bool_]:
    """Return per row whether it is a value, and had not expired."""
    put: npt.NDArray[np.bool_] = pc.equal(batch.column("kind"), "put").to_numpy(
        zero_copy_only=False
    )
    expire_at = batch.column("expire_at")
    if expire_at.null_count == batch.num_rows:
        return put
    now = pa.scalar(hlc_to_us(read_ts), pa.int64())
    lasting = pc.fill_null(pc.greater(expire_at.cast(pa.int64()), now), fill_value=True)
    kept: npt.NDArray[np.bool_] = put & lasting.to_numpy(zero_copy_only=False)
    return kept
