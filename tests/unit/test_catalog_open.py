"""Opening: the same few requests for any number of datasets, and what is passed over."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from unit.test_catalog_checkpoint import changed, comparable, grow
from unit.test_catalog_faults import FaultyStore, ManualClock, create, once, reopen
from unit.test_catalog_index import manifest

from workbench.catalog import chain, commit
from workbench.catalog.anchor import decode_anchor
from workbench.catalog.catalog import Registration
from workbench.catalog.chain import empty_state, extend, load, read_anchor
from workbench.catalog.checkpoint import (
    encode_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from workbench.catalog.index import Index
from workbench.catalog.layout import (
    CKPT_PREFIX,
    FORMAT_KEY,
    HINT_KEY,
    LOG_PREFIX,
    ckpt_key,
    log_key,
)
from workbench.catalog.record import Record, Upkeep, decode_record, encode_record
from workbench.errors import Corruption, OutcomeUnknown, Unavailable
from workbench.stores.memory import MemoryStore

EVERY = 8  # records from checkpoint to checkpoint; 64 outside of these tests
TAIL = 6
NEWEST = 2 * EVERY
LAST = NEWEST + TAIL


@pytest.fixture(autouse=True)
def _checkpoints_are_close(monkeypatch):
    monkeypatch.setattr(commit, "CHECKPOINT_RECORDS", EVERY)
    monkeypatch.setattr(chain, "TAIL_RECORDS_MAX", 2 * EVERY)


@pytest.fixture(scope="module")
def full():
    """The objects of a catalog with two checkpoints and a tail."""
    store = MemoryStore()
    create(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "CHECKPOINT_RECORDS", EVERY)
        grow(store, LAST, datasets=9)
    return {key: store.get(key) for key in store.list_after("")}


@pytest.fixture
def store(full):
    return filled(full)


def filled(objects):
    store = MemoryStore()
    for key, data in objects.items():
        store.put_if_absent(key, data)
    return store


def put(store, key, data):
    store.delete(key)
    if data is not None:
        store.put_if_absent(key, data)


def flipped(data, position=50):
    changed_data = bytearray(data)
    changed_data[position % len(data)] ^= 1
    return bytes(changed_data)


def replay(store):
    """Return the state that the whole log gives."""
    last = len(store.list_after(LOG_PREFIX))
    return extend(store, empty_state(read_anchor(store)), last)


def opened(store):
    catalog = reopen(store)
    return catalog, comparable(catalog._state)


def trim(store, floor, seed=3):
    """Raise the floor by a record and delete what lies below, as garbage collection does."""
    catalog = reopen(store, seed=seed)
    last = catalog.seq
    record = Record(
        catalog_uuid=catalog.uuid,
        seq=last + 1,
        txn=uuid.UUID(int=77),
        writer="gc",
        parent_sha256=catalog._state.head_sha256,
        committed_at=catalog._state.committed_at,
        entries=(),
        upkeep=Upkeep(floor=floor),
    )
    assert store.put_if_absent(log_key(last + 1), encode_record(record))
    for seq in range(1, floor):
        store.delete(log_key(seq))
        store.delete(ckpt_key(seq))


# --- how many requests


def requests(store, datasets):
    counting = FaultyStore(store)
    catalog = reopen(counting)
    assert len(catalog.list()) == datasets
    return [call for call, _ in counting.calls]


def big(datasets, tail):
    store = MemoryStore()
    catalog = create(store)
    grow(store, 1)
    catalog.refresh()
    index = Index.of({f"x/{n}": manifest(f"x/{n}") for n in range(datasets - tail)})
    write_checkpoint(store, replace(catalog._state, manifests=index), writer="test")
    grow(store, tail, first=1)
    return store


@pytest.mark.parametrize("tail", [0, 5])
def test_opening_costs_three_requests_and_the_tail_for_any_number_of_datasets(tail):
    expected = ["get", "get", "list", *["get"] * tail]
    assert [requests(big(n, tail), n) for n in (100, 3000)] == [expected, expected]


@pytest.mark.slow
def test_opening_a_hundred_thousand_datasets_costs_what_a_hundred_do():
    assert requests(big(100_000, 5), 100_000) == requests(big(100, 5), 100)


def test_the_tail_is_read_in_one_wave(store):
    waves = []
    counting = FaultyStore(store)
    original = counting.get_many
    counting.get_many = lambda keys: waves.append(list(keys)) or original(keys)
    reopen(counting)
    assert waves == [[log_key(LAST - TAIL + n) for n in range(1, TAIL + 1)]]


def test_format_is_not_read_where_a_checkpoint_vouches_for_it(store):
    counting = FaultyStore(store)
    reopen(counting)
    assert FORMAT_KEY not in [key for _, key in counting.calls]


def test_refreshing_what_is_current_is_one_probe_and_one_listing(store):
    counting = FaultyStore(store)
    catalog = reopen(counting)
    counting.calls.clear()
    catalog.refresh()
    assert counting.calls == [("get", log_key(LAST + 1)), ("list", LOG_PREFIX)]


# --- what comes out


def test_opening_from_a_checkpoint_gives_what_the_whole_log_gives(store):
    catalog, state = opened(store)
    assert state == comparable(replay(store))
    assert catalog.notices == ()
    assert load(store).checkpoint_seq == NEWEST
    assert catalog.verify() == []


@pytest.mark.parametrize("hint", [None, b"junk", b"\0" * 5000, b"1", b"8", b"%d" % 10**18])
def test_whatever_is_wrong_with_the_hint_does_not_matter(store, hint):
    put(store, HINT_KEY, hint)
    catalog, state = opened(store)
    assert state == comparable(replay(store))
    assert catalog.notices == ()


def test_a_stale_hint_with_a_long_tail_leads_to_the_newer_checkpoint(store, monkeypatch):
    put(store, HINT_KEY, b"8")
    assert load(store).checkpoint_seq == EVERY, "so many records are no reason to look further"
    monkeypatch.setattr(chain, "TAIL_RECORDS_MAX", EVERY + 2)
    loaded = load(store)
    assert loaded.checkpoint_seq == NEWEST
    assert comparable(loaded.state) == comparable(replay(store))
    put(store, ckpt_key(NEWEST), b"junk")
    loaded = load(store)
    assert loaded.checkpoint_seq == EVERY
    assert len(loaded.notices) == 1


def test_a_checkpoint_ahead_of_a_stale_listing_is_served(store):
    stale = FaultyStore(store)
    stale.list_after = lambda prefix, after="": [
        key for key in store.list_after(prefix, after) if key < log_key(NEWEST - 3)
    ]
    assert reopen(stale).seq == NEWEST
    stale.list_after = lambda prefix, after="": [
        key for key in store.list_after(prefix, after) if not key.endswith(f"{LAST - 2}.parquet")
    ]
    catalog = reopen(stale)
    assert comparable(catalog._state) == comparable(replay(store)), "records are got by number"
    stale.list_after = lambda prefix, after="": [
        key for key in store.list_after(prefix, after) if key <= log_key(LAST - 2)
    ]
    catalog = reopen(stale)
    assert catalog.seq == LAST - 2
    assert catalog.refresh() == LAST


# --- checkpoints that are not sound


def lying(store, **footer):
    return changed(store.get(ckpt_key(NEWEST)), **footer)


@pytest.mark.parametrize(
    "bad",
    [
        lambda store: flipped(store.get(ckpt_key(NEWEST))),
        lambda store: store.get(ckpt_key(NEWEST))[:-7],
        lambda store: b"",
        lambda store: store.get(ckpt_key(EVERY)),
        lambda store: lying(store, head_sha256="ab" * 32),
        lambda store: lying(store, catalog_uuid=str(uuid.UUID(int=9))),
        lambda store: lying(store, format="workbench.catalog.checkpoint/9"),
        lambda store: lying(store, seq="15"),
    ],
    ids=["flip", "truncated", "empty", "copied", "head", "foreign", "newer", "other seq"],
)
@pytest.mark.parametrize("others", [True, False])
def test_a_bad_checkpoint_is_passed_over_and_a_notice_says_so(store, bad, others):
    expected = comparable(replay(store))
    put(store, ckpt_key(NEWEST), bad(store))
    if not others:
        store.delete(ckpt_key(EVERY))
    catalog, state = opened(store)
    assert state == expected
    assert load(store).checkpoint_seq == (EVERY if others else 0)
    assert len(catalog.notices) == 1
    assert any(key in catalog.notices[0] for key in (ckpt_key(NEWEST), log_key(NEWEST + 1)))
    assert ckpt_key(NEWEST) in [problem.key for problem in catalog.verify()]


def test_a_missing_checkpoint_that_the_hint_names_is_nothing_to_tell(store):
    store.delete(ckpt_key(NEWEST))
    catalog, state = opened(store)
    assert state == comparable(replay(store))
    assert catalog.notices == ()


def test_where_a_checkpoint_was_passed_over_format_is_read_and_must_fit(store):
    put(store, ckpt_key(NEWEST), b"junk")
    other = MemoryStore()
    create(other, seed=5)
    put(store, FORMAT_KEY, other.get(FORMAT_KEY))
    with pytest.raises(Corruption):
        reopen(store)


def test_two_catalogs_in_one_root_do_not_open(store):
    """A catalog was copied over another: its objects took the places of the other's."""
    other = MemoryStore()
    create(other, seed=5)
    grow(other, EVERY + 3, seed=6)
    for key in other.list_after(""):
        put(store, key, other.get(key))
    with pytest.raises(Corruption):
        reopen(store)
    assert reopen(store_without(store, other)).seq == EVERY + 3


