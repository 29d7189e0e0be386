"""The client's calls about history: export, the routes of a moment, and restore.

    timestamp ─▶ export(group) per group ─▶ tables of VERSION          catalog_at ─▶ routes
    restore_begin ─▶ import_rows … ─▶ save_routes ─▶ restore_end

- An export is made of streams, each with a deadline. One that ends early is taken up behind its
  last cursor, as long as every stream brings something; else its caller hears of it, and may go
  on behind the last chunk's cursor later.
- What a stream brings is checked: form, order, range and read_ts. It is never passed on where
  it is wrong.
- Every call of a restore may be repeated. Imported tables are numbered; `RestoreStatus` says how
  far a group has come, to the row.

Arrow is imported when rows come or go, not before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc

from workbench.errors import Conflict, Corruption, InvalidInput, Unavailable
from workbench.model.limits import ENTRY_BYTES_TARGET
from workbench.model.node import RestoreStatus
from workbench.model.routes import RouteSnapshot, check_routes
from workbench.model.times import from_us, hlc_to_us
from workbench.mvcc.block import block_of, decode_block, encode_block
from workbench.node import wire
from workbench.node.calling import Caller, answer_refused, parse_answer
from workbench.node.errors import error_of, failure_of
from workbench.node.proto import workbench_v1_pb2 as v1

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from workbench.model.keys import Span
    from workbench.model.node import ExportCursor

# Of the parts of one call; the last may go beyond it.
IMPORT_CALL_BYTES: Final = 2**20


class ExportChunk(NamedTuple):
    """Some versions of a group, in the order of the whole export.

    Attributes:
        table: Of VERSION; it may have no rows.
        cursor: The export goes on behind it; None where there was nothing at all.
        done: Whether this is the last chunk.
        read_ts: As of which (HLC) the export is; of use where it was asked for as of now.
        scanned_bytes: What the node read for it.
    """

    table: pa.Table
    cursor: ExportCursor | None
    done: bool
    read_ts: int
    scanned_bytes: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an export was asked for, and how far it has come."""

    group: int
    read_ts: int
    start: bytes
    end: bytes | None
    cursor: ExportCursor | None
    chunk_bytes: int
    max_scanned_bytes: int

    def request(self) -> v1.ExportRequest:
        """Return the request for all that is left."""
        return v1.ExportRequest(
            group=self.group,
            start=self.start,
            end=self.end or b"",
            read_ts=self.read_ts,
            cursor=None if self.cursor is None else wire.cursor_message(self.cursor),
            chunk_bytes=self.chunk_bytes,
            max_scanned_bytes=self.max_scanned_bytes,
        )


