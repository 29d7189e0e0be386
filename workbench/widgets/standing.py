"""Where each action of a plan stands, from what the catalog keeps and from the run in progress.

    decisions, receipts, lease ──┐
    steps of a run in here ──────┼──▶ standings (for the review), jobs (for the monitor)
    approvals being kept ────────┘

Receipts go before the run, the run before decisions: what is kept is true, whatever was seen.
Pure; who reads the catalog, and who runs, is the desk's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from workbench.planner.execution import not_executable
from workbench.report.job_rows import SPLIT_PHASES, JobFacts, JobState
from workbench.report.plan_review import ActionStanding, Standing
from workbench.session.applying import Step
from workbench.session.receipts import ReceiptStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from workbench.model.plan import Action, Plan
    from workbench.session.approval import Decision
    from workbench.session.receipts import Receipt

PHASES: Final = {Step.LEASE: "LEASE", Step.CALL: "CALL", Step.RECEIPT: "RECEIPT", Step.DONE: "DONE"}


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The lease as somebody else left it.

    Attributes:
        by: Who holds it, or held it.
        place: Host and process.
        live: Whether it is held still.
    """

    by: str
    place: str
    live: bool


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of a plan's execution at one moment.

    Attributes:
        decisions: Newest by action id.
        receipts: Newest by action id.
        running: Whether a run of this process goes on.
        steps: The newest step of each action in the newest run, and when.
        by: Who runs it.
        stopped: Why the newest run ended before its end; empty where it did not.
        stopped_at: The action at which it stopped; None where that is not known.
        recording: Actions whose approval is being kept now.
        elsewhere: The lease for this plan, where it is not this run's and was not let go.
    """

    decisions: Mapping[str, Decision]
    receipts: Mapping[str, Receipt]
    running: bool = False
    steps: Mapping[str, tuple[Step, datetime]] = field(default_factory=dict)
    by: str = ""
    stopped: str = ""
    stopped_at: str | None = None
    recording: frozenset[str] = frozenset()
    elsewhere: Elsewhere | None = None

    def approved(self, action_id: str) -> bool:
        """Tell whether an action stands approved."""
        decision = self.decisions.get(action_id)
        return decision is not None and decision.approved

    def applied(self, action_id: str) -> bool:
        """Tell whether an action has a receipt of success."""
        receipt = self.receipts.get(action_id)
        return receipt is not None and receipt.status is ReceiptStatus.APPLIED

    def todo(self, plan: Plan) -> list[str]:
        """Return what is approved and not applied, in order."""
        ids = [action.action_id for action in plan.actions]
        return [each for each in ids if self.approved(each) and not self.applied(each)]


def outdated(plan: Plan, known: Known, seen: int) -> str:
    """Return why a plan does not fit routes at version `seen`; empty where it does."""
    made = plan.catalog_version
    done = sum(known.applied(action.action_id) for action in plan.actions)
    if made <= seen <= made + done:
        return ""
    return f"the routes are at version {seen}, this plan was made at version {made}"


def nothing_to_apply(plan: Plan, known: Known) -> str:
    """Return why there is nothing to apply; empty where there is."""
    if (other := known.elsewhere) is not None and other.live:
        return f"{other.by} applies this plan from {other.place}; it is shown here"
    if known.todo(plan):
        return ""
    return "all that is approved is applied" if known.receipts else "nothing is approved"


def standings(plan: Plan, known: Known) -> dict[str, ActionStanding]:
    """Return where every action stands."""
    approved = [a.action_id for a in plan.actions if known.approved(a.action_id)]
    blocked = not_executable(plan, approved)
    return {
        action.action_id: _standing(action.action_id, known, blocked) for action in plan.actions
    }


def _standing(name: str, known: Known, blocked: Mapping[str, str]) -> ActionStanding:
    receipt, decision = known.receipts.get(name), known.decisions.get(name)
    if receipt is not None and receipt.status is ReceiptStatus.APPLIED:
        found = "found made" if receipt.repeated else ""
        return ActionStanding(Standing.APPLIED, receipt.by, receipt.updated_at, found)
    if known.running and known.steps.get(name, (Step.DONE,))[0] is not Step.DONE:
        return ActionStanding(Standing.RUNNING, known.by, known.steps[name][1])
    if receipt is not None and receipt.status is ReceiptStatus.FAILED and known.approved(name):
        return ActionStanding(
            Standing.FAILED, receipt.by, receipt.updated_at, receipt.error or "refused"
        )
    if decision is None:
        return ActionStanding(Standing.PROPOSED)
    if decision.approved:
        note = blocked.get(name, "")
        return ActionStanding(Standing.APPROVED, decision.by, decision.at, note)
    standing = Standing.WITHDRAWN if decision.withdrawn else Standing.REJECTED
    return ActionStanding(standing, decision.by, decision.at)


def jobs(plan: Plan, known: Known) -> list[JobFacts]:
    """Return a job for every action that is approved, was tried, or is being approved."""
    todo = known.todo(plan)
    first = todo[0] if todo else None
    return [
        _job(plan, action, known, is_next=action.action_id == first)
        for action in plan.actions
        if known.approved(action.action_id)
        or action.action_id in known.receipts
        or action.action_id in known.recording
    ]


def _job(plan: Plan, action: Action, known: Known, *, is_next: bool) -> JobFacts:
    name = action.action_id
    receipt, decision = known.receipts.get(name), known.decisions.get(name)
    state, phase, error = _state(name, known, is_next=is_next)
    step = known.steps.get(name)
    children: tuple[int, ...] = ()
    if receipt is not None:
        ids = (receipt.left_route_id, receipt.right_route_id)
        children = tuple(each for each in ids if each is not None)
    kept = receipt is not None and state in {JobState.DONE, JobState.FAILED, JobState.STALE}
    by = decision.by if decision is not None else known.by
    started = updated = None
    if kept and receipt is not None:
        by, started, updated = receipt.by, receipt.started_at, receipt.updated_at
    elif known.running and step is not None:
        by, updated = known.by, step[1]
    elif decision is not None:
        updated = decision.at
    return JobFacts(
        plan_id=plan.plan_id,
        action_id=name,
        phases=SPLIT_PHASES,
        phase=phase,
        state=state,
        route_id=action.route_id if receipt is None else receipt.route_id,
        split_key=action.split_key,
        children=children,
        catalog_version=None if receipt is None else receipt.catalog_version,
        # A split inside a group moves nothing: that is known, not unmeasured.
        rows=0,
        size_bytes=0,
        error=error,
        by=by,
        started_at=started,
        updated_at=updated,
    )


def _state(name: str, known: Known, *, is_next: bool) -> tuple[JobState, str, str | None]:
    """Return how a job fares, its phase, and why it stopped."""
    if known.applied(name):
        return JobState.DONE, "DONE", None
    if known.running:
        step = known.steps.get(name, (None, None))[0]
        if step is not None and step is not Step.DONE:
            return JobState.RUNNING, PHASES[step], None
        state = JobState.RUNNING if is_next else JobState.WAITING
        return state, "LEASE" if is_next else "APPROVED", None
    if name in known.recording:
        return JobState.RECORDING, "APPROVED", None
    return _at_rest(name, known, is_next=is_next)


def _at_rest(name: str, known: Known, *, is_next: bool) -> tuple[JobState, str, str | None]:
    """Return the same of a job that is not made, and that nobody in here works on."""
    receipt, step = known.receipts.get(name), known.steps.get(name, (None, None))[0]
    if receipt is not None and receipt.status is ReceiptStatus.FAILED:
        return JobState.FAILED, "CALL", receipt.error
    if known.stopped and (name == known.stopped_at or (known.stopped_at is None and is_next)):
        return JobState.INTERRUPTED, "LEASE" if step is None else PHASES[step], known.stopped
    if receipt is not None and receipt.status is ReceiptStatus.STALE:
        return JobState.STALE, "CALL", receipt.error
    other = known.elsewhere
    if not is_next or other is None:
        return JobState.WAITING, "APPROVED", None
    if other.live:
        return JobState.RUNNING, "CALL", f"{other.by} applies it from {other.place}"
    gone = f"{other.by} began from {other.place}, which is gone; resume goes on"
    return JobState.INTERRUPTED, "CALL", gone
