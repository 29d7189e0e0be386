"""Rules of the route catalog: bootstrap, split in the order of its checks, seeds, its own group."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from workbench.errors import (
    Conflict,
    Internal,
    InvalidArgument,
    InvalidInput,
    NotFound,
    Unavailable,
)
from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.model.routes import RouteDescriptor, RouteState
from workbench.routing.records import MutationOp, RouteDelta, RouteMutation
from workbench.routing.rules import (
    CatalogState,
    bootstrap_state,
    check_catalog_group,
    even_seed_spans,
    split_route,
)

LOW = RouteDescriptor(1, Span(b"", b"c"), 1)
MIDDLE = RouteDescriptor(3, Span(b"c", b"m"), 2, RouteState.ACTIVE, 2, 77)
MOVING = RouteDescriptor(5, Span(b"m", b"t"), 2, RouteState.MIGRATING_SOURCE)
OPEN = RouteDescriptor(6, Span(b"t", None), 3)
STATE = CatalogState(7, 9, (LOW, MIDDLE, MOVING, OPEN))
U64_MAX = 2**64 - 1


def split(state=STATE, **changed):
    request = {"expected_version": 7, "route_id": 3, "split_key": b"f", "commit_ts": 500}
    return split_route(state, **{**request, **changed})


def route(route_id, start, end, group=1):
    return RouteDescriptor(route_id, Span(start, end), group)


# --- bootstrap


def test_bootstrap_is_version_1_with_its_routes_ascending_and_the_next_id():
    state = bootstrap_state([OPEN, LOW, MIDDLE])
    assert state == CatalogState(1, 7, (LOW, MIDDLE, OPEN))


@pytest.mark.parametrize(
    ("routes", "code"),
    [
        ([], "routes_empty"),
        ([LOW, replace(MIDDLE, span=Span(b"b", b"m"))], "route_overlap"),
        ([LOW, replace(MIDDLE, route_id=1)], "route_id_duplicate"),
        ([replace(LOW, route_id=0)], "route_id_invalid"),
        ([replace(LOW, group=0)], "route_id_invalid"),
    ],
)
def test_bootstrap_refuses_routes_that_break_a_rule(routes, code):
    with pytest.raises(InvalidInput) as caught:
        bootstrap_state(routes)
    assert caught.value.code == code


# --- split


def test_split_replaces_the_parent_by_two_children_that_inherit_group_and_state():
    left = RouteDescriptor(9, Span(b"c", b"f"), 2, RouteState.ACTIVE, 3, 500)
    right = RouteDescriptor(10, Span(b"f", b"m"), 2, RouteState.ACTIVE, 3, 500)
    plan = split()
    assert (plan.left, plan.right) == (left, right)
    assert plan.state_after == CatalogState(8, 11, (LOW, left, right, MOVING, OPEN))
    assert plan.delta == RouteDelta(
        7,
        8,
        (
            RouteMutation(MutationOp.DELETE, 3, None),
            RouteMutation(MutationOp.UPSERT, 9, left),
            RouteMutation(MutationOp.UPSERT, 10, right),
        ),
    )


def test_right_child_of_an_open_route_stays_open():
    plan = split(route_id=6, split_key=b"t\x00")
    assert plan.left.span == Span(b"t", b"t\x00")
    assert plan.right.span == Span(b"t\x00", None)


@pytest.mark.parametrize(("stored", "first"), [(0, 7), (6, 7), (7, 7), (9, 9), (1000, 1000)])
def test_next_id_is_the_larger_of_the_stored_and_one_above_the_largest(stored, first):
    plan = split(replace(STATE, next_route_id=stored))
    assert (plan.left.route_id, plan.right.route_id) == (first, first + 1)
    assert plan.state_after.next_route_id == first + 2


# Each request breaks the rule of its line and of all lines below it; the upper one is told.
REFUSALS = [
    ({"expected_version": 6}, Conflict, "catalog_version_mismatch"),
    ({"route_id": 4}, NotFound, "route_absent"),
    ({"route_id": 5}, Unavailable, "route_not_active"),
    ({"busy_routes": frozenset({3, 4, 5})}, Unavailable, "route_busy"),
    ({"split_key": b"c"}, InvalidInput, "split_key_at_bound"),
]


@pytest.mark.parametrize("number", range(len(REFUSALS)))
def test_checks_come_in_the_order_of_the_specification(number):
    state = replace(STATE, next_route_id=U64_MAX)
    changed = {}
    for request, _, _ in reversed(REFUSALS[number:]):
        changed.update(request)
    _, kind, code = REFUSALS[number]
    with pytest.raises(kind) as caught:
        split(state, **changed)
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("version", [0, 6, 8, U64_MAX])
def test_only_the_current_version_may_be_expected(version):
    with pytest.raises(Conflict) as caught:
        split(expected_version=version)
    assert caught.value.code == "catalog_version_mismatch"
    assert not caught.value.retryable


@pytest.mark.parametrize("moving", [each for each in RouteState if each is not RouteState.ACTIVE])
def test_route_in_any_other_state_is_not_split(moving):
    state = replace(STATE, routes=(LOW, replace(MIDDLE, state=moving), OPEN))
    with pytest.raises(Unavailable) as caught:
        split(state)
    assert caught.value.code == "route_not_active"
    assert caught.value.retryable


def test_live_job_of_another_route_blocks_nothing():
    assert split(busy_routes=frozenset({1, 5})) == split()


@pytest.mark.parametrize(
    ("route_id", "split_key", "code"),
    [
        (3, b"c", "split_key_at_bound"),
        (3, b"m", "split_key_at_bound"),
        (3, b"b\xff", "split_key_outside"),
        (3, b"m\x00", "split_key_outside"),
        (3, b"", "split_key_outside"),
        (1, b"", "split_key_at_bound"),
        (6, b"s", "split_key_outside"),
        (3, b"d" * (KEY_BYTES_MAX + 1), "key_too_long"),
        (3, b"z" * (KEY_BYTES_MAX + 1), "split_key_outside"),
    ],
)
def test_split_key_lies_strictly_inside(route_id, split_key, code):
    with pytest.raises(InvalidInput) as caught:
        split(route_id=route_id, split_key=split_key)
    assert caught.value.code == code


def test_split_key_that_is_too_long_is_told_before_ids_overflow():
    with pytest.raises(InvalidInput, match=r"^split key has 4097 bytes"):
        split(replace(STATE, next_route_id=U64_MAX), split_key=b"d" * 4097)


def test_split_key_at_the_limit_is_taken():
    assert split(split_key=b"d" * KEY_BYTES_MAX).right.span.start == b"d" * KEY_BYTES_MAX


@pytest.mark.parametrize(
    ("version", "stored", "fits"),
    [
        (7, U64_MAX - 2, True),
        (7, U64_MAX - 1, False),
        (7, U64_MAX, False),
        (U64_MAX - 1, 9, True),
        (U64_MAX, 9, False),
    ],
)
def test_ids_and_versions_that_do_not_fit_64_bits_are_an_internal_error(version, stored, fits):
    state = replace(STATE, version=version, next_route_id=stored)
    if fits:
        after = split(state, expected_version=version).state_after
        assert max(after.version, after.next_route_id) <= U64_MAX
    else:
        with pytest.raises(Internal) as caught:
            split(state, expected_version=version)
        assert caught.value.code == "id_overflow"


def test_overlap_in_the_stored_catalog_is_not_carried_on():
    state = replace(STATE, routes=(replace(LOW, span=Span(b"", b"d")), MIDDLE))
    with pytest.raises(InvalidInput) as caught:
        split(state)
    assert caught.value.code == "route_overlap"


# --- seed routes


def test_seed_routes_give_each_group_one_route_and_group_1_the_catalog():
    for groups in range(1, 257):
        routes = even_seed_spans(groups)
        assert [each.route_id for each in routes] == list(range(1, groups + 1))
        assert [each.group for each in routes] == list(range(1, groups + 1))
        assert (routes[0].span.start, routes[-1].span.end) == (b"", None)
        assert all(left.span.end == right.span.start for left, right in pairwise(routes))
        assert b"!dist|meta|version" in routes[0].span
        check_catalog_group(routes)
        assert all(each.parent_route_id == each.split_at_hlc == 0 for each in routes)


def width(each):
    """Return how many of the 2**16 first two bytes of keys a seed route holds."""
    start, end = each.span.start, each.span.end
    low = int.from_bytes(start.ljust(2, b"\x00"), "big")
    high = 2**16 if end is None else int.from_bytes(end.ljust(2, b"\x00"), "big")
    return high - low


def test_seed_routes_are_even_but_for_the_one_that_holds_the_catalog():
    for groups in range(2, 257):
        routes = even_seed_spans(groups)
        widths = {width(each) for each in (routes if groups < 8 else routes[1:])}
        assert max(widths) - min(widths) <= (1 if groups > 223 else 256)
        assert groups < 8 or width(routes[0]) == 0x2200


def test_seed_cuts_are_those_of_the_document():
    assert [each.span.start.hex() for each in even_seed_spans(4)] == ["", "40", "80", "c0"]
    starts = [each.span.start.hex() for each in even_seed_spans(8)]
    assert starts == ["", "22", "41", "61", "81", "a0", "c0", "e0"]
    assert [each.span.start.hex() for each in even_seed_spans(256)][:3] == ["", "22", "22de"]


@pytest.mark.parametrize("groups", [-1, 0, 257])
def test_more_groups_than_first_bytes_or_none_are_refused(groups):
    with pytest.raises(InvalidArgument) as caught:
        even_seed_spans(groups)
    assert caught.value.code == "groups_out_of_range"


# --- the group of the catalog


@pytest.mark.parametrize(
    "routes",
    [
        [route(1, b"", None)],
        [route(1, b"!dist|", b"!dist}")],
        [route(1, b"!", b"!dist|route|"), route(2, b"!dist|route|", b"a")],
        [route(1, b"", b"!dist}"), route(2, b"!dist}", None, group=2)],
        [route(1, b"", b"!dist|", group=2), route(2, b"!dist|", None)],
    ],
)
def test_reserved_keys_all_on_group_1_are_fine(routes):
    check_catalog_group(reversed(routes))


@pytest.mark.parametrize(
    "routes",
    [
        [],
        [route(1, b"", None, group=2)],
        [route(1, b"", b"!dist|")],
        [route(1, b"!dist|\x00", None)],
        [route(1, b"", b"!dist|route|"), route(2, b"!dist|route|", None, group=2)],
        [route(1, b"", b"!dist|m"), route(2, b"!dist|n", None)],
        [route(1, b"", b"!dist|\xff\xff")],
        [route(1, b"!dist|m", None), route(2, b"", b"!dist|m", group=2)],
        [route(1, b"a", None)],
    ],
)
def test_reserved_keys_on_another_group_or_on_none_are_refused(routes):
    with pytest.raises(InvalidInput) as caught:
        check_catalog_group(routes)
    assert caught.value.code == "catalog_group_misplaced"
