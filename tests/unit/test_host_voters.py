"""A host with many voters: what commits, what is answered, who leads, and who is a member."""

from __future__ import annotations

import pytest
from unit.test_host_net import FIRST, Net, Node
from unit.test_host_world import START_MS

from workbench.errors import InvalidInput, NotFound, OutcomeUnknown, Unavailable
from workbench.host import inbox, lane
from workbench.host.values import Dropped, MembersChanged
from workbench.model.node import GotMany, Written
from workbench.ports.consensus import Configuration, LogEntry, SnapshotMeta
from workbench.ports.peers import (
    AppendRequest,
    GroupMessage,
    Heartbeat,
    SnapshotChunk,
    VoteRequest,
)
from workbench.replica.commands import GetMany, LatestCommitTs, LatestTs


@pytest.fixture
def net() -> Net:
    net = Net()
    net.elect()
    return net


def others(net: Net, node: Node) -> list[Node]:
    return [each for each in net.nodes.values() if each is not node]


def read(net: Net, node: Node, *keys: bytes) -> int:
    net.token += 1
    node.host.read(1, GetMany(keys), net.token)
    return net.token


def change(net: Net, node: Node, voters: set[int], learners: set[int] = frozenset()) -> object:
    net.token += 1
    wanted = Configuration(frozenset(voters), frozenset(learners))
    node.host.change_members(1, wanted, net.token)
    net.settle()
    return node.replies[net.token]


def test_a_write_is_answered_once_a_majority_has_it_and_not_before(net: Net) -> None:
    leader = net.elect()
    net.cut = {node.number for node in others(net, leader)}
    token = net.propose(leader, b"a")
    net.settle()
    assert token not in leader.replies
    net.cut.pop()
    net.tick(2)
    assert isinstance(leader.replies[token], Written)


def test_what_is_proposed_in_one_turn_shares_an_entry_and_one_sync_at_every_node(net: Net) -> None:
    leader = net.elect()
    before = {node.number: len(node.log.kept[1].entries) for node in net.nodes.values()}
    net.reached.clear()
    tokens = [net.propose(leader, b"a%d" % n) for n in range(100)]
    net.settle()
    assert all(isinstance(leader.replies[token], Written) for token in tokens)
    for node in net.nodes.values():
        assert len(node.log.kept[1].entries) == before[node.number] + 1
    assert net.reached.count("synced") == 3


def test_a_follower_refuses_writes_reads_and_changes(net: Net) -> None:
    follower = others(net, net.elect())[0]
    tokens = [net.propose(follower, b"a"), read(net, follower, b"a")]
    error = change(net, follower, {1, 2})
    net.settle()
    for result in (error, *(follower.replies[token] for token in tokens)):
        assert isinstance(result, Unavailable)
        assert result.code == "not_leader"


def test_a_deposed_leaders_write_is_of_unknown_outcome_and_its_read_never_answered(
    net: Net,
) -> None:
    old = net.elect()
    net.cut = {old.number}
    write, asked = net.propose(old, b"a", b"old"), read(net, old, b"a")
    net.settle()
    assert not {write, asked} & old.replies.keys()
    new = net.elect()
    assert new is not old
    token = net.propose(new, b"a", b"new")
    net.settle()
    assert isinstance(new.replies[token], Written)
    net.tick(15)
    assert isinstance(old.replies[write], OutcomeUnknown)
    assert old.replies[write].code == "leadership_lost"
    assert isinstance(old.replies[asked], Unavailable)
    net.cut = set()
    net.tick(3)
    net.same()
    asked = read(net, net.elect(), b"a")
    net.settle()
    got = net.elect().replies[asked]
    assert isinstance(got, GotMany)
    assert got.versions[0].value == b"new"


