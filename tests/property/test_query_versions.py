"""Exports asked by SQL, by Polars and in plain Python: one answer, in any order of rows."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import Corruption
from workbench.model.tables import ROUTE, VERSION
from workbench.model.times import EPOCH, hlc_ms, hlc_of_ms
from workbench.query import frames, sorted_versions
from workbench.query.engine import run, sql_text

MS = 1_790_000_000_000
KEYS = [b"", b"\x00", b"a", b"a\x00", b"ab", b"b", b"\x7f", b"\xff", b"\xff\xff"]
STEPS = range(6)
Row = dict[str, Any]


def moment(step: int) -> Any:
    return EPOCH + timedelta(milliseconds=MS + step)


def group_of(key: bytes) -> int:
    """Groups interleave, as their spans do."""
    return 1 + KEYS.index(key) % 3


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Draw versions in the order of an export: key ascending, commit_ts descending."""
    stamps = st.tuples(st.sampled_from(STEPS), st.integers(0, 2))
    rows = []
    for key in sorted(draw(st.sets(st.sampled_from(KEYS)))):
        for step, logical in sorted(draw(st.sets(stamps, min_size=1, max_size=4)), reverse=True):
            put = draw(st.booleans())
            expires = draw(st.none() | st.sampled_from(STEPS)) if put else None
            rows.append(
                {
                    "key": key,
                    "commit_ts": hlc_of_ms(MS + step, logical),
                    "kind": "put" if put else "tombstone",
                    "value": draw(st.binary(max_size=3)) if put else None,
                    "expire_at": None if expires is None else moment(expires),
                    "group": group_of(key),
                }
            )
    return rows


read_times = st.builds(
    lambda step, logical: hlc_of_ms(MS + step, logical), st.integers(-1, 7), st.integers(0, 3)
)
bounds = st.sampled_from(KEYS)
asked_spans = st.tuples(bounds, st.none() | bounds)


def as_of_oracle(rows: list[Row], read_ts: int, start: bytes, end: bytes | None) -> list[Row]:
    newest: dict[bytes, Row] = {}
    for row in rows:
        if (
            row["commit_ts"] <= read_ts
            and row["key"] >= start
            and (end is None or row["key"] < end)
        ):
            kept = newest.setdefault(row["key"], row)
            newest[row["key"]] = max(kept, row, key=lambda each: each["commit_ts"])
    now = EPOCH + timedelta(milliseconds=hlc_ms(read_ts))
    live = (row for row in newest.values() if row["kind"] == "put")
    return [
        {name: row[name] for name in ("key", "commit_ts", "value", "expire_at", "group")}
        for row in sorted(live, key=lambda each: each["key"])
        if row["expire_at"] is None or row["expire_at"] > now
    ]


