"""Exports against a plain list of versions: every cut, every cursor, every bound; and back again.

The checkers of this file are tried on planted faults at its end.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_replica_history import ID, Group, part, rows_of
from workbench.errors import InvalidInput
from workbench.model.keys import Span
from workbench.mvcc import export as export_module
from workbench.mvcc.block import ROW_BYTES, block_of, decode_block, encode_block, engine_pairs
from workbench.mvcc.encoding import encode_value, version_key
from workbench.replica import replica as replica_module
from workbench.replica.commands import (
    BeginRestore,
    EndRestore,
    Mutation,
    OwnedSpan,
    Refused,
    WriteBatch,
)
from workbench.replica.replica import Replica

KEYS = st.lists(st.sampled_from([0x00, 0x01, 0x21, 0x61, 0xFF]), max_size=3).map(bytes)
VALUES = st.none() | st.binary(max_size=40)
BATCHES = st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), max_size=12)
LIMITS = st.sampled_from([1, 30, 90, 10_000])
BOUNDS = st.tuples(KEYS, st.none() | KEYS).filter(lambda each: each[1] is None or each[0] < each[1])
SPANS = st.sampled_from(
    [
        (OwnedSpan(Span(b"", None), 1),),
        (OwnedSpan(Span(b"", b"!"), 1), OwnedSpan(Span(b"!", b"a"), 2)),
        (OwnedSpan(Span(b"\x00", b"\x01\x00"), 1), OwnedSpan(Span(b"a", None), 4)),
    ]
)


def grown(batches, spans):
    """Return a group with this history, and the history as (key, commit_ts, value)."""
    group = Group(spans, is_catalog=False)
    history = []
    for batch in batches:
        owned = {
            key: value
            for key, value in batch.items()
            if any(key in each.span for each in spans) and not key.startswith(b"!dist|")
        }
        if owned:
            commit_ts = group.write(*owned.items())
            history += [(key, commit_ts, value) for key, value in owned.items()]
    return group, sorted(history, key=lambda row: (row[0], -row[1]))


def check_export(batches, spans, chunk, scanned):
    """Compare an export of these limits, and its rest behind each cursor, with the model."""
    group, history = grown(batches, spans)
    for read_ts in {group.now, *(ts for _, ts, _ in history[::3])}:
        expected = [row for row in history if row[1] <= read_ts]
        passed = []
        for page in group.export(read_ts, chunk=chunk, scanned=scanned):
            rows = rows_of(page.block)
            assert sum(len(k) + len(encode_value(v)) + ROW_BYTES for k, _, v in rows) <= chunk or (
                len(rows) == 1
            )
            passed += rows
            if page.cursor is not None and len(history) < 12:
                rest = group.rows(read_ts, after=page.cursor)
                assert passed + rest == expected
        assert passed == expected


@settings(max_examples=60, deadline=None)
@given(BATCHES, SPANS, LIMITS, LIMITS)
def test_an_export_is_the_history_whatever_the_pages(batches, spans, chunk, scanned):
    check_export(batches, spans, chunk, scanned)


@settings(max_examples=40, deadline=None)
@given(BATCHES, BOUNDS, LIMITS)
def test_an_export_of_a_range_is_that_part_of_the_history(batches, bounds, chunk):
    group, history = grown(batches, (OwnedSpan(Span(b"", None), 1),))
    start, end = bounds
    expected = [row for row in history if start <= row[0] and (end is None or row[0] < end)]
    assert group.rows(bounds=bounds, chunk=chunk) == expected


@settings(max_examples=40, deadline=None)
@given(BATCHES, SPANS, LIMITS, st.randoms(use_true_random=False))
def test_what_was_exported_and_imported_is_the_same_at_every_read_ts(batches, spans, chunk, rng):
    group, history = grown(batches, spans)
    restored = Group(spans, is_catalog=False, now_ms=5_000)
    restored.begin()
    pages = [rows_of(page.block) for page in group.export(chunk=chunk)]
    rng.shuffle(pages)
    for seq, rows in enumerate(pages, start=1):
        rng.shuffle(rows)
        cut = rng.randrange(len(rows) + 1)
        if cut and cut < len(rows):
            restored.load(seq, *rows[:cut], last=False)
            restored.load(seq, *rows[cut:], offset=cut)
        else:
            restored.load(seq, *rows)
        for _ in range(rng.randrange(2)):
            restored.load(rng.randrange(1, seq + 1), *rows)
    if rng.randrange(2):
        # What the engine had not flushed is gone; the log brings it again.
        again = Replica(1, restored.engine.after_crash(), is_catalog=False)
        for entry in restored.log:
            again.apply(entry)
        assert again._engine.rows == restored.engine.rows
        restored.replica, restored.engine = again, again._engine
    restored.apply(EndRestore(ID))
    assert restored.rows() == history
    keys = sorted({key for key, _, _ in history})
    for read_ts in {ts + delta for _, ts, _ in history for delta in (-1, 0)}:
        for key in keys:
            assert restored.value(key, read_ts) == group.value(key, read_ts)
    if keys:
        assert restored.write((keys[0], b"after")) > max(ts for _, ts, _ in history)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), KEYS, st.integers(0, 3)), max_size=14))
def test_commands_of_a_restore_in_any_order_leave_a_history_or_nothing(steps):
    """Whatever comes: while restoring nothing is read, rows are those of imports 1, 2, 3 …"""
    group = Group(is_catalog=False)
    taken: list[tuple[bytes, int, bytes | None]] = []
    written = []
    for kind, key, number in steps:
        rows = [(key + bytes([number]), 1_000 + number, b"v%d" % number)]
        command = [
            BeginRestore(ID, group.spans),
            BeginRestore(b"x" * 16, group.spans),
            part(number, rows),
            part(number, rows, last=False),
            EndRestore(ID),
            WriteBatch((Mutation(key, b"w"),)),
        ][kind]
        before = group.replica._restore.status
        [result] = group.apply_all(command)
        after = group.replica._restore.status
        if kind in {0, 1} and not isinstance(result, Refused) and not before.restoring:
            assert not written or after == before
        if after.rows > before.rows:
            assert before.restoring
            assert (before.restore_id, before.seq + 1, before.offset) == (ID, number, 0)
            taken += rows
        if kind == 5:
            assert isinstance(result, Refused) == before.restoring
            written += [] if before.restoring else [key]
    if not group.replica._restore.status.restoring:
        rows = [row for row in group.rows() if row[1] < 10_000]
        assert rows == sorted(set(taken), key=lambda row: (row[0], -row[1]))


@given(st.lists(st.tuples(KEYS | st.binary(max_size=30), st.integers(1, 2**64 - 1), VALUES)))
def test_a_block_comes_back_and_gives_the_engines_own_pairs(rows):
    block = block_of(rows)
    assert len(encode_block(block)) == block.size
    assert rows_of(block) == rows
    assert engine_pairs(b"p\x00", block) == [
        (version_key(b"p\x00", key, ts), encode_value(value)) for key, ts, value in rows
    ]


@given(st.lists(st.tuples(KEYS, st.integers(1, 9), VALUES), min_size=1, max_size=4), st.data())
def test_a_block_of_other_bytes_is_another_block_or_none(rows, data):
    packed = encode_block(block_of(rows))
    at = data.draw(st.integers(0, len(packed) - 1))
    damaged = data.draw(
        st.sampled_from([packed[:at], packed[:at] + packed[at + 1 :], packed + b"\x00"])
        | st.integers(1, 255).map(
            lambda bits: packed[:at] + bytes([packed[at] ^ bits]) + packed[at + 1 :]
        )
    )
    try:
        found = decode_block(damaged)
    except InvalidInput as error:
        refusal = error
    else:
        assert encode_block(found) == damaged
        assert len(rows_of(found)) == found.count
        return
    assert refusal.code == "version_block_malformed"
    assert "offset" in refusal.message


def _inclusive(prefix, cursor):
    return version_key(prefix, cursor.key, cursor.commit_ts)


def _forgets_the_key(prefix, cursor):
    return version_key(prefix, cursor.key, 0) + b"\x00"


def _first_only(decode):
    def planted(prefix, data):
        keys, times = decode(prefix, data)
        return keys, times[:8] * len(keys)

    return planted


HISTORY = [{b"a": b"1", b"a\x00": b"1"}, {b"a": None}, {b"a": b"3" * 40, b"b": b""}]
WHOLE = (OwnedSpan(Span(b"", None), 1),)


@pytest.mark.parametrize(
    ("module", "name", "fault"),
    [
        (replica_module, "after_cursor", lambda _: _inclusive),
        (replica_module, "after_cursor", lambda _: _forgets_the_key),
        (export_module, "_decode_keys", _first_only),
        (export_module, "ROW_BYTES", lambda _: 0),
    ],
)
def test_the_checker_finds_a_planted_fault(monkeypatch, module, name, fault):
    check_export(HISTORY, WHOLE, 60, 10_000)
    monkeypatch.setattr(module, name, fault(getattr(module, name)))
    with pytest.raises(AssertionError):
        check_export(HISTORY, WHOLE, 60, 10_000)
