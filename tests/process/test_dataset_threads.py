"""Scanning a catalog dataset never calls into Python from pyarrow's threads: that deadlocked."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCANS = 600
# Scans as DuckDB does it, from a thread that holds the interpreter while it asks for a reader.
SCRIPT = """
import sys
import pyarrow as pa
from workbench.catalog import reading
from workbench.catalog.catalog import Write
from workbench.session.wiring import create_catalog

reading.WHOLE_BYTES_MAX = int(sys.argv[2])
catalog = create_catalog(sys.argv[1])
for part in range(14):
    table = pa.table({"n": pa.array(range(part * 1000, part * 1000 + 1000))})
    catalog.commit([Write("d", table, mode="append")])
dataset = catalog.dataset("d")
for _ in range(int(sys.argv[3])):
    rows = dataset.scanner().to_reader().read_all().num_rows
    assert rows == 14_000, rows
print("done")
"""


@pytest.mark.parametrize("whole_bytes_max", [16 * 2**20, 0], ids=["in memory", "open files"])
def test_many_objects_are_scanned_again_and_again_without_a_hang(
    tmp_path: Path, whole_bytes_max: int
) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "c"), str(whole_bytes_max), str(SCANS)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert outcome.stdout == "done\n", outcome.stderr
