"""Time and chance as arguments: the core never asks the machine for either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import uuid
    from datetime import datetime


class Clock(Protocol):
    """A source of time that tests and the simulator replace."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait so long; only retry loops use it."""
        ...


class Rng(Protocol):
    """A source of randomness that tests and the simulator seed."""

    def uuid(self) -> uuid.UUID:
        """Return a fresh random (version 4) UUID."""
        ...

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        ...
