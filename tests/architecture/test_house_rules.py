"""The rules of the house that no linter knows: lengths, orphans, words, dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("workbench/**/*.py"), *ROOT.glob("connectors/**/*.py")])
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 600
HEAVY = {"duckdb", "polars", "pyarrow", "s3fs", "grpc", "scipy", "numpy", "PIL", "jinja2", "rich"}
# What `workbench` is started by, and what is found by an entry point or read as data.
ROOTS = {
    "workbench.__main__",
    "workbench.cli.main",
    "workbench.node.__main__",
    "workbench.sim.catalog",
    "workbench.sim.cluster",
    "workbench_connectors.node",
    "workbench_connectors.routes_file",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "connectors" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            documented = ast.get_docstring(node) is not None
            first = body[1] if documented and len(body) > 1 else body[0]
            length = (node.end_lineno or 0) - first.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_no_module_is_an_orphan() -> None:
    used = set().union(*(imported(path) for path in SOURCES)) | ROOTS
    commands = (ROOT / "workbench/cli/main.py").read_text()
    used |= {f"workbench.cli.{name}" for name in re.findall(r'": \("(\w+)", "', commands)}
    modules = {module_name(path) for path in SOURCES if path.name != "__init__.py"}
    assert modules - used == set()


def test_nothing_is_unpickled_or_evaluated() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        assert not imported(path) & {"pickle", "marshal", "shelve", "dill", "yaml"}, path
        calls = {
            n.func.id
            for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not calls & {"eval", "exec"}, path


def test_help_of_the_command_leaves_heavy_modules_out() -> None:
    script = (
        "import sys\n"
        "from workbench.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print(sorted({sorted(HEAVY)!r} & sys.modules.keys()) if False else "
        f"sorted(set({sorted(HEAVY)!r}) & set(sys.modules)))"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert outcome.stdout.strip().endswith("[]")


LICENCES = re.compile(r"\b(Apache|BSD|MIT|ISC|PSF|Python Software Foundation)\b", re.IGNORECASE)
# name: (what its metadata must still say, why it is fine)
EXCEPTIONS = {
    "certifi": ("MPL-2.0", "used unmodified, as s3fs brings it along"),
    "fqdn": ("MPL", "used unmodified, by the notebook server of the tests"),
    "hypothesis": ("MPL-2.0", "used unmodified, in tests only"),
    "pathspec": ("MPL", "used unmodified, by the build and the type checker"),
    "sortedcontainers": ("Apache", ""),
}


def locked() -> list[str]:
    text = (ROOT / "requirements/dev.lock").read_text()
    elsewhere = r"win32|darwin|os_name == 'nt'"
    return sorted(
        set(re.findall(rf"^([a-z0-9._-]+)==(?![^\n]*(?:{elsewhere}))", text, re.MULTILINE))
    )


@pytest.mark.parametrize("name", locked())
def test_every_dependency_has_an_allowed_licence(name: str) -> None:
    metadata = distribution(name).metadata
    said = [
        metadata.get("License-Expression") or "",
        (metadata.get("License") or "").splitlines()[0] if metadata.get("License") else "",
        *(c for c in metadata.get_all("Classifier") or [] if c.startswith("License")),
    ]
    text = " ".join(said)
    if name in EXCEPTIONS:
        assert EXCEPTIONS[name][0] in text, text
        return
    assert LICENCES.search(text), text
    assert "GPL" not in text


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    reasons = (ROOT / "docs/dependencies.md").read_text()
    for requirement in (each for group in groups for each in group):
        name = re.split(r"[<>=\[ ]", requirement)[0]
        assert f"| {name} |" in reasons, name


def test_locks_name_no_host_and_hash_everything() -> None:
    for lock in ROOT.glob("requirements/*.lock"):
        text = lock.read_text()
        assert "://" not in text
        assert not re.search(r"(^|[\s\"'])/\w", text), f"{lock} names a path"
        pins = re.findall(r"^[a-z0-9._-]+==", text, re.MULTILINE)
        hashed = re.findall(r"^[a-z0-9._-]+==[^\n]*\\\n\s+--hash=sha256:", text, re.MULTILINE)
        assert len(pins) == len(hashed) > 10
