"""An object store in the memory of this process: for tests, notebooks and trials.

Each instance has its own objects; nothing is shared through a class or a module. A lock makes
put-if-absent one step, so two threads cannot both win. Nothing here survives the process.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs

from workbench.ports.object_store import ObjectEntry, check_object_key, object_absent
from workbench.stores.readonly import check_range, readonly_filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class MemoryStore:
    """Objects in a dict.

    Args:
        name: Only for the URL and messages; two stores of one name are two stores.
        now: The time that written objects get, UTC; None for this machine's clock.
    """

    def __init__(self, name: str = "memory", now: Callable[[], datetime] | None = None) -> None:
        self._name = name
        self._now = now or (lambda: datetime.now(UTC))
        self._objects: dict[str, bytes] = {}
        self._modified: dict[str, datetime] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """`memory://` and the name."""
        return f"memory://{self._name}"

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Return a read-only pyarrow filesystem over the keys."""
        return readonly_filesystem(self)

    def get(self, key: str) -> bytes:
        """Return the whole object; NotFound where absent."""
        data = self._objects.get(check_object_key(key))
        if data is None:
            raise object_absent(key, self.url)
        return data

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return the objects in the order asked for."""
        return [self.get(key) for key in keys]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the object ends before."""
        check_range(start, length)
        return self.get(key)[start : start + length]

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create the object; False, and nothing changed, where the key exists."""
        check_object_key(key)
        with self._lock:
            if key in self._objects:
                return False
            self._modified[key] = self._now()
            self._objects[key] = bytes(data)
            return True

    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite the object."""
        check_object_key(key)
        with self._lock:
            self._modified[key] = self._now()
            self._objects[key] = bytes(data)

    def list_after(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys that start with `prefix` and are greater than `after`, ascending."""
        keys = list(self._objects)  # one step, so that a put in another thread cannot disturb it
        return sorted(key for key in keys if key.startswith(prefix) and key > after)

    def list_entries(self, prefix: str, after: str = "") -> list[ObjectEntry]:
        """Return what `list_after` names, each with its size and time."""
        with self._lock:
            return [
                ObjectEntry(key, len(self._objects[key]), self._modified[key])
                for key in self.list_after(prefix, after)
            ]

    def delete(self, key: str) -> None:
        """Remove the object; absent keys are fine."""
        check_object_key(key)
        with self._lock:
            self._objects.pop(key, None)
            self._modified.pop(key, None)

    def size_of(self, key: str) -> int | None:
        """Return the object's size in bytes, None where there is no such object."""
        data = self._objects.get(check_object_key(key))
        return None if data is None else len(data)

    def open_native(self, key: str) -> pa.NativeFile:
        """Return the object as a pyarrow file over the same bytes."""
        data = self._objects.get(key)
        if data is None:
            raise FileNotFoundError(f"no object {key!r} in {self.url}")
        return pa.BufferReader(data)
