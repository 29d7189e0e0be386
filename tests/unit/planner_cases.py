"""Random planning problems with every kind of limit, and answers by trying everything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, EvidenceQuery, Limits, Plan
from workbench.model.plan_parts import Boundaries, GroupWeight, Stored
from workbench.model.routes import RouteSnapshot, RouteState, seed_routes
from workbench.planner.placing import sizes_by_atom
from workbench.planner.plan import Atoms, PlanInput, make_plan

if TYPE_CHECKING:
    import random

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = datetime(2026, 1, 1, 1, tzinfo=UTC)
LOADS = (0, 1, 1, 2, 3, 5, 8, 13, 60)


@dataclass
class Case:
    """One problem: keys of two letters and a digit, so that rows of two bytes repeat."""

    keys: list[bytes]
    loads: list[int]
    bounds: list[int]
    limits: Limits
    policy: str = "exact"
    kind: str = "key"
    threshold: float | None = None
    groups: list[int] = field(default_factory=list)
    sizes: list[int] | None = None
    states: dict[int, RouteState] = field(default_factory=dict)

    @property
    def given(self) -> PlanInput:
        routes = seed_routes([self.keys[bound] for bound in self.bounds])
        groups = self.groups or [1] * len(routes)
        routes = tuple(
            replace(route, group=group, state=self.states.get(index, route.state))
            for index, (route, group) in enumerate(zip(routes, groups, strict=True))
        )
        sizes = stored = None
        if self.sizes is not None:
            sizes = sizes_by_atom(Atoms(self.keys, self.sizes, self.kind))
            stored = Stored("nightly", 7)
        return PlanInput(
            cluster="c",
            snapshot=RouteSnapshot(7, routes, T0),
            atoms=Atoms(self.keys, self.loads, self.kind),
            objective=OBJECTIVES["score"],
            since=T0,
            until=T1,
            limits=self.limits,
            hot_routes=frozenset(),
            evidence=EvidenceQuery("atoms", "c/access", {}, "SELECT"),
            policy=self.policy,
            threshold_per_minute=self.threshold,
            sizes=sizes,
            stored=stored,
        )

    @property
    def byte_rows(self) -> list[tuple[bytes, int]] | None:
        """What the verifier is told of bytes."""
        if self.sizes is None or not self.limits.groups:
            return None
        return list(zip(self.keys, self.sizes, strict=True))

    def plan(self) -> Plan | None:
        """The plan; None where the limits cannot be met."""
        try:
            return make_plan(self.given)
        except WorkbenchError as error:
            if error.code in {"limit_unmeetable", "limit_unmeasured"}:
                return None
            raise


def random_case(rng: random.Random, **fixed: Any) -> Case:
    count = rng.randint(1, 12)
    keys = sorted(b"r%d%d" % divmod(n, 3) for n in rng.sample(range(15), count))
    loads = [rng.choice(LOADS) for _ in keys]
    loads[rng.randrange(count)] += 1
    bounds = sorted(rng.sample(range(1, count), rng.randint(0, min(2, count - 1))))
    routes = len(bounds) + 1
    case = Case(keys, loads, bounds, random_limits(rng, routes))
    case.policy = rng.choice(["exact", "robust"])
    case.kind = rng.choice(["key", "key", "bucket"])
    if rng.random() < 0.3:
        case.threshold = rng.choice([0.1, 0.5, 1.0])
    if rng.random() < 0.2:
        case.states = {rng.randrange(routes): RouteState.WRITE_FENCED}
    if rng.random() < 0.4:
        put_on_groups(rng, case)
    for name, value in fixed.items():
        setattr(case, name, value)
    return case


def random_limits(rng: random.Random, routes: int) -> Limits:
    """Limits on splits, keys and loads, each of them now and then."""
    limits = Limits(rng.randint(0, 4), rng.choice([0.0, 0.0, 0.1]))
    if rng.random() < 0.3:
        low = rng.randrange(14)
        span = Span(b"r%d%d" % divmod(low, 3), b"r%d%d" % divmod(rng.randint(low + 1, 15), 3))
        limits = replace(limits, forbidden=(span,))
    if rng.random() < 0.2:
        limits = replace(limits, boundaries=Boundaries(prefix_bytes=rng.choice([2, 3])))
    elif rng.random() < 0.2:
        listed = rng.sample(range(15), rng.randint(1, 9))
        limits = replace(
            limits,
            boundaries=Boundaries(None, tuple(sorted(b"r%d%d" % divmod(n, 3) for n in listed))),
        )
    if rng.random() < 0.3:
        limits = replace(limits, min_span_load=rng.choice([1, 3, 10]))
    if rng.random() < 0.2:
        limits = replace(limits, max_routes=routes + rng.randint(0, 3))
    return limits


def put_on_groups(rng: random.Random, case: Case) -> None:
    """Put the routes on groups, and ask for a placement."""
    case.groups = [rng.randint(1, 3) for _ in range(len(case.bounds) + 1)]
    wanted = sorted({*case.groups, *rng.sample(range(1, 5), 2)})
    weighted = tuple(GroupWeight(group, rng.randint(1, 3)) for group in wanted)
    if rng.random() < 0.7:
        case.sizes = [rng.randint(0, 50) for _ in case.keys]
    cap = rng.choice([None, None, 0, 40])
    case.limits = replace(case.limits, groups=weighted, max_bytes_moved=cap)


def permitted(case: Case, index: int) -> bool:
    """Whether a cut between atoms index - 1 and index is possible, by the words of the format."""
    below, above = case.keys[index - 1], case.keys[index]
    limits = case.limits
    boundaries = limits.boundaries
    candidates = [above]
    if boundaries is not None and case.kind == "bucket":
        allowed = (
            len(above) <= boundaries.prefix_bytes
            if boundaries.prefix_bytes is not None
            else above in boundaries.keys
        )
        candidates = [above] if allowed else []
    elif boundaries is not None and boundaries.prefix_bytes is not None:
        candidates = [above[: boundaries.prefix_bytes]]
    elif boundaries is not None:
        candidates = list(boundaries.keys)
    return any(
        below < key <= above and not any(key in span for span in limits.forbidden)
        for key in candidates
    )


def least(  # noqa: PLR0913 - the question's own parts
    case: Case, sums: list[int], kept: set[int], fixed: set[int], cuts: int, *, lone: bool = False
) -> int:
    """The least bottleneck by trying everything.

    Args:
        case: The problem.
        sums: Prefix sums by atom of what is limited.
        kept: Atoms at which routes begin already.
        fixed: Of those, the ones whose route must not be cut.
        cuts: At most so many.
        lone: Leave out routes that no permitted cut could part.
    """
    count = len(case.keys)
    raw = [0]
    for load in case.loads:
        raw.append(raw[-1] + load)
    edges = sorted(kept | {0, count})
    free = [
        index
        for low, high in pairwise(edges)
        if low not in fixed
        for index in range(low + 1, high)
        if permitted(case, index)
    ]
    best = None
    for number in range(min(cuts, len(free)) + 1):
        for chosen in combinations(free, number):
            pieces = list(pairwise(sorted({*edges, *chosen})))
            made = [(a, b) for a, b in pieces if a in chosen or b in chosen]
            if any(raw[b] - raw[a] < case.limits.min_span_load for a, b in made):
                continue
            counted = [
                sums[b] - sums[a]
                for a, b in pieces
                if not lone or any(a < index < b for index in free)
            ]
            heaviest = max(counted, default=0)
            best = heaviest if best is None else min(best, heaviest)
    assert best is not None
    return best
