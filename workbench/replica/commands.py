"""What a group is asked to do (commands, through its log) and to tell (reads), as values.

    Command ──log──▶ Replica.apply ──▶ Result          Read ──▶ Replica.read ──▶ Answer

A refusal is a result like any other: every replica comes to the same one from the log alone.
Nothing here decides anything; bytes of a log entry are made in `replica.entry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from workbench.model.node import GotMany, RestoreStatus, StoredVersion, Written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workbench.errors import WorkbenchError
    from workbench.model.keys import Span
    from workbench.model.node import ExportCursor
    from workbench.model.routes import RouteDescriptor
    from workbench.mvcc.block import VersionBlock
    from workbench.routing.records import RouteDelta


class Mutation(NamedTuple):
    """A put of `value` under `key`, or with None its deletion.

    A tuple, as every row that is written is made one on every node: a dataclass takes three
    times as long.

    Attributes:
        key: Of one group.
        value: None to delete.
        expire_at_ms: Unix milliseconds from which on a read sees nothing; 0 for never.
    """

    key: bytes
    value: bytes | None
    expire_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must hold of a key when a write is applied.

    Attributes:
        key: Of the same group.
        commit_ts: Of its newest version, deletions included; None: it has no value then.
    """

    key: bytes
    commit_ts: int | None


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """Mutations that become visible together; of several of one key the last one stays.

    Attributes:
        mutations: All keys of one group.
        client_id: Who sends it; empty for nobody, then a repetition is a new write.
        sequence: Of this client; a retry carries the same number and the same mutations.
        preconditions: All must hold, else nothing is written.
    """

    mutations: tuple[Mutation, ...]
    client_id: bytes = b""
    sequence: int = 0
    preconditions: tuple[Precondition, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitRange:
    """A split of a route in two on the same group, if the catalog is at `expected_version`.

    Attributes:
        expected_version: Catalog version that it must find.
        route_id: The route to split.
        split_key: First key of the right child.
        request_id: A repetition carries the same; empty for none.
    """

    expected_version: int
    route_id: int
    split_key: bytes
    request_id: bytes = b""


@dataclass(frozen=True, slots=True)
class OwnedSpan:
    """A span that the group owns, and the id of the route under which it came to own it."""

    span: Span
    generation: int


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The first records of a group, from the cluster's configuration.

    Attributes:
        spans: What the group owns.
        routes: The seed routes, for the catalog group; empty for every other.
    """

    spans: tuple[OwnedSpan, ...]
    routes: tuple[RouteDescriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class BeginRestore:
    """An empty group gives up its spans for others, and serves nothing until the restore ends.

    Attributes:
        restore_id: 16 bytes; a repetition carries the same.
        spans: What the group will own.
    """

    restore_id: bytes
    spans: tuple[OwnedSpan, ...]


@dataclass(frozen=True, slots=True)
class ImportRows:
    """Versions that a restore brings, at the commit_ts that they have; a part of an import.

    Attributes:
        restore_id: Of the restore under way.
        seq: Of the import, from 1, without holes.
        offset: Rows of the import that come before these.
        last: Whether no more of the import follow.
        rows: In any order.
    """

    restore_id: bytes
    seq: int
    offset: int
    last: bool
    rows: VersionBlock


@dataclass(frozen=True, slots=True)
class SaveRoutes:
    """A whole route catalog in place of the one that is there, while the group is restored.

    Attributes:
        restore_id: Of the restore under way.
        expected_version: Catalog version that it must find.
        version: Catalog version that it leaves.
        next_route_id: No id from here on was ever used; 0 to go by the routes alone.
        routes: All of them.
    """

    restore_id: bytes
    expected_version: int
    version: int
    next_route_id: int
    routes: tuple[RouteDescriptor, ...]


@dataclass(frozen=True, slots=True)
class EndRestore:
    """The group serves again."""

    restore_id: bytes


@dataclass(frozen=True, slots=True)
class SetSafePoint:
    """Nothing is read below `safe_point` (HLC) any more; pins hold it back."""

    safe_point: int


@dataclass(frozen=True, slots=True)
class Pin:
    """`read_ts` (HLC) stays readable until an Unpin; 16 bytes of id, the same in a repetition."""

    pin_id: bytes
    read_ts: int


@dataclass(frozen=True, slots=True)
class Unpin:
    """A pin is let go, if it is there."""

    pin_id: bytes


@dataclass(frozen=True, slots=True)
class CollectGarbage:
    """One step of collection, that reads at most so many versions."""

    versions_max: int


Command: TypeAlias = (
    WriteBatch
    | SplitRange
    | Bootstrap
    | BeginRestore
    | ImportRows
    | SaveRoutes
    | EndRestore
    | SetSafePoint
    | Pin
    | Unpin
    | CollectGarbage
)


@dataclass(frozen=True, slots=True)
class SplitDone:
    """A split that took place; `repeated` where this call found it done by its request id."""

    catalog_version: int
    left: RouteDescriptor
    right: RouteDescriptor
    repeated: bool


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The group has its first records, by this Bootstrap or by an earlier one."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The command was refused whole: nothing of it took effect, and nothing was stored."""

    error: WorkbenchError


@dataclass(frozen=True, slots=True)
class RoutesSaved:
    """The route catalog is at `catalog_version`, by this SaveRoutes or by an earlier one."""

    catalog_version: int


@dataclass(frozen=True, slots=True)
class GarbageStatus:
    """Where the garbage collection of a group stands.

    Attributes:
        group: Its id.
        safe_point: HLC below which nothing is read; 0 for none yet.
        pins: How many hold it.
        dropped: Versions collected so far.
        scanned: Versions that this command has read.
        done: Whether the next step begins at the start of the data.
    """

    group: int
    safe_point: int
    pins: int
    dropped: int
    scanned: int
    done: bool


Done: TypeAlias = Written | SplitDone | Bootstrapped | RestoreStatus | RoutesSaved | GarbageStatus
Result: TypeAlias = Done | Refused


@dataclass(frozen=True, slots=True)
class GetMany:
    """The values of keys as of `read_ts` (HLC); 0 means latest.

    With no keys it is answered with the read_ts alone: a timestamp at or below which the group
    writes nothing more.
    """

    keys: tuple[bytes, ...]
    read_ts: int = 0


@dataclass(frozen=True, slots=True)
class ScanPage:
    """A page of the keys in [start, end) that the group owns, as of `read_ts` (HLC).

    Attributes:
        start: Inclusive.
        end: Exclusive; None for no upper bound.
        read_ts: 0 means latest.
        rows_max: At least 1.
        bytes_max: Of keys and values; one row is returned even where it is larger.
        reverse: Descending.
        keys_only: Values are left empty.
        whole: Refused where the group does not own all of it; else what it owns is shown.
    """

    start: bytes
    end: bytes | None
    read_ts: int
    rows_max: int
    bytes_max: int
    reverse: bool = False
    keys_only: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class LatestCommitTs:
    """The newest commit_ts of a key, deletions included."""

    key: bytes


@dataclass(frozen=True, slots=True)
class ListCatalog:
    """The whole route catalog; only the catalog group has it."""


@dataclass(frozen=True, slots=True)
class ListCatalogAt:
    """The route catalog as of `read_ts` (HLC), which a GetMany has been answered at before."""

    read_ts: int


@dataclass(frozen=True, slots=True)
class ListCatalogVersion:
    """The route catalog as of a version from which deltas lead on, or of the newest."""

    version: int


@dataclass(frozen=True, slots=True)
class ReadDeltas:
    """The deltas that lead on from catalog version `after`, at most `limit` of them."""

    after: int
    limit: int


@dataclass(frozen=True, slots=True)
class ExportRange:
    """All versions at or below `read_ts` of the keys in [start, end) that the group owns.

    Attributes:
        start: Inclusive.
        end: Exclusive; None for no upper bound.
        read_ts: HLC that a GetMany has been answered at before: so nothing is written at or
            below it any more, here or on another leader.
        after: Only what lies strictly behind it; None for all.
    """

    start: bytes
    end: bytes | None
    read_ts: int
    after: ExportCursor | None = None


@dataclass(frozen=True, slots=True)
class ReadRestore:
    """How far the restore of the group has come."""


Read: TypeAlias = (
    GetMany
    | ScanPage
    | LatestCommitTs
    | ListCatalog
    | ListCatalogAt
    | ListCatalogVersion
    | ReadDeltas
    | ExportRange
    | ReadRestore
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a scan.

    Attributes:
        read_ts: HLC as of which all rows are.
        rows: In the order asked for.
        next_key: Where the next page starts, forward, or ends (exclusive), in reverse; None
            where there is no more.
        unfinished: Whether it ended early, at versions that it does not show, with room left.
    """

    read_ts: int
    rows: tuple[tuple[bytes, StoredVersion], ...]
    next_key: bytes | None
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class LatestTs:
    """The newest commit_ts (HLC) of a key; None where it was never written."""

    commit_ts: int | None


@dataclass(frozen=True, slots=True)
class CatalogListing:
    """All routes of one catalog version, ascending by start."""

    version: int
    routes: tuple[RouteDescriptor, ...]


@dataclass(frozen=True, slots=True)
class CatalogDeltas:
    """What a watcher goes on by.

    Attributes:
        version: The newest catalog version.
        floor: The newest version whose delta is not kept.
        deltas: Contiguous from the version asked for on; empty where that lies below `floor`.
    """

    version: int
    floor: int
    deltas: tuple[RouteDelta, ...]


@dataclass(frozen=True, slots=True)
class EnginePairs:
    """What an export reads: stored versions of one moment, ascending, to be decoded elsewhere.

    Attributes:
        prefix: Of all their engine keys.
        pairs: Engine keys and values; may be read in another thread.
    """

    prefix: bytes
    pairs: Iterator[tuple[bytes, bytes]]


Answer: TypeAlias = (
    GotMany | Page | LatestTs | CatalogListing | CatalogDeltas | EnginePairs | RestoreStatus
)
