"""The RawKV service: single keys and scans, for callers that know nothing of groups.

    key ──known routes──▶ group ──leads here──▶ runtime
                             └── elsewhere ──▶ forwarded as it came

A scan walks the routes of its range in key order, group by group, all as of one read_ts:

    [a ········ z)   ──▶   group 1 [a, f)   group 2 [f, p)   group 1 [p, z)

Routes do not overlap, so what the groups return in this order is in key order already. Groups
leave out the cluster's own records. Writes carry no client id: they are at-least-once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.model.keys import Span, check_key
from workbench.model.limits import SCAN_PAGE_BYTES_MAX, SCAN_PAGE_ROWS_MAX
from workbench.model.node import GotMany, Written
from workbench.node import wire
from workbench.node.forwarding import Call, Reply
from workbench.node.proto import rawkv_pb2 as rawkv
from workbench.node.services.calls import check_user_key, check_value
from workbench.node.services.kv import latest_of
from workbench.node.services.scanning import behind
from workbench.replica.commands import (
    GetMany,
    LatestCommitTs,
    LatestTs,
    Mutation,
    Page,
    ScanPage,
    WriteBatch,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workbench.node.services.calls import Desk, Handler


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a scan that one group answers."""

    group: int
    span: Span


@dataclass(slots=True)
class _Rows:
    """Rows of a page so far, and the room that is left."""

    pairs: list[tuple[bytes, bytes]]
    rows_left: int
    bytes_left: int
    cut: bool = False

    def add(self, rows: Iterable[tuple[bytes, bytes]], *, more: bool) -> None:
        """Take rows as long as there is room; a page has at least one, however large."""
        for key, value in rows:
            size = len(key) + len(value)
            if self.rows_left == 0 or (self.pairs and size > self.bytes_left):
                self.cut = True
                return
            self.pairs.append((key, value))
            self.rows_left -= 1
            self.bytes_left -= size
        self.cut = more

    @property
    def full(self) -> bool:
        """Whether nothing may follow."""
        return self.cut or self.rows_left == 0 or self.bytes_left <= 0


