"""One group's way through a turn: its queue, its proposals, its reads.

    propose ─▶ queue ─begin─▶ stamped, coalesced, proposed ─(committed)─finish─▶ applied ─▶ reply
    read ────▶ queue ─begin or finish─▶ admitted at a read_ts ─confirmed and applied─▶ reply
    messages ─begin─▶ stepped         a raft_snapshot, whole ─finish─▶ state and log replaced

Rules:
- Only a leader works, and not before an entry of its own term has applied. Its clock then starts
  at the ceiling of everything applied before.
- A group that has no first records gets its Bootstrap before anything else.
- Admission raises the clock to a read's read_ts, which lies below the ceiling of an entry that
  is proposed or applied. The read is answered once leadership is confirmed and everything that
  was proposed before its admission has applied; so nothing that comes later is at or below it.
- An idle leader proposes an empty entry where a read needs a higher ceiling, and only then.
- A command that was proposed and whose leadership is lost has an unknown outcome, unless it had
  committed by then; one that was only queued, and every read, has not happened.
- Of the log so much is kept as followers may still need; a group without others keeps nothing.
- While a raft_snapshot is installed the group stands still, and takes up what queued afterwards.

Durability is the caller's: see `host`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput, Unavailable, WorkbenchError
from workbench.host.receiving import Receiving
from workbench.host.refusals import leadership_lost, not_leader, read_ts_ahead
from workbench.host.shipping import Shipping
from workbench.host.values import Group, MembersChanged, Reply
from workbench.model.limits import (
    CLIENT_CLOCK_AHEAD_MS_MAX,
    ENTRY_BYTES_MAX,
    ENTRY_BYTES_TARGET,
)
from workbench.model.node import GroupStatus
from workbench.model.times import hlc_ms, hlc_of_ms
from workbench.ports.storage import GroupWrite
from workbench.replica.clock import Hlc, ceiling_of, clock_behind
from workbench.replica.commands import GetMany, Refused, ScanPage
from workbench.replica.entry import ENTRY_HEAD_BYTES, encode_command, encode_entry
from workbench.replica.spans import check_owned
from workbench.routing.rules import bootstrap_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workbench.ports.consensus import (
        ChunkReceived,
        Configuration,
        HardState,
        LogEntry,
        ReadState,
        Ready,
        SnapshotMeta,
    )
    from workbench.ports.peers import Message
    from workbench.replica.commands import Bootstrap, Command, Read
    from workbench.replica.entry import EncodedCommand

QUEUE_COMMANDS_MAX: Final = 16_384
QUEUE_BYTES_MAX: Final = 16 * 2**20
QUEUE_READS_MAX: Final = 16_384
QUEUE_CHANGES_MAX: Final = 16
# Applied entries that stay in a log for followers that are behind by less; beyond, and for a
# node that joins, a raft_snapshot is sent.
LOG_KEEP_ENTRIES: Final = 4_096
LOG_KEEP_BYTES: Final = 32 * 2**20
# More wait for the next turn, so that one sync never covers an unbounded number of bytes.
ENTRIES_PER_TURN_MAX: Final = 8
# The ceiling is renewed so long before latest reads would reach it: a sync may take a while.
CEILING_MARGIN_MS: Final = 100


@dataclass(frozen=True, slots=True)
class _Proposal:
    """An entry that was proposed.

    Attributes:
        term: Of this node's leadership.
        tokens: Of its commands, in order; of a change of the members the one.
        bootstrap: It brings the first records, for nobody.
        change: The members that it brings; None for an entry of commands.
    """

    term: int
    tokens: tuple[int, ...]
    bootstrap: bool = False
    change: Configuration | None = None


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


@dataclass(frozen=True, slots=True)
class Begun:
    """What a lane adds to its host's turn, as `Turn` has it."""

    write: GroupWrite | None = None
    must_sync: bool = False
    early: tuple[Message, ...] = ()
    chunks: tuple[ChunkReceived, ...] = ()


_NOTHING: Final = Begun()


