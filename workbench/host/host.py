"""Many groups in one process: one turn, one sync, for all of them.

    propose, read ─▶ ┌ lane of group 1 ┐
                     │ lane of group 2 │ ─begin─▶ Turn ─(log.append, log.sync)─finish─▶ replies
    tick ──────────▶ └ lane of group G ┘

Rules:
- A turn is begun, its writes are made durable, then it is finished; the next begins after that.
  Nothing is answered, and nothing applied, before what it depends on is durable.
- Calls queue at any time, also while a turn is open; they share the next one.
- Queues are bounded: beyond the bound a call is refused, and nothing of it has happened.

The caller owns clock, disk and waiting: `now_ms` is its wall clock in Unix milliseconds, which
may jump. Nothing here decides what a command does (`replica`) or who leads (`raft`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import NotFound
from workbench.host.lane import Lane, check_bootstrap
from workbench.host.values import Group, Reply, Turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.model.node import GroupStatus
    from workbench.replica.commands import Command, Read
    from workbench.routing.table import RouteTable

__all__ = ["Group", "Host", "Reply", "Turn"]


class Host:
    """All groups of one process.

    Args:
        groups: By id; at most one of them keeps the route catalog.

    Raises:
        InvalidInput: a group's Bootstrap breaks a rule (`span_overlap`, `route_overlap` …).
    """

    def __init__(self, groups: Mapping[int, Group]) -> None:
        for number, group in groups.items():
            assert group.replica.group == number
            if group.bootstrap is not None:
                check_bootstrap(group.bootstrap, is_catalog=group.replica.is_catalog)
        self._lanes = {number: Lane(number, group) for number, group in groups.items()}
        catalogs = [each.replica for each in groups.values() if each.replica.is_catalog]
        assert len(catalogs) <= 1
        self._catalog = catalogs[0] if catalogs else None
        self._turn: Turn | None = None

    def propose(self, group: int, command: Command, token: int) -> None:
        """Queue a command; a Reply with this token will tell what came of it.

        Raises:
            NotFound: `group_absent`.
            InvalidInput: `command_too_large`.
            Unavailable: `queue_full`.
        """
        self._lane(group).propose(command, token)

    def read(self, group: int, read: Read, token: int) -> None:
        """Queue a read; a Reply with this token will answer it.

        Raises:
            NotFound: `group_absent`.
            Unavailable: `queue_full`.
        """
        self._lane(group).read(read, token)

    def begin(self, now_ms: int) -> Turn:
        """Begin a turn: return what has to be written, and synced if it says so."""
        assert self._turn is None, "one turn at a time"
        began = [lane.begin(now_ms) for lane in self._lanes.values()]
        writes = tuple(write for write, _ in began if write is not None)
        self._turn = Turn(writes, any(must_sync for _, must_sync in began))
        return self._turn

    def finish(self, turn: Turn, now_ms: int) -> tuple[Reply, ...]:
        """Finish the turn whose writes are durable: apply, and return what is answered.

        Raises:
            Corruption, Storage: a group cannot go on; the process must stop.
        """
        assert turn is self._turn, "finish follows the begin that returned the turn"
        replies = [reply for lane in self._lanes.values() for reply in lane.finish(now_ms)]
        self._turn = None
        return tuple(replies)

    def tick(self) -> None:
        """Let one unit of election time pass in every group."""
        for lane in self._lanes.values():
            lane.tick()

    def has_work(self) -> bool:
        """Tell whether a turn would get anything done."""
        return any(lane.has_work() for lane in self._lanes.values())

    def status(self, group: int) -> GroupStatus:
        """Return how a group is on this node; NotFound (`group_absent`)."""
        return self._lane(group).status()

    def applied(self) -> Mapping[int, int]:
        """Return the applied index of each group."""
        return {number: lane.replica.applied_index for number, lane in self._lanes.items()}

    def catalog_routes(self) -> RouteTable | None:
        """Return the newest applied route table; None without catalog group or bootstrap."""
        return None if self._catalog is None else self._catalog.catalog

    def check_invariants(self) -> None:
        """Assert what must hold between turns; for tests and the simulator."""
        for lane in self._lanes.values():
            lane.check_invariants()

    def _lane(self, group: int) -> Lane:
        lane = self._lanes.get(group)
        if lane is None:
            raise NotFound(
                f"this node has no replica of group {group}",
                code="group_absent",
                hint="read the routes again and ask a node of that group",
            )
        return lane
