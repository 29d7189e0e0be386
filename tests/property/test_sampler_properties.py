"""The sampler against a plain list of accesses: exact counts, whole spans, bounds that stay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor, seed_routes
from workbench.node import key_counts
from workbench.node import sampler as module
from workbench.node.key_counts import NOTHING
from workbench.node.sampler import ACCESSES_PER_BUCKET_MIN, WINDOWS_LATE_MAX, Sampler, refine
from workbench.routing.table import RouteTable

WINDOW_US = 1_000_000
BUCKETS = 4
ENOUGH = ACCESSES_PER_BUCKET_MIN * BUCKETS
KEYS = [bytes([a, b]) for a in range(1, 5) for b in range(1, 5)] + [b"", b"\x02\x02\x00"]

keys = st.sampled_from(KEYS)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "write"]), keys, st.integers(1, 40), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.integers(0, 2 * WINDOW_US)),
        st.tuples(st.just("wait"), st.sampled_from([WINDOW_US, 9 * WINDOW_US, 30 * WINDOW_US])),
        st.tuples(st.just("split"), keys),
        st.tuples(st.just("lead"), st.sampled_from([(1,), (2,), (1, 2), ()])),
    ),
    max_size=40,
)


@dataclass(frozen=True)
class Access:
    """One access, with the window that was open and the routes that were led."""

    window: int
    owner: RouteDescriptor | None
    key: bytes
    write: bool
    size: int


class Story:
    """Plays steps to a sampler, and keeps what happened in the plainest form."""

    def __init__(self, sampler: Sampler, cuts: list[bytes]) -> None:
        self.sampler = sampler
        self.now = 5_000_000_250_000
        self.routes = [
            replace(route, group=1 + route.route_id % 2) for route in seed_routes(sorted(cuts))
        ]
        self.version = 1
        self.led = frozenset({1, 2})
        self.accesses: list[Access] = []
        self.awake: list[tuple[int, int, frozenset[RouteDescriptor]]] = []
        self.parents: dict[int, int] = {}
        self.tell()

    def tell(self) -> None:
        table = RouteTable(self.version, tuple(self.routes))
        self.sampler.set_routes(table, self.led, self.now)

    def owners(self) -> frozenset[RouteDescriptor]:
        return frozenset(route for route in self.routes if route.group in self.led)

    def play(self, step) -> None:
        match step:
            case ("wait", us):
                before, self.now = self.now, self.now + us
                if self.now // WINDOW_US - before // WINDOW_US <= WINDOWS_LATE_MAX:
                    self.awake.append((before, self.now, self.owners()))
                self.sampler.advance(self.now)
            case ("split", key):
                self.split(key)
                self.tell()
            case ("lead", groups):
                self.led = frozenset(groups)
                self.tell()
            case (op, key, times, size):
                count = self.sampler.count_writes if op == "write" else self.sampler.count_reads
                count([(key, size)] * times)
                owner = next((r for r in self.owners() if key in r.span), None)
                access = Access(self.now // WINDOW_US, owner, key, op == "write", size)
                self.accesses += [access] * times

    def split(self, key: bytes) -> None:
        parent = next(route for route in self.routes if key in route.span)
        if key == parent.span.start:
            return
        new = max([route.route_id for route in self.routes] + list(self.parents)) + 1
        left = RouteDescriptor(new, Span(parent.span.start, key), parent.group)
        right = RouteDescriptor(new + 1, Span(key, parent.span.end), parent.group)
        self.parents |= {new: parent.route_id, new + 1: parent.route_id}
        self.routes = [r for r in self.routes if r is not parent] + [left, right]
        self.version += 1

    def covered_us(self, route: RouteDescriptor, window: int) -> int:
        low, high = window * WINDOW_US, (window + 1) * WINDOW_US
        return sum(
            max(0, min(end, high) - max(start, low))
            for start, end, owners in self.awake
            if route in owners
        )


def check_windows(story: Story) -> None:
    """Compare every closed window with the accesses as they came."""
    windows = story.sampler.windows(0)
    assert len({w.start_us for w in windows}) == len(windows)
    seen_routes = {route for *_, owners in story.awake for route in owners}
    seen_routes |= {access.owner for access in story.accesses if access.owner}
    closed = {w.start_us // WINDOW_US: w for w in windows}
    last = story.now // WINDOW_US
    assert {a.window for a in story.accesses if a.window < last} <= closed.keys()
    for number, window in closed.items():
        assert window.end_us - window.start_us == WINDOW_US
        mine = [a for a in story.accesses if a.window == number]
        told = {row.route_id for row in window.rows}
        for route in seen_routes:
            rows = [row for row in window.rows if row.route_id == route.route_id]
            accesses = [a for a in mine if a.owner == route]
            covered = story.covered_us(route, number)
            assert (route.route_id in told) == bool(covered or accesses)
            check_partition(route, rows)
            for row in rows:
                assert row.group == route.group
                assert row.coverage == max(1, covered) / WINDOW_US
                check_row(row, accesses)
        routed = sum(a.owner is not None for a in mine)
        assert sum(row.reads + row.writes for row in window.rows) == routed
    unrouted = sum(a.owner is None and a.window < last for a in story.accesses)
    assert story.sampler.unrouted >= unrouted


def check_row(row, accesses) -> None:
    span = Span(row.bucket_start, row.bucket_end)
    inside = [a for a in accesses if a.key in span]
    assert row.reads == sum(not a.write for a in inside)
    assert row.writes == sum(a.write for a in inside)
    assert row.read_bytes == sum(a.size for a in inside if not a.write)
    assert row.write_bytes == sum(a.size for a in inside if a.write)


def check_partition(route, rows) -> None:
    if not rows:
        return
    assert len(rows) <= max(BUCKETS, 1)
    assert rows[0].bucket_start == route.span.start
    assert rows[-1].bucket_end == route.span.end
    assert all(left.bucket_end == right.bucket_start for left, right in pairwise(rows))


def check_nesting(story: Story) -> None:
    """A bound that a window told stays: in later windows, and in the children that hold it."""
    told: dict[int, set[bytes]] = {}
    for window in story.sampler.windows(0):
        fresh: dict[int, set[bytes]] = {}
        for row in window.rows:
            fresh.setdefault(row.route_id, set()).add(row.bucket_start)
        for route_id, starts in fresh.items():
            span = {r.route_id: r.span for r in story.routes}.get(route_id)
            line, inherited = route_id, set()
            while line:
                inherited |= told.get(line, set())
                line = story.parents.get(line, 0)
            if span is not None:
                assert {cut for cut in inherited if cut in span} <= starts
            assert told.get(route_id, set()) <= starts
        told |= fresh


def play(sampler: Sampler, cuts, script) -> Story:
    story = Story(sampler, cuts)
    for step in script:
        story.play(step)
    story.play(("wait", WINDOW_US))
    return story


def sampler_of(cls=Sampler) -> Sampler:
    return cls(7, window_ms=WINDOW_US // 1_000, buckets_per_route=BUCKETS, windows_kept=10_000)


cuts_of_routes = st.sets(keys.filter(bool), max_size=3)


@settings(max_examples=150, deadline=None)
@given(cuts=cuts_of_routes, script=steps)
def test_every_access_is_in_exactly_one_bucket_of_its_window_and_route(cuts, script):
    story = play(sampler_of(), cuts, script)
    check_windows(story)
    check_nesting(story)


@settings(max_examples=100, deadline=None)
@given(cuts=cuts_of_routes, script=steps, limit=st.integers(0, 5), held=st.integers(1, 200))
def test_counts_stay_exact_where_more_keys_come_than_are_remembered(cuts, script, limit, held):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEYS_PER_WINDOW_MAX", limit)
        patch.setattr(key_counts, "ACCESSES_HELD_MAX", held)
        story = play(sampler_of(), cuts, script)
    check_windows(story)
    check_nesting(story)


def test_checker_notices_a_sampler_that_gives_the_parents_accesses_to_its_children():
    class Forgetful(Sampler):
        def _part(self, gone):
            for share in gone:
                self._settle(share, NOTHING, ())
                share.stop(self._seen_us)

    script = [("read", KEYS[0], 5, 1), ("wait", 1_000), ("split", KEYS[8])]
    check_windows(play(sampler_of(), set(), script))
    with pytest.raises(AssertionError):
        check_windows(play(sampler_of(Forgetful), set(), script))


def test_checker_notices_accesses_that_are_counted_for_the_routes_of_later():
    class Late(Sampler):
        def _part(self, gone):
            self._counts.tally, tally = (lambda: None), self._counts.tally
            super()._part(gone)
            self._counts.tally = tally

    script = [("read", KEYS[0], 5, 1), ("wait", 1_000), ("split", KEYS[8])]
    with pytest.raises(AssertionError):
        check_windows(play(sampler_of(Late), set(), script))


def test_checker_notices_bounds_that_move():
    class Restless(Sampler):
        def _finer(self, share, mine):
            accesses = dict(zip(mine.keys, mine.accesses.tolist(), strict=True))
            return refine((), accesses, BUCKETS) if accesses else ()

    busy = [("read", key, ENOUGH, 1) for key in KEYS[:8]]
    moved = [("read", key, ENOUGH, 1) for key in KEYS[8:16]]
    script = [*busy, ("wait", WINDOW_US), *moved, ("wait", WINDOW_US)]
    check_nesting(play(sampler_of(), set(), script))
    with pytest.raises(AssertionError):
        check_nesting(play(sampler_of(Restless), set(), script))


@settings(max_examples=300, deadline=None)
@given(
    accesses=st.dictionaries(st.binary(min_size=1, max_size=3), st.integers(1, 500), min_size=1),
    cuts=st.sets(st.binary(min_size=1, max_size=3), max_size=8),
    buckets=st.integers(1, 12),
)
def test_refined_bounds_keep_the_old_ones_and_the_limit(accesses, cuts, buckets):
    before = tuple(sorted(cuts)[: max(0, buckets - 1)])
    after = refine(before, accesses, buckets)
    assert list(after) == sorted(set(after))
    assert set(before) <= set(after)
    assert len(after) + 1 <= buckets
    assert all(cut > min(accesses) and cut <= max(accesses) for cut in set(after) - set(before))
    assert refine(before, dict(reversed(accesses.items())), buckets) == after


@settings(max_examples=300, deadline=None)
@given(
    counts=st.lists(st.integers(1, 1_000), min_size=1, max_size=40),
    buckets=st.integers(2, 16),
)
def test_no_bucket_of_several_keys_weighs_much_more_than_its_part(counts, buckets):
    accesses = {bytes([i + 1]): count for i, count in enumerate(counts)}
    total = sum(counts)
    bounds = [b"", *refine((), accesses, buckets), b"\xff"]
    for low, high in pairwise(bounds):
        inside = [count for key, count in accesses.items() if low <= key < high]
        weight = sum(count / total + 1 / len(counts) for count in inside) / 2
        if len(inside) > 1:
            assert weight <= 3 / buckets + 1e-9
