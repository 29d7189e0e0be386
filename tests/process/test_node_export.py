"""Real nodes: the history of a cluster is exported and restored, also through kill -9."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.process.node_process import Hand, client_of, cluster, message, until
from workbench.errors import Conflict, InvalidInput, NotFound, Unavailable
from workbench.model.keys import Span
from workbench.model.routes import seed_routes
from workbench.mvcc.block import block_of, encode_block

ID = b"restore-of-today"
THREE = [[1, 4], [2], [3]]
ONE = [[1]]
EXPORT = "/workbench.v1.KV/Export"
IMPORT = "/workbench.v1.Restore/Import"
BEGIN = "/workbench.v1.Restore/Begin"


def exported(client, group, read_ts, **how):
    return pa.concat_tables([chunk.table for chunk in client.export(group, read_ts=read_ts, **how)])


def spans_of(snapshot, group):
    return [(route.span, route.route_id) for route in snapshot.routes if route.group == group]


def restore(client, snapshot, tables, groups=(1, 2, 3, 4)):
    """Bring an empty cluster to the history of an export."""
    for group in groups:
        client.restore_begin(group, ID, spans_of(snapshot, group))
    for group in groups:
        status = client.import_rows(group, ID, [tables[group]], seq=1)
        assert status.rows == tables[group].num_rows
    version = client.list_routes().catalog_version
    assert client.save_routes(ID, expected_version=version, snapshot=snapshot) == (
        snapshot.catalog_version
    )
    for group in groups:
        assert not client.restore_end(group, ID).restoring


def lived(client, rng, rounds=10):
    """Write, delete and split, and return a moment after each round with the routes then."""
    moments = []
    for number in range(rounds):
        for group in (1, 2, 3, 4):
            low = 64 * (group - 1)
            pairs = {
                bytes([rng.randrange(low, low + 64)])
                + b"%03d" % rng.randrange(60)
                + b"\x00\xff" * rng.randrange(2): rng.choice([None, rng.randbytes(60), b""])
                for _ in range(50)
            }
            pairs = {key: value for key, value in pairs.items() if not key.startswith(b"!dist|")}
            client.batch_write(group, list(pairs.items()), client_id=b"", sequence=0)
        snapshot = client.list_routes()
        split_key = bytes([rng.randrange(256)]) + b"030 %d" % number
        [route] = [each for each in snapshot.routes if split_key in each.span]
        client.split_range(
            expected_version=snapshot.catalog_version,
            route_id=route.route_id,
            split_key=split_key,
            request_id=f"split-{number}",
        )
        moments.append((client.timestamp(), client.list_routes().routes))
    return moments


def test_a_cluster_is_restored_into_an_empty_one_and_lives_on(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    with cluster(tmp_path / "old", THREE) as nodes, client_of(nodes[1]) as old:
        moments = lived(old, random.Random(5))
        read_ts = moments[-1][0]
        old.put(b"later", b"than the export")
        for moment, routes in moments:
            assert old.catalog_at(moment).routes == routes
        snapshot = old.catalog_at(read_ts)
        # Small chunks, so that there are many; whichever node is asked.
        tables = {group: exported(old, group, read_ts, chunk_bytes=5_000) for group in (1, 2, 3, 4)}
        before = {moment: list(old.scan(read_ts=moment)) for moment, _ in moments}
        with pytest.raises(NotFound):
            old.catalog_at(1)
    assert sum(table.num_rows for table in tables.values()) > 1_500
    assert any(pc.any(pc.equal(table.column("kind"), "tombstone")) for table in tables.values())
    newest = max(pc.max(table.column("commit_ts")).as_py() for table in tables.values())
    with cluster(tmp_path / "new", THREE) as nodes, client_of(nodes[2]) as new:
        restore(new, snapshot, tables)
        found = new.list_routes()
        assert (found.catalog_version, found.routes) == (snapshot.catalog_version, snapshot.routes)
        assert len(before) == 10
        for moment, rows in before.items():
            assert list(new.scan(read_ts=moment)) == rows
        now = new.timestamp()
        for group, table in tables.items():
            assert exported(new, group, now) == table
        for group in (1, 2, 3, 4):
            key = bytes([64 * (group - 1)]) + b"new"
            written = new.batch_write(group, [(key, b"v")], client_id=b"", sequence=0)
            assert written.commit_ts > newest
        route = found.routes[0]
        receipt = new.split_range(
            expected_version=found.catalog_version,
            route_id=route.route_id,
            split_key=route.span.start + b"\x01",
            request_id="after",
        )
        assert receipt.left.route_id > max(each.route_id for each in found.routes)
        with pytest.raises(Conflict) as caught:
            new.restore_begin(2, b"x" * 16, spans_of(snapshot, 2))
        assert caught.value.code == "group_not_empty"


def again(node, client):
    """Start a node that was killed, and wait until a client that knew it has found it."""
    node.start()

    def answers():
        try:
            return client.status().node == node.config.node
        except Unavailable:
            return False

    until(answers, "the client has found the node again")


def rows(count, size=100):
    """Return tables of versions of one group."""
    keys = [b"%08d" % number for number in range(count)]
    table = pa.table(
        {
            "key": pa.array(keys, pa.binary()),
            "commit_ts": pa.array(range(1_000, 1_000 + count), pa.uint64()),
            "kind": pa.array(["put"] * count),
            "value": pa.array([bytes(size)] * count, pa.binary()),
            "expire_at": pa.nulls(count, pa.timestamp("us", "UTC")),
            "group": pa.array([1] * count, pa.uint64()),
        }
    )
    return [table.slice(at, 4_000) for at in range(0, count, 4_000)]


def test_kill_9_in_the_middle_of_an_import_loses_no_row_and_brings_none_twice(tmp_path):
    tables = rows(40_000)
    with cluster(tmp_path, ONE, seed_routes([])) as [node], client_of(node) as client:
        client.restore_begin(1, ID, [(Span(b"", None), 1)])

        def killed(after):
            for number, table in enumerate(tables):
                if number == after:
                    node.kill()
                yield table

        for after in (3, 7):
            with pytest.raises(Unavailable):
                client.import_rows(1, ID, killed(after), seq=1)
            again(node, client)
            status = client.restore_status(1)
            assert status.restoring
            assert 0 < status.rows < 40_000
            with pytest.raises(Unavailable) as caught:
                client.get(b"00000001")
            assert caught.value.code == "group_restoring"
        status = client.import_rows(1, ID, tables, seq=1)
        assert (status.seq, status.rows) == (10, 40_000)
        node.kill()
        again(node, client)
        client.restore_end(1, ID)
        node.kill()
        again(node, client)
        assert client.restore_status(1) == client.restore_end(1, ID)
        found = exported(client, 1, client.timestamp())
        assert found.column("key").to_pylist() == [b"%08d" % n for n in range(40_000)]
        assert found.column("commit_ts").to_pylist() == list(range(1_000, 41_000))


def test_kill_9_in_the_middle_of_an_export_is_told_and_the_rest_comes_behind_the_cursor(tmp_path):
    with cluster(tmp_path, ONE, seed_routes([])) as [node], client_of(node) as client:
        for low in range(0, 40_000, 10_000):
            pairs = [(b"%08d" % number, bytes(100)) for number in range(low, low + 10_000)]
            client.batch_write(1, pairs, client_id=b"", sequence=0)
        read_ts = client.timestamp()
        chunks = client.export(1, read_ts=read_ts, chunk_bytes=50_000)
        seen = [next(chunks)]
        node.kill()
        with pytest.raises(Unavailable) as caught:
            seen.extend(chunks)
        assert caught.value.retryable
        assert not seen[-1].done
        again(node, client)
        client.put(b"later", b"v")
        cursor = seen[-1].cursor
        seen += client.export(1, read_ts=read_ts, after=cursor, chunk_bytes=50_000)
        keys = pa.concat_tables([chunk.table for chunk in seen]).column("key").to_pylist()
        assert keys == [b"%08d" % number for number in range(40_000)]


def test_other_groups_serve_while_one_is_restored(tmp_path):
    with cluster(tmp_path, [[1, 2], [3]]) as nodes, client_of(nodes[1]) as client:
        routes = client.list_routes()
        client.restore_begin(2, ID, spans_of(routes, 2))
        client.put(b"\x01", b"v")
        client.put(b"\xf0", b"v")
        assert client.get(b"\x01") == b"v"
        for refused in (
            lambda: client.put(b"\x60", b"v"),
            lambda: client.get(b"\x60"),
            lambda: list(client.scan()),
            lambda: list(client.export(2, read_ts=0)),
            client.timestamp,
        ):
            with pytest.raises(Unavailable) as caught:
                refused()
            assert caught.value.code == "group_restoring"
        assert client.list_routes().routes == routes.routes
        client.restore_end(2, ID)
        client.put(b"\x60", b"v")
        assert len(list(client.scan())) == 3


def part(**fields):
    return message(f1=1, f2=ID, f3=message(**fields))


def test_requests_that_make_no_sense_are_refused_with_their_status(tmp_path):
    block = encode_block(block_of([(b"a", 5, b"v")]))
    outside = encode_block(block_of([(b"a", 5, b"v"), (b"\xf0", 5, b"v")]))
    with cluster(tmp_path, [[1], [2]]) as nodes, client_of(nodes[0]) as client:
        hand = Hand(nodes[0].address)
        hand.call(BEGIN, message(f1=1, f2=ID, f3=message(f2=b"\x80", f3=1)))
        for method, data, status, code in [
            (IMPORT, b"\xff", "INVALID_ARGUMENT", "request_malformed"),
            (IMPORT, message(f1=1, f2=ID), "INVALID_ARGUMENT", "import_numbers_invalid"),
            (IMPORT, part(f4=block), "INVALID_ARGUMENT", "import_numbers_invalid"),
            (IMPORT, part(f1=1, f4=b"arrow?"), "INVALID_ARGUMENT", "version_block_malformed"),
            (IMPORT, part(f1=1, f4=block + b"x"), "INVALID_ARGUMENT", "version_block_malformed"),
            (IMPORT, part(f1=1, f4=outside), "INVALID_ARGUMENT", "import_outside_spans"),
            (
                IMPORT,
                part(f1=1, f4=encode_block(block_of([(b"a", 0, b"")]))),
                "INVALID_ARGUMENT",
                "import_ts_invalid",
            ),
            (
                IMPORT,
                part(f1=1, f4=encode_block(block_of([(b"a", 2**63, b"")]))),
                "INVALID_ARGUMENT",
                "import_ts_ahead",
            ),
            (
                IMPORT,
                part(f1=1, f4=encode_block(block_of([(b"a", 5, bytes(200_000))] * 2))),
                "INVALID_ARGUMENT",
                "import_block_too_large",
            ),
            (
                IMPORT,
                message(f1=1, f2=ID, f3=[message(f1=1, f4=block)] * 65),
                "INVALID_ARGUMENT",
                "batch_too_large",
            ),
            (IMPORT, message(f1=9, f2=ID, f3=message(f1=1)), "NOT_FOUND", "group_absent"),
            (
                IMPORT,
                message(f1=1, f2=b"y" * 16, f3=message(f1=1, f4=block)),
                "FAILED_PRECONDITION",
                "restore_other",
            ),
            (BEGIN, message(f1=1, f2=b"short"), "INVALID_ARGUMENT", "restore_id_invalid"),
            (BEGIN, message(f1=1, f2=b"y" * 16), "FAILED_PRECONDITION", "restore_other"),
        ]:
            refusal = hand.refused(method, data)
            assert (refusal.status, refusal.code) == (status, code)
        assert client.restore_status(1).rows == 0
        hand.close()
        for read, code in [
            ({"group": 2, "chunk_bytes": 2**30}, "export_limit_invalid"),
            ({"group": 2, "read_ts": 2**63}, "read_ts_ahead"),
            ({"group": 2, "start": b"!dist|", "end": b"!dist|z"}, "key_reserved"),
        ]:
            with pytest.raises(InvalidInput) as caught:
                list(client.export(**({"read_ts": 0} | read)))
            assert caught.value.code == code
        with pytest.raises(Unavailable) as caught:
            list(client.export(2, read_ts=0, start=b"a", end=b"b"))
        assert caught.value.code == "ownership_unknown"
        with pytest.raises(NotFound):
            list(client.export(7, read_ts=0))
        with pytest.raises(NotFound) as missing:
            client.save_routes(
                ID,
                expected_version=1,
                snapshot=client.list_routes().__class__(
                    2, seed_routes([], group=9), client.list_routes().taken_at
                ),
            )
        assert missing.value.code == "group_absent"
