"""Defaults from workbench.toml and the environment: who wins, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEADING = '[workbench]\ncatalog = "elsewhere"\n'


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], None]:
    """Write workbench.toml into the folder in which the command runs."""

    def write(content: str) -> None:
        (tmp_path / "workbench.toml").write_text(content)

    return write


def made(workbench: Callable[..., Any], *extra: str) -> int:
    answer: int = workbench("datasets", "make", "zipf", "--json", *extra).json["sets"][0]["seed"]
    return answer


def refused(workbench: Callable[..., Any], arguments: list[str], *parts: str) -> None:
    outcome = workbench(*arguments)
    assert (outcome.status, outcome.out) == (1, ""), outcome
    [line] = outcome.err.splitlines()
    for part in ("workbench.toml", *parts):
        assert part in line, line
    twin = workbench(*arguments, "--json").error
    assert twin["code"] == "configuration_invalid"
    assert twin["hint"]


def test_configuration_comes_from_flag_then_environment_then_file(
    workbench: Callable[..., Any],
    configured: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configured('[datasets.make]\naccesses = 10\nseed = 5\nout = "a"\n')
    assert made(workbench) == 5
    monkeypatch.setenv("WORKBENCH_DATASETS_MAKE_SEED", "6")
    assert made(workbench) == 6
    assert made(workbench, "--seed", "7") == 7
    assert workbench("datasets", "make", "zipf", "--json").json["out"] == "a"


def test_a_variable_is_named_as_the_flag_is(
    workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_DATASETS_MAKE_ACCESSES", "10")
    monkeypatch.setenv("WORKBENCH_DATASETS_MAKE_JSON", "1")
    assert workbench("datasets", "make", "zipf").json["sets"][0]["accesses"] == 10


@pytest.mark.parametrize("name", ["max-splits", "max_splits"])
def test_an_option_may_be_written_with_hyphen_or_underscore(
    workbench: Callable[..., Any], configured: Callable[[str], None], trace: Path, name: str
) -> None:
    assert workbench("collect", f"trace:{trace}", "--routes", "4").status == 0
    configured(f"[plan]\n{name} = 1\njson = true\n")
    assert len(workbench("plan").json["actions"]) == 1


@pytest.mark.parametrize(
    ("content", "arguments", "parts"),
    [
        ("[plan\n", ["hot"], ()),
        ("[plam]\nx = 3\n", ["hot"], ("plam", "did you mean plan")),
        ("plan = 3\n", ["hot"], ("plan", "[plan]")),
        ("[plan]\nmax_split = 3\n", ["plan"], ("[plan]", "max_split", "max_splits")),
        ("[plan]\nzzz = 3\n", ["plan"], ("[plan]", "zzz", "workbench plan --help")),
        ("[catalog.ls]\nprefx = 'a'\n", ["catalog", "ls"], ("[catalog.ls]", "prefx", "prefix")),
        ("[catalog.lss]\nx = 1\n", ["catalog", "ls"], ("[catalog]", "lss", "mean ls")),
        ("[catalog]\nls = 1\n", ["catalog", "ls"], ("ls", "[catalog.ls]")),
        ("[workbench]\ncatalogue = 'a'\n", ["hot"], ("[workbench]", "catalogue", "catalog?")),
        ("[workbench]\ncatalog = 3\n", ["hot"], ("[workbench]", "catalog", "3")),
        ("workbench = 3\n", ["hot"], ("workbench",)),
        ("[plan]\nmax_splits = 'many'\n", ["plan"], ("--max-splits", "many")),
        ("[plan]\nmax_splits = 3.7\n", ["plan"], ("--max-splits", "3.7")),
        ("[plan]\nmax_splits = true\n", ["plan"], ("--max-splits", "true")),
        ("[plan]\nmax_splits = [3]\n", ["plan"], ("[plan]", "max_splits", "[3]")),
        ("[plan]\nformat = 'xml'\n", ["plan"], ("--format", "xml")),
        ("[plan]\nonly_hot = 'x'\n", ["plan"], ("--only-hot", "x")),
    ],
)
def test_what_the_file_gets_wrong_is_named_in_one_line(
    workbench: Callable[..., Any],
    configured: Callable[[str], None],
    content: str,
    arguments: list[str],
    parts: tuple[str, ...],
) -> None:
    configured(content)
    refused(workbench, arguments, *parts)


def test_a_value_that_a_flag_overrides_is_not_looked_at(
    workbench: Callable[..., Any], configured: Callable[[str], None]
) -> None:
    configured("[datasets.make]\nseed = 'x'\naccesses = 10\n")
    assert made(workbench, "--seed", "7") == 7


def test_another_commands_table_is_not_checked(
    workbench: Callable[..., Any], configured: Callable[[str], None]
) -> None:
    configured("[plan]\nmax_split = 3\n\n[datasets.make]\naccesses = 10\n")
    assert made(workbench) == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["plan", "--help"], 0),
        (["catalog", "ls", "-h"], 0),
        (["catalog"], 2),
        ([], 2),
        (["frobnicate"], 2),
    ],
)
def test_a_broken_file_breaks_neither_help_nor_version_nor_usage(
    workbench: Callable[..., Any],
    configured: Callable[[str], None],
    arguments: list[str],
    status: int,
) -> None:
    configured("[plan\n")
    outcome = workbench(*arguments)
    assert outcome.status == status
    assert "workbench.toml cannot" not in outcome.err


@pytest.mark.parametrize("content", [LEADING, 'catalog = "elsewhere"\n'])
def test_the_catalog_holds_for_every_command_beside_tables_of_its_own(
    workbench: Callable[..., Any], configured: Callable[[str], None], trace: Path, content: str
) -> None:
    configured(content)
    assert workbench("collect", f"trace:{trace}").status == 0
    assert (trace.parent / "elsewhere/data").is_dir()
    configured(LEADING + '[catalog.ls]\nprefix = "hot/r"\n')
    listed = workbench("catalog", "ls", "--json").json["datasets"]
    assert [each["name"] for each in listed] == ["hot/route"]


def test_flag_environment_and_own_table_win_over_the_shared_one(
    workbench: Callable[..., Any],
    configured: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configured(LEADING + '[hot]\ncatalog = "own"\n')
    assert "own" in workbench("hot").err
    assert "elsewhere" in workbench("plan").err
    monkeypatch.setenv("WORKBENCH_CATALOG", "surroundings")
    assert "surroundings" in workbench("plan").err
    monkeypatch.setenv("WORKBENCH_PLAN_CATALOG", "nearer")
    assert "nearer" in workbench("plan").err
    assert "flagged" in workbench("plan", "--catalog", "flagged").err


def test_the_shared_cluster_is_a_default(
    workbench: Callable[..., Any], configured: Callable[[str], None], trace: Path
) -> None:
    assert workbench("collect", f"trace:{trace}").status == 0
    configured('[workbench]\ncluster = "other"\n')
    assert workbench("hot", "--json").error["code"] == "cluster_absent"
    assert workbench("hot", "--cluster", "hot").status == 0


def test_the_shared_catalog_does_not_make_a_demo_keep_its_own(
    workbench: Callable[..., Any], configured: Callable[[str], None], trace: Path
) -> None:
    configured(LEADING)
    assert workbench("demo", "--offline", "--trace", str(trace), "--json").status == 0
    assert not (trace.parent / "elsewhere").exists()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WORKBENCH_DATASETS_MAKE_ACCESES", "WORKBENCH_DATASETS_MAKE_ACCESSES"),
        ("WORKBENCH_CATALOGUE", "WORKBENCH_CATALOG"),
        ("WORKBENCH_DATASETS_MAKE_FROBNICATE", ""),
    ],
)
def test_a_variable_that_nobody_reads_is_warned_of(
    workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "10")
    outcome = workbench("datasets", "make", "zipf")
    [line] = outcome.err.splitlines()
    assert (outcome.status, line.startswith(f"warning: {name} ")) == (0, True)
    assert meant in line


@pytest.mark.parametrize(
    "name",
    [
        "WORKBENCH_CATALOG",
        "WORKBENCH_USER",
        "WORKBENCH_REQUIRE",
        "WORKBENCH_PLAN_MAXSPLITS",
        "WORKBENCH_HOME",
    ],
)
def test_a_variable_of_another_command_or_program_is_none_of_our_business(
    workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "10")
    assert workbench("datasets", "make", "zipf").err == ""


def test_a_wrong_variable_is_named(
    workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_PLAN_MAX_SPLITS", "many")
    outcome = workbench("plan", "--json")
    assert outcome.error["code"] == "configuration_invalid"
    assert "WORKBENCH_PLAN_MAX_SPLITS" in outcome.error["message"]


def test_only_the_module_of_the_command_that_runs_is_imported(
    configured: Callable[[str], None], tmp_path: Path
) -> None:
    configured("[plan]\nmax_splits = 3\n\n[catalog.ls]\nprefix = 'a'\n")
    script = (
        "import sys\n"
        "from workbench.cli.main import main\n"
        "try:\n    main(['connectors', 'list'])\nexcept SystemExit as end:\n"
        "    assert end.code == 0\n"
        "print('workbench.cli.plan' in sys.modules, 'workbench.cli.catalog' in sys.modules)\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert outcome.stdout.endswith("False False\n")
