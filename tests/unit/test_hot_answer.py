"""Claims about `hot` as the session answers it: fallbacks, samples, keys, evidence, plans."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import ACCESS, HOT_KEY, KEY_SAMPLE, LOAD_WINDOW
from workbench.planner.detect import Certainty, Rule, Verdict
from workbench.query.load import LoadReader
from workbench.session.cluster import ClusterView
from workbench.session.look import HotAnswer, hot, rates

if TYPE_CHECKING:
    from pathlib import Path

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROUTES = (
    RouteDescriptor(1, Span(b"", b"h"), 1),
    RouteDescriptor(2, Span(b"h", b"p"), 1),
    RouteDescriptor(3, Span(b"p", None), 2),
)
BUCKETS = ((1, b"", b"d"), (1, b"d", b"h"), (2, b"h", b"p"), (3, b"p", b"t"), (3, b"t", None))


def load_row(number: int, bucket: int, **changes: Any) -> dict[str, Any]:
    route, start, end = BUCKETS[bucket]
    return {
        "cluster": "c",
        "window_start": T0 + number * MINUTE,
        "window_end": T0 + (number + 1) * MINUTE,
        "route_id": route,
        "group": 1,
        "bucket_start": start,
        "bucket_end": end,
        "reads": None,
        "writes": None,
        "read_bytes": None,
        "write_bytes": None,
        "cpu_ns": None,
        "coverage": 1.0,
        "error_bound": None,
        **changes,
    }


def view_of(rows: list[dict[str, Any]], **extras: pa.Table) -> ClusterView:
    load = LoadReader("c", {"load_window": pa.Table.from_pylist(rows, LOAD_WINDOW), **extras})
    extent = LoadReader("c", {"load_window": load.data["load_window"]}).extent()
    return ClusterView("c", RouteSnapshot(1, ROUTES, T0), load, extent, {})


def ask(view: ClusterView, objective: str = "score", **rule: Any) -> HotAnswer:
    return hot(
        view,
        since=view.extent.since,
        until=view.extent.until,
        objective=OBJECTIVES[objective],
        rule=Rule(**rule),
    )


def plain(rows: list[dict[str, Any]], objective: str) -> dict[int, dict[str, Any]]:
    """Compute anew, in plain Python, what an answer says of each route."""
    weights = OBJECTIVES[objective]
    loads: dict[tuple[int, datetime], int | None] = defaultdict(int)
    for row in rows:
        names = (("reads", weights.read_weight), ("writes", weights.write_weight))
        if objective == "bytes":
            names = (("read_bytes", 1), ("write_bytes", 1))
        place = row["route_id"], row["window_start"]
        for name, weight in names:
            if not weight:
                continue
            known = loads[place] is not None and row[name] is not None
            loads[place] = loads[place] + weight * row[name] if known else None
    measured = {place: load for place, load in loads.items() if load is not None}
    total = sum(measured.values())
    last = max(start for _, start in loads)
    found: dict[int, dict[str, Any]] = {}
    for route in {route for route, _ in loads}:
        mine = {start: load for (r, start), load in measured.items() if r == route}
        peak = max(mine.values(), default=None)
        found[route] = {
            "load": sum(mine.values()) if mine else None,
            "share": sum(mine.values()) / total if mine and total else (0.0 if mine else None),
            "per_minute": mine.get(last),
            "peak_per_minute": peak,
            "peak_at": min((s for s, load in mine.items() if load == peak), default=None),
        }
    return found


@pytest.mark.parametrize("objective", ["score", "reads", "writes", "bytes"])
def test_every_number_is_that_of_its_sql_on_parquet_and_of_plain_python(
    objective: str, tmp_path: Path
) -> None:
    chance = random.Random(objective)
    for trial in range(4):
        rows = [
            load_row(
                n,
                bucket,
                **{
                    name: None if chance.random() < 0.1 else chance.randrange(40_000)
                    for name in ("reads", "writes", "read_bytes", "write_bytes")
                },
            )
            for n in range(6)
            for bucket in range(len(BUCKETS))
        ]
        chance.shuffle(rows)
        path = tmp_path / f"{trial}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, LOAD_WINDOW), path)
        view = view_of(rows)
        answer = ask(view, objective)
        expected = plain(rows, objective)
        by_sql = {row["route_id"]: row for row in rates(view, answer)}
        assert answer.evidence is not None
        with duckdb.connect() as connection:  # the text as it is told, on the file itself
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"CREATE VIEW load_window AS FROM '{path}'")
            connection.register("route", spans())
            said = connection.sql(answer.evidence.sql, params=dict(answer.evidence.parameters))
            on_file = {row["route_id"]: row for row in said.to_arrow_table().to_pylist()}
        for verdict in answer.verdicts:
            route_id = verdict.route.route_id
            for name, value in expected[route_id].items():
                close = value if value is None or name == "peak_at" else pytest.approx(value)
                assert getattr(verdict, name) == close, name
                assert by_sql[route_id][name] == close, name
                assert on_file[route_id][name] == close, name


def spans() -> pa.Table:
    return pa.table(
        {
            "route_id": pa.array([r.route_id for r in ROUTES], pa.uint64()),
            "route_start": pa.array([r.span.start for r in ROUTES], pa.binary()),
            "route_end": pa.array([r.span.end for r in ROUTES], pa.binary()),
        }
    )


def test_where_nothing_is_counted_the_objective_falls_to_time_then_bytes_and_says_so() -> None:
    cells = [(n, bucket) for n in range(3) for bucket in range(5)]
    both = [load_row(*c, cpu_ns=c[1], read_bytes=9, write_bytes=1) for c in cells]
    assert (ask(view_of(both)).objective, ask(view_of(both)).asked) == ("cpu_ns", "score")
    volume = [load_row(*c, read_bytes=9, write_bytes=1) for c in cells]
    assert ask(view_of(volume)).objective == "bytes"
    nothing = ask(view_of([load_row(*c) for c in cells]))
    assert nothing.objective == "score"
    assert {v.verdict for v in nothing.verdicts} == {Verdict.UNKNOWN}
    half = [load_row(*c, reads=5, cpu_ns=7) for c in cells]
    assert ask(view_of(half)).objective == "cpu_ns"  # writes were not measured, so no score is
    assert ask(view_of(half), "reads").objective == "reads"


def test_an_error_bound_of_counts_weighs_as_the_heaviest_of_them() -> None:
    rows = [
        load_row(n, b, reads=0, writes=13_000, error_bound=300.0)
        for n in range(3)
        for b in range(5)
    ]
    # 4 × (13,000 - 300) is over the threshold, for a route of one bucket.
    assert by_route(ask(view_of(rows)))[2].verdict is Verdict.HOT
    for row in rows:
        row["error_bound"] = 501.0
    assert by_route(ask(view_of(rows)))[2].verdict is Verdict.UNKNOWN


def by_route(answer: HotAnswer) -> dict[int, Any]:
    return {verdict.route.route_id: verdict for verdict in answer.verdicts}


def samples(number: int, count: int, weight: float, key: bytes = b"k") -> list[dict[str, Any]]:
    window = {"window_start": T0 + number * MINUTE, "window_end": T0 + (number + 1) * MINUTE}
    return [{**window, "route_id": 2, "key": key, "op": "write", "weight": weight}] * count


@pytest.mark.parametrize(
    ("count", "weight", "coverage", "verdict", "certainty"),
    [
        (1_600, 10.0, 1.0, Verdict.HOT, Certainty.CERTAIN),
        (1_600, 10.0, 0.99, Verdict.HOT, Certainty.LIKELY),  # some samples were dropped
        (1_536, 10.0, 1.0, Verdict.HOT, Certainty.LIKELY),
        (130, 100.0, 1.0, Verdict.UNKNOWN, Certainty.OPEN),  # 52,000, but from 44,000
        (20, 100.0, 1.0, Verdict.COLD, Certainty.LIKELY),
    ],
)
def test_what_was_not_counted_is_judged_by_samples_at_their_lower_end(
    count: int, weight: float, coverage: float, verdict: Verdict, certainty: Certainty
) -> None:
    rows = [
        load_row(n, b, coverage=coverage if b == 2 else 1.0) for n in range(3) for b in range(5)
    ]
    taken = [each for n in range(3) for each in samples(n, count, weight)]
    answer = ask(view_of(rows, key_sample=pa.Table.from_pylist(taken, KEY_SAMPLE)))
    found = by_route(answer)[2]
    assert (answer.objective, answer.sampled, answer.evidence) == ("score", True, None)
    assert (found.verdict, found.certainty) == (verdict, certainty)
    assert found.per_minute == 4 * count * weight
    assert found.low_per_minute < found.per_minute < found.high_per_minute


def test_counts_go_before_samples() -> None:
    rows = [load_row(n, b, reads=1, writes=0) for n in range(3) for b in range(5)]
    taken = pa.Table.from_pylist(samples(0, 50, 1e6), KEY_SAMPLE)
    answer = ask(view_of(rows, key_sample=taken))
    assert not answer.sampled
    assert by_route(answer)[2].per_minute == 1


def test_heavy_keys_are_listed_at_the_least_that_they_carry() -> None:
    rows = [load_row(n, b, reads=1_000, writes=0) for n in range(3) for b in range(5)]
    window = {"window_start": T0, "window_end": T0 + MINUTE, "route_id": 99}
    told = [
        {**window, "key": b"k", "count": 2_000, "error": 200, "sample_rate": 1.0},
        {**window, "key": b"l", "count": 2_000, "error": 0, "sample_rate": 0.01},
        {**window, "key": b"m", "count": 299, "error": 0, "sample_rate": 1.0},
        {**window, "key": b"z", "count": 5, "error": 0, "sample_rate": 1.0},
    ]
    answer = ask(view_of(rows, hot_key=pa.Table.from_pylist(told, HOT_KEY)))
    found = {each.key: each for each in answer.hot_keys}
    assert set(found) == {b"k", b"l"}
    assert (found[b"k"].route_id, found[b"k"].low, found[b"k"].share) == (2, 1_800, 0.6)
    assert 1_100 < found[b"l"].low < 2_000  # 20 samples tell little


def test_single_accesses_tell_heavy_keys_exactly() -> None:
    rows = [load_row(n, b, reads=2, writes=0) for n in range(2) for b in range(5)]
    times = [T0 + timedelta(seconds=n) for n in range(8)]
    keys = [b"k"] * 3 + [b"a", b"b", b"c", b"z", b"y"]
    access = pa.table(
        [pa.array(times), pa.array(keys), pa.array(["read"] * 8), pa.nulls(8, pa.int64())],
        names=ACCESS.names,
    ).cast(ACCESS)
    answer = ask(view_of(rows, access=access))
    top = {each.key: (each.count, each.share) for each in answer.hot_keys}
    assert top[b"k"] == (3, 0.75)
    assert {key for key in top if key < b"h"} == {b"a", b"b", b"c"}
