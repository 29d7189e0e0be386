"""Load in memory: a plan's evidence for any part of the time, without asking the catalog again.

    LOAD_WINDOW table ──load_cube──▶ windows × buckets, summed from the first window on
                                        table(since, until) = difference of two rows

Only load whose windows all have the same buckets, all measured in the counters of the objective,
fits; anything else gives None, and the caller asks by SQL. Where it fits, the atoms are exactly
those of `query`'s texts, so a plan made from them passes the same check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from workbench.heat.grid import build_grid
from workbench.model.times import to_us

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import numpy.typing as npt

    from workbench.model.plan import Objective
    from workbench.model.routes import RouteDescriptor

CELLS_MAX: Final = 20_000_000
_SUM_MAX: Final = 1 << 61


@dataclass(frozen=True, slots=True, eq=False)
class LoadCube:
    """Load by bucket and time.

    Attributes:
        starts: First key of each bucket, ascending.
        first_us: Start of the first window.
        window_us: Length of each.
        sums: int64, shape (windows + 1, buckets): load before each window; row 0 is zero.
    """

    starts: pa.Array
    first_us: int
    window_us: int
    sums: npt.NDArray[np.int64]

    def table(self, since: datetime, until: datetime) -> pa.Table:
        """Return `atom_start` and `load` of every bucket, of windows that start in that time."""
        low, high = self._column(since), self._column(until)
        return pa.table({"atom_start": self.starts, "load": self.sums[high] - self.sums[low]})

    def tells_apart(self, routes: Sequence[RouteDescriptor]) -> bool:
        """Tell whether every bound of the routes is a bucket's, so that no bucket is of two."""
        known = frozenset(self.starts.to_pylist())
        return all(not route.span.start or route.span.start in known for route in routes)

    def _column(self, moment: datetime) -> int:
        windows = -(-(to_us(moment) - self.first_us) // self.window_us)
        return min(max(windows, 0), len(self.sums) - 1)


def load_cube(load: pa.Table, objective: Objective) -> LoadCube | None:
    """Return the load as a cube; None where it does not fit one.

    Args:
        load: LOAD_WINDOW rows of one cluster.
        objective: What counts as load.
    """
    weights = {
        "reads": objective.read_weight,
        "writes": objective.write_weight,
        "read_bytes": objective.byte_weight,
        "write_bytes": objective.byte_weight,
        "cpu_ns": objective.cpu_weight,
    }
    counters = {name: weight for name, weight in weights.items() if weight}
    if load.num_rows > CELLS_MAX or any(load.column(name).null_count for name in counters):
        return None
    grid = build_grid(load, tuple(counters))
    cells = grid.columns * grid.intervals
    if cells > CELLS_MAX or any(window.count != grid.intervals for window in grid.windows):
        return None
    sums = np.zeros((grid.columns + 1, grid.intervals), dtype=np.int64)
    columns = {name: np.asarray(grid.table.column(name)) for name in counters}
    if sum(float(columns[n].sum(dtype=np.float64)) * w for n, w in counters.items()) > _SUM_MAX:
        return None
    checked = None
    for window, layout in grid.layouts():
        if layout is not checked:
            if not layout.single or len(np.unique(layout.interval)) != grid.intervals:
                return None
            checked = layout
        rows = slice(window.start, window.start + window.count)
        for name, weight in counters.items():
            sums[window.column + 1, layout.interval] += weight * columns[name][rows]
    np.cumsum(sums, axis=0, out=sums)
    starts = pa.array(grid.bounds[:-1], pa.binary())
    assert len(starts) == grid.intervals
    return LoadCube(starts, grid.first_us, grid.window_us, sums)
