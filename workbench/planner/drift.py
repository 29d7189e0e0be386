"""What a plan does about load that moves: the tail cut of a front, and cuts for the worst phase.

    patterns ──▶ Drift ──┬─ moving front   one cut above all that was seen: what comes lands on a
                         │                 route of its own; no cut inside what was seen
                         └─ cyclic         three cycles or more: cuts that are best in the worst
                                           phase (`phases`), where that is better there by
                                           `min_gain` than cuts for the sum

A front that takes half of what comes, or more, is the hottest route to come wherever else is cut:
no other split can lower it, and splits cannot be undone. So it gets its cut and nothing else, and
that only where it would have lowered the hottest route of the newest parts by `min_gain`: a front
that takes all of what comes is as hot on a new route as on the old one. The cut is at the first
possible key after the last one seen; with buckets, at the start of the last one that carried load,
since nobody knows where in it the front is.

Only `robust` plans so; `exact` fits the recorded load. docs/adr/0015 says why, with figures.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.model.plan import Action, ActionKind, Evidence, RouteLoad
from workbench.model.plan_parts import Drifted, DriftKind, DriftPart, Finding
from workbench.model.routes import RouteState, next_route_id
from workbench.planner.atoms import routed
from workbench.planner.blocks import allowed
from workbench.planner.decide import ROBUST, heaviest
from workbench.planner.phases import Phases, phase_cuts, phase_optimum
from workbench.planner.words import share_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.plan import Limits
    from workbench.model.routes import RouteDescriptor, RouteSnapshot
    from workbench.planner.atoms import Atoms
    from workbench.planner.blocks import Blocks
    from workbench.planner.decide import Decision
    from workbench.planner.patterns import Drift

# What came back once may have done so by chance; it is told, and not planned for.
REPEATED: Final = 3


@dataclass(frozen=True, slots=True)
class DriftChoice:
    """What is done about drift.

    Attributes:
        decision: What is cut between atoms.
        drifted: What the plan document says of it; None where the plan is as without drift.
        phases: The load by phase that the cuts are best for; None for a front.
        tail: Where the tail cut is; None where there is none.
        ahead: What it would have done to the newest load, as a clause; empty without a front.
        findings: Why nothing is done, where a pattern was seen.
    """

    decision: Decision
    drifted: Drifted | None = None
    phases: Phases | None = None
    tail: bytes | None = None
    ahead: str = ""
    findings: tuple[Finding, ...] = ()


def act_on(  # noqa: PLR0913 - the question's own parts, named
    drift: Drift | None,
    decision: Decision,
    *,
    policy: str,
    blocks: Blocks,
    atoms: Atoms,
    routes: Sequence[RouteDescriptor],
    limits: Limits,
) -> DriftChoice:
    """Return what is cut once drift is taken into account.

    Args:
        drift: What was seen; None where nothing was.
        decision: What the policy cuts without it.
        policy: `robust` or `exact`.
        blocks: The load.
        atoms: The same by atom.
        routes: The routes before.
        limits: What the planner may do.
    """
    if drift is None or policy != ROBUST:
        return DriftChoice(decision)
    if drift.kind is DriftKind.CYCLIC:
        return _worst_phase(drift, decision, blocks, atoms, routes, limits)
    return _front(drift, decision, blocks, atoms, routes, limits)


def _worst_phase(  # noqa: PLR0913, PLR0917 - leaf of act_on, one call
    drift: Drift,
    decision: Decision,
    blocks: Blocks,
    atoms: Atoms,
    routes: Sequence[RouteDescriptor],
    limits: Limits,
) -> DriftChoice:
    if limits.min_span_load:
        return _as_without(decision, "cuts for the worst phase do not know --min-span-load")
    if decision.splits == 0:
        return _as_without(decision, "no splits are left")
    if len(drift.slices) < REPEATED * drift.period:
        return _as_without(decision, f"fewer than {REPEATED} cycles were seen, which may be chance")
    slices = [routed(each.atoms, routes) for each in drift.slices]
    starts = [atoms.keys[first] for first in blocks.firsts[:-1]]
    rows = [_row(starts, slices[phase :: drift.period]) for phase in range(drift.period)]
    recorded = decision.recorded
    phases = Phases(rows, recorded.bounds, recorded.fixed)
    reached = phase_optimum(phases, decision.splits)
    cuts = phase_cuts(phases, reached)
    before = Phases(rows, blocks.segments.bounds).heaviest()
    # Where the policy proposes nothing for the sum there is still something to compare with.
    of_sum = phases.heaviest(decision.cuts)
    if before - reached < limits.min_gain * before or not cuts:
        return _as_without(decision, "no cuts lower the hottest route of the worst phase by enough")
    if of_sum - reached < limits.min_gain * of_sum:
        return _as_without(decision, "cuts for the sum are good enough in the worst phase")
    chosen = tuple(sorted([*decision.isolation.cuts, *cuts]))
    drifted = Drifted(
        kind=DriftKind.CYCLIC,
        parts=_parts(drift, slices),
        period=drift.period,
        worst_before=before,
        worst_after=reached,
        worst_of_sum=of_sum,
        sum_cuts=tuple(starts[cut] for cut in decision.cuts),
    )
    made = replace(
        decision,
        weights=None,
        choice=None,
        worth=True,
        cuts=chosen,
        reached=heaviest(blocks.segments, chosen),
        made=len(cuts),
    )
    return DriftChoice(made, drifted, phases)


def _as_without(decision: Decision, why: str) -> DriftChoice:
    text = f"the plan evens out the sum of the phases: {why}"
    return DriftChoice(decision, findings=(Finding("cyclic", text),))


def _row(starts: Sequence[bytes], parts: Sequence[Atoms]) -> list[int]:
    """Return the prefix sums by block of the load of several parts of the window.

    An atom of a part lies in one block of the whole: with fewer windows fewer buckets overlap.
    """
    loads = [0] * len(starts)
    for part in parts:
        for key, load in zip(part.keys, part.loads, strict=True):
            loads[bisect_right(starts, key) - 1] += load
    return list(accumulate(loads, initial=0))


def _parts(drift: Drift, slices: Sequence[Atoms]) -> tuple[DriftPart, ...]:
    return tuple(
        DriftPart(each.start, each.start + drift.length, sum(atoms.loads))
        for each, atoms in zip(drift.slices, slices, strict=True)
    )


def _front(  # noqa: PLR0913, PLR0917 - leaf of act_on, one call
    drift: Drift,
    decision: Decision,
    blocks: Blocks,
    atoms: Atoms,
    routes: Sequence[RouteDescriptor],
    limits: Limits,
) -> DriftChoice:
    """Return the tail cut, or why there is none; nothing else is cut but isolated keys."""
    last = max(each.atoms.keys[-1] for each in drift.slices)
    index = next((i for i, route in enumerate(routes) if last in route.span), None)
    if index is None:
        return DriftChoice(decision)
    slices = [routed(each.atoms, routes) for each in drift.slices]
    tail, why = None, _hindrance(drift, decision, blocks, index, routes[index], limits)
    if not why:
        tail, why = _tail_key(last, atoms, routes[index].span, limits)
    ahead = _ahead(drift, slices, routes, index)
    if tail is not None and not ahead.pays(limits.min_gain):
        tail, why = None, f"{ahead.sentence()}, less than the {limits.min_gain:.0%} asked for"
    findings: tuple[Finding, ...] = ()
    if tail is None:
        findings = (Finding(DriftKind.MOVING_FRONT.value, f"there is no tail cut: {why}"),)
    made = replace(
        decision,
        weights=None,
        choice=None,
        worth=tail is not None,
        cuts=decision.isolation.cuts,
        reached=heaviest(blocks.segments, decision.isolation.cuts),
        made=int(tail is not None),
    )
    drifted = Drifted(DriftKind.MOVING_FRONT, _parts(drift, slices), tail=tail, beyond=drift.beyond)
    return DriftChoice(made, drifted, tail=tail, ahead=ahead.sentence(), findings=findings)


@dataclass(frozen=True, slots=True)
class Ahead:
    """The hottest route of the newest parts, which is the best guess at what comes.

    Attributes:
        parts: How many parts.
        before: Its load without the tail cut.
        after: Its load with it.
        total: The load of those parts.
    """

    parts: int
    before: int
    after: int
    total: int

    def pays(self, min_gain: float) -> bool:
        """Tell whether the cut lowers it by this fraction, and at all."""
        return self.before - self.after >= max(min_gain * self.before, 1)

    def sentence(self) -> str:
        """Return what the cut would have done, as a clause."""
        before, after = (share_text(load, self.total) for load in (self.before, self.after))
        return (
            f"on what came in the newest {self.parts} parts of the window it would have taken the "
            f"hottest route from {before} to {after}"
        )


def _ahead(
    drift: Drift, slices: Sequence[Atoms], routes: Sequence[RouteDescriptor], index: int
) -> Ahead:
    """Return what a tail cut of a route would have done to the newest parts."""
    newest = slices[-len(drift.beyond) :]
    starts = [route.span.start for route in routes]
    loads = [0] * len(routes)
    for atoms in newest:
        for key, load in zip(atoms.keys, atoms.loads, strict=True):
            loads[bisect_right(starts, key) - 1] += load
    front = min(sum(drift.beyond), loads[index])
    parted = [*loads[:index], loads[index] - front, front, *loads[index + 1 :]]
    return Ahead(len(newest), max(loads), max(parted), sum(loads))


def _hindrance(  # noqa: PLR0913, PLR0917 - leaf of _front, one call
    drift: Drift,
    decision: Decision,
    blocks: Blocks,
    index: int,
    route: RouteDescriptor,
    limits: Limits,
) -> str:
    """Return why the front's route is not cut, or nothing."""
    if route.state is not RouteState.ACTIVE or index in blocks.segments.fixed:
        return "the front's route must not be split"
    if decision.splits == 0:
        return "no splits are left"
    if limits.min_span_load:
        return "a route for what comes carries nothing yet, which --min-span-load forbids"
    older = drift.slices[: -len(drift.beyond)]
    if not any(key in route.span for each in older for key in each.atoms.keys):
        return "the front has a route of its own already"
    return ""