def store_without(store, other):
    """Return the store with only what lies in the other."""
    return filled(
        {key: store.get(key) for key in store.list_after("") if key in set(other.list_after(""))}
    )


def test_a_fork_behind_a_checkpoint_is_found_by_its_hash(store):
    fork = decode_record(store.get(log_key(NEWEST)), "")
    put(store, log_key(NEWEST), encode_record(replace(fork, writer="somebody else")))
    assert reopen(store).seq == LAST, "the checkpoint knows the record that was there"
    keys = [problem.key for problem in reopen(store).verify()]
    assert log_key(NEWEST + 1) in keys or ckpt_key(NEWEST) in keys


# --- records that are not sound


@pytest.mark.parametrize("seq", [NEWEST + 1, NEWEST + 3, LAST])
@pytest.mark.parametrize("what", ["flip", "missing", "newer"])
def test_a_bad_record_of_the_tail_opens_nothing_and_the_old_state_is_served(store, seq, what):
    if what == "missing" and seq == LAST:
        return  # a shorter log, which no chain shows
    early = filled({k: store.get(k) for k in store.list_after("") if k < log_key(seq)})
    catalog = reopen(early)
    catalog._store = store
    before = catalog.list()
    data = store.get(log_key(seq))
    bad = {"flip": flipped(data), "missing": None, "newer": changed_format(data)}[what]
    put(store, log_key(seq), bad)
    for call in (lambda: reopen(store), catalog.refresh):
        with pytest.raises(Corruption) as caught:
            call()
        assert log_key(seq) in caught.value.message
    assert (catalog.seq, catalog.list()) == (seq - 1, before)


