"""Whole histories of a group against a plain model: writes, splits, expiry, safe points, steps.

The model keeps every version for ever. At every read_ts that is not below the safe point, the
group answers what the model does, forward and in reverse, whatever was split or collected.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from engines import MemoryEngine
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InvalidInput
from workbench.model.keys import Span
from workbench.model.node import Written
from workbench.model.routes import RouteDescriptor
from workbench.model.times import hlc_ms, hlc_of_ms
from workbench.mvcc import garbage as garbage_module
from workbench.ports.consensus import LogEntry
from workbench.replica.commands import (
    Bootstrap,
    CollectGarbage,
    GarbageStatus,
    GetMany,
    ListCatalog,
    ListCatalogAt,
    Mutation,
    OwnedSpan,
    Pin,
    Precondition,
    Refused,
    ScanPage,
    SetSafePoint,
    SplitDone,
    SplitRange,
    Unpin,
    WriteBatch,
)
from workbench.replica.entry import encode_command, encode_entry
from workbench.replica.replica import Replica

WHOLE = Span(b"", None)
KEYS = [b"", b"a", b"a\x00", b"ab", b"b", b"q", b"\xff"]
START_MS = 1_000
KEY = st.sampled_from(KEYS)
AGO = st.integers(0, 12)
MUTATION = st.tuples(KEY, st.none() | st.binary(max_size=2), st.integers(0, 8))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(MUTATION, min_size=1, max_size=3)),
        st.tuples(st.just("write"), st.lists(MUTATION, min_size=1, max_size=3)),
        st.tuples(st.just("write if"), st.tuples(KEY, st.booleans(), AGO)),
        st.tuples(st.just("split"), KEY),
        st.tuples(st.just("safe point"), AGO),
        st.tuples(st.just("pin"), AGO),
        st.tuples(st.just("unpin"), st.none()),
        st.tuples(st.just("collect"), st.integers(2, 7)),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=30,
)


@dataclass
class Group:
    """A replica, the model beside it, and a clock that goes on by one millisecond per entry."""

    engine: MemoryEngine = field(default_factory=MemoryEngine)
    index: int = 0
    now_ms: int = START_MS
    safe_point: int = 0
    pinned: int | None = None
    dropped: int = 0

    def __post_init__(self):
        self.replica = Replica(1, self.engine, is_catalog=True)
        self.model = {}
        self.apply(Bootstrap((OwnedSpan(WHOLE, 1),), (RouteDescriptor(1, WHOLE, 1),)))

    def apply(self, *commands):
        """Apply commands in one entry; return results with the commit_ts of each."""
        self.index += 1
        self.now_ms += 1
        stamped = [(hlc_of_ms(self.now_ms, at), each) for at, each in enumerate(commands, 1)]
        data = encode_entry(
            hlc_of_ms(self.now_ms + 1), [(at, encode_command(each)) for at, each in stamped]
        )
        results = self.replica.apply(LogEntry(self.index, 1, data))
        self.replica.check_invariants()
        return [(at, result) for (at, _), result in zip(stamped, results, strict=True)]

    def shown(self, key, read_ts):
        """Return (commit_ts, value) as the model has it, None for nothing."""
        older = [each for each in self.model.get(key, []) if each[0] <= read_ts]
        if not older:
            return None
        commit_ts, value, expire_at_ms = max(older)
        gone = value is None or 0 < expire_at_ms <= hlc_ms(read_ts)
        return None if gone else (commit_ts, value)

    def keep(self, mutations, commit_ts):
        newest = {each.key: each for each in mutations}
        for key, each in newest.items():
            version = (commit_ts, each.value, each.expire_at_ms)
            self.model.setdefault(key, []).append(version)

    def ago(self, steps):
        return max(1, hlc_of_ms(self.now_ms - steps))

    def check(self):
        """Read everything at every moment that may be read."""
        for back in range(min(self.now_ms - START_MS, 14) + 1):
            read_ts = hlc_of_ms(self.now_ms - back, 5)
            reads = [
                GetMany(tuple(KEYS), read_ts),
                ScanPage(b"", None, read_ts, 99, 10**6, whole=True),
                ScanPage(b"", None, read_ts, 99, 10**6, reverse=True),
            ]
            if read_ts < self.safe_point:
                for read in reads:
                    with pytest.raises(InvalidInput) as refused:
                        self.replica.read(read)
                    assert refused.value.code == "read_ts_below_safe_point"
                continue
            expected = {key: self.shown(key, read_ts) for key in KEYS}
            got = self.replica.read(reads[0]).versions
            assert [each and (each.commit_ts, each.value) for each in got] == [*expected.values()]
            rows = [(key, each) for key, each in sorted(expected.items()) if each]
            for read, order in zip(reads[1:], (1, -1), strict=True):
                page = self.replica.read(read)
                found = [(key, (each.commit_ts, each.value)) for key, each in page.rows]
                assert found == rows[::order]

    def stored(self):
        """Return how many versions of users' keys the engine holds."""
        return sum(1 for key in self.engine.rows if key[8:9] == b"\x04" and b"!dist" not in key)


