"""Report inputs made by hand, so that every number on the page is known to the tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.heat.matrix import HeatMatrix
from workbench.model.keys import Span
from workbench.model.plan import (
    OBJECTIVES,
    Action,
    ActionKind,
    Bottleneck,
    Declined,
    Evidence,
    EvidenceQuery,
    Limits,
    Plan,
    RouteLoad,
)
from workbench.model.routes import RouteDescriptor
from workbench.planner.detect import RouteVerdict, Verdict
from workbench.planner.replay import RouteSeries, Verification
from workbench.report.html import ReportInputs

if TYPE_CHECKING:
    from collections.abc import Sequence

SINCE = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)
WINDOW_MS = 60_000
# Start of each route after the plan, its load, and whether the boundary existed before.
ROUTES = (
    (b"", 100, True),
    (b"user/100", 200, True),
    (b"user/120", 210, False),
    (b"user/140", 190, False),
    (b"user/200", 200, True),
    (b"user/300", 100, True),
)


def spans_of(starts: Sequence[bytes]) -> tuple[Span, ...]:
    """Return spans from each start to the next, the last without upper bound."""
    return tuple(Span(start, end) for start, end in pairwise([*starts, None]) if start is not None)


def sample_plan(routes: Sequence[tuple[bytes, int, bool]] = ROUTES, **changed: Any) -> Plan:
    """Return a plan that leaves `routes`; boundaries that did not exist are its splits."""
    starts = [start for start, _, _ in routes]
    after = [
        RouteLoad(span, 1, load)
        for span, (_, load, _) in zip(spans_of(starts), routes, strict=True)
    ]
    old = [start for start, _, existed in routes if existed]
    before = [
        RouteLoad(span, 1, sum(each.load for each in after if each.span.start in span))
        for span in spans_of(old)
    ]
    total = sum(route.load for route in after)
    heaviest_before = max(route.load for route in before)
    heaviest_after = max(route.load for route in after)
    cuts = [start for start, _, existed in routes if not existed]
    fields: dict[str, Any] = {
        "cluster": "orders",
        "catalog_version": 7,
        "objective": OBJECTIVES["score"],
        "policy": "exact",
        "since": SINCE,
        "until": SINCE + timedelta(hours=1),
        "limits": Limits(max_splits=8, min_gain=0.10),
        "atoms": 40,
        "atom_kind": "key",
        "total_load": total,
        "bottleneck": Bottleneck(
            before=heaviest_before,
            after=heaviest_after,
            optimum=max(heaviest_after - 10, 0),
            lower_bound=-(-total // len(after)),
            resolution_low=heaviest_after,
            resolution_high=heaviest_after,
        ),
        "max_share_before": heaviest_before / max(total, 1),
        "max_share_after": heaviest_after / max(total, 1),
        "backtest": None,
        "pareto": ((0, heaviest_before), (1, 400), (2, heaviest_after)) if cuts else (),
        "actions": tuple(
            _split(number, key, before, heaviest_before, heaviest_after)
            for number, key in enumerate(cuts, start=1)
        ),
        "routes_before": tuple(before),
        "routes_after": tuple(after),
        "unsplittable": (),
        "declined": (Declined(1, "it carries 10.0% of the load"),),
        "certificate": {"incremental": {"bottleneck": heaviest_after}},
        "evidence": EvidenceQuery(
            "load_by_key",
            "load/orders",
            {"since": "2026-03-04T09:00:00Z", "write_weight": 4},
            "SELECT key, sum(load) AS load\nFROM access\nWHERE load < 9\nGROUP BY key",
        ),
    }
    return Plan(**(fields | changed))


def sample_series(routes: Sequence[RouteLoad], windows: int = 30) -> RouteSeries:
    """Return a replay in which each window has a route's load plus its own number."""
    loads = np.array([[route.load + column for column in range(windows)] for route in routes])
    since = SINCE + timedelta(hours=1)
    return RouteSeries(
        spans=tuple(route.span for route in routes),
        times=tuple(since + timedelta(milliseconds=WINDOW_MS * c) for c in range(windows)),
        window_ms=WINDOW_MS,
        loads=loads.astype(np.int64),
        unrouted=0,
    )


