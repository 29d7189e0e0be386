"""Claims about the notebooks: they run by themselves, leave nothing, and are as their scripts.

Each runs in a kernel of its own, in a folder that holds nothing, with a temporary folder of its
own in which whatever it started would be found again.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.notebooks.pairing import FOLDER, SCRIPTS, notebook_of, notebook_text
from workbench.node.directory import holder_of
from workbench.session import local_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICKSTART_SECONDS_MAX = 120
CELL_SECONDS_MAX = 90
NAMES = (
    "01_quickstart",
    "02_find_hotspots",
    "03_plan_review_apply",
    "04_time_travel",
    "05_catalog_on_s3",
    "06_what_if",
    "07_real_cluster",
)


def left_running(folder: Path) -> list[Path]:
    """Stop the clusters that were left below `folder`, and return where they were."""
    left = []
    for file in folder.rglob("cluster.json"):
        if any(holder_of(node.parent) is not None for node in file.parent.glob("*/LOCK")):
            left.append(file.parent)
            local_cluster.down(file.parent)
    return left


@dataclass(frozen=True, slots=True)
class Ran:
    """A notebook with its outputs.

    Attributes:
        notebook: As it is after the last cell, or that which failed.
        seconds: How long it took, with the start of its kernel.
        left: Clusters that it left running; they are stopped by now.
        files: What it left in the folder that it ran in, and in the temporary one.
    """

    notebook: nbformat.NotebookNode
    seconds: float
    left: list[Path]
    files: list[str]


def run(name: str, folder: Path) -> Ran:
    """Run a notebook to its end, or to its first error."""
    scratch, cwd = folder / "tmp", folder / "cwd"
    scratch.mkdir()
    cwd.mkdir()
    hidden = {"WORKBENCH_CATALOG", "WORKBENCH_TARGET", "WORKBENCH_USER", "AWS_ENDPOINT_URL"}
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS_MAX,
        kernel_name="python3",
        resources={"metadata": {"path": str(cwd)}},
    )
    began = time.monotonic()  # noqa: TID251 - what is claimed is a time
    try:
        # Its own loop, closed at the end; nbclient's own helper leaves a thread's loop open.
        asyncio.run(client.async_execute(env={**kept, "TMPDIR": str(scratch)}))
    except CellExecutionError:
        pass  # it is among the outputs
    finally:
        left = left_running(scratch)
    seconds = time.monotonic() - began  # noqa: TID251 - likewise
    mine = [each.name for each in scratch.iterdir() if each.name.startswith("workbench-")]
    return Ran(notebook, seconds, left, [*(each.name for each in cwd.iterdir()), *mine])


@pytest.fixture(scope="module")
def notebooks_running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Ran]]]:
    """All notebooks that are asked for, two at a time: they wait for load more than they work."""
    asked = [
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "notebooks_running" in item.fixturenames
    ]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, name, tmp_path_factory.mktemp(name)) for name in asked}


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [each for cell in notebook.cells for each in cell.get("outputs", [])]


def test_there_are_the_seven() -> None:
    assert tuple(script.stem for script in SCRIPTS) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_its_script_without_outputs(script: Path) -> None:
    text = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text == notebook_text(script), "run: python -m tests.notebooks.pairing"
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert outputs(notebook) == []
    assert all(cell.get("execution_count") is None for cell in notebook.cells)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_says_why_before_how_and_uses_the_facade_alone(script: Path) -> None:
    notebook = notebook_of(script)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith(f"# {script.stem[:2]} · ")
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    imported = re.findall(r"^\s*(?:import|from) (workbench\S*.*)$", code, re.MULTILINE)
    assert set(imported) == {"workbench as wb"}
    texts = sum(cell.cell_type == "markdown" for cell in notebook.cells)
    assert texts >= 0.4 * len(notebook.cells)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom_and_leaves_nothing(
    name: str, notebooks_running: dict[str, Future[Ran]]
) -> None:
    ran = notebooks_running[name].result()
    found = outputs(ran.notebook)
    errors = ["\n".join(each.traceback) for each in found if each.output_type == "error"]
    assert errors == []
    said = [each.text for each in found if each.output_type == "stream" and each.name == "stderr"]
    assert said == []
    assert any("text/html" in each.get("data", {}) for each in found)
    assert (ran.left, ran.files) == ([], [])
    if name == NAMES[0]:
        assert ran.seconds < QUICKSTART_SECONDS_MAX
