"""Checkpoints: what they hold, when they are written, and what is refused in them."""

from __future__ import annotations

import io
import uuid
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.test_catalog_faults import START, FaultyStore, always, create, once, reopen
from unit.test_catalog_index import manifest, over

from workbench.catalog import checkpoint as checkpoint_module
from workbench.catalog.catalog import Registration
from workbench.catalog.checkpoint import (
    CHECKPOINT_RECORDS,
    CHECKPOINT_SEAL,
    decode_checkpoint,
    encode_checkpoint,
    parse_hint,
    read_checkpoint,
    read_hint,
    write_checkpoint,
    write_hint,
)
from workbench.catalog.index import Index
from workbench.catalog.layout import (
    CKPT_PREFIX,
    HINT_KEY,
    LOG_PREFIX,
    ckpt_key,
    ckpt_seq_of,
    log_key,
    seq_of,
)
from workbench.catalog.record import MANIFEST_SCHEMA
from workbench.catalog.registry import State
from workbench.errors import Corruption, InvalidInput, OutcomeUnknown
from workbench.stores.memory import MemoryStore

MANIFESTS = {name: manifest(name, 1, n) for n, name in enumerate(["a", "b/c", "b/d", "z"])}
STATE = State(
    catalog_uuid=uuid.UUID(int=7),
    seq=64,
    head_sha256="ab" * 32,
    manifests=Index.of(MANIFESTS),
    committed_at=START,
    floor=3,
    condemned={
        "data/x/1": START - timedelta(days=2),
        "data/x/2": START - timedelta(days=1),
        "data/w/3": START - timedelta(days=2),
    },
    anchor_sha256="cd" * 32,
)


def grow(store, records, *, first=0, datasets=None, seed=1):
    """Commit records that each register one dataset; return the catalog."""
    catalog = reopen(store, seed=seed)
    for number in range(first, first + records):
        name = f"d/{number if datasets is None else number % datasets}"
        catalog.register([Registration(name, "f", (), number, {"n": str(number)})])
    return catalog


def restored(data, seq=64):
    state = decode_checkpoint(data, seq).state
    return replace(state, manifests=Index.of(dict(state.manifests)))


def comparable(state):
    return replace(state, manifests=dict(state.manifests), condemned=dict(state.condemned))


# --- what it holds


def test_a_checkpoint_gives_back_the_state_it_was_made_of():
    data = encode_checkpoint(STATE, writer="me")
    found = decode_checkpoint(data, 64)
    assert comparable(found.state) == comparable(STATE)
    assert found.writer == "me"
    assert found.state.manifests.names("b/") == ["b/c", "b/d"]


def test_the_same_state_gives_the_same_bytes_whatever_it_came_from():
    data = encode_checkpoint(STATE, writer="me")
    again = replace(STATE, manifests=over(MANIFESTS).updated({"q": manifest("q")}))
    again = replace(again, manifests=again.manifests.updated({"q": None}))
    assert encode_checkpoint(again, writer="me") == data
    assert encode_checkpoint(decode_checkpoint(data, 64).state, writer="me") == data


def test_an_empty_catalog_has_a_checkpoint_too():
    empty = replace(STATE, manifests=Index.of({}), condemned={}, floor=0)
    found = decode_checkpoint(encode_checkpoint(empty, writer="me"), 64).state
    assert comparable(found) == comparable(empty)
    assert found.manifests.names() == []


def test_the_footer_is_as_the_format_says_and_the_seal_is_last():
    data = encode_checkpoint(STATE, writer="me")
    pairs = pq.read_metadata(pa.BufferReader(data)).metadata
    expected = {
        "workbench.format": "workbench.catalog.checkpoint/1",
        "workbench.catalog_uuid": str(uuid.UUID(int=7)),
        "workbench.seq": "64",
        "workbench.head_sha256": "ab" * 32,
        "workbench.anchor_sha256": "cd" * 32,
        "workbench.committed_at": START.isoformat(),
        "workbench.floor": "3",
        "workbench.condemned_rows": "2",
        "workbench.writer": "me",
    }
    assert {k: pairs[k.encode()].decode() for k in expected} == expected
    assert set(pairs) - {k.encode() for k in expected} == {b"workbench.sha256"}
    assert data.rfind(b"workbench.sha256") > max(data.rfind(k.encode()) for k in expected)


