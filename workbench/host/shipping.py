"""The raft_snapshots of one group, from the replica that has the state to those that lack it.

    Ready.snapshots_wanted ─▶ take, offer        Ready.chunks_wanted ─▶ read ─▶ supply
                                                     └─ still being made ─▶ again at a tick

One raft_snapshot serves all followers, as long as the log still goes on behind it. A piece that
can no longer be read is no error: the follower is offered another raft_snapshot later. What
nobody has read of for RELEASE_AFTER_TICKS is let go of: it takes room. A follower that had all of
it and asks for its beginning has refused the whole, so it is taken anew: what was taken may be
damaged here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.ports.storage import Waiting

if TYPE_CHECKING:
    from workbench.ports.consensus import ChunkWanted, Consensus, Ready, SnapshotMeta
    from workbench.ports.storage import RaftSnapshots

RELEASE_AFTER_TICKS: Final = 1_500


class Shipping:
    """What a leader has to do for followers that its log no longer reaches."""

    def __init__(self, consensus: Consensus, snapshots: RaftSnapshots) -> None:
        self._consensus = consensus
        self._snapshots = snapshots
        self._taken: SnapshotMeta | None = None
        # Pieces that were still being made, by receiver.
        self._waiting: dict[int, ChunkWanted] = {}
        # Who has been sent the last piece of what is taken.
        self._ended: set[int] = set()
        self._asked = False
        self._idle_ticks = 0

    def tick(self) -> None:
        """Let time pass: pieces may have been made, or the last of them read long ago."""
        self._asked = False
        self._idle_ticks += 1
        if self._taken is not None and self._idle_ticks >= RELEASE_AFTER_TICKS:
            self.forget()

    def has_work(self) -> bool:
        """Tell whether pieces that were still being made may be there."""
        return bool(self._waiting) and not self._asked

    def serve(self, ready: Ready, applied_index: int) -> None:
        """Offer and supply what a Ready that is done asked for."""
        for follower in ready.snapshots_wanted:
            self._consensus.offer_snapshot(follower, self._current(applied_index))
        for wanted in ready.chunks_wanted:
            self._supply(wanted)

    def again(self) -> None:
        """Supply what was still being made, as far as it is there now."""
        waiting, self._waiting = self._waiting, {}
        for wanted in waiting.values():
            self._supply(wanted)

    def forget(self) -> None:
        """Take no raft_snapshot that was taken before for one of the state as it is now."""
        if self._taken is not None:
            self._taken = None
            self._ended.clear()
            self._snapshots.release()

    def _supply(self, wanted: ChunkWanted) -> None:
        self._idle_ticks = 0
        if wanted.offset == 0 and wanted.receiver in self._ended and wanted.meta == self._taken:
            self.forget()
            self._consensus.snapshot_gone(wanted)
            return
        found = self._snapshots.read(wanted.meta, wanted.offset)
        if found is Waiting.WAIT:
            self._waiting[wanted.receiver] = wanted
            self._asked = True
        elif found is None:
            if wanted.meta == self._taken:
                self._taken = None
                self._ended.clear()
            self._consensus.snapshot_gone(wanted)
        else:
            data, last = found
            if last:
                self._ended.add(wanted.receiver)
            self._consensus.supply_chunk(wanted, data, done=last)

    def _current(self, applied_index: int) -> SnapshotMeta:
        """Return what is called the raft_snapshot that can be read."""
        self._idle_ticks = 0
        if self._taken is None or self._taken.index < self._consensus.compacted:
            self._taken = self._consensus.snapshot_meta(applied_index)
            self._ended.clear()
            self._snapshots.take(self._taken)
        return self._taken
