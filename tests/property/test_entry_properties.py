"""Any entry comes back as it went in; no bytes make the decoder fail in another way."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import Corruption
from workbench.model.keys import Span
from workbench.model.routes import seed_routes
from workbench.replica.commands import (
    Bootstrap,
    CollectGarbage,
    Mutation,
    OwnedSpan,
    Pin,
    Precondition,
    SetSafePoint,
    SplitRange,
    Unpin,
    WriteBatch,
)
from workbench.replica.entry import decode_entry, encode_command, encode_entry

U64 = st.integers(0, 2**64 - 1)
BYTES = st.binary(max_size=20)
MUTATIONS = st.builds(Mutation, BYTES, st.none() | BYTES, st.just(0)) | st.builds(
    Mutation, BYTES, BYTES, st.integers(1, 2**64 - 1)
)
PRECONDITIONS = st.lists(st.builds(Precondition, BYTES, st.none() | U64), max_size=3).map(tuple)
BATCHES = st.builds(
    WriteBatch, st.lists(MUTATIONS, max_size=6).map(tuple), BYTES, U64, PRECONDITIONS
)
IDS = st.binary(min_size=16, max_size=16)
GARBAGE = (
    st.builds(SetSafePoint, U64)
    | st.builds(Pin, IDS, U64)
    | st.builds(Unpin, IDS)
    | st.builds(CollectGarbage, st.integers(0, 2**32 - 1))
)
SPLITS = st.builds(SplitRange, U64, U64, BYTES, BYTES)
CUTS = st.lists(st.binary(min_size=1, max_size=4), max_size=4, unique=True).map(sorted)


def spans_of(cuts):
    bounds = [b"", *cuts, None]
    return tuple(
        OwnedSpan(Span(start, end), number)
        for number, (start, end) in enumerate(pairwise(bounds), start=1)
    )


BOOTSTRAPS = st.builds(
    lambda owned, routed: Bootstrap(spans_of(owned), seed_routes(routed)), CUTS, CUTS
)
COMMANDS = BATCHES | SPLITS | BOOTSTRAPS | GARBAGE
ENTRIES = st.tuples(
    st.lists(COMMANDS, max_size=5), st.lists(st.integers(1, 2**64 - 2), min_size=5, unique=True)
)


@given(ENTRIES)
def test_an_entry_comes_back_as_it_went_in(made):
    commands, stamps = made
    stamped = list(zip(sorted(stamps), commands, strict=False))
    ceiling = max((at for at, _ in stamped), default=0) + 1
    data = encode_entry(ceiling, [(at, encode_command(each)) for at, each in stamped])
    decoded = decode_entry(data)
    assert decoded.ceiling == ceiling
    assert [(each.commit_ts, each.command) for each in decoded.commands] == stamped
    assert len(data) == 13 + sum(encode_command(each).size for _, each in stamped)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_corruption(data):
    with contextlib.suppress(Corruption):
        decode_entry(data)


@given(ENTRIES, st.data())
def test_a_changed_byte_is_corruption_or_another_entry_in_the_same_bytes(made, data):
    commands, stamps = made
    stamped = list(zip(sorted(stamps), commands, strict=False))
    whole = bytearray(encode_entry(2**64 - 1, [(at, encode_command(each)) for at, each in stamped]))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Corruption):
        decoded = decode_entry(bytes(whole))
        again = [(each.commit_ts, encode_command(each.command)) for each in decoded.commands]
        assert encode_entry(decoded.ceiling, again) == whole


@given(ENTRIES, st.data())
def test_a_cut_entry_is_always_corruption(made, data):
    commands, stamps = made
    stamped = list(zip(sorted(stamps), commands, strict=False))
    whole = encode_entry(2**64 - 1, [(at, encode_command(each)) for at, each in stamped])
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Corruption) as caught:
        decode_entry(whole[:cut])
    assert caught.value.code == "entry_malformed"
