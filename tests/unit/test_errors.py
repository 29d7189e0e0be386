"""Errors in a notebook: one line that says what to do, not a page of our own frames."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

from IPython.core.interactiveshell import InteractiveShell

CELL = """
from workbench.errors import NotFound
error = NotFound("there is no catalog 'x'", code="catalog_absent", hint="make one: wb.open()")
error.add_note("2 of 3 were done")
raise error
"""


def test_a_notebook_shows_one_line_and_the_notes() -> None:
    shell = InteractiveShell()
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        shell.run_cell(CELL, store_history=False)
    text = said.getvalue()
    assert "NotFound (catalog_absent): there is no catalog 'x'; make one" in text
    assert "2 of 3 were done" in text
    assert "in line 4 of the cell" in text
    assert "Traceback" not in text


def test_other_errors_keep_their_traceback() -> None:
    shell = InteractiveShell()
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        shell.run_cell("1 / 0", store_history=False)
    assert "Traceback" in said.getvalue()
