"""Pairs of notebook and script: the script is what people edit, the notebook is made from it.

    notebooks/NN_name.py ──▶ notebook_text ──▶ notebooks/NN_name.ipynb, without outputs

`python -m tests.notebooks.pairing` writes all notebooks anew. Cell ids are numbers, so that the
same script gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def notebook_of(script: Path) -> nbformat.NotebookNode:
    """Return the notebook that a script is, without outputs."""
    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell-{number:02}"
        cell["metadata"] = {}
    notebook.metadata = nbformat.from_dict(
        {
            "jupytext": {"formats": "ipynb,py:percent"},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        }
    )
    return notebook


def notebook_text(script: Path) -> str:
    """Return the notebook as it is written."""
    text: str = nbformat.writes(notebook_of(script), version=4)
    return text + "\n"


def write_all() -> None:
    """Write every notebook from its script."""
    for script in SCRIPTS:
        script.with_suffix(".ipynb").write_text(notebook_text(script), encoding="utf-8")


if __name__ == "__main__":
    write_all()
