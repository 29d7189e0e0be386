"""Approve: record in the catalog who decided what about which actions of which plan.

    approval/<plan_id>    one row per decision; the newest of an action counts

A decision is bound to the plan's content hash. Rows are only ever appended, so the history of
approvals and withdrawals stays.

Before anything is kept the plan is looked at: its proof is verified on the load in the catalog, and
it is made again. What was proven in this process, of the same content on the same data, is not
sought twice (`proofs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from workbench.catalog.catalog import Write
from workbench.errors import Conflict, InvalidArgument, NotFound
from workbench.model.tables import APPROVAL
from workbench.planner.approvals import broken_limits
from workbench.planner.execution import not_executable
from workbench.report.words import counted
from workbench.session.cluster import cluster_names, open_cluster
from workbench.session.planning import false_claims
from workbench.session.plans import plan_write
from workbench.session.proofs import Proofs, ground_of
from workbench.session.receipts import applied_of
from workbench.session.remaking import remade_claims
from workbench.session.system import SystemClock
from workbench.session.verify import stale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from workbench.catalog.catalog import Catalog
    from workbench.model.keys import Span
    from workbench.model.plan import Plan
    from workbench.planner.approvals import ApprovalPolicy
    from workbench.session.cluster import ClusterView

APPROVAL_PREFIX: Final = "approval/"
APPROVED: Final = "approved"
WITHDRAWN: Final = "withdrawn"
NAME_CHARS_MAX: Final = 256
ACTIONS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Approval:
    """What stands approved of a plan after a decision.

    Attributes:
        plan_id: Of the plan.
        content_hash: To which the approval is bound.
        approved: Ids of the actions that stand approved now, in the plan's order.
        changed: Ids of those that this decision approved or withdrew.
        by: `user:NAME` or `policy:NAME`.
        at: When this decision was made, UTC.
    """

    plan_id: str
    content_hash: str
    approved: tuple[str, ...]
    changed: tuple[str, ...]
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """The newest decision on one action.

    Attributes:
        action_id: Of the action.
        approved: Whether it stands approved; False where it was rejected or withdrawn.
        withdrawn: An approval came before, and this took it back.
        by: `user:NAME` or `policy:NAME`.
        at: When, UTC.
    """

    action_id: str
    approved: bool
    withdrawn: bool
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Decisions:
    """All that was decided of a plan under its hash.

    Attributes:
        newest: By action id.
        rows: Rows of the dataset as they were read, for `approve(expected_rows=…)`.
    """

    newest: Mapping[str, Decision]
    rows: int


@dataclass(frozen=True, slots=True)
class Approver:
    """Who decides: `by` as recorded, and the hash of the policy where one decides."""

    by: str
    policy_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """What a policy says of a plan.

    Attributes:
        actions: What it was asked to approve: all of the plan's.
        broken: Limits that the plan breaks; empty means it may be approved.
        approval: What was recorded; None in a dry run and where a limit is broken.
    """

    actions: tuple[str, ...]
    broken: tuple[str, ...]
    approval: Approval | None


def user(name: str) -> Approver:
    """Return a human approver; InvalidArgument where the name cannot be recorded."""
    if not name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable() or ":" in name:
        raise InvalidArgument(
            f"{name[:64]!r} is no approver's name",
            code="approver_invalid",
            hint=f"give 1–{NAME_CHARS_MAX} printable characters without ':' with --by",
        )
    return Approver(f"user:{name}")


def approve_by_policy(
    catalog: Catalog, plan: Plan, policy: ApprovalPolicy, *, dry_run: bool
) -> PolicyDecision:
    """Approve a whole plan where it breaks none of a policy's limits.

    Records nothing in a dry run, nor where a limit is broken.

    Raises:
        NotFound: the plan proposes nothing, or is for a cluster that the catalog lacks.
    """
    proofs = Proofs()
    known = _checked_actions(catalog, plan, proofs)
    broken = broken_limits(plan, policy, SystemClock().now())
    if broken or dry_run:
        return PolicyDecision(tuple(known), tuple(broken), None)
    approver = Approver(f"policy:{policy.name}", policy.sha256)
    approval = approve(catalog, plan, [], approver=approver, proofs=proofs)
    return PolicyDecision(tuple(known), (), approval)


def approve(  # noqa: PLR0913 - the decision's own parts, named
    catalog: Catalog,
    plan: Plan,
    actions: Sequence[str],
    *,
    approver: Approver,
    withdraw: bool = False,
    expected_rows: int | None = None,
    proofs: Proofs | None = None,
) -> Approval:
    """Record a decision on `actions`, or on all where none is named.

    Args:
        catalog: Where to record it; a plan that came from a file is recorded with it.
        plan: The plan, its hash already checked.
        actions: Ids; empty means all.
        approver: Who decides.
        withdraw: Take an approval back instead of giving it.
        expected_rows: Decide only if nobody has since `decisions` told so many rows.
        proofs: What was proven in this process; None knows nothing, and looks at the plan.

    Raises:
        InvalidArgument: an action is not in the plan, or the approved actions would miss one
            that makes a route on which they act.
        NotFound: the plan proposes nothing, or is for a cluster that the catalog lacks.
        Conflict: the load or the routes in the catalog are not those of the plan;
            `dataset_changed`: somebody decided since.
    """
    known = _checked_actions(catalog, plan, Proofs() if proofs is None else proofs)
    unknown = [each for each in actions if each not in known]
    if unknown:
        raise InvalidArgument(
            f"plan {plan.plan_id} has no action {unknown[0]!r}",
            code="action_unknown",
            hint=f"it has {known[0]} … {known[-1]}",
        )
    chosen = set(actions or known)
    standing = set(approved_actions(catalog, plan))
    after = standing - chosen if withdraw else standing | chosen
    _check_closed(plan, after, withdraw=withdraw)
    at = SystemClock().now()
    rows = [
        {
            "plan_id": plan.plan_id,
            "content_hash": plan.content_hash,
            "action_id": action_id,
            "decision": WITHDRAWN if withdraw else APPROVED,
            "by": approver.by,
            "policy_sha256": approver.policy_sha256,
            "at": at,
        }
        for action_id in known
        if action_id in chosen
    ]
    table = pa.Table.from_pylist(rows, schema=APPROVAL)
    decision = Write(
        APPROVAL_PREFIX + plan.plan_id, table, mode="append", expected_rows=expected_rows
    )
    catalog.commit([plan_write(plan), decision])
    return Approval(
        plan_id=plan.plan_id,
        content_hash=plan.content_hash,
        approved=tuple(each for each in known if each in after),
        changed=tuple(each for each in known if (each in after) != (each in standing)),
        by=approver.by,
        at=at,
    )


def decisions(catalog: Catalog, plan: Plan) -> Decisions:
    """Return the newest decision on each action under the plan's hash: who, what and when."""
    name = APPROVAL_PREFIX + plan.plan_id
    if not any(manifest.name == name for manifest in catalog.list(name)):
        return Decisions({}, 0)
    newest: dict[str, Decision] = {}
    rows = catalog.read(name).to_pylist()
    for row in rows:
        if row["content_hash"] != plan.content_hash:
            continue
        before = newest.get(row["action_id"])
        approved = row["decision"] == APPROVED
        taken_back = not approved and before is not None and (before.approved or before.withdrawn)
        newest[row["action_id"]] = Decision(
            row["action_id"], approved, taken_back, row["by"], row["at"]
        )
    return Decisions(newest, len(rows))


