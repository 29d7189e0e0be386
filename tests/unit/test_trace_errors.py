"""Reading traces that cannot be accepted: each error has a code, the row or value, a way out."""

from __future__ import annotations

import io
import lzma
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.errors import InvalidArgument, InvalidInput
from workbench.traces import files, streams, windows
from workbench.traces.columns import CLOUDPHYSICS_OPERATIONS, KEY_ENCODINGS, OPERATIONS
from workbench.traces.readers import (
    COMPRESSION_ENDINGS,
    FORMAT_BY_ENDING,
    FORMATS,
    TIME_UNITS,
    TraceOptions,
    read_trace,
)


def refusal(data: bytes, **options: object) -> InvalidInput:
    """Return the error of reading `data`; every one is a single line with a hint."""
    with pytest.raises(InvalidInput) as caught:
        read_trace(io.BytesIO(data), "t", TraceOptions(**options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


def parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def compressed(data: bytes, codec: str) -> bytes:
    if codec == "xz":
        return lzma.compress(data, preset=1)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"time,key\n",
        b"time,key",
        compressed(b"", "gzip"),
        compressed(b"time,key\n", "zstd"),
        compressed(b"", "xz"),
        parquet(time=pa.array([], pa.int64()), key=pa.array([], pa.binary())),
        parquet(time=pa.array([], pa.int64()), key=pa.array([], pa.string())),
    ],
)
def test_a_trace_without_accesses_is_empty(data: bytes) -> None:
    assert refusal(data).code == "trace_empty"


CODECS = ["zstd", "gzip", "lz4", "bz2", "xz"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_compressed_stream_that_ends_early_is_cut_off(codec: str, kept: float) -> None:
    rows = b"".join(b"%d,%d\n" % (i, i * i * 7919 % 10**9) for i in range(200_000))
    data = compressed(b"time,key\n" + rows, codec)
    error = refusal(data[: int(len(data) * kept)])
    assert error.code == "trace_truncated"
    assert codec in error.message


@pytest.mark.parametrize("codec", CODECS)
def test_a_compressed_stream_is_cut_off_at_whatever_byte_it_ends(codec: str) -> None:
    data = compressed(b"time,key\n1,a\n2,b\n", codec)
    for end in range(2, len(data)):
        assert refusal(data[:end]).code == "trace_truncated", end
    for end in range(len(data) + 2, 2 * len(data)):
        assert refusal((data + data)[:end]).code == "trace_truncated", end


@pytest.mark.parametrize("codec", ["gzip", "xz"])
def test_a_compressed_stream_that_does_not_decode_is_damaged(codec: str) -> None:
    data = compressed(b"time,key\n1,a\n", codec)
    assert refusal(data + b"rubbish!").code == "trace_damaged"
    wrong = bytearray(data)
    wrong[len(data) // 2] ^= 0xFF
    assert refusal(bytes(wrong)).code == "trace_damaged"


def test_xz_padding_of_an_odd_length_is_damaged() -> None:
    data = compressed(b"time,key\n1,a\n", "xz")
    assert refusal(data + bytes(3)).code == "trace_damaged"
    assert refusal(data + bytes(5) + data).code == "trace_damaged"


def test_an_xz_stream_that_asks_for_too_much_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "XZ_MEMORY_BYTES_MAX", 1 << 20)
    error = refusal(lzma.compress(b"time,key\n1,a\n", preset=6))
    assert error.code == "trace_too_large"
    assert "memory" in error.message


@pytest.mark.parametrize("tail", [b"3", b"3,b\n4\n"[:-1], b"3,c\n4\n"])
def test_a_last_csv_row_with_fewer_columns_is_cut_off(tail: bytes) -> None:
    error = refusal(b"time,key\n1,a\n2,b\n" + tail)
    assert error.code == "trace_truncated"
    assert "1 of 2 columns" in error.message


def test_a_csv_row_of_another_length_in_the_middle_is_named() -> None:
    error = refusal(b"time,key\n1,a\n2\n3,c\n")
    assert error.code == "trace_row_invalid"
    assert "row 2" in error.message
    assert refusal(b"time,key\n1,a\n2,b,c\n").code == "trace_row_invalid"
    assert refusal(b"time,key\n1,a\n2,b,c\n4\n5\n").code == "trace_row_invalid"


def test_a_csv_row_is_numbered_across_blocks() -> None:
    good = b"1,abcdefgh\n" * 200_000  # over 2 MB: three blocks
    error = refusal(b"time,key\n" + good + b"1\n" + good)
    assert error.code == "trace_row_invalid"
    assert "row 200001:" in error.message


def test_a_parquet_file_without_footer_is_cut_off() -> None:
    data = parquet(time=[1], key=[b"a"])
    assert refusal(data[:-1]).code == "trace_truncated"
    assert refusal(b"PAR1").code in {"trace_truncated", "trace_unreadable"}


def test_a_parquet_file_with_a_wrong_footer_does_not_decode() -> None:
    data = bytearray(parquet(time=[1], key=[b"a"]))
    data[-40:-8] = b"\xff" * 32
    assert refusal(bytes(data)).code == "trace_unreadable"


def test_a_parquet_file_that_declares_too_many_rows_is_refused_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "ROWS_MAX", 2)
    error = refusal(parquet(time=[1, 2, 3], key=[b"a", b"b", b"c"]))
    assert error.code == "trace_too_large"
    assert "3 rows" in error.message


