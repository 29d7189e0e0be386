"""Torn or damaged: what a crash leaves is cut, and no changed bit of a durable frame goes by.

The model of a crash is that of `node.log_tail`: of the one frame that no sync had confirmed, each
sector is there, or zeros, or beyond the end of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from workbench.node import log_tail
from workbench.node.log_format import FRAME_HEADER_BYTES, encode_frame, encode_header, valid_frame
from workbench.node.log_tail import SECTOR_BYTES, why_damaged

marks = st.binary(min_size=8, max_size=8).filter(lambda mark: mark[0] not in mark[1:])
# With zeros only in short runs, as entries have; a payload of its own has its own test.
payloads = st.builds(
    lambda seed, size: bytes(1 + (seed + at * at) % 251 for at in range(size)),
    st.integers(0, 250),
    st.one_of(st.integers(0, 100), st.integers(0, 2_000)),
)


@dataclass(frozen=True)
class Segment:
    """A whole segment; frame n of it is at `starts[n - 1]`."""

    data: bytes
    mark: bytes
    starts: tuple[int, ...]


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    mark = draw(marks)
    data, starts = encode_header(1, mark), []
    for number, payload in enumerate(draw(st.lists(payloads, min_size=2, max_size=6)), start=1):
        starts.append(len(data))
        data += encode_frame(mark, number, payload)
    return Segment(data, mark, tuple(starts))


def verdict(segment: Segment, data: bytes) -> tuple[int, str | None]:
    """Return how many frames are read, and why the one behind them is no torn one."""
    at = segment.starts[0]
    number = 0
    while at < len(data):
        found = valid_frame(data, at, segment.mark)
        if found is None:
            return number, why_damaged(data, at, segment.mark, number + 1)
        number += 1
        at += FRAME_HEADER_BYTES + len(found[1])
    return number, None


def seems_absent(data: bytes, start: int) -> bool:
    """Tell whether a sector of the frame that starts there has no byte but zeros."""
    first = start - start % SECTOR_BYTES
    sectors = [data[max(at, start) : at + 512] for at in range(first, len(data), SECTOR_BYTES)]
    return any(not any(sector) for sector in sectors)


def flipped(data: bytes, bits: list[int]) -> bytes:
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(segments(), st.data())
def test_any_one_bit_of_any_frame_is_found(segment: Segment, data: st.DataObject) -> None:
    bit = data.draw(st.integers(8 * segment.starts[0], 8 * len(segment.data) - 1))
    changed = flipped(segment.data, [bit])
    read, why = verdict(segment, changed)
    assert read == sum(start <= bit // 8 for start in segment.starts) - 1
    assert why is not None or seems_absent(changed, segment.starts[-1])


@given(segments(), st.data())
def test_many_bits_in_the_payloads_of_many_frames_are_found(
    segment: Segment, data: st.DataObject
) -> None:
    inside = [
        at
        for start, end in zip(segment.starts, [*segment.starts[1:], len(segment.data)], strict=True)
        for at in range(8 * (start + FRAME_HEADER_BYTES), 8 * end)
    ]
    assume(inside)
    bits = data.draw(st.sets(st.sampled_from(inside), min_size=1, max_size=20))
    changed = flipped(segment.data, sorted(bits))
    damaged = sum(start <= min(bits) // 8 for start in segment.starts)
    read, why = verdict(segment, changed)
    assert read == damaged - 1
    last = len(segment.starts)
    assert why is not None or (damaged == last and seems_absent(changed, segment.starts[-1]))


@given(segments(), st.data())
def test_any_bytes_over_a_frame_that_others_follow_are_found(
    segment: Segment, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(segment.starts) - 2))
    start, end = segment.starts[place : place + 2]
    at = data.draw(st.integers(start, end - 1))
    junk = data.draw(st.binary(min_size=1, max_size=min(end - at, 300)))
    changed = segment.data[:at] + junk + segment.data[at + len(junk) :]
    assume(changed != segment.data)
    assert verdict(segment, changed) == (place, "the frame is damaged and others follow it")


@given(segments(), st.data())
def test_whatever_a_crash_leaves_of_the_last_frame_is_cut(
    segment: Segment, data: st.DataObject
) -> None:
    start = segment.starts[-1]
    end = data.draw(st.integers(start, len(segment.data)), label="the file ends")
    left = bytearray(segment.data[:end])
    for first in range(start - start % SECTOR_BYTES, end, SECTOR_BYTES):
        if data.draw(st.booleans()):
            absent = range(max(first, start), min(first + SECTOR_BYTES, end))
            left[absent.start : absent.stop] = bytes(len(absent))
    read, why = verdict(segment, bytes(left))
    assert read >= len(segment.starts) - 1
    assert why is None


@given(segments(), st.data())
def test_an_end_that_is_zeroed_from_inside_an_earlier_frame_on_is_found(
    segment: Segment, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(segment.starts) - 2))
    first, behind = segment.starts[place] + FRAME_HEADER_BYTES, segment.starts[place + 1]
    assume(first < behind)
    start = data.draw(st.integers(first, behind - 1))
    changed = segment.data[:start] + bytes(len(segment.data) - start)
    assert verdict(segment, changed) == (place, "the frame is damaged and there is more behind it")


FRAME = encode_frame(b"testmark", 2, bytes(range(1, 201)) * 6)
START = len(encode_header(1, b"testmark")) + len(encode_frame(b"testmark", 1, b""))
PRESENT = "the frame is damaged and no part of it is missing"
WHOLE = encode_header(1, b"testmark") + encode_frame(b"testmark", 1, b"") + FRAME


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (WHOLE[:-1], None),
        (WHOLE[: START + 3], None),
        (WHOLE[:START] + bytes(len(FRAME)), None),
        (WHOLE[:1024] + bytes(len(WHOLE) - 1024), None),
        (WHOLE[:600] + bytes(424) + WHOLE[1024:], PRESENT),
        (WHOLE[:-1] + b"\xff", PRESENT),
        (WHOLE[:-1] + b"\xff\0", "the frame is damaged and there is more behind it"),
        (WHOLE[: START + 9] + b"\xff" + WHOLE[START + 10 :], "the length of the frame is damaged"),
        (WHOLE[:START] + bytes(1) + WHOLE[START + 1 :], "the header of the frame is damaged"),
        (WHOLE[:START] + b"junk", "the header of the frame is damaged"),
        (WHOLE[:-9] + b"_testmark", "the frame is damaged and others follow it"),
    ],
)
def test_each_kind_of_end_has_its_verdict(data: bytes, why: str | None) -> None:
    assert why_damaged(data, START, b"testmark", 2) == why


def test_a_rule_that_takes_all_without_marks_behind_for_torn_fails_these_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rule as it was once, as a planted fault."""
    monkeypatch.setattr(log_tail, "_is_there", lambda *_: False)
    for data in (WHOLE[:-1] + b"\xff", WHOLE[:1000] + bytes(3_000)):
        with pytest.raises(AssertionError):
            test_each_kind_of_end_has_its_verdict(data, PRESENT)
