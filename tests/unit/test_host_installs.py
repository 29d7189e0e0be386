"""A follower that the log no longer reaches: raft_snapshots, crashes within, what logs keep."""

from __future__ import annotations

import pytest
from unit.test_host_net import FIRST, Net, Node

from workbench.errors import Corruption
from workbench.host import lane
from workbench.ports.consensus import Configuration
from workbench.ports.peers import AppendRequest, SnapshotChunk
from workbench.replica import raft_snapshot
from workbench.replica.dedupe import DEDUPE_EXPIRY_MS
from workbench.replica.raft_snapshot import EngineSnapshots

# All steps of a follower's turn that a raft_snapshot goes through, in their order.
STEPS = (
    "piece kept",
    "piece synced",
    "last piece synced",
    "reset appended",
    "reset synced",
    "install",
    "install write 1",
    "install write 2",
    "install write 3",
    "install write 9",
    "install flush",
    "install flushed",
    "installed",
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "LOG_KEEP_ENTRIES", 3)
    monkeypatch.setattr(raft_snapshot, "PIECE_BYTES", 200)
    monkeypatch.setattr(raft_snapshot, "DELETES_PER_BATCH", 2)


def far_behind(writes: int = 12) -> tuple[Net, Node]:
    """A follower with a few entries, and a leader whose log begins after them."""
    net = Net()
    net.write(3, b"early", client_id=b"me")
    net.now_ms += DEDUPE_EXPIRY_MS
    leader = net.elect()
    follower = next(node for node in net.nodes.values() if node is not leader)
    net.cut = {follower.number}
    net.write(writes, b"late")
    net.reached.clear()
    net.batches.clear()
    net.cut = set()
    return net, follower


def arrives(net: Net, follower: Node) -> None:
    goal = net.elect().host.applied()
    net.until(lambda: follower.host.applied() == goal)
    net.tick()
    net.same()
    for node in net.nodes.values():
        node.host.check_invariants()
        assert node.pieces[1].pieces == []


def test_a_follower_far_behind_gets_a_raft_snapshot_and_then_the_log() -> None:
    net, follower = far_behind()
    arrives(net, follower)
    assert follower.installs == 1
    pieces = [
        each.message
        for _, _, batch in net.batches
        for each in batch
        if isinstance(each.message, SnapshotChunk)
    ]
    assert len(pieces) > 3
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    net.write(3, b"after")
    net.same()
    assert follower.installs == 1


def test_a_follower_that_is_less_behind_gets_the_log_alone() -> None:
    net, follower = far_behind(2)
    arrives(net, follower)
    assert follower.installs == 0


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("batches", [0, 1, 99])
def test_a_crash_at_any_step_of_an_install_loses_nothing(step: str, batches: int) -> None:
    net, follower = far_behind()
    restart = follower.restart
    follower.restart = lambda: restart(batches=batches)
    follower.dies_at = step
    arrives(net, follower)
    assert follower.dies_at == "", "the step was reached"
    net.write(2, b"after")
    arrives(net, follower)


def test_an_install_reaches_all_the_steps_that_are_tried() -> None:
    net, follower = far_behind()
    arrives(net, follower)
    firsts = [net.reached.index(step) for step in STEPS]
    assert firsts == sorted(firsts)


def test_a_crash_after_the_reset_is_durable_installs_without_being_sent_again() -> None:
    net, follower = far_behind()
    follower.dies_at = "reset synced"
    net.until(lambda: follower.dies_at == "")
    assert follower.installs == 0, "the first life ended before, the second begins with it"
    assert follower.log.groups()[1].reset is not None
    assert follower.host.applied()[1] >= follower.log.groups()[1].reset.index


def test_every_replica_may_crash_after_an_install() -> None:
    net, follower = far_behind()
    arrives(net, follower)
    for node in net.nodes.values():
        node.engine.flush()
        node.restart()
    net.write(2, b"after")
    net.same()


