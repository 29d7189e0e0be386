"""One group's way through a turn: its queue, its proposals, its reads.

    propose ─▶ queue ─begin─▶ stamped, coalesced, proposed ─(durable)─finish─▶ applied ─▶ reply
    read ────▶ queue ─begin or finish─▶ admitted at a read_ts ─confirmed and applied─▶ reply

Rules:
- Only a leader works, and not before an entry of its own term has applied. Its clock then starts
  at the ceiling of everything applied before.
- A group that has no first records gets its Bootstrap before anything else.
- Admission raises the clock to a read's read_ts, which lies below the ceiling of an entry that
  is proposed or applied. The read is answered once leadership is confirmed and everything that
  was proposed before its admission has applied; so nothing that comes later is at or below it.
- An idle leader proposes an empty entry where a read needs a higher ceiling, and only then.
- A command that was proposed and whose leadership is lost has an unknown outcome; one that was
  only queued, and every read, has not happened.

Durability is the caller's: see `host`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput, OutcomeUnknown, Unavailable, WorkbenchError
from workbench.host.values import Group, Reply
from workbench.model.limits import (
    CLIENT_CLOCK_AHEAD_MS_MAX,
    ENTRY_BYTES_MAX,
    ENTRY_BYTES_TARGET,
)
from workbench.model.node import GroupStatus
from workbench.model.times import hlc_ms, hlc_of_ms
from workbench.ports.consensus import Role
from workbench.ports.storage import GroupWrite
from workbench.replica.clock import Hlc, ceiling_of, clock_behind
from workbench.replica.commands import GetMany, Refused, ScanPage
from workbench.replica.entry import ENTRY_HEAD_BYTES, encode_command, encode_entry
from workbench.replica.spans import check_owned
from workbench.routing.rules import bootstrap_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workbench.ports.consensus import HardState, LogEntry, ReadState, Ready
    from workbench.replica.commands import Bootstrap, Command, Read
    from workbench.replica.entry import EncodedCommand

QUEUE_COMMANDS_MAX: Final = 16_384
QUEUE_BYTES_MAX: Final = 16 * 2**20
QUEUE_READS_MAX: Final = 16_384
# More wait for the next turn, so that one sync never covers an unbounded number of bytes.
ENTRIES_PER_TURN_MAX: Final = 8
# The ceiling is renewed so long before latest reads would reach it: a sync may take a while.
CEILING_MARGIN_MS: Final = 100


@dataclass(frozen=True, slots=True)
class _Proposal:
    """An entry that was proposed; its commands' tokens in order."""

    term: int
    tokens: tuple[int, ...]


@dataclass(slots=True)
class _Admitted:
    """Reads of one admission.

    Attributes:
        index: To be applied before they are answered.
        confirmed: Whether leadership has been confirmed since.
    """

    index: int
    reads: list[tuple[Read, int]]
    confirmed: bool = False


