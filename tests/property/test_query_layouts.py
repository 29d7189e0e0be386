"""Sums taken as load is read are those of the SQL texts, or are not taken at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby
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
from workbench.query import row_groups
from workbench.query.layouts import OneLayout, one_layout, one_window_each
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


@settings(max_examples=40, deadline=None)
@given(loads(), st.sampled_from(list(OBJECTIVES)), st.integers(0, 3), st.integers(1, 8), st.data())
def test_both_ways_answer_the_same(
    rows: list[dict[str, Any]], objective: str, low: int, length: int, data: st.DataObject
) -> None:
    cut = bytes([data.draw(st.integers(1, 30))])
    routes = [RouteDescriptor(1, Span(b"", cut), 1), RouteDescriptor(2, Span(cut, None), 1)]
    since, until = T0 + low * MINUTE, T0 + (low + length) * MINUTE
    with TemporaryDirectory() as folder:
        path = Path(folder) / "load.parquet"
        size = data.draw(st.integers(0, 9))
        write(rows, path, size, statistics=data.draw(st.booleans()))
        reader = LoadReader("c", {"load_window": ds.dataset(path)})
        asked = (Source.LOAD_WINDOW, OBJECTIVES[objective], since, until)
        fast = (
            reader.atoms(*asked).to_pylist(),
            reader.crossing_until(since, until, routes),
            reader.coarse_until(since, until),
            reader.extent(),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "one_layout", lambda *_: None)
            patch.setattr(module, "one_window_each", lambda *_: None)
            plain = LoadReader("c", reader.data)
            slow = (
                plain.atoms(*asked).to_pylist(),
                plain.crossing_until(since, until, routes),
                plain.coarse_until(since, until),
                plain.extent(),
            )
    assert fast == slow


def write(
    rows: list[dict[str, Any]], path: Path, size: int, *, statistics: bool = True, **more: Any
) -> None:
    """Write row groups of `size` rows; 0 for one per window."""
    with pq.ParquetWriter(path, LOAD_WINDOW, write_statistics=statistics, **more) as writer:
        if size:
            writer.write_table(table(rows), row_group_size=size)
            return
        for _, window in groupby(rows, key=lambda each: each["window_start"]):
            writer.write_table(table(list(window)))


def repeated(**changes: Any) -> list[dict[str, Any]]:
    bounds = ((b"", b"g"), (b"g", b"p"), (b"p", None))
    rows = [row(number, *span) for number in range(3) for span in bounds]
    rows[4] |= changes
    return rows


def test_windows_that_repeat_their_buckets_are_summed_as_they_are_read() -> None:
    found = one_layout(table(repeated(reads=None)), T0, T0 + 3 * MINUTE)
    assert found is not None
    counters = found.counters(["reads", "writes"])
    assert counters is not None
    assert counters["writes"].sums.tolist() == [6, 6, 6]
    assert counters["reads"].unknown.tolist() == [False, True, False]
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
    ],
)
def test_what_does_not_fit_is_left_to_sql(changes: dict[str, Any]) -> None:
    assert one_layout(table(repeated(**changes)), T0, T0 + 3 * MINUTE) is None


@pytest.mark.parametrize("reads", [2**62, -1])
def test_a_counter_that_cannot_be_summed_is_left_to_sql(reads: int) -> None:
    found = one_layout(table(repeated(reads=reads)), T0, T0 + 3 * MINUTE)
    assert found is not None
    assert found.atoms(OBJECTIVES["score"]) is None
    assert found.atoms(OBJECTIVES["bytes"]) is not None


def test_half_a_window_and_buckets_that_overlap_are_left_to_sql() -> None:
    assert one_layout(table(repeated()[:-1]), T0, T0 + 3 * MINUTE) is None
    overlapping = [row(0, b"", b"m"), row(0, b"g", None)]
    assert one_layout(table(overlapping), T0, T0 + MINUTE) is None
    assert one_layout(table([]), T0, T0 + MINUTE) is None


def read_by_column(
    path: Path, monkeypatch: pytest.MonkeyPatch, windows: int = 3
) -> tuple[OneLayout | None, dict[str, int]]:
    """Return the layout of a file's load, and how many rows of each column were unpacked for it."""
    unpacked: dict[str, int] = {}
    read = row_groups._read

    def counted(rows: row_groups.Rows, columns: list[str]) -> Any:
        for batch in read(rows, columns):
            for name in columns:
                unpacked[name] = unpacked.get(name, 0) + len(batch)
            yield batch

    monkeypatch.setattr(row_groups, "_read", counted)
    found = one_layout(ds.dataset(path), T0, T0 + windows * MINUTE)
    if found is not None:
        assert found.counters(["reads"]) is not None
    return found, unpacked