class Lane:
    """One group in its host; between `begin` and `finish` calls only queue."""

    def __init__(self, number: int, group: Group) -> None:
        self.consensus = group.consensus
        self.replica = group.replica
        self._group = number
        self._bootstrap = group.bootstrap
        self._bootstrap_index = 0
        # Whether the first records have to wait for time to pass.
        self._bootstrap_early = False
        self._receiving = Receiving(group.consensus, group.snapshots)
        self._shipping = (
            None if group.snapshots is None else Shipping(group.consensus, group.snapshots)
        )
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
        self._changes: deque[tuple[Configuration, int]] = deque()
        self._proposals: dict[int, _Proposal] = {}
        self._admitted: dict[int, _Admitted] = {}
        self._admitted_reads = 0
        # Context of the admission whose confirmation is under way; 0 for none.
        self._unconfirmed = 0
        self._context = 0
        self._ready: Ready | None = None
        # A commit index that is not written yet: it goes along with the next entries.
        self._unwritten: HardState | None = None
        self._replies: list[Reply] = []
        self._messages: list[Message] = []

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
        waiting = len(self._reads) + self._admitted_reads
        if waiting >= QUEUE_READS_MAX:
            raise self._queue_full(f"{waiting} reads")
        self._reads.append((read, token))
        self._reads_early = False

    def change_members(self, wanted: Configuration, token: int) -> None:
        """Queue a change of the members.

        Raises:
            InvalidInput: `group_unreplicated`.
            Unavailable: `queue_full`.
        """
        if self._shipping is None and len(wanted.members) > 1:
            raise InvalidInput(
                f"group {self._group} is kept by this node alone, without raft_snapshots",
                code="group_unreplicated",
                hint="start its node with peers",
            )
        if len(self._changes) >= QUEUE_CHANGES_MAX:
            raise self._queue_full(f"{len(self._changes)} changes of the members")
        self._changes.append((wanted, token))

    def tick(self) -> None:
        """Let time pass: for consensus, for what goes on beside, and for reads that are early."""
        self._receiving.tick()
        if self._shipping is not None:
            self._shipping.tick()
        if self._receiving.installing is None:
            self.consensus.tick()
        self._reads_early = self._bootstrap_early = False

    def has_work(self) -> bool:
        """Tell whether a turn would get anything done."""
        if self._receiving.has_work():
            return True
        if self._receiving.installing is not None:
            return False
        if self.consensus.leading_term != self._term or self.consensus.has_ready():
            return True
        if self._shipping is not None and self._shipping.has_work():
            return True
        if not self._bootstrap_early and self._needs_bootstrap():
            return True
        # A leader without an own entry applied has to wait; one that leads no more refuses.
        idle = self._clock is None and self._term != 0
        reads = bool(self._reads) and not self._reads_early and not self._unconfirmed
        return not idle and (bool(self._queue) or reads or bool(self._changes))

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
            serving=(
                self.consensus.leading_term == self._term
                and self._clock is not None
                and self.replica.bootstrapped
            ),
        )

    def check_invariants(self) -> None:
        """Assert what must hold between turns."""
        self.consensus.check_invariants()
        self.replica.check_invariants()
        assert self._queue_bytes == sum(command.size for command, _ in self._queue)
        assert all(index > self.replica.applied_index for index in self._proposals)
        commit = self.consensus.hard_state.commit
        assert all(
            each.term == self._term or index <= commit for index, each in self._proposals.items()
        )
        assert self._admitted_reads == sum(len(each.reads) for each in self._admitted.values())
        waited_for = self._admitted.get(self._unconfirmed)
        assert (waited_for is None) == (self._unconfirmed == 0)
        assert waited_for is None or not waited_for.confirmed
        assert self.consensus.compacted <= self.replica.applied_index
        if self._clock is not None:
            assert self.replica.last_commit_ts <= self._clock.last
            assert self.replica.ceiling <= self._ceiling

    def begin(self, now_ms: int, messages: Sequence[Message] = ()) -> Begun:
        """Take in what others say, propose and admit what waits; return what follows from it."""
        if not messages and not self.has_work():
            return _NOTHING
        if self._receiving.installing is not None:
            return _NOTHING
        self._receiving.step(messages)
        self._follow_leadership()
        if self._term == 0:
            self._refuse_queued()
        elif self._clock is not None:
            if self._needs_bootstrap():
                self._propose_bootstrap(self._clock, now_ms)
            self._propose_queued(self._clock, now_ms)
            self._propose_changes()
            refused = self._renew_ceiling(self._clock, now_ms)
            self._admit(self._clock, now_ms, renewed=True, refused=refused)
        ready = self.consensus.ready() if self.consensus.has_ready() else None
        self._ready = ready
        if ready is None:
            return _NOTHING
        if not ready.must_sync:
            self._unwritten = ready.hard_state or self._unwritten
            return Begun(early=ready.early)
        hard_state = ready.hard_state or self._unwritten
        self._unwritten = None
        # Entries that a raft_snapshot takes the place of need not become durable any more.
        entries = ready.entries if ready.snapshot is None else ()
        write = None
        if hard_state is not None or entries or ready.snapshot is not None:
            write = GroupWrite(self._group, hard_state, entries, ready.snapshot)
        return Begun(write, write is not None, ready.early, ready.chunks)

    def finish(self, now_ms: int) -> tuple[list[Reply], list[Message]]:
        """Apply and answer, after what `begin` returned was made durable."""
        ready, self._ready = self._receiving.installing or self._ready, None
        shipping = self._shipping if self._shipping and self._shipping.has_work() else None
        waits = self._reads or self._replies or self.consensus.has_ready() or shipping
        if ready is None and not waits:
            return [], []
        applied_index = self.replica.applied_index
        if ready is not None:
            self._carry_out(ready)
        if self._receiving.installing is not None:
            return self._said()
        if shipping is not None:
            shipping.again()
        self._drain()
        self._follow_leadership()
        if self._clock is not None and self._reads:
            # What came while the disk was busy need not wait for the next sync.
            self._admit(self._clock, now_ms, renewed=False)
            self._drain()
        self._answer_reads()
        if self.replica.applied_index != applied_index:
            alone = len(self.consensus.configuration.members) == 1
            self.consensus.trim(0 if alone else LOG_KEEP_ENTRIES, 0 if alone else LOG_KEEP_BYTES)
        return self._said()

    def _said(self) -> tuple[list[Reply], list[Message]]:
        """Return what is to be answered and sent, and forget it."""
        replies, self._replies = self._replies, []
        outgoing, self._messages = self._messages, []
        return replies, outgoing

    def _needs_bootstrap(self) -> bool:
        return (
            self._clock is not None
            and self._bootstrap is not None
            and self._bootstrap_index == 0
            and not self.replica.bootstrapped
        )

    def _follow_leadership(self) -> None:
        """Notice that leadership came, went, or came back in another term."""
        term = self.consensus.leading_term
        if term == self._term:
            return
        # What has committed will apply here soon; then it shows whose entry it is.
        self._lose_proposals(above=self.consensus.hard_state.commit)
        for admitted in self._admitted.values():
            self._fail((token for _, token in admitted.reads), not_leader(self._group))
        self._admitted.clear()
        self._admitted_reads = 0
        self._unconfirmed = 0
        self._term = term
        self._clock = None
        self._ceiling = 0
        self._bootstrap_index = 0

    def _refuse_queued(self) -> None:
        if not (self._queue or self._reads or self._changes):
            return
        error = not_leader(self._group)
        self._fail((token for _, token in self._queue), error)
        self._fail((token for _, token in self._reads), error)
        self._fail((token for _, token in self._changes), error)
        self._queue.clear()
        self._queue_bytes = 0
        self._reads = []
        self._changes.clear()

    def _lose_proposals(self, *, above: int) -> None:
        """Answer proposals behind an index of which this node will not learn what came."""
        for index in [index for index in self._proposals if index > above]:
            self._fail(self._proposals.pop(index).tokens, leadership_lost(self._group))

    def _propose_bootstrap(self, clock: Hlc, now_ms: int) -> None:
        """Propose the group's first records; later where the physical clock is behind."""
        assert self._bootstrap is not None
        ceiling = ceiling_of(now_ms)
        try:
            commit_ts = clock.issue(now_ms, ceiling)
            self._bootstrap_index = self._propose(
                ceiling,
                [(commit_ts, encode_command(self._bootstrap))],
                _Proposal(self._term, (), bootstrap=True),
            )
        except Unavailable:
            self._bootstrap_early = True

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
            try:
                self._propose(ceiling, stamped, _Proposal(self._term, tuple(tokens)))
            except Unavailable as error:
                self._fail(tokens, error)
                return

    def _propose_changes(self) -> None:
        """Propose changes of the members, each where the ones before let it."""
        while self._changes:
            wanted, token = self._changes.popleft()
            try:
                index = self.consensus.propose_configuration(wanted)
            except WorkbenchError as error:
                self._replies.append(Reply(token, error))
            else:
                self._proposals[index] = _Proposal(self._term, (token,), change=wanted)

    def _propose(
        self, ceiling: int, commands: list[tuple[int, EncodedCommand]], proposal: _Proposal
    ) -> int:
        """Propose an entry and return its index; Unavailable where consensus refuses it."""
        data = encode_entry(ceiling, commands)
        assert len(data) <= ENTRY_BYTES_MAX
        index = self.consensus.propose(data)
        self._proposals[index] = proposal
        self._ceiling = max(self._ceiling, ceiling)
        return index

    def _renew_ceiling(self, clock: Hlc, now_ms: int) -> Unavailable | None:
        """Propose an empty entry where that lets a queued read in; return what refused it."""
        ceiling = ceiling_of(now_ms)
        if ceiling <= self._ceiling:
            return None
        soon = clock.now(now_ms) + hlc_of_ms(CEILING_MARGIN_MS)
        for read, _ in self._reads:
            if not isinstance(read, GetMany | ScanPage):
                continue
            if self._ceiling <= (read.read_ts or soon) and (read.read_ts or clock.last) < ceiling:
                try:
                    self._propose(ceiling, [], _Proposal(self._term, ()))
                except Unavailable as error:
                    return error
                return None
        return None

    def _admit(
        self, clock: Hlc, now_ms: int, *, renewed: bool, refused: Unavailable | None = None
    ) -> None:
        """Admit the queued reads that lie below the ceiling.

        Not while an earlier admission waits for its round of heartbeats: what comes meanwhile
        shares the next one.

        `renewed`: it cannot be higher now, for the reason `refused` or the group's clock.
        """
        if self._unconfirmed:
            return
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
                self._replies.append(Reply(token, read_ts_ahead(read_ts, now_ms)))
            elif read_ts < self._ceiling:
                newest = max(newest, read_ts)
                reads.append((read if read.read_ts else replace(read, read_ts=read_ts), token))
            elif renewed and not read.read_ts:
                self._replies.append(Reply(token, refused or clock_behind(clock.last, now_ms)))
            else:
                early.append((read, token))
        self._reads = early
        self._reads_early = bool(early) and (renewed or self._reads_early)
        clock.observe(newest)
        if reads:
            self._context += 1
            self._unconfirmed = self._context
            self._admitted_reads += len(reads)
            self._admitted[self._context] = _Admitted(self.consensus.last_index, reads)
            self.consensus.read_index(self._context)

    def _carry_out(self, ready: Ready) -> None:
        """Carry out a durable Ready, whose early messages are sent; stop while it is installed."""
        if ready.snapshot is not None:
            if not self._receiving.install(ready):
                return
            self._installed(ready.snapshot)
        for entry in ready.committed:
            self._apply(entry)
        for state in ready.read_states:
            self._confirm(state)
        self._messages += ready.messages
        self.consensus.advance(ready)
        if ready.snapshots_wanted or ready.chunks_wanted:
            assert self._shipping is not None, "a group without other members"
            self._shipping.serve(ready, self.replica.applied_index)

    def _drain(self) -> None:
        """Carry out what follows without another sync; what needs one waits for the next turn."""
        while self.consensus.has_ready() and not self.consensus.needs_sync:
            ready = self.consensus.ready()
            self._unwritten = ready.hard_state or self._unwritten
            self._messages += ready.early
            self._carry_out(ready)

    def _installed(self, meta: SnapshotMeta) -> None:
        """Take up the state whose place a raft_snapshot has taken."""
        assert self._shipping is not None, "a group without other members"
        self._shipping.forget()
        self.replica.reload()
        assert self.replica.applied_index == meta.index
        for index in [index for index in self._proposals if index <= meta.index]:
            self._fail(self._proposals.pop(index).tokens, leadership_lost(self._group))

    def _apply(self, entry: LogEntry) -> None:
        results = self.replica.apply(entry)
        proposal = self._proposals.pop(entry.index, None)
        if proposal is None:
            pass
        elif proposal.term != entry.term:
            # Another leader's entry took its place.
            self._fail(proposal.tokens, leadership_lost(self._group))
        elif proposal.change is not None:
            done = MembersChanged(entry.index, proposal.change)
            self._replies += [Reply(token, done) for token in proposal.tokens]
        elif proposal.bootstrap:
            # The host checked it, so every replica takes it.
            assert not any(isinstance(result, Refused) for result in results), results
        else:
            answered = zip(proposal.tokens, results, strict=True)
            self._replies += [Reply(token, result) for token, result in answered]
        if self._clock is None and entry.term == self._term:
            self._clock = Hlc(self.replica.ceiling)
            self._ceiling = self.replica.ceiling

    def _confirm(self, state: ReadState) -> None:
        if state.context == self._unconfirmed:
            self._unconfirmed = 0
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
            reads = self._admitted.pop(context).reads
            self._admitted_reads -= len(reads)
            for read, token in reads:
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
