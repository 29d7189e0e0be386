"""Heavy keys and drawn accesses: exact where they can be, bounded where not, fair in any case."""

from __future__ import annotations

import pytest

from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.model.node import HotKeyCount
from workbench.model.route_keys import HOT_KEYS_PER_ROUTE, Evidence, joined
from workbench.model.routes import seed_routes
from workbench.node import sampler as module
from workbench.node.hot_keys import (
    SAMPLES_PER_ROUTE,
    Draws,
    Reservoir,
    SpaceSaving,
    evidence_of,
)
from workbench.node.key_counts import NOTHING, Counted
from workbench.node.sampler import Sampler
from workbench.routing.table import RouteTable

WINDOW_US = 1_000_000
START_US = 1_000 * WINDOW_US
TWO = RouteTable(1, tuple(seed_routes([b"m"])))


def sampler(table=TWO, led=(1, 2), **options):
    made = Sampler(3, window_ms=1_000, **options)
    made.set_routes(table, frozenset(led), START_US)
    return made


def closed(made):
    made.advance(START_US + WINDOW_US)
    return made.windows(0)[-1]


def heavy(window):
    return [(each.route_id, h) for each in window.keys for h in each.hot_keys]


def drawn(window, route_id):
    return [s for each in window.keys if each.route_id == route_id for s in each.samples]


def key(number: int) -> bytes:
    return b"k%04d" % number


# --- what a window tells


def test_heaviest_keys_of_each_route_are_told_with_exact_counts_heaviest_first():
    made = sampler()
    for number in range(40):
        made.count_reads([(key(number), 1)] * (number + 1))
    made.count_writes([(b"z", 1)] * 5)
    made.count_reads([(b"z", 1)] * 2)
    window = closed(made)
    told = [(route, h.key, h.count, h.error) for route, h in heavy(window)]
    low = [(1, key(39 - i), 40 - i, 0) for i in range(HOT_KEYS_PER_ROUTE)]
    assert told == [*low, (2, b"z", 7, 0)]
    assert [each.untold_max for each in window.keys] == [40 - HOT_KEYS_PER_ROUTE, 0]


def test_samples_stand_for_all_accesses_of_their_route():
    made = sampler()
    made.count_reads([(key(number), 1) for number in range(1_000)])
    made.count_writes([(b"z", 1)] * 3)
    window = closed(made)
    mine = drawn(window, 1)
    assert len(mine) == len({s.key for s in mine}) == SAMPLES_PER_ROUTE
    assert sum(s.weight for s in mine) == pytest.approx(1_000)
    assert not any(s.write for s in mine)
    others = [(s.key, s.write, s.weight) for s in drawn(window, 2)]
    assert others == [(b"z", True, 1.0)] * 3


def test_idle_routes_have_no_keys_and_the_next_window_starts_anew():
    made = sampler()
    made.count_reads([(b"a", 1)])
    assert len(closed(made).keys) == 1
    made.advance(START_US + 2 * WINDOW_US)
    assert made.windows(0)[-1].keys == ()


def test_same_accesses_give_the_same_keys_and_samples():
    windows = []
    for _ in range(2):
        made = sampler()
        made.count_reads([(key(n * 7 % 500), 1) for n in range(900)])
        windows.append(closed(made))
    assert windows[0] == windows[1]


def test_hot_key_that_comes_when_no_more_keys_are_counted_is_on_top_within_its_error(monkeypatch):
    monkeypatch.setattr(module, "KEYS_PER_WINDOW_MAX", 10)
    monkeypatch.setattr(module, "CROWD_KEYS_MAX", 16)
    made = sampler()
    made.count_reads([(b"a%03d" % n, 1) for n in range(400)])
    for n in range(600):
        made.count_writes([(b"hot", 1), (b"b%03d" % n, 1)])
    window = closed(made)
    _, top = heavy(window)[0]
    assert top.key == b"hot"
    assert top.count - top.error <= 600 <= top.count
    assert 0 < top.error <= (390 + 1_200) // 16
    assert sum(s.weight for s in drawn(window, 1)) == pytest.approx(1_600)


def test_parent_and_children_of_a_split_have_their_own_part_of_a_key():
    made = sampler(RouteTable(1, tuple(seed_routes([]))))
    made.count_reads([(b"a", 1)] * 5)
    children = RouteTable(2, tuple(seed_routes([b"m"])))
    moved = RouteTable(2, tuple(r for r in children.routes if r.route_id == 2))
    made.set_routes(moved, frozenset({1, 2}), START_US + 10)
    made.count_reads([(b"z", 1)] * 2)
    told = [(route, h.key, h.count) for route, h in heavy(closed(made))]
    assert told == [(1, b"a", 5), (2, b"z", 2)]


def test_route_that_is_led_again_within_a_window_tells_each_key_once():
    made = sampler()
    made.count_reads([(b"a", 1)] * 3 + [(b"b", 1)])
    made.set_routes(TWO, frozenset(), START_US + 10)
    made.set_routes(TWO, frozenset({1, 2}), START_US + 20)
    made.count_reads([(b"a", 1)] * 4)
    told = [(h.key, h.count, h.error) for _, h in heavy(closed(made))]
    assert told == [(b"a", 7, 0), (b"b", 1, 0)]


