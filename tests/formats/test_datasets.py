"""The committed sets are what the generators make, and what their manifest says."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from workbench.model.tables import ACCESS
from workbench.session.datasets import make_datasets
from workbench.traces.generate import GENERATORS, SMALL, content_checksum

FOLDER = Path(__file__).resolve().parents[2] / "datasets"
MANIFEST = json.loads((FOLDER / "MANIFEST.json").read_text())
SETS = {each["name"]: each for each in MANIFEST["sets"]}


def test_every_generator_has_its_committed_set_and_its_line() -> None:
    assert list(SETS) == list(GENERATORS)
    assert {path.stem for path in FOLDER.glob("*.parquet")} == set(SETS)
    readme = (FOLDER / "README.md").read_text()
    assert all(f"| {name} |" in readme for name in SETS)


@pytest.mark.parametrize("name", SETS)
def test_a_committed_set_has_its_checksum(name: str) -> None:
    table = pq.read_table(FOLDER / SETS[name]["file"])
    assert table.num_rows == SETS[name]["accesses"] == SMALL
    assert content_checksum(table.cast(ACCESS)) == SETS[name]["content_sha256"]


def test_making_the_sets_anew_gives_the_same_manifest(tmp_path: Path) -> None:
    make_datasets(tmp_path, [], accesses=SMALL, seed=1)
    assert json.loads((tmp_path / "MANIFEST.json").read_text()) == MANIFEST
