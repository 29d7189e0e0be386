"""What befalls a cluster from outside, and what its operators do to it.

    Nemesis ── crash, pause, clock jump, cut, isolate, wipe ──▶ nodes and network
    Operators ── members, transfers, flushes ────────────────▶ hosts, as a shell would ask them

Rules:
- A disk is lost for good only where every configuration that may come into force keeps a majority
  of living voters, and operators never ask for one that would not: what cannot come back is not
  worth simulating.
- A node whose disk is lost never comes back; a node with a new id comes in its place, as a member
  of nothing.
- Now and then operators ask for what must be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from workbench.errors import WorkbenchError
from workbench.ports.consensus import Configuration, Role
from workbench.raft.membership import majority
from workbench.sim.cluster_faults import CLOCK_JUMP_MS, DELAY_MS_MAX, PAUSE_MS_MAX

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable, Mapping

    from workbench.sim.cluster_auditor import Auditor
    from workbench.sim.cluster_faults import ClusterProfile
    from workbench.sim.cluster_network import Network
    from workbench.sim.cluster_node import SimNode
    from workbench.sim.cluster_time import Agenda

EFFECTS_MAX: Final = 14
# So long after a process ended, a change of the members that it proposed may still arrive.
UNDER_WAY_US: Final = (DELAY_MS_MAX + PAUSE_MS_MAX + 500) * 1_000


class Stage(Protocol):
    """What they act upon."""

    agenda: Agenda
    random: random.Random
    profile: ClusterProfile
    rates: Mapping[str, float]
    faults: Counter[str]
    operations: Counter[str]
    auditor: Auditor
    network: Network
    nodes: dict[int, SimNode]
    # By token: changes of members that a process was asked for, and in which of its lives.
    asked: dict[int, tuple[SimNode, int, Configuration]]

    def note(self, what: str) -> None:
        """Add to the trace."""
        ...

    def operate(self, kind: str) -> int:
        """Return the token for an operator's call."""
        ...

    def add_node(self) -> SimNode:
        """Add a node that is a member of nothing."""
        ...


def befall(stage: Stage) -> None:
    """Let happen what the rates say."""
    draw = stage.random.random
    for kind, action in _ACTIONS.items():
        rate = stage.rates.get(kind, 0.0)
        if rate and draw() < rate:
            action(stage)


def dead(stage: Stage) -> set[int]:
    """Return the nodes whose disks are lost."""
    return {node for node, each in stage.nodes.items() if each.gone}


def leader_of(stage: Stage, group: int) -> SimNode | None:
    """Return the leader of the newest term, of the processes that run."""
    leaders = [
        (raft.term, node)
        for node, each in stage.nodes.items()
        for number, raft in each.rafts.items()
        if number == group and raft.role is Role.LEADER
    ]
    return stage.nodes[max(leaders)[1]] if leaders else None


def is_alive(configuration: Configuration, gone: set[int]) -> bool:
    """Tell whether a majority of the voters can still come back."""
    return len(configuration.voters - gone) >= majority(configuration)


def _living(stage: Stage) -> SimNode:
    return stage.random.choice([each for each in stage.nodes.values() if not each.gone])


def _victim(stage: Stage) -> SimNode:
    """Return a node, more often one that leads."""
    if stage.random.random() < 0.4:
        leader = leader_of(stage, stage.random.choice(list(stage.auditor.groups)))
        if leader is not None:
            return leader
    return _living(stage)


def _crash(stage: Stage) -> None:
    """End a process before one of its next effects."""
    node = _victim(stage)
    if not node.countdown:
        node.countdown = stage.random.randint(1, EFFECTS_MAX)


def _crash_all(stage: Stage) -> None:
    for node in stage.nodes.values():
        if node.host is not None:
            stage.faults["crash_all"] += 1
            node.crash()


def _pause(stage: Stage) -> None:
    node = _victim(stage)
    stage.faults["pause"] += 1
    duration_us = int(stage.random.random() ** 2 * PAUSE_MS_MAX * 1_000)
    node.paused_until_us = stage.agenda.now_us + duration_us
    stage.note(f"n{node.node} pauses for {duration_us} us")


def _clock_jump(stage: Stage) -> None:
    node = _victim(stage)
    stage.faults["clock_jump"] += 1
    node.offset_ms = stage.random.randint(-CLOCK_JUMP_MS, CLOCK_JUMP_MS)
    stage.note(f"n{node.node} clock off by {node.offset_ms} ms")


def _cut(stage: Stage) -> None:
    """Cut some pairs, each in one direction."""
    stage.faults["cut"] += 1
    share = stage.random.choice((0.15, 0.3, 0.5))
    ids = sorted(stage.nodes)
    _cut_off(
        stage,
        {(a, b) for a in ids for b in ids if a != b and stage.random.random() < share},
    )


