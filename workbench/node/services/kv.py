"""The KV service: atomic batches and reads of many keys, of one group each.

The caller names the group. The node that leads it carries the call out; every other node
forwards to it. A group refuses keys that it does not own, and so a call that spans groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import InvalidInput
from workbench.model.limits import FRAME_BYTES_MAX
from workbench.model.node import GotMany, Written
from workbench.node import wire
from workbench.node.forwarding import Call, Reply
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.node.services.calls import check_batch, check_user_key, check_value
from workbench.replica.commands import GetMany, Mutation, WriteBatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.node.services.calls import Desk, Handler


class Kv:
    """Handlers of the service's methods."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by full method name."""
        return {wire.BATCH_WRITE: self.batch_write, wire.MULTI_GET: self.multi_get}

    async def batch_write(self, call: Call) -> Reply:
        """Write many keys, all or none, exactly once."""
        request = wire.parse(v1.BatchWriteRequest, call.data)
        check_batch(call.data, len(request.mutations))
        _check_client(request)
        mutations = tuple(_mutation(each) for each in request.mutations)
        if not self._desk.peers.leads(request.group):
            return await self._desk.peers.forward(call, request.group, writes=True)
        batch = WriteBatch(mutations, request.client_id, request.sequence)
        written = await self._desk.runtime.propose(request.group, batch)
        assert isinstance(written, Written)
        self._desk.sampler.count_writes(
            [(each.key, len(each.key) + len(each.value or b"")) for each in mutations]
        )
        answer = v1.BatchWriteResponse(commit_ts=written.commit_ts, index=written.index)
        return Reply(answer.SerializeToString())

    async def multi_get(self, call: Call) -> Reply:
        """Read many keys as of one moment."""
        request = wire.parse(v1.MultiGetRequest, call.data)
        keys = tuple(check_user_key(key) for key in request.keys)
        # No keys at all: the group's timestamp, which scans of several groups ask for.
        check_batch(call.data, len(keys) or 1)
        if not self._desk.peers.leads(request.group):
            return await self._desk.peers.forward(call, request.group, writes=False)
        got = await self._desk.runtime.read(request.group, GetMany(keys, request.read_ts))
        assert isinstance(got, GotMany)
        sizes = [len(each.value) if each else 0 for each in got.versions]
        if sum(sizes) > FRAME_BYTES_MAX // 2:
            raise InvalidInput(
                f"the values of {len(keys)} keys have {sum(sizes)} bytes together, "
                f"the limit is {FRAME_BYTES_MAX // 2}",
                code="answer_too_large",
                hint="ask for fewer keys in one call",
            )
        self._desk.sampler.count_reads(
            [(key, len(key) + size) for key, size in zip(keys, sizes, strict=True)]
        )
        answer = v1.MultiGetResponse(
            read_ts=got.read_ts,
            versions=[
                v1.Version(exists=True, value=each.value, commit_ts=each.commit_ts)
                if each
                else v1.Version()
                for each in got.versions
            ],
        )
        return Reply(answer.SerializeToString(), ((wire.INDEX_KEY, str(got.index)),))


def _check_client(request: v1.BatchWriteRequest) -> None:
    """Raise InvalidInput (`client_invalid`) where a batch names its sender wrongly."""
    named, numbered = len(request.client_id), request.sequence
    if (named, numbered) != (0, 0) and (named != wire.CLIENT_ID_BYTES or numbered == 0):
        raise InvalidInput(
            f"client_id of {named} bytes with sequence {numbered}",
            code="client_invalid",
            hint=f"send {wire.CLIENT_ID_BYTES} bytes and a sequence from 1, or neither",
        )


def _mutation(message: v1.Mutation) -> Mutation:
    key = check_user_key(message.key)
    if not message.delete:
        return Mutation(key, check_value(message.value))
    if message.value:
        raise InvalidInput(
            f"a deletion carries a value of {len(message.value)} bytes",
            code="mutation_invalid",
            hint="send either a value or a deletion",
        )
    return Mutation(key, None)
