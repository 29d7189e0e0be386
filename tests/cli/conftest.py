"""A command line in a folder of its own, called in-process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from workbench.cli.main import main
from workbench.session.datasets import accesses_bytes
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMAS = Path(__file__).resolve().parents[2] / "docs/formats/json"


@dataclass(frozen=True)
class Outcome:
    """How one call ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The answer on stdout, checked against its published schema."""
        document: dict[str, Any] = json.loads(self.out)
        check_schema(document)
        return document

    @property
    def error(self) -> dict[str, Any]:
        """The error on stderr, checked against its published schema."""
        document = json.loads(self.err)
        check_schema(document)
        found: dict[str, Any] = document["error"]
        return found


def check_schema(document: dict[str, Any]) -> None:
    """Validate a document against the schema that it names."""
    name = document["schema"].removeprefix("workbench.").partition("/")[0]
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


@pytest.fixture
def workbench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Run `workbench …` in an empty folder, and return how it ended."""
    monkeypatch.chdir(tmp_path)
    for name in ("WORKBENCH_CATALOG", "WORKBENCH_USER"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def hot_range_bytes() -> bytes:
    """A small generated trace with a hot range, as a Parquet file."""
    return accesses_bytes(generate("hot-range", accesses=20_000, seed=3))


@pytest.fixture
def trace(tmp_path: Path, hot_range_bytes: bytes) -> Path:
    """That trace in the folder in which the command runs."""
    path = tmp_path / "hot.parquet"
    path.write_bytes(hot_range_bytes)
    return path
