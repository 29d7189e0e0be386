"""The raft_snapshots of one group, from the replica that has the state to those that lack it.

    Ready.snapshots_wanted ─▶ take, offer        Ready.chunks_wanted ─▶ read ─▶ supply

One raft_snapshot serves all followers, as long as the log still goes on behind it. A piece that
can no longer be read is no error: the follower is offered another raft_snapshot later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.ports.consensus import Consensus, Ready, SnapshotMeta
    from workbench.ports.storage import RaftSnapshots


class Shipping:
    """What a leader has to do for followers that its log no longer reaches."""

    def __init__(self, consensus: Consensus, snapshots: RaftSnapshots) -> None:
        self._consensus = consensus
        self._snapshots = snapshots
        self._taken: SnapshotMeta | None = None

    def serve(self, ready: Ready, applied_index: int) -> None:
        """Offer and supply what a Ready that is done asked for."""
        for follower in ready.snapshots_wanted:
            self._consensus.offer_snapshot(follower, self._current(applied_index))
        for wanted in ready.chunks_wanted:
            found = self._snapshots.read(wanted.meta, wanted.offset)
            if found is None:
                if wanted.meta == self._taken:
                    self._taken = None
                self._consensus.snapshot_gone(wanted)
            else:
                data, last = found
                self._consensus.supply_chunk(wanted, data, done=last)

    def forget(self) -> None:
        """Take no raft_snapshot that was taken before for one of the state as it is now."""
        self._taken = None

    def _current(self, applied_index: int) -> SnapshotMeta:
        """Return what is called the raft_snapshot that can be read."""
        if self._taken is None or self._taken.index < self._consensus.compacted:
            self._taken = self._consensus.snapshot_meta(applied_index)
            self._snapshots.take(self._taken)
        return self._taken
