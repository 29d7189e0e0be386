"""The client's export and import against servers that stop, lie or send it elsewhere."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent import futures
from itertools import pairwise

import grpc
import pyarrow as pa
import pytest

from workbench.errors import Conflict, Corruption, InvalidInput, Unavailable
from workbench.model.limits import ENTRY_BYTES_TARGET
from workbench.model.node import CursorTag, ExportCursor
from workbench.model.tables import VERSION
from workbench.mvcc.block import ROW_BYTES, block_of, decode_block, encode_block
from workbench.mvcc.encoding import decode_value
from workbench.node import wire
from workbench.node.arrow_blocks import ascends, blocks_of, table_of
from workbench.node.client import NodeClient
from workbench.node.proto import workbench_v1_pb2 as v1

READ_TS = 100
ROWS = [(b"a", 9, b"1"), (b"a", 4, None), (b"b\x00", 7, b""), (b"c", 5, b"x" * 50)]
ID = b"i" * 16


class Streamer:
    """A server whose every stream is a list of messages and maybe a status at its end."""

    def __init__(self, *streams, unary=None, trailers=()):
        self.streams = list(streams)
        self.unary = unary or {}
        self.trailers = trailers
        self.requests = []
        self.gone = threading.Event()
        self.server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[self])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(self, details):
        name = details.method.rpartition("/")[2]
        if name in self.unary:
            return grpc.unary_unary_rpc_method_handler(lambda data, _: self.unary[name](data))

        def answer(data, context):
            self.requests.append(v1.ExportRequest.FromString(data))
            context.set_trailing_metadata(self.trailers)
            for each in self.streams.pop(0) if self.streams else []:
                if isinstance(each, grpc.StatusCode):
                    context.abort(each, "ended here")
                if each is None:
                    while context.is_active() and not self.gone.wait(0.01):
                        pass
                    return
                yield each.SerializeToString()

        return grpc.unary_stream_rpc_method_handler(answer)

    def close(self):
        self.gone.set()
        self.server.stop(None).wait()


@pytest.fixture
def start():
    """Return a function that starts a server; all are stopped at the end."""
    started = []

    def begin(*streams, **how):
        started.append(Streamer(*streams, **how))
        return started[-1]

    yield begin
    for each in started:
        each.close()


def chunk(*rows, done=False, cursor=..., **changed):
    last = ExportCursor(rows[-1][0], rows[-1][1]) if rows else None
    cursor = last if cursor is ... else cursor
    fields = {
        "group": 1,
        "read_ts": READ_TS,
        "block": encode_block(block_of(rows)),
        "rows": len(rows),
        "cursor": None if cursor is None else wire.cursor_message(cursor),
        "done": done,
    }
    return v1.ExportChunk(**(fields | changed))


def exported(server, **how):
    with NodeClient([server.address], timeout_s=how.pop("timeout_s", 5.0)) as client:
        found = list(client.export(1, read_ts=how.pop("read_ts", READ_TS), **how))
    rows = pa.concat_tables([each.table for each in found]).to_pylist()
    assert {row["group"] for row in rows} <= {1}
    return [(row["key"], row["commit_ts"], row["value"]) for row in rows]


def test_chunks_become_tables_with_their_cursors(start):
    server = start([chunk(*ROWS[:2]), chunk(*ROWS[2:], done=True)])
    with NodeClient([server.address]) as client:
        first, last = client.export(1, read_ts=READ_TS, start=b"a", end=b"d", chunk_bytes=99)
    assert first.table.schema == VERSION
    assert first.table.column("kind").to_pylist() == ["put", "tombstone"]
    assert (first.cursor, first.done) == (ExportCursor(b"a", 4), False)
    assert (last.cursor, last.done, last.read_ts) == (ExportCursor(b"c", 5), True, READ_TS)
    [asked] = server.requests
    assert (asked.start, asked.end, asked.chunk_bytes) == (b"a", b"d", 99)


@pytest.mark.parametrize("end", [[], [grpc.StatusCode.UNAVAILABLE], [None]])
def test_a_stream_that_ends_early_is_taken_up_behind_its_last_chunk(start, end):
    """Ended by the server, broken, or silent until the deadline."""
    scanned = ExportCursor(b"b", 99, CursorTag.SCANNED)
    server = start(
        [chunk(*ROWS[:2]), *end], [chunk(cursor=scanned), *end], [chunk(*ROWS[2:], done=True)]
    )
    assert exported(server, timeout_s=0.5) == ROWS
    assert [wire.cursor_of(each.cursor) for each in server.requests[1:]] == [
        ExportCursor(b"a", 4),
        scanned,
    ]


def test_an_export_as_of_now_goes_on_as_of_its_first_chunk(start):
    server = start([chunk(*ROWS[:2])], [chunk(*ROWS[2:], done=True)])
    assert exported(server, read_ts=0) == ROWS
    assert [each.read_ts for each in server.requests] == [0, READ_TS]


@pytest.mark.parametrize("streams", [[[]], [[chunk(ROWS[0])], []]])
def test_a_stream_that_brings_nothing_is_a_retryable_error(start, streams):
    with pytest.raises(Unavailable) as caught:
        exported(start(*streams))
    assert caught.value.code == "export_interrupted"
    assert caught.value.retryable


def test_an_error_of_the_node_is_raised_as_it_is(start):
    trailers = ((wire.CODE_KEY, "group_restoring"), (wire.KIND_KEY, "unavailable"))
    server = start([grpc.StatusCode.FAILED_PRECONDITION], trailers=trailers)
    with pytest.raises(Unavailable) as caught:
        exported(server)
    assert caught.value.code == "group_restoring"


@pytest.mark.parametrize("number", range(14))
def test_a_stream_that_lies_is_a_retryable_error(start, number):
    lies = [
        chunk(*ROWS, done=True, rows=3),
        chunk(*ROWS, done=True, group=2),
        chunk(*ROWS, done=True, read_ts=READ_TS + 1),
        chunk(*ROWS, done=True, read_ts=0),
        chunk(*ROWS, done=True, block=b"\x01\x00\x00"),
        chunk(*ROWS[::-1], done=True),
        chunk(ROWS[1], ROWS[0], done=True),
        chunk(ROWS[2], ROWS[2], done=True),
        chunk((b"a", READ_TS + 1, b"future"), done=True),
        chunk(*ROWS, done=True, cursor=ExportCursor(b"b", 1)),
        chunk(*ROWS, done=True, cursor=None),
        chunk((b"zz", 5, b""), done=True),
        chunk(cursor=None),
        chunk((b"", 5, b""), done=True),
    ]
    with pytest.raises(Corruption) as caught:
        exported(start([lies[number]]), start=b"\x00", end=b"z")
    assert caught.value.code == "answer_malformed"
    assert caught.value.retryable


def test_rows_at_or_before_the_cursor_are_never_passed_on(start):
    with pytest.raises(Corruption):
        exported(start([chunk(*ROWS[1:], done=True)]), after=ExportCursor(b"a", 4))
    assert exported(start([chunk(*ROWS[2:], done=True)]), after=ExportCursor(b"a", 4)) == ROWS[2:]


def test_a_node_that_names_the_leader_is_left_for_it(start):
    leader = start([chunk(*ROWS, done=True)])
    trailers = (
        (wire.CODE_KEY, "not_leader"),
        (wire.KIND_KEY, "unavailable"),
        (wire.LEADER_KEY, leader.address),
    )
    other = start([grpc.StatusCode.UNAVAILABLE], trailers=trailers)
    assert exported(other) == ROWS
    itself = start(*[[grpc.StatusCode.UNAVAILABLE]] * 100)
    itself.trailers = (*trailers[:2], (wire.LEADER_KEY, itself.address))
    with pytest.raises(Unavailable) as caught:
        exported(itself, timeout_s=0.5)
    assert caught.value.code == "not_leader"
    assert 2 <= len(itself.requests) < 20, "the pauses get longer"


def table(rows):
    return pa.table(
        {
            "key": pa.array([key for key, _, _ in rows], pa.binary()),
            "commit_ts": pa.array([ts for _, ts, _ in rows], pa.uint64()),
            "kind": ["tombstone" if value is None else "put" for _, _, value in rows],
            "value": pa.array([value for _, _, value in rows], pa.binary()),
            "expire_at": pa.nulls(len(rows), VERSION.field("expire_at").type),
            "group": pa.array([1] * len(rows), pa.uint64()),
        },
        schema=VERSION,
    )


def rows_of(block):
    values = [decode_value(value) for value in block.value_list()]
    return list(zip(block.key_list(), block.commit_ts_list(), values, strict=True))


def test_a_block_is_a_table_and_a_table_is_blocks():
    rows = [*ROWS, (b"", 2**64 - 1, b"v")]
    found = table_of(block_of(rows), 1)
    found.validate(full=True)
    assert found == table(rows)
    assert table_of(block_of([]), 1).num_rows == 0
    assert [row for block in blocks_of(found, 10**6) for row in rows_of(block)] == rows
    sliced = pa.concat_tables([found.slice(1, 3), found.slice(4)])
    assert [row for block in blocks_of(sliced, 10**6) for row in rows_of(block)] == rows[1:]


def test_blocks_are_as_large_as_may_be_and_never_larger_but_for_one_row():
    rows = [(b"k%03d" % n, 5, bytes(n % 40)) for n in range(200)] + [(b"z", 5, bytes(500))]
    blocks = list(blocks_of(table(rows), 300))
    assert [row for block in blocks for row in rows_of(block)] == rows
    assert all(len(encode_block(block)) <= 300 for block in blocks[:-1])
    for block, following in pairwise(blocks):
        key, _, value = rows_of(following)[0]
        assert block.size + ROW_BYTES + len(key) + 1 + len(value) > 300
    assert blocks[-1].count == 1


def test_order_is_seen_within_a_key_too():
    assert ascends(table(ROWS))
    assert ascends(table([]))
    for rows in (ROWS[::-1], [ROWS[1], ROWS[0]], [ROWS[0], ROWS[0]]):
        assert not ascends(table(rows))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("kind", ["put", "merge", "put", "put"]),
        ("kind", ["tombstone", "tombstone", "put", "put"]),
        ("kind", ["put"] * 4),
        ("expire_at", [None, 0, None, None]),
        ("expire_at", [5, 5, 5, 5]),
        ("key", [b"a", None, b"b", b"c"]),
        ("commit_ts", [1, 2, None, 4]),
    ],
)
def test_rows_that_no_export_has_are_refused(column, values):
    good = table(ROWS)
    at = good.column_names.index(column)
    field = pa.field(column, VERSION.field(column).type)
    bad = good.set_column(at, field, pa.array(values, field.type))
    with pytest.raises(InvalidInput) as caught:
        list(blocks_of(bad, 10**6))
    assert caught.value.code in {"version_row_invalid", "null_in_required_column"}


def test_rows_that_expire_come_back_as_they_went_in():
    rows = [
        (b"a", 9, "put", b"v", 1_000),
        (b"a", 3, "tombstone", None, None),
        (b"b\x00", 4, "put", b"", 5_000_000),
        (b"c", 7, "put", b"lasting", None),
    ]
    columns = list(zip(*rows, strict=True))
    arrays = [
        pa.array(columns[0], pa.binary()),
        pa.array(columns[1], pa.uint64()),
        pa.array(columns[2], pa.string()),
        pa.array(columns[3], pa.binary()),
        pa.array(columns[4], VERSION.field("expire_at").type),
        pa.array([3] * 4, pa.uint64()),
    ]
    given = pa.Table.from_arrays(arrays, schema=VERSION)
    for bytes_max in (1, 60, 10**6):
        blocks = [decode_block(encode_block(each)) for each in blocks_of(given, bytes_max)]
        assert pa.concat_tables(table_of(each, 3) for each in blocks).equals(given)
    assert len([*blocks_of(given, 1)]) == 4


class Store:
    """What a group does with imports, in a few lines: the model of `replica.restore`."""

    def __init__(self):
        self.status = v1.RestoreStatusResponse(group=1, restore_id=ID, restoring=True)
        self.rows = []
        self.calls = 0
        self.lose = 0

    def import_rows(self, data):
        self.calls += 1
        request = v1.RestoreImportRequest.FromString(data)
        status = self.status
        for part in request.parts:
            assert len(part.block) <= ENTRY_BYTES_TARGET
            if (part.seq, part.offset) != (status.seq + 1, status.offset):
                continue
            rows = rows_of(decode_block(part.block))
            self.rows += rows
            status.rows += len(rows)
            status.offset = 0 if part.last else status.offset + len(rows)
            status.seq += part.last
            if self.lose and self.calls == self.lose:
                break
        return status.SerializeToString()

    def answers(self):
        return {"Import": self.import_rows, "Status": lambda _: self.status.SerializeToString()}


LARGE = [[(b"%05d" % n, 9, bytes(90)) for n in range(low, low + 9_000)] for low in (0, 9_000)]


def test_tables_are_cut_sent_and_numbered(start):
    store = Store()
    with NodeClient([start(unary=store.answers()).address]) as client:
        status = client.import_rows(1, ID, map(table, [*LARGE, [], ROWS]), seq=1)
    assert (status.seq, status.offset, status.rows) == (4, 0, 18_004)
    assert store.rows == [*LARGE[0], *LARGE[1], *ROWS]
    assert store.calls > 1


@pytest.mark.parametrize("call", [1, 2])
def test_an_import_that_got_stuck_goes_on_at_the_row(start, call):
    store = Store()
    store.lose = call
    with NodeClient([start(unary=store.answers()).address]) as client:
        with pytest.raises(Conflict) as caught:
            client.import_rows(1, ID, map(table, LARGE), seq=1)
        assert caught.value.code == "import_out_of_step"
        assert 0 < store.status.rows < 18_000
        client.import_rows(1, ID, map(table, LARGE), seq=1)
        again = client.import_rows(1, ID, map(table, LARGE), seq=1)
        assert (again.seq, again.rows) == (2, 18_000)
        with pytest.raises(Conflict):
            client.import_rows(1, ID, map(table, LARGE), seq=4)
    assert store.rows == [*LARGE[0], *LARGE[1]]


def test_a_table_that_is_shorter_than_what_is_there_of_it_is_refused(start):
    store = Store()
    store.status.offset = store.status.rows = 3
    with NodeClient([start(unary=store.answers()).address]) as client:
        for rows in (ROWS[:2], ROWS[:3]):
            with pytest.raises(Conflict) as caught:
                client.import_rows(1, ID, [table(rows)], seq=1)
            assert caught.value.code == "import_out_of_step"
        assert client.import_rows(1, ID, [table(ROWS)], seq=1).seq == 1
    assert store.rows == ROWS[3:]


def test_the_client_alone_does_not_load_arrow():
    script = "import sys, workbench.node.client; print({'pyarrow', 'numpy'} & set(sys.modules))"
    outcome = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert outcome.stdout.strip() == "set()"
