"""The route table and its history: bounds, gaps, newer only, and what is kept."""

from __future__ import annotations

import pytest

from workbench.errors import Corruption, InvalidInput, NotFound, Unavailable
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.routing.table import HISTORY_TABLES_MAX, RouteHistory, RouteTable

A = RouteDescriptor(1, Span(b"b", b"d"), 1)
B = RouteDescriptor(2, Span(b"d", b"f"), 2)
C = RouteDescriptor(3, Span(b"k", None), 3)
TABLE = RouteTable(5, (C, A, B))


def whole(group):
    return (RouteDescriptor(group, Span(b"", None), group),)


def test_routes_are_ascending_whatever_their_order_was():
    assert TABLE.routes == (A, B, C)
    assert RouteTable(5, (A, B, C)) == TABLE


def test_table_of_overlapping_routes_is_refused():
    with pytest.raises(InvalidInput) as caught:
        RouteTable(5, (A, RouteDescriptor(2, Span(b"c", None), 1)))
    assert caught.value.code == "route_overlap"


@pytest.mark.parametrize(
    ("key", "owner"),
    [
        (b"", None),
        (b"a\xff", None),
        (b"b", A),
        (b"c\xff\xff", A),
        (b"d", B),
        (b"f", None),
        (b"j\xff", None),
        (b"k", C),
        (b"\xff" * 9, C),
    ],
)
def test_lookup_keeps_bounds_and_gaps(key, owner):
    assert TABLE.lookup(key) == owner


@pytest.mark.parametrize(
    ("start", "end", "routes"),
    [
        (b"", None, (A, B, C)),
        (b"", b"b", ()),
        (b"", b"b\x00", (A,)),
        (b"c", b"d", (A,)),
        (b"c", b"d\x00", (A, B)),
        (b"d", b"e", (B,)),
        (b"f", b"k", ()),
        (b"f", b"k\x00", (C,)),
        (b"e", None, (B, C)),
        (b"z", None, (C,)),
        (b"c", b"c", ()),
        (b"e", b"c", ()),
    ],
)
def test_intersecting_gives_the_routes_that_share_a_key(start, end, routes):
    assert TABLE.intersecting(start, end) == routes


def test_table_without_routes_owns_nothing():
    empty = RouteTable(0, ())
    assert empty.lookup(b"a") is None
    assert empty.intersecting(b"", None) == ()


def test_history_takes_only_newer_tables():
    history = RouteHistory(whole(9))
    assert history.current == RouteTable(0, whole(9))
    assert history.replace(RouteTable(3, whole(1)))
    assert not history.replace(RouteTable(2, whole(2)))
    assert not history.replace(RouteTable(3, whole(1)))
    assert history.current == RouteTable(3, whole(1))
    with pytest.raises(NotFound):
        history.owner_of(b"k", 2)


def test_two_sets_of_routes_under_one_version_are_corruption():
    history = RouteHistory()
    history.replace(RouteTable(3, whole(1)))
    with pytest.raises(Corruption) as caught:
        history.replace(RouteTable(3, whole(2)))
    assert caught.value.code == "catalog_version_ambiguous"
    assert history.current == RouteTable(3, whole(1))


def test_owner_is_that_of_the_version_asked_for():
    history = RouteHistory(whole(9))
    history.replace(RouteTable(1, whole(1)))
    history.replace(TABLE)
    owners = [history.owner_of(b"e", version) for version in (0, 1, 5)]
    assert owners == [*whole(9), *whole(1), B]
    assert history.owner_of(b"f", 5) is None


def test_version_that_never_came_is_not_found_and_a_newer_one_is_tried_again():
    history = RouteHistory(whole(9))
    with pytest.raises(Unavailable) as caught:
        history.owner_of(b"k", 1)
    assert caught.value.code == "catalog_version_ahead"
    assert caught.value.retryable
    history.replace(TABLE)
    for version, kind in ((4, NotFound), (6, Unavailable)):
        with pytest.raises(kind):
            history.owner_of(b"k", version)


def test_history_keeps_the_last_32_versions_and_version_0():
    assert HISTORY_TABLES_MAX == 32
    history = RouteHistory(whole(99))
    for version in range(1, 41):
        history.replace(RouteTable(version, whole(version)))
    for version in range(1, 9):
        with pytest.raises(NotFound) as caught:
            history.owner_of(b"k", version)
        assert caught.value.code == "catalog_version_not_kept"
    for version in range(9, 41):
        assert history.owner_of(b"k", version) == whole(version)[0]
    assert history.owner_of(b"k", 0) == whole(99)[0]


def test_table_that_a_reader_holds_does_not_change():
    history = RouteHistory()
    history.replace(TABLE)
    held = history.current
    history.replace(RouteTable(6, whole(1)))
    assert held.lookup(b"e") == B
    assert history.current.lookup(b"e") == whole(1)[0]
