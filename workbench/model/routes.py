"""Routes: the rows of a cluster's route catalog, and the rules a set of them keeps.

A *route* gives a span to a Raft group. A snapshot of routes has a *catalog version*; a split
takes one row away, adds two, and raises the version by one. Ids are never reused.

Rules (checked by `check_routes`): ids and groups are not zero, ids are unique, spans do not
overlap. Gaps are legal: a key without a route has no owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput
from workbench.model.keys import Span, check_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

RESERVED_PREFIX: Final = b"!dist|"


class RouteState(StrEnum):
    """State of a route; the wire carries the same names with the prefix ROUTE_STATE_."""

    ACTIVE = "ACTIVE"
    WRITE_FENCED = "WRITE_FENCED"
    MIGRATING_SOURCE = "MIGRATING_SOURCE"
    MIGRATING_TARGET = "MIGRATING_TARGET"


@dataclass(frozen=True, slots=True)
class RouteDescriptor:
    """One row of the route catalog.

    Attributes:
        route_id: Never zero, never reused.
        span: The keys of the route.
        group: The Raft group that owns the span; never zero.
        state: ACTIVE but for routes that are being moved.
        parent_route_id: The route that was split to make this one; 0 for a seed route.
        split_at_hlc: commit_ts (HLC) of that split; 0 for a seed route.
    """

    route_id: int
    span: Span
    group: int
    state: RouteState = RouteState.ACTIVE
    parent_route_id: int = 0
    split_at_hlc: int = 0


@dataclass(frozen=True, slots=True)
class RouteSnapshot:
    """All routes of a cluster at one catalog version, ascending by start.

    Attributes:
        catalog_version: The route catalog's version.
        routes: Ascending by span start, not overlapping.
        taken_at: When the snapshot was read, UTC.
        consistent: Whether all rows belong to one version; False where a system pages.
        cluster_id: What the system calls itself; None where it has no such name.
    """

    catalog_version: int
    routes: tuple[RouteDescriptor, ...]
    taken_at: datetime
    consistent: bool = True
    cluster_id: str | None = None


def check_routes(routes: Iterable[RouteDescriptor]) -> tuple[RouteDescriptor, ...]:
    """Return `routes` ascending by start, or raise InvalidInput naming the rule they break."""
    ordered = sorted(routes, key=lambda route: route.span.start)
    seen: set[int] = set()
    for route in ordered:
        if route.route_id < 1 or route.group < 1:
            raise InvalidInput(
                f"route id {route.route_id} on group {route.group}: neither may be zero",
                code="route_id_invalid",
                hint="number routes and groups from 1",
            )
        if route.route_id in seen:
            raise InvalidInput(
                f"route id {route.route_id} occurs twice",
                code="route_id_duplicate",
                hint="route ids are unique within a catalog version",
            )
        seen.add(route.route_id)
        check_key(route.span.start, f"start of route {route.route_id}")
        check_key(route.span.end or b"", f"end of route {route.route_id}")
    for left, right in pairwise(ordered):
        if left.span.end is None or left.span.end > right.span.start:
            raise InvalidInput(
                f"routes {left.route_id} [{left.span}] and {right.route_id} [{right.span}] overlap",
                code="route_overlap",
                hint="the spans of one catalog version must not overlap",
            )
    return tuple(ordered)


def seed_routes(split_keys: Sequence[bytes], *, group: int = 1) -> tuple[RouteDescriptor, ...]:
    """Return seed routes over the whole key space, cut at ascending `split_keys`, ids from 1."""
    starts = [b"", *split_keys]
    ends: list[bytes | None] = [*split_keys, None]
    return check_routes(
        RouteDescriptor(route_id, Span(start, end), group)
        for route_id, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
    )


def next_route_id(routes: Iterable[RouteDescriptor]) -> int:
    """Return the smallest id that no route of this snapshot has reached."""
    return max((route.route_id for route in routes), default=0) + 1
