"""What goes into the client's machine and what comes out of it, as values.

    Write, Read, Scan, Ask ──▶ ┌ Client ┐ ──▶ Send, WatchRoutes, Cancel   to the network
                               │        │ ◀── answers, Failure, Page      from it
                               └────────┘ ──▶ Rows, Done, Failed          to the caller

Times are Unix milliseconds, timestamps HLC. Nothing here decides anything but `failure_of`, which
tells what an error of a call means for a repetition of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, TypeAlias

from workbench.errors import Internal, OutcomeUnknown, Unavailable
from workbench.model.node import GotMany, StoredVersion, Written
from workbench.routing.table import RouteTable

if TYPE_CHECKING:
    from workbench.errors import WorkbenchError

# Whom one node cannot help, another one may, or the same one soon.
_ELSEWHERE: Final = frozenset(
    {
        *("node_unreachable", "node_stopping", "connection_lost", "clock_behind"),
        *("not_leader", "leader_unknown", "leader_unreachable", "catalog_leader_unknown"),
    }
)
# The node keeps nothing any more by which it could tell whether the write was made.
_NEVER_KNOWN: Final = frozenset({"dedupe_expired"})


@dataclass(frozen=True, slots=True)
class Mutation:
    """A put of `value` under `key`, or with None its deletion.

    Attributes:
        key: Any bytes up to the limit.
        value: What a get returns.
        expire_at_ms: Reads at or after it find nothing; 0 for never.
    """

    key: bytes
    value: bytes | None
    expire_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must hold of a key at the write's commit, else nothing is written.

    Attributes:
        key: Of the same group as the mutations.
        commit_ts: Of its newest version, deletions included; None: it has no value.
    """

    key: bytes
    commit_ts: int | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Mutations that become visible together; all keys of one group.

    Attributes:
        mutations: Of several of one key the last one stays.
        preconditions: All must hold.
        exactly_once: Repeated under one sequence where its outcome is unknown; else never.
    """

    mutations: tuple[Mutation, ...]
    preconditions: tuple[Precondition, ...] = ()
    exactly_once: bool = True


@dataclass(frozen=True, slots=True)
class Read:
    """The values of keys of any groups, all as of one moment; read_ts 0 is the newest."""

    keys: tuple[bytes, ...]
    read_ts: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """The rows of [start, end) of all groups, all as of one moment.

    Attributes:
        start: Inclusive.
        end: Exclusive; None for no upper bound.
        read_ts: 0 is the newest.
        limit: Of rows; None for all.
        reverse: Descending.
        keys_only: Values are left empty.
    """

    start: bytes = b""
    end: bytes | None = None
    read_ts: int = 0
    limit: int | None = None
    reverse: bool = False
    keys_only: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A call about anything but keys and values: routes, splits, load, history, members.

    Attributes:
        what: To ask, as the shell understands it.
        group: Whose leader should answer; 0: any node.
        address: Who alone can answer; None: whoever does.
        writes: It may change something when it arrives twice: sent again only where it
            certainly was not carried out.
        quick: One attempt gets no longer than one of a read; else all the time that is left.
    """

    what: object
    group: int = 0
    address: str | None = None
    writes: bool = False
    quick: bool = False


Call: TypeAlias = Write | Read | Scan | Ask


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A write as one group gets it; client_id b"" and sequence 0 for at-least-once."""

    group: int
    mutations: tuple[Mutation, ...]
    preconditions: tuple[Precondition, ...]
    client_id: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Keys of one group; without keys the answer is the group's read_ts alone."""

    group: int
    keys: tuple[bytes, ...]
    read_ts: int


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """A range that one group owns; answered page by page."""

    group: int
    start: bytes
    end: bytes | None
    read_ts: int
    limit: int | None
    reverse: bool
    keys_only: bool


@dataclass(frozen=True, slots=True)
class RoutesRequest:
    """All routes of the newest catalog version."""

    group: int


