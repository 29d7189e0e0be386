"""The one contract on which the catalog stands: immutable objects, created at most once.

Keys are relative, `/`-separated, ASCII, without empty or dot segments; `check_object_key`
refuses others before any of them reaches a disk or a bucket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from workbench.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pyarrow.fs

OBJECT_KEY_CHARS_MAX: Final = 1024
_KEY = re.compile(rf"[A-Za-z0-9._\-/=]{{1,{OBJECT_KEY_CHARS_MAX}}}")


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object of a listing: key, size in bytes, and when the store last wrote it (UTC)."""

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """Objects under one root.

    Errors: NotFound (code `object_not_found`) for an absent key, InvalidInput for an impossible
    one, Unavailable (`store_unavailable`, retryable) for a store that does not answer now,
    OutcomeUnknown (`store_outcome_unknown`) for a write that may have landed, Storage for one
    that refuses.
    """

    @property
    def url(self) -> str:
        """The root as users write it (`memory://x`, `file:///data/catalog`)."""
        ...

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Return a pyarrow filesystem whose paths are this store's keys, for reading data."""
        ...

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        ...

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return the objects in the order asked for; in parallel where the store gains by it."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the object ends before."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create the object durably; False, and nothing changed, where the key exists."""
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite the object, whole or not at all; for what is only a hint."""
        ...

    def list_after(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys that start with `prefix` and are greater than `after`, ascending."""
        ...

    def list_entries(self, prefix: str, after: str = "") -> list[ObjectEntry]:
        """Return what `list_after` names, each with its size and time."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; absent keys are fine."""
        ...


def is_object_key(text: str) -> bool:
    """Tell whether `text` can be a key: nothing that leaves the root or surprises a store."""
    parts = text.split("/")
    return _KEY.fullmatch(text) is not None and not any(part in {"", ".", ".."} for part in parts)


def object_absent(key: str, url: str) -> NotFound:
    """Return the error for a key under which the store at `url` has nothing."""
    return NotFound(
        f"no object {key!r} in {url}",
        code="object_not_found",
        hint="it was never written, or was deleted",
    )


def check_object_key(key: str) -> str:
    """Return `key`, or raise InvalidInput where it is none."""
    if not is_object_key(key):
        raise InvalidInput(
            f"{key[:64]!r} is not an object key",
            code="object_key_invalid",
            hint="keys are relative, without empty or dot segments",
        )
    return key
