"""The failing store fails as its table says, and the scheduler does what the seed says."""

from __future__ import annotations

import random
import uuid
from datetime import timedelta

import pytest

from workbench.errors import Internal, NotFound, OutcomeUnknown, Storage, Unavailable
from workbench.sim.faults import CALLS_OF, CALM, KINDS, FaultProfile, FaultSource
from workbench.sim.object_store import Crash, FaultyObjectStore, SimStore
from workbench.sim.ports import SimClock, SimRng
from workbench.sim.scheduler import START, Scheduler, Timeline
from workbench.stores.local import LocalStore
from workbench.stores.memory import MemoryStore

SILENT = {"own_412", "duplicated", "truncated", "garbage", "stale", "slow", "paused"}


def failing(kind, inner=None, *, stale_seconds=0.0):
    """Return a store every call of which has this fault, what is inside, and the time."""
    time = Timeline(1)
    inner = SimStore(time) if inner is None else inner
    faults = FaultSource(FaultProfile({kind: 1.0}, stale_seconds=stale_seconds), random.Random(1))
    return FaultyObjectStore(inner, faults, time), inner, time, faults


@pytest.mark.parametrize(
    ("kind", "error", "lands"),
    [
        ("timeout_before", OutcomeUnknown, False),
        ("timeout_after", OutcomeUnknown, True),
        ("conflict_409", Unavailable, False),
        ("unavailable", Unavailable, False),
        ("unavailable_after", Unavailable, True),
        ("outage", Unavailable, False),
        ("failed_before", Storage, False),
        ("failed_after", Storage, True),
        ("full", Storage, False),
        ("crash_before", Crash, False),
        ("crash_after", Crash, True),
    ],
)
@pytest.mark.parametrize("around", ["sim", "memory", "local"])
def test_a_put_fails_and_lands_as_the_table_says(kind, error, lands, around, tmp_path):
    inner = {"sim": None, "memory": MemoryStore(), "local": LocalStore(tmp_path, create=True)}
    store, inside, _, faults = failing(kind, inner[around])
    with pytest.raises(error):
        store.put_if_absent("a", b"1")
    assert (inside.list_after("") == ["a"]) == lands
    assert faults.counts[kind] == 1


def test_every_kind_is_tried_here():
    tried = {"delayed", "outage", *SILENT}
    tried |= {kind for kind in KINDS if kind.endswith(("_before", "_after"))}
    assert tried | {"conflict_409", "unavailable", "full"} == set(KINDS)
    assert all(calls for calls in CALLS_OF.values())


def test_a_delayed_put_lands_later_and_never_over_another():
    store, inside, time, faults = failing("delayed")
    with pytest.raises(OutcomeUnknown):
        store.put_if_absent("a", b"late")
    with pytest.raises(OutcomeUnknown):
        store.put_if_absent("b", b"late")
    faults.profile = CALM
    assert store.put_if_absent("a", b"early")
    assert inside.list_after("") == ["a"]
    time.wait(3_600.0)
    assert (inside.get("a"), inside.get("b")) == (b"early", b"late")


def test_a_delayed_delete_and_replace_land_later():
    store, inside, time, _ = failing("delayed")
    inside.put_if_absent("a", b"1")
    inside.replace("hint", b"new")
    for call in (lambda: store.delete("a"), lambda: store.replace("hint", b"old")):
        with pytest.raises(OutcomeUnknown):
            call()
    assert inside.get("hint") == b"new"
    time.wait(3_600.0)
    assert inside.list_after("") == ["hint"]
    assert inside.get("hint") == b"old"


def test_a_clients_own_retry_looks_like_a_lost_race():
    store, inside, _, _ = failing("own_412")
    assert store.put_if_absent("a", b"1") is False
    assert inside.get("a") == b"1"


def test_a_duplicated_put_comes_again_after_a_delete():
    store, inside, time, faults = failing("duplicated")
    assert store.put_if_absent("a", b"1")
    faults.profile = CALM
    store.delete("a")
    time.wait(3_600.0)
    assert inside.list_after("") == ["a"]


def test_reads_come_short_or_with_one_flipped_bit():
    for kind in ("truncated", "garbage"):
        store, inside, _, _ = failing(kind)
        inside.put_if_absent("a", bytes(range(100)))
        for found in (store.get("a"), *store.get_many(["a", "a"]), store.get_range("a", 0, 50)):
            assert bytes(range(100))[: len(found)] != found or len(found) < 100
            bits = sum((x ^ y).bit_count() for x, y in zip(found, range(100), strict=False))
            assert bits == (kind == "garbage")


def test_a_read_that_times_out_is_unavailable_and_an_absent_object_is_not_found():
    store, _, _, faults = failing("timeout_before")
    with pytest.raises(Unavailable):
        store.get("a")
    faults.profile = CALM
    with pytest.raises(NotFound):
        store.get("a")


def test_a_stale_listing_lacks_what_is_new_and_has_what_is_gone():
    store, inside, time, _ = failing("stale", stale_seconds=60.0)
    for key in ("x/old", "x/gone", "y/old"):
        inside.put_if_absent(key, b"1")
    time.wait(100.0)
    inside.put_if_absent("x/new", b"1")
    inside.delete("x/gone")
    assert store.list_after("x/") == ["x/gone", "x/old"]
    assert store.list_after("x/", "x/gone") == ["x/old"]
    assert [entry.key for entry in store.list_entries("")] == ["x/old", "y/old"]
    time.wait(100.0)
    assert store.list_after("x/") == ["x/new", "x/old"]


