"""Which versions nobody can read any more, found a bounded step at a time.

    safe_point = 5      a@9   a@4   a@2        b@5✝  b@3        c@3, expires before 5
                        kept  kept  garbage    both garbage     garbage

Rules:
- A read at or above the safe point sees exactly what it saw before: of each key the newest
  version at or below the safe point stays, and all above it; what lies behind is garbage. Where
  that version is a tombstone, or has expired by then, it is garbage itself.
- A version that hides others goes only together with, or after, the last of them: else an old
  value would come back to life between two steps.
- A step reads so many versions at most. It goes on where the last one stopped, and within a key
  with many versions too, so that no step is unbounded and every step gets on.

A step is a function of engine and arguments alone. Who may take one is the replica's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import Corruption
from workbench.model.times import hlc_ms
from workbench.mvcc.encoding import COMMIT_TS_BYTES, decode_stored, inverted_ts

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_VERSIONS_MIN = 2


@dataclass(frozen=True, slots=True)
class Step:
    """What a step found.

    Attributes:
        garbage: Engine keys to delete, all of them at once.
        scanned: Versions read.
        resume: Engine key from which to go on; None at the end of the range.
    """

    garbage: tuple[bytes, ...]
    scanned: int
    resume: bytes | None


def find_garbage(pairs: Iterator[tuple[bytes, bytes]], safe_point: int, versions_max: int) -> Step:
    """Return the garbage among the next versions of a range.

    Args:
        pairs: Engine keys and values of versions, ascending; read no further than the step goes.
        safe_point: HLC; nothing is read below it any more.
        versions_max: To be read, at least STEP_VERSIONS_MIN.

    Raises:
        Corruption: `mvcc_value_invalid`, with the engine key.
    """
    assert versions_max >= STEP_VERSIONS_MIN
    newest = inverted_ts(safe_point)
    garbage: list[bytes] = []
    scanned = 0
    key = b""  # encoded, of the version before
    shown: bytes | None = None  # of that key: the newest at or below the safe point
    hidden = False  # whether that one shows nothing, and goes once all behind it have gone
    for data, stored in pairs:
        if data[:-COMMIT_TS_BYTES] != key:
            if shown is not None and hidden:
                garbage.append(shown)
            key, shown, hidden = data[:-COMMIT_TS_BYTES], None, False
        if scanned == versions_max:
            # What is read again is what hides: those behind it have gone, so the step gets on.
            return Step(tuple(garbage), scanned, data if shown is None else shown)
        scanned += 1
        if data[-COMMIT_TS_BYTES:] < newest:
            continue
        if shown is None:
            shown, hidden = data, _shows_nothing(data, stored, safe_point)
        else:
            garbage.append(data)
    if shown is not None and hidden:
        garbage.append(shown)
    return Step(tuple(garbage), scanned, None)


def _shows_nothing(data: bytes, stored: bytes, safe_point: int) -> bool:
    try:
        value, expire_at_ms = decode_stored(stored)
    except Corruption as error:
        raise Corruption(
            f"{error.message}, under engine key {data.hex()}", code=error.code, hint=error.hint
        ) from error
    return value is None or 0 < expire_at_ms <= hlc_ms(safe_point)
