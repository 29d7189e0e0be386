"""Faults planted into the consensus core, which both the random schedules and the simulator find.

Each is given pytest's monkeypatch and breaks one rule that is named in it.
"""

from __future__ import annotations

from workbench.raft import election, following
from workbench.raft.core import Raft
from workbench.raft.log import RaftLog


def skip_a_piece_of_a_snapshot(patch):
    original = following._receive

    def receive(raft, chunk):
        if raft.incoming is not None and chunk.meta == raft.incoming:
            raft.incoming_offset = chunk.offset
        original(raft, chunk)

    patch.setattr(following, "_receive", receive)


def count_itself_before_its_disk(patch):
    original = Raft.append

    def append(raft, data, kind):
        index = original(raft, data, kind)
        raft.log.stable = index
        return index

    patch.setattr(Raft, "append", append)


def vote_for_an_older_log(patch):
    patch.setattr(RaftLog, "is_up_to_date", lambda *_: True)


def answer_before_its_disk(patch):
    original = following._append

    def append(raft, request):
        original(raft, request)
        raft.log.stable = raft.log.last_index

    patch.setattr(following, "_append", append)


def keep_the_log_after_a_snapshot(patch):
    def reset(log, index, term):
        log.compacted, log.compacted_term, log.stable = index, term, index

    patch.setattr(RaftLog, "reset", reset)


def never_truncate(patch):
    original = RaftLog.first_conflict

    def first_conflict(log, entries):
        found = original(log, entries)
        return None if found is not None and found <= log.last_index else found

    patch.setattr(RaftLog, "first_conflict", first_conflict)


def vote_twice(patch):
    original = election._answer

    def answer(raft, request):
        if not request.pre:
            raft.vote = raft.leader = 0
        original(raft, request)

    patch.setattr(election, "_answer", answer)
