"""Eight processes commit to one catalog while some are killed; and what proves the check of it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from workbench.catalog.catalog import Catalog, Write
from workbench.session.system import SystemClock, SystemRng
from workbench.stores.open import open_store

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/catalog_soak.py"


def soak(*arguments, seconds=300):
    found = subprocess.run(
        [sys.executable, str(TOOL), "--json", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=seconds,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return json.loads(found.stdout)


def test_eight_processes_some_of_them_killed_lose_and_double_nothing():
    figures = soak("--processes", "8", "--batches", "240", "--kill", "0.6", seconds=120)
    assert figures["problems"] == []
    assert figures["batches"] == 240
    assert figures["records"] == 240 + figures["unknown_landed"]
    assert figures["kills"] >= 1, "the run was too short to prove anything"
    assert figures["lost_races"] > 0


@pytest.mark.slow
def test_two_thousand_batches_on_an_s3_server_lose_and_double_nothing():
    figures = soak("--batches", "2000", "--kill", "3", "--moto", seconds=3_000)
    assert (figures["problems"], figures["kills"] > 5) == ([], True)


# --- the check finds what it is there for


@pytest.fixture
def tool():
    specification = importlib.util.spec_from_file_location("catalog_soak", TOOL)
    module = importlib.util.module_from_spec(specification)
    sys.modules["catalog_soak"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["catalog_soak"]


@pytest.fixture
def run(tool, tmp_path):
    """Commit batches as one process would, and return what the check then says."""
    url = str(tmp_path / "catalog")
    store = open_store(url, create=True)
    catalog = Catalog.create(store, clock=SystemClock(), rng=SystemRng(), writer="test")

    def write(shared, apart, journalled):
        for number in range(max(len(shared), len(apart))):
            writes = [
                Write(name, pa.table({"n": pa.array([values[number]], pa.int64())}), "append")
                for name, values in ((tool.SHARED, shared), (tool.own(0), apart))
                if number < len(values)
            ]
            catalog.commit(writes)
        (tmp_path / "0.0.journal").write_text("".join(f"ack {n}\n" for n in journalled))
        figures = tool.Figures(url, processes=1, batches=len(journalled))
        tool.check(url, tmp_path, figures)
        return figures.problems

    return write


def test_a_sound_run_has_no_problem(run):
    assert run([1, 2], [1, 2], [1, 2]) == []


def test_a_lost_batch_is_found(run):
    assert any("lost" in each for each in run([1], [1], [1, 2]))


def test_a_doubled_batch_is_found(run):
    assert any("twice" in each for each in run([1, 1], [1, 1], [1]))


def test_half_of_a_batch_is_found(run):
    assert any("half" in each for each in run([1, 2], [1], [1, 2]))


def test_a_batch_that_nobody_acknowledged_is_found(run):
    assert any("nobody acknowledged" in each for each in run([1, 2], [1, 2], [1]))


def test_a_journal_line_that_a_kill_cut_short_does_not_count(tool, tmp_path):
    (tmp_path / "0.0.journal").write_text("ack 1\nack 1234")
    (tmp_path / "0.1.journal").write_text("ack 2\n")
    assert tool.read_journals(tmp_path) == [1, 2]
