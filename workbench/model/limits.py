"""Limits of the bundled node that its clients must keep too; a request beyond one is refused.

KEY_BYTES_MAX lies beside keys themselves, in `model.keys`.
"""

from __future__ import annotations

from typing import Final

VALUE_BYTES_MAX: Final = 2**20
# One client batch, encoded. A larger one is refused, never split silently.
BATCH_BYTES_MAX: Final = 2 * 2**20
ENTRY_BYTES_MAX: Final = 4 * 2**20
# Coalescing stops adding batches to an entry here: a target, not a limit.
ENTRY_BYTES_TARGET: Final = 256 * 2**10
FRAME_BYTES_MAX: Final = 16 * 2**20
# Of the values that one MultiGet is answered with.
ANSWER_BYTES_MAX: Final = FRAME_BYTES_MAX // 2
SCAN_PAGE_BYTES_MAX: Final = 2**20
SCAN_PAGE_ROWS_MAX: Final = 100_000
# How far a client's timestamp may lie ahead of the clock of the leader that receives it.
CLIENT_CLOCK_AHEAD_MS_MAX: Final = 500
# An entry's ceiling lies so far ahead of its proposer's physical clock.
CEILING_AHEAD_MS: Final = 400
