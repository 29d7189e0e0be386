"""Every SQL text against a plain-Python oracle; and a connection that reaches nothing else."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import Corruption, Internal, InvalidInput, NotFound
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, Objective
from workbench.model.routes import seed_routes
from workbench.model.tables import ACCESS, LOAD_WINDOW
from workbench.query.engine import run, sql_text
from workbench.query.load import LoadReader, Source

if TYPE_CHECKING:
    from pathlib import Path

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
SINCE, UNTIL = T0 + 10 * SECOND, T0 + 50 * SECOND
KEYS = st.sampled_from([b"", b"a", b"a\0", b"b", b"\xff\xff", b"m"])
ENDS = {b"": b"a", b"a": b"a\0", b"a\0": b"b", b"b": b"m", b"m": b"\xff\xff", b"\xff\xff": None}
COUNTS = st.one_of(st.none(), st.integers(0, 1_000))

accesses = st.lists(
    st.fixed_dictionaries(
        {
            "time": st.integers(0, 60).map(lambda s: T0 + s * SECOND),
            "key": KEYS,
            "op": st.sampled_from(["read", "write"]),
            "size": COUNTS,
        }
    ),
    max_size=30,
)
load_rows = st.lists(
    st.fixed_dictionaries(
        {
            "window": st.integers(0, 3),
            "route_id": st.integers(1, 2),
            "bucket_start": KEYS,
            "reads": COUNTS,
            "writes": COUNTS,
            "read_bytes": COUNTS,
            "write_bytes": COUNTS,
            "cpu_ns": COUNTS,
            "coverage": st.sampled_from([0.25, 1.0]),
            "error_bound": st.sampled_from([None, 0.5]),
        }
    ),
    max_size=20,
)


def load_table(rows: list[dict[str, Any]]) -> pa.Table:
    full = [
        {
            **{name: value for name, value in row.items() if name != "window"},
            "cluster": "c",
            "group": 1,
            "bucket_end": ENDS[row["bucket_start"]],
            "window_start": T0 + row["window"] * MINUTE,
            "window_end": T0 + (row["window"] + 1) * MINUTE,
        }
        for row in rows
    ]
    return pa.Table.from_pylist(full, schema=LOAD_WINDOW)


def access_load(row: dict[str, Any], objective: Objective) -> int | None:
    load = objective.write_weight if row["op"] == "write" else objective.read_weight
    if objective.cpu_weight:
        return None  # no recorded access tells it
    if not objective.byte_weight:
        return load
    return None if row["size"] is None else load + objective.byte_weight * row["size"]


@settings(max_examples=100, deadline=None)
@given(accesses, st.sampled_from(list(OBJECTIVES.values())))
def test_atoms_of_accesses_equal_a_plain_sum(
    rows: list[dict[str, Any]], objective: Objective
) -> None:
    reader = LoadReader("c", {"access": pa.Table.from_pylist(rows, schema=ACCESS)})
    sums: dict[bytes, int | None] = {}
    for row in rows:
        if SINCE <= row["time"] < UNTIL:
            load, so_far = access_load(row, objective), sums.get(row["key"], 0)
            sums[row["key"]] = None if load is None or so_far is None else so_far + load
    answer = reader.atoms(Source.ACCESS, objective, SINCE, UNTIL).to_pylist()
    assert [(each["atom_start"], each["load"]) for each in answer] == sorted(sums.items())


@settings(max_examples=60, deadline=None)
@given(accesses, KEYS, st.one_of(st.none(), KEYS))
def test_span_load_equals_a_plain_sum(
    rows: list[dict[str, Any]], start: bytes, end: bytes | None
) -> None:
    if end is not None and end <= start:
        return
    reader = LoadReader("c", {"access": pa.Table.from_pylist(rows, schema=ACCESS)})
    objective, span = OBJECTIVES["score"], Span(start, end)
    plain = sum(
        access_load(row, objective) or 0
        for row in rows
        if SINCE <= row["time"] < UNTIL and row["key"] in span
    )
    assert reader.span_load(Source.ACCESS, objective, SINCE, UNTIL, span) == plain
    events = reader.events(Source.ACCESS, objective, SINCE, UNTIL).to_pylist()
    assert sum(each["load"] for each in events if each["key"] in span) == plain


@settings(max_examples=60, deadline=None)
@given(load_rows)
def test_route_windows_sum_what_was_measured_and_nothing_else(rows: list[dict[str, Any]]) -> None:
    rows = [{**row, "route_id": 1 + (row["bucket_start"] >= b"b")} for row in rows]
    groups: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["window"] in {1, 2}:
            groups[row["route_id"], row["window"]].append(row)
    reader = LoadReader("c", {"load_window": load_table(rows)})
    routes = seed_routes([b"b"])
    answer = reader.route_windows(T0 + MINUTE, T0 + 3 * MINUTE, routes).to_pylist()
    assert len(answer) == len(groups)
    for (route_id, number), each in zip(sorted(groups), answer, strict=True):
        mine = groups[route_id, number]
        assert (each["route_id"], each["window_start"]) == (route_id, T0 + number * MINUTE)
        for name in ("reads", "writes", "read_bytes", "write_bytes", "cpu_ns"):
            counts = [row[name] for row in mine]
            assert each[name] == (None if None in counts else sum(counts))
        assert each["coverage"] == min(row["coverage"] for row in mine)
        assert each["error_bound"] == sum(row["error_bound"] or 0 for row in mine)


@settings(max_examples=60, deadline=None)
@given(load_rows, st.sampled_from(list(OBJECTIVES.values())))
def test_atoms_of_load_windows_are_null_where_anything_was_not_measured(
    rows: list[dict[str, Any]], objective: Objective
) -> None:
    sums: dict[bytes, int | None] = {}
    for row in rows:
        if row["window"] not in {1, 2}:
            continue
        needed = {
            "reads": objective.read_weight,
            "writes": objective.write_weight,
            "read_bytes": objective.byte_weight,
            "write_bytes": objective.byte_weight,
            "cpu_ns": objective.cpu_weight,
        }
        parts = [row[name] if weight else 0 for name, weight in needed.items()]
        so_far = sums.get(row["bucket_start"], 0)
        sums[row["bucket_start"]] = (
            None
            if None in parts or so_far is None
            else so_far + sum(p * w for p, w in zip(parts, needed.values(), strict=True))
        )
    reader = LoadReader("c", {"load_window": load_table(rows)})
    answer = reader.atoms(Source.LOAD_WINDOW, objective, T0 + MINUTE, T0 + 3 * MINUTE).to_pylist()
    assert [(each["atom_start"], each["load"]) for each in answer] == sorted(sums.items())


@settings(max_examples=40, deadline=None)
@given(load_rows)
def test_extent_and_load_windows_cover_what_there_is(rows: list[dict[str, Any]]) -> None:
    reader = LoadReader("c", {"load_window": load_table(rows)})
    if not rows:
        with pytest.raises(NotFound):
            reader.extent()
        return
    windows = {row["window"] for row in rows}
    extent = reader.extent()
    assert extent.since == T0 + min(windows) * MINUTE
    assert extent.until == T0 + (max(windows) + 1) * MINUTE
    assert (extent.windows, extent.window_ms) == (len(windows), 60_000)
    inside = reader.load_windows(T0 + MINUTE, T0 + 3 * MINUTE)
    assert inside.num_rows == sum(row["window"] in {1, 2} for row in rows)
    assert inside.schema.equals(LOAD_WINDOW.remove_metadata()) or set(inside.column_names) == set(
        LOAD_WINDOW.names
    )


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
    ],
)
def test_no_text_reaches_a_file_or_changes_a_setting(text: str) -> None:
    with pytest.raises(Internal) as caught:
        run(text, {}, {})
    assert caught.value.code == "query_failed"


def test_a_damaged_page_is_corruption_and_no_bug_of_ours(tmp_path: Path) -> None:
    rows = [{"time": T0, "key": b"%06d" % n, "op": "read", "size": n} for n in range(50_000)]
    path = tmp_path / "access.parquet"
    table = pa.Table.from_pylist(rows, schema=ACCESS)
    pq.write_table(table, path, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    scan = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    format_ = ds.ParquetFileFormat(default_fragment_scan_options=scan)
    reader = LoadReader("c", {"access": ds.dataset(path, format=format_)})
    with pytest.raises(Corruption) as caught:
        reader.atoms(Source.ACCESS, OBJECTIVES["bytes"], T0, UNTIL)
    assert caught.value.code == "data_unreadable"


def test_a_sum_beyond_64_bits_is_refused() -> None:
    rows = [{"time": T0, "key": b"k", "op": "read", "size": 2**62} for _ in range(3)]
    reader = LoadReader("c", {"access": pa.Table.from_pylist(rows, schema=ACCESS)})
    with pytest.raises(InvalidInput) as caught:
        reader.atoms(Source.ACCESS, OBJECTIVES["bytes"], T0, UNTIL)
    assert caught.value.code == "load_overflow"


def test_values_are_bound_and_never_formatted() -> None:
    table = pa.table({"time": [T0], "key": [b"'; DROP TABLE access; --"], "load": [1]})
    answer = run(
        "SELECT count(*) AS n FROM event WHERE key = $key",
        {"event": table},
        {"key": b"'; DROP TABLE access; --"},
    )
    assert answer.column("n").to_pylist() == [1]


def test_the_evidence_of_a_plan_is_the_text_that_runs() -> None:
    reader = LoadReader("c", {"access": pa.Table.from_pylist([], schema=ACCESS)})
    evidence = reader.evidence(Source.ACCESS, OBJECTIVES["score"], SINCE, UNTIL)
    assert evidence.sql == sql_text("atoms", events="event_of_access")
    assert evidence.parameters["since"] == "2026-01-01T00:00:10Z"
    assert evidence.dataset == "c/access"