def approved_actions(catalog: Catalog, plan: Plan) -> tuple[str, ...]:
    """Return the ids of the actions that stand approved under the plan's hash, in its order."""
    newest = decisions(catalog, plan).newest
    ids = (action.action_id for action in plan.actions)
    return tuple(each for each in ids if each in newest and newest[each].approved)


def move_warning(plan: Plan, actions: Sequence[str]) -> str | None:
    """Return that some of the actions are not for `workbench apply`; None where all are."""
    blocked = not_executable(plan, actions)
    if not blocked:
        return None
    names = list(blocked)
    shown = " ".join(names[:ACTIONS_SHOWN])
    more = f" and {len(names) - ACTIONS_SHOWN} more" if len(names) > ACTIONS_SHOWN else ""
    closed = [a.action_id for a in plan.actions if a.action_id in set(actions).difference(blocked)]
    todo = (
        f"approve the splits alone ({' '.join(closed[:ACTIONS_SHOWN])}"
        f"{' …' if len(closed) > ACTIONS_SHOWN else ''})"
        if closed
        else "plan without --groups for splits alone"
    )
    return (
        f"`workbench apply` executes splits inside a group and no moves: {shown}{more} of plan "
        f"{plan.plan_id} must be made with the system's own tools; {todo}"
    )


