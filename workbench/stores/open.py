"""From a URL to a store.

| URL | store |
|---|---|
| a path, `file:///path` | `LocalStore` |
| `memory://name` | `MemoryStore`, the same one for the same name within this process |

Later schemes join in `_OPENERS`. Nothing here touches the network or creates a folder.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from workbench.errors import InvalidArgument, NotFound
from workbench.stores.local import LocalStore
from workbench.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.ports.object_store import ObjectStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")

# A URL names a place: whoever opens `memory://x` twice in one process means the same objects.
# A store that must be nobody else's is made as MemoryStore().
_memory_stores: Final[dict[str, MemoryStore]] = {}


def open_store(url: str, *, create: bool) -> ObjectStore:
    """Return the store that `url` names.

    Args:
        url: A path, `file:///path` or `memory://name`.
        create: Whether a store that does not exist yet may come into being by the first put.

    Raises:
        InvalidArgument: `store_scheme_unknown`, or `store_url_invalid`.
        NotFound: `store_absent`, where it does not exist and `create` is False.
        Storage: Where the disk refuses.
    """
    match = _SCHEME.match(url)
    if match is None:
        return LocalStore(url, create=create)
    scheme = match.group(1).lower()
    if scheme not in _OPENERS:
        known = ", ".join(f"{name}://" for name in sorted(_OPENERS))
        raise InvalidArgument(
            f"no store for {scheme}:// in {url!r}",
            code="store_scheme_unknown",
            hint=f"use a path, or one of {known}",
        )
    return _OPENERS[scheme](url, create)


def _open_file(url: str, create: bool) -> ObjectStore:  # noqa: FBT001  # called by table
    host = url[len("file://") :].partition("/")[0]
    path = unquote(url[len("file://") + len(host) :])
    if host not in {"", "localhost"} or not path:
        raise InvalidArgument(
            f"{url!r} names no folder of this machine",
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


_OPENERS: Final[dict[str, Callable[[str, bool], ObjectStore]]] = {
    "file": _open_file,
    "memory": _open_memory,
}
