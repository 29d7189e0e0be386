"""The turn loop of a node: what waits becomes durable together, takes effect, and is answered.

    propose, read ─┐                      early messages ──▶ peers
    receive ───────┴▶ Host queue ──begin──▶ log.append, log.sync ──finish──▶ futures, messages
         ▲                                     (worker thread)                  │
         └────── whatever arrives meanwhile goes into the next turn ◀───────────┘

Rules:

- One turn at a time. Nothing is answered before the sync that it depends on has returned.
- All but syncs, engine.flush, the pages of an export and what raft_snapshots do beside runs in
  the event loop's thread, so there are no locks. A page reads from a moment of the engine that
  was taken in the loop.
- A leader's requests go out before the sync (`Turn.early`), everything else after it.
- A failing disk, or an entry that cannot be applied, ends the node: `run` raises. What waited
  then is of unknown outcome, never acknowledged. A stored row that a read finds damaged is that
  read's error: the node goes on to serve what is sound.
- Once so much was logged, the engine is flushed and the log is cut below what that flush holds.

The node's clock is read here and nowhere else. Not here: gRPC, and how messages travel.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from workbench.errors import OutcomeUnknown, Storage, Unavailable, WorkbenchError
from workbench.host.values import MembersChanged
from workbench.node.peer_codec import malformed
from workbench.replica.clock import ClockBehind
from workbench.replica.commands import Answer, Done, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from workbench.host.host import Host
    from workbench.host.values import Dropped, Reply, Turn
    from workbench.model.node import GroupStatus
    from workbench.ports.consensus import Configuration
    from workbench.ports.peers import GroupMessage
    from workbench.ports.storage import Engine, LogStorage, RaftSnapshots
    from workbench.replica.commands import Command, Read, Result
    from workbench.routing.table import RouteTable

# Ten of these without a leader, and a node campaigns: between 0.4 and 0.8 s.
TICK_S: Final = 0.04
FLUSH_AFTER_LOG_BYTES: Final = 64 * 2**20
# A disk that does not come back within this leaves callers without an answer of their own.
ANSWER_TIMEOUT_MS: Final = 30_000
# A clock that is further behind was set back: callers are told.
CLOCK_WAIT_MS_MAX: Final = 1_000
# Of a group's term at once. Two campaigns a second take 68 years to it.
TERM_JUMP_MAX: Final = 2**32
_ENTRY_OVERHEAD_BYTES: Final = 32

T = TypeVar("T")

if TYPE_CHECKING:
    Ended = Result | Answer | MembersChanged
    Send = Callable[[Mapping[int, tuple[GroupMessage, ...]]], None]


def wall_ms() -> int:
    """Return the wall clock in Unix milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class _Waiting:
    """A call that waits for its reply."""

    future: asyncio.Future[Ended]
    due_s: float
    writes: bool


