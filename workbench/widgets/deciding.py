"""Deciding on actions when others decide too: what is left to decide, and who was first.

A decision is about what was seen. Where somebody else decided since, nothing is recorded and who
was first is told; where they decide in the same moment, one of them is recorded first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workbench.errors import Conflict, WorkbenchError
from workbench.report import words
from workbench.session.approval import approve, decisions, look_ahead

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from workbench.catalog.catalog import Catalog
    from workbench.model.keys import Span
    from workbench.model.plan import Plan
    from workbench.session.approval import Approver, Decision
    from workbench.session.proofs import Proofs

NAMES_SHOWN: Final = 4
ROUNDS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for: to approve or withdraw these actions, all where none is named."""

    plan: Plan
    asked: tuple[str, ...]
    withdraw: bool
    approver: Approver


def record(
    catalog: Catalog,
    request: Request,
    seen: Mapping[str, Decision],
    applied: Collection[str],
    proofs: Proofs,
) -> tuple[bool, str]:
    """Record what is left of a request; return whether it stands now, and what to tell.

    Args:
        catalog: Where decisions are kept.
        request: What is asked for.
        seen: The decisions that whoever asks has seen.
        applied: Ids of what is made.
        proofs: What was proven in this process.

    Raises:
        WorkbenchError: as `session.approval.approve`.
    """
    plan, asked, withdraw, approver = (
        request.plan,
        request.asked,
        request.withdraw,
        request.approver,
    )
    ids = {action.action_id for action in plan.actions}
    if unknown := [each for each in asked if each not in ids]:
        return False, f"the plan has no action {words.clean(unknown[0])}; nothing was recorded"
    for _ in range(ROUNDS_MAX):
        catalog.refresh()
        now = decisions(catalog, plan)
        others = overtaken_by(seen, now.newest, asked, approver.by, withdraw=withdraw)
        if others:
            return False, first_text(others)
        todo = left_to_decide(plan, asked, now.newest, applied, withdraw=withdraw)
        if not todo:
            return True, nothing_new(asked, now.newest, applied, withdraw=withdraw)
        try:
            approve(
                catalog,
                plan,
                todo,
                approver=approver,
                withdraw=withdraw,
                expected_rows=now.rows,
                proofs=proofs,
            )
        except Conflict as error:
            if error.code != "dataset_changed":
                raise
            continue
        verb = "rejected" if withdraw else "approved"
        who = words.clean(approver.by.removeprefix("user:"))
        return True, f"{verb} {names_text(todo)} as {who}"
    return False, "others were first time and again; look and decide anew"


def seek_proof(catalog: Catalog, plan: Plan, proofs: Proofs) -> None:
    """Look at a plan as approving will, so that approving finds the proof.

    Records nothing, and raises nothing: what is wrong with the plan is told when it is approved.
    """
    try:
        look_ahead(catalog, plan, proofs)
    except WorkbenchError:
        return


def left_to_decide(
    plan: Plan,
    asked: Collection[str],
    newest: Mapping[str, Decision],
    applied: Collection[str],
    *,
    withdraw: bool,
) -> list[str]:
    """Return the actions that the decision would change, in the plan's order.

    Args:
        plan: The plan.
        asked: Ids; empty means all. Of all, what somebody rejected stays rejected, and with it
            what acts on a route that only it would make.
        newest: Decisions by action id.
        applied: Ids of what is made: nothing is decided about it any more.
        withdraw: Whether to reject instead of approve.
    """
    chosen: list[str] = []
    makers: dict[Span, str] = {}
    for action in plan.actions:
        name, decision = action.action_id, newest.get(action.action_id)
        maker = makers.get(action.span)
        makers |= dict.fromkeys(action.children, name)
        if name in applied or (asked and name not in asked):
            continue
        approved = decision is not None and decision.approved
        if withdraw:
            if decision is None or approved:
                chosen.append(name)
            continue
        if approved or (not asked and decision is not None):
            continue
        made = maker is None or maker in applied or maker in chosen or _approved(newest, maker)
        if asked or made:
            chosen.append(name)
    return chosen


def overtaken_by(
    seen: Mapping[str, Decision],
    now: Mapping[str, Decision],
    asked: Collection[str],
    me: str,
    *,
    withdraw: bool,
) -> list[Decision]:
    """Return what others decided since the decisions were seen, about what was asked for."""
    return [
        each
        for name, each in now.items()
        if each != seen.get(name)
        and each.by != me
        and (not asked or name in asked)
        # Of all: what somebody else approved meanwhile is no surprise to who approves the rest.
        and (bool(asked) or each.approved == withdraw)
    ]


def first_text(others: Sequence[Decision]) -> str:
    """Return who was first, with what, and when."""
    newest = max(others, key=lambda each: each.at)
    verb = "approved" if newest.approved else "withdrew" if newest.withdrawn else "rejected"
    who = words.clean(newest.by.removeprefix("user:"))
    names = names_text([each.action_id for each in others if each.by == newest.by])
    return (
        f"{who} was first: {verb} {names} at {words.instant(newest.at)}; "
        "nothing of yours was recorded"
    )


def nothing_new(
    asked: Sequence[str],
    newest: Mapping[str, Decision],
    applied: Collection[str],
    *,
    withdraw: bool,
) -> str:
    """Return that nothing was left to decide, and who decided it."""
    if asked and all(name in applied for name in asked):
        return f"{names_text(asked)}: applied, nothing to decide any more"
    known = [newest[name] for name in asked if name in newest] or list(newest.values())
    same = [each for each in known if each.approved != withdraw]
    verb = "rejected" if withdraw else "approved"
    if not same:
        return f"nothing is left to be {verb}"
    last = max(same, key=lambda each: each.at)
    by = words.clean(last.by.removeprefix("user:"))
    names = names_text([each.action_id for each in same])
    return f"{names}: {verb} before, by {by} at {words.instant(last.at)}"


def names_text(names: Sequence[str]) -> str:
    """Return ids as a list, the first few of many."""
    shown = ", ".join(words.clean(name) for name in names[:NAMES_SHOWN])
    hidden = len(names) - NAMES_SHOWN
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def _approved(newest: Mapping[str, Decision], name: str) -> bool:
    return name in newest and newest[name].approved
