"""Counters: from totals since some start, as scraped, to the load of windows.

    sample  c=10      c=40      c=5       c=25           one bucket of one route
            ──┴─────────┴─────────┴─────────┴──▶ time
    told        30       reset: 5     20

The one place where counters become load. Rules:

- What was counted between two samples of a bucket is the difference, counter by counter; null in
  one of them makes it null there: not measured, never 0.
- A counter that falls was *reset*. What it shows after was counted since; what was lost before
  nobody knows. So it is counted, and the time between the two samples is not covered.
- Samples further apart than `gap_ms` are a *gap*: nothing is said of the windows inside, no load
  is made for them, and what was counted meanwhile is told to the caller.
- An interval inside a window counts there whole. One across a bound of windows is divided by
  time, in whole numbers that add up; what a window got of it may be too high by all of that, and
  is added to its error bound. Sampling at the bounds of windows divides nothing.
- A child of a split counts from zero at the split (`split_at_hlc`), where the routes are given;
  without them its first sample only sets the start. Its parent's windows stay the parent's: by
  key they are carried over where load is read (`route_windows.sql`).

Sums are exact: what the windows of a bucket hold is what its intervals told, gaps left out.
Not here: when to scrape, and who keeps the samples.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa

from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.keys import printable_key
from workbench.model.load import check_load
from workbench.model.tables import COUNTER, COUNTERS, LOAD_WINDOW, check_table
from workbench.model.times import from_us, hlc_to_us, rfc3339_us, to_us

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from workbench.model.routes import RouteDescriptor

# Windows that a pause between two samples may have before it is a gap.
GAP_WINDOWS: Final = 2
# Windows over which one interval may be divided; more of them is a wrong clock, not load.
WINDOWS_MAX: Final = 100_000


class Series(NamedTuple):
    """One bucket of one route on one group: what has counters of its own."""

    route_id: int
    group: int
    bucket_start: bytes
    bucket_end: bytes | None


class _Sample(NamedTuple):
    """Totals at one moment, in the order of COUNTERS."""

    at_us: int
    totals: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Reset:
    """A counter fell: what had been counted after `since` and before the restart is lost."""

    series: Series
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples too far apart.

    Attributes:
        series: Of which bucket.
        since: The last sample before.
        until: The first after.
        counted: By counter, what was counted meanwhile and is in no window; None where a counter
            was reset or not measured.
    """

    series: Series
    since: datetime
    until: datetime
    counted: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class CounterWindows:
    """What samples tell.

    Attributes:
        windows: LOAD_WINDOW schema, by window start, then bucket start, then route.
        resets: In the order of their series and time.
        gaps: Likewise.
    """

    windows: pa.Table
    resets: tuple[Reset, ...]
    gaps: tuple[Gap, ...]


@dataclass(slots=True)
class _Cell:
    """The load of one bucket in one window, as it is added up."""

    counts: list[int | None] = field(default_factory=lambda: [0] * len(COUNTERS))
    covered_us: int = 0
    error: int = 0

    def add(self, parts: Sequence[int | None], covered_us: int, *, divided: bool) -> None:
        pairs = zip(self.counts, parts, strict=True)
        self.counts = [None if one is None or two is None else one + two for one, two in pairs]
        self.covered_us += covered_us
        if divided:
            self.error += sum(part or 0 for part in parts[:2])


def windows_from_counters(
    samples: pa.Table,
    *,
    cluster: str,
    window_ms: int,
    gap_ms: int | None = None,
    routes: Iterable[RouteDescriptor] = (),
) -> CounterWindows:
    """Return the load windows that samples of counters tell.

    Args:
        samples: COUNTER schema, in any order.
        cluster: Name to put into each row.
        window_ms: Length of a window; windows start at multiples of it since the epoch.
        gap_ms: Samples further apart leave a gap; None takes two windows.
        routes: Those of a system whose counters start at zero with the route.

    Raises:
        InvalidArgument: `window_invalid`.
        InvalidInput: those of `check_table` and `check_load`, `counter_sampled_twice`,
            `counter_clock_wrong`.
    """
    pause_ms = GAP_WINDOWS * window_ms if gap_ms is None else gap_ms
    if window_ms < 1 or pause_ms < 1:
        raise InvalidArgument(
            f"cannot make windows of {window_ms} ms with gaps over {pause_ms} ms",
            code="window_invalid",
            hint="both are at least 1",
        )
    window_us = window_ms * 1_000
    born = {r.route_id: hlc_to_us(r.split_at_hlc) for r in routes if r.split_at_hlc}
    cells: dict[tuple[int, Series], _Cell] = {}
    resets: list[Reset] = []
    gaps: list[Gap] = []
    for series, given in _by_series(samples):
        mine = _with_birth(given, born.get(series.route_id), pause_ms * 1_000)
        for before, after in pairwise(mine):
            told, was_reset = _difference(before, after)
            if after.at_us - before.at_us > pause_ms * 1_000:
                known = [None] * len(told) if was_reset else told
                counted = dict(zip(COUNTERS, known, strict=True))
                gaps.append(Gap(series, from_us(before.at_us), from_us(after.at_us), counted))
                continue
            if was_reset:
                resets.append(Reset(series, from_us(before.at_us), from_us(after.at_us)))
            _spread(
                cells, series, before.at_us, after.at_us, told, window_us, covered=not was_reset
            )
    table = _table(cluster, cells, window_us)
    return CounterWindows(check_load(table, "load from counters"), tuple(resets), tuple(gaps))


