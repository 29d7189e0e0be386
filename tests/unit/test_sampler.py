"""The sampler: what each closed window says, and where buckets come to lie."""

from __future__ import annotations

from itertools import pairwise

import pytest

from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.model.routes import RouteDescriptor, seed_routes
from workbench.node import sampler as module
from workbench.node.sampler import WINDOWS_LATE_MAX, Sampler, refine
from workbench.routing.table import RouteTable

WINDOW_US = 1_000_000
START_US = 1_000 * WINDOW_US
ALL = frozenset({1, 2})
ONE = RouteTable(1, seed_routes([]))


def sampler(table=ONE, *, at_us=START_US, led=ALL, **options):
    made = Sampler(3, **{"window_ms": 1_000, "buckets_per_route": 4, **options})
    made.set_routes(table, led, at_us)
    return made


def key(number: int) -> bytes:
    return b"k%04d" % number


def spread(made, numbers, times=10, size=1):
    made.count_reads([(key(number), size) for number in numbers] * times)


def window(made, number=-1):
    return made.windows(0)[number]


def bounds(closed, route_id=1):
    return [row.bucket_start for row in closed.rows if row.route_id == route_id]


def split(table, at, *, version=2):
    [parent] = [route for route in table.routes if at in route.span]
    left = RouteDescriptor(10 * version, Span(parent.span.start, at), 1, parent_route_id=1)
    right = RouteDescriptor(10 * version + 1, Span(at, parent.span.end), 1, parent_route_id=1)
    rest = [route for route in table.routes if route is not parent]
    return RouteTable(version, (*rest, left, right))


# --- windows


def test_idle_route_has_a_row_with_measured_zeros():
    made = sampler(RouteTable(1, seed_routes([b"m"])))
    made.advance(START_US + WINDOW_US)
    [one] = made.windows(0)
    assert (one.node, one.start_us, one.end_us) == (3, START_US, START_US + WINDOW_US)
    assert [(r.route_id, r.bucket_start, r.bucket_end) for r in one.rows] == [
        (1, b"", b"m"),
        (2, b"m", None),
    ]
    assert [(r.reads, r.writes, r.read_bytes, r.write_bytes, r.coverage) for r in one.rows] == [
        (0, 0, 0, 0, 1.0)
    ] * 2


def test_reads_and_writes_and_their_bytes_are_counted_apart():
    made = sampler()
    made.count_reads([(b"a", 5), (b"b", 7)])
    made.count_writes([(b"a", 100)])
    made.advance(START_US + WINDOW_US)
    a, b = window(made).rows
    assert (a.reads, a.writes, a.read_bytes, a.write_bytes) == (1, 1, 5, 100)
    assert (b.reads, b.writes, b.read_bytes, b.write_bytes) == (1, 0, 7, 0)


def test_window_stays_open_until_its_end():
    made = sampler()
    made.advance(START_US + WINDOW_US - 1)
    assert made.windows(0) == ()
    assert made.oldest_us is None


def test_windows_start_at_multiples_of_their_length_and_the_first_is_covered_in_part():
    made = sampler(at_us=START_US + 750_000)
    spread(made, [1])
    made.advance(START_US + 2 * WINDOW_US)
    first, second = made.windows(0)
    assert (first.start_us, first.rows[0].coverage, first.rows[0].reads) == (START_US, 0.25, 10)
    assert (second.rows[0].coverage, second.rows[0].reads) == (1.0, 0)


def test_late_advance_closes_idle_windows_up_to_a_bound():
    made = sampler()
    made.advance(START_US + WINDOWS_LATE_MAX * WINDOW_US)
    assert len(made.windows(0)) == WINDOWS_LATE_MAX
    assert all(row.coverage == 1.0 for closed in made.windows(0) for row in closed.rows)


def test_sleep_leaves_a_gap_and_no_rows():
    made = sampler()
    made.advance(START_US + 400_000)
    spread(made, [1])
    awake = START_US + (WINDOWS_LATE_MAX + 5) * WINDOW_US + 300_000
    made.advance(awake)
    made.advance(awake + WINDOW_US)
    before, after = made.windows(0)
    assert (before.start_us, before.rows[0].reads, before.rows[0].coverage) == (START_US, 10, 0.4)
    assert (after.start_us, after.rows[0].coverage) == (awake - 300_000, 0.7)


