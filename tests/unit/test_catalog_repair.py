"""Repair: what is damaged is set aside, what is intact is kept, and no commit is lost to it."""

from __future__ import annotations

import hashlib

import pytest
from unit.test_catalog_checkpoint import changed, grow
from unit.test_catalog_faults import (
    Crash,
    FaultyStore,
    ManualClock,
    SeededRng,
    create,
    numbers,
    once,
    reopen,
)
from unit.test_catalog_open import (
    EVERY,
    LAST,
    NEWEST,
    changed_format,
    filled,
    flipped,
    put,
    trim,
)

from workbench.catalog import chain, commit
from workbench.catalog.anchor import decode_anchor, encode_anchor
from workbench.catalog.audit import audit
from workbench.catalog.catalog import Registration, Write
from workbench.catalog.layout import (
    CATALOG_PREFIX,
    CKPT_PREFIX,
    FORMAT_KEY,
    HINT_KEY,
    LOG_PREFIX,
    QUARANTINE_PREFIX,
    ckpt_key,
    log_key,
)
from workbench.catalog.repair import Step, repair
from workbench.errors import Corruption, InvalidInput, NotFound, Unavailable, WorkbenchError
from workbench.stores.memory import MemoryStore


@pytest.fixture(autouse=True)
def _checkpoints_are_close(monkeypatch):
    monkeypatch.setattr(commit, "CHECKPOINT_RECORDS", EVERY)
    monkeypatch.setattr(chain, "TAIL_RECORDS_MAX", 2 * EVERY)


@pytest.fixture(scope="module")
def full():
    """The objects of a catalog in which every record registers a dataset of its own."""
    store = MemoryStore()
    create(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "CHECKPOINT_RECORDS", EVERY)
        grow(store, LAST)
    return {key: store.get(key) for key in store.list_after("")}


@pytest.fixture
def store(full):
    return filled(full)


def mend(store, *, apply=True, seed=50):
    return repair(store, clock=ManualClock(), rng=SeededRng(seed), writer="mender", apply=apply)


def names(store):
    return {m.name for m in reopen(store).list()}


def expected(*lost):
    """Return the datasets of all records but these; record n registers d/n-1."""
    return {f"d/{seq - 1}" for seq in range(1, LAST + 1) if seq not in lost}


def bytes_of(store):
    return {key: store.get(key) for key in store.list_after("")}


def sound(store):
    """Return whether the catalog opens, verifies, takes commits, and has nothing to repair."""
    catalog = reopen(store, seed=51)
    assert catalog.notices == ()
    assert catalog.verify() == []
    assert mend(store).actions == ()
    catalog.register([Registration("after", "f", ())])
    assert "after" in names(store)
    assert audit(store).problems == ()
    return True


def kept(store, before):
    """Return whether every object that was there is there, under its key or in quarantine."""
    aside = {hashlib.sha256(store.get(k)).digest() for k in store.list_after(QUARANTINE_PREFIX)}
    there = bytes_of(store)
    return all(
        there.get(key) == data or hashlib.sha256(data).digest() in aside
        for key, data in before.items()
        if key != HINT_KEY
    )


def test_a_sound_catalog_is_left_as_it_is(store):
    before = bytes_of(store)
    found = mend(store)
    assert (found.actions, found.lost, found.left) == ((), (), ())
    assert bytes_of(store) == before


def test_nothing_to_repair_is_no_catalog():
    with pytest.raises(NotFound):
        mend(MemoryStore())


def test_without_apply_nothing_is_changed(store):
    put(store, log_key(LAST), b"junk")
    put(store, ckpt_key(NEWEST), b"junk")
    put(store, f"{LOG_PREFIX}notes", b"?")
    before = bytes_of(store)
    found = mend(store, apply=False)
    assert not found.applied
    assert [each.step for each in found.actions] == [
        Step.RESTART,
        Step.QUARANTINE,
        Step.QUARANTINE,
        Step.QUARANTINE,
        Step.CHECKPOINT,
    ]
    assert found.lost == (LAST,)
    assert bytes_of(store) == before


# --- what can be made good