def sample_verification(plan: Plan, windows: int = 30, **changed: Any) -> Verification:
    """Return a verification in which the forecast held, unless `changed` says otherwise."""
    fields: dict[str, Any] = {
        "plan_id": plan.plan_id,
        "since": SINCE + timedelta(hours=1),
        "until": SINCE + timedelta(hours=2),
        "events": 1_000,
        "before": sample_series(plan.routes_before, windows),
        "after": sample_series(plan.routes_after, windows),
        "forecast_share": plan.max_share_after,
        "drift": 0.03,
    }
    return Verification(**(fields | changed))


def sample_heat(
    rows: int = 12, windows: int = 60, *, hour: int = 0, prefix: bytes = b"user/"
) -> HeatMatrix:
    """Return a matrix with a hot row, a zero row, and a column that was not measured."""
    values = np.fromfunction(lambda row, column: 1 + (row + column) % 7, (rows, windows))
    values[rows // 3] = 900.0
    values[rows // 2] = 0.0
    values[:, windows // 2] = np.nan
    starts = [b"", *(prefix + b"%06d" % (row * 25_000) for row in range(1, rows))]
    since = SINCE + timedelta(hours=hour)
    return HeatMatrix(
        values=values,
        spans=spans_of(starts),
        times=tuple(since + timedelta(milliseconds=WINDOW_MS * c) for c in range(windows)),
        window_ms=WINDOW_MS,
        series="score",
        route_ids=tuple(range(1, rows + 1)),
    )


def sample_verdicts(plan: Plan) -> list[RouteVerdict]:
    """Return a hot route, cold ones, and one that was not measured."""
    verdicts = [
        RouteVerdict(
            route=RouteDescriptor(number, route.span, 1),
            verdict=Verdict.COLD,
            load=route.load,
            share=route.load / max(plan.total_load, 1),
            per_minute=route.load / 60,
            windows_over=0,
            proof=(),
            peak_per_minute=None,
            peak_at=None,
            reasons=("10 a minute is under 50,000 a minute",),
        )
        for number, route in enumerate(plan.routes_before, start=1)
    ]
    hot, unknown = verdicts[0], verdicts[-1]
    verdicts[0] = RouteVerdict(
        hot.route,
        Verdict.HOT,
        600,
        0.6,
        61_000.0,
        3,
        (SINCE,),
        61_000.0,
        SINCE,
        ("over 50,000 a minute",),
    )
    verdicts[-1] = RouteVerdict(
        unknown.route, Verdict.UNKNOWN, None, None, None, 0, (), None, None, ("not measured",)
    )
    return verdicts


def sample_inputs(**changed: Any) -> ReportInputs:
    """Return complete inputs; `changed` replaces fields."""
    plan = changed.get("plan", sample_plan())
    fields: dict[str, Any] = {
        "title": "Hotspot report: orders",
        "cluster": "orders",
        "source": "trace orders.csv",
        "assumptions": {"time unit": "seconds"},
        "warnings": ["1 of 60 windows was not measured"],
        "plan": plan,
        "verdicts": sample_verdicts(plan),
        "heat": sample_heat(),
        "heat_after": sample_heat(hour=1),
        "verification": sample_verification(plan),
        "approval": {"by": "user:ana", "at": "2026-03-04T10:12:09Z"},
        "made_at": SINCE + timedelta(hours=3),
        "version": "0.1.0",
    }
    return ReportInputs(**(fields | changed))


def _split(number: int, key: bytes, before: Sequence[RouteLoad], high: int, low: int) -> Action:
    index, parent = next((i, route) for i, route in enumerate(before, 1) if key in route.span)
    left = parent.load // 3
    return Action(
        action_id=f"split-{number:03d}",
        kind=ActionKind.SPLIT,
        route_id=index,
        span=parent.span,
        split_key=key,
        target_group=None,
        expected_version=6 + number,
        rows_moved=0,
        bytes_moved=0,
        reasons=(f"route {index} carries most of the load",),
        evidence=Evidence(parent.load, left, parent.load - left, high, low),
    )
