"""Work on many groups at once: one lane per group, so many threads as there are cores.

    lane 1 ──────────── failure ─▶ stop ─▶ every other lane ends at its next look
    lane 2 ────────────────┘                the first failure is raised

The calling thread only waits and tells how far it is, so that an interrupt reaches it at once.
A lane that meets an answer worth trying again waits through `Patience`, which ends it where
nothing was gained any more.

Not here: what a lane does.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from workbench.errors import WorkbenchError

TICK_SECONDS: Final = 0.2
# Before the second try, the third, …; counted anew whenever a try gained something.
PAUSES_S: Final = (0.1, 0.3, 1.0, 2.0, 4.0)


class Stopped(Exception):  # noqa: N818 - no error: another lane failed, or the user interrupts
    """This lane ends because others do."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How far the work is.

    Attributes:
        rows: Done in this run.
        size: Bytes of them in memory, about.
        groups_done: Groups that have nothing left, those of earlier runs too.
        groups: All groups.
        seconds: Since this run began.
    """

    rows: int = 0
    size: int = 0
    groups_done: int = 0
    groups: int = 0
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float | None:
        """Rate of this run; None before there is one."""
        return self.rows / self.seconds if self.rows and self.seconds > 0 else None


@dataclass(slots=True)
class Counter:
    """Counts for a Tally, from many threads."""

    groups: int
    rows: int = 0
    size: int = 0
    groups_done: int = 0
    started: float = field(default_factory=monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, rows: int = 0, size: int = 0, groups_done: int = 0) -> None:
        """Count."""
        with self._lock:
            self.rows += rows
            self.size += size
            self.groups_done += groups_done

    def tally(self) -> Tally:
        """Return what was counted so far."""
        with self._lock:
            seconds = monotonic() - self.started
            return Tally(self.rows, self.size, self.groups_done, self.groups, seconds)


def silent_tally(stage: str, tally: Tally) -> None:
    """Draw nothing."""


class Lanes:
    """Runs lanes, and ends all of them where one fails.

    Args:
        threads: At most so many at once; None: one per core.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or os.cpu_count() or 1
        self._stop = threading.Event()
        self._cause: BaseException | None = None
        self._lock = threading.Lock()

    @property
    def stopped(self) -> bool:
        """Whether the lanes are to end."""
        return self._stop.is_set()

    def stop(self, cause: BaseException | None = None) -> None:
        """Let every lane end at its next look; the first cause is what `run` raises."""
        with self._lock:
            if self._cause is None and not isinstance(cause, Stopped):
                self._cause = cause
        self._stop.set()

    def look(self) -> None:
        """Raise Stopped where the lanes are to end."""
        if self._stop.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait so long; Stopped at once where the lanes are to end."""
        if self._stop.wait(seconds):
            raise Stopped

    def run(
        self,
        jobs: Sequence[Callable[[], None]],
        tick: Callable[[], None],
        cut: Callable[[], None],
    ) -> None:
        """Run all jobs; raise the first failure, after all have ended.

        Args:
            jobs: One per lane; they look often.
            tick: Called now and then in the calling thread.
            cut: Ends what a lane waits for; called where one failed, or on an interrupt.
        """
        if not jobs:
            return
        with ThreadPoolExecutor(min(self._threads, len(jobs)), "lane") as pool:
            running: set[Future[None]] = {pool.submit(self._lane, job) for job in jobs}
            try:
                left = running
                while left and not self.stopped:
                    _, left = wait(left, TICK_SECONDS, FIRST_EXCEPTION)
                    tick()
            except BaseException as error:
                self.stop(error)
                raise
            finally:
                if self.stopped:
                    for future in running:
                        future.cancel()
                    cut()
        if self._cause is not None:
            raise self._cause

    def _lane(self, job: Callable[[], None]) -> None:
        try:
            self.look()
            job()
        except BaseException as error:
            self.stop(error)
            raise


class Patience:
    """How often a lane tries again without gaining anything."""

    def __init__(self, lanes: Lanes, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self._lanes = lanes
        self._pauses_s = pauses_s
        self._failures = 0

    def gained(self) -> None:
        """Begin to count anew."""
        self._failures = 0

    def wait(self, error: WorkbenchError) -> None:
        """Wait before the next try; raise `error` where there is to be none."""
        if not error.retryable or self._failures >= len(self._pauses_s):
            raise error
        self._lanes.pause(self._pauses_s[self._failures])
        self._failures += 1
