"""The raft_snapshot that comes in for one group: when its last piece counts, and the install.

    pieces ─▶ consensus ─▶ kept        last piece ─▶ checked ─▶ consensus ─▶ log reset ─▶ install
                                                       └─ not what it is called ─▶ sent again

Rules:
- Consensus sees the last piece only once all of them were found to be the state that they are
  called: with it the log is reset, and there is no way back.
- Checks and installs may go on for many turns. The group stands still during an install, the
  other groups of the host do not. Whether one is done is asked in every turn; a tick makes one.
- A group that stands still drops what others say, as a process that is paused would; they say it
  again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.ports.peers import SnapshotChunk
from workbench.ports.storage import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.ports.consensus import Consensus, Ready
    from workbench.ports.peers import Message
    from workbench.ports.storage import RaftSnapshots


class Receiving:
    """What a follower does with pieces and with the Ready that ends them.

    Args:
        consensus: Of the group.
        snapshots: Likewise; None for a group that has no other members.
    """

    def __init__(self, consensus: Consensus, snapshots: RaftSnapshots | None) -> None:
        self._consensus = consensus
        self._snapshots = snapshots
        # The Ready whose raft_snapshot is being installed, and which is carried out no further.
        self.installing: Ready | None = None
        # A last piece that is being checked.
        self._held: SnapshotChunk | None = None
        # Whether what goes on was asked for since the last tick.
        self._asked = False

    def tick(self) -> None:
        """Let time pass: what goes on may be done."""
        self._asked = False

    def has_work(self) -> bool:
        """Tell whether to ask for what goes on."""
        return not self._asked and (self._held is not None or self.installing is not None)

    def step(self, messages: Sequence[Message]) -> None:
        """Have consensus take in what others say; a last piece only once it was checked."""
        held, self._held = self._held, None
        if held is not None:
            self._offer(held)
        for message in messages:
            if isinstance(message, SnapshotChunk) and message.done:
                self._offer(message)
            else:
                self._consensus.step(message)

    def install(self, ready: Ready) -> bool:
        """Have the raft_snapshot of a durable Ready put in; tell whether it is.

        Where it is not yet, ask again with the same Ready.

        Raises:
            Corruption, Storage: the process must stop.
        """
        assert self._snapshots is not None, "a group without other members"
        assert ready.snapshot is not None
        if self.installing is None:
            done = self._snapshots.begin_install(ready.snapshot)
        else:
            assert self.installing is ready
            done = self._snapshots.installed()
        self.installing = None if done else ready
        self._asked = not done
        return done

    def _offer(self, chunk: SnapshotChunk) -> None:
        if self._snapshots is not None and self._consensus.takes(chunk):
            sound = self._snapshots.check(chunk.meta, chunk.offset, chunk.data)
            if sound is Waiting.WAIT:
                self._held = chunk
                self._asked = True
                return
            if not sound:
                self._consensus.refuse_snapshot(chunk.meta)
                return
        self._consensus.step(chunk)
