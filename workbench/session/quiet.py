"""Keep what a compiled solver prints off standard output, where answers are printed.

HiGHS, behind SciPy, writes some lines with `printf`, whatever its options say. They reach the
file descriptor and not `sys.stdout`, so only the descriptor can keep them off.

    descriptor 1 ──▶ a temporary file ──▶ lines of the solver: dropped; all others: written after

One at a time: a lock keeps two calls from restoring each other's descriptor. What other threads
print meanwhile is not lost, only late. Standard error is not touched.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT_FD: Final = 1
# How the solver's lines begin.
SOLVER_LINE: Final = b"Highs"
_LOCK = Lock()


@contextmanager
def without_solver_lines() -> Iterator[None]:
    """Keep lines that the solver prints off standard output while this is open."""
    with _LOCK:
        try:
            kept = os.dup(STDOUT_FD)
        except OSError:  # nothing is open there, so nothing can be printed
            yield
            return
        try:
            with tempfile.TemporaryFile() as caught:
                _flush()
                os.dup2(caught.fileno(), STDOUT_FD)
                try:
                    yield
                finally:
                    _flush()
                    os.dup2(kept, STDOUT_FD)
                    caught.seek(0)
                    _write([line for line in caught if not line.startswith(SOLVER_LINE)])
        finally:
            os.close(kept)


def _flush() -> None:
    """Write out what Python and the C library hold back for the descriptor as it is now."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


def _write(lines: list[bytes]) -> None:
    left = b"".join(lines)
    while left:
        left = left[os.write(STDOUT_FD, left) :]
