"""A pyarrow filesystem over a store's keys, for reading only.

pyarrow asks the handler for sizes and for opened files; the files themselves are pyarrow's own
(a buffer or a file of its C++ code), so no byte of data passes through Python.

        pyarrow.dataset ──> PyFileSystem ──> StoreHandler ──> keys of one store

Every path is checked as an object key first, so a dataset can reach nothing that `get` could
not. Writing is refused: objects are made by `put_if_absent` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Never, Protocol

import pyarrow.fs

from workbench.errors import InvalidInput, Storage
from workbench.ports.object_store import check_object_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa


class Readable(Protocol):
    """What a store offers to the handler beside its port."""

    @property
    def url(self) -> str:
        """The root, for messages and equality."""
        ...

    def size_of(self, key: str) -> int | None:
        """Return the object's size in bytes, None where there is no such object."""
        ...

    def open_native(self, key: str) -> pa.NativeFile:
        """Return the object as a seekable pyarrow file; FileNotFoundError where absent."""
        ...

    def list_after(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys that start with `prefix` and are greater than `after`, ascending."""
        ...


class StoreHandler(pyarrow.fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """Answers pyarrow's questions about one store."""

    def __init__(self, store: Readable) -> None:
        self._store = store

    def __eq__(self, other: object) -> bool:
        """Return whether both look at the same store object."""
        return isinstance(other, StoreHandler) and other._store is self._store

    def __ne__(self, other: object) -> bool:
        """Return the opposite of equality; pyarrow asks for it by name."""
        return not self == other

    def __hash__(self) -> int:
        """Return a hash that fits equality."""
        return id(self._store)

    def get_type_name(self) -> str:
        """Return the name that pyarrow shows."""
        return "workbench"

    def normalize_path(self, path: str) -> str:
        """Return the path without outer slashes."""
        return path.strip("/")

    def get_file_info(self, paths: Sequence[str]) -> list[pyarrow.fs.FileInfo]:
        """Return type and size of each path; keys that are none are not found."""
        return [self._info(path) for path in paths]

    def get_file_info_selector(
        self, selector: pyarrow.fs.FileSelector
    ) -> list[pyarrow.fs.FileInfo]:
        """Return what lies below a folder."""
        base = self.normalize_path(selector.base_dir)
        prefix = f"{base}/" if base else ""
        found: dict[str, pyarrow.fs.FileInfo] = {}
        for key in self._store.list_after(prefix):
            parts = key[len(prefix) :].split("/")
            for depth in range(1, len(parts)):
                folder = prefix + "/".join(parts[:depth])
                if depth == 1 or selector.recursive:
                    found[folder] = pyarrow.fs.FileInfo(folder, pyarrow.fs.FileType.Directory)
            if len(parts) == 1 or selector.recursive:
                found[key] = self._info(key)
        if not found and not selector.allow_not_found:
            raise FileNotFoundError(f"nothing below {base!r} in {self._store.url}")
        return [found[path] for path in sorted(found)]

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Return a seekable file."""
        return self._store.open_native(self._key(path))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Return a readable file."""
        return self._store.open_native(self._key(path))

    def create_dir(self, path: str, recursive: bool) -> Never:  # noqa: FBT001  # pyarrow's name
        """Refuse."""
        del recursive
        self._refuse(path)

    def delete_dir(self, path: str) -> Never:
        """Refuse."""
        self._refuse(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> Never:  # noqa: FBT001, FBT002
        """Refuse."""
        del missing_dir_ok
        self._refuse(path)

    def delete_root_dir_contents(self) -> Never:
        """Refuse."""
        self._refuse("")

    def delete_file(self, path: str) -> Never:
        """Refuse."""
        self._refuse(path)

    def move(self, src: str, dest: str) -> Never:
        """Refuse."""
        del dest
        self._refuse(src)

    def copy_file(self, src: str, dest: str) -> Never:
        """Refuse."""
        del src
        self._refuse(dest)

    def open_output_stream(self, path: str, metadata: object) -> Never:
        """Refuse."""
        del metadata
        self._refuse(path)

    def open_append_stream(self, path: str, metadata: object) -> Never:
        """Refuse."""
        del metadata
        self._refuse(path)

    def _key(self, path: str) -> str:
        try:
            return check_object_key(self.normalize_path(path))
        except InvalidInput as error:
            raise FileNotFoundError(str(error)) from error

    def _info(self, path: str) -> pyarrow.fs.FileInfo:
        try:
            key = self._key(path)
        except FileNotFoundError:
            return pyarrow.fs.FileInfo(path, pyarrow.fs.FileType.NotFound)
        size = self._store.size_of(key)
        if size is not None:
            return pyarrow.fs.FileInfo(path, pyarrow.fs.FileType.File, size=size)
        is_folder = bool(self._store.list_after(f"{key}/"))
        kind = pyarrow.fs.FileType.Directory if is_folder else pyarrow.fs.FileType.NotFound
        return pyarrow.fs.FileInfo(path, kind)

    def _refuse(self, path: str) -> Never:
        raise Storage(
            f"cannot write {path!r} through the filesystem of {self._store.url}: it only reads",
            code="store_filesystem_read_only",
            hint="objects are created through put_if_absent",
        )


def readonly_filesystem(store: Readable) -> pyarrow.fs.FileSystem:
    """Return a pyarrow filesystem whose paths are the store's keys.

    Args:
        store: Stays referenced for as long as the filesystem lives.
    """
    return pyarrow.fs.PyFileSystem(StoreHandler(store))


def check_range(start: int, length: int) -> None:
    """Raise InvalidInput where a ranged read makes no sense."""
    if start < 0 or length < 0:
        raise InvalidInput(
            f"cannot read {length} bytes from offset {start}",
            code="object_range_invalid",
            hint="start and length are zero or more",
        )
