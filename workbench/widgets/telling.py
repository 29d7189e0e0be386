"""Telling: who listens to a desk, what it said last, and what it does in the background.

A listener is called from whatever thread something changed in. One that fails is logged and
harms neither what goes on nor the other listeners.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workbench.errors import WorkbenchError
from workbench.report import words
from workbench.widgets.background import begin

if TYPE_CHECKING:
    from collections.abc import Callable

    Listener = Callable[[str], None]

_log: Final = logging.getLogger("workbench.widgets")


@dataclass(frozen=True, slots=True)
class Told:
    """What came of what was asked for: whether it was done, and what to tell."""

    ok: bool
    text: str


class Bulletin:
    """What a desk tells, and to whom.

    Attributes:
        told: What was said last.
        speaker: Who asked for what goes on, and says what came of it; None is nobody in
            particular.
        closed: Set when nobody is to be told any more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._later: dict[str, threading.Thread] = {}
        self.told = Told(ok=True, text="")
        self.speaker: object | None = None
        self.closed = threading.Event()

    @property
    def busy(self) -> tuple[str, ...]:
        """Names of what is being done in the background."""
        with self._lock:
            return tuple(self._later)

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` told of every change; return what ends it."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def tell(self, *topics: str) -> None:
        """Tell all listeners that these changed."""
        for topic in topics:
            for listener in tuple(self._listeners):
                try:
                    listener(topic)
                except Exception:  # noqa: BLE001 - see the module's rule
                    _log.exception("a listener failed at %r", topic)

    def say(self, told: Told, *topics: str) -> Told:
        """Say it, and that these changed."""
        self.told = told
        self.tell(*topics, "told")
        return told

    def attempt(self, action: Callable[[], object], done: str = "") -> Told:
        """Do it, and say what came of it instead of raising."""
        before = self.told
        try:
            action()
        except WorkbenchError as error:
            return self.say(Told(ok=False, text=words.clean(str(error))))
        if done or self.told is before:
            return self.say(Told(ok=True, text=done or "done"))
        return self.told

    def later(
        self, name: str, action: Callable[[], object], done: str = "", *, quiet: bool = False
    ) -> bool:
        """Do it in the background; False where the same is being done already.

        Args:
            name: What it is; only one of a name at a time.
            action: What to do.
            done: What to say afterwards; empty says nothing.
            quiet: Tell nobody that it begins and ends.
        """
        with self._lock:
            if name in self._later or self.closed.is_set():
                return False
            # The lock is held until it is kept: it cannot end before.
            self._later[name] = begin(name, lambda: self._do(name, action, done, quiet), self.close)
        return True

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for all that goes on in the background; tell whether it has ended."""
        with self._lock:
            threads = tuple(self._later.values())
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout_s)
        return not any(thread.is_alive() for thread in threads)

    def close(self) -> None:
        """Tell nobody any more."""
        self.closed.set()
        self._listeners.clear()

    def _do(self, name: str, action: Callable[[], object], done: str, quiet: bool) -> None:  # noqa: FBT001 - see `later`
        topics = () if quiet else ("told",)
        self.tell(*topics)
        try:
            self.attempt(action, done)
        except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
            # Once closed nobody waits for it, and at exit what it needs may be gone already.
            if not self.closed.is_set():
                _log.exception("%s failed", name)
                self.say(Told(ok=False, text=f"{name} failed: {type(error).__name__}"))
        finally:
            with self._lock:
                del self._later[name]
        self.tell(*topics)


class Telling:
    """Whoever has a bulletin: what of it others may use."""

    _bulletin: Bulletin

    @property
    def told(self) -> Told:
        """What was said last."""
        return self._bulletin.told

    @property
    def speaker(self) -> object | None:
        """Who asked last, and so says what came of it; None is nobody in particular."""
        return self._bulletin.speaker

    @speaker.setter
    def speaker(self, asking: object | None) -> None:
        self._bulletin.speaker = asking

    @property
    def busy(self) -> tuple[str, ...]:
        """What is being done in the background besides applying."""
        return self._bulletin.busy

    def attempt(self, action: Callable[[], object], done: str = "") -> Told:
        """Do it, and say what came of it instead of raising."""
        return self._bulletin.attempt(action, done)

    def later(self, name: str, action: Callable[[], object], done: str = "") -> bool:
        """Do it in the background; False where the same is being done already."""
        return self._bulletin.later(name, action, done)

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Have `listener` told `look`, `plan`, `jobs` or `told` when that changed.

        It may be called from any thread. Returns what ends it.
        """
        return self._bulletin.watch(listener)

    def _say(self, text: str, *topics: str, ok: bool = True) -> Told:
        return self._bulletin.say(Told(ok, text), *topics)

    def _tell(self, *topics: str) -> None:
        self._bulletin.tell(*topics)
