"""From load to a plan document: which routes to split, where, and why the others are left.

    atoms ──▶ segments by route ──▶ optimum, even cuts ──▶ actions, heaviest first
                                          └──▶ certificate

The cuts are those of `partition`: the least bottleneck that `max_splits` can buy, with no more
splits than it takes, as even as it allows. `actions` puts them in order, `certificate` proves
them.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow.compute as pc

from workbench.errors import InvalidInput, NotFound
from workbench.model.plan import (
    Bottleneck,
    Declined,
    HeavyAtom,
    Limits,
    Plan,
    RouteLoad,
)
from workbench.model.routes import RouteState
from workbench.model.times import rfc3339
from workbench.planner.actions import sequence_actions
from workbench.planner.certificate import certificate
from workbench.planner.partition import (
    Segments,
    cuts,
    divisible_bound,
    floor_of,
    optimum,
    pareto,
    segments_of,
)
from workbench.planner.words import share_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pyarrow as pa

    from workbench.model.plan import Action, Backtest, EvidenceQuery, Objective
    from workbench.model.routes import RouteDescriptor, RouteSnapshot

POLICY: Final = "exact"
DEFAULT_LIMITS: Final = Limits(max_splits=8, min_gain=0.10)


@dataclass(frozen=True, slots=True)
class Atoms:
    """The indivisible pieces of load, ascending by key.

    Attributes:
        keys: First key of each atom.
        loads: Load of each, whole numbers.
        kind: `key` (one key each) or `bucket`.
    """

    keys: Sequence[bytes]
    loads: Sequence[int]
    kind: str


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


def atoms_from_table(table: pa.Table, kind: str) -> Atoms:
    """Return atoms from columns `atom_start` (binary) and `load` (int64), ascending by key.

    Raises:
        InvalidInput: a load is null or negative, or a key occurs twice.
    """
    ordered = table.sort_by("atom_start")
    keys = ordered.column("atom_start").to_pylist()
    if ordered.column("load").null_count:
        raise InvalidInput(
            f"{ordered.column('load').null_count} atoms have no measured load",
            code="load_not_measured",
            hint="choose another objective, or a time in which it was measured",
        )
    if pc.count_distinct(ordered.column("atom_start")).as_py() != len(keys):
        raise InvalidInput(
            "an atom occurs twice in the load",
            code="atom_duplicate",
            hint="load must be summed per key or bucket first",
        )
    return Atoms(keys=keys, loads=ordered.column("load").to_pylist(), kind=kind)


def make_plan(given: PlanInput) -> Plan:
    """Return the plan for this input; the same input gives the same document.

    Raises:
        NotFound: there is no load in the window.
        InvalidInput: loads are negative or overflow.
    """
    routes = given.snapshot.routes
    atoms = _routed(given.atoms, routes)
    fixed = _fixed(routes, given)
    bounds = [0, *(_position(atoms.keys, route.span.end) for route in routes)]
    segments = segments_of(atoms.loads, bounds, frozenset(fixed))
    if segments.total == 0:
        raise NotFound(
            f"cluster {given.cluster!r} has no {given.objective.name} load between "
            f"{rfc3339(given.since)} and {rfc3339(given.until)}",
            code="load_absent",
            hint="ask for another time (`--since`, `--until`) or another --objective",
        )
    best = optimum(segments, given.limits.max_splits)
    chosen = cuts(segments, best) if _is_worth(segments, best, given.limits) else []
    actions, after = sequence_actions(segments, atoms.keys, chosen, given.snapshot)
    heaviest_after = max(route.load for route in after)
    proof = certificate(segments, atoms.keys, given.limits.max_splits, len(actions))
    whole = Segments(segments.prefix, (0, len(atoms.loads)))
    return Plan(
        cluster=given.cluster,
        catalog_version=given.snapshot.catalog_version,
        objective=given.objective,
        policy=POLICY,
        since=given.since,
        until=given.until,
        limits=Limits(
            given.limits.max_splits, given.limits.min_gain, given.limits.only_hot, tuple(fixed)
        ),
        atoms=len(atoms.loads),
        atom_kind=atoms.kind,
        total_load=segments.total,
        bottleneck=Bottleneck(
            before=max(segments.loads),
            after=heaviest_after,
            optimum=proof["optimum"]["bottleneck"],
            lower_bound=floor_of(whole, len(after) - 1),
            resolution_low=_resolution_low(segments, atoms, heaviest_after, len(actions)),
            resolution_high=heaviest_after,
        ),
        max_share_before=max(segments.loads) / segments.total,
        max_share_after=heaviest_after / segments.total,
        backtest=given.backtest,
        pareto=tuple(pareto(segments, given.limits.max_splits)),
        actions=actions,
        routes_before=tuple(
            RouteLoad(route.span, route.group, load)
            for route, load in zip(routes, segments.loads, strict=True)
        ),
        routes_after=after,
        declined=tuple(_declined(routes, segments, actions, given, best)),
        unsplittable=_unsplittable(atoms, segments.total, len(after)),
        certificate=proof,
        evidence=given.evidence,
    )


def _routed(atoms: Atoms, routes: Sequence[RouteDescriptor]) -> Atoms:
    """Return the atoms that some route owns; load outside all routes cannot be planned."""
    keep: list[int] = []
    for route in routes:
        keep += range(
            bisect_left(atoms.keys, route.span.start), _position(atoms.keys, route.span.end)
        )
    if len(keep) == len(atoms.keys):
        return atoms
    return Atoms([atoms.keys[i] for i in keep], [atoms.loads[i] for i in keep], atoms.kind)


def _fixed(routes: Sequence[RouteDescriptor], given: PlanInput) -> list[int]:
    """Return the positions of routes that must not be split."""
    return [
        index
        for index, route in enumerate(routes)
        if route.state is not RouteState.ACTIVE
        or (given.limits.only_hot and route.route_id not in given.hot_routes)
    ]


def _position(keys: Sequence[bytes], end: bytes | None) -> int:
    """Return the index of the first key at or above `end`."""
    return len(keys) if end is None else bisect_left(keys, end)


def _is_worth(segments: Segments, best: int, limits: Limits) -> bool:
    """Tell whether the bottleneck falls by as much as was asked for."""
    before = max(segments.loads)
    return best < before and before - best >= limits.min_gain * before


def _resolution_low(segments: Segments, atoms: Atoms, after: int, splits: int) -> int:
    """Return the least bottleneck that finer evidence could show for as many splits."""
    if atoms.kind == "key":
        return after
    return min(after, divisible_bound(segments.loads, splits))


def _unsplittable(atoms: Atoms, total: int, routes: int) -> tuple[HeavyAtom, ...]:
    """Return the atoms that alone carry more than an even share, heaviest first."""
    heavy = [
        HeavyAtom(key, load)
        for key, load in zip(atoms.keys, atoms.loads, strict=True)
        if load * routes > total
    ]
    return tuple(sorted(heavy, key=lambda atom: (-atom.load, atom.key)))


def _declined(
    routes: Sequence[RouteDescriptor],
    segments: Segments,
    actions: Sequence[Action],
    given: PlanInput,
    best: int,
) -> list[Declined]:
    """Return for every route that is not split the reason why."""
    split = {action.route_id for action in actions}
    return [
        Declined(route.route_id, _reason(route, index, segments, given, best))
        for index, route in enumerate(routes)
        if route.route_id not in split
    ]


def _reason(
    route: RouteDescriptor, index: int, segments: Segments, given: PlanInput, best: int
) -> str:
    load, total = segments.loads[index], segments.total
    share = f"{share_text(load, total)} of the load"
    if route.state is not RouteState.ACTIVE:
        return f"its state is {route.state}; only ACTIVE routes are split"
    if index in segments.fixed:
        return f"it is not hot ({share}), and only hot routes were asked for"
    if load == 0:
        return "it has no load"
    splits = given.limits.max_splits
    if splits == 0:
        return f"it carries {share}, and no splits are allowed"
    if not _is_worth(segments, best, given.limits):
        before = max(segments.loads)
        return (
            f"{splits} splits would lower the hottest route by {_floor_percent(before, best)}, "
            f"less than the {given.limits.min_gain:.0%} asked for"
        ) + _one_atom(segments, index, given.atoms.kind)
    return (
        f"splitting it does not lower the hottest route, which {splits} splits can bring to "
        f"{share_text(best, total)} at the least"
    ) + _one_atom(segments, index, given.atoms.kind)


def _floor_percent(before: int, after: int) -> str:
    """Return the fall in per cent, rounded down, so that it never reads as a limit it missed."""
    return f"{(before - after) * 1_000 // before / 10:.1f}%"


def _one_atom(segments: Segments, index: int, kind: str) -> str:
    """Return a clause where most of a route's load sits on one atom, else nothing."""
    low, high = segments.bounds[index], segments.bounds[index + 1]
    heaviest = max(segments.prefix[i + 1] - segments.prefix[i] for i in range(low, high))
    if heaviest * 2 <= segments.loads[index]:
        return ""
    share = share_text(heaviest, segments.total)
    if kind == "key":
        return f"; one key alone carries {share} and cannot be split"
    return f"; one bucket alone carries {share}, finer evidence could tell more"
