"""A node's directory: whose it is, and who has it open.

    DIR/NODE.json    {"format": "workbench.node/1", "cluster_id": "…", "node": 1}
    DIR/LOCK         held with flock while a process uses the directory; holds its pid
    DIR/log/         node.log       DIR/engine/   node.engine   DIR/snapshots/   node.sst_snapshots

Rules: the lock comes first, before anything is read or written. NODE.json is written once and
never changed. A lock goes with its process, however that ends; the pid in the file is only a
name for it, cleared at once by the next who gets the lock, and believed only where the lock is
held and two looks agree.

Not here: what lies in the three folders.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from workbench.errors import Conflict, Corruption, InvalidInput, Storage
from workbench.model.recovery import DAMAGED_NODE_HINT

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

FORMAT: Final = "workbench.node/1"
IDENTITY_FILE: Final = "NODE.json"
LOCK_FILE: Final = "LOCK"
# What another program may put into the directory: what `cluster up` keeps beside a node's data.
ALLOWED_BESIDE: Final = frozenset({LOCK_FILE, "node.log", "node.toml", f"{IDENTITY_FILE}.tmp"})
IDENTITY_BYTES_MAX: Final = 4096
# Whoever looks who has a directory holds its lock for a moment: a node that starts asks again.
LOCK_ATTEMPTS: Final = 10
LOCK_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose directory it is: `cluster_id` is a UUID as text, `node` counts from 1."""

    cluster_id: str
    node: int


class NodeDirectory:
    """A node's directory, locked for this process until `close`. Made by `open`.

    Attributes:
        path: The directory.
        identity: Whose it is.
        created: Whether it was empty and got its identity now.
    """

    def __init__(self, path: Path, identity: Identity, lock: int, *, created: bool) -> None:
        self.path = path
        self.identity = identity
        self.created = created
        self._lock = lock

    @classmethod
    def open(cls, path: Path, identity: Identity) -> NodeDirectory:
        """Lock the directory for this process; make it where it does not exist.

        Raises:
            Conflict: `directory_in_use` with the pid of who has it; `directory_of_another`;
                `directory_foreign`: there are files in it, and none says that it is a node's.
            InvalidInput: `directory_format_unknown`.
            Corruption: `directory_corrupt`.
            Storage: `directory_refused`, `disk_full`.
        """
        try:
            return cls._open(path, identity)
        except OSError as error:
            raise _refused(path, error) from error

    @classmethod
    def _open(cls, path: Path, identity: Identity) -> NodeDirectory:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (path / IDENTITY_FILE).exists():
            _check_not_foreign(path)
        lock = _take_lock(path)
        try:
            created = not (path / IDENTITY_FILE).exists()
            if created:
                _check_not_foreign(path)
                _write_identity(path, identity)
            else:
                _check_identity(path, identity)
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, identity, lock, created=created)

    @property
    def log(self) -> Path:
        """Where the log lies."""
        return self.path / "log"

    @property
    def snapshots(self) -> Path:
        """Where raft_snapshots that come in lie until they are installed."""
        return self.path / "snapshots"

    @property
    def engine(self) -> Path:
        """Where the engine lies."""
        return self.path / "engine"

    def close(self) -> None:
        """Let another process have the directory."""
        if self._lock >= 0:
            with suppress(OSError):
                os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def holder_of(path: Path) -> int | None:
    """Return the pid of the live process that has the directory, None where nobody has it.

    It is 0 where a process has it and has not written its pid yet: ask again.

    Raises:
        Storage: `directory_refused`.
    """
    try:
        first = _look(path)
        if first is None:
            return None
        # A process that was killed leaves its pid behind, and the next holder clears it just
        # after it got the lock. A look that falls in between must not name the dead one's pid:
        # it may be another's by now.
        time.sleep(LOCK_PAUSE_S)
        second = _look(path)
    except OSError as error:
        raise _refused(path, error) from error
    return second if second is None or first == second else 0


def _look(path: Path) -> int | None:
    """Try the lock; return what its holder wrote, None where there is none."""
    try:
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(lock)
    else:
        return None
    finally:
        os.close(lock)


def read_identity(path: Path) -> Identity | None:
    """Return whose directory it is, None where nothing says so.

    Raises:
        InvalidInput: `directory_format_unknown`.
        Corruption: `directory_corrupt`.
    """
    file = path / IDENTITY_FILE
    try:
        with file.open("rb") as handle:
            text = handle.read(IDENTITY_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _refused(path, error) from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _corrupt(file, "it is not JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("format"), str):
        raise _corrupt(file, "it has no format")
    if document["format"] != FORMAT:
        raise InvalidInput(
            f"{path} has the format {document['format']!r}, this workbench reads {FORMAT!r}",
            code="directory_format_unknown",
            hint="use the version of the workbench that wrote it, or another directory",
        )
    cluster_id, node = document.get("cluster_id"), document.get("node")
    if not isinstance(cluster_id, str) or type(node) is not int or node < 1:
        raise _corrupt(file, "cluster_id or node is missing or of a wrong type")
    return Identity(cluster_id, node)


def _check_identity(path: Path, identity: Identity) -> None:
    found = read_identity(path)
    if found != identity:
        assert found is not None
        raise Conflict(
            f"{path} belongs to node {found.node} of cluster {found.cluster_id}, not to node "
            f"{identity.node} of cluster {identity.cluster_id}",
            code="directory_of_another",
            hint="name this node's own directory, or an empty one",
        )


def _check_not_foreign(path: Path) -> None:
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in ALLOWED_BESIDE)
    if foreign:
        raise Conflict(
            f"{path} holds {foreign[0]!r} and no {IDENTITY_FILE}: it is not a node's directory",
            code="directory_foreign",
            hint="name an empty directory or one that does not exist",
        )


def _write_identity(path: Path, identity: Identity) -> None:
    """Write NODE.json, durable before it gets its name."""
    document = {"format": FORMAT, "cluster_id": identity.cluster_id, "node": identity.node}
    temporary = path / f"{IDENTITY_FILE}.tmp"
    with temporary.open("w") as file:
        file.write(json.dumps(document) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path / IDENTITY_FILE)
    for folder in (path, path.parent):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _take_lock(path: Path) -> int:
    """Return the handle of the locked file, cleared of an earlier holder's pid."""
    lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)
        except OSError:
            os.close(lock)
            raise
        else:
            return lock
    pid = _pid_in(lock)
    os.close(lock)
    raise Conflict(
        f"{path} is in use by process {pid or 'unknown'}",
        code="directory_in_use",
        hint="stop that process, or name another directory",
    )


def _pid_in(lock: int) -> int:
    """Return the pid that the holder wrote, 0 where it has not yet."""
    text = os.pread(lock, 32, 0)
    return int(text) if re.fullmatch(rb"[1-9][0-9]{0,9}\n", text) else 0


def _corrupt(file: Path, what: str) -> Corruption:
    return Corruption(
        f"{file} is damaged: {what}",
        code="directory_corrupt",
        hint=DAMAGED_NODE_HINT,
    )


def _refused(path: Path, error: OSError) -> Storage:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Storage(
            f"no space left for the node's directory {path}",
            code="disk_full",
            hint="free some space and start the node again",
        )
    return Storage(
        f"cannot use the node's directory {path}: {error.strerror or error}",
        code="directory_refused",
        hint="check that it is a directory that you may write to",
    )
