"""Every example in a docstring of `wb` runs and says what it claims."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
from typing import TYPE_CHECKING

import pytest

import workbench as wb
import workbench.api

if TYPE_CHECKING:
    from pathlib import Path

MODULES = [f"workbench.api.{each.name}" for each in pkgutil.iter_modules(workbench.api.__path__)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("examples")
    made = wb.datasets("hot-range", out=place / "sets", accesses=6_000, seed=7)
    wb.collect(made.path("hot-range"), place / ".workbench/catalog", cluster="shop", routes=8)
    rows = [
        {"route_id": 1, "start": "", "end": "6d", "group": 1},
        {"route_id": 2, "start": "6d", "end": None, "group": 2},
    ]
    (place / "routes.json").write_text(json.dumps({"catalog_version": 4, "routes": rows}))
    return place


@pytest.fixture(scope="module")
def plan(folder: Path) -> wb.Plan:
    return wb.plan(folder / ".workbench/catalog", until="50%", max_splits=4)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(
    name: str, folder: Path, plan: wb.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("WORKBENCH_CATALOG", raising=False)
    module = importlib.import_module(name)
    found = doctest.testmod(
        module, extraglobs={"wb": wb, "plan": plan}, optionflags=doctest.ELLIPSIS
    )
    assert found.failed == 0


def test_the_functions_that_a_user_meets_first_have_an_example() -> None:
    first = ["open", "collect", "hot", "plan", "verify", "report", "compare", "picture", "connect"]
    for name in first:
        found = importlib.import_module("workbench.api.verifying").report
        documented = found if name == "report" else getattr(wb, name)
        assert ">>>" in (documented.__doc__ or ""), name
