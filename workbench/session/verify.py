"""Verify: did the forecast come true? Later load, replayed on the plan's routes.

Three things are checked: that the plan's numbers and proof hold for the load from which it was
made, what the hottest route's share really was before and after on load that the plan had not
seen, and how much of the load came elsewhere than forecast.

Where the plan was applied, measured load windows count from the first whole one after its last
call: what came before ran partly on the old routes. Single accesses are replayed as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import Conflict, InvalidArgument, InvalidInput, NotFound
from workbench.model.times import rfc3339
from workbench.planner.replay import Verification, verification
from workbench.query.load import Source
from workbench.session.planning import false_claims, source_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView


@dataclass(frozen=True, slots=True)
class VerifyAnswer:
    """What verification found.

    Attributes:
        plan: The plan.
        replayed: Its forecast beside what came.
        false_claims: What of the plan's own numbers does not hold; empty is good.
        applied_at: When the last of its actions was applied; None where none was.
        warnings: What the user should know.
    """

    plan: Plan
    replayed: Verification
    false_claims: tuple[str, ...]
    applied_at: datetime | None = None
    warnings: tuple[str, ...] = ()


def verify_plan(  # noqa: PLR0913 - the question's own parts, named
    view: ClusterView,
    plan: Plan,
    *,
    since: str | None = None,
    until: str | None = None,
    later: ClusterView | None = None,
    applied_at: datetime | None = None,
    wholly_applied: bool = False,
) -> VerifyAnswer:
    """Replay load that the plan had not seen, by default all that came after its window.

    Args:
        view: The plan's cluster; its numbers and proof are checked against it.
        plan: The plan.
        since: Start of the replayed load.
        until: End of it, exclusive.
        later: A collection of the same cluster under another name, to replay instead.
        applied_at: When the last of the plan's actions was applied; None where none was.
        wholly_applied: Whether all of them were.

    Raises:
        NotFound: nothing came after the plan's window, or in the time asked for.
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
    claims = tuple(false_claims(view, plan))
    replayed_on = view if later is None else later
    if replayed_on.extent.until <= plan.until:
        if claims:
            raise stale(plan, claims)
        raise NotFound(
            f"plan {plan.plan_id} was made from load up to {rfc3339(plan.until)}; nothing in "
            f"{replayed_on.name!r} came after",
            code="load_absent",
            hint="collect later load under another name and pass --on NAME, "
            "or plan on a part: workbench plan --until 50%",
        )
    source = source_of(plan)
    if source.value not in replayed_on.load.data:
        source = Source.LOAD_WINDOW
    after = max(plan.until, replayed_on.extent.since)
    if applied_at is not None and since is None and source is Source.LOAD_WINDOW:
        after = max(after, _first_window_after(applied_at, replayed_on, plan))
    start, end = replayed_on.window(rfc3339(after) if since is None else since, until)
    if start < plan.until:
        raise InvalidArgument(
            f"the time from {rfc3339(start)} to {rfc3339(end)} is not after the plan's evidence",
            code="window_seen",
            hint=f"ask for load after {rfc3339(plan.until)}; "
            "a forecast is tested on what came later",
        )
    if source is Source.LOAD_WINDOW:
        _check_buckets(replayed_on, plan)
    events = replayed_on.load.events(source, plan.objective, start, end)
    if events.num_rows == 0:
        raise NotFound(
            f"cluster {replayed_on.name!r} has no load between {rfc3339(start)} and {rfc3339(end)}",
            code="load_absent",
            hint=f"it covers {rfc3339(replayed_on.extent.since)} to "
            f"{rfc3339(replayed_on.extent.until)}",
        )
    replayed = verification(plan, events, replayed_on.extent.window_ms)
    warnings = _routes_elsewhere(replayed_on, plan) if wholly_applied else ()
    return VerifyAnswer(plan, replayed, claims, applied_at, warnings)


def stale(plan: Plan, claims: Sequence[str]) -> Conflict:
    """Return the error for a plan that was not made from the load in the catalog."""
    return Conflict(
        f"plan {plan.plan_id} was not made from the load in this catalog: {claims[0]}",
        code="plan_stale",
        hint="name the plan's own catalog with --catalog, or plan again",
    )


def _first_window_after(moment: datetime, view: ClusterView, plan: Plan) -> datetime:
    """Return the start of the first whole window that began at `moment` or later."""
    extent = view.extent
    start = extent.since - (extent.since - moment) // extent.window * extent.window
    if start >= extent.until:
        raise NotFound(
            f"plan {plan.plan_id} was applied at {rfc3339(moment)}; no whole load window of "
            f"{view.name!r} came after",
            code="load_absent",
            hint="let a window pass and collect again",
        )
    return start


def _routes_elsewhere(view: ClusterView, plan: Plan) -> tuple[str, ...]:
    """Return a warning where the newest routes are not those that the plan leaves."""
    if [route.span for route in view.snapshot.routes] == [r.span for r in plan.routes_after]:
        return ()
    version = view.snapshot.catalog_version
    reason = (
        "collect again to see them"
        if version < plan.catalog_version + len(plan.actions)
        else "they were changed since"
    )
    warning = (
        f"plan {plan.plan_id} is wholly applied, but the routes of {view.name!r} in the catalog, "
        f"at version {version}, are not those that it leaves: {reason}"
    )
    return (warning,)


def _check_buckets(view: ClusterView, plan: Plan) -> None:
    """Raise where a later bucket with load crosses a bound of the plan's routes.

    One without, as a route's only bucket while it was idle, has nothing on the wrong side.
    """
    rows = view.load.load_windows(plan.until, view.extent.until).to_pylist()
    counted = plan.objective
    names = ["reads"] * bool(counted.read_weight) + ["writes"] * bool(counted.write_weight)
    names += ["read_bytes", "write_bytes"] * bool(counted.byte_weight)
    keys = {action.split_key for action in plan.actions}
    buckets = {
        (row["bucket_start"], row["bucket_end"])
        for row in rows
        if any(row[name] != 0 for name in names)
    }
    for start, end in sorted(buckets, key=lambda bucket: bucket[0]):
        crossing = [key for key in keys if start < key and (end is None or key < end)]
        if crossing:
            raise InvalidInput(
                f"split key {crossing[0].hex()} lies inside the bucket from {start.hex()}",
                code="bucket_crosses_split",
                hint="collect with finer buckets, or verify a trace with single accesses",
            )