def test_slow_and_paused_calls_take_virtual_time_only():
    for kind in ("slow", "paused"):
        store, _, time, _ = failing(kind)
        for number in range(20):
            store.put_if_absent(f"k{number}", b"")
        assert time.now_us > 1_000_000


def test_an_outage_lasts_and_ends():
    store, _, time, faults = failing("outage")
    with pytest.raises(Unavailable):
        store.get("a")
    faults.profile = FaultProfile({"slow": 0.0})
    time.wait(0.0)
    with pytest.raises(Unavailable):
        store.get("a")
    time.wait(120.0)
    with pytest.raises(NotFound):
        store.get("a")


def test_who_has_crashed_reaches_the_store_no_more():
    store, _, _, faults = failing("crash_before")
    with pytest.raises(Crash):
        store.get("a")
    faults.profile = CALM
    with pytest.raises(Crash):
        store.get("a")


def test_a_profile_switches_kinds_on_and_off_by_its_seed():
    drawn = [FaultProfile.draw(random.Random(seed)) for seed in range(50)]
    assert drawn == [FaultProfile.draw(random.Random(seed)) for seed in range(50)]
    for kind in KINDS:
        on = sum(profile.rates.get(kind, 0) > 0 for profile in drawn)
        assert 5 < on < 45, kind
    assert all(sum(profile.rates.values()) < 2 for profile in drawn)


def test_the_simulated_store_keeps_the_contract_of_stores():
    time = Timeline(1)
    store = SimStore(time)
    time.wait(5.0)
    assert store.put_if_absent("a/b", b"1")
    assert not store.put_if_absent("a/b", b"2")
    store.replace("a/c", b"22")
    [one, two] = store.list_entries("a/")
    assert (one.key, one.size, one.modified) == ("a/b", 1, START + timedelta(seconds=5))
    assert (two.key, two.size) == ("a/c", 2)
    assert store.get_range("a/c", 1, 5) == b"2"
    store.delete("a/b")
    store.delete("a/b")
    assert store.list_after("") == ["a/c"]


# --- time and actors


def race(seed):
    """Return the order in which three actors take their steps."""
    scheduler, order = Scheduler(seed, steps_max=1_000), []

    def body(name):
        for step in range(5):
            order.append((name, step))
            scheduler.wait(0.0)

    for name in "abc":
        scheduler.spawn(name, lambda name=name: body(name))
    scheduler.run()
    return order


def test_the_seed_alone_decides_who_goes_on():
    assert race(1) == race(1)
    assert len({tuple(race(seed)) for seed in range(10)}) > 5
    assert sorted(race(3)) == [(name, step) for name in "abc" for step in range(5)]


def test_only_one_actor_runs_and_time_never_goes_back():
    scheduler, running, seen = Scheduler(5, steps_max=1_000), [], []

    def body():
        for seconds in (3.0, 0.5, 2.0):
            running.append(1)
            assert len(running) == 1
            seen.append(scheduler.now_us)
            running.pop()
            scheduler.wait(seconds)

    for name in "abcd":
        scheduler.spawn(name, body)
    scheduler.later(1.0, lambda: seen.append(scheduler.now_us))
    scheduler.run()
    assert seen == sorted(seen)
    assert len(seen) == 13
    assert scheduler.now_us == 5_500_000


def test_the_first_failure_ends_the_schedule_and_every_actor():
    scheduler, ended = Scheduler(1, steps_max=1_000), []

    def waits():
        try:
            scheduler.wait(1e6)
        finally:
            ended.append("waits")

    def fails():
        scheduler.wait(1.0)
        raise ValueError("planted")

    scheduler.spawn("a", waits)
    scheduler.spawn("b", fails)
    scheduler.spawn("c", lambda: None, after_seconds=100.0)
    with pytest.raises(ValueError, match="planted"):
        scheduler.run()
    assert ended == ["waits"]


def test_a_failing_late_effect_ends_the_schedule():
    scheduler = Scheduler(1, steps_max=1_000)

    def action():
        raise ValueError("planted")

    scheduler.later(1.0, action)
    scheduler.spawn("a", lambda: scheduler.wait(5.0))
    with pytest.raises(ValueError, match="planted"):
        scheduler.run()


def test_what_never_ends_is_a_failure():
    scheduler = Scheduler(1, steps_max=50)

    def body():
        while True:
            scheduler.wait(1.0)

    scheduler.spawn("a", body)
    with pytest.raises(Internal, match="no end"):
        scheduler.run()


def test_clocks_jump_by_a_few_seconds_and_sleeping_takes_virtual_time():
    time = Timeline(1)
    faults = FaultSource(FaultProfile(clock_jump_rate=1.0), random.Random(1))
    clock = SimClock(time, faults)
    offsets = [(clock.now() - time.now()).total_seconds() for _ in range(50)]
    assert min(offsets) < 0 < max(offsets)
    assert all(abs(offset) <= 5 for offset in offsets)
    clock.sleep(7.5)
    assert time.now_us == 7_500_000


def test_uuids_come_from_the_seed_and_are_told():
    told = []
    one, two = SimRng(random.Random(3), told.append), SimRng(random.Random(3))
    made = [one.uuid() for _ in range(3)]
    assert made == [two.uuid() for _ in range(3)] == told
    assert all(each.version == 4 and isinstance(each, uuid.UUID) for each in made)
    assert 0 <= one.uniform() < 1