def test_clock_that_goes_back_tells_no_window_twice():
    made = sampler()
    made.advance(START_US + 2 * WINDOW_US)
    made.advance(START_US)
    spread(made, [1])
    made.advance(START_US + 3 * WINDOW_US)
    assert [w.start_us for w in made.windows(0)] == [START_US + n * WINDOW_US for n in range(3)]
    assert window(made).rows[0].reads == 10


def test_old_windows_are_dropped_by_their_number_and_by_their_rows():
    by_number = sampler(windows_kept=2)
    by_rows = sampler(RouteTable(1, seed_routes([b"m"])), rows_kept=5)
    for made in (by_number, by_rows):
        made.advance(START_US + 5 * WINDOW_US)
        assert [w.start_us for w in made.windows(0)] == [
            START_US + 3 * WINDOW_US,
            START_US + 4 * WINDOW_US,
        ]
        assert made.oldest_us == START_US + 3 * WINDOW_US


def test_newest_window_is_kept_however_many_rows_it_has():
    made = sampler(RouteTable(1, seed_routes([b"m"])), rows_kept=1)
    made.advance(START_US + 3 * WINDOW_US)
    assert [w.start_us for w in made.windows(0)] == [START_US + 2 * WINDOW_US]


def test_windows_are_asked_for_by_their_start():
    made = sampler()
    made.advance(START_US + 3 * WINDOW_US)
    assert len(made.windows(START_US + WINDOW_US)) == 2
    assert len(made.windows(START_US + WINDOW_US + 1)) == 1


# --- routes


def test_routes_of_other_groups_have_no_rows_and_their_keys_are_in_no_window():
    routes = (RouteDescriptor(1, Span(b"", b"m"), 1), RouteDescriptor(2, Span(b"m", None), 2))
    made = sampler(RouteTable(1, routes), led=frozenset({2}))
    made.count_reads([(b"a", 1), (b"z", 1)])
    made.advance(START_US + WINDOW_US)
    assert [(row.route_id, row.reads) for row in window(made).rows] == [(2, 1)]
    assert made.unrouted == 1


def test_keys_in_a_gap_between_routes_are_in_no_window():
    made = sampler(RouteTable(1, (RouteDescriptor(1, Span(b"b", b"c"), 1),)))
    made.count_writes([(b"a", 1), (b"b", 1), (b"c", 1)])
    made.advance(START_US + WINDOW_US)
    assert [row.writes for row in window(made).rows] == [1]
    assert made.unrouted == 2


def test_split_inside_a_window_gives_parent_and_children_their_part_of_it():
    made = sampler()
    made.count_writes([(b"z", 1)] * 2)
    made.set_routes(split(ONE, b"m"), ALL, START_US + 250_000)
    made.count_writes([(b"a", 1), (b"z", 1), (b"z", 1)])
    made.advance(START_US + 2 * WINDOW_US)
    first, second = made.windows(0)
    assert {r.route_id: (r.writes, r.coverage) for r in first.rows} == {
        1: (2, 0.25),
        20: (1, 0.75),
        21: (2, 0.75),
    }
    assert {r.route_id: r.coverage for r in second.rows} == {20: 1.0, 21: 1.0}


def test_route_that_is_led_again_within_a_window_has_one_row():
    made = sampler()
    made.count_writes([(b"a", 1)])
    made.set_routes(ONE, frozenset(), START_US + 250_000)
    made.set_routes(ONE, ALL, START_US + 500_000)
    made.count_writes([(b"a", 1)])
    made.advance(START_US + WINDOW_US)
    assert [(r.writes, r.coverage) for r in window(made).rows] == [(2, 0.75)]


def test_same_routes_again_change_nothing():
    made = sampler()
    made.set_routes(ONE, ALL, START_US + 5 * WINDOW_US)
    assert made.windows(0) == ()


# --- buckets


def test_bounds_are_chosen_from_enough_accesses_and_tell_that_very_window():
    made = sampler()
    made.advance(START_US + WINDOW_US)
    spread(made, range(8))
    made.advance(START_US + 2 * WINDOW_US)
    idle, enough = made.windows(0)
    assert bounds(idle) == [b""]
    assert bounds(enough) == [b"", key(2), key(4), key(6)]
    assert [row.reads for row in enough.rows] == [20, 20, 20, 20]
    assert enough.rows[-1].bucket_end is None


def test_few_accesses_give_away_half_of_the_buckets():
    made = sampler()
    spread(made, range(6), 1)
    made.advance(START_US + WINDOW_US)
    spread(made, range(8))
    made.advance(START_US + 2 * WINDOW_US)
    few, enough = made.windows(0)
    assert bounds(few) == [b"", key(3)]
    assert len(bounds(enough)) == 4
    assert key(3) in bounds(enough)


