"""What a leader knows of one follower, and how much it may send to it.

    PROBE ──accepted──▶ REPLICATE ──rejected, lost──▶ PROBE        behind the log ──▶ SNAPSHOT
      one request, then wait   pipelined, a window of requests and bytes   chunk by chunk

Rules:
- `match` never falls: it is what the follower has told to be durable.
- match < next; a follower is sent entries from `next` on.
- A paused follower gets no entries until it answers, or until a heartbeat is answered: what is
  under way to it is at most the window and one request.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from workbench.ports.consensus import SnapshotMeta

INFLIGHT_REQUESTS_MAX: Final = 64
INFLIGHT_BYTES_MAX: Final = 8 * 2**20


class Pace(StrEnum):
    """How a follower is sent entries."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(slots=True)
class Progress:
    """One follower, as its leader sees it.

    Attributes:
        match: Newest index that is known to be equal and durable there.
        next: The next entry to send.
        pace: How.
        active: Whether it was heard of since the last check of the quorum.
        round: The newest round of reads that it confirmed.
        probe_sent: A probe is under way.
        inflight: (last index, bytes) of every request under way, ascending.
        meta: The raft_snapshot that it is being sent; None until one was offered.
        offset: What it has of that.
        chunk_ticks: Ticks since a chunk was asked for; the chunk or its answer may be lost.
    """

    next: int
    match: int = 0
    pace: Pace = Pace.PROBE
    active: bool = False
    round: int = 0
    probe_sent: bool = False
    inflight: deque[tuple[int, int]] = field(default_factory=deque)
    inflight_bytes: int = 0
    meta: SnapshotMeta | None = None
    offset: int = 0
    chunk_ticks: int = 0

    @property
    def is_paused(self) -> bool:
        """Whether nothing more may be sent now."""
        match self.pace:
            case Pace.PROBE:
                return self.probe_sent
            case Pace.REPLICATE:
                full = len(self.inflight) >= INFLIGHT_REQUESTS_MAX
                return full or self.inflight_bytes >= INFLIGHT_BYTES_MAX
            case Pace.SNAPSHOT:
                return True

    def sent(self, last_index: int, size: int) -> None:
        """Note a request with entries up to `last_index`."""
        if self.pace is Pace.PROBE:
            self.probe_sent = True
            return
        self.next = last_index + 1
        self.inflight.append((last_index, size))
        self.inflight_bytes += size

    def accepted(self, index: int) -> bool:
        """Note that everything up to `index` is there; tell whether that is news."""
        while self.inflight and self.inflight[0][0] <= index:
            self.inflight_bytes -= self.inflight.popleft()[1]
        news = index > self.match
        self.match = max(self.match, index)
        self.next = max(self.next, index + 1)
        self.probe_sent = False
        done = self.meta is not None and self.match >= self.meta.index
        if self.pace is Pace.PROBE or (self.pace is Pace.SNAPSHOT and done):
            self._become(Pace.REPLICATE, self.match + 1)
        return news

    def rejected(self, index: int, retry: int) -> bool:
        """Note that the entry at `index` is not there; go on behind `retry`.

        Returns:
            False for an answer that is older than what is known by now.
        """
        if self.pace is Pace.REPLICATE:
            if index <= self.match:
                return False
            self._become(Pace.PROBE, self.match + 1)
            return True
        if self.pace is Pace.SNAPSHOT or self.next - 1 != index:
            return False
        self.next = max(min(index, retry + 1), self.match + 1)
        self.probe_sent = False
        return True

    def lost(self) -> None:
        """Note that requests may have been lost: find out again what is there."""
        if self.pace is Pace.REPLICATE:
            self._become(Pace.PROBE, self.match + 1)

    def behind(self) -> None:
        """Note that the log no longer holds what it needs."""
        self._become(Pace.SNAPSHOT, self.next)

    def give_up_snapshot(self) -> None:
        """Start again with a probe, as after a raft_snapshot that can no longer be read."""
        self._become(Pace.PROBE, self.match + 1)

    def _become(self, pace: Pace, following: int) -> None:
        self.pace, self.next = pace, following
        self.probe_sent = False
        self.inflight.clear()
        self.inflight_bytes = self.offset = self.chunk_ticks = 0
        self.meta = None

    def check_invariants(self) -> None:
        """Assert what must hold between calls."""
        assert self.match < self.next
        assert self.inflight_bytes == sum(size for _, size in self.inflight)
        assert not self.inflight or self.pace is Pace.REPLICATE
        assert len(self.inflight) <= INFLIGHT_REQUESTS_MAX
        # The window lets one request begin that goes beyond it.
        newest = self.inflight[-1][1] if self.inflight else 0
        assert self.inflight_bytes - newest < INFLIGHT_BYTES_MAX
        assert self.pace is Pace.SNAPSHOT or self.meta is None
