"""What a call still needs, request by request; one object per call under way.

    plan(routes) ──▶ requests to send now        taken(request, answer) ──▶ progress, or the end

| call  | requests                                                                            |
|-------|-------------------------------------------------------------------------------------|
| Write | one, to one group; under the same group and sequence until its fate is known        |
| Read  | one per group; where there are several, their timestamps first, and the latest wins |
| Scan  | the timestamps likewise, then group by group in key order                           |
| Ask   | itself, to one node after the other until one answers; it needs no routes           |

A group's own present may lag behind what another has acknowledged; the latest of all of them does
not. So a read of several groups misses nothing that was acknowledged before it began.

When to send, and where to, is the machine's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from workbench.client.values import (
    Ask,
    Page,
    Read,
    ReadRequest,
    Request,
    Scan,
    ScanRequest,
    Told,
    Write,
    WriteRequest,
)
from workbench.errors import Corruption
from workbench.model.node import GotMany, StoredVersion, Written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workbench.client.routes import Piece, RouteCache
    from workbench.client.values import Answer

READ_KEYS_MAX: Final = 4_096
READ_BYTES_MAX: Final = 2**20


@dataclass(slots=True)
class WriteOp:
    """A write under way.

    Attributes:
        call: As the caller gave it.
        group: That the request goes to; None before it was routed.
        sequence: Under which it goes there; 0 for none yet.
        in_flight: Whether an attempt is unanswered.
        unknown: Whether an attempt may have been carried out.
        result: None before the end.
    """

    call: Write
    group: int | None = None
    sequence: int = 0
    in_flight: bool = False
    unknown: bool = False
    result: Written | None = None

    def route(self, routes: RouteCache) -> int:
        """Return the group that the write goes to; it stays there until that group refuses."""
        if self.group is None:
            keys = [each.key for each in self.call.mutations]
            keys += [each.key for each in self.call.preconditions]
            self.group = routes.group(keys)
        return self.group

    def request(self, client_id: bytes) -> WriteRequest:
        """Return what to send, once there is a sequence for it."""
        assert self.group is not None
        self.in_flight = True
        return WriteRequest(
            self.group,
            self.call.mutations,
            self.call.preconditions,
            client_id if self.sequence else b"",
            self.sequence,
        )

    def taken(self, _: Request, answer: Answer) -> None:
        """Take the answer."""
        if not isinstance(answer, Written):
            raise _strange(answer)
        self.in_flight = False
        self.result = answer

    def given_back(self, _: Request) -> None:
        """Notice that an attempt has ended without an answer."""
        self.in_flight = False


@dataclass(slots=True)
class _Stamps:
    """One read_ts for several groups: the latest of what each of them calls its present."""

    asked: set[int] = field(default_factory=set)
    told: dict[int, int] = field(default_factory=dict)

    def missing(self, groups: Iterable[int]) -> list[ReadRequest]:
        """Return the requests that are still to be sent."""
        wanted = sorted(set(groups) - self.asked - self.told.keys())
        self.asked.update(wanted)
        return [ReadRequest(group, (), 0) for group in wanted]

    def latest(self, groups: Iterable[int]) -> int | None:
        """Return the timestamp once all groups have told theirs."""
        return max(self.told.values()) if set(groups) <= self.told.keys() else None

    def taken(self, request: ReadRequest, answer: GotMany) -> None:
        """Take a group's timestamp."""
        self.asked.discard(request.group)
        self.told[request.group] = answer.read_ts


@dataclass(slots=True)
class ReadOp:
    """A read under way."""

    call: Read
    read_ts: int = 0
    index: int = 0
    result: GotMany | None = None
    _stamps: _Stamps = field(default_factory=_Stamps)
    _sent: set[bytes] = field(default_factory=set)
    _found: dict[bytes, StoredVersion | None] = field(default_factory=dict)
    _requests: int = 0

    def plan(self, routes: RouteCache) -> list[Request]:
        """Return what to send now; Unavailable (`ownership_unknown`) where a key has no route."""
        self.read_ts = self.read_ts or self.call.read_ts
        left = [key for key in dict.fromkeys(self.call.keys) if key not in self._found]
        groups = routes.groups(key for key in left if key not in self._sent)
        if self.read_ts == 0 and not self._sent:
            parts = [part for group in groups for part in _parts(groups[group])]
            if len(parts) > 1:
                self.read_ts = self._stamps.latest(groups) or 0
                if self.read_ts == 0:
                    return [*self._stamps.missing(groups)]
        if self.read_ts == 0 and self._sent:
            return []
        requests: list[Request] = []
        for group, keys in groups.items():
            self._sent.update(keys)
            requests += (ReadRequest(group, part, self.read_ts) for part in _parts(keys))
        return requests

    def taken(self, request: Request, answer: Answer) -> None:
        """Take a group's answer."""
        if not isinstance(request, ReadRequest) or not isinstance(answer, GotMany):
            raise _strange(answer)
        if len(answer.versions) != len(request.keys):
            raise _strange(answer)
        if not request.keys:
            self._stamps.taken(request, answer)
            return
        self.read_ts = self.read_ts or answer.read_ts
        self._requests += 1
        self.index = answer.index if self._requests == 1 else 0
        self._sent.difference_update(request.keys)
        self._found.update(zip(request.keys, answer.versions, strict=True))
        if all(key in self._found for key in self.call.keys):
            versions = tuple(self._found[key] for key in self.call.keys)
            self.result = GotMany(self.read_ts, self.index, versions)

    def given_back(self, request: Request) -> None:
        """Notice that a request has ended without an answer."""
        assert isinstance(request, ReadRequest)
        self._stamps.asked.discard(request.group)
        self._sent.difference_update(request.keys)


