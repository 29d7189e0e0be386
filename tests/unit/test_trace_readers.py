"""Reading traces that can be read: formats, encodings, units, and what is said about them."""

from __future__ import annotations

import io
import lzma
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.errors import InvalidArgument
from workbench.model.tables import ACCESS, check_table
from workbench.traces.readers import Trace, TraceOptions, arrival_share, read_trace

if TYPE_CHECKING:
    from pathlib import Path

SMALL = b"time,key,op,size\n1.5,a,read,10\n2,b,write,\n"


def read(data: bytes, **options: object) -> Trace:
    return read_trace(io.BytesIO(data), "t", TraceOptions(**options))  # type: ignore[arg-type]


def rows(trace: Trace) -> list[tuple[float, bytes, str, int | None]]:
    return [
        (row["time"].timestamp(), row["key"], row["op"], row["size"])
        for row in trace.accesses.to_pylist()
    ]


def parquet(columns: dict[str, object]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def compressed(data: bytes, codec: str) -> bytes:
    if codec == "xz":
        return lzma.compress(data)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def test_csv_with_the_canonical_names_needs_no_options() -> None:
    trace = read(SMALL)
    assert rows(trace) == [(1.5, b"a", "read", 10), (2.0, b"b", "write", None)]
    assert trace.accesses.schema == ACCESS
    assert trace.warnings == ()
    check_table(trace.accesses, ACCESS, "access table")


def test_cloudphysics_is_known_by_its_header() -> None:
    trace = read(b"version,time,op,size,lbn\n1,5633898,2a,512,42932745\n1,5633899,28,1024,7\n")
    assert rows(trace) == [
        (5633898.0, struct.pack(">Q", 42932745), "write", 512),
        (5633899.0, struct.pack(">Q", 7), "read", 1024),
    ]
    assert trace.assumptions["format"] == "cloudphysics"
    assert trace.assumptions["key_encoding"] == "u64"


def test_the_real_cloudphysics_trace_is_read_whole(cloudphysics: Path) -> None:
    seen: list[int] = []
    with cloudphysics.open("rb") as source:
        trace = read_trace(source, cloudphysics.name, TraceOptions(), seen.append)
    assert trace.accesses.num_rows == 113_872
    assert seen == sorted(seen)
    assert seen[-1] == 113_872
    assert trace.assumptions["compression"] == "zstd"
    assert trace.warnings == ()


def test_cloudphysics_under_another_header_order_by_name() -> None:
    trace = read(b"lbn,op,time\n7,28,1\n", format="cloudphysics")
    assert rows(trace) == [(1.0, struct.pack(">Q", 7), "read", None)]


@pytest.mark.parametrize("codec", ["zstd", "gzip", "lz4", "bz2", "xz"])
def test_compression_is_known_by_its_magic_bytes(codec: str) -> None:
    trace = read(compressed(SMALL, codec))
    assert rows(trace) == rows(read(SMALL))
    assert trace.assumptions["compression"] == codec


@pytest.mark.parametrize("codec", ["gzip", "xz"])
def test_two_compressed_streams_in_a_row_are_one_file(codec: str) -> None:
    head, tail = SMALL[:17], SMALL[17:]
    assert rows(read(compressed(head, codec) + compressed(tail, codec))) == rows(read(SMALL))


@pytest.mark.parametrize("padding", [4, 3 << 20])
def test_xz_streams_may_be_padded_with_zeros(padding: int) -> None:
    head, tail = compressed(SMALL[:17], "xz"), compressed(SMALL[17:], "xz")
    zeros = bytes(padding)
    assert rows(read(head + zeros + tail + zeros)) == rows(read(SMALL))


def test_a_compressed_parquet_file_is_unpacked_first() -> None:
    data = parquet({"time": [1], "key": [b"a"]})
    for codec in ("zstd", "xz"):
        assert rows(read(compressed(data, codec))) == [(1.0, b"a", "read", None)]


def test_a_pipe_that_cannot_seek_is_read() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

    data = parquet({"time": [1], "key": [b"a"]})
    for each in (data, SMALL):
        assert read_trace(Pipe(each), "pipe", TraceOptions()).accesses.num_rows > 0


def test_a_source_that_answers_in_small_parts_is_read() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 1, 7) if size != -1 else 7)

    assert rows(read_trace(Slow(SMALL), "slow", TraceOptions())) == rows(read(SMALL))


def test_columns_are_found_under_other_names() -> None:
    data = b"ts,block,kind\n3,k,GET\n"
    trace = read(data, columns={"time": "ts", "key": "block", "op": "kind"})
    assert rows(trace) == [(3.0, b"k", "read", None)]
    assert trace.assumptions["columns"] == "time=ts,key=block,op=kind"


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("read", "read"),
        ("R", "read"),
        (" Get ", "read"),
        ("scan", "read"),
        ("WRITE", "write"),
        ("w", "write"),
        ("put", "write"),
        ("Set", "write"),
        ("delete", "write"),
    ],
)
def test_operations_are_understood_in_any_case(word: str, meaning: str) -> None:
    assert rows(read(f"time,key,op\n1,a,{word}\n".encode()))[0][2] == meaning