def test_a_csv_file_of_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROWS_MAX", 2)
    assert refusal(b"time,key\n1,a\n2,b\n3,c\n").code == "trace_too_large"


def test_a_parquet_file_that_declares_too_many_bytes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "RAW_BYTES_MAX", 10)
    assert refusal(parquet(time=[1, 2], key=[b"a", b"b"])).code == "trace_too_large"


def test_a_packed_parquet_file_is_unpacked_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "IN_MEMORY_BYTES_MAX", 100)
    error = refusal(compressed(parquet(time=[1], key=[b"a"]), "zstd"))
    assert error.code == "trace_too_large"


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"42932745 8 0 0\n42932753 8 0 1\n", "text without a known header, '42932745 8 0 0'"),
        (b'{"time": 1, "key": "a"}\n', "JSON"),
        (b"PK\x03\x04....", "ZIP"),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08\x09", "binary data, 0x0102030405060708"),
        (b"1,2,3\n4,5,6\n", "text without a known header"),
        ("time,key\n".encode("utf-16"), "UTF-16"),
        (b"\x1b[31mred\n", "binary data"),
    ],
)
def test_an_unknown_format_says_what_the_bytes_look_like(data: bytes, looks: str) -> None:
    error = refusal(data)
    assert error.code == "trace_format_unknown"
    assert looks in error.message
    assert "--format arc|cloudphysics|csv|parquet|u32" in error.hint


def test_a_named_format_that_the_bytes_contradict_is_refused() -> None:
    data = parquet(time=[1], key=[b"a"])
    assert refusal(data, format="csv").code == "trace_format_unknown"
    assert "looks like a Parquet file" in refusal(data, format="csv").message
    assert refusal(b"time,key\n1,a\n", format="parquet").code == "trace_format_unknown"


def test_missing_columns_are_listed_with_those_there_are() -> None:
    error = refusal(b"time,block\n1,a\n")
    assert error.code == "trace_columns_missing"
    assert "it has time, block" in error.message
    assert "--columns key=NAME" in error.hint
    assert refusal(parquet(time=[1], block=[1])).code == "trace_columns_missing"


def test_a_missing_time_column_offers_a_rate() -> None:
    error = refusal(b"key,op\na,r\n")
    assert error.code == "trace_columns_missing"
    assert "--rate" in error.hint


def test_a_mapped_column_that_does_not_exist_is_named() -> None:
    error = refusal(b"time,key\n1,a\n", columns={"size": "bytes"})
    assert error.code == "trace_columns_missing"
    assert "'bytes'" in error.message


def test_a_column_that_occurs_twice_is_ambiguous() -> None:
    assert refusal(b"time,key,key\n1,a,b\n").code == "trace_columns_ambiguous"


