"""Apply: execute the approved actions of a plan, one call after the other.

    lease ─▶ look at the routes ─▶ decide ─▶ call ─▶ receipt ─┐
                    ▲                                         │
                    └─────────────────────────────────────────┘ until done, stale or refused

`planner.execution` decides; here the decisions are carried out. Before every step the approvals
and the routes are read anew, so what was withdrawn meanwhile is not done, and nothing has to be
remembered across a crash but the receipts. Each call is bound to the catalog version and to an
idempotency key that is the same for every try.

Does not retry: connectors do, where that is safe. What cannot be known ends the run; applying
again looks first, and resumes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar, cast

from workbench.errors import (
    Conflict,
    InvalidArgument,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
    WorkbenchError,
)
from workbench.planner.execution import (
    Call,
    Done,
    Record,
    Stale,
    decide,
    forecast,
    not_executable,
    request_id,
)
from workbench.ports.connector import Executor, RouteSource
from workbench.report.words import counted
from workbench.session.approval import approved_actions, user
from workbench.session.lease import acquire, this_machine
from workbench.session.progress import Progress, silent
from workbench.session.receipts import Receipt, ReceiptBook, ReceiptStatus
from workbench.session.tries import Tried, check_children, text_for_keeping, tried_by
from workbench.session.wiring import open_routes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Action, Plan
    from workbench.model.routes import RouteSnapshot
    from workbench.ports.connector import PreparedCall
    from workbench.session.lease import Lease, Machine

    class Target(RouteSource, Executor, Protocol):
        """What a plan is applied to: it shows its routes and executes splits."""


T = TypeVar("T")
VERSION_MISMATCH: Final = "catalog_version_mismatch"
RESUMES: Final = "`workbench apply` again goes on where this stopped"
LOOKS: Final = "`workbench apply` again looks at the routes before it repeats anything"


class Step(StrEnum):
    """Where a running application is, as `Application.run` tells whoever watches.

    lease    it may execute on this cluster now
    call     an action's call is about to be made
    receipt  it was answered, its receipt is about to be kept
    done     the receipt is kept
    """

    LEASE = "lease"
    CALL = "call"
    RECEIPT = "receipt"
    DONE = "done"


def unwatched(step: Step, action_id: str | None) -> None:
    """Tell nobody."""


class ActionStatus(StrEnum):
    """What came of an action.

    applied          this run made it
    already_applied  an earlier run made it
    skipped          not approved, or not reached
    failed           the system refused it for good
    stale            not made: the routes had changed, or the system refused their version
    """

    APPLIED = "applied"
    ALREADY_APPLIED = "already_applied"
    SKIPPED = "skipped"
    FAILED = "failed"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class ActionOutcome:
    """What came of one action, or would come of it.

    Attributes:
        action: Of the plan.
        approved: Whether it stands approved.
        status: What came of it.
        reason: Why it was not applied; None where it was.
        receipt: Its newest receipt; None where it was never tried.
        call: In a dry run the literal call; None otherwise.
        predicted: In a dry run: the call's route does not exist yet, its id is a forecast.
    """

    action: Action
    approved: bool
    status: ActionStatus
    reason: str | None = None
    receipt: Receipt | None = None
    call: PreparedCall | None = None
    predicted: bool = False

    @property
    def seconds(self) -> float | None:
        """How long this run's call took; None where it made none that was applied or failed."""
        made = self.status in {ActionStatus.APPLIED, ActionStatus.FAILED}
        return self.receipt.seconds if made and self.receipt else None


