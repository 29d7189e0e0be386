"""Processes of bundled nodes: started, watched for an early end, stopped, each by its directory.

    NodeProcess.start ──▶ python -m workbench.node --config DIR/node.toml   in its own session
                                     │ stdout, stderr
                                     ▼
                               DIR/node.log                 stop ──SIGTERM──▶ holder of DIR/LOCK
                                                                 ──SIGKILL──▶ 10 s later

Rules: a process that we started is our child, so that its pid is its own until we have seen it
end. Any other is signalled only while it holds the lock of the node's directory.

Not here: whether a node serves, and which nodes a cluster has.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from workbench.errors import Conflict, InvalidArgument, Storage, Unavailable
from workbench.node.directory import holder_of
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from workbench.node.config import NodeConfig

HOST: Final = "127.0.0.1"
CONFIG_FILE: Final = "node.toml"
OUTPUT_FILE: Final = "node.log"
STOP_SECONDS_MAX: Final = 10.0
KILL_SECONDS_MAX: Final = 5.0
POLL_SECONDS: Final = 0.05
OUTPUT_TAIL_BYTES: Final = 64 * 2**10
# What a node wrote stays until a start finds more than this; then the newest part of it does.
OUTPUT_BYTES_MAX: Final = 8 * 2**20
OUTPUT_KEPT_BYTES: Final = 4 * 2**20


class Placed(Protocol):
    """A node that has a directory: a configuration, or only its place."""

    @property
    def node(self) -> int:
        """Its id."""

    @property
    def dir(self) -> Path:
        """Where its files lie."""


@dataclass(frozen=True, slots=True)
class StoppedNode:
    """A node that `down` found running; `killed` where it did not stop when asked to."""

    node: int
    pid: int
    killed: bool


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """A node that we started: our child.

    Attributes:
        config: Its configuration.
        pid: Of the process.
        output_from: Where in OUTPUT_FILE its own lines begin.
    """

    config: NodeConfig
    pid: int
    output_from: int

    @classmethod
    def start(cls, config: NodeConfig) -> NodeProcess:
        """Start a node in a session of its own, so that it outlives this one."""
        log = config.dir / OUTPUT_FILE
        _cut(log)
        begin = log.stat().st_size if log.exists() else 0
        # -P: the folder in which the user stands is no place to import modules from.
        arguments = ["-P", "-m", "workbench.node", "--config", str(config.dir / CONFIG_FILE)]
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, *arguments],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            raise Storage(
                f"cannot start node {config.node}: {error.strerror or error}",
                code="node_start_refused",
                hint=f"check {sys.executable} and {log}",
            ) from error
        return cls(config, pid, begin)

    def has_ended(self) -> bool:
        """Tell whether the process is gone."""
        return _has_ended(self.pid)

    def last_line(self) -> str:
        """Return the last line that it wrote, as one line of printable text."""
        return last_line(self.config, self.output_from) or "it wrote nothing"


def _cut(log: Path) -> None:
    """Let go of the older part of an output that has grown too long, from the start of a line."""
    try:
        if not log.exists() or log.stat().st_size <= OUTPUT_BYTES_MAX:
            return
        with log.open("r+b") as file:
            file.seek(-OUTPUT_KEPT_BYTES, os.SEEK_END)
            newest = file.read().partition(b"\n")[2]
            file.seek(0)
            file.write(newest)
            file.truncate()
    except OSError:
        return  # who starts the node says what is wrong with the file


def last_line(config: NodeConfig, begin: int = 0) -> str | None:
    """Return the last line of a node's output from `begin` on, as printable text; None for none."""
    try:
        with (config.dir / OUTPUT_FILE).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begin, size - OUTPUT_TAIL_BYTES))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line]
    except OSError:
        return None
    if not lines:
        return None
    text = lines[-1].removeprefix("error: ")
    return "".join(char if char.isprintable() else " " for char in text)


