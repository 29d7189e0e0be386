"""What is under way to a follower that does not answer stays within its window."""

from __future__ import annotations

import pytest

from workbench.ports.consensus import Configuration, HardState, Role, SnapshotMeta
from workbench.ports.peers import AppendRequest, AppendResponse, VoteRequest, VoteResponse
from workbench.ports.storage import GroupLog
from workbench.raft import progress
from workbench.raft.core import Raft

ENTRY_BYTES = 2**20
AHEAD = 20
ALL = (2, 3, 4, 5)


def leader():
    """Return the leader of five voters, whose first entry all have."""
    first = SnapshotMeta(0, 0, Configuration(frozenset({1, *ALL})))
    raft = Raft(1, GroupLog(HardState(), 1, 0, 0, ()), applied=first, draw=lambda _: 0)
    while raft.role is not Role.LEADER:
        raft.tick()
        for asked in turn(raft):
            if isinstance(asked, VoteRequest):
                yes = VoteResponse(asked.receiver, 1, asked.term, granted=True, pre=asked.pre)
                raft.step(yes)
    for node in ALL:
        raft.step(AppendResponse(node, 1, raft.term, 1))
    return raft


def turn(raft):
    ready = raft.ready()
    raft.advance(ready)
    return (*ready.early, *ready.messages)


def sent_to(messages, node):
    requests = [m for m in messages if isinstance(m, AppendRequest) and m.receiver == node]
    return sum(len(entry.data) for request in requests for entry in request.entries)


@pytest.mark.parametrize("requests_max", [2, 64])
def test_commits_send_a_silent_follower_that_is_ahead_no_more_than_its_window(
    requests_max, monkeypatch
):
    monkeypatch.setattr(progress, "INFLIGHT_REQUESTS_MAX", requests_max)
    raft = leader()
    sent = 0
    for number in range(2 * AHEAD):
        index = raft.propose(b"x" * ENTRY_BYTES)
        messages = turn(raft)
        if number < AHEAD:
            raft.step(AppendResponse(2, 1, raft.term, index))
        else:
            sent += sent_to(messages, 2)
    for index in range(2, AHEAD + 2):
        for node in (3, 4):
            raft.step(AppendResponse(node, 1, raft.term, index))
            raft.check_invariants()
        sent += sent_to(turn(raft), 2)
    assert raft.commit == AHEAD + 1
    requests = min(requests_max, progress.INFLIGHT_BYTES_MAX // ENTRY_BYTES)
    assert raft.progress[2].inflight_bytes == sent == requests * ENTRY_BYTES
