"""What a leader does: replicate, commit, confirm reads, hand over, send raft_snapshots.

    propose … propose ─(Ready)─▶ AppendRequest to each ──▶ AppendResponse ──▶ majority: commit
                                     └─ says how far it was committed before ◀──────┘

- An entry commits by count only if it is of the own term; older ones commit with it (paper,
  figure 8).
- The leader counts itself only up to what is durable here, so its own disk is one among many.
- A leader that is not a member any more leads until that change has committed, and does not
  count itself (dissertation, 4.2.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.ports.consensus import ChunkWanted, Role
from workbench.ports.peers import (
    AppendRequest,
    AppendResponse,
    CampaignNow,
    Heartbeat,
    HeartbeatResponse,
    SnapshotResponse,
)
from workbench.raft.membership import agreed, majority
from workbench.raft.progress import Pace, Progress

if TYPE_CHECKING:
    from workbench.ports.consensus import SnapshotMeta
    from workbench.ports.peers import Message, SnapshotChunk
    from workbench.raft.state import RaftState

REQUEST_BYTES_MAX: Final = 2**20


def tick(raft: RaftState) -> None:
    """Let time pass for a leader."""
    raft.heartbeat_elapsed += 1
    if raft.elapsed >= raft.election_ticks:
        raft.elapsed = 0
        raft.transferee = 0
        if not _hears_majority(raft):
            raft.become_follower(raft.term, 0)
            return
    for node, progress in raft.progress.items():
        _retry_snapshot(raft, node, progress)
    if raft.heartbeat_elapsed >= raft.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        _broadcast_heartbeats(raft)


def step(raft: RaftState, message: Message) -> None:
    """Take in a follower's answer, of this term."""
    progress = raft.progress.get(message.sender)
    if progress is None:
        return
    progress.active = True
    match message:
        case AppendResponse():
            _appended(raft, message, progress)
        case HeartbeatResponse():
            progress.round = max(progress.round, message.round)
            progress.probe_sent = False
            _confirm(raft)
            _catch_up(raft, message.sender, progress)
        case SnapshotResponse():
            _snapshot_answered(raft, message, progress)
        case _:
            pass  # two leaders of one term cannot be; others' requests are stale


def follow_members(raft: RaftState, following: int) -> None:
    """Keep one progress for each other member; a new one is asked about `following` first."""
    others = raft.configuration.members - {raft.node}
    for gone in raft.progress.keys() - others:
        del raft.progress[gone]
    for node in sorted(others - raft.progress.keys()):
        raft.progress[node] = Progress(next=following, active=True)
    if raft.transferee not in raft.configuration.voters:
        raft.transferee = 0


def broadcast_entries(raft: RaftState) -> None:
    """Send everybody what it lacks, as far as its window lets; nothing where others lead."""
    for node, progress in raft.progress.items():
        _send(raft, node, progress)


def send_rounds(raft: RaftState) -> None:
    """Ask for confirmation of the reads that came since the last Ready, all at once."""
    if raft.role is Role.LEADER and raft.reads.begin_round():
        raft.heartbeat_elapsed = 0
        _broadcast_heartbeats(raft)


def confirm_alone(raft: RaftState) -> None:
    """Confirm reads at once where this node is the only voter.

    Those too that waited for voters who are no members any more: nobody else answers their round.
    """
    if raft.configuration.voters == {raft.node}:
        raft.reads.begin_round()
        raft.read_states += raft.reads.confirmed(raft.reads.sent)


def persisted(raft: RaftState) -> None:
    """Count what has become durable here."""
    if raft.role is Role.LEADER:
        _commit(raft)


def transfer(raft: RaftState, to: int) -> None:
    """Hand over as soon as `to` has everything."""
    raft.transferee = to
    raft.elapsed = 0
    progress = raft.progress[to]
    if progress.match == raft.log.last_index:
        raft.messages.append(CampaignNow(raft.node, to, raft.term))
    else:
        _send(raft, to, progress)


def offer_snapshot(raft: RaftState, to: int, meta: SnapshotMeta) -> None:
    """Begin to send a raft_snapshot to a follower that needs one."""
    progress = raft.progress.get(to)
    if progress is None or progress.pace is not Pace.SNAPSHOT or progress.meta is not None:
        return
    assert raft.log.term(meta.index) == meta.term, "a raft_snapshot of another log"
    progress.meta, progress.offset, progress.chunk_ticks = meta, 0, 0
    raft.chunks_wanted.append(ChunkWanted(to, meta, 0))


def supply_chunk(raft: RaftState, chunk: SnapshotChunk) -> None:
    """Send a piece that was asked for, unless it is no longer wanted."""
    progress = raft.progress.get(chunk.receiver)
    if progress is not None and (progress.meta, progress.offset) == (chunk.meta, chunk.offset):
        progress.chunk_ticks = 0
        raft.early.append(chunk)