def _tail_key(last: bytes, atoms: Atoms, span: Span, limits: Limits) -> tuple[bytes | None, str]:
    """Return the first key at which a cut parts what comes from what was seen; else why not.

    Args:
        last: The highest key with load.
        atoms: The load.
        span: The route that holds it.
        limits: What the planner may do.
    """
    boundaries = limits.boundaries
    key: bytes | None
    if atoms.kind != "key":
        key = atoms.keys[bisect_right(atoms.keys, last) - 1]
    elif boundaries is None or (
        boundaries.prefix_bytes is not None and len(last) < boundaries.prefix_bytes
    ):
        key = last + b"\x00"
    elif boundaries.prefix_bytes is not None:
        key = _after_prefix(last[: boundaries.prefix_bytes])
    else:
        at = bisect_right(boundaries.keys, last)
        key = boundaries.keys[at] if at < len(boundaries.keys) else None
    if key is None or key == span.start or key not in span or len(key) > KEY_BYTES_MAX:
        return None, "no key above what was seen lies inside the front's route"
    if not allowed(key, limits):
        return None, "--forbid or --boundaries allow no cut there"
    return key, ""


def _after_prefix(prefix: bytes) -> bytes | None:
    """Return the first key above all that begin with `prefix`; None where there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def with_tail(
    actions: tuple[Action, ...],
    after: tuple[RouteLoad, ...],
    choice: DriftChoice,
    atoms: Atoms,
    snapshot: RouteSnapshot,
) -> tuple[tuple[Action, ...], tuple[RouteLoad, ...]]:
    """Return the splits and what they leave, with the tail cut as the last split."""
    key, drifted = choice.tail, choice.drifted
    if key is None or drifted is None:
        return actions, after
    at = next(index for index, route in enumerate(after) if key in route.span)
    parent = after[at]
    low, cut, high = (
        bisect_left(atoms.keys, bound) for bound in (parent.span.start, key, parent.span.end or key)
    )
    high = len(atoms.keys) if parent.span.end is None else high
    left, right = sum(atoms.loads[low:cut]), sum(atoms.loads[cut:high])
    halves = (
        RouteLoad(Span(parent.span.start, key), parent.group, left),
        RouteLoad(Span(key, parent.span.end), parent.group, right),
    )
    routes = (*after[:at], *halves, *after[at + 1 :])
    before, bottleneck = (max(route.load for route in each) for each in (after, routes))
    route_id = _id_of(parent.span, actions, snapshot)
    total = sum(route.load for route in after)
    newest = drifted.parts[-len(drifted.beyond) :]
    share = min(b / part.load for b, part in zip(drifted.beyond, newest, strict=True))
    carried = share_text(left + right, total)
    promise = (
        "what comes lands on a route of its own: of each of the newest "
        f"{len(newest)} parts of the window at least {share:.0%} lay beyond every key seen before"
    )
    said = (
        f"route {route_id} carries {carried} of the load and holds a moving front",
        promise,
        f"{choice.ahead}; the nodes feel it once the new route is on another group",
    )
    action = Action(
        action_id=f"split-{len(actions) + 1:03d}",
        kind=ActionKind.SPLIT,
        route_id=route_id,
        span=parent.span,
        split_key=key,
        target_group=None,
        expected_version=snapshot.catalog_version + len(actions),
        rows_moved=0,
        bytes_moved=0,
        reasons=said,
        evidence=Evidence(left + right, left, right, before, bottleneck),
    )
    return (*actions, action), routes


def _id_of(span: Span, actions: Sequence[Action], snapshot: RouteSnapshot) -> int:
    """Return the id of a route when all actions are done."""
    ids = {route.span: route.route_id for route in snapshot.routes}
    new_id = next_route_id(snapshot.routes)
    for number, action in enumerate(actions):
        for side, child in enumerate(action.children):
            ids[child] = new_id + 2 * number + side
    return ids[span]
