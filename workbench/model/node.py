"""What a bundled node tells of itself and of what it stores; shared by its client and callers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group on one node.

    Attributes:
        group: Its id.
        role: `leader`, `follower`, `candidate` or `learner`.
        term: Its term.
        commit_index: Highest index known to be committed.
        applied_index: Highest index that the state machine has applied.
        leader_node: Who leads, 0 where unknown.
        serving: Whether this node answers reads and writes for it now.
    """

    group: int
    role: str
    term: int
    commit_index: int
    applied_index: int
    leader_node: int
    serving: bool


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster.

    Attributes:
        node: Its id.
        address: `HOST:PORT`.
        groups: That it founded, as a voter.
        joins: That it came to later.
        removed: It is gone; it stays on the list for what it founded.
    """

    node: int
    address: str
    groups: tuple[int, ...]
    joins: tuple[int, ...] = ()
    removed: bool = False


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What one node answers when asked how it is.

    Attributes:
        cluster_id: Of the whole cluster; a UUID as text.
        node: Its id.
        pid: Of its process.
        version: Of the workbench that it runs.
        groups: Of which it keeps a replica.
        members: All nodes of the cluster, itself included.
        catalog_version: The newest that it knows, 0 for none.
        window_ms: Length of its load windows.
    """

    cluster_id: str
    node: int
    pid: int
    version: str
    groups: tuple[GroupStatus, ...]
    members: tuple[Member, ...]
    catalog_version: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class Written:
    """An acknowledged write: all of it became visible at `commit_ts` (HLC), at log `index`.

    Attributes:
        commit_ts: Of all of it.
        index: Of its entry.
        repeated: Whether this answers a repetition; it is the same write.
    """

    commit_ts: int
    index: int
    repeated: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A value, and the HLC timestamp at which it was written."""

    value: bytes
    commit_ts: int


@dataclass(frozen=True, slots=True)
class GotMany:
    """The answer to a read of several keys, all as of `read_ts`.

    Attributes:
        read_ts: HLC.
        index: Applied index of the group when it answered.
        versions: One per key, in the order asked for; None where the key had no value.
    """

    read_ts: int
    index: int
    versions: tuple[StoredVersion | None, ...]


@dataclass(frozen=True, slots=True)
class LoadRow:
    """Load of one bucket of one route in one window; see LOAD_WINDOW."""

    route_id: int
    group: int
    bucket_start: bytes
    bucket_end: bytes | None
    reads: int
    writes: int
    read_bytes: int
    write_bytes: int
    coverage: float


@dataclass(frozen=True, slots=True)
class HotKeyCount:
    """A heavy key: it was accessed at most `count` times, and at least `count - error` times."""

    key: bytes
    count: int
    error: int


@dataclass(frozen=True, slots=True)
class KeySample:
    """An access that was drawn, and how many it stands for; see KEY_SAMPLE."""

    key: bytes
    write: bool
    weight: float


@dataclass(frozen=True, slots=True)
class RouteKeys:
    """What a window tells of the keys of one route.

    Attributes:
        route_id: The route.
        untold_max: No key that is not among `hot_keys` was accessed more often.
        hot_keys: Heaviest first.
        samples: Each access of the route was as likely to be drawn.
    """

    route_id: int
    untold_max: int
    hot_keys: tuple[HotKeyCount, ...]
    samples: tuple[KeySample, ...]


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """One closed load window of one node: the rows of the groups that it led.

    Times are microseconds since the Unix epoch; `end_us` is exclusive. `keys` are those of the
    busiest routes, by route id.
    """

    node: int
    start_us: int
    end_us: int
    rows: tuple[LoadRow, ...]
    keys: tuple[RouteKeys, ...] = ()


class CursorTag(StrEnum):
    """What became of the version that a cursor names."""

    EMITTED = "emitted"
    SCANNED = "scanned"


@dataclass(frozen=True, slots=True)
class ExportCursor:
    """How far an export has come: it goes on strictly behind this version.

    Attributes:
        key: Of the last version that was passed.
        commit_ts: Of it (HLC).
        tag: Whether it was emitted, or only scanned as it is newer than the export's read_ts.
    """

    key: bytes
    commit_ts: int
    tag: CursorTag = CursorTag.EMITTED


@dataclass(frozen=True, slots=True)
class RestoreStatus:
    """How far the restore of a group has come.

    Attributes:
        group: Its id.
        restore_id: Of the newest restore, 16 bytes; empty where there never was one.
        restoring: Whether it is under way: the group answers no reads and takes no writes.
        seq: Number of the newest import that is complete; 0 for none.
        rows: Imported so far, also of an import that is not complete.
        max_commit_ts: The largest imported (HLC); 0 for none.
        offset: Rows that are there of the import behind `seq`.
    """

    group: int
    restore_id: bytes = b""
    restoring: bool = False
    seq: int = 0
    rows: int = 0
    max_commit_ts: int = 0
    offset: int = 0
