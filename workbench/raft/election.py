"""Votes: who asks, who gives, and which messages bring a new term.

    pre-vote   "would you, in term t+1?"     nothing changes at the voter, nothing is promised
    vote       "do you, in term t?"          once per term, durable before the answer goes out

- A voter says yes only to a log that is at least as new as its own (paper, 5.4.1).
- While a leader was heard of within an election time, requests for votes are ignored altogether
  (dissertation, 4.2.3), unless that leader itself hands over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.ports.consensus import EntryKind, Role
from workbench.ports.peers import (
    AppendRequest,
    CampaignNow,
    Heartbeat,
    SnapshotChunk,
    VoteRequest,
    VoteResponse,
)
from workbench.raft import leading
from workbench.raft.membership import majority

if TYPE_CHECKING:
    from workbench.ports.peers import Message
    from workbench.raft.state import RaftState


def campaign(raft: RaftState, *, pre: bool, transfer: bool = False) -> None:
    """Ask for votes; alone, win at once."""
    raft.become_follower(raft.term, 0)
    raft.role, raft.pre = Role.CANDIDATE, pre
    if not pre:
        raft.term, raft.vote = raft.term + 1, raft.node
    raft.votes = {raft.node: True}
    raft.elapsed = 0
    raft.reset_timeout()
    if _tally(raft):
        return
    for voter in sorted(raft.configuration.voters - {raft.node}):
        raft.messages.append(
            VoteRequest(
                raft.node,
                voter,
                raft.term + 1 if pre else raft.term,
                raft.log.last_index,
                raft.log.last_term,
                pre=pre,
                transfer=transfer,
            )
        )


def enters(raft: RaftState, message: Message) -> bool:
    """Take in a term above the own; tell whether the message is to be looked at."""
    if isinstance(message, VoteRequest):
        leased = raft.leader != 0 and raft.elapsed < raft.election_ticks
        if leased and not message.transfer:
            return False
        if message.pre:
            return True
    if isinstance(message, VoteResponse) and message.pre and message.granted:
        return True
    leads = isinstance(message, AppendRequest | Heartbeat | SnapshotChunk)
    raft.become_follower(message.term, message.sender if leads else 0)
    return True


def step(raft: RaftState, message: Message) -> bool:
    """Take in what is about votes; tell whether it was."""
    match message:
        case VoteRequest():
            _answer(raft, message)
        case VoteResponse():
            _count(raft, message)
        case CampaignNow():
            if raft.role is Role.FOLLOWER and raft.may_campaign and raft.installing is None:
                campaign(raft, pre=False, transfer=True)
        case _:
            return False
    return True


def _answer(raft: RaftState, request: VoteRequest) -> None:
    newest = raft.log.is_up_to_date(request.last_index, request.last_term)
    if request.pre:
        granted = newest and request.term > raft.term
    else:
        free = raft.vote == request.sender or (raft.vote == 0 and raft.leader == 0)
        granted = newest and free
    if granted and not request.pre:
        raft.vote = request.sender
        raft.elapsed = 0
    term = request.term if granted else raft.term
    raft.messages.append(
        VoteResponse(raft.node, request.sender, term, granted=granted, pre=request.pre)
    )


def _count(raft: RaftState, response: VoteResponse) -> None:
    expected = raft.term + 1 if raft.pre and response.granted else raft.term
    if (
        raft.role is not Role.CANDIDATE
        or response.pre != raft.pre
        or response.term != expected
        or response.sender not in raft.configuration.voters
    ):
        return
    raft.votes.setdefault(response.sender, response.granted)
    _tally(raft)


def _tally(raft: RaftState) -> bool:
    """Go on where the votes decide; tell whether they do."""
    given = [raft.votes[voter] for voter in raft.configuration.voters if voter in raft.votes]
    needed = majority(raft.configuration)
    if sum(given) >= needed:
        if raft.pre:
            campaign(raft, pre=False)
        else:
            _win(raft)
        return True
    if len(given) - sum(given) >= needed:
        raft.become_follower(raft.term, 0)
        return True
    return False


def _win(raft: RaftState) -> None:
    raft.role, raft.leader = Role.LEADER, raft.node
    raft.elapsed = raft.heartbeat_elapsed = 0
    raft.votes.clear()
    leading.follow_members(raft, raft.log.last_index + 1)
    # Commits everything before it, once it commits itself (paper, 5.4.2).
    raft.first_own = raft.append(b"", EntryKind.COMMAND)
