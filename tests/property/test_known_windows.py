"""How well a route's load is known: any part of the time is judged as if there were no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.test_route_sums import made
from workbench.model.objective import OBJECTIVES
from workbench.model.plan_given import EvidenceCertainty
from workbench.model.routes import RouteSnapshot
from workbench.planner.intervals import ERROR_CERTAIN
from workbench.planner.window_arrays import COVERAGE_FULL
from workbench.query.load import Extent, LoadReader, Source
from workbench.session.cluster import ClusterView
from workbench.session.given import certainties, known_windows

if TYPE_CHECKING:
    import pyarrow as pa

T0, MINUTE = datetime(2026, 1, 1, tzinfo=UTC), timedelta(minutes=1)
WINDOWS = 6


def view_of(table: pa.Table, routes: list[Any]) -> ClusterView:
    snapshot = RouteSnapshot(1, tuple(routes), T0)
    extent = Extent(T0, T0 + WINDOWS * MINUTE, WINDOWS, 60_000)
    return ClusterView("c", snapshot, LoadReader("c", {"load_window": table}), extent, {})


def told(view: ClusterView, since: datetime, until: datetime, counters: list[str]) -> list[str]:
    """The rule, route by route over the rows of that time alone, read off anew."""
    rows = view.load.route_windows(since, until, view.snapshot.routes).to_pylist()
    rows = [row for row in rows if row["route_id"] is not None]
    full = [row["window_start"] for row in rows if row["coverage"] >= COVERAGE_FULL]
    if not full or not any(_measured(row, counters) for row in rows):
        return ["likely"] * len(view.snapshot.routes)
    rows = [row for row in rows if row["window_start"] <= max(full)]
    number = len({row["window_start"] for row in rows})
    found = []
    for route in view.snapshot.routes:
        mine = [row for row in rows if row["route_id"] == route.route_id]
        sure = sum(_is_sure(row, counters) for row in mine)
        found.append("certain" if sure == number else "likely")
    return found


def _measured(row: dict[str, Any], counters: list[str]) -> bool:
    return all(row[name] is not None for name in counters)


def _is_sure(row: dict[str, Any], counters: list[str]) -> bool:
    if not _measured(row, counters) or row["coverage"] < COVERAGE_FULL:
        return False
    load = sum(row[name] for name in counters)
    # No more than all that was counted can have been counted too much.
    return bool(min(row["error_bound"], load) <= ERROR_CERTAIN * load)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    odd=st.booleans(),
    low=st.integers(-1, WINDOWS),
    length=st.integers(1, WINDOWS),
    objective=st.sampled_from(["reads", "writes", "score"]),
)
def test_a_part_of_the_time_is_judged_as_if_it_were_all(
    seed: int,
    odd: bool,  # noqa: FBT001 - drawn
    low: int,
    length: int,
    objective: str,
) -> None:
    table, routes = made(seed, odd=odd)
    view = view_of(table, routes)
    since, until = T0 + low * MINUTE, T0 + (low + length) * MINUTE
    asked = OBJECTIVES[objective]
    whole = known_windows(view, T0, T0 + WINDOWS * MINUTE, asked)
    of_part = whole.over(since, until)
    assert of_part == certainties(view, since, until, Source.LOAD_WINDOW, asked)
    if asked.read_weight <= 1 and asked.write_weight <= 1:
        weights = {"reads": asked.read_weight, "writes": asked.write_weight}
        counters = [name for name, weight in weights.items() if weight]
        assert [str(each) for each in of_part] == told(view, since, until, counters)


def test_a_time_without_windows_makes_nothing_certain() -> None:
    table, routes = made(1, odd=False)
    windows = known_windows(view_of(table, routes), T0, T0 + MINUTE, OBJECTIVES["reads"])
    after = windows.over(T0 + 10 * MINUTE, T0 + 20 * MINUTE)
    assert after == [EvidenceCertainty.LIKELY] * len(routes)


def test_what_is_known_cannot_be_changed_afterwards() -> None:
    table, routes = made(1, odd=False)
    windows = known_windows(view_of(table, routes), T0, T0 + MINUTE, OBJECTIVES["reads"])
    with pytest.raises(ValueError, match="read-only"):
        windows.sure[0] = np.ones(len(routes))
