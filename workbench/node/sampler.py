"""Load sampling: accesses in, closed load windows out. Pure: the caller brings the time.

    count_reads ─┐   counts per key of the open window       close: each key into its bucket
    count_writes ┴──▶ `KeyCounts`: a 3, b 1, … ──advance(now)──▶ |  b1  |b2|   b3   | … ──▶ windows

Every access is counted, none is drawn by lot: the sum over the buckets of a window is the number
of accesses that came while it was open. They are counted many at once, later than they came
(`key_counts`), but always before a window closes or the routes change: an access belongs to the
window that was open and to the route that owned its key when it came.

Windows start at multiples of their length since the Unix epoch. In each of them every bucket of
every route of a led group has a row, zeros included: a measured zero. A route that was there for
part of a window (the first one after a start, the parent and the children of a split) has the
sampled fraction as its `coverage`, and its counts as counted, never scaled.

Buckets: a route starts with one. At the close of the first window with accesses its bounds are
chosen from the keys that were seen (docs/adr/0008-buckets-of-the-node.md), and those accesses are
already told by them: up to half the buckets from few accesses, all of them from enough. Later
bounds are only added, where that doubles the buckets, and never moved: a split key that a plan
took from them stays a bound. A child of a split has its parent's bounds inside its own span.
Bounds of a route that another node leads are learned from what that node tells (`learn`): whoever
leads it next goes on with them, so that windows of both leaders have the same buckets.

Each window also tells the heaviest keys of its routes and draws some of their accesses
(`hot_keys`), of the busiest routes where it cannot tell of all.

Bounded: distinct keys and their bytes per window (beyond it a key's accesses go straight into
their bucket, and its count is an upper bound with its error), windows kept, rows kept. Not here:
the clock, threads; CPU time, which nobody measures per route (docs/adr/0008).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.model.node import ClosedWindow, HotKeyCount, LoadRow, RouteKeys
from workbench.model.route_keys import Evidence, joined
from workbench.node.hot_keys import (
    CROWD_KEYS_MAX,
    SAMPLES_PER_ROUTE,
    Draws,
    Reservoir,
    SpaceSaving,
    evidence_of,
)
from workbench.node.key_counts import KeyCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from workbench.model.routes import RouteDescriptor
    from workbench.node.key_counts import Counted
    from workbench.routing.table import RouteTable

BUCKETS_PER_ROUTE: Final = 16
WINDOWS_KEPT: Final = 1_440
ROWS_KEPT: Final = 262_144
KEYS_PER_WINDOW_MAX: Final = 65_536
KEY_BYTES_PER_WINDOW_MAX: Final = 16 * 2**20
# Fewer say too little of where the load lies to give all buckets away: half are kept for later.
ACCESSES_PER_BUCKET_MIN: Final = 16
# Of hot keys and samples of one window, so that it fits into a message beside its rows.
EVIDENCE_BYTES_MAX: Final = 512 * 2**10
EVIDENCE_ROW_BYTES: Final = 32
# An advance that comes later than this many windows found the process asleep, not idle.
WINDOWS_LATE_MAX: Final = 10

# Reads, writes, read bytes, write bytes. A list, because it is added to.
_Counts = list[int]
# A route, as long as it has the same keys on the same group.
_Identity = tuple[int, int, Span]
# A route's span, and what cuts it into buckets: ascending, strictly inside.
_Bounds = tuple[Span, tuple[bytes, ...]]


@dataclass(slots=True)
class _Share:
    """What one route carried in the open window.

    Invariant: `len(counts) == len(cuts) + 1`, `cuts` ascending and strictly inside the span.
    """

    route: RouteDescriptor
    cuts: tuple[bytes, ...]
    sampled_from_us: int | None  # None: not led now
    covered_us: int = 0
    counts: list[_Counts] = field(default_factory=list)
    folded: bool = False  # Whether some counts stand in `counts` already, told by `cuts`
    reservoir: Reservoir | None = None  # of accesses that were not counted by key
    told: list[Evidence] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start with zeros."""
        self.counts = [[0, 0, 0, 0] for _ in range(len(self.cuts) + 1)]
        self.folded = False
        self.covered_us = 0
        self.reservoir = None
        self.told = []

    def bucket(self, key: bytes) -> _Counts:
        """Return the counts of the bucket that holds `key`."""
        return self.counts[bisect_right(self.cuts, key)]

    def stop(self, now_us: int) -> None:
        """Add what was sampled until `now_us`."""
        if self.sampled_from_us is not None:
            self.covered_us += now_us - self.sampled_from_us
            self.sampled_from_us = None


