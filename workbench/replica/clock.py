"""The leader's hybrid logical clock: 48 bits of Unix milliseconds, 16 logical bits.

    physical now ──┐
    observed ──────┴─▶ max ──▶ issue ──▶ commit_ts < ceiling of the entry that carries it

Rules:
- Values strictly increase. Where physical time stands still or jumps back, the logical bits
  count on and carry into the milliseconds.
- A commit_ts lies below the ceiling of its own entry. The ceiling comes from the physical clock
  alone, so a clock that jumped back stops issuing until physical time has caught up; it never
  drags the ceiling along, and failovers cannot add up.
- A new leader starts at the ceiling of everything applied before it: above every commit_ts
  issued, and every read_ts served, by any leader before. Where the leaders' physical clocks
  agree, that ceiling is below the new one by the time that passed since: nothing has to wait.
  Where the new leader's clock is behind the old one's, it may issue once it has caught up.

The clock knows no physical time of its own: callers pass Unix milliseconds.
"""

from __future__ import annotations

from typing import Final

from workbench.errors import Unavailable
from workbench.model.limits import CEILING_AHEAD_MS
from workbench.model.times import hlc_ms, hlc_of_ms

HLC_MAX: Final = 2**64 - 1


def ceiling_of(now_ms: int) -> int:
    """Return the ceiling (HLC, exclusive) of an entry proposed at `now_ms`."""
    return hlc_of_ms(now_ms + CEILING_AHEAD_MS)


class ClockBehind(Unavailable):
    """The physical clock is too far behind what was issued; nothing was done.

    Attributes:
        wait_ms: After so long it has caught up, unless it is set back again.
    """

    def __init__(self, last: int, now_ms: int) -> None:
        super().__init__(
            f"the physical clock ({now_ms} ms) is {hlc_ms(last) - now_ms} ms behind the group's "
            "clock",
            code="clock_behind",
            hint="try again when it has caught up; check whether the machine's clock was set back",
        )
        self.wait_ms = max(1, hlc_ms(last + 1) - CEILING_AHEAD_MS - now_ms + 1)


class Hlc:
    """A hybrid logical clock.

    Attributes:
        last: The largest value issued, observed or read; nothing at or below it is issued.
    """

    __slots__ = ("last",)

    def __init__(self, start: int = 0) -> None:
        self.last = start

    def now(self, now_ms: int) -> int:
        """Return the present: physical, or what was issued or observed where that is later."""
        return max(self.last, hlc_of_ms(now_ms))

    def observe(self, timestamp: int) -> None:
        """Issue nothing at or below `timestamp` from now on."""
        self.last = max(self.last, timestamp)

    def issue(self, now_ms: int, ceiling: int) -> int:
        """Return a commit_ts above all before it and below `ceiling`.

        Raises:
            ClockBehind: the clock has run so far ahead of physical time.
        """
        issued = max(self.last + 1, hlc_of_ms(now_ms))
        if issued >= ceiling:
            raise ClockBehind(self.last, now_ms)
        assert issued <= HLC_MAX
        self.last = issued
        return issued


def clock_behind(last: int, now_ms: int) -> ClockBehind:
    """Return the error for a physical clock that is too far behind what was issued."""
    return ClockBehind(last, now_ms)