def changed_format(data):
    return changed_record(data, format="workbench.catalog.record/3")


def changed_record(data, **footer):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    from workbench.catalog.record import RECORD_SEAL, SCHEMA

    pairs = pq.read_metadata(pa.BufferReader(data)).metadata
    order = sorted(pairs, key=lambda k: data.rfind(b"\x18" + bytes([len(k)]) + k))
    found = {k.decode(): pairs[k].decode() for k in order}
    found.pop("workbench.sha256")
    found.update({f"workbench.{key}": value for key, value in footer.items()})
    found["workbench.sha256"] = "0" * 64
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, SCHEMA, store_schema=False) as writer:
        writer.write_table(pq.read_table(pa.BufferReader(data)).cast(SCHEMA))
        writer.add_key_value_metadata(found)
    return RECORD_SEAL.stamp(sink.getvalue())


@pytest.mark.parametrize("seq", [1, EVERY, NEWEST - 3, NEWEST - 1])
def test_a_bad_record_before_the_checkpoint_is_verifys_to_find(store, seq):
    put(store, log_key(seq), flipped(store.get(log_key(seq))))
    catalog = reopen(store)
    assert (catalog.seq, catalog.notices) == (LAST, ())
    assert [problem.key for problem in catalog.verify()] == [log_key(seq)]


