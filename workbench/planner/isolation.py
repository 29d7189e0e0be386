"""One hot key: a route of its own, so that its neighbours no longer wait for it.

A key k gets the route [k, k·00) where it carries ISOLATE_SHARE of its route's load and is by
itself over half the threshold of a hot route. The threshold counts per minute: of less than a
minute, or where a key at half of it would show as much by chance, nothing is told.

No split makes the key itself lighter; what is won is the rest of its route. These cuts come first,
out of the splits that are allowed, heaviest key first, whatever the gain in the bottleneck; all
else is planned around them.

    route  │ a b c k d e │  ──▶  │ a b c │ k │ d e │         no cut where a side has no load
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workbench.model.keys import KEY_BYTES_MAX, printable_key
from workbench.model.plan_parts import Finding, Isolated
from workbench.planner.blocks import allowed
from workbench.planner.intervals import Z95

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.model.plan import Limits
    from workbench.planner.atoms import Atoms
    from workbench.planner.blocks import Blocks

ISOLATE_SHARE: Final = (4, 5)
US_PER_MINUTE: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Isolation:
    """Which keys get a route of their own.

    Attributes:
        keys: Those that do.
        cuts: Blocks before which they ask for a cut, ascending.
        cut_keys: By block, the key to cut at where it is not the block's own: k·00.
        findings: What is said of hot keys that stay where they are.
    """

    keys: tuple[Isolated, ...] = ()
    cuts: tuple[int, ...] = ()
    cut_keys: tuple[tuple[int, bytes], ...] = ()
    findings: tuple[Finding, ...] = ()


def is_hot_key(load: int, route_load: int, window_us: int, threshold: float) -> bool:
    """Tell whether a key is to get a route of its own, if its load is no accident."""
    part, whole = ISOLATE_SHARE
    over_half = load * 2 * US_PER_MINUTE > threshold * window_us
    return load * whole >= route_load * part and over_half


def too_little(load: int, window_us: int, threshold: float, weight: int) -> str:
    """Return why a load does not tell that a key is hot; empty where it does.

    Args:
        load: Of a key over half of `threshold`.
        window_us: Length of the time in which it was counted.
        threshold: Rate per minute of a hot route.
        weight: What one access counts for at the most.
    """
    if window_us < US_PER_MINUTE:
        return f"{window_us / 1_000_000:g} s of load are too short to tell, a minute is needed"
    half = threshold * window_us / (2 * US_PER_MINUTE)
    # The score test: how far a count of mean `half` strays in one of 20 cases.
    if (load - half) ** 2 <= Z95**2 * weight * half:
        return f"a load of {load:,} is too little to tell it from half the threshold"
    return ""


def isolate(  # noqa: PLR0913 - the question's own parts, named
    atoms: Atoms,
    blocks: Blocks,
    limits: Limits,
    *,
    splits: int,
    window_us: int,
    threshold: float | None,
    weight: int = 1,
) -> Isolation:
    """Return the isolation that the limits permit.

    Args:
        atoms: The load; buckets are never isolated.
        blocks: The same by block.
        limits: What the planner may do.
        splits: How many there are in all.
        window_us: Length of the load's time window.
        threshold: Rate per minute of a hot route; None where none is known.
        weight: What one access counts for at the most; 1 where bytes or CPU are the load.
    """
    if atoms.kind != "key" or threshold is None:
        return Isolation()
    found = _hot_keys(atoms, blocks, window_us, threshold)
    chosen: list[Isolated] = []
    cuts: list[int] = []
    cut_keys: list[tuple[int, bytes]] = []
    findings: list[Finding] = []
    for segment, atom in found:
        key, load = atoms.keys[atom], atoms.loads[atom]
        if unsure := too_little(load, window_us, threshold, weight):
            text = f"key {printable_key(key)} may be hot by itself: {unsure}"
            findings.append(Finding("hot_key", text))
            continue
        wanted = _cuts_around(blocks, segment, atom)
        hindrance = _hindrance(blocks, segment, wanted, limits, splits - len(cuts))
        if hindrance:
            text = f"key {printable_key(key)} is hot by itself and stays where it is: {hindrance}"
            findings.append(Finding("hot_key", text))
            continue
        chosen.append(Isolated(key, load, blocks.segments.loads[segment]))
        assert wanted is not None
        cuts += wanted
        after = key + b"\x00"
        has_right = bool(wanted) and wanted[-1] < blocks.segments.bounds[segment + 1]
        is_right = has_right and blocks.firsts[wanted[-1]] == atom + 1
        if is_right and len(after) <= KEY_BYTES_MAX and allowed(after, limits):
            cut_keys.append((wanted[-1], after))
    return Isolation(tuple(chosen), tuple(sorted(cuts)), tuple(cut_keys), tuple(findings))


def _hot_keys(
    atoms: Atoms, blocks: Blocks, window_us: int, threshold: float
) -> list[tuple[int, int]]:
    """Return (segment, atom) of the keys to isolate, heaviest first."""
    segments, found = blocks.segments, []
    for index, load in enumerate(segments.loads):
        first, last = (blocks.firsts[bound] for bound in segments.bounds[index : index + 2])
        if first == last:
            continue
        atom = max(range(first, last), key=lambda i: (atoms.loads[i], -i))
        if load and is_hot_key(atoms.loads[atom], load, window_us, threshold):
            found.append((-atoms.loads[atom], index, atom))
    return [(index, atom) for _, index, atom in sorted(found)]


def _cuts_around(blocks: Blocks, segment: int, atom: int) -> list[int] | None:
    """Return the blocks to cut before so that the atom is alone; None where it cannot be."""
    low, high = blocks.segments.bounds[segment : segment + 2]
    block = next((b for b in range(low, high) if blocks.firsts[b] == atom), None)
    if block is None or blocks.firsts[block + 1] != atom + 1:
        return None
    prefix = blocks.segments.prefix
    left = [block] if prefix[block] > prefix[low] else []
    right = [block + 1] if prefix[high] > prefix[block + 1] else []
    return left + right


def _hindrance(
    blocks: Blocks, segment: int, wanted: Sequence[int] | None, limits: Limits, splits: int
) -> str:
    """Return why a key is not isolated, or nothing."""
    segments = blocks.segments
    if segment in segments.fixed:
        return "its route must not be split"
    if wanted is None:
        return "--forbid or --boundaries allow no cut beside it"
    if not wanted:
        return "nothing else on its route carries load"
    if len(wanted) > splits:
        return f"it would take {len(wanted)} splits, {splits} are left"
    edges = [segments.bounds[segment], *wanted, segments.bounds[segment + 1]]
    parts = [segments.prefix[high] - segments.prefix[low] for low, high in pairwise(edges)]
    if min(parts) < limits.min_span_load:
        return "its neighbours carry less than --min-span-load"
    return ""
