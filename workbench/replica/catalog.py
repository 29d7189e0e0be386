"""The route catalog inside the catalog group: its rows, as versions like any other key's.

    SplitRange ──▶ routing.rules.split_route ──▶ rows, counters and delta, one batch, one commit_ts

Rules:
- The rows are the truth; what is held in memory is what a restart reads from them.
- A split asked for again under its request id is answered with its first result. The newest
  SPLIT_REQUESTS_MAX are kept; one that is older finds another catalog version and changes
  nothing.
- A restore puts a whole set of routes in place of what is there, and writes only the rows that
  differ. There is no delta that leads to it, so none is kept from before.
- Deltas of the newest DELTAS_MAX versions are kept. `delta_floor` is the newest version whose
  delta is gone: a watcher that has seen it, or a later one, can go on by deltas alone. The
  bootstrap has no delta, so the floor begins at 1.

Who may split, and when, is decided in `routing.rules`; this module turns it into rows.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from workbench.errors import Conflict, Corruption, InvalidInput, NotFound, Unavailable
from workbench.model.recovery import DAMAGED_NODE_HINT
from workbench.model.routes import RESERVED_PREFIX, check_routes
from workbench.mvcc.encoding import encode_value, version_key
from workbench.mvcc.versions import get, scan
from workbench.replica.commands import RoutesSaved, SplitDone, SplitRange
from workbench.replica.layout import (
    FORMAT,
    REQUESTS,
    VERSIONS,
    check_format,
    corrupt,
    family,
    family_end,
    under,
)
from workbench.routing.records import (
    META_DELTA_FLOOR,
    META_NEXT_ROUTE_ID,
    META_VERSION,
    ROUTE_PREFIX,
    decode_counter,
    decode_delta_row,
    decode_route,
    decode_route_row,
    delta_key,
    encode_counter,
    encode_delta,
    encode_route,
    route_key,
)
from workbench.routing.rules import (
    CatalogState,
    SplitPlan,
    bootstrap_state,
    replaced_state,
    split_route,
)
from workbench.routing.table import RouteTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from workbench.model.routes import RouteDescriptor
    from workbench.ports.storage import Change, Engine
    from workbench.replica.commands import SaveRoutes
    from workbench.routing.records import RouteDelta

DELTAS_MAX: Final = 1_024
SPLIT_REQUESTS_MAX: Final = 1_024
SEED_VERSION: Final = 1
# The lowest key above all reserved ones.
RESERVED_END: Final = RESERVED_PREFIX[:-1] + bytes([RESERVED_PREFIX[-1] + 1])

_NEWEST: Final = 2**64 - 1
_REQUEST: Final = struct.Struct(">BQQI")


class Catalog:
    """The route catalog of one group, as found in its engine.

    Attributes:
        state: The newest; None before the bootstrap.
        table: The same, for lookups.
        delta_floor: Newest version whose delta is not kept.
    """

    def __init__(self, group: int, engine: Engine) -> None:
        self._prefix = family(group, VERSIONS)
        self._requests = _Requests(group, engine)
        self.state: CatalogState | None = None
        self.table: RouteTable | None = None
        self.delta_floor = 0
        self._load(engine)

    def seed(self, routes: Iterable[RouteDescriptor], commit_ts: int) -> Iterator[Change]:
        """Store the seed routes as the first version; yield the engine's changes.

        Raises:
            InvalidInput: they break a rule of routes.
        """
        state = bootstrap_state(routes)
        assert state.version == SEED_VERSION
        for route in state.routes:
            yield self._row(route_key(route.route_id), encode_route(route), commit_ts)
        yield self._row(META_DELTA_FLOOR, encode_counter(SEED_VERSION), commit_ts)
        self.delta_floor = SEED_VERSION
        yield from self._counters(state, commit_ts)
        self._replace(state)

    def split(self, command: SplitRange, commit_ts: int) -> tuple[SplitDone, list[Change]]:
        """Split a route; return the result and the engine's changes, none for a repetition.

        Raises:
            WorkbenchError: as `routing.rules.split_route`; Conflict (`request_id_reused`) where
                the request id belongs to another split; Unavailable (`catalog_absent`) before
                the bootstrap.
        """
        if command.request_id:
            done = self._requests.find(command)
            if done is not None:
                return done, []
        if self.state is None:
            raise catalog_absent()
        plan = split_route(
            self.state,
            expected_version=command.expected_version,
            route_id=command.route_id,
            split_key=command.split_key,
            commit_ts=commit_ts,
        )
        done = SplitDone(plan.state_after.version, plan.left, plan.right, repeated=False)
        changes = [*self._split_rows(plan, command.route_id, commit_ts)]
        if command.request_id:
            changes += self._requests.store(command.request_id, done)
        self._replace(plan.state_after)
        return done, changes

    def save(self, command: SaveRoutes, commit_ts: int) -> tuple[RoutesSaved, list[Change]]:
        """Put routes in place of all others; no changes where they are there already.

        Raises:
            WorkbenchError: as `routing.rules.replaced_state`; Unavailable (`catalog_absent`)
                before the bootstrap.
        """
        if self.state is None:
            raise catalog_absent()
        before = self.state
        after = replaced_state(
            before,
            expected_version=command.expected_version,
            version=command.version,
            next_route_id=command.next_route_id,
            routes=command.routes,
        )
        changes: list[Change] = []
        if after is not before:
            changes += self._differing_rows(before, after, commit_ts)
            changes += self._counters(after, commit_ts)
            self._replace(after)
        return RoutesSaved(after.version), changes

    def _differing_rows(
        self, before: CatalogState, after: CatalogState, commit_ts: int
    ) -> Iterator[Change]:
        stored = {route.route_id: route for route in before.routes}
        for route in after.routes:
            if stored.pop(route.route_id, None) != route:
                yield self._row(route_key(route.route_id), encode_route(route), commit_ts)
        for route_id in stored:
            yield self._row(route_key(route_id), None, commit_ts)
        if after.version == before.version:
            return
        for gone in range(self.delta_floor + 1, before.version + 1):
            yield self._row(delta_key(gone), None, commit_ts)
        self.delta_floor = after.version
        yield self._row(META_DELTA_FLOOR, encode_counter(after.version), commit_ts)

    def at(self, engine: Engine, read_ts: int) -> CatalogState | None:
        """Return the catalog as of `read_ts` (HLC), None where it had not begun.

        Raises:
            Corruption: a stored record cannot be decoded; names the engine key.
        """
        version = self._counter(engine, META_VERSION, read_ts, zero_allowed=True)
        if not version:
            return None
        routes: list[RouteDescriptor] = []
        end = ROUTE_PREFIX[:-1] + bytes([ROUTE_PREFIX[-1] + 1])
        for key, stored in scan(engine, self._prefix, ROUTE_PREFIX, end, read_ts):
            try:
                routes.append(decode_route_row(key, stored.value))
            except Corruption as error:
                raise under(version_key(self._prefix, key, stored.commit_ts), error) from error
        next_route_id = self._counter(engine, META_NEXT_ROUTE_ID, read_ts)
        routes.sort(key=lambda route: route.span.start)
        try:
            check_routes(routes)
        except InvalidInput as error:
            row = version_key(self._prefix, META_VERSION, read_ts)
            raise corrupt(row, f"version {version}: {error.message}") from error
        return CatalogState(version, next_route_id, tuple(routes))

    def deltas(self, engine: Engine, after: int, limit: int) -> tuple[RouteDelta, ...]:
        """Return at most `limit` deltas from version `after` on, none where its delta is gone.

        Raises:
            InvalidInput: `watch_cursor_ahead`: there is no such version yet.
            Corruption: `delta_missing`: one that must be kept is not there; or it cannot be
                decoded.
        """
        assert self.state is not None
        newest = self.state.version
        if after > newest:
            raise InvalidInput(
                f"catalog version {after} has not been made, the newest is {newest}",
                code="watch_cursor_ahead",
                hint="list the routes, and watch from the version that they have",
            )
        if after < self.delta_floor:
            return ()
        last = min(newest, after + limit)
        return tuple(self._delta(engine, version)[0] for version in range(after + 1, last + 1))

    def at_version(self, engine: Engine, version: int) -> CatalogState:
        """Return the catalog as of a version.

        Raises:
            NotFound: `catalog_version_not_kept`.
            Unavailable: `catalog_version_ahead`.
            Corruption: a stored record cannot be decoded; names the engine key.
        """
        assert self.state is not None
        if version == self.state.version:
            return self.state
        if version > self.state.version:
            raise Unavailable(
                f"catalog version {version} has not been made, the newest is {self.state.version}",
                code="catalog_version_ahead",
                hint="see `workbench routes history` for those that were, or wait for it",
            )
        if version < self.delta_floor:
            raise NotFound(
                f"catalog version {version} is not kept, the oldest is {self.delta_floor}",
                code="catalog_version_not_kept",
                hint="ask the analytical catalog, where `workbench collect` records versions",
            )
        # The next delta was committed together with the rows that replaced these.
        state = self.at(engine, self._delta(engine, version + 1)[1] - 1)
        assert state is not None
        assert state.version == version
        return state

    def _delta(self, engine: Engine, version: int) -> tuple[RouteDelta, int]:
        """Return a delta that must be kept, and its commit_ts."""
        key = delta_key(version)
        stored = get(engine, self._prefix, key, _NEWEST)
        if stored is None:
            raise Corruption(
                f"the delta of catalog version {version} is missing, those above "
                f"{self.delta_floor} must be kept",
                code="delta_missing",
                hint=DAMAGED_NODE_HINT,
            )
        try:
            return decode_delta_row(key, stored.value), stored.commit_ts
        except Corruption as error:
            raise under(version_key(self._prefix, key, stored.commit_ts), error) from error

    def _split_rows(self, plan: SplitPlan, parent_id: int, commit_ts: int) -> Iterator[Change]:
        yield self._row(route_key(parent_id), None, commit_ts)
        for child in (plan.left, plan.right):
            yield self._row(route_key(child.route_id), encode_route(child), commit_ts)
        version = plan.state_after.version
        yield self._row(delta_key(version), encode_delta(plan.delta), commit_ts)
        yield from self._counters(plan.state_after, commit_ts)
        floor = version - DELTAS_MAX
        if floor > self.delta_floor:
            for gone in range(self.delta_floor + 1, floor + 1):
                yield self._row(delta_key(gone), None, commit_ts)
            self.delta_floor = floor
            yield self._row(META_DELTA_FLOOR, encode_counter(floor), commit_ts)

    def _counters(self, state: CatalogState, commit_ts: int) -> Iterator[Change]:
        yield self._row(META_VERSION, encode_counter(state.version), commit_ts)
        yield self._row(META_NEXT_ROUTE_ID, encode_counter(state.next_route_id), commit_ts)

    def _row(self, key: bytes, value: bytes | None, commit_ts: int) -> Change:
        return version_key(self._prefix, key, commit_ts), encode_value(value)

    def _replace(self, state: CatalogState) -> None:
        self.state = state
        self.table = RouteTable(state.version, state.routes)

    def _load(self, engine: Engine) -> None:
        state = self.at(engine, _NEWEST)
        if state is not None:
            self.delta_floor = self._counter(engine, META_DELTA_FLOOR, _NEWEST)
            self._replace(state)

    def _counter(
        self, engine: Engine, key: bytes, read_ts: int, *, zero_allowed: bool = False
    ) -> int:
        stored = get(engine, self._prefix, key, read_ts)
        if stored is None:
            return 0
        try:
            what = key.rpartition(b"|")[2].decode("ascii")
            return decode_counter(stored.value, what=what, zero_allowed=zero_allowed)
        except Corruption as error:
            raise under(version_key(self._prefix, key, stored.commit_ts), error) from error


class _Requests:
    """The first result of each split that had a request id, oldest first."""

    def __init__(self, group: int, engine: Engine) -> None:
        self._prefix = family(group, REQUESTS)
        skip = len(self._prefix)
        rows = engine.scan(self._prefix, family_end(group, REQUESTS))
        found = [(key[skip:], _decode_done(key, value)) for key, value in rows]
        # Versions strictly increase, one per split.
        found.sort(key=lambda row: row[1].catalog_version)
        self._kept = OrderedDict(found)

    def find(self, command: SplitRange) -> SplitDone | None:
        """Return the first result under this request id, None where there is none."""
        done = self._kept.get(command.request_id)
        if done is None:
            return None
        asked = (command.expected_version + 1, command.route_id, command.split_key)
        if asked != (done.catalog_version, done.left.parent_route_id, done.right.span.start):
            raise Conflict(
                f"request id {command.request_id.hex()} belongs to the split of route "
                f"{done.left.parent_route_id} that made version {done.catalog_version}",
                code="request_id_reused",
                hint="take a new request id for every split",
            )
        return replace(done, repeated=True)

    def store(self, request_id: bytes, done: SplitDone) -> Iterator[Change]:
        """Keep a result, drop the oldest beyond the bound; yield the engine's changes."""
        self._kept[request_id] = done
        yield self._prefix + request_id, _encode_done(done)
        if len(self._kept) > SPLIT_REQUESTS_MAX:
            oldest, _ = self._kept.popitem(last=False)
            yield self._prefix + oldest, None


def catalog_absent() -> Unavailable:
    """Return the error for a group that does not have the route catalog."""
    return Unavailable(
        "this group does not have the route catalog",
        code="catalog_absent",
        hint="ask the catalog group",
    )


def _encode_done(done: SplitDone) -> bytes:
    left, right = encode_route(done.left), encode_route(done.right)
    commit_ts = done.left.split_at_hlc
    return _REQUEST.pack(FORMAT, done.catalog_version, commit_ts, len(left)) + left + right


def _decode_done(key: bytes, value: bytes) -> SplitDone:
    check_format(key, value, _REQUEST.size)
    _, version, commit_ts, left_bytes = _REQUEST.unpack_from(value)
    middle = _REQUEST.size + left_bytes
    try:
        left, right = decode_route(value[_REQUEST.size : middle]), decode_route(value[middle:])
    except Corruption as error:
        raise under(key, error) from error
    if left.split_at_hlc != commit_ts:
        raise corrupt(key, f"children of {left.split_at_hlc} in a split of {commit_ts}")
    return SplitDone(version, left, right, repeated=False)
