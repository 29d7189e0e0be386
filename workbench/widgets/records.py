"""What the catalog keeps of a plan's execution: decisions, receipts, and who holds the lease."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.catalog.catalog import Catalog
from workbench.report import words
from workbench.session.approval import decisions
from workbench.session.lease import read_lease
from workbench.session.plans import PLAN_PREFIX, newest_first, resolve_plan
from workbench.session.receipts import list_jobs, read_receipts
from workbench.session.system import SystemClock, SystemRng
from workbench.widgets.standing import Elsewhere, Known

if TYPE_CHECKING:
    from workbench.model.plan import Plan
    from workbench.session.lease import LeaseRow, Machine
    from workbench.session.receipts import Receipt
    from workbench.widgets.running import Run


class Records:
    """One catalog, asked about plans; read anew only where it changed.

    Used under the desk's lock.
    """

    def __init__(self, catalog: Catalog, machine: Machine, who: str) -> None:
        self._machine = machine
        self._who = who
        self._kept: tuple[int, str, Known] | None = None
        self._lease: tuple[object, list[LeaseRow]] | None = None
        self.catalog = catalog

    def another(self) -> Catalog:
        """Return the same catalog, for another thread."""
        return Catalog.open(
            self.catalog.store, clock=SystemClock(), rng=SystemRng(), writer=f"desk of {self._who}"
        )

    def known(
        self, plan: Plan, run: Run | None, recording: frozenset[str], cluster_id: str | None
    ) -> Known:
        """Return all that is known of a plan now; `run` is one of this process, or None."""
        self.catalog.refresh()
        seq, kept = self.catalog.seq, self._kept
        if kept is None or kept[:2] != (seq, plan.content_hash):
            base = Known(decisions(self.catalog, plan).newest, self._receipts(plan))
            self._kept = kept = (seq, plan.content_hash, base)
        base = replace(kept[2], recording=recording)
        if run is None:
            return replace(base, elsewhere=self._elsewhere(plan, cluster_id))
        return replace(
            base,
            running=run.running,
            steps=run.steps,
            by=f"user:{run.by}",
            stopped="" if run.running or run.error is None else str(run.error),
            stopped_at=_stopped_at(run, base),
        )

    def newest_plan(self, cluster: str) -> Plan | None:
        """Return the cluster's newest plan; None where there is none."""
        made = newest_first(self.catalog, cluster) if cluster else []
        return resolve_plan(self.catalog, made[0].name.removeprefix(PLAN_PREFIX)) if made else None

    def earlier_jobs(self, cluster: str, plan: Plan | None) -> list[Receipt]:
        """Return the jobs of the cluster's other plans, newest first."""
        mine = "" if plan is None else plan.plan_id
        return [job for job in list_jobs(self.catalog, cluster=cluster) if job.plan_id != mine]

    def _receipts(self, plan: Plan) -> dict[str, Receipt]:
        rows = read_receipts(self.catalog, plan.plan_id)
        return {row.action_id: row for row in rows if row.content_hash == plan.content_hash}

    def _elsewhere(self, plan: Plan, cluster_id: str | None) -> Elsewhere | None:
        """Return who holds the cluster's lease for this plan, or held it and did not let go."""
        # Pages ask every other second: what did not change is not read again.
        key = (self.catalog.seq, plan.cluster, cluster_id)
        if self._lease is None or self._lease[0] != key:
            self._lease = (key, read_lease(self.catalog, plan.cluster, cluster_id))
        rows = self._lease[1]
        if not rows or rows[-1].holder.plan_id != plan.plan_id:
            return None
        newest = rows[-1]
        if newest.expires_at <= newest.at:
            return None
        holder, machine = newest.holder, self._machine
        gone = machine.place.has_lost(holder.pid, holder.place, machine.is_running)
        live = newest.expires_at > machine.clock.now() and not gone
        place = f"{holder.place.host}, process {holder.pid}"
        return Elsewhere(words.clean(holder.name.removeprefix("user:")), words.clean(place), live)


def _stopped_at(run: Run, base: Known) -> str | None:
    """Return the action at which a run stopped; None where it was made, or none was begun."""
    return None if run.current is None or base.applied(run.current) else run.current
