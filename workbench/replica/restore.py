"""The restore of a group: an empty one is closed, filled with history, and opened again.

    BeginRestore ─▶ RESTORING ─ ImportRows 1, 2, 3 … ─▶ EndRestore ─▶ serving
                       │  SaveRoutes, in the catalog group           commit_ts above all imported
                       └─ reads and writes of data: `group_restoring`

Rules:
- Only a group that holds no version of a user's key is restored, so nothing is lost, and no read
  that anybody remembers showed anything else.
- Imports count from 1, and an import comes in parts, each an entry of the log. Any but the next
  part, by number and offset, changes nothing and is answered with what is stored. The number
  alone would lose rows where a sender that begins anew cuts an import differently.
- A version is imported once: the same again is fine, other content under its key and commit_ts
  is refused.
- While it lasts nothing is served, so timestamps from outside may be anything up to
  IMPORT_AHEAD_MS_MAX ahead. EndRestore itself needs a commit_ts above all of them. So from the
  first moment in which somebody can read or write, ceiling and clock lie above them, here and
  on every later leader; and a timestamp from a clock that ran ahead delays the end, but never
  drives the clock of the group.
- The record outlives the end, so that late repetitions are answered and change nothing.

All of it is a function of the log. The rows of a restore are `mvcc.block`; what a route catalog
may look like is `routing.rules`.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from workbench.errors import Conflict, InvalidInput, Unavailable
from workbench.model.keys import KEY_BYTES_MAX, printable_key
from workbench.model.limits import VALUE_BYTES_MAX
from workbench.model.node import RestoreStatus
from workbench.model.routes import RESERVED_PREFIX
from workbench.model.times import hlc_ms, hlc_of_ms
from workbench.mvcc.block import KIND_BYTES, engine_pairs
from workbench.mvcc.encoding import span_range
from workbench.replica.catalog import RESERVED_END
from workbench.replica.layout import (
    FORMAT,
    META,
    RESTORE,
    VERSIONS,
    check_format,
    corrupt,
    family,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.mvcc.block import VersionBlock
    from workbench.ports.storage import Change, Engine
    from workbench.replica.commands import ImportRows
    from workbench.replica.spans import OwnedSpans

# Beyond this a timestamp is not a clock that ran ahead, but nonsense.
IMPORT_AHEAD_MS_MAX: Final = 24 * 60 * 60 * 1_000

_RESTORING: Final = 1
_ENDED: Final = 2
_RECORD: Final = struct.Struct(">BB16sQQQQ")


class Restore:
    """The newest restore of one group, as found in the engine.

    Attributes:
        status: How far it has come.
    """

    def __init__(self, group: int, engine: Engine) -> None:
        self._engine = engine
        self._group = group
        self._key = family(group, META) + RESTORE
        self._versions = family(group, VERSIONS)
        self.status = self._load()

    def check_serving(self) -> None:
        """Raise Unavailable (`group_restoring`) while the restore lasts."""
        if self.status.restoring:
            raise Unavailable(
                f"group {self._group} is being restored, {self.status.rows} rows so far",
                code="group_restoring",
                hint="wait for its end, or go on with the restore",
            )

    def check_running(self, restore_id: bytes) -> bool:
        """Tell whether a command of a restore has to be carried out; False if it has ended.

        Raises:
            Conflict: `restore_other` or `restore_not_running`.
        """
        if self.status.restore_id == restore_id:
            return self.status.restoring
        if self.status.restoring:
            raise self._other(restore_id)
        raise Conflict(
            f"the restore {restore_id.hex()} of group {self._group} has not begun",
            code="restore_not_running",
            hint="begin it",
        )

    def begin(self, restore_id: bytes, pending: Sequence[Change]) -> Change:
        """Begin a restore; `pending` has not reached the engine yet.

        Raises:
            Conflict: `restore_other` or `group_not_empty`.
        """
        if self.status.restoring:
            raise self._other(restore_id)
        held = self._any_version(pending)
        if held is not None:
            raise Conflict(
                f"group {self._group} holds versions of users' keys: {held.hex()} is one",
                code="group_not_empty",
                hint="restore into a cluster that nothing was written to",
            )
        return self._put(RestoreStatus(self._group, restore_id, restoring=True))

    def import_rows(
        self, command: ImportRows, commit_ts: int, spans: OwnedSpans, pending: Sequence[Change]
    ) -> list[Change]:
        """Store the rows of the next part of an import; no changes for any other.

        Raises:
            InvalidInput: `import_ts_invalid`, `import_ts_ahead`,
                `key_too_long`, `value_too_long`, `key_reserved` or `import_outside_spans`.
            Conflict: `import_differs`.
        """
        before = self.status
        if (command.seq, command.offset) != (before.seq + 1, before.offset):
            return []
        count = command.rows.count
        pairs: list[tuple[bytes, bytes]] = []
        newest = 0
        if count:
            keys = command.rows.key_list()
            newest = _check_times(command.rows, commit_ts)
            _check_rows(keys, command.rows)
            _check_owned(keys, spans)
            pairs = engine_pairs(self._versions, command.rows)
            self._check_same(pairs, pending)
        status = replace(
            before,
            seq=command.seq if command.last else before.seq,
            offset=0 if command.last else before.offset + count,
            rows=before.rows + count,
            max_commit_ts=max(before.max_commit_ts, newest),
        )
        return [*pairs, self._put(status)]

    def end(self, commit_ts: int) -> Change:
        """End the restore; Unavailable (`import_ahead_of_clock`) while it has to wait."""
        if commit_ts <= self.status.max_commit_ts:
            ahead_ms = hlc_ms(self.status.max_commit_ts) - hlc_ms(commit_ts)
            raise Unavailable(
                f"group {self._group} has a version from {ahead_ms} ms ahead of its clock",
                code="import_ahead_of_clock",
                hint="try again when that time has passed",
            )
        return self._put(replace(self.status, restoring=False))

    def _any_version(self, pending: Sequence[Change]) -> bytes | None:
        """Return the engine key of some version of a user's key, None where there is none."""
        prefix = self._versions
        low, _ = span_range(prefix, RESERVED_PREFIX, None)
        high, end = span_range(prefix, RESERVED_END, None)
        for key, _ in pending:
            if key.startswith(prefix) and not low <= key < high:
                return key
        for start, stop in ((prefix, low), (high, end)):
            for key, _ in self._engine.scan(start, stop):
                return key
        return None

    def _check_same(self, pairs: list[tuple[bytes, bytes]], pending: Sequence[Change]) -> None:
        """Refuse a version that is there, or twice among these, with other content."""
        wanted = dict(pairs)
        differs = len(wanted) < len(pairs) and any(wanted[key] != value for key, value in pairs)
        differs = differs or any(wanted.get(key, value) != value for key, value in pending)
        # Rows that come in order have nothing between them; else look at each by itself.
        between = self._engine.scan(min(wanted), max(wanted) + b"\x00")
        stored = list(islice(between, len(wanted) + 1))
        if len(stored) > len(wanted):
            found = ((key, self._engine.get(key)) for key in wanted)
            stored = [(key, value) for key, value in found if value is not None]
        if differs or any(wanted.get(key, value) != value for key, value in stored):
            raise Conflict(
                f"group {self._group} has, or is given twice, a version with other content",
                code="import_differs",
                hint="the rows are not of one history: begin anew in an empty cluster",
            )

    def _put(self, status: RestoreStatus) -> Change:
        self.status = status
        mode = _RESTORING if status.restoring else _ENDED
        record = _RECORD.pack(
            FORMAT,
            mode,
            status.restore_id,
            status.seq,
            status.offset,
            status.rows,
            status.max_commit_ts,
        )
        return self._key, record

    def _load(self) -> RestoreStatus:
        stored = self._engine.get(self._key)
        if stored is None:
            return RestoreStatus(self._group)
        check_format(self._key, stored, _RECORD.size, exactly=True)
        _, mode, restore_id, seq, offset, rows, max_commit_ts = _RECORD.unpack(stored)
        if mode not in {_RESTORING, _ENDED}:
            raise corrupt(self._key, f"a restore of mode {mode}")
        return RestoreStatus(
            group=self._group,
            restore_id=restore_id,
            restoring=mode == _RESTORING,
            seq=seq,
            rows=rows,
            max_commit_ts=max_commit_ts,
            offset=offset,
        )

    def _other(self, restore_id: bytes) -> Conflict:
        return Conflict(
            f"group {self._group} is being restored by {self.status.restore_id.hex()}, "
            f"not by {restore_id.hex()}",
            code="restore_other",
            hint="go on with that restore, or take an empty cluster",
        )


