"""The route table in memory: who owns a key, now and some versions ago.

    starts   │ ""     │ "f"     │ "m"     │          lookup: bisect for the last start ≤ key,
    routes   │ 9 on 2 │ 10 on 2 │ 4 on 1  │          then look whether its span holds the key

- A table never changes. A history swaps one reference for another, so a reader that holds a
  table sees one version throughout, and needs no lock.
- A history takes only newer versions, keeps the last HISTORY_TABLES_MAX, and version 0: the
  routes of the configuration.

A table is a hint of where to send a request: the group that gets it decides (design decision
3). Older versions are in the analytical catalog, not here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from workbench.errors import Corruption, NotFound, Unavailable
from workbench.model.routes import RouteDescriptor, check_routes

if TYPE_CHECKING:
    from collections.abc import Iterable

HISTORY_TABLES_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All routes of one catalog version.

    Creating one raises InvalidInput where the routes break a rule of `check_routes`.

    Attributes:
        version: The catalog version; 0 for the routes of the configuration.
        routes: Ascending by start, whatever the order in which they were given.
    """

    version: int
    routes: tuple[RouteDescriptor, ...]
    _starts: tuple[bytes, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        routes = check_routes(self.routes)
        object.__setattr__(self, "routes", routes)
        object.__setattr__(self, "_starts", tuple(route.span.start for route in routes))

    def lookup(self, key: bytes) -> RouteDescriptor | None:
        """Return the route that holds `key`, None where it lies in a gap."""
        at = bisect_right(self._starts, key) - 1
        return self.routes[at] if at >= 0 and key in self.routes[at].span else None

    def intersecting(self, start: bytes, end: bytes | None) -> tuple[RouteDescriptor, ...]:
        """Return the routes that share a key with [start, end), ascending; none if it is empty."""
        if end is not None and start >= end:
            return ()
        low = bisect_right(self._starts, start)
        if low and start in self.routes[low - 1].span:
            low -= 1
        high = len(self.routes) if end is None else bisect_left(self._starts, end)
        return self.routes[low:high]


class RouteHistory:
    """The newest route table and some before it.

    One owner calls `replace`; everybody may read.

    Args:
        configured: The routes that version 0 stands for.
    """

    def __init__(self, configured: Iterable[RouteDescriptor] = ()) -> None:
        self._configured = RouteTable(0, tuple(configured))
        # Ascending by version; replaced as a whole, never changed.
        self._tables: tuple[RouteTable, ...] = ()

    @property
    def current(self) -> RouteTable:
        """The newest table; version 0 before the first `replace`."""
        return self._tables[-1] if self._tables else self._configured

    def replace(self, table: RouteTable) -> bool:
        """Make `table` current if it is newer, and tell whether it was.

        Raises:
            Corruption: `catalog_version_ambiguous`: other routes under the current version.
        """
        current = self.current
        if table.version > current.version:
            self._tables = (*self._tables, table)[-HISTORY_TABLES_MAX:]
            return True
        if table.version == current.version and table != current:
            raise Corruption(
                f"catalog version {table.version} has come with two different sets of routes",
                code="catalog_version_ambiguous",
                hint="two clusters may be answering under one address: check the configuration",
            )
        return False

    def owner_of(self, key: bytes, version: int) -> RouteDescriptor | None:
        """Return the route that held `key` in `version`, None where it lay in a gap.

        Raises:
            NotFound: `catalog_version_not_kept`: too old, or it never came here.
            Unavailable: `catalog_version_ahead`: newer than what has come here.
        """
        return self.table(version).lookup(key)

    def table(self, version: int) -> RouteTable:
        """Return the routes of `version`; raises as `owner_of`."""
        tables = self._tables
        if version == 0:
            return self._configured
        for table in reversed(tables):
            if table.version == version:
                return table
        newest = tables[-1].version if tables else 0
        if version > newest:
            raise Unavailable(
                f"catalog version {version} has not come here yet, the newest is {newest}",
                code="catalog_version_ahead",
                hint="try again",
            )
        raise NotFound(
            f"catalog version {version} is not kept here, the newest is {newest}",
            code="catalog_version_not_kept",
            hint="ask the analytical catalog, where `workbench collect` records versions",
        )