def test_a_bad_record_that_a_newer_checkpoint_covers_is_passed_over(store):
    put(store, HINT_KEY, b"8")
    put(store, log_key(NEWEST - 3), flipped(store.get(log_key(NEWEST - 3))))
    catalog = reopen(store)
    assert catalog.seq == LAST
    assert [log_key(NEWEST - 3) in notice for notice in catalog.notices] == [True]


def test_without_the_log_a_bad_checkpoint_is_the_error(store):
    trim(store, NEWEST)
    put(store, ckpt_key(NEWEST), b"junk")
    with pytest.raises(Corruption) as caught:
        reopen(store)
    assert caught.value.code == "checkpoint_corrupt"
    assert ckpt_key(NEWEST) in caught.value.message


# --- trimmed logs


def test_a_trimmed_log_opens_from_its_checkpoint_and_verifies(store):
    expected = dict(replay(store).manifests)
    trim(store, NEWEST)
    catalog = reopen(store)
    assert dict(catalog._state.manifests) == expected
    assert (catalog.seq, catalog._state.floor) == (LAST + 1, NEWEST)
    assert catalog.verify() == []
    put(store, HINT_KEY, b"8")
    assert reopen(store).notices == ()


def test_what_is_left_below_the_floor_is_no_problem(store):
    below = {
        key: store.get(key) for key in (log_key(EVERY - 1), log_key(NEWEST - 3), ckpt_key(EVERY))
    }
    trim(store, NEWEST)
    for key, data in below.items():
        put(store, key, data)
    put(store, log_key(NEWEST - 2), b"junk")
    assert reopen(store).verify() == []


def test_refresh_over_a_log_that_was_trimmed_past_us_opens_anew(store):
    old = reopen(filled({k: store.get(k) for k in store.list_after("") if k <= log_key(EVERY + 3)}))
    early = reopen(filled({k: store.get(k) for k in store.list_after("") if "ckpt" not in k}))
    for catalog in (old, early):
        catalog._store = store
    old._state = read_checkpoint(store, EVERY).state
    trim(store, NEWEST)
    assert old.refresh() == LAST + 1
    assert old.list() == reopen(store).list()
    assert early.refresh() == LAST + 1


def test_refresh_over_a_gap_that_was_not_trimmed_raises_and_serves_on(store):
    catalog = reopen(store)
    catalog._state = read_checkpoint(store, EVERY).state
    store.delete(log_key(EVERY + 1))
    with pytest.raises(Corruption) as caught:
        catalog.refresh()
    assert caught.value.code == "record_missing"
    assert catalog.seq == EVERY


@pytest.mark.parametrize("gap", [1, 2, 7])
@pytest.mark.parametrize("fault", [None, "landed", "landed_false", "landed_storage"])
def test_a_writer_that_slept_past_a_trimmed_log_commits_nothing_there(store, gap, fault):
    """The number after its own is free, but nobody reads what is put there."""
    sleeper = reopen(store, seed=9)
    trim(store, NEWEST)
    state = replay_to(store, NEWEST)
    sleeper._state = replace(state, seq=NEWEST - 1 - gap, head_sha256="ab" * 32)
    sleeper._store = FaultyStore(store, once("put", "/log/", fault) if fault else lambda *_: None)
    before = store.list_after("")
    with pytest.raises(Unavailable) as caught:
        sleeper.register([Registration("late", "f", ())])
    assert caught.value.code == "writer_too_old"
    assert caught.value.retryable
    assert store.list_after("") == before, "what it put is taken back"
    assert sleeper.seq == LAST + 1, "it knows the catalog as it is now"
    sleeper.register([Registration("late", "f", ())])
    assert "late" in [m.name for m in reopen(store).list()]
    assert reopen(store).verify() == []


