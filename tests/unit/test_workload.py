"""The workload counts what was acknowledged, and its check finds every write that was lost."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from workbench.errors import InvalidInput, OutcomeUnknown, Unavailable, WorkbenchError
from workbench.model.keys import Span
from workbench.model.node import GotMany, StoredVersion, Written
from workbench.model.routes import RouteDescriptor
from workbench.model.tables import ACCESS
from workbench.session import workload
from workbench.session.workload import BATCH_KEYS_MAX, Workload

ROUTES = (
    RouteDescriptor(1, Span(b"", b"m"), 1),
    RouteDescriptor(2, Span(b"m", None), 2),
)


class Store:
    """A key-value store in memory, as a client shows it: versions by commit_ts."""

    def __init__(self) -> None:
        self.versions: dict[bytes, list[StoredVersion]] = {}
        self.clock = 0
        self.repeats = 7  # of calls before
        self.lock = threading.Lock()

    def write(self, mutations, *, timeout_s=None):
        assert timeout_s == workload.BATCH_DEADLINE_S
        with self.lock:
            assert len(mutations) <= BATCH_KEYS_MAX
            assert len({each.key < b"m" for each in mutations}) == 1, "of one group"
            self.clock += 1
            answer = Written(self.clock, self.clock)
            self.apply([(each.key, each.value) for each in mutations], answer)
            return answer

    def apply(self, mutations, answer):
        for key, value in dict(mutations).items():
            self.versions.setdefault(key, []).append(StoredVersion(value, answer.commit_ts))

    def multi_get(self, keys, *, read_ts=0, timeout_s=None):
        assert timeout_s == workload.BATCH_DEADLINE_S
        with self.lock:
            at = read_ts or self.clock
            return GotMany(at, at, tuple(self.visible(key, at) for key in keys))

    def hurry(self, left_s):
        pass

    def visible(self, key, at):
        seen = [each for each in self.versions.get(key, []) if each.commit_ts <= at]
        return seen[-1] if seen else None


def accesses(count: int = 600, keys: int = 40) -> pa.Table:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    names = [f"{'az'[i % 2]}{i // 300}{i * 7 % keys:03d}".encode() for i in range(count)]
    return pa.table(
        {
            "time": [start + timedelta(seconds=i) for i in range(count)],
            "key": names,
            "op": ["read" if i % 3 == 0 else "write" for i in range(count)],
            "size": [i % 500 for i in range(count)],
        },
        schema=ACCESS,
    )


def play(store: Store, table: pa.Table | None = None) -> Workload:
    work = Workload(accesses() if table is None else table, ROUTES, store, seconds=0.05)
    work.play()
    return work


def test_every_access_is_made_and_every_write_comes_back() -> None:
    work = play(Store())
    done = work.played()
    assert (done.accesses, done.writes, done.reads) == (600, 400, 200)
    assert (done.stale_reads, done.retries) == (0, 0)
    checked = work.check()
    assert (checked.writes, checked.lost, checked.examples) == (400, 0, ())


def test_values_are_unique_and_bounded() -> None:
    work = play(Store())
    values = [work.value_of(row) for row in range(600)]
    assert len(set(values)) == 600
    assert max(map(len, values)) == workload.VALUE_BYTES_MAX


class Forgets(Store):
    """Acknowledges one batch that it does not keep."""

    def apply(self, mutations, answer):
        if answer.commit_ts != 3:
            super().apply(mutations, answer)


class Tears(Store):
    """Keeps only a part of one batch."""

    def apply(self, mutations, answer):
        super().apply(mutations[:-1] if answer.commit_ts == 3 else mutations, answer)


class Overwrites(Store):
    """Keeps only the newest version: what was readable at a commit_ts is gone later."""

    def apply(self, mutations, answer):
        for key, value in mutations:
            self.versions[key] = [StoredVersion(value, answer.commit_ts)]


class Garbles(Store):
    """Keeps another value than the one that was written."""

    def apply(self, mutations, answer):
        super().apply([(key, value + b"!") for key, value in mutations], answer)


@pytest.mark.parametrize("broken", [Forgets, Tears, Overwrites, Garbles])
def test_a_store_that_loses_writes_is_found_out(broken: type[Store]) -> None:
    checked = play(broken()).check()
    assert checked.lost > 0
    assert "written at" in checked.examples[0]


class LosesLater(Store):
    """Loses the newest version of one key after the workload has ended."""


def test_a_newest_version_that_vanished_is_found_out() -> None:
    store = LosesLater()
    work = play(store)
    key = next(iter(store.versions))
    store.versions[key].pop()
    assert work.check().lost >= 1


class Repeats(Store):
    """Has to make some requests again."""

    def write(self, mutations, *, timeout_s=None):
        self.repeats += 2
        return super().write(mutations, timeout_s=timeout_s)


def test_what_the_client_made_again_since_the_start_is_told() -> None:
    store = Repeats()
    work = play(store)
    assert work.played().retries == 2 * store.clock
    assert work.check().lost == 0


class Forgetful(Store):
    """Keeps no history below a safe point."""

    def multi_get(self, keys, *, read_ts=0, timeout_s=None):
        if 0 < read_ts < 5:
            raise InvalidInput("too old", code="read_ts_below_safe_point")
        return super().multi_get(keys, read_ts=read_ts, timeout_s=timeout_s)


def test_writes_whose_own_time_cannot_be_read_any_more_are_not_counted_as_looked_for() -> None:
    work = play(Forgetful())
    checked = work.check()
    assert 0 < checked.writes < work.played().writes
    assert checked.lost == 0
    assert work.check() == checked


class ReadsOld(Store):
    """Answers reads of now with what was there in the beginning."""

    def visible(self, key, at):
        return self.versions.get(key, [None])[0]


def test_a_read_older_than_an_acknowledged_write_counts_as_stale() -> None:
    assert play(ReadsOld()).played().stale_reads > 0


class Dead(Store):
    """Nobody answers; a call ends once it is hurried."""

    def __init__(self, error: WorkbenchError) -> None:
        super().__init__()
        self.called = threading.Event()
        self.hurried = threading.Event()
        self.error = error

    def write(self, mutations, *, timeout_s=None):
        self.called.set()
        assert self.hurried.wait(10)
        raise self.error

    def hurry(self, left_s):
        assert left_s == workload.STOP_S
        self.hurried.set()


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("gone", code="leader_unreachable"),
        OutcomeUnknown("no answer", code="write_outcome_unknown"),
    ],
)
def test_a_cluster_that_never_answers_ends_the_workload(error: WorkbenchError) -> None:
    store = Dead(error)
    store.hurried.set()
    with pytest.raises(Unavailable) as caught:
        play(store)
    assert caught.value.code == "workload_stuck"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("key", [b"!dist|meta|version", b"k" * 5000])
def test_a_key_that_no_user_may_write_is_refused_before_the_start(key: bytes) -> None:
    table = accesses(2).set_column(1, ACCESS.field("key"), pa.array([b"a", key], pa.binary()))
    with pytest.raises(InvalidInput) as caught:
        Workload(table, ROUTES, Store(), seconds=1)
    assert caught.value.code == "workload_key_refused"


def test_a_key_without_a_route_is_refused_before_the_start() -> None:
    with pytest.raises(InvalidInput) as caught:
        Workload(accesses(), ROUTES[:1], Store(), seconds=1)
    assert caught.value.code == "workload_key_unrouted"


def test_waiting_ends_with_the_workload() -> None:
    work = Workload(accesses(), ROUTES, Store(), seconds=0.01)
    thread = threading.Thread(target=work.play)
    thread.start()
    thread.join()
    assert work.wait_for_half() is False


def test_the_first_half_is_repeated_until_somebody_says_go_on() -> None:
    store = Store()
    work = Workload(accesses(), ROUTES, store, seconds=0.1, hold_at_half=True)
    thread = threading.Thread(target=work.play)
    thread.start()
    assert work.wait_for_half()
    while work.played().accesses < 1_000:
        assert thread.is_alive()
    assert not any(key for key in store.versions if key in late_keys())
    work.go_on()
    thread.join()
    done = work.played()
    assert done.accesses >= 1_000 + 300
    assert late_keys() <= store.versions.keys()
    checked = work.check()
    assert (checked.lost, checked.writes) == (0, done.writes)
    values = [version.value for versions in store.versions.values() for version in versions]
    assert len(values) == len(set(values))


def late_keys() -> set[bytes]:
    """Return keys that only the second half writes."""
    table = accesses()
    rows = list(zip(table["key"].to_pylist(), table["op"].to_pylist(), strict=True))
    return {key for key, op in rows[300:] if op == "write"} - {key for key, _ in rows[:300]}


def test_a_workload_that_is_held_can_be_stopped() -> None:
    work = Workload(accesses(), ROUTES, Store(), seconds=0.1, hold_at_half=True)
    thread = threading.Thread(target=work.play)
    thread.start()
    assert work.wait_for_half()
    work.stop()
    thread.join()
    assert work.check().lost == 0


def test_a_workload_that_is_stopped_hurries_what_waits_for_an_answer() -> None:
    store = Dead(Unavailable("gone", code="leader_unreachable"))
    work = Workload(accesses(), ROUTES, store, seconds=0.05)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work.play()
        except Unavailable as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert store.called.wait(5)
    work.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert failed
