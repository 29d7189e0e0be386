"""Every single-byte change of a record, a checkpoint and FORMAT is found, and every truncation.

The checker is proven: with a codec that does not check the hash, the same sweep fails. Then
random changes of any object of a catalog go through open and refresh: either the change does no
harm, or nothing is loaded and the old state is still served.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.test_catalog_checkpoint import comparable, grow
from unit.test_catalog_faults import ManualClock, SeededRng, create, reopen

from workbench.catalog import anchor as anchor_module
from workbench.catalog import checkpoint as checkpoint_module
from workbench.catalog import commit
from workbench.catalog import record as record_module
from workbench.catalog.anchor import FORMAT_SEAL, decode_anchor, encode_anchor
from workbench.catalog.catalog import Catalog
from workbench.catalog.checkpoint import decode_checkpoint, encode_checkpoint
from workbench.catalog.index import Index
from workbench.catalog.layout import (
    CATALOG_PREFIX,
    CKPT_PREFIX,
    FORMAT_KEY,
    HINT_KEY,
    ckpt_key,
    log_key,
)
from workbench.catalog.record import (
    RECORD_SEAL,
    Entry,
    Record,
    Upkeep,
    decode_record,
    encode_record,
)
from workbench.catalog.registry import State
from workbench.catalog.seal import DIGITS, Seal
from workbench.errors import Corruption, InvalidInput, WorkbenchError
from workbench.model.manifest import Manifest, ObjectRef, dataset_id_of
from workbench.stores.memory import MemoryStore

AT = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)


def make_record(writer="host/1", fingerprint="f" * 64, properties=(("unit", "ms"),), datasets=3):
    entries = tuple(
        Entry(
            "put",
            Manifest(
                dataset_id=dataset_id_of(name),
                name=name,
                schema_fingerprint=fingerprint,
                objects=(
                    ObjectRef(f"data/{name}/part-00000.parquet", 12345 + number, f"{number:064x}"),
                    ObjectRef(f"data/{name}/part-00001.parquet", 99, None),
                ),
                created_at=AT,
                updated_at=AT,
                row_count=None if number else 10,
                properties=dict(properties),
            ),
        )
        for number, name in enumerate(f"load/{n}" for n in range(datasets))
    )
    return Record(uuid.UUID(int=1), 7, uuid.UUID(int=2), writer, "ab" * 32, AT, entries)


def make_format_1():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_module, "RECORD_FORMAT", record_module.RECORD_FORMAT_1)
        patch.setattr(record_module, "SCHEMA", record_module.SCHEMA_1)
        return encode_record(make_record())


def make_upkeep():
    condemned = (ObjectRef("data/a/b/part-00000.parquet", 3), ObjectRef("data/c", 0, "c" * 64))
    upkeep = Upkeep(floor=5, condemned=condemned, swept=("data/d/e", "data/f"))
    return encode_record(replace(make_record(datasets=1), upkeep=upkeep))


def make_checkpoint():
    state = State(
        catalog_uuid=uuid.UUID(int=1),
        seq=64,
        head_sha256="ab" * 32,
        manifests=Index.of({e.manifest.name: e.manifest for e in make_record().entries}),
        committed_at=AT,
        floor=3,
        condemned={"data/x": AT, "data/y": AT},
        anchor_sha256="cd" * 32,
    )
    return encode_checkpoint(state, writer="host/1")


RECORD = encode_record(make_record())
FORMAT_1 = make_format_1()
UPKEEP = make_upkeep()
CHECKPOINT = make_checkpoint()
FORMAT = encode_anchor(uuid.UUID(int=3))
DECODERS = {
    "record": (RECORD, lambda data: decode_record(data, "k")),
    "record of format 1": (FORMAT_1, lambda data: decode_record(data, "k")),
    "record with upkeep": (UPKEEP, lambda data: decode_record(data, "k")),
    "checkpoint": (CHECKPOINT, lambda data: decode_checkpoint(data, 64)),
    "format": (FORMAT, decode_anchor),
}


def test_the_kinds_are_what_they_are_called():
    assert decode_record(FORMAT_1, "k").version == 1
    assert decode_record(UPKEEP, "k").upkeep is not None
    assert len(decode_checkpoint(CHECKPOINT, 64).state.manifests) == 3


def outcomes(data, decode, masks) -> Counter[str]:
    """Flip every byte of `data` with every mask, one at a time; count what decoding does."""
    counts: Counter[str] = Counter()
    buffer = bytearray(data)
    for position in range(len(buffer)):
        for mask in masks(position):
            buffer[position] ^= mask
            try:
                decode(bytes(buffer))
            except Corruption:
                counts["found"] += 1
            except WorkbenchError as error:
                counts[error.code] += 1
            else:
                counts["missed"] += 1
            buffer[position] ^= mask
    assert bytes(buffer) == data
    return counts


def one_bit(position):
    return (1 << position % 8, 0xFF)


def all_bits(position):
    return [1 << bit for bit in range(8)] if position % 7 == 0 else []


@pytest.mark.parametrize("what", DECODERS)
@pytest.mark.parametrize("masks", [one_bit, all_bits])
def test_every_changed_byte_is_found(what, masks):
    data, decode = DECODERS[what]
    decode(data)
    expected = sum(len(masks(position)) for position in range(len(data)))
    assert outcomes(data, decode, masks) == {"found": expected}


@pytest.mark.parametrize("what", DECODERS)
def test_every_truncation_is_found(what):
    data, decode = DECODERS[what]
    for length in range(len(data)):
        with pytest.raises(Corruption):
            decode(data[:length])


@pytest.mark.parametrize("what", DECODERS)
def test_bytes_added_at_either_end_are_found(what):
    data, decode = DECODERS[what]
    for changed in (data + b"\0", b"\0" + data, data + data, data + b"\n"):
        with pytest.raises(Corruption):
            decode(changed)


class Unchecked(Seal):
    """The planted fault: finds the digits and believes them."""

    __slots__ = ()

    def check(self, data: bytes) -> str:
        start = data.rfind(self.marker) + len(self.marker)
        return data[start : start + DIGITS].decode("latin-1")


def test_without_the_hash_check_the_same_sweep_misses_many_changes(monkeypatch):
    monkeypatch.setattr(record_module, "RECORD_SEAL", Unchecked(RECORD_SEAL.marker))
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_SEAL", Unchecked(RECORD_SEAL.marker))
    monkeypatch.setattr(anchor_module, "FORMAT_SEAL", Unchecked(FORMAT_SEAL.marker))
    # Only over the texts that the footer carries: elsewhere a changed Parquet file, once the
    # hash does not stop it, can make pyarrow abort the process.
    for what, (data, decode) in DECODERS.items():
        first = b"{" if what == "format" else b"workbench.format"
        start, end = data.find(first), data.rfind(b"sha256") + 80
        counts = outcomes(
            data,
            decode,
            lambda position: [1] if start <= position < end else [],  # noqa: B023
        )
        assert counts["missed"] > (end - start) // 5, "the sweep would not see a missing check"


@given(
    position=st.integers(0, len(RECORD) - 1),
    replacement=st.binary(min_size=1, max_size=80),
)
@settings(deadline=None, max_examples=300)
def test_any_overwritten_stretch_is_found(position, replacement):
    changed = RECORD[:position] + replacement + RECORD[position + len(replacement) :]
    if changed == RECORD:
        return
    with pytest.raises(Corruption):
        decode_record(changed, "k")


@given(junk=st.binary(max_size=2000))
@settings(deadline=None, max_examples=300)
def test_junk_is_never_anything_but_corruption(junk):
    for data in (junk, RECORD_SEAL.marker + b"0" * 64 + junk, b"PAR1" + junk + b"PAR1"):
        with pytest.raises(Corruption):
            decode_record(data, "k")
    with pytest.raises((Corruption, InvalidInput)):
        decode_anchor(junk)


@given(junk=st.binary(max_size=500))
@settings(deadline=None, max_examples=300)
def test_sealed_junk_is_never_anything_but_corruption(junk):
    """Somebody who can compute the hash still cannot make the reader do anything but refuse."""
    sealed = RECORD_SEAL.stamp(b"PAR1" + junk + RECORD_SEAL.marker + b"0" * 64 + junk[:9] + b"PAR1")
    with pytest.raises(Corruption):
        decode_record(sealed, "k")


TEXT = st.text(max_size=60) | st.sampled_from(
    [
        (RECORD_SEAL.marker + b"0" * 64).decode("latin-1"),
        "workbench.sha256\x18@" + "0" * 64,
        "\x18\x10workbench.sha256\x18@" + "f" * 64,
        '"sha256": "' + "0" * 64,
        "workbench.parent_seq",
        "\0",
    ]
)


@given(
    writer=TEXT.filter(bool),
    fingerprint=TEXT.filter(bool),
    properties=st.dictionaries(TEXT, TEXT, max_size=4),
    datasets=st.integers(1, 4),
)
@settings(deadline=None, max_examples=150)
def test_any_text_round_trips_and_cannot_fool_the_seal(writer, fingerprint, properties, datasets):
    record = make_record(writer, fingerprint, properties.items(), datasets)
    data = encode_record(record)
    assert decode_record(data, "k") == record
    assert encode_record(record) == data, "the same record gives the same bytes"


@pytest.mark.parametrize("where", ["writer", "fingerprint", "property"])
def test_every_changed_byte_is_found_also_where_text_imitates_the_seal(where):
    lure = (RECORD_SEAL.marker + b"a" * 64).decode("latin-1")
    changes = {
        "writer": {"writer": lure},
        "fingerprint": {"fingerprint": lure},
        "property": {"properties": ((lure, lure),)},
    }
    data = encode_record(make_record(datasets=1, **changes[where]))
    assert data.count(RECORD_SEAL.marker) >= 2
    counts = outcomes(data, lambda one: decode_record(one, "k"), lambda _: [0x01])
    assert counts == {"found": len(data)}


# --- through open and refresh

RECORDS = 11
OPENED_AT = 7


class Damaged:
    """A catalog with checkpoints at 3, 6 and 9, of which one object can be changed."""

    def __init__(self) -> None:
        store = MemoryStore()
        create(store)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commit, "CHECKPOINT_RECORDS", 3)
            grow(store, RECORDS, datasets=5)
        self.objects = {key: store.get(key) for key in store.list_after(CATALOG_PREFIX)}
        self.whole = comparable(reopen(store)._state)
        # Opened before the last records came.
        early = self.store(HINT_KEY, b"6", last=OPENED_AT)
        early.delete(ckpt_key(9))
        self.early = reopen(early)._state

    def store(self, key, data, last=RECORDS) -> MemoryStore:
        store = MemoryStore()
        for each, original in {**self.objects, key: data}.items():
            if not log_key(last) < each < log_key(10**9):
                store.put_if_absent(each, original)
        return store

    def outcome(self, key: str, data: bytes) -> str:
        """Return what a change comes to; assert that no other state is ever served."""
        store = self.store(key, data)
        old = Catalog(store, self.early, clock=ManualClock(), rng=SeededRng(), writer="test")
        before = comparable(old._state)
        ends = []
        try:
            fresh = reopen(store)
        except (Corruption, InvalidInput):
            ends.append("nothing was loaded")
        else:
            assert comparable(fresh._state) == self.whole, "another state was loaded"
            ends.append("passed over" if fresh.notices else "no harm")
        try:
            old.refresh()
        except Corruption:
            assert comparable(old._state) == before, "the old state is not served any more"
            ends.append("the old state is served")
        else:
            assert comparable(old._state) == self.whole, "another state is served"
            ends.append("no harm")
        return ", ".join(ends)


def test_of_random_changes_none_is_served_and_the_old_state_stays():
    damaged, rng = Damaged(), random.Random(4)
    ends: Counter[tuple[str, str]] = Counter()
    for _ in range(500):
        key = rng.choice(list(damaged.objects))
        data = bytearray(damaged.objects[key])
        position = rng.randrange(len(data))
        data[position] ^= rng.randrange(1, 256)
        kind = key.removeprefix(CATALOG_PREFIX).partition("/")[0]
        ends[kind, damaged.outcome(key, bytes(data))] += 1
    assert set(ends) == {
        ("FORMAT", "no harm, no harm"),
        ("hint", "no harm, no harm"),
        ("ckpt", "no harm, no harm"),  # one that the hint does not name
        ("ckpt", "passed over, no harm"),
        ("log", "no harm, no harm"),  # before the checkpoint
        ("log", "no harm, the old state is served"),  # before it, but to be read by who is older
        ("log", "nothing was loaded, the old state is served"),
    }
    assert all(count > 5 for count in ends.values())


def test_a_planted_reader_that_believes_checkpoints_is_found(monkeypatch):
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_SEAL", Unchecked(RECORD_SEAL.marker))
    damaged = Damaged()
    key = max(key for key in damaged.objects if key.startswith(CKPT_PREFIX))
    data = damaged.objects[key]
    start = data.rfind(b"workbench.floor") + len(b"workbench.floor") + 2
    changed = data[:start] + b"3" + data[start + 1 :]
    assert changed != data
    with pytest.raises(AssertionError, match="another state was loaded"):
        damaged.outcome(key, changed)


def test_format_and_every_checkpoint_damaged_at_once_loads_nothing():
    damaged = Damaged()
    store = damaged.store(FORMAT_KEY, b"junk")
    for key in store.list_after(CKPT_PREFIX):
        store.replace(key, b"junk")
    with pytest.raises(Corruption):
        reopen(store)
