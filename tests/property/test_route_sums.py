"""Load by route and window, added up by arrays, is that of the SQL text, row for row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.model.tables import COUNTERS, LOAD_WINDOW
from workbench.query import load as module
from workbench.query.load import LoadReader
from workbench.query.route_sums import load_windows_of, route_windows_of

if TYPE_CHECKING:
    from pathlib import Path

T0, MINUTE = datetime(2026, 1, 1, tzinfo=UTC), timedelta(minutes=1)


def made(seed: int, *, odd: bool) -> tuple[pa.Table, list[RouteDescriptor]]:
    """Windows of the same buckets; `odd` ones may tell of a route by halves, or cross its bound."""
    rng = np.random.Generator(np.random.PCG64(seed))
    cuts = sorted(rng.choice(np.arange(1, 40), int(rng.integers(0, 8)), replace=False).tolist())
    bounds = [b"", *(bytes([cut]) for cut in cuts)]
    chosen = [b"", *(b for b in bounds[1:] if rng.random() < 0.5)]
    if odd and rng.random() < 0.5:
        chosen = sorted({*chosen, bytes([int(rng.integers(1, 40)), 1])})
    ids = rng.permutation(len(chosen)) + 1
    routes = [
        RouteDescriptor(int(route), Span(start, end), 1)
        for route, start, end in zip(ids, chosen, [*chosen[1:], None], strict=True)
    ]
    split = int(rng.integers(0, 6))
    rows: list[dict[str, Any]] = []
    absent = {name for name in COUNTERS if rng.random() < 0.2}
    for window in range(int(rng.integers(1, 6))):
        for start, end in zip(bounds, [*bounds[1:], None], strict=True):
            owner = next(r.route_id for r in reversed(routes) if r.span.start <= start)
            if odd and rng.random() < 0.1:
                owner = 77
            rows.append({
                "cluster": "c",
                "window_start": T0 + window * MINUTE,
                "window_end": T0 + (window + 1) * MINUTE,
                "route_id": owner if window >= split else 99,
                "group": 1,
                "bucket_start": start,
                "bucket_end": end,
                "coverage": float(rng.choice([1.0, 1.0, 0.5])),
                "error_bound": [None, 0.0, 3.0][int(rng.integers(3))],
                **{
                    name: None if name in absent or rng.random() < 0.05 else int(rng.integers(9))
                    for name in COUNTERS
                },
            })  # fmt: skip
    return pa.Table.from_pylist(rows, LOAD_WINDOW), routes


def by_sql(load: LoadReader, until: datetime, routes: list[RouteDescriptor]) -> list[pa.Table]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "one_layout", lambda *_: None)
        return [load.route_windows(T0, until, routes), load.load_windows(T0, until)]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), odd=st.booleans(), windows=st.integers(1, 6))
def test_route_windows_and_rows_by_arrays_are_those_of_sql(
    *, seed: int, odd: bool, windows: int
) -> None:
    table, routes = made(seed, odd=odd)
    until = T0 + windows * MINUTE
    sql = by_sql(LoadReader("c", {"load_window": table}), until, routes)
    load = LoadReader("c", {"load_window": table})
    found = [load.route_windows(T0, until, routes), load.load_windows(T0, until)]
    for mine, other in zip(found, sql, strict=True):
        assert mine.schema.names == other.schema.names
        assert mine.to_pylist() == other.to_pylist()


def test_what_fits_is_answered_without_sql_and_what_does_not_is_left_to_it(tmp_path: Path) -> None:
    table, routes = made(3, odd=False)
    pq.write_table(table, tmp_path / "load.parquet", row_group_size=3)
    load = LoadReader("c", {"load_window": ds.dataset(tmp_path / "load.parquet")})
    until = T0 + 9 * MINUTE
    layout = load._layout(T0, until)
    assert layout is not None
    told = route_windows_of(layout, routes)
    assert told is not None
    rows = load_windows_of(layout, LOAD_WINDOW.names)
    assert rows is not None
    sql = by_sql(LoadReader("c", {"load_window": table}), until, routes)
    assert [told.to_pylist(), rows.to_pylist()] == [each.to_pylist() for each in sql]
    inside = bytes([*layout.starts[len(layout.starts) - 1].as_py(), 1])
    crossing = [RouteDescriptor(1, Span(b"", inside), 1), RouteDescriptor(2, Span(inside, None), 1)]
    assert route_windows_of(layout, crossing) is None
    assert route_windows_of(layout, crossing[1:]) is None
    huge = table.set_column(7, "reads", pa.array([1 << 61] * table.num_rows))
    load = LoadReader("c", {"load_window": huge})
    layout = load._layout(T0, until)
    assert layout is not None
    assert route_windows_of(layout, [RouteDescriptor(1, Span(b"", None), 1)]) is None
