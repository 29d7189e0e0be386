"""A store that is asked, before the first write of a process, whether it keeps its word.

    first put_if_absent ──▶ put FORMAT once more, with its own bytes ──▶ True? then it overwrites
                                                                └──────▶ False: go on

A place is probed when a catalog is created in it. But a catalog can be copied to another place,
and a place can change its server: a store that creates an object twice would let two writers
destroy the catalog. One put of what is there already tells, and does no harm where the store
does overwrite: the bytes are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.catalog.layout import FORMAT_KEY
from workbench.errors import NotFound, OutcomeUnknown, Storage, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow.fs

    from workbench.ports.object_store import ObjectEntry, ObjectStore


class GuardedStore:
    """Passes everything on; checks once before it creates anything."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self._checked = False

    @property
    def url(self) -> str:
        """The root as users write it."""
        return self._inner.url

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Return a pyarrow filesystem whose paths are this store's keys."""
        return self._inner.filesystem()

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        return self._inner.get(key)

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return the objects in the order asked for."""
        return self._inner.get_many(keys)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the object ends before."""
        return self._inner.get_range(key, start, length)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create the object, if the store creates objects at most once.

        Raises:
            Storage: `store_not_conditional`; nothing was written.
        """
        if not self._checked:
            self._check()
        return self._inner.put_if_absent(key, data)

    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite the object."""
        self._inner.replace(key, data)

    def list_after(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys that start with `prefix` and are greater than `after`, ascending."""
        return self._inner.list_after(prefix, after)

    def list_entries(self, prefix: str, after: str = "") -> list[ObjectEntry]:
        """Return what `list_after` names, each with its size and time."""
        return self._inner.list_entries(prefix, after)

    def delete(self, key: str) -> None:
        """Remove the object; absent keys are fine."""
        self._inner.delete(key)

    def _check(self) -> None:
        try:
            anchor = self._inner.get(FORMAT_KEY)
        except NotFound:
            self._checked = True  # a place without a catalog is probed by who creates one
            return
        try:
            overwritten = self._inner.put_if_absent(FORMAT_KEY, anchor)
        except OutcomeUnknown as error:
            raise Unavailable(
                f"{self.url} did not tell whether it creates an object twice",
                code="store_unavailable",
                hint="nothing was written: try again",
            ) from error
        if overwritten:
            raise Storage(
                f"{self.url} creates an object that exists: it ignores conditional puts, and two "
                "writers would destroy the catalog",
                code="store_not_conditional",
                hint="the catalog can be read here; to write, copy it to a store that honours "
                "If-None-Match",
            )
        self._checked = True