def stop_started(processes: Sequence[NodeProcess]) -> None:
    """Stop processes of our own, gently first."""
    for number, seconds in (
        (signal.SIGTERM, STOP_SECONDS_MAX),
        (signal.SIGKILL, KILL_SECONDS_MAX),
    ):
        living = [process for process in processes if not process.has_ended()]
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
        _until(partial(_have_ended, living), seconds)
        processes = living


def stop(nodes: Sequence[Placed]) -> tuple[StoppedNode, ...]:
    """Stop whoever holds the nodes' directories, and return them.

    Raises:
        Unavailable: `node_not_stopped`.
    """
    asked = {each: pid for each in nodes if (pid := _holder(each)) is not None}
    for pid in asked.values():
        _signal(pid, signal.SIGTERM)
    _until(lambda: all(_is_free(each) for each in asked), STOP_SECONDS_MAX)
    killed = {each for each in asked if not _is_free(each)}
    for each in killed:
        if (pid := _holder(each)) is not None:
            _signal(pid, signal.SIGKILL)
    if not _until(lambda: all(_is_free(each) for each in killed), KILL_SECONDS_MAX):
        left = next(each for each in killed if not _is_free(each))
        raise Unavailable(
            f"node {left.node} in {left.dir} could not be stopped",
            code="node_not_stopped",
            hint="its process hangs in the kernel: check the disk",
        )
    # Children of ours would stay zombies; the lock goes a moment before the process does.
    _until(lambda: all(_has_ended(pid) for pid in asked.values()), KILL_SECONDS_MAX)
    return tuple(StoppedNode(each.node, pid, each in killed) for each, pid in asked.items())


def _holder(node: Placed) -> int | None:
    """Return the pid of who has the directory; wait for one that has not written it yet."""
    found = holder_of(node.dir)
    deadline = time.monotonic() + KILL_SECONDS_MAX
    while found == 0 and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        found = holder_of(node.dir)
    if found == 0:
        raise Unavailable(
            f"a process has {node.dir} and does not say which",
            code="node_not_stopped",
            hint=f"find it with `fuser {node.dir}/LOCK`",
        )
    return found


def _is_free(node: Placed) -> bool:
    return holder_of(node.dir) is None


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise Unavailable(
            f"process {pid} belongs to another user",
            code="node_not_stopped",
            hint="stop it as that user",
        ) from error


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until `condition` holds; tell whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _have_ended(processes: Sequence[NodeProcess]) -> bool:
    return all(process.has_ended() for process in processes)


def _has_ended(pid: int) -> bool:
    """Tell whether a child of ours has ended; one that is not, or no more, counts as ended."""
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True


def choose_ports(nodes: int, base_port: int | None) -> list[int]:
    """Return a port per node: from `base_port` on, else such as are free now.

    Raises:
        InvalidArgument: `port_out_of_range`.
    """
    if base_port is not None:
        if not 1 <= base_port <= 65_536 - nodes:
            raise InvalidArgument(
                f"{counted(nodes, 'node')} cannot listen from port {base_port} on",
                code="port_out_of_range",
                hint=f"choose a port from 1 to {65_536 - nodes}",
            )
        return list(range(base_port, base_port + nodes))
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(nodes)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def check_port_free(config: NodeConfig, *, option: str | None = None) -> None:
    """Check that nobody listens where the node is to; `option` is how another port is asked for.

    Raises:
        Conflict: `port_in_use`.
    """
    for address in (config.listen, config.metrics_listen):
        if address is not None:
            _check_free(config.node, address, option)


def _check_free(node: int, address: str, option: str | None) -> None:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: what an ended process left in TIME_WAIT keeps no one out.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
            choice = "" if option is None else f", or choose another with {option}"
            raise Conflict(
                f"node {node} cannot listen on {address}: {error.strerror}",
                code="port_in_use",
                hint=f"stop what listens on that port{choice}",
            ) from error
