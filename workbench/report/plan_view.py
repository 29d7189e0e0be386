"""What the page shows of a plan alone: actions, bound and proof, trade-off, declined routes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workbench.model.keys import printable_key
from workbench.model.plan import ActionKind
from workbench.planner.words import (
    certainty_sentences,
    further_sentence,
    isolated_sentence,
    nothing_reason,
    placement_sentences,
    robust_sentence,
)
from workbench.report import words
from workbench.report.charts import Axis, Mark, StepChart, axis
from workbench.report.tables import ROWS_MAX, Column, Table, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.plan import Action, Objective, Plan

SQL_CHARS_MAX: Final = 20_000
REASONS_MAX: Final = 8
NO_UNDO: Final = (
    "There is no merge and no undo of a split: routes once split stay split. "
    "Approve only what should stay."
)


@dataclass(frozen=True, slots=True)
class ActionRow:
    """One action as it is shown.

    Attributes:
        number: Place in the order, from 1; the pictures number cuts the same way.
        action_id: As in the plan.
        what: What it does.
        key: The split key.
        where: The route and its span.
        parent: Load of the route that is split.
        left: Load below the key, with its share of the parent.
        right: Load from the key on, with its share of the parent.
        left_percent: Width of the left part of the bar.
        bottleneck_before: Heaviest route before.
        bottleneck_after: Heaviest route after.
        reasons: Sentences.
    """

    number: int
    action_id: str
    what: str
    key: str
    where: str
    parent: str
    left: str
    right: str
    left_percent: float
    bottleneck_before: str
    bottleneck_after: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """One load on the common scale of the bound: a name, the load, its bar, what it means."""

    name: str
    load: str
    share: str
    bar_percent: float
    role: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Bound:
    """How good the plan is, and how anybody can check it."""

    levels: tuple[Level, ...]
    sentences: tuple[str, ...]
    check: str


@dataclass(frozen=True, slots=True)
class Query:
    """The SQL text that gives the plan's loads, for reading."""

    name: str
    dataset: str
    parameters: Table
    sql: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """All that comes from the plan alone."""

    actions: tuple[ActionRow, ...]
    actions_more: int
    nothing: str
    bound: Bound
    pareto: StepChart | None
    pareto_table: Table
    declined: Table
    query: Query
    commands: tuple[tuple[str, str], ...]
    no_undo: str = NO_UNDO


def plan_view(plan: Plan) -> PlanView:
    """Return what the page shows of `plan`; pure."""
    return PlanView(
        actions=tuple(
            _action_row(number, action)
            for number, action in enumerate(plan.actions[:ROWS_MAX], start=1)
        ),
        actions_more=max(len(plan.actions) - ROWS_MAX, 0),
        nothing="" if plan.actions else _why_nothing(plan),
        bound=_bound(plan),
        pareto=_pareto_chart(plan),
        pareto_table=_pareto_table(plan),
        declined=table(
            "declined",
            "Routes for which nothing is proposed, and why",
            (Column("Route", "id"), Column("Reason")),
            ((str(each.route_id), words.clean(each.reason)) for each in plan.declined),
        ),
        query=_query(plan),
        commands=_commands(plan),
    )


def objective_text(objective: Objective) -> str:
    """Return what is balanced, with its weights: `score = 4 × writes + reads`."""
    terms = [
        name if weight == 1 else f"{weight} × {name}"
        for name, weight in (
            ("writes", objective.write_weight),
            ("reads", objective.read_weight),
            ("bytes", objective.byte_weight),
            ("cpu_ns", objective.cpu_weight),
        )
        if weight
    ]
    name, formula = words.clean(objective.name), " + ".join(terms)
    return name if name == formula else f"{name} = {formula}"


def steps_text(plan: Plan) -> str:
    """Return how many steps the plan has, and of which kind where they are all splits."""
    only_splits = all(action.kind is ActionKind.SPLIT for action in plan.actions)
    return words.plural(len(plan.actions), "split" if only_splits else "action")


def share_of(load: float, total: float) -> str:
    """Return `load` as a share of `total`; of nothing it is 0."""
    return words.percent(load / total if total else 0.0)