def test_a_restarted_leader_still_feeds_the_slow_from_its_log() -> None:
    net, follower = far_behind(2)
    for node in net.nodes.values():
        if node is not follower:
            node.engine.flush()
            node.log.compact(node.host.flushed(node.host.applied()))
            node.restart()
    arrives(net, follower)
    assert follower.installs == 0


def test_one_raft_snapshot_serves_two_followers() -> None:
    net = Net(5)
    net.write(2, b"early")
    leader = net.elect()
    behind = [node for node in net.nodes.values() if node is not leader][:2]
    net.cut = {node.number for node in behind}
    net.write(9, b"late")
    taken = []
    snapshots = leader.groups[1].snapshots
    take = snapshots.take
    snapshots.take = lambda meta: (taken.append(meta), take(meta))
    net.cut = set()
    for follower in behind:
        arrives(net, follower)
        assert follower.installs == 1
    assert len(taken) == 1


@pytest.mark.parametrize("kept", [3, 100])
def test_a_whole_window_of_lost_requests_is_found_at_a_heartbeat(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "LOG_KEEP_ENTRIES", kept)
    monkeypatch.setattr("workbench.raft.progress.INFLIGHT_REQUESTS_MAX", 5)
    net, follower = far_behind()
    progress = net.elect().groups[1].consensus.progress[follower.number]
    assert progress.is_paused
    arrives(net, follower)
    assert follower.installs == (kept == 3)


def test_a_piece_that_is_gone_is_followed_by_another_raft_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, follower = far_behind()
    leader = net.elect()
    snapshots = leader.groups[1].snapshots
    net.until(lambda: "piece synced" in net.reached or follower.installs)
    read = snapshots.read
    gone = []
    monkeypatch.setattr(
        snapshots, "read", lambda *wanted: read(*wanted) if gone else gone.append(wanted)
    )
    net.cut = {follower.number}
    net.write(4, b"more")
    net.cut = set()
    net.tick(15)
    arrives(net, follower)


def test_a_raft_snapshot_that_one_leader_began_is_finished_by_the_next() -> None:
    net, follower = far_behind()
    old = net.elect()
    for node in net.nodes.values():
        node.host.tick()
    while net.reached.count("piece synced") < 2:
        net.step()
    assert follower.installs == 0
    net.cut = {old.number}
    net.forget(old.number)
    # The new leader needs the follower for its first commit, so it offers the very same state.
    new = net.elect()
    assert new is not old
    net.tick(2)
    net.same(new.number, follower.number)
    assert follower.installs == 1


def test_a_state_larger_than_what_stays_readable_is_sent_nevertheless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raft_snapshot, "KEPT_BYTES_MAX", 400)
    net, follower = far_behind()
    arrives(net, follower)
    assert follower.installs == 1


def test_the_log_keeps_what_slow_followers_need_and_no_more() -> None:
    net = Net()
    net.write(10)
    for node in net.nodes.values():
        applied = dict(node.host.applied())
        assert node.groups[1].consensus.compacted == applied[1] - 3
        assert node.host.flushed(applied) == {1: applied[1] - 3}
        assert node.host.flushed({1: 2}) == {1: 2}, "never more than the engine has flushed"


def test_the_log_in_memory_is_bounded_by_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "LOG_KEEP_ENTRIES", 100)
    monkeypatch.setattr(lane, "LOG_KEEP_BYTES", 200)
    net = Net()
    net.write(10)
    raft = net.elect().groups[1].consensus
    assert raft.log.data_bytes <= 200
    assert raft.compacted > 0


def test_a_group_alone_keeps_nothing() -> None:
    net = Net(1)
    net.write(4)
    node = net.nodes[1]
    assert node.groups[1].consensus.compacted == node.host.applied()[1]
    assert node.host.flushed(node.host.applied()) == node.host.applied()


