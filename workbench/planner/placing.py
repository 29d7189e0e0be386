"""From a placement to actions: what is moved, what that costs, and what it brings.

    routes after the splits ──assign──▶ group of each ──▶ split-and-move, move ──▶ Placement

A right child that a split makes, and that is not split again, goes to its group with the split
itself. Everything else that changes group does so in a move of its own, after the splits,
heaviest first. Nothing moves where the heaviest group does not fall by `min_gain`, unless it is
on a group that is to be left.

Bytes are those that a route stores, where that is known. Where it is not, what moves is counted in
load to choose between placements, the plan says so, `bytes_moved` is None, and under a limit in
bytes nothing moves: nobody could tell whether it holds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate
from math import lcm
from typing import TYPE_CHECKING

from workbench.errors import InvalidInput
from workbench.model.keys import Span
from workbench.model.plan import Action, ActionKind, Evidence, RouteLoad
from workbench.model.plan_parts import STORED_BYTES, GroupLoad, Placement, PlacementProof
from workbench.model.routes import RouteState, next_route_id
from workbench.planner.assign import (
    FRONT_MAX,
    Assignment,
    Point,
    front,
    is_small,
    lower_bound,
    try_all,
    walk,
)
from workbench.planner.assign_solver import solve
from workbench.planner.blocks import UNMEETABLE
from workbench.planner.declined import floor_percent
from workbench.planner.words import BYTES_UNKNOWN, share_text

if TYPE_CHECKING:
    from workbench.model.plan import Limits
    from workbench.model.plan_parts import Stored
    from workbench.model.routes import RouteSnapshot
    from workbench.planner.assign_solver import Around
    from workbench.planner.atoms import Atoms


# Told spans that do not overlap, ascending, returns what each of them stores, in bytes.
SizesOf = Callable[[Sequence[Span]], Sequence[int]]


def sizes_by_atom(sizes: Atoms) -> SizesOf:
    """Return the sizes of spans where those of each key are known."""
    prefix = list(accumulate(sizes.loads, initial=0))

    def of_spans(spans: Sequence[Span]) -> list[int]:
        found = []
        for span in spans:
            low = bisect_left(sizes.keys, span.start)
            high = len(sizes.keys) if span.end is None else bisect_left(sizes.keys, span.end)
            found.append(prefix[high] - prefix[low])
        return found

    return of_spans


@dataclass(frozen=True, slots=True)
class Placed:
    """Actions and routes with their groups; why nothing moves, where nothing does.

    `withheld` is the same where moves are not to be proposed at all, whatever they would bring.
    """

    actions: tuple[Action, ...]
    routes: tuple[RouteLoad, ...]
    placement: Placement | None
    declined: str = ""
    withheld: str = ""


def place(  # noqa: PLR0913, PLR0917 - one call; all of it is read
    actions: tuple[Action, ...],
    routes: tuple[RouteLoad, ...],
    snapshot: RouteSnapshot,
    limits: Limits,
    sizes: SizesOf | None,
    stored: Stored | None = None,
    no_moves: str = "",
    around: Around = nullcontext,
) -> Placed:
    """Put the routes that the splits leave on groups.

    Args:
        actions: The splits.
        routes: What they leave, ascending.
        snapshot: The routes before.
        limits: `groups` empty means that nothing is to be placed.
        sizes: What spans store; None where it is not known.
        stored: Where that comes from.
        no_moves: Why the system could not make a move; empty where it can, or is not known.
        around: Open while a solver runs, which may print.

    Raises:
        InvalidInput: `limit_unmeetable`, `limit_unmeasured`; the message names the limit.
    """
    if not limits.groups:
        return Placed(actions, routes, None)
    given, groups = _problem(routes, snapshot, limits, sizes)
    points, proof = _solve(given, around)
    if not points:
        raise InvalidInput(
            f"--max-bytes-moved {limits.max_bytes_moved} cannot be met with --groups: leaving the "
            "groups that are not named takes more",
            code=UNMEETABLE,
            hint="allow more bytes, or name those groups too",
        )
    before = given.heaviest(given.home)
    best, declined = points[-1], ""
    withheld = no_moves
    if not withheld and limits.max_bytes_moved is not None and sizes is None:
        withheld = BYTES_UNKNOWN
    if withheld:
        declined = withheld
        if before is None:
            raise InvalidInput(
                f"--groups asks to leave a group, and {withheld}",
                code="limit_unmeasured" if not no_moves else UNMEETABLE,
                hint="name that group too",
            )
    elif before is not None and before - best.weighted < limits.min_gain * before:
        declined = (
            f"moves would lower the heaviest group by {floor_percent(before, best.weighted)}, "
            f"less than the {limits.min_gain:.0%} asked for"
        )
    elif before is not None and best.weighted >= before:
        declined = "no move lowers the heaviest group"
    if declined and before is not None:
        best, proof = Point(before, 0, given.home), PlacementProof.NONE
    bound = lower_bound(given)
    if proof is not PlacementProof.SEARCH and best.weighted == bound:
        proof = PlacementProof.BOUND
    placement = Placement(
        groups=_group_loads(given, groups, best),
        scale=given.scale,
        before=before,
        after=best.weighted,
        lower_bound=bound,
        proof=proof,
        unit="load" if sizes is None else STORED_BYTES,
        moved=best.moved,
        pareto=tuple((point.moved, point.weighted) for point in _thinned(points)),
        stored=stored,
    )
    placed = tuple(
        replace(route, group=groups[at]) for route, at in zip(routes, best.places, strict=True)
    )
    costs = {
        route.span: None if sizes is None else size
        for route, size in zip(routes, given.sizes, strict=True)
    }
    moved = _with_moves(actions, routes, placed, snapshot, costs)
    return Placed(moved, placed, placement, declined, withheld)


def _problem(
    routes: Sequence[RouteLoad], snapshot: RouteSnapshot, limits: Limits, sizes: SizesOf | None
) -> tuple[Assignment, list[int]]:
    """Return what is to be solved, and the groups' ids by index."""
    wanted = {each.group: each.weight for each in limits.groups}
    groups = sorted({*wanted, *(route.group for route in routes)})
    weights = tuple(wanted.get(group, 0) for group in groups)
    fixed = {route.span for route in snapshot.routes if route.state is not RouteState.ACTIVE}
    fixed |= {snapshot.routes[index].span for index in limits.fixed_routes}
    pinned = frozenset(index for index, route in enumerate(routes) if route.span in fixed)
    home = tuple(groups.index(route.group) for route in routes)
    stuck = [route for route in sorted(pinned) if not weights[home[route]]]
    if stuck:
        raise InvalidInput(
            f"--groups cannot be met: the route {routes[stuck[0]].span} is on group "
            f"{routes[stuck[0]].group}, which is not named, and must not be changed",
            code=UNMEETABLE,
            hint="name that group too",
        )
    cost = tuple(route.load for route in routes)
    if sizes is not None:
        cost = tuple(sizes([route.span for route in routes]))
    scale = lcm(*(weight for weight in weights if weight))
    loads = tuple(route.load for route in routes)
    cap = None if sizes is None else limits.max_bytes_moved
    return Assignment(loads, cost, home, pinned, weights, scale, cap), groups


