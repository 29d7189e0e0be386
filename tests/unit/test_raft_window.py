"""How much is sent to followers, and when: within a window, and no more often than is needed."""

from __future__ import annotations

import pytest

from workbench.ports.consensus import Configuration, HardState, Role, SnapshotMeta
from workbench.ports.peers import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    VoteRequest,
    VoteResponse,
)
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


def test_what_is_proposed_between_two_readies_goes_to_each_follower_in_one_request():
    raft = leader()
    turn(raft)
    for _ in range(64):
        raft.propose(b"x")
    requests = [each for each in turn(raft) if isinstance(each, AppendRequest)]
    assert [each.receiver for each in requests] == [*ALL]
    assert {len(each.entries) for each in requests} == {64}


def test_followers_are_told_of_a_commit_with_the_next_entries_or_heartbeat():
    raft = leader()
    turn(raft)
    index = raft.propose(b"x")
    turn(raft)
    for node in (2, 3):
        raft.step(AppendResponse(node, 1, raft.term, index))
    assert raft.commit == index
    assert turn(raft) == ()
    raft.tick()
    told = {each.receiver: each.commit for each in turn(raft) if isinstance(each, Heartbeat)}
    assert told == {2: index, 3: index, 4: 1, 5: 1}
    raft.propose(b"y")
    requests = [each for each in turn(raft) if isinstance(each, AppendRequest)]
    assert [(each.receiver, each.commit) for each in requests] == [(node, index) for node in ALL]
