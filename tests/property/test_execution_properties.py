"""Execution under crashes and foreign splits: nothing twice, nothing after somebody else's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from fakes import FakeCluster, plan_for
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import Conflict
from workbench.model.keys import Span
from workbench.model.routes import seed_routes
from workbench.planner.execution import Call, Done, Record, Stale, decide, request_id
from workbench.ports.connector import SplitCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.model.plan import Plan
    from workbench.model.routes import RouteSnapshot
    from workbench.planner.execution import Decision

# Keys of plans have two bytes and none ends in 0xFF; those of foreign splits do, so a foreign
# split is never the very one that the plan wants.
KEYS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 200)).map(bytes),
    min_size=4,
    max_size=24,
    unique=True,
)
STEPS = st.lists(
    st.sampled_from(["step", "step", "step", "die_before", "die_after", "lost", "foreign"]),
    max_size=24,
)
FOREIGN_KEYS = st.lists(st.integers(0, 250).map(lambda n: bytes([n, 0xFF])), max_size=24)


@dataclass
class Run:
    """One operator: decides, calls, keeps receipts. Whatever is not a receipt dies with it."""

    plan: Plan
    approved: tuple[str, ...]
    cluster: FakeCluster
    decide: Callable[..., Decision] = decide
    receipts: list[str] = field(default_factory=list)
    stale: bool = False
    done: bool = False

    def step(self, ending: str = "step", interfere: Callable[[], None] = lambda: None) -> None:
        """One look, one decision, at most one call and one receipt."""
        step = self.decide(self.plan, self.approved, self.receipts, self.cluster.snapshot())
        match step:
            case Done():
                self.done = True
            case Stale():
                self.stale = True
            case Record():
                if ending != "die_before":
                    self.receipts.append(step.action.action_id)
            case Call():
                self._call(step, ending, interfere)

    def _call(self, step: Call, ending: str, interfere: Callable[[], None]) -> None:
        if ending == "die_before":
            return
        interfere()
        split, request = step.split, str(request_id(self.plan, step.action.action_id))
        try:
            self.cluster.split(
                split.route.route_id, split.split_key, split.expected_version, request
            )
        except Conflict:
            return  # whoever is refused for the version looks again
        if ending == "step":
            self.receipts.append(step.action.action_id)

    def finish(self) -> None:
        for _ in range(2 * len(self.plan.actions) + 2):
            if self.done or self.stale:
                return
            self.step()
        pytest.fail("it does not end")


def closed(plan: Plan, dropped: set[int]) -> tuple[str, ...]:
    """Return the actions but the dropped ones and those that need them."""
    makers: dict[Span, str] = {}
    chosen: list[str] = []
    for index, action in enumerate(plan.actions):
        maker = makers.get(action.span)
        if index not in dropped and (maker is None or maker in chosen):
            chosen.append(action.action_id)
        makers[Span(action.span.start, action.split_key)] = action.action_id
        makers[Span(action.split_key, action.span.end)] = action.action_id
    return tuple(chosen)


@st.composite
def runs(draw: st.DrawFn) -> tuple[FakeCluster, FakeCluster, Plan, tuple[str, ...]]:
    keys = sorted(draw(KEYS))
    loads = [draw(st.integers(1, 50)) for _ in keys]
    seeds = sorted(draw(st.sets(st.sampled_from(keys), max_size=3)) - {b""})

    def cluster() -> FakeCluster:
        return FakeCluster({r.span: r for r in seed_routes(seeds)}, version=version)

    version = draw(st.integers(1, 2**40))
    plan = plan_for(cluster(), keys, loads, splits=draw(st.integers(1, 8)))
    dropped = draw(st.sets(st.integers(0, 7), max_size=3))
    return cluster(), cluster(), plan, closed(plan, dropped)


def split(cluster: FakeCluster, key: bytes) -> None:
    if key not in {span.start for span in cluster.routes}:
        cluster.foreign_split(key)


def play(given: Run, steps: list[str], foreign: list[bytes]) -> None:
    keys = iter(foreign)
    for ending in steps:
        if given.done or given.stale:
            break
        if ending == "foreign":
            if (key := next(keys, None)) is not None:
                # Also between the look and the call, which compare-and-set must catch.
                given.step(interfere=lambda key=key: split(given.cluster, key))  # type: ignore[misc]
        else:
            given.step(ending)
    given.finish()


def check(given: Run, undisturbed: FakeCluster) -> None:
    cluster = given.cluster
    ours = [(span, key) for request, span, key in cluster.splits if request]
    assert len(ours) == len(set(ours)), "a split was made twice"
    first = next((i for i, (r, _, _) in enumerate(cluster.splits) if not r), None)
    if first is None:
        assert given.done
        assert cluster.spans() == undisturbed.spans()
        assert cluster.version == undisturbed.version
    else:
        assert all(not request for request, _, _ in cluster.splits[first:]), "after a foreign one"


@given(runs(), STEPS, FOREIGN_KEYS)
@settings(deadline=None, max_examples=300)
def test_crashes_and_foreign_splits_leave_the_undisturbed_routes_or_stop(
    drawn: tuple[FakeCluster, FakeCluster, Plan, tuple[str, ...]],
    steps: list[str],
    foreign: list[bytes],
) -> None:
    cluster, calm, plan, approved = drawn
    Run(plan, approved, calm).finish()
    disturbed = Run(plan, approved, cluster)
    play(disturbed, steps, foreign)
    check(disturbed, calm)


def forgetful(
    plan: Plan, approved: tuple[str, ...], applied: list[str], snapshot: RouteSnapshot
) -> Decision:
    """The planted fault: takes a split without a receipt for somebody else's."""
    step = decide(plan, approved, applied, snapshot)
    return Stale(step.action, "the routes changed", "") if isinstance(step, Record) else step


def careless(
    plan: Plan, approved: tuple[str, ...], applied: list[str], snapshot: RouteSnapshot
) -> Decision:
    """The planted fault: takes whatever version there is for the expected one."""
    routes = {route.span: route for route in snapshot.routes}
    for action in plan.actions:
        if action.action_id in approved and action.action_id not in applied:
            split = SplitCall(routes[action.span], action.split_key, snapshot.catalog_version)
            return Call(action, split)
    return Done()


@pytest.mark.parametrize("fault", [forgetful, careless])
def test_the_check_catches_a_planted_fault(fault: Callable[..., Decision]) -> None:
    cluster, calm = FakeCluster(), FakeCluster()
    plan = plan_for(cluster)
    approved = tuple(action.action_id for action in plan.actions)
    Run(plan, approved, calm).finish()
    broken = Run(plan, approved, cluster, fault)
    if fault is forgetful:
        play(broken, ["lost"], [])
    else:
        play(broken, ["step", "foreign"], [b"\x01\xff"])
    with pytest.raises(AssertionError):
        check(broken, calm)