def test_keys_that_are_stored_alike_are_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = [bytes([n]) for n in range(100)]
    spans = list(zip(bounds, [*bounds[1:], None], strict=True))
    rows = [row(number, *span, reads=number) for number in range(20) for span in spans]
    write(rows, tmp_path / "load.parquet", 0)
    found, unpacked = read_by_column(tmp_path / "load.parquet", monkeypatch, 20)
    assert found is not None
    # The first window to know it, the second to see where it ends, and the first once more.
    assert unpacked["bucket_start"] == unpacked["bucket_end"] == 300
    assert unpacked["reads"] == 2_000
    assert "writes" not in unpacked
    assert found.counters(["reads"])["reads"].sums.tolist() == [190] * 100  # type: ignore[index]


@pytest.mark.parametrize("column", ["bucket_start", "bucket_end"])
def test_a_key_that_differs_is_seen_although_all_sizes_agree(
    column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = repeated(**{column: b"h"})
    plain = {"compression": "none", "use_dictionary": False}
    write(rows, tmp_path / "load.parquet", 0, **plain)
    assert read_by_column(tmp_path / "load.parquet", monkeypatch)[0] is None
    write(repeated(), tmp_path / "same.parquet", 0, **plain)
    assert read_by_column(tmp_path / "same.parquet", monkeypatch)[0] is not None


def test_keys_that_are_stored_alike_at_another_place_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = repeated()
    rows[4] = dict(rows[3])
    write(rows, tmp_path / "load.parquet", 1)
    assert read_by_column(tmp_path / "load.parquet", monkeypatch)[0] is None


def test_what_is_kept_to_compare_with_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_groups, "STORED_BYTES_MAX", 0)
    write(repeated(), tmp_path / "load.parquet", 0)
    found, unpacked = read_by_column(tmp_path / "load.parquet", monkeypatch)
    assert found is not None
    assert unpacked["bucket_start"] == 3 + 3 + 9


def test_rows_outside_the_time_are_not_unpacked_where_the_footer_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repeated(), tmp_path / "load.parquet", 0)
    found, unpacked = read_by_column(tmp_path / "load.parquet", monkeypatch, 1)
    assert found is not None
    assert unpacked == {"window_start": 3, "bucket_start": 6, "bucket_end": 6, "reads": 3}


@pytest.mark.parametrize("size", [0, 2, 9])
def test_rows_outside_the_time_are_left_out_where_a_row_group_has_both(
    size: int, tmp_path: Path
) -> None:
    rows = [each | {"reads": 10 ** (number // 3)} for number, each in enumerate(repeated())]
    write(rows, tmp_path / "load.parquet", size)
    found = one_layout(ds.dataset(tmp_path / "load.parquet"), T0 + MINUTE, T0 + 2 * MINUTE)
    assert found is not None
    counters = found.counters(["reads"])
    assert counters is not None
    assert counters["reads"].sums.tolist() == [10, 10, 10]


def test_a_window_that_ends_too_late_is_left_to_sql_by_its_footer_too(tmp_path: Path) -> None:
    write(repeated(window_end=T0 + 9 * MINUTE), tmp_path / "load.parquet", 0)
    load = ds.dataset(tmp_path / "load.parquet")
    assert one_layout(load, T0, T0 + 3 * MINUTE) is None
    assert one_layout(load, T0, T0 + 9 * MINUTE) is not None


def test_windows_are_told_by_footers_only_where_each_row_group_is_of_one(tmp_path: Path) -> None:
    us = 60_000_000
    first = 1_767_225_600_000_000
    told = [(first + number * us, first + (number + 1) * us) for number in range(3)]
    write(repeated(), tmp_path / "each.parquet", 0)
    assert one_window_each(ds.dataset(tmp_path / "each.parquet")) == told
    write(repeated(window_end=T0 + 3 * MINUTE), tmp_path / "lengths.parquet", 0)
    assert one_window_each(ds.dataset(tmp_path / "lengths.parquet")) is None
    write(repeated(), tmp_path / "mixed.parquet", 2)
    assert one_window_each(ds.dataset(tmp_path / "mixed.parquet")) is None
    write(repeated(), tmp_path / "untold.parquet", 0, statistics=False)
    assert one_window_each(ds.dataset(tmp_path / "untold.parquet")) is None
    assert one_window_each(table(repeated())) is None


def test_counters_of_another_whole_number_are_summed_too(tmp_path: Path) -> None:
    rows = table(repeated())
    for name, kind in (("reads", pa.uint64()), ("writes", pa.int32()), ("read_bytes", pa.null())):
        at = rows.schema.get_field_index(name)
        values = pa.nulls(len(rows)) if kind == pa.null() else rows.column(name).cast(kind)
        rows = rows.set_column(at, name, values)
    found = one_layout(rows, T0, T0 + 3 * MINUTE)
    assert found is not None
    counters = found.counters(["reads", "writes", "read_bytes"])
    assert counters is not None
    assert counters["reads"].sums.tolist() == [3, 3, 3]
    assert counters["writes"].sums.tolist() == [6, 6, 6]
    assert counters["read_bytes"].unknown.all()
