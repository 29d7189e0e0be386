"""Look: which routes are hot and why, and the heat matrix of a cluster.

    load by route and window ──┐
    samples, where not counted ┼──▶ planner.detect ──▶ HotAnswer ◀── heaviest keys, newest plan
    routes as they are now ────┘

Load is carried over splits by key: see `query/sql/route_windows.sql`. What was counted goes
before what was sampled. Nothing is decided here but which measure is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow.compute as pc

from workbench.errors import NotFound
from workbench.heat.matrix import HeatMatrix, heat_matrix, route_matrix
from workbench.model.times import from_us, rfc3339
from workbench.planner.detect import (
    THRESHOLD_PER_MINUTE,
    RouteVerdict,
    Rule,
    detect_arrays,
)
from workbench.planner.intervals import interval_of
from workbench.planner.window_arrays import COVERAGE_FULL
from workbench.query.load import route_rates_sql, route_verdicts_sql
from workbench.session.look_arrays import FALLBACKS, loads_of, windows_of
from workbench.session.plans import PLAN_PREFIX, newest_first, resolve_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa

    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Objective, Plan
    from workbench.session.cluster import ClusterView

SCORE: Final = "score"
# Heavy keys that are listed of a route at most, and from which share of its accesses on.
HOT_KEYS_MAX: Final = 3
HOT_KEY_SHARE_MIN: Final = 0.1
# Newest plans of the cluster that are looked through for one of the routes as they are now.
PLANS_TRIED_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class HotKey:
    """A key that carries much of its route.

    Attributes:
        route_id: The route that holds it now.
        key: The key.
        count: Accesses; scaled up where they were sampled.
        low: Lower end of the 95 % interval, less what the source may have counted too much.
        share: `low` over the route's accesses; None where those were not counted.
    """

    route_id: int
    key: bytes
    count: int
    low: float
    share: float | None


@dataclass(frozen=True, slots=True)
class Planned:
    """What the newest plan of these very routes does with them.

    Attributes:
        plan_id: The plan.
        split: Routes that it splits or moves.
        declined: By route id, why the others are left alone.
    """

    plan_id: str
    split: frozenset[int]
    declined: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class HotEvidence:
    """How to compute an answer anew: texts of the package, and their parameters.

    Attributes:
        sql: Of load, share, rates and peaks.
        parameters: Its parameters.
        verdict_sql: Of verdicts, streaks and the windows that prove them.
        verdict_parameters: Its parameters.
    """

    sql: str
    parameters: Mapping[str, str | int | float]
    verdict_sql: str
    verdict_parameters: Mapping[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class Unattributed:
    """Load that cannot be given to a route: its buckets cross a route's bound, or lie in none.

    Attributes:
        buckets: How many rows, a bucket in a window each.
        load: Their load in the objective's unit; None where it was not measured.
        share: `load` over all load that was measured; None where `load` is None.
    """

    buckets: int = 0
    load: int | None = 0
    share: float | None = 0.0


@dataclass(frozen=True, slots=True)
class HotAnswer:
    """Which routes are hot.

    Attributes:
        cluster: Of the routes.
        since: Start of the time that was judged.
        until: End of it, exclusive.
        objective: What was measured against the threshold: a planning objective, or `cpu_ns`
            where nothing else was measured.
        rule: The thresholds.
        verdicts: Every route as it is now, hottest first; load measured before a split is by
            key that of the children.
        unattributed: What the verdicts leave out.
        asked: The objective that was asked for; another than `objective` where that was not
            measured.
        sampled: Whether any load comes from samples, not from counts.
        hot_keys: Keys that carry much of their route, by route, heaviest first.
        planned: What the newest plan of these routes does; None where there is none.
        evidence: Of load, share, rates and peaks; None where load comes from samples.
    """

    cluster: str
    since: datetime
    until: datetime
    objective: str
    rule: Rule
    verdicts: tuple[RouteVerdict, ...]
    unattributed: Unattributed = Unattributed()
    asked: str = SCORE
    sampled: bool = False
    hot_keys: tuple[HotKey, ...] = ()
    planned: Planned | None = None
    evidence: HotEvidence | None = field(default=None, repr=False)


def hot(  # noqa: PLR0913 - the question's own parts, named
    view: ClusterView,
    *,
    since: datetime,
    until: datetime,
    objective: Objective,
    rule: Rule,
    catalog: Catalog | None = None,
    table: pa.Table | None = None,
) -> HotAnswer:
    """Judge every route of the cluster, as it is now, by the detection rules.

    Where the counters of `objective` were nowhere measured, and no samples tell of it, falls back
    to cpu_ns, then bytes, and says so in `objective`.

    Args:
        view: The cluster.
        since: Start of the time to judge.
        until: End of it, exclusive.
        objective: What counts as load.
        rule: The thresholds.
        catalog: Where to look for a plan of these routes; None looks for none.
        table: `view.load.route_windows` of this time and the view's routes, where it was read
            already.

    Raises:
        NotFound: `load_absent`.
    """
    routes = view.snapshot.routes
    if table is None:
        table = view.load.route_windows(since, until, routes)
    if table.num_rows == 0:
        raise NotFound(
            f"no window of cluster {view.name!r} starts between {rfc3339(since)} and "
            f"{rfc3339(until)}",
            code="load_absent",
            hint=f"windows are {view.extent.window_ms / 1_000:g} s long; ask for a longer time",
        )
    told = view.load.sample_windows(since, until, routes, objective)
    owned = table.column("route_id").is_valid()
    routed, nobodys = table.filter(owned), table.filter(pc.invert(owned))
    used, windows = windows_of(routed, told, objective)
    if used != SCORE and rule.threshold_per_minute == THRESHOLD_PER_MINUTE:
        rule = replace(rule, threshold_per_minute=None)  # it counts reads and writes, not bytes
    verdicts = tuple(detect_arrays(routes, windows, rule))
    last_us = windows.last_closed_us()
    last = until if last_us is None else from_us(last_us)
    left_out = nobodys.filter(pc.less_equal(nobodys.column("window_start"), last))
    sampled = bool((windows.samples >= 0).any())
    return HotAnswer(
        cluster=view.name,
        since=since,
        until=until,
        objective=used,
        rule=rule,
        verdicts=verdicts,
        unattributed=_unattributed(left_out, verdicts, used, objective),
        asked=objective.name,
        sampled=sampled,
        hot_keys=_hot_keys(view, since, until, routed),
        planned=None if catalog is None else _planned(catalog, view),
        evidence=None if sampled else _evidence(since, until, used, objective, rule),
    )


def rates(view: ClusterView, answer: HotAnswer) -> list[dict[str, Any]]:
    """Return the numbers of an answer computed anew by its SQL text, one row per route.

    Columns `route_id`, `load`, `share`, `per_minute`, `peak_per_minute` and `peak_at`.
    """
    assert answer.evidence is not None
    given = {k: v for k, v in answer.evidence.parameters.items() if k not in {"since", "until"}}
    table = view.load.route_rates(answer.since, answer.until, view.snapshot.routes, given)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def verdicts_by_sql(view: ClusterView, answer: HotAnswer) -> list[dict[str, Any]]:
    """Return the verdicts of an answer computed anew by their SQL text, one row per route.

    Columns `route_id`, `verdict`, `windows_over` and `proof_from`, the first window of the proof.
    """
    assert answer.evidence is not None
    told = answer.evidence.verdict_parameters
    given = {name: value for name, value in told.items() if name not in {"since", "until"}}
    table = view.load.route_verdicts(answer.since, answer.until, view.snapshot.routes, given)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def heat(
    view: ClusterView, *, since: datetime, until: datetime, series: str, whole_routes: bool = False
) -> HeatMatrix:
    """Return the heat matrix of the cluster: one column per window, rows by key.

    Args:
        view: The cluster.
        since: Start of the first column.
        until: End of the last, exclusive.
        series: `score`, `reads`, `writes` or `bytes`.
        whole_routes: Show at each key the load of the whole route that holds it, not that of
            its bucket.
    """
    made = route_matrix if whole_routes else heat_matrix
    return made(view.load.load_windows(since, until), series)


def _evidence(
    since: datetime, until: datetime, used: str, objective: Objective, rule: Rule
) -> HotEvidence:
    parameters: dict[str, str | int | float] = {
        "since": rfc3339(since),
        "until": rfc3339(until),
        "use": used if used in FALLBACKS else SCORE,
        "read_weight": objective.read_weight,
        "write_weight": objective.write_weight,
        "coverage_full": COVERAGE_FULL,
    }
    return HotEvidence(
        route_rates_sql(),
        parameters,
        route_verdicts_sql(),
        {
            **parameters,
            "threshold": rule.threshold_per_minute,
            "windows_hot": rule.windows_hot,
            "cooldown_ms": rule.cooldown_ms,
        },
    )


def _hot_keys(
    view: ClusterView, since: datetime, until: datetime, routed: pa.Table
) -> tuple[HotKey, ...]:
    """Return the keys that carry HOT_KEY_SHARE_MIN of their route, or of an uncounted one."""
    table = view.load.hot_keys(since, until, view.snapshot.routes, HOT_KEYS_MAX)
    if table is None:
        return ()
    accesses = _accesses(routed)
    found = []
    for row in table.to_pylist():
        count, rate = row["count"], row["sample_rate"]
        # Each access was looked at with the chance `rate`.
        low = max(interval_of(count, count * (1 - rate) / rate).low - row["error"], 0.0)
        total = accesses.get(row["route_id"], 0)
        share = None if total is None else min(low / total, 1.0) if total else 0.0
        if share is None or share >= HOT_KEY_SHARE_MIN:
            found.append(HotKey(row["route_id"], row["key"], count, low, share))
    return tuple(found)


def _accesses(routed: pa.Table) -> dict[int, int | None]:
    """Return the reads and writes of each route; None where some were not counted."""
    names = ("reads", "writes")
    chosen = routed.select(["route_id", *names])
    for name in names:  # as floats: too many for 64 bits are no error of the one who asks
        column = chosen.column(name).cast("float64", safe=False)
        chosen = chosen.set_column(chosen.schema.get_field_index(name), name, column)
    skip = pc.ScalarAggregateOptions(skip_nulls=False)
    sums = chosen.group_by("route_id").aggregate([(name, "sum", skip) for name in names])
    return {
        row["route_id"]: None
        if None in {row["reads_sum"], row["writes_sum"]}
        else int(row["reads_sum"] + row["writes_sum"])
        for row in sums.to_pylist()
    }


def _planned(catalog: Catalog, view: ClusterView) -> Planned | None:
    """Return what the plan of the routes as they are now does that was asked for last."""
    for manifest in newest_first(catalog, view.name)[:PLANS_TRIED_MAX]:
        plan = resolve_plan(catalog, manifest.name.removeprefix(PLAN_PREFIX))
        if plan.catalog_version == view.snapshot.catalog_version:
            return _planned_by(plan)
    return None


def _planned_by(plan: Plan) -> Planned:
    acted_on = frozenset(action.route_id for action in plan.actions)
    # Plans of before 2026-11-22 also give reasons not to split what they move.
    declined = {e.route_id: e.reason for e in plan.declined if e.route_id not in acted_on}
    return Planned(plan.plan_id, acted_on, declined)


def _unattributed(
    rows: pa.Table, verdicts: Sequence[RouteVerdict], name: str, objective: Objective
) -> Unattributed:
    """Return what these rows of no route are of all load."""
    buckets = sum(rows.column("row_count").to_pylist())
    loads, measured = loads_of(rows, name, objective)
    if not measured.all():
        return Unattributed(buckets, None, None)
    load = sum(loads.tolist())
    total = load + sum(verdict.load or 0 for verdict in verdicts)
    return Unattributed(buckets, load, load / total if total else 0.0)