def test_keys_of_checkpoints_are_not_keys_of_records():
    assert ckpt_seq_of(ckpt_key(64)) == 64
    for other in (log_key(64), ckpt_key(0), ckpt_key(64) + "x", f"{CKPT_PREFIX}64.parquet"):
        assert ckpt_seq_of(other) is None
    assert seq_of(ckpt_key(64)) is None


# --- what is refused


def changed(data, *, rows=None, **footer):
    """Return a checkpoint that is sealed well but says something else."""
    table = pq.read_table(pa.BufferReader(data))
    pairs = pq.read_metadata(pa.BufferReader(data)).metadata
    order = sorted(pairs, key=lambda k: data.rfind(b"\x18" + bytes([len(k)]) + k))
    found = {k.decode(): pairs[k].decode() for k in order}
    found.pop("workbench.sha256")
    found.update({f"workbench.{key}": value for key, value in footer.items()})
    found["workbench.sha256"] = "0" * 64
    listed = table.to_pylist()
    if rows is not None:
        rows(listed)
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, MANIFEST_SCHEMA, store_schema=False) as writer:
        writer.write_table(pa.Table.from_pylist(listed, schema=MANIFEST_SCHEMA))
        writer.add_key_value_metadata(found)
    return CHECKPOINT_SEAL.stamp(sink.getvalue())


DATA = encode_checkpoint(STATE, writer="me")


def test_resealing_itself_makes_checkpoints_that_load():
    assert comparable(restored(changed(DATA))) == comparable(STATE)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "carries no hash"),
        (DATA[:-1], "SHA-256"),
        (DATA + b"x", "SHA-256"),
        (changed(DATA, seq="63"), "says that it is the checkpoint at 63"),
        (changed(DATA, seq="many"), "cannot be read"),
        (changed(DATA, floor="65"), "no place in a chain"),
        (changed(DATA, floor="-1"), "no place in a chain"),
        (changed(DATA, head_sha256="x"), "no place in a chain"),
        (changed(DATA, anchor_sha256=""), "no place in a chain"),
        (changed(DATA, catalog_uuid="x"), "cannot be read"),
        (changed(DATA, committed_at="soon"), "cannot be read"),
        (changed(DATA, condemned_rows="99"), "99 rows without a name"),
        (changed(DATA, condemned_rows="-1"), "-1 rows without a name"),
        (changed(DATA, condemned_rows="1"), "out of order"),
        (changed(DATA, condemned_rows="3"), "names a dataset among condemned"),
        (changed(DATA, rows=lambda rows: rows.reverse(), condemned_rows="0"), "out of order"),
        (changed(DATA, rows=lambda rows: rows.append(rows[-1])), "out of order"),
        (changed(DATA, rows=lambda rows: rows[0]["objects"][0].update(key="../x")), "object key"),
    ],
)
def test_a_checkpoint_that_makes_no_sense_is_corruption(data, reason):
    with pytest.raises(Corruption, match=reason) as caught:
        decode_checkpoint(data, 64)
    assert caught.value.code == "checkpoint_corrupt"
    assert ckpt_key(64) in caught.value.message


def test_a_newer_format_is_named_with_both():
    with pytest.raises(Corruption) as caught:
        decode_checkpoint(changed(DATA, format="workbench.catalog.checkpoint/2"), 64)
    assert caught.value.code == "checkpoint_format_unsupported"
    assert "checkpoint/2', this workbench reads 'workbench.catalog.checkpoint/1'" in str(
        caught.value
    )


