"""The verifier's own check of where a plan puts its routes; shares no code with the planner.

Groups are followed through the actions; loads, costs and the lower bound are computed anew; where
the placements are few, all of them are tried again.
"""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction
from itertools import pairwise, product
from math import ceil, gcd
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    SpanPair = tuple[bytes, bytes | None]

# As many placements are tried: docs/formats/plan.md.
TRIED_MAX: Final = 65_536
FRONT_MAX: Final = 64


class GroupCheck:
    """One check of `placement`, and of the groups of actions and routes.

    `expect` is told each claim, what the plan says, and what was found.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        load_of: Callable[[SpanPair], int],
        sizes: Sequence[tuple[bytes, int]] | None,
        expect: Callable[[str, object, object], None],
    ) -> None:
        self.document = document
        self.load_of = load_of
        self.sizes = sizes
        self.expect = expect
        self.after = [_span(route) for route in document["routes_after"]]
        self.end = [route["group"] for route in document["routes_after"]]
        before = [(_span(route), int(route["group"])) for route in document["routes_before"]]
        self.before = sorted(before, key=lambda each: each[0][0])
        self.home = [self._home(span) for span in self.after]

    def run(self) -> None:
        """Check everything."""
        self._follow()
        placed, wanted = self.document["placement"], self.document["limits"]["groups"]
        self.expect("placement", placed is not None, bool(wanted))
        if placed is None or not wanted:
            self.expect("groups of routes_after", self.end, self.home)
            return
        weights = {each["group"]: each["weight"] for each in wanted}
        groups = sorted({*weights, *self.home})
        loads = [self.load_of(span) for span in self.after]
        costs = [self._cost(span, load) for span, load in zip(self.after, loads, strict=True)]
        scale = 1
        for weight in weights.values():
            scale = scale * weight // gcd(scale, weight)
        self.expect("placement.scale", placed["scale"], scale)
        units = {"load"} if self.sizes is None else {"stored_bytes", "bytes"}
        unit = placed["unit"]
        self.expect("placement.unit", unit, unit if unit in units else min(units))
        told = unit == "stored_bytes"
        self.expect("placement.stored", placed.get("stored") is not None, told)
        found = [
            {
                "group": group,
                "weight": weights.get(group, 0),
                "before": _on(self.home, loads, group),
                "after": _on(self.end, loads, group),
            }
            for group in groups
        ]
        self.expect("placement.groups", placed["groups"], found)
        world = _World(self, groups, [weights.get(g, 0) for g in groups], loads, costs, scale)
        world.check(placed)

    def _home(self, span: SpanPair) -> int:
        """Return the group of the route of the plan's start that holds the span."""
        at = bisect_right(self.before, span[0], key=lambda each: each[0][0]) - 1
        if at >= 0:
            (_, end), group = self.before[at]
            if end is None or span[0] < end:
                return group
        raise ValueError("a route of routes_after lies in no route of routes_before")

    def _follow(self) -> None:
        """Check kinds, targets and costs of the actions, and where they leave the routes."""
        groups = {_span(route): route["group"] for route in self.document["routes_before"]}
        for action in self.document["actions"]:
            span, key, kind = _span(action), bytes.fromhex(action["split_key"]), action["kind"]
            name, group = f"action {action['id']}", groups.pop(span, None)
            target = action["target_group"]
            self.expect(f"{name}: target_group", target is None, kind == "split")
            goes = span if kind == "move" else (key, span[1])
            if kind != "move":
                groups[span[0], key] = group
            groups[goes] = group if target is None else target
            moved: int | None = 0
            if kind != "split":
                moved = None if self.sizes is None else self._cost(goes, 0)
            self.expect(f"{name}: bytes_moved", action["bytes_moved"], moved)
            rows = 0 if kind == "split" else None
            self.expect(f"{name}: rows_moved", action["rows_moved"], rows)
        ends = [groups.get(span) for span in self.after]
        self.expect("groups of routes_after", self.end, ends)

    def _cost(self, span: SpanPair, load: int) -> int:
        if self.sizes is None:
            return load
        start, end = span
        return sum(size for key, size in self.sizes if start <= key and (end is None or key < end))

    def pinned(self) -> set[int]:
        """Return the routes that must not be changed."""
        fixed = {
            _span(self.document["routes_before"][index])
            for index in self.document["limits"]["fixed_routes"]
        }
        return {index for index, span in enumerate(self.after) if span in fixed}


