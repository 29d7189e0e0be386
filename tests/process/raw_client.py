"""Calls of keys as they are on the wire: one each, wherever it can be made, by a test's own hand.

They know no routes and repeat nothing that may have been done, unlike `node.kv_client`: so tests
of the services see what one call does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import Corruption
from workbench.model.limits import SCAN_PAGE_ROWS_MAX
from workbench.model.node import GotMany, StoredVersion, Written
from workbench.node import wire
from workbench.node.client import NodeClient
from workbench.node.proto import rawkv_pb2 as rawkv
from workbench.node.proto import workbench_v1_pb2 as v1

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class RawClient(NodeClient):
    """One cluster, or any server of the compatible services; arguments as NodeClient."""

    def batch_write(
        self,
        group: int,
        mutations: Sequence[tuple[bytes, bytes | None]],
        *,
        client_id: bytes,
        sequence: int,
    ) -> Written:
        """Write many keys of one group at once, all or none, exactly once.

        Args:
            group: That owns all the keys.
            mutations: Pairs of key and value; None deletes.
            client_id: 16 bytes that name the writer, or b"" for at-least-once.
            sequence: From 1, ascending per client and group; a repeat of one is answered with
                its first result. 0 with an empty client id.

        Raises:
            InvalidInput: a key, a value or the batch is too long, or a key is reserved.
            Unavailable: nothing was written.
            OutcomeUnknown: it may have been written; the same call again is safe.
        """
        request = v1.BatchWriteRequest(
            group=group,
            client_id=client_id,
            sequence=sequence,
            mutations=[
                v1.Mutation(key=key, delete=True)
                if value is None
                else v1.Mutation(key=key, value=value)
                for key, value in mutations
            ],
        )
        answer, _ = self._call(wire.BATCH_WRITE, request, v1.BatchWriteResponse, writes=True)
        return Written(commit_ts=answer.commit_ts, index=answer.index)

    def multi_get(self, group: int, keys: Sequence[bytes], *, read_ts: int = 0) -> GotMany:
        """Return the values of many keys of one group, all as of one moment; 0 is the newest."""
        request = v1.MultiGetRequest(group=group, keys=keys, read_ts=read_ts)
        answer, trailers = self._call(wire.MULTI_GET, request, v1.MultiGetResponse)
        if len(answer.versions) != len(keys):
            raise Corruption(
                f"asked for {len(keys)} keys, the answer has {len(answer.versions)}",
                code="answer_malformed",
                hint="check which program serves the address",
            )
        return GotMany(
            read_ts=answer.read_ts,
            index=wire.metadata_number(trailers, wire.INDEX_KEY) or 0,
            versions=tuple(
                StoredVersion(each.value, each.commit_ts) if each.exists else None
                for each in answer.versions
            ),
        )

    def put(self, key: bytes, value: bytes) -> int:
        """Write one key and return its log index; at-least-once."""
        request = rawkv.RawPutRequest(key=key, value=value)
        answer, _ = self._call(wire.RAW_PUT, request, rawkv.RawPutResponse, writes=True)
        return answer.commit_index

    def get(self, key: bytes, *, read_ts: int = 0) -> bytes | None:
        """Return the value of one key, None where it has none."""
        request = rawkv.RawGetRequest(key=key, ts=read_ts)
        answer, _ = self._call(wire.RAW_GET, request, rawkv.RawGetResponse)
        return answer.value if answer.exists else None

    def delete(self, key: bytes) -> int:
        """Delete one key and return the log index; at-least-once."""
        request = rawkv.RawDeleteRequest(key=key)
        answer, _ = self._call(wire.RAW_DELETE, request, rawkv.RawDeleteResponse, writes=True)
        return answer.commit_index

    def latest_commit_ts(self, key: bytes) -> int | None:
        """Return when (HLC) the key was last written or deleted, None for never."""
        request = rawkv.RawLatestCommitTSRequest(key=key)
        answer, _ = self._call(wire.RAW_LATEST_COMMIT_TS, request, rawkv.RawLatestCommitTSResponse)
        return answer.ts if answer.exists else None

    def scan(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        limit: int | None = None,
        read_ts: int = 0,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield pairs of `[start, end)` in key order, or in reverse, page by page.

        A `limit` of None means all. All pages are as of one moment, unless the server does not
        say as of which its first one is.
        """
        left = limit
        while left is None or left > 0:
            request = rawkv.RawScanAtRequest(
                start_key=start,
                end_key=end or b"",
                limit=min(left or SCAN_PAGE_ROWS_MAX, SCAN_PAGE_ROWS_MAX),
                ts=read_ts,
                reverse=reverse,
            )
            answer, trailers = self._call(wire.RAW_SCAN_AT, request, rawkv.RawScanAtResponse)
            yield from ((pair.key, pair.value) for pair in answer.kv)
            read_ts = read_ts or wire.metadata_number(trailers, wire.READ_TS_KEY) or 0
            # A server that does not tell whether more follows is asked until nothing comes.
            if not answer.kv or wire.metadata_value(trailers, wire.MORE_KEY) == "0":
                return
            last = answer.kv[-1].key
            if reverse:
                end = last
                if end <= start:
                    return
            else:
                start = last + b"\x00"
                if end is not None and start >= end:
                    return
            left = None if left is None else left - len(answer.kv)
