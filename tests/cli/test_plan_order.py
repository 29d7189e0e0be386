"""Claims about plans of the same load: rows, files and processes in any order, the same bytes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.session.collect import CollectOptions, collect
from workbench.session.datasets import accesses_bytes
from workbench.session.registering import Claim, register_files
from workbench.session.wiring import open_catalog, open_or_create_catalog
from workbench.traces.generate import generate
from workbench.traces.readers import TraceOptions

if TYPE_CHECKING:
    from pathlib import Path

FILES = 5


def shuffled(table: pa.Table, chance: random.Random) -> pa.Table:
    order = list(range(table.num_rows))
    chance.shuffle(order)
    return table.take(pa.array(order))


def planned(url: str, hash_seed: str) -> bytes:
    """The plan that `workbench plan` gives in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "workbench", "plan", "--catalog", url, "--json"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
    ).stdout


def registered(folder: Path, url: str, seed: int) -> str:
    """The load of the catalog in another one: rows shuffled over files, files in any order."""
    chance, source, target = random.Random(seed), open_catalog(url), str(folder / f"of{seed}")
    catalog = open_or_create_catalog(target)
    for manifest in source.list():
        table = source.read(manifest.name)
        kind = manifest.name.rpartition("/")[2]
        if kind in {"load_window", "access"}:
            table = shuffled(table, chance)
        parts = FILES if kind in {"load_window", "access"} else 1
        size, paths = -(-table.num_rows // parts), []
        for number in range(parts):
            paths.append(folder / f"{seed}-{kind}-{number}.parquet")
            pq.write_table(table.slice(number * size, size), paths[-1])
        chance.shuffle(paths)
        claim = Claim(manifest.name, properties=dict(manifest.properties))
        register_files(catalog, claim, paths)
    return target


@pytest.fixture(scope="module")
def accesses() -> pa.Table:
    return pq.read_table(
        pa.BufferReader(accesses_bytes(generate("hot-range", accesses=1_000, seed=1)))
    )


def collected(folder: Path, table: pa.Table, name: str) -> str:
    trace = folder / f"{name}.parquet"
    pq.write_table(table, trace)
    url = str(folder / f"catalog-{name}")
    collect(f"trace:{trace}", url, CollectOptions("c", TraceOptions(sort=True), routes="3"))
    return url


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_rows_and_files_that_were_registered_in_any_order_give_the_same_plan(
    accesses: pa.Table, tmp_path: Path, seed: int
) -> None:
    first = collected(tmp_path, accesses, "first")
    expected = planned(first, "0")
    assert json.loads(expected)["actions"]
    second = registered(tmp_path, first, seed)
    assert len(open_catalog(second).get("c/load_window").objects) == FILES
    assert planned(second, "4711") == expected


def test_rows_that_were_collected_in_any_order_give_the_same_plan(
    accesses: pa.Table, tmp_path: Path
) -> None:
    expected = planned(collected(tmp_path, accesses, "as-it-is"), "0")
    mixed = shuffled(accesses, random.Random(7))
    assert not mixed.equals(accesses)
    assert planned(collected(tmp_path, mixed, "mixed"), "4711") == expected