def write(group, rows):
    mutations = tuple(
        Mutation(key, value, 0 if value is None or not life else group.now_ms + life)
        for key, value, life in rows
    )
    [(at, result)] = group.apply(WriteBatch(mutations))
    assert isinstance(result, Written)
    group.keep(mutations, at)


def write_if(group, how):
    """Two writes of one entry: the second is bound to what the first leaves."""
    key, absent, back = how
    first, second = (Mutation(key, b"1"),), (Mutation(key, b"2"),)
    present = group.shown(key, hlc_of_ms(group.now_ms + 1, 1))
    versions = group.model.get(key, [])
    wanted = None if absent else (versions[-back % len(versions)][0] if versions else 7)
    collected = not absent and versions and min(v[0] for v in versions) < group.safe_point
    results = group.apply(
        WriteBatch(first, b"", 0, (Precondition(key, wanted),)),
        WriteBatch(second, b"", 0, (Precondition(key, None),)),
    )
    holds = present is None if absent else bool(versions) and wanted == max(versions)[0]
    if not collected:  # what a tombstone's commit_ts was may be gone
        assert isinstance(results[0][1], Written) == holds
    if isinstance(results[0][1], Written):
        group.keep(first, results[0][0])
        assert isinstance(results[1][1], Refused)
        assert results[1][1].error.code == "precondition_failed"
    elif isinstance(results[1][1], Written):
        assert present is None
        group.keep(second, results[1][0])


def split(group, key):
    state = group.replica.catalog
    route = state.lookup(key)
    [(_, result)] = group.apply(SplitRange(state.version, route.route_id, key))
    assert isinstance(result, SplitDone) == (key != route.span.start)


def safe_point(group, back):
    asked = group.ago(back)
    [(_, status)] = group.apply(SetSafePoint(asked))
    assert isinstance(status, GarbageStatus)
    allowed = asked if group.pinned is None else min(asked, group.pinned)
    group.safe_point = max(group.safe_point, allowed)
    assert status.safe_point == group.safe_point


def pin(group, back):
    read_ts = group.ago(back)
    [(_, result)] = group.apply(Pin(b"p" * 16, read_ts))
    if read_ts < group.safe_point:
        assert isinstance(result, Refused)
        assert result.error.code == "read_ts_below_safe_point"
    else:
        group.pinned = read_ts


def unpin(group, _):
    group.apply(Unpin(b"p" * 16))
    group.pinned = None


def collect(group, versions_max):
    before = group.stored()
    [(_, status)] = group.apply(CollectGarbage(versions_max))
    assert status.scanned <= versions_max
    assert before - group.stored() == status.dropped - group.dropped
    group.dropped = status.dropped


def restart(group, _):
    group.replica = Replica(1, group.engine, is_catalog=True)


DO = {
    "write": write,
    "write if": write_if,
    "split": split,
    "safe point": safe_point,
    "pin": pin,
    "unpin": unpin,
    "collect": collect,
    "restart": restart,
}


