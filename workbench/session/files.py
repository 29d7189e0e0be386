"""Files that users name: read with clear errors, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import InvalidArgument, InvalidInput, NotFound, Storage
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_file(path: Path, *, bytes_max: int) -> bytes:
    """Return the content of a file of at most `bytes_max` bytes."""
    try:
        size = path.stat().st_size
        if size > bytes_max:
            raise InvalidInput(
                f"{path} has {counted(size, 'byte')}, the limit is {bytes_max}",
                code="file_too_large",
                hint="is this the right file?",
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no file {path}", code="file_absent", hint="check the name"
        ) from error
    except OSError as error:
        raise _storage(path, "read", error) from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    A symbolic link is followed; what is there and is no regular file is refused.

    Raises:
        InvalidArgument: `output_not_a_file`.
        Storage: `file_write_failed`.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write that takes the place of `path` at the end, whole or not at all.

    Raises:
        InvalidArgument: `output_not_a_file`.
        Storage: `file_write_failed`.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise InvalidArgument(
            f"{path} is there and is no regular file",
            code="output_not_a_file",
            hint="name a file; what has no file named goes to stdout",
        )
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            yield Path(name)
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _storage(path, "write", error) from error


def _storage(path: Path, verb: str, error: OSError) -> Storage:
    return Storage(
        f"cannot {verb} {path}: {error.strerror or error}",
        code=f"file_{verb}_failed",
        hint="check the folder, its permissions and the space left",
    )