class _World:
    """The routes after a plan, their costs, and the groups."""

    def __init__(  # noqa: PLR0913, PLR0917 - one call
        self,
        check: GroupCheck,
        groups: list[int],
        weights: list[int],
        loads: list[int],
        costs: list[int],
        scale: int,
    ) -> None:
        self.expect = check.expect
        self.loads, self.costs, self.weights, self.scale = loads, costs, weights, scale
        self.home = [groups.index(group) for group in check.home]
        self.end = [groups.index(group) for group in check.end]
        self.pinned = check.pinned()
        # A limit in bytes that nobody can check keeps everything where it is.
        limit = check.document["limits"]["max_bytes_moved"]
        self.unchecked = limit is not None and check.sizes is None
        self.cap = None if self.unchecked else limit

    def check(self, placed: Mapping[str, Any]) -> None:
        """Check the numbers of a placement."""
        before, after = self.heaviest(self.home), self.heaviest(self.end)
        moved, bound = self.moved(self.end), self.bound()
        self.expect("placement.before", placed["before"], before)
        self.expect("placement.after", placed["after"], after)
        self.expect("placement.moved", placed["moved"], moved)
        self.expect("placement.lower_bound", placed["lower_bound"], bound)
        stay = all(self.home[index] == self.end[index] for index in self.pinned)
        self.holds("routes that must stay do", stay)
        self.holds("moved is within the limit", self.cap is None or moved <= self.cap)
        if self.unchecked:
            self.holds("nothing moves under a limit that cannot be checked", self.home == self.end)
        front = [(each["moved"], each["weighted"]) for each in placed["pareto"]]
        falls = all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(front))
        self.holds("pareto is a front", falls and bool(front))
        small = self.tried()
        if placed["proof"] == "bound":
            self.expect("placement.after (proven by the bound)", placed["after"], bound)
        elif placed["proof"] == "search":
            self.holds("few enough to try all", small is not None)
        elif placed["proof"] not in {"solver", "none"}:
            self.expect("placement.proof", placed["proof"], "none")
        if small is None:
            self.holds("pareto keeps the bound", front[-1][1] >= bound)
            return
        if len(small) > FRONT_MAX:
            last = len(small) - 1
            small = [small[i * last // (FRONT_MAX - 1)] for i in range(FRONT_MAX)]
        self.expect("placement.pareto", front, small)
        if placed["proof"] == "search":
            self.expect("placement (the least)", (moved, after), small[-1])

    def holds(self, claim: str, found: bool) -> None:  # noqa: FBT001 - what was found
        """Record a claim that is true or false as a whole."""
        self.expect(f"placement: {claim}", "so", "so" if found else "otherwise")

    def heaviest(self, places: Sequence[int]) -> int | None:
        """Return the heaviest weighted group; None where one that must be left is not."""
        if any(self.weights[group] == 0 for group in places):
            return None
        sums = [0] * len(self.weights)
        for load, group in zip(self.loads, places, strict=True):
            sums[group] += load
        pairs = zip(sums, self.weights, strict=True)
        return max(load * self.scale // weight for load, weight in pairs if weight)

    def moved(self, places: Sequence[int]) -> int:
        """Return what changes group."""
        rows = zip(self.costs, self.home, places, strict=True)
        return sum(cost for cost, home, group in rows if home != group)

    def bound(self) -> int:
        """Return max(mean, heaviest route, what the limit on moving leaves on a group)."""
        scale, top = self.scale, max(self.weights)
        least = [Fraction(sum(self.loads) * scale, sum(self.weights))]
        for index, load in enumerate(self.loads):
            weight = self.weights[self.home[index]] if index in self.pinned else top
            least.append(Fraction(load * scale, weight))
        for group, weight in enumerate(self.weights):
            if weight and self.cap is not None:
                least.append(
                    (_on(self.home, self.loads, group) - self._gone(group)) * scale / weight
                )
        return max(ceil(each) for each in least)

    def _gone(self, group: int) -> Fraction:
        """Return the most load that can leave a group within the limit, routes parted at will."""
        mine = [
            (self.costs[i], self.loads[i])
            for i, home in enumerate(self.home)
            if home == group and i not in self.pinned and self.loads[i]
        ]
        gone, left = Fraction(0), Fraction(self.cap or 0)
        for cost, load in sorted(mine, key=lambda pair: Fraction(pair[0], pair[1])):
            part = Fraction(1) if cost <= left else left / cost
            gone += load * part
            left -= cost * part
        return gone

    def tried(self) -> list[tuple[int, int]] | None:
        """Return the front over all placements; None where they are too many."""
        targets = [group for group, weight in enumerate(self.weights) if weight]
        free = [
            index
            for index, load in enumerate(self.loads)
            if index not in self.pinned and (load or not self.weights[self.home[index]])
        ]
        if len(targets) ** len(free) > TRIED_MAX:
            return None
        least: dict[int, int] = {}
        places = list(self.home)
        for chosen in product(targets, repeat=len(free)):
            for index, group in zip(free, chosen, strict=True):
                places[index] = group
            moved, weighted = self.moved(places), self.heaviest(places)
            if weighted is not None and (self.cap is None or moved <= self.cap):
                least[moved] = min(weighted, least.get(moved, weighted))
        front: list[tuple[int, int]] = []
        for moved in sorted(least):
            if not front or least[moved] < front[-1][1]:
                front.append((moved, least[moved]))
        return front


def _span(value: Mapping[str, Any]) -> SpanPair:
    end = value["end"]
    return bytes.fromhex(value["start"]), None if end is None else bytes.fromhex(end)


def _on(places: Sequence[int], loads: Sequence[int], group: int) -> int:
    return sum(load for place, load in zip(places, loads, strict=True) if place == group)
