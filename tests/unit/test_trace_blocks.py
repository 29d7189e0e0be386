"""Traces of bare block numbers: ARC `.lis` and 4-byte `.trace`, plain, packed, wrong and cut."""

from __future__ import annotations

import io
import lzma
import random
import struct
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.tables import ACCESS, check_table
from workbench.traces import blocks, files
from workbench.traces.readers import Trace, TraceOptions, read_trace

if TYPE_CHECKING:
    from pathlib import Path

LINES = b"230027 8 0 0\n1842745 64 0 1\n216082 1 0 2\n"
STARTS = [230027, 1842745, 216082]
NUMBERS = struct.pack("<4I", 904906, 7, 2**32 - 1, 0)
CODECS = {"none": "", "zstd": ".zst", "gzip": ".gz", "lz4": ".lz4", "bz2": ".bz2", "xz": ".xz"}


def read(data: bytes, name: str = "t", **options: object) -> Trace:
    given = TraceOptions(**{"rate": 1000.0, **options})  # type: ignore[arg-type]
    return read_trace(io.BytesIO(data), name, given)


def refusal(data: bytes, name: str = "t", **options: object) -> InvalidInput:
    """Return the error of reading `data`; every one is a single line with a hint."""
    with pytest.raises(InvalidInput) as caught:
        read(data, name, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


def numbers(trace: Trace) -> list[int]:
    """Return keys as numbers; all have 8 bytes."""
    keys = trace.accesses.column("key").to_pylist()
    assert {len(key) for key in keys} == {8}
    return [int.from_bytes(key, "big") for key in keys]


def compressed(data: bytes, codec: str) -> bytes:
    if codec == "none":
        return data
    if codec == "xz":
        return lzma.compress(data, preset=1)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def test_the_real_arc_trace_is_read_whole(arc: Path) -> None:
    with arc.open("rb") as source:
        trace = read_trace(source, arc.name, TraceOptions(rate=1000.0))
    assert trace.accesses.num_rows == 238_578
    assert numbers(Trace(trace.accesses.slice(0, 3), {}, ())) == STARTS
    assert trace.accesses.column("size").null_count == 238_578
    assert (trace.assumptions["format"], trace.assumptions["compression"]) == ("arc", "zstd")
    assert (
        "230257 of 238578 lines count more than one block, up to 128"
        in (trace.assumptions["access"])
    )
    assert trace.warnings == ()


def test_the_real_trace_of_numbers_is_read_whole(w106: Path) -> None:
    seen: list[int] = []
    with w106.open("rb") as source:
        trace = read_trace(source, w106.name, TraceOptions(rate=1000.0), seen.append)
    assert trace.accesses.num_rows == 5_292_456
    assert numbers(Trace(trace.accesses.slice(0, 4), {}, ())) == [904906, 896511, 904187, 641085]
    keys = pa.concat_arrays(trace.accesses.column("key").chunks)
    recorded = np.frombuffer(lzma.decompress(w106.read_bytes()), "<u4")
    assert np.array_equal(np.frombuffer(keys.buffers()[2], ">u8"), recorded)
    assert (trace.assumptions["format"], trace.assumptions["compression"]) == ("u32", "xz")
    assert seen == sorted(seen)
    assert (len(seen) > 10, seen[-1]) == (True, 5_292_456)
    assert trace.warnings == ()


@pytest.mark.parametrize("codec", CODECS)
def test_both_formats_are_known_by_name_under_every_compression(codec: str) -> None:
    lines = read(compressed(LINES, codec), f"P3.lis{CODECS[codec]}")
    assert (lines.assumptions["format"], numbers(lines)) == ("arc", STARTS)
    bare = read(compressed(NUMBERS, codec), f"w106.TRACE{CODECS[codec].upper()}")
    assert (bare.assumptions["format"], numbers(bare)) == ("u32", [904906, 7, 2**32 - 1, 0])
    for trace in (lines, bare):
        assert trace.assumptions["compression"] == codec
        check_table(trace.accesses, ACCESS, "access table")


def test_a_format_that_is_named_needs_no_name_of_the_file() -> None:
    assert numbers(read(LINES, format="arc")) == STARTS
    assert numbers(read(b"abcd", "key.trace", format="u32")) == [0x64636261]


def test_without_a_name_neither_is_guessed() -> None:
    for data in (LINES, NUMBERS):
        error = refusal(data)
        assert error.code == "trace_format_unknown"
        assert "--format arc|" in error.hint


@pytest.mark.parametrize("name", ["t.lis", "t.trace"])
def test_what_the_bytes_show_goes_before_the_name(name: str) -> None:
    text = "time,key\n1,ä\n2,b\n".encode()
    trace = read(text, name, rate=None)
    assert trace.assumptions["format"] == "csv"
    for words in (b"when what\n1 a\n", b'{"key": 1}\n', "größe,\n".encode()):
        error = refusal(words, name)
        assert error.code == "trace_format_unknown"
        assert "looks like" in error.message


def test_binary_data_is_not_read_as_lines() -> None:
    assert refusal(NUMBERS, "t.lis").code == "trace_format_unknown"
    assert refusal(NUMBERS, "t.lis", format="arc").code == "trace_truncated"


def test_accesses_are_reads_of_no_known_size_at_the_rate() -> None:
    for trace in (read(LINES, "t.lis", rate=4.0), read(NUMBERS[:12], "t.trace", rate=4.0)):
        rows = trace.accesses.to_pylist()
        assert [row["time"].timestamp() for row in rows] == [0.0, 0.25, 0.5]
        assert {(row["op"], row["size"]) for row in rows} == {("read", None)}


def test_everything_assumed_is_said() -> None:
    common = {
        "compression": "none",
        "time": "no column, 1000 accesses per second from 1970-01-01T00:00:00Z",
        "order": "ascending by time as recorded",
        "speedup": "1",
        "key_encoding": "u64",
        "op": "no column, every access taken as a read",
    }
    assert read(LINES, "t.lis").assumptions == {
        **common,
        "format": "arc",
        "rows": "3",
        "columns": "key=start",
        "size": "not measured; count is a number of blocks, and the size of a block is not told",
        "access": "one per line, at its start block; 2 of 3 lines count more than one block, "
        "up to 64",
    }
    assert read(NUMBERS, "t.trace").assumptions == {
        **common,
        "format": "u32",
        "rows": "4",
        "columns": "key=number",
        "size": "no column, not measured",
    }


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (NUMBERS[:-1], "t.trace"),
        (lzma.compress(random.Random(1).randbytes(400_000))[:-9], "t.trace.xz"),
        (lzma.compress(LINES * 40_000)[:-9], "t.lis.xz"),
    ],
)
def test_a_cut_file_says_so_before_it_asks_for_a_rate(data: bytes, name: str) -> None:
    assert refusal(data, name, rate=None).code == "trace_truncated"


