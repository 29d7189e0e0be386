"""One schedule: nodes, clients, operators and misfortune, all from one seed.

    clients ──▶ SimNode ◀── Nemesis, Operators        every event is one step
                 │   ▲
                 ▼   │
        SimLog SimEngine SimPieces   Network ──▶ Auditor, History ──▶ Violation

A schedule has two phases. In the first, faults come as the seed's profile says. Then they stop:
cuts heal, processes start and run on, clocks show the same time, later than any before; what is
dead is taken out of the groups. From then on every group must elect, and acknowledge a write and a
read of every kind to every probe, within a bound; all members must come to the same state, and all
that was ever told must still hold.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workbench.errors import Unavailable, WorkbenchError
from workbench.host import lane
from workbench.host.values import MembersChanged, Reply
from workbench.model.keys import Span
from workbench.model.routes import RouteDescriptor
from workbench.ports.consensus import Configuration
from workbench.ports.peers import SnapshotChunk
from workbench.raft import leading, progress
from workbench.replica import dedupe, raft_snapshot
from workbench.replica.commands import Bootstrap, OwnedSpan
from workbench.sim.cluster_auditor import Auditor, compare_logs
from workbench.sim.cluster_clients import Client
from workbench.sim.cluster_faults import CLOCK_JUMP_MS, DOWN_MS_MAX, ClusterProfile
from workbench.sim.cluster_history import History, Violation
from workbench.sim.cluster_nemesis import befall, dead, leader_of
from workbench.sim.cluster_network import Network
from workbench.sim.cluster_node import CATALOG_GROUP, SimNode
from workbench.sim.cluster_probe import Probe
from workbench.sim.cluster_time import Agenda

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workbench.ports.peers import GroupMessage, Message
    from workbench.sim.cluster_history import Operation

BOUNDS: Final = (b"", b"h", b"q")
FULL_CHECK_STEPS: Final = 64
# How often a sender learns that a process is not there: by a refused connection.
REFUSED_SHARE: Final = 0.5
LIVE_STEPS_MAX: Final = 6_000
LIVE_LOOK_STEPS: Final = 16
PROBE_THINK_US: Final = 50_000
# Above every clock and every ceiling that faults could bring about.
CALM_AHEAD_MS: Final = 2 * CLOCK_JUMP_MS + 1_000
STEPS_BETWEEN_CHANGES: Final = 60


@dataclass(frozen=True, slots=True)
class ClusterOutcome:
    """What one schedule did.

    Attributes:
        seed: Which.
        trace_sha256: Over every step; equal for equal seeds and code.
        steps: Until the faults stopped, and after.
        checks: Of the auditor and the history.
        entries: That took effect, over all groups.
        faults: By kind.
        ends: How clients' operations ended.
        operations: What operators did.
        reached: How often what is rare came up, by kind.
        violation: What broke; None where nothing did.
    """

    seed: int
    trace_sha256: str
    steps: int
    checks: int
    entries: int
    faults: Counter[str]
    ends: Counter[str]
    operations: Counter[str]
    reached: Counter[str]
    violation: str | None

    def sums(self) -> Mapping[str, int]:
        """Return what else is counted."""
        return {"entries applied": self.entries}

    def counts(self) -> Mapping[str, Counter[str]]:
        """Return what is counted by kind."""
        return {
            "clients": self.ends,
            "operators": self.operations,
            "reached": self.reached,
            "faults": self.faults,
        }


class World:
    """All of one schedule.

    Args:
        seed: Decides everything.
        tell: Told of every step as a line of text, for a person who replays a seed.
        profile: In place of the one that the seed draws.
    """

    def __init__(
        self,
        seed: int,
        tell: Callable[[str], None] | None = None,
        profile: ClusterProfile | None = None,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        drawn = ClusterProfile.of(seed, self.random)
        self.profile = profile or drawn
        self.rates = self.profile.rates
        self.agenda = Agenda(self.random)
        self.faults: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        groups = range(CATALOG_GROUP, CATALOG_GROUP + self.profile.groups)
        bounds = (*BOUNDS[: len(groups)], None)
        self.spans = {
            group: Span(bounds[at] or b"", bounds[at + 1]) for at, group in enumerate(groups)
        }
        seeds = tuple(RouteDescriptor(group, span, group) for group, span in self.spans.items())
        self.bootstraps: dict[int, Bootstrap] = {
            group: Bootstrap((OwnedSpan(span, group),), seeds if group == CATALOG_GROUP else ())
            for group, span in self.spans.items()
        }
        self.first = Configuration(frozenset(range(1, self.profile.nodes + 1)))
        self.history = History(groups)
        self.auditor = Auditor(self.first, groups, self.history)
        self.network = Network(self.agenda, self.random, self.rates, self.faults, self._deliver)
        self.nodes: dict[int, SimNode] = {}
        self.clients: list[Client] = []
        self.asked: dict[int, tuple[SimNode, int, Configuration]] = {}
        self._expected: dict[int, tuple[Client, Operation, int]] = {}
        self._tokens = 0
        self._calm = False
        self._lines: list[str] = []
        self._tell = tell

    def run(self) -> ClusterOutcome:
        """Play the schedule, and return what came of it; never raises Violation."""
        violation = None
        try:
            for _ in range(self.profile.nodes + self.profile.spares):
                self.add_node()
            think_us = self.random.choice((5_000, 20_000, 100_000, 400_000))
            for number in range(self.profile.clients):
                client = Client(self, number, think_us)
                self.clients.append(client)
                self.agenda.after(int(self.random.random() * 600_000), client.go_on, 0)
            while self.agenda.steps < self.profile.steps:
                self._step()
                if self.random.random() < self.profile.hazard:
                    befall(self)
            self._live()
            self._check_whole()
            self.history.finish()
            self._check_end()
        except Violation as error:
            violation = str(error)
        except WorkbenchError as error:
            violation = f"a process stops: {error.code}: {error.message}"
        except AssertionError as error:
            violation = f"an assertion fails: {_where(error)}"
        except Exception as error:  # noqa: BLE001 - whatever a process dies of is a finding
            violation = f"a process fails by a bug: {error!r}, {_where(error)}"
        return self._outcome(violation)

    # -- what the others need --------------------------------------------------------------------

    def note(self, what: str) -> None:
        """Add to the trace."""
        line = f"{self.agenda.now_us} {what}"
        self._lines.append(line)
        if self._tell is not None:
            self._tell(line)

    def add_node(self) -> SimNode:
        """Add a node that is a member of nothing, or a founding member."""
        node = SimNode(self, max(self.nodes, default=0) + 1)
        self.nodes[node.node] = node
        node.start()
        return node

    def some_node(self) -> SimNode:
        """Return a node that is not gone."""
        return self.random.choice([each for each in self.nodes.values() if not each.gone])

    def expect(self, client: Client, operation: Operation, epoch: int) -> int:
        """Return a token for a call; its answer goes to `client.hear`."""
        self._tokens += 1
        self._expected[self._tokens] = client, operation, epoch
        return self._tokens

    def operate(self, kind: str) -> int:
        """Return the token for an operator's call."""
        self._tokens += 1
        self.operations[kind] += 1
        return self._tokens

    def replied(self, node: SimNode, reply: Reply) -> None:
        """Take an answer to a call."""
        expected = self._expected.pop(reply.token, None)
        if expected is None:
            self.asked.pop(reply.token, None)
            result = reply.result
            if isinstance(result, MembersChanged):
                self.auditor.reached["members changed"] += 1
            elif isinstance(result, WorkbenchError):
                self.operations[f"member {result.code}"] += 1
            return
        client, operation, epoch = expected
        self.history.answered(operation, reply.result)
        if self.rates and self.random.random() < self.rates.get("lost_reply", 0.0):
            self.faults["lost_reply"] += 1
            return
        client.hear(epoch, reply.result)

    def ended(self, node: SimNode) -> None:
        """Have a process that ended start again after a while."""
        self.faults["process ended"] += 1
        delay_us = 0 if self._calm else int(self.random.random() ** 2 * DOWN_MS_MAX * 1_000)
        self.agenda.after(delay_us, node.start)

    # -- the phases ------------------------------------------------------------------------------

    def _step(self) -> None:
        self.agenda.step()
        if self.agenda.steps % FULL_CHECK_STEPS == 0:
            self._check_whole()

    def _deliver(self, arrival: tuple[int, int, tuple[GroupMessage, ...]]) -> None:
        sender, receiver, batch = arrival
        node = self.nodes[receiver]
        if node.host is None:
            from_ = self.nodes[sender].host
            if from_ is not None and self.random.random() < REFUSED_SHARE:
                from_.unreachable(receiver)
            return
        if node.paused:
            # What reaches a process that stands still waits in its socket.
            wait_us = node.paused_until_us - self.agenda.now_us
            self.agenda.after(wait_us, self._deliver, arrival)
            return
        self.note(f"n{sender} to n{receiver} {len(batch)}")
        if self._tell is not None:
            for each in batch:
                self._tell(f"    g{each.group} {_shown(each.message)}")
        node.receive(batch)

    def _live(self) -> None:
        """Stop the faults; what is left must come to rest, all clients answered."""
        self.note("calm")
        self._calm = True
        self.rates = self.network.rates = {}
        self.network.cuts.clear()
        for node in self.nodes.values():
            node.countdown = node.paused_until_us = 0
            node.offset_ms = CALM_AHEAD_MS
            node.start()
        for client in self.clients:
            client.resting = True
        probes = [Probe(self, len(self.clients) + at, PROBE_THINK_US) for at in range(2)]
        for probe in probes:
            self.agenda.after(0, probe.go_on, 0)
        until = self.agenda.steps + LIVE_STEPS_MAX
        changed = 0
        while self.agenda.steps < until:
            self._step()
            if self.agenda.steps % LIVE_LOOK_STEPS == 0:
                if self._is_settled(probes):
                    return
                if self.agenda.steps - changed > STEPS_BETWEEN_CHANGES and self._bury():
                    changed = self.agenda.steps
        lacks = sorted({what for probe in probes for what in probe.lacks})
        raise Violation(
            f"not settled {LIVE_STEPS_MAX} steps after the faults: {self._state()}; "
            f"not acknowledged: {', '.join(lacks) or 'nothing'}"
        )

    def _is_settled(self, probes: Sequence[Probe]) -> bool:
        """Tell whether all was acknowledged, and all members stand where the leader does."""
        if any(client.busy for client in (*self.clients, *probes)):
            return False
        if any(probe.lacks for probe in probes):
            return False
        gone = dead(self)
        for group in self.spans:
            leader = leader_of(self, group)
            if leader is None or leader.host is None or not leader.host.status(group).serving:
                return False
            raft = leader.rafts[group]
            for member in raft.configuration.members:
                node = self.nodes[member]
                if member in gone or group not in node.rafts:
                    return False
                if node.rafts[group].applied != raft.last_index:
                    return False
        return True

    def _bury(self) -> bool:
        """Have a dead member taken out of its group, where it can be; tell whether it was asked."""
        gone = dead(self)
        for group in self.spans:
            leader = leader_of(self, group)
            if leader is None or leader.host is None:
                continue
            if not leader.host.status(group).serving:
                continue
            members = leader.host.members(group)
            lost = sorted(members.members & gone)
            if lost:
                wanted = Configuration(members.voters - {lost[0]}, members.learners - {lost[0]})
                try:
                    leader.host.change_members(group, wanted, self.operate("member"))
                except Unavailable as error:  # its queue is full of changes: ask again later
                    self.operations[f"member {error.code}"] += 1
                leader.wake()
                return True
        return False

    # -- checks ----------------------------------------------------------------------------------

    def _check_whole(self) -> None:
        """Compare everything that is compared piecemeal as it happens."""
        for node in self.nodes.values():
            if node.host is not None and not node.is_open:
                self.auditor.checks += 1
                node.host.check_invariants()
        compare_logs(self.auditor)

    def _check_end(self) -> None:
        """See that all members hold the same rows, and the auditor's versions among them."""
        for group in self.spans:
            leader = leader_of(self, group)
            if leader is None:
                raise Violation(f"nobody leads group {group} in the end")
            raft = leader.rafts[group]
            digests = {
                member: self.nodes[member].engine.digest(group)
                for member in sorted(raft.configuration.members)
            }
            self.auditor.checks += len(digests)
            if len(set(digests.values())) != 1:
                raise Violation(f"members of group {group} end with different rows")
            self.history.compare(group, leader.engine.rows)

    def _state(self) -> str:
        busy = [f"client {at}" for at, client in enumerate(self.clients) if client.busy]
        nodes = [node.described() for node in self.nodes.values()]
        return "; ".join([*nodes, *busy])

    def _outcome(self, violation: str | None) -> ClusterOutcome:
        text = "\n".join([*self._lines, violation or ""])
        return ClusterOutcome(
            seed=self.seed,
            trace_sha256=hashlib.sha256(text.encode()).hexdigest(),
            steps=self.agenda.steps,
            checks=self.auditor.checks + self.history.checks,
            entries=sum(audit.newest for audit in self.auditor.groups.values()),
            faults=self.faults,
            ends=self.history.ended,
            operations=self.operations,
            reached=self.auditor.reached,
            violation=violation,
        )