@dataclass(frozen=True, slots=True)
class ApplyAnswer:
    """What came of applying a plan.

    Attributes:
        plan: The plan.
        target: URL of the system; None where none was needed, as all was done before.
        dry_run: Nothing was executed.
        outcomes: One per action, in the plan's order.
        catalog_version: The route catalog's, as last seen; None where never seen.
        warnings: What the user should know.
    """

    plan: Plan
    target: str | None
    dry_run: bool
    outcomes: tuple[ActionOutcome, ...]
    catalog_version: int | None
    warnings: tuple[str, ...]

    @property
    def not_executable(self) -> tuple[str, ...]:
        """Ids of the actions of a dry run that `run` would refuse, as they are no mere splits."""
        asked = [o for o in self.outcomes if o.approved] or self.outcomes
        todo = (o for o in asked if o.status is not ActionStatus.ALREADY_APPLIED)
        return tuple(not_executable(self.plan, [o.action.action_id for o in todo]))

    def having(self, *statuses: ActionStatus) -> tuple[str, ...]:
        """Return the ids of the actions of these statuses."""
        return tuple(o.action.action_id for o in self.outcomes if o.status in statuses)


def apply_plan(  # noqa: PLR0913 - the request's own parts, named
    catalog: Catalog,
    plan: Plan,
    source_url: str | None = None,
    *,
    by: str,
    dry_run: bool = False,
    progress: Progress = silent,
) -> ApplyAnswer:
    """Execute the approved actions of `plan`, or tell the calls that would be made.

    Args:
        catalog: Where approvals, receipts and the lease are.
        plan: Its hash already checked.
        source_url: The system; None takes the one that the cluster was collected from.
        by: Name of who applies.
        dry_run: Make no call, take no lease, write nothing; needs no approval.
        progress: Is told how many actions are done.

    Raises:
        WorkbenchError: as `Application.run`, or `Application.preview` in a dry run.
    """
    work = Application(catalog, plan, source_url, by=by)
    if dry_run:
        return work.preview()
    work.run(progress)
    return work.answer()


