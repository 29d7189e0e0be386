"""The lookout: notices what others change in a catalog, for as long as somebody looks.

    page that shows a panel ── every EVERY_S ──▶ heed ──┐
    script that follows ── attend ──────────────────────┼──▶ look ──▶ what changed is told
    decision ───────────────────────────────────────────┘

Rules:

- A look lists what the catalog has more than it had, and reads only what changed.
- Nobody looks for nobody: a page asks while it is shown, so that a closed page, an output that was
  cleared and a notebook that runs without a page cost nothing.
- A catalog that cannot be read is told once, not at every look.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from workbench.errors import WorkbenchError
from workbench.report import words
from workbench.widgets.background import begin
from workbench.widgets.telling import Told

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from workbench.catalog.catalog import Catalog
    from workbench.ports.system import Clock
    from workbench.widgets.telling import Bulletin

EVERY_S: Final = 2.0
LOOKING: Final = "looking"
_log: Final = logging.getLogger("workbench.widgets")


class Seen:
    """What of one cluster's data was seen, so that what is new can be told from it.

    Used under the desk's lock.
    """

    def __init__(self) -> None:
        self._seq = -1
        self._data: object = None

    def take(self, catalog: Catalog, cluster: str) -> None:
        """Take what the catalog has as seen."""
        self._seq, self._data = catalog.seq, _data(catalog, cluster)

    def news(self, catalog: Catalog, cluster: str) -> tuple[bool, bool]:
        """Return whether anything is new, and whether routes or load are; it is seen then."""
        if catalog.seq == self._seq:
            return False, False
        before = self._data
        self.take(catalog, cluster)
        return True, self._data != before


class Lookout:
    """Looks for a desk: when a page asks, or every so often for a script."""

    def __init__(self, notice: Callable[[], object], bulletin: Bulletin, clock: Clock) -> None:
        """Look by `notice`, which raises WorkbenchError where the catalog cannot be read."""
        self._notice = notice
        self._bulletin = bulletin
        self._clock = clock
        self._looked_at: datetime | None = None
        self._unreadable = ""
        self._attends = False

    def heed(self) -> bool:
        """Look in the background, unless that was done just now; tell whether it is begun."""
        # A wall clock may be set back: then a look too many is made, never too few.
        if self._looked_at is not None:
            ago = self._clock.now() - self._looked_at
            if timedelta() <= ago < timedelta(seconds=EVERY_S / 2):
                return False
        return self._bulletin.later(LOOKING, self.look, quiet=True)

    def attend(self, every_s: float) -> bool:
        """Look every so often until the bulletin is closed; False where that is done already."""
        closed = self._bulletin.closed
        if self._attends or closed.is_set():
            return False

        def work() -> None:
            try:
                while not closed.wait(every_s):
                    self.look()
            except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
                _log.exception("attending failed")
                text = f"others' changes are not shown any more: {type(error).__name__}"
                self._bulletin.say(Told(ok=False, text=text))
            finally:
                self._attends = False

        self._attends = True
        begin("attend", work, self._bulletin.close)
        return True

    def look(self) -> None:
        """Look now; say where the catalog cannot be read, and when it can again."""
        try:
            self._notice()
        except WorkbenchError as error:
            if error.code != self._unreadable and not self._bulletin.closed.is_set():
                text = f"what others do is not seen now: {words.clean(str(error))}"
                self._bulletin.say(Told(ok=False, text=text))
            self._unreadable = error.code
        else:
            if self._unreadable:
                self._unreadable = ""
                self._bulletin.say(Told(ok=True, text="the catalog can be read again"))
        finally:
            self._looked_at = self._clock.now()


def _data(catalog: Catalog, cluster: str) -> object:
    """Return what tells one state of a cluster's data from another; of all where none is open."""
    return [
        (each.name, each.updated_at, each.objects)
        for each in catalog.list(f"{cluster}/" if cluster else "")
    ]
