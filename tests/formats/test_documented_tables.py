"""docs/formats says what the code does: tables, JSON schemas, commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pyarrow as pa
import pytest

from workbench.cli.main import COMMANDS, cli
from workbench.model.tables import (
    ACCESS,
    APPROVAL,
    HOT_KEY,
    KEY_SAMPLE,
    LEASE,
    LOAD_WINDOW,
    PLAN,
    RECEIPT,
    ROUTE,
    VERSION,
)

ROOT = Path(__file__).resolve().parents[2]
TABLES = {
    "<cluster>/load_window": LOAD_WINDOW,
    "<cluster>/hot_key": HOT_KEY,
    "<cluster>/key_sample": KEY_SAMPLE,
    "<cluster>/access": ACCESS,
    "<cluster>/route": ROUTE,
    "plan/<plan_id>": PLAN,
    "approval/<plan_id>": APPROVAL,
    "receipt/<plan_id>": RECEIPT,
    "lease/<cluster>": LEASE,
    "export/<name>/version": VERSION,
}


def shown(kind: pa.DataType) -> str:
    return "list of struct" if pa.types.is_list(kind) else str(kind)


@pytest.mark.parametrize("heading", TABLES)
def test_the_documented_columns_are_the_schema(heading: str) -> None:
    text = (ROOT / "docs/formats/tables.md").read_text()
    section = text.partition(f"## `{heading}`")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| (yes)?", section, re.MULTILINE)[1:]
    documented = [(name, kind.strip(), bool(null)) for name, kind, null in rows]
    actual = [
        (
            field.name,
            "list of struct" if pa.types.is_list(field.type) else str(field.type),
            field.nullable,
        )
        for field in TABLES[heading]
    ]
    assert documented == actual


def test_every_json_schema_is_one_and_names_itself() -> None:
    schemas = sorted((ROOT / "docs/formats/json").glob("*.json"))
    assert len(schemas) >= 15
    for path in schemas:
        schema = json.loads(path.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        version = 2 if path.stem == "plan" else 1
        assert schema["$id"] == f"workbench.{path.stem}/{version}"
        assert schema["properties"]["schema"] == {"const": schema["$id"]}


def test_every_answer_that_the_code_prints_has_a_schema() -> None:
    named = set()
    for path in (ROOT / "workbench/cli").glob("*.py"):
        named |= set(re.findall(r'emit\(\s*"(\w+)"', path.read_text()))
    published = {path.stem for path in (ROOT / "docs/formats/json").glob("*.json")}
    assert named | {"error", "plan"} == published


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    assert set(cli.list_commands(None)) == set(COMMANDS)  # type: ignore[arg-type]
    for name in COMMANDS:
        assert f"`workbench {name}" in text, name