@pytest.mark.parametrize("bad", [b"", b"junk", None])
def test_a_damaged_checkpoint_is_set_aside_and_a_new_one_written(store, bad):
    data = flipped(store.get(ckpt_key(NEWEST))) if bad is None else bad
    put(store, ckpt_key(NEWEST), data)
    before = bytes_of(store)
    found = mend(store)
    assert [each.step for each in found.actions] == [Step.QUARANTINE, Step.CHECKPOINT]
    assert store.list_after(CKPT_PREFIX) == [ckpt_key(EVERY), ckpt_key(LAST)]
    assert kept(store, before)
    assert names(store) == expected()
    assert sound(store)


@pytest.mark.parametrize(
    "footer", [{"head_sha256": "ab" * 32}, {"catalog_uuid": "0" * 32}, {"floor": "3"}]
)
def test_a_checkpoint_that_the_log_contradicts_is_set_aside(store, footer):
    put(store, ckpt_key(NEWEST), changed(store.get(ckpt_key(NEWEST)), **footer))
    mend(store)
    assert names(store) == expected()
    assert sound(store)


@pytest.mark.parametrize("hint", [b"junk", b"%d" % 10**15, b""])
def test_a_hint_that_names_nothing_is_written_again(store, hint):
    put(store, HINT_KEY, hint)
    [action] = mend(store).actions
    assert action.step is Step.HINT
    assert int(store.get(HINT_KEY)) == NEWEST
    assert sound(store)


def test_stray_objects_are_set_aside(store):
    strays = {f"{LOG_PREFIX}1.parquet", f"{CKPT_PREFIX}x", f"{CATALOG_PREFIX}notes/a.txt"}
    for key in strays:
        put(store, key, key.encode())
    before = bytes_of(store)
    found = mend(store)
    assert {each.key for each in found.actions} == strays
    assert not strays & set(store.list_after(""))
    assert kept(store, before)
    assert sound(store)


@pytest.mark.parametrize("checkpoints", [True, False])
@pytest.mark.parametrize("bad", [None, b"junk"])
def test_format_is_written_again_byte_for_byte_where_something_vouches_for_it(
    store, checkpoints, bad
):
    original = store.get(FORMAT_KEY)
    for key in () if checkpoints else [HINT_KEY, *store.list_after(CKPT_PREFIX)]:
        store.delete(key)
    put(store, FORMAT_KEY, bad)
    [action] = mend(store).actions
    assert action.step is Step.FORMAT
    assert store.get(FORMAT_KEY) == original
    assert sound(store)


def test_format_of_unknown_bytes_is_said_to_be_beyond_repair(store):
    uuid = decode_anchor(store.get(FORMAT_KEY)).catalog_uuid
    for key in store.list_after(CATALOG_PREFIX):
        store.delete(key)
    put(store, FORMAT_KEY, encode_anchor(uuid)[:-1])
    found = mend(store)
    assert found.actions == ()
    [left] = found.left
    assert left.key == FORMAT_KEY
    assert "from a copy" in left.reason


# --- records


@pytest.mark.parametrize("seq", [1, 5, EVERY, NEWEST - 1, NEWEST])
@pytest.mark.parametrize("what", ["flip", "missing", "newer"])
def test_a_record_that_a_checkpoint_covers_costs_only_the_past(store, seq, what):
    data = store.get(log_key(seq))
    bad = {"flip": flipped(data), "missing": None, "newer": changed_format(data)}[what]
    put(store, log_key(seq), bad)
    before = bytes_of(store)
    found = mend(store)
    floor = EVERY if seq <= EVERY else NEWEST
    assert found.lost == ()
    assert found.actions[0].step is Step.RAISE_FLOOR
    assert found.actions[0].seq == floor
    assert names(store) == expected()
    assert kept(store, before)
    catalog = reopen(store)
    assert catalog.at(floor).seq == floor
    with pytest.raises(NotFound) as caught:
        catalog.at(floor - 1)
    assert caught.value.code == "history_trimmed"
    assert sound(store)


@pytest.mark.parametrize("seqs", [(NEWEST + 1,), (NEWEST + 3,), (LAST,), (NEWEST + 2, LAST - 1)])
@pytest.mark.parametrize("what", ["flip", "missing"])
def test_a_record_that_no_checkpoint_covers_is_lost_and_the_log_starts_anew(store, seqs, what):
    if what == "missing" and seqs == (LAST,):
        return  # a shorter log
    for seq in seqs:
        put(store, log_key(seq), flipped(store.get(log_key(seq))) if what == "flip" else None)
    before = bytes_of(store)
    with pytest.raises(Corruption):
        reopen(store)
    found = mend(store)
    assert found.lost == seqs
    assert found.actions[0].step is Step.RESTART
    assert all(str(seq) in found.actions[0].text for seq in seqs)
    assert names(store) == expected(*seqs)
    assert reopen(store).seq == LAST + 1
    assert kept(store, before)
    assert sound(store)