def test_a_rate_beside_a_time_column_is_refused() -> None:
    error = refusal(b"time,key\n1,a\n", rate=5.0)
    assert isinstance(error, InvalidArgument)
    assert "--speedup" in error.hint


def test_a_pace_that_leaves_the_calendar_is_refused() -> None:
    assert refusal(b"key\na\nb\n", rate=1e-12).code == "trace_option_invalid"
    assert refusal(b"time,key\n1,a\n9,b\n", speedup=1e-12).code == "trace_option_invalid"


def test_unsorted_times_name_the_row_and_both_times() -> None:
    error = refusal(b"time,key\n1,a\n3,b\n2,c\n")
    assert error.code == "trace_unsorted"
    assert "row 3: time 1970-01-01T00:00:02Z is before 1970-01-01T00:00:03Z" in error.message
    assert "--sort" in error.hint


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("", "is empty"),
        ("soon", "'soon'"),
        ("2026-01-01", "'2026-01-01'"),
        ("-1", "out of range"),
        ("nan", "out of range"),
        ("1e300", "out of range"),
        ("1700000000000000", "out of range"),
        ("99999999999999999999", "out of range"),
    ],
)
def test_a_wrong_time_is_named_with_its_row(time: str, said: str) -> None:
    error = refusal(f"time,key\n1,a\n{time},b\n".encode())
    assert error.code == "trace_time_invalid"
    assert "row 2" in error.message
    assert said in error.message


def test_a_wrong_timestamp_is_named_with_its_row() -> None:
    data = b"time,key\n2026-01-01T00:00:00Z,a\n2026-13-01T00:00:00Z,b\n"
    error = refusal(data)
    assert error.code == "trace_time_invalid"
    assert "row 2: time '2026-13-01T00:00:00Z' is not a number or timestamp" in error.message


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None]),
        pa.array([1, 2**64 - 1], pa.uint64()),
        pa.array([1, -1]),
        pa.array([True, False]),
        pa.array([1, 2**62], pa.timestamp("ms")),
    ],
)
def test_a_wrong_parquet_time_is_refused(column: pa.Array) -> None:
    assert refusal(parquet(time=column, key=[b"a", b"b"])).code == "trace_time_invalid"


def test_an_unknown_operation_is_named_with_its_row() -> None:
    error = refusal(b"time,key,op\n1,a,r\n2,b,frob\x1b\n")
    assert error.code == "trace_op_unknown"
    assert "row 2" in error.message
    assert r"'frob\x1b'" in error.message
    assert "read" in error.hint


def test_cloudphysics_knows_its_own_operations_only() -> None:
    data = b"version,time,op,size,lbn\n1,1,read,512,7\n"
    assert refusal(data).code == "trace_op_unknown"


@pytest.mark.parametrize(
    ("key", "encoding", "shown"),
    [
        (b"abc", "hex", "abc"),
        (b"zz", "hex", "zz"),
        (b"-1", "u64", "-1"),
        (b"18446744073709551616", "u64", "18446744073709551616"),
        (b"1.5", "u64", "1.5"),
        (b"", None, "is empty"),
    ],
)
def test_a_key_that_does_not_decode_is_named_with_its_row(
    key: bytes, encoding: str | None, shown: str
) -> None:
    error = refusal(b"time,key\n1,10\n2," + key + b"\n3,zz\n", key_encoding=encoding)
    assert error.code == "trace_key_invalid"
    assert "row 2" in error.message
    assert shown in error.message
    assert "--key-encoding" in error.hint


@pytest.mark.parametrize(
    ("column", "encoding"),
    [
        (pa.array([b"a", None]), None),
        (pa.array([1, -1]), "u64"),
        (pa.array([1, 2]), "hex"),
        (pa.array([1.0, 2.0]), None),
    ],
)
def test_a_wrong_parquet_key_is_refused(column: pa.Array, encoding: str | None) -> None:
    error = refusal(parquet(time=[1, 2], key=column), key_encoding=encoding)
    assert error.code == "trace_key_invalid"


