"""Every single-byte change of a record and of FORMAT is found, and so is every truncation.

The checker is proven: with a codec that does not check the hash, the same sweep fails.
"""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.catalog import anchor as anchor_module
from workbench.catalog import record as record_module
from workbench.catalog.anchor import FORMAT_SEAL, decode_anchor, encode_anchor
from workbench.catalog.record import RECORD_SEAL, Entry, Record, decode_record, encode_record
from workbench.catalog.seal import DIGITS, Seal
from workbench.errors import Corruption, InvalidInput, WorkbenchError
from workbench.model.manifest import Manifest, ObjectRef, dataset_id_of

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


RECORD = encode_record(make_record())
FORMAT = encode_anchor(uuid.UUID(int=3))
DECODERS = {
    "record": (RECORD, lambda data: decode_record(data, "k")),
    "format": (FORMAT, decode_anchor),
}


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
    monkeypatch.setattr(anchor_module, "FORMAT_SEAL", Unchecked(FORMAT_SEAL.marker))
    # Only over the texts that the footer carries: elsewhere a changed Parquet file, once the
    # hash does not stop it, can make pyarrow abort the process.
    for (data, decode), first in zip(DECODERS.values(), (b"workbench.format", b"{"), strict=True):
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
