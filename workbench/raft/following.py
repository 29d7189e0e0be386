"""What a follower does with its leader's messages, and what anybody does with stale ones.

    AppendRequest ──prev found?──no──▶ rejected, with a hint
                        └──yes──▶ conflict? truncate; append; answered once durable

- An answer that accepts is in `Ready.messages`: it goes out after the entries are durable.
- Entries that are there already are left alone: a late, shorter request truncates nothing.
- A raft_snapshot comes piece by piece, in order; the pieces are the shell's to keep. When all are
  there it takes the place of state and log, unless the log has meanwhile caught up by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import Corruption
from workbench.ports.consensus import ChunkReceived, Role
from workbench.ports.peers import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    SnapshotChunk,
    SnapshotResponse,
    VoteRequest,
    VoteResponse,
)
from workbench.raft.membership import Memberships

if TYPE_CHECKING:
    from workbench.ports.entries import SnapshotMeta
    from workbench.ports.peers import Message
    from workbench.raft.state import RaftState


def is_sound(message: Message) -> bool:
    """Tell whether a message makes sense in itself; another is dropped."""
    if message.sender < 1 or message.sender == message.receiver or message.term < 1:
        return False
    match message:
        case AppendRequest(prev_index=before, entries=entries):
            indexes = [entry.index for entry in entries]
            terms = [message.prev_term, *(entry.term for entry in entries), message.term]
            return (
                before >= 0
                and indexes == list(range(before + 1, before + 1 + len(entries)))
                and terms == sorted(terms)
            )
        case SnapshotChunk(meta=meta, offset=offset):
            return offset >= 0 and meta.index > 0 and 0 < meta.term <= message.term
        case _:
            return True


def answer_stale(raft: RaftState, message: Message) -> None:
    """Tell who is behind in terms that it is; other stale messages are dropped."""
    match message:
        case AppendRequest() | Heartbeat() | SnapshotChunk():
            answer = AppendResponse(raft.node, message.sender, raft.term, 0, rejected=True)
            raft.messages.append(answer)
        case VoteRequest(pre=True):
            refusal = VoteResponse(raft.node, message.sender, raft.term, granted=False, pre=True)
            raft.messages.append(refusal)
        case _:
            pass


def step(raft: RaftState, message: Message) -> None:
    """Take in a message of this term."""
    match message:
        case AppendRequest():
            _follow(raft, message.sender)
            _append(raft, message)
        case Heartbeat():
            _follow(raft, message.sender)
            if raft.installing is None:
                _commit_to(raft, message.commit)
            answer = HeartbeatResponse(raft.node, message.sender, raft.term, message.round)
            raft.messages.append(answer)
        case SnapshotChunk():
            _follow(raft, message.sender)
            _receive(raft, message)
        case _:
            pass  # answers to what this node was before


def takes(raft: RaftState, chunk: SnapshotChunk) -> bool:
    """Tell whether a piece of a raft_snapshot is the next one, and is missing here."""
    if chunk.receiver != raft.node or chunk.term < raft.term or raft.installing is not None:
        return False
    if _is_there(raft, chunk.meta):
        return False
    goes_on = (raft.incoming, raft.incoming_from) == (chunk.meta, (chunk.term, chunk.sender))
    return chunk.offset == (raft.incoming_offset if goes_on else 0)


def refuse(raft: RaftState, meta: SnapshotMeta) -> None:
    """Forget the pieces of a raft_snapshot, and ask its sender for the first one."""
    if raft.incoming != meta or raft.installing is not None:
        return
    raft.incoming, raft.incoming_offset = None, 0
    if raft.leader:
        raft.messages.append(SnapshotResponse(raft.node, raft.leader, raft.term, meta.index, 0))


def installed(raft: RaftState, meta: SnapshotMeta) -> None:
    """Note that the raft_snapshot has taken the place of the state."""
    raft.log.reset(meta.index, meta.term)
    raft.memberships = Memberships(meta.index, meta.configuration)
    raft.commit = raft.applied = raft.handed = meta.index
    raft.installing = raft.snapshot_ready = raft.incoming = None
    raft.incoming_offset = 0
    if raft.leader:
        raft.messages.append(AppendResponse(raft.node, raft.leader, raft.term, meta.index))


def _follow(raft: RaftState, leader: int) -> None:
    assert raft.role is not Role.LEADER, "two leaders of one term"
    if raft.role is not Role.FOLLOWER or raft.leader != leader:
        raft.become_follower(raft.term, leader)
    raft.elapsed = 0


def _append(raft: RaftState, request: AppendRequest) -> None:
    if raft.installing is not None:
        return
    log, sender = raft.log, request.sender
    if request.prev_index < raft.commit:
        # Committed is equal everywhere; what is asked for begins at what is known.
        raft.messages.append(AppendResponse(raft.node, sender, raft.term, raft.commit))
        return
    if log.term(request.prev_index) != request.prev_term:
        hint, term = log.newest_at_or_below(request.prev_index, request.prev_term)
        raft.messages.append(
            AppendResponse(
                raft.node,
                sender,
                raft.term,
                request.prev_index,
                rejected=True,
                hint_index=hint,
                hint_term=term,
            )
        )
        return
    conflict = log.first_conflict(request.entries)
    if conflict is not None:
        _check_uncommitted(raft, conflict)
        if conflict <= log.last_index:
            log.truncate_from(conflict)
            raft.memberships.truncate_from(conflict)
        for entry in request.entries[conflict - request.prev_index - 1 :]:
            log.append(entry)
            raft.memberships.append(entry)
    last = request.prev_index + len(request.entries)
    _commit_to(raft, min(request.commit, last))
    raft.messages.append(AppendResponse(raft.node, sender, raft.term, last))


def _check_uncommitted(raft: RaftState, conflict: int) -> None:
    """Stop where the group disagrees about what is committed."""
    if conflict <= raft.commit:
        raise Corruption(
            f"the leader's entry {conflict} is not the one that is committed here",
            code="committed_entry_conflicts",
            hint="a replica lost what it had promised to keep: stop the group and restore it",
        )


def _commit_to(raft: RaftState, index: int) -> None:
    """Take a leader's word for what is committed, as far as the log goes."""
    raft.commit = max(raft.commit, min(index, raft.log.last_index))


def _is_there(raft: RaftState, meta: SnapshotMeta) -> bool:
    """Tell whether nothing is missing here that the raft_snapshot would bring."""
    return meta.index <= raft.commit or raft.log.term(meta.index) == meta.term


def _receive(raft: RaftState, chunk: SnapshotChunk) -> None:
    meta, sender = chunk.meta, chunk.sender
    if _is_there(raft, meta):
        raft.commit = max(raft.commit, meta.index)
        raft.messages.append(AppendResponse(raft.node, sender, raft.term, raft.commit))
        return
    if raft.installing is not None:
        return
    if (raft.incoming, raft.incoming_from) != (meta, (chunk.term, sender)):
        # Another leader may cut the same state into other pieces.
        raft.incoming, raft.incoming_from = meta, (chunk.term, sender)
        raft.incoming_offset = 0
    if chunk.offset == raft.incoming_offset:
        raft.chunks.append(ChunkReceived(meta, chunk.offset, chunk.data, chunk.done))
        raft.incoming_offset += len(chunk.data)
        if chunk.done:
            raft.installing = raft.snapshot_ready = meta
            return
    answer = SnapshotResponse(raft.node, sender, raft.term, meta.index, raft.incoming_offset)
    raft.messages.append(answer)
