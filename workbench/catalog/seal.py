"""An object's SHA-256 of itself, written inside it.

    ... marker | 64 hex digits | ...
                 └── SHA-256 of all bytes of the object, with these digits taken as zeros

The object is written with 64 zeros, hashed, and the digits are put in. A reader finds the digits
behind the last marker, zeroes them, hashes and compares, before it parses anything. So every
byte counts: those of the digits too, since they are compared with what the others give.

Markers hold bytes that the surrounding format does not put behind the true one, so text of users
that looks like a marker stands before it and is never found (`rfind`). If the true marker is
damaged, an earlier one may be found; its hash then does not fit.

The seal finds accidents and careless edits. Whoever can rewrite an object can seal it again: it
is no signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

DIGITS: Final = 64
BLANK: Final = b"0" * DIGITS


class SealError(ValueError):
    """The bytes do not fit the hash that they carry; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Seal:
    """Where one format keeps its own hash: right behind the last occurrence of `marker`."""

    marker: bytes

    def stamp(self, data: bytes) -> bytes:
        """Return `data` with its hash in the place of the 64 zeros."""
        start = self._find(data)
        assert start is not None, "the marker is missing"
        assert data[start : start + DIGITS] == BLANK, "the digits are not blank"
        digest = hashlib.sha256(data).hexdigest().encode()
        return data[:start] + digest + data[start + DIGITS :]

    def check(self, data: bytes) -> str:
        """Return the digits that `data` carries.

        Raises:
            SealError: They are missing or do not fit.
        """
        start = self._find(data)
        if start is None:
            raise SealError("carries no hash of itself")
        view = memoryview(data)
        carried = bytes(view[start : start + DIGITS])
        hasher = hashlib.sha256(view[:start])
        hasher.update(BLANK)
        hasher.update(view[start + DIGITS :])
        if hasher.hexdigest().encode() != carried:
            raise SealError("does not fit the SHA-256 that it carries")
        return carried.decode()

    def _find(self, data: bytes) -> int | None:
        found = data.rfind(self.marker)
        start = found + len(self.marker)
        return None if found < 0 or len(data) < start + DIGITS else start
