"""Clock and Rng of one simulated process, after `workbench.ports.system`."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from datetime import datetime

    from workbench.sim.faults import FaultSource
    from workbench.sim.scheduler import Timeline


class SimClock:
    """The virtual time, as a clock shows it that is a few seconds off and jumps.

    Args:
        time: The true one.
        faults: Makes it jump.
    """

    def __init__(self, time: Timeline, faults: FaultSource) -> None:
        self._time = time
        self._faults = faults
        self._offset_seconds = 0.0

    def now(self) -> datetime:
        """Return what the clock shows, UTC."""
        jump = self._faults.clock_jump()
        if jump is not None:
            self._offset_seconds = jump
        return self._time.now() + timedelta(seconds=self._offset_seconds)

    def sleep(self, seconds: float) -> None:
        """Let others go on for so long."""
        self._time.wait(seconds)


class SimRng:
    """Chance from a seed.

    Args:
        source: Where it comes from.
        drawn: Told of every uuid: by those a transaction is known again.
    """

    def __init__(
        self, source: random.Random, drawn: Callable[[uuid.UUID], None] = lambda _: None
    ) -> None:
        self._source = source
        self._drawn = drawn

    def uuid(self) -> uuid.UUID:
        """Return a fresh random (version 4) UUID."""
        made = uuid.UUID(int=self._source.getrandbits(128), version=4)
        self._drawn(made)
        return made

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        return self._source.random()
