"""Fixtures of the tests in a browser: one Jupyter server for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.jupyter import Jupyter

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """JupyterLab and Notebook 7 on loopback; started at the first test that wants it."""
    server = Jupyter(tmp_path_factory.mktemp("jupyter"))
    yield server
    server.close()