def replay_to(store, seq):
    return read_checkpoint(store, seq).state


def test_planted_trust_in_every_put_would_lose_the_sleepers_commit(store, monkeypatch):
    monkeypatch.setattr(commit, "is_connected", lambda *_: True)
    sleeper = reopen(store, seed=9)
    trim(store, NEWEST)
    sleeper._state = replace(replay_to(store, NEWEST), seq=NEWEST - 5)
    sleeper.register([Registration("late", "f", ())])
    assert "late" not in [m.name for m in reopen(store).list()]


def test_a_commit_that_others_pass_by_a_checkpoint_is_in(store):
    """Between the put and the look at the checkpoints, others commit up to the next one."""
    faulty = FaultyStore(store)
    catalog = reopen(faulty, seed=9)

    def others():
        if faulty.calls and faulty.calls[-1] == ("put", log_key(LAST + 1)):
            faulty.calls.append(("others", ""))
            grow(store, 3 * EVERY - LAST, first=1000, seed=10)

    faulty.before = others
    catalog.register([Registration("mine", "f", ())])
    assert ckpt_key(3 * EVERY) in store.list_after(CKPT_PREFIX)
    assert "mine" in [m.name for m in reopen(store).list()]


def test_a_look_at_the_checkpoints_that_fails_is_repeated(store):
    faulty = FaultyStore(store, once("list", CKPT_PREFIX, "unavailable", "failed", "lost"))
    catalog = reopen(faulty, seed=9)
    [answer] = catalog.register([Registration("mine", "f", ())])
    assert answer.written
    assert catalog.seq == LAST + 1


def test_a_look_at_the_checkpoints_that_always_fails_is_an_unknown_outcome(store, monkeypatch):
    monkeypatch.setattr(commit, "ATTEMPTS_MAX", 4)
    catalog = reopen(store, seed=9)
    catalog._store = FaultyStore(
        store,
        lambda operation, key: "unavailable" if (operation, key) == ("list", CKPT_PREFIX) else None,
    )
    with pytest.raises(OutcomeUnknown):
        catalog.register([Registration("mine", "f", ())])
    assert reopen(store).get("mine").name == "mine"


def test_nothing_is_put_on_top_of_a_checkpoint_that_lies_about_its_head(full):
    """Without records behind it nothing contradicts it, but the first commit looks."""
    store = filled({key: data for key, data in full.items() if key <= log_key(NEWEST)})
    put(store, ckpt_key(NEWEST), lying(store, head_sha256="ab" * 32))
    before = store.list_after("")
    catalog = reopen(store)
    with pytest.raises(Corruption) as caught:
        catalog.register([Registration("x", "f", ())])
    assert caught.value.code == "checkpoint_foreign"
    assert store.list_after("") == before


def test_the_first_commit_behind_a_checkpoint_looks_at_its_record_once(full):
    store = filled({key: data for key, data in full.items() if key <= log_key(NEWEST)})
    counting = FaultyStore(store)
    catalog = reopen(counting)
    for number, expected in enumerate([["get", "get", "put", "list"], ["get", "put", "list"]]):
        counting.calls.clear()
        catalog.register([Registration(f"x/{number}", "f", ())])
        assert [call for call, _ in counting.calls] == expected


# --- clocks


def test_a_clock_that_goes_backwards_does_not_take_the_log_along():
    store = MemoryStore()
    create(store)
    catalog = reopen(store, clock=ManualClock(step_seconds=-60))
    for number in range(20):
        catalog.register([Registration("a", "f", (), number)])
    times = [decode_record(store.get(log_key(seq)), "").committed_at for seq in range(1, 21)]
    assert times == sorted(times)
    assert reopen(store).verify() == []
    assert reopen(store)._state.committed_at == times[-1]


def test_the_checkpoint_names_the_format_object_by_its_hash(store):
    assert load(store).state.anchor_sha256 == decode_anchor(store.get(FORMAT_KEY)).sha256
    data = encode_checkpoint(load(store).state, writer="x")
    assert changed(data, floor="0") is not None
