"""What a group's log is made of: entries, its members, and what a raft_snapshot stands for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EntryKind(StrEnum):
    """Whom an entry is for."""

    COMMAND = "command"
    CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of a group's log.

    Attributes:
        index: Its place, from 1.
        term: Of the leader that made it.
        data: For the state machine; empty for the entry that opens a leader's term. Of a
            configuration: the members, which only consensus reads.
        kind: Whom it is for; a state machine applies a configuration as an empty entry.
    """

    index: int
    term: int
    data: bytes
    kind: EntryKind = EntryKind.COMMAND


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members of a group, by node id.

    Attributes:
        voters: Whose majority elects and commits.
        learners: Who gets the log and does not vote; disjoint from the voters.
    """

    voters: frozenset[int]
    learners: frozenset[int] = frozenset()

    @property
    def members(self) -> frozenset[int]:
        """All who get the log."""
        return self.voters | self.learners


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """Which state a raft_snapshot holds.

    Attributes:
        index: Of the last entry in it.
        term: Of that entry.
        configuration: As of that entry.
    """

    index: int
    term: int
    configuration: Configuration
