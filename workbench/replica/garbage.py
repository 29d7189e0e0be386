"""The safe point of a group, what holds it, and the collection of what lies below.

    SetSafePoint ──▶ safe point = the smaller of what was asked and the oldest pin; never lower
    Pin, Unpin ────▶ a read_ts that stays readable until it is let go
    CollectGarbage ▶ one bounded step of `mvcc.garbage`, from where the last one stopped

Rules:
- All of it is replicated: one row, changed by commands of the log alone. Every replica collects
  the same versions at the same entry, so that equal applied indexes still mean equal rows.
- The safe point is below the commit_ts of the command that sets it, and never falls. A read below
  it is refused: what it would see may be gone.
- Rows of the route catalog are not collected: deltas say which of them are history, and they have
  a retention of their own.

When to collect, and how far back to keep, is for the caller; `safe_point_due` and `round_ms` help
one that does so by the clock.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, assert_never

from workbench.errors import InvalidInput, Unavailable
from workbench.model.routes import RESERVED_PREFIX
from workbench.model.times import hlc_of_ms
from workbench.mvcc.encoding import span_range
from workbench.mvcc.garbage import STEP_VERSIONS_MIN, find_garbage
from workbench.replica.catalog import RESERVED_END
from workbench.replica.commands import CollectGarbage, GarbageStatus, Pin, SetSafePoint, Unpin
from workbench.replica.layout import FORMAT, META, VERSIONS, check_format, corrupt, family

if TYPE_CHECKING:
    from workbench.ports.storage import Change, Engine

PINS_MAX: Final = 64
PIN_ID_BYTES: Final = 16
STEP_VERSIONS_MAX: Final = 65_536
GARBAGE: Final = b"garbage"

# Between two rounds of one that collects by the clock.
ROUND_MS_MIN: Final = 1_000
ROUND_MS_MAX: Final = 600_000

_HEAD: Final = struct.Struct(">BQQII")
_PIN: Final = struct.Struct(">16sQ")


@dataclass(frozen=True, slots=True)
class _State:
    """The row.

    Attributes:
        safe_point: HLC; 0 for none yet.
        dropped: Versions collected so far.
        cursor: Engine key where the next step begins; empty for the start of the data.
        pins: Read timestamps by id.
    """

    safe_point: int = 0
    dropped: int = 0
    cursor: bytes = b""
    pins: tuple[tuple[bytes, int], ...] = ()


class Garbage:
    """The garbage collection of one group, as found in its engine."""

    def __init__(self, group: int, engine: Engine) -> None:
        self._group = group
        self._engine = engine
        self._versions = family(group, VERSIONS)
        self._key = family(group, META) + GARBAGE
        stored = engine.get(self._key)
        self._state = _State() if stored is None else _decode(self._key, stored)

    @property
    def status(self) -> GarbageStatus:
        """Where it stands."""
        state = self._state
        return GarbageStatus(
            self._group, state.safe_point, len(state.pins), state.dropped, 0, not state.cursor
        )

    def check_readable(self, read_ts: int) -> None:
        """Raise InvalidInput (`read_ts_below_safe_point`) for what may be gone."""
        if read_ts < self._state.safe_point:
            raise InvalidInput(
                f"read_ts {read_ts} lies below the safe point {self._state.safe_point} of group "
                f"{self._group}: older versions may be gone",
                code="read_ts_below_safe_point",
                hint="read at a later moment; a pin keeps one readable",
            )

    def carry_out(
        self, command: SetSafePoint | Pin | Unpin | CollectGarbage, commit_ts: int
    ) -> tuple[GarbageStatus, list[Change]]:
        """Carry a command out; return where it stands, and the engine's changes.

        Raises:
            InvalidInput: `safe_point_ahead`, `read_ts_below_safe_point`, `pin_ahead`,
                `garbage_step_invalid`.
            Unavailable: `pins_exhausted`.
        """
        before = self._state
        scanned = 0
        changes: list[Change] = []
        match command:
            case SetSafePoint():
                after = self._raised(command.safe_point, commit_ts)
            case Pin():
                after = self._pinned(command, commit_ts)
            case Unpin():
                pins = tuple(each for each in before.pins if each[0] != command.pin_id)
                after = replace(before, pins=pins)
            case CollectGarbage():
                after, scanned, changes = self._collected(command.versions_max)
            case _:
                assert_never(command)
        if after != before:
            self._state = after
            changes.append((self._key, _encode(after)))
        return replace(self.status, scanned=scanned), changes

    def _raised(self, safe_point: int, commit_ts: int) -> _State:
        if safe_point >= commit_ts:
            raise InvalidInput(
                f"a safe point of {safe_point} is not below the present, {commit_ts}",
                code="safe_point_ahead",
                hint="keep at least what is being read",
            )
        state = self._state
        allowed = min([safe_point, *(read_ts for _, read_ts in state.pins)])
        if allowed <= state.safe_point:
            return state
        # What the pass under way has left behind may be garbage now.
        return replace(state, safe_point=allowed, cursor=b"")

    def _pinned(self, command: Pin, commit_ts: int) -> _State:
        assert len(command.pin_id) == PIN_ID_BYTES
        self.check_readable(command.read_ts)
        if command.read_ts >= commit_ts:
            raise InvalidInput(
                f"a pin at {command.read_ts} is not below the present, {commit_ts}",
                code="pin_ahead",
                hint="pin what has been read",
            )
        others = [each for each in self._state.pins if each[0] != command.pin_id]
        if len(others) >= PINS_MAX:
            raise Unavailable(
                f"group {self._group} has {PINS_MAX} pins already",
                code="pins_exhausted",
                hint="let go of one, or wait for it",
            )
        pins = tuple(sorted([*others, (command.pin_id, command.read_ts)]))
        return replace(self._state, pins=pins)

    def _collected(self, versions_max: int) -> tuple[_State, int, list[Change]]:
        """Take one step; a pass that has come to the end begins anew."""
        if not STEP_VERSIONS_MIN <= versions_max <= STEP_VERSIONS_MAX:
            raise InvalidInput(
                f"a step of {versions_max} versions",
                code="garbage_step_invalid",
                hint=f"choose {STEP_VERSIONS_MIN} to {STEP_VERSIONS_MAX}",
            )
        state = self._state
        if not state.safe_point:
            return state, 0, []
        left, scanned = versions_max, 0
        garbage: list[bytes] = []
        cursor = b""
        for start, end in ((b"", RESERVED_PREFIX), (RESERVED_END, None)):
            low, high = span_range(self._versions, start, end)
            if high is not None and state.cursor >= high:
                continue
            if left < STEP_VERSIONS_MIN:
                cursor = low
                break
            pairs = self._engine.scan(max(low, state.cursor), high)
            step = find_garbage(pairs, state.safe_point, left)
            garbage += step.garbage
            left, scanned = left - step.scanned, scanned + step.scanned
            if step.resume is not None:
                cursor = step.resume
                break
        after = replace(state, cursor=cursor, dropped=state.dropped + len(garbage))
        return after, scanned, [(key, None) for key in garbage]


def safe_point_due(now_ms: int, kept_ms: int, held: int | None = None) -> int:
    """Return the safe point (HLC) to ask for, 0 for none.

    Args:
        now_ms: Unix milliseconds.
        kept_ms: For how long versions stay after a newer one has hidden them.
        held: Oldest moment (HLC) that somebody is reading at; None for none.
    """
    due = hlc_of_ms(max(0, now_ms - kept_ms))
    return due if held is None else min(due, held)


def round_ms(kept_ms: int) -> int:
    """Return how long to wait between two rounds: a sixth of what is kept, within bounds.

    So little more than that is kept, and what is hardly ever due is not looked for all the time.
    """
    return min(max(kept_ms // 6, ROUND_MS_MIN), ROUND_MS_MAX)


def _encode(state: _State) -> bytes:
    head = _HEAD.pack(FORMAT, state.safe_point, state.dropped, len(state.cursor), len(state.pins))
    return b"".join((head, state.cursor, *(_PIN.pack(*pin) for pin in state.pins)))


def _decode(key: bytes, stored: bytes) -> _State:
    check_format(key, stored, _HEAD.size)
    _, safe_point, dropped, cursor_bytes, pins = _HEAD.unpack_from(stored)
    pins_at = _HEAD.size + cursor_bytes
    if len(stored) != pins_at + pins * _PIN.size:
        raise corrupt(key, f"{len(stored)} bytes, with {cursor_bytes} of a cursor and {pins} pins")
    return _State(
        safe_point,
        dropped,
        stored[_HEAD.size : pins_at],
        tuple((pin_id, read_ts) for pin_id, read_ts in _PIN.iter_unpack(stored[pins_at:])),
    )