class HistoryCalls(Caller):
    """Export and restore of one cluster of bundled nodes."""

    def export(  # noqa: PLR0913  a range of a group at a time, and what bounds one message
        self,
        group: int,
        *,
        read_ts: int,
        start: bytes = b"",
        end: bytes | None = None,
        after: ExportCursor | None = None,
        chunk_bytes: int = wire.EXPORT_CHUNK_BYTES,
        max_scanned_bytes: int = 0,
    ) -> Iterator[ExportChunk]:
        """Yield all versions of a group's keys in [start, end) as of one moment.

        Keys ascend, the commit_ts of a key descend; deletions come as tombstones. Groups of one
        `read_ts` (see `timestamp`) together are the cluster at that moment.

        Args:
            group: Whose owned keys to export.
            read_ts: HLC; versions above it are left out. 0 is now, see `ExportChunk.read_ts`.
            start: First key, inclusive.
            end: Last key, exclusive; None for no upper bound.
            after: Cursor of an earlier chunk of the same export; it goes on strictly behind it.
            chunk_bytes: Of one chunk, or one row.
            max_scanned_bytes: Of what is read for one chunk; 0 is four times chunk_bytes.

        Raises:
            Unavailable: no answer, or the stream ended (`export_interrupted`): go on behind the
                last chunk.
            Corruption: `answer_malformed`; retryable behind the last chunk too.
            InvalidInput: `read_ts_ahead`, `cursor_invalid`, `export_limit_invalid`.
        """
        asked = _Asked(group, read_ts, start, end, after, chunk_bytes, max_scanned_bytes)
        while True:
            moved = False
            try:
                for message in self._export_messages(asked.request()):
                    chunk = _chunk(message, asked)
                    asked = replace(asked, cursor=chunk.cursor, read_ts=chunk.read_ts)
                    moved = True
                    yield chunk
                    if chunk.done:
                        return
            except Unavailable:
                if not moved:
                    raise
            if not moved:
                raise Unavailable(
                    f"the export of group {group} ended before it was done",
                    code="export_interrupted",
                    hint="go on behind the last chunk",
                )

    def catalog_at(self, read_ts: int) -> RouteSnapshot:
        """Return the routes as they were at `read_ts` (HLC); 0 is now.

        The snapshot's `taken_at` is the time of the read_ts.

        Raises:
            NotFound: `catalog_not_begun`: the cluster had no routes then.
        """
        request = v1.CatalogAtRequest(read_ts=read_ts)
        answer, trailers = self._call(wire.CATALOG_AT, request, v1.CatalogAtResponse)
        try:
            routes = check_routes(wire.route_of(each) for each in answer.routes)
        except InvalidInput as error:
            raise answer_refused(wire.CATALOG_AT, error) from error
        return RouteSnapshot(
            catalog_version=answer.catalog_version,
            routes=routes,
            taken_at=from_us(hlc_to_us(answer.read_ts)),
            cluster_id=wire.metadata_value(trailers, wire.CLUSTER_KEY),
        )

    def restore_begin(
        self, group: int, restore_id: bytes, spans: Sequence[tuple[Span, int]]
    ) -> RestoreStatus:
        """Close an empty group for a restore, and give it the spans that it will own.

        Args:
            group: That holds no version of any user's key.
            restore_id: 16 bytes; the same for all calls and groups of a restore.
            spans: With the id of the route that gives each to the group.

        Raises:
            Conflict: `group_not_empty`, `restore_other` or `restore_spans_differ`.
        """
        request = v1.RestoreBeginRequest(
            group=group,
            restore_id=restore_id,
            spans=[
                v1.OwnedSpan(start=span.start, end=span.end or b"", generation=generation)
                for span, generation in spans
            ],
        )
        answer, _ = self._call(wire.RESTORE_BEGIN, request, v1.RestoreStatusResponse)
        return wire.restore_of(answer)

    def import_rows(
        self, group: int, restore_id: bytes, tables: Iterable[pa.Table], *, seq: int
    ) -> RestoreStatus:
        """Send tables of VERSION; table number i has the number `seq` + i.

        Tables that are there already are passed over, and of one that is there in part its
        first rows; so a restore that goes on sends the same tables again, or from
        `status.seq` + 1 on.

        Args:
            group: That is being restored.
            restore_id: As it was begun with.
            tables: Of any size, also lazily; cut here into log entries. `group` is not looked at.
            seq: Number of the first table, from 1.

        Returns:
            How far the group has come.

        Raises:
            InvalidInput: a table or row cannot be stored; the group keeps what came before.
            Conflict: `restore_not_running`, `restore_other`, `import_differs`, or
                `import_out_of_step`: read the status and go on from there.
            Unavailable, OutcomeUnknown: some may be stored; the same call again is safe.
        """
        status = self.restore_status(group)
        if status.restore_id != restore_id:
            # The group will refuse what comes, and say why.
            status = RestoreStatus(group, restore_id)
        if seq > status.seq + 1:
            raise _out_of_step(status, restore_id, seq)
        parts: list[v1.ImportPart] = []
        size = 0
        for part in _parts(tables, seq, status):
            parts.append(part)
            size += len(part.block)
            if size >= IMPORT_CALL_BYTES or len(parts) == wire.IMPORT_PARTS_MAX:
                status = self._import(group, restore_id, parts)
                parts, size = [], 0
        return self._import(group, restore_id, parts) if parts else status

    def save_routes(
        self,
        restore_id: bytes,
        *,
        expected_version: int,
        snapshot: RouteSnapshot,
        next_route_id: int = 0,
    ) -> int:
        """Put a snapshot's routes in place of the cluster's, under the snapshot's version.

        Args:
            restore_id: Of the restore of the catalog group, which must be under way.
            expected_version: Catalog version that is there now.
            snapshot: All routes and their version.
            next_route_id: No id from here on was ever used; 0 to go by the routes.

        Returns:
            The catalog version afterwards.

        Raises:
            Conflict: `catalog_version_mismatch`, `catalog_version_not_above`,
                `restore_not_running`, `restore_other` or `restore_ended`.
            InvalidInput: the routes break a rule.
            NotFound: `group_absent`: a route's group is not in the cluster.
        """
        request = v1.RestoreSaveRoutesRequest(
            restore_id=restore_id,
            expected_version=expected_version,
            version=snapshot.catalog_version,
            next_route_id=next_route_id,
            routes=[wire.route_message(route) for route in snapshot.routes],
        )
        answer, _ = self._call(wire.RESTORE_SAVE_ROUTES, request, v1.RestoreSaveRoutesResponse)
        return answer.catalog_version

    def restore_end(self, group: int, restore_id: bytes) -> RestoreStatus:
        """Let a group serve again; end none before all groups and the routes are complete.

        Raises:
            Conflict: `restore_not_running` or `restore_other`.
            Unavailable: `import_ahead_of_clock`: it has to wait.
        """
        request = v1.RestoreEndRequest(group=group, restore_id=restore_id)
        answer, _ = self._call(wire.RESTORE_END, request, v1.RestoreStatusResponse)
        return wire.restore_of(answer)

    def restore_status(self, group: int) -> RestoreStatus:
        """Return how far the newest restore of a group has come."""
        request = v1.RestoreStatusRequest(group=group)
        answer, _ = self._call(wire.RESTORE_STATUS, request, v1.RestoreStatusResponse)
        return wire.restore_of(answer)

    def _import(
        self, group: int, restore_id: bytes, parts: Sequence[v1.ImportPart]
    ) -> RestoreStatus:
        request = v1.RestoreImportRequest(group=group, restore_id=restore_id, parts=parts)
        answer, _ = self._call(wire.RESTORE_IMPORT, request, v1.RestoreStatusResponse)
        status = wire.restore_of(answer)
        last = parts[-1]
        stored = status.seq == last.seq if last.last else status.seq == last.seq - 1
        if not stored or (status.offset == 0) != last.last:
            raise _out_of_step(status, restore_id, last.seq)
        return status

    def _export_messages(self, request: v1.ExportRequest) -> Iterator[v1.ExportChunk]:
        """Yield what one stream brings."""
        data = request.SerializeToString()

        def once(channel: grpc.Channel, timeout_s: float) -> tuple[bytes | None, grpc.Call]:
            call = channel.unary_stream(wire.EXPORT)(data, timeout=timeout_s)
            return next(call, None), call

        message, call = self._ask(wire.EXPORT, once, group=request.group)
        try:
            while message is not None:
                yield parse_answer(v1.ExportChunk, wire.EXPORT, message)
                message = next(call, None)
        except grpc.RpcError as error:
            peer = f"the leader of group {request.group}"
            raise error_of(failure_of(error), peer=peer, writes=False) from error
        finally:
            call.cancel()


