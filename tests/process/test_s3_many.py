"""Two clients, forks, threads and unclosed stores; and the server that must be refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

import pytest

from tests.s3_servers import closed_port, ministack, moto, nanio, options_for
from workbench.errors import Storage, Unavailable
from workbench.session.system import SystemRng
from workbench.stores import s3
from workbench.stores.probe import probe_place
from workbench.stores.s3 import S3Store

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server():
    with moto() as one:
        one.make_bucket("faults")
        yield one


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(s3, "PAUSE_SECONDS", 0.001)


# --- two clients


@pytest.mark.parametrize("kind", ["moto", "ministack"])
def test_of_two_clients_that_race_for_100_keys_exactly_one_wins_each(kind, request):
    with (moto if kind == "moto" else ministack)() as server:
        server.make_bucket("race")
        clients = [S3Store("s3://race/x", options=server.options()) for _ in range(2)]
        barrier = threading.Barrier(2)
        wins = [deque(), deque()]

        def run(who):
            for number in range(100):
                barrier.wait()
                if clients[who].put_if_absent(f"k/{number:03d}", bytes([who])):
                    wins[who].append(number)

        threads = [threading.Thread(target=run, args=(who,)) for who in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted([*wins[0], *wins[1]]) == list(range(100))
        keys = clients[0].list_after("k/")
        held = [data[0] for data in clients[0].get_many(keys)]
        assert [number for number in range(100) if held[number] == 0] == list(wins[0])
        for client in clients:
            client.close()


def test_server_that_ignores_conditional_puts_is_refused_by_the_probe(tmp_path):
    with nanio(tmp_path) as server:
        server.make_bucket("ignores")
        store = S3Store("s3://ignores/x", options=server.options())
        with pytest.raises(Storage) as caught:
            probe_place(store, SystemRng().uuid())
        assert caught.value.code == "store_not_conditional"
        assert "twice" in caught.value.message
        assert "If-None-Match" in caught.value.hint
        assert store.list_after("") == []
        store.close()


def test_server_that_is_not_there_is_no_verdict_of_the_probe():
    store = S3Store("s3://x-y-z", options=options_for(f"http://127.0.0.1:{closed_port()}"))
    with pytest.raises(Unavailable):
        probe_place(store, SystemRng().uuid())
    store.close()


# --- processes and threads

FORKED = """
import os, sys
from workbench.stores.open import open_store
store = open_store("s3://faults/fork", create=False)
store.put_if_absent("parent", b"1")
child = os.fork()
if child == 0:
    assert store.get("parent") == b"1"
    assert store.put_if_absent("child", b"2")
    store.close()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert store.get("child") == b"2"
"""

UNCLOSED = """
from workbench.stores.open import open_store
first = open_store("s3://faults/unclosed", create=False)
first.replace("k", b"1")
del first
second = open_store("s3://faults/unclosed", create=False)
assert second.get("k") == b"1"
with second.open_native("k") as file:
    assert file.read() == b"1"
"""


@pytest.mark.parametrize("script", [FORKED, UNCLOSED], ids=["forked", "unclosed"])
def test_process_that_forks_or_never_closes_is_quiet(server, script):
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        env=os.environ | server.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_many_threads_use_one_fresh_store(server):
    store = S3Store("s3://faults/threads", options=server.options())
    start = threading.Barrier(8)
    wins = deque()

    def run(number):
        start.wait()
        if store.put_if_absent("shared", bytes([number])):
            wins.append(number)
        store.put_if_absent(f"own/{number}", bytes([number]))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert store.get("shared") == bytes([wins[0]])
    assert len(store.list_after("own/")) == 8
    store.close()


def test_two_stores_of_one_process_keep_their_own_endpoints(server):
    one = S3Store("s3://faults/x", options=server.options())
    other = S3Store("s3://faults/x", options=options_for(f"http://127.0.0.1:{closed_port()}"))
    one.put_if_absent("k", b"1")
    with pytest.raises(Unavailable):
        other.get("k")
    assert one.get("k") == b"1"
    one.close()
    other.close()


def test_closed_store_opens_again_by_itself(server):
    store = S3Store("s3://faults/again", options=server.options())
    store.put_if_absent("k", b"1")
    store.close()
    store.close()
    assert store.get("k") == b"1"
    store.close()


def test_store_with_options_that_pyarrow_lacks_copies_the_object(server):
    store = S3Store("s3://faults/copy", options=server.options(requester_pays=True))
    store.put_if_absent("k", b"0123456789")
    with store.open_native("k") as file:
        assert file.size() == 10
        assert file.read_at(3, 2) == b"234"
    with pytest.raises(FileNotFoundError):
        store.open_native("other")
    store.close()
