"""Scan of the KV service: the rows of one group's range, as of one read_ts, as a stream of pages.

    page ──▶ page ──▶ … ──▶ done             each page is a linearizable read of its own

- The group has to own all of the range: a part of it that lies elsewhere is refused before any
  row of that page is sent, never left out in silence.
- Where its caller set a deadline, a stream ends without `done` when half of that has passed; its
  caller goes on where the last page says, which may be far behind the last row that it got.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.errors import InvalidInput
from workbench.model.keys import check_key
from workbench.model.limits import SCAN_PAGE_BYTES_MAX, SCAN_PAGE_ROWS_MAX
from workbench.node import wire
from workbench.node.forwarding import Call, Reply
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.replica.commands import Page, ScanPage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from workbench.node.services.calls import Desk, StreamHandler


class Scanning:
    """Handlers of the service's method."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def stream_handlers(self) -> Mapping[str, StreamHandler]:
        """Return the handlers of calls answered by a stream, by full method name."""
        return {wire.SCAN: self.scan}

    async def scan(self, call: Call) -> AsyncIterator[Reply]:
        """Yield the rows of a range of a group, page by page."""
        request = wire.parse(v1.ScanRequest, call.data)
        group, left = request.group, request.limit or None
        asked = _asked(request)
        self._desk.peers.check_leads(group)
        if asked.end is not None and asked.start >= asked.end:
            yield Reply(v1.ScanChunk(read_ts=request.read_ts, done=True).SerializeToString())
            return
        loop = asyncio.get_running_loop()
        end_s = None if call.left_s is None else loop.time() + call.left_s / 2
        while True:
            rows_max = SCAN_PAGE_ROWS_MAX if left is None else min(left, SCAN_PAGE_ROWS_MAX)
            page = await self._desk.runtime.read(group, replace(asked, rows_max=rows_max))
            assert isinstance(page, Page)
            self._desk.sampler.count_reads(
                [(key, len(key) + len(version.value)) for key, version in page.rows]
            )
            left = None if left is None else left - len(page.rows)
            done = page.next_key is None or left == 0
            yield Reply(_chunk(page, done=done))
            if done or (end_s is not None and loop.time() >= end_s):
                return
            assert page.next_key is not None
            asked = behind(replace(asked, read_ts=page.read_ts), page.next_key)


def behind(asked: ScanPage, next_key: bytes) -> ScanPage:
    """Return what to ask for after a page that ended at `next_key`."""
    return replace(asked, end=next_key) if asked.reverse else replace(asked, start=next_key)


def _asked(request: v1.ScanRequest) -> ScanPage:
    page_bytes = request.page_bytes or SCAN_PAGE_BYTES_MAX
    if page_bytes > SCAN_PAGE_BYTES_MAX:
        raise InvalidInput(
            f"pages of {page_bytes} bytes, the limit is {SCAN_PAGE_BYTES_MAX}",
            code="scan_limit_invalid",
            hint="ask for smaller pages",
        )
    return ScanPage(
        start=check_key(request.start, "start"),
        end=check_key(request.end, "end") or None,
        read_ts=request.read_ts,
        rows_max=SCAN_PAGE_ROWS_MAX,
        bytes_max=page_bytes,
        reverse=request.reverse,
        keys_only=request.keys_only,
        whole=True,
    )


def _chunk(page: Page, *, done: bool) -> bytes:
    return v1.ScanChunk(
        read_ts=page.read_ts,
        rows=[
            v1.ScanRow(key=key, value=version.value, commit_ts=version.commit_ts)
            for key, version in page.rows
        ],
        done=done,
        next_key=(None if done else page.next_key) or b"",
    ).SerializeToString()
