"""One simulated node: the production host on a simulated disk, and everything a shell does.

    start ──▶ tick, receive, call ──▶ turn: begin ▸ keep ▸ send early ▸ append ▸ sync ▸ finish
      ▲                                        └────── the process may end before each ──┘
      └──────────── some time later ◀── crash: the disk loses what was not durable

Rules:
- The shell's duties are carried out in the order that `host.values.Turn` asks for. Before each of
  them, and before every write of the engine inside `finish`, the process may end.
- While a slow disk syncs, messages, calls and ticks go on, as they do in a real process.
- A paused process does nothing; what reaches it waits.

Which faults come is the world's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from workbench.errors import Unavailable, WorkbenchError
from workbench.host.host import Host
from workbench.host.start import start_group
from workbench.raft.core import Raft
from workbench.replica.raft_snapshot import EngineSnapshots
from workbench.sim.cluster_disk import Crash, SimEngine, SimLog, SimPieces
from workbench.sim.cluster_faults import SLOW_DISK_MS_MAX

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from workbench.host.values import Reply, Turn
    from workbench.ports.consensus import Configuration
    from workbench.ports.peers import GroupMessage
    from workbench.ports.storage import GroupLog
    from workbench.replica.commands import Bootstrap, Command, Read
    from workbench.sim.cluster_auditor import Auditor
    from workbench.sim.cluster_faults import ClusterProfile
    from workbench.sim.cluster_network import Network
    from workbench.sim.cluster_time import Agenda

CATALOG_GROUP: Final = 1
START_MS: Final = 1_767_323_045_000
TICK_US: Final = 100_000
TURN_US_MAX: Final = 2_000
INSTALL_EFFECTS: Final = 12
FLUSH_US_MAX: Final = 500_000
READS: Final = frozenset({"GetMany", "ScanPage", "LatestCommitTs", "ListCatalog"})


class Surroundings(Protocol):
    """What a node lives in."""

    agenda: Agenda
    random: random.Random
    profile: ClusterProfile
    rates: Mapping[str, float]
    faults: Counter[str]
    auditor: Auditor
    network: Network
    first: Configuration
    bootstraps: dict[int, Bootstrap]

    def note(self, what: str) -> None:
        """Add to the trace."""
        ...

    def replied(self, node: SimNode, reply: Reply) -> None:
        """Take an answer to a call."""
        ...

    def ended(self, node: SimNode) -> None:
        """Take note that a process has ended."""
        ...


class SimNode:
    """One node over all its lives, until its disk is lost.

    Args:
        world: Where it lives.
        node: Its id.

    Attributes:
        host: Of the process that runs; None while none does.
        rafts: Of its groups.
        life: Number of the process.
        ended_us: When its newest process ended that did.
        paused_until_us: Until then the process stands still.
        offset_ms: By how much its clock is wrong.
        gone: Whether its disk is lost.
        countdown: The process ends before so many effects from now; 0 for never.
    """

    def __init__(self, world: Surroundings, node: int) -> None:
        self.node: Final = node
        self._world = world
        groups = sorted(world.bootstraps)
        self.log = SimLog(node, groups, self.effect, world.auditor)
        self.engine = SimEngine(node, self.effect, world.auditor)
        self.pieces = {group: SimPieces(self.effect) for group in groups}
        self.host: Host | None = None
        self.rafts: dict[int, Raft] = {}
        self.life = 0
        self.ended_us = 0
        self.paused_until_us = 0
        self.offset_ms = 0
        self.gone = False
        self.countdown = 0
        self._snapshots: dict[int, EngineSnapshots] = {}
        self._turn: Turn | None = None
        self._woken = False
        self._flushing = False
        world.auditor.logs[node] = self.log.kept

    @property
    def now_ms(self) -> int:
        """What its clock shows."""
        return START_MS + self._world.agenda.now_us // 1_000 + self.offset_ms

    @property
    def paused(self) -> bool:
        """Whether the process stands still."""
        return self._world.agenda.now_us < self.paused_until_us

    @property
    def is_open(self) -> bool:
        """Whether a turn waits for its disk."""
        return self._turn is not None

    def effect(self, kind: str) -> None:
        """Stand at the boundary before an effect; the process may end here."""
        if self.countdown:
            self.countdown -= 1
            if not self.countdown:
                self._world.faults[f"crash before {kind}"] += 1
                raise Crash

    def start(self, _: object = None) -> None:
        """Start a process on what the disk holds."""
        if self.gone or self.host is not None:
            return
        world = self._world
        self.life += 1
        try:
            groups = {}
            for number, log in self.log.groups().items():
                self._snapshots[number] = EngineSnapshots(number, self.engine, self.pieces[number])
                groups[number] = start_group(
                    self.node,
                    number,
                    self.engine,
                    _or_none(log),
                    members=world.first,
                    is_catalog=number == CATALOG_GROUP,
                    bootstrap=world.bootstraps[number],
                    snapshots=self._snapshots[number],
                    draw=world.random.randrange,
                    election_ticks=world.profile.election_ticks,
                )
        except Crash:
            self.crash()
            return
        self.host = Host(groups)
        self.rafts = {
            number: group.consensus
            for number, group in groups.items()
            if isinstance(group.consensus, Raft)
        }
        world.auditor.started(self.node, self.rafts, self.host.applied())
        world.note(f"n{self.node} starts {self.host.applied()}")
        world.agenda.after(int(TICK_US * world.random.random()), self._tick, self.life)

    def crash(self) -> None:
        """End the process where it stands; its disk loses what was not durable."""
        world = self._world
        self.host, self._turn, self.rafts = None, None, {}
        self.countdown = 0
        self._woken = self._flushing = False
        self.log.crash(world.random, world.faults)
        self.engine.crash(world.random, world.faults)
        for pieces in self.pieces.values():
            pieces.crash(world.random)
        world.auditor.stopped(self.node)
        self.ended_us = world.agenda.now_us
        world.note(f"n{self.node} ends")
        world.ended(self)

    def receive(self, messages: Sequence[GroupMessage]) -> None:
        """Take messages from the network."""
        if self.host is not None:
            self.host.receive(messages)
            self._step()

    def call(self, group: int, asked: Command | Read, token: int) -> bool:
        """Hand a call to the host; tell whether there is one, or refuse as it does.

        Raises:
            WorkbenchError: the host refused it; nothing was done.
        """
        if self.host is None:
            return False
        if type(asked).__name__ in READS:
            self.host.read(group, asked, token)  # type: ignore[arg-type]
        else:
            self.host.propose(group, asked, token)  # type: ignore[arg-type]
        self.wake()
        return True

    def wake(self) -> None:
        """Take a turn soon, if there is anything to do."""
        if self.host is not None and not self._woken and self._turn is None:
            self._woken = True
            world = self._world
            delay_us = int(world.random.random() ** 2 * TURN_US_MAX)
            world.agenda.after(delay_us, self._turn_due, self.life)

    def flush(self) -> None:
        """Begin to flush the engine; the log is cut when that is done."""
        if self.host is not None and not self._flushing:
            self._flushing = True
            applied = dict(self.host.applied())
            delay_us = int(self._world.random.random() ** 3 * FLUSH_US_MAX)
            begun = self.life, applied, self.engine.mark
            self._world.agenda.after(delay_us, self._flushed, begun)

    # -- events ----------------------------------------------------------------------------------

    def _tick(self, life: object) -> None:
        if life != self.life or self.host is None:
            return
        world = self._world
        if self.paused:
            world.agenda.after(self._pause_us(), self._tick, life)
            return
        self.host.tick()
        self._step()
        world.agenda.after(int(TICK_US * (0.95 + 0.1 * world.random.random())), self._tick, life)

    def _turn_due(self, life: object) -> None:
        if life != self.life:
            return
        self._woken = False
        if self.paused:
            self._woken = True
            self._world.agenda.after(self._pause_us(), self._turn_due, life)
        else:
            self._step()

    def _synced(self, life: object) -> None:
        host, turn = self.host, self._turn
        if life != self.life or host is None or turn is None:
            return
        if self.paused:
            self._world.agenda.after(self._pause_us(), self._synced, life)
            return
        try:
            self.log.sync()
            self._finish(host, turn)
        except Crash:
            self.crash()
        else:
            self._after_turn()

    def _flushed(self, argument: tuple[int, Mapping[int, int], int]) -> None:
        life, applied, mark = argument
        if life != self.life or self.host is None:
            return
        if self.paused:
            self._world.agenda.after(self._pause_us(), self._flushed, argument)
            return
        self._flushing = False
        try:
            self.engine.end_flush(mark)
            cut = self.host.flushed(applied)
            if cut:
                self._world.auditor.reached["log cut"] += 1
                self.log.compact(cut)
        except Crash:
            self.crash()

    # -- a turn ----------------------------------------------------------------------------------

    def _step(self) -> None:
        """Take a turn now, unless one is open or there is nothing to do."""
        host, world = self.host, self._world
        if host is None or self._turn is not None or not host.has_work():
            return
        try:
            turn = self._turn = host.begin(self.now_ms)
            self._write(turn)
            if turn.must_sync:
                slow = world.rates.get("slow_disk", 0.0)
                if slow and world.random.random() < slow:
                    world.faults["slow_disk"] += 1
                    delay_us = int(world.random.random() ** 3 * SLOW_DISK_MS_MAX * 1_000)
                    world.agenda.after(delay_us, self._synced, self.life)
                    return
                self.log.sync()
            self._finish(host, turn)
        except Crash:
            self.crash()
        else:
            self._after_turn()

    def _write(self, turn: Turn) -> None:
        """Carry out what a turn asks for before its sync."""
        for each in turn.chunks:
            self._snapshots[each.group].keep(each.chunk)
        for group in dict.fromkeys(each.group for each in turn.chunks):
            self._snapshots[group].sync()
        if turn.early:
            self._send(turn.early)
        if turn.writes:
            if any(write.reset is not None for write in turn.writes):
                self._near_an_install()
            self.log.append(turn.writes)

    def _near_an_install(self) -> None:
        """End the process within an install, now and then: its effects are rare."""
        world = self._world
        if not self.countdown and world.random.random() < 2 * world.rates.get("crash", 0.0):
            self.countdown = world.random.randint(1, INSTALL_EFFECTS)

    def _finish(self, host: Host, turn: Turn) -> None:
        finished = host.finish(turn, self.now_ms)
        self._turn = None
        if finished.messages:
            for batch in finished.messages.values():
                self._world.auditor.sent(self.node, batch)
            self._send(finished.messages)
        if finished.replies:
            self.effect("reply")
            for reply in finished.replies:
                self._world.replied(self, reply)

    def _after_turn(self) -> None:
        if self.host is None:
            return
        self._world.auditor.look(self.node)
        self._world.note(self.described())
        if self.host.has_work():
            self.wake()

    def _send(self, outgoing: Mapping[int, Sequence[GroupMessage]]) -> None:
        for receiver, batch in outgoing.items():
            self.effect("send")
            self._world.network.send(self.node, receiver, tuple(batch))

    def described(self) -> str:
        """Return roles, terms and indexes, for the trace."""
        return f"n{self.node} " + " ".join(
            f"g{number}:{raft.role.value[0]}{raft.term}:{raft.applied}/{raft.commit}"
            f"/{raft.log.last_index}"
            for number, raft in self.rafts.items()
        )

    def _pause_us(self) -> int:
        return self.paused_until_us - self._world.agenda.now_us


def refused(group: int) -> WorkbenchError:
    """Return the error of a call to a process that is not there."""
    return Unavailable(f"nobody answers for group {group}", code="node_unreachable")


def _or_none(log: GroupLog) -> GroupLog | None:
    """Return None for a group that the log does not know yet, as a log on files would."""
    fresh = log.last_index == 0 and log.hard_state.term == 0
    return None if fresh else log