@pytest.mark.parametrize("limit", ["CHECKPOINT_BYTES_MAX", "UNPACKED_BYTES_MAX", "VALUES_MAX"])
def test_sizes_are_limited_before_anything_is_unpacked(monkeypatch, limit):
    monkeypatch.setattr(checkpoint_module, limit, 5)
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    with pytest.raises(Corruption, match=r"declares|the most is 5"):
        decode_checkpoint(DATA, 64)


def test_a_checkpoint_over_the_limit_is_not_written(monkeypatch):
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_BYTES_MAX", 100)
    with pytest.raises(InvalidInput) as caught:
        encode_checkpoint(STATE, writer="me")
    assert caught.value.code == "checkpoint_too_large"


# --- the hint


@pytest.mark.parametrize(
    "data",
    [b"", b"0", b"-1", b"x", b"64 ", b"6" * 21, b"\xff\xfe", b"1" * 1000, b"64\n\n", b" 64"],
    ids=repr,
)
def test_a_hint_that_makes_no_sense_names_nothing(data):
    assert parse_hint(data) is None


def test_a_hint_moves_forward_only_unless_what_it_names_is_not_there():
    store = MemoryStore()
    write_hint(store, 64)
    assert read_hint(store) == 64
    write_hint(store, 128)
    store.put_if_absent(ckpt_key(128), b"any")
    write_hint(store, 64)
    assert read_hint(store) == 128
    store.replace(HINT_KEY, b"%020d\n" % 10**15)
    write_hint(store, 64)
    assert read_hint(store) == 64


# --- when it is written


def test_every_sixty_fourth_record_is_followed_by_a_checkpoint_and_a_hint():
    store = MemoryStore()
    create(store)
    grow(store, CHECKPOINT_RECORDS - 1)
    assert store.list_after(CKPT_PREFIX) == []
    grow(store, 1, first=63)
    assert store.list_after(CKPT_PREFIX) == [ckpt_key(64)]
    grow(store, 2 * 64, first=64)
    assert store.list_after(CKPT_PREFIX) == [ckpt_key(n) for n in (64, 128, 192)]
    assert read_hint(store) == 192
    found = read_checkpoint(store, 128).state
    assert len(found.manifests) == 128
    assert found.manifests["d/100"].properties == {"n": "100"}


@pytest.mark.parametrize("operation", ["put", "replace"])
@pytest.mark.parametrize("fault", ["full", "lost", "unavailable", "failed"])
def test_a_checkpoint_that_fails_is_no_error_of_the_commit(operation, fault):
    store = MemoryStore()
    create(store)
    grow(store, 63)
    part = "/ckpt/" if operation == "put" else "hint"
    faulty = FaultyStore(store, always(operation, part, fault))
    catalog = grow(faulty, 1, first=63)
    assert catalog.seq == 64
    assert reopen(store).list() == catalog.list()
    assert len(store.list_after(LOG_PREFIX)) == 64


@pytest.mark.parametrize("fault", ["landed", "landed_storage", "landed_false", "delayed"])
def test_who_finds_its_sixty_fourth_record_again_writes_the_checkpoint(fault):
    store = MemoryStore()
    create(store)
    grow(store, 63)
    grow(FaultyStore(store, once("put", log_key(64), fault)), 1, first=63)
    assert store.list_after(CKPT_PREFIX) == [ckpt_key(64)]


def test_a_checkpoint_that_is_there_is_kept():
    store = MemoryStore()
    create(store)
    state = grow(store, 3)._state
    assert write_checkpoint(store, state, writer="one")
    assert not write_checkpoint(store, state, writer="two")
    assert read_checkpoint(store, 3).writer == "one"


def test_a_checkpoint_whose_answer_was_lost_is_there():
    store = MemoryStore()
    create(store)
    state = grow(store, 3)._state
    faulty = FaultyStore(store, once("put", "ckpt", "landed"))
    with pytest.raises(OutcomeUnknown):
        write_checkpoint(faulty, state, writer="one")
    assert comparable(read_checkpoint(store, 3).state) == comparable(state)
