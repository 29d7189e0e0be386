"""Approve and apply, as answers: who decided what, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workbench.api.results import Result
from workbench.api.show import counted
from workbench.report import words

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.model.plan import Plan
    from workbench.session.applying import ActionOutcome, ApplyAnswer
    from workbench.session.approval import Approval as Decision
    from workbench.session.approval import PolicyDecision


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Approval(Result):
    """What stands approved of a plan after a decision: a row per action.

    Attributes:
        plan_id: Of the plan.
        content_hash: To which the approval is bound; a plan that was changed is refused.
        approved: Ids of the actions that stand approved now, in the plan's order.
        changed: Ids of those that this decision approved or withdrew.
        broken: Limits of a policy that the plan breaks; it was not approved then.
        by: `user:NAME` or `policy:NAME`.
        at: When, UTC; None where nothing was recorded.
    """

    plan_id: str
    content_hash: str
    approved: tuple[str, ...]
    changed: tuple[str, ...]
    broken: tuple[str, ...]
    by: str
    at: datetime | None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Application(Result):
    """What came of applying a plan, or would come of it: a row per action.

    Attributes:
        plan_id: Of the plan.
        target: URL of the system; None where none was needed, as all was done before.
        dry_run: Nothing was executed; the column `call` has the literal calls.
        catalog_version: The route catalog's, as last seen.
    """

    plan_id: str
    target: str | None
    dry_run: bool
    catalog_version: int | None

    @property
    def applied(self) -> tuple[str, ...]:
        """Ids of the actions that are applied, by this run or an earlier one."""
        done = {"applied", "already_applied"}
        return tuple(row["id"] for row in self if row["status"] in done)


def approval_of(plan: Plan, decision: Decision, warnings: tuple[str, ...]) -> Approval:
    """Return a user's decision as an answer."""
    return Approval(
        _decisions(plan, decision.approved),
        f"plan {plan.plan_id}: {len(decision.approved)} of "
        f"{words.counted(len(plan.actions), 'action stands', 'actions stand')} approved, "
        f"{len(decision.changed)} changed by {decision.by}",
        warnings=tuple(warnings),
        plan_id=plan.plan_id,
        content_hash=plan.content_hash,
        approved=decision.approved,
        changed=decision.changed,
        broken=(),
        by=decision.by,
        at=decision.at,
    )


def policy_approval_of(
    plan: Plan, name: str, found: PolicyDecision, *, standing: tuple[str, ...], dry_run: bool
) -> Approval:
    """Return a policy's decision as an answer; `standing` holds where it recorded nothing."""
    done = found.approval
    verb = "would approve" if dry_run else "approves"
    said = f"{verb} it" if not found.broken else "does not approve it"
    approved = done.approved if done else standing
    return Approval(
        _decisions(plan, approved),
        f"plan {plan.plan_id}: policy {name} {said}",
        notes=found.broken,
        plan_id=plan.plan_id,
        content_hash=plan.content_hash,
        approved=approved,
        changed=done.changed if done else (),
        broken=found.broken,
        by=f"policy:{name}",
        at=done.at if done else None,
    )


def application_of(answer: ApplyAnswer) -> Application:
    """Return what came of applying a plan as an answer."""
    table = pa.Table.from_pylist([_outcome(each) for each in answer.outcomes], schema=_OUTCOMES)
    plan_id, count = answer.plan.plan_id, len(answer.outcomes)
    done = sum(row.status.value in {"applied", "already_applied"} for row in answer.outcomes)
    if answer.dry_run:
        calls = sum(each.call is not None for each in answer.outcomes)
        title = f"plan {plan_id}: {counted(calls, 'call')}, none is made"
    else:
        actions = words.counted(count, "action is", "actions are")
        title = f"plan {plan_id}: {done} of {actions} applied" + (
            f"; the routes are at version {answer.catalog_version}"
            if answer.catalog_version is not None
            else ""
        )
    shown = ("id", "status", "split_key", "left_route_id", "right_route_id", "seconds", "reason")
    return Application(
        table,
        title,
        warnings=answer.warnings,
        shown=("id", "approved", "method", "address", "call") if answer.dry_run else shown,
        plan_id=plan_id,
        target=answer.target,
        dry_run=answer.dry_run,
        catalog_version=answer.catalog_version,
    )


def _decisions(plan: Plan, approved: tuple[str, ...]) -> pa.Table:
    rows = [
        {
            "id": action.action_id,
            "kind": action.kind.value,
            "split_key": action.split_key,
            "approved": action.action_id in approved,
        }
        for action in plan.actions
    ]
    names = (("id", pa.string()), ("kind", pa.string()), ("split_key", pa.binary()))
    schema = pa.schema([*(pa.field(*each) for each in names), pa.field("approved", pa.bool_())])
    return pa.Table.from_pylist(rows, schema=schema)


def _outcome(outcome: ActionOutcome) -> dict[str, Any]:
    receipt, call = outcome.receipt, outcome.call
    return {
        "id": outcome.action.action_id,
        "status": outcome.status.value,
        "approved": outcome.approved,
        "split_key": outcome.action.split_key,
        "left_route_id": receipt.left_route_id if receipt else None,
        "right_route_id": receipt.right_route_id if receipt else None,
        "catalog_version": receipt.catalog_version if receipt else None,
        "seconds": outcome.seconds,
        "reason": outcome.reason,
        "address": call.address if call else None,
        "method": call.method if call else None,
        "call": ", ".join(f"{k}={v}" for k, v in call.fields.items()) if call else None,
    }


_OUTCOMES = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("status", pa.string()),
        pa.field("approved", pa.bool_()),
        pa.field("split_key", pa.binary()),
        pa.field("left_route_id", pa.uint64()),
        pa.field("right_route_id", pa.uint64()),
        pa.field("catalog_version", pa.uint64()),
        pa.field("seconds", pa.float64()),
        pa.field("reason", pa.string()),
        pa.field("address", pa.string()),
        pa.field("method", pa.string()),
        pa.field("call", pa.string()),
    ]
)