def test_bounds_are_added_only_where_that_doubles_the_buckets():
    made = sampler(buckets_per_route=8)
    spread(made, range(5), 40)
    made.advance(START_US + WINDOW_US)
    spread(made, range(8), 20)
    made.advance(START_US + 2 * WINDOW_US)
    few, enough = made.windows(0)
    assert len(bounds(few)) == 5
    assert bounds(enough) == bounds(few)


def test_one_access_gives_away_nothing():
    made = sampler()
    spread(made, [4], 1)
    made.advance(START_US + WINDOW_US)
    assert bounds(window(made)) == [b""]


def test_bounds_outlast_a_time_without_leadership_in_which_the_route_was_split():
    made = sampler()
    spread(made, range(8))
    made.set_routes(ONE, frozenset(), START_US + WINDOW_US)
    made.set_routes(split(ONE, key(4)), frozenset(), START_US + WINDOW_US)
    made.set_routes(split(ONE, key(4)), ALL, START_US + WINDOW_US)
    made.advance(START_US + 2 * WINDOW_US)
    assert bounds(window(made), 20) == [b"", key(2)]


def test_bounds_stay_where_they_are_when_the_load_moves():
    made = sampler()
    spread(made, range(8))
    made.advance(START_US + WINDOW_US)
    spread(made, range(100, 108))
    made.advance(START_US + 2 * WINDOW_US)
    first, second = made.windows(0)
    assert bounds(first) == bounds(second)
    assert [row.reads for row in second.rows] == [0, 0, 0, 80]


def test_route_with_few_keys_gets_finer_when_more_come():
    made = sampler()
    spread(made, [1, 5], 100)
    made.advance(START_US + WINDOW_US)
    spread(made, range(8))
    made.advance(START_US + 2 * WINDOW_US)
    first, second = made.windows(0)
    assert bounds(first) == [b"", key(1) + b"\0"]
    assert set(bounds(first)) < set(bounds(second))


def test_children_have_their_parents_bounds_and_get_finer():
    made = sampler()
    spread(made, range(8))
    made.advance(START_US + WINDOW_US)
    made.set_routes(split(ONE, key(4)), ALL, START_US + WINDOW_US)
    made.advance(START_US + 2 * WINDOW_US)
    spread(made, range(8), 20)
    made.advance(START_US + 3 * WINDOW_US)
    idle, busy = made.windows(START_US + WINDOW_US)
    assert bounds(idle, 20) == [b"", key(2)]
    assert bounds(idle, 21) == [key(4), key(6)]
    assert bounds(busy, 20) == [b"", key(1), key(2), key(3)]
    assert bounds(busy, 21) == [key(4), key(5), key(6), key(7)]


def test_children_of_a_route_split_twice_at_once_have_its_bounds_too():
    made = sampler()
    spread(made, range(8))
    made.advance(START_US + WINDOW_US)
    made.set_routes(split(split(ONE, key(4)), key(5), version=3), ALL, START_US + WINDOW_US)
    made.advance(START_US + 2 * WINDOW_US)
    assert bounds(window(made), 31) == [key(5), key(6)]


def test_split_while_a_window_is_open_settles_the_parents_bounds_first():
    made = sampler()
    spread(made, range(8))
    made.set_routes(split(ONE, key(4)), ALL, START_US + 500_000)
    made.advance(START_US + WINDOW_US)
    assert bounds(window(made), 1) == [b"", key(2), key(4), key(6)]
    assert bounds(window(made), 20) == [b"", key(2)]


def test_window_with_more_keys_than_are_remembered_is_told_by_the_bounds_of_before(monkeypatch):
    monkeypatch.setattr(module, "KEYS_PER_WINDOW_MAX", 8)
    made = sampler()
    spread(made, range(12))
    made.advance(START_US + WINDOW_US)
    spread(made, range(8))
    made.advance(START_US + 2 * WINDOW_US)
    crowded, after = made.windows(0)
    assert [(row.bucket_start, row.reads) for row in crowded.rows] == [(b"", 120)]
    assert bounds(after) == [b"", key(2), key(4), key(6)]


def test_long_keys_count_against_what_is_remembered(monkeypatch):
    monkeypatch.setattr(module, "KEY_BYTES_PER_WINDOW_MAX", 12)
    made = sampler()
    spread(made, range(8))
    made.advance(START_US + 1)
    assert len(made._counts) == 2
    made.advance(START_US + WINDOW_US)
    assert window(made).rows[0].reads == 80