def test_a_leader_that_was_deposed_without_knowing_it_answers_no_read(net: Net) -> None:
    old = net.elect()
    net.cut = {old.number}
    net.token += 1
    asked = net.token
    old.host.read(1, LatestCommitTs(b"a"), asked)
    new = net.elect()
    token = net.propose(new, b"a")
    net.settle()
    assert isinstance(new.replies[token], Written)
    assert not isinstance(old.replies.get(asked), LatestTs)
    net.tick(12)
    assert old.replies[asked].code == "not_leader"


def test_reads_without_a_confirmed_leadership_would_be_found(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    admitted = lane._Admitted
    monkeypatch.setattr(lane, "_Admitted", lambda at, reads: admitted(at, reads, confirmed=True))
    with pytest.raises(AssertionError):
        test_a_leader_that_was_deposed_without_knowing_it_answers_no_read(net)


def test_a_leader_that_steps_down_in_silence_tells_its_callers(net: Net) -> None:
    old = net.elect()
    net.cut = {1, 2, 3}
    write = net.propose(old, b"a")
    net.tick(21)
    assert isinstance(old.replies[write], OutcomeUnknown)
    assert not old.host.has_work()


def test_the_new_leader_stamps_above_all_that_the_old_one_served(net: Net) -> None:
    old = net.elect()
    token = net.propose(old, b"a")
    net.settle()
    served = read(net, old, b"a")
    net.settle()
    net.cut = {old.number}
    new = net.elect()
    later = net.propose(new, b"a")
    net.until(lambda: later in new.replies)
    assert new.replies[later].commit_ts > old.replies[served].read_ts
    assert new.replies[later].commit_ts > old.replies[token].commit_ts


def test_a_read_sees_every_write_that_was_answered_before_it(net: Net) -> None:
    leader = net.elect()
    for number in range(20):
        write = net.propose(leader, b"a", b"%d" % number)
        net.settle()
        asked = read(net, leader, b"a")
        net.settle()
        assert leader.replies[asked].versions[0].commit_ts == leader.replies[write].commit_ts


def test_all_reads_of_a_turn_share_one_round(net: Net) -> None:
    leader = net.elect()
    net.batches.clear()
    asked = [read(net, leader, b"a") for _ in range(50)]
    net.settle()
    assert all(isinstance(leader.replies[token], GotMany) for token in asked)
    said = [each.message for _, _, batch in net.batches for each in batch]
    assert sum(isinstance(message, Heartbeat) for message in said) == 2


def test_what_goes_to_one_node_goes_as_one_batch_of_all_groups() -> None:
    net = Net(groups=(1, 2, 3))
    leader = net.elect()
    net.until(lambda: all(net.leader(group) is leader for group in net.groups))
    net.batches.clear()
    for group in net.groups:
        net.propose(leader, b"%c" % (96 + group), group=group)
    net.reached.clear()
    leader.turn()
    assert [receiver for _, receiver, _ in net.batches] == [
        node.number for node in others(net, leader)
    ]
    for _, _, batch in net.batches:
        assert [each.group for each in batch] == [1, 2, 3]
        assert all(isinstance(each.message, AppendRequest) for each in batch)
    assert net.reached.count("synced") == 1


def test_leadership_is_handed_over_without_a_pause(net: Net) -> None:
    old = net.elect()
    to = others(net, old)[0]
    old.host.transfer_leader(1, to.number)
    late = net.propose(old, b"a")
    net.settle()
    assert old.replies[late].code in {"not_leader", "leadership_lost"}
    assert net.elect() is to
    with pytest.raises(InvalidInput):
        to.host.transfer_leader(1, 99)
    with pytest.raises(Unavailable):
        old.host.transfer_leader(1, to.number)
    net.write(2)
    net.same()


def test_reads_that_need_a_higher_ceiling_are_refused_while_leadership_moves(net: Net) -> None:
    old = net.elect()
    to = others(net, old)[0].number
    net.propose(old, b"a")
    net.settle()
    net.cut = {to}
    old.host.transfer_leader(1, to)
    asked = read(net, old, b"a")
    net.settle()
    assert isinstance(old.replies[asked], GotMany), "what lies below the ceiling is served"
    net.now_ms += 5_000
    asked = read(net, old, b"a")
    net.settle()
    assert old.replies[asked].code == "not_leader"
    net.tick(12)
    net.write(1)


def test_a_node_joins_as_learner_becomes_a_voter_and_leaves() -> None:
    net = Net(4, first=FIRST)
    leader = net.elect()
    net.write(3)
    assert net.nodes[4].host.applied() == {1: 0}
    done = change(net, leader, {1, 2, 3}, {4})
    assert isinstance(done, MembersChanged)
    assert net.nodes[4].host.members(1) == done.configuration
    assert net.nodes[4].host.status(1).role == "learner"
    net.tick(2)
    net.same()
    assert isinstance(change(net, leader, {1, 2, 3, 4}), MembersChanged)
    net.cut = {others(net, leader)[0].number}
    net.write(1)
    net.cut = set()
    assert isinstance(change(net, leader, {1, 2, 3}), MembersChanged)
    assert leader.host.members(1) == FIRST
    net.write(2, b"later")
    net.same(1, 2, 3)
    assert net.nodes[4].rows() != leader.rows()


def test_a_leader_that_removes_itself_hears_that_it_is_done(net: Net) -> None:
    leader = net.elect()
    rest = {node.number for node in others(net, leader)}
    done = change(net, leader, rest)
    assert isinstance(done, MembersChanged)
    assert done.configuration.voters == rest
    assert net.elect() is not leader
    net.write(2, b"later")
    net.same(*rest)


def test_a_change_of_two_voters_is_refused_and_changes_nothing(net: Net) -> None:
    leader = net.elect()
    error = change(net, leader, {leader.number})
    assert isinstance(error, InvalidInput)
    assert error.code == "configuration_change_invalid"
    assert leader.host.members(1) == FIRST


def test_the_members_outlive_a_restart_of_everybody(net: Net) -> None:
    leader = net.elect()
    gone = others(net, leader)[0].number
    rest = {1, 2, 3} - {gone}
    change(net, leader, rest)
    net.tick(2)
    for batches in (0, 99):
        for number in rest:
            net.nodes[number].restart(batches=batches)
            assert net.nodes[number].host.members(1).voters == rest
        net.elect()


def test_the_only_voter_of_a_group_leads_at_once_and_others_may_join() -> None:
    net = Net(2, first=Configuration(frozenset({1})))
    net.settle()
    assert net.leader() is net.nodes[1], "no time has passed"
    net.write(3)
    change(net, net.nodes[1], {1}, {2})
    net.until(lambda: net.nodes[2].host.applied() == net.nodes[1].host.applied())
    net.same()
    assert net.nodes[2].installs == 1, "a node alone keeps no log for others"
    change(net, net.nodes[1], {1, 2})
    change(net, net.nodes[1], {2})
    assert net.elect() is net.nodes[2]
    net.nodes[2].restart()
    net.settle()
    assert net.leader() is net.nodes[2]


def test_a_group_without_raft_snapshots_stays_alone() -> None:
    net = Net(1)
    node = net.nodes[1]
    group = node.groups[1]
    alone = lane.Lane(1, type(group)(group.consensus, group.replica, group.bootstrap))
    with pytest.raises(InvalidInput) as caught:
        alone.change_members(FIRST, 1)
    assert caught.value.code == "group_unreplicated"


def test_messages_of_groups_that_are_not_here_are_dropped_and_counted(net: Net) -> None:
    node = net.nodes[1]
    node.host.receive([GroupMessage(9, VoteRequest(2, 1, 5, 0, 0))] * 3)
    assert node.host.dropped == Dropped(unknown_group=3)
    assert not node.host.has_work()
    for call in (
        lambda: node.host.members(9),
        lambda: node.host.transfer_leader(9, 2),
        lambda: node.host.change_members(9, FIRST, 1),
    ):
        with pytest.raises(NotFound):
            call()


def test_messages_for_another_node_or_from_none_change_nothing(net: Net) -> None:
    follower = others(net, net.elect())[0]
    before = follower.host.status(1)
    follower.host.receive(
        [
            GroupMessage(1, VoteRequest(2, 99, 50, 50, 50)),
            GroupMessage(1, VoteRequest(follower.number, follower.number, 50, 50, 50)),
            GroupMessage(1, VoteRequest(0, follower.number, 50, 50, 50)),
        ]
    )
    net.settle()
    assert follower.host.status(1) == before


def test_a_full_inbox_drops_the_oldest_and_the_group_goes_on(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "INBOX_MESSAGES_MAX", 2)
    follower = others(net, net.elect())[0]
    sender = net.elect().number
    stale = [GroupMessage(1, Heartbeat(sender, follower.number, 1, 0, n)) for n in range(5)]
    follower.host.receive(stale)
    assert follower.host.dropped == Dropped(overflow=3)
    net.settle()
    net.write(3)
    net.same()


def test_an_inbox_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "INBOX_BYTES_MAX", 10_000)
    node = Net(1).nodes[1]
    entries = (LogEntry(1, 1, bytes(4_000)),)
    request = GroupMessage(1, AppendRequest(2, 1, 1, 0, 0, entries, 0))
    node.host.receive([request] * 5)
    assert node.host.dropped == Dropped(overflow=3)
    huge = GroupMessage(1, AppendRequest(2, 1, 1, 0, 0, entries * 3, 0))
    node.host.receive([huge])
    assert node.host.dropped == Dropped(overflow=6), "one that never fits is dropped itself"