def test_without_any_checkpoint_the_whole_log_is_salvaged(store):
    for key in store.list_after(CKPT_PREFIX):
        store.delete(key)
    put(store, log_key(1), b"junk")
    put(store, log_key(10), None)
    found = mend(store)
    assert found.lost == (1, 10)
    assert names(store) == expected(1, 10)
    assert sound(store)


def test_a_damaged_checkpoint_and_a_record_before_it_cost_that_record(store):
    put(store, ckpt_key(NEWEST), b"junk")
    put(store, log_key(NEWEST - 2), b"junk")
    found = mend(store)
    assert found.lost == (NEWEST - 2,)
    assert names(store) == expected(NEWEST - 2)
    assert sound(store)


def test_a_trimmed_log_whose_first_checkpoint_is_damaged_goes_on_from_a_later_one(store):
    trim(store, EVERY)
    put(store, ckpt_key(EVERY), b"junk")
    found = mend(store)
    assert found.lost == ()
    assert names(store) == expected()
    with pytest.raises(NotFound):
        reopen(store).at(EVERY)
    assert sound(store)


def test_a_trimmed_log_without_a_sound_checkpoint_keeps_what_its_records_say(store):
    trim(store, NEWEST)
    put(store, ckpt_key(NEWEST), b"junk")
    found = mend(store)
    assert found.lost
    assert names(store) == {f"d/{seq - 1}" for seq in range(NEWEST, LAST + 1)}
    assert sound(store)


def test_the_floors_checkpoint_is_made_again_where_the_log_below_is_still_there(store):
    below = {log_key(seq): store.get(log_key(seq)) for seq in range(1, NEWEST)}
    trim(store, NEWEST)
    for key, data in below.items():
        put(store, key, data)
    put(store, ckpt_key(NEWEST), b"junk")
    found = mend(store)
    assert found.lost == ()
    assert names(store) == expected()
    assert sound(store)


def test_rows_that_a_lost_record_added_are_not_counted():
    store = MemoryStore()
    catalog = create(store)
    for number in range(4):
        catalog.commit([Write("a", numbers(number), "append"), Write(f"b/{number}", numbers(1))])
    put(store, log_key(3), b"junk")
    mend(store)
    again = reopen(store)
    assert again.get("a").row_count == 3
    assert again.read("a")["n"].to_pylist() == [0, 1, 3]
    assert sound(store)


def test_rows_that_add_to_what_was_lost_are_left_out():
    store = MemoryStore()
    catalog = create(store)
    catalog.commit([Write("other", numbers(1))])
    catalog.commit([Write("a", numbers(1))])
    catalog.commit([Write("a", numbers(2), "append"), Write("b", numbers(3))])
    put(store, log_key(2), b"junk")
    mend(store)
    assert names(store) == {"other", "b"}
    assert sound(store)


def test_objects_that_are_gone_are_named_with_what_can_be_done():
    store = MemoryStore()
    catalog = create(store)
    catalog.commit([Write("a", numbers(1)), Write("b/c", numbers(2))])
    [ref] = catalog.get("b/c").objects
    store.delete(ref.key)
    found = mend(store)
    assert found.actions == ()
    [left] = found.left
    assert left.key == ref.key
    assert "'b/c'" in left.reason
    assert "workbench catalog rm b/c" in left.reason


# --- beside writers


def test_who_was_open_before_sees_the_new_start(store):
    one, two = reopen(store, seed=60), reopen(store, seed=61)
    put(store, log_key(LAST - 1), b"junk")
    mend(store)
    assert one.refresh() == LAST + 1
    assert {m.name for m in one.list()} == expected(LAST - 1)
    two.register([Registration(f"d/{LAST - 2}", "other", ()), Registration("x", "f", ())])
    assert two.seq == LAST + 2
    assert names(store) == expected() | {"x"}
    assert sound(store)


