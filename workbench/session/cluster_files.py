"""The files of a cluster on this machine: which nodes it has, and who may change that now.

    DIR/cluster.json        which nodes there are
    DIR/cluster.lock        held while somebody starts, stops, adds or removes nodes
    DIR/node-1/node.toml    a node's configuration

Rules: a node whose configuration is gone or damaged is known still, by those of the others: else
it could be neither told of nor removed. Nothing but a removal writes to a damaged one's place.

Not here: processes, and what nodes say.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from workbench.errors import Conflict, Corruption, NotFound, Storage, WorkbenchError
from workbench.node.config import read_config
from workbench.node.directory import IDENTITY_FILE
from workbench.session.files import write_file
from workbench.session.node_process import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from workbench.node.config import NodeConfig

SCHEMA: Final = "workbench.local_cluster/1"
CLUSTER_FILE: Final = "cluster.json"
LOCK_FILE: Final = "cluster.lock"
CLUSTER_FILE_BYTES_MAX: Final = 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node lies, whatever its configuration says."""

    node: int
    dir: Path


@dataclass(frozen=True, slots=True)
class ClusterFiles:
    """The configurations of a cluster.

    Attributes:
        configs: Of every node; one that is gone or damaged follows from another node's.
        problems: By node, why its own cannot be used.
    """

    configs: tuple[NodeConfig, ...]
    problems: Mapping[int, WorkbenchError]


def read(directory: Path) -> tuple[NodeConfig, ...]:
    """Return the configuration of each node of the cluster in a directory.

    Raises:
        NotFound: `cluster_absent`.
        Corruption: `cluster_file_corrupt`.
        WorkbenchError: what `read_config` has against one of them.
    """
    found = look(directory)
    for problem in found.problems.values():
        raise problem
    return found.configs


def look(directory: Path) -> ClusterFiles:
    """Return the configurations of a cluster of which some may be damaged.

    Raises:
        NotFound: `cluster_absent`.
        Corruption: `cluster_file_corrupt`: also where none of them can be used.
    """
    cluster_id, listed = _listed(directory)
    return _configs(directory, cluster_id, listed)


def places(directory: Path) -> tuple[Place, ...]:
    """Return where the nodes of a cluster lie; raises as `look`, but for configurations."""
    return _listed(directory)[1]


def _listed(directory: Path) -> tuple[str, tuple[Place, ...]]:
    """Return the id of a cluster and its nodes, as its cluster.json has them."""
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
        cluster_id, known = document.get("cluster_id"), document["schema"] == SCHEMA
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise _damaged(file, f"{type(error).__name__}: {error}") from error
    named = [name for _, name in names] == [f"node-{node}" for node, _ in names]
    if not known or not names or not named or not isinstance(cluster_id, str):
        raise _damaged(file, "its schema or its nodes are not as written")
    return cluster_id, tuple(Place(node, directory / name) for node, name in names)


def _configs(directory: Path, cluster_id: str, listed: Sequence[Place]) -> ClusterFiles:
    """Return the nodes' configurations; one that is gone or damaged follows from another node's."""
    found: dict[int, NodeConfig] = {}
    problems: dict[int, WorkbenchError] = {}
    for place in listed:
        file = config_file(place.dir)
        if not file.exists():
            continue
        try:
            config = read_config(file)
        except WorkbenchError as error:
            problems[place.node] = error
            continue
        if (config.node, config.cluster_id, config.dir) == (place.node, cluster_id, place.dir):
            found[place.node] = config
        else:
            problems[place.node] = _damaged(file, f"it is not of node {place.node} of this cluster")
    if not found:
        whys = [problem.message for problem in problems.values()]
        why = whys[0] if whys else "none of its nodes has a configuration"
        raise _damaged(directory / CLUSTER_FILE, why)
    like = next(iter(found.values()))
    founded = any(config.founded for config in found.values())
    addresses = {
        member.node: member.address for config in found.values() for member in config.members
    }
    for place in listed:
        if place.node in found:
            continue
        if place.node not in addresses:
            raise _damaged(directory / CLUSTER_FILE, f"no configuration knows of node {place.node}")
        found[place.node] = replace(
            like,
            node=place.node,
            dir=place.dir,
            listen=addresses[place.node],
            metrics_listen=None,
            founded=founded,
        )
    return ClusterFiles(tuple(found[place.node] for place in listed), problems)


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