def stored(rows: list[Row], parts: int, group_rows: int = 3) -> ds.Dataset:
    """Rows as an export stores them: parts of one group each, of several groups in turn."""
    pieces: list[list[Row]] = []
    for number in range(3):
        mine = [row for row in rows if row["group"] == number + 1]
        size = max(1, -(-len(mine) // parts))
        pieces += [mine[low : low + size] for low in range(0, len(mine), size)]
    # Groups in turn, each in its own order.
    pieces.sort(key=lambda piece: (piece[0]["key"], -piece[0]["commit_ts"]))
    return files(pieces, group_rows)


def files(pieces: list[list[Row]], group_rows: int) -> ds.Dataset:
    parquet = ds.ParquetFileFormat()
    fragments = []
    for piece in pieces:
        sink = io.BytesIO()
        table = pa.Table.from_pylist(piece, schema=VERSION)
        pq.write_table(table, sink, row_group_size=group_rows)
        fragments.append(parquet.make_fragment(pa.py_buffer(sink.getvalue())))
    return ds.FileSystemDataset(fragments, VERSION, parquet)


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=VERSION)


def sql_as_of(data: Any, read_ts: int, start: bytes, end: bytes | None) -> list[Row]:
    parameters = {"read_ts": read_ts, "start": start, "end": end}
    return run(sql_text("as_of"), {"version": data}, parameters).to_pylist()


@settings(max_examples=50, deadline=None)
@given(histories(), read_times, asked_spans, st.integers(1, 3), st.data())
def test_as_of_is_the_same_by_sql_by_frames_and_in_plain_python(
    rows: list[Row], read_ts: int, span: tuple[bytes, bytes | None], parts: int, data: st.DataObject
) -> None:
    start, end = span
    expected = as_of_oracle(rows, read_ts, start, end)
    mixed = data.draw(st.permutations(rows))
    for version in (table(rows), stored(rows, parts), table(mixed), files([mixed], 2)):
        found = frames.as_of(version, read_ts, start=start, end=end)
        assert found.to_dicts() == expected
    assert sql_as_of(table(mixed), read_ts, start, end) == expected


@settings(max_examples=25, deadline=None)
@given(histories(), st.sampled_from(KEYS))
def test_a_keys_history_is_the_same_by_sql_by_frames_and_in_plain_python(
    rows: list[Row], key: bytes
) -> None:
    names = [name for name in VERSION.names if name != "key"]
    expected = [{name: row[name] for name in names} for row in rows if row["key"] == key]
    for version in (table(rows), stored(rows, 2), table(rows[::-1])):
        assert frames.key_history(version, key).to_dicts() == expected
    assert run(sql_text("key_history"), {"version": table(rows)}, {"key": key}).to_pylist() == (
        expected
    )


@st.composite
def spans(draw: st.DrawFn) -> list[tuple[bytes, bytes | None]]:
    """Draw spans that do not overlap, with gaps."""
    cuts = sorted(draw(st.sets(st.sampled_from(KEYS), min_size=1)))
    pairs = [(low, high) for low, high in zip(cuts, [*cuts[1:], None], strict=True)]
    kept = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    return [pair for pair, keep in zip(pairs, kept, strict=True) if keep]


def routes(by_version: dict[int, list[tuple[bytes, bytes | None]]]) -> pa.Table:
    rows = [
        {
            "catalog_version": version,
            "recorded_at": moment(version),
            "route_id": 100 * version + number,
            "start": start,
            "end": end,
            "group": 1 + number,
            "state": "ACTIVE",
            "parent_route_id": 0,
            "split_at_hlc": 0,
        }
        for version, pairs in by_version.items()
        for number, (start, end) in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows, schema=ROUTE)


def route_bytes_oracle(
    rows: list[Row], pairs: list[tuple[bytes, bytes | None]], version: int, read_ts: int
) -> list[Row]:
    live = {row["key"] for row in as_of_oracle(rows, read_ts, b"", None)}
    visible = [row for row in rows if row["commit_ts"] <= read_ts]

    def sums(mine: list[Row]) -> Row:
        return {
            "live_keys": len({row["key"] for row in mine} & live),
            "tombstones": sum(row["kind"] == "tombstone" for row in mine),
            "versions": len(mine),
            "key_bytes": sum(len(row["key"]) for row in mine),
            "value_bytes": sum(len(row["value"] or b"") for row in mine),
        }

    def holds(pair: tuple[bytes, bytes | None], key: bytes) -> bool:
        return pair[0] <= key and (pair[1] is None or key < pair[1])

    answer = [
        {
            "catalog_version": version,
            "route_id": 100 * version + number,
            "start": pair[0],
            "end": pair[1],
            "group": 1 + number,
            **sums([row for row in visible if holds(pair, row["key"])]),
        }
        for number, pair in enumerate(pairs)
    ]
    lost = [row for row in visible if not any(holds(pair, row["key"]) for pair in pairs)]
    if lost:
        nobody = dict.fromkeys(("catalog_version", "route_id", "start", "end", "group"))
        answer.append({**nobody, **sums(lost)})
    return answer


@settings(max_examples=50, deadline=None)
@given(histories(), spans(), spans(), read_times, st.integers(1, 3))
def test_route_bytes_are_the_same_by_sql_by_frames_and_in_plain_python(
    rows: list[Row],
    before: list[tuple[bytes, bytes | None]],
    after: list[tuple[bytes, bytes | None]],
    read_ts: int,
    parts: int,
) -> None:
    route = routes({1: before, 3: after})
    asked = {"catalog_version": 2, "read_ts": read_ts}
    by_sql = run(sql_text("route_bytes"), {"version": table(rows), "route": route}, asked)
    for version in (table(rows), stored(rows, parts), table(rows[::-1])):
        found = frames.route_bytes(version, route, **asked)
        assert found.to_dicts() == by_sql.to_pylist()
    assert by_sql.to_pylist() == route_bytes_oracle(rows, before, 1, read_ts)


def test_rows_out_of_order_are_noticed_by_every_rule_of_the_order() -> None:
    def row(key: bytes, step: int, group: int = 1) -> Row:
        stamp = hlc_of_ms(MS + step)
        return {"key": key, "commit_ts": stamp, "kind": "put", "value": b"v", "group": group}

    in_order = [row(b"a", 2), row(b"a", 1), row(b"b", 1)]
    wrong = [
        [row(b"b", 1), row(b"a", 1)],
        [row(b"a", 1), row(b"a", 2)],
        [row(b"a", 1), row(b"a", 1)],
    ]
    list(sorted_versions._mark(table(in_order).to_batches(), 2**60))
    for rows in wrong:
        batches = [table([each]).to_batches()[0] for each in rows]
        for given_ in (table(rows).to_batches(), batches):
            with pytest.raises(sorted_versions._UnsortedError):
                list(sorted_versions._mark(given_, 2**60))


def test_a_tombstone_in_the_last_row_of_a_batch_hides_the_first_of_the_next() -> None:
    rows = [
        {"key": b"k", "commit_ts": hlc_of_ms(MS + 1), "kind": "tombstone", "group": 1},
        {"key": b"k", "commit_ts": hlc_of_ms(MS), "kind": "put", "value": b"v", "group": 1},
    ]
    version = files([[rows[0]], [rows[1]]], 1)
    assert frames.as_of(version, hlc_of_ms(MS + 1)).height == 0
    assert frames.as_of(version, hlc_of_ms(MS)).height == 1


def test_objects_of_several_groups_come_out_in_key_order_by_merging_and_by_sorting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [
        {
            "key": b"%04d" % n,
            "commit_ts": hlc_of_ms(MS),
            "kind": "put",
            "value": b"",
            "group": n % 2,
        }
        for n in range(200)
    ]
    halves = [[row for row in rows if row["group"] == group] for group in (0, 1)]
    for runs_max in (1_000, 5):
        monkeypatch.setattr(frames, "MERGE_RUNS_MAX", runs_max)
        found = frames.as_of(files(halves, 50), hlc_of_ms(MS), columns=["key"])
        assert found["key"].to_list() == [row["key"] for row in rows]


@pytest.mark.parametrize("runs_max", [1_000, 0])
def test_a_key_of_two_groups_is_refused(monkeypatch: pytest.MonkeyPatch, runs_max: int) -> None:
    monkeypatch.setattr(frames, "MERGE_RUNS_MAX", runs_max)
    rows = [
        {"key": b"k", "commit_ts": hlc_of_ms(MS), "kind": "put", "value": b"", "group": group}
        for group in (1, 2)
    ]
    with pytest.raises(Corruption) as caught:
        frames.as_of(files([rows[:1], rows[1:]], 1), hlc_of_ms(MS))
    assert caught.value.code == "key_in_two_groups"


def test_the_oracle_notices_expiry_that_is_judged_by_another_clock() -> None:
    rows = [
        {
            "key": b"k",
            "commit_ts": hlc_of_ms(MS),
            "kind": "put",
            "value": b"v",
            "expire_at": moment(3),
            "group": 1,
        }
    ]
    read_ts = hlc_of_ms(MS + 3)
    late = sql_text("as_of").replace(">> 16", ">> 17")
    parameters = {"read_ts": read_ts, "start": b"", "end": None}
    assert as_of_oracle(rows, read_ts, b"", None) == []
    assert run(late, {"version": table(rows)}, parameters).num_rows == 1
