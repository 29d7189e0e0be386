"""Calls into DuckDB that Ctrl-C ends at once.

    main thread ── call ──▶ worker thread ── DuckDB
         │  Ctrl-C                               ▲
         └── connection.interrupt() ─────────────┘

DuckDB looks for signals between its tasks only, and the thread that waits for a query works on
one of them: a query of one long task never looks. So it runs on a thread of its own, and whoever
waits for it can be interrupted, and hands that on.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    import duckdb

T = TypeVar("T")

LOOK_SECONDS: Final = 0.05


class Worker:
    """The one thread that calls a connection. Made by `worker`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, pool: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._pool = pool

    def call(self, function: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 - any call
        """Return what `function` returns; what interrupts the wait ends the call, too."""
        future = self._pool.submit(function, *arguments)
        try:
            # A signal is noted by whichever thread the system chose; only one that runs sees it.
            while not wait([future], timeout=LOOK_SECONDS).done:
                pass
        except BaseException:
            self._end(future)
            raise
        return future.result()

    def _end(self, future: Future[Any]) -> None:
        """End a call, however often Ctrl-C comes meanwhile: the engine must not go on."""
        while not future.done():
            with suppress(KeyboardInterrupt):
                self._connection.interrupt()
                wait([future], timeout=LOOK_SECONDS)


@contextmanager
def worker(connection: duckdb.DuckDBPyConnection) -> Iterator[Worker]:
    """Give the thread for one connection, and end it."""
    with ThreadPoolExecutor(1, thread_name_prefix="sql") as pool:
        yield Worker(connection, pool)
