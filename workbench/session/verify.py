"""Verify: did the forecast come true? Later load, on the plan's routes and on those there are.

    later load ──┬─ on the routes that the plan found and leaves ──▶ Verification (a replay)
                 └─ on the newest collected routes ────────────────▶ what came (live clusters)

Three things are checked: that the plan's numbers and proof hold for the load from which it was
made, what share the hottest route has, before and after, on load that the plan had not seen,
and how much of the load came elsewhere than forecast.

A replay tells what came only where the routes are those that the plan leaves. `Execution` says
whether they are; where not, it tells what would have come. A recorded trace has no routes of
its own: there the replay is the check.

Where actions were applied, measured load windows count from the first whole one after the last
call: what came before ran partly on other routes. What came on the newest routes counts from
the first whole window after their last change, where that is known. Traces are replayed whole.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import Conflict, InvalidArgument, InvalidInput, NotFound
from workbench.model.keys import printable_key
from workbench.model.times import from_us, hlc_to_us, rfc3339
from workbench.planner.replay import RouteSeries, Verification, replay, verification
from workbench.query.load import Source
from workbench.report.words import counted
from workbench.session.collect import TRACE_SCHEME
from workbench.session.collect_live import cluster_of_url
from workbench.session.figures import figure_claims
from workbench.session.planning import false_claims, source_of
from workbench.session.receipts import Applied
from workbench.session.remaking import remade_claims

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView

NOTHING_APPLIED: Final = Applied()


class Execution(StrEnum):
    """How the routes under the later load relate to the plan.

    replayed     recorded load, which has no routes of its own
    applied      all actions are applied, and the newest collected routes are those it leaves
    partly       some actions are applied
    not_applied  no action is applied
    elsewhere    all actions are applied, but the newest collected routes are others
    """

    REPLAYED = "replayed"
    APPLIED = "applied"
    PARTLY = "partly"
    NOT_APPLIED = "not_applied"
    ELSEWHERE = "elsewhere"

    @property
    def counterfactual(self) -> bool:
        """Whether the replay tells what would have come on a live cluster, not what came."""
        return self in {Execution.PARTLY, Execution.NOT_APPLIED, Execution.ELSEWHERE}


@dataclass(frozen=True, slots=True)
class VerifyAnswer:
    """What verification found.

    Attributes:
        plan: The plan.
        replayed: Its forecast beside the later load, replayed on the plan's routes.
        false_claims: What of the plan's own numbers does not hold; empty is good.
        execution: Whether the replay tells what came, or what would have come.
        applied: How much of the plan is applied.
        now: The later load on the newest collected routes, from their last change on; None for
            recorded load, and where it cannot be told.
        warnings: What the user should know.
    """

    plan: Plan
    replayed: Verification
    false_claims: tuple[str, ...]
    execution: Execution = Execution.REPLAYED
    applied: Applied = NOTHING_APPLIED
    now: RouteSeries | None = None
    warnings: tuple[str, ...] = ()

    @property
    def max_share_now(self) -> float | None:
        """The hottest route's share on the routes as they are; None where it was not measured."""
        return None if self.now is None else self.now.max_share