def _split(stage: Stage) -> None:
    """Let two parts of the cluster hear nothing of each other."""
    stage.faults["split"] += 1
    ids = sorted(stage.nodes)
    side = set(stage.random.sample(ids, stage.random.randint(1, max(len(ids) // 2, 1))))
    _cut_off(stage, {(a, b) for a in ids for b in ids if (a in side) != (b in side)})


def _isolate(stage: Stage) -> None:
    """Let one node hear nobody, or be heard by nobody, or both."""
    stage.faults["isolate"] += 1
    one, way = _victim(stage).node, stage.random.choice(("in", "out", "both"))
    others = stage.nodes.keys() - {one}
    pairs = {(other, one) for other in others} if way != "out" else set()
    pairs |= {(one, other) for other in others} if way != "in" else set()
    _cut_off(stage, pairs)


def _cut_off(stage: Stage, pairs: set[tuple[int, int]]) -> None:
    network = stage.network
    network.cuts |= pairs
    stage.note(f"cut {sorted(pairs)}")

    def heal(_: object) -> None:
        network.cuts -= pairs
        stage.note("healed")

    stage.agenda.after(int(stage.random.random() * stage.profile.cut_ms * 1_000), heal)
    if "member" in stage.rates and stage.random.random() < 0.4:
        _member(stage)  # changes that only a part of the cluster hears of are the dangerous ones


def _wipe(stage: Stage) -> None:
    """Lose a disk, where every group can live on without it."""
    node = _living(stage)
    gone = dead(stage) | {node.node}
    if len(gone) >= len(stage.nodes):
        return
    possible = [
        configuration
        for group in stage.auditor.groups
        for configuration in stage.auditor.may_be_in_force(group)
    ]
    possible += [
        raft.configuration for each in stage.nodes.values() for raft in each.rafts.values()
    ]
    possible += [
        wanted
        for asked, life, wanted in stage.asked.values()
        if (asked.host is not None and asked.life == life)
        or stage.agenda.now_us - asked.ended_us < UNDER_WAY_US
    ]
    if not all(is_alive(each, gone) for each in possible):
        return
    stage.faults["wipe"] += 1
    node.gone = True
    if node.host is not None:
        node.crash()
    fresh = stage.add_node()
    stage.note(f"n{node.node} loses its disk, n{fresh.node} comes")


def _member(stage: Stage) -> None:
    group = stage.random.choice(list(stage.auditor.groups))
    node = leader_of(stage, group)
    if node is None or stage.random.random() < 0.1:
        node = _living(stage)
    if node.host is None or node.paused:
        return
    members = node.host.members(group)
    for _ in range(stage.random.choice((1, 1, 2))):
        wanted = _changed(stage, members)
        if not is_alive(wanted, dead(stage)):
            return
        token = stage.operate("member")
        try:
            node.host.change_members(group, wanted, token)
        except WorkbenchError as error:
            stage.operations[f"member {error.code}"] += 1
            return
        stage.asked[token] = node, node.life, wanted
        stage.note(f"n{node.node} g{group} members {_listed(members)} to {_listed(wanted)}")
        node.wake()
        members = wanted


def _changed(stage: Stage, members: Configuration) -> Configuration:
    """Return what an operator wants next; sometimes too much at once."""
    source, gone = stage.random, dead(stage)
    voters, learners = set(members.voters), set(members.learners)
    lost = sorted((voters | learners) & gone)
    node = source.choice(lost) if lost else source.choice(sorted(stage.nodes))
    if node in voters:
        voters.discard(node)
    elif node in learners:
        learners.discard(node)
        if node not in gone and source.random() < 0.7:
            voters.add(node)
    elif node not in gone:
        (voters if source.random() < 0.2 else learners).add(node)
    if source.random() < 0.12 and len(voters) > 1:
        voters.discard(source.choice(sorted(voters)))
    return Configuration(frozenset(voters), frozenset(learners))


def _transfer(stage: Stage) -> None:
    group = stage.random.choice(list(stage.auditor.groups))
    node = leader_of(stage, group)
    if node is None or node.host is None or node.paused:
        return
    to = stage.random.choice(sorted(stage.nodes))
    try:
        node.host.transfer_leader(group, to)
    except WorkbenchError as error:
        stage.operations[f"transfer {error.code}"] += 1
        return
    stage.operations["transfer"] += 1
    stage.note(f"n{node.node} g{group} hands over to n{to}")
    node.wake()


def _flush(stage: Stage) -> None:
    node = _living(stage)
    stage.operations["flush"] += 1
    node.flush()


def _listed(configuration: Configuration) -> str:
    learners = "".join(f" {each}?" for each in sorted(configuration.learners))
    return " ".join(map(str, sorted(configuration.voters))) + learners


_ACTIONS: Mapping[str, Callable[[Stage], None]] = {
    "crash": _crash,
    "crash_all": _crash_all,
    "pause": _pause,
    "clock_jump": _clock_jump,
    "cut": _cut,
    "split": _split,
    "isolate": _isolate,
    "wipe": _wipe,
    "member": _member,
    "transfer": _transfer,
    "flush": _flush,
}