Request: TypeAlias = WriteRequest | ReadRequest | ScanRequest | RoutesRequest | Ask


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a ScanRequest, in its order.

    Attributes:
        read_ts: As of when all of them are.
        rows: May be none, also where more follow.
        done: Nothing follows.
        next_key: Where what follows starts, or in reverse where it ends; b"" for behind the last
            row.
    """

    read_ts: int
    rows: tuple[tuple[bytes, StoredVersion], ...]
    done: bool
    next_key: bytes = b""


@dataclass(frozen=True, slots=True)
class Told:
    """What an Ask brought, as the shell understands it."""

    value: object


Answer: TypeAlias = Written | GotMany | Page | RouteTable | Told


class Fate(Enum):
    """What a failed request means for the next one."""

    NOT_DONE = auto()  # nothing happened: safe to repeat, here or elsewhere
    STALE_ROUTES = auto()  # nothing happened: another group owns the keys
    UNKNOWN = auto()  # it may have been carried out
    REFUSED = auto()  # repeating it would not help
    UNIMPLEMENTED = auto()  # the server does not know the method


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request ended that brought no answer.

    Attributes:
        fate: What it means.
        error: For the caller, should it be the last one.
        leader: Where the group's calls go, as the server says; None where it does not.
    """

    fate: Fate
    error: WorkbenchError
    leader: str | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Make a call; tell `answered`, of a scan page by page, or `failed` under its attempt.

    Attributes:
        attempt: Its number.
        address: Whom to call.
        request: What to ask.
        timeout_ms: When to give up.
        call: On whose behalf; 0 for the client's own.
    """

    attempt: int
    address: str
    request: Request
    timeout_ms: int
    call: int = 0


@dataclass(frozen=True, slots=True)
class WatchRoutes:
    """Watch the route catalog; tell `watched` for every event, `failed` when it ends."""

    attempt: int
    address: str
    after_version: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this attempt any more."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a scan, in its order; more may follow."""

    call: int
    rows: tuple[tuple[bytes, StoredVersion], ...]


@dataclass(frozen=True, slots=True)
class Done:
    """A call has ended well.

    Attributes:
        call: Its number.
        result: Written of a Write, GotMany of a Read (its index is 0 where several groups
            answered), the read_ts of a Scan, after its last rows; Told of an Ask.
    """

    call: int
    result: Written | GotMany | int | Told


@dataclass(frozen=True, slots=True)
class Failed:
    """A call has ended without a result."""

    call: int
    error: WorkbenchError


Effect: TypeAlias = Send | WatchRoutes | Cancel | Rows | Done | Failed


def may_ask_again(error: WorkbenchError) -> bool:
    """Tell whether an Ask that ended so may be answered elsewhere, or soon.

    What a group refuses for reasons of its own is for the caller to wait for.
    """
    return error.code in _ELSEWHERE


def failure_of(error: WorkbenchError, *, writes: bool, leader: str | None = None) -> Failure:
    """Return what an error of a call means for a repetition of it.

    Args:
        error: As the connection or the server gave it.
        writes: Whether the call could change anything.
        leader: Where the server says that the group's calls go.
    """
    if error.code == "status_unimplemented":
        return Failure(Fate.UNIMPLEMENTED, error, leader)
    if error.code in _NEVER_KNOWN:
        return Failure(Fate.REFUSED, error, leader)
    if isinstance(error, OutcomeUnknown) or (writes and isinstance(error, Internal)):
        return Failure(Fate.UNKNOWN, error, leader)
    # A call that had keys of one group when it was made may have those of two where it arrives.
    if error.code in {"ownership_unknown", "batch_spans_groups"}:
        return Failure(Fate.STALE_ROUTES, error, leader)
    if isinstance(error, Unavailable) and (error.retryable or leader is not None):
        return Failure(Fate.NOT_DONE, error, leader)
    return Failure(Fate.REFUSED, error, leader)