class Runtime:
    """Drives the groups of one node; made and used in one event loop.

    Args:
        node: Id of this node.
        host: Of the groups.
        log: Opened; closed by `close`.
        engine: Likewise.
        snapshots: Of each group that has other members.
        send: Takes messages by receiving node, and may lose them.
        clock_ms: Wall clock in Unix milliseconds.
        steady_s: Seconds since any moment, which no step of the wall clock changes.
        flush_after_bytes: Log bytes after which the engine is flushed and the log cut.
        log_cut_bytes: Of a torn end that was cut off when the log was opened; for monitors.
    """

    def __init__(  # noqa: PLR0913 - what it drives, named
        self,
        node: int,
        host: Host,
        log: LogStorage,
        engine: Engine,
        *,
        snapshots: Mapping[int, RaftSnapshots] | None = None,
        send: Send = lambda _: None,
        clock_ms: Callable[[], int] = wall_ms,
        steady_s: Callable[[], float] = time.monotonic,
        flush_after_bytes: int = FLUSH_AFTER_LOG_BYTES,
        log_cut_bytes: int = 0,
    ) -> None:
        self.node = node
        self._host = host
        self._log = log
        self._engine = engine
        self._snapshots = snapshots or {}
        self.send = send
        # Told how long each sync of the log, and each command, took in seconds.
        self.synced: Callable[[float], None] = _ignore
        self.proposed: Callable[[float], None] = _ignore
        self.log_cut_bytes = log_cut_bytes
        self._clock_ms = clock_ms
        self._steady_s = steady_s
        self._flush_after_bytes = flush_after_bytes
        self._wake = asyncio.Event()
        self._turned = asyncio.Event()
        self._waiting: dict[int, _Waiting] = {}
        self._last_token = 0
        self._logged_bytes = 0
        self._stopping = False
        self._refused = 0
        self._failure: BaseException | None = None
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="log-sync")
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="engine-flush")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="export")
        self._flushing: tuple[Mapping[int, int], asyncio.Future[None]] | None = None

    @property
    def refused(self) -> int:
        """How many calls came after `stop`, and were refused for that."""
        return self._refused

    @property
    def waiting(self) -> int:
        """How many calls wait for their answer."""
        return len(self._waiting)

    @property
    def failed(self) -> bool:
        """Whether the turns have ended with a failure."""
        return self._failure is not None

    @property
    def stopping(self) -> bool:
        """Whether new calls are refused since `stop`."""
        return self._stopping

    @property
    def dropped(self) -> Dropped:
        """Messages of other nodes that came in and were dropped."""
        return self._host.dropped

    def check_open(self) -> None:
        """Raise Unavailable (`node_stopping`) where new calls are refused."""
        if self._stopping or self._failure is not None:
            self._refused += 1
            raise Unavailable(
                "this node is stopping",
                code="node_stopping",
                hint="nothing was done: ask another node, or again once it runs",
            )

    def now_ms(self) -> int:
        """Return the wall clock in Unix milliseconds."""
        return self._clock_ms()

    def now_us(self) -> int:
        """Return the wall clock in Unix microseconds."""
        return self._clock_ms() * 1_000

    async def propose(self, group: int, command: Command) -> Done:
        """Have a group carry out a command; durable and applied when this returns.

        Raises:
            WorkbenchError: what the group refused it with; nothing was done.
            NotFound: `group_absent`.
            Unavailable: `node_stopping`, `queue_full`, `not_leader`; nothing was done.
            OutcomeUnknown: `node_failed`, `commit_timed_out`.
        """
        began = time.perf_counter()
        result = await self._once_caught_up(lambda: self._propose(group, command))
        self.proposed(time.perf_counter() - began)
        if isinstance(result, Refused):
            raise result.error
        assert isinstance(result, Done), result
        return result

    async def read(self, group: int, read: Read) -> Answer:
        """Read from a group, linearizably.

        Raises:
            WorkbenchError: what the group refused it with.
            NotFound: `group_absent`.
            Unavailable: `node_stopping`, `node_failed`, `queue_full`, `read_timed_out`.
        """
        answer = await self._once_caught_up(lambda: self._read(group, read))
        assert isinstance(answer, Answer), answer
        return answer

    async def _propose(self, group: int, command: Command) -> Ended:
        token, future = self._expect(writes=True)
        try:
            self._host.propose(group, command, token)
        except WorkbenchError:
            del self._waiting[token]
            raise
        self._wake.set()
        return await future

    async def _read(self, group: int, read: Read) -> Ended:
        token, future = self._expect(writes=False)
        try:
            self._host.read(group, read, token)
        except WorkbenchError:
            del self._waiting[token]
            raise
        self._wake.set()
        return await future

    async def _once_caught_up(self, ask: Callable[[], Awaitable[Ended]]) -> Ended:
        """Ask, and again where the physical clock was a little behind; that is told as latency.

        A new leader whose clock is behind its predecessor's has to let that time pass.
        """
        waited_ms = 0
        while True:
            try:
                return await ask()
            except ClockBehind as error:
                waited_ms += error.wait_ms
                if waited_ms > CLOCK_WAIT_MS_MAX:
                    raise
                await asyncio.sleep(error.wait_ms / 1_000)

    async def aside(self, work: Callable[[], T]) -> T:
        """Return what `work` does outside of the loop's thread; one at a time, and soon done.

        Raises:
            Unavailable: `node_stopping`.
        """
        self.check_open()
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    async def change_members(self, group: int, wanted: Configuration) -> Configuration:
        """Have a group's members changed by one; committed and in force when this returns.

        Raises:
            InvalidInput: `configuration_change_invalid`.
            NotFound: `group_absent`.
            Unavailable: `node_stopping`, `not_leader`, `configuration_changing`.
            OutcomeUnknown: `node_failed`, `commit_timed_out`, `leadership_lost`.
        """
        token, future = self._expect(writes=True)
        try:
            self._host.change_members(group, wanted, token)
        except WorkbenchError:
            del self._waiting[token]
            raise
        self._wake.set()
        result = await future
        assert isinstance(result, MembersChanged), result
        return result.configuration

    def transfer_leader(self, group: int, to: int) -> None:
        """Hand the leadership of a group to another voter; see `status` for whether it went.

        Raises:
            Unavailable: `not_leader`.
            InvalidInput: `transfer_target_invalid`.
            NotFound: `group_absent`.
        """
        self._host.transfer_leader(group, to)
        self._wake.set()

    def leader(self, group: int) -> int | None:
        """Return who leads a group as far as this node knows; 0: unknown, None: no replica here."""
        return self._host.leader(group) if self._host.has(group) else None

    def members(self, group: int) -> Configuration:
        """Return the members of a group as its log has them; NotFound (`group_absent`)."""
        return self._host.members(group)

    def receive(self, messages: Iterable[GroupMessage]) -> None:
        """Take in what other nodes say; it goes into the next turn.

        Raises:
            InvalidInput: `peer_frame_malformed`: a term that campaigns cannot have led to. Once
                taken in, it would be the group's for ever, up to a bound where no other follows.
        """
        taken = tuple(messages)
        for each in taken:
            if each.message.term > TERM_JUMP_MAX:
                self._check_term(each)
        self._host.receive(taken)
        self._wake.set()

    def unreachable(self, node: int) -> None:
        """Note that messages to a node were lost."""
        self._host.unreachable(node)
        self._wake.set()

    def status(self, group: int) -> GroupStatus:
        """Return how a group is on this node; NotFound (`group_absent`) where it has none."""
        return self._host.status(group)

    def routes(self) -> RouteTable | None:
        """Return the newest applied route catalog; None where its group is not here."""
        return self._host.catalog_routes()

    async def turned(self) -> None:
        """Wait until the next turn has ended."""
        self._turned.clear()
        await self._turned.wait()

    async def run(self) -> None:
        """Take turns until `stop`, then until nothing waits any more.

        Raises:
            Storage, Corruption: the node must end; what waited is told OutcomeUnknown.
        """
        ticker = asyncio.get_running_loop().create_task(self._tick())
        try:
            while not (self._stopping and not self._waiting and not self._host.has_work()):
                if not self._host.has_work():
                    await self._wake.wait()
                self._wake.clear()
                if self._host.has_work():
                    await self._turn()
                self._maintain()
                self._turned.set()
                if ticker.done():
                    ticker.result()
                # Lets calls in that arrived meanwhile, so that they share the next turn.
                await asyncio.sleep(0)
        except BaseException as error:
            self._failure = error
            self._give_up()
            raise
        finally:
            ticker.cancel()

    def stop(self) -> None:
        """Refuse new calls from now on, and let `run` return once the others are answered."""
        self._stopping = True
        self._wake.set()

    def close(self) -> None:
        """Flush what was applied unless `run` failed, and close log and engine.

        After a failure of `run` no other is raised: what comes then follows from the first.

        Raises:
            Storage: the disk failed; what was acknowledged is in the log nevertheless.
        """
        for snapshots in self._snapshots.values():
            snapshots.close()
        for threads in (self._syncer, self._flusher, self._reader):
            threads.shutdown()
        if self._failure is not None:
            for close in (self._log.close, self._engine.close):
                with contextlib.suppress(WorkbenchError):
                    close()
            return
        try:
            applied = self._host.applied()
            self._engine.flush()
            self._log.compact(self._host.flushed(applied))
        finally:
            try:
                self._log.close()
            finally:
                self._engine.close()

    def _check_term(self, each: GroupMessage) -> None:
        """Refuse a term that is too far above that of a group which is not new here."""
        own = self._host.status(each.group).term if self._host.has(each.group) else 0
        if own and each.message.term > own + TERM_JUMP_MAX:
            raise malformed(f"it has term {each.message.term}, group {each.group} has {own}")

    def _expect(self, *, writes: bool) -> tuple[int, asyncio.Future[Ended]]:
        self.check_open()
        self._last_token += 1
        future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        due_s = self._steady_s() + ANSWER_TIMEOUT_MS / 1_000
        self._waiting[self._last_token] = _Waiting(future, due_s, writes)
        return self._last_token, future

    async def _turn(self) -> None:
        """Make durable what waits, let it take effect, and answer it."""
        turn = self._host.begin(self._clock_ms())
        if turn.early:
            self.send(turn.early)
        if turn.writes:
            self._log.append(turn.writes)
            for write in turn.writes:
                for entry in write.entries:
                    self._logged_bytes += len(entry.data) + _ENTRY_OVERHEAD_BYTES
        if turn.must_sync or turn.chunks:
            loop = asyncio.get_running_loop()
            took_s = await loop.run_in_executor(self._syncer, self._sync, turn)
            if turn.must_sync:
                self.synced(took_s)
        finished = self._host.finish(turn, self._clock_ms())
        if finished.messages:
            self.send(finished.messages)
        for reply in finished.replies:
            self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        """End a call; its caller may have gone, what it asked for took effect all the same."""
        waiting = self._waiting.pop(reply.token, None)
        if isinstance(reply.result, Storage):
            raise reply.result
        if waiting is None or waiting.future.done():
            return
        if isinstance(reply.result, WorkbenchError):
            waiting.future.set_exception(reply.result)
        else:
            waiting.future.set_result(reply.result)

    def _sync(self, turn: Turn) -> float:
        """Make a turn durable, and return how long the log took.

        Pieces come first, since the log may say that all are there.
        """
        for each in turn.chunks:
            self._snapshots[each.group].keep(each.chunk)
        for group in dict.fromkeys(each.group for each in turn.chunks):
            self._snapshots[group].sync()
        began = time.perf_counter()
        if turn.must_sync:
            self._log.sync()
        return time.perf_counter() - began

    def _maintain(self) -> None:
        """Flush the engine beside the turns; cut the log once the flush is done."""
        if self._flushing is not None and self._flushing[1].done():
            flushed, future = self._flushing
            self._flushing = None
            future.result()
            self._log.compact(self._host.flushed(flushed))
        if self._flushing is None and self._logged_bytes >= self._flush_after_bytes:
            self._logged_bytes = 0
            # Taken before the flush begins: a later entry may miss it.
            applied = dict(self._host.applied())
            loop = asyncio.get_running_loop()
            self._flushing = applied, loop.run_in_executor(self._flusher, self._engine.flush)

    async def _tick(self) -> None:
        """Let the groups' time pass, and end calls that waited too long."""
        try:
            while True:
                await asyncio.sleep(TICK_S)
                self._host.tick()
                self._end_overdue(self._steady_s())
                self._wake.set()
        finally:
            self._wake.set()

    def _end_overdue(self, now_s: float) -> None:
        # Ascending by due time.
        for token, waiting in list(self._waiting.items()):
            if waiting.due_s > now_s:
                break
            del self._waiting[token]
            if not waiting.future.done():
                waiting.future.set_exception(_timed_out(writes=waiting.writes))

    def _give_up(self) -> None:
        """Tell all who wait that the node failed."""
        for waiting in self._waiting.values():
            if not waiting.future.done():
                waiting.future.set_exception(_failed(writes=waiting.writes))
        self._waiting.clear()


def _ignore(_: float) -> None:
    """Take no note."""


def _timed_out(*, writes: bool) -> WorkbenchError:
    if writes:
        return OutcomeUnknown(
            f"the write was not committed within {ANSWER_TIMEOUT_MS} ms",
            code="commit_timed_out",
            hint="it may still take effect: look before repeating it",
        )
    return Unavailable(
        f"the read was not answered within {ANSWER_TIMEOUT_MS} ms",
        code="read_timed_out",
        hint="try again; see the node's log",
    )


def _failed(*, writes: bool) -> WorkbenchError:
    if writes:
        return OutcomeUnknown(
            "the node failed before it could answer",
            code="node_failed",
            hint="the write may have taken effect: look before repeating it",
        )
    return Unavailable("the node failed", code="node_failed", hint="see the node's log")
