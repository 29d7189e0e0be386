"""What a connector offers: routes, load, and the execution of splits.

A connector is a callable registered under the entry-point group `workbench.connectors` by URL
scheme. It returns a RouteSource, which may also be a LoadSource and an Executor: a caller asks
with `isinstance`, and never calls what is not there. It opens read-only unless `allow_write`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import pyarrow as pa

    from workbench.model.keys import Span
    from workbench.model.routes import RouteDescriptor, RouteSnapshot

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
        load: Load windows can be read.
        buckets: They divide a route.
        idempotent: A call repeated with the same key takes effect once.
    """

    ordered: bool
    watch: bool = False
    split: bool = False
    move: bool = False
    compare_and_set: bool = False
    load: bool = False
    buckets: bool = False
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class LoadAnswer:
    """Load that a system told of.

    Attributes:
        windows: LOAD_WINDOW schema; null means not measured.
        window_ms: Length of a window.
        oldest: Start of the oldest window that the system still keeps; None for none.
        notes: What was assumed, by name; stored with the data.
    """

    windows: pa.Table
    window_ms: int
    oldest: datetime | None
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SplitCall:
    """A split to be made: of `route`, at `split_key`, if the catalog is at `expected_version`."""

    route: RouteDescriptor
    split_key: bytes
    expected_version: int


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """The literal call that will be made, for a human to read before it is.

    Attributes:
        split: What it is to do.
        address: Whom it calls.
        method: Full method name, as `/Distribution/SplitRange`.
        fields: Request fields by name, as they will be sent; bytes as lowercase hex.
        metadata: What goes beside the request.
        warnings: What the user should know first.
    """

    split: SplitCall
    address: str
    method: str
    fields: Mapping[str, str | int]
    metadata: Mapping[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitReceipt:
    """What a split brought.

    Attributes:
        catalog_version: After it.
        left: The child below the split key.
        right: The child from it on.
        repeated: Whether the split had been made before this call, and was only found.
    """

    catalog_version: int
    left: RouteDescriptor
    right: RouteDescriptor
    repeated: bool


@runtime_checkable
class RouteSource(Protocol):
    """A place that knows the routes of a cluster."""

    def capabilities(self) -> Capabilities:
        """Return what the system behind this source can do."""
        ...

    def snapshot(self) -> RouteSnapshot:
        """Return the routes as they are now."""
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...


@runtime_checkable
class LoadSource(Protocol):
    """A place that measures load."""

    def load(self, cluster: str, since: datetime | None) -> LoadAnswer:
        """Return the closed windows that start at `since` or later, all kept ones for None.

        Args:
            cluster: Name to put into each row.
            since: Aware, UTC.

        Raises:
            Unavailable: a part of the cluster does not answer; nothing is returned, because a
                window that lacks a part would make its routes look idle.
        """
        ...


@runtime_checkable
class Executor(Protocol):
    """A place that executes splits."""

    def prepare(self, split: SplitCall, idempotency_key: str) -> PreparedCall:
        """Return the literal call; makes none."""
        ...

    def apply(self, call: PreparedCall) -> SplitReceipt:
        """Make the call, once.

        Before it is repeated after an unknown outcome, the routes are looked at for children of
        this parent at this key.

        Raises:
            Conflict: `catalog_version_mismatch`: another change came first.
            NotFound: `route_absent`.
            InvalidInput: the split key is not inside the route.
            Unavailable: nothing was done; try again later.
            OutcomeUnknown: it may have been done.
        """
        ...

    def find(self, span: Span, split_key: bytes) -> SplitReceipt | None:
        """Return the split of `span` at `split_key` where the routes show that it was made."""
        ...


class Connector(Protocol):
    """The entry point itself."""

    def __call__(self, url: str, *, allow_write: bool = False) -> RouteSource:
        """Open `url`; raises InvalidArgument for a URL it cannot read."""
        ...
