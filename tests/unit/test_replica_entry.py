"""The bytes of a log entry: as documented, and refused where anything is off."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import Corruption
from workbench.model.keys import Span
from workbench.model.limits import CEILING_AHEAD_MS
from workbench.model.routes import RouteDescriptor, seed_routes
from workbench.replica.clock import ceiling_of
from workbench.replica.commands import (
    Bootstrap,
    Command,
    Mutation,
    OwnedSpan,
    SplitRange,
    WriteBatch,
)
from workbench.replica.entry import decode_entry, encode_command, encode_entry

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/formats/entry.md"
CEILING = ceiling_of(1_000)
SAMPLES: list[Command] = [
    WriteBatch((Mutation(b"k", b"v"), Mutation(b"", None), Mutation(b"\x00" * 9, b"")), b"me", 7),
    WriteBatch(()),
    SplitRange(3, 9, b"m", b"request"),
    Bootstrap((OwnedSpan(Span(b"", b"m"), 1), OwnedSpan(Span(b"m", None), 2)), seed_routes([b"m"])),
]


def entry(*commands: Command, ceiling: int = CEILING) -> bytes:
    stamped = [(at, encode_command(each)) for at, each in enumerate(commands, start=1)]
    return encode_entry(ceiling, stamped)


def code_of(data: bytes) -> str:
    with pytest.raises(Corruption) as caught:
        decode_entry(data)
    assert "offset" in caught.value.message
    return caught.value.code


def test_commands_come_back_in_order_with_their_commit_ts() -> None:
    decoded = decode_entry(entry(*SAMPLES))
    assert decoded.ceiling == CEILING == (1_000 + CEILING_AHEAD_MS) << 16
    assert [each.command for each in decoded.commands] == SAMPLES
    assert [each.commit_ts for each in decoded.commands] == [1, 2, 3, 4]


def test_an_entry_may_only_raise_the_ceiling() -> None:
    assert decode_entry(entry()).commands == ()
    assert len(entry()) == 13


def test_the_documented_bytes_are_those_written() -> None:
    block = DOCUMENT.read_text().split("```")[1]
    documented = bytes.fromhex("".join(block.split()))
    body = encode_command(WriteBatch((Mutation(b"k", b"v"),)))
    assert encode_entry(0x190_0000, [(0x0A, body)]) == documented
    assert decode_entry(documented).commands[0].commit_ts == 10


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_every_truncation_and_every_extra_byte_is_refused(sample: Command) -> None:
    data = entry(sample)
    for length in range(len(data)):
        assert code_of(data[:length]) == "entry_malformed"
    assert code_of(data + b"\x00") == "entry_malformed"


def test_an_unknown_version_or_kind_is_not_skipped() -> None:
    data = entry(SplitRange(1, 1, b"m"))
    assert code_of(b"\x02" + data[1:]) == "command_version_unknown"
    assert code_of(data[:13] + b"\x63" + data[14:]) == "command_version_unknown"


def test_a_commit_ts_at_the_ceiling_or_out_of_order_is_refused() -> None:
    body = encode_command(WriteBatch(()))
    assert code_of(encode_entry(5, [(5, body)])) == "entry_malformed"
    assert code_of(encode_entry(5, [(2, body), (2, body)])) == "entry_malformed"
    assert code_of(encode_entry(5, [(0, body)])) == "entry_malformed"


def test_counts_are_checked_before_anything_is_allocated() -> None:
    huge = b"\xff\xff\xff\xff"
    assert code_of(entry()[:9] + huge) == "entry_malformed"
    data = entry(WriteBatch(()))
    assert code_of(data[:-4] + huge) == "entry_malformed"
    data = entry(Bootstrap(()))
    assert code_of(data[:-4] + huge) == "entry_malformed"
    assert code_of(data[:-8] + huge + data[-4:]) == "entry_malformed"


def test_flags_and_operations_that_nobody_wrote_are_refused() -> None:
    put = entry(WriteBatch((Mutation(b"k", b"v"),)))
    at = put.index(b"\x01\x00\x00\x00\x01\x00\x00\x00\x01kv")
    assert code_of(put[:at] + b"\x03" + put[at + 1 :]) == "entry_malformed"
    assert code_of(put[:at] + b"\x02" + put[at + 1 :]) == "entry_malformed"
    span = entry(Bootstrap((OwnedSpan(Span(b"a", None), 1),)))
    at = len(span) - 5
    assert code_of(span[:at] + b"\x02" + span[at + 1 :]) == "entry_malformed"


def test_a_reversed_span_and_a_bad_route_record_are_refused() -> None:
    spans = entry(Bootstrap((OwnedSpan(Span(b"a", b"b"), 1),)))
    at = spans.index(b"a\x01\x00\x00\x00\x01b")
    assert code_of(spans[:at] + b"c" + spans[at + 1 :]) == "entry_malformed"
    routes = entry(Bootstrap((), (RouteDescriptor(1, Span(b"", None), 1),)))
    at = len(encode_entry(1, [])) + 13 + 4 + 4
    assert routes[at + 4] == 2
    assert code_of(routes[: at + 4] + b"\x63" + routes[at + 5 :]) == "entry_malformed"
