"""Signals that end a command: noted, whatever a library makes of the exception they raise.

Ctrl-C, SIGTERM and SIGHUP raise an `Interrupt` in the main thread, so that every `finally` and
`with` on the way out runs: a demo stops the cluster that it started, an apply gives its lease
back. The exit status is 128 and the signal's number, as a shell expects.
"""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_SIGNAL: Final = 128
# What the last line says.
SIGNALS: Final = {
    signal.SIGINT.value: "interrupted",
    signal.SIGTERM.value: "terminated",
    signal.SIGHUP.value: "the terminal was closed",
}
# How DuckDB says that Ctrl-C came while it ran a query.
INTERRUPTED_QUERY: Final = "Query interrupted"


class Interrupt(KeyboardInterrupt):
    """A signal came.

    A class of its own: where the interpreter sees KeyboardInterrupt itself pass through `exec`,
    it later dies of the signal, whatever the exit status that was asked for.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int = signal.SIGINT.value) -> None:
        super().__init__()
        self.number = number


@contextmanager
def collecting(interrupts: list[Interrupt]) -> Iterator[None]:
    """Note every signal: a library may swallow the exception, or make another of it.

    A signal that the caller ignores, or handles in a way of its own, stays as it is.
    """

    def interrupt(number: int, _frame: object) -> NoReturn:
        interrupts.append(Interrupt(number))
        raise interrupts[-1]

    def unraisable(lost: sys.UnraisableHookArgs, /) -> None:
        if not isinstance(lost.exc_value, Interrupt):
            complain(lost)

    defaults = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [n for n, d in defaults.items() if d in {signal.default_int_handler, signal.SIG_DFL}]
    complain = sys.unraisablehook
    sys.unraisablehook = unraisable
    try:
        for number in ours:
            signal.signal(number, interrupt)
        yield
    finally:
        sys.unraisablehook = complain
        for number in ours:
            signal.signal(number, defaults[number])


def interruption(error: BaseException) -> int | None:
    """Return the signal behind an exception, None where there is none.

    Libraries answer a signal with exceptions of their own.
    """
    for each in _chain(error):
        if isinstance(each, Interrupt):
            return each.number
        if isinstance(each, click.Abort | KeyboardInterrupt) or (
            isinstance(each, RuntimeError) and INTERRUPTED_QUERY in str(each)
        ):
            return signal.SIGINT.value
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it came from."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each not in seen:
            seen.append(each)
            waiting += [each.__context__, each.__cause__]
            yield each