@pytest.mark.parametrize(("data", "name"), [(LINES, "t.lis"), (NUMBERS, "t.trace")])
def test_a_trace_without_times_asks_for_a_rate(data: bytes, name: str) -> None:
    error = refusal(data, name, rate=None)
    assert error.code == "trace_columns_missing"
    assert "--rate" in error.hint


@pytest.mark.parametrize("columns", [{"size": "start"}, {"time": "number"}, {"key": "count"}])
@pytest.mark.parametrize(("data", "name"), [(LINES, "t.lis"), (NUMBERS, "t.trace")])
def test_names_of_columns_are_refused(data: bytes, name: str, columns: dict[str, str]) -> None:
    error = refusal(data, name, columns=columns)
    assert isinstance(error, InvalidArgument)
    assert error.code == "trace_option_invalid"


def test_keys_of_block_numbers_have_no_other_encoding() -> None:
    assert numbers(read(LINES, "t.lis", key_encoding="u64")) == STARTS
    assert refusal(LINES, "t.lis", key_encoding="hex").code == "trace_key_invalid"
    assert refusal(NUMBERS, "t.trace", key_encoding="utf8").code == "trace_key_invalid"


def test_renumbered_blocks_are_warned_of() -> None:
    lines = b"".join(b"%d 1 0 %d\n" % (i, i) for i in range(300))
    for trace in (read(lines, "t.lis"), read(np.arange(300, dtype="<u4").tobytes(), "t.trace")):
        (warning,) = trace.warnings
        assert "first-arrival order" in warning


def test_fields_are_separated_by_any_blanks_and_blank_lines_do_not_count() -> None:
    data = b"\r\n  1\t 8  0 0 \r\n\n \t\n00002 0 0 0\n18446744073709551615 1 2 3\n\n"
    assert numbers(read(data, "t.lis")) == [1, 2, 2**64 - 1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"1 8 0", "3 fields instead of 4"),
        (b"1 8 0 0 0", "5 fields instead of 4"),
        (b"-1 8 0 0", "field 1 (start) is '-1'"),
        (b"+1 8 0 0", "field 1 (start) is '+1'"),
        (b"1 -8 0 0", "field 2 (count) is '-8'"),
        (b"1 8 x 0", "field 3 (unused) is 'x'"),
        (b"1 8 0 0x10", "field 4 (unused) is '0x10'"),
        (b"1.5 8 0 0", "field 1 (start) is '1.5'"),
        (b"1 8 0 1e3", "field 4 (unused) is '1e3'"),
        (b"18446744073709551616 8 0 0", "not a whole number below 2**64"),
        (b"1 8 0 18446744073709551616", "field 4 (unused) is '18446744073709551616'"),
        (b"9" * 5_000 + b" 8 0 0", "field 1 (start)"),
        (b"1 8 0 \x1b[31m", r"field 4 (unused) is '\x1b[31m'"),
        (b"1 8 0 \xff\x00", r"field 4 (unused) is '\\xff\x00'"),
        ("1 8 0 ٣".encode(), r"field 4 (unused) is '\u0663'"),
    ],
)
def test_a_wrong_arc_line_is_named_with_its_number(line: bytes, said: str) -> None:
    for before in (b"", b"1 8 0 0\n\n", b"1 8 0 0\n" * 150_000):  # the last in two blocks
        data = before + line + b"\n5 8 0 0\nalso wrong\n"
        error = refusal(data, "t.lis")
        assert error.code == "trace_row_invalid"
        number = before.count(b"\n") + 1
        assert f"line {number}:" in error.message
        assert said in error.message
        assert len(error.message) < 200