class Application:
    """One application of a plan. `answer` tells what came of it, also after an error."""

    def __init__(
        self,
        catalog: Catalog,
        plan: Plan,
        source_url: str | None = None,
        *,
        by: str,
        machine: Machine | None = None,
    ) -> None:
        self._catalog = catalog
        self._plan = plan
        self._by = user(by).by
        self._machine = machine or this_machine()
        self._source_url = source_url
        self._target_url: str | None = None
        self._properties = _properties(catalog, plan.cluster)
        self._book = ReceiptBook(catalog, plan)
        self._approved = approved_actions(catalog, plan)
        self._made: set[str] = set()
        self._stopped: dict[str, tuple[ActionStatus, str]] = {}
        self._version: int | None = None
        self._warnings: dict[str, None] = {}
        self._watch: Callable[[Step, str | None], None] = unwatched
        self.started = False

    def run(
        self,
        progress: Progress = silent,
        watch: Callable[[Step, str | None], None] = unwatched,
    ) -> None:
        """Execute what is approved and not applied.

        Args:
            progress: Is told how many actions are done, before each step.
            watch: Is told each step as it begins, with the action's id; returns at once.

        Raises:
            InvalidInput: `plan_not_approved`; `action_not_executable`; `split_unsupported`;
                whatever else the system refuses for good, with a receipt.
            InvalidArgument: no system can be told, or it executes nothing.
            Conflict: `lease_held`, `lease_lost`, `cluster_mismatch`; `plan_stale_version`: the
                routes changed, what was applied before stays; `catalog_version_refused`: the
                system says so, and the routes look as before.
            Unavailable: nothing was done by the last call; applying again resumes.
            OutcomeUnknown: likewise, but the last call may have been made.
        """
        self._watch = watch
        approved = self._approved
        if not self._plan.actions or (approved and self._book.applied.issuperset(approved)):
            return
        if not approved:
            raise InvalidInput(
                f"nothing of plan {self._plan.plan_id} is approved",
                code="plan_not_approved",
                hint=f"approve it first: workbench approve {self._plan.plan_id}",
            )
        self._check_executable()
        target = self._open(allow_write=True)
        try:
            snapshot = self._check(target)
            lease = acquire(
                self._catalog,
                self._plan.cluster,
                by=self._by,
                plan_id=self._plan.plan_id,
                machine=self._machine,
                cluster_id=snapshot.cluster_id or self._properties.get("cluster_id"),
            )
            self.started = True
            self._watch(Step.LEASE, None)
            try:
                self._book = ReceiptBook(self._catalog, self._plan)
                self._work(target, lease, progress)
            finally:
                if (warning := lease.release()) is not None:
                    self._warnings[warning] = None
        finally:
            target.close()

    def preview(self) -> ApplyAnswer:
        """Return the literal calls that `run` would make; makes none, writes nothing.

        Where nothing is approved yet, the calls are those of the whole plan. Actions that are
        more than a split have no call, and a reason (`ApplyAnswer.not_executable`).

        Raises:
            InvalidArgument: no system can be told, or it executes nothing.
            Conflict: `cluster_mismatch`.
            Unavailable: the system does not answer.
        """
        approved = self._approved
        wanted = approved or tuple(action.action_id for action in self._plan.actions)
        if self._book.applied.issuperset(wanted):
            return self.answer(dry_run=True)
        target = self._open(allow_write=False)
        try:
            snapshot = self._check(target)
            blocked = not_executable(self._plan, set(wanted) - self._book.applied)
            makeable = [each for each in wanted if each not in blocked]
            steps = forecast(self._plan, makeable, self._book.applied, snapshot)
            planned = {step.action.action_id: self._previewed(target, step) for step in steps}
        finally:
            target.close()
        known = {o.action.action_id: o for o in self._outcomes()}
        left = {name: replace(known[name], reason=reason) for name, reason in blocked.items()}
        return self.answer(dry_run=True, outcomes=tuple((known | planned | left).values()))

    def answer(
        self, *, dry_run: bool = False, outcomes: tuple[ActionOutcome, ...] | None = None
    ) -> ApplyAnswer:
        """Return what came of it so far."""
        version = self._version
        if version is None:
            known = (r.catalog_version for r in self._book.newest.values())
            version = max((each for each in known if each is not None), default=None)
        return ApplyAnswer(
            plan=self._plan,
            target=self._target_url,
            dry_run=dry_run,
            outcomes=self._outcomes() if outcomes is None else outcomes,
            catalog_version=version,
            warnings=tuple(self._warnings),
        )

    def _work(self, target: Target, lease: Lease, progress: Progress) -> None:
        """Take step after step until all is done; an error ends it."""
        refused: Call | None = None
        while True:
            self._approved = approved = approved_actions(self._catalog, self._plan)
            self._check_executable()
            applied = self._book.applied
            progress("applying", len(applied.intersection(approved)), len(approved))
            snapshot = self._asked(target.snapshot, f"plan {self._plan.plan_id}")
            self._version = snapshot.catalog_version
            step = decide(self._plan, approved, applied, snapshot)
            match step:
                case Done():
                    return
                case Record():
                    self._record(step)
                case Stale():
                    raise self._stale(step.action, step.reason, step.advice)
                case Call() if step == refused:
                    raise self._refused_as_shown(step)
                case Call():
                    lease.keep()
                    refused = None if self._call(target, step) else step
            self._catalog.refresh()

    def _call(self, target: Target, step: Call) -> bool:
        """Make one call and keep its receipt; False where the catalog was at another version."""
        action = step.action
        key = str(request_id(self._plan, action.action_id))
        prepared = target.prepare(step.split, key)
        self._warnings |= dict.fromkeys(prepared.warnings)
        tried = tried_by(step, self._machine.clock.now())
        self._watch(Step.CALL, action.action_id)
        try:
            made = self._asked(lambda: target.apply(prepared), action.action_id)
        except (Unavailable, OutcomeUnknown):
            raise
        except WorkbenchError as error:
            if error.code == VERSION_MISMATCH:
                # Kept before the routes are looked at: whatever they show, this call was made.
                said = f"{_refusal(step)}: {text_for_keeping(error)}"
                self._keep(self._receipt(tried, ReceiptStatus.STALE, said))
                return False
            self._stopped[action.action_id] = (ActionStatus.FAILED, error.message)
            self._keep(self._receipt(tried, ReceiptStatus.FAILED, text_for_keeping(error)))
            error.message = f"{action.action_id} was refused: {error.message}"
            raise
        check_children(action, made)
        self._version = made.catalog_version
        self._made.add(action.action_id)
        ids = (made.left.route_id, made.right.route_id)
        self._keep(self._success(tried, made.catalog_version, ids, repeated=made.repeated))
        return True

    def _record(self, step: Record) -> None:
        """Keep the receipt of a call that an earlier run made and did not live to record."""
        left, right = step.left, step.right
        tried = Tried(
            step.action,
            left.parent_route_id,
            left.group,
            step.expected_version,
            self._machine.clock.now(),
        )
        ids = (left.route_id, right.route_id)
        self._keep(self._success(tried, step.catalog_version, ids, repeated=True))

    def _refused_as_shown(self, step: Call) -> Conflict:
        """Return the error for a call refused for its version, where the routes are still at it."""
        name = step.action.action_id
        reason = f"{_refusal(step)}, though the routes look unchanged"
        self._stopped[name] = (ActionStatus.STALE, reason)
        applied = len(self._book.applied)
        return Conflict(
            f"{name} was not made: {reason}; {applied} of {_stay(self._plan)}",
            code="catalog_version_refused",
            hint="apply again; if it stays so, look whether another system answers than that one",
            retryable=True,
        )

    def _stale(self, action: Action, reason: str, advice: str) -> Conflict:
        """Mark all that cannot be made any more, and return the error."""
        applied = self._book.applied
        for each in self._plan.actions[self._plan.actions.index(action) :]:
            if each.action_id not in applied:
                self._stopped[each.action_id] = (ActionStatus.STALE, reason)
        done = f"{len(applied)} of {_stay(self._plan)}"
        return Conflict(
            f"plan {self._plan.plan_id} is stale: {reason}; {done}",
            code="plan_stale_version",
            hint=advice,
        )

    def _asked(self, question: Callable[[], T], what: str) -> T:
        """Ask the system; where it gives no answer, say what that means for this plan."""
        try:
            return question()
        except Unavailable as error:
            error.message = f"{what}: {error.message}"
            error.hint = RESUMES
            raise
        except OutcomeUnknown as error:
            error.message = f"it is not known whether {what} was made: {error.message}"
            error.hint = LOOKS
            raise

    def _success(
        self, tried: Tried, version: int, children: tuple[int, int], *, repeated: bool
    ) -> Receipt:
        return replace(
            self._receipt(tried, ReceiptStatus.APPLIED, None),
            repeated=repeated,
            catalog_version=version,
            left_route_id=children[0],
            right_route_id=children[1],
        )

    def _receipt(self, tried: Tried, status: ReceiptStatus, error: str | None) -> Receipt:
        action = tried.action
        return Receipt(
            cluster=self._plan.cluster,
            plan_id=self._plan.plan_id,
            content_hash=self._plan.content_hash,
            action_id=action.action_id,
            kind=action.kind.value,
            request_id=str(request_id(self._plan, action.action_id)),
            route_id=tried.route_id,
            span=action.span,
            split_key=action.split_key,
            source_group=tried.group,
            target_group=action.target_group,
            expected_version=tried.expected_version,
            status=status,
            repeated=False,
            catalog_version=None,
            left_route_id=None,
            right_route_id=None,
            error=error,
            by=self._by,
            started_at=tried.started_at,
            updated_at=self._machine.clock.now(),
        )

    def _keep(self, receipt: Receipt) -> None:
        self._watch(Step.RECEIPT, receipt.action_id)
        try:
            self._book.append(receipt)
        except WorkbenchError as error:
            error.message = f"the receipt of {receipt.action_id} was not kept: {error.message}"
            raise
        self._watch(Step.DONE, receipt.action_id)

    def _open(self, *, allow_write: bool) -> Target:
        """Open the system that the plan is to be applied to."""
        url = self._source_url or self._properties.get("source")
        if url is None:
            raise self._no_target("it is not known from where")
        try:
            source = open_routes(url, allow_write=allow_write)
        except InvalidArgument as error:
            if self._source_url is not None:
                raise
            raise self._no_target(f"from {url!r}, where nothing can be executed") from error
        if not isinstance(source, Executor):
            source.close()
            if self._source_url is None:
                raise self._no_target(f"from {url!r}, where nothing can be executed")
            raise InvalidArgument(
                f"nothing can be executed on {url!r}",
                code="target_read_only",
                hint="name a cluster with --to, as node://HOST:PORT",
            )
        self._target_url = url
        return cast("Target", source)

    def _no_target(self, how: str) -> InvalidArgument:
        return InvalidArgument(
            f"cluster {self._plan.cluster!r} was collected {how}",
            code="target_missing",
            hint="name the cluster to apply to with --to, as node://HOST:PORT",
        )

    def _check(self, target: Target) -> RouteSnapshot:
        """Return the routes; raise where this is another cluster, or cannot do what is needed."""
        can = target.capabilities()
        if not can.split:
            raise InvalidInput(
                f"{self._target_url} cannot execute a split",
                code="split_unsupported",
                hint="execute it with the system's own tools, collect, and plan again",
            )
        if not can.compare_and_set:
            note = "this system binds no call to a version: the routes are only read just before"
            self._warnings[note] = None
        snapshot = self._asked(target.snapshot, f"plan {self._plan.plan_id}")
        self._version = snapshot.catalog_version
        recorded = self._properties.get("cluster_id")
        if None not in {recorded, snapshot.cluster_id} and recorded != snapshot.cluster_id:
            raise Conflict(
                f"{self._target_url} is cluster {snapshot.cluster_id}, plan {self._plan.plan_id} "
                f"was made from cluster {recorded}",
                code="cluster_mismatch",
                hint="name the plan's own cluster with --to, or collect from this one and plan",
            )
        return snapshot

    def _check_executable(self) -> None:
        """Raise where something approved is more than a split, and so cannot be executed."""
        blocked = not_executable(self._plan, set(self._approved) - self._book.applied)
        if not blocked:
            return
        first, reason = next(iter(blocked.items()))
        raise InvalidInput(
            f"{first} {reason}",
            code="action_not_executable",
            hint="leave it to the system's own tools, and apply the rest: "
            f"workbench approve {self._plan.plan_id} {' '.join(blocked)} --withdraw",
        )

    def _outcomes(self) -> tuple[ActionOutcome, ...]:
        approved = self._approved
        newest, applied = self._book.newest, self._book.applied
        outcomes = []
        for action in self._plan.actions:
            name = action.action_id
            reason: str | None
            if name in self._made:
                status, reason = ActionStatus.APPLIED, None
            elif name in applied:
                status, reason = ActionStatus.ALREADY_APPLIED, None
            elif name not in approved:
                status, reason = ActionStatus.SKIPPED, "not approved"
            else:
                status, reason = self._stopped.get(name, (ActionStatus.SKIPPED, "not reached"))
            known = newest.get(name)
            outcomes.append(ActionOutcome(action, name in approved, status, reason, known))
        return tuple(outcomes)

    def _previewed(self, target: Target, step: Call | Record | Stale) -> ActionOutcome:
        action = step.action
        is_approved = action.action_id in self._approved
        match step:
            case Call():
                key = str(request_id(self._plan, action.action_id))
                call = target.prepare(step.split, key)
                self._warnings |= dict.fromkeys(call.warnings)
                reason = "would be called" if is_approved else "not approved"
                skipped = ActionStatus.SKIPPED
                return ActionOutcome(
                    action, is_approved, skipped, reason, call=call, predicted=step.predicted
                )
            case Record():
                reason = "made, its receipt is missing and would be kept"
                return ActionOutcome(action, is_approved, ActionStatus.ALREADY_APPLIED, reason)
            case Stale():
                return ActionOutcome(action, is_approved, ActionStatus.STALE, step.reason)


def _stay(plan: Plan) -> str:
    many = "actions are applied and stay"
    return counted(len(plan.actions), "action is applied and stays", many)


def _refusal(step: Call) -> str:
    return f"the system refused version {step.split.expected_version}"


def _properties(catalog: Catalog, cluster: str) -> Mapping[str, str]:
    """Return what was noted when the cluster was collected; nothing where it was not."""
    try:
        return catalog.get(f"{cluster}/load_window").properties
    except NotFound:
        return {}