def _parts(tables: Iterable[pa.Table], seq: int, status: RestoreStatus) -> Iterator[v1.ImportPart]:
    """Yield what is not there yet of tables, cut into log entries."""
    from workbench.node.arrow_blocks import blocks_of  # noqa: PLC0415 - Arrow starts slowly

    for number, table in enumerate(tables, start=seq):
        if number <= status.seq:
            continue
        offset = status.offset if number == status.seq + 1 else 0
        left = table.num_rows - offset
        if left < 0 or (left == 0 and offset):
            raise _out_of_step(status, status.restore_id, number)
        if not left:
            block = encode_block(block_of(()))
            yield v1.ImportPart(seq=number, offset=0, last=True, block=block)
        for each in blocks_of(table.slice(offset), ENTRY_BYTES_TARGET):
            left -= each.count
            yield v1.ImportPart(seq=number, offset=offset, last=not left, block=encode_block(each))
            offset += each.count


def _out_of_step(status: RestoreStatus, restore_id: bytes, seq: int) -> Conflict:
    return Conflict(
        f"group {status.group} is {status.offset} rows behind import {status.seq} of the restore "
        f"{status.restore_id.hex() or 'that has not begun'}; import {seq} of {restore_id.hex()} "
        "does not follow",
        code="import_out_of_step",
        hint="read the restore's status, and go on from there with the same tables",
    )


def _chunk(message: v1.ExportChunk, asked: _Asked) -> ExportChunk:
    """Return a message as a chunk; Corruption where it cannot be the next of this export."""
    from workbench.node.arrow_blocks import ascends, table_of  # noqa: PLC0415 - Arrow starts slowly

    try:
        block = decode_block(message.block)
        cursor = wire.cursor_of(message.cursor) if message.HasField("cursor") else None
    except InvalidInput as error:
        raise _malformed(error.message) from error
    if message.group != asked.group or message.rows != block.count:
        raise _malformed(f"{message.rows} rows of group {message.group}")
    if not message.read_ts or asked.read_ts not in {0, message.read_ts}:
        raise _malformed(f"rows as of {message.read_ts} instead of {asked.read_ts}")
    table = table_of(block, asked.group)
    before, behind = _place(asked.cursor), _place(cursor)
    if block.count:
        times = block.commit_ts_list()
        keys = table.column("key")
        first, last = ((keys[at].as_py(), -times[at]) for at in (0, -1))
        in_range = asked.start <= first[0] and (asked.end is None or last[0] < asked.end)
        in_order = before < first and last <= behind and ascends(table)
        if not in_range or not in_order or max(times) > message.read_ts:
            raise _malformed("rows out of order, or that were not asked for")
    if behind < before or (behind == before and not message.done):
        raise _malformed("the cursor does not move")
    return ExportChunk(table, cursor, message.done, message.read_ts, message.scanned_bytes)


def _place(cursor: ExportCursor | None) -> tuple[bytes, int]:
    """Return what orders versions as an export does; below all of them for no cursor."""
    return (b"", -wire.U64_MAX - 1) if cursor is None else (cursor.key, -cursor.commit_ts)


def _malformed(what: str) -> Corruption:
    return Corruption(
        f"the answer to {wire.EXPORT} cannot be used: {what}",
        code="answer_malformed",
        hint="go on behind the last chunk; check which program serves the address",
        retryable=True,
    )