def verify_plan(  # noqa: PLR0913 - the question's own parts, named
    view: ClusterView,
    plan: Plan,
    *,
    since: str | None = None,
    until: str | None = None,
    later: ClusterView | None = None,
    applied: Applied = NOTHING_APPLIED,
) -> VerifyAnswer:
    """Replay load that the plan had not seen, by default all that came after its window.

    Args:
        view: The plan's cluster; its numbers and proof are checked against it.
        plan: The plan.
        since: Start of the replayed load.
        until: End of it, exclusive.
        later: A collection of the same cluster under another name, to replay instead.
        applied: How much of the plan is applied.

    Raises:
        NotFound: `load_absent`: nothing came after the plan's window, or in the time asked for,
            or windows without load did.
        InvalidArgument: the plan is another cluster's, or the time asked for is not wholly
            after the plan's window.
        Conflict: nothing came after, and the load is not what the plan was made from.
        InvalidInput: a bucket of the load crosses a split key, so nobody can tell its sides.
    """
    if plan.cluster != view.name:
        raise InvalidArgument(
            f"plan {plan.plan_id} is for cluster {plan.cluster!r}, not {view.name!r}",
            code="cluster_mismatch",
            hint=f"--cluster {plan.cluster}",
        )
    # SQL follows the plan's structure, so it is asked of plans whose structure holds.
    claims = tuple(
        false_claims(view, plan)
        or figure_claims(view, plan, source_of(plan))
        or remade_claims(view, plan)
    )
    replayed_on = view if later is None else later
    if replayed_on.extent.until <= plan.until:
        if claims:
            raise stale(plan, claims)
        raise _nothing_later(replayed_on, plan)
    source = source_of(plan)
    if source.value not in replayed_on.load.data:
        source = Source.LOAD_WINDOW
    start, end = _window(replayed_on, plan, since, until, applied)
    if source is Source.LOAD_WINDOW:
        _check_buckets(replayed_on, plan, start, end)
    events = replayed_on.load.events(source, plan.objective, start, end)
    _check_load(replayed_on, plan, events, (start, end), applied, claims)
    replayed = verification(plan, events, replayed_on.extent.window_ms)
    if source is Source.LOAD_WINDOW:
        # An event stands at its window's start; the time that was seen ends with the window.
        last = replayed.until - timedelta(microseconds=1) + replayed_on.extent.window
        replayed = replace(replayed, until=min(last, end))
    execution = _execution(replayed_on, plan, applied)
    if execution is Execution.REPLAYED:
        warning = other_routes_warning(view, plan)
        said = () if warning is None else (warning,)
        return VerifyAnswer(plan, replayed, claims, execution, applied, warnings=said)
    now, told = _on_newest_routes(replayed_on, plan, events, start, end)
    warnings = (*_not_as_planned(replayed_on, plan, applied, execution), *told)
    return VerifyAnswer(plan, replayed, claims, execution, applied, now, warnings)


def stale(plan: Plan, claims: Sequence[str]) -> Conflict:
    """Return the error for a plan that was not made from the load in the catalog."""
    return Conflict(
        f"plan {plan.plan_id} was not made from the load in this catalog: {claims[0]}",
        code="plan_stale",
        hint="name the plan's own catalog with --catalog, or plan again",
    )


def other_routes_warning(view: ClusterView, plan: Plan) -> str | None:
    """Return that a trace was collected again with other routes than the plan was made for."""
    spans = [route.span for route in plan.routes_before]
    if not is_recorded(view) or [route.span for route in view.snapshot.routes] == spans:
        return None
    return (
        f"the routes of {view.name!r} in the catalog are not those that plan {plan.plan_id} was "
        "made for: it can no longer be approved; plan again: workbench plan"
    )


def is_recorded(view: ClusterView) -> bool:
    """Tell whether a cluster is a trace; else it was collected from a running one."""
    source = view.properties.get("source", "")
    return Source.ACCESS.value in view.load.data or source.startswith(TRACE_SCHEME)


def _nothing_later(view: ClusterView, plan: Plan) -> NotFound:
    hint = (
        "collect later load under another name and pass --on NAME, "
        "or plan on a part: workbench plan --until 50%"
    )
    return NotFound(
        f"plan {plan.plan_id} was made from load up to {rfc3339(plan.until)}; nothing in "
        f"{view.name!r} came after",
        code="load_absent",
        hint=hint if is_recorded(view) else f"let a load window pass, and {_collect_again(view)}",
    )


