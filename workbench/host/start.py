"""How a group starts: what is in its log, its engine and its kept pieces, put together.

    log reset behind the state? ── yes ──▶ install the pieces again ─┐
                                └─ no ───▶ drop the pieces ──────────┴──▶ Replica ──▶ Raft

Rules:
- A reset in the log is written once all pieces are durable, and before the engine changes. So
  where the log was reset and the engine does not stand there yet, the pieces are whole.
- Pieces without such a reset are of a raft_snapshot that never became whole; it comes again.
- The state itself tells what it stands for: applied index, its term, and the members then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.host.values import Group
from workbench.ports.consensus import HardState, SnapshotMeta
from workbench.ports.storage import GroupLog
from workbench.raft.core import Raft
from workbench.raft.state import ELECTION_TICKS, HEARTBEAT_TICKS, term_in
from workbench.replica.layout import load_progress
from workbench.replica.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.ports.consensus import Configuration
    from workbench.ports.storage import Engine, RaftSnapshots
    from workbench.replica.commands import Bootstrap

EMPTY_LOG: Final = GroupLog(HardState(), 1, 0, 0, ())


def start_group(  # noqa: PLR0913 - what a group is made of, named
    node: int,
    group: int,
    engine: Engine,
    log: GroupLog | None,
    *,
    members: Configuration,
    is_catalog: bool,
    bootstrap: Bootstrap | None,
    snapshots: RaftSnapshots | None,
    draw: Callable[[int], int],
    election_ticks: int = ELECTION_TICKS,
    heartbeat_ticks: int = HEARTBEAT_TICKS,
    make: Callable[..., Replica] = Replica,
) -> Group:
    """Return a group as this node is to run it, after any crash.

    Args:
        node: Id of this node.
        group: Id of the group.
        engine: Where its rows are.
        log: What the log holds of it; None for nothing.
        members: That the group was founded with; the same on every node.
        is_catalog: Whether it keeps the route catalog.
        bootstrap: Its first records, should it have none and this node lead.
        snapshots: Its raft_snapshots; None where it has no other members.
        draw: Returns a number from 0 up to its argument; for election timeouts.
        election_ticks: As `Raft`.
        heartbeat_ticks: As `Raft`.
        make: Makes the replica.

    Raises:
        Corruption: log and state do not belong together, or a record cannot be decoded.
        Storage: the engine failed.
    """
    found = log or EMPTY_LOG
    if snapshots is not None:
        behind = found.reset is not None and (
            load_progress(group, engine).applied_index < found.reset.index
        )
        if behind:
            assert found.reset is not None
            snapshots.install(found.reset)
        else:
            snapshots.discard()
    replica = make(group, engine, is_catalog=is_catalog)
    replica.found(members)
    assert replica.members is not None
    index, term = replica.applied_index, replica.applied_term
    if term is None:
        # An earlier version kept no term; its log has it. Where it does not, Raft refuses it.
        term = term_in(found, index) or 0
    raft = Raft(
        node,
        found,
        applied=SnapshotMeta(index, term, replica.members),
        draw=draw,
        election_ticks=election_ticks,
        heartbeat_ticks=heartbeat_ticks,
    )
    return Group(raft, replica, bootstrap, snapshots)
