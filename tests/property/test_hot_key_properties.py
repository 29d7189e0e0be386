"""Heavy keys against plain counts: the true count always lies in [count - error, count]."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.model.keys import Span
from workbench.model.route_keys import Evidence, joined
from workbench.model.routes import seed_routes
from workbench.node import sampler as module
from workbench.node.hot_keys import Draws, Reservoir, SpaceSaving, evidence_of
from workbench.node.key_counts import Counted
from workbench.node.sampler import Sampler
from workbench.routing.table import RouteTable

WINDOW_US = 1_000_000

keys = st.integers(0, 30).map(lambda n: b"%02d" % n)
# Some keys far oftener than others.
streams = st.lists(st.one_of(keys, st.sampled_from([b"03", b"17"])), max_size=300)


def check_bound(told, true, *, error_max=None):
    assert len({each.key for each in told}) == len(told)
    for each in told:
        assert each.count - each.error <= true[each.key] <= each.count
        assert error_max is None or each.error <= error_max


def check_whole(evidence, true):
    check_bound(evidence.heavy, true)
    told = {each.key for each in evidence.heavy}
    assert all(count <= evidence.untold_max for key, count in true.items() if key not in told)


def fed(summary, stream):
    for each in stream:
        summary.add(each)
    return summary


@settings(max_examples=200, deadline=None)
@given(stream=streams, capacity=st.integers(1, 12))
def test_space_saving_holds_true_counts_in_its_interval_and_every_key_that_is_heavy(
    stream, capacity
):
    summary, true = fed(SpaceSaving(capacity), stream), Counter(stream)
    told = summary.keys()
    assert len(told) <= capacity
    check_bound(told, true, error_max=len(stream) // capacity)
    assert sum(each.count for each in told) == len(stream)
    held = {each.key for each in told}
    assert {k for k, n in true.items() if n > len(stream) / capacity} <= held
    assert all(true[k] <= summary.floor for k in true.keys() - held)


@settings(max_examples=200, deadline=None)
@given(
    stream=st.lists(st.tuples(keys, st.integers(1, 50)), max_size=80), capacity=st.integers(1, 12)
)
def test_accesses_that_come_many_at_once_keep_the_interval_and_every_heavy_key(stream, capacity):
    summary, true = SpaceSaving(capacity), Counter()
    for key, times in stream:
        summary.add(key, times)
        true[key] += times
    told = summary.keys()
    check_bound(told, true, error_max=true.total() // capacity)
    held = {each.key for each in told}
    assert {k for k, n in true.items() if n > true.total() / capacity} <= held
    assert all(true[k] <= summary.floor for k in true.keys() - held)


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.tuples(streams, keys), min_size=1, max_size=4), capacity=st.integers(1, 8))
def test_interval_holds_where_keys_are_taken_out_in_between(parts, capacity):
    summary, true = SpaceSaving(capacity), Counter()
    for stream, bound in parts:
        fed(summary, stream)
        true.update(stream)
        check_bound(summary.keys(), true)
        check_bound(summary.take(Span(b"", bound)), true) if bound else None
        true = Counter({k: n for k, n in true.items() if k >= bound})
        check_bound(summary.keys(), true)


def test_checker_notices_a_summary_that_forgets_what_it_gave_up():
    class Forgetful(SpaceSaving):
        def _give_up_least(self):
            super()._give_up_least()
            self.floor = 0

    stream = [b"a", b"b", b"c", b"a", b"b", b"c", b"a"]
    check_bound(fed(SpaceSaving(2), stream).keys(), Counter(stream))
    with pytest.raises(AssertionError):
        check_bound(fed(Forgetful(2), stream).keys(), Counter(stream))


def told_of(stream, exact_max):
    """Return the evidence of one leader: some keys counted one by one, the rest as a crowd."""
    counted, crowd, reservoir = {}, SpaceSaving(4), Reservoir(16, Draws(1))
    for each in stream:
        if each in counted or (len(counted) < exact_max and not reservoir.seen):
            counted.setdefault(each, [0, 0, 0, 0])[0] += 1
        else:
            crowd.add(each)
            reservoir.offer(each, write=False)
    return evidence_of(
        Counted.of(counted),
        Draws(2),
        crowd=crowd.keys(),
        floor=crowd.floor,
        reservoir=reservoir if reservoir.seen else None,
    )


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.tuples(streams, st.integers(0, 40)), min_size=1, max_size=3))
def test_interval_holds_for_what_several_leaders_told_together(parts):
    told = [told_of(stream, exact_max) for stream, exact_max in parts]
    whole = joined(told)
    true = Counter(each for stream, _ in parts for each in stream)
    assert whole.accesses == true.total()
    check_whole(whole, true)
    assert sum(each.weight for each in whole.drawn) == pytest.approx(true.total())


def test_checker_notices_leaders_whose_counts_are_only_added():
    parts = [[b"a"] * 5 + [b"%02d" % n for n in range(9)] * 2, [b"b"] * 5]
    parts[1] += [b"%02d" % n for n in range(9)] * 2 + [b"a"]
    true = Counter(parts[0] + parts[1])
    told = [told_of(part, 99) for part in parts]
    check_whole(joined(told), true)
    without = [Evidence(part.accesses, 0, part.heavy) for part in told]
    with pytest.raises(AssertionError):
        check_whole(joined(without), true)


@settings(max_examples=150, deadline=None)
@given(
    windows=st.lists(st.lists(st.tuples(keys, st.booleans()), max_size=120), max_size=3),
    cuts=st.sets(keys.filter(bool), max_size=2),
    limit=st.integers(0, 40),
)
def test_windows_tell_keys_of_their_routes_alone_and_within_the_bound(windows, cuts, limit):
    table = RouteTable(1, tuple(seed_routes(sorted(cuts))))
    groups = frozenset(route.group for route in table.routes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEYS_PER_WINDOW_MAX", limit)
        patch.setattr(module, "CROWD_KEYS_MAX", 6)
        made = Sampler(1, window_ms=1_000)
        made.set_routes(table, groups, 0)
        for number, accesses in enumerate(windows):
            for each, write in accesses:
                (made.count_writes if write else made.count_reads)([(each, 1)])
            made.advance((number + 1) * WINDOW_US)
    for window, accesses in zip(made.windows(0), windows, strict=True):
        true = Counter(each for each, _ in accesses)
        kinds = set(accesses)
        for route in table.routes:
            inside = Counter({k: n for k, n in true.items() if k in route.span})
            [keys_of] = [each for each in window.keys if each.route_id == route.route_id] or [None]
            assert (keys_of is None) == (not inside)
            if keys_of is None:
                continue
            mine = keys_of.hot_keys
            check_whole(Evidence(0, keys_of.untold_max, mine), inside)
            assert {h.key for h in mine} <= inside.keys()
            if len(true) <= limit:
                assert not any(h.error for h in mine)
                assert [h.count for h in mine] == sorted(inside.values(), reverse=True)[:8]
            drawn = keys_of.samples
            assert sum(s.weight for s in drawn) == pytest.approx(sum(inside.values()))
            assert all((s.key, s.write) in kinds and s.key in route.span for s in drawn)
