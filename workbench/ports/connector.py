"""What a connector offers: where routes come from, and what the system behind it can do.

A connector is a callable registered under the entry-point group `workbench.connectors` by URL
scheme; it takes the URL and returns a RouteSource. Load sources and executors join with the
connectors that have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from workbench.model.routes import RouteSnapshot

ENTRY_POINT_GROUP: Final = "workbench.connectors"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a system can do; advice that it cannot follow is never given.

    Attributes:
        ordered: Keys of one route are adjacent, so an interior split makes sense.
        watch: Route changes are pushed.
        split: A split at a chosen key can be executed.
        move: A span can be moved to another group.
        compare_and_set: A split can be bound to a catalog version.
    """

    ordered: bool
    watch: bool = False
    split: bool = False
    move: bool = False
    compare_and_set: bool = False


class RouteSource(Protocol):
    """A place that knows the routes of a cluster."""

    def capabilities(self) -> Capabilities:
        """Return what the system behind this source can do."""
        ...

    def snapshot(self) -> RouteSnapshot:
        """Return the routes as they are now."""
        ...


class Connector(Protocol):
    """The entry point itself."""

    def __call__(self, url: str) -> RouteSource:
        """Open `url`; raises InvalidArgument for a URL it cannot read."""
        ...
