"""What a connector offers: routes, load, the execution of splits, export and restore.

A connector is a callable registered under the entry-point group `workbench.connectors` by URL
scheme. It returns a RouteSource, which may also be a LoadSource, an Executor, an Exporter and a
Restorer: a caller asks with `isinstance` and `capabilities`, and never calls what is not there.
It opens read-only unless `allow_write`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa

    from workbench.model.keys import Span
    from workbench.model.node import ExportCursor, RestoreStatus
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
        export: All versions of all keys can be read as of one moment.
        restore: An empty system can be given routes and versions.
    """

    ordered: bool
    watch: bool = False
    split: bool = False
    move: bool = False
    compare_and_set: bool = False
    load: bool = False
    buckets: bool = False
    idempotent: bool = False
    export: bool = False
    restore: bool = False


@dataclass(frozen=True, slots=True)
class LoadAnswer:
    """Load that a system told of.

    Attributes:
        windows: LOAD_WINDOW schema; null means not measured.
        window_ms: Length of a window.
        oldest: Start of the oldest window that the system still keeps; None for none.
        notes: What was assumed, by name; stored with the data.
        hot_keys: HOT_KEY schema, of those windows; None where the system tells of no keys.
        key_samples: KEY_SAMPLE schema, likewise.
        missing: Parts of the system, in its own words, that did not answer; what they alone
            measured is not in the windows.
    """

    windows: pa.Table
    window_ms: int
    oldest: datetime | None
    notes: Mapping[str, str] = field(default_factory=dict)
    hot_keys: pa.Table | None = None
    key_samples: pa.Table | None = None
    missing: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class VersionChunk:
    """A piece of what a group stores.

    Attributes:
        table: VERSION schema; keys ascend, and within a key commit_ts descends. May be empty.
        cursor: Strictly after it the next piece begins; None where the group was asked for
            nothing that could be there.
        done: Nothing follows.
    """

    table: pa.Table
    cursor: ExportCursor | None
    done: bool


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
class VersionSource(Protocol):
    """A place that tells the routes of every catalog version, not of the newest alone."""

    def versions(self, after: int) -> list[RouteSnapshot]:
        """Return the routes of the versions above `after` that are still kept, ascending."""
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


@runtime_checkable
class Exporter(Protocol):
    """A place that tells all versions of all keys, as of one moment; safe to use in threads."""

    def timestamp(self) -> int:
        """Return a read_ts (HLC) as of which every group can be exported from now on."""
        ...

    def routes_at(self, read_ts: int) -> RouteSnapshot:
        """Return the routes as they were at `read_ts` (HLC)."""
        ...

    def export(
        self,
        group: int,
        read_ts: int,
        *,
        start: bytes = b"",
        end: bytes | None = None,
        after: ExportCursor | None = None,
    ) -> Iterator[VersionChunk]:
        """Yield the versions of [start, end) that the group owns and had by `read_ts` (HLC).

        Asked again with the cursor of any chunk, it goes on strictly after that one.

        Raises:
            InvalidInput, Conflict: as of this moment nothing can be told any more.
            Unavailable: the group does not answer, or stopped answering midway; retryable.
        """
        ...


@runtime_checkable
class Restorer(Protocol):
    """A place that can be brought to the history of an export; safe to use in threads.

        begin every group ─▶ import its rows ─▶ save the routes ─▶ end every group

    Every step may be repeated with the same `restore_id`; what is done stays done.
    """

    def groups(self) -> tuple[int, ...]:
        """Return the ids of all groups, ascending."""
        ...

    def restore_status(self, group: int) -> RestoreStatus:
        """Return how far a group is."""
        ...

    def restore_begin(
        self, group: int, restore_id: bytes, spans: Sequence[tuple[Span, int]]
    ) -> RestoreStatus:
        """Let a group own these spans, each with its generation, and take imports alone.

        Raises:
            Conflict: it is not empty, or takes the imports of another restore.
        """
        ...

    def import_rows(
        self, group: int, restore_id: bytes, tables: Iterable[pa.Table], *, seq: int
    ) -> RestoreStatus:
        """Store versions; table number i has the sequence number `seq` + i.

        A number that was stored before changes nothing. Returns the status after the last one.

        Raises:
            OutcomeUnknown, Unavailable: some may be stored; the status tells which.
        """
        ...

    def save_routes(
        self, restore_id: bytes, snapshot: RouteSnapshot, *, expected_version: int
    ) -> int:
        """Put these routes, with their catalog version, in the place of what is there.

        Returns:
            The catalog version afterwards.
        """
        ...

    def restore_end(self, group: int, restore_id: bytes) -> RestoreStatus:
        """Let a group serve what it was given."""
        ...


class Connector(Protocol):
    """The entry point itself."""

    def __call__(self, url: str, *, allow_write: bool = False) -> RouteSource:
        """Open `url`; raises InvalidArgument for a URL it cannot read."""
        ...
