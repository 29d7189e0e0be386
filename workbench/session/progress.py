"""How a long step tells how far it is; the command line draws it, a notebook may too."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what is being done, how much of it is done, and of how much where known."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Take note; called often, must return at once."""
        ...


def silent(stage: str, done: int, total: int | None) -> None:
    """Draw nothing."""
