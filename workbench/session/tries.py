"""One try of a call, while it is made: what it was for, and what may be kept of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workbench.errors import Corruption
from workbench.model.keys import Span

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.errors import WorkbenchError
    from workbench.model.plan import Action
    from workbench.planner.execution import Call
    from workbench.ports.connector import SplitReceipt

ERROR_CHARS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Tried:
    """A call: what it was for, the route as it was, and when it began."""

    action: Action
    route_id: int
    group: int
    expected_version: int
    started_at: datetime


def tried_by(step: Call, started_at: datetime) -> Tried:
    """Return the try of a call that begins now."""
    split = step.split
    return Tried(
        step.action, split.route.route_id, split.route.group, split.expected_version, started_at
    )


def text_for_keeping(error: WorkbenchError) -> str:
    """Return an error for keeping: what a system sent may hold anything, and any amount of it."""
    line = " ".join(str(error).split())[:ERROR_CHARS_MAX]
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def check_children(action: Action, made: SplitReceipt) -> None:
    """Raise where the system answers that it split something else."""
    asked = (
        Span(action.span.start, action.split_key),
        Span(action.split_key, action.span.end),
    )
    if (made.left.span, made.right.span) != asked:
        raise Corruption(
            f"{action.action_id} was answered with the children {made.left.span} and "
            f"{made.right.span}, not {asked[0]} and {asked[1]}",
            code="answer_unexpected",
            hint="look at the routes: `workbench collect` reads them",
        )
