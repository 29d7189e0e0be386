"""Which faults a cluster has, and how often: drawn anew for every seed.

Each seed switches every kind on or off and draws a rate for those that are on (swarm testing): a
cluster that fails in one way only, and often, reaches states that one failing in all ways never
does, as there nothing gets far enough.

| kind | drawn | what happens |
|---|---|---|
| `drop` | per batch of messages | all of it is lost |
| `thin` | per batch | some messages of it are lost |
| `duplicate` | per batch | it arrives twice |
| `delay` | per batch | it arrives late, up to seconds, behind others |
| `cut` | now and then | some pairs of nodes are cut, each in one direction, until healed |
| `split` | now and then | two parts of the cluster hear nothing of each other, until healed |
| `isolate` | now and then | one node hears nobody, or is heard by nobody, or both |
| `crash` | now and then | a process ends at one of its next effects; it starts again later |
| `crash_all` | now and then | all processes end at once |
| `pause` | now and then | a process stands still, longer than an election takes |
| `clock_jump` | now and then | a node's clock is off by up to 5 s from now on |
| `slow_disk` | per sync | it takes up to seconds; messages and calls go on meanwhile |
| `lost_reply` | per reply | the client never sees it, and gives up some time later |
| `wipe` | now and then | a node loses its disk for good; a new node id comes in its place |

What operators do is drawn in the same way: `member`, `transfer`, `flush`, and `route_split`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

PER_MESSAGE: Final = ("drop", "thin", "duplicate", "delay", "lost_reply", "slow_disk")
NOW_AND_THEN: Final = (
    "cut",
    "split",
    "isolate",
    "crash",
    "crash_all",
    "pause",
    "clock_jump",
    "wipe",
)
OPERATIONS: Final = ("member", "transfer", "flush", "route_split")
KINDS: Final = (*PER_MESSAGE, *NOW_AND_THEN)

CLOCK_JUMP_MS: Final = 5_000
PAUSE_MS_MAX: Final = 2_500
DELAY_MS_MAX: Final = 2_000
SLOW_DISK_MS_MAX: Final = 1_000
DOWN_MS_MAX: Final = 700

# How many groups and first voters a cluster has: mostly few, as that is where steps go far.
_NODES: Final = (1, 2, 3, 3, 3, 3, 3, 4, 5)
_GROUPS: Final = (1, 1, 2, 3)
_STEPS: Final = (150, 300, 400, 600, 900, 1_500)
_STEPS_WEIGHTS: Final = (15, 30, 25, 18, 8, 4)
# By seed, not drawn: a window changes nothing else of a schedule.
_WINDOWS: Final = (64, 64, 1, 64, 64, 2)
CHURN_EVERY: Final = 8
CHURN_AT: Final = 5
# What costs the whole cluster time is rarer.
_SHARES: Final[Mapping[str, float]] = {"wipe": 0.1, "crash_all": 0.03}


@dataclass(frozen=True, slots=True)
class ClusterProfile:
    """What a cluster is like, and how it fails, in one schedule.

    Attributes:
        nodes: Of the cluster at its start; all are first voters of every group.
        spares: Nodes that are there and no member of anything.
        groups: Of the cluster; the first one keeps the route catalog.
        clients: That write and read.
        keys: Of each group, that they write and read.
        steps: Until the faults stop.
        hazard: Probability per step that something befalls it, or its operators act.
        cut_ms: How long a cut lasts, at most.
        election_ticks: Of every group.
        keep_entries: How many entries a log keeps for slow followers.
        snapshot_bytes: Of one piece of a raft_snapshot.
        request_bytes: Of the entries in one request of a leader.
        inflight_requests: How many requests a leader has under way to one follower.
        dedupe_sequences: How many writes of one client a group remembers.
        rates: Probability by kind; kinds that are off are absent.
    """

    nodes: int = 3
    spares: int = 0
    groups: int = 1
    clients: int = 2
    keys: int = 5
    steps: int = 300
    hazard: float = 0.06
    cut_ms: int = 1_600
    election_ticks: int = 4
    keep_entries: int = 0
    snapshot_bytes: int = 200
    request_bytes: int = 2**20
    inflight_requests: int = 64
    dedupe_sequences: int = 128
    rates: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, seed: int, source: random.Random) -> ClusterProfile:
        """Return the profile of a seed, drawn from `source`.

        Every eighth churns; every third has a window of one or two requests.
        """
        drawn = cls.churning(source) if seed % CHURN_EVERY == CHURN_AT else cls.draw(source)
        return replace(drawn, inflight_requests=_WINDOWS[seed % len(_WINDOWS)])

    @classmethod
    def churning(cls, source: random.Random) -> ClusterProfile:
        """Return a profile of leaders that come and go before their entries get anywhere.

        One small group, requests of one entry, short elections: here logs part and are mended.
        """
        members = source.random() < 0.5
        return cls(
            nodes=source.choice((3, 3, 3, 5)),
            spares=source.choice((0, 2)) if members else 0,
            groups=1,
            clients=source.choice((2, 3)),
            keys=2,
            steps=source.choice((400, 800)),
            hazard=source.choice((0.1, 0.2, 0.3)),
            cut_ms=source.choice((300, 600)),
            election_ticks=2,
            keep_entries=source.choice((0, 8)),
            request_bytes=1,
            rates={
                "crash": source.choice((0.0, 0.1, 0.2)),
                "isolate": source.choice((0.1, 0.3)),
                "split": source.choice((0.0, 0.1, 0.2)),
                "drop": source.choice((0.0, 0.05, 0.3)),
                "delay": source.choice((0.0, 0.1, 0.3)),
                "flush": 0.1,
                "transfer": source.choice((0.0, 0.1)),
                "member": 0.2 if members else 0.0,
            },
        )

    @classmethod
    def draw(cls, source: random.Random) -> ClusterProfile:
        """Return the profile of a seed: about half of the kinds, each at its own rate."""
        share = source.choice((0.2, 0.5, 0.8))
        most = source.choice((0.02, 0.08, 0.25))
        rates: dict[str, float] = {}
        for kind in PER_MESSAGE:
            on, rate = source.random() < share, most * source.random()
            if on:
                rates[kind] = rate
        for kind in NOW_AND_THEN:
            on, rate = source.random() < share, source.random()
            if on:
                rates[kind] = rate * _SHARES.get(kind, 0.25)
        for kind in OPERATIONS:
            on, rate = source.random() < max(share, 0.4), source.random()
            if on:
                rates[kind] = rate * 0.4
        return cls(
            nodes=source.choice(_NODES),
            spares=source.choice((0, 0, 1, 2)) if "member" in rates else 0,
            groups=source.choice(_GROUPS),
            clients=source.choice((1, 2, 3, 5)),
            keys=source.choice((1, 3, 5)),
            hazard=source.choice((0.02, 0.05, 0.08, 0.2)),
            cut_ms=source.choice((300, 1_600)),
            steps=source.choices(_STEPS, _STEPS_WEIGHTS)[0],
            election_ticks=source.choice((2, 3, 4, 6)),
            keep_entries=source.choice((0, 0, 2, 8)),
            snapshot_bytes=source.choice((40, 150, 600)),
            request_bytes=source.choice((1, 100, 2**20)),
            dedupe_sequences=source.choice((1, 3, 128)),
            rates=rates,
        )