def restore_ended(group: int) -> Conflict:
    """Return the error for what can be done during a restore only."""
    return Conflict(
        f"the restore of group {group} has ended",
        code="restore_ended",
        hint="what it brought is there; changes go the usual ways now",
    )


def restore_spans_differ(group: int) -> Conflict:
    """Return the error for a restore that is begun again with other spans."""
    return Conflict(
        f"the restore of group {group} has begun with other spans",
        code="restore_spans_differ",
        hint="go on with the routes that it began with, or take an empty cluster",
    )


def _check_times(rows: VersionBlock, commit_ts: int) -> int:
    """Return the newest commit_ts of rows that an entry of `commit_ts` brings."""
    times = rows.commit_ts_list()
    oldest, newest = min(times), max(times)
    if oldest == 0:
        raise InvalidInput(
            "a row has the commit_ts 0", code="import_ts_invalid", hint="nothing is written at 0"
        )
    if newest > commit_ts + hlc_of_ms(IMPORT_AHEAD_MS_MAX):
        raise InvalidInput(
            f"a row has the commit_ts {newest}, {hlc_ms(newest) - hlc_ms(commit_ts)} ms ahead of "
            f"the group's clock, more than {IMPORT_AHEAD_MS_MAX}",
            code="import_ts_ahead",
            hint="check the clock of the machine that restores, and the export",
        )
    return newest


def _check_rows(keys: Sequence[bytes], rows: VersionBlock) -> None:
    """Refuse what no client could have written."""
    longest = max(map(len, keys))
    if longest > KEY_BYTES_MAX:
        raise InvalidInput(
            f"a key has {longest} bytes, the limit is {KEY_BYTES_MAX}",
            code="key_too_long",
            hint="the rows are not of an export",
        )
    longest = max(rows.value_length_list()) - KIND_BYTES
    if longest > VALUE_BYTES_MAX:
        raise InvalidInput(
            f"a value has {longest} bytes, the limit is {VALUE_BYTES_MAX}",
            code="value_too_long",
            hint="the rows are not of an export",
        )


def _check_owned(keys: Sequence[bytes], spans: OwnedSpans) -> None:
    """Refuse reserved keys, and those that the group will not own."""
    smallest, largest = min(keys), max(keys)
    if smallest < RESERVED_END and largest >= RESERVED_PREFIX:
        for key in keys:
            if key.startswith(RESERVED_PREFIX):
                raise InvalidInput(
                    f"key {printable_key(key)} is one of the node's own rows",
                    code="key_reserved",
                    hint="routes are restored by themselves",
                )
    stranger = spans.stranger(keys, smallest, largest)
    if stranger is not None:
        raise InvalidInput(
            f"key {printable_key(stranger)} lies outside the spans that the restore began with",
            code="import_outside_spans",
            hint="send it to the group whose route holds it",
        )
