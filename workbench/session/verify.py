"""Verify: did the forecast come true? Later load, replayed on the plan's routes.

Three things are checked: that the plan's numbers and proof hold for the load from which it was
made, what the hottest route's share really was before and after on load that the plan had not
seen, and how much of the load came elsewhere than forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import InvalidArgument, InvalidInput, NotFound
from workbench.model.times import rfc3339
from workbench.planner.replay import Verification, verification
from workbench.query.load import Source
from workbench.session.planning import false_claims, source_of

if TYPE_CHECKING:
    from workbench.model.plan import Plan
    from workbench.session.cluster import ClusterView


@dataclass(frozen=True, slots=True)
class VerifyAnswer:
    """What verification found.

    Attributes:
        plan: The plan.
        replayed: Its forecast beside what came.
        false_claims: What of the plan's own numbers does not hold; empty is good.
    """

    plan: Plan
    replayed: Verification
    false_claims: tuple[str, ...]


def verify_plan(
    view: ClusterView,
    plan: Plan,
    *,
    since: str | None = None,
    until: str | None = None,
    later: ClusterView | None = None,
) -> VerifyAnswer:
    """Replay load that the plan had not seen, by default all that came after its window.

    Args:
        view: The plan's cluster; its numbers and proof are checked against it.
        plan: The plan.
        since: Start of the replayed load.
        until: End of it, exclusive.
        later: A collection of the same cluster under another name, to replay instead.

    Raises:
        NotFound: nothing came after the plan's window, or in the time asked for.
        InvalidArgument: the plan is another cluster's, or the time asked for is (partly) what
            the plan was made from.
        InvalidInput: a bucket of the load crosses a split key, so nobody can tell its sides.
    """
    if plan.cluster != view.name:
        raise InvalidArgument(
            f"plan {plan.plan_id} is for cluster {plan.cluster!r}, not {view.name!r}",
            code="cluster_mismatch",
            hint=f"--cluster {plan.cluster}",
        )
    replayed_on = later or view
    if later is None and since is None:
        if plan.until >= view.extent.until:
            raise NotFound(
                f"plan {plan.plan_id} saw all load up to {rfc3339(plan.until)}; nothing came after",
                code="load_absent",
                hint="collect later load under another name and pass --on NAME, "
                "or plan on a part: workbench plan --until 50%",
            )
        since = rfc3339(plan.until)
    start, end = replayed_on.window(since, until)
    if later is None and start < plan.until and end > plan.since:
        raise InvalidArgument(
            f"the time from {rfc3339(start)} to {rfc3339(end)} is in the plan's own evidence",
            code="window_seen",
            hint=f"ask for load after {rfc3339(plan.until)}; "
            "a forecast is tested on what it has not seen",
        )
    source = source_of(plan)
    if source.value not in replayed_on.load.data:
        source = Source.LOAD_WINDOW
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
    return VerifyAnswer(plan, replayed, tuple(false_claims(view, plan)))


def _check_buckets(view: ClusterView, plan: Plan) -> None:
    """Raise where a bucket of the load crosses a bound of the plan's routes."""
    rows = view.load.load_windows(view.extent.since, view.extent.until).to_pylist()
    keys = {action.split_key for action in plan.actions}
    buckets = {(row["bucket_start"], row["bucket_end"]) for row in rows}
    for start, end in sorted(buckets, key=lambda bucket: bucket[0]):
        crossing = [key for key in keys if start < key and (end is None or key < end)]
        if crossing:
            raise InvalidInput(
                f"split key {crossing[0].hex()} lies inside the bucket from {start.hex()}",
                code="bucket_crosses_split",
                hint="collect with finer buckets, or verify a trace with single accesses",
            )
