"""A cluster in memory: the rules of a route catalog by themselves, and faults on demand.

Written from the table in the wire format's description, not from the code of the node, so that
what is tested against it is not tested against itself.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING
from uuid import UUID

import pyarrow as pa

from workbench.catalog.catalog import Catalog, Write
from workbench.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
    WorkbenchError,
)
from workbench.model.keys import Span
from workbench.model.plan import OBJECTIVES, EvidenceQuery, Limits
from workbench.model.routes import RouteDescriptor, RouteSnapshot, seed_routes
from workbench.model.tables import APPROVAL, LOAD_WINDOW
from workbench.planner.plan import Atoms, PlanInput, make_plan
from workbench.ports.connector import Capabilities, PreparedCall, SplitReceipt
from workbench.session.plans import plan_write
from workbench.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workbench.model.plan import Plan
    from workbench.ports.connector import SplitCall

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Killed(BaseException):
    """The process died here; nothing of it runs any more."""


class Fault(Enum):
    """What goes wrong with the next call."""

    UNAVAILABLE = auto()  # nothing was done
    UNKNOWN_BEFORE = auto()  # nothing was done, but nobody can know
    UNKNOWN_AFTER = auto()  # it was done, and the answer was lost
    FOREIGN_SPLIT = auto()  # somebody else splits just before the call arrives
    REFUSED = auto()  # the system refuses it for good
    MISMATCH = auto()  # the system says that the version differs, though it does not
    OTHER_CHILDREN = auto()  # it answers with children of another split


class FakeClock:
    """A clock that stands until it is moved, but for a millisecond at each look."""

    def __init__(self, now: datetime = NOON) -> None:
        self.time = now

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class FakeRng:
    """Counts."""

    def __init__(self, start: int = 0) -> None:
        self.number = start

    def uuid(self) -> UUID:
        self.number += 1
        return UUID(int=self.number)

    def uniform(self) -> float:
        return 0.5


@dataclass
class FakeCluster:
    """A route catalog: version, ids, compare-and-set, dedupe by request id.

    `splits` lists what was done, in order: (request id, or "" for somebody else's; span; key).
    """

    routes: dict[Span, RouteDescriptor] = field(
        default_factory=lambda: {r.span: r for r in seed_routes([b"g", b"p"])}
    )
    version: int = 1
    cluster_id: str | None = "c-1"
    splits: list[tuple[str, Span, bytes]] = field(default_factory=list)
    answers: dict[str, SplitReceipt] = field(default_factory=dict)
    next_id: int = 0

    def __post_init__(self) -> None:
        self.next_id = max(route.route_id for route in self.routes.values()) + 1

    def snapshot(self) -> RouteSnapshot:
        routes = tuple(sorted(self.routes.values(), key=lambda route: route.span.start))
        return RouteSnapshot(self.version, routes, NOON, cluster_id=self.cluster_id)

    def spans(self) -> list[Span]:
        return [route.span for route in self.snapshot().routes]

    def split(self, route_id: int, key: bytes, expected: int, request: str = "") -> SplitReceipt:
        if request and request in self.answers:
            return replace(self.answers[request], repeated=True)
        if expected != self.version:
            raise Conflict(
                f"the catalog is at version {self.version}, not {expected}",
                code="catalog_version_mismatch",
            )
        parent = next((r for r in self.routes.values() if r.route_id == route_id), None)
        if parent is None:
            raise NotFound(f"there is no route {route_id}", code="route_absent")
        if key == parent.span.start or key not in parent.span:
            raise InvalidInput("the split key is not inside", code="split_key_outside")
        self.version += 1
        left = replace(
            parent,
            route_id=self.next_id,
            span=Span(parent.span.start, key),
            parent_route_id=route_id,
            split_at_hlc=self.version,
        )
        right = replace(left, route_id=self.next_id + 1, span=Span(key, parent.span.end))
        self.next_id += 2
        del self.routes[parent.span]
        self.routes |= {left.span: left, right.span: right}
        self.splits.append((request, parent.span, key))
        receipt = SplitReceipt(self.version, left, right, repeated=False)
        if request:
            self.answers[request] = receipt
        return receipt

    def foreign_split(self, key: bytes) -> None:
        """Split, as somebody else, whatever route holds `key`."""
        route = next(route for span, route in self.routes.items() if key in span)
        self.split(route.route_id, key, self.version)


class FakeConnector:
    """RouteSource and Executor over a FakeCluster, with faults: one per call, in order."""

    def __init__(
        self,
        cluster: FakeCluster,
        faults: Sequence[Fault | None] = (),
        *,
        can: Capabilities | None = None,
        on_call: Callable[[str], None] = lambda _moment: None,
    ) -> None:
        self.cluster = cluster
        self.faults = deque(faults)
        self.can = can or Capabilities(
            ordered=True, split=True, compare_and_set=True, idempotent=True
        )
        self.on_call = on_call
        self.calls: list[PreparedCall] = []
        self.closed = 0
        self.down = False

    def capabilities(self) -> Capabilities:
        return self.can

    def snapshot(self) -> RouteSnapshot:
        if self.down:
            raise Unavailable("nobody answers", code="node_unreachable")
        return self.cluster.snapshot()

    def close(self) -> None:
        self.closed += 1

    def prepare(self, split: SplitCall, idempotency_key: str) -> PreparedCall:
        return PreparedCall(
            split=split,
            address="fake:1",
            method="/Distribution/SplitRange",
            fields={
                "expected_catalog_version": split.expected_version,
                "route_id": split.route.route_id,
                "split_key": split.split_key.hex(),
            },
            metadata={"x-workbench-request-id": idempotency_key},
            warnings=("there is no undo of a split",),
        )

    def apply(self, call: PreparedCall) -> SplitReceipt:
        self.on_call("before")
        self.calls.append(call)
        fault = self.faults.popleft() if self.faults else None
        split, request = call.split, call.metadata["x-workbench-request-id"]
        if (error := _without_effect(fault)) is not None:
            raise error
        if fault is Fault.FOREIGN_SPLIT:
            self.cluster.foreign_split(self.cluster.spans()[-1].start + b"\xff\xff")
        made = self.cluster.split(
            split.route.route_id, split.split_key, split.expected_version, request
        )
        self.on_call("after")
        if fault is Fault.UNKNOWN_AFTER:
            raise OutcomeUnknown("the answer was lost", code="connection_lost")
        if fault is Fault.OTHER_CHILDREN:
            return replace(made, left=replace(made.left, span=Span(b"", b"\x01")))
        return made

    def find(self, span: Span, split_key: bytes) -> SplitReceipt | None:
        left = self.cluster.routes.get(Span(span.start, split_key))
        right = self.cluster.routes.get(Span(split_key, span.end))
        if left is None or right is None:
            return None
        return SplitReceipt(self.cluster.version, left, right, repeated=True)


def _without_effect(fault: Fault | None) -> WorkbenchError | None:
    match fault:
        case Fault.UNAVAILABLE:
            return Unavailable("the leader is not known", code="catalog_leader_unknown")
        case Fault.UNKNOWN_BEFORE:
            return OutcomeUnknown("no answer in 5 s", code="deadline_exceeded")
        case Fault.REFUSED:
            return InvalidInput("the key \x1b[31mis reserved", code="key_reserved")
        case Fault.MISMATCH:
            return Conflict("the version differs", code="catalog_version_mismatch")
        case _:
            return None


class MortalStore(MemoryStore):
    """A store whose user can be killed: after that it answers nothing, until it is revived.

    `on_put` is called with "before" and "after" around each put, and may raise Killed.
    """

    def __init__(self) -> None:
        super().__init__("mortal")
        self.dead = False
        self.on_put: Callable[[str], None] = lambda _moment: None

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._check()
        self.on_put("before")
        done = super().put_if_absent(key, data)
        self.on_put("after")
        return done

    def get(self, key: str) -> bytes:
        self._check()
        return super().get(key)

    def delete(self, key: str) -> None:
        self._check()
        super().delete(key)

    def _check(self) -> None:
        if self.dead:
            raise Killed


def plan_for(
    cluster: FakeCluster,
    keys: Sequence[bytes] = tuple(b"%c%d" % (97 + n, n) for n in range(26)),
    loads: Sequence[int] | None = None,
    splits: int = 4,
) -> Plan:
    """Return a plan for the routes of a cluster, by the planner itself."""
    return make_plan(
        PlanInput(
            cluster="c",
            snapshot=cluster.snapshot(),
            atoms=Atoms(list(keys), list(loads or range(1, len(keys) + 1)), "bucket"),
            objective=OBJECTIVES["score"],
            since=NOON - timedelta(hours=1),
            until=NOON,
            limits=Limits(splits, 0.0),
            hot_routes=frozenset(),
            evidence=EvidenceQuery("atoms", "c/load_window", {"since": "x"}, "SELECT 1"),
        )
    )


def catalog_with(
    store: MemoryStore, plan: Plan, approved: Sequence[str] | None = None, **properties: str
) -> Catalog:
    """Return a new catalog that holds a collected cluster, a plan, and its approval."""
    catalog = Catalog.create(store, clock=FakeClock(), rng=FakeRng(10_000), writer="test")
    table = pa.Table.from_pylist([], schema=LOAD_WINDOW)
    catalog.commit([Write("c/load_window", table, properties=properties), plan_write(plan)])
    decide_on(catalog, plan, [a.action_id for a in plan.actions] if approved is None else approved)
    return catalog


def decide_on(
    catalog: Catalog, plan: Plan, actions: Sequence[str], decision: str = "approved"
) -> None:
    """Record a decision as `workbench approve` does, without its look at the load."""
    rows = [
        {
            "plan_id": plan.plan_id,
            "content_hash": plan.content_hash,
            "action_id": action,
            "decision": decision,
            "by": "user:anna",
            "policy_sha256": None,
            "at": NOON,
        }
        for action in actions
    ]
    if rows:
        table = pa.Table.from_pylist(rows, schema=APPROVAL)
        catalog.commit([Write(f"approval/{plan.plan_id}", table, mode="append")])
