"""Threads of the widgets, which all end before the interpreter does.

    begin ──▶ thread ──▶ ends by itself
    exit of the interpreter ──▶ stop of each that goes on ──▶ wait for it

A thread that is in native code while the interpreter is torn down aborts the process. So each is
asked to stop at exit, and waited for. They are daemons all the same: the interpreter waits for
other threads before it tells anybody that it ends, and one that looks until it is told to stop
would never be told.

Not here: what the threads do, and how they stop.
"""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_going_on: Final[dict[threading.Thread, Callable[[], None]]] = {}
_lock: Final = threading.Lock()


def begin(name: str, work: Callable[[], None], stop: Callable[[], None]) -> threading.Thread:
    """Do `work` in a thread of its own; return the thread, begun.

    Args:
        name: Of the thread, after `workbench-`.
        work: Raises nothing.
        stop: Called at most a few times, from another thread, where the interpreter ends before
            the work has; makes it end soon, and raises nothing.
    """
    thread = threading.Thread(target=_do, args=(work,), name=f"workbench-{name}", daemon=True)
    with _lock:
        _going_on[thread] = stop
    try:
        thread.start()
    except RuntimeError:
        # The interpreter ends already, or the system has no thread to give.
        with _lock:
            _going_on.pop(thread, None)
        raise
    return thread


def end_all() -> None:
    """Stop all that goes on, and wait until it has ended."""
    while True:
        with _lock:
            found = [(each, stop) for each, stop in _going_on.items() if _is_another(each)]
        if not found:
            return
        for _, stop in found:
            stop()
        for thread, _ in found:
            thread.join()
            with _lock:
                _going_on.pop(thread, None)


def _do(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        with _lock:
            _going_on.pop(threading.current_thread(), None)


def _is_another(thread: threading.Thread) -> bool:
    return thread is not threading.current_thread()


atexit.register(end_all)
