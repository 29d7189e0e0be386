"""Nodes join, leave and change leaders while clients write; interrupted, the same call goes on."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from process.node_process import until
from process.writers import Writers

from workbench.errors import Conflict, InvalidArgument, InvalidInput, NotFound, Unavailable
from workbench.node.admin_client import AdminClient
from workbench.node.config import read_config
from workbench.node.directory import holder_of
from workbench.session import membership
from workbench.session.local_cluster import down, running, status, up
from workbench.session.membership import add_node, remove_node, transfer_leader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workbench.session.local_cluster import ClusterStatus

GROUPS = (1, 2)
PREFIXES = (b"\x10", b"\xd0")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a test's cluster lies; whatever it left running is stopped."""
    path = tmp_path / "cluster"
    yield path
    for node in sorted(path.glob("node-*")):
        if pid := holder_of(node):
            kill(pid)


def kill(pid: int | None) -> None:
    assert pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def writers_of(cluster: ClusterStatus) -> Writers:
    return Writers(cluster.addresses, prefixes=PREFIXES)


def await_writes(writers: Writers, more: int) -> None:
    before = writers.told.writes
    until(lambda: writers.told.writes >= before + more, f"{more} writes", deadline_s=60.0)


def voters(found: ClusterStatus) -> list[list[int]]:
    with AdminClient(found.addresses) as client:
        return [sorted(client.group_members(group).voters) for group in GROUPS]


def check_sound(writers: Writers) -> None:
    assert writers.told.writes > 0
    assert writers.told.reads > 0
    assert writers.told.stale == []
    assert writers.check() == []


def test_a_node_joins_and_another_leaves_while_clients_write(folder: Path) -> None:
    cluster = up(folder, groups=2)
    with writers_of(cluster) as writers:
        await_writes(writers, 50)
        added = add_node(folder)
        assert (added.node, added.groups) == (4, GROUPS)
        assert voters(cluster) == [[1, 2, 3, 4]] * 2
        await_writes(writers, 50)
        removed = remove_node(folder, 1)
        assert (removed.node, removed.groups) == (1, GROUPS)
        assert removed.stopped is not None
        assert not removed.stopped.killed
        await_writes(writers, 50)
    found = status(folder)
    assert found.up
    assert [node.node for node in found.nodes] == [2, 3, 4]
    assert voters(found) == [[2, 3, 4]] * 2
    writers._addresses = list(found.addresses)
    check_sound(writers)
    # The files say the same: what was removed stays away, and the rest comes back.
    down(folder)
    with running(folder) as again:
        assert again.up
        assert voters(again) == [[2, 3, 4]] * 2
        assert writers.check() == []


@pytest.mark.slow
def test_every_founder_can_be_replaced(folder: Path) -> None:
    cluster = up(folder, groups=2)
    with writers_of(cluster) as writers:
        await_writes(writers, 50)
        writers._addresses += [add_node(folder).address for _ in range(2)]
        for node in (1, 2):
            remove_node(folder, node)
        add_node(folder)
        await_writes(writers, 50)
        remove_node(folder, 3)
        # The clients know only nodes of the beginning by name, and have learnt the others.
        await_writes(writers, 50)
    found = status(folder)
    assert found.up
    writers._addresses = list(found.addresses)
    check_sound(writers)
    with AdminClient(found.addresses) as client:
        newest = max(client.multi_get(group, ()).read_ts for group in GROUPS)
        assert client.timestamp() >= newest
    down(folder)
    with running(folder) as again:
        assert voters(again) == [[4, 5, 6]] * 2
        assert writers.check() == []


