"""An object store through obstore, a second and faster way to S3, Google Cloud and Azure.

    obstore+s3://bucket/prefix   obstore+gs://bucket/prefix   obstore+az://container/prefix

Only native `put(mode="create")` commits: obstore's adapter for fsspec ignores the mode and
overwrites. obstore repeats requests by itself, so False can be the echo of one's own success, as
with the other remote stores.

obstore reads the environment itself: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
AWS_REGION, AWS_ENDPOINT_URL, GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME …; it knows
neither AWS_PROFILE nor fsspec's configuration, and `s3://` is there for those.

It is an extra: where it is not installed, opening says how to install it.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

from fsspec.asyn import get_loop, sync

from workbench.errors import (
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    Storage,
    Unavailable,
    WorkbenchError,
)
from workbench.ports.object_store import ObjectEntry, check_object_key, is_object_key, object_absent
from workbench.stores.place import parse_place
from workbench.stores.readonly import check_range, readonly_filesystem
from workbench.stores.s3_options import (
    CONNECT_TIMEOUT_SECONDS,
    IN_FLIGHT_MAX,
    READ_TIMEOUT_SECONDS,
)
from workbench.stores.spool import open_spooled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    import pyarrow.fs

    from workbench.stores.place import Place

RETRIES_MAX: Final = 2
RETRY_SECONDS_MAX: Final = 30
PROTOCOLS: Final = ("az", "gs", "s3")
PREFIX: Final = "obstore+"
# obstore has one error for whatever fails; only its text tells that no connection was made.
_UNMADE: Final = ("error trying to connect", "dns error", "Connection refused", "tcp connect error")


class ObstoreStore:
    """Objects below a prefix of a bucket, through obstore.

    Args:
        url: `obstore+s3://bucket/prefix`, or gs or az.
        options: Configuration of obstore's store, over the environment.

    Raises:
        InvalidArgument: `store_url_invalid`, `store_url_credentials`, `store_package_missing`, or
            `store_configuration`.
    """

    def __init__(self, url: str, *, options: Mapping[str, Any] | None = None) -> None:
        self._place = parse_place(url)
        try:
            import obstore  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise InvalidArgument(
                f"{self.url} needs obstore, which is not installed",
                code="store_package_missing",
                hint="pip install 'hotspot-workbench[obstore]', or write the URL without obstore+",
            ) from error
        self._obstore = obstore
        self._pid = os.getpid()
        self._store: Any = _make(self._place, dict(options or {}))

    @property
    def url(self) -> str:
        """The bucket and prefix, as given."""
        return self._place.url

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Return a read-only pyarrow filesystem over the keys."""
        return readonly_filesystem(self)

    def get(self, key: str) -> bytes:
        """Return the whole object; NotFound where absent."""
        check_object_key(key)
        try:
            return bytes(self._obstore.get(self._ours(), key).bytes())
        except Exception as error:
            raise self._error(error, "read", key) from error

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return the objects in the order asked for, many requests at a time."""
        for key in keys:
            check_object_key(key)
        store = self._ours()
        places = asyncio.Semaphore(IN_FLIGHT_MAX)

        async def one(key: str) -> bytes:
            async with places:
                try:
                    answer = await self._obstore.get_async(store, key)
                    return bytes(await answer.bytes_async())
                except Exception as error:
                    raise self._error(error, "read", key) from error

        async def wave() -> list[bytes]:
            tasks = [asyncio.ensure_future(one(key)) for key in keys]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        found: list[bytes] = sync(get_loop(), wave)
        return found

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the object ends before."""
        check_range(start, length)
        check_object_key(key)
        try:
            if length:
                return bytes(self._obstore.get_range(self._ours(), key, start=start, length=length))
        except FileNotFoundError as error:
            raise self._error(error, "read", key) from error
        except Exception as error:
            size = self.size_of(key)  # a range behind the end is an error of no particular kind
            if size is None or start < size:
                raise self._error(error, "read", key) from error
            return b""
        if self.size_of(key) is None:
            raise self._absent(key)
        return b""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create the object durably by one request; False where the key exists.

        Raises:
            OutcomeUnknown: The write may have landed.
            Storage: The store refused.
        """
        check_object_key(key)
        try:
            self._obstore.put(self._ours(), key, bytes(data), mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError as error:
            # A 409 comes as the same error; it says only that another write was under way.
            if "409" in str(error) and self.size_of(key) is None:
                raise self._unavailable(error, "write", key) from error
            return False
        except Exception as error:
            raise self._error(error, "write", key, wrote=True) from error
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite the object, whole or not at all."""
        check_object_key(key)
        try:
            self._obstore.put(self._ours(), key, bytes(data), mode="overwrite", use_multipart=False)
        except Exception as error:
            raise self._error(error, "write", key, wrote=True) from error

    def list_after(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys that start with `prefix` and are greater than `after`, ascending."""
        return [entry.key for entry in self.list_entries(prefix, after)]

    def list_entries(self, prefix: str, after: str = "") -> list[ObjectEntry]:
        """Return what `list_after` names, each with its size and time of last change."""
        folder = prefix.rpartition("/")[0]
        if folder and not is_object_key(folder):
            return []
        entries = []
        try:
            # Its prefixes are whole folders.
            pages = self._obstore.list(
                self._ours(), prefix=folder or None, offset=after or None, chunk_size=1000
            )
            for page in pages:
                for item in page:
                    key = item["path"]
                    if key.startswith(prefix) and key > after and is_object_key(key):
                        modified = item["last_modified"].astimezone(UTC)
                        entries.append(ObjectEntry(key, item["size"], modified))
        except Exception as error:
            raise self._error(error, "list", prefix, absent=False) from error
        return sorted(entries, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        """Remove the object; absent keys are fine."""
        check_object_key(key)
        try:
            self._obstore.delete(self._ours(), key)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._error(error, "delete", key) from error
        except Exception as error:
            raise self._error(error, "delete", key) from error

    def size_of(self, key: str) -> int | None:
        """Return the object's size in bytes, None where there is no such object."""
        check_object_key(key)
        try:
            return int(self._obstore.head(self._ours(), key)["size"])
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._error(error, "read", key) from error

    def open_native(self, key: str) -> pa.NativeFile:
        """Return a copy of the object as a pyarrow file; see `spool`."""
        return open_spooled(self, key)

    def _ours(self) -> Any:  # noqa: ANN401  # one of obstore's classes
        """Return the store, in the process that made it: its threads do not survive a fork."""
        if self._pid != os.getpid():
            raise Storage(
                f"{self.url} was opened before this process was forked",
                code="store_forked",
                hint="open it in this process, or write the URL without obstore+",
            )
        return self._store

    def _error(
        self, error: Exception, verb: str, key: str, *, wrote: bool = False, absent: bool = True
    ) -> WorkbenchError:
        if isinstance(error, Storage):
            return error
        said = str(error)
        what = f"cannot {verb} {key!r} in {self.url}: {(said or repr(error)).splitlines()[0]}"
        if isinstance(error, FileNotFoundError):
            if not (wrote or not absent or "NoSuchBucket" in said):
                return self._absent(key)
            hint = "create the bucket, or check its name and AWS_ENDPOINT_URL"
            return Storage(what, code="store_absent", hint=hint)
        refusal = self._refusal(error, wrote=wrote)
        if refusal is not None:
            return Storage(what, code=refusal[0], hint=refusal[1])
        if wrote and not any(text in said for text in _UNMADE):
            return OutcomeUnknown(
                what,
                code="store_outcome_unknown",
                hint="the write may have landed: read it back before trying again",
            )
        return self._unavailable(error, verb, key)

    def _refusal(self, error: Exception, *, wrote: bool) -> tuple[str, str] | None:
        """Return code and hint where the store refused, None where it only failed."""
        exceptions = self._obstore.exceptions
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            hint = "check AWS_ACCESS_KEY_ID and its like; obstore knows no AWS_PROFILE"
            return "store_permission", hint
        if isinstance(error, exceptions.NotSupportedError | NotImplementedError):
            return "store_not_conditional" if wrote else "store_failed", "use another store"
        return None

    def _absent(self, key: str) -> NotFound:
        return object_absent(key, self.url)

    def _unavailable(self, error: Exception, verb: str, key: str) -> WorkbenchError:
        said = (str(error) or type(error).__name__).splitlines()[0]
        return Unavailable(
            f"cannot {verb} {key!r} in {self.url}: {said}",
            code="store_unavailable",
            hint="check the network and AWS_ENDPOINT_URL, then try again",
        )


def _make(place: Place, options: dict[str, Any]) -> Any:  # noqa: ANN401  # one of obstore's classes
    from obstore import store  # noqa: PLC0415  # an extra

    protocol = place.scheme.removeprefix(PREFIX)
    classes = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}
    client: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_SECONDS),
        "timeout": timedelta(seconds=READ_TIMEOUT_SECONDS),
    }
    if protocol == "s3":
        if os.environ.get("AWS_PROFILE") and not os.environ.get("AWS_ACCESS_KEY_ID"):
            raise InvalidArgument(
                f"obstore cannot use AWS_PROFILE ({place.url})",
                code="store_configuration",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write s3://",
            )
        named = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        endpoints = [os.environ[name] for name in named if os.environ.get(name)]
        endpoint = options.get("endpoint") or (endpoints[0] if endpoints else None)
        if endpoint:
            options["endpoint"] = endpoint
            client["allow_http"] = endpoint.startswith("http://")
    client |= options.pop("client_options", {})
    retry = {"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=RETRY_SECONDS_MAX)}
    try:
        return classes[protocol](
            place.bucket,
            prefix=place.prefix.rstrip("/") or None,
            client_options=client,
            retry_config=options.pop("retry_config", retry),
            **options,
        )
    except Exception as error:
        raise InvalidArgument(
            f"obstore cannot open {place.url}: {str(error).splitlines()[0]}",
            code="store_configuration",
            hint="check the AWS_…, GOOGLE_… or AZURE_… variables",
        ) from error
