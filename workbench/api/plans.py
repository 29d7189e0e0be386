"""Plans: splits with their evidence, and what is done with them.

    plan(catalog) ──▶ Plan ── replay ──▶ Verification      what would come of it
                        │ ── approve, withdraw ──▶ Approval   bound to the plan's hash
                        │ ── apply ──▶ Application            on the live cluster, resumable
                        └─ explain, jobs, report, save

A plan is a document that never changes: the same load gives the same bytes. What is approved and
applied of it is in the catalog, and is read anew whenever it is asked for. There is no merge and
no undo of a split.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from workbench.api.approving import (
    Application,
    Approval,
    application_of,
    approval_of,
    policy_approval_of,
)
from workbench.api.catalog import Catalog
from workbench.api.catalog import open as open_catalog
from workbench.api.places import HasUrl, Moment, name_of, url_of
from workbench.api.results import Result
from workbench.api.show import counted
from workbench.api.verification import Report, Verification, report_of, verification_of
from workbench.api.words import in_python, methods_in_python
from workbench.errors import InvalidArgument, WorkbenchError
from workbench.model.keys import printable_key
from workbench.model.plan import ActionKind, plan_to_json
from workbench.model.times import rfc3339
from workbench.planner.words import (
    certainty_sentences,
    declined_by_reason,
    further_sentence,
    headline,
    heavy_sentence,
    isolated_sentence,
    placement_sentences,
    robust_sentence,
)
from workbench.session.applying import Application as Work
from workbench.session.approval import (
    approve,
    approve_by_policy,
    approved_actions,
    move_warning,
    user,
)
from workbench.session.explaining import explain
from workbench.session.plans import plan_to_file, resolve_plan
from workbench.session.policies import read_policy
from workbench.session.verify import is_recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from workbench.model.plan import Action
    from workbench.model.plan import Plan as Document

HEAVY_SHOWN: Final = 3


@methods_in_python
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Plan(Result):
    """A proposal: a row per action, in the order in which they are made.

    Examples:
        >>> plan = wb.plan(until="50%", max_splits=4)
        >>> plan.share_after < plan.share_before
        True
        >>> plan[0]["id"], plan.approved
        ('split-001', ())

    Attributes:
        catalog: Where it is recorded, and what is approved and applied of it.
        model: The document, as the layers below know it.
    """

    catalog: Catalog
    model: Document

    @property
    def plan_id(self) -> str:
        """Its name: the first digits of the content hash."""
        return self.model.plan_id

    @property
    def content_hash(self) -> str:
        """SHA-256 of its content; what an approval is bound to."""
        return self.model.content_hash

    @property
    def cluster(self) -> str:
        """Whose routes it is for."""
        return self.model.cluster

    @property
    def since(self) -> datetime:
        """Start of the load that it was made from."""
        return self.model.since

    @property
    def until(self) -> datetime:
        """End of it, exclusive."""
        return self.model.until

    @property
    def share_before(self) -> float:
        """The hottest route's share of the load as the routes are."""
        return self.model.max_share_before

    @property
    def share_after(self) -> float:
        """The same after all actions: the forecast."""
        return self.model.max_share_after

    @property
    def approved(self) -> tuple[str, ...]:
        """Ids of the actions that stand approved now, in the plan's order."""
        return approved_actions(self.catalog.writable(), self.model)

    @property
    def declined(self) -> Result:
        """The routes that are left alone, and why."""
        rows = [{"route_id": each.route_id, "reason": each.reason} for each in self.model.declined]
        names = [pa.field("route_id", pa.uint64()), pa.field("reason", pa.string())]
        count = f"{len(rows)} of {counted(len(self.model.routes_before), 'route')}"
        return Result(pa.Table.from_pylist(rows, schema=pa.schema(names)), f"left alone: {count}")

    @property
    def pareto(self) -> Result:
        """What fewer splits would reach: the least possible for each number of them."""
        total = self.model.total_load or 1
        rows = [
            {"splits": splits, "hottest_load": load, "share": load / total}
            for splits, load in self.model.pareto
        ]
        types = (pa.int64(), pa.int64(), pa.float64())
        names = ("splits", "hottest_load", "share")
        schema = pa.schema([pa.field(*each) for each in zip(names, types, strict=True)])
        return Result(
            pa.Table.from_pylist(rows, schema=schema), "the hottest route by number of splits"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON values: docs/formats/plan.md says what is in it."""
        return plan_to_json(self.model)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the document to a file whose name ends with .json or .parquet.

        Raises:
            InvalidArgument: `plan_format_unknown`.
            Storage: It cannot be written.
        """
        target = Path(path)
        if target.suffix not in {".json", ".parquet"}:
            raise InvalidArgument(
                f"{str(path)!r} ends neither with .json nor with .parquet",
                code="plan_format_unknown",
                hint="name a .json or a .parquet file",
            )
        plan_to_file(self.model, target)
        return target

    def replay(
        self, *, on: str | None = None, since: Moment = None, until: Moment = None
    ) -> Verification:
        """Replay the load that came after the plan's window, on the routes that it would leave.

        What if it were applied: nothing is executed, and what was executed plays no part;
        `wb.verify` tells what really came.

        Examples:
            >>> plan.replay().execution
            'replayed'

        Args:
            on: A later collection of the same cluster under another name.
            since: Start of the load to replay.
            until: End of it.

        Raises:
            NotFound: `load_absent`: nothing came after the plan's window.
        """
        return verification_of(self.catalog, self.model, on=on, since=since, until=until)

    def explain(self, action: str) -> Result:
        """Return one action's loads, as the plan states them and computed anew by SQL.

        Raises:
            NotFound: `action_unknown`.
        """
        found = explain(self.catalog.writable(), self.model, action)
        stated, anew = found.action.evidence, found.recomputed
        rows = [
            {"span": name, "stated": said, "recomputed": now, "holds": said == now}
            for name, said, now in (
                ("parent", stated.parent_load, anew.parent),
                ("left", stated.left_load, anew.left),
                ("right", stated.right_load, anew.right),
            )
        ]
        key = printable_key(found.action.split_key)
        return Result(
            pa.Table.from_pylist(rows), f"{action} at {key}", notes=tuple(found.action.reasons)
        )

    def approve(
        self,
        *actions: str,
        by: str | None = None,
        policy: str | os.PathLike[str] | None = None,
        dry_run: bool = False,
    ) -> Approval:
        """Record an approval, with who, when and the plan's hash.

        Examples:
            >>> plan.approve(by="anna").by
            'user:anna'
            >>> plan.withdraw(by="anna").approved
            ()

        Args:
            actions: Ids; all where none is named.
            by: Who decides; None is WORKBENCH_USER, else you.
            policy: A file with an approval policy that decides on the whole plan instead.
            dry_run: With `policy`: only say what it would do.

        Raises:
            InvalidArgument: `action_unknown`, `approval_incomplete`, `approver_invalid`.
            Conflict: `plan_stale`: the load or routes are no longer those of the plan.
            NotFound: `plan_empty`: it proposes nothing.
        """
        catalog = self.catalog.writable()
        if policy is None:
            if dry_run:
                raise InvalidArgument(
                    "dry_run goes with policy", code="usage", hint="leave it out, or name a policy"
                )
            decision = approve(catalog, self.model, actions, approver=user(name_of(by)))
            return approval_of(self.model, decision, self._moves(decision.approved))
        if actions or by is not None:
            raise InvalidArgument(
                "a policy decides on the whole plan, in its own name",
                code="usage",
                hint="name no actions and leave `by` out",
            )
        rules = read_policy(Path(policy))
        found = approve_by_policy(catalog, self.model, rules, dry_run=dry_run)
        return policy_approval_of(
            self.model,
            rules.name,
            found,
            standing=approved_actions(catalog, self.model),
            dry_run=dry_run,
        )

    def withdraw(self, *actions: str, by: str | None = None) -> Approval:
        """Take an approval back; it stays in the history. Arguments as of `approve`."""
        decision = approve(
            self.catalog.writable(),
            self.model,
            actions,
            approver=user(name_of(by)),
            withdraw=True,
        )
        return approval_of(self.model, decision, ())

    def apply(
        self,
        to: str | HasUrl | None = None,
        *,
        by: str | None = None,
        dry_run: bool = False,
    ) -> Application:
        """Execute what is approved, one split after the other, on the live cluster.

        Each call is bound to the version that the plan was made for and is made at most once.
        Where it stops midway, an error says why and how far it came; the same call again goes
        on from there, and never splits twice. There is no undo of a split.

        Args:
            to: URL of the system, or what `wb.connect` returned; None is where the routes were
                collected.
            by: Who applies; None is WORKBENCH_USER, else you.
            dry_run: Return the literal calls; make none. Needs no approval.

        Raises:
            InvalidInput: `plan_not_approved`, `action_not_executable`.
            InvalidArgument: No system can be told: a trace has none.
            Conflict: `plan_stale_version`: somebody else changed the routes; collect, plan
                again. `lease_held`: somebody else applies a plan just now.
            Unavailable, OutcomeUnknown: Apply again: it looks before it repeats anything.
        """
        url = None if to is None else url_of(to)
        work = Work(self.catalog.writable(), self.model, url, by=name_of(by))
        if dry_run:
            return application_of(work.preview())
        try:
            work.run()
        except WorkbenchError as error:
            if work.started:
                done = application_of(work.answer())
                error.add_note(f"{done.title}; .jobs() of the plan lists them")
            raise
        return application_of(work.answer())

    def jobs(self) -> Result:
        """Return what was executed of it: the newest try of every action, newest first."""
        return self.catalog.jobs(plan=self.plan_id)

    def approvals(self) -> Result:
        """Return who decided what about it, oldest first."""
        return self.catalog.approvals(self.plan_id)

    def report(
        self, path: str | os.PathLike[str] = "report.html", *, on: str | None = None
    ) -> Report:
        """Write its report as one HTML file; see `wb.report`."""
        return report_of(self.catalog, self.model, Path(path), on=on)

    def _moves(self, approved: Sequence[str]) -> tuple[str, ...]:
        warning = move_warning(self.model, approved)
        live = warning is not None and not is_recorded(self.catalog.view(self.cluster))
        return (warning,) if warning is not None and live else ()


@in_python
def find_plan(
    reference: str | os.PathLike[str], catalog: Catalog | str | os.PathLike[str] | None = None
) -> Plan:
    """Return a plan that was made before, hashed anew.

    Examples:
        >>> wb.find_plan(plan.plan_id[:8]).content_hash == plan.content_hash
        True

    Args:
        reference: Its id, at least four of its first digits, or a .json or .parquet file.
        catalog: Where it is recorded.

    Raises:
        InvalidArgument: `plan_reference_invalid`, `plan_reference_ambiguous`.
        NotFound: `plan_absent`.
        Corruption: The content does not give the hash that it carries.
    """
    if not isinstance(reference, str | os.PathLike):
        raise InvalidArgument(
            f"{reference!r} names no plan",
            code="plan_reference_invalid",
            hint="give its id, at least four of its first digits, or a file",
        )
    opened = open_catalog(catalog)
    return plan_of(opened, resolve_plan(opened.writable(), os.fspath(reference)))


def plan_of(catalog: Catalog, document: Document, warnings: Iterable[str] = ()) -> Plan:
    """Return a plan's document as an answer."""
    rows = [_action(document, action) for action in document.actions]
    window = f"load of {rfc3339(document.since)} to {rfc3339(document.until)}"
    nothing = f"nothing to do: the hottest route carries {document.max_share_before:.1%}"
    return Plan(
        pa.Table.from_pylist(rows, schema=_ACTIONS),
        f"plan {document.plan_id} for {document.cluster}: "
        f"{headline(document) if rows else nothing}, {window}",
        notes=tuple(_sentences(document)),
        warnings=tuple(warnings),
        shown=(
            "id",
            "route_id",
            "split_key",
            "target_group",
            "parent_share",
            "left_share",
            "right_share",
            "hottest_share_after",
        ),
        catalog=catalog,
        model=document,
    )


def _sentences(plan: Document) -> list[str]:
    """Return what the numbers rest on, as `workbench plan` says it too."""
    total = plan.total_load
    said: list[str | None] = [further_sentence(plan)]
    if plan.actions:
        if plan.robust is not None:
            said.append(robust_sentence(plan))
        said += [isolated_sentence(each, printable_key(each.key), total) for each in plan.isolated]
    said += [
        heavy_sentence(printable_key(atom.key), atom.load, total, plan.atom_kind)
        for atom in plan.unsplittable[:HEAVY_SHOWN]
    ]
    said += [*placement_sentences(plan), *certainty_sentences(plan)]
    said += [f"left alone: {routes}: {why}" for routes, why in declined_by_reason(plan)[:3]]
    if plan.actions:
        said.append("there is no merge and no undo of a split")
    return [each for each in said if each]


def _action(plan: Document, action: Action) -> dict[str, Any]:
    evidence, total = action.evidence, plan.total_load
    moves = action.kind is ActionKind.MOVE  # leaves its route whole
    return {
        "id": action.action_id,
        "kind": action.kind.value,
        "route_id": action.route_id,
        "start": action.span.start,
        "end": action.span.end,
        "split_key": action.split_key,
        "target_group": action.target_group,
        "expected_version": action.expected_version,
        "parent_load": evidence.parent_load,
        "left_load": evidence.left_load,
        "right_load": evidence.right_load,
        "parent_share": evidence.parent_load / total,
        "left_share": None if moves else evidence.left_load / total,
        "right_share": None if moves else evidence.right_load / total,
        "hottest_share_after": evidence.bottleneck_after / total,
        "rows_moved": action.rows_moved,
        "bytes_moved": action.bytes_moved,
        "reasons": list(action.reasons),
    }


_ACTIONS: Final = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("route_id", pa.uint64()),
        pa.field("start", pa.binary()),
        pa.field("end", pa.binary()),
        pa.field("split_key", pa.binary()),
        pa.field("target_group", pa.uint64()),
        pa.field("expected_version", pa.uint64()),
        *(pa.field(f"{name}_load", pa.int64()) for name in ("parent", "left", "right")),
        *(pa.field(f"{name}_share", pa.float64()) for name in ("parent", "left", "right")),
        pa.field("hottest_share_after", pa.float64()),
        pa.field("rows_moved", pa.int64()),
        pa.field("bytes_moved", pa.int64()),
        pa.field("reasons", pa.list_(pa.string())),
    ]
)
