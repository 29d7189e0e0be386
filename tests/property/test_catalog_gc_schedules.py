"""Upkeep under random schedules: commits, merges, expiries and collectors, asleep, dying, at once.

Every process has a failing store and shares one clock with all others. Ahead of any store call of
one, the time may leap by up to two days and another process may do something of its own. What
must hold after each step: whatever the newest state refers to is there, as it was written; at the
end, also what every state from the floor on refers to, every acknowledged row exactly once, and,
after some quiet runs of the collector, nothing else.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.test_catalog_faults import Crash, FaultyStore, SeededRng

from workbench.catalog import gc
from workbench.catalog.catalog import Catalog, Write
from workbench.catalog.compact import compact
from workbench.catalog.expire import expire
from workbench.catalog.gc import GRACE_MIN, collect
from workbench.catalog.layout import DATA_PREFIX, LOG_PREFIX, seq_of
from workbench.catalog.upkeep import remove
from workbench.errors import OutcomeUnknown, WorkbenchError
from workbench.stores.memory import MemoryStore

NESTED_MAX = 40  # steps of one process between two calls of another, in all
FINDS = 21  # from here on planted faults are soon found
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema([pa.field("at", TIME, nullable=False), pa.field("n", pa.int64())])
PUT_FAULTS = ["lost", "landed", "delayed", "failed", "unavailable", "crash", "crash_after"]
FAULTS = {
    "put": PUT_FAULTS,
    "get": ["unavailable", "crash"],
    "delete": ["unavailable", "lost", "landed", "crash", "crash_after"],
    "list": ["unavailable", "crash"],
    "replace": ["unavailable", "landed", "crash_after"],
}


class SharedClock:
    """The time of the world; asking takes a millisecond."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Ledger:
    """What the processes were told.

    Attributes:
        acknowledged: Time of each value that was appended to `timed`.
        possible: Likewise of values of which nobody knows.
        cutoff: Rows before it may be gone.
        plain: Acknowledged values of `plain`, in order.
        ends: How operations ended, by kind.
    """

    acknowledged: dict[int, datetime] = field(default_factory=dict)
    possible: dict[int, datetime] = field(default_factory=dict)
    cutoff: datetime = datetime(1990, 1, 1, tzinfo=UTC)
    plain: list[int] = field(default_factory=list)
    plain_possible: set[int] = field(default_factory=set)
    ends: Counter = field(default_factory=Counter)