def test_a_piece_that_does_not_decode_is_dropped_like_a_lost_one(net: Net) -> None:
    follower = others(net, net.elect())[0]
    meta = SnapshotMeta(99, 1, FIRST)
    junk = SnapshotChunk(net.elect().number, follower.number, 1, meta, 0, b"junk", done=True)
    follower.host.receive([GroupMessage(1, junk)])
    assert follower.host.dropped == Dropped(malformed=1)
    net.write(1)
    net.same()


def test_reads_that_wait_for_a_majority_are_bounded(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "QUEUE_READS_MAX", 3)
    leader = net.elect()
    net.cut = {1, 2, 3}
    for _ in range(3):
        read(net, leader, b"a")
        net.settle()
    with pytest.raises(Unavailable) as caught:
        read(net, leader, b"a")
    assert caught.value.code == "queue_full"


def test_what_a_majority_does_not_take_is_refused_and_not_queued_for_ever(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.raft.core.UNCOMMITTED_BYTES_MAX", 1_000)
    leader = net.elect()
    net.cut = {1, 2, 3}
    first = net.propose(leader, b"a", bytes(800))
    net.settle()
    second = net.propose(leader, b"a", bytes(800))
    net.settle()
    assert first not in leader.replies
    assert leader.replies[second].code == "log_full"
    leader.host.check_invariants()


def test_a_bootstrap_is_proposed_by_any_leader_and_takes_effect_once() -> None:
    net = Net()
    net.until(lambda: any(node.host.status(1).role == "leader" for node in net.nodes.values()), 40)
    old = next(node for node in net.nodes.values() if node.host.status(1).role == "leader")
    net.cut = {old.number}
    new = net.elect()
    assert new is not old
    net.cut = set()
    net.tick(3)
    net.write(1)
    net.same()
    assert net.elect().host.catalog_routes().version == 1


def test_one_turn_does_everything_after_its_sync(net: Net) -> None:
    follower = others(net, net.elect())[0]
    leader = net.elect()
    net.propose(leader, b"a")
    leader.turn()
    [(_, _, batch)] = [each for each in net.batches if each[1] == follower.number][-1:]
    follower.host.receive(batch)
    turn = follower.host.begin(START_MS)
    assert turn.must_sync
    assert [len(write.entries) for write in turn.writes] == [1]
    assert turn.early == {}, "a follower's answer promises what is not durable yet"
    follower.log.append(turn.writes)
    follower.log.sync()
    assert [*follower.host.finish(turn, START_MS).messages] == [leader.number]