class RawKv:
    """Handlers of the service's methods."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by full method name."""
        return {
            wire.RAW_PUT: self.put,
            wire.RAW_GET: self.get,
            wire.RAW_DELETE: self.delete,
            wire.RAW_LATEST_COMMIT_TS: self.latest_commit_ts,
            wire.RAW_SCAN_AT: self.scan_at,
        }

    async def put(self, call: Call) -> Reply:
        """Write one key."""
        request = wire.parse(rawkv.RawPutRequest, call.data)
        mutation = Mutation(check_user_key(request.key), check_value(request.value))
        written = await self._write(call, mutation)
        if isinstance(written, Reply):
            return written
        answer = rawkv.RawPutResponse(commit_index=written.index, success=True)
        return Reply(answer.SerializeToString())

    async def delete(self, call: Call) -> Reply:
        """Delete one key."""
        request = wire.parse(rawkv.RawDeleteRequest, call.data)
        written = await self._write(call, Mutation(check_user_key(request.key), None))
        if isinstance(written, Reply):
            return written
        answer = rawkv.RawDeleteResponse(commit_index=written.index, success=True)
        return Reply(answer.SerializeToString())

    async def get(self, call: Call) -> Reply:
        """Read one key; `ts` 0 is the newest, `group_id` 0 the key's owner."""
        request = wire.parse(rawkv.RawGetRequest, call.data)
        key = check_user_key(request.key)
        group = request.group_id or self._desk.routes.group_of(key)
        if not self._desk.peers.leads(group):
            return await self._desk.peers.forward(call, group, writes=False)
        got = await self._desk.runtime.read(group, GetMany((key,), request.ts))
        assert isinstance(got, GotMany)
        [version] = got.versions
        value = version.value if version else b""
        self._desk.sampler.count_reads([(key, len(key) + len(value))])
        answer = rawkv.RawGetResponse(
            read_at_index=got.index, value=value, exists=version is not None
        )
        return Reply(answer.SerializeToString())

    async def latest_commit_ts(self, call: Call) -> Reply:
        """Return when a key was last written or deleted."""
        request = wire.parse(rawkv.RawLatestCommitTSRequest, call.data)
        key = check_user_key(request.key)
        group = self._desk.routes.group_of(key)
        if not self._desk.peers.leads(group):
            return await self._desk.peers.forward(call, group, writes=False)
        latest = await self._desk.runtime.read(group, LatestCommitTs(key))
        assert isinstance(latest, LatestTs)
        self._desk.sampler.count_reads([(key, len(key))])
        answer = rawkv.RawLatestCommitTSResponse(
            ts=latest.commit_ts or 0, exists=latest.commit_ts is not None
        )
        return Reply(answer.SerializeToString())

    async def scan_at(self, call: Call) -> Reply:
        """Return a page of a range in key order, or in reverse; no limit means a whole page."""
        request = wire.parse(rawkv.RawScanAtRequest, call.data)
        check_key(request.start_key, "start_key")
        check_key(request.end_key, "end_key")
        limit = request.limit if 0 < request.limit < SCAN_PAGE_ROWS_MAX else SCAN_PAGE_ROWS_MAX
        rows = _Rows([], limit, SCAN_PAGE_BYTES_MAX)
        pieces = self._pieces(request)
        if request.reverse:
            pieces.reverse()
        read_ts = request.ts
        if read_ts == 0 and len(pieces) > 1:
            read_ts = await latest_of(self._desk, {piece.group for piece in pieces})
        while pieces and not rows.full:
            read_ts = await self._add_page(call, request, pieces.pop(0), read_ts, rows)
        answer = rawkv.RawScanAtResponse(
            kv=[rawkv.RawKVPair(key=key, value=value) for key, value in rows.pairs]
        )
        more = "1" if rows.cut or pieces else "0"
        trailers = ((wire.MORE_KEY, more), (wire.READ_TS_KEY, str(read_ts)))
        return Reply(answer.SerializeToString(), trailers)

    async def _write(self, call: Call, mutation: Mutation) -> Written | Reply:
        """Write one key here, or return the answer of the node that did."""
        group = self._desk.routes.group_of(mutation.key)
        if not self._desk.peers.leads(group):
            return await self._desk.peers.forward(call, group, writes=True)
        written = await self._desk.runtime.propose(group, WriteBatch((mutation,)))
        assert isinstance(written, Written)
        size = len(mutation.key) + len(mutation.value or b"")
        self._desk.sampler.count_writes([(mutation.key, size)])
        return written

    def _pieces(self, request: rawkv.RawScanAtRequest) -> list[_Piece]:
        """Return which group answers which part of a scan, ascending."""
        start, end = request.start_key, request.end_key or None
        if end is not None and start >= end:
            return []
        whole = Span(start, end)
        if request.group_id:
            return [_Piece(request.group_id, whole)]
        pieces: list[_Piece] = []
        for route in self._desk.routes.current.intersecting(start, end):
            clipped = _clip(route.span, whole)
            last = pieces[-1] if pieces else None
            if last and last.group == route.group and last.span.end == clipped.start:
                pieces[-1] = _Piece(route.group, Span(last.span.start, clipped.end))
            else:
                pieces.append(_Piece(route.group, clipped))
        return pieces

    async def _add_page(
        self,
        call: Call,
        request: rawkv.RawScanAtRequest,
        piece: _Piece,
        read_ts: int,
        rows: _Rows,
    ) -> int:
        """Add one group's part of a page, and return the read_ts as of which it is."""
        if self._desk.peers.leads(piece.group):
            read = ScanPage(
                start=piece.span.start,
                end=piece.span.end,
                read_ts=read_ts,
                rows_max=rows.rows_left,
                bytes_max=rows.bytes_left,
                reverse=request.reverse,
                keys_only=request.keys_only,
            )
            return await self._add_own(piece.group, read, rows)
        part = rawkv.RawScanAtRequest(
            start_key=piece.span.start,
            end_key=piece.span.end or b"",
            limit=rows.rows_left,
            ts=read_ts,
            reverse=request.reverse,
            group_id=piece.group,
            keys_only=request.keys_only,
        )
        sent = Call(call.method, part.SerializeToString(), call.metadata, call.left_s)
        reply = await self._desk.peers.forward(sent, piece.group, writes=False)
        found = wire.parse(rawkv.RawScanAtResponse, reply.data)
        more = wire.metadata_value(reply.trailers, wire.MORE_KEY) == "1"
        rows.add(((pair.key, pair.value) for pair in found.kv), more=more)
        return wire.metadata_number(reply.trailers, wire.READ_TS_KEY) or read_ts

    async def _add_own(self, group: int, read: ScanPage, rows: _Rows) -> int:
        """Add the part of a group that this node leads, and return the read_ts as of which it is.

        What ends early at versions that it does not show is gone on with: these callers know no
        page without rows that is not the last.
        """
        while True:
            page = await self._desk.runtime.read(group, read)
            assert isinstance(page, Page)
            pairs = [(key, version.value) for key, version in page.rows]
            self._desk.sampler.count_reads([(key, len(key) + len(value)) for key, value in pairs])
            rows.add(pairs, more=page.next_key is not None and not page.unfinished)
            rows.cut = rows.cut or (page.unfinished and rows.full)
            if not page.unfinished or rows.full:
                return page.read_ts
            assert page.next_key is not None
            read = replace(
                behind(read, page.next_key),
                read_ts=page.read_ts,
                rows_max=rows.rows_left,
                bytes_max=rows.bytes_left,
            )


def _clip(span: Span, bounds: Span) -> Span:
    """Return what two spans share; they do share a key."""
    ends = [end for end in (span.end, bounds.end) if end is not None]
    return Span(max(span.start, bounds.start), min(ends, default=None))