def test_missing_operations_are_reads_and_counted() -> None:
    trace = read(b"time,key,op\n1,a,w\n2,b,\n3,c,\n")
    assert [row[2] for row in rows(trace)] == ["write", "read", "read"]
    assert trace.assumptions["op"] == "2 empty, taken as reads"
    assert "every access taken as a read" in read(b"time,key\n1,a\n").assumptions["op"]
    nulls = parquet({"time": [1, 2], "key": [b"a", b"b"], "op": ["w", None]})
    assert [row[2] for row in rows(read(nulls))] == ["write", "read"]


def test_missing_sizes_stay_null_and_are_counted() -> None:
    assert read(SMALL).assumptions["size"] == "1 of 2 not measured"
    assert read(b"time,key\n1,a\n").accesses.column("size").null_count == 1


@pytest.mark.parametrize(
    ("unit", "number"),
    [("s", "1700000000"), ("ms", "1700000000000"), ("us", "1700000000000000")],
)
def test_time_units_name_the_same_moment(unit: str, number: str) -> None:
    trace = read(f"time,key\n{number},a\n".encode(), time_unit=unit)
    assert rows(trace)[0][0] == 1_700_000_000
    assert unit in trace.assumptions["time"]


def test_nanoseconds_are_cut_to_microseconds() -> None:
    trace = read(b"time,key\n1700000000123456789,a\n", time_unit="ns")
    assert trace.accesses.column("time").cast(pa.int64())[0].as_py() == 1_700_000_000_123_456


def test_fractions_of_seconds_keep_their_microseconds() -> None:
    trace = read(b"time,key\n1767225600.123457,a\n1.767225601e9,b\n")
    micros = trace.accesses.column("time").cast(pa.int64()).to_pylist()
    assert micros == [1_767_225_600_123_457, 1_767_225_601_000_000]


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-01-01T05:00:00Z", 5),
        ("2026-01-01 05:00:00", 5),
        ("2026-01-01T05:00:00.000000999+02:00", 3),
        ("2026-01-01T05:00:00-0100", 6),
    ],
)
def test_timestamps_as_text_are_utc_unless_they_name_a_zone(text: str, hour: int) -> None:
    trace = read(f"time,key\n{text},a\n".encode())
    moment = datetime(2026, 1, 1, hour, tzinfo=UTC)
    assert trace.accesses.column("time")[0].as_py() == moment


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1_700_000_000]),
        pa.array([1_700_000_000], pa.uint32()),
        pa.array([1_700_000_000.0]),
        pa.array([Decimal("1700000000.0")]),
        pa.array([1_700_000_000_000], pa.timestamp("ms")),
        pa.array([1_700_000_000], pa.timestamp("s", "Europe/Vienna")),
        pa.array([1_700_000_000 * 10**9], pa.timestamp("ns", "UTC")),
        pa.array(["2023-11-14T22:13:20Z"]),
    ],
)
def test_parquet_times_of_all_types_name_the_same_moment(column: pa.Array) -> None:
    trace = read(parquet({"time": column, "key": [b"a"]}))
    assert rows(trace)[0][0] == 1_700_000_000


@pytest.mark.parametrize(
    ("column", "encoding", "key"),
    [
        (pa.array([b"\x00\xff"]), None, b"\x00\xff"),
        (pa.array([b"\x00\xff"], pa.large_binary()), None, b"\x00\xff"),
        (pa.array([b"\x00\xff"], pa.binary(2)), None, b"\x00\xff"),
        (pa.array([b"\x00\xff"], pa.binary_view()), None, b"\x00\xff"),
        (pa.array([""]), None, b""),
        (pa.array(["ä"]), None, "ä".encode()),
        (pa.array(["ä"], pa.large_string()), "utf8", "ä".encode()),
        (pa.array(["ä"]).dictionary_encode(), None, "ä".encode()),
        (pa.array(["00fF"]), "hex", b"\x00\xff"),
        (pa.array([7], pa.int32()), "u64", struct.pack(">Q", 7)),
        (pa.array([2**64 - 1], pa.uint64()), None, b"\xff" * 8),
        (pa.array(["7"]), "u64", struct.pack(">Q", 7)),
    ],
)
def test_parquet_keys_of_all_types_become_bytes(
    column: pa.Array, encoding: str | None, key: bytes
) -> None:
    trace = read(parquet({"time": [1], "key": column}), key_encoding=encoding)
    assert rows(trace)[0][1] == key


