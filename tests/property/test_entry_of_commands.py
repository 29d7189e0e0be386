"""Commands that share an entry do what they do in entries of their own.

The leader puts into one entry whatever came in one turn, so nothing may depend on where an entry
ends: a precondition sees what the commands before it did, also versions that they collected.
"""

from __future__ import annotations

import pytest
from engines import MemoryEngine
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workbench.model.keys import Span
from workbench.model.node import Written
from workbench.model.times import hlc_of_ms
from workbench.mvcc import pending as pending_module
from workbench.mvcc.encoding import encode_value
from workbench.ports.consensus import LogEntry
from workbench.replica.commands import (
    Bootstrap,
    CollectGarbage,
    GetMany,
    Mutation,
    OwnedSpan,
    Precondition,
    Refused,
    SetSafePoint,
    WriteBatch,
)
from workbench.replica.entry import encode_command, encode_entry
from workbench.replica.replica import Replica

KEYS = (b"", b"a", b"a\x00", b"b")
KEY = st.sampled_from(KEYS)
VALUE = st.sampled_from((None, b"1", b"2"))
# Of expiry, in ms from the start: none, while commands go on, or long after.
EXPIRY = st.sampled_from((0, 4, 8_330_000_000_000))
MUTATION = st.tuples(KEY, VALUE, EXPIRY)
# A precondition names no version, or that of the n-th command.
CONDITION = st.tuples(KEY, st.none() | st.integers(0, 7))
COMMAND = st.one_of(
    st.tuples(
        st.just("write"),
        st.lists(MUTATION, min_size=1, max_size=3),
        st.lists(CONDITION, max_size=2),
    ),
    st.tuples(st.just("safe point"), st.integers(0, 3)),
    st.tuples(st.just("collect"), st.integers(2, 9)),
)
COMMANDS = st.lists(COMMAND, min_size=1, max_size=8)
START_MS = 1_000


def commit_ts_of(number):
    return hlc_of_ms(START_MS + number, 1)


def command_of(number, step):
    match step:
        case ("write", rows, conditions):
            mutations = tuple(
                Mutation(key, value, START_MS + expiry if expiry and value else 0)
                for key, value, expiry in rows
            )
            wanted = tuple(
                Precondition(key, None if at is None else commit_ts_of(at))
                for key, at in conditions
            )
            return WriteBatch(mutations, b"", 0, wanted)
        case ("safe point", back):
            return SetSafePoint(max(1, commit_ts_of(number - back - 1)))
        case ("collect", versions_max):
            return CollectGarbage(versions_max)
    raise AssertionError(step)


def outcome(steps, sizes):
    """Return what each write came to, and what can be read at the end, for entries of sizes."""
    replica = Replica(1, MemoryEngine(), is_catalog=False)
    owned = encode_command(Bootstrap((OwnedSpan(Span(b"", None), 1),)))
    index, results = 1, []
    replica.apply(LogEntry(1, 1, encode_entry(commit_ts_of(-1), [(commit_ts_of(-2), owned)])))
    numbered = list(enumerate(steps))
    for size in sizes:
        chosen, numbered = numbered[:size], numbered[size:]
        index += 1
        stamped = [
            (commit_ts_of(number), encode_command(command_of(number, step)))
            for number, step in chosen
        ]
        ceiling = commit_ts_of(len(steps) + 2)
        results += replica.apply(LogEntry(index, 1, encode_entry(ceiling, stamped)))
    writes = [
        each.commit_ts if isinstance(each, Written) else each.error.code
        for each, step in zip(results, steps, strict=True)
        if step[0] == "write" and isinstance(each, Written | Refused)
    ]
    answer = replica.read(GetMany(KEYS, commit_ts_of(len(steps) + 1)))
    return writes, answer.versions


LIVE_UNTIL_2286 = 8_330_000_000_000
COLLECTED_BESIDE = [
    ("write", [(b"a", b"1", 0)], []),
    ("write", [(b"a", b"2", 0)], []),
    ("safe point", 0),
    ("collect", 9),
    ("write", [(b"a", b"2", 0)], [(b"a", None)]),
    ("write", [(b"a", b"1", 0)], [(b"a", 1)]),
]
WRITTEN_TWICE = [
    ("write", [(b"a", None, 0), (b"a", b"1", LIVE_UNTIL_2286)], []),
    ("write", [(b"a", b"2", 0)], [(b"a", None)]),
    ("write", [(b"b", b"2", 0), (b"b", None, 0)], []),
    ("write", [(b"b", b"1", 0)], [(b"b", None)]),
]


@settings(max_examples=200, deadline=None)
@given(COMMANDS, st.integers(1, 8))
@example(COLLECTED_BESIDE, 3)
@example(WRITTEN_TWICE, 4)
def test_commands_of_one_entry_do_as_in_entries_of_their_own(steps, first):
    alone = outcome(steps, [1] * len(steps))
    assert outcome(steps, [len(steps)]) == alone
    assert outcome(steps, [len(steps) - 1, 1]) == alone
    assert outcome(steps, [min(first, len(steps)), len(steps)]) == alone


@pytest.mark.parametrize("steps", [COLLECTED_BESIDE, WRITTEN_TWICE])
def test_a_look_at_changes_by_their_bytes_is_noticed(monkeypatch, steps):
    """The planted fault: of all changes the smallest counts, also one that deletes a version."""

    def newest(self, key):
        low, high = pending_module.versions_range(self._prefix, key)
        found = min((each for each in self.changes if low <= each[0] < high), default=None)
        stored = found or next(self._engine.scan(low, high), None)
        if stored is None or stored[1] is None:
            return None
        _, commit_ts = pending_module.split_version_key(self._prefix, stored[0])
        return commit_ts, *pending_module.decode_stored(stored[1])

    monkeypatch.setattr(pending_module.PendingVersions, "newest", newest)
    alone = outcome(steps, [1] * len(steps))
    sizes = [[len(steps)], [2, 3, len(steps)], [3, len(steps)]]
    assert any(outcome(steps, each) != alone for each in sizes)


def test_a_look_at_one_of_ten_thousand_changed_keys_goes_through_its_own_changes_alone():
    pending = pending_module.PendingVersions(MemoryEngine(), b"p")
    for number in range(10_000):
        key = pending_module.versions_range(b"p", b"%05d" % number)[0] + bytes(8)
        pending.changes.append((key, encode_value(b"v")))
    assert pending.newest(b"00000") is not None
    assert [len(each) for each in pending._changed.values()] == [1] * 10_000
    pending.changes.append((key, None))
    assert pending.newest(b"09999") is None
    assert pending.newest(b"09998") is not None
