"""An object of any store as a file that pyarrow reads without Python.

    store ──get_range, piece by piece──> a temporary file, already unlinked <──pread── pyarrow

For stores that pyarrow cannot reach by itself. A pyarrow file over Python calls would do, were
there no deadlock: pyarrow's threads wait for the interpreter while Python waits for them. The
file takes as much disk as the object until it is closed; TMPDIR says where.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Final, Protocol

import pyarrow as pa

from workbench.errors import Corruption, Storage

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES: Final = 8 * 1024 * 1024


class Ranged(Protocol):
    """What is read from."""

    @property
    def url(self) -> str:
        """The root, for messages."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the object ends before."""
        ...

    def size_of(self, key: str) -> int | None:
        """Return the object's size in bytes, None where there is no such object."""
        ...


def open_spooled(store: Ranged, key: str) -> pa.NativeFile:
    """Return a copy of the object as a pyarrow file.

    Raises:
        FileNotFoundError: Where there is no such object, as pyarrow wants it.
        Corruption: `object_size_mismatch`, where it ends before its size.
        Storage: `store_full`, where the temporary folder cannot hold it.
    """
    size = store.size_of(key)
    if size is None:
        raise FileNotFoundError(f"no object {key!r} in {store.url}")
    try:
        # Not TemporaryFile: pyarrow opens by name, and only by descriptor would need /proc.
        with tempfile.NamedTemporaryFile(prefix="workbench-", delete=False) as file:
            try:
                for piece in _pieces(store, key, size):
                    file.write(piece)
                file.flush()
                return pa.OSFile(file.name, "r")
            finally:
                os.unlink(file.name)  # noqa: PTH108
    except OSError as error:
        raise Storage(
            f"cannot keep a copy of {key!r} ({size} bytes) in {tempfile.gettempdir()}: "
            f"{error.strerror or error}",
            code="store_full",
            hint="name a folder with more space in TMPDIR",
        ) from error


def _pieces(store: Ranged, key: str, size: int) -> Iterator[bytes]:
    start = 0
    while start < size:
        asked = min(PIECE_BYTES, size - start)
        piece = store.get_range(key, start, asked)
        if len(piece) != asked:
            raise Corruption(
                f"{key!r} in {store.url} ends at {start + len(piece)}, its size is {size}",
                code="object_size_mismatch",
                hint="run workbench catalog verify",
            )
        yield piece
        start += asked
