"""Virtual time, and actors of which exactly one runs.

    heap of (due, tie, serial) ──> an action: run at once, by whoever has the turn
                               └─> an actor:  gets the turn, everybody else waits

An actor is ordinary blocking code on a thread of its own. It gives the turn away only in `wait`,
so every piece of code between two waits is one step, and the order of steps is that of the heap:
due time first, then a number drawn from the seed. Threads are used because the code under test
blocks in the middle of its own call stack, which generators cannot; they never run side by side,
so nothing depends on the machine's scheduler.

Not here: what actors do, faults, any real clock.
"""

from __future__ import annotations

import heapq
import random
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from workbench.errors import Internal

if TYPE_CHECKING:
    from collections.abc import Callable

START: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Abandoned(BaseException):
    """The schedule is over; raised in actors that still wait."""


class Timeline:
    """Virtual time for one thread: waiting runs what falls due meanwhile.

    Args:
        seed: Decides the order of what is due at the same moment.
    """

    def __init__(self, seed: int) -> None:
        self.now_us = 0
        self._ties = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        self._serial = 0
        self._heap: list[tuple[int, float, int, Callable[[], None] | Actor]] = []

    def now(self) -> datetime:
        """Return the virtual time, UTC."""
        return START + timedelta(microseconds=self.now_us)

    def wait(self, seconds: float) -> None:
        """Let so much time pass, and what is due in it happen."""
        until = self.now_us + _us(seconds)
        while self._heap and self._heap[0][0] <= until:
            due, _, _, action = heapq.heappop(self._heap)
            self.now_us = max(self.now_us, due)
            if not isinstance(action, Actor):
                action()
        self.now_us = until

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after so much time; `action` must not wait."""
        self._push(seconds, action)

    def _push(self, seconds: float, item: Callable[[], None] | Actor) -> None:
        self._serial += 1
        due = self.now_us + _us(seconds)
        heapq.heappush(self._heap, (due, self._ties.random(), self._serial, item))


class Actor:
    """One thread of a schedule; it runs while it has the turn."""

    def __init__(self, scheduler: Scheduler, name: str, body: Callable[[], None]) -> None:
        self.name = name
        self.done = False
        self.turn = threading.Lock()
        self.turn.acquire()
        self._scheduler = scheduler
        self._body = body
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def take_turn(self) -> None:
        """Block until it is this actor's turn."""
        self.turn.acquire()

    def join(self) -> None:
        """Wait for the thread's end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self.take_turn()
            self._scheduler.check()
            self._body()
        except Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, the schedule ends with it
            self._scheduler.fail(error)
        self.done = True
        self._scheduler.pass_on(None)


class Scheduler(Timeline):
    """Virtual time for many actors.

    Args:
        seed: Decides the order of what is due at the same moment.
        steps_max: More turns than this are a failure: something never ends.

    Attributes:
        failure: What the first actor or action to fail has raised.
        steps: Turns so far.
    """

    def __init__(self, seed: int, *, steps_max: int) -> None:
        super().__init__(seed)
        self.failure: BaseException | None = None
        self.steps = 0
        self._steps_max = steps_max
        self._actors: list[Actor] = []
        self._current: Actor | None = None
        self._ended = False
        self._over = threading.Lock()
        self._over.acquire()

    def spawn(self, name: str, body: Callable[[], None], after_seconds: float = 0.0) -> None:
        """Add an actor whose first turn comes after so much time."""
        actor = Actor(self, name, body)
        self._actors.append(actor)
        self._push(after_seconds, actor)

    def run(self) -> None:
        """Give turns until every actor has ended; raise what the first failure was."""
        self.pass_on(None)
        self._over.acquire()
        for actor in self._actors:
            if not actor.done:
                actor.turn.release()  # raises Abandoned in it, as `failure` is set
                actor.join()
        for actor in self._actors:
            actor.join()
        self._actors.clear()
        if self.failure is not None:
            raise self.failure

    def wait(self, seconds: float) -> None:
        """Give the turn away for so much time; only for the actor that has it."""
        self.check()
        me = self._current
        if me is None:
            super().wait(seconds)
            return
        self._push(seconds, me)
        self.pass_on(me)
        self.check()

    def check(self) -> None:
        """Raise Abandoned where the schedule is over."""
        if self.failure is not None:
            raise Abandoned

    def fail(self, error: BaseException) -> None:
        """End the schedule with this failure."""
        self.failure = self.failure or error

    def pass_on(self, me: Actor | None) -> None:
        """Run what is due, up to and including the next actor's turn; return at my own."""
        following = self._next()
        self._current = following
        if following is me is not None:
            return
        if following is not None:
            following.turn.release()
        elif not self._ended:
            self._ended = True
            self._over.release()
        if me is not None:
            me.take_turn()

    def _next(self) -> Actor | None:
        """Return whose turn is next, None where nobody is left or the schedule has failed."""
        while self._heap and self.failure is None:
            due, _, _, item = heapq.heappop(self._heap)
            self.now_us = max(self.now_us, due)
            self.steps += 1
            if self.steps > self._steps_max:
                self.fail(Internal(f"no end after {self.steps} steps", code="simulator_livelock"))
            elif isinstance(item, Actor):
                return item
            else:
                self._act(item)
        return None

    def _act(self, action: Callable[[], None]) -> None:
        self._current = None
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - ends the schedule, not this actor
            self.fail(error)


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
