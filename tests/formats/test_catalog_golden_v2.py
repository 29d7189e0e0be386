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
    log_key(1): "0f0c30dd9a366a3c544064eebeec1cb7996a39f048a9bedfa8e24c218f358c61",
    log_key(2): "ace4c37d204e12361068ebcfb547e9337aaf12ebcac76c4dbee432c215865a99",
    log_key(3): "b0df943ac156f73eaeb9f2317b9424c6563c5c28c578414966084e6951552576",
    log_key(4): "fe2537d96e1e9fdcec6ccff693e934272913c4c238e21d5d4204fa908a672966",
    log_key(5): "cab79cb5174682acf6ccc675d7b28e9b0f32993c637ea1a1d8d2476075723160",
    ckpt_key(4): "48b917848795a209f927ad55122cd15f6ab543db5fdb8f7465bea325f4d9b364",
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
