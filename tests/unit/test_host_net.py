"""Several nodes in one process over a perfect network; logs, engines and pieces can be lost.

Shared by the tests of a host with many voters; the tests here are of the world itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unit.test_host_world import START_MS, LosingEngine, MemoryLog

from workbench.host.host import Host
from workbench.host.start import start_group
from workbench.model.keys import Span
from workbench.model.limits import CEILING_AHEAD_MS
from workbench.model.node import Written
from workbench.model.routes import RouteDescriptor
from workbench.ports.consensus import Configuration
from workbench.replica.commands import Bootstrap, Mutation, OwnedSpan, WriteBatch
from workbench.replica.raft_snapshot import EngineSnapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workbench.host.host import Turn
    from workbench.host.values import Group, Reply
    from workbench.ports.peers import GroupMessage

SEED = RouteDescriptor(1, Span(b"", None), 1)
FIRST = Configuration(frozenset({1, 2, 3}))


class Crash(BaseException):
    """The machine of one node goes down."""


class MemoryPieces:
    """`SnapshotPieces` that keep nothing unsynced over a crash."""

    def __init__(self) -> None:
        self.durable: list[bytes] = []
        self.pieces: list[bytes] = []

    def keep(self, offset: int, data: bytes) -> None:
        if offset == 0:
            self.pieces = []
        assert offset == sum(map(len, self.pieces))
        self.pieces = [*self.pieces, data]

    def sync(self) -> None:
        self.durable = self.pieces

    def kept(self) -> Iterator[bytes]:
        return iter(self.pieces)

    def discard(self) -> None:
        self.durable = self.pieces = []

    def after_crash(self) -> None:
        self.pieces = self.durable


class Node:
    """One node of the net, over all its lives.

    `dies_at` names the step of a turn, or the number of the engine's write in an install, at
    which the node goes down.
    """

    def __init__(self, number: int, net: Net) -> None:
        self.number, self.net = number, net
        self.log = MemoryLog(net.groups)
        self.engine = LosingEngine()
        self.pieces = {group: MemoryPieces() for group in net.groups}
        self.dies_at = ""
        self.replies: dict[int, object] = {}
        self.installs = 0
        self.start()

    def start(self) -> None:
        self.groups: dict[int, Group] = {}
        for group, found in self.log.groups().items():
            snapshots = EngineSnapshots(group, self.engine, self.pieces[group])
            self.groups[group] = start_group(
                self.number,
                group,
                self.engine,
                found,
                members=self.net.first,
                is_catalog=group == 1,
                bootstrap=bootstrap_of(group, len(self.net.groups)),
                snapshots=snapshots,
                draw=lambda _: 2 * self.number % 7,
            )
            self.watch(snapshots)
        self.host = Host(self.groups)

    def watch(self, snapshots: EngineSnapshots) -> None:
        install = snapshots.install

        def watched(meta) -> None:
            self.reach("install")
            self.installs += 1
            write, flush, writes = self.engine.write, self.engine.flush, 0

            def counted(changes) -> None:
                nonlocal writes
                writes += 1
                write(changes)
                self.reach(f"install write {writes}")

            def flushed() -> None:
                self.reach("install flush")
                flush()
                self.reach("install flushed")

            self.engine.write, self.engine.flush = counted, flushed
            try:
                install(meta)
            finally:
                self.engine.write, self.engine.flush = write, flush
            self.reach("installed")

        snapshots.install = watched

    def reach(self, step: str) -> None:
        self.net.reached.append(step)
        if self.dies_at == step:
            self.dies_at = ""
            raise Crash

    def turn(self) -> None:
        if not self.host.has_work():
            return
        now_ms = self.net.now_ms
        turn = self.host.begin(now_ms)
        self.net.send(self.number, turn.early)
        self.reach("begun")
        self.carry_out(turn)
        finished = self.host.finish(turn, now_ms)
        for reply in finished.replies:
            self.take(reply)
        self.net.send(self.number, finished.messages)
        self.host.check_invariants()

    def carry_out(self, turn: Turn) -> None:
        for each in turn.chunks:
            snapshots = self.groups[each.group].snapshots
            snapshots.keep(each.chunk)
            self.reach("piece kept")
            snapshots.sync()
            self.reach("last piece synced" if each.chunk.done else "piece synced")
        assert all(w.hard_state or w.entries or w.reset for w in turn.writes), "an empty record"
        self.log.append(turn.writes)
        reset = any(write.reset for write in turn.writes)
        if turn.must_sync:
            self.reach("reset appended" if reset else "appended")
            self.log.sync()
            self.reach("reset synced" if reset else "synced")

    def take(self, reply: Reply) -> None:
        assert reply.token not in self.replies
        self.replies[reply.token] = reply.result

    def restart(self, *, batches: int = 0) -> None:
        """Start again with what is durable, and so many unflushed batches of the engine."""
        self.log = self.log.after_crash()
        self.engine = self.engine.after_crash(batches)
        for pieces in self.pieces.values():
            pieces.after_crash()
        self.net.forget(self.number)
        self.start()

    def rows(self) -> dict[bytes, bytes]:
        return self.engine.rows


class Net:
    """Nodes, what is under way between them, and whom it does not reach."""

    def __init__(
        self, nodes: int = 3, *, groups: tuple[int, ...] = (1,), first: Configuration | None = None
    ) -> None:
        self.groups = groups
        self.first = first or Configuration(frozenset(range(1, nodes + 1)))
        self.now_ms = START_MS
        self.way: list[tuple[int, int, tuple[GroupMessage, ...]]] = []
        self.batches: list[tuple[int, int, tuple[GroupMessage, ...]]] = []
        self.cut: set[int] = set()
        self.reached: list[str] = []
        self.token = 0
        self.nodes = {number: Node(number, self) for number in range(1, nodes + 1)}

    def send(self, sender: int, batches) -> None:
        for receiver, batch in batches.items():
            assert batch
            assert all(each.message.receiver == receiver for each in batch)
            self.batches.append((sender, receiver, batch))
            if not self.cut & {sender, receiver}:
                self.way.append((sender, receiver, batch))

    def forget(self, node: int) -> None:
        self.way = [each for each in self.way if node not in each[:2]]

    def step(self) -> None:
        """One turn of every node, then everything arrives."""
        for node in self.nodes.values():
            try:
                node.turn()
            except Crash:
                node.restart()
        arriving, self.way = self.way, []
        for _, receiver, batch in arriving:
            self.nodes[receiver].host.receive(batch)

    def settle(self) -> Net:
        """Take turns until nothing is left to do."""
        for _ in range(300):
            if not self.way and not any(node.host.has_work() for node in self.nodes.values()):
                return self
            self.step()
        raise AssertionError("the net never rests")

    def tick(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.now_ms += 100
            for node in self.nodes.values():
                node.host.tick()
            self.settle()

    def until(self, condition: Callable[[], object], ticks: int = 200) -> Net:
        for _ in range(ticks):
            if condition():
                return self
            self.tick()
        raise AssertionError("it never comes to that")

    def leader(self, group: int = 1) -> Node | None:
        """The node that serves a group, of the newest term."""
        serving = [
            (node.host.status(group).term, number)
            for number, node in self.nodes.items()
            if node.host.status(group).serving
        ]
        return self.nodes[max(serving)[1]] if serving else None

    def elect(self) -> Node:
        """Tick until one of those who are reached leads every group, and return who leads 1."""
        self.until(
            lambda: all(
                (leader := self.leader(group)) is not None and leader.number not in self.cut
                for group in self.groups
            )
        )
        leader = self.leader()
        assert leader is not None
        return leader

    def propose(self, node: Node, key: bytes, value: bytes = b"v", group: int = 1) -> int:
        self.token += 1
        node.host.propose(group, put(key, value), self.token)
        return self.token

    def write(self, count: int, prefix: bytes = b"k", client_id: bytes = b"") -> None:
        """Have the leader commit so many entries."""
        leader = self.elect()
        self.now_ms += CEILING_AHEAD_MS  # a new leader stamps above all that the old one might
        for number in range(count):
            self.token += 1
            mutations = (Mutation(prefix + b"%d" % number, b"v"),)
            batch = WriteBatch(mutations, client_id, number + 1 if client_id else 0)
            leader.host.propose(1, batch, self.token)
            self.settle()
            assert isinstance(leader.replies[self.token], Written)
        self.tick()  # the last to answer hears at the next heartbeat how far it has committed

    def same(self, *numbers: int) -> None:
        """Assert that these nodes, or all, hold the same rows."""
        chosen = numbers or tuple(self.nodes)
        first, *others = (self.nodes[number].rows() for number in chosen)
        for rows in others:
            assert rows == first


def put(key: bytes, value: bytes = b"v") -> WriteBatch:
    return WriteBatch((Mutation(key, value),))


def bootstrap_of(group: int, groups: int) -> Bootstrap:
    """The first group owns everything where it is alone, else each its own letter."""
    span = Span(b"", None) if groups == 1 else Span(b"%c" % (96 + group), b"%c" % (97 + group))
    return Bootstrap((OwnedSpan(span, group),), (SEED,) if group == 1 else ())


def test_a_net_elects_a_leader_and_all_apply_the_same() -> None:
    net = Net()
    net.write(3)
    net.same()
    leads = [node.host.status(1).role for node in net.nodes.values()]
    assert sorted(leads) == ["follower", "follower", "leader"]


def test_pieces_that_were_not_synced_are_lost() -> None:
    pieces = MemoryPieces()
    pieces.keep(0, b"one")
    pieces.sync()
    pieces.keep(3, b"two")
    pieces.after_crash()
    assert [*pieces.kept()] == [b"one"]


def test_a_node_can_go_down_at_any_step() -> None:
    net = Net()
    net.elect()
    net.nodes[2].dies_at = "appended"
    before = net.nodes[2].host
    net.write(1)
    assert net.nodes[2].host is not before
    assert "synced" in net.reached
