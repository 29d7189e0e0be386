"""The files of a cluster on this machine: which nodes it has, and who may change that now.

    DIR/cluster.json        which nodes there are
    DIR/cluster.lock        held while somebody starts, stops, adds or removes nodes
    DIR/node-1/node.toml    a node's configuration

Not here: processes, and what nodes say.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from workbench.errors import Conflict, Corruption, NotFound, Storage
from workbench.node.config import read_config
from workbench.node.directory import IDENTITY_FILE
from workbench.session.files import write_file
from workbench.session.node_process import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from workbench.node.config import NodeConfig

SCHEMA: Final = "workbench.local_cluster/1"
CLUSTER_FILE: Final = "cluster.json"
LOCK_FILE: Final = "cluster.lock"
CLUSTER_FILE_BYTES_MAX: Final = 2**20


def read(directory: Path) -> tuple[NodeConfig, ...]:
    """Return the configuration of each node of the cluster in a directory.

    Raises:
        NotFound: `cluster_absent`.
        Corruption: `cluster_file_corrupt`.
    """
    file = directory / CLUSTER_FILE
    try:
        with file.open("rb") as handle:
            text = handle.read(CLUSTER_FILE_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _absent(directory) from error
    except OSError as error:
        raise _refused(file, error) from error
    try:
        document: Any = json.loads(text)
        names = [(int(node["id"]), str(node["dir"])) for node in document["nodes"]]
        known = document["schema"] == SCHEMA
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise _damaged(file, f"{type(error).__name__}: {error}") from error
    if not known or [name for _, name in names] != [f"node-{node}" for node, _ in names]:
        raise _damaged(file, "its schema or its nodes are not as written")
    configs = _configs(directory, names)
    expected = [(node, document.get("cluster_id"), directory / name) for node, name in names]
    if not names or [(c.node, c.cluster_id, c.dir) for c in configs] != expected:
        raise _damaged(file, "the configurations of its nodes do not belong to it")
    return configs


def _configs(directory: Path, names: Sequence[tuple[int, str]]) -> tuple[NodeConfig, ...]:
    """Return the nodes' configurations; one that is gone follows from another node's.

    A node whose whole directory is gone has to be known still: else it could not be removed.
    """
    found = {
        node: read_config(file)
        for node, name in names
        if (file := config_file(directory / name)).exists()
    }
    if not found:
        raise _damaged(directory / CLUSTER_FILE, "none of its nodes has a configuration")
    like = next(iter(found.values()))
    addresses = {
        member.node: member.address for config in found.values() for member in config.members
    }
    for node, name in names:
        if node not in found and node in addresses:
            found[node] = replace(
                like,
                node=node,
                dir=directory / name,
                listen=addresses[node],
                metrics_listen=None,
                founded=any(config.founded for config in found.values()),
            )
    return tuple(found[node] for node, _ in names if node in found)


def write_list(directory: Path, configs: Sequence[NodeConfig]) -> None:
    """Write which nodes there are."""
    document = {
        "schema": SCHEMA,
        "cluster_id": configs[0].cluster_id,
        "nodes": [{"id": config.node, "dir": config.dir.name} for config in configs],
    }
    write_file(directory / CLUSTER_FILE, json.dumps(document, indent=2).encode() + b"\n")


def check_not_foreign(directory: Path) -> None:
    """Refuse a directory without cluster.json that holds more than an `up` could have left.

    Raises:
        Conflict: `directory_foreign`.
    """
    for entry in sorted(directory.iterdir()):
        begun = entry.name.startswith("node-") and not (entry / IDENTITY_FILE).exists()
        if entry.name != LOCK_FILE and not begun:
            raise Conflict(
                f"{directory} holds {entry.name!r} and no {CLUSTER_FILE}: it is no cluster's",
                code="directory_foreign",
                hint="name an empty directory or one that does not exist",
            )


@contextmanager
def exclusive(directory: Path, *, create: bool = False) -> Iterator[None]:
    """Keep others from starting, stopping or adding nodes of this cluster meanwhile.

    What it made itself is gone again where no cluster came of it.
    """
    made = [each for each in (directory, *directory.parents) if not each.exists()]
    if create:
        make_folder(directory)
    elif not (directory / CLUSTER_FILE).exists():
        raise _absent(directory)
    lock = directory / LOCK_FILE
    fresh = not lock.exists()
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(directory, error) from error
    try:
        _lock(handle, lock)
        try:
            yield
        except BaseException:
            # Gone while it is still ours: who waits for it finds that it is no more the file.
            if fresh and not any(each.name != LOCK_FILE for each in directory.iterdir()):
                lock.unlink()
                _remove_empty(made)
            raise
    finally:
        os.close(handle)


def _lock(handle: int, lock: Path) -> None:
    """Lock the open file, which must still be the one of that name; Conflict `cluster_busy`."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), lock.stat()):
            return
        cause: OSError | None = None
    except (BlockingIOError, FileNotFoundError) as error:
        cause = error
    raise Conflict(
        f"another `workbench cluster` starts or stops the nodes in {lock.parent}",
        code="cluster_busy",
        hint="wait until it has ended",
    ) from cause


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, innermost first, as far as they are empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may use; Storage `directory_refused`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, error) from error


def config_file(folder: Path) -> Path:
    """Return where a node's configuration lies."""
    return folder / CONFIG_FILE


def _absent(directory: Path) -> NotFound:
    return NotFound(
        f"there is no cluster in {directory}",
        code="cluster_absent",
        hint=f"start one with `workbench cluster up --dir {directory}`",
    )


def _damaged(file: Path, what: str) -> Corruption:
    return Corruption(
        f"{file} is damaged: {what}",
        code="cluster_file_corrupt",
        hint="restore it, or start each node with `workbench node start --config FILE`",
    )


def _refused(path: Path, error: OSError) -> Storage:
    return Storage(
        f"cannot use {path}: {error.strerror or error}",
        code="directory_refused",
        hint="check that you may write there, and the space left",
    )
