"""A plan as Markdown of a pull request's size: what is proposed, what it brings, how sure.

Keys go through `printable_key` and into code spans, so that nothing in them is markup. Long
lists are cut and say how many more there are; the document itself has all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.model.keys import printable_key
from workbench.model.plan import ActionKind
from workbench.model.times import rfc3339
from workbench.planner.words import (
    caution_sentence,
    certainty_sentences,
    declined_by_reason,
    further_sentence,
    headline,
    heavy_sentence,
    isolated_sentence,
    nothing_reason,
    placement_sentences,
    robust_sentence,
    target_text,
)
from workbench.report.words import clean, counted, percent

if TYPE_CHECKING:
    from workbench.model.plan import Action, Plan

ACTIONS_MAX: Final = 50
DECLINED_MAX: Final = 10


def plan_markdown(plan: Plan) -> str:
    """Return the plan as Markdown, ending with a line feed."""
    parts = [
        f"## Split plan `{plan.plan_id}` for `{clean(plan.cluster)}`",
        _answer(plan),
        *(_actions(plan) if plan.actions else []),
        *_proof(plan),
        *_heavy(plan),
        *_declined(plan),
        _footer(plan),
    ]
    return "\n\n".join(parts) + "\n"


def _answer(plan: Plan) -> str:
    window = f"load of {rfc3339(plan.since)} to {rfc3339(plan.until)}"
    if not plan.actions:
        return (
            f"Nothing to do: the hottest route carries {percent(plan.max_share_before)} of the "
            f"{plan.objective.name}, and {nothing_reason(plan)} ({window})."
        )
    caution = caution_sentence(plan)
    doubt = "" if caution is None else f" **{_sentence(caution)}**"
    said = headline(plan).removesuffix(" of the load")
    unit = f" of the {plan.objective.name}" if said != headline(plan) else ""
    return f"**{said}**{unit} ({window}).{doubt} There is no merge and no undo of a split."


def _actions(plan: Plan) -> list[str]:
    rows = [_row(action, plan.total_load) for action in plan.actions[:ACTIONS_MAX]]
    head = [
        "| action | route | group | split key | of the load | left | right | hottest | version |",
        "|---|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    table = "\n".join([*head, *rows])
    hidden = len(plan.actions) - len(rows)
    return [table, f"…and {counted(hidden, 'more action')}."] if hidden else [table]


def _row(action: Action, total: int) -> str:
    evidence = action.evidence
    halves = (evidence.left_load, evidence.right_load)
    # A move leaves its route whole.
    parts = ["" if action.kind is ActionKind.MOVE else percent(half / total) for half in halves]
    cells = [
        action.action_id,
        str(action.route_id),
        target_text(action),
        f"`{_code(printable_key(action.split_key))}`",
        percent(evidence.parent_load / total),
        *parts,
        percent(evidence.bottleneck_after / total),
        f"{action.expected_version} → {action.expected_version + 1}",
    ]
    return f"| {' | '.join(cells)} |"


def _proof(plan: Plan) -> list[str]:
    marks, unit = plan.bottleneck, plan.objective.name
    if not plan.actions:
        return [clean(_sentence(each)) for each in certainty_sentences(plan)]
    by = f"the least that {counted(plan.limits.max_splits, 'split')} can reach"
    if plan.robust is not None or plan.drift is not None:
        price = marks.after - plan.certificate["incremental"]["bottleneck"]
        by = f"{price:,} above the least for as many splits on this load"
    bound = (
        f"Bound: {marks.after:,} {unit} on the hottest route, {by}; {marks.optimum:,} if the whole "
        f"key space were cut anew into {counted(len(plan.routes_after), 'route')}; nothing goes "
        f"below {marks.lower_bound:,}. The plan carries the proof, `workbench verify` checks it."
    )
    further = further_sentence(plan)
    said = [] if further is None else [further]
    said += [robust_sentence(plan)] if plan.robust is not None else []
    said += [
        isolated_sentence(each, f"`{_code(printable_key(each.key))}`", plan.total_load)
        for each in plan.isolated
    ]
    said += [*placement_sentences(plan), *certainty_sentences(plan)]
    return [bound, *(clean(_sentence(each)) for each in said)]


def _sentence(text: str) -> str:
    """Return a clause as a sentence."""
    return f"{text[0].upper()}{text[1:]}."


def _heavy(plan: Plan) -> list[str]:
    if not plan.unsplittable:
        return []
    lines = []
    for atom in plan.unsplittable[:DECLINED_MAX]:
        key = f"`{_code(printable_key(atom.key))}`"
        lines.append(f"- {heavy_sentence(key, atom.load, plan.total_load, plan.atom_kind)}")
    return ["\n".join(["Unsplittable:", "", *lines])]


def _declined(plan: Plan) -> list[str]:
    reasons = declined_by_reason(plan)
    if not reasons:
        return []
    lines = [f"- {routes}: {reason}" for routes, reason in reasons[:DECLINED_MAX]]
    hidden = len(reasons) - len(lines)
    more = [f"- …and {counted(hidden, 'more reason')}"] if hidden else []
    return ["\n".join(["Left alone:", "", *lines, *more])]


def _footer(plan: Plan) -> str:
    return (
        f"Catalog version {plan.catalog_version}, {plan.atoms:,} {plan.atom_kind}s with load, "
        f"content hash `{plan.content_hash}`."
    ) + (f" Approve with `workbench approve {plan.plan_id}`." if plan.actions else "")


def _code(text: str) -> str:
    """Return text that may stand in a code span inside a table cell."""
    return text.replace("`", "'").replace("|", "\\|")
