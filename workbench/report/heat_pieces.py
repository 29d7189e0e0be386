"""Pieces of a heat surface: boxes, tiles, tables, and the exact sums that they tell.

    HeatMatrix ──▶ LoadedSeries ──┬─ sums of blocks ──▶ load of any box, exact, without a full scan
                                  └─ hottest cell of each row, top of the colour scale

Sums are whole numbers: a cell is below 2**53, and whoever adds more up than 64 bits hold uses
`whole_sum`. What was not measured is left out of sums and counted apart. `heat_surface` puts the
pieces together; this module knows no keys, routes or text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from workbench.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from workbench.heat.matrix import HeatMatrix

BLOCK_COLUMNS: Final = 64
SUM_MAX: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Box:
    """Cells of a matrix: rows and columns, from the first to one past the last."""

    row: int
    row_end: int
    column: int
    column_end: int

    @property
    def rows(self) -> slice:
        """The rows, as an index."""
        return slice(self.row, self.row_end)

    @property
    def columns(self) -> slice:
        """The columns, as an index."""
        return slice(self.column, self.column_end)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A piece of a series, ready to send.

    Attributes:
        box: Which cells of the matrix it shows.
        levels: A byte per joined cell, row after row.
        down: Joined rows.
        across: Joined columns.
        factor: Columns of the matrix in one of them.
        facts: Per joined row, `labels`, `route`, `group` and `leader`, as JSON lists; the last two
            are indices into `groups` and `leaders` of the frame.
    """

    box: Box
    levels: bytes
    down: int
    across: int
    factor: int
    facts: Mapping[str, list[Any]]

    def header(self) -> dict[str, Any]:
        """Return everything but the levels, as JSON."""
        box = self.box
        return {
            "rows": [box.row, box.row_end],
            "columns": [box.column, box.column_end],
            "down": self.down,
            "across": self.across,
            "factor": self.factor,
            **self.facts,
        }


@dataclass(frozen=True, slots=True)
class TableRow:
    """A key range in the table.

    Attributes:
        row: Of the matrix.
        span: Its keys, as text.
        route_id: Its route.
        group: The Raft group of the route; None where it is not known.
        leader: Name of the group's leading node; empty where not known.
        load: In the time that the table is of; None where none of it was measured.
        share: Of the table's load.
        peak: Greatest load of one window.
        peak_us: Start of that window.
    """

    row: int
    span: str
    route_id: int
    group: int | None
    leader: str
    load: int | None
    share: float | None
    peak: int | None
    peak_us: int | None


@dataclass(frozen=True, slots=True)
class HeatTable:
    """The heaviest key ranges of a box, and sums over all of it.

    Attributes:
        rows: At most TABLE_ROWS_MAX, heaviest first.
        ranges: Key ranges in the box.
        routes: Routes that hold them.
        windows: Windows in the box.
        load: Of all of them; None where nothing was measured.
        share: Of the load of the whole series.
        absent: Cells that were not measured.
        since_us: Start of the first window.
        until_us: End of the last.
    """

    rows: tuple[TableRow, ...]
    ranges: int
    routes: int
    windows: int
    load: int | None
    share: float | None
    absent: int
    since_us: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Exact:
    """What lies under the pointer: the hottest cell of a box, and its sum.

    Attributes:
        row: Of the hottest cell; the first of the box where nothing was measured.
        column: Of the hottest cell.
        load: Its load; None where nothing was measured.
        total: Sum over the box.
        cells: How many cells the box has.
        absent: How many of them were not measured.
    """

    row: int
    column: int
    load: int | None
    total: int | None
    cells: int
    absent: int


@dataclass(frozen=True, slots=True)
class SplitLine:
    """A split that happened while the matrix was measured.

    Attributes:
        column: When, in columns from the first, with a fraction.
        row: Where, the first row of the right child.
        row_first: First row of the route that was split.
        row_end: One past its last.
        route_id: That route.
        key: The split key, as text.
    """

    column: float
    row: int
    row_first: int
    row_end: int
    route_id: int
    key: str


class LoadedSeries:
    """A series with its sums, made as they are needed."""

    def __init__(self, matrix: HeatMatrix) -> None:
        """Take a matrix; raises InvalidInput `heat_counters_too_large`."""
        self.matrix = matrix
        self.values = matrix.values
        self.hottest = np.fmax.reduce(matrix.values, axis=1, initial=-1.0)
        self.top = float(self.hottest.max(initial=0.0))
        if self.top * max(matrix.values.shape[1], 1) >= SUM_MAX:
            raise InvalidInput(
                f"{self.top:g} in one window cannot be added up",
                code="heat_counters_too_large",
                hint="counters are per window, not since the start of the process",
            )

    @cached_property
    def blocks(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Sum and number of the measured cells of each row, by block of columns."""
        rows, columns = self.values.shape
        count = -(-columns // BLOCK_COLUMNS)
        sums = np.zeros((rows, count), dtype=np.int64)
        measured = np.zeros((rows, count), dtype=np.int64)
        for block in range(count):
            low = block * BLOCK_COLUMNS
            sums[:, block], measured[:, block] = added(self.values[:, low : low + BLOCK_COLUMNS])
        return sums, measured

    @cached_property
    def total(self) -> int:
        """Sum of all that was measured."""
        return whole_sum(self.blocks[0].sum(axis=1))

    def of_rows(self, box: Box) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return sum and number of the measured cells of each row of a box, exact."""
        low, high = -(-box.column // BLOCK_COLUMNS), box.column_end // BLOCK_COLUMNS
        if low >= high:
            return added(self.values[box.rows, box.columns])
        sums, measured = (each[box.rows, low:high].sum(axis=1) for each in self.blocks)
        for part in (
            slice(box.column, low * BLOCK_COLUMNS),
            slice(high * BLOCK_COLUMNS, box.column_end),
        ):
            if part.start < part.stop:
                more, known = added(self.values[box.rows, part])
                sums, measured = sums + more, measured + known
        return sums, measured


def added(
    values: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return sum and number of the measured cells of each row."""
    absent = np.isnan(values)
    whole = np.where(absent, 0, values).astype(np.int64)
    return whole.sum(axis=1), values.shape[1] - absent.sum(axis=1, dtype=np.int64)


def whole_sum(values: npt.NDArray[np.int64]) -> int:
    """Return the exact sum, which may need more than 64 bits."""
    low, high = values & 0xFFFFFFFF, values >> 32
    return int(low.sum()) + (int(high.sum()) << 32)
