"""The layer contract catches what it forbids: each planted import breaks the right contract."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

PLANTED = [
    ("workbench/model/rogue.py", "import workbench.planner.plan", "Imports point down"),
    ("workbench/errors.py", "import workbench.model.keys", "Imports point down"),
    ("workbench/planner/rogue.py", "import workbench.catalog.catalog", "Imports point down"),
    ("workbench/query/rogue.py", "import workbench.stores.local", "Imports point down"),
    ("workbench/rogue/__init__.py", "", "Imports point down"),
    ("workbench/planner/rogue.py", "import os", "The core does no I/O"),
    ("workbench/catalog/rogue.py", "import duckdb", "The core does no I/O"),
    ("workbench/traces/rogue.py", "from random import random", "The core does no I/O"),
    ("workbench/heat/rogue.py", "import asyncio", "The core does no I/O"),
    ("workbench/planner/words.py", "import workbench.planner.plan", "No cycles"),
    ("workbench/raft/rogue.py", "import time", "The core does no I/O"),
    ("workbench/replica/rogue.py", "import random", "The core does no I/O"),
    ("workbench/host/rogue.py", "import asyncio", "The core does no I/O"),
    ("workbench/host/rogue.py", "import rocksdict", "The core does no I/O"),
    ("workbench/routing/rogue.py", "import grpc", "The core does no I/O"),
    ("workbench/mvcc/rogue.py", "import workbench.routing.table", "Imports point down"),
    ("workbench/raft/rogue.py", "import workbench.replica.replica", "Imports point down"),
    ("workbench/replica/rogue.py", "import workbench.host.host", "Imports point down"),
    ("workbench/node/rogue.py", "import workbench.query.load", "Imports point down"),
    ("workbench/sim/rogue.py", "import workbench.node.runtime", "Imports point down"),
    ("workbench/host/rogue.py", "import workbench.node.runtime", "Imports point down"),
    ("workbench/client/rogue.py", "import time", "The core does no I/O"),
    ("workbench/client/rogue.py", "import workbench.node.client", "Imports point down"),
    ("workbench/session/rogue.py", "import workbench.widgets", "Imports point down"),
    ("workbench/widgets/rogue.py", "import workbench.cli.main", "Imports point down"),
    ("workbench/widgets/rogue.py", "import workbench.api", "Imports point down"),
    ("workbench/cli/rogue.py", "import workbench_connectors", "Only the session composes"),
    (
        "connectors/workbench_connectors/rogue.py",
        "import workbench.catalog.catalog",
        "Connectors do not reach",
    ),
    (
        "connectors/workbench_connectors/rogue.py",
        "import workbench.node.client",
        "Connectors do not reach",
    ),
    (
        "connectors/workbench_connectors/rogue.py",
        "import workbench.session.wiring",
        "Connectors see only",
    ),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "pyproject.toml", folder)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "workbench", folder / "workbench", ignore=ignore)
    shutil.copytree(ROOT / "connectors", folder / "connectors", ignore=ignore)
    return folder


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), str(folder / "connectors")])
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_tree_as_it_is_keeps_all_contracts(checkout: Path) -> None:
    outcome = lint(checkout)
    assert outcome.returncode == 0, outcome.stdout
    assert "0 broken" in outcome.stdout


@pytest.mark.parametrize(("file", "line", "contract"), PLANTED)
def test_a_planted_import_is_caught(checkout: Path, file: str, line: str, contract: str) -> None:
    place = checkout / file
    before = place.read_text() if place.exists() else None
    fresh_folder = not place.parent.exists()
    place.parent.mkdir(exist_ok=True)
    place.write_text((before or "") + f"\n{line}\n")
    try:
        outcome = lint(checkout)
    finally:
        if before is not None:
            place.write_text(before)
        elif fresh_folder:
            shutil.rmtree(place.parent)
        else:
            place.unlink()
    assert outcome.returncode == 1, outcome.stdout
    broken = [row for row in outcome.stdout.splitlines() if "BROKEN" in row]
    assert any(contract in row for row in broken), outcome.stdout