class Schedule:
    """Some processes over one store."""

    def __init__(self, seed: int, *, processes: int, faults: float, sleeps: float) -> None:
        self.random = random.Random(seed)
        self.clock = SharedClock()
        self.inner = MemoryStore(now=lambda: self.clock.time)
        self.faults, self.sleeps = faults, sleeps
        self.value = 0
        self.depth = 0
        self.nested_left = NESTED_MAX
        self.ledger = Ledger()
        self.rng = SeededRng(seed)
        Catalog.create(self.inner, clock=self.clock, rng=self.rng, writer="first")
        self.stores = [FaultyStore(self.inner) for _ in range(processes)]
        self.catalogs = [self._open(store) for store in self.stores]
        self.busy: set[int] = set()
        self.actions = [
            (5, "append", self._append),
            (2, "plain", self._plain),
            (2, "replace", self._replace),
            (1, "remove", self._remove),
            (2, "compact", self._compact),
            (1, "expire", self._expire),
            (4, "collect", self._collect),
            (1, "refresh", lambda catalog: catalog.refresh()),
        ]
        for number, store in enumerate(self.stores):
            store.fault = self._fault
            store.before = lambda number=number: self._meanwhile(number)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.clock.time += self.random.choice([HOUR, 5 * HOUR, 13 * HOUR, 30 * DAY])
            self._step(self.random.randrange(len(self.catalogs)))
            if self.random.random() < 0.2:
                self._land()
            self.check_head()

    def _step(self, number: int) -> None:
        weights = [weight for weight, _, _ in self.actions]
        [(_, kind, action)] = self.random.choices(self.actions, weights)
        self.busy.add(number)
        try:
            action(self.catalogs[number])
        except Crash:
            self.ledger.ends[kind, "crash"] += 1
            self.catalogs[number] = self._open(self.inner)
            self.catalogs[number]._store = self.stores[number]
        except WorkbenchError as error:
            self.ledger.ends[kind, error.code] += 1
        else:
            self.ledger.ends[kind, "done"] += 1
        finally:
            self.busy.discard(number)

    def _append(self, catalog: Catalog) -> None:
        self.value += 1
        value, at = self.value, self.clock.time
        table = pa.table({"at": pa.array([at], TIME), "n": [value]}, schema=SCHEMA)
        self.ledger.possible[value] = at
        try:
            catalog.commit([Write("timed", table, "append", time_column="at")])
        except OutcomeUnknown:
            raise
        except WorkbenchError as error:
            if error.code != "planted":
                del self.ledger.possible[value]
            raise
        self.ledger.acknowledged[value] = self.ledger.possible.pop(value)

    def _plain(self, catalog: Catalog) -> None:
        self.value += 1
        value = self.value
        self.ledger.plain_possible.add(value)
        catalog.commit([Write("plain", pa.table({"n": [value]}), "append")])
        self.ledger.plain_possible.discard(value)
        self.ledger.plain.append(value)

    def _replace(self, catalog: Catalog) -> None:
        self.value += 1
        catalog.commit([Write("replaced", pa.table({"n": [self.value] * 3}))])

    def _remove(self, catalog: Catalog) -> None:
        with catalog.keeping() as keeper:
            remove(keeper, ["replaced"])

    def _compact(self, catalog: Catalog) -> None:
        with catalog.keeping() as keeper:
            compact(keeper, self.random.choice(["timed", "plain"]))

    def _expire(self, catalog: Catalog) -> None:
        cutoff = self.clock.time - 40 * DAY
        self.ledger.cutoff = max(self.ledger.cutoff, cutoff)
        with catalog.keeping() as keeper:
            expire(keeper, "timed", cutoff)

    def _collect(self, catalog: Catalog) -> None:
        keep = self.random.choice([timedelta(0), HOUR, 10 * DAY, 90 * DAY])
        with catalog.keeping() as keeper:
            collect(keeper, keep=keep, grace=self.random.choice([GRACE_MIN, 24 * HOUR]))

    def _fault(self, operation: str, _key: str) -> str | None:
        if self.random.random() >= self.faults:
            return None
        return self.random.choice(FAULTS[operation])

    def _meanwhile(self, number: int) -> None:
        if self.random.random() < self.sleeps:
            self.clock.time += self.random.choice([HOUR, 8 * HOUR, 25 * HOUR, 48 * HOUR])
        free = [each for each in range(len(self.catalogs)) if each not in self.busy]
        if free and self.depth < 2 and self.nested_left and self.random.random() < 2 * self.sleeps:
            self.depth += 1
            for _ in range(min(self.nested_left, self.random.randrange(1, 4))):
                self.nested_left -= 1
                self._step(self.random.choice(free))
            self.depth -= 1

    def _open(self, store) -> Catalog:
        seed = SeededRng(self.random.getrandbits(48))
        return Catalog.open(store, clock=self.clock, rng=seed, writer="process")

    def _land(self) -> None:
        for store in self.stores:
            store.land()

    def check_head(self) -> None:
        for manifest in self._open(self.inner).list():
            for ref in manifest.objects:
                assert self.inner.size_of(ref.key) == ref.size, f"reachable {ref.key} is gone"

    def finish(self) -> None:
        """Let all faults end, collect until nothing changes, and check everything."""
        self.faults = self.sleeps = 0.0
        self._land()
        self.check_history()
        catalog = self._open(self.inner)
        for _ in range(6):
            self.clock.time += 2 * 24 * HOUR
            with catalog.keeping() as keeper:
                found = collect(keeper, keep=timedelta(0))
        self.check_history()
        kept = {ref.key for m in catalog.list() for ref in m.objects}
        held = {each.key for each in found.held}
        there = set(self.inner.list_after(DATA_PREFIX))
        assert there == kept | held, "something that nothing refers to remains"
        assert not held - there
        assert seq_of(self.inner.list_after(LOG_PREFIX)[0]) >= max(found.floor, 1)
        self.check_rows(catalog)

    def check_history(self) -> None:
        catalog = self._open(self.inner)
        # An upload that was on its way for days may come back after it was removed.
        late = "was removed by garbage collection, says the log, but is there"
        problems = [each for each in catalog.verify() if each.reason != late]
        assert problems == []
        with catalog.keeping() as keeper:
            floor = gc.survey(keeper).floor
        for seq in {floor, *self.random.choices(range(floor, catalog.seq + 1), k=4)}:
            for manifest in catalog.at(seq).list():
                for ref in manifest.objects:
                    found = self.inner.size_of(ref.key)
                    assert found == ref.size, f"reachable {ref.key} is gone as of {seq}"

    def check_rows(self, catalog: Catalog) -> None:
        there = {manifest.name for manifest in catalog.list()}
        rows = catalog.read("timed").to_pylist() if "timed" in there else []
        found = Counter(row["n"] for row in rows)
        assert all(count == 1 for count in found.values()), "an append was applied twice"
        needed = {n for n, at in self.ledger.acknowledged.items() if at >= self.ledger.cutoff}
        assert needed <= found.keys(), "an acknowledged append was lost"
        assert found.keys() <= self.ledger.acknowledged.keys() | self.ledger.possible.keys()
        if "timed" in there:
            assert catalog.get("timed").row_count == len(rows)
        plain = catalog.read("plain")["n"].to_pylist() if "plain" in there else []
        certain = [n for n in plain if n not in self.ledger.plain_possible]
        assert Counter(certain) == Counter(self.ledger.plain), "an acknowledged append was lost"