def test_who_was_open_at_the_damaged_record_sees_it_too(store):
    early = filled({k: v for k, v in bytes_of(store).items() if k < log_key(LAST - 1)})
    catalog = reopen(early)
    catalog._store = store
    put(store, log_key(LAST - 1), b"junk")
    with pytest.raises(Corruption):
        catalog.refresh()
    mend(store)
    assert catalog.refresh() == LAST + 1
    with_old_state = reopen(early)
    with_old_state._store = store
    with pytest.raises(Unavailable):
        with_old_state.register([Registration("x", "f", ())])
    with_old_state.register([Registration("x", "f", ())])
    assert "x" in names(store)


def test_a_commit_that_is_first_is_read_before_the_log_starts_anew(store):
    writer = reopen(store, seed=60)
    put(store, log_key(LAST - 1), b"junk")
    faulty = FaultyStore(store)
    offers = []

    def before():
        # The repair is about to offer the number that the writer takes.
        if not offers and faulty.calls[-1:] == [("get", log_key(LAST))] and len(seen()) > 2:
            offers.append(LAST + 1)
            writer.register([Registration("w", "f", ())])

    def seen():
        return [call for call in faulty.calls if call == ("get", log_key(LAST))]

    faulty.before = before
    found = repair(faulty, clock=ManualClock(), rng=SeededRng(3), writer="mender", apply=True)
    assert offers
    assert LAST - 1 in found.lost
    assert names(store) == {"w"} | expected(LAST - 1)
    assert reopen(store).seq == LAST + 2
    assert sound(store)


def test_an_append_in_doubt_at_every_call_of_a_repair_is_applied_once_or_refused():
    base = MemoryStore()
    catalog = create(base)
    for number in range(6):
        catalog.commit([Write("a", numbers(number), "append")])
    objects = bytes_of(base)
    ends = set()
    for call_number in range(60):
        store = filled(objects)
        writer = reopen(store, seed=60)
        put(store, log_key(3), b"junk")
        count, outcome = iter(range(10_000)), []
        faulty = FaultyStore(store)

        def before(count=count, n=call_number, writer=writer, outcome=outcome):
            if next(count) == n:
                try:
                    writer.commit([Write("a", numbers(99), "append")])
                    outcome.append("in")
                except WorkbenchError as error:
                    outcome.append(error.code)

        faulty.before = before
        repair(faulty, clock=ManualClock(), rng=SeededRng(3), writer="mender", apply=True)
        rows = reopen(store).read("a")["n"].to_pylist()
        assert rows.count(99) == (outcome == ["in"]), (call_number, outcome)
        assert set(rows) - {99} == {0, 1, 3, 4, 5}
        assert audit(store).problems == ()
        ends.update(outcome)
        if not outcome:
            break
    assert "in" in ends
    assert call_number > 20


def test_a_crash_at_any_call_can_be_repaired_again(monkeypatch):
    monkeypatch.setattr(commit, "CHECKPOINT_RECORDS", 2)
    store = MemoryStore()
    create(store)
    grow(store, 5)
    for key in (log_key(5), ckpt_key(4), HINT_KEY, f"{LOG_PREFIX}stray"):
        put(store, key, b"junk")
    damaged = bytes_of(store)
    crashed = True
    for call_number in range(400):
        again = filled(damaged)
        count = iter(range(10_000))
        faulty = FaultyStore(
            again, lambda *_, c=count, n=call_number: "crash_after" if next(c) == n else None
        )
        try:
            repair(faulty, clock=ManualClock(), rng=SeededRng(3), writer="m", apply=True)
        except Crash:
            mend(again)
        else:
            crashed = False
        assert names(again) == {"d/0", "d/1", "d/2", "d/3"}, call_number
        assert audit(again).problems == ()
        assert kept(again, damaged)
        if not crashed:
            break
    assert call_number > 30


@pytest.mark.parametrize("fault", ["landed", "lost", "unavailable", "delayed"])
def test_an_answer_that_was_lost_does_no_harm(store, fault):
    put(store, log_key(LAST - 1), b"junk")
    faulty = FaultyStore(store, once("put", "/log/", fault))
    repair(faulty, clock=ManualClock(), rng=SeededRng(3), writer="mender", apply=True)
    faulty.land()
    assert names(store) == expected(LAST - 1)
    assert audit(store).problems == ()


def test_what_is_read_badly_once_is_not_damaged(store):
    faulty = FaultyStore(store, once("get", log_key(LAST - 1), "truncated"))
    before = bytes_of(store)
    found = repair(faulty, clock=ManualClock(), rng=SeededRng(3), writer="mender", apply=True)
    assert found.actions == ()
    assert bytes_of(store) == before


