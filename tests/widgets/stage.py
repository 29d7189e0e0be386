"""A stage for desks and widgets: a cluster in memory, its load in a catalog, calls on command.

    Stage ── catalog ──▶ Desk          a fake target; `held` calls wait until they are let go
      └── cluster, connector

Used by the tests of the desk and, in a kernel, by the tests in a browser.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from fakes import NOON, FakeCluster, FakeConnector, Fault

from workbench.catalog.catalog import Catalog, Write
from workbench.model.plan import Limits
from workbench.model.routes import RouteSnapshot, seed_routes
from workbench.model.tables import LOAD_WINDOW, routes_to_table
from workbench.session import applying
from workbench.session.lease import Machine, Place
from workbench.session.system import SystemClock, SystemRng
from workbench.stores.memory import MemoryStore
from workbench.widgets import desk as desk_module
from workbench.widgets.desk import Desk, DeskOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workbench.ports.object_store import ObjectStore

URL = "fake://cluster"
WINDOW_MS = 60_000
HOSTILE = (
    b"<img/src=x/onerror=alert(1)>",
    b"\x00\x01\x02",
    b"\xe2\x80\xaeabc",
    b"</script><script>alert(2)</script>",
    b"k" * 4_096,
)


class Stage:
    """One cluster with load, and everything that a desk needs.

    Attributes:
        cluster: Its routes as they are.
        connector: Through which splits are made.
        store: Of the catalog.
        begun: Set when a call arrives, where calls are held.
    """

    def __init__(  # noqa: PLR0913 - what a stage is made of, named
        self,
        bounds: Sequence[bytes] = (b"g", b"p"),
        *,
        keys: Sequence[bytes] = tuple(b"%c" % (97 + n) for n in range(26)),
        windows: int = 30,
        faults: Sequence[Fault | None] = (),
        store: ObjectStore | None = None,
        empty: bool = False,
        source: str = URL,
        splits: int = 4,
        joined: bool = False,
        patch: Callable[[Any, str, Any], None] = setattr,
    ) -> None:
        routes = seed_routes(sorted(bounds))
        self.cluster = FakeCluster({route.span: route for route in routes})
        self.connector = FakeConnector(self.cluster, faults, on_call=self._called)
        self.store = MemoryStore("stage") if store is None else store
        self.options = DeskOptions(limits=Limits(splits, 0.0))
        self.windows = windows
        self.keys = [b"", *sorted({*keys, *bounds})]
        self.pid = 1
        self.running = {1}
        self.opened: list[str] = []
        self.begun = threading.Event()
        self._gate = threading.Semaphore(0)
        self._held = False
        # Where another process made the catalog and collected into it, ours only opens it.
        catalog = self.catalog() if joined else self._create()
        if not (empty or joined):
            self.collect(catalog, source=source)
        patch(applying, "open_routes", self._open)
        patch(desk_module, "collect_live", self._collect_live)

    def desk(self, who: str = "anna", *, pid: int = 1, **more: Any) -> Desk:
        """Return a desk, as a kernel of that process id opens it."""
        self.running.add(pid)
        more.setdefault("options", self.options)
        return Desk(self.catalog(), who=who, machine=self.machine(pid), **more)

    def machine(self, pid: int = 1) -> Machine:
        return Machine(SystemClock(), SystemRng(), Place("host"), pid, self.running.__contains__)

    def catalog(self) -> Catalog:
        return Catalog.open(self.store, clock=SystemClock(), rng=SystemRng(), writer="stage")

    def hold(self) -> None:
        """Make every call from now on wait for `let_go`."""
        self._held = True

    def let_go(self, calls: int = 1) -> None:
        """Let as many calls go on."""
        self.begun.clear()
        self._gate.release(calls)

    def free(self) -> None:
        """Hold no call any more."""
        self._held = False
        self._gate.release(100)

    def collect(self, catalog: Catalog, source: str = URL) -> None:
        """Collect routes as they are, and the load of the time."""
        snapshot = self.cluster.snapshot()
        properties = {
            "source": source,
            "window_ms": str(WINDOW_MS),
            "windows": str(self.windows),
            "cluster_id": "c-1",
        }
        if not source.startswith("trace:"):
            properties["collected_until"] = "2026-11-21T12:00:00Z"
        table = self.load(snapshot)
        taken = RouteSnapshot(
            snapshot.catalog_version, snapshot.routes, NOON, cluster_id=snapshot.cluster_id
        )
        catalog.commit([
            Write("c/load_window", table, mode="replace", properties=properties),
            Write("c/route", routes_to_table(taken), mode="replace"),
        ])  # fmt: skip

    def load(self, snapshot: RouteSnapshot) -> pa.Table:
        """Return the load: the same whatever the routes are, later keys hotter."""
        since = NOON - timedelta(milliseconds=self.windows * WINDOW_MS)
        ends = [*self.keys[1:], None]
        rows: dict[str, list[Any]] = {name: [] for name in LOAD_WINDOW.names}
        routes = snapshot.routes
        for window in range(self.windows):
            at = 0
            for place, key in enumerate(self.keys):
                while routes[at].span.end is not None and routes[at].span.end <= key:
                    at += 1
                count = 10 * (place + 1) * (3 if place == len(self.keys) // 3 else 1) + window
                told = {
                    "cluster": "c",
                    "window_start": since + timedelta(milliseconds=window * WINDOW_MS),
                    "window_end": since + timedelta(milliseconds=(window + 1) * WINDOW_MS),
                    "route_id": routes[at].route_id,
                    "group": routes[at].group,
                    "bucket_start": key,
                    "bucket_end": ends[place],
                    "reads": count,
                    "writes": 0,
                    "read_bytes": 100 * count,
                    "write_bytes": 0,
                    "coverage": 1.0,
                    "error_bound": 0.0,
                }
                for name, column in rows.items():
                    column.append(told.get(name))
        return pa.table(rows, schema=LOAD_WINDOW)

    def _create(self) -> Catalog:
        return Catalog.create(self.store, clock=SystemClock(), rng=SystemRng(), writer="stage")

    def _open(self, url: str, *, allow_write: bool = False) -> FakeConnector:
        self.opened.append(url)
        return self.connector

    def _collect_live(self, *_arguments: object) -> None:
        self.connector.snapshot()
        self.collect(self.catalog())

    def _called(self, moment: str) -> None:
        if moment == "before" and self._held:
            self.begun.set()
            self._gate.acquire(timeout=60)