@dataclass(slots=True)
class ScanOp:
    """A scan under way; `rows` are those that have come since they were last taken.

    The scan goes on behind `at`: from it on, forward; below it, in reverse.
    """

    call: Scan
    read_ts: int = 0
    left: int | None = None
    rows: list[tuple[bytes, StoredVersion]] = field(default_factory=list)
    result: int | None = None
    _low: bytes = b""
    _high: bytes | None = None
    _stamps: _Stamps = field(default_factory=_Stamps)
    _in_flight: bool = False

    def __post_init__(self) -> None:
        self.read_ts, self.left = self.call.read_ts, self.call.limit
        self._low, self._high = self.call.start, self.call.end

    def plan(self, routes: RouteCache) -> list[Request]:
        """Return what to send now; ends the scan where nothing is left."""
        if self._in_flight:
            return []
        pieces = [] if self._empty() else routes.pieces(self._low, self._high)
        groups = {piece.group for piece in pieces}
        if self.read_ts == 0 and len(groups) != 1:
            # Of an empty range too the caller is told as of when it was.
            groups = groups or {piece.group for piece in routes.pieces(b"", None)}
            self.read_ts = self._stamps.latest(groups) or 0
            if self.read_ts == 0:
                return [*self._stamps.missing(groups)]
        if not pieces:
            self.result = self.read_ts
            return []
        return [self._request(pieces[-1 if self.call.reverse else 0])]

    def taken(self, request: Request, answer: Answer) -> None:
        """Take a timestamp or a page."""
        if isinstance(request, ReadRequest) and isinstance(answer, GotMany):
            self._stamps.taken(request, answer)
            return
        if not isinstance(request, ScanRequest) or not isinstance(answer, Page):
            raise _strange(answer)
        self.read_ts = self.read_ts or answer.read_ts
        self.rows += answer.rows
        self.left = None if self.left is None else self.left - len(answer.rows)
        self._go_on_behind(answer)
        if answer.done:
            self._in_flight = False
            self._close(request)

    def _go_on_behind(self, page: Page) -> None:
        """Leave out of what is still to be asked for what a page has covered, rows or none."""
        if self.call.reverse:
            end = page.next_key or (page.rows[-1][0] if page.rows else None)
            self._high = self._high if end is None else end
        elif page.next_key or page.rows:
            self._low = page.next_key or page.rows[-1][0] + b"\x00"

    def given_back(self, request: Request) -> None:
        """Notice that a request has ended before its last page."""
        if isinstance(request, ReadRequest):
            self._stamps.asked.discard(request.group)
        else:
            self._in_flight = False

    def take_rows(self) -> tuple[tuple[bytes, StoredVersion], ...]:
        """Return the rows that have come, and let go of them."""
        rows, self.rows = tuple(self.rows), []
        return rows

    def _close(self, request: ScanRequest) -> None:
        """Go on behind a piece of which nothing is left."""
        if self.left is not None and self.left <= 0:
            self.result = self.read_ts
        elif self.call.reverse:
            self._high = request.start
            if self._empty():
                self.result = self.read_ts
        elif request.end is None:
            self.result = self.read_ts
        else:
            self._low = request.end

    def _empty(self) -> bool:
        nothing = self.left is not None and self.left <= 0
        return nothing or (self._high is not None and self._low >= self._high)

    def _request(self, piece: Piece) -> ScanRequest:
        self._in_flight = True
        return ScanRequest(
            piece.group,
            piece.start,
            piece.end,
            self.read_ts,
            self.left,
            self.call.reverse,
            self.call.keys_only,
        )


@dataclass(slots=True)
class AskOp:
    """An Ask under way.

    Attributes:
        call: As the caller gave it.
        in_flight: Whether an attempt is unanswered.
        nobody: Addresses at which nobody answers, since somebody last did.
        result: None before the end.
    """

    call: Ask
    in_flight: bool = False
    nobody: set[str] = field(default_factory=set)
    result: Told | None = None

    def plan(self, _: RouteCache) -> list[Request]:
        """Return what to send now."""
        if self.in_flight or self.result is not None:
            return []
        self.in_flight = True
        return [self.call]

    def taken(self, _: Request, answer: Answer) -> None:
        """Take the answer."""
        if not isinstance(answer, Told):
            raise _strange(answer)
        self.in_flight = False
        self.result = answer

    def given_back(self, _: Request) -> None:
        """Notice that an attempt has ended without an answer."""
        self.in_flight = False


Operation: TypeAlias = WriteOp | ReadOp | ScanOp | AskOp


def operation_of(call: Write | Read | Scan | Ask) -> Operation:
    """Return what carries a call out."""
    match call:
        case Write():
            return WriteOp(call)
        case Read():
            return ReadOp(call)
        case Scan():
            return ScanOp(call)
        case Ask():
            return AskOp(call)


def _parts(keys: list[bytes]) -> list[tuple[bytes, ...]]:
    """Return keys of one group as parts that a request may carry."""
    parts: list[tuple[bytes, ...]] = []
    part: list[bytes] = []
    size = 0
    for key in keys:
        if part and (len(part) == READ_KEYS_MAX or size + len(key) > READ_BYTES_MAX):
            parts.append(tuple(part))
            part, size = [], 0
        part.append(key)
        size += len(key)
    return [*parts, tuple(part)] if part else parts


def _strange(answer: Answer) -> Corruption:
    return Corruption(
        f"{type(answer).__name__} does not answer what was asked",
        code="answer_malformed",
        hint="check which program serves the address",
    )