class Lane:
    """One group in its host; between `begin` and `finish` only `propose` and `read` are called."""

    def __init__(self, number: int, group: Group) -> None:
        self.consensus = group.consensus
        self.replica = group.replica
        self._group = number
        self._bootstrap = group.bootstrap
        self._bootstrap_index = 0
        # Term in which this node leads and works; 0 for none.
        self._term = 0
        # None until an entry of the own term has applied.
        self._clock: Hlc | None = None
        # The largest ceiling applied or proposed in this term.
        self._ceiling = 0
        self._queue: deque[tuple[EncodedCommand, int]] = deque()
        self._queue_bytes = 0
        self._reads: list[tuple[Read, int]] = []
        # Whether what is left of `_reads` has to wait for time to pass.
        self._reads_early = False
        self._proposals: dict[int, _Proposal] = {}
        self._admitted: dict[int, _Admitted] = {}
        self._context = 0
        self._ready: Ready | None = None
        # A commit index that is not written yet: it goes along with the next entries.
        self._unwritten: HardState | None = None
        self._replies: list[Reply] = []

    def propose(self, command: Command, token: int) -> None:
        """Queue a command.

        Raises:
            InvalidInput: `command_too_large`.
            Unavailable: `queue_full`.
        """
        encoded = encode_command(command)
        if ENTRY_HEAD_BYTES + encoded.size > ENTRY_BYTES_MAX:
            raise InvalidInput(
                f"the command has {encoded.size} bytes, a log entry at most {ENTRY_BYTES_MAX}",
                code="command_too_large",
                hint="divide it into smaller ones",
            )
        queued = len(self._queue)
        if queued >= QUEUE_COMMANDS_MAX or self._queue_bytes + encoded.size > QUEUE_BYTES_MAX:
            raise self._queue_full(f"{queued} commands of {self._queue_bytes} bytes")
        self._queue.append((encoded, token))
        self._queue_bytes += encoded.size

    def read(self, read: Read, token: int) -> None:
        """Queue a read; Unavailable (`queue_full`)."""
        if len(self._reads) >= QUEUE_READS_MAX:
            raise self._queue_full(f"{len(self._reads)} reads")
        self._reads.append((read, token))
        self._reads_early = False

    def tick(self) -> None:
        """Let time pass: for consensus, and for reads that are early."""
        self.consensus.tick()
        self._reads_early = False

    def has_work(self) -> bool:
        """Tell whether a turn would get anything done."""
        if self.consensus.has_ready() or self._needs_bootstrap():
            return True
        # A leader without an own entry applied has to wait; one that leads no more refuses.
        idle = self._clock is None and self._leads()
        return not idle and (bool(self._queue) or (bool(self._reads) and not self._reads_early))

    def status(self) -> GroupStatus:
        """Return how the group is on this node."""
        soft, hard = self.consensus.soft_state, self.consensus.hard_state
        return GroupStatus(
            group=self._group,
            role=soft.role.value,
            term=hard.term,
            commit_index=hard.commit,
            applied_index=self.replica.applied_index,
            leader_node=soft.leader,
            serving=self._leads() and self._clock is not None and self.replica.bootstrapped,
        )

    def check_invariants(self) -> None:
        """Assert what must hold between turns."""
        self.consensus.check_invariants()
        self.replica.check_invariants()
        assert self._queue_bytes == sum(command.size for command, _ in self._queue)
        assert all(index > self.replica.applied_index for index in self._proposals)
        assert all(each.term == self._term for each in self._proposals.values())
        if self._clock is not None:
            assert self.replica.last_commit_ts <= self._clock.last
            assert self.replica.ceiling <= self._ceiling

    def begin(self, now_ms: int) -> tuple[GroupWrite | None, bool]:
        """Propose and admit what waits; return what to write, and whether to sync it."""
        self._follow_leadership()
        if self._term == 0:
            self._refuse_queued()
        elif self._clock is not None:
            if self._needs_bootstrap():
                self._propose_bootstrap(self._clock, now_ms)
            self._propose_queued(self._clock, now_ms)
            self._renew_ceiling(self._clock, now_ms)
            self._admit(self._clock, now_ms, renewed=True)
        ready = self.consensus.ready() if self.consensus.has_ready() else None
        self._ready = ready
        if ready is None:
            return None, False
        if not ready.must_sync:
            self._unwritten = ready.hard_state or self._unwritten
            return None, False
        hard_state = ready.hard_state or self._unwritten
        self._unwritten = None
        return GroupWrite(self._group, hard_state, ready.entries), True

    def finish(self, now_ms: int) -> list[Reply]:
        """Apply and answer, after what `begin` returned was made durable."""
        ready, self._ready = self._ready, None
        self._drain(ready)
        self._follow_leadership()
        if self._clock is not None and self._reads:
            # What came while the disk was busy need not wait for the next sync.
            self._admit(self._clock, now_ms, renewed=False)
            self._drain(self._next_ready())
        self._answer_reads()
        replies, self._replies = self._replies, []
        return replies

    def _leads(self) -> bool:
        return self.consensus.soft_state.role is Role.LEADER

    def _needs_bootstrap(self) -> bool:
        return (
            self._clock is not None
            and self._bootstrap is not None
            and self._bootstrap_index == 0
            and not self.replica.bootstrapped
        )

    def _follow_leadership(self) -> None:
        """Notice that leadership came, went, or came back in another term."""
        term = self.consensus.hard_state.term if self._leads() else 0
        if term == self._term:
            return
        for proposal in self._proposals.values():
            self._fail(proposal.tokens, _leadership_lost(self._group))
        self._proposals.clear()
        for admitted in self._admitted.values():
            self._fail((token for _, token in admitted.reads), _not_leader(self._group))
        self._admitted.clear()
        self._term = term
        self._clock = None
        self._ceiling = 0
        self._bootstrap_index = 0

    def _refuse_queued(self) -> None:
        error = _not_leader(self._group)
        self._fail((token for _, token in self._queue), error)
        self._fail((token for _, token in self._reads), error)
        self._queue.clear()
        self._queue_bytes = 0
        self._reads = []

    def _propose_bootstrap(self, clock: Hlc, now_ms: int) -> None:
        """Propose the group's first records; later where the physical clock is behind."""
        assert self._bootstrap is not None
        ceiling = ceiling_of(now_ms)
        try:
            commit_ts = clock.issue(now_ms, ceiling)
        except Unavailable:
            return
        self._propose(ceiling, [(commit_ts, encode_command(self._bootstrap))], ())
        self._bootstrap_index = self.consensus.last_index

    def _propose_queued(self, clock: Hlc, now_ms: int) -> None:
        """Coalesce what is queued into entries, each command with its commit_ts."""
        ceiling = ceiling_of(now_ms)
        queue = self._queue
        for _ in range(ENTRIES_PER_TURN_MAX):
            size = ENTRY_HEAD_BYTES
            stamped: list[tuple[int, EncodedCommand]] = []
            tokens: list[int] = []
            while queue:
                command, token = queue[0]
                if stamped and size + command.size > ENTRY_BYTES_TARGET:
                    break
                queue.popleft()
                self._queue_bytes -= command.size
                try:
                    stamped.append((clock.issue(now_ms, ceiling), command))
                except Unavailable as error:
                    self._replies.append(Reply(token, error))
                    continue
                tokens.append(token)
                size += command.size
            if not stamped:
                return
            self._propose(ceiling, stamped, tuple(tokens))

    def _propose(
        self, ceiling: int, commands: list[tuple[int, EncodedCommand]], tokens: tuple[int, ...]
    ) -> None:
        data = encode_entry(ceiling, commands)
        assert len(data) <= ENTRY_BYTES_MAX
        index = self.consensus.propose(data)
        self._proposals[index] = _Proposal(self._term, tokens)
        self._ceiling = max(self._ceiling, ceiling)

    def _renew_ceiling(self, clock: Hlc, now_ms: int) -> None:
        """Propose an empty entry where that lets a queued read in."""
        ceiling = ceiling_of(now_ms)
        if ceiling <= self._ceiling:
            return
        soon = clock.now(now_ms) + hlc_of_ms(CEILING_MARGIN_MS)
        for read, _ in self._reads:
            if not isinstance(read, GetMany | ScanPage):
                continue
            if self._ceiling <= (read.read_ts or soon) and (read.read_ts or clock.last) < ceiling:
                self._propose(ceiling, [], ())
                return

    def _admit(self, clock: Hlc, now_ms: int, *, renewed: bool) -> None:
        """Admit the queued reads that lie below the ceiling; `renewed`: it cannot be higher."""
        reads: list[tuple[Read, int]] = []
        early: list[tuple[Read, int]] = []
        latest = clock.now(now_ms)
        newest = 0
        for read, token in self._reads:
            if not isinstance(read, GetMany | ScanPage):
                reads.append((read, token))
                continue
            read_ts = read.read_ts or latest
            if read.read_ts and hlc_ms(read_ts) > now_ms + CLIENT_CLOCK_AHEAD_MS_MAX:
                self._replies.append(Reply(token, _read_ts_ahead(read_ts, now_ms)))
            elif read_ts < self._ceiling:
                newest = max(newest, read_ts)
                reads.append((read if read.read_ts else replace(read, read_ts=read_ts), token))
            elif renewed and not read.read_ts:
                self._replies.append(Reply(token, clock_behind(clock.last, now_ms)))
            else:
                early.append((read, token))
        self._reads = early
        self._reads_early = bool(early) and (renewed or self._reads_early)
        clock.observe(newest)
        if reads:
            self._context += 1
            self._admitted[self._context] = _Admitted(self.consensus.last_index, reads)
            self.consensus.read_index(self._context)

    def _drain(self, ready: Ready | None) -> None:
        """Carry out a durable Ready, and what follows from it without another sync."""
        while ready is not None:
            for entry in ready.committed:
                self._apply(entry)
            for state in ready.read_states:
                self._confirm(state)
            self.consensus.advance(ready)
            ready = self._next_ready()

    def _next_ready(self) -> Ready | None:
        """Take the next Ready unless it needs a sync: then the next turn gets the same one."""
        if not self.consensus.has_ready():
            return None
        ready = self.consensus.ready()
        if ready.must_sync:
            return None
        self._unwritten = ready.hard_state or self._unwritten
        return ready

    def _apply(self, entry: LogEntry) -> None:
        results = self.replica.apply(entry)
        proposal = self._proposals.pop(entry.index, None)
        if proposal is None:
            pass
        elif proposal.term != entry.term:
            # Another leader's entry took its place.
            self._fail(proposal.tokens, _leadership_lost(self._group))
        elif entry.index == self._bootstrap_index:
            # The host checked it, so every replica takes it.
            assert not any(isinstance(result, Refused) for result in results), results
        else:
            answered = zip(proposal.tokens, results, strict=True)
            self._replies += [Reply(token, result) for token, result in answered]
        if self._clock is None and entry.term == self._term:
            self._clock = Hlc(self.replica.ceiling)
            self._ceiling = self.replica.ceiling

    def _confirm(self, state: ReadState) -> None:
        admitted = self._admitted.get(state.context)
        if admitted is not None:
            admitted.index = max(admitted.index, state.index)
            admitted.confirmed = True

    def _answer_reads(self) -> None:
        """Answer the reads that are confirmed and whose index has applied."""
        applied = self.replica.applied_index
        due = [
            context
            for context, admitted in self._admitted.items()
            if admitted.confirmed and admitted.index <= applied
        ]
        for context in due:
            for read, token in self._admitted.pop(context).reads:
                try:
                    self._replies.append(Reply(token, self.replica.read(read)))
                except WorkbenchError as error:
                    self._replies.append(Reply(token, error))

    def _fail(self, tokens: Iterable[int], error: WorkbenchError) -> None:
        self._replies += (Reply(token, error) for token in tokens)

    def _queue_full(self, what: str) -> Unavailable:
        return Unavailable(
            f"group {self._group} has {what} waiting",
            code="queue_full",
            hint="nothing was done: send less at once, and try again",
        )


