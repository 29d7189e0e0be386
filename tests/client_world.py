"""A cluster in memory for the client's machine: groups, leaders that move, routes that change.

Requests and answers lie in a list until the test delivers, loses or copies them. A group keeps
versions and the first result per client and sequence, as a node's group does.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace

from workbench.client.machine import Client, Options
from workbench.client.values import (
    Cancel,
    Done,
    Failed,
    Page,
    ReadRequest,
    RoutesRequest,
    Rows,
    ScanRequest,
    Send,
    WatchRoutes,
    WriteRequest,
    failure_of,
)
from workbench.errors import Conflict, OutcomeUnknown, Unavailable
from workbench.model.keys import Span
from workbench.model.node import GotMany, StoredVersion, Written
from workbench.model.routes import RouteDescriptor
from workbench.routing.records import MutationOp, RouteDelta, RouteMutation
from workbench.routing.table import RouteTable

CLIENT_ID = b"c" * 16
PAGE_ROWS = 2


@dataclass
class GroupState:
    """One group: what it owns, stores and remembers."""

    spans: list[Span]
    versions: dict[bytes, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    results: dict[tuple[bytes, int], Written] = field(default_factory=dict)
    index: int = 0


class World:
    """Nodes `n0`, `n1`, …; group g is led by one of them."""

    def __init__(self, groups=2, nodes=3):
        step = 256 // groups
        bounds = [b"", *(bytes([step * each]) for each in range(1, groups)), None]
        self.addresses = [f"n{each}" for each in range(nodes)]
        self.groups = {
            each + 1: GroupState([Span(bounds[each], bounds[each + 1])]) for each in range(groups)
        }
        self.leaders = {group: self.addresses[group % nodes] for group in self.groups}
        self.tables = [
            RouteTable(
                1,
                tuple(
                    RouteDescriptor(group, state.spans[0], group)
                    for group, state in self.groups.items()
                ),
            )
        ]
        self.deltas = []
        self.clock = 1_000
        self.dedupe = True
        self.applied = []  # (client id, sequence, mutations, commit_ts), in order

    @property
    def table(self):
        return self.tables[-1]

    def change(self, gone, come):
        """Make the next catalog version."""
        table = self.table
        mutations = (
            *(RouteMutation(MutationOp.DELETE, each.route_id, None) for each in gone),
            *(RouteMutation(MutationOp.UPSERT, each.route_id, each) for each in come),
        )
        kept = [each for each in table.routes if each not in gone]
        self.tables.append(RouteTable(table.version + 1, (*kept, *come)))
        self.deltas.append(RouteDelta(table.version, table.version + 1, mutations))

    def split(self, key):
        """Split the route that holds `key` there, inside its group."""
        parent = self.table.lookup(key)
        if parent is None or parent.span.start == key:
            return
        first = max(each.route_id for table in self.tables for each in table.routes) + 1
        left = replace(parent, route_id=first, span=Span(parent.span.start, key))
        right = replace(parent, route_id=first + 1, span=Span(key, parent.span.end))
        self.change([parent], [left, right])

    def move(self, key, group):
        """Give the route that holds `key` to another group, with all that belongs to it."""
        route = self.table.lookup(key)
        if route is None or route.group == group or group not in self.groups:
            return
        source, target = self.groups[route.group], self.groups[group]
        for each in [each for each in source.versions if each in route.span]:
            target.versions[each] = source.versions.pop(each)
        target.results |= source.results
        self.groups[route.group].spans = [
            each.span for each in self.table.routes if each.group == route.group and each != route
        ]
        target.spans = [*target.spans, route.span]
        first = max(each.route_id for table in self.tables for each in table.routes) + 1
        self.change([route], [replace(route, route_id=first, group=group)])

    def answer(self, address, request):
        """Return what a node answers, or raise what it refuses with."""
        if isinstance(request, RoutesRequest):
            return self.table
        leader = self.leaders[request.group]
        if leader != address:
            raise Moved(leader)
        group = self.groups[request.group]
        match request:
            case WriteRequest():
                return self._write(group, request)
            case ReadRequest():
                self._check(group, request.keys)
                read_ts = request.read_ts or self._tick()
                self.clock = max(self.clock, read_ts)
                versions = tuple(self.visible(group, key, read_ts) for key in request.keys)
                return GotMany(read_ts, group.index, versions)
            case ScanRequest():
                return self._scan(group, request)

    def visible(self, group, key, read_ts):
        for commit_ts, value in reversed(group.versions.get(key, [])):
            if commit_ts <= read_ts:
                return None if value is None else StoredVersion(value, commit_ts)
        return None

    def model(self, read_ts):
        """Return all rows as of `read_ts`, from what was applied."""
        rows = {}
        for _, _, mutations, commit_ts in self.applied:
            if commit_ts <= read_ts:
                for each in mutations:
                    rows[each.key] = (each.value, commit_ts)
        return {key: row for key, row in sorted(rows.items()) if row[0] is not None}

    def _tick(self):
        self.clock += 1
        return self.clock

    def _owns(self, group, key):
        return any(key in span for span in group.spans)

    def _check(self, group, keys):
        if not all(self._owns(group, key) for key in keys):
            raise Unavailable("not the owner", code="ownership_unknown")

    def _write(self, group, request):
        at = request.client_id, request.sequence
        if self.dedupe and request.sequence and at in group.results:
            return group.results[at]
        keys = [each.key for each in request.mutations]
        self._check(group, keys)
        for each in request.preconditions:
            stored = group.versions.get(each.key, [])
            newest = stored[-1][0] if stored else None
            if each.commit_ts != newest:
                raise Conflict("changed", code="precondition_failed")
        commit_ts = self._tick()
        group.index += 1
        for each in request.mutations:
            group.versions.setdefault(each.key, []).append((commit_ts, each.value))
        self.applied.append((*at, request.mutations, commit_ts))
        written = Written(commit_ts, group.index)
        if request.sequence:
            group.results[at] = written
        return written

    def _scan(self, group, request):
        covered = request.start
        for span in sorted(group.spans, key=lambda each: each.start):
            if span.start <= covered and (span.end is None or span.end > covered):
                covered = span.end
                if covered is None:
                    break
        if covered is not None and (request.end is None or covered < request.end):
            raise Unavailable("not the owner", code="ownership_unknown")
        read_ts = request.read_ts or self._tick()
        self.clock = max(self.clock, read_ts)
        rows = [
            (key, found)
            for key in sorted(group.versions, reverse=request.reverse)
            if request.start <= key and (request.end is None or key < request.end)
            if (found := self.visible(group, key, read_ts)) is not None
        ]
        limit = PAGE_ROWS if request.limit is None else min(PAGE_ROWS, request.limit)
        done = len(rows) <= limit or request.limit == limit
        shown = tuple(rows[:limit])
        if done:
            return Page(read_ts, shown, done)
        following = rows[limit][0]
        # As a node may: a page of fewer rows, or none, that says how far it has looked.
        if self._tick() % 3 == 0:
            first = rows[0][0]
            return Page(
                read_ts, (), done=False, next_key=first + b"\x00" if request.reverse else first
            )
        return Page(
            read_ts, shown, done=False, next_key=shown[-1][0] if request.reverse else following
        )


class Moved(Exception):  # noqa: N818 - an answer, not an error
    """Another node leads."""

    def __init__(self, address):
        super().__init__(address)
        self.address = address


class Bench:
    """A client's machine, the world, and the messages between them."""

    def __init__(self, world=None, **options):
        self.world = world or World()
        self.client = Client(self.world.addresses, CLIENT_ID, Options(**options))
        self.now_ms = 0
        self.wires = []  # Sends on their way
        self.delayed = []  # requests whose caller was told that they are lost
        self.watches = {}  # attempt: (address, version told)
        self.rows = {}
        self.ends = {}
        self.sent = []

    def start(self, call, timeout_ms=5_000):
        number = self.client.start(call, self.now_ms, timeout_ms=timeout_ms)
        self.rows[number] = []
        self.take()
        return number

    def take(self):
        """Carry out what the machine wants."""
        for effect in self.client.effects():
            match effect:
                case Send():
                    self.wires.append(effect)
                    self.sent.append(effect)
                case WatchRoutes():
                    self.watches[effect.attempt] = (effect.address, effect.after_version)
                case Cancel():
                    self.watches.pop(effect.attempt, None)
                    for each in [e for e in self.wires if e.attempt == effect.attempt]:
                        self.wires.remove(each)
                        self.delayed.append(each)
                case Rows():
                    self.rows[effect.call] += effect.rows
                case Done():
                    assert effect.call not in self.ends
                    self.ends[effect.call] = effect.result
                case Failed():
                    assert effect.call not in self.ends
                    self.ends[effect.call] = effect.error

    def deliver(self, at=0, *, answer_lost=False):
        """Let a node carry a request out, and tell of it, or lose the answer."""
        send = self.wires.pop(at)
        writes = isinstance(send.request, WriteRequest)
        try:
            answer = self.world.answer(send.address, send.request)
        except Moved as moved:
            error = Unavailable("elsewhere", code="not_leader")
            self._fail(send, failure_of(error, writes=writes, leader=moved.address))
        except (Unavailable, Conflict) as error:
            self._fail(send, failure_of(error, writes=writes))
        else:
            if answer_lost:
                self._lost(send)
            else:
                if isinstance(answer, Page) and not answer.done:
                    self._page_on(send, answer)
                self.client.answered(send.attempt, answer, self.now_ms)
        self.take()

    def lose(self, at=0):
        """Lose a request; it may come later all the same."""
        send = self.wires.pop(at)
        self.delayed.append(send)
        self._lost(send)
        self.take()

    def arrive_late(self, at=0):
        """Let a request arrive that nobody waits for any more."""
        send = self.delayed.pop(at)
        with contextlib.suppress(Moved, Unavailable, Conflict):
            self.world.answer(send.address, send.request)

    def unreachable(self, at=0):
        """Refuse a connection: nothing is sent."""
        send = self.wires.pop(at)
        error = Unavailable("no connection", code="node_unreachable")
        self._fail(send, failure_of(error, writes=True))
        self.take()

    def watch(self):
        """Tell the next event of the watch, or that it has to be elsewhere."""
        for attempt, (address, version) in list(self.watches.items()):
            if address != self.world.leaders[1]:
                error = Unavailable("elsewhere", code="not_leader")
                del self.watches[attempt]
                leader = self.world.leaders[1]
                self.client.failed(
                    attempt, failure_of(error, writes=False, leader=leader), self.now_ms
                )
            elif version < self.world.table.version:
                delta = next(each for each in self.world.deltas if each.version == version + 1)
                self.watches[attempt] = (address, version + 1)
                self.client.watched(attempt, delta, self.now_ms)
        self.take()

    def pass_time(self, by_ms=None):
        """Let time pass, by default until something is due."""
        due = self.client.wake_at_ms
        self.now_ms = max(self.now_ms, due or 0) if by_ms is None else self.now_ms + by_ms
        self.client.tick(self.now_ms)
        self.take()

    def settle(self, call, rounds=400):
        """Deliver all, let time pass, and return how a call ended."""
        for _ in range(rounds):
            if call in self.ends:
                return self.ends[call]
            if self.wires:
                self.deliver()
            else:
                self.watch()
                self.pass_time()
        raise AssertionError("the call does not end")

    def _page_on(self, send, page):
        """Ask for what follows a page, as a stream does."""
        request = send.request
        left = None if request.limit is None else request.limit - len(page.rows)
        following = (
            replace(request, end=page.next_key, read_ts=page.read_ts, limit=left)
            if request.reverse
            else replace(request, start=page.next_key, read_ts=page.read_ts, limit=left)
        )
        self.wires.append(replace(send, request=following))

    def _lost(self, send):
        writes = isinstance(send.request, WriteRequest)
        error = (
            OutcomeUnknown("no answer", code="connection_lost")
            if writes
            else Unavailable("no answer", code="connection_lost")
        )
        self._fail(send, failure_of(error, writes=writes))

    def _fail(self, send, failure):
        self.client.failed(send.attempt, failure, self.now_ms)