def test_a_catalog_of_another_version_is_not_touched(store):
    put(store, FORMAT_KEY, encode_anchor(reopen(store).uuid, version=2))
    with pytest.raises(InvalidInput):
        mend(store)


def test_that_the_past_ends_is_said_before_and_after(store):
    put(store, log_key(NEWEST + 1), b"junk")
    dry, done = mend(store, apply=False), mend(store)
    assert dry.floor == done.floor == LAST + 1
    assert f"`--at` 1 to {LAST} can no longer be read, although {LAST - 1} " in dry.notes[0]
    assert done.notes == dry.notes
    assert f"sequence {NEWEST + 1} was committed after 2026-01-02" in dry.notes[1]
    assert " and before 2026-01-02" in dry.notes[1]
    with pytest.raises(NotFound, match=r"at which a repair started the log of .* anew") as caught:
        reopen(store).at(NEWEST)
    assert caught.value.code == "history_trimmed"
    assert "gc" not in str(caught.value)


def test_a_floor_that_is_raised_is_said_with_what_it_costs(store):
    put(store, log_key(EVERY - 1), b"junk")
    dry = mend(store, apply=False)
    assert dry.lost == ()
    assert dry.floor is not None
    assert f"to {dry.floor - 1} can no longer be read" in dry.notes[0]
    assert dry.changed == dry.suspected == ()


def test_a_sound_catalog_and_a_lost_hint_cost_no_past(store):
    put(store, HINT_KEY, b"junk")
    found = mend(store, apply=False)
    assert (found.floor, found.notes) == (None, ())


def appended(numbers_of_rows):
    """Return a store in which each record adds rows to d/0 and d/1 in turns."""
    store = MemoryStore()
    create(store)
    catalog = reopen(store)
    for at, rows in enumerate(numbers_of_rows):
        catalog.commit([Write(f"d/{at % 2}", numbers(rows), "append")])
    return store


def test_what_the_records_after_a_lost_one_show_as_changed_is_named():
    store = appended([1, 2, 3, 4, 5, 6])
    put(store, log_key(4), b"junk")
    found = mend(store, apply=False)
    assert (found.lost, found.changed) == ((4,), ("d/1",))
    assert "other records show that 'd/1' changed" in found.notes[-1]


def test_a_dataset_that_a_lost_record_made_is_named_by_those_that_add_to_it():
    store = appended([1, 2, 3, 4])
    put(store, log_key(2), b"junk")
    assert mend(store, apply=False).changed == ("d/1",)


def test_a_dataset_with_uploads_that_no_record_names_is_suspected():
    store = appended([1, 2, 3, 4])
    put(store, log_key(4), b"junk")
    found = mend(store)
    assert (found.changed, found.suspected) == ((), ("d/1",))
    assert "uploads that no record names lie at 'd/1'" in found.notes[-1]


def test_where_nothing_tells_what_a_lost_record_changed_it_is_said(store):
    put(store, log_key(LAST), flipped(store.get(log_key(LAST))))
    found = mend(store, apply=False)
    assert (found.changed, found.suspected) == ((), ())
    assert "cannot be told" in found.notes[-1]


@pytest.mark.parametrize("what", ["flip", "cut"])
def test_a_damaged_checkpoint_of_a_restart_is_named_as_the_cause(store, what):
    put(store, log_key(NEWEST + 1), b"junk")
    mend(store)
    data = store.get(ckpt_key(LAST + 1))
    put(store, ckpt_key(LAST + 1), flipped(data) if what == "flip" else data[:100])
    with pytest.raises(Corruption) as caught:
        reopen(store)
    assert caught.value.message.startswith(f"{ckpt_key(LAST + 1)}: ")
    assert caught.value.code == "checkpoint_corrupt"
    mend(store)
    assert names(store) == expected(NEWEST + 1)
    assert sound(store)


def test_a_damaged_object_of_an_export_is_exported_again_and_both_datasets_are_named():
    store = MemoryStore()
    create(store)
    reopen(store).commit([Write(f"export/a/{kind}", numbers(2)) for kind in ("version", "route")])
    [ref] = reopen(store).get("export/a/version").objects
    store.delete(ref.key)
    [left] = mend(store).left
    assert "export again" in left.reason
    assert "catalog rm export/a/route export/a/version`" in left.reason
