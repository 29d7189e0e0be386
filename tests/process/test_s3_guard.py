"""A catalog that lies in a store without conditional puts: it is read, and never written."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pytest

from tests.s3_servers import moto, nanio
from workbench.catalog.catalog import Catalog, Write
from workbench.errors import Storage
from workbench.session.system import SystemClock, SystemRng
from workbench.session.wiring import guarded
from workbench.stores.memory import MemoryStore
from workbench.stores.s3 import S3Store

ROWS = pa.table({"n": [1, 2, 3]})


def opened(store):
    return Catalog.open(guarded(store), clock=SystemClock(), rng=SystemRng(), writer="test")


def test_a_catalog_that_was_copied_to_a_store_that_overwrites_is_not_written_there(tmp_path):
    source = MemoryStore()
    catalog = Catalog.create(source, clock=SystemClock(), rng=SystemRng(), writer="test")
    catalog.commit([Write("a", ROWS)])
    with nanio(tmp_path) as server:
        bucket = server.make_bucket("copied")
        store = S3Store(f"s3://{bucket}/c", options=server.options())
        with contextlib.closing(store):
            before = {key: source.get(key) for key in source.list_after("")}
            for key, data in before.items():
                store.replace(key, data)
            assert opened(store).read("a").equals(ROWS)
            with pytest.raises(Storage) as caught:
                opened(store).commit([Write("a", ROWS.slice(1))])
            assert caught.value.code == "store_not_conditional"
            assert {key: store.get(key) for key in store.list_after("")} == before


def test_a_store_that_keeps_its_word_is_asked_once(monkeypatch):
    with moto() as server:
        bucket = server.make_bucket("kept")
        store = S3Store(f"s3://{bucket}/c", options=server.options())
        with contextlib.closing(store):
            Catalog.create(store, clock=SystemClock(), rng=SystemRng(), writer="test")
            puts = []
            original = store.put_if_absent
            monkeypatch.setattr(
                store, "put_if_absent", lambda key, data: puts.append(key) or original(key, data)
            )
            catalog = opened(store)
            catalog.commit([Write("a", ROWS)])
            catalog.commit([Write("a", ROWS, "append")])
            assert [key.split("/")[-1] for key in puts].count("FORMAT") == 1
            assert catalog.verify() == []
