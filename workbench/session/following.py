"""Follow the jobs of a plan while somebody executes it, from the catalog alone.

    receipts, decisions ──poll──▶ what is new since last time ──▶ … ──▶ nothing is left to do

Whoever executes writes a receipt for each call; so whoever watches sees the same from anywhere
that reads the catalog, and after a restart. Not here: executing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.session.approval import approved_actions
from workbench.session.receipts import Receipt, ReceiptStatus, list_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Plan


@dataclass(frozen=True, slots=True)
class Followed:
    """What one look found.

    Attributes:
        changed: Jobs that are new or went on since the last look, oldest first.
        left: Approved actions that are not applied, in the plan's order.
    """

    changed: tuple[Receipt, ...]
    left: tuple[str, ...]


def left_to_apply(catalog: Catalog, plan: Plan) -> tuple[str, ...]:
    """Return the approved actions of a plan that are not applied, in its order."""
    jobs = list_jobs(catalog, plan_id=plan.plan_id)
    applied = {
        job.action_id
        for job in jobs
        if job.status is ReceiptStatus.APPLIED and job.content_hash == plan.content_hash
    }
    return tuple(each for each in approved_actions(catalog, plan) if each not in applied)


def follow_jobs(
    catalog: Catalog, plan: Plan, *, every_s: float, for_s: float | None
) -> Iterator[Followed]:
    """Yield what changed, look by look, until nothing approved is left or the time is over.

    Args:
        catalog: Where the receipts are; refreshed before each look.
        plan: Whose jobs.
        every_s: Between looks.
        for_s: End after so long; None: only when nothing is left.
    """
    seen: dict[str, Receipt] = {}
    end = None if for_s is None else time.monotonic() + for_s
    while True:
        catalog.refresh()
        jobs = list_jobs(catalog, plan_id=plan.plan_id)
        changed = [job for job in reversed(jobs) if seen.get(job.action_id) != job]
        seen |= {job.action_id: job for job in changed}
        left = left_to_apply(catalog, plan)
        yield Followed(tuple(changed), left)
        if not left or (end is not None and time.monotonic() + every_s > end):
            return
        time.sleep(every_s)
