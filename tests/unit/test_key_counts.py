"""Counts per key: exact, whenever they are made, and bounded."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.node import key_counts as module
from workbench.node.key_counts import NOTHING, Counted, KeyCounts


def counts_of(**options):
    spilled = defaultdict(list)
    limits = {"keys_max": 1_000, "key_bytes_max": 2**20, **options}
    made = KeyCounts(
        limits["keys_max"], limits["key_bytes_max"], lambda key, c: spilled[key].append(c)
    )
    return made, spilled


def told(counted):
    return dict(zip(counted.keys, counted.counts.tolist(), strict=True))


def test_each_kind_of_access_and_its_bytes_is_counted_by_key_and_keys_ascend():
    made, spilled = counts_of()
    made.add([(b"b", 5), (b"a", 7), (b"b", 1)], write=False)
    made.add([(b"b", 100), (b"", 3)], write=True)
    counted = made.counted()
    assert counted.keys == [b"", b"a", b"b"]
    assert told(counted) == {b"": [0, 1, 0, 3], b"a": [1, 0, 7, 0], b"b": [2, 1, 6, 100]}
    assert counted.total == 5
    assert not spilled


def test_nothing_added_is_nothing_counted():
    made, _ = counts_of()
    assert made.counted().keys == []
    assert made.counted().total == NOTHING.total == 0


@pytest.mark.parametrize("held", [1, 7, 64, 10**6])
def test_counts_are_exact_however_many_accesses_wait(held, monkeypatch):
    monkeypatch.setattr(module, "ACCESSES_HELD_MAX", held)
    chance, made, true = random.Random(held), counts_of()[0], defaultdict(lambda: [0] * 4)
    for _ in range(60):
        write = chance.random() < 0.3
        pairs = [
            (b"%02d" % chance.randrange(40), chance.randrange(2**40))
            for _ in range(chance.randrange(30))
        ]
        made.add(pairs, write=write)
        for key, size in pairs:
            true[key][write] += 1
            true[key][2 + write] += size
    assert told(made.counted()) == true


def test_what_waits_is_bounded_by_its_number_and_by_the_bytes_of_its_keys(monkeypatch):
    monkeypatch.setattr(module, "ACCESSES_HELD_MAX", 100)
    made, _ = counts_of()
    made.add([(b"k", 1)] * 99, write=False)
    assert len(made._reads) == 99
    made.add([(b"k", 1)], write=False)
    assert len(made._reads) == 0
    monkeypatch.setattr(module, "KEY_BYTES_HELD_MAX", 3 * KEY_BYTES_MAX)
    made.add([(b"k" * KEY_BYTES_MAX, 1)] * 2, write=True)
    assert len(made._writes) == 2
    made.add([(b"k" * KEY_BYTES_MAX, 1)], write=True)
    assert len(made._writes) == 0


def test_no_key_is_added_once_there_were_too_many_and_none_is_lost():
    made, spilled = counts_of(keys_max=2)
    made.add([(b"a", 1), (b"b", 1), (b"c", 4), (b"a", 1), (b"c", 5)], write=False)
    made.tally()
    assert dict(spilled) == {b"c": [[2, 0, 9, 0]]}
    made.add([(b"c", 6), (b"a", 1)], write=True)
    assert told(made.counted()) == {b"a": [2, 1, 2, 1], b"b": [1, 0, 1, 0]}
    assert spilled[b"c"][1:] == [[0, 1, 0, 6]]
    made.keep([made.counted().inside(Span(b"b", None))])
    made.add([(b"d", 1)], write=False)
    made.tally()
    assert b"d" in spilled, "room that was made counts from the next window on"


def test_bytes_of_different_keys_are_bounded_too():
    made, spilled = counts_of(key_bytes_max=5)
    made.add([(b"aaa", 1), (b"bb", 1), (b"c", 1)], write=False)
    assert len(made) == 2
    assert set(spilled) == {b"c"}


def test_forgetting_all_starts_anew():
    made, spilled = counts_of(keys_max=1)
    made.add([(b"a", 1), (b"b", 1)], write=False)
    made.tally()
    made.add([(b"a", 1)], write=True)
    made.clear()
    made.add([(b"b", 2)], write=True)
    assert told(made.counted()) == {b"b": [0, 1, 0, 2]}
    assert len(spilled[b"b"]) == 1


def test_parts_between_cuts_add_up_and_spans_hold_their_keys():
    counted = Counted.of({b"%d" % n: (n, 1, 10 * n, 0) for n in range(8)})
    sums = counted.sums([b"2", b"2\x00", b"9"])
    assert sums == [[1, 2, 10, 0], [2, 1, 20, 0], [25, 5, 250, 0], [0, 0, 0, 0]]
    inside = counted.inside(Span(b"3", b"5"))
    assert (inside.keys, inside.total) == ([b"3", b"4"], 9)
    assert counted.inside(Span(b"8", None)) is NOTHING
