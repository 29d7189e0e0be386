"""From a URL to a store.

| URL | store |
|---|---|
| a path, `file:///path` | `LocalStore` |
| `memory://name` | `MemoryStore`, the same one for the same name within this process |
| `s3://bucket/path` | `S3Store` |
| `gs://`, `az://`, `abfs://bucket/path` | `FsspecStore`, with gcsfs or adlfs |
| `fsspec+<protocol>://bucket/path` | `FsspecStore`, with whatever fsspec knows |
| `obstore+s3://`, `obstore+gs://`, `obstore+az://bucket/path` | `ObstoreStore` |

Nothing here touches the network or creates a folder, and the libraries of a remote store are
loaded only when one is opened. Whether a remote store can hold a catalog is the probe's to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from workbench.errors import InvalidArgument, NotFound
from workbench.stores.local import LocalStore
from workbench.stores.memory import MemoryStore
from workbench.stores.place import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.ports.object_store import ObjectStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-_]*)://")

# A URL names a place: whoever opens `memory://x` twice in one process means the same objects.
# A store that must be nobody else's is made as MemoryStore().
_memory_stores: Final[dict[str, MemoryStore]] = {}


def open_store(url: str, *, create: bool) -> ObjectStore:
    """Return the store that `url` names.

    Args:
        url: See the table above.
        create: Whether a local store that does not exist yet may come into being by the first
            put. A bucket must exist; whether it does shows at the first request.

    Raises:
        InvalidArgument: `store_scheme_unknown`, `store_url_invalid`, `store_url_credentials`,
            `store_scheme_unfit`, `store_package_missing`, `store_configuration`.
        NotFound: `store_absent`, where it does not exist and `create` is False.
        Storage: Where the disk refuses.
    """
    match = _SCHEME.match(url)
    if match is None:
        return LocalStore(url, create=create)
    scheme = match.group(1).lower()
    url = scheme + url[match.end(1) :]
    if scheme.startswith(_ANY_FSSPEC):
        return _open_fsspec(url, create)
    if scheme not in _OPENERS:
        known = ", ".join(f"{name}://" for name in sorted(_OPENERS))
        raise InvalidArgument(
            f"no store for {scheme}:// in {shown(url)!r}",
            code="store_scheme_unknown",
            hint=f"use a path, or one of {known}",
        )
    return _OPENERS[scheme](url, create)


def _open_file(url: str, create: bool) -> ObjectStore:  # noqa: FBT001  # called by table
    host = url[len("file://") :].partition("/")[0]
    path = unquote(url[len("file://") + len(host) :])
    if host not in {"", "localhost"} or not path:
        raise InvalidArgument(
            f"{shown(url)!r} names no folder of this machine",
            code="store_url_invalid",
            hint="write file:///absolute/path, or the path alone",
        )
    return LocalStore(path, create=create)


def _open_memory(url: str, create: bool) -> ObjectStore:  # noqa: FBT001  # called by table
    parts = urlsplit(url)
    name = (parts.netloc + parts.path).strip("/") or "memory"
    if create:
        return _memory_stores.setdefault(name, MemoryStore(name))
    store = _memory_stores.get(name)
    if store is None:
        raise NotFound(
            f"no store memory://{name} in this process",
            code="store_absent",
            hint="memory:// stores end with the process that made them",
        )
    return store


def _open_s3(url: str, create: bool) -> ObjectStore:  # noqa: FBT001  # called by table
    from workbench.stores.s3 import S3Store  # noqa: PLC0415  # loads s3fs and botocore

    del create
    return S3Store(url)


def _open_fsspec(url: str, create: bool) -> ObjectStore:  # noqa: FBT001  # called by table
    from workbench.stores.fsspec_store import FsspecStore  # noqa: PLC0415  # loads fsspec

    del create
    return FsspecStore(url)


def _open_obstore(url: str, create: bool) -> ObjectStore:  # noqa: FBT001  # called by table
    from workbench.stores.obstore_store import ObstoreStore  # noqa: PLC0415  # loads obstore

    del create
    return ObstoreStore(url)


_ANY_FSSPEC: Final = "fsspec+"
_OPENERS: Final[dict[str, Callable[[str, bool], ObjectStore]]] = {
    "abfs": _open_fsspec,
    "az": _open_fsspec,
    "file": _open_file,
    "gs": _open_fsspec,
    "memory": _open_memory,
    "obstore+az": _open_obstore,
    "obstore+gs": _open_obstore,
    "obstore+s3": _open_obstore,
    "s3": _open_s3,
}
