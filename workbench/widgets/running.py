"""A run: one application of a plan in the background, and what is seen of it.

    thread ── Application.run ── step ──▶ Run.steps ──▶ publisher, at most every PUBLISH_S

The run tells of its steps as they begin. Whoever shows them is told by a thread of its own and
not more often than people see, so that a plan of a thousand splits costs no more than its time.
What the run did is kept by the catalog; a run that is lost with its process loses nothing. One
whose interpreter ends makes no further call, and leaves as it does where a system is away.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from workbench.errors import Internal, Unavailable, WorkbenchError
from workbench.session.applying import Step
from workbench.widgets.background import begin

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from workbench.session.applying import Application, ApplyAnswer

PUBLISH_S: Final = 0.05


class Run:
    """One application of a plan; `start` begins it.

    Attributes:
        plan_hash: Content hash of the plan.
        by: Who applies.
        steps: The newest step of each action that was begun, and when.
        current: The action in hand; None before the first.
        error: What ended it early; None where nothing did.
        answer: What came of it; None while it goes on and where it never began.
    """

    def __init__(
        self,
        make: Callable[[], Application],
        *,
        plan_hash: str,
        by: str,
        now: Callable[[], datetime],
        publish: Callable[[], None],
    ) -> None:
        self._make = make
        self._now = now
        self._publish = publish
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._stopping = threading.Event()
        self._threads: tuple[threading.Thread, ...] = ()
        self.plan_hash = plan_hash
        self.by = by
        self.steps: dict[str, tuple[Step, datetime]] = {}
        self.current: str | None = None
        self.leased = False
        self.error: WorkbenchError | None = None
        self.answer: ApplyAnswer | None = None

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return not self._ended.is_set()

    def start(self) -> None:
        """Begin; returns at once."""
        self._threads = tuple(
            begin(name, target, self._stopping.set)
            for name, target in (("apply", self._work), ("publish", self._tell))
        )

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended and that was told; tell whether it has."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        work: Application | None = None
        try:
            work = self._make()
            work.run(watch=self._step)
        except WorkbenchError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
            self.error = Internal(
                f"applying stopped: {type(error).__name__}: {error}", code="apply_crashed"
            )
        finally:
            self.answer = None if work is None else work.answer()
            self._ended.set()
            self._changed.set()

    def _step(self, step: Step, action_id: str | None) -> None:
        if step is Step.CALL and self._stopping.is_set():
            raise Unavailable(
                f"stopped before {action_id}: the process ends",
                code="process_ends",
                hint="resume makes the rest",
            )
        if action_id is None:
            self.leased = True
        else:
            self.steps = {**self.steps, action_id: (step, self._now())}
            self.current = action_id
        self._changed.set()

    def _tell(self) -> None:
        """Publish what changed, with a pause after each time; always once after the end."""
        while True:
            self._changed.wait()
            self._changed.clear()
            ended = self._ended.is_set()
            self._publish()
            if ended:
                return
            self._ended.wait(PUBLISH_S)
