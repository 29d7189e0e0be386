"""A catalog of records 2 and checkpoint 1 must still be read, byte for byte as it lies here.

`test_catalog_v2/` was written once, with a fixed clock and fixed uuids: two appends of a dataset
cut by days, one that went, a checkpoint at 4, and a record behind it. Never write it anew.
"""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from unit.test_catalog_faults import ManualClock, SeededRng, numbers

from workbench.catalog.audit import audit
from workbench.catalog.catalog import Catalog, Write
from workbench.catalog.layout import FORMAT_KEY, HINT_KEY, ckpt_key, log_key
from workbench.stores.local import LocalStore

GOLDEN = Path(__file__).parent / "test_catalog_v2"
SHA256 = {
    FORMAT_KEY: "b427abc2a13c395dd29176227dce16e7867aab59517f6c2cad2f22e1a877938b",
    log_key(1): "d4713697cdf713026504cb23df8aa899326c7ec2469e52104f5f22c016e913d3",
    log_key(2): "0ee7366caec580434708fd1979da4523fe5d9ac66936cf36146491d9e170a12e",
    log_key(3): "d5941051485a07c610f82ca257fe5bcf9ee4084f0f4eed6ae87333f177f9c20c",
    log_key(4): "e1df40063c63133b89ab36e220feab14c9ac46f2efd22bc60717d524f32a70a4",
    log_key(5): "f9099db153e3f223335142b7ebe857db81cd9c405b2d62e1915eb077069112f3",
    ckpt_key(4): "554d63f346c11334f91003ed290dfa93db2fdc42f4dc59e550a9e8cca49fc1c2",
    HINT_KEY: "d5f5d9d700b7ac9b5ae6a1eff941bc7e5f79b8798f81ae045ba4c329868c76cf",
}


def opened(root: Path) -> Catalog:
    store = LocalStore(root, create=False)
    return Catalog.open(store, clock=ManualClock(), rng=SeededRng(9), writer="test")


@pytest.mark.parametrize("key", SHA256)
def test_the_bytes_are_those_that_were_written_once(key):
    assert hashlib.sha256((GOLDEN / key).read_bytes()).hexdigest() == SHA256[key]


@pytest.mark.parametrize("lost", [(), (HINT_KEY,), (HINT_KEY, ckpt_key(4))])
def test_it_opens_from_its_checkpoint_and_from_its_log_alike(tmp_path, lost):
    shutil.copytree(GOLDEN, tmp_path / "copy")
    for key in lost:
        (tmp_path / "copy" / key).unlink()
    catalog = opened(tmp_path / "copy")
    assert (catalog.seq, catalog.notices) == (5, ())
    assert [m.name for m in catalog.list()] == ["load/days", "plain"]
    days = catalog.get("load/days")
    assert (days.row_count, days.properties) == (4, {"source": "golden", "time_column": "at"})
    assert [ref.rows for ref in days.objects] == [1, 1, 1, 1]
    assert [ref.time_min for ref in days.objects[:2]] == [
        datetime(2026, 1, 1, 23, tzinfo=UTC),
        datetime(2026, 1, 2, 1, tzinfo=UTC),
    ]
    assert catalog.read("load/days")["n"].to_pylist() == [1, 2, 1, 2]
    assert audit(catalog.store).problems == ()


def test_it_is_read_as_it_was():
    assert [m.name for m in opened(GOLDEN).at(3).list()] == ["gone", "load/days", "plain"]
    assert opened(GOLDEN).at(4).read("plain").num_rows == 1


def test_it_can_be_carried_on(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "copy")
    opened(tmp_path / "copy").commit([Write("plain", numbers(3), "append")])
    catalog = opened(tmp_path / "copy")
    assert (catalog.seq, catalog.get("plain").row_count) == (6, 3)