def _check_load(  # noqa: PLR0913, PLR0917 - one call; all of it is said
    view: ClusterView,
    plan: Plan,
    events: pa.Table,
    asked: tuple[datetime, datetime],
    applied: Applied,
    claims: Sequence[str],
) -> None:
    """Raise where nothing came in the time asked for: no share, so nothing to compare."""
    start, end = asked
    if events.num_rows == 0:
        raise NotFound(
            f"cluster {view.name!r} has no load between {rfc3339(start)} and {rfc3339(end)}",
            code="load_absent",
            hint=f"it covers {rfc3339(view.extent.since)} to "
            f"{rfc3339(view.extent.until)}{_or_collect(view)}",
        )
    if pc.sum(events.column("load")).as_py() != 0:
        return
    # Idle buckets are told of with a load of 0: there are windows, and nothing in them.
    if claims:
        raise stale(plan, claims)
    when = f"between {rfc3339(start)} and {rfc3339(end)}"
    if applied.at is not None and start >= applied.at:
        when = f"since plan {plan.plan_id} was applied at {rfc3339(applied.at)}, {when}"
    raise NotFound(
        f"no {plan.objective.name} load {when}; nothing to compare",
        code="load_absent",
        hint="ask for another time with --since and --until"
        if is_recorded(view)
        else f"put load on the cluster, let a load window pass, and {_collect_again(view)}",
    )


def _collect_again(view: ClusterView) -> str:
    """Return what to do for newer load of a running cluster."""
    url = view.properties.get("source", "URL")
    name = "" if cluster_of_url(url) == view.name else f" --cluster {view.name}"
    return f"collect again: workbench collect {url}{name}"


def _or_collect(view: ClusterView) -> str:
    return "" if is_recorded(view) else f"; for newer load {_collect_again(view)}"


def _window(
    view: ClusterView, plan: Plan, since: str | None, until: str | None, applied: Applied
) -> tuple[datetime, datetime]:
    """Return the time to replay: what was asked for, else all that came after plan and apply."""
    after = max(plan.until, view.extent.since)
    if applied.at is not None and since is None and not is_recorded(view):
        after = max(after, _whole_window_after(applied.at, view))
        if after >= view.extent.until:
            raise NotFound(
                f"plan {plan.plan_id} was applied at {rfc3339(applied.at)}; no whole load window "
                f"of {view.name!r} came after",
                code="load_absent",
                hint=f"let a load window pass, and {_collect_again(view)}",
            )
    start, end = view.window(rfc3339(after) if since is None else since, until)
    if start < plan.until:
        raise InvalidArgument(
            f"the time from {rfc3339(start)} to {rfc3339(end)} is not after the plan's evidence",
            code="window_seen",
            hint=f"ask for load after {rfc3339(plan.until)}; "
            "a forecast is tested on what came later",
        )
    return start, end


def _whole_window_after(moment: datetime, view: ClusterView) -> datetime:
    """Return the start of the first whole window that began at `moment` or later."""
    extent = view.extent
    return extent.since - (extent.since - moment) // extent.window * extent.window


def _execution(view: ClusterView, plan: Plan, applied: Applied) -> Execution:
    if is_recorded(view):
        return Execution.REPLAYED
    if applied.actions < len(plan.actions):
        return Execution.PARTLY if applied.actions else Execution.NOT_APPLIED
    as_planned = [r.span for r in view.snapshot.routes] == [r.span for r in plan.routes_after]
    return Execution.APPLIED if as_planned else Execution.ELSEWHERE


