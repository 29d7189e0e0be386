"""Messages between nodes: every one comes back as it was sent, and no bytes do harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InvalidInput
from workbench.model.limits import ENTRY_BYTES_MAX
from workbench.node import peer_codec
from workbench.node.peer_codec import (
    FRAME_BYTES_TARGET,
    FRAME_MESSAGES_MAX,
    HELLO_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    NUMBER_MAX,
    REQUEST_ENTRIES_MAX,
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
from workbench.raft.leading import REQUEST_BYTES_MAX
from workbench.raft.membership import encode_configuration
from workbench.replica.entry import (
    COMMAND_HEAD_BYTES,
    ENTRY_HEAD_BYTES,
    WRITE_BATCH,
    EncodedCommand,
    encode_entry,
)

SENDER, RECEIVER = 3, 7
HEADS = ENTRY_HEAD_BYTES + COMMAND_HEAD_BYTES


def entry_of(body: bytes) -> bytes:
    """Return an entry of one command, whose body only a replica looks at."""
    return encode_entry(2, [(1, EncodedCommand(WRITE_BATCH, body))])


numbers = st.integers(0, NUMBER_MAX)
groups = st.integers(0, 2**63 - 1)
flags = st.booleans()
terms = st.integers(1, NUMBER_MAX)
CONFIGURATION = EntryKind.CONFIGURATION
ends = st.tuples(st.just(SENDER), st.just(RECEIVER), terms)


@st.composite
def members(draw: st.DrawFn) -> Configuration:
    nodes = draw(st.lists(st.integers(1, 9), min_size=1, unique=True))
    voters = draw(st.integers(1, len(nodes)))
    return Configuration(frozenset(nodes[:voters]), frozenset(nodes[voters:]))


configurations = members()


@st.composite
def appends(draw: st.DrawFn) -> AppendRequest:
    before = draw(numbers)
    bodies = st.just(b"") | st.binary(max_size=40).map(entry_of)
    commands = st.tuples(terms, bodies, st.just(EntryKind.COMMAND))
    changes = st.tuples(terms, configurations.map(encode_configuration), st.just(CONFIGURATION))
    parts = draw(st.lists(commands | changes, max_size=4))
    entries = tuple(LogEntry(before + 1 + at, *part) for at, part in enumerate(parts))
    return AppendRequest(*draw(ends), before, draw(numbers), entries, draw(numbers))


@st.composite
def chunks(draw: st.DrawFn) -> SnapshotChunk:
    meta = SnapshotMeta(draw(numbers), draw(numbers), draw(configurations))
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
batches = st.lists(st.builds(GroupMessage, groups, messages), max_size=8)


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
    entry = LogEntry(1, 1, entry_of(b"x" * (FRAME_BYTES_TARGET - 100 - HEADS)))
    large = GroupMessage(1, AppendRequest(SENDER, RECEIVER, 1, 0, 0, (entry,), 0))
    small = GroupMessage(2, Heartbeat(SENDER, RECEIVER, 1, 0))
    frames = list(encode_frames([large, large, small]))
    assert len(frames) == 2
    assert carried([large, large, small]) == [large, large, small]


@pytest.mark.parametrize(
    "message",
    [
        wire.GroupMessage(group=1, term=1),
        wire.GroupMessage(group=1, term=NUMBER_MAX + 1, campaign_now=wire.CampaignNow()),
        wire.GroupMessage(group=1, term=2**63 - 1, heartbeat=wire.Heartbeat(commit=1, round=1)),
        wire.GroupMessage(group=1, term=1, heartbeat=wire.Heartbeat(commit=NUMBER_MAX + 1)),
        wire.GroupMessage(group=2**63, term=1, campaign_now=wire.CampaignNow()),
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


def request(*entries: wire.Entry) -> bytes:
    """A frame of one request with these entries."""
    asked = wire.AppendRequest(prev_index=1, prev_term=1, entries=entries, commit=1)
    message = wire.GroupMessage(group=1, term=1, append_request=asked)
    return wire.Frame(messages=[message]).SerializeToString()


def refused(frame: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        decode_frame(frame, SENDER, RECEIVER)
    assert caught.value.code == "peer_frame_malformed"
    return caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"garbage",
        b"",
        encode_configuration(Configuration(frozenset())),
        encode_configuration(Configuration(frozenset({0, 1}))),
        encode_configuration(Configuration(frozenset({1}), frozenset({1}))),
        encode_configuration(Configuration(frozenset({2**63}))),
        bytes([1, 0, 2, 0, 0]) + (1).to_bytes(8, "big") * 2,
        encode_configuration(Configuration(frozenset({1}))) + b"x",
    ],
    ids=["garbage", "empty", "nobody", "node 0", "both", "large", "twice", "longer"],
)
def test_members_that_cannot_be_are_refused_before_any_log_holds_them(data: bytes) -> None:
    refused(request(wire.Entry(term=1, data=data, configuration=True)))
    assert decode_frame(request(wire.Entry(term=1, data=entry_of(data))), SENDER, RECEIVER)


def test_an_entry_that_no_log_would_take_is_refused() -> None:
    largest = wire.Entry(term=1, data=entry_of(b"x" * (ENTRY_BYTES_MAX - HEADS)))
    [message] = decode_frame(request(largest), SENDER, RECEIVER)
    assert carried([message]) == [message]
    refused(request(wire.Entry(term=1, data=entry_of(b"x" * (ENTRY_BYTES_MAX - HEADS + 1)))))
    assert "one message of at most" in refused(request(wire.Entry(term=1, data=bytes(15 * 2**20))))


def test_a_frame_of_many_small_messages_is_refused_before_it_costs_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = GroupMessage(999, Heartbeat(SENDER, RECEIVER, 1, 0))
    [frame] = encode_frames([message] * FRAME_MESSAGES_MAX)
    assert len(decode_frame(frame, SENDER, RECEIVER)) == FRAME_MESSAGES_MAX
    one = len(frame) // FRAME_MESSAGES_MAX
    monkeypatch.setattr(peer_codec, "_decode", lambda *_: pytest.fail("it was decoded"))
    assert "messages, more than" in refused(frame + frame[:one])
    monkeypatch.setattr(peer_codec, "_parse", lambda *_: pytest.fail("it was parsed"))
    assert "is not one message" in refused(frame[:one] * (15 * 2**20 // one))
    assert "is not one message" in refused(b"\x12" * (15 * 2**20))
    one_message = b"\x12" + b"\x81\x80\xc0\x02" + bytes(MESSAGE_BYTES_MAX + 1)
    assert "is not one message" in refused(one_message)


def test_many_messages_go_in_frames_that_the_receiver_takes() -> None:
    batch = [GroupMessage(1, CampaignNow(SENDER, RECEIVER, 1))] * (2 * FRAME_MESSAGES_MAX + 1)
    assert len(list(encode_frames(batch))) == 3
    assert carried(batch) == batch


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"garbage", "head is cut"),
        (b"\x09" + encode_entry(2, [])[1:], "entry version 9"),
        (encode_entry(2, []) + b"x", "too many"),
        (entry_of(b"body")[:-1], "is cut"),
        (encode_entry(2, [(1, EncodedCommand(99, b""))]), "command kind 99"),
    ],
)
def test_an_entry_that_no_replica_could_apply_is_refused_before_any_log_holds_it(data, said):
    text = refused(request(wire.Entry(term=1, data=data)))
    assert said in text


def test_the_longest_request_of_a_leader_is_taken_and_a_longer_one_is_not() -> None:
    smallest = wire.Entry(term=1, data=encode_entry(2, []))
    count = REQUEST_BYTES_MAX // ENTRY_HEAD_BYTES
    assert count < REQUEST_ENTRIES_MAX
    [each] = decode_frame(request(*[smallest] * count), SENDER, RECEIVER)
    assert isinstance(each.message, AppendRequest)
    assert len(each.message.entries) == count
    assert "entries" in refused(request(*[wire.Entry(term=1)] * (REQUEST_ENTRIES_MAX + 1)))


def test_a_hello_that_is_no_hello_is_refused_by_its_size() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_hello(encode_hello("c" * HELLO_BYTES_MAX, 3, 7))
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
