"""The probe against stores that break each promise: a checker is shown by what it catches."""

from __future__ import annotations

import threading
import uuid

import pytest

from workbench.errors import OutcomeUnknown, Storage, Unavailable
from workbench.stores.local import LocalStore
from workbench.stores.memory import MemoryStore
from workbench.stores.probe import PROBE_PREFIX, RACERS, probe, probe_place

TOKEN = uuid.UUID(int=7)


class Overwriting(MemoryStore):
    """Takes no notice of the condition, as nanio."""

    def put_if_absent(self, key, data):
        self.replace(key, data)
        return True


class Lying(MemoryStore):
    """Answers truly that the key exists, and overwrites it."""

    def put_if_absent(self, key, data):
        fresh = self.size_of(key) is None
        self.replace(key, data)
        return fresh


class AsksFirst(MemoryStore):
    """Asks whether the key exists, and then writes: right, until two come at once."""

    def __init__(self):
        super().__init__()
        self.together = threading.Barrier(RACERS)

    def put_if_absent(self, key, data):
        absent = self.size_of(key) is None
        if key.endswith("-race"):
            self.together.wait()
        if absent:
            self.replace(key, data)
        return absent


class Deaf(MemoryStore):
    """Says that every key exists."""

    def put_if_absent(self, key, data):
        del key, data
        return False


class Stale(MemoryStore):
    """Reads back something else."""

    def get(self, key):
        return super().get(key)[:-1]


class WholeAnswers(MemoryStore):
    """Ignores ranges."""

    def get_range(self, key, start, length):
        del start, length
        return self.get(key)


class LateListing(MemoryStore):
    """Does not list what is fresh."""

    def list_after(self, prefix, after=""):
        del prefix, after
        return []


class Inclusive(MemoryStore):
    """Lists from a key on, not after it."""

    def list_after(self, prefix, after=""):
        return [key for key in super().list_after(prefix) if key >= after]


@pytest.mark.parametrize(
    ("kind", "code", "what"),
    [
        (Overwriting, "store_not_conditional", "twice"),
        (Lying, "store_not_conditional", "overwrote"),
        (AsksFirst, "store_not_conditional", f"{RACERS} times at once"),
        (Stale, "store_not_consistent", "read back"),
        (Deaf, "store_not_consistent", "read back"),
        (WholeAnswers, "store_range_wrong", "ranged read"),
        (LateListing, "store_listing_broken", "does not list"),
        (Inclusive, "store_listing_broken", "after itself"),
    ],
)
def test_store_that_breaks_a_promise_is_refused_by_name(kind, code, what):
    store = kind()
    with pytest.raises(Storage) as caught:
        probe(store, TOKEN)
    assert caught.value.code == code
    assert what in caught.value.message
    assert store.url in caught.value.message
    assert "If-None-Match" in caught.value.hint
    assert MemoryStore.list_after(store, "") == [], "nothing of the probe stays"


def test_good_store_passes_and_the_catalog_in_it_is_not_touched():
    store = MemoryStore()
    for key in ("_catalog/v1/FORMAT", "_catalog/v1/log/x", "_catalog/v1/ckpt/y"):
        store.put_if_absent(key, b"1")
    seen = []
    put = store.put_if_absent
    store.put_if_absent = lambda key, data: (seen.append(key), put(key, data))[1]
    probe(store, TOKEN)
    assert len(store.list_after("")) == 3
    assert all(key.startswith(PROBE_PREFIX) and str(TOKEN) in key for key in seen)


def test_probes_at_once_do_not_disturb_each_other():
    store = MemoryStore()
    errors = []

    def run(number):
        try:
            probe(store, uuid.UUID(int=number))
        except Exception as error:  # noqa: BLE001  # shown below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.list_after("") == []


class Echoing(MemoryStore):
    """A client that repeats a put whose answer was lost, and takes its own object for another's."""

    def put_if_absent(self, key, data):
        super().put_if_absent(key, data)
        return False


def test_client_that_meets_its_own_put_is_not_refused():
    probe(Echoing(), TOKEN)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_put_without_an_answer_is_no_verdict(number):
    store = MemoryStore()
    put, calls = store.put_if_absent, []

    def unknown(key, data):
        calls.append(key)
        put(key, data)
        if len(calls) >= number:
            raise OutcomeUnknown("no answer", code="store_outcome_unknown")
        return len(calls) == 1

    store.put_if_absent = unknown
    with pytest.raises(Unavailable) as caught:
        probe(store, TOKEN)
    assert caught.value.code == "store_unavailable"
    assert store.list_after("") == []


def test_local_files_and_memory_need_no_probe(tmp_path):
    probe_place(LocalStore(tmp_path / "absent", create=True), TOKEN)
    assert not (tmp_path / "absent").exists()
    store = MemoryStore()
    store.put_if_absent = None
    probe_place(store, TOKEN)


def test_local_files_would_pass(tmp_path):
    store = LocalStore(tmp_path, create=True)
    probe(store, TOKEN)
    assert store.list_after("") == []
