"""The client as a machine: events and the time in, effects out.

    start ───────────────▶ ┌─────────────────────────────────┐ ──▶ Send, WatchRoutes, Cancel
    answered, failed ────▶ │ routes │ leaders │ sequences    │ ──▶ Rows, Done, Failed
    watched, tick ───────▶ │ operations │ timers             │ ──▶ wake_at_ms
                           └─────────────────────────────────┘

Rules:
- A call ends by its deadline, whatever happens: a write that may have been made as OutcomeUnknown,
  all else with what went wrong last.
- Reads, and writes that certainly were not made, are tried again: at the leader that was named,
  else at the next address after a pause. A write whose fate is not known is repeated only under
  the same sequence, first at the same group: that group's answer is the first one's. Where it
  refuses as not the owner, the write goes on to the owner, still under its sequence: what the
  group remembers has gone there with the span, and a copy that comes late finds it, also where the
  span has come back. At-least-once writes are never repeated after they were sent.
- An Ask goes from node to node likewise, but ends at once where nobody answers at any address,
  and with whatever a group refuses for a reason of its own.
- At most WRITES_MAX writes of one client are under way per group, so that the group still keeps
  the first answer of every one of them; the others wait their turn.
- Routes are listed once, then followed by a watch; by polling where the server has none. A refusal
  for ownership, or a hole in the deltas, lists them again.

No I/O, no clock, no randomness: the same events give the same effects.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from workbench.client.checks import check_call
from workbench.client.operations import AskOp, ReadOp, ScanOp, WriteOp, operation_of
from workbench.client.routes import RouteCache
from workbench.client.trouble import Trouble, overdue
from workbench.client.values import (
    Answer,
    Ask,
    Call,
    Cancel,
    Done,
    Effect,
    Failed,
    Failure,
    Fate,
    Page,
    Request,
    RoutesRequest,
    Rows,
    Send,
    WatchRoutes,
    may_ask_again,
)
from workbench.errors import (
    Corruption,
    InvalidArgument,
    OutcomeUnknown,
    Unavailable,
    WorkbenchError,
)
from workbench.routing.rules import CATALOG_GROUP
from workbench.routing.table import RouteTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.client.operations import Operation
    from workbench.routing.records import RouteDelta

# Half of what a group keeps per client, so that no answer is forgotten while it is waited for.
WRITES_MAX: Final = 64
PAUSE_MIN_MS: Final = 10
PAUSE_MAX_MS: Final = 500
WATCH_PAUSE_MS: Final = 250
# So often in a row a call follows the leader that it is told of without a pause.
MOVES_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Options:
    """How patient a client is.

    Attributes:
        attempt_ms: Of one attempt; a call has several within its own deadline.
        poll_ms: Between two listings of routes where the server has no watch.
        watch: Whether to follow the routes between calls.
    """

    attempt_ms: int = 2_000
    poll_ms: int = 2_000
    watch: bool = True


@dataclass(slots=True)
class _Under:
    """A call under way."""

    number: int
    op: Operation
    deadline_ms: int
    tries: int = 0
    moves: int = 0
    paused: bool = False
    trouble: Trouble = field(default_factory=Trouble)
    attempts: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A request that is unanswered; `under` is None for those of the client itself."""

    under: _Under | None
    request: Request | None  # None: the watch
    address: str
    group: int


class _Window:
    """The writes to one group that are under way: sequence, and how many came before it."""

    __slots__ = ("begun", "taken", "waiting")

    def __init__(self) -> None:
        self.begun = 0
        self.taken: dict[int, int] = {}  # in the order in which they began
        self.waiting: deque[_Under] = deque()

    @property
    def free(self) -> int:
        """How many more may begin before the oldest has ended."""
        oldest = next(iter(self.taken.values()), self.begun)
        return WRITES_MAX - (self.begun - oldest)

    def take(self, sequence: int) -> None:
        """Begin a write, unless it has begun."""
        if sequence not in self.taken:
            self.taken[sequence] = self.begun
            self.begun += 1


