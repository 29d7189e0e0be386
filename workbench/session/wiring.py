"""Where the parts are joined: a catalog from a URL, a connector from a scheme.

No other module creates a store, a clock or a connector. A connector is found by its entry
point; one that fails to import is reported by `connectors` and harms nobody else.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final

from workbench.catalog.audit import Audit, audit
from workbench.catalog.catalog import Catalog
from workbench.catalog.repair import Repair, repair
from workbench.errors import AlreadyExists, InvalidArgument, NotFound, WorkbenchError
from workbench.ports.connector import ENTRY_POINT_GROUP
from workbench.session.progress import Progress, silent
from workbench.session.system import SystemClock, SystemRng
from workbench.stores.guarded import GuardedStore
from workbench.stores.local import LocalStore
from workbench.stores.memory import MemoryStore
from workbench.stores.open import open_store
from workbench.stores.probe import probe_place

if TYPE_CHECKING:
    from workbench.ports.connector import RouteSource
    from workbench.ports.object_store import ObjectStore

DEFAULT_CATALOG: Final = "./.workbench/catalog"
_log: Final = logging.getLogger("workbench.catalog")


@dataclass(frozen=True, slots=True)
class ConnectorInfo:
    """A connector that is installed.

    Attributes:
        scheme: URL scheme under which it is found.
        module: Where it lives.
        problem: Why it cannot be loaded; None where it can.
    """

    scheme: str
    module: str
    problem: str | None


def user_name() -> str:
    """Return the name of the user of this machine; `unknown` where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def open_catalog(url: str) -> Catalog:
    """Open the catalog at `url`; what is wrong with it and can be passed over is logged.

    Raises:
        NotFound: there is none; readers never create one.
        Corruption: a record is damaged; nothing is loaded.
    """
    store = _existing_store(url)
    opened = Catalog.open(store, clock=SystemClock(), rng=SystemRng(), writer=_writer())
    for notice in opened.notices:
        _log.warning("%s", notice)
    return opened


def create_catalog(url: str) -> Catalog:
    """Create a catalog at `url`, if the store creates every object at most once.

    Raises:
        AlreadyExists: there is one.
        Storage: `store_not_conditional`, and what else the probe finds wanting.
    """
    store = guarded(open_store(url, create=True))
    probe_place(store, SystemRng().uuid())
    return Catalog.create(store, clock=SystemClock(), rng=SystemRng(), writer=_writer())


def audit_catalog(url: str, progress: Progress = silent) -> Audit:
    """Check every record and object of the catalog at `url`, also of one that does not open."""
    return audit(_existing_store(url), progress=progress)


def repair_catalog(url: str, *, apply: bool, progress: Progress = silent) -> Repair:
    """Return what makes the catalog at `url` open and verify again; do it where `apply`."""
    return repair(
        _existing_store(url),
        clock=SystemClock(),
        rng=SystemRng(),
        writer=_writer(),
        apply=apply,
        progress=progress,
    )


def open_or_create_catalog(url: str) -> Catalog:
    """Open the catalog at `url`, or create it where there is none."""
    try:
        return open_catalog(url)
    except NotFound as error:
        if error.code != "catalog_absent":
            raise
    try:
        return create_catalog(url)
    except AlreadyExists:
        return open_catalog(url)  # another process was first


def has_connector(url: str) -> bool:
    """Return whether a connector is installed for this URL's scheme; it may fail to load."""
    return ":" in url and url.partition(":")[0] in _installed()


def open_routes(url: str, *, allow_write: bool = False) -> RouteSource:
    """Return what the connector for this URL's scheme opens.

    A route source at least; ask with `isinstance` whether it is a LoadSource or an Executor too.

    Args:
        url: `scheme:…`.
        allow_write: Whether splits may be executed through it.

    Raises:
        InvalidArgument: `connector_unknown`, or the connector cannot read the URL.
        WorkbenchError: `connector_broken`: it cannot be loaded.
    """
    scheme = url.partition(":")[0]
    found = _installed()
    if scheme not in found:
        raise InvalidArgument(
            f"no connector is installed for {scheme!r} ({url!r})",
            code="connector_unknown",
            hint=f"known are {', '.join(sorted(found)) or 'none'}; see `workbench connectors list`",
        )
    try:
        connect = found[scheme].load()
    except Exception as error:
        raise WorkbenchError(
            f"the connector for {scheme!r} cannot be loaded: {error}",
            code="connector_broken",
            hint=f"mend or remove the package that provides {found[scheme].value}",
        ) from error
    source: RouteSource = connect(url, allow_write=allow_write)
    return source


def connectors() -> list[ConnectorInfo]:
    """Return every installed connector, with the problem where one cannot be loaded."""
    return [
        ConnectorInfo(entry.name, entry.value, _problem(entry))
        for entry in sorted(entry_points(group=ENTRY_POINT_GROUP))
    ]


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def guarded(store: ObjectStore) -> ObjectStore:
    """Return the store, asked before its first write; our own code needs no asking."""
    return store if isinstance(store, LocalStore | MemoryStore) else GuardedStore(store)


def _existing_store(url: str) -> ObjectStore:
    try:
        return guarded(open_store(url, create=False))
    except NotFound as error:
        raise NotFound(
            f"there is no catalog at {url}",
            code="catalog_absent",
            hint="create one with `workbench collect` or `workbench catalog init`, "
            "or name another with --catalog",
        ) from error


def _problem(entry: EntryPoint) -> str | None:
    try:
        entry.load()
    except Exception as error:  # noqa: BLE001 - whatever a third party's module raises
        return f"{type(error).__name__}: {error}"
    return None


def _writer() -> str:
    """Return who writes: user, host and process, for the log's readers."""
    return f"{user_name()}@{socket.gethostname()}:{os.getpid()}"
