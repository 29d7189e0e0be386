"""Messages between replicas as bytes, and back: docs/formats/peers.md.

    GroupMessage ──encode_frames──▶ frames of at most FRAME_BYTES_TARGET ──▶ a stream
    stream ──decode_frame(sender, receiver)──▶ GroupMessage

Who sent a message, and to whom, is a matter of the stream that it came on, and not of its bytes:
so a node can speak for nobody else. What cannot be a message raises InvalidInput before it costs
much: a frame is measured before it is parsed, and its messages are counted before any is made a
value. Whether one makes sense in its group is for `raft.following` to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from google.protobuf.message import DecodeError

from workbench.errors import Corruption, InvalidInput
from workbench.model.limits import ENTRY_BYTES_MAX
from workbench.node.proto import peers_v1_pb2 as wire
from workbench.ports.entries import Configuration, EntryKind, LogEntry, SnapshotMeta
from workbench.ports.peers import (
    AppendRequest,
    AppendResponse,
    CampaignNow,
    GroupMessage,
    Heartbeat,
    HeartbeatResponse,
    Message,
    SnapshotChunk,
    SnapshotResponse,
    VoteRequest,
    VoteResponse,
)
from workbench.raft.membership import decode_configuration, encode_configuration
from workbench.replica.entry import check_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

FORMAT: Final = 1
# A frame takes no further message from here on; one message alone may be larger.
FRAME_BYTES_TARGET: Final = 2**20
HELLO_BYTES_MAX: Final = 2**10
# Of a frame, so that decoding one does not keep the loop from its other work.
FRAME_MESSAGES_MAX: Final = 4_096
# Of a request: a leader sends 1 MiB of data, and an entry has 13 bytes, but for one per term.
REQUEST_ENTRIES_MAX: Final = 2**17
# One message: an entry of the largest size, or a request of many small ones.
MESSAGE_BYTES_MAX: Final = ENTRY_BYTES_MAX + 2**20
# Terms, indexes and the like. At a million a second it takes 36,000 years to count so far; and
# who is at this bound can count on for longer before 64 bits are full.
NUMBER_MAX: Final = 2**60
# Ids of groups and nodes.
_ID_MAX: Final = 2**63 - 1
# Tag and length of each message, and then some.
_MESSAGE_HEAD_BYTES: Final = 8
_MESSAGES_TAG: Final = wire.Frame.MESSAGES_FIELD_NUMBER << 3 | 2
# Sender, receiver and term.
_Ends: TypeAlias = tuple[int, int, int]


def encode_hello(cluster_id: str, sender: int, receiver: int) -> bytes:
    """Return the first frame of a stream."""
    hello = wire.Hello(cluster_id=cluster_id, sender=sender, receiver=receiver, format=FORMAT)
    return wire.Frame(hello=hello).SerializeToString()


def encode_frames(messages: Iterable[GroupMessage]) -> Iterator[bytes]:
    """Yield frames that carry the messages in order."""
    frame, size = wire.Frame(), 0
    for each in messages:
        encoded = _encode(each)
        length = encoded.ByteSize()
        full = size + length > FRAME_BYTES_TARGET or len(frame.messages) == FRAME_MESSAGES_MAX
        if size and full:
            yield frame.SerializeToString()
            frame, size = wire.Frame(), 0
        frame.messages.append(encoded)
        size += length
    if size:
        yield frame.SerializeToString()


def decode_hello(data: bytes) -> tuple[str, int, int]:
    """Return cluster, sender and receiver of a stream's first frame.

    Raises:
        InvalidInput: `peer_frame_malformed`, `peer_format_unknown`.
    """
    if len(data) > HELLO_BYTES_MAX:
        raise malformed(f"a hello of {len(data)} bytes, more than {HELLO_BYTES_MAX}")
    frame = _parse(data)
    if not frame.HasField("hello") or frame.messages:
        raise malformed("the first frame of a stream says hello, and nothing else")
    hello = frame.hello
    if hello.format != FORMAT:
        raise InvalidInput(
            f"the peer speaks format {hello.format}, this node speaks {FORMAT}",
            code="peer_format_unknown",
            hint="run the same version of the workbench on all nodes",
        )
    return hello.cluster_id, hello.sender, hello.receiver


def decode_frame(data: bytes, sender: int, receiver: int) -> tuple[GroupMessage, ...]:
    """Return the messages of a frame that came from `sender`.

    Raises:
        InvalidInput: `peer_frame_malformed`.
    """
    several = FRAME_BYTES_TARGET + _MESSAGE_HEAD_BYTES * FRAME_MESSAGES_MAX
    if len(data) > several and not _is_one_message(data):
        raise malformed(
            f"it has {len(data)} bytes, and is not one message of at most {MESSAGE_BYTES_MAX}"
        )
    frame = _parse(data)
    if frame.HasField("hello"):
        raise malformed("hello is said once")
    if len(frame.messages) > FRAME_MESSAGES_MAX:
        count = len(frame.messages)
        raise malformed(f"it has {count} messages, more than {FRAME_MESSAGES_MAX}")
    return tuple(_decode(each, sender, receiver) for each in frame.messages)


def _is_one_message(data: bytes) -> bool:
    """Tell whether a large frame is one message of an allowed size, by its first bytes only."""
    length = shift = 0
    for at, byte in enumerate(data[1 : 1 + _MESSAGE_HEAD_BYTES], start=2):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            whole = data[0] == _MESSAGES_TAG and at + length == len(data)
            return whole and length <= MESSAGE_BYTES_MAX
    return False


def _parse(data: bytes) -> wire.Frame:
    frame = wire.Frame()
    try:
        frame.ParseFromString(data)
    except DecodeError as error:
        raise malformed("it is no frame") from error
    return frame


def _encode(each: GroupMessage) -> wire.GroupMessage:
    message = each.message
    out = wire.GroupMessage(group=each.group, term=message.term)
    match message:
        case VoteRequest():
            out.vote_request.CopyFrom(
                wire.VoteRequest(
                    last_index=message.last_index,
                    last_term=message.last_term,
                    pre=message.pre,
                    transfer=message.transfer,
                )
            )
        case VoteResponse():
            out.vote_response.CopyFrom(wire.VoteResponse(granted=message.granted, pre=message.pre))
        case AppendRequest():
            out.append_request.CopyFrom(_append_request(message))
        case AppendResponse():
            out.append_response.CopyFrom(
                wire.AppendResponse(
                    index=message.index,
                    rejected=message.rejected,
                    hint_index=message.hint_index,
                    hint_term=message.hint_term,
                )
            )
        case Heartbeat():
            out.heartbeat.CopyFrom(wire.Heartbeat(commit=message.commit, round=message.round))
        case HeartbeatResponse():
            out.heartbeat_response.CopyFrom(wire.HeartbeatResponse(round=message.round))
        case SnapshotChunk():
            out.snapshot_chunk.CopyFrom(_snapshot_chunk(message))
        case SnapshotResponse():
            out.snapshot_response.CopyFrom(
                wire.SnapshotResponse(index=message.index, offset=message.offset)
            )
        case CampaignNow():
            out.campaign_now.CopyFrom(wire.CampaignNow())
        case _:
            assert_never(message)
    return out


def _append_request(message: AppendRequest) -> wire.AppendRequest:
    return wire.AppendRequest(
        prev_index=message.prev_index,
        prev_term=message.prev_term,
        entries=[
            wire.Entry(
                term=entry.term,
                data=entry.data,
                configuration=entry.kind is EntryKind.CONFIGURATION,
            )
            for entry in message.entries
        ],
        commit=message.commit,
    )


def _snapshot_chunk(message: SnapshotChunk) -> wire.SnapshotChunk:
    return wire.SnapshotChunk(
        index=message.meta.index,
        term=message.meta.term,
        voters=sorted(message.meta.configuration.voters),
        learners=sorted(message.meta.configuration.learners),
        offset=message.offset,
        data=message.data,
        done=message.done,
    )


def _decode(each: wire.GroupMessage, sender: int, receiver: int) -> GroupMessage:
    ends = (sender, receiver, _number(each.term))
    decode = _DECODERS.get(each.WhichOneof("body") or "")
    if decode is None:
        raise malformed("a message of it says nothing that this node knows")
    if each.group > _ID_MAX:
        raise malformed(f"it has the group {each.group}, more than {_ID_MAX}")
    return GroupMessage(each.group, decode(each, ends))


def _vote_request(each: wire.GroupMessage, ends: _Ends) -> VoteRequest:
    asked = each.vote_request
    last = _number(asked.last_index), _number(asked.last_term)
    return VoteRequest(*ends, *last, pre=asked.pre, transfer=asked.transfer)


def _vote_response(each: wire.GroupMessage, ends: _Ends) -> VoteResponse:
    vote = each.vote_response
    return VoteResponse(*ends, granted=vote.granted, pre=vote.pre)


def _appended(each: wire.GroupMessage, ends: _Ends) -> AppendRequest:
    request = each.append_request
    if len(request.entries) > REQUEST_ENTRIES_MAX:
        count = len(request.entries)
        raise malformed(f"a request of it has {count} entries, more than {REQUEST_ENTRIES_MAX}")
    first = _number(request.prev_index) + 1
    entries = tuple(_entry(first + place, entry) for place, entry in enumerate(request.entries))
    return AppendRequest(
        *ends, first - 1, _number(request.prev_term), entries, _number(request.commit)
    )


def _entry(index: int, entry: wire.Entry) -> LogEntry:
    data = entry.data
    if len(data) > ENTRY_BYTES_MAX:
        raise malformed(f"an entry of it has {len(data)} bytes, more than {ENTRY_BYTES_MAX}")
    if not entry.configuration:
        _check_commands(data)
        return LogEntry(index, _number(entry.term), data)
    try:
        members = decode_configuration(data)
    except Corruption as error:
        raise malformed(error.message) from error
    if encode_configuration(members) != data:
        raise malformed("a configuration of it names a member twice, or not in order")
    _check_members(members)
    return LogEntry(index, _number(entry.term), data, EntryKind.CONFIGURATION)


def _check_commands(data: bytes) -> None:
    """Refuse an entry that no replica could apply: in the log it would stop this one for good."""
    if not data:
        return  # the first entry of a term
    try:
        check_entry(data)
    except Corruption as error:
        raise malformed(error.message) from error


def _check_members(members: Configuration) -> None:
    voters, learners = members.voters, members.learners
    if not voters or voters & learners or not all(0 < each <= _ID_MAX for each in members.members):
        raise malformed("its members have no voter, one twice, or one that is no node")


def _append_response(each: wire.GroupMessage, ends: _Ends) -> AppendResponse:
    answer = each.append_response
    return AppendResponse(
        *ends,
        _number(answer.index),
        rejected=answer.rejected,
        hint_index=_number(answer.hint_index),
        hint_term=_number(answer.hint_term),
    )


def _heartbeat(each: wire.GroupMessage, ends: _Ends) -> Heartbeat:
    return Heartbeat(*ends, _number(each.heartbeat.commit), _number(each.heartbeat.round))


def _heartbeat_response(each: wire.GroupMessage, ends: _Ends) -> HeartbeatResponse:
    return HeartbeatResponse(*ends, _number(each.heartbeat_response.round))


def _chunk(each: wire.GroupMessage, ends: _Ends) -> SnapshotChunk:
    chunk = each.snapshot_chunk
    members = Configuration(frozenset(chunk.voters), frozenset(chunk.learners))
    _check_members(members)
    meta = SnapshotMeta(_number(chunk.index), _number(chunk.term), members)
    return SnapshotChunk(*ends, meta, _number(chunk.offset), chunk.data, chunk.done)


def _snapshot_response(each: wire.GroupMessage, ends: _Ends) -> SnapshotResponse:
    wanted = each.snapshot_response
    return SnapshotResponse(*ends, _number(wanted.index), _number(wanted.offset))


def _campaign_now(_: wire.GroupMessage, ends: _Ends) -> CampaignNow:
    return CampaignNow(*ends)


_DECODERS: Final[Mapping[str, Callable[[wire.GroupMessage, _Ends], Message]]] = {
    "vote_request": _vote_request,
    "vote_response": _vote_response,
    "append_request": _appended,
    "append_response": _append_response,
    "heartbeat": _heartbeat,
    "heartbeat_response": _heartbeat_response,
    "snapshot_chunk": _chunk,
    "snapshot_response": _snapshot_response,
    "campaign_now": _campaign_now,
}


def _number(value: int) -> int:
    if value > NUMBER_MAX:
        raise malformed(f"it has the number {value}, more than {NUMBER_MAX}")
    return value


def malformed(what: str) -> InvalidInput:
    """Return the error `peer_frame_malformed` for a frame, whose fault `what` tells."""
    return InvalidInput(
        f"a frame from a peer is malformed: {what}",
        code="peer_frame_malformed",
        hint="see whether another program connects to this port",
    )
