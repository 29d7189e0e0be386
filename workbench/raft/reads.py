"""Rounds of reads: one heartbeat confirms the leadership for every read that waits.

    read_index(7), read_index(8) ──▶ round 3 ──heartbeats──▶ majority answered round 3 ──▶ both

A read gets the commit index of the moment it was asked, and is confirmed once a majority has
answered a heartbeat that was sent afterwards (dissertation, 6.4). Reads that are asked before an
entry of the leader's own term has committed wait: until then its commit index may be behind.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from workbench.ports.consensus import ReadState


@dataclass(slots=True)
class ReadRounds:
    """The reads of one leader in one term.

    Attributes:
        sent: The newest round that heartbeats carry.
        early: Contexts that wait for the first commit of the term.
        fresh: Contexts asked since the newest round was sent.
        waiting: (round, contexts with their index), ascending.
    """

    sent: int = 0
    early: list[int] = field(default_factory=list)
    fresh: list[ReadState] = field(default_factory=list)
    waiting: deque[tuple[int, list[ReadState]]] = field(default_factory=deque)

    def ask(self, context: int, commit: int | None) -> None:
        """Take a read in; `commit` is None before the first commit of the term."""
        if commit is None:
            self.early.append(context)
        else:
            self.fresh.append(ReadState(context, commit))

    def committed(self, commit: int) -> None:
        """Let in what waited for the first commit of the term."""
        self.fresh += [ReadState(context, commit) for context in self.early]
        self.early.clear()

    def begin_round(self) -> bool:
        """Open a round for what is fresh; tell whether heartbeats have to go out for it."""
        if not self.fresh:
            return False
        self.sent += 1
        self.waiting.append((self.sent, self.fresh))
        self.fresh = []
        return True

    def confirmed(self, round_: int) -> list[ReadState]:
        """Return the reads of all rounds up to `round_`, which a majority has answered."""
        done: list[ReadState] = []
        while self.waiting and self.waiting[0][0] <= round_:
            done += self.waiting.popleft()[1]
        return done
