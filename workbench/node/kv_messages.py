"""The client's requests as messages, and what comes back as its answers.

    WriteRequest, ReadRequest, RoutesRequest ──▶ bytes ──▶ Written, GotMany, RouteTable

An answer is checked here, before the machine sees it. Scans and watches are streams; their
messages are made and read where they are followed (`kv_client`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from workbench.client.values import (
    ReadRequest,
    RoutesRequest,
    WriteRequest,
)
from workbench.errors import InvalidInput
from workbench.model.node import GotMany, StoredVersion, Written
from workbench.node import wire
from workbench.node.calling import answer_refused, parse_answer
from workbench.node.proto import distribution_pb2 as distribution
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.routing.table import RouteTable

if TYPE_CHECKING:
    from workbench.client.values import Answer
    from workbench.node.calling import Trailers


def message_of(
    request: WriteRequest | ReadRequest | RoutesRequest,
) -> tuple[str, v1.BatchWriteRequest | v1.MultiGetRequest | distribution.ListRoutesRequest]:
    """Return method and message of a request that one message answers."""
    match request:
        case WriteRequest():
            return wire.BATCH_WRITE, v1.BatchWriteRequest(
                group=request.group,
                client_id=request.client_id,
                sequence=request.sequence,
                mutations=[
                    v1.Mutation(key=each.key, delete=True)
                    if each.value is None
                    else v1.Mutation(key=each.key, value=each.value, expire_at_ms=each.expire_at_ms)
                    for each in request.mutations
                ],
                preconditions=[
                    v1.Precondition(
                        key=each.key, absent=each.commit_ts is None, commit_ts=each.commit_ts or 0
                    )
                    for each in request.preconditions
                ],
            )
        case ReadRequest():
            return wire.MULTI_GET, v1.MultiGetRequest(
                group=request.group, keys=request.keys, read_ts=request.read_ts
            )
        case RoutesRequest():
            return wire.LIST_ROUTES, distribution.ListRoutesRequest()
        case _:
            assert_never(request)


def answer_of(
    request: WriteRequest | ReadRequest | RoutesRequest, data: bytes, trailers: Trailers
) -> Answer:
    """Return what an answer says; Corruption (`answer_malformed`) where it says nothing."""
    match request:
        case WriteRequest():
            written = parse_answer(v1.BatchWriteResponse, wire.BATCH_WRITE, data)
            return Written(written.commit_ts, written.index)
        case ReadRequest():
            got = parse_answer(v1.MultiGetResponse, wire.MULTI_GET, data)
            versions = tuple(
                StoredVersion(each.value, each.commit_ts) if each.exists else None
                for each in got.versions
            )
            index = wire.metadata_number(trailers, wire.INDEX_KEY) or 0
            return GotMany(got.read_ts, index, versions)
        case RoutesRequest():
            listed = parse_answer(distribution.ListRoutesResponse, wire.LIST_ROUTES, data)
            try:
                return RouteTable(listed.catalog_version, wire.routes_of(listed.routes))
            except InvalidInput as error:
                raise answer_refused(wire.LIST_ROUTES, error) from error
        case _:
            assert_never(request)
