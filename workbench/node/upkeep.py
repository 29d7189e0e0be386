"""What a node does by itself from time to time: old versions of the groups that it leads go.

    every round ─▶ each led group: safe point ─▶ now − versions_kept_ms, or the oldest hold
                                   SetSafePoint, then CollectGarbage, step by step, to the end

Rules:
- Pins hold the safe point back in the group itself (`replica.garbage`). An export that is being
  read from this node holds it back here, in all groups that this node leads, and for HOLD_S after
  its last page: its caller may come back for the next one, or for the next group.
- A step reads few versions, and pauses are longer than steps, so that calls hardly notice.
- Whatever keeps a group from it (another leader, a restore, a full queue) is no failure: the next
  round begins anew. Where nothing is kept for a time, nothing goes by itself.

Which versions go is decided in `mvcc.garbage`; how far back to keep, in the configuration.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput, NotFound, OutcomeUnknown, Unavailable
from workbench.replica.commands import CollectGarbage, GarbageStatus, SetSafePoint
from workbench.replica.garbage import round_ms, safe_point_due

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workbench.node.config import NodeConfig
    from workbench.node.events import Events
    from workbench.node.runtime import Runtime

HOLD_S: Final = 600.0
# A step of so many takes the loop 2 ms where most of them go and 4 ms where none does, so that a
# pass takes less than a tenth of its time, and reads 19,000 versions a second, group after group.
STEP_VERSIONS: Final = 1_024
STEP_PAUSE_S: Final = 0.05


class Holds:
    """Moments that somebody is reading at, and so has to be able to go on reading at.

    Args:
        clock_s: Never goes back.
    """

    def __init__(self, clock_s: Callable[[], float] = monotonic) -> None:
        self._clock_s = clock_s
        self._until: dict[int, float] = {}

    def keep(self, read_ts: int) -> None:
        """Hold a moment (HLC) for HOLD_S from now on."""
        self.oldest()  # lets go of those that are over, also where no round ever asks
        self._until[read_ts] = self._clock_s() + HOLD_S

    def oldest(self) -> int | None:
        """Return the oldest moment that is held now; None for none."""
        now_s = self._clock_s()
        self._until = {at: until for at, until in self._until.items() if until > now_s}
        return min(self._until, default=None)


@dataclass(frozen=True, slots=True)
class Tidied:
    """What a node has collected of one group since it started.

    Attributes:
        safe_point: HLC, as the group has it.
        pins: That held it, as of the last round.
        scanned: Versions read.
        dropped: Of those, versions that are gone now.
    """

    safe_point: int
    pins: int
    scanned: int
    dropped: int


class Upkeep:
    """The rounds of one node; runs in its event loop.

    Args:
        config: Of the node.
        runtime: Of its groups.
        holds: What is being read.
        events: Told of versions that went.
    """

    def __init__(self, config: NodeConfig, runtime: Runtime, holds: Holds, events: Events) -> None:
        self._config = config
        self._runtime = runtime
        self._holds = holds
        self._events = events
        self._tidied: dict[int, Tidied] = {}

    @property
    def tidied(self) -> Mapping[int, Tidied]:
        """What was collected so far, by group; none of a group before its first round here."""
        return self._tidied

    async def run(self) -> None:
        """Make rounds until cancelled; none at all where versions are kept for ever."""
        kept_ms = self._config.versions_kept_ms
        while True:
            await asyncio.sleep(round_ms(kept_ms) / 1_000 if kept_ms else HOLD_S)
            if kept_ms:
                await self.round()

    async def round(self) -> None:
        """Collect what may go in every group that this node leads."""
        for group in self._config.groups:
            try:
                await self._tidy(group)
            except (Unavailable, OutcomeUnknown, NotFound, InvalidInput):
                continue

    async def _tidy(self, group: int) -> None:
        if not self._leads(group):
            return
        due = safe_point_due(
            self._runtime.now_ms(), self._config.versions_kept_ms, self._holds.oldest()
        )
        status = await self._propose(group, SetSafePoint(due))
        dropped, scanned = status.dropped, 0
        while self._leads(group):
            status = await self._propose(group, CollectGarbage(STEP_VERSIONS))
            scanned += status.scanned
            if status.done:
                break
            await asyncio.sleep(STEP_PAUSE_S)
        dropped = status.dropped - dropped
        before = self._tidied.get(group)
        self._tidied[group] = Tidied(
            status.safe_point,
            status.pins,
            scanned + (before.scanned if before else 0),
            dropped + (before.dropped if before else 0),
        )
        if dropped:
            self._events.tell(
                "garbage_collected",
                group=group,
                safe_point=status.safe_point,
                pins=status.pins,
                scanned=scanned,
                dropped=dropped,
            )

    def _leads(self, group: int) -> bool:
        """Tell whether this node answers for a group now, and is not about to end."""
        status = self._runtime.status(group)
        leads = status.serving and status.leader_node == self._runtime.node
        return leads and not self._runtime.stopping

    async def _propose(self, group: int, command: SetSafePoint | CollectGarbage) -> GarbageStatus:
        status = await self._runtime.propose(group, command)
        assert isinstance(status, GarbageStatus)
        return status
