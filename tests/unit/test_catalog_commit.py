"""The commit loop against races and stores that fail: nothing lost, nothing twice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from unit.test_catalog_faults import (
    Crash,
    FaultyStore,
    ManualClock,
    always,
    create,
    numbers,
    once,
    reopen,
)

from workbench.catalog import commit, uploads
from workbench.catalog.catalog import Registration, Write
from workbench.catalog.layout import FORMAT_KEY, log_key
from workbench.catalog.record import decode_record
from workbench.errors import (
    Corruption,
    FingerprintConflict,
    NotFound,
    OutcomeUnknown,
    Storage,
    Unavailable,
)
from workbench.model.manifest import ObjectRef
from workbench.stores.memory import MemoryStore


@pytest.fixture
def inner():
    store = MemoryStore()
    create(store).commit([Write("a", numbers(1))])
    return store


def writer_on(inner, fault=lambda *_: None, *, seed=7, clock=None):
    store = FaultyStore(inner, fault)
    return reopen(store, seed=seed, clock=clock), store


def rows(inner, name="a"):
    catalog = reopen(inner)
    assert catalog.verify() == []
    return sorted(catalog.read(name)["n"].to_pylist())


def data_keys(inner):
    return inner.list_after("data/")


def interleave(store, *actions):
    """Run each action once, right before the next puts of a record."""
    left = list(actions)

    def before(operation, key):
        if operation == "put" and "/log/" in key and left:
            left.pop(0)()

    store.fault = before


# --- races


def test_loser_of_a_race_rebases_and_both_appends_are_kept(inner):
    one, store = writer_on(inner)
    other = reopen(inner, seed=8)
    interleave(store, lambda: other.commit([Write("a", numbers(3), "append")]))
    [answer] = one.commit([Write("a", numbers(2), "append")])
    assert rows(inner) == [1, 2, 3]
    assert answer.manifest.row_count == 3
    assert one.seq == 3
    assert one.get("a") == reopen(inner).get("a")


def test_loser_of_a_race_uploads_only_once(inner):
    one, store = writer_on(inner)
    other = reopen(inner, seed=8)
    interleave(store, *[lambda: other.commit([Write("a", numbers(3), "append")])] * 3)
    one.commit([Write("a", numbers(2), "append")])
    assert sum(call == "put" and key.startswith("data/") for call, key in store.calls) == 1
    assert rows(inner) == [1, 2, 3, 3, 3]


def test_loser_whose_data_the_winner_wrote_writes_nothing_and_removes_its_upload(inner):
    one, store = writer_on(inner)
    other = reopen(inner, seed=8)
    interleave(store, lambda: other.commit([Write("a", numbers(9))]))
    before = len(data_keys(inner))
    [answer] = one.commit([Write("a", numbers(9))])
    assert (answer.existing, answer.written) == (True, False)
    assert one.seq == 2
    assert len(data_keys(inner)) == before + 1
    assert rows(inner) == [9]


def test_dataset_that_held_before_the_race_but_not_after_it_is_uploaded_then(inner):
    one, store = writer_on(inner)
    other = reopen(inner, seed=8)
    interleave(store, lambda: other.commit([Write("a", numbers(5))]))
    a, b = one.commit([Write("a", numbers(1)), Write("b", numbers(2))])
    assert (a.written, b.written) == (True, True)
    assert rows(inner) == [1]
    assert rows(inner, "b") == [2]


def test_winner_of_another_fingerprint_makes_the_loser_conflict_and_leave_nothing(inner):
    one, store = writer_on(inner)
    other = reopen(inner, seed=8)
    interleave(store, lambda: other.register([Registration("b", "other", ())]))
    before = data_keys(inner)
    with pytest.raises(FingerprintConflict):
        one.commit([Write("b", numbers(1)), Write("c", numbers(1))])
    assert data_keys(inner) == before
    assert one.get("b").schema_fingerprint == "other", "the winner is served at once"
    with pytest.raises(NotFound):
        one.get("c")


def test_creation_lost_to_another_answers_existing_with_the_winners_created_at(inner):
    one, store = writer_on(inner)
    other = reopen(inner, seed=8)
    interleave(store, lambda: other.register([Registration("b", "f", (), 1)]))
    [answer] = one.register([Registration("b", "f", (), 2)])
    assert answer.existing
    assert answer.manifest.created_at == other.get("b").created_at
    assert answer.manifest.row_count == 2


def test_writer_that_always_loses_gives_up_as_busy_after_a_bounded_number_of_naps(
    inner, monkeypatch
):
    monkeypatch.setattr(commit, "ATTEMPTS_MAX", 10)
    clock = ManualClock()
    one, store = writer_on(inner, clock=clock)
    other = reopen(inner, seed=8)
    count = iter(range(1000))
    interleave(store, *[lambda: other.register([Registration("x", "f", (), next(count))])] * 100)
    before = data_keys(inner)
    with pytest.raises(Unavailable) as caught:
        one.commit([Write("a", numbers(2), "append")])
    assert caught.value.code == "catalog_busy"
    assert caught.value.retryable
    assert clock.naps == 9
    assert clock.slept <= 9 * commit.PAUSE_SECONDS_MAX
    assert data_keys(inner) == before
    assert rows(inner) == [1]


def test_pauses_grow_from_the_first_on_and_stay_below_the_limit():
    class Full:
        def uniform(self):
            return 1.0

    pauses = []
    for attempt in range(1, 65):
        clock = ManualClock()
        commit.pause(attempt, clock, Full())
        pauses.append(clock.slept)
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.004
    assert pauses[-1] == commit.PAUSE_SECONDS_MAX


def test_memory_is_swapped_only_after_the_record_is_in_the_store(inner):
    one, store = writer_on(inner)
    seen = []
    interleave(store, lambda: seen.append((one.seq, [m.name for m in one.list()])))
    one.register([Registration("b", "f", ())])
    assert seen == [(1, ["a"])]
    assert (one.seq, [m.name for m in one.list()]) == (2, ["a", "b"])


# --- outcomes that nobody knows


@pytest.mark.parametrize(
    "faults",
    [
        ["landed"],
        ["lost"],
        ["landed_storage"],
        ["landed_false"],
        ["unavailable"],
        ["lost", "lost", "landed"],
        ["lost", "landed_storage"],
        ["unavailable", "landed_false"],
        ["delayed", "lost"],
        ["delayed", "delayed"],
    ],
    ids="-".join,
)
def test_append_is_applied_exactly_once_whatever_the_store_says(inner, faults):
    one, store = writer_on(inner, once("put", "/log/", *faults))
    [answer] = one.commit([Write("a", numbers(2), "append")])
    store.land()
    assert answer.written
    assert rows(inner) == [1, 2]
    assert one.seq == 2
    assert one.refresh() == 2
    assert one.get("a") == answer.manifest == reopen(inner).get("a")


def test_unknown_outcome_that_another_then_won_is_rebased(inner):
    one, store = writer_on(inner)
    other = reopen(inner, seed=8)

    def fault(operation, key):
        if operation == "put" and "/log/" in key:
            store.fault = lambda *_: None
            other.commit([Write("a", numbers(3), "append")])
            return "lost"
        return None

    store.fault = fault
    one.commit([Write("a", numbers(2), "append")])
    assert rows(inner) == [1, 2, 3]


def test_own_record_is_recognised_below_records_that_others_put_on_top(inner):
    one, store = writer_on(inner)
    other = reopen(inner, seed=8)

    def fault(operation, key):
        if operation == "put" and "/log/" in key:
            store.fault = lambda *_: None
            store.before = lambda: None
            inner_put(store, key)
            other.commit([Write("a", numbers(3), "append")])
            return "lost"
        return None

    def inner_put(store, key):
        # What the failing call was about to put lands first.
        store.inner.put_if_absent(key, captured[0])

    captured = []
    original = store.put_if_absent

    def spy(key, data):
        captured[:] = [data]
        return original(key, data)

    store.put_if_absent = spy
    store.fault = fault
    [answer] = one.commit([Write("a", numbers(2), "append")])
    assert answer.manifest.row_count == 2, "the answer is that of our own record"
    assert rows(inner) == [1, 2, 3]
    assert one.seq == 3


def test_outcome_that_stays_unknown_is_said_and_the_upload_stays(inner, monkeypatch):
    monkeypatch.setattr(commit, "ATTEMPTS_MAX", 5)
    one, store = writer_on(inner, always("put", "/log/", "delayed"))
    before = data_keys(inner)
    with pytest.raises(OutcomeUnknown) as caught:
        one.commit([Write("a", numbers(2), "append")])
    assert caught.value.code == "commit_outcome_unknown"
    assert not caught.value.retryable
    assert len(data_keys(inner)) == len(before) + 1
    assert rows(inner) == [1]
    store.land()
    assert rows(inner) == [1, 2], "a late put completes; its data are there"


def test_landed_record_that_cannot_be_read_back_is_an_unknown_outcome(inner, monkeypatch):
    monkeypatch.setattr(commit, "ATTEMPTS_MAX", 4)
    state = {"landed": False}

    def fault(operation, key):
        if "/log/" not in key:
            return None
        if operation == "put":
            state["landed"] = True
            return "landed"
        return "failed" if state["landed"] else None

    one, _ = writer_on(inner, fault)
    with pytest.raises(OutcomeUnknown):
        one.commit([Write("a", numbers(2), "append")])
    assert rows(inner) == [1, 2]


@pytest.mark.parametrize("read_fault", ["truncated", "unavailable", "failed"])
def test_failing_read_back_is_tried_again(inner, read_fault):
    faults = {"put": ["landed"], "get": [None, read_fault, read_fault]}

    def fault(operation, key):
        left = faults.get(operation)
        return left.pop(0) if left and key == log_key(2) else None

    one, _ = writer_on(inner, fault)
    assert one.commit([Write("a", numbers(2), "append")])[0].written
    assert rows(inner) == [1, 2]


# --- stores that refuse


@pytest.mark.parametrize("part", ["/log/", "data/"])
def test_full_disk_leaves_the_catalog_as_it_was_and_nothing_half_written(inner, part):
    one, store = writer_on(inner, always("put", part, "full"))
    before = inner.list_after("")
    with pytest.raises(Storage) as caught:
        one.commit([Write("a", numbers(2)), Write("b", numbers(3))])
    assert caught.value.code == "store_full"
    assert inner.list_after("") == before
    assert rows(inner) == [1]
    assert [m.name for m in one.list()] == ["a"]
    store.fault = lambda *_: None
    one.commit([Write("a", numbers(2)), Write("b", numbers(3))])
    assert rows(inner) == [2]


def test_disk_that_fills_up_between_two_uploads_leaves_neither(inner):
    one, _ = writer_on(inner, once("put", "data/", None, "full"))
    before = inner.list_after("")
    with pytest.raises(Storage):
        one.commit([Write("b", numbers(2)), Write("c", numbers(3))])
    assert inner.list_after("") == before


def test_full_disk_after_an_unknown_outcome_is_still_unknown(inner):
    one, store = writer_on(inner, once("put", "/log/", "delayed", "full"))
    with pytest.raises(OutcomeUnknown):
        one.commit([Write("a", numbers(2), "append")])
    store.land()
    assert rows(inner) == [1, 2]


def test_failed_store_that_took_nothing_is_a_storage_error_and_keeps_the_upload(inner):
    one, store = writer_on(inner, once("put", "/log/", "failed"))
    before = len(data_keys(inner))
    with pytest.raises(Storage) as caught:
        one.commit([Write("a", numbers(2), "append")])
    assert caught.value.code == "planted"
    assert len(data_keys(inner)) == before + 1, "a failed put may still arrive"
    store.fault = lambda *_: None
    one.commit([Write("a", numbers(2), "append")])
    assert rows(inner) == [1, 2]


def test_upload_with_unknown_outcome_is_tried_again_and_found(inner):
    one, _ = writer_on(inner, once("put", "data/", "landed", "unavailable"))
    one.commit([Write("a", numbers(2), "append")])
    assert rows(inner) == [1, 2]


def test_upload_that_never_succeeds_commits_nothing(inner):
    one, store = writer_on(inner, always("put", "data/", "lost"))
    with pytest.raises(Unavailable) as caught:
        one.commit([Write("a", numbers(2), "append")])
    assert caught.value.code == "upload_failed"
    assert sum(call == "put" for call, _ in store.calls) == uploads.UPLOAD_ATTEMPTS_MAX
    assert reopen(inner).seq == 1


def test_unavailable_store_is_tried_again_before_the_commit(inner):
    one, store = writer_on(inner)
    store.fault = once("get", "/log/", "unavailable", "unavailable")
    assert one.register([Registration("b", "f", ())])[0].written


def test_store_that_stays_unavailable_is_unavailable(inner, monkeypatch):
    monkeypatch.setattr(commit, "ATTEMPTS_MAX", 3)
    one, store = writer_on(inner)
    store.fault = always("get", "/log/", "unavailable")
    with pytest.raises(Unavailable) as caught:
        one.register([Registration("b", "f", ())])
    assert caught.value.code == "planted"


# --- crashes


def test_crash_between_upload_and_record_leaves_the_catalog_as_it_was(inner):
    one, _ = writer_on(inner, always("put", "/log/", "crash"))
    manifests = reopen(inner).list()
    before = len(data_keys(inner))
    with pytest.raises(Crash):
        one.commit([Write("a", numbers(2)), Write("b", numbers(3))])
    again = reopen(inner)
    assert again.list() == manifests
    assert (again.seq, again.verify()) == (1, [])
    assert len(data_keys(inner)) == before + 2, "uploads that nothing refers to"


def test_crash_at_any_store_call_leaves_all_of_a_batch_or_none(inner):
    before = {key: inner.get(key) for key in inner.list_after("")}
    outcomes = set()
    for call_number in range(40):
        for fault_name in ("crash", "crash_after"):
            store = MemoryStore()
            for key, data in before.items():
                store.put_if_absent(key, data)
            count = iter(range(1000))
            one, faulty = writer_on(store)
            faulty.fault = lambda *_, c=count, n=call_number, f=fault_name: (
                f if next(c) == n else None
            )
            try:
                one.commit([Write("a", numbers(2), "append"), Write("b", numbers(3))])
            except Crash:
                crashed = True
            else:
                crashed = False
            catalog = reopen(store)
            assert catalog.verify() == []
            names = tuple(m.name for m in catalog.list())
            assert rows(store) == ([1, 2] if "b" in names else [1])
            outcomes.add((crashed, names))
    assert outcomes == {(True, ("a",)), (True, ("a", "b")), (False, ("a", "b"))}


# --- creating


@pytest.mark.parametrize("fault", ["landed", "lost"])
def test_create_whose_answer_was_lost_succeeds_once(fault):
    store = FaultyStore(MemoryStore(), once("put", "FORMAT", fault))
    catalog = create(store)
    assert reopen(store).uuid == catalog.uuid


def test_only_one_of_two_creators_wins():
    store = MemoryStore()
    faulty = FaultyStore(store)

    def other_first(operation, key):
        if operation == "put" and key == FORMAT_KEY:
            faulty.fault = lambda *_: None
            create(store, seed=3)

    faulty.fault = other_first
    with pytest.raises(Exception, match="there is a catalog"):
        create(faulty, seed=4)


def test_create_beside_orphaned_records_is_corruption(inner):
    inner.delete(FORMAT_KEY)
    for call in (create, reopen):
        with pytest.raises(Corruption) as caught:
            call(inner)
        assert caught.value.code == "format_corrupt"
        assert FORMAT_KEY in caught.value.message


# --- how many requests


def test_commit_costs_one_probe_one_upload_one_put_and_a_look_at_the_checkpoints(inner):
    one, store = writer_on(inner)
    store.calls.clear()
    one.commit([Write("a", numbers(2), "append")])
    assert [call for call, _ in store.calls] == ["get", "put", "put", "list"]
    store.calls.clear()
    one.register([Registration(f"d/{n}", "f", (ObjectRef("k", 1),)) for n in range(100)])
    assert [call for call, _ in store.calls] == ["get", "put", "list"]


def test_opening_without_a_checkpoint_costs_three_requests_and_the_records(inner):
    one = reopen(inner)
    for n in range(5):
        one.commit([Write("a", numbers(n), "append")])
    _, store = writer_on(inner)
    assert [call for call, _ in store.calls] == ["get", "list", "get", *["get"] * 6]


def test_an_append_writes_only_what_it_adds_and_folds_to_the_whole():
    store = MemoryStore()
    one = create(store)
    for value in range(3):
        one.commit([Write("a", numbers(value), "append")])
    last = decode_record(store.get(log_key(3)), "k").entries[0]
    assert (last.op, len(last.manifest.objects), last.manifest.row_count) == ("add", 1, 3)
    assert reopen(store).get("a") == one.get("a")
    assert len(one.get("a").objects) == 3


def test_a_clock_that_goes_backwards_leaves_the_times_of_commits_in_order():
    store, clock = MemoryStore(), ManualClock()
    one = create(store, clock=clock)
    one.commit([Write("a", numbers(1))])
    clock.time -= timedelta(hours=1)
    one.commit([Write("a", numbers(2))])
    first, second = (decode_record(store.get(log_key(seq)), "k") for seq in (1, 2))
    assert second.committed_at == first.committed_at
    assert reopen(store).verify() == []
