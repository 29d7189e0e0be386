"""The order of the splits, and the chain of versions and ids that they make.

Actions come in the order of their relief: each splits the heaviest route that still has a cut
to be made, where that balances it best, so that stopping half-way leaves the best half done.
Versions and ids chain as a route catalog would give them: version + 1 per split, the parent's
row goes, its children take the next two ids. A catalog whose ids went another way is no harm:
an executor finds the parent by its span.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING

from workbench.model.keys import Span
from workbench.model.plan import Action, ActionKind, Evidence, RouteLoad
from workbench.model.routes import next_route_id
from workbench.planner.words import share_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.routes import RouteSnapshot
    from workbench.planner.partition import Segments


@dataclass(frozen=True, slots=True)
class _Piece:
    """A route during planning: its place, its load, and the cuts still to be made in it."""

    route_id: int
    span: Span
    group: int
    low: int
    high: int
    load: int
    cuts: Sequence[int]


def sequence_actions(
    segments: Segments, keys: Sequence[bytes], chosen: Sequence[int], snapshot: RouteSnapshot
) -> tuple[tuple[Action, ...], tuple[RouteLoad, ...]]:
    """Return the splits in order, and the routes that they leave, ascending.

    Args:
        segments: The atoms by route, in the order of `snapshot.routes`.
        keys: First key of each atom.
        chosen: Atoms before which to cut, ascending; none on a segment's edge.
        snapshot: The routes before.
    """
    pieces, done = _pieces(segments, chosen, snapshot)
    heaviest_done = max((route.load for route in done), default=0)
    # Heap entries are (-load, start): the heaviest first, ties by key, so the order is certain.
    waiting = [(-piece.load, piece.span.start, piece) for piece in pieces]
    heapify(waiting)
    actions: list[Action] = []
    bottleneck = max(segments.loads)
    least = _heaviest_after(segments, chosen)
    new_id = next_route_id(snapshot.routes)
    while waiting:
        parent = heappop(waiting)[2]
        left, right = _halves(segments, keys, parent, new_id + 2 * len(actions))
        for half in (left, right):
            if half.cuts:
                heappush(waiting, (-half.load, half.span.start, half))
            else:
                done.append(RouteLoad(half.span, half.group, half.load))
                heaviest_done = max(heaviest_done, half.load)
        after = max(heaviest_done, -waiting[0][0] if waiting else 0)
        evidence = Evidence(parent.load, left.load, right.load, bottleneck, after)
        version = snapshot.catalog_version + len(actions)
        name = f"split-{len(actions) + 1:03d}"
        said = _reasons(parent.route_id, evidence, least, segments.total)
        actions.append(_split(name, parent, right.span.start, evidence, version, said))
        bottleneck = after
    done.sort(key=lambda route: route.span.start)
    return tuple(actions), tuple(done)


def _pieces(
    segments: Segments, chosen: Sequence[int], snapshot: RouteSnapshot
) -> tuple[list[_Piece], list[RouteLoad]]:
    """Return the routes that are cut, each with its cuts, and those that stay as they are."""
    pieces, whole = [], []
    routes = zip(snapshot.routes, segments.loads, pairwise(segments.bounds), strict=True)
    for route, load, (low, high) in routes:
        mine = chosen[bisect_right(chosen, low) : bisect_left(chosen, high)]
        if mine:
            pieces.append(_Piece(route.route_id, route.span, route.group, low, high, load, mine))
        else:
            whole.append(RouteLoad(route.span, route.group, load))
    return pieces, whole


def _halves(
    segments: Segments, keys: Sequence[bytes], parent: _Piece, new_id: int
) -> tuple[_Piece, _Piece]:
    """Return the children of the split, among the parent's cuts, that balances it best."""
    prefix = segments.prefix
    low, high = prefix[parent.low], prefix[parent.high]
    at = min(
        range(len(parent.cuts)),
        key=lambda i: (max(prefix[parent.cuts[i]] - low, high - prefix[parent.cuts[i]]), i),
    )
    cut = parent.cuts[at]
    key = keys[cut]
    left = Span(parent.span.start, key)
    right = Span(key, parent.span.end)
    return (
        _Piece(new_id, left, parent.group, parent.low, cut, prefix[cut] - low, parent.cuts[:at]),
        _Piece(
            new_id + 1,
            right,
            parent.group,
            cut,
            parent.high,
            high - prefix[cut],
            parent.cuts[at + 1 :],
        ),
    )


def _heaviest_after(segments: Segments, chosen: Sequence[int]) -> int:
    """Return the load of the heaviest route after all cuts."""
    edges = sorted([*segments.bounds, *chosen])
    return max(segments.prefix[high] - segments.prefix[low] for low, high in pairwise(edges))


def _reasons(route_id: int, evidence: Evidence, least: int, total: int) -> tuple[str, str]:
    """Return what a split parts, and what that does for the hottest route.

    Args:
        route_id: The route that is split.
        evidence: Its numbers.
        least: The hottest route after the whole plan.
        total: All of the load.
    """
    shares = (
        f"route {route_id} carries {share_text(evidence.parent_load, total)} of the load; "
        f"its children carry {share_text(evidence.left_load, total)} and "
        f"{share_text(evidence.right_load, total)}"
    )
    relief = evidence.bottleneck_before - evidence.bottleneck_after
    if relief:
        return shares, f"the hottest route falls by {share_text(relief, total)} of the load"
    if evidence.bottleneck_before > least:
        return shares, "lowers the hottest route together with the splits that follow"
    return shares, "lowers a route that drift could make the hottest; the hottest stays as it is"


def _split(  # noqa: PLR0913, PLR0917 - one call; all of it goes into one value
    name: str,
    parent: _Piece,
    split_key: bytes,
    evidence: Evidence,
    version: int,
    reasons: tuple[str, ...],
) -> Action:
    return Action(
        action_id=name,
        kind=ActionKind.SPLIT,
        route_id=parent.route_id,
        span=parent.span,
        split_key=split_key,
        target_group=None,
        expected_version=version,
        rows_moved=0,
        bytes_moved=0,
        reasons=reasons,
        evidence=evidence,
    )
