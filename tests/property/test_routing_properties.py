"""Any series of splits keeps the catalog's rules; tables answer as a look at every route would."""

from __future__ import annotations

import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import given

from workbench.errors import Corruption, WorkbenchError
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor, RouteState
from workbench.routing import records
from workbench.routing.records import MutationOp
from workbench.routing.rules import (
    CatalogState,
    bootstrap_state,
    check_catalog_group,
    even_seed_spans,
    split_route,
)
from workbench.routing.table import RouteTable

KEYS = st.binary(max_size=3) | st.sampled_from([b"!dist|", b"!dist|route|", b"!dist}"])
U64 = st.integers(0, 2**64 - 1)
IDS = st.integers(1, 2**64 - 1)


@st.composite
def spans(draw):
    start, end = draw(st.binary(max_size=9)), draw(st.none() | st.binary(max_size=9))
    if end is not None and end <= start:
        end = start + b"\x00"
    return Span(start, end)


ROUTES = st.builds(
    RouteDescriptor,
    route_id=IDS,
    span=spans(),
    group=IDS,
    state=st.sampled_from(RouteState),
    parent_route_id=U64,
    split_at_hlc=U64,
)


@st.composite
def tables(draw):
    """Draw disjoint routes, touching or with gaps."""
    bounds = sorted(draw(st.sets(st.binary(max_size=2), min_size=1, max_size=8)))
    ends = [*bounds[1:], None]
    kept = [
        RouteDescriptor(number, Span(start, end), 1 + number % 3)
        for number, (start, end) in enumerate(zip(bounds, ends, strict=True), start=1)
        if draw(st.integers(0, 3))
    ]
    return RouteTable(draw(st.integers(0, 9)), tuple(draw(st.permutations(kept))))


def after(routes, delta):
    """Apply a delta to rows by id: the model of a watcher."""
    rows = {route.route_id: route for route in routes}
    for mutation in delta.mutations:
        if mutation.op is MutationOp.DELETE:
            del rows[mutation.route_id]
        else:
            assert mutation.route_id not in rows
            rows[mutation.route_id] = mutation.route
    return tuple(sorted(rows.values(), key=lambda route: route.span.start))


def faults(before: CatalogState, now: CatalogState, used: set[int]) -> set[str]:
    """Return the rules that one step of the catalog breaks."""
    covered = {(route.span.start, route.span.end) for route in now.routes}
    starts = [route.span.start for route in now.routes]
    ends = [route.span.end for route in now.routes]
    fresh = {route.route_id for route in now.routes} - {route.route_id for route in before.routes}
    checks = {
        "version rises by one": now.version == before.version + 1,
        "routes ascend": starts == sorted(set(starts)),
        "all keys covered, none twice": starts[0] == b"" and ends == [*starts[1:], None],
        "one more route": len(covered) == len(before.routes) + 1,
        "ids are fresh": not fresh & used,
        "next id above all": now.next_route_id > max(route.route_id for route in now.routes),
        "next id not lowered": now.next_route_id >= before.next_route_id,
    }
    return {name for name, holds in checks.items() if not holds}


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 40), KEYS, st.booleans()), max_size=30),
)
def test_any_series_of_splits_keeps_the_rules(groups, requests):
    state = bootstrap_state(even_seed_spans(groups))
    used = {route.route_id for route in state.routes}
    owner = RouteTable(0, state.routes)
    for commit_ts, (route_id, split_key, stale) in enumerate(requests, start=1):
        expected = state.version - stale
        try:
            plan = split_route(
                state,
                expected_version=expected,
                route_id=route_id,
                split_key=split_key,
                commit_ts=commit_ts,
            )
        except WorkbenchError:
            named = [route for route in state.routes if route.route_id == route_id]
            inside = any(split_key in r.span and split_key != r.span.start for r in named)
            assert stale or not inside, "a split that keeps all rules was refused"
            continue
        assert not stale
        assert faults(state, plan.state_after, used) == set()
        assert after(state.routes, plan.delta) == plan.state_after.routes
        assert records.decode_delta(records.encode_delta(plan.delta)) == plan.delta
        assert plan.left.group == plan.right.group == owner.lookup(split_key).group
        assert {plan.left.parent_route_id, plan.right.parent_route_id} == {route_id}
        used |= {plan.left.route_id, plan.right.route_id}
        state = plan.state_after
        check_catalog_group(state.routes)


def test_checker_of_rules_catches_planted_faults():
    before = CatalogState(1, 2, (RouteDescriptor(1, Span(b"", None), 1),))
    good = split_route(
        before, expected_version=1, route_id=1, split_key=b"m", commit_ts=1
    ).state_after
    left, right = good.routes
    old = RouteDescriptor(1, right.span, 1)
    planted = {
        "version rises by one": CatalogState(1, 4, good.routes),
        "routes ascend": CatalogState(2, 4, (right, left)),
        "all keys covered, none twice": CatalogState(2, 4, (left, left)),
        "one more route": CatalogState(2, 4, (left,)),
        "next id above all": CatalogState(2, 3, good.routes),
        "next id not lowered": CatalogState(2, 1, good.routes),
    }
    assert faults(before, good, {1}) == set()
    for name, state in planted.items():
        assert name in faults(before, state, {1}), name
    assert "ids are fresh" in faults(before, good, {1, left.route_id})
    assert faults(before, CatalogState(2, 4, (left, old)), {1}) == set(), "an id that stays is none"


@given(tables(), st.lists(st.binary(max_size=3), max_size=10))
def test_lookup_is_that_of_a_look_at_every_route(table, keys):
    bounds = [bound for each in table.routes for bound in (each.span.start, each.span.end or b"")]
    for key in [*keys, *bounds]:
        holders = [route for route in table.routes if key in route.span]
        assert table.lookup(key) == (holders[0] if holders else None)


@given(tables(), st.binary(max_size=3), st.none() | st.binary(max_size=3))
def test_intersecting_is_that_of_a_look_at_every_route(table, start, end):
    def shares(span):
        below = end is None or span.start < end
        above = span.end is None or start < span.end
        return below and above and (end is None or start < end)

    assert table.intersecting(start, end) == tuple(r for r in table.routes if shares(r.span))


@given(ROUTES)
def test_any_route_survives_its_record(route):
    data = records.encode_route(route)
    assert records.decode_route(data) == route
    assert records.decode_route_row(records.route_key(route.route_id), data) == route
    if route.split_at_hlc == 0:
        assert records.decode_route(records.encode_route(route, version=1)) == route


@given(ROUTES, st.data())
def test_cut_lengthened_or_changed_records_are_refused_or_mean_what_they_say(route, data):
    record = records.encode_route(route)
    at = data.draw(st.integers(0, len(record) - 1))
    changed = record[:at] + data.draw(st.binary(min_size=1, max_size=1)) + record[at + 1 :]
    for bad in (record[:at], record + b"\x00"):
        with pytest.raises(Corruption):
            records.decode_route(bad)
    try:
        read = records.decode_route(changed)
    except Corruption:
        return
    assert records.encode_route(read, version=records.route_record_version(changed)) == changed


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"\x01" + tail))
def test_random_bytes_raise_nothing_but_corruption(data):
    decoders = [
        records.decode_route,
        records.decode_delta,
        records.decode_row_id,
        lambda each: records.decode_counter(each, what="version"),
    ]
    for decode in decoders:
        with contextlib.suppress(Corruption):
            decode(data)
