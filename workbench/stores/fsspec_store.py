"""An object store behind any filesystem of fsspec that can create an object at most once.

    gs://bucket/prefix                    az://container/prefix, abfs://container/prefix
    fsspec+<protocol>://bucket/prefix     any other, at the user's word

The one primitive is `pipe_file(mode="create")`. Whether it keeps its word is not known here: the
probe finds out when a catalog is created, and refuses what does not. What the probe cannot see is
refused by name: protocols whose files grow while they are written (local files, SFTP, SMB, FTP,
HDFS), as a killed writer would leave half an object that nobody may replace, and those that only
wrap another (caches, archives). Local files are `LocalStore`'s: fsspec asks whether a file
exists and then opens it, which had two winners in 34 of 300 races.

Packages of protocols (gcsfs, adlfs) are the user's to install, their credentials and options the
user's to set: fsspec reads FSSPEC_<PROTOCOL>_… and its configuration files.

What a failed request did is known only where the error says so. So a failed put is OutcomeUnknown
unless the key was taken, or the server refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import fsspec
import fsspec.core

from workbench.errors import (
    InvalidArgument,
    OutcomeUnknown,
    Storage,
    Unavailable,
    WorkbenchError,
)
from workbench.ports.object_store import ObjectEntry, check_object_key, is_object_key, object_absent
from workbench.stores.place import parse_place
from workbench.stores.readonly import check_range, readonly_filesystem
from workbench.stores.spool import open_spooled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa
    import pyarrow.fs

PROTOCOLS: Final = ("abfs", "az", "gs")
PREFIX: Final = "fsspec+"
_UNFIT: Final = frozenset(
    {"arrow_hdfs", "dask", "data", "file", "ftp", "git", "github", "hdfs", "http", "https"}
    | {"jupyter", "local", "sftp", "smb", "ssh", "webhdfs"}  # files that grow, or no writing
    | {"blockcache", "cached", "dir", "filecache", "reference", "simplecache", "tar", "zip"}
    | {"s3", "s3a", "obstore"}  # there is a store of their own
)
_TIME_KEYS: Final = ("LastModified", "last_modified", "updated", "mtime", "created")


@dataclass(frozen=True, slots=True)
class _Client:
    pid: int
    files: Any
    root: str


class FsspecStore:
    """Objects below a prefix of a bucket, through a filesystem of fsspec.

    Args:
        url: `gs://bucket/prefix`, `fsspec+protocol://bucket/prefix`.
        options: For the filesystem, over fsspec's configuration.

    Raises:
        InvalidArgument: `store_url_invalid`, `store_url_credentials`, `store_scheme_unfit`,
            `store_package_missing`, or `store_configuration`.
    """

    def __init__(self, url: str, *, options: Mapping[str, Any] | None = None) -> None:
        self._place = parse_place(url)
        self._protocol = self._place.scheme.removeprefix(PREFIX)
        self._options = dict(options or {})
        if self._protocol in _UNFIT:
            raise InvalidArgument(
                f"{self._protocol} cannot hold a catalog through fsspec ({self.url})",
                code="store_scheme_unfit",
                hint="use a path for local files, s3:// for S3, or an object store such as gs://",
            )
        self._inherited: list[_Client] = []
        self._client_of_process: _Client | None = None
        self._client()

    @property
    def url(self) -> str:
        """The bucket and prefix, as given."""
        return self._place.url

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Return a read-only pyarrow filesystem over the keys."""
        return readonly_filesystem(self)

    def get(self, key: str) -> bytes:
        """Return the whole object; NotFound where absent."""
        path = self._path(key)
        try:
            return bytes(self._files.cat_file(path))
        except Exception as error:
            raise self._error(error, "read", key) from error

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return the objects in the order asked for; in parallel where the filesystem can."""
        paths = [self._path(key) for key in keys]
        if not paths:
            return []
        try:
            found = self._files.cat(paths, on_error="return")
        except Exception as error:
            raise self._error(error, "read", keys[0]) from error
        for key, path in zip(keys, paths, strict=True):
            if isinstance(found.get(path), Exception):
                raise self._error(found[path], "read", key) from found[path]
        return [bytes(found[path]) for path in paths]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the object ends before."""
        check_range(start, length)
        path = self._path(key)
        try:
            data = bytes(self._files.cat_file(path, start=start, end=start + length))
        except Exception as error:
            # Filesystems differ in what they raise for a range behind the end, or an empty one.
            if not isinstance(error, FileNotFoundError):
                size = self.size_of(key)
                if size is not None and (start >= size or length == 0):
                    return b""
            raise self._error(error, "read", key) from error
        return data

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create the object durably; False where the key exists.

        A filesystem may repeat a put by itself, so False can be the echo of one's own success.

        Raises:
            OutcomeUnknown: The write may have landed.
            Storage: The store refused.
        """
        path = self._path(key)
        try:
            self._files.pipe_file(path, bytes(data), mode="create")
        except Exception as error:
            if isinstance(error, FileExistsError) or 412 in _statuses(error):
                return False
            raise self._error(error, "write", key, wrote=True) from error
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite the object."""
        path = self._path(key)
        try:
            self._files.pipe_file(path, bytes(data), mode="overwrite")
        except Exception as error:
            raise self._error(error, "write", key, wrote=True) from error

    def list_after(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys that start with `prefix` and are greater than `after`, ascending."""
        return [key for key, _ in self._found(prefix, after)]

    def list_entries(self, prefix: str, after: str = "") -> list[ObjectEntry]:
        """Return what `list_after` names, each with its size and time of last change."""
        return [
            ObjectEntry(key, int(info["size"]), self._time(key, info))
            for key, info in self._found(prefix, after)
        ]

    def delete(self, key: str) -> None:
        """Remove the object; absent keys are fine."""
        path = self._path(key)
        try:
            self._files.rm_file(path)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._error(error, "delete", key) from error

    def size_of(self, key: str) -> int | None:
        """Return the object's size in bytes, None where there is no such object."""
        path = self._path(key)
        try:
            info = self._files.info(path)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._error(error, "read", key) from error
        return int(info["size"]) if info["type"] == "file" else None

    def open_native(self, key: str) -> pa.NativeFile:
        """Return a copy of the object as a pyarrow file; see `spool`."""
        return open_spooled(self, key)

    def _found(self, prefix: str, after: str) -> list[tuple[str, dict[str, Any]]]:
        folder = prefix.rpartition("/")[0]
        if folder and not is_object_key(folder):
            return []
        client = self._client()
        top = f"{client.root}/{folder}".rstrip("/")
        try:
            found = client.files.find(top, detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._error(error, "list", prefix) from error
        keys = {path[len(client.root) + 1 :]: info for path, info in found.items()}
        return sorted(
            (key, info)
            for key, info in keys.items()
            if key.startswith(prefix) and key > after and is_object_key(key)
        )

    def _time(self, key: str, info: dict[str, Any]) -> datetime:
        for name in _TIME_KEYS:
            value = info.get(name)
            if isinstance(value, str):
                value = datetime.fromisoformat(value)
            elif isinstance(value, int | float):
                value = datetime.fromtimestamp(value, UTC)
            if isinstance(value, datetime):
                return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        raise Storage(
            f"{self.url} does not tell when {key!r} was written",
            code="store_without_times",
            hint="garbage cannot be told from fresh uploads there; use another store",
        )

    @property
    def _files(self) -> Any:  # noqa: ANN401  # fsspec has no types
        return self._client().files

    def _path(self, key: str) -> str:
        return f"{self._client().root}/{check_object_key(key)}"

    def _client(self) -> _Client:
        """Return this process's filesystem; a forked process makes its own."""
        client = self._client_of_process
        if client is None or client.pid != os.getpid():
            if client is not None:
                self._inherited.append(client)  # its sockets are the parent's to close
            client = self._client_of_process = self._make()
        return client

    def _make(self) -> _Client:
        place = self._place
        where = f"{self._protocol}://{place.bucket}/{place.prefix}".rstrip("/")
        options = {"skip_instance_cache": True, "use_listings_cache": False} | self._options
        try:
            files, root = fsspec.core.url_to_fs(where, **options)
        except ImportError as error:
            raise InvalidArgument(
                f"{self.url} needs a package that is not installed: {error}",
                code="store_package_missing",
                hint=f"install fsspec's package for {self._protocol}, "
                "as gcsfs for gs and adlfs for az",
            ) from error
        except (TypeError, ValueError, KeyError) as error:
            raise InvalidArgument(
                f"fsspec cannot open {self.url}: {error}",
                code="store_configuration",
                hint=f"set FSSPEC_{self._protocol.upper()}_… or fsspec's configuration file",
            ) from error
        return _Client(os.getpid(), files, root.rstrip("/"))

    def _error(
        self, error: Exception, verb: str, key: str, *, wrote: bool = False
    ) -> WorkbenchError:
        if isinstance(error, FileNotFoundError) and not wrote:
            return object_absent(key, self.url)
        what = f"cannot {verb} {key!r} in {self.url}: {str(error) or type(error).__name__}"
        if isinstance(error, PermissionError) or {401, 403} & _statuses(error):
            hint = f"check the credentials that fsspec uses for {self._protocol}"
            return Storage(what, code="store_permission", hint=hint)
        if isinstance(error, FileNotFoundError):
            hint = "create the bucket, or check its name"
            return Storage(what, code="store_absent", hint=hint)
        if isinstance(error, TypeError | NotImplementedError):
            hint = "this filesystem of fsspec lacks what a catalog needs"
            code = "store_not_conditional" if wrote else "store_failed"
            return Storage(what, code=code, hint=hint)
        if wrote:
            return OutcomeUnknown(
                what,
                code="store_outcome_unknown",
                hint="the write may have landed: read it back before trying again",
            )
        return Unavailable(what, code="store_unavailable", hint="check the network, then try again")


def _statuses(error: BaseException) -> set[int]:
    """Return the HTTP statuses that an error and its causes carry, by whatever name."""
    found: set[int] = set()
    for cause in _causes(error):
        for name in ("status", "status_code", "code"):
            value = getattr(cause, name, None)
            if isinstance(value, int | str) and str(value).isdecimal():
                found.add(int(value))
    return found


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(16):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__