def _solve(given: Assignment, around: Around) -> tuple[list[Point], PlacementProof]:
    """Return the front, lightest last, and why its end is least."""
    if is_small(given):
        return try_all(given), PlacementProof.SEARCH
    found, proof = walk(given), PlacementProof.NONE
    solved = solve(given, around)
    if solved is not None:
        found.append(solved[0])
    points = front(found)
    if solved is not None and solved[1] and points[-1].weighted == solved[0].weighted:
        proof = PlacementProof.SOLVER
    return points, proof


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most FRONT_MAX of the points, the first and the last among them."""
    if len(points) <= FRONT_MAX:
        return list(points)
    last = len(points) - 1
    return [points[i * last // (FRONT_MAX - 1)] for i in range(FRONT_MAX)]


def _group_loads(given: Assignment, groups: Sequence[int], best: Point) -> tuple[GroupLoad, ...]:
    before, after = given.group_loads(given.home), given.group_loads(best.places)
    rows = zip(groups, given.weights, before, after, strict=True)
    return tuple(GroupLoad(*row) for row in rows)


def _with_moves(
    actions: tuple[Action, ...],
    routes: Sequence[RouteLoad],
    placed: Sequence[RouteLoad],
    snapshot: RouteSnapshot,
    costs: dict[Span, int | None],
) -> tuple[Action, ...]:
    """Return the actions with those that move."""
    goes = {
        new.span: new for old, new in zip(routes, placed, strict=True) if old.group != new.group
    }
    ids = {route.span: route.route_id for route in snapshot.routes}
    new_id = next_route_id(snapshot.routes)
    done: list[Action] = []
    for number, action in enumerate(actions):
        left, right = action.children
        ids |= {left: new_id + 2 * number, right: new_id + 2 * number + 1}
        target = goes.pop(right, None)
        if target is None:
            done.append(action)
            continue
        done.append(
            replace(
                action,
                kind=ActionKind.SPLIT_AND_MOVE,
                target_group=target.group,
                rows_moved=None,
                bytes_moved=costs[right],
                reasons=(*action.reasons, f"its right part goes to group {target.group}"),
            )
        )
    heaviest = max(route.load for route in routes)
    total = max(sum(route.load for route in routes), 1)
    homes = {route.span: route.group for route in routes}
    ordered = sorted(goes.values(), key=lambda route: (-route.load, route.span.start))
    for number, route in enumerate(ordered):
        said = (
            f"route {ids[route.span]} carries {share_text(route.load, total)} of the load; "
            f"it goes from group {homes[route.span]} to group {route.group}"
        )
        done.append(
            Action(
                action_id=f"move-{number + 1:03d}",
                kind=ActionKind.MOVE,
                route_id=ids[route.span],
                span=route.span,
                split_key=route.span.start,
                target_group=route.group,
                expected_version=snapshot.catalog_version + len(actions) + number,
                rows_moved=None,
                bytes_moved=costs[route.span],
                reasons=(said,),
                evidence=Evidence(route.load, 0, route.load, heaviest, heaviest),
            )
        )
    return tuple(done)
