"""Random schedules of several nodes: calls, cuts, crashes at any step, moves of members and leader.

What must hold after any schedule, once the faults stop: the group serves; all members hold the
same rows; every acknowledged write is there once, at its commit_ts; every refused one is nowhere;
one of unknown outcome is there once or nowhere; a read misses nothing that was acknowledged
before it was asked, and what it saw stays so.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from unit.test_host_net import Crash, Net, Node

from workbench.errors import OutcomeUnknown, WorkbenchError
from workbench.host import lane
from workbench.host.values import MembersChanged
from workbench.model.node import GotMany, Written
from workbench.mvcc.encoding import decode_value, split_version_key
from workbench.ports.consensus import Configuration
from workbench.replica import raft_snapshot
from workbench.replica.commands import (
    GetMany,
    LatestCommitTs,
    LatestTs,
    Mutation,
    Refused,
    WriteBatch,
)
from workbench.replica.layout import VERSIONS, family, family_end
from workbench.replica.replica import Replica

KEYS = (b"a", b"b", b"c")
STEPS = (
    "begun",
    "piece kept",
    "last piece synced",
    "appended",
    "synced",
    "reset appended",
    "reset synced",
    "install write 1",
    "install write 3",
    "install flush",
    "installed",
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "LOG_KEEP_ENTRIES", 4)
    monkeypatch.setattr(raft_snapshot, "PIECE_BYTES", 150)


class World(Net):
    """A net with faults, and clients that remember."""

    def __init__(self, seed: int, nodes: int = 4) -> None:
        self.random = random.Random(seed)
        super().__init__(nodes, first=Configuration(frozenset({1, 2, 3})))
        self.written: dict[int, tuple[bytes, bytes]] = {}
        self.asked: dict[int, tuple[bytes, int]] = {}
        self.results: dict[int, object] = {}
        self.floor = dict.fromkeys(KEYS, 0)
        self.seen: Counter[str] = Counter()

    def collect(self) -> None:
        """Take what the nodes answered; what a crash swallowed is of unknown outcome."""
        for node in self.nodes.values():
            for token, result in node.replies.items():
                assert token not in self.results, "answered twice"
                self.results[token] = result
                if isinstance(result, Written):
                    key, _ = self.written[token]
                    self.floor[key] = max(self.floor[key], result.commit_ts)
                elif isinstance(result, GotMany | LatestTs):
                    _, floor = self.asked[token]
                    if isinstance(result, GotMany):
                        newest = result.versions[0].commit_ts if result.versions[0] else 0
                    else:
                        newest = result.commit_ts or 0
                    assert newest >= floor, "a read misses a write"
                self.seen[type(result).__name__] += 1
            node.replies.clear()

    def act(self) -> None:
        draw, node = self.random.random(), self.random.choice([*self.nodes.values()])
        if draw < 0.55 and self.random.random() < 0.8:
            node = self.leader() or node
        if draw < 0.35:
            self.put(node)
        elif draw < 0.55:
            self.ask(node)
        elif draw < 0.585:
            self.fault(node)
        elif draw < 0.63:
            self.move(node)
        elif draw < 0.72:
            applied = dict(node.host.applied())
            node.engine.flush()
            node.log.compact(node.host.flushed(applied))
        else:
            self.now_ms += self.random.choice((1, 100, 300))
            self.pass_time()

    def pass_time(self) -> None:
        for each in self.nodes.values():
            if self.random.random() < 0.8:
                each.host.tick()

    def put(self, node: Node) -> None:
        self.token += 1
        held = self.random.choice(KEYS), b"%d" % self.token
        self.written[self.token] = held
        node.host.propose(1, WriteBatch((Mutation(*held),)), self.token)

    def ask(self, node: Node) -> None:
        self.token += 1
        key = self.random.choice(KEYS)
        self.asked[self.token] = (key, self.floor[key])
        read = self.random.choice((GetMany((key,)), LatestCommitTs(key)))
        node.host.read(1, read, self.token)

    def fault(self, node: Node) -> None:
        kind = self.random.choice(("crash", "dies", "cut", "depose", "heal", "lose"))
        self.seen[kind] += 1
        match kind:
            case "crash":
                self.down(node)
            case "dies":
                node.dies_at = self.random.choice(STEPS)
            case "cut":
                self.cut = set(self.random.sample([*self.nodes], self.random.randint(1, 2)))
            case "depose":
                self.depose()
            case "heal":
                self.cut = set()
            case "lose":
                self.way = [each for each in self.way if self.random.random() < 0.5]
                node.host.unreachable(self.random.choice([*self.nodes]))

    def depose(self) -> None:
        """Part a leader from the others, who elect another one while it is still asked."""
        old = self.leader()
        if old is None:
            return
        self.cut = {old.number}
        for _ in range(25):
            self.now_ms += 100
            self.pass_time()
            new = self.leader()
            if new is not None and new is not old:
                self.put(new)
            self.step()
            self.ask(old)

    def move(self, node: Node) -> None:
        self.token += 1
        members = node.host.members(1)
        other = self.random.choice([*self.nodes])
        voters, learners = set(members.voters), set(members.learners)
        if other in voters and len(voters) > 2:
            voters.discard(other)
        elif other in learners:
            learners.discard(other)
            voters.add(other)
        else:
            learners.add(other)
        try:
            if self.random.random() < 0.5:
                node.host.transfer_leader(1, other)
            else:
                wanted = Configuration(frozenset(voters), frozenset(learners - voters))
                node.host.change_members(1, wanted, self.token)
        except WorkbenchError:
            pass

    def down(self, node: Node) -> None:
        self.collect()
        node.dies_at = ""
        for _ in range(9):
            try:
                node.restart(batches=self.random.randint(0, len(node.engine.unflushed)))
            except Crash:
                continue  # within an install that this start finishes for the life before
            return

    def step(self) -> None:
        for node in self.nodes.values():
            try:
                if self.random.random() < 0.8:
                    node.turn()
            except Crash:
                self.down(node)
        arriving, self.way = self.way, []
        for each in arriving:
            if self.random.random() < 0.1:
                self.way.append(each)
            else:
                self.nodes[each[1]].host.receive(each[2])
        self.collect()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.act()
            self.step()
        self.heal()
        self.check()

    def heal(self) -> None:
        """End all faults; the group has to come back and bring everybody up to date."""
        self.cut = set()
        for node in self.nodes.values():
            node.dies_at = ""
        for _ in range(1_500):
            self.now_ms += 100
            for node in self.nodes.values():
                node.host.tick()
            for _ in range(6):
                self.step()
            leader = self.leader()
            if leader is None:
                continue
            members = leader.host.members(1).members
            applied = {self.nodes[each].host.applied()[1] for each in members}
            if len(applied) == 1 and not leader.host.has_work():
                return
        raise AssertionError("the group does not come back")

    def check(self) -> None:
        leader = self.leader()
        assert leader is not None
        self.same(*leader.host.members(1).members)
        self.seen["install"] += sum(node.installs for node in self.nodes.values())
        stored: Counter[tuple[bytes, bytes]] = Counter()
        stamps = {}
        prefix = family(1, VERSIONS)
        for row, value in leader.engine.scan(prefix, family_end(1, VERSIONS)):
            key, commit_ts = split_version_key(prefix, row)
            if key in KEYS:
                held = (key, decode_value(value))
                stored[held] += 1
                stamps[held] = commit_ts
        assert not stored or max(stored.values()) == 1, "applied twice"
        for token, held in self.written.items():
            result = self.results.get(token)
            if isinstance(result, Written):
                assert stamps.get(held) == result.commit_ts, "an acknowledged write is lost"
            elif isinstance(result, Refused) or (
                isinstance(result, WorkbenchError) and not isinstance(result, OutcomeUnknown)
            ):
                assert held not in stored, "a refused write took effect"


def test_no_schedule_breaks_a_promise_and_every_group_comes_back() -> None:
    seen: Counter[str] = Counter()
    for seed in range(12):
        world = World(seed)
        try:
            world.run(250)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        seen += world.seen
    assert min(seen[kind] for kind in ("Written", "GotMany", "OutcomeUnknown")) > 10, seen
    assert min(seen[kind] for kind in ("crash", "dies", "cut", "depose")) > 5, seen
    assert min(seen["install"], seen[MembersChanged.__name__]) > 2, seen


# -- planted faults: what the schedules above must find -------------------------------------------


def answers_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    def finish(self, now_ms):
        replies, messages = original(self, now_ms)
        for index, each in list(self._proposals.items()):
            if each.tokens and each.change is None:
                del self._proposals[index]
                written = Written(self.replica.ceiling, index)
                replies += [lane.Reply(token, written) for token in each.tokens]
        return replies, messages

    original = lane.Lane.finish
    patch.setattr(lane.Lane, "finish", finish)


def calls_what_was_lost_refused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lane, "leadership_lost", lane.not_leader)


def keeps_memory_over_an_install(patch: pytest.MonkeyPatch) -> None:
    def reload(self) -> None:
        bootstrapped = getattr(self, "_spans", None)
        original(self)
        if bootstrapped is not None:
            self._spans = bootstrapped

    original = Replica.reload
    patch.setattr(Replica, "reload", reload)


def tells_the_log_to_forget_what_is_not_flushed(patch: pytest.MonkeyPatch) -> None:
    def flush(self) -> None:
        pass

    patch.setattr("unit.test_host_world.LosingEngine.flush", flush)


PLANTED = [
    answers_before_the_commit,
    calls_what_was_lost_refused,
    keeps_memory_over_an_install,
    tells_the_log_to_forget_what_is_not_flushed,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(60):
        try:
            World(seed).run(250)
        except Exception:  # noqa: BLE001 - any end but a quiet one tells of the fault
            return
    pytest.fail(f"{plant.__name__} was not found in 60 schedules")
