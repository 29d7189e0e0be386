"""Rules of the route catalog: how it begins, how a split changes it, which group holds it.

    version 7   │ 3: [a, m) on 2 │                  next_route_id 9
                        │ split 3 at f, expected_version 7, commit_ts t
    version 8   │ 9: [a, f) on 2 │ 10: [f, m) on 2 │   next_route_id 11
                  delta: delete 3, upsert 9, upsert 10

- A catalog version rises by one with each change; a change that expects another one fails.
- Route ids are never reused: the next one is the larger of the stored counter and one above the
  largest id, and is never lowered.
- Children inherit group and state, and name their parent and the commit_ts of the split.
- The catalog's own rows, all keys with RESERVED_PREFIX, belong to CATALOG_GROUP.

Everything here is a pure function of its arguments: replicas that apply the same entries hold
the same catalog. Rows and bytes are `records`; owning a span is the group's state, not ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workbench.errors import (
    Conflict,
    Internal,
    InvalidArgument,
    InvalidInput,
    NotFound,
    Unavailable,
)
from workbench.model.keys import Span, check_key, printable_key
from workbench.model.routes import (
    RESERVED_PREFIX,
    RouteDescriptor,
    RouteState,
    check_routes,
    next_route_id,
)
from workbench.routing.records import U64_MAX, MutationOp, RouteDelta, RouteMutation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

CATALOG_GROUP: Final = 1
SEED_GROUPS_MAX: Final = 256
# The lowest one-byte key above all that start with RESERVED_PREFIX.
_FREE_BYTE: Final = RESERVED_PREFIX[0] + 1
_RESERVED_END: Final = RESERVED_PREFIX[:-1] + bytes([RESERVED_PREFIX[-1] + 1])


@dataclass(frozen=True, slots=True)
class CatalogState:
    """The route catalog at one version.

    Attributes:
        version: 0 before the bootstrap.
        next_route_id: As stored; 0 where it never was.
        routes: Ascending by start; they keep the rules of `check_routes`.
    """

    version: int = 0
    next_route_id: int = 0
    routes: tuple[RouteDescriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """What a split will do, all of it in one commit.

    Attributes:
        state_after: The catalog behind it.
        left: The child below the split key.
        right: The child from it on.
        delta: The rows that change: the parent goes, then left and right come.
    """

    state_after: CatalogState
    left: RouteDescriptor
    right: RouteDescriptor
    delta: RouteDelta


def bootstrap_state(routes: Iterable[RouteDescriptor]) -> CatalogState:
    """Return the catalog that begins with seed `routes`, as version 1.

    Raises:
        InvalidInput: they break a rule of routes (`route_overlap` …), or there are none
            (`routes_empty`).
    """
    checked = check_routes(routes)
    if not checked:
        raise InvalidInput(
            "there are no seed routes", code="routes_empty", hint="give at least one route"
        )
    return CatalogState(1, next_route_id(checked), checked)


def split_route(  # noqa: PLR0913  the request's fields, the state, and what the caller knows
    state: CatalogState,
    *,
    expected_version: int,
    route_id: int,
    split_key: bytes,
    commit_ts: int,
    busy_routes: AbstractSet[int] = frozenset(),
) -> SplitPlan:
    """Plan the split of one route into two of the same group. Checks come in this order.

    Args:
        state: The catalog now.
        expected_version: The version that the caller has seen.
        route_id: Of the route to split.
        split_key: Start of the right child.
        commit_ts: Of the commit that will carry it (HLC).
        busy_routes: Source routes of live jobs.

    Raises:
        Conflict: `catalog_version_mismatch`.
        NotFound: `route_absent`.
        Unavailable: `route_not_active` or `route_busy`.
        InvalidInput: `split_key_at_bound`, `split_key_outside` or `key_too_long`.
        Internal: `id_overflow`.
    """
    if expected_version != state.version:
        raise _mismatch(state, expected_version)
    parent = next((each for each in state.routes if each.route_id == route_id), None)
    if parent is None:
        raise NotFound(
            f"route {route_id} is not in catalog version {state.version}",
            code="route_absent",
            hint="list the routes and plan again",
        )
    _check_splittable(parent, busy_routes)
    _check_split_key(parent, split_key)
    first = _next_route_id(state)
    if first > U64_MAX - 2 or state.version == U64_MAX:
        raise Internal(
            f"version {state.version} or next route id {first} would exceed 64 bits",
            code="id_overflow",
            hint="report this: no cluster makes so many splits",
        )
    assert 0 < commit_ts <= U64_MAX
    return _plan(state, parent, split_key, commit_ts)


def replaced_state(
    state: CatalogState,
    *,
    expected_version: int,
    version: int,
    next_route_id: int,
    routes: Iterable[RouteDescriptor],
) -> CatalogState:
    """Return the catalog that has all of `routes` at `version` in place of `state`.

    It is `state` itself where nothing differs, so a repetition changes nothing. Route ids that
    were used stay used: the next one is not below any of the stored one, `next_route_id` and one
    above the largest.

    Raises:
        InvalidInput: the routes break a rule (`route_overlap` …, `routes_empty`,
            `catalog_group_misplaced`), or `catalog_version_invalid`.
        Conflict: `catalog_version_mismatch`: not at `expected_version`;
            `catalog_version_not_above`: `version` is older, or has other routes here.
    """
    checked = check_routes(routes)
    if not checked:
        raise InvalidInput(
            "there are no routes to save", code="routes_empty", hint="give at least one route"
        )
    check_catalog_group(checked)
    following = max(_next_route_id(state), next_route_id, _largest_id(checked) + 1)
    if not 0 < version <= U64_MAX or following > U64_MAX:
        raise InvalidInput(
            f"catalog version {version} or next route id {following} is not in 1 to 2**64 - 1",
            code="catalog_version_invalid",
            hint="take both from the same export",
        )
    if version == state.version and checked == state.routes:
        return (
            state if following == state.next_route_id else replace(state, next_route_id=following)
        )
    if expected_version != state.version:
        raise _mismatch(state, expected_version)
    if version <= state.version:
        raise Conflict(
            f"the catalog is at version {state.version}, with other routes than those of "
            f"version {version} that are to be saved",
            code="catalog_version_not_above",
            hint="restore into a cluster that was started with the same routes, or is older",
        )
    return CatalogState(version, following, checked)


def even_seed_spans(groups: int) -> tuple[RouteDescriptor, ...]:
    """Return seed routes for `groups` groups, even over the first byte of keys.

    Route i lies on group i, ids from 1; together they cover all keys. The lowest one, on group
    1, holds all keys with RESERVED_PREFIX. From 8 groups on an even cut would part it from
    them: then it keeps the first bytes 00 to 21, and the others share 22 to FF evenly, with
    cuts of one byte as far as those suffice (223 groups), of two bytes beyond.

    Raises:
        InvalidArgument: `groups_out_of_range`.
    """
    if not 1 <= groups <= SEED_GROUPS_MAX:
        raise InvalidArgument(
            f"{groups} groups cannot be seeded",
            code="groups_out_of_range",
            hint=f"choose 1 to {SEED_GROUPS_MAX} groups",
        )
    bounds: list[bytes | None] = [b"", *_seed_cuts(groups), None]
    return check_routes(
        RouteDescriptor(number, Span(start or b"", end), number)
        for number, (start, end) in enumerate(pairwise(bounds), start=1)
    )


def check_catalog_group(routes: Iterable[RouteDescriptor]) -> None:
    """Check that every key with RESERVED_PREFIX belongs to a route of CATALOG_GROUP.

    Raises:
        InvalidInput: `catalog_group_misplaced`; or the routes break a rule of `check_routes`.
    """
    covered = RESERVED_PREFIX  # every reserved key below this has a route of the right group
    for route in check_routes(routes):
        start, end = route.span.start, route.span.end
        if (end is not None and end <= covered) or start >= _RESERVED_END:
            continue
        if route.group != CATALOG_GROUP:
            raise _misplaced(f"route {route.route_id} [{route.span}] is on group {route.group}")
        if start > covered:
            break
        covered = _RESERVED_END if end is None else end
    if covered < _RESERVED_END:
        raise _misplaced(f"no route holds the keys from {printable_key(covered)} on")


def _check_splittable(parent: RouteDescriptor, busy_routes: AbstractSet[int]) -> None:
    if parent.state is not RouteState.ACTIVE:
        raise Unavailable(
            f"route {parent.route_id} is {parent.state}, not ACTIVE",
            code="route_not_active",
            hint="wait until its move has ended",
        )
    if parent.route_id in busy_routes:
        raise Unavailable(
            f"route {parent.route_id} is the source of a live split job",
            code="route_busy",
            hint="wait until the job has ended, or abandon it",
        )


def _check_split_key(parent: RouteDescriptor, split_key: bytes) -> None:
    if split_key in {parent.span.start, parent.span.end}:
        raise InvalidInput(
            f"split key {printable_key(split_key)} is a bound of route {parent.route_id} "
            f"[{parent.span}]",
            code="split_key_at_bound",
            hint="one child would be empty: choose a key strictly inside",
        )
    if split_key not in parent.span:
        raise InvalidInput(
            f"split key {printable_key(split_key)} lies outside route {parent.route_id} "
            f"[{parent.span}]",
            code="split_key_outside",
            hint="choose a key strictly inside, or the route that holds this one",
        )
    check_key(split_key, "split key")


def _plan(
    state: CatalogState, parent: RouteDescriptor, split_key: bytes, commit_ts: int
) -> SplitPlan:
    first = _next_route_id(state)
    left = replace(
        parent,
        route_id=first,
        span=Span(parent.span.start, split_key),
        parent_route_id=parent.route_id,
        split_at_hlc=commit_ts,
    )
    right = replace(left, route_id=first + 1, span=Span(split_key, parent.span.end))
    others = (route for route in state.routes if route is not parent)
    after = CatalogState(state.version + 1, first + 2, check_routes((*others, left, right)))
    delta = RouteDelta(
        state.version,
        after.version,
        (
            RouteMutation(MutationOp.DELETE, parent.route_id, None),
            RouteMutation(MutationOp.UPSERT, left.route_id, left),
            RouteMutation(MutationOp.UPSERT, right.route_id, right),
        ),
    )
    return SplitPlan(after, left, right, delta)


def _next_route_id(state: CatalogState) -> int:
    return max(state.next_route_id, next_route_id(state.routes))


def _mismatch(state: CatalogState, expected_version: int) -> Conflict:
    return Conflict(
        f"the route catalog is at version {state.version}, not at {expected_version}",
        code="catalog_version_mismatch",
        hint="list the routes and plan again",
    )


def _largest_id(routes: Iterable[RouteDescriptor]) -> int:
    return next_route_id(routes) - 1


def _seed_cuts(groups: int) -> list[bytes]:
    """Return the starts of all routes but the lowest, ascending, none below _FREE_BYTE."""
    if 256 // groups >= _FREE_BYTE:
        return [bytes([number * 256 // groups]) for number in range(1, groups)]
    others = groups - 1
    size = 1 if others <= 256 - _FREE_BYTE else 2
    low, high = _FREE_BYTE << 8 * (size - 1), 256**size
    cuts = [low + number * (high - low) // others for number in range(others)]
    return [cut.to_bytes(size, "big").rstrip(b"\x00") for cut in cuts]


def _misplaced(why: str) -> InvalidInput:
    return InvalidInput(
        f"the route catalog lives in group {CATALOG_GROUP}, but {why}",
        code="catalog_group_misplaced",
        hint=f"give all keys with {printable_key(RESERVED_PREFIX)} to group {CATALOG_GROUP}",
    )