def test_a_key_over_4_kib_is_refused() -> None:
    error = refusal(b"time,key\n1,a\n2," + b"k" * 4097 + b"\n")
    assert error.code == "key_too_long"
    assert "row 2: key has 4097 bytes" in error.message
    short = b"time,key\n2," + b"ab" * 4096 + b"\n"
    assert read_trace(io.BytesIO(short), "t", TraceOptions(key_encoding="hex"))


@pytest.mark.parametrize("size", ["-1", "12.5", "big"])
def test_a_wrong_size_is_named_with_its_row(size: str) -> None:
    error = refusal(f"time,key,size\n1,a,5\n2,b,{size}\n".encode())
    assert error.code == "trace_size_invalid"
    assert "row 2" in error.message
    assert size in error.message


def test_text_that_is_not_utf8_is_named_with_its_row() -> None:
    error = refusal(b"time,key\n1,a\n2,\xff\xfe\n")
    assert error.code == "trace_not_utf8"
    assert "row 2: key 0xfffe" in error.message


def test_the_row_is_found_far_from_the_start() -> None:
    rows = [b"%d,%016x" % (i, i) for i in range(100_000)]
    rows[77_776] = b"77776,nothex!!"
    error = refusal(b"time,key\n" + b"\n".join(rows) + b"\n", key_encoding="hex")
    assert "row 77777" in error.message


def test_a_failing_disk_is_not_taken_for_a_damaged_file() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 1_000_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    rows = b"".join(b"%d,%d\n" % (i, i * i * 7919 % 10**9) for i in range(200_000))
    text = b"time,key\n" + rows
    stored = random.Random(5).randbytes(1_200_000)
    for data in (text, compressed(text, "lz4"), lzma.compress(text + stored, preset=0)):
        assert len(data) > 1_000_000
        with pytest.raises(OSError, match="Input/output error"):
            read_trace(Failing(data), "t", TraceOptions())


def test_a_line_longer_than_a_block_is_refused() -> None:
    data = b"time,key\n1,a\n2," + b"k" * (3 << 20) + b"\n3,c\n"
    assert refusal(data).code == "trace_row_invalid"


@pytest.mark.parametrize(
    "data", [b'1,"a\nb"\n2,c\n', b'1,"a\n2,b\n3,c\n', b'1,a\n2,"b\n', b'1,a,\n2,"b"\n3,"c,d\n']
)
def test_a_quote_that_is_not_closed_swallows_no_rows(data: bytes) -> None:
    assert refusal(b"time,key\n" + data).code == "trace_row_invalid"


def test_quoted_cells_with_commas_and_blank_lines_are_taken() -> None:
    data = b'time,key\n\n1,"a,b"\r\n\n2,"say ""x"""\n\n\n'
    keys = read_trace(io.BytesIO(data), "t", TraceOptions()).accesses.column("key")
    assert keys.to_pylist() == [b"a,b", b'say "x"']


def test_the_format_document_names_every_code_word_and_limit() -> None:
    text = Path("docs/formats/traces.md").read_text(encoding="utf-8")
    sources = "".join(
        path.read_text(encoding="utf-8")
        for path in Path("workbench/traces").glob("*.py")
        if path.name != "generate.py"
    )
    codes = set(re.findall(r'code="(\w+)"', sources))
    assert len(codes) > 15
    listed = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
    assert codes <= listed
    for word in (*OPERATIONS, *CLOUDPHYSICS_OPERATIONS, *FORMATS, *TIME_UNITS, *KEY_ENCODINGS):
        assert f"`{word}`" in text or f"|{word}" in text, word
    assert files.ROWS_MAX == 500_000_000
    assert (files.RAW_BYTES_MAX, streams.IN_MEMORY_BYTES_MAX) == (32 << 30, 4 << 30)
    assert (files.BLOCK_BYTES, streams.XZ_MEMORY_BYTES_MAX) == (1 << 20, 1 << 30)
    for ending in (*FORMAT_BY_ENDING, *COMPRESSION_ENDINGS):
        assert f"`{ending}`" in text, ending
    assert windows.CELLS_MAX == 20_000_000