def _action_row(number: int, action: Action) -> ActionRow:
    seen = action.evidence
    rows = "" if action.rows_moved is None else f"{words.plural(action.rows_moved, 'row')}, "
    size = action.bytes_moved
    moved = rows + ("bytes not measured" if size is None else words.plural(size, "byte"))
    what = {
        ActionKind.SPLIT: "Split",
        ActionKind.SPLIT_AND_MOVE: f"Split, right part to group {action.target_group} ({moved})",
        ActionKind.MOVE: f"Move to group {action.target_group} ({moved})",
    }[action.kind]
    parent = seen.parent_load
    # A move leaves its route whole.
    left, right = (
        "" if action.kind is ActionKind.MOVE else f"{words.whole(part)} ({share_of(part, parent)})"
        for part in (seen.left_load, seen.right_load)
    )
    return ActionRow(
        number=number,
        action_id=words.clean(action.action_id),
        what=what,
        key=printable_key(action.split_key),
        where=f"route {action.route_id}: {words.span_text(action.span)}",
        parent=words.whole(parent),
        left=left,
        right=right,
        left_percent=_bar(seen.left_load, parent) if parent else 50.0,
        bottleneck_before=words.whole(seen.bottleneck_before),
        bottleneck_after=words.whole(seen.bottleneck_after),
        reasons=tuple(words.clean(reason) for reason in action.reasons[:REASONS_MAX]),
    )


def _bar(load: float, scale: float) -> float:
    """Return the width of a bar in percent; a document's numbers may be anything."""
    return min(max(100 * load / scale, 0.0), 100.0)


def _why_nothing(plan: Plan) -> str:
    limits = plan.limits
    if not plan.total_load:
        return "No load was measured in this time, so there is nothing to balance."
    if (
        not limits.max_splits
        or plan.drift is not None
        or len(limits.fixed_routes) == len(plan.routes_before)
    ):
        return f"Nothing is proposed: {words.clean(nothing_reason(plan))}."
    only_hot = " Only hot routes were considered." if limits.only_hot else ""
    return (
        f"Nothing is proposed: no set of at most {words.plural(limits.max_splits, 'split')} lowers "
        f"the heaviest route by at least {words.percent(limits.min_gain)}.{only_hot}"
    )


def _bound(plan: Plan) -> Bound:
    marks, routes = plan.bottleneck, len(plan.routes_after)
    atom = words.clean(plan.atom_kind)
    scale = max(marks.before, marks.after, marks.optimum, marks.lower_bound, 1)
    after_name = "This plan" if plan.actions else "As it stays"
    rows = (
        ("Now", marks.before, "before", "heaviest route as the routes are"),
        (after_name, marks.after, "after", "heaviest route once all actions are done"),
        (
            "Optimum",
            marks.optimum,
            "bound",
            f"the least that {words.plural(routes, 'route')} could reach with all boundaries anew",
        ),
        (
            "Lower bound",
            marks.lower_bound,
            "bound",
            f"mean of {words.plural(routes, 'route')}, or the heaviest {atom}; no cut gets below",
        ),
    )
    return Bound(
        levels=tuple(
            Level(
                name,
                words.whole(load),
                share_of(load, plan.total_load),
                _bar(load, scale),
                role,
                meaning,
            )
            for name, load, role, meaning in rows
        ),
        sentences=_bound_sentences(plan),
        check=f"workbench verify {plan.plan_id}",
    )


