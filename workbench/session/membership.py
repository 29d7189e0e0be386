"""Nodes that join and leave a cluster on this machine, and leaders that change, while it serves.

    add_node:     configure ▸ start ▸ tell the others ▸ learner of each group, caught up
                  ▸ founded ▸ voter of each group
    remove_node:  hand over what it leads ▸ member of no group ▸ stop ▸ forget

Rules: node ids are never used again. Every step looks first whether it was done, so that a run
that was killed is gone on with by the same command. A group changes by one voter at a time, and
only by what its own log agrees on; the configuration files tell a node where the others are, and
which groups to keep. A node is removed only where every group keeps a majority without it that
runs now. A node that has a vote is `founded`: it never starts again from an empty directory.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from workbench.errors import (
    Conflict,
    InvalidArgument,
    InvalidInput,
    NotFound,
    Unavailable,
    WorkbenchError,
)
from workbench.model.node import Member
from workbench.node.admin_client import AdminClient
from workbench.node.config import write_config
from workbench.node.directory import holder_of
from workbench.ports.entries import Configuration
from workbench.session import cluster_files as cluster
from workbench.session.node_process import (
    HOST,
    NodeProcess,
    StoppedNode,
    check_port_free,
    choose_ports,
    stop,
    stop_started,
)
from workbench.session.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from workbench.node.config import NodeConfig

CALL_S: Final = 5.0
ANSWER_S: Final = 2.0
STEP_SECONDS_MAX: Final = 60.0
CATCH_UP_SECONDS_MAX: Final = 600.0
PAUSE_S: Final = 0.1
# A learner this close behind its leader has caught up: the rest is on its way.
BEHIND_ENTRIES_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Added:
    """A node that joined: its id, its addresses, and the groups that it votes in now."""

    node: int
    address: str
    metrics_address: str | None
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """A node that left.

    Attributes:
        node: Its id.
        groups: That it voted in.
        stopped: Its process; None where it did not run.
    """

    node: int
    groups: tuple[int, ...]
    stopped: StoppedNode | None


def add_node(directory: Path, *, port: int | None = None, progress: Progress = silent) -> Added:
    """Start another node, and return once it votes in every group of the cluster.

    Raises:
        NotFound: `cluster_absent`.
        Conflict: `cluster_busy`, `port_in_use`.
        InvalidInput: the configuration of one of its nodes is damaged.
        Unavailable: a group has no leader; `node_start_failed`, `catch_up_timed_out`. The same
            command goes on where it was.
    """
    directory = directory.resolve()
    with cluster.exclusive(directory):
        files = cluster.look(directory)
        for node, problem in files.problems.items():  # its file would be written anew
            raise _hinted(problem, node, files.problems)
        configs = files.configs
        joining = _begun(configs)
        if joining is None:
            configs, joining = _write_joining(directory, configs, port)
        others = [each for each in configs if each.node != joining.node]
        started = None
        if holder_of(joining.dir) is None:
            check_port_free(joining)
            started = NodeProcess.start(joining)
        try:
            _await_answer(joining, started)
            with AdminClient([each.listen for each in others], timeout_s=CALL_S) as client:
                _tell(client, others, joining.node, joining.listen)
                for done, group in enumerate(joining.joins):
                    progress("learning groups", done, len(joining.joins))
                    _learn(client, joining, group)
                joining = replace(joining, founded=True)
                write_config(cluster.config_file(joining.dir), joining)
                for done, group in enumerate(joining.joins):
                    progress("joining groups", done, len(joining.joins))
                    _vote(client, joining, group)
        except BaseException:
            if started is not None and not _votes_anywhere(others, joining):
                stop_started([started])
            raise
        progress("joining groups", len(joining.joins), len(joining.joins))
        return Added(joining.node, joining.listen, joining.metrics_listen, joining.joins)


def remove_node(directory: Path, node: int, *, progress: Progress = silent) -> Removed:
    """Take a node out of every group, stop it, and forget it; its files stay.

    Raises:
        NotFound: `cluster_absent`, `node_absent`.
        InvalidArgument: `node_last`: it is the only one that keeps a group.
        Conflict: `cluster_busy`; `majority_lost`: too few of a group's other voters run.
        InvalidInput: the configuration of one that stays is damaged.
        Unavailable: a group has no leader. The same command goes on where it was.
    """
    directory = directory.resolve()
    with cluster.exclusive(directory):
        files = cluster.look(directory)
        configs = files.configs
        leaving = next((each for each in configs if each.node == node), None)
        if leaving is None:
            raise _node_absent(node, configs)
        others = [each for each in configs if each.node != node]
        if not others:
            raise InvalidArgument(
                f"node {node} is the only one of the cluster",
                code="node_last",
                hint="`workbench cluster down` stops it",
            )
        for other, problem in files.problems.items():
            if other != node:  # its file would be written anew, from what others say of it
                raise _hinted(problem, other, files.problems)
        running = {each.node for each in others if _answers(each)}
        with AdminClient([each.listen for each in others], timeout_s=CALL_S) as client:
            for done, group in enumerate(leaving.groups):
                progress("leaving groups", done, len(leaving.groups))
                _leave(client, leaving, group, running)
            progress("leaving groups", len(leaving.groups), len(leaving.groups))
            stopped = stop([leaving])
            _tell(client, others, node, None)
        _forget(directory, others, node)
        return Removed(node, leaving.groups, stopped[0] if stopped else None)


def transfer_leader(directory: Path, group: int, node: int) -> None:
    """Have another voter lead a group; returns once it does.

    Raises:
        NotFound: `cluster_absent`, `node_absent`, `group_absent`.
        InvalidInput: `transfer_target_invalid`.
        Unavailable: `transfer_timed_out`, or the group has no leader.
    """
    configs = cluster.look(directory.resolve()).configs
    if node not in {each.node for each in configs}:
        raise _node_absent(node, configs)
    with AdminClient([each.listen for each in configs], timeout_s=CALL_S) as client:
        client.transfer_leader(group, node)


def _begun(configs: Sequence[NodeConfig]) -> NodeConfig | None:
    """Return the node that an earlier command began to add, None for none."""
    for each in configs:
        if each.joins and not each.founded:
            return each
        others = [other.listen for other in configs if other.node != each.node]
        if each.joins and each.node == configs[-1].node:
            with AdminClient(others, timeout_s=CALL_S) as client:
                learns = [g for g in each.joins if each.node in client.group_members(g).learners]
            if learns:
                return each
    return None


def _tell(
    client: AdminClient, others: Sequence[NodeConfig], node: int, address: str | None
) -> None:
    """Tell nodes where another one is; those that are down will read it in their configuration."""
    for each in others:
        try:
            client.set_peer(node, address, at=each.listen)
        except Unavailable:
            if holder_of(each.dir) is not None:
                raise


def _answers(config: NodeConfig) -> bool:
    """Tell whether a node answers."""
    try:
        with AdminClient([config.listen], timeout_s=ANSWER_S) as client:
            return client.status().node == config.node
    except WorkbenchError:
        return False


def _write_joining(
    directory: Path, configs: Sequence[NodeConfig], port: int | None
) -> tuple[tuple[NodeConfig, ...], NodeConfig]:
    """Write the configuration of a new node, and tell those of the others of it."""
    first = configs[0]
    # All of them, since an earlier command may have been killed between two of these files.
    known = {member.node: member for config in configs for member in config.members}
    number = max(known) + 1
    groups = tuple(sorted({group for member in first.members for group in member.groups}))
    taken, metrics = choose_ports(2, None)
    member = Member(number, f"{HOST}:{taken if port is None else port}", (), groups)
    members = (*first.members, member)
    joining = replace(
        first,
        node=number,
        dir=directory / f"node-{number}",
        listen=member.address,
        members=members,
        metrics_listen=f"{HOST}:{metrics}",
        founded=False,
    )
    check_port_free(joining, option="--port")
    joining.dir.mkdir(mode=0o700, exist_ok=True)
    changed = [*(replace(each, members=members) for each in configs), joining]
    for each in reversed(changed):
        write_config(cluster.config_file(each.dir), each)
    cluster.write_list(directory, changed)
    return tuple(changed), joining


def _learn(client: AdminClient, joining: NodeConfig, group: int) -> None:
    """Make a node a learner of a group, and return once it has caught up."""

    def learn() -> bool:
        now = client.group_members(group)
        if joining.node not in now.members:
            client.change_members(group, Configuration(now.voters, now.learners | {joining.node}))
        return True

    def caught_up() -> bool:
        own = client.status(joining.listen)
        here = next(each for each in own.groups if each.group == group)
        leader = next(m.address for m in own.members if m.node == here.leader_node)
        there = next(each for each in client.status(leader).groups if each.group == group)
        return here.applied_index + BEHIND_ENTRIES_MAX >= there.commit_index

    _until(
        learn, f"node {joining.node} does not become a learner of group {group}", STEP_SECONDS_MAX
    )
    _until(
        caught_up, f"node {joining.node} does not catch up in group {group}", CATCH_UP_SECONDS_MAX
    )


def _vote(client: AdminClient, joining: NodeConfig, group: int) -> None:
    """Make a learner a voter of a group."""

    def vote() -> bool:
        now = client.group_members(group)
        if joining.node not in now.voters:
            rest = now.learners - {joining.node}
            client.change_members(group, Configuration(now.voters | {joining.node}, rest))
        return True

    _until(vote, f"node {joining.node} does not become a voter of group {group}", STEP_SECONDS_MAX)


def _leave(client: AdminClient, leaving: NodeConfig, group: int, running: AbstractSet[int]) -> None:
    """Make a node no member of a group; what it leads it hands over first."""

    def gone() -> bool:
        now = client.group_members(group)
        if leaving.node not in now.members:
            return True
        voters = now.voters - {leaving.node}
        if not voters:
            raise InvalidArgument(
                f"node {leaving.node} is the only one that keeps group {group}",
                code="node_last",
                hint="add another node first: `workbench cluster add-node`",
            )
        if leaving.node in now.voters and 2 * len(voters & running) <= len(voters):
            away = ", ".join(map(str, sorted(voters - running)))
            raise Conflict(
                f"without node {leaving.node}, group {group} would have the voters "
                f"{sorted(voters)} and no majority: {away} does not answer",
                code="majority_lost",
                hint="`workbench cluster up` starts it; or remove that one first",
            )
        leads = any(
            status.group == group and status.leader_node == leaving.node
            for status in client.status().groups
        )
        if leads:
            with contextlib.suppress(WorkbenchError):  # it may be gone: then it leads no longer
                client.transfer_leader(group, min(voters & running))
        client.change_members(group, Configuration(voters, now.learners - {leaving.node}))
        return True

    _until(gone, f"node {leaving.node} does not leave group {group}", STEP_SECONDS_MAX)


def _until(step: Callable[[], bool], what: str, seconds: float) -> None:
    """Take a step, again and again while it is not time yet.

    Raises:
        Unavailable: `membership_timed_out`, with what the last try met.
    """
    deadline = time.monotonic() + seconds
    while True:
        met: Exception | None = None
        try:
            if step():
                return
        except (Unavailable, StopIteration) as error:
            met = error
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{what} within {seconds:g} s{f': {met}' if met else ''}",
                code="membership_timed_out",
                hint="run the same command again: it goes on where it was",
            ) from met
        time.sleep(PAUSE_S)


def _await_answer(joining: NodeConfig, started: NodeProcess | None) -> None:
    """Wait until the new node can be asked."""

    def answers() -> bool:
        if started is not None and started.has_ended():
            raise InvalidInput(
                f"node {joining.node} did not start: {started.last_line()}",
                code="node_start_failed",
                hint=f"see {joining.dir / 'node.log'}",
            )
        with AdminClient([joining.listen], timeout_s=1.0) as client:
            return client.status().node == joining.node

    _until(answers, f"node {joining.node} does not answer", STEP_SECONDS_MAX)


def _votes_anywhere(others: Sequence[NodeConfig], joining: NodeConfig) -> bool:
    """Tell whether a group counts on the node already, or nobody can say."""
    try:
        with AdminClient([each.listen for each in others], timeout_s=CALL_S) as client:
            return any(
                joining.node in client.group_members(group).members for group in joining.joins
            )
    except WorkbenchError:
        return True


def _forget(directory: Path, others: Sequence[NodeConfig], node: int) -> None:
    """Note in every configuration that a node is gone; what it founded stays on the list."""
    for each in others:
        members = tuple(
            replace(member, removed=True) if member.node == node else member
            for member in each.members
        )
        write_config(cluster.config_file(each.dir), replace(each, members=members))
    cluster.write_list(directory, others)


def _hinted(
    problem: WorkbenchError, node: int, problems: Mapping[int, WorkbenchError]
) -> WorkbenchError:
    """Say with a damaged configuration what to do about its node first."""
    problem.hint = f"restore it, or `workbench cluster remove-node {node}` first; see docs/nodes.md"
    if len(problems) > 1:  # each of these would keep the other from being taken out
        problem.hint = "restore all but one of the damaged configurations; see docs/nodes.md"
    return problem


def _node_absent(node: int, configs: Sequence[NodeConfig]) -> NotFound:
    return NotFound(
        f"the cluster has no node {node}",
        code="node_absent",
        hint=f"it has {', '.join(str(each.node) for each in configs)}",
    )