def run(steps):
    group = Group()
    for what, how in steps:
        DO[what](group, how)
        if what in {"collect", "safe point", "split"}:
            group.check()
    group.check()
    # To the end of a pass, twice: then nothing that could go is there.
    for _ in range(2):
        done = False
        while not done:
            [(_, status)] = group.apply(CollectGarbage(2))
            done = status.done
    group.check()
    if group.safe_point:
        assert group.stored() == needed(group)
    return group


def needed(group):
    """Return how many versions some read at or above the safe point can see, or that hide."""
    kept = 0
    for versions in group.model.values():
        kept += sum(1 for each in versions if each[0] > group.safe_point)
        older = [each for each in versions if each[0] <= group.safe_point]
        if older:
            _, value, expire_at_ms = max(older)
            kept += not (value is None or 0 < expire_at_ms <= hlc_ms(group.safe_point))
    return kept


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_every_history_reads_as_the_model_at_every_moment_that_may_be_read(steps):
    run(steps)


@pytest.mark.slow
@settings(max_examples=3_000, deadline=None)
@given(STEPS)
def test_many_histories_read_as_the_model(steps):
    run(steps)


def test_a_key_with_more_versions_than_a_step_reads_is_collected_to_the_end():
    group = Group()
    for number in range(40):
        write(group, [(b"b", b"%d" % number, 0)])
    write(group, [(b"b", None, 0)])
    group.now_ms += 1
    safe_point(group, 0)
    for number in range(20):
        write(group, [(b"b", b"%d" % number, 0)])
    steps = 0
    while group.stored() > 20:
        collect(group, 3)
        steps += 1
        group.check()
        assert steps < 80
    assert group.dropped == 41


def test_a_tombstone_that_goes_before_what_it_hides_is_noticed(monkeypatch):
    """The planted fault: an old value comes back to life between two steps."""

    def hasty(pairs, safe_point, versions_max):
        step = garbage_module.find_garbage(pairs, safe_point, versions_max)
        return garbage_module.Step(tuple(sorted(step.garbage)[:1]), step.scanned, None)

    group = Group()
    for value in (b"older", b"old", None):
        write(group, [(b"b", value, 0)])
    group.now_ms += 1
    safe_point(group, 0)
    monkeypatch.setattr("workbench.replica.garbage.find_garbage", hasty)
    collect(group, 5)
    with pytest.raises(AssertionError):
        group.check()


def test_a_safe_point_ahead_a_pin_below_it_and_too_many_pins_are_refused():
    group = Group()
    write(group, [(b"k", b"v", 0)])

    def refused(command):
        [(_, result)] = group.apply(command)
        assert isinstance(result, Refused)
        return result.error.code

    ahead = hlc_of_ms(group.now_ms + 10)
    assert refused(SetSafePoint(ahead)) == "safe_point_ahead"
    assert refused(Pin(b"p" * 16, ahead)) == "pin_ahead"
    assert refused(CollectGarbage(1)) == "garbage_step_invalid"
    assert refused(CollectGarbage(10**9)) == "garbage_step_invalid"
    safe_point(group, 1)
    assert refused(Pin(b"p" * 16, 1)) == "read_ts_below_safe_point"
    for number in range(64):
        [(_, status)] = group.apply(Pin(b"%016d" % number, group.safe_point))
        assert status.pins == number + 1
    assert refused(Pin(b"q" * 16, group.safe_point)) == "pins_exhausted"
    [(_, again)] = group.apply(Pin(b"%016d" % 3, group.safe_point))
    assert again.pins == 64


def test_garbage_of_the_route_catalog_is_left_to_its_own_retention():
    group = Group()
    for key in (b"m", b"n", b"o"):
        split(group, key)
    rows = sum(1 for key in group.engine.rows if b"!dist" in key)
    before = hlc_of_ms(group.now_ms - 1, 5)
    safe_point(group, 0)
    collect(group, 100)
    assert sum(1 for key in group.engine.rows if b"!dist" in key) == rows
    # So the catalog can be read at older moments: the fence that goes before is a read of no keys.
    assert before < group.safe_point
    assert group.replica.read(GetMany((), before)).read_ts == before
    assert group.replica.read(ListCatalogAt(before)).version == 3
    assert group.replica.read(ListCatalog()).version == 4