@contextmanager
def tuned(profile: ClusterProfile) -> Iterator[None]:
    """Run with short logs and small pieces, so that raft_snapshots come up; undone at the end."""
    changes = (
        (lane, "LOG_KEEP_ENTRIES", profile.keep_entries),
        (raft_snapshot, "PIECE_BYTES", profile.snapshot_bytes),
        (leading, "REQUEST_BYTES_MAX", profile.request_bytes),
        (progress, "INFLIGHT_REQUESTS_MAX", profile.inflight_requests),
        (dedupe, "DEDUPE_SEQUENCES_MAX", profile.dedupe_sequences),
    )
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def play(seed: int, tell: Callable[[str], None] | None = None) -> ClusterOutcome:
    """Play the schedule of a seed.

    Args:
        seed: Which.
        tell: Told of every step, for people.
    """
    world = World(seed, tell)
    with tuned(world.profile):
        return world.run()


def _shown(message: Message) -> str:
    """Return a message for people: a piece of a raft_snapshot by its size."""
    if not isinstance(message, SnapshotChunk):
        return str(message)
    last = ", the last" if message.done else ""
    return (
        f"SnapshotChunk(term={message.term}, {message.meta}, offset={message.offset}, "
        f"{len(message.data)} bytes{last})"
    )


def _where(error: BaseException) -> str:
    """Return the innermost place of an error, without line numbers' files' paths."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return str(error)
    code = trace.tb_frame.f_code
    return f"{error} at {code.co_qualname} line {trace.tb_lineno}"
