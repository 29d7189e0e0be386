"""Virtual time of a cluster: a heap of what falls due, and nothing else.

    (due, tie, serial) ──▶ call(argument)

One event is one step. What is due at the same moment comes in an order that the seed decides.
There are no threads: nothing here waits, everything that takes time comes back as an event.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


class Agenda:
    """What is due, in order.

    Args:
        source: Decides between what is due at the same moment.

    Attributes:
        now_us: The virtual time, in microseconds.
        steps: Events taken so far.
    """

    def __init__(self, source: random.Random) -> None:
        self.now_us = 0
        self.steps = 0
        self._draw = source.random
        self._serial = 0
        self._heap: list[tuple[int, float, int, Callable[[Any], None], Any]] = []

    def after(self, delay_us: int, call: Callable[[Any], None], argument: object = None) -> None:
        """Call something after so many microseconds."""
        self._serial += 1
        due = self.now_us + delay_us
        heapq.heappush(self._heap, (due, self._draw(), self._serial, call, argument))

    def step(self) -> None:
        """Take the next event."""
        due, _, _, call, argument = heapq.heappop(self._heap)
        self.now_us = due
        self.steps += 1
        call(argument)
