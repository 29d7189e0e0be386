"""Owners of keys, load per route and heat: by SQL, by Polars and in plain Python, one answer."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.model.tables import COUNTERS, LOAD_WINDOW, ROUTE
from workbench.model.times import EPOCH, hlc_ms, hlc_of_ms, to_us
from workbench.query import frames
from workbench.query.engine import run, sql_text

MS = 1_790_000_000_000
KEYS = [b"", b"a", b"a\x00", b"b", b"m", b"\xff"]
Row = dict[str, Any]


def moment(step: int) -> Any:
    return EPOCH + timedelta(milliseconds=MS + step)


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[list[list[Row]], list[int], list[Row]]:
    """Draw a route catalog's true history, and which versions of it were recorded.

    Returns the routes of each version from 1, the step at which each version began, and the
    recorded rows. Versions are recorded while they hold.
    """
    routes = [_route(1, b"", None, 1, 0, 0)]
    versions, begins, next_id = [routes], [-100], 2
    for number in range(draw(st.integers(0, 4))):
        step = 10 * (number + 1)
        splittable = [r for r in routes if _cuts(r)]
        if not splittable:
            break
        route = draw(st.sampled_from(splittable))
        cut = draw(st.sampled_from(_cuts(route)))
        stamp = hlc_of_ms(MS + step)
        group = draw(st.integers(1, 3))
        left = _route(next_id, route["start"], cut, route["group"], route["route_id"], stamp)
        right = _route(next_id + 1, cut, route["end"], group, route["route_id"], stamp)
        routes = [*(r for r in routes if r is not route), left, right]
        next_id += 2
        versions.append(routes)
        begins.append(step)
    kept = draw(st.sets(st.integers(1, len(versions)), min_size=1))
    rows = [
        {**route, "catalog_version": version, "recorded_at": moment(begins[version - 1] + 3)}
        for version in sorted(kept)
        for route in versions[version - 1]
    ]
    return versions, begins, draw(st.permutations(rows))


def _route(  # noqa: PLR0913, PLR0917
    route_id: int, start: bytes, end: bytes | None, group: int, parent: int, stamp: int
) -> Row:
    return {
        "route_id": route_id,
        "start": start,
        "end": end,
        "group": group,
        "state": "ACTIVE",
        "parent_route_id": parent,
        "split_at_hlc": stamp,
    }


def _cuts(route: Row) -> list[bytes]:
    end = route["end"]
    return [key for key in KEYS if key > route["start"] and (end is None or key < end)]


def holds(route: Row, key: bytes) -> bool:
    return route["start"] <= key and (route["end"] is None or key < route["end"])


def owner(routes: list[Row], key: bytes) -> Row:
    [found] = [route for route in routes if holds(route, key)]
    return found


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ROUTE)


def by_both(query: str, route: pa.Table, **asked: Any) -> list[Row]:
    """The answer, which must be one."""
    by_sql: list[Row] = run(sql_text(query), {"route": route}, asked).to_pylist()
    found = getattr(frames, query)(route, **asked).to_dicts()
    assert found == by_sql
    return by_sql


@settings(max_examples=50, deadline=None)
@given(catalogs(), st.sampled_from(KEYS), st.integers(0, 6))
def test_the_owner_at_a_version_is_right_where_it_is_called_certain(
    drawn: tuple[list[list[Row]], list[int], list[Row]], key: bytes, version: int
) -> None:
    versions, _, rows = drawn
    recorded = {row["catalog_version"] for row in rows}
    answer = by_both("owner_at_version", table(rows), key=key, catalog_version=version)
    below = [each for each in recorded if each <= version]
    if not below:
        assert answer == []
        return
    [found] = answer
    assert found["catalog_version"] == max(below)
    assert found["route_id"] == owner(versions[max(below) - 1], key)["route_id"]
    if found["is_certain"] and version <= len(versions):
        truth = owner(versions[version - 1], key)
        assert (found["route_id"], found["group"]) == (truth["route_id"], truth["group"])
    assert found["is_certain"] or version not in recorded


@settings(max_examples=50, deadline=None)
@given(catalogs(), st.sampled_from(KEYS), st.integers(-1, 60), st.integers(0, 1))
def test_the_owner_at_a_time_is_right_where_it_is_called_certain(
    drawn: tuple[list[list[Row]], list[int], list[Row]], key: bytes, step: int, logical: int
) -> None:
    versions, begins, rows = drawn
    read_ts = hlc_of_ms(MS + step, logical)
    answer = by_both("owner_at_time", table(rows), key=key, read_ts=read_ts)
    number = max(n for n, begin in enumerate(begins) if begin <= step)
    truth = owner(versions[number], key)
    for found in answer:
        if found["is_certain"]:
            assert (found["route_id"], found["group"]) == (truth["route_id"], truth["group"])
    seen = [row for row in rows if row["route_id"] == truth["route_id"]]
    if truth["split_at_hlc"] and any(row["recorded_at"] >= moment(step) for row in seen):
        assert [(each["route_id"], each["is_certain"]) for each in answer] == [
            (truth["route_id"], True)
        ]


def test_a_split_that_was_recorded_later_counts_from_when_it_was_made() -> None:
    parent = _route(1, b"", None, 1, 0, 0)
    stamp = hlc_of_ms(MS + 50)
    children = [_route(2, b"", b"m", 1, 1, stamp), _route(3, b"m", None, 2, 1, stamp)]
    rows = [{**parent, "catalog_version": 1, "recorded_at": moment(0)}]
    rows += [{**each, "catalog_version": 2, "recorded_at": moment(900)} for each in children]
    for step, expected in ((10, 1), (49, 1), (50, 3), (700, 3)):
        [found] = by_both("owner_at_time", table(rows), key=b"z", read_ts=hlc_of_ms(MS + step))
        assert (found["route_id"], found["is_certain"]) == (expected, True)
    [late] = by_both("owner_at_time", table(rows), key=b"z", read_ts=hlc_of_ms(MS + 901))
    assert (late["route_id"], late["is_certain"]) == (3, False)  # nobody looked since


def test_splits_that_nobody_recorded_make_the_owner_uncertain() -> None:
    rows = [
        {**_route(1, b"", None, 1, 0, 0), "catalog_version": 1, "recorded_at": moment(0)},
        {  # a grandchild: its parent, 2, was never seen
            **_route(5, b"m", None, 2, 3, hlc_of_ms(MS + 90)),
            "catalog_version": 3,
            "recorded_at": moment(99),
        },
    ]
    [found] = by_both("owner_at_time", table(rows), key=b"z", read_ts=hlc_of_ms(MS + 60))
    assert (found["route_id"], found["is_certain"]) == (1, False)


def test_a_route_of_a_system_without_split_times_begins_when_it_was_seen() -> None:
    rows = [
        {**_route(1, b"", None, 1, 0, 0), "catalog_version": 1, "recorded_at": moment(0)},
        {**_route(7, b"", None, 2, 0, 0), "catalog_version": 2, "recorded_at": moment(40)},
    ]
    for step, expected in ((-5, 1), (39, 1), (40, 7), (50, 7)):
        [found] = by_both("owner_at_time", table(rows), key=b"k", read_ts=hlc_of_ms(MS + step))
        assert found["route_id"] == expected


def test_a_key_in_a_gap_has_no_owner() -> None:
    rows = [
        {**_route(1, b"", b"m", 1, 0, 0), "catalog_version": 4, "recorded_at": moment(0)},
        {**_route(2, b"m", None, 1, 0, 0), "catalog_version": 3, "recorded_at": moment(0)},
    ]
    assert by_both("owner_at_version", table(rows), key=b"z", catalog_version=4) == []


counts = st.none() | st.integers(0, 9)
load_rows = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.integers(1, 3),
        st.sampled_from([(b"", b"m"), (b"m", None), (b"", None)]),
        counts,
        counts,
    ),
    max_size=16,
)
asked_times = st.none() | st.integers(0, 6)


def windows(drawn: list[tuple[Any, ...]]) -> list[Row]:
    return [
        {
            "cluster": "c",
            "window_start": EPOCH + timedelta(milliseconds=MS + 20_000 * window),
            "window_end": EPOCH + timedelta(milliseconds=MS + 20_000 * (window + 1)),
            "route_id": route,
            "group": 1 + route % 2,
            "bucket_start": bucket[0],
            "bucket_end": bucket[1],
            "reads": reads,
            "writes": writes,
            "read_bytes": 1,
            "coverage": 1 / (1 + window),
        }
        for window, route, bucket, reads, writes in drawn
    ]


def sums(rows: list[Row]) -> Row:
    return {
        name: None if any(row.get(name) is None for row in rows) else sum(row[name] for row in rows)
        for name in COUNTERS
    }


def inside(rows: list[Row], since: Any, until: Any) -> list[Row]:
    return [
        row
        for row in rows
        if (since is None or row["window_start"] >= since)
        and (until is None or row["window_start"] < until)
    ]


def grouped(rows: list[Row], key: Any) -> list[tuple[Any, list[Row]]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return sorted(groups.items(), key=lambda each: tuple(_last(part) for part in each[0]))


def _last(part: Any) -> tuple[bool, Any]:
    return part is None, part


def load_by_both(query: str, rows: list[Row], **asked: Any) -> list[Row]:
    data = pa.Table.from_pylist(rows, schema=LOAD_WINDOW)
    by_sql: list[Row] = run(sql_text(query), {"load_window": data}, asked).to_pylist()
    assert getattr(frames, query)(data, **asked).to_dicts() == by_sql
    return by_sql


def at(window: int | None) -> Any:
    return None if window is None else EPOCH + timedelta(milliseconds=MS + 20_000 * window)


@settings(max_examples=40, deadline=None)
@given(load_rows, asked_times, asked_times)
def test_load_per_route_is_a_plain_sum(
    drawn: list[tuple[Any, ...]], since: int | None, until: int | None
) -> None:
    rows = windows(drawn)
    expected = [
        {
            "route_id": route_id,
            "group": group,
            "since": min(row["window_start"] for row in mine),
            "until": max(row["window_end"] for row in mine),
            "windows": len({row["window_start"] for row in mine}),
            **sums(mine),
            "coverage": min(row["coverage"] for row in mine),
        }
        for (route_id, group), mine in grouped(
            inside(rows, at(since), at(until)), lambda row: (row["route_id"], row["group"])
        )
    ]
    assert load_by_both("load_per_route", rows, since=at(since), until=at(until)) == expected


@settings(max_examples=40, deadline=None)
@given(load_rows, asked_times, asked_times, st.sampled_from([1_000, 60_000, 70_001]))
def test_heat_is_a_plain_sum_by_column_and_bucket(
    drawn: list[tuple[Any, ...]], since: int | None, until: int | None, column_ms: int
) -> None:
    rows = windows(drawn)

    def cell(row: Row) -> tuple[Any, ...]:
        start = to_us(row["window_start"]) // 1_000 // column_ms * column_ms
        column = EPOCH + timedelta(milliseconds=start)
        return column, row["bucket_start"], row["bucket_end"]

    expected = [
        {
            "column_start": column,
            "bucket_start": start,
            "bucket_end": end,
            "windows": len({row["window_start"] for row in mine}),
            **sums(mine),
        }
        for (column, start, end), mine in grouped(inside(rows, at(since), at(until)), cell)
    ]
    asked = {"column_ms": column_ms, "since": at(since), "until": at(until)}
    assert load_by_both("load_heat", rows, **asked) == expected


def test_the_checks_notice_a_null_that_is_taken_for_zero() -> None:
    rows = windows([(0, 1, (b"", None), 5, 1), (1, 1, (b"", None), None, 1)])
    text = sql_text("load_per_route").replace("count(reads) = count(*)", "true")
    data = pa.Table.from_pylist(rows, schema=LOAD_WINDOW)
    [wrong] = run(text, {"load_window": data}, {"since": None, "until": None}).to_pylist()
    assert wrong["reads"] != sums(rows)["reads"]
    assert hlc_ms(hlc_of_ms(MS)) == MS
