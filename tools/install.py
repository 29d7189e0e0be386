"""Bring `.venv` to the state that a lock file describes; do nothing when it is there already.

The stamp holds what was installed (lock and project metadata, by content, with the Python that
installed them). `dev.lock` contains `runtime.lock`, so a development environment also serves
whoever asks for the runtime.

Runs on the bare interpreter, before anything is installed: the standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

PYTHON_MIN = (3, 11)


def fingerprint(lock: Path) -> str:
    """Return the SHA-256 of everything an installation depends on."""
    digest = hashlib.sha256(repr((sys.version_info[:2], str(Path.cwd()))).encode())
    for path in (lock, Path("pyproject.toml")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_current(environment: Path, lock: Path) -> bool:
    """Tell whether the environment already holds this lock, or the larger one of developers."""
    locks = {lock, lock.with_name("dev.lock")}
    return any(
        (stamp := stamp_of(environment, each)).exists() and stamp.read_text() == fingerprint(each)
        for each in locks
    )


def stamp_of(environment: Path, lock: Path) -> Path:
    """Return where the fingerprint of an installed lock is kept."""
    return environment / f".installed-{lock.stem}"


def install(environment: Path, lock: Path) -> None:
    """Create the environment where it is missing, install the lock, then the project itself."""
    for old in environment.glob(".installed-*"):
        old.unlink()
    python = environment / "bin" / "python"
    if not python.exists():
        print(f"creating {environment}", file=sys.stderr)
        venv.create(environment, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    print(f"installing {lock} (hashes checked)", file=sys.stderr)
    subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--editable", "."], check=True)
    stamp_of(environment, lock).write_text(fingerprint(lock))


def main() -> int:
    """Parse the command line and install what is missing."""
    if sys.version_info < PYTHON_MIN:
        print(
            f"Python {sys.version.split()[0]} is too old: the workbench needs 3.11 or newer; "
            "name one with `make PYTHON=python3.12 …`",
            file=sys.stderr,
        )
        return 1
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--lock", type=Path, required=True)
    options = parser.parse_args()
    if is_current(options.venv, options.lock):
        return 0
    try:
        install(options.venv, options.lock)
    except subprocess.CalledProcessError as error:
        print(
            f"installation failed: {' '.join(error.cmd)} ended with {error.returncode}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