def test_csv_keys_by_encoding() -> None:
    data = b'time,key\n1,10\n2,"20"\n3,4096\n'
    assert [r[1] for r in rows(read(data))] == [b"10", b"20", b"4096"]
    assert [r[1] for r in rows(read(data, key_encoding="hex"))] == [b"\x10", b"\x20", b"\x40\x96"]
    numbers = [r[1] for r in rows(read(data, key_encoding="u64"))]
    assert numbers == [struct.pack(">Q", n) for n in (10, 20, 4096)]


def test_hex_keys_survive_the_borders_between_blocks() -> None:
    count = 60_000  # some 1.6 MB: two blocks of the CSV reader
    data = b"time,key\n" + b"".join(b"%d,%016x\n" % (i, i * 7) for i in range(count))
    trace = read(data, key_encoding="hex")
    assert trace.accesses.column("key").num_chunks > 1
    assert trace.accesses.column("key").to_pylist() == [
        struct.pack(">Q", i * 7) for i in range(count)
    ]


def test_unsorted_rows_are_sorted_stably_on_request() -> None:
    trace = read(b"time,key\n2,b\n1,x\n2,a\n1,w\n", sort=True)
    assert [(r[0], r[1]) for r in rows(trace)] == [(1, b"x"), (1, b"w"), (2, b"b"), (2, b"a")]
    assert trace.assumptions["order"].startswith("sorted by time; 2 rows")


def test_a_rate_gives_times_to_a_trace_without() -> None:
    trace = read(b"key\na\nb\nc\n", rate=4.0)
    assert [r[0] for r in rows(trace)] == [0.0, 0.25, 0.5]
    assert trace.assumptions["time"] == (
        "no column, 4 accesses per second from 1970-01-01T00:00:00Z"
    )


def test_speedup_divides_the_distances_to_the_first_access() -> None:
    data = b"time,key\n100,a\n110,b\n130,c\n"
    assert [r[0] for r in rows(read(data, speedup=10.0))] == [100, 101, 103]
    assert [r[0] for r in rows(read(data, speedup=0.5))] == [100, 120, 160]


def test_windows_line_ends_and_a_byte_order_mark_are_taken() -> None:
    assert rows(read(b"\xef\xbb\xbf" + SMALL.replace(b"\n", b"\r\n"))) == rows(read(SMALL))


def test_a_last_line_without_line_end_is_warned_of() -> None:
    trace = read(b"time,key\n1,a\n2,b")
    assert trace.accesses.num_rows == 2
    assert "the last line has no line end" in trace.warnings[0]


def test_renumbered_keys_are_warned_of_in_both_readings() -> None:
    data = b"time,key\n" + b"".join(b"%d,%08d\n" % (i, i * 2 // 3) for i in range(300))
    (warning,) = read(data).warnings
    assert "renumbered" in warning
    assert "appends in key order" in warning


def test_few_keys_in_order_are_not_warned_of() -> None:
    data = b"time,key\n" + b"".join(b"%d,%08d\n" % (i, i) for i in range(99))
    assert read(data).warnings == ()


def test_arrival_share_tells_renumbered_from_random_order() -> None:
    random = [bytes([i * 151 % 251]) for i in range(251)]
    assert arrival_share(pa.array(sorted(random))) == 1.0
    assert arrival_share(pa.array(random)) < 0.2
    assert arrival_share(pa.array(sorted(random, reverse=True))) == 0.0
    assert arrival_share(pa.array([b"only"])) == 0.0


def test_numbers_of_uneven_length_read_as_text_are_warned_of() -> None:
    (warning,) = read(b"time,key\n1,9\n2,10\n").warnings
    assert "--key-encoding u64" in warning
    assert read(b"time,key\n1,09\n2,10\n").warnings == ()
    assert read(b"time,key\n1,9\n2,10\n", key_encoding="u64").warnings == ()


def test_progress_counts_up_to_all_rows() -> None:
    seen: list[int] = []
    data = b"time,key\n" + b"1,abcdefgh\n" * 300_000
    read_trace(io.BytesIO(data), "t", TraceOptions(), seen.append)
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == 300_000


def test_everything_assumed_is_said() -> None:
    assert read(SMALL).assumptions == {
        "format": "csv",
        "compression": "none",
        "rows": "2",
        "columns": "time=time,key=key,op=op,size=size",
        "time": "numbers, s since the Unix epoch",
        "order": "ascending by time as recorded",
        "speedup": "1",
        "key_encoding": "utf8",
        "op": "as recorded",
        "size": "1 of 2 not measured",
    }


@pytest.mark.parametrize(
    "options",
    [
        {"format": "lis"},
        {"time_unit": "m"},
        {"key_encoding": "base64"},
        {"columns": {"tenant": "x"}},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"speedup": -1.0},
        {"speedup": float("inf")},
    ],
)
def test_options_that_mean_nothing_are_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        TraceOptions(**options)  # type: ignore[arg-type]
    assert caught.value.code == "trace_option_invalid"
    assert caught.value.hint
