"""The KV service: atomic batches and reads of many keys, of one group each; single keys.

The caller names the group. The node that leads it carries the call out; every other node
forwards to it. A group refuses keys that it does not own, and so a call that spans groups.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from workbench.client.routes import RouteCache
from workbench.errors import InvalidInput, Unavailable
from workbench.model.limits import VALUE_BYTES_MAX
from workbench.model.node import GotMany, Written
from workbench.node import wire
from workbench.node.forwarding import Call, Reply
from workbench.node.proto import workbench_v1_pb2 as v1
from workbench.node.services.calls import (
    check_batch,
    check_user_key,
    check_user_keys,
    check_value,
)
from workbench.replica.commands import GetMany, Mutation, Precondition, WriteBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workbench.model.node import StoredVersion
    from workbench.node.services.calls import Desk, Handler


# When it expires is stored with it, within the limit of a value.
EXPIRING_VALUE_BYTES_MAX: Final = VALUE_BYTES_MAX - 8
# Reads of many keys of a group, which have answers of up to ANSWER_BYTES_MAX each: others wait.
READS_AT_ONCE: Final = 16


class Kv:
    """Handlers of the service's methods."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._turns: defaultdict[int, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(READS_AT_ONCE)
        )

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by full method name."""
        return {
            wire.BATCH_WRITE: self.batch_write,
            wire.KV_GET: self.get,
            wire.MULTI_GET: self.multi_get,
            wire.KV_GET_TIMESTAMP: self.get_timestamp,
        }

    async def batch_write(self, call: Call) -> Reply:
        """Write many keys, all or none, exactly once."""
        request = wire.parse(v1.BatchWriteRequest, call.data)
        check_batch(call.data, len(request.mutations))
        check_batch(call.data, len(request.preconditions) or 1)
        _check_client(request)
        mutations = _mutations(request.mutations)
        preconditions = tuple(_precondition(each) for each in request.preconditions)
        if not self._desk.peers.leads(request.group):
            return await self._desk.peers.forward(call, request.group, writes=True)
        batch = WriteBatch(mutations, request.client_id, request.sequence, preconditions)
        with self._told_of_spans(
            lambda: [key for key, *_ in mutations] + [each.key for each in preconditions]
        ):
            written = await self._desk.runtime.propose(request.group, batch)
        assert isinstance(written, Written)
        if not written.repeated:
            self._desk.sampler.count_writes(
                [(key, len(key) + len(value or b"")) for key, value, _ in mutations]
            )
        answer = v1.BatchWriteResponse(commit_ts=written.commit_ts, index=written.index)
        return Reply(answer.SerializeToString())

    async def get(self, call: Call) -> Reply:
        """Read one key, of whatever group owns it."""
        request = wire.parse(v1.GetRequest, call.data)
        key = check_user_key(request.key)
        group = self._desk.routes.group_of(key)
        if not self._desk.peers.leads(group):
            return await self._desk.peers.forward(call, group, writes=False)
        got = await self._desk.runtime.read(group, GetMany((key,), request.read_ts))
        assert isinstance(got, GotMany)
        [version] = got.versions
        self._desk.sampler.count_reads([(key, len(key) + len(version.value if version else b""))])
        answer = v1.GetResponse(read_ts=got.read_ts, version=_version(version))
        return Reply(answer.SerializeToString(), ((wire.INDEX_KEY, str(got.index)),))

    async def get_timestamp(self, call: Call) -> Reply:
        """Return a read_ts that misses nothing acknowledged: of one group, or of them all."""
        request = wire.parse(v1.GetTimestampRequest, call.data)
        members = self._desk.peers.members
        groups = {request.group} if request.group else {g for each in members for g in each.groups}
        answer = v1.GetTimestampResponse(timestamp=await latest_of(self._desk, groups))
        return Reply(answer.SerializeToString())

    async def multi_get(self, call: Call) -> Reply:
        """Read many keys as of one moment."""
        request = wire.parse(v1.MultiGetRequest, call.data)
        keys = check_user_keys(request.keys)
        # No keys at all: the group's timestamp, which scans of several groups ask for.
        check_batch(call.data, len(keys) or 1)
        if not self._desk.peers.leads(request.group):
            return await self._desk.peers.forward(call, request.group, writes=False)
        async with self._turns[request.group]:
            with self._told_of_spans(lambda: keys):
                got = await self._desk.runtime.read(request.group, GetMany(keys, request.read_ts))
        assert isinstance(got, GotMany)
        sizes = [len(each.value) if each else 0 for each in got.versions]
        self._desk.sampler.count_reads(
            [(key, len(key) + size) for key, size in zip(keys, sizes, strict=True)]
        )
        answer = v1.MultiGetResponse(
            read_ts=got.read_ts,
            versions=[_version(each) for each in got.versions],
        )
        return Reply(answer.SerializeToString(), ((wire.INDEX_KEY, str(got.index)),))

    @contextmanager
    def _told_of_spans(self, keys: Callable[[], Sequence[bytes]]) -> Iterator[None]:
        """Say of keys that a group refuses which groups own them, where there are several.

        Raises:
            BatchSpansGroups: with the spans of each group.
        """
        try:
            yield
        except Unavailable as error:
            if error.code != "ownership_unknown":
                raise
            self._desk.routes.take_applied()
            known = RouteCache()
            known.replace(self._desk.routes.current)
            known.group(keys())
            raise


async def latest_of(desk: Desk, groups: set[int]) -> int:
    """Return a timestamp as of which a read of all these groups misses nothing acknowledged.

    Each group's own present may lag behind what another has acknowledged; the highest of them
    does not.
    """
    return max(await asyncio.gather(*(_present(desk, group) for group in sorted(groups))))


async def _present(desk: Desk, group: int) -> int:
    if desk.peers.leads(group):
        got = await desk.runtime.read(group, GetMany(()))
        assert isinstance(got, GotMany)
        return got.read_ts
    asked = Call(wire.MULTI_GET, v1.MultiGetRequest(group=group).SerializeToString())
    reply = await desk.peers.forward(asked, group, writes=False)
    return wire.parse(v1.MultiGetResponse, reply.data).read_ts


def _version(version: StoredVersion | None) -> v1.Version:
    if version is None:
        return v1.Version()
    return v1.Version(exists=True, value=version.value, commit_ts=version.commit_ts)


def _check_client(request: v1.BatchWriteRequest) -> None:
    """Raise InvalidInput (`client_invalid`) where a batch names its sender wrongly."""
    named, numbered = len(request.client_id), request.sequence
    if (named, numbered) != (0, 0) and (named != wire.CLIENT_ID_BYTES or numbered == 0):
        raise InvalidInput(
            f"client_id of {named} bytes with sequence {numbered}",
            code="client_invalid",
            hint=f"send {wire.CLIENT_ID_BYTES} bytes and a sequence from 1, or neither",
        )


def _precondition(message: v1.Precondition) -> Precondition:
    if message.absent and message.commit_ts:
        raise InvalidInput(
            f"a precondition asks for no value and for commit_ts {message.commit_ts}",
            code="precondition_invalid",
            hint="send either",
        )
    commit_ts = None if message.absent else message.commit_ts
    return Precondition(check_user_key(message.key), commit_ts)


def _mutations(messages: Sequence[v1.Mutation]) -> tuple[Mutation, ...]:
    keys = check_user_keys([each.key for each in messages])
    return tuple(map(_mutation, keys, messages))


def _mutation(key: bytes, message: v1.Mutation) -> Mutation:
    value = message.value
    if not (message.delete or message.expire_at_ms or len(value) > VALUE_BYTES_MAX):
        return Mutation(key, value)
    if not message.delete:
        check_value(value)
        if message.expire_at_ms and len(value) > EXPIRING_VALUE_BYTES_MAX:
            raise InvalidInput(
                f"a value that expires has {len(value)} bytes, the limit is "
                f"{EXPIRING_VALUE_BYTES_MAX}",
                code="value_too_long",
                hint="store it in parts, under several keys",
            )
        return Mutation(key, value, message.expire_at_ms)
    if value or message.expire_at_ms:
        raise InvalidInput(
            f"a deletion carries a value of {len(value)} bytes, or expires",
            code="mutation_invalid",
            hint="send either a value or a deletion",
        )
    return Mutation(key, None)
