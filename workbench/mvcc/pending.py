"""What the changes of an entry, which the engine gets only at its end, leave of a key's versions.

    engine      a@9  a@4  a@2
    changes     a@4 ✗   a@12  a@12           a version collected, one written, and written over
    newest      a@12                         of what the engine will hold after them

Later changes go over earlier ones of the same engine key, as in the batch that they end up in.
Looking up a key costs what was changed since the last look, and then the versions of that key
alone: an entry may carry thousands of writes, and thousands of preconditions on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.mvcc.encoding import (
    COMMIT_TS_BYTES,
    decode_stored,
    split_version_key,
    versions_range,
)

if TYPE_CHECKING:
    from workbench.ports.storage import Change, Engine


class PendingVersions:
    """The versions of keys as they will be once the engine has `changes`.

    Args:
        engine: Where versions are.
        prefix: Of their engine keys.

    Attributes:
        changes: What the engine gets next, in order; grows at its end.
    """

    def __init__(self, engine: Engine, prefix: bytes) -> None:
        self.changes: list[Change] = []
        self._engine = engine
        self._prefix = prefix
        self._seen = 0
        # By engine key without commit_ts, then by engine key: the last change.
        self._changed: dict[bytes, dict[bytes, bytes | None]] = {}

    def newest(self, key: bytes) -> tuple[int, bytes | None, int] | None:
        """Return commit_ts (HLC), value and expiry (Unix ms) of the newest version of `key`.

        Raises:
            Corruption: `mvcc_key_invalid` or `mvcc_value_invalid`.
        """
        for data, stored in self.changes[self._seen :]:
            self._changed.setdefault(data[:-COMMIT_TS_BYTES], {})[data] = stored
        self._seen = len(self.changes)
        low, high = versions_range(self._prefix, key)
        changed = self._changed.get(low, {})
        found = min((each for each in changed.items() if each[1] is not None), default=None)
        for pair in self._engine.scan(low, high):
            if pair[0] not in changed:
                found = pair if found is None else min(found, pair)
                break
        if found is None:
            return None
        data, stored = found
        assert stored is not None, "those that go are left out"
        return split_version_key(self._prefix, data)[1], *decode_stored(stored)
