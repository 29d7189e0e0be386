"""An object store in a folder of a local disk.

    put_if_absent      <root>/~tmp/<unique>  ──link──>  <root>/<key>
                       write, fsync                     fsync of the folder

`os.link` is the put-if-absent: it fails where the name exists, and the name never shows half an
object. Opening with O_EXCL would show one; exists-then-open has two winners in a race.

Rules:

- The folder is created by the first put, so a job that fails before leaves nothing behind.
- Temporary files live under `~tmp`; `~` is no character of keys, so listing never shows them.
  One that a killed process left does no harm; `remove_temporary` removes the old ones.
- Every key is checked as a key and then resolved: what a symbolic link leads out of the root is
  refused, for reading and for writing.
- A put that fails before the link changed nothing (Storage). One that fails after it may be lost
  by a power cut (OutcomeUnknown): look before trying again.

Not here: network disks that have no hard links (refused with a hint), quotas, deletion of empty
folders, and any defence against another user of this machine who swaps folders for links between
the check and the use.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow.fs

from workbench.errors import InvalidArgument, NotFound, OutcomeUnknown, Storage
from workbench.ports.object_store import ObjectEntry, check_object_key, is_object_key, object_absent
from workbench.stores.readonly import check_range, readonly_filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

TEMPORARY: Final = "~tmp"

# errno -> code and hint. Others become `store_failed`.
_CAUSES: Final[dict[int, tuple[str, str]]] = {
    errno.ENOSPC: ("store_full", "free some space, then run the same command again"),
    errno.EDQUOT: ("store_full", "the disk quota is used up; free some space"),
    errno.EFBIG: ("store_full", "the file system or a limit refuses a file of this size"),
    errno.EACCES: ("store_permission", "give this user read and write access to the folder"),
    errno.EPERM: ("store_permission", "give this user read and write access to the folder"),
    errno.EROFS: ("store_read_only", "the file system is mounted read-only; use another folder"),
    errno.ENOTDIR: ("store_not_a_directory", "a part of the path is a file; use another folder"),
    errno.EISDIR: ("store_key_is_folder", "on a disk a key cannot also be a folder of keys"),
    errno.ENAMETOOLONG: ("store_name_too_long", "use a shorter path"),
    errno.ELOOP: ("store_path_outside", "a symbolic link leads back to itself"),
}
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.EMLINK, errno.ENOSYS}


class LocalStore:
    """Objects as files below one folder.

    Args:
        root: The folder; `~` is expanded, symbolic links on the way to it are followed once.
        create: Whether the first put may create the folder.

    Raises:
        NotFound: `store_absent`, where the folder is absent and `create` is False.
        Storage: `store_not_a_directory`, where it is a file.
        InvalidArgument: `store_path_invalid`, where no folder can have this name.
    """

    def __init__(self, root: Path | str, *, create: bool) -> None:
        if not str(root) or "\0" in str(root):
            raise InvalidArgument(
                f"{str(root)!r} is not a folder name",
                code="store_path_invalid",
                hint="name a folder, as ./catalog",
            )
        self._root = os.path.realpath(os.path.expanduser(root))  # noqa: PTH111  # str throughout
        self._serial = itertools.count()
        with self._errors("open", ""):
            try:
                mode = os.stat(self._root)  # noqa: PTH116
            except FileNotFoundError:
                if not create:
                    raise NotFound(
                        f"no folder {self._root!r}",
                        code="store_absent",
                        hint="name the folder of an existing catalog, or collect into this one",
                    ) from None
                return
        if not stat.S_ISDIR(mode.st_mode):
            self._fail(NotADirectoryError(errno.ENOTDIR, "not a directory"), "open", "")

    @property
    def url(self) -> str:
        """The folder as a `file://` URL."""
        return Path(self._root).as_uri()

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Return a read-only pyarrow filesystem over the keys."""
        return readonly_filesystem(self)

    def get(self, key: str) -> bytes:
        """Return the whole object; NotFound where absent."""
        with self._errors("read", key), open(self._path(key), "rb") as file:  # noqa: PTH123
            return file.read()

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return the objects in the order asked for, one after the other."""
        return [self.get(key) for key in keys]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the object ends before."""
        check_range(start, length)
        with self._errors("read", key), open(self._path(key), "rb") as file:  # noqa: PTH123
            file.seek(start)
            return file.read(length)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create the object durably; False, and nothing changed, where the key exists.

        Raises:
            Storage: Nothing was changed.
            OutcomeUnknown: The object is there, but may not survive a power cut.
        """
        path = self._path(key)
        with self._errors("write", key, absent=False):
            self._make_folder(os.path.dirname(path))  # noqa: PTH120
            if os.path.lexists(path):
                if os.path.isdir(path):  # noqa: PTH112
                    raise IsADirectoryError(errno.EISDIR, "other keys lie below it", path)
                return False  # saves the losers of a race a file and an fsync
            with self._temporary(data) as temporary:
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    return False
                except OSError as error:
                    if error.errno in _NO_LINKS:
                        raise _no_links(self.url) from error
                    raise
        try:
            _sync_folder(os.path.dirname(path))  # noqa: PTH120
        except OSError as error:
            raise OutcomeUnknown(
                f"wrote {key!r} in {self.url}, but the disk did not confirm it: {error.strerror}",
                code="store_outcome_unknown",
                hint="read it back before trying again, and check the disk",
            ) from error
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite the object, whole or not at all; a power cut may undo it.

        Raises:
            Storage: Nothing was changed.
        """
        path = self._path(key)
        with self._errors("write", key, absent=False):
            self._make_folder(os.path.dirname(path))  # noqa: PTH120
            with self._temporary(data) as temporary:
                os.replace(temporary, path)  # noqa: PTH105

    def list_after(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys that start with `prefix` and are greater than `after`, ascending.

        What cannot be a key (temporary files among it) is not shown.
        """
        folder = prefix.rpartition("/")[0]
        if folder and not is_object_key(folder):
            return []
        with self._errors("list", prefix):
            top = os.path.join(self._root, folder)  # noqa: PTH118
            self._check_inside(top)
            keys = self._walk(top, f"{folder}/" if folder else "")
            return sorted(key for key in keys if key.startswith(prefix) and key > after)

    def list_entries(self, prefix: str, after: str = "") -> list[ObjectEntry]:
        """Return what `list_after` names, each with its size and time of last change."""
        entries = []
        for key in self.list_after(prefix, after):
            # One that was deleted since the listing is no longer an entry of it.
            with contextlib.suppress(NotFound), self._errors("list", key):
                status = os.stat(self._path(key))  # noqa: PTH116
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                entries.append(ObjectEntry(key, status.st_size, modified))
        return entries

    def delete(self, key: str) -> None:
        """Remove the object; absent keys are fine."""
        with contextlib.suppress(NotFound), self._errors("delete", key):
            os.unlink(self._path(key))  # noqa: PTH108

    def remove_temporary(self, before: datetime) -> int:
        """Remove what killed writers left under `~tmp` before that moment; return how many."""
        removed = 0
        folder = os.path.join(self._root, TEMPORARY)  # noqa: PTH118
        self._check_inside(folder)
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                # One that its writer finished and removed meanwhile is gone: fine.
                with contextlib.suppress(NotFound), self._errors("delete", TEMPORARY):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_mtime < before.timestamp():
                        os.unlink(entry.path)  # noqa: PTH108
                        removed += 1
        return removed

    def size_of(self, key: str) -> int | None:
        """Return the object's size in bytes, None where there is no such object."""
        path = self._path(key)
        with contextlib.suppress(NotFound), self._errors("read", key):
            return os.stat(path).st_size if os.path.isfile(path) else None  # noqa: PTH113, PTH116
        return None

    def open_native(self, key: str) -> pa.NativeFile:
        """Return the object as a pyarrow file that reads without Python."""
        path = self._path(key)
        if os.path.isdir(path):  # noqa: PTH112
            raise FileNotFoundError(f"no object {key!r} in {self.url}")
        return pyarrow.fs.LocalFileSystem().open_input_file(path)

    def _path(self, key: str) -> str:
        path = os.path.join(self._root, check_object_key(key))  # noqa: PTH118
        self._check_inside(path)
        return path

    def _check_inside(self, path: str) -> None:
        real = os.path.realpath(path)
        if real != self._root and not real.startswith(self._root.rstrip(os.sep) + os.sep):
            raise Storage(
                f"{path!r} leads out of {self._root!r}",
                code="store_path_outside",
                hint="remove the symbolic link",
            )

    def _walk(self, folder: str, prefix: str) -> Iterator[str]:
        try:
            entries = os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                key = f"{prefix}{entry.name}"
                if not is_object_key(key):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(entry.path, f"{key}/")
                else:
                    yield key

    @contextlib.contextmanager
    def _temporary(self, data: bytes) -> Iterator[str]:
        """Yield the path of a durable file with `data`; it is gone afterwards."""
        folder = os.path.join(self._root, TEMPORARY)  # noqa: PTH118
        self._check_inside(folder)
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        name = f"{os.getpid()}-{next(self._serial)}-{secrets.token_hex(8)}"
        path = os.path.join(folder, name)  # noqa: PTH118
        # Not tempfile: its mode 0600 would hide the objects from a group that shares the folder.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            yield path
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108

    def _make_folder(self, folder: str) -> None:
        """Create a folder and its parents durably."""
        missing = []
        while not os.path.isdir(folder):  # noqa: PTH112
            missing.append(folder)
            folder = os.path.dirname(folder)  # noqa: PTH120
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another writer was first: fine
                os.mkdir(path)  # noqa: PTH102
            _sync_folder(os.path.dirname(path))  # noqa: PTH120

    @contextlib.contextmanager
    def _errors(self, verb: str, key: str, *, absent: bool = True) -> Iterator[None]:
        """Turn the disk's errors into ours; `absent` tells whether a missing file is NotFound."""
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            if not absent or not key:
                self._fail(error, verb, key)
            raise object_absent(key, self.url) from error
        except OSError as error:
            self._fail(error, verb, key)

    def _fail(self, error: OSError, verb: str, key: str) -> None:
        code, hint = _CAUSES.get(error.errno or 0, ("store_failed", "check the disk"))
        what = f"{key!r} in {self.url}" if key else repr(self._root)
        reason = error.strerror or str(error)
        raise Storage(f"cannot {verb} {what}: {reason}", code=code, hint=hint) from error


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder or os.curdir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_links(url: str) -> Storage:
    return Storage(
        f"the file system of {url} has no hard links, so nothing can be created at most once",
        code="store_no_hard_links",
        hint="put the catalog on a local disk",
    )
