"""Clock, randomness and a store with faults, for all catalog tests; and what proves them.

Other tests import from here as `unit.test_catalog_faults` (tests/ is on the path through its
conftest).
"""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from workbench.catalog.catalog import Catalog
from workbench.errors import OutcomeUnknown, Storage, Unavailable
from workbench.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class ManualClock:
    """Each question for the time is a second later; sleeping only adds up."""

    def __init__(self, start: datetime = START, step_seconds: float = 1.0) -> None:
        self.time = start
        self.step = timedelta(seconds=step_seconds)
        self.slept = 0.0
        self.naps = 0

    def now(self) -> datetime:
        self.time += self.step
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept += seconds
        self.naps += 1


class SeededRng:
    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    def uniform(self) -> float:
        return self._random.random()


class Crash(BaseException):
    """The process ends here."""


def timeout() -> OutcomeUnknown:
    return OutcomeUnknown("timeout", code="planted")


ERRORS = {
    "crash": Crash,
    "crash_after": Crash,
    "lost": timeout,
    "landed": timeout,
    "delayed": timeout,
    "landed_storage": lambda: Storage("broken pipe", code="planted"),
    "failed": lambda: Storage("input/output error", code="planted"),
    "full": lambda: Storage("no space left", code="store_full"),
    "unavailable": lambda: Unavailable("503", code="planted"),
}
EFFECTIVE = {None, "landed", "landed_storage", "landed_false", "crash_after", "truncated"}


class FaultyStore:
    """A store whose calls go wrong as `fault(operation, key)` says.

    Faults: `lost` and `landed` (OutcomeUnknown, without and with effect), `delayed`
    (OutcomeUnknown, takes effect at `land`), `landed_storage` and `failed` (Storage), `full`,
    `unavailable`, `landed_false` (has effect, says False), `truncated` (get), `crash` and
    `crash_after`. `before` runs ahead of every call: other writers interleave there.
    """

    def __init__(self, inner, fault: Callable[[str, str], str | None] = lambda *_: None) -> None:
        self.inner = inner
        self.fault = fault
        self.before: Callable[[], None] = lambda: None
        self.calls: list[tuple[str, str]] = []
        self.pending: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return self.inner.url

    def filesystem(self):
        return self.inner.filesystem()

    def get(self, key: str) -> bytes:
        return self._call("get", key, lambda: self.inner.get(key))

    def get_many(self, keys):
        return [self.get(key) for key in keys]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._call("get", key, lambda: self.inner.get_range(key, start, length))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._call("put", key, lambda: self.inner.put_if_absent(key, data), data)

    def replace(self, key: str, data: bytes) -> None:
        self._call("replace", key, lambda: self.inner.replace(key, data))

    def list_after(self, prefix: str, after: str = ""):
        return self._call("list", prefix, lambda: self.inner.list_after(prefix, after))

    def list_entries(self, prefix: str, after: str = ""):
        return self._call("list", prefix, lambda: self.inner.list_entries(prefix, after))

    def delete(self, key: str) -> None:
        return self._call("delete", key, lambda: self.inner.delete(key))

    def land(self) -> None:
        """Let the puts that are still on their way arrive."""
        for key, data in self.pending:
            self.inner.put_if_absent(key, data)
        self.pending.clear()

    def _call(self, operation: str, key: str, run, data: bytes = b""):
        self.before()
        self.calls.append((operation, key))
        fault = self.fault(operation, key)
        if fault in EFFECTIVE:
            answer = run()
        if fault == "delayed":
            self.pending.append((key, data))
        if fault in ERRORS:
            planted = ERRORS[fault]()
            raise planted
        if fault == "landed_false":
            return False
        return answer[:-1] if fault == "truncated" else answer


def once(operation: str, part: str, *faults: str) -> Callable[[str, str], str | None]:
    """Return a fault function: the next matching calls fail so, one fault each."""
    left = list(faults)

    def fault(called: str, key: str) -> str | None:
        return left.pop(0) if left and called == operation and part in key else None

    return fault


def always(operation: str, part: str, fault: str) -> Callable[[str, str], str | None]:
    """Return a fault function: every matching call fails so."""
    return lambda called, key: fault if called == operation and part in key else None


def create(store, *, seed: int = 0, clock: ManualClock | None = None, writer="test") -> Catalog:
    return Catalog.create(store, clock=clock or ManualClock(), rng=SeededRng(seed), writer=writer)


def reopen(store, *, seed: int = 1, clock: ManualClock | None = None, writer="test") -> Catalog:
    return Catalog.open(store, clock=clock or ManualClock(), rng=SeededRng(seed), writer=writer)


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.uint64())})


def test_landed_put_raises_and_has_effect_and_lost_put_has_none():
    store = FaultyStore(MemoryStore(), once("put", "", "landed", "lost"))
    with pytest.raises(OutcomeUnknown):
        store.put_if_absent("a", b"1")
    with pytest.raises(OutcomeUnknown):
        store.put_if_absent("b", b"1")
    assert store.inner.list_after("") == ["a"]


def test_delayed_put_arrives_when_told_and_never_overwrites():
    store = FaultyStore(MemoryStore(), once("put", "", "delayed"))
    with pytest.raises(OutcomeUnknown):
        store.put_if_absent("a", b"late")
    assert store.put_if_absent("a", b"early")
    store.land()
    assert store.get("a") == b"early"
