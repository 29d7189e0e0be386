"""What a group is asked to do (commands, through its log) and to tell (reads), as values.

    Command ──log──▶ Replica.apply ──▶ Result          Read ──▶ Replica.read ──▶ Answer

A refusal is a result like any other: every replica comes to the same one from the log alone.
Nothing here decides anything; bytes of a log entry are made in `replica.entry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from workbench.model.node import GotMany, StoredVersion, Written

if TYPE_CHECKING:
    from workbench.errors import WorkbenchError
    from workbench.model.keys import Span
    from workbench.model.routes import RouteDescriptor


@dataclass(frozen=True, slots=True)
class Mutation:
    """A put of `value` under `key`, or with None its deletion."""

    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """Mutations that become visible together; of several of one key the last one stays.

    Attributes:
        mutations: All keys of one group.
        client_id: Who sends it; empty for nobody, then a repetition is a new write.
        sequence: Of this client; a retry carries the same number and the same mutations.
    """

    mutations: tuple[Mutation, ...]
    client_id: bytes = b""
    sequence: int = 0


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


Command: TypeAlias = WriteBatch | SplitRange | Bootstrap


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


Result: TypeAlias = Written | SplitDone | Bootstrapped | Refused


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
    """

    start: bytes
    end: bytes | None
    read_ts: int
    rows_max: int
    bytes_max: int
    reverse: bool = False
    keys_only: bool = False


@dataclass(frozen=True, slots=True)
class LatestCommitTs:
    """The newest commit_ts of a key, deletions included."""

    key: bytes


@dataclass(frozen=True, slots=True)
class ListCatalog:
    """The whole route catalog; only the catalog group has it."""


Read: TypeAlias = GetMany | ScanPage | LatestCommitTs | ListCatalog


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a scan.

    Attributes:
        read_ts: HLC as of which all rows are.
        rows: In the order asked for.
        next_key: Where the next page starts, forward, or ends (exclusive), in reverse; None
            where there is no more.
    """

    read_ts: int
    rows: tuple[tuple[bytes, StoredVersion], ...]
    next_key: bytes | None


@dataclass(frozen=True, slots=True)
class LatestTs:
    """The newest commit_ts (HLC) of a key; None where it was never written."""

    commit_ts: int | None


@dataclass(frozen=True, slots=True)
class CatalogListing:
    """All routes of one catalog version, ascending by start."""

    version: int
    routes: tuple[RouteDescriptor, ...]


Answer: TypeAlias = GotMany | Page | LatestTs | CatalogListing