class Sampler:
    """Counts accesses of the routes that a node leads, window by window.

    Args:
        node: Its id.
        window_ms: Length of a window, from 1.
        buckets_per_route: Buckets that a route may have, from 1.
        windows_kept: Closed windows that are kept.
        rows_kept: Rows, hot keys and samples that they may hold together; the newest window is
            always kept.
    """

    def __init__(
        self,
        node: int,
        *,
        window_ms: int,
        buckets_per_route: int = BUCKETS_PER_ROUTE,
        windows_kept: int = WINDOWS_KEPT,
        rows_kept: int = ROWS_KEPT,
    ) -> None:
        assert window_ms >= 1, window_ms
        assert buckets_per_route >= 1, buckets_per_route
        assert windows_kept >= 1, windows_kept
        # Called for a key that no led route holds; may call `set_routes`.
        self.follow_leaders: Callable[[], None] = lambda: None
        self._node = node
        self._window_us = window_ms * 1_000
        self._buckets_max = buckets_per_route
        self._windows_kept = windows_kept
        self._rows_kept = rows_kept
        self._closed: deque[ClosedWindow] = deque()
        self._rows = 0
        self._open_us: int | None = None  # nominal start of the open window
        self._seen_us = 0  # time never goes back: the highest that was given
        self._version: int | None = None
        self._led: frozenset[int] = frozenset()
        self._shares: dict[_Identity, _Share] = {}
        self._starts: list[bytes] = []  # of led routes, ascending
        self._owners: list[_Share] = []  # their shares, in the same order
        self._bounds: dict[int, _Bounds] = {}  # by id, of all routes that exist, led or not
        self._known_us: dict[int, int] = {}  # by route id: the window that its bounds are of
        self._counts = KeyCounts(KEYS_PER_WINDOW_MAX, KEY_BYTES_PER_WINDOW_MAX, self._spill)
        self._crowd: SpaceSaving | None = None  # of keys that are too many to be counted so
        self._draws = Draws(node)
        self._unrouted = 0

    @property
    def oldest_us(self) -> int | None:
        """Start of the oldest window that is kept; None for none."""
        return self._closed[0].start_us if self._closed else None

    @property
    def unrouted(self) -> int:
        """Accesses of keys that no led route held, of closed windows; they are in none of them."""
        return self._unrouted

    def windows(self, since_us: int) -> tuple[ClosedWindow, ...]:
        """Return the kept windows that start at `since_us` or later, ascending."""
        return tuple(window for window in self._closed if window.start_us >= since_us)

    def count_reads(self, sized: Sequence[tuple[bytes, int]]) -> None:
        """Count one read per pair of key and bytes: those of one call, of keys of one group."""
        if sized:
            self._expect(sized[0][0])
            self._counts.add(sized, write=False)

    def count_writes(self, sized: Sequence[tuple[bytes, int]]) -> None:
        """Count one write per pair of key and bytes: those of one call, of keys of one group."""
        if sized:
            self._expect(sized[0][0])
            self._counts.add(sized, write=True)

    def set_routes(self, table: RouteTable, led: frozenset[int], now_us: int) -> None:
        """Sample the routes of `table` on the groups `led` from `now_us` on.

        What was counted before stays with the routes that there were. Cheap where neither the
        table's version nor `led` changed.
        """
        if table.version == self._version and led == self._led:
            return
        self.advance(now_us)
        wanted = {(r.route_id, r.group, r.span): r for r in table.routes if r.group in led}
        gone = [share for share in self._owners if _identity(share.route) not in wanted]
        self._part(gone)
        ids = {route.route_id for route in table.routes}
        past = [bounds for known, bounds in self._bounds.items() if known not in ids]
        self._bounds = {
            route.route_id: self._bounds.get(route.route_id) or _inherited(route.span, past)
            for route in table.routes
        }
        self._known_us = {known: at for known, at in self._known_us.items() if known in ids}
        if self._open_us is not None:
            ended = {share.route.route_id for share in gone} & ids
            self._known_us |= dict.fromkeys(ended, self._open_us)
        for identity, route in wanted.items():
            share = self._shares.get(identity)
            if share is None:
                _, cuts = self._bounds[route.route_id]
                self._shares[identity] = _Share(route, cuts, self._seen_us)
            elif share.sampled_from_us is None:
                share.sampled_from_us = self._seen_us
        self._version, self._led = table.version, led
        led_now = [share for share in self._shares.values() if share.sampled_from_us is not None]
        self._owners = sorted(led_now, key=lambda share: share.route.span.start)
        self._starts = [share.route.span.start for share in self._owners]

    def learn(self, start_us: int, buckets: Mapping[int, Sequence[Span]]) -> None:
        """Take over by which bounds another node told of its routes in the window at `start_us`.

        Of a route that is led here only finer ones: a bound is never taken away. Of the others
        those of the newest window. What is no partition of a route into as many buckets as it
        may have, is left alone: routes may differ between nodes for a while.

        Args:
            start_us: Start of the window.
            buckets: By route id, ascending.
        """
        led = {share.route.route_id for share in self._owners}
        for route_id, told in buckets.items():
            span, cuts = self._bounds.get(route_id, (None, ()))
            if span is None or not 2 <= len(told) <= self._buckets_max or not _parts(span, told):
                continue
            learned = tuple(bucket.start for bucket in told[1:])
            finer = set(learned) > set(cuts)
            if finer or (route_id not in led and start_us >= self._known_us.get(route_id, 0)):
                self._bounds[route_id] = span, learned
                self._known_us[route_id] = max(start_us, self._known_us.get(route_id, 0))

    def advance(self, now_us: int) -> None:
        """Close the windows that ended by `now_us`.

        Windows without an access are closed too, up to WINDOWS_LATE_MAX at once. Beyond that
        the process slept: the open window ends when it was last awake, and the time between
        was not measured, so no window tells of it.
        """
        now_us = max(now_us, self._seen_us)
        current_us = now_us // self._window_us * self._window_us
        if self._open_us is None:
            self._open_us = current_us
        late = (current_us - self._open_us) // self._window_us
        if late > WINDOWS_LATE_MAX:
            self._close(self._open_us, self._seen_us, now_us)
            self._open_us = current_us
        else:
            for _ in range(late):
                end_us = self._open_us + self._window_us
                self._close(self._open_us, end_us, end_us)
                self._open_us = end_us
        self._seen_us = now_us

    def _expect(self, key: bytes) -> None:
        """See to it that the group of a call is sampled: whoever answers for a key leads it."""
        if self._owner(key) is None:
            self.follow_leaders()

    def _spill(self, key: bytes, counts: _Counts) -> None:
        """Count accesses of a key that has no count of its own."""
        reads, writes, _, _ = counts
        share = self._owner(key)
        if share is None:
            self._unrouted += reads + writes
            return
        if self._crowd is None:
            self._crowd = SpaceSaving(CROWD_KEYS_MAX)
        self._crowd.add(key, reads + writes)
        if share.reservoir is None:
            share.reservoir = Reservoir(SAMPLES_PER_ROUTE, self._draws)
        share.reservoir.offer(key, write=False, times=reads)
        share.reservoir.offer(key, write=True, times=writes)
        share.folded = True
        _add(share.bucket(key), counts)

    def _owner(self, key: bytes) -> _Share | None:
        place = bisect_right(self._starts, key) - 1
        if place < 0:
            return None
        share = self._owners[place]
        return share if key in share.route.span else None

    def _part(self, gone: Sequence[_Share]) -> None:
        """Settle what came until now, before the routes change, of shares that end with that.

        What no share owns goes nowhere now: it must not fall to a share that comes later.
        """
        counted = self._counts.counted()
        unowned = counted.total
        kept, going = [], {id(share) for share in gone}
        for share in self._owners:
            mine = counted.inside(share.route.span)
            unowned -= mine.total
            if id(share) not in going:
                kept.append(mine)
                continue
            taken = self._crowd.take(share.route.span) if self._crowd else ()
            self._settle(share, mine, taken)
            share.stop(self._seen_us)
        self._unrouted += unowned
        self._counts.keep(kept)

    def _crowd_by_share(self) -> dict[int, list[HotKeyCount]]:
        """Return the crowd's keys by the identity of the share that owns them."""
        owned: dict[int, list[HotKeyCount]] = {}
        for each in self._crowd.keys() if self._crowd else ():
            owner = self._owners[bisect_right(self._starts, each.key) - 1]
            owned.setdefault(id(owner), []).append(each)
        return owned

    def _settle(self, share: _Share, mine: Counted, crowd: Iterable[HotKeyCount]) -> None:
        """Put the counts of a share's keys into its buckets, after choosing finer ones."""
        if mine.keys or share.reservoir is not None:
            floor = self._crowd.floor if self._crowd else 0
            told = evidence_of(
                mine, self._draws, crowd=crowd, floor=floor, reservoir=share.reservoir
            )
            share.told.append(told)
            share.reservoir = None
        cuts = self._finer(share, mine)
        if cuts != share.cuts and not share.folded:
            share.cuts = cuts
            share.counts = [[0, 0, 0, 0] for _ in range(len(cuts) + 1)]
        if mine.keys:
            for bucket, counts in zip(share.counts, mine.sums(share.cuts), strict=True):
                _add(bucket, counts)
            share.folded = True
        self._bounds[share.route.route_id] = share.route.span, cuts

    def _finer(self, share: _Share, mine: Counted) -> tuple[bytes, ...]:
        _, cuts = self._bounds[share.route.route_id]
        count, limit = len(cuts) + 1, self._buckets_max
        if not mine.keys or 2 * count > limit:
            return cuts
        total = mine.total
        if total < ACCESSES_PER_BUCKET_MIN * limit:
            if cuts:
                return cuts
            # A window with one bucket would forbid every cut to a plan that counts it in.
            limit = min(limit // 2, total)
        accesses = dict(zip(mine.keys, mine.accesses.tolist(), strict=True))
        finer = refine(cuts, accesses, limit)
        # Each time bounds are added, earlier windows tell less than later ones: few times, then.
        return finer if len(finer) + 1 >= 2 * count else cuts

    def _close(self, start_us: int, end_us: int, resume_us: int) -> None:
        """Make a window of what was counted, sampled until `end_us`; go on at `resume_us`."""
        counted = self._counts.counted()
        crowd = self._crowd_by_share()
        unowned = counted.total
        rows: list[LoadRow] = []
        for share in self._shares.values():
            if share.sampled_from_us is not None:
                mine = counted.inside(share.route.span)
                unowned -= mine.total
                self._settle(share, mine, crowd.get(id(share), ()))
                share.stop(end_us)
                share.sampled_from_us = resume_us
            rows += _rows(share, self._window_us)
        keys = _route_keys(self._shares.values())
        self._shares = {k: s for k, s in self._shares.items() if s.sampled_from_us is not None}
        for share in self._shares.values():
            _, share.cuts = self._bounds[share.route.route_id]
            share.reset()
        self._unrouted += unowned
        self._counts.clear()
        self._crowd = None
        rows.sort(key=lambda row: (row.bucket_start, row.route_id))
        bounds_us = start_us, start_us + self._window_us
        window = ClosedWindow(self._node, *bounds_us, tuple(rows), keys)
        self._closed.append(window)
        self._rows += _size(window)
        while len(self._closed) > self._windows_kept or (
            self._rows > self._rows_kept and len(self._closed) > 1
        ):
            self._rows -= _size(self._closed.popleft())


def refine(
    cuts: Sequence[bytes], accesses: Mapping[bytes, int], buckets_max: int
) -> tuple[bytes, ...]:
    """Return `cuts` and more, so that the parts of a span carry about equal weights.

    A key weighs its share of the accesses plus an equal share per distinct key: hot keys get
    buckets of their own, and cold regions still have some. A key that weighs more than
    a bucket is parted from its neighbours, the heaviest first, as long as bounds are left; the
    others go to the heaviest parts that remain.

    Args:
        cuts: Bounds that there are, ascending; all are kept.
        accesses: Positive counts by key.
        buckets_max: Parts that there may be.

    Returns:
        Ascending bounds, the new ones above the lowest key; fewer where there are few keys.
    """
    keys = sorted(accesses)
    total = sum(accesses.values())
    # Shares times total times the number of keys: whole numbers, so that all hosts agree.
    weights = [accesses[key] * len(keys) + total for key in keys]
    sums = [0, *accumulate(weights)]
    chosen = {bisect_left(keys, cut): cut for cut in reversed(cuts)}
    left = buckets_max - 1 - len(cuts)
    heavy = [i for i, weight in enumerate(weights) if weight * buckets_max > sums[-1]]
    for place in sorted(heavy, key=lambda i: (-weights[i], i)):
        new = {place, place + 1} - chosen.keys() - {0, len(keys)}
        if len(new) <= left:
            left -= len(new)
            chosen |= {i: keys[i] for i in new}
            if place + 1 in new and len(keys[place]) < KEY_BYTES_MAX:
                # Not the next key: one yet unseen may lie between, and is not the heavy one.
                chosen[place + 1] = keys[place] + b"\0"
    edges = sorted({0, len(keys), *chosen})
    for low, high, parts in _portions(list(pairwise(edges)), sums, left):
        chosen |= {i: keys[i] for i in _even(low, high, parts, sums)}
    return tuple(sorted({*cuts, *chosen.values()}))


def _portions(
    stretches: Sequence[tuple[int, int]], sums: Sequence[int], more: int
) -> list[tuple[int, int, int]]:
    """Return stretches of keys with the parts of each: `more` in all go where they are heaviest."""
    heap: list[tuple[float, int, int, int]]
    heap = [(sums[low] - sums[high], low, high, 1) for low, high in stretches]
    heapify(heap)
    done = []
    while heap and more:
        _, low, high, parts = heappop(heap)
        if parts == high - low:
            done.append((low, high, parts))
            continue
        more -= 1
        heappush(heap, ((sums[low] - sums[high]) / (parts + 1), low, high, parts + 1))
    return done + [(low, high, parts) for _, low, high, parts in heap]


def _even(low: int, high: int, parts: int, sums: Sequence[int]) -> list[int]:
    """Return the places that cut keys `low` to `high` into at most `parts` of equal weight.

    A key belongs to the part in which its middle lies.
    """
    base, weight = sums[low], sums[high] - sums[low]
    owners = [(sums[i] + sums[i + 1] - 2 * base) * parts // (2 * weight) for i in range(low, high)]
    return [low + i for i in range(1, len(owners)) if owners[i] != owners[i - 1]]


def _inherited(span: Span, past: Iterable[_Bounds]) -> _Bounds:
    """Return the bounds that a new route has from the routes that were in its place."""
    cuts = {cut for before, inner in past for cut in (before.start, *inner, before.end or b"")}
    return span, tuple(sorted(cut for cut in cuts if cut > span.start and cut in span))


def _parts(span: Span, buckets: Sequence[Span]) -> bool:
    """Tell whether the buckets, one after the other, are the span."""
    if (buckets[0].start, buckets[-1].end) != (span.start, span.end):
        return False
    return all(left.end == right.start for left, right in pairwise(buckets))


def _identity(route: RouteDescriptor) -> _Identity:
    return route.route_id, route.group, route.span


def _add(bucket: _Counts, counts: Iterable[int]) -> None:
    for place, count in enumerate(counts):
        bucket[place] += count


def _size(window: ClosedWindow) -> int:
    return len(window.rows) + sum(len(each.hot_keys) + len(each.samples) for each in window.keys)


def _route_keys(shares: Iterable[_Share]) -> tuple[RouteKeys, ...]:
    """Return hot keys and samples, of the busiest routes where they are too many bytes."""
    known = [(joined(share.told), share.route.route_id) for share in shares if share.told]
    known.sort(key=lambda pair: (-pair[0].accesses, pair[1]))
    left = EVIDENCE_BYTES_MAX
    told = []
    for evidence, route_id in known:
        keys = [h.key for h in evidence.heavy] + [d.key for d in evidence.drawn]
        left -= sum(EVIDENCE_ROW_BYTES + len(key) for key in keys)
        if left < 0:
            break
        told.append(RouteKeys(route_id, evidence.untold_max, evidence.heavy, evidence.drawn))
    return tuple(sorted(told, key=lambda each: each.route_id))


def _rows(share: _Share, window_us: int) -> list[LoadRow]:
    if share.covered_us == 0 and not any(map(any, share.counts)):
        return []
    coverage = min(1.0, max(1, share.covered_us) / window_us)
    span = share.route.span
    starts: list[bytes] = [span.start, *share.cuts]
    ends: list[bytes | None] = [*share.cuts, span.end]
    return [
        LoadRow(
            share.route.route_id,
            share.route.group,
            bucket_start=start,
            bucket_end=end,
            reads=reads,
            writes=writes,
            read_bytes=read_bytes,
            write_bytes=write_bytes,
            coverage=coverage,
        )
        for start, end, (reads, writes, read_bytes, write_bytes) in zip(
            starts, ends, share.counts, strict=True
        )
    ]
