"""Which group each route goes to: the lightest heaviest group, then the least that moves.

A load on a group counts by the group's weight: load * scale / weight, with `scale` the least
common multiple of the weights, so that all of it is whole numbers.

    few routes     every placement is tried: the least, its least cost, and the whole front
    many, solver   integer programming where SciPy is installed (`assign_solver`)
    many           largest first, and moves one at a time from the heaviest group: near the least

Whatever found it, `lower_bound` says how near: the mean, the heaviest route, and what the limit
on moving leaves on each group, taken as if routes could be moved in parts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TRIED_MAX: Final = 2**16
STEPS_PER_ROUTE_MAX: Final = 4
FRONT_MAX: Final = 64


@dataclass(frozen=True)
class Assignment:
    """Routes, where they are, and where they may go.

    Attributes:
        loads: Load of each route.
        sizes: What moving it costs.
        home: Index of the group that it is on.
        pinned: Routes that stay.
        weights: By group; 0 for one that must be left.
        scale: Least common multiple of the weights over 0.
        cap: At most so much is moved; None for no limit.
    """

    loads: tuple[int, ...]
    sizes: tuple[int, ...]
    home: tuple[int, ...]
    pinned: frozenset[int]
    weights: tuple[int, ...]
    scale: int
    cap: int | None = None

    @property
    def targets(self) -> list[int]:
        """Groups that routes may go to."""
        return [group for group, weight in enumerate(self.weights) if weight]

    @property
    def movable(self) -> list[int]:
        """Routes worth moving or bound to move, heaviest first."""
        free = [
            route
            for route, load in enumerate(self.loads)
            if route not in self.pinned and (load or not self.weights[self.home[route]])
        ]
        return sorted(free, key=lambda route: (-self.loads[route], route))

    def weighted(self, group: int, load: int) -> int:
        """Return a load on a group of weight over 0 by its weight."""
        return load * self.scale // self.weights[group]

    def group_loads(self, places: Sequence[int]) -> list[int]:
        """Return the load of each group where route i is on group places[i]."""
        loads = [0] * len(self.weights)
        for route, group in enumerate(places):
            loads[group] += self.loads[route]
        return loads

    def heaviest(self, places: Sequence[int]) -> int | None:
        """Return the heaviest weighted group; None where a group that must be left is not."""
        if any(not self.weights[group] for group in places):
            return None
        loads = self.group_loads(places)
        return max(self.weighted(group, loads[group]) for group in self.targets)

    def moved(self, places: Sequence[int]) -> int:
        """Return what moving from home to `places` costs."""
        pairs = enumerate(zip(self.home, places, strict=True))
        return sum(self.sizes[route] for route, (home, group) in pairs if home != group)


@dataclass(frozen=True, order=True)
class Point:
    """A placement: its heaviest weighted group, what it moves, and where the routes are."""

    weighted: int
    moved: int
    places: tuple[int, ...]


def lower_bound(given: Assignment) -> int:
    """Return a weighted load below which no placement within the limits is."""
    top = max(given.weights)
    bound = ceil(Fraction(sum(given.loads) * given.scale, sum(given.weights)))
    for route, load in enumerate(given.loads):
        weight = given.weights[given.home[route]] if route in given.pinned else top
        bound = max(bound, ceil(Fraction(load * given.scale, weight)))
    if given.cap is None:
        return bound
    for group in given.targets:
        mine = [route for route, home in enumerate(given.home) if home == group]
        stays = sum(given.loads[route] for route in mine) - _relief(given, mine, given.cap)
        bound = max(bound, ceil(stays * given.scale / given.weights[group]))
    return bound


def _relief(given: Assignment, routes: Sequence[int], cap: int) -> Fraction:
    """Return the most load that moving for `cap` can take, if routes could be parted."""
    free = [route for route in routes if route not in given.pinned and given.loads[route]]
    free.sort(key=lambda r: (Fraction(given.sizes[r], given.loads[r]), r))
    taken, left = Fraction(0), cap
    for route in free:
        size, load = given.sizes[route], given.loads[route]
        if size > left:
            return taken + Fraction(load * left, size)
        taken, left = taken + load, left - size
    return taken


def is_small(given: Assignment) -> bool:
    """Tell whether every placement can be tried."""
    tried = 1
    for _ in given.movable:
        tried *= len(given.targets)
        if tried > TRIED_MAX:
            return False
    return True


def try_all(given: Assignment) -> list[Point]:
    """Return the front over all placements: least moved first, each lighter than the one before.

    Empty where the limit on moving permits none.
    """
    movable, targets = given.movable, given.targets
    places = list(given.home)
    loads = given.group_loads(places)
    for route in movable:
        loads[given.home[route]] -= given.loads[route]
    best: dict[int, Point] = {}

    def visit(depth: int, moved: int) -> None:
        if given.cap is not None and moved > given.cap:
            return
        if depth == len(movable):
            if any(not given.weights[group] for group in places):
                return
            weighted = max(given.weighted(group, loads[group]) for group in targets)
            if moved not in best or weighted < best[moved].weighted:
                best[moved] = Point(weighted, moved, tuple(places))
            return
        route = movable[depth]
        for group in targets:
            places[route] = group
            loads[group] += given.loads[route]
            visit(depth + 1, moved + (given.sizes[route] if group != given.home[route] else 0))
            loads[group] -= given.loads[route]
        places[route] = given.home[route]

    visit(0, 0)
    return front(best.values())


def front(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other beats in both, least moved first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.moved, p.weighted, p.places)):
        if not kept or point.weighted < kept[-1].weighted:
            kept.append(point)
    return kept


def walk(given: Assignment) -> list[Point]:
    """Return placements found by moving one route after the other off the heaviest group."""
    walker = _Walker(given, list(given.home))
    points = walker.points()
    # Another start, which forgets where the routes are: better where much must move anyway.
    points += _Walker(given, _largest_first(given)).points()
    return [p for p in points if given.cap is None or p.moved <= given.cap]


def _largest_first(given: Assignment) -> list[int]:
    """Return the placement that puts the heaviest route on the lightest group, in turn."""
    places = list(given.home)
    loads = given.group_loads(places)
    movable = given.movable
    for route in movable:
        loads[places[route]] -= given.loads[route]
    for route in movable:
        load = given.loads[route]
        group = min(
            given.targets,
            key=lambda g: (given.weighted(g, loads[g] + load), g != given.home[route], g),
        )
        places[route] = group
        loads[group] += load
    return places


class _Walker:
    """One walk from a placement: moves and swaps, each of which lightens the heaviest group."""

    def __init__(self, given: Assignment, places: list[int]) -> None:
        self.given = given
        self.places = places
        self.loads = given.group_loads(places)
        self.members: list[list[tuple[int, int]]] = [[] for _ in given.weights]
        for route in given.movable:
            insort(self.members[places[route]], (given.loads[route], route))

    def points(self) -> list[Point]:
        """Walk until no step helps; return every placement on the way that is allowed."""
        found: list[Point] = []
        moved = self.given.moved(self.places)
        for _ in range(STEPS_PER_ROUTE_MAX * len(self.given.loads) + 1):
            left = any(self.members[g] for g, weight in enumerate(self.given.weights) if not weight)
            if not left and (weighted := self.given.heaviest(self.places)) is not None:
                found.append(Point(weighted, moved, tuple(self.places)))
            step = self._leave() if left else self._lighten()
            if step is None:
                break
            moved += self._move(*step)
            if self.given.cap is not None and moved > self.given.cap:
                break
        return found

    def _move(self, route: int, group: int) -> int:
        """Move a route and return what that adds to the cost."""
        given, load, old = self.given, self.given.loads[route], self.places[route]
        before, after = (0 if g == given.home[route] else given.sizes[route] for g in (old, group))
        self.members[old].pop(bisect_left(self.members[old], (load, route)))
        insort(self.members[group], (load, route))
        self.loads[old] -= load
        self.loads[group] += load
        self.places[route] = group
        return after - before

    def _leave(self) -> tuple[int, int] | None:
        """Return the heaviest route of a group that must be left, and the lightest group."""
        given = self.given
        old = next(g for g, weight in enumerate(given.weights) if not weight and self.members[g])
        load, route = self.members[old][-1]
        return route, min(given.targets, key=lambda g: (given.weighted(g, self.loads[g] + load), g))

    def _lighten(self) -> tuple[int, int] | None:
        """Return the step off the heaviest group that leaves both groups lightest."""
        given = self.given
        weighted = {g: given.weighted(g, self.loads[g]) for g in given.targets}
        heavy = max(given.targets, key=lambda g: (weighted[g], -g))
        steps: list[tuple[int, int, int]] = []
        for group in given.targets:
            if group == heavy or not self.members[heavy]:
                continue
            a, b = given.weights[heavy], given.weights[group]
            ideal = (self.loads[heavy] * b - self.loads[group] * a) // (a + b)
            at = bisect_left(self.members[heavy], (ideal + 1, -1))
            for load, route in self.members[heavy][max(at - 1, 0) : at + 1]:
                worse = max(
                    given.weighted(heavy, self.loads[heavy] - load),
                    given.weighted(group, self.loads[group] + load),
                )
                if load and worse < weighted[heavy]:
                    steps.append((worse, route, group))
        return min(steps)[1:] if steps else None