def test_hot_key_gets_a_bucket_of_its_own():
    accesses = {key(n): 1 for n in range(100)} | {key(50): 300}
    cuts = refine((), accesses, 8)
    assert key(50) in cuts
    assert key(50) + b"\0" in cuts


def test_cold_stretch_still_has_buckets():
    accesses = {key(n): 1 for n in range(500)} | {key(n): 1_000 for n in range(500, 600)}
    cold = [cut for cut in refine((), accesses, 16) if cut < key(500)]
    assert len(cold) >= 5


def test_hot_key_as_long_as_a_key_may_be_is_parted_at_its_neighbour():
    long = b"k" * KEY_BYTES_MAX
    assert refine((), {b"a": 1, long: 500, b"z": 1}, 4) == (long, b"z")


@pytest.mark.parametrize("buckets", [1, 2, 16])
def test_one_key_needs_no_bounds(buckets):
    assert refine((), {b"a": 1_000}, buckets) == ()


# --- buckets that other nodes chose


def told(*cuts):
    """Return the buckets of route 1 as another node tells them."""
    return {1: [Span(a, b) for a, b in pairwise([b"", *cuts, None])]}


def test_a_new_leader_goes_on_with_the_buckets_of_the_one_before():
    made = sampler(led=frozenset())
    made.learn(START_US, told(key(2), key(5), key(7)))
    made.advance(START_US + WINDOW_US)
    made.set_routes(ONE, ALL, START_US + WINDOW_US + 300_000)
    spread(made, range(100), 20)
    made.advance(START_US + 2 * WINDOW_US)
    assert bounds(window(made)) == [b"", key(2), key(5), key(7)]
    assert window(made).rows[0].coverage == 0.7


def test_of_two_windows_the_later_one_is_learned_whatever_comes_last():
    made = sampler(led=frozenset())
    made.learn(START_US + WINDOW_US, told(key(3), key(6)))
    made.learn(START_US, told(key(2), key(5)))
    made.set_routes(ONE, ALL, START_US + WINDOW_US)
    made.advance(START_US + 2 * WINDOW_US)
    assert bounds(window(made)) == [b"", key(3), key(6)]


def test_whoever_leads_keeps_its_buckets_and_takes_over_only_finer_ones():
    made = sampler()
    spread(made, range(8), 1)
    made.advance(START_US + WINDOW_US)
    chosen = bounds(window(made))
    assert len(chosen) == 2
    made.learn(START_US + WINDOW_US, told(key(1), key(2)))
    made.advance(START_US + 2 * WINDOW_US)
    assert bounds(window(made)) == chosen
    made.learn(START_US + 2 * WINDOW_US, told(key(2), chosen[1], key(7)))
    made.advance(START_US + 4 * WINDOW_US)
    assert bounds(window(made)) == [b"", key(2), chosen[1], key(7)]


def test_what_was_told_of_before_this_node_led_changes_nothing_after_it_did():
    made = sampler()
    spread(made, range(8))
    made.advance(START_US + WINDOW_US)
    chosen = bounds(window(made))
    made.set_routes(ONE, frozenset(), START_US + WINDOW_US + 1)
    made.learn(START_US, told(key(1), key(3), key(6)))
    made.set_routes(ONE, ALL, START_US + WINDOW_US + 2)
    made.advance(START_US + 2 * WINDOW_US)
    assert bounds(window(made)) == chosen


@pytest.mark.parametrize(
    "buckets",
    [
        {},
        {1: []},
        {7: [Span(b"", b"m"), Span(b"m", None)]},
        told(),
        told(b"a", b"b", b"c", b"d"),
        {1: [Span(b"", b"m"), Span(b"n", None)]},
        {1: [Span(b"a", b"m"), Span(b"m", None)]},
        {1: [Span(b"", b"m"), Span(b"m", b"n")]},
        {1: [Span(b"m", None), Span(b"", b"m")]},
    ],
)
def test_what_is_no_partition_of_the_route_is_not_learned(buckets):
    made = sampler(led=frozenset())
    made.learn(START_US, told(key(4)))
    made.learn(START_US + WINDOW_US, buckets)
    made.set_routes(ONE, ALL, START_US + WINDOW_US)
    made.advance(START_US + 2 * WINDOW_US)
    assert bounds(window(made)) == [b"", key(4)]
