"""One group's state machine: order of checks, one batch per entry, the same after a restart."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from engines import MemoryEngine

from workbench.errors import Corruption, WorkbenchError
from workbench.model.keys import Span
from workbench.model.node import Written
from workbench.model.routes import RouteDescriptor, seed_routes
from workbench.model.times import hlc_of_ms
from workbench.mvcc.versions import KEYS_AT_ONCE
from workbench.ports.consensus import LogEntry
from workbench.replica import catalog as catalog_module
from workbench.replica.catalog import DELTAS_MAX, SPLIT_REQUESTS_MAX
from workbench.replica.clock import ceiling_of
from workbench.replica.commands import (
    Answer,
    Bootstrap,
    Bootstrapped,
    CatalogListing,
    Command,
    GetMany,
    LatestCommitTs,
    LatestTs,
    ListCatalog,
    Mutation,
    OwnedSpan,
    Page,
    Read,
    Refused,
    Result,
    ScanPage,
    SplitDone,
    SplitRange,
    WriteBatch,
)
from workbench.replica.dedupe import DEDUPE_EXPIRY_MS, DEDUPE_SEQUENCES_MAX
from workbench.replica.entry import encode_command, encode_entry
from workbench.replica.layout import DEDUPE, META, SPANS, VERSIONS, family
from workbench.replica.replica import Replica
from workbench.routing.records import encode_route

GROUP = 1
OWNED = (OwnedSpan(Span(b"", b"m"), 1), OwnedSpan(Span(b"p", b"t"), 2))
SEEDS = seed_routes([b"m"])


class Counting(MemoryEngine):
    """Counts its batches, and the places that it looks for the first pair of."""

    batches = 0
    looks = 0

    def firsts(self, ranges):
        self.looks += len(ranges)
        return super().firsts(ranges)

    def write(self, changes):
        self.batches += 1
        super().write(changes)


@dataclass
class Bench:
    """A replica, and the log that it applied."""

    is_catalog: bool = True
    now_ms: int = 1_000
    log: list[LogEntry] = field(default_factory=list)
    engine: Counting = field(default_factory=Counting)

    def __post_init__(self) -> None:
        self.replica = Replica(GROUP, self.engine, is_catalog=self.is_catalog)

    def bootstrap(self, spans=OWNED, routes=SEEDS) -> Bench:
        routes = routes if self.is_catalog else ()
        assert self.apply(Bootstrap(spans, routes)) == Bootstrapped()
        return self

    def entry(self, *commands: Command) -> LogEntry:
        self.now_ms += 1
        stamped = [
            (hlc_of_ms(self.now_ms, at), encode_command(each)) for at, each in enumerate(commands)
        ]
        index = self.replica.applied_index + 1
        self.log.append(LogEntry(index, 1, encode_entry(ceiling_of(self.now_ms), stamped)))
        return self.log[-1]

    def apply_all(self, *commands: Command) -> tuple[Result, ...]:
        results = self.replica.apply(self.entry(*commands))
        self.replica.check_invariants()
        return results

    def apply(self, command: Command) -> Result:
        return self.apply_all(command)[0]

    def refused(self, command: Command) -> str:
        result = self.apply(command)
        assert isinstance(result, Refused)
        return f"{result.error.kind} {result.error.code}"

    def read(self, read: Read) -> Answer:
        return self.replica.read(read)

    def unread(self, read: Read) -> str:
        with pytest.raises(WorkbenchError) as caught:
            self.replica.read(read)
        return f"{caught.value.kind} {caught.value.code}"

    def values(self, *keys: bytes, read_ts: int = 0) -> list[bytes | None]:
        answer = self.read(GetMany(keys, read_ts or self.now))
        return [version and version.value for version in answer.versions]

    @property
    def now(self) -> int:
        return hlc_of_ms(self.now_ms, 100)


def put(*keys: bytes, value: bytes = b"v", client_id: bytes = b"", sequence: int = 0):
    return WriteBatch(tuple(Mutation(key, value) for key in keys), client_id, sequence)


@pytest.fixture
def bench() -> Bench:
    return Bench().bootstrap()


def test_a_write_is_visible_at_its_commit_ts_and_not_before(bench: Bench) -> None:
    written = bench.apply(put(b"a", b"q"))
    assert written == Written(hlc_of_ms(bench.now_ms), 2)
    assert bench.values(b"a", b"q", b"b") == [b"v", b"v", None]
    assert bench.values(b"a", read_ts=written.commit_ts - 1) == [None]
    assert bench.values(b"a", read_ts=written.commit_ts) == [b"v"]


def test_a_deletion_is_a_version_of_its_own(bench: Bench) -> None:
    first = bench.apply(put(b"a"))
    second = bench.apply(WriteBatch((Mutation(b"a", None),)))
    assert bench.values(b"a") == [None]
    assert bench.values(b"a", read_ts=first.commit_ts) == [b"v"]
    assert bench.read(LatestCommitTs(b"a")) == LatestTs(second.commit_ts)
    assert bench.read(LatestCommitTs(b"b")) == LatestTs(None)


def test_commands_of_one_entry_see_each_other_and_are_one_batch(bench: Bench) -> None:
    before = bench.engine.batches
    results = bench.apply_all(
        put(b"a", value=b"1", client_id=b"me", sequence=1),
        put(b"a", value=b"2", client_id=b"me", sequence=1),
        SplitRange(1, 1, b"c"),
        SplitRange(2, 3, b"b"),
    )
    assert bench.engine.batches == before + 1
    assert results[0] == results[1]
    assert [each.catalog_version for each in results[2:]] == [2, 3]
    assert bench.values(b"a") == [b"1"]


def test_the_empty_entry_of_a_term_only_moves_the_applied_index(bench: Bench) -> None:
    before = (bench.replica.ceiling, bench.replica.last_commit_ts)
    assert bench.replica.apply(LogEntry(2, 2, b"")) == ()
    assert bench.replica.applied_index == 2
    assert (bench.replica.ceiling, bench.replica.last_commit_ts) == before
    bench.replica.check_invariants()


def test_an_entry_is_applied_once(bench: Bench) -> None:
    bench.apply(put(b"a"))
    rows = dict(bench.engine.rows)
    assert bench.replica.apply(bench.log[-1]) == ()
    assert bench.engine.rows == rows


def test_a_hole_in_the_log_is_our_own_bug(bench: Bench) -> None:
    with pytest.raises(AssertionError, match="without holes"):
        bench.replica.apply(LogEntry(9, 1, b""))


def test_a_malformed_entry_stops_the_replica_for_good(bench: Bench) -> None:
    rows = dict(bench.engine.rows)
    with pytest.raises(Corruption) as caught:
        bench.replica.apply(LogEntry(2, 1, b"\x07" * 20))
    assert caught.value.code == "command_version_unknown"
    assert bench.engine.rows == rows
    with pytest.raises(AssertionError):
        bench.replica.apply(LogEntry(2, 1, b""))


def test_a_commit_ts_that_does_not_increase_along_the_log_is_corruption(bench: Bench) -> None:
    bench.apply(put(b"a"))
    bench.now_ms -= 1
    with pytest.raises(Corruption) as caught:
        bench.apply(put(b"a"))
    assert caught.value.code == "commit_ts_not_increasing"


def test_the_ceiling_never_falls(bench: Bench) -> None:
    before = bench.replica.ceiling
    bench.replica.apply(LogEntry(2, 1, encode_entry(5, [])))
    assert bench.replica.ceiling == before


def test_a_second_bootstrap_changes_nothing(bench: Bench) -> None:
    other = Bootstrap((OwnedSpan(Span(b"m", None), 7),), seed_routes([b"x"]))
    assert bench.apply(other) == Bootstrapped()
    assert bench.replica.spans == OWNED
    assert bench.replica.catalog.routes == SEEDS


def test_a_key_outside_the_owned_spans_refuses_the_whole_batch(bench: Bench) -> None:
    rows = dict(bench.engine.rows)
    for stranger in (b"m", b"o", b"t", b"z"):
        assert bench.refused(put(b"a", stranger)) == "unavailable ownership_unknown"
        assert bench.unread(GetMany((b"a", stranger), bench.now)).endswith("ownership_unknown")
        assert bench.unread(LatestCommitTs(stranger)) == "unavailable ownership_unknown"
    progress = family(GROUP, META) + b"progress"
    assert {key for key in rows.keys() | bench.engine.rows.keys() if key != progress} == {
        key for key in rows if key != progress
    }
    assert bench.values(b"a") == [None]


def test_a_group_without_records_owns_nothing() -> None:
    bench = Bench()
    assert bench.refused(put(b"a")) == "unavailable ownership_unknown"
    assert bench.unread(GetMany((b"a",), bench.now)) == "unavailable ownership_unknown"
    assert bench.unread(ScanPage(b"", None, bench.now, 9, 9)) == "unavailable ownership_unknown"


def test_reserved_keys_are_refused_to_users(bench: Bench) -> None:
    row = b"!dist|meta|version"
    assert bench.refused(put(b"a", row)) == "invalid_input key_reserved"
    assert bench.unread(GetMany((row,), bench.now)) == "invalid_input key_reserved"
    assert bench.unread(LatestCommitTs(row)) == "invalid_input key_reserved"
    inside = ScanPage(row, b"!dist|z", bench.now, 9, 9)
    assert bench.unread(inside) == "invalid_input key_reserved"


def test_dedupe_is_asked_before_ownership_and_refusals_are_not_stored(bench: Bench) -> None:
    assert bench.refused(put(b"a", b"m", client_id=b"me", sequence=1)).endswith("unknown")
    first = bench.apply(put(b"a", client_id=b"me", sequence=1))
    assert isinstance(first, Written)
    assert bench.apply(put(b"a", b"m", client_id=b"me", sequence=1)) == first
    assert bench.apply(put(b"!dist|x", client_id=b"me", sequence=1)) == first


def test_clients_do_not_share_sequences_and_nobody_is_not_deduped(bench: Bench) -> None:
    first = bench.apply(put(b"a", client_id=b"me", sequence=1))
    assert bench.apply(put(b"a", client_id=b"you", sequence=1)) != first
    assert bench.apply(put(b"a")) != bench.apply(put(b"a"))


def test_a_sequence_older_than_those_kept_is_of_unknown_outcome(bench: Bench) -> None:
    last = 10 + DEDUPE_SEQUENCES_MAX
    for sequence in range(10, last + 1):
        bench.apply(put(b"a", client_id=b"me", sequence=sequence))
    for sequence in (9, 10):
        refused = bench.refused(put(b"a", client_id=b"me", sequence=sequence))
        assert refused == "outcome_unknown dedupe_expired"
    assert bench.apply(put(b"a", client_id=b"me", sequence=11)).index == 3
    kept = [key for key in bench.engine.rows if key.startswith(family(GROUP, DEDUPE))]
    assert len(kept) == DEDUPE_SEQUENCES_MAX


def test_sequences_may_come_out_of_order(bench: Bench) -> None:
    late = [bench.apply(put(b"a", client_id=b"me", sequence=each)) for each in (5, 3, 4)]
    assert [each.index for each in late] == [2, 3, 4]
    assert bench.apply(put(b"a", client_id=b"me", sequence=3)) == late[1]


def test_dedupe_expires_by_commit_ts_and_leaves_a_mark(bench: Bench) -> None:
    bench.apply(put(b"a", client_id=b"me", sequence=7))
    first = bench.now_ms
    bench.now_ms = first + DEDUPE_EXPIRY_MS - 2
    assert bench.apply(put(b"a", client_id=b"me", sequence=7)).index == 2
    assert bench.apply(put(b"b")).index == 4
    assert bench.now_ms == first + DEDUPE_EXPIRY_MS
    refused = bench.refused(put(b"a", client_id=b"me", sequence=7))
    assert refused == "outcome_unknown dedupe_expired"
    assert bench.refused(put(b"a", client_id=b"me", sequence=6)).endswith("dedupe_expired")
    assert isinstance(bench.apply(put(b"a", client_id=b"me", sequence=8)), Written)


def test_a_split_replaces_the_parent_by_two_children(bench: Bench) -> None:
    done = bench.apply(SplitRange(1, 1, b"c", b"request"))
    commit_ts = hlc_of_ms(bench.now_ms)
    left = RouteDescriptor(3, Span(b"", b"c"), 1, parent_route_id=1, split_at_hlc=commit_ts)
    right = RouteDescriptor(4, Span(b"c", b"m"), 1, parent_route_id=1, split_at_hlc=commit_ts)
    assert done == SplitDone(2, left, right, repeated=False)
    listing = bench.read(ListCatalog())
    assert listing == CatalogListing(2, (left, right, SEEDS[1]))
    assert bench.replica.catalog.version == 2
    assert bench.replica.spans == OWNED


def test_a_repeated_split_is_answered_with_its_first_result(bench: Bench) -> None:
    first = bench.apply(SplitRange(1, 1, b"c", b"request"))
    again = bench.apply(SplitRange(1, 1, b"c", b"request"))
    assert again.repeated
    assert (again.catalog_version, again.left, again.right) == (2, first.left, first.right)
    assert bench.refused(SplitRange(1, 1, b"d", b"request")) == "conflict request_id_reused"
    assert bench.refused(SplitRange(1, 1, b"c")) == "conflict catalog_version_mismatch"
    assert bench.refused(SplitRange(1, 1, b"c", b"other")) == "conflict catalog_version_mismatch"


def test_the_rules_of_routes_refuse_at_apply(bench: Bench) -> None:
    assert bench.refused(SplitRange(1, 9, b"c")) == "not_found route_absent"
    assert bench.refused(SplitRange(1, 1, b"m")) == "invalid_input split_key_at_bound"
    assert bench.refused(SplitRange(1, 1, b"x")) == "invalid_input split_key_outside"
    assert bench.replica.catalog.version == 1


def test_only_the_catalog_group_splits_and_lists() -> None:
    bench = Bench(is_catalog=False).bootstrap()
    assert bench.refused(SplitRange(1, 1, b"c", b"request")) == "unavailable catalog_absent"
    assert bench.unread(ListCatalog()) == "unavailable catalog_absent"
    assert bench.replica.catalog is None
    empty = Bench()
    assert empty.unread(ListCatalog()) == "unavailable catalog_absent"
    assert empty.refused(SplitRange(0, 1, b"c")) == "unavailable catalog_absent"


def test_old_deltas_and_split_requests_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (DELTAS_MAX, SPLIT_REQUESTS_MAX) == (1_024, 1_024)
    monkeypatch.setattr(catalog_module, "DELTAS_MAX", 3)
    monkeypatch.setattr(catalog_module, "SPLIT_REQUESTS_MAX", 3)
    bench = Bench().bootstrap()
    for number in range(1, 7):
        right = bench.replica.catalog.lookup(b"\x09").route_id
        done = bench.apply(SplitRange(number, right, bytes([number]), b"%d" % number))
        assert done.catalog_version == number + 1
    rows = bench.replica._catalog
    assert rows.delta_floor == 4
    deltas = {v: bench_row(bench, b"!dist|delta|" + v.to_bytes(8, "big")) for v in range(1, 8)}
    assert [version for version, value in deltas.items() if value is not None] == [5, 6, 7]
    assert bench_row(bench, b"!dist|meta|delta_floor") == b"\x01" + (4).to_bytes(8, "big")
    # The oldest request is forgotten, and compare-and-set still refuses it.
    assert bench.refused(SplitRange(3, 1, b"\x03", b"3")) == "conflict catalog_version_mismatch"
    assert bench.apply(SplitRange(4, done_id(bench, 4), bytes([4]), b"4")).repeated


def done_id(bench: Bench, number: int) -> int:
    return bench.replica._catalog._requests._kept[b"%d" % number].left.parent_route_id


def bench_row(bench: Bench, key: bytes) -> bytes | None:
    from workbench.mvcc.versions import get

    stored = get(bench.engine, family(GROUP, VERSIONS), key, bench.now)
    return stored and stored.value


def test_a_scan_covers_what_the_group_owns_and_skips_reserved_rows(bench: Bench) -> None:
    keys = [b"\x00", b"a", b"l", b"p", b"s\xff"]
    bench.apply(put(*keys))
    page = bench.read(ScanPage(b"", None, bench.now, 99, 2**20))
    assert [key for key, _ in page.rows] == keys
    assert page.next_key is None
    back = bench.read(ScanPage(b"", None, bench.now, 99, 2**20, reverse=True))
    assert back.rows == page.rows[::-1]
    part = bench.read(ScanPage(b"a", b"p", bench.now, 99, 2**20, keys_only=True))
    assert [(key, version.value) for key, version in part.rows] == [(b"a", b""), (b"l", b"")]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("rows_max", "bytes_max"), [(1, 99), (2, 99), (99, 1), (99, 5), (99, 7)])
def test_pages_follow_each_other_without_loss(bench: Bench, reverse, rows_max, bytes_max) -> None:
    keys = [b"a", b"b", b"c", b"p", b"q"]
    bench.apply(put(*keys, value=b"vv"))
    read_ts = bench.now
    bench.apply(put(b"bb"))
    start, end = b"", None
    found: list[bytes] = []
    for _ in range(9):
        page = bench.read(ScanPage(start, end, read_ts, rows_max, bytes_max, reverse=reverse))
        assert isinstance(page, Page)
        assert 1 <= len(page.rows) <= rows_max
        assert len(page.rows) == 1 or sum(len(k) + len(v.value) for k, v in page.rows) <= bytes_max
        found += [key for key, _ in page.rows]
        if page.next_key is None:
            break
        start, end = (start, page.next_key) if reverse else (page.next_key, end)
    assert found == (keys[::-1] if reverse else keys)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_page_over_deleted_keys_ends_early_and_the_next_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, reverse: bool
) -> None:
    monkeypatch.setattr("workbench.replica.pages.PASSED_MAX", 20)
    gone = [b"d%03d" % number for number in range(100)]
    bench.apply(put(b"a", *gone, b"q"))
    bench.apply(WriteBatch(tuple(Mutation(key, None) for key in gone)))
    start, end, found, pages = b"", None, [], 0
    while True:
        page = bench.read(ScanPage(start, end, bench.now, 99, 2**20, reverse=reverse))
        pages += 1
        found += [key for key, _ in page.rows]
        if page.next_key is None:
            assert not page.unfinished
            break
        assert page.unfinished
        start, end = (start, page.next_key) if reverse else (page.next_key, end)
    assert found == ([b"q", b"a"] if reverse else [b"a", b"q"])
    # Two versions of each are passed, twenty a page and those of its last key.
    assert 5 <= pages <= 11


def test_many_keys_are_read_no_further_than_an_answer_may_be_long(bench: Bench) -> None:
    value = bytes(2**20)
    bench.apply(put(b"a", value=value))
    assert len(bench.read(GetMany((b"a",) * 7, bench.now)).versions) == 7
    before = bench.engine.looks
    refused = bench.unread(GetMany((b"a",) * 10_000, bench.now))
    assert refused == "invalid_input answer_too_large"
    assert bench.engine.looks - before <= KEYS_AT_ONCE


def test_a_page_must_have_room_and_a_range_must_touch_the_group(bench: Bench) -> None:
    assert bench.unread(ScanPage(b"", None, bench.now, 0, 9)) == "invalid_input scan_limit_invalid"
    assert bench.unread(ScanPage(b"m", b"p", bench.now, 9, 9)).endswith("ownership_unknown")
    assert bench.read(ScanPage(b"b", b"a", bench.now, 9, 9)).rows == ()


def test_a_read_at_or_above_the_applied_ceiling_is_our_own_bug(bench: Bench) -> None:
    with pytest.raises(AssertionError):
        bench.read(GetMany((b"a",), bench.replica.ceiling))
    with pytest.raises(AssertionError):
        bench.read(GetMany((b"a",), 0))
    assert bench.values(b"a", read_ts=bench.replica.ceiling - 1) == [None]


@pytest.mark.parametrize("flushed", range(5))
def test_a_restart_finds_itself_in_the_engine_and_goes_on_from_the_log(flushed: int) -> None:
    bench = Bench()
    commands = [
        Bootstrap(OWNED, SEEDS),
        put(b"a", client_id=b"me", sequence=1),
        SplitRange(1, 1, b"c", b"request"),
        put(b"a", b"z"),
        put(b"q", client_id=b"me", sequence=2),
    ]
    results = []
    for number, command in enumerate(commands):
        results.append(bench.apply(command))
        if number == flushed:
            bench.engine.flush()
    engine = bench.engine.after_crash()
    replica = Replica(GROUP, engine, is_catalog=True)
    assert replica.applied_index == flushed + 1
    for entry, result in zip(bench.log, results, strict=True):
        again = replica.apply(entry)
        assert [repr(each) for each in again] == (
            [repr(result)] if entry.index > flushed + 1 else []
        )
    assert engine.rows == bench.engine.rows
    replica.check_invariants()


@pytest.mark.parametrize("number", [META, SPANS, DEDUPE, VERSIONS, 5, 6])
def test_a_record_that_cannot_be_decoded_names_its_engine_key(number: int) -> None:
    bench = Bench().bootstrap()
    bench.apply(put(b"a", client_id=b"me", sequence=1))
    bench.apply(SplitRange(1, 1, b"c", b"request"))
    bench.now_ms += DEDUPE_EXPIRY_MS
    bench.apply(put(b"b", client_id=b"you", sequence=1))
    keys = [key for key in bench.engine.rows if key.startswith(family(GROUP, number))]
    if number == VERSIONS:
        # What a start reads: the newest versions of counters and routes.
        keys = [key for key in keys if re.search(rb"meta.version|meta.delta_floor", key)]
        keys = sorted(keys)[:2]
    assert keys
    for key in keys:
        for damaged in (b"", b"\x63", b"\x63" * 40, bench.engine.rows[key][:-1]):
            engine = MemoryEngine(bench.engine.rows)
            engine.write([(key, damaged)])
            with pytest.raises(Corruption) as caught:
                Replica(GROUP, engine, is_catalog=True)
            assert key.hex() in caught.value.message


def test_rows_are_stored_as_documented() -> None:
    bench = Bench(now_ms=0).bootstrap((OwnedSpan(Span(b"", b"m"), 7),))
    bench.apply(put(b"b", b"a", client_id=b"me", sequence=9))
    done = bench.apply(SplitRange(1, 1, b"c", b"rq"))
    bench.now_ms = DEDUPE_EXPIRY_MS + 1
    rows = dict(bench.engine.rows)
    bench.apply(put(b"a"))
    group = GROUP.to_bytes(8, "big")

    def u64(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(8, "big") for number in numbers)

    ceiling, stamp = ceiling_of(3), hlc_of_ms(3)
    assert rows[group + b"\x01progress"] == b"\x02" + u64(3, ceiling, stamp, 1)
    assert rows[group + b"\x01bootstrapped"] == b"\x01" + u64(1)
    assert rows[group + b"\x02"] == b"\x01\x01" + u64(7) + b"\x01\x00\x00\x00\x01m"
    key = group + b"\x03\x00\x00\x00\x02me" + u64(9)
    sizes = b"\x00\x00\x00\x01" * 2
    assert rows[key] == b"\x01" + u64(hlc_of_ms(2), 2) + sizes + b"ab"
    left, right = encode_route(done.left), encode_route(done.right)
    size = len(left).to_bytes(4, "big")
    assert rows[group + b"\x05rq"] == b"\x01" + u64(2, stamp) + size + left + right
    assert key not in bench.engine.rows
    assert bench.engine.rows[group + b"\x06me"] == b"\x01" + u64(9)


def test_a_damaged_version_is_corruption_and_not_absence(bench: Bench) -> None:
    bench.apply(put(b"a"))
    row = next(key for key in bench.engine.rows if key[8] == VERSIONS and key[9:10] == b"a")
    bench.engine.write([(row, b"\x63")])
    with pytest.raises(Corruption) as caught:
        bench.values(b"a")
    assert row.hex() in caught.value.message


def test_two_groups_in_one_engine_do_not_meet() -> None:
    engine = MemoryEngine()
    first = Replica(1, engine, is_catalog=False)
    second = Replica(256, engine, is_catalog=False)
    everything = Bootstrap((OwnedSpan(Span(b"", None), 1),))
    data = [
        encode_entry(ceiling_of(1), [(1, encode_command(everything))]),
        encode_entry(ceiling_of(1), [(2, encode_command(put(b"a")))]),
    ]
    for index, each in enumerate(data, start=1):
        first.apply(LogEntry(index, 1, each))
    second.apply(LogEntry(1, 1, data[0]))
    assert first.read(GetMany((b"a",), 5)).versions[0] is not None
    assert second.read(GetMany((b"a",), 5)).versions == (None,)
    assert (first.applied_index, second.applied_index) == (2, 1)
