"""One page of a scan over what a group owns.

    pieces    [start ──── ····· ────── ····· ── end)      rows of all pieces, in key order
    page      ├─────────────────▶│ next_key

A page ends where the next row would exceed its rows or bytes, or where the pieces end; then it has
one row if there is one, so that paging gets on. It also ends where more versions were passed than
a turn has time for, with the rows so far, which may be none: it says so, and the next page goes on
at a later key. `next_key` starts the next page when scanning forward, and is the exclusive end of
the next page when scanning in reverse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.errors import InvalidInput
from workbench.model.node import StoredVersion
from workbench.mvcc.versions import Passed, scan_some
from workbench.replica.commands import Page, ScanPage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workbench.model.keys import Span
    from workbench.ports.storage import Engine

# Versions that one page may pass without showing them: some 20 ms, in which no group gets a turn.
PASSED_MAX: Final = 8_192


def scan_page(engine: Engine, prefix: bytes, pieces: Sequence[Span], asked: ScanPage) -> Page:
    """Return a page of `pieces`, which ascend whatever the direction.

    Raises:
        InvalidInput: `scan_limit_invalid`.
        Corruption: a stored record cannot be decoded.
    """
    if asked.rows_max < 1 or asked.bytes_max < 1:
        raise InvalidInput(
            f"a page of {asked.rows_max} rows and {asked.bytes_max} bytes is empty",
            code="scan_limit_invalid",
            hint="ask for at least one row and one byte",
        )
    rows: list[tuple[bytes, StoredVersion]] = []
    size = 0
    for key, version in _rows(engine, prefix, pieces, asked):
        if version is None:
            return Page(asked.read_ts, tuple(rows), key, unfinished=True)
        size += len(key) + len(version.value)
        if rows and (len(rows) == asked.rows_max or size > asked.bytes_max):
            return Page(asked.read_ts, tuple(rows), rows[-1][0] if asked.reverse else key)
        rows.append((key, version))
    return Page(asked.read_ts, tuple(rows), None)


def _rows(
    engine: Engine, prefix: bytes, pieces: Sequence[Span], asked: ScanPage
) -> Iterator[tuple[bytes, StoredVersion | None]]:
    passed = Passed(PASSED_MAX)
    for piece in reversed(pieces) if asked.reverse else pieces:
        found = scan_some(
            engine,
            prefix,
            piece.start,
            piece.end,
            asked.read_ts,
            passed=passed,
            reverse=asked.reverse,
        )
        for key, version in found:
            if version is not None and asked.keys_only:
                yield key, StoredVersion(b"", version.commit_ts)
            else:
                yield key, version
            if version is None:
                return
