"""Bring `.venv` to the state that a lock file describes; do nothing when it is there already.

The stamp holds what was installed (lock and project metadata, by content, with the Python that
installed them): editing lint settings installs nothing. `dev.lock` contains `runtime.lock`, and
`bench.lock` contains `dev.lock`, so the larger environment also serves whoever asks for less.

Runs on the bare interpreter, before anything is installed: the standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

# Each contains the ones before it.
LOCKS = ("runtime", "dev", "bench")


def fingerprint(lock: Path) -> str:
    """Return the SHA-256 of everything an installation depends on."""
    settings = tomllib.loads(Path("pyproject.toml").read_text())
    project = [settings[table] for table in ("build-system", "project")]
    identity = (sys.version_info[:2], str(Path.cwd()), project, settings["tool"]["hatch"])
    return hashlib.sha256(repr(identity).encode() + lock.read_bytes()).hexdigest()


def is_current(environment: Path, lock: Path) -> bool:
    """Tell whether the environment already holds this lock, or a larger one."""
    larger = [lock.with_name(f"{name}.lock") for name in LOCKS[LOCKS.index(lock.stem) :]]
    return any(holds(environment, each) for each in larger)


def holds(environment: Path, lock: Path) -> bool:
    """Tell whether the environment was installed from this lock as it is now."""
    stamp = stamp_of(environment, lock)
    return stamp.exists() and stamp.read_text() == fingerprint(lock)


def stamp_of(environment: Path, lock: Path) -> Path:
    """Return where the fingerprint of an installed lock is kept."""
    return environment / f".installed-{lock.stem}"


def install(environment: Path, lock: Path) -> None:
    """Install the lock, then the project itself.

    An environment that holds the runtime's lock is added to; any other is made anew, so that
    nothing is left over from an older lock.
    """
    python = environment / "bin" / "python"
    if not holds(environment, lock.with_name("runtime.lock")):
        print(f"creating {environment}", file=sys.stderr)
        venv.create(environment, with_pip=True, clear=True)
    for old in environment.glob(".installed-*"):
        old.unlink()
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    print(f"installing {lock} (hashes checked)", file=sys.stderr)
    subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--editable", "."], check=True)
    stamp_of(environment, lock).write_text(fingerprint(lock))


def main() -> int:
    """Parse the command line and install what is missing."""
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
