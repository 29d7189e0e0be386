"""What a node tells of its groups: every change once, and nothing that has not changed."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field

from workbench.model.node import GroupStatus
from workbench.node.events import Events
from workbench.node.trail import Trail
from workbench.ports.consensus import Configuration


@dataclass
class Groups:
    """Two groups, as a runtime tells of them."""

    leaders: dict[int, tuple[int, int]] = field(default_factory=lambda: {1: (0, 0), 2: (0, 0)})
    voters: dict[int, Configuration] = field(
        default_factory=lambda: {group: Configuration(frozenset({1, 2, 3})) for group in (1, 2)}
    )

    def status(self, group: int) -> GroupStatus:
        term, leader = self.leaders[group]
        return GroupStatus(group, "follower", term, 0, 0, leader, serving=False)

    def members(self, group: int) -> Configuration:
        return self.voters[group]


class Log:
    """A trail over such groups, and the lines that it has told."""

    def __init__(self) -> None:
        self.groups = Groups()
        self._text = io.StringIO()
        self._trail = Trail((1, 2), self.groups, Events(1, self._text, lambda: 0))

    def look(self) -> list[dict[str, object]]:
        """Look once, and return what is told of it."""
        self._text.seek(0)
        self._text.truncate()
        self._trail.look()
        lines = [json.loads(line) for line in self._text.getvalue().splitlines()]
        return [{k: v for k, v in line.items() if k not in {"time", "node"}} for line in lines]


def leader(group: int, term: int, now: int | None, before: int | None) -> dict[str, object]:
    return {
        "event": "leader_changed",
        "group": group,
        "term": term,
        "leader": now,
        "before": before,
    }


def test_a_leader_that_is_found_lost_and_found_again_is_told_with_its_term() -> None:
    log = Log()
    assert log.look() == []
    log.groups.leaders[1] = (1, 2)
    assert log.look() == [leader(1, 1, 2, None)]
    assert log.look() == []
    log.groups.leaders[1] = (2, 0)
    assert log.look() == [leader(1, 2, None, 2)]
    log.groups.leaders[1] = (3, 0)
    assert log.look() == [], "an election that goes on"
    log.groups.leaders[1] = (3, 3)
    assert log.look() == [leader(1, 3, 3, None)]


def test_the_same_leader_in_a_new_term_is_a_change() -> None:
    log = Log()
    log.groups.leaders[2] = (4, 1)
    log.look()
    log.groups.leaders[2] = (5, 1)
    assert log.look() == [leader(2, 5, 1, 1)]


def test_members_that_change_are_told_and_those_at_the_start_are_not() -> None:
    log = Log()
    assert log.look() == []
    log.groups.voters[2] = Configuration(frozenset({1, 2, 3}), frozenset({4}))
    assert log.look() == [
        {"event": "members_changed", "group": 2, "voters": [1, 2, 3], "learners": [4]}
    ]
    assert log.look() == []