def _by_series(samples: pa.Table) -> Iterator[tuple[Series, list[_Sample]]]:
    """Yield each series with its samples, both ascending."""
    found: dict[Series, list[_Sample]] = defaultdict(list)
    for row in check_table(samples, COUNTER, "counter samples").to_pylist():
        series = Series(row["route_id"], row["group"], row["bucket_start"], row["bucket_end"])
        totals = tuple(row[name] for name in COUNTERS)
        found[series].append(_Sample(to_us(row["at"]), totals))
    for series in sorted(found, key=lambda s: (s.bucket_start, s.route_id, s.group)):
        mine = sorted(found[series], key=lambda sample: sample.at_us)
        if any(one.at_us == two.at_us for one, two in pairwise(mine)):
            raise InvalidInput(
                f"the bucket of route {series.route_id} from {printable_key(series.bucket_start)} "
                "was sampled twice at one moment",
                code="counter_sampled_twice",
                hint="two scrapers, or two nodes that both claim to lead the group",
            )
        yield series, mine


def _with_birth(samples: list[_Sample], born_us: int | None, pause_us: int) -> list[_Sample]:
    """Return the samples, behind one of zeros at the split that made the route."""
    first = samples[0]
    if born_us is None or not first.at_us - pause_us <= born_us < first.at_us:
        return samples
    zeros = tuple(None if total is None else 0 for total in first.totals)
    return [_Sample(born_us, zeros), *samples]


def _difference(before: _Sample, after: _Sample) -> tuple[tuple[int | None, ...], bool]:
    """Return what each counter counted, and whether any was reset."""
    pairs = list(zip(before.totals, after.totals, strict=True))
    # One process counts them all: where one fell, all of them began again.
    was_reset = any(a is not None and b is not None and b < a for a, b in pairs)
    if was_reset:
        return tuple(None if a is None else b for a, b in pairs), True
    return tuple(None if a is None or b is None else b - a for a, b in pairs), False


def _spread(  # noqa: PLR0913, PLR0917 - one interval, its load and where it goes
    cells: dict[tuple[int, Series], _Cell],
    series: Series,
    start_us: int,
    end_us: int,
    told: Sequence[int | None],
    window_us: int,
    *,
    covered: bool,
) -> None:
    """Add an interval's load to the windows that it touches, in whole numbers that add up."""
    first, last = start_us // window_us, (end_us - 1) // window_us
    if last - first >= WINDOWS_MAX:
        raise InvalidInput(
            f"samples at {rfc3339_us(start_us)} and {rfc3339_us(end_us)} are {last - first:,} "
            "windows apart",
            code="counter_clock_wrong",
            hint="check the clock of the source, or give longer windows",
        )
    length = end_us - start_us
    given = 0
    for number in range(first, last + 1):
        low, high = max(start_us, number * window_us), min(end_us, (number + 1) * window_us)
        until = high - start_us
        parts = [
            None if count is None else count * until // length - count * given // length
            for count in told
        ]
        given = until
        cell = cells.setdefault((number, series), _Cell())
        cell.add(parts, high - low if covered else 0, divided=first != last)


def _table(cluster: str, cells: Mapping[tuple[int, Series], _Cell], window_us: int) -> pa.Table:
    order = sorted(cells, key=lambda at: (at[0], at[1].bucket_start, at[1].route_id, at[1].group))
    rows = [
        {
            "cluster": cluster,
            "window_start": from_us(number * window_us),
            "window_end": from_us((number + 1) * window_us),
            **series._asdict(),
            **dict(zip(COUNTERS, cells[number, series].counts, strict=True)),
            "coverage": cells[number, series].covered_us / window_us,
            "error_bound": float(cells[number, series].error),
        }
        for number, series in order
    ]
    return pa.Table.from_pylist(rows, schema=LOAD_WINDOW)
