"""Claims about verdicts by SQL: the text that an answer tells gives what Python decided."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import LOAD_WINDOW
from workbench.model.times import hlc_of_ms, to_us
from workbench.planner.detect import Rule, Verdict
from workbench.query.load import LoadReader
from workbench.session.cluster import ClusterView
from workbench.session.look import hot, verdicts_by_sql

if TYPE_CHECKING:
    from pathlib import Path

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BOUNDS = (b"", b"h", b"p", None)


def random_rows(chance: random.Random) -> list[dict[str, Any]]:
    """Windows of three routes about a threshold of 100, with gaps, errors and parts."""
    rows = []
    for number in range(chance.randint(1, 6)):
        for route in (1, 2, 3):
            if chance.random() < 0.1:
                continue
            over = chance.random() < 0.75
            known = {
                name: None if chance.random() < 0.05 else chance.randrange(60) + 60 * over
                for name in ("reads", "writes", "read_bytes", "write_bytes", "cpu_ns")
            }
            rows.append(
                {
                    "cluster": "c",
                    "window_start": T0 + number * MINUTE + (number > 3) * MINUTE,
                    "window_end": T0 + (number + 1) * MINUTE + (number > 3) * MINUTE,
                    "route_id": route,
                    "group": 1,
                    "bucket_start": BOUNDS[route - 1],
                    "bucket_end": BOUNDS[route],
                    "coverage": 1.0 if chance.random() < 0.9 else 0.5,
                    "error_bound": chance.choice([None, None, 0.0, 3.0, 200.0]),
                    **known,
                }
            )
    return rows


def routes_of(chance: random.Random) -> tuple[RouteDescriptor, ...]:
    made = []
    for index in range(3):
        route = RouteDescriptor(index + 1, Span(BOUNDS[index] or b"", BOUNDS[index + 1]), 1)
        split_ms = to_us(T0) // 1_000 + chance.choice([-900_000, 0, 60_000])
        made.append(
            replace(route, split_at_hlc=hlc_of_ms(split_ms, 0)) if chance.random() < 0.5 else route
        )
    return tuple(made)


def compare(seed: int, folder: Path | None) -> set[str]:
    chance = random.Random(seed)
    rows = random_rows(chance)
    if not rows:
        return set()
    routes = routes_of(chance)
    table = pa.Table.from_pylist(rows, LOAD_WINDOW)
    load = LoadReader("c", {"load_window": table})
    extent = load.extent()
    view = ClusterView("c", RouteSnapshot(1, routes, T0), load, extent, {})
    name = chance.choice(["score", "reads", "bytes"])
    rule = Rule(chance.choice([100.0, 100.0, 300.0]), chance.choice([1, 2, 3]))
    answer = hot(
        view, since=extent.since, until=extent.until, objective=OBJECTIVES[name], rule=rule
    )
    by_sql = {row["route_id"]: row for row in verdicts_by_sql(view, answer)}
    for verdict in answer.verdicts:
        row = by_sql[verdict.route.route_id]
        assert row["verdict"] == verdict.verdict.value, (seed, verdict)
        assert row["windows_over"] == verdict.windows_over, (seed, verdict)
        assert row["proof_from"] == min(verdict.proof, default=None), (seed, verdict)
    if folder is not None:
        assert answer.evidence is not None
        path = folder / f"{seed}.parquet"
        pq.write_table(table, path)
        with duckdb.connect() as connection:  # the text as it is told, on the file itself
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"CREATE VIEW load_window AS FROM '{path}'")
            connection.register("route", relation_of(routes).drop_columns(["split_at_us"]))
            connection.register(
                "split", relation_of(routes).drop_columns(["route_start", "route_end"])
            )
            said = connection.sql(
                answer.evidence.verdict_sql, params=dict(answer.evidence.verdict_parameters)
            )
            assert {row["route_id"]: row for row in said.to_arrow_table().to_pylist()} == by_sql
    return {verdict.verdict.value for verdict in answer.verdicts}


def relation_of(routes: tuple[RouteDescriptor, ...]) -> pa.Table:
    moments = [route.split_at_hlc >> 16 for route in routes]
    return pa.table(
        {
            "route_id": pa.array([route.route_id for route in routes], pa.uint64()),
            "route_start": pa.array([route.span.start for route in routes], pa.binary()),
            "route_end": pa.array([route.span.end for route in routes], pa.binary()),
            "split_at_us": pa.array([moment * 1_000 for moment in moments], pa.int64()),
        }
    )


def test_verdicts_streaks_and_proofs_are_those_of_their_sql(tmp_path: Path) -> None:
    seen: set[str] = set()
    for seed in range(20):
        seen |= compare(seed, tmp_path if seed % 10 == 0 else None)
    assert seen == {verdict.value for verdict in Verdict}


@pytest.mark.slow
def test_verdicts_of_800_random_loads_are_those_of_their_sql() -> None:
    for seed in range(800):
        compare(seed, None)
