"""What pyiceberg and deltalake work on in the benchmarks of the catalog.

| | |
|---|---|
| `delta_adds`, `delta_rows` | a checkpointed Delta table: a file per dataset, or a row |
| `iceberg` | tables of an SqlCatalog on SQLite, warehouse on the same disk |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from benchmarks.catalog_sets import AT, registrations_of
from workbench.model.manifest import dataset_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMESPACE = "bench"


def delta_adds(path: Path, names: Sequence[str]) -> str:
    """Make a checkpointed Delta table with one data file per dataset."""
    rows = pa.table({"name": list(names), "row_count": [100] * len(names)})
    write_deltalake(path, rows, partition_by=["name"])
    DeltaTable(path).create_checkpoint()
    return str(path)


def delta_rows(path: Path, names: Sequence[str]) -> str:
    """Make a checkpointed Delta table with one row per dataset, as the catalog's checkpoint has."""
    registrations = registrations_of(names)
    rows = pa.table(
        {
            "dataset_id": [str(dataset_id_of(each.name)) for each in registrations],
            "name": list(names),
            "schema_fingerprint": [each.schema_fingerprint for each in registrations],
            "objects": [
                [{"key": ref.key, "size": ref.size, "sha256": ref.sha256, "rows": ref.rows}]
                for each in registrations
                for ref in each.objects
            ],
            "created_at": pa.array([AT] * len(names), pa.timestamp("us", "UTC")),
            "updated_at": pa.array([AT] * len(names), pa.timestamp("us", "UTC")),
            "row_count": [100] * len(names),
        }
    )
    write_deltalake(path, rows)
    DeltaTable(path).create_checkpoint()
    return str(path)


def iceberg(root: Path, *, create: bool = False) -> SqlCatalog:
    """Open an SqlCatalog in a folder."""
    root.mkdir(exist_ok=True)
    catalog = SqlCatalog(
        NAMESPACE, uri=f"sqlite:///{root}/catalog.db", warehouse=f"file://{root}/warehouse"
    )
    if create:
        catalog.create_namespace(NAMESPACE)
    return catalog
