"""Load windows that a plan can make little of, because others tell the same load more finely.

    window 1   | a | b | c | d |
    window 2   |       e       |   ◀── one such window, and all of a to d is one piece
    window 3   | a | b | c | d |

A live source tells few buckets before it has seen load, and a leader that knows nothing of its
predecessor's buckets makes its own. `planning.settled_since` leaves such windows out where they
come first; those of a time that was asked for stay in, and are named here. Nothing is planned here.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.model.keys import Span
from workbench.query.load import Source

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.model.plan import Objective
    from workbench.session.cluster import ClusterView


@dataclass(frozen=True, slots=True)
class CoarseWindows:
    """Windows with load in buckets that other windows cut further.

    Attributes:
        windows: Start and end of each, ascending; at least one.
        routes: Whose load it is, by id, ascending.
        since: Where the part of the time begins that has no such windows, at either end of it
            and with the most load; None where no such part has load.
        until: Where that part ends, exclusive; None likewise.
    """

    windows: tuple[tuple[datetime, datetime], ...]
    routes: tuple[int, ...]
    since: datetime | None
    until: datetime | None


def coarse_windows(
    view: ClusterView, since: datetime, until: datetime, objective: Objective
) -> CoarseWindows | None:
    """Return the coarse windows of [since, until); None for none, or where accesses are known."""
    load = view.load
    if load.finest is not Source.LOAD_WINDOW or load.coarse_until(since, until) is None:
        return None
    rows = load.coarse_windows(since, until).to_pylist()
    windows = sorted({(row["window_start"], row["window_end"]) for row in rows})
    # Fewer windows have fewer bounds: what is even stays so as the time gets shorter. And what
    # ends an even part is a coarse window, or the finer one beside it.
    bounds = sorted({at for window in windows for at in window if since <= at <= until})
    first = bisect_left(bounds, 1, key=lambda at: load.coarse_until(at, until) is None)
    last = bisect_left(bounds, 1, key=lambda at: load.coarse_until(since, at) is not None) - 1
    parts = []
    if first < len(bounds):
        parts.append((bounds[first], until))
    if last >= 0:
        parts.append((since, bounds[last]))
    everything = Span(b"", None)
    weighed = [
        (load.span_load(Source.LOAD_WINDOW, objective, start, end, everything), start, end)
        for start, end in parts
        if start < end
    ]
    best = max(weighed, default=(0, None, None))
    routes = tuple(sorted({row["route_id"] for row in rows}))
    if not best[0]:
        return CoarseWindows(tuple(windows), routes, None, None)
    return CoarseWindows(tuple(windows), routes, best[1], best[2])
