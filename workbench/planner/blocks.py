"""Blocks: atoms that no permitted cut parts, so that limits on keys cost the planner nothing.

    atoms     │ 3 │ 1 │ 4 │ 1 │ 5 │ 9 │       cuts permitted at:  ▲   ▲       ▲
    blocks    │ 3 │ 1   4 │ 1   5   9 │

Between two neighbouring atoms a < b of one route, a cut is possible at one key c, a < c ≤ b:

    all keys           c = b
    listed keys        c = the largest listed one in (a, b] that is not forbidden
    prefix of n bytes  c = the first n bytes of b

A bucket's end is not known here, so between buckets c must be b itself. No cut lies in a
forbidden span. The partition of blocks is exact for what the limits allow, and so is its proof;
docs/formats/plan.md has the rule, `verifier_limits` applies it anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput
from workbench.planner.partition import Segments, segments_of
from workbench.planner.search import Rules, can_cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.plan import Limits
    from workbench.model.routes import RouteDescriptor
    from workbench.planner.atoms import Atoms

UNMEETABLE: Final = "limit_unmeetable"


@dataclass(frozen=True)
class Blocks:
    """Atoms by block, and blocks by route.

    Attributes:
        keys: Where a cut before the block would be; of a route's first block its first atom.
        firsts: Index of the first atom of each block, and the number of atoms at the end.
        counts: How many atoms with load each block has.
        segments: Recorded loads of the blocks, by route.
    """

    keys: tuple[bytes, ...]
    firsts: tuple[int, ...]
    counts: tuple[int, ...]
    segments: Segments


def allowed(key: bytes, limits: Limits) -> bool:
    """Tell whether the limits permit a cut at `key`."""
    if any(key in span for span in limits.forbidden):
        return False
    boundaries = limits.boundaries
    if boundaries is None:
        return True
    if boundaries.prefix_bytes is not None:
        return len(key) <= boundaries.prefix_bytes
    at = bisect_left(boundaries.keys, key)
    return at < len(boundaries.keys) and boundaries.keys[at] == key


def blocks_of(
    atoms: Atoms, routes: Sequence[RouteDescriptor], limits: Limits, fixed: frozenset[int]
) -> Blocks:
    """Return the blocks of atoms that all lie on some route.

    Raises:
        InvalidInput: a load is negative, or the sum does not fit 62 bits.
    """
    edges = [0]
    for route in routes:
        end = len(atoms.keys)
        if route.span.end is not None:
            end = bisect_left(atoms.keys, route.span.end, edges[-1])
        edges.append(end)
    assert edges[-1] == len(atoms.keys), "an atom lies on no route"
    checked = segments_of(atoms.loads, (0, len(atoms.loads)))
    if not limits.forbidden and limits.boundaries is None:
        # Every atom is a block.
        return Blocks(
            tuple(atoms.keys),
            tuple(range(len(atoms.keys) + 1)),
            tuple([1 if load else 0 for load in atoms.loads]),
            Segments(checked.prefix, tuple(edges), fixed),
        )
    keys: list[bytes] = []
    firsts: list[int] = []
    bounds = [0]
    for at, end in pairwise(edges):
        for index in range(at, end):
            cut = atoms.keys[index] if index == at else _cut_between(atoms, index, limits)
            if cut is not None:
                keys.append(cut)
                firsts.append(index)
        bounds.append(len(keys))
    firsts.append(len(atoms.keys))
    prefix = [checked.prefix[first] for first in firsts]
    loaded = list(accumulate((1 if load else 0 for load in atoms.loads), initial=0))
    counts = tuple(loaded[firsts[i + 1]] - loaded[firsts[i]] for i in range(len(keys)))
    segments = Segments(prefix, tuple(bounds), fixed)
    return Blocks(tuple(keys), tuple(firsts), counts, segments)


def _cut_between(atoms: Atoms, index: int, limits: Limits) -> bytes | None:
    """Return where a cut before atom `index` may be; None where it may not be."""
    below, above = atoms.keys[index - 1], atoms.keys[index]
    boundaries = limits.boundaries
    if atoms.kind != "key" or boundaries is None:
        return above if allowed(above, limits) else None
    if boundaries.prefix_bytes is not None:
        cut = above[: boundaries.prefix_bytes]
        return cut if cut > below and allowed(cut, limits) else None
    at = bisect_right(boundaries.keys, above) - 1
    while at >= 0 and boundaries.keys[at] > below:
        if allowed(boundaries.keys[at], limits):
            return boundaries.keys[at]
        at -= 1
    return None


def splits_allowed(limits: Limits, routes: int) -> int:
    """Return how many splits the limits on splits and routes leave.

    Raises:
        InvalidInput: there are more routes already than there may be.
    """
    if limits.max_routes is None:
        return limits.max_splits
    if limits.max_routes < routes:
        raise InvalidInput(
            f"--max-routes {limits.max_routes} cannot be met: there are {routes} routes already, "
            "and no merge",
            code=UNMEETABLE,
            hint=f"allow {routes} routes or more",
        )
    return min(limits.max_splits, limits.max_routes - routes)


def check_limits(atoms: Atoms, blocks: Blocks, limits: Limits, splits: int) -> None:
    """Raise where splits are allowed, and limits on keys or on load leave no place for any.

    Raises:
        InvalidInput: `limit_unmeetable`; the message names the limit.
    """
    segments = blocks.segments
    open_ = [i for i in range(len(segments.loads)) if i not in segments.fixed]
    edges = (blocks.firsts[bound] for bound in segments.bounds)
    starts = list(edges)
    if not splits or all(starts[i + 1] - starts[i] <= 1 for i in open_):
        return
    if all(segments.bounds[i + 1] - segments.bounds[i] <= 1 for i in open_):
        names = ["--forbid"] if limits.forbidden else []
        names += ["--boundaries"] if limits.boundaries is not None else []
        raise InvalidInput(
            f"{' and '.join(names)} cannot be met: no key is left between keys or buckets with "
            "load at which a route may be split",
            code=UNMEETABLE,
            hint="forbid less, allow more boundaries, or plan with --max-splits 0",
        )
    rules = Rules(segments, segments.prefix, limits.min_span_load)
    if limits.min_span_load and not any(can_cut(rules, index) for index in open_):
        raise InvalidInput(
            f"--min-span-load {limits.min_span_load} cannot be met: no split leaves so much on "
            "both sides",
            code=UNMEETABLE,
            hint=f"the heaviest route carries {max(segments.loads)}; ask for at most half of what "
            "can be parted",
        )
