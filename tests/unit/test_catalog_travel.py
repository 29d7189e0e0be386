"""The catalog as it was: after every record, at every time, and where that is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.test_catalog_checkpoint import comparable, grow
from unit.test_catalog_faults import START, FaultyStore, ManualClock, create, numbers, reopen
from unit.test_catalog_open import EVERY, LAST, NEWEST, filled, flipped, put, replay, trim

from workbench.catalog import chain, commit
from workbench.catalog import record as record_module
from workbench.catalog.catalog import Registration, Write
from workbench.catalog.chain import empty_state, extend, read_anchor
from workbench.catalog.layout import ckpt_key, log_key
from workbench.catalog.record import decode_record
from workbench.catalog.travel import ahead_notice
from workbench.errors import Corruption, InvalidArgument, InvalidInput, NotFound
from workbench.stores.memory import MemoryStore

LATE = START + timedelta(days=1)


@pytest.fixture(autouse=True)
def _checkpoints_are_close(monkeypatch):
    monkeypatch.setattr(commit, "CHECKPOINT_RECORDS", EVERY)
    monkeypatch.setattr(chain, "TAIL_RECORDS_MAX", 2 * EVERY)


@pytest.fixture(scope="module")
def full():
    store = MemoryStore()
    create(store)
    clock = ManualClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "CHECKPOINT_RECORDS", EVERY)
        catalog = reopen(store, clock=clock)
        for number in range(LAST):
            name = f"d/{number % 5}"
            catalog.register([Registration(name, "f", (), number, {"n": str(number)})])
    return {key: store.get(key) for key in store.list_after("")}


@pytest.fixture
def store(full):
    return filled(full)


def then(store, seq):
    return comparable(extend(store, empty_state(read_anchor(store)), seq))


def times(store):
    return [decode_record(store.get(log_key(seq)), "").committed_at for seq in range(1, LAST + 1)]


def late(store):
    return reopen(store, clock=ManualClock(LATE))


def test_after_every_record_it_is_what_the_log_up_to_it_gives(store):
    catalog = reopen(store)
    for seq in range(LAST + 1):
        view = catalog.at(seq)
        assert view.seq == seq
        assert comparable(view._state) == then(store, seq)
        assert [m.name for m in view.list("d/")] == sorted(f"d/{n}" for n in range(min(seq, 5)))
    assert (catalog.seq, catalog.notices) == (LAST, ())
    assert catalog.at(0).committed_at is None
    assert catalog.at(3).committed_at == times(store)[2]


def test_at_every_time_it_is_what_was_committed_until_then(store):
    catalog = late(store)
    moments = times(store)
    tick = timedelta(microseconds=1)
    assert catalog.at(moments[0] - tick).seq == 0
    for seq, moment in enumerate(moments, 1):
        assert catalog.at(moment).seq == seq
        assert catalog.at(moment - tick).seq == seq - 1
        assert catalog.at(moment + tick).seq == seq
    assert catalog.at(moments[4].astimezone(timezone(timedelta(hours=5)))).seq == 5
    assert catalog.at(LATE - timedelta(hours=1)).seq == LAST


def test_records_of_format_1_whose_times_go_back_are_read_and_found(monkeypatch):
    store = MemoryStore()
    monkeypatch.setattr(record_module, "RECORD_FORMAT", record_module.RECORD_FORMAT_1)
    monkeypatch.setattr(record_module, "SCHEMA", record_module.SCHEMA_1)
    catalog = create(store, clock=ManualClock(step_seconds=-10))
    for number in range(6):
        catalog.register([Registration(f"d/{number}", "f", ())])
    monkeypatch.undo()
    catalog = late(store)
    assert catalog.seq == 6
    first = catalog.get("d/0").created_at
    assert catalog.get("d/5").created_at < first
    assert catalog.at(first - timedelta(seconds=1)).seq == 0
    catalog.register([Registration("new", "f", ())])
    assert catalog.at(first).seq == 6
    assert reopen(store).verify() == []


def test_records_of_one_time_are_all_in(store):
    clock = ManualClock(step_seconds=-5)
    catalog = reopen(store, clock=clock)
    for number in range(5):
        catalog.register([Registration("same", "f", (), number)])
    assert late(store).at(times(store)[-1]).seq == LAST + 5


def test_a_time_is_found_in_few_requests(store):
    counting = FaultyStore(store)
    catalog = late(counting)
    counting.calls.clear()
    catalog.at(times(store)[2])
    # refresh, halving, checkpoints, FORMAT, three records
    assert len(counting.calls) <= 2 + LAST.bit_length() + 1 + 1 + 3


def test_a_sequence_of_others_is_seen_after_a_refresh(store):
    catalog = reopen(store)
    grow(store, 2, first=500)
    assert catalog.at(LAST + 1).list("d/500")
    assert late(store).at(LATE - timedelta(hours=1)).seq == LAST + 2


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (-1, "not -1"),
        (LAST + 1, f"sequences 0 to {LAST}, not {LAST + 1}"),
        (datetime(2999, 1, 1, tzinfo=UTC), "is to come"),
        (datetime(2026, 1, 1), "has no time zone"),  # noqa: DTZ001  that is the point
    ],
)
def test_what_is_no_point_in_the_past_is_refused(store, point, reason):
    with pytest.raises(InvalidInput, match=reason) as caught:
        reopen(store).at(point)
    assert caught.value.code == "point_invalid"


def test_what_was_trimmed_is_refused_with_the_oldest_sequence_and_its_time(store):
    moments = times(store)
    trim(store, EVERY)
    catalog = late(store)
    assert catalog.at(EVERY).seq == EVERY
    assert len(catalog.at(EVERY).list()) == 5
    assert catalog.at(EVERY + 3).seq == EVERY + 3
    assert catalog.at(moments[EVERY - 1]).seq == EVERY
    for point in (EVERY - 1, 0, moments[EVERY - 1] - timedelta(microseconds=1)):
        with pytest.raises(NotFound) as caught:
            catalog.at(point)
        assert caught.value.code == "history_trimmed"
        assert f"sequence {EVERY}, committed at 2026-01-02T03:04:" in caught.value.message


def test_the_floor_can_be_read_although_its_record_is_gone(store):
    trim(store, NEWEST)
    store.delete(log_key(NEWEST))
    assert late(store).at(NEWEST).seq == NEWEST


def test_a_bad_checkpoint_on_the_way_is_passed_over_and_a_notice_says_so(store):
    expected = then(store, NEWEST + 2)
    put(store, ckpt_key(NEWEST), flipped(store.get(ckpt_key(NEWEST))))
    catalog = reopen(store)
    catalog._notices = ()
    assert comparable(catalog.at(NEWEST + 2)._state) == expected
    assert len(catalog.notices) == 1
    assert ckpt_key(NEWEST) in catalog.notices[0]


def test_a_bad_record_on_the_way_is_corruption_and_the_present_is_served(store):
    put(store, log_key(3), flipped(store.get(log_key(3))))
    catalog = reopen(store)
    with pytest.raises(Corruption, match=log_key(3)):
        catalog.at(5)
    assert catalog.at(EVERY + 1).seq == EVERY + 1
    assert catalog.seq == LAST


def test_a_view_is_read_only_and_shares_nothing(store):
    view = reopen(store).at(4)
    view.get("d/1").properties["n"] = "changed"
    assert view.get("d/1").properties == {"n": "1"}
    assert not any(hasattr(view, name) for name in ("commit", "register", "refresh"))
    with pytest.raises(NotFound) as caught:
        view.get("d/4")
    assert caught.value.code == "dataset_absent"
    assert "at sequence 4" in caught.value.message


def test_rows_are_read_as_they_were():
    store = MemoryStore()
    catalog = create(store)
    catalog.commit([Write("a", numbers(1))])
    catalog.commit([Write("a", numbers(2), "append")])
    catalog.commit([Write("a", numbers(9))])
    assert catalog.at(2).read("a")["n"].to_pylist() == [1, 2]
    assert catalog.at(1).dataset("a").to_table()["n"].to_pylist() == [1]
    assert catalog.read("a")["n"].to_pylist() == [9]


def test_data_that_were_collected_since_are_named_with_the_collector():
    store = MemoryStore()
    catalog = create(store)
    catalog.commit([Write("a", numbers(1))])
    [old] = catalog.get("a").objects
    catalog.commit([Write("a", numbers(9))])
    store.delete(old.key)
    for read in (catalog.at(1).read, catalog.at(1).dataset):
        with pytest.raises(NotFound) as caught:
            read("a")
        assert caught.value.code == "object_collected"
        assert old.key in caught.value.message
        assert "workbench catalog gc" in caught.value.message


def test_data_that_are_missing_but_still_referred_to_are_corruption():
    store = MemoryStore()
    catalog = create(store)
    catalog.commit([Write("a", numbers(1))])
    catalog.commit([Write("b", numbers(2))])
    [ref] = catalog.get("a").objects
    store.delete(ref.key)
    with pytest.raises(Corruption) as caught:
        catalog.at(1).read("a")
    assert caught.value.code == "object_missing"


NAMES = st.sampled_from(["a", "b", "c/d"])


@given(
    batches=st.lists(
        st.lists(st.tuples(NAMES, st.integers(0, 3)), max_size=3, unique_by=lambda b: b[0]),
        max_size=12,
    ),
    every=st.integers(1, 4),
    backwards=st.booleans(),
    bad=st.none() | st.integers(1, 12),
)
@settings(deadline=None, max_examples=60)
def test_open_and_every_past_state_are_those_of_a_model(batches, every, backwards, bad):
    store = MemoryStore()
    create(store)
    clock = ManualClock(step_seconds=-1 if backwards else 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "CHECKPOINT_RECORDS", every)
        catalog = reopen(store, clock=clock)
        model, states = {}, [{}]
        for batch in batches:
            before = catalog.seq
            catalog.register([Registration(name, "f", (), rows) for name, rows in batch])
            model = {**model, **dict(batch)}
            if catalog.seq > before:
                states.append(model)
    if bad is not None and ckpt_key(bad) in store.list_after(""):
        put(store, ckpt_key(bad), b"junk")
    again = reopen(store, clock=ManualClock(LATE))
    assert comparable(again._state) == comparable(replay(store)) if states[1:] else not again.list()
    for seq, expected in enumerate(states):
        view = again.at(seq)
        assert {m.name: m.row_count for m in view.list()} == expected
        if view.committed_at is not None:
            newest = again.at(view.committed_at)
            assert newest.seq >= seq
            assert newest.committed_at == view.committed_at


def test_a_clock_that_was_far_ahead_is_told_of_by_who_looks_back_by_time(store):
    ahead = LATE + timedelta(days=365)
    reopen(store, clock=ManualClock(ahead), seed=9).register([Registration("far", "f", ())])
    reopen(store, clock=ManualClock(LATE), seed=10).register([Registration("near", "f", ())])
    catalog = late(store)
    found = catalog.at(LATE)
    assert {"far", "near"}.isdisjoint(each.name for each in found.list())
    [notice] = catalog.notices
    assert "a writer's clock was ahead" in notice
    assert "2027-01-03" in notice
    by_sequence = late(store)
    assert by_sequence.at(LAST + 1).get("far")
    assert by_sequence.notices == ()


@pytest.mark.parametrize(("minutes", "told"), [(4, False), (6, True)])
def test_clocks_that_differ_by_little_are_not_told_of(minutes, told):
    assert (ahead_notice(LATE + timedelta(minutes=minutes), LATE) is not None) == told
    assert ahead_notice(None, LATE) is None


def test_a_time_to_come_is_wrong_usage_and_says_its_zone(store):
    with pytest.raises(InvalidArgument, match=r"2999-01-01T00:00:00Z \(UTC\) is to come") as caught:
        reopen(store).at(datetime(2999, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert "read as UTC" in caught.value.hint