@pytest.mark.parametrize(
    "at",
    [
        pytest.param("list", marks=pytest.mark.slow),
        "learn",
        pytest.param("vote", marks=pytest.mark.slow),
    ],
)
def test_an_addition_that_was_interrupted_goes_on_with_the_same_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    cluster = up(folder, groups=2)
    steps = {
        "list": (membership.cluster, "write_list"),
        "learn": (membership, "_learn"),
        "vote": (membership, "_vote"),
    }
    owner, name = steps[at]
    step, calls = getattr(owner, name), []

    def interrupted(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == (1 if at == "list" else 2):
            raise KeyboardInterrupt
        step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            add_node(folder)
    if at == "learn":
        down(folder)
        partly = up(folder)
        assert [node.up for node in partly.nodes] == [True, True, True, False]
        assert partly.nodes[3].joining
    added = add_node(folder)
    assert added.node == (5 if at == "list" else 4), "an id that was given is not given again"
    assert voters(cluster) == [sorted([1, 2, 3, added.node])] * 2
    assert status(folder).up
    assert read_config(folder / f"node-{added.node}/node.toml").founded
    down(folder)
    with running(folder) as again:
        assert again.up


def test_a_removal_that_was_interrupted_goes_on_with_the_same_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = up(folder, groups=2)
    with monkeypatch.context() as patch:
        patch.setattr(membership, "_forget", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            remove_node(folder, 2)
    removed = remove_node(folder, 2)
    assert (removed.groups, removed.stopped) == (GROUPS, None)
    assert voters(cluster) == [[1, 3]] * 2
    found = status(folder)
    assert found.up
    assert [node.node for node in found.nodes] == [1, 3]


def test_nodes_join_and_leave_while_another_is_down(folder: Path) -> None:
    cluster = up(folder, groups=2)
    kill(cluster.nodes[2].pid)
    with writers_of(cluster) as writers:
        add_node(folder)
        # Of 1, 2 and 4 one may go: the others are three with node 3, and two of them run.
        remove_node(folder, 1)
        with pytest.raises(Conflict) as caught:
            remove_node(folder, 2)
        assert caught.value.code == "majority_lost"
        assert "3 does not answer" in caught.value.message
        await_writes(writers, 50)
    assert up(folder).up
    assert voters(status(folder)) == [[2, 3, 4]] * 2
    writers._addresses = list(status(folder).addresses)
    check_sound(writers)


def test_a_node_that_is_down_is_removed(folder: Path) -> None:
    cluster = up(folder, groups=2)
    kill(cluster.nodes[0].pid)
    with writers_of(cluster) as writers:
        removed = remove_node(folder, 1)
        assert removed.stopped is None
        await_writes(writers, 50)
    writers._addresses = list(cluster.addresses[1:])
    check_sound(writers)
    assert voters(status(folder)) == [[2, 3]] * 2
    with pytest.raises(NotFound) as absent:
        remove_node(folder, 1)
    assert (absent.value.code, absent.value.hint) == ("node_absent", "it has 2, 3")


def test_the_last_keeper_of_a_group_is_not_removed(folder: Path) -> None:
    up(folder, nodes=2, groups=2, replicas=1)
    with pytest.raises(InvalidArgument) as caught:
        remove_node(folder, 2)
    assert caught.value.code == "node_last"
    assert "group 2" in caught.value.message
    assert status(folder).up
    down(folder)
    shutil.rmtree(folder)
    up(folder, nodes=1, groups=1)
    with pytest.raises(InvalidArgument) as only:
        remove_node(folder, 1)
    assert only.value.code == "node_last"


@pytest.mark.parametrize(
    "gone",
    [pytest.param(("log", "engine"), id="log and engine", marks=pytest.mark.slow), ()],
)
def test_a_wiped_node_never_votes_again_but_another_takes_its_place(
    folder: Path, gone: tuple[str, ...]
) -> None:
    cluster = up(folder, groups=2)
    with writers_of(cluster) as writers:
        await_writes(writers, 50)
    down(folder)
    for path in [folder / "node-2" / name for name in gone] or [folder / "node-2"]:
        shutil.rmtree(path)
    partly = up(folder)
    assert not partly.up
    assert [node.up for node in partly.nodes] == [True, False, True]
    assert "lacks what node 2 promised" in (partly.nodes[1].last_line or "")
    assert writers.check() == []
    assert voters(partly) == [[1, 2, 3]] * 2
    remove_node(folder, 2)
    added = add_node(folder)
    found = status(folder)
    assert found.up
    assert voters(found) == [[1, 3, added.node]] * 2
    writers._addresses = list(found.addresses)
    assert writers.check() == []


def test_a_wiped_node_of_a_cluster_with_one_voter_keeps_it_down(folder: Path) -> None:
    up(folder, nodes=2, groups=2, replicas=1)
    down(folder)
    shutil.rmtree(folder / "node-2/log")
    shutil.rmtree(folder / "node-2/engine")
    with pytest.raises(Unavailable) as caught:
        up(folder)
    assert caught.value.code == "node_start_failed"
    assert "lacks what node 2 promised" in caught.value.message
    assert all(holder_of(node) is None for node in folder.glob("node-*"))


def test_leaders_move_where_they_are_asked_to_while_clients_write(folder: Path) -> None:
    cluster = up(folder, groups=2)
    with writers_of(cluster) as writers:
        for number in range(6):
            await_writes(writers, 20)
            group, node = GROUPS[number % 2], number % 3 + 1
            transfer_leader(folder, group, node)
            transfer_leader(folder, group, node)
            until(lambda g=group, n=node: status(folder).served.get(g) == n, "it serves")
    assert (writers.told.refused, writers.told.unknown) == (0, 0)
    check_sound(writers)
    with pytest.raises(NotFound) as absent:
        transfer_leader(folder, 1, 9)
    assert absent.value.code == "node_absent"
    with pytest.raises(NotFound) as nowhere:
        transfer_leader(folder, 7, 1)
    assert nowhere.value.code == "group_absent"
    served = status(folder).served[1]
    other = served % 3 + 1
    kill(cluster.nodes[other - 1].pid)
    with pytest.raises(Unavailable) as caught:
        transfer_leader(folder, 1, other)
    assert caught.value.code == "transfer_timed_out"
    assert writers.check() == []


def test_a_leader_is_not_handed_to_who_has_no_vote(folder: Path) -> None:
    with running(folder, nodes=2, groups=2, replicas=1), pytest.raises(InvalidInput) as caught:
        transfer_leader(folder, 2, 1)
    assert caught.value.code == "transfer_target_invalid"
