"""The routes that a client knows: which group owns what, kept new by deltas.

    ListRoutes ──▶ table of version 7 ──delta 7→8──▶ table of version 8 ──delta 9→10──▶ a hole

- Only a delta that begins at the table's own version is applied; an older one is known already,
  and one that begins later leaves a hole: then all routes have to be listed again.
- A table is a hint of where to send a call: the group that gets it decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import InvalidInput, Unavailable
from workbench.model.keys import Span, printable_key
from workbench.routing.table import RouteTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workbench.routing.records import RouteDelta


class BatchSpansGroups(InvalidInput):
    """A batch has keys of several groups; each group takes a batch of its own.

    Attributes:
        spans: Per group the spans that it owns of the batch's keys, ascending.
    """

    def __init__(self, spans: Mapping[int, tuple[Span, ...]], version: int) -> None:
        owned = "; ".join(
            f"group {group}: {', '.join(str(span) for span in mine)}"
            for group, mine in sorted(spans.items())
        )
        super().__init__(
            f"the batch has keys of {len(spans)} groups at catalog version {version}: {owned}",
            code="batch_spans_groups",
            hint="send one batch per group; what spans groups is not atomic",
        )
        self.spans = dict(spans)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a range that one group owns."""

    group: int
    start: bytes
    end: bytes | None


class RouteCache:
    """The newest table that has come here.

    Attributes:
        table: None before the first.
    """

    __slots__ = ("table",)

    def __init__(self) -> None:
        self.table: RouteTable | None = None

    @property
    def version(self) -> int:
        """Catalog version of the table, 0 for none."""
        return 0 if self.table is None else self.table.version

    def replace(self, table: RouteTable) -> bool:
        """Take a table if it is newer, and tell whether it was."""
        if self.table is not None and table.version <= self.table.version:
            return False
        self.table = table
        return True

    def apply(self, delta: RouteDelta) -> bool:
        """Go on by a delta; False where it leaves a hole, or does not fit the table."""
        if self.table is None or delta.previous_version > self.table.version:
            return False
        if delta.version <= self.table.version:
            return True
        if delta.previous_version != self.table.version:
            return False
        routes = {route.route_id: route for route in self.table.routes}
        for mutation in delta.mutations:
            if mutation.route is not None:
                routes[mutation.route_id] = mutation.route
            elif routes.pop(mutation.route_id, None) is None:
                return False
        try:
            self.table = RouteTable(delta.version, tuple(routes.values()))
        except InvalidInput:
            return False
        return True

    def groups(self, keys: Iterable[bytes]) -> dict[int, list[bytes]]:
        """Return the keys by the group that owns them; raises Unavailable (`ownership_unknown`)."""
        found: dict[int, list[bytes]] = {}
        for key in keys:
            route = None if self.table is None else self.table.lookup(key)
            if route is None:
                raise _unowned(key)
            found.setdefault(route.group, []).append(key)
        return found

    def group(self, keys: Iterable[bytes]) -> int:
        """Return the one group that owns all the keys.

        Raises:
            BatchSpansGroups: there are several.
            Unavailable: `ownership_unknown`.
        """
        found = self.groups(keys)
        if len(found) > 1:
            raise BatchSpansGroups(
                {group: self._spans(mine) for group, mine in found.items()}, self.version
            )
        return next(iter(found))

    def pieces(self, start: bytes, end: bytes | None) -> list[Piece]:
        """Return who owns which part of [start, end), ascending; neighbours of one group joined.

        Keys that no route holds have no rows, so gaps are left out.
        """
        pieces: list[Piece] = []
        for route in () if self.table is None else self.table.intersecting(start, end):
            low = max(start, route.span.start)
            ends = [each for each in (route.span.end, end) if each is not None]
            high = min(ends) if ends else None
            if pieces and pieces[-1].group == route.group and pieces[-1].end == low:
                pieces[-1] = Piece(route.group, pieces[-1].start, high)
            else:
                pieces.append(Piece(route.group, low, high))
        return pieces

    def _spans(self, keys: Iterable[bytes]) -> tuple[Span, ...]:
        routes = {
            route.span.start: route.span
            for key in keys
            if self.table is not None and (route := self.table.lookup(key)) is not None
        }
        return tuple(span for _, span in sorted(routes.items()))


def _unowned(key: bytes) -> Unavailable:
    return Unavailable(
        f"no route holds the key {printable_key(key)}",
        code="ownership_unknown",
        hint="list the routes: there is a gap between them",
    )
