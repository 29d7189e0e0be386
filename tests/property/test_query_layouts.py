"""Sums taken as load is read are those of the SQL texts, or are not taken at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES
from workbench.model.routes import RouteDescriptor
from workbench.model.tables import LOAD_WINDOW
from workbench.query import load as module
from workbench.query.layouts import one_layout
from workbench.query.load import LoadReader, Source

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def row(number: int, start: bytes, end: bytes | None, **changes: Any) -> dict[str, Any]:
    return {
        "cluster": "c",
        "window_start": T0 + number * MINUTE,
        "window_end": T0 + (number + 1) * MINUTE,
        "route_id": 1,
        "group": 1,
        "bucket_start": start,
        "bucket_end": end,
        "reads": 1,
        "writes": 2,
        "read_bytes": 3,
        "write_bytes": 4,
        "cpu_ns": None,
        "coverage": 1.0,
        "error_bound": None,
        **changes,
    }


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, LOAD_WINDOW)


@st.composite
def loads(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Windows that mostly repeat their buckets, and sometimes do not."""
    rng = np.random.Generator(np.random.PCG64(draw(st.integers(0, 2**32))))
    cuts = sorted(rng.choice(np.arange(1, 30), int(rng.integers(0, 6)), replace=False).tolist())
    rows = []
    for number in range(int(rng.integers(1, 7))):
        mine = list(cuts)
        if mine and rng.random() < draw(st.sampled_from([0.0, 0.0, 0.3])):
            mine.pop(int(rng.integers(len(mine))))
        bounds = [b"", *(bytes([cut]) for cut in mine)]
        spans = list(zip(bounds, [*bounds[1:], None], strict=True))
        if rng.random() < draw(st.sampled_from([0.0, 0.0, 0.2])):
            spans.reverse()
        for start, end in spans:
            counts = {
                name: None if rng.random() < 0.03 else int(rng.integers(0, 3))
                for name in ("reads", "writes", "read_bytes", "write_bytes")
            }
            rows.append(row(number, start, end, **counts))
    return rows


@settings(max_examples=60, deadline=None)
@given(loads(), st.sampled_from(list(OBJECTIVES)), st.integers(0, 3), st.integers(1, 8), st.data())
def test_both_ways_answer_the_same(
    rows: list[dict[str, Any]], objective: str, low: int, length: int, data: st.DataObject
) -> None:
    cut = bytes([data.draw(st.integers(1, 30))])
    routes = [RouteDescriptor(1, Span(b"", cut), 1), RouteDescriptor(2, Span(cut, None), 1)]
    since, until = T0 + low * MINUTE, T0 + (low + length) * MINUTE
    with TemporaryDirectory() as folder:
        path = Path(folder) / "load.parquet"
        size = data.draw(st.integers(1, 9))
        pq.write_table(table(rows), path, row_group_size=size)
        reader = LoadReader("c", {"load_window": ds.dataset(path)})
        asked = (Source.LOAD_WINDOW, OBJECTIVES[objective], since, until)
        fast = (
            reader.atoms(*asked).to_pylist(),
            reader.crossing_until(since, until, routes),
            reader.coarse_until(since, until),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "one_layout", lambda *_: None)
            plain = LoadReader("c", reader.data)
            slow = (
                plain.atoms(*asked).to_pylist(),
                plain.crossing_until(since, until, routes),
                plain.coarse_until(since, until),
            )
    assert fast == slow


def repeated(**changes: Any) -> list[dict[str, Any]]:
    bounds = ((b"", b"g"), (b"g", b"p"), (b"p", None))
    rows = [row(number, *span) for number in range(3) for span in bounds]
    rows[4] |= changes
    return rows


def test_windows_that_repeat_their_buckets_are_summed_as_they_are_read() -> None:
    found = one_layout(table(repeated(reads=None)), T0, T0 + 3 * MINUTE)
    assert found is not None
    assert found.sums["writes"].tolist() == [6, 6, 6]
    atoms = found.atoms(OBJECTIVES["score"])
    assert atoms is not None
    assert atoms.column("load").to_pylist() == [27, None, 27]


@pytest.mark.parametrize(
    "changes",
    [
        {"bucket_start": b"h"},
        {"bucket_end": b"o"},
        {"bucket_end": None},
        {"window_end": T0 + 9 * MINUTE},
        {"reads": 2**62},
        {"reads": -1},
    ],
)
def test_what_does_not_fit_is_left_to_sql(changes: dict[str, Any]) -> None:
    assert one_layout(table(repeated(**changes)), T0, T0 + 3 * MINUTE) is None


def test_half_a_window_and_buckets_that_overlap_are_left_to_sql() -> None:
    assert one_layout(table(repeated()[:-1]), T0, T0 + 3 * MINUTE) is None
    overlapping = [row(0, b"", b"m"), row(0, b"g", None)]
    assert one_layout(table(overlapping), T0, T0 + MINUTE) is None
    assert one_layout(table([]), T0, T0 + MINUTE) is None
