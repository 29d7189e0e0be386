"""The host's turns: what is coalesced, when it is answered, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from unit.test_host_world import (
    GROUPS,
    SEEDS,
    SPANS,
    START_MS,
    LosingEngine,
    MemoryLog,
    Process,
    bootstrap_of,
    fresh,
)

from workbench.errors import InvalidInput, NotFound, OutcomeUnknown, Unavailable, WorkbenchError
from workbench.host import lane
from workbench.host.host import Group, Host
from workbench.model.keys import Span
from workbench.model.limits import CEILING_AHEAD_MS, ENTRY_BYTES_MAX, ENTRY_BYTES_TARGET
from workbench.model.node import GotMany, Written
from workbench.model.times import hlc_ms, hlc_of_ms
from workbench.ports.consensus import (
    Configuration,
    HardState,
    LogEntry,
    ReadState,
    Ready,
    Role,
    SoftState,
)
from workbench.replica.commands import (
    Bootstrap,
    CatalogListing,
    GetMany,
    LatestCommitTs,
    ListCatalog,
    Mutation,
    OwnedSpan,
    Refused,
    ScanPage,
    SplitRange,
    WriteBatch,
)
from workbench.replica.entry import decode_entry
from workbench.replica.replica import Replica


def put(key: bytes, value: bytes = b"v", **options) -> WriteBatch:
    return WriteBatch((Mutation(key, value),), **options)


def latest(*keys: bytes) -> GetMany:
    return GetMany(keys)


@pytest.fixture
def process() -> Process:
    process = fresh()
    process.settle(START_MS)
    return process


def entries(process: Process, group: int = 1) -> list[LogEntry]:
    return process.log.kept[group].entries


def only(replies):
    assert len(replies) == 1
    return replies[0].result


def failed(replies) -> str:
    error = only(replies)
    assert isinstance(error, WorkbenchError)
    return f"{error.kind} {error.code}"


def test_the_first_records_come_before_anything_else() -> None:
    process = fresh()
    process.host.propose(1, put(b"a"), 7)
    replies = process.settle(START_MS)
    assert [reply.token for reply in replies] == [7]
    assert isinstance(only(replies), Written)
    commands = [decode_entry(entry.data).commands for entry in entries(process) if entry.data]
    assert [type(each.command) for some in commands for each in some] == [Bootstrap, WriteBatch]
    assert process.host.catalog_routes().routes == SEEDS


def test_nothing_is_served_before_an_own_entry_has_applied() -> None:
    process = fresh()
    process.host.read(1, latest(b"a"), 1)
    turn = process.host.begin(START_MS)
    assert [entry.data for write in turn.writes for entry in write.entries] == [b"", b"", b""]
    assert not process.host.status(1).serving
    process.log.append(turn.writes)
    process.log.sync()
    process.host.finish(turn, START_MS)
    process.settle(START_MS)
    assert process.host.status(1).serving


def test_commands_of_a_turn_share_an_entry_and_are_answered_in_order(process: Process) -> None:
    for token in range(3):
        process.host.propose(1, put(b"a", b"%d" % token), token)
    before = len(entries(process))
    replies = process.turn(START_MS)
    assert len(entries(process)) == before + 1
    assert [reply.token for reply in replies] == [0, 1, 2]
    stamps = [reply.result.commit_ts for reply in replies]
    assert stamps == sorted(set(stamps))
    assert hlc_ms(stamps[0]) == START_MS


def test_one_turn_serves_all_groups_with_one_sync(process: Process) -> None:
    for group, key in zip(GROUPS, (b"a", b"h", b"q"), strict=True):
        process.host.propose(group, put(key), group)
    turn = process.host.begin(START_MS)
    assert [write.group for write in turn.writes] == list(GROUPS)
    assert turn.must_sync
    process.log.append(turn.writes)
    process.log.sync()
    assert len(process.host.finish(turn, START_MS).replies) == 3


def test_an_entry_stops_growing_at_its_target(process: Process) -> None:
    size = ENTRY_BYTES_TARGET // 3
    for token in range(7):
        process.host.propose(1, put(b"a", bytes(size)), token)
    before = len(entries(process))
    assert len(process.turn(START_MS)) == 7
    made = entries(process)[before:]
    assert [len(decode_entry(entry.data).commands) for entry in made] == [2, 2, 2, 1]
    assert all(len(entry.data) <= ENTRY_BYTES_TARGET for entry in made)


def test_one_command_may_exceed_the_target_but_not_the_limit(process: Process) -> None:
    process.host.propose(1, put(b"a", bytes(2 * ENTRY_BYTES_TARGET)), 1)
    assert isinstance(only(process.turn(START_MS)), Written)
    with pytest.raises(InvalidInput) as caught:
        process.host.propose(1, put(b"a", bytes(ENTRY_BYTES_MAX)), 2)
    assert caught.value.code == "command_too_large"


def test_a_turn_takes_a_bounded_number_of_entries(process: Process) -> None:
    for token in range(lane.ENTRIES_PER_TURN_MAX + 1):
        process.host.propose(1, put(b"a", bytes(ENTRY_BYTES_TARGET)), token)
    assert len(process.turn(START_MS)) == lane.ENTRIES_PER_TURN_MAX
    assert process.host.has_work()
    assert len(process.turn(START_MS)) == 1
    assert not process.host.has_work()


def test_nothing_is_applied_before_the_turn_is_finished(process: Process) -> None:
    process.host.propose(1, put(b"a"), 1)
    before = process.host.applied()[1]
    turn = process.host.begin(START_MS)
    assert process.host.applied()[1] == before
    process.log.append(turn.writes)
    process.log.sync()
    assert len(process.host.finish(turn, START_MS).replies) == 1
    assert process.host.applied()[1] == before + 1


def test_a_turn_that_was_never_finished_left_no_trace_in_memory(process: Process) -> None:
    process.host.propose(1, put(b"a"), 1)
    process.host.begin(START_MS)
    again = Process(process.log.after_crash(), process.engine.after_crash())
    again.settle(START_MS + 1)
    again.host.read(1, latest(b"a"), 1)
    assert only(again.settle(START_MS + 1)).versions == (None,)


def test_an_idle_host_writes_nothing_and_has_no_work(process: Process) -> None:
    assert not process.host.has_work()
    process.host.tick()
    assert not process.host.has_work()
    turn = process.host.begin(START_MS)
    assert (turn.writes, turn.must_sync) == ((), False)
    assert process.host.finish(turn, START_MS).replies == ()


def test_refusals_come_as_refused_and_errors_outside_the_log_bare(process: Process) -> None:
    process.host.propose(1, put(b"z"), 1)
    process.host.propose(1, put(b"!dist|x"), 2)
    process.host.propose(2, SplitRange(1, 1, b"c"), 3)
    codes = []
    for reply in process.turn(START_MS):
        assert isinstance(reply.result, Refused)
        codes.append((reply.token, reply.result.error.code))
    assert codes == [(1, "ownership_unknown"), (2, "key_reserved"), (3, "catalog_absent")]


def test_an_unknown_group_is_refused_at_once(process: Process) -> None:
    for call in (
        lambda: process.host.propose(9, put(b"a"), 1),
        lambda: process.host.read(9, latest(b"a"), 1),
        lambda: process.host.status(9),
    ):
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.code == "group_absent"


def test_queues_are_bounded(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "QUEUE_COMMANDS_MAX", 2)
    monkeypatch.setattr(lane, "QUEUE_BYTES_MAX", 1_000)
    monkeypatch.setattr(lane, "QUEUE_READS_MAX", 1)
    process.host.propose(1, put(b"a"), 1)
    process.host.read(1, latest(b"a"), 3)
    for call in (
        lambda: process.host.propose(1, put(b"a", bytes(1_000)), 9),
        lambda: process.host.read(1, latest(b"a"), 9),
    ):
        with pytest.raises(Unavailable) as caught:
            call()
        assert caught.value.code == "queue_full"
    process.host.propose(1, put(b"a"), 2)
    with pytest.raises(Unavailable):
        process.host.propose(1, put(b"a"), 9)
    process.host.propose(2, put(b"h"), 4)
    assert sorted(reply.token for reply in process.turn(START_MS)) == [1, 2, 3, 4]
    process.host.propose(1, put(b"a"), 5)


def test_a_read_sees_the_writes_of_its_own_turn(process: Process) -> None:
    process.host.propose(1, put(b"a"), 1)
    process.host.read(1, latest(b"a"), 2)
    written, got = (reply.result for reply in process.turn(START_MS))
    assert isinstance(got, GotMany)
    assert got.versions[0].commit_ts == written.commit_ts
    assert got.index == written.index


def test_a_read_that_comes_during_the_sync_is_answered_by_its_turn(process: Process) -> None:
    process.host.propose(1, put(b"a"), 1)
    turn = process.host.begin(START_MS)
    process.host.read(1, latest(b"a"), 2)
    process.log.append(turn.writes)
    process.log.sync()
    replies = process.host.finish(turn, START_MS + 20).replies
    assert [reply.token for reply in replies] == [1, 2]
    assert replies[1].result.versions[0].value == b"v"


def test_a_slow_disk_does_not_keep_latest_reads_from_being_served(process: Process) -> None:
    now_ms = START_MS
    for token in range(3):
        process.host.read(1, latest(b"a"), token)
        turn = process.host.begin(now_ms)
        process.log.append(turn.writes)
        process.log.sync()
        now_ms += 5 * CEILING_AHEAD_MS
        assert [reply.token for reply in process.host.finish(turn, now_ms).replies] == [token]


def test_an_idle_leader_raises_its_ceiling_only_where_a_read_needs_it(process: Process) -> None:
    before = len(entries(process))
    for step in range(10):
        process.host.read(1, latest(b"a"), step)
        assert len(process.settle(START_MS + step)) == 1
    assert len(entries(process)) == before
    later = START_MS + CEILING_AHEAD_MS
    process.host.read(1, latest(b"a"), 99)
    assert hlc_ms(only(process.settle(later)).read_ts) == later
    assert len(entries(process)) == before + 1
    process.host.read(1, LatestCommitTs(b"a"), 100)
    process.host.read(1, ListCatalog(), 101)
    assert len(process.settle(later + 9_999)) == 2
    assert len(entries(process)) == before + 1


def test_later_commits_lie_above_a_served_read(process: Process) -> None:
    ahead = hlc_of_ms(START_MS + 300)
    process.host.read(1, GetMany((b"a",), ahead), 1)
    assert only(process.settle(START_MS)).read_ts == ahead
    process.host.propose(1, put(b"a"), 2)
    assert only(process.settle(START_MS)).commit_ts == ahead + 1


def test_a_clients_clock_too_far_ahead_is_refused(process: Process) -> None:
    process.host.read(1, GetMany((b"a",), hlc_of_ms(START_MS + 501)), 1)
    assert failed(process.settle(START_MS)) == "invalid_input read_ts_ahead"


def test_a_read_above_the_ceiling_waits_for_time_without_spinning(process: Process) -> None:
    read_ts = hlc_of_ms(START_MS + 500)
    process.host.read(1, ScanPage(b"", None, read_ts, 9, 99), 1)
    assert process.settle(START_MS) == []
    assert not process.host.has_work()
    process.host.tick()
    assert process.host.has_work()
    assert process.settle(START_MS + 50) == []
    process.host.tick()
    assert only(process.settle(START_MS + 101)).read_ts == read_ts
    assert not process.host.has_work()


def test_a_clock_set_back_stops_writes_and_not_reads(process: Process) -> None:
    process.host.propose(1, put(b"a"), 1)
    first = only(process.settle(START_MS + 5_000))
    process.host.propose(1, put(b"a"), 2)
    assert failed(process.settle(START_MS)) == "unavailable clock_behind"
    process.host.read(1, latest(b"a"), 3)
    assert only(process.settle(START_MS)).versions[0].commit_ts == first.commit_ts
    process.host.propose(1, put(b"a"), 4)
    assert only(process.settle(START_MS + 5_000)).commit_ts > first.commit_ts


def test_a_restart_with_its_clock_set_back_refuses_until_time_has_caught_up(
    process: Process,
) -> None:
    process.host.propose(1, put(b"a"), 1)
    first = only(process.settle(START_MS + 5_000))
    again = Process(process.log.after_crash(), process.engine.after_crash())
    again.settle(START_MS)
    again.host.read(1, latest(b"a"), 2)
    assert failed(again.settle(START_MS)) == "unavailable clock_behind"
    again.host.propose(1, put(b"a"), 3)
    assert failed(again.settle(START_MS)) == "unavailable clock_behind"
    again.host.propose(1, put(b"a"), 4)
    later = only(again.settle(START_MS + 5_001))
    assert hlc_ms(later.commit_ts) >= hlc_ms(first.commit_ts) + CEILING_AHEAD_MS


def test_errors_of_a_read_are_its_answer(process: Process) -> None:
    process.host.read(1, latest(b"z"), 1)
    assert failed(process.settle(START_MS)) == "unavailable ownership_unknown"
    process.host.read(2, ListCatalog(), 2)
    assert failed(process.settle(START_MS)) == "unavailable catalog_absent"


def test_splits_show_in_the_catalog_once_applied(process: Process) -> None:
    process.host.propose(1, SplitRange(1, 2, b"k", b"request"), 1)
    only(process.settle(START_MS))
    assert process.host.catalog_routes().version == 2
    process.host.read(1, ListCatalog(), 2)
    listing = only(process.settle(START_MS))
    assert isinstance(listing, CatalogListing)
    assert listing.routes == process.host.catalog_routes().routes


def test_a_host_without_the_catalog_group_has_no_routes() -> None:
    replica = Replica(2, LosingEngine(), is_catalog=False)
    host = Host({2: Group(Scripted(), replica, bootstrap_of(2))})
    assert host.catalog_routes() is None


def test_first_records_that_break_a_rule_do_not_start() -> None:
    replica = Replica(2, LosingEngine(), is_catalog=False)
    twice = Bootstrap((OwnedSpan(SPANS[2], 2), OwnedSpan(Span(b"i", None), 3)))
    for bootstrap, code in (
        (twice, "span_overlap"),
        (Bootstrap((), SEEDS), "seed_routes_misplaced"),
    ):
        with pytest.raises(InvalidInput) as caught:
            Host({2: Group(Scripted(), replica, bootstrap)})
        assert caught.value.code == code


def test_one_turn_at_a_time_is_our_own_rule(process: Process) -> None:
    process.host.begin(START_MS)
    with pytest.raises(AssertionError, match="one turn at a time"):
        process.host.begin(START_MS)


@dataclass
class Scripted:
    """A voter among several: leads, commits and confirms when the test says so."""

    term: int = 1
    leads: bool = True
    log: list[LogEntry] = field(default_factory=list)
    contexts: list[int] = field(default_factory=list)
    todo: list[Ready] = field(default_factory=list)

    @property
    def soft_state(self) -> SoftState:
        return SoftState(Role.LEADER if self.leads else Role.FOLLOWER, 1 if self.leads else 2)

    @property
    def hard_state(self) -> HardState:
        return HardState(self.term, 0, 0)

    @property
    def leading_term(self) -> int:
        return self.term if self.leads else 0

    @property
    def last_index(self) -> int:
        return len(self.log)

    @property
    def configuration(self) -> Configuration:
        return Configuration(frozenset({1, 2, 3}))

    @property
    def compacted(self) -> int:
        return 0

    @property
    def needs_sync(self) -> bool:
        return False

    def trim(self, entries_max: int, bytes_max: int) -> None:
        pass

    def tick(self) -> None:
        pass

    def propose(self, data: bytes) -> int:
        self.log.append(LogEntry(len(self.log) + 1, self.term, data))
        return len(self.log)

    def read_index(self, context: int) -> None:
        self.contexts.append(context)

    def has_ready(self) -> bool:
        return bool(self.todo)

    def ready(self) -> Ready:
        return self.todo[0]

    def advance(self, ready: Ready) -> None:
        assert self.todo.pop(0) is ready

    def check_invariants(self) -> None:
        pass

    def commits(self, *entries: LogEntry) -> None:
        self.todo.append(Ready(committed=entries))

    def confirms(self, context: int, index: int) -> None:
        self.todo.append(Ready(read_states=(ReadState(context, index),)))


@dataclass
class OneOfMany:
    """A host of one group whose consensus follows a script."""

    def __post_init__(self) -> None:
        self.voter = Scripted()
        self.replica = Replica(2, LosingEngine(), is_catalog=False)
        self.host = Host({2: Group(self.voter, self.replica, bootstrap_of(2))})

    def turn(self, now_ms: int = START_MS):
        return self.host.finish(self.host.begin(now_ms), now_ms).replies

    def lead(self) -> None:
        """Apply the empty entry of the term and the Bootstrap."""
        self.voter.propose(b"")
        self.voter.commits(self.voter.log[-1])
        self.turn()
        self.turn()
        self.voter.commits(self.voter.log[-1])
        assert self.turn() == ()
        assert self.host.status(2).serving


@pytest.fixture
def many() -> OneOfMany:
    many = OneOfMany()
    many.lead()
    return many


def test_a_follower_refuses_what_is_queued(many: OneOfMany) -> None:
    many.voter.leads = False
    many.host.propose(2, put(b"i"), 1)
    many.host.read(2, latest(b"i"), 2)
    assert many.host.has_work()
    codes = [(reply.token, reply.result.code) for reply in many.turn()]
    assert codes == [(1, "not_leader"), (2, "not_leader")]
    assert not many.host.status(2).serving
    assert many.host.status(2).leader_node == 2


def test_what_was_proposed_before_leadership_was_lost_is_of_unknown_outcome(
    many: OneOfMany,
) -> None:
    many.host.propose(2, put(b"i"), 1)
    many.host.read(2, latest(b"i"), 2)
    assert many.turn() == ()
    many.voter.leads = False
    replies = {reply.token: reply.result for reply in many.turn()}
    assert isinstance(replies[1], OutcomeUnknown)
    assert replies[1].code == "leadership_lost"
    assert isinstance(replies[2], Unavailable)
    many.voter.commits(many.voter.log[-1])
    assert many.turn() == ()
    many.host.check_invariants()


def test_a_new_term_of_the_same_leader_starts_anew(many: OneOfMany) -> None:
    many.host.propose(2, put(b"i"), 1)
    many.turn()
    many.voter.term = 3
    assert [reply.result.code for reply in many.turn()] == ["leadership_lost"]
    many.host.propose(2, put(b"i"), 2)
    assert many.turn() == ()
    assert not many.host.status(2).serving
    assert not many.host.has_work(), "it waits for its own entry without spinning"
    kept = many.voter.log[-1]
    empty = LogEntry(many.voter.propose(b""), 3, b"")
    many.voter.commits(kept, empty)
    many.turn()
    assert many.host.status(2).serving
    many.turn(START_MS + 1)
    stamped = decode_entry(many.voter.log[-1].data).commands[0]
    assert stamped.commit_ts > many.replica.ceiling, "above all that was issued or served"
    many.voter.commits(many.voter.log[-1])
    assert only(many.turn()).commit_ts == stamped.commit_ts


def test_an_entry_that_another_leaders_entry_replaced_is_of_unknown_outcome(
    many: OneOfMany,
) -> None:
    many.host.propose(2, put(b"i"), 1)
    many.turn()
    other = LogEntry(many.voter.log[-1].index, 2, b"")
    many.voter.commits(other)
    assert [reply.result.code for reply in many.turn()] == ["leadership_lost"]


def test_a_read_waits_for_its_confirmation_and_for_earlier_proposals(many: OneOfMany) -> None:
    many.host.propose(2, put(b"i"), 1)
    many.host.read(2, latest(b"i"), 2)
    many.turn()
    (context,) = many.voter.contexts
    many.voter.confirms(context, 1)
    assert many.turn() == ()
    many.voter.commits(many.voter.log[-1])
    written, got = (reply.result for reply in many.turn())
    assert got.versions[0].commit_ts == written.commit_ts
    many.host.read(2, latest(b"i"), 3)
    many.turn()
    many.host.propose(2, put(b"i"), 4)
    many.turn()
    many.voter.confirms(many.voter.contexts[-1], many.replica.applied_index)
    (reply,) = many.turn()
    assert (reply.token, reply.result.versions) == (3, got.versions)


def test_reads_of_a_turn_share_one_confirmation(many: OneOfMany) -> None:
    for token in range(5):
        many.host.read(2, latest(b"i"), token)
    many.turn()
    assert len(many.voter.contexts) == 1
    many.voter.confirms(many.voter.contexts[0], many.voter.last_index)
    if many.replica.applied_index < many.voter.last_index:
        many.voter.commits(many.voter.log[-1])
    assert [reply.token for reply in many.turn()] == list(range(5))


def test_a_commit_index_alone_is_written_with_the_next_entries() -> None:
    process = Process(MemoryLog(), LosingEngine())
    process.settle(START_MS)
    commits = [process.log.kept[group].hard_state.commit for group in GROUPS]
    assert commits == [1, 1, 1]
    assert [process.host.status(group).commit_index for group in GROUPS] == [2, 2, 2]
    process.host.propose(1, put(b"a"), 1)
    process.settle(START_MS)
    assert process.log.kept[1].hard_state.commit == 2
