"""What came of executing plans: one receipt per call, kept in the catalog.

    receipt/<plan_id>    one row per try; the newest one of an action counts

A receipt is written after its call and before the next one, so at most the newest call of a
plan can be without one; `planner.execution` finds it by the routes. A *job* is an action that
was tried, as `workbench jobs` shows it.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from workbench.catalog.catalog import Write
from workbench.errors import Conflict, InvalidInput, NotFound
from workbench.model.keys import Span
from workbench.model.tables import RECEIPT, check_table
from workbench.session.plans import PREFIX_DIGITS_MIN, resolve_plan

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Plan

RECEIPT_PREFIX: Final = "receipt/"
_JOB = re.compile(rf"([0-9a-fA-F]{{{PREFIX_DIGITS_MIN},64}})/(.+)")


class ReceiptStatus(StrEnum):
    """What came of one try.

    applied  the split is made
    failed   the system refused it for good
    stale    the system refused the version that it was bound to
    """

    APPLIED = "applied"
    FAILED = "failed"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One try to execute one action.

    Attributes:
        cluster: Whose routes.
        plan_id: Of the plan.
        content_hash: Of the plan.
        action_id: Of the action.
        kind: What the action does.
        request_id: Idempotency key of the call.
        route_id: The route as it was numbered then.
        span: Its span.
        split_key: First key of the right child.
        source_group: Group of the route.
        target_group: Group of the right child; None where it stays.
        expected_version: At which the call was made.
        status: What came of it.
        repeated: The split was found made, by an earlier try or by somebody else.
        catalog_version: After the call; None where it did not take effect.
        left_route_id: The child below the split key; None where there is none.
        right_route_id: The child from it on; None where there is none.
        error: Why it did not take effect; None where it did.
        by: Who executed it.
        started_at: Before the call.
        updated_at: After it.
    """

    cluster: str
    plan_id: str
    content_hash: str
    action_id: str
    kind: str
    request_id: str
    route_id: int
    span: Span
    split_key: bytes
    source_group: int
    target_group: int | None
    expected_version: int
    status: ReceiptStatus
    repeated: bool
    catalog_version: int | None
    left_route_id: int | None
    right_route_id: int | None
    error: str | None
    by: str
    started_at: datetime
    updated_at: datetime

    @property
    def job_id(self) -> str:
        """`PLAN_ID/ACTION_ID`."""
        return f"{self.plan_id}/{self.action_id}"

    @property
    def seconds(self) -> float:
        """How long the call took."""
        return max(0.0, (self.updated_at - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Applied:
    """How much of a plan is applied.

    Attributes:
        actions: How many of its actions.
        at: When the last of them was; None where none is.
    """

    actions: int = 0
    at: datetime | None = None


class ReceiptBook:
    """The receipts of one plan, while it is executed.

    Holds what it read and wrote, and appends only where nobody else has since: two processes
    that both believe to hold the lease cannot both go on.
    """

    def __init__(self, catalog: Catalog, plan: Plan) -> None:
        self._catalog = catalog
        self._plan = plan
        self._receipts = read_receipts(catalog, plan.plan_id)

    @property
    def newest(self) -> dict[str, Receipt]:
        """The newest receipt of each action that was tried under the plan's hash."""
        return _newest(self._receipts, self._plan)

    @property
    def applied(self) -> frozenset[str]:
        """Ids of the actions that are applied."""
        return frozenset(i for i, r in self.newest.items() if r.status is ReceiptStatus.APPLIED)

    def append(self, receipt: Receipt) -> None:
        """Keep a receipt.

        Raises:
            Conflict: `lease_lost`: somebody else executes this plan.
        """
        table = pa.Table.from_pylist([_row(receipt)], schema=RECEIPT)
        name = RECEIPT_PREFIX + self._plan.plan_id
        write = Write(
            name,
            table,
            mode="append",
            properties={"cluster": receipt.cluster},
            expected_rows=len(self._receipts),
        )
        try:
            self._catalog.commit([write])
        except Conflict as error:
            if error.code != "dataset_changed":
                raise
            raise Conflict(
                f"somebody else executes plan {self._plan.plan_id}",
                code="lease_lost",
                hint="see `workbench jobs list` for what was done, then apply again",
            ) from error
        self._receipts.append(receipt)


def read_receipts(catalog: Catalog, plan_id: str) -> list[Receipt]:
    """Return all receipts of a plan, newest last.

    Raises:
        InvalidInput: a row does not fit its schema, or has a status that is not known.
    """
    name = RECEIPT_PREFIX + plan_id
    if not any(manifest.name == name for manifest in catalog.list(name)):
        return []
    rows = check_table(catalog.read(name), RECEIPT, name).to_pylist()
    return [_receipt(row, name) for row in rows]


def applied_of(catalog: Catalog, plan: Plan) -> Applied:
    """Return how much of a plan is applied, by the newest receipt of each of its actions."""
    newest = _newest(read_receipts(catalog, plan.plan_id), plan)
    ids = [action.action_id for action in plan.actions]
    done = [newest[i] for i in ids if i in newest and newest[i].status is ReceiptStatus.APPLIED]
    return Applied(len(done), max((receipt.updated_at for receipt in done), default=None))


def list_jobs(
    catalog: Catalog, *, cluster: str | None = None, plan_id: str | None = None
) -> list[Receipt]:
    """Return the newest receipt of every action that was tried, newest first.

    Args:
        catalog: Where the receipts are.
        cluster: Only of this cluster.
        plan_id: Only of this plan.
    """
    jobs: list[Receipt] = []
    for manifest in catalog.list(RECEIPT_PREFIX):
        found = manifest.name.removeprefix(RECEIPT_PREFIX)
        if plan_id not in {None, found}:
            continue
        if cluster not in {None, manifest.properties.get("cluster")}:
            continue
        newest = {(r.content_hash, r.action_id): r for r in read_receipts(catalog, found)}
        jobs += newest.values()
    # Within one microsecond the later version is the newer one.
    return sorted(jobs, key=lambda job: (job.updated_at, job.expected_version), reverse=True)


def find_jobs(catalog: Catalog, reference: str) -> list[Receipt]:
    """Return the jobs that `PLAN` or `PLAN/ACTION` names, newest first.

    Raises:
        InvalidArgument: it names no plan.
        NotFound: there is no such plan, or nothing of it was tried.
    """
    match = _JOB.fullmatch(reference)
    plan = resolve_plan(catalog, match[1] if match else reference)
    jobs = list_jobs(catalog, plan_id=plan.plan_id)
    if match:
        jobs = [job for job in jobs if job.action_id == match[2]]
    if not jobs:
        tried = f"action {match[2]!r}" if match else "nothing"
        verb = "was not" if match else "was"
        raise NotFound(
            f"{tried} of plan {plan.plan_id} {verb} executed",
            code="job_absent",
            hint=f"`workbench jobs list --plan {plan.plan_id}` shows what was",
        )
    return jobs


def _newest(receipts: list[Receipt], plan: Plan) -> dict[str, Receipt]:
    return {r.action_id: r for r in receipts if r.content_hash == plan.content_hash}


def _row(receipt: Receipt) -> dict[str, Any]:
    values = asdict(receipt)
    del values["span"]
    return {**values, "start": receipt.span.start, "end": receipt.span.end}


def _receipt(row: dict[str, Any], where: str) -> Receipt:
    values = dict(row)
    span = Span(values.pop("start"), values.pop("end"))
    try:
        status = ReceiptStatus(values.pop("status"))
    except ValueError as error:
        raise InvalidInput(
            f"{where} has a receipt of an unknown status: {error}",
            code="receipt_status_unknown",
            hint="it was written by a newer workbench; use that one",
        ) from error
    return Receipt(span=span, status=status, **values)
