"""Policies: whole sets of rules that cut one route over everything into several, side by side.

    load ──▶ Policy.cut ──▶ cuts ──▶ load per route, on the load planned on
                                 └──▶ load per route, on load that came later  (replay)

`robust` and `exact` are ours. The others are re-implementations of published rules (`finders`,
docs/policies.md) and differ only in where they cut the hottest route. What a policy is worth
shows on load that it has not seen; how near it comes to the optimum of the load that it has seen
does not tell.

A policy is a pure function of its arguments. Cuts are indices of atoms *before* which to cut,
ascending, distinct, never 0 nor behind the last atom: no route is empty. A policy may make fewer
routes than asked for.
"""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from workbench.errors import InvalidArgument
from workbench.model.keys import Span
from workbench.planner import finders
from workbench.planner.partition import cuts, optimum, segments_of
from workbench.planner.replay import replay
from workbench.planner.robust import choose, shrunk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from workbench.planner.atoms import Atoms
    from workbench.planner.partition import Segments

ALL: Final = "all"
# By which fraction further splits must pay; the default of `workbench plan --min-gain`.
MIN_GAIN: Final = 0.10
# Longer than any trace: a comparison asks for totals, not for a series.
_WINDOW_MS: Final = 366 * 24 * 3_600_000


class Policy(Protocol):
    """A whole set of rules."""

    @property
    def name(self) -> str:
        """How users call it."""

    def cut(self, atoms: Atoms, routes: int, seed: int) -> list[int]:
        """Return the atoms before which to cut one route over everything.

        Args:
            atoms: The load to plan on.
            routes: At most so many routes, from 1.
            seed: From 0; decides what is sampled, where something is.
        """


@dataclass(frozen=True, slots=True)
class Exact:
    """Ours: the least bottleneck, and the most even cuts that reach it (docs/adr/0003)."""

    name: str = "exact"

    def cut(self, atoms: Atoms, routes: int, seed: int) -> list[int]:
        """Return the cuts of `partition`."""
        segments = whole(atoms)
        return cuts(segments, optimum(segments, routes - 1))


@dataclass(frozen=True, slots=True)
class Robust:
    """Ours, against drift: the least bottleneck of shrunk load (docs/adr/0012)."""

    name: str = "robust"

    def cut(self, atoms: Atoms, routes: int, seed: int) -> list[int]:
        """Return the cuts of `robust`, with the default gain."""
        recorded = whole(atoms)
        weights = shrunk(recorded, [1 if load else 0 for load in atoms.loads])
        choice = choose(weights, recorded.prefix, routes - 1, 0, MIN_GAIN)
        return list(choice.cuts)


@dataclass(frozen=True, slots=True)
class Splitting:
    """Split the hottest route by a finder, again and again, until there are enough.

    A route that the finder refuses to cut stays as it is, and the next hottest has its turn; it
    ends early when every route with load was refused. Of equally hot routes the lowest is first.

    Attributes:
        name: How users call it.
        finder: Where to cut one route.
    """

    name: str
    finder: finders.Finder

    def cut(self, atoms: Atoms, routes: int, seed: int) -> list[int]:
        """Return the cuts that repeated splitting makes."""
        prefix = whole(atoms).prefix
        salt = int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], "big")
        hottest = [(-prefix[-1], 0, len(atoms.keys))]
        chosen: list[int] = []
        while hottest and len(chosen) < routes - 1:
            load, low, high = heapq.heappop(hottest)
            if load == 0:
                break
            # A stream per route: what is drawn for one does not depend on the others' turns.
            draws = finders.Draws(seed, salt, low, high)
            at = self.finder(finders.RouteView(atoms.keys, prefix, low, high), draws)
            if at is None:
                continue
            assert low < at < high, f"{self.name} leaves an empty route"
            chosen.append(at)
            heapq.heappush(hottest, (prefix[low] - prefix[at], low, at))
            heapq.heappush(hottest, (prefix[at] - prefix[high], at, high))
        return sorted(chosen)


@dataclass(frozen=True, slots=True)
class EvenKeys:
    """Pre-split so that every route holds equally many of the observed keys, hot or not.

    By number of keys, not by position in the key space, as `collect --routes N` does it: by
    position most routes are empty wherever keys share an alphabet.
    """

    name: str = "even-keys"

    def cut(self, atoms: Atoms, routes: int, seed: int) -> list[int]:
        """Return even cuts; fewer where there are fewer keys."""
        number = len(atoms.keys)
        return sorted({number * part // routes for part in range(1, routes)} - {0})


@dataclass(frozen=True, slots=True)
class NoSplit:
    """Leave everything on one route."""

    name: str = "none"

    def cut(self, atoms: Atoms, routes: int, seed: int) -> list[int]:
        """Return no cuts."""
        return []


POLICIES: Final[Mapping[str, Policy]] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            Robust(),
            Exact(),
            Splitting("elastickv", finders.elastickv_cut),
            Splitting("cockroachdb", finders.cockroachdb_cut),
            Splitting("tikv", finders.tikv_cut),
            Splitting("pd", finders.pd_cut),
            Splitting("median", finders.median_cut),
            EvenKeys(),
            NoSplit(),
        )
    }
)


def policies_named(names: Sequence[str]) -> tuple[Policy, ...]:
    """Return the policies of these names, each once; `all` means every one.

    Raises:
        InvalidArgument: a name is not known.
    """
    wanted = dict.fromkeys(
        known for name in names for known in (POLICIES if name == ALL else (name,))
    )
    unknown = [name for name in wanted if name not in POLICIES]
    if unknown or not wanted:
        raise InvalidArgument(
            f"there is no policy {unknown[0]!r}" if unknown else "no policy is named",
            code="policy_unknown",
            hint=f"known are {ALL}, {', '.join(POLICIES)}",
        )
    return tuple(POLICIES[name] for name in wanted)


def whole(atoms: Atoms) -> Segments:
    """Return all atoms as the one segment of one route over everything."""
    return segments_of(atoms.loads, (0, len(atoms.loads)))


def route_loads(segments: Segments, chosen: Sequence[int]) -> tuple[int, ...]:
    """Return the load of every route that these cuts make, ascending by key."""
    edges = [0, *chosen, len(segments.prefix) - 1]
    return tuple(segments.prefix[high] - segments.prefix[low] for low, high in pairwise(edges))


def replayed_loads(events: pa.Table, choices: Sequence[Sequence[bytes]]) -> list[tuple[int, ...]]:
    """Count recorded loads on the routes of several choices of cuts, in one replay.

    The events are counted on the routes that all cuts together make; each choice's routes are
    unions of those, so every sum is a recount.

    Args:
        events: As for `replay.replay`.
        choices: Per choice the keys at which it cuts, ascending, distinct, not empty.

    Returns:
        Per choice the load of its routes, ascending by key.

    Raises:
        NotFound: there are no events.
    """
    keys = sorted({key for choice in choices for key in choice})
    spans = [Span(low, high) for low, high in pairwise([b"", *keys, None]) if low is not None]
    totals = replay(events, spans, _WINDOW_MS).totals.tolist()
    prefix = list(accumulate(totals, initial=0))
    answer: list[tuple[int, ...]] = []
    for choice in choices:
        edges = [0, *(bisect_left(keys, key) + 1 for key in choice), len(totals)]
        answer.append(tuple(prefix[high] - prefix[low] for low, high in pairwise(edges)))
    return answer
