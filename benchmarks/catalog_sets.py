"""What the benchmarks of the catalog work on, made afresh in temporary folders.

| | |
|---|---|
| `names_of` | dataset names, of characters that every rival takes |
| `our_catalog` | a catalog of so many datasets, whose 64 records end in a checkpoint |
| `manifest_files` | the layout that came before: one Parquet file per dataset |
| `versions` | rows of an export |

No reference points at an object that is there: opening does not look at data. What pyiceberg and
deltalake work on is in `catalog_rivals`.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.catalog.catalog import Catalog, Registration
from workbench.catalog.checkpoint import CHECKPOINT_RECORDS
from workbench.catalog.legacy import encode_legacy, legacy_key
from workbench.model.manifest import Manifest, ObjectRef, dataset_id_of
from workbench.model.tables import VERSION
from workbench.model.times import hlc_of_ms
from workbench.session.system import SystemClock, SystemRng
from workbench.stores.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workbench.ports.object_store import ObjectStore

FINGERPRINT = "f" * 64
AT = datetime(2026, 11, 21, tzinfo=UTC)
EPOCH_MS = 1_795_000_000_000
VERSION_SPREAD_MS = 60_000
KEY_PREFIX = b"account/"


@contextmanager
def folder() -> Iterator[Path]:
    """Give an empty folder below the system's temporary one; it is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="workbench-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def names_of(count: int) -> list[str]:
    """Return names in ascending order."""
    return [f"cluster_{number:06d}" for number in range(count)]


def registrations_of(names: Sequence[str]) -> list[Registration]:
    """Return registrations of one object each."""
    return [
        Registration(
            name,
            FINGERPRINT,
            (ObjectRef(f"data/{dataset_id_of(name)}/part-0.parquet", 1_000, sha256_of(name), 100),),
            100,
        )
        for name in names
    ]


def sha256_of(text: str) -> str:
    """Return 64 digits that do not repeat, as those of real objects."""
    return hashlib.sha256(text.encode()).hexdigest()


def open_catalog(store: ObjectStore) -> Catalog:
    """Open a catalog."""
    return Catalog.open(store, clock=SystemClock(), rng=SystemRng(), writer="bench")


def create_catalog(store: ObjectStore) -> Catalog:
    """Make a catalog."""
    return Catalog.create(store, clock=SystemClock(), rng=SystemRng(), writer="bench")


def our_catalog(store: ObjectStore, names: Sequence[str]) -> Catalog:
    """Make a catalog of these datasets; its last record is a checkpoint's."""
    catalog = create_catalog(store)
    registrations = registrations_of(names)
    for record in range(CHECKPOINT_RECORDS):
        start, end = (len(names) * at // CHECKPOINT_RECORDS for at in (record, record + 1))
        catalog.register(registrations[start:end])
    if catalog.seq != CHECKPOINT_RECORDS:
        raise SystemExit(
            f"{len(names)} datasets gave {catalog.seq} records, none is a checkpoint's"
        )
    return catalog


def legacy_manifests(names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield key and bytes of one file per dataset."""
    for each in registrations_of(names):
        manifest = Manifest(
            dataset_id_of(each.name), each.name, FINGERPRINT, each.objects, AT, AT, 100
        )
        yield legacy_key(each.name), encode_legacy(manifest)


def manifest_files(root: Path, names: Sequence[str]) -> list[str]:
    """Write one file per dataset, and return their paths."""
    paths = []
    for key, data in legacy_manifests(names):
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths.append(str(path))
    return paths


def local_store(root: Path) -> LocalStore:
    """Return a store in a folder, which need not exist yet."""
    return LocalStore(root, create=True)


def versions(keys: int, versions_per_key: int, value_bytes: int, *, seed: int = 1) -> pa.Table:
    """Return VERSION rows in the order of an export, one in 16 of them a tombstone.

    Keys have 16 bytes: a common prefix and 8 random ones. The first half of each value is a text
    that repeats itself, the second half is random.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    ids = np.unique(rng.integers(0, 2**63, keys, dtype=np.uint64))
    if len(ids) != keys:
        raise SystemExit("two random keys are equal: choose another seed")
    count = keys * versions_per_key
    keys_bytes = np.empty((keys, 16), np.uint8)
    keys_bytes[:, :8] = np.frombuffer(KEY_PREFIX, np.uint8)
    keys_bytes[:, 8:] = ids.astype(">u8").view(np.uint8).reshape(keys, 8)
    steps = rng.integers(0, VERSION_SPREAD_MS, (keys, versions_per_key))
    commit_ms = EPOCH_MS + np.sort(steps, axis=1)[:, ::-1].ravel()
    # The logical part tells versions of the same millisecond apart.
    logical = np.tile(np.arange(versions_per_key)[::-1], keys)
    commit_ts = commit_ms.astype(np.uint64) * np.uint64(hlc_of_ms(1)) + logical.astype(np.uint64)
    tombstone = rng.integers(0, 16, count) == 0
    values = rng.integers(0, 256, (count, value_bytes), dtype=np.uint8)
    text = (b'{"currency":"EUR","owner":' * value_bytes)[: value_bytes // 2]
    values[:, : value_bytes // 2] = np.frombuffer(text, np.uint8)
    columns = [
        _binary(np.repeat(keys_bytes, versions_per_key, axis=0)),
        pa.array(commit_ts),
        pa.DictionaryArray.from_arrays(
            pa.array(tombstone.astype(np.int8)), ["put", "tombstone"]
        ).cast(pa.string()),
        pc.if_else(pa.array(tombstone), pa.scalar(None, pa.binary()), _binary(values)),
        pa.nulls(count, VERSION.field("expire_at").type),
        pa.array(np.ones(count, np.uint64)),
    ]
    return pa.table(columns, schema=VERSION)


def _binary(rows: np.ndarray[Any, Any]) -> pa.Array:
    """Return rows of bytes, all of one length, as a binary column."""
    count, length = rows.shape
    offsets = np.arange(count + 1, dtype=np.int64) * length
    if offsets[-1] >= 2**31:
        raise SystemExit(f"{count} values of {length} bytes do not fit into one column")
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(rows.tobytes())]
    return pa.BinaryArray.from_buffers(pa.binary(), count, buffers)