def test_busiest_routes_are_told_where_not_all_fit(monkeypatch):
    monkeypatch.setattr(module, "EVIDENCE_BYTES_MAX", 4 * KEY_BYTES_MAX)
    made = sampler()
    made.count_reads([(b"a" * KEY_BYTES_MAX, 1)] * 3)
    made.count_reads([(b"z", 1)] * 9)
    assert {each.route_id for each in closed(made).keys} == {2}


def test_hot_keys_and_samples_count_as_rows_that_are_kept():
    made = sampler(rows_kept=8)
    for number in range(3):
        made.count_reads([(b"a", 1)] * 2)
        made.advance(START_US + (number + 1) * WINDOW_US)
    assert len(made.windows(0)) == 1


def test_first_access_after_an_election_is_counted_before_anybody_told_of_the_leader():
    made = sampler(led=())
    made.follow_leaders = lambda: made.set_routes(TWO, frozenset({1, 2}), START_US + WINDOW_US + 5)
    made.count_reads([(b"a", 1), (b"a", 1), (b"z", 1)])
    made.advance(START_US + 2 * WINDOW_US)
    window = made.windows(0)[-1]
    assert [(route, h.key, h.count) for route, h in heavy(window)] == [(1, b"a", 2), (2, b"z", 1)]
    assert sum(row.reads for row in window.rows) == 3
    assert made.unrouted == 0


# --- the parts


def test_key_of_the_crowd_whose_count_is_mostly_error_is_not_told():
    crowd = [HotKeyCount(b"noise", 10, 9), HotKeyCount(b"real", 10, 5)]
    reservoir = Reservoir(SAMPLES_PER_ROUTE, Draws(1))
    for _ in range(20):
        reservoir.offer(b"x", write=False)
    told = evidence_of(NOTHING, Draws(1), crowd=crowd, floor=4, reservoir=reservoir)
    assert [h.key for h in told.heavy] == [b"real"]
    assert told.untold_max == 10


def test_keys_that_were_taken_out_are_held_no_more():
    summary = SpaceSaving(3)
    for each in (b"a", b"a", b"b", b"z"):
        summary.add(each)
    assert sorted(summary.take(Span(b"", b"m")), key=lambda h: h.key) == [
        HotKeyCount(b"a", 2, 0),
        HotKeyCount(b"b", 1, 0),
    ]
    assert summary.keys() == [HotKeyCount(b"z", 1, 0)]


def test_what_two_parts_tell_of_a_key_adds_up_and_what_one_leaves_open_is_its_error():
    one = Evidence(20, 1, (HotKeyCount(b"a", 10, 0), HotKeyCount(b"b", 6, 1)))
    other = Evidence(12, 2, (HotKeyCount(b"a", 5, 2), HotKeyCount(b"c", 4, 0)))
    both = joined([one, other])
    assert both.heavy == (
        HotKeyCount(b"a", 15, 2),
        HotKeyCount(b"b", 6 + 2, 1 + 2),
        HotKeyCount(b"c", 4 + 1, 1),
    )
    assert (both.accesses, both.untold_max) == (32, 3)


def test_accesses_offered_at_once_are_drawn_as_if_they_came_one_by_one():
    one_by_one, at_once = (Reservoir(SAMPLES_PER_ROUTE, Draws(3)) for _ in range(2))
    for number in range(60):
        times = number * 7 % 40
        at_once.offer(key(number), write=False, times=times)
        for _ in range(times):
            one_by_one.offer(key(number), write=False)
    assert at_once.held == one_by_one.held
    assert at_once.seen == one_by_one.seen


@pytest.mark.parametrize("spilled", [0, 37, 100])
def test_every_access_is_drawn_as_often_as_any_other(spilled):
    """Of 100 accesses 16 are drawn, however many of them were counted one by one."""
    draws, times, rounds = Draws(5), dict.fromkeys(range(100), 0), 1_500
    for _ in range(rounds):
        reservoir = Reservoir(SAMPLES_PER_ROUTE, draws)
        for number in range(spilled):
            reservoir.offer(key(number), write=False)
        counted = Counted.of({key(number): (0, 1, 0, 0) for number in range(spilled, 100)})
        drawn = evidence_of(counted, draws, reservoir=reservoir if spilled else None).drawn
        assert len({d.key for d in drawn}) == SAMPLES_PER_ROUTE
        for each in drawn:
            number = int(each.key[1:])
            assert each.write == (number >= spilled)
            times[number] += 1
    wanted = rounds * SAMPLES_PER_ROUTE / 100
    chi_square = sum((count - wanted) ** 2 / wanted for count in times.values())
    assert chi_square < 150, "99 degrees of freedom: 149 is one chance in a thousand"


def test_reads_and_writes_of_a_key_are_drawn_in_proportion():
    draws = Draws(9)
    counted = Counted.of({b"a": (300, 100, 0, 0)})
    drawn = [d for _ in range(500) for d in evidence_of(counted, draws).drawn]
    assert 0.22 < sum(d.write for d in drawn) / len(drawn) < 0.28
