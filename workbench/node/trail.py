"""What the log of a node tells of its groups: who leads them, and who is a member.

    status and members of each group ──look──▶ what has changed ──▶ leader_changed, members_changed

Rules: one look every tenth of a second; what changes and changes back between two of them is not
told, but shows in the term. Reading is all it does.

Not here: links to other nodes (`peer_links`), and how far a group has come (`metrics`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.node.events import Events
    from workbench.node.runtime import Runtime
    from workbench.ports.consensus import Configuration


class Trail:
    """Tells of changes of groups, once each.

    Args:
        groups: Of this node.
        runtime: That drives them.
        events: The node's log.
    """

    def __init__(self, groups: Sequence[int], runtime: Runtime, events: Events) -> None:
        self._groups = groups
        self._runtime = runtime
        self._events = events
        self._leaders: dict[int, tuple[int, int]] = {}
        self._members: dict[int, Configuration] = {
            group: runtime.members(group) for group in groups
        }

    def look(self) -> None:
        """Tell what has changed since the last look; before the first, no group had a leader."""
        for group in self._groups:
            self._look_at_leader(group)
            self._look_at_members(group)

    def _look_at_leader(self, group: int) -> None:
        status = self._runtime.status(group)
        term, leader = self._leaders.get(group, (0, 0))
        # A term alone means an election that goes on: who wins it is told.
        if status.leader_node == leader and (status.term == term or not leader):
            return
        self._leaders[group] = (status.term, status.leader_node)
        self._events.tell(
            "leader_changed",
            group=group,
            term=status.term,
            leader=status.leader_node or None,
            before=leader or None,
        )

    def _look_at_members(self, group: int) -> None:
        members = self._runtime.members(group)
        if members == self._members[group]:
            return
        self._members[group] = members
        self._events.tell(
            "members_changed",
            group=group,
            voters=sorted(members.voters),
            learners=sorted(members.learners),
        )
