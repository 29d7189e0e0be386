"""A cluster in memory that keeps versions: exported piece by piece, and restored import by import.

Written from docs/nodes.md and the ports, not from the code of the node. `on_call` is called with
the name of every call before and after it takes effect ("export", "export:done" …), and may raise:
an error of the tree for a cluster that fails, Killed for a process of ours that dies.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from fakes import NOON

from workbench.errors import Conflict, InvalidInput, Unavailable
from workbench.model.keys import Span
from workbench.model.node import CursorTag, ExportCursor, RestoreStatus
from workbench.model.routes import RouteDescriptor, RouteSnapshot
from workbench.model.tables import VERSION
from workbench.model.times import hlc_of_ms, to_us
from workbench.ports.connector import Capabilities, VersionChunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# (key, commit_ts, value): None is a tombstone.
Row = tuple[bytes, int, bytes | None]
NOW = hlc_of_ms(to_us(NOON) // 1_000)
ROUTES = (
    RouteDescriptor(1, Span(b"", b"g"), 1),
    RouteDescriptor(4, Span(b"g", b"p"), 2, parent_route_id=2, split_at_hlc=NOW - 5_000),
    RouteDescriptor(5, Span(b"p", b"t"), 3, parent_route_id=2, split_at_hlc=NOW - 5_000),
    RouteDescriptor(3, Span(b"t", None), 1),
)


def seeds(*groups: int) -> tuple[RouteDescriptor, ...]:
    """Return the routes of a new cluster: one per group, cut evenly below `z`."""
    cuts = [b"", *(bytes([97 + 26 * n // len(groups)]) for n in range(1, len(groups))), None]
    spans = itertools.pairwise(cuts)
    return tuple(
        RouteDescriptor(at, Span(start or b"", end), group)
        for at, (group, (start, end)) in enumerate(zip(groups, spans, strict=True), start=1)
    )


def order(row: Row) -> tuple[bytes, int]:
    return row[0], -row[1]


@dataclass
class FakeHistory:
    """A cluster: routes, and the versions of each group.

    `exported` counts the chunks that were asked for; `chunk_rows` is how many rows one has.
    """

    routes: tuple[RouteDescriptor, ...] = ROUTES
    version: int = 7
    cluster_id: str | None = "c-1"
    rows: dict[int, list[Row]] = field(default_factory=dict)
    now: int = NOW
    safe_point: int = 0
    chunk_rows: int = 3
    can: Capabilities = field(
        default_factory=lambda: Capabilities(ordered=True, export=True, restore=True)
    )
    on_call: Callable[[str], None] = lambda _name: None
    restores: dict[int, RestoreStatus] = field(default_factory=dict)
    spans: dict[int, list[Span]] = field(default_factory=dict)
    closed: int = 0
    exported: int = 0
    imports: list[tuple[int, int]] = field(default_factory=list)

    def capabilities(self) -> Capabilities:
        return self.can

    def snapshot(self) -> RouteSnapshot:
        self.on_call("snapshot")
        return RouteSnapshot(self.version, self.routes, NOON, cluster_id=self.cluster_id)

    def close(self) -> None:
        self.closed += 1

    def timestamp(self) -> int:
        self.on_call("timestamp")
        return self.now

    def routes_at(self, read_ts: int) -> RouteSnapshot:
        self.on_call("routes_at")
        self._check_old(read_ts)
        return RouteSnapshot(self.version, self.routes, NOON, cluster_id=self.cluster_id)

    def export(
        self,
        group: int,
        read_ts: int,
        *,
        start: bytes = b"",
        end: bytes | None = None,
        after: ExportCursor | None = None,
    ) -> Iterator[VersionChunk]:
        """Yield chunks of all versions; those after read_ts are scanned, and not emitted."""
        self._check_old(read_ts)
        if self.status(group).restoring:
            raise Unavailable(f"group {group} is being restored", code="group_restoring")
        spans = [route.span for route in self.routes if route.group == group]
        inside = [
            row
            for row in sorted(self.rows.get(group, []), key=order)
            if start <= row[0]
            and (end is None or row[0] < end)
            and any(row[0] in span for span in spans)
        ]
        if after is not None:
            inside = [row for row in inside if order(row) > (after.key, -after.commit_ts)]
        for at in range(0, max(len(inside), 1), self.chunk_rows):
            self.on_call("export")
            self.exported += 1
            piece = inside[at : at + self.chunk_rows]
            cursor = after
            if piece:
                key, commit_ts, _ = piece[-1]
                tag = CursorTag.EMITTED if commit_ts <= read_ts else CursorTag.SCANNED
                cursor = ExportCursor(key, commit_ts, tag)
            shown = [row for row in piece if row[1] <= read_ts]
            done = at + self.chunk_rows >= len(inside)
            yield VersionChunk(version_table(group, shown), cursor, done)

    def groups(self) -> tuple[int, ...]:
        return tuple(sorted({*(route.group for route in self.routes), *self.rows}))

    def status(self, group: int) -> RestoreStatus:
        return self.restores.get(group, RestoreStatus(group))

    def restore_status(self, group: int) -> RestoreStatus:
        self.on_call("restore_status")
        return self.status(group)

    def restore_begin(
        self, group: int, restore_id: bytes, spans: Sequence[tuple[Span, int]]
    ) -> RestoreStatus:
        self.on_call("restore_begin")
        status = self.status(group)
        if status.restore_id != restore_id:
            if status.restoring:
                raise Conflict("another restore", code="restore_other")
            if self.rows.get(group):
                raise Conflict(f"group {group} holds versions", code="group_not_empty")
            self.restores[group] = RestoreStatus(group, restore_id, restoring=True)
            self.spans[group] = [span for span, _ in spans]  # the routes stay until others come
        self.on_call("restore_begin:done")
        return self.status(group)

    def import_rows(
        self, group: int, restore_id: bytes, tables: Iterable[pa.Table], *, seq: int
    ) -> RestoreStatus:
        for number, table in enumerate(tables, start=seq):
            self.on_call("import_rows")
            status = self.status(group)
            assert status.restore_id == restore_id
            assert status.restoring
            if number == status.seq + 1:
                rows = table_rows(table)
                assert set(table.column("group").to_pylist()) == {group}
                for key, _, _ in rows:
                    if not any(key in span for span in self.spans[group]):
                        raise InvalidInput("outside the spans", code="import_outside_spans")
                self.rows.setdefault(group, []).extend(rows)
                self.restores[group] = replace(status, seq=number, rows=status.rows + len(rows))
                self.imports.append((group, number))
            self.on_call("import_rows:done")
        return self.status(group)

    def save_routes(
        self, restore_id: bytes, snapshot: RouteSnapshot, *, expected_version: int
    ) -> int:
        self.on_call("save_routes")
        catalog = next(r.group for r in snapshot.routes if b"!dist|" in r.span)
        if not self.status(catalog).restoring:
            raise Conflict("the restore has ended", code="restore_ended")
        if (self.version, self.routes) != (snapshot.catalog_version, snapshot.routes):
            if expected_version != self.version:
                raise Conflict("another version", code="catalog_version_mismatch")
            if snapshot.catalog_version <= self.version:
                raise Conflict("not above", code="catalog_version_not_above")
            self.version, self.routes = snapshot.catalog_version, snapshot.routes
        self.on_call("save_routes:done")
        return self.version

    def restore_end(self, group: int, restore_id: bytes) -> RestoreStatus:
        self.on_call("restore_end")
        assert self.status(group).restore_id == restore_id
        self.restores[group] = replace(self.status(group), restoring=False)
        self.on_call("restore_end:done")
        return self.status(group)

    def _check_old(self, read_ts: int) -> None:
        if read_ts < self.safe_point:
            raise Conflict(f"history begins after {read_ts}", code="snapshot_too_old")


def version_table(group: int, rows: Sequence[Row]) -> pa.Table:
    """Return rows as VERSION, in the order given."""
    return pa.Table.from_pylist(
        [
            {
                "key": key,
                "commit_ts": commit_ts,
                "kind": "tombstone" if value is None else "put",
                "value": value,
                "group": group,
            }
            for key, commit_ts, value in rows
        ],
        schema=VERSION,
    )


def table_rows(table: pa.Table) -> list[Row]:
    """Return the rows of a VERSION table."""
    return [(r["key"], r["commit_ts"], r["value"]) for r in table.to_pylist()]


def history(keys: int = 30, versions: int = 3) -> FakeHistory:
    """Return a cluster with keys in every route: puts, tombstones, and versions after NOW."""
    made = FakeHistory()
    for number in range(keys):
        key = b"%c%04d" % (97 + number * 26 // keys, number)
        group = next(r.group for r in made.routes if key in r.span)
        for version in range(versions):
            value = None if (number + version) % 5 == 0 else b"v%d" % version * (number % 7)
            commit_ts = NOW - 1_000 + 10 * version + number
            made.rows.setdefault(group, []).append((key, commit_ts, value))
        if number % 4 == 0:  # written while the export runs
            made.rows.setdefault(group, []).append((key, NOW + 1 + number, b"later"))
    return made


def empty_like(source: FakeHistory) -> FakeHistory:
    """Return a new cluster with the groups of another one."""
    groups = sorted({route.group for route in source.routes})
    return FakeHistory(routes=seeds(*groups), version=1, cluster_id="c-2", now=NOW + 10**9)


def as_of(cluster: FakeHistory, read_ts: int) -> dict[bytes, tuple[int, bytes | None]]:
    """Return the newest version of every key by `read_ts`, of all groups together."""
    found: dict[bytes, tuple[int, bytes | None]] = {}
    for rows in cluster.rows.values():
        for key, commit_ts, value in rows:
            if commit_ts <= read_ts and commit_ts >= found.get(key, (0, None))[0]:
                found[key] = (commit_ts, value)
    return found


def all_rows(cluster: FakeHistory, read_ts: int) -> list[Row]:
    """Return every version by `read_ts`, in order; each as often as it is there."""
    rows = (row for group in cluster.rows.values() for row in group if row[1] <= read_ts)
    return sorted(rows, key=order)
