"""The log of a node: one JSON object per line on stderr.

    {"event": "serving", "time": "2026-01-31T12:00:00Z", "node": 1, "address": "127.0.0.1:7101"}

Every line has `event`, `time` and `node`, in this order; what follows depends on the event and
is listed in docs/formats/wire.md. Text that came over the network is escaped to ASCII. What
libraries have to say is an event too, so that every line can be read by a program.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workbench.model.times import rfc3339_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO


class Events:
    """Writes events of one node.

    Args:
        node: Its id.
        stream: Where lines go.
        now_us: Wall clock in Unix microseconds.
    """

    def __init__(self, node: int, stream: TextIO, now_us: Callable[[], int]) -> None:
        self._node = node
        self._stream = stream
        self._now_us = now_us

    def tell(self, event: str, **facts: str | float | list[int] | None) -> None:
        """Write one event with its facts."""
        line = {"event": event, "time": rfc3339_us(self._now_us()), "node": self._node, **facts}
        try:
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()
        except OSError:
            # Nobody reads the log any more, or its disk is full: no reason to stop serving.
            return


class _Libraries(logging.Handler):
    """Tells what libraries log, from warnings on."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.WARNING)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of one record."""
        error = record.exc_info[1] if record.exc_info else None
        # gRPC logs calls that a stopping node cancels, when their grace is over, as errors.
        if isinstance(error, asyncio.CancelledError):
            return
        self._events.tell(
            "library_said",
            library=record.name,
            error=record.getMessage(),
            trace=None if error is None else "".join(traceback.format_exception(error)),
        )


@contextmanager
def libraries_told(events: Events) -> Iterator[None]:
    """Have what libraries log told as events, for the length of a `with` block."""
    handler = _Libraries(events)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