def _bound_sentences(plan: Plan) -> tuple[str, ...]:
    marks = plan.bottleneck
    sentences: list[str] = []
    said = certainty_sentences(plan)
    if plan.robust is not None:
        said.append(robust_sentence(plan))
    if (further := further_sentence(plan)) is not None:
        said.insert(0, further)
    total = max(plan.total_load, 1)
    said += [isolated_sentence(each, printable_key(each.key), total) for each in plan.isolated]
    said += placement_sentences(plan)
    sentences += [f"{text[0].upper()}{text[1:]}." for text in said]
    if marks.after <= marks.optimum:
        sentences.append("The plan reaches the optimum: no other cut does better.")
    elif marks.optimum:
        sentences.append(
            f"The plan is {words.percent(marks.after / marks.optimum - 1)} above the optimum. "
            "The rest is the price of boundaries that exist already: they cannot be undone"
            f"{' and of planning against drift' if plan.robust and plan.robust.price else ''}."
        )
    if _proves(plan, marks.after):
        sentences.append(
            f"With the boundaries that exist and at most "
            f"{words.plural(plan.limits.max_splits, 'split')}, nothing does better; the plan "
            "carries the proof."
        )
    if marks.resolution_low < marks.resolution_high:
        sentences.append(
            f"The evidence is {words.plural(plan.atoms, plan.atom_kind)}: finer evidence could "
            f"show a plan with as many splits to reach anything down to "
            f"{words.whole(marks.resolution_low)}; {words.whole(marks.resolution_high)} is certain."
        )
    elif plan.atoms:
        sentences.append(
            f"The evidence is {words.plural(plan.atoms, plan.atom_kind)}, each counted by itself, "
            "so finer evidence would change nothing."
            if plan.atom_kind == "key"
            else f"The evidence is {words.plural(plan.atoms, plan.atom_kind)}."
        )
    return tuple(words.clean(sentence) for sentence in sentences)


def _proves(plan: Plan, bottleneck: int) -> bool:
    """Tell whether the certificate claims that as few splits cannot do better."""
    claim = plan.certificate.get("incremental")
    return isinstance(claim, dict) and claim.get("bottleneck") == bottleneck


def _pareto_chart(plan: Plan) -> StepChart | None:
    if len(plan.pareto) < 2:
        return None
    splits, marks = len(plan.actions), plan.bottleneck
    top = max(load for _, load in plan.pareto)
    chosen = next((i for i, (count, _) in enumerate(plan.pareto) if count == splits), None)
    x = axis(max(count for count, _ in plan.pareto), "splits", words.compact, whole=True)
    # The last step must not end on the frame.
    x = Axis(x.top + 0.03 * x.top, x.ticks, x.title)
    return StepChart(
        name="pareto",
        label=f"Heaviest route by number of splits: from {words.whole(plan.pareto[0][1])} with "
        f"{words.plural(plan.pareto[0][0], 'split')} to {words.whole(plan.pareto[-1][1])} with "
        f"{words.plural(plan.pareto[-1][0], 'split')}; the plan takes {splits}.",
        x=x,
        y=axis(top, "heaviest route", words.compact),
        points=tuple((float(count), float(load)) for count, load in plan.pareto),
        chosen=chosen,
        marks=(Mark(float(marks.lower_bound), "bound"),) if marks.lower_bound <= top else (),
    )


def _pareto_table(plan: Plan) -> Table:
    total = plan.total_load
    return table(
        "pareto",
        "Heaviest route by number of splits",
        (
            Column("Splits", "number"),
            Column("Heaviest route", "number"),
            Column("Share of the load", "number"),
            Column("In this plan"),
        ),
        (
            (
                words.whole(count),
                words.whole(load),
                share_of(load, total),
                "chosen" if count == len(plan.actions) else "",
            )
            for count, load in plan.pareto
        ),
    )


def _query(plan: Plan) -> Query:
    evidence = plan.evidence
    return Query(
        name=words.clean(evidence.name),
        dataset=words.clean(evidence.dataset),
        parameters=table(
            "parameters",
            "Parameters of the query",
            (Column("Name"), Column("Value", "key")),
            (
                (words.clean(name), words.clean(str(value)))
                for name, value in sorted(evidence.parameters.items())
            ),
        ),
        sql=words.clean(evidence.sql, SQL_CHARS_MAX, keep="\n\t"),
    )


def _commands(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Return commands and what they do; what comes from the document is quoted for a shell."""
    plan_id = plan.plan_id
    explain = _explain(plan_id, plan.actions)
    return (
        *explain,
        (f"workbench verify {plan_id}", "recompute the loads, check the proof, replay what came"),
        (f"workbench report {plan_id}", "write this page anew"),
    )


def _explain(plan_id: str, actions: Sequence[Action]) -> tuple[tuple[str, str], ...]:
    if not actions:
        return ()
    action_id = shlex.quote(words.clean(actions[0].action_id))
    return ((f"workbench explain {plan_id} {action_id}", "the numbers behind one action"),)
