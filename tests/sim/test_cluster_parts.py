"""The simulated disk loses what a disk may lose, the network what a network may, and no more."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from workbench.errors import Internal
from workbench.model.node import GotMany, StoredVersion, Written
from workbench.mvcc.encoding import encode_value, version_key
from workbench.ports.consensus import Configuration, HardState, LogEntry, SnapshotMeta
from workbench.ports.peers import GroupMessage, Heartbeat
from workbench.ports.storage import GroupWrite
from workbench.replica.commands import GetMany, Mutation, WriteBatch
from workbench.sim.cluster_disk import Crash, Kept, SimEngine, SimLog, SimPieces
from workbench.sim.cluster_faults import KINDS, OPERATIONS, ClusterProfile
from workbench.sim.cluster_history import History, Violation
from workbench.sim.cluster_network import Network
from workbench.sim.cluster_time import Agenda

MEMBERS = Configuration(frozenset({1, 2, 3}))


class Silent:
    """A watcher that says nothing."""

    def appended(self, node, write, kept):
        """Nothing."""

    def applied(self, node, group, changes, digest):
        """Nothing."""


def nothing(_):
    return None


def entries(*terms, first=1):
    return tuple(LogEntry(first + at, term, b"%d" % term) for at, term in enumerate(terms))


def written(*terms, first=1):
    return GroupWrite(1, HardState(terms[-1], 0, 0), entries(*terms, first=first))


def test_a_synced_turn_survives_and_of_the_others_a_part_from_the_front():
    found = set()
    for seed in range(40):
        log = SimLog(1, [1], nothing, Silent())
        log.append([written(1)])
        log.sync()
        log.append([written(1, first=2)])
        log.append([written(1, first=3)])
        log.crash(random.Random(seed), Counter())
        found.add(log.groups()[1].last_index)
    assert found == {1, 2, 3}


def test_a_log_truncates_resets_and_is_cut():
    kept = Kept()
    kept.add(written(1, 1, 1))
    kept.add(written(2, first=2))
    assert [entry.term for entry in kept.entries] == [1, 2]
    kept.compact(1)
    assert (kept.found().first_index, kept.found().base_term) == (2, 1)
    meta = SnapshotMeta(9, 3, MEMBERS)
    kept.add(GroupWrite(1, None, (), meta))
    found = kept.found()
    assert (found.first_index, found.last_index, found.last_term, found.reset) == (10, 9, 3, meta)
    kept.add(written(3, first=10))
    kept.compact(9)
    assert kept.found().reset is None
    with pytest.raises(Internal, match="misused"):
        kept.add(written(3, first=12))


def test_an_engine_loses_any_number_of_its_newest_batches_but_none_that_was_flushed():
    found = set()
    for seed in range(60):
        engine = SimEngine(1, nothing, Silent())
        for number in range(5):
            if number == 2:
                mark = engine.mark
            engine.write([(bytes(8) + b"k", b"%d" % number)])
        engine.end_flush(mark)
        engine.crash(random.Random(seed), Counter())
        found.add(engine.get(bytes(8) + b"k"))
        assert [*engine.scan(b"", None)] == [*engine.rows.items()]
    assert found == {b"1", b"2", b"3", b"4"}


def test_equal_rows_have_equal_digests_however_they_came():
    one, two = (SimEngine(node, nothing, Silent()) for node in (1, 2))
    rows = [(bytes(8) + bytes([n]), bytes([n])) for n in range(9)]
    one.write(rows)
    for row in reversed(rows):
        two.write([(row[0], b"else")])
        two.write([row])
    assert one.digest(0) == two.digest(0) != 0
    two.write([(rows[0][0], None)])
    assert one.digest(0) != two.digest(0)
    two.write([rows[0]])
    two.crash(random.Random(3), Counter())
    assert two.digest(0) == one.digest(0) or len(two.rows) < 9


def test_pieces_begin_anew_at_offset_zero_and_unsynced_ones_may_be_lost():
    found = set()
    for seed in range(30):
        pieces = SimPieces(nothing)
        pieces.keep(0, b"old")
        pieces.keep(0, b"a")
        pieces.keep(1, b"b")
        pieces.sync()
        pieces.keep(2, b"c")
        pieces.crash(random.Random(seed))
        found.add(b"".join(pieces.kept()))
    assert found == {b"ab", b"abc"}
    pieces.discard()
    assert not [*pieces.kept()]


def test_a_process_may_end_before_any_effect():
    def effect(kind):
        if kind == "sync":
            raise Crash

    log = SimLog(1, [1], effect, Silent())
    log.append([written(1)])
    with pytest.raises(Crash):
        log.sync()
    assert log.groups()[1].last_index == 0


@pytest.mark.parametrize(
    ("rates", "arrivals"),
    [({}, {1}), ({"drop": 1.0}, {0}), ({"duplicate": 1.0}, {2}), ({"delay": 1.0}, {1})],
)
def test_a_batch_is_lost_doubled_or_late(rates, arrivals):
    agenda, got = Agenda(random.Random(1)), []
    network = Network(agenda, random.Random(2), rates, Counter(), got.append)
    batch = tuple(GroupMessage(group, Heartbeat(1, 2, 1, 0)) for group in (1, 2, 3))
    network.send(1, 2, batch)
    while len(got) < max(arrivals):
        agenda.step()
    assert len(got) in arrivals
    assert all(arrival == (1, 2, batch) for arrival in got)


def test_a_cut_is_of_one_direction_and_stops_what_is_under_way():
    agenda, got = Agenda(random.Random(1)), []
    network = Network(agenda, random.Random(2), {}, Counter(), got.append)
    network.send(1, 2, ())
    network.cuts.add((1, 2))
    network.send(1, 2, ())
    network.send(2, 1, ())
    agenda.step()
    agenda.step()
    assert got == [(2, 1, ())]


def test_a_profile_switches_kinds_on_and_off_by_its_seed():
    drawn = [ClusterProfile.draw(random.Random(seed)) for seed in range(60)]
    assert drawn == [ClusterProfile.draw(random.Random(seed)) for seed in range(60)]
    for kind in (*KINDS, *OPERATIONS):
        assert 5 < sum(profile.rates.get(kind, 0) > 0 for profile in drawn) < 58, kind
    assert max(profile.steps for profile in drawn) == 1_500


# --- what clients are told, against what took effect

PUT = WriteBatch((Mutation(b"k", b"v"),))


def history():
    """Return a history with one write that took effect at (10, index 3), and that write."""
    made = History([1])
    operation = made.begin(1, PUT)
    made.applied(1, 3, [row(b"v", 10)])
    return made, operation


def row(value, commit_ts):
    return version_key(History([1]).groups[1].prefix, b"k", commit_ts), encode_value(value)


def test_what_is_true_may_be_told():
    made, operation = history()
    made.answered(operation, Written(10, 3))
    read = made.begin(1, GetMany((b"k",)))
    made.answered(read, GotMany(11, 3, (StoredVersion(b"v", 10),)))
    made.finish()
    assert made.ended == {"WriteBatch acknowledged": 1, "GetMany acknowledged": 1}


@pytest.mark.parametrize("answer", [Written(10, 4), Written(9, 3)])
def test_a_write_that_is_not_there_as_told_is_found(answer):
    made, operation = history()
    with pytest.raises(Violation, match="acknowledged as"):
        made.answered(operation, answer)


def test_a_write_that_was_told_to_have_failed_and_takes_effect_is_found():
    made = History([1])
    made.give_up(made.begin(1, PUT))
    with pytest.raises(Violation, match="was told it did not"):
        made.applied(1, 3, [row(b"v", 10)])


def test_a_second_effect_is_found():
    made, _ = history()
    with pytest.raises(Violation, match="twice"):
        made.applied(1, 4, [row(b"v", 12)])


def test_a_version_at_or_below_a_served_read_ts_is_found():
    made, _ = history()
    made.answered(made.begin(1, GetMany((b"k",), 20)), GotMany(20, 3, (StoredVersion(b"v", 10),)))
    made.begin(1, WriteBatch((Mutation(b"k", b"w"),)))
    with pytest.raises(Violation, match="not above the served"):
        made.applied(1, 4, [row(b"w", 20)])


@pytest.mark.parametrize(
    ("got", "why"),
    [
        (GotMany(11, 3, (None,)), "it is"),
        (GotMany(11, 3, (StoredVersion(b"w", 10),)), "it is"),
        (GotMany(9, 3, (None,)), "was told before"),
    ],
)
def test_a_read_that_is_stale_or_wrong_is_found(got, why):
    made, operation = history()
    made.answered(operation, Written(10, 3))
    with pytest.raises(Violation, match=why):
        made.answered(made.begin(1, GetMany((b"k",))), got)


def test_an_acknowledged_write_that_ends_up_missing_is_found():
    made, operation = history()
    made.answered(operation, Written(10, 3))
    with pytest.raises(Violation, match="other versions"):
        made.compare(1, {})
