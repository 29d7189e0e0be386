"""Rows cut by time, so that what is not asked for is not opened, and what is old goes whole.

    rows ──cut──▶ one object per UTC day of the time column, each with its bounds
    since, until ──select──▶ the objects that can hold rows of that time
    a scan's filter ──bounds_filter──▶ the same, for filters that come in later

- Bounds are inclusive and of the column that the property `time_column` names. An object without
  bounds can hold any time.
- Rows that span more than `PERIODS_MAX` days are cut at every so many days, so that a trace of
  ten years does not become thousands of objects.

Nothing here reads or writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from workbench.catalog.values import TIME_COLUMN
from workbench.errors import InvalidInput
from workbench.model.times import EPOCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.manifest import Manifest, ObjectRef

TIME: Final = pa.timestamp("us", "UTC")
DAY: Final = timedelta(days=1)
DAY_US: Final = DAY // timedelta(microseconds=1)
PERIODS_MAX: Final = 366


@dataclass(frozen=True, slots=True)
class Period:
    """Rows of one period: one UTC day, or several where the rows span very many.

    Attributes:
        table: At least one row, but where there are none at all.
        time_min: Smallest time; None where there is no time column, or no row.
        time_max: Largest time, inclusive.
    """

    table: pa.Table
    time_min: datetime | None = None
    time_max: datetime | None = None


def cut(name: str, table: pa.Table, column: str | None) -> list[Period]:
    """Return the rows by period, earliest first; within one as they came.

    Args:
        name: Of the dataset, for messages.
        table: Any number of rows.
        column: The time column; None leaves the rows together.

    Raises:
        InvalidInput: `time_column_invalid`.
    """
    if column is None:
        return [Period(table)]
    days = _days(name, table, column)
    if not len(days):
        return [Period(table)]
    found = np.unique(days)
    if len(found) == 1:
        return [Period(table, *bounds(table, column))]
    length = -(-int(found[-1] - found[0] + 1) // PERIODS_MAX) if len(found) > PERIODS_MAX else 1
    periods = days // length
    if np.any(periods[:-1] > periods[1:]):
        order = np.argsort(periods, kind="stable")
        table, periods = table.take(pa.array(order)), periods[order]
    starts = [0, *(np.flatnonzero(np.diff(periods)) + 1), len(periods)]
    parts = [table.slice(a, b - a) for a, b in pairwise(starts)]
    return [Period(part, *bounds(part, column)) for part in parts]


def bounds(table: pa.Table, column: str) -> tuple[datetime | None, datetime | None]:
    """Return the smallest and the largest time; None twice where there is no row."""
    found = pc.min_max(table.column(column)).as_py()
    lowest, highest = found["min"], found["max"]
    if lowest is None or highest is None:
        return None, None
    return lowest.astimezone(UTC), highest.astimezone(UTC)


def time_column_of(manifest: Manifest) -> str | None:
    """Return the column that the objects' bounds are of, None where they have none."""
    return manifest.properties.get(TIME_COLUMN)


def day_of(ref: ObjectRef) -> int | None:
    """Return the UTC day since 1970 that all rows are of; None where that is not one day."""
    if ref.time_min is None or ref.time_max is None:
        return None
    first, last = (ref.time_min - EPOCH) // DAY, (ref.time_max - EPOCH) // DAY
    return first if first == last else None


def select(
    manifest: Manifest, since: datetime | None, until: datetime | None
) -> Sequence[ObjectRef]:
    """Return the objects that can hold rows from `since` on and before `until`."""
    if (since is None and until is None) or time_column_of(manifest) is None:
        return manifest.objects
    return [ref for ref in manifest.objects if _overlaps(ref, since, until)]


def bounds_filter(ref: ObjectRef, column: str | None) -> ds.Expression | None:
    """Return what holds for every row of the object, None where nothing is known."""
    if column is None or ref.time_min is None or ref.time_max is None:
        return None
    lowest, highest = (pa.scalar(each, TIME) for each in (ref.time_min, ref.time_max))
    return (ds.field(column) >= lowest) & (ds.field(column) <= highest)


def _overlaps(ref: ObjectRef, since: datetime | None, until: datetime | None) -> bool:
    if ref.rows == 0:
        return False
    if ref.time_min is None or ref.time_max is None:
        return True
    return (since is None or ref.time_max >= since) and (until is None or ref.time_min < until)


def _days(name: str, table: pa.Table, column: str) -> np.ndarray:
    problem = ""
    if column not in table.column_names:
        problem = f"there is none; the table has {', '.join(table.column_names)}"
    elif table.schema.field(column).type != TIME:
        problem = f"it is of type {table.schema.field(column).type}, not {TIME}"
    elif table.column(column).null_count:
        problem = f"it has {table.column(column).null_count} nulls"
    else:
        try:
            bounds(table, column)
        except (OverflowError, ValueError) as error:
            problem = f"it holds a time that no calendar has ({error})"
    if problem:
        raise InvalidInput(
            f"dataset {name!r} cannot be cut by its column {column!r}: {problem}",
            code="time_column_invalid",
            hint="name a column of UTC microseconds without nulls, or none",
        )
    days: np.ndarray = table.column(column).cast(pa.int64()).to_numpy() // DAY_US
    return days