def _on_newest_routes(
    view: ClusterView, plan: Plan, events: pa.Table, start: datetime, end: datetime
) -> tuple[RouteSeries | None, tuple[str, ...]]:
    """Return the load on the newest collected routes since they are so, and what to warn of."""
    routes = view.snapshot.routes
    changed = from_us(hlc_to_us(max((route.split_at_hlc for route in routes), default=0)))
    warnings: tuple[str, ...] = ()
    if changed > start:
        start = _whole_window_after(changed, view)
        events = events.filter(
            pc.greater_equal(
                events.column("time"), pa.scalar(start, events.schema.field("time").type)
            )
        )
        changes = f"the routes of {view.name!r} changed at {rfc3339(changed)}, after the start of "
        if not pc.sum(events.column("load")).as_py():
            said = "no load that was counted came on them as they are"
            return None, (f"{changes}the replayed time: {said}; {_collect_again(view)}",)
        counted = f"what came on them as they are counts from {rfc3339(start)}"
        warnings = (f"{changes}the replayed time: {counted}",)
    bounds = {route.span.start for route in routes}
    if (crossing := _crossing(view, plan, bounds, start, end)) is not None:
        key, bucket = crossing
        unknown = (
            f"a route of {view.name!r} starts at {key.hex()}, inside the bucket from "
            f"{bucket.hex()}: what came on the routes as they are cannot be told"
        )
        return None, (*warnings, unknown)
    return replay(events, [r.span for r in routes], view.extent.window_ms), warnings


def _not_as_planned(
    view: ClusterView, plan: Plan, applied: Applied, execution: Execution
) -> tuple[str, ...]:
    """Return a warning where the routes are not those that the plan leaves, and what to do."""
    if not execution.counterfactual:
        return ()
    name, version = plan.plan_id, view.snapshot.catalog_version
    total = len(plan.actions)
    are = "is" if total == 1 else "are"
    done = f"{applied.actions} of {counted(total, 'action')} of plan {name} {are} applied"
    if execution is Execution.ELSEWHERE:
        done = done if plan.actions else f"plan {name} proposes nothing"
        reason = (
            _collect_again(view)
            if version < plan.catalog_version + len(plan.actions)
            else "they were changed since; plan again: workbench plan"
        )
        routes = f"the routes of {view.name!r} in the catalog, at version {version}"
        return (f"{done}, but {routes}, are not those that it leaves: {reason}",)
    if execution is Execution.PARTLY:
        todo = (
            f"`workbench apply {name}` executes what of the rest is approved; where nothing of it "
            "is, plan again: workbench plan"
        )
    elif version == plan.catalog_version:
        todo = f"workbench approve {name}, then workbench apply {name}; or plan again"
    else:
        todo = "and the routes were changed since it was made; plan again: workbench plan"
    return (f"{done}, so its replay is not what came: {todo}",)


def _check_buckets(view: ClusterView, plan: Plan, since: datetime, until: datetime) -> None:
    """Raise where a bucket with load in [since, until) crosses a bound of the plan's routes."""
    keys = {action.split_key for action in plan.actions}
    if (crossing := _crossing(view, plan, keys, since, until)) is not None:
        key, bucket = crossing
        raise InvalidInput(
            f"split key {printable_key(key)} lies inside the bucket from "
            f"{printable_key(bucket)}, which carried load",
            code="bucket_crosses_split",
            hint="ask for another time with --since and --until: buckets differ from time to "
            "time where the plan was not executed",
        )


def _crossing(
    view: ClusterView, plan: Plan, keys: Iterable[bytes], since: datetime, until: datetime
) -> tuple[bytes, bytes] | None:
    """Return the first key inside a bucket with load, and the bucket's start; None for none.

    A bucket without load, as a route's only one while it was idle, has nothing on a wrong side.
    """
    rows = view.load.load_windows(since, until).to_pylist()
    counted = plan.objective
    names = ["reads"] * bool(counted.read_weight) + ["writes"] * bool(counted.write_weight)
    names += ["read_bytes", "write_bytes"] * bool(counted.byte_weight)
    names += ["cpu_ns"] * bool(counted.cpu_weight)
    ordered = sorted(keys)
    buckets = {
        (row["bucket_start"], row["bucket_end"])
        for row in rows
        if any(row[name] != 0 for name in names)
    }
    for start, end in sorted(buckets, key=lambda bucket: bucket[0]):
        at = bisect_right(ordered, start)
        if at < len(ordered) and (end is None or ordered[at] < end):
            return ordered[at], start
    return None
