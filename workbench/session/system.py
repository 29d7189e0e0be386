"""The machine's clock and randomness, behind the ports."""

from __future__ import annotations

import random
import time
import uuid
from datetime import UTC, datetime


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        time.sleep(seconds)


class SystemRng:
    """The machine's randomness."""

    def uuid(self) -> uuid.UUID:
        """Return a fresh random (version 4) UUID."""
        return uuid.uuid4()

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        return random.random()  # noqa: S311 - spreads retries, guards nothing
