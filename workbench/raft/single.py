"""Consensus of a group with one voter: what is durable on its own disk is committed.

It walks the way that many voters walk, so that nothing around it has to change for them:

    start ──▶ vote for itself in the next term, append an empty entry of that term
    propose ──▶ entries ──ready()──▶ durable ──advance()──▶ committed ──ready()──▶ apply

Rules:
- It leads from the start, but its vote counts only once it is durable, and so nothing commits
  before the Ready that carries the vote, or the entry, was advanced.
- An entry commits when the Ready that carried it was advanced: the only voter has it.
- A read is confirmed only after an entry of the own term has committed (dissertation, 6.4);
  reads asked for earlier are kept until then.
- Whatever a restart finds in the log above the applied index is durable on the only voter, so
  it is committed, and is handed out again.

It elects nobody else, sends nothing and never loses its leadership: a group with more voters
needs the other implementation of the port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import Corruption
from workbench.ports.consensus import HardState, LogEntry, ReadState, Ready, Role, SoftState

if TYPE_CHECKING:
    from workbench.ports.storage import GroupLog


class SingleVoter:
    """The consensus of a group whose only voter is this node.

    Args:
        node: Id of this node, not zero.
        log: What the log holds of the group, all of it durable.
        applied_index: What the state machine has applied, and will not need again.

    Raises:
        Corruption: log and state do not belong together (`log_behind_state`, `log_incomplete`),
            or the log is not this voter's (`log_vote_foreign`, `log_term_ahead`).
    """

    def __init__(self, node: int, log: GroupLog, applied_index: int) -> None:
        assert node > 0
        _check_log(node, log, applied_index)
        self._node = node
        self._durable = log.hard_state
        # Committed or not yet durable; invariant: without holes, the first is _applied + 1.
        self._entries = [entry for entry in log.entries if entry.index > applied_index]
        # Invariant: _applied <= _commit <= _stable <= last_index.
        self._applied = applied_index
        self._commit = self._stable = self._last = log.last_index
        self._waiting: list[int] = []
        self._confirmed: list[ReadState] = []
        self._taken: Ready | None = None
        self._term = log.hard_state.term + 1
        self._first_own = self._append(b"")

    @property
    def soft_state(self) -> SoftState:
        """Role and leader: always this node."""
        return SoftState(Role.LEADER, self._node)

    @property
    def hard_state(self) -> HardState:
        """Term, vote and commit now; durable only after the Ready that carries them."""
        return HardState(self._term, self._node, self._commit)

    @property
    def last_index(self) -> int:
        """Index of the newest entry in the log, durable or not."""
        return self._last

    def tick(self) -> None:
        """Let time pass, to no effect: nobody else can campaign."""

    def propose(self, data: bytes) -> int:
        """Append an entry, which must not be empty, and return its index."""
        assert data, "the empty entry opens a term"
        return self._append(data)

    def read_index(self, context: int) -> None:
        """Ask for a ReadState with this context, given once an own entry has committed."""
        self._waiting.append(context)
        self._confirm()

    def has_ready(self) -> bool:
        """Tell whether `ready` would return anything to do."""
        return (
            self._taken is not None
            or self._last > self._stable
            or self._commit > self._applied
            or bool(self._confirmed)
            or self._durable != self.hard_state
        )

    def ready(self) -> Ready:
        """Return what has to be done next; the same value until it is advanced."""
        if self._taken is None:
            hard_state = self.hard_state
            unstable = tuple(self._entries[self._stable - self._applied :])
            voted = (hard_state.term, hard_state.vote) != (self._durable.term, self._durable.vote)
            self._taken = Ready(
                hard_state=None if hard_state == self._durable else hard_state,
                entries=unstable,
                committed=tuple(self._entries[: self._commit - self._applied]),
                read_states=tuple(self._confirmed),
                must_sync=voted or bool(unstable),
            )
            self._confirmed.clear()
        return self._taken

    def advance(self, ready: Ready) -> None:
        """Note that all of `ready` is durable and applied; commit what it made durable."""
        assert ready is self._taken, "advance follows the Ready that was taken"
        self._taken = None
        if ready.hard_state is not None:
            self._durable = ready.hard_state
        if ready.committed:
            self._applied = ready.committed[-1].index
            del self._entries[: len(ready.committed)]
        if ready.entries:
            self._stable = ready.entries[-1].index
            self._commit = self._stable
            self._confirm()

    def check_invariants(self) -> None:
        """Assert what must hold between calls."""
        assert self._applied <= self._commit <= self._stable <= self._last
        indices = [entry.index for entry in self._entries]
        assert indices == list(range(self._applied + 1, self._last + 1)), "the log has no holes"
        terms = [entry.term for entry in self._entries]
        assert terms == sorted(terms), "terms never fall along the log"
        assert all(term <= self._term for term in terms)
        assert self._durable.term <= self._term
        assert self._durable.commit <= self._commit
        assert self._first_own <= self._last
        assert not self._waiting or self._commit < self._first_own
        assert all(self._first_own <= each.index <= self._commit for each in self._confirmed)

    def _append(self, data: bytes) -> int:
        """Append an entry of the own term and return its index."""
        self._last += 1
        self._entries.append(LogEntry(self._last, self._term, data))
        return self._last

    def _confirm(self) -> None:
        """Confirm what waits, once an entry of the own term has committed."""
        if self._commit >= self._first_own and self._waiting:
            self._confirmed += [ReadState(context, self._commit) for context in self._waiting]
            self._waiting.clear()


def _check_log(node: int, log: GroupLog, applied_index: int) -> None:
    """Refuse a log that cannot be continued by this voter from this applied index."""
    if applied_index > log.last_index:
        raise Corruption(
            f"the state has applied index {applied_index}, its log ends at {log.last_index}",
            code="log_behind_state",
            hint="log and state come from different moments: restore both together",
        )
    kept = [entry.index for entry in log.entries if entry.index > applied_index]
    if kept != list(range(applied_index + 1, log.last_index + 1)):
        raise Corruption(
            f"the log keeps {len(kept)} entries above the applied index {applied_index}, it ends "
            f"at {log.last_index}",
            code="log_incomplete",
            hint="log and state come from different moments: restore both together",
        )
    if log.hard_state.vote not in {0, node}:
        raise Corruption(
            f"the log's vote is for node {log.hard_state.vote}, this is node {node}",
            code="log_vote_foreign",
            hint="start the node that the directory belongs to",
        )
    if log.last_term > log.hard_state.term:
        raise Corruption(
            f"the log ends in term {log.last_term}, its hard state is of {log.hard_state.term}",
            code="log_term_ahead",
            hint="a record of the log was lost: restore the directory",
        )
