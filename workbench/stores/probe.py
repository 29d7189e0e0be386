"""Whether a store keeps the promises on which the catalog stands, found out by trying.

    put k first    ──> True
    get k          ──> first                       what was written is read
    put k second   ──> False, and k is first       created at most once
    get_range k    ──> the bytes asked for
    list_after     ──> k, and nothing after k
    put r by eight ──> at most one True, its bytes   also in a race
    delete k, r

The keys hold a fresh uuid, so two probes at once do not meet, and lie below a prefix in which
nothing of the catalog is. A killed probe leaves two small objects there, which harm nobody.

A store that passes may still break its word tomorrow; the hash chain would show it. Run it when
a catalog is created. Local files and memory are our own code and need none.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final, NoReturn

from workbench.catalog.layout import PROBE_PREFIX
from workbench.errors import NotFound, OutcomeUnknown, Storage, Unavailable, WorkbenchError
from workbench.stores.local import LocalStore
from workbench.stores.memory import MemoryStore

if TYPE_CHECKING:
    from uuid import UUID

    from workbench.ports.object_store import ObjectStore

RACERS: Final = 8
RANGE_START: Final = 7
RANGE_BYTES: Final = 20


def probe_place(store: ObjectStore, token: UUID) -> None:
    """Refuse a store that cannot hold a catalog; ask nothing of those that are our own code.

    Args:
        store: Where a catalog is to be created.
        token: Fresh and random.

    Raises:
        Storage: `store_not_conditional`, `store_not_consistent`, `store_range_wrong`,
            `store_listing_broken`; or what the store itself refuses with.
        Unavailable: `store_unavailable`: it did not answer; nothing was found out.
    """
    if not isinstance(store, LocalStore | MemoryStore):
        probe(store, token)


def probe(store: ObjectStore, token: UUID) -> None:
    """Refuse a store that cannot hold a catalog; see `probe_place` for arguments and errors."""
    key, race = f"{PROBE_PREFIX}{token}", f"{PROBE_PREFIX}{token}-race"
    try:
        _try_one(store, key, token)
        _try_race(store, race, token)
    except OutcomeUnknown as error:
        raise Unavailable(
            f"{store.url} did not answer while it was tried: {error.message}",
            code="store_unavailable",
            hint="nothing was created; try again",
        ) from error
    finally:
        for each in (key, race):
            with contextlib.suppress(WorkbenchError):
                store.delete(each)


def _try_one(store: ObjectStore, key: str, token: UUID) -> None:
    first = f"probe {token}: the first put".encode()
    second = f"probe {token}: the second put, which must be refused".encode()
    # False is no lie where the bytes are ours: a client may have repeated the put by itself.
    store.put_if_absent(key, first)
    if _read(store, key) != first:
        _refuse(store, "store_not_consistent", "does not read back what was just written")
    if store.put_if_absent(key, second):
        _refuse(store, "store_not_conditional", "created the same object twice")
    if _read(store, key) != first:
        _refuse(
            store, "store_not_conditional", "said that an object exists, and overwrote it anyway"
        )
    part = store.get_range(key, RANGE_START, RANGE_BYTES)
    if part != first[RANGE_START : RANGE_START + RANGE_BYTES]:
        _refuse(store, "store_range_wrong", "answers a ranged read with other bytes")
    if key not in store.list_after(PROBE_PREFIX):
        _refuse(store, "store_listing_broken", "does not list what was just written")
    if key in store.list_after(PROBE_PREFIX, key):
        _refuse(store, "store_listing_broken", "lists a key after itself")


def _try_race(store: ObjectStore, key: str, token: UUID) -> None:
    """Put one key from many threads at once: asking first and writing then is not enough."""
    start = threading.Barrier(RACERS)
    wins: list[bytes] = []
    failures: list[WorkbenchError] = []

    def put(number: int) -> None:
        data = f"probe {token}: racer {number}".encode()
        start.wait()
        try:
            if store.put_if_absent(key, data):
                wins.append(data)
        except WorkbenchError as error:
            failures.append(error)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(wins) > 1:
        _refuse(store, "store_not_conditional", f"created one object {len(wins)} times at once")
    if wins and _read(store, key) != wins[0]:
        _refuse(store, "store_not_conditional", "overwrote an object in a race")
    if not wins and failures:
        raise failures[0]


def _read(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except NotFound:
        return None


def _refuse(store: ObjectStore, code: str, what: str) -> NoReturn:
    raise Storage(
        f"{store.url} cannot hold a catalog: it {what}",
        code=code,
        hint="writers would overwrite each other's commits; use a local folder, or a server with "
        "conditional puts (If-None-Match) such as S3 itself (docs/stores.md)",
    )