def test_a_node_that_joins_a_group_with_a_cut_log_gets_its_members_with_the_state() -> None:
    net = Net(4, first=FIRST)
    net.write(9)
    leader = net.elect()
    wanted = Configuration(FIRST.voters, frozenset({4}))
    leader.host.change_members(1, wanted, 999)
    net.settle()
    arrives(net, net.nodes[4])
    assert net.nodes[4].installs == 1
    assert net.nodes[4].groups[1].replica.members == wanted
    net.nodes[4].restart()
    assert net.nodes[4].host.members(1) == wanted


def test_pieces_of_a_damaged_disk_stop_the_node_before_anything_changes() -> None:
    net, follower = far_behind()
    follower.dies_at = "reset synced"
    restart, before = follower.restart, {}

    def damaged() -> None:
        before.update(follower.engine.flushed)
        pieces = follower.pieces[1].durable
        pieces[1] = pieces[1][:-1] + b"?"
        restart()

    follower.restart = damaged
    with pytest.raises(Corruption) as caught:
        arrives(net, follower)
    assert caught.value.code == "raft_snapshot_corrupt"
    assert follower.engine.rows == before


# -- planted faults: what the crashes above must find ---------------------------------------------


def writes_progress_first(patch: pytest.MonkeyPatch) -> None:
    """The rows in their own order: a crash leaves the progress without the rows."""

    def install(engine, group, meta, pieces) -> None:
        for key, _ in list(engine.scan(*raft_snapshot.group_range(group))):
            engine.write([(key, None)])
        for data in pieces.kept():
            engine.write(raft_snapshot.decode_piece(data).rows)
        engine.flush()

    patch.setattr(raft_snapshot, "install_pieces", install)


def forgets_the_old_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(raft_snapshot, "islice", lambda *_: ())


def drops_pieces_before_the_engine_is_flushed(patch: pytest.MonkeyPatch) -> None:
    def install(snapshots, meta) -> None:
        pieces = list(snapshots._incoming.kept())
        snapshots._incoming.discard()
        snapshots._incoming.pieces = pieces
        original(snapshots, meta)

    original = EngineSnapshots.install
    patch.setattr(EngineSnapshots, "install", install)


def resets_the_log_after_the_engine(patch: pytest.MonkeyPatch) -> None:
    def begin(self, now_ms, messages=()):
        begun = original(self, now_ms, messages)
        if begun.write is not None and begun.write.reset is not None:
            late.append(begun.write)
            return lane.Begun(None, must_sync=True, early=begun.early, chunks=begun.chunks)
        if late and begun.write is None:
            return lane.Begun(late.pop(), must_sync=True, early=begun.early)
        return begun

    late: list = []
    original = lane.Lane.begin
    patch.setattr(lane.Lane, "begin", begin)


@pytest.mark.parametrize(
    "plant",
    [
        writes_progress_first,
        forgets_the_old_rows,
        drops_pieces_before_the_engine_is_flushed,
        resets_the_log_after_the_engine,
    ],
)
def test_a_planted_fault_is_found(plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    steps = ["none", *STEPS, *(f"install write {n}" for n in range(4, 30))]
    for batches in (99, 0):
        for step in steps:
            net, follower = far_behind()
            restart = follower.restart
            follower.restart = lambda restart=restart, batches=batches: restart(batches=batches)
            follower.dies_at = step
            try:
                arrives(net, follower)
            except Exception:  # noqa: BLE001 - any end but a quiet one tells of the fault
                return
    pytest.fail(f"{plant.__name__} goes unnoticed")


def test_entries_follow_a_raft_snapshot_without_a_gap() -> None:
    net, follower = far_behind()
    arrives(net, follower)
    first = follower.log.groups()[1]
    assert first.reset is not None
    assert first.first_index == first.reset.index + 1
    assert first.base_term == first.reset.term
    sent = [
        each.message
        for _, receiver, batch in net.batches
        for each in batch
        if receiver == follower.number and isinstance(each.message, AppendRequest)
    ]
    assert sent
