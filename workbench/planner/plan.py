"""From load to a plan document: which routes to split, where, and why the others are left.

    atoms ──▶ blocks by route ──▶ isolation, policy's cuts ──▶ actions, heaviest first ──▶ groups
                                          └──▶ certificate

`blocks` keeps what the limits forbid apart, `decide` asks the policy, `actions` puts the cuts in
order, `placing` says which group each route goes to, `certificate` proves it.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workbench.errors import NotFound
from workbench.model.plan import (
    PLAN_SCHEMA,
    Bottleneck,
    HeavyAtom,
    Limits,
    Plan,
    RouteLoad,
)
from workbench.model.plan_parts import Finding, Robust
from workbench.model.routes import RouteState
from workbench.model.times import rfc3339, to_us
from workbench.planner.actions import sequence_actions
from workbench.planner.atoms import Atoms, atoms_from_table, routed
from workbench.planner.blocks import blocks_of, check_limits, splits_allowed
from workbench.planner.certificate import certificate
from workbench.planner.decide import EXACT, decide_cuts
from workbench.planner.declined import declined_routes
from workbench.planner.drift import act_on, with_tail
from workbench.planner.heavy import heavy_findings
from workbench.planner.isolation import isolate
from workbench.planner.partition import Segments, divisible_bound, floor_of
from workbench.planner.placing import place
from workbench.planner.robust import SHRINK
from workbench.planner.search import Rules, pareto

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from workbench.model.plan import Action, EvidenceQuery, Objective
    from workbench.model.plan_parts import Backtest, Stored
    from workbench.model.routes import RouteDescriptor, RouteSnapshot
    from workbench.planner.assign_solver import Around
    from workbench.planner.blocks import Blocks
    from workbench.planner.decide import Decision
    from workbench.planner.drift import DriftChoice
    from workbench.planner.heavy import ToldKeys
    from workbench.planner.isolation import Isolation
    from workbench.planner.patterns import Drift
    from workbench.planner.placing import Placed, SizesOf

__all__ = ["DEFAULT_LIMITS", "Atoms", "PlanInput", "atoms_from_table", "make_plan"]

DEFAULT_LIMITS: Final = Limits(max_splits=8, min_gain=0.10)


@dataclass(frozen=True, slots=True)
class PlanInput:
    """Everything a plan depends on.

    Attributes:
        cluster: Whose routes these are.
        snapshot: The routes now.
        atoms: The load.
        objective: What `atoms` counts.
        since: Start of the time window of the load.
        until: End of it, exclusive.
        limits: What the planner may do.
        hot_routes: Ids that detection calls hot; read under `limits.only_hot`.
        evidence: The query that gave the atoms.
        backtest: How planning on a part of this window fared on the rest; part of the document.
        policy: `robust` or `exact`.
        threshold_per_minute: Rate of a hot route; None where none is known: no key is isolated.
        sizes: What spans store, for what a move costs; None where it is not known.
        stored: Where `sizes` come from.
        backtest_exact: The back-test of `exact` beside a robust plan's own.
        findings: What was seen in the load over time; part of the document.
        drift: How the load moves, which a `robust` plan takes into account.
        no_moves: Why the system could not make a move; empty where it can, or is not known.
        told_keys: What the source tells of single keys beside buckets; None where it tells none.
        around_solver: Open while a solver runs, which may print; no part of the document.
    """

    cluster: str
    snapshot: RouteSnapshot
    atoms: Atoms
    objective: Objective
    since: datetime
    until: datetime
    limits: Limits
    hot_routes: frozenset[int]
    evidence: EvidenceQuery
    backtest: Backtest | None = None
    policy: str = EXACT
    threshold_per_minute: float | None = None
    sizes: SizesOf | None = None
    stored: Stored | None = None
    backtest_exact: Backtest | None = None
    findings: tuple[Finding, ...] = ()
    drift: Drift | None = None
    no_moves: str = ""
    told_keys: ToldKeys | None = None
    around_solver: Around = nullcontext


def make_plan(given: PlanInput) -> Plan:
    """Return the plan for this input; the same input gives the same document.

    Raises:
        NotFound: there is no load in the window.
        InvalidInput: loads are negative or overflow; `limit_unmeetable`, which names the limit.
        InvalidArgument: the policy is not known.
    """
    routes, limits = given.snapshot.routes, given.limits
    splits = splits_allowed(limits, len(routes))
    atoms = routed(given.atoms, routes)
    fixed = _fixed(routes, given)
    blocks = blocks_of(atoms, routes, limits, frozenset(fixed))
    if blocks.segments.total == 0:
        raise NotFound(
            f"cluster {given.cluster!r} has no {given.objective.name} load between "
            f"{rfc3339(given.since)} and {rfc3339(given.until)}",
            code="load_absent",
            hint="ask for another time (`--since`, `--until`) or another --objective",
        )
    check_limits(atoms, blocks, limits, splits)
    isolation, choice = _choice(given, atoms, blocks, splits)
    decision = choice.decision
    keys = list(blocks.keys)
    for block, key in isolation.cut_keys:
        keys[block] = key
    actions, after = sequence_actions(blocks.segments, keys, decision.cuts, given.snapshot)
    actions, after = with_tail(actions, after, choice, atoms, given.snapshot)
    placed = _place(given, actions, after)
    proof = certificate(atoms, blocks, decision, len(after), choice.phases)
    heaviest_after = max(route.load for route in after)
    front = _pareto(blocks, limits, splits)
    total = blocks.segments.total
    return Plan(
        cluster=given.cluster,
        catalog_version=given.snapshot.catalog_version,
        objective=given.objective,
        policy=given.policy,
        since=given.since,
        until=given.until,
        limits=replace(limits, fixed_routes=tuple(fixed)),
        atoms=len(atoms.loads),
        atom_kind=atoms.kind,
        total_load=total,
        bottleneck=_bottleneck(atoms, blocks, after, len(actions), proof["optimum"]["bottleneck"]),
        max_share_before=max(blocks.segments.loads) / total,
        max_share_after=heaviest_after / total,
        backtest=given.backtest,
        pareto=front,
        actions=placed.actions,
        routes_before=_routes_before(routes, blocks),
        routes_after=placed.routes,
        declined=declined_routes(
            routes,
            atoms,
            blocks,
            decision,
            placed.actions,
            limits.min_gain,
            placed.declined,
            choice.drifted,
        ),
        unsplittable=_unsplittable(atoms, total, len(after)),
        certificate=proof,
        evidence=given.evidence,
        schema=PLAN_SCHEMA,
        threshold_per_minute=given.threshold_per_minute,
        robust=_robust(blocks, decision, heaviest_after, proof["incremental"]["bottleneck"]),
        backtest_exact=given.backtest_exact,
        isolated=isolation.keys,
        placement=placed.placement,
        findings=(
            *_findings(given, choice, isolation, placed),
            *_heavy(given, atoms, front[-1][1], total),
        ),
        drift=choice.drifted,
    )


def _place(given: PlanInput, actions: tuple[Action, ...], after: tuple[RouteLoad, ...]) -> Placed:
    return place(
        actions,
        after,
        given.snapshot,
        given.limits,
        given.sizes,
        given.stored,
        given.no_moves,
        given.around_solver,
    )


def _choice(
    given: PlanInput, atoms: Atoms, blocks: Blocks, splits: int
) -> tuple[Isolation, DriftChoice]:
    """Return which keys are isolated, and what is cut."""
    limits = given.limits
    isolation = isolate(
        atoms,
        blocks,
        limits,
        splits=splits,
        window_us=to_us(given.until) - to_us(given.since),
        threshold=given.threshold_per_minute,
        weight=max(given.objective.read_weight, given.objective.write_weight, 1),
    )
    choice = act_on(
        given.drift,
        decide_cuts(given.policy, blocks, limits, isolation, splits),
        policy=given.policy,
        blocks=blocks,
        atoms=atoms,
        routes=given.snapshot.routes,
        limits=limits,
    )
    return isolation, choice


def _findings(
    given: PlanInput, choice: DriftChoice, isolation: Isolation, placed: Placed
) -> tuple[Finding, ...]:
    withheld = [Finding("moves_declined", placed.withheld)] if placed.withheld else []
    return (*given.findings, *choice.findings, *isolation.findings, *withheld)


def _heavy(given: PlanInput, atoms: Atoms, reachable: int, total: int) -> tuple[Finding, ...]:
    if given.told_keys is None or atoms.kind == "key":
        return ()
    return heavy_findings(
        given.told_keys,
        atoms,
        given.objective,
        reachable=reachable,
        total=total,
        min_gain=given.limits.min_gain,
    )


def _routes_before(routes: Sequence[RouteDescriptor], blocks: Blocks) -> tuple[RouteLoad, ...]:
    pairs = zip(routes, blocks.segments.loads, strict=True)
    return tuple(RouteLoad(route.span, route.group, load) for route, load in pairs)


def _fixed(routes: Sequence[RouteDescriptor], given: PlanInput) -> list[int]:
    """Return the positions of routes that must not be split."""
    return [
        index
        for index, route in enumerate(routes)
        if route.state is not RouteState.ACTIVE
        or (given.limits.only_hot and route.route_id not in given.hot_routes)
    ]


def _bottleneck(
    atoms: Atoms, blocks: Blocks, after: Sequence[RouteLoad], splits: int, optimum: int
) -> Bottleneck:
    heaviest = max(route.load for route in after)
    whole = Segments(blocks.segments.prefix, (0, len(blocks.keys)))
    low = heaviest
    if atoms.kind != "key":
        # The least that finer evidence could show to be possible with as many splits.
        low = min(heaviest, divisible_bound(blocks.segments.loads, splits))
    return Bottleneck(
        before=max(blocks.segments.loads),
        after=heaviest,
        optimum=optimum,
        lower_bound=floor_of(whole, len(after) - 1),
        resolution_low=low,
        resolution_high=heaviest,
    )


def _pareto(blocks: Blocks, limits: Limits, splits: int) -> tuple[tuple[int, int], ...]:
    rules = Rules(blocks.segments, blocks.segments.prefix, limits.min_span_load)
    return tuple(pareto(rules, splits))


def _robust(blocks: Blocks, decision: Decision, after: int, optimum: int) -> Robust | None:
    """Return what the policy reached and what it costs; None for `exact`."""
    if decision.weights is None or decision.choice is None:
        return None
    weights = decision.weights
    cuts = [cut for cut in decision.cuts if cut not in set(decision.isolation.cuts)]
    bounds = sorted([*weights.bounds, *cuts])
    pieces = Segments(weights.prefix, tuple(bounds))
    fixed = {(weights.bounds[index], weights.bounds[index + 1]) for index in weights.fixed}
    shared = [
        load
        for load, (low, high) in zip(pieces.loads, pairwise(bounds), strict=True)
        if high - low > 1 and (low, high) not in fixed
    ]
    return Robust(
        shrink=SHRINK,
        keys=sum(blocks.counts),
        total=weights.total,
        bottleneck=max(pieces.loads),
        shared=max(shared, default=0),
        optimum=optimum,
        price=after - optimum,
    )


def _unsplittable(atoms: Atoms, total: int, routes: int) -> tuple[HeavyAtom, ...]:
    """Return the atoms that alone carry more than an even share, heaviest first."""
    share = total // routes
    heavy = [
        HeavyAtom(key, load)
        for key, load in zip(atoms.keys, atoms.loads, strict=True)
        if load > share
    ]
    return tuple(sorted(heavy, key=lambda atom: (-atom.load, atom.key)))
