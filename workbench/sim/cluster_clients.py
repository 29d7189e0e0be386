"""What simulated clients ask of a cluster: unique values, reads, splits; again where unanswered.

    think ──▶ begin ──▶ attempt at a node ──answered──▶ think
                  ▲              └──no answer in time, or refused──┘ elsewhere, a few times

Rules:
- A client has one operation at a time; it goes to the node that it believes to lead.
- Half of the clients have a client id: they repeat a write whose outcome is unknown under its
  sequence, and now and then one that was acknowledged. The others never repeat such a write.
- Every value is written by one operation only.

What the answers must be is known to the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from workbench.errors import OutcomeUnknown, WorkbenchError
from workbench.model.times import hlc_of_ms
from workbench.replica.commands import (
    CatalogListing,
    GetMany,
    LatestCommitTs,
    ListCatalog,
    Mutation,
    Refused,
    ScanPage,
    SplitRange,
    WriteBatch,
)
from workbench.sim.cluster_node import CATALOG_GROUP

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from workbench.model.keys import Span
    from workbench.ports.consensus import Configuration
    from workbench.sim.cluster_faults import ClusterProfile
    from workbench.sim.cluster_history import Asked, History, Operation
    from workbench.sim.cluster_node import SimNode
    from workbench.sim.cluster_time import Agenda

ATTEMPTS_MAX: Final = 8
TIMEOUTS_US: Final = (150_000, 400_000, 900_000)
# How often a client asks who leads although it believes to know.
ASK_SHARE: Final = 0.15
WRITE_SHARES: Final = (0.2, 0.5, 0.8)
# Of what is no write; the rest asks the catalog, or for the newest commit_ts.
GET_SHARE: Final = 0.25
GET_AT_SHARE: Final = 0.2
SCAN_SHARE: Final = 0.1
LATEST_SHARE: Final = 0.25
PAGE_ROWS: Final = 1_000
PAGE_BYTES: Final = 1_000_000


class Cluster(Protocol):
    """What a client sees of the cluster."""

    agenda: Agenda
    random: random.Random
    profile: ClusterProfile
    rates: Mapping[str, float]
    faults: Counter[str]
    history: History
    nodes: dict[int, SimNode]
    spans: dict[int, Span]
    first: Configuration

    def expect(self, client: Client, operation: Operation, epoch: int) -> int:
        """Return a token for a call; its answer goes to `client.hear`."""
        ...

    def some_node(self) -> SimNode:
        """Return a node that is not gone."""
        ...


class Client:
    """One client.

    Args:
        cluster: What it calls.
        number: Of the client.
        think_us: How long it thinks between operations, at most.

    Attributes:
        resting: Whether it begins nothing new.
    """

    def __init__(self, cluster: Cluster, number: int, think_us: int) -> None:
        self.resting = False
        self._cluster = cluster
        self._number = number
        self._id = b"c%d" % number if number % 2 else b""
        self._think_us = think_us
        self._timeout_us = cluster.random.choice(TIMEOUTS_US)
        self._write_share = cluster.random.choice(WRITE_SHARES)
        self._sequence = 0
        self._leaders: dict[int, int] = {}
        self._listing: CatalogListing | None = None
        self._operation: Operation | None = None
        self._attempts = 0
        self._again = False
        # Of the newest attempt: answers and time-outs of older ones mean nothing.
        self._epoch = 0

    @property
    def busy(self) -> bool:
        """Whether an operation has not ended."""
        return self._operation is not None

    def go_on(self, epoch: object) -> None:
        """Begin an operation, or repeat the one that got no answer."""
        if epoch != self._epoch:
            return
        cluster = self._cluster
        if self._operation is None:
            chosen = self._choose()
            if chosen is None:
                return
            self._operation = cluster.history.begin(*chosen)
            self._attempts = 0
        self._attempt(self._operation)

    def unanswered(self, epoch: object) -> None:
        """Note that the newest attempt got no answer in time."""
        if epoch != self._epoch or self._operation is None:
            return
        operation = self._operation
        self._leaders.pop(operation.group, None)
        cluster = self._cluster
        cluster.history.lost(operation)
        repeats = not isinstance(operation.asked, WriteBatch) or operation.asked.client_id
        self._retry(give_up=not repeats, delay_us=0)

    def hear(self, epoch: int, result: object) -> None:
        """Take the answer to an attempt."""
        if epoch != self._epoch or self._operation is None:
            return
        operation = self._operation
        error = result.error if isinstance(result, Refused) else result
        if not isinstance(error, WorkbenchError):
            self._succeeded(operation)
            if isinstance(result, CatalogListing):
                self._listing = result
            asked = operation.asked
            repeats = isinstance(asked, WriteBatch) and asked.client_id and not self._again
            if repeats and self._cluster.random.random() < 0.1:
                self._again = True
                self._later(self._think_us)
                return
            self._end()
            return
        self._leaders.pop(operation.group, None)
        unknown = isinstance(error, OutcomeUnknown)
        asked = operation.asked
        once = isinstance(asked, WriteBatch) and not asked.client_id
        wrong = error.code in {"read_ts_ahead", "dedupe_expired", "catalog_version_mismatch"}
        splits = isinstance(asked, SplitRange) and isinstance(result, Refused)
        self._retry(give_up=(unknown and once) or wrong or splits, delay_us=150_000)

    # -- parts -----------------------------------------------------------------------------------

    def _choose(self) -> tuple[int, Asked] | None:
        """Return of which group to ask what next; None for nothing."""
        if self.resting:
            return None
        group = self._cluster.random.choice(list(self._cluster.spans))
        return group, self._draw(group)

    def _succeeded(self, operation: Operation) -> None:
        """Note that an operation was acknowledged."""

    def _attempt(self, operation: Operation) -> None:
        cluster = self._cluster
        self._attempts += 1
        self._epoch += 1
        believed = self._leaders.get(operation.group)
        if cluster.random.random() < ASK_SHARE:
            believed = None
        node = cluster.nodes[believed] if believed is not None else self._guess(operation.group)
        self._leaders[operation.group] = node.node
        cluster.agenda.after(self._timeout_us, self.unanswered, self._epoch)
        if node.paused:
            # The call waits in the paused process's socket.
            wait_us = node.paused_until_us - cluster.agenda.now_us
            cluster.agenda.after(wait_us, self._arrive, (node, operation, self._epoch))
        else:
            self._arrive((node, operation, self._epoch))

    def _arrive(self, call: tuple[SimNode, Operation, int]) -> None:
        node, operation, epoch = call
        cluster = self._cluster
        token = cluster.expect(self, operation, epoch)
        try:
            there = node.call(operation.group, operation.asked, token)
        except WorkbenchError as error:
            self.hear(epoch, error)
            return
        if not there and epoch == self._epoch:
            self._leaders.pop(operation.group, None)
            self._retry(give_up=False, delay_us=100_000)

    def _guess(self, group: int) -> SimNode:
        """Return who leads, as somebody says; anybody where nobody knows."""
        cluster = self._cluster
        asked = cluster.some_node()
        raft = asked.rafts.get(group)
        leader = 0 if raft is None else raft.leader
        told = cluster.nodes.get(leader)
        return asked if told is None or told.gone else told

    def _retry(self, *, give_up: bool, delay_us: int) -> None:
        if self._operation is None:
            return
        if give_up or self._attempts >= ATTEMPTS_MAX or self._again:
            self._cluster.history.give_up(self._operation)
            self._end()
        else:
            self._later(delay_us)

    def _end(self) -> None:
        self._operation = None
        self._again = False
        self._later(self._think_us)

    def _later(self, most_us: int) -> None:
        cluster = self._cluster
        self._epoch += 1
        delay_us = int(cluster.random.random() * most_us)
        cluster.agenda.after(delay_us, self.go_on, self._epoch)

    def _draw(self, group: int) -> Asked:
        """Return what to ask for next."""
        source, most = self._cluster.random, self._cluster.profile.keys
        if source.random() < self._write_share:
            return self._write(group)
        chance = source.random() - GET_SHARE
        if chance < 0:
            return GetMany(self._keys(group, source.randint(1, most)))
        chance -= GET_AT_SHARE
        if chance < 0:
            return GetMany(self._keys(group, min(2, most)), self._some_read_ts(group))
        chance -= SCAN_SHARE
        if chance < 0:
            span = self._cluster.spans[group]
            return ScanPage(span.start, span.end, 0, PAGE_ROWS, PAGE_BYTES)
        if chance < LATEST_SHARE or group != CATALOG_GROUP:
            return LatestCommitTs(self._keys(group, 1)[0])
        return self._ask_catalog()

    def _ask_catalog(self) -> Asked:
        listing, rates = self._listing, self._cluster.rates
        if listing is None or "route_split" not in rates or self._cluster.random.random() < 0.4:
            return ListCatalog()
        return self._split(listing)

    def _write(self, group: int) -> WriteBatch:
        source, number = self._cluster.random, len(self._cluster.history.operations)
        keys = self._keys(group, min(source.choice((1, 1, 1, 2, 3)), self._cluster.profile.keys))
        mutations = tuple(
            Mutation(key, None if source.random() < 0.1 else b"v%d.%d" % (number, at))
            for at, key in enumerate(keys)
        )
        if not self._id:
            return WriteBatch(mutations)
        self._sequence += 1
        return WriteBatch(mutations, self._id, self._sequence)

    def _split(self, listing: CatalogListing) -> SplitRange:
        source = self._cluster.random
        route = source.choice(listing.routes)
        split_key = route.span.start + b"%d" % source.randrange(100)
        request_id = b"r%d.%d" % (self._number, len(self._cluster.history.operations))
        return SplitRange(listing.version, route.route_id, split_key, request_id)

    def _keys(self, group: int, count: int) -> tuple[bytes, ...]:
        start = self._cluster.spans[group].start
        chosen = self._cluster.random.sample(range(self._cluster.profile.keys), count)
        return tuple(start + b"%d" % key for key in chosen)

    def _some_read_ts(self, group: int) -> int:
        """Return a read_ts that was told before, or one shortly ahead."""
        source, known = self._cluster.random, self._cluster.history.groups[group]
        answers: Sequence[tuple[bytes, int, int]] = known.answers
        if answers and source.random() < 0.6:
            return source.choice(answers)[1]
        node = self._cluster.some_node()
        return hlc_of_ms(node.now_ms + source.randint(-300, 450))
