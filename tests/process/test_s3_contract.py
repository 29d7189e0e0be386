"""The ObjectStore contract on every store: one set of claims, seven ways to keep objects."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, timedelta

import fsspec.implementations.memory
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from tests.s3_servers import KEY, REGION, SECRET, ministack, moto
from workbench.errors import InvalidInput, NotFound, Storage
from workbench.session.system import SystemClock, SystemRng
from workbench.stores import s3
from workbench.stores.fsspec_store import FsspecStore
from workbench.stores.local import LocalStore
from workbench.stores.memory import MemoryStore
from workbench.stores.obstore_store import ObstoreStore
from workbench.stores.probe import PROBE_PREFIX, probe
from workbench.stores.s3 import S3Store

STORES = ["local", "memory", "s3-moto", "s3-ministack", "obstore-moto", "obstore-ministack"]
STORES += ["fsspec-memory"]
HOSTILE_KEYS = ["", "/", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a/./b", "a\0b"]
HOSTILE_KEYS += ["a b", "a'b", 'a"; DROP', "a\nb", "é", "~tmp/x", "a\\b", "x" * 1025]

_serials = itertools.count()


@pytest.fixture(scope="module")
def servers():
    with moto() as one, ministack() as two:
        for server in (one, two):
            server.make_bucket("contract")
        yield {"moto": one, "ministack": two}


@pytest.fixture(scope="module")
def clients(servers):
    """One store per server, whose connections the tests share: making them takes 0.1 s."""
    made = {name: S3Store("s3://contract", options=servers[name].options()) for name in servers}
    yield made
    for one in made.values():
        one.close()


def sharing(clients, name, prefix):
    store = S3Store(f"s3://{prefix}", options={})
    store._client_of_process = clients[name]._client()
    return store


@pytest.fixture(params=STORES)
def store(request, tmp_path, servers, clients, monkeypatch):
    kind, _, name = request.param.partition("-")
    prefix = f"contract/run-{next(_serials)}/x"
    if kind == "local":
        yield LocalStore(tmp_path / "root", create=True)
    elif kind == "memory":
        yield MemoryStore()
    elif kind == "fsspec":
        monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "store", {})
        yield FsspecStore(f"fsspec+memory://{prefix}")
    elif kind == "obstore":
        yield ObstoreStore(
            f"obstore+s3://{prefix}",
            options={
                "endpoint": servers[name].endpoint,
                "access_key_id": KEY,
                "secret_access_key": SECRET,
                "region": REGION,
            },
        )
    else:
        yield sharing(clients, name, prefix)


def test_object_reads_back_whole_and_in_ranges(store):
    assert store.put_if_absent("a/b/c", b"0123456789")
    assert store.get("a/b/c") == b"0123456789"
    assert store.get_range("a/b/c", 2, 3) == b"234"
    assert store.get_range("a/b/c", 8, 5) == b"89"
    assert store.get_range("a/b/c", 10, 5) == b""
    assert store.get_range("a/b/c", 20, 5) == b""
    assert store.get_range("a/b/c", 3, 0) == b""
    assert store.size_of("a/b/c") == 10


def test_empty_object_is_an_object(store):
    assert store.put_if_absent("k", b"")
    assert not store.put_if_absent("k", b"x")
    assert store.get("k") == b""
    assert store.get_range("k", 0, 5) == b""
    assert store.size_of("k") == 0


@pytest.mark.parametrize("data", [b"x", b"second"])
def test_second_put_of_a_key_gets_false_and_changes_nothing(store, data):
    assert store.put_if_absent("k", data)
    assert not store.put_if_absent("k", b"other")
    assert not store.put_if_absent("k", data)
    assert store.get("k") == data


def test_replace_creates_and_overwrites(store):
    store.replace("hint", b"1")
    assert store.get("hint") == b"1"
    store.replace("hint", b"22")
    assert store.get("hint") == b"22"
    assert store.size_of("hint") == 2
    assert not store.put_if_absent("hint", b"3")
    assert store.list_after("") == ["hint"]


def test_stored_bytes_do_not_alias_the_callers_buffer(store):
    buffer = bytearray(b"before")
    store.put_if_absent("k", buffer)
    store.replace("r", buffer)
    buffer[:] = b"after!"
    assert store.get_many(["k", "r"]) == [b"before", b"before"]


def test_get_many_answers_in_the_order_asked_for(store):
    for name in "abc":
        store.put_if_absent(name, name.encode())
    assert store.get_many(["c", "a", "b", "a"]) == [b"c", b"a", b"b", b"a"]
    assert store.get_many([]) == []


def test_absent_key_is_not_found_everywhere(store):
    store.put_if_absent("a/b", b"1")
    calls = (
        store.get,
        lambda key: store.get_range(key, 0, 1),
        lambda key: store.get_range(key, 0, 0),
        lambda key: store.get_many(["a/b", key]),
    )
    for absent in ("x", "a", "a/x"):
        for call in calls:
            with pytest.raises(NotFound) as caught:
                call(absent)
            assert caught.value.code == "object_not_found"
            assert repr(absent) in caught.value.message
        store.delete(absent)
        assert store.size_of(absent) is None
        with pytest.raises(FileNotFoundError):
            store.open_native(absent)


def test_deleted_object_is_gone_and_its_key_is_free(store):
    store.put_if_absent("k", b"1")
    store.delete("k")
    store.delete("k")
    assert store.list_after("") == []
    assert store.put_if_absent("k", b"2")


def test_listing_is_ascending_by_key_and_strictly_after(store):
    keys = ["a/1", "a/10", "a/2", "a-b", "b/c/d", "b/c.e"]
    for key in reversed(keys):
        store.put_if_absent(key, b"")
    assert store.list_after("") == sorted(keys)
    assert store.list_after("a/") == ["a/1", "a/10", "a/2"]
    assert store.list_after("a/1") == ["a/1", "a/10"]
    assert store.list_after("a/", "a/10") == ["a/2"]
    assert store.list_after("b/", "b/c.e") == ["b/c/d"]
    assert store.list_after("", "zzz") == []
    assert store.list_after("a/", "0") == ["a/1", "a/10", "a/2"]
    assert store.list_after("nothing/here/") == []
    assert store.list_after("../") == []


def test_entries_tell_size_and_time_of_what_is_listed(store):
    before = SystemClock().now() - timedelta(seconds=2)  # S3 counts whole seconds
    for number, key in enumerate(["a/1", "a/2", "a/3", "b"]):
        store.put_if_absent(key, b"x" * number)
    entries = store.list_entries("a/", "a/1")
    assert [(entry.key, entry.size) for entry in entries] == [("a/2", 1), ("a/3", 2)]
    for entry in entries:
        assert entry.modified.tzinfo is UTC
        assert before <= entry.modified <= SystemClock().now() + timedelta(seconds=2)
    assert [entry.key for entry in store.list_entries("")] == store.list_after("")
    assert store.list_entries("../") == []


def test_hostile_key_is_refused_by_every_call(store):
    calls = (
        store.get,
        store.size_of,
        store.delete,
        lambda key: store.get_many([key]),
        lambda key: store.get_range(key, 0, 1),
        lambda key: store.put_if_absent(key, b"x"),
        lambda key: store.replace(key, b"x"),
    )
    for key, call in itertools.product(HOSTILE_KEYS, calls):
        with pytest.raises(InvalidInput) as caught:
            call(key)
        assert caught.value.code == "object_key_invalid"
    assert store.list_after("") == []


def test_negative_range_is_refused(store):
    store.put_if_absent("k", b"123")
    for start, length in ((-1, 2), (0, -1)):
        with pytest.raises(InvalidInput, match="offset"):
            store.get_range("k", start, length)


def test_of_many_threads_that_put_one_key_exactly_one_wins(store):
    for round_number in range(5):
        barrier = threading.Barrier(4)
        wins = []

        def put(who, key=f"k/{round_number}", barrier=barrier, wins=wins):
            barrier.wait()
            if store.put_if_absent(key, who):
                wins.append(who)

        threads = [threading.Thread(target=put, args=(bytes([n]) * 9,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(wins) == 1
        assert store.get(f"k/{round_number}") == wins[0]


def test_filesystem_reads_parquet_below_keys(store):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"n": [1, 2, 3]}), sink)
    store.put_if_absent("data/x/part.parquet", sink.getvalue().to_pybytes())
    filesystem = store.filesystem()
    with filesystem.open_input_file("data/x/part.parquet") as file:
        assert file.size() == len(store.get("data/x/part.parquet"))
        fragment = ds.ParquetFileFormat().make_fragment(file)
        assert fragment.to_table(filter=ds.field("n") > 1)["n"].to_pylist() == [2, 3]
    [found] = filesystem.get_file_info(pyarrow.fs.FileSelector("data/x"))
    assert found.path == "data/x/part.parquet"
    with pytest.raises(FileNotFoundError):
        filesystem.open_input_file("data/x/other.parquet")
    with pytest.raises(Storage) as caught:
        filesystem.open_output_stream("b")
    assert caught.value.code == "store_filesystem_read_only"


def test_native_file_reads_ranges_of_a_large_object(store):
    data = bytes(range(256)) * 40_000
    store.put_if_absent("large", data)
    with store.open_native("large") as file:
        assert file.size() == len(data)
        assert file.read_at(7, 5_000_000) == data[5_000_000:5_000_007]
        file.seek(len(data) - 3)
        assert file.read() == data[-3:]


def test_probe_accepts_it_and_leaves_nothing(store):
    store.put_if_absent("_catalog/v1/log/x", b"1")
    errors = []

    def run():
        try:
            probe(store, SystemRng().uuid())
        except Exception as error:  # noqa: BLE001  # shown below
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.list_after(PROBE_PREFIX) == []
    assert store.list_after("") == ["_catalog/v1/log/x"]


def test_listing_goes_on_behind_the_first_page(clients):
    store = sharing(clients, "moto", "contract/pages")
    call = s3.S3Store._call

    async def few(self, client, method, **arguments):
        return await call(self, client, method, **arguments, MaxKeys=3)

    keys = [f"log/{number:03d}" for number in range(8)]
    for key in keys:
        store.put_if_absent(key, b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3.S3Store, "_call", few)
        assert store.list_after("log/") == keys
        assert store.list_after("log/", keys[1]) == keys[2:]
