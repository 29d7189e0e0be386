"""An object store in a bucket of S3, or of a server that speaks S3, through s3fs.

    s3://bucket/prefix        <prefix>/<key> in the bucket

    caller's thread ──sync──> fsspec's event loop ──> aiobotocore ──> server
                              (one loop per process)

Rules:

- One request per call: `get` is one GET, `put_if_absent` one PUT with If-None-Match, a listing
  one request per 1,000 keys. `get_many` keeps at most `IN_FLIGHT_MAX` of them under way.
- Nothing is ever written in several parts.
- Neither botocore nor s3fs repeats a request. A read is repeated here, so is an overwrite; a
  conditional put only where the server said that it did nothing (429, SlowDown, 409) or was not
  reached. What may have landed is OutcomeUnknown (`s3_errors`).
- aiohttp sends a PUT once more where the connection breaks before the answer. So False can be
  the echo of one's own success; whoever must know compares what is stored, as the catalog does
  by its transaction uuid. True is always true.
- A process that was forked makes its own client; many threads may use one store.

Not here: versions, multipart uploads, object locks, and any call at construction: a bucket that
is absent or forbidden shows at the first request.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import botocore.httpsession  # type: ignore[import-untyped]
import botocore.utils  # type: ignore[import-untyped]
import fsspec.config
import pyarrow.fs
import s3fs
from fsspec.asyn import sync

from workbench.errors import InvalidArgument
from workbench.ports.object_store import ObjectEntry, check_object_key, is_object_key, object_absent
from workbench.stores.place import parse_place
from workbench.stores.readonly import check_range, readonly_filesystem
from workbench.stores.s3_errors import Failed, Kind, as_error, failed
from workbench.stores.s3_options import IN_FLIGHT_MAX, S3Options, s3_options
from workbench.stores.spool import open_spooled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    import pyarrow as pa

PAUSE_SECONDS: Final = 0.1
PAUSE_SECONDS_MAX: Final = 2.0

_T = TypeVar("_T")
# Which failures are worth the same request again.
_READ: Final = frozenset({Kind.BUSY, Kind.LOST})
_CREATE: Final = frozenset({Kind.BUSY, Kind.CONTENDED})
_OVERWRITE: Final = frozenset({Kind.BUSY, Kind.LOST, Kind.CONTENDED})


@dataclass(frozen=True, slots=True)
class _Client:
    """A filesystem of s3fs, and the process that it belongs to."""

    pid: int
    files: Any
    options: S3Options


class S3Store:
    """Objects below a prefix of a bucket.

    Args:
        url: `s3://bucket/prefix`.
        options: Over fsspec's configuration for s3, as `{"endpoint_url": …, "key": …}`.

    Raises:
        InvalidArgument: `store_url_invalid`, `store_url_credentials`, or `store_configuration`.
    """

    def __init__(self, url: str, *, options: Mapping[str, Any] | None = None) -> None:
        self._place = parse_place(url)
        self._options = dict(options or {})
        self._inherited: list[_Client] = []
        self._client_of_process: _Client | None = None
        self._client()

    @property
    def url(self) -> str:
        """The bucket and prefix as `s3://bucket/prefix`."""
        return self._place.url

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        client, self._client_of_process = self._client_of_process, None
        if client is not None and client.pid == os.getpid() and client.files._s3 is not None:  # noqa: SLF001  # has no public name
            files = client.files
            files.close_session(files.loop, files._s3creator)  # noqa: SLF001  # as its finalizer

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Return a read-only pyarrow filesystem over the keys."""
        return readonly_filesystem(self)

    def get(self, key: str) -> bytes:
        """Return the whole object by one request; NotFound where absent."""
        check_object_key(key)
        return self._run("read", key, lambda client: self._fetch(client, key))

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return the objects in the order asked for, many requests at a time."""
        for key in keys:
            check_object_key(key)
        return self._run("read", f"{len(keys)} objects", lambda client: self._wave(client, keys))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the object ends before."""
        check_range(start, length)
        check_object_key(key)
        if length == 0:
            self._require(key)
            return b""
        return self._run("read", key, lambda client: self._fetch_range(client, key, start, length))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create the object durably by one request; False where the key exists.

        False may be the echo of one's own success: see the module.

        Raises:
            Unavailable: `store_unavailable`: nothing was changed.
            OutcomeUnknown: The write may have landed, or may land yet.
            Storage: The server refused; nothing was changed.
        """
        check_object_key(key)
        body = bytes(data)
        return self._run("write", key, lambda client: self._create(client, key, body), wrote=True)

    def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite the object, whole or not at all."""
        check_object_key(key)
        body = bytes(data)

        async def put(client: _Client) -> None:
            await self._ask(client, _OVERWRITE, "put_object", Key=self._path(key), Body=body)

        self._run("write", key, put, wrote=True)

    def list_after(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys that start with `prefix` and are greater than `after`, ascending."""
        return [entry.key for entry in self.list_entries(prefix, after)]

    def list_entries(self, prefix: str, after: str = "") -> list[ObjectEntry]:
        """Return what `list_after` names, each with its size and time of last change."""
        folder = prefix.rpartition("/")[0]
        if folder and not is_object_key(folder):
            return []
        return self._run("list", prefix, lambda client: self._pages(client, prefix, after))

    def delete(self, key: str) -> None:
        """Remove the object; absent keys are fine."""
        check_object_key(key)

        async def remove(client: _Client) -> None:
            try:
                await self._ask(client, _OVERWRITE, "delete_object", Key=self._path(key))
            except Failed as failure:
                if failure.kind is not Kind.ABSENT:
                    raise

        self._run("delete", key, remove)  # may be repeated, so its outcome need not be known

    def size_of(self, key: str) -> int | None:
        """Return the object's size in bytes, None where there is no such object."""
        check_object_key(key)
        return self._run("read", key, lambda client: self._size(client, key))

    def open_native(self, key: str) -> pa.NativeFile:
        """Return the object as a pyarrow file that reads ranges without Python.

        pyarrow's own S3 client is used where it can be told all that ours was told: its threads
        must not call into Python (see `spool`). It gets the credentials of this moment. With a
        proxy, request options, or credentials that it cannot get, the object is copied first.
        """
        check_object_key(key)
        files = self._native_files()
        if files is None:
            return open_spooled(self, key)
        return files.open_input_file(f"{self._place.bucket}/{self._path(key)}")

    async def _fetch(self, client: _Client, key: str) -> bytes:
        data, _ = await _again(client, _READ, lambda: self._read(client, key))
        return data

    async def _fetch_range(self, client: _Client, key: str, start: int, length: int) -> bytes:
        async def once() -> bytes:
            data, answer = await self._read(
                client, key, Range=f"bytes={start}-{start + length - 1}"
            )
            said = answer.get("ContentRange")
            if said is None:  # a server may answer with the whole object
                return data[start : start + length]
            if said.split("/")[0] != f"bytes {start}-{start + len(data) - 1}" or len(data) > length:
                raise Failed(
                    Kind.LOST,
                    f"asked for {length} bytes from {start}, got {len(data)} said to be {said!r}",
                )
            return data

        try:
            return await _again(client, _READ, once)
        except Failed as failure:
            if failure.kind is Kind.RANGE:
                return b""
            raise

    async def _read(
        self, client: _Client, key: str, **arguments: object
    ) -> tuple[bytes, dict[str, Any]]:
        answer = await self._call(client, "get_object", Key=self._path(key), **arguments)
        async with answer["Body"] as body:
            return await body.read(), answer

    async def _wave(self, client: _Client, keys: Sequence[str]) -> list[bytes]:
        places = asyncio.Semaphore(IN_FLIGHT_MAX)

        async def one(key: str) -> bytes:
            async with places:
                try:
                    return await self._fetch(client, key)
                except Failed as failure:
                    raise self._error(client, failure, "read", key, wrote=False) from failure

        tasks = [asyncio.ensure_future(one(key)) for key in keys]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _create(self, client: _Client, key: str, data: bytes) -> bool:
        try:
            await self._ask(
                client, _CREATE, "put_object", Key=self._path(key), Body=data, IfNoneMatch="*"
            )
        except Failed as failure:
            if failure.kind is Kind.TAKEN:
                return False
            # 409 says that this put did nothing; whether the other one made the key, we ask.
            if failure.kind is Kind.CONTENDED and await self._size(client, key) is not None:
                return False
            raise
        return True

    async def _size(self, client: _Client, key: str) -> int | None:
        try:
            answer = await self._ask(client, _READ, "head_object", Key=self._path(key))
        except Failed as failure:
            if failure.kind is Kind.ABSENT:
                return None
            raise
        return int(answer["ContentLength"])

    async def _pages(self, client: _Client, prefix: str, after: str) -> list[ObjectEntry]:
        root = self._place.prefix
        arguments: dict[str, Any] = {"Prefix": root + prefix}
        if after:
            arguments["StartAfter"] = root + after
        entries: dict[str, ObjectEntry] = {}
        while True:
            page = await self._ask(client, _READ, "list_objects_v2", **arguments)
            for item in page.get("Contents", ()):
                key = item["Key"][len(root) :]
                if item["Key"].startswith(root + prefix) and key > after and is_object_key(key):
                    modified = item["LastModified"].astimezone(UTC)
                    entries[key] = ObjectEntry(key, int(item["Size"]), modified)
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated"):
                return [entries[key] for key in sorted(entries)]
            if not token or token == arguments.get("ContinuationToken"):
                raise Failed(
                    Kind.REFUSED,
                    "the server says that the listing goes on, but not where",
                    "store_listing_broken",
                    "use a server that lists as S3 does",
                )
            arguments["ContinuationToken"] = token

    async def _ask(
        self, client: _Client, repeated: frozenset[Kind], method: str, **arguments: object
    ) -> dict[str, Any]:
        try:
            return await _again(client, repeated, lambda: self._call(client, method, **arguments))
        except Failed as failure:
            if failure.kind is Kind.ABSENT and method in {"put_object", "list_objects_v2"}:
                raise _no_bucket(failure) from failure  # these find no key absent
            raise

    async def _call(self, client: _Client, method: str, **arguments: object) -> dict[str, Any]:
        # The coroutine behind `call_s3`; fsspec's name for such begins with an underscore.
        call = client.files._call_s3  # noqa: SLF001
        answer: dict[str, Any] = await call(method, Bucket=self._place.bucket, **arguments)
        return answer

    def _run(
        self,
        verb: str,
        key: str,
        work: Callable[[_Client], Coroutine[Any, Any, _T]],
        *,
        wrote: bool = False,
    ) -> _T:
        client = self._client()

        async def guarded() -> _T:
            try:
                await _connect(client)
                return await work(client)
            except Failed as failure:
                raise self._error(client, failure, verb, key, wrote=wrote) from failure

        result: _T = sync(client.files.loop, guarded)
        return result

    def _error(
        self, client: _Client, failure: Failed, verb: str, key: str, *, wrote: bool
    ) -> Exception:
        what = f"cannot {verb} {key!r} in {self.url}"
        return as_error(failure, what, endpoint=_endpoint(client), wrote=wrote)

    def _client(self) -> _Client:
        """Return this process's client.

        Two threads may each make one at first; the one that is not kept is closed with its use.
        """
        client = self._client_of_process
        if client is None or client.pid != os.getpid():
            if client is not None:
                # A parent's: its sockets are not ours to close, so it must not be finalized.
                self._inherited.append(client)
            client = self._client_of_process = self._make()
        return client

    def _make(self) -> _Client:
        configured: dict[str, Any] = {}
        for name in ("s3", "s3a"):
            configured |= fsspec.config.conf.get(name, {})
        options = s3_options(configured | self._options, os.environ)
        try:
            files = s3fs.S3FileSystem(**options.arguments)
        except (TypeError, ValueError, KeyError) as error:
            raise _bad_options(error) from error
        files.retries = 1
        return _Client(os.getpid(), files, options)

    def _native_files(self) -> pyarrow.fs.FileSystem | None:
        client = self._client()
        if not client.options.is_plain:
            return None
        return self._run("read", "credentials", self._native)

    async def _native(self, client: _Client) -> pyarrow.fs.FileSystem | None:
        files = client.files
        meta = (await files.set_session()).meta
        secrets = await files.session.get_credentials()
        frozen = await secrets.get_frozen_credentials() if secrets else None
        given = client.options.arguments["client_kwargs"]
        key = files.key or given.get("aws_access_key_id")
        secret = files.secret or given.get("aws_secret_access_key")
        token = files.token or given.get("aws_session_token")
        if not key and frozen:
            key, secret, token = frozen.access_key, frozen.secret_key, frozen.token
        endpoint = urlsplit(meta.endpoint_url)
        if not (key and secret) or botocore.utils.get_environ_proxies(meta.endpoint_url):
            return None
        is_aws = (endpoint.hostname or "").endswith(".amazonaws.com")
        config = client.options.arguments["config_kwargs"]
        return pyarrow.fs.S3FileSystem(
            access_key=key,
            secret_key=secret,
            session_token=token,
            region=meta.region_name if meta.region_name != "aws-global" else "us-east-1",
            scheme=endpoint.scheme,
            endpoint_override=None if is_aws else endpoint.netloc,
            connect_timeout=config["connect_timeout"],
            request_timeout=config["read_timeout"],
            retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(
                max_attempts=client.options.attempts
            ),
            tls_ca_file_path=os.environ.get("AWS_CA_BUNDLE")
            or botocore.httpsession.get_cert_path(True),  # noqa: FBT003  # its own name for default
        )

    def _path(self, key: str) -> str:
        return self._place.prefix + key

    def _require(self, key: str) -> None:
        if self.size_of(key) is None:
            raise object_absent(key, self.url)


async def _connect(client: _Client) -> None:
    """Make the client of s3fs, which is when it looks at its options; no request yet."""
    try:
        await client.files.set_session()
    except (TypeError, ValueError) as error:
        raise _bad_options(error) from error
    except Exception as error:
        failure = failed(error)
        if failure is None:
            raise
        raise failure from error


async def _again(
    client: _Client, repeated: frozenset[Kind], once: Callable[[], Awaitable[_T]]
) -> _T:
    """Return what `once` returns; where it fails so that a repetition may help, repeat it."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return await once()
        except Exception as error:
            failure = error if isinstance(error, Failed) else failed(error)
            if failure is None:
                raise
            if failure.kind not in repeated or attempt >= client.options.attempts:
                raise failure from error
        limit = min(PAUSE_SECONDS * 2.0**attempt, PAUSE_SECONDS_MAX)
        await asyncio.sleep(limit * (0.5 + random.random() / 2))  # noqa: S311 - spreads retries


def _endpoint(client: _Client) -> str:
    """Return whom the client asks, as far as that is known."""
    made = client.files._s3  # noqa: SLF001  # None before the first request
    if made is not None:
        return str(made.meta.endpoint_url)
    configured = client.options.arguments.get("endpoint_url")
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    named = [os.environ[name] for name in variables if os.environ.get(name)]
    return str(configured or (named[0] if named else "the endpoint of S3"))


def _no_bucket(failure: Failed) -> Failed:
    return Failed(
        Kind.REFUSED,
        failure.reason,
        "store_absent",
        "create the bucket, or check its name and AWS_ENDPOINT_URL",
    )


def _bad_options(error: Exception) -> InvalidArgument:
    return InvalidArgument(
        f"the options for S3 cannot be used: {error}",
        code="store_configuration",
        hint="AWS_ENDPOINT_URL is http://host:port or https://host; check the AWS_… and "
        "FSSPEC_S3_… variables and ~/.aws/config",
    )