def look_ahead(catalog: Catalog, plan: Plan, proofs: Proofs) -> None:
    """Look at a plan as `approve` will, so that it finds the proof; records nothing.

    Raises:
        NotFound: as `approve`.
        Conflict: as `approve`.
    """
    _checked_actions(catalog, plan, proofs)


def _checked_actions(catalog: Catalog, plan: Plan, proofs: Proofs) -> list[str]:
    """Return the ids of the plan's actions; raise where there is nothing to decide here."""
    if plan.cluster not in cluster_names(catalog):
        raise NotFound(
            f"plan {plan.plan_id} is for cluster {plan.cluster!r}, which this catalog lacks",
            code="cluster_absent",
            hint="name the plan's own catalog with --catalog",
        )
    if not plan.actions:
        raise NotFound(
            f"plan {plan.plan_id} proposes nothing",
            code="plan_empty",
            hint="there is nothing to approve",
        )
    if claims := _false_of(catalog, plan, proofs):
        done = applied_of(catalog, plan).actions
        raise _executed(plan, done) if done else stale(plan, claims)
    return [action.action_id for action in plan.actions]


def _false_of(catalog: Catalog, plan: Plan, proofs: Proofs) -> list[str]:
    """Return what of a plan does not hold on the catalog's data; nothing where that was proven."""
    ground = ground_of(catalog, plan.cluster, plan)
    if proofs.proven(plan, ground):
        return []
    view = proofs.made_from(plan, ground)
    if view is not None:
        # Made here, of these data, so making it again would give it again; its proof is verified.
        claims = [*false_claims(view, plan), *_other_routes(view, plan)]
    else:
        with proofs.looking:
            if proofs.proven(plan, ground):
                return []
            view = open_cluster(catalog, plan.cluster)
            claims = false_claims(view, plan) or remade_claims(view, plan)
            claims += _other_routes(view, plan)
    if not claims:
        proofs.prove(plan, ground)
    return claims


def _other_routes(view: ClusterView, plan: Plan) -> list[str]:
    """Return that the plan is not for the routes as they are."""
    claims: list[str] = []
    if view.snapshot.catalog_version != plan.catalog_version:
        claims.append(
            f"the routes are at version {view.snapshot.catalog_version}, "
            f"the plan is for {plan.catalog_version}"
        )
    if [route.span for route in view.snapshot.routes] != [r.span for r in plan.routes_before]:
        claims.append("the routes are not those of the plan")
    return claims


def _check_closed(plan: Plan, approved: set[str], *, withdraw: bool) -> None:
    """Raise where an approved action acts on a route that only an unapproved one would make."""
    makers: dict[Span, str] = {}
    needs: dict[str, str] = {}
    for action in plan.actions:
        if action.span in makers:
            needs[action.action_id] = makers[action.span]
        makers |= dict.fromkeys(action.children, action.action_id)
    # Actions come after what makes their routes, so one pass in order closes either way.
    dropped = {each for each in needs if each in approved and needs[each] not in approved}
    if not dropped:
        return
    first = min(dropped)
    if withdraw:
        for each, maker in needs.items():
            if each in approved and (maker in dropped or maker not in approved):
                dropped.add(each)
        raise InvalidArgument(
            f"{first} splits a route that {needs[first]} makes, and is approved",
            code="approval_incomplete",
            hint=f"withdraw what depends on it too: {' '.join(sorted(dropped))}",
        )
    missing: set[str] = set()
    for each in dropped:
        step = each
        while step in needs and needs[step] not in approved:
            step = needs[step]
            missing.add(step)
    raise InvalidArgument(
        f"{first} splits a route that only {needs[first]} makes",
        code="approval_incomplete",
        hint=f"approve what it depends on too: {' '.join(sorted(missing))}",
    )


def _executed(plan: Plan, done: int) -> Conflict:
    """Return the error for a plan that changed the routes itself, when it was applied."""
    return Conflict(
        f"plan {plan.plan_id} was executed: {done} of "
        f"{counted(len(plan.actions), 'action is', 'actions are')} applied, "
        "and the routes that were collected since are theirs",
        code="plan_executed",
        hint=f"see `workbench jobs list --plan {plan.plan_id}`; for more, plan again",
    )
