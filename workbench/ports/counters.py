"""Load of a system that only tells totals: what a connector makes of its samples.

    CounterSource ──counters(since)──▶ COUNTER rows ──counter_answer──▶ LoadAnswer

A connector that scrapes, or that asks a metrics store for the samples of some time, hands them
over whole; resets and gaps are found and told here, as notes that are stored with the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pyarrow.compute as pc

from workbench.model.counters import windows_from_counters
from workbench.model.times import rfc3339
from workbench.ports.connector import LoadAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import pyarrow as pa

    from workbench.model.routes import RouteDescriptor


@dataclass(frozen=True, slots=True)
class CounterSamples:
    """Totals that a system told of.

    Attributes:
        samples: COUNTER schema, in any order.
        window_ms: Length of the windows to make of them.
        from_zero: Whether the counters of a route that a split made start at zero.
    """

    samples: pa.Table
    window_ms: int
    from_zero: bool = False


@runtime_checkable
class CounterSource(Protocol):
    """A system whose load is told as totals since some start."""

    def counters(self, since: datetime | None) -> CounterSamples:
        """Return samples from the last one up to `since` on; None: all that there are."""
        ...


def counter_answer(
    samples: pa.Table,
    *,
    cluster: str,
    window_ms: int,
    since: datetime | None = None,
    routes: Iterable[RouteDescriptor] = (),
) -> LoadAnswer:
    """Return the load of the windows that have closed, from samples of counters.

    The window of the newest sample is still open, unless the sample lies on its end: it is left
    out, and told whole next time.

    Args:
        samples: COUNTER schema, in any order.
        cluster: Name to put into each row.
        window_ms: Length of a window.
        since: Windows that start before it are left out.
        routes: Those of a system whose counters start at zero with the route.

    Raises:
        InvalidArgument: `window_invalid`.
        InvalidInput: as `windows_from_counters` says.
    """
    told = windows_from_counters(samples, cluster=cluster, window_ms=window_ms, routes=routes)
    windows = told.windows
    newest = pc.max(samples.column("at")).as_py() if samples.num_rows else None
    if newest is not None:
        windows = windows.filter(pc.less_equal(windows.column("window_end"), newest))
    if since is not None:
        windows = windows.filter(pc.greater_equal(windows.column("window_start"), since))
    notes = {"counters": "totals since a start, as differences between samples"}
    if told.resets:
        notes["resets"] = f"{len(told.resets)}, the last up to {rfc3339(told.resets[-1].until)}"
    if told.gaps:
        notes["gaps"] = f"{len(told.gaps)}, the last up to {rfc3339(told.gaps[-1].until)}"
    oldest = pc.min(windows.column("window_start")).as_py() if windows.num_rows else None
    return LoadAnswer(windows=windows, window_ms=window_ms, oldest=oldest, notes=notes)
