"""What happens to stdout and stderr: readers that go away, full disks, Ctrl-C, tables, help."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import click
import pytest

from workbench.cli import main as main_module
from workbench.cli.common import Fraction, Positive, print_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORKBENCH = [sys.executable, "-m", "workbench"]
MOMENT_SECONDS_MAX = 60
KEY = "tenant/" + "0123456789abcdef" * 12


@pytest.fixture
def collected(workbench: Callable[..., Any], trace: Path) -> Path:
    """A folder with a catalog in it."""
    assert workbench("collect", f"trace:{trace}", "--routes", "4").status == 0
    return trace.parent


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `workbench` is this workbench; a pipe fails as its worst part."""
    called = command.replace("workbench", " ".join(WORKBENCH))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", called],
        cwd=folder,
        # Unbuffered, the interpreter takes a write that was cut short for a whole one.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        check=False,
    )


def on_terminal(command: list[str], folder: Path, columns: int) -> str:
    """Run with stdout on a terminal of so many columns, and return what it shows."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, cwd=folder, stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other end closes with EIO
            while part := os.read(ours, 65_536):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


@pytest.mark.parametrize("group", [[], ["catalog"], ["datasets"], ["connectors"]])
def test_a_group_without_a_command_prints_its_help_as_it_is(
    workbench: Callable[..., Any], group: list[str]
) -> None:
    outcome = workbench(*group)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == workbench(*group, "--help").out
    assert outcome.err.count("\n") > 5


@pytest.mark.parametrize("group", [[], ["catalog"], ["datasets"], ["connectors"]])
def test_a_group_without_a_command_is_one_json_line_where_json_is_asked(
    workbench: Callable[..., Any], group: list[str]
) -> None:
    outcome = workbench(*group, "--json")
    assert (outcome.status, outcome.error["code"]) == (2, "usage")
    assert outcome.err.count("\n") == 1


# The reader is gone before the first byte: it has closed its end when the command starts.
LATE = "{ sh -c 'while [ ! -e gone ]; do :; done'; workbench %s; } | { exec 0<&-; touch gone; }"


@pytest.mark.parametrize("command", ["hot", "hot --json", "catalog ls", "plan --json", "--help"])
def test_a_reader_that_is_gone_before_the_first_byte_gives_141_and_no_message(
    collected: Path, command: str
) -> None:
    outcome = shell(LATE % command, collected)
    assert (outcome.returncode, outcome.stderr) == (141, "")


def test_a_reader_that_goes_in_the_middle_gives_141_and_no_message(collected: Path) -> None:
    # More than a pipe holds, so that the command still writes when the reader has gone.
    (collected / "long.py").write_text(
        "import click\n"
        "from workbench.cli import common, main\n"
        "rows = [['x' * 4_000_000]]\n"
        "click.Group.invoke = lambda *_: common.print_table('t', [('n', 'left')], rows)\n"
        "main.main(['hot'])\n"
    )
    outcome = shell(f"{sys.executable} long.py | head -1", collected)
    assert (outcome.returncode, outcome.stderr) == (141, "")
    assert outcome.stdout == "t\n"


@pytest.mark.parametrize("command", ["hot", "--help"])
@pytest.mark.parametrize("target", [">/dev/full", ">&-"])
def test_output_that_cannot_be_written_is_one_line_and_no_bug(
    collected: Path, command: str, target: str
) -> None:
    outcome = shell(f"workbench {command} {target}", collected)
    assert outcome.returncode == 1
    [line] = outcome.stderr.splitlines()
    assert line.startswith("workbench: the output could not be written: ")
    assert line.endswith("check where the output goes")


@pytest.mark.parametrize("target", [">/dev/full", ">&-"])
def test_output_that_cannot_be_written_has_its_code(collected: Path, target: str) -> None:
    outcome = shell(f"workbench plan --json {target}", collected)
    error = json.loads(outcome.stderr)["error"]
    assert (outcome.returncode, error["kind"], error["code"]) == (1, "storage", "output_failed")


@pytest.mark.parametrize("target", ["2>/dev/full", "2>&-"])
def test_where_stderr_takes_nothing_the_status_remains(collected: Path, target: str) -> None:
    assert shell(f"workbench explain 0000 split-1 {target}", collected).returncode == 1
    assert shell(f"workbench hot --json {target}", collected).returncode == 0


def failing(error: BaseException) -> Callable[..., None]:
    def run(*_: object) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (PermissionError(13, "Permission denied", "/srv/x"), "/srv/x: Permission denied"),
        (OSError(28, "No space left on device"), "workbench: No space left on device"),
        (OSError("odd"), "workbench: odd"),
    ],
)
def test_an_error_of_the_system_is_no_bug(
    workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: OSError, part: str
) -> None:
    monkeypatch.setattr(main_module, "_command_line", failing(error))
    outcome = workbench("hot")
    assert outcome.status == 1
    assert part in outcome.err
    found = workbench("hot", "--json").error
    assert (found["kind"], found["code"]) == ("storage", "system_refused")


def caused_by_interrupt() -> Exception:
    error = ImportError("core failed to import")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("Query interrupted"), caused_by_interrupt()]
)
def test_an_interruption_is_known_by_what_libraries_make_of_it(
    workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(main_module, "_command_line", failing(error))
    outcome = workbench("hot")
    assert (outcome.status, outcome.err) == (130, "workbench: interrupted\n")


def test_an_interruption_that_a_library_swallows_is_still_one(
    workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return 0

    monkeypatch.setattr(main_module, "_command_line", run)
    outcome = workbench("hot")
    assert (outcome.status, outcome.err) == (130, "workbench: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGTERM, "terminated"), (signal.SIGHUP, "the terminal was closed")]
)
def test_other_signals_end_a_command_by_the_same_way_out(
    workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    cleaned = []

    def run(*_: object) -> int:
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(number)
        return 0

    monkeypatch.setattr(main_module, "_command_line", run)
    outcome = workbench("hot")
    assert (outcome.status, outcome.err) == (128 + number, f"workbench: {said}\n")
    assert cleaned == [number]
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_the_caller_ignores_stays_ignored(
    workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> int:
        signal.raise_signal(signal.SIGHUP)
        return 7

    monkeypatch.setattr(main_module, "_command_line", run)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert workbench("hot").status == 7
    finally:
        signal.signal(signal.SIGHUP, before)


def mapped(process: subprocess.Popen[str], library: str) -> bool:
    with open(f"/proc/{process.pid}/maps", encoding="utf-8") as maps:  # noqa: PTH123 - no file
        return library in maps.read()


MOMENTS: dict[str, Callable[[subprocess.Popen[str], Path], bool]] = {
    "imports": lambda process, _: mapped(process, "libarrow"),
    "the catalog appears": lambda _, folder: (folder / "c").exists(),
    "data are written": lambda _, folder: any(folder.glob("c/data/**/*.parquet")),
    "the collection is recorded": lambda _, folder: any(folder.glob("c/_catalog/v1/log/*")),
    "the plan is recorded": lambda _, folder: len([*folder.glob("c/_catalog/v1/log/*")]) > 1,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_ends_a_demo_with_130_and_one_line(tmp_path: Path, moment: str) -> None:
    if moment == "imports" and not os.path.exists("/proc/self/maps"):  # noqa: PTH110 - no file
        pytest.skip("there is no /proc to see imports in")
    with subprocess.Popen(
        [*WORKBENCH, "demo", "--offline", "--catalog", "c"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until = time.monotonic() + MOMENT_SECONDS_MAX  # noqa: TID251 - bounds the polling
        while not MOMENTS[moment](process, tmp_path):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until  # noqa: TID251 - likewise
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=MOMENT_SECONDS_MAX)
    assert (process.returncode, complaints) == (130, "workbench: interrupted\n")


def test_a_table_in_a_pipe_is_as_wide_as_its_content(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "because " * 40
    print_table("T [x]", [("key", "left"), ("n", "right"), ("why", "left")], [[KEY, "1", reason]])
    title, _, _, _, row, *_ = capsys.readouterr().out.splitlines()
    assert title == "T [x]"
    assert row.split() == [KEY, "1", *reason.split()]


TABLE = (
    "from workbench.cli.common import print_table\n"
    "columns = [('key', 'left'), ('n', 'right'), ('why', 'left')]\n"
    f"print_table('T', columns, [[{KEY!r}, '1', 'because ' * 40], ['k', '2', 'so']])\n"
)


def test_on_a_narrow_terminal_keys_stay_whole_and_only_free_text_wraps(tmp_path: Path) -> None:
    shown = on_terminal([sys.executable, "-c", TABLE], tmp_path, columns=40)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert KEY in plain
    assert plain.count("because") == 40
    assert len([line for line in plain.splitlines() if "because" in line]) > 1
    assert plain != shown, "a terminal gets colours"


def test_a_terminal_is_taken_for_100_columns_at_least(tmp_path: Path) -> None:
    table = TABLE.replace(KEY, "short")
    shown = on_terminal([sys.executable, "-c", table], tmp_path, columns=40)
    widths = [len(line) for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()]
    assert 80 < max(widths) <= 100


def test_a_pipe_gets_no_colours(collected: Path) -> None:
    assert "\x1b" not in shell("workbench hot | cat", collected).stdout


@pytest.mark.parametrize("kind", [Fraction(), Positive()])
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "x"])
def test_a_number_that_is_none_is_refused(kind: click.ParamType[float], text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)


def test_numbers_in_range_are_taken() -> None:
    assert [Fraction().convert(text, None, None) for text in ("0", "0.5", "1")] == [0, 0.5, 1]
    assert Positive().convert("1e9", None, None) == 1e9
    with pytest.raises(click.BadParameter):
        Positive().convert("0", None, None)