class Client:
    """The client of one cluster.

    Args:
        addresses: `HOST:PORT` of one or more nodes.
        client_id: 16 bytes that nobody else uses, for exactly-once writes.
        options: How patient it is.
    """

    def __init__(
        self, addresses: Sequence[str], client_id: bytes, options: Options | None = None
    ) -> None:
        if not addresses or len(client_id) != 16:
            raise InvalidArgument(
                f"{len(addresses)} addresses and a client id of {len(client_id)} bytes",
                code="client_arguments",
                hint="give at least one HOST:PORT and 16 bytes",
            )
        self._addresses = tuple(dict.fromkeys(addresses))
        self._client_id = client_id
        self._options = options or Options()
        self._cache = RouteCache()
        self._leaders: dict[int, str] = {}
        self._rotation = 0
        # One count for all groups: what a group remembers goes along with a span that moves.
        self._sequence = 0
        self._windows: dict[int, _Window] = {}
        self._calls: dict[int, _Under] = {}
        self._attempts: dict[int, _Attempt] = {}
        self._numbers = 0
        self._waiting: list[_Under] = []  # for the first routes
        self._listing: int | None = None  # attempt
        self._list_tries = 0
        self._nobody: set[str] = set()  # addresses at which nobody answers, before the first routes
        self._watch: int | None = None  # attempt
        self._polls = not self._options.watch
        self._timers: list[tuple[int, int, str, int]] = []
        self._due: dict[str, int] = {}  # "list" and "watch"
        self._effects: list[Effect] = []
        self._repeats = 0

    @property
    def routes(self) -> RouteTable | None:
        """The newest routes that have come; None before the first."""
        return self._cache.table

    @property
    def repeats(self) -> int:
        """How many requests of calls were not answered and have been, or will be, made again."""
        return self._repeats

    @property
    def wake_at_ms(self) -> int | None:
        """When to call `tick`; None where nothing waits for time to pass."""
        return self._timers[0][0] if self._timers else None

    def effects(self) -> tuple[Effect, ...]:
        """Return what is to be done since the last time, in order."""
        effects, self._effects = tuple(self._effects), []
        return effects

    def start(self, call: Call, now_ms: int, *, timeout_ms: int) -> int:
        """Begin a call and return its number; it ends with Done or Failed.

        Raises:
            InvalidInput: As `check_call`.
        """
        check_call(call, timeout_ms)
        under = _Under(self._next(), operation_of(call), now_ms + timeout_ms)
        self._calls[under.number] = under
        self._timer(under.deadline_ms, "deadline", under.number)
        self._advance(under, now_ms)
        return under.number

    def answered(self, attempt: int, answer: Answer, now_ms: int) -> None:
        """Take the answer to a Send; a Page that is not done leaves the attempt open."""
        if attempt not in self._attempts:
            return
        found = self._attempts[attempt]
        if not (isinstance(answer, Page) and not answer.done):
            self._close(attempt)
        under = found.under
        if under is None:
            self._take_routes(answer, found, now_ms)
            return
        assert found.request is not None
        if not _at_one_address(found.request):
            self._leaders[found.group] = found.address
        under.tries = under.moves = 0
        under.trouble.heard(found.address)
        try:
            under.op.taken(found.request, answer)
        except Corruption as error:
            self._end(under, error, now_ms)
            return
        if isinstance(under.op, ScanOp) and (rows := under.op.take_rows()):
            self._effects.append(Rows(under.number, rows))
        if attempt not in self._attempts:
            self._advance(under, now_ms)

    def failed(self, attempt: int, failure: Failure, now_ms: int) -> None:
        """Take the end of a Send that brought no answer, or of a WatchRoutes."""
        found = self._attempts.get(attempt)
        if found is None:
            return
        self._close(attempt)
        if not _at_one_address(found.request):
            if failure.leader is not None:
                self._leaders[found.group] = failure.leader
            elif failure.fate not in {Fate.STALE_ROUTES, Fate.REFUSED}:
                self._leave(found)
        if attempt == self._watch:
            self._watch_ended(failure, now_ms)
        elif attempt == self._listing:
            self._list_failed(found.address, failure, now_ms)
        elif found.under is not None and found.request is not None:
            found.under.trouble.note(failure.error, found.address)
            if isinstance(found.under.op, AskOp):
                self._ask_again(found.under, found.under.op, found.address, failure, now_ms)
            else:
                self._try_again(found.under, found.request, failure, now_ms)

    def watched(self, attempt: int, event: RouteTable | RouteDelta, now_ms: int) -> None:
        """Take an event of a WatchRoutes."""
        if attempt != self._watch:
            return
        self._leaders[CATALOG_GROUP] = self._attempts[attempt].address
        if isinstance(event, RouteTable):
            self._cache.replace(event)
        elif not self._cache.apply(event):
            self._close(attempt)
            self._watch = None
            self._effects.append(Cancel(attempt))
            self._list(now_ms)

    def tick(self, now_ms: int) -> None:
        """Let time pass: deadlines, pauses and polls that are due."""
        while self._timers and self._timers[0][0] <= now_ms:
            _, _, what, number = heapq.heappop(self._timers)
            under = self._calls.get(number)
            if what in self._due:
                del self._due[what]
                (self._list if what == "list" else self._follow)(now_ms)
            elif under is not None and what == "deadline":
                self._end(under, overdue(under.op, under.trouble), now_ms)
            elif under is not None:
                under.paused = False
                self._advance(under, now_ms)

    def cancel(self, call: int, now_ms: int) -> None:
        """Forget a call whose caller has gone; what was sent may still take effect."""
        under = self._calls.get(call)
        if under is not None:
            self._forget(under, now_ms)

    def hurry(self, now_ms: int, left_ms: int) -> None:
        """Let every call that is under way end within `left_ms`."""
        due_ms = now_ms + left_ms
        for under in self._calls.values():
            if under.deadline_ms > due_ms:
                under.deadline_ms = due_ms
                self._timer(due_ms, "deadline", under.number)

    # --- calls

    def _advance(self, under: _Under, now_ms: int) -> None:
        """Send what a call needs now, or end it."""
        if under.number not in self._calls or under.paused:
            return
        if self._cache.table is None and not isinstance(under.op, AskOp):
            self._waiting.append(under)
            self._list(now_ms)
            return
        try:
            requests = self._plan(under, under.op)
        except Unavailable as error:
            under.trouble.note(error)
            self._list(now_ms)
            self._pause(under, now_ms)
            return
        except WorkbenchError as error:
            self._end(under, error, now_ms)
            return
        for request in requests:
            self._send(under, request, now_ms)
        if under.op.result is not None:
            result, call = under.op.result, under.number
            self._forget(under, now_ms)
            self._effects.append(Done(call, result))

    def _plan(self, under: _Under, op: Operation) -> list[Request]:
        if isinstance(op, ReadOp | ScanOp | AskOp):
            return op.plan(self._cache)
        if op.in_flight or op.result is not None:
            return []
        group = op.route(self._cache)
        if op.sequence == 0 and op.call.exactly_once:
            window = self._windows.setdefault(group, _Window())
            if not window.free:
                op.group = None
                window.waiting.append(under)
                return []
            self._sequence += 1
            op.sequence = self._sequence
        if op.sequence:
            self._windows.setdefault(group, _Window()).take(op.sequence)
        return [op.request(self._client_id)]

    def _try_again(self, under: _Under, request: Request, failure: Failure, now_ms: int) -> None:
        """Decide what follows from a request that was not answered."""
        op, fate = under.op, failure.fate
        op.given_back(request)
        if fate in {Fate.REFUSED, Fate.UNIMPLEMENTED}:
            self._end(under, failure.error, now_ms)
            return
        if isinstance(op, WriteOp):
            if fate is Fate.UNKNOWN:
                op.unknown = True
                if not op.sequence:
                    self._end(under, failure.error, now_ms)
                    return
            elif fate is Fate.STALE_ROUTES:
                self._release(op, now_ms)
                op.group = None
                if not op.unknown:
                    op.sequence = 0
        if fate is Fate.STALE_ROUTES:
            self._list(now_ms)
        elif failure.leader is not None and under.moves < MOVES_MAX:
            under.moves += 1
            self._repeats += 1
            self._advance(under, now_ms)
            return
        self._pause(under, now_ms)

    def _ask_again(
        self, under: _Under, op: AskOp, address: str, failure: Failure, now_ms: int
    ) -> None:
        """Decide likewise for an Ask, which tells its caller of all that another node cannot mend.

        The leader that a node names is asked; nobody is asked twice while nobody answers.
        """
        op.in_flight = False
        # A node that stops would take a call and drop it.
        if failure.error.code in {"node_unreachable", "node_stopping"}:
            op.nobody.add(address)
        else:
            op.nobody.clear()
        all_of_them = {op.call.address} if op.call.address else set(self._addresses)
        not_done = failure.fate is Fate.NOT_DONE
        if not_done and failure.leader is not None and not op.call.address:
            if under.moves < MOVES_MAX:
                under.moves += 1
                self._repeats += 1
                self._advance(under, now_ms)
                return
        elif not (not_done and may_ask_again(failure.error)):
            self._end(under, failure.error, now_ms)
            return
        elif op.nobody >= all_of_them:
            self._end(under, under.trouble.whole(failure.error), now_ms)
            return
        self._pause(under, now_ms)

    def _pause(self, under: _Under, now_ms: int) -> None:
        if under.paused:
            return
        self._repeats += 1
        under.paused = True
        under.tries += 1
        self._timer(now_ms + _pause_ms(under.tries), "again", under.number)

    def _end(self, under: _Under, error: WorkbenchError, now_ms: int) -> None:
        op = under.op
        if (
            isinstance(op, WriteOp)
            and op.unknown
            and not isinstance(error, OutcomeUnknown)
            and op.sequence
        ):
            # An attempt before may have been made; what refuses this one does not undo it.
            error = OutcomeUnknown(
                f"the write was sent before, and then refused: {error.message}",
                code="write_outcome_unknown",
                hint="it may have been made: read before writing again",
            )
        call = under.number
        self._forget(under, now_ms)
        self._effects.append(Failed(call, error))

    def _forget(self, under: _Under, now_ms: int) -> None:
        del self._calls[under.number]
        for attempt in sorted(under.attempts):
            self._close(attempt)
            self._effects.append(Cancel(attempt))
        if isinstance(under.op, WriteOp):
            self._release(under.op, now_ms)

    def _release(self, op: WriteOp, now_ms: int) -> None:
        """Give a sequence up, and let in a write that waited for it."""
        if not op.sequence or op.group is None:
            return
        window = self._windows[op.group]
        window.taken.pop(op.sequence, None)
        free = window.free
        while free > 0 and window.waiting:
            under = window.waiting.popleft()
            free -= under.number in self._calls
            self._advance(under, now_ms)

    # --- requests

    def _send(self, under: _Under | None, request: Request, now_ms: int) -> int:
        attempt, address = self._next(), self._address(request.group)
        left_ms = self._options.attempt_ms
        if under is not None:
            rest_ms = under.deadline_ms - now_ms
            if isinstance(request, Ask):
                address = request.address or address
                left_ms = left_ms if request.quick else rest_ms
            left_ms = max(1, min(left_ms, rest_ms))
        self._attempts[attempt] = _Attempt(under, request, address, request.group)
        if under is not None:
            under.attempts.add(attempt)
        number = 0 if under is None else under.number
        self._effects.append(Send(attempt, address, request, left_ms, number))
        return attempt

    def _close(self, attempt: int) -> None:
        """Wait for this attempt no longer."""
        found = self._attempts.pop(attempt)
        if found.under is not None:
            found.under.attempts.discard(attempt)

    def _address(self, group: int) -> str:
        known = self._leaders.get(group)
        return self._addresses[self._rotation % len(self._addresses)] if known is None else known

    def _leave(self, found: _Attempt) -> None:
        """Ask somebody else next time, also than who named a leader that does not answer."""
        led = self._leaders.get(found.group) == found.address
        if led:
            del self._leaders[found.group]
        if led or self._addresses[self._rotation % len(self._addresses)] == found.address:
            self._rotation += 1
        if self._addresses[self._rotation % len(self._addresses)] == found.address:
            self._rotation += 1

    # --- routes

    def _list(self, now_ms: int) -> None:
        if self._listing is None:
            self._listing = self._send(None, RoutesRequest(CATALOG_GROUP), now_ms)

    def _list_failed(self, address: str, failure: Failure, now_ms: int) -> None:
        """List again soon; end what waits where nobody has ever answered, at any address."""
        self._listing, self._list_tries = None, self._list_tries + 1
        nobody = failure.error.code == "node_unreachable" and self._cache.table is None
        self._nobody = {*self._nobody, address} if nobody else set()
        for under in self._waiting:
            under.trouble.note(failure.error, address)
        if self._nobody >= set(self._addresses):
            for under in [each for each in self._waiting if each.number in self._calls]:
                self._end(under, under.trouble.whole(failure.error), now_ms)
            self._waiting, self._nobody = [], set()
            return
        # A leader that was named is asked at once; then there is a pause.
        moved = failure.leader is not None and self._list_tries <= MOVES_MAX
        self._soon("list", now_ms + (0 if moved else _pause_ms(self._list_tries)))

    def _take_routes(self, answer: Answer, found: _Attempt, now_ms: int) -> None:
        self._listing, self._list_tries = None, 0
        if not isinstance(answer, RouteTable):
            self._soon("list", now_ms + PAUSE_MAX_MS)
            return
        self._cache.replace(answer)
        waiting, self._waiting = self._waiting, []
        for under in waiting:
            self._advance(under, now_ms)
        if self._watch is None and not self._polls:
            self._follow(now_ms, found.address)
        elif self._polls and self._options.watch:
            self._soon("list", now_ms + self._options.poll_ms)

    def _follow(self, now_ms: int, address: str | None = None) -> None:
        """Watch the routes from the version that is known on."""
        if self._watch is not None or self._polls:
            return
        if self._cache.table is None:
            self._list(now_ms)
            return
        self._watch = self._next()
        where = self._leaders.get(CATALOG_GROUP) or address or self._address(CATALOG_GROUP)
        self._attempts[self._watch] = _Attempt(None, None, where, CATALOG_GROUP)
        self._effects.append(WatchRoutes(self._watch, where, self._cache.version))

    def _watch_ended(self, failure: Failure, now_ms: int) -> None:
        self._watch = None
        if failure.fate is Fate.UNIMPLEMENTED:
            self._polls = True
            self._soon("list", now_ms + self._options.poll_ms)
        elif failure.fate is Fate.REFUSED:
            # It begins beyond what the server has: only a listing can tell why.
            self._soon("list", now_ms + WATCH_PAUSE_MS)
        else:
            named = failure.leader is not None
            self._soon("watch", now_ms + (PAUSE_MIN_MS if named else WATCH_PAUSE_MS))

    # --- time

    def _soon(self, what: str, at_ms: int) -> None:
        """Do something of the client's own by then, once."""
        due_ms = self._due.get(what)
        if due_ms is None or at_ms < due_ms:
            self._due[what] = at_ms
            self._timer(at_ms, what, 0)

    def _timer(self, at_ms: int, what: str, number: int) -> None:
        heapq.heappush(self._timers, (at_ms, self._next(), what, number))

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers


def _at_one_address(request: Request | None) -> bool:
    """Tell whether a request says nothing of whom to ask otherwise."""
    return isinstance(request, Ask) and request.address is not None


def _pause_ms(tries: int) -> int:
    return min(PAUSE_MAX_MS, PAUSE_MIN_MS << min(tries - 1, 16))
