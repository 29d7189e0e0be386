"""Claims about standard output while a compiled solver runs."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from threading import Thread

import pytest

from workbench.session.quiet import without_solver_lines

NOISE = b"HighsMipSolverData::transformNewIntegerFeasibleSolution tmpSolver.run();\n"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_solvers_lines_are_dropped_and_all_others_are_kept(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with without_solver_lines():
        os.write(1, NOISE + b"another thread\n")
        ctypes.CDLL(None).printf(NOISE)  # held back by the C library until it is flushed
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "another thread\nafter\n"


def test_standard_output_is_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with without_solver_lines():
            os.write(1, NOISE)
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"


def test_threads_at_once_lose_nothing_and_leave_no_descriptor(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        for _ in range(20):
            with without_solver_lines():
                os.write(1, NOISE + b"x\n")

    open_before = descriptors()
    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr().out == "x\n" * 80
    assert descriptors() == open_before
