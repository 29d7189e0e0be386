"""Random schedules of writers on a failing store, and a model of the registry.

What must hold after any schedule: an acknowledged append is there exactly once, one that failed
is not there, one whose outcome is unknown is there at most once; the chain and all objects that
it refers to are sound; and a batch is there whole or not at all.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.test_catalog_faults import Crash, FaultyStore, ManualClock, create, numbers, reopen

from workbench.catalog import commit, registry
from workbench.catalog.catalog import Registration, Write
from workbench.errors import FingerprintConflict, OutcomeUnknown, WorkbenchError
from workbench.model.manifest import ObjectRef, dataset_id_of
from workbench.stores.memory import MemoryStore

PUT_FAULTS = [
    "lost",
    "landed",
    "delayed",
    "landed_storage",
    "failed",
    "full",
    "unavailable",
    "landed_false",
    "crash",
    "crash_after",
]
GET_FAULTS = ["unavailable", "failed", "truncated", "crash"]


@dataclass
class Ledger:
    """What the writers were told about each value that they appended to both datasets."""

    acknowledged: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)


class Schedule:
    """Several writers over one store; any call of one may be preceded by a commit of another."""

    def __init__(self, seed: int, *, writers: int, fault_rate: float) -> None:
        self.random = random.Random(seed)
        self.inner = MemoryStore()
        self.fault_rate = fault_rate
        self.value = 0
        self.depth = 0
        self.ledger = Ledger()
        create(self.inner, seed=10**6)
        self.stores = []
        self.catalogs = []
        for number in range(writers):
            store = FaultyStore(self.inner)
            self.catalogs.append(reopen(store, seed=seed * 100 + number, clock=ManualClock()))
            self.stores.append(store)
        for number, store in enumerate(self.stores):
            store.fault = self._fault
            store.before = lambda number=number: self._interleave(number)

    def run(self, commits: int) -> None:
        for _ in range(commits):
            self._commit(self.random.randrange(len(self.catalogs)))
            if self.random.random() < 0.3:
                self._land()
        self._land()

    def _commit(self, number: int) -> None:
        self.value += 1
        value = self.value
        catalog = self.catalogs[number]
        try:
            catalog.commit([Write(name, numbers(value), "append") for name in ("a", "b")])
        except (OutcomeUnknown, Crash) as error:
            self.ledger.unknown.add(value)
            if isinstance(error, Crash):
                self._restart(number)
        except WorkbenchError as error:
            failed = self.ledger.failed if error.code != "planted" else self.ledger.unknown
            failed.add(value)
        else:
            self.ledger.acknowledged.add(value)

    def _restart(self, number: int) -> None:
        store = self.stores[number]
        fault, before = store.fault, store.before
        store.fault, store.before = lambda *_: None, lambda: None
        self.catalogs[number] = reopen(store, seed=self.random.getrandbits(32))
        store.fault, store.before = fault, before

    def _fault(self, operation: str, _key: str) -> str | None:
        if self.random.random() >= self.fault_rate:
            return None
        if operation == "put":
            return self.random.choice(PUT_FAULTS)
        return self.random.choice(GET_FAULTS) if operation == "get" else None

    def _interleave(self, number: int) -> None:
        if self.depth or self.random.random() >= 0.25:
            return
        self.depth += 1
        self._commit((number + 1) % len(self.catalogs))
        self.depth -= 1

    def _land(self) -> None:
        for store in self.stores:
            store.land()

    def check(self) -> None:
        catalog = reopen(self.inner)
        assert catalog.verify() == []
        present = [m.name for m in catalog.list()]
        if not present:
            assert not self.ledger.acknowledged
            return
        a, b = (catalog.read(name)["n"].to_pylist() for name in ("a", "b"))
        assert a == b, "half of a batch"
        assert len(set(a)) == len(a), "an append was applied twice"
        assert self.ledger.acknowledged <= set(a), "an acknowledged append was lost"
        assert not self.ledger.failed & set(a), "a failed append is there"


@given(seed=st.integers(0, 2**32), writers=st.integers(2, 3), rate=st.sampled_from([0.05, 0.25]))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_no_schedule_loses_doubles_or_halves_a_commit(seed, writers, rate):
    schedule = Schedule(seed, writers=writers, fault_rate=rate)
    schedule.run(commits=8)
    schedule.check()


def test_schedules_do_reach_every_kind_of_end():
    total = Ledger()
    for seed in range(40):
        schedule = Schedule(seed, writers=3, fault_rate=0.25)
        schedule.run(commits=6)
        total.acknowledged |= {(seed, v) for v in schedule.ledger.acknowledged}
        total.unknown |= {(seed, v) for v in schedule.ledger.unknown}
        total.failed |= {(seed, v) for v in schedule.ledger.failed}
    assert len(total.acknowledged) > 100
    assert len(total.unknown) > 20
    assert len(total.failed) > 5


def find_a_schedule_that_fails() -> None:
    for seed in range(60):
        schedule = Schedule(seed, writers=2, fault_rate=0.25)
        schedule.run(commits=8)
        schedule.check()


def test_planted_forgetting_of_the_transaction_is_found(monkeypatch):
    """A loop that does not know its own record again appends twice."""
    original = commit.Transaction._catch_up

    def forgetful(self):
        state = self.state
        done = original(self)
        if done is not None and self.state.seq > state.seq:
            return None
        return done

    monkeypatch.setattr(commit.Transaction, "_catch_up", forgetful)
    with pytest.raises(AssertionError, match="applied twice"):
        find_a_schedule_that_fails()


def test_planted_offer_without_rebase_is_found(monkeypatch):
    """A planner that keeps its first plan loses what the winner appended."""
    original = registry.plan
    plans = {}

    def stubborn(state, changes, now):
        return plans.setdefault(id(changes[0]), (original(state, changes, now), changes))[0]

    monkeypatch.setattr("workbench.catalog.catalog.plan", stubborn)
    with pytest.raises(AssertionError, match=r"was lost|applied twice"):
        find_a_schedule_that_fails()


# --- the registry against a dict


NAMES = st.sampled_from(["a", "b", "c/d", "c/e"])
OBJECTS = st.lists(
    st.builds(
        ObjectRef,
        key=st.sampled_from(["k1", "k2", "k3"]),
        size=st.integers(0, 3),
        sha256=st.none() | st.sampled_from(["a" * 64, "b" * 64]),
    ),
    max_size=2,
).map(tuple)
REGISTRATIONS = st.builds(
    Registration,
    name=NAMES,
    schema_fingerprint=st.sampled_from(["f1", "f2"]),
    objects=OBJECTS,
    row_count=st.none() | st.integers(0, 3),
    properties=st.dictionaries(st.sampled_from(["x", "y"]), st.text(max_size=3), max_size=2),
)
BATCHES = st.lists(REGISTRATIONS, max_size=3, unique_by=lambda r: r.name)


@given(batches=st.lists(st.tuples(BATCHES, st.integers(0, 1)), max_size=8))
@settings(deadline=None, max_examples=80)
def test_catalog_does_what_a_dict_would_and_rehydrates_equal(batches):
    store = MemoryStore()
    writers = [create(store), reopen(store, seed=2)]
    model: dict[str, Registration] = {}
    for batch, who in batches:
        conflict = any(
            r.name in model and model[r.name].schema_fingerprint != r.schema_fingerprint
            for r in batch
        )
        seq = reopen(store).seq
        if conflict:
            with pytest.raises(FingerprintConflict):
                writers[who].register(batch)
            assert reopen(store).seq == seq
        else:
            answers = writers[who].register(batch)
            assert [a.existing for a in answers] == [r.name in model for r in batch]
            assert reopen(store).seq == seq + any(a.written for a in answers)
            for registration, answer in zip(batch, answers, strict=True):
                if answer.written:
                    model[registration.name] = registration
        again = reopen(store)
        writers[who].refresh()
        assert writers[who].list() == again.list()
    expected = [
        (dataset_id_of(n), n, r.schema_fingerprint, r.objects, r.row_count, dict(r.properties))
        for n, r in sorted(model.items())
    ]
    found = [
        (m.dataset_id, m.name, m.schema_fingerprint, m.objects, m.row_count, m.properties)
        for m in reopen(store).list()
    ]
    assert found == expected
