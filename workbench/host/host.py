"""Many groups in one process: one turn, one sync, for all of them.

    propose, read ─▶ ┌ lane of group 1 ┐
    receive ───────▶ │ lane of group 2 │ ─begin─▶ Turn ─(see below)─finish─▶ replies, messages
    tick ──────────▶ └ lane of group G ┘

Rules:
- A turn is begun, carried out, then finished; the next begins after that. Nothing is answered or
  applied, and no promise is sent, before what it depends on is durable.
- Its shell carries a turn out so: `early` may be sent at any time from now on; `chunks` are kept
  and synced, each in the RaftSnapshots of its group; then `writes` are appended to the log, and
  the log is synced if the turn says so.
- Calls and messages queue at any time, also while a turn is open; they share the next one.
- Queues are bounded: beyond the bound a call is refused, and nothing of it has happened; of
  messages the oldest are dropped.
- What goes to one node in one turn goes as one batch, whatever groups it is of.

The caller owns clock, disk and waiting: `now_ms` is its wall clock in Unix milliseconds, which
may jump. Nothing here decides what a command does (`replica`) or who leads (`raft`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import NotFound
from workbench.host.inbox import Inbox
from workbench.host.lane import Lane, check_bootstrap
from workbench.host.values import Dropped, Finished, Group, GroupChunk, Reply, Turn
from workbench.ports.peers import GroupMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workbench.model.node import GroupStatus
    from workbench.ports.consensus import Configuration
    from workbench.ports.peers import Message
    from workbench.replica.commands import Command, Read
    from workbench.routing.table import RouteTable

__all__ = ["Dropped", "Finished", "Group", "GroupChunk", "Host", "Reply", "Turn"]


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
        self._inbox = Inbox(self._lanes)
        self._turn: Turn | None = None

    @property
    def dropped(self) -> Dropped:
        """Messages that came in and were dropped, since the host was made."""
        return self._inbox.dropped

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

    def has(self, group: int) -> bool:
        """Tell whether this node has a replica of a group."""
        return group in self._lanes

    def receive(self, messages: Iterable[GroupMessage]) -> None:
        """Queue messages of other nodes; what cannot be taken in is dropped and counted."""
        self._inbox.put(messages)

    def unreachable(self, node: int) -> None:
        """Note that messages to a node were probably lost, of all groups."""
        for lane in self._lanes.values():
            lane.consensus.unreachable(node)

    def members(self, group: int) -> Configuration:
        """Return the members of a group that are in force here; NotFound (`group_absent`)."""
        return self._lane(group).consensus.configuration

    def change_members(self, group: int, wanted: Configuration, token: int) -> None:
        """Queue a change of a group's members: one voter more or less, any learners.

        A Reply with this token will tell what came of it: MembersChanged once it has committed,
        or `not_leader`, `configuration_changing`, `configuration_change_invalid`.

        Raises:
            NotFound: `group_absent`.
            InvalidInput: `group_unreplicated`: this node keeps the group for itself.
            Unavailable: `queue_full`.
        """
        self._lane(group).change_members(wanted, token)

    def transfer_leader(self, group: int, to: int) -> None:
        """Hand a group's leadership to another voter; given up where that takes too long.

        Raises:
            NotFound: `group_absent`.
            Unavailable: `not_leader`.
            InvalidInput: `transfer_target_invalid`.
        """
        self._lane(group).consensus.transfer_leader(to)

    def begin(self, now_ms: int) -> Turn:
        """Begin a turn: return what has to be done before it may be finished.

        Raises:
            Corruption: a group disagrees on what is committed; the process must stop.
        """
        assert self._turn is None, "one turn at a time"
        received = self._inbox.take()
        began = [
            (number, lane.begin(now_ms, received.get(number, ())))
            for number, lane in self._lanes.items()
        ]
        self._turn = Turn(
            tuple(each.write for _, each in began if each.write is not None),
            any(each.must_sync for _, each in began),
            _by_receiver((number, each.early) for number, each in began),
            tuple(GroupChunk(number, chunk) for number, each in began for chunk in each.chunks),
        )
        return self._turn

    def finish(self, turn: Turn, now_ms: int) -> Finished:
        """Finish the turn that was carried out: apply; return what is answered and to be sent.

        Raises:
            Corruption, Storage: a group cannot go on; the process must stop.
        """
        assert turn is self._turn, "finish follows the begin that returned the turn"
        finished = [(number, *lane.finish(now_ms)) for number, lane in self._lanes.items()]
        self._turn = None
        return Finished(
            tuple(reply for _, replies, _ in finished for reply in replies),
            _by_receiver((number, messages) for number, _, messages in finished),
        )

    def flushed(self, applied: Mapping[int, int]) -> Mapping[int, int]:
        """Return up to which index each group's log may be let go of on the disk.

        Args:
            applied: As `applied` said before the engine's flush that has now ended.
        """
        return {
            group: min(index, self._lanes[group].consensus.compacted)
            for group, index in applied.items()
        }

    def tick(self) -> None:
        """Let one unit of election time pass in every group."""
        for lane in self._lanes.values():
            lane.tick()

    def has_work(self) -> bool:
        """Tell whether a turn would get anything done."""
        return bool(self._inbox) or any(lane.has_work() for lane in self._lanes.values())

    def status(self, group: int) -> GroupStatus:
        """Return how a group is on this node; NotFound (`group_absent`)."""
        return self._lane(group).status()

    def leader(self, group: int) -> int:
        """Return who leads a group as far as its replica knows, 0: unknown; NotFound."""
        return self._lane(group).consensus.soft_state.leader

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


def _by_receiver(
    said: Iterable[tuple[int, Iterable[Message]]],
) -> Mapping[int, tuple[GroupMessage, ...]]:
    """Return what goes to each node as one batch, in order."""
    batches: dict[int, list[GroupMessage]] = {}
    for group, messages in said:
        for message in messages:
            batches.setdefault(message.receiver, []).append(GroupMessage(group, message))
    return {node: tuple(batch) for node, batch in batches.items()}
