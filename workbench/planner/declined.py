"""Why routes are left alone: one sentence for each route that is neither split nor moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.model.plan import Declined
from workbench.model.plan_parts import DriftKind
from workbench.model.routes import RouteState
from workbench.planner.words import share_text, splits_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.plan import Action
    from workbench.model.plan_parts import Drifted
    from workbench.model.routes import RouteDescriptor
    from workbench.planner.atoms import Atoms
    from workbench.planner.blocks import Blocks
    from workbench.planner.decide import Decision

FRONT: Final = (
    "a moving front takes half of what comes or more: no split of what was seen lowers the "
    "hottest route to come"
)


def declined_routes(  # noqa: PLR0913, PLR0917 - one call; all of it is read
    routes: Sequence[RouteDescriptor],
    atoms: Atoms,
    blocks: Blocks,
    decision: Decision,
    actions: Sequence[Action],
    min_gain: float,
    moves: str,
    drifted: Drifted | None = None,
) -> tuple[Declined, ...]:
    """Return for every route that is neither split nor moved the reason why.

    Args:
        routes: The routes before.
        atoms: The load.
        blocks: The same by block.
        decision: What was chosen.
        actions: The splits and the moves.
        min_gain: What was asked for.
        moves: Why nothing is moved; empty where something is, or nothing was to be.
        drifted: What is done about load that moves.
    """
    acted_on = {action.route_id for action in actions}
    also = f"; {moves}" if moves else ""
    is_front = drifted is not None and drifted.kind is DriftKind.MOVING_FRONT

    def reason(route: RouteDescriptor, index: int) -> str:
        if is_front and not _barred(route, index, blocks, decision, ""):
            return FRONT
        return _reason(route, index, min_gain, blocks, decision, atoms)

    return tuple(
        Declined(route.route_id, reason(route, index) + also)
        for index, route in enumerate(routes)
        if route.route_id not in acted_on
    )


def _reason(  # noqa: PLR0913, PLR0917 - leaf of declined_routes, one call
    route: RouteDescriptor,
    index: int,
    min_gain: float,
    blocks: Blocks,
    decision: Decision,
    atoms: Atoms,
) -> str:
    segments = blocks.segments
    total = segments.total
    share = f"{share_text(segments.loads[index], total)} of the load"
    barred = _barred(route, index, blocks, decision, share)
    if barred:
        return barred
    splits, tail = decision.splits, _one_atom(blocks, index, atoms)
    if not decision.worth:
        fall = floor_percent(segments.heaviest, decision.reached)
        return (
            f"{splits_text(splits)} would lower the hottest route by {fall}, "
            f"less than the {min_gain:.0%} asked for"
        ) + tail
    least = share_text(decision.reached, total)
    if decision.choice is None and decision.made is None:
        return (
            "splitting it does not lower the hottest route, which "
            f"{splits_text(splits)} can bring to {least} at the least"
        ) + tail
    return f"it carries {share}, and the splits do more on other routes" + tail


def _barred(
    route: RouteDescriptor, index: int, blocks: Blocks, decision: Decision, share: str
) -> str:
    """Return why a route could not be split at all, or nothing."""
    if route.state is not RouteState.ACTIVE:
        return f"its state is {route.state}; only ACTIVE routes are split"
    if index in blocks.segments.fixed:
        return f"it is not hot ({share}), and only hot routes were asked for"
    if blocks.segments.loads[index] == 0:
        return "it has no load"
    if decision.splits + len(decision.isolation.cuts) == 0:
        return f"it carries {share}, and no splits are allowed"
    return ""


def floor_percent(before: int, after: int) -> str:
    """Return the fall in per cent, rounded down, so that it never reads as a limit it missed."""
    return f"{(before - after) * 1_000 // before / 10:.1f}%"


def _one_atom(blocks: Blocks, index: int, atoms: Atoms) -> str:
    """Return a clause where most of a route's load sits on one atom, else nothing."""
    segments = blocks.segments
    first, last = (blocks.firsts[bound] for bound in segments.bounds[index : index + 2])
    heaviest = max(atoms.loads[first:last])
    if heaviest * 2 <= segments.loads[index]:
        return ""
    share = share_text(heaviest, segments.total)
    if atoms.kind == "key":
        return f"; one key alone carries {share} and cannot be split"
    return f"; one bucket alone carries {share}, finer evidence could tell more"
