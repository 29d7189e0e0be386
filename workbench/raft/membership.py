"""Who is a member at every index, and what a majority of them is.

A configuration counts from the moment that its entry is in the log, committed or not
(dissertation, 4.1), and no longer once that entry is truncated. Only one voter more or less at a
time: then any majority of the old and any of the new have a member in common.

    log      … 7 8 9 …
    in force  A│B│A'         truncation from 8 on brings A back
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import Corruption, InvalidInput
from workbench.ports.consensus import Configuration, EntryKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workbench.ports.consensus import LogEntry

_VERSION = 1
_NODE_BYTES = 8


class Memberships:
    """The configuration as of one index, and every one that the log holds since.

    Args:
        index: Of the state at start, or of what was compacted; nothing before it is asked for.
        configuration: In force there.
    """

    def __init__(self, index: int, configuration: Configuration) -> None:
        self._known = [(index, configuration)]

    @property
    def current(self) -> Configuration:
        """The configuration in force."""
        return self._known[-1][1]

    @property
    def changed_at(self) -> int:
        """Index of the entry that brought it."""
        return self._known[-1][0]

    def as_of(self, index: int) -> Configuration:
        """Return the configuration that was in force at an index that is not compacted."""
        return next(known for at, known in reversed(self._known) if at <= index)

    def append(self, entry: LogEntry) -> None:
        """Take a new entry's configuration into force."""
        if entry.kind is EntryKind.CONFIGURATION:
            self._known.append((entry.index, decode_configuration(entry.data)))

    def truncate_from(self, index: int) -> None:
        """Forget configurations at or above `index`."""
        while self._known[-1][0] >= index:
            self._known.pop()
        assert self._known, "what is compacted is never truncated"

    def compact(self, index: int) -> None:
        """Keep of everything up to `index` only what is in force there."""
        if index <= self._known[0][0]:
            return
        kept = self.as_of(index)
        later = [each for each in self._known if each[0] > index]
        self._known = [(index, kept), *later]


def majority(configuration: Configuration) -> int:
    """Return how many voters decide."""
    return len(configuration.voters) // 2 + 1


def agreed(configuration: Configuration, values: dict[int, int]) -> int:
    """Return the largest value that a majority of the voters has reached; absent ones have 0."""
    reached = sorted((values.get(node, 0) for node in configuration.voters), reverse=True)
    return reached[majority(configuration) - 1]


def check_change(current: Configuration, wanted: Configuration) -> None:
    """Raise InvalidInput unless `wanted` is one step away: `configuration_change_invalid`."""
    steps = len(current.voters ^ wanted.voters)
    if not wanted.voters or wanted.voters & wanted.learners or min(wanted.members) < 1:
        reason = "needs voters, and nobody both votes and learns"
    elif steps > 1:
        reason = f"changes {steps} voters at once"
    elif wanted == current:
        reason = "changes nothing"
    else:
        return
    raise InvalidInput(
        f"the configuration of voters {_listed(wanted.voters)} and learners "
        f"{_listed(wanted.learners)} {reason}",
        code="configuration_change_invalid",
        hint="add or remove one voter at a time; a learner becomes a voter by itself",
    )


def encode_configuration(configuration: Configuration) -> bytes:
    """Return version, number of voters, of learners (u16 BE each), then the ids (u64 BE)."""
    voters, learners = sorted(configuration.voters), sorted(configuration.learners)
    head = bytes([_VERSION]) + len(voters).to_bytes(2, "big") + len(learners).to_bytes(2, "big")
    return head + b"".join(node.to_bytes(_NODE_BYTES, "big") for node in [*voters, *learners])


def decode_configuration(data: bytes) -> Configuration:
    """Return the members that an entry names; Corruption (`configuration_invalid`)."""
    voters, learners = (int.from_bytes(data[at : at + 2], "big") for at in (1, 3))
    if data[:1] != bytes([_VERSION]) or len(data) != 5 + (voters + learners) * _NODE_BYTES:
        raise Corruption(
            f"a configuration entry of {len(data)} bytes, version {data[:1].hex()!r}, with "
            f"{voters} voters and {learners} learners is malformed",
            code="configuration_invalid",
            hint="the log was damaged or written by another program",
        )
    nodes = [
        int.from_bytes(data[at : at + _NODE_BYTES], "big")
        for at in range(5, len(data), _NODE_BYTES)
    ]
    return Configuration(frozenset(nodes[:voters]), frozenset(nodes[voters:]))


def _listed(nodes: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(nodes))) or "none"
