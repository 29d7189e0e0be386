"""Messages between nodes: every one comes back as it was sent, and no bytes do harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InvalidInput
from workbench.node import peer_codec
from workbench.node.peer_codec import (
    FRAME_BYTES_TARGET,
    decode_frame,
    decode_hello,
    encode_frames,
    encode_hello,
)
from workbench.node.proto import peers_v1_pb2 as wire
from workbench.ports.entries import Configuration, EntryKind, LogEntry, SnapshotMeta
from workbench.ports.peers import (
    AppendRequest,
    AppendResponse,
    CampaignNow,
    GroupMessage,
    Heartbeat,
    HeartbeatResponse,
    SnapshotChunk,
    SnapshotResponse,
    VoteRequest,
    VoteResponse,
)

SENDER, RECEIVER = 3, 7
numbers = st.integers(0, 2**63 - 1)
flags = st.booleans()
terms = st.integers(1, 2**63 - 1)
ends = st.tuples(st.just(SENDER), st.just(RECEIVER), terms)


@st.composite
def appends(draw: st.DrawFn) -> AppendRequest:
    before = draw(st.integers(0, 2**62))
    parts = draw(
        st.lists(st.tuples(terms, st.binary(max_size=40), st.sampled_from(EntryKind)), max_size=4)
    )
    entries = tuple(LogEntry(before + 1 + at, *part) for at, part in enumerate(parts))
    return AppendRequest(*draw(ends), before, draw(numbers), entries, draw(numbers))


@st.composite
def chunks(draw: st.DrawFn) -> SnapshotChunk:
    members = draw(st.lists(st.integers(1, 9), min_size=1, unique=True))
    voters = draw(st.integers(1, len(members)))
    configuration = Configuration(frozenset(members[:voters]), frozenset(members[voters:]))
    meta = SnapshotMeta(draw(numbers), draw(numbers), configuration)
    return SnapshotChunk(
        *draw(ends), meta, draw(numbers), draw(st.binary(max_size=40)), draw(flags)
    )


messages = st.one_of(
    st.builds(lambda e, *r: VoteRequest(*e, *r), ends, numbers, numbers, flags, flags),
    st.builds(lambda e, *r: VoteResponse(*e, *r), ends, flags, flags),
    appends(),
    st.builds(lambda e, *r: AppendResponse(*e, *r), ends, numbers, flags, numbers, numbers),
    st.builds(lambda e, *r: Heartbeat(*e, *r), ends, numbers, numbers),
    st.builds(lambda e, *r: HeartbeatResponse(*e, *r), ends, numbers),
    chunks(),
    st.builds(lambda e, *r: SnapshotResponse(*e, *r), ends, numbers, numbers),
    st.builds(lambda e: CampaignNow(*e), ends),
)
batches = st.lists(st.builds(GroupMessage, numbers, messages), max_size=8)


def carried(batch: list[GroupMessage]) -> list[GroupMessage]:
    frames = list(encode_frames(batch))
    return [each for frame in frames for each in decode_frame(frame, SENDER, RECEIVER)]


@given(batches)
def test_every_message_comes_back_as_it_was_sent(batch: list[GroupMessage]) -> None:
    assert carried(batch) == batch


@pytest.mark.parametrize(("field", "fault"), [("pre", lambda w: w.vote_request.ClearField("pre"))])
def test_the_round_trip_finds_a_forgotten_field(field: str, fault, monkeypatch) -> None:
    encode = peer_codec._encode

    def forgetful(each: GroupMessage) -> wire.GroupMessage:
        out = encode(each)
        fault(out)
        return out

    monkeypatch.setattr(peer_codec, "_encode", forgetful)
    sent = [GroupMessage(1, VoteRequest(SENDER, RECEIVER, 2, 5, 1, pre=True))]
    assert getattr(sent[0].message, field)
    assert carried(sent) != sent


@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_are_refused_by_name(data: bytes) -> None:
    try:
        decoded = decode_frame(data, SENDER, RECEIVER)
    except InvalidInput as error:
        decoded, code = (), error.code
    else:
        code = "peer_frame_malformed"
    assert code == "peer_frame_malformed"
    for each in decoded:
        assert (each.message.sender, each.message.receiver) == (SENDER, RECEIVER)


@given(batches.filter(bool), st.data())
def test_a_damaged_frame_is_refused_or_still_messages_of_this_sender(
    batch: list[GroupMessage], data: st.DataObject
) -> None:
    frame = bytearray(next(encode_frames(batch)))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_frame(bytes(frame), SENDER, RECEIVER)
    except InvalidInput as error:
        decoded, code = (), error.code
    else:
        code = "peer_frame_malformed"
    assert code == "peer_frame_malformed"
    assert all(each.message.sender == SENDER for each in decoded)


def test_large_messages_go_in_frames_of_their_own() -> None:
    entry = LogEntry(1, 1, b"x" * (FRAME_BYTES_TARGET - 100))
    large = GroupMessage(1, AppendRequest(SENDER, RECEIVER, 1, 0, 0, (entry,), 0))
    small = GroupMessage(2, Heartbeat(SENDER, RECEIVER, 1, 0))
    frames = list(encode_frames([large, large, small]))
    assert len(frames) == 2
    assert carried([large, large, small]) == [large, large, small]


@pytest.mark.parametrize(
    "message",
    [
        wire.GroupMessage(group=1, term=1),
        wire.GroupMessage(group=1, term=2**63, campaign_now=wire.CampaignNow()),
        wire.GroupMessage(group=1, term=1, snapshot_chunk=wire.SnapshotChunk(index=1)),
        wire.GroupMessage(
            group=1, term=1, snapshot_chunk=wire.SnapshotChunk(voters=[1, 2], learners=[2])
        ),
        wire.GroupMessage(group=1, term=1, snapshot_chunk=wire.SnapshotChunk(voters=[0])),
    ],
)
def test_what_cannot_be_a_message_is_refused(message: wire.GroupMessage) -> None:
    frame = wire.Frame(messages=[message]).SerializeToString()
    with pytest.raises(InvalidInput) as caught:
        decode_frame(frame, SENDER, RECEIVER)
    assert caught.value.code == "peer_frame_malformed"


def test_hello_is_said_first_and_once() -> None:
    hello = encode_hello("c", 3, 7)
    assert decode_hello(hello) == ("c", 3, 7)
    with pytest.raises(InvalidInput):
        decode_frame(hello, SENDER, RECEIVER)
    with pytest.raises(InvalidInput):
        decode_hello(next(encode_frames([GroupMessage(1, CampaignNow(3, 7, 1))])))
    newer = wire.Frame(hello=wire.Hello(format=2)).SerializeToString()
    with pytest.raises(InvalidInput) as caught:
        decode_hello(newer)
    assert caught.value.code == "peer_format_unknown"
