"""What nothing refers to goes, in two phases; nothing else does, whoever sleeps or dies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from unit.test_catalog_faults import Crash, FaultyStore, SeededRng, numbers

from workbench.catalog import gc
from workbench.catalog.catalog import Catalog, Registration, Write
from workbench.catalog.commit import WRITER_SECONDS_MAX, Transaction
from workbench.catalog.compact import compact
from workbench.catalog.gc import GRACE, KEEP, collect, survey
from workbench.catalog.layout import CKPT_PREFIX, LOG_PREFIX, data_key, log_key, seq_of
from workbench.catalog.record import WRITE_BYTES_MAX
from workbench.catalog.upkeep import remove
from workbench.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    Storage,
    Unavailable,
    WorkbenchError,
)
from workbench.model.manifest import ObjectRef, dataset_id_of
from workbench.stores.memory import MemoryStore

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class StillClock:
    """Stands until it is moved; all processes and the store look at the same one."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0


class World:
    """A store, a clock, and processes that use them."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.inner = MemoryStore(now=self.clock.now)
        self.store = FaultyStore(self.inner)
        self.seeds = 0
        self.catalog = Catalog.create(
            self.store, clock=self.clock, rng=SeededRng(99), writer="first"
        )

    def process(self, store=None, clock=None) -> Catalog:
        self.seeds += 1
        return Catalog.open(
            store or self.inner,
            clock=clock or self.clock,
            rng=SeededRng(self.seeds),
            writer=f"w{self.seeds}",
        )

    def wait(self, time: timedelta) -> None:
        self.clock.time += time

    def upload(self, number: int = 0, name: str = "a") -> str:
        """Leave an object that nothing refers to, as a writer that died does."""
        key = data_key(dataset_id_of(name), SeededRng(7000 + number).uuid(), 0)
        self.inner.put_if_absent(key, b"left behind")
        return key

    def gc(self, catalog=None, **options):
        with (catalog or self.process()).keeping() as keeper:
            return collect(keeper, **options)

    def look(self, **options):
        with self.process().keeping() as keeper:
            return survey(keeper, **options)

    def objects(self, prefix="data/"):
        return self.inner.list_after(prefix)

    def check(self) -> None:
        """All that can be read is there, and sound."""
        catalog = self.process()
        assert catalog.verify() == []
        for seq in range(self.look().floor, catalog.seq + 1):
            for manifest in catalog.at(seq).list():
                for ref in manifest.objects:
                    assert self.inner.size_of(ref.key) == ref.size, f"lost {ref.key} at {seq}"


@pytest.fixture
def world():
    return World()


def put(catalog, *values, name="a", mode="replace"):
    catalog.commit([Write(name, numbers(*values), mode)])


# --- two phases


def test_an_upload_left_behind_waits_is_condemned_waits_and_is_deleted(world):
    put(world.catalog, 1)
    key = world.upload()
    found = world.gc()
    assert [each.key for each in found.young] == [key]
    assert found.empty

    world.wait(GRACE)
    found = world.gc()
    assert [each.key for each in found.condemn] == [key]
    assert key in world.objects()

    world.wait(GRACE - timedelta(seconds=1))
    found = world.gc()
    assert [(each.key, each.size) for each in found.waiting] == [(key, 11)]
    assert key in world.objects()

    world.wait(timedelta(seconds=1))
    found = world.gc()
    assert [each.key for each in found.sweep] == [key]
    assert key not in world.objects()
    assert world.gc().empty
    assert world.look().sweep == ()
    assert world.process().read("a")["n"].to_pylist() == [1]
    world.check()


def test_a_look_says_all_of_it_and_changes_nothing(world):
    put(world.catalog, 1)
    keys = [world.upload(n) for n in range(2)]
    world.wait(GRACE)
    young = world.upload(9)
    before = {key: world.inner.get(key) for key in world.objects("")}
    found = world.look()
    assert [each.key for each in found.condemn] == sorted(keys)
    assert [each.key for each in found.young] == [young]
    assert len(found.live) == 1
    assert {key: world.inner.get(key) for key in world.objects("")} == before


def test_what_an_older_state_refers_to_is_kept_for_time_travel(world):
    put(world.catalog, 1)
    world.wait(10 * DAY)
    put(world.catalog, 2)
    world.wait(40 * DAY)
    for _ in range(3):
        world.gc()
        world.wait(2 * GRACE)
    assert world.process().at(1).read("a")["n"].to_pylist() == [1]
    assert len(world.look().held) == 1
    world.check()


def test_after_the_time_kept_the_floor_rises_and_the_old_objects_go(world):
    put(world.catalog, 1)
    put(world.catalog, 2)
    world.wait(KEEP + DAY)
    assert world.look().new_floor == 2
    world.gc()
    catalog = world.process()
    with pytest.raises(NotFound) as caught:
        catalog.at(1)
    assert caught.value.code == "history_trimmed"
    assert catalog.at(2).read("a")["n"].to_pylist() == [2]
    assert len(world.objects()) == 2, "readers of the older state have the grace"
    assert log_key(1) in world.objects(LOG_PREFIX)
    world.wait(GRACE)
    found = world.gc()
    assert len(world.objects()) == 1
    assert [seq_of(key) for key in found.trim] == [1]
    assert seq_of(world.objects(LOG_PREFIX)[0]) == 2
    world.check()
    put(world.catalog, 3)
    assert world.process().read("a")["n"].to_pylist() == [3]


def test_the_log_alone_is_trimmed_only_where_there_is_much_of_it(world):
    for value in range(70):
        put(world.catalog, value, mode="append")
    world.wait(KEEP + DAY)
    assert world.look().new_floor == 70
    world.gc()
    world.wait(GRACE)
    world.gc()
    assert [seq_of(key) for key in world.objects(LOG_PREFIX)] == [70, 71]
    assert sorted(world.process().read("a")["n"].to_pylist()) == list(range(70))
    assert world.objects(CKPT_PREFIX)[0].endswith("70.parquet")
    world.wait(DAY)
    assert world.gc().empty
    world.check()


def test_removed_and_compacted_objects_go_once_nobody_can_ask_for_them(world):
    for value in range(5):
        put(world.catalog, value, mode="append")
    put(world.catalog, 1, name="b")
    with world.catalog.keeping() as keeper:
        compact(keeper, "a")
        remove(keeper, ["b"])
    world.wait(2 * GRACE)
    world.gc()
    assert len(world.objects()) == 7, "as of an hour ago they are still there"
    world.wait(KEEP)
    world.gc()
    world.wait(GRACE)
    world.gc()
    assert world.objects() == [ref.key for ref in world.process().get("a").objects]
    world.check()


def test_many_objects_take_several_records_none_of_them_too_large(world, monkeypatch):
    keys = [world.upload(n) for n in range(10)]
    monkeypatch.setattr(gc, "RECORD_OBJECTS", 4)
    world.wait(GRACE)
    world.gc()
    assert world.process().seq == 3
    world.wait(GRACE)
    world.gc()
    assert world.process().seq == 6
    assert not set(keys) & set(world.objects())
    monkeypatch.undo()
    for n in range(gc.RECORD_OBJECTS):
        world.upload(n + 100)
    world.wait(GRACE)
    world.gc()
    assert world.process().seq == 7
    assert len(world.inner.get(log_key(7))) < WRITE_BYTES_MAX / 2


def test_objects_of_others_stay_and_are_counted(world):
    others = ["data/mine.parquet", f"data/{dataset_id_of('a')}/part.parquet"]
    for key in others:
        world.inner.put_if_absent(key, b"x")
    world.wait(100 * DAY)
    found = world.gc()
    assert [each.key for each in found.foreign] == sorted(others)
    world.wait(GRACE)
    world.gc()
    assert world.objects() == sorted(others)


def test_registered_objects_of_others_stay_where_they_are(world):
    world.inner.put_if_absent("elsewhere/b.parquet", b"x")
    world.catalog.register([Registration("b", "f", (ObjectRef("elsewhere/b.parquet", 1),))])
    with world.catalog.keeping() as keeper:
        remove(keeper, ["b"])
    world.wait(2 * KEEP)
    world.gc()
    world.wait(GRACE)
    world.gc()
    assert world.objects("elsewhere/") == ["elsewhere/b.parquet"]


# --- sleeping writers


class Interrupted:
    """Runs `action` once before a put of `part`."""

    def __init__(self, part, action) -> None:
        self.part, self.action, self.done = part, action, False

    def __call__(self, operation, key):
        if operation == "put" and self.part in key and not self.done:
            self.done = True
            self.action()


def test_a_writer_whose_upload_was_condemned_while_it_slept_is_refused(world):
    def sleep():
        world.wait(GRACE)
        world.gc()

    put(world.catalog, 1)
    world.store.fault = Interrupted("/log/", sleep)
    with pytest.raises(Conflict) as caught:
        put(world.catalog, 2)
    assert caught.value.code == "object_condemned"
    assert world.process().read("a")["n"].to_pylist() == [1]
    put(world.catalog, 3)
    world.check()


def test_also_where_it_is_swept_by_the_time_it_wakes(world):
    def sleep():
        for _ in range(3):
            world.wait(GRACE)
            world.gc()

    put(world.catalog, 1)
    world.store.fault = Interrupted("/log/", sleep)
    with pytest.raises(Conflict) as caught:
        put(world.catalog, 2)
    assert caught.value.code == "object_condemned"
    assert len(world.objects()) == 1
    world.check()


def test_planted_writer_that_forgets_what_was_condemned_commits_what_is_not_there(
    world, monkeypatch
):
    def sleep():
        for _ in range(3):
            world.wait(GRACE)
            world.gc()

    put(world.catalog, 1)
    monkeypatch.setattr(Transaction, "_check_condemned", lambda *_: None)
    monkeypatch.setattr(Transaction, "_check_age", lambda *_: None)
    world.store.fault = Interrupted("/log/", sleep)
    put(world.catalog, 2)
    with pytest.raises(AssertionError):
        world.check()


def test_also_where_the_log_that_said_so_is_trimmed(world):
    def sleep():
        other = world.process()
        for value in range(66):
            put(other, value, name="b")
        for _ in range(4):
            world.wait(KEEP + GRACE)
            world.gc()
        assert seq_of(world.objects(LOG_PREFIX)[0]) > 2

    put(world.catalog, 1)
    world.store.fault = Interrupted("/log/", sleep)
    with pytest.raises((Conflict, Unavailable)) as caught:
        put(world.catalog, 2)
    assert caught.value.code in {"writer_too_old", "object_condemned"}
    assert world.process().read("a")["n"].to_pylist() == [1]
    world.check()


def test_a_writer_that_slept_too_long_gives_up_before_it_commits(world):
    put(world.catalog, 1)
    slept = timedelta(seconds=WRITER_SECONDS_MAX + 1)
    world.store.fault = Interrupted("data/", lambda: world.wait(slept))
    with pytest.raises(Unavailable) as caught:
        put(world.catalog, 2)
    assert caught.value.code == "writer_too_old"
    assert caught.value.retryable
    assert len(world.objects()) == 1
    put(world.catalog, 3)


def test_a_writer_that_was_only_slow_commits(world):
    put(world.catalog, 1)
    world.store.fault = Interrupted("data/", lambda: world.wait(HOUR))
    put(world.catalog, 2)
    assert world.process().read("a")["n"].to_pylist() == [2]


def test_an_upload_that_is_committed_while_the_collector_looks_is_spared(world):
    key = world.upload()
    world.wait(GRACE)
    slow = FaultyStore(world.inner)
    collector = world.process(slow)

    def register_and_remove():
        ref = ObjectRef(key, 11)
        writer = world.process()
        writer.register([Registration("late", "f", (ref,))])
        with writer.keeping() as keeper:
            remove(keeper, ["late"])

    slow.fault = Interrupted("/log/", register_and_remove)
    world.gc(collector)
    assert world.process().at(1).get("late").objects == (ObjectRef(key, 11),)
    assert world.look().condemn == ()
    world.wait(3 * GRACE)
    world.gc()
    assert key in world.objects(), "a state within the time kept refers to it"


def test_a_collector_that_sleeps_spares_what_was_committed_meanwhile(world):
    key = world.upload()
    world.wait(GRACE)
    slow = FaultyStore(world.inner)
    collector = world.process(slow)

    def sleep():
        world.process().register([Registration("late", "f", (ObjectRef(key, 11),))])
        world.wait(30 * DAY)

    slow.fault = Interrupted("/log/", sleep)
    world.gc(collector)
    world.wait(GRACE)
    world.gc()
    assert key in world.objects()


# --- several collectors, and faults


def test_two_collectors_at_once_do_it_once(world):
    keys = [world.upload(n) for n in range(3)]
    world.wait(GRACE)
    slow = FaultyStore(world.inner)
    collector = world.process(slow)
    slow.fault = Interrupted("/log/", world.gc)
    world.gc(collector)
    assert world.process().seq == 1
    world.wait(GRACE)
    slow.fault = Interrupted("/log/", world.gc)
    world.gc(collector)
    assert world.process().seq == 2
    assert not set(keys) & set(world.objects())
    world.check()


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        ("crash", 4),
        ("crash_after", 5),
        ("lost", 7),
        ("landed", 7),
        ("unavailable", 7),
        pytest.param("crash", 1, marks=pytest.mark.slow),
        pytest.param("crash_after", 1, marks=pytest.mark.slow),
    ],
)
def test_stopped_at_any_store_call_the_next_run_goes_on(fault, step):
    for number in range(step - 1, 200, step):
        world = World()
        for value in range(3):
            put(world.catalog, value, mode="append")
        with world.catalog.keeping() as keeper:
            compact(keeper, "a")
        world.wait(KEEP + DAY)
        put(world.catalog, 7, name="b")
        stopped = 0
        for turn in range(3):
            world.upload(turn)
            world.wait(GRACE)
            flaky = FaultyStore(world.inner)
            collector = world.process(flaky)
            calls = []

            def stop(operation, key, calls=calls, number=number):
                calls.append(operation)
                return fault if len(calls) == number + 1 else None

            flaky.fault = stop
            try:
                world.gc(collector)
            except (Crash, WorkbenchError):
                stopped += 1
        world.check()
        for _ in range(3):
            world.wait(GRACE)
            world.gc()
        world.check()
        live = {ref.key for m in world.process().list() for ref in m.objects}
        assert set(world.objects()) == live
        if not stopped and len(calls) <= number:
            return
    pytest.fail("it never ran through")


def test_a_clock_that_is_not_the_stores_is_refused_before_anything_is_decided(world):
    world.upload()
    for wrong in (timedelta(hours=2), -timedelta(hours=2)):
        clock = StillClock()
        clock.time = world.clock.time + wrong
        with pytest.raises(Storage) as caught:
            world.gc(world.process(clock=clock))
        assert caught.value.code == "clock_skewed"
    assert world.process().seq == 0


def test_a_grace_that_writers_may_outlast_is_refused(world):
    with pytest.raises(InvalidArgument) as caught:
        world.look(grace=timedelta(seconds=2 * WRITER_SECONDS_MAX - 1))
    assert caught.value.code == "grace_too_short"
    assert timedelta(seconds=2 * WRITER_SECONDS_MAX) <= GRACE


def test_a_catalog_that_others_collected_long_ago_is_read_anew(world):
    """A process that slept through it all has a state below the floor."""
    sleeper = world.process()
    for value in range(70):
        put(world.catalog, value, mode="append")
    for _ in range(3):
        world.wait(KEEP + GRACE)
        world.gc()
    assert seq_of(world.objects(LOG_PREFIX)[0]) == 70
    sleeper.refresh()
    assert sleeper.get("a").row_count == 70
    put(sleeper, 99, mode="append")
    assert world.process().get("a").row_count == 71
    world.check()