def test_the_fast_way_and_the_slow_way_through_lines_agree() -> None:
    chance = random.Random(106)
    fields = [b"0", b"7", b"18446744073709551615", b"0" * 30 + b"12"]
    wrong = [b"-1", b"a", b"18446744073709551616", b"\x00", b"1_0"]
    accepted = 0
    for _ in range(3_000):
        rows = []
        for _ in range(chance.randrange(5)):
            width = chance.choice([0, 4, 4, 4, 4, 4, 4, 3, 5, 8])
            row = [chance.choice(fields) for _ in range(width)]
            if row and chance.random() < 0.1:
                row[chance.randrange(width)] = chance.choice(wrong)
            rows.append(
                chance.choice([b" ", b"\t", b"  \t"]).join(row) + chance.choice([b"", b" "])
            )
        block = chance.choice([b"\n", b"\r\n"]).join(rows) + chance.choice([b"", b"\n"])
        lines = [line.split() for line in block.split(b"\n")]
        right = all(
            len(line) in {0, 4} and all(f.isdigit() and int(f) < 2**64 for f in line)
            for line in lines
        )
        found = blocks._four_per_line(block)
        assert (found is not None) == right, block
        if found is not None:
            accepted += 1
            assert found.tolist() == [[int(f) for f in line] for line in lines if line]
        else:
            with pytest.raises(InvalidInput):
                blocks._refuse(block, 0, "t")
    assert 500 < accepted < 2_500


def test_a_cut_last_line_is_told_from_a_wrong_one() -> None:
    error = refusal(LINES + b"23 8", "t.lis")
    assert error.code == "trace_truncated"
    assert "last line 4 has 2 of 4 fields" in error.message
    assert refusal(LINES + b"23 8\n", "t.lis").code == "trace_row_invalid"
    trace = read(LINES + b"23 8 0 1", "t.lis")
    assert trace.accesses.num_rows == 4
    assert "the last line has no line end" in trace.warnings[0]


def test_a_line_longer_than_a_block_is_refused() -> None:
    data = LINES + b"1 8 0 " + b"0" * (3 << 20) + b"\n"
    assert refusal(data, "t.lis").code == "trace_row_invalid"


@pytest.mark.parametrize("left", [1, 2, 3, 5])
def test_numbers_that_are_no_multiple_of_four_bytes_are_cut_off(left: int) -> None:
    error = refusal(NUMBERS[:left], "t.trace")
    assert error.code == "trace_truncated"
    assert f"its {left} bytes" in error.message
    many = NUMBERS * 200_000
    error = refusal(many[: len(many) - left], "t.trace")
    assert error.code == "trace_truncated"
    assert f"its {len(many) - left} bytes" in error.message


def test_numbers_survive_a_source_that_answers_in_odd_parts() -> None:
    class Odd(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 7, 7) if size != -1 else 7)

    data = np.random.default_rng(106).integers(0, 2**32, 30_000, dtype="<u4").tobytes()
    trace = read_trace(Odd(data), "t.trace", TraceOptions(rate=1.0))
    assert numbers(trace) == np.frombuffer(data, "<u4").tolist()


@pytest.mark.parametrize(
    ("data", "name"), [(b"", "t.lis"), (b"", "t.trace"), (b"\n \r\n\n", "t.lis")]
)
@pytest.mark.parametrize("codec", CODECS)
def test_a_file_without_accesses_is_empty(data: bytes, name: str, codec: str) -> None:
    assert refusal(compressed(data, codec), name).code == "trace_empty"


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "none"])
@pytest.mark.parametrize(("data", "name"), [(LINES, "t.lis"), (NUMBERS * 5, "t.trace")])
def test_a_packed_trace_is_cut_off_at_whatever_byte_it_ends(
    data: bytes, name: str, codec: str
) -> None:
    packed = compressed(data, codec)
    for end in range(2, len(packed)):
        error = refusal(packed[:end], name)
        assert error.code == "trace_truncated", end
        assert codec in error.message


@pytest.mark.parametrize("codec", ["zstd", "gzip", "xz"])
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_long_packed_trace_that_ends_early_is_cut_off(codec: str, kept: float) -> None:
    blocks_ = np.random.default_rng(3).integers(0, 2**20, 60_000, dtype="<u4")
    lines = b"".join(b"%d 8 0 0\n" % number for number in blocks_.tolist())
    for data, name in ((blocks_.tobytes(), "t.trace"), (lines, "t.lis")):
        packed = compressed(data, codec)
        assert refusal(packed[: int(len(packed) * kept)], name).code == "trace_truncated"


@pytest.mark.parametrize(("data", "name"), [(LINES, "t.lis"), (NUMBERS, "t.trace")])
def test_too_many_accesses_are_refused(
    data: bytes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROWS_MAX", 2)
    assert refusal(data, name).code == "trace_too_large"
