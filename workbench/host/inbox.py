"""Messages of other nodes that wait for the next turn: bounded, the oldest go first.

    receive ─▶ [ group, message ] … ─take─▶ by group, in the order they came

Raft tolerates every loss, so a full inbox drops rather than refuses. What this node cannot be
meant by, or what cannot be what it says, is dropped and counted at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from workbench.host.values import Dropped
from workbench.ports.peers import AppendRequest, SnapshotChunk
from workbench.replica.raft_snapshot import is_sound_piece
from workbench.replica.snapshot_files import FILES_FORMAT, is_sound_file_piece

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from workbench.ports.peers import GroupMessage, Message

INBOX_MESSAGES_MAX: Final = 16_384
INBOX_BYTES_MAX: Final = 64 * 2**20
# Of a message and of each of its entries, beside the data.
_OVERHEAD_BYTES: Final = 64
_FILES: Final = bytes([FILES_FORMAT])


class Inbox:
    """What came in since the last turn.

    Args:
        groups: That this node has.
    """

    def __init__(self, groups: Container[int]) -> None:
        self._groups = groups
        self._waiting: deque[tuple[GroupMessage, int]] = deque()
        self._bytes = 0
        self._unknown_group = self._overflow = self._malformed = 0

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._waiting)

    @property
    def dropped(self) -> Dropped:
        """What was dropped so far."""
        return Dropped(self._unknown_group, self._overflow, self._malformed)

    def put(self, messages: Iterable[GroupMessage]) -> None:
        """Take messages in; what there is no room for drops the oldest."""
        for each in messages:
            if each.group not in self._groups:
                self._unknown_group += 1
            elif not _is_sound(each):
                self._malformed += 1
            else:
                size = _size(each.message)
                self._waiting.append((each, size))
                self._bytes += size
                while len(self._waiting) > INBOX_MESSAGES_MAX or self._bytes > INBOX_BYTES_MAX:
                    self._bytes -= self._waiting.popleft()[1]
                    self._overflow += 1

    def take(self) -> dict[int, list[Message]]:
        """Return all that waits, by group, and have nothing left."""
        taken: dict[int, list[Message]] = {}
        for each, _ in self._waiting:
            taken.setdefault(each.group, []).append(each.message)
        self._waiting.clear()
        self._bytes = 0
        return taken


def _is_sound(each: GroupMessage) -> bool:
    message = each.message
    if not isinstance(message, SnapshotChunk):
        return True
    is_sound = is_sound_file_piece if message.data[:1] == _FILES else is_sound_piece
    return is_sound(each.group, message.meta, message.offset, message.data, done=message.done)


def _size(message: Message) -> int:
    match message:
        case AppendRequest(entries=entries):
            return _OVERHEAD_BYTES + sum(_OVERHEAD_BYTES + len(entry.data) for entry in entries)
        case SnapshotChunk(data=data):
            return _OVERHEAD_BYTES + len(data)
        case _:
            return _OVERHEAD_BYTES
