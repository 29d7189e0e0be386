"""Load tables at the door: what a row says must make sense, not only fit its schema.

    table from outside ──check_load──────────▶ LOAD_WINDOW, or InvalidInput that names the row
                       ──check_hot_keys──────▶ HOT_KEY
                       ──check_key_samples───▶ KEY_SAMPLE

Rules of `load_window`:

- A window ends after it starts; windows of a table do not overlap in part.
- A bucket is not empty, and lies in its route where the routes are given.
- In one window the buckets of a route on one group do not overlap: load would count twice.
- `coverage` is a number from 0 to 1, `error_bound` one from 0; counters are never negative.

Rows may come in any order. What is absent was not measured, and is no error: a table without
rows, with one window, with zeros alone or with nulls alone is accepted, and whoever asks for
more says so.

Nothing is mended here: a table is taken whole or not at all. Schemas are in `tables`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import InvalidInput
from workbench.model.keys import KEY_BYTES_MAX, printable_key
from workbench.model.tables import HOT_KEY, KEY_SAMPLE, LOAD_WINDOW, check_table
from workbench.model.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workbench.model.keys import Span

OPERATIONS: Final = ("read", "write")
# A sample that stands for more is taken for a mistake; sums of weights stay exact far above it.
WEIGHT_MAX: Final = 1e12


def check_load(
    table: pa.Table, what: str = "load table", *, spans: Mapping[int, Sequence[Span]] | None = None
) -> pa.Table:
    """Return `table` with exactly the columns of LOAD_WINDOW, or refuse it.

    Args:
        table: Rows in any order.
        what: Its name, for messages.
        spans: By route id, the spans that the route had in any catalog version; None where
            they are not known. A route that is not among them is not checked against them.

    Raises:
        InvalidInput: `columns_missing`, `schema_mismatch`, `null_in_required_column`,
            `counter_negative`, `load_window_reversed`, `load_windows_overlap`,
            `load_bucket_reversed`, `load_buckets_overlap`, `load_bucket_outside_route`,
            `load_coverage_invalid`, `load_error_bound_invalid`, `key_too_long`.
    """
    checked = check_table(table, LOAD_WINDOW, what)
    if checked.num_rows == 0:
        return checked
    _check_windows(checked, what)
    _check_numbers(checked, what)
    for name in ("bucket_start", "bucket_end"):
        _check_keys(checked, name, what)
    empty = pc.fill_null(
        pc.less_equal(checked.column("bucket_end"), checked.column("bucket_start")),
        fill_value=False,
    )
    _refuse_first(
        checked,
        empty,
        what,
        "ends before it starts, or is empty",
        code="load_bucket_reversed",
        hint="bucket_end is the first key after the bucket; null means no upper bound",
    )
    _check_disjoint(checked, what)
    if spans is not None:
        _check_inside(checked, spans, what)
    return checked


def check_hot_keys(table: pa.Table, what: str = "hot keys") -> pa.Table:
    """Return `table` with exactly the columns of HOT_KEY, or refuse it.

    Raises:
        InvalidInput: those of `check_table`, `load_window_reversed`, `key_too_long`,
            `sample_rate_invalid`.
    """
    checked = check_table(table, HOT_KEY, what)
    _check_windows(checked, what)
    _check_keys(checked, "key", what)
    rate = checked.column("sample_rate")
    _refuse_first(
        checked,
        pc.invert(pc.and_(pc.greater(rate, 0.0), pc.less_equal(rate, 1.0))),
        what,
        "has a sample_rate that is not above 0 and at most 1",
        code="sample_rate_invalid",
        hint="1 means that every access was looked at",
    )
    return checked


def check_key_samples(table: pa.Table, what: str = "key samples") -> pa.Table:
    """Return `table` with exactly the columns of KEY_SAMPLE, or refuse it.

    Raises:
        InvalidInput: those of `check_table`, `load_window_reversed`, `key_too_long`,
            `sample_weight_invalid`, `operation_unknown`.
    """
    checked = check_table(table, KEY_SAMPLE, what)
    _check_windows(checked, what)
    _check_keys(checked, "key", what)
    weight = checked.column("weight")
    _refuse_first(
        checked,
        pc.invert(pc.and_(pc.greater_equal(weight, 1.0), pc.less_equal(weight, WEIGHT_MAX))),
        what,
        "has a weight that is no number from 1",
        code="sample_weight_invalid",
        hint="weight is how many accesses the sample stands for",
    )
    _refuse_first(
        checked,
        pc.invert(pc.is_in(checked.column("op"), pa.array(OPERATIONS))),
        what,
        f"has an op that is not one of {', '.join(OPERATIONS)}",
        code="operation_unknown",
        hint="write read or write",
    )
    return checked


def _check_windows(table: pa.Table, what: str) -> None:
    """Refuse windows that end before they start, or that overlap in part."""
    _refuse_first(
        table,
        pc.less_equal(table.column("window_end"), table.column("window_start")),
        what,
        "has a window that ends before it starts, or is empty",
        code="load_window_reversed",
        hint="window_end is the first moment after the window",
    )
    axis = table.select(["window_start", "window_end"])
    distinct = axis.group_by(axis.column_names).aggregate([]).sort_by("window_start")
    windows = list(zip(*(column.to_pylist() for column in distinct.columns), strict=True))
    for (start, end), (next_start, _) in pairwise(windows):
        if end > next_start:
            raise InvalidInput(
                f"{what} has windows that overlap: from {rfc3339(start)} to {rfc3339(end)}, "
                f"and from {rfc3339(next_start)}",
                code="load_windows_overlap",
                hint="the load of the time they share would count twice; collect with one "
                "window length",
            )


def _check_numbers(table: pa.Table, what: str) -> None:
    coverage, bound = table.column("coverage"), table.column("error_bound")
    # NaN is in no range, so the tests are for what is right.
    right = pc.and_(pc.greater_equal(coverage, 0.0), pc.less_equal(coverage, 1.0))
    _refuse_first(
        table,
        pc.invert(right),
        what,
        "has a coverage that is no number from 0 to 1",
        code="load_coverage_invalid",
        hint="coverage is the fraction of the window that was measured",
    )
    finite = pc.and_(pc.greater_equal(bound, 0.0), pc.less(bound, float("inf")))
    _refuse_first(
        table,
        pc.invert(pc.fill_null(finite, fill_value=True)),
        what,
        "has an error_bound that is no finite number from 0",
        code="load_error_bound_invalid",
        hint="error_bound is by how much a count may be too high; null where it is not known",
    )


def _check_keys(table: pa.Table, name: str, what: str) -> None:
    _refuse_first(
        table,
        pc.fill_null(
            pc.greater(pc.binary_length(table.column(name)), KEY_BYTES_MAX), fill_value=False
        ),
        what,
        f"has a {name} of over {KEY_BYTES_MAX} bytes",
        code="key_too_long",
        hint="check how keys were encoded",
    )


def _check_disjoint(table: pa.Table, what: str) -> None:
    """Refuse buckets of one route that overlap in one window."""
    names = ["window_start", "route_id", "group", "bucket_start"]
    order = pc.sort_indices(table, [(name, "ascending") for name in names])
    ordered = table.select([*names, "bucket_end"]).take(order).combine_chunks()
    here, after = ordered.slice(0, len(ordered) - 1), ordered.slice(1)
    if not len(here):
        return
    # A route that moved has rows of both groups in the window of the move; they add up.
    same = np.ones(len(here), dtype=np.bool_)
    for name in names[:-1]:
        same &= np.asarray(pc.equal(here.column(name), after.column(name)))
    # A bucket without upper bound reaches over whatever comes after it.
    reaches = pc.fill_null(
        pc.greater(here.column("bucket_end"), after.column("bucket_start")), fill_value=True
    )
    twice = same & np.asarray(reaches)
    if twice.any():
        row = after.slice(int(twice.argmax()), 1).to_pylist()[0]
        raise InvalidInput(
            f"{what} has two buckets of route {row['route_id']} that overlap at "
            f"{_shown(row['bucket_start'])} in the window from {rfc3339(row['window_start'])}",
            code="load_buckets_overlap",
            hint="the load there would count twice: was the same load collected twice?",
        )


def _check_inside(table: pa.Table, spans: Mapping[int, Sequence[Span]], what: str) -> None:
    """Refuse buckets that lie in none of the spans that their route ever had."""
    axes = ["route_id", "bucket_start", "bucket_end"]
    distinct = table.group_by(axes).aggregate([])
    for row in distinct.to_pylist():
        known = spans.get(row["route_id"])
        start, end = row["bucket_start"], row["bucket_end"]
        if known is None or any(_lies_in(start, end, span) for span in known):
            continue
        raise InvalidInput(
            f"{what} has a bucket of route {row['route_id']} from {_shown(start)} that lies "
            f"outside the route, {known[-1] if known else 'which has no span'}",
            code="load_bucket_outside_route",
            hint="the load and the routes are of different clusters or times; collect both anew",
        )


def _lies_in(start: bytes, end: bytes | None, span: Span) -> bool:
    if start < span.start:
        return False
    return span.end is None or (end is not None and end <= span.end)


def _shown(key: bytes) -> str:
    return printable_key(key) if key else "the first key"


def _refuse_first(  # noqa: PLR0913 - leaf; the parts of one message
    table: pa.Table,
    wrong: pa.ChunkedArray,
    what: str,
    why: str,
    *,
    code: str,
    hint: str,
) -> None:
    """Raise InvalidInput for the first row that is wrong, with its number."""
    row = pc.index(wrong, value=True).as_py()
    if row < 0:
        return
    route = table.column("route_id")[row].as_py()
    moment = table.column("window_start")[row].as_py()
    raise InvalidInput(
        f"{what}, row {row + 1} (route {route}, window from {rfc3339(moment)}) {why}",
        code=code,
        hint=hint,
    )
