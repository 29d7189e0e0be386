"""A raft_snapshot that takes its time: made, checked and installed beside the turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from unit import test_host_net
from unit.test_host_net import Net, Node

from workbench.errors import Corruption
from workbench.host import lane, shipping
from workbench.model.limits import CEILING_AHEAD_MS
from workbench.model.node import Written
from workbench.ports.peers import SnapshotChunk
from workbench.ports.storage import Waiting
from workbench.replica import raft_snapshot
from workbench.replica.raft_snapshot import EngineSnapshots

if TYPE_CHECKING:
    from workbench.ports.consensus import SnapshotMeta

LONG = 6


class SlowSnapshots(EngineSnapshots):
    """Row pieces, of which nothing is done at once."""

    asked: ClassVar[dict[str, int]] = {}
    # What the first checks say, before all others say yes.
    verdicts: ClassVar[list[bool]] = []
    failure: ClassVar[Exception | None] = None
    patience: ClassVar[int] = LONG  # in turns and ticks

    def _done(self, what: str) -> bool:
        """Tell whether it was asked for often enough."""
        asked = self.asked[what] = self.asked.get(what, 0) + 1
        return asked % self.patience == 0

    def read(self, meta: SnapshotMeta, offset: int) -> tuple[bytes, bool] | Waiting | None:
        if offset == 0 and not self._done("read"):
            return Waiting.WAIT
        return super().read(meta, offset)

    def check(self, meta: SnapshotMeta, offset: int, data: bytes) -> bool | Waiting:
        if not self._done("check"):
            return Waiting.WAIT
        return self.verdicts.pop(0) if self.verdicts else super().check(meta, offset, data)

    def begin_install(self, meta: SnapshotMeta) -> bool:
        self._meta_to_install = meta
        return False

    def installed(self) -> bool:
        if not self._done("install"):
            return False
        if self.failure is not None:
            raise self.failure
        self.install(self._meta_to_install)
        return True


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "LOG_KEEP_ENTRIES", 3)
    monkeypatch.setattr(raft_snapshot, "PIECE_BYTES", 200)
    monkeypatch.setattr(test_host_net, "EngineSnapshots", SlowSnapshots)
    monkeypatch.setattr(SlowSnapshots, "asked", {})
    monkeypatch.setattr(SlowSnapshots, "verdicts", [])
    monkeypatch.setattr(SlowSnapshots, "failure", None)


def far_behind() -> tuple[Net, Node]:
    """A follower that group 1 lacks entries for, and group 2 does not."""
    net = Net(groups=(1, 2))
    leader = net.elect()
    follower = next(node for node in net.nodes.values() if node is not leader)
    net.cut = {follower.number}
    # Whoever leads group 2 may be cut off with it.
    net.elect()
    write(net, 1, 12)
    net.batches.clear()
    net.cut = set()
    return net, follower


def write(net: Net, group: int, count: int) -> None:
    leader = net.leader(group)
    assert leader is not None
    net.now_ms += CEILING_AHEAD_MS
    for number in range(count):
        token = net.propose(leader, b"%c%d" % (96 + group, number), group=group)
        net.settle()
        assert isinstance(leader.replies[token], Written)


def arrives(net: Net, follower: Node) -> None:
    net.until(lambda: follower.installs and follower.host.applied() == net.elect().host.applied())
    net.tick(2)
    net.same()
    for node in net.nodes.values():
        node.host.check_invariants()


def chunks(net: Net) -> list[SnapshotChunk]:
    return [
        each.message
        for _, _, batch in net.batches
        for each in batch
        if isinstance(each.message, SnapshotChunk)
    ]


def test_a_follower_arrives_although_nothing_is_done_at_once() -> None:
    net, follower = far_behind()
    arrives(net, follower)
    assert follower.installs == 1
    assert SlowSnapshots.asked == {"read": LONG, "check": LONG, "install": LONG}


def test_an_install_makes_work_once_a_tick_and_no_more() -> None:
    net, follower = far_behind()
    net.until(lambda: SlowSnapshots.asked.get("install", 0) >= 1)
    asked = SlowSnapshots.asked["install"]
    assert not follower.host.has_work()
    for more in (1, 2):
        follower.host.tick()
        assert follower.host.has_work()
        follower.turn()
        assert SlowSnapshots.asked["install"] == asked + more
        assert not follower.host.has_work()


def test_other_groups_go_on_while_one_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlowSnapshots, "patience", 60)
    net, follower = far_behind()
    net.until(lambda: SlowSnapshots.asked.get("install", 0) >= 1)
    before = follower.host.applied()
    write(net, 2, 5)
    net.tick()
    during = follower.host.applied()
    assert follower.installs == 0
    assert during[1] == before[1]
    assert during[2] >= before[2] + 5
    arrives(net, follower)


def test_calls_to_a_group_that_is_installed_wait_until_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SlowSnapshots, "patience", 20)
    net, follower = far_behind()
    net.until(lambda: SlowSnapshots.asked.get("install", 0) >= 1)
    token = net.propose(follower, b"early")
    net.settle()
    assert token not in follower.replies
    arrives(net, follower)
    assert follower.replies[token].code == "not_leader"


def test_pieces_that_are_not_the_state_are_sent_again_from_the_first_one() -> None:
    SlowSnapshots.verdicts[:] = [False, False]
    net, follower = far_behind()
    arrives(net, follower)
    assert follower.installs == 1
    assert SlowSnapshots.asked["check"] == 3 * LONG
    assert sum(chunk.offset == 0 for chunk in chunks(net)) >= 3


def test_what_was_damaged_at_its_sender_is_taken_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    takes: list[SnapshotMeta] = []
    take, check = EngineSnapshots.take, EngineSnapshots.check
    monkeypatch.setattr(
        SlowSnapshots, "take", lambda self, meta: (takes.append(meta), take(self, meta))
    )
    # The first one that was taken never stands the check, however often it is sent.
    monkeypatch.setattr(SlowSnapshots, "check", lambda *asked: len(takes) > 1 and check(*asked))
    net, follower = far_behind()
    arrives(net, follower)
    assert follower.installs == 1
    assert len(takes) == 2


def test_the_log_is_not_reset_before_the_check_is_done() -> None:
    net, follower = far_behind()
    net.until(lambda: SlowSnapshots.asked.get("check", 0) >= 1)
    assert follower.log.groups()[1].reset is None
    follower.restart()
    arrives(net, follower)


def test_a_check_of_another_leaders_pieces_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlowSnapshots, "patience", 40)
    net, follower = far_behind()
    net.until(lambda: SlowSnapshots.asked.get("check", 0) >= 2)
    old = net.leader()
    assert old is not None
    net.cut = {old.number}
    net.forget(old.number)
    net.elect()
    net.cut = set()
    arrives(net, follower)


def test_an_install_that_fails_ends_the_node_and_is_done_at_its_start() -> None:
    net, follower = far_behind()
    SlowSnapshots.failure = Corruption("planted", code="planted")
    with pytest.raises(Corruption):
        net.until(lambda: follower.installs)
    SlowSnapshots.failure = None
    follower.restart()
    assert follower.installs == 0, "the start installs it, which this counts not"
    assert follower.log.groups()[1].reset is not None
    assert follower.host.applied()[1] >= follower.log.groups()[1].reset.index
    net.until(lambda: follower.host.applied() == net.elect().host.applied())
    net.tick(2)
    net.same()


def test_what_was_taken_is_released_once_nobody_reads_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = []
    release = EngineSnapshots.release
    monkeypatch.setattr(
        SlowSnapshots, "release", lambda self: (released.append(self), release(self))
    )
    monkeypatch.setattr(shipping, "RELEASE_AFTER_TICKS", 30)
    net, follower = far_behind()
    arrives(net, follower)
    leader = net.elect()
    sending = leader.groups[1].snapshots
    assert sending not in released
    net.tick(30)
    assert released.count(sending) == 1
    net.tick(40)
    assert released.count(sending) == 1
    # The next one who needs it gets another.
    net.cut = {follower.number}
    write(net, 1, 12)
    net.cut = set()
    net.until(lambda: follower.installs == 2)


def test_the_last_piece_is_stepped_at_once_where_it_is_not_the_next() -> None:
    net, follower = far_behind()
    net.until(lambda: follower.installs)
    last = [chunk for chunk in chunks(net) if chunk.done][-1]
    asked = SlowSnapshots.asked["check"]
    assert not follower.groups[1].consensus.takes(last)
    follower.groups[1].consensus.refuse_snapshot(last.meta)
    net.tick(2)
    assert SlowSnapshots.asked["check"] == asked
    arrives(net, follower)