def check_bootstrap(bootstrap: Bootstrap, *, is_catalog: bool) -> None:
    """Raise InvalidInput where a replica would refuse these first records."""
    check_owned(bootstrap.spans)
    if bootstrap.routes and not is_catalog:
        raise InvalidInput(
            "a group other than the catalog's is given seed routes",
            code="seed_routes_misplaced",
            hint="give the seed routes to the catalog group",
        )
    if bootstrap.routes:
        bootstrap_state(bootstrap.routes)


def _leadership_lost(group: int) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"this node lost the leadership of group {group} before the command was known to apply",
        code="leadership_lost",
        hint="it may still take effect: look, or repeat it with the same client id and sequence",
    )


def _not_leader(group: int) -> Unavailable:
    return Unavailable(
        f"this node does not lead group {group}",
        code="not_leader",
        hint="nothing was done: ask the group's leader",
    )


def _read_ts_ahead(read_ts: int, now_ms: int) -> InvalidInput:
    return InvalidInput(
        f"read_ts {read_ts} lies {hlc_ms(read_ts) - now_ms} ms ahead of the leader's clock, more "
        f"than {CLIENT_CLOCK_AHEAD_MS_MAX}",
        code="read_ts_ahead",
        hint="read at 0 for the latest, or check the client's clock",
    )