def schedule(seed: int, steps: int = 20) -> Schedule:
    made = Schedule(
        seed,
        processes=2 + seed % 3,
        faults=[0.0, 0.02, 0.08][seed % 3],
        sleeps=[0.02, 0.05, 0.15][seed // 3 % 3],
    )
    made.run(steps)
    made.finish()
    return made


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.too_slow])
def test_no_schedule_loses_what_can_be_reached_or_keeps_what_cannot(seed):
    schedule(seed)


@pytest.mark.slow
def test_many_schedules_lose_nothing_and_reach_every_kind_of_end():
    ends: Counter = Counter()
    for seed in range(150):
        ends += schedule(seed, steps=25).ledger.ends
    kinds = {kind for kind, _ in ends}
    assert all(ends[kind, "done"] for kind in kinds)
    codes = {code for _, code in ends}
    assert {"object_condemned", "writer_too_old", "crash", "planted"} <= codes


def find_a_schedule_that_fails() -> None:
    for seed in range(FINDS, FINDS + 60):
        schedule(seed)


def test_planted_collector_that_overlooks_references_is_found(monkeypatch):
    original = gc._read_log

    def blind(store, head, cutoff):
        log = original(store, head, cutoff)
        return log._replace(keys={key for key in log.keys if sum(key.encode()) % 3})

    monkeypatch.setattr(gc, "_read_log", blind)
    # Where the object is live, no record may condemn it: the log itself refuses.
    with pytest.raises((AssertionError, WorkbenchError), match=r"gone|is registered"):
        find_a_schedule_that_fails()


def test_planted_collector_that_forgets_time_travel_is_found(monkeypatch):
    original = gc._read_log

    def forgetful(store, head, cutoff):
        log = original(store, head, cutoff)
        return log._replace(keys=gc._referred(head.manifests.values()))

    monkeypatch.setattr(gc, "_read_log", forgetful)
    with pytest.raises(AssertionError, match=r"gone as of"):
        find_a_schedule_that_fails()