def _appended(raft: RaftState, response: AppendResponse, progress: Progress) -> None:
    if response.rejected:
        retry, _ = raft.log.newest_at_or_below(response.hint_index, response.hint_term)
        if progress.rejected(response.index, retry):
            _send(raft, response.sender, progress)
        return
    if response.index > raft.log.last_index:
        return  # nobody of this term has more than its leader
    news = progress.accepted(response.index)
    if news:
        _commit(raft)
    if raft.role is not Role.LEADER:
        return
    if progress.match < raft.log.last_index:
        _send(raft, response.sender, progress)
    elif news and raft.transferee == response.sender:
        raft.messages.append(CampaignNow(raft.node, response.sender, raft.term))


def _commit(raft: RaftState) -> None:
    """Commit what a majority has; the next entries or heartbeat tell the followers."""
    reached = {node: progress.match for node, progress in raft.progress.items()}
    reached[raft.node] = raft.log.stable
    index = agreed(raft.configuration, reached)
    if index <= raft.commit or raft.log.term(index) != raft.term:
        return
    raft.uncommitted_bytes -= sum(
        len(entry.data) for entry in raft.log.between(raft.commit, index) if entry.term == raft.term
    )
    raft.commit = index
    if index >= raft.first_own:
        raft.reads.committed(index)
        confirm_alone(raft)
    if raft.node not in raft.configuration.voters and index >= raft.memberships.changed_at:
        # Its own removal has committed. Tell the others how far, then leave.
        _broadcast_heartbeats(raft)
        raft.become_follower(raft.term, 0)


def _send(raft: RaftState, node: int, progress: Progress) -> None:
    """Send what fits; a raft_snapshot where the log no longer reaches back."""
    while not progress.is_paused and progress.next <= raft.log.last_index:
        if progress.next <= raft.log.compacted:
            progress.behind()
            raft.snapshots_wanted.append(node)
            return
        _request(raft, node, progress)


def _catch_up(raft: RaftState, node: int, progress: Progress) -> None:
    """Find out what became of requests that are under way for longer than a heartbeat."""
    if progress.match == raft.log.last_index:
        return
    if progress.pace is Pace.REPLICATE and (
        progress.is_paused or progress.next > raft.log.last_index
    ):
        _ask(raft, node, progress)
    else:
        _send(raft, node, progress)


def _ask(raft: RaftState, node: int, progress: Progress) -> None:
    """Send a request without entries: it is rejected where one before it was lost."""
    before = progress.next - 1
    prev_term = raft.log.term(before)
    if prev_term is None:
        progress.lost()  # nothing behind it could be sent any more
        _send(raft, node, progress)
        return
    raft.early.append(AppendRequest(raft.node, node, raft.term, before, prev_term, (), raft.commit))


def _request(raft: RaftState, node: int, progress: Progress) -> None:
    before = progress.next - 1
    prev_term = raft.log.term(before)
    if prev_term is None:
        return
    entries = raft.log.from_index(progress.next, REQUEST_BYTES_MAX)
    raft.early.append(
        AppendRequest(raft.node, node, raft.term, before, prev_term, entries, raft.commit)
    )
    if entries:
        progress.sent(entries[-1].index, sum(len(entry.data) for entry in entries))


def _broadcast_heartbeats(raft: RaftState) -> None:
    for node, progress in raft.progress.items():
        known = min(progress.match, raft.commit)
        raft.early.append(Heartbeat(raft.node, node, raft.term, known, raft.reads.sent))


def _confirm(raft: RaftState) -> None:
    """Hand out the reads whose round a majority has answered."""
    rounds = {node: progress.round for node, progress in raft.progress.items()}
    rounds[raft.node] = raft.reads.sent
    raft.read_states += raft.reads.confirmed(agreed(raft.configuration, rounds))


def _hears_majority(raft: RaftState) -> bool:
    heard = {node for node, progress in raft.progress.items() if progress.active} | {raft.node}
    for progress in raft.progress.values():
        progress.active = False
    return len(heard & raft.configuration.voters) >= majority(raft.configuration)


def _snapshot_answered(raft: RaftState, response: SnapshotResponse, progress: Progress) -> None:
    if progress.meta is None or progress.meta.index != response.index:
        return
    if response.offset == progress.offset and progress.chunk_ticks == 0:
        return  # a repetition of what is under way
    progress.offset, progress.chunk_ticks = response.offset, 0
    raft.chunks_wanted.append(ChunkWanted(response.sender, progress.meta, response.offset))


def _retry_snapshot(raft: RaftState, node: int, progress: Progress) -> None:
    """Ask again for a piece whose way was lost; after many, begin anew."""
    if progress.pace is not Pace.SNAPSHOT:
        return
    progress.chunk_ticks += 1
    if progress.chunk_ticks < raft.election_ticks:
        return
    progress.chunk_ticks = 0
    if progress.meta is None:
        raft.snapshots_wanted.append(node)
    elif progress.meta.index < raft.log.compacted:
        progress.give_up_snapshot()  # entries behind it are gone: it would not be enough
    else:
        raft.chunks_wanted.append(ChunkWanted(node, progress.meta, progress.offset))
